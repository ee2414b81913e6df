"""Every case of PROTOS c07-sip at a running neighbour: from strangers, and in the frames of a terminal.

The neighbour is a process of its own. No case may end it, make it slow or make it grow, and after each the next good
request is answered. A case counts as slow by the processor time it takes; on a busy machine others only wait.
"""

import asyncio
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from sip import Domain, Hopper, StreamClient, UdpClient, answer, call, in_dialog, request, signed

from lab.lab import Lab
from lab.processes import Neighbour
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store, migrate
from sipwire.errors import ParseError
from sipwire.hop import OVERHEAD_BYTES
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for, client_key
from torture.messages import Protos, protos
from torture.watching import LIMIT_MS, Costs, memory_kib

NAME = "a.example"
MAX_DATAGRAM_BYTES = 65507
GROWTH_KIB = 2048  # from one pass over all cases to the next: less than 700 bytes for each
MOST_PASSES = 9  # over cases that bring nothing new
DRAIN_S = 45.0  # transactions live for 32 s
EVERY = 250  # cases between two good calls
STEP_S = 20.0  # for one case on the busiest of machines; what takes longer hangs


class Place(Domain):
    """A neighbour that runs as a process of its own."""

    process: Neighbour

    @classmethod
    @asynccontextmanager
    async def start_process(cls, folder: Path, level: str) -> AsyncIterator["Place"]:
        with Lab(folder) as lab:
            place = cls(lab, NAME, lab.make_domains(NAME)[NAME])
            lab.change(NAME, 'level = "debug"', f'level = "{level}"')
            lab.change(NAME, '# listen = "127.0.0.1:9464"', f'listen = "{place.address}:9464"')
            for key in ("stranger_rate", "stranger_burst", "user_rate", "user_burst"):
                lab.configure(NAME, key, "1000000")
            lab.configure(NAME, "delay_ms", "10000")
            url = load(place.folder / "wisp.toml").store_url
            await asyncio.to_thread(migrate, url)
            store = Store(url)
            await store.open()
            for user in ("alice", "bob", "dave", "erin"):
                await add_account(store, NAME, user, "secret", is_terminal=user == "alice")
            await store.close()
            place.process = lab.start_neighbour(NAME)
            try:
                yield place
            finally:
                for client in place.clients:
                    client.close()

    def value(self, name: str, **labels: str) -> float:
        del labels
        with urllib.request.urlopen(f"http://{self.address}:9464/metrics", timeout=20) as told:
            lines = told.read().decode().splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.partition("{")[0].partition(" ")[0] == name)

    async def drained(self) -> int:
        """Wait until no transaction lives, and return the memory then, in KiB."""
        end = asyncio.get_running_loop().time() + DRAIN_S
        while await asyncio.to_thread(self.value, "wisp_transactions"):
            assert asyncio.get_running_loop().time() < end, "transactions live on"
            await asyncio.sleep(0.5)
        return memory_kib(self.process.pid)

    def check_logs(self) -> None:
        """Nothing went wrong that it did not expect."""
        assert self.process.is_running
        text = self.process.output.read_text(errors="replace")
        assert "Traceback" not in text, text[text.find("Traceback") :][:2000]
        assert '"level": "error"' not in text


class Speaker(UdpClient):
    """Sends cases, and takes what is answered."""

    number = 0

    async def probe(self) -> list[bytes]:
        """A good request; returns what was answered before its answer came."""
        Speaker.number += 1
        made = request("OPTIONS", f"sip:{NAME}", "stranger", "elsewhere.example", call_id=f"probe{Speaker.number}")
        self.send(made)
        told = []
        while True:
            data = await self.raw(STEP_S)
            if b"probe%d\r\n" % Speaker.number in data:
                assert data.startswith(b"SIP/2.0 403 ")
                return told
            told.append(data)


async def good_call(dave: UdpClient, erin: UdpClient) -> None:
    invite = await call(dave, "dave", f"sip:erin@{NAME}")
    got = await erin.request("INVITE", STEP_S)
    erin.send(answer(got, 200, erin.contact))
    ok = await dave.response(STEP_S)
    assert ok.status == 200
    dave.send(in_dialog("ACK", ok, dave.contact, invite.cseq.number, invite))
    await erin.request("ACK", STEP_S)
    dave.send(in_dialog("BYE", ok, dave.contact, invite.cseq.number + 1, invite))
    erin.send((await erin.request("BYE", STEP_S)).response(200, "OK"))
    assert (await dave.response(STEP_S)).status == 200


