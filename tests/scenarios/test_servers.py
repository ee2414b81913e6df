"""Several servers of one domain: who is asked next where one fails (RFC 3263 section 4.3, RFC 3261 section 16.9)."""

import asyncio

import pytest

from scenarios.test_loops import behind
from scenarios.world import Phone, Server, World, scenario
from sipwire.message import Request, Response

BOB = "sip:bob@b.example"


async def domain(here: World, count: int = 2) -> tuple[Phone, list[Server]]:
    """A caller, and the servers of b.example in the order in which DNS wants them tried."""
    (carol,) = await here.phones("carol")
    hosts = [f"127.0.2.{number}" for number in range(1, count + 1)]
    here.zone.serve("b.example", *((host, 5061) for host in hosts))
    return carol, [here.server("b.example", host) for host in hosts]


@scenario()
async def test_the_first_takes_it(here: World) -> None:
    carol, (one, two) = await domain(here)
    one.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call(BOB)
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200
    assert two.flows == []
    assert len(one.flows) == 1  # one connection for all


@scenario()
async def test_the_first_refuses_connections(here: World) -> None:
    carol, (one, two) = await domain(here)
    here.network.unlisten(one.address)
    two.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call(BOB)
    assert (await call.final()).status == 200
    assert call.arrivals[0] - here.times("carol", "neighbour", "INVITE")[0] < 0.2


@scenario(proxy={"trunk_timeout_s": 3.0})
async def test_the_first_is_not_there(here: World) -> None:
    """Connecting takes its time; the next call is not kept waiting by it again."""
    carol, (one, two) = await domain(here)
    here.network.dark.add(one.address)
    two.gets("INVITE ACK INVITE ACK").answers(200)
    for expected_s in (3.0, 0.0):
        begun = here.loop.time()
        call = carol.call(BOB)
        assert (await call.final()).status == 200
        assert call.arrivals[-1] - begun == pytest.approx(expected_s, abs=0.2)
    assert here.network.opened[one.address] == 1


@scenario()
async def test_a_server_that_failed_is_tried_again_later(here: World) -> None:
    carol, (one, two) = await domain(here)
    here.network.unlisten(one.address)
    two.gets("INVITE").answers(486)
    one.gets("INVITE").answers(486)
    assert (await carol.call(BOB).final()).status == 486
    one.begin()
    await asyncio.sleep(120)
    assert (await carol.call(BOB).final()).status == 486


@scenario()
async def test_the_first_says_503(here: World) -> None:
    """RFC 3263 section 4.3: failure is, among others, "a 503 response to a request"."""
    carol, (one, two) = await domain(here)
    one.gets("INVITE").answers(503)
    two.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call(BOB)
    assert (await call.final()).status == 200
    assert call.statuses == [180, 200]


@scenario()
async def test_all_say_503(here: World) -> None:
    carol, servers = await domain(here, 3)
    for server in servers:
        server.gets("INVITE").answers(503)
    call = carol.call(BOB)
    assert (await call.final()).status == 500


@scenario()
async def test_who_wants_to_be_left_alone_is(here: World) -> None:
    """Retry-After: "SHOULD NOT forward any other requests to that server" until then (section 21.5.4)."""
    carol, (one, two) = await domain(here)
    one.gets("INVITE INVITE").answers(503, headers=(("Retry-After", b"100 (overloaded);duration=5"),))
    two.gets("INVITE INVITE").answers(486)
    assert (await carol.call(BOB).final()).status == 486
    await asyncio.sleep(90)
    assert (await carol.call(BOB).final()).status == 486
    assert one.got == ["INVITE"]
    one.answers(486)
    await asyncio.sleep(20)
    assert (await carol.call(BOB).final()).status == 486


@pytest.mark.parametrize("status", [302, 404, 408, 430, 480, 486, 500, 504, 603])
@scenario()
async def test_any_other_answer_is_the_answer(here: World, status: int) -> None:
    """The domain has spoken; another of its servers would say the same."""
    carol, (one, _) = await domain(here)
    one.gets("INVITE").answers(180, (1.0, status))
    assert (await carol.call(BOB).final()).status == (480 if status == 430 else status)


@scenario(proxy={"next_server_s": 4.0})
async def test_the_first_does_not_answer(here: World) -> None:
    """Nobody waits 32 s for Timer B while there is another."""
    carol, (one, two) = await domain(here)
    one.gets("INVITE")
    one.hook = lambda server: server.machine.transport_failed() is None  # not even 100
    two.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call(BOB)
    assert (await call.final()).status == 200
    assert two.arrivals[0] - one.arrivals[0] == pytest.approx(4.0, abs=0.1)


@scenario(proxy={"next_server_s": 4.0})
async def test_a_server_that_works_on_it_is_waited_for(here: World) -> None:
    """Its 100 says that it is alive."""
    carol, (one, _) = await domain(here)
    one.gets("INVITE ACK").answers((30.0, 200))
    assert (await carol.call(BOB).final()).status == 200


