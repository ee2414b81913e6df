import time
from pathlib import Path

import pytest
from sip import run

from neighbour.equivalence import equivalent
from neighbour.location import Binding, Location, wall_ms
from neighbour.store.database import Store, StoreError, migrate
from sipwire.uri import Uri


async def opened(tmp_path: Path) -> tuple[Store, Location]:
    url = f"sqlite+aiosqlite:///{tmp_path}/wisp.db"
    migrate(url)
    store = Store(url)
    await store.open()
    return store, Location(store)


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
        assert found.row() == hop.row()
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
        found = location.by_contact(b"sip:192.168.1.2:5060", "alice")
        assert found is not None
        assert found.user == "bob"
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
        time.sleep(0.06)
        assert location.of("alice") == []
        assert location.by_contact(b"sip:a", None) is None
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
        bad.row = lambda: {**Binding.row(bad), "cseq": None}  # type: ignore[method-assign]
        with pytest.raises(StoreError):
            await location.change([binding("bob", "sip:b"), bad], [])
        assert len(location) == 0
        await store.close()

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
