"""Two domains and the trunk between them: when it works, and what a caller is told when it does not."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sip import Domain, UdpClient, open_files, request, run, signed
from structlog.testing import capture_logs

from lab.lab import Lab
from neighbour.agent.authority import Authority
from neighbour.resolver import TLS, Target
from neighbour.transport.tls import server_context
from neighbour.transport.trunk import TrunkError
from sipwire.message import Response


@contextlib.asynccontextmanager
async def pair(folder: Path, prepare: Callable[[Lab], None] | None = None) -> AsyncIterator[tuple[Domain, Domain]]:
    """Two neighbours that know each other; ``prepare`` spoils something before they start."""
    lab = Lab(folder)
    addresses = lab.make_domains("a.example", "b.example")
    for name in addresses:
        lab.change(name, 'level = "debug"', 'level = "info"')
        lab.change(name, "# trunk_timeout_s = 5.0", "trunk_timeout_s = 1.0")
    if prepare is not None:
        prepare(lab)
    domains = [Domain(lab, name, address) for name, address in addresses.items()]
    for one in domains:
        await one.start()
    try:
        yield domains[0], domains[1]
    finally:
        for one in domains:
            for client in one.clients:
                client.close()
            await one.stop()


async def users(left: Domain, right: Domain) -> tuple[UdpClient, UdpClient]:
    await left.add("carol")
    await right.add("dave")
    carol, dave = await UdpClient.open(left), await UdpClient.open(right)
    await carol.register(left, "carol")
    await dave.register(right, "dave")
    return carol, dave


async def invite(carol: UdpClient, uri: str = "sip:dave@b.example") -> None:
    made = request("INVITE", uri, "carol", contact=carol.contact)
    carol.send(made)
    challenged = await carol.response()
    assert challenged.status == 407
    carol.send(signed(made, challenged, "carol", "secret"))


async def call(carol: UdpClient, dave: UdpClient) -> Response:
    """A call that Dave is busy for: it has been through both domains."""
    await invite(carol)
    got = await dave.request("INVITE")
    dave.send(got.response(486, "Busy Here", b"x"))
    return await carol.response()


def test_calls_share_one_connection(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, dave = await users(left, right)
            for _ in range(3):
                assert (await call(carol, dave)).status == 486
            assert left.value("wisp_connections") == 1
            assert right.value("wisp_connections") == 1

    run(work)


def test_record_routes_name_the_domains(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, dave = await users(left, right)
            await invite(carol)
            got = await dave.request("INVITE")
            routes = [route.parsed_uri() for route in got.addresses("record-route")]
            shown = [(route.host, route.param("transport")) for route in routes]
            near_b, near_a = right.address.encode(), left.address.encode()
            assert shown == [(near_b, None), (b"b.example", b"tls"), (b"a.example", b"tls"), (near_a, None)]
            dave.send(got.response(486, "Busy Here", b"x"))

    run(work)


def expired(lab: Lab) -> None:
    now = datetime.now(UTC)
    issue(lab, "b.example", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))


def not_yet(lab: Lab) -> None:
    now = datetime.now(UTC)
    issue(lab, "b.example", not_before=now + timedelta(days=1), not_after=now + timedelta(days=2))


def other_domain(lab: Lab) -> None:
    """It can't start with that: whoever answers there has it from elsewhere."""
    Authority(lab.folder / "ca").issue_domain("c.example").write(lab.folder / "c.pem", lab.folder / "c.key")


def unknown_ca(lab: Lab) -> None:
    other = Authority(lab.folder / "other")
    other.create("Other")
    other.issue_domain("b.example").write(
        lab.folder / "b.example/b.example.pem", lab.folder / "b.example/b.example.key"
    )


def our_own_expired(lab: Lab) -> None:
    now = datetime.now(UTC)
    issue(lab, "a.example", not_before=now - timedelta(days=2), not_after=now - timedelta(days=1))


def our_own_from_an_unknown_ca(lab: Lab) -> None:
    other = Authority(lab.folder / "other")
    other.create("Other")
    other.issue_domain("a.example").write(
        lab.folder / "a.example/a.example.pem", lab.folder / "a.example/a.example.key"
    )


def issue(lab: Lab, folder: str, domain: str = "", **validity: datetime) -> None:
    issued = Authority(lab.folder / "ca").issue_domain(domain or folder, **validity)
    issued.write(lab.folder / folder / f"{folder}.pem", lab.folder / folder / f"{folder}.key")


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (expired, "certificate expired"),
        (not_yet, "certificate not yet valid"),
        (other_domain, "certificate is of c.example, not of b.example"),
        (unknown_ca, "certificate from an unknown CA"),
        (our_own_expired, "peer refused us: our certificate expired"),
        (our_own_from_an_unknown_ca, "peer refused us: our certificate does not lead to a root we know"),
    ],
)
def test_bad_certificates(tmp_path: Path, spoil: Callable[[Lab], None], reason: str) -> None:
    """The call fails with 503 and a Warning that names the reason; the log says it once."""

    async def work() -> None:
        async with pair(tmp_path, spoil) as (left, right):
            if spoil is other_domain:
                stolen = server_context(
                    str(tmp_path / "c.pem"), str(tmp_path / "c.key"), [str(tmp_path / "ca/root.pem")]
                )
                for acceptor in right.neighbour._acceptors:
                    acceptor.use(stolen)
            carol, dave = await users(left, right)
            with capture_logs() as logs:
                for _ in range(3):
                    await invite(carol)
                    failed = await carol.response()
                    assert failed.status == 503
                    assert failed.get("warning") == f'399 a.example "trunk to b.example: {reason}"'.encode()
            said = [line for line in logs if line["event"] == "trunk failed"]
            assert {line["log_level"] for line in said} == {"warning"}
            assert [(line["event"], line["reason"]) for line in said] == [("trunk failed", reason)]
            assert left.value("wisp_trunk_failures_total", domain="b.example") >= 3
            await dave.silence(0.1)

    run(work)


