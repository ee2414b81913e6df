"""Instances and flows (RFC 5626), Path (RFC 3327) and Service-Route (RFC 3608), with phones and an edge proxy on sockets."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from edge import Edge, edged, roots
from sip import (
    TIMEOUT_S,
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

from sipwire.message import Request, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

UUID = "urn:uuid:00000000-0000-1000-8000-aabbccddeeff"
OTHER = "urn:uuid:11111111-0000-1000-8000-aabbccddeeff"


def register(
    contact: str,
    *,
    instance: str = "",
    reg_id: int | None = None,
    expires: int | None = None,
    supported: str = "path, outbound",
    uri: str = "sip:a.example",
    cseq: int = 1,
    call_id: str = "",
    headers: "tuple[tuple[str, str], ...]" = (),
) -> Request:
    made = request("REGISTER", uri, "carol", to="sip:carol@a.example", cseq=cseq, call_id=call_id, headers=headers)
    value = f"<{contact}>"
    if instance:
        value += f';+sip.instance="<{instance}>"'
    if reg_id is not None:
        value += f";reg-id={reg_id}"
    if expires is not None:
        value += f";expires={expires}"
    made.add("Contact", value.encode())
    if supported:
        made.add("Supported", supported.encode())
    return made


async def ask(client: UdpClient | StreamClient, made: Request) -> Response:
    """Send a REGISTER, with credentials as soon as they are wanted."""
    answer = await client.ask(made)
    return await client.ask(signed(made, answer, "carol", "secret")) if answer.status == 401 else answer


async def bound(client: UdpClient | StreamClient) -> list[bytes]:
    made = request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example")
    return [one.uri for one in (await ask(client, made)).addresses("contact")]


async def message(sender: UdpClient) -> "asyncio.Task[Response]":
    """A MESSAGE of dave's to carol under way."""
    made = request("MESSAGE", "sip:carol@a.example", "dave")
    return asyncio.create_task(sender.ask_signed(made, "dave"))


# Instances.


