"""What the lifetime simulation comes to: tables, plots, and a paragraph that recommends defaults."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.report import Cell, show
from evaluation.lifetime import (
    ATTACKS,
    CALLING,
    COPIED,
    FORCING,
    INSIDE,
    OPERATIONS_OF_ANSWER,
    OPERATIONS_OF_INVITE,
    WATCHED,
    Policy,
)
from evaluation.patterns import CALLS_A_DAY, DAY_S, PATTERNS
from evaluation.plots import COLOURS, panels
from evaluation.sweep import AT_TERMINAL, DAYS, ENOUGH, LIVES_S, USES, WINDOW_DAYS, Sweep

__all__ = ["RUNS", "RUNS_QUICK", "Advice", "advise", "duration", "run"]

RUNS, RUNS_QUICK = 20, 5  # lives of a terminal, for each pattern
_RATES = (3.0, CALLS_A_DAY, 30.0)  # calls a day, to see what the advice depends on
_ROOMS = (8, 16, 32, 64)  # peers
_SHOWN_USES = (1, 2, 5, 10, 20, 1000)  # in the plot
_UNITS = ((DAY_S, "day"), (3600, "hour"), (60, "minute"))


_WHO = {
    COPIED: "has copied the terminal's store, once, and sees nothing after",
    WATCHED: "has copied it, and sees every nonce afterwards, but nothing that is sealed",
    CALLING: "has copied it, and calls every contact once a day in the terminal's name, as long as that works",
    INSIDE: "reads in the neighbour for a week",
    FORCING: "is in the neighbour for a week, and answers 428 itself, so that every call has to be vouched for",
}


def duration(seconds: int) -> str:
    """A time in words: ``7 days``."""
    for size, name in _UNITS:
        if seconds >= size:
            count = seconds // size
            return f"{count} {name}{'' if count == 1 else 's'}"
    return f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Advice:
    """What is recommended.

    Attributes:
        best: of the lifetimes where a BYE offers what is left: the recommendation.
        renewed: the best where it offers all of it anew.
    """

    best: Policy
    renewed: Policy


def advise(sweep: Sweep) -> Advice:
    """Find the best lifetimes; the rule stands in `evaluation.sweep`.

    Raises:
        NothingSavesEnoughError: none saves enough.
    """
    return Advice(sweep.best(is_carried=True), sweep.best(is_carried=False))


# Tables.


def _row(sweep: Sweep, pattern: str, name: str, policy: Policy) -> list[Cell | str]:
    saved = sweep.saved(pattern, policy)
    exposed = [sweep.exposure(pattern, policy, kind) for kind in ATTACKS]
    shares = [f"{saved:.1%}", f"{saved / sweep.savable(pattern):.1%}"]
    return [name, *shares, *(f"{one.median:g} / {one.high}" for one in exposed)]


_COLUMNS = ["saved", "of savable", *ATTACKS]


def _show_lives(console: Console, sweep: Sweep, best: Policy) -> None:
    for pattern in PATTERNS:
        rows: list[list[Cell | str]] = []
        for life_s in LIVES_S:
            mark = " *" if life_s == best.life_s else ""
            rows.append(_row(sweep, pattern, duration(life_s) + mark, sweep.policy(life_s, best.uses)))
        without = [f"{sweep.exposure(pattern, best, kind).unkeyed:g}" for kind in ATTACKS]
        rows.append(["no setup keys", "0.0%", "0.0%", *without])
        title = (
            f"{pattern}: {sweep.calls(pattern):.0f} calls in {DAYS} days; a key serves {best.uses}. Exposed calls: "
            "median / 95th percentile"
        )
        show(console, title, ["life", *_COLUMNS], rows)


def _show_uses(console: Console, sweep: Sweep, best: Policy) -> None:
    for pattern in PATTERNS:
        rows = [
            _row(sweep, pattern, f"{uses}{' *' if uses == best.uses else ''}", sweep.policy(best.life_s, uses))
            for uses in USES
        ]
        show(console, f"{pattern}: a key lives for {duration(best.life_s)}", ["uses", *_COLUMNS], rows)


def _show_renewals(console: Console, sweep: Sweep, advice: Advice) -> None:
    rows: list[list[Cell | str]] = []
    for name, policy in (("what is left *", advice.best), ("all of it anew", advice.renewed)):
        worst = [max(sweep.exposure(pattern, policy, kind).high for pattern in PATTERNS) for kind in ATTACKS]
        least = min(sweep.saved(pattern, policy) / sweep.savable(pattern) for pattern in PATTERNS)
        lifetime = f"{duration(policy.life_s)}, {policy.uses} uses"
        rows.append([name, lifetime, f"{least:.1%}", *(str(one) for one in worst)])
    title = "What a BYE offers, each with the lifetime that is best for it; of the worst pattern"
    show(console, title, ["offered", "lifetime", "of savable", *ATTACKS], rows)


def _show_surroundings(console: Console, sweep: Sweep, best: Policy) -> None:
    """What the advice depends on: how often people call, and room for peers."""
    rows: list[list[Cell | str]] = []
    for rate in _RATES:
        for room in _ROOMS:
            if rate != sweep.a_day and room != sweep.room:
                continue
            other = Sweep(sweep.seed, sweep.runs, a_day=rate, room=room)
            policy = other.policy(best.life_s, best.uses)
            row: list[Cell | str] = [f"{rate:g} calls a day, {room} peers"]
            for pattern in PATTERNS:
                row += [f"{other.savable(pattern):.1%}", f"{other.saved(pattern, policy):.1%}"]
            rows.append(row)
    columns = [text for pattern in PATTERNS for text in (f"{pattern}: savable", "saved")]
    show(console, "The same lifetime, for other users and other terminals", ["", *columns], rows)


# Words.


def _assumptions(sweep: Sweep) -> str:
    a_call = OPERATIONS_OF_INVITE + OPERATIONS_OF_ANSWER
    return (
        f"Lifetimes of setup keys, simulated: seed {sweep.seed}, {sweep.runs} lives of a terminal for each pattern, "
        f"{sweep.a_day:g} calls a day for {DAYS} days, room for the keys of {sweep.room} peers. A call that the "
        f"neighbours vouch for costs {a_call} asymmetric operations ({OPERATIONS_OF_INVITE} where nobody answers), one "
        "by a setup key none. Shares of calls not answered and of calls that end without a BYE, contacts and rates are "
        f"assumptions: tools/evaluation/patterns.py. Exposed are calls within {WINDOW_DAYS} days after a break-in that "
        "somebody reads, or could have been either side of:"
    )


def paragraph(sweep: Sweep, advice: Advice) -> str:
    """The recommendation, in words, with the figures that it rests on."""
    best, renewed = advice.best, advice.renewed
    shares = [sweep.saved(pattern, best) for pattern in PATTERNS]
    parts = [sweep.saved(pattern, best) / sweep.savable(pattern) for pattern in PATTERNS]
    worst = {kind: max(sweep.exposure(pattern, best, kind).high for pattern in PATTERNS) for kind in ATTACKS}
    inside = [sweep.exposure(pattern, best, INSIDE) for pattern in PATTERNS]
    forcing = [sweep.exposure(pattern, best, FORCING) for pattern in PATTERNS]
    knees = {sweep.knee(pattern, best.uses) for pattern in PATTERNS}
    knee = max(knees)
    at_knee = [sweep.saved(p, sweep.policy(knee, best.uses)) / sweep.savable(p) for p in PATTERNS]
    knee_risk = sweep.risk(sweep.policy(knee, best.uses))
    return (
        f"Recommended: life_s = {best.life_s} ({duration(best.life_s)}) and uses = {best.uses}, where a BYE offers "
        f"what is left of the key that set the call up. Of the lifetimes that save at least {ENOUGH:.0%} of what keys "
        f"that never end would save, in each pattern, this one exposes least: it saves {min(shares):.0%} to "
        f"{max(shares):.0%} of all asymmetric operations, {min(parts):.0%} of the savable ones or more. In 19 of 20 "
        f"lives no more than {worst[COPIED]} calls are exposed to who has copied a terminal's store, {worst[WATCHED]} "
        f"to who also sees every nonce afterwards, and {worst[CALLING]} to who goes on to call in its name; "
        f"after {duration(best.life_s)} at the latest that is over, as the neighbours vouch anew. Were all of life and "
        f"uses offered anew, a chain of keys would never end by itself: at its best ({duration(renewed.life_s)}, "
        f"{renewed.uses} uses) that exposes {sweep.risk(renewed)} calls in {WINDOW_DAYS} days, and more after, "
        f"where this exposes {sweep.risk(best)} at most. "
        f"Exposure rises fastest beyond {_either(knees)}: with {duration(knee)} it would be {knee_risk} calls, "
        f"and {min(at_knee):.0%} to {max(at_knee):.0%} of the savable operations would be saved. Who fears a stolen "
        "terminal more than a busy neighbour takes that. Against somebody who reads in a neighbour longer lives are "
        f"better, as fewer calls pass there in the clear: {_span([one.median for one in inside])} calls exposed, and "
        f"{_span([one.unkeyed for one in inside])} without setup keys. Against a neighbour that answers 428 itself "
        f"setup keys are of no use: {_span([one.median for one in forcing])} calls, as each is vouched for there, and "
        "keys made there live on. A terminal tells who vouched for a call, so that people can see it."
    )


def _span(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{low:.0f}" if round(low) == round(high) else f"{low:.0f} to {high:.0f}"


def _either(lives_s: set[int]) -> str:
    texts = [duration(life_s) for life_s in sorted(lives_s)]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} or {texts[-1]} (by the pattern)"


# Plots.


def _plot_savings(path: Path, sweep: Sweep, best: Policy) -> None:
    with panels(path, "Asymmetric operations saved, by the life of a key", list(PATTERNS)) as axes:
        days = [life_s / DAY_S for life_s in LIVES_S]
        for pattern, one in zip(PATTERNS, axes, strict=True):
            for colour, uses in zip(COLOURS, _SHOWN_USES, strict=False):
                shares = [100 * sweep.saved(pattern, sweep.policy(life_s, uses)) for life_s in LIVES_S]
                one.plot(
                    days, shares, color=colour, marker="o", markersize=3, label=f"{uses} use{'s' if uses > 1 else ''}"
                )
            one.axhline(100 * ENOUGH * sweep.savable(pattern), color="black", linestyle=":", linewidth=1)
            one.plot(best.life_s / DAY_S, 100 * sweep.saved(pattern, best), "o", color="none", mec="black", ms=11)
            one.set_xscale("log")
            one.set_ylim(0, 100)
            one.set_xlabel("life, days")
        axes[0].set_ylabel("saved, % (dotted: 90 % of what can be)")
        axes[0].legend(loc="upper left")


def _plot_exposure(path: Path, sweep: Sweep, advice: Advice) -> None:
    title = f"What is saved, and what a break-in at a terminal exposes in {WINDOW_DAYS} days (95th percentile)"
    with panels(path, title, list(PATTERNS)) as axes:
        for pattern, one in zip(PATTERNS, axes, strict=True):
            for colour, policy, name in (
                (COLOURS[0], advice.best, "what is left"),
                (COLOURS[1], advice.renewed, "anew"),
            ):
                points = []
                for life_s in LIVES_S:
                    at = sweep.policy(life_s, policy.uses, is_carried=policy.is_carried)
                    exposed = max(sweep.exposure(pattern, at, kind).high for kind in AT_TERMINAL)
                    points.append((exposed, 100 * sweep.saved(pattern, at) / sweep.savable(pattern), life_s))
                label = f"BYE offers {name}, {policy.uses} uses; circle: {duration(policy.life_s)}"
                one.plot(
                    [x for x, _, _ in points],
                    [y for _, y, _ in points],
                    color=colour,
                    marker="o",
                    markersize=3,
                    label=label,
                )
                for x, y, life_s in points:
                    if life_s == policy.life_s:
                        one.plot(x, y, "o", color="none", mec="black", ms=11)
            one.axhline(100 * ENOUGH, color="black", linestyle=":", linewidth=1)
            one.set_xscale("symlog", linthresh=10)
            one.set_xlim(-1, 2000)
            one.set_ylim(0, 105)
            one.set_xlabel("exposed calls")
        axes[0].set_ylabel("saved, % of what can be")
        axes[0].legend(loc="lower right")


def run(console: Console, seed: int, runs: int, out: Path) -> Advice:
    """Simulate, print, and draw.

    Args:
        console: where to print; the same goes to ``lifetime.txt``.
        seed: of everything.
        runs: lives of a terminal.
        out: a folder, for what is written.

    Raises:
        NothingSavesEnoughError: none saves enough.
    """
    sweep = Sweep(seed, runs)
    console.print(_assumptions(sweep), markup=False)
    for kind in ATTACKS:
        console.print(f"  {kind:<9}{_WHO[kind]}", markup=False)
    console.print()
    with Console(stderr=True).status("lifetimes: simulating"):
        advice = advise(sweep)
    _show_lives(console, sweep, advice.best)
    _show_uses(console, sweep, advice.best)
    _show_renewals(console, sweep, advice)
    _show_surroundings(console, sweep, advice.best)
    console.print(paragraph(sweep, advice), markup=False)
    console.print()
    _plot_savings(out / "lifetime-saved.svg", sweep, advice.best)
    _plot_exposure(out / "lifetime-exposure.svg", sweep, advice)
    return advice
