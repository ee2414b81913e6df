"""Table 1 of the paper, measured: m users in one domain call n in the other, in each of the two models.

                  the paper's formula, as given
    end-to-end    load (m+n+mn+1) L    set-up delay n D
    hybrid        load (m+n+1) L       set-up delay   D

L and D are measured, too: what one call between a pair that has never spoken costs end-to-end, in asymmetric
operations, in CPU seconds, and in time. No measured figure comes from a formula.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.report import Cell, show
from evaluation import inmemory, processes
from evaluation.domains import NEIGHBOURS, TERMINALS
from evaluation.figures import END_TO_END, HYBRID, MODELS, Round, loads
from evaluation.mechanisms import MECHANISMS, code_of, lines_of
from evaluation.plots import COLOURS, panels

__all__ = ["Measured", "measure_all", "run"]

_IN_MEMORY = [(1, 1), (3, 3), (10, 10), (30, 30), (100, 100), (1000, 10), (1000, 1000)]
_IN_MEMORY_QUICK = [(1, 1), (3, 3), (10, 10)]
_PROCESSES = [(1, 1), (3, 3), (10, 10)]
_PROCESSES_QUICK = [(1, 1), (2, 2)]
_ROUNDS = ("first", "later")

_Measure = Callable[[str, int, int], list[Round]]


@dataclass(frozen=True)
class Measured:
    """One way to measure, at several sizes.

    Attributes:
        name: of the way.
        rounds: the first calls and the later ones, by model and size.
    """

    name: str
    rounds: dict[tuple[str, int, int], list[Round]]

    @property
    def sizes(self) -> list[tuple[int, int]]:
        """In the order in which they were measured."""
        return list(dict.fromkeys((m, n) for _, m, n in self.rounds))

    @property
    def squares(self) -> list[int]:
        """Those where as many call as are called, each each."""
        return [m for m, n in self.sizes if m == n and self.rounds[END_TO_END, m, n][0].pairs == m * n]

    @property
    def _unit(self) -> Round:
        """What one call is measured by: the first end-to-end calls of the greatest size."""
        size = max(self.squares)
        return self.rounds[END_TO_END, size, size][0]

    @property
    def load(self) -> float:
        """L, in asymmetric operations."""
        return self._unit.count() / self._unit.pairs

    @property
    def load_s(self) -> float:
        """L, in CPU seconds."""
        return self._unit.cpu() / self._unit.pairs

    @property
    def delay_s(self) -> float:
        """D, in seconds."""
        return self._unit.mean_setup_s

    def _of_all(self, model: str, m: int, n: int, number: int) -> tuple[Round, int]:
        """A round, and how many times as many pairs there are as were called in it."""
        one = self.rounds[model, m, n][number]
        return one, m * n // one.pairs

    def messages(self, model: str, m: int, n: int, number: int, *places: str) -> int:
        """Asymmetric operations of a round on messages; where it was too much to call everybody, of all pairs."""
        one, factor = self._of_all(model, m, n, number)
        return (one.count(*places) - one.paths(*places)) * factor

    def paths(self, model: str, m: int, n: int, number: int, *places: str) -> int:
        """The same on certificates.

        Every user takes part in each round. So neighbours, which check everybody's path once, have no more of them with
        more pairs; user agents check one for each pair.
        """
        one, factor = self._of_all(model, m, n, number)
        return one.paths(*places) * (factor if model == END_TO_END else 1)

    def count(self, model: str, m: int, n: int, number: int, *places: str) -> int:
        """Both of them."""
        return self.messages(model, m, n, number, *places) + self.paths(model, m, n, number, *places)

    def cpu_s(self, model: str, m: int, n: int, number: int, *places: str) -> float:
        """CPU seconds of a round, likewise."""
        one, factor = self._of_all(model, m, n, number)
        return one.cpu(*places) * factor

    def is_sample(self, m: int, n: int) -> bool:
        """Whether not everybody was called."""
        return any(one.pairs != m * n for model in MODELS for one in self.rounds[model, m, n])


def measure_all(name: str, measure: _Measure, sizes: list[tuple[int, int]]) -> Measured:
    """Measure both models at some sizes; what is being done is shown where somebody sees it."""
    found = {}
    with Console(stderr=True).status(name) as status:
        for m, n in sizes:
            for model in MODELS:
                status.update(f"{name}: {m} x {n}, {model}")
                found[model, m, n] = measure(model, m, n)
    return Measured(name, found)


# Tables.


def _size(measured: Measured, m: int, n: int) -> str:
    return f"{m} x {n}{' ~' if measured.is_sample(m, n) else ''}"


def _show_operations(console: Console, measured: Measured) -> None:
    rows: list[list[Cell | str]] = []
    for m, n in measured.sizes:
        for model in MODELS:
            for i, name in enumerate(_ROUNDS):
                counts = [measured.count(model, m, n, i, *places) for places in ((TERMINALS,), (NEIGHBOURS,), ())]
                row: list[Cell | str] = [_size(measured, m, n), model, name, *(f"{one:,}" for one in counts)]
                if i == 0:
                    times = loads(model, m, n)
                    formula = times * measured.load
                    row += [f"{times:,} L", f"{formula:,.0f}", f"{counts[2] / formula:.2f}"]
                else:
                    row += ["", "", ""]
                rows.append(row)
    title = f"Asymmetric operations, {measured.name}; L = {measured.load:g} operations"
    columns = [
        "m x n",
        "model",
        "calls",
        "terminals",
        "neighbours",
        "in all",
        "formula",
        "that is",
        "measured / formula",
    ]
    show(console, title, columns, rows)


def _show_times(console: Console, measured: Measured) -> None:
    rows: list[list[Cell | str]] = []
    for m, n in measured.sizes:
        for model in MODELS:
            for i, name in enumerate(_ROUNDS):
                one = measured.rounds[model, m, n][i]
                times = [measured.cpu_s(model, m, n, i, *places) for places in ((TERMINALS,), (NEIGHBOURS,), ())]
                cells = [f"{_size(measured, m, n)}", model, name, *(f"{value:.3g} s" for value in times)]
                formula = f"{loads(model, m, n) * measured.load_s:.3g} s" if i == 0 else ""
                # From the second call on a hybrid's D is not due again; end-to-end it is.
                delay = n if model == END_TO_END else 1
                delays = [f"{one.mean_setup_s * 1000:.1f} ms", f"{n * one.mean_setup_s * 1000:,.0f} ms"]
                due = f"{delay * measured.delay_s * 1000:,.0f} ms" if i == 0 or model == END_TO_END else ""
                rows.append([*cells, formula, *delays, due])
    title = (
        f"CPU time and set-up delay, {measured.name}; L = {measured.load_s * 1000:.2f} ms of CPU time, "
        f"D = {measured.delay_s * 1000:.1f} ms"
    )
    columns = ["m x n", "model", "calls", "terminals", "neighbours", "in all", "formula"]
    columns += ["set-up", "one calls all", "n D or D"]
    show(console, title, columns, rows)


def _show_mechanisms(console: Console) -> None:
    codes = {model: code_of(model) for model in MODELS}
    rows: list[list[Cell | str]] = []
    totals = dict.fromkeys(MODELS, 0)
    for mechanism, module in MECHANISMS.items():
        cells = []
        for model, code in codes.items():
            is_there = module in code.modules
            totals[model] += is_there
            cells.append(f"{lines_of(module)} lines" if is_there else "-")
        rows.append([mechanism, *cells])
    rows.append(["in all", *(f"{totals[model]} mechanisms" for model in MODELS)])
    libraries = ["cryptography" if "cryptography" in code.needs else "none" for code in codes.values()]
    rows.append(["library of asymmetric operations", *libraries])
    show(console, "Mechanisms of signalling security that a terminal has to support", ["", *MODELS], rows)


# Words.


def _explain(measured: Measured) -> str:
    """Why what was measured is not what the formulas say, with the figures."""
    size = max(measured.squares)
    first, later = (measured.rounds[HYBRID, size, size][i] for i in range(2))
    again = measured.rounds[END_TO_END, size, size][1]
    pairs, at = size * size, f"{size} x {size}"
    messages = measured.messages(HYBRID, size, size, 0)
    paths = {model: measured.paths(model, size, size, 0) for model in MODELS}
    return (
        "Why this is not what the formulas say: asymmetric operations are made for the two ends of a call, and for "
        "nothing else. The m+n hops are agreed on by digest and HMAC, in both models, and the one trunk is set up "
        "before calls are counted (its TLS handshake is OpenSSL's, and in no counter). So end-to-end comes to mn L. "
        "The hybrid's first calls do not come down to m+n+1: the neighbours seal and open each pair's first call, "
        f"{messages / pairs:g} operations for each of {pairs:,} pairs at {at}. What falls to m+n there is the "
        f"signatures of certificates, {paths[HYBRID]:,} instead of {paths[END_TO_END]:,}, as a neighbour remembers "
        "them for all its users; and terminals have no asymmetric operation at all, instead of "
        f"{measured.count(END_TO_END, size, size, 0):,}. The rest is saved in later calls: a setup key makes them "
        f"cost {later.count() / later.pairs:g} operations anywhere, where end-to-end costs "
        f"{again.count() / again.pairs:g} in each call, and more where a certificate was not looked at for five "
        "minutes. And so D is due in the first call of each pair, and not once for all of them: "
        f"{first.mean_setup_s * 1000:.1f} ms, and {later.mean_setup_s * 1000:.1f} ms in each later call."
    )


def _explain_processes(measured: Measured) -> str:
    """What there is to know of figures between real processes."""
    size = max(measured.squares)
    first, later = (measured.rounds[HYBRID, size, size][i] for i in range(2))
    ms = {
        (place, i): one.cpu(place) / one.pairs * 1000
        for place in (TERMINALS, NEIGHBOURS)
        for i, one in enumerate((first, later))
    }
    return (
        "Between real processes: the neighbours count operations on messages, not on certificates, user agents count "
        "both. CPU time is counted in ticks of 10 ms, and means something in the larger rows only. A script answers "
        "the calls, after up to 10 ms; that is in all set-up delays. Hybrid terminals are MicroPython on this "
        f"machine, end-to-end ones CPython. At {size} x {size} a call by a setup key takes the neighbours "
        f"{ms[NEIGHBOURS, 1]:.1f} ms of CPU time instead of {ms[NEIGHBOURS, 0]:.1f} ms, and both terminals together "
        f"{ms[TERMINALS, 1]:.1f} ms instead of {ms[TERMINALS, 0]:.1f} ms: four MACs are made and "
        f"checked, and keys written to files. It is set up in {later.mean_setup_s * 1000:.1f} ms, and a first call in "
        f"{first.mean_setup_s * 1000:.1f} ms."
    )


# Plots.


def _plot_operations(path: Path, measured: list[Measured]) -> None:
    with panels(
        path, "Asymmetric operations of m users that call n = m others once", [one.name for one in measured]
    ) as axes:
        for one, axis in zip(measured, axes, strict=True):
            sizes = [m for m, n in one.sizes if m == n]
            for colour, model in zip(COLOURS, MODELS, strict=False):
                for i, style in enumerate(("-", "--")):
                    counts = [one.count(model, m, m, i) for m in sizes]
                    label = f"{model}, {_ROUNDS[i]} calls"
                    axis.plot(sizes, counts, color=colour, linestyle=style, marker="o", markersize=3, label=label)
                formula = [loads(model, m, m) * one.load for m in sizes]
                axis.plot(sizes, formula, color=colour, linestyle=":", label=f"{model}, formula")
            axis.set_xscale("log")
            axis.set_yscale("symlog", linthresh=1)
            axis.set_ylim(bottom=-0.3)
            axis.set_xlabel("m = n")
        axes[0].set_ylabel("operations in all")
        axes[0].legend(loc="upper left", fontsize=7)


def _plot_delay(path: Path, measured: list[Measured]) -> None:
    title = "Set-up delays of one user's calls to n others, added up"
    with panels(path, title, [one.name for one in measured], is_y_shared=False) as axes:
        for one, axis in zip(measured, axes, strict=True):
            sizes = sorted({n: m for m, n in one.sizes}.items())
            many = [n for n, _ in sizes]
            for colour, model in zip(COLOURS, MODELS, strict=False):
                for i, style in enumerate(("-", "--")):
                    sums = [n * one.rounds[model, m, n][i].mean_setup_s for n, m in sizes]
                    label = f"{model}, {_ROUNDS[i]} calls"
                    axis.plot(many, sums, color=colour, linestyle=style, marker="o", markersize=3, label=label)
            axis.plot(many, [n * one.delay_s for n in many], color=COLOURS[0], linestyle=":", label="n D")
            axis.plot(many, [one.delay_s] * len(many), color=COLOURS[1], linestyle=":", label="D")
            axis.set_xscale("log")
            axis.set_yscale("log")
            axis.set_xlabel("n")
        axes[0].set_ylabel("seconds")
        axes[0].legend(loc="upper left", fontsize=7)


def run(console: Console, out: Path, *, is_quick: bool) -> list[Measured]:
    """Measure, print, and draw.

    Args:
        console: where to print.
        out: a folder, for plots.
        is_quick: whether to measure small sizes only.

    Raises:
        LabError: a call between processes did not go well.
        UnavailableError: there is no MicroPython.
    """
    measured = []
    for name, measure, sizes, explain in (
        ("real processes", processes.measure, _PROCESSES_QUICK if is_quick else _PROCESSES, _explain_processes),
        ("in memory", inmemory.measure, _IN_MEMORY_QUICK if is_quick else _IN_MEMORY, _explain),
    ):
        one = measure_all(name, measure, sizes)
        _show_operations(console, one)
        _show_times(console, one)
        if any(one.is_sample(m, n) for m, n in one.sizes):
            text = f"~ {inmemory.MOST_CALLS:,} calls, spread evenly over all users, and what that makes for all pairs"
            console.print(text, markup=False)
            console.print()
        console.print(explain(one), markup=False)
        console.print()
        measured.append(one)
    _show_mechanisms(console)
    _plot_operations(out / "table1-operations.svg", measured)
    _plot_delay(out / "table1-delay.svg", measured)
    return measured
