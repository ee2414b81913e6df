"""Every limit of the codec: what is just within is taken, what is just beyond is refused as the limit says."""

import ast
from collections.abc import Callable

import pytest
from conftest import ROOT

from neighbour.aes import new_aes
from sipwire import (
    aes_cm,
    compat,
    crypto,
    digest_server,
    grammar,
    headers,
    hop,
    introduction,
    message,
    sdp,
    setup,
    slip,
    srtcp,
    srtp,
    stream,
    uri,
)
from sipwire.agreement import hop_nonce, hop_spi, parse_mechanisms
from sipwire.crypto import Crypto
from sipwire.errors import ParseError, SecurityError, StateError
from sipwire.headers import CSeq
from sipwire.message import parse
from sipwire.rtp import build_header
from sipwire.sdp import Session
from sipwire.stream import StreamParser
from torture import media_limits

OPTIONS = (
    b"OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\nFrom: <sip:a@a>;tag=1\r\nTo: <sip:b@b>\r\n"
    b"Call-ID: 1\r\nCSeq: 1 OPTIONS\r\n"
)
KEY = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
HEAD = len(OPTIONS) + len(b"X: ")


def head_of(size: int) -> bytes:
    """A message whose start line and headers have so many bytes."""
    return OPTIONS + b"X: " + b"x" * (size - HEAD) + b"\r\n\r\n"


def message_of(size: int) -> bytes:
    start = OPTIONS + b"\r\n"
    return start + bytes(size - len(start))


def headers_of(count: int) -> bytes:
    return OPTIONS + b"X: y\r\n" * (count - 5) + b"\r\n"


def streamed(data: bytes) -> None:
    parser = StreamParser()
    found = parser.receive(data)
    if parser.fault is not None:
        raise parser.fault
    assert found == [data]


def head_on_a_stream(size: int) -> None:
    length = b"\r\nContent-Length: 0\r\n\r\n"
    streamed(head_of(size - len(length) + 4)[:-4] + length)


def message_on_a_stream(size: int) -> None:
    start = b"A\r\nContent-Length: %d\r\n\r\n"
    body = size - len(start % 10000)
    streamed(start % body + bytes(body))


def length_on_a_stream(size: int) -> None:
    """One beyond the limit is malformed; within it, it is called too large."""
    try:
        streamed(b"A\r\nl: %d\r\n\r\n" % size)
    except ParseError as error:
        if error.status != 513:
            raise


def description(lines: int) -> None:
    assert Session.parse(b"v=0\r\n" + b"a=x\r\n" * (lines - 1)).lines


def crypto_line(size: int) -> None:
    start = b"1 AES_CM_128_HMAC_SHA1_80 inline:" + KEY + b" -"
    Crypto.parse(start + b"X" * (size - len(start)))


def crypto_with(text: str) -> Callable[[int], None]:
    def work(value: int) -> None:
        key, _, params = text.partition(" ")
        line = f"1 AES_CM_128_HMAC_SHA1_80 inline:{KEY.decode()}{key} {params}".strip() % value
        Crypto.parse(line.encode())

    return work


def credentials(size: int) -> None:
    value = b'Digest username="u", realm="r", uri="sip:u", response="0", nonce="%s"' % (b"n" * size)
    assert len(digest_server.parse_credentials(value).nonce) == size


def cnonce(size: int) -> None:
    value = b'Digest username="u", realm="r", uri="sip:u", response="0", nonce="n", qop=auth, nc=00000001, cnonce="%s"'
    assert digest_server.parse_credentials(value % (b"c" * size))


def spi(value: int) -> None:
    offer = b"wisp-hop;alg=hmac-sha-256-128;ealg=aes-ctr-128;spi=%d" % value
    assert hop_spi(parse_mechanisms([offer])[0]) == value


def nonce_of(size: int) -> None:
    value = compat.b64encode(bytes(size)).decode()
    hop_nonce(parse_mechanisms([f'wisp-hop;nonce="{value}"'.encode()])[0])


def frame_number(seq: int) -> None:
    keys = hop.HopKeys(bytes(16), bytes(32), bytes(14))
    sender = hop.HopSender(1, keys, new_aes, seq - 1)
    assert hop.frame_seq(sender.seal(b"x")) == seq


def forged_number(seq: int) -> None:
    """A frame of somebody who has the keys and does not keep the limit."""
    keys = hop.HopKeys(bytes(16), bytes(32), bytes(14))
    frame = bytearray(hop.HopSender(1, keys, new_aes, seq - 2).seal(b"x"))
    frame[5:9] = seq.to_bytes(4, "big")
    frame[-16:] = hop.Hmac(keys.auth).digest(frame[:-16])[:16]
    hop.HopReceiver(1, keys, new_aes).open(bytes(frame))


