"""Other domains over TCP and UDP: peers that are known by their address, and requests too large for a datagram."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from interop.nameserver import DEAD, NameServer
from peer import Peer, alone
from sip import (
    SDP,
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

from neighbour.transport import trunk
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for

LARGE = (("X-Large", "y" * 1300),)


async def final(client: "UdpClient | StreamClient", status: int) -> Response:
    response = await client.response()
    assert response.status == status, repr(response.serialize())
    return response


# Over UDP.


def test_a_call_to_a_peer_by_udp(tmp_path: Path) -> None:
    """To its port, from ours, with the way back in its Record-Route; and the dialog goes on both ways."""

    async def work() -> None:
        async with alone(tmp_path, "udp", 5060) as (at, peer, carol):
            bob = await peer.by_udp()
            sent = await call(carol, "carol", "sip:bob@b.example")
            got = await bob.request("INVITE")
            assert got.via.serialize().startswith(f"SIP/2.0/UDP {at.address}:5060;branch=".encode())
            assert [name for name, _ in got.via.params] == [b"branch", b"rport"]
            bob.send(answer(got, 200, f"sip:bob@{peer.address}:5060"))
            ok = await final(carol, 200)
            carol.send(in_dialog("ACK", ok, carol.contact, sent.cseq.number, sent))
            assert (await bob.request("ACK")).call_id == sent.call_id
            # The callee ends it: its way is our Record-Route as it got it.
            bye = Request("BYE", got.addresses("contact")[0].uri)
            for value in got.values("record-route"):
                bye.add("Route", value)
            for name, key, more in (("From", "to", b";tag=callee"), ("To", "from", b""), ("Call-ID", "call-id", b"")):
                bye.add(name, (got.get(key) or b"") + more)
            bye.add("CSeq", b"1 BYE")
            bye.add("Max-Forwards", b"70")
            bob.send(bye)
            came = await carol.request("BYE")
            carol.send(came.response(200, "OK"))
            await final(bob, 200)
            # And a call that the caller ends.
            sent = await call(carol, "carol", "sip:bob@b.example")
            bob.send(answer(await bob.request("INVITE"), 200, f"sip:bob@{peer.address}:5060"))
            ok = await final(carol, 200)
            carol.send(in_dialog("ACK", ok, carol.contact, sent.cseq.number, sent))
            carol.send(in_dialog("BYE", ok, carol.contact, sent.cseq.number + 1, sent))
            bob.send((await bob.request("BYE")).response(200, "OK"))
            await final(carol, 200)

    run(work)


def message(host: str, target: str = "sip:carol@a.example") -> Request:
    return request("MESSAGE", target, "bob", host, body=b"hello")


@pytest.mark.parametrize("port", [5060, 5099])
def test_who_sends_from_a_peers_address_is_the_peer(tmp_path: Path, port: int) -> None:
    """For its own domain, to ours: without a challenge, whatever the port, and with nothing more than a peer may do."""

    async def work() -> None:
        async with alone(tmp_path, "udp", 5060) as (at, peer, carol):
            bob = await peer.by_udp(port)
            bob.send(message("b.example"))
            carol.send((await carol.request("MESSAGE")).response(200, "OK"))
            await final(bob, 200)
            for host, target, status in (
                ("c.example", "sip:carol@a.example", 403),
                ("a.example", "sip:carol@a.example", 403),
                ("b.example", "sip:x@c.example", 404),
            ):
                assert (await bob.ask(message(host, target))).status == status
            await carol.silence(0.1)
            # Nothing protects it, and nobody is told otherwise.
            assert at.value("wisp_messages_total", direction="in", protection="tls") == 0
            # Who sends from elsewhere is a stranger.
            assert (await (await UdpClient.open(at)).ask(message("b.example"))).status == 403

    run(work)


def test_a_peer_by_udp_is_one_by_tcp_too_and_not_the_other_way_round(tmp_path: Path) -> None:
    """A large request of its has to come by TCP; but who forges the source of a datagram is no peer by TCP."""

    async def work(folder: Path, transport: str, statuses: dict[str, int]) -> None:
        async with alone(folder, transport, 5060) as (at, peer, carol):
            by_udp = await peer.by_udp(5099)
            by_tcp = await StreamClient.open(at, local=peer.address)
            for kind, client in (("udp", by_udp), ("tcp", by_tcp)):
                client.send(message("b.example"))
                if statuses[kind] == 200:
                    carol.send((await carol.request("MESSAGE")).response(200, "OK"))
                assert (await client.response()).status == statuses[kind]

    run(lambda: work(tmp_path / "udp", "udp", {"udp": 200, "tcp": 200}))
    run(lambda: work(tmp_path / "tcp", "tcp", {"udp": 403, "tcp": 200}))


def test_sips_takes_no_such_way(tmp_path: Path) -> None:
    async def work() -> None:
        async with alone(tmp_path, "udp", 5060) as (at, peer, _):
            bob = await peer.by_udp()
            await at.add("erin")
            context = ssl.create_default_context(cafile=str(at.folder / "ca" / "root.pem"))
            erin = await StreamClient.open(at, tls=context)
            made = request("MESSAGE", "sips:bob@b.example", "erin")
            refused = await erin.ask(signed(made, await erin.ask(made), "erin", "secret"))
            assert refused.status == 503
            assert b"b.example is reached over udp, and sips wants tls" in (refused.get("warning") or b"")
            await bob.silence(0.2)

    run(work)


# Over TCP.


def test_a_call_to_a_peer_by_tcp(tmp_path: Path) -> None:
    """On one connection; and when that is gone in the middle of the call, on another."""

    async def work() -> None:
        async with alone(tmp_path, "tcp", 5060) as (at, peer, carol):
            server = await peer.listen(port=5060)
            sent = await call(carol, "carol", "sip:bob@b.example")
            number, got = await peer.request()
            assert got.via.serialize().startswith(f"SIP/2.0/TCP {at.address}:5060;branch=".encode())
            assert peer.writers[number].get_extra_info("peername")[0] == at.address
            peer.answer(number, answer(got, 200, f"sip:bob@{peer.address};transport=tcp"))
            ok = await final(carol, 200)
            carol.send(in_dialog("ACK", ok, carol.contact, sent.cseq.number, sent))
            assert (await peer.request("ACK"))[0] == number == 0
            peer.writers[number].close()
            await asyncio.sleep(0.2)
            carol.send(in_dialog("BYE", ok, carol.contact, sent.cseq.number + 1, sent))
            number, bye = await peer.request("BYE")
            assert number == 1
            peer.answer(number, bye.response(200, "OK"))
            await final(carol, 200)
            server.close()

    run(work)


@pytest.mark.parametrize("transport", ["tls", "tcp"])
def test_the_next_address_where_one_fails(tmp_path: Path, transport: str) -> None:
    """And that one first next time, until the first is heard of again."""

    async def work() -> None:
        async with alone(tmp_path, transport, 5072, 5073) as (_, peer, carol):
            name = "b.example" if transport == "tls" else ""
            second = await peer.listen(name, 5073)
            for attempt in range(2):
                sent = await call(carol, "carol", "sip:bob@b.example")
                number, got = await peer.request()
                peer.answer(number, got.response(486, "Busy Here", b"x"))
                carol.send(ack_for(sent, await final(carol, 486)))
                if not attempt:
                    # Something listens there now; but it failed a moment ago.
                    first = await peer.listen(name, 5072)
            assert len(peer.writers) == 1
            first.close()
            second.close()

    run(work)


def test_a_response_finds_a_peer_whose_connection_is_gone(tmp_path: Path) -> None:
    """RFC 3261 section 18.2.2: "the server SHOULD open a connection to the IP address in the "received" parameter"."""

    async def work(folder: Path, transport: str, port: int) -> None:
        async with alone(folder, transport, port) as (_, peer, carol):
            name = "b.example" if transport == "tls" else ""
            server = await peer.listen(name, port)
            for number, sent_by in enumerate((f"b.example:{port}", "b.example")):
                client = await peer.connect(name, f"{transport.upper()} {sent_by};branch=z9hG4bKgone{number}")
                got = await carol.request("INVITE")
                client.close()
                await asyncio.sleep(0.2)
                carol.send(got.response(486, "Busy Here", b"x"))
                while True:
                    _, data = await asyncio.wait_for(peer.came.get(), TIMEOUT_S)
                    response = parse(data)
                    assert isinstance(response, Response)
                    if response.status != 100:
                        break
                assert (response.status, response.via.branch) == (486, f"z9hG4bKgone{number}".encode())
            server.close()

    run(lambda: work(tmp_path / "tls", "tls", 5061))
    run(lambda: work(tmp_path / "tcp", "tcp", 5060))


def test_a_response_goes_nowhere_else(tmp_path: Path) -> None:
    """A peer's other port where somebody else sits; and a phone's, which nobody connects to at all."""

    async def work() -> None:
        async with alone(tmp_path) as (at, peer, carol):
            # Who listens there shows the certificate of another domain.
            server = await peer.listen("c.example", 5075)
            client = await peer.connect("b.example", "TLS b.example:5075;branch=z9hG4bKgone1")
            got = await carol.request("INVITE")
            client.close()
            await asyncio.sleep(0.2)
            carol.send(got.response(486, "Busy Here", b"x"))
            await asyncio.sleep(0.5)
            tried = len(peer.writers)  # for the 100 too, where the answer took its time
            assert tried
            assert peer.came.empty()
            server.close()
            # A phone of ours, registered and all.
            server = await peer.listen(port=5076)
            await at.add("erin")
            erin = await StreamClient.open(at, local=peer.address)
            made = request("INVITE", "sip:carol@a.example", "erin", contact="sip:erin@192.0.2.1", body=SDP)
            challenged = await erin.ask(made)
            again = signed(made, challenged, "erin", "secret")
            again.insert("Via", f"SIP/2.0/TCP {peer.address}:5076;branch=z9hG4bKerin".encode())
            erin.send(again)
            got = await carol.request("INVITE")
            erin.close()
            await asyncio.sleep(0.2)
            carol.send(got.response(486, "Busy Here", b"x"))
            await asyncio.sleep(0.5)
            assert len(peer.writers) == tried
            server.close()

    run(work)


# Requests larger than a datagram should be (RFC 3261 section 18.1.1).


async def large(at: Domain, sender: UdpClient, user: str, target: str) -> Request:
    made = request("MESSAGE", target, user, headers=LARGE, body=b"hello")
    sender.send(signed(made, await sender.ask(made), user, "secret"))
    return made


@contextlib.asynccontextmanager
async def listening(
    address: tuple[str, int], came: "asyncio.Queue[tuple[asyncio.StreamWriter, bytes]]"
) -> AsyncIterator[None]:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                came.put_nowait((writer, data))
        writer.close()

    server = await asyncio.start_server(accept, *address)
    try:
        yield
    finally:
        server.close()


def test_a_large_request_to_a_phone_goes_by_tcp(tmp_path: Path) -> None:
    """Its Via says TCP, it is answered there, and a small one goes by UDP as ever; the connection is used again."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            came: asyncio.Queue[tuple[asyncio.StreamWriter, bytes]] = asyncio.Queue()
            async with listening(dave.address, came):
                writers = []
                for _ in range(2):
                    await large(at, carol, "carol", "sip:dave@a.example")
                    writer, data = await asyncio.wait_for(came.get(), TIMEOUT_S)
                    got = parse(data)
                    assert isinstance(got, Request)
                    assert got.via.transport == b"TCP"
                    assert (got.via.sent_by, got.via.param("rport")) == (f"{at.address}:5060".encode(), None)
                    assert len(data) > 1300
                    writer.write(got.response(200, "OK").serialize())
                    await final(carol, 200)
                    writers.append(writer)
                assert writers[0] is writers[1]
                await dave.silence(0.1)
                made = request("MESSAGE", "sip:dave@a.example", "carol", body=b"hello")
                carol.send(signed(made, await carol.ask(made), "carol", "secret"))
                dave.send((await dave.request("MESSAGE")).response(200, "OK"))
                await final(carol, 200)

    run(work)


