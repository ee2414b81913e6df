"""Tables of figures, with the machine and the versions they were measured on."""

import os
import platform
import statistics
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from rich.console import Console
from rich.table import Table

__all__ = ["Figure", "machine", "median", "ratio", "show"]


@dataclass
class Figure:
    """One line of a table: what was measured, the figure, and what it is compared with."""

    name: str
    value: str
    beside: str
    ratio: str


def median(values: list[float]) -> float:
    """The median of several runs."""
    return statistics.median(values)


def ratio(value: float, beside: float) -> str:
    """How many times the one is the other."""
    return f"{value / beside:.2g}" if beside else "not measurable"


def machine() -> str:
    """What this was measured on."""
    model = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), model)
    except OSError:
        pass
    return (
        f"{model}, {os.cpu_count()} cores; Python {platform.python_version()}, cryptography {version('cryptography')}"
    )


def show(console: Console, title: str, figures: list[Figure], columns: tuple[str, str, str, str]) -> None:
    """Print a table."""
    table = Table(*columns, title=title, title_justify="left", title_style="bold", box=None, padding=(0, 3, 0, 0))
    for column in table.columns[1:]:
        column.justify = "right"
    for figure in figures:
        table.add_row(figure.name, figure.value, figure.beside, figure.ratio)
    console.print(table)
    console.print()
