"""MIME bodies, byte for byte: what was signed has to be found again exactly as it was sent (RFC 2045, RFC 2046).

    entity     =  *( header CRLF ) CRLF body
    multipart  =  [preamble CRLF] "--" boundary CRLF entity *( CRLF "--" boundary CRLF entity ) CRLF "--" boundary "--"

The CRLF before a boundary belongs to the boundary: a signature over a part excludes it (RFC 6216 section 4 shows it).
"""

import base64
import binascii
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.compat import cached
from sipwire.errors import ParseError
from sipwire.grammar import get_param, is_token, parse_params, split_list, unfold

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sipwire.grammar import Params
    from sipwire.message import Message

__all__ = ["Entity", "MimeError", "multipart", "of_message", "to_message"]

_MAX_PARTS = 16  # of one multipart; SIP bodies have three
_MAX_HEADERS = 16  # of one part
_MAX_HEADER_BYTES = 4096  # of one part
_MAX_KNOWN = 256  # part headers, and values of them, that are remembered: most are the same in each message
_LONGEST_KNOWN = 512  # bytes of one; ours have 150
_BOUNDARY_BYTES = 12  # random: nothing that is sent can hold it by chance, and nobody can know it before
_LAST = b";boundary="  # as `multipart` writes it
_PLAIN = b"text/plain"  # RFC 2045 section 5.2: of a part that does not say
#: Headers of a message that are about its body and go where that goes. (RFC 3261 section 7.4.1)
_OF_BODY = ("content-type", "content-disposition", "content-encoding", "content-language", "content-transfer-encoding")
_NAMES = {key: key.title() for key in _OF_BODY}


class MimeError(Exception):
    """A body is no MIME, or of a kind that we do not read.

    Attributes:
        status: what a request with it is answered with: 400, or 415 where it is not understood.
    """

    def __init__(self, what: str, status: int = 400) -> None:
        super().__init__(what)
        self.status = status


