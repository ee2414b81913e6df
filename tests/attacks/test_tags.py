"""From and To, and their tags: twice, empty, endless."""

from pathlib import Path

from sip import UdpClient, domain, in_dialog, phones, request, run, signed

from attacks.attack import betrayed, drain, good_call, text
from lab.lab import Lab
from sipwire.message import MAX_HEAD_BYTES

#: Tags that are none.
EMPTY = [";tag=", ";tag", ';tag=""', "; tag = ", ";tag=\r\n ", ";TAG=", ";tag=;x=y"]


async def get_through(carol: UdpClient, data: bytes) -> list[bytes]:
    """Send a request of Carol's, with credentials, whatever is wrong with it; returns what is answered."""
    good = request("MESSAGE", "sip:dave@a.example", "carol")
    challenged = await carol.ask(good)
    value = signed(good, challenged, "carol", "secret").get("proxy-authorization") or b""
    await drain(carol)
    carol.send_raw(data.replace(b"Content-Length", b"Proxy-Authorization: " + value + b"\r\nContent-Length", 1))
    return await drain(carol, seconds=0.15)


def test_a_second_to(tmp_path: Path) -> None:
    """CVE-2018-14767 (Kamailio): two To headers, and one of them with an empty tag, end the server.

    Or, in front of another element, make it believe that a request is within a dialog. Stopped: what has to stand once
    stands once, in whatever spelling and place; else 400, which repeats the first of them only.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for second in (
                "To: <sip:x@y>;tag=1",
                "t: <sip:x@y>;tag=",
                "TO:<sip:dave@a.example>",
                "To:",
                "t:;tag=",
                "To: ;tag",
            ):
                for data in (
                    text(more=f"{second}\r\n"),
                    text(more=f"{second}\r\n").replace(b"Via", second.encode() + b"\r\nVia", 1),
                ):
                    answers = await get_through(carol, data)
                    assert all(b" 400 " in one for one in answers), (second, answers)
                    assert all(one.lower().count(b"\r\nto:") + one.lower().count(b"\r\nt:") == 1 for one in answers)
            for second in ("From: <sip:x@y>;tag=1", "f: <sip:ceo@a.example>;tag="):
                answers = await get_through(carol, text(more=f"{second}\r\n"))
                assert [one.split()[1] for one in answers] == [b"400"]
            # Two in one header.
            answers = await get_through(carol, text(to="<sip:dave@a.example>, <sip:x@y>;tag=1"))
            assert all(b" 400 " in one for one in answers)
            assert await drain(dave) == []
            await good_call(carol, dave)

    run(work)


def test_an_empty_tag(tmp_path: Path) -> None:
    """CVE-2018-14767 too: `To: <…>;tag=`. Some take it for a dialog, some for none, some read beyond it.

    Stopped: an empty tag is malformed, in To and in From, in requests and in answers.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for tag in EMPTY:
                for data in (text(to=f"<sip:dave@a.example>{tag}"), text(from_=f"<sip:carol@a.example>{tag}")):
                    answers = await get_through(carol, data)
                    assert all(b" 400 " in one for one in answers), (tag, answers)
            assert await drain(dave) == []
            # In an answer: it is dropped, and the good one that comes after it counts.
            made = request("MESSAGE", "sip:dave@a.example", "carol")
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            got = await dave.request("MESSAGE")
            good = got.response(200, "OK", b"good").serialize()
            for tag in EMPTY:
                dave.send_raw(good.replace(b";tag=good", tag.encode()))
            assert await drain(carol, seconds=0.2) == []
            dave.send_raw(good)
            assert (await carol.response()).to.tag == b"good"
            await good_call(carol, dave)

    run(work)


def test_an_endless_tag(tmp_path: Path) -> None:
    """A tag of ten thousand bytes: kept somewhere, copied into each answer, compared each time.

    Stopped: a message's head has a limit (513 beyond it); below it a long tag costs its sender as much as us, an answer
    is no larger than twice what it answers, and nothing of a stranger's is kept. Two tags are not one.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            long = "x" * 10_000
            before = at.value("wisp_transactions")
            stranger = await UdpClient.open(at)
            for data in (text(to=f"<sip:dave@a.example>;tag={long}"), text(from_=f"<sip:carol@a.example>;tag={long}")):
                stranger.send_raw(data)
                answered = await stranger.raw()
                assert answered.startswith(b"SIP/2.0 407 ")
                assert len(answered) < 1.1 * len(data)
            stranger.send_raw(text(from_=f"<sip:carol@a.example>;tag={'x' * MAX_HEAD_BYTES}"))
            assert (await stranger.raw()).startswith(b"SIP/2.0 513 ")
            assert at.value("wisp_transactions") == before
            # From who may: it goes through as it is, and its answer comes back.
            made = request("MESSAGE", "sip:dave@a.example", "carol", from_tag=long)
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            got = await dave.request("MESSAGE")
            assert got.from_.tag == long.encode()
            dave.send(got.response(200, "OK"))
            assert (await carol.response()).status == 200
            # A dialog's tag with something more behind it is not that dialog's.
            await good_call(carol, dave)

    run(work)


def test_a_tag_twice(tmp_path: Path) -> None:
    """`;tag=a;tag=b`: the first counts for one element, the last for another.

    Stopped where it matters: the cookie that proves a dialog is made over the tag as we read it, so that whoever adds
    one proves nothing, and is challenged as everybody.
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            from attacks.attack import dialog

            invite, _, ok = await dialog(carol, dave)
            stranger = await UdpClient.open(at)
            made = in_dialog("BYE", ok, carol.contact, 9, invite)
            made.set("From", (made.get("from") or b"").replace(b";tag=", b";tag=other;tag="))
            made.set("To", (made.get("to") or b"").replace(b";tag=", b";tag=other;tag="))
            assert (await stranger.ask(made)).status == 407
            assert await drain(dave) == []
            bye = in_dialog("BYE", ok, carol.contact, 10, invite)
            carol.send(bye)
            dave.send((await dave.request("BYE")).response(200, "OK"))
            assert (await carol.response()).status == 200
            await good_call(carol, dave)

    run(work)


def test_a_terminal_and_tags(lab: Lab) -> None:
    """All of it to a terminal, from a neighbour that lets it pass: 400 or nothing, and its next call rings."""
    rogue, alice = betrayed(lab)
    aor = "<sip:alice@a.example>"
    contact = "Contact: <sip:bob@127.0.0.1>\r\nContent-Type: application/sdp\r\n"
    for second in ("To: <sip:x@y>;tag=1", "t: <sip:x@y>;tag=", "f: <sip:x@y>;tag=", "To:"):
        assert rogue.status_of(rogue.invite(more=f"{second}\r\n{contact}"), 0.1) == [400], second
    for tag in EMPTY:
        assert rogue.status_of(rogue.invite(to=aor + tag), 0.1) in ([400], []), tag
        assert rogue.status_of(rogue.invite(from_="<sip:bob@b.example>" + tag), 0.1) in ([400], []), tag
    # A frame is as large as a datagram; a tag that fills it is refused, or rings like any other, and costs no memory.
    rogue.send(rogue.invite(from_=f"<sip:bob@b.example>;tag={'x' * 5000}"))
    rogue.answers(0.3)
    alice.read()
    if any(line["event"] == "incoming" for line in alice.lines):
        alice.send("hangup")
        alice.wait_for("ended")
        rogue.answers(0.5)
    since = len(alice.lines)
    assert 180 in rogue.status_of(rogue.invite(), 0.5)
    alice.wait_for("incoming", 5, since=since)
    rogue.close()
