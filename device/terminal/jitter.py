"""A small jitter buffer: a ring of audio bytes, addressed by RTP timestamp.

    received --put--> [ 160 bytes = 20 ms each, silence where nothing came ] --take every 20 ms--> played

What comes out of order finds its place by itself, what is lost is silence, what comes twice is put twice. When less
than 20 ms is left to play, playing waits, so that late audio is heard later and not lost; when more than 220 ms has
piled up, playing skips ahead.
"""

from sipwire.compat import const

__all__ = ["FRAME", "JitterBuffer"]

FRAME = const(160)  # bytes and samples of 20 ms
_SIZE = const(2048)  # 256 ms; a power of two, so that timestamps wrap where the ring does
_WRAP = const(2047)
_DELAY = const(480)  # 60 ms between the arrival of the first packet and its playing
_MAX_AHEAD = const(1760)  # 220 ms
_FAR = const(32768)  # 4 s: what the replay window lets through is never so late, so it is a new beginning
_MASK = const(0xFFFFFFFF)


class JitterBuffer:
    """The buffer of one stream after the other, for payloads of one byte a sample. Call `begin` first.

    Attributes:
        late: packets that came after their time was played.
        waited: frames of silence played because too little had come.
        skipped: samples left out because too much had come.
    """

    def __init__(self):
        self._ring = bytearray(_SIZE)
        self._blank = bytearray(FRAME)
        self.begin(0)

    def begin(self, silence):
        """Make ready for a call's first stream; `change` describes the argument."""
        self.change(silence)
        self.late = self.waited = self.skipped = 0

    def change(self, silence):
        """Make ready for another stream, which counts its time from elsewhere.

        Args:
            silence: the byte that sounds like nothing.
        """
        for i in range(FRAME):
            self._blank[i] = silence
        self._play = 0  # timestamp of the next sample to play
        self._ahead = -1  # how many samples are written from there on; -1 before the first packet
        self._fill = 0  # samples still to wait for before playing begins

    def put(self, packet, start, end, timestamp):
        """Take the payload ``packet[start:end]`` of an RTP timestamp."""
        size = end - start
        if size > FRAME * 6 or size == 0:
            return
        if self._ahead < 0:
            self._restart(timestamp)
        offset = ((timestamp - self._play + 0x80000000) & _MASK) - 0x80000000
        if offset < -_FAR or offset + size - self._ahead > _SIZE:
            self._restart(timestamp)  # a pause, or a new beginning: nothing of what was written is near
            offset = 0
        elif offset < 0:
            self.late += 1
            return
        elif offset + size > _MAX_AHEAD:
            while offset >= FRAME and offset + size > _DELAY:
                self._skip()
                offset -= FRAME
        at = timestamp & _WRAP
        first = min(size, _SIZE - at)
        ring = memoryview(self._ring)
        source = memoryview(packet)
        ring[at : at + first] = source[start : start + first]
        if first < size:
            ring[: size - first] = source[start + first : end]
        if offset + size > self._ahead:
            self._ahead = offset + size

    def take(self, frame):
        """Put the next 20 ms into ``frame``, `FRAME` bytes; silence where nothing has come."""
        if self._ahead >= 0 and self._fill > 0:
            self._fill -= FRAME
        elif self._ahead >= FRAME:
            at = self._play & _WRAP
            ring = memoryview(self._ring)
            first = min(FRAME, _SIZE - at)
            frame[:first] = ring[at : at + first]
            if first < FRAME:
                frame[first:] = ring[: FRAME - first]
            self._advance(at, first)
            return
        elif self._ahead >= 0:
            self.waited += 1
        frame[:] = self._blank

    def _advance(self, at, first):
        """Blank what has been played, and go on."""
        self._ring[at : at + first] = self._blank[:first]
        if first < FRAME:
            self._ring[: FRAME - first] = self._blank[first:]
        self._play = (self._play + FRAME) & _MASK
        self._ahead = max(0, self._ahead - FRAME)

    def _skip(self):
        at = self._play & _WRAP
        if self._ahead > 0:
            self.skipped += min(FRAME, self._ahead)
        self._advance(at, min(FRAME, _SIZE - at))

    def _restart(self, timestamp):
        for at in range(0, _SIZE, 128):
            self._ring[at : at + 128] = self._blank[:128]
        self._play = timestamp
        self._ahead = 0
        self._fill = _DELAY
