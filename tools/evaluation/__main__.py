"""The paper's evaluation: its Table 1, measured, and lifetimes of setup keys, simulated."""

import argparse
import sys
from pathlib import Path

from rich.console import Console

from benchmarks.report import machine, versions
from debian import UnavailableError
from evaluation import advice, table1
from evaluation.sweep import NothingSavesEnoughError
from lab.processes import LabError

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_PARTS = ("table1", "lifetime")
_WIDTH = 130


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/evaluate", description=__doc__)
    parser.add_argument("what", nargs="*", metavar="WHAT", help="table1 or lifetime; both by default")
    parser.add_argument("--seed", type=int, default=1, help="of the simulation: the same seed gives the same figures")
    parser.add_argument("--out", type=Path, default=_ROOT / ".cache" / "evaluate", help="folder for texts and plots")
    parser.add_argument("--quick", action="store_true", help="fewer calls and fewer lives, to see whether it works")
    options = parser.parse_args()
    unknown = [name for name in options.what if name not in _PARTS]
    if unknown:
        parser.error(f"no {unknown[0]!r}; there are {' and '.join(_PARTS)}")
    out: Path = options.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--out: {error.strerror}: {out}")
    names = options.what or _PARTS
    try:
        for name in names:
            # The same whatever it is shown on: a seed gives the same text.
            console = Console(highlight=False, soft_wrap=True, record=True, width=_WIDTH)
            if name == "table1":
                console.print(machine(), markup=False)
                console.print(versions({"micropython"}), markup=False)
                console.print()
                table1.run(console, out, is_quick=options.quick)
            else:
                runs = advice.RUNS_QUICK if options.quick else advice.RUNS
                advice.run(console, options.seed, runs, out)
            (out / f"{name}.txt").write_text(console.export_text())
    except (LabError, UnavailableError, NothingSavesEnoughError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"evaluate: {error}", style="red", markup=False)
        return 1
    print(f"texts and plots: {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
