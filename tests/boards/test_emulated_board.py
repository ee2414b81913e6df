"""The emulated board: what people and programs do to a board works on it, and its faults are those that were chosen."""

import errno
import hashlib
import json
import os
import re
import select
import signal
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest
import serial
from conftest import ROOT, micropython

from boards.conftest import MakeBoard, mpremote, run
from find_micropython import bits_of
from lab import sound
from lab.board import TO_BOARD, TO_HOST, BoardError, EmulatedBoard, registers

_WAIT_S = 10.0


class Console:
    """A person at the port."""

    def __init__(self, board: EmulatedBoard, baud: int = 115200) -> None:
        self.port = serial.Serial(str(board.port), baud, timeout=0.02)
        self.text = b""

    def wait(self, wanted: bytes, timeout_s: float = _WAIT_S) -> bytes:
        """What came until there was what is wanted, with that."""
        end = time.monotonic() + timeout_s
        while wanted not in self.text:
            assert time.monotonic() < end, (wanted, self.text)
            self.text += self.port.read(4096)
        at = self.text.index(wanted) + len(wanted)
        found, self.text = self.text[:at], self.text[at:]
        return found

    def ask(self, line: bytes) -> bytes:
        """Type a line at the prompt; returns what it printed."""
        self.port.write(line + b"\r")
        self.wait(line + b"\r\n")
        return self.wait(b">>> ")[:-4]

    def __enter__(self) -> "Console":
        return self

    def __exit__(self, *_: object) -> None:
        self.port.close()


def wait_until(condition: object, timeout_s: float = _WAIT_S) -> None:
    end = time.monotonic() + timeout_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < end, "it does not happen"
        time.sleep(0.01)


def put(board: EmulatedBoard, name: str, text: str) -> None:
    run(board, f"with open({name!r}, 'w') as f:\n    f.write({text!r})")


# What mpremote does.


def test_files(make_board: MakeBoard, tmp_path: Path) -> None:
    board = make_board()
    data = os.urandom(5000)
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "data.bin").write_bytes(data)
    (tmp_path / "hello.txt").write_text("Hällo\n")
    mpremote(board, "mkdir", ":lib")
    mpremote(board, "cp", "-r", str(tmp_path / "folder"), str(tmp_path / "hello.txt"), ":")
    assert hashlib.sha256(data).hexdigest() in mpremote(board, "sha256sum", ":folder/data.bin")
    mpremote(board, "cp", ":folder/data.bin", str(tmp_path / "back.bin"))
    assert (tmp_path / "back.bin").read_bytes() == data
    assert mpremote(board, "cat", ":hello.txt") == "Hällo\n"
    assert mpremote(board, "ls").split()[2:] == ["39", "boot.py", "0", "folder/", "7", "hello.txt", "0", "lib/"]
    mpremote(board, "rm", ":hello.txt", "+", "rm", "-r", ":folder")
    assert mpremote(board, "ls").split()[2:] == ["39", "boot.py", "0", "lib/"]
    assert "2097152" in mpremote(board, "df")
    assert "No such file" in mpremote(board, "cat", ":hello.txt", status=1)


def test_programs(make_board: MakeBoard, tmp_path: Path) -> None:
    board = make_board()
    script = tmp_path / "script.py"
    script.write_text("# " + 3000 * "x" + "\nfor i in range(3):\n    print('line', i)\n")
    assert mpremote(board, "run", str(script)) == "line 0\nline 1\nline 2\n"
    assert run(board, "a = 7") == ""
    assert mpremote(board, "resume", "eval", "a + 1") == "8\n"
    failed = run(board, "def f():\n    return 1 / 0\nf()", status=1)
    assert 'Traceback (most recent call last):\n  File "<stdin>", line 3, in <module>\n' in failed
    assert '  File "<stdin>", line 2, in f\nZeroDivisionError: divide by zero' in failed
    assert "firmware" not in failed
    assert "SyntaxError: invalid syntax" in run(board, "1 +", status=1)
    # An error of a driver of ours is told as one of a driver in C: by who called it.
    assert run(board, "import machine\nmachine.Pin(99)", status=1).count("File") == 1


