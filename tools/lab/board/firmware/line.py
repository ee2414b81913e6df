"""The serial line: standard input and output are the two ends of a pseudo-terminal.

What is printed has its line ends made CR LF on the way, as on a board; what goes through ``sys.stdout.buffer`` or a
``machine.UART`` has not.
"""

import io
import select
import sys
import time

from micropython import const

from . import host

_INTERRUPT = const(0)
_DRAIN = const(7)
_BAUD = const(8)
_RATE = const(115200)  # of a prompt

_TCGETS = const(0x5401)
_TCSETS = const(0x5402)
_FIONREAD = const(0x541B)
_ONLCR = const(4)  # in the first byte of c_oflag, which is at offset 4
_TERMIOS_BYTES = const(60)  # more than the kernel's structure has anywhere

_DRAIN_US = const(500)
_DRAIN_ROUNDS = const(2000)

_CTRL_C = const(3)
_PINS = (1, 3)  # transmit and receive of the prompt's UART
_NO_DRIVER = const(-1)  # ESP_FAIL

_POLL = const(3)
_GET_FILENO = const(10)

_cooked = bytearray(_TERMIOS_BYTES)
_raw = bytearray(_TERMIOS_BYTES)
_number = bytearray(4)


def set_up(interrupted_by=0):
    """The line is that of a prompt; lines end as they should.

    Args:
        interrupted_by: the character that interrupts, 0 for none.
    """
    if not _cooked[4]:
        host.ioctl(1, _TCGETS, _cooked)
        _cooked[4] |= _ONLCR
        _raw[:] = _cooked
        _raw[4] &= ~_ONLCR
    host.registers[_INTERRUPT] = interrupted_by
    _set_rate(_RATE)
    host.ioctl(1, _TCSETS, _cooked)


def _set_rate(baud):
    if host.word(_BAUD) != baud:
        # What was sent leaves at the old speed: the other side says when it has.
        host.registers[_DRAIN] = 1
        for _ in range(_DRAIN_ROUNDS):
            if not host.registers[_DRAIN]:
                break
            host.usleep(_DRAIN_US)
        host.set_word(_BAUD, baud)


def put(data):
    """Send bytes, line ends as they should be."""
    data = memoryview(data)
    while data:
        sent = host.write(1, data, len(data))
        if sent > 0:
            data = data[sent:]


def put_raw(data):
    """Send bytes as they are."""
    host.ioctl(1, _TCSETS, _raw)
    try:
        put(data)
    finally:
        host.ioctl(1, _TCSETS, _cooked)
    return len(data)


_byte = bytearray(1)


def get():
    """Wait for a byte."""
    while host.read(0, _byte, 1) != 1:
        pass
    return _byte[0]


def interrupt(character):
    """``micropython.kbd_intr``: Ctrl-C interrupts, or nothing does."""
    host.registers[_INTERRUPT] = _CTRL_C if character == _CTRL_C else 0


class Output(io.IOBase):
    """``sys.stdout.buffer``."""

    def write(self, data):
        return put_raw(data)

    def flush(self):
        pass

    def ioctl(self, request, argument):
        return 1 if request == _GET_FILENO else 0


class Stdout(io.IOBase):
    """``sys.stdout``."""

    def __init__(self):
        self.buffer = Output()

    def write(self, data):
        return sys.stdout.write(data)

    def flush(self):
        pass

    def ioctl(self, request, argument):
        return 1 if request == _GET_FILENO else 0


class UART(io.IOBase):
    """UART 0 is the prompt's, as on an ESP32: its buffers are fixed, and behind its new speed there comes an OSError.

    UART 1 is the line for a program alone where it has the prompt's pins: what comes goes to it, Ctrl-C too.
    """

    INV_TX = 1
    INV_RX = 2
    RTS = 1
    CTS = 2

    def __init__(self, number, *arguments, **settings):
        if number not in (0, 1):
            raise ValueError("UART(%d) does not exist" % number)
        self._is_prompt = number == 0
        self._timeout = 0
        self._has_line = False
        self.init(*arguments, **settings)

    def init(self, baudrate=_RATE, bits=8, parity=None, stop=1, tx=-1, rx=-1, rxbuf=0, txbuf=0, timeout=None, **_):
        if baudrate <= 0:
            raise ValueError("invalid baudrate")
        if self._is_prompt and (rxbuf or txbuf):
            raise ValueError("UART buffer size is fixed")
        if timeout is not None:
            self._timeout = timeout
        self._has_line = (tx, rx) == _PINS and not self._is_prompt
        if self._has_line or self._is_prompt:
            if self._has_line:
                host.registers[_INTERRUPT] = 0
            _set_rate(baudrate)
        if self._is_prompt:
            raise OSError(_NO_DRIVER)

    def deinit(self):
        self._has_line = False

    def any(self):
        if not self._has_line:
            return 0
        host.ioctl(0, _FIONREAD, _number)
        return _number[0] | _number[1] << 8

    def _ready(self, wanted):
        """How many bytes there are, when as many as wanted have come or the time is over."""
        size = self.any()
        if size < wanted and self._timeout:
            started = time.ticks_ms()
            while size < wanted and time.ticks_diff(time.ticks_ms(), started) < self._timeout:
                time.sleep_ms(1)
                size = self.any()
        return min(size, wanted)

    def read(self, size=-1):
        size = self.any() if size < 0 else self._ready(size)
        if not size:
            return None
        data = bytearray(size)
        return bytes(memoryview(data)[: host.read(0, data, size)])

    def readinto(self, buffer, size=-1):
        size = self._ready(len(buffer) if size < 0 else min(size, len(buffer)))
        return host.read(0, buffer, size) if size else None

    def readline(self):
        line = b""
        while line[-1:] != b"\n" and self._ready(1):
            line += self.read(1)
        return line or None

    def write(self, data):
        return put_raw(data) if self._has_line else len(data)

    def flush(self):
        pass

    def txdone(self):
        return True

    def ioctl(self, request, argument):
        if request == _GET_FILENO:
            return 0
        if request == _POLL:
            return (select.POLLIN if self.any() else 0) | select.POLLOUT & argument
        return 0
