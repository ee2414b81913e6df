"""Descriptions as the relay reads and writes them."""

import pytest

from neighbour.media.descriptions import Line, Numbering, Stream, hosts_of, write
from sipwire.crypto import Crypto
from sipwire.errors import ParseError
from sipwire.sdp import Session
from sipwire.setup import canonical_sdp

KEY = b"1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40
OTHER = b"2 AEAD_AES_256_GCM inline:" + b"B" * 58 + b"A="
KID = b"0123456789abcdef"
HEAD = b"v=0\r\no=alice 1 1 IN IP4 10.0.0.5\r\ns=-\r\nc=IN IP4 10.0.0.5\r\nt=0 0\r\n"
AUDIO = HEAD + b"m=audio 4000 RTP/SAVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=crypto:" + KEY + b"\r\n"


def streams(body: bytes) -> list[Stream]:
    session = Session.parse(body)
    return [Stream.read(session, media) for media in session.media]


def written(body: bytes, *lines: Line, host: str = "192.0.2.9") -> bytes:
    return write(Session.parse(body), host, lines)


def test_a_stream() -> None:
    (one,) = streams(AUDIO)
    assert (one.kind, one.port, one.is_rtp, one.is_secure) == (b"audio", 4000, True, True)
    assert (one.address, one.rtcp, one.mux) == (("10.0.0.5", 4000), None, False)
    assert [(crypto.tag, crypto.suite) for crypto in one.cryptos] == [(1, b"AES_CM_128_HMAC_SHA1_80")]
    assert (one.is_keyed, one.is_mixed, one.is_held) == (False, False, False)


@pytest.mark.parametrize(
    ("line", "rtcp"),
    [
        (b"a=rtcp:4011", ("10.0.0.5", 4011)),
        (b"a=rtcp:4011 IN IP4 10.0.0.6", ("10.0.0.6", 4011)),
        (b"a=rtcp:4011 IN IP6 2001:db8::1", ("2001:db8::1", 4011)),
        (b"a=rtcp:4011 IN IP4 name.example", None),
        (b"a=rtcp:0", None),
        (b"a=rtcp:70000", None),
        (b"a=rtcp:x", None),
        (b"a=rtcp", None),
    ],
)
def test_where_rtcp_goes(line: bytes, rtcp: tuple[str, int] | None) -> None:
    assert streams(AUDIO + line + b"\r\n")[0].rtcp == rtcp


@pytest.mark.parametrize(
    ("host", "address", "is_held"),
    [
        (b"IP4 10.0.0.7", ("10.0.0.7", 4000), False),
        (b"IP6 2001:DB8:0::1", ("2001:db8::1", 4000), False),
        (b"IP4 0.0.0.0", None, True),
        (b"IP6 ::", None, True),
        (b"IP4 phone.example", None, False),
        (b"IP4 233.252.0.1/127", None, False),
    ],
)
def test_addresses(host: bytes, address: tuple[str, int] | None, is_held: bool) -> None:
    one = streams(AUDIO + b"c=IN " + host + b"\r\n")[0]
    assert (one.address, one.is_held) == (address, is_held)


def test_a_stream_without_an_address() -> None:
    with pytest.raises(ParseError):
        streams(AUDIO.replace(b"c=IN IP4 10.0.0.5\r\n", b""))
    refused = AUDIO.replace(b"c=IN IP4 10.0.0.5\r\n", b"").replace(b"audio 4000", b"audio 0")
    assert streams(refused)[0].address is None


@pytest.mark.parametrize(
    ("proto", "is_rtp", "is_secure", "feedback"),
    [
        (b"RTP/AVP", True, False, b""),
        (b"RTP/AVPF", True, False, b"F"),
        (b"RTP/SAVP", True, True, b""),
        (b"RTP/SAVPF", True, True, b"F"),
        (b"rtp/savp", True, True, b""),
        (b"UDP/TLS/RTP/SAVPF", False, False, b"F"),
        (b"TCP/RTP/AVP", False, False, b""),
        (b"udptl", False, False, b""),
    ],
)
def test_profiles(proto: bytes, is_rtp: bool, is_secure: bool, feedback: bytes) -> None:
    one = streams(AUDIO.replace(b"RTP/SAVP", proto))[0]
    assert (one.is_rtp, one.is_secure, one.feedback) == (is_rtp, is_secure, feedback)