def test_what_it_is(make_board: MakeBoard) -> None:
    board = make_board()
    code = (
        "import os, sys; i = sys.implementation; print((sys.platform, i.name, i.version, i._mpy, os.uname(), sys.path))"
    )
    platform, name, version, mpy, uname, path = eval(run(board, code))
    real = "import sys; i = sys.implementation; print((i.version[:3], i._mpy))"
    done = subprocess.run([micropython(), "-c", real], capture_output=True, text=True, check=True)
    assert (version, mpy) == eval(done.stdout)
    assert (platform, name, path) == ("esp32", "micropython", ["", ".frozen", "/lib"])
    assert uname[4] == "Emulated board with ESP32"


def test_heap(make_board: MakeBoard) -> None:
    """A program finds 112 KiB, of which the collector takes its own part, whatever the firmware takes."""
    free = int(run(make_board(), "import gc; gc.collect(); print(gc.mem_free())"))
    words = bits_of(micropython()) // 32
    assert 0.94 < free / words / (112 * 1024) < 1.02


def test_registers() -> None:
    """Both sides mean the same registers."""
    names = {f"_{name}": getattr(registers, name) for name in registers.__all__ if name.isupper()}
    seen = set()
    for source in (ROOT / "tools" / "lab" / "board" / "firmware").glob("*.py"):
        for name, number in re.findall(r"^(_[A-Z_]+) = const\((\w+)\)", source.read_text(), re.MULTILINE):
            if name in names:
                assert int(number) == names[name], (source.name, name)
                seen.add(name)
    assert seen == names.keys()


def test_install(make_board: MakeBoard, tmp_path: Path) -> None:
    board = make_board()
    (tmp_path / "thing.py").write_text("def f():\n    return 'installed'\n")
    package = {"urls": [["thing.py", "thing.py"]], "deps": [], "version": "1"}
    (tmp_path / "package.json").write_text(json.dumps(package))
    mpremote(board, "mip", "install", str(tmp_path / "package.json"))
    assert run(board, "import thing; print(thing.f())") == "installed"


def test_rom(make_board: MakeBoard, tmp_path: Path) -> None:
    board = make_board(romfs=65536)
    assert "64 blocks" not in mpremote(board, "romfs", "query")
    assert "has size 65536 bytes (16 blocks of 4096 bytes each)" in mpremote(board, "romfs", "query")
    (tmp_path / "rom").mkdir()
    (tmp_path / "rom" / "inside.py").write_text("x = 'from rom'\n")
    (tmp_path / "rom" / "large.bin").write_bytes(os.urandom(20000))
    assert "ROMFS image deployed" in mpremote(board, "romfs", "--no-mpy", "deploy", str(tmp_path / "rom"))
    assert (
        run(board, "import inside, os; print(inside.x, inside.__file__, os.stat('/rom/large.bin')[6])")
        == "from rom /rom/inside.py 20000"
    )
    board.reset()
    assert run(board, "import inside; print(inside.x)") == "from rom"
    assert "ROMFS is not enabled" in mpremote(make_board("without"), "romfs", "query")


# Starts, resets, and the prompt for people.


