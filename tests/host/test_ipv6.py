"""IPv6, with real sockets: UDP, TCP and TLS on ::1, and an address that means something with its zone only."""

import asyncio
import contextlib
import itertools
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
from peer import alone
from sip import SDP, TIMEOUT_S, Domain, StreamClient, UdpClient, answer, call, in_dialog, request, run, signed

from lab.lab import Lab
from neighbour.config import ListenConfig
from neighbour.metrics import Metrics
from neighbour.server import StartError
from neighbour.transport.connections import Acceptor, Connections, open_stream
from neighbour.transport.flow import Listener, can_reach, format_address, peer_address, socket_address
from neighbour.transport.stun import answer_binding
from neighbour.transport.udp import UdpFlow, UdpTransport, flow_named, open_udp, socket_to
from sipwire.message import Request, Response
from sipwire.transaction import ack_for

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on loopback")


def free_port() -> int:
    """A port of ::1 that neither UDP nor TCP has in use."""
    while True:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as one, socket.socket(socket.AF_INET6) as other:
            one.bind(("::1", 0))
            with contextlib.suppress(OSError):
                other.bind(("::1", one.getsockname()[1]))
                return int(other.getsockname()[1])


class Six:
    """A neighbour on ::1 besides its IPv4 address.

    Attributes:
        at: the neighbour.
        port: for UDP and TCP.
        tls_port: for TLS.
    """

    def __init__(self, at: Domain, port: int, tls_port: int) -> None:
        self.at, self.port, self.tls_port = at, port, tls_port

    async def udp(self, user: str) -> UdpClient:
        """A phone, registered."""
        transport, client = await asyncio.get_running_loop().create_datagram_endpoint(
            UdpClient, ("::1", 0), ("::1", self.port)
        )
        client.transport = transport
        client.address = transport.get_extra_info("sockname")[:2]
        self.at.clients.append(client)
        await self.at.add(user)
        contact = contact_of(client)
        made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=contact)
        assert (await ask(client, made, user)).status == 200
        return client

    async def stream(self, user: str, *, tls: bool) -> StreamClient:
        """A phone on a connection, registered."""
        context = ssl.create_default_context(cafile=str(self.at.folder / "ca" / "root.pem")) if tls else None
        options = {"server_hostname": "a.example"} if tls else {}
        port = self.tls_port if tls else self.port
        reader, writer = await asyncio.open_connection("::1", port, ssl=context, **options)
        client = StreamClient(reader, writer, "TLS" if tls else "TCP")
        self.at.clients.append(client)
        await self.at.add(user)
        kind = "tls" if tls else "tcp"
        contact = f"sip:{user}@[2001:db8::7]:5077;transport={kind}"
        made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=contact)
        assert (await client.ask(signed(made, await client.ask(made), user, "secret"))).status == 200
        return client


def contact_of(client: UdpClient) -> str:
    return f"sip:me@[::1]:{client.address[1]}"


async def ask(client: UdpClient, made: Request, user: str) -> Response:
    send(client, made)
    again = signed(made, await client.response(), user, "secret")
    send(client, again)
    return await client.response()


def send(client: UdpClient, made: Request) -> None:
    made.insert(
        "Via", f"SIP/2.0/UDP [::1]:{client.address[1]};branch=z9hG4bK{id(made)}{made.cseq.number};rport".encode()
    )
    client.send_raw(made.serialize())


async def ring(caller: UdpClient, user: str, target: str) -> Request:
    """An INVITE with credentials; returns it as it was sent the second time."""
    made = request("INVITE", target, user, contact=contact_of(caller), body=SDP)
    send(caller, made)
    challenged = await caller.response()
    assert challenged.status == 407
    caller.send_raw(ack_for(made, challenged).serialize())
    again = signed(made, challenged, user, "secret")
    send(caller, again)
    return again


