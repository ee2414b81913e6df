"""When to try again what has not worked: later each time, and sooner where there is news."""

import heapq
from typing import Generic, TypeVar

__all__ = ["Schedule"]

_Key = TypeVar("_Key", int, str)


class Schedule(Generic[_Key]):
    """Attempts to come, by what they are for. It has no timer: somebody has to ask what is due.

    Args:
        waits_s: seconds before the second attempt, the third, and so on.
        is_endless: whether the last of them goes for all that follow; else there are no more.
    """

    def __init__(self, waits_s: tuple[int, ...], *, is_endless: bool) -> None:
        self._waits_s = waits_s
        self._is_endless = is_endless
        self._at: dict[_Key, int] = {}
        self._tried: dict[_Key, int] = {}
        self._heap: list[tuple[int, _Key]] = []

    def __len__(self) -> int:
        return len(self._at)

    def failed(self, key: _Key, now: int) -> None:
        """An attempt has come to nothing: there is another, after the next wait.

        Args:
            key: what for.
            now: milliseconds.
        """
        tried = self._tried.get(key, 0)
        if tried < len(self._waits_s):
            self._tried[key] = tried + 1
        elif not self._is_endless:
            self.forget(key)
            return
        self._set(key, now + self._waits_s[min(tried, len(self._waits_s) - 1)] * 1000)

    def soon(self, key: _Key, at: int) -> None:
        """There is news: an attempt at this time at the latest, in milliseconds, and short waits after it."""
        self._tried.pop(key, None)
        if self._at.get(key, at) >= at:
            self._set(key, at)

    def forget(self, key: _Key) -> None:
        """There is nothing more to try."""
        self._at.pop(key, None)
        self._tried.pop(key, None)

    def due(self, now: int, most: int) -> list[_Key]:
        """What is to be tried now, that which has waited for longest first; each is told once."""
        found: list[_Key] = []
        while self._heap and self._heap[0][0] <= now and len(found) < most:
            at, key = heapq.heappop(self._heap)
            if self._at.get(key) == at:
                del self._at[key]
                found.append(key)
        return found

    def _set(self, key: _Key, at: int) -> None:
        self._at[key] = at
        heapq.heappush(self._heap, (at, key))