def test_prompt(make_board: MakeBoard) -> None:
    board = make_board()
    with Console(board) as console:
        console.port.write(b"\r")
        console.wait(b">>> ")
        assert console.ask(b"1 + 1") == b"2\r\n"
        console.port.write(b"'abc\x08\x7fd'\r")
        assert b"'ad'\r\n" in console.wait(b"'ad'\r\n>>> ")
        console.port.write(b"for i in range(2):\r    print(i)\r\r")
        assert b"0\r\n1\r\n>>> " in console.wait(b"1\r\n>>> ")
        console.port.write(b"\x05y = 5\rprint(y)\r\x04")
        console.wait(b"=== ")
        console.wait(b"5\r\n>>> ")
        console.port.write(b"nonsense\x03")
        console.wait(b"nonsense\r\n>>> ")
        console.port.write(b"\x04")
        assert b"MPY: soft reboot\r\nMicroPython v" in console.wait(b">>> ")
        assert b"isn't defined" in console.ask(b"y")
        assert console.ask(b"import machine; machine.reset_cause()") == b"5\r\n"
        console.port.write(b"import machine; machine.reset()\r")
        assert b"rst:0xc (SW_CPU_RESET)" in console.wait(b">>> ")
    assert board.reboots == 1
    assert board.crashes == 0


def test_start_files(make_board: MakeBoard) -> None:
    board = make_board()
    put(board, "boot.py", 'print("boot")\nb = 1\n')
    put(board, "main.py", 'import time\nprint("main", b)\nwhile True:\n    time.sleep_ms(5)\n')
    with Console(board) as console:
        board.reset()
        console.wait(b"boot\r\nmain 1\r\n")
        console.port.write(b"\x03")
        said = console.wait(b">>> ")
        assert (
            b'Traceback (most recent call last):\r\n  File "main.py", line 4, in <module>\r\nKeyboardInterrupt: \r\n'
            in said
        )
        assert console.ask(b"b") == b"1\r\n"
    # mpremote gets in, and boot.py runs before it does, main.py not.
    assert mpremote(board, "eval", "b") == "1\n"
    run(board, "import os; os.remove('main.py')")


@pytest.mark.parametrize(
    "loop",
    [
        "while True:\n    pass",
        "import time\nwhile True:\n    time.sleep(1)",
        "import time\nwhile True:\n    with open('x', 'w') as f:\n        f.write('y' * 100)\n    time.sleep_ms(2)",
    ],
)
def test_interruption(make_board: MakeBoard, loop: str) -> None:
    """Ctrl-C ends whatever runs, and the file system is whole after it."""
    board = make_board()
    with Console(board) as console:
        for _ in range(5):
            console.port.write(b"\r\x01")
            console.wait(b"raw REPL; CTRL-B to exit\r\n>")
            console.port.write(loop.encode() + b"\x04")
            console.wait(b"OK")
            time.sleep(0.05)
            console.port.write(b"\x03")
            assert console.wait(b"\x04>").endswith(b"KeyboardInterrupt: \r\n\x04>")
            console.port.write(b"\x02")
            console.wait(b">>> ")
    put(board, "z", "ok")
    assert run(board, "import os; print('boot.py' in os.listdir(), open('z').read())") == "True ok"
    assert board.crashes == 0


def test_reset_causes(make_board: MakeBoard) -> None:
    board = make_board()
    cause = "import machine; print(machine.reset_cause())"
    assert mpremote(board, "resume", "exec", cause) == "1\n"
    run(board, "import machine; machine.RTC().memory(b'kept')")
    assert mpremote(board, "soft-reset", "resume", "exec", cause) == "5\n"
    mpremote(board, "reset")
    wait_until(lambda: board.reboots == 1)
    board.wait_started()
    assert mpremote(board, "resume", "exec", cause) == "2\n"
    assert run(board, "import machine; print(machine.RTC().memory())") == "b'kept'"
    board.unplug(powered=False)
    board.plug()
    assert mpremote(board, "resume", "exec", cause) == "1\n"
    assert run(board, "import machine; print(machine.RTC().memory())") == "b''"


