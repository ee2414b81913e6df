"""`wisp device list`: which ports there are, and what answers on them."""

import fcntl
import json
import os
import pty
import select
import subprocess
import sys
import termios
import threading
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import ROOT, micropython
from test_cli import wisp

pytest.importorskip("serial")

STATUS = {"event": "status", "registration": "registered", "phone": "idle", "heap_used": 70_000}


class Board:
    """Something behind a port: gets each line that is typed, and says what comes back, or None."""

    def __init__(self, path: Path, answer: Callable[[bytes], bytes | None], baud: int | None = None) -> None:
        self.path = path
        self.heard = b""
        self._answer = answer
        self._baud = baud
        self._master, slave = pty.openpty()
        tty.setraw(self._master)
        path.symlink_to(os.ttyname(slave))
        self._slave = slave  # the line stays, whoever comes and goes
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._live)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        os.close(self._master)
        os.close(self._slave)

    def _speed(self) -> int:
        speeds = {termios.B115200: 115200, termios.B921600: 921600}
        return speeds.get(termios.tcgetattr(self._slave)[5], 0)

    def _live(self) -> None:
        line = b""
        while not self._stop.is_set():
            if not select.select([self._master], [], [], 0.05)[0]:
                continue
            data = os.read(self._master, 4096)
            if self._baud is not None and self._speed() != self._baud:
                continue  # it is nonsense at another speed
            self.heard += data
            line += data
            while b"\n" in line:
                typed, _, line = line.partition(b"\n")
                if said := self._answer(typed.strip()):
                    os.write(self._master, said)


@pytest.fixture
def board(tmp_path: Path) -> Iterator[Callable[..., Board]]:
    made: list[Board] = []

    def make(answer: Callable[[bytes], bytes | None], baud: int | None = None, name: str = "") -> Board:
        made.append(Board(tmp_path / (name or f"port{len(made)}"), answer, baud))
        return made[-1]

    yield make
    for one in made:
        one.close()


def terminal(line: bytes) -> bytes | None:
    return json.dumps(STATUS).encode() + b"\r\n" if line == b"status" else None


def events(line: bytes) -> bytes | None:
    """A terminal in a call that talks of other things meanwhile."""
    if line != b"status":
        return None
    return b'{"event": "media", "lost": 0}\r\nnoise\r\n' + json.dumps(STATUS | {"phone": "talking"}).encode() + b"\r\n"


def row(said: str, name: Path | str) -> str:
    return next(" ".join(line.split()) for line in said.splitlines() if line.split()[:1] == [str(name)])


def test_looking_disturbs_nobody(board: Callable[..., Board]) -> None:
    one = board(terminal)
    said = wisp("device", "list", str(one.path))
    assert "answers" not in said
    assert row(said, one.path) == str(one.path)
    assert one.heard == b""


def test_asking(board: Callable[..., Board]) -> None:
    """Each says what it is; nobody is sent a Ctrl-C, which would end a call."""
    idle, talking, hop = board(terminal), board(events), board(terminal, 921600)
    other, silent = board(lambda line: b"login: \x1b[31m\r\n"), board(lambda line: None)
    said = wisp("device", "list", "--ask", *(str(one.path) for one in (idle, talking, hop, other, silent)))
    assert row(said, idle.path).endswith("Wisp terminal, registered")
    assert row(said, talking.path).endswith("Wisp terminal, registered, talking")
    assert row(said, hop.path).endswith("Wisp terminal, registered")
    assert row(said, other.path).endswith("something else: login: [31m login: [31m")
    assert row(said, silent.path).endswith("nothing answers")
    for one in (idle, talking, hop, other, silent):
        assert b"\x03" not in one.heard
        assert one.heard.startswith(b"\r\nstatus\r\n")
    assert idle.heard == b"\r\nstatus\r\n"  # once, at one speed


def test_asking_a_prompt(tmp_path: Path) -> None:
    from lab.board.loader import Chip

    (tmp_path / "flash.bin").write_bytes((b"\xff" * 0x1000 + b"\xe9").ljust(4 << 20, b"\xff"))
    program = [*micropython().split(), str(ROOT / "tests" / "boards" / "prompt.py")]
    with Chip(tmp_path, program=program, is_waiting=False) as chip:
        said = wisp("device", "list", "--ask", str(chip.port))
    assert row(said, chip.port).endswith("MicroPython's prompt")


