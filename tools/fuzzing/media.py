"""Harnesses for what is in the packets of a call once they are decrypted: RTCP, real-time text, telephone events.

Text and events are packets in turn, each after a byte that says how long after the one before it comes.
"""

import itertools
import re
import struct

from fuzzing.packets import pieces
from sipwire import rtcp
from sipwire.dtmf import DIGITS, DtmfReceiver
from sipwire.errors import ParseError
from sipwire.reception import Reception, is_rtcp
from sipwire.rtp import build_header
from sipwire.rtp import parse as parse_rtp
from sipwire.text import TextReceiver
from sipwire.utf8 import decode

__all__ = ["EVENT_TYPE", "RED_TYPE", "T140_TYPE", "check_dtmf", "check_rtcp", "check_text"]

T140_TYPE, RED_TYPE, EVENT_TYPE = 98, 100, 101
_STEP_MS = 5  # what one in the byte before a packet stands for
_NEW = b"\xfe\xdc\xba\x98"  # an SSRC that no seed has
_MAX_STEP = 3000  # sequence numbers that one packet may go ahead
_HALF = 0x8000000  # half of the time that the low 28 bits of a timestamp count
_SPREAD = 100  # sequence numbers that are nearer than that are those of one beginning


def check_rtcp(data: bytes) -> None:
    """`sipwire.rtcp`, `reception`: what is read lies within its part, and written again is read the same."""
    reception = Reception(8)
    for now, packet in enumerate(pieces(data)):
        if len(packet) >= 12:  # as any RTP packet that has been parsed
            reception.receive(packet, 20 * now)
        assert 0 <= reception.expected() <= _MAX_STEP * reception.received
        assert 0 <= rtcp.block(reception, 1, 20 * now)[1] < 256
        try:
            parts = rtcp.parse(packet, len(packet))
        except ParseError:
            continue
        assert is_rtcp(packet)
        assert parts[0][2] == 0
        assert all(end <= other[2] for (_, _, _, end), other in itertools.pairwise(parts))
        for part in parts:
            _check_part(packet, part)
        ours = rtcp.sources(packet, parts[0])[0]
        assert rtcp.collides(packet, parts, ours)


def _check_part(packet: bytes, part: "rtcp.Part") -> None:
    kind, count, at, end = part
    assert packet[at + 1] == kind
    assert 0 <= at < end <= len(packet)
    found = rtcp.sources(packet, part)
    if kind in (rtcp.SR, rtcp.RR):
        first = at + (28 if kind == rtcp.SR else 8)
        assert first + 24 * count <= end
        blocks = tuple(rtcp.blocks(packet, part))
        for i, block in enumerate(blocks):
            one, *rest = struct.unpack_from(">5I", packet, first + 24 * i + 4)
            assert list(block[3:]) == rest
            assert (block[1] << 24 | block[2] & 0xFFFFFF) == one
        again = bytearray(1000)
        size = rtcp.build(again, found[0], b"x", 0, None, blocks)
        parts = rtcp.parse(again, size)
        assert tuple(rtcp.blocks(again, parts[0])) == blocks
        assert rtcp.sources(again, parts[0]) == found
        if kind == rtcp.SR:
            info = rtcp.sender_info(packet, part)
            assert (info[0], *info[2:]) == struct.unpack_from(">I8x3I", packet, at + 4)
    elif kind == rtcp.SDES:
        assert len(found) == count
        name = rtcp.cname(packet, part)
        assert name in packet[at:end]
    elif kind == rtcp.BYE:
        assert list(struct.unpack_from(f">{count}I", packet, at + 4)) == found


def _timed(data: bytes) -> "list[tuple[int, bytes, int, int]]":
    """The RTP packets in a fuzzer's input: (when, packet, start and end of its payload)."""
    now = 1000
    found = []
    for piece in pieces(data):
        now += _STEP_MS * piece[0] if piece else 0
        try:
            _, _, _, start, end, _ = parse_rtp(piece[1:], len(piece) - 1)
        except ParseError:
            continue
        found.append((now, piece[1:], start, end))
    return found


