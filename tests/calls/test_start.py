"""What a terminal says that can't start: one event with the reason, an exit status, and no traceback."""

import json
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import micropython

GOOD = {
    "user": "alice",
    "domain": "a.example",
    "ha1": "0" * 64,
    "neighbour": "127.0.0.1:5060",
    "board": {"address": "127.13.7.1"},
}


def start(folder: Path, image: Path, text: str, status: int) -> dict[str, Any]:
    (folder / "wisp.json").write_text(text)
    done = subprocess.run(
        [micropython(), "-X", "heapsize=224K", "-m", "terminal", "wisp.json"],
        cwd=folder,
        capture_output=True,
        text=True,
        env={"MICROPYPATH": str(image)},
        stdin=subprocess.DEVNULL,
        timeout=60,
    )
    assert done.returncode == status, done.stdout + done.stderr
    assert done.stderr == ""
    last = done.stdout.splitlines()[-1]
    assert last.startswith('{"event": "error", ')
    said = json.loads(last)
    assert isinstance(said, dict)
    return said


@pytest.mark.parametrize(
    ("changes", "reason", "status"),
    [
        ({"neighbor": "x:1"}, "neighbor: unknown", 2),
        ({"ha1": "secret"}, "ha1: 64 lower-case hex digits wanted", 2),
        ({"board": {"adress": "127.13.7.1"}}, "board.adress: unknown", 2),
        ({"wifi": {"ssid": 7}}, "wifi.ssid: wrong type", 2),
        ({"board": {"address": "192.0.2.99"}}, "network: 192.0.2.99:5060: ", 1),
        ({"neighbour": "nosuch.invalid:5060"}, "network: neighbour nosuch.invalid: ", 1),
        ({"board": {"microphone": "no.wav"}}, "board.microphone: no.wav: can't be read", 2),
        ({"board": {"microphone": "wisp.json"}}, "board.microphone: wisp.json: a WAV file of 8000 Hz, 16 bits", 2),
    ],
)
def test_mistakes(tmp_path: Path, image: Path, changes: dict[str, Any], reason: str, status: int) -> None:
    assert start(tmp_path, image, json.dumps({**GOOD, **changes}), status)["reason"].startswith(reason)


def test_no_json(tmp_path: Path, image: Path) -> None:
    assert start(tmp_path, image, "user = alice", 2)["reason"] == "wisp.json: no JSON"


@pytest.mark.parametrize("port", [5060, 40000])
def test_a_port_in_use(tmp_path: Path, image: Path, port: int) -> None:
    """Two programs on one port would each get some of the other's datagrams."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(("127.13.7.1", port))
        assert "EADDRINUSE" in start(tmp_path, image, json.dumps(GOOD), 1)["reason"]
