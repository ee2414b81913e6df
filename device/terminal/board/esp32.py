"""An ESP32-class board: I2S microphone and speaker, a button, a lamp, and a serial console.

Settings and their defaults (GPIO numbers; -1 where there is none)::

    {"mic_sck": 32, "mic_ws": 25, "mic_sd": 33, "mic_shift": 0,
     "speaker_sck": 26, "speaker_ws": 27, "speaker_sd": 22, "button": 0, "led": 2}

The microphone and the amplifier have an I2S unit each, at 8000 samples a second: MicroPython's ``machine.I2S`` is one
object a unit, and either hears or plays. A chip with one unit (ESP32-C3, S2, C6) has the one or the other: the pins of
what it has not are -1. ``mic_shift`` is how many bits the samples are shifted left: an INMP441 at arm's length is
quiet.
"""

import select
import sys
import time

import machine
import network

from ..settings import ConfigError, check
from ..wlan import Wlan
from .console import Console

__all__ = ["Board"]

_SETTINGS = {
    "mic_sck": (int, 32),
    "mic_ws": (int, 25),
    "mic_sd": (int, 33),
    "mic_shift": (int, 0),
    "speaker_sck": (int, 26),
    "speaker_ws": (int, 27),
    "speaker_sd": (int, 22),
    "button": (int, 0),
    "led": (int, 2),
}
_MAX_SHIFT = 15
_BUFFER_BYTES = 4000  # of DMA per direction: 250 ms
_DEBOUNCE_MS = 50
# A watchdog of the ESP32 can't be stopped, but made anew with another time; it has 32 bits for four times as many half
# milliseconds. A week is long enough for a person at the prompt.
_REST_MS = 604800000


class _I2sAudio:
    """Microphone and speaker. Neither blocks: polling puts a machine.I2S into its non-blocking mode.

    Args:
        microphone: the pins of its clock, word select and data; None for no microphone.
        speaker: likewise.
        shift: how many bits the microphone's samples are shifted left; to the right where it is negative.
    """

    def __init__(self, microphone, speaker, shift):
        self._microphone = microphone
        self._speaker = speaker
        self._shift = shift
        self._in = None
        self._out = None
        self._poll = select.poll()

    def start(self):
        if self._microphone:
            self._in = _unit(0, self._microphone, machine.I2S.RX)
            self._poll.register(self._in, select.POLLIN)
        if self._speaker:
            self._out = _unit(1 if self._microphone else 0, self._speaker, machine.I2S.TX)
            self._poll.register(self._out, select.POLLOUT)
        self._poll.poll(0)

    def read(self, pcm):
        size = self._in.readinto(pcm) or 0 if self._in else 0
        if self._shift and size:
            machine.I2S.shift(buf=pcm, bits=16, shift=self._shift)
        for i in range(size, len(pcm)):
            pcm[i] = 0

    def write(self, pcm):
        if self._out:
            # What the DMA buffer has no room for is left out: two clocks are never the same.
            self._out.write(pcm)

    def check(self):
        """Open and close what a call will.

        Raises:
            ConfigError: this chip, or its firmware, can't do that.
        """
        try:
            self.start()
        except (AttributeError, OSError, ValueError) as error:  # a firmware may have no I2S at all
            name = "speaker" if self._in or not self._microphone else "mic"
            raise ConfigError(
                "board.%s_sd: no I2S unit for it (%s): other pins, or -1 for none; with one unit, as an ESP32-C3 has, "
                "there is a microphone or a speaker" % (name, error)
            )
        finally:
            self.stop()

    def stop(self):
        for unit in (self._in, self._out):
            if unit:
                self._poll.unregister(unit)
                unit.deinit()
        self._in = self._out = None


def _unit(number, pins, mode):
    """An I2S unit."""
    sck, ws, sd = pins
    return machine.I2S(
        number, sck=sck, ws=ws, sd=sd, mode=mode, bits=16, format=machine.I2S.MONO, rate=8000, ibuf=_BUFFER_BYTES
    )


def _pin(settings, name, *mode):
    """A pin, set up where a mode is given; None where there is none."""
    number = settings[name]
    if number < 0:
        return None
    try:
        return machine.Pin(number, *mode)
    except ValueError as error:
        raise ConfigError("board.%s: %d: %s" % (name, number, error))


def _audio_pins(settings, unit):
    """The three pins of a unit; None where one of them is none."""
    pins = [_pin(settings, unit + name) for name in ("_sck", "_ws", "_sd")]
    return None if None in pins else pins


class Board:
    """See `terminal.board`."""

    def __init__(self, settings):
        settings = check(settings, _SETTINGS, "board.")
        shift = settings["mic_shift"]
        if not -_MAX_SHIFT <= shift <= _MAX_SHIFT:
            raise ConfigError("board.mic_shift: -%d to %d wanted" % (_MAX_SHIFT, _MAX_SHIFT))
        self.audio = _I2sAudio(_audio_pins(settings, "mic"), _audio_pins(settings, "speaker"), shift)
        self.audio.check()
        self._button = _pin(settings, "button", machine.Pin.IN, machine.Pin.PULL_UP)
        self._led = _pin(settings, "led", machine.Pin.OUT)
        self._pressed_at = None
        self._wlan = self._watchdog = None
        self.console = Console()

    def address(self):
        """The address that the access point gave us, or None."""
        station = network.WLAN(network.STA_IF)
        return station.ifconfig()[0] if station.isconnected() else None

    def wlan(self, settings):
        """The station, where the configuration names a network."""
        self._wlan = Wlan(network, settings) if settings else None
        return self._wlan

    def inputs(self):
        """The serial console; the button is looked at in every round of the loop."""
        return [sys.stdin]

    def commands(self):
        """What the console has read, and ``button`` for each press."""
        lines = self.console.read()
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
        if self._wlan:
            self._wlan.save_power(state == "idle")

    def watch(self, seconds):
        """The chip's watchdog, where it can wait for so long."""
        try:
            if seconds:
                self._watchdog = machine.WDT(timeout=1000 * seconds)
                return self._watchdog.feed
            if self._watchdog:
                machine.WDT(timeout=_REST_MS)
        except (AttributeError, ValueError, OSError):
            pass  # there is none, or one for a few seconds only
        return None
