"""Neighbours and terminals that start anew, and what is lost, at each step of an introduction (WIRE section 4.3)."""

import asyncio
from pathlib import Path

import pytest
from attacks.middle import FORTH
from introduced import (
    ALICE,
    DAVE,
    LATER_S,
    is_keys,
    loses_answers,
    loses_requests,
    over,
    quickly,
    restart,
    rows,
    same,
    two,
)
from sealed import between, eventually
from sip import run

from neighbour.store.database import StoreError
from neighbour.store.setup_keys import HeldKeys

pytestmark = pytest.mark.usefixtures("quickly")
__all__ = ["quickly"]


@pytest.mark.parametrize("restarts", ["left", "right", "both"])
def test_a_restart_before_the_peers_neighbour_has_it(tmp_path: Path, restarts: str) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            world.forth.tamper = loses_requests
            await alice.register(DAVE)
            await eventually(lambda: any(is_keys(one) for _, one in world.forth.seen))
            (offered,) = await rows(world.left)
            assert await rows(world.right) == []
            world.forth.tamper = lambda message, to: [message]
            for name in ("left", "right"):
                if restarts in (name, "both"):
                    await restart(getattr(world, name))
            await alice.introduced()
            await dave.introduced()
            assert same(alice, dave).key == offered.key
            await over(world)

    run(work)


@pytest.mark.parametrize("restarts", ["left", "right", "both"])
@pytest.mark.parametrize("dave_joins", [True, False])
def test_a_restart_while_the_answer_is_lost(tmp_path: Path, restarts: str, dave_joins: bool) -> None:
    """The peer has it, or will; the same key is sent again, and neither end gets another."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world, dave_joins=dave_joins)
            world.forth.tamper = loses_answers
            await alice.register(DAVE)
            if dave_joins:
                await dave.introduced()
                await over(world, [("alice", DAVE, "offered", True)])
            else:
                await over(world, [("alice", DAVE, "offered", True)], [("dave", ALICE, "due", True)])
            await alice.nothing()
            world.forth.tamper = lambda message, to: [message]
            for name in ("left", "right"):
                if restarts in (name, "both"):
                    await restart(getattr(world, name))
            await alice.introduced()
            if not dave_joins:
                await dave.join()
                await dave.introduced()
            same(alice, dave)
            await over(world)
            await dave.nothing()
            assert sum(is_keys(one) for to, one in world.forth.seen if to == FORTH) >= 2

    run(work)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_restart_before_a_terminal_has_it(tmp_path: Path, side: str) -> None:
    """The agreement outlives the restart: the terminal need not even register."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            await alice.register(DAVE)
            late, other = (alice, dave) if side == "left" else (dave, alice)
            await other.introduced()
            await late.introduced(0)
            await restart(late.at)
            while not late.got:
                await late.introduced()
            same(alice, dave)
            await over(world)

    run(work)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_terminal_that_starts_anew(tmp_path: Path, side: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What went to its old agreement is lost: it gets its key with the new one, at once."""
    monkeypatch.setattr("neighbour.agent.delivery._AGAIN_S", (3600,))

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            await alice.register(DAVE)
            late, other = (alice, dave) if side == "left" else (dave, alice)
            await other.introduced()
            await late.introduced(0)
            await late.join()
            await late.introduced(timeout_s=LATER_S)
            same(alice, dave)
            await over(world)
            assert not late.at.neighbour._setup._deliveries._asked

    run(work)


@pytest.mark.parametrize("status", [403, 415, 480, 500])
def test_a_terminal_that_does_not_take_it(tmp_path: Path, status: int) -> None:
    """It is given it again, a few times and when it registers."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            await alice.register(DAVE)
            await dave.introduced()
            await alice.introduced(status)
            assert [row.state for row in await rows(world.left)] == ["due"]
            await alice.register()
            await alice.introduced()
            same(alice, dave)
            await over(world)

    run(work)


def test_the_answer_of_a_terminal_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store fails as it is to be forgotten: it is delivered once more, and the terminal knows it."""
    real, fails = HeldKeys.delivered, [True]

    async def delivered(self: HeldKeys, keys: object) -> None:
        if fails.pop() if fails else False:
            raise StoreError("disk full")
        await real(self, keys)  # type: ignore[arg-type]

    monkeypatch.setattr(HeldKeys, "delivered", delivered)

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, _ = await two(world, dave_joins=False)
            await alice.register(DAVE)
            first, again = await alice.introduced(), await alice.introduced()
            assert first[0].key == again[0].key
            await over(world, right=[("dave", ALICE, "due", True)])

    run(work)


@pytest.mark.parametrize("method", ["accepted", "drop", "offered", "due", "expire", "of_pair", "add", "knows"])
def test_a_store_that_fails(tmp_path: Path, method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, wherever it is: both ends get their key all the same, or could ask again."""
    real, fails = getattr(HeldKeys, method), [True]

    async def failing(self: HeldKeys, *given: object, **named: object) -> object:
        if fails:
            fails.clear()
            raise StoreError("disk full")
        return await real(self, *given, **named)

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            monkeypatch.setattr(HeldKeys, method, failing)
            for _ in range(3):
                await alice.register(DAVE)
                await asyncio.sleep(0.4)
            await alice.introduced()
            await dave.introduced()
            same(alice, dave)
            await over(world)

    run(work)
