"""Calls between terminals of two domains at heavy: their neighbours do it all, and the terminals notice next to nothing."""

import contextlib
import json
import os
import re
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks.middle import BACK, FORTH, Middle
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from calls.conftest import connect, hang_up, make_terminal
from calls.test_changes import starved
from calls.wiretap import FROM, TO, Heard, Wiretap
from lab import ladder, sound
from lab.lab import Lab
from lab.processes import Neighbour, Terminal
from neighbour.agent.keyring import names_it
from sipwire.message import Request, Response

DOMAINS = ("a.example", "b.example")
_METRICS_PORT = 9464
_OPERATIONS = ("sign", "encrypt", "decrypt", "verify")
_SETTLE_S = 0.5  # what is under way has ended, and what is kept for 32 s is still there
_BEFORE_START_S = 6  # of a neighbour: more than it grants to other clocks
_STATUS_MORE_BYTES = 64  # that the header says more of at heavy
_HEAP_MORE_BYTES = 1024
_AGENT_FILES = {".lock", "@agent.pem", "@agent.key"}


class Pair:
    """Alice of a.example and Bob of b.example, registered, and their neighbours.

    Args:
        lab: an empty lab.
        relayed: whether somebody listens on both hops.
        keyed: whether their terminals keep setup keys; else every call is as the first.
        settings: more keys of their configuration.
    """

    def __init__(self, lab: Lab, *, relayed: bool = False, keyed: bool = False, **settings: object) -> None:
        self.lab = lab
        self.addresses = lab.make_domains(*DOMAINS)
        self.neighbours: dict[str, Neighbour] = {}
        self.relays = {domain: lab.next_address() for domain in DOMAINS} if relayed else {}
        self.files = {}
        for domain, user, hertz in (("a.example", "alice", 440), ("b.example", "bob", 1000)):
            more = dict(settings)
            if relayed:
                more["neighbour"] = f"{self.relays[domain]}:5060"
            if not keyed:
                more["setup"] = {"life_s": 0}
            self.files[domain] = make_terminal(lab, domain, user, hertz, **more)
            lab.change(
                domain,
                f'# listen = "127.0.0.1:{_METRICS_PORT}"',
                f'listen = "{self.addresses[domain]}:{_METRICS_PORT}"',
            )

    def set_level(self, level: str) -> None:
        for domain in DOMAINS:
            self.lab.change(domain, '# level = "medium"', f'level = "{level}"')

    def start(self) -> tuple[Terminal, Terminal]:
        for domain in DOMAINS:
            self.start_neighbour(domain)
        alice, bob = (self.lab.start_terminal(path) for path in self.files.values())
        for one in (alice, bob):
            one.wait_for("registered", 20)
        return alice, bob

    def start_neighbour(self, domain: str) -> None:
        self.neighbours[domain] = self.lab.start_neighbour(domain)

    def stop_neighbour(self, domain: str, *, at_once: bool = False) -> None:
        neighbour = self.neighbours.pop(domain)
        if at_once:
            neighbour.kill()
        else:
            neighbour.stop()
        self.lab.processes.remove(neighbour)

    def counts(self, domain: str) -> dict[str, int]:
        """The asymmetric operations of a neighbour since its start."""
        url = f"http://{self.addresses[domain]}:{_METRICS_PORT}/metrics"
        with urllib.request.urlopen(url, timeout=10) as answer:
            text = answer.read().decode()
        found = re.findall(r'^wisp_asymmetric_total\{operation="(\w+)"\} ([0-9.]+)$', text, re.MULTILINE)
        return {operation: int(float(value)) for operation, value in found}

    def check_counts(self, *wanted: dict[str, int]) -> None:
        """So many there are when what is under way has ended: a terminal tells of a hold before its answer has gone."""
        end = time.monotonic() + 10
        while (found := tuple(self.counts(domain) for domain in DOMAINS)) != wanted:
            assert time.monotonic() < end, found
            time.sleep(0.05)

    def folder(self, domain: str) -> Path:
        return self.lab.folder / domain / "certificates"

    def check_certificates(self, domain: str, user: str) -> bytes:
        """A user's and the domain's are whole, theirs, of the lab's authority, and for their neighbour alone.

        Returns:
            What tells them from others.
        """
        folder = self.folder(domain)
        assert {one.name for one in folder.iterdir()} == _AGENT_FILES | {f"{user}.pem", f"{user}.key"}
        assert folder.stat().st_mode & 0o777 == 0o700
        issuer = x509.load_pem_x509_certificate((self.lab.folder / "ca" / "intermediate.pem").read_bytes())
        told = b""
        for name, aor in ((user, f"sip:{user}@{domain}"), ("@agent", f"sip:{domain}")):
            data = (folder / f"{name}.key").read_bytes()
            key = load_pem_private_key(data, None)
            assert (folder / f"{name}.key").stat().st_mode & 0o777 == 0o600
            certificate = x509.load_pem_x509_certificates((folder / f"{name}.pem").read_bytes())[0]
            assert certificate.public_key() == key.public_key()
            assert names_it(certificate, aor)
            certificate.verify_directly_issued_by(issuer)
            # Whatever the neighbour logs, keys are not in it.
            log = (self.lab.folder / domain / "neighbour.log").read_bytes()
            secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).splitlines()[1]
            assert secret in data
            assert secret not in log
            told += certificate.public_bytes(Encoding.DER)
        return told


