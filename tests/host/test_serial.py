"""The serial hop: terminals at the ends of pseudo-terminals, and a neighbour that runs in this process."""

import asyncio
import contextlib
import os
import random
import stat
import termios
import time
import tty
from collections.abc import AsyncIterator, Callable
from io import FileIO
from pathlib import Path

import pytest
from relayed import CM, Party, relayed, stream_of
from sip import TIMEOUT_S, Domain, Hopper, answer, domain, request, run

from neighbour.aes import new_aes
from neighbour.config import SerialConfig
from neighbour.metrics import Metrics
from neighbour.server import StartError
from neighbour.store.database import Store
from neighbour.store.schema import agreements
from neighbour.transport.flow import FlowClosedError
from neighbour.transport.serial import LINE_HOST, SerialFlow, SerialLine, is_on_line
from sipwire.crypto import Crypto, size_of
from sipwire.message import Request, Response
from sipwire.rtp import build_header
from sipwire.slip import MAX_DATAGRAM_BYTES, TEXT, SlipDecoder, encode
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender

_PORT = 40000


class Cable:
    """A line with us at the board's end.

    Attributes:
        link: what the neighbour has as its port; it is not there where nothing is plugged in.
        packets: called with each packet.
        text: what has come beside packets.
    """

    def __init__(self, link: Path) -> None:
        self.link = link
        self.packets: Callable[[int, bytes], None] = lambda port, data: None
        self.text = b""
        self.end = self._other = -1
        self.plug()

    def plug(self) -> None:
        self.end, self._other = os.openpty()
        tty.setraw(self._other)
        os.set_blocking(self.end, False)
        self.link.symlink_to(os.ttyname(self._other))
        self._decoder = SlipDecoder()
        asyncio.get_running_loop().add_reader(self.end, self._read)

    def unplug(self) -> None:
        if self.end < 0:
            return
        self.link.unlink()
        asyncio.get_running_loop().remove_reader(self.end)
        os.close(self._other)
        os.close(self.end)
        self.end = -1

    def _read(self) -> None:
        try:
            data = os.read(self.end, 65536)
        except OSError:
            return
        for port, part in self._decoder.receive(data):
            if port == TEXT:
                self.text += part
            else:
                self.packets(port, part)

    def write(self, data: bytes) -> None:
        assert os.write(self.end, data) == len(data)

    async def send_all(self, data: bytes) -> None:
        """More than a line takes at once."""
        while data:
            try:
                data = data[os.write(self.end, data) :]
            except BlockingIOError:
                await asyncio.sleep(0.001)


class Terminal(Hopper):
    """A terminal's end of the hop on a line, with one stream of media."""

    def __init__(self, cable: Cable) -> None:
        super().__init__()
        self.cable = cable
        cable.packets = self._came
        self.address = (LINE_HOST, 5060)
        self.crypto = Crypto.make(1, CM, os.urandom(size_of(CM)))
        self._heard: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self._sender = SrtpSender(SUITES[CM], self.crypto.keys[0].key_salt, new_aes)
        self._seq = 100
        self.invite: Request
        self.response: Response

    def _came(self, port: int, data: bytes) -> None:
        if port == 5060:
            self._queue.put_nowait(data)
        else:
            self._heard.put_nowait((port, data))

    def send_raw(self, data: bytes) -> None:
        self.cable.write(encode(5060, data))

    def close(self) -> None:
        self.cable.unplug()

    def body(self, port: int = _PORT) -> bytes:
        return (
            b"v=0\r\no=- 7 1 IN IP4 192.0.0.8\r\ns=-\r\nc=IN IP4 192.0.0.8\r\nt=0 0\r\n"
            b"m=audio %d RTP/SAVP 0\r\na=crypto:%s\r\n" % (port, self.crypto.serialize())
        )

    def say(self, port: int, sound: bytes) -> bytes:
        packet = bytearray(12 + 160 + 14)
        build_header(packet, 0, self._seq, 160 * self._seq, 0x1234)
        packet[12:172] = sound * 160
        size = self._sender.protect(packet, 172)
        self._seq += 1
        self.cable.write(encode(port, packet[:size]))
        return sound * 160

    async def hear(self, key: bytes) -> bytes:
        port, data = await asyncio.wait_for(self._heard.get(), TIMEOUT_S)
        assert port == _PORT
        packet = bytearray(data)
        size = SrtpReceiver(SUITES[CM], key, new_aes).unprotect(packet, len(packet))
        return bytes(packet[12:size])

    async def silence_of_media(self) -> None:
        await asyncio.sleep(0.2)
        assert self._heard.empty()

    # Calls.

    async def rings(self) -> Request:
        while True:
            made = await self.framed()
            if isinstance(made, Request) and made.method == "INVITE":
                self.invite = made
                return made

    def answers(self, status: int = 200, body: bytes = b"") -> Response:
        self.response = answer(self.invite, status, self.contact)
        if body:
            self.response.set_body(b"application/sdp", body)
        self.send_frame(self.response)
        return self.response

    async def call(self, user: str, at: str = "a.example") -> Response:
        """Call somebody; returns the 2xx, or what else there is."""
        self.invite = request("INVITE", f"sip:{user}@{at}", self.user, contact=self.contact, body=self.body())
        self.invite.set("Content-Type", b"application/sdp")
        self.send_frame(self.invite)
        while True:
            got = await self.framed()
            if isinstance(got, Response) and got.cseq.method == "INVITE" and got.status >= 200:
                self.response = got
                return got