@scenario(proxy={"next_server_s": 4.0})
async def test_none_of_them_answers(here: World) -> None:
    carol, servers = await domain(here, 2)
    for server in servers:
        server.gets("INVITE")
        server.hook = lambda transaction: transaction.machine.transport_failed() is None
    call = carol.call(BOB)
    assert (await call.final()).status == 408
    assert call.arrivals[-1] - servers[0].arrivals[0] == pytest.approx(4 + 32, abs=0.1)


@scenario(proxy={"next_server_s": 4.0})
async def test_the_first_answers_late(here: World) -> None:
    """Its 2xx counts; the other is cancelled."""
    carol, (one, two) = await domain(here)
    one.gets("INVITE ACK")

    def late(server: object) -> bool:
        server.machine._repeat_at = None  # type: ignore[attr-defined]  # no 100
        here.loop.call_later(6.0, one.respond, server, 200)
        return True

    one.hook = late
    two.gets("INVITE CANCEL").answers(180)
    call = carol.call(BOB)
    assert (await call.final()).status == 200
    assert call.statuses == [100, 180, 200]


@pytest.mark.parametrize("answers", [True, False])
@scenario(proxy={"next_server_s": 4.0})
async def test_the_first_is_slow_and_the_other_is_gone(here: World, *, answers: bool) -> None:
    """Nothing is lost by having asked elsewhere meanwhile: the first has its whole time."""
    carol, (one, two) = await domain(here)
    here.network.unlisten(two.address)
    one.gets("INVITE ACK" if answers else "INVITE")

    def late(server: object) -> bool:
        server.machine._repeat_at = None  # type: ignore[attr-defined]  # no 100
        if answers:
            here.loop.call_later(6.0, one.respond, server, 200)
        return True

    one.hook = late
    call = carol.call(BOB)
    assert (await call.final()).status == (200 if answers else 408)
    assert call.arrivals[-1] - one.arrivals[0] == pytest.approx(6.0 if answers else 32.0, abs=0.1)


@scenario()
async def test_the_connection_ends_before_an_answer(here: World) -> None:
    """A new connection has ended: the next server."""
    carol, (one, two) = await domain(here)
    one.gets("INVITE").answers()
    two.gets("INVITE ACK").answers(180, (1.0, 200))
    call = carol.call(BOB)
    await asyncio.sleep(0.1)
    one.end()
    assert (await call.final()).status == 200


@scenario()
async def test_a_kept_connection_turns_out_to_be_dead(here: World) -> None:
    """It ended without our knowing: once more on a new one, to the same server."""
    carol, (one, _) = await domain(here)
    one.gets("INVITE INVITE INVITE").answers(486)
    assert (await carol.call(BOB).final()).status == 486
    one.answers()
    call = carol.call(BOB)
    await asyncio.sleep(0.15)
    one.answers(486)
    one.flows[0].close()
    assert (await call.final()).status == 486
    assert len(one.flows) == 2


@scenario()
async def test_the_connection_ends_while_it_rings(here: World) -> None:
    """It has reached somebody: nobody else is asked."""
    carol, (one, _) = await domain(here)
    one.gets("INVITE").answers(180)
    call = carol.call(BOB)
    await call.until(180)
    one.end()
    response = await call.final()
    assert response.status == 503
    assert b"b.example" in (response.get("warning") or b"")


@scenario()
async def test_a_server_of_another_domain(here: World) -> None:
    """Its certificate proves something else: the next one, and nothing has been sent to it (RFC 5922)."""
    (carol,) = await here.phones("carol")
    here.zone.serve("b.example", ("127.0.2.1", 5061), ("127.0.2.2", 5061))
    here.server("b.example", "127.0.2.1", proves="evil.example")
    right = here.server("b.example", "127.0.2.2").gets("INVITE ACK")
    assert (await carol.call(BOB).final()).status == 200
    assert right.got[0] == "INVITE"


@scenario()
async def test_no_server_at_all(here: World) -> None:
    (carol,) = await here.phones("carol")
    response = await carol.call("sip:bob@nowhere.example").final()
    assert response.status == 503
    assert b"nowhere.example" in (response.get("warning") or b"")


@scenario()
async def test_dns_does_not_answer(here: World) -> None:
    (carol,) = await here.phones("carol")
    here.zone.silent = True
    begun = here.loop.time()
    assert (await carol.call(BOB).final()).status == 503
    assert here.loop.time() - begun < 10


@scenario()
async def test_given_up_while_dns_is_asked(here: World) -> None:
    (carol,) = await here.phones("carol")
    here.zone.silent = True
    call = carol.call(BOB)
    await call.until(100)
    call.cancel()
    assert (await call.final()).status == 487
    assert here.loop.time() < 1


