"""Overload: when it is seen, who is refused then, and what passes all the same."""

import asyncio
import socket
import time
from pathlib import Path

import pytest
from sip import Domain, Hopper, StreamClient, UdpClient, answer, call, domain, in_dialog, phones, request, run, signed
from structlog.testing import capture_logs
from test_trunk import pair, users

from lab.lab import Lab
from neighbour.config import LimitsConfig, ListenConfig
from neighbour.metrics import Metrics
from neighbour.overload import Overload
from neighbour.store.database import Store, StoreBusyError, migrate
from neighbour.store.schema import secrets
from neighbour.transport.flow import Listener
from neighbour.transport.udp import open_udp
from sipwire.transaction import ack_for, cancel_for

# The level.


class Watched:
    """An overload whose numbers the test sets."""

    def __init__(self, **values: int) -> None:
        self.numbers = {"transactions": 0, "requests": 0, "writes": 0}
        self.metrics = Metrics()
        config = LimitsConfig(max_transactions=1000, max_requests=1000, max_writes=1000, **values)
        counts = {name: lambda name=name: self.numbers[name] for name in self.numbers}
        self.overload = Overload(config, self.metrics, counts)

    def look(self, times: int = 1, late_ms: int = 0) -> int:
        for _ in range(times):
            self.overload.look(100 + late_ms)
        return self.overload.level

    def shares(self) -> tuple[float, float, float]:
        """What share is refused of strangers, is not read of them, and is refused of others."""
        times = range(4000)
        refused, others = (sum(self.overload.refuses(stranger=one) for _ in times) / 4000 for one in (True, False))
        return refused, sum(self.overload.skips() for _ in times) / 4000, others


@pytest.mark.parametrize("name", ["transactions", "requests", "writes"])
def test_numbers_raise_the_level_and_lower_it_later(name: str) -> None:
    one = Watched()
    one.numbers[name] = 800
    assert one.look(5) == 0
    one.numbers[name] = 801
    assert one.look(3) == 300
    assert one.look(100) == 3000
    one.numbers[name] = 500  # neither too much nor little: nothing changes, or it would go up and down for ever
    assert one.look(100) == 3000
    one.numbers[name] = 400
    assert one.look(10) == 2500
    assert one.look(100) == 0


def test_an_event_loop_that_is_late() -> None:
    one = Watched(delay_ms=300)
    assert one.look(1, late_ms=1000) == 0  # once, as a pause of the garbage collector is
    assert one.look(30, late_ms=250) == 0
    one.look(30)
    assert one.look(20, late_ms=350) > 0
    assert one.look(10) > 0  # slowly
    assert one.look(200) == 0
    one.look(1, late_ms=8 * 3600 * 1000)  # the lid was shut for a night
    assert one.look(20) <= 1000
    assert one.look(100) == 0


def test_the_level_is_a_share_and_strangers_come_first() -> None:
    one = Watched()
    for level, shares in (
        (0, (0, 0, 0)),
        (500, (0.5, 0, 0)),
        (1000, (1, 0, 0)),
        (1500, (1, 0.5, 0)),
        (2000, (1, 1, 0)),
        (2500, (1, 1, 0.5)),
        (3000, (1, 1, 1)),
    ):
        one.overload.level = level
        assert one.shares() == pytest.approx(shares, abs=0.05)
        assert 0 not in [share for share, wanted in zip(one.shares(), shares, strict=True) if wanted]
        assert one.metrics.value("wisp_overload") == level / 3000


def test_it_is_told_once() -> None:
    one = Watched()
    with capture_logs() as lines:
        one.numbers["writes"] = 900
        one.look(5)
        one.numbers["requests"] = 900
        one.look(5)
        one.numbers.update(writes=0, requests=0)
        one.look(100)
        assert one.metrics.value("wisp_overloads_total", cause="writes") == 1
        assert one.metrics.value("wisp_overloads_total", cause="requests") == 1
    assert [line["event"] for line in lines] == ["overloaded", "overload is over"]
    assert lines[0]["causes"] == ["writes"]
    assert lines[1]["causes"] == ["requests", "writes"]