def test_a_phone_without_tcp_gets_it_by_udp_all_the_same(tmp_path: Path) -> None:
    """And is not asked for TCP with each, for a while."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            await large(at, carol, "carol", "sip:dave@a.example")
            got = await dave.request("MESSAGE")
            assert got.via.transport == b"UDP"
            assert len(got.serialize()) > 1300
            dave.send(got.response(200, "OK"))
            await final(carol, 200)
            came: asyncio.Queue[tuple[asyncio.StreamWriter, bytes]] = asyncio.Queue()
            trunks = at.neighbour._trunks
            async with listening(dave.address, came):
                await large(at, carol, "carol", "sip:dave@a.example")
                dave.send((await dave.request("MESSAGE")).response(200, "OK"))
                await final(carol, 200)
                assert came.empty()
                (until,) = trunks._no_stream.values()
                assert 500 < until - asyncio.get_running_loop().time() <= 600
                trunks._no_stream[dave.address] = 0.0  # ten minutes later
                await large(at, carol, "carol", "sip:dave@a.example")
                writer, data = await asyncio.wait_for(came.get(), TIMEOUT_S)
                got = parse(data)
                assert isinstance(got, Request)
                writer.write(got.response(200, "OK").serialize())
                await final(carol, 200)

    run(work)


def test_a_phone_that_swallows_connections_costs_a_second_once(tmp_path: Path) -> None:
    """As behind most NATs. A socket whose backlog is full answers nothing to a SYN."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, dave = await phones(at, "carol", "dave")
            full = socket.socket()
            full.bind(dave.address)
            full.listen(0)
            fillers = []
            for _ in range(3):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(dave.address)
                fillers.append(filler)
            await asyncio.sleep(0.1)
            took = []
            for _ in range(2):
                started = asyncio.get_running_loop().time()
                await large(at, carol, "carol", "sip:dave@a.example")
                dave.send((await dave.request("MESSAGE")).response(200, "OK"))
                await final(carol, 200)
                took.append(asyncio.get_running_loop().time() - started)
            assert trunk._TRY_STREAM_S <= took[0] < trunk._TRY_STREAM_S + 0.5
            assert took[1] < 0.5
            for sock in (full, *fillers):
                sock.close()

    run(work)


