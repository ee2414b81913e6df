"""Other projects' SRTP packets and keys, on both Pythons. They are not in this repository."""

import json
import os
import re
import subprocess
import unittest

import pytest
from conftest import ROOT, micropython
from torture.messages import corpora

from neighbour.aes import new_aes
from neighbour.media.gcm import SUITES, GcmReceiver, GcmSender


@pytest.fixture(scope="module", autouse=True)
def _there() -> None:
    if not (corpora() / "srtp").is_dir():
        pytest.skip(f"no SRTP packets in {corpora()}; WISP_CORPORA names the folder of the corpora")


def test_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WISP_CORPORA", str(corpora()))
    import srtp_corpus

    monkeypatch.setattr(srtp_corpus, "FOLDER", f"{corpora()}/srtp/")
    result = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromModule(srtp_corpus).run(result)
    assert result.testsRun == 4
    assert not result.failures + result.errors, (result.failures + result.errors)[0][1]


@pytest.mark.parametrize("bits", [32, 64])
def test_on_micropython(bits: int) -> None:
    command = [micropython(bits), "-X", "heapsize=8M", "tests/runner/run.py", "tests/shared", "srtp_corpus"]
    done = subprocess.run(
        command,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "WISP_CORPORA": str(corpora())},
    )
    assert re.search(r"ran 4, failed 0, skipped 0\n$", done.stdout), done.stdout + done.stderr


def test_gcm() -> None:
    cases = json.loads((corpora() / "srtp" / "libsrtp_packets.json").read_text())
    cases = [case for case in cases if case["suite"].startswith("AEAD_") and "cryptex" not in case]
    assert cases
    for case in cases:
        suite = SUITES[case["suite"].encode()]
        key = bytes.fromhex(case["master_key"] + case["master_salt"])
        plain = bytes.fromhex(case["plain"])
        packet = bytearray(plain + bytes(16))
        assert GcmSender(suite, key, new_aes).protect(packet, len(plain)) == len(packet)
        assert packet.hex() == case["protected"]
        size = GcmReceiver(suite, key, new_aes).unprotect(packet, len(packet))
        assert packet[:size] == plain
