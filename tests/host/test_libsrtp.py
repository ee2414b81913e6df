"""Against libsrtp, both ways, each suite: across the rollover, with losses, out of order, several sources at once."""

import os
import random
from collections.abc import Sequence

import libsrtp
import pylibsrtp
import pytest

from neighbour.aes import new_aes
from neighbour.media.gcm import SUITES, kind_of
from sipwire.crypto import KeyParam
from sipwire.errors import SecurityError
from sipwire.rtp import build_header
from sipwire.sessions import SessionReceiver, SessionSender, Terms
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SrtpReceiver, SrtpSender, Suite

NAMES = sorted(SUITES)
INDEXES = [*range(65400, 65700), *range(66000, 66000 + 3 * 65536, 30001), *range(262100, 262300)]


def packet_of(index: int, ssrc: int, extended: bool = False) -> bytes:
    payload = random.Random(index).randbytes(index % 200)
    packet = bytearray(12)
    build_header(packet, index % 128, index & 0xFFFF, index * 160 & 0xFFFFFFFF, ssrc, index % 5 == 0)
    if extended:
        packet[0] |= 0x12  # an extension, and two CSRCs
        packet += b"CSR1CSR2" + b"\xbe\xde\0\1\x10\x83\0\0"
    return bytes(packet + payload)


def report_of(number: int, ssrc: int) -> bytes:
    return b"\x81\xc8\0\x0c" + ssrc.to_bytes(4, "big") + random.Random(number).randbytes(44)


def shuffled(items: list[bytes], seed: int, indexes: Sequence[int] = range(10000), most: int = 60) -> list[bytes]:
    """The same as a network delivers it: some up to ``most`` indexes late, one in twenty lost."""
    source = random.Random(seed)
    places = sorted(range(len(items)), key=lambda i: indexes[i] + source.uniform(0, most))
    return [items[i] for i in places if source.random() > 0.05]


def protect(sender: SrtpSender | SessionSender, plain: bytes) -> bytes:
    packet = bytearray(plain + bytes(sender.overhead_bytes))
    return bytes(packet[: sender.protect(packet, len(plain))])


def unprotect(receiver: SrtpReceiver | SessionReceiver, wire: bytes) -> bytes:
    packet = bytearray(wire)
    return bytes(packet[: receiver.unprotect(packet, len(packet))])


@pytest.mark.parametrize("name", NAMES, ids=bytes.decode)
@pytest.mark.parametrize("extended", [False, True])
def test_one_source(name: bytes, extended: bool) -> None:
    suite = SUITES[name]
    kind = libsrtp.kind_of(suite)
    key = os.urandom(suite.key_salt_bytes)
    ours_out, theirs_out = kind.sender(suite, key, new_aes), libsrtp.outbound(name, key)
    ours_in, theirs_in = kind.receiver(suite, key, new_aes, b"", 128), libsrtp.inbound(name, key)
    plains = [packet_of(index, 0xFEDCBA98, extended) for index in INDEXES]
    wires = []
    for plain in plains:
        wires.append(protect(ours_out, plain))
        assert wires[-1] == theirs_out.protect(plain)
        assert len(wires[-1]) == len(plain) + suite.tag_bytes
    opened = dict(zip(wires, plains, strict=True))
    for wire in shuffled(wires, 1, INDEXES):
        assert unprotect(ours_in, wire) == theirs_in.unprotect(wire) == opened[wire]
        with pytest.raises(SecurityError):
            unprotect(ours_in, wire)
        with pytest.raises(pylibsrtp.Error):
            theirs_in.unprotect(wire)


@pytest.mark.parametrize("name", NAMES, ids=bytes.decode)
def test_one_source_of_reports(name: bytes) -> None:
    suite = SUITES[name]
    kind = libsrtp.kind_of(suite)
    key = os.urandom(suite.key_salt_bytes)
    ours_out, theirs_out = kind.rtcp_sender(suite, key, new_aes), libsrtp.outbound(name, key)
    ours_in, theirs_in = kind.rtcp_receiver(suite, key, new_aes, b"", 128), libsrtp.inbound(name, key)
    plains = [report_of(number, 0xFEDCBA98) for number in range(300)]
    wires = []
    for plain in plains:
        wires.append(ours_out.protect(plain))
        assert wires[-1] == theirs_out.protect_rtcp(plain)
    opened = dict(zip(wires, plains, strict=True))
    for wire in shuffled(wires, 2):
        assert ours_in.unprotect(wire) == theirs_in.unprotect_rtcp(wire) == opened[wire]
        with pytest.raises(SecurityError):
            ours_in.unprotect(wire)


