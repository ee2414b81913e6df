"""The serial hop (WIRE section 5): packets by SLIP (RFC 1055), and a console's text on the same line.

    C0 | port (2) | datagram | C0          C0 in it is sent as DB DC, DB as DB DD

Text goes between packets as it is. What lies between two C0 and begins with a port that we know is a packet, anything
else is text: UTF-8 has no C0, and no text begins with the bytes of such a port. So packets and text need no order, and
a C0 that is lost, or made up, costs one packet at most. Nothing here finds a byte that was changed within a packet:
whatever goes by it has a check of its own, or it is dropped by whom it is for.
"""

from .compat import const

__all__ = ["FIRST_PORT", "HOP_PORT", "LAST_PORT", "MAX_DATAGRAM_BYTES", "TEXT", "SlipDecoder", "encode", "is_port"]

HOP_PORT = const(5060)
# Of media: an even one is RTP, the next one RTCP.
FIRST_PORT = const(40000)
LAST_PORT = const(40255)
MAX_DATAGRAM_BYTES = const(1500)  # of one packet, behind its port; beyond, it is dropped and counted
TEXT = const(0)  # stands where a port does
_MAX_RAW_BYTES = const(3004)  # of one packet, each byte of it escaped
_END = b"\xc0"
_ESCAPE = b"\xdb"
_ESCAPED_END = b"\xdb\xdc"
_ESCAPED_ESCAPE = b"\xdb\xdd"
# How a packet begins. Of a port of media the first byte is enough: no text begins with it.
_HOP = b"\x13\xc4"
_MEDIA = b"\x9c\x9d"


def is_port(port: int) -> bool:
    """Whether packets have it."""
    return bool(port == HOP_PORT or FIRST_PORT <= port <= LAST_PORT)


def encode(port: int, datagram: "bytes | bytearray | memoryview") -> bytes:
    """A packet for the line.

    Args:
        port: one for which `is_port` holds.
        datagram: at most `MAX_DATAGRAM_BYTES`, else the other end drops it.
    """
    packet = port.to_bytes(2, "big") + datagram
    if _ESCAPE in packet:
        packet = packet.replace(_ESCAPE, _ESCAPED_ESCAPE)
    if _END in packet:
        packet = packet.replace(_END, _ESCAPED_END)
    return b"".join((_END, packet, _END))


class SlipDecoder:
    """Cuts what comes by a line into packets and text. It holds one unfinished packet at most, and no text.

    Attributes:
        bad: packets dropped so far: over `MAX_DATAGRAM_BYTES`, with a bad escape, or to a port that is none.
    """

    def __init__(self) -> None:
        self.bad = 0
        self._held = b""  # the beginning of a packet
        self._is_text = self._is_over = False  # what goes on: text, or a packet that is dropped

    def receive(self, data: bytes) -> "list[tuple[int, bytes]]":
        """Take what has come; any bytes will do.

        Returns:
            In order (port, datagram), and (`TEXT`, a part of some text); no bytes where a packet has ended a text.
        """
        found: list[tuple[int, bytes]] = []
        at = len(self._held)
        if at:
            data = self._held + data
            self._held = b""
        start = 0
        while True:
            end = data.find(_END, at)
            if end < 0:
                break
            self._finish(data[start:end], found)
            start = at = end + 1
        if start < len(data):
            self._hold(data[start:] if start else data, found)
        return found

    def _hold(self, part: bytes, found: "list[tuple[int, bytes]]") -> None:
        """Take what no C0 has ended yet."""
        if self._is_over:
            return
        if not self._is_text and (_begins(part) or part == _HOP[:1]):
            if len(part) > _MAX_RAW_BYTES:
                self.bad += 1
                self._is_over = True
            else:
                self._held = part
        else:
            self._is_text = True
            found.append((TEXT, part))

    def _finish(self, part: bytes, found: "list[tuple[int, bytes]]") -> None:
        """Take what a C0 has ended."""
        if self._is_over:
            self._is_over = False
        elif self._is_text or (part and not _begins(part)):
            self._is_text = False
            if part:
                found.append((TEXT, part))
            found.append((TEXT, b""))
        elif part:
            self._open(part, found)

    def _open(self, part: bytes, found: "list[tuple[int, bytes]]") -> None:
        """Read a packet as it came."""
        packet = part
        if _ESCAPE in part:
            whole = part.count(_ESCAPED_END) + part.count(_ESCAPED_ESCAPE)
            if part.count(_ESCAPE) != whole:
                self.bad += 1
                return
            packet = part.replace(_ESCAPED_END, _END).replace(_ESCAPED_ESCAPE, _ESCAPE)
        port = int.from_bytes(packet[:2], "big")  # of one byte, too: that is none
        if len(packet) - 2 > MAX_DATAGRAM_BYTES or not is_port(port):
            self.bad += 1
        else:
            found.append((port, packet[2:]))


def _begins(part: bytes) -> bool:
    return part[:1] in _MEDIA or part[:2] == _HOP
