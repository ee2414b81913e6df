"""The model of setup keys: some hundred runs on CPython, the same runs on every Python, and its tool."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, micropython

CHILD = ROOT / "tools" / "modelling" / "child.py"
#: What the terminal's own process prints of a run: on MicroPython the model has no child.py.
ON_DEVICE = """
import sys
sys.path[:] = ["tests/runner", "tests/device", "tests/shared", "shared", "device"] + sys.path[1:]
import far
import scripted
from model import run
for seed in range({seed}, {seed} + {runs}):
    print("digest", run(seed, {steps}).digest)
"""


def child(seed: int, runs: int, steps: int) -> list[dict[str, object]]:
    command = [sys.executable, "-bb", str(CHILD), str(seed), str(runs), str(steps)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def tool(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "tools" / "run.py"), "model", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_some_hundred_runs() -> None:
    done = tool("--runs", "200", "--seed", "20000", "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    counts = {name: int(count) for count, name in re.findall(r"^ *(\d+) (.+)$", done.stdout, re.MULTILINE)}
    # Nothing of what a run may have in it is missing: it would show nothing.
    for name, least in (
        ("calls", 1000),
        ("connected by setup key", 200),
        ("connected by neighbours", 100),
        ("refused 428", 20),
        ("left alone", 200),
        ("left alone, by setup key", 200),
        ("changes", 100),
        ("restarts", 100),
        ("power cuts in a writing", 20),
        ("neighbours' restarts", 20),
        ("clock changes", 20),
        ("introductions delivered", 100),
        ("revocations heard", 10),
        ("lost", 1000),
        ("repeated", 500),
        ("replayed", 100),
    ):
        assert counts[name] >= least, name
    assert "200 runs of seeds from 20000 in " in done.stdout


@pytest.mark.parametrize("bits", [32, 64])
def test_a_run_is_the_same_on_every_python(bits: int, tmp_path: Path) -> None:
    script = tmp_path / "on_device.py"
    script.write_text(ON_DEVICE.format(seed=30, runs=4, steps=40))
    command = [micropython(bits), "-X", "heapsize=2M", str(script)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    ours = [one["digest"] for one in child(30, 4, 40)]
    assert re.findall(r"^digest (\w+)$", done.stdout, re.MULTILINE) == ours
    assert len(set(ours)) == 4


def test_what_is_broken_is_told(tmp_path: Path) -> None:
    """Terminals with one mistake each: the model finds it within some runs."""
    for name, old, new, said in (
        (
            "vouching",
            "SetupKey.make(trust.kid, header.seq, urandom(NONCE_BYTES))",
            "SetupKey.make(trust.kid, header.seq, bytes(NONCE_BYTES))",
            "a nonce is accepted twice",
        ),
        (
            "revoking",
            "        keystore.forget(config.keys, sides[0])\n",
            "        pass\n",
            "a key is still there when it is heard that it was revoked",
        ),
        ("calling", "elif status in (428, 488) and", "elif status in (488,) and", "no call where there is a path"),
        ("keystore", "found[3], 1 - i,", "found[3], 0,", "a power cut has left neither the old keys nor the new"),
    ):
        for folder in ("shared", "device", "tests/device", "tests/shared", "tests/vectors", "tools/modelling"):
            copy(ROOT / folder, tmp_path / name / folder)
        changed = tmp_path / name / "device" / "terminal" / f"{name}.py"
        source = changed.read_text()
        assert source.count(old) == 1
        changed.write_text(source.replace(old, new))
        own = str(tmp_path / name / "tools" / "modelling" / "child.py")
        done = subprocess.run(
            [sys.executable, "-bb", own, "0", "60", "40"], capture_output=True, text=True, timeout=120
        )
        assert said in done.stdout, (name, done.stderr)


def copy(source: Path, to: Path) -> None:
    for path in source.rglob("*.py"):
        there = to / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        there.write_bytes(path.read_bytes())


def test_one_run_told_event_by_event() -> None:
    done = tool("--runs", "1", "--seed", "3", "--verbose")
    assert done.returncode == 0, done.stdout + done.stderr
    assert " left alone\n" in done.stdout
    assert "'event': 'connected'" in done.stdout
    assert "1 runs of seeds from 3 in " in done.stdout


def test_a_mistake_in_the_command_line() -> None:
    done = tool("--runs", "0")
    assert done.returncode == 2
    assert "runs, jobs and steps begin at 1" in done.stderr