def test_several_ports_are_no_stream_that_can_be_relayed() -> None:
    assert not streams(AUDIO.replace(b"audio 4000", b"audio 4000/2"))[0].is_rtp
    assert streams(AUDIO.replace(b"audio 4000", b"audio 4000/1"))[0].is_rtp


@pytest.mark.parametrize(
    "line",
    [
        b"1 AES_CM_128_HMAC_SHA1_80 inline:short",
        b"1 UNKNOWN inline:" + b"A" * 40,
        KEY + b" UNENCRYPTED_SRTP",
        KEY + b" UNENCRYPTED_SRTCP",
        KEY + b" UNAUTHENTICATED_SRTP",
        KEY + b" FEC_ORDER=FEC_SRTP",
        b"1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"|1:4;inline:" + b"B" * 40 + b"|2:4",
        b"",
    ],
)
def test_a_line_that_the_relay_can_do_nothing_with_counts_as_absent(line: bytes) -> None:
    body = AUDIO.replace(b"a=crypto:" + KEY, b"a=crypto:" + line)
    assert streams(body)[0].cryptos == []
    assert [crypto.tag for crypto in streams(body + b"a=crypto:" + OTHER + b"\r\n")[0].cryptos] == [2]


def test_of_two_lines_with_one_tag_the_first_counts() -> None:
    again = b"a=crypto:" + OTHER.replace(b"2 ", b"1 ", 1) + b"\r\n"
    assert [crypto.suite for crypto in streams(AUDIO + again)[0].cryptos] == [b"AES_CM_128_HMAC_SHA1_80"]


def test_setup_keys() -> None:
    keyed = AUDIO.replace(KEY, b"1 AES_CM_128_HMAC_SHA1_80 setup:" + KID)
    assert streams(keyed)[0].is_keyed
    mixed = streams(keyed + b"a=crypto:" + OTHER + b"\r\n")[0]
    assert (mixed.is_keyed, mixed.is_mixed, mixed.cryptos) == (False, True, [])


def test_names_in_upper_case_are_no_way_around() -> None:
    one = streams(AUDIO.replace(b"a=crypto", b"a=Crypto") + b"a=RTCP-MUX\r\n")[0]
    assert len(one.cryptos) == 1
    assert one.mux
    out = written(AUDIO.replace(b"a=crypto", b"a=Crypto") + b"a=CANDIDATE:x 10.0.0.5\r\n", Line(6000, b"RTP/AVP", []))
    assert KEY not in out
    assert b"10.0.0.5 " not in out.partition(b"t=0")[2]


def test_what_is_written() -> None:
    crypto = Crypto.make(7, b"AES_CM_128_HMAC_SHA1_80", bytes(30))
    out = written(AUDIO + b"a=rtcp:4009 IN IP4 10.0.0.5\r\na=rtcp-mux\r\n", Line(6000, b"RTP/SAVP", [crypto]))
    assert out == (
        HEAD.replace(b"c=IN IP4 10.0.0.5", b"c=IN IP4 192.0.2.9")
        + b"m=audio 6000 RTP/SAVP 0 101\r\na=rtpmap:101 telephone-event/8000\r\na=rtcp-mux\r\n"
        + b"a=crypto:7 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"
    )  # fmt: skip


def test_ice_and_other_protection_are_left_out() -> None:
    left_out = (
        b"a=ice-ufrag:x\r\na=ice-pwd:y\r\na=candidate:1 1 UDP 1 10.0.0.5 4000 typ host\r\na=end-of-candidates\r\n"
        b"a=fingerprint:sha-256 AA\r\na=setup:actpass\r\na=zrtp-hash:1.10 ff\r\na=key-mgmt:mikey AAAA\r\n"
        b"a=tcap:1 RTP/AVP\r\na=pcfg:1 t=1\r\na=altc:1 IP4 10.0.0.5 4000\r\na=bundle-only\r\nk=clear:secret\r\n"
    )
    head = HEAD.replace(
        b"t=0 0\r\n", b"t=0 0\r\na=group:BUNDLE 1\r\na=ice-lite\r\na=fingerprint:sha-1 BB\r\na=tool:x\r\n"
    )
    out = written(head + AUDIO[len(HEAD) :] + left_out + b"a=sendonly\r\n", Line(6000, b"RTP/SAVP", []))
    rest = out.partition(b"t=0 0\r\n")[2]
    assert rest.splitlines() == [
        b"a=tool:x", b"m=audio 6000 RTP/SAVP 0 101", b"a=rtpmap:101 telephone-event/8000", b"a=sendonly"
    ]  # fmt: skip


