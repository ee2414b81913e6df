"""Speech: what a microphone hears, and what a speaker plays; and the digits that somebody presses.

    microphone -> encode -> stream                   every 20 ms by the clock
    stream -> jitter buffer                          whenever something has come
    jitter buffer -> decode -> speaker               every 20 ms by the clock
    digits -> stream, in place of the microphone     stream -> digits -> event

Loaded for a call that has speech.
"""

from sipwire.compat import const
from sipwire.g711 import Codec
from sipwire.rtp import HEADER_BYTES

from .demand import load
from .jitter import FRAME, JitterBuffer

__all__ = ["Speech"]

_FRAME_MS = const(20)
_MAX_BEHIND_MS = const(200)  # when the device slept for longer, packets are not sent in a burst but left out


class Speech:
    """The speech of a call.

    Args:
        media: the `media.Media`: whose audio and buffer it uses.
        stream: a `stream.Stream`, with room for `FRAME` bytes.

    Attributes:
        stream: likewise.
        timer_at: when `handle_timer` is due, or None.
        jitter: the `jitter.JitterBuffer`.
    """

    def __init__(self, media, stream):
        self._audio = media.audio
        self.stream = stream
        self._digits = None  # a `digits.Digits`, once somebody has pressed one
        self._codec = None
        self.jitter = JitterBuffer(media.buffer)
        self._frame = bytearray(FRAME)
        self._pcm = bytearray(2 * FRAME)
        self._codecs = {}
        self.timer_at = None

    def prepare(self, agreed):
        """Make ready; the microphone and the speaker are on then.

        Raises:
            MemoryError, OSError, ValueError: it can't.
        """
        codec = self._codecs.get(agreed.payload_type) or Codec(agreed.payload_type)
        self._codecs[agreed.payload_type] = codec
        if self._codec is None:
            self._audio.start()

    def change(self, agreed, is_other, now, talks):
        """Begin, or go on by what is agreed now: see `media.Media.start`; ``is_other`` is the peer's stream."""
        codec = self._codecs[agreed.payload_type]
        if self._codec is None:
            self.jitter.begin(codec.silence)
            self.timer_at = now + _FRAME_MS
        elif is_other or codec is not self._codec:
            self.jitter.change(codec.silence)
        self._codec = codec
        self._talks = talks and agreed.talks
        self._hears = agreed.hears

    def stop(self):
        """End."""
        self._silence()
        if self._digits:
            self._digits.stop()

    def _silence(self):
        self.timer_at = None
        try:
            self._audio.stop()
        except (OSError, ValueError):
            pass  # nothing more can be done about it

    def take(self, datagram, now):
        """Take a datagram that has come."""
        stream = self.stream
        parsed = stream.open(datagram, now)
        if parsed:
            if stream.is_new:
                self.jitter.change(self._codec.silence)
            if parsed[0] == stream.agreed.event_type:
                self._open_digits().take(stream, parsed, now)
            elif self._hears and parsed[0] == self._codec.payload_type:
                self.jitter.put(stream.packet, parsed[3], parsed[4], parsed[2])

    def _open_digits(self):
        if not self._digits:
            self._digits = load("terminal.digits").Digits()
        return self._digits

    def press(self, digits):
        """Send digits (RFC 4733).

        Raises:
            ValueError: they are none, or too many; or the peer does not take them, or is on hold.
        """
        if self.stream.agreed.event_type < 0 or not self._talks:
            raise ValueError("the other side takes none")
        self._open_digits().press(digits)

    def handle_timer(self, now):
        """Send and play the 20 ms that are due; what the audio raises goes through."""
        stream, digits = self.stream, self._digits
        if now - self.timer_at > _MAX_BEHIND_MS:
            stream.timestamp = (stream.timestamp + (now - self.timer_at) // _FRAME_MS * FRAME) & 0xFFFFFFFF
            self.timer_at = now
        while self.timer_at is not None and now >= self.timer_at:
            self.timer_at += _FRAME_MS
            if stream.is_sending and self._talks:
                self._audio.read(self._pcm)
                if not (digits and digits.send(stream, FRAME)):
                    self._codec.encode(self._pcm, stream.out, HEADER_BYTES, FRAME)
                    stream.send(self._codec.payload_type, FRAME, stream.sent == 0)
            stream.timestamp = (stream.timestamp + FRAME) & 0xFFFFFFFF
            self.jitter.take(self._frame)
            self._codec.decode(self._frame, 0, self._pcm, FRAME)
            self._audio.write(self._pcm)
        if digits:
            digits.handle_timer(now)