def test_memory_of_who_takes_no_tcp_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trunk, "_MAX_NO_STREAM", 2)

    async def work() -> None:
        async with domain(tmp_path) as at:
            carol, *others = await phones(at, "carol", "dave", "erin", "fred")
            for user, phone in zip(("dave", "erin", "fred"), others, strict=True):
                await large(at, carol, "carol", f"sip:{user}@a.example")
                phone.send((await phone.request("MESSAGE")).response(200, "OK"))
                await final(carol, 200)
            assert list(at.neighbour._trunks._no_stream) == [phone.address for phone in others[1:]]

    run(work)


def test_a_large_request_to_a_peer_by_udp_goes_by_tcp(tmp_path: Path) -> None:
    async def work() -> None:
        async with alone(tmp_path, "udp", 5060) as (at, peer, carol):
            server = await peer.listen(port=5060)
            await large(at, carol, "carol", "sip:bob@b.example")
            number, got = await peer.request("MESSAGE")
            assert got.via.transport == b"TCP"
            peer.answer(number, got.response(200, "OK"))
            await final(carol, 200)
            # A request of the peer's on that connection is the peer's.
            peer.writers[number].write(_with_via(message("b.example")).serialize())
            carol.send((await carol.request("MESSAGE")).response(200, "OK"))
            server.close()

    run(work)


