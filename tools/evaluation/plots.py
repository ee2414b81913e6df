"""Plots as SVG files, the same bytes for the same figures."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

__all__ = ["COLOURS", "panels"]

#: Told apart by people who see few colours, too (after Okabe and Ito).
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#999999")
_STYLE: dict[str, Any] = {
    "svg.hashsalt": "wisp",  # else the names in it are random
    "svg.fonttype": "none",  # text stays text
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
}
_WIDTH, _HEIGHT = 4.2, 3.6  # inches, of a panel


@contextmanager
def panels(path: Path, title: str, names: Sequence[str], *, is_y_shared: bool = True) -> Iterator[list[Axes]]:
    """A row of panels, which are written when the block ends.

    Args:
        path: of the file.
        title: above them all.
        names: above each.
        is_y_shared: whether all have the same scale upwards.
    """
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]  # a literal type for each key
        figure = Figure(figsize=(_WIDTH * len(names), _HEIGHT), layout="constrained")
        axes = list(figure.subplots(1, len(names), sharey=is_y_shared, squeeze=False)[0])
        figure.suptitle(title)
        for one, name in zip(axes, names, strict=True):
            one.set_title(name)
        yield axes
        figure.savefig(path, format="svg", metadata={"Date": None})
