"""The table of setup keys, and that of contacts."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from sip import run
from sqlalchemy import select

from neighbour.store.accounts import add_account, remove_account
from neighbour.store.database import Store, StoreError, migrate
from neighbour.store.schema import account_contacts, setup_keys
from neighbour.store.setup_keys import (
    DUE,
    MAX_CONTACTS,
    OFFERED,
    ContactsFullError,
    Held,
    HeldKeys,
    change_contacts,
    contacts_of,
    known_contacts,
    list_keys,
)

ALICE, ERIN, DAVE = "sip:alice@a.example", "sip:erin@a.example", "sip:dave@b.example"
KEY = bytes(range(32))


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[tuple[Store, HeldKeys]]:
    url = f"sqlite+aiosqlite:///{folder}/wisp.db"
    migrate(url)
    store = Store(url)
    await store.open()
    try:
        for user in ("alice", "erin"):
            await add_account(store, "a.example", user, "secret", is_terminal=True)
        yield store, HeldKeys(store)
    finally:
        await store.close()


def kid(number: int) -> bytes:
    return b"%016d" % number


async def add(
    held: HeldKeys, number: int, state: str = DUE, user: str = "alice", peer: str = DAVE, end: int = 99
) -> None:
    assert await held.add(kid(number), KEY, (5, number, end), state, (user, peer))


async def numbers(store: Store) -> list[int]:
    return [int(row.kid) for row in await store.read(select(setup_keys).order_by(setup_keys.c.id))]


def test_the_life_of_a_key(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as (store, held):
            await add(held, 1, OFFERED)
            assert await held.knows("alice", DAVE, kid(1))
            assert not await held.knows("erin", DAVE, kid(1))
            (number,) = await held.offers()
            assert await held.of_pair("alice", DAVE) == [(number, OFFERED)]
            assert (await held.waiting(), await held.due("alice", 9)) == (set(), [])
            one = await held.offered(number)
            assert one is not None
            assert (one.user, one.peer, one.key, one.uses, one.ends_at) == ("alice", DAVE, KEY, 5, 99)
            assert repr(KEY)[2:-1] not in repr(one)
            await held.accepted(number)
            assert await held.offered(number) is None
            assert (await held.offers(), await held.waiting()) == ([], {"alice"})
            (due,) = await held.due("alice", 9)
            assert (due.number, due.key) == (number, KEY)
            assert await held.count("alice") == (1, 1)
            await held.delivered([due])
            (row,) = await store.read(select(setup_keys))
            assert (row.state, row.key) == ("delivered", None)
            assert (await held.waiting(), await held.of_pair("alice", DAVE)) == (set(), [])
            assert await held.count("alice") == (0, 0)
            assert await held.knows("alice", DAVE, kid(1)), "so that it is not taken once more"
            assert [one.state for one in await list_keys(store, 98)] == ["delivered"]
            assert await list_keys(store, 99) == await list_keys(store, 0, "erin") == []
            await held.accepted(number)
            assert (await list_keys(store, 0))[0].state == "delivered", "what is over does not begin again"

    run(work)


def test_both_or_none(tmp_path: Path) -> None:
    """Rows for two users, with a consent that may have gone a moment ago, and one that is there already."""

    async def work() -> None:
        async with opened(tmp_path) as (store, held):
            pairs = ("alice", ERIN), ("erin", ALICE)
            limits = (1, 2, 3)
            assert not await held.add(kid(1), KEY, limits, DUE, *pairs, consent=("erin", ALICE))
            assert await numbers(store) == []
            await change_contacts(store, "a.example", "erin", [ALICE], [])
            assert await held.add(kid(1), KEY, limits, DUE, *pairs, consent=("erin", ALICE))
            assert await numbers(store) == [1, 1]
            with pytest.raises(StoreError):
                await held.add(kid(1), KEY, limits, DUE, ("alice", DAVE), pairs[0])
            assert await numbers(store) == [1, 1]

    run(work)


def test_no_number_is_given_twice(tmp_path: Path) -> None:
    """What comes of a key that is gone must not count for another."""

    async def work() -> None:
        async with opened(tmp_path) as (_, held):
            await add(held, 1, OFFERED)
            (first,) = await held.offers()
            await held.drop(first)
            await add(held, 2, OFFERED)
            (second,) = await held.offers()
            assert second > first
            await held.accepted(first)
            assert await held.offers() == [second]

    run(work)


def test_what_is_kept_of_what_was_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neighbour.store.setup_keys._KEPT_OF_USER", 5)

    async def work() -> None:
        async with opened(tmp_path) as (store, held):
            for number in range(4):
                await add(held, number)
                await held.delivered(await held.due("alice", 9))
            assert await numbers(store) == [2, 3], "two of a pair"
            await add(held, 4, user="erin")
            await add(held, 5)
            await held.delivered(await held.due("alice", 9))
            assert await numbers(store) == [3, 4, 5], "and what is on its way, or somebody else's"
            for number in range(6, 11):
                await add(held, number, peer=f"sip:u{number}@b.example")
            await held.delivered(await held.due("alice", 9))
            assert await numbers(store) == [4, 6, 7, 8, 9, 10]
            await held.delivered([])

    run(work)


def test_the_oldest_are_due_first(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as (_, held):
            for number in range(5):
                await add(held, number, peer=f"sip:u{5 - number}@b.example")
            assert [one.peer[4:6] for one in await held.due("alice", 3)] == ["u5", "u4", "u3"]

    run(work)


def test_what_is_over_and_what_is_nobodys(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as (store, held):
            assert await held.first_end() is None
            for number, (user, peer, end) in enumerate(
                (
                    ("alice", DAVE, 10),
                    ("alice", DAVE, 20),
                    ("ghost", DAVE, 30),
                    ("alice", "sip:ghost@a.example", 30),
                    ("alice", "sip:ghost@xa.example", 30),
                    ("alice", ERIN, 40),
                )
            ):
                await add(held, number, user=user, peer=peer, end=end)
            assert await held.first_end() == 10
            await held.expire(9)
            assert len(await numbers(store)) == 6
            await held.expire(10)
            assert (await numbers(store), await held.first_end()) == ([1, 2, 3, 4, 5], 20)
            await change_contacts(store, "a.example", "ghost", [ALICE], [])
            await held.rid("a.example", 20)
            assert await numbers(store) == [4, 5]
            assert await contacts_of(store, "ghost") == []

    run(work)


def test_pairs_that_are_parted(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as (store, held):
            await change_contacts(store, "a.example", "alice", [DAVE, ERIN], [])
            for number, (user, peer, state) in enumerate(
                (
                    ("alice", DAVE, DUE),
                    ("alice", DAVE, OFFERED),
                    ("alice", ERIN, DUE),
                    ("erin", ALICE, DUE),
                    ("erin", DAVE, DUE),
                )
            ):
                await add(held, number, state, user, peer)
            await change_contacts(store, "a.example", "alice", [], [ERIN])
            assert await numbers(store) == [0, 1, 4]
            await held.drop_pair(("alice", DAVE), ("dave", ALICE))
            assert await numbers(store) == [4]
            await add(held, 5, user="erin", peer=ALICE)
            await add(held, 6, user="alice", peer=DAVE)
            await held.delivered(await held.due("alice", 9))
            await held.drop_pair(("alice", DAVE))
            assert await numbers(store) == [4, 5, 6], "what was delivered is the terminal's to forget"
            assert await remove_account(store, "alice", "a.example")
            assert await numbers(store) == [4]
            await add(held, 7, user="ghost", peer=DAVE)
            held.drop_of({"erin"}, {DAVE})
            await held.drop(0)
            assert await numbers(store) == []

    run(work)


def test_contacts(tmp_path: Path) -> None:
    async def work() -> None:
        async with opened(tmp_path) as (store, held):
            await change_contacts(store, "a.example", "alice", [DAVE, ERIN, DAVE], [])
            await change_contacts(store, "a.example", "alice", [DAVE], [])
            await change_contacts(store, "a.example", "erin", [ALICE], ["sip:nobody@b.example"])
            assert await contacts_of(store, "alice") == [DAVE, ERIN]
            assert (await held.consents("alice", DAVE), await held.consents("erin", DAVE)) == (True, False)
            assert known_contacts(store.url) == [("alice", DAVE), ("alice", ERIN), ("erin", ALICE)]
            many = [f"sip:u{number}@b.example" for number in range(MAX_CONTACTS)]
            with pytest.raises(ContactsFullError):
                await change_contacts(store, "a.example", "alice", many, [])
            assert await contacts_of(store, "alice") == [DAVE, ERIN]
            await change_contacts(store, "a.example", "alice", many, [DAVE, ERIN])
            assert len(await contacts_of(store, "alice")) == MAX_CONTACTS
            # Nobody's consent to somebody outlives that account, or goes over to the next of that name.
            assert await remove_account(store, "alice", "a.example")
            assert await store.read(select(account_contacts)) == []

    run(work)
    assert known_contacts(f"sqlite+aiosqlite:///{tmp_path}/none.db") == []
    assert not (tmp_path / "none.db").exists()


def test_a_key_that_is_held_has_no_words() -> None:
    assert "key" in Held.__slots__
    assert not hasattr(Held, "__dict__") or "__repr__" not in vars(Held)
