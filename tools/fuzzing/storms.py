"""The storm of tests/shared/storm.py at full strength: every suite, one source, reports, and sessions, also with GCM.

Where the fuzzer looks for inputs nobody thought of, this says of very many packets, one by one, what has to become of
each: opened once and as it was sent, or refused. See ``tools/fuzz storm``.
"""

import sys
import time
import traceback
from pathlib import Path

from neighbour.aes import new_aes
from neighbour.media.gcm import SUITES, kind_of

__all__ = ["NAME", "run"]

NAME = "storm"
_SHARED_TESTS = Path(__file__).resolve().parent.parent.parent / "tests" / "shared"


def run(packets: int, seed: int) -> bool:
    """Deliver so many packets in all; returns whether each had its right outcome."""
    sys.path.append(str(_SHARED_TESTS))
    import storm

    kinds = [(make, suite) for suite in SUITES.values() for make in (storm.single, storm.reports, storm.session)]
    started = time.monotonic()
    counts = dict.fromkeys(storm.WAYS, 0)
    opened = 0
    for i, (make, suite) in enumerate(kinds):
        one = make(suite, new_aes, kind_of(suite), seed)
        try:
            one.run(packets // len(kinds) + (i < packets % len(kinds)))
        except Exception:
            traceback.print_exc()
            return False
        opened += one.opened
        for way, count in one.counts.items():
            counts[way] += count
    seconds = time.monotonic() - started
    delivered = sum(counts.values()) - counts["lost"]
    print(f"{NAME:8} {delivered:>9} packets {seconds:5.0f} s  {len(kinds)} kinds of receiver", flush=True)
    print("         " + ", ".join(f"{count} {way}" for way, count in counts.items()))
    print(f"         {opened} opened, each once and as it was sent; {delivered - opened} refused", flush=True)
    return True
