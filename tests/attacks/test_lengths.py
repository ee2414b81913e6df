"""Content-Length that lies: longer than what comes, and shorter, in datagrams and on connections."""

import asyncio
from pathlib import Path

from sip import StreamClient, UdpClient, domain, phones, request, run

from attacks.attack import OFFER, betrayed, drain, good_call, good_call_on_stream, text
from attacks.test_smuggling import authorized, stream_phone
from lab.lab import Lab
from sipwire.message import MAX_MESSAGE_BYTES, Request

BYE = (
    b"BYE sip:dave@a.example SIP/2.0\r\nVia: SIP/2.0/TCP x;branch=z9hG4bKhidden;rport\r\nMax-Forwards: 70\r\n"
    b"From: <sip:carol@a.example>;tag=f\r\nTo: <sip:dave@a.example>;tag=t\r\nCall-ID: hidden\r\nCSeq: 1 BYE\r\n"
    b"Content-Length: 0\r\n\r\n"
)
#: No number that means a length (RFC 3261 section 20.14: 1*DIGIT).
NO_NUMBERS = [
    "-1",
    "+5",
    "0x5",
    "5 5",
    "5,5",
    "",
    "5;x",
    "1e1",
    "\u0665",
    "5\x00",
    "99999999999999999999999",
    "4294967301",
]


def with_length(made: Request, length: str, body: bytes = b"hello") -> bytes:
    made.fields = [field for field in made.fields if field[0] != "content-length"]
    made.body = b""
    return made.serialize()[:-2] + f"Content-Length: {length}\r\n\r\n".encode() + body


