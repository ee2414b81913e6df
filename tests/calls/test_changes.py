"""Calls that change while they stand, speech before they do, and texts: with real processes."""

import os
import signal
import time
import wave
from pathlib import Path

from interop.phones import Account, add_account

from calls.conftest import connect, hang_up, make_terminal
from calls.phone import Phone
from lab import sound
from lab.lab import Lab
from lab.processes import Neighbour, Terminal
from sipwire.message import Request
from sipwire.sdp import Session

CAROL = Account("carol", "a.example", "secret of carol")


def loud_seconds(path: Path) -> float:
    """How long something other than silence is heard in a recording, its last second not counted."""
    with wave.open(str(path)) as file:
        data = file.readframes(file.getnframes())
    samples = memoryview(data).cast("h")
    return sum(1 for at in range(0, len(samples), 160) if max(map(abs, samples[at : at + 160])) > 1000) * 0.02


def starved(*terminals: Terminal) -> list[str]:
    return [one.name for one in terminals for line in one.lines if line["event"] == "starved"]


def two_terminals(lab: Lab) -> tuple[Terminal, Terminal]:
    lab.make_domains("a.example", "b.example")
    paths = [make_terminal(lab, "a.example", "alice", 440, 30), make_terminal(lab, "b.example", "bob", 1000, 30)]
    for domain in ("a.example", "b.example"):
        lab.start_neighbour(domain)
    alice, bob = (lab.start_terminal(path) for path in paths)
    for one in (alice, bob):
        one.wait_for("registered", 20)
    return alice, bob


def test_hold_and_resume(lab: Lab) -> None:
    """Over two neighbours: nobody hears anything on hold, and afterwards every packet is in its place again."""
    alice, bob = two_terminals(lab)
    connect(alice, bob)
    time.sleep(1)
    marks = [len(one.lines) for one in (alice, bob)]
    bob.send("hold")
    bob.wait_for("hold", since=marks[1], local=True, remote=False)
    alice.wait_for("hold", since=marks[0], local=False, remote=True)
    time.sleep(2)
    marks = [len(one.lines) for one in (alice, bob)]
    bob.send("resume")
    for one, mark in zip((alice, bob), marks, strict=True):
        one.wait_for("hold", since=mark, local=False, remote=False)
    time.sleep(1)
    ended = hang_up(alice, bob)
    for one in ended:
        media = one["media"]
        assert (media["rejected"], media["lost"]) == (0, 0)
        assert 80 < media["sent"] < 140, media
    for one in (alice, bob):
        assert 1.5 < loud_seconds(one.speaker) < 2.8
        assert one.status()["malformed"] == 0
    assert starved(alice, bob) == []


def test_both_hold_and_hang_up_at_once(lab: Lab) -> None:
    """Glare of re-INVITEs ends with both on hold; crossing BYEs end each side once."""
    alice, bob = two_terminals(lab)
    connect(alice, bob)
    marks = [len(one.lines) for one in (alice, bob)]
    for one in (alice, bob):
        one.send("hold")
    for one, mark in zip((alice, bob), marks, strict=True):
        one.wait_for("hold", 15, since=mark, local=True, remote=True)
    marks = [len(one.lines) for one in (alice, bob)]
    # Held up on the way, so that the BYEs cross however busy the machine is.
    neighbours = [one for one in lab.processes if isinstance(one, Neighbour)]
    try:
        for held in neighbours:
            os.kill(held.pid, signal.SIGSTOP)
        for one in (alice, bob):
            one.send("hangup")
        for one, mark in zip((alice, bob), marks, strict=True):
            one.wait_for("ended", since=mark)
    finally:
        for held in neighbours:
            os.kill(held.pid, signal.SIGCONT)
    time.sleep(1)
    for one, mark in zip((alice, bob), marks, strict=True):
        one.read()
        assert [line["event"] for line in one.lines[mark:]] == ["ended"]
        assert one.status()["phone"] == "idle"
    connect(bob, alice)
    hang_up(bob, alice)
    assert starved(alice, bob) == []


def test_texts(lab: Lab) -> None:
    """Between terminals of two domains, in a call and outside of one."""
    alice, bob = two_terminals(lab)

    def write(sender: Terminal, listener: Terminal, text: str) -> None:
        marks = [len(one.lines) for one in (sender, listener)]
        sender.send(f"message {listener.aor} {text}")
        came = listener.wait_for("message", since=marks[1])
        assert (came["peer"], came["text"]) == (sender.aor, text)
        assert sender.wait_for("sent", since=marks[0])["peer"] == listener.aor

    write(alice, bob, "Grüße,  mit zwei Leerzeichen \U0001f600")
    connect(bob, alice)
    for i in range(5):
        write(alice, bob, f"Nummer {i}")
        write(bob, alice, "x" * 400)
    ended = hang_up(bob, alice)
    for one in ended:
        assert (one["media"]["lost"], one["media"]["rejected"]) == (0, 0)
    mark = len(alice.lines)
    alice.send("message sip:nobody@b.example Hello")
    failed = alice.wait_for("failed", since=mark)
    assert (failed["command"], failed["status"]) == ("message", 404)
    assert starved(alice, bob) == []


