"""What happens within dialogs, and when both sides do it at once (RFC 3261 sections 12 to 15, RFC 3262, 3311, 6665)."""

import asyncio

import pytest

from neighbour.transactions import Server
from scenarios.world import Call, Phone, World, scenario
from sipwire.message import Request, Response


async def talk(here: World, *, over: str = "udp") -> tuple[Phone, Phone, Call]:
    """Two phones in a call."""
    carol, dave = await here.phone("carol"), await here.phone("dave")
    for phone in (carol, dave):
        if over != "udp":
            await phone.connect(tls=over == "tls")
        await phone.register()
    dave.answers(180, (0.1, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    return carol, dave, call


@pytest.mark.parametrize("over", ["udp", "tcp", "tls"])
@scenario()
async def test_the_callee_hangs_up(here: World, over: str) -> None:
    carol, dave, _ = await talk(here, over=over)
    carol.gets("BYE")
    dave.gets("INVITE ACK")
    assert (await dave.bye().final()).status == 200


@pytest.mark.parametrize("over", ["udp", "tcp", "tls"])
@scenario()
async def test_the_caller_hangs_up(here: World, over: str) -> None:
    _, dave, call = await talk(here, over=over)
    dave.gets("INVITE ACK BYE")
    assert (await call.bye().final()).status == 200


@scenario()
async def test_both_hang_up(here: World) -> None:
    carol, dave, call = await talk(here)
    carol.gets("BYE")
    dave.gets("INVITE ACK BYE")
    one, two = call.bye(), dave.bye()
    assert ((await one.final()).status, (await two.final()).status) == (200, 200)


@scenario()
async def test_bye_before_the_ack(here: World) -> None:
    """The ACK is lost, and the caller hangs up at once: the callee's 2xx, repeated, is acknowledged still."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE BYE ACK").answers(180, (1.0, 200))
    lost: list[Request] = []

    def drop(message: "Request | Response", to_neighbour: bool) -> bool:
        if isinstance(message, Request) and message.method == "ACK" and message.cseq.number == 2 and not lost:
            lost.append(message)
            return True
        return False

    carol.link.drop = drop
    call = carol.call("dave")
    await call.final()
    assert (await call.bye().final()).status == 200
    await asyncio.sleep(1)
    assert call.statuses == [180, 200, 200]


@scenario()
async def test_bye_in_an_early_dialog(here: World) -> None:
    """Allowed for the caller (section 15): it goes to the one phone, which then ends the INVITE."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE BYE").answers(180, (1.0, 487))
    call = carol.call("dave")
    ringing = await call.until(180)
    assert (await call.again("BYE", ringing).final()).status == 200
    assert (await call.final()).status == 487


@scenario()
async def test_another_invite_from_both(here: World) -> None:
    """ "glare": each says 491 to the other (section 14.2), and the dialog goes on."""
    carol, dave, call = await talk(here)
    carol.answers(491)
    dave.answers(491)
    carol.gets("INVITE INVITE BYE")
    dave.gets("INVITE ACK INVITE INVITE ACK")
    one, two = call.again("INVITE"), dave.ask(dave.within("INVITE"))
    assert ((await one.final()).status, (await two.final()).status) == (491, 491)
    carol.answers(200)
    dave.answers(200)
    await asyncio.sleep(1)
    again = dave.ask(dave.within("INVITE"))
    assert (await again.final()).status == 200
    await asyncio.sleep(0.1)
    carol.gets("INVITE INVITE ACK")
    again = call.again("INVITE")
    assert (await again.final()).status == 200
    await asyncio.sleep(0.1)


@pytest.mark.parametrize("method", ["INFO", "UPDATE", "REFER", "MESSAGE", "OPTIONS", "NOTIFY", "FOO", "INVITEE"])
@scenario()
async def test_requests_within_a_dialog(here: World, method: str) -> None:
    """From either side, whatever it is; nobody is asked for a password."""
    carol, dave, call = await talk(here)
    carol.gets(method)
    dave.gets(f"INVITE ACK {method} BYE")
    assert (await call.again(method, None, ("X-Kept", b"as it is")).final()).status == 200
    assert dave.last(method).get("x-kept") == b"as it is"
    assert (await dave.ask(dave.within(method)).final()).status == 200
    assert (await call.bye().final()).status == 200
    assert here.count("neighbour", "carol", f"407 {method}") == 0


@scenario()
async def test_provisional_responses_are_acknowledged(here: World) -> None:
    """PRACK (RFC 3262) goes where the early dialog is."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE PRACK ACK").answers(183, (2.0, 200), headers=(("Require", b"100rel"), ("RSeq", b"1")))
    call = carol.call("dave", ("Supported", b"100rel"))
    early = await call.until(183)
    assert early.get("rseq") == b"1"
    prack = call.again("PRACK", early, ("RAck", b"1 2 INVITE"))
    assert (await prack.final()).status == 200
    assert dave.last("PRACK").get("rack") == b"1 2 INVITE"
    await call.final()


@scenario()
async def test_each_early_dialog_of_a_fork_has_its_own_prack(here: World) -> None:
    (carol,) = await here.phones("carol")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE PRACK UPDATE CANCEL").answers(183)
    two.gets("INVITE PRACK ACK").answers(183, (2.0, 200))
    call = carol.call("dave")
    await asyncio.sleep(0.1)
    for early in call.responses:
        assert (await call.again("PRACK", early).final()).status == 200
    of_one = next(early for early in call.responses if early.to.tag == one._sides[early.call_id].to.tag)
    assert (await call.again("UPDATE", of_one).final()).status == 200
    await call.final()


@scenario()
async def test_update_from_the_callee_while_it_rings(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    carol.gets("UPDATE")
    dave.gets("INVITE ACK").answers(183, (2.0, 200))
    call = carol.call("dave")
    await call.until(183)
    assert (await dave.ask(dave.within("UPDATE")).final()).status == 200
    await call.final()


@scenario()
async def test_the_invite_again_after_its_answer(here: World) -> None:
    """RFC 6026: "absorbed" for as long as its 2xx may be repeated."""
    carol, dave, call = await talk(here)
    dave.gets("INVITE ACK")
    for wait_s in (0.1, 5.0, 25.0):
        await asyncio.sleep(wait_s)
        carol.flow.send(call.sent.serialize())
    await asyncio.sleep(0.1)
    assert here.count("neighbour", "dave", "INVITE") == 1
    assert call.statuses == [180, 200]


@scenario()
async def test_the_ack_is_lost(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    left = [4]

    def drop(message: "Request | Response", to_neighbour: bool) -> bool:
        if isinstance(message, Request) and message.method == "ACK" and left[0]:
            left[0] -= 1
            return True
        return False

    dave.link.drop = drop
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(10)
    assert call.statuses == [180] + [200] * 5
    assert (await call.bye().final()).status == 200


@scenario()
async def test_the_ack_comes_twice(here: World) -> None:
    _, dave, call = await talk(here)
    dave.gets("INVITE ACK ACK BYE")
    call.ack(call.responses[-1])
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario()
async def test_the_ack_needs_no_password(here: World) -> None:
    """Nor may it be asked for one (section 22.1): there is no response to an ACK."""
    _, dave, _ = await talk(here)
    dave.gets("INVITE ACK")
    assert dave.last("ACK").get("proxy-authorization") is None
    assert here.count("neighbour", "carol", "407 ACK") == 0


@scenario()
async def test_the_caller_dies_while_it_rings(here: World) -> None:
    """Nobody hears the answer: the callee gives up after 64*T1, and nothing is left here."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(180, (3.0, 200))
    call = carol.call("dave")
    await call.until(180)
    carol.link.down = True
    await asyncio.sleep(40)
    assert dave.unacknowledged == 1
    assert here.pending == 0
    call.timed_out = True
    carol.layer._clients.clear()


@scenario()
async def test_the_caller_dies_and_its_connection_with_it(here: World) -> None:
    carol, dave = await here.phone("carol"), await here.phone("dave")
    await carol.connect()
    for phone in (carol, dave):
        await phone.register()
    dave.gets("INVITE").answers(180, (3.0, 200))
    call = carol.call("dave")
    await call.until(180)
    carol.flow.close()  # type: ignore[attr-defined]
    await asyncio.sleep(40)
    assert dave.unacknowledged == 1
    assert here.pending == 0


@scenario()
async def test_the_callee_dies_in_the_call(here: World) -> None:
    carol, dave, call = await talk(here)
    dave.gets("INVITE ACK")
    dave.link.down = True
    bye = call.bye()
    with pytest.raises(TimeoutError):
        await bye.final()
    assert set(bye.statuses) == {100}
    assert carol.got == []


@scenario()
async def test_the_callee_is_elsewhere_by_now(here: World) -> None:
    """It has registered anew, over TCP, under the same contact: requests within the dialog find it there."""
    carol, dave, call = await talk(here)
    dave.gets("INVITE ACK BYE")
    contact = dave.contact
    await dave.connect()
    dave.contact = contact
    await dave.register()
    assert (await call.bye().final()).status == 200
    assert here.count("neighbour", "dave", "BYE") == 1
    assert carol.got == []


@scenario()
async def test_the_store_fails_while_a_phone_registers(here: World) -> None:
    """It is told so, nothing changes, and calls go on."""
    carol, dave, call = await talk(here)
    dave.gets("INVITE ACK BYE INVITE")
    here.store.fails = True
    response = await dave.register(expires=0)
    assert (response.status, response.get("retry-after")) == (500, b"5")
    here.errors = 1
    assert len(here.location.of("dave")) == 1
    assert (await call.bye().final()).status == 200
    dave.answers(486)
    assert (await carol.call("dave").final()).status == 486


@scenario()
async def test_an_account_goes_during_a_call(here: World) -> None:
    """Who is no user any more can't even hang up; the other side can, and everything ends."""
    carol, dave, call = await talk(here)
    carol.gets("BYE")
    dave.gets("INVITE ACK")
    await here.remove("carol")
    assert (await call.bye().final()).status == 403
    assert (await dave.bye().final()).status == 200
    assert (await dave.call("carol").final()).status == 404


@scenario()
async def test_an_account_goes_while_its_phone_rings(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK").answers(180, (2.0, 200))
    call = carol.call("dave")
    await call.until(180)
    await here.remove("dave")
    assert (await call.final()).status == 200


@scenario()
async def test_a_fork_makes_two_dialogs(here: World) -> None:
    """Both answered; each is hung up for itself, and by itself."""
    (carol,) = await here.phones("carol")
    carol.gets("BYE")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE ACK BYE").answers((1.0, 200))
    two.gets("INVITE CANCEL ACK").answers((1.003, 200))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(1)
    first = next(response for response in call.responses if response.status == 200)
    assert (await call.again("BYE", first).final()).status == 200
    assert (await two.bye().final()).status == 200


# Subscriptions: the dialog may begin with its first NOTIFY.


@scenario()
async def test_notify_before_the_answer_to_subscribe(here: World) -> None:
    """RFC 6665 section 4.4.1: "the subscriber might receive NOTIFY messages before receiving the SUBSCRIBE response"."""
    carol, dave = await here.phones("carol", "dave")
    carol.gets("NOTIFY NOTIFY NOTIFY")
    dave.gets("SUBSCRIBE SUBSCRIBE")
    answered: list[Call] = []

    def early(server: Server) -> bool:
        if server.request.to.tag:
            return False
        dave._sides[server.request.call_id] = server.request.response(200, "OK", b"notifier")
        answered.append(dave.ask(dave.within("NOTIFY", "SUBSCRIBE", ("Event", b"presence"))))
        here.loop.call_later(0.5, dave.respond, server, 200, b"notifier")
        return True

    dave.hook = early
    call = carol.ask(carol.new("SUBSCRIBE", "dave", ("Event", b"presence"), ("Expires", b"600")))
    await asyncio.sleep(0.1)
    assert carol.got == ["NOTIFY"]
    # It makes the dialog, so our place in it has to be in it too.
    notify = carol.last("NOTIFY")
    assert notify.values("record-route")
    assert (await call.final()).status == 200
    assert (await answered[0].final()).status == 200
    assert (await dave.ask(dave.within("NOTIFY", "SUBSCRIBE", ("Event", b"presence"))).final()).status == 200
    refresh = call.again("SUBSCRIBE", None, ("Event", b"presence"), ("Expires", b"0"))
    assert (await refresh.final()).status == 200
    assert (await dave.ask(dave.within("NOTIFY", "SUBSCRIBE")).final()).status == 200


@scenario()
async def test_refer_and_its_notifies(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    carol.gets("NOTIFY NOTIFY")
    dave.gets("REFER").answers(202, to="REFER")
    call = carol.ask(carol.new("REFER", "dave", ("Refer-To", b"<sip:eve@a.example>")))
    assert (await call.final()).status == 202
    for body in (b"SIP/2.0 100 Trying\r\n", b"SIP/2.0 200 OK\r\n"):
        notify = dave.within("NOTIFY", "REFER", ("Event", b"refer"))
        notify.body = body
        assert (await dave.ask(notify).final()).status == 200
    assert [request.body for request in carol.requests] == [b"SIP/2.0 100 Trying\r\n", b"SIP/2.0 200 OK\r\n"]


@scenario()
async def test_a_forked_subscription(here: World) -> None:
    """Every phone notifies; one 2xx goes back (section 4.4.9)."""
    (carol,) = await here.phones("carol")
    carol.gets("NOTIFY NOTIFY")
    phones = await here.ring_group("dave", "1", "1")
    call = carol.ask(carol.new("SUBSCRIBE", "dave", ("Event", b"presence")))
    for phone in phones:
        phone.gets("SUBSCRIBE")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert call.statuses == [200]
    for phone in phones:
        assert (await phone.ask(phone.within("NOTIFY", "SUBSCRIBE")).final()).status == 200
    assert len({request.from_.tag for request in carol.requests}) == 2
