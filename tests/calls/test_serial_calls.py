"""Calls of terminals without Wi-Fi: real neighbours, real MicroPython, and serial lines with noise on them."""

import json
import random
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from calls.conftest import make_terminal
from calls.serial_line import SerialCable, SerialTerminal
from lab import sound
from lab.lab import Lab
from lab.processes import LabError, Terminal, text_shown
from sipwire.g711 import Codec

_DAMAGE = 0.01  # a byte in a hundred
_BURST = 48  # bytes in a row: half a millisecond of noise at 921600 baud
_WORDS = "the quick brown fox jumps over the lazy dog"


class Desk:
    """Alice's board, on a line to the neighbour of a.example.

    Args:
        lab: an empty lab.
        link: her serial port.
    """

    def __init__(self, lab: Lab, cable: SerialCable, link: Path) -> None:
        self.lab = lab
        self.cable = cable
        lab.make_domains("a.example", "b.example")
        self.files = {
            user: make_terminal(lab, at, user, text=True, setup={"life_s": 0})
            for user, at in (("alice", "a.example"), ("carol", "a.example"), ("bob", "b.example"))
        }
        for number, (user, path) in enumerate(self.files.items()):
            values = json.loads(path.read_text())
            values["board"]["microphone"] = str(lab.folder / f"{user}-says.wav")
            noise(Path(values["board"]["microphone"]), number, 24.0)
            if user == "alice":
                values["serial"] = {"uart": 0, "baud": 921600}
            path.write_text(json.dumps(values))
        text = lab.configuration("a.example").read_text()
        table = f'\n[[serial]]\nport = "{link}"\nconsole = "run/alice"\n'
        lab.configuration("a.example").write_text(text + table)

    def start(self, other: str) -> tuple[SerialTerminal, Terminal]:
        for domain in ("a.example", "b.example"):
            self.lab.start_neighbour(domain)
        console = self.lab.folder / "a.example" / "run" / "alice"
        alice = self.lab.start(SerialTerminal, self.lab, self.files["alice"], self.cable, console)
        far = self.lab.start_terminal(self.files[other])
        for one in (alice, far):
            one.wait_for("registered", 20)
        return alice, far


def noise(path: Path, seed: int, seconds: float) -> None:
    """A recording no 20 ms of which are like any other."""
    chance = random.Random(seed)
    sound.write(path, [chance.randrange(-12000, 12000) for _ in range(int(8000 * seconds))])


@pytest.fixture
def desk(lab: Lab) -> Iterator[Desk]:
    link = lab.folder / "ttyUSB0"
    with SerialCable(link) as cable:
        yield Desk(lab, cable, link)
        lab.stop()


def frames_of(path: Path) -> list[bytes]:
    data = sound.read(path)
    size = sound.FRAME_BYTES
    return [data[at : at + size] for at in range(0, len(data) - size + 1, size)]


def coded(path: Path) -> dict[bytes, int]:
    """What each 20 ms of a recording are after the codec, and their number."""
    codec = Codec(0)
    found = {}
    for number, frame in enumerate(frames_of(path)):
        small, large = bytearray(160), bytearray(320)
        codec.encode(bytearray(frame), small, 0, 160)
        codec.decode(small, 0, large, 160)
        found[bytes(large)] = number
    return found


def check_sound(said: Path, heard: Path, least: float) -> None:
    """What was heard is what was said, in that order, a repetition of it for what was lost, or silence: nothing else.

    Args:
        said: the recording.
        heard: what the other side has played.
        least: which part of it has to be new.
    """
    known = coded(said)
    new = wrong = 0
    last = -1
    frames = frames_of(heard)
    assert len(frames) > 100
    for frame in frames:
        number = known.get(frame)
        if number is None:
            wrong += max(map(abs, struct.unpack("<160h", frame))) > 200
        elif number > last:
            new += 1
            last = number
        elif number < last:
            wrong += 1  # what was heard before
    assert wrong == 0, f"{wrong} of {len(frames)} frames are not what was said"
    assert new / len(frames) >= least, f"{new} of {len(frames)}"
    print(f"{new} of {len(frames)} frames were heard, nothing else but silence and repetitions")


