"""Route, Record-Route, and who gets what by which way (RFC 3261 sections 16.4 to 16.6 and 16.12, RFC 5658, RFC 3327)."""

import asyncio

import pytest

from neighbour.location import PATH, Binding, wall_ms
from scenarios.world import HOST, PORT, Call, Phone, Server, World, scenario
from sipwire.headers import Address
from sipwire.message import Request


async def on(here: World, user: str, over: str) -> Phone:
    """A phone that is registered over UDP, TCP or TLS."""
    phone: Phone = await here.phone(user)
    if over != "udp":
        await phone.connect(tls=over == "tls")
    assert (await phone.register()).status == 200
    return phone


async def talk(here: World, caller_over: str = "udp", callee_over: str = "udp") -> tuple[Phone, Phone, Call]:
    carol, dave = await on(here, "carol", caller_over), await on(here, "dave", callee_over)
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    return carol, dave, call


async def federated(here: World, domain: str = "b.example", host: str = "127.0.2.1") -> Server:
    here.zone.serve(domain, (host, 5061))
    server = here.server(domain, host)
    await server.dial()
    return server


def uris(values: list[bytes]) -> list[bytes]:
    return [Address.parse(value).uri for value in values]


# Record-Route.


@pytest.mark.parametrize("callee_over", ["udp", "tcp", "tls"])
@pytest.mark.parametrize("caller_over", ["udp", "tcp", "tls"])
@scenario()
async def test_each_side_has_its_own_entry(here: World, caller_over: str, callee_over: str) -> None:
    """RFC 5658: one for each, with its transport; both sides find each other by them, whatever they are on."""
    carol, dave, call = await talk(here, caller_over, callee_over)
    carol.gets("INFO")
    dave.gets("INVITE ACK INFO BYE")
    far, near = uris(dave.requests[0].values("record-route"))
    for uri, over in ((far, callee_over), (near, caller_over)):
        assert b";lr" in uri
        assert (b";transport=" + over.encode() in uri) == (over != "udp")
    assert (await call.again("INFO").final()).status == 200
    assert (await dave.ask(dave.within("INFO")).final()).status == 200
    assert (await call.bye().final()).status == 200


