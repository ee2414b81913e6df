"""Token buckets, and who pays: alone with a clock of ours, and in a neighbour that runs."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sip import Domain, UdpClient, answer, call, domain, in_dialog, phones, request, run, signed
from structlog.testing import capture_logs
from test_trunk import pair, users

from lab.lab import Lab
from neighbour import limits
from neighbour.buckets import Buckets
from neighbour.config import LimitsConfig, load
from neighbour.limits import Limits, source_of
from neighbour.metrics import Metrics
from neighbour.store.accounts import add_account
from neighbour.store.database import Store

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sipwire.message import Request, Response

# Buckets.


def taken(buckets: Buckets[str], key: str, now: int, tries: int, share: int = 1) -> int:
    return sum(buckets.take(key, now, share) for _ in range(tries))


def test_so_many_at_once_and_so_many_a_second() -> None:
    buckets: Buckets[str] = Buckets(3, 10, 100)
    assert taken(buckets, "a", 0, 50) == 10
    assert taken(buckets, "b", 0, 50) == 10  # each key has its own
    assert [taken(buckets, "a", now, 9) for now in range(1000, 6000, 1000)] == [3] * 5
    assert taken(buckets, "a", 3_600_000, 50) == 10  # never more than the burst


def test_nothing_is_lost_between_milliseconds() -> None:
    """A token every 333.3 ms, asked for every millisecond: three a second, for a thousand seconds."""
    buckets: Buckets[str] = Buckets(3, 5, 10)
    assert sum(buckets.take("a", now) for now in range(1_000_000)) == 5 + 2999


def test_has_takes_nothing_and_wait_is_right() -> None:
    buckets: Buckets[str] = Buckets(4, 1, 10)
    assert all(buckets.has("a", 0) for _ in range(5))
    assert buckets.wait_ms("a", 0) == 0
    assert buckets.take("a", 0)
    assert not buckets.has("a", 0)
    wait = buckets.wait_ms("a", 100)
    assert wait == 150
    assert not buckets.take("a", 100 + wait - 1)
    assert buckets.take("a", 100 + wait)


def test_a_clock_that_goes_back_gives_nothing_and_takes_nothing() -> None:
    buckets: Buckets[str] = Buckets(10, 5, 10)
    assert taken(buckets, "a", 10_000, 9) == 5
    assert taken(buckets, "a", 5_000, 9) == 0


def test_a_share_that_grows_counts_at_once() -> None:
    buckets: Buckets[str] = Buckets(2, 10, 10)
    assert taken(buckets, "a", 0, 50) == 10
    assert taken(buckets, "a", 0, 50, share=3) == 20
    assert taken(buckets, "a", 1000, 50, share=3) == 6
    assert taken(buckets, "a", 1000, 50, share=1) == 0  # less than nothing is left, and that does not hurt


def test_the_table_has_an_end() -> None:
    buckets: Buckets[str] = Buckets(1, 1, 100)
    assert buckets.take("kept", 0)
    for number in range(10_000):
        buckets.take(f"k{number}", 0)
        assert not buckets.take("kept", 0)  # who asks is not forgotten
    assert len(buckets) == 100


def test_the_time_does_not_grow_with_the_table() -> None:
    def seconds(size: int) -> float:
        buckets: Buckets[int] = Buckets(1, 1, size)
        for number in range(size):
            buckets.take(number, 0)
        start = time.process_time()
        for number in range(size, size + 20_000):
            buckets.take(number, 0)
        return time.process_time() - start

    assert min(seconds(50_000) for _ in range(3)) < 3 * min(seconds(500) for _ in range(5))


# Addresses.


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),  # a customer has 2^64 of them
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),  # IPv4 on a socket for both
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("nonsense:", "nonsense:", True),
    ],
)
def test_source_of(one: str, other: str, same: bool) -> None:
    assert (source_of(one) == source_of(other)) is same


class Clocked(Limits):
    """Limits, at a time that the test sets."""

    now = 1_000_000

    def _now(self) -> int:  # type: ignore[override]
        return self.now


def make(**values: int) -> tuple[Clocked, Metrics]:
    metrics = Metrics()
    return Clocked(LimitsConfig(**values), metrics), metrics


OFFICE = "192.0.2.7"


def test_strangers_pay_by_address() -> None:
    made, metrics = make(stranger_rate=2, stranger_burst=10)
    assert sum(made.stranger(OFFICE) for _ in range(50)) == 10
    assert metrics.value("wisp_limited_total", limit="stranger") == 40
    assert not made.reads(OFFICE)
    assert metrics.value("wisp_limited_total", limit="unread") == 1
    assert made.reads("192.0.2.8")
    assert made.stranger("192.0.2.8")
    made.now += 1000
    assert made.reads(OFFICE)
    assert sum(made.stranger(OFFICE) for _ in range(50)) == 2


def test_a_hundred_addresses_of_one_customer_are_one() -> None:
    made, _ = make(stranger_burst=10)
    assert sum(made.stranger(f"2001:db8::{number:x}") for number in range(100)) == 10


def test_an_office_may_ask_as_often_as_it_has_phones() -> None:
    made, _ = make(stranger_rate=2, stranger_burst=10)
    for number in range(200):
        made.shows(OFFICE, f"u{number}")
        made.shows(OFFICE, f"u{number}")  # again: it is one all the same
    assert made.known(OFFICE) == 200
    assert sum(made.stranger(OFFICE) for _ in range(5000)) == 2010
    assert made.reads(OFFICE)  # who is there lately is read all the same
    made.now += 1000
    assert sum(made.stranger(OFFICE) for _ in range(5000)) == 402
    assert sum(made.stranger("192.0.2.8") for _ in range(5000)) == 10


def test_who_was_there_is_forgotten_after_a_day() -> None:
    made, _ = make(stranger_burst=10)
    made.shows(OFFICE, "carol")
    made.now += 12 * 3600 * 1000
    made.shows(OFFICE, "dave")
    assert made.known(OFFICE) == 2
    made.now += 12 * 3600 * 1000
    made.shows("192.0.2.8", "erin")
    assert made.known(OFFICE) == 1
    made.now += 24 * 3600 * 1000
    made.shows("192.0.2.8", "erin")
    assert made.known(OFFICE) == 0
    assert made._known.keys() == {source_of("192.0.2.8")}


def test_what_is_remembered_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever walks from address to address with one account fills no memory."""
    monkeypatch.setattr(limits, "_MAX_SEEN", 100)
    made, _ = make()
    for number in range(1000):
        made.shows(f"192.0.2.{number % 250}", f"u{number}")
    assert len(made._seen) <= 100
    assert sum(made._known.values()) == len(made._seen)