def test_watchdog(make_board: MakeBoard) -> None:
    board = make_board()
    run(
        board,
        "import machine, time\nw = machine.WDT(timeout=300)\nfor _ in range(8):\n    time.sleep_ms(100)\n    w.feed()\nmachine.WDT(timeout=60000)",
    )
    time.sleep(0.5)
    assert board.watchdogs == 0
    with Console(board) as console:
        console.port.write(b"import machine; w = machine.WDT(timeout=200)\rwhile True: pass\r\r")
        assert b"TG1WDT_SYS_RESET" in console.wait(b"rst:0x8 (TG1WDT_SYS_RESET)", 5)
    board.wait_started()
    assert mpremote(board, "resume", "exec", "import machine; print(machine.reset_cause())") == "3\n"
    assert (board.watchdogs, board.crashes) == (1, 0)


# Flash.


def test_full_flash(make_board: MakeBoard, tmp_path: Path) -> None:
    board = make_board(size=65536)
    (tmp_path / "large").write_bytes(os.urandom(80000))
    assert "No space left" in mpremote(board, "cp", str(tmp_path / "large"), ":", status=1)
    mpremote(board, "rm", ":large")
    assert "39 boot.py" in mpremote(board, "ls")


def test_power_cuts(make_board: MakeBoard) -> None:
    """Wherever power fails, the file system mounts again: what was renamed is there, old or new."""
    board = make_board()
    write = "f = open('a.new', 'w')\nf.write('{0}' * 3000)\nf.close()\nimport os\nos.rename('a.new', 'a')"
    run(board, write.format("old"))
    cuts = 0
    for writes in range(1, 200, 7):
        board.fault(power_cut_after=writes)
        with Console(board) as console:
            console.port.write(b"\r\x01")
            console.wait(b">")
            console.wait(b">")
            console.port.write(write.format("new").encode() + b"\x04")
            end = time.monotonic() + _WAIT_S
            while board.is_powered and b"\x04\x04" not in console.text:
                assert time.monotonic() < end
                console.text += console.port.read(100)
        if board.is_powered:
            break
        cuts += 1
        board.fault()
        board.plug()
        found = run(board, "print(open('a').read()[:3], len(open('a').read()))")
        assert found in ("old 9000", "new 9000"), writes
        run(board, write.format("old"))
    assert cuts > 3


def test_flash_is_kept(make_board: MakeBoard, tmp_path: Path) -> None:
    with EmulatedBoard(tmp_path / "same", micropython()) as board:
        put(board, "kept", "yes")
    with EmulatedBoard(tmp_path / "same", micropython()) as board:
        assert run(board, "print(open('kept').read())") == "yes"
    with pytest.raises(BoardError, match="has 2097152 bytes, not 65536"):
        EmulatedBoard(tmp_path / "same", micropython(), size=65536)


# The line.


@pytest.mark.parametrize("powered", [True, False])
def test_unplugging(make_board: MakeBoard, powered: bool) -> None:
    board = make_board()
    with Console(board) as console:
        console.port.write(b"\r")
        console.wait(b">>> ")
        assert console.ask(b"x = 5") == b""
        board.unplug(powered)
        assert not board.port.exists()
        assert board.is_powered is powered
        with pytest.raises((serial.SerialException, OSError, termios.error)):
            console.wait(b"never")
    board.plug()
    with Console(board) as console:
        console.port.write(b"\r")
        console.wait(b">>> ")
        assert (console.ask(b"x") == b"5\r\n") is powered


def test_unplugged_after(make_board: MakeBoard, tmp_path: Path) -> None:
    """After so many bytes, to the byte, in either direction; and whoever does it again is done."""
    board = make_board()
    (tmp_path / "file").write_bytes(b"12345" * 300)
    for way in (TO_BOARD, TO_HOST):
        for count in (1, 150, 800, 1700):
            board.fault(unplug_after={way: count})
            command = [sys.executable, "-m", "mpremote", "connect", str(board.port), "cp", str(tmp_path / "file"), ":"]
            done = subprocess.run(command, capture_output=True, timeout=60)
            if not board.port.exists():
                assert done.returncode != 0
                assert board.passed[way] == count
            board.fault()
            board.plug()
            mpremote(board, "cp", "-f", str(tmp_path / "file"), ":")
            assert hashlib.sha256(b"12345" * 300).hexdigest() in mpremote(board, "sha256sum", ":file")