def test_in_a_datagram_longer_than_it_is(tmp_path: Path) -> None:
    """The reader goes on into what is not its own, or waits for more that does not come.

    Stopped: a datagram is all there is; one that ends before its Content-Length gets 400 (RFC 3261 section 18.3).
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for length in ("6", "100", str(MAX_MESSAGE_BYTES), str(MAX_MESSAGE_BYTES + 1), str(2**31), *NO_NUMBERS):
                carol.send_raw(
                    with_length(
                        await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol", body=b"hello")),
                        length,
                    )
                )
                assert (await carol.response()).status == 400, length
            # An answer that ends too early is none.
            carol.send(await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol")))
            good = (await dave.request("MESSAGE")).response(200, "OK").serialize()
            dave.send_raw(good.replace(b"Content-Length: 0", b"Content-Length: 5"))
            assert await drain(carol, seconds=0.2) == []
            dave.send_raw(good)
            assert (await carol.response()).status == 200
            await good_call(carol, dave)

    run(work)


def test_in_a_datagram_shorter_than_it_is(tmp_path: Path) -> None:
    """What comes after the body is a message for whoever reads on: hidden from the first, executed by the next.

    Stopped: "If there are additional bytes in the transport packet beyond the end of the body, they MUST be discarded"
    (section 18.3): nobody reads them, and nobody gets them from us.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            erin = await stream_phone(at, "erin")
            for target, callee in (("dave", dave), ("erin", erin)):
                made = await authorized(carol, request("MESSAGE", f"sip:{target}@a.example", "carol", body=b"hello"))
                carol.send_raw(with_length(made, "5", b"hello" + BYE))
                got = await callee.request()
                assert got.method == "MESSAGE"
                assert got.body == b"hello"
                callee.send(got.response(200, "OK"))
                assert (await carol.response()).status == 200
                assert await drain(callee, carol) == []
            # And in an answer.
            carol.send(await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol")))
            got = await dave.request("MESSAGE")
            dave.send_raw(got.response(200, "OK").serialize() + BYE)
            answered = await carol.raw()
            assert answered.startswith(b"SIP/2.0 200 ")
            assert b"BYE" not in answered
            assert await drain(carol) == []
            assert not erin.closed.is_set()
            await good_call(carol, dave)
            await good_call_on_stream(erin, dave, "erin")

    run(work)


def test_on_a_connection_longer_than_it_is(tmp_path: Path) -> None:
    """The next message becomes the body of this one: a request of somebody's is hidden, or a body grows for ever.

    Stopped: on a connection the length is what counts, so that only who lies is harmed: what follows is the body, and
    goes nowhere without right credentials. A length beyond what a message may have ends the connection at once, and one
    whose bytes do not come ends it in time; neither holds anything of others.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            erin = await stream_phone(at, "erin")
            other = await stream_phone(at, "fred")
            made = await authorized(erin, request("MESSAGE", "sip:dave@a.example", "erin"))
            erin.send_raw(with_length(made, str(len(BYE)), BYE))
            got = await dave.request()
            assert (got.method, got.body) == ("MESSAGE", BYE)
            dave.send(got.response(200, "OK"))
            assert (await erin.response()).status == 200
            for length in (str(MAX_MESSAGE_BYTES * 2), str(2**40), *NO_NUMBERS):
                stranger = await StreamClient.open(at)
                stranger.send_raw(with_length(request("OPTIONS", "sip:a.example"), length))
                await asyncio.wait_for(stranger.closed.wait(), 2)
            # The rest never comes: what is held is small, and the connection is the only one that waits.
            waiting = await StreamClient.open(at)
            waiting.send_raw(with_length(request("OPTIONS", "sip:a.example"), "60000"))
            await good_call_on_stream(other, dave, "fred")
            await good_call(carol, dave)
            assert not erin.closed.is_set()

    run(work)


def test_on_a_connection_shorter_than_it_is(tmp_path: Path) -> None:
    """The body of one message is the next one: what a phone was made to say in a body, it says as a request.

    Stopped: what follows is a message like any other of this connection, without credentials, and what is no message
    ends the connection. Nothing that stands in a body that we forward is ever read as a message by us.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            erin = await stream_phone(at, "erin")
            made = await authorized(erin, request("MESSAGE", "sip:dave@a.example", "erin"))
            erin.send_raw(with_length(made, "0", BYE))
            got = await dave.request()
            assert (got.method, got.body) == ("MESSAGE", b"")
            dave.send(got.response(200, "OK"))
            answers = sorted(one.split(b" ")[1] for one in await drain(erin, seconds=0.3))
            assert answers == [b"200", b"407"]  # of the message, and of the BYE of nobody
            assert await drain(dave) == []
            # No message follows: the connection ends, and the binding over it waits for the phone to come back.
            made = await authorized(erin, request("MESSAGE", "sip:dave@a.example", "erin"))
            erin.send_raw(with_length(made, "2", b"hello\r\n\r\nworld\r\n\r\n"))
            got = await dave.request()
            assert got.body == b"he"
            dave.send(got.response(200, "OK"))
            await asyncio.wait_for(erin.closed.wait(), 2)
            # Twice, and different: there is no telling which.
            for second in ("Content-Length: 3\r\n", "l: 3\r\n", "CONTENT-LENGTH : 0\r\n"):
                stranger = await StreamClient.open(at)
                stranger.send_raw(text(more=second, length="Content-Length: 0\r\n"))
                await asyncio.wait_for(stranger.closed.wait(), 2)
            await good_call(carol, dave)

    run(work)


def test_a_header_that_never_ends(tmp_path: Path) -> None:
    """A connection on which a head grows and grows, and one on which a byte comes now and then."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            grows, drips = await StreamClient.open(at), await StreamClient.open(at)
            grows.send_raw(b"OPTIONS sip:a.example SIP/2.0\r\nX: ")
            for _ in range(40):
                grows.send_raw(b"y" * 1000)
                drips.send_raw(b"O")
                await asyncio.sleep(0.01)
            await asyncio.wait_for(grows.closed.wait(), 2)
            assert not drips.closed.is_set()  # until its time is over
            await good_call(carol, dave)

    run(work)


def test_a_terminal_and_lengths(lab: Lab) -> None:
    """The same in frames: 400 for too long, nothing of what comes after, and the next call rings."""
    rogue, alice = betrayed(lab)
    for length in (str(len(OFFER) + 1), "65535", str(2**31), *[one for one in NO_NUMBERS if one.isascii()]):
        assert rogue.status_of(rogue.invite(length=f"Content-Length: {length}\r\n"), 0.1) == [400], length
    alice.read()
    assert not [line for line in alice.lines if line["event"] == "incoming"]
    hidden = rogue.invite(body=OFFER.decode() + BYE.decode().replace("dave", "alice"))
    statuses = rogue.status_of(hidden, 0.5)
    assert 180 in statuses
    assert 481 not in statuses  # the BYE was not read
    alice.wait_for("incoming")
    rogue.close()


def test_nothing_is_left_of_a_datagram_that_lies(tmp_path: Path) -> None:
    """What one datagram has too much is not put in front of the next one, of whomever."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            one, two = await UdpClient.open(at), await UdpClient.open(at)
            for _ in range(20):
                one.send_raw(text(length="Content-Length: 500\r\n", body="INVITE sip:dave@a.example SIP/2.0\r\n"))
                assert (await one.response()).status == 400
                assert (await two.ask(request("OPTIONS", "sip:a.example", "nobody"))).status == 407

    run(work)