async def until(look: Callable[[], object]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + TIMEOUT_S
    while not look():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)


async def lines(at: Domain, count: int) -> None:
    """Wait until so many lines are there."""
    await until(lambda: at.value("wisp_serial_lines") == count)


def count(at: Domain, what: str, number: int = 0) -> float:
    """A counter of the line with that number."""
    found = [one for one in at.neighbour._hops._lines.values() if one.name.endswith(f"ttyW{number}")]
    return at.value("wisp_serial_total", line=found[0].name, what=what)


def tables(folder: Path, number: int, more: str = "") -> str:
    return "".join(f'[[serial]]\nport = "{folder / f"ttyW{at}"}"\n{more}\n' for at in range(number))


@contextlib.asynccontextmanager
async def lined(folder: Path, *users: str, more: str = "") -> AsyncIterator[tuple[Domain, list[Terminal]]]:
    """A neighbour with a line for each of these terminals, which are registered."""
    async with relayed(
        folder, "# relay|# relay", serial=f"[metrics]\n|{tables(folder, len(users), more)}[metrics]\n"
    ) as (
        at,
        carol,
        dave,
    ):
        at.phones = carol, dave  # type: ignore[attr-defined]
        made = []
        for number, user in enumerate(users):
            made.append(Terminal(Cable(folder / f"ttyW{number}")))
            at.clients.append(made[-1])
            await at.add(user, terminal=True)
        await lines(at, len(users))
        for user, terminal in zip(users, made, strict=True):
            await terminal.join(at, user)
        yield at, made


async def keep_alive(terminal: Terminal) -> None:
    """Send an empty frame, and get one back."""
    assert terminal.sender is not None
    terminal.send_raw(terminal.sender.seal(b""))
    assert await terminal.frame() == b""


def phone(at: Domain, number: int = 0) -> Party:
    return at.phones[number]  # type: ignore[attr-defined, no-any-return]


def test_registers_and_comes_back(tmp_path: Path) -> None:
    """A line may be unplugged, and the neighbour restarted: what was registered finds its way again."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            [binding] = at.neighbour._location.of("alice")
            assert binding.kind == "hop"
            assert is_on_line(binding.source)
            await keep_alive(alice)
            alice.cable.unplug()
            await lines(at, 0)
            assert at.neighbour._location.of("alice") == [binding]
            flow = at.neighbour._hops.flow(binding.spi)
            assert flow is not None
            with pytest.raises(FlowClosedError):
                flow.send(b"OPTIONS")
            alice.cable.plug()
            await lines(at, 1)
            await keep_alive(alice)
            await at.stop()
            await at.start()
            await lines(at, 1)
            store = Store(at.neighbour._config.store_url)
            await store.open()
            rows = await store.read(agreements.select())
            await store.close()
            assert [is_on_line(row.address) for row in rows] == [True]
            # Nothing has been heard of it, and it is found.
            flow = at.neighbour._hops.flow(binding.spi)
            assert flow is not None
            flow.send(b"OPTIONS sip:alice@a.example SIP/2.0\r\n\r\n")
            assert (await alice.frame()).startswith(b"OPTIONS")
            for _ in range(3):
                await keep_alive(alice)
            assert at.neighbour._location.of("alice")[0].source == binding.source

    run(work)


def test_a_line_that_is_gone_for_good(tmp_path: Path) -> None:
    """An agreement whose line is not in the configuration any more leads nowhere, and not to a socket."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            spi = at.neighbour._location.of("alice")[0].spi
            await at.stop()
            path = at.folder / "wisp.toml"
            path.write_text(path.read_text().replace(tables(tmp_path, 1), ""))
            await at.start()
            assert at.neighbour._hops.flow(spi) is None
            assert len(at.neighbour._hops) == 1
            del alice

    run(work)


