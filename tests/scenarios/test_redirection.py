"""Redirections: we follow those to our own users, and leave all others to the caller (RFC 3261 sections 8.1.3.4, 16.7)."""

import asyncio

import pytest

from scenarios.world import World, scenario


def to(*contacts: str) -> tuple[tuple[str, bytes], ...]:
    return tuple(("Contact", contact.encode()) for contact in contacts)


@scenario()
async def test_to_another_user(here: World) -> None:
    """The caller hears nothing of it, and reaches whom it leads to."""
    carol, dave, eve = await here.phones("carol", "dave", "eve")
    dave.gets("INVITE").answers(302, headers=to("<sip:eve@a.example>"))
    eve.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert call.statuses == [180, 200]
    assert eve.requests[0].uri == eve.contact
    assert eve.requests[0].to.uri == b"sip:dave@a.example"
    assert (await call.bye().final()).status == 200


@scenario()
async def test_elsewhere(here: World) -> None:
    """We call no other domain for somebody who has not asked for it."""
    carol, dave = await here.phones("carol", "dave")
    contacts = to("<sip:dave@b.example>;q=0.5", "<tel:+4930123456>")
    dave.gets("INVITE").answers(302, headers=contacts)
    response = await carol.call("dave").final()
    assert response.status == 302
    assert response.get_all("contact") == [b"<sip:dave@b.example>;q=0.5", b"<tel:+4930123456>"]
    assert here.zone.asked == []


@scenario()
async def test_partly_elsewhere(here: World) -> None:
    """Who is ours is tried; if nobody answers there, the caller hears of the others, and of no more than these."""
    carol, dave, eve = await here.phones("carol", "dave", "eve")
    dave.gets("INVITE").answers(302, headers=to("<sip:eve@a.example>, <sip:dave@b.example>"))
    eve.gets("INVITE").answers(180, (1.0, 486))
    response = await carol.call("dave").final()
    assert response.status == 302
    assert response.values("contact") == [b"<sip:dave@b.example>"]


@scenario()
async def test_partly_elsewhere_and_answered(here: World) -> None:
    carol, dave, eve = await here.phones("carol", "dave", "eve")
    dave.gets("INVITE").answers(302, headers=to("<sip:dave@b.example>", "<sip:eve@a.example>"))
    eve.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    assert call.statuses == [180, 200]


@scenario()
async def test_in_a_circle(here: World) -> None:
    """ "MUST NOT add any given URI to the target set more than once" (section 8.1.3.4)."""
    carol, dave, eve = await here.phones("carol", "dave", "eve")
    dave.gets("INVITE").answers(302, headers=to("<sip:eve@a.example>"))
    eve.gets("INVITE").answers(302, headers=to("<sip:dave@a.example>"))
    assert (await carol.call("dave").final()).status == 302


@scenario()
async def test_in_a_circle_that_looks_like_none(here: World) -> None:
    """Each time the same user is written in another way."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE")

    def answer(server: object) -> bool:
        number = len(dave.requests)
        assert number < 10
        headers = to(f"<sip:d%61ve@A.example;x={number}>", f"<sip:dave:pw{number}@127.0.0.1:5060>")
        dave.respond(server, 302, b"", headers)  # type: ignore[arg-type]
        return True

    dave.hook = answer  # type: ignore[assignment]
    assert (await carol.call("dave").final()).status == 302


@scenario()
async def test_of_a_redirection(here: World) -> None:
    carol, dave, eve, frank = await here.phones("carol", "dave", "eve", "frank")
    dave.gets("INVITE").answers(301, headers=to("<sip:eve@a.example>"))
    eve.gets("INVITE").answers(302, headers=to("<sip:frank@a.example>"))
    frank.gets("INVITE ACK").answers(180, (1.0, 200))
    assert (await carol.call("dave").final()).status == 200


@scenario()
async def test_the_preferred_first(here: World) -> None:
    carol, dave, eve, frank = await here.phones("carol", "dave", "eve", "frank")
    contacts = to("<sip:eve@a.example>;q=0.2, <sip:frank@a.example>;q=0.7", "<sip:dave@b.example>;q=x")
    dave.gets("INVITE").answers(302, headers=contacts)
    frank.gets("INVITE").answers(180, (1.0, 486))
    eve.gets("INVITE ACK").answers(180, (1.0, 200))
    assert (await carol.call("dave").final()).status == 200
    assert frank.arrivals[0] < eve.arrivals[0]


@scenario()
async def test_beside_a_phone_that_rings(here: World) -> None:
    """Who is redirected to does not wait until nobody else rings any more."""
    carol, eve = await here.phones("carol", "eve")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE").answers((0.5, 302), headers=to("<sip:eve@a.example>"))
    two.gets("INVITE CANCEL").answers(180)
    eve.gets("INVITE ACK").answers(180, (2.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert eve.arrivals[0] - one.arrivals[0] == pytest.approx(0.5, abs=0.03)


@scenario(proxy={"ring_s": 5.0})
async def test_before_those_of_lower_q(here: World) -> None:
    carol, eve = await here.phones("carol", "eve")
    first, second = await here.ring_group("dave", "0.9", "0.1")
    first.gets("INVITE").answers(302, headers=to("<sip:eve@a.example>"))
    eve.gets("INVITE CANCEL").answers(180)
    second.gets("INVITE ACK").answers(200)
    assert (await carol.call("dave").final()).status == 200
    assert second.arrivals[0] - eve.arrivals[0] == pytest.approx(5.0, abs=0.05)


@scenario()
async def test_to_nobody(here: World) -> None:
    """A user without an account, one without a phone: the caller is told, as we can't do better."""
    carol, dave = await here.phones("carol", "dave")
    await here.phone("eve")
    dave.gets("INVITE").answers(302, headers=to("<sip:nobody@a.example>, <sip:eve@a.example>"))
    response = await carol.call("dave").final()
    assert response.status == 302
    assert len(response.values("contact")) == 2


