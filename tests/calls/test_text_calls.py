"""Calls with real-time text between terminals of two domains: beside speech and alone; and digits that open a door."""

import time
from typing import Any

import pytest
from attacks.middle import Middle

from calls.bad_line import BadLine
from calls.conftest import connect, hang_up, make_terminal
from calls.test_changes import starved
from calls.test_sealed_calls import DOMAINS, Pair, change, check_heard
from calls.test_setup_calls import part, told_by
from lab.lab import Lab
from lab.processes import Terminal, text_shown

_TALK_S = 3.4
_UNDER_WAY = 5  # packets, a tenth of a second
_SHOWN_S = 3.0  # a second is what waits for redundancy; a busy computer has the rest

#: A byte, two, three and four of each character; signs that combine, right to left, a flag of two, and an emoji of many.
EVERYWHERE = "Grüße, Ñandú, Ελλάδα, Привет, שלום, مرحبا, नमस्ते, 你好, 한국어, e\u0301, 🇨🇭, 👩\u200d🚀"


class Reader:
    """What one terminal shows of what the other side of its calls writes from now on."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        terminal.read()
        self._mark = len(terminal.lines)

    @property
    def text(self) -> str:
        """All of it, as it is read on a screen."""
        self._terminal.read()
        return text_shown(self._terminal.lines[self._mark :])

    def wait_for(self, text: str) -> None:
        self._terminal.wait_until(lambda: self.text == text, f"{text!r}, not {self.text!r}", _SHOWN_S)


def digits_of(terminal: Terminal, mark: int) -> str:
    terminal.read()
    return "".join(line["digit"] for line in terminal.lines[mark:] if line["event"] == "dtmf")


def press(sender: Terminal, listener: Terminal, digits: str) -> None:
    """Press digits, until the other side has told them all."""
    listener.read()
    mark = len(listener.lines)
    sender.send(f"press {digits}")
    listener.wait_until(
        lambda: len(digits_of(listener, mark)) >= len(digits), f"digits {digits}", 1 + 0.5 * len(digits)
    )
    assert digits_of(listener, mark) == digits


def check_text(statistics: dict[str, Any], least: int) -> None:
    """The text's stream of an ended call lost nothing."""
    text = statistics["text"]
    assert (text["rejected"], text["lost"]) == (0, 0)
    assert text["received"] >= least


def test_text_beside_speech(lab: Lab) -> None:
    """Both write at once, take back, and go on after a hold; and what they say meanwhile is all heard."""
    pair = Pair(lab, text=True)
    alice, bob = pair.start()
    connect(alice, bob)
    readers = {one: Reader(one) for one in (alice, bob)}
    alice.send("write " + EVERYWHERE)
    bob.send("write Hello Alice")
    readers[bob].wait_for(EVERYWHERE + "\n")
    readers[alice].wait_for("Hello Alice\n")
    time.sleep(_TALK_S)
    change(bob, alice, "hold")
    change(bob, alice, "resume")
    alice.send("chat")
    alice.send("teh\b\bhe dog")
    alice.send(".")
    readers[bob].wait_for(EVERYWHERE + "\nthe dog\n")
    bob.send("write still here")
    readers[alice].wait_for("Hello Alice\nstill here\n")
    for ended in hang_up(bob, alice):
        assert (ended["media"]["rejected"], ended["media"]["lost"]) == (0, 0)
        check_text(ended["media"], 3)
    check_heard(alice, bob)
    check_heard(bob, alice)
    assert starved(alice, bob) == []


def test_text_alone(lab: Lab) -> None:
    """Terminals without microphones write to each other: there is no speech in their calls, nor a port for it."""
    pair = Pair(lab, text=True, codecs=[])
    alice, bob = pair.start()
    for number, (caller, callee) in enumerate(((alice, bob), (bob, alice))):
        connect(caller, callee)
        readers = {one: Reader(one) for one in (alice, bob)}
        caller.send("write Are you there?")
        callee.send("write " + EVERYWHERE)
        readers[callee].wait_for("Are you there?\n")
        readers[caller].wait_for(EVERYWHERE + "\n")
        if number:
            change(caller, callee, "hold")
            change(caller, callee, "resume")
            callee.send("write Yes.")
            readers[caller].wait_for(EVERYWHERE + "\nYes.\n")
        for ended in hang_up(callee, caller):
            assert set(ended["media"]) == {"text"}
            check_text(ended["media"], 3)
    assert starved(alice, bob) == []


