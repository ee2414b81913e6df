"""Measure the codec, the terminal and the neighbour, each beside a floor or a peer in the same run."""

import argparse
import sys
from collections.abc import Callable

from rich.console import Console

from benchmarks import codec, neighbour, terminal
from benchmarks.report import machine
from debian import UnavailableError
from lab.processes import LabError

# For each: the whole measurement, and a shorter one.
_BENCHMARKS: dict[str, tuple[Callable[[Console], None], Callable[[Console], None]]] = {
    "memory": (lambda console: terminal.memory(console, 30), lambda console: terminal.memory(console, 5)),
    "srtp": (lambda console: terminal.srtp(console, 2000, 5), lambda console: terminal.srtp(console, 500, 3)),
    "codec": (lambda console: codec.run(console, 7), lambda console: codec.run(console, 3)),
    "neighbour": (
        lambda console: neighbour.run(console, calls=3000, rate=100, repeats=3),
        lambda console: neighbour.run(console, calls=500, rate=100, repeats=1),
    ),
}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"any of {', '.join(_BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="shorter runs, to see whether something moved")
    options = parser.parse_args()
    unknown = [name for name in options.what if name not in _BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(_BENCHMARKS)}")
    console = Console(highlight=False, soft_wrap=True)
    console.print(machine(), markup=False)
    console.print()
    try:
        for name in options.what or _BENCHMARKS:
            _BENCHMARKS[name][options.quick](console)
    except (LabError, UnavailableError) as error:
        Console(stderr=True, highlight=False).print(f"bench: {error}", style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
