"""Calls of terminals whose media go through the relays of both their neighbours."""

import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from attacks.middle import BACK, FORTH, Middle, Tamper

from calls.conftest import connect, hang_up
from calls.test_changes import starved
from calls.test_sealed_calls import DOMAINS, Pair, change, check_heard
from calls.test_setup_calls import part, told_by, wisp
from lab import sound
from lab.lab import Lab
from sipwire.message import Message

_RECORD_S = 10.0
_TALK_S = 3.4
_UNDER_WAY = 5  # packets, a tenth of a second
_BEFORE_START_S = 6  # of a neighbour: more than it grants to other clocks


def make(lab: Lab, level: str, **settings: Any) -> Pair:
    pair = Pair(lab, **settings)
    pair.set_level(level)
    for domain in DOMAINS:
        lab.configure(domain, "relay", '"always"')
    return pair


def records(lab: Lab, domain: str, count: int) -> list[dict[str, Any]]:
    """The records of a neighbour, the newest first, as soon as there are so many."""
    end = time.monotonic() + _RECORD_S
    while True:
        said = wisp("calls", "--json", "--config", str(lab.configuration(domain)))
        found = [json.loads(line) for line in said.splitlines()]
        if len(found) >= count:
            assert len(found) == count, found
            return found
        assert time.monotonic() < end, found
        time.sleep(0.1)


def check_relayed(lab: Lab, count: int, protection: str, packets: int = 150) -> None:
    """The last call went through both relays, both ways, and nothing of it was dropped there."""
    for domain in DOMAINS:
        record = records(lab, domain, count)[0]
        assert (record["status"], record["reason"]) == (200, "")
        (media,) = record["media"]
        assert (media["kind"], media["protection"]) == ("audio", protection)
        for side in media["sides"]:
            assert side["packets"] >= packets, media
            assert sum(side["dropped"].values()) <= _UNDER_WAY, media


@pytest.mark.parametrize("level", ["medium", "heavy"])
def test_a_call(lab: Lab, level: str) -> None:
    pair = make(lab, level)
    alice, bob = pair.start()
    connect(alice, bob)
    time.sleep(_TALK_S)
    change(bob, alice, "hold")
    change(bob, alice, "resume")
    for ended in hang_up(bob, alice):
        assert (ended["media"]["rejected"], ended["media"]["lost"]) == (0, 0)
    check_heard(alice, bob)
    check_heard(bob, alice)
    check_relayed(lab, 1, "passed")
    assert starved(alice, bob) == []
    assert told_by(alice, bob) == [f"neighbour {level}"] * 2
    connect(bob, alice)
    hang_up(bob, alice)
    check_relayed(lab, 2, "passed", 0)
    for domain in DOMAINS:
        log = (lab.folder / domain / "neighbour.log").read_text()
        assert "Traceback" not in log


def test_a_call_by_setup_key(lab: Lab) -> None:
    """Relays change addresses, and the MACs match; nobody but the two can read what goes through."""
    pair = make(lab, "heavy", keyed=True)
    alice, bob = pair.start()
    connect(alice, bob)
    part(bob, alice)
    check_relayed(lab, 1, "passed", 0)
    connect(alice, bob)
    time.sleep(_TALK_S)
    change(bob, alice, "hold")
    change(bob, alice, "resume")
    for ended in part(bob, alice):
        assert ended["media"]["rejected"] <= _UNDER_WAY
        assert ended["media"]["lost"] <= _UNDER_WAY
    check_heard(alice, bob)
    check_heard(bob, alice)
    assert told_by(alice, bob) == ["setup-key", "setup-key"]
    check_relayed(lab, 2, "unread")


def test_own_keys_on_every_leg(lab: Lab) -> None:
    """SRTP is encrypted anew at both neighbours: no setup key comes of that, and all is heard."""
    pair = make(lab, "heavy", keyed=True)
    for domain in DOMAINS:
        lab.configure(domain, "own_keys", "true")
    alice, bob = pair.start()
    connect(alice, bob)
    time.sleep(_TALK_S)
    for ended in hang_up(bob, alice):
        assert (ended["media"]["rejected"], ended["media"]["lost"]) == (0, 0)
    check_heard(alice, bob)
    check_heard(bob, alice)
    check_relayed(lab, 1, "anew")
    connect(alice, bob)
    assert told_by(alice, bob) == ["neighbour heavy", "neighbour heavy"]
    hang_up(bob, alice)


def test_gcm_alone_between_the_neighbours(lab: Lab) -> None:
    """The trunk carries what no terminal speaks."""
    pair = make(lab, "medium")
    for domain in DOMAINS:
        lab.configure(domain, "own_keys", "true")
        lab.change(domain, "# outside_suites = [", 'outside_suites = ["AEAD_AES_256_GCM"] # [')
    alice, bob = pair.start()
    connect(alice, bob)
    time.sleep(_TALK_S)
    for ended in hang_up(bob, alice):
        assert (ended["media"]["rejected"], ended["media"]["lost"]) == (0, 0)
    check_heard(alice, bob)
    check_heard(bob, alice)
    check_relayed(lab, 1, "anew")


