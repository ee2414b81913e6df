"""SIPS URIs: TLS on every hop, or not at all (RFC 3261 section 26.2.2, RFC 5630)."""

import asyncio

import pytest

from scenarios.world import Phone, Terminal, World, scenario
from sipwire.headers import Address


async def secure(here: World, *users: str) -> list[Phone]:
    made = []
    for user in users:
        phone = await here.phone(user)
        await phone.connect_for_sips()
        made.append(phone)
    return made


@scenario()
async def test_from_tls_to_tls(here: World) -> None:
    """Everything says sips: Request-URI, Record-Route; and both sides find each other."""
    carol, dave = await secure(here, "carol", "dave")
    carol.gets("INFO")
    dave.gets("INVITE ACK INFO BYE")
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    invite = dave.requests[0]
    assert invite.uri == dave.contact
    assert invite.uri.startswith(b"sips:")
    for value in invite.values("record-route"):
        uri = Address.parse(value).uri
        assert uri.startswith(b"sips:")
        assert b"transport=" not in uri  # "deprecated" (RFC 5630 section 3.1.3)
    assert (await call.again("INFO").final()).status == 200
    assert (await dave.ask(dave.within("INFO")).final()).status == 200
    assert (await call.bye().final()).status == 200


@pytest.mark.parametrize("over", ["udp", "tcp"])
@scenario()
async def test_from_an_unprotected_phone(here: World, over: str) -> None:
    carol = await here.phone("carol")
    if over == "tcp":
        await carol.connect()
    await carol.register()
    await secure(here, "dave")
    response = await carol.call("sips:dave@a.example").final()
    assert response.status == 403
    assert f"this came by {over.upper()}".encode() in (response.get("warning") or b"")


@pytest.mark.parametrize("over", ["udp", "tcp", "tls"])
@scenario()
async def test_to_a_sip_contact(here: World, over: str) -> None:
    """ "MUST NOT" be downgraded, not even where the connection is TLS: 480 with Warning 380 (section 5.3 and 6.3)."""
    (carol,) = await secure(here, "carol")
    dave = await here.phone("dave")
    if over != "udp":
        await dave.connect(tls=over == "tls")
    await dave.register()
    response = await carol.call("sips:dave@a.example").final()
    assert response.status == 480
    assert (response.get("warning") or b"").startswith(b"380 a.example ")


@scenario()
async def test_sip_to_a_sips_contact(here: World) -> None:
    """Who has registered a SIPS contact is not called without: Warning 381."""
    (carol,) = await here.phones("carol")
    await secure(here, "dave")
    response = await carol.call("dave").final()
    assert response.status == 480
    assert (response.get("warning") or b"").startswith(b"381 a.example ")


@scenario()
async def test_of_several_contacts_those_that_fit(here: World) -> None:
    (carol, dave) = await secure(here, "carol", "dave")
    plain = await here.phone("dave")
    await plain.register()
    dave.gets("INVITE").answers(486)
    plain.gets("INVITE").answers(404)
    assert (await carol.call("sips:dave@a.example").final()).status == 486
    assert (await carol.call("sip:dave@a.example").final()).status == 404


@scenario()
async def test_to_a_terminal(here: World) -> None:
    """Its hop is protected as TLS is, and it knows no other scheme (RFC 5630 speaks of TLS only)."""
    (carol,) = await secure(here, "carol")
    tim = await here.phone("tim", Terminal)
    assert (await tim.register()).status == 200
    tim.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("tim")
    assert (await call.final()).status == 200
    assert here.count("neighbour", "tim", "INVITE") == 0  # all of it in frames
    assert (await call.bye().final()).status == 200


@scenario()
async def test_from_a_terminal(here: World) -> None:
    tim = await here.phone("tim", Terminal)
    assert (await tim.register()).status == 200
    (dave,) = await secure(here, "dave")
    dave.gets("INVITE ACK")
    call = tim.call("sips:dave@a.example")
    assert (await call.final()).status == 200


@pytest.mark.parametrize("scheme", ["sip", "sips"])
@scenario()
async def test_to_another_domain(here: World, scheme: str) -> None:
    """Over TLS; the scheme is the caller's."""
    (carol,) = await secure(here, "carol")
    here.zone.serve("b.example", ("127.0.2.1", 5061))
    bob = here.server("b.example")
    bob.contact = f"{scheme}:bob@b.example".encode()
    bob.gets("INVITE ACK BYE")
    call = carol.call(f"{scheme}:bob@b.example")
    assert (await call.final()).status == 200
    assert bob.requests[0].uri == f"{scheme}:bob@b.example".encode()
    assert {flow.transport for flow in bob.flows} == {"TLS"}
    assert all(value.startswith(b"<sips:") == (scheme == "sips") for value in bob.requests[0].values("record-route"))
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario(peer=[{"domain": "b.example", "address": ["127.0.2.1:5060"], "transport": "tcp"}])
async def test_to_a_domain_that_is_reached_unprotected(here: World) -> None:
    """It fails, and nothing is sent: not to a worse transport, whatever the configuration says."""
    (carol,) = await secure(here, "carol")
    bob = here.server("b.example", port=5060)
    assert (await carol.call("sips:bob@b.example").final()).status == 503
    assert bob.flows == []


@scenario()
async def test_within_a_dialog(here: World) -> None:
    """The Contact of a SIPS dialog is SIPS: no request of it goes over an unprotected flow."""
    carol, dave = await secure(here, "carol", "dave")
    dave.gets("INVITE ACK")
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(0.1)
    # The same phone, at the same contact, but over TCP now: as an attacker would like it.
    binding = here.location.of("dave")[0]
    plain = await here.phone("eve")
    await plain.connect()
    await plain.register()
    binding.flow = here.location.of("eve")[0].flow
    assert (await call.again("INFO").final()).status == 480


@scenario()
async def test_a_sips_route(here: World) -> None:
    """ "if the topmost Route header field value ... contains a SIPS URI", ours is SIPS too (section 16.6 step 4)."""
    (carol,) = await secure(here, "carol")
    here.zone.serve("b.example", ("127.0.2.1", 5061))
    bob = here.server("b.example").gets("INVITE").answers(486)
    made = carol.new("INVITE", "sip:zoe@c.example")
    made.add("Route", b"<sips:b.example;lr>")
    assert (await carol.ask(made).final()).status == 486
    assert all(value.startswith(b"<sips:") for value in bob.requests[0].values("record-route"))


@scenario()
async def test_an_ack_by_an_unprotected_hop(here: World) -> None:
    """It is no exception, but nobody can be told: it is dropped, though the hop behind us is protected."""
    (carol,) = await here.phones("carol")
    dave = await here.phone("dave")
    await dave.connect(tls=True)
    assert (await dave.register()).status == 200
    dave.gets("INVITE ACK").answers(200)
    carol.acks = False
    call = carol.call("dave")
    answer = await call.final()
    ack = call.within("ACK", answer, call.request.cseq.number)
    secured = call.within("ACK", answer, call.request.cseq.number)
    secured.uri = b"sips:" + ack.uri.partition(b":")[2]
    carol.send(secured)
    await asyncio.sleep(0.1)
    assert dave.got == ["INVITE"]
    carol.send(ack)
    await asyncio.sleep(0.1)
    assert dave.got == ["INVITE", "ACK"]