def test_who_only_writes_and_who_only_speaks(lab: Lab) -> None:
    """Text alone calls who has both, and is called by; who has no text can't be called, and is told why."""
    lab.make_domains("a.example")
    writer = make_terminal(lab, "a.example", "wendy", text=True, codecs=[])
    both = make_terminal(lab, "a.example", "bob", 1000, text=True)
    speaker = make_terminal(lab, "a.example", "sam", 440)
    lab.start_neighbour("a.example")
    wendy, bob, sam = (lab.start_terminal(path) for path in (writer, both, speaker))
    for one in (wendy, bob, sam):
        one.wait_for("registered", 20)
    for caller, callee in ((wendy, bob), (bob, wendy)):
        connect(caller, callee)
        reader = Reader(bob)
        wendy.send("write It rains.")
        reader.wait_for("It rains.\n")
        for ended in hang_up(caller, callee):
            assert set(ended["media"]) == {"text"}
    for caller, callee, why in ((wendy, sam, "no audio"), (sam, wendy, "no text")):
        mark = len(caller.lines)
        caller.send(f"call {callee.aor}")
        failed = caller.wait_for("failed", since=mark)
        assert (failed["status"], why in failed["warning"]) == (488, True), failed
    connect(sam, bob)
    time.sleep(_TALK_S)
    hang_up(sam, bob)
    check_heard(sam, bob)
    assert starved(wendy, bob, sam) == []


@pytest.mark.parametrize("keyed", [False, True])
def test_sealed(lab: Lab, keyed: bool) -> None:
    """At heavy, and by setup key: the neighbours' logs hold none of what was written, nor do frames lose any of it."""
    pair = Pair(lab, text=True, keyed=keyed)
    pair.set_level("heavy")
    alice, bob = pair.start()
    for _ in range(2):
        connect(alice, bob)
        readers = {one: Reader(one) for one in (alice, bob)}
        alice.send("write The key is under the mat.")
        bob.send("write I found it.")
        readers[bob].wait_for("The key is under the mat.\n")
        readers[alice].wait_for("I found it.\n")
        change(alice, bob, "hold")
        change(alice, bob, "resume")
        bob.send("write Thanks!")
        readers[alice].wait_for("I found it.\nThanks!\n")
        for ended in (part if keyed else hang_up)(bob, alice):
            text = ended["media"]["text"]
            # With setup keys, hold and resume have other keys each: what is under way then can't be read any more.
            assert max(text["rejected"], text["lost"]) <= (_UNDER_WAY if keyed else 0)
    assert told_by(alice, bob) == ["setup-key" if keyed else "neighbour heavy"] * 2
    assert starved(alice, bob) == []
    for domain in pair.neighbours:
        assert b"under the mat" not in (lab.folder / domain / "neighbour.log").read_bytes()


def test_digits_both_ways(lab: Lab) -> None:
    """Each digit is told once, at both ends at once; what can't be pressed is refused."""
    alice, bob = Pair(lab).start()
    connect(alice, bob)
    time.sleep(0.2)
    press(alice, bob, "159#")
    press(bob, alice, "0*ABCD")
    marks = [len(one.lines) for one in (alice, bob)]
    alice.send("press 2468")
    bob.send("press 13579")
    time.sleep(2.5)
    assert [digits_of(one, mark) for one, mark in zip((bob, alice), marks[::-1], strict=True)] == ["2468", "13579"]
    for words in ("press 12x", "write Hello"):
        mark = len(alice.lines)
        alice.send(words)
        assert alice.wait_for("refused", since=mark)["command"] == words.split()[0]
    for ended in hang_up(bob, alice):
        assert (ended["media"]["rejected"], ended["media"]["lost"]) == (0, 0)
    for one in (alice, bob):
        one.read()
        durations = [line["duration_ms"] for line in one.lines if line["event"] == "dtmf"]
        assert set(durations) == {160}
        assert one.status()["malformed"] == 0
    assert starved(alice, bob) == []


def test_a_door_and_a_text_on_a_bad_line(lab: Lab) -> None:
    """One packet in a hundred is lost, and for the first digit one in three: the door opens, and the text is whole.

    The line is that of somebody on the trunk at medium, who reads there where media goes; what it drops stays dropped.
    """
    pair = Pair(lab, text=True)
    pair.set_level("medium")
    between, media = lab.next_address(), lab.next_address()
    lab.change("a.example", f'"{pair.addresses["b.example"]}:5061"', f'"{between}:5061"')
    keys = {one: (lab.folder / one / f"{one}.pem", lab.folder / one / f"{one}.key") for one in DOMAINS}
    root = lab.folder / "ca" / "root.pem"
    with (
        Middle(between, pair.addresses["b.example"], keys["b.example"], keys["a.example"], root) as middle,
        BadLine(media) as line,
    ):
        middle.tamper = line.tamper
        alice, bob = pair.start()
        connect(alice, bob)
        readers = {one: Reader(one) for one in (alice, bob)}
        time.sleep(0.5)
        line.lost_percent = 33
        press(alice, bob, "1")
        line.lost_percent = 1
        for _ in range(3):
            press(alice, bob, "159")
            press(bob, alice, "*7#")
        alice.send("write " + EVERYWHERE)
        bob.send("write " + EVERYWHERE)
        for reader in readers.values():
            reader.wait_for(EVERYWHERE + "\n")
        line.lost_percent = 0
        time.sleep(0.2)
        for ended in hang_up(alice, bob):
            assert ended["media"]["rejected"] == 0
            assert ended["media"]["lost"] > 3  # so it was a bad line
        assert line.lost > 10
    assert starved(alice, bob) == []
