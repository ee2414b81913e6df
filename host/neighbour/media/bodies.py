"""What a message's body is to a relay: a description to be rewritten, or something that nobody here can read."""

from typing import TYPE_CHECKING

from sipwire.editing import remove

if TYPE_CHECKING:
    from sipwire.message import Message

__all__ = ["DESCRIPTION", "NOTHING", "OPAQUE", "SEALED", "kind_of", "replace"]

NOTHING = "nothing"  # no body, or one that is no matter of media
DESCRIPTION = "description"
SEALED = "sealed"  # encrypted from end to end
OPAQUE = "opaque"  # a description is in it, and can't be changed there
_SDP = b"application/sdp"
_ENCRYPTED = (b"application/pkcs7-mime", b"application/x-pkcs7-mime", b"multipart/encrypted")
_WITH_PARTS = (b"multipart/", b"message/")
_BEGINS = b"v=0"  # every description does (RFC 8866 section 5.1)
_PLAIN = (b"", b"identity")


def kind_of(message: "Message") -> str:
    """What the body is: `NOTHING`, `DESCRIPTION`, `SEALED` or `OPAQUE`."""
    if not message.body:
        return NOTHING
    types = message.get_all("content-type")
    if len(types) > 1:
        return OPAQUE  # of which somebody might read another than we do
    kind = types[0].partition(b";")[0].strip().lower() if types else b""
    if not types and message.body.lstrip().startswith(_BEGINS):
        kind = _SDP  # as somebody might take it for
    is_plain = (message.get("content-encoding") or b"").strip().lower() in _PLAIN
    if kind == _SDP:
        return DESCRIPTION if is_plain else OPAQUE
    if kind in _ENCRYPTED:
        return SEALED
    if kind.startswith(_WITH_PARTS):
        return OPAQUE if not is_plain or _SDP in message.body.lower() else NOTHING
    return NOTHING


def replace(message: "Message", body: bytes) -> None:
    """Give a message another description, or none."""
    if body:
        message.set_body(message.get("content-type") or _SDP, body)
    else:
        message.body = b""
        remove(message, "content-type")
        message.set("Content-Length", b"0")
