"""What people without rights try, and what one user must not be able to do to another."""

import asyncio
import ssl
from pathlib import Path
from typing import TypeVar

import pytest
from sip import (
    Domain,
    StreamClient,
    UdpClient,
    answer,
    call,
    domain,
    in_dialog,
    phones,
    request,
    run,
    signed,
)

from neighbour.transport import stream
from sipwire.message import MAX_HEAD_BYTES, Message, Request, Response
from sipwire.transaction import cancel_for

M = TypeVar("M", bound=Message)


def without_length(message: M) -> M:
    message.fields = [field for field in message.fields if field[0] != "content-length"]
    return message


async def stream_phone(at: Domain, user: str) -> StreamClient:
    await at.add(user)
    client = await StreamClient.open(at)
    made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=f"sip:{user}@192.0.2.1")
    response = await client.ask(signed(made, await client.ask(made), user, "secret"))
    assert response.status == 200
    return client


async def dialog(at: Domain) -> tuple[UdpClient, UdpClient, Request, Request, Response]:
    """Carol calls Dave: both, her INVITE as sent and as he got it, and his answer as she got it."""
    carol, dave = await phones(at, "carol", "dave")
    sent = await call(carol, "carol", "sip:dave@a.example")
    got = await dave.request("INVITE")
    dave.send(answer(got, 200, dave.contact))
    return carol, dave, sent, got, await carol.response()


def test_a_datagram_without_length_leaves_by_a_stream_with_one(tmp_path: Path) -> None:
    """Legal over UDP (RFC 3261 section 18.3); forwarded as it is it would end the connection of others."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            erin = await stream_phone(at, "erin")
            made = request("MESSAGE", "sip:erin@a.example", "carol", body=b"hello")
            challenged = await carol.ask(made)
            carol.send(without_length(signed(made, challenged, "carol", "secret")))
            got = await erin.request("MESSAGE")
            assert got.body == b"hello"
            assert got.get("content-length") == b"5"
            erin.send(got.response(200, "OK"))
            assert (await carol.response()).status == 200
            # And the other way: an answer.
            erin.send(made := request("MESSAGE", "sip:carol@a.example", "erin"))
            erin.send(signed(made, await erin.response(), "erin", "secret"))
            got = await carol.request("MESSAGE")
            response = got.response(200, "OK")
            response.body = b"words"
            carol.send(without_length(response))
            answered = await erin.response()
            assert (answered.status, answered.body) == (200, b"words")
            assert not erin.closed.is_set()

    run(work)


def test_a_head_too_large_is_answered_and_goes_nowhere(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            erin = await stream_phone(at, "erin")
            large = ("X-Large", "y" * MAX_HEAD_BYTES)
            made = request("MESSAGE", "sip:erin@a.example", "carol", headers=(large,))
            assert (await carol.ask(made)).status == 513
            # Just below the limit it goes through, with what we add.
            large = ("X-Large", "y" * (MAX_HEAD_BYTES - 1000))
            made = request("MESSAGE", "sip:erin@a.example", "carol", headers=(large,))
            carol.send(signed(made, await carol.ask(made), "carol", "secret"))
            erin.send((await erin.request("MESSAGE")).response(200, "OK"))
            assert (await carol.response()).status == 200

    run(work)


def test_a_cookie_is_good_for_its_dialog_only(tmp_path: Path) -> None:
    """Everybody whom an INVITE reached has it; none may be somebody else with it, or go anywhere else."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, _, sent, _, ok = await dialog(at)
            await at.add("alice", terminal=True)
            (erin,) = await phones(at, "erin")
            stranger = await UdpClient.open(at)

            def stolen(method: str = "MESSAGE") -> Request:
                return in_dialog(method, ok, carol.contact, 77, sent)

            made = stolen()
            made.set("From", made.get("from").replace(b"carol", b"ceo"))
            assert (await stranger.ask(made)).status == 407
            made = stolen()
            made.set("From", made.get("from").replace(b"carol", b"alice"))
            assert (await stranger.ask(made)).status == 494
            made = stolen()
            made.set("From", made.get("from").replace(b"a.example", b"x.example"))
            assert (await stranger.ask(made)).status == 403
            made = stolen()
            made.add("Route", b"<sip:b.example;lr>")
            assert (await stranger.ask(made)).status == 481
            made = stolen()
            made.uri = b"sip:erin@a.example"
            assert (await stranger.ask(made)).status == 481
            made = stolen("INVITE")
            made.uri = erin.contact.encode()
            stranger.send(made)  # to where Dave is, as the dialog has it, and not to her
            await erin.silence(0.3)

    run(work)


def test_a_contact_in_a_dialog_need_not_be_the_registered_one(tmp_path: Path) -> None:
    """Over UDP too the way is the one that the phone came by."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            dave.send(answer(await dave.request("INVITE"), 200, dave.contact.replace("sip:me@", "sip:dave-7@")))
            ok = await carol.response()
            carol.send(in_dialog("ACK", ok, carol.contact, 2, invite))
            assert (await dave.request("ACK")).uri.startswith(b"sip:dave-7@")
            carol.send(in_dialog("BYE", ok, carol.contact, 3, invite))
            bye = await dave.request("BYE")
            dave.send(bye.response(200, "OK"))
            assert (await carol.response()).status == 200

    run(work)


def test_our_address_is_us(tmp_path: Path) -> None:
    """With the port said or left out, as registrar, in Route and in the Request-URI."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for host in (at.address, f"{at.address}:5060"):
                made = request("REGISTER", f"sip:{host}", "carol", to="sip:carol@a.example", contact=carol.contact)
                assert (await carol.ask_signed(made, "carol")).status == 200
                for target, headers in (
                    (f"sip:dave@{host}", ()),
                    ("sip:dave@a.example", (("Route", f"<sip:{host};lr>"),)),
                ):
                    made = request("MESSAGE", target, "carol", headers=headers)
                    task = asyncio.create_task(carol.ask_signed(made, "carol"))
                    dave.send((await dave.request("MESSAGE")).response(200, "OK"))
                    assert (await task).status == 200

    run(work)