def test_moves_to_wifi_and_back(tmp_path: Path) -> None:
    """Valid frames say where a terminal is, whatever they come by."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            wifi = await Hopper.open(at)
            assert isinstance(wifi, Hopper)
            wifi.sender, wifi.receiver = alice.sender, alice.receiver
            for terminal in (wifi, alice, wifi):
                assert terminal.sender is not None
                terminal.send_raw(terminal.sender.seal(b""))
                assert await terminal.frame() == b""
                [agreement] = at.neighbour._hops._by_spi.values()
                assert is_on_line(agreement.address[0]) == (terminal is alice)
                assert (at.neighbour._hops.line_of(agreement) is None) == (terminal is wifi)

    run(work)


def test_nobody_but_a_terminal(tmp_path: Path) -> None:
    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            for made in (
                request("REGISTER", "sip:a.example", "carol", to="sip:carol@a.example", contact=alice.contact),
                request("INVITE", "sip:carol@a.example", "dave", contact=alice.contact),
                request("MESSAGE", "sip:carol@a.example", "alice", contact=alice.contact),
                request("INVITE", "sip:carol@a.example", "x", "b.example", contact=alice.contact),
            ):
                response = await alice.ask(made)
                assert response.status == 494, repr(response.start_line())
            assert [one.kind for one in at.neighbour._location.of("carol")] == ["udp"]

    run(work)


def check_inside(message: Request | Response) -> int:
    """What a terminal on a line is told: nothing of the network. Returns the port."""
    where, _, _ = stream_of(message)
    assert where[0] == LINE_HOST
    assert where[1] % 2 == 0
    assert 40000 <= where[1] <= 40254
    assert message.body.count(b"c=IN IP4 ") == message.body.count(b"c=IN IP4 192.0.0.8")
    return where[1]


def check_outside(at: Domain, message: Request | Response) -> None:
    """What others are told: nothing of the line."""
    where, _, _ = stream_of(message)
    assert where[0] == at.address
    assert b"c=IN IP4 192.0.0.8" not in message.body


def key_of(message: Request | Response) -> bytes:
    return stream_of(message)[2][0].keys[0].key_salt


def test_called_by_a_phone(tmp_path: Path) -> None:
    """Every call of a terminal on a line is relayed, whatever `media.relay` says."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            carol = phone(at)
            await carol.call("alice")
            invite = await alice.rings()
            port = check_inside(invite)
            alice.answers(200, alice.body())
            ok = await carol.answered()
            check_outside(at, ok)
            for sound in (b"\x11", b"\x22", b"\x33"):
                said = carol.ear.send(stream_of(ok)[0], sound=sound)
                assert await alice.hear(key_of(invite)) == said
                said = alice.say(port, sound)
                assert await carol.ear.hear(key_of(ok)) == said
            # To another port of ours than that of the call.
            alice.say(port + 2, b"\x44")
            await carol.ear.silence()
            assert count(at, "stray") == 1
            assert at.value("wisp_relays") == 1
            carol.client.send(bye(carol))
            got = await alice.framed()
            while not (isinstance(got, Request) and got.method == "BYE"):
                got = await alice.framed()
            alice.send_frame(answer(got, 200))
            assert (await carol.client.response()).status == 200
            assert at.value("wisp_relays") == 0
            alice.say(port, b"\x55")
            await carol.ear.silence()
            assert count(at, "stray") == 2

    run(work)


def bye(caller: Party) -> Request:
    return caller._within("BYE", caller.invite.cseq.number + 1, b"")


def test_calls_a_phone(tmp_path: Path) -> None:
    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            carol = phone(at)
            calling = asyncio.create_task(alice.call("carol"))
            invite = await carol.rings()
            check_outside(at, invite)
            carol.answers(invite, 200, carol.ear.body())
            ok = await calling
            port = check_inside(ok)
            said = alice.say(port, b"\x66")
            assert await carol.ear.hear(key_of(invite)) == said
            said = carol.ear.send(stream_of(invite)[0], sound=b"\x77")
            assert await alice.hear(key_of(ok)) == said

    run(work)


