"""Token buckets by key: so many at once, and so many a second from then on.

    level = min(burst, level + seconds * rate)      one token for each thing that is let through

A bucket is filled when it is looked at: there are no timers. Tokens are counted in thousandths, so that a rate a second
is one a millisecond and everything stays an integer. The table has an end: beyond it the bucket that nobody has asked
for longest is forgotten, and is full when it is asked for again. All that takes the same time however many there are.
"""

from collections import OrderedDict
from typing import Generic, TypeVar

__all__ = ["Buckets"]

_TOKEN = 1000

_Key = TypeVar("_Key")


class Buckets(Generic[_Key]):
    """The buckets of many keys.

    Args:
        rate: tokens a second that a bucket gains.
        burst: tokens that it holds at most.
        size: buckets that are remembered.
    """

    def __init__(self, rate: int, burst: int, size: int) -> None:
        self._rate = rate
        self._burst = burst * _TOKEN
        self._size = size
        # What was missing from full, and when; the bucket asked for last at the end.
        self._table: OrderedDict[_Key, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._table)

    def _missing(self, key: _Key, now: int, share: int) -> int:
        missing, since = self._table.get(key, (0, now))
        return max(0, missing - max(0, now - since) * self._rate * share)

    def has(self, key: _Key, now: int, share: int = 1) -> bool:
        """Whether there is a token; takes none.

        Args:
            key: whose bucket.
            now: milliseconds.
            share: how many times as large and as fast as others it is.
        """
        return self._missing(key, now, share) + _TOKEN <= self._burst * share

    def take(self, key: _Key, now: int, share: int = 1) -> bool:
        """Take a token, or return False where there is none; for the arguments see `has`."""
        missing = self._missing(key, now, share)
        taken = missing + _TOKEN <= self._burst * share
        self._table[key] = (missing + _TOKEN if taken else missing, now)
        self._table.move_to_end(key)
        if len(self._table) > self._size:
            self._table.popitem(last=False)
        return taken

    def wait_ms(self, key: _Key, now: int, share: int = 1) -> int:
        """Milliseconds until there is a token again, 0 where there is one."""
        lacking = self._missing(key, now, share) + _TOKEN - self._burst * share
        return -(-max(0, lacking) // (self._rate * share))
