"""The redirect server (RFC 3261 section 8.3), for a domain and for one account, over sockets."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from edge import Edge, edged, roots
from sip import (
    SDP,
    TIMEOUT_S,
    Domain,
    Hopper,
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

from neighbour.config import load
from neighbour.store.accounts import REDIRECT, set_mode
from neighbour.store.database import Store
from sipwire.message import Request, Response
from sipwire.transaction import ack_for

UUID = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff"


@contextlib.asynccontextmanager
async def redirecting(folder: Path, **changes: str) -> AsyncIterator[Domain]:
    """A domain that redirects."""
    async with domain(folder, mode='# mode = "proxy"|mode = "redirect"', **changes) as at:
        yield at


async def mode_of(at: Domain, user: str, mode: str | None) -> None:
    """What `wisp account set` does while the neighbour runs."""
    store = Store(load(at.folder / "wisp.toml").store_url)
    await store.open()
    assert await set_mode(store, user, mode)
    await store.close()
    await at.neighbour._accounts.refresh()


async def register(client: UdpClient, user: str, contacts: str, **headers: str) -> None:
    made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example")
    made.add("Contact", contacts.encode())
    for name, value in headers.items():
        made.add(name, value.encode())
    ok = await client.ask_signed(made, user)
    assert ok.status == 200, repr(ok.start_line())


def moved(response: Response) -> list[tuple[bytes, bytes | None]]:
    """The contacts of a 302 with their q; each says how long it holds."""
    assert (response.status, response.reason) == (302, b"Moved Temporarily")
    for one in response.addresses("contact"):
        assert 0 < int(one.param("expires") or b"0") <= 3600
    return [(one.uri, one.param("q")) for one in response.addresses("contact")]


async def called(caller: UdpClient, user: str, target: str) -> Response:
    await call(caller, user, target)
    return await caller.response()


def test_contacts_by_q(tmp_path: Path) -> None:
    async def work() -> None:
        async with redirecting(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            contacts = "<sip:d@192.0.2.1>;q=0.25, <sip:d@192.0.2.2>, <mailto:d@b.example>;q=0, <sip:d@192.0.2.3>;q=0.5"
            await register(dave, "dave", contacts)
            found = moved(await called(carol, "carol", "sip:dave@a.example"))
            assert found == [
                (b"sip:d@192.0.2.2", b"1"),
                (dave.contact.encode(), b"1"),
                (b"sip:d@192.0.2.3", b"0.5"),
                (b"sip:d@192.0.2.1", b"0.25"),
                (b"mailto:d@b.example", b"0"),
            ]
            await dave.silence(0.2)
            assert at.value("wisp_transactions") <= 4
            # Other methods fare alike.
            made = request("MESSAGE", "sip:dave@a.example", "carol", body=b"hello")
            assert moved(await carol.ask_signed(made, "carol")) == found

    run(work)


def test_only_the_admitted_learn_where_somebody_is(tmp_path: Path) -> None:
    async def work() -> None:
        async with redirecting(tmp_path) as at:
            (dave,) = await phones(at, "dave")
            stranger = await UdpClient.open(at)
            for host, status in (("a.example", 407), ("b.example", 403)):
                refused = await stranger.ask(request("INVITE", "sip:dave@a.example", "mallory", host))
                assert (refused.status, refused.get("contact")) == (status, None)
            await dave.silence(0.1)

    run(work)


def test_nowhere_to_send(tmp_path: Path) -> None:
    """As a proxy would say it."""

    async def work() -> None:
        async with redirecting(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            await at.add("dave")
            for uri, status in (("sip:dave@a.example", 480), ("sip:nobody@a.example", 404)):
                assert (await called(carol, "carol", uri)).status == status, uri

    run(work)


def test_not_to_where_it_was_sent(tmp_path: Path) -> None:
    """ "MUST NOT redirect a request to a URI equal to the one in the Request-URI"."""

    async def work() -> None:
        async with redirecting(tmp_path) as at:
            (carol,) = await phones(at, "carol")
            await at.add("dave")
            client = await UdpClient.open(at)
            await register(client, "dave", "<sip:%64ave@A.example>")
            assert (await called(carol, "carol", "sip:dave@a.example")).status == 404
            await register(client, "dave", "<sip:dave@192.0.2.1>;q=0.1")
            assert moved(await called(carol, "carol", "sip:dave@a.example")) == [(b"sip:dave@192.0.2.1", b"0.1")]

    run(work)


def test_one_account_of_a_proxied_domain(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave, erin = await phones(at, "carol", "dave", "erin")
            await mode_of(at, "dave", REDIRECT)
            assert at.value("wisp_bindings") == 3, "its registration stays"
            assert moved(await called(carol, "carol", "sip:dave@a.example")) == [(dave.contact.encode(), b"1")]
            await dave.silence(0.1)
            await call(carol, "carol", "sip:erin@a.example")
            erin.send(answer(await erin.request("INVITE"), 486))
            assert (await carol.response()).status == 486
            await mode_of(at, "dave", None)
            await call(carol, "carol", "sip:dave@a.example")
            dave.send(answer(await dave.request("INVITE"), 486))
            assert (await carol.response()).status == 486

    run(work)


def test_one_account_of_a_redirecting_domain(tmp_path: Path) -> None:
    async def work() -> None:
        async with redirecting(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await mode_of(at, "dave", "proxy")
            await call(carol, "carol", "sip:dave@a.example")
            dave.send(answer(await dave.request("INVITE"), 486))
            assert (await carol.response()).status == 486

    run(work)


def test_terminals_are_proxied(tmp_path: Path) -> None:
    """Both ways: nobody but we can speak to one, and it speaks to nobody but us."""

    async def work() -> None:
        async with redirecting(tmp_path) as at:
            await at.add("alice", terminal=True)
            (carol,) = await phones(at, "carol")
            terminal = await Hopper.open(at)
            await terminal.join(at)
            made = request("MESSAGE", "sip:alice@a.example", "carol")
            task = asyncio.create_task(carol.ask_signed(made, "carol"))
            got = await terminal.framed()
            assert isinstance(got, Request)
            terminal.send_frame(got.response(200, "OK", b"t"))
            assert (await task).status == 200
            terminal.send_frame(request("MESSAGE", "sip:carol@a.example"))
            carol.send((await carol.request("MESSAGE")).response(200, "OK", b"t"))
            assert (await terminal.framed_final()).status == 200

    run(work)


def test_phones_behind_flows_are_proxied(tmp_path: Path) -> None:
    """Who registers a flow says that it is reached by that alone; with it, all of the user's phones ring."""

    async def work() -> None:
        async with redirecting(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            mobile = await UdpClient.open(at)
            contact = f'<{mobile.contact}>;reg-id=1;+sip.instance="<{UUID}>"'
            await register(mobile, "dave", contact, Supported="path, outbound")
            await call(carol, "carol", "sip:dave@a.example")
            for phone in (dave, mobile):
                phone.send(answer(await phone.request("INVITE"), 486))
            assert (await carol.response()).status == 486
            await register(mobile, "dave", f"{contact};expires=0", Supported="path, outbound")
            assert moved(await called(carol, "carol", "sip:dave@a.example")) == [(dave.contact.encode(), b"1")]

    run(work)


def test_a_dialog_goes_on(tmp_path: Path) -> None:
    """What was begun through us ends through us, whatever the mode has become meanwhile."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            invite = await call(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            dave.send(answer(got, 200, "sip:dave@a.example"))  # a Contact that leads to the user, not to the phone
            ok = await carol.response()
            await mode_of(at, "dave", REDIRECT)
            carol.send(in_dialog("BYE", ok, carol.contact, invite.cseq.number + 1, invite))
            bye = await dave.request("BYE")
            dave.send(bye.response(200, "OK"))
            assert (await carol.response()).status == 200

    run(work)


def test_no_protected_request_is_sent_on_unprotected(tmp_path: Path) -> None:
    """RFC 5630 section 5.4: who asks for a SIPS URI is sent to SIPS contacts, or told that there are none."""

    async def work() -> None:
        async with redirecting(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            context = ssl.create_default_context(cafile=str(roots(at)))
            context.check_hostname = False
            carol, dave = await StreamClient.open(at, tls=context), await StreamClient.open(at, tls=context)
            await register(await UdpClient.open(at), "dave", "<sip:d@192.0.2.1>, <tel:+1>")

            async def ask(client: StreamClient, made: Request, user: str) -> Response:
                return await client.ask(signed(made, await client.ask(made), user, "secret"))

            refused = await ask(carol, request("MESSAGE", "sips:dave@a.example", "carol"), "carol")
            assert (refused.status, refused.get("warning")) == (480, b'380 a.example "SIPS Not Allowed"')
            made = request("REGISTER", "sips:a.example", "dave", to="sip:dave@a.example", contact="sips:d@192.0.2.2")
            assert (await ask(dave, made, "dave")).status == 200
            found = await ask(carol, request("MESSAGE", "sips:dave@a.example", "carol"), "carol")
            assert moved(found) == [(b"sips:d@192.0.2.2", b"1")]

    run(work)


def test_peers_are_redirected_too(tmp_path: Path) -> None:
    """Over mutual TLS, a request of another domain's user."""

    async def work() -> None:
        async with edged(tmp_path) as (at, _):
            await at.stop()
            at.lab.change("a.example", '# mode = "proxy"', 'mode = "redirect"')
            await at.start()
            (dave,) = await phones(at, "dave")
            edge = await Edge.connect(at)
            response = await edge.ask(request("INVITE", "sip:dave@a.example", "bob", "b.example", contact="sip:b@x"))
            assert moved(response) == [(dave.contact.encode(), b"1")]

    run(work)


def test_phones_behind_an_edge_proxy_are_proxied(tmp_path: Path) -> None:
    async def work() -> None:
        async with edged(tmp_path) as (at, came):
            await at.add("carol")
            (dave,) = await phones(at, "dave")
            await mode_of(at, "carol", REDIRECT)
            edge = await Edge.connect(at)
            made = request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example", contact="sip:c@192.0.2.1")
            made.add("Supported", b"path")
            assert (await edge.register(made, "<sip:b.example;lr>")).status == 200
            task = asyncio.create_task(dave.ask_signed(request("MESSAGE", "sip:carol@a.example", "dave"), "dave"))
            to = await asyncio.wait_for(came.get(), TIMEOUT_S)
            to.send((await to.request("MESSAGE")).response(200, "OK", b"t"))
            assert (await task).status == 200
            to.close()

    run(work)


def test_a_redirection_is_repeated_until_it_is_acknowledged(tmp_path: Path) -> None:
    async def work() -> None:
        async with redirecting(tmp_path) as at:
            carol, _ = await phones(at, "carol", "dave")
            made = request("INVITE", "sip:dave@a.example", "carol", contact=carol.contact, body=SDP)
            challenged = await carol.ask(made)
            again = signed(made, challenged, "carol", "secret")
            first = await carol.ask(again)
            assert moved(first) == moved(await carol.response(2))
            carol.send(ack_for(again, first))
            await carol.silence(1.5)
            assert at.value("wisp_requests_total", method="INVITE", status="302") == 1

    run(work)
