"""The longest inputs that are taken, made to cost as much as they can: none takes more than 50 ms.

Processor time, the best of three: how busy the machine is does not matter. Each of these once took longer, or would if
it were read in the obvious way.
"""

import time
from collections.abc import Callable

import pytest

from fuzzing.harnesses import LIMIT_MS
from sipwire.answer import make_answer
from sipwire.digest import Challenge
from sipwire.digest_server import parse_credentials
from sipwire.errors import ParseError
from sipwire.message import MAX_HEAD_BYTES, MAX_MESSAGE_BYTES, parse
from sipwire.offer import accept_answer, make_offer
from sipwire.sdp import Session
from sipwire.stream import StreamParser
from sipwire.streams import Speaks
from sipwire.uri import Uri

CHUNK = 64 << 10  # of a stream
HEAD = (
    b"INVITE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nMax-Forwards: 70\r\nTo: <sip:b@b>\r\n"
    b"From: <sip:a@a>;tag=1\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n"
)
KEY = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
CRYPTO = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY + b"\r\n"
SUITE = b"AES_CM_128_HMAC_SHA1_80"
SPEAKS = Speaks(4000, [0, 8], [SUITE], lambda _: bytes(30), 4002, events=True, mux=True)
AUDIO = Speaks(4000, [0, 8], [SUITE], lambda _: bytes(30), events=True, mux=True)


def filled(start: bytes, piece: bytes, end: bytes, size: int) -> bytes:
    """``start``, ``piece`` as often as there is room, ``end``."""
    return start + piece * ((size - len(start) - len(end)) // len(piece)) + end


def header(start: bytes, piece: bytes, end: bytes = b"") -> bytes:
    """A message with one header, as long as a head may be."""
    return filled(HEAD + start, piece, end, MAX_HEAD_BYTES - 1) + b"\r\n\r\n"


def too_long(piece: bytes) -> bytes:
    """A datagram that is all head: refused, but read far enough to be answered."""
    return filled(HEAD + b"X: ", piece, b"\r\n\r\n", MAX_MESSAGE_BYTES)


def addresses(data: bytes) -> None:
    assert parse(data).addresses("contact")


def answer_to(data: bytes) -> None:
    make_answer(SPEAKS, Session.parse(data), b"192.0.2.1", 1)


def answer_to_text(data: bytes) -> None:
    with pytest.raises(ParseError, match="no codec"):
        answer_to(data)


def answer_of(data: bytes) -> None:
    accept_answer(AUDIO, make_offer(AUDIO, b"192.0.2.1", 1), Session.parse(data))


def refused(data: bytes) -> None:
    """Refused, and answered with no more than it took."""
    with pytest.raises(ParseError) as caught:
        parse(data)
    request = caught.value.request
    if request is not None:
        answer = request.refusal(caught.value, b"t")
        assert answer is None or len(answer.serialize()) < MAX_HEAD_BYTES + 100


def no_uri(data: bytes) -> None:
    with pytest.raises(ParseError):
        Uri.parse(data)


def no_credentials(data: bytes) -> None:
    with pytest.raises(ParseError):
        parse_credentials(data)


def streamed(data: bytes) -> None:
    assert len(StreamParser().receive(data)) > 6000


def trickled(data: bytes) -> None:
    """A message that comes in small pieces costs no more than its size."""
    parser = StreamParser()
    for i in range(0, len(data), 16):
        parser.receive(data[i : i + 16])
    assert parser.pending_bytes == len(data)


def description(formats: bytes, lines: bytes) -> bytes:
    start = b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 1 RTP/SAVP"
    end = b"\r\n" + CRYPTO + lines * 190
    return filled(start, formats, end, MAX_MESSAGE_BYTES)


WORST: list[tuple[str, Callable[[bytes], object], bytes]] = [
    ("folds", parse, header(b"X: ", b"\r\n ")),
    ("folds beyond all limits", refused, too_long(b"\r\n ")),
    ("headers beyond all limits", refused, too_long(b"\r\nX:")),
    ("vias beyond all limits", refused, too_long(b"\r\nv:a")),
    ("empty lines", refused, b"\r\n" * (MAX_MESSAGE_BYTES // 2)),
    ("colons", refused, b":" * MAX_MESSAGE_BYTES),
    ("contacts", addresses, header(b"Contact: ", b"<a:b>,", b"<a:b>")),
    ("quotes", addresses, header(b'Contact: "', b'\\"', b'"<sip:a@b>')),
    ("backslashes", addresses, header(b'Contact: "', b"\\\\", b'"<sip:a@b>')),
    ("quoted strings", addresses, header(b"Contact: <sip:a@b>", b';a="b"')),
    ("parameters", addresses, header(b"Contact: <sip:a@b>", b";a")),
    ("brackets without end", parse, header(b"Contact: ", b"<")),
    ("vias", parse, header(b"Via: ", b"SIP/2.0/UDP a,", b"SIP/2.0/UDP a")),
    ("vias of quotes", parse, header(b"Via: ", b'SIP/2.0/UDP a;b="c",', b"SIP/2.0/UDP a")),
    ("escapes", Uri.parse, filled(b"sip:", b"%41", b"@b", MAX_HEAD_BYTES)),
    ("escapes to keep", lambda data: Uri.parse(data).aor(), filled(b"sip:", b"%40", b"@b", MAX_HEAD_BYTES)),
    ("colons in brackets", no_uri, filled(b"sip:[", b"1:", b"]", MAX_HEAD_BYTES)),
    ("challenge", Challenge.parse, filled(b"Digest realm=a, nonce=b", b", c=d", b"", MAX_HEAD_BYTES)),
    ("credentials", no_credentials, filled(b"Digest a=b", b", a=b", b"", MAX_HEAD_BYTES)),
    ("pings", streamed, b"\r\n" * (CHUNK // 2)),
    ("smallest messages", streamed, b"X\r\nl:0\r\n\r\n" * (CHUNK // 10)),
    ("a trickle of head", trickled, HEAD + b"X: " + b"x" * MAX_HEAD_BYTES),
    ("a trickle of body", trickled, b"A\r\nl: 65000\r\n\r\n" + bytes(60000)),
    ("formats", answer_to, description(b" 0", b"a=rtpmap:1 X\r\n")),
    ("formats of an answer", answer_of, description(b" 0", b"a=rtpmap:1 X\r\n")),
    ("formats of text", answer_to_text, description(b" 98", b"a=fmtp:98 98/98/98\r\n").replace(b"m=audio", b"m=text")),
    ("keys", answer_to, filled(b"v=0\r\nc=IN IP4 192.0.2.1\r\nm=audio 1 RTP/SAVP 0\r\n", b"a=crypto:x\r\n", CRYPTO, 2200)),
    ("media", answer_to, filled(b"v=0\r\nc=IN IP4 192.0.2.1\r\n", b"m=audio 1 RTP/SAVP 3\r\n" + CRYPTO, b"m=audio 1 RTP/SAVP 0\r\n" + CRYPTO, 9000)),
]  # fmt: skip


@pytest.mark.parametrize(("name", "work", "data"), WORST, ids=[one[0] for one in WORST])
def test_worst(name: str, work: Callable[[bytes], object], data: bytes) -> None:
    taken = []
    for _ in range(3):
        before = time.thread_time()
        work(data)
        taken.append(1000 * (time.thread_time() - before))
    assert min(taken) < LIMIT_MS, f"{name}: {min(taken):.0f} ms"
