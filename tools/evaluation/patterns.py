"""When one user calls and is called, by whom, and how these calls end: made once from a seed, then the same for all.

    poisson    calls at random moments, each with any of the contacts
    bursty     as many calls, but several in a row with the same contact, minutes apart
    zipf       calls at random moments; the k-th contact of the address book has 1/k of the calls of the first

A call is a moment here: what it says takes minutes, and what is looked at takes days.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass
from itertools import accumulate

__all__ = ["ANSWERED", "CALLS_A_DAY", "DAY_S", "HALF_ENDED", "LOST", "PATTERNS", "UNANSWERED", "Call", "make_calls"]

DAY_S = 86_400
CALLS_A_DAY = 10.0

# How a call ends.
ANSWERED = "answered"  # and ended by a BYE and its 200
UNANSWERED = "unanswered"  # busy, cancelled, or nobody there
LOST = "lost"  # answered; no BYE arrives: a battery is empty, a network gone
HALF_ENDED = "half ended"  # a BYE arrives, its answer does not

# Shares of calls. Nothing was measured for these: they are guesses on the unlucky side for a mobile terminal.
_UNANSWERED_SHARE = 0.25
_LOST_SHARE = 0.05
_HALF_ENDED_SHARE = 0.01

_CONTACTS = 20  # of poisson and bursty
_BOOK = 50  # contacts in the address book of zipf
_BURST = 4  # calls of a burst in the mean
_GAP_S = 300.0  # between the calls of a burst, in the mean


@dataclass(frozen=True, slots=True)
class Call:
    """One call of the user looked at.

    Attributes:
        at_s: when, in seconds from the beginning.
        contact: with whom, from 0.
        is_ours: whether this user is the caller.
        we_end: whether this user sends the BYE.
        end: `ANSWERED`, `UNANSWERED`, `LOST` or `HALF_ENDED`.
    """

    at_s: float
    contact: int
    is_ours: bool
    we_end: bool
    end: str


def _moments(chance: random.Random, mean_gap_s: float, days: int) -> list[float]:
    """Moments of a Poisson process."""
    found, at = [], chance.expovariate(1 / mean_gap_s)
    while at < days * DAY_S:
        found.append(at)
        at += chance.expovariate(1 / mean_gap_s)
    return found


def _poisson(chance: random.Random, a_day: float, days: int) -> list[tuple[float, int]]:
    return [(at, chance.randrange(_CONTACTS)) for at in _moments(chance, DAY_S / a_day, days)]


def _bursty(chance: random.Random, a_day: float, days: int) -> list[tuple[float, int]]:
    found = []
    for start in _moments(chance, DAY_S / a_day * _BURST, days):
        at, contact = start, chance.randrange(_CONTACTS)
        while at < days * DAY_S:
            found.append((at, contact))
            if chance.random() < 1 / _BURST:
                break
            at += chance.expovariate(1 / _GAP_S)
    return sorted(found)


def _zipf(chance: random.Random, a_day: float, days: int) -> list[tuple[float, int]]:
    weights = list(accumulate(1 / rank for rank in range(1, _BOOK + 1)))
    moments = _moments(chance, DAY_S / a_day, days)
    return list(zip(moments, chance.choices(range(_BOOK), cum_weights=weights, k=len(moments)), strict=True))


#: By name: moments and contacts of calls, by chance, calls a day and days.
PATTERNS: dict[str, Callable[[random.Random, float, int], list[tuple[float, int]]]] = {
    "poisson": _poisson,
    "bursty": _bursty,
    "zipf": _zipf,
}


def _end(chance: random.Random) -> str:
    share = chance.random()
    for end, below in (
        (UNANSWERED, _UNANSWERED_SHARE),
        (LOST, _UNANSWERED_SHARE + _LOST_SHARE),
        (HALF_ENDED, _UNANSWERED_SHARE + _LOST_SHARE + _HALF_ENDED_SHARE),
    ):
        if share < below:
            return end
    return ANSWERED


def make_calls(name: str, chance: random.Random, days: int, a_day: float = CALLS_A_DAY) -> list[Call]:
    """The calls of a pattern, in the order of time.

    Args:
        name: of the pattern, see `PATTERNS`.
        chance: where all that is random comes from.
        days: how long.
        a_day: calls in the mean.
    """
    return [
        Call(at, contact, chance.random() < 0.5, chance.random() < 0.5, _end(chance))
        for at, contact in PATTERNS[name](chance, a_day, days)
    ]