def test_every_address_is_ours_but_that_of_a_stream_on_hold() -> None:
    body = AUDIO + b"c=IN IP4 10.0.0.6\r\nm=text 4002 RTP/SAVP 98\r\nc=IN IP4 0.0.0.0\r\n"
    out = written(body, Line(6000, b"RTP/SAVP", []), Line(6002, b"RTP/SAVP", []), host="2001:db8::9")
    assert hosts_of(out) == [b"2001:db8::9", b"2001:db8::9", b"0.0.0.0"]
    assert out.count(b"IN IP6") == 2


def test_a_refused_stream_tells_nothing() -> None:
    out = written(AUDIO, Line(0, b"RTP/SAVP", []))
    assert out.endswith(b"m=audio 0 RTP/SAVP 0 101\r\n")


def test_of_a_setup_key_only_what_its_mac_leaves_out_changes() -> None:
    keyed = AUDIO.replace(KEY, b"1 AES_CM_128_HMAC_SHA1_80 setup:" + KID)
    keyed += b"a=rtcp:4001\r\na=rtcp-mux\r\na=candidate:1 1 UDP 1 10.0.0.5 4000 typ host\r\na=ice-ufrag:x\r\n"
    keyed += b"m=text 0 RTP/SAVP 98\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 setup:" + KID + b"\r\n"
    session = Session.parse(keyed)
    assert Stream.read(session, session.media[1]).port == 0
    out = written(keyed, Line(6000, b"RTP/SAVP"), Line(0, b"RTP/SAVP"))
    assert canonical_sdp(out) == canonical_sdp(keyed)
    assert b"10.0.0.5" not in out.replace(b"o=alice 1 1 IN IP4 10.0.0.5", b"")
    assert b"m=audio 6000 " in out


@pytest.mark.parametrize("ending", [b"\r\n", b"\n"])
def test_hosts(ending: bytes) -> None:
    body = (AUDIO + b"c=IN IP6 2001:db8::1\r\n").replace(b"\r\n", ending)
    assert hosts_of(body) == [b"10.0.0.5", b"2001:db8::1"]
    assert hosts_of(b"c=\r\nc=x\r\n\xff") == []


# The version of a description.


def version(body: bytes) -> int:
    return int(body.split(b"\r\no=")[1].split(b" ")[2])


def test_the_version_rises_with_what_changes() -> None:
    numbers = Numbering()
    first = HEAD + b"m=audio 1 RTP/SAVP 0\r\n"
    assert numbers.number(first) == first
    assert numbers.number(first) == first
    changed = HEAD + b"m=audio 2 RTP/SAVP 0\r\n"  # we have another port, and the author has changed nothing
    assert version(numbers.number(changed)) == 2
    assert (
        version(numbers.number(changed.replace(b"alice 1 1", b"alice 1 2"))) == 2
    )  # nothing has changed but its number
    assert version(numbers.number(first.replace(b"alice 1 1", b"alice 1 2"))) == 3
    assert version(numbers.number(first.replace(b"alice 1 1", b"alice 1 9"))) == 3
    assert version(numbers.number(changed.replace(b"alice 1 1", b"alice 1 9"))) == 9


def test_another_author_has_versions_of_its_own() -> None:
    numbers = Numbering()
    numbers.number(HEAD.replace(b"alice 1 1", b"alice 1 50"))
    assert version(numbers.number(HEAD.replace(b"alice 1 1", b"carol 7 3"))) == 3


def test_after_a_restart_it_is_above_all_that_was_sent() -> None:
    assert version(Numbering(1000).number(HEAD)) == 1001


@pytest.mark.parametrize(
    "origin", [b"x", b"alice 1 x IN IP4 1.2.3.4", b"alice 1 " + b"9" * 30 + b" IN IP4 1.2.3.4", b""]
)
def test_an_origin_that_can_not_be_read_stays(origin: bytes) -> None:
    body = b"v=0\r\no=" + origin + b"\r\ns=-\r\n"
    assert Numbering(5).number(body) == body
