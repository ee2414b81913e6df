"""Links that lose, double, reorder and delay: what comes of calls all the same.

Each seed is a world of its own with its own luck. Whatever is lost, nothing may be left over: that is what every world
looks at in its end.
"""

import asyncio
import contextlib

import pytest

from scenarios.world import World, scenario
from sipwire.message import Request, Response


@pytest.mark.parametrize("seed", range(30))
@scenario()
async def test_calls_over_links_that_lose_a_fifth(here: World, seed: int) -> None:
    """All of them succeed, and are hung up."""
    carol, dave = await here.phones("carol", "dave")
    for phone in (carol, dave):
        phone.link.loss, phone.link.jitter_s = 0.1 + 0.1 * (seed % 2), 0.02
    dave.gets(None).answers(180, (2.0, 200))
    carol.gets("" if seed % 3 else "BYE")
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(10)
    bye = call.bye() if seed % 3 else dave.bye()
    assert (await bye.final()).status == 200
    assert [method for method in dave.got if method != "ACK"] == (["INVITE", "BYE"] if seed % 3 else ["INVITE"])
    assert dave.unacknowledged == 0


@pytest.mark.parametrize("seed", range(20))
@scenario()
async def test_calls_over_links_that_lose_two_fifths(here: World, seed: int) -> None:
    """Each hop loses so much that not all can succeed; none of them hangs, and none is half there for ever."""
    carol, dave = await here.phones("carol", "dave")
    carol.link.loss = dave.link.loss = 0.4
    dave.gets(None).answers(180, (2.0, 200))
    call = carol.call("dave")
    with contextlib.suppress(TimeoutError):
        if (await call.final()).status == 200:
            await asyncio.sleep(20)
            bye = call.bye()
            with contextlib.suppress(TimeoutError):
                assert (await bye.final()).status == 200
    assert dave.got.count("INVITE") <= 1
    assert dave.got.count("BYE") <= 1
    assert carol.link.lost + dave.link.lost > 0
    await asyncio.sleep(40)
    assert here.pending == 0 or not call.is_over


@pytest.mark.parametrize("seed", range(10))
@scenario()
async def test_forks_over_links_that_lose_a_third(here: World, seed: int) -> None:
    """One has the call; whoever else has rung rings no more."""
    (carol,) = await here.phones("carol")
    phones = await here.ring_group("dave", "1", "1", "1", "0.5")
    for phone in phones:
        phone.gets(None).answers(180)
        phone.link.loss = 0.3
    phones[1].answers(180, (4.0, 200))
    call = carol.call("dave")
    final = await call.final()
    await asyncio.sleep(40)
    answered = [phone for phone in phones if phone.got[:2] == ["INVITE", "ACK"]]
    for phone in phones:
        if "INVITE" in phone.got and phone not in answered:
            assert phone.got in (["INVITE", "CANCEL"], ["INVITE", "CANCEL", "CANCEL"], ["INVITE"]), phone.got
            assert phone.got != ["INVITE"] or phone is phones[1]
    assert final.status in (200, 408)


@pytest.mark.parametrize("seed", range(10))
@scenario()
async def test_messages_over_links_that_lose_a_third(here: World, seed: int) -> None:
    """Each arrives once."""
    carol, dave = await here.phones("carol", "dave")
    carol.link.loss = dave.link.loss = 0.3
    dave.gets("MESSAGE MESSAGE MESSAGE")
    for _ in range(3):
        assert (await carol.ask(carol.new("MESSAGE", "dave", body=b"hello")).final()).status == 200


@pytest.mark.parametrize("seed", range(10))
@scenario()
async def test_registering_over_a_link_that_loses_a_third(here: World, seed: int) -> None:
    carol = await here.phone("carol")
    carol.link.loss = 0.3
    for _ in range(3):
        assert (await carol.register()).status == 200
    assert len(here.location.of("carol")) == 1
    assert (await carol.register(expires=0)).status == 200
    assert here.location.of("carol") == []


