import asyncio
import gc
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from counting import operations
from sip import run
from sqlalchemy import select

from benchmarks.contacts import measure
from neighbour.equivalence import equivalent
from neighbour.location import Binding, Location, wall_ms
from neighbour.store.accounts import add_account, list_accounts, remove_account
from neighbour.store.database import Store, StoreError, migrate
from neighbour.store.schema import bindings
from neighbour.transport.flow import Flow
from sipwire.uri import Uri

_SWEEP_S = 1.1  # what ends is looked for in the second after its end


async def opened(tmp_path: Path) -> tuple[Store, Location]:
    url = f"sqlite+aiosqlite:///{tmp_path}/wisp.db"
    migrate(url)
    store = Store(url)
    await store.open()
    if not await list_accounts(store):
        for user in ("alice", "bob"):
            await add_account(store, "a.example", user, "pw", is_terminal=False)
    return store, Location(store)


async def stored(store: Store) -> list[tuple[str, int]]:
    """Contact and CSeq of every binding in the store."""
    return [(row.contact, row.cseq) for row in await store.read(select(bindings))]


def binding(user: str, contact: str, seconds: float = 60, q: int = 1000) -> Binding:
    return Binding(user, contact.encode(), b"call", 1, wall_ms() + int(seconds * 1000), q)


