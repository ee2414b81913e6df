"""RTCP (RFC 3550 section 6): compound packets are built and read, and what they say of the path is computed.

    compound = (SR | RR) with report blocks | SDES with our CNAME | [BYE]        each |V=2|P|count| type | length |...

Nothing is kept here: what runs for every packet is `reception`, and this may be loaded every five seconds, used and
unloaded again. A packet is checked as a whole by `parse`; what is in its parts is read when it is asked for.
"""

from .errors import ParseError

__all__ = [
    "BYE",
    "RR",
    "SDES",
    "SR",
    "block",
    "blocks",
    "build",
    "cname",
    "collides",
    "interval_ms",
    "note_report",
    "parse",
    "round_trip_ms",
    "sender_info",
    "sources",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .reception import Reception

    #: A packet in a compound packet: (type, count of its blocks or sources, start, end without padding).
    Part = tuple[int, int, int, int]
    #: What a block reports: (SSRC, fraction lost in 256ths, lost in all, highest seq, jitter, LSR, DLSR).
    Block = tuple[int, int, int, int, int, int, int]

SR = 200
RR = 201
SDES = 202
BYE = 203
_CNAME = 1
_WORD = 4
_SSRC_AT = 4
_SENDER_INFO_AT = 8
_SENDER_INFO_BYTES = 20
_BLOCK_BYTES = 24
_MAX_PARTS = 16  # in a compound packet: three are usual; beyond, the packet is malformed
_MAX_SOURCES = 31  # section 6.1: as many as its count of 5 bits says
_MAX_TEXT = 255  # of an SDES item
_LOST_MAX = 0x7FFFFF  # section 6.4.1: a signed number of 24 bits
_MIN_INTERVAL_MS = 5000  # section 6.2
_INITIAL_DIVISOR = 2  # section 6.2: half of it before the first report
_PARTIES = 2


def _put(packet: bytearray, at: int, value: int, size: int = _WORD) -> int:
    packet[at : at + size] = (value & (1 << 8 * size) - 1).to_bytes(size, "big")
    return at + size


def _get(packet: "bytes | bytearray", at: int, size: int = _WORD) -> int:
    return int.from_bytes(packet[at : at + size], "big")


# What goes out.


def build(
    packet: bytearray,
    ssrc: int,
    cname: bytes,
    now: int,
    sent: "tuple[int, int, int] | None" = None,
    reported: "tuple[Block, ...]" = (),
    bye: bool = False,
) -> int:
    """Write a compound packet to the start of ``packet``.

    It takes 44 bytes of a sender with one block and a CNAME of 8 more than 16; with BYE 8 more.

    Args:
        packet: the buffer.
        ssrc: ours.
        cname: of 1 to 255 bytes; best random, as RFC 7022 has it, so that it says nothing about us.
        now: milliseconds of any clock that only rises.
        sent: RTP packets and octets of their payloads that we have sent, and the RTP timestamp that belongs to
            ``now``; None where nothing was sent since the last but one report (section 6.4), which makes it an RR.
        reported: what `block` has made.
        bye: we leave, or leave this SSRC.

    Returns:
        The size.

    Raises:
        ValueError: the buffer, the CNAME or the number of blocks does not fit.
    """
    # Section 6.5: a chunk ends with at least one zero, and with the 32-bit word that this is in.
    chunk = (_WORD + 2 + len(cname)) // _WORD * _WORD + _WORD
    head = _SENDER_INFO_AT + (_SENDER_INFO_BYTES if sent else 0) + _BLOCK_BYTES * len(reported)
    size = head + _WORD + chunk + (2 * _WORD if bye else 0)
    if len(packet) < size or not 0 < len(cname) <= _MAX_TEXT or len(reported) > _MAX_SOURCES:
        raise ValueError("RTCP does not fit")
    _head(packet, 0, SR if sent else RR, len(reported), head)
    at = _put(packet, _SSRC_AT, ssrc)
    if sent:
        at = _put(packet, at, now // 1000)
        at = _put(packet, at, (now % 1000 << 32) // 1000)
        for value in (sent[2], sent[0], sent[1]):
            at = _put(packet, at, value)
    for one, fraction, lost, highest, jitter, last, delay in reported:
        at = _put(packet, at, one)
        at = _put(packet, at, fraction, 1)
        at = _put(packet, at, lost, 3)
        for value in (highest, jitter, last, delay):
            at = _put(packet, at, value)
    _head(packet, at, SDES, 1, _WORD + chunk)
    end = at + _WORD + chunk
    at = _put(packet, at + _WORD, ssrc)
    packet[at:end] = bytes((_CNAME, len(cname))) + cname + bytes(end - at - 2 - len(cname))
    if bye:
        _head(packet, end, BYE, 1, 2 * _WORD)
        _put(packet, end + _WORD, ssrc)
    return size


def _head(packet: bytearray, at: int, kind: int, count: int, size: int) -> None:
    packet[at] = 0x80 | count
    packet[at + 1] = kind
    _put(packet, at + 2, size // _WORD - 1, 2)


def block(reception: "Reception", ssrc: int, now: int) -> "Block":
    """What we report of a source (section 6.4.1, appendix A.3); the next call reports what was lost since this one.

    Args:
        reception: of that source.
        ssrc: its.
        now: milliseconds, of the clock that ``reception`` was told.
    """
    expected = reception.expected()
    due = expected - reception.expected_prior
    missing = due - (reception.received - reception.received_prior)
    reception.expected_prior = expected
    reception.received_prior = reception.received
    fraction = (missing << 8) // due if due > 0 and missing > 0 else 0
    lost = max(-_LOST_MAX - 1, min(_LOST_MAX, reception.lost()))
    delay = (now - reception.sr_at_ms) * 65536 // 1000 if reception.sr else 0
    return ssrc, fraction, lost, max(0, reception.highest) & 0xFFFFFFFF, reception.jitter >> 4, reception.sr, delay


def interval_ms(chance: int, is_first: bool = False, size: int = 0, bandwidth: int = 0) -> int:
    """How long after the last report the next is due (section 6.2, appendix A.7), simplified for two parties.

    When it is over, draw again, and where that is longer, wait until then (section 6.3.6): the division by 1.21828
    is there to make up for that. Who comes and goes is not counted: there are two, from the beginning to the BYE.

    Args:
        chance: 16 random bits.
        is_first: no report was sent yet: half as long.
        size: of an average compound packet in bytes, with its UDP and IP headers.
        bandwidth: of RTCP in bytes a second, 5 % of the session's. Without it the least interval counts, which two
            parties keep to as soon as the session has a few thousand bits a second.
    """
    least = _MIN_INTERVAL_MS // _INITIAL_DIVISOR if is_first else _MIN_INTERVAL_MS
    wanted = _PARTIES * size * 1000 // bandwidth if bandwidth else 0
    # Between 0.5 and 1.5 times as long, by e - 1.5 = 1.21828: 65536 times that is 79841.
    return max(least, wanted) * (32768 + chance) // 79841


# What comes in.


def parse(packet: "bytes | bytearray", size: int) -> "list[Part]":
    """Take a compound packet of ``size`` bytes apart; it begins with SR or RR (appendix A.2).

    Every length in SR, RR, SDES and BYE is checked. Other types are among the parts, for nobody to look at.

    Raises:
        ParseError: not RTCP, or a length that is wrong.
    """
    found: list[Part] = []
    at = 0
    while at < size:
        if size - at < _WORD or packet[at] & 0xC0 != 0x80 or len(found) == _MAX_PARTS:
            raise ParseError("RTCP")
        kind = packet[at + 1]
        end = at + _WORD + _WORD * _get(packet, at + 2, 2)
        # Section 6.4.1: only the last packet may have padding.
        padding = packet[end - 1] if packet[at] & 0x20 and end == size else 0
        if end > size or (packet[at] & 0x20 and (not padding or padding % _WORD or end - padding < at + _WORD)):
            raise ParseError("RTCP")
        part = (kind, packet[at] & 0x1F, at, end - padding)
        if (not found and kind not in (SR, RR)) or not _fits(packet, part):
            raise ParseError("RTCP")
        found.append(part)
        at = end
    if not found:
        raise ParseError("RTCP")
    return found


def _fits(packet: "bytes | bytearray", part: "Part") -> bool:
    """Whether a part holds what its count and the lengths in it say."""
    kind, count, at, end = part
    if kind in (SR, RR):
        return _blocks_at(part) + _BLOCK_BYTES * count <= end
    if kind == SDES:
        at += _WORD
        for _ in range(count):
            at = _chunk(packet, at, end)[0]
        return 0 <= at <= end
    if kind == BYE:
        at += _WORD + _WORD * count
        return at == end or (at < end and at + 1 + packet[at] <= end)
    return True


def _chunk(packet: "bytes | bytearray", at: int, end: int) -> "tuple[int, int]":
    """Where an SDES chunk ends, -1 where it runs over, and where its last CNAME item is, 0 for none."""
    found = 0
    item = at + _WORD
    while at >= 0 and item < end and packet[item]:
        if packet[item] == _CNAME:
            found = item
        item = item + 2 + packet[item + 1] if item + 1 < end else end
    # The zero that ends the list, and those up to the next word.
    return (item // _WORD * _WORD + _WORD if at >= 0 and item < end else -1), found


def _blocks_at(part: "Part") -> int:
    return part[2] + _SENDER_INFO_AT + (_SENDER_INFO_BYTES if part[0] == SR else 0)


def sender_info(packet: "bytes | bytearray", part: "Part") -> "tuple[int, int, int, int, int]":
    """What an SR says of its sender: (SSRC, middle of the NTP time, RTP timestamp, packets, octets)."""
    at = part[2]
    values = [_get(packet, at + offset) for offset in (4, 10, 16, 20, 24)]
    return values[0], values[1], values[2], values[3], values[4]


def blocks(packet: "bytes | bytearray", part: "Part") -> "list[Block]":
    """The report blocks of an SR or RR."""
    found = []
    for i in range(part[1]):
        at = _blocks_at(part) + _BLOCK_BYTES * i
        lost = _get(packet, at + 5, 3)
        lost -= (lost & 0x800000) << 1
        highest, jitter, last, delay = [_get(packet, at + offset) for offset in (8, 12, 16, 20)]
        found.append((_get(packet, at), packet[at + 4], lost, highest, jitter, last, delay))
    return found


def sources(packet: "bytes | bytearray", part: "Part") -> "list[int]":
    """The SSRCs that a part speaks for: of a report's sender, of the chunks of an SDES, of those who say BYE."""
    kind, count, at, end = part
    if kind in (SR, RR):
        return [_get(packet, at + _SSRC_AT)]
    at += _WORD
    if kind == BYE:
        return [_get(packet, at + _WORD * i) for i in range(count)]
    found = []
    for _ in range(count if kind == SDES else 0):
        found.append(_get(packet, at))
        at = _chunk(packet, at, end)[0]
    return found


def cname(packet: "bytes | bytearray", part: "Part") -> bytes:
    """The CNAME in the first chunk of an SDES; empty where there is none."""
    at = _chunk(packet, part[2] + _WORD, part[3])[1] if part[1] else 0
    return bytes(packet[at + 2 : at + 2 + packet[at + 1]]) if at else b""


def note_report(reception: "Reception", middle: int, now: int) -> None:
    """Note the middle of the NTP time of an SR that has come just now, for LSR and DLSR of the next `block`."""
    reception.sr = middle
    reception.sr_at_ms = now


def round_trip_ms(last: int, delay: int, now: int) -> int:
    """The time there and back by LSR and DLSR of a block about us (section 6.4.1); -1 where they do not tell.

    Args:
        last: LSR, of our own SR.
        delay: DLSR.
        now: milliseconds, of the clock that `build` was given.
    """
    middle = (now // 1000 << 16) + (now % 1000 << 16) // 1000
    trip = middle - last - delay & 0xFFFFFFFF
    return trip * 1000 >> 16 if last and trip < 0x80000000 else -1


def collides(packet: "bytes | bytearray", parts: "list[Part]", ssrc: int) -> bool:
    """Whether somebody else speaks for our SSRC (section 8.2), in a packet that has come from another.

    Then leave it with a BYE, and go on with a new random one. In RTP packets compare bytes 8 to 11. Who meets our new
    SSRC again and again hears himself: that is a loop, which a change does not end.
    """
    return any(ssrc in sources(packet, part) for part in parts)
