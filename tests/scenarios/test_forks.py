"""Forks in parallel: who rings, who is stopped, and what the caller hears of it (RFC 3261 sections 16.6 and 16.7)."""

import asyncio

import pytest

from neighbour.transactions import GONE
from scenarios.world import World, scenario
from sipwire.message import Request, Response


@scenario()
async def test_a_call(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (2.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert call.statuses == [180, 200]
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario()
async def test_the_first_to_answer_has_the_call(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two, three = await here.ring_group("dave", "1", "1", "1")
    one.gets("INVITE CANCEL").answers(180)
    two.gets("INVITE ACK BYE").answers(180, (2.0, 200))
    three.gets("INVITE CANCEL").answers((0.5, 183))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(1)
    assert call.statuses == [180, 180, 183, 200]
    # Each 487 is acknowledged by the neighbour itself.
    assert here.count("neighbour", one.name, "ACK") == here.count("neighbour", three.name, "ACK") == 1
    assert (await call.bye().final()).status == 200


@scenario()
async def test_a_call_that_others_took_is_not_missed(here: World) -> None:
    """RFC 3326: phones show a call that was cancelled as missed, unless they are told why."""
    (carol,) = await here.phones("carol")
    one, two, three = await here.ring_group("dave", "1", "1", "1")
    three.link.down = True
    one.gets("INVITE CANCEL").answers(180)
    two.gets("INVITE ACK").answers(180, (2.0, 200))
    three.gets("INVITE CANCEL").answers(180)  # it hears of the call when that is taken already
    await carol.call("dave").final()
    three.link.down = False
    await here.idle_at()
    assert one.reasons == three.reasons == [[b'SIP;cause=200;text="Call completed elsewhere"']]


@scenario()
async def test_why_a_caller_gives_up_is_passed_on(here: World) -> None:
    """What it says, and nothing where it says nothing."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE CANCEL INVITE CANCEL").answers(180)
    given = [b'SIP;cause=200;text="Call completed elsewhere"', b"Q.850;cause=26"]
    for reasons in (given, []):
        call = carol.call("dave")
        await call.until(180)
        call.cancel(*[("Reason", reason) for reason in reasons])
        assert (await call.final()).status == 487
    assert dave.reasons == [given, []]


@scenario()
async def test_two_answer_at_once(here: World) -> None:
    """ "any 2xx response to an INVITE ... MUST be forwarded immediately", of every branch (section 16.7 step 5)."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE ACK BYE").answers((1.0, 200))
    two.gets("INVITE CANCEL ACK BYE").answers((1.004, 200))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(1)
    assert call.statuses == [100, 200, 200]
    assert len(set(call.tags)) == 2
    for response in call.responses[1:]:
        assert (await call.again("BYE", response).final()).status == 200


@scenario()
async def test_one_says_no_for_all(here: World) -> None:
    """A 6xx stops the others, and is forwarded when they have stopped."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    lower = await here.phone("dave")
    await lower.register(";q=0.5")
    one.gets("INVITE").answers(180, (1.0, 603))
    two.gets("INVITE CANCEL").answers(180, (2.0, 487))
    two.obeys_cancel = False
    call = carol.call("dave")
    assert (await call.final()).status == 603
    assert 1.99 < call.arrivals[-1] - call.arrivals[0] < 2.1


@scenario()
async def test_a_2xx_crosses_a_6xx(here: World) -> None:
    """The reason for which a 6xx waits: a caller must not get a 2xx after it."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE").answers(180, (1.0, 603))
    two.gets("INVITE CANCEL ACK BYE").answers(180, (1.003, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert call.statuses == [180, 180, 200]
    await call.bye().final()


@scenario()
async def test_who_begins_to_ring_after_a_6xx_is_stopped(here: World) -> None:
    """ "CANCEL MUST NOT be sent" before a provisional response (section 9.1); then it has to be."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    two.link.down = True
    one.gets("INVITE").answers(603)
    two.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await asyncio.sleep(3)
    two.link.down = False
    assert (await call.final()).status == 603
    assert here.count("neighbour", "carol", "180 INVITE") == 0


@scenario(proxy={"ring_s": 5.0})
async def test_a_6xx_ends_the_search_beside_a_phone_that_is_not_there(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two, _lower = await here.ring_group("dave", "0.9", "0.9", "0.1")
    two.link.down = True
    one.gets("INVITE").answers(180, (1.0, 603))
    call = carol.call("dave")
    assert (await call.final()).status == 603
    assert here.count("neighbour", two.name, "CANCEL") == 0


@scenario()
async def test_early_dialogs_of_several_phones(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE CANCEL").answers(180, (1.0, 183), (2.0, 180))
    two.gets("INVITE ACK").answers((0.1, 180), (1.5, 181), (3.0, 200))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(0.1)
    assert call.statuses == [180, 180, 183, 181, 180, 200]
    tags = [response.to.tag for response in call.responses]
    assert tags[0] == tags[2] == tags[4]
    assert tags[1] == tags[3] == tags[5]
    assert tags[0] != tags[1]


@scenario()
async def test_nothing_provisional_after_a_final_response(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE")
    dave.answers(180, 486)
    held: list[bytes] = []

    def hold(message: "Request | Response", to_neighbour: bool) -> bool:
        if isinstance(message, Response) and message.status == 180:
            held.append(message.serialize())
            return True
        return False

    dave.link.drop = hold
    call = carol.call("dave")
    assert (await call.final()).status == 486
    dave.link.drop = None
    here.to_neighbour(held[0], dave)
    await asyncio.sleep(1)
    assert call.statuses == [486]


@scenario()
async def test_a_phone_that_is_not_there_says_least(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.link.down = True
    two.gets("INVITE").answers(180, (1.0, 480))
    call = carol.call("dave")
    assert (await call.final()).status == 480
    assert 31.9 < call.arrivals[-1] - call.arrivals[0] < 32.1


@scenario()
async def test_a_phone_that_is_not_there_keeps_nobody_from_answering(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.link.down = True
    two.gets("INVITE ACK BYE").answers(180, (40.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await call.bye().final()


@scenario()
async def test_a_phone_that_comes_back_does_not_ring_for_a_call_that_is_taken(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.link.down = True
    one.gets("INVITE CANCEL").answers(180)
    two.gets("INVITE ACK").answers(180, (2.0, 200))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(6)
    one.link.down = False
    await asyncio.sleep(20)
    assert here.times("neighbour", one.name, "CANCEL")[0] - here.times(one.name, "neighbour", "180 INVITE")[0] < 0.01


@scenario()
async def test_as_many_phones_as_may_register(here: World) -> None:
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", *(["1"] * 8))
    for phone in phones:
        phone.gets("INVITE CANCEL").answers(180)
    phones[5].gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(1)
    assert call.statuses == [180] * 8 + [200]
    await call.bye().final()


@scenario()
async def test_a_2xx_again_after_it_has_been_forwarded(here: World) -> None:
    """Every 2xx goes through, the same one too: its retransmission is the callee's business alone (RFC 6026)."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    carol.acks = False
    one.gets("INVITE ACK").answers(180, (1.0, 200))
    two.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(4)
    assert call.statuses == [180, 180, 200, 200, 200, 200]
    call.ack(call.responses[-1])


@pytest.mark.parametrize(("status", "becomes"), [(180, 486), (200, 502), (486, 502)])
@scenario()
async def test_a_response_that_has_lost_its_way(here: World, status: int, becomes: int) -> None:
    """Without a Via below ours it "was meant for this element and MUST NOT be forwarded" (section 16.7 step 3)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(*sorted({status, 486}))

    def spoil(message: "Request | Response", to_neighbour: bool) -> bool:
        if isinstance(message, Response) and message.status == status and len(message.get_all("via")) > 1:
            first = next(field for field in message.fields if field[0] == "via")
            message.fields = [first] + [field for field in message.fields if field[0] != "via"]
            here.to_neighbour(message.serialize(), dave)
            return True
        return False

    dave.link.drop = spoil
    call = carol.call("dave")
    assert (await call.final()).status == becomes
    await asyncio.sleep(40)
    assert call.statuses == [becomes]


@scenario()
async def test_a_phone_without_its_connection(here: World) -> None:
    """One of several that is gone does not keep the others from ringing, and alone it is 480, not 503."""
    (carol,) = await here.phones("carol")
    one, two = await here.phone("dave"), await here.phone("dave")
    flow = await one.connect()
    await one.register()
    await two.register()
    one.gets("INVITE INVITE")
    two.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    flow.pipe.dead = True
    call = carol.call("dave")
    await call.until(180)
    flow.pipe.other.close()
    assert (await call.final()).status == 200
    await call.bye().final()
    await two.register(expires=0)
    await one.connect()
    await one.register()
    flow = one.flow  # type: ignore[assignment]
    flow.pipe.dead = True
    call = carol.call("dave")
    here.loop.call_later(1.0, flow.pipe.other.close)
    assert (await call.final()).status == 480
    assert b"closed" in (call.responses[-1].get("warning") or b"")


@scenario()
async def test_an_answered_call_keeps_no_message(here: World) -> None:
    """For 32 s a CANCEL may still come for it: thousands of calls are remembered so long."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.until(180)
    (fork,) = here.proxy._forks.values()
    assert fork.request.method == "INVITE"
    await call.final()
    assert list(here.proxy._forks.values()) == [fork]
    assert fork.request is GONE