def operations(each: int) -> dict[str, int]:
    """So many of each kind."""
    return dict.fromkeys(_OPERATIONS, each)


def change(sender: Terminal, listener: Terminal, command: str) -> None:
    """Hold or resume, until both know it."""
    is_held = command == "hold"
    marks = [len(one.lines) for one in (sender, listener)]
    told: list[dict[str, object]] = []

    def is_done() -> bool:
        told[:] = [one for one in sender.lines[marks[0] :] if one["event"] in ("hold", "refused")]
        return bool(told)

    sender.send(command)
    while sender.wait_until(is_done, command) and told[-1]["event"] == "refused":
        assert told[-1]["reason"] == "busy"  # with the end of the change before, which it has told already
        time.sleep(0.1)
        marks[0] = len(sender.lines)
        sender.send(command)
    assert (told[-1]["local"], told[-1]["remote"]) == (is_held, False)
    listener.wait_for("hold", since=marks[1], local=False, remote=is_held)


def write(sender: Terminal, listener: Terminal, text: str) -> None:
    """A text, until it is known to have come."""
    marks = [len(one.lines) for one in (sender, listener)]
    sender.send(f"message {listener.aor} {text}")
    came = listener.wait_for("message", since=marks[1])
    assert (came["peer"], came["text"]) == (sender.aor, text)
    sender.wait_for("sent", since=marks[0], peer=listener.aor)


def check_heard(sender: Terminal, listener: Terminal) -> None:
    heard = sound.compare(sender.microphone, listener.speaker)
    assert heard.is_equal, heard


