"""The far end of a long call: speech whose every frame can be told from the others, over a network of our making.

    frames, by a clock of its own --SRTP--> some lost, all late --> terminal
    terminal --SRTP--> some lost --> kept with the time of their arrival

Its SRTP and SRTCP are libsrtp's, and RTCP is read and written here by hand (RFC 3550 section 6.4): nothing that the
terminal does is checked by itself.
"""

import heapq
import math
import random
import select
import socket
import struct
import threading
import time
from pathlib import Path

import pylibsrtp

from lab import sound
from sipwire.g711 import Codec

__all__ = ["FRAME_S", "FarEnd", "frame", "number_of", "numbers_of", "write_frames"]

#: Of a packet.
FRAME_S = 0.02
_FRAME = 160
_SILENCE = b"\xff" * _FRAME  # mu-law
_NUMBER_BYTES = 4
_REPORT_S = 2.0  # more often than RFC 3550 has it: a short call shall see some
_JITTER = 80  # units of 1/8000 s that our reports claim: 10 ms
_NTP_EPOCH = 2208988800
_SEED = 3550
_SSRC = 0x5EED


def frame(number: int, hertz: int) -> bytes:
    """A frame in mu-law: its number in the first four bytes, six bits in each, and a tone of whole periods."""
    head = bytes(0xC0 | number >> 6 * i & 0x3F for i in range(_NUMBER_BYTES))
    return head + _tone(hertz)[_NUMBER_BYTES:]


def _tone(hertz: int) -> bytes:
    step = 2 * math.pi * hertz / 8000
    pcm = struct.pack(f"<{_FRAME}h", *(round(9000 * math.sin(step * i)) for i in range(_FRAME)))
    coded = bytearray(_FRAME)
    Codec(0).encode(bytearray(pcm), coded, 0, _FRAME)
    return bytes(coded).replace(b"\x7f", b"\xff")  # zero has two codes; what comes of it again has this one


def number_of(coded: bytes, hertz: int) -> int | None:
    """The number of a frame, None of silence; anything else is an error."""
    if coded == _SILENCE:
        return None
    number = sum((coded[i] & 0x3F) << 6 * i for i in range(_NUMBER_BYTES))
    assert coded == frame(number, hertz), "neither silence nor what was sent"
    return number


def write_frames(path: Path, count: int, hertz: int) -> None:
    """A recording of so many frames."""
    codec, pcm = Codec(0), bytearray(2 * _FRAME)
    samples: list[int] = []
    for number in range(count):
        codec.decode(bytearray(frame(number, hertz)), 0, pcm, _FRAME)
        samples += struct.unpack(f"<{_FRAME}h", pcm)
    sound.write(path, samples)


def numbers_of(path: Path, hertz: int) -> list[int | None]:
    """What was played, 20 ms after 20 ms: the number of the frame, or None for silence."""
    codec, coded, pcm = Codec(0), bytearray(_FRAME), sound.read(path)
    found = []
    for at in range(0, len(pcm) - 2 * _FRAME + 1, 2 * _FRAME):
        codec.encode(bytearray(pcm[at : at + 2 * _FRAME]), coded, 0, _FRAME)
        found.append(number_of(bytes(coded), hertz))
    return found


def _session(key: bytes, kind: int) -> pylibsrtp.Session:
    return pylibsrtp.Session(
        pylibsrtp.Policy(key=key, ssrc_type=kind, srtp_profile=pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80)
    )


