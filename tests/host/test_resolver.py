"""RFC 3263 against a name server of the test's own."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Iterator

import dns.rrset
import pytest
from interop.nameserver import DEAD, GARBAGE, REFUSED, SERVFAIL, NameServer
from sip import run

from neighbour import dnscache, resolver
from neighbour.config import PeerConfig, ResolverConfig
from neighbour.resolver import ResolveError, Resolver, Target
from sipwire.uri import Uri

PEERS = [
    PeerConfig(domain="fixed.example", address=["192.0.2.9:5062"]),
    PeerConfig(domain="several.example", address=["192.0.2.31:5061", "[2001:DB8:0::31]:5071"]),
    PeerConfig(domain="named.example", address=["localhost:5061"]),
    PeerConfig(domain="neighbour.example", address=["192.0.2.9:5065"]),
    PeerConfig(domain="carrier.example", address=["192.0.2.41:5060", "192.0.2.42:5070"], transport="udp"),
    PeerConfig(domain="exchange.example", address=["192.0.2.51:5060"], transport="tcp"),
]
ZONE = {
    ("full.example", "NAPTR"): [
        '20 50 "s" "SIP+D2U" "" _sip._udp.full.example.',
        '15 50 "S" "sip+d2t" "" _sip._tcp.full.example.',
        '10 50 "s" "SIPS+D2T" "" _sips._tcp.elsewhere.example.',
        '1 50 "s" "SIP+D2S" "" _sip._sctp.full.example.',
        '1 50 "u" "SIPS+D2T" "!.*!sip:x@y!" .',
        '1 50 "s" "SIPS+D2T" "!.*!sip:x@y!" _sips._tcp.srv.example.',
        '1 50 "s" "E2U+sip" "" _sips._tcp.closed.example.',
    ],
    ("_sips._tcp.elsewhere.example", "SRV"): ["20 0 5071 backup.example.", "10 0 5081 main.example."],
    ("_sip._tcp.full.example", "SRV"): ["0 0 5062 main.example."],
    ("_sip._udp.full.example", "SRV"): ["0 0 5063 main.example."],
    ("main.example", "A"): ["192.0.2.1"],
    ("main.example", "AAAA"): ["2001:db8::1"],
    ("backup.example", "A"): ["192.0.2.2"],
    # Of one order the preference decides, and the same service twice is one list.
    ("twice.example", "NAPTR"): [
        '10 20 "s" "SIPS+D2T" "" _sips._tcp.srv.example.',
        '10 10 "s" "SIPS+D2T" "" _sips._tcp.elsewhere.example.',
        '10 5 "s" "SIP+D2U" "" _sip._udp.full.example.',
    ],
    # The order comes before the preference.
    ("order.example", "NAPTR"): [
        '20 1 "s" "SIP+D2U" "" _sip._udp.full.example.',
        '10 99 "s" "SIPS+D2T" "" _sips._tcp.srv.example.',
    ],
    ("udp.example", "NAPTR"): ['10 20 "s" "SIP+D2U" "" _sip._udp.udp.example.'],
    ("_sip._udp.udp.example", "SRV"): ["0 0 5063 backup.example."],
    ("hollow.example", "NAPTR"): ['10 20 "s" "SIPS+D2T" "" _sips._tcp.nothing.example.'],
    ("hollow.example", "A"): ["192.0.2.5"],
    ("_sips._tcp.srv.example", "SRV"): ["0 0 5061 backup.example."],
    ("_sip._tcp.srv.example", "SRV"): ["0 0 5064 backup.example."],
    ("_sip._udp.srv.example", "SRV"): ["0 0 5065 backup.example."],
    ("srv.example", "A"): ["192.0.2.6"],
    ("_sip._tcp.tcp.example", "SRV"): ["0 0 5064 backup.example."],
    ("_sip._udp.tcp.example", "SRV"): ["0 0 5065 backup.example."],
    ("plain.example", "A"): ["192.0.2.3"],
    ("_sips._tcp.closed.example", "SRV"): ["0 0 0 ."],
    ("closed.example", "A"): ["192.0.2.4"],
    ("_sips._tcp.halfclosed.example", "SRV"): ["0 0 0 ."],
    ("_sip._udp.halfclosed.example", "SRV"): ["0 0 5060 backup.example."],
    ("alias.example", "CNAME"): ["plain.example."],
    ("_sips._tcp.alias2.example", "CNAME"): ["_sips._tcp.srv.example."],
    ("loop.example", "CNAME"): ["loop.example."],
    ("_sips._tcp.weights.example", "SRV"): [
        "10 90 1001 backup.example.",
        "10 10 1002 backup.example.",
        "20 99 1003 backup.example.",
        "20 0 1004 backup.example.",
    ],
    ("everybody.example", "A"): ["224.0.1.75", "0.0.0.0", "255.255.255.255"],
    ("everybody.example", "AAAA"): ["ff02::1", "::"],
    ("_sips._tcp.half.example", "SRV"): ["0 0 5061 x.servfail.example.", "1 0 5062 backup.example."],
    ("servfail6.example", "A"): ["192.0.2.8"],
}
ALL = ["tls", "tcp", "udp"]


@contextlib.contextmanager
def names() -> Iterator[NameServer]:
    with NameServer("127.0.0.1", port=0) as server:
        for (name, kind), values in ZONE.items():
            server.add(name, kind, *values)
        server.moods |= {"dead.example": DEAD, "garbage.example": GARBAGE}
        server.moods |= {"servfail.example": SERVFAIL, "refused.example": REFUSED, "servfail6.example AAAA": SERVFAIL}
        yield server


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def make(server: NameServer, transports: list[str] | None = None, clock: Clock | None = None) -> Resolver:
    config = ResolverConfig(nameservers=["127.0.0.1"], port=server.port, transports=transports or ["tls"])  # type: ignore[arg-type]
    return Resolver(config, PEERS, clock or Clock())


async def locate(one: Resolver, uri: str) -> list[tuple[str, str, int]]:
    found = await one.locate(Uri.parse((uri if uri.startswith("sip") else f"sip:x@{uri}").encode()))
    return [(target.transport, target.host, target.port) for target in found]


MAIN = [("TLS", "2001:db8::1", 5081), ("TLS", "192.0.2.1", 5081), ("TLS", "192.0.2.2", 5071)]


@pytest.mark.parametrize(
    ("uri", "transports", "found"),
    [
        # NAPTR, then SRV, then addresses: what is not allowed is passed over.
        ("full.example", ["tls"], MAIN),
        ("FULL.example.", ["tls"], MAIN),
        ("full.example", ALL, MAIN),
        ("full.example", ["udp", "tcp"], [("TCP", "2001:db8::1", 5062), ("TCP", "192.0.2.1", 5062)]),
        ("full.example", ["udp"], [("UDP", "2001:db8::1", 5063), ("UDP", "192.0.2.1", 5063)]),
        ("sips:x@full.example", ALL, MAIN),
        ("twice.example", ["tls"], [*MAIN, ("TLS", "192.0.2.2", 5061)]),
        # Within one order UDP is preferred there; whoever allows it gets it.
        ("twice.example", ALL, [("UDP", "2001:db8::1", 5063), ("UDP", "192.0.2.1", 5063)]),
        ("sips:x@twice.example", ALL, [*MAIN, ("TLS", "192.0.2.2", 5061)]),
        ("order.example", ALL, [("TLS", "192.0.2.2", 5061)]),
        # No NAPTR of an allowed transport; a NAPTR that leads to no SRV.
        ("hollow.example", ["tls"], [("TLS", "192.0.2.5", 5061)]),
        # No NAPTR: the safest of the SRV records there are.
        ("srv.example", ["tls"], [("TLS", "192.0.2.2", 5061)]),
        ("srv.example", ALL, [("TLS", "192.0.2.2", 5061)]),
        ("tcp.example", ALL, [("TCP", "192.0.2.2", 5064)]),
        ("halfclosed.example", ALL, [("UDP", "192.0.2.2", 5060)]),
        # Neither: "the client SHOULD use TCP for a SIPS URI, and UDP for a SIP URI".
        ("plain.example", ["tls"], [("TLS", "192.0.2.3", 5061)]),
        ("plain.example", ALL, [("UDP", "192.0.2.3", 5060)]),
        ("plain.example", ["tcp", "tls"], [("TCP", "192.0.2.3", 5060)]),
        ("sips:x@plain.example", ALL, [("TLS", "192.0.2.3", 5061)]),
        ("alias.example", ["tls"], [("TLS", "192.0.2.3", 5061)]),
        ("alias2.example", ["tls"], [("TLS", "192.0.2.2", 5061)]),
        # A port in the URI: no SRV.
        ("srv.example:5099", ["tls"], [("TLS", "192.0.2.6", 5099)]),
        ("srv.example:5099", ALL, [("UDP", "192.0.2.6", 5099)]),
        ("sips:x@srv.example:5099", ALL, [("TLS", "192.0.2.6", 5099)]),
        ("srv.example:5099;transport=tcp", ALL, [("TCP", "192.0.2.6", 5099)]),
        # A transport in the URI: no NAPTR.
        ("full.example;transport=tcp", ALL, [("TCP", "2001:db8::1", 5062), ("TCP", "192.0.2.1", 5062)]),
        ("full.example;transport=UDP", ALL, [("UDP", "2001:db8::1", 5063), ("UDP", "192.0.2.1", 5063)]),
        ("srv.example;transport=tls", ALL, [("TLS", "192.0.2.2", 5061)]),
        ("plain.example;transport=tcp", ALL, [("TCP", "192.0.2.3", 5060)]),
        # One that is not allowed gives way to TLS, and a sips URI's tcp means TLS.
        ("srv.example;transport=tcp", ["tls"], [("TLS", "192.0.2.2", 5061)]),
        ("srv.example;transport=udp", ["tls", "tcp"], [("TLS", "192.0.2.2", 5061)]),
        ("sips:x@srv.example;transport=tcp", ALL, [("TLS", "192.0.2.2", 5061)]),
        # Addresses.
        ("192.0.2.77", ["tls"], [("TLS", "192.0.2.77", 5061)]),
        ("192.0.2.77", ALL, [("UDP", "192.0.2.77", 5060)]),
        ("192.0.2.77:5066;transport=tcp", ALL, [("TCP", "192.0.2.77", 5066)]),
        ("[2001:DB8:0::77]:5066", ["tls"], [("TLS", "2001:db8::77", 5066)]),
        ("sips:[2001:db8::77]", ALL, [("TLS", "2001:db8::77", 5061)]),
        # maddr says where.
        ("srv.example;maddr=192.0.2.78", ["tls"], [("TLS", "192.0.2.78", 5061)]),
        ("plain.example;maddr=srv.example", ["tls"], [("TLS", "192.0.2.2", 5061)]),
        # Peers, whatever the URI says of port and transport.
        ("fixed.example", ["tls"], [("TLS", "192.0.2.9", 5062)]),
        ("fixed.example:5099;transport=udp", ALL, [("TLS", "192.0.2.9", 5062)]),
        ("several.example", ["tls"], [("TLS", "192.0.2.31", 5061), ("TLS", "2001:db8::31", 5071)]),
        ("carrier.example", ["tls"], [("UDP", "192.0.2.41", 5060), ("UDP", "192.0.2.42", 5070)]),
        ("exchange.example", ["tls"], [("TCP", "192.0.2.51", 5060)]),
        # And by their addresses, which is what a Contact of theirs says.
        ("192.0.2.42", ["tls"], [("UDP", "192.0.2.42", 5070)]),
        ("192.0.2.42:5099", ["tls"], [("UDP", "192.0.2.42", 5099)]),
        ("[2001:db8::31]", ["tls"], [("TLS", "2001:db8::31", 5071)]),
        ("192.0.2.31:5099", ["tls"], [("TLS", "192.0.2.31", 5099)]),
        # Part of an answer is better than none.
        ("half.example", ["tls"], [("TLS", "192.0.2.2", 5062)]),
        ("servfail6.example:5061", ["tls"], [("TLS", "192.0.2.8", 5061)]),
    ],
)
def test_found(uri: str, transports: list[str], found: list[tuple[str, str, int]]) -> None:
    async def work() -> None:
        with names() as server:
            assert await locate(make(server, transports), uri) == found

    run(work)


@pytest.mark.parametrize(
    ("uri", "transports", "reason"),
    [
        ("nowhere.example", ["tls"], "nowhere.example has no address that can be used"),
        ("closed.example", ["tls"], "closed.example has no SIP server in DNS"),
        ("closed.example", ALL, "closed.example has no SIP server in DNS"),
        ("everybody.example", ALL, "everybody.example has no address that can be used"),
        ("224.0.1.75", ["udp"], "224.0.1.75 has no address that can be used"),
        ("0.0.0.0", ["udp"], "0.0.0.0 has no address that can be used"),
        ("plain.example;maddr=255.255.255.255", ["udp"], "plain.example has no address that can be used"),
        ("srv.example;transport=sctp", ALL, "srv.example: there is no transport sctp here"),
        ("sips:x@srv.example;transport=udp", ALL, "srv.example: sips wants tls, and the address says transport=udp"),
        ("sips:x@srv.example", ["udp"], "srv.example is reached over tls, which resolver.transports does not allow"),
        ("sips:x@192.0.2.7", ["tcp"], "192.0.2.7 is reached over tls, which resolver.transports does not allow"),
        ("srv.example;transport=tls", ["udp"], "srv.example is reached over tls, which resolver.transports does not"),
        ("srv.example;transport=tcp", ["udp"], "srv.example is reached over tcp, which resolver.transports does not"),
        ("sips:x@carrier.example", ALL, "carrier.example is reached over udp, and sips wants tls"),
        ("sips:x@192.0.2.51", ALL, "192.0.2.51 is reached over tcp, and sips wants tls"),
        ("servfail.example", ["tls"], "DNS failed for servfail.example: the name server can't tell"),
        ("refused.example", ["tls"], "DNS failed for refused.example: the name server can't tell"),
        ("garbage.example", ["tls"], "DNS failed for garbage.example: "),
        ("dead.example", ["tls"], "DNS failed for dead.example: no answer in time"),
        ("loop.example", ["tls"], "DNS failed for loop.example: "),
        (f"{'x' * 64}.example", ["tls"], "DNS failed for x*.example: LabelTooLong"),
    ],
)
def test_not_found(uri: str, transports: list[str], reason: str) -> None:
    async def work() -> None:
        with names() as server:
            one = make(server, transports)
            with pytest.raises(ResolveError, match=reason):
                await locate(one, uri)

    run(work)


def test_the_domain_is_what_a_certificate_has_to_prove() -> None:
    """Whatever a URI, DNS or a replacement says of where; of a peer's address, whom we know there."""

    async def work() -> None:
        with names() as server:
            one = make(server)
            for uri, domain in (
                ("sip:x@full.example", "full.example"),
                ("sip:x@plain.example;maddr=srv.example", "plain.example"),
                ("sip:x@SRV.example.", "srv.example"),
                ("sip:192.0.2.9:5062", "fixed.example"),
                ("sip:192.0.2.9", "fixed.example"),
                # Another port is somebody else's, unless nobody proves anything there.
                ("sip:192.0.2.9:5063", "192.0.2.9"),
                ("sip:192.0.2.9:5065", "neighbour.example"),
                ("sip:192.0.2.41:5099", "carrier.example"),
            ):
                assert {target.domain for target in await one.locate(Uri.parse(uri.encode()))} == {domain}

    run(work)


