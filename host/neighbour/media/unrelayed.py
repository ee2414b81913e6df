"""Calls that are not relayed, of parties for whom somebody has said that SRTP is required: it is looked for."""

from typing import TYPE_CHECKING

from sipwire.sdp import Session

from .bodies import DESCRIPTION, OPAQUE
from .keying import MediaError
from .legs import REQUIRED

if TYPE_CHECKING:
    from sipwire.message import Message
    from sipwire.sdp import Media

    from .legs import Leg

__all__ = ["check"]

_SECURE = b"RTP/SAVP"
_DTLS = b"UDP/TLS/RTP/SAVP"
_KEYS = (b"crypto", b"fingerprint", b"key-mgmt")  # RFC 4568, RFC 5763, RFC 4567


def check(message: "Message", kind: str, legs: "tuple[Leg, Leg]") -> None:
    """Check an offer or answer that passes as it is.

    Args:
        message: has it.
        kind: what its body is.
        legs: between whom it passes; what one of them must have, both have.

    Raises:
        MediaError: it has a stream without SRTP, or nobody can see whether it has.
        ParseError: it is malformed.
    """
    leg = next((one for one in legs if one.is_demanded and one.srtp == REQUIRED), None)
    if leg is None:
        return
    if kind == OPAQUE:
        raise MediaError(f"SRTP is required of {leg.name}, and the description can't be read")
    if kind != DESCRIPTION:
        return
    session = Session.parse(message.body)
    for media in session.media:
        if media.port and not _is_secure(session, media):
            raise MediaError(f"SRTP is required of {leg.name}, and there is none")


def _is_secure(session: Session, media: "Media") -> bool:
    """Whether a stream is SRTP with keys of some kind; what is no RTP at all is none of our business."""
    proto = media.proto.upper()
    if b"RTP/" not in proto:
        return True
    if not proto.startswith((_SECURE, _DTLS)):
        return False
    names = {value.partition(b":")[0].strip().lower() for letter, value in media.lines if letter == b"a"}
    shared = {value.partition(b":")[0].strip().lower() for letter, value in session.lines if letter == b"a"}
    return bool(names.intersection(_KEYS) or shared.intersection(_KEYS[1:]))