def test_damage(make_board: MakeBoard) -> None:
    board = make_board()
    with Console(board) as console:
        console.port.write(b"import sys\r")
        console.wait(b">>> ")
        console.ask(b"1")
        board.fault(damage=0.01, damaged=(TO_HOST,), seed=5)
        console.port.write(b"sys.stdout.write('z' * 20000); print()\r")
        data = b""
        while len(data) < 19000:
            data += console.port.read(4096)
        time.sleep(0.2)
        data += console.port.read(4096)
    wrong = sum(byte != ord("z") for byte in data)
    assert 80 < wrong < 300


def test_pace(make_board: MakeBoard) -> None:
    board = make_board(baud=115200)
    with Console(board) as console:
        console.port.write(b"\r")
        console.wait(b">>> ")
        started = time.monotonic()
        console.port.write(b"print('w' * 11520)\r")
        console.wait(b"w" * 11520)
        assert 0.9 < time.monotonic() - started < 2


def test_uart(make_board: MakeBoard) -> None:
    """A program whose UART gets the prompt's pins has every byte for itself, at its own speed; then the prompt again."""
    board = make_board(baud=115200)
    code = (
        "import machine, select\nu = machine.UART(1, 921600, tx=1, rx=3, rxbuf=1024)\np = select.poll()\np.register(u, select.POLLIN)\n"
        "u.write(b'go\\n')\nn = 0\nb = bytearray(300)\n"
        "while n < 768:\n    p.poll(5000)\n    k = u.readinto(b, min(u.any(), 300))\n    if k:\n        u.write(b[:k])\n        n += k\n"
        "u.deinit()\ntry:\n    machine.UART(0, 115200, tx=1, rx=3)\nexcept OSError:\n    print('over')\n"
    )
    with Console(board) as console:
        console.port.write(b"\r\x01")
        console.wait(b">")
        console.port.write(code.encode() + b"\x04")
        console.wait(b"OK")
        time.sleep(0.3)
        console.port.read(4096)
        # At the wrong speed nothing of it can be read.
        console.port.baudrate = 921600
        console.text = b""
        data = bytes(range(256)) * 3
        started = time.monotonic()
        console.port.write(data)
        said = b""
        while len(said) < 768:
            said += console.port.read(4096)
            assert time.monotonic() - started < _WAIT_S
        assert said[:768] == data  # and then rubbish: the prompt, at its own speed
        console.port.baudrate = 115200
        time.sleep(0.1)
        console.port.write(b"\x02")
        console.wait(b">>> ")


def test_wrong_speed(make_board: MakeBoard) -> None:
    board = make_board()
    with Console(board, 9600) as console:
        console.port.write(b"\rprint(1)\r")
        time.sleep(0.3)
        assert b">>>" not in console.port.read(4096)


def test_standard_input(make_board: MakeBoard) -> None:
    board = make_board()
    code = (
        "import sys, select, micropython\np = select.poll()\np.register(sys.stdin, select.POLLIN)\nmicropython.kbd_intr(-1)\nprint('go')\n"
        "d = b''\nwhile len(d) < 4:\n    if p.poll(1000):\n        d += sys.stdin.buffer.read(1)\nsys.stdout.buffer.write(b'\\n' + d + b'\\n')\nprint('ok')\nmicropython.kbd_intr(3)\n"
    )
    with Console(board) as console:
        console.port.write(b"\r\x01")
        console.wait(b"raw REPL; CTRL-B to exit\r\n>")
        console.port.write(code.encode() + b"\x04")
        console.wait(b"go\r\n")
        console.port.write(b"a\x03\r\n")
        # What goes through the buffer goes as it is, what is printed has its line ends made.
        assert console.wait(b"\x04>") == b"\na\x03\r\n\nok\r\n\x04\x04>"


# Hardware.