def test_weights() -> None:
    """RFC 2782: the heavier of two servers is asked first nearly always, the lighter sometimes; priority before that.

    And from memory no less than at first.
    """

    async def work() -> None:
        with names() as server:
            one = make(server)
            asked = [[port for _, _, port in await locate(one, "weights.example")] for _ in range(300)]
            first = Counter(ports[0] for ports in asked)
            assert 230 < first[1001] < 300
            assert first[1001] + first[1002] == 300
            assert all(set(ports[:2]) == {1001, 1002} for ports in asked)
            # A weight of 0 has "a very small chance of being selected", not none (here 1 in 1,000).
            assert sum(ports[2] == 1003 for ports in asked) > 280
            assert server.queries["_sips._tcp.weights.example", "SRV"] == 1

    run(work)


def test_switched_off() -> None:
    async def work() -> None:
        one = Resolver(ResolverConfig(enabled=False), PEERS)
        for uri in ("b.example", "192.0.2.1", "sips:x@b.example:5061"):
            with pytest.raises(ResolveError, match="is no peer of ours"):
                await locate(one, uri)
        assert await locate(one, "fixed.example") == [("TLS", "192.0.2.9", 5062)]
        assert ("TLS", "127.0.0.1", 5061) in await locate(one, "named.example")

    run(work)


