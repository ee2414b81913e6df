"""The lifetime simulation over a grid of lifetimes, with the same calls and the same break-ins for each of them.

    savable   what keys that never end save, with the same room for peers
    enough    saves 90 % of that, in each pattern of calls
    risk      calls exposed by a break-in at a terminal: 95th percentile, of the worst pattern and the worst break-in
    best      of those that save enough the one with the least risk; among equals the shorter life, then the fewer uses

All that is random comes from a seed, the name of a pattern and the number of a run.
"""

import random
from dataclasses import dataclass
from math import ceil
from statistics import median

from evaluation.lifetime import ALONE, ATTACKS, CALLING, COPIED, ROOM, WATCHED, Attack, Policy, Result, simulate
from evaluation.patterns import CALLS_A_DAY, DAY_S, PATTERNS, Call, make_calls

__all__ = [
    "AT_TERMINAL",
    "DAYS",
    "ENOUGH",
    "LIVES_S",
    "USES",
    "WINDOW_DAYS",
    "Exposure",
    "NothingSavesEnoughError",
    "Sweep",
    "percentile_95",
]

_MINUTE_S, _HOUR_S = 60, 3600
LIVES_S = (
    10 * _MINUTE_S,
    _HOUR_S,
    6 * _HOUR_S,
    DAY_S,
    3 * DAY_S,
    7 * DAY_S,
    14 * DAY_S,
    30 * DAY_S,
    60 * DAY_S,
    90 * DAY_S,
)
USES = (1, 2, 3, 5, 10, 20, 50, 100, 1000)
ENOUGH = 0.9  # of what can be saved
DAYS = 180
_BEFORE_DAYS = 60  # at least, so that there are as many keys as there ever are
#: How long after a break-in calls are counted.
WINDOW_DAYS = 60
_FOR_EVER = 10**9  # seconds and calls
#: The break-ins that nobody would profit from without setup keys.
AT_TERMINAL = (COPIED, WATCHED, CALLING)


class NothingSavesEnoughError(Exception):
    """No lifetime of the grid saves enough."""


def percentile_95(values: list[int]) -> int:
    """The value that at most one in twenty is over."""
    return sorted(values)[ceil(0.95 * len(values)) - 1]


@dataclass(frozen=True, slots=True)
class Exposure:
    """Calls exposed by one kind of break-in.

    Attributes:
        median: of all runs.
        high: the 95th percentile.
        unkeyed: the median of what would be exposed without setup keys.
    """

    median: float
    high: int
    unkeyed: float


@dataclass(frozen=True, slots=True)
class _Run:
    """One life of a terminal: what nobody's policy changes."""

    calls: list[Call]
    at_s: float
    operations: int

    @classmethod
    def make(cls, pattern: str, seed: int, number: int, a_day: float) -> "_Run":
        chance = random.Random(f"{seed} {pattern} {number}")
        calls = make_calls(pattern, chance, DAYS, a_day)
        at_s = chance.uniform(_BEFORE_DAYS, DAYS - WINDOW_DAYS) * DAY_S
        return cls(calls, at_s, simulate(calls, Policy(0, 0)).operations)

    def attack(self, kinds: frozenset[str]) -> Attack:
        return Attack(kinds, self.at_s, self.at_s + WINDOW_DAYS * DAY_S)


class Sweep:
    """See the module. Each figure is made when it is asked for, and once.

    Args:
        seed: of everything.
        runs: lives of a terminal, for each pattern.
        a_day: calls in the mean.
        room: peers that the terminal keeps keys of.
    """

    def __init__(self, seed: int, runs: int, *, a_day: float = CALLS_A_DAY, room: int = ROOM) -> None:
        self.seed = seed
        self.runs = runs
        self.a_day = a_day
        self.room = room
        self._lives = {name: [_Run.make(name, seed, i, a_day) for i in range(runs)] for name in PATTERNS}
        self._results: dict[tuple[str, Policy, frozenset[str]], list[Result]] = {}

    def policy(self, life_s: int, uses: int, *, is_carried: bool = True) -> Policy:
        """A policy with our room."""
        return Policy(life_s, uses, is_carried, self.room)

    def _of(self, pattern: str, policy: Policy, kinds: frozenset[str]) -> list[Result]:
        """What came of each run."""
        key = pattern, policy, kinds
        found = self._results.get(key)
        if found is None:
            found = [simulate(run.calls, policy, run.attack(kinds)) for run in self._lives[pattern]]
            self._results[key] = found
        return found

    def calls(self, pattern: str) -> float:
        """Calls of a run, in the median."""
        return median(len(run.calls) for run in self._lives[pattern])

    def saved(self, pattern: str, policy: Policy) -> float:
        """The share of asymmetric operations that is saved, in the median of all runs."""
        results = self._of(pattern, policy, frozenset(ATTACKS) - ALONE)
        pairs = zip(results, self._lives[pattern], strict=True)
        return median(1 - result.operations / run.operations for result, run in pairs)

    def savable(self, pattern: str) -> float:
        """The same, with keys that never end."""
        return self.saved(pattern, self.policy(_FOR_EVER, _FOR_EVER, is_carried=False))

    def exposure(self, pattern: str, policy: Policy, kind: str) -> Exposure:
        """Calls exposed by a kind of break-in."""
        kinds = frozenset({kind}) if kind in ALONE else frozenset(ATTACKS) - ALONE
        results = self._of(pattern, policy, kinds)
        counts = [result.exposed[kind] for result in results]
        return Exposure(median(counts), percentile_95(counts), median(result.unkeyed[kind] for result in results))

    def is_enough(self, policy: Policy) -> bool:
        """Whether a policy saves enough, in each pattern."""
        return all(self.saved(pattern, policy) >= ENOUGH * self.savable(pattern) for pattern in PATTERNS)

    def risk(self, policy: Policy) -> int:
        """See the module."""
        return max(self.exposure(pattern, policy, kind).high for pattern in PATTERNS for kind in AT_TERMINAL)

    def best(self, *, is_carried: bool) -> Policy:
        """See the module.

        Raises:
            NothingSavesEnoughError: none saves enough.
        """
        every = [self.policy(life_s, uses, is_carried=is_carried) for life_s in LIVES_S for uses in USES]
        enough = [policy for policy in every if self.is_enough(policy)]
        if not enough:
            raise NothingSavesEnoughError(
                f"none of the lifetimes saves {ENOUGH:.0%} of what can be saved with {self.a_day:g} calls a day"
            )
        return min(enough, key=lambda policy: (self.risk(policy), policy.life_s, policy.uses))

    def knee(self, pattern: str, uses: int) -> int:
        """The life, in seconds, beyond which a longer one adds more exposure than it saves.

        Of the curve from the shortest life to the longest, exposed calls to the right and savings upwards, each as a
        share of its range, it is the point that is highest above the straight line between the curve's ends.
        """
        points = []
        for life_s in LIVES_S:
            policy = self.policy(life_s, uses)
            exposed = max(self.exposure(pattern, policy, kind).median for kind in AT_TERMINAL)
            points.append((exposed, self.saved(pattern, policy), life_s))
        width = max(x for x, _, _ in points) - points[0][0] or 1
        height = max(y for _, y, _ in points) - points[0][1] or 1
        return max(points, key=lambda point: (point[1] - points[0][1]) / height - (point[0] - points[0][0]) / width)[2]
