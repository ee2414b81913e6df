"""Two terminals of a domain that are introduced to each other, over links that lose, double and delay (WIRE 4.3)."""

import asyncio

import pytest

from neighbour.store.setup_keys import change_contacts, list_keys
from scenarios.phones import DatagramFlow
from scenarios.world import DOMAIN, Terminal, World, scenario
from sipwire.introduction import Introduction, Wanted, read_keys, write_peers
from sipwire.message import Response

ALICE, ERIN = f"sip:alice@{DOMAIN}", f"sip:erin@{DOMAIN}"


async def terminals(here: World) -> tuple[Terminal, Terminal]:
    """Alice, and Erin, whom she may be introduced to."""
    alice, erin = await here.phone("alice", Terminal), await here.phone("erin", Terminal)
    await change_contacts(here.store, DOMAIN, "erin", [ALICE], [])
    for one in (alice, erin):
        assert (await one.register()).status == 200
        one.gets(None)
    return alice, erin


async def wants(one: Terminal, peer: str) -> Response:
    """Register in a frame, naming a peer."""
    one.cseq += 1
    made = one.new("REGISTER", f"sip:{one.user}@{DOMAIN}", ("Expires", b"3600"), uri=f"sip:{DOMAIN}")
    made.add("Setup-Peers", write_peers([Wanted(peer.encode(), 3600, 5)]))
    return await one.ask(made).final()


async def starts_anew(one: Terminal) -> None:
    """Come back, without the agreement of before."""
    one.link.down = False
    one.flow = DatagramFlow(one)
    assert (await one.register()).status == 200
    await asyncio.sleep(1)


async def later(here: World, seconds: int) -> None:
    """Let so much time pass, as the running neighbour does."""
    for _ in range(seconds):
        await asyncio.sleep(1)
        here.neighbour._setup.look()


def given(one: Terminal) -> list[Introduction]:
    """Every key that a terminal has got, again if it got it again."""
    return [key for request in one.requests if request.method == "MESSAGE" for key in read_keys(request.body)]


async def both_have_it(here: World, alice: Terminal, erin: Terminal) -> None:
    (key,) = {one.key for one in given(alice)}
    assert {one.key for one in given(erin)} == {key}
    assert ({one.aor for one in given(alice)}, {one.aor for one in given(erin)}) == ({ERIN.encode()}, {ALICE.encode()})
    found = await list_keys(here.store, 0)
    assert [(one.user, one.state) for one in found] == [("alice", "delivered"), ("erin", "delivered")]


@pytest.mark.parametrize("seed", range(20))
@scenario()
async def test_over_links_that_lose_two_fifths(here: World, seed: int) -> None:
    alice, erin = await terminals(here)
    alice.link.loss = erin.link.loss = 0.2 + 0.2 * (seed % 2)
    assert (await wants(alice, ERIN)).status == 200
    await later(here, 120)
    await both_have_it(here, alice, erin)


@pytest.mark.parametrize("away_s", [10, 40, 1000])
@scenario()
async def test_a_terminal_that_is_away(here: World, away_s: int) -> None:
    """It is tried a few times; whenever it comes back, with a new agreement, it gets its key at once."""
    alice, erin = await terminals(here)
    erin.link.down = True
    await wants(alice, ERIN)
    await later(here, away_s)
    assert (len(given(alice)), given(erin)) == (1, [])
    sent = here.count("neighbour", "erin", "frame")
    if away_s == 1000:
        # Each attempt is eleven datagrams: at once, and after 30 and 120 s; after 600 s it is not registered any more.
        assert sent == 3 * 11 + 1
        assert len(here.neighbour._setup._deliveries._again) == 0
    await starts_anew(erin)
    assert given(erin)
    # This one answers what comes with its 200 without a frame yet: it is asked again.
    await later(here, 70)
    await both_have_it(here, alice, erin)


@scenario()
async def test_a_key_that_nobody_came_for(here: World) -> None:
    """Its life ends, and with it all that was known of it."""
    alice, erin = await terminals(here)
    erin.link.down = True
    await wants(alice, ERIN)
    await later(here, 3599)
    assert len(await list_keys(here.store, 0)) == 2
    await later(here, 3)
    assert await list_keys(here.store, 0) == []
    assert here.neighbour._setup._first_end is None
    await starts_anew(erin)
    assert given(erin) == []
