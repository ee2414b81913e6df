"""An event loop whose clock moves only when nothing is left to do: 32 seconds of Timer F take none."""

import asyncio
import contextlib
import selectors
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from unittest import mock

__all__ = ["EPOCH_S", "run"]

EPOCH_S = 1_800_000_000.0  # what the wall clock shows when a scenario begins
_LONGEST_S = 7200.0  # of any scenario, in its own time


class _Patient(selectors.BaseSelector):
    """Never waits: says how long it would have."""

    def __init__(self) -> None:
        self._files = selectors.DefaultSelector()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._files.select(0)
        if not ready:
            if timeout is None:
                raise RuntimeError("everybody waits, and nothing will ever happen")
            self.now += max(timeout, 0.0)
            if self.now > _LONGEST_S:
                raise RuntimeError(f"not over after {_LONGEST_S:g} s")
        return ready

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        return self._files.register(fileobj, events, data)

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        return self._files.unregister(fileobj)

    def close(self) -> None:
        self._files.close()

    def get_map(self) -> Any:
        return self._files.get_map()


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._patient = _Patient()
        super().__init__(self._patient)

    def time(self) -> float:
        return self._patient.now


@contextlib.contextmanager
def _no_thread(_loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """A thread's work would take no time: nothing in a scenario may use one."""
    with mock.patch.object(_loop, "run_in_executor", side_effect=AssertionError("a thread in a scenario")):
        yield


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Run a scenario; returns how many seconds it took by its own clock."""
    loop = _Loop()

    def wall() -> float:
        return EPOCH_S + loop.time()

    clock, monotonic = mock.patch.object(time, "time", wall), mock.patch.object(time, "monotonic", loop.time)
    try:
        with _no_thread(loop), clock, monotonic:
            loop.run_until_complete(work())
        return loop.time()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