@contextlib.asynccontextmanager
async def six(folder: Path, more: str = "") -> AsyncIterator[Six]:
    lab = Lab(folder)
    address = lab.make_domains("a.example")["a.example"]
    lab.change("a.example", 'level = "debug"', 'level = "error"')
    port, tls_port = free_port(), free_port()
    tables = "".join(
        f'[[listen]]\ntransport = "{kind}"\naddress = "::1"\nport = {number}\n'
        for kind, number in (("udp", port), ("tcp", port), ("tls", tls_port))
    )
    lab.change("a.example", "[tls]\n", f"{tables}{more}[tls]\n")
    at = Domain(lab, "a.example", address)
    await at.start()
    try:
        yield Six(at, port, tls_port)
    finally:
        for client in at.clients:
            client.close()
        await at.stop()


@needs_ipv6
@LOOPS
def test_a_call_between_phones(tmp_path: Path, loop: str) -> None:
    """UDP: brackets where a URI or a sent-by is, none in received; and the dialog goes both ways by our token."""

    async def work() -> None:
        async with six(tmp_path) as six_:
            carol, dave = await six_.udp("carol"), await six_.udp("dave")
            sent = await ring(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            ours = f"[::1]:{six_.port}".encode()
            assert got.via.sent_by == ours
            assert {route.parsed_uri().host for route in got.addresses("record-route")} == {b"[::1]"}
            # Contacts in the dialog that are registered nowhere: the flow is found by what Record-Route says.
            dave.send_raw(answer(got, 200, "sip:dave-7@[2001:db8::99]").serialize())
            ok = await carol.response()
            assert ok.status == 200
            # RFC 5118 section 4.5: "implementations must not put the delimiting "[" and "]" tokens".
            assert (ok.via.param("received"), ok.via.param("rport")) == (b"::1", str(carol.address[1]).encode())
            for method, number in (("ACK", sent.cseq.number), ("BYE", sent.cseq.number + 1)):
                send(carol, in_dialog(method, ok, "sip:carol-7@[2001:db8::98]", number, sent))
                came = await dave.request(method)
                assert came.uri == b"sip:dave-7@[2001:db8::99]"
            dave.send_raw(came.response(200, "OK").serialize())
            assert (await carol.response()).status == 200

    run(work, loop)


@needs_ipv6
@LOOPS
@pytest.mark.parametrize("tls", [False, True])
def test_a_call_to_a_connection(tmp_path: Path, tls: bool, loop: str) -> None:
    async def work() -> None:
        async with six(tmp_path) as six_:
            carol, erin = await six_.udp("carol"), await six_.stream("erin", tls=tls)
            await ring(carol, "carol", "sip:erin@a.example")
            got = await erin.request("INVITE")
            sent_by = f"a.example:{six_.tls_port}" if tls else f"[::1]:{six_.port}"
            assert got.via.sent_by == sent_by.encode()
            assert got.via.transport == (b"TLS" if tls else b"TCP")
            erin.send(got.response(486, "Busy Here", b"x"))
            assert (await carol.response()).status == 486
            # The other way round, by the same connection.
            made = request("MESSAGE", "sip:carol@a.example", "erin")
            challenged = await erin.ask(made)
            assert challenged.via.param("received") == b"::1"
            erin.send(signed(made, challenged, "erin", "secret"))
            carol.send_raw((await carol.request("MESSAGE")).response(200, "OK").serialize())
            assert (await erin.response()).status == 200

    run(work, loop)


@needs_ipv6
def test_both_families_talk_to_each_other(tmp_path: Path) -> None:
    """Each side gets a Record-Route of its own family, double as RFC 5658 has it."""

    async def work() -> None:
        async with six(tmp_path) as six_:
            carol = await six_.udp("carol")
            await six_.at.add("dave")
            dave = await UdpClient.open(six_.at)
            await dave.register(six_.at, "dave")
            await ring(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            hosts = [route.parsed_uri().host for route in got.addresses("record-route")]
            assert hosts == [six_.at.address.encode(), b"[::1]"]
            dave.send(got.response(486, "Busy Here", b"x"))
            assert (await carol.response()).status == 486
            await call(dave, "dave", "sip:carol@a.example")
            got = await carol.request("INVITE")
            hosts = [route.parsed_uri().host for route in got.addresses("record-route")]
            assert hosts == [b"[::1]", six_.at.address.encode()]

    run(work)


@needs_ipv6
def test_a_phone_is_still_there_after_a_restart(tmp_path: Path) -> None:
    """It is reached by the socket of its own family."""

    async def work() -> None:
        async with six(tmp_path) as six_:
            carol, dave = await six_.udp("carol"), await six_.udp("dave")
            await six_.at.stop()
            await six_.at.start()
            await ring(carol, "carol", "sip:dave@a.example")
            got = await dave.request("INVITE")
            dave.send_raw(got.response(486, "Busy Here", b"x").serialize())
            assert (await carol.response()).status == 486

    run(work)


@needs_ipv6
@pytest.mark.parametrize("kind", ["udp", "tcp"])
def test_sockets_do_ipv6_alone(kind: Literal["udp", "tcp"]) -> None:
    """So that :: and 0.0.0.0 can be listened at side by side, and no address has a second form, as ::ffff:192.0.2.1."""

    async def work() -> None:
        listener = Listener(ListenConfig(transport=kind, address="::", port=free_port()), "a.example")
        opened: UdpTransport | Acceptor
        if kind == "udp":
            opened = await open_udp(listener, lambda *_: None)
        else:
            opened = open_stream(listener, Connections(10, 10, Metrics()), None)
        with socket.socket(type=socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM) as other:
            other.bind(("0.0.0.0", listener.config.port))
            if kind == "tcp":
                other.listen()
        opened.close()
        await asyncio.sleep(0)

    run(work)


@needs_ipv6
def test_stun(tmp_path: Path) -> None:
    async def work() -> None:
        async with six(tmp_path) as six_:
            carol = await six_.udp("carol")
            asked = bytes.fromhex("000100002112a442b7e7a701bc34d686fa87dfae")
            carol.send_raw(asked)
            assert await carol.raw() == answer_binding(asked, carol.address)

    run(work)


@needs_ipv6
@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_a_peer(tmp_path: Path, transport: str) -> None:
    """By its address, however that is written."""
    port = free_port()
    table = f'[[peer]]\ndomain = "b.example"\naddress = "[0:0::1]:{port}"\ntransport = "{transport}"\n'

    async def work() -> None:
        async with six(tmp_path, table) as six_:
            await six_.at.add("dave")
            dave = await UdpClient.open(six_.at)
            await dave.register(six_.at, "dave")
            loop = asyncio.get_running_loop()
            bob: UdpClient | StreamClient
            if transport == "udp":
                endpoint, bob = await loop.create_datagram_endpoint(UdpClient, ("::1", port), ("::1", six_.port))
                bob.transport = endpoint
                await call(dave, "dave", "sip:bob@b.example")
                got = await bob.request("INVITE")
            else:
                accepted: asyncio.Queue[StreamClient] = asyncio.Queue()
                server = await asyncio.start_server(
                    lambda reader, writer: accepted.put_nowait(StreamClient(reader, writer, "TCP")), "::1", port
                )
                await call(dave, "dave", "sip:bob@b.example")
                bob = await asyncio.wait_for(accepted.get(), TIMEOUT_S)
                got = await bob.request("INVITE")
                assert bob.writer.get_extra_info("peername")[0] == "::1"
                server.close()
            six_.at.clients.append(bob)
            assert got.via.sent_by == f"[::1]:{six_.port}".encode()
            bob.send_raw(got.response(486, "Busy Here", b"x").serialize())
            assert (await dave.response()).status == 486

    run(work)


# Addresses.


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        (("192.0.2.1", 5060), ("192.0.2.1", 5060)),
        (("2001:db8::1", 5060), ("2001:db8::1", 5060)),
        (("fe80::1%7", 5060), ("fe80::1", 5060, 0, 7)),
    ],
)
def test_addresses_of_sockets(address: tuple[str, int], taken: tuple[str, int] | tuple[str, int, int, int]) -> None:
    assert socket_address(address) == taken
    assert peer_address(taken) == address


