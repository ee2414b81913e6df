"""The limits of what media is made of. Where nothing is refused beyond one, what is done instead counts as that."""

from collections.abc import Callable

from neighbour.aes import new_aes
from sipwire import dtmf, reception, red, replay, rtcp, sessions, srtp, t140, text
from sipwire.crypto import Crypto, KeyParam
from sipwire.errors import ParseError, SecurityError
from sipwire.rtp import build_header

__all__ = ["LIMITS", "BeyondError"]

SUITE = srtp.SUITES[b"AES_CM_128_HMAC_SHA1_80"]
T140, RED = 98, 100
_Work = Callable[[int], object]


class BeyondError(Exception):
    """A limit has shown, and raises nothing by itself."""


def within(good: bool) -> None:
    if not good:
        raise BeyondError


def rtp(payload: bytes, payload_type: int, seq: int, ssrc: int = 1, csrc: bytes = b"") -> bytearray:
    packet = bytearray(12)
    build_header(packet, payload_type, seq & 0xFFFF, 300 * (seq & 0xFFFF), ssrc)
    packet[0] |= len(csrc) // 4
    return packet + csrc + payload


# Digits.


def one_segment(units: int) -> None:
    """65535 units are 5 * 13107, one more is 8 * 8192."""
    per_ms = 5 if units % 5 == 0 else 8
    sender = dtmf.DtmfSender(per_ms)
    sender.press("1", units // per_ms)
    packet, seen, now = bytearray(16), set(), 0
    while sender.is_busy():
        if sender.build(packet, 12, now, 400):
            seen.add(sender.timestamp)
        now += 400
    within(len(seen) == 1)


# Reports, and what is counted for them.


def ahead(count: int) -> None:
    source = reception.Reception(8)
    source.receive(rtp(b"", 0, 1000), 0)
    within(source.receive(rtp(b"", 0, 1000 + count), 20))


def compound(parts: int) -> None:
    packet = bytes.fromhex("80c9000100000001") * parts
    rtcp.parse(packet, len(packet))


def reported(blocks: int) -> None:
    rtcp.build(bytearray(2000), 1, b"x", 0, None, ((1, 0, 0, 0, 0, 0, 0),) * blocks)


def named(size: int) -> None:
    rtcp.build(bytearray(2000), 1, b"x" * size, 0)


# SRTP.


def sources(count: int) -> None:
    receiver = sessions.SessionReceiver(SUITE, [KeyParam(bytes(30))], new_aes)
    sender = sessions.SessionSender(SUITE, [KeyParam(bytes(30))], new_aes, max_sources=count)
    for ssrc in range(count):
        packet = rtp(bytes(20), 0, 1, ssrc) + bytearray(sender.overhead_bytes)
        receiver.unprotect(packet, sender.protect(packet, 32))


def lifetime(side: str) -> _Work:
    def work(packets: int) -> None:
        sender = sessions.SessionSender(SUITE, [KeyParam(bytes(30), packets)], new_aes)
        within(getattr(sender, side).keys[0].left == packets)

    return work


def window(size: int) -> None:
    line = b"1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd WSH=%d" % size
    within(sessions.Terms.of(Crypto.parse(line)).window >= size)


# Text.


def sent(size: int, cps: int = 1000) -> "tuple[text.TextSender, bytearray]":
    sender = text.TextSender(T140, 0, cps=cps)
    packet = bytearray(2000)
    within(sender.write("x" * (size - 3), 0) == size - 3)  # a byte order mark is there already
    return sender, packet


def block(size: int) -> None:
    sender, packet = sent(size)
    within(sender.build(packet, 12, 0) == size)


def old_block(ms: int) -> None:
    sender = text.TextSender(T140, 0, RED, 1)
    packet = bytearray(2000)
    assert sender.build(packet, 0, 0) > 0
    assert sender.build(packet, 0, 300) > 0
    sender.write("x", 300 + ms)
    assert sender.build(packet, 0, 300 + ms) > 0
    within(packet[1] << 6 | packet[2] >> 2 == ms)


def receiver_after(seq: int) -> text.TextReceiver:
    receiver = text.TextReceiver(T140)
    receiver.receive(rtp(b"a", T140, seq), 12, 13, 0)
    return receiver


def held(count: int) -> None:
    receiver = receiver_after(0)
    for seq in range(2, 2 + count):
        within(not receiver.receive(rtp(b"b", T140, seq), 12, 13, 0))


def held_bytes(count: int) -> None:
    receiver = receiver_after(0)
    for seq, size in ((2, count - 1), (3, 1)):
        within(not receiver.receive(rtp(b"b" * size, T140, seq), 12, 12 + size, 0))


def missing(count: int) -> None:
    receiver = receiver_after(0)
    receiver.receive(rtp(b"b", T140, 1 + count), 12, 13, 0)
    [(_, shown)] = receiver.handle_timer(1000)
    within(shown == "\ufffd" * count + "b")


def leap(count: int) -> None:
    """So many ahead of the next, or behind it where negative."""
    receiver = receiver_after(5000)
    receiver.receive(rtp(b"b", T140, 5001 + count), 12, 13, 0)
    within(receiver._streams[-1].bad_seq == -1)


def streams(count: int) -> None:
    receiver = text.TextReceiver(T140)
    for ssrc in range(count):
        receiver.receive(rtp(b"a", T140, 0, ssrc), 12, 13, 0)
    within(len(receiver._streams) == count)


def writers(count: int) -> None:
    receiver = text.TextReceiver(T140)
    for i in range(count):
        receiver.receive(rtp(b"a", T140, i, 1, bytes([0, 0, 0, i])), 16, 17, 0)
    within(len(receiver._streams[0].sources) == count)


def erased(count: int) -> None:
    screen = t140.Screen()
    screen.apply("x" * count)
    within(screen.apply("\b" * count)[0] == count)


def hidden(count: int) -> None:
    within(not t140.Screen().apply("\x98" + "x" * count + "y")[1])


#: (name, what is just within, what is done with that and with one more, what that raises, its status).
LIMITS: list[tuple[str, int, _Work, type[Exception], int]] = [
    ("dtmf._MAX_QUEUED", dtmf._MAX_QUEUED, lambda n: dtmf.DtmfSender().press("1" * n), ValueError, 0),
    ("dtmf._MAX_TONE_MS", dtmf._MAX_TONE_MS, lambda n: dtmf.DtmfSender().press("1", n), ValueError, 0),
    ("dtmf._MAX_DURATION", dtmf._MAX_DURATION, one_segment, BeyondError, 0),
    ("reception._MAX_DROPOUT", reception._MAX_DROPOUT - 1, ahead, BeyondError, 0),
    ("reception._MAX_MISORDER", reception._MAX_MISORDER - 1, lambda n: ahead(-n), BeyondError, 0),
    (
        "red.MAX_GENERATIONS",
        red.MAX_GENERATIONS,
        lambda n: red.red_generations(b"98" + b"/98" * n, 98),
        ParseError,
        400,
    ),
    ("replay._MAX_SIZE", replay._MAX_SIZE // 8, lambda n: replay.ReplayWindow(8 * n), ValueError, 0),
    ("rtcp._MAX_PARTS", rtcp._MAX_PARTS, compound, ParseError, 400),
    ("rtcp._MAX_SOURCES", rtcp._MAX_SOURCES, reported, ValueError, 0),
    ("rtcp._MAX_TEXT", rtcp._MAX_TEXT, named, ValueError, 0),
    ("rtcp._MIN_INTERVAL_MS", -rtcp._MIN_INTERVAL_MS, lambda n: within(rtcp.interval_ms(47073) <= -n), BeyondError, 0),
    ("sessions._MAX_SOURCES", sessions._MAX_SOURCES, sources, SecurityError, 0),
    ("sessions._MAX_PACKETS", sessions._MAX_PACKETS, lifetime("_rtp"), BeyondError, 0),
    ("sessions._MAX_RTCP_PACKETS", sessions._MAX_RTCP_PACKETS, lifetime("_rtcp"), BeyondError, 0),
    ("sessions._MAX_WINDOW", sessions._MAX_WINDOW, window, BeyondError, 0),
    ("sessions._MAX_RATE", sessions._MAX_RATE.bit_length() - 1, lambda n: sessions.Terms(1 << n), ValueError, 0),
    ("t140._MAX_KEPT", t140._MAX_KEPT, erased, BeyondError, 0),
    ("t140._MAX_STRING", t140._MAX_STRING, hidden, BeyondError, 0),
    ("text.MAX_BLOCK_BYTES", text.MAX_BLOCK_BYTES, block, BeyondError, 0),
    ("text._MAX_CPS", text._MAX_CPS, lambda n: within(text.TextSender(T140, 0, cps=n)._cps == n), BeyondError, 0),
    ("text._MAX_PENDING_BYTES", text._MAX_PENDING_BYTES, sent, BeyondError, 0),
    ("text._MAX_OFFSET", text._MAX_OFFSET, old_block, BeyondError, 0),
    ("text._MAX_RED", text._MAX_RED, lambda n: text.TextSender(T140, 0, RED, n), ValueError, 0),
    ("text._MAX_HELD", text._MAX_HELD, held, BeyondError, 0),
    ("text._MAX_HELD_BYTES", text._MAX_HELD_BYTES, held_bytes, BeyondError, 0),
    ("text._MAX_MISSING", text._MAX_MISSING, missing, BeyondError, 0),
    ("text._MAX_DROPOUT", text._MAX_DROPOUT - 1, leap, BeyondError, 0),
    ("text._MAX_MISORDER", text._MAX_MISORDER, lambda n: leap(-n), BeyondError, 0),
    ("text._MAX_STREAMS", text._MAX_STREAMS, streams, BeyondError, 0),
    ("text._MAX_SOURCES", text._MAX_SOURCES, writers, BeyondError, 0),
]
