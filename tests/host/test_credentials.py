"""The credential service between two neighbours, over TLS as it is; and bodies that were changed on their way."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from sip import Domain, run

from lab.lab import Lab
from neighbour.agent import credentials
from neighbour.agent.authority import Authority
from neighbour.agent.credentials import CredentialService
from neighbour.agent.smime import certificates_entity
from neighbour.transport.flow import Flow
from sipwire.message import Request
from sipwire.uri import Uri

BOB = b"sip:bob@b.example"
_MUTATIONS = 4000  # of each kind of body; the long run of them is elsewhere


def service(at: Domain) -> CredentialService:
    proxy, neighbour = at.neighbour._proxy, at.neighbour
    if proxy._credentials is None:
        certificates = proxy._agent._certificates
        parts = (neighbour._accounts, neighbour._transactions, proxy._resolver, neighbour._trunks)
        proxy._credentials = CredentialService(neighbour._config, certificates, *parts)
    return proxy._credentials


@contextlib.asynccontextmanager
async def two(folder: Path) -> AsyncIterator[tuple[Domain, Domain]]:
    """Two neighbours that know each other; whichever is asked, the other asks back for its NOTIFY."""
    lab = Lab(folder)
    addresses = lab.make_domains("a.example", "b.example")
    both = [Domain(lab, name, address) for name, address in addresses.items()]
    async with contextlib.AsyncExitStack() as stack:
        for one in both:
            lab.change(one.name, 'level = "debug"', 'level = "error"')
            await one.start()
            stack.push_async_callback(one.stop)
        yield both[0], both[1]


async def trunk(at: Domain, to: str) -> Flow:
    targets = await at.neighbour._proxy._resolver.locate(Uri(to.encode()))
    return await at.neighbour._trunks.flow(targets[0])


def test_two_neighbours_fetch_from_each_other(tmp_path: Path) -> None:
    async def work() -> None:
        async with two(tmp_path) as (a, b):
            await b.add("bob")
            for at in (a, b):
                service(at)
            flow = await trunk(a, "b.example")
            published = b.neighbour._proxy._agent._certificates.published("bob")
            assert len(published) == 2
            for aor in (BOB, b"sip:b.example"):
                assert await service(a).fetch(aor, flow) == published
            assert await service(a).fetch(b"sip:nobody@b.example", flow) == ()
            found = await service(b).fetch(b"sip:a.example", await trunk(b, "a.example"))
            assert found == a.neighbour._proxy._agent._certificates.published("")
            many = await asyncio.gather(*(service(a).fetch(BOB, flow) for _ in range(3)))
            assert many == [published] * 3
            for at in (a, b):
                assert not service(at)._fetches
                assert not len(service(at))

    run(work)


# Bodies.


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> tuple[x509.Certificate, ...]:
    """A certificate and its chain."""
    authority = Authority(tmp_path_factory.mktemp("pki") / "ca")
    authority.create("Test")
    made = authority.issue_domain("b.example")
    return made.certificate, *made.chain


def notification(kind: bytes, body: bytes) -> Request:
    made = Request("NOTIFY", b"sip:a.example")
    made.set_body(kind, body)
    return made


def mutated(data: bytes, chance: random.Random) -> bytes:
    """With some bytes changed, cut, repeated or put elsewhere."""
    out = bytearray(data)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(out) or 1)
        kind = chance.randrange(5)
        if kind == 0 and out:
            out[at] ^= 1 << chance.randrange(8)
        elif kind == 1 and out:
            out[at] = chance.choice((0x00, 0x30, 0x31, 0x80, 0x84, 0xA0, 0xFF))
        elif kind == 2:
            del out[at : at + chance.randint(1, 40)]
        elif kind == 3:
            out[at:at] = out[at : at + chance.randint(1, 40)]
        else:
            end = at + chance.randint(1, 40)
            other = chance.randrange(len(out) or 1)
            out[other:other] = out[at:end]
    return bytes(out)


@pytest.mark.parametrize("kind", ["certificate", "chain", "base64"])
def test_changed_bodies_are_certificates_or_nothing(shown: tuple[x509.Certificate, ...], kind: str) -> None:
    """Whatever it is that arrives: nothing else comes of it, no error above all."""
    content_type = b"application/pkix-cert"
    data = shown[0].public_bytes(Encoding.DER)
    if kind == "chain":
        entity = certificates_entity(shown)
        content_type, data = entity.get("content-type") or b"", entity.content()
    assert credentials._read(notification(content_type, data), BOB)
    chance = random.Random(6072)
    found = 0
    for _ in range(_MUTATIONS if kind != "base64" else _MUTATIONS // 10):
        made = notification(content_type, mutated(data, chance))
        if kind == "base64":
            made.add("Content-Transfer-Encoding", b"base64")
        read = credentials._read(made, BOB)
        assert all(isinstance(one, x509.Certificate) for one in read)
        found += bool(read)
    assert found < _MUTATIONS  # nearly all are broken; who uses the others checks their signatures


@pytest.mark.parametrize(
    ("headers", "is_read"),
    [
        ((), True),
        ((("Content-Disposition", b"signal"),), True),
        ((("Content-Transfer-Encoding", b"binary"),), True),
        ((("Content-Transfer-Encoding", b"base64"),), False),
        ((("Content-Transfer-Encoding", b"x-own"),), False),
        ((("Content-Disposition", b"signal"), ("Content-Disposition", b"render")), False),
    ],
)
def test_headers_of_the_body(
    shown: tuple[x509.Certificate, ...], headers: tuple[tuple[str, bytes], ...], is_read: bool
) -> None:
    made = notification(b"application/pkix-cert", shown[0].public_bytes(Encoding.DER))
    for name, value in headers:
        made.add(name, value)
    assert credentials._read(made, BOB) == (shown[:1] if is_read else ())
