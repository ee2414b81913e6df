"""An emulated board on MicroPython's unix port: WAV in, WAV out, commands on standard input.

Settings: ``{"address": "127.0.0.2", "microphone": "in.wav", "speaker": "out.wav"}``; each may be left out.
"""

import sys

from ..settings import ConfigError, check
from .console import Console

__all__ = ["Board"]

_WAV_HEADER_BYTES = 44
_SETTINGS = {"address": (str, "127.0.0.1"), "microphone": (str, ""), "speaker": (str, "")}


class _WavAudio:
    """A microphone that hears a WAV file (16 bits, mono, 8000 Hz) once, and a speaker that records one."""

    def __init__(self, microphone, speaker):
        self._microphone = microphone
        self._speaker = speaker
        self._in = None
        self._out = None
        self._written = 0

    def start(self):
        if self._microphone:
            self._in = open(self._microphone, "rb")
            self._in.seek(_WAV_HEADER_BYTES)
        if self._speaker:
            self._out = open(self._speaker, "wb")
            self._out.write(_wav_header(0))
            self._written = 0

    def read(self, pcm):
        size = self._in.readinto(pcm) if self._in else 0
        for i in range(size, len(pcm)):
            pcm[i] = 0

    def write(self, pcm):
        if self._out:
            self._out.write(pcm)
            self._written += len(pcm)

    def stop(self):
        if self._in:
            self._in.close()
            self._in = None
        if self._out:
            self._out.seek(0)
            self._out.write(_wav_header(self._written))
            self._out.close()
            self._out = None


def _check_wav(path):
    """Check a recording.

    Raises:
        ConfigError: it can't be read, or is of another form.
    """
    try:
        with open(path, "rb") as file:
            header = file.read(_WAV_HEADER_BYTES)
    except OSError:
        raise ConfigError("board.microphone: %s: can't be read" % path)
    if header[:4] != b"RIFF" or header[8:36] != _wav_header(0)[8:36]:
        raise ConfigError("board.microphone: %s: a WAV file of 8000 Hz, 16 bits, mono is wanted" % path)


def _wav_header(size):
    """The header of a WAV file: 16 bits, mono, 8000 Hz."""
    fields = (b"RIFF", size + 36, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", size)
    sizes = (0, 4, 0, 4, 2, 2, 4, 4, 2, 2, 0, 4)
    return b"".join([value.to_bytes(size, "little") if size else value for value, size in zip(fields, sizes)])


class Board:
    """See `terminal.board`."""

    def __init__(self, settings):
        settings = check(settings, _SETTINGS, "board.")
        if settings["microphone"]:
            _check_wav(settings["microphone"])
        self._address = settings["address"]
        self.audio = _WavAudio(settings["microphone"], settings["speaker"])
        self.console = Console()

    def address(self):
        """The address in the settings."""
        return self._address

    def wlan(self, settings):
        """None: the network is always there."""

    def inputs(self):
        """Standard input, until it ends."""
        return [] if self.console.is_at_end else [sys.stdin]

    def commands(self):
        """What the console has read; at its end, ``quit``."""
        if self.console.is_at_end:
            return []
        lines = self.console.read()
        return lines + ["quit"] if self.console.is_at_end else lines

    def show(self, state):
        """No lamp."""

    def watch(self, seconds):
        """No watchdog: who started the process sees to it."""
