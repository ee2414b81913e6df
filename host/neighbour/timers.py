"""Deadlines of many objects on one timer of the event loop.

A busy neighbour has a hundred thousand transactions that wait for their end. A timer of the loop for each would be four
objects each, which every garbage collection has to look at, and cost more to set than all else that a state needs.
"""

import contextvars
import heapq
import itertools
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["Timed", "Timers"]


class Timed(Protocol):
    """Whoever has a deadline."""

    #: When `fire` is to be called, in milliseconds of the loop's clock, or None; `Timers.set` writes it, its owner may
    #: set it to None.
    due: int | None

    def fire(self, now: int) -> None:
        """The deadline has come; ``due`` is None."""


class Timers:
    """See the module.

    Args:
        loop: the event loop.
    """

    def __init__(self, loop: "asyncio.AbstractEventLoop") -> None:
        self._loop = loop
        self._heap: list[tuple[int, int, Timed]] = []
        self._numbers = itertools.count()  # so that no two entries are equal
        self._next: asyncio.TimerHandle | None = None
        self._next_at = 0
        self._context = contextvars.copy_context()  # one for all: nothing here has any of its own

    def now(self) -> int:
        """Milliseconds of the event loop's clock."""
        return int(self._loop.time() * 1000)

    def set(self, at: int, what: Timed) -> None:
        """Call ``what.fire`` at a time; the deadline that it had before is forgotten."""
        what.due = at
        heapq.heappush(self._heap, (at, next(self._numbers), what))
        if self._next is None or at < self._next_at:
            self._arm(at)

    def _arm(self, at: int) -> None:
        if self._next is not None:
            self._next.cancel()
        self._next_at = at
        self._next = self._loop.call_at(at / 1000, self._run, context=self._context)

    def _run(self) -> None:
        now = self.now()
        heap = self._heap
        self._next_at = 0  # nothing that is set meanwhile needs a timer
        try:
            while heap and heap[0][0] <= now:
                at, _, what = heapq.heappop(heap)
                if what.due == at:
                    what.due = None
                    what.fire(now)
        finally:
            self._next = None
            if heap:
                self._arm(heap[0][0])
