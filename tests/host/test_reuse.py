"""Connection reuse (RFC 5923): which connections of others carry requests to them, and which never do."""

import asyncio
import socket
import ssl
from pathlib import Path

import pytest
from peer import Peer, alone
from sip import TIMEOUT_S, StreamClient, UdpClient, call, request, run
from test_trunk import call as called
from test_trunk import pair, users

from neighbour.transport import trunk
from sipwire.message import Response, parse
from sipwire.transaction import ack_for


def test_two_neighbours_need_one_connection(tmp_path: Path) -> None:
    """Whichever of them opened it."""

    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, dave = await users(left, right)
            task = asyncio.create_task(
                dave.ask_signed(request("MESSAGE", "sip:carol@a.example", "dave", "b.example"), "dave")
            )
            got = await carol.request("MESSAGE")
            carol.send(got.response(200, "OK"))
            assert (await task).status == 200
            (opened,) = right.neighbour.connections.by_token.values()
            assert (opened.is_ours, opened.is_aliased) == (True, False)
            for _ in range(2):
                assert (await called(carol, dave)).status == 486
            for one in (left, right):
                assert one.value("wisp_connections") == 1
            (accepted,) = left.neighbour.connections.by_token.values()
            assert (accepted.is_ours, accepted.is_aliased) == (False, True)

    run(work)


async def reached(carol: UdpClient, client: StreamClient, peer: Peer, domain: str = "b.example") -> str:
    """Which way a call of Carol's takes: the ``old`` connection, or a ``new`` one."""
    sent = await call(carol, "carol", f"sip:bob@{domain}")
    old, new = asyncio.create_task(client.request("INVITE")), asyncio.create_task(peer.request())
    done, _ = await asyncio.wait((old, new), return_when=asyncio.FIRST_COMPLETED, timeout=5)
    for task in (old, new):
        task.cancel()
    assert len(done) == 1
    if old in done:
        client.send(old.result().response(486, "Busy Here", b"x"))
    else:
        number, got = new.result()
        peer.answer(number, got.response(486, "Busy Here", b"x"))
    refused = await carol.response()
    assert refused.status == 486
    carol.send(ack_for(sent, refused))
    return "old" if old in done else "new"


ALIASES = [
    # What the Via of the peer says; whose certificate; from where; which way a call to b.example takes then.
    ("TLS b.example;branch=z9hG4bK1;alias", "b.example", "", "old"),
    ("TLS b.example:5061;branch=z9hG4bK1;alias", "b.example", "", "old"),
    # The host of a Via proves nothing and decides nothing: the certificate and the address do.
    ("TLS x.example:5061;branch=z9hG4bK1;alias", "b.example", "", "old"),
    ("TLS b.example;branch=z9hG4bK1", "b.example", "", "new"),
    ("TLS b.example:5071;branch=z9hG4bK1;alias", "b.example", "", "new"),
    ("TLS b.example:5061;branch=z9hG4bK1;alias", "c.example", "", "new"),
    ("TLS b.example;branch=z9hG4bK1;alias", "b.example", "elsewhere", "new"),
]


@pytest.mark.parametrize(("via", "certificate", "where", "way"), ALIASES)
def test_alias(tmp_path: Path, via: str, certificate: str, where: str, way: str) -> None:
    """It needs the peer's word, for that port, its address, and a certificate of the domain."""

    async def work() -> None:
        async with alone(tmp_path) as (at, peer, carol):
            server = await peer.listen("b.example")
            local = at.lab.next_address() if where else ""
            client = await peer.connect(certificate, via, local)
            incoming = await carol.request("INVITE")
            assert await reached(carol, client, peer) == way
            carol.send(incoming.response(486, "Busy Here", b"x"))
            while (await client.response()).status != 486:
                pass  # its own answer comes back on it whatever
            assert len(peer.writers) == (way == "new")
            server.close()

    run(work)


def test_an_alias_is_for_what_the_certificate_proves(tmp_path: Path) -> None:
    """c.example claims the port that b.example's configured address has, from that very address, and gets its own only."""

    async def work() -> None:
        async with alone(tmp_path) as (_, peer, carol):
            servers = [await peer.listen("b.example"), await peer.listen("c.example", 5071)]
            client = await peer.connect("c.example", "TLS c.example:5061;branch=z9hG4bK1;alias")
            carol.send((await carol.request("INVITE")).response(486, "Busy Here", b"x"))
            assert await reached(carol, client, peer) == "new"
            assert await reached(carol, client, peer, "c.example") == "new"
            other = await peer.connect("c.example", "TLS c.example:5071;branch=z9hG4bK2;alias")
            carol.send((await carol.request("INVITE")).response(486, "Busy Here", b"x"))
            assert await reached(carol, other, peer, "c.example") == "old"
            for server in servers:
                server.close()

    run(work)


def test_a_phone_has_no_alias(tmp_path: Path) -> None:
    """Without a certificate, over TLS too: "the server MUST NOT update the alias table"."""

    async def work() -> None:
        async with alone(tmp_path) as (at, peer, carol):
            server = await peer.listen("b.example")
            context = ssl.create_default_context(cafile=str(at.folder / "ca" / "root.pem"))
            client = await StreamClient.open(at, tls=context, local=peer.address)
            peer.invite(client, "b.example", "TLS b.example;branch=z9hG4bK1;alias")
            assert (await client.response()).status == 403
            assert await reached(carol, client, peer) == "new"
            server.close()

    run(work)


