"""A board's serial port: its console, where a terminal runs, and MicroPython's prompt, where one is to be changed.

What can go wrong there is told in a sentence that says what helps; `DeviceError` has it.
"""

import base64
import contextlib
import errno
import io
import json
import os
import struct
import termios
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from sipwire.slip import TEXT, SlipDecoder

if TYPE_CHECKING:
    import serial
    from mpremote.transport_serial import SerialTransport

__all__ = ["BAUD", "HOP_BAUD", "DeviceError", "FullError", "GoneError", "Line", "Prompt", "prompt"]

BAUD = 115200  # of MicroPython's prompt, and of a terminal's console beside Wi-Fi
HOP_BAUD = 921600  # of a serial hop, where wisp.json does not say otherwise
_ENTER_S = 6  # for the prompt to come, with a soft reset
_ANSWER_S = 20  # for a function on the board
_QUIT_S = 2.0  # for a terminal on a serial hop to give the prompt its line back
_WRITE_S = 5
_CHUNK_BYTES = 1024  # of a file at a time
_MAX_LINE = 64 * 1024  # characters of one line of the console; what is longer is nobody's event
_BUSY = (errno.EBUSY, errno.EAGAIN, errno.EWOULDBLOCK)
_WANTED = "mpremote and pyserial are wanted here: pip install 'wisp-sip[device]'"
_GONE = (errno.EIO, errno.ENXIO, errno.ENODEV, errno.EBADF)


class DeviceError(Exception):
    """Something is wrong with a board or its port; the text says what, and what helps."""


class FullError(DeviceError):
    """There is no room on the board."""


class GoneError(DeviceError):
    """The board does not answer any more: unplugged, or started again."""


def _told(port: str, error: OSError) -> DeviceError:
    """What a port's error means to a person."""
    number = error.errno
    if number is None and error.__cause__ is not None:
        number = getattr(error.__cause__, "errno", None)
    text = str(error)
    if number in _BUSY or "exclusively lock" in text:
        return DeviceError(
            f"{port}: is in use by another program: end it (`wisp serve` with this port, another `wisp device`, "
            "mpremote, a serial monitor), and try again"
        )
    if number == errno.ENOENT:
        return GoneError(f"{port}: is not there: is the board plugged in? `wisp device list` shows the ports")
    if number in (errno.EACCES, errno.EPERM):
        return DeviceError(f"{port}: may not be opened: add yourself to the group that owns it (often dialout)")
    if number in _GONE or "disconnected" in text or "readiness to read" in text:
        return GoneError(f"{port}: the board is gone: plug it in again, and run the command again")
    if number == errno.ENOTTY or "Could not configure port" in text:
        return DeviceError(f"{port}: is no serial port; `wisp device list` shows the ports")
    if text == "Write timeout":
        return DeviceError(f"{port}: the board takes nothing in: press its reset button, and run the command again")
    return DeviceError(f"{port}: {os.strerror(number) if number else text}")


@contextlib.contextmanager
def _telling(port: str) -> Iterator[None]:
    try:
        yield
    except termios.error as error:
        raise _told(port, OSError(*error.args)) from None
    except OSError as error:
        raise _told(port, error) from None


def _open(port: str, baud: int) -> "serial.Serial":
    """Open a port for us alone.

    Raises:
        DeviceError: it can't be had.
    """
    try:
        import serial
    except ModuleNotFoundError:
        raise DeviceError(_WANTED) from None
    with _telling(port):
        return serial.serial_for_url(port, baudrate=baud, timeout=0.05, write_timeout=_WRITE_S, exclusive=True)


class Line:
    """The console of a board whose terminal runs: command lines to it, and lines of what it tells.

    Args:
        port: the name of a serial port, or of a console of `wisp serve`.
        baud: its speed.

    Raises:
        DeviceError: it can't be had.
    """

    def __init__(self, port: str, baud: int = BAUD) -> None:
        self._port = port
        self._serial = _open(port, baud)
        self._hop = SlipDecoder()  # packets of a serial hop may be on the same line
        self._text = b""

    def __enter__(self) -> "Line":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the port."""
        with contextlib.suppress(OSError):
            self._serial.close()

    def send(self, line: str) -> None:
        """Type a line.

        Raises:
            DeviceError: the board is gone.
        """
        self.write(line.encode() + b"\r\n")

    def write(self, data: bytes) -> None:
        """Type bytes.

        Raises:
            DeviceError: the board is gone.
        """
        with _telling(self._port):
            self._serial.write(data)

    def read(self, wait_s: float = 0.1) -> bytes:
        """The text that has come, or comes within a while; it may be empty. Packets of a serial hop are left out.

        Raises:
            DeviceError: the board is gone.
        """
        with _telling(self._port):
            self._serial.timeout = wait_s
            data: bytes = self._serial.read(1)
            waiting = self._serial.in_waiting
            if waiting:
                data += self._serial.read(waiting)
        return b"".join(text for kind, text in self._hop.receive(data) if kind == TEXT)

    def lines(self, wait_s: float = 0.1) -> list[dict[str, Any] | str]:
        """What has come in whole lines, or comes within a while: events as objects, anything else as text.

        Raises:
            DeviceError: the board is gone.
        """
        *lines, self._text = (self._text + self.read(wait_s)).split(b"\n")
        if len(self._text) > _MAX_LINE:
            self._text = b""
        return [_event(line) for line in lines]

    @property
    def rest(self) -> str:
        """What has come of a line that has not ended; MicroPython's prompt is one."""
        return self._text.decode(errors="replace")

    def wait(self, done: "Callable[[dict[str, Any]], bool]", wait_s: float) -> dict[str, Any] | None:
        """Wait for an event; returns it, or None when it has not come in time.

        Raises:
            DeviceError: the board is gone.
        """
        until = time.monotonic() + wait_s
        while (left := until - time.monotonic()) > 0:
            for line in self.lines(min(left, 0.25)):
                if isinstance(line, dict) and done(line):
                    return line
        return None


