"""TCP and TLS at the neighbour."""

import asyncio
import contextlib
import socket
import ssl
import warnings
from asyncio import sslproto
from pathlib import Path

import pytest
from sip import TIMEOUT_S, Domain, StreamClient, UdpClient, domain, request, run, signed

from neighbour.agent.authority import Authority
from neighbour.transport import connections, stream
from neighbour.transport.stream import Connection
from sipwire.message import Response


def client_tls(at: Domain, certificate: Path | None = None, key: Path | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(at.folder / "ca" / "root.pem"))
    if certificate:
        context.load_cert_chain(certificate, key)
    return context


@pytest.mark.parametrize("tls", [False, True])
def test_register_and_be_called(tmp_path: Path, tls: bool) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            await at.add("dave")
            carol = await StreamClient.open(at, tls=client_tls(at) if tls else None)
            kind = "tls" if tls else "tcp"
            made = request(
                "REGISTER",
                "sip:a.example",
                "carol",
                to="sip:carol@a.example",
                contact=f"sip:carol@192.0.2.1;transport={kind}",
            )
            challenged = await carol.ask(made)
            assert (await carol.ask(signed(made, challenged, "carol", "secret"))).status == 200
            dave = await UdpClient.open(at)
            invite = request("INVITE", "sip:carol@a.example", "dave", contact=dave.contact)
            challenged = await dave.ask(invite)
            dave.send(signed(invite, challenged, "dave", "secret"))
            got = await carol.request("INVITE")
            assert got.via.transport == kind.upper().encode()
            routes = got.addresses("record-route")
            # RFC 5658: once per side, since the sides reach us differently; the near one on top.
            assert [route.parsed_uri().param("transport") for route in routes] == [kind.encode(), None]
            carol.send(got.response(486, "Busy Here", b"x"))
            assert (await dave.response()).status == 486
            carol.close()
            await asyncio.sleep(0.2)
            challenged = await dave.ask(request("INVITE", "sip:carol@a.example", "dave", contact=dave.contact))
            invite = request("INVITE", "sip:carol@a.example", "dave", contact=dave.contact)
            gone = await dave.ask(signed(invite, challenged, "dave", "secret"))
            assert (gone.status, b"its connection is gone" in (gone.get("warning") or b"")) == (480, True)

    run(work)


LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
TLS = pytest.mark.parametrize("tls", [False, True], ids=["tcp", "tls"])


