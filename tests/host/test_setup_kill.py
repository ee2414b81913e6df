"""Neighbours that are killed while they introduce two terminals: whatever one terminal has, the other gets."""

import asyncio
import contextlib
import random
import time
from pathlib import Path

import pytest
from introduced import Terminal, consent, rows
from sip import Domain, Hopper, run

from lab.lab import Lab
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store, migrate

ALICE, DAVE = "sip:alice@a.example", "sip:dave@b.example"
_ROUNDS = 4
_WITHIN_S = 0.12  # of a REGISTER: as long as an introduction takes
_SETTLED_S = 20.0


async def terminal(at: Domain, user: str, *contacts: str) -> Terminal:
    url = load(at.folder / "wisp.toml").store_url
    migrate(url)
    store = Store(url)
    await store.open()
    await add_account(store, at.name, user, "secret", is_terminal=True)
    await store.close()
    if contacts:
        await consent(at, user, *contacts)
    hopper = await Hopper.open(at)
    assert isinstance(hopper, Hopper)
    return Terminal(at, user, hopper)


async def takes(one: Terminal) -> None:
    """Take what comes for a moment."""
    with contextlib.suppress(TimeoutError):
        while True:
            await one.introduced(timeout_s=0.05)


async def settled(alice: Terminal, dave: Terminal) -> None:
    """Wait until nothing is on its way any more, and look at who has what."""
    end = time.monotonic() + _SETTLED_S
    while True:
        await takes(alice)
        await takes(dave)
        found = [*await rows(alice.at), *await rows(dave.at)]
        if all(row.state == "delivered" for row in found):
            break
        assert time.monotonic() < end, [(row.user, row.state) for row in found]
    assert {one.key for one in alice.got} == {one.key for one in dave.got}


@pytest.mark.parametrize("kills", [("a.example",), ("b.example", "a.example"), ("a.example", "b.example")])
def test_killed_at_any_moment(tmp_path: Path, kills: tuple[str, ...]) -> None:
    chance = random.Random(len(kills[0]) + len(kills))

    async def work() -> None:
        with Lab(tmp_path) as lab:
            addresses = lab.make_domains("a.example", "b.example")
            domains = {name: Domain(lab, name, address) for name, address in addresses.items()}
            alice = await terminal(domains["a.example"], "alice")
            dave = await terminal(domains["b.example"], "dave", ALICE)
            running = {name: lab.start_neighbour(name) for name in domains}
            for one in (alice, dave):
                await one.join()
            for _ in range(_ROUNDS):
                before = len(alice.got)
                await alice.register(DAVE)
                for name in kills:
                    await asyncio.sleep(chance.random() * _WITHIN_S)
                    running[name].kill()
                for name in sorted(kills, reverse=True):
                    # Whom the offers come from is the last to be back: it begins with them at once.
                    running[name] = lab.start_neighbour(name)
                await settled(alice, dave)
                if len(alice.got) == before:
                    await alice.register(DAVE)  # it was too early: nobody had anything yet
                    while len(alice.got) == before or len(dave.got) < len(alice.got):
                        await takes(alice)
                        await takes(dave)
                await settled(alice, dave)
            assert len({one.key for one in alice.got}) >= _ROUNDS
            for one in (alice, dave):
                one.hopper.close()

    run(work)