async def phones(at: Place) -> tuple[UdpClient, UdpClient]:
    dave, erin = await UdpClient.open(at), await UdpClient.open(at)
    await dave.register(at, "dave")
    await erin.register(at, "erin")
    return dave, erin


def refusal(data: bytes) -> int:
    """The status of an answer to a stranger's case: it is refused, whatever it was."""
    assert data.startswith(b"SIP/2.0 "), data[:100]
    status = int(data[8:11])
    assert 400 <= status < 600, data[:100]
    return status


def test_from_strangers(tmp_path: Path) -> None:
    """Each case as a datagram, or on a connection where it is too large for one; with the log of every message."""

    async def work() -> None:
        async with Place.start_process(tmp_path, "debug") as at:
            dave, erin = await phones(at)
            stranger = await Speaker.open(at)
            assert isinstance(stranger, Speaker)
            host = stranger.address[0]
            port = str(stranger.address[1])
            statuses: dict[int, int] = {}
            sizes = []
            # A user of another domain, a phone and a terminal of ours: each is somebody else's pretence. Then more that
            # bring nothing new, until memory is at rest: what is allocated and freed leaves gaps for a while.
            mallory = "mallory@elsewhere.example"
            for user in (f"dave@{NAME}", f"alice@{NAME}", *[mallory] * MOST_PASSES):
                if len(sizes) > 3 and sizes[-1] - sizes[-2] < GROWTH_KIB:
                    break
                costs = Costs(at.process.pid)
                for i, case in enumerate(protos(From_Address=host, From_IP=host, Local_Port=port, From=user)):
                    for _ in range(2):
                        costs.begin()
                        told = await one_case(at, stranger, case)
                        if costs.end():
                            break
                    else:
                        raise AssertionError(f"case {case.number} ({case.group}): {costs.ms[-1]:.0f} ms")
                    for data in told:
                        statuses[refusal(data)] = statuses.get(refusal(data), 0) + 1
                    if i % EVERY == 0:
                        await good_call(dave, erin)
                sizes.append(memory_kib(at.process.pid))
                print(f"strangers: {costs}; {sizes[-1]} KiB; {statuses}")
            else:
                raise AssertionError(f"memory grows with every pass: {sizes}")
            at.check_logs()
            assert min(statuses[status] for status in (403, 407, 494, 400, 513)) > 500, statuses

    asyncio.run(work())


async def one_case(at: Place, stranger: Speaker, case: Protos) -> list[bytes]:
    told = []
    for data in (case.invite, case.teardown):
        if len(data) <= MAX_DATAGRAM_BYTES:
            stranger.send_raw(data)
        else:
            told += await on_a_connection(at, data)
    return told + await stranger.probe()


async def on_a_connection(at: Place, data: bytes) -> list[bytes]:
    """What is answered on a connection until it is closed, or to what comes after the case."""
    client = await StreamClient.open(at)
    client.send_raw(data)
    client.send(request("OPTIONS", f"sip:{NAME}", "stranger", "elsewhere.example", call_id="after"))
    told: list[bytes] = []
    closed = asyncio.create_task(client.closed.wait())
    while not (told and b"after" in told[-1]):
        got = asyncio.create_task(client.raw(STEP_S))
        await asyncio.wait({closed, got}, return_when=asyncio.FIRST_COMPLETED)
        if not got.done():
            got.cancel()
            break
        told.append(await got)
    closed.cancel()
    client.close()
    at.clients.remove(client)
    return [data for data in told if b"after" not in data]


