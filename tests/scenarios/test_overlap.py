"""Things that happen at the same time: calls beside calls, registrations beside calls, digits one after the other."""

import asyncio

import pytest

from scenarios.world import Terminal, World, scenario


@scenario()
async def test_each_calls_the_other(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    carol.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    one, two = carol.call("dave"), dave.call("carol")
    assert ((await one.final()).status, (await two.final()).status) == (200, 200)
    await asyncio.sleep(0.1)
    assert (await one.bye().final()).status == 200
    assert (await two.bye().final()).status == 200


@scenario()
async def test_calls_of_one_phone_to_another(here: World) -> None:
    """Call-IDs tell them apart."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE INVITE INVITE ACK ACK ACK BYE BYE BYE").answers(180, (1.0, 200))
    calls = [carol.call("dave") for _ in range(3)]
    assert {(await call.final()).status for call in calls} == {200}
    await asyncio.sleep(0.1)
    for call in calls:
        assert (await call.bye().final()).status == 200


@scenario()
async def test_a_call_to_oneself(here: World) -> None:
    (carol,) = await here.phones("carol")
    carol.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("carol")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario()
async def test_a_call_to_ones_other_phone(here: World) -> None:
    """Every phone of the user rings, the caller's own included: that is what was asked for."""
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE").answers(486)
    two.gets("INVITE ACK").answers(180, (1.0, 200))
    assert (await one.call("dave").final()).status == 200


@scenario(limits={"user_burst": 1000, "stranger_burst": 1000})
async def test_two_hundred_calls_at_once(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets(None).answers(180, (1.0, 200))
    calls = [carol.call("dave") for _ in range(200)]
    for call in calls:
        assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    byes = [call.bye() for call in calls]
    for bye in byes:
        assert (await bye.final()).status == 200
    assert sorted(dave.got) == sorted(["INVITE", "ACK", "BYE"] * 200)
    end = here.loop.time()
    assert await here.idle_at() - end == pytest.approx(32.0, abs=0.05)


@scenario()
async def test_a_phone_registers_again_while_it_rings(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (2.0, 200))
    call = carol.call("dave")
    await call.until(180)
    assert (await dave.register()).status == 200
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario()
async def test_a_phone_leaves_while_it_rings(here: World) -> None:
    """Its registration is over, the call is not: who rings may answer and hang up."""
    carol, dave = await here.phones("carol", "dave")
    carol.gets("BYE")
    dave.gets("INVITE ACK").answers(180, (2.0, 200))
    call = carol.call("dave")
    await call.until(180)
    assert (await dave.register(expires=0)).status == 200
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert (await dave.bye().final()).status == 200
    assert (await carol.call("dave").final()).status == 480


@scenario()
async def test_a_registration_ends_during_a_call(here: World) -> None:
    carol, dave = await here.phone("carol"), await here.phone("dave")
    await carol.register()
    await dave.register(expires=60)
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(100)
    assert here.location.of("dave") == []
    assert (await call.bye().final()).status == 200
    assert (await carol.call("dave").final()).status == 480


@scenario()
async def test_another_phone_comes_while_the_first_rings(here: World) -> None:
    """It rings for the next call: the targets of this one have been decided (section 16.5)."""
    carol, one = await here.phones("carol", "dave")
    two = await here.phone("dave")
    one.gets("INVITE ACK INVITE").answers(180, (2.0, 200))
    two.gets("INVITE")
    call = carol.call("dave")
    await call.until(180)
    await two.register()
    assert (await call.final()).status == 200
    one.answers(486)
    two.answers(486)
    assert (await carol.call("dave").final()).status == 486


@scenario()
async def test_digits_one_after_the_other(here: World) -> None:
    """Overlap dialling: 484 says that more is wanted (RFC 3578); each attempt is a transaction of its own."""
    carol, gateway = await here.phones("carol", "4930")
    gateway.gets("INVITE INVITE INVITE ACK")
    statuses = []
    for digits in ("1", "12", "123"):
        gateway.answers(*([180, (1.0, 200)] if digits == "123" else [484]))
        call = carol.call("4930", ("X-Digits", digits.encode()))
        statuses.append((await call.final()).status)
    assert statuses == [484, 484, 200]


@scenario()
async def test_the_next_digits_before_the_last_are_refused(here: World) -> None:
    carol, gateway = await here.phones("carol", "4930")
    gateway.gets("INVITE INVITE ACK").answers((2.0, 484))
    one = carol.call("4930")
    await asyncio.sleep(1)
    gateway.answers(180, (2.0, 200))
    two = carol.call("4930")
    assert ((await one.final()).status, (await two.final()).status) == (484, 200)


@scenario()
async def test_a_transfer(here: World) -> None:
    """Carol calls Dave, Dave refers her to Eve, Carol calls Eve and hangs up on Dave."""
    carol, dave, eve = await here.phones("carol", "dave", "eve")
    carol.gets("REFER NOTIFY").answers(202, to="REFER")
    dave.gets("INVITE ACK BYE").answers(180, (0.5, 200))
    eve.gets("INVITE ACK").answers(180, (0.5, 200))
    first = carol.call("dave")
    await first.final()
    await asyncio.sleep(0.1)
    refer = dave.ask(dave.within("REFER", "INVITE", ("Refer-To", b"<sip:eve@a.example>")))
    assert (await refer.final()).status == 202
    second = carol.call("eve", ("Referred-By", b"<sip:dave@a.example>"))
    assert (await second.final()).status == 200
    assert (await dave.ask(dave.within("NOTIFY", "INVITE", ("Event", b"refer"))).final()).status == 200
    assert (await first.bye().final()).status == 200
    assert eve.requests[0].get("referred-by") == b"<sip:dave@a.example>"


@scenario()
async def test_a_terminal_and_phones_of_all_kinds(here: World) -> None:
    """UDP, TCP, TLS and frames: everybody calls everybody, all at once."""
    phones = []
    for user, over in (("ursula", "udp"), ("theo", "tcp"), ("lea", "tls"), ("tim", "frame")):
        phone = await here.phone(user, Terminal) if over == "frame" else await here.phone(user)
        if over in ("tcp", "tls"):
            await phone.connect(tls=over == "tls")
        assert (await phone.register()).status == 200
        phone.gets(None).answers(180, (0.5, 200))
        phones.append(phone)
    calls = [one.call(other.user) for one in phones for other in phones if one is not other]
    for call in calls:
        assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    for call in calls:
        assert (await call.bye().final()).status == 200
    for phone in phones:
        assert sorted(phone.got) == sorted(["INVITE", "ACK", "BYE"] * 3)


@scenario()
async def test_a_terminal_in_a_fork_with_a_phone_elsewhere(here: World) -> None:
    """Over a link that loses: frames are repeated as messages are."""
    (carol,) = await here.phones("carol")
    tim = await here.phone("tim", Terminal)
    assert (await tim.register()).status == 200
    tim.link.loss = 0.3
    tim.gets(None).answers(180, (1.0, 200))
    call = carol.call("tim")
    assert (await call.final()).status == 200
    await asyncio.sleep(10)
    assert (await call.bye().final()).status == 200
    assert tim.got.count("INVITE") == tim.got.count("BYE") == 1


@scenario()
async def test_redirections_forks_and_gave_up_calls_together(here: World) -> None:
    """A busy minute: nothing of one call gets into another."""
    carol, eve = await here.phones("carol", "eve")
    one, two = await here.ring_group("dave", "1", "0.5")
    (frank,) = await here.phones("frank")
    one.gets(None).answers((0.2, 302), headers=(("Contact", b"<sip:eve@a.example>"),))
    two.gets(None).answers(180, (1.0, 486))
    eve.gets(None).answers(180, (0.5, 480))
    frank.gets(None).answers(180, (2.0, 200))
    ends = []
    for number in range(20):
        call = carol.call("dave" if number % 2 else "frank")
        await asyncio.sleep(0.3)
        if number % 5 == 0:
            call.cancel()
        ends.append(call)
    statuses = [(await call.final()).status for call in ends]
    for number, status in enumerate(statuses):
        if number % 5 == 0:
            assert status in (487, 480)
        else:
            assert status == (480 if number % 2 else 200)
    assert len({call.request.call_id for call in ends}) == 20