def test_pins(make_board: MakeBoard) -> None:
    board = make_board()
    code = "from machine import Pin\np = Pin(0, Pin.IN, Pin.PULL_UP)\nprint(p.value())\nPin(2, Pin.OUT).value(1)"
    assert run(board, code) == "1"
    assert board.output(2) == 1
    board.drive(0, 0)
    assert mpremote(board, "resume", "eval", "p.value()") == "0\n"
    board.drive(0, None)
    assert mpremote(board, "resume", "eval", "p.value()") == "1\n"


def test_wifi(make_board: MakeBoard) -> None:
    board = make_board(access_points={"home": "right", "open": ""}, address="127.77.1.2")
    run(
        board,
        "import network, time\nw = network.WLAN(network.STA_IF)\nw.active(True)\nw.config(pm=network.WLAN.PM_NONE)\n",
    )

    def go(code: str) -> str:
        return mpremote(board, "resume", "exec", code).strip()

    def connect(name: str, password: str) -> str:
        return go(
            f"w.connect({name!r}, {password!r})\nwhile w.status() == network.STAT_CONNECTING:\n    time.sleep_ms(10)\nprint(w.status(), w.isconnected(), w.ifconfig()[0])"
        )

    assert eval(go("print(sorted(n[0] for n in w.scan()))")) == [b"home", b"open"]
    assert connect("home", "wrong") == "202 False 0.0.0.0"
    assert connect("none", "x") == "201 False 0.0.0.0"
    assert connect("open", "") == "1010 True 127.77.1.2"
    assert connect("home", "right") == "1010 True 127.77.1.2"
    board.access_point("home", "right", reach=False)
    assert go("print(w.isconnected(), w.status())") == "False 200"
    board.access_point("home", "right")
    time.sleep(0.3)
    assert go("print(w.isconnected())") == "True"
    board.remove_access_point("home")
    assert go("print(w.isconnected())") == "False"


def test_shift(make_board: MakeBoard) -> None:
    code = (
        "import struct\nfrom machine import I2S\nfor n in (3, -2):\n    b = bytearray(struct.pack('<3h', -5, 7, 4097))\n"
        "    I2S.shift(buf=b, bits=16, shift=n)\n    print(struct.unpack('<3h', b))"
    )
    assert run(make_board(), code) == "(-40, 56, -32760)\n(-2, 1, 1024)"


def test_sound(make_board: MakeBoard, tmp_path: Path) -> None:
    """The microphone is heard at its pace, and what is played is recorded at that of the speaker."""
    sound.make_tone(tmp_path / "says.wav", 600, 2)
    board = make_board(microphone=tmp_path / "says.wav", speaker=tmp_path / "hears.wav")
    code = (
        "import time, select\nfrom machine import I2S\n"
        "a = dict(sck=1, ws=2, sd=3, bits=16, format=I2S.MONO, rate=8000, ibuf=4000)\n"
        "m = I2S(0, mode=I2S.RX, **a)\ns = I2S(1, mode=I2S.TX, **a)\np = select.poll()\np.register(m, select.POLLIN)\np.poll(0)\n"
        "q = select.poll()\nq.register(s, select.POLLOUT)\nq.poll(0)\n"
        "t = time.ticks_ms()\nn = 0\nb = bytearray(320)\n"
        "while n < 16000:\n    p.poll(100)\n    k = m.readinto(b)\n    n += k\n    s.write(memoryview(b)[:k])\n"
        "print(time.ticks_diff(time.ticks_ms(), t))\n"
        "print(m.readinto(b) < 320, len(b))\ntime.sleep_ms(1000)\nl = 0\nwhile True:\n    k = m.readinto(b)\n    if not k:\n        break\n    l += k\nprint(3900 < l < 4200)\n"
        "print([s.write(b) for _ in range(20)][-1] < 320)\nm.deinit()\ns.deinit()"
    )
    took, *rest = run(board, code).splitlines()
    assert 950 < int(took) < 1150
    assert rest == ["True 320", "True", "True"]
    heard = sound.read(tmp_path / "hears.wav")
    said = sound.read(tmp_path / "says.wav")
    start = heard.find(said[4000:8000])
    assert start >= 0, "it was not played as it was heard"
    assert len(heard) > 30000, "a second, and a second of silence"


