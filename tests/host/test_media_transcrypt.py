"""SRTP of the media relay: published and computed vectors, what libsrtp lacks, and keys as signalling has them."""

import json
import os

import pytest
from conftest import ROOT
from parties import CM, CM_192, CM_256, CM_SHORT, GCM, GCM_256, SIZES, keys, rtcp, rtp
from pylibsrtp import Policy, Session

from neighbour.aes import new_aes
from neighbour.media import gcm
from neighbour.media.keys import Keys, KeysError
from neighbour.media.transcrypt import BAD, MAX_BYTES, new_opener, new_sealer, reason
from sipwire import sessions
from sipwire.crypto import Crypto, KeyParam
from sipwire.errors import ParseError
from sipwire.srtp import SUITES, SrtpReceiver

VECTORS = ROOT / "tests" / "vectors"
SESSIONS = json.loads((VECTORS / "srtp" / "generated_sessions.json").read_text())["sessions"]
CHAIN = json.loads((VECTORS / "sdes" / "sdes_to_srtp.json").read_text())["chain"]
KEY = "PS1uQCVeeCFCanVmcjkpPywjNWhcYD0mXXtxaVBR"


@pytest.mark.parametrize("session", SESSIONS, ids=lambda session: session["suite"])
def test_sessions(session: dict) -> None:
    one = Keys(session["suite"].encode(), bytes.fromhex(session["master_key"] + session["master_salt"]))
    sealer, opener = new_sealer(one), new_opener(one)
    for packet in session["rtp"]:
        plain, sealed = bytes.fromhex(packet["plain"]), bytes.fromhex(packet["protected"])
        assert sealer.rtp(plain) == sealed
        assert opener.rtp(sealed) == plain
        with pytest.raises(BAD) as error:
            opener.rtp(sealed)
        assert reason(error.value) == "replay"
    for packet in session["rtcp"]:
        plain, sealed = bytes.fromhex(packet["plain"]), bytes.fromhex(packet["protected"])
        assert sealer.rtcp(plain) == sealed
        assert opener.rtcp(sealed) == plain
        end = len(sealed) - opener.behind_index
        assert int.from_bytes(sealed[end - 4 : end]) & 0x7FFFFFFF == packet["index"]
        with pytest.raises(BAD) as error:
            opener.rtcp(sealed)
        assert reason(error.value) == "replay"


@pytest.mark.parametrize("link", CHAIN, ids=lambda link: link["line"][9:50])
def test_from_a_line_to_a_packet(link: dict) -> None:
    try:
        one = Keys.of(Crypto.parse(link["line"].removeprefix("a=crypto:").encode()))
    except ParseError:
        pytest.skip("a suite that the parser does not know")
    plain, sealed = bytes.fromhex(link["rtp"]), bytes.fromhex(link["srtp"])
    assert new_sealer(one).rtp(plain) == sealed
    assert new_opener(one).rtp(sealed) == plain
    plain, sealed = bytes.fromhex(link["rtcp"]), bytes.fromhex(link["srtcp"])
    assert new_sealer(one).rtcp(plain) == sealed
    assert new_opener(one).rtcp(sealed) == plain


@pytest.mark.parametrize("suite", [CM, CM_SHORT, GCM, GCM_256], ids=bytes.decode)
def test_against_the_library_as_it_is_meant(suite: bytes) -> None:
    profiles = {
        CM: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
        CM_SHORT: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
        GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
        GCM_256: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
    }
    one = keys(suite)
    theirs = Session(Policy(one.key_salt, Policy.SSRC_ANY_OUTBOUND, srtp_profile=profiles[suite]))
    sealer, opener = new_sealer(one), new_opener(one)
    for number in range(0, 70_000, 7):  # over the end of the sequence numbers
        packet = rtp(number, payload=os.urandom(number % 1200))
        sealed = theirs.protect(packet)
        assert sealer.rtp(packet) == sealed
        assert opener.rtp(sealed) == packet


