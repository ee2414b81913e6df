"""The command line of ``tools/fuzz``."""

import argparse
import contextlib
import importlib.util
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

from fuzzing import storms
from fuzzing.harnesses import HARNESSES, SEEDS, judge, max_bytes, seeds

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent.parent
_FOUND = _ROOT / ".cache" / "fuzz"
_CHILD = Path(__file__).resolve().with_name("child.py")
_ALL = "all"
_HANG_S = 10  # of real time for one input; what is merely slow is found by its processor time
_MEMORY_MB = 512  # of a fuzzing process: five times what it needs
_LAST_LINES = 15


@dataclass
class _Job:
    """One fuzzing process."""

    process: "subprocess.Popen[bytes]"
    log: Path
    statistics: Path

    def count(self) -> tuple[int, float]:
        """Inputs judged, and the milliseconds that the slowest took."""
        with contextlib.suppress(OSError, ValueError):
            told = json.loads(self.statistics.read_text())
            return told["runs"], told["slowest_ms"]
        return 0, 0.0

    def failure(self) -> str:
        """What it said last: the traceback where there is one."""
        text = self.log.read_text(errors="replace")
        start = text.find("Traceback")
        if start >= 0:
            return text[start:].partition("\n === ")[0].rstrip()
        return "\n".join(text.splitlines()[-_LAST_LINES:])


def _start(name: str, runs: int, seed: int, folder: Path) -> _Job:
    found = _FOUND / name
    found.mkdir(parents=True, exist_ok=True)
    corpus = folder / f"{name}-{seed}"
    corpus.mkdir()
    job_log, statistics = folder / f"{name}-{seed}.log", folder / f"{name}-{seed}.json"
    command = [sys.executable, "-bb", str(_CHILD), name, str(runs), str(statistics)]
    command += [f"-seed={seed}", f"-max_len={max_bytes(name)}", f"-artifact_prefix={found}/"]
    command += [f"-timeout={_HANG_S}", f"-rss_limit_mb={_MEMORY_MB}"]
    dictionary = SEEDS / f"{name}.dict"
    if dictionary.exists():
        command.append(f"-dict={dictionary}")
    command += [str(corpus), *map(str, seeds(name))]  # new inputs are written to the first of the folders
    with job_log.open("wb") as log:
        environment = {**os.environ, "PYTHONPATH": str(_ROOT / "tools")}
        process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    return _Job(process, job_log, statistics)


def _fuzz(name: str, runs: int, jobs: int, seed: int) -> bool:
    """Run one harness; returns whether it found nothing."""
    started = time.monotonic()
    before = set(_FOUND.glob(f"{name}/*"))
    with tempfile.TemporaryDirectory(prefix="wisp-fuzz-") as folder:
        running: list[_Job] = []
        try:
            for i in range(jobs):
                # One by one: who is started is known to who stops it.
                running += [_start(name, runs // jobs + (i < runs % jobs), seed + i, Path(folder))]
            good = [one.process.wait() == 0 for one in running]
        finally:
            for one in running:
                one.process.kill()
                one.process.wait()
        counts = [one.count() for one in running]
        done, slowest_ms = sum(count for count, _ in counts), max(ms for _, ms in counts)
        seconds = time.monotonic() - started
        print(
            f"{name:8} {done:>9} inputs  {seconds:6.0f} s  {done / seconds:7.0f}/s  slowest {slowest_ms:5.1f} ms",
            flush=True,
        )
        if all(good) and done >= runs:
            return True
        for one, fine in zip(running, good, strict=True):
            if not fine:
                print(one.failure(), flush=True)
    for path in sorted(set(_FOUND.glob(f"{name}/*")) - before):
        print(f"found: tools/fuzz {name} --input {os.path.relpath(path)}", flush=True)
    return False


def _judge_file(name: str, path: Path) -> bool:
    try:
        taken_ns = judge(name, path.read_bytes())
    except Exception:
        traceback.print_exc()
        return False
    print(f"{name}: all that has to hold does, in {taken_ns / 1e6:.1f} ms")
    return True


def main() -> int:
    """The command line; returns an exit status."""
    parser = argparse.ArgumentParser(prog="tools/fuzz", description=__doc__)
    parser.add_argument(
        "what", nargs="+", metavar="NAME", help=f"any of {', '.join(HARNESSES)}, or {_ALL}; or {storms.NAME}"
    )
    parser.add_argument("--runs", type=int, default=100_000, help="inputs for each harness")
    parser.add_argument("--jobs", type=int, default=1, help="processes that share them")
    parser.add_argument("--seed", type=int, default=1, help="the same seed and runs, the same inputs, nearly")
    parser.add_argument("--input", type=Path, help="judge this file instead")
    options = parser.parse_args()
    stormy = options.what == [storms.NAME]
    unknown = [name for name in options.what if name not in (*HARNESSES, _ALL) and not stormy]
    if unknown:
        parser.error(f"no harness {unknown[0]!r}; there are {', '.join(HARNESSES)}")
    if options.runs < 1 or options.jobs < 1:
        parser.error("runs and jobs begin at 1")
    if stormy:
        return int(not storms.run(options.runs, options.seed))
    chosen = list(HARNESSES) if _ALL in options.what else options.what
    if options.input is not None and not options.input.is_file():
        parser.error(f"--input {options.input}: no such file")
    if options.input is not None:
        return max(not _judge_file(name, options.input) for name in chosen)
    if importlib.util.find_spec("atheris") is None:
        print(
            "fuzz: atheris is not installed: it has wheels for CPython 3.11 to 3.14 on Linux x86-64, and this is "
            f"{platform.python_implementation()} {platform.python_version()} on {platform.system()} "
            f"{platform.machine()}. The harnesses run over their seeds in the tests all the same.",
            file=sys.stderr,
        )
        return 2
    return max(not _fuzz(name, options.runs, options.jobs, options.seed) for name in chosen)


if __name__ == "__main__":
    sys.exit(main())