def test_nobody_there(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, _ = await users(left, right)
            address = right.address
            await right.stop()
            await invite(carol)
            failed = await carol.response()
            assert failed.status == 503
            assert f"trunk to b.example: {address}:5061: ".encode() in (failed.get("warning") or b"")
            await right.start()

    run(work)


def test_a_peer_that_does_not_answer(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, _ = await users(left, right)
            await right.stop()

            async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                """Take the connection and say nothing."""
                await reader.read()
                writer.close()

            server = await asyncio.start_server(mute, right.address, 5061)
            await invite(carol)
            failed = await carol.response()
            assert failed.status == 503
            assert b"no answer from" in (failed.get("warning") or b"")
            server.close()
            await right.start()

    run(work)


def test_works_again(tmp_path: Path) -> None:
    """After a failure the next call that can go through goes through, and the log says so."""

    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, dave = await users(left, right)
            await right.stop()
            with capture_logs() as logs:
                await invite(carol)
                assert (await carol.response()).status == 503
                await right.start()
                assert (await call(carol, dave)).status == 486
            events = [line["event"] for line in logs if line.get("domain") == "b.example"]
            assert events.count("trunk failed") == 1
            assert events.count("trunk works again") == 1

    run(work)


def test_a_kept_connection_that_died_is_replaced(tmp_path: Path) -> None:
    """The peer restarts between two calls: the second does not fail for it."""

    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, dave = await users(left, right)
            assert (await call(carol, dave)).status == 486
            await right.stop()
            await right.start()
            assert (await call(carol, dave)).status == 486

    run(work)


def test_connection_lost_in_a_call_attempt(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, dave = await users(left, right)
            await invite(carol)
            got = await dave.request("INVITE")
            dave.send(got.response(180, "Ringing", b"x"))
            while (await carol.response(provisional=True)).status != 180:
                pass
            await right.stop()
            failed = await carol.response()
            assert failed.status == 503
            assert b"trunk to b.example" in (failed.get("warning") or b"") or b"closed" in (
                failed.get("warning") or b""
            )
            await right.start()

    run(work)


def test_unknown_domain(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, _ = await users(left, right)
            await invite(carol, "sip:x@nowhere.example")
            failed = await carol.response()
            assert failed.status == 503
            assert b"nowhere.example is no peer of ours" in (failed.get("warning") or b"")

    run(work)


def test_many_calls_wait_for_one_connection(tmp_path: Path) -> None:
    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            carol, dave = await users(left, right)
            for _ in range(20):
                made = request("INVITE", "sip:dave@b.example", "carol", contact=carol.contact)
                carol.send(made)
                challenged = await carol.response()
                carol.send(signed(made, challenged, "carol", "secret"))
            for _ in range(20):
                got = await dave.request("INVITE")
                dave.send(got.response(486, "Busy Here", b"x"))
            assert right.value("wisp_connections") == 1

    run(work)


def test_a_peer_that_says_why_it_refuses_us(tmp_path: Path) -> None:
    """Most TLS servers send an alert; OpenSSL's own stands for them."""

    async def work() -> None:
        async with pair(tmp_path, our_own_from_an_unknown_ca) as (left, right):
            carol, _ = await users(left, right)
            await right.stop()
            folder = right.folder
            server = await asyncio.create_subprocess_exec(
                *("openssl", "s_server", "-quiet", "-accept", f"{right.address}:5061"),
                *(
                    "-cert",
                    folder / "b.example.pem",
                    "-cert_chain",
                    folder / "b.example.pem",
                    "-key",
                    folder / "b.example.key",
                ),
                *("-CAfile", folder / "ca/root.pem", "-Verify", "3", "-verify_return_error"),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            try:
                for _ in range(50):
                    with contextlib.suppress(OSError):
                        _, writer = await asyncio.open_connection(right.address, 5061)
                        writer.close()
                        break
                    await asyncio.sleep(0.1)
                await invite(carol)
                failed = await carol.response()
                assert failed.status == 503
                assert b"trunk to b.example: peer refused us: certificate from an unknown CA" in (
                    failed.get("warning") or b""
                )
            finally:
                server.kill()
                await server.wait()
            await right.start()

    run(work)


@pytest.mark.parametrize("name", ["b" * 64 + ".example", "b..example", ".example", ""])
def test_a_domain_that_can_be_no_name(tmp_path: Path, name: str) -> None:
    """TLS is told whom to expect, and takes no such label: nothing is opened, so nothing can be left open."""

    async def work() -> None:
        async with pair(tmp_path) as (left, right):
            before = [path for path in open_files() if path.startswith("socket:")]
            with pytest.raises(TrunkError, match="is no name"):
                await left.neighbour._trunks.flow(Target(TLS, right.address, 5061, name))
            assert [path for path in open_files() if path.startswith("socket:")] == before

    run(work)
