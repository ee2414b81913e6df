"""The security agent: what sealing and opening costs, beside the bare operations of OpenSSL that are in it.

    seal    sign (P-256), a key for one message, ECDH with the recipient's, AES-128-GCM
    open    ECDH with the message's key, AES-128-GCM, verify; with an uncached chain its two signatures as well

Then whole calls between two neighbours at each level, where both have all of their other work to do, too.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable, Iterator
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

    @property
    def trunk(self) -> _Trunk:
        """The trunk that leads to it."""
        own = self.certificates.domain
        return _Trunk(_B, (own.certificate, *own.chain))


async def _nobody(aor: bytes, flow: Flow) -> tuple[x509.Certificate, ...]:
    del aor, flow
    return ()


def _side(config: Config) -> _Side:
    certificates = Certificates(config)
    paths = Paths(read_roots(config), Revocation(), Crl())
    trust = Trust(paths, {})
    recipients = Recipients(certificates, trust, _nobody)
    agent = SecurityAgent(
        config, certificates, trust, recipients, Freshness(time.time), Metrics(), time.time
    )
    return _Side(certificates, paths, agent)


class _Bench:
    """Two agents that talk to each other."""

    def __init__(self, lab: Lab) -> None:
        for domain in lab.make_domains(_A, _B):
            lab.change(domain, '# level = "medium"', 'level = "heavy"')
        self.ours, self.theirs = (_side(load(lab.configuration(domain))) for domain in (_A, _B))
        own = self.ours.certificates.domain
        self._to_b, self._from_a = self.theirs.trunk, _Trunk(_A, (own.certificate, *own.chain))
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
        facts_of.facts.cache_clear()
        self.open(request)


# The bare operations.


@dataclass(frozen=True)
class _Bare:
    """Operations of OpenSSL by `cryptography`, and nothing around them; each returns nothing of use.

    Attributes:
        sign, verify: P-256 with SHA-256.
        wrap: a key for one message, ECDH, AES-128-GCM.
        unwrap: ECDH with a key that came as bytes, AES-128-GCM.
    """

    sign: Callable[[], object]
    verify: Callable[[], object]
    wrap: Callable[[], object]
    unwrap: Callable[[], object]


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


def _time_each(work: Callable[[Request], object], made: list[Request]) -> float:
    """The same, of what is done to each of some requests."""
    left = iter(made)
    return _time(lambda: work(next(left)), len(made))


