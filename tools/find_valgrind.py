#!/usr/bin/env python3
"""Find or fetch a valgrind that can run a MicroPython, to count the instructions that it executes.

In this order: ``valgrind`` on PATH; Debian's package of the release that the emulated terminals' MicroPython is of,
unpacked into a cache folder, without touching the system. That of an older Debian does not know every instruction that
a newer one's 32-bit C library is made of.

    tools/find_valgrind.py /path/to/micropython     says how to run it, and how many instructions it takes to start
"""

import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from debian import UnavailableError, cache_folder, os_release, sources, unpack

__all__ = ["count", "find"]

_SUITE = "trixie"  # see `find_micropython`
_COUNTED = re.compile(r"^==\d+== Collected : (\d+)", re.MULTILINE)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
# What is counted goes nowhere else; and the MicroPython may be a script that runs it.
_OPTIONS = ["--tool=callgrind", "--callgrind-out-file=/dev/null", "--trace-children=yes"]


def _unpacked() -> list[str]:
    """The command of Debian's own, fetched where it has not been yet."""
    architecture = _ARCHITECTURES.get(platform.machine())
    if architecture is None:
        raise UnavailableError(f"no package for {platform.machine()}")
    root = cache_folder() / f"valgrind-{_SUITE}-{architecture}"
    if not root.exists():
        if os_release().get("ID") != "debian":
            raise UnavailableError("no valgrind that can do it on PATH, and this is no Debian to fetch one for")
        base = next(iter(sources()))[0]
        print(f"  fetching valgrind ({_SUITE}, about 15 MB, once) ...", file=sys.stderr, flush=True)
        unpack("valgrind", [f"{base} {_SUITE} main"], architecture, root, with_depends=False)
    # Not usr/bin/valgrind: that is a script that runs the system's.
    tool = next(iter(root.glob("usr/lib*/valgrind/callgrind-*")), None)
    binary = root / "usr/bin/valgrind.bin"
    if tool is None or not binary.exists():
        raise UnavailableError("the package of valgrind has another shape than expected")
    return ["env", f"VALGRIND_LIB={tool.parent}", str(binary)]


def find(micropython: str) -> list[str]:
    """The command that counts instructions; what is to be run comes behind it.

    Args:
        micropython: the command of the MicroPython that it has to be able to run.

    Raises:
        UnavailableError: there is none; the text says what was tried.
    """
    reasons = []
    for where in ("on PATH", "unpacked"):
        try:
            if where == "on PATH":
                found = shutil.which("valgrind")
                command = [found] if found else []
            else:
                command = _unpacked()
            if command:
                count([*command, *_OPTIONS], [micropython, "-c", "pass"])
                return [*command, *_OPTIONS]
            reasons.append(f"{where}: none")
        except UnavailableError as error:
            reasons.append(f"{where}: {error}")
    raise UnavailableError(f"no valgrind that runs {Path(micropython).name} ({'; '.join(reasons)})")


def count(valgrind: list[str], command: list[str], environment: dict[str, str] | None = None) -> tuple[int, str]:
    """Run a command to its end.

    Args:
        valgrind: see `find`.
        command: what to run.
        environment: what it has beyond ours.

    Returns:
        (instructions that it has executed; what it has printed).

    Raises:
        UnavailableError: it failed, or could not be counted.
    """
    done = subprocess.run(
        [*valgrind, *command], capture_output=True, text=True, env={**os.environ, **(environment or {})}, timeout=600
    )
    found = _COUNTED.findall(done.stderr)
    if done.returncode or not found:
        told = [line for line in done.stderr.splitlines() if "unhandled" in line or "Illegal" in line]
        raise UnavailableError((told or done.stderr.strip().splitlines() or ["it failed"])[-1].strip())
    return int(found[-1]), done.stdout


def main() -> int:
    """The command line."""
    if len(sys.argv) != 2:
        print("usage: find_valgrind.py MICROPYTHON", file=sys.stderr)
        return 2
    try:
        command = find(sys.argv[1])
        print(shlex.join(command), count(command, [sys.argv[1], "-c", "pass"])[0])
    except UnavailableError as error:
        print(f"valgrind: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