def test_two_lines_call_each_other(tmp_path: Path) -> None:
    async def work() -> None:
        async with lined(tmp_path, "alice", "bob") as (_, [alice, bob]):
            calling = asyncio.create_task(alice.call("bob"))
            invite = await bob.rings()
            ports = [check_inside(invite)]
            bob.answers(200, bob.body())
            ok = await calling
            ports.append(check_inside(ok))
            for sound in (b"\x11", b"\x22"):
                said = alice.say(ports[1], sound)
                assert await bob.hear(key_of(invite)) == said
                said = bob.say(ports[0], sound)
                assert await alice.hear(key_of(ok)) == said

    run(work)


def test_a_port_that_no_line_has(tmp_path: Path) -> None:
    """A terminal that wants its media where no packet leads is refused, and no socket is tried instead."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            carol = phone(at)
            await carol.call("alice")
            await alice.rings()
            alice.answers(200, alice.body(port=30000))
            assert (await carol.refused()).status == 488
            assert at.value("wisp_relays") == 0

    run(work)


def test_too_large_for_a_line(tmp_path: Path) -> None:
    """Whoever sends more than a packet holds is told; nothing hangs."""

    async def work() -> None:
        async with lined(tmp_path, "alice") as (at, [alice]):
            carol = phone(at)
            await carol.call("alice", carol.ear.body(b"a=x:" + b"y" * 1500 + b"\r\n"))
            response = await carol.refused()
            assert response.status >= 400
            assert count(at, "too large") >= 1
            await keep_alive(alice)

    run(work)


def test_a_hostile_line(tmp_path: Path) -> None:
    """Garbage, floods and forged packets cost counters, and nobody else's line anything."""

    async def work() -> None:
        async with lined(tmp_path, "alice", "bob") as (at, [alice, bob]):
            chance = random.Random(5)
            calling = asyncio.create_task(alice.call("carol"))
            invite = await phone(at).rings()
            phone(at).answers(invite, 200, phone(at).ear.body())
            port = check_inside(await calling)
            assert alice.sender is not None
            assert bob.sender is not None
            hers = alice.sender.seal(b"")
            storm = [chance.randbytes(chance.randrange(1, 400)) for _ in range(400)]
            storm += [encode(5060, chance.randbytes(100)) for _ in range(200)]
            storm += [encode(5060, b"\xe1" + chance.randbytes(60)) for _ in range(200)]
            storm += [encode(5060, hers[:-1] + bytes([hers[-1] ^ 1]))] * 20  # another's frame, forged
            storm += [encode(port, chance.randbytes(172)) for _ in range(200)]  # another's port
            storm += [encode(40000 + 2 * at, b"\x80" + chance.randbytes(171)) for at in range(128)]
            storm += [b"\xc0\x13\xc4" + bytes(5000) + b"\xc0", b"\xc0\x9c\x40\xdb\xc0"] * 20
            chance.shuffle(storm)
            before = count(at, "bad", 0), at.value("wisp_relays")
            await bob.cable.send_all(b"\xc0".join(storm))
            bob.cable.write(b"\xc0")
            for _ in range(5):
                await keep_alive(alice)
            said = alice.say(port, b"\x66")
            assert await phone(at).ear.hear(key_of(invite)) == said
            while not bob._queue.empty():
                bob._queue.get_nowait()
            await asyncio.sleep(0.3)
            while not bob._queue.empty():  # a stranger's REGISTERs and such are answered as anybody's
                bob._queue.get_nowait()
            bob.send_raw(bob.sender.seal(b""))
            assert await bob.frame() == b""
            assert (count(at, "bad", 0), at.value("wisp_relays")) == before
            assert count(at, "bad", 1) >= 40
            assert count(at, "stray", 1) > 200

    run(work)


def opened(link: Path) -> FileIO:
    """A console; reading and writing never wait."""
    return FileIO(os.open(link, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY), "r+b")


def mode_of(name: str) -> int:
    return stat.S_IMODE(Path(name).stat().st_mode)


