"""Timers A to M and C, with the seconds they take (RFC 3261 section 17 and appendix A, RFC 4320, RFC 6026)."""

import asyncio
from collections.abc import Sequence

import pytest

from scenarios.world import Phone, World, scenario
from sipwire.message import Request, Response

_A = [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]  # T1 doubling
_E = [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]  # ... up to T2


def since_first(times: Sequence[float]) -> list[float]:
    return [round(at - times[0], 2) for at in times]


def loses(method: str, *, cseq: int = 0) -> "object":
    """For `Link.drop`: requests of a method that go to the neighbour, from a CSeq on."""

    def drop(message: "Request | Response", to_neighbour: bool) -> bool:
        is_it = isinstance(message, Request) and message.method == method and message.cseq.number >= cseq
        return to_neighbour and is_it

    return drop


# Requests that nobody answers.


@scenario()
async def test_invite_to_nobody(here: World) -> None:
    """Timer A doubles, Timer B makes it 408, and Timer I forgets the rest."""
    carol, dave = await here.phones("carol", "dave")
    dave.link.down = True
    call = carol.call("dave")
    assert (await call.final()).status == 408
    assert call.statuses == [100, 408]
    begun = here.times("neighbour", "dave", "INVITE")
    assert since_first(begun) == _A
    assert 32.0 < call.arrivals[1] - begun[0] < 32.02
    assert 36.99 < await here.idle_at() - begun[0] < 37.05


@scenario()
async def test_request_to_nobody(here: World) -> None:
    """Timer E goes up to T2, Timer F ends it, and no 408 is sent: "MUST NOT" (RFC 4320 section 4.2)."""
    carol, dave = await here.phones("carol", "dave")
    dave.link.down = True
    call = carol.ask(carol.new("MESSAGE", "dave"))
    with pytest.raises(TimeoutError):
        await call.final()
    begun = here.times("neighbour", "dave", "MESSAGE")
    assert since_first(begun) == _E
    assert 31.9 < await here.idle_at() - begun[0] < 32.02
    # RFC 4320 section 4.1: a 100 when Timer E has reached T2, and never another 1xx or another time.
    assert set(call.statuses) == {100}
    assert since_first([begun[0], here.times("neighbour", "carol", "100 MESSAGE")[0]]) == [0, 3.5]
    # All others are answers to the caller's own repetitions (section 17.2.2).
    assert here.count("neighbour", "carol", "100 MESSAGE") == 1 + 8


@scenario()
async def test_request_that_is_being_worked_on(here: World) -> None:
    """After a 100, "Timer E ... MUST be reset with a value of T2 seconds" (section 17.1.2.2)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers((0.2, 100), (14.0, 200), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 200
    assert since_first(here.times("neighbour", "dave", "MESSAGE")) == pytest.approx([0, 4.21, 8.21, 12.21], abs=0.03)


@scenario()
async def test_over_tcp_nothing_is_sent_twice(here: World) -> None:
    carol, dave = await here.phone("carol"), await here.phone("dave")
    for phone in (carol, dave):
        await phone.connect()
        await phone.register()
    dave.gets("INVITE MESSAGE").answers().answers(to="MESSAGE")
    dave.flow.pipe.dead = True
    call, message = carol.call("dave"), carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 408
    with pytest.raises(TimeoutError):
        await message.final()
    assert here.count("neighbour", "dave", "INVITE") == here.count("neighbour", "dave", "MESSAGE") == 1
    assert (call.statuses, message.statuses) == ([100, 408], [100])
    await asyncio.sleep(0.02)
    assert here.pending == 0  # D, I and J are zero


# Trying.


@pytest.mark.parametrize(("after_s", "statuses"), [(0.15, [180, 486]), (0.25, [100, 180, 486])])
@scenario()
async def test_trying(here: World, after_s: float, statuses: list[int]) -> None:
    """100 "unless ... [the TU] will generate a provisional or final response within 200 ms" (section 17.2.1)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers((after_s, 180), (1.0, 486))
    call = carol.call("dave")
    await call.final()
    assert call.statuses == statuses


