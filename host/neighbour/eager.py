"""Beginning work at once: most of it never waits, and a task for each request would cost more than the request."""

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any

__all__ = ["Eager"]


class _Begun:
    """A coroutine that has been begun, to be awaited from where it waits."""

    __slots__ = ("_waits_for", "_work")

    def __init__(self, work: Coroutine[Any, Any, None], waits_for: object) -> None:
        self._work = work
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            try:
                value = yield waits_for
            except GeneratorExit:
                self._work.close()
                raise
            except BaseException as error:
                failed: BaseException | None = error
            else:
                failed = None
            try:
                waits_for = self._work.send(value) if failed is None else self._work.throw(failed)
            except StopIteration:
                return


class Eager:
    """Runs coroutines, as tasks only from where they wait.

    Until there they have no ``asyncio.current_task()``: what needs one, as timeouts do, belongs into a task of its own.
    """

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._tasks)

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine up to where it waits, and the rest of it as a task; it raises nothing."""
        try:
            waits_for = work.send(None)
        except StopIteration:
            return
        task = asyncio.get_running_loop().create_task(_finish(_Begun(work, waits_for)))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel what waits."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _finish(begun: _Begun) -> None:
    await begun