# Boards with something else on them.


def test_other_firmware(make_board: MakeBoard) -> None:
    with Console(make_board("silent", firmware="silent")) as console:
        console.port.write(b"\r\x03\r\x01")
        time.sleep(0.3)
        assert console.port.read(100) == b""
    board = make_board("other", firmware="other")
    with Console(board) as console:
        time.sleep(0.1)
        board.reset()
        console.wait(b"ready\r\n")
    assert "could not enter raw repl" in mpremote(board, "exec", "1", status=1)


def test_old_firmware(make_board: MakeBoard) -> None:
    board = make_board(version="1.20.0", mpy=5)
    code = "import sys; print(sys.implementation.version, sys.implementation._mpy & 255, sys.version)"
    assert run(board, code) == "(1, 20, 0) 5 3.4.0; MicroPython v1.20.0"


def test_reboots(make_board: MakeBoard) -> None:
    board = make_board()
    board.fault(reboot_every_s=0.3)
    wait_until(lambda: board.reboots >= 3)
    board.fault()
    board.wait_started()
    assert run(board, "print('well')") == "well"


# Tidiness.


def test_nothing_is_left(tmp_path: Path) -> None:
    before = {path.name for path in Path("/proc/self/fd").iterdir()}
    board = EmulatedBoard(tmp_path / "board", micropython())
    board.start()
    pid = board.pid
    assert pid is not None
    board.unplug()
    board.plug()
    board.stop()
    board.stop()
    assert not board.port.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert {path.name for path in Path("/proc/self/fd").iterdir()} == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_for_people(tmp_path: Path, number: signal.Signals) -> None:
    link = tmp_path / "port"
    command = [
        sys.executable,
        "-m",
        "lab.board",
        "--link",
        str(link),
        "--flash",
        str(tmp_path / "flash"),
        "--size",
        "256",
        "--wifi",
        "home:WIFI",
        "--micropython",
        micropython(),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools"), "TMPDIR": str(tmp_path), "WIFI": "hush"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], 20)
        assert ready
        assert str(link) in process.stdout.readline()
        done = subprocess.run(
            [sys.executable, "-m", "mpremote", "connect", str(link), "exec", "print(6 * 7)"],
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.stdout == "42\n"
        children = Path(f"/proc/{process.pid}/task").glob("*/children")
        board = [int(pid) for file in children for pid in file.read_text().split()]
        process.send_signal(number)
        try:
            process.wait(10)
        finally:
            process.kill()
    assert len(board) == 1

    def is_gone() -> bool:
        try:
            os.kill(board[0], 0)
        except OSError as error:
            return error.errno == errno.ESRCH
        return "Z" in Path(f"/proc/{board[0]}/stat").read_text().rpartition(")")[2].split()[0]

    wait_until(is_gone)
    assert (tmp_path / "flash").stat().st_size == 256 * 1024
    if number != signal.SIGKILL:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["flash"]


def test_mistakes(tmp_path: Path) -> None:
    def refused(*arguments: str) -> str:
        command = [sys.executable, "-m", "lab.board", "--micropython", micropython(), *arguments]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools"), "TMPDIR": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
        assert done.returncode
        assert "Traceback" not in done.stderr
        return done.stderr

    assert "NOSUCH is not set" in refused("--wifi", "home:NOSUCH")
    (tmp_path / "bad.wav").write_bytes(b"bad")
    assert "bad.wav" in refused("--microphone", str(tmp_path / "bad.wav"))
    assert "a multiple of 4 wanted" in refused("--size", "3")
    assert "does not start" in refused("--micropython", "/bin/false")
