"""Requests that come back: loops end, spirals go on (RFC 3261 section 16.3, RFC 5393 section 4)."""

import asyncio

import pytest

from neighbour.location import PATH, Binding, wall_ms
from neighbour.transactions import Client
from neighbour.transactions import Server as ServerTransaction
from scenarios.world import Phone, Server, World, scenario
from sipwire.editing import remove_first
from sipwire.message import Response


@pytest.mark.parametrize(("given", "arrives"), [(b"70", b"69"), (b"1", b"0"), (b"255", b"254"), (None, b"70")])
@scenario()
async def test_max_forwards(here: World, given: bytes | None, arrives: bytes) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(486)
    made = carol.new("INVITE", "dave")
    made.fields = [field for field in made.fields if field[0] != "max-forwards"]
    if given is not None:
        made.add("Max-Forwards", given)
    assert (await carol.ask(made).final()).status == 486
    assert dave.requests[0].get_all("max-forwards") == [arrives]


@pytest.mark.parametrize("method", ["INVITE", "MESSAGE", "OPTIONS"])
@scenario()
async def test_none_left(here: World, method: str) -> None:
    carol, _ = await here.phones("carol", "dave")
    call = carol.ask(carol.new(method, "dave", ("Max-Forwards", b"0")))
    assert (await call.final()).status == 483


@pytest.mark.parametrize("value", [b"256", b"-1", b"x", b""])
@scenario()
async def test_what_is_no_number(here: World, value: bytes) -> None:
    carol, _ = await here.phones("carol", "dave")
    here.malformed = 1
    assert (await carol.call("dave", ("Max-Forwards", value)).final()).status == 400


def behind(here: World, user: str, edge: str) -> None:
    """Register a user through an edge proxy (RFC 3327)."""
    binding = Binding(user, b"sip:%s@127.0.2.99" % user.encode(), b"r", 1, wall_ms() + 3_600_000, kind=PATH)
    binding.path = (f"<sip:{edge};lr>".encode(),)
    here.location._put(binding)


def bounce(server: Server, uri: str) -> None:
    """Have a server of another domain send back what it gets, as a proxy, to a URI of ours."""

    def forward(transaction: ServerTransaction) -> bool:
        request = transaction.request.copy()
        remove_first(request, "route")
        request.uri = uri.encode()
        request.set("Max-Forwards", b"%d" % ((request.uint("max-forwards", 255) or 1) - 1))

        def back(_: Client, event: "Response | str") -> None:
            if isinstance(event, Response):
                remove_first(event, "via")
                transaction.respond(event)

        server.layer.request(request, server.flow, back)
        return True

    server.hook = forward


async def outside(here: World) -> tuple[Server, Phone]:
    """A server of b.example with a connection of its own to us, and somebody of ours who is registered through it."""
    here.zone.serve("b.example", ("127.0.2.1", 5061))
    server = here.server("b.example")
    await server.dial()
    dave = await here.phone("dave")
    behind(here, "dave", "b.example")
    return server, dave


@scenario()
async def test_a_loop(here: World) -> None:
    """The same request again: 482, and not after seventy rounds."""
    server, _ = await outside(here)
    bounce(server, "sip:dave@a.example")
    call = server.call("dave")
    server.gets("INVITE")
    assert (await call.final()).status == 482


@scenario()
async def test_a_spiral(here: World) -> None:
    """It comes back for somebody else: that is no loop (section 16.3)."""
    server, _ = await outside(here)
    (eve,) = await here.phones("eve")
    bounce(server, "sip:eve@a.example")
    server.gets("INVITE")
    eve.gets("INVITE ACK")  # the ACK takes the shorter way: all of the route set is ours
    call = server.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(1)
    ours = [via for via in eve.requests[0].values("via") if b"a.example" in via or b"127.0.0.1" in via]
    assert len(ours) == 2  # it has been here twice
    assert eve.requests[0].get("max-forwards") == b"67"


@scenario()
async def test_a_spiral_of_two_users(here: World) -> None:
    """Dave's calls come back as Eve's, and hers as his: a loop, found in the second round."""
    server, _ = await outside(here)
    await here.phone("eve")
    behind(here, "eve", "b.example")
    server.gets("INVITE INVITE")

    def turn(transaction: ServerTransaction) -> bool:
        other = "eve" if transaction.request.uri.startswith(b"sip:dave") else "dave"
        bounce(server, f"sip:{other}@a.example")
        forward, server.hook = server.hook, turn
        return forward(transaction)

    server.hook = turn
    assert (await server.call("dave").final()).status == 482


@scenario()
async def test_a_loop_that_changes_each_time(here: World) -> None:
    """Max-Forwards ends what no hash can see."""
    server, _ = await outside(here)
    server.gets(None)
    rounds = [0]

    def turn(transaction: ServerTransaction) -> bool:
        rounds[0] += 1
        bounce(server, f"sip:dave@a.example;round={rounds[0]}")
        forward, server.hook = server.hook, turn
        return forward(transaction)

    server.hook = turn
    call = server.call("dave", ("Max-Forwards", b"20"))
    assert (await call.final()).status == 483
    assert rounds[0] == 10


@scenario()
async def test_a_fork_before_us_is_no_loop(here: World) -> None:
    """Two copies of a request, by different ways, have nothing of ours in them."""
    here.zone.serve("b.example", ("127.0.2.1", 5061))
    server = here.server("b.example")
    await server.dial()
    (dave,) = await here.phones("dave")
    dave.gets("INVITE INVITE").answers(486)
    made = server.new("INVITE", "dave")
    one, two = server.ask(made), server.ask(made)
    assert ((await one.final()).status, (await two.final()).status) == (486, 486)


@scenario()
async def test_a_via_that_only_looks_like_ours(here: World) -> None:
    """Our hash in the Via of somebody else, and a Via of ours with another hash, are no loop."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE INVITE").answers(486)
    await carol.call("dave").final()
    branch = dave.requests[0].via.branch
    made = carol.new("INVITE", "dave")
    made.add("Via", b"SIP/2.0/UDP elsewhere.example;branch=" + branch)
    made.add("Via", b"SIP/2.0/UDP 127.0.0.1:5060;branch=z9hG4bKx.000000000000")
    assert (await carol.ask(made).final()).status == 486


@scenario()
async def test_the_next_request_of_a_dialog_is_no_loop(here: World) -> None:
    """With another CSeq it is another request, whatever else is the same."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK INFO INFO")
    call = carol.call("dave")
    await call.final()
    for _ in range(2):
        assert (await call.again("INFO").final()).status == 200


@scenario()
async def test_a_message_in_a_loop(here: World) -> None:
    server, _ = await outside(here)
    bounce(server, "sip:dave@a.example")
    server.gets("MESSAGE")
    assert (await server.ask(server.new("MESSAGE", "dave")).final()).status == 482


@scenario()
async def test_a_loop_in_one_branch_of_a_fork(here: World) -> None:
    """The other branch goes on."""
    server, _ = await outside(here)
    (dave,) = await here.phones("dave")
    bounce(server, "sip:dave@a.example")
    server.gets("INVITE")
    dave.gets("INVITE ACK").answers(180, (1.0, 200))
    call = server.call("dave")
    assert (await call.final()).status == 200
