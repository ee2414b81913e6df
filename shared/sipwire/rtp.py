"""RTP packets (RFC 3550 section 5.1), in buffers that are used again and again.

|V=2|P|X| CC |M| PT | sequence number | timestamp | SSRC | CSRC * CC | [extension] | payload |
"""

from .errors import ParseError

__all__ = ["HEADER_BYTES", "SEQ_MOD", "build_header", "header_size", "parse", "seq_delta"]

HEADER_BYTES = 12
SEQ_MOD = 0x10000


def build_header(
    packet: bytearray, payload_type: int, seq: int, timestamp: int, ssrc: int, marker: bool = False
) -> None:
    """Write the 12 bytes of a header without CSRC and extension to the start of ``packet``.

    Args:
        packet: the buffer.
        payload_type: 0 to 127.
        seq: 16 bits.
        timestamp: in units of the clock rate, 32 bits.
        ssrc: 32 bits.
        marker: the first packet after a silence (RFC 3551 section 4.1).
    """
    packet[0] = 0x80
    packet[1] = payload_type | (0x80 if marker else 0)
    packet[2] = (seq >> 8) & 0xFF
    packet[3] = seq & 0xFF
    packet[4:8] = timestamp.to_bytes(4, "big")
    packet[8:12] = ssrc.to_bytes(4, "big")


def header_size(packet: "bytearray | bytes", size: int) -> int:
    """Size of the header in bytes, CSRC list and extension included.

    Raises:
        ParseError: not RTP version 2, or shorter than its header says.
    """
    if size < HEADER_BYTES or packet[0] & 0xC0 != 0x80:
        raise ParseError("RTP")
    header = HEADER_BYTES + 4 * (packet[0] & 0x0F)
    if packet[0] & 0x10:
        if size < header + 4:
            raise ParseError("RTP")
        header += 4 + 4 * (packet[header + 2] << 8 | packet[header + 3])
    if size < header:
        raise ParseError("RTP")
    return header


def parse(packet: "bytearray | bytes", size: int) -> "tuple[int, int, int, int, int, bool]":
    """Read a packet of ``size`` bytes.

    Returns:
        (payload type, seq, timestamp, start of the payload, end of the payload, marker).

    Raises:
        ParseError: not RTP, or shorter than its header or padding say.
    """
    start = header_size(packet, size)
    end = size
    if packet[0] & 0x20:
        padding = packet[size - 1]
        if padding == 0 or padding > size - start:
            raise ParseError("RTP")
        end -= padding
    timestamp = int.from_bytes(packet[4:8], "big")
    return packet[1] & 0x7F, packet[2] << 8 | packet[3], timestamp, start, end, packet[1] > 0x7F


def seq_delta(seq: int, reference: int) -> int:
    """How far ``seq`` is ahead of ``reference``, from -32768 to 32767, across the wrap at 65536."""
    return ((seq - reference + 0x8000) & 0xFFFF) - 0x8000
