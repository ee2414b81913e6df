"""The calls of Table 1 in memory: see `evaluation.models`."""

import tempfile
from collections import Counter
from pathlib import Path

from evaluation.domains import NEIGHBOURS, TERMINALS, Domain, Meter, People
from evaluation.figures import END_TO_END, Round
from evaluation.models import Call, Powerful, Weak, call_end_to_end, call_hybrid

__all__ = ["MOST_CALLS", "measure"]

_A, _B = "a.example", "b.example"
#: Calls of a round; of more pairs, so many are called that every user has the same number of calls.
MOST_CALLS = 10_000


def _pairs(m: int, n: int) -> list[tuple[int, int]]:
    """Who calls whom."""
    if m * n <= MOST_CALLS:
        return [(i, j) for i in range(m) for j in range(n)]
    return [(i, (i + k) % n) for i in range(m) for k in range(max(1, MOST_CALLS // m))]


def measure(model: str, m: int, n: int, rounds: int = 2) -> list[Round]:
    """Let m users in one domain call n in the other, each each, and all of it again.

    Args:
        model: `END_TO_END` or `HYBRID`.
        m: how many call.
        n: how many are called.
        rounds: how often.

    Raises:
        NotSafeError, RefusedError: a call did not go well.
    """
    with tempfile.TemporaryDirectory(prefix="wisp-evaluate-") as name:
        folder = Path(name)
        people = People(folder / "ca")
        ours, theirs = Domain(_A, people, folder), Domain(_B, people, folder)
        powerful: list[Powerful] = []
        if model == END_TO_END:
            left = [Powerful(ours, f"caller{i}", people) for i in range(m)]
            right = [Powerful(theirs, f"callee{i}", people) for i in range(n)]
            powerful = [*left, *right]
        else:
            callers = [Weak(ours, f"caller{i}") for i in range(m)]
            callees = [Weak(theirs, f"callee{i}") for i in range(n)]

        def call(i: int, j: int, meter: Meter) -> Call:
            if model == END_TO_END:
                return call_end_to_end(left[i], right[j], meter)
            return call_hybrid(callers[i], callees[j], meter)

        def count() -> dict[str, Counter[str]]:
            # A weak terminal has no asymmetric operation: `evaluation.mechanisms` looks at its code.
            terminals = sum((one.security.operations for one in powerful), Counter[str]())
            return {TERMINALS: terminals, NEIGHBOURS: ours.count() + theirs.count()}

        found = []
        for _ in range(rounds):
            before, meter = count(), Meter()
            done = [call(i, j, meter) for i, j in _pairs(m, n)]
            after = count()
            found.append(
                Round(
                    pairs=len(done),
                    operations={place: after[place] - before[place] for place in after},
                    cpu_s=meter.cpu_s,
                    setups_s=[one.setup_s for one in done],
                    by=Counter(one.by for one in done),
                )
            )
    return found
