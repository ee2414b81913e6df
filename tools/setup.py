"""Make ``.venv`` with the project installed in it, when it is missing or out of date. Standard library only.

``python3 tools/setup.py [extra ...]``: the extras of pyproject.toml to install.
"""

import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

from debian import UnavailableError, cache_folder, sources, unpack

__all__ = ["main"]

_ROOT = Path(__file__).resolve().parent.parent
_VENV = _ROOT / ".venv"
_STAMP = _VENV / "wisp-setup"
_MINIMUM = (3, 11)


def _wheel_of_pip() -> Path:
    """The pip wheel of Debian's python3-pip-whl, for a Python without ensurepip and without pip."""
    root = cache_folder() / "python3-pip-whl"
    if not root.exists():
        unpack("python3-pip-whl", [" ".join(parts) for parts in sources()], "all", root, with_depends=False)
    wheels = sorted(root.glob("usr/share/python-wheels/pip-*.whl"))
    if not wheels:
        raise UnavailableError("the package python3-pip-whl has no wheel")
    return wheels[-1]


def _make_venv() -> None:
    shutil.rmtree(_VENV, ignore_errors=True)
    if importlib.util.find_spec("ensurepip") is not None:
        subprocess.run([sys.executable, "-m", "venv", str(_VENV)], check=True)
        return
    # Debian's python3 comes without ensurepip until python3-venv is installed.
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(_VENV)], check=True)
    wheel = _wheel_of_pip()
    python = str(_VENV / "bin" / "python")
    subprocess.run(
        [python, f"{wheel}/pip", "install", "-q", "--no-index", "--find-links", str(wheel.parent), "pip"], check=True
    )


def _wanted(extras: set[str]) -> str:
    """What the stamp of an up-to-date environment says."""
    pyproject = hashlib.sha256((_ROOT / "pyproject.toml").read_bytes()).hexdigest()
    return f"{pyproject} {sys.version_info.major}.{sys.version_info.minor} {','.join(sorted(extras))}\n"


def _is_editable() -> bool:
    """Whether the project is there as it lies here; `pip install .` would have put a copy in its place."""
    found = _VENV.glob("lib/python*/site-packages/wisp_sip-*.dist-info/direct_url.json")
    return any(json.loads(path.read_text()).get("dir_info", {}).get("editable") for path in found)


def _present() -> "tuple[set[str], bool] | None":
    """The extras that a working environment of this Python has, and whether it is up to date; None for none."""
    probe = "import sys; print('%d.%d' % sys.version_info[:2]); import pip"
    try:
        # Somebody's own, without a stamp, is not thrown away.
        stamp = _STAMP.read_text() if _STAMP.exists() else ""
        command = [str(_VENV / "bin" / "python"), "-c", probe]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        editable = _is_editable()
    except (OSError, ValueError, subprocess.CalledProcessError):
        return None
    if done.stdout.strip() != f"{sys.version_info.major}.{sys.version_info.minor}":
        return None
    extras = set(filter(None, stamp.rstrip("\n").rpartition(" ")[2].split(",")))
    return extras, stamp == _wanted(extras) and editable


def main(extras: set[str]) -> int:
    """Set up; returns an exit status."""
    if sys.version_info < _MINIMUM:
        print(
            f"setup: Python {_MINIMUM[0]}.{_MINIMUM[1]} or newer is needed, this is {sys.version.split()[0]}",
            file=sys.stderr,
        )
        return 1
    present = _present()
    if present is not None:
        if present[1] and extras <= present[0]:
            return 0
        # What is there stays: somebody who ran the tests keeps the tools for them when the demo sets up again.
        extras = extras | present[0]
    started = time.monotonic()
    name = ",".join(sorted(extras))
    print(f"  setting up .venv{f' with {name}' if name else ''} (once) ...", flush=True)
    try:
        if present is None:
            _make_venv()
        target = f"{_ROOT}[{name}]" if name else str(_ROOT)
        command = [
            str(_VENV / "bin" / "python"),
            "-m",
            "pip",
            "install",
            "-q",
            "--disable-pip-version-check",
            "-e",
            target,
        ]
        environment = {**os.environ, "PIP_ROOT_USER_ACTION": "ignore"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            print(done.stdout, file=sys.stderr)
            print("setup: pip could not install the project; is a package index within reach?", file=sys.stderr)
            return 1
    except (UnavailableError, subprocess.CalledProcessError, OSError) as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    _STAMP.write_text(_wanted(extras))
    print(f"  .venv is ready ({time.monotonic() - started:.0f} s)", flush=True)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(set(sys.argv[1:])))
    except KeyboardInterrupt:
        # What it did not come to is done next time: the stamp is written last.
        print("setup: interrupted", file=sys.stderr)
        sys.exit(130)