def test_calls_with_speech_hold_and_text(lab: Lab) -> None:
    """What is signed, encrypted, decrypted and verified for it: once for each body each way, and nothing else."""
    pair = Pair(lab)
    pair.set_level("heavy")
    alice, bob = pair.start()
    assert {one.name for one in pair.folder("a.example").iterdir()} == _AGENT_FILES  # Alice's is made when it is used
    pair.check_counts(operations(0), operations(0))
    connect(alice, bob)
    pair.check_counts(operations(1), operations(1))
    made = [pair.check_certificates(domain, user) for domain, user in zip(DOMAINS, ("alice", "bob"), strict=True)]
    time.sleep(3.4)
    change(bob, alice, "hold")
    pair.check_counts(operations(2), operations(2))
    change(bob, alice, "resume")
    pair.check_counts(operations(3), operations(3))
    write(alice, bob, "Grüße, versiegelt")
    sent, came = {"sign": 4, "encrypt": 4}, {"decrypt": 4, "verify": 4}
    pair.check_counts(operations(3) | sent, operations(3) | came)
    for ended in hang_up(bob, alice):
        assert (ended["media"]["rejected"], ended["media"]["lost"]) == (0, 0)
    check_heard(alice, bob)
    check_heard(bob, alice)
    # BYE has no body; the second call costs what the first has cost.
    pair.check_counts(operations(3) | sent, operations(3) | came)
    connect(bob, alice)
    hang_up(alice, bob)
    sent, came = {"sign": 5, "encrypt": 5}, {"decrypt": 5, "verify": 5}
    pair.check_counts(operations(4) | sent, operations(4) | came)
    assert made == [
        pair.check_certificates(domain, user) for domain, user in zip(DOMAINS, ("alice", "bob"), strict=True)
    ]
    for one in pair.neighbours.values():
        one.read()
    found = ladder.steps(*(pair.neighbours[domain].lines for domain in DOMAINS))
    assert ladder.ways(found) == ["frame", "TLS, S/MIME", "frame"]
    assert starved(alice, bob) == []
    assert [one.status()["malformed"] for one in (alice, bob)] == [0, 0]


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_neighbour_starts_again_between_calls(lab: Lab, domain: str) -> None:
    """With the certificates that it had, and with what the other has learnt of it."""
    pair = Pair(lab)
    pair.set_level("heavy")
    alice, bob = pair.start()
    connect(alice, bob)
    hang_up(alice, bob)
    user = {"a.example": "alice", "b.example": "bob"}[domain]
    made = pair.check_certificates(domain, user)
    pair.stop_neighbour(domain)
    pair.start_neighbour(domain)
    other = next(one for one in DOMAINS if one != domain)
    connect(alice, bob)
    again = {domain: operations(1), other: operations(2)}
    pair.check_counts(*(again[one] for one in DOMAINS))
    hang_up(bob, alice)
    connect(bob, alice)
    again = {domain: operations(2), other: operations(3)}
    pair.check_counts(*(again[one] for one in DOMAINS))
    hang_up(alice, bob)
    assert pair.check_certificates(domain, user) == made
    for one in (alice, bob):
        assert [line["event"] for line in one.lines].count("registered") == 1


def replayed(message: Request) -> Request:
    """The same, in a transaction of its own."""
    message = message.copy()
    message.set("Via", b"SIP/2.0/TLS a.example;branch=z9hG4bK%s" % os.urandom(8).hex().encode())
    return message


def test_replays_before_and_after_a_restart(lab: Lab) -> None:
    """Somebody between the neighbours with the keys of both trunks: nothing of it reaches the terminal twice."""
    pair = Pair(lab)
    pair.set_level("heavy")
    between = lab.next_address()
    lab.change("a.example", f'"{pair.addresses["b.example"]}:5061"', f'"{between}:5061"')
    keys = {name: (lab.folder / name / f"{name}.pem", lab.folder / name / f"{name}.key") for name in DOMAINS}
    root = lab.folder / "ca" / "root.pem"
    with Middle(between, pair.addresses["b.example"], keys["b.example"], keys["a.example"], root) as middle:
        alice, bob = pair.start()

        def again(caught: Request, reason: str) -> None:
            mark = len(bob.lines)
            repeated = replayed(caught)
            middle.send(repeated)

            def refusal() -> Response | None:
                for way, one in middle.seen:
                    if way == BACK and isinstance(one, Response) and one.via.branch == repeated.via.branch:
                        return one if one.status >= 200 else None
                return None

            refused = bob.wait_until(refusal, "a refusal")
            assert (refused.status, refused.get("warning")) == (403, f'399 b.example "{reason}"'.encode())
            time.sleep(0.2)
            bob.read()
            assert bob.lines[mark:] == []

        connect(alice, bob)
        write(alice, bob, "once")
        hang_up(alice, bob)
        caught = {one.method: one for way, one in middle.seen if way == FORTH and isinstance(one, Request) and one.body}
        assert set(caught) == {"INVITE", "MESSAGE"}
        for one in caught.values():
            again(one, "replayed: this message was here before")
        pair.stop_neighbour("b.example", at_once=True)
        time.sleep(_BEFORE_START_S)
        pair.start_neighbour("b.example")
        write(alice, bob, "after the restart")
        for one in caught.values():
            again(one, "Date is before our start; send it anew")
        connect(alice, bob)
        hang_up(bob, alice)


