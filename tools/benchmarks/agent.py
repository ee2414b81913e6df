"""The security agent: what sealing and opening costs, beside the bare operations of OpenSSL that are in it.

    seal    sign (P-256), a key for one message, ECDH with the recipient's, AES-128-GCM
    open    ECDH with the message's key, AES-128-GCM, verify; with an uncached chain its two signatures as well

Then whole calls between two neighbours at each level, where both have all of their other work to do, too.
"""

import contextlib
import io
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from rich.console import Console

from benchmarks.calls import calls
from benchmarks.report import Cell, at_most, median, show
from lab.lab import Lab
from neighbour.agent.certificates import Certificates
from neighbour.agent.cms import certificates as facts_of
from neighbour.agent.cms.enveloped import decrypt, encrypt
from neighbour.agent.cms.signed import sign, verify
from neighbour.agent.freshness import Freshness
from neighbour.agent.mime import Entity, of_message
from neighbour.agent.path import Paths
from neighbour.agent.policy import HEAVY, Wish
from neighbour.agent.recipients import Recipients
from neighbour.agent.refresh import read_roots
from neighbour.agent.revocation import Crl, Revocation
from neighbour.agent.security import SecurityAgent
from neighbour.agent.trust import Trust
from neighbour.config import Config, load
from neighbour.metrics import Metrics
from neighbour.transport.flow import Flow
from sipwire.message import Request, parse

__all__ = ["run"]

