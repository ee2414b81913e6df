"""What ends, what is too much, and what is malformed of the introduction of two terminals (WIRE section 4.3)."""

import asyncio
import time
from pathlib import Path

import pytest
from introduced import (
    ALICE,
    DAVE,
    Terminal,
    loses_answers,
    over,
    quickly,
    rows,
    same,
    two,
)
from sealed import between, eventually
from sip import domain, run

from neighbour.agent.setup import SetupExchange
from sipwire.setup_keys import kid_of

pytestmark = pytest.mark.usefixtures("quickly")
__all__ = ["quickly"]


def test_a_key_whose_life_is_over(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world, dave_joins=False)
            world.forth.tamper = loses_answers
            await alice.register(DAVE, life=2)
            await over(world, [("alice", DAVE, "offered", True)], [("dave", ALICE, "due", True)])
            await over(world, [], [])
            world.forth.tamper = lambda message, to: [message]
            await dave.join()
            await alice.nothing(0.1)
            await dave.nothing(0.1)
            # Nor is one that ends while the neighbour is away.
            await alice.register(DAVE, life=1)
            await alice.introduced()
            assert alice.got[0].life == 1
            await dave.introduced(0)
            await world.right.stop()
            await asyncio.sleep(1.2)
            await world.right.start()
            await dave.nothing()
            await over(world, [], [])

    run(work)


@pytest.mark.parametrize("life", [86_400 * 31, 2**31 - 1])
def test_a_life_that_is_too_long(tmp_path: Path, life: int) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world)
            await alice.register(DAVE, life=life, uses=2**31 - 1)
            await alice.introduced()
            await dave.introduced()
            made = same(alice, dave)
            assert (made.life, made.uses) == (30 * 86_400, 2**31 - 1)

    run(work)


def test_a_wish_that_is_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that asks all the time costs its neighbour, and the other one, next to nothing."""
    monkeypatch.setattr("neighbour.agent.setup._PAUSE_MS", 10_000)

    async def work() -> None:
        async with between(tmp_path) as world:
            dave = await Terminal.make(world.right, "dave")
            alice = await Terminal.make(world.left, "alice")
            for _ in range(5):
                await alice.register(DAVE)
                await asyncio.sleep(0.1)
            assert world.count(world.forth, "MESSAGE") == 1
            await dave.nothing(0.05)

    run(work)


def test_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neighbour.agent.setup._MAX_OF_USER", 2)

    async def work() -> None:
        async with between(tmp_path) as world:
            users = [f"u{number}" for number in range(3)]
            dave = await Terminal.make(world.right, "dave", *(f"sip:{user}@a.example" for user in users), joins=False)
            terminals = [await Terminal.make(world.left, user) for user in users]
            for one in terminals[:2]:
                await one.register(DAVE)
                await one.introduced()
            before = world.count(world.forth, "MESSAGE")
            await terminals[2].register(DAVE)
            await eventually(lambda: world.count(world.forth, "MESSAGE") > before)
            assert [row.user for row in await rows(world.right)] == ["dave", "dave"]
            assert sorted(row.state for row in await rows(world.left)) == ["delivered", "delivered", "offered"]
            # As soon as there is room the third gets its own.
            await dave.join()
            for _ in range(2):
                await dave.introduced()
            await terminals[2].introduced()
            # A terminal of ours has no more on their way, either; and nobody has where there are too many in all.
            await world.right.stop()
            peers = [f"sip:x{number}@b.example" for number in range(4)]
            await terminals[0].register(*peers)
            await asyncio.sleep(0.2)
            assert [row.peer for row in await rows(world.left) if row.state == "offered"] == peers[:2]
            monkeypatch.setattr("neighbour.agent.setup._MAX_HELD", 2)
            await terminals[1].register(peers[0])
            await asyncio.sleep(0.2)
            assert [row.user for row in await rows(world.left) if row.state == "offered"] == ["u0", "u0"]

    run(work)


def test_more_than_two_of_a_pair(tmp_path: Path) -> None:
    """A terminal keeps two of each peer: the oldest gives way, here and at the other end, and after delivery as well."""

    async def work() -> None:
        async with between(tmp_path) as world:
            alice, dave = await two(world, dave_joins=False)
            for _ in range(4):
                await alice.register(DAVE)
                await alice.introduced()
            kids = [kid_of(one.key).decode() for one in alice.got]
            await eventually(lambda: world.left.value("wisp_setup_keys_total", result="delivered") == 4)
            assert [row.kid for row in await rows(world.right)] == kids[2:]
            assert [row.kid for row in await rows(world.left)] == kids[2:]
            await dave.join()
            while len(dave.got) < 2:
                await dave.introduced()
            assert [one.key for one in dave.got] == [one.key for one in alice.got[2:]], "the newest is the last"

    run(work)


def test_what_a_repeated_wish_is_remembered_of(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more terminals than there is room for, and of each no more wishes than fit a REGISTER."""
    monkeypatch.setattr("neighbour.agent.setup._MAX_PAUSES", 3)
    monkeypatch.setattr("neighbour.agent.setup._PAUSE_MS", 10_000)
    exchange = SetupExchange.__new__(SetupExchange)
    exchange._pauses = {}
    for heard in (16, 0):
        asked = [exchange._may_ask("alice", f"sip:u{number}@b.example") for number in range(20)]
        assert asked == [True] * heard + [False] * (20 - heard)
    assert [exchange._may_ask(user, DAVE) for user in ("bob", "carol", "carol")] == [True, True, False]
    assert not exchange._may_ask("alice", DAVE)
    assert exchange._may_ask("erin", DAVE)
    assert exchange._may_ask("alice", DAVE), "the oldest is forgotten"
    assert len(exchange._pauses) == 3
    now = time.time()
    monkeypatch.setattr("neighbour.agent.setup.wall_ms", lambda: now * 1000 + 10_001)
    assert exchange._may_ask("erin", DAVE)
    assert len(exchange._pauses) == 3


