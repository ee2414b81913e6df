"""The time as every machine here wants it, integer milliseconds that only rise; and what day it is."""

from time import ticks_diff, ticks_ms

__all__ = ["Calendar", "Clock"]


class Clock:
    """Unwraps ``ticks_ms``, which starts again after 2^30 ms (12 days). Ask at least once in 6 days."""

    def __init__(self):
        self._last = ticks_ms()
        self._now = 0

    def now(self):
        """Milliseconds since the clock was made."""
        ticks = ticks_ms()
        self._now += ticks_diff(ticks, self._last)
        self._last = ticks
        return self._now


class Calendar:
    """What time it is in the world: a board has nobody but its neighbour to ask."""

    def __init__(self):
        self._set_s = None
        self._set_at = 0

    def set(self, seconds, now):
        """Somebody has said so.

        Args:
            seconds: since 1970.
            now: milliseconds.
        """
        self._set_s = seconds
        self._set_at = now

    def seconds(self, now):
        """Seconds since 1970, or None where nobody has said yet."""
        return None if self._set_s is None else self._set_s + (now - self._set_at) // 1000