def test_busy_and_missing(board: Callable[..., Board], tmp_path: Path) -> None:
    one = board(terminal)
    held = os.open(one.path, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        said = wisp("device", "list", "--ask", str(one.path), str(tmp_path / "none"))
    finally:
        os.close(held)
    assert "is in use by another program" in row(said, one.path)
    assert row(said, tmp_path / "none").endswith("not there")
    assert one.heard == b""


def test_ports_of_a_neighbour(board: Callable[..., Board], tmp_path: Path) -> None:
    """Those of its configuration, by their console where `wisp serve` has them."""
    console = board(terminal, name="alice")
    held = board(terminal, name="usb")
    (tmp_path / "wisp.toml").write_text(
        f'domain = "a.example"\n[[serial]]\nport = "{held.path}"\nconsole = "alice"\n'
        '[[serial]]\nport = "/dev/ttyNone7"\n'
    )
    said = wisp("device", "list", "--ask", "-c", str(tmp_path))
    assert row(said, held.path) == (
        f"{held.path} Wisp terminal, registered, on wisp serve's {console.path} {console.path}"
    )
    assert held.heard == b""
    assert row(said, "/dev/ttyNone7") == "/dev/ttyNone7 not there"
    assert str(console.path) in row(wisp("device", "list", "-c", str(tmp_path)), held.path)
    assert "wisp.toml: No such file" in wisp("device", "list", "-c", str(tmp_path / "none" / "wisp.toml"), status=2)
    (tmp_path / "wisp.toml").write_text("[[serial")
    assert "wisp.toml: " in wisp("device", "list", "-c", str(tmp_path), status=2)


def usb(device: str, vid: int | None, pid: int | None, product: str | None = None) -> SimpleNamespace:
    return SimpleNamespace(device=device, vid=vid, pid=pid, product=product, description=product or "n/a")


def test_what_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    from serial.tools import list_ports

    from neighbour.device import ports

    found = [
        usb("/dev/ttyS0", None, None),
        usb("/dev/ttyUSB1", 0x10C4, 0xEA60, "CP2102N USB to UART Bridge Controller"),
        usb("/dev/ttyUSB0", 0x1A86, 0x55D4),
        usb("/dev/ttyACM0", 0x303A, 0x1001, "USB JTAG/serial debug unit"),
        usb("/dev/ttyACM1", 0x1234, 0x5678, "A modem"),
        usb("/dev/ttyACM2", 0x1234, 0x5679),
    ]
    monkeypatch.setattr(list_ports, "comports", lambda: found)
    assert [(port.name, port.what) for port in ports.find()] == [
        ("/dev/ttyACM0", "ESP chip's own USB (303a:1001)"),
        ("/dev/ttyACM1", "A modem (1234:5678)"),
        ("/dev/ttyACM2", "USB device (1234:5679)"),
        ("/dev/ttyUSB0", "WCH CH9102 adapter (1a86:55d4)"),
        ("/dev/ttyUSB1", "Silicon Labs CP210x adapter (10c4:ea60)"),
    ]
    assert ports.find(every=True)[3] == ports.Port("/dev/ttyS0", "serial port")


def test_no_ports(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from serial.tools import list_ports

    from neighbour.cli import run_command

    monkeypatch.setattr(list_ports, "comports", lambda: [usb("/dev/ttyS0", None, None)])
    with pytest.raises(SystemExit) as stopped:
        run_command("device", "list")
    assert stopped.value.code == 1
    said = capsys.readouterr().err
    assert "no serial ports on USB (--all shows others)" in said
    assert "is a board plugged in" in said


def test_no_pyserial(tmp_path: Path) -> None:
    """Without the extra: a sentence, from the commands too."""
    program = (
        "import sys; sys.modules['serial'] = None; from neighbour.cli import run_command; run_command('device', 'list')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr == "pyserial is wanted here: pip install 'wisp-sip[device]'\n"