@pytest.mark.parametrize("contact", ["", "<sip:>", "nonsense", "<sip:eve@a.example", "*", "<sip:a.example>"])
@scenario()
async def test_to_what_can_not_be_read(here: World, contact: str) -> None:
    carol, dave, _ = await here.phones("carol", "dave", "eve")
    dave.gets("INVITE").answers(302, headers=to(contact))
    assert (await carol.call("dave").final()).status == 302


@scenario()
async def test_within_a_dialog(here: World) -> None:
    """There it moves the other side, which is for the two of them."""
    carol, dave, _ = await here.phones("carol", "dave", "eve")
    dave.gets("INVITE ACK INVITE").answers(200)
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(0.1)
    dave.answers(302, headers=to("<sip:eve@a.example>"))
    assert (await call.again("INVITE").final()).status == 302


@scenario()
async def test_after_the_caller_has_given_up(here: World) -> None:
    carol, dave, _ = await here.phones("carol", "dave", "eve")
    dave.obeys_cancel = False
    dave.gets("INVITE CANCEL").answers(180, (1.0, 302), headers=to("<sip:eve@a.example>"))
    call = carol.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 302


@scenario()
async def test_after_a_6xx(here: World) -> None:
    """No new branches (section 16.7 step 5)."""
    carol, _ = await here.phones("carol", "eve")
    one, two = await here.ring_group("dave", "1", "1")
    one.gets("INVITE").answers(603)
    two.gets("INVITE").answers((0.1, 302), headers=to("<sip:eve@a.example>"))
    assert (await carol.call("dave").final()).status == 603


@pytest.mark.parametrize("status", [305, 380])
@scenario()
async def test_what_is_no_redirection_to_a_user(here: World, status: int) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(status, headers=to("<sip:proxy.b.example;lr>"))
    assert (await carol.call("dave").final()).status == status


@scenario()
async def test_of_a_message(here: World) -> None:
    carol, dave, eve = await here.phones("carol", "dave", "eve")
    dave.gets("MESSAGE").answers(302, to="MESSAGE", headers=to("<sip:eve@a.example>"))
    eve.gets("MESSAGE")
    assert (await carol.ask(carol.new("MESSAGE", "dave", body=b"hello")).final()).status == 200
    assert eve.requests[0].body == b"hello"


@scenario()
async def test_max_forwards_does_not_begin_anew(here: World) -> None:
    carol, dave, eve = await here.phones("carol", "dave", "eve")
    dave.gets("INVITE").answers(302, headers=to("<sip:eve@a.example>"))
    eve.gets("INVITE").answers(486)
    await carol.call("dave", ("Max-Forwards", b"7")).final()
    assert [phone.requests[0].get("max-forwards") for phone in (dave, eve)] == [b"6", b"6"]


@pytest.mark.parametrize(("scheme", "followed"), [("sips", True), ("sip", False)])
@scenario()
async def test_from_sips_to_sip(here: World, scheme: str, followed: bool) -> None:
    """RFC 5630 section 5.3: "MUST NOT" go on with a SIP URI where a SIPS URI was called; the caller decides."""
    carol, dave, eve = [await here.phone(user) for user in ("carol", "dave", "eve")]
    for phone in (carol, dave, eve):
        await phone.connect_for_sips()
    dave.gets("INVITE").answers(302, headers=to(f"<{scheme}:eve@a.example>"))
    if followed:
        eve.gets("INVITE ACK")
    response = await carol.call("dave").final()
    assert response.status == (200 if followed else 302)
    if not followed:
        assert response.values("contact") == [b"<sip:eve@a.example>"]


@scenario()
async def test_two_phones_redirect_to_the_same_user(here: World) -> None:
    """Who has been tried is not tried again."""
    carol, eve = await here.phones("carol", "eve")
    phones = await here.ring_group("dave", "1", "1")
    for phone in phones:
        phone.gets("INVITE").answers(302, headers=to("<sip:eve@a.example>"))
    eve.gets("INVITE ACK").answers(180, (1.0, 200))
    assert (await carol.call("dave").final()).status == 200