class FarEnd(threading.Thread):
    """See the module. RTCP goes over the port of RTP.

    Args:
        opened: a bound UDP socket.
        target: where to send.
        keys: master key and salt of what we send, and of what comes.
        hertz: the tone that we send, and that of the terminal.
        ppm: how many millionths our clock is fast.
        lost: how many packets in one are lost, each way.
        late_s: how late a packet is at most.

    Attributes:
        sent, dropped: numbers of the frames that went out, and of those that were lost on the way.
        came: (when, seq, timestamp, frame) of each packet that came through; ``missed`` others.
        reports: of the terminal, in the clear: (when, datagram).
        claimed: packets that our last report told to be lost.
    """

    def __init__(
        self,
        opened: socket.socket,
        target: tuple[str, int],
        keys: tuple[bytes, bytes],
        hertz: tuple[int, int],
        ppm: int,
        lost: float,
        late_s: float,
    ) -> None:
        super().__init__(daemon=True)
        self._socket = opened
        self._target = target
        self._sender = _session(keys[0], pylibsrtp.Policy.SSRC_ANY_OUTBOUND)
        self._receiver = _session(keys[1], pylibsrtp.Policy.SSRC_ANY_INBOUND)
        self._hertz, self._their_hertz = hertz
        self._interval_s = FRAME_S / (1 + ppm / 1e6)
        self._lost, self._late_s = lost, late_s
        self._chance = random.Random(_SEED)
        self._stopped = threading.Event()
        self._under_way: list[tuple[float, bytes]] = []
        self._source = self._last_sr = 0
        self._last_sr_at = 0.0
        self.sent: list[int] = []
        self.dropped: set[int] = set()
        self.came: list[tuple[float, int, int, int]] = []
        self.missed = self.claimed = 0
        self.reports: list[tuple[float, bytes]] = []
        self.failure: Exception | None = None

    def stop(self) -> None:
        """Leave the line; raises what went wrong."""
        self._stopped.set()
        self.join()
        self._socket.close()
        if self.failure is not None:
            raise self.failure

    def run(self) -> None:
        try:
            self._run()
        except Exception as error:
            self.failure = error

    def _run(self) -> None:
        start = time.monotonic()
        report_at, number = start + _REPORT_S, 0
        while not self._stopped.is_set():
            now = time.monotonic()
            due = start + number * self._interval_s
            if now >= due:
                self._make(number, due)
                number += 1
                continue
            if now >= report_at:
                report_at += _REPORT_S
                self._report(number)
            while self._under_way and self._under_way[0][0] <= now:
                self._socket.sendto(heapq.heappop(self._under_way)[1], self._target)
            until = min([due, report_at] + [at for at, _ in self._under_way[:1]])
            if select.select([self._socket], [], [], max(0.0, until - time.monotonic()))[0]:
                self._take(self._socket.recv(2000), time.monotonic())

    def _make(self, number: int, due: float) -> None:
        head = struct.pack("!BBHII", 0x80, 0x80 if number == 0 else 0, number & 0xFFFF, number * _FRAME, _SSRC)
        packet = self._sender.protect(head + frame(number, self._hertz))
        if self._chance.random() < self._lost:
            self.dropped.add(number)
        else:
            self.sent.append(number)
            heapq.heappush(self._under_way, (due + self._chance.random() * self._late_s, packet))

    def _take(self, data: bytes, now: float) -> None:
        if 192 <= data[1] <= 223:
            self.reports.append((now, self._receiver.unprotect_rtcp(data)))
            self._source, *_ = struct.unpack_from("!4xI", self.reports[-1][1])
            if self.reports[-1][1][1] == 200:
                (self._last_sr,) = struct.unpack_from("!10xI", self.reports[-1][1])
                self._last_sr_at = now
        elif self._chance.random() < self._lost:
            self.missed += 1
        else:
            packet = self._receiver.unprotect(data)
            seq, timestamp, self._source = struct.unpack_from("!2xHII", packet)
            number = number_of(packet[12:], self._their_hertz)
            assert number is not None
            self.came.append((now, seq, timestamp, number))

    def _report(self, number: int) -> None:
        """A sender report with one block, and SDES with a CNAME of two letters."""
        now = time.time() + _NTP_EPOCH
        blocks = b""
        if self.came:
            numbers = [one[3] for one in self.came]
            self.claimed = max(numbers) - min(numbers) + 1 - len(numbers)
            delay = round((time.monotonic() - self._last_sr_at) * 65536) if self._last_sr else 0
            highest = self.came[-1][1]
            blocks = struct.pack(
                "!IIIIII", self._source, self.claimed & 0xFFFFFF, highest, _JITTER, self._last_sr, delay
            )
        info = (_SSRC, int(now), int(now % 1 * 2**32), number * _FRAME, len(self.sent), len(self.sent) * _FRAME)
        words = (28 + len(blocks)) // 4 - 1
        report = struct.pack("!BBHIIIIII", 0x80 | len(blocks) // 24, 200, words, *info) + blocks
        report += struct.pack("!BBHIBB2sxxxx", 0x81, 202, 3, _SSRC, 1, 2, b"it")
        self._socket.sendto(self._sender.protect_rtcp(report), self._target)
