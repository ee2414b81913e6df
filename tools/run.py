"""Run a tool's program, see ``_MODULES``: ``python tools/run.py demo``, for example, and its arguments.

Ctrl-C and SIGTERM end it with a word, after its tidying up, from before its modules are loaded until it is done.
"""

import importlib
import signal
import sys
from types import FrameType

__all__ = ["run"]

_MODULES = {
    "demo": "lab.demo",
    "board": "lab.board.__main__",
    "bench": "benchmarks.__main__",
    "evaluate": "evaluation.__main__",
    "fuzz": "fuzzing.__main__",
    "model": "modelling.__main__",
    "sizes": "sizing.__main__",
}
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_caught: list[int] = []


def _interrupt(number: int, _frame: FrameType | None) -> None:
    """Only the first interrupts: an impatient second one would leave processes and folders behind."""
    _caught.append(number)
    if len(_caught) == 1:
        raise KeyboardInterrupt


def run(tool: str) -> int:
    """Call ``main()`` of a tool; returns its exit status, or that of a program which a signal ended."""
    for number in _SIGNALS:
        signal.signal(number, _interrupt)
    status = 0
    try:
        status = importlib.import_module(_MODULES[tool]).main()
    except BaseException:
        # Whatever it is: libraries make exceptions of their own of an interruption.
        if not _caught:
            raise
    if _caught:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)  # our handler ends a little before Python does
        print(f"{tool}: interrupted", file=sys.stderr)
        return 128 + _caught[0]
    return status


if __name__ == "__main__":
    sys.exit(run(sys.argv.pop(1)))