def _with_via(made: Request) -> Request:
    made.insert("Via", b"SIP/2.0/TCP b.example;branch=z9hG4bKback")
    return made


# Found by DNS.


@contextlib.asynccontextmanager
async def found_by_dns(folder: Path, *transports: str) -> AsyncIterator[tuple[Peer, UdpClient, NameServer]]:
    """A peer of whom nothing is configured."""
    with NameServer("127.0.0.1", port=0) as names:
        async with alone(
            folder,
            on="enabled = false |enabled = true ",
            by='# nameservers = []|nameservers = ["127.0.0.1"]',
            at=f"# port = 53|port = {names.port}",
            over=f"# transports =|transports = {list(transports)} #",
            without='domain = "b.example"|domain = "other.example"',
        ) as (_, peer, carol):
            yield peer, carol, names


async def busy(peer: Peer, carol: UdpClient, uri: str) -> tuple[int, Request]:
    """A call that comes to the peer, which is busy: by which connection, and how."""
    sent = await call(carol, "carol", uri)
    number, got = await peer.request()
    peer.answer(number, got.response(486, "Busy Here", b"x"))
    carol.send(ack_for(sent, await final(carol, 486)))
    return number, got


def test_a_domain_that_is_found_by_dns(tmp_path: Path) -> None:
    """NAPTR, SRV by priority, address; the first server is not there, the second is whom the certificate says."""

    async def work() -> None:
        async with found_by_dns(tmp_path, "tls") as (peer, carol, names):
            names.add("b.example", "NAPTR", '10 1 "s" "SIPS+D2T" "" _sips._tcp.servers.example.')
            names.add(
                "_sips._tcp.servers.example", "SRV", "1 0 5090 h.example.", "2 0 5091 h.example.", "3 0 5092 h.example."
            )
            names.add("h.example", "A", peer.address)
            servers = [await peer.listen("b.example", 5091), await peer.listen("c.example", 5092)]
            for _ in range(2):
                number, got = await busy(peer, carol, "sip:bob@b.example")
                assert (number, got.via.transport) == (0, b"TLS")
            # Who alone is left shows a certificate that DNS does not make any better.
            servers[0].close()
            peer.writers[0].transport.abort()
            await asyncio.sleep(0.2)
            await call(carol, "carol", "sip:bob@b.example")
            refused = await final(carol, 503)
            assert b"trunk to b.example: " in (refused.get("warning") or b"")
            await call(carol, "carol", "sip:bob@nowhere.example")
            refused = await final(carol, 503)
            assert b"nowhere.example has no address that can be used" in (refused.get("warning") or b"")
            servers[1].close()

    run(work)