@pytest.mark.parametrize("suite", [CM, CM_SHORT, GCM, GCM_256, CM_192, CM_256], ids=bytes.decode)
@pytest.mark.parametrize("mki", [b"", b"\x05", bytes(4)])
def test_every_bit_is_authenticated(suite: bytes, mki: bytes) -> None:
    one = keys(suite, mki)
    sealer, opener = new_sealer(one), new_opener(one)
    for work, undo, packet in ((sealer.rtp, opener.rtp, rtp(1)), (sealer.rtcp, opener.rtcp, rtcp())):
        sealed = work(packet)
        for bit in range(len(sealed) * 8):
            changed = bytearray(sealed)
            changed[bit // 8] ^= 1 << bit % 8
            with pytest.raises(BAD) as error:
                undo(bytes(changed))
            assert one.key_salt.hex() not in str(error.value)
            assert reason(error.value) in {"tag", "mki", "encryption", "form", "replay", "late"}
        for size in range(len(sealed)):
            with pytest.raises(BAD):
                undo(sealed[:size])
        assert undo(sealed) == packet


@pytest.mark.parametrize("suite", [CM, CM_SHORT], ids=bytes.decode)
def test_mki_is_where_others_look_for_it(suite: bytes) -> None:
    one = keys(suite, b"\0\x07")
    sealed = new_sealer(one).rtp(rtp(1))
    receiver = SrtpReceiver(SUITES[suite], one.key_salt, new_aes, one.mki)
    buffer = bytearray(sealed)
    assert bytes(buffer[: receiver.unprotect(buffer, len(buffer))]) == rtp(1)


def test_the_largest_packets() -> None:
    for suite in (CM, GCM, CM_256):
        one = keys(suite, b"\x01")
        packet = rtp(1, payload=bytes(MAX_BYTES - 12))
        sealed = new_sealer(one).rtp(packet)
        assert len(sealed) > MAX_BYTES
        with pytest.raises(BAD) as error:
            new_opener(keys(CM)).rtp(sealed)
        assert reason(error.value) == "size"
    with pytest.raises(BAD):
        new_sealer(keys()).rtp(rtp(1, payload=bytes(MAX_BYTES)))


@pytest.mark.parametrize("suite", [CM_192, CM_256], ids=bytes.decode)
def test_sources_of_what_sipwire_opens(suite: bytes) -> None:
    """Several at once, a bounded number, and forged ones take no place."""
    one = keys(suite)
    sealer, opener = new_sealer(one), new_opener(one)
    for ssrc in range(1000, 1100):
        with pytest.raises(BAD):
            opener.rtp(rtp(1, ssrc, bytes(40)))
        with pytest.raises(BAD):
            opener.rtcp(rtcp(ssrc, body=bytes(40)))
    other = new_sealer(one)
    for number in (1, 2, 3):
        for ssrc in range(16):
            assert opener.rtp(sealer.rtp(rtp(number, ssrc))) == rtp(number, ssrc)
            assert opener.rtcp(sealer.rtcp(rtcp(ssrc))) == rtcp(ssrc)
    for work, packet in (
        (opener.rtp, other.rtp(rtp(1, 99))),
        (opener.rtcp, other.rtcp(rtcp(99))),
        (sealer.rtp, rtp(1, 99)),
        (sealer.rtcp, rtcp(99)),
    ):
        with pytest.raises(BAD) as error:
            work(packet)
        assert reason(error.value) == "sources"


@pytest.mark.parametrize("suite", [CM, GCM, CM_256], ids=bytes.decode)
def test_a_derivation_rate(suite: bytes) -> None:
    """Against sessions of `sipwire.sessions`, which are tested against vectors; other keys after each so many packets."""
    one = Keys(suite, os.urandom(SIZES[suite]), b"", 16)
    terms, key = sessions.Terms(16), [KeyParam(one.key_salt)]
    kind = gcm.kind_of(gcm.SUITES[suite])
    theirs = sessions.SessionSender(gcm.SUITES[suite], key, new_aes, terms, kind)
    sealer, opener = new_sealer(one), new_opener(one)
    once = new_sealer(Keys(suite, one.key_salt))
    for number in range(65_500, 65_600, 3):
        packet = rtp(number)
        buffer = bytearray(packet + bytes(theirs.overhead_bytes))
        theirs.protect(buffer, len(packet))
        assert sealer.rtp(packet) == bytes(buffer)
        assert bytes(buffer) != once.rtp(packet)
        assert opener.rtp(bytes(buffer)) == packet
        sealed = theirs.protect_rtcp(rtcp())
        assert sealer.rtcp(rtcp()) == sealed
        assert opener.rtcp(sealed) == rtcp()


@pytest.mark.parametrize("suite", [CM, CM_192, CM_256], ids=bytes.decode)
def test_sealed_out_of_order(suite: bytes) -> None:
    """What the network has mixed up goes on as it came, over the wrap too; nothing is sealed twice, nor when too old."""
    one = keys(suite)
    sealer, straight, opener = new_sealer(one), new_sealer(one), new_opener(one)
    numbers = list(range(65_500, 65_600))
    right = {number: straight.rtp(rtp(number)) for number in numbers}
    mixed = [numbers[at ^ 3] for at in range(100)]
    for at, number in enumerate(mixed):
        sealed = sealer.rtp(rtp(number))
        assert sealed == right[number]
        assert opener.rtp(sealed) == rtp(number)
        for before in mixed[: at + 1 : 9]:
            with pytest.raises(BAD) as error:
                sealer.rtp(rtp(before, payload=b"another"))
            assert reason(error.value) in {"late", "replay"}
    sealer.rtp(rtp(65_800))
    with pytest.raises(BAD) as error:
        sealer.rtp(rtp(65_600))
    assert reason(error.value) == "late"


LINES = [
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}", None),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4 WSH=512", None),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} -UNKNOWN", None),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|1:4;inline:{KEY[:-1]}A|2^20|2:4", "several keys"),
    ("1 AES_CM_128_HMAC_SHA1_80 setup:0123456789abcdef", "terminals alone"),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTP", "UNENCRYPTED_SRTP"),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNENCRYPTED_SRTCP", "UNENCRYPTED_SRTCP"),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} UNAUTHENTICATED_SRTP", "UNAUTHENTICATED_SRTP"),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} FEC_ORDER=FEC_SRTP", "FEC_ORDER"),
    (f"1 F8_128_HMAC_SHA1_80 inline:{KEY}", "F8"),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=20", None),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|3:1 KDR=1 WSH=100", None),
    (f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY} KDR=0", None),
]