def test_sips_takes_no_plain_way(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            made = request("MESSAGE", "sips:dave@a.example", "carol")
            refused = await carol.ask(made)
            assert refused.status == 403
            assert b"TLS on every hop" in (refused.get("warning") or b"")
            await at.add("erin")
            context = ssl.create_default_context(cafile=str(at.folder / "ca" / "root.pem"))
            erin = await StreamClient.open(at, tls=context)
            made = request("MESSAGE", "sips:dave@a.example", "erin")
            refused = await erin.ask(signed(made, await erin.ask(made), "erin", "secret"))
            assert refused.status == 480
            assert (refused.get("warning") or b"").startswith(b"380 a.example ")
            await dave.silence(0.2)

    run(work)


def test_only_whom_we_asked_answers(tmp_path: Path) -> None:
    """Whoever knows a branch is not yet the one whom it was sent to."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            stranger, connected = await UdpClient.open(at), await StreamClient.open(at)
            for one in (stranger, connected):
                one.send(answer(got, 200, "sip:me@192.0.2.66"))
            await asyncio.sleep(0.2)
            assert at.value("wisp_stray_responses_total") == 2
            dave.send(answer(got, 486))
            assert (await carol.response()).status == 486

    run(work)


def test_only_the_caller_cancels(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            dave.send(answer(got, 180))
            while (await carol.response(provisional=True)).status != 180:
                pass
            stranger = await StreamClient.open(at)
            stranger.send(cancel_for(invite))
            assert (await stranger.response()).status == 481
            (await UdpClient.open(at)).send(invite)  # the same branch from elsewhere starts nothing either
            await dave.silence(0.3)
            assert at.value("wisp_stray_requests_total") == 1
            carol.send(cancel_for(invite))
            await dave.request("CANCEL")

    run(work)


def test_strangers_are_answered_once(tmp_path: Path) -> None:
    """Nothing is sent again and again to an address that anybody can forge."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            stranger = await UdpClient.open(at)
            for made, status in (
                (request("INVITE", "sip:dave@a.example", host="x.example"), 403),
                (request("INVITE", "sip:dave@a.example", "dave", max_forwards=0), 483),
                (request("INVITE", "sip:dave@a.example", headers=(("Proxy-Require", "x"),)), 420),
                (request("INVITE", "sip:dave@a.example"), 407),
                (request("INVITE", "sip:dave@a.example", headers=(("Route", "<sip:a.example"),)), 400),
                (request("CANCEL", "sip:dave@a.example"), 481),
            ):
                assert (await stranger.ask(made)).status == status
                await stranger.silence(0.7)
            assert at.value("wisp_transactions") == 0

    run(work)


def test_identities_are_ours_to_assert(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            names = ("P-Asserted-Identity", "P-Preferred-Identity", "Remote-Party-ID", "Security-Status")
            headers = tuple((name, "<sip:ceo@a.example>") for name in names)
            made = request("MESSAGE", "sip:dave@a.example", "carol", headers=headers)
            task = asyncio.create_task(carol.ask_signed(made, "carol"))
            got = await dave.request("MESSAGE")
            assert b"ceo" not in got.serialize()
            response = got.response(200, "OK")
            for name, value in headers:
                response.add(name, value.encode())
            dave.send(response)
            assert b"ceo" not in (await task).serialize()

    run(work)


def test_counters_have_no_names_of_strangers(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            for method in ("FROB", "KNIT"):
                task = asyncio.create_task(carol.ask_signed(request(method, "sip:dave@a.example", "carol"), "carol"))
                dave.send((await dave.request(method)).response(200, "OK"))
                assert (await task).status == 200
            assert at.value("wisp_requests_total", method="other", status="200") == 2

    run(work)


def test_strangers_do_not_keep_connections(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has not said who they are in time goes, keep-alives or not; a phone stays."""
    monkeypatch.setattr(stream, "_STRANGER_S", 1.0)

    async def work() -> None:
        async with domain(tmp_path) as at:
            erin = await stream_phone(at, "erin")
            stranger = await StreamClient.open(at)
            for _ in range(6):
                stranger.send_raw(b"\r\n\r\n")
                await asyncio.sleep(0.25)
            await asyncio.wait_for(stranger.closed.wait(), 2)
            assert not erin.closed.is_set()

    run(work)


def test_strangers_do_not_use_up_connections(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            at.neighbour.connections.most = 5
            erin = await stream_phone(at, "erin")
            first, *_ = strangers = [await StreamClient.open(at) for _ in range(4)]
            later = await stream_phone(at, "fred")
            await asyncio.wait_for(first.closed.wait(), 2)
            assert not any(one.closed.is_set() for one in (erin, later, *strangers[1:]))

    run(work)
