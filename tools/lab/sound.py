"""Recordings to send through a call, and the comparison of what was sent with what was heard."""

import math
import os
import shutil
import struct
import subprocess
import tempfile
import wave
from dataclasses import dataclass
from pathlib import Path

from sipwire.g711 import Codec

__all__ = ["FRAME_BYTES", "Comparison", "compare", "dominant_hz", "make_recording", "make_tone", "read", "write"]

RATE_HZ = 8000
FRAME_BYTES = 320
_CHORDS = {"alice": (262, 330, 392), "bob": (294, 370, 440)}


def write(path: Path, samples: "list[int]") -> None:
    """Write 16-bit samples at 8000 Hz as a WAV file."""
    with wave.open(str(path), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(struct.pack(f"<{len(samples)}h", *samples))


def read(path: Path) -> bytes:
    """The samples of a WAV file of 16 bits, mono, 8000 Hz; whatever sizes its header claims."""
    data = path.read_bytes()
    if data[:4] != b"RIFF":
        raise ValueError(f"{path}: no WAV file")
    start = data.index(b"data") + 8
    return data[start:]


def make_tone(path: Path, hertz: float, seconds: float, level: float = 0.3) -> None:
    """A sine."""
    step = 2 * math.pi * hertz / RATE_HZ
    write(path, [round(32767 * level * math.sin(step * i)) for i in range(int(RATE_HZ * seconds))])


def make_recording(path: Path, who: str, text: str, seconds: float) -> str:
    """A recording of some seconds: spoken where espeak-ng is installed, else a chord; returns which."""
    count = int(RATE_HZ * seconds)
    samples: list[int] = []
    if shutil.which("espeak-ng"):
        with tempfile.TemporaryDirectory() as folder:
            spoken = Path(folder) / "spoken.wav"
            voice = "en-us" if who == "alice" else "en-gb"
            done = subprocess.run(
                ["espeak-ng", "-v", voice, "-w", str(spoken), text],
                capture_output=True,
                # It plays nothing, but PulseAudio's library, which it starts all the same, makes folders.
                env={**os.environ, "PULSE_RUNTIME_PATH": folder},
            )
            if done.returncode == 0:
                samples = _resampled(spoken)
    source = "speech"
    if not any(samples):
        source = "a chord"
        notes = _CHORDS.get(who, (440, 554, 659))
        samples = [
            round(sum(6000 * math.sin(2 * math.pi * hertz * i / RATE_HZ) for hertz in notes)) for i in range(count)
        ]
    while len(samples) < count:
        samples += samples
    write(path, samples[:count])
    return source


def _resampled(path: Path) -> list[int]:
    """A WAV file's first channel at 8000 Hz, by averages over each step: good enough for a telephone."""
    with wave.open(str(path), "rb") as file:
        rate, channels = file.getframerate(), file.getnchannels()
        raw = file.readframes(file.getnframes())
    samples = struct.unpack(f"<{len(raw) // 2}h", raw)[::channels]
    step = rate / RATE_HZ
    out = []
    for i in range(int(len(samples) / step)):
        window = samples[int(i * step) : max(int(i * step) + 1, int((i + 1) * step))]
        out.append(sum(window) // len(window))
    return out


def dominant_hz(path: Path) -> int:
    """The strongest frequency from 200 to 2000 Hz in the middle of a recording, in steps of 20 Hz; 0 for silence."""
    raw = read(path)
    samples = struct.unpack(f"<{len(raw) // 2}h", raw[: len(raw) // 2 * 2])
    middle = len(samples) // 2
    samples = samples[max(0, middle - 4000) : middle + 4000]
    if not samples or max(map(abs, samples)) < 200:
        return 0

    def power(hertz: int) -> float:
        k = 2 * math.cos(2 * math.pi * hertz / RATE_HZ)
        a = b = 0.0
        for sample in samples:
            a, b = sample + k * a - b, a
        return a * a + b * b - k * a * b

    return max(range(200, 2001, 20), key=power)


@dataclass(frozen=True)
class Comparison:
    """How a heard recording compares with the sent one.

    Attributes:
        frames: of 20 ms in the sent one.
        equal: frames of it that were heard in order, sample by sample what the codec makes of them.
        inserted: frames of silence heard in between: the player had to wait.
    """

    frames: int
    equal: int
    inserted: int

    @property
    def is_equal(self) -> bool:
        """Whether everything was heard."""
        return self.frames > 0 and self.equal == self.frames


def compare(sent: Path, heard: Path, payload_type: int = 0) -> Comparison:
    """Compare what was heard with what was sent, after the codec."""
    codec = Codec(payload_type)
    pcm = read(sent)
    pcm = pcm[: len(pcm) // FRAME_BYTES * FRAME_BYTES]
    coded = bytearray(len(pcm) // 2)
    codec.encode(bytearray(pcm), coded, 0, len(coded))
    wanted = bytearray(len(pcm))
    codec.decode(coded, 0, wanted, len(coded))
    got = read(heard)
    silent = bytearray(FRAME_BYTES)
    codec.decode(bytearray([codec.silence]) * (FRAME_BYTES // 2), 0, silent, FRAME_BYTES // 2)
    silence = bytes(silent)
    at = inserted = 0
    for i in range(0, len(got) - FRAME_BYTES + 1, FRAME_BYTES):
        frame = got[i : i + FRAME_BYTES]
        if at == len(wanted):
            break
        if frame == wanted[at : at + FRAME_BYTES]:
            at += FRAME_BYTES
        elif frame == silence:
            inserted += at > 0
        else:
            break
    return Comparison(len(wanted) // FRAME_BYTES, at // FRAME_BYTES, inserted)