def test_what_waits_in_the_kernel_is_seen(tmp_path: Path) -> None:
    """The event loop is not late at all when it reads as fast as it can, and slower than they come."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        address = Lab(tmp_path).next_address()
        listener = Listener(ListenConfig(transport="udp", address=address, port=5060), "a.example")
        transport = await open_udp(listener, lambda *_: time.sleep(0.002))
        metrics = Metrics()
        overload = Overload(LimitsConfig(), metrics, {})
        overload.add_udp(transport)
        watching = loop.create_task(overload.watch())
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 5060))
            sock.setblocking(False)
            end = loop.time() + 2.5
            while loop.time() < end:
                for _ in range(40):
                    sock.send(bytes(500))
                await asyncio.sleep(0.02)
            assert overload.level > 500
            assert metrics.value("wisp_delay_seconds") > 0.2
            # Whatever the queue can't hold is counted.
            for _ in range(20_000):
                sock.send(bytes(500))
            overload.look(100)
            assert metrics.value("wisp_datagrams_lost") > 1000
        watching.cancel()
        transport.close()
        overload.look(100)  # a socket that is closed has no queue
        await asyncio.sleep(0)

    run(work)


def test_a_burst_is_no_overload(tmp_path: Path) -> None:
    """Two hundred phones at once, which are answered within a moment."""

    async def work() -> None:
        address = Lab(tmp_path).next_address()
        listener = Listener(ListenConfig(transport="udp", address=address, port=5060), "a.example")
        transport = await open_udp(listener, lambda *_: None)
        overload = Overload(LimitsConfig(), Metrics(), {})
        overload.add_udp(transport)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect((address, 5060))
            for _ in range(10):
                for _ in range(200):
                    sock.send(bytes(500))
                overload.look(100)  # just now, when all of them wait
                await asyncio.sleep(0.05)
                overload.look(100)
                assert overload.level == 0
        transport.close()

    run(work)


# Who is refused.


def hold(at: Domain, level: int) -> None:
    """Set the level, and let it not fall because there is no overload."""
    at.neighbour._overload.look = lambda _: None  # type: ignore[method-assign]
    at.neighbour._overload.level = level


def test_what_begins_is_refused_and_what_ends_passes(tmp_path: Path) -> None:
    """503 with Retry-After from no state for what is new; a call that stands goes on, and ends."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            stands = await call(carol, "carol", "sip:dave@a.example")
            dave.send(answer(await dave.request("INVITE"), 200, dave.contact))
            ok = await carol.response()
            rings = await call(carol, "carol", "sip:dave@a.example")
            ringing = await dave.request("INVITE")
            dave.send(answer(ringing, 180))
            while (await carol.response(provisional=True)).status != 180:
                pass
            before = at.value("wisp_transactions")
            # New: strangers', and those of an address where users are.
            stranger, stream, other = await UdpClient.open(at), await StreamClient.open(at), carol
            for client, level in ((stranger, 1000), (stream, 1000), (other, 3000)):
                hold(at, level)
                for made in (
                    request("INVITE", "sip:dave@a.example"),
                    request("REGISTER", "sip:a.example", to="sip:carol@a.example"),
                    request("OPTIONS", "sip:a.example"),
                ):
                    refused = await client.ask(made)
                    assert refused.status == 503
                    assert 5 <= int(refused.get("retry-after") or b"") <= 15
            await stranger.silence(0.7)  # once
            assert at.value("wisp_transactions") == before
            assert at.value("wisp_overload_refused_total") == 9
            # From the second third on, a stranger is not even read.
            stranger.send(request("OPTIONS", "sip:a.example"))
            await stranger.silence(0.2)
            assert at.value("wisp_overload_refused_total") == 10
            # What belongs to a transaction: an INVITE again, its CANCEL, the answer, the ACK to that.
            carol.send(rings)
            assert (await carol.response(provisional=True)).status == 180
            carol.send(cancel_for(rings))
            assert (await carol.response()).status == 200
            cancel = await dave.request("CANCEL")
            dave.send(cancel.response(200, "OK"))
            dave.send(answer(ringing, 487))
            ended = await carol.response()
            assert ended.status == 487
            carol.send(ack_for(rings, ended))
            await dave.request("ACK")
            # What belongs to a dialog: the ACK, a request in it, and its end.
            carol.send(in_dialog("ACK", ok, carol.contact, 2, stands))
            await dave.request("ACK")
            for number, method in enumerate(("INFO", "BYE"), 3):
                carol.send(in_dialog(method, ok, carol.contact, number, stands))
                dave.send((await dave.request(method)).response(200, "OK"))
                assert (await carol.response()).status == 200
            # A tag does not make a dialog.
            made = request("MESSAGE", "sip:dave@a.example", "carol", to_tag="made-up")
            refused = await carol.ask_signed(made, "carol")
            assert refused.status == 503
            await dave.silence(0.2)
            # And when it is over it is over.
            hold(at, 0)
            assert (await carol.ask(request("OPTIONS", "sip:a.example", "carol"))).status == 407

    run(work)