def test_users_and_domains_pay_by_name() -> None:
    made, metrics = make(user_rate=2, user_burst=10, peer_rate=3, peer_burst=20)
    assert [made.user("carol") for _ in range(11)] == [0] * 10 + [1]
    assert made.user("dave") == 0
    assert sum(not made.peer("b.example") for _ in range(50)) == 20
    assert made.user("b.example") == 0  # a user may be called so
    assert metrics.value("wisp_limited_total", limit="user") == 1
    assert metrics.value("wisp_limited_total", limit="peer") == 30
    # What ends work has a bucket of its own, which ends too.
    assert sum(not made.user("carol", ends=True) for _ in range(50)) == 10
    made.now += 1000
    assert sum(not made.user("carol") for _ in range(50)) == 2


# In a neighbour that runs.


async def at_once(office: "list[UdpClient]", requests: "list[Request]") -> "list[Response]":
    for phone, made in zip(office, requests, strict=True):
        phone.send(made)
    return list(await asyncio.gather(*(phone.response(10) for phone in office)))


class Office:
    """Many phones behind one address."""

    def __init__(self, at: Domain, count: int) -> None:
        self.at = at
        self.users = [f"u{number}" for number in range(count)]
        self.phones: list[UdpClient] = []

    async def open(self) -> None:
        address = self.at.lab.next_address()
        store = Store(load(self.at.folder / "wisp.toml").store_url)
        await store.open()
        for user in self.users:
            await add_account(store, self.at.name, user, "secret", is_terminal=False)
            self.phones.append(await self.connect(address))
        await store.close()
        await self.at.neighbour._accounts.refresh()

    async def connect(self, address: str) -> UdpClient:
        loop = asyncio.get_running_loop()
        transport, phone = await loop.create_datagram_endpoint(UdpClient, (address, 0), (self.at.address, 5060))
        phone.transport, phone.address = transport, transport.get_extra_info("sockname")
        self.at.clients.append(phone)
        return phone

    @property
    def address(self) -> str:
        return self.phones[0].address[0]

    def register(self) -> "list[Request]":
        return [
            request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=phone.contact)
            for user, phone in zip(self.users, self.phones, strict=True)
        ]

    async def register_all(self) -> None:
        made = self.register()
        challenged = await at_once(self.phones, made)
        assert {one.status for one in challenged} == {401}
        again = [
            signed(one, response, user, "secret")
            for one, response, user in zip(made, challenged, self.users, strict=True)
        ]
        assert {one.status for one in await at_once(self.phones, again)} == {200}