def test_addresses_as_sockets_give_them() -> None:
    assert peer_address(("2001:db8::1", 5060, 0, 0)) == ("2001:db8::1", 5060)
    assert peer_address(("fe80::1%eth0", 5060, 0, 3)) == ("fe80::1%3", 5060)
    assert format_address(("fe80::1%3", 5060)) == "[fe80::1%3]:5060"


@pytest.mark.parametrize(
    ("here", "there", "can"),
    [
        ("192.0.2.1", "198.51.100.1", True),
        ("192.0.2.1", "2001:db8::1", False),
        ("2001:db8::1", "192.0.2.1", False),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "::1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("192.0.2.1", "127.0.0.1", False),
        ("127.0.0.1", "127.5.5.5", True),
        ("fe80::1%2", "2001:db8::1", False),
        ("fe80::1%2", "fe80::2%2", True),
        ("2001:db8::1", "fe80::2%2", True),
    ],
)
def test_what_can_be_reached_from_where(here: str, there: str, can: bool) -> None:
    assert can_reach(here, there) is can


def socket_at(address: str, port: int = 5060) -> UdpTransport:
    listener = Listener(ListenConfig(transport="udp", address=address, port=port), "a.example")
    return UdpTransport(listener, lambda *_: None)


@pytest.mark.parametrize("peer", ["192.0.2.7", "2001:db8::7", "::1", "fe80::7%3"])
@pytest.mark.parametrize("local", ["192.0.2.1", "2001:db8::1", "::", "fe80::1%1", "fe80::1%lo"])
def test_a_token_finds_its_flow(local: str, peer: str) -> None:
    """Of all sockets the one that it was written for; and it is the user part of a URI."""
    sockets = [socket_at("192.0.2.9"), socket_at("2001:db8::9"), socket_at(local, 5062), socket_at(local)]
    token = UdpFlow(sockets[-1], (peer, 40000)).token
    assert not token.strip(b"abcdefghijklmnopqrstuvwxyz0123456789-_.~")
    found = flow_named(token, sockets)
    assert found is not None
    assert (found.udp, found.peer) == (sockets[-1], (peer, 40000))
    assert flow_named(token, sockets[:-1]) is None


