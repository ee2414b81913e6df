"""What a message has to do with setup keys, as far as a neighbour can see that (WIRE section 4).

Whether a MAC is right only the two terminals know. So a neighbour leaves out its own protection for nothing but what is
of no use without the key: a description that names the key, and has none in it.
"""

from typing import TYPE_CHECKING

from sipwire.errors import ParseError
from sipwire.introduction import SETUP_KEYS
from sipwire.message import Request
from sipwire.sdp import Session
from sipwire.setup import NO_KEY, SetupKey

if TYPE_CHECKING:
    from sipwire.message import Message, Response
    from sipwire.sdp import Media

__all__ = ["brings_keys", "kid_of_call", "revokes"]

_METHODS = ("INVITE", "UPDATE")  # whose offers and answers may be keyed (WIRE section 4.1)
_SDP = b"application/sdp"
_SAVP = b"RTP/SAVP"
_CRYPTO = b"crypto"
_MANAGED = b"key-mgmt"  # RFC 4567
_METHOD = b"setup:"
_INLINE = b"inline:"
_FIELDS = 3  # of a=crypto: tag, suite and keys; what follows are parameters of the session (RFC 4568 section 9.1)
#: What stands in every way to write the media type, wherever white space is allowed in it.
_NAME = SETUP_KEYS.partition(b"/")[2]
_WITH_PARTS = (b"multipart", b"message")


def brings_keys(message: "Message") -> bool:
    """Whether a message has, or might be read to have, a body with setup keys in it, or a part of one.

    Too much rather than too little: each Content-Type is looked at, whatever it says, and every part of whatever has
    parts.
    """
    for key, line in message.fields:
        if key == "content-type":
            kind = line.lower()
            if _NAME in kind:
                return True
            if any(one in kind for one in _WITH_PARTS) and _NAME in message.body.lower():
                return True
    return False


def revokes(request: Request) -> bool:
    """Whether a request takes trust back (WIRE section 4.4); its MAC is for its receiver to check."""
    header = _header(request) if request.method == "MESSAGE" else None
    return header is not None and header.life == 0


def kid_of_call(message: "Request | Response") -> bytes:
    """The name of the setup key that protects an offer or answer from terminal to terminal; b"" where none does.

    It does where the message says so in one valid Setup-Key header, and where nothing can be made of its description
    without that key: every stream is SRTP with it, and there is no key of another kind anywhere.
    """
    method = message.method if isinstance(message, Request) else message.cseq.method
    if method not in _METHODS or not message.body or not (isinstance(message, Request) or message.status < 300):
        return b""
    header = _header(message)
    if header is None or header.kid == NO_KEY or [one.lower() for one in message.get_all("content-type")] != [_SDP]:
        return b""
    return header.kid if _is_description(message.body, header.kid) else b""


def _header(message: "Message") -> SetupKey | None:
    """The Setup-Key of a message, None where it has none, several, or one that can't be read."""
    values = message.get_all("setup-key")
    if len(values) != 1:
        return None
    try:
        return SetupKey.parse(values[0])
    except ParseError:
        return None


def _is_description(body: bytes, kid: bytes) -> bool:
    """Whether a description is good for nobody who does not have a key."""
    if _INLINE in body.lower():
        return False
    try:
        session = Session.parse(body)
    except ParseError:
        return False
    lines = [*session.lines, *(line for media in session.media for line in media.lines)]
    if any(letter == b"k" or (letter == b"a" and _name(value) == _MANAGED) for letter, value in lines):
        return False
    if any(letter == b"a" and _name(value) == _CRYPTO for letter, value in session.lines):
        return False  # RFC 4568 section 4: it belongs to a stream
    return any(media.port for media in session.media) and all(_is_stream(media, kid) for media in session.media)


def _is_stream(media: "Media", kid: bytes) -> bool:
    """Whether a stream is SRTP with a setup key, or refused."""
    cryptos = [value for letter, value in media.lines if letter == b"a" and _name(value) == _CRYPTO]
    if media.port and (media.proto != _SAVP or not cryptos):
        return False
    return all(_keys_of(value) == [_METHOD + kid] for value in cryptos)


def _name(value: bytes) -> bytes:
    """The name of an attribute. It has to be in lower case; we need not rely on everybody's minding that."""
    return value.partition(b":")[0].strip().lower()


def _keys_of(value: bytes) -> list[bytes]:
    """The key parameters of an ``a=crypto`` line."""
    words = value.partition(b":")[2].split(b" ")
    return words[_FIELDS - 1].split(b";") if len(words) >= _FIELDS else []