@dataclass
class Cost:
    """What a terminal has sent and got, and what it held meanwhile.

    Attributes:
        heard: messages of its hop.
        heap_bytes: that lived, stage by stage.
        setup_ms: of the calls, in the neighbours: both ways, from hop to hop.
    """

    heard: list[list[Heard]]
    heap_bytes: list[list[int]]
    setup_ms: list[float]


def once(heard: list[Heard]) -> list[Heard]:
    """Without repetitions."""
    return list({one.data: one for one in reversed(heard)}.values())[::-1]


def setup_ms(caller: list[Heard], callee: list[Heard], call_id: bytes) -> float:
    """Milliseconds that the neighbours had the first INVITE of a call and its 200, the terminals' own not counted."""
    at = {}
    for who, heard in (("caller", caller), ("callee", callee)):
        for one in reversed(heard):
            if one.message.call_id == call_id and one.kind[2] == "INVITE":
                at[who, one.kind[1]] = one.at_s
    there = at["callee", "INVITE"] - at["caller", "INVITE"]
    return (there + at["caller", "200"] - at["callee", "200"]) * 1000


def measure(pair: Pair) -> Cost:
    """Start everything, call with hold and text, call again, and stop everything."""
    with contextlib.ExitStack() as stack:
        taps = [
            stack.enter_context(Wiretap(pair.relays[domain], pair.addresses[domain], pair.files[domain]))
            for domain in DOMAINS
        ]
        alice, bob = pair.start()
        heap = []

        def look() -> None:
            time.sleep(_SETTLE_S)
            heap.append([one.status()["heap_used"] for one in (alice, bob)])

        look()
        connect(alice, bob)
        look()
        change(bob, alice, "hold")
        look()
        change(bob, alice, "resume")
        write(alice, bob, "Hello, Bob")
        look()
        hang_up(alice, bob)
        look()
        connect(alice, bob)
        look()
        hang_up(alice, bob)
        look()
        assert starved(alice, bob) == []
        pair.lab.stop()
        heard = [once(one.heard) for one in taps]
        calls = dict.fromkeys(one.message.call_id for one in heard[0] if one.kind == (FROM, "INVITE", "INVITE"))
        return Cost(heard, heap, [setup_ms(*heard, call_id) for call_id in calls])


def by_kind(heard: list[Heard]) -> dict[tuple[str, str, str, int], Heard]:
    """Messages by what they are, and the how many-th of these: the order of others may differ."""
    seen: Counter[tuple[str, str, str]] = Counter()
    found = {}
    for one in heard:
        seen[one.kind] += 1
        found[*one.kind, seen[one.kind]] = one
    return found


def without_chance(one: Heard) -> tuple[int, int]:
    """The bytes of a message with a number of SDP that is as long each time, and those of its Security-Status."""
    status = re.search(rb"\r\nSecurity-Status: [^\r]*", one.data)
    status_bytes = len(status.group()) if status else 0
    session = re.search(rb"\r\no=- (\d+) ", one.data)
    return one.frame_bytes - (len(session.group(1)) if session else 0) - status_bytes, status_bytes


