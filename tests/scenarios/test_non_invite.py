"""Requests that are no INVITE: they go through whatever they are, and are over after 64*T1 (RFC 4320, RFC 4321)."""

import asyncio

import pytest

from scenarios.world import World, scenario
from sipwire.message import Response

METHODS = ["MESSAGE", "INFO", "OPTIONS", "PUBLISH", "SUBSCRIBE", "REFER", "NOTIFY", "UPDATE", "PRACK", "FOO", "x-Y.z!"]


@pytest.mark.parametrize("method", METHODS)
@scenario()
async def test_all_methods_go_through(here: World, method: str) -> None:
    """... and all that is in them, known or not."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets(method).answers((0.1, 200), to=method, headers=(("X-Back", b"2"),))
    call = carol.ask(carol.new(method, "dave", ("X-There", b"1"), body=b"\0\xff\r\nbody"))
    response = await call.final()
    assert (response.status, response.get("x-back")) == (200, b"2")
    (came,) = dave.requests
    assert (came.get("x-there"), came.body) == (b"1", b"\0\xff\r\nbody")
    assert came.get("proxy-authorization") is None


@pytest.mark.parametrize("status", [200, 202, 299, 300, 404, 415, 489, 500, 501, 603, 699])
@scenario()
async def test_all_answers_go_back(here: World, status: int) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers(status, to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == status
    await asyncio.sleep(1)
    assert call.statuses == [status]


@pytest.mark.parametrize("after_s", [0.0, 5.0])
@scenario()
async def test_a_408_of_others_is_not_passed_on(here: World, after_s: float) -> None:
    """ "MUST NOT send a response with Status-Code of 408 to a non-INVITE request" (RFC 4320 section 4.2)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers((after_s, 408), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    with pytest.raises(TimeoutError):
        await call.final()
    assert 408 not in call.statuses


@scenario()
async def test_a_503_of_a_phone(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers(503, to="MESSAGE")
    assert (await carol.ask(carol.new("MESSAGE", "dave")).final()).status == 500


@scenario()
async def test_all_phones_of_a_user_get_a_message(here: World) -> None:
    """They can't be cancelled; the first 2xx goes back, and no other."""
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", "1", "1", "1")
    for phone, (after_s, status) in zip(phones, ((0.5, 404), (1.0, 202), (1.5, 200)), strict=True):
        phone.gets("MESSAGE").answers((after_s, status), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 202
    await asyncio.sleep(5)
    assert call.statuses == [202]


@scenario()
async def test_a_6xx_does_not_stop_what_has_been_sent(here: World) -> None:
    """What another phone answers is waited for, as with an INVITE."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("MESSAGE").answers(603, to="MESSAGE")
    two.gets("MESSAGE").answers((0.5, 200), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 200
    await asyncio.sleep(2)
    assert call.statuses == [200]


@scenario()
async def test_an_answer_that_comes_too_late(here: World) -> None:
    """The sender's Timer F is over, and so is ours: nobody sends anything (RFC 4320 section 4.3)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers((33.0, 200), to="MESSAGE")
    dave.link.drop = lambda message, to_neighbour: isinstance(message, Response) and message.status == 100
    call = carol.ask(carol.new("MESSAGE", "dave"))
    with pytest.raises(TimeoutError):
        await call.final()
    await asyncio.sleep(5)
    assert here.count("neighbour", "carol", "200 MESSAGE") == 0


@scenario()
async def test_an_answer_at_the_last_moment(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers((31.9, 200), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 200


@pytest.mark.parametrize("status", [200, 404])
@scenario()
async def test_an_answer_that_has_lost_its_way(here: World, status: int) -> None:
    """Without a second Via it can't be forwarded; nothing waits for another that never comes."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers(status, to="MESSAGE")

    def spoil(message: object, to_neighbour: bool) -> bool:
        if isinstance(message, Response) and len(message.get_all("via")) > 1:
            first = next(field for field in message.fields if field[0] == "via")
            message.fields = [first] + [field for field in message.fields if field[0] != "via"]
            here.to_neighbour(message.serialize(), dave)
            return True
        return False

    dave.link.drop = spoil
    assert (await carol.ask(carol.new("MESSAGE", "dave")).final()).status == 502


@scenario()
async def test_the_phones_connection_ends(here: World) -> None:
    carol, dave = await here.phone("carol"), await here.phone("dave")
    flow = await dave.connect()
    for phone in (carol, dave):
        await phone.register()
    dave.gets("MESSAGE").answers(to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    here.loop.call_later(1.0, flow.close)
    assert (await call.final()).status == 480
    assert here.loop.time() < 3


@scenario()
async def test_the_senders_connection_ends(here: World) -> None:
    """The answer has no way back; nothing is left of it."""
    carol, dave = await here.phone("carol"), await here.phone("dave")
    flow = await carol.connect()
    for phone in (carol, dave):
        await phone.register()
    dave.gets("MESSAGE").answers((2.0, 200), to="MESSAGE")
    carol.ask(carol.new("MESSAGE", "dave"))
    await asyncio.sleep(1)
    flow.close()
    await asyncio.sleep(7)  # Timer K
    assert here.pending <= 1
    assert here.count("neighbour", "carol", "200 MESSAGE") == 0


@scenario(limits={"user_burst": 1000, "stranger_burst": 1000})
async def test_many_messages_at_once(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets(" ".join(["MESSAGE"] * 200))
    calls = [carol.ask(carol.new("MESSAGE", "dave", body=b"%d" % number)) for number in range(200)]
    assert {(await call.final()).status for call in calls} == {200}
    assert sorted(int(request.body) for request in dave.requests) == list(range(200))


@scenario()
async def test_publish_to_oneself(here: World) -> None:
    (carol,) = await here.phones("carol")
    carol.gets("PUBLISH").answers(489, to="PUBLISH")
    assert (await carol.ask(carol.new("PUBLISH", "carol", ("Event", b"presence"))).final()).status == 489


@scenario()
async def test_options_to_the_domain(here: World) -> None:
    """That is us: nobody else is asked."""
    (carol,) = await here.phones("carol")
    response = await carol.ask(carol.new("OPTIONS", "sip:a.example")).final()
    assert response.status == 200
    assert b"INVITE" in (response.get("allow") or b"")
