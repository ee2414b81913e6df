"""Forks one after the other: who is asked when those before have said no, or nothing (RFC 3261 section 16.6)."""

import asyncio

import pytest

from scenarios.world import World, scenario


@scenario()
async def test_lower_q_rings_when_the_higher_has_said_no(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.gets("INVITE").answers(180, (3.0, 486))
    second.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    await asyncio.sleep(2)
    assert second.got == []
    await call.final()
    assert call.statuses == [180, 180, 200]


@scenario(proxy={"ring_s": 5.0})
async def test_lower_q_rings_when_the_higher_rings_too_long(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.gets("INVITE CANCEL").answers(180)
    second.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    assert call.arrivals[-1] - call.arrivals[0] == pytest.approx(6.0, abs=0.05)


@scenario(proxy={"ring_s": 5.0, "timer_c_s": 30})
async def test_nobody_answers_at_any_q(here: World) -> None:
    """It is for us that nobody waited any longer: 408, not the 487 that our CANCELs brought."""
    (carol,) = await here.phones("carol")
    first, second, third = await here.ring_group("dave", "0.9", "0.5", "0.1")
    for phone in (first, second, third):
        phone.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    assert (await call.final()).status == 408
    # Two groups of 5 s, and Timer C for the last.
    assert call.arrivals[-1] - call.arrivals[0] == pytest.approx(40.0, abs=0.05)
    assert call.statuses == [180, 180, 180, 408]


@scenario(proxy={"ring_s": 5.0})
async def test_several_ring_together_then_others_together(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two, three, four = await here.ring_group("dave", "0.7", "0.3", "0.7", "0.3")
    one.gets("INVITE").answers(180, (1.0, 486))
    three.gets("INVITE").answers(180, (2.0, 480))
    two.gets("INVITE CANCEL").answers(180)
    four.gets("INVITE ACK").answers(180, (3.0, 200))
    call = carol.call("dave")
    await call.final()
    assert one.arrivals == pytest.approx(three.arrivals, abs=0.01)
    # As soon as both have said no, and not one of them.
    assert two.arrivals[0] - one.arrivals[0] == pytest.approx(2.0, abs=0.05)
    assert two.arrivals[0] == pytest.approx(four.arrivals[0], abs=0.01)


@scenario(proxy={"ring_s": 5.0})
async def test_one_of_a_group_rings_on(here: World) -> None:
    """A refusal beside a phone that rings does not begin the next group: time does."""
    (carol,) = await here.phones("carol")
    one, two, lower = await here.ring_group("dave", "0.7", "0.7", "0.1")
    one.gets("INVITE").answers(486)
    two.gets("INVITE CANCEL").answers(180)
    lower.gets("INVITE ACK").answers(200)
    call = carol.call("dave")
    await call.final()
    assert lower.arrivals[0] - one.arrivals[0] == pytest.approx(5.0, abs=0.05)


@scenario(proxy={"ring_s": 5.0})
async def test_who_answers_just_when_the_next_begins_to_ring(here: World) -> None:
    """A 2xx that crosses our CANCEL counts, and the next group is stopped."""
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.gets("INVITE CANCEL ACK BYE").answers(180, (4.998, 200))
    second.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario(proxy={"ring_s": 5.0})
async def test_no_refusal_before_all_have_been_stopped(here: World) -> None:
    """The first may still answer 200: until it is known that it has not, the refusal of the second waits."""
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.obeys_cancel = False
    first.gets("INVITE CANCEL ACK BYE").answers(180, (7.0, 200))
    second.gets("INVITE").answers(486)
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert call.statuses == [180, 200]
    assert (await call.bye().final()).status == 200


@scenario(proxy={"ring_s": 5.0})
async def test_who_begins_to_ring_when_its_time_is_over(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.link.down = True
    first.gets("INVITE CANCEL").answers(180)
    second.gets("INVITE ACK").answers(180, (12.0, 200))
    call = carol.call("dave")
    await asyncio.sleep(6)
    first.link.down = False
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert call.statuses == [100, 180, 200]
    assert here.times("neighbour", first.name, "CANCEL")[0] - first.arrivals[0] < 0.05


@scenario(proxy={"ring_s": 5.0})
async def test_a_phone_that_is_not_there_costs_its_time_only(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.link.down = True
    second.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    assert second.arrivals[0] - here.times("neighbour", first.name, "INVITE")[0] == pytest.approx(5.0, abs=0.05)


@scenario(proxy={"ring_s": 5.0})
async def test_a_6xx_of_the_first_is_for_all(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.gets("INVITE").answers(180, (1.0, 600))
    assert (await carol.call("dave").final()).status == 600
    assert second.got == []


@scenario(proxy={"ring_s": 5.0})
async def test_a_late_refusal_counts(here: World) -> None:
    """What the first says after its time, other than that it has been cancelled, is an answer like any."""
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.obeys_cancel = False
    first.gets("INVITE CANCEL").answers(180, (6.0, 486))
    second.link.down = True
    call = carol.call("dave")
    assert (await call.final()).status == 486


@scenario()
async def test_the_best_of_all_groups(here: World) -> None:
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", "0.9", "0.5", "0.1")
    for phone, status in zip(phones, (500, 404, 480), strict=True):
        phone.gets("INVITE").answers(status)
    call = carol.call("dave")
    assert (await call.final()).status == 404


@scenario(proxy={"ring_s": 5.0})
async def test_ringing_time_is_for_each_group(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second, third = await here.ring_group("dave", "0.9", "0.5", "0.1")
    first.gets("INVITE").answers(180, (4.0, 486))
    second.gets("INVITE CANCEL").answers(180)
    third.gets("INVITE ACK").answers(180, (1.0, 200))
    await carol.call("dave").final()
    assert second.arrivals[0] - first.arrivals[0] == pytest.approx(4.0, abs=0.05)
    assert third.arrivals[0] - second.arrivals[0] == pytest.approx(5.0, abs=0.05)


@scenario()
async def test_a_contact_without_q_comes_first(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.phone("dave"), await here.phone("dave")
    await second.register(";q=0.999")
    await first.register()
    first.gets("INVITE").answers(486)
    second.gets("INVITE ACK").answers(200)
    assert (await carol.call("dave").final()).status == 200
    assert first.arrivals[0] < second.arrivals[0]


# What is no INVITE can't be cancelled, and has 64*T1 in all.


@scenario(proxy={"next_server_s": 4.0})
async def test_a_message_does_not_wait_for_a_phone_that_is_not_there(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.link.down = True
    second.gets("MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 200
    assert second.arrivals[0] - here.times("neighbour", first.name, "MESSAGE")[0] == pytest.approx(4.0, abs=0.05)


@scenario(proxy={"next_server_s": 4.0})
async def test_a_message_that_the_first_takes_late(here: World) -> None:
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.gets("MESSAGE").answers((6.0, 202), to="MESSAGE")
    second.gets("MESSAGE").answers((9.0, 200), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 202
    await asyncio.sleep(10)
    assert set(call.statuses) == {100, 202}


@scenario(proxy={"next_server_s": 4.0})
async def test_a_message_that_is_refused_is_not_kept_waiting(here: World) -> None:
    """Whoever waits for phones that are not there answers too late: the sender's Timer F is over."""
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.link.down = True
    second.gets("MESSAGE").answers(415, to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 415
    assert here.loop.time() < 10


@pytest.mark.parametrize("status", [415, 603])
@scenario(proxy={"next_server_s": 4.0})
async def test_a_message_that_one_phone_refuses_and_the_other_never_gets(here: World, status: int) -> None:
    """The same for phones of one q: after Timer F the refusal would come too late."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("MESSAGE").answers(status, to="MESSAGE")
    two.link.down = True
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == status
    assert call.arrivals[-1] - one.arrivals[0] == pytest.approx(4.0, abs=0.05)


@scenario(proxy={"next_server_s": 10.0})
async def test_no_message_after_its_sender_has_given_up(here: World) -> None:
    """It would be told as not delivered, and delivered (RFC 4320 section 4.2)."""
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", "0.9", "0.8", "0.7", "0.6", "0.5")
    for phone in phones[:4]:
        phone.link.down = True
    call = carol.ask(carol.new("MESSAGE", "dave"))
    with pytest.raises(TimeoutError):
        await call.final()
    await here.idle_at()
    assert [here.count("neighbour", phone.name, "MESSAGE") > 0 for phone in phones] == [True, True, True, True, False]


@scenario(proxy={"next_server_s": 4.0})
async def test_a_message_that_nobody_takes(here: World) -> None:
    """Not even a 408 of a phone's own is passed on."""
    (carol,) = await here.phones("carol")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.link.down = True
    second.gets("MESSAGE").answers(408, to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    with pytest.raises(TimeoutError):
        await call.final()
    assert set(call.statuses) == {100}