@LOOPS
@TLS
def test_many_messages_in_one_segment_and_one_byte_by_byte(tmp_path: Path, tls: bool, loop: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await StreamClient.open(at, tls=client_tls(at) if tls else None)
            messages = []
            for i in range(50):
                made = request("OPTIONS", "sip:x@a.example", max_forwards=0, body=b"x" * i)
                made.insert("Via", f"SIP/2.0/TCP me;branch=z9hG4bKmany{i}".encode())
                messages.append(made.serialize())
            # One write, and over TLS one record where it fits: the neighbour reads many of them at once.
            client.send_raw(b"".join(messages))
            branches = [(await client.response()).via.branch for _ in range(50)]
            assert branches == [f"z9hG4bKmany{i}".encode() for i in range(50)]
            made = request("OPTIONS", "sip:x@a.example", max_forwards=0, body=b"body")
            made.insert("Via", b"SIP/2.0/TCP me;branch=z9hG4bKslow")
            sock = client.writer.get_extra_info("socket")
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for byte in made.serialize():
                client.send_raw(bytes([byte]))  # a segment of its own, over TLS a record
                await client.writer.drain()
                await asyncio.sleep(0)
            assert (await client.response()).via.branch == b"z9hG4bKslow"
            assert at.value("wisp_malformed_total", transport="TLS" if tls else "TCP") == 0

    run(work, loop)


@LOOPS
def test_messages_larger_than_what_is_read_at_once(tmp_path: Path, loop: str) -> None:
    """The buffer of a TLS connection is that of one record, and not 256 KiB for each idle one."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            assert sslproto.SSLProtocol.max_size == 16384
            client = await StreamClient.open(at, tls=client_tls(at))
            for size in (100, 16_384, 50_000):
                made = request("OPTIONS", "sip:x@a.example", max_forwards=0, body=b"x" * size)
                assert (await client.ask(made)).status == 483
            assert at.value("wisp_malformed_total", transport="TLS") == 0

    run(work, loop)


def test_ping_pong(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await StreamClient.open(at)
            client.send_raw(b"\r\n\r\n")
            assert await client.raw() == b"\r\n"

    run(work)


@pytest.mark.parametrize(
    "junk",
    [
        b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n",
        b"x" * 30000,
        b"OPTIONS sip:a SIP/2.0\r\nl: 99999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ],
)
def test_what_is_no_sip_loses_its_connection_alone(tmp_path: Path, junk: bytes) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            good, bad = await StreamClient.open(at), await StreamClient.open(at)
            bad.send_raw(junk)
            await asyncio.wait_for(bad.closed.wait(), TIMEOUT_S)
            assert at.value("wisp_malformed_total", transport="TCP") == 1
            assert (await good.ask(request("OPTIONS", "sip:x@a.example", max_forwards=0))).status == 483

    run(work)


def test_idle_connections_are_closed(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path, idle="# idle_s = 900|idle_s = 5") as at:
            client = await StreamClient.open(at)
            await asyncio.sleep(0.1)
            assert at.value("wisp_connections") == 1
            await asyncio.wait_for(client.closed.wait(), 8)
            assert at.value("wisp_connections") == 0

    run(work)


async def registered(at: Domain, user: str, *, tls: bool = False) -> StreamClient:
    """A phone on a connection, that the neighbour knows."""
    await at.add(user)
    client = await StreamClient.open(at, tls=client_tls(at) if tls else None)
    made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=f"sip:{user}@192.0.2.1")
    assert (await client.ask(signed(made, await client.ask(made), user, "secret"))).status == 200
    return client


def only(at: Domain) -> Connection:
    (one,) = at.neighbour.connections.by_token.values()
    return one


async def gone(client: StreamClient, at: Domain, timeout_s: float) -> None:
    """Closed at both ends, and counted for nobody any more."""
    await asyncio.wait_for(client.closed.wait(), timeout_s)
    for _ in range(20):
        if not at.neighbour.connections._count:
            break
        await asyncio.sleep(0.05)
    assert at.value("wisp_connections") == 0
    assert at.neighbour.connections._count == 0
    assert not at.neighbour.connections._of_source


@LOOPS
@TLS
def test_who_says_nothing_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, loop: str) -> None:
    monkeypatch.setattr(stream, "_STRANGER_S", 0.5)

    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await StreamClient.open(at, tls=client_tls(at) if tls else None)
            await asyncio.sleep(0.1)
            assert at.value("wisp_connections") == 1
            await gone(client, at, 10)

    run(work, loop)


@LOOPS
@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50)])
def test_a_handshake_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: bytes, loop: str) -> None:
    """It counts for its source from the first moment, though there is no connection yet."""
    monkeypatch.setattr(connections, "_HANDSHAKE_S", 0.5)

    async def work() -> None:
        async with domain(tmp_path) as at:
            reader, writer = await asyncio.open_connection(at.address, 5061)
            writer.write(said)
            await asyncio.sleep(0.2)
            assert (at.value("wisp_connections"), at.neighbour.connections._count) == (0, 1)
            with contextlib.suppress(ConnectionError):
                await asyncio.wait_for(reader.read(), 2)
            await asyncio.sleep(0.1)
            assert at.neighbour.connections._count == 0
            assert at.value("wisp_connections_refused_total", reason="handshake") == 1
            writer.close()
            # A good one is as welcome as ever.
            client = await StreamClient.open(at, tls=client_tls(at))
            assert (await client.ask(request("OPTIONS", "sip:x@a.example", max_forwards=0))).status == 483

    run(work, loop)


@LOOPS
@TLS
@pytest.mark.parametrize("part", ["head", "body", "stalled"])
def test_a_message_has_to_come_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, part: str, loop: str
) -> None:
    """Also from those we know: a byte now and then for ever, or nothing more at all."""
    monkeypatch.setattr(stream, "_MESSAGE_S", 0.8)

    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await registered(at, "erin", tls=tls)
            made = request("OPTIONS", "sip:x@a.example", max_forwards=0, body=b"x" * 5000)
            made.insert("Via", b"SIP/2.0/TCP me;branch=z9hG4bKloris")
            data = made.serialize()
            start = data.index(b"\r\n\r\n") + 4 if part == "body" else 20
            client.send_raw(data[:start])
            started = asyncio.get_running_loop().time()
            for byte in data[start : start + 100]:
                if client.closed.is_set():
                    break
                if part != "stalled":
                    client.send_raw(bytes([byte]))
                await asyncio.sleep(0.05)
            await gone(client, at, 10)
            assert asyncio.get_running_loop().time() - started > 0.7

    run(work, loop)


def test_slow_messages_that_end_are_fine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is for each: a phone whose every message comes in two parts is not slow."""
    monkeypatch.setattr(stream, "_MESSAGE_S", 0.5)

    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await registered(at, "erin")
            rest = b""
            for number in range(6):
                made = request("OPTIONS", "sip:x@a.example", max_forwards=0)
                made.insert("Via", f"SIP/2.0/TCP me;branch=z9hG4bKpart{number}".encode())
                data = made.serialize()
                client.send_raw(rest + data[:40])  # the rest of the last one, and the beginning of this
                rest = data[40:]
                await asyncio.sleep(0.25)
            client.send_raw(rest)
            for number in range(6):
                assert (await client.response()).via.branch == f"z9hG4bKpart{number}".encode()
            await asyncio.sleep(0.7)
            assert not client.closed.is_set()

    run(work)


@LOOPS
@TLS
def test_a_phone_that_announced_keep_alives_is_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, loop: str
) -> None:
    """RFC 5626: what we send does not keep it; a ping does, and so would any message."""
    monkeypatch.setattr(stream, "_FLOW_TIMER_S", 1)
    monkeypatch.setattr(stream, "_GRACE_S", 0.3)

    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await registered(at, "erin", tls=tls)
            flow = only(at)
            assert flow.expect_keep_alives() == 1
            assert flow.expect_keep_alives() == 1
            for _ in range(6):
                client.send_raw(b"\r\n\r\n")
                await asyncio.sleep(0.4)
            assert not client.closed.is_set()
            started = asyncio.get_running_loop().time()
            while not client.closed.is_set():
                assert asyncio.get_running_loop().time() - started < 2
                with contextlib.suppress(Exception):
                    flow.send(b"\r\n")
                await asyncio.sleep(0.1)
            assert flow.closed_because == "no keep-alive"

    run(work, loop)