def test_a_terminal_pays_nothing(lab: Lab) -> None:
    """At heavy the same messages pass on its hop as at medium, of the same sizes, but for what Security-Status says."""
    pair = Pair(lab, relayed=True)
    costs = {}
    for level in ("medium", "heavy"):
        if level != "medium":
            pair.set_level(level)  # medium is the default, and alike for both
        costs[level] = measure(pair)
    medium, heavy = costs["medium"], costs["heavy"]
    for number, name in enumerate(("alice", "bob")):
        before, after = (by_kind(one.heard[number]) for one in (medium, heavy))
        assert before.keys() == after.keys()
        more = {}
        for kind, was in before.items():
            now = after[kind]
            (plain, plain_status), (sealed, sealed_status) = without_chance(was), without_chance(now)
            assert sealed == plain, (kind, was.data, now.data)
            if sealed_status != plain_status:
                more[kind] = sealed_status - plain_status
        # Whom it tells what: the callee of INVITEs and texts, the caller of answers with a body.
        assert all(way == TO and 0 < count <= _STATUS_MORE_BYTES for (way, *_), count in more.items()), more
        assert {(what, of) for _, what, of, _ in more} <= {
            ("INVITE", "INVITE"),
            ("200", "INVITE"),
            ("MESSAGE", "MESSAGE"),
        }
        assert len(more) == {"alice": 4, "bob": 5}[name]
        size = sum(one.frame_bytes for one in medium.heard[number])
        print(f"{name}: {len(before)} messages, {size} bytes at medium, {sum(more.values())} more at heavy: {more}")
        stages = [(was[number], now[number]) for was, now in zip(medium.heap_bytes, heavy.heap_bytes, strict=True)]
        print(f"{name}: live heap at medium and heavy: {stages}")
        for was, now in stages:
            assert now <= was + _HEAP_MORE_BYTES, stages
    told = next(one for one in heavy.heard[1] if one.kind == (TO, "INVITE", "INVITE")).message
    assert told.get("security-status") == (
        b'level=heavy;verified="sip:alice@a.example";by="a.example";signed;encrypted;tls'
    )
    print(f"set-up in the neighbours, ms: medium {medium.setup_ms}, heavy {heavy.setup_ms}")


def wait_idle(*terminals: Terminal) -> None:
    """Until nobody calls or rings any more; a call that nobody remembers ends by its own timer."""
    for one in terminals:
        end = time.monotonic() + 60
        while (phone := one.status()["phone"]) != "idle":
            assert time.monotonic() < end, (one.name, phone)
            if phone == "ringing":
                one.send("reject")
            time.sleep(0.3)


@pytest.mark.parametrize("domain", DOMAINS)
def test_killed_while_a_call_is_set_up(lab: Lab, domain: str) -> None:
    """While its user's first certificate is being made, and while it rings: the next call is as if nothing had been."""
    pair = Pair(lab)
    pair.set_level("heavy")
    alice, bob = pair.start()
    user = {"a.example": "alice", "b.example": "bob"}[domain]
    folder = pair.folder(domain)
    marks = [len(one.lines) for one in (alice, bob)]
    alice.send(f"call {bob.aor}")
    if user == "bob":
        # His is made for the first answer of his that has a body.
        bob.wait_for("incoming", since=marks[1])
        bob.send("answer")
    end = time.monotonic() + 20
    while {one.name for one in os.scandir(folder)} == _AGENT_FILES:
        assert time.monotonic() < end, "no certificate made"
    left = pair.neighbours[domain]
    pair.stop_neighbour(domain, at_once=True)
    print(f"killed with {sorted({one.name for one in os.scandir(folder)} - _AGENT_FILES)}")
    assert left.exit_status == -9
    pair.start_neighbour(domain)
    for one in (alice, bob):
        if one.status()["phone"] != "idle":
            one.send("hangup")
    wait_idle(alice, bob)
    connect(alice, bob)
    hang_up(bob, alice)
    made = pair.check_certificates(domain, user)

    marks = [len(one.lines) for one in (alice, bob)]
    alice.send(f"call {bob.aor}")
    bob.wait_for("incoming", since=marks[1])
    pair.stop_neighbour(domain, at_once=True)
    pair.start_neighbour(domain)
    if alice.status()["phone"] != "idle":
        alice.send("hangup")
    wait_idle(alice, bob)
    connect(bob, alice)
    hang_up(alice, bob)
    assert pair.check_certificates(domain, user) == made
    for one in (alice, bob):
        assert [line["event"] for line in one.lines].count("registered") == 1
    settings = json.loads(pair.files[domain].read_text())
    assert settings["ha1"].encode() not in (lab.folder / domain / "neighbour.log").read_bytes()
