"""The module ``machine``: what of an ESP32 a program sees, as far as this board has it."""

import sys
import time

from micropython import const

from . import host
from .line import UART  # noqa: F401  a name of the module machine
from .sound import I2S  # noqa: F401

_CAUSE = const(2)
_WATCHDOG = const(20)
_PINS = const(64)
_OUTPUTS = const(128)
_UNIQUE_ID = const(192)
_RTC = const(256)
_RTC_BYTES = const(2048)

_RESET = const(11)  # exit statuses
_DEEP_SLEEP = const(13)

PWRON_RESET = 1
HARD_RESET = 2
WDT_RESET = 3
DEEPSLEEP_RESET = 4
SOFT_RESET = 5


def reset():
    host.leave(_RESET)


def soft_reset():
    raise SystemExit


def reset_cause():
    return host.registers[_CAUSE]


def deepsleep(time_ms=0):
    time.sleep_ms(time_ms)
    host.leave(_DEEP_SLEEP)


def lightsleep(time_ms=0):
    time.sleep_ms(time_ms)


def idle():
    time.sleep_ms(1)


def unique_id():
    return bytes(host.registers[_UNIQUE_ID : _UNIQUE_ID + 6])


def freq(hertz=None):
    return 240000000 if hertz is None else None


def disable_irq():
    return 0


def enable_irq(state):
    pass


class Pin:
    """A pin. What drives it from outside is up to the test: nothing, low or high."""

    IN = 1
    OUT = 3
    OPEN_DRAIN = 7
    PULL_DOWN = 1
    PULL_UP = 2

    def __init__(self, number, mode=-1, pull=-1, value=None):
        if not 0 <= number < 40 or number in (20, 24, 28, 29, 30, 31):
            raise ValueError("invalid pin")
        if mode == self.OUT and number >= 34:
            raise ValueError("pin can only be input")
        self._number = number
        self._mode = self._pull = -1
        self.init(mode, pull, value)

    def init(self, mode=-1, pull=-1, value=None):
        if mode != -1:
            self._mode = mode
        if pull != -1:
            self._pull = pull
        if value is not None:
            self.value(value)

    def value(self, value=None):
        if value is not None:
            host.registers[_OUTPUTS + self._number] = 1 if value else 0
            return None
        if self._mode == self.OUT:
            return host.registers[_OUTPUTS + self._number]
        driven = host.registers[_PINS + self._number]
        return driven - 1 if driven else int(self._pull == self.PULL_UP)

    def __call__(self, value=None):
        return self.value(value)

    def on(self):
        self.value(1)

    def off(self):
        self.value(0)

    def __repr__(self):
        return "Pin(%d)" % self._number


class WDT:
    """The watchdog: the kernel ends the process by SIGALRM, and whoever started it knows why."""

    def __init__(self, id=0, timeout=5000):
        if id:
            raise ValueError("WDT(%d) does not exist" % id)
        if timeout <= 0:
            raise ValueError("WDT timeout too short")
        host.set_word(_WATCHDOG, timeout)
        self.feed()

    def feed(self):
        feed_watchdog()


# struct itimerval: four words, the first two of which are the interval.
_TIMER = bytearray(32)


def feed_watchdog():
    """Let the watchdog begin to wait anew, if there is one."""
    timeout = host.word(_WATCHDOG)
    if timeout:
        size = _WORD
        _set(2 * size, timeout // 1000)
        _set(3 * size, timeout % 1000 * 1000)
        host.setitimer(0, _TIMER, None)


_WORD = 4 if sys.maxsize < 1 << 31 else 8


def _set(at, value):
    for i in range(4):
        _TIMER[at + i] = value >> (8 * i) & 255


class RTC:
    """The clock, and the memory that only a loss of power clears."""

    _offset_s = 0

    def datetime(self, value=None):
        if value is None:
            year, month, day, hour, minute, second, weekday = time.gmtime(time.time() + RTC._offset_s)[:7]
            return (year, month, day, weekday, hour, minute, second, 0)
        year, month, day, _, hour, minute, second, _ = value
        RTC._offset_s = time.mktime((year, month, day, hour, minute, second, 0, 0)) - time.time()
        return None

    def memory(self, data=None):
        r = host.registers
        if data is None:
            return bytes(r[_RTC + 2 : _RTC + 2 + (r[_RTC] | r[_RTC + 1] << 8)])
        size = len(data)
        if size > _RTC_BYTES:
            raise ValueError("buffer too long")
        r[_RTC], r[_RTC + 1] = size & 255, size >> 8
        r[_RTC + 2 : _RTC + 2 + size] = data
        return None