# What failed.


def test_a_failed_server_comes_last_for_a_while() -> None:
    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            uri = Uri.parse(b"sip:full.example")
            first, second, third = await one.locate(uri)
            one.failed(first)
            assert await one.locate(uri) == [second, third, first]
            one.failed(second)
            one.failed(third)
            assert await one.locate(uri) == [first, second, third]
            one.works(first)
            assert await one.locate(uri) == [first, second, third]
            one.works(third)
            assert await one.locate(uri) == [first, third, second]
            clock.now += resolver._FAILED_S
            assert await one.locate(uri) == [first, second, third]

    run(work)


def test_a_server_that_asks_for_it_is_left_alone() -> None:
    """RFC 3261 section 21.5.4; where it is the only one, it is asked all the same."""

    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            uri = Uri.parse(b"sip:full.example")
            first, second, third = await one.locate(uri)
            one.failed(first, 20)
            one.failed(second)
            assert await one.locate(uri) == [third, second]
            clock.now += 20
            assert await one.locate(uri) == [first, third, second]
            one.failed(first, 10**9)
            clock.now += resolver._MAX_LEFT_OUT_S
            assert await one.locate(uri) == [first, second, third]
            one.failed(first, 0)
            assert await one.locate(uri) == [first, second, third]
            for target in (first, second, third):
                one.failed(target, 30)
            assert await one.locate(uri) == [first, second, third]

    run(work)


