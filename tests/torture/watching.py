"""What a process of ours costs, as the kernel sees it: its processor time and its memory."""

import contextlib
from pathlib import Path

import pytest

__all__ = ["LIMIT_MS", "Costs", "cpu_ms", "memory_kib"]

LIMIT_MS = 50.0  # of processor time for one case, with the probe after it


def cpu_ms(pid: int) -> float:
    """Processor time of all threads so far. Waiting for a busy machine is not in it."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        with contextlib.suppress(FileNotFoundError):  # a thread that has just ended
            total += int(path.read_text().split()[0])
    if not total:
        pytest.skip("this kernel tells no processor times (/proc/PID/task/TID/schedstat)")
    return total / 1e6


def memory_kib(pid: int) -> int:
    """Memory that is resident and its own."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1])
    raise AssertionError("no RssAnon")


class Costs:
    """What each case cost a process.

    A collection of garbage, or the kernel's work on behalf of others, may fall into any case. So whatever was over the
    limit is tried once more by whoever measures, and only what is over it again is slow.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = 0.0
        self.ms: list[float] = []

    def begin(self) -> None:
        self._before = cpu_ms(self._pid)

    def end(self) -> bool:
        """Returns whether the case was within the limit."""
        self.ms.append(cpu_ms(self._pid) - self._before)
        return self.ms[-1] <= LIMIT_MS

    def __str__(self) -> str:
        return f"{len(self.ms)} cases, {sum(self.ms) / len(self.ms):.2f} ms each, at most {max(self.ms):.1f} ms"
