"""The serial ports of this machine: what they are, and, where it is asked, what answers on them.

Looking opens no port. Asking opens it, and types ``status``: a terminal tells its state, which disturbs no call, and a
prompt of MicroPython complains of an unknown name. Opening a port moves lines of it that some adapters lead to the
board's reset, so nobody is asked who was not to be.
"""

import os
import time
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .port import BAUD, HOP_BAUD, DeviceError, Line

__all__ = ["ABSENT", "Port", "ask", "find"]

ABSENT = "not there"  # what is behind a name that nothing has

_ANSWER_S = 1.5  # a terminal tells its state between two turns of its loop
_MAX_SHOWN = 40  # characters of what is no event
_MAX_HEARD = 4096  # bytes of it
_USB_VENDORS = {
    0x0403: "FTDI adapter",
    0x067B: "Prolific adapter",
    0x10C4: "Silicon Labs CP210x adapter",
    0x1A86: "WCH CH340 adapter",
}
# (vendor, product); of Espressif's and of MicroPython's own USB.
_USB_DEVICES = {
    (0x303A, 0x1001): "ESP chip's own USB",
    (0x303A, 0x0002): "ESP32-S2 in download mode",
    (0x303A, 0x4001): "MicroPython's own USB",
    (0x1A86, 0x55D4): "WCH CH9102 adapter",
    (0x1A86, 0x55D3): "WCH CH343 adapter",
}


@dataclass(frozen=True, slots=True)
class Port:
    """A port.

    Attributes:
        name: what the commands call it.
        what: the adapter or chip behind it, in words.
        console: where the text part of its line is, while `wisp serve` has it; "" where nobody said so.
    """

    name: str
    what: str
    console: str = ""


def find(names: Sequence[str] = (), config: Path | None = None, *, every: bool = False) -> list[Port]:
    """The ports there are.

    Args:
        names: look at these, whatever they are, and at no others.
        config: a neighbour's configuration; its ``[[serial]]`` ports are among them.
        every: ports that are not on USB, too.

    Raises:
        DeviceError: pyserial is not there, or the configuration can't be read.
    """
    try:
        from serial.tools.list_ports import comports
    except ModuleNotFoundError:
        raise DeviceError("pyserial is wanted here: pip install 'wisp-sip[device]'") from None
    served = _served(config) if config is not None else {}
    found = {info.device: info for info in comports()}
    if names:
        wanted = list(names)
    else:
        wanted = [name for name, info in found.items() if every or info.vid is not None]
        wanted += [name for name in served if name not in wanted]
    ports = []
    for name in sorted(wanted):
        info = found.get(name) or found.get(str(Path(name).resolve()))
        what = _what(info) if info is not None else "" if os.path.lexists(name) else ABSENT
        ports.append(Port(name, what, served.get(name, "")))
    return ports


def _what(info: Any) -> str:
    """What is behind a port of the system's list."""
    if info.vid is None:
        return "serial port" if info.description in {None, "n/a", info.device} else str(info.description)
    words = _USB_DEVICES.get((info.vid, info.pid)) or _USB_VENDORS.get(info.vid)
    product = info.product or info.description
    if words is None:
        words = product if product and product != "n/a" else "USB device"
    return f"{words} ({info.vid:04x}:{info.pid:04x})"


def _served(config: Path) -> dict[str, str]:
    """The ports that a neighbour has, and their consoles; "" where one has none."""
    try:
        text = config.read_text(encoding="utf-8")
        tables = tomllib.loads(text).get("serial", [])
    except (OSError, UnicodeError, tomllib.TOMLDecodeError) as error:
        raise DeviceError(f"{config}: {error.strerror if isinstance(error, OSError) else error}") from None
    found = {}
    for table in tables if isinstance(tables, list) else []:
        port, console = table.get("port"), table.get("console", "")
        if isinstance(port, str) and isinstance(console, str):
            found[port] = str(config.parent / console) if console else ""
    return found


def ask(port: Port) -> str:
    """Find out what answers on a port, in words. It may take some seconds."""
    if port.console and os.path.lexists(port.console):
        return f"{_ask(port.console, (BAUD,))}, on wisp serve's {port.console}"
    # Who listens at the lower speed hears nonsense at the higher one: it comes second, where nobody has answered.
    return _ask(port.name, (BAUD, HOP_BAUD))


def _ask(name: str, bauds: Sequence[int]) -> str:
    for baud in bauds:
        try:
            with Line(name, baud) as line:
                line.write(b"\r\n")  # what somebody has typed before is not ours
                line.send("status")
                answer = _answer(line)
        except DeviceError as error:
            return str(error).partition(": ")[2]
        if answer:
            return answer
    return "nothing answers"


def _answer(line: Line) -> str:
    heard = b""
    until = time.monotonic() + _ANSWER_S
    while (left := until - time.monotonic()) > 0 and len(heard) < _MAX_HEARD:
        for told in line.lines(min(left, 0.1)):
            if isinstance(told, dict):
                if told.get("event") == "status":
                    return _state(told)
            else:
                heard += told.encode(errors="replace") + b"\n"
                # Said of the name by every port of MicroPython; the prompt is there, too, where it echoes.
                if b"NameError" in heard and b"status" in heard:
                    return "MicroPython's prompt"
    shown = "".join(char if char.isprintable() else " " for char in heard.decode(errors="replace")).split()
    return f"something else: {' '.join(shown)[:_MAX_SHOWN]}" if shown else ""


def _state(status: dict[str, Any]) -> str:
    """A terminal's state in words."""
    words = ["Wisp terminal", str(status.get("registration", ""))]
    phone = status.get("phone")
    if phone and phone != "idle":
        words.append(str(phone))
    return ", ".join("".join(char for char in word if char.isprintable()) for word in words if word)
