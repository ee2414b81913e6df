"""A tone in a recording: how long, and how loud."""

import math
import struct
from dataclasses import dataclass
from pathlib import Path

__all__ = ["RATE_HZ", "Tone", "find_tone", "rate_hz"]

#: Of every recording here.
RATE_HZ = 8000
_HEADER_BYTES = 44
_FRAME = RATE_HZ // 50
_SILENCE = 100  # of a 16-bit sample, root mean square: quieter frames are nobody's
_PURE = 0.9  # of a frame's energy: what the codec adds to a tone is far less than the rest


@dataclass(frozen=True)
class Tone:
    """What was found.

    Attributes:
        seconds: of the tone, by frames of 20 ms that hold it and nothing else.
        other_s: of anything else that is not silence.
        level: the tone's root mean square, 1.0 for the largest that samples can have.
    """

    seconds: float
    other_s: float
    level: float


def rate_hz(path: Path) -> int:
    """The sample rate that the header of a recording of one channel tells."""
    magic, kind, channels, rate = struct.unpack_from("<8x8s4xHHI", path.read_bytes())
    assert (magic, kind, channels) == (b"WAVEfmt ", 1, 1), path
    return int(rate)


def find_tone(path: Path, hertz: float) -> Tone:
    """Look for a tone in a recording, which may still be growing: its header counts for nothing."""
    data = path.read_bytes()[_HEADER_BYTES:]
    samples = struct.unpack(f"<{len(data) // 2}h", data[: len(data) // 2 * 2])
    found = other = 0
    total = 0.0
    for at in range(0, len(samples) - _FRAME + 1, _FRAME):
        frame = samples[at : at + _FRAME]
        energy = sum(x * x for x in frame)
        if energy < _SILENCE**2 * _FRAME:
            continue
        if _energy_at(hertz, frame) > _PURE * energy:
            found += 1
            total += energy
        else:
            other += 1
    level = math.sqrt(total / (found * _FRAME)) / 32768 if found else 0.0
    return Tone(found / 50, other / 50, level)


def _energy_at(hertz: float, frame: tuple[int, ...]) -> float:
    """The energy of one frequency in a frame, by Goertzel's algorithm."""
    k = 2 * math.cos(2 * math.pi * hertz / RATE_HZ)
    a = b = 0.0
    for x in frame:
        a, b = x + k * a - b, a
    return (a * a + b * b - k * a * b) * 2 / len(frame)