@pytest.mark.parametrize("copies", [2, 3])
@scenario()
async def test_everything_arrives_several_times(here: World, copies: int) -> None:
    """Nothing is passed on more than once but a 2xx, and the ACK to each: they have no transaction."""
    carol, dave = await here.phones("carol", "dave")
    carol.link.copies = dave.link.copies = copies
    dave.gets("INVITE" + " ACK" * copies**4 + " INFO BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(0.1)
    assert (await call.again("INFO").final()).status == 200
    assert (await call.bye().final()).status == 200
    assert [here.count("neighbour", "dave", method) for method in ("INVITE", "INFO", "BYE")] == [1, 1, 1]
    assert call.statuses[0] == 180
    assert 200 in call.statuses


@pytest.mark.parametrize("seed", range(10))
@scenario()
async def test_everything_overtakes_everything(here: World, seed: int) -> None:
    carol, dave = await here.phones("carol", "dave")
    carol.link.jitter_s = dave.link.jitter_s = 0.4
    dave.gets(None).answers(180, (0.2, 183), (0.4, 200))
    call = carol.call("dave")
    await call.final()
    await asyncio.sleep(3)
    assert call.statuses[-1] == 200
    after = call.statuses[call.statuses.index(200) :]
    assert set(after) == {200}  # nothing provisional after it
    assert (await call.bye().final()).status == 200
    assert dave.got.count("INVITE") == dave.got.count("BYE") == 1


@pytest.mark.parametrize("seed", range(10))
@scenario()
async def test_calls_given_up_over_links_that_lose_a_third(here: World, seed: int) -> None:
    carol, dave = await here.phones("carol", "dave")
    carol.link.loss = dave.link.loss = 0.3
    dave.gets(None).answers(180)
    call = carol.call("dave")
    await call.heard()  # "the request MUST NOT be sent" before (section 9.1)
    cancel = call.cancel()
    assert (await cancel.final()).status == 200
    assert (await call.final()).status == 487
    assert dave.got in (["INVITE", "CANCEL"], [])


@scenario()
async def test_a_phone_that_was_gone_for_ten_seconds(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    dave.link.down = True
    call = carol.call("dave")
    here.loop.call_later(10.0, setattr, dave.link, "down", False)
    assert (await call.final()).status == 200
    # The sixth INVITE, 15.5 s after the first.
    assert dave.arrivals[0] - here.times("neighbour", "dave", "INVITE")[0] == pytest.approx(15.5, abs=0.02)
    assert (await call.bye().final()).status == 200


@scenario()
async def test_a_caller_that_was_gone_when_it_was_answered(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    await call.until(180)
    carol.link.down = True
    here.loop.call_later(10.0, setattr, carol.link, "down", False)
    assert (await call.final()).status == 200
    assert call.statuses == [180, 200]
    await asyncio.sleep(0.1)
    assert (await call.bye().final()).status == 200
    assert dave.unacknowledged == 0


@scenario()
async def test_one_way_only(here: World) -> None:
    """Nothing that the phone says arrives: it rings, and nobody knows; when it is over, it is told."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE").answers(180)
    dave.link.drop = lambda message, to_neighbour: to_neighbour
    call = carol.call("dave")
    assert (await call.final()).status == 408
    assert here.count("neighbour", "dave", "CANCEL") == 0  # which it must not be, without a provisional response
    dave.link.drop = None
    server = next(iter(dave.layer._servers.values()))
    dave.respond(server, 486)
    await asyncio.sleep(1)
    assert call.statuses == [100, 408]


@scenario()
async def test_a_slow_link(here: World) -> None:
    """Two seconds each way: everything is repeated, nothing happens twice."""
    carol, dave = await here.phones("carol", "dave")
    dave.link.delay_s = 2.0
    dave.gets("INVITE ACK ACK ACK ACK BYE").answers(180, (1.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    await asyncio.sleep(5)
    assert (await call.bye().final()).status == 200
    assert here.count("neighbour", "dave", "INVITE") > 2


@scenario()
async def test_a_response_of_somebody_else(here: World) -> None:
    """Whoever has seen the branch, but is not at the other end, answers nothing."""
    carol, dave = await here.phones("carol", "dave")
    mallory = await here.phone("mallory")
    dave.gets("INVITE").answers(180, (2.0, 486))
    call = carol.call("dave")
    await call.until(180)
    forged = dave.requests[0].response(200, "OK", b"mallory")
    forged.add("Contact", b"<sip:mallory@127.0.1.4>")
    here.to_neighbour(forged.serialize(), mallory)
    assert (await call.final()).status == 486
    assert here.neighbour.metrics.value("wisp_stray_responses_total") == 1


@scenario()
async def test_a_request_with_the_branch_of_somebody_else(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    mallory = await here.phone("mallory")
    dave.gets("INVITE ACK").answers(180, (2.0, 200))
    call = carol.call("dave")
    await call.until(180)
    here.to_neighbour(call.sent.serialize(), mallory)
    await asyncio.sleep(0.1)
    assert here.count("neighbour", "mallory", "180 INVITE") == 0
    assert here.neighbour.metrics.value("wisp_stray_requests_total") == 1
    assert (await call.final()).status == 200


@scenario()
async def test_an_ack_out_of_the_blue(here: World) -> None:
    """It is nobody's, costs nothing and is answered by nothing."""
    carol, dave = await here.phones("carol", "dave")
    await here.idle_at()
    made = carol.new("ACK", "dave")
    carol.send(made)
    tagged = carol.new("ACK", "dave")
    tagged.set("To", b"<sip:dave@a.example>;tag=none")
    carol.send(tagged)
    await asyncio.sleep(1)
    assert here.pending == 0
    assert here.trace[-1][1:] == ("carol", "neighbour", "ACK")
    assert dave.got == []


@scenario()
async def test_junk_between_the_messages_of_a_call(here: World) -> None:
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK BYE").answers(180, (1.0, 200))
    junk = [b"\r\n\r\n", b"\0\0\0\0", b"INVITE", b"\xff" * 100, b"SIP/2.0 200\r\n\r\n", b"INVITE sip:x SIP/2.0\r\n\r\n"]
    call = carol.call("dave")
    for data in junk:
        here.neighbour._datagram(data, dave.address, here.udp)
        here.neighbour._datagram(data, carol.address, here.udp)
    await call.final()
    assert (await call.bye().final()).status == 200
    here.malformed = 2 * 4


@scenario()
async def test_provisional_responses_without_end(here: World) -> None:
    """A phone that rings ten times a second for three minutes is a phone that rings."""
    carol, dave = await here.phones("carol", "dave")
    dave.gets("INVITE ACK").answers(*[(number / 10, 180) for number in range(1800)], (180.0, 200))
    call = carol.call("dave")
    assert (await call.final()).status == 200
    assert call.statuses.count(180) == 1800


def spoils_once(status: int) -> object:
    """For `Link.drop`: the first response of a status that comes from the phone."""
    seen: list[int] = []

    def drop(message: "Request | Response", to_neighbour: bool) -> bool:
        if to_neighbour and isinstance(message, Response) and message.status == status and not seen:
            seen.append(status)
            return True
        return False

    return drop


@pytest.mark.parametrize(("status", "wait_s"), [(486, 0.5), (200, 0.5)])
@scenario()
async def test_the_first_final_response_is_lost(here: World, status: int, wait_s: float) -> None:
    """The phone repeats it after T1, whichever kind it is."""
    carol, dave = await here.phones("carol", "dave")
    dave.link.drop = spoils_once(status)  # type: ignore[assignment]
    dave.gets("INVITE ACK" if status == 200 else "INVITE").answers(180, (1.0, status))
    call = carol.call("dave")
    assert (await call.final()).status == status
    assert call.arrivals[-1] - call.arrivals[0] == pytest.approx(1.0 + wait_s, abs=0.02)