@pytest.mark.parametrize(("line", "why"), LINES, ids=range(len(LINES)))
def test_lines(line: str, why: "str | None") -> None:
    crypto = Crypto.parse(line.encode())
    if why is None:
        one = Keys.of(crypto)
        assert new_opener(one).rtp(new_sealer(one).rtp(rtp(1))) == rtp(1)
        return
    with pytest.raises(KeysError, match=why) as error:
        Keys.of(crypto)
    assert KEY not in str(error.value)


def test_a_line_with_a_window_and_an_identifier() -> None:
    one = Keys.of(Crypto.parse(f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY}|2^20|7:2 WSH=512".encode()))
    assert (one.mki, one.window, one.kdr) == (b"\0\7", 512, 0)
    # Late by as much as the window, and by more.
    for window, late in ((64, 100), (512, 400)):
        keyed = Keys(CM, one.key_salt, window=window)
        sealer, opener = new_sealer(Keys(CM, one.key_salt, window=1024)), new_opener(keyed)
        sealed = [sealer.rtp(rtp(number)) for number in range(late + 1)]
        opener.rtp(sealed[-1])
        if late < window:
            assert opener.rtp(sealed[0]) == rtp(0)
        else:
            with pytest.raises(BAD) as error:
                opener.rtp(sealed[0])
            assert reason(error.value) == "late"


def test_keys_tell_nothing() -> None:
    one = keys(CM, b"\x01")
    assert repr(one.key_salt)[2:-1] not in repr(one)
    assert one.key_salt.hex() not in repr(one)
    assert one == Keys(CM, one.key_salt, b"\x01", window=64)
    assert one != Keys(CM_SHORT, one.key_salt, b"\x01")
    assert one != Keys(CM, one.key_salt)
    with pytest.raises(KeysError):
        Keys(CM, one.key_salt, kdr=3)
    for suite, size in ((CM, 28), (GCM, 30), (b"NULL_HMAC_SHA1_80", 30), (CM_256, 0)):
        with pytest.raises(KeysError):
            Keys(suite, bytes(size))
