"""Labs of real processes: neighbours, and emulated terminals on MicroPython."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import micropython

from lab import sound
from lab.lab import Lab
from lab.processes import Terminal


@pytest.fixture
def lab(tmp_path: Path, rom: Path) -> Iterator[Lab]:
    """An empty lab, of terminals whose code lies in flash."""
    made = Lab(tmp_path / "lab", micropython(), str(rom))
    yield made
    made.stop()


def make_terminal(lab: Lab, domain: str, user: str, hertz: int = 0, seconds: float = 3.0, **settings: object) -> Path:
    """A terminal account whose microphone hears a tone."""
    microphone = lab.folder / f"{user}-says.wav"
    if hertz:
        sound.make_tone(microphone, hertz, seconds)
        settings["microphone"] = microphone
    return lab.make_terminal(domain, user, speaker=lab.folder / f"{user}-hears.wav", **settings)


def connect(caller: Terminal, callee: Terminal, timeout_s: float = 10.0) -> None:
    """Let one terminal call another, and that one answer."""
    marks = [len(one.lines) for one in (caller, callee)]
    caller.send(f"call {callee.aor}")
    callee.wait_for("incoming", timeout_s, since=marks[1])
    callee.send("answer")
    for one, mark in zip((caller, callee), marks, strict=True):
        one.wait_for("connected", timeout_s, since=mark)


def hang_up(first: Terminal, second: Terminal, timeout_s: float = 10.0) -> list[dict]:
    """Let the first of two terminals hang up; returns what both said of the call's end."""
    marks = [len(one.lines) for one in (first, second)]
    first.send("hangup")
    return [one.wait_for("ended", timeout_s, since=mark) for one, mark in zip((first, second), marks, strict=True)]