def rollover(roc: int) -> None:
    sender = srtp.SrtpSender(srtp.SUITES[b"AES_CM_128_HMAC_SHA1_80"], bytes(30), new_aes)
    sender.roc = roc - 1
    for seq in (65535, 0):
        packet = bytearray(12 + sender.overhead_bytes)
        build_header(packet, 0, seq, 0, 1)
        sender.protect(packet, 12)
    assert sender.roc == roc


def changes_of_source(count: int) -> None:
    suite = srtp.SUITES[b"AES_CM_128_HMAC_SHA1_80"]
    receiver = srtp.SrtpReceiver(suite, bytes(30), new_aes)
    for ssrc in range(count + 1):  # the first is no change
        sender = srtp.SrtpSender(suite, bytes(30), new_aes)
        packet = bytearray(12 + sender.overhead_bytes)
        build_header(packet, 0, 1, 0, ssrc)
        receiver.allow_source()
        receiver.unprotect(packet, sender.protect(packet, 12))


def rtcp_index(index: int) -> None:
    sender = srtcp.SrtcpSender(srtp.SUITES[b"AES_CM_128_HMAC_SHA1_80"], bytes(30), new_aes)
    sender.index = index - 1
    sender.protect(bytes(8))
    assert sender.index == index


def keystream(size: int) -> None:
    cipher = aes_cm.CounterMode(new_aes(bytes(16)), bytes(14), 64)
    cipher.apply(bytearray(size), 0, size, 0, 0, 0)


def remembered(read: Callable[[bytes], object], text: bytes) -> Callable[[int], None]:
    def work(size: int) -> None:
        read.cache_clear()  # type: ignore[attr-defined]
        read(text + b"x" * (size - len(text)))
        if not read.cache_info().currsize:  # type: ignore[attr-defined]
            raise MemoryError

    return work


Limit = tuple[str, int, Callable[[int], object], type[Exception], int]
#: Name, value, what has to work at it and not beyond, the error beyond and its status.
SETUP_KEY = b'kid=0011223344556677;seq=%%d;nonce="%s";mac="%s"' % (b"A" * 22 + b"==", b"A" * 43 + b"=")
KEY_LINE = b"sip:a@b.example " + b"A" * 43 + b"= 1 1\r\n"
LIMITS: list[Limit] = [
    ("message.MAX_MESSAGE_BYTES", message.MAX_MESSAGE_BYTES, lambda n: parse(message_of(n)), ParseError, 513),
    ("message.MAX_HEAD_BYTES", message.MAX_HEAD_BYTES, lambda n: parse(head_of(n)), ParseError, 513),
    ("message.MAX_HEADERS", message.MAX_HEADERS, lambda n: parse(headers_of(n)), ParseError, 400),
    (
        "message._MAX_FORWARDS",
        255,
        lambda n: parse(OPTIONS + b"Max-Forwards: %d\r\n\r\n" % n),
        ParseError,
        400,
    ),
    ("headers._MAX_CSEQ", headers._MAX_CSEQ, lambda n: CSeq.parse(b"%d X" % n), ParseError, 400),
    ("grammar._MAX_DIGITS", grammar._MAX_DIGITS, lambda n: grammar.parse_uint(b"0" * n, 1, "x"), ParseError, 400),
    ("stream._MAX_HEAD_BYTES", stream._MAX_HEAD_BYTES, head_on_a_stream, ParseError, 513),
    ("stream._MAX_BYTES", stream._MAX_BYTES, message_on_a_stream, ParseError, 513),
    ("stream._MAX_LENGTH", stream._MAX_LENGTH, length_on_a_stream, ParseError, 400),
    ("sdp.MAX_LINES", sdp.MAX_LINES, description, ParseError, 400),
    ("crypto._MAX_LINE_BYTES", crypto._MAX_LINE_BYTES, crypto_line, ParseError, 400),
    ("crypto._MAX_LIFETIME", crypto._MAX_LIFETIME, crypto_with("|%d"), ParseError, 400),
    ("crypto._MAX_MKI_BYTES", crypto._MAX_MKI_BYTES, crypto_with("|1:%d"), ParseError, 400),
    ("crypto._MAX_KDR", crypto._MAX_KDR, crypto_with(" KDR=%d"), ParseError, 400),
    ("crypto._MIN_WSH", -crypto._MIN_WSH, lambda n: crypto_with(" WSH=%d")(-n), ParseError, 400),
    ("digest_server._MAX_NONCE_BYTES", digest_server._MAX_NONCE_BYTES, credentials, ParseError, 400),
    ("digest_server._MAX_NONCE_BYTES", digest_server._MAX_NONCE_BYTES, cnonce, ParseError, 400),
    ("agreement._MAX_SPI", 0xFFFFFFFF, spi, ParseError, 400),
    ("agreement.HOP_NONCE_BYTES", 16, nonce_of, ParseError, 400),
    ("setup.MAX_NUMBER", setup.MAX_NUMBER, lambda n: setup.SetupKey.parse(SETUP_KEY % n), ParseError, 400),
    ("introduction.MAX_PEERS", introduction.MAX_PEERS, lambda n: introduction.read_keys(KEY_LINE * n), ParseError, 400),
    (
        "introduction.MAX_PEERS",
        introduction.MAX_PEERS,
        lambda n: introduction.read_peers([b"<sip:a@b.example>;life=1;uses=1"] * n),
        ParseError,
        400,
    ),
    ("hop.MAX_SEQ", hop.MAX_SEQ, frame_number, StateError, 0),
    ("hop.MAX_SEQ", hop.MAX_SEQ, forged_number, SecurityError, 0),
    ("srtp._MAX_INDEX", srtp._MAX_INDEX >> 16, rollover, StateError, 0),
    ("srtp._MAX_SOURCES", srtp._MAX_SOURCES, changes_of_source, SecurityError, 0),
    ("srtcp._MAX_INDEX", srtcp._MAX_INDEX, rtcp_index, StateError, 0),
    ("aes_cm.MAX_BYTES", aes_cm.MAX_BYTES, keystream, ValueError, 0),
    ("uri._LONGEST_KNOWN", uri._LONGEST_KNOWN, remembered(uri.uri_of, b"sip:"), MemoryError, 0),
    ("headers._LONGEST_KNOWN", headers._LONGEST_KNOWN, remembered(headers.address_of, b"sip:"), MemoryError, 0),
    ("headers._LONGEST_KNOWN", headers._LONGEST_KNOWN, remembered(headers.cseq_of, b"1 x"), MemoryError, 0),
    (
        "headers._LONGEST_KNOWN",
        headers._LONGEST_KNOWN,
        remembered(headers._sender_of, b"SIP/2.0/UDP x"),
        MemoryError,
        0,
    ),
]


