"""What is measured of a round of calls, and the paper's formulas beside it."""

from collections import Counter
from dataclasses import dataclass, field

from evaluation.domains import NEIGHBOURS, TERMINALS
from evaluation.endtoend import PATH

__all__ = ["END_TO_END", "HYBRID", "MODELS", "PLACES", "Round", "loads"]

END_TO_END, HYBRID = "end-to-end", "hybrid"
MODELS = (END_TO_END, HYBRID)
PLACES = (TERMINALS, NEIGHBOURS)


@dataclass(frozen=True)
class Round:
    """Each of m users called each of n once.

    Attributes:
        pairs: calls.
        operations: asymmetric ones by place, and by name.
        cpu_s: CPU seconds by place.
        setups_s: the set-up delay of each call.
        by: who vouched, how often.
    """

    pairs: int
    operations: dict[str, Counter[str]]
    cpu_s: dict[str, float]
    setups_s: list[float]
    by: Counter[str] = field(default_factory=Counter)

    def count(self, *places: str) -> int:
        """Asymmetric operations at some places; at all where none is named."""
        return sum(self.operations[place].total() for place in places or PLACES)

    def paths(self, *places: str) -> int:
        """Those of them that were on certificates."""
        return sum(self.operations[place][PATH] for place in places or PLACES)

    def cpu(self, *places: str) -> float:
        """CPU seconds, likewise."""
        return sum(self.cpu_s[place] for place in places or PLACES)

    @property
    def mean_setup_s(self) -> float:
        """The set-up delay of a call, in the mean."""
        return sum(self.setups_s) / len(self.setups_s)


def loads(model: str, m: int, n: int) -> int:
    """How many times L the paper's Table 1 has for m originators that call n destinations."""
    return m + n + m * n + 1 if model == END_TO_END else m + n + 1
