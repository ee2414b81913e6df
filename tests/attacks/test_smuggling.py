"""Header smuggling: a header that one element overlooks and the next one reads."""

from pathlib import Path

import pytest
from sip import Domain, StreamClient, UdpClient, domain, phones, request, run, signed

from attacks.attack import betrayed, drain, forged, good_call, good_call_on_stream, text
from lab.lab import Lab
from sipwire.message import Request

#: What may stand between a name and its colon elsewhere, and not here (RFC 3261 section 7.3.1: SP and HTAB only).
BEFORE_COLON = ["\x00", "\x01", "\x08", "\x0b", "\x0c", "\x1b", "\x1f", "\x7f", "\x85", "\xa0", "\xff", " x", '"', "()"]
#: Ways to end a line, or to begin one, that are none.
LINE_ENDS = ["\n", "\r", "\n\n", "\r\r\n", "\n\r", "\x0b", "\x0c", "\x85"]


async def stream_phone(at: Domain, user: str) -> StreamClient:
    await at.add(user)
    client = await StreamClient.open(at)
    made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=f"sip:{user}@192.0.2.1")
    assert (await client.ask(signed(made, await client.ask(made), user, "secret"))).status == 200
    return client


async def authorized(client: "UdpClient | StreamClient", made: Request) -> Request:
    """A request that would go through, if nothing were wrong with it."""
    user = (made.from_.parsed_uri().user or b"").decode()
    again = signed(made, await client.ask(made), user, "secret")
    kind = "UDP" if isinstance(client, UdpClient) else "TCP"
    again.insert("Via", f"SIP/2.0/{kind} 192.0.2.9;branch=z9hG4bK{id(again)};rport".encode())
    return again


def test_nothing_stands_before_the_colon(tmp_path: Path) -> None:
    """CVE-2020-28361 (Kamailio) and CVE-2016-9938 (Asterisk): "P-Asserted-Identity<control byte>: <sip:ceo@…>".

    The attacker wants a header to pass the one that would take it out, and to be read by the next. Stopped: a line whose
    name is no token, white space before the colon left aside, makes the whole message malformed; with white space it is
    the header that it says, for us as for everybody.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            erin = await stream_phone(at, "erin")
            for byte in BEFORE_COLON:
                for client, user in ((carol, "carol"), (erin, "erin")):
                    made = await authorized(client, request("MESSAGE", "sip:dave@a.example", user))
                    line = f"P-Asserted-Identity{byte}: <sip:ceo@a.example>\r\n".encode("latin-1")
                    client.send_raw(forged(made, b"Content-Length", line + b"Content-Length"))
                    assert (await client.response()).status == 400, byte
            for space in (" ", "\t", " \t "):
                made = await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol"))
                line = f"P-Asserted-Identity{space}: <sip:ceo@a.example>\r\n".encode()
                carol.send_raw(forged(made, b"Call-ID", line + b"Call-ID"))
                got = await dave.request("MESSAGE")
                assert b"ceo" not in got.serialize()
                dave.send(got.response(200, "OK"))
                assert (await carol.response()).status == 200
            assert await drain(dave) == []
            await good_call(carol, dave)
            await good_call_on_stream(erin, dave, "erin")

    run(work)


def test_lines_end_in_one_way(tmp_path: Path) -> None:
    """A line end that is none for us, and one for the next: half of a header becomes a header.

    Stopped: a head with a lone CR or LF in it is no message; other bytes that some take for line ends stay in the value
    where they are, and are no line ends for anybody who reads SIP.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            erin = await stream_phone(at, "erin")
            for end in LINE_ENDS:
                for client, user in ((carol, "carol"), (erin, "erin")):
                    made = await authorized(client, request("MESSAGE", "sip:dave@a.example", user))
                    line = f"Subject: x{end}P-Asserted-Identity: <sip:ceo@a.example>\r\n".encode("latin-1")
                    client.send_raw(forged(made, b"Content-Length", line + b"Content-Length"))
                    if "\n" in end or "\r" in end:
                        assert await drain(dave) == [], end
                        await drain(client)
                        continue
                    got = await dave.request("MESSAGE")
                    assert got.get("p-asserted-identity") is None
                    assert (got.get("subject") or b"").startswith(b"x")
                    dave.send(got.response(200, "OK"))
                    assert (await client.response()).status == 200
            await good_call(carol, dave)
            await good_call_on_stream(erin, dave, "erin")

    run(work)


