"""One process of model runs: ``child.py SEED RUNS STEPS [verbose]``; a line of JSON for each run on standard output.

{"seed": 7, "broken": [], "counts": {"calls": 12, ...}, "digest": "0011223344556677"}

The terminal runs on MicroPython. What it takes of that and CPython lacks stands in here: a clock that the model turns
itself, and a heap that nobody counts.
"""

import gc
import json
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_COLLECT_RUNS = 20


def _stand_in() -> "tuple[Any, Any]":
    """Make the model loadable; returns its ``run``, and what collects garbage."""
    sys.path[:0] = [str(_ROOT / folder) for folder in ("tests/device", "tests/shared", "shared", "device")]
    collect = gc.collect
    names: dict[Any, dict[str, Any]] = {
        time: {"ticks_ms": lambda: 0, "ticks_diff": lambda one, other: one - other},
        # The terminal collects its garbage at each message: there is memory enough here, and that takes time.
        gc: {"mem_alloc": lambda: 0, "collect": lambda *_: 0},
    }
    for module, attributes in names.items():
        for name, value in attributes.items():
            setattr(module, name, value)
    return __import__("model").run, collect


def main() -> None:
    """See the module."""
    seed, runs, steps = [int(argument) for argument in sys.argv[1:4]]
    run, collect = _stand_in()
    for i in range(runs):
        result = run(seed + i, steps, len(sys.argv) > 4)
        told = {"seed": seed + i, "broken": result.broken, "counts": result.counts, "digest": result.digest}
        print(json.dumps(told), flush=True)
        if i % _COLLECT_RUNS == 0:
            collect()


if __name__ == "__main__":
    main()
