"""Harnesses for what is binary: SRTP and SRTCP packets, frames of the hop, the cutting of a byte stream, a serial line.

Keys are fixed, for the seeds' sake: a packet that opens was sent, or it is a forgery.
"""

import copy
from typing import Any

from neighbour.aes import new_aes
from sipwire.errors import ParseError, SecurityError
from sipwire.hop import MAX_SEQ, HopKeys, HopReceiver, HopSender
from sipwire.message import MAX_HEAD_BYTES, MAX_MESSAGE_BYTES
from sipwire.rtp import build_header
from sipwire.rtp import parse as parse_rtp
from sipwire.slip import MAX_DATAGRAM_BYTES, TEXT, SlipDecoder, encode, is_port
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from sipwire.stream import PING, PONG, StreamParser

__all__ = ["FRAMES", "RTCP", "RTP", "check_frame", "check_slip", "check_srtp", "check_stream", "pieces"]

_KEY = bytes(range(100, 130))
_SUITE = SUITES[b"AES_CM_128_HMAC_SHA1_32"]  # the shortest tag: the easiest to guess
_MKI = b"\1\2"
_SPI = 0x01020304
_KEYS = HopKeys(bytes(range(16)), bytes(range(32)), bytes(range(14)))
_MESSAGES = (b"", b"x", b"OPTIONS sip:a SIP/2.0\r\n\r\n", bytes(200))
_SEQS = (65533, 65534, 65535, 0, 1, 2, 900, 901)
_SIZE_BYTES = 2
_BYTE_BY_BYTE = 400  # streams up to that size are also cut into single bytes


def pieces(data: bytes) -> list[bytes]:
    """The packets in a fuzzer's input: each after its size in two bytes, the last whatever is left."""
    found = []
    while len(data) >= _SIZE_BYTES:
        size = int.from_bytes(data[:_SIZE_BYTES], "big")
        found.append(data[_SIZE_BYTES : _SIZE_BYTES + size])
        data = data[_SIZE_BYTES + size :]
    return found


def _sent_rtp() -> dict[bytes, bytes]:
    """SRTP packets that were really sent, and what was in them: across the wrap of seq, with a gap."""
    sender = SrtpSender(_SUITE, _KEY, new_aes, _MKI)
    sent = {}
    for seq in _SEQS:
        payload = bytes([seq & 0xFF]) * (seq % 40)
        packet = bytearray(12 + len(payload) + sender.overhead_bytes)
        build_header(packet, 0, seq, 160 * seq, 0x11223344)
        packet[12 : 12 + len(payload)] = payload
        plain = bytes(packet[: 12 + len(payload)])
        sent[bytes(packet[: sender.protect(packet, len(plain))])] = plain
    return sent


def _sent_rtcp() -> dict[bytes, bytes]:
    sender = SrtcpSender(_SUITE, _KEY, new_aes, _MKI)
    plains = [b"\x80\xc9\0\1\x11\x22\x33\x44" + bytes(size) for size in (0, 4, 60)]
    return {sender.protect(plain): plain for plain in plains}


def _sent_frames() -> dict[bytes, bytes]:
    sender = HopSender(_SPI, _KEYS, new_aes)
    sent = {bytes(sender.seal(message)): message for message in _MESSAGES}
    sender.seq = MAX_SEQ - 1
    sent[bytes(sender.seal(b"last"))] = b"last"
    return sent


RTP = _sent_rtp()
RTCP = _sent_rtcp()
FRAMES = _sent_frames()


_RTP_RECEIVER = SrtpReceiver(_SUITE, _KEY, new_aes, _MKI)
_RTCP_RECEIVER = SrtcpReceiver(_SUITE, _KEY, new_aes, _MKI)
_FRAME_RECEIVER = HopReceiver(_SPI, _KEYS, new_aes)


def _fresh(receiver: Any, window: str) -> Any:
    """A receiver that has received nothing, at a tenth of the price of deriving its keys again."""
    one = copy.copy(receiver)
    setattr(one, window, copy.deepcopy(getattr(receiver, window)))
    return one