@scenario()
async def test_given_up_between_two_servers(here: World) -> None:
    carol, (one, two) = await domain(here)
    one.gets("INVITE").answers((0.5, 503))
    here.network.dark.add(two.address)
    call = carol.call(BOB)
    await asyncio.sleep(1)
    call.cancel()
    assert (await call.final()).status == 487
    assert call.arrivals[-1] < 2


@scenario(proxy={"next_server_s": 4.0})
async def test_a_message_is_asked_of_the_next(here: World) -> None:
    carol, (one, two) = await domain(here)
    one.gets("MESSAGE")
    one.hook = lambda server: server.machine.transport_failed() is None
    two.gets("MESSAGE")
    call = carol.ask(carol.new("MESSAGE", BOB))
    assert (await call.final()).status == 200


@scenario(proxy={"next_server_s": 4.0})
async def test_a_message_by_both_ways(here: World) -> None:
    """The first was only slow, and the phone behind both says of the second that it has it (482)."""
    carol, (one, two) = await domain(here)
    one.gets("MESSAGE")

    def late(server: object) -> bool:
        server.machine._repeat_at = None  # type: ignore[attr-defined]  # no 100
        here.loop.call_later(6.0, one.respond, server, 200)
        return True

    one.hook = late
    two.gets("MESSAGE").answers(482, to="MESSAGE")
    call = carol.ask(carol.new("MESSAGE", BOB))
    assert (await call.final()).status == 200


@scenario()
async def test_a_fork_to_another_domain_too(here: World) -> None:
    """A phone behind an edge proxy with two servers, beside one of ours; the edge's first is out of service."""
    _, (one, two) = await domain(here)
    eve, dave = await here.phones("eve", "dave")
    behind(here, "dave", "b.example")
    one.gets("INVITE").answers(503)
    two.gets("INVITE ACK INFO BYE").answers(180, (1.0, 200))
    two.hook = lambda server: server.request.insert("Record-Route", b"<sip:b.example;lr>") is not None
    dave.gets("INVITE CANCEL").answers(180)
    call = eve.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(0.1)
    assert (await call.again("INFO").final()).status == 200
    assert (await call.bye().final()).status == 200


@scenario()
async def test_many_calls_share_one_connection(here: World) -> None:
    carol, (one, _) = await domain(here)
    one.gets(" ".join(["INVITE"] * 30)).answers(486)
    calls = [carol.call(BOB) for _ in range(30)]
    assert {(await call.final()).status for call in calls} == {486}
    assert len(one.flows) == 1


@scenario()
async def test_a_call_from_there(here: World) -> None:
    """The other direction: a peer calls a user of ours, cancels, and calls again."""
    _, (one, _) = await domain(here)
    (dave,) = await here.phones("dave")
    await one.dial()
    dave.gets("INVITE CANCEL INVITE ACK").answers(180)
    call = one.call("dave")
    await call.until(180)
    call.cancel()
    assert (await call.final()).status == 487
    dave.answers(200)
    assert (await one.call("dave").final()).status == 200


@scenario()
async def test_a_peer_whose_phone_is_gone_keeps_us(here: World) -> None:
    """It hears 480, not 503: that one phone of ours can't be reached says nothing of us."""
    _, (one, _) = await domain(here)
    dave = await here.phone("dave")
    await dave.connect()
    await dave.register()
    await one.dial()
    dave.gets("INVITE").answers()
    dave.flow.pipe.dead = True  # type: ignore[attr-defined]
    call = one.call("dave")
    here.loop.call_later(1.0, dave.flow.pipe.other.close)  # type: ignore[attr-defined]
    assert (await call.final()).status == 480


def is_large(message: "Request | Response") -> bool:
    return isinstance(message, Request) and len(message.body) > 1000


@pytest.mark.parametrize("takes_tcp", [False, True])
@scenario()
async def test_a_request_too_large_for_a_datagram(here: World, takes_tcp: bool) -> None:
    """Section 18.1.1: by TCP, where the phone takes that, and else by UDP after all."""
    carol, dave = await here.phones("carol", "dave")
    streams: list[object] = []
    if takes_tcp:
        from scenarios.phones import StreamFlow

        def accept(_: tuple[str, int]) -> StreamFlow:
            flow = StreamFlow(dave.address, dave.layer.receive)
            streams.append(flow)
            return flow

        here.network.listen(dave.address, "dave", accept)
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave", body=b"a=" + b"x" * 2000)
    assert (await call.final()).status == 200
    via = dave.requests[0].via
    assert via.transport == (b"TCP" if takes_tcp else b"UDP")
    assert len(streams) == takes_tcp
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200


@scenario()
async def test_given_up_while_a_stream_is_tried(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    here.network.dark.add(dave.address)
    call = carol.call("dave", body=b"a=" + b"x" * 2000)
    await call.until(100)
    call.cancel()
    assert (await call.final()).status == 487
    await asyncio.sleep(5)
    assert dave.got == []
