"""Calls between emulated terminals, as people make them."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import micropython

from calls.conftest import connect, hang_up, make_terminal
from lab import sound
from lab.lab import Lab
from lab.processes import Terminal

_SETTLE_S = 0.5  # until the last call is over for both


class Cast:
    """Alice and Carol of a.example, Bob of b.example, all registered."""

    def __init__(self, lab: Lab) -> None:
        lab.make_domains("a.example", "b.example")
        files = {
            "alice": make_terminal(lab, "a.example", "alice", 440),
            "carol": make_terminal(lab, "a.example", "carol", 700, codecs=["PCMA"]),
            "bob": make_terminal(lab, "b.example", "bob", 1000, codecs=["PCMU", "PCMA"], display_name='Bob "B"'),
        }
        self.neighbours = [lab.start_neighbour(domain) for domain in ("a.example", "b.example")]
        self.alice, self.carol, self.bob = (lab.start_terminal(path) for path in files.values())
        for one in (self.alice, self.carol, self.bob):
            one.wait_for("registered", 20)


@pytest.fixture(scope="module")
def cast(tmp_path_factory: pytest.TempPathFactory, rom: Path) -> Iterator[Cast]:
    lab = Lab(tmp_path_factory.mktemp("calls") / "lab", micropython(), str(rom))
    yield Cast(lab)
    lab.stop()


def check_heard(sender: Terminal, listener: Terminal, payload_type: int = 0) -> None:
    """Everything that one terminal said was heard by the other, sample by sample."""
    heard = sound.compare(sender.microphone, listener.speaker, payload_type)
    assert heard.is_equal, heard


def test_both_hear_everything(cast: Cast) -> None:
    connect(cast.alice, cast.bob)
    time.sleep(3.4)
    for ended in hang_up(cast.bob, cast.alice):
        media = ended["media"]
        assert (media["rejected"], media["lost"]) == (0, 0)
        assert media["sent"] > 150
        assert media["received"] > 150
    check_heard(cast.alice, cast.bob)
    check_heard(cast.bob, cast.alice)


def test_within_a_domain_and_with_alaw(cast: Cast) -> None:
    """Carol speaks A-law only, Bob both; Alice speaks mu-law only, so that Carol and she have nothing in common."""
    connect(cast.carol, cast.bob)
    time.sleep(3.4)
    hang_up(cast.carol, cast.bob)
    check_heard(cast.carol, cast.bob, 8)
    check_heard(cast.bob, cast.carol, 8)
    mark = len(cast.carol.lines)
    cast.carol.send(f"call {cast.alice.aor}")
    failed = cast.carol.wait_for("failed", since=mark)
    assert failed["status"] == 488
    assert "no codec" in failed["warning"]


def test_caller_and_name_are_shown(cast: Cast) -> None:
    mark, mark_alice = len(cast.alice.lines), len(cast.bob.lines)
    cast.bob.send("call sip:alice@a.example")
    incoming = cast.alice.wait_for("incoming", since=mark)
    assert (incoming["peer"], incoming["name"]) == ("sip:bob@b.example", '"Bob B"')
    cast.bob.wait_for("progress", since=mark_alice, status=180)
    cast.alice.send("reject")
    assert cast.bob.wait_for("failed", since=mark_alice)["status"] == 603
    cast.alice.wait_for("ended", since=mark, reason="rejected")


def test_a_name_without_a_domain_is_of_ours(cast: Cast) -> None:
    mark = len(cast.carol.lines)
    mark_alice = len(cast.alice.lines)
    cast.alice.send("call carol")
    assert cast.alice.wait_for("failed", since=mark_alice)["status"] == 488
    assert not [line for line in cast.carol.lines[mark:] if line["event"] == "incoming"]


def test_busy_and_the_call_goes_on(cast: Cast) -> None:
    connect(cast.alice, cast.bob)
    mark = len(cast.carol.lines)
    cast.carol.send(f"call {cast.bob.aor}")
    assert cast.carol.wait_for("failed", since=mark)["status"] == 486
    time.sleep(3.2)
    hang_up(cast.alice, cast.bob)
    check_heard(cast.alice, cast.bob)


def test_cancel(cast: Cast) -> None:
    marks = [len(one.lines) for one in (cast.alice, cast.bob)]
    cast.alice.send(f"call {cast.bob.aor}")
    cast.bob.wait_for("incoming", since=marks[1])
    cast.alice.send("hangup")
    cast.alice.wait_for("ended", since=marks[0], reason="cancelled")
    cast.bob.wait_for("ended", since=marks[1], reason="cancelled by the caller")
    assert cast.alice.status()["phone"] == cast.bob.status()["phone"] == "idle"


def test_nobody_and_nowhere(cast: Cast) -> None:
    for target, status, words in (
        ("sip:nobody@a.example", 404, ""),
        ("sip:nobody@b.example", 404, ""),
        ("sip:bob@nowhere.example", 503, "nowhere.example is no peer of ours"),
    ):
        mark = len(cast.alice.lines)
        cast.alice.send(f"call {target}")
        failed = cast.alice.wait_for("failed", since=mark)
        assert failed["status"] == status
        assert words in failed.get("warning", "")


def test_wrong_commands_are_told(cast: Cast) -> None:
    for command, reason in (
        ("answer", "nobody calls"),
        ("hangup", "no call"),
        ("call <>", "malformed URI"),
        (
            "dance",
            "unknown or incomplete; try call URI, answer, reject, hangup, hold, resume, press DIGITS, write TEXT, chat, "
            "message URI TEXT, forget URI, status, quit",
        ),
    ):
        mark = len(cast.alice.lines)
        cast.alice.send(command)
        assert cast.alice.wait_for("refused", since=mark)["reason"] == reason


def test_nothing_was_dropped(cast: Cast) -> None:
    """After all these calls: no frame was dropped, no message malformed, and memory has not grown."""
    for one in (cast.alice, cast.bob, cast.carol):
        status = one.status()
        assert (status["dropped"], status["malformed"]) == (0, 0)
    connect(cast.alice, cast.bob)
    hang_up(cast.alice, cast.bob)
    before = cast.alice.status()["heap_used"]
    for _ in range(5):
        connect(cast.alice, cast.bob)
        hang_up(cast.bob, cast.alice)
    assert cast.alice.status()["heap_used"] < before + 8192


def test_call_after_call(cast: Cast) -> None:
    """Three a second: whatever is remembered of each is bounded, and none of them finds the heap full."""
    used = []
    for number in range(60):
        connect(cast.alice, cast.bob)
        hang_up(cast.alice, cast.bob)
        if number % 10 == 9:
            time.sleep(_SETTLE_S)
            used.append([one.status()["heap_used"] for one in (cast.alice, cast.bob)])
    for first, *others in zip(*used, strict=True):
        assert max(others) < first + 1024, used
    for one in (cast.alice, cast.bob):
        assert "starved" not in [line["event"] for line in one.lines]


def test_terminal_says_goodbye(cast: Cast) -> None:
    cast.carol.send("quit")
    cast.carol.wait_until(lambda: not cast.carol.is_running, "its end", 5) if cast.carol.is_running else None
    assert cast.carol.exit_status == 0
    mark = len(cast.bob.lines)
    cast.bob.send(f"call {cast.carol.aor}")
    assert cast.bob.wait_for("failed", since=mark)["status"] == 480
