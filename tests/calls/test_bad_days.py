"""Bad input and bad days: what must not happen to a call, a registration or a promise."""

import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator

import pytest

from calls.conftest import connect, hang_up, make_terminal
from lab import sound
from lab.lab import Lab
from lab.processes import Terminal


def two_terminals(lab: Lab, **settings: object) -> tuple[Terminal, Terminal]:
    """Alice of a.example and Bob of b.example, registered."""
    lab.make_domains("a.example", "b.example")
    paths = [
        make_terminal(lab, "a.example", "alice", 440, **settings),
        make_terminal(lab, "b.example", "bob", 1000, **settings),
    ]
    for domain in ("a.example", "b.example"):
        lab.start_neighbour(domain)
    alice, bob = (lab.start_terminal(path) for path in paths)
    for one in (alice, bob):
        one.wait_for("registered", 20)
    return alice, bob


def address_of(terminal: Terminal) -> str:
    address: str = json.loads(terminal.configuration.read_text())["board"]["address"]
    return address


def junk(rng: random.Random) -> bytes:
    """A datagram that nobody wants: noise, half a message, a forged frame, RTP without SRTP."""
    kind = rng.randrange(6)
    noise = rng.randbytes(rng.randrange(1, 400))
    if kind == 0:
        return noise
    if kind == 1:
        return b"\xe1" + noise
    if kind == 2:
        return b"\x80\x00" + rng.randbytes(170)
    text = (
        b"INVITE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK%d\r\nFrom: <sip:x@y>;tag=1\r\n"
        b"To: <sip:bob@b.example>\r\nCall-ID: %d\r\nCSeq: 1 INVITE\r\nContent-Length: 0\r\n\r\n"
    ) % (rng.getrandbits(32), rng.getrandbits(32))
    if kind == 3:
        return text[: rng.randrange(len(text))]
    if kind == 4:
        at = rng.randrange(len(text))
        return text[:at] + bytes([rng.randrange(256)]) + text[at + 1 :]
    return b"SIP/2.0 %d Forged\r\n" % rng.randrange(100, 700) + text.split(b"\r\n", 1)[1]


def test_flood_of_junk_harms_no_call(lab: Lab) -> None:
    """Thousands of bad datagrams at every socket while a call goes on: not one sample is lost."""
    alice, bob = two_terminals(lab)
    neighbours = [process for process in lab.processes if not isinstance(process, Terminal)]
    connect(alice, bob)
    rng = random.Random(20260)
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    targets = [(address_of(one), port) for one in (alice, bob) for port in (5060, 40000)]
    targets += [(lab_address(lab, domain), 5060) for domain in ("a.example", "b.example")]
    end = time.monotonic() + 3.2
    sent = 0
    while time.monotonic() < end:
        for target in targets:
            sock.sendto(junk(rng), target)
            sent += 1
        time.sleep(0.01)
    sock.close()
    ended = hang_up(alice, bob)
    assert sent > 1000
    for sender, listener in ((alice, bob), (bob, alice)):
        heard = sound.compare(sender.microphone, listener.speaker)
        assert heard.is_equal, heard
    for one in ended:
        assert one["media"]["rejected"] > 50
        assert one["media"]["lost"] == 0
    assert all(process.is_running for process in [*neighbours, alice, bob])
    connect(bob, alice)
    hang_up(bob, alice)


def lab_address(lab: Lab, domain: str) -> str:
    text = lab.configuration(domain).read_text()
    return text.split('address = "')[1].split('"')[0]


def test_wrong_secret(lab: Lab) -> None:
    """It is told, counted by back-off and not by a storm; the right one works at once."""
    lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice")
    neighbour = lab.start_neighbour("a.example")
    good = path.read_text()
    values = json.loads(good)
    values["ha1"] = "0" * 64
    path.write_text(json.dumps(values))
    alice = lab.start_terminal(path)
    assert alice.wait_for("unregistered", 20)["reason"] == "401"
    alice.wait_for("unregistered", 20, since=len(alice.lines))
    alice.kill()
    neighbour.read()
    registers = [line for line in neighbour.lines if line["event"].startswith("< REGISTER")]
    assert len(registers) == 4
    path.write_text(good)
    alice = lab.start_terminal(path)
    alice.wait_for("registered", 5)


def test_neighbour_killed_in_a_call(lab: Lab) -> None:
    """Killed by -9 and started again: speech goes on, and both are reachable without registering again."""
    alice, bob = two_terminals(lab)
    left = next(process for process in lab.processes if process.name == "a.example")
    connect(alice, bob)
    time.sleep(0.5)
    left.kill()
    time.sleep(0.5)
    lab.start_neighbour("a.example")
    time.sleep(2.2)
    # The BYE finds its way through a neighbour that never saw the INVITE.
    ended = hang_up(bob, alice)
    assert [one["media"]["lost"] for one in ended] == [0, 0]
    heard = sound.compare(alice.microphone, bob.speaker)
    assert heard.is_equal, heard
    connect(bob, alice)
    hang_up(alice, bob)
    connect(alice, bob)
    hang_up(alice, bob)
    for one in (alice, bob):
        assert [line["event"] for line in one.lines].count("registered") == 1
        assert "unregistered" not in [line["event"] for line in one.lines]


