"""The terminal as it is, installed by mpremote on emulated boards, with real neighbours: it registers, and it speaks."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import serial
from conftest import ROOT, micropython

from boards.conftest import MakeBoard, mpremote
from lab import sound
from lab.board import EmulatedBoard
from lab.lab import Lab

_SECONDS = 8.0
_WAIT_S = 20.0


class Phone:
    """A board with the program on it, and its console."""

    def __init__(self, board: EmulatedBoard) -> None:
        self.board = board
        self.port = serial.Serial(str(board.port), 115200, timeout=0.02)
        self.lines: list[dict[str, Any]] = []
        self.said = self._tail = b""

    def send(self, command: str) -> None:
        self.port.write(command.encode() + b"\r\n")

    def wait(self, event: str) -> dict[str, Any]:
        """The next event of a kind."""
        end = time.monotonic() + _WAIT_S
        while True:
            while self.lines:
                line = self.lines.pop(0)
                if line["event"] == event:
                    return line
            assert time.monotonic() < end, (event, self.said, self.board.stderr())
            data = self.port.read(4096)
            self.said += data
            *whole, self._tail = (self._tail + data).split(b"\r\n")
            self.lines += [json.loads(one) for one in whole if one.startswith(b"{")]


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "lab", micropython()) as made:
        yield made


def install(board: EmulatedBoard, account: Path, address: str, code: Path) -> Phone:
    """Put the program on a board as a person would, and start it."""
    values = json.loads(account.read_text())
    values.update(board={"led": 2}, wifi={"ssid": "home", "password": "right"})
    configuration = board.folder / "wisp.json"
    configuration.write_text(json.dumps(values))
    if code.is_file():
        mpremote(board, "romfs", "deploy", str(code))
    else:
        mpremote(board, "cp", "-r", str(code / "terminal"), str(code / "sipwire"), ":")
    mpremote(board, "cp", str(configuration), str(ROOT / "device" / "main.py"), ":")
    phone = Phone(board)
    board.reset()
    started = phone.wait("started")
    assert phone.wait("wifi")["address"] == address
    assert phone.wait("registered")["aor"] == started["aor"]
    return phone


def make_account(lab: Lab, domain: str, user: str) -> tuple[Path, str]:
    path = lab.make_terminal(domain, user)
    return path, json.loads(path.read_text())["board"]["address"]


@pytest.mark.parametrize("where", ["heap", "flash"])
def test_speech(lab: Lab, make_board: MakeBoard, image: Path, rom: Path, where: str) -> None:
    """Two boards with 112 KiB of heap, the program in it or in a ROMFS partition: both hear what the other one says."""
    lab.make_domains("a.example", "b.example")
    phones = []
    for domain, user, hertz in (("a.example", "alice", 440), ("b.example", "bob", 880)):
        lab.start_neighbour(domain)
        account, address = make_account(lab, domain, user)
        microphone = lab.folder / f"{user}-says.wav"
        sound.make_tone(microphone, hertz, _SECONDS)
        board = make_board(
            user,
            romfs=1 << 18 if where == "flash" else 0,
            access_points={"home": "right"},
            address=address,
            microphone=microphone,
            speaker=lab.folder / f"{user}-hears.wav",
        )
        phones.append(install(board, account, address, image if where == "heap" else rom))
    alice, bob = phones
    alice.send("call sip:bob@b.example")
    bob.wait("incoming")
    # Bob answers by the button that such a board has at GPIO 0.
    bob.board.drive(0, 0)
    time.sleep(0.3)
    bob.board.drive(0, None)
    for phone in phones:
        connected = phone.wait("connected")
        assert connected["suite"].startswith("AES_CM_")
        assert phone.board.output(2) == 1, "its lamp is lit in a call"
    time.sleep(4)
    alice.send("hangup")
    for phone in phones:
        media = phone.wait("ended")["media"]
        assert media["lost"] == 0
        assert media["received"] > 150
    wanted = {"alice": 880, "bob": 440}
    for user, hertz in wanted.items():
        assert sound.dominant_hz(lab.folder / f"{user}-hears.wav") == hertz
    assert [(phone.board.reboots, phone.board.crashes) for phone in phones] == [(1, 0), (1, 0)]
    for phone in phones:
        phone.port.close()


def test_wifi_comes_and_goes(lab: Lab, make_board: MakeBoard, rom: Path) -> None:
    """The reason why there is no network is told; when it is there, or there again, the board registers."""
    lab.make_domains("a.example")
    lab.start_neighbour("a.example")
    account, address = make_account(lab, "a.example", "alice")
    board = make_board(romfs=1 << 18, access_points={"home": "right"}, address=address)
    phone = install(board, account, address, rom)
    board.access_point("home", "right", reach=False)
    assert phone.wait("wifi")["error"] == "lost"
    board.access_point("home", "right")
    assert phone.wait("wifi")["address"] == address
    assert phone.wait("registered")
    # Ctrl-C ends the program, and the prompt is there.
    phone.port.write(b"\x03")
    time.sleep(0.5)
    assert b'"reason": "Ctrl-C"' in phone.port.read(4096)
    phone.port.close()
    assert mpremote(board, "eval", "1 + 1") == "2\n"


def test_a_person_without_a_board(tmp_path: Path) -> None:
    """What the documents say: a board by one command, and mpremote on it."""
    done = subprocess.run(
        [sys.executable, "-m", "lab.board", "--help"], capture_output=True, text=True, cwd=ROOT / "tools"
    )
    assert done.returncode == 0
    for option in ("--flash", "--wifi", "--microphone", "--speaker", "--romfs", "--baud"):
        assert option in done.stdout