@scenario()
async def test_only_what_makes_a_dialog_is_recorded(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("MESSAGE OPTIONS INVITE ACK INFO INVITE ACK SUBSCRIBE REFER")
    for method in ("MESSAGE", "OPTIONS"):
        await carol.ask(carol.new(method, "dave")).final()
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(0.1)
    await call.again("INFO").final()
    again = call.again("INVITE")
    await again.final()
    await asyncio.sleep(0.1)
    for method in ("SUBSCRIBE", "REFER"):
        await carol.ask(carol.new(method, "dave")).final()
    recorded = [one.method for one in dave.requests if one.values("record-route")]
    assert recorded == ["INVITE", "SUBSCRIBE", "REFER"]


@scenario()
async def test_other_proxies_entries_stay(here: World) -> None:
    """Ours come before those that were there, and nothing of these changes."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(486)
    await carol.call("dave", ("Record-Route", b"<sip:p2.example;lr>, <sip:p1.example;lr;x=1>")).final()
    values = dave.requests[0].values("record-route")
    assert values[2:] == [b"<sip:p2.example;lr>", b"<sip:p1.example;lr;x=1>"]
    assert all(b"127.0.0.1" in value for value in values[:2])


@scenario()
async def test_the_entry_of_a_peer_has_our_domain(here: World) -> None:
    """A peer finds us by it as it does for calls; no connection is named, as there is always another."""
    bob = await federated(here)
    carol = await on(here, "carol", "udp")
    bob.gets("INVITE ACK BYE").answers(180, (0.1, 200))
    call = carol.call("sip:bob@b.example")
    await call.final()
    far, near = uris(bob.requests[0].values("record-route"))
    assert far.startswith(b"sip:a.example;transport=tls;lr")
    assert near.startswith(b"sip:u-127.0.0.1-5060-127.0.1.2-5060@127.0.0.1")
    assert (await call.bye().final()).status == 200


# Requests within a dialog, by the tokens in it.


@scenario()
async def test_a_contact_that_nobody_can_reach(here: World) -> None:
    """The phone writes what it likes: the token knows the way."""
    carol, dave = await on(here, "carol", "tcp"), await on(here, "dave", "tls")
    carol.gets("BYE")
    dave.gets("INVITE ACK INFO")
    carol.contact, dave.contact = b"sip:carol@192.168.1.2:5070", b"sip:dave@localhost"
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(0.1)
    assert (await call.again("INFO").final()).status == 200
    assert (await dave.bye().final()).status == 200
    assert carol.last("BYE").uri == b"sip:carol@192.168.1.2:5070"


@scenario()
async def test_a_connection_that_is_gone(here: World) -> None:
    """RFC 5626 section 5.3.1: "If the flow no longer exists, the proxy SHOULD send a 430"."""
    _, dave, call = await talk(here, "udp", "tcp")
    dave.gets("INVITE ACK")
    dave.contact = b"sip:dave@elsewhere.invalid"
    dave.flow.close()  # type: ignore[attr-defined]
    await asyncio.sleep(1)
    call.responses[-1].set("Contact", b"<sip:dave@elsewhere.invalid>")
    assert (await call.bye().final()).status == 430


@pytest.mark.parametrize("forge", ["cookie", "token", "call-id", "to", "none"])
@scenario()
async def test_forged_tokens(here: World, forge: str) -> None:
    """What we have not written ourselves leads nowhere, and whoever brings it is a stranger."""
    carol, dave, call = await talk(here)
    mallory = await here.phone("mallory")
    dave.gets("INVITE ACK" if forge != "none" else "INVITE ACK INFO")
    made = call.within("INFO", call.responses[-1], 7)
    routes = made.values("route")
    made.fields = [field for field in made.fields if field[0] != "route"]
    for value in routes:
        forged = value
        if forge == "cookie":
            forged = value.replace(b"wisp=", b"wisp=0")[: -len(b"0>")] + b">"
        elif forge == "token":
            forged = value.replace(b"-127.0.1.3-", b"-127.0.1.2-")
        made.add("Route", forged)
    if forge == "call-id":
        made.set("Call-ID", b"another")
    elif forge == "to":
        made.set("To", b"<sip:eve@a.example>;tag=x")
    elif forge == "token":
        made.uri = b"sip:dave@192.168.1.2"  # nothing but the token could say where that is
    call = mallory.ask(made)
    status = (await call.final()).status
    assert (status == 200) == (forge == "none")
    assert carol.got == []


@scenario()
async def test_a_cookie_leads_to_the_other_side_only(here: World) -> None:
    """It proves a dialog, not the right to send anything anywhere."""
    _, dave, call = await talk(here)
    (eve,) = await here.phones("eve")
    dave.gets("INVITE ACK")
    made = call.within("MESSAGE", call.responses[-1], 9)
    first = made.values("route")[0]
    made.fields = [field for field in made.fields if field[0] != "route"]
    made.add("Route", first)  # that of our own side, which names the caller's own flow
    made.uri = eve.contact
    other = dave.ask(made)
    await other.final()
    assert eve.got == []
    made.uri = b"sip:anybody@c.example"
    outside = dave.ask(made)
    await outside.final()
    assert here.zone.asked == []
    for phone in here.everybody:
        if phone is not eve:
            phone.gets(None)


# Routers before and after us.


@scenario()
async def test_a_strict_router_before_us(here: World) -> None:
    """It has put our own URI into the Request-URI, and the real one last into Route (section 16.4)."""
    carol, dave, call = await talk(here)
    dave.gets("INVITE ACK BYE")
    made = call.within("BYE", call.responses[-1], 7)
    target, routes = made.uri, uris(made.values("route"))
    made.fields = [field for field in made.fields if field[0] != "route"]
    made.uri = routes[0]
    for uri in (*routes[1:], target):
        made.add("Route", b"<%s>" % uri)
    assert (await carol.ask(made).final()).status == 200
    assert dave.last("BYE").uri == target
    assert dave.last("BYE").values("route") == []


@scenario()
async def test_a_strict_router_after_us(here: World) -> None:
    """It gets the request as RFC 2543 had it: its own URI as Request-URI, the real one last (section 16.6 step 6)."""
    bob = await federated(here)
    carol = await on(here, "carol", "udp")
    bob.gets("INVITE").answers(486)
    made = carol.new("INVITE", "sip:zoe@c.example")
    made.add("Route", b"<sip:127.0.0.1:5060;lr>")
    made.add("Route", b"<sip:strict@b.example;x=1>, <sip:next.b.example;lr>")
    assert (await carol.ask(made).final()).status == 486
    (came,) = bob.requests
    assert came.uri == b"sip:strict@b.example;x=1"
    assert uris(came.values("route")) == [b"sip:next.b.example;lr", b"sip:zoe@c.example"]


@scenario()
async def test_a_loose_router_after_us(here: World) -> None:
    bob = await federated(here)
    carol = await on(here, "carol", "udp")
    bob.gets("INVITE").answers(486)
    made = carol.new("INVITE", "sip:zoe@c.example")
    made.add("Route", b"<sip:127.0.0.1:5060;lr>, <sip:b.example;lr>")
    assert (await carol.ask(made).final()).status == 486
    (came,) = bob.requests
    assert (came.uri, uris(came.values("route"))) == (b"sip:zoe@c.example", [b"sip:b.example;lr"])


@pytest.mark.parametrize(
    "route",
    [b"<sip:127.0.0.1:5060;lr>", b"<sip:a.example;lr>", b"<sip:A.EXAMPLE:5061;transport=tls;lr>, <sip:a.example;lr>"],
)
@scenario()
async def test_our_own_entries_are_taken_off(here: World, route: bytes) -> None:
    """A phone's outbound proxy is us; Service-Route (RFC 3608) brings the same."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(486)
    made = carol.new("INVITE", "dave")
    made.add("Route", route)
    assert (await carol.ask(made).final()).status == 486
    assert dave.requests[0].values("route") == []


@scenario()
async def test_somebody_elses_route_comes_first(here: World) -> None:
    """Even to a user of ours: who writes a Route wants it (section 16.6 step 7)."""
    bob = await federated(here)
    carol, _ = await here.phones("carol", "dave")
    bob.gets("INVITE").answers(486)
    made = carol.new("INVITE", "dave")
    made.add("Route", b"<sip:b.example;lr>")
    assert (await carol.ask(made).final()).status == 486
    assert bob.requests[0].uri == b"sip:dave@a.example"


@scenario()
async def test_peers_do_not_go_through_us(here: World) -> None:
    """We relay for our own users only."""
    bob, zoe = await federated(here), await federated(here, "c.example", "127.0.2.2")
    routed = bob.new("INVITE", "dave")
    routed.add("Route", b"<sip:a.example;lr>, <sip:c.example;lr>")
    await here.phones("dave")
    for made in (bob.new("INVITE", "sip:zoe@c.example"), routed):
        assert (await bob.ask(made).final()).status == 404
    assert zoe.flows == []


@scenario()
async def test_a_phone_behind_an_edge_proxy(here: World) -> None:
    """RFC 3327 section 5.1: the Path becomes the Route, the contact the Request-URI."""
    edge = await federated(here, "edge.example")
    (carol,) = await here.phones("carol")
    await here.phone("dave")
    binding = Binding("dave", b"sip:dave@192.168.7.7:5062", b"r", 1, wall_ms() + 3_600_000, kind=PATH)
    binding.path = (b"<sip:flow7@edge.example;lr;ob>", b"<sip:inner.edge.example;lr>")
    here.location._put(binding)
    edge.gets("INVITE").answers(180, (1.0, 486))
    assert (await carol.call("dave").final()).status == 486
    (came,) = edge.requests
    assert came.uri == b"sip:dave@192.168.7.7:5062"
    assert came.values("route") == list(binding.path)
    here.network.unlisten(edge.address)
    edge.end()
    await asyncio.sleep(1)
    response = await carol.call("dave").final()
    assert response.status == 480  # the phone can't be reached; that is not our being out of service


@scenario()
async def test_a_peer_that_is_no_proxy(here: World) -> None:
    """It records no route: requests within the dialog go to its Contact, at its domain."""
    bob = await federated(here)
    carol = await on(here, "carol", "udp")
    carol.gets("INFO")
    bob.gets("INVITE ACK INFO BYE").answers(180, (0.1, 200))
    call = carol.call("sip:bob@b.example")
    await call.final()
    await asyncio.sleep(0.1)
    assert (await call.again("INFO").final()).status == 200
    assert (await bob.ask(bob.within("INFO")).final()).status == 200
    assert (await call.bye().final()).status == 200


@scenario()
async def test_a_peer_hangs_up_over_another_connection(here: World) -> None:
    bob = await federated(here)
    carol = await on(here, "carol", "tcp")
    carol.gets("BYE")
    bob.gets("INVITE ACK").answers(180, (0.1, 200))
    call = carol.call("sip:bob@b.example")
    await call.final()
    await asyncio.sleep(0.1)
    for flow in bob.flows:
        flow.close()
    await bob.dial()
    assert (await bob.bye().final()).status == 200


# What is refused before it goes anywhere.


@pytest.mark.parametrize(
    ("uri", "status"),
    [
        ("tel:+4930123456", 416),
        ("urn:service:sos", 416),
        ("mailto:dave@a.example", 416),
        ("sip:nobody@a.example", 404),
        ("sip:a.example", 404),
        ("sip:dave@a.example:5099", 503),
        ("sips:dave@a.example", 403),
    ],
)
@scenario()
async def test_where_nothing_goes(here: World, uri: str, status: int) -> None:
    carol, _ = await here.phones("carol", "dave")
    call = carol.call(uri)
    assert (await call.final()).status == status


@pytest.mark.parametrize(
    ("value", "unsupported"), [(b"foo", b"foo"), (b"sec-agree, Bar, baz", b"bar, baz"), (b"sec-agree", None)]
)
@scenario()
async def test_what_a_proxy_is_to_do(here: World, value: bytes, unsupported: bytes | None) -> None:
    """420 with everything that we don't know (section 16.3 step 5); what was for us goes no further."""
    carol, dave = await here.phones("carol", "dave")
    if unsupported is None:
        dave.gets("INVITE").answers(486)
    response = await carol.call("dave", ("Proxy-Require", value)).final()
    assert (response.status, response.get("unsupported")) == (420 if unsupported else 486, unsupported)
    if unsupported is None:
        assert dave.requests[0].get("proxy-require") is None


@scenario()
async def test_what_a_callee_is_to_do_is_not_for_us(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(420)
    assert (await carol.call("dave", ("Require", b"foo")).final()).status == 420
    assert dave.requests[0].get("require") == b"foo"


def _same(one: Request, two: Request, *but: str) -> bool:
    changed: set[str] = {
        "via",
        "max-forwards",
        "record-route",
        "max-breadth",
        "proxy-authorization",
        "content-length",
        "security-status",
    }
    changed |= set(but)
    kept = [[line for key, line in message.fields if key not in changed] for message in (one, two)]
    return kept[0] == kept[1] and one.body == two.body


@scenario()
async def test_nothing_else_is_changed(here: World) -> None:
    """Headers in their order, as they were written, folds and case and compact forms included."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(486)
    made = carol.new("INVITE", "dave", body=bytes(range(256)))
    for line in (b"s: a  subject", b"x-UNKNOWN:  \t;;,\xc3\xa9", b"Accept: a/b,\r\n c/d", b"k: foo, bar"):
        key = {b"s": "subject", b"k": "supported"}.get(
            line.partition(b":")[0], line.partition(b":")[0].decode().lower()
        )
        made.fields.append((key, line))
    assert (await carol.ask(made).final()).status == 486
    assert _same(made, dave.requests[0])


@scenario()
async def test_a_strict_router_needs_the_cookie(here: World) -> None:
    """Only what we have put there ourselves is taken for the last Route (RFC 3261 section 16.4)."""
    (carol,) = await here.phones("carol")
    uri = f"sip:000000000000@{HOST}:{PORT};lr;wisp=0000000000000000"
    made = carol.new("INFO", "sip:dave@a.example", uri=uri)
    made.set("To", b"<sip:dave@a.example>;tag=t")
    made.add("Route", b"<sip:bob@b.example>")
    made.add("Route", b"<sip:zoe@c.example>")
    assert here.routes.take(made) == (False, b"")
    assert (made.uri, made.values("route")) == (uri.encode(), [b"<sip:bob@b.example>", b"<sip:zoe@c.example>"])