_A, _B = "a.example", "b.example"
_LEVELS = ("medium", "heavy")
_GOAL = 1.6  # times the bare operations, with a warm cache
_WARM = 50  # messages before it counts
_BATCH = 10  # messages that are made, and then worked on
_CHAIN = 2  # signatures of an uncached chain: of the leaf and of the intermediate
_MOST_RUNS = 3  # of calls
_OPERATIONS = ("sign", "verify", "encrypt", "decrypt")
_TEXTS = {
    "sign": "sign",
    "encrypt": "encrypt",
    "decrypt": "decrypt",
    "verify": "verify",
    "seal": "seal an INVITE",
    "open": "open it",
    "both": "seal and open it",
    "unknown": "open it, chain not cached",
}
_INVITE = (
    b"INVITE sip:bob@b.example SIP/2.0\r\n"
    b"Via: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK4f3a9c1d2e5b6071;rport\r\n"
    b"Max-Forwards: 70\r\n"
    b'From: "Alice" <sip:alice@a.example>;tag=8d1f03aa\r\n'
    b"To: <sip:bob@b.example>\r\n"
    b"Call-ID: 5a1c3e7f90b2d4e6-%d\r\n"
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


class _Trunk(Flow):
    """A trunk by mutual TLS to a domain, which is not there.

    Args:
        domain: its name.
        certificates: what it shows.
    """

    __slots__ = ("_certificates", "_domain")
    protection = "tls"

    def __init__(self, domain: str, certificates: tuple[x509.Certificate, ...]) -> None:
        self._domain = domain
        self._certificates = certificates

    def send(self, data: bytes) -> None:
        raise AssertionError("nothing is sent")

    @property
    def identities(self) -> frozenset[str]:
        return frozenset({self._domain})

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        return self._certificates


@dataclass
class _Side:
    """A domain's agent, as its neighbour makes it."""

    certificates: Certificates
    paths: Paths
    agent: SecurityAgent

    def trunk(self, domain: str) -> _Trunk:
        """The trunk that leads to it, or from it."""
        own = self.certificates.domain
        return _Trunk(domain, (own.certificate, *own.chain))


async def _nobody(aor: bytes, flow: Flow) -> tuple[x509.Certificate, ...]:
    del aor, flow
    return ()


def _side(config: Config) -> _Side:
    with contextlib.redirect_stdout(io.StringIO()):  # it tells what it makes
        certificates = Certificates(config)
    paths = Paths(read_roots(config), Revocation(), Crl())
    trust = Trust(paths, {})
    recipients = Recipients(certificates, trust, _nobody)
    agent = SecurityAgent(config, certificates, trust, recipients, Freshness(time.time), Metrics(), time.time)
    return _Side(certificates, paths, agent)


class _Bench:
    """Two agents that talk to each other."""

    def __init__(self, lab: Lab) -> None:
        for domain in lab.make_domains(_A, _B):
            lab.change(domain, '# level = "medium"', 'level = "heavy"')
        self.ours, self.theirs = (_side(load(lab.configuration(domain))) for domain in (_A, _B))
        self._to_b, self._from_a = self.theirs.trunk(_B), self.ours.trunk(_A)
        self._wish = Wish(level=HEAVY)
        self._number = 0

    def invites(self, count: int) -> list[Request]:
        """Requests that differ, read already."""
        found = []
        for _ in range(count):
            self._number += 1
            message = parse(_INVITE % self._number)
            assert isinstance(message, Request)
            found.append(message)
        return found

    def seal(self, request: Request) -> Request:
        """Seal one; what has to be waited for does not happen with a warm cache."""
        sealing = self.ours.agent.seal_request(request, self._wish, None, self._to_b, _B)
        try:
            sealing.send(None)
        except StopIteration as done:
            sealed: Request = done.value[0]
            return sealed
        raise AssertionError("it waits for something")

    def open(self, request: Request) -> None:
        """Open one; it is changed."""
        received = self.theirs.agent.open_request(request, None, "bob", self._from_a, _A)
        assert received.status.level == HEAVY

    def sealed(self, count: int) -> list[Request]:
        """Sealed requests as they come over a trunk."""
        found = []
        for one in self.invites(count):
            message = parse(self.seal(one).serialize())
            assert isinstance(message, Request)
            found.append(message)
        return found

    def open_unknown(self, request: Request) -> None:
        """Open one of somebody whose certificates were never seen."""
        self.theirs.paths.replace()
        facts_of.load_certificate.cache_clear()
        facts_of.facts.cache_clear()  # type: ignore[attr-defined]
        self.open(request)


# The bare operations.


@dataclass(frozen=True)
class _Bare:
    """Operations of OpenSSL by `cryptography`, and nothing around them; each returns nothing of use.

    Attributes:
        sign, verify: P-256 with SHA-256.
        encrypt: a key for one message, ECDH, AES-128-GCM.
        decrypt: ECDH with a key that came as bytes, AES-128-GCM.
    """

    sign: Callable[[], object]
    verify: Callable[[], object]
    encrypt: Callable[[], object]
    decrypt: Callable[[], object]


def _bare(signed: bytes, content: bytes) -> _Bare:
    """Operations on as many bytes as an INVITE has.

    Args:
        signed: what is signed.
        content: what is encrypted.
    """
    curve, ecdh, ecdsa = ec.SECP256R1(), ec.ECDH(), ec.ECDSA(hashes.SHA256())
    key, ephemeral = ec.generate_private_key(curve), ec.generate_private_key(curve)
    public = key.public_key()
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    signature = key.sign(signed, ecdsa)
    nonce, secret = os.urandom(12), os.urandom(16)
    ciphertext = AESGCM(secret).encrypt(nonce, content, None)

    def wrap() -> None:
        made = ec.generate_private_key(curve)
        made.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
        made.exchange(ecdh, public)
        AESGCM(secret).encrypt(nonce, content, None)

    def unwrap() -> None:
        key.exchange(ecdh, ec.EllipticCurvePublicKey.from_encoded_point(curve, point))
        AESGCM(secret).decrypt(nonce, ciphertext, None)

    return _Bare(lambda: key.sign(signed, ecdsa), lambda: public.verify(signature, signed, ecdsa), wrap, unwrap)


# Timing.


def _time(work: Callable[[], object], count: int) -> float:
    """Microseconds of processor time of one of so many."""
    before = time.thread_time_ns()
    for _ in range(count):
        work()
    return (time.thread_time_ns() - before) / count / 1000


def _time_each(work: Callable[[Request], object], make: Callable[[int], list[Request]], count: int) -> float:
    """The same, of what is done to each of some requests, which have just been made, as they have just come."""
    taken = 0.0
    for _ in range(0, count, _BATCH):
        left = iter(make(_BATCH))
        taken += _time(lambda left=left: work(next(left)), _BATCH) * _BATCH  # type: ignore[misc]
    return taken / count


def _parts(bench: _Bench) -> dict[str, Callable[[], object]]:
    """The operations of CMS by themselves, on what an INVITE has."""
    [request] = bench.sealed(1)
    ours, theirs = bench.ours.certificates, bench.theirs.certificates
    data = of_message(request).content()
    content = decrypt(data, theirs.find)
    signed, signature = Entity.parse(content).parts()
    at = datetime.now(UTC)
    return {
        "sign": lambda: sign(signed.raw, ours.domain, detached=True, at=at),
        "encrypt": lambda: encrypt(content, [theirs.domain.certificate]),
        "decrypt": lambda: decrypt(data, theirs.find),
        "verify": lambda: verify(signature.body, signed.raw),
        "": lambda: (signed.raw, content),
    }


def _costs(console: Console, count: int, repeats: int) -> None:
    """What sealing and opening costs."""
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name, Lab(Path(name)) as lab:
        bench = _Bench(lab)
        for one in bench.sealed(_WARM):
            bench.open(one)
        parts = _parts(bench)
        bare = _bare(*parts.pop("")())  # type: ignore[misc]
        found: dict[str, list[float]] = {}

        def note(what: str, value: float) -> None:
            found.setdefault(what, []).append(value)

        for _ in range(repeats):
            for what, work in parts.items():
                note(what, _time(work, count))
            note("seal", _time_each(bench.seal, bench.invites, count))
            note("open", _time_each(bench.open, bench.sealed, count))
            note("unknown", _time_each(bench.open_unknown, bench.sealed, count))
            for what in ("sign", "encrypt", "decrypt", "verify"):
                note(f"bare {what}", _time(getattr(bare, what), count))
    figures = {what: median(values) for what, values in found.items()}
    below = {what: figures[f"bare {what}"] for what in parts}
    below["seal"] = below["sign"] + below["encrypt"]
    below["open"] = below["decrypt"] + below["verify"]
    below["unknown"] = below["open"] + _CHAIN * below["verify"]
    figures["both"], below["both"] = figures["seal"] + figures["open"], below["seal"] + below["open"]
    rows: list[list[Cell | str]] = []
    for what, text in _TEXTS.items():
        times = figures[what] / below[what]
        cell = at_most(times, _GOAL, "{:.2f}") if what == "both" else f"{times:.2f}"
        rows.append([text, f"{figures[what]:.0f} us", f"{below[what]:.0f} us", cell])
    title = f"The security agent, an INVITE of {len(_INVITE)} bytes (CPU time, medians of {repeats} times {count})"
    show(console, title, ["", "time", "bare operations", "ratio"], rows)


# Calls.


def _calls(console: Console, count: int, repeats: int) -> None:
    """What calls cost two neighbours at each level."""
    rows: list[list[Cell | str]] = []
    for level in _LEVELS:
        runs = [calls(level, count) for _ in range(repeats)]
        for sides in zip(*runs, strict=True):
            cpu_s = median([one.cpu_s for one in sides])
            operations = [f"{sides[0].operations.get(name, 0.0):.2f}" for name in _OPERATIONS]
            rows.append(
                [
                    f"{level}, {sides[0].domain}",
                    f"{cpu_s * 1000:.2f} ms",
                    f"{1 / cpu_s:.0f}" if cpu_s else "not measurable",
                    *operations,
                ]
            )
    title = (
        "Calls between two neighbours, and the asymmetric operations of each call "
        f"(INVITE, 180, 200, ACK, BYE, 200; medians of {repeats} times {count})"
    )
    columns = ["level, whose", "CPU time", "calls a CPU second", *_OPERATIONS]
    show(console, title, columns, rows)


def run(console: Console, count: int, repeats: int, calls_of_a_run: int) -> None:
    """Measure.

    Args:
        console: where to print.
        count: how many messages each figure is of.
        repeats: how often each is measured.
        calls_of_a_run: how many calls between neighbours.

    Raises:
        LabError: a call did not go well.
    """
    _costs(console, count, repeats)
    _calls(console, calls_of_a_run, min(repeats, _MOST_RUNS))
