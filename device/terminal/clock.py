"""The time as every machine here wants it: integer milliseconds that only rise."""

from time import ticks_diff, ticks_ms

__all__ = ["Clock"]


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