def test_failures_of_one_domain_are_not_those_of_another() -> None:
    """A certificate that does not prove one may well prove the other."""

    async def work() -> None:
        with names() as server:
            one = make(server)
            (of_alias,) = await one.locate(Uri.parse(b"sip:alias2.example"))
            one.failed(of_alias, 100)
            (target,) = await one.locate(Uri.parse(b"sip:srv.example"))
            assert (target.host, target.port) == (of_alias.host, of_alias.port)
            assert of_alias in one._failed
            assert target not in one._failed

    run(work)


def test_memory_of_failures_is_bounded() -> None:
    async def work() -> None:
        with names() as server:
            one = make(server)
            for number in range(resolver._MAX_FAILED + 100):
                one.failed(Target("TLS", "192.0.2.1", 5061, f"d{number}.example"))
            assert len(one._failed) == resolver._MAX_FAILED
            assert Target("TLS", "192.0.2.1", 5061, "d99.example") not in one._failed

    run(work)


# What is remembered of DNS.


def test_positive_answers_live_as_long_as_they_say() -> None:
    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            server.add("short.example", "A", "192.0.2.90", ttl_s=20)
            server.add("long.example", "A", "192.0.2.91", ttl_s=10**6)
            server.add("never.example", "A", "192.0.2.92", ttl_s=0)
            for _ in range(3):
                for name in ("short", "long", "never"):
                    await locate(one, f"{name}.example:5061")
            assert [server.queries[f"{name}.example", "A"] for name in ("short", "long", "never")] == [1, 1, 3]
            server.add("short.example", "A", "192.0.2.93", ttl_s=20)
            clock.now += 19
            assert await locate(one, "short.example:5061") == [("TLS", "192.0.2.90", 5061)]
            clock.now += 1
            assert await locate(one, "short.example:5061") == [("TLS", "192.0.2.93", 5061)]
            clock.now += dnscache._MAX_TTL_S
            await locate(one, "long.example:5061")
            assert server.queries["long.example", "A"] == 2

    run(work)


