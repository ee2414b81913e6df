"""``machine.I2S``: a microphone that hears a WAV file, a speaker that records one, both by the clock.

The files are of 8000 Hz, 16 bits, mono. As with a real unit in non-blocking mode, what is not read in time is lost,
what is written without room is refused, and where nothing is written in time there is silence.
"""

import io
import select
import struct
import time

from micropython import const

_HEADER_BYTES = const(44)
_POLL = const(3)

# Set by `start`: a folder of the computer's, and what of it is sound; "" for none.
folder = None
files = ["", ""]
_silence = bytes(64)


class I2S(io.IOBase):
    """A unit: number 0 to 1, RX hears the microphone's file, TX plays into the speaker's."""

    RX = 9
    TX = 10
    MONO = 0
    STEREO = 1

    def __init__(self, number, *, sck, ws, sd, mode, bits, format, rate, ibuf):
        if number not in (0, 1):
            raise ValueError("invalid id")
        if bits != 16 or format != self.MONO or rate % 500:
            raise ValueError("this board has 16 bits, mono, and multiples of 500 Hz")
        if mode not in (self.RX, self.TX):
            raise ValueError("invalid mode")
        self._mode = mode
        self._per_ms = rate // 500  # bytes
        self._ring = ibuf
        self._at = time.ticks_ms()
        self._blocking = True
        # RX: bytes that wait. TX: bytes that are still to be played.
        self._held = 0
        self._written = 0
        name = files[mode == self.TX]
        self._file = folder.open("/" + name, "rb" if mode == self.RX else "wb") if name else None
        if self._file:
            if mode == self.RX:
                self._file.seek(_HEADER_BYTES)
            else:
                self._file.write(_header(0))

    def _tick(self):
        """Let the clock do what it did meanwhile."""
        now = time.ticks_ms()
        passed = time.ticks_diff(now, self._at) * self._per_ms
        self._at = now
        if self._mode == self.RX:
            self._held += passed
            lost = self._held - self._ring
            if lost > 0:
                self._held = self._ring
                if self._file:
                    self._file.seek(lost, 1)
        else:
            silence = passed - self._held
            self._held = max(-silence, 0)
            if silence > 0 and self._file:
                self._written += silence
                while silence > 0:
                    silence -= self._file.write(_silence if silence >= 64 else _silence[:silence])

    def readinto(self, buffer):
        self._tick()
        while self._blocking and self._held < len(buffer):
            time.sleep_ms(1)
            self._tick()
        size = min(len(buffer), self._held) & -2
        self._held -= size
        view = memoryview(buffer)[:size]
        heard = self._file.readinto(view) or 0 if self._file else 0
        for i in range(heard, size):
            view[i] = 0
        return size

    def write(self, buffer):
        self._tick()
        while self._blocking and self._held + len(buffer) > self._ring:
            time.sleep_ms(1)
            self._tick()
        size = min(len(buffer), self._ring - self._held) & -2
        self._held += size
        if self._file and size:
            self._file.write(memoryview(buffer)[:size])
            self._written += size
        return size

    def ioctl(self, request, argument):
        if request != _POLL:
            return -1
        self._blocking = False
        self._tick()
        if self._mode == self.RX:
            return select.POLLIN & argument if self._held else 0
        return select.POLLOUT & argument if self._held < self._ring else 0

    def deinit(self):
        if self._file:
            if self._mode == self.TX:
                self._file.seek(0)
                self._file.write(_header(self._written))
            self._file.close()
            self._file = None

    @staticmethod
    def shift(*, buf, bits, shift):
        for i in range(0, len(buf), 2):
            value = struct.unpack_from("<h", buf, i)[0]
            value = value << shift if shift >= 0 else value >> -shift
            struct.pack_into("<H", buf, i, value & 0xFFFF)


def _header(size):
    return struct.pack("<4sI8sIHHIIHH4sI", b"RIFF", size + 36, b"WAVEfmt ", 16, 1, 1, 8000, 16000, 2, 16, b"data", size)