def test_a_phone_that_has_started_anew_leaves_nothing_behind(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            for port, instance in ((5060, UUID), (5062, OTHER), (5064, ""), (5066, UUID.upper())):
                assert (await ask(client, register(f"sip:c@192.0.2.1:{port}", instance=instance))).status == 200
            assert set(await bound(client)) == {f"sip:c@192.0.2.1:{port}".encode() for port in (5062, 5064, 5066)}
            # What it names in one breath it has; what it does not name is of before.
            made = register("sip:c@192.0.2.1:5068", instance=UUID)
            made.add("Contact", f'<sip:c@192.0.2.1:5070;transport=tcp>;+sip.instance="<{UUID}>"'.encode())
            assert (await ask(client, made)).status == 200
            ports = {one.partition(b":")[2].partition(b":")[2][:4] for one in await bound(client)}
            assert ports == {b"5062", b"5064", b"5068", b"5070"}
            # To take back one contact is not to take back the others of the phone.
            await ask(client, register("sip:c@192.0.2.1:5068", instance=UUID, expires=0))
            await ask(client, register("sip:c@192.0.2.1:9999", instance=UUID, expires=0))
            assert len(await bound(client)) == 3

    run(work)


def test_a_late_request_does_not_bring_the_old_port_back(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            new = register("sip:c@192.0.2.1:5062", instance=UUID, cseq=10, call_id="boot")
            assert (await ask(client, new)).status == 200
            old = register("sip:c@192.0.2.1:5060", instance=UUID, cseq=5, call_id="boot")
            assert (await ask(client, old)).status == 500
            assert await bound(client) == [b"sip:c@192.0.2.1:5062"]

    run(work)


def test_a_flow_takes_the_place_of_the_one_before(tmp_path: Path) -> None:
    """RFC 5626 section 6: a binding is that of instance and reg-id, "the Contact URI is not used for comparisons"."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            for contact, reg_id in (("sip:c@192.0.2.1:1", 1), ("sip:c@192.0.2.1:1", 2), ("sip:c@192.0.2.1:3", 1)):
                ok = await ask(client, register(contact, instance=UUID, reg_id=reg_id))
                assert (ok.status, ok.get("require"), ok.get("flow-timer")) == (200, b"outbound", None)
                assert ok.get("supported") == b"path, outbound"
            assert at.value("wisp_bindings") == 2
            shown = {one.param("reg-id"): (one.uri, one.param("+sip.instance")) for one in ok.addresses("contact")}
            urn = f"<{UUID}>".encode()
            assert shown == {b"1": (b"sip:c@192.0.2.1:3", urn), b"2": (b"sip:c@192.0.2.1:1", urn)}
            # The flows of others, and contacts without one, are left alone.
            await ask(client, register("sip:c@192.0.2.1:9", instance=OTHER, reg_id=1))
            await ask(client, register("sip:c@192.0.2.1:10"))
            assert at.value("wisp_bindings") == 4
            # A contact that was registered without reg-id is the same contact with one.
            await ask(client, register("sip:c@192.0.2.1:10", instance=UUID, reg_id=2))
            assert at.value("wisp_bindings") == 3
            # "Registrations ... for removing a binding use the same instance-id and reg-id".
            await ask(client, register("sip:whatever@192.0.2.1", instance=UUID, reg_id=1, expires=0))
            assert set(await bound(client)) == {b"sip:c@192.0.2.1:9", b"sip:c@192.0.2.1:10"}

    run(work)


def test_flows_outlive_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            made = register("sip:c@192.0.2.1", instance=UUID.upper(), reg_id=1)
            made.set("Contact", (made.get("contact") or b"") + b';audio;methods="INVITE, BYE"')
            await ask(client, made)
            await ask(client, register("sip:c@192.0.2.1", instance=UUID, reg_id=2))
            await at.stop()
            await at.start()
            made = request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example")
            second, first = (await ask(client, made)).addresses("contact")  # the last one registered first
            assert (first.param("reg-id"), second.param("reg-id")) == (b"1", b"2")
            assert first.param("+sip.instance") == f"<{UUID.upper()}>".encode()
            assert (first.param("audio"), first.param("methods")) == (b"", b"INVITE, BYE")
            # It is still known whose place the next takes.
            await ask(client, register("sip:c@192.0.2.9", instance=UUID, reg_id=1))
            assert sorted(await bound(client)) == [b"sip:c@192.0.2.1", b"sip:c@192.0.2.9"]

    run(work)


@pytest.mark.parametrize(
    ("supported", "reg_id", "require"),
    [
        ("path, outbound", 1, b"outbound"),
        ("path", 1, None),  # "provided that the UAC had included an outbound option-tag"
        ("path, outbound", None, None),
    ],
)
def test_outbound_is_required_where_it_was_done(
    tmp_path: Path, supported: str, reg_id: int | None, require: bytes | None
) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            ok = await ask(client, register("sip:c@h", instance=UUID, reg_id=reg_id, supported=supported))
            assert (ok.status, ok.get("require")) == (200, require)
            ok = await ask(client, register("sip:c@h", instance=UUID, reg_id=reg_id, supported=supported, expires=0))
            assert (ok.status, ok.get("require"), ok.addresses("contact")) == (200, None, [])

    run(work)


def test_a_first_hop_without_outbound(tmp_path: Path) -> None:
    """RFC 5626 section 6: a proxy between us, which says nothing of flows. 439 tells a phone that could do without."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            for supported, reg_id, status in (("outbound", 1, 439), ("", 1, 200), ("outbound", None, 200)):
                made = register("sip:c@192.0.2.1", instance=UUID, reg_id=reg_id, supported=supported)
                challenged = await client.ask(made)
                again = signed(made, challenged, "carol", "secret")
                host, port = client.address
                again.insert("Via", b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKphone")
                again.insert("Via", f"SIP/2.0/UDP {host}:{port};branch=z9hG4bKhop{supported}{reg_id};rport".encode())
                answer = await client.ask(again)
                assert (answer.status, answer.get("require")) == (status, None)
                if status == 439:
                    assert answer.reason == b"First Hop Lacks Outbound Support"
            assert at.value("wisp_bindings") == 1
            # The reg-id did not count: the contact is the binding.
            assert await bound(client) == [b"sip:c@192.0.2.1"]
            assert b"reg-id" not in (await ask(client, register("sip:d@192.0.2.2"))).serialize()

    run(work)


# Connections that end.


async def connected(at: Domain, contact: str, reg_id: int | None, instance: str = UUID) -> StreamClient:
    client = await StreamClient.open(at)
    ok = await ask(client, register(contact, instance=instance, reg_id=reg_id))
    assert ok.status == 200, repr(ok.start_line())
    return client


def test_calls_take_the_flow_that_is_left(tmp_path: Path) -> None:
    """One flow of a phone at a time, the last one registered first; a connection that has ended is no way any more."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            (dave,) = await phones(at, "dave")
            first = await connected(at, "sip:c@192.0.2.1;transport=tcp", 1)
            second = await connected(at, "sip:c@192.0.2.1;transport=tcp", 2)
            for rings, silent in ((second, first), (first, second)):
                answered = await message(dave)
                got = await rings.request("MESSAGE")
                if not silent.closed.is_set():
                    await silent.silence(0.2)
                rings.send(got.response(200, "OK", b"t"))
                assert (await answered).status == 200
                rings.close()
                await asyncio.sleep(0.2)
                rings.closed.set()
            refused = await (await message(dave))
            assert (refused.status, b"connection is gone" in (refused.get("warning") or b"")) == (480, True)
            assert at.value("wisp_bindings") == 3  # they were answered 200 until they end; nobody is sent there

    run(work)


def test_flow_timer(tmp_path: Path) -> None:
    """A phone on a connection is told how often we want to hear it, some time before we would close that."""

    async def work() -> None:
        async with domain(tmp_path, idle="# idle_s = 900|idle_s = 300") as at:
            await at.add("carol")
            client = await StreamClient.open(at)
            ok = await ask(client, register("sip:c@192.0.2.1", instance=UUID, reg_id=1))
            assert (ok.get("flow-timer"), ok.get("require")) == (b"120", b"outbound")
            ok = await ask(client, register("sip:c@192.0.2.1", instance=UUID))
            assert ok.get("flow-timer") is None

    run(work)


def test_lost_bindings_make_room(tmp_path: Path) -> None:
    """A phone that comes back at a new port each time, and says nothing of an instance, does not lock itself out."""

    async def work() -> None:
        async with domain(tmp_path, limit="# max_contacts = 8|max_contacts = 2") as at:
            await at.add("carol")
            for port in range(5):
                client = await connected(at, f"sip:c@192.0.2.1:500{port};transport=tcp", None, "")
                client.close()
                await asyncio.sleep(0.1)
            assert at.value("wisp_bindings") == 2
            living = [await connected(at, f"sip:c@192.0.2.1:600{port};transport=tcp", None, "") for port in range(2)]
            assert sorted(await bound(living[0])) == [
                b"sip:c@192.0.2.1:6000;transport=tcp",
                b"sip:c@192.0.2.1:6001;transport=tcp",
            ]
            refused = await ask(living[0], register("sip:c@192.0.2.1:6002;transport=tcp"))
            assert (refused.status, refused.reason) == (403, b"Too Many Contacts")

    run(work)


def test_connections_are_lost_with_a_restart(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path, limit="# max_contacts = 8|max_contacts = 1") as at:
            await at.add("carol")
            await connected(at, "sip:c@192.0.2.1:5000;transport=tcp", None, "")
            await at.stop()
            await at.start()
            assert at.value("wisp_bindings") == 1
            again = await connected(at, "sip:c@192.0.2.1:5001;transport=tcp", None, "")
            assert await bound(again) == [b"sip:c@192.0.2.1:5001;transport=tcp"]

    run(work)


@asynccontextmanager
async def listening(address: str) -> "AsyncIterator[tuple[int, asyncio.Queue[StreamClient]]]":
    """A phone that takes TCP connections: the port, and the connections."""
    taken: asyncio.Queue[StreamClient] = asyncio.Queue()

    def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        taken.put_nowait(StreamClient(reader, writer, "TCP"))

    server = await asyncio.start_server(take, address, 0)
    try:
        yield server.sockets[0].getsockname()[1], taken
    finally:
        while not taken.empty():
            taken.get_nowait().close()
        server.close()


def test_a_phone_that_listens_is_called_on_a_new_connection(tmp_path: Path) -> None:
    """Its contact says where; its own connection is gone, by its own doing or by our restart."""

    async def work() -> None:
        async with domain(tmp_path) as at, listening("127.0.0.1") as (port, taken):
            await at.add("carol")
            (dave,) = await phones(at, "dave")
            phone = await connected(at, f"sip:c@127.0.0.1:{port};transport=tcp", None, "")
            phone.close()
            await asyncio.sleep(0.1)
            for restart in (False, True):
                if restart:
                    await at.stop()
                    await at.start()
                answered = await message(dave)
                async with asyncio.timeout(TIMEOUT_S):
                    connection = await taken.get()
                got = await connection.request("MESSAGE")
                assert got.uri == b"sip:c@127.0.0.1:%d;transport=tcp" % port
                connection.send(got.response(200, "OK", b"t"))
                assert (await answered).status == 200
                connection.close()

    run(work)


@pytest.mark.parametrize(
    ("listens", "contact", "reg_id", "closes"),
    [
        ("127.0.0.9", "sip:c@127.0.0.9:{port};transport=tcp", None, True),  # somebody else's address
        ("127.0.0.1", "sip:c@localhost:{port};transport=tcp", None, True),
        ("127.0.0.1", "sip:c@127.0.0.1:{port}", None, True),
        ("127.0.0.1", "sip:c@127.0.0.1:{port};transport=tcp", 1, True),  # RFC 5626: only the phone opens its flow again
        ("127.0.0.1", "sip:c@127.0.0.1:{port};transport=tcp", None, False),
    ],
)
def test_no_connection_where_the_phone_has_not_shown_to_be(
    tmp_path: Path, listens: str, contact: str, reg_id: int | None, *, closes: bool
) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at, listening(listens) as (port, taken):
            await at.add("carol")
            (dave,) = await phones(at, "dave")
            phone = await connected(at, contact.format(port=port), reg_id, UUID if reg_id else "")
            if closes:
                phone.close()
                await asyncio.sleep(0.1)
            answered = await message(dave)
            if not closes:
                phone.send((await phone.request("MESSAGE")).response(200, "OK", b"t"))
            assert (await answered).status == (480 if closes else 200)
            assert taken.empty()

    run(work)


@pytest.mark.parametrize("transport", ["", ";transport=tcp"])
def test_within_a_dialog_the_contact_says_by_what(tmp_path: Path, transport: str) -> None:
    """Whatever the phone has registered by: the Contact of a dialog is where its requests go (RFC 3261 12.2.1.1)."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            async with listening(dave.address[0]) as (port, taken):
                made = await call(carol, "carol", "sip:dave@a.example")
                where = f"sip:dave@{dave.address[0]}:{port if transport else dave.address[1]}{transport}"
                dave.send(answer(await dave.request("INVITE"), 200, where))
                carol.send(in_dialog("BYE", await carol.response(), carol.contact, 3, made))
                if transport:
                    async with asyncio.timeout(TIMEOUT_S):
                        connection = await taken.get()
                    bye = await connection.request("BYE")
                    connection.close()
                else:
                    bye = await dave.request("BYE")
                    assert taken.empty()
                assert bye.uri == where.encode()

    run(work)


# Path.


def test_path_is_kept_and_followed(tmp_path: Path) -> None:
    async def work() -> None:
        async with edged(tmp_path) as (at, came):
            await at.add("carol")
            (dave,) = await phones(at, "dave")
            edge = await Edge.connect(at)
            path = ("<sip:token@b.example;lr>, <sip:two@192.0.2.7;lr;ob>", '"P" <sip:three@192.0.2.8;lr;ob>')
            ok = await edge.register(register("sip:c@192.0.2.1", instance=UUID, reg_id=1), *path)
            assert (ok.status, ok.get("require"), ok.get("flow-timer")) == (200, b"outbound", None)
            values = [b"<sip:token@b.example;lr>", b"<sip:two@192.0.2.7;lr;ob>", b'"P" <sip:three@192.0.2.8;lr;ob>']
            assert ok.values("path") == values
            # It is the way back, whatever has become of the connection that it came by, or of us.
            edge.close()
            await at.stop()
            await at.start()
            answered = await message(dave)
            to = await asyncio.wait_for(came.get(), TIMEOUT_S)
            got = await to.request("MESSAGE")
            assert (got.uri, got.values("route")) == (b"sip:c@192.0.2.1", values)
            to.send(got.response(200, "OK", b"t"))
            assert (await answered).status == 200
            to.close()

    run(work)


def test_another_flow_where_the_edge_proxy_has_lost_one(tmp_path: Path) -> None:
    """430 Flow Failed: "the proxy SHOULD replace the failed branch with another target ... with the same instance-id"."""

    async def work() -> None:
        async with edged(tmp_path) as (at, came):
            await at.add("carol")
            (dave,) = await phones(at, "dave")
            edge = await Edge.connect(at)
            direct = await UdpClient.open(at)
            await ask(direct, register(direct.contact, instance=UUID, reg_id=1))
            made = register("sip:c@192.0.2.1", instance=UUID, reg_id=2)
            assert (await edge.register(made, "<sip:token@b.example;lr;ob>")).status == 200
            answered = await message(dave)
            to = await asyncio.wait_for(came.get(), TIMEOUT_S)
            got = await to.request("MESSAGE")
            await direct.silence(0.2)
            to.send(got.response(430, "Flow Failed", b"t"))
            got = await direct.request("MESSAGE")
            assert (got.uri, got.get("route")) == (direct.contact.encode(), None)
            direct.send(got.response(200, "OK", b"u"))
            assert (await answered).status == 200
            to.close()

    run(work)


@pytest.mark.parametrize(
    ("trusted", "path", "supported", "status"),
    [
        ('["b.example"]', "<sip:b.example;lr>", "path", 200),
        ('["c.example", "b.example"]', "<sips:x@B.Example:5061;lr>", "path", 200),
        ('["b.example"]', "<sip:b.example;lr>", "", 420),
        ('["b.example"]', "<sip:b.example;lr>", "path, outbound", 439),  # no "ob": its first hop knows nothing of flows
        ("[]", "<sip:b.example;lr;ob>", "path, outbound", 403),
        ('["c.example"]', "<sip:b.example;lr;ob>", "path, outbound", 403),
        ('["b.example"]', "<sip:victim.example;lr;ob>, <sip:b.example;lr>", "path, outbound", 403),
        ('["b.example"]', "<sip:a.example;lr;ob>", "path, outbound", 403),  # ours: but we write none
        ('["b.example"]', "<sip:b.example>", "path", 400),
        ('["b.example"]', "<tel:+1;lr>", "path", 400),
        ('["b.example"]', ",".join(["<sip:b.example;lr;ob>"] * 9), "path", 400),
    ],
)
def test_whose_path_is_taken(tmp_path: Path, trusted: str, path: str, supported: str, status: int) -> None:
    async def work() -> None:
        async with edged(tmp_path, trusted) as (at, _):
            await at.add("carol")
            edge = await Edge.connect(at)
            reg_id = 1 if "outbound" in supported else None
            made = register("sip:c@192.0.2.1", instance=UUID, reg_id=reg_id, supported=supported)
            answer = await edge.register(made, path)
            assert answer.status == status
            if status == 420:
                assert answer.get("unsupported") == b"path"
            if status == 403:
                assert b"edge proxies" in (answer.get("warning") or b"")
            assert at.value("wisp_bindings") == (status == 200)

    run(work)


def test_no_phone_says_where_to_send(tmp_path: Path) -> None:
    """A Path from a phone could point anywhere, whoever it names."""

    async def work() -> None:
        async with edged(tmp_path) as (at, came):
            await at.add("carol")
            for client in (await UdpClient.open(at), await StreamClient.open(at)):
                for path in ("<sip:b.example;lr;ob>", "<sip:a.example;lr;ob>", "<sip:192.0.2.66;lr;ob>"):
                    made = register("sip:c@192.0.2.1", instance=UUID, reg_id=1, headers=(("Path", path),))
                    assert (await ask(client, made)).status == 403, path
            assert at.value("wisp_bindings") == 0
            assert came.empty()

    run(work)


def test_an_address_is_no_proof(tmp_path: Path) -> None:
    """A peer without TLS is taken for its domain by where it sends from: enough for calls, not for a Path."""

    async def work() -> None:
        async with domain(tmp_path, edge='# edge_proxies = []|edge_proxies = ["b.example"]') as at:
            await at.add("carol")
            client = await UdpClient.open(at)
            await at.stop()
            path = at.folder / "wisp.toml"
            peer = f'[[peer]]\ndomain = "b.example"\naddress = "{client.address[0]}:5060"\ntransport = "udp"\n'
            path.write_text(path.read_text() + "\n" + peer)
            await at.start()
            refused = await ask(client, register("sip:c@192.0.2.1", headers=(("Path", "<sip:b.example;lr>"),)))
            assert (refused.status, at.value("wisp_bindings")) == (403, 0)

    run(work)


# Service-Route, and SIPS.


def test_service_route(tmp_path: Path) -> None:
    """It leads here, by the way that the phone has come; who does not ask for it in the configuration gets none."""

    async def work() -> None:
        async with domain(tmp_path, route="# service_route = false|service_route = true") as at:
            await at.add("carol")
            (dave,) = await phones(at, "dave")
            carol, stream = await UdpClient.open(at), await StreamClient.open(at)
            ok = await ask(stream, register("sip:c@192.0.2.1;transport=tcp"))
            assert ok.get("service-route") == f"<sip:{at.address}:5060;transport=tcp;lr>".encode()
            ok = await ask(carol, register(carol.contact))
            route = ok.get("service-route") or b""
            assert route == f"<sip:{at.address}:5060;lr>".encode()
            made = request("MESSAGE", "sip:dave@a.example", "carol")
            made.insert("Route", route)
            task = asyncio.create_task(carol.ask_signed(made, "carol"))
            got = await dave.request("MESSAGE")
            assert got.get("route") is None
            dave.send(got.response(200, "OK", b"t"))
            assert (await task).status == 200

    run(work)


def test_no_service_route_by_default(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            carol = await UdpClient.open(at)
            assert (await ask(carol, register(carol.contact))).get("service-route") is None

    run(work)


def test_sips_contacts(tmp_path: Path) -> None:
    """RFC 5630 section 5.2: "only if all the appropriate URIs are of the SIPS scheme", and by a way that is protected."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            context = ssl.create_default_context(cafile=str(roots(at)))
            context.check_hostname = False
            udp, tls = await UdpClient.open(at), await StreamClient.open(at, tls=context)
            for client, uri, contact, status in (
                (udp, "sips:a.example", "sips:c@192.0.2.1", 400),
                (tls, "sip:a.example", "sips:c@192.0.2.1", 400),
                (tls, "sips:a.example", "sips:c@192.0.2.1", 200),
                (tls, "sips:a.example", "sip:c@192.0.2.2;transport=tls", 200),
            ):
                assert (await ask(client, register(contact, uri=uri))).status == status, (uri, contact)

    run(work)
