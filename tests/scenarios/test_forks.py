"""Forks: who rings, who is asked next, and which answer goes back (RFC 3261 sections 16.6 and 16.7)."""

import asyncio

from scenarios.clock import run
from scenarios.world import world


def test_a_call() -> None:
    async def work() -> None:
        async with world() as here:
            carol, dave = await here.phones("carol", "dave")
            dave.answers(180, (2.0, 200))
            call = carol.call("dave")
            assert (await call.final()).status == 200
            assert call.statuses == [180, 200]
            await asyncio.sleep(0.1)
            assert dave.got == ["INVITE", "ACK"]
            assert (await call.bye().final()).status == 200
            await asyncio.sleep(40)
            assert here.pending == 0

    assert run(work) > 42


def test_lower_q_rings_when_the_higher_has_said_no() -> None:
    async def work() -> None:
        async with world() as here:
            (carol,) = await here.phones("carol")
            first, second = await here.phone("dave"), await here.phone("dave")
            await first.register(";q=0.9")
            await second.register(";q=0.1")
            first.answers(180, (3.0, 486))
            second.answers(180, (1.0, 200))
            call = carol.call("dave")
            await asyncio.sleep(2)
            assert second.got == []
            await call.final()
            await asyncio.sleep(0.1)
            assert call.statuses == [180, 180, 200]
            assert (first.got, second.got) == (["INVITE"], ["INVITE", "ACK"])

    run(work)


def test_lower_q_rings_when_the_higher_rings_too_long() -> None:
    async def work() -> None:
        async with world(proxy={"ring_s": 5.0}) as here:
            (carol,) = await here.phones("carol")
            first, second = await here.phone("dave"), await here.phone("dave")
            await first.register(";q=0.9")
            await second.register(";q=0.1")
            first.answers(180)
            second.answers(180, (1.0, 200))
            call = carol.call("dave")
            await call.final()
            assert 6 < here.loop.time() < 7
            await asyncio.sleep(1)
            assert first.got == ["INVITE", "CANCEL"]
            assert second.got == ["INVITE", "ACK"]
            await asyncio.sleep(300)
            assert here.pending == 0

    run(work)


def test_nobody_answers_at_any_q() -> None:
    async def work() -> None:
        async with world(proxy={"ring_s": 5.0, "timer_c_s": 30}) as here:
            (carol,) = await here.phones("carol")
            first, second = await here.phone("dave"), await here.phone("dave")
            await first.register(";q=0.9")
            await second.register(";q=0.1")
            first.answers(180)
            second.answers(180)
            call = carol.call("dave")
            assert (await call.final()).status in (408, 487)
            assert 35 < here.loop.time() < 37
            assert second.got == ["INVITE", "CANCEL"]
            await asyncio.sleep(300)
            assert here.pending == 0

    run(work)