def test_flow_timer_is_below_what_closes_anyway(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path, idle="# idle_s = 900|idle_s = 60") as at:
            await registered(at, "erin")
            assert only(at).expect_keep_alives() == 30
        async with domain(tmp_path / "other") as at:
            await registered(at, "erin")
            assert only(at).expect_keep_alives() == 120

    run(work)


@LOOPS
@TLS
def test_who_does_not_read_loses_the_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tls: bool, loop: str
) -> None:
    """And at once: neither what is unsent nor TLS's goodbye is waited for longer than a moment."""
    monkeypatch.setattr(stream, "_MAX_UNSENT_BYTES", 20_000)
    monkeypatch.setattr(stream, "_LINGER_S", 0.3)

    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await registered(at, "erin", tls=tls)
            client._task.cancel()  # it reads no more
            flow = only(at)
            message = b"x" * 10_000
            with contextlib.suppress(stream.FlowClosedError):
                for _ in range(2000):
                    flow.send(message)
                    await asyncio.sleep(0)
            await asyncio.sleep(0.8)
            assert at.neighbour.connections._count == 0
            assert flow.closed_because == "peer does not read"

    run(work, loop)


@LOOPS
@TLS
def test_the_kernel_looks_for_the_other_end(tmp_path: Path, tls: bool, loop: str) -> None:
    """Where it is gone without a word: probes in silence, and an end to what is not acknowledged.

    (That the kernel does what these options say can't be seen on loopback, where nobody goes without a word.)
    """

    async def work() -> None:
        async with domain(tmp_path) as at:
            await StreamClient.open(at, tls=client_tls(at) if tls else None)
            await asyncio.sleep(0.1)
            stream_ = only(at)._stream
            assert stream_ is not None
            sock = stream_.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            shown = [
                sock.getsockopt(socket.IPPROTO_TCP, option)
                for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL, socket.TCP_KEEPCNT, socket.TCP_USER_TIMEOUT)
            ]
            assert shown == [120, 10, 3, 32000]

    run(work, loop)