@dataclass(slots=True)
class Entity:
    """A body with what is said of it. Nothing of it is ever changed.

    Attributes:
        headers: (key in lower case, value) pairs in wire order.
        body: as it was sent: `content` undoes its transfer encoding.
        raw: all of it as it came, headers included; what a signature is over.
    """

    headers: "tuple[tuple[str, bytes], ...]"
    body: bytes
    raw: bytes
    _type: "tuple[bytes, Params] | None" = field(default=None, init=False, repr=False, compare=False)

    @classmethod
    def parse(cls, raw: bytes) -> "Entity":
        """Read a part.

        Raises:
            MimeError: its headers are malformed, or too many.
        """
        if not raw or raw[:2] == b"\r\n":
            return cls((), raw[2:], raw)
        end = raw.find(b"\r\n\r\n")
        head = raw if end < 0 else raw[:end]
        if len(head) > _MAX_HEADER_BYTES:
            raise MimeError("too large a part header")
        return cls(_headers(head), b"" if end < 0 else raw[end + 4 :], raw)

    @classmethod
    def make(cls, headers: "Sequence[tuple[str, bytes]]", body: bytes) -> "Entity":
        """A new one; ``headers`` have their names as they are to be written."""
        lines = [b"%b: %b" % (name.encode(), value) for name, value in headers]
        raw = b"\r\n".join([*lines, b"", body])
        return cls(tuple([(name.lower(), value) for name, value in headers]), body, raw)

    def get(self, key: str) -> bytes | None:
        """The value of a header, None where it is absent."""
        for name, value in self.headers:
            if name == key:
                return value
        return None

    def _typed(self, key: str, default: bytes) -> "tuple[bytes, Params]":
        value = self.get(key)
        try:
            return _typed(default if value is None else value)
        except ParseError:
            raise MimeError(f"malformed {key}") from None

    @property
    def kind(self) -> bytes:
        """The media type in lower case, without parameters.

        Raises:
            MimeError: malformed.
        """
        if self._type is None:
            self._type = self._typed("content-type", _PLAIN)
        return self._type[0]

    @property
    def disposition(self) -> bytes:
        """The kind of Content-Disposition in lower case, b"" where there is none."""
        return self._typed("content-disposition", b"")[0]

    def param(self, name: str) -> bytes | None:
        """A parameter of Content-Type, None where it is absent."""
        try:
            if self._type is None:
                self._type = self._typed("content-type", _PLAIN)
            return get_param(self._type[1], name)
        except ParseError:
            raise MimeError("malformed content-type") from None

    def content(self) -> bytes:
        """The body without its transfer encoding.

        Raises:
            MimeError: an encoding that we do not read, or malformed.
        """
        encoding = (self.get("content-transfer-encoding") or b"binary").lower()
        if encoding in (b"binary", b"8bit", b"7bit"):
            return self.body
        if encoding != b"base64":
            raise MimeError("unknown content-transfer-encoding", 415)
        try:
            return base64.b64decode(self.body.translate(None, b"\r\n \t"), validate=True)
        except binascii.Error:
            raise MimeError("malformed base64") from None

    def parts(self) -> "list[Entity]":
        """The parts of a multipart.

        Raises:
            MimeError: it is none, has none, too many, or does not end.
        """
        if not self.kind.startswith(b"multipart/"):
            raise MimeError("no multipart")
        boundary = self.param("boundary")
        if not boundary or len(boundary) > 70:  # RFC 2046 section 5.1.1
            raise MimeError("no boundary")
        return [Entity.parse(raw) for raw in _split(self.body, b"--" + boundary)]


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def _headers(head: bytes) -> "tuple[tuple[str, bytes], ...]":
    """The headers of a part; see `Entity.parse`."""
    line_ends = head.count(b"\r\n")
    if head.count(b"\r") != line_ends or head.count(b"\n") != line_ends:
        # Values become headers of the message that a phone gets: it could read one more there.
        raise MimeError("malformed part header")
    headers: list[tuple[str, bytes]] = []
    for line in head.split(b"\r\n"):
        if line[:1] in (b" ", b"\t") and headers:
            headers[-1] = (headers[-1][0], headers[-1][1] + b" " + line.strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        if not colon or not is_token(name):
            raise MimeError("malformed part header")
        if len(headers) == _MAX_HEADERS:
            raise MimeError("too many part headers")
        key = name.decode().lower()
        if any(key == other for other, _ in headers):
            # Two elements would read it differently.
            raise MimeError("second part header")
        headers.append((key, value.strip(b" \t")))
    return tuple(headers)


def _typed(value: bytes) -> "tuple[bytes, Params]":
    """A value in lower case and its parameters, of which nothing may be changed: others have the same ones."""
    known, mark, boundary = value.rpartition(_LAST)
    if not mark or not is_token(boundary):
        return _read(value)
    # It is another in each message, and what stands before it the same.
    kind, params = _read(known)
    return kind, [*params, (b"boundary", boundary)]


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def _read(value: bytes) -> "tuple[bytes, Params]":
    first, *rest = split_list(value, b";")
    # RFC 3261 section 25.1: SLASH may have white space around it.
    kind = b"/".join([word.strip(b" \t") for word in first.split(b"/")])
    return kind.lower(), parse_params([one for one in rest if one])


def _split(body: bytes, dash: bytes) -> list[bytes]:
    """The bytes between the delimiters of a multipart."""
    parts: list[bytes] = []
    size = len(dash)
    at = 0 if body.startswith(dash) else body.find(b"\r\n" + dash) + 2
    if at == 1:
        raise MimeError("no first boundary")
    start = -1  # where the part begins that is being looked at, -1 before the first
    while True:
        end = body.find(b"\r\n", at + size)
        rest = body[at + size :] if end < 0 else body[at + size : end]
        is_last = rest[:2] == b"--"
        # Anything but white space makes it another boundary, which has ours at its beginning.
        if not (rest[2:] if is_last else rest).strip(b" \t") and (is_last or end >= 0):
            if start >= 0:
                parts.append(body[start : max(at - 2, start)])
                if len(parts) > _MAX_PARTS:
                    raise MimeError("too many parts")
            if is_last:
                if not parts:
                    raise MimeError("no parts")
                return parts
            start = end + 2
            # The CRLF that ends this line may be that of the next delimiter: the part between is empty then.
            at = end
        else:
            at += size
        at = body.find(b"\r\n" + dash, at) + 2
        if at == 1:
            raise MimeError("no last boundary")


def multipart(kind: bytes, parts: "Sequence[bytes]", params: bytes = b"") -> "tuple[bytes, bytes]":
    """Put parts together.

    Args:
        kind: like ``multipart/mixed``.
        parts: entities as bytes.
        params: of Content-Type, each with its ``;``.

    Returns:
        The Content-Type and the body.
    """
    boundary = os.urandom(_BOUNDARY_BYTES).hex().encode()
    dash = b"--" + boundary
    pieces = []
    for part in parts:
        pieces += [dash, part]
    pieces.append(dash + b"--\r\n")
    return kind + params + _LAST + boundary, b"\r\n".join(pieces)


def of_message(message: "Message") -> Entity:
    """The body of a message as an entity; the headers that go with it are those of the body.

    Raises:
        MimeError: one of them is there twice.
    """
    headers: list[tuple[str, bytes]] = []
    for key, line in message.fields:
        if key in _NAMES:
            if any(name == _NAMES[key] for name, _ in headers):
                raise MimeError(f"second {key}")
            headers.append((_NAMES[key], unfold(line[line.find(b":") + 1 :])))
    return Entity.make(headers, message.body)


def to_message(message: "Message", entity: Entity | None) -> None:
    """Give a message another body, with the headers that go with it; None takes it away.

    A transfer encoding is undone: SIP carries all 8 bits, and phones know none.

    Raises:
        MimeError: see `Entity.content`.
    """
    for key in ("content-length", *_OF_BODY):
        message.forget(key)
    message.fields = [field for field in message.fields if field[0] not in _NAMES and field[0] != "content-length"]
    message.body = b"" if entity is None else entity.content()
    if entity is not None:
        for key, value in entity.headers:
            if key in _NAMES and key != "content-transfer-encoding":
                message.add(_NAMES[key], value)
    if message.body and message.get("content-type") is None:
        # "The Content-Type header field MUST be present if the body is not empty." (RFC 3261 section 20.15)
        message.add("Content-Type", _PLAIN)
    message.add("Content-Length", b"%d" % len(message.body))