@pytest.mark.parametrize(
    "token",
    [b"", b"u", b"u-", b"0123456789ab", b"u-192.0.2.1-5060-192.0.2.7", b"u-192.0.2.1-5060-192.0.2.7-", b"p-b.example",
     b"u-192.0.2.1-5060-192.0.2.7-x", b"u-192.0.2.1-5060-host-5060", b"u-192.0.2.1-5060-192.0.2.7-5060-1", b"u-\xff-1-2-3"],
)  # fmt: skip
def test_what_is_no_token(token: bytes) -> None:
    assert flow_named(token, [socket_at("192.0.2.1")]) is None


def test_the_socket_to_an_address() -> None:
    loopback, four, six_ = socket_at("127.0.0.1"), socket_at("192.0.2.1"), socket_at("2001:db8::1")
    sockets = [loopback, four, six_]
    assert socket_to("198.51.100.1", sockets) is four
    assert socket_to("2001:db8::7", sockets) is six_
    assert socket_to("127.0.0.9", sockets) is loopback
    assert socket_to("::1", sockets) is None


def test_a_datagram_goes_by_the_interface_of_its_zone() -> None:
    """What the socket is told; on loopback it would come to the same without."""
    told = []

    class Socket(asyncio.DatagramTransport):
        def sendto(self, data: bytes, addr: object = None) -> None:
            told.append((data, addr))

        def is_closing(self) -> bool:
            return False

    transport = socket_at("::")
    transport.connection_made(Socket())
    for peer in (("fe80::7%3", 5060), ("2001:db8::7", 5060)):
        UdpFlow(transport, peer).send(b"x")
    assert told == [(b"x", ("fe80::7", 5060, 0, 3)), (b"x", ("2001:db8::7", 5060))]