def text_of(terminal: Terminal | SerialTerminal, mark: int) -> str:
    terminal.read()
    return text_shown(terminal.lines[mark:])


def connect(alice: SerialTerminal, far: Terminal) -> None:
    """Alice calls, as often as noise makes it necessary, and the other side answers."""
    far.read()
    mark = len(far.lines)
    for _ in range(10):
        alice.send(f"call {far.aor}")
        try:
            far.wait_for("incoming", 4, since=mark)
            break
        except LabError:
            continue
    far.send("answer")
    far.wait_for("connected", 20, since=mark)


@pytest.mark.parametrize("other", ["carol", "bob"])
def test_a_call(desk: Desk, other: str) -> None:
    """To Wi-Fi at the same neighbour, and to another domain over the trunk."""
    alice, far = desk.start(other)
    connect(alice, far)
    alice.wait_for("connected")
    alice.read()
    marks = len(alice.lines), len(far.lines)
    alice.send(f"write {_WORDS}")
    far.send(f"write {_WORDS}")
    time.sleep(4)
    assert text_of(alice, marks[0]) == text_of(far, marks[1]) == _WORDS + "\n"
    far.send("hangup")
    ended = [one.wait_for("ended") for one in (alice, far)]
    for one in ended:
        assert (one["media"]["rejected"], one["media"]["lost"]) == (0, 0), one
    check_sound(alice.microphone, far.speaker, 0.9)
    check_sound(far.microphone, alice.speaker, 0.9)
    alice.send("quit")
    alice.wait_for("uart", baud=115200)  # the prompt has its line back
    assert desk.cable.damaged == 0


def test_ctrl_c(desk: Desk) -> None:
    alice, _ = desk.start("carol")
    alice.press_ctrl_c()
    alice.wait_for("uart", baud=115200)
    assert "KeyboardInterrupt" in alice.last_words()


def check_text(seen: str) -> None:
    """What was written, with a sign for each piece that is missing."""
    pattern = ".+".join(re.escape(part) for part in re.split("\ufffd+", seen))
    assert re.fullmatch(pattern, _WORDS + "\n"), seen
    assert len(seen) > len(_WORDS) // 2


def test_a_call_over_a_bad_line(desk: Desk) -> None:
    """One byte in a hundred is damaged from before the call to its end: nobody hears anything wrong, and it stays.

    In bursts, as on real lines: were it any byte of a hundred, not one message in a hundred would come through whole,
    and one packet of speech in six. That is tried while the call stands.
    """
    alice, far = desk.start("bob")
    both, to_neighbour, to_board = (_DAMAGE, _DAMAGE), (_DAMAGE, 0.0), (0.0, _DAMAGE)
    desk.cable.damage, desk.cable.burst = both, _BURST
    connect(alice, far)
    marks = len(alice.lines), len(far.lines)
    time.sleep(3)
    # What is typed, and what is told, goes over the line as well, and nothing protects that: one way at a time.
    desk.cable.damage = to_board
    time.sleep(0.5)
    alice.read()
    mark = len(alice.lines)
    far.send(f"write {_WORDS}")
    time.sleep(4)
    check_text(text_of(alice, mark))
    desk.cable.damage = to_neighbour
    far.read()
    mark = len(far.lines)
    alice.send(f"write {_WORDS}")
    time.sleep(4)
    check_text(text_of(far, mark))
    desk.cable.damage, desk.cable.burst = both, 1
    time.sleep(4)
    desk.cable.burst = _BURST
    time.sleep(3)
    assert 0.006 < desk.cable.damaged < 0.015, desk.cable.damaged
    far.read()
    assert not [line for line in far.lines[marks[1] :] if line["event"] in ("ended", "failed", "leaving")]
    far.send("hangup")
    end = far.wait_for("ended", 40)["media"]
    assert end["received"] > 300, end
    status = alice.send_until("status", "status", timeout_s=40, phone="idle")
    assert status["registration"] == "registered"
    check_sound(alice.microphone, far.speaker, 0.3)
    check_sound(far.microphone, alice.speaker, 0.3)
