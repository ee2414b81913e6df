import asyncio
import gc
import time
from pathlib import Path

import pytest
from sip import run
from sqlalchemy import select

from neighbour.equivalence import equivalent
from neighbour.location import Binding, Location, wall_ms
from neighbour.store.accounts import add_account, list_accounts, remove_account
from neighbour.store.database import Store, StoreError, migrate
from neighbour.store.schema import bindings
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
