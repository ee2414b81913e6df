import json
from typing import TYPE_CHECKING, Any

import pytest
from conftest import ROOT

from neighbour.aes import new_aes
from neighbour.media.gcm import (
    GCM,
    SUITES,
    GcmCipher,
    GcmReceiver,
    GcmRtcpReceiver,
    GcmRtcpSender,
    GcmSender,
    kind_of,
)
from sipwire.crypto import Crypto
from sipwire.errors import ParseError, SecurityError, StateError
from sipwire.rtp import build_header
from sipwire.sessions import CM, SessionReceiver, SessionSender, Terms

if TYPE_CHECKING:
    from sipwire.srtp import SrtpContext

VECTORS = ROOT / "tests" / "vectors"
SUITE = SUITES[b"AEAD_AES_128_GCM"]
KEY = bytes(range(28))
REPORT = b"\x80\xc9\x00\x01\x12\x34\x56\x78" + b"report block" * 2


def load(name: str) -> Any:
    return json.loads((VECTORS / name).read_text())


def packet_of(seq: int, ssrc: int = 1, payload: bytes = b"payload") -> bytes:
    packet = bytearray(12)
    build_header(packet, 0, seq & 0xFFFF, 0, ssrc)
    return bytes(packet + payload)


def protect(sender: Any, plain: bytes) -> bytes:
    packet = bytearray(plain + bytes(sender.overhead_bytes))
    return bytes(packet[: sender.protect(packet, len(plain))])


def unprotect(receiver: Any, wire: bytes) -> bytes:
    packet = bytearray(wire)
    return bytes(packet[: receiver.unprotect(packet, len(packet))])


def refuse(receiver: Any, wire: bytes, check: str) -> None:
    packet = bytearray(wire)
    with pytest.raises(SecurityError) as caught:
        receiver.unprotect(packet, len(packet))
    assert caught.value.check == check
    assert packet == wire, "a refused packet was touched"


def refuse_rtcp(receiver: Any, wire: bytes, check: str) -> None:
    with pytest.raises(SecurityError) as caught:
        receiver.unprotect(wire)
    assert caught.value.check == check


@pytest.mark.parametrize("case", load("srtp/rfc7714.json"), ids=lambda case: case["source"].partition("/")[0])
def test_rfc_7714(case: dict[str, Any]) -> None:
    """Its vectors give the session key and salt."""
    key = bytes.fromhex(case["session_key"])
    suite = SUITES[b"AEAD_AES_%d_GCM" % (8 * len(key))]
    is_clear = case["kind"] == "srtp-auth-only" or case.get("e_flag") == 0
    cipher: Any = GcmCipher(key, bytes.fromhex(case["session_salt"]), is_clear)
    plain, wire = bytes.fromhex(case["plain"]), bytes.fromhex(case["protected"])
    made: list[SrtpContext] = [
        one(suite, bytes(suite.key_salt_bytes), new_aes)
        for one in (GcmSender, GcmReceiver, GcmRtcpSender, GcmRtcpReceiver)
    ]
    for one in made:
        one.use(b"", cipher, cipher)
    sender, receiver, rtcp_sender, rtcp_receiver = made
    if case["kind"] != "srtcp":
        assert protect(sender, plain) == wire
        assert unprotect(receiver, wire) == plain
        refuse(receiver, wire, "srtp replay")
    else:
        assert isinstance(rtcp_sender, GcmRtcpSender)
        assert isinstance(rtcp_receiver, GcmRtcpReceiver)
        rtcp_sender.index = case["srtcp_index"] - 1
        assert rtcp_sender.protect(plain) == wire
        assert rtcp_receiver.unprotect(wire) == plain
        refuse_rtcp(rtcp_receiver, wire, "srtcp replay")


def test_generated_sessions() -> None:
    done = 0
    for session in load("srtp/generated_sessions.json")["sessions"]:
        suite = SUITES[session["suite"].encode()]
        if kind_of(suite) is CM:
            continue
        key = bytes.fromhex(session["master_key"] + session["master_salt"])
        sender, receiver = GcmSender(suite, key, new_aes), GcmReceiver(suite, key, new_aes)
        for case in session["rtp"]:
            plain, wire = bytes.fromhex(case["plain"]), bytes.fromhex(case["protected"])
            assert protect(sender, plain) == wire
            assert unprotect(receiver, wire) == plain
            done += 1
        rtcp_out, rtcp_in = GcmRtcpSender(suite, key, new_aes), GcmRtcpReceiver(suite, key, new_aes)
        for case in session["rtcp"]:
            plain, wire = bytes.fromhex(case["plain"]), bytes.fromhex(case["protected"])
            rtcp_out.index = case["index"] - 1
            assert rtcp_out.protect(plain) == wire
            assert rtcp_in.unprotect(wire) == plain
            done += 1
    assert done == 30


