"""RFC 3263 against a DNS server of the test's own."""

import asyncio
from pathlib import Path

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import pytest
from sip import run

from neighbour.config import PeerConfig, ResolverConfig
from neighbour.resolver import ResolveError, Resolver

ZONE = {
    ("full.example", "NAPTR"): [
        '20 50 "s" "SIP+D2U" "" _sip._udp.full.example.',
        '10 50 "s" "SIPS+D2T" "" _sips._tcp.elsewhere.example.',
    ],
    ("_sips._tcp.elsewhere.example", "SRV"): ["20 0 5071 backup.example.", "10 0 5081 main.example."],
    ("main.example", "A"): ["192.0.2.1"],
    ("main.example", "AAAA"): ["2001:db8::1"],
    ("backup.example", "A"): ["192.0.2.2"],
    ("_sips._tcp.srv.example", "SRV"): ["0 0 5061 backup.example."],
    ("plain.example", "A"): ["192.0.2.3"],
    ("_sips._tcp.closed.example", "SRV"): ["0 0 0 ."],
    ("closed.example", "A"): ["192.0.2.4"],
    ("alias.example", "CNAME"): ["plain.example."],
    ("_sips._tcp.weights.example", "SRV"): ["10 90 1001 backup.example.", "10 10 1002 backup.example."],
}


class Server(asyncio.DatagramProtocol):
    """Answers from ZONE; names below "dead.example" get no answer at all, "broken.example" SERVFAIL."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        query = dns.message.from_wire(data)
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True)
        if name.endswith("dead.example"):
            return
        response = dns.message.make_response(query)
        response.flags |= dns.flags.RA
        kind = dns.rdatatype.to_text(question.rdtype)
        if name.endswith("broken.example"):
            response.set_rcode(dns.rcode.SERVFAIL)
        elif (name, kind) in ZONE:
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", kind, *ZONE[name, kind]))
        elif (name, "CNAME") in ZONE:
            target = ZONE[name, "CNAME"][0]
            response.answer.append(dns.rrset.from_text(question.name, 60, "IN", "CNAME", target))
            if (target[:-1], kind) in ZONE:
                response.answer.append(dns.rrset.from_text(target, 60, "IN", kind, *ZONE[target[:-1], kind]))
        elif not any(known == name for known, _ in ZONE):
            response.set_rcode(dns.rcode.NXDOMAIN)
        self.transport.sendto(response.to_wire(), addr)  # type: ignore[attr-defined]


async def resolver() -> tuple[Resolver, asyncio.BaseTransport]:
    transport, _ = await asyncio.get_running_loop().create_datagram_endpoint(Server, ("127.0.0.1", 0))
    port = transport.get_extra_info("sockname")[1]
    config = ResolverConfig(nameservers=["127.0.0.1"], port=port)
    return Resolver(config, [PeerConfig(domain="fixed.example", address="192.0.2.9:5062")]), transport


@pytest.mark.parametrize(
    ("domain", "found"),
    [
        ("fixed.example", [("192.0.2.9", 5062)]),
        ("full.example", [("2001:db8::1", 5081), ("192.0.2.1", 5081), ("192.0.2.2", 5071)]),
        ("srv.example", [("192.0.2.2", 5061)]),
        ("plain.example", [("192.0.2.3", 5061)]),
        ("alias.example", [("192.0.2.3", 5061)]),
    ],
)
def test_found(domain: str, found: list[tuple[str, int]]) -> None:
    async def work() -> None:
        one, transport = await resolver()
        assert await one.locate_(domain) == found
        transport.close()

    run(work)


@pytest.mark.parametrize(
    ("domain", "reason"),
    [
        ("nowhere.example", "has no SIP server in DNS"),
        ("closed.example", "has no SIP server in DNS"),
        ("broken.example", "DNS failed for broken.example: NoNameservers"),
        ("dead.example", "DNS failed for dead.example: LifetimeTimeout"),
    ],
)
def test_not_found(domain: str, reason: str) -> None:
    async def work() -> None:
        one, transport = await resolver()
        with pytest.raises(ResolveError, match=reason):
            await one.locate_(domain)
        transport.close()

    run(work)


def test_weights(tmp_path: Path) -> None:
    """RFC 2782: the heavier of two servers is asked first nearly always, the lighter sometimes."""

    async def work() -> None:
        one, transport = await resolver()
        first = [(await one.locate_("weights.example"))[0][1] for _ in range(200)]
        assert 140 < first.count(1001) < 200
        assert first.count(1002) > 0
        transport.close()

    run(work)


def test_switched_off() -> None:
    async def work() -> None:
        one = Resolver(ResolverConfig(enabled=False), [])
        with pytest.raises(ResolveError, match=r"b\.example is no peer of ours"):
            await one.locate_("b.example")

    run(work)
