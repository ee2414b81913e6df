"""Whatever bytes come: the codec answers with its own errors only, and loses nothing of what it read.

A few hundred examples by default; ``WISP_FUZZ=100000 tools/test -k fuzz`` takes that many.
"""

import os
from collections.abc import Callable

import pytest
from conftest import ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torture.messages import damaged, octets

from neighbour.aes import new_aes
from sipwire.agreement import parse_mechanisms
from sipwire.answer import make_answer
from sipwire.crypto import Crypto
from sipwire.digest import Challenge
from sipwire.digest_server import parse_credentials
from sipwire.errors import ParseError, SecurityError, SipError
from sipwire.headers import Address, CSeq, Via
from sipwire.hop import HopReceiver, HopSender, derive_keys
from sipwire.message import Request, Response, parse
from sipwire.offer import accept_answer, make_offer
from sipwire.sdp import Session
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from sipwire.stream import PONG, StreamParser
from sipwire.streams import Speaks
from sipwire.uri import Uri

VECTORS = ROOT / "tests" / "vectors"
MESSAGES = [path.read_bytes() for path in sorted(VECTORS.glob("rfc*/**/*.*"))]
MESSAGES = [data for data in MESSAGES if b"SIP/2.0" in data]
LINES = sorted({line for data in MESSAGES for line in data.split(b"\r\n")[1:] if b":" in line})
VALUES = [line.partition(b":")[2].strip() for line in LINES]
SDP = sorted({data.partition(b"\r\n\r\n")[2] for data in MESSAGES if b"\r\n\r\nv=0" in data})
settings.register_profile(
    "wisp",
    max_examples=int(os.environ.get("WISP_FUZZ", "300")),
    deadline=None,
    derandomize="WISP_FUZZ" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    database=None,
)
settings.load_profile("wisp")


def assert_status(error: ParseError) -> None:
    assert 400 <= error.status < 600


def test_there_is_something_to_damage() -> None:
    assert len(MESSAGES) > 100
    assert len(SDP) > 3
    assert len(VALUES) > 300


@given(damaged(MESSAGES))
def test_messages(data: bytes) -> None:
    try:
        message = parse(data)
    except ParseError as error:
        assert_status(error)
        if error.request is not None:
            try:
                answer = error.request.response(error.status, error.reason, b"tag")
                answer.check()
            except ParseError:
                return  # not enough of it to be answered
            assert isinstance(parse(answer.serialize()), Response)
        return
    again = parse(message.serialize())
    assert type(again) is type(message)
    assert again.fields == message.fields
    assert again.body == message.body
    assert again.serialize() == message.serialize()
    # What was checked can be used.
    assert message.via.branch is not None
    assert message.cseq.method
    if isinstance(message, Request):
        assert isinstance(parse(message.response(200, "OK", b"x").serialize()), Response)


@given(st.lists(damaged(MESSAGES), max_size=4), st.lists(st.integers(1, 200), min_size=1, max_size=20))
def test_streams(messages: list[bytes], sizes: list[int]) -> None:
    """However a stream is cut, the same comes out, and never more than went in."""
    data = b"".join(messages)

    def read(cut: list[bytes]) -> tuple[list[bytes], str]:
        stream = StreamParser()
        # A ping that comes in halves is told as a pong first.
        found = [item for part in cut for item in stream.receive(part) if item != PONG]
        assert stream.pending_bytes <= len(data)
        return found, stream.fault.reason if stream.fault else ""

    cut, at = [], 0
    for size in sizes * (len(data) // sum(sizes) + 1):
        cut.append(data[at : at + size])
        at += size
    found = read([data])
    assert read(cut) == found
    assert sum(map(len, found[0])) <= len(data)


def inverse(serialize: Callable[..., bytes], read: Callable[[bytes], object], value: object) -> None:
    written = serialize(value)
    assert serialize(read(written)) == written


@pytest.mark.parametrize(
    ("read", "has_inverse"),
    [
        (Address.parse, True),
        (Via.parse, True),
        (CSeq.parse, False),
        (Uri.parse, True),
        (Challenge.parse, False),
        (parse_credentials, True),
        (lambda value: parse_mechanisms([value]), False),
        (Crypto.parse, True),
    ],
    ids=["Address", "Via", "CSeq", "Uri", "Challenge", "Credentials", "mechanisms", "Crypto"],
)
@given(data=st.data())
def test_values(read: Callable[[bytes], object], has_inverse: bool, data: st.DataObject) -> None:
    value = data.draw(damaged(VALUES))
    try:
        found = read(value)
    except SipError:
        return
    if has_inverse:
        inverse(lambda one: one.serialize(), read, found)


@given(damaged(SDP))
def test_descriptions(body: bytes) -> None:
    try:
        session = Session.parse(body)
        assert Session.parse(session.serialize()).serialize() == session.serialize()
        speaks = Speaks(4000, [0, 8], [b"AES_CM_128_HMAC_SHA1_80"], lambda _: bytes(30), 4002, events=True, mux=True)
        answer, _ = make_answer(speaks, session, b"192.0.2.1", 1)
        assert len(answer.media) == len(session.media)
        accept_answer(speaks, make_offer(speaks, b"192.0.2.1", 1), session)
    except ParseError as error:
        assert_status(error)


@given(damaged([b"REGISTER sip:a.example SIP/2.0\r\n\r\n", bytes(200)]), st.data())
def test_frames(message: bytes, data: st.DataObject) -> None:
    """A frame opens as it was sealed, once; one that was changed anywhere does not open."""
    keys, _ = derive_keys(b"0" * 64, b"alice", b"a.example", b"n" * 16, b"m" * 16, b"client", b"server")
    sender, receiver = HopSender(7, keys, new_aes), HopReceiver(7, keys, new_aes)
    frame = sender.seal(message)
    changed = data.draw(damaged([frame]))
    if changed != frame:
        with pytest.raises((SecurityError, ParseError)):
            receiver.open(changed)
    assert receiver.open(frame) == message
    with pytest.raises(SecurityError):
        receiver.open(frame)


@given(octets(200), st.data())
def test_media(payload: bytes, data: st.DataObject) -> None:
    suite = SUITES[b"AES_CM_128_HMAC_SHA1_80"]
    sender, receiver = SrtpSender(suite, bytes(30), new_aes), SrtpReceiver(suite, bytes(30), new_aes)
    packet = bytearray(b"\x80\0\0\1" + bytes(4) + b"ssrc" + payload + bytes(10))
    size = sender.protect(packet, 12 + len(payload))
    good = bytes(packet[:size])
    changed = bytearray(data.draw(damaged([good])))
    if changed != good:
        with pytest.raises((SecurityError, ParseError)):
            receiver.unprotect(changed, len(changed))
    again = bytearray(good)
    assert receiver.unprotect(again, size) == 12 + len(payload)
    assert again[12 : 12 + len(payload)] == payload