@pytest.mark.parametrize(
    "value",
    [
        b"sip:dave@b.example;life=1;uses=1",
        b"<sip:dave@b.example>",
        b"<sip:dave@b.example>;life=0;uses=1",
        b"<sip:dave@b.example>;life=1;uses=-1",
        b"<tel:+1>;life=1;uses=1",
        b", ".join([b"<sip:u%d@b.example>;life=1;uses=1" % number for number in range(17)]),
    ],
)
def test_a_malformed_wish(tmp_path: Path, value: bytes) -> None:
    """Nothing is changed by such a REGISTER."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            alice = await Terminal.make(at, "alice")
            (before,) = at.neighbour._location.of("alice")
            await asyncio.sleep(0.01)
            refused = await alice.register(value=value)
            assert (refused.status, at.neighbour._location.of("alice")) == (400, [before])
            assert await rows(at) == []

    run(work)


def test_a_wish_outside_of_a_frame(tmp_path: Path) -> None:
    """Step 3 of the agreement is plain: whoever is on the way could have written it."""

    async def work() -> None:
        async with between(tmp_path) as world:
            await Terminal.make(world.right, "dave", ALICE)
            alice = await Terminal.make(world.left, "alice", joins=False)
            hopper = alice.hopper
            hopper.prepare("alice", world.left)
            made = hopper.prove_request(await hopper.ask(hopper.register_request(1)))
            made.add("Setup-Peers", b"<sip:dave@b.example>;life=100;uses=1")
            hopper.send(made)
            await hopper.framed()
            await alice.nothing()
            assert await rows(world.left) == []
            # In a frame it counts with a new agreement as well.
            offer = hopper.register_request(3)
            hopper.send_frame(offer)
            challenged = await hopper.framed()
            sender, receiver = hopper.sender, hopper.receiver
            again = hopper.prove_request(challenged, 4)  # type: ignore[arg-type]
            again.add("Setup-Peers", b"<sip:dave@b.example>;life=100;uses=1")
            new = hopper.sender, hopper.receiver
            hopper.sender, hopper.receiver = sender, receiver
            hopper.send_frame(again)
            hopper.sender, hopper.receiver = new
            assert (await hopper.framed()).status == 200  # type: ignore[union-attr]
            assert (await alice.introduced())[0].aor == DAVE.encode()

    run(work)
