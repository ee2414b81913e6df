"""Session timers (RFC 4028): a call ends by itself when the peer is gone without a word.

Whoever refreshes sends a re-INVITE or UPDATE in time; whoever does not hangs up when none has come. We ask the other
side to do it, and refresh ourselves where that can't be had: where the peer knows nothing of session timers and a
proxy on the way wants one, or where the peer insists.
"""

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.grammar import get_param, parse_params, parse_uint, split_list

from .useragent import Refusal

__all__ = ["TIMER", "SessionTimer", "options"]

TIMER = b"timer"  # the option tag
_MIN_S = const(90)  # section 5: no interval is shorter; else 422
_INTERVAL_S = const(1800)  # section 4: what is recommended
_MAX_S = const(0x7FFFFFFF)
_MAX_RAISED = const(4)  # a call is tried anew so often for a 422; then it has failed


def options(message, key):
    """The option tags under ``key``, in lower case: Require, Supported."""
    return [tag.lower() for value in message.get_all(key) for tag in split_list(value, b",") if tag]


class SessionTimer:
    """The session timer of one call after the other.

    Attributes:
        refresh_at: when a refresh of ours is due, or None.
        end_at: when to hang up unless a refresh comes, or None.
    """

    def __init__(self):
        self.begin()

    def begin(self):
        """Another call: ask for our interval."""
        self._interval_s = _INTERVAL_S
        self._min_s = _MIN_S
        self._raised = 0
        self._ours = False  # whether we refresh
        self.refresh_at = self.end_at = None

    def ask(self, request):
        """Add what an INVITE or re-INVITE of ours says of the timer: keep it as it is."""
        if self._interval_s:
            # Of a request, uac is us and uas the peer.
            side = b"uac" if self._ours else b"uas"
            request.add("Session-Expires", b"%d;refresher=%s" % (self._interval_s, side))
        if self._min_s > _MIN_S:
            request.add("Min-SE", b"%d" % self._min_s)

    def lengthen(self, response):
        """Take a 422: ask for what it says (section 7.4).

        Returns:
            False where it says nothing that we have not asked for.
        """
        value = response.get("min-se") or b""
        least = int(value) if value.isdigit() and len(value) < 11 else 0
        if least <= self._interval_s or self._raised == _MAX_RAISED:
            return False
        self._raised += 1
        self._interval_s = self._min_s = least
        return True

    def accept(self, response, now):
        """Take a 2xx to a request of ours (section 7.2): no timer without a Session-Expires that can be read."""
        try:
            seconds, side = _expires(response)
        except ParseError:
            seconds = side = 0
        self._start(seconds, side == b"uac", now)

    def check(self, request):
        """Check an INVITE or UPDATE of the peer's.

        Raises:
            Refusal: 422, its interval is too small (section 9).
            ParseError: it is malformed.
        """
        knows = _knows(request)  # malformed, it has to show now: nobody catches that when a user answers
        if _expires(request)[0] < _MIN_S and knows and request.get("session-expires") is not None:
            raise Refusal(422, "Session Interval Too Small", "Min-SE", b"%d" % _MIN_S)

    def answer(self, request, response, now):
        """Start as a request of the peer's asks, which `check` has passed, and say so in the 2xx to it (section 9)."""
        seconds, side = _expires(request)
        knows = _knows(request)
        if seconds < _MIN_S:
            seconds = 0  # a proxy's idea, and the peer does not know of it: nobody minds
        # Table 2: the peer's wish holds; who knows nothing of timers can't refresh.
        ours = side == b"uas" or not knows
        if seconds:
            response.add("Session-Expires", b"%d;refresher=%s" % (seconds, b"uas" if ours else b"uac"))
            if knows:
                response.add("Require", TIMER)
        self._start(seconds, ours, now)

    def _start(self, seconds, ours, now):
        if seconds:
            seconds = max(seconds, _MIN_S)  # "MUST NOT set it lower": nobody makes us refresh all the time
        self._interval_s = seconds
        self._ours = ours
        self.refresh_at = self.end_at = None
        if seconds and ours:
            self.refresh_at = now + 500 * seconds
            self.end_at = now + 1000 * seconds
        elif seconds:
            # Section 10: "a BYE ... slightly before the session expiration. The minimum of 32 seconds and one third of
            # the session interval is RECOMMENDED."
            self.end_at = now + 1000 * seconds - min(32000, 1000 * seconds // 3)


def _knows(request):
    """Whether the peer supports session timers."""
    return TIMER in options(request, "supported") + options(request, "require")


def _expires(message):
    """(seconds, refresher) of Session-Expires; (0, None) where there is none."""
    value = message.get("session-expires")
    if value is None:
        return 0, None
    parts = split_list(value, b";")
    side = get_param(parse_params(parts[1:]), "refresher")
    return parse_uint(parts[0], _MAX_S, "Session-Expires"), side and side.lower()