def on_a_line(data: bytes) -> None:
    """Raises where a packet on a serial line is dropped."""
    decoder = slip.SlipDecoder()
    decoder.receive(data)
    if decoder.bad:
        raise ValueError("dropped")


LIMITS += media_limits.LIMITS
LIMITS += [
    (
        "slip.MAX_DATAGRAM_BYTES",
        slip.MAX_DATAGRAM_BYTES,
        lambda n: on_a_line(slip.encode(40000, bytes(n))),
        ValueError,
        0,
    ),
    ("slip._MAX_RAW_BYTES", slip._MAX_RAW_BYTES, lambda n: on_a_line(b"\xc0\x9c\x40" + bytes(n - 2)), ValueError, 0),
]
#: How much is remembered at most, by whoever remembers it.
KNOWN = [
    ("uri._MAX_KNOWN", uri._MAX_KNOWN, uri.uri_of, b"sip:%d"),
    ("headers._MAX_KNOWN", headers._MAX_KNOWN, headers.address_of, b"sip:%d"),
    ("headers._MAX_KNOWN", headers._MAX_KNOWN, headers.cseq_of, b"%d X"),
    ("headers._MAX_KNOWN", headers._MAX_KNOWN, headers._sender_of, b"SIP/2.0/UDP %d"),
    ("message._MAX_KNOWN", message._MAX_KNOWN, message._key_of, b"X-%d"),
]


@pytest.mark.parametrize(("name", "limit", "work", "error", "status"), LIMITS, ids=[one[0] for one in LIMITS])
def test_limit(name: str, limit: int, work: Callable[[int], object], error: type[Exception], status: int) -> None:
    work(limit)
    with pytest.raises(error) as caught:
        work(limit + 1)
    if isinstance(caught.value, ParseError):
        assert caught.value.status == status
        if status == 513:
            assert caught.value.reason.startswith("too large")


@pytest.mark.parametrize(("name", "limit", "read", "text"), KNOWN, ids=[one[0] for one in KNOWN])
def test_what_is_remembered_is_bounded(name: str, limit: int, read: Callable[[bytes], object], text: bytes) -> None:
    for i in range(limit + 100):
        read(text % i)
    assert read.cache_info().currsize == limit, name  # type: ignore[attr-defined]


def test_every_limit_is_tested() -> None:
    """A constant that is called a limit stands above."""
    found = set()
    for path in sorted((ROOT / "shared" / "sipwire").glob("*.py")):
        for node in ast.parse(path.read_text()).body:
            targets = node.targets if isinstance(node, ast.Assign) else []
            for target in targets:
                if isinstance(target, ast.Name) and target.id.lstrip("_").startswith(("MAX_", "MIN_", "LONGEST_")):
                    found.add(f"{path.stem}.{target.id}")
    assert found == ({one[0] for one in LIMITS} | {one[0] for one in KNOWN}) - {"agreement.HOP_NONCE_BYTES"}


def test_everybody_who_remembers_is_tested() -> None:
    found = set()
    for path in sorted((ROOT / "shared" / "sipwire").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef) and any("cached" in ast.unparse(one) for one in node.decorator_list):
                found.add(f"{path.stem}.{node.name}")
    assert found == {f"{read.__module__.rpartition('.')[2]}.{read.__name__}" for _, _, read, _ in KNOWN}
