"""Framing of SIP messages on a byte stream (RFC 3261 section 18.3, RFC 5626 section 3.5.1 for keep-alives).

    bytes --receive()--> [ message | PING | PONG ... ]

A stream has no second chance: where the end of a message is not known for sure, the connection has to be closed. So the
limits are above those of `message.parse`, by what proxies on the way may have added: a message that is only too large
is framed, and answered.
"""

from .compat import const
from .errors import ParseError
from .grammar import WSP, parse_uint, unfold
from .message import MAX_HEAD_BYTES, MAX_MESSAGE_BYTES

__all__ = ["PING", "PONG", "StreamParser"]

PING = b"\r\n\r\n"  # "double-CRLF": to be answered by PONG
PONG = b"\r\n"
_MAX_HEAD_BYTES = 2 * MAX_HEAD_BYTES
_MAX_BYTES = MAX_MESSAGE_BYTES + MAX_HEAD_BYTES
_CR = const(0x0D)
_MAX_LENGTH = 1 << 30  # of Content-Length, to call it too large and not malformed


class StreamParser:
    """Cuts a stream into messages.

    Between messages a double CRLF is a ping and a lone one a pong (RFC 5626 section 4.4.1). A CRLF at the end of what
    has come is told as a pong at once; if its second half follows, a ping is told then.

    Attributes:
        fault: what ended the stream, None while all is well: a head without end (513), no Content-Length or a malformed
            one (400), a message too large by far (513). Close the connection.
    """

    def __init__(self) -> None:
        self.fault: "ParseError | None" = None
        self._buffer = bytearray()
        self._need = 0  # size of the message whose head has been read, 0 while its head is incomplete
        self._searched = 0
        self._after_crlf = False

    @property
    def pending_bytes(self) -> int:
        """How many bytes of an incomplete message are held."""
        return len(self._buffer)

    def receive(self, data: bytes) -> "list[bytes]":
        """Take bytes; return the complete messages, `PING` and `PONG` they brought, in order.

        What came before a fault is returned; look at ``fault`` then. What comes after it is dropped.
        """
        found: "list[bytes]" = []
        if self.fault is None:
            self._buffer += data
            try:
                self._cut(found)
            except ParseError as error:
                self.fault = error
                self._buffer = bytearray()
        return found

    def _cut(self, found: "list[bytes]") -> None:
        buffer = self._buffer
        size = len(buffer)
        at = 0  # where what has not been told begins: the buffer is cut once, however much has come at a time
        while at < size:
            if not self._need:
                if buffer[at : at + 2] == PONG:
                    ping = self._after_crlf or buffer[at + 2 : at + 4] == PONG
                    found.append(PING if ping else PONG)
                    at += 4 if ping and not self._after_crlf else 2
                    self._after_crlf = not ping
                    continue
                if size - at == 1 and buffer[at] == _CR:
                    break
                self._after_crlf = False
                end = buffer.find(b"\r\n\r\n", at + self._searched)
                if (size if end < 0 else end) - at > _MAX_HEAD_BYTES:
                    raise ParseError("headers", 513, "too large")
                if end < 0:
                    self._searched = max(0, size - at - 3)
                    break
                self._need = end + 4 - at + _content_length(bytes(buffer[at:end]))
                self._searched = 0
                if self._need > _MAX_BYTES:
                    raise ParseError("message", 513, "too large")
            if size - at < self._need:
                break
            found.append(bytes(buffer[at : at + self._need]))
            at += self._need
            self._need = 0
        if at:
            self._buffer = buffer[at:]


def _content_length(head: bytes) -> int:
    """Content-Length of a message head.

    "The Content-Length header field MUST be used with stream oriented transports." (RFC 3261 section 18.3)

    Raises:
        ParseError: none, several, or no number.
    """
    value = None
    lines = head.split(b"\r\n")
    for i, line in enumerate(lines):
        name, colon, rest = line.partition(b":")
        if colon and i and name.rstrip(WSP).lower() in (b"content-length", b"l") and line[:1] not in (b" ", b"\t"):
            if value is not None:
                raise ParseError("Content-Length", 400, "second")
            following = i + 1
            while following < len(lines) and lines[following][:1] in (b" ", b"\t"):
                rest += b"\r\n" + lines[following]
                following += 1
            value = parse_uint(unfold(rest), _MAX_LENGTH, "Content-Length")
    if value is None:
        raise ParseError("Content-Length", 400, "no")
    return value
