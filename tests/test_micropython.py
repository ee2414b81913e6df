"""The unittest suites of sipwire and of the terminal, on MicroPython of both word sizes."""

import re
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, micropython

SUITES = sorted(
    path.relative_to(ROOT) for folder in ("shared", "device") for path in (ROOT / "tests" / folder).glob("test_*.py")
)

#: The terminal collects its garbage often, which takes the longer the larger the heap is.
HEAPS = {"shared": "64M", "device": "2M"}


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("suite", SUITES, ids=str)
def test_suite(suite: Path, bits: int) -> None:
    heap = f"heapsize={HEAPS[suite.parent.name]}"
    command = [micropython(bits), "-X", heap, "tests/runner/run.py", str(suite.parent), suite.stem]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    last = done.stdout.rstrip().rpartition("\n")[2]
    found = re.fullmatch(r"ran (\d+), failed (\d+), skipped (\d+)", last)
    assert done.returncode == 0, done.stdout + done.stderr
    assert found, done.stdout + done.stderr
    assert int(found[1]) > 0
    assert found[2] == found[3] == "0", done.stdout