def test_tls_is_modern(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            old = client_tls(at)
            with warnings.catch_warnings(action="ignore"):
                old.minimum_version = ssl.TLSVersion.TLSv1
                old.maximum_version = ssl.TLSVersion.TLSv1_1
            old.set_ciphers("ALL:@SECLEVEL=0")
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await StreamClient.open(at, tls=old)
            # Something else than TLS on the TLS port harms nobody.
            reader, writer = await asyncio.open_connection(at.address, 5061)
            writer.write(b"OPTIONS sip:a SIP/2.0\r\n\r\n")
            await reader.read()
            writer.close()
            client = await StreamClient.open(at, tls=client_tls(at))
            assert (await client.ask(request("OPTIONS", "sip:x@a.example", max_forwards=0))).status == 483

    run(work)


def test_peer_speaks_for_its_own_domain_only(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.add("carol")
            carol = await UdpClient.open(at)
            await carol.register(at, "carol")
            authority = Authority(at.lab.folder / "ca")
            authority.issue_domain("b.example").write(tmp_path / "b.pem", tmp_path / "b.key")
            peer = await StreamClient.open(at, tls=client_tls(at, tmp_path / "b.pem", tmp_path / "b.key"))
            for host, uri, status, text in (
                ("c.example", "sip:carol@a.example", 403, b"not of the domain of the certificate"),
                ("a.example", "sip:carol@a.example", 403, b"not of the domain of the certificate"),
                ("b.example", "sip:x@c.example", 404, b"not a user of this domain"),
            ):
                refused = await peer.ask(request("INVITE", uri, "bob", host, contact="sip:bob@b.example"))
                assert (refused.status, text in (refused.get("warning") or b"")) == (status, True)
            await carol.silence()
            peer.send(request("INVITE", "sip:carol@a.example", "bob", "b.example", contact="sip:bob@b.example"))
            got = await carol.request("INVITE")
            carol.send(got.response(486, "Busy Here", b"x"))
            while True:
                response = await peer.get()
                if isinstance(response, Response) and response.status == 486:
                    break

    run(work)


def test_certificate_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            authority = Authority(tmp_path / "other")
            authority.create("Other")
            authority.issue_domain("b.example").write(tmp_path / "b.pem", tmp_path / "b.key")

            async def attempt() -> None:
                # In TLS 1.3 the refusal comes after the client's handshake, as the end of the connection.
                peer = await StreamClient.open(at, tls=client_tls(at, tmp_path / "b.pem", tmp_path / "b.key"))
                peer.send(request("OPTIONS", "sip:a.example", "bob", "b.example"))
                await asyncio.wait_for(peer.closed.wait(), TIMEOUT_S)
                raise ConnectionError("closed")

            with pytest.raises((ssl.SSLError, ConnectionError)):
                await attempt()
            assert at.value("wisp_messages_total", direction="in", protection="tls") == 0

    run(work)