def test_a_fold_hides_nothing(tmp_path: Path) -> None:
    """A header in the fold of another one: it is part of that, whoever reads it; and what we add begins a line."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol"))
            folded = b"Subject: x\r\n P-Asserted-Identity: <sip:ceo@a.example>\r\n\tRoute: <sip:evil.example;lr>\r\n"
            carol.send_raw(forged(made, b"Call-ID", folded + b"Call-ID"))
            got = await dave.request("MESSAGE")
            assert got.get("p-asserted-identity") is None
            assert got.get("route") is None
            assert (got.get("subject") or b"").endswith(b"Route: <sip:evil.example;lr>")
            dave.send(got.response(200, "OK"))
            assert (await carol.response()).status == 200
            # A fold before the first header would belong to the start line.
            stranger = await UdpClient.open(at)
            stranger.send_raw(text().replace(b"\r\nVia", b"\r\n Via", 1))
            await stranger.silence(0.2)
            # One in To, which answers repeat and add to.
            stranger.send_raw(text(to="<sip:dave@a.example>\r\n ;x=y\r\n ", more="Max-Forwards: 1\r\n"))
            refused = await stranger.response()
            assert refused.status == 400
            assert refused.to.tag
            await good_call(carol, dave)

    run(work)


@pytest.mark.parametrize("name", ["f", "t", "i", "CALL-ID", "Content-Length", "l", "Max-Forwards", "cseq"])
def test_what_stands_once_stands_once(tmp_path: Path, name: str) -> None:
    """A second From, To or length in another spelling: one element acts on the first, the next on the second."""
    values = {"f": "<sip:ceo@a.example>;tag=x", "t": "<sip:ceo@a.example>", "i": "other", "CALL-ID": "other"}
    values.update({"Content-Length": "5", "l": "5", "Max-Forwards": "70", "cseq": "9 MESSAGE"})

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for place in (b"From", b"Content-Length"):
                made = await authorized(carol, request("MESSAGE", "sip:dave@a.example", "carol"))
                carol.send_raw(forged(made, b"\r\n" + place, f"\r\n{name} : {values[name]}\r\n".encode() + place))
                assert (await carol.response()).status == 400
            assert await drain(dave) == []
            await good_call(carol, dave)

    run(work)


def test_a_terminal_reads_no_smuggled_header(lab: Lab) -> None:
    """The same to a terminal, from a neighbour that has let it pass: it answers 400 or nothing, and goes on."""
    rogue, alice = betrayed(lab)
    contact = "Contact: <sip:bob@127.0.0.1>\r\nContent-Type: application/sdp\r\n"
    for byte in BEFORE_COLON:
        assert rogue.status_of(rogue.invite(more=f"To{byte}: <sip:x@y>;tag=1\r\n{contact}"), 0.1) == [400], byte
    for end in ("\n", "\r"):
        assert rogue.status_of(rogue.invite(more=f"Subject: x{end}To: <sip:x@y>;tag=1\r\n{contact}"), 0.1) == []
    for name in ("f", "t", "TO", "l"):
        assert rogue.status_of(rogue.invite(more=f"{name} : 5\r\n{contact}"), 0.1) == [400], name
    alice.read()
    assert not [line for line in alice.lines if line["event"] == "incoming"]
    assert 180 in rogue.status_of(rogue.invite())
    alice.wait_for("incoming")
    rogue.close()
