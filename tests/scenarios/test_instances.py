"""Several flows of one phone: one is used, the others are for when it fails (RFC 5626 section 7)."""

import asyncio

import pytest

from scenarios.world import Phone, World, scenario
from sipwire.message import Request, Response


@scenario()
async def test_one_of_them_rings(here: World) -> None:
    """ "MUST NOT populate the target set with more than one contact with the same AOR and instance-id at a time"."""
    (carol,) = await here.phones("carol")
    one, _two = await here.flows("dave", "1", "1")
    one.gets("INVITE ACK BYE").answers(180, (20.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert (await call.bye().final()).status == 200


@scenario()
async def test_of_different_q_they_are_one_phone_still(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, _two = await here.flows("dave", "1", "0.5")
    one.gets("INVITE").answers(180, (1.0, 486))
    assert (await carol.call("dave").final()).status == 486


@scenario()
async def test_beside_another_phone(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, _two = await here.flows("dave", "1", "1")
    other = await here.phone("dave")
    await other.register()
    one.gets("INVITE CANCEL").answers(180)
    other.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert call.statuses == [180, 180, 200]


@pytest.mark.parametrize("status", [430, 408])
@scenario()
async def test_the_flow_has_failed(here: World, status: int) -> None:
    """ "If a request for a particular AOR and instance-id fails with a 430 ... SHOULD replace the failed branch"."""
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.gets("INVITE").answers(status)
    two.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert call.statuses == [180, 200]


@pytest.mark.parametrize("status", [302, 404, 480, 486, 487, 500, 503, 603])
@scenario()
async def test_the_phone_has_answered(here: World, status: int) -> None:
    """ "... MUST NOT forward the same request to another target representing the same AOR and instance-id"."""
    (carol,) = await here.phones("carol")
    one, _two = await here.flows("dave", "1", "1")
    one.gets("INVITE").answers(180, (1.0, status))
    assert (await carol.call("dave").final()).status == (500 if status == 503 else status)


@scenario()
async def test_a_phone_that_has_rung_does_not_ring_again(here: World) -> None:
    """A 408 after three minutes of ringing is no flow that has failed."""
    (carol,) = await here.phones("carol")
    one, _two = await here.flows("dave", "1", "1")
    one.gets("INVITE").answers(180, (3.0, 408))
    assert (await carol.call("dave").final()).status == 408


@scenario()
async def test_every_flow_has_failed(here: World) -> None:
    """ "Endpoints should never receive a 430"."""
    (carol,) = await here.phones("carol")
    phones = await here.flows("dave", "1", "1", "1")
    for phone in phones:
        phone.gets("INVITE").answers(430)
    assert (await carol.call("dave").final()).status == 480


@scenario(proxy={"next_server_s": 3.0})
async def test_the_flow_is_silent(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.link.down = True
    two.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert two.arrivals[0] - here.times("neighbour", one.name, "INVITE")[0] == pytest.approx(3.0, abs=0.05)
    assert (await call.bye().final()).status == 200


@scenario(proxy={"next_server_s": 3.0})
async def test_every_flow_is_silent(here: World) -> None:
    """The last of them is given the whole Timer B."""
    (carol,) = await here.phones("carol")
    phones = await here.flows("dave", "1", "1", "1")
    for phone in phones:
        phone.link.down = True
    call = carol.call("dave")
    assert (await call.final()).status == 408
    begun = [here.times("neighbour", phone.name, "INVITE")[0] for phone in phones]
    assert [round(at - begun[0]) for at in begun] == [0, 3, 6]
    assert call.arrivals[-1] - begun[0] == pytest.approx(6 + 32, abs=0.05)


@scenario(proxy={"next_server_s": 3.0})
async def test_the_first_flow_speaks_after_all(here: World) -> None:
    """It was slow, not gone: the phone rings by the first, and refuses the second as a request it has (482)."""
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.gets("INVITE ACK ACK ACK ACK BYE").answers(180, (9.0, 200))
    one.link.delay_s = 2.0
    one.link.drop = lambda message, to_neighbour: isinstance(message, Response) and here.loop.time() < 5
    two.gets("INVITE").answers(482)
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(5)
    assert (await call.bye().final()).status == 200


@scenario(proxy={"next_server_s": 3.0})
async def test_the_first_flow_rings_while_the_second_does(here: World) -> None:
    """Two phones with one name, say: whoever is answered first, as in any fork."""
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.link.down = True
    one.gets("INVITE CANCEL").answers(180)
    two.gets("INVITE ACK").answers(180, (10.0, 200))
    call = carol.call("dave")
    here.loop.call_later(4.0, setattr, one.link, "down", False)
    assert (await call.final()).status == 200
    assert call.statuses == [100, 180, 180, 200]


@scenario(proxy={"next_server_s": 3.0})
async def test_the_first_flow_refuses_late(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.link.drop = lambda message, to_neighbour: isinstance(message, Response) and message.status < 200
    one.gets("INVITE").answers((4.0, 486))
    two.gets("INVITE").answers(180, (2.0, 486))
    call = carol.call("dave")
    assert (await call.final()).status == 486
    assert call.arrivals[-1] - one.arrivals[0] == pytest.approx(5.0, abs=0.05)


@scenario(proxy={"next_server_s": 3.0})
async def test_given_up_while_the_first_flow_is_silent(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.link.down = True
    one.gets("INVITE CANCEL").answers(180)
    two.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 487
    one.link.down = False
    await asyncio.sleep(20)
    assert call.statuses == [100, 180, 487]


@scenario(proxy={"next_server_s": 3.0})
async def test_a_message_over_a_silent_flow(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.link.down = True
    two.gets("MESSAGE")
    assert (await carol.ask(carol.new("MESSAGE", "dave")).final()).status == 200


@scenario(proxy={"next_server_s": 10.0})
async def test_no_message_by_another_flow_when_its_sender_has_given_up(here: World) -> None:
    (carol,) = await here.phones("carol")
    phones = await here.flows("dave", "1", "1", "1", "1", "1")
    for phone in phones:
        phone.link.down = True
    with pytest.raises(TimeoutError):
        await carol.ask(carol.new("MESSAGE", "dave")).final()
    await here.idle_at()
    assert [here.count("neighbour", phone.name, "MESSAGE") > 0 for phone in phones] == [True, True, True, True, False]


async def _connected(here: World) -> tuple[Phone, Phone, Phone]:
    """A caller, and a phone with two connections, the first of which is liked best."""
    (carol,) = await here.phones("carol")
    one, two = await here.phone("dave"), await here.phone("dave")
    for number, phone in ((2, two), (1, one)):
        await phone.connect()
        params = f';reg-id={number};+sip.instance="<urn:uuid:00000000-0000-1000-8000-000a95a0e128>"'
        assert (await phone.register(params)).status == 200
    return carol, one, two


@scenario()
async def test_a_connection_that_has_ended_is_not_used(here: World) -> None:
    carol, one, two = await _connected(here)
    one.flow.close()  # type: ignore[attr-defined]
    await asyncio.sleep(1)
    two.gets("INVITE ACK BYE")
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario()
async def test_a_connection_ends_before_the_phone_has_spoken(here: World) -> None:
    carol, one, two = await _connected(here)
    one.flow.pipe.dead = True  # type: ignore[attr-defined]
    one.gets("INVITE")
    two.gets("INVITE ACK").answers(180, (1.0, 200))
    here.loop.call_later(1.0, one.flow.pipe.other.close)  # type: ignore[attr-defined]
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert two.arrivals[0] - one.arrivals[0] < 1.1


@scenario()
async def test_a_connection_ends_while_the_phone_rings(here: World) -> None:
    """The phone has the request: it must not get it again."""
    carol, one, _two = await _connected(here)
    one.gets("INVITE").answers(180)
    call = carol.call("dave")
    await call.until(180)
    one.flow.close()  # type: ignore[attr-defined]
    assert (await call.final()).status == 480


@scenario()
async def test_every_connection_has_ended(here: World) -> None:
    carol, one, two = await _connected(here)
    for phone in (one, two):
        phone.flow.close()  # type: ignore[attr-defined]
    await asyncio.sleep(1)
    response = await carol.call("dave").final()
    assert (response.status, response.get("warning")) == (480, b'399 a.example "its connection is gone"')


@scenario(proxy={"ring_s": 5.0})
async def test_ringing_time_over_before_another_flow_is_tried(here: World) -> None:
    """The phone's turn is over; the next phone rings, and the first one's other flow is left alone."""
    (carol,) = await here.phones("carol")
    one, _two = await here.flows("dave", "1", "1")
    other = await here.phone("dave")
    await other.register(";q=0.5")
    one.gets("INVITE CANCEL").answers(180)
    other.gets("INVITE ACK").answers(180, (1.0, 200))
    assert (await carol.call("dave").final()).status == 200


@scenario()
async def test_cancel_goes_by_the_flow_that_rings(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.gets("INVITE").answers(430)
    two.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 487


@scenario()
async def test_a_2xx_by_the_flow_that_failed_before(here: World) -> None:
    """Its transaction is over with its 430: whatever comes after has nobody to go to."""
    (carol,) = await here.phones("carol")
    one, two = await here.flows("dave", "1", "1")
    one.gets("INVITE").answers(430)
    two.gets("INVITE").answers(180, (2.0, 486))
    call = carol.call("dave")
    await call.until(180)
    request: Request = one.requests[0]
    late = request.response(200, "OK", b"late")
    here.to_neighbour(late.serialize(), one)
    assert (await call.final()).status == 486
    assert call.statuses == [180, 486]