class Bob(StreamClient):
    """A phone on a connection: what is forwarded to it has to be a message, and end where it ends."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.forwarded = 0
        self.refused: list[bytes] = []

    async def serve(self) -> None:
        """Be busy."""
        while True:
            data = await self.raw(3600)
            try:
                message = parse(data)
            except ParseError as error:
                self.refused.append(error.reason.encode() + b": " + data[:500])
                continue
            if isinstance(message, Request):
                self.forwarded += 1
                if message.method != "ACK":
                    self.send(message.response(200 if message.method == "CANCEL" else 486, "Busy", b"bob"))


class Alice(Hopper):
    """A terminal that sends cases in frames."""

    number = 0

    def __init__(self) -> None:
        super().__init__()
        self._invites: dict[bytes, Request] = {}

    async def exchange(self, case: Protos, number: int) -> list[Response]:
        """Send a case and a good request; returns the answers to the case."""
        for data in (case.invite, case.teardown):
            if len(data) > MAX_DATAGRAM_BYTES - OVERHEAD_BYTES:
                continue
            assert self.sender is not None
            with suppress(ParseError):
                sent = parse(data)
                if isinstance(sent, Request) and sent.method == "INVITE":
                    self._invites[client_key(sent)] = sent
            self.send_raw(self.sender.seal(data))
        Alice.number += 1
        probe = f"probe{number}-{Alice.number}"
        self.send_frame(request("OPTIONS", f"sip:{NAME}", "alice", call_id=probe))
        answers = []
        while True:
            data = await self.frame(STEP_S)
            told = read_answer(data)
            if told is None:
                continue
            if told.call_id == probe.encode():
                assert told.status == 200
                break
            answers.append(told)
            # It may be that of an earlier case.
            if told.status >= 200 and told.cseq.method == "INVITE" and client_key(told) in self._invites:
                self.send_frame(ack_for(self._invites[client_key(told)], told))
        return answers


def read_answer(data: bytes) -> Response | None:
    """An answer; what repeats a malformed request need not be well-formed itself."""
    try:
        told = parse(data)
    except ParseError:
        assert data.startswith((b"SIP/2.0 400 ", b"SIP/2.0 505 ", b"SIP/2.0 513 ")), data[:100]
        return None
    assert isinstance(told, Response)
    return told


def test_in_frames(tmp_path: Path) -> None:
    """Each case from a terminal, to a phone on a connection: what is forwarded there is well-formed."""

    async def work() -> None:
        async with Place.start_process(tmp_path, "info") as at:
            dave, erin = await phones(at)
            bob = await Bob.open(at)
            assert isinstance(bob, Bob)
            made = request("REGISTER", f"sip:{NAME}", "bob", to=f"sip:bob@{NAME}", contact="sip:bob@192.0.2.9")
            response = await bob.ask(signed(made, await bob.ask(made), "bob", "secret"))
            assert response.status == 200
            busy = asyncio.create_task(bob.serve())
            alice = await Alice.open(at)
            assert isinstance(alice, Alice)
            await alice.join(at)  # type: ignore[arg-type]
            sizes = []
            for turn in range(3):  # the first fills what is remembered
                costs = Costs(at.process.pid)
                statuses: dict[int, int] = {}
                cases = protos(From_Address=alice.address[0], From_IP=alice.address[0], Call_ID=f"turn{turn}-%d",
                               Branch_ID=f"turn{turn}-%d")  # fmt: skip
                for i, case in enumerate(cases):
                    for _ in range(2):
                        costs.begin()
                        for told in await alice.exchange(case, i):
                            statuses[told.status] = statuses.get(told.status, 0) + 1
                        if costs.end():
                            break
                    else:
                        raise AssertionError(f"case {case.number} ({case.group}): {costs.ms[-1]:.0f} ms > {LIMIT_MS}")
                    if i % EVERY == 0:
                        await good_call(dave, erin)
                sizes.append(await at.drained() if turn else 0)
                print(f"in frames: {costs}; {sizes[-1]} KiB; {bob.forwarded} forwarded; {statuses}")
            at.check_logs()
            busy.cancel()
            assert not bob.refused, bob.refused[:3]
            assert bob.forwarded > 3000
            assert not bob.closed.is_set()
            assert statuses[486] > 500
            assert statuses[400] > 100
            assert sizes[-1] - sizes[-2] < GROWTH_KIB, sizes

    asyncio.run(work())


def test_the_cases_are_read_as_they_are_meant() -> None:
    found = {case.number: case for case in protos()}
    assert len(found) > 3000
    first = found[0]
    assert isinstance(parse(first.invite), Request)
    assert isinstance(parse(first.teardown), Request)
    assert first.group == "valid"
    assert b"<" not in first.invite.replace(b"<sip:", b"")
    assert len({case.group for case in found.values()}) > 50
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WISP_CORPORA", "/nowhere")
        with pytest.raises(pytest.skip.Exception, match="PROTOS is not in /nowhere/protos"):
            next(protos())