def test_a_domain_that_has_tcp_only(tmp_path: Path) -> None:
    """Where that is allowed; a sips URI of it is not called."""

    async def work() -> None:
        async with found_by_dns(tmp_path, "tls", "tcp") as (peer, carol, names):
            names.add("_sip._tcp.b.example", "SRV", "1 0 5090 h.example.")
            names.add("h.example", "A", peer.address)
            server = await peer.listen(port=5090)
            _, got = await busy(peer, carol, "sip:bob@b.example")
            assert got.via.transport == b"TCP"
            server.close()

    run(work)


def test_who_says_503_is_passed_over(tmp_path: Path) -> None:
    """RFC 3263 section 4.3; and by the next call at once, for as long as it asks for (RFC 3261 section 21.5.4)."""

    async def work() -> None:
        async with alone(tmp_path, "tls", 5090, 5091) as (_, peer, carol):
            servers = [await peer.listen("b.example", port) for port in (5090, 5091)]
            sent = await call(carol, "carol", "sip:bob@b.example")
            for status in (503, 486):
                number, got = await peer.request()
                response = got.response(status, "Reason", b"x")
                response.add("Retry-After", b"60")
                peer.answer(number, response)
            carol.send(ack_for(sent, await final(carol, 486)))
            assert number == 1
            number, _ = await busy(peer, carol, "sip:bob@b.example")
            assert number == 1
            for server in servers:
                server.close()

    run(work)


def test_the_end_waits_for_no_name_server(tmp_path: Path) -> None:
    async def work() -> None:
        async with found_by_dns(tmp_path, "tls") as (peer, carol, names):
            names.moods[""] = DEAD
            await call(carol, "carol", "sip:bob@b.example")
            await asyncio.sleep(0.2)

            def asking() -> list[str]:
                return [
                    task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith(("dns", "locate"))
                ]

            assert asking()
            await peer.at.stop()
            await asyncio.sleep(0)
            assert not asking()
            await peer.at.start()

    run(work)


def test_an_address_can_be_a_domain(tmp_path: Path) -> None:
    """A URI without a name is called over TLS where the certificate there is of the address."""

    async def work() -> None:
        async with found_by_dns(tmp_path, "tls") as (peer, carol, _):
            server = await peer.listen(peer.address, 5090)
            await busy(peer, carol, f"sip:bob@{peer.address}:5090")
            server.close()
            other = await peer.listen("b.example", 5091)
            await call(carol, "carol", f"sip:bob@{peer.address}:5091")
            refused = await final(carol, 503)
            assert f"certificate is of b.example, not of {peer.address}".encode() in (refused.get("warning") or b"")
            other.close()

    run(work)


# What is not to be had.


def test_without_a_listener_nothing_is_sent(tmp_path: Path) -> None:
    """A server there could not find us again; the caller is told."""

    async def work(folder: Path, kind: str, reason: bytes) -> None:
        async with alone(folder, kind, 5060) as (at, _, carol):
            at.neighbour._trunks._listeners[:] = [one for one in at.neighbour._listeners if one.transport != kind]
            at.neighbour._trunks._udp[:] = []
            await call(carol, "carol", "sip:bob@b.example")
            refused = await final(carol, 503)
            assert reason in (refused.get("warning") or b"")

    run(lambda: work(tmp_path / "tcp", "tcp", b"no tcp listener, so that"))
    run(lambda: work(tmp_path / "udp", "udp", b"no udp listener from which"))


def test_connections_to_others_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that was not used for longest goes."""
    monkeypatch.setattr(trunk, "_MAX_KEPT", 2)

    async def work() -> None:
        async with alone(
            tmp_path,
            "tcp",
            5060,
            on="enabled = false |enabled = true ",
            over='# transports = ["tls"]|transports = ["tcp"]',
        ) as (at, peer, carol):
            servers = [await peer.listen(port=port) for port in (5081, 5082, 5083)]

            async def reach(port: int) -> None:
                made = request("MESSAGE", f"sip:x@{peer.address}:{port};transport=tcp", "carol")
                carol.send(signed(made, await carol.ask(made), "carol", "secret"))
                number, got = await peer.request("MESSAGE")
                peer.answer(number, got.response(200, "OK"))
                await final(carol, 200)

            for port in (5081, 5082, 5081, 5083):
                await reach(port)
            await asyncio.sleep(0.2)
            assert [key[2] for key in at.neighbour._trunks._kept] == [5081, 5083]
            assert [writer.is_closing() for writer in peer.writers] == [False, True, False]
            for server in servers:
                server.close()

    run(work)
