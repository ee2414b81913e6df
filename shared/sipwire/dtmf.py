"""Digits as telephone events in RTP (RFC 4733), for door openers and menus.

    pressed --press--> queue --build, once a frame--> event | E R volume | duration: its timestamp is that of the press
    RTP --receive--> a digit and how long it was pressed, once, however many of its packets are lost, doubled or late

An event's packets have one timestamp and a duration that grows; the last comes three times, with the E bit. A digit is
told at the first of those, at the beginning of the next, or when nothing has come for a while. Beyond 65535 units an
event goes on in a segment, with a timestamp that is so much later (section 2.5.1.3).
"""

from .compat import const
from .errors import ParseError

__all__ = ["DIGITS", "PAYLOAD_BYTES", "DtmfReceiver", "DtmfSender"]

#: By event code (section 3.2); ``!`` is the hook flash.
DIGITS = "0123456789*#ABCD!"
PAYLOAD_BYTES = 4
_END = const(0x80)
_VOLUME = const(10)  # dBm0 below zero; section 2.3.4: of what the tone would have
_TONE_MS = const(160)  # a digit; Q.24 wants 40 ms at least
_PAUSE_MS = const(100)  # between two
_END_PACKETS = const(3)  # section 2.5.1.4
_MAX_QUEUED = const(32)
_MAX_DURATION = const(0xFFFF)
_MAX_TONE_MS = const(60000)
_TIMEOUT_MS = const(300)  # of an open event: three packets lost of a sender that sends every 50 ms, and jitter
_LATE_MS = const(5000)  # packets of an earlier event come no later than that
_CLOCK_MASK = const(0xFFFFFFF)  # timestamps are compared by 28 bits, nine hours: a small integer on 32 bits
_CLOCK_HALF = const(0x8000000)


class DtmfSender:
    """Digits to send in an audio stream, in its SSRC and with its sequence numbers.

    Args:
        per_ms: units of the clock in a millisecond: 8 of G.711.

    Attributes:
        timestamp: of the last packet, for its header.
        marker: whether it is the first one of its event.
    """

    def __init__(self, per_ms: int = 8) -> None:
        self._per_ms = per_ms
        self._queue: list[tuple[int, int]] = []  # (event, duration in units)
        self._is_on = False  # between the first packet of an event and its last
        self._left = 0  # units of the present event from the beginning of this segment on
        self._is_full = False  # this segment
        self._ends = 0  # end packets sent
        self._resume = -1  # the timestamp at which the pause is over
        self.timestamp = 0
        self.marker = False

    def is_busy(self) -> bool:
        """Whether `build` is to be called for each frame."""
        return bool(self._queue)

    def press(self, digits: str, tone_ms: int = _TONE_MS) -> None:
        """Send digits after what is still to be sent.

        Args:
            digits: of `DIGITS`.
            tone_ms: how long each is pressed, up to a minute.

        Raises:
            ValueError: something else, or too many at once: 32 wait at most. Then none is sent.
        """
        codes = [DIGITS.find(digit) for digit in digits.upper()]
        if -1 in codes or not 0 < tone_ms <= _MAX_TONE_MS:
            raise ValueError("not a digit to send, or no time to press it: 0-9 * # A-D !")
        if len(self._queue) + len(codes) > _MAX_QUEUED:
            raise ValueError("too many digits at once: wait until some are sent")
        self._queue += [(code, tone_ms * self._per_ms) for code in codes]

    def begin_anew(self) -> None:
        """Go on under another SSRC and clock: what was begun under the last has been told by it."""
        self._resume = -1
        if self._is_on:
            self._queue.pop(0)
            self._is_on = False

    def build(self, packet: bytearray, start: int, now: int, frame: int) -> int:
        """Write the payload of a frame to ``packet[start:]``; call it once a frame, of 20 to 50 ms.

        Args:
            packet: with 4 bytes of room behind ``start``.
            start: where the payload begins.
            now: the RTP timestamp of this frame in the stream, 32 bits.
            frame: its size in units of the clock.

        Returns:
            Its size, 4; or 0 in the pause before a digit, where the frame is sound as ever.
        """
        if not self._queue:
            return 0
        event, wanted = self._queue[0]
        self.marker = not self._is_on
        if self.marker:
            # Modulo 2^32, by its high half: a pause that was over long ago is over.
            if self._resume >= 0 and 0 < (self._resume - now & 0xFFFFFFFF) <= _PAUSE_MS * self._per_ms:
                return 0
            self.timestamp = now
            self._left = wanted
            self._is_on = True
            self._ends = 0
        elif self._is_full:
            self.timestamp = self.timestamp + _MAX_DURATION & 0xFFFFFFFF
            self._left -= _MAX_DURATION
        elapsed = now + frame - self.timestamp & 0xFFFFFFFF
        is_over = self._ends > 0 or self._left <= min(elapsed, _MAX_DURATION)
        self._is_full = not is_over and elapsed > _MAX_DURATION
        duration = self._left if is_over else min(elapsed, _MAX_DURATION)
        packet[start] = event
        packet[start + 1] = _VOLUME | _END if is_over else _VOLUME
        packet[start + 2] = duration >> 8
        packet[start + 3] = duration & 0xFF
        if is_over:
            self._ends += 1
            if self._ends == _END_PACKETS:
                self._queue.pop(0)
                self._is_on = False
                self._resume = now + frame + _PAUSE_MS * self._per_ms & 0xFFFFFFFF
        return PAYLOAD_BYTES