def test_an_alias_lives_no_longer_than_its_shortest_part() -> None:
    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            server.add("moved.example", "CNAME", "plain.example.", ttl_s=5)
            for seconds in (0, 4, 1):
                clock.now += seconds
                await locate(one, "moved.example:5061")
            assert server.queries["moved.example", "A"] == 2

    run(work)


@pytest.mark.parametrize(("negative_ttl_s", "soa", "lives_s"), [(30, True, 30), (10**6, True, 300), (30, False, 5)])
def test_negative_answers_live_as_long_as_the_soa_says(negative_ttl_s: int, soa: bool, lives_s: int) -> None:
    """RFC 2308 section 5: NXDOMAIN, and a name without records of the kind; not for ever, and briefly without a SOA."""

    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            server.negative_ttl_s, server.soa = negative_ttl_s, soa

            async def fails(name: str) -> None:
                with pytest.raises(ResolveError):
                    await locate(one, name)

            def asked() -> list[int]:
                return [server.queries["new.example", "NAPTR"], server.queries["srv.example", "AAAA"]]

            for _ in range(3):
                await fails("new.example")
                await locate(one, "srv.example:5061")
            assert asked() == [1, 1]
            server.add("new.example", "A", "192.0.2.94")
            clock.now += lives_s - 1
            await fails("new.example")
            assert asked() == [1, 1]
            clock.now += 1
            assert await locate(one, "new.example") == [("TLS", "192.0.2.94", 5061)]
            await locate(one, "srv.example:5061")
            assert asked() == [2, 2]

    run(work)