def _ends(sent: dict[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    """The first and the last of what was sent."""
    found = list(sent.items())
    return [found[0], found[-1]]


def check_srtp(data: bytes) -> None:
    """`sipwire.srtp`, `srtcp`, `rtp`: nothing opens but what was sent, each once, and nothing else leaves a trace."""
    rtp, rtcp = _fresh(_RTP_RECEIVER, "_window"), _fresh(_RTCP_RECEIVER, "_window")
    seen: set[bytes] = set()
    for piece in pieces(data):
        packet = bytearray(piece)
        try:
            size = rtp.unprotect(packet, len(packet))
        except (ParseError, SecurityError):
            assert packet == piece, "what is refused is not changed"
        else:
            assert piece in RTP, "a forged packet was taken"
            assert piece not in seen, "a packet was taken twice"
            assert bytes(packet[:size]) == RTP[piece]
            seen.add(piece)
        try:
            plain = rtcp.unprotect(piece)
        except SecurityError:
            pass
        else:
            assert piece in RTCP, "a forged packet was taken"
            assert piece not in seen, "a packet was taken twice"
            assert plain == RTCP[piece]
            seen.add(piece)
        try:
            _, _, _, start, end, _ = parse_rtp(piece, len(piece))
            assert 12 <= start <= end <= len(piece)
        except ParseError:
            pass
    # Whatever came, a good packet that was not seen and is not too old opens now.
    for piece, plain in _ends(RTP):
        packet = bytearray(piece)
        try:
            size = rtp.unprotect(packet, len(packet))
        except SecurityError as error:
            if not seen or error.check != "srtp replay":  # nothing was taken, and a good packet is refused
                raise
        else:
            assert piece not in seen
            assert bytes(packet[:size]) == plain
            seen.add(piece)
    for piece, plain in _ends(RTCP):
        assert (piece in seen) or rtcp.unprotect(piece) == plain


def check_frame(data: bytes) -> None:
    """`sipwire.hop`: nothing opens but what was sealed, each once, and nothing else leaves a trace."""
    receiver = _fresh(_FRAME_RECEIVER, "window")
    seen: set[bytes] = set()
    for piece in pieces(data):
        before = receiver.window.highest
        try:
            message = receiver.open(piece)
        except SecurityError:
            assert receiver.window.highest == before
        else:
            assert piece in FRAMES, "a forged frame was taken"
            assert piece not in seen, "a frame was taken twice"
            assert message == FRAMES[piece]
            seen.add(piece)
    for piece, message in _ends(FRAMES):
        try:
            assert receiver.open(piece) == message
            assert piece not in seen
        except SecurityError as error:
            if not seen or error.check != "hop replay":  # nothing was taken, and a good frame is refused
                raise


def check_stream(data: bytes) -> None:
    """`sipwire.stream`: the same comes out however a stream is cut. The first byte says how many cuts follow it."""
    count = data[0] if data else 0
    cuts, text = data[1 : 1 + count], data[1 + count :]
    whole = _read([text])
    parts = []
    at = 0
    for cut in cuts:
        parts.append(text[at : at + cut])
        at += cut
    parts.append(text[at:])
    assert _read(parts) == whole
    if len(text) < _BYTE_BY_BYTE:
        assert _read([text[i : i + 1] for i in range(len(text))]) == whole
    found, fault = whole
    assert sum(map(len, found)) <= len(text)
    for message in found:
        assert b"\r\n\r\n" in message
        # What was cut out stands by itself.
        assert _read([message]) == ([message], "")
    if fault:
        assert fault in {
            "too large headers",
            "too large message",
            "no Content-Length",
            "second Content-Length",
            "malformed Content-Length",
        }


def _read(parts: list[bytes]) -> tuple[list[bytes], str]:
    """The messages in a stream, keep-alives left out: half a ping is told as a pong until its other half is there."""
    stream = StreamParser()
    found = []
    for part in parts:
        found += [item for item in stream.receive(part) if item not in (PING, PONG)]
        assert stream.pending_bytes <= max(MAX_MESSAGE_BYTES + MAX_HEAD_BYTES, len(part))
        assert stream.fault is None or stream.pending_bytes == 0
    return found, stream.fault.reason if stream.fault else ""


def check_slip(data: bytes) -> None:
    """`sipwire.slip`: the same comes out however a line is cut, and what comes after it is whole."""
    line = data + b"\xc0" + encode(5060, b"after")
    whole, cut = SlipDecoder(), SlipDecoder()
    found = whole.receive(line)
    assert found[-1] == (5060, b"after")
    parts = [one for i in range(len(line)) for one in cut.receive(line[i : i + 1])]
    assert _joined(parts) == _joined(found)
    assert cut.bad == whole.bad
    assert sum(len(datagram) for _, datagram in found) <= len(line)
    for port, datagram in found:
        if port != TEXT:
            assert is_port(port)
            assert len(datagram) <= MAX_DATAGRAM_BYTES
            assert SlipDecoder().receive(encode(port, datagram)) == [(port, datagram)]


def _joined(found: "list[tuple[int, bytes]]") -> "list[tuple[int, bytes]]":
    """What came by a line, with the parts of each text put together."""
    made: list[tuple[int, bytes]] = []
    goes_on = False
    for port, data in found:
        if port == TEXT and data and goes_on:
            made[-1] = (TEXT, made[-1][1] + data)
        elif port != TEXT or data:
            made.append((port, data))
        goes_on = port == TEXT and bool(data)
    return made
