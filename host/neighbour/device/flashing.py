"""Writing a firmware into a board's flash, by esptool.

esptool is a program of its own (GPL): it is run, and what it prints is read. Versions 4.8 to 5.x are known here; they
differ in how their commands are spelt, and in their words.
What goes wrong is a `DeviceError` that says what helps, and, where something had been erased, what that means.
"""

import importlib.metadata
import importlib.util
import os
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .firmware import Firmware, chip_of
from .port import BAUD, DeviceError, GoneError, Line, prompt

__all__ = ["FLASH_BAUD", "Chip", "Progress", "check", "greet", "identify", "let_go", "write"]

FLASH_BAUD = 460800  # what MicroPython's own instructions write with
_MIN_VERSION = (4, 8)
_SPELLS_DASHES = 5  # from this version on
_RESET_S = 45.0  # for a board to start, and for a person to press its button where it does not
_AGAIN_S = 0.5
_KEPT_LINES = 40
_CONTROL = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CHIP = re.compile(r"Detecting chip type\.\.\..*?(ESP\S+)")
_MODEL = re.compile(r"(?:Chip type:|Chip is)\s+(.+)")
_MAC = re.compile(r"MAC:\s+([0-9a-f:]+)")
_FLASH = re.compile(r"Detected flash size: (\d+)([KM])B")
_PERCENT = re.compile(r"Writing at .*?(\d+(?:\.\d+)?) ?%")
_FATAL = re.compile(r"(?:A fatal error occurred|A serial exception error occurred): (.*)")
_BROKEN = (
    "the board has no working firmware now: run the command again (a lower --baud helps where the cable or the adapter "
    "is poor)"
)

#: Is told what is being done, and how much of it is: 0 to 1, or None where nobody knows.
Progress = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class Chip:
    """What esptool found on a port.

    Attributes:
        name: the kind, as an image is for, like "ESP32-S3".
        model: what it is in full.
        mac: its address, "" where it was not told.
        flash: bytes, None where nobody knows.
    """

    name: str
    model: str
    mac: str
    flash: int | None


class _FailedError(Exception):
    """esptool failed.

    Attributes:
        lines: the last ones it printed.
    """

    def __init__(self, lines: list[str]) -> None:
        super().__init__()
        self.lines = lines

    def told(self) -> str:
        """What it said of it, in one line."""
        for line in reversed(self.lines):
            if found := _FATAL.search(line):
                return found[1].strip(" .:") or "it did not say why"
        return next((line for line in reversed(self.lines) if line), "it did not say why")


def _version() -> tuple[int, int]:
    """The version of esptool.

    Raises:
        DeviceError: it is not there, or too old.
    """
    if importlib.util.find_spec("esptool") is None or importlib.util.find_spec("serial") is None:
        raise DeviceError("esptool and pyserial are wanted here: pip install 'wisp-sip[device]'")
    text = importlib.metadata.version("esptool")
    found = re.match(r"(\d+)\.(\d+)", text)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    if version < _MIN_VERSION:
        raise DeviceError(f"esptool {text} is too old: pip install --upgrade 'wisp-sip[device]'")
    return version


