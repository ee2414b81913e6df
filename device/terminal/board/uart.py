"""The board's end of a serial line: a UART of its own, or the line that the prompt has.

That is USB (-1), or on some ports the prompt's UART, which can be given another speed, but is read as standard input.
Whoever opens it gives it back.
"""

import select
import sys

import machine
import micropython

from ..settings import ConfigError

__all__ = ["open_uart"]

_PROMPT_BAUD = 115200
_BUFFER_BYTES = 4096  # of what comes: 44 ms at 921600 baud
_CTRL_C = 3


class _Uart:
    """A UART.

    Attributes:
        item: for ``select.poll``.
    """

    def __init__(self, uart, number):
        self.item = self._uart = uart
        self._number = number

    def read(self, size):
        """What has come, at most ``size`` bytes; None or nothing where nothing has."""
        return self._uart.read(size)

    def write(self, data):
        """Write what there is room for; returns how many bytes that is, or None."""
        return self._uart.write(data)

    def close(self):
        """Give it back."""
        if self._number:
            self._uart.deinit()
        else:
            self._uart.init(_PROMPT_BAUD)  # on most boards that is where the prompt is


class _Prompt:
    """Standard input and output, where Ctrl-C is a byte like others; see `_Uart`.

    Args:
        number: of the UART that they are, -1 for none.
    """

    def __init__(self, number):
        self.item = sys.stdin
        self._number = number
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        micropython.kbd_intr(-1)

    def read(self, size):
        """What has come. To read waits for all that one asks for, so that nobody can ask for more than one byte."""
        data = bytearray(size)
        count = 0
        while count < size and self._poll.poll(0):
            byte = sys.stdin.buffer.read(1)
            if not byte:
                break
            data[count] = byte[0]
            count += 1
        return bytes(memoryview(data)[:count])

    def write(self, data):
        """Write it all."""
        return sys.stdout.buffer.write(data)

    def close(self):
        """Give it back."""
        if self._number >= 0:
            machine.UART(self._number, _PROMPT_BAUD)
        micropython.kbd_intr(_CTRL_C)


def open_uart(number, baud):
    """Open a line.

    Args:
        number: of the UART, -1 for USB.
        baud: its speed.

    Returns:
        A `_Uart` or `_Prompt`: ``item``, ``read(size)``, ``write(data)`` and ``close()``. None of them waits.

    Raises:
        ConfigError: the board has none.
    """
    if number < 0:
        return _Prompt(number)
    try:
        return _Uart(machine.UART(number, baud, rxbuf=_BUFFER_BYTES, timeout=0), number)
    except ValueError:
        pass  # an ESP32's prompt has its UART, with buffers that nobody may change
    try:
        machine.UART(number, baud)
    except ValueError as error:
        raise ConfigError("serial.uart: %s" % error)
    return _Prompt(number)
