"""CANCEL, at every moment at which it can come (RFC 3261 sections 9 and 16.10)."""

import asyncio

import pytest

from scenarios.world import World, scenario
from sipwire.message import Request, Response


@scenario()
async def test_while_it_rings(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await call.until(180)
    cancel = call.cancel()
    assert (await call.final()).status == 487
    assert (await cancel.final()).status == 200
    assert cancel.arrivals[0] < call.arrivals[-1]  # it is answered at once (section 9.2), and the INVITE by the callee


@scenario()
async def test_before_the_phone_has_said_anything(here: World) -> None:
    """ "CANCEL MUST NOT be sent" before a provisional response; with it, it goes at once (section 9.1)."""
    carol, dave = await here.phones("carol", "dave")
    dave.link.delay_s = 0.3
    dave.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await asyncio.sleep(0.1)
    cancel = call.cancel()
    assert (await cancel.final()).status == 200
    assert dave.got == []
    assert (await call.final()).status == 487
    assert call.statuses == [100, 487]  # nobody is told any more that it rings
    came = here.times("dave", "neighbour", "180 INVITE")[0] + 0.3
    assert here.times("neighbour", "dave", "CANCEL")[0] == pytest.approx(came, abs=0.001)


@scenario()
async def test_a_phone_that_never_says_anything(here: World) -> None:
    """Nothing may be sent; Timer B ends it, and the caller hears that it has been cancelled."""
    carol, dave = await here.phones("carol", "dave")
    dave.link.down = True
    call = carol.call("dave")
    await asyncio.sleep(1)
    call.cancel()
    assert (await call.final()).status == 487
    assert here.count("neighbour", "dave", "CANCEL") == 0


@scenario()
async def test_before_anything_has_been_sent(here: World) -> None:
    """The connection is still being made: it is over at once, and nothing is sent when it stands."""
    (carol,) = await here.phones("carol")
    here.zone.serve("b.example", ("127.0.2.1", 5061))
    here.network.dark.add(("127.0.2.1", 5061))
    call = carol.call("sip:bob@b.example")
    await asyncio.sleep(1)
    call.cancel()
    assert (await call.final()).status == 487
    assert call.arrivals[-1] - call.arrivals[0] < 1


@scenario()
async def test_it_crosses_the_answer(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE CANCEL ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.until(180)
    await asyncio.sleep(0.987)
    cancel = call.cancel()
    assert (await cancel.final()).status == 200
    assert (await call.final()).status == 200
    assert (await call.bye().final()).status == 200


@scenario()
async def test_after_the_answer(here: World) -> None:
    """ "CANCEL has no effect on a request to which a UAS has already given a final response" (section 9)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    for wait_s in (0.1, 0.5, 2.0, 20.0):
        await asyncio.sleep(wait_s)
        assert (await call.cancel().final()).status == 200
    assert (await call.bye().final()).status == 200


@scenario()
async def test_after_a_refusal(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(486)
    call = carol.call("dave")
    await call.final()
    assert (await call.cancel().final()).status == 200
    await here.idle_at()
    assert (await call.cancel().final()).status == 481


@scenario()
async def test_twice(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.obeys_cancel = False
    dave.gets("INVITE CANCEL").answers(180, (3.0, 487))
    call = carol.call("dave")
    await call.until(180)
    first = call.cancel()
    await first.final()
    carol.layer._clients.clear()  # the same CANCEL again, as one who has forgotten it sends it
    assert call.client is not None
    carol.layer._clients[call.client.key] = call.client
    second = call.cancel()
    assert (await second.final()).status == 200
    assert (await call.final()).status == 487


@scenario()
async def test_doubled_on_the_way(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE CANCEL").answers(180)
    carol.link.copies = dave.link.copies = 3
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 487
    assert here.count("neighbour", "dave", "CANCEL") == 1


@scenario()
async def test_it_is_lost_on_the_way(here: World) -> None:
    """On either hop it is repeated as Timer E says."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE CANCEL").answers(180)
    lost = {"carol": 2, "dave": 3}

    def drop(name: str) -> object:
        def drops(message: "Request | Response", to_neighbour: bool) -> bool:
            if isinstance(message, Request) and message.method == "CANCEL" and lost[name]:
                lost[name] -= 1
                return True
            return False

        return drops

    carol.link.drop, dave.link.drop = drop("carol"), drop("dave")  # type: ignore[assignment]
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 487
    assert call.arrivals[-1] - call.arrivals[0] == pytest.approx(1.5 + 3.5, abs=0.05)


@scenario()
async def test_one_of_two_has_said_no_already(here: World) -> None:
    """It gets no CANCEL, and its refusal says more than that the other was cancelled."""
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE").answers(486)
    two.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await asyncio.sleep(1)
    call.cancel()
    assert (await call.final()).status == 486


@scenario()
async def test_all_of_a_fork(here: World) -> None:
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", "1", "1", "1", "0.5")
    for phone in phones[:3]:
        phone.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await call.until(180)
    await asyncio.sleep(1)
    call.cancel()
    assert (await call.final()).status == 487
    assert phones[3].got == []


@scenario(proxy={"ring_s": 5.0})
async def test_between_two_groups(here: World) -> None:
    """The first has been told already; the caller hears that it was cancelled, not that nobody answered."""
    (carol,) = await here.phones("carol")
    first, second, third = await here.ring_group("dave", "0.9", "0.5", "0.1")
    first.gets("INVITE CANCEL").answers(180)
    second.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await asyncio.sleep(7)
    call.cancel()
    assert (await call.final()).status == 487
    assert third.got == []


@scenario()
async def test_a_phone_that_does_not_care(here: World) -> None:
    """ "... the UAC ... SHOULD then consider the original transaction cancelled" after 64*T1 (section 9.1)."""
    carol, dave = await here.phones("carol", "dave")
    dave.obeys_cancel = False
    dave.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 487
    assert call.arrivals[-1] - call.arrivals[0] == pytest.approx(32.0, abs=0.05)


@scenario()
async def test_a_phone_that_answers_another_refusal(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.obeys_cancel = False
    dave.gets("INVITE CANCEL").answers(180, (1.0, 480))
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 480


@scenario()
async def test_a_phone_that_answers_late(here: World) -> None:
    """It takes the call 40 s after having been told that it is over: the call is over."""
    carol, dave = await here.phones("carol", "dave")
    dave.obeys_cancel = False
    dave.gets("INVITE CANCEL").answers(180, (40.0, 200))
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 487
    await asyncio.sleep(80)
    assert (call.statuses, dave.unacknowledged) == ([180, 487], 1)


@scenario()
async def test_of_nothing(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    call = carol.call("dave")
    dave.gets("INVITE ACK")
    await call.final()
    await here.idle_at()
    assert (await call.cancel().final()).status == 481


@scenario()
async def test_of_somebody_elses(here: World) -> None:
    """Whoever knows the branch, but sends from elsewhere, cancels nothing."""
    carol, dave = await here.phones("carol", "dave")
    mallory = await here.phone("mallory")
    dave.gets("INVITE ACK").answers(180, (3.0, 200))
    call = carol.call("dave")
    await call.until(180)
    cancel = Request("CANCEL", call.sent.uri)
    cancel.fields = [one for one in call.sent.fields if one[0] in ("via", "from", "to", "call-id", "route")]
    cancel.add("CSeq", b"2 CANCEL")
    cancel.add("Content-Length", b"0")
    here.to_neighbour(cancel.serialize(), mallory)
    assert (await call.final()).status == 200
    assert here.count("neighbour", "mallory", "200 CANCEL") == 0


@scenario()
async def test_of_a_request_that_is_no_invite(here: World) -> None:
    """ "SHOULD NOT be sent to cancel a request other than INVITE": it would always come too late."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers((2.0, 200), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    await asyncio.sleep(1)
    cancel = call.cancel()
    assert (await cancel.final()).status == 481
    assert (await call.final()).status == 200


@scenario()
async def test_before_its_invite(here: World) -> None:
    """They overtook each other: there is nothing to cancel yet, and the call goes on."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    await asyncio.sleep(0.012)  # the challenge has come, and the INVITE is on its way again
    carol.link.delay_s = 0.001
    cancel = call.cancel()
    assert (await cancel.final()).status == 481
    assert (await call.final()).status == 200


@scenario()
async def test_while_another_call_goes_on(here: World) -> None:
    """Two calls of the same phones: each is cancelled for itself."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE INVITE CANCEL ACK").answers(180, (3.0, 200))
    one, two = carol.call("dave"), carol.call("dave")
    await two.until(180)
    two.cancel()
    assert (await two.final()).status == 487
    assert (await one.final()).status == 200
