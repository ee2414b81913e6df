"""An ESP32-class board: I2S microphone and speaker, a button, a lamp, and a serial console.

Settings and their defaults (GPIO numbers; -1 where there is none)::

    {"mic_sck": 32, "mic_ws": 25, "mic_sd": 33, "mic_shift": 0,
     "speaker_sck": 26, "speaker_ws": 27, "speaker_sd": 22, "button": 0, "led": 2}

The microphone and the amplifier have an I2S unit each, at 8000 samples a second. ``mic_shift`` is how many bits the
samples are shifted left: an INMP441 at arm's length is quiet.
"""

import select
import sys
import time

import machine
import network

from ..events import text
from ..wlan import Wlan

__all__ = ["Board"]

_PINS = {
    "mic_sck": 32,
    "mic_ws": 25,
    "mic_sd": 33,
    "speaker_sck": 26,
    "speaker_ws": 27,
    "speaker_sd": 22,
    "button": 0,
    "led": 2,
}
_BUFFER_BYTES = 4000  # of DMA per direction: 250 ms
_DEBOUNCE_MS = 50
_MAX_LINE = 512


class _I2sAudio:
    """Microphone and speaker. Neither blocks: polling puts a machine.I2S into its non-blocking mode."""

    def __init__(self, pins, shift):
        self._pins = pins
        self._shift = shift
        self._in = None
        self._out = None
        self._poll = select.poll()

    def start(self):
        pins = self._pins
        common = {"bits": 16, "format": machine.I2S.MONO, "rate": 8000, "ibuf": _BUFFER_BYTES}
        self._in = machine.I2S(
            0,
            sck=machine.Pin(pins["mic_sck"]),
            ws=machine.Pin(pins["mic_ws"]),
            sd=machine.Pin(pins["mic_sd"]),
            mode=machine.I2S.RX,
            **common,
        )
        self._out = machine.I2S(
            1,
            sck=machine.Pin(pins["speaker_sck"]),
            ws=machine.Pin(pins["speaker_ws"]),
            sd=machine.Pin(pins["speaker_sd"]),
            mode=machine.I2S.TX,
            **common,
        )
        self._poll.register(self._in, select.POLLIN)
        self._poll.register(self._out, select.POLLOUT)
        self._poll.poll(0)

    def read(self, pcm):
        size = self._in.readinto(pcm) or 0
        if self._shift and size:
            machine.I2S.shift(buf=pcm, bits=16, shift=self._shift)
        for i in range(size, len(pcm)):
            pcm[i] = 0

    def write(self, pcm):
        # What the DMA buffer has no room for is left out: two clocks are never the same.
        self._out.write(pcm)

    def stop(self):
        for unit in (self._in, self._out):
            if unit:
                self._poll.unregister(unit)
                unit.deinit()
        self._in = self._out = None


class Board:
    """See `terminal.board`."""

    def __init__(self, settings):
        pins = {name: settings.get(name, number) for name, number in _PINS.items()}
        self.audio = _I2sAudio(pins, settings.get("mic_shift", 0))
        self._button = machine.Pin(pins["button"], machine.Pin.IN, machine.Pin.PULL_UP) if pins["button"] >= 0 else None
        self._led = machine.Pin(pins["led"], machine.Pin.OUT) if pins["led"] >= 0 else None
        self._pressed_at = None
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._line = b""

    def address(self):
        """The address that the access point gave us, or None."""
        station = network.WLAN(network.STA_IF)
        return station.ifconfig()[0] if station.isconnected() else None

    def wlan(self, settings):
        """The station, where the configuration names a network."""
        return Wlan(network, settings) if settings else None

    def inputs(self):
        """The serial console; the button is looked at in every round of the loop."""
        return [sys.stdin]

    def commands(self):
        """Whole lines from the console, and ``button`` for each press."""
        lines = []
        while self._poll.poll(0):
            # Not as text: noise on the line would raise, or wait for the rest of a character.
            byte = sys.stdin.buffer.read(1)
            if byte in (b"\n", b"\r"):
                if self._line:
                    lines.append(text(self._line).strip())
                self._line = b""
            elif len(self._line) < _MAX_LINE:
                self._line += byte
        if self._button is not None:
            if self._button.value():
                self._pressed_at = None
            elif self._pressed_at is None:
                self._pressed_at = time.ticks_ms()
            elif self._pressed_at is not False and time.ticks_diff(time.ticks_ms(), self._pressed_at) > _DEBOUNCE_MS:
                self._pressed_at = False  # told; not again before it is let go
                lines.append("button")
        return lines

    def show(self, state):
        """The lamp: off when idle, on in a call, blinking when it rings."""
        if self._led is not None:
            ringing = state in ("ringing", "calling")
            self._led.value(time.ticks_ms() // 250 % 2 if ringing else state != "idle")