def test_a_phone_with_all_its_ways(lab: Lab) -> None:
    """Early media, keys by INFO, hold by UPDATE, another port by re-INVITE, what can't be accepted, texts both ways."""
    addresses = lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice", 440, 30)
    add_account(lab, CAROL)
    lab.start_neighbour("a.example")
    alice = lab.start_terminal(path)
    alice.wait_for("registered", 20)
    with Phone(lab.next_address(), addresses["a.example"], "carol", "a.example", CAROL.password) as carol:
        carol.register()
        alice.send(f"call {carol.aor}")
        invite = carol.wait("INVITE")
        assert isinstance(invite, Request)
        speech, answer = carol.speak_to(invite.body, 0x10)
        carol.respond(invite, 183, answer)
        alice.wait_for("progress", status=183, media=True)
        time.sleep(1)
        assert (speech.received, speech.refused) == (0, 0)  # the microphone is off
        carol.respond(invite, 200, answer)
        carol.wait("ACK")
        alice.wait_for("connected")
        dialog = carol.dialog(invite)
        time.sleep(0.5)
        assert speech.received > 10

        mark = len(alice.lines)
        for key in b"42#":
            body = b"Signal=%c\r\nDuration=160\r\n" % key
            assert carol.within(dialog, "INFO", body, b"application/dtmf-relay").status == 200
        keys = [line["digit"] for line in alice.lines[mark:] if line["event"] == "dtmf"]
        alice.wait_for("dtmf", since=mark, digit="#", duration_ms=160)
        keys = [line["digit"] for line in alice.lines[mark:] if line["event"] == "dtmf"]
        assert keys == ["4", "2", "#"]

        held = carol.within(dialog, "UPDATE", carol.offer(speech.port, 2, b"sendonly").serialize())
        assert held.status == 200
        described = Session.parse(held.body)
        assert described.direction(described.media[0]) == b"recvonly"
        alice.wait_for("hold", remote=True)
        time.sleep(0.1)
        count = speech.received
        time.sleep(0.5)
        assert speech.received == count

        plain = carol.offer(speech.port, 3).serialize().replace(b"RTP/SAVP", b"RTP/AVP")
        assert carol.within(dialog, "INVITE", plain).status == 488

        probe = carol.speak_as_agreed(carol.offer(speech.port), held.body, 0x20)
        offer = carol.offer(probe.port, 4)
        moved = carol.within(dialog, "INVITE", offer.serialize())
        assert moved.status == 200
        speech.stop()
        probe.start()
        time.sleep(1)
        # Its counter goes on from where it was, under the same key; and it takes the other stream of ours.
        assert probe.received > 30
        alice.wait_for("hold", since=mark + 3, remote=False)

        mark = len(alice.lines)
        assert carol.within(dialog, "MESSAGE", "Grüße".encode(), b"text/plain;charset=utf-8").status == 200
        assert alice.wait_for("message", since=mark)["text"] == "Grüße"
        alice.send(f"message {carol.aor} Hello, Carol")
        text = carol.wait("MESSAGE")
        assert isinstance(text, Request)
        assert (text.body, text.get("content-type")) == (b"Hello, Carol", b"text/plain;charset=utf-8")
        carol.respond(text, 200)
        alice.wait_for("sent", peer=carol.aor)

        alice.send("hangup")
        bye = carol.wait("BYE")
        assert isinstance(bye, Request)
        carol.respond(bye, 200)
        media = alice.wait_for("ended", reason="hung up")["media"]
        assert media["received"] > 100
        assert media["lost"] < 3
        assert media["late"] < 3
        assert alice.status()["malformed"] == 0
    assert loud_seconds(alice.speaker) > 1.8
    assert starved(alice) == []


def test_a_phone_that_is_gone(lab: Lab) -> None:
    """A phone that agrees to refresh, and does not: nobody has to hang up."""
    addresses = lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice", 440, 3)
    add_account(lab, CAROL)
    lab.start_neighbour("a.example")
    alice = lab.start_terminal(path)
    alice.wait_for("registered", 20)
    with Phone(lab.next_address(), addresses["a.example"], "carol", "a.example", CAROL.password) as carol:
        carol.register()
        alice.send(f"call {carol.aor}")
        invite = carol.wait("INVITE")
        assert isinstance(invite, Request)
        assert invite.get("session-expires") == b"1800;refresher=uas"
        _, answer = carol.speak_to(invite.body, 0x10)
        response = invite.response(200, "OK", b"phone")
        for value in invite.get_all("record-route"):
            response.add("Record-Route", value)
        response.add("Contact", carol.contact)
        response.add("Session-Expires", b"90;refresher=uas")
        response.set_body(b"application/sdp", answer)
        carol.send(response)
        carol.wait("ACK")
        began = time.monotonic()
        alice.wait_for("connected")
        ended = alice.wait_for("ended", 70)
        assert ended["reason"] == "session expired"
        assert 58 < time.monotonic() - began < 64
        carol.wait("BYE")


def test_sound_is_the_same_after_all(lab: Lab) -> None:
    """A call that is put on hold at once and taken back at once still carries every sample that is sent."""
    alice, bob = two_terminals(lab)
    connect(alice, bob)
    for command in ("hold", "resume"):
        mark = len(alice.lines)
        alice.send(command)
        alice.wait_for("hold", since=mark)
        time.sleep(0.5)
    time.sleep(0.5)
    for one in hang_up(alice, bob):
        assert (one["media"]["lost"], one["media"]["rejected"], one["media"]["late"]) == (0, 0, 0)
    assert sound is not None
