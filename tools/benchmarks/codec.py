"""The codec on CPython: what one INVITE costs to read and to forward."""

import timeit

from rich.console import Console

from benchmarks.report import Cell, median, show
from sipwire.editing import set_via, set_via_param
from sipwire.message import Request, parse

__all__ = ["run"]

_INVITE = (
    b"INVITE sip:bob@b.example SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK4f3a9c1d2e5b6071;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice" <sip:alice@a.example>;tag=8d1f03aa\r\n'
    b"To: <sip:bob@b.example>\r\n"
    b"Call-ID: 5a1c3e7f90b2d4e6\r\n"
    b"CSeq: 1 INVITE\r\n"
    b"Contact: <sip:alice@192.0.2.10:5060>\r\n"
    b"Allow: INVITE, ACK, CANCEL, BYE, OPTIONS\r\n"
    b"User-Agent: wisp\r\n"
    b"Content-Type: application/sdp\r\n"
    b"Content-Length: 302\r\n"
    b"\r\n"
    b"v=0\r\no=- 3921467810 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n"
    b"a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n"
    b"a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n"
)
_ROUNDS = 5000


def _forward() -> bytes:
    """What a proxy does to a request at the least: source noted, one hop less, its own Via and Record-Route on top."""
    request = parse(_INVITE)
    assert isinstance(request, Request)
    via = request.via
    set_via_param(via, b"received", b"192.0.2.10")
    set_via_param(via, b"rport", b"5060")
    set_via(request, via)
    request.set("Max-Forwards", b"%d" % ((request.uint("max-forwards", 255) or 0) - 1))
    request.insert("Record-Route", b"<sip:a.example;lr>")
    request.insert("Via", b"SIP/2.0/TLS a.example;branch=z9hG4bK0011223344556677")
    return request.serialize()


def run(console: Console, repeats: int) -> None:
    """Time it."""
    rows: list[list[Cell | str]] = []
    floor = median(timeit.repeat(lambda: _INVITE.split(b"\r\n"), number=_ROUNDS, repeat=repeats)) / _ROUNDS * 1e6
    for name, work in (("parse and check", lambda: parse(_INVITE)), ("parse and forward", _forward)):
        value = median(timeit.repeat(work, number=_ROUNDS, repeat=repeats)) / _ROUNDS * 1e6
        rows.append([name, f"{value:.1f} us", f"{floor:.2f} us", f"{value / floor:.0f}"])
    title = f"sipwire on CPython, an INVITE of {len(_INVITE)} bytes (medians of {repeats})"
    show(console, title, ["", "time", "splitting its lines", "ratio"], rows)