def test_within_a_domain_there_is_one_relay(lab: Lab) -> None:
    lab.make_domains("a.example")
    lab.configure("a.example", "relay", '"always"')
    from calls.conftest import make_terminal

    files = [make_terminal(lab, "a.example", user, hertz) for user, hertz in (("alice", 440), ("carol", 700))]
    lab.start_neighbour("a.example")
    alice, carol = (lab.start_terminal(path) for path in files)
    for one in (alice, carol):
        one.wait_for("registered", 20)
    connect(alice, carol)
    time.sleep(_TALK_S)
    hang_up(carol, alice)
    for speaker, listener in ((alice, carol), (carol, alice)):
        assert sound.compare(speaker.microphone, listener.speaker).is_equal
    (record,) = records(lab, "a.example", 1)
    assert len(record["media"]) == 1


@pytest.mark.parametrize("at_once", [False, True])
def test_a_neighbour_starts_again_during_a_call(lab: Lab, at_once: bool) -> None:
    """Its relays are lost: nothing is heard until somebody makes an offer, which opens others."""
    pair = make(lab, "medium")
    alice, bob = pair.start()
    connect(alice, bob)
    time.sleep(1)
    pair.stop_neighbour("a.example", at_once=at_once)
    if not at_once:
        assert records(lab, "a.example", 1)[0]["reason"] == "stopped"
    time.sleep(_BEFORE_START_S)
    pair.start_neighbour("a.example")
    change(alice, bob, "hold")
    change(alice, bob, "resume")
    time.sleep(2)
    for ended in hang_up(bob, alice):
        # While there was no relay there was no way: not a packet went past it.
        assert ended["media"]["sent"] - ended["media"]["received"] > _BEFORE_START_S * 40
        assert ended["media"]["received"] > 100
    assert "Traceback" not in (lab.folder / "a.example" / "neighbour.log").read_text()
    (media,) = records(lab, "a.example", 1 if at_once else 2)[0]["media"]
    assert all(side["packets"] > 50 for side in media["sides"])


# Downgrade attacks: somebody on the trunk who has stolen the keys of both neighbours.


def changed(way: str, method: str, change: Callable[[bytes], bytes]) -> Tamper:
    """Change the descriptions of one direction, offers or answers."""

    def tamper(message: Message, direction: str) -> list[Message]:
        if direction == way and message.body and message.cseq.method == method:
            message.set_body(message.get("content-type") or b"", change(message.body))
        return [message]  # type: ignore[list-item]

    return tamper


def without_crypto(body: bytes) -> bytes:
    return b"".join(line for line in body.splitlines(keepends=True) if not line.startswith(b"a=crypto"))


@pytest.mark.parametrize("way", [FORTH, BACK])
@pytest.mark.parametrize(
    "change",
    [
        without_crypto,
        lambda body: body.replace(b"RTP/SAVP", b"RTP/AVP"),
        lambda body: without_crypto(body.replace(b"RTP/SAVP", b"RTP/AVP")),
    ],
    ids=["crypto stripped", "SAVP to AVP", "asked for RTP"],
)
def test_attack_downgrade(lab: Lab, way: str, change: Callable[[bytes], bytes]) -> None:
    """At medium the trunk's thief sees descriptions: it can end calls, and can't make them unprotected."""
    pair = make(lab, "medium")
    between = lab.next_address()
    lab.change("a.example", f'"{pair.addresses["b.example"]}:5061"', f'"{between}:5061"')
    keys = {one: (lab.folder / one / f"{one}.pem", lab.folder / one / f"{one}.key") for one in DOMAINS}
    root = lab.folder / "ca" / "root.pem"
    with Middle(between, pair.addresses["b.example"], keys["b.example"], keys["a.example"], root) as middle:
        alice, bob = pair.start()
        middle.tamper = changed(way, "INVITE", change)
        marks = [len(one.lines) for one in (alice, bob)]
        alice.send(f"call {bob.aor}")
        if way == BACK:
            bob.wait_for("incoming", since=marks[1])
            bob.send("answer")
        failed = alice.wait_for("failed", 20, since=marks[0])
        assert failed["status"] == 488
        assert "SRTP" in failed["warning"] or "RTP/AVP" in failed["warning"]
        time.sleep(0.5)
        for one, mark in zip((alice, bob), marks, strict=True):
            one.read()
            assert not [line for line in one.lines[mark:] if line.get("media", {}).get("received")]
        if way == FORTH:
            assert not [line for line in bob.lines[marks[1] :] if line["event"] == "incoming"]
        assert records(lab, "a.example", 1)[0]["status"] == 488
        middle.tamper = changed(way, "none", change)
        connect(alice, bob)
        time.sleep(1)
        for ended in hang_up(alice, bob):
            assert ended["media"]["received"] > 25
