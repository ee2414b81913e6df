"""One target of a request, and what has become of it; see `fork`.

pending --passed--> its time is over: cancelled where that may be, and the next group does not wait for it
   |        |
   +--------+--ended--> with a verdict, or with nothing to say
   `--silent--> another way is tried beside it; it is pending again as soon as something comes of it
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from sipwire.message import Response

    from .agent.security import Sent
    from .transactions import Client
    from .ways import Way

__all__ = ["MAX_BREADTH", "Branch"]

MAX_BREADTH = 60  # RFC 5393 section 5.3.3: branches of a request that pend at a time, here and behind us; more is 440


@dataclass(eq=False, slots=True)
class Branch:
    """One target, and what has become of it.

    Attributes:
        ways: still to be tried.
        breadth: its share of Max-Breadth.
        way: the one that is tried.
        client: its transaction.
        ringing: whether a provisional response has come, so that it may be cancelled.
        cancel_sent: whether it has been.
        passed: whether its time is over. What it answers counts all the same.
        reasons: why, for Reason headers in its CANCEL (RFC 3326).
        ended: whether nobody waits for it any more. It may still be under way then, and what comes of it counts.
        before: whose silence it was made for, see `Fork._silent`.
        final: its own final response, None before.
        verdict: what counts when the best response is chosen, None where nothing does.
        local: whether that answer is ours.
        sent: how the request was protected that went over a trunk, None for one to a phone of ours.
        plain: why it goes without S/MIME, see `policy.Status`.
        asked_again: whether it was sent once more with another certificate, or without S/MIME.
        hung_up: whether a call has been ended that it made.
        refused: whether its answer has failed a check: nothing that comes of it is passed on.
        heard_at: loop time of its last news, for Timer C.
    """

    ways: "list[Way]"
    breadth: int = MAX_BREADTH
    way: "Way | None" = None
    client: "Client | None" = None
    ringing: bool = False
    cancel_sent: bool = False
    passed: bool = False
    ended: bool = False
    before: "Branch | None" = None
    reasons: "list[bytes]" = field(default_factory=list)
    final: "Response | None" = None
    verdict: "Response | None" = None
    local: bool = False
    sent: "Sent | None" = None
    plain: str = ""
    asked_again: bool = False
    refused: bool = False
    hung_up: bool = False
    heard_at: float = 0.0
    timers: "list[asyncio.TimerHandle]" = field(default_factory=list)

    @property
    def is_pending(self) -> bool:
        """Whether the search waits for it."""
        return not (self.ended or self.passed)

    def stop(self) -> None:
        """Stop its timers."""
        for timer in self.timers:
            timer.cancel()
        self.timers.clear()