class DtmfReceiver:
    """Digits in an audio stream of one SSRC; another has a receiver of its own.

    Args:
        per_ms: units of the clock in a millisecond.

    Attributes:
        timer_at: when `handle_timer` is due, in milliseconds; None while no digit is pressed.
    """

    def __init__(self, per_ms: int = 8) -> None:
        self._per_ms = per_ms
        self._event = -1  # the last one; -1 before the first
        self._timestamp = 0  # of its present segment
        self._earlier = 0  # units of its earlier segments
        self._duration = 0  # units of its present segment
        self._seen_at = 0
        self.timer_at: int | None = None

    def receive(self, packet: "bytes | bytearray", start: int, end: int, now: int) -> "list[tuple[str, int]]":
        """Take an RTP packet that `rtp.parse` has read: its payload is ``packet[start:end]``.

        Returns:
            The digits that are over, with how long each was pressed as far as is known: [(digit, milliseconds)].

        Raises:
            ParseError: not an event, or one that is no digit. Nothing has changed.
        """
        if end - start != PAYLOAD_BYTES or packet[start] >= len(DIGITS):
            raise ParseError("telephone-event")
        event = packet[start]
        timestamp = (packet[4] & 0x0F) << 24 | packet[5] << 16 | packet[6] << 8 | packet[7]
        duration = packet[start + 2] << 8 | packet[start + 3]
        found: list[tuple[str, int]] = []
        ahead = (timestamp - self._timestamp + _CLOCK_HALF & _CLOCK_MASK) - _CLOCK_HALF
        if self._event >= 0 and now - self._seen_at < _LATE_MS:
            if ahead < 0 or (ahead == 0 and event != self._event):
                return found  # of an event that was told, or of an earlier segment
            same = event == self._event and ahead % _MAX_DURATION == 0 and not packet[1] & 0x80
            if ahead and same:
                self._earlier += ahead
                self._duration = 0
        else:
            same = False
            ahead = 1
        if ahead and not same:
            found = self.close()
            self._event = event
            self._earlier = self._duration = 0
            self.timer_at = now
        self._timestamp = timestamp
        self._duration = max(self._duration, duration)
        self._seen_at = now
        if self.timer_at is not None:
            self.timer_at = now + _TIMEOUT_MS
            if packet[start + 1] & _END:
                found += self.close()
        return found

    def handle_timer(self, now: int) -> "list[tuple[str, int]]":
        """Tell the digit of which nothing came for a while, its end lost (section 2.5.2.2)."""
        return self.close() if self.timer_at is not None and now >= self.timer_at else []

    def close(self) -> "list[tuple[str, int]]":
        """Tell the digit that is still pressed: its stream is over."""
        if self.timer_at is None:
            return []
        self.timer_at = None
        return [(DIGITS[self._event], (self._earlier + self._duration) // self._per_ms)]