def test_what_was_answered_200_survives_kill_9(lab: Lab) -> None:
    lab.make_domains("a.example", "b.example")
    paths = [make_terminal(lab, "a.example", f"user{i}") for i in range(4)]
    bob_path = make_terminal(lab, "b.example", "bob")
    neighbour = lab.start_neighbour("a.example")
    lab.start_neighbour("b.example")
    bob = lab.start_terminal(bob_path)
    terminals = [lab.start_terminal(path) for path in paths]
    terminals[-1].wait_for("registered", 20)
    neighbour.kill()
    registered = []
    for one in terminals:
        one.read()
        if any(line["event"] == "registered" for line in one.lines):
            registered.append(one)
    assert terminals[-1] in registered
    bob.wait_for("registered", 20)
    lab.start_neighbour("a.example")
    for one in registered:
        connect(bob, one)
        hang_up(bob, one)
        assert [line["event"] for line in one.lines].count("registered") == 1


def test_power_cut_of_a_terminal(lab: Lab) -> None:
    alice, bob = two_terminals(lab)
    connect(alice, bob)
    alice.kill()
    lab.processes.remove(alice)
    again = lab.start_terminal(alice.configuration)
    again.wait_for("registered", 10)
    # Bob still thinks that he talks; when he hangs up, nobody answers for that call, and he can be called again.
    mark = len(bob.lines)
    bob.send("hangup")
    bob.wait_for("ended", since=mark)
    connect(again, bob)
    hang_up(again, bob)


def test_neighbour_gone_and_back_with_nothing(lab: Lab) -> None:
    """The neighbour loses its whole store: the terminal notices, backs off, and registers anew by itself."""
    lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice", keepalive_s=1)
    neighbour = lab.start_neighbour("a.example")
    alice = lab.start_terminal(path)
    alice.wait_for("registered", 20)
    store = lab.folder / "a.example" / "wisp.db"
    neighbour.kill()
    lost = alice.wait_for("unregistered", 20)
    assert lost["reason"] == "neighbour lost"
    from sqlalchemy import create_engine, text

    engine = create_engine(f"sqlite:///{store}")
    with engine.begin() as connection:
        for table in ("agreements", "bindings"):
            connection.execute(text(f"DELETE FROM {table}"))
    engine.dispose()
    lab.start_neighbour("a.example")
    alice.wait_for("registered", 60, since=alice.lines.index(lost))


class Loss(threading.Thread):
    """A relay on the hop that loses a part of all datagrams, both ways."""

    def __init__(self, own: str, neighbour: str, part: float, seed: int) -> None:
        super().__init__(daemon=True)
        self._rng = random.Random(seed)
        self._part = part
        self._front = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._front.bind((own, 5060))
        self._back = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._back.bind((own, 5062))
        self._neighbour = (neighbour, 5060)
        self._terminal: tuple[str, int] | None = None
        self._stopped = threading.Event()
        self.passed = self.lost = 0

    def run(self) -> None:
        import select

        while not self._stopped.is_set():
            for ready in select.select([self._front, self._back], [], [], 0.1)[0]:
                data, source = ready.recvfrom(65536)
                if ready is self._front:
                    self._terminal = source
                if self._rng.random() < self._part:
                    self.lost += 1
                    continue
                self.passed += 1
                if ready is self._front:
                    self._back.sendto(data, self._neighbour)
                elif self._terminal is not None:
                    self._front.sendto(data, self._terminal)

    def stop(self) -> None:
        self._stopped.set()
        self.join()
        self._front.close()
        self._back.close()


@pytest.fixture
def losses() -> Iterator[list[Loss]]:
    made: list[Loss] = []
    yield made
    for one in made:
        one.stop()


def test_twenty_percent_loss_on_the_hop(lab: Lab, losses: list[Loss]) -> None:
    addresses = lab.make_domains("a.example", "b.example")
    paths = []
    for domain, user, hertz in (("a.example", "alice", 440), ("b.example", "bob", 1000)):
        own = lab.next_address()
        losses.append(Loss(own, addresses[domain], 0.2, 7 + len(losses)))
        losses[-1].start()
        paths.append(make_terminal(lab, domain, user, hertz, neighbour=f"{own}:5060"))
    for domain in addresses:
        lab.start_neighbour(domain)
    alice, bob = (lab.start_terminal(path) for path in paths)
    for one in (alice, bob):
        one.wait_for("registered", 60)
    for _ in range(5):
        connect(alice, bob, 30)
        hang_up(bob, alice, 40)
    assert min(one.lost for one in losses) >= 5


def test_out_of_order_files(lab: Lab) -> None:
    """A configuration that can't be used is told as an event, and the process ends."""
    lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice")
    values = json.loads(path.read_text())
    for change, reason in (
        ({"ha1": "x"}, "ha1: 64 lower-case hex digits wanted"),
        ({"neighbour": "nowhere"}, "neighbour: host:port wanted"),
        ({"colour": "red"}, "colour: unknown"),
        ({"sip_port": "5060"}, "sip_port: wrong type"),
        ({"codecs": ["OPUS"]}, "codecs: PCMU and PCMA are known"),
    ):
        path.write_text(json.dumps({**values, **change}))
        os.truncate(path.with_suffix(".events"), 0) if path.with_suffix(".events").exists() else None
        alice = lab.start_terminal(path)
        assert alice.wait_until(lambda one=alice: one.lines, "an event")[0] == {"event": "error", "reason": reason}


def test_speech_survives_a_stalled_terminal(lab: Lab) -> None:
    """A terminal that stands still for a while sends no burst afterwards, and the call goes on."""
    import signal

    alice, bob = two_terminals(lab)
    connect(alice, bob)
    time.sleep(0.3)
    os.kill(alice.pid, signal.SIGSTOP)
    time.sleep(0.8)
    os.kill(alice.pid, signal.SIGCONT)
    time.sleep(0.5)
    ended = hang_up(bob, alice)
    assert ended[1]["media"]["sent"] < 60
    assert ended[0]["media"]["lost"] == 0
