"""TCP and TLS at the neighbour."""

import asyncio
import ssl
import warnings
from pathlib import Path

import pytest
from sip import Domain, StreamClient, UdpClient, domain, request, run, signed

from neighbour.agent.authority import Authority
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


def test_many_messages_in_one_segment_and_one_byte_by_byte(tmp_path: Path) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            client = await StreamClient.open(at)
            messages = []
            for i in range(50):
                made = request("OPTIONS", "sip:x@a.example", max_forwards=0)
                made.insert("Via", f"SIP/2.0/TCP me;branch=z9hG4bKmany{i}".encode())
                messages.append(made.serialize())
            client.send_raw(b"".join(messages))
            branches = [(await client.response()).via.branch for _ in range(50)]
            assert branches == [f"z9hG4bKmany{i}".encode() for i in range(50)]
            made = request("OPTIONS", "sip:x@a.example", max_forwards=0)
            made.insert("Via", b"SIP/2.0/TCP me;branch=z9hG4bKslow")
            for byte in made.serialize():
                client.send_raw(bytes([byte]))
                await asyncio.sleep(0)
            assert (await client.response()).via.branch == b"z9hG4bKslow"

    run(work)


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
            await asyncio.wait_for(bad.closed.wait(), 5)
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
                await asyncio.wait_for(peer.closed.wait(), 5)
                raise ConnectionError("closed")

            with pytest.raises((ssl.SSLError, ConnectionError)):
                await attempt()
            assert at.value("wisp_messages_total", direction="in", protection="tls") == 0

    run(work)
