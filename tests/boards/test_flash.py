"""`wisp device flash`, with the real esptool, against a chip that is emulated up to its flash."""

import errno
import fcntl
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, micropython
from test_cli import WISP

from boards.images import BANNER, application, firmware
from lab.board.loader import Chip

pytest.importorskip("esptool")

NO_FIRMWARE = "the board has no working firmware now: run the command again"


def flash(chip: Chip | Path, image: Path, *options: str, status: int = 0, typed: str | None = None) -> str:
    """Run the command; returns what it says. `typed` is what a person at a terminal answers."""
    port = chip.port if isinstance(chip, Chip) else chip
    master = slave = None
    if typed is not None:
        master, slave = pty.openpty()
        os.write(master, typed.encode())
    done = subprocess.run(
        [WISP, "device", "flash", str(port), "--firmware", str(image), *options],
        stdin=subprocess.DEVNULL if slave is None else slave,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "COLUMNS": "200"},
    )
    for end in (master, slave):
        if end is not None:
            os.close(end)
    said = done.stdout + done.stderr
    assert done.returncode == status, said
    assert "Traceback" not in said
    return said


@pytest.fixture(scope="module")
def prompt() -> list[str]:
    """What runs on a board that has started: the prompt of a real MicroPython."""
    return [*micropython().split(), str(ROOT / "tests" / "boards" / "prompt.py")]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "ESP32_GENERIC.bin"
    path.write_bytes(firmware())
    return path


@pytest.fixture
def chip(tmp_path: Path) -> Iterator[Chip]:
    """One whose flash has something in it already."""
    (tmp_path / "flash.bin").write_bytes(b"\x5a" * (4 << 20))
    with Chip(tmp_path) as made:
        yield made


def holds(chip: Chip, data: bytes, offset: int) -> bool:
    """Whether its flash has a firmware, and nothing else."""
    there = chip.flash.read_bytes()
    return there == (b"\xff" * offset + data).ljust(len(there), b"\xff")


@pytest.mark.parametrize(("kind", "offset"), [("esp32", 0x1000), ("esp32s3", 0), ("esp32c3", 0)])
def test_flash(tmp_path: Path, prompt: list[str], kind: str, offset: int) -> None:
    """Erased, written, verified, started; whatever the flash had before is gone."""
    (tmp_path / "flash.bin").write_bytes(b"\x5a" * (4 << 20))
    image = tmp_path / "firmware.bin"
    image.write_bytes(firmware(kind))
    with Chip(tmp_path, kind, program=prompt) as chip:
        said = flash(chip, image, "--yes")
        assert holds(chip, firmware(kind), offset)
        assert chip.done.index("erase") < chip.done.index("write") < chip.done.index("digest")
    name = {"esp32": "ESP32-D0WD-V3", "esp32s3": "ESP32-S3", "esp32c3": "ESP32-C3"}[kind]
    assert f"{chip.port}: {name}" in said
    assert "4 MB of flash, 24:6f:28:a1:b2:c3" in said
    assert "v1.26.1 on 2025-09-11; Generic ESP32 module with ESP32, for ESP32" in said
    for step in ("erasing", "writing", "verifying"):
        assert step in said
    assert f"{chip.port}: MicroPython 1." in said
    assert f"next: wisp device provision {chip.port}" in said


def test_asks(chip: Chip, image: Path) -> None:
    """Nothing is erased where a person says no, or where there is nobody to ask."""
    before = chip.flash.read_bytes()
    said = flash(chip, image, typed="n\n", status=1)
    assert "Everything on the board will be erased" in said
    assert "nothing has been erased" in said
    said = flash(chip, image, typed="\n", status=1)
    assert "nothing has been erased" in said
    starts = len(chip.done)
    assert "--yes is wanted" in flash(chip, image, status=2)
    assert len(chip.done) == starts  # it was not even looked at
    assert "erase" not in chip.done
    assert chip.flash.read_bytes() == before


def test_yes_by_hand(tmp_path: Path, image: Path, prompt: list[str]) -> None:
    with Chip(tmp_path, program=prompt) as chip:
        assert "is ready" in flash(chip, image, typed="y\n")
        assert holds(chip, firmware(), 0x1000)


def test_another_chip(chip: Chip, tmp_path: Path) -> None:
    before = chip.flash.read_bytes()
    image = tmp_path / "s3.bin"
    image.write_bytes(firmware("esp32s3"))
    said = flash(chip, image, "--yes", status=1)
    assert f"{image}: is for ESP32-S3, but the board has ESP32\n" in said
    assert chip.flash.read_bytes() == before


