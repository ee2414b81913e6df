"""Callers whose connection ends, agreements that are renewed, and addresses that are none, in the midst of a call."""

import asyncio

import pytest

from scenarios.phones import Phone
from scenarios.terminals import Terminal
from scenarios.world import World, scenario


async def on_a_connection(here: World, user: str) -> Phone:
    phone: Phone = await here.phone(user)
    await phone.connect()
    assert (await phone.register()).status == 200
    return phone


@scenario()
async def test_the_callee_is_silent(here: World) -> None:
    carol = await on_a_connection(here, "carol")
    (dave,) = await here.phones("dave")
    dave.gets(None)
    dave.link.down = True
    carol.call("dave")
    await asyncio.sleep(0.2)
    assert here.count("neighbour", "dave", "INVITE")
    carol.flow.close()
    await asyncio.sleep(100)
    assert (here.pending, len(here.proxy._forks)) == (0, 0)


@scenario(proxy={"timer_c_s": 200})
async def test_the_callee_rings_on(here: World) -> None:
    carol = await on_a_connection(here, "carol")
    (dave,) = await here.phones("dave")
    dave.gets("INVITE CANCEL").answers(180, (5.0, 183))
    call = carol.call("dave")
    await call.until(180)
    carol.flow.close()
    await asyncio.sleep(400)
    assert (here.pending, len(here.proxy._forks)) == (0, 0)


@scenario(proxy={"ring_s": 5.0})
async def test_others_are_to_ring_later(here: World) -> None:
    carol = await on_a_connection(here, "carol")
    one, two = await here.ring_group("dave", "1", "0.5")
    one.gets("INVITE CANCEL").answers(180, (1.0, 183))
    two.gets(None).answers(180, (20.0, 200))
    call = carol.call("dave")
    await call.until(180)
    carol.flow.close()
    await asyncio.sleep(400)
    assert (here.pending, len(here.proxy._forks)) == (0, 0)


@pytest.mark.parametrize("groups", [1, 2])
@scenario(proxy={"ring_s": 5.0})
async def test_a_callee_without_a_name(here: World, groups: int) -> None:
    """400, whoever else could have been asked; here before anybody is asked who they are, and in any domain."""
    (carol,) = await here.phones("carol")
    here.zone.serve("b.example", ("127.0.2.1", 5061))
    here.server("b.example").gets("")
    foreign = carol.new("INVITE", "sip:bob@b.example")
    foreign.set("To", b"<sip:bob@>")
    assert (await carol.ask(foreign).final()).status == 400
    assert here.count("neighbour", "carol", "407 INVITE") == 0
    phones = await here.ring_group("dave", *("1", "0.5")[:groups])
    for one in phones:
        one.gets(None)
    made = carol.new("INVITE", "dave")
    made.set("To", b"<sip:dave@>")
    assert (await carol.ask(made).final()).status == 400
    await asyncio.sleep(60)
    assert (here.pending, len(here.proxy._forks)) == (0, 0)
    assert not any(one.got for one in phones)


@scenario(resolver={"nameservers": ["127.0.0.53"], "transports": ["tls", "udp"]})
async def test_a_route_in_clear(here: World) -> None:
    """RFC 3261 section 8.1.2: for a sips URI every next hop is one of TLS, whatever the Route says."""
    carol = await here.phone("carol")
    await carol.connect_for_sips()
    call = carol.call("sips:bob@b.example", ("Route", b"<sip:127.0.9.9;transport=udp;lr>"))
    assert (await call.final()).status >= 400
    assert not [entry for entry in here.trace if "127.0.9.9" in entry[2]]


@scenario()
async def test_a_strict_route_over_udp(here: World) -> None:
    """RFC 5630 section 3.1 counts for what is called, wherever that stands."""
    (carol,) = await here.phones("carol")
    dave = await here.phone("dave")
    await dave.connect_for_sips()
    dave.gets(None)
    call = carol.call("dave", ("Route", b"<sips:dave@a.example>"), uri="sip:a.example;wisp=x")
    assert (await call.final()).status >= 400
    assert not dave.got


@scenario()
async def test_challenges_with_two_realms(here: World) -> None:
    """Nobody is to answer a challenge that one client reads as ours and another does not."""
    carol, dave = await here.phones("carol", "dave")
    foreign = [
        b'Digest realm="evil", nonce="x", realm = "a.example", qop="auth"',
        b'Digest realm="evil", nonce="x", Digest realm="a\\.example", qop="auth"',
        b'Digest nonce="x",\trealm="a.example"',
    ]
    dave.gets(None).answers(401, headers=[("WWW-Authenticate", value) for value in foreign])
    answer = await carol.call("dave").final()
    assert (answer.status, answer.get_all("www-authenticate")) == (403, [])


@scenario()
async def test_the_agreement_is_renewed_while_it_rings(here: World) -> None:
    """What answers a request goes by the agreement that there is then."""
    (dave,) = await here.phones("dave")
    tina = await here.phone("tina", Terminal)
    assert (await tina.register()).status == 200
    dave.gets(None).answers(180, (45.0, 200))
    call = tina.call("dave")
    await call.until(180)
    assert (await tina.register()).status == 200
    await asyncio.sleep(100)
    assert call.statuses[-1] == 200


@scenario()
async def test_a_registration_from_a_forged_source(here: World) -> None:
    """A nonce that was given out at one address proves nothing at another: nobody is called there."""
    mallory = await here.phone("mallory")
    taken: list[bytes] = []

    def drop(message, is_to_neighbour):  # type: ignore[no-untyped-def]
        if is_to_neighbour and message.get("authorization"):
            taken.append(message.serialize())
            return True
        return False

    mallory.link.drop = drop
    mallory.gets(None)
    trying = asyncio.ensure_future(mallory.register())
    await asyncio.sleep(0.2)
    assert taken
    trying.cancel()
    here.neighbour._datagram(taken[0].replace(b"z9hG4bK", b"z9hG4bKq"), ("203.0.113.9", 5060), here.udp)
    await asyncio.sleep(0.1)
    assert not here.location.of("mallory")


@scenario(resolver={"nameservers": ["127.0.0.53"], "transports": ["tls", "udp"]})
async def test_a_domain_that_can_be_no_name(here: World) -> None:
    (carol,) = await here.phones("carol")
    uri = "sip:bob@" + "a" * 70 + ".example;maddr=127.0.2.1;transport=tls"
    assert (await carol.call(uri).final()).status in (404, 480, 500, 503)