@scenario()
async def test_the_trying_of_others_is_not_passed_on(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(100, (0.1, 183), (1.0, 100), (2.0, 486))
    call = carol.call("dave")
    await call.final()
    assert call.statuses == [183, 486]


@scenario()
async def test_caller_repeats_until_it_hears_something(here: World) -> None:
    """A repeated INVITE gets the last provisional response again, and does not go on."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers((1.0, 180), (2.0, 486))
    lost = []

    def drop(message: "Request | Response", to_neighbour: bool) -> bool:
        if isinstance(message, Response) and message.status in (100, 180) and len(lost) < 3:
            lost.append(message.status)
            return True
        return False

    carol.link.drop = drop
    call = carol.call("dave")
    await call.final()
    assert lost == [100, 100, 180]
    assert call.statuses == [180, 486]
    assert here.count("carol", "neighbour", "INVITE") == 1 + 3  # one was challenged
    assert here.count("neighbour", "dave", "INVITE") == 1


@pytest.mark.parametrize("status", [180, 199])
@scenario()
async def test_no_provisional_response_to_what_is_no_invite(here: World, status: int) -> None:
    """RFC 4320 section 4.1: "MUST NOT issue" any but 100, and that only late."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE").answers(status, (5.0, 200), to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", "dave"))
    await call.final()
    assert (call.statuses[0], set(call.statuses)) == (100, {100, 200})
    assert 3.5 <= call.arrivals[0] - here.times("carol", "neighbour", "MESSAGE")[1] < 3.52


# Final responses that do not arrive, or are not acknowledged.


@scenario()
async def test_refusal_without_ack(here: World) -> None:
    """Timer G repeats it up to every T2; Timer H gives up."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(180, (1.0, 486))
    call = carol.call("dave")
    await call.until(180)
    carol.link.drop = loses("ACK")
    await call.final()
    idle = await here.idle_at()
    sent = here.times("neighbour", "carol", "486 INVITE")
    assert since_first(sent) == _E
    assert here.count("carol", "neighbour", "ACK") == len(_E) + 1  # each is acknowledged, and the challenge was
    assert call.statuses == [180, 486]
    assert 31.99 < idle - sent[0] < 32.05
    assert here.count("neighbour", "dave", "ACK") == 1  # hop by hop: that one is ours


@scenario()
async def test_refusal_with_a_late_ack(here: World) -> None:
    """The ACK ends Timer G, and Timer I the transaction; Timer D of the other side runs longest."""
    carol, dave = await here.phones("carol", "dave")
    await here.idle_at()
    dave.gets("INVITE").answers(180, (1.0, 486))
    call = carol.call("dave")
    await call.until(180)
    carol.link.drop = loses("ACK")
    await call.final()
    await asyncio.sleep(1.2)
    carol.link.drop = None
    await asyncio.sleep(5.0)
    assert since_first(here.times("neighbour", "carol", "486 INVITE")) == [0, 0.5, 1.5]
    assert [type(one.machine).__name__ for one in here.transactions._servers.values()] == ["InviteServer"]
    await asyncio.sleep(0.5)  # 5 s after the ACK
    assert not here.transactions._servers


@scenario()
async def test_refusal_that_the_callee_repeats(here: World) -> None:
    """Its ACK is lost: each repetition is acknowledged again, by whom it was sent to (section 17.1.1.2)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(180, (1.0, 486))
    dave.link.drop = lambda message, to_neighbour: isinstance(message, Request) and message.method == "ACK"
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(5)
    dave.link.drop = None
    await here.idle_at()
    assert since_first(here.times("dave", "neighbour", "486 INVITE")) == [0, 0.5, 1.5, 3.5, 7.5]
    assert here.count("neighbour", "dave", "ACK") == 5
    assert call.statuses == [180, 486]


@scenario()
async def test_answer_without_ack(here: World) -> None:
    """A 2xx is the callee's to repeat: each goes through, and none is ours."""
    carol, dave = await here.phones("carol", "dave")
    carol.acks = False
    dave.gets("INVITE").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    idle = await here.idle_at()
    sent = here.times("dave", "neighbour", "200 INVITE")
    assert since_first(sent) == _E
    forwarded = here.times("neighbour", "carol", "200 INVITE")
    assert [round(there - here_, 3) for here_, there in zip(sent, forwarded, strict=True)] == [0.005] * len(_E)
    assert 31.99 < idle - forwarded[0] < 32.02
    await asyncio.sleep(5)
    assert dave.unacknowledged == 1


@scenario()
async def test_answer_to_a_request_that_is_repeated(here: World) -> None:
    """Timer J keeps it: the callee is not asked again."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE")
    lost = []

    def drop(message: "Request | Response", to_neighbour: bool) -> bool:
        if isinstance(message, Response) and message.status == 200 and len(lost) < 4:
            lost.append(here.loop.time())
            return True
        return False

    carol.link.drop = drop
    call = carol.ask(carol.new("MESSAGE", "dave"))
    assert (await call.final()).status == 200
    assert here.count("neighbour", "carol", "200 MESSAGE") == 5
    assert here.count("neighbour", "dave", "MESSAGE") == 1


# When everything is forgotten, and not before.


@pytest.mark.parametrize(
    ("method", "status", "caller_over", "callee_over", "seconds"),
    [
        ("MESSAGE", 200, "udp", "udp", 32.0),  # Timer J
        ("MESSAGE", 404, "udp", "tcp", 32.0),  # ... and K is zero
        ("MESSAGE", 200, "tcp", "udp", 5.0),  # Timer K, and J is zero
        ("MESSAGE", 404, "tcp", "tcp", 0.0),
        ("INVITE", 486, "udp", "udp", 32.0),  # Timer D; H until the ACK, then I
        ("INVITE", 486, "tcp", "udp", 32.0),  # Timer D alone
        ("INVITE", 486, "udp", "tcp", 5.0),  # Timer I alone
        ("INVITE", 486, "tcp", "tcp", 0.0),
        ("INVITE", 200, "udp", "udp", 32.0),  # Timers L and M, whatever the transport (RFC 6026 section 7.1)
        ("INVITE", 200, "tcp", "tcp", 32.0),
    ],
)
@scenario()
async def test_when_all_is_forgotten(
    here: World, method: str, status: int, caller_over: str, callee_over: str, seconds: float
) -> None:
    carol, dave = await here.phone("carol"), await here.phone("dave")
    for phone, over in ((carol, caller_over), (dave, callee_over)):
        if over == "tcp":
            await phone.connect()
        await phone.register()
    await here.idle_at()
    dave.gets("INVITE ACK" if (method, status) == ("INVITE", 200) else method)
    dave.answers((0.1, status), to=method)
    call = carol.ask(carol.new(method, "dave"))
    assert (await call.final()).status == status
    end = call.arrivals[-1] + seconds
    if seconds:
        await asyncio.sleep(end - here.loop.time() - 0.1)
        assert here.pending
    assert abs(await here.idle_at() - end) < 0.03


@scenario()
async def test_registrations_are_forgotten(here: World) -> None:
    (carol,) = await here.phones("carol")
    begun = here.loop.time()
    assert here.pending == 1
    assert 31.9 < await here.idle_at() - begun < 32.1
    assert (await carol.register(expires=0)).status == 200


# Timer C.


@scenario()
async def test_a_phone_that_rings_for_ever(here: World) -> None:
    """Timer C "MUST be larger than 3 minutes" (section 16.6 step 11)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    assert (await call.final()).status == 408
    rung, cancelled = here.times("dave", "neighbour", "180 INVITE")[0], here.times("neighbour", "dave", "CANCEL")
    assert len(cancelled) == 1
    assert here.config.proxy.timer_c_s > 180
    assert cancelled[0] - rung == pytest.approx(here.config.proxy.timer_c_s, abs=0.05)


@pytest.mark.parametrize(("status", "renews"), [(100, False), (180, True), (183, True), (199, True)])
@scenario(proxy={"timer_c_s": 200})
async def test_what_renews_timer_c(here: World, status: int, renews: bool) -> None:
    """ "status codes 101 to 199 inclusive (i.e., anything but 100)" (section 16.7 step 2)."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE CANCEL").answers(180, (150.0, status))
    call = carol.call("dave")
    assert (await call.final()).status == 408
    rung, cancelled = here.times("dave", "neighbour", "180 INVITE")[0], here.times("neighbour", "dave", "CANCEL")[0]
    assert cancelled - rung == pytest.approx(350 if renews else 200, abs=0.05)


@scenario(proxy={"timer_c_s": 200})
async def test_timer_c_of_a_phone_that_does_not_listen(here: World) -> None:
    """Nothing comes of the CANCEL: after 64*T1 the call is over all the same (section 9.1)."""
    carol, dave = await here.phones("carol", "dave")
    dave.obeys_cancel = False
    dave.gets("INVITE CANCEL").answers(180)
    call = carol.call("dave")
    assert (await call.final()).status == 408
    assert call.arrivals[-1] - call.arrivals[0] == pytest.approx(232, abs=0.1)


@scenario(proxy={"timer_c_s": 20})
async def test_timer_c_of_a_phone_that_says_nothing(here: World) -> None:
    """Section 16.8: without a provisional response there is nothing to cancel; "as if ... a 408"."""
    carol, dave = await here.phones("carol", "dave")
    dave.link.down = True
    call = carol.call("dave")
    assert (await call.final()).status == 408
    assert call.arrivals[-1] - here.times("neighbour", "dave", "INVITE")[0] == pytest.approx(20, abs=0.05)
    assert here.count("neighbour", "dave", "CANCEL") == 0


@scenario(proxy={"timer_c_s": 200})
async def test_timer_c_is_each_branchs_own(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE CANCEL").answers(180)
    two.gets("INVITE ACK").answers(180, (150.0, 180), (250.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    rung = here.times(one.name, "neighbour", "180 INVITE")[0]
    assert here.times("neighbour", one.name, "CANCEL")[0] - rung == pytest.approx(200, abs=0.05)
    assert here.count("neighbour", two.name, "CANCEL") == 0


@scenario()
async def test_a_call_that_lasts_longer_than_any_timer(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    await here.idle_at()
    await asyncio.sleep(3000)
    bye = call.bye()
    assert (await bye.final()).status == 200


def test_the_phones_are_like_ours() -> None:
    """What the schedules above compare with is the RFC's, not our constants."""
    from sipwire import transaction

    assert (transaction.T1_MS, transaction.T2_MS) == (500, 4000)
    assert Phone.handle_request.__module__ == "scenarios.phones"
