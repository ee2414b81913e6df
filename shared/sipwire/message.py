"""SIP messages (RFC 3261 section 7), read lazily and without loss.

    generic-message  =  start-line *message-header CRLF [ message-body ]

A message keeps each header as the line it came in, folds, case and unknown headers included, so that what was not
touched is sent on byte for byte. ``parse`` splits the lines and checks what every element relies on (RFC 3261 section
8.1.1); the rest is read when it is asked for. Headers are addressed by key: the long name in lower case.
"""

from .compat import cached, const
from .errors import ParseError
from .grammar import WSP, is_token, parse_uint, split_list, unfold
from .headers import Address, CSeq, Via, address_of, cseq_of, header_key
from .uri import uri_of

__all__ = ["MAX_HEADERS", "MAX_HEAD_BYTES", "MAX_MESSAGE_BYTES", "Message", "Request", "Response", "parse"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

MAX_MESSAGE_BYTES = 65535  # the largest UDP payload and then some; more on a stream is 513 Message Too Large
MAX_HEAD_BYTES = 12288  # start line and headers: ten times a large one; more is 513
MAX_HEADERS = 128  # a message through 40 proxies has fewer; more is 400, before they cost memory
_MAX_KNOWN = 256  # header names remembered, of any length: 3 MiB at the worst
_MAX_FORWARDS = const(255)  # RFC 3261 section 20.22
_VERSION = b"SIP/2.0"
_MISSING = "no"
_TOO_LARGE = "too large"

# Headers that may stand only once; a second one is a way to be read differently by two elements.
_SINGLE = {
    "from",
    "to",
    "call-id",
    "cseq",
    "max-forwards",
    "content-length",
    "content-type",
    "expires",
    "date",
    "event",
    "min-expires",
    "setup-key",
    "security-status",
}


class Message:
    """What requests and responses share.

    Attributes:
        fields: (key, line) pairs in wire order; ``line`` is the whole header line without its final CRLF.
        body: bytes.
    """

    def __init__(self) -> None:
        self.fields: "list[tuple[str, bytes]]" = []
        self.body = b""
        # Values read so far, by header key; a change of that header drops its entry.
        self._read: "dict[str, Any]" = {}

    def start_line(self) -> bytes:
        """The first line, without CRLF."""
        raise NotImplementedError

    def get(self, key: str) -> "bytes | None":
        """The first value under ``key``, unfolded, or None."""
        for name, line in self.fields:
            if name == key:
                return _value(line)
        return None

    def get_all(self, key: str) -> "list[bytes]":
        """Each header line's value under ``key``, unfolded, lists not split."""
        return [_value(line) for name, line in self.fields if name == key]

    def values(self, key: str) -> "list[bytes]":
        """The elements under ``key`` where a comma makes a list: one header line or many, it is the same list.

        Raises:
            ParseError: an empty element, or unbalanced quotes or brackets.
        """
        elements = []
        for name, line in self.fields:
            if name == key:
                elements.extend(split_list(_value(line), b","))
        for element in elements:
            if not element:
                raise ParseError("list")
        return elements

    def addresses(self, key: str) -> "list[Address]":
        """The elements under ``key`` as addresses: Contact, Route, Record-Route, Path."""
        return [address_of(value) for value in self.values(key)]

    def add(self, name: str, value: bytes) -> None:
        """Append a header line."""
        key = header_key(name)
        self._read.pop(key, None)
        self.fields.append((key, name.encode() + b": " + value))

    def insert(self, name: str, value: bytes) -> None:
        """Put a header line before the others of its name, or before all lines where there is none."""
        key = header_key(name)
        self._read.pop(key, None)
        at = 0
        for i, field in enumerate(self.fields):
            if field[0] == key:
                at = i
                break
        self.fields.insert(at, (key, name.encode() + b": " + value))

    def set(self, name: str, value: bytes) -> None:
        """Replace the header of that name in its place, further lines of it removed; append it where there is none."""
        key = header_key(name)
        self._read.pop(key, None)
        for i, field in enumerate(self.fields):
            if field[0] == key:
                self.fields[i] = (key, name.encode() + b": " + value)
                self.fields[i + 1 :] = [f for f in self.fields[i + 1 :] if f[0] != key]
                return
        self.fields.append((key, name.encode() + b": " + value))

    def set_body(self, content_type: bytes, body: bytes) -> None:
        """Set the body with its Content-Type and Content-Length."""
        self.body = body
        self.set("Content-Type", content_type)
        self.set("Content-Length", b"%d" % len(body))

    def forget(self, key: str, instead: "Any" = None) -> None:
        """Forget the value read under ``key``, which has changed; ``instead`` is what reading it would give now."""
        self._read[key] = instead

    def compact(self) -> None:
        """Forget the values read so far: they are read again when they are asked for, and a message may live long."""
        self._read = {}

    def serialize(self) -> bytes:
        """The message as bytes: unchanged lines just as they came."""
        lines = [self.start_line()]
        lines.extend([line for _, line in self.fields])
        lines.append(b"")
        lines.append(self.body)
        return b"\r\n".join(lines)

    def _typed(self, key: str, read: "Callable[[bytes], Any]") -> "Any":
        raw = self.get(key)
        if raw is None:
            raise ParseError(key, 400, _MISSING)
        value = self._read[key] = read(raw)
        return value

    @property
    def via(self) -> Via:
        """The topmost Via. After changing it, call `editing.set_via`."""
        via: Via = self._read.get("via") or self._typed("via", _top_via)
        return via

    @property
    def from_(self) -> Address:
        """From. Read only: use ``set`` to change it."""
        address: Address = self._read.get("from") or self._typed("from", address_of)
        return address

    @property
    def to(self) -> Address:
        """To. Read only: use ``set`` to change it."""
        address: Address = self._read.get("to") or self._typed("to", address_of)
        return address

    @property
    def cseq(self) -> CSeq:
        """CSeq. Read only: use ``set`` to change it."""
        cseq: CSeq = self._read.get("cseq") or self._typed("cseq", cseq_of)
        return cseq

    @property
    def call_id(self) -> bytes:
        """Call-ID, b"" where there is none."""
        value = self._read.get("call-id")
        if value is None:
            value = self._read["call-id"] = self.get("call-id") or b""
        call_id: bytes = value
        return call_id

    def uint(self, key: str, limit: int) -> "int | None":
        """A header that is one number from 0 to ``limit``, or None where it is absent."""
        number: "int | None" = self._read.get(key)
        if number is None or number > limit:
            value = self.get(key)
            if value is None:
                return None
            number = self._read[key] = parse_uint(value, limit, key)
        return number

    def _check(self) -> None:
        """Read what every element relies on, in one pass."""
        first: "dict[str, bytes]" = {}
        for key, line in self.fields:
            if key not in first:
                first[key] = line
            elif key in _SINGLE:
                raise ParseError(key, 400, "second")
        read = self._read
        for key, kind in _NEEDED:
            line = first.get(key, b"")
            if not line:
                raise ParseError(key, 400, _MISSING)
            read[key] = kind(_value(line))
        for address in (self.from_, self.to):
            if not address.tag and address.param("tag") == b"":
                raise ParseError("tag")


class Request(Message):
    """A request: method (text) and Request-URI (bytes), both as written, headers, body."""

    def __init__(self, method: str, uri: bytes) -> None:
        super().__init__()
        self.method = method
        self.uri = uri

    def copy(self) -> "Request":
        """The same request, with header lines of its own to change."""
        other = Request(self.method, self.uri)
        other.fields = self.fields[:]
        other.body = self.body
        other._read = self._read.copy()
        return other

    def start_line(self) -> bytes:
        """``METHOD uri SIP/2.0``."""
        return self.method.encode() + b" " + self.uri + b" " + _VERSION

    def response(self, status: int, reason: str, to_tag: bytes = b"") -> "Response":
        """A response to this request, as RFC 3261 section 8.2.6 builds it, with an empty body.

        Args:
            status: 100 to 699.
            reason: the reason phrase.
            to_tag: added to To where it has no tag, except in a 100.
        """
        has_tag = not to_tag or status == 100 or self.to.tag
        return self._answer(status, reason, b"" if has_tag else b";tag=" + to_tag)

    def refusal(self, error: ParseError, to_tag: bytes) -> "Response | None":
        """The answer to this request, which `parse` refused; None where it has no Via, which says whom to answer.

        Whatever it has of From, To, Call-ID, CSeq and Via is copied, malformed or not: its sender has to know it again.
        "An element receiving this message must not break because of the missing information. Ideally, it will respond
        with a 400 Bad Request error." (RFC 4475 section 3.3.1)
        """
        if self.get("via") is None:
            return None
        try:
            tag = b"" if self.to.tag else b";tag=" + to_tag
        except ParseError:
            tag = b""
        return self._answer(error.status, error.reason, tag)

    def _answer(self, status: int, reason: str, tag: bytes) -> "Response":
        response = Response(status, reason.encode())
        seen = []
        for key, line in self.fields:
            if key in ("via", "from", "call-id", "cseq", "to") or (key == "timestamp" and status == 100):
                if key in seen:
                    continue  # of what may be there once, a malformed request has more
                if key != "via":
                    seen.append(key)
                response.fields.append((key, line + tag if key == "to" else line))
        response.add("Content-Length", b"0")
        return response

    def check(self) -> None:
        """Check what every element relies on.

        Raises:
            ParseError: with the status to answer and this request.
        """
        try:
            self._check()
            if self.via.version != b"2.0":
                raise ParseError("version", 505, "unknown")
            if self.cseq.method != self.method:
                raise ParseError("CSeq", 400, "mismatched")
            self.uint("max-forwards", _MAX_FORWARDS)
            # RFC 3261 section 19.1.1, table 1: a Request-URI has no headers component.
            if uri_of(self.uri).headers:
                raise ParseError("Request-URI")
        except ParseError as error:
            error.request = self
            raise


class Response(Message):
    """A response: status code 100 to 699, known or not, and reason phrase."""

    def __init__(self, status: int, reason: bytes) -> None:
        super().__init__()
        self.status = status
        self.reason = reason

    def start_line(self) -> bytes:
        """``SIP/2.0 200 OK``."""
        return b"SIP/2.0 %d %s" % (self.status, self.reason)

    def check(self) -> None:
        """Check what every element relies on.

        Raises:
            ParseError: the response is to be dropped.
        """
        self._check()


def _value(line: bytes) -> bytes:
    value = line[line.find(b":") + 1 :]
    return unfold(value) if b"\n" in value else value.strip(WSP)


def _top_via(value: bytes) -> Via:
    """The first Via of a header line's value."""
    if b"," in value:
        elements = split_list(value, b",")
        if b"" in elements:
            raise ParseError("list")
        value = elements[0]
    return Via.parse(value)


def _whole_call_id(value: bytes) -> bytes:
    if not value or b" " in value or b"\t" in value:
        raise ParseError("call-id")
    return value


# What a message must have, and how it is read.
_NEEDED = (
    ("via", _top_via),
    ("from", address_of),
    ("to", address_of),
    ("call-id", _whole_call_id),
    ("cseq", cseq_of),
)


def _read_fields(head: bytes, fields: "list[tuple[str, bytes]]") -> None:
    """Split header lines (without the start line) into (key, line) pairs, up to the first that is wrong.

    "HCOLON = *( SP / HTAB ) ":" SWS": nothing else may stand between a name and its colon, and no bare CR or LF
    anywhere; both are ways to hide a header from one element and show it to the next.
    """
    for line in head.split(b"\r\n"):
        if line[:1] == b" " or line[:1] == b"\t":
            if not fields:
                raise ParseError("start line")
            key, start = fields[-1]
            fields[-1] = (key, start + b"\r\n" + line)
            continue
        colon = line.find(b":")
        if colon < 0:
            raise ParseError("header")
        fields.append((_key_of(line[:colon]), line))
        if len(fields) > MAX_HEADERS:
            raise ParseError("headers", 400, _TOO_LARGE)


@cached(_MAX_KNOWN)
def _key_of(before: bytes) -> str:
    """The key of a header by what stands before its colon."""
    name = before.rstrip(WSP)
    if not is_token(name):
        raise ParseError("header")
    return header_key(name.decode())


def parse(data: bytes) -> "Request | Response":
    """Read one message: a whole datagram, or what `stream` framed.

    Bytes after Content-Length are dropped, as RFC 3261 section 18.3 asks for datagrams; without Content-Length the body
    runs to the end.

    Raises:
        ParseError: with the status to answer and, where there is enough to answer to, the request.
    """
    start = 0
    while data[start : start + 2] == b"\r\n":  # RFC 3261 section 7.5: ignore CRLF before the start line
        start += 2
    end = data.find(b"\r\n\r\n", start)
    if end < 0:
        raise ParseError("headers", 400, _MISSING)
    head = data[start:end]
    bare = head.count(b"\r\n")
    if head.count(b"\n") != bare or head.count(b"\r") != bare:
        raise ParseError("line end")
    line, _, rest = head.partition(b"\r\n")
    message: "Request | Response"
    failure = None
    if line[:4].upper() == b"SIP/":
        words = line.split(b" ", 2)
        if words[0].upper() != _VERSION or len(words) != 3 or len(words[1]) != 3:
            raise ParseError("start line")
        status = parse_uint(words[1], 699, "status")
        if status < 100:
            raise ParseError("start line")
        message = Response(status, words[2])
    else:
        words = line.split(b" ")
        version = words[-1].upper()
        if len(words) < 3 or version[:4] != b"SIP/":
            raise ParseError("start line")
        if not is_token(words[0]):
            raise ParseError("method")
        message = Request(words[0].decode(), b" ".join(words[1:-1]))
        if version != _VERSION:
            failure = ParseError("version", 505, "unknown")
        elif len(words) != 3:
            failure = ParseError("Request-URI")
    message.body = data[end + 4 :]
    if end - start > MAX_HEAD_BYTES or len(data) > MAX_MESSAGE_BYTES:
        failure = ParseError("message", 513, _TOO_LARGE)
        if len(rest) > MAX_HEAD_BYTES:
            # Only to be answered: that is no reason to read, and to send back, any amount.
            rest = rest[: max(rest.rfind(b"\r\n", 0, MAX_HEAD_BYTES), 0)]
    try:
        _read_fields(rest, message.fields)
        if failure is None:
            length = message.uint("content-length", MAX_MESSAGE_BYTES)
            if length is not None:
                if length > len(message.body):
                    raise ParseError("content-length", 400, _TOO_LARGE)
                message.body = message.body[:length]
    except ParseError as error:
        failure = failure or error
    if failure is not None:
        if isinstance(message, Request):
            failure.request = message
        raise failure
    message.check()
    return message
