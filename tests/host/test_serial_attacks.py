"""A serial line whose other end, or whose console, means harm or is broken: it costs counters, and itself at most."""

import asyncio
import logging
import random
from pathlib import Path

import pytest
from sip import Hopper, domain, run
from test_serial import check_inside, keep_alive, key_of, lined, lines, opened, phone, tables, until

from neighbour.server import StartError
from sipwire.message import Response
from sipwire.slip import encode

_STUN = b"\x00\x01\x00\x00\x21\x12\xa4\x42" + bytes(12)


@pytest.fixture(autouse=True)
def _no_tracebacks(caplog: pytest.LogCaptureFixture):
    """Nothing that comes by a line may end in an exception that nobody has thought of."""
    caplog.set_level(logging.ERROR, "asyncio")
    yield
    assert [one.getMessage() for one in caplog.records if one.name == "asyncio"] == []


def test_noise_of_every_kind(tmp_path: Path) -> None:
    """A million random bytes, lines without an end, packets of any size, STUN: the line stays, and the others too."""

    async def work() -> None:
        async with lined(tmp_path, "alice", "bob", more="") as (at, [alice, bob]):
            chance = random.Random(11)
            storm = [chance.randbytes(1_000_000), bytes(50_000), b"x" * 50_000]
            for size in (0, 1, 1499, 1500, 1501, 3000, 3004, 3005, 9000):
                storm += [encode(5060, b"S" * size), encode(40000, b"\xc0" * size), encode(40255, b"\xdb" * size)]
            storm += [encode(5060, _STUN)] * 50 + [encode(5060, b"\r\n\r\n"), encode(5060, b"\0"), encode(5060, b"")]
            storm += [encode(5060, _STUN[:size]) for size in range(20)]
            storm += [b"\xc0\x13", b"\xc0\xc4", b"\xc0\x13\xc4\xdb", b"\xc0\x13\xc4\xdb\xdc\xdd\xdb\xc0", b"\xc0\x9c"]
            await bob.cable.send_all(b"\xc0".join(storm) + b"\xc0")
            await asyncio.sleep(0.5)
            while not bob._queue.empty():
                bob._queue.get_nowait()
            await keep_alive(alice)
            await keep_alive(bob)
            assert at.value("wisp_serial_lines") == 2

    run(work)


def test_boards_are_swapped(tmp_path: Path) -> None:
    """Whoever is at the end of a line is known by its frames, not by the line."""

    async def work() -> None:
        async with lined(tmp_path, "alice", "bob") as (at, [alice, bob]):
            for one in (alice, bob):
                one.cable.unplug()
            await lines(at, 0)
            alice.cable.link, bob.cable.link = bob.cable.link, alice.cable.link
            for one in (alice, bob):
                one.cable.plug()
            await lines(at, 2)
            await keep_alive(alice)
            await keep_alive(bob)
            calling = asyncio.create_task(alice.call("bob"))
            await bob.rings()
            bob.answers(200, bob.body())
            assert (await calling).status == 200
            said = alice.say(check_inside(alice.response), b"\x41")
            assert await bob.hear(key_of(bob.invite)) == said

    run(work)


def test_unplugged_in_a_call(tmp_path: Path) -> None:
    """In the middle of a packet, and of a call, which goes on when it is back; a restart of the board's line is none."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            calling = asyncio.create_task(alice.call("carol"))
            invite = await phone(at).rings()
            phone(at).answers(invite, 200, phone(at).ear.body())
            port = check_inside(await calling)
            for _ in range(3):
                alice.cable.write(encode(5060, alice.sender.seal(b""))[:20])
                alice.cable.unplug()
                await lines(at, 0)
                alice.cable.plug()
                await lines(at, 1)
                await keep_alive(alice)
                said = alice.say(port, b"\x66")
                assert await phone(at).ear.hear(key_of(invite)) == said

    run(work)


def test_from_a_line_that_is_gone(tmp_path: Path) -> None:
    """After a restart without the line, a terminal that wants new keys by Wi-Fi is where it was only once."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            await at.stop()
            path = at.folder / "wisp.toml"
            path.write_text(path.read_text().replace(tables(tmp_path, 1), ""))
            await at.start()
            wifi = await Hopper.open(at)
            assert isinstance(wifi, Hopper)
            sender, receiver = alice.sender, alice.receiver
            wifi.prepare("alice", at)
            wifi.sender, wifi.receiver = sender, receiver
            wifi.send_frame(wifi.register_request(7))
            await asyncio.sleep(0.3)
            wifi.send_frame(wifi.register_request(7))
            challenged = await wifi.framed()
            assert isinstance(challenged, Response)
            assert challenged.status == 401

    run(work)


def test_letters_are_not_cut(tmp_path: Path) -> None:
    """What is typed meets packets only between two characters: the second half of one would look like a packet."""

    async def work() -> None:
        async with lined(tmp_path, "alice", more='console = "run/alice"') as (at, [alice]):
            link = at.folder / "run" / "alice"
            with opened(link) as console:
                for part in (b"say \xd0", b"\x9c\xd0", b"\xb0\xff\xd0\x9c\n"):
                    console.write(part)
                    await asyncio.sleep(0.05)
                    await keep_alive(alice)
                await until(lambda: alice.cable.text.endswith(b"\n"))
            assert alice.cable.text.decode() == "say \u041c\u0430\u041c\n"

    run(work)


def test_two_at_a_console(tmp_path: Path) -> None:
    """Garbage, and nobody who reads it: the line goes on, and the next one at the console is served."""

    async def work() -> None:
        async with lined(tmp_path, "alice", more='console = "run/alice"') as (at, [alice]):
            link = at.folder / "run" / "alice"
            chance = random.Random(3)
            with opened(link) as first, opened(link) as second:
                for _ in range(200):
                    first.write(chance.randbytes(1000).replace(b"\x03", b""))
                    second.write(b"\xc0\x13\xc4" * 100)
                    alice.cable.write(b"x" * 1000 + b"\r\n")
                    await asyncio.sleep(0.001)
                await keep_alive(alice)
            heard: list[tuple[int, bytes]] = []
            alice.cable.packets, before = lambda port, data: heard.append((port, data)), alice.cable.packets
            await asyncio.sleep(1)
            assert heard == []
            alice.cable.packets = before
            alice.cable.text = b""
            with opened(link) as console:
                console.write(b"status\n")
                await until(lambda: alice.cable.text.endswith(b"status\n"))
            await keep_alive(alice)

    run(work)


@pytest.mark.parametrize("target", ["notes", "/dev/null", "folder"])
def test_a_link_of_somebodys(tmp_path: Path, target: str) -> None:
    """A link that leads to a file of somebody's stays, and so does the file."""

    async def work() -> None:
        async with domain(tmp_path) as at:
            await at.stop()
            (at.folder / "notes").write_text("mine")
            (at.folder / "folder").mkdir()
            link = at.folder / "console"
            link.symlink_to(target)
            path = at.folder / "wisp.toml"
            text = path.read_text()
            path.write_text(text + "\n" + tables(tmp_path, 1, 'console = "console"'))
            with pytest.raises(StartError, match=r"serial\[0\].console: console: .*leads to"):
                await at.start()
            assert str(link.readlink()) == target
            path.write_text(text)
            await at.start()

    run(work)