def test_over_tcp_nothing_is_reused_but_for_answers(tmp_path: Path) -> None:
    """A peer by TCP may say alias as often as it likes."""

    async def work() -> None:
        async with alone(tmp_path, "tcp", 5060) as (_, peer, carol):
            server = await peer.listen(port=5060)
            client = await peer.connect("", "TCP b.example:5060;branch=z9hG4bK1;alias")
            incoming = await carol.request("INVITE")
            assert await reached(carol, client, peer) == "new"
            assert await reached(carol, client, peer) == "new"
            assert len(peer.writers) == 1  # ours is kept, of course
            carol.send(incoming.response(486, "Busy Here", b"x"))
            while (await client.response()).status != 486:
                pass
            server.close()

    run(work)


def test_what_our_own_requests_say(tmp_path: Path) -> None:
    """``alias`` on connections that we open over TLS; not on theirs, where it would mean nothing, and not over TCP."""

    async def work(folder: Path, transport: str, port: int, domain: str, params: list[bytes]) -> None:
        async with alone(folder, transport, port) as (_, peer, carol):
            server = await peer.listen(domain, port)
            await call(carol, "carol", "sip:bob@b.example")
            number, got = await peer.request()
            peer.answer(number, got.response(486, "Busy Here", b"x"))
            assert [name for name, _ in got.via.params] == params
            server.close()

    run(lambda: work(tmp_path / "tls", "tls", 5061, "b.example", [b"branch", b"alias"]))
    run(lambda: work(tmp_path / "tcp", "tcp", 5060, "", [b"branch"]))


def test_a_dead_trunk_is_found_before_the_next_call(tmp_path: Path) -> None:
    """The kernel asks after half a minute of silence, and three times more (see test_stream)."""

    async def work() -> None:
        async with alone(tmp_path) as (at, peer, carol):
            server = await peer.listen("b.example")
            await call(carol, "carol", "sip:bob@b.example")
            number, got = await peer.request()
            peer.answer(number, got.response(486, "Busy Here", b"x"))
            ((trunk_,),) = at.neighbour._trunks._kept.values()
            stream = trunk_._stream
            assert stream is not None
            sock = stream.get_extra_info("socket")
            options = (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert [sock.getsockopt(socket.IPPROTO_TCP, option) for option in options] == [30, 10, 3, 32000]
            server.close()

    run(work)


def test_requests_come_back_on_what_we_opened(tmp_path: Path) -> None:
    """Having said alias "the client MUST accept requests over this connection"."""

    async def work() -> None:
        async with alone(tmp_path) as (_, peer, carol):
            server = await peer.listen("b.example")
            await call(carol, "carol", "sip:bob@b.example")
            number, got = await peer.request()
            peer.answer(number, got.response(486, "Busy Here", b"x"))
            for host, status in (("b.example", 200), ("c.example", 403)):
                made = request("MESSAGE", "sip:carol@a.example", "bob", host)
                made.insert("Via", b"SIP/2.0/TLS b.example;branch=z9hG4bKback" + host.encode())
                peer.writers[number].write(made.serialize())
                if status == 200:
                    carol.send((await carol.request("MESSAGE")).response(200, "OK"))
                while True:
                    _, data = await asyncio.wait_for(peer.came.get(), TIMEOUT_S)
                    message = parse(data)
                    if isinstance(message, Response) and message.status >= 200:
                        break
                assert message.status == status
            server.close()

    run(work)


def test_an_aliased_connection_that_is_gone(tmp_path: Path) -> None:
    """ "Servers MUST be prepared to deal with the case that the aliased connection no longer exist"."""

    async def work() -> None:
        async with alone(tmp_path) as (at, peer, carol):
            server = await peer.listen("b.example")
            client = await peer.connect("b.example", "TLS b.example;branch=z9hG4bK1;alias")
            carol.send((await carol.request("INVITE")).response(486, "Busy Here", b"x"))
            assert await reached(carol, client, peer) == "old"
            client.close()
            await asyncio.sleep(0.2)
            assert not at.neighbour._trunks._kept
            assert await reached(carol, client, peer) == "new"
            server.close()

    run(work)


def test_the_newest_alias_is_used(tmp_path: Path) -> None:
    """An older one may have died without our knowing. And nobody makes us remember any number of them."""

    async def work() -> None:
        async with alone(tmp_path) as (at, peer, carol):
            clients = []
            for number in range(trunk._MAX_OF_ADDRESS + 3):
                via = f"TLS b.example;branch=z9hG4bKn{number};alias"
                clients.append(await peer.connect("b.example", via))
                carol.send((await carol.request("INVITE")).response(486, "Busy Here", b"x"))
            assert await reached(carol, clients[-1], peer) == "old"
            ((kept),) = at.neighbour._trunks._kept.values()
            assert len(kept) == trunk._MAX_OF_ADDRESS

    run(work)