@contextlib.asynccontextmanager
async def office(folder: Path, count: int, **changes: str) -> "AsyncIterator[Office]":
    async with domain(folder, **changes) as at:
        made = Office(at, count)
        await made.open()
        yield made


def limited(at: Domain) -> dict[str, float]:
    kinds = ("unread", "stranger", "user", "peer", "answer")
    return {
        kind: at.value("wisp_limited_total", limit=kind) for kind in kinds if at.value("wisp_limited_total", limit=kind)
    }


async def run_wild(phone: UdpClient, count: int) -> None:
    """Requests that nobody we know has sent, as fast as they go; their answers are not read."""
    for number in range(count):
        phone.send(request("OPTIONS", "sip:a.example", "nobody"))
        if number % 50 == 49:
            await asyncio.sleep(0.01)
    await asyncio.sleep(0.2)


def use_up(at: Domain, address: str) -> None:
    while at.neighbour._limits.stranger(address):
        pass


def test_an_office_comes_back_after_a_power_cut(tmp_path: Path) -> None:
    """200 phones behind one address register within a moment, for the first time and again; nobody is turned away."""

    async def work() -> None:
        async with office(tmp_path, 200) as one:
            await one.register_all()
            assert one.at.neighbour._limits.known(one.address) == 200
            # The neighbour's power was cut too. It has seen none of them yet, and knows the office all the same.
            await one.at.stop()
            await one.at.start()
            assert one.at.neighbour._limits.known(one.address) == 200
            await one.register_all()
            assert limited(one.at) == {}

    run(work)


