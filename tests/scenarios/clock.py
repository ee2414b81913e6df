"""An event loop whose clock moves only when nothing is left to do: 32 seconds of Timer F take none.

It has no network but the one in memory, see `network`, and fails a scenario for what a callback or task raises: nobody
else would notice.
"""

import asyncio
import contextlib
import selectors
import signal
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any
from unittest import mock

from .network import Network

__all__ = ["EPOCH_S", "live_timers", "run"]

EPOCH_S = 1_800_000_000.0  # what the wall clock shows when a scenario begins
_LONGEST_S = 7200.0  # of any scenario, in its own time
_STEP_S = (
    1e-6  # even work takes time: 4.35 s are 4349 ms to whoever cuts fractions off, for ever if the clock stood still
)
_LONGEST_REAL_S = 20.0  # in ours: where the clock stands still, something runs in a circle


class _Patient(selectors.BaseSelector):
    """Never waits: says how long it would have."""

    def __init__(self) -> None:
        self._files = selectors.DefaultSelector()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = self._files.select(0)
        self.now += _STEP_S
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
        self.network = Network(self)

    def time(self) -> float:
        return self._patient.now

    async def sock_connect(self, sock: Any, address: Any) -> None:
        await self.network.reach(sock, address)

    async def create_connection(self, protocol_factory: Any, *_: Any, sock: Any, **__: Any) -> Any:
        sock.close()  # it has served as a name only
        return await self.network.connect(protocol_factory, sock)


def live_timers() -> list[asyncio.TimerHandle]:
    """What is still going to happen by itself."""
    loop = asyncio.get_running_loop()
    return [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]


@contextlib.contextmanager
def _no_thread(_loop: asyncio.AbstractEventLoop) -> Iterator[None]:
    """A thread's work would take no time: nothing in a scenario may use one."""
    with mock.patch.object(_loop, "run_in_executor", side_effect=AssertionError("a thread in a scenario")):
        yield


@contextlib.contextmanager
def _not_for_ever() -> Iterator[None]:
    def stop(*_: object) -> None:
        raise RuntimeError("runs in a circle")

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, _LONGEST_REAL_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> float:
    """Run a scenario; returns how many seconds it took by its own clock."""
    loop = _Loop()
    troubles: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: troubles.append(context))

    def wall() -> float:
        return EPOCH_S + loop.time()

    def monotonic_ns() -> int:
        return int(loop.time() * 1e9)

    clocks = mock.patch.multiple(time, time=wall, monotonic=loop.time, monotonic_ns=monotonic_ns)
    try:
        with _not_for_ever(), _no_thread(loop), clocks:
            loop.run_until_complete(work())
        for trouble in troubles:
            raise AssertionError(trouble["message"]) from trouble.get("exception")
        return loop.time()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
