"""One fuzzing process: ``child.py NAME RUNS STATISTICS [libFuzzer's options and folders]``, under atheris.

libFuzzer ends the process without a word to Python, so what was counted is written to a file on the way.
"""

import json
import sys
import traceback
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["sipwire", "neighbour.agent"]):
    from fuzzing.harnesses import judge

__all__ = ["main"]

_EVERY = 5000  # inputs between two writings of the statistics


class _Target:
    """Judges inputs and counts them."""

    def __init__(self, name: str, runs: int, statistics: Path) -> None:
        self._name = name
        self._runs = runs
        self._statistics = statistics
        self._count = 0
        self._slowest_ns = 0

    def __call__(self, data: bytes) -> None:
        try:
            taken_ns = judge(self._name, data)
        except BaseException:
            traceback.print_exc()
            raise
        self._slowest_ns = max(self._slowest_ns, taken_ns)
        self._count += 1
        if self._count >= self._runs or self._count % _EVERY == 0:
            told = {"runs": self._count, "slowest_ms": self._slowest_ns / 1e6}
            self._statistics.write_text(json.dumps(told))


def main() -> None:
    """Fuzz until libFuzzer has had enough."""
    name, runs, statistics, *rest = sys.argv[1:]
    atheris.Setup([sys.argv[0], f"-runs={runs}", *rest], _Target(name, int(runs), Path(statistics)))
    atheris.Fuzz()


if __name__ == "__main__":
    main()