def _event(line: bytes) -> dict[str, Any] | str:
    text = line.decode(errors="replace").strip("\r")
    if text.startswith('{"event": '):
        with contextlib.suppress(ValueError):
            value = json.loads(text)
            if isinstance(value, dict):
                return value
    return text


class Prompt:
    """MicroPython's raw prompt on a board. What a program did there has ended, and its memory is free."""

    def __init__(self, port: str, transport: "SerialTransport") -> None:
        self._port = port
        self._transport = transport
        #: Whether nothing may be typed there any more: what runs next would take it for its own.
        self.is_over = False

    def run(self, code: str, wait_s: float = _ANSWER_S) -> str:
        """Run statements on the board.

        Args:
            code: statements.
            wait_s: how long it may be silent.

        Returns:
            What it printed.

        Raises:
            GoneError: the board does not answer.
            FullError: it has no room in its flash.
            DeviceError: it raised another exception.
        """
        with _following(self._port):
            printed, raised = self._transport.exec_raw(code, timeout=wait_s)
        if raised:
            last = raised.decode(errors="replace").strip().splitlines()[-1]
            if last.startswith("OSError") and (str(errno.ENOSPC) in last or "ENOSPC" in last):
                raise FullError(f"{self._port}: the board's flash is full")
            raise DeviceError(f"{self._port}: on the board: {last}")
        text: str = printed.decode(errors="replace")
        return text

    def value(self, code: str, wait_s: float = _ANSWER_S) -> Any:
        """Run statements that print one value as JSON.

        Raises:
            GoneError, DeviceError: see `run`.
        """
        printed = self.run(code, wait_s)
        try:
            return json.loads(printed)
        except ValueError:
            raise GoneError(f"{self._port}: the board has sent nonsense: check the cable, and run it again") from None

    def write_file(self, path: str, data: bytes, tell: Callable[[int], None] = lambda _: None) -> None:
        """Write a file on the board.

        Args:
            path: its name there.
            data: what to write.
            tell: called with the number of bytes that have been written, again and again.

        Raises:
            GoneError: the board does not answer.
            FullError: there is no room.
            DeviceError: it can't be written for another reason.
        """
        # As base64: of a literal of bytes most would be four characters each.
        self.run(f"import binascii\n_w = open({path!r}, 'wb')")
        for i in range(0, len(data), _CHUNK_BYTES):
            text = base64.b64encode(data[i : i + _CHUNK_BYTES])
            self.run(f"_n = _w.write(binascii.a2b_base64({text!r}))")
            tell(min(i + _CHUNK_BYTES, len(data)))
        self.run("_w.close()")

    def restart(self) -> None:
        """Start the board again, as its button does; this prompt is at its end."""
        self.is_over = True
        with _following(self._port), contextlib.suppress(struct.error):
            self._transport.exec_raw_no_follow("import machine; machine.reset()")
            time.sleep(0.1)


@contextlib.contextmanager
def _following(port: str) -> Iterator[None]:
    from mpremote.transport import TransportError

    try:
        # It prints what it does not understand.
        with _telling(port), contextlib.redirect_stdout(io.StringIO()):
            yield
    except (TransportError, struct.error):
        raise GoneError(f"{port}: the board does not answer any more: plug it in again, and run it again") from None


@contextlib.contextmanager
def prompt(port: str) -> Iterator[Prompt]:
    """Interrupt what a board does, and lead to its prompt.

    Raises:
        DeviceError: the port can't be had, or there is no MicroPython.
    """
    try:
        from mpremote.transport_serial import SerialTransport
    except ModuleNotFoundError:
        raise DeviceError(_WANTED) from None
    _open(port, BAUD).close()  # tells what is wrong; mpremote only that something is
    with _following(port):
        transport = SerialTransport(port, baudrate=BAUD, timeout=_WRITE_S)
    try:
        _enter(port, transport)
        made = Prompt(port, transport)
        yield made
        if not made.is_over:
            with contextlib.suppress(DeviceError), _following(port):
                transport.exit_raw_repl()
    finally:
        with contextlib.suppress(OSError, termios.error):
            transport.close()


def _enter(port: str, transport: "SerialTransport") -> None:
    """Lead to the raw prompt, from a terminal on a serial hop too."""
    for baud in (BAUD, HOP_BAUD):
        try:
            with _following(port):
                if baud != BAUD:
                    transport.serial.baudrate = baud
                    transport.serial.write(b"\xc0\x03\x03\xc0")
                    time.sleep(_QUIT_S)
                    transport.serial.baudrate = BAUD
                transport.serial.write(b"\r\x03\x03")
                transport.enter_raw_repl(soft_reset=True, timeout_overall=_ENTER_S)
        except GoneError:
            if not os.path.lexists(port):
                raise
            continue
        return
    raise DeviceError(
        f"{port}: no MicroPython answers: hold the board's button while you plug it in, and try again; if it has none "
        f"yet, write it with `wisp device flash {port} --firmware FILE`"
    )