def _run(port: str, options: list[str], command: list[str], hear: Callable[[str], None]) -> None:
    """Run esptool.

    Args:
        port: of the board.
        options: before the command; spelt as newer versions do.
        command: with its arguments.
        hear: gets each line that it prints.

    Raises:
        _FailedError: it failed.
        DeviceError: it is not there, or too old.
    """
    arguments = ["--port", port, *options, *command]
    if _version()[0] < _SPELLS_DASHES:
        # Files and ports are never spelt otherwise.
        old = {"default-reset", "hard-reset", "no-reset-stub", "flash-id", "write-flash", "read-mac"}
        arguments = [word.replace("-", "_") if word in old else word for word in arguments]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ESPTOOL_", "FORCE_"))}
    environment |= {"NO_COLOR": "1", "TERM": "dumb", "COLUMNS": "120", "PYTHONUTF8": "1"}
    kept: deque[str] = deque(maxlen=_KEPT_LINES)
    with subprocess.Popen(
        [sys.executable, "-u", "-m", "esptool", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        encoding="utf-8",
        errors="replace",
    ) as running:
        assert running.stdout is not None
        try:
            for line in running.stdout:
                text = _CONTROL.sub("", line).strip()
                kept.append(text)
                hear(text)
        except BaseException:
            running.terminate()
            raise
    if running.returncode:
        raise _FailedError(list(kept))


def identify(port: str) -> Chip:
    """Find out which chip is on a port. What runs on it ends; afterwards it waits for `write` or `let_go`.

    Raises:
        DeviceError: the port can't be had, or no chip answers.
    """
    _version()
    # We tell better than it what is wrong with a port.
    Line(port, BAUD).close()
    lines: list[str] = []
    try:
        _run(port, ["--before", "default-reset", "--after", "no-reset-stub"], ["flash-id"], lines.append)
    except _FailedError as error:
        reason = error.told()
        if "Failed to connect" in reason or "Failed to start stub" in reason:
            raise DeviceError(
                f"{port}: no ESP chip answers: hold the board's BOOT button while you plug it in (or press its reset "
                f"button), let go of it, and run the command again; a cable that only charges does not do ({reason})"
            ) from None
        if "Could not open" in reason:
            raise DeviceError(f"{port}: could not be opened; is it in use by another program? ({reason})") from None
        raise DeviceError(f"{port}: the chip can't be read: esptool says: {reason}") from None
    text = "\n".join(lines)
    name, model, mac, flash = (pattern.findall(text) for pattern in (_CHIP, _MODEL, _MAC, _FLASH))
    if not name:
        raise DeviceError(f"{port}: esptool does not say which chip this is; another version of it may")
    size = int(flash[-1][0]) << (20 if flash[-1][1] == "M" else 10) if flash else None
    return Chip(name[-1], model[-1] if model else name[-1], mac[-1] if mac else "", size)


def check(firmware: Firmware, chip: Chip) -> None:
    """See that a firmware is for a chip.

    Raises:
        DeviceError: it is not.
    """
    if firmware.chip != chip.name:
        known = "" if chip_of(chip.name) is not None else ", which a terminal does not run on"
        raise DeviceError(f"{firmware.path}: is for {firmware.chip}, but the board has {chip.name}{known}")
    if chip.flash is None:
        return
    needed = max(firmware.extent, firmware.offset + firmware.size)
    if needed > chip.flash:
        raise DeviceError(
            f"{firmware.path}: is made for {-(-needed >> 20)} MB of flash, but the board has "
            f"{chip.flash / (1 << 20):g} MB: take the firmware for that"
        )


def let_go(port: str) -> None:
    """Let a board that was identified go on with what it has."""
    try:
        _run(port, ["--before", "default-reset", "--after", "hard-reset"], ["read-mac"], lambda _: None)
    except _FailedError:
        return  # it is not worse than before: its button does the same


def write(port: str, firmware: Firmware, chip: Chip, baud: int, tell: Progress) -> None:
    """Erase a board's flash, write a firmware, and verify it.

    Args:
        port: of a board that was identified.
        firmware: for its chip.
        chip: which that is.
        baud: how fast to write.
        tell: hears how it goes.

    Raises:
        DeviceError: it failed; the board has no working firmware then, where the text says so.
    """
    has_begun = False

    def hear(line: str) -> None:
        nonlocal has_begun
        if line.startswith("Erasing flash"):
            has_begun = True
            tell("erasing", None)
        elif found := _PERCENT.search(line):
            tell("writing", float(found[1]) / 100)
        elif line.startswith("Wrote "):
            tell("verifying", None)

    kind = chip.name.lower().replace("-", "")
    options = ["--chip", kind, "--baud", str(baud), "--before", "default-reset", "--after", "hard-reset"]
    command = ["write-flash", "--erase-all", hex(firmware.offset), str(firmware.path.absolute())]
    try:
        _run(port, options, command, hear)
    except _FailedError as error:
        reason = error.told()
        if not has_begun:
            raise DeviceError(f"{port}: nothing has been erased or written: esptool says: {reason}") from None
        if "MD5 of file" in reason or "region is empty" in reason:
            raise DeviceError(
                f"{port}: what the flash has is not what was written: {_BROKEN}; if it comes again, the flash is broken"
            ) from None
        raise DeviceError(f"{port}: writing stopped half-way ({reason}): {_BROKEN}") from None
    except KeyboardInterrupt:
        if not has_begun:
            raise
        raise DeviceError(f"{port}: stopped by you: {_BROKEN}") from None


def greet(port: str, tell: Callable[[], None]) -> tuple[str, str]:
    """Wait until MicroPython's prompt answers.

    Args:
        port: of a board that was written.
        tell: is called when it does not start by itself, which a person can help.

    Returns:
        The version, like "1.26.1", and what the board calls itself.

    Raises:
        DeviceError: it does not answer.
    """
    until = time.monotonic() + _RESET_S
    has_told = False
    while True:
        try:
            with prompt(port) as board:
                version, machine = board.value(
                    "import sys, json\n"
                    "i = sys.implementation\n"
                    "print(json.dumps(['.'.join(str(n) for n in i[1][:3]), getattr(i, '_machine', sys.platform)]))"
                )
                return str(version), str(machine)
        except DeviceError as error:
            if time.monotonic() > until:
                gone = isinstance(error, GoneError) and not os.path.lexists(port)
                raise DeviceError(
                    f"{port}: the firmware has been written and verified, but "
                    + (
                        "the port has not come back: `wisp device list` shows where the board is now"
                        if gone
                        else "MicroPython's prompt does not answer: press the board's reset button, or plug it in "
                        "again; if that does not help, the firmware is for another board"
                    )
                ) from None
            if not has_told:
                has_told = True
                tell()
            time.sleep(_AGAIN_S)


@contextmanager
def identified(port: str) -> Iterator[Chip]:
    """A chip on a port; where it comes to nothing, the board goes on with what it has."""
    chip = identify(port)
    try:
        yield chip
    except BaseException:
        let_go(port)
        raise