def test_too_large(tmp_path: Path) -> None:
    image = tmp_path / "large.bin"
    image.write_bytes(firmware(flash=8 << 20))
    with Chip(tmp_path) as chip:
        said = flash(chip, image, "--yes", status=1)
    assert "is made for 8 MB of flash, but the board has 4 MB: take the firmware for that" in said
    assert "erase" not in chip.done


def damaged() -> bytes:
    data = bytearray(firmware())
    data[-300] ^= 1
    return bytes(data)


FILES = [
    (b"", "is no firmware of an ESP chip"),
    (bytes(1000), "is no firmware of an ESP chip"),
    (b"UF2\n" + bytes(500), "is a UF2 file"),
    (b"\x7fELF" + bytes(500), "is an ELF file"),
    (b"PK\x03\x04" + bytes(500), "ZIP"),
    (b"\x1f\x8b\x08" + bytes(500), "is compressed"),
    (b"<!DOCTYPE html>" + b" " * 500, "the download went wrong"),
    (application(0), "an application alone"),
    (application(1234), "is for an ESP8266 or another chip"),
    (firmware()[:0x6000], "or cut off"),
    (firmware()[:-1], "cut off or damaged: download it again"),
    (firmware()[:100_000], "cut off or damaged: download it again"),
    (firmware()[:0xF000], "cut off or damaged"),
    (damaged(), "cut off or damaged: download it again"),
    (firmware(has_digest=False)[:-1], "cut off or damaged"),
    (firmware(banner=b"something else"), "no MicroPython"),
]


@pytest.mark.parametrize(("data", "words"), FILES, ids=range(len(FILES)))
def test_wrong_file(chip: Chip, tmp_path: Path, data: bytes, words: str) -> None:
    """What is no whole firmware is refused before the board is touched."""
    image = tmp_path / "wrong.bin"
    image.write_bytes(data)
    assert words in flash(chip, image, "--yes", status=1)
    assert not chip.done


def test_no_file(tmp_path: Path) -> None:
    said = flash(tmp_path / "port", tmp_path / "none.bin", "--yes", status=1)
    assert said == f"{tmp_path / 'none.bin'}: No such file or directory\n"


def test_firmware_without_digest(tmp_path: Path) -> None:
    """A build may leave it out."""
    from neighbour.device.firmware import Firmware

    image = tmp_path / "firmware.bin"
    image.write_bytes(firmware(has_digest=False))
    found = Firmware.read(image)
    assert (found.chip, found.offset, found.extent) == ("ESP32", 0x1000, 4 << 20)
    image.write_bytes(firmware("esp32p4", banner=BANNER[12:] + b" (MicroPython)"))
    found = Firmware.read(image)
    assert (found.chip, found.offset, found.version) == ("ESP32-P4", 0x2000, "")


# The port.


def test_no_port(tmp_path: Path, image: Path) -> None:
    assert "is not there: is the board plugged in?" in flash(tmp_path / "port", image, "--yes", status=1)