def link_local() -> str:
    """A link-local address of this machine with its interface, "" where it has none."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/net/if_inet6").read_text().splitlines():
            digits, _, _, scope, _, interface = line.split()
            if scope == "20":
                return f"{socket.inet_ntop(socket.AF_INET6, bytes.fromhex(digits))}%{interface}"
    return ""


@LOOPS
@pytest.mark.skipif(not link_local(), reason="this machine has no link-local IPv6 address")
def test_a_link_local_address_keeps_its_zone(loop: str) -> None:
    """From the socket to the flow and back, with what others read being without it. Nothing leaves this machine."""

    async def work() -> None:
        came: asyncio.Queue[tuple[bytes, tuple[str, int], UdpTransport]] = asyncio.Queue()

        def receive(data: bytes, source: tuple[str, int], transport: UdpTransport) -> None:
            came.put_nowait((data, source, transport))

        host, _, interface = link_local().partition("%")
        zone = socket.if_nametoindex(interface)
        for text in (f"{host}%{interface}", f"{host}%{zone}", "::"):
            listener = Listener(ListenConfig(transport="udp", address=text, port=free_port()), "a.example")
            assert "%" not in listener.public
            # A socket that is bound to the address knows the zone by itself; one for all interfaces does not.
            transport = await open_udp(listener, receive)
            with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as other:
                other.setblocking(False)
                other.bind((host, 0, 0, zone))
                other.sendto(b"hello", (host, listener.config.port, 0, zone))
                data, source, _ = await asyncio.wait_for(came.get(), TIMEOUT_S)
                assert (data, source) == (b"hello", (f"{host}%{zone}", other.getsockname()[1]))
                flow = UdpFlow(transport, source)
                assert flow.host == host
                again = flow_named(flow.token, [transport])
                assert again is not None
                again.send(b"and back")
                assert (
                    await asyncio.wait_for(asyncio.get_running_loop().sock_recv(other, 100), TIMEOUT_S) == b"and back"
                )
            transport.close()

    run(work, loop)


def forget_ipv6(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process run on a machine without IPv6."""
    real = socket.socket

    class Without(real):  # type: ignore[misc, valid-type]
        def __init__(self, family: int = socket.AF_INET, *more: int, **named: int) -> None:
            if family == socket.AF_INET6:
                raise OSError(97, "Address family not supported by protocol")
            super().__init__(family, *more, **named)

    monkeypatch.setattr(socket, "socket", Without)


def test_a_listener_that_can_not_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The neighbour does not start without it, and says which."""

    async def work() -> None:
        forget_ipv6(monkeypatch)
        with pytest.raises(StartError, match=r"listen\[3\]: udp ::1:5999: address family not supported by protocol"):
            async with six(tmp_path):
                pass

    monkeypatch.setitem(globals(), "free_port", itertools.count(5999).__next__)
    run(work)


def test_a_server_that_can_not_be_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its other address is tried at once."""

    async def work() -> None:
        async with alone(tmp_path, "tcp", 5060, more='address = [|address = ["[2001:db8::1]:5060", ') as (
            _,
            peer,
            carol,
        ):
            forget_ipv6(monkeypatch)
            server = await peer.listen(port=5060)
            await call(carol, "carol", "sip:bob@b.example")
            number, got = await peer.request()
            peer.answer(number, got.response(486, "Busy Here", b"x"))
            assert (await carol.response()).status == 486
            server.close()

    run(work)