def _longest(packet: bytes, payload: bytes) -> dict[int, int]:
    """How many characters a text packet may give for each of its sequence numbers, read another way."""
    seq = int.from_bytes(packet[2:4], "big")
    if packet[1] & 0x7F == T140_TYPE:
        return {seq: len(payload)}
    sizes = []
    while payload and payload[0] & 0x80:
        sizes.append(int.from_bytes(payload[:4], "big") & 0x3FF)
        payload = payload[4:]
    last = len(payload) - 1 - sum(sizes)
    return {seq - len(sizes) + i & 0xFFFF: size for i, size in enumerate([*sizes, last])}


def check_text(data: bytes) -> None:
    """`sipwire.text`, `utf8`: only text comes out, none of it twice, nothing waits long, good text still comes."""
    receiver = TextReceiver(T140_TYPE, RED_TYPE)
    given = now = 0
    longest: dict[int, int] = {}
    ssrcs, seqs, mixed = set(), [], False
    for now, packet, start, end in _timed(data):
        found = receiver.handle_timer(now) if receiver.timer_at is not None and receiver.timer_at <= now else []
        try:
            found += receiver.receive(packet, start, end, now)
        except ParseError:
            pass
        else:
            for seq, size in _longest(packet, packet[start:end]).items():
                longest[seq] = max(size, longest.get(seq, 0))
            ssrcs.add(packet[8:12])
            seqs.append(int.from_bytes(packet[2:4], "big"))
            mixed = mixed or bool(packet[0] & 0x0F)
        assert receiver.timer_at is None or now < receiver.timer_at <= now + 1000
        for source, text in found:
            _check_given(source, text)
            given += len(text) - text.count("\ufffd")
        _check_bad_utf8(packet[start:end])
    for source, text in receiver.handle_timer(now + 1000):
        _check_given(source, text)
        given += len(text) - text.count("\ufffd")
    assert receiver.timer_at is None
    near = all(abs((seq - seqs[0] + 0x8000 & 0xFFFF) - 0x8000) < _SPREAD for seq in seqs)
    if len(ssrcs) == 1 and near and not mixed:
        assert given <= sum(longest.values()), "text was given twice"
    packet = bytearray(16)
    build_header(packet, T140_TYPE, 1, 0, int.from_bytes(_NEW, "big"))
    packet[12:] = b"good"
    if _NEW not in ssrcs:
        assert receiver.receive(packet, 12, 16, now) == [(_NEW, "good")]


def _check_given(source: bytes, text: str) -> None:
    assert len(source) == 4  # an SSRC
    assert text
    assert "\ufeff" not in text
    text.encode()


def _check_bad_utf8(data: bytes) -> None:
    """Beside CPython's own reading, each stretch of what it could not read as one mark."""
    marks = re.compile("\ufffd+")
    assert marks.sub("\ufffd", decode(data)) == marks.sub("\ufffd", data.decode("utf-8", "replace"))


def check_dtmf(data: bytes) -> None:
    """`sipwire.dtmf`: a digit for a press, however often its packets come; what began comes to an end."""
    receiver = DtmfReceiver()
    presses: set[int] = set()
    told = now = 0
    began = None
    for now, packet, start, end in _timed(data):
        found = receiver.handle_timer(now) if receiver.timer_at is not None and receiver.timer_at <= now else []
        try:
            found += receiver.receive(packet, start, end, now)
        except ParseError:
            assert end - start != 4 or packet[start] >= len(DIGITS)
        else:
            presses.add(int.from_bytes(packet[4:8], "big") & 0xFFFFFFF)
            began = now if began is None else began
        assert receiver.timer_at is None or now < receiver.timer_at <= now + 300
        assert len(found) <= 2  # one that is over, and one that began and ended with this packet
        assert all(digit in DIGITS and tone_ms >= 0 for digit, tone_ms in found)
        told += len(found)
    told += len(receiver.handle_timer(now + 300))
    assert receiver.timer_at is None
    assert not presses or told > 0
    # After 5 s a timestamp may come again, and timestamps that leap may go round in a circle.
    first = next(iter(presses), 0)
    near = all(abs((one - first + _HALF & 2 * _HALF - 1) - _HALF) < _HALF // 4 for one in presses)
    if began is not None and now - began < 5000 and near:
        assert told <= len(presses), "a press was told twice"
