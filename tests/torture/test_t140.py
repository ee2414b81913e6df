"""Real-time text of other makers and of RFC 4103's figures, on CPython and on MicroPython of both word sizes."""

import os
import re
import subprocess
import sys

import pytest
from conftest import ROOT, micropython

from torture.messages import corpora


@pytest.mark.parametrize("bits", [0, 32, 64])
def test_corpus(bits: int) -> None:
    if not (corpora() / "t140").is_dir():
        pytest.skip(f"t140 is not in {corpora()}; WISP_CORPORA names the folder of the corpora")
    command = [micropython(bits), "-X", "heapsize=2M"] if bits else [sys.executable, "-bb"]
    command += ["tests/runner/run.py", "tests/torture", "corpus_t140"]
    environment = {**os.environ, "WISP_CORPORA": str(corpora()), "PYTHONPATH": str(ROOT / "host")}
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"^ran 2, failed 0, skipped 0$", done.stdout, re.MULTILINE), done.stdout + done.stderr
