"""Whether a signed message is new: its Date is about now, and it has not been here before (WIRE section 3).

    Date - 10 min <= now <= Date + 10 min, and (Call-ID, CSeq, From tag) not seen in that time

What was seen is kept in memory for as long as it could come again. After a restart nothing is known of what came
before: so a message dated before our start is not taken, but for the little by which clocks differ.
"""

import hashlib
from collections import Counter, deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipwire.message import Message

__all__ = ["WINDOW_S", "Freshness", "StaleError"]

WINDOW_S = 600  # WIRE section 3: "Date is within 10 minutes"
_SKEW_S = 5  # by which the clocks of those who have the time from the network differ at most
_MAX_SEEN = 1_000_000  # messages remembered, 20 minutes of 800 a second in 150 MB; beyond, nothing more is taken
_MAX_OF_DOMAIN = _MAX_SEEN // 4  # of one domain: 200 a second, for 20 minutes


class StaleError(Exception):
    """A message is too old, too new, or was here before; the text says which, in words for a Warning."""


class Freshness:
    """See the module.

    Args:
        clock: seconds since 1970.
    """

    def __init__(self, clock: "Callable[[], float]") -> None:
        self._clock = clock
        self._began_at = clock()
        self._seen: set[bytes] = set()
        self._ends: deque[tuple[float, bytes, str]] = deque()
        self._of_domain: Counter[str] = Counter()

    def check_date(self, date_s: int) -> None:
        """Check a signed Date.

        Args:
            date_s: seconds since 1970.

        Raises:
            StaleError: it is too far from now, or before our start.
        """
        now = self._clock()
        if abs(now - date_s) > WINDOW_S:
            raise StaleError("Date is more than 10 minutes off")
        if date_s < int(self._began_at) - _SKEW_S:
            raise StaleError("Date is before our start; send it anew")

    def check_first(self, signed: "Message", domain: str = "") -> None:
        """Remember a request that has passed every other check.

        Args:
            signed: its signed headers. What is not signed could be another each time.
            domain: whose trunk it came over: none of them may use up what all need.

        Raises:
            StaleError: it was here before.
        """
        now = self._clock()
        while self._ends and self._ends[0][0] < now:
            _, old, of = self._ends.popleft()
            self._seen.discard(old)
            self._of_domain[of] -= 1
            if not self._of_domain[of]:
                del self._of_domain[of]
        cseq = signed.cseq
        parts = (signed.call_id, b"%d" % cseq.number, cseq.method.encode(), signed.from_.tag)
        key = hashlib.blake2s(b"\0".join(parts), digest_size=16).digest()
        if key in self._seen:
            raise StaleError("replayed: this message was here before")
        if len(self._seen) >= _MAX_SEEN or self._of_domain[domain] >= _MAX_OF_DOMAIN:
            raise StaleError("too many messages to remember; try again later")
        self._seen.add(key)
        # Its Date is at most so far ahead, and then it would still be taken so long after.
        self._ends.append((now + 2 * WINDOW_S, key, domain))
        self._of_domain[domain] += 1
