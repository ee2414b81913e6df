"""The board's end of a serial line: a UART of its own, or the line that the prompt has.

    uart -1: USB                    standard input and output
    a UART of the program's own     `machine.UART`
    the prompt's, on an ESP32       another UART on its pins

On an ESP32 the prompt's UART can be given another speed and other pins, but it is read as standard input, of which 260
bytes may wait: 2.8 ms at 921600 baud. A message is longer. So UART 1 gets its pins, which any UART may have, and gives
them back. Where the pins are not known, it is standard input all the same.
Whoever opens it gives it back.
"""

import select
import sys

import machine
import micropython

from ..settings import ConfigError

__all__ = ["open_uart"]

_PROMPT = 0  # the prompt's UART, where it has one
_STAND_IN = 1
_PROMPT_BAUD = 115200
_BUFFER_BYTES = 4096  # each way: 44 ms at 921600 baud. On an ESP32 to write waits where there is no room
_CTRL_C = 3
# Transmit and receive of the prompt's UART, by what MicroPython calls the chip (ESP-IDF, soc/uart_pins.h).
_PINS = {"ESP32": (1, 3), "ESP32S2": (43, 44), "ESP32S3": (43, 44), "ESP32C3": (21, 20), "ESP32C6": (16, 17)}


class _Uart:
    """A UART.

    Args:
        uart: the ``machine.UART``.
        number: which one that is.
        pins: those of the prompt, where it has been given them.

    Attributes:
        item: for ``select.poll``.
    """

    def __init__(self, uart, number, pins=None):
        self.item = self._uart = uart
        self._number = number
        self._pins = pins

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
            if self._pins:
                _set_up(_PROMPT, _PROMPT_BAUD, tx=self._pins[0], rx=self._pins[1])
                micropython.kbd_intr(_CTRL_C)
        else:
            self._uart.init(_PROMPT_BAUD)  # on most boards that is where the prompt is


class _Prompt:
    """Standard input and output, where Ctrl-C is a byte like others; see `_Uart`.

    Args:
        baud: for the prompt's UART: also where the line is USB it gets all that is written, and is waited for.
    """

    def __init__(self, baud):
        self.item = sys.stdin
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        _set_up(_PROMPT, baud)
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
        _set_up(_PROMPT, _PROMPT_BAUD)
        micropython.kbd_intr(_CTRL_C)


def _set_up(number, baud, **pins):
    """Give the prompt's UART another speed, or its pins back.

    ESP-IDF has no driver for it there: MicroPython makes an OSError of what comes behind these two, and a ValueError
    where there is no such UART.
    """
    try:
        machine.UART(number, baud, **pins)
    except (OSError, ValueError):
        pass


def open_uart(number, baud):
    """Open a line.

    Args:
        number: of the UART, -1 for USB.
        baud: its speed.

    Returns:
        A `_Uart` or `_Prompt`: ``item``, ``read(size)``, ``write(data)`` and ``close()``. To read never waits.

    Raises:
        ConfigError: the board has none.
    """
    if number < 0:
        return _Prompt(baud)
    buffers = {"rxbuf": _BUFFER_BYTES, "txbuf": _BUFFER_BYTES, "timeout": 0}
    try:
        try:
            return _Uart(machine.UART(number, baud, **buffers), number)
        except ValueError:
            if number != _PROMPT:
                raise
        # Nobody may change its buffers: it is the prompt's.
        pins = _PINS.get(getattr(sys.implementation, "_machine", "").split(" ")[-1])
        if not pins:
            return _Prompt(baud)
        made = machine.UART(_STAND_IN, baud, tx=pins[0], rx=pins[1], **buffers)
    except (ValueError, OSError) as error:
        raise ConfigError("serial.uart: %s" % error)
    micropython.kbd_intr(-1)
    return _Uart(made, _STAND_IN, pins)