def test_bindings_come_back(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        hop = binding("alice", "sip:alice@192.0.2.1")
        hop.kind, hop.spi, hop.source = "hop", 0xFFFFFFFF, "192.0.2.1:5060"
        await location.change(
            [hop, binding("bob", "sip:bob@192.0.2.2", q=500), binding("bob", "sip:bob@192.0.2.3")], []
        )
        again = Location(store)
        assert await again.load() == 3
        assert [one.contact for one in again.of("bob")] == [b"sip:bob@192.0.2.3", b"sip:bob@192.0.2.2"]
        found = again.of("alice")[0]
        assert {**found.row(), "registered_at": 0} == {**hop.row(), "registered_at": 0}
        assert found.flow is None
        await store.close()

    run(work)


def test_replace_and_remove(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        await location.change([binding("alice", "sip:alice@192.0.2.1")], [])
        newer = binding("alice", "sip:alice@192.0.2.1", 120)
        newer.cseq = 2
        await location.change([newer], [])
        assert [one.cseq for one in location.of("alice")] == [2]
        assert len(location) == 1
        await location.change([], [newer])
        assert location.of("alice") == []
        again = Location(store)
        assert await again.load() == 0
        await store.close()

    run(work)


def test_two_users_with_one_contact(tmp_path: Path) -> None:
    """Phones behind NATs have the same private address; neither takes the other's place."""

    async def work() -> None:
        store, location = await opened(tmp_path)
        await location.change([binding("alice", "sip:192.168.1.2:5060"), binding("bob", "sip:192.168.1.2:5060")], [])
        assert len(location) == 2
        for user in ("alice", "bob"):
            found = location.by_contact(b"sip:192.168.1.2:5060", user)
            assert found is not None
            assert found.user == user
        await location.change([], location.of("alice"))
        assert location.by_contact(b"sip:192.168.1.2:5060", "alice") is None
        assert location.by_contact(b"sip:192.168.1.2:5060", "bob") is not None
        await store.close()

    run(work)


def test_expiry(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        await location.change(
            [binding("alice", "sip:a", 0.05), binding("bob", "sip:b", 0.05), binding("bob", "sip:c")], []
        )
        longer = binding("bob", "sip:b", 60)
        await location.change([longer], [])
        time.sleep(_SWEEP_S)
        assert location.of("alice") == []
        assert location.by_contact(b"sip:a", "alice") is None
        assert [one.contact for one in location.expire()] == [b"sip:a"]
        assert location.expire() == []
        assert {one.contact for one in location.of("bob")} == {b"sip:b", b"sip:c"}
        await store.close()
        again, second = await opened(tmp_path)
        assert await second.load() == 2
        await again.close()

    run(work)


def test_nothing_changes_when_the_store_fails(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        bad = binding("alice", "sip:a")
        bad.cseq = None  # type: ignore[assignment]
        with pytest.raises(StoreError):
            await location.change([binding("bob", "sip:b"), bad], [])
        assert len(location) == 0
        await store.close()

    run(work)


def test_a_refresh_in_flight_outlives_the_look_for_what_is_over(tmp_path: Path) -> None:
    """What was answered 200 is in the store, whenever the old binding was found to be over."""

    async def work() -> None:
        store, location = await opened(tmp_path)
        await location.change([binding("alice", "sip:a", 0.05)], [])
        await asyncio.sleep(_SWEEP_S)
        newer = binding("alice", "sip:a")
        newer.cseq = 2
        refresh = asyncio.create_task(location.change([newer], []))
        await asyncio.sleep(0)
        assert len(location.expire()) == 1
        await refresh
        await store.close()
        again, _ = await opened(tmp_path)
        assert [one.cseq for one in location.of("alice")] == [2]
        assert await stored(again) == [("sip:a", 2)]
        await again.close()

    run(work)


def test_removal_is_by_contact(tmp_path: Path) -> None:
    """Who removes a binding that has been replaced meanwhile removes what has replaced it, as the store does."""

    async def work() -> None:
        store, location = await opened(tmp_path)
        first = binding("alice", "sip:a")
        await location.change([first], [])
        await location.change([binding("alice", "sip:a")], [])
        await location.change([], [first])
        assert location.of("alice") == []
        assert await stored(store) == []
        await store.close()

    run(work)


def test_a_lock_per_user_and_no_longer_than_wanted(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        order = []

        async def change(name: str) -> None:
            async with location.lock("alice"):
                order.append(name)
                await asyncio.sleep(0.01)
                order.append(name)

        async with location.lock("bob"):
            await asyncio.gather(change("one"), change("two"))
            assert order == ["one", "one", "two", "two"]
            gc.collect()
            assert list(location._locks) == ["bob"]
        await store.close()

    run(work)


def test_what_ended_meanwhile_leaves_the_store(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        await location.change([binding("alice", "sip:a", 0.05), binding("alice", "sip:b"), binding("bob", "sip:c")], [])
        # An account that goes while a registration is written leaves it behind.
        await remove_account(store, "bob")
        await location.change([binding("bob", "sip:c")], [])
        await asyncio.sleep(0.06)
        assert await Location(store).load() == 1
        assert await stored(store) == [("sip:b", 1)]
        await store.close()

    run(work)


def test_forget(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        await location.change([binding("alice", "sip:a"), binding("alice", "sip:b"), binding("bob", "sip:a")], [])
        location.forget("alice")
        assert location.of("alice") == []
        assert location.by_contact(b"sip:a", "alice") is None
        assert location.by_contact(b"sip:a", "bob") is not None
        await store.close()
        again, _ = await opened(tmp_path)
        assert await stored(again) == [("sip:a", 1)]
        await again.close()

    run(work)


def test_slots(tmp_path: Path) -> None:
    """Two flows of a phone may have one contact, and one flow another contact later; without a reg-id contacts count."""

    async def work() -> None:
        store, location = await opened(tmp_path)
        first, second = binding("alice", "sip:a"), binding("alice", "sip:a")
        for number, one in enumerate((first, second), 1):
            one.instance, one.reg_id, one.params, one.path = "urn:x:1", number, b";x", (b"<sip:e;lr>", b"<sip:f;lr>")
        plain = binding("alice", "sip:a")
        await location.change([first, second, plain], [])
        assert len(location) == 3
        again = binding("alice", "sip:b")
        again.instance, again.reg_id = "urn:x:1", 1
        await location.change([again], [])
        assert [one.contact for one in location.of("alice")] == [b"sip:b", b"sip:a", b"sip:a"], "the last one first"
        assert location.find("alice", Uri.parse(b"sip:a"), b"sip:a") is plain
        assert location.find_slot("alice", second.slot) is second
        await store.close()
        other, loaded = await opened(tmp_path)
        assert await loaded.load() == 3
        kept = loaded.find_slot("alice", second.slot)
        assert kept is not None
        assert {**kept.row(), "registered_at": 0} == {**second.row(), "registered_at": 0}
        assert kept.path == second.path
        assert [one.slot for one in loaded.of("alice")] == [again.slot, plain.slot, second.slot]
        await loaded.change([], [second, plain])
        assert await stored(other) == [("sip:b", 1)]
        await other.close()

    run(work)


def test_the_very_contact_is_found_before_one_like_it(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        await location.change([binding("alice", "sip:a@h;x=1"), binding("alice", "sip:a@h;x=2")], [])
        for contact, found in ((b"sip:a@h;x=2", b"sip:a@h;x=2"), (b"sip:a@h", b"sip:a@h;x=1"), (b"sip:a@h;x=3", None)):
            one = location.find("alice", Uri.parse(contact), contact)
            assert (None if one is None else one.contact) == found
        await location.change([binding("alice", "sip:a@h")], [location.of("alice")[1]])
        for contact, found in ((b"sip:a@h;x=2", b"sip:a@h;x=2"), (b"sip:a@h", b"sip:a@h")):
            one = location.find("alice", Uri.parse(contact), contact)
            assert (None if one is None else one.contact) == found
        await store.close()

    run(work)


class Ending(Flow):
    """A connection as bindings see it."""

    transport = "TCP"
    reliable = True
    protection = "none"
    peer = ("192.0.2.1", 5060)

    def __init__(self) -> None:
        self.is_open = True
        self.watchers: list[Callable[[str], None]] = []

    def send(self, data: bytes) -> None:
        """Nobody is there."""

    def on_close(self, callback: Callable[[str], None]) -> Callable[[], None]:
        self.watchers.append(callback)
        return lambda: self.watchers.remove(callback)

    def end(self) -> None:
        self.is_open = False
        for watcher in self.watchers:
            watcher("closed by the peer")


def over(connection: Ending, user: str, contact: str) -> Binding:
    one = binding(user, contact)
    one.kind = "tcp"
    one.flow = connection
    return one


def test_the_end_of_a_connection(tmp_path: Path) -> None:
    """It takes the way of all that was registered over it, of whoever; not that of what has come since by another."""

    async def work() -> None:
        store, location = await opened(tmp_path)
        old, new = Ending(), Ending()
        await location.change([over(old, "alice", "sip:a"), over(old, "bob", "sip:b"), over(old, "bob", "sip:c")], [])
        await location.change([over(old, "bob", "sip:b")], [])
        await location.change([over(new, "alice", "sip:a")], [])
        assert len(old.watchers) == 1, "however often it is registered over"
        assert {one.contact for one in location._over[old]} == {b"sip:b", b"sip:c"}
        assert len(location._over[old]) == 2, "what has been replaced is not kept"
        old.end()
        assert {one.contact: one.is_lost for one in location.of("bob")} == {b"sip:b": True, b"sip:c": True}
        assert [(one.is_lost, one.flow) for one in location.of("alice")] == [(False, new)]
        assert location._over.keys() == {new}
        # One that ends while a registration is on its way to the store is none either.
        newest = Ending()
        change = asyncio.create_task(location.change([over(newest, "alice", "sip:a")], []))
        await asyncio.sleep(0)
        newest.end()
        await change
        assert [(one.is_lost, one.flow) for one in location.of("alice")] == [(True, None)]
        assert newest not in location._over
        await store.close()

    run(work)


def test_in_a_dialog_the_living_flow(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        first, second = Ending(), Ending()
        for number, connection in enumerate((first, second), 1):
            one = over(connection, "alice", "sip:a")
            one.instance, one.reg_id = "urn:x:1", number
            await location.change([one], [])
        for lost, living in ((None, second), (second, first)):
            if lost is not None:
                lost.end()
            found = location.by_contact(b"sip:a", "alice")
            assert found is not None
            assert found.flow is living
        await store.close()

    run(work)


def test_what_does_not_end_costs_nothing(tmp_path: Path) -> None:
    """Each second, and each time that the metrics are asked for, the same for 100,000 bindings as for one."""

    async def work() -> None:
        store, location = await opened(tmp_path)

        def each_second() -> None:
            assert location.expire() == []
            assert len(location) == count

        taken = []
        for count in (1, 100_000):
            for number in range(len(location), count):
                location._put(binding(f"u{number}", f"sip:u{number}@192.0.2.1", 3600 + number % 600))
            each_second()
            taken.append(operations(each_second))
        assert taken[0] == taken[1] < 200
        # Nor do refreshes pile up: whoever registers again is looked at as often as before.
        listed = sum(map(len, location._due.values()))
        for _ in range(10):
            for number in range(1000):
                location._put(binding(f"u{number}", f"sip:u{number}@192.0.2.1", 4300))
        assert sum(map(len, location._due.values())) == listed == 100_000
        assert operations(each_second) == taken[0]
        await store.close()

    run(work)


def test_what_ends_costs_what_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a clock of its own: 600 users among 10,000, of whom some have come back and some have gone meanwhile."""

    async def work() -> None:
        store, location = await opened(tmp_path)
        now = wall_ms()
        monkeypatch.setattr("neighbour.location.wall_ms", lambda: now)

        def put(user: int, contact: str, seconds: float) -> Binding:
            one = Binding(f"u{user}", contact.encode(), b"call", 1, now + int(seconds * 1000))
            location._put(one)
            return one

        for number in range(10_000):
            put(number, "sip:a", 60 if number < 600 else 3600)
        for number in range(200):
            put(number, "sip:a", 1800)  # refreshed
        for number in range(200, 400):
            put(number, "sip:b", 30)  # a second contact that ends earlier
        for number in range(400, 500):
            location.forget(f"u{number}")
        assert len(location) == 10_100
        now += 30_999
        assert {one.contact for one in location.expire()} == {b"sip:b"}
        assert len(location) == 9900
        now += 30_000
        ended: list[Binding] = []
        cost = operations(lambda: ended.extend(location.expire()))
        assert sorted(one.user for one in ended) == sorted(
            f"u{number}" for number in (*range(200, 400), *range(500, 600))
        )
        assert cost < 600 * 500
        assert len(location) == 9600
        assert "u450" not in location._users, "who has gone is forgotten"
        now += 3_600_000
        assert len(location.expire()) == 9600
        assert (len(location), location._users, location._due, location._seconds) == (0, {}, {}, [])
        await store.close()

    run(work)


def test_coming_and_going_leaves_no_trail(tmp_path: Path) -> None:
    async def work() -> None:
        store, location = await opened(tmp_path)
        for number in range(1000):
            await location.change([binding("alice", f"sip:a{number}", 3600 - number)], [])
            await location.change([], location.of("alice"))
        for _ in range(1000):
            await location.change([binding("bob", "sip:b", 3600)], [])
            await location.change([], location.of("bob"))
        assert (len(location), await stored(store)) == (0, [])
        assert sum(map(len, location._due.values())) <= 1000 + 2, "one for each second that was earlier than the others"
        await store.close()

    run(work)


def test_memory_of_a_binding_is_flat() -> None:
    """As `tools/bench contacts` measures it: each costs the same, however many there are."""
    few, many = (measure(count, traced=True) for count in (1000, 5000))
    assert many < 1.15 * few
    assert many < 1000


# RFC 3261 section 19.1.4, its own examples among them.
SAME = [
    (b"sip:%61lice@atlanta.com;transport=TCP", b"sip:alice@AtLanTa.CoM;Transport=tcp"),
    (b"sip:carol@chicago.com", b"sip:carol@chicago.com;newparam=5"),
    (b"sip:carol@chicago.com;security=on", b"sip:carol@chicago.com;newparam=5"),
    (
        b"sip:biloxi.com;transport=tcp;method=REGISTER?to=sip:bob%40biloxi.com",
        b"sip:biloxi.com;method=REGISTER;transport=tcp?to=sip:bob%40biloxi.com",
    ),
    (
        b"sip:alice@atlanta.com?subject=project%20x&priority=urgent",
        b"sip:alice@atlanta.com?priority=urgent&subject=project%20x",
    ),
    (b"tel:+1", b"tel:+1"),
]
DIFFERENT = [
    (b"SIP:ALICE@AtLanTa.CoM;Transport=udp", b"sip:alice@AtLanTa.CoM;Transport=UDP"),
    (b"sip:bob@biloxi.com", b"sip:bob@biloxi.com:5060"),
    (b"sip:bob@biloxi.com", b"sip:bob@biloxi.com;transport=udp"),
    (b"sip:bob@biloxi.com", b"sip:bob@biloxi.com:6000;transport=tcp"),
    (b"sip:carol@chicago.com", b"sip:carol@chicago.com?Subject=next%20meeting"),
    (b"sip:bob@phone21.boxesbybob.com", b"sip:bob@192.0.2.4"),
    (b"sip:carol@chicago.com;security=on", b"sip:carol@chicago.com;security=off"),
    (b"sip:a@b", b"sips:a@b"),
    (b"sip:a@b", b"sip:b"),
    (b"tel:+1", b"tel:+2"),
]


def test_equivalence() -> None:
    for expected, pairs in ((True, SAME), (False, DIFFERENT)):
        for one, two in pairs:
            assert equivalent(Uri.parse(one), Uri.parse(two)) is expected, (one, two)
            assert equivalent(Uri.parse(two), Uri.parse(one)) is expected, (two, one)
