"""Max-Breadth: how many branches of a request may pend at a time, here and behind us (RFC 5393 section 5)."""

import asyncio

import pytest

from scenarios.world import Phone, World, scenario


def breadth(phone: Phone) -> int | None:
    return phone.requests[0].uint("max-breadth", 1000)


def given(value: int) -> tuple[str, bytes]:
    return ("Max-Breadth", b"%d" % value)


@scenario()
async def test_it_is_added(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(486)
    await carol.call("dave").final()
    assert breadth(dave) == 60


@pytest.mark.parametrize(
    ("phones", "value", "share"), [(1, 5, 5), (2, 60, 30), (3, 60, 20), (3, 7, 2), (3, 3, 1), (4, 200, 15)]
)
@scenario()
async def test_it_is_shared(here: World, phones: int, value: int, share: int) -> None:
    """ "The sum of the values ... MUST be less than or equal to" what came; what is too much for us is cut."""
    (carol,) = await here.phones("carol")
    group = await here.ring_group("dave", *["1"] * phones)
    for phone in group:
        phone.gets("INVITE").answers(486)
    assert (await carol.call("dave", given(value)).final()).status == 486
    assert [breadth(phone) for phone in group] == [share] * phones


@scenario()
async def test_none_is_left(here: World) -> None:
    carol, _ = await here.phones("carol", "dave")
    response = await carol.call("dave", given(0)).final()
    assert response.start_line() == b"SIP/2.0 440 Max-Breadth Exceeded"


@scenario(proxy={"ring_s": 5.0})
async def test_who_may_not_ring_together_rings_in_turn(here: World) -> None:
    """Section 5.5: "The limitation on outgoing Max-Breadth is applied to concurrent branches only." """
    (carol,) = await here.phones("carol")
    group = await here.ring_group("dave", "1", "1", "1", "1", "1")
    for phone in group[:2]:
        phone.gets("INVITE").answers(180, (1.0, 486))
    for phone in group[2:4]:
        phone.gets("INVITE CANCEL").answers(180)
    group[4].gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave", given(2))
    assert (await call.final()).status == 200
    begun = [round(phone.arrivals[0] - group[0].arrivals[0], 1) for phone in group]
    assert begun == [0, 0, 1, 1, 6]
    assert [breadth(phone) for phone in group] == [1, 1, 1, 1, 2]


@scenario()
async def test_one_at_a_time(here: World) -> None:
    (carol,) = await here.phones("carol")
    group = await here.ring_group("dave", "1", "0.5", "1")
    for phone in group:
        phone.gets("INVITE").answers(180, (1.0, 486))
    call = carol.call("dave", given(1))
    assert (await call.final()).status == 486
    assert [round(phone.arrivals[0] - group[0].arrivals[0], 1) for phone in group] == [0, 2, 1]
    assert [breadth(phone) for phone in group] == [1, 1, 1]


@scenario()
async def test_what_the_first_had_is_for_the_next(here: World) -> None:
    """Section 5.3.3.1: what a branch had is free again when it has ended."""
    (carol,) = await here.phones("carol")
    group = await here.ring_group("dave", "1", "1", "0.5")
    for phone in group:
        phone.gets("INVITE").answers((1.0, 486))
    await carol.call("dave", given(10)).final()
    assert [breadth(phone) for phone in group] == [5, 5, 10]


@scenario()
async def test_who_is_redirected_takes_no_more_than_there_is(here: World) -> None:
    carol, eve = await here.phones("carol", "eve")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE").answers((0.1, 302), headers=(("Contact", b"<sip:eve@a.example>"),))
    two.gets("INVITE").answers(180, (5.0, 486))
    eve.gets("INVITE").answers(180, (1.0, 486))
    await carol.call("dave", given(8)).final()
    assert [breadth(one), breadth(two), breadth(eve)] == [4, 4, 4]


@scenario()
async def test_it_is_in_every_request(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK INFO MESSAGE")
    call = carol.call("dave", given(9))
    await call.final()
    await call.again("INFO").final()
    await carol.ask(carol.new("MESSAGE", "dave", given(3))).final()
    assert [one.uint("max-breadth", 1000) for one in dave.requests if one.method != "ACK"] == [9, 60, 3]


@pytest.mark.parametrize("value", [b"-1", b"x", b"99999999999", b""])
@scenario()
async def test_what_is_no_number(here: World, value: bytes) -> None:
    carol, _ = await here.phones("carol", "dave")
    assert (await carol.call("dave", ("Max-Breadth", value)).final()).status == 400
    await asyncio.sleep(1)