@pytest.mark.parametrize("mood", ["servfail", "refused", "garbage"])
def test_errors_are_remembered_briefly(mood: str) -> None:
    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            name = f"{mood}.example"
            for _ in range(3):
                with pytest.raises(ResolveError):
                    await locate(one, name)
            asked = server.queries[name, "NAPTR"]
            server.moods.pop(name)
            server.add(name, "A", "192.0.2.95")
            clock.now += dnscache._BRIEFLY_S
            assert await locate(one, name) == [("TLS", "192.0.2.95", 5061)]
            assert server.queries[name, "NAPTR"] == asked + 1

    run(work)


def test_equal_questions_at_once_are_one() -> None:
    async def work() -> None:
        with names() as server:
            one = make(server)
            found = await asyncio.gather(*(locate(one, "full.example") for _ in range(50)))
            assert found == [MAIN] * 50
            assert set(server.queries.values()) == {1}
            # Who gives up takes the answer from nobody.
            waiting = [asyncio.create_task(locate(one, "srv.example")) for _ in range(2)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            assert await waiting[1] == [("TLS", "192.0.2.2", 5061)]

    run(work)


def test_a_dead_name_server_costs_one_call_and_not_all() -> None:
    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            loop = asyncio.get_running_loop()
            await locate(one, "plain.example")
            server.moods[""] = DEAD
            started = loop.time()
            with pytest.raises(ResolveError, match="no answer in time"):
                await locate(one, "d0.example")
            assert loop.time() - started < 2.5
            started = loop.time()
            for number in range(1, 30):
                with pytest.raises(ResolveError, match="no name server answers"):
                    await locate(one, f"d{number}.example")
            # One probe for all of them; what is remembered is found all the same.
            assert loop.time() - started < 1.0
            assert await locate(one, "plain.example") == [("TLS", "192.0.2.3", 5061)]
            # It comes back.
            server.moods.pop("")
            clock.now += dnscache._BRIEFLY_S
            assert await locate(one, "srv.example") == [("TLS", "192.0.2.2", 5061)]

    run(work)


def test_a_dead_domain_harms_no_other() -> None:
    """Its servers are silent, and who asks for it must not keep others from theirs."""

    async def work() -> None:
        with names() as server:
            one = make(server)
            loop = asyncio.get_running_loop()
            for number in range(2):
                with pytest.raises(ResolveError, match="no answer in time"):
                    await locate(one, f"x{number}.dead.example")
                started = loop.time()
                assert await locate(one, ("srv.example", "full.example")[number])
                assert loop.time() - started < 0.3

    run(work)


def test_old_addresses_stand_in_while_nobody_answers() -> None:
    """RFC 8767: for an hour beyond their time."""

    async def work() -> None:
        with names() as server:
            clock = Clock()
            one = make(server, clock=clock)
            server.add("old.example", "A", "192.0.2.96", ttl_s=20)
            server.add("old.example", "AAAA", "2001:db8::96", ttl_s=20)
            found = await locate(one, "old.example:5061")
            server.moods["old.example"] = SERVFAIL
            for seconds in (100, 3000):
                clock.now += seconds
                assert await locate(one, "old.example:5061") == found
            asked = server.queries["old.example", "A"]
            assert await locate(one, "old.example:5061") == found
            assert server.queries["old.example", "A"] == asked  # not again at once
            clock.now += 3600
            with pytest.raises(ResolveError, match="can't tell"):
                await locate(one, "old.example:5061")
            # A new answer ends it, also one that there is nothing any more.
            server.moods.pop("old.example")
            server.remove("old.example", "A")
            clock.now += 10
            assert await locate(one, "old.example:5061") == [("TLS", "2001:db8::96", 5061)]

    run(work)


def test_memory_of_answers_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one used least lately goes first."""
    monkeypatch.setattr(dnscache, "_MAX_ENTRIES", 50)

    async def work() -> None:
        with names() as server:
            one = make(server)
            for number in range(100):
                with pytest.raises(ResolveError):
                    await locate(one, f"d{number}.example")
                await locate(one, "plain.example:5061")
            assert one._dns is not None
            assert len(one._dns._entries) == 50
            assert server.queries["plain.example", "A"] == 1

    run(work)


def test_a_truncated_answer_is_asked_for_again_over_tcp() -> None:
    """And of thousands of records, the best are looked at, in no time."""

    async def work() -> None:
        with names() as server:
            one = make(server)
            records = [f"{number} 0 {number + 1} backup.example." for number in range(1500)]
            server.add("_sips._tcp.many.example", "SRV", *reversed(records))
            server.add("crowd.example", "A", *(f"192.0.{number >> 8}.{number & 255}" for number in range(3000)))
            found = await locate(one, "many.example")
            assert found == [("TLS", "192.0.2.2", number + 1) for number in range(8)]
            assert server.queries["_sips._tcp.many.example", "SRV"] == 2  # over UDP, and over TCP
            assert len(await locate(one, "crowd.example:5061")) == 8
            hosts = [f"{number} 0 5061 h{number}.example." for number in range(30)]
            server.add("_sips._tcp.hosts.example", "SRV", *hosts)
            for number in range(30):
                server.add(f"h{number}.example", "A", f"192.0.2.{number + 1}")
            found = await locate(one, "hosts.example")
            assert found == [("TLS", f"192.0.2.{number + 1}", 5061) for number in range(8)]
            assert sum(server.queries[f"h{number}.example", "A"] for number in range(30)) == 8
            assert one._dns is not None
            kept = [entry.records for entry in one._dns._entries.values() if entry.records is not None]
            assert max(len(records) for records in kept) == dnscache._MAX_RECORDS
            assert all(isinstance(records, dns.rrset.RRset) for records in kept)

    run(work)


def test_too_many_questions_at_once_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dnscache, "_MAX_AT_ONCE", 5)

    async def work() -> None:
        with names() as server:
            one = make(server)
            waiting = [asyncio.create_task(locate(one, f"x{number}.dead.example")) for number in range(5)]
            await asyncio.sleep(0.1)
            with pytest.raises(ResolveError, match="too many questions at once"):
                await locate(one, "srv.example")
            await asyncio.wait(waiting)
            assert all(task.exception() is not None for task in waiting)
            assert await locate(one, "srv.example")

    run(work)


def test_closing_ends_what_is_asked() -> None:
    async def work() -> None:
        with names() as server:
            one = make(server)
            waiting = asyncio.create_task(locate(one, "x.dead.example"))
            await asyncio.sleep(0.1)
            one.close()
            await asyncio.wait([waiting], timeout=1)
            assert waiting.cancelled()

    run(work)


def test_without_a_name_server(monkeypatch: pytest.MonkeyPatch) -> None:
    import dns.asyncresolver
    import dns.resolver

    def nothing(*_: object, **__: object) -> None:
        raise dns.resolver.NoResolverConfiguration

    monkeypatch.setattr(dns.asyncresolver, "Resolver", nothing)

    async def work() -> None:
        with pytest.raises(ResolveError, match=r"DNS failed for b\.example: no name server configured"):
            await locate(Resolver(ResolverConfig(), PEERS), "b.example")

    run(work)