def test_from_a_crypto_line_to_packets() -> None:
    """All of them, also those of `sipwire.sessions`, by way of `kind_of`."""
    chain = load("sdes/sdes_to_srtp.json")["chain"]
    for case in chain:
        crypto = Crypto.parse(case["line"].partition(":")[2].encode())
        suite = SUITES[crypto.suite]
        sender = SessionSender(suite, crypto.keys, new_aes, Terms.of(crypto), kind_of(suite))
        receiver = SessionReceiver(suite, crypto.keys, new_aes, Terms.of(crypto), kind_of(suite))
        wire = protect(sender, bytes.fromhex(case["rtp"]))
        assert wire.hex() == case["srtp"]
        assert unprotect(receiver, wire).hex() == case["rtp"]
        wire = sender.protect_rtcp(bytes.fromhex(case["rtcp"]))
        assert wire.hex() == case["srtcp"]
        assert receiver.unprotect_rtcp(wire).hex() == case["rtcp"]
    assert len(chain) == 10


def test_every_bit_matters() -> None:
    sender, receiver = GcmSender(SUITE, KEY, new_aes, b"\1"), GcmReceiver(SUITE, KEY, new_aes, b"\1")
    unprotect(receiver, protect(sender, packet_of(1)))
    wire = protect(sender, packet_of(2))
    for bit in range(8 * len(wire)):
        bad = bytearray(wire)
        bad[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises((SecurityError, ParseError)):
            receiver.unprotect(bad, len(bad))
    for size in range(len(wire)):
        with pytest.raises((SecurityError, ParseError)):
            receiver.unprotect(bytearray(wire), size)
    assert unprotect(receiver, wire) == packet_of(2)


def test_every_bit_of_a_report_matters() -> None:
    sender, receiver = GcmRtcpSender(SUITE, KEY, new_aes, b"\1"), GcmRtcpReceiver(SUITE, KEY, new_aes, b"\1")
    wire = sender.protect(REPORT)
    for bit in range(8 * len(wire)):
        bad = bytearray(wire)
        bad[bit >> 3] ^= 1 << (bit & 7)
        with pytest.raises(SecurityError):
            receiver.unprotect(bytes(bad))
    for size in range(len(wire)):
        with pytest.raises(SecurityError):
            receiver.unprotect(wire[:size])
    refuse_rtcp(receiver, b"\x80\xc9\0\1" + bytes(23) + b"\1", "srtcp size")
    assert receiver.unprotect(wire) == REPORT


def test_the_buffer_has_to_have_room() -> None:
    sender = GcmSender(SUITE, KEY, new_aes, b"\1")
    with pytest.raises(ValueError, match="room"):
        sender.protect(bytearray(packet_of(1) + bytes(16)), 19)
    assert len(protect(sender, packet_of(1))) == 19 + 17


def test_replay_and_lifetime() -> None:
    sender, receiver = GcmSender(SUITE, KEY, new_aes, b"", 4), GcmReceiver(SUITE, KEY, new_aes, b"", 64, 3)
    wires = [protect(sender, packet_of(seq)) for seq in range(65534, 65538)]
    with pytest.raises(StateError):
        protect(sender, packet_of(65538))
    for wire in (wires[0], wires[2], wires[1]):
        unprotect(receiver, wire)
        refuse(receiver, wire, "srtp replay")
    refuse(receiver, wires[3], "srtp lifetime")
    rtcp_out, rtcp_in = GcmRtcpSender(SUITE, KEY, new_aes, b"", 3), GcmRtcpReceiver(SUITE, KEY, new_aes, b"", 64, 2)
    wires = [rtcp_out.protect(REPORT) for _ in range(3)]
    with pytest.raises(StateError):
        rtcp_out.protect(REPORT)
    for wire in wires[:2]:
        assert rtcp_in.unprotect(wire) == REPORT
        refuse_rtcp(rtcp_in, wire, "srtcp replay")
    refuse_rtcp(rtcp_in, wires[2], "srtcp lifetime")


def test_one_source() -> None:
    """Another one is for a session, or follows when it may, as with `SrtpReceiver`."""
    sender, receiver = GcmSender(SUITE, KEY, new_aes), GcmReceiver(SUITE, KEY, new_aes)
    unprotect(receiver, protect(sender, packet_of(1)))
    with pytest.raises(StateError):
        protect(sender, packet_of(2, 9))
    wire = protect(GcmSender(SUITE, KEY, new_aes), packet_of(2, 9))
    refuse(receiver, wire, "srtp ssrc")
    receiver.allow_source()
    refuse(receiver, wire[:-1] + bytes([wire[-1] ^ 1]), "srtp tag")
    assert unprotect(receiver, wire) == packet_of(2, 9)
    refuse(receiver, protect(sender, packet_of(3)), "srtp ssrc")
    rtcp_out, rtcp_in = GcmRtcpSender(SUITE, KEY, new_aes), GcmRtcpReceiver(SUITE, KEY, new_aes)
    rtcp_in.unprotect(rtcp_out.protect(REPORT))
    refuse_rtcp(rtcp_in, rtcp_out.protect(REPORT[:4] + b"else" + REPORT[8:]), "srtp ssrc")


def test_a_rollover_that_was_missed_or_goes_on() -> None:
    sender, receiver = GcmSender(SUITE, KEY, new_aes), GcmReceiver(SUITE, KEY, new_aes)
    protect(sender, packet_of(65535))
    assert unprotect(receiver, protect(sender, packet_of(65536))) == packet_of(65536)
    before = GcmReceiver(SUITE, KEY, new_aes)
    before._window.highest = 0x70010
    for roc in (0, 7):
        sender, receiver = GcmSender(SUITE, KEY[::-1], new_aes), GcmReceiver(SUITE, KEY[::-1], new_aes)
        sender.roc = roc
        receiver.follow(before)
        assert unprotect(receiver, protect(sender, packet_of(30))) == packet_of(30)


def test_the_end_of_all_indexes() -> None:
    sender, receiver = GcmSender(SUITE, KEY, new_aes), GcmReceiver(SUITE, KEY, new_aes)
    sender.roc = 0xFFFFFFFF
    before = GcmReceiver(SUITE, KEY, new_aes)
    before._window.highest = 0xFFFFFFFFF000
    receiver.follow(before)
    unprotect(receiver, protect(sender, packet_of(65535)))
    with pytest.raises(StateError):
        protect(sender, packet_of(0))
    refuse(receiver, protect(GcmSender(SUITE, KEY, new_aes), packet_of(0)), "srtp lifetime")
    other = GcmReceiver(SUITE, KEY, new_aes)
    before._window.highest = 0xFFFFFFFFFFFF
    other.follow(before)
    refuse(other, protect(GcmSender(SUITE, bytes(28), new_aes), packet_of(0)), "srtp tag")


def test_clear_is_not_encrypted_and_encrypted_is_not_clear() -> None:
    line = b"1 AEAD_AES_128_GCM inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGw== UNENCRYPTED_SRTP UNENCRYPTED_SRTCP"
    crypto = Crypto.parse(line)
    with pytest.raises(SecurityError):
        Terms.of(crypto)
    terms = Terms.of(crypto, allow_clear=True)
    clear_out = SessionSender(SUITE, crypto.keys, new_aes, terms, GCM)
    clear_in = SessionReceiver(SUITE, crypto.keys, new_aes, terms, GCM)
    sender, receiver = GcmSender(SUITE, KEY, new_aes), GcmReceiver(SUITE, KEY, new_aes)
    rtcp_out, rtcp_in = GcmRtcpSender(SUITE, KEY, new_aes), GcmRtcpReceiver(SUITE, KEY, new_aes)
    wire = protect(clear_out, packet_of(1))
    assert wire.startswith(packet_of(1))
    refuse(receiver, wire, "srtp tag")
    assert unprotect(clear_in, wire) == packet_of(1)
    refuse(clear_in, protect(sender, packet_of(2)), "srtp tag")
    wire = clear_out.protect_rtcp(REPORT)
    assert wire.startswith(REPORT)
    refuse_rtcp(rtcp_in, wire, "srtcp encryption")
    assert clear_in.unprotect_rtcp(wire) == REPORT
    rtcp_out.index = 5
    with pytest.raises(SecurityError):
        clear_in.unprotect_rtcp(rtcp_out.protect(REPORT))


@pytest.mark.parametrize("name", sorted(SUITES), ids=bytes.decode)
@pytest.mark.parametrize("rate", [0, 1, 16])
def test_sessions_with_several_keys_and_rates(name: bytes, rate: int) -> None:
    """Both kinds behave alike."""
    suite = SUITES[name]
    size = suite.key_salt_bytes
    crypto = Crypto.make(1, name, bytes(size))
    crypto.keys[0].mki = b"\0\1"
    crypto.keys.append(Crypto.make(1, name, bytes(range(size))).keys[0])
    crypto.keys[1].mki = b"\0\2"
    sender = SessionSender(suite, crypto.keys, new_aes, Terms(rate), kind_of(suite))
    receiver = SessionReceiver(suite, crypto.keys, new_aes, Terms(rate), kind_of(suite))
    wires = []
    for n in range(65520, 65560):
        sender.take_key(b"\0\1" if n % 7 < 3 else b"\0\2")
        for ssrc in (1, 2):
            wires.append((protect(sender, packet_of(n, ssrc)), packet_of(n, ssrc)))
            report = REPORT[:4] + bytes([0, 0, 0, ssrc]) + REPORT[8:]
            assert receiver.unprotect_rtcp(sender.protect_rtcp(report)) == report
    for wire, plain in wires[1::2] + wires[::2]:
        assert unprotect(receiver, wire) == plain
        refuse(receiver, wire, "srtp replay")


def test_the_rate_of_gcm_meets_the_padded_salt() -> None:
    """r has 48 bits also where the salt has only 96: its last 16 fall on what it is padded with (RFC 7714 section 11)."""
    crypto = Crypto.make(1, SUITE.name, KEY)
    session = SessionSender(SUITE, crypto.keys, new_aes, Terms(16), GCM)
    protect(session, packet_of(5))
    wire = protect(session, packet_of(37))
    padded = bytearray(KEY[16:] + b"\0\0")
    padded[13] = 37 // 16
    one = GcmReceiver(SUITE, KEY, new_aes)
    one.use(b"", *one.derive(SUITE, KEY[:16] + bytes(padded), new_aes))
    assert unprotect(one, wire) == packet_of(37)
