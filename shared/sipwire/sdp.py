"""Session descriptions (RFC 8866). `streams`, `offer` and `answer` say what is to be made of them.

A description keeps every line it has; ``parse`` and ``serialize`` are inverse where lines end in CRLF.
"""

from .crypto import Crypto
from .errors import ParseError
from .grammar import parse_uint

__all__ = ["DIRECTIONS", "MAX_LINES", "Media", "Session"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    Lines = list[tuple[bytes, bytes]]

MAX_LINES = 200  # a conference's description has fewer; more is 400
DIRECTIONS = (b"inactive", b"sendonly", b"recvonly", b"sendrecv")  # bit 0: who says it sends, bit 1: it receives


class Media:
    """One media section.

    Attributes:
        kind: e.g. ``b"audio"``.
        port: 0 for a stream that is refused.
        proto: e.g. ``b"RTP/SAVP"``.
        formats: payload types as written.
        lines: (type letter, value) pairs after the m= line.
    """

    def __init__(
        self, kind: bytes, port: int, proto: bytes, formats: "list[bytes]", lines: "Lines | None" = None
    ) -> None:
        self.kind = kind
        self.port = port
        self.proto = proto
        self.formats = formats
        self.lines: "Lines" = [] if lines is None else lines
        #: What follows a port after "/" in the m= line, with the slash.
        self.ports = b""

    @classmethod
    def parse(cls, value: bytes) -> "Media":
        """Read what follows ``m=``."""
        words = value.split(b" ")
        if len(words) < 4 or b"" in words:
            raise ParseError("SDP")
        number, slash, count = words[1].partition(b"/")
        media = cls(words[0], parse_uint(number, 65535, "SDP"), words[2], words[3:])
        media.ports = slash + count
        return media

    def serialize(self) -> bytes:
        """What follows ``m=``."""
        return b" ".join([self.kind, b"%d%s" % (self.port, self.ports), self.proto] + self.formats)

    def attributes(self, name: bytes) -> "list[bytes]":
        """The values of every ``a=name`` or ``a=name:value`` line, in order."""
        found = []
        for letter, value in self.lines:
            if letter == b"a":
                key, _, rest = value.partition(b":")
                if key == name:
                    found.append(rest)
        return found

    def cryptos(self) -> "list[Crypto]":
        """The valid ``a=crypto`` lines in order of preference; an invalid one counts as absent (RFC 4568 section 5)."""
        found = []
        for value in self.attributes(b"crypto"):
            try:
                found.append(Crypto.parse(value))
            except ParseError:
                pass
        return found


class Session:
    """A session description.

    Attributes:
        lines: (type letter, value) pairs before the first m= line.
        media: the media sections.
    """

    def __init__(self, lines: "Lines", media: "list[Media]") -> None:
        self.lines = lines
        self.media = media

    @classmethod
    def parse(cls, body: bytes) -> "Session":
        """Read a description; LF alone ends a line too (RFC 8866 section 5).

        Raises:
            ParseError: malformed, or more than `MAX_LINES`.
        """
        session = cls([], [])
        lines = session.lines
        for ended in body.split(b"\n", MAX_LINES + 1):
            line = ended.rstrip(b"\r")
            if not line:
                continue
            letter, equal, value = line.partition(b"=")
            if len(letter) != 1 or not letter.isalpha() or not equal or b"\r" in value:
                raise ParseError("SDP")
            if letter == b"m":
                media = Media.parse(value)
                session.media.append(media)
                lines = media.lines
            else:
                lines.append((letter, value))
        if session.lines[:1] != [(b"v", b"0")]:
            raise ParseError("SDP")
        if body.count(b"\n") > MAX_LINES:
            raise ParseError("SDP", 400, "too long")
        return session

    def serialize(self) -> bytes:
        """The description, each line ended by CRLF."""
        out = [letter + b"=" + value for letter, value in self.lines]
        for media in self.media:
            out.append(b"m=" + media.serialize())
            out.extend([letter + b"=" + value for letter, value in media.lines])
        out.append(b"")
        return b"\r\n".join(out)

    def address(self, media: Media) -> bytes:
        """Where to send a stream: the address of its c= line, or else the session's.

        Raises:
            ParseError: none, or malformed.
        """
        for lines in (media.lines, self.lines):
            for letter, value in lines:
                if letter == b"c":
                    words = value.split(b" ")
                    if len(words) != 3 or words[0] != b"IN" or words[1] not in (b"IP4", b"IP6"):
                        raise ParseError("SDP")
                    return words[2]
        raise ParseError("SDP", 400, "no")

    def direction(self, media: Media) -> bytes:
        """``sendrecv``, ``sendonly``, ``recvonly`` or ``inactive``, as the sender of this description sees it."""
        for lines in (media.lines, self.lines):
            for letter, value in lines:
                if letter == b"a" and value in DIRECTIONS:
                    return value
        return b"sendrecv"
