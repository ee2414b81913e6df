"""Who may have connections, and how many."""

import asyncio
import contextlib
import os
import resource
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from sip import Domain, StreamClient, domain, request, run, signed
from structlog.testing import capture_logs

from neighbour.metrics import Metrics
from neighbour.transport import connections
from neighbour.transport.connections import Connections

LOOPS = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])


async def phone(at: Domain, user: str, local: str = "") -> StreamClient:
    await at.add(user)
    client = await StreamClient.open(at, local=local)
    made = request("REGISTER", "sip:a.example", user, to=f"sip:{user}@a.example", contact=f"sip:{user}@192.0.2.1")
    assert (await client.ask(signed(made, await client.ask(made), user, "secret"))).status == 200
    return client


async def works(client: StreamClient) -> bool:
    return (await client.ask(request("OPTIONS", "sip:x@a.example", max_forwards=0))).status == 483


async def is_refused(at: Domain, local: str = "", port: int = 5060) -> bool:
    """Whether a connection is closed before anything is said on it."""
    try:
        reader, writer = await asyncio.open_connection(at.address, port, local_addr=(local, 0) if local else None)
    except ConnectionError:
        return True
    try:
        return await asyncio.wait_for(reader.read(1), 0.5) == b""
    except ConnectionResetError:
        return True
    except TimeoutError:
        return False
    finally:
        writer.close()


@LOOPS
def test_a_source_has_its_part(tmp_path: Path, loop: str) -> None:
    """Strangers, phones and those in the middle of a handshake count alike; others are none the worse."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            at.neighbour.connections.most_of_source = 3
            one, two = at.lab.next_address(), at.lab.next_address()
            erin = await phone(at, "erin", one)
            first = await StreamClient.open(at, local=one)
            _, handshake = await asyncio.open_connection(at.address, 5061, local_addr=(one, 0))
            await asyncio.sleep(0.1)
            with capture_logs() as logs:
                assert await is_refused(at, one)
                assert await is_refused(at, one, 5061)
            assert [line["event"] for line in logs] == ["too many connections"]  # not for each
            assert at.value("wisp_connections_refused_total", reason="source") == 2
            others = [await StreamClient.open(at, local=two) for _ in range(3)]
            assert await works(others[2])
            assert await works(erin)
            assert await works(first)
            # Each place is free again when its connection is over, however that was.
            handshake.close()
            await asyncio.sleep(0.2)
            assert not await is_refused(at, one)
            first.close()
            await asyncio.sleep(0.2)
            assert not await is_refused(at, one)

    run(work, loop)


@LOOPS
def test_where_there_is_no_room_a_stranger_goes_and_a_phone_never(tmp_path: Path, loop: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            at.neighbour.connections.most = 4
            erin = await phone(at, "erin")
            strangers = [await StreamClient.open(at) for _ in range(3)]
            fred = await phone(at, "fred")
            await asyncio.wait_for(strangers[0].closed.wait(), 2)
            assert not any(one.closed.is_set() for one in (erin, fred, *strangers[1:]))
            gina = await phone(at, "gina")
            hugo = await phone(at, "hugo")
            assert await is_refused(at)
            assert at.value("wisp_connections_refused_total", reason="full") == 1
            assert not any(one.closed.is_set() for one in (erin, fred, gina, hugo))

    run(work, loop)


@contextlib.contextmanager
def no_files_left() -> Iterator[None]:
    """Takes every file descriptor that this process may still have."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    taken = [os.dup(0)]
    resource.setrlimit(resource.RLIMIT_NOFILE, (taken[0] + 50, hard))
    try:
        while True:
            try:
                taken.append(os.dup(0))
            except OSError:
                break
        yield
    finally:
        for file in taken:
            os.close(file)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@LOOPS
def test_without_files_left_connections_wait(tmp_path: Path, loop: str) -> None:
    """And those that there are go on; when there are files again, all is as before."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            erin = await phone(at, "erin")
            sock = socket.socket()
            sock.setblocking(False)
            with capture_logs() as logs, no_files_left():
                await asyncio.get_running_loop().sock_connect(sock, (at.address, 5060))
                await asyncio.sleep(0.5)
                assert await works(erin)
                assert len(at.neighbour.connections.by_token) == 1
            said = [line for line in logs if line["event"] == "connection not accepted"]
            assert [line["reason"] for line in said] == ["Too many open files"]
            await asyncio.sleep(0.5)
            assert len(at.neighbour.connections.by_token) == 2
            sock.close()
            assert await works(await StreamClient.open(at))

    run(work, loop)


@LOOPS
def test_the_end_waits_for_no_handshake(tmp_path: Path, loop: str) -> None:
    async def work() -> None:
        async with domain(tmp_path) as at:
            _, writer = await asyncio.open_connection(at.address, 5061)
            writer.write(b"\x16\x03\x01")
            erin = await phone(at, "erin")
            await asyncio.sleep(0.1)
            started = asyncio.get_running_loop().time()
            await at.stop()
            assert asyncio.get_running_loop().time() - started < 1
            await asyncio.wait_for(erin.closed.wait(), 1)
            assert at.neighbour.connections._count == 0
            writer.close()
            await at.start()

    run(work, loop)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff:ffff:ffff:ffff", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("fe80::1%2", "fe80::2%2", True),
    ],
)
def test_what_a_source_is(one: str, other: str, same: bool) -> None:
    table = Connections(1000, 900, Metrics())
    table.most_of_source = 1
    assert table.admit(one)
    assert table.admit(other) is not same
    table.leave(one)
    assert table.admit(one)


def test_the_limits() -> None:
    """An office of a thousand phones that all come back at once; no more than a quarter where there are few."""
    assert Connections(20_000, 900, Metrics()).most_of_source == connections._MAX_OF_SOURCE == 2000
    assert Connections(960, 900, Metrics()).most_of_source == 240
