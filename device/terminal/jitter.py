"""A small jitter buffer: a ring of audio bytes, addressed by RTP timestamp.

    received --put--> [ 160 bytes = 20 ms each, some of them missing ] --take every 20 ms--> played

What comes out of order finds its place by itself, what comes twice is put twice. What is lost is concealed: the last
20 ms are played again, up to three times, and silence follows.

How long speech waits here adapts itself, from 40 to 200 ms. When less than 20 ms is left to play, playing waits, so
that late audio is heard later and not lost; and it waits 20 ms longer for each packet that comes too late all the same,
and where one of the last hundred came less than 40 ms before its time. Where all of them came 65 ms or more before it,
20 ms are skipped; when more than 220 ms has piled up, all that is too much. So it is absorbed that no two clocks run
alike.
"""

from sipwire.compat import const, copy

__all__ = ["FRAME", "JitterBuffer"]

FRAME = const(160)  # bytes and samples of 20 ms
_SIZE = const(2048)  # 256 ms; a power of two, so that timestamps wrap where the ring does
_WRAP = const(2047)
_DELAY = const(480)  # 60 ms between the arrival of the first packet and its playing
_MAX_DELAY = const(1600)  # 200 ms
_MAX_AHEAD = const(1760)  # 220 ms: that, and the packet that waits
_MIN_DELAY = const(320)  # 40 ms
_EARLY = const(520)  # 65 ms: to skip a frame leaves more than the least delay
_LOOKED_AT = const(100)  # packets, whose earliness is looked at together: two seconds
_REPEATS = const(3)  # of one frame; more, and it sounds like a machine
_FAR = const(32768)  # 4 s: what the replay window lets through is never so late, so it is a new beginning
_MASK = const(0xFFFFFFFF)
_PIECE = const(6)  # what has come is noted by pieces of 64 samples, so that the middle of a frame tells of it alone
_PIECES = const(32)


class JitterBuffer:
    """The buffer of one stream after the other, for payloads of one byte a sample. Call `begin` first.

    Args:
        ring: the memory for it, 2048 bytes.
        repeats: how often in a row a frame is played again in place of what is missing.

    Attributes:
        late: packets that came after their time was played.
        waited: frames that were concealed or silent because too little had come, or so that speech waits longer here.
        concealed: frames that were lost, and not played for that.
        skipped: samples left out because too much had come.
        delay: samples that a packet waits here before it is played, as the last ones did.
    """

    def __init__(self, ring, repeats=_REPEATS):
        self._ring = ring
        self._most = repeats
        self._blank = bytearray(FRAME)
        self._last = bytearray(FRAME)
        self._has = bytearray(_PIECES)
        self.begin(0)

    def begin(self, silence):
        """Make ready for a call's first stream; `change` describes the argument."""
        self.change(silence)
        self.late = self.waited = self.concealed = self.skipped = 0

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
        self._repeats = self._most  # of the last frame: there is none
        self.delay = _DELAY
        self._look_anew()

    def _look_anew(self):
        self._least = _MAX_AHEAD
        self._looked = 0

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
            self._look(offset)
            return
        elif offset + size > _MAX_AHEAD:
            while offset >= FRAME and offset + size > _DELAY:
                self._skip()
                offset -= FRAME
        at = timestamp & _WRAP
        first = min(size, _SIZE - at)
        copy(self._ring, at, packet, start, first)
        copy(self._ring, 0, packet, start + first, size - first)
        self._note(at, size, 1)
        if offset + size > self._ahead:
            self._ahead = offset + size
        self._look(offset + self._fill)

    def _look(self, early):
        """See how long before its time a packet has come: wait for a frame, or skip one, where that should change."""
        self.delay += (early - self.delay + 8) >> 4
        wants = early < 0
        self._least = min(self._least, early)
        self._looked += 1
        if self._looked == _LOOKED_AT:
            if self._least >= _EARLY and not self._fill:
                self._skip()
            wants = self._least < _MIN_DELAY
            self._look_anew()
        if wants and not self._fill and self._ahead <= _MAX_DELAY - FRAME:
            self._fill = FRAME
            self.waited += 1

    def _note(self, at, size, has):
        """Note of samples of the ring whether something has come for them."""
        end = at + size - 1 >> _PIECE
        at >>= _PIECE
        while at <= end:
            self._has[at & _PIECES - 1] = has
            at += 1

    def take(self, frame):
        """Put the next 20 ms into ``frame``, `FRAME` bytes."""
        if self._ahead >= 0 and self._fill > 0:
            self._fill -= FRAME
            self._conceal(frame)
            return
        if self._ahead >= FRAME:
            at = self._play & _WRAP
            if self._has[(at + FRAME // 2 & _WRAP) >> _PIECE]:
                first = min(FRAME, _SIZE - at)
                copy(frame, 0, self._ring, at, first)
                copy(frame, first, self._ring, 0, FRAME - first)
                copy(self._last, 0, frame, 0, FRAME)
                self._repeats = 0
            else:
                self.concealed += 1
                self._conceal(frame)
            self._advance()
            return
        if self._ahead >= 0:
            self.waited += 1
        self._conceal(frame)

    def _conceal(self, frame):
        if self._repeats < self._most:
            self._repeats += 1
            frame[:] = self._last
        else:
            frame[:] = self._blank

    def _advance(self):
        """Blank what has been played, and go on."""
        at = self._play & _WRAP
        first = min(FRAME, _SIZE - at)
        copy(self._ring, at, self._blank, 0, first)
        copy(self._ring, 0, self._blank, 0, FRAME - first)
        self._note(at, FRAME, 0)
        self._play = (self._play + FRAME) & _MASK
        self._ahead = max(0, self._ahead - FRAME)

    def _skip(self):
        if self._ahead > 0:
            self.skipped += min(FRAME, self._ahead)
        self._advance()

    def _restart(self, timestamp):
        for at in range(0, _SIZE, 128):
            copy(self._ring, at, self._blank, 0, 128)
        self._note(0, _SIZE, 0)
        self._play = timestamp
        self._ahead = 0
        self._fill = _DELAY
        self.delay = _DELAY
        self._look_anew()
