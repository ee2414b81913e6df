#!/usr/bin/env python3
"""Find or fetch MicroPython's port to WebAssembly, the newest MicroPython of 32 bits that can be had ready-made.

It comes from npm, into a cache folder, and is run by node; where either is missing, there is none. Debian's packages,
which terminals run on (`find_micropython`), are some releases behind.

    tools/find_webassembly.py     says how to run it; behind that come a folder and a script
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from debian import UnavailableError, cache_folder

__all__ = ["VERSION", "find"]

#: Of the package; npm checks its digest.
VERSION = "1.29.0-6"
_PACKAGE = "@micropython/micropython-webassembly-pyscript"
_RUNNER = Path(__file__).resolve().parent / "lab" / "webassembly.mjs"
_TIMEOUT_S = 120


def _fetch(root: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise UnavailableError("no npm to fetch MicroPython for WebAssembly with")
    print(f"  fetching MicroPython for WebAssembly ({VERSION}, about 1 MB, once) ...", file=sys.stderr, flush=True)
    work = Path(tempfile.mkdtemp(prefix=".npm-", dir=root.parent))
    options = ["--prefix", str(work), "--ignore-scripts", "--no-audit", "--no-fund", "--no-package-lock", "--silent"]
    try:
        done = subprocess.run(
            [npm, "install", *options, f"{_PACKAGE}@{VERSION}"],
            cwd=work,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            env={**os.environ, "npm_config_cache": str(work / "cache")},
        )
        if done.returncode:
            raise UnavailableError(f"npm has no {_PACKAGE} {VERSION} for us (status {done.returncode})")
        shutil.rmtree(work / "cache", ignore_errors=True)
        try:
            work.replace(root)
        except OSError:
            if not root.exists():  # else somebody else was faster
                raise
    except subprocess.TimeoutExpired:
        raise UnavailableError(f"npm took more than {_TIMEOUT_S} s") from None
    finally:
        shutil.rmtree(work, ignore_errors=True)


def find() -> list[str]:
    """The command that runs a script on it; a folder and the script come behind it.

    Raises:
        UnavailableError: there is none; the text says why.
    """
    node = shutil.which("node")
    if node is None:
        raise UnavailableError("no node to run MicroPython for WebAssembly with")
    root = cache_folder() / f"micropython-webassembly-{VERSION}"
    if not root.exists():
        _fetch(root)
    module = root / "node_modules" / _PACKAGE / "micropython.mjs"
    if not module.exists():
        raise UnavailableError("the package has another shape than expected")
    return [node, str(_RUNNER), str(module)]


def main() -> int:
    """The command line."""
    try:
        print(shlex.join(find()))
    except UnavailableError as error:
        print(f"micropython: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
