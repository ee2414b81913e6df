"""Calls by setup key: after the first the neighbours only route, and every call leaves another key (WIRE section 4)."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from calls.conftest import connect, hang_up
from calls.test_changes import starved
from calls.test_sealed_calls import DOMAINS, Pair, change, check_heard, operations
from lab import ladder
from lab.lab import Lab
from lab.processes import Terminal

_CALLS = 100
_SETTLED = 10  # calls until what is remembered of those before has come to its end
_HEAP_MORE_BYTES = 2048
_SETTLE_S = 0.5  # until the last call is over for both
_UNDER_WAY = 5  # packets, a tenth of a second
_KEY_AT, _KEY_BYTES = 11, 32  # in a file of the terminal's, see device/terminal/keystore.py


def wisp(*arguments: str) -> str:
    """Run the command; returns what it says."""
    command = [str(Path(sys.executable).with_name("wisp")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def newest_key(lab: Lab, domain: str, user: str) -> bytes:
    """The newest key that a terminal has; there is one peer."""
    files = [path.read_bytes() for path in (lab.folder / domain / f"{user}.keys").iterdir()]
    data = max(files, key=lambda one: int.from_bytes(one[2:6], "big"))
    at = _KEY_AT + data[_KEY_AT - 1] + 1
    assert data[at - 1] > 0
    return data[at : at + _KEY_BYTES]


def keys_of(lab: Lab) -> set[bytes]:
    return {newest_key(lab, domain, user) for domain, user in zip(DOMAINS, ("alice", "bob"), strict=True)}


def part(first: Terminal, second: Terminal) -> list[dict]:
    """Let the first hang up; returns what both said of the call's end, when both have the next key."""
    marks = [len(one.lines) for one in (first, second)]
    ended = hang_up(first, second)
    for one, mark in zip((first, second), marks, strict=True):
        one.wait_for("key", since=mark)
    return ended


def told_by(*terminals: Terminal) -> list[str]:
    """By whom each was told who the other side of the last call was."""
    return [[line for line in one.lines if line["event"] == "connected"][-1]["by"] for one in terminals]


