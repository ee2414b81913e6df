"""Session timers (RFC 4028): a call ends by itself when the peer is gone without a word.

Whoever refreshes sends a re-INVITE or UPDATE in time; whoever does not hangs up when none has come. We ask the other
side to do it, and refresh ourselves where that can't be had: where the peer knows nothing of session timers and a
proxy on the way wants one, or where the peer insists.
"""

from sipwire.grammar import split_list

from .demand import call

__all__ = ["LEAST_S", "TIMER", "SessionTimer", "options"]

TIMER = b"timer"  # the option tag
LEAST_S = 90  # section 5: no interval is shorter; else 422
_INTERVAL_S = 1800  # section 4: what is recommended
_TIMING = "terminal.timing"


def options(message, key):
    """The option tags under ``key``, in lower case: Require, Supported."""
    return [tag.lower() for value in message.get_all(key) for tag in split_list(value, b",") if tag]


class SessionTimer:
    """The session timer of one call after the other.

    Attributes:
        interval_s, min_s: what we ask for, and the least that we have been told.
        raised: how often we have asked for more.
        is_ours: whether we refresh.
        refresh_at: when a refresh of ours is due, or None.
        end_at: when to hang up unless a refresh comes, or None.
    """

    def __init__(self):
        self.begin()

    def begin(self):
        """Another call: ask for our interval."""
        self.interval_s = _INTERVAL_S
        self.min_s = LEAST_S
        self.raised = 0
        self.is_ours = False  # whether we refresh
        self.refresh_at = self.end_at = None

    def ask(self, request):
        """Add what an INVITE or re-INVITE of ours says of the timer: keep it as it is."""
        if self.interval_s:
            # Of a request, uac is us and uas the peer.
            side = b"uac" if self.is_ours else b"uas"
            request.add("Session-Expires", b"%d;refresher=%s" % (self.interval_s, side))
        if self.min_s > LEAST_S:
            request.add("Min-SE", b"%d" % self.min_s)

    def lengthen(self, response):
        """Take a 422: ask for what it says (section 7.4).

        Returns:
            False where it says nothing that we have not asked for.
        """
        return call(_TIMING, "lengthen", self, response)

    def accept(self, response, now):
        """Take a 2xx to a request of ours (section 7.2): no timer without a Session-Expires that can be read."""
        call(_TIMING, "accept", self, response, now)

    def check(self, request):
        """Check an INVITE or UPDATE of the peer's.

        Raises:
            Refusal: 422, its interval is too small (section 9).
            ParseError: it is malformed.
        """
        options(request, "supported")  # malformed, it has to show now: nobody catches that when a user answers
        if request.get("session-expires") is not None:
            call(_TIMING, "check", self, request)

    def answer(self, request, response, now):
        """Start as a request of the peer's asks, which `check` has passed, and say so in the 2xx to it (section 9)."""
        call(_TIMING, "answer", self, request, response, now)