def test_busy(chip: Chip, image: Path) -> None:
    """Another program has the port; as pyserial asks for it alone, so do all of ours."""
    held = os.open(chip.port, os.O_RDWR | os.O_NOCTTY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert "is in use by another program" in flash(chip, image, "--yes", status=1)
    finally:
        os.close(held)
    assert not chip.done


def test_not_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import serial

    from neighbour.device import flashing
    from neighbour.device.port import DeviceError

    def refuse(*_: object, **__: object) -> None:
        raise serial.SerialException(errno.EACCES, "could not open port: Permission denied")

    monkeypatch.setattr(serial, "serial_for_url", refuse)
    with pytest.raises(DeviceError, match="may not be opened: add yourself to the group"):
        flashing.identify(str(tmp_path / "port"))


# The chip.


def test_no_chip(tmp_path: Path, image: Path) -> None:
    with Chip(tmp_path, silent=True) as chip:
        said = flash(chip, image, "--yes", status=1)
    assert "no ESP chip answers: hold the board's BOOT button while you plug it in" in said


def test_not_in_download_mode(tmp_path: Path, image: Path) -> None:
    """A chip that runs, or tries to, and talks all the time."""
    with Chip(tmp_path, is_waiting=False) as chip:
        said = flash(chip, image, "--yes", status=1)
    assert "no ESP chip answers: hold the board's BOOT button" in said


# Half-way.


@pytest.mark.parametrize("fault", ["unplugged", "deaf", "stuck"])
def test_half_way(tmp_path: Path, image: Path, prompt: list[str], fault: str) -> None:
    """What it means is said, and the next run makes it good."""
    faults = {"unplugged": {"unplugged_after": 3}, "deaf": {"deaf_after": 3}, "stuck": {"stuck_at": 0x11000}}
    folder = tmp_path / "chip"
    folder.mkdir()
    with Chip(folder, program=prompt, **faults[fault]) as chip:
        said = flash(chip, image, "--yes", status=1)
        assert NO_FIRMWARE in said
        assert "is ready" not in said
        words = "what the flash has is not what was written" if fault == "stuck" else "writing stopped half-way ("
        assert words in said
        assert not holds(chip, firmware(), 0x1000)
        chip.faultless()
        chip.unplug()
        chip.plug()
        assert "is ready" in flash(chip, image, "--yes")
        assert holds(chip, firmware(), 0x1000)


def test_gone_before_anything(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A board that is not there any more when it is to be written has lost nothing, and nobody says it has."""
    from neighbour.device import flashing
    from neighbour.device.firmware import Firmware
    from neighbour.device.port import DeviceError

    with Chip(tmp_path) as chip:
        with flashing.identified(str(chip.port)) as found:
            pass
        chip.unplug()
        with pytest.raises(DeviceError, match="nothing has been erased or written"):
            flashing.write(str(chip.port), Firmware.read(image), found, flashing.FLASH_BAUD, lambda *_: None)
        chip.plug()


def test_stopped(tmp_path: Path, image: Path) -> None:
    """Ctrl-C while it erases: esptool ends with us, and what is left is said."""
    with Chip(tmp_path, erase_s=30) as chip:
        running = subprocess.Popen(
            [WISP, "device", "flash", str(chip.port), "--firmware", str(image), "--yes"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509  as in a shell
        )
        until = time.monotonic() + 30
        while "erase" not in chip.done and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(running.pid, 2)
        said, _ = running.communicate(timeout=30)
        assert running.returncode == 1, said
        assert "stopped by you" in said
        assert NO_FIRMWARE in said
        chip.hurry()


def test_does_not_start(tmp_path: Path) -> None:
    """It is written, but nobody presses its button: the person is told to, and at last that it did not help."""
    program = """if True:
        import sys
        from neighbour.device import flashing
        from neighbour.device.port import DeviceError
        flashing._RESET_S = 1.0
        try:
            flashing.greet(sys.argv[1], lambda: print("told"))
        except DeviceError as error:
            print(error)
    """

    def greet() -> str:
        # mpremote compares bytes with text when it complains: not in this process.
        command = [sys.executable, "-c", program, str(tmp_path / "port")]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    with Chip(tmp_path, hand=False):
        said = greet()
    assert "told" in said.splitlines() or "press the board's reset button" in said
    assert "the firmware has been written and verified, but MicroPython's prompt does not answer" in said
    assert "the port has not come back" in greet()


# esptool.


def test_no_esptool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    from neighbour.device import flashing
    from neighbour.device.port import DeviceError

    with monkeypatch.context() as patched:
        patched.setattr(importlib.util, "find_spec", lambda _: None)
        with pytest.raises(DeviceError, match=r"pip install 'wisp-sip\[device\]'"):
            flashing.identify(str(tmp_path))
    with monkeypatch.context() as patched:
        patched.setattr("importlib.metadata.version", lambda _: "4.7.0")
        with pytest.raises(DeviceError, match=r"esptool 4\.7\.0 is too old"):
            flashing.identify(str(tmp_path))


def test_older_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Version 4 knows underscores only; version 5 understands them still, and grumbles."""
    from neighbour.device import flashing

    monkeypatch.setattr("importlib.metadata.version", lambda _: "4.8.1")
    asked: list[list[str]] = []
    popen = subprocess.Popen

    def spy(command: list[str], **options: object) -> object:
        asked.append(command)
        return popen(command, **options)

    monkeypatch.setattr(flashing.subprocess, "Popen", spy)
    with Chip(tmp_path) as chip:
        assert flashing.identify(str(chip.port)).name == "ESP32"
    assert asked[0][-5:] == ["--before", "default_reset", "--after", "no_reset_stub", "flash_id"]