def test_a_hundred_calls_in_a_row(lab: Lab, image: Path) -> None:
    """With the code in the heap, where there is the least room beside it."""
    lab.code = str(image)
    pair = Pair(lab, keyed=True, setup={"uses": _CALLS})
    pair.set_level("heavy")
    alice, bob = pair.start()
    connect(alice, bob)
    part(bob, alice)
    assert told_by(alice, bob) == ["neighbour heavy", "neighbour heavy"]
    pair.check_counts(operations(1), operations(1))
    kept = [keys_of(lab)]
    live = []
    for number in range(1, _CALLS):
        caller, callee = ((alice, bob), (bob, alice))[number // 2 % 2]
        connect(caller, callee)
        assert told_by(alice, bob) == ["setup-key", "setup-key"], number
        part(*((alice, bob), (bob, alice))[number % 2])
        kept.append(keys_of(lab))
        if number in (_SETTLED, _CALLS - 1):
            time.sleep(_SETTLE_S)
            live.append([one.status()["heap_used"] for one in (alice, bob)])
    assert [len(one) for one in kept] == [1] * _CALLS  # the same at both ends
    assert len(set.union(*kept)) == _CALLS  # and another each time
    pair.check_counts(operations(1), operations(1))  # those of the first call
    assert starved(alice, bob) == []
    for before, after in zip(*live, strict=True):
        assert after - before < _HEAP_MORE_BYTES, live
    for one in (alice, bob):
        assert (one.status()["unproven"], one.status()["malformed"]) == (0, 0)


def test_speech_hold_and_what_is_seen_of_it(lab: Lab) -> None:
    pair = Pair(lab, keyed=True)
    pair.set_level("heavy")
    alice, bob = pair.start()
    connect(alice, bob)
    part(bob, alice)
    for one in pair.neighbours.values():
        one.read()
        one.lines.clear()
    connect(alice, bob)
    time.sleep(3.4)
    change(bob, alice, "hold")
    change(bob, alice, "resume")
    for ended in part(bob, alice):
        # Hold and resume have other keys each: what is under way then can't be read any more, or not yet.
        assert ended["media"]["rejected"] <= _UNDER_WAY
        assert ended["media"]["lost"] <= _UNDER_WAY
    check_heard(alice, bob)
    check_heard(bob, alice)
    assert told_by(alice, bob) == ["setup-key", "setup-key"]
    pair.check_counts(operations(1), operations(1))
    for one in pair.neighbours.values():
        one.read()
    found = ladder.steps(*(pair.neighbours[domain].lines for domain in DOMAINS))
    assert ladder.ways(found) == ["frame", "TLS", "frame"]
    for domain in DOMAINS:
        log = (lab.folder / domain / "neighbour.log").read_bytes()
        assert not [one for one in keys_of(lab) if one in log or one.hex().encode() in log]


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_neighbour_starts_again_between_calls(lab: Lab, domain: str) -> None:
    """It has no part in the trust of the two."""
    pair = Pair(lab, keyed=True)
    pair.set_level("heavy")
    alice, bob = pair.start()
    connect(alice, bob)
    part(alice, bob)
    pair.stop_neighbour(domain, at_once=True)
    pair.start_neighbour(domain)
    for caller, callee in ((alice, bob), (bob, alice)):
        connect(caller, callee)
        assert told_by(alice, bob) == ["setup-key", "setup-key"]
        part(caller, callee)
    assert pair.counts(domain) == operations(0)


@pytest.mark.parametrize("is_late", [False, True], ids=["both there", "Bob comes later"])
def test_introduced_without_a_call(lab: Lab, is_late: bool) -> None:
    """Alice wants to know Bob, whose account allows it: already their first call needs no neighbour's word."""
    pair = Pair(lab, keyed=True)
    pair.set_level("heavy")
    wanted = json.loads(pair.files["a.example"].read_text())
    wanted["setup"] = {"peers": ["sip:bob@b.example"], "life_s": 3600, "uses": 5}
    pair.files["a.example"].write_text(json.dumps(wanted))
    wisp("account", "contact", "bob", "--add", "sip:alice@a.example", "--config", str(lab.configuration("b.example")))
    for domain in DOMAINS:
        pair.start_neighbour(domain)
    alice = lab.start_terminal(pair.files["a.example"])
    if is_late:
        assert alice.wait_for("key", 20)["by"] == "neighbour"  # his neighbour has it
        pair.stop_neighbour("b.example", at_once=True)
        pair.start_neighbour("b.example")
    bob = lab.start_terminal(pair.files["b.example"])
    told = [one.wait_for("key", 20) for one in (alice, bob)]
    assert [one["by"] for one in told] == ["neighbour", "neighbour"]
    assert told[1]["peer"] == alice.aor
    assert 3590 <= told[1]["life_s"] <= 3600
    assert len(keys_of(lab)) == 1
    before = [pair.counts(domain) for domain in DOMAINS]
    connect(bob, alice)
    assert told_by(alice, bob) == ["setup-key", "setup-key"]
    part(alice, bob)
    assert [pair.counts(domain) for domain in DOMAINS] == before
    said = wisp("keys", "--config", str(lab.configuration("b.example")))
    assert alice.aor in said
    assert "delivered" in said


def test_trust_taken_back(lab: Lab) -> None:
    pair = Pair(lab, keyed=True)
    pair.set_level("heavy")
    alice, bob = pair.start()
    connect(alice, bob)
    part(alice, bob)
    alice.send("forget sip:bob@b.example")
    assert alice.wait_for("forgotten")["peer"] == bob.aor
    assert bob.wait_for("forgotten")["by"] == "peer"
    assert alice.wait_for("sent")["peer"] == bob.aor
    for domain, user in zip(DOMAINS, ("alice", "bob"), strict=True):
        assert list((lab.folder / domain / f"{user}.keys").iterdir()) == []
    connect(bob, alice)
    assert told_by(alice, bob) == ["neighbour heavy", "neighbour heavy"]
    part(bob, alice)
    connect(alice, bob)
    assert told_by(alice, bob) == ["setup-key", "setup-key"]