def test_console(tmp_path: Path) -> None:
    """The text of a line at a pseudo-terminal of ours, and what is typed there on the line."""

    async def work() -> None:
        link = tmp_path / "a.example" / "run" / "alice"
        link.parent.mkdir(parents=True)
        link.symlink_to("/dev/pts/of-another-life")
        async with lined(tmp_path, "alice", more='console = "run/alice"') as (at, [alice]):
            assert link.is_symlink()
            name = str(link.readlink())
            assert mode_of(name) == 0o600
            alice.cable.write(b'{"event": "started"}\r\n')
            await keep_alive(alice)
            with opened(link) as console:
                assert console.read(100) == b'{"event": "started"}\r\n'
                console.write(b"call bob\xc0\x13\xc4\n\x03")
                alice.cable.write(b'{"even' + encode(40000, b"lost") + b't": 1}\r\n')
                await keep_alive(alice)
                assert console.read(100) == b'{"event": 1}\r\n'
            await until(lambda: alice.cable.text == b"call bob\n\x03")
            # Nobody reads: what is new is kept.
            await alice.cable.send_all(b"".join(b"line %d\r\n" % number for number in range(2000)))
            await keep_alive(alice)
            text = bytearray()
            with opened(link) as console:
                await until(lambda: text.__iadd__(console.read(4096) or b"").endswith(b"line 1999\r\n"))
            assert len(text) < 20000
            # Much is typed: it waits until there is room, and all of it arrives.
            alice.cable.text = b""
            pasted = b"".join(b"write %d\n" % number for number in range(3000))
            with opened(link) as console:
                rest = pasted
                while rest:
                    rest = rest[console.write(rest) or 0 :]
                    await asyncio.sleep(0.001)
                await until(lambda: not (len(alice.cable.text) < len(pasted)))
            assert alice.cable.text == pasted
        assert not link.is_symlink()
        del at

    run(work)


def test_console_in_the_way(tmp_path: Path) -> None:
    """A file of somebody's is not replaced."""

    async def work() -> None:
        kept = tmp_path / "a.example" / "notes"
        async with domain(tmp_path) as at:
            await at.stop()
            path = at.folder / "wisp.toml"
            text = path.read_text()
            path.write_text(text + "\n" + tables(tmp_path, 1, 'console = "notes"'))
            kept.write_text("mine")
            with pytest.raises(StartError, match=r"serial\[0\].console: notes: .*no symbolic link"):
                await at.start()
            path.write_text(text)
            await at.start()
        assert kept.read_text() == "mine"

    run(work)


def test_pyserial_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    async def work() -> None:
        with pytest.raises(StartError, match=r"serial\[0\]: pyserial is not installed: `pip install pyserial` helps"):
            async with domain(tmp_path, serial=f"[metrics]\n|{tables(tmp_path, 1)}[metrics]\n"):
                pass

    run(work)


class _Line:
    """A `SerialLine` alone, on a cable."""

    def __init__(self, folder: Path) -> None:
        self.cable = Cable(folder / "ttyW0")
        self.metrics = Metrics()
        self.received: list[bytes] = []
        config = SerialConfig(port=str(self.cable.link))
        self.line = SerialLine(config, None, lambda data, source, line: self.received.append(data), self.metrics)  # type: ignore[arg-type]
        self.task = asyncio.create_task(self.line.run())

    async def __aenter__(self) -> "_Line":
        await until(lambda: self.line.is_there)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)
        self.cable.unplug()

    def count(self, what: str) -> float:
        return self.metrics.value("wisp_serial_total", line=self.line.name, what=what)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_line_that_does_not_take_anything(tmp_path: Path, loop: str) -> None:
    """Its queue is bounded, media is given up first, and every packet goes out whole or not at all."""

    async def work() -> None:
        async with _Line(tmp_path) as one:
            line = one.line
            asyncio.get_running_loop().remove_reader(one.cable.end)
            sent = 0
            for _ in range(1000):
                sent += line.send_media(40000, bytes(180)) == ""
            assert 0 < sent < 1000
            assert line.send_media(40000, bytes(180)) == "full"
            frames = [bytes([at]) * 400 for at in range(1, 60)]
            for frame in frames:
                line.send(frame, line.peer)  # more room than media has, and bounded too
            assert len(line._waiting) <= 16384
            assert one.count("dropped") > 1000 - sent
            got: list[tuple[int, bytes]] = []
            one.cable.packets = lambda port, data: got.append((port, data))
            asyncio.get_running_loop().add_reader(one.cable.end, one.cable._read)
            await until(lambda: not (line._waiting))
            line.send(b"after", line.peer)
            await until(lambda: not (not got or got[-1] != (5060, b"after")))
            assert [part for part in got if part[0] == 40000] == [(40000, bytes(180))] * sent
            hop = [data for port, data in got if port == 5060]
            assert hop[:-1] == frames[: len(hop) - 1]
            assert len(got) == one.count("sent")
            assert one.cable.text == b""

    run(work, loop)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_hot_plug(tmp_path: Path, loop: str) -> None:
    async def work() -> None:
        async with _Line(tmp_path) as one:
            for number in range(2):
                one.cable.write(encode(5060, b"half")[:-2])  # what was begun is nobody's afterwards
                await asyncio.sleep(0.05)
                one.cable.unplug()
                await until(lambda: not (one.line.is_there))
                assert one.line.send_media(40000, b"x") == "unreachable"
                assert one.line.type(b"typed")
                with pytest.raises(FlowClosedError, match="not there"):
                    one.line.send(b"x", one.line.peer)
                one.cable.plug()
                await until(lambda: one.line.is_there)
                one.cable.write(encode(5060, b"whole"))
                await until(lambda wanted=number: len(one.received) > wanted)  # type: ignore[misc]
            assert one.received == [b"whole"] * 2
            assert one.metrics.value("wisp_serial_lines") == 1

    run(work, loop)