def test_one_phone_that_runs_wild_stops_no_other(tmp_path: Path) -> None:
    """What strangers may ask from the office's address is used up; those who show who they are do not notice."""
    small = "# stranger_rate = 20\n# stranger_burst = 400|stranger_rate = 1\nstranger_burst = 10"

    async def work() -> None:
        async with office(tmp_path, 5, limits=small) as one:
            await one.register_all()
            u0, u1, *_, wild = one.phones
            challenge = await u0.ask(made := request("MESSAGE", "sip:u1@a.example", "u0"))
            await run_wild(wild, 400)
            assert limited(one.at)["stranger"] > 300
            use_up(one.at, one.address)
            assert "unread" not in limited(one.at)
            # By credentials,
            u0.send(signed(made, challenge, "u0", "secret"))
            u1.send((await u1.request("MESSAGE")).response(200, "OK"))
            assert (await u0.response()).status == 200
            # by a nonce that was right once, as phones that refresh have it,
            one.at.neighbour._proxy._gate._nonces._life_ms = -1
            stale = await u0.ask(signed(made, challenge, "u0", "secret"))
            assert stale.status == 407
            assert b"stale=true" in (stale.get("proxy-authenticate") or b"")
            one.at.neighbour._proxy._gate._nonces._life_ms = 60_000
            # and with what they get for it.
            u0.send(signed(made, stale, "u0", "secret"))
            u1.send((await u1.request("MESSAGE")).response(200, "OK"))
            assert (await u0.response()).status == 200
            # A keep-alive is answered all the same: without, the phone would take its flow for lost.
            u0.send_raw(b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12))
            assert (await u0.raw()).startswith(b"\1\1")
            # A stranger there is not heard for now, and elsewhere is.
            use_up(one.at, u0.address[0])
            made = request("OPTIONS", "sip:a.example", "nobody")
            u0.send(made)
            await u0.silence(0.2)
            assert (await (await UdpClient.open(one.at)).ask(made)).status == 407

    run(work)


def test_a_stranger_is_not_even_read(tmp_path: Path) -> None:
    """An address where nobody is known costs nothing at all once it has asked too much."""
    small = "# stranger_rate = 20\n# stranger_burst = 400|stranger_rate = 1\nstranger_burst = 10"

    async def work() -> None:
        async with domain(tmp_path, limits=small) as at:
            stranger = await UdpClient.open(at)
            before = at.value("wisp_auth_total", result="challenged")
            await run_wild(stranger, 300)
            assert 10 <= at.value("wisp_auth_total", result="challenged") - before < 40
            assert limited(at)["unread"] > 250
            assert at.value("wisp_transactions") == 0
            await phones(at, "carol")

    run(work)


def test_junk_is_paid_for_too(tmp_path: Path) -> None:
    """Forged frames, half messages, answers that nobody waits for, ACKs, wrong secrets: whatever shows nobody."""
    small = "# stranger_rate = 20\n# stranger_burst = 400|stranger_rate = 1\nstranger_burst = 30"

    async def work() -> None:
        async with domain(tmp_path, limits=small) as at:
            await at.add("carol")
            pays = []
            for name, junk in (
                ("frames", lambda: b"\xe1" + bytes(60)),
                ("malformed", lambda: b"INVITE sip:x@a.example SIP/2.0\r\nVia: x\r\n\r\n"),
                ("responses", lambda: request("OPTIONS", "sip:x@a.example").response(200, "OK").serialize()),
                ("acks", lambda: request("ACK", "sip:x@a.example", host="x.example")),
                ("cancels", lambda: request("CANCEL", "sip:x@a.example")),
                ("registers", lambda: request("REGISTER", "sip:x.example")),
                ("options", lambda: request("OPTIONS", "sip:a.example", max_forwards=0)),
            ):
                stranger = await UdpClient.open(at)
                for _ in range(40):
                    made = junk()
                    if isinstance(made, bytes):
                        stranger.send_raw(made.replace(b"\r\nMax", b"\r\nVia: SIP/2.0/UDP x;branch=z9hG4bKx\r\nMax"))
                    else:
                        stranger.send(made)
                await asyncio.sleep(0.2)
                pays.append((name, at.neighbour._limits.stranger(stranger.address[0])))
            assert pays == [(name, False) for name, _ in pays]
            # Wrong secrets, each with a good nonce.
            wrong = await UdpClient.open(at)
            made = request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example", contact=wrong.contact)
            challenge = await wrong.ask(made)
            for _ in range(40):
                wrong.send(signed(made, challenge, "carol", "guess"))
            await asyncio.sleep(0.5)
            assert not at.neighbour._limits.stranger(wrong.address[0])

    run(work)


