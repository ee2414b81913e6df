"""The command line of ``tools/model``."""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["main"]

_CHILD = Path(__file__).resolve().with_name("child.py")
_AT_ONCE = 100  # runs of a process: what one leaves in memory is gone with it


@dataclass
class _Job:
    """A process and what it prints."""

    process: "subprocess.Popen[str]"
    printed: IO[str]


def _start(seed: int, runs: int, steps: int, *, verbose: bool) -> _Job:
    command = [sys.executable, "-bb", str(_CHILD), str(seed), str(runs), str(steps)]
    printed = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it is read and closed when the process is done
    process = subprocess.Popen(
        [*command, "verbose"] if verbose else command, stdout=printed, stdin=subprocess.DEVNULL, text=True
    )
    return _Job(process, printed)


class _Totals:
    """What came of all runs so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.runs = 0
        self.bad: list[int] = []

    def read(self, printed: IO[str]) -> None:
        """Take what a process has printed; anything but results is for who reads along."""
        printed.seek(0)
        for line in printed:
            if not line.startswith("{"):
                print(line, end="")
                continue
            told = json.loads(line)
            self.runs += 1
            self.counts.update(told["counts"])
            if told["broken"]:
                self.bad.append(told["seed"])
                print(f"seed {told['seed']}: {'; '.join(sorted(set(told['broken'])))}", flush=True)


def _run(seed: int, runs: int, jobs: int, steps: int, *, verbose: bool) -> tuple[_Totals, bool]:
    """Run the seeds; returns the totals, and whether every process came to its end."""
    totals = _Totals()
    left = [(first, min(_AT_ONCE, seed + runs - first)) for first in range(seed, seed + runs, _AT_ONCE)]
    running: list[_Job] = []
    whole = True
    try:
        while left or running:
            while left and len(running) < jobs:
                running.append(_start(*left.pop(0), steps, verbose=verbose))
            job = running[0]
            whole = job.process.wait() == 0 and whole
            totals.read(job.printed)
            running.pop(0).printed.close()
    finally:
        for job in running:
            job.process.kill()
            job.process.wait()
            job.printed.close()
    return totals, whole


def main() -> int:
    """The command line; returns an exit status."""
    parser = argparse.ArgumentParser(prog="tools/model", description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the first; each further run has the next")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share them")
    parser.add_argument("--steps", type=int, default=40, help="things that happen in a run")
    parser.add_argument("--verbose", action="store_true", help="tell event by event")
    options = parser.parse_args()
    if min(options.runs, options.jobs, options.steps) < 1 or options.seed < 0:
        parser.error("runs, jobs and steps begin at 1, seeds at 0")
    started = time.monotonic()
    totals, whole = _run(options.seed, options.runs, options.jobs, options.steps, verbose=options.verbose)
    for name, count in totals.counts.items():
        print(f"{count:10} {name}")
    lasted_s = time.monotonic() - started
    print(f"{totals.runs} runs of seeds from {options.seed} in {lasted_s:.0f} s: {len(totals.bad)} broke something")
    if not whole:
        print("model: a process ended early, its words are above", file=sys.stderr)
    return 1 if totals.bad or not whole else 0


if __name__ == "__main__":
    sys.exit(main())