def test_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line that is not there is told of once, and not each second."""
    said: list[tuple[str, object]] = []

    class Log:
        def warning(self, event: str, **fields: object) -> None:
            said.append((event, fields["reason"]))

        def info(self, event: str, **fields: object) -> None:
            said.append((event, None))

    monkeypatch.setattr("neighbour.transport.serial._log", Log())
    monkeypatch.setattr("neighbour.transport.serial._AGAIN_S", 0.02)

    async def work() -> None:
        async with _Line(tmp_path) as one:
            one.cable.unplug()
            await asyncio.sleep(0.3)
            one.cable.plug()
            await until(lambda: one.line.is_there)
            # Another program, or another neighbour, wants it too.
            second = SerialLine(one.line._config, None, lambda *_: None, Metrics())  # type: ignore[arg-type]
            task = asyncio.create_task(second.run())
            await asyncio.sleep(0.2)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    run(work)
    assert said == [
        ("serial line there", None),
        ("serial line lost", "unplugged"),
        ("serial line not there", "not plugged in"),
        ("serial line there", None),
        ("serial line not there", "another program has it"),
    ]


def test_the_speed(tmp_path: Path) -> None:
    async def work() -> None:
        async with _Line(tmp_path) as one:
            _, _, control, local, _, speed, _ = termios.tcgetattr(one.line._fd)
            assert speed == termios.B921600
            assert not local & (termios.ECHO | termios.ICANON | termios.ISIG)
            assert control & termios.CS8

    run(work)


def test_ports_of_a_line(tmp_path: Path) -> None:
    """All are had, none twice, and who gives one back does not get it at once."""

    async def work() -> None:
        async with _Line(tmp_path) as one:
            line, heard = one.line, []
            taken = [line.listen(heard.append, heard.append) for _ in range(128)]
            assert sorted(taken) == list(range(40000, 40256, 2))
            assert line.listen(heard.append, heard.append) == 0
            line.forget(40010)
            assert line.listen(heard.append, heard.append) == 40010
            line.forget(40020)
            line.forget(40200)
            assert line.listen(heard.append, heard.append) == 40020
            one.cable.write(encode(40020, b"a") + encode(40021, b"b") + encode(40200, b"c"))
            await until(lambda: not (one.count("stray") < 1))
            assert heard == [b"a", b"b"]

    run(work)


def test_flow(tmp_path: Path) -> None:
    async def work() -> None:
        async with _Line(tmp_path) as one:
            flow = one.line.flow(("198.51.100.1", 9))
            assert isinstance(flow, SerialFlow)
            assert flow.host == LINE_HOST
            assert flow.to(("198.51.100.1", 9)) is flow
            assert flow.token == b""
            assert flow.line is one.line
            assert not flow.identities
            with pytest.raises(FlowClosedError, match="1501 bytes"):
                flow.send(bytes(MAX_DATAGRAM_BYTES + 1))

    run(work)


@pytest.mark.parametrize(
    ("port", "name"),
    [
        ("/dev/ttyUSB0", "dev-ttyUSB0"),
        (
            "/dev/serial/by-path/pci-0000:00:14.0-usb-0:1:1.0-port0",
            "dev-serial-by-path-pci-0000-00-14.0-usb-0-1-1.0-port0",
        ),
        ("COM3", "COM3"),
    ],
)
def test_names(port: str, name: str) -> None:
    assert SerialConfig(port=port).name == name
