#!/usr/bin/env python3
"""Find or fetch a MicroPython to run emulated terminals with, and print the command.

In this order: $MICROPYTHON; ``micropython`` on PATH (where any will do); Debian's packages, into a cache folder,
without touching the system. The 32-bit build is the better stand-in for an ESP32, with words and integers of its size.

    tools/find_micropython.py             any, 32 bits preferred
    tools/find_micropython.py --bits 32   that one or none
    tools/find_micropython.py --newest    the newest that Debian has, or the one that $MICROPYTHON_NEWEST names
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from debian import UnavailableError, cache_folder, os_release, sources, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["bits_of", "find"]

_SUITE = "trixie"  # the first Debian release with MicroPython 1.25, for amd64, arm64 and their 32-bit relatives
_NEWEST_SUITE = "sid"  # what is fetched of it stays in the cache until somebody deletes it
_NARROW = {"amd64": "i386", "arm64": "armhf"}
# The image is .mpy files of version 6.
_PROBE = """
import sys, cryptolib, hashlib, socket, select, json
print(sys.implementation[0], 64 if sys.maxsize >> 32 else 32, getattr(sys.implementation, "_mpy", 0) & 255)
""".strip()


def bits_of(command: str) -> int:
    """The size of its words, 32 or 64, or 0 where the command is no MicroPython that can run terminals."""
    try:
        done = subprocess.run([command, "-c", _PROBE], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    words = done.stdout.split()
    return int(words[1]) if len(words) == 3 and (words[0], words[2]) == ("micropython", "6") else 0


def _wrapper(root: Path) -> Path:
    """A script that runs the unpacked interpreter with the C library it was unpacked with."""
    script = root / "micropython"
    if not script.exists():
        libc = next(iter(sorted(root.glob("usr/lib/*/libc.so.6")) or sorted(root.glob("lib/*/libc.so.6"))), None)
        binary = root / "usr/bin/micropython"
        if libc is None or not binary.exists():
            raise UnavailableError("the package has another shape than expected")
        loader = next(iter(sorted(libc.parent.glob("ld-linux*.so.*"))), None)
        if loader is None:
            raise UnavailableError("the package of the C library has no loader")
        script.write_text(f'#!/bin/sh\nexec "{loader}" --library-path "{libc.parent}" "{binary}" "$@"\n')
        script.chmod(0o755)
    return script


def _candidates(suite: str) -> "Iterator[tuple[str, str, list[str]]]":
    """What can be unpacked on this machine: (label, architecture, archives), the best first."""
    release = os_release()
    own = subprocess.run(["dpkg", "--print-architecture"], capture_output=True, text=True).stdout.strip()
    archives = sources()
    if release.get("ID") == "debian":
        base = next((uri for uri, suite, _ in archives if suite == release.get("VERSION_CODENAME")), archives[0][0])
        lines = [f"{base} {suite} main"]
        if own in _NARROW:
            yield f"{suite}-{_NARROW[own]}", _NARROW[own], lines
        yield f"{suite}-{own}", own, lines
    elif suite == _NEWEST_SUITE:
        raise UnavailableError("the newest is Debian's, and this is none: name yours in MICROPYTHON_NEWEST")
    else:
        lines = [f"{uri} {suite} {component}" for uri, suite, component in archives]
        yield f"{release.get('VERSION_CODENAME', 'own')}-{own}", own, lines


def find(bits: "int | None" = None, *, newest: bool = False) -> str:
    """The command of a MicroPython.

    Args:
        bits: 32 or 64; None for any, 32 preferred.
        newest: the newest, rather than the one that is the same everywhere.

    Raises:
        UnavailableError: there is none; the text says what was tried and what helps.
    """
    variable = "MICROPYTHON_NEWEST" if newest else "MICROPYTHON"
    given = os.environ.get(variable)
    if given:
        found = bits_of(given)
        if not found:
            raise UnavailableError(
                f"{variable}={given} is no MicroPython of 1.23 or newer with cryptolib, socket and select"
            )
        if bits in (None, found):
            return given
    reasons = []
    on_path = None if newest else shutil.which("micropython")
    if on_path and (bits is None or bits_of(on_path) == bits) and bits_of(on_path):
        return on_path
    cache = cache_folder()
    try:
        for label, architecture, archives in _candidates(_NEWEST_SUITE if newest else _SUITE):
            if bits is not None and bits != (32 if architecture in ("i386", "armhf", "armel") else 64):
                continue
            root = cache / f"micropython-{label}"
            try:
                if not root.exists():
                    print(f"  fetching MicroPython ({label}, about 4 MB, once) ...", file=sys.stderr, flush=True)
                    unpack("micropython", archives, architecture, root, with_depends=True)
                command = str(_wrapper(root))
            except UnavailableError as error:
                reasons.append(f"{label}: {error}")
                continue
            if bits_of(command):
                return command
            reasons.append(f"{label}: does not run on this machine, or is too old")
            shutil.rmtree(root, ignore_errors=True)
    except UnavailableError as error:
        reasons.append(str(error))
    wanted = f"{bits}-bit " if bits else ""
    raise UnavailableError(
        f"no {wanted}MicroPython ({'; '.join(reasons) or 'nothing to try on this machine'}). "
        f"Install one and name it in the environment: {variable}=/path/to/micropython"
    )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bits", type=int, choices=(32, 64), help="that word size or none")
    parser.add_argument("--newest", action="store_true", help="the newest that can be had")
    options = parser.parse_args()
    try:
        print(find(options.bits, newest=options.newest))
    except UnavailableError as error:
        print(f"micropython: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("micropython: interrupted", file=sys.stderr)
        sys.exit(130)
