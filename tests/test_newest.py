"""The image runs on every MicroPython of 32 bits that can be had: 1.25, Debian's newest, and npm's, which is newer.

What mpy-cross makes has to be read by all of them. Terminals run on the first two: on the port to WebAssembly there are
no sockets and no AES, and its files load all the same.
"""

import json
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from calls.conftest import connect, hang_up
from conftest import ROOT, micropython, webassembly

import find_micropython
from benchmarks.terminal import make_pair
from debian import UnavailableError
from lab.lab import Lab

# What a port lacks is missed when a module runs, and then it has been loaded.
_NO_BOARD = {"ImportError(\"no module named 'machine'\",)", "ImportError(\"no module named 'network'\",)"}
_NO_RUN = {"SystemExit(2,)"}  # the terminal's own program, which wants a configuration
_NO_CRYPTOGRAPHY = {
    "ImportError(\"no module named 'os.urandom'\",)",
    "ImportError(\"no module named 'cryptolib'\",)",
    'ImportError("can\'t import name md5",)',
    'ImportError("can\'t import name sha1",)',
}
_TALK_S = 2
_HEAPS_KIB = {"flash": 112, "heap": 128}
_LOAD = ROOT / "tests" / "runner" / "load.py"


def command(which: str) -> list[str]:
    if which == "webassembly":
        return webassembly()
    return [micropython(32, newest=which == "newest"), "-X", "heapsize=8M"]


def load(which: str, image: Path) -> dict[str, Any]:
    """What comes of each .mpy of an image, on one of them."""
    run = command(which)
    arguments = [str(image), str(_LOAD)] if which == "webassembly" else [str(_LOAD), str(image)]
    done = subprocess.run([*run, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads(done.stdout.rstrip().rpartition("\n")[2])
    assert isinstance(found, dict)
    assert found["bits"] == 32
    return found


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


every_one = pytest.mark.parametrize("which", ["usual", "newest", "webassembly"])


@every_one
def test_image_loads(which: str, image: Path) -> None:
    found = load(which, image)
    assert found["files"].keys() == {path.relative_to(image).as_posix() for path in image.rglob("*.mpy")}
    missed = _NO_BOARD | _NO_RUN | (_NO_CRYPTOGRAPHY if which == "webassembly" else set())
    assert {name: error for name, error in found["files"].items() if error and error not in missed} == {}
    if which != "webassembly":
        failed = {name for name, error in found["files"].items() if error}
        assert failed == {"terminal/board/esp32.mpy", "terminal/__main__.mpy"}


@every_one
def test_file_of_another_version_does_not_load(which: str, image: Path, tmp_path: Path) -> None:
    """So what loads is what this MicroPython reads."""
    copy = tmp_path / "image"
    shutil.copytree(image, copy)
    file = copy / "terminal" / "settings.mpy"
    content = bytearray(file.read_bytes())
    assert content[:2] == b"M\6"
    content[1] = 7
    file.write_bytes(content)
    assert load(which, copy)["files"]["terminal/settings.mpy"].startswith("ValueError('incompatible .mpy file'")


def test_they_are_newer(image: Path) -> None:
    usual, newest, webassembly = (number(load(which, image)["version"]) for which in ("usual", "newest", "webassembly"))
    assert (1, 25) <= usual <= newest
    assert webassembly >= (1, 29)


@pytest.mark.parametrize("place", ["flash", "heap"])
def test_call_on_the_newest(place: str, image: Path, rom: Path, tmp_path: Path) -> None:
    """Registered, called, heard, and ready for another call."""
    code = rom if place == "flash" else image
    with Lab(tmp_path / "lab", micropython(32, newest=True), str(code)) as lab:
        terminals = [lab.start_terminal(path, _HEAPS_KIB[place]) for path in make_pair(lab, 10)]
        for one in terminals:
            one.wait_for("registered", 20)
        alice, bob = terminals
        for _ in range(2):
            connect(alice, bob)
            time.sleep(_TALK_S)
            for ended in hang_up(bob, alice):
                assert ended["media"]["lost"] == ended["media"]["rejected"] == 0
                assert ended["media"]["received"] > _TALK_S * 40  # of 50 a second
        assert not [line for one in terminals for line in one.lines if line["event"] in ("starved", "error")]


def test_one_of_your_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    own = micropython(32)
    monkeypatch.setenv("MICROPYTHON_NEWEST", own)
    assert find_micropython.find(32, newest=True) == own
    monkeypatch.setenv("MICROPYTHON_NEWEST", str(tmp_path / "none"))
    with pytest.raises(UnavailableError, match="MICROPYTHON_NEWEST="):
        find_micropython.find(32, newest=True)