def test_connections_of_strangers_are_paid_for(tmp_path: Path) -> None:
    small = "# stranger_rate = 20\n# stranger_burst = 400|stranger_rate = 1\nstranger_burst = 10"

    async def work() -> None:
        async with domain(tmp_path, limits=small) as at:
            opened = 0
            for _ in range(20):
                reader, writer = await asyncio.open_connection(at.address, 5060)
                writer.write(b"\r\n\r\n")
                with contextlib.suppress(ConnectionError):
                    opened += await reader.read(2) == b"\r\n"
                writer.close()
                await asyncio.sleep(0.01)
            assert opened == 10

    run(work)


def test_a_user_beyond_the_limit_is_told_when_to_come_back(tmp_path: Path) -> None:
    """503 with Retry-After, from no state; others of the same address go on, and so does hanging up."""
    small = "# user_rate = 20\n# user_burst = 200|user_rate = 1\nuser_burst = 6"

    async def work() -> None:
        async with office(tmp_path, 2, limits=small) as one:
            await one.register_all()
            u0, u1 = one.phones
            invite = await call(u0, "u0", "sip:u1@a.example")
            u1.send(answer(await u1.request("INVITE"), 200, u1.contact))
            ok = await u0.response()
            u0.send(in_dialog("ACK", ok, u0.contact, 2, invite))
            await u1.request("ACK")
            made = request("MESSAGE", "sip:nobody@a.example", "u0")
            challenge = await u0.ask(made)
            statuses = []
            with capture_logs() as logs:
                for count in range(1, 9):
                    refused = await u0.ask(signed(made, challenge, "u0", "secret", count=count))
                    statuses.append(refused.status)
            assert statuses[0] == 404
            said = [(line["log_level"], line["sender"]) for line in logs if line["event"] == "too many requests"]
            assert said == [("warning", "u0")]  # once, however often it was refused
            assert statuses.count(503) > 1
            assert statuses[-1] == 503
            assert 1 <= int(refused.get("retry-after") or b"") <= 2
            assert limited(one.at)["user"] >= 1
            await asyncio.sleep(0.6)  # the answers above that had a state are not sent again: none had
            bye = in_dialog("BYE", ok, u0.contact, 3, invite)
            u0.send(bye)
            u1.send((await u1.request("BYE")).response(200, "OK"))
            assert (await u0.response()).status == 200
            assert (await u1.ask_signed(request("MESSAGE", "sip:nobody@a.example", "u1"), "u1")).status == 404

    run(work)


def test_another_domain_beyond_the_limit_is_refused_request_by_request(tmp_path: Path) -> None:
    """500 with Retry-After: its other users' requests need not wait for it."""

    def prepare(lab: Lab) -> None:
        lab.change("b.example", "# peer_rate = 1000\n# peer_burst = 5000", "peer_rate = 1\npeer_burst = 3")

    async def work() -> None:
        async with pair(tmp_path, prepare) as (left, right):
            carol, dave = await users(left, right)
            # As it is sent: what our own proxy makes of a 503 is a 500 as well (section 16.7 step 6).
            sent = []
            send = right.neighbour._transactions.send
            right.neighbour._transactions.send = lambda data, flow: (sent.append(data), send(data, flow))[1]  # type: ignore[method-assign]
            statuses = []
            for _ in range(5):
                made = request("MESSAGE", "sip:nobody@b.example", "carol")
                response = await carol.ask_signed(made, "carol")
                statuses.append(response.status)
            assert statuses == [404, 404, 404, 500, 500]
            assert [data[8:11] for data in sent] == [b"404", b"404", b"404", b"500", b"500"]
            assert response.get("retry-after") == b"1"
            assert limited(right) == {"peer": 2}
            assert (
                await dave.ask_signed(request("MESSAGE", "sip:nobody@b.example", "dave", "b.example"), "dave")
            ).status == 404

    run(work)
