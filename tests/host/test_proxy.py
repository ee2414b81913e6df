"""RFC 3261 section 16 and the gate before it, with phones on UDP."""

import asyncio
from pathlib import Path

import pytest
from sip import SDP, UdpClient, answer, call, domain, in_dialog, phones, request, run

from sipwire.headers import Address
from sipwire.message import Request, Response
from sipwire.transaction import cancel_for


def test_call(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example", max_forwards=20)
            trying = await carol.get()
            assert isinstance(trying, Response)
            got = await dave.request("INVITE")
            assert got.uri == dave.contact.encode()
            assert got.uint("max-forwards", 255) == 19
            assert got.get("proxy-authorization") is None
            assert got.body == SDP
            assert [Address.parse(one).parsed_uri().param("lr") for one in got.values("record-route")] == [b"", b""]
            assert len(got.values("via")) == 2
            dave.send(answer(got, 180))
            ringing = await carol.response(provisional=True)
            while ringing.status != 180:
                ringing = await carol.response(provisional=True)
            assert len(ringing.values("via")) == 1
            assert ringing.via.branch == invite.via.branch
            dave.send(answer(got, 200, dave.contact))
            ok = await carol.response()
            carol.send(in_dialog("ACK", ok, carol.contact, invite.cseq.number, invite))
            ack = await dave.request("ACK")
            assert (ack.uri, ack.get("route")) == (dave.contact.encode(), None)
            carol.send(in_dialog("BYE", ok, carol.contact, invite.cseq.number + 1, invite))
            bye = await dave.request("BYE")
            assert bye.get("record-route") is None
            dave.send(bye.response(200, "OK"))
            assert (await carol.response()).status == 200
            assert at.value("wisp_requests_total", method="INVITE", status="200") == 1

    run(work)


def test_callee_hangs_up(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            dave.send(answer(got, 200, dave.contact))
            ok = await carol.response()
            carol.send(in_dialog("ACK", ok, carol.contact, invite.cseq.number, invite))
            await dave.request("ACK")
            bye = Request("BYE", got.addresses("contact")[0].uri)
            for value in got.values("record-route"):
                bye.add("Route", value)
            bye.add("Max-Forwards", b"70")
            bye.add("From", (got.get("to") or b"") + b";tag=callee")
            bye.add("To", got.get("from") or b"")
            bye.add("Call-ID", got.call_id)
            bye.add("CSeq", b"1 BYE")
            bye.add("Content-Length", b"0")
            dave.send(bye)
            assert (await carol.request("BYE")).to.tag == b"ft"

    run(work)


def test_in_dialog_requests_need_the_cookie(tmp_path: Path) -> None:
    """A Route to us and a To tag are easily made up: without the cookie of a dialog of ours a stranger gets nowhere."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            _, dave = await phones(at, "carol", "dave")
            stranger = await UdpClient.open(at)
            for cookie in ("", ";wisp=0000000000000000", ";wisp"):
                made = request("BYE", dave.contact, "mallory", "evil.example", to="sip:dave@a.example", to_tag="x")
                made.insert("Route", f"<sip:{at.address}:5060;lr{cookie}>".encode())
                assert (await stranger.ask(made)).status == 403
            await dave.silence()
            ack = request("ACK", dave.contact, "mallory", "evil.example", to="sip:dave@a.example", to_tag="x")
            ack.insert("Route", f"<sip:{at.address}:5060;lr>".encode())
            stranger.send(ack)
            await dave.silence()

    run(work)


def test_cancel(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            dave.send(answer(got, 180))
            while (await carol.response(provisional=True)).status != 180:
                pass
            carol.send(cancel_for(invite))
            ok = await carol.response()
            assert (ok.status, ok.cseq.method) == (200, "CANCEL")
            cancel = await dave.request("CANCEL")
            assert cancel.via.branch == got.via.branch
            dave.send(cancel.response(200, "OK"))
            dave.send(answer(got, 487))
            assert (await dave.request("ACK")).cseq.number == got.cseq.number
            ended = await carol.response()
            assert (ended.status, ended.cseq.method) == (487, "INVITE")

    run(work)


def test_cancel_waits_for_a_provisional_response(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            carol.send(cancel_for(invite))
            assert (await carol.response()).cseq.method == "CANCEL"
            await asyncio.sleep(0.2)
            dave.send(answer(got, 180))
            assert (await dave.request("CANCEL")).via.branch == got.via.branch

    run(work)


def test_cancel_of_nothing(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await UdpClient.open(at)
            assert (await client.ask(request("CANCEL", "sip:dave@a.example"))).status == 481

    run(work)


def test_fork_first_answer_wins(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            second = await UdpClient.open(at)
            await second.register(at, "dave")
            await call(carol, "carol", "sip:dave@a.example")
            one, two = await dave.request("INVITE"), await second.request("INVITE")
            assert one.via.branch != two.via.branch
            dave.send(answer(one, 180, tag=b"one"))
            second.send(answer(two, 180, tag=b"two"))
            await asyncio.sleep(0.1)
            second.send(answer(two, 200, second.contact, b"two"))
            ok = await carol.response()
            assert (ok.status, ok.to.tag) == (200, b"two")
            assert (await dave.request("CANCEL")).via.branch == one.via.branch

    run(work)


@pytest.mark.parametrize(
    ("first", "second", "best"),
    [
        (486, 404, (404, 486)),
        (302, 486, (302,)),
        (503, 486, (486,)),
        (600, 302, (600,)),
        (408, 480, (480,)),
        (401, 404, (401,)),
        (503, 503, (500,)),
    ],
)
def test_fork_best_response(tmp_path: Path, first: int, second: int, best: tuple[int, ...]) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            other = await UdpClient.open(at)
            await other.register(at, "dave")
            await call(carol, "carol", "sip:dave@a.example")
            one, two = await dave.request("INVITE"), await other.request("INVITE")
            dave.send(answer(one, first))
            await asyncio.sleep(0.1)
            other.send(answer(two, second))
            assert (await carol.response()).status in best

    run(work)


def test_who_is_not_there(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            await at.add("dave")
            for uri, status in (
                ("sip:nobody@a.example", 404),
                ("sip:dave@a.example", 480),
                ("sip:a.example", 404),
            ):
                await call(carol, "carol", uri)
                assert (await carol.response()).status == status, uri
            for status, count in ((404, 2), (480, 1)):
                assert at.value("wisp_requests_total", method="INVITE", status=str(status)) == count
            # Nobody is asked who they are for what leads nowhere (section 16.3 comes before a challenge).
            for uri in ("tel:+123", "nobodyKnowsThisScheme:totallyopaquecontent"):
                assert (await carol.ask(request("OPTIONS", uri, "stranger"))).status == 416

    run(work)


def test_options_to_the_domain(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            ok = await carol.ask_signed(request("OPTIONS", "sip:a.example", "carol"), "carol")
            assert ok.status == 200
            assert b"INVITE" in (ok.get("allow") or b"")

    run(work)


def test_limits_of_forwarding(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            made = request("OPTIONS", "sip:dave@a.example", "carol", max_forwards=0)
            assert (await carol.ask(made)).status == 483
            made = request("OPTIONS", "sip:dave@a.example", "carol", headers=(("Proxy-Require", "fancy, sec-agree"),))
            answer = await carol.ask(made)
            assert (answer.status, answer.get("unsupported")) == (420, b"fancy")

    run(work)


def test_loop(tmp_path: Path) -> None:
    """A user whose contact is the domain itself: the request comes back to us, and is known again."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            again = Request("INVITE", b"sip:dave@a.example")
            again.fields = [field for field in got.fields if field[0] != "record-route"]
            again.body = got.body
            dave.send(again)
            while True:
                back = await dave.get()
                if isinstance(back, Response) and back.status >= 200:
                    break
            assert back.status == 482

    run(work)


def test_responses_go_where_via_says(tmp_path: Path) -> None:
    """RFC 3581: with rport to the source port; without, to the port of Via."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            one, two = await UdpClient.open(at), await UdpClient.open(at)
            made = request("OPTIONS", "sip:x@a.example", max_forwards=0)
            made.insert("Via", f"SIP/2.0/UDP {one.address[0]}:9;branch=z9hG4bKr1;rport".encode())
            one.send(made)
            response = await one.response()
            assert response.via.param("rport") == str(one.address[1]).encode()
            assert response.via.param("received") == one.address[0].encode()
            made = request("OPTIONS", "sip:x@a.example", max_forwards=0)
            made.insert("Via", f"SIP/2.0/UDP {two.address[0]}:{two.address[1]};branch=z9hG4bKr2".encode())
            two.send(made)
            assert (await two.response()).via.param("rport") is None
            # The address is always the source's, never what Via claims.
            made = request("OPTIONS", "sip:x@a.example", max_forwards=0)
            made.insert("Via", b"SIP/2.0/UDP 192.0.2.99:5060;branch=z9hG4bKr3;rport")
            one.send(made)
            assert (await one.response()).via.param("received") == one.address[0].encode()

    run(work)


def test_strangers_and_impostors(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            stranger = await UdpClient.open(at)
            made = request("INVITE", "sip:dave@a.example", "mallory", "evil.example", contact=stranger.contact)
            refused = await stranger.ask(made)
            assert (refused.status, b"mutual TLS" in (refused.get("warning") or b"")) == (403, True)
            # Carol's credentials do not make her Dave.
            made = request("INVITE", "sip:dave@a.example", "dave", contact=carol.contact)
            assert (await carol.ask_signed(made, "carol")).status == 407
            await dave.silence()

    run(work)


def test_headers_of_ours_do_not_pass(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            forged = (
                ("Security-Status", 'level=heavy;verified="sip:x@y"'),
                ("Security-Assist", "sign"),
                ("Subject", "Validated <sip:x@y>"),
                ("X-Kept", "yes"),
            )
            await call(carol, "carol", "sip:dave@a.example", headers=forged)
            got = await dave.request("INVITE")
            own = [b'level=heavy;by="a.example"']  # ours, and nothing of the kind from anybody else
            assert (got.get_all("security-status"), got.get("security-assist")) == (own, None)
            assert got.get("x-kept") == b"yes"
            assert got.get("subject") is None
            response = answer(got, 200, dave.contact)
            response.add("Security-Status", b"level=heavy")
            dave.send(response)
            assert (await carol.response()).get_all("security-status") == own

    run(work)


@pytest.mark.parametrize("method", ["MESSAGE", "SUBSCRIBE", "INFO", "PUBLISH", "FANCY"])
def test_other_methods_pass(tmp_path: Path, method: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = request(method, "sip:dave@a.example", "carol", contact=carol.contact, body=b"hello")
            task = asyncio.create_task(carol.ask_signed(made, "carol"))
            got = await dave.request(method)
            assert got.body == b"hello"
            dave.send(got.response(202, "Accepted", b"t"))
            assert (await task).status == 202

    run(work)


def test_malformed_messages_and_the_next_good_one(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            good = request("OPTIONS", "sip:x@a.example", max_forwards=0)
            for old, new, status in (
                (b"OPTIONS sip:x@a.example SIP/2.0", b"OPTIONS sip:x@a.example SIP/3.0", 505),
                (b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE", 400),
                (b"Max-Forwards: 0", b"Max-Forwards: -1", 400),
                (b"Content-Length: 0", b"Content-Length: 10", 400),
                (b"Content-Length: 0", b"Content-Length 0", 400),
                (b"sip:x@a.example SIP", b"sip:x@a@example SIP", 400),
            ):
                made = request("OPTIONS", "sip:x@a.example", max_forwards=0)
                made.insert("Via", f"SIP/2.0/UDP x;branch=z9hG4bKm{status}{len(new)};rport".encode())
                carol.send_raw(made.serialize().replace(old, new))
                assert (await carol.response()).status == status
            for junk in (
                b"\1" * 100,
                b"INVITE",
                b"\xff\xfe" * 50,
                b"SIP/2.0 200 OK\r\n\r\n",
                b"ACK sip:x SIP/2.0\r\n\r\n",
            ):
                carol.send_raw(junk)
            await carol.silence(0.2)
            assert at.value("wisp_malformed_total", transport="UDP") == 11
            assert (await carol.ask(good)).status == 483

    run(work)


def test_keepalives_of_phones_are_ignored(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await UdpClient.open(at)
            for data in (b"", b"\r\n\r\n", b"\0", b"\0\0\0\0"):
                client.send_raw(data)
            await client.silence(0.2)
            assert at.value("wisp_malformed_total", transport="UDP") == 0

    run(work)