@pytest.mark.parametrize("name", NAMES, ids=bytes.decode)
@pytest.mark.parametrize(("clear", "rtcp_clear"), [(False, False), (True, False), (False, True), (True, True)])
def test_sessions(name: bytes, clear: bool, rtcp_clear: bool) -> None:
    """Several sources at once; what is not encrypted is what libsrtp calls authentication alone."""
    if clear and name.startswith(b"AEAD_"):
        pytest.skip("libsrtp encrypts SRTP with GCM whatever its policy says; RFC 7714's vectors are in test_gcm.py")
    suite = SUITES[name]
    keys = [KeyParam(os.urandom(suite.key_salt_bytes))]
    terms = Terms(0, 128, clear, rtcp_clear)
    ours_out = SessionSender(suite, keys, new_aes, terms, libsrtp.kind_of(suite))
    ours_in = SessionReceiver(suite, keys, new_aes, terms, libsrtp.kind_of(suite))
    theirs_out = libsrtp.outbound(name, keys[0].key_salt, clear, rtcp_clear)
    theirs_in = libsrtp.inbound(name, keys[0].key_salt, clear, rtcp_clear)
    opened = {}
    reports = {}
    for index in range(65480, 65600):
        for ssrc in (1, 0xFFFFFFFF, 77):
            plain = packet_of(index + 40 * (ssrc & 3), ssrc)
            wire = protect(ours_out, plain)
            assert wire == theirs_out.protect(plain)
            assert clear == (wire[: len(plain)] == plain) or len(plain) < 12 + 8
            opened[wire] = plain
            plain = report_of(index, ssrc)
            wire = ours_out.protect_rtcp(plain)
            assert wire == theirs_out.protect_rtcp(plain)
            assert rtcp_clear == (plain in wire)
            reports[wire] = plain
    for wire in shuffled(list(opened), 3):
        assert unprotect(ours_in, wire) == theirs_in.unprotect(wire) == opened[wire]
        with pytest.raises(SecurityError):
            unprotect(ours_in, wire)
    for wire in shuffled(list(reports), 4):
        assert ours_in.unprotect_rtcp(wire) == theirs_in.unprotect_rtcp(wire) == reports[wire]
        with pytest.raises(SecurityError):
            ours_in.unprotect_rtcp(wire)


def test_null_cipher() -> None:
    """libsrtp's NULL cipher is a stream that goes unencrypted by agreement; there is no suite of that name."""
    assert libsrtp.NULL not in SUITES
    suite = SUITES[b"AES_CM_128_HMAC_SHA1_80"]
    keys = [KeyParam(os.urandom(30))]
    terms = Terms(0, 64, True, True)
    ours, theirs = SessionSender(suite, keys, new_aes, terms), libsrtp.outbound(libsrtp.NULL, keys[0].key_salt)
    for index in range(65530, 65540):
        assert protect(ours, packet_of(index, 5)) == theirs.protect(packet_of(index, 5))
        assert ours.protect_rtcp(report_of(index, 5)) == theirs.protect_rtcp(report_of(index, 5))


def test_a_rekeyed_peer_goes_on_counting() -> None:
    """libsrtp begins a new session with a rollover counter of 0; another library's may go on: both open."""
    suite = SUITES[b"AES_CM_128_HMAC_SHA1_80"]
    before = SrtpReceiver(suite, bytes(30), new_aes)
    old = libsrtp.outbound(suite.name, bytes(30))
    for index in range(65000, 65000 + 200000, 20000):
        unprotect(before, old.protect(packet_of(index, 1)))
    receiver = SrtpReceiver(suite, bytes(range(30)), new_aes)
    receiver.follow(before)
    new = libsrtp.outbound(suite.name, bytes(range(30)))
    for index in (53000, 53001, 70000):
        assert unprotect(receiver, new.protect(packet_of(index, 1))) == packet_of(index, 1)


def test_another_suite_opens_nothing() -> None:
    for name in NAMES:
        for other in NAMES:
            suite, theirs = SUITES[name], SUITES[other]
            if name == other or suite.key_salt_bytes != theirs.key_salt_bytes:
                continue
            key = bytes(range(suite.key_salt_bytes))
            wire = libsrtp.outbound(other, key).protect(packet_of(70050, 1))
            with pytest.raises(SecurityError):
                unprotect(kind_of(suite).receiver(suite, key, new_aes), wire)


def test_aes_192_itself_is_as_said() -> None:
    """Only the derivation differs from libsrtp's: ours is RFC 6188's, see test_srtp.py and test_srtp_corpora.py."""
    for name in (b"AES_192_CM_HMAC_SHA1_80", b"AES_192_CM_HMAC_SHA1_32"):
        suite, key = SUITES[name], bytes(range(38))
        ours, theirs = SrtpSender(suite, key, new_aes), libsrtp.kind_of(suite).sender(suite, key, new_aes)
        assert (protect(ours, packet_of(9, 1)) == protect(theirs, packet_of(9, 1))) == libsrtp.derives_aes_192_right()


def test_there_is_no_suite_more_in_crypto_lines() -> None:
    from sipwire import crypto

    known = {pair.partition(b"=")[0] for pair in crypto._SUITES.split()}
    assert set(SUITES) | {b"F8_128_HMAC_SHA1_80"} == known
    for suite in SUITES.values():
        assert isinstance(suite, Suite)
        assert suite.key_salt_bytes == crypto.size_of(suite.name)


def test_classes_of_kinds() -> None:
    for suite in SUITES.values():
        kind = kind_of(suite)
        assert issubclass(kind.rtcp_sender, SrtcpSender)
        assert issubclass(kind.rtcp_receiver, SrtcpReceiver)
        assert (kind.sender is SrtpSender) == (b"_CM" in suite.name)