def test_who_has_begun_is_let_through_first(tmp_path: Path) -> None:
    """At first only those are refused for whom nothing has been done yet, and of whom nobody knows anything."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("alice", terminal=True)
            await at.add("erin")
            alice = await Hopper.open(at)
            await alice.join(at)
            (carol,) = await phones(at, "carol")
            stranger = await UdpClient.open(at)
            made = request("REGISTER", "sip:a.example", "erin", to="sip:erin@a.example", contact=stranger.contact)
            challenge = await stranger.ask(made)
            hold(at, 1000)
            assert (await stranger.ask(made)).status == 503
            # Who answers a challenge, who is where users are, and who comes in a frame.
            assert (await stranger.ask(signed(made, challenge, "erin", "secret"))).status == 200
            assert (await carol.ask_signed(request("MESSAGE", "sip:nobody@a.example", "carol"), "carol")).status == 404
            alice.send_frame(request("MESSAGE", "sip:nobody@a.example", "alice"))
            assert (await alice.framed_final()).status == 404
            hold(at, 2000)
            assert (await carol.ask_signed(request("MESSAGE", "sip:nobody@a.example", "carol"), "carol")).status == 404
            hold(at, 3000)
            assert (await carol.ask(request("MESSAGE", "sip:nobody@a.example", "carol"))).status == 503
            alice.send_frame(request("MESSAGE", "sip:nobody@a.example", "alice"))
            refused = await alice.framed_final()
            assert refused.status == 503
            assert refused.get("retry-after") is not None

    run(work)


def test_another_domain_is_kept_waiting_for_a_second(tmp_path: Path) -> None:
    """Its proxy has to keep back what all its users send for as long as we say (RFC 3261 section 21.5.4)."""

    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, _ = await users(left, right)
            sent = []
            hold(right, 3000)
            send = right.neighbour._transactions.send
            right.neighbour._transactions.send = lambda data, flow: (sent.append(data), send(data, flow))[1]  # type: ignore[method-assign]
            refused = await carol.ask_signed(request("MESSAGE", "sip:dave@b.example", "carol"), "carol")
            assert refused.status == 500  # what our own proxy makes of the 503 (section 16.7 step 6)
            assert b"SIP/2.0 503 " in sent[0]
            assert b"\r\nRetry-After: 1\r\n" in sent[0]
            assert left.value("wisp_connections") == 1

    run(work)


def test_no_room_for_another_transaction(tmp_path: Path) -> None:
    """The table has an end, and a BYE comes in all the same."""

    async def work() -> None:
        async with domain(tmp_path, limits="# max_transactions = 150000|max_transactions = 100") as at:
            carol, dave = await phones(at, "carol", "dave")
            stands = await call(carol, "carol", "sip:dave@a.example")
            dave.send(answer(await dave.request("INVITE"), 200, dave.contact))
            ok = await carol.response()
            made = request("INVITE", "sip:dave@a.example", "carol", contact=carol.contact)
            challenge = await carol.ask(made)
            for count in range(1, 130):
                carol.send(signed(made, challenge, "carol", "secret", count=count))
                await asyncio.sleep(0.002)
            await asyncio.sleep(0.3)
            assert len(at.neighbour._transactions._servers) == 100
            assert at.value("wisp_overload_refused_total") >= 25
            made = request("OPTIONS", "sip:a.example")
            stranger = await UdpClient.open(at)
            refused = await stranger.ask(made)
            assert refused.status == 503
            assert refused.get("retry-after") is not None
            carol.send(in_dialog("BYE", ok, carol.contact, 3, stands))
            while (bye := await dave.request()).method != "BYE":
                pass
            dave.send(bye.response(200, "OK"))
            while not ((answered := await carol.response()).status == 200 and answered.cseq.method == "BYE"):
                pass

    run(work)


# The store.


def test_writes_that_wait_have_an_end(tmp_path: Path) -> None:
    async def work() -> None:
        url = f"sqlite+aiosqlite:///{tmp_path}/wisp.db"
        await asyncio.to_thread(migrate, url)
        store = Store(url, 10)  # its writer does not run yet
        statement = secrets.insert()

        def value(name: str) -> tuple[object, dict[str, object]]:
            return statement, {"name": name, "value": b"x"}

        with capture_logs() as lines:
            for number in range(25):
                store.write_soon(value(f"n{number}"))  # type: ignore[arg-type]
        assert store.queued == 10
        assert [line["event"] for line in lines] == ["writes dropped"]
        with pytest.raises(StoreBusyError, match="too many writes wait"):
            await store.write(value("one more"))  # type: ignore[arg-type]
        await store.open()
        for _ in range(200):
            if not store.queued:
                break
            await asyncio.sleep(0.01)
        await store.write(value("and now"))  # type: ignore[arg-type]
        names = {row.name for row in await store.read(secrets.select())}
        assert names == {f"n{number}" for number in range(10)} | {"and now"}
        await store.close()

    run(work)


def test_a_registration_that_finds_no_place_in_the_queue(tmp_path: Path) -> None:
    """503 with Retry-After and no binding; what was registered stays, and it works when there is room again."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            await at.add("dave")
            dave = await UdpClient.open(at)
            made = request("REGISTER", "sip:a.example", "dave", to="sip:dave@a.example", contact=dave.contact)
            challenge = await dave.ask(made)
            queue = at.neighbour._location._store._queue
            queue._maxsize = 0 + 1  # asyncio's own, of one place,
            queue._put(([], None))  # which is taken
            refused = await dave.ask(signed(made, challenge, "dave", "secret"))
            assert refused.status == 503
            assert refused.get("retry-after") == b"5"
            assert not at.neighbour._location.of("dave")
            queue._get()
            assert (await dave.ask(signed(made, challenge, "dave", "secret", count=2))).status == 200
            assert at.neighbour._location.of("carol")
            assert (await carol.ask(request("OPTIONS", "sip:a.example", "carol"))).status == 407

    run(work)
