"""Session timers in messages (RFC 4028): what a response or a request of the peer's says of them.

Loaded on demand: when a call begins and when it is refreshed. `sessiontimer.SessionTimer` has what they work on.
"""

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.grammar import get_param, parse_params, parse_uint, split_list

from .sessiontimer import LEAST_S, TIMER, options
from .useragent import Refusal

__all__ = ["accept", "answer", "check", "lengthen"]

_MAX_S = const(0x7FFFFFFF)
_MAX_RAISED = const(4)  # a call is tried anew so often for a 422; then it has failed


def lengthen(timer, response):
    """Take a 422: ask for what it says (section 7.4).

    Returns:
        False where it says nothing that we have not asked for.
    """
    value = response.get("min-se") or b""
    least = int(value) if value.isdigit() and len(value) < 11 else 0
    if least <= timer.interval_s or timer.raised == _MAX_RAISED:
        return False
    timer.raised += 1
    timer.interval_s = timer.min_s = least
    return True


def accept(timer, response, now):
    """Take a 2xx to a request of ours (section 7.2): no timer without a Session-Expires that can be read."""
    try:
        seconds, side = _expires(response)
    except ParseError:
        seconds = side = 0
    _start(timer, seconds, side == b"uac", now)


def check(timer, request):
    """Check an INVITE or UPDATE of the peer's.

    Raises:
        Refusal: 422, its interval is too small (section 9).
        ParseError: it is malformed.
    """
    if _expires(request)[0] < LEAST_S and _knows(request):
        raise Refusal(422, "Session Interval Too Small", "Min-SE", b"%d" % LEAST_S)


def answer(timer, request, response, now):
    """Start as a request of the peer's asks, which `check` has passed, and say so in the 2xx to it (section 9)."""
    seconds, side = _expires(request)
    knows = _knows(request)
    if seconds < LEAST_S:
        seconds = 0  # a proxy's idea, and the peer does not know of it: nobody minds
    # Table 2: the peer's wish holds; who knows nothing of timers can't refresh.
    ours = side == b"uas" or not knows
    if seconds:
        response.add("Session-Expires", b"%d;refresher=%s" % (seconds, b"uas" if ours else b"uac"))
        if knows:
            response.add("Require", TIMER)
    _start(timer, seconds, ours, now)


def _start(timer, seconds, ours, now):
    if seconds:
        seconds = max(seconds, LEAST_S)  # "MUST NOT set it lower": nobody makes us refresh all the time
    timer.interval_s = seconds
    timer.is_ours = ours
    timer.refresh_at = timer.end_at = None
    if seconds and ours:
        timer.refresh_at = now + 500 * seconds
        timer.end_at = now + 1000 * seconds
    elif seconds:
        # Section 10: "a BYE ... slightly before the session expiration. The minimum of 32 seconds and one third of
        # the session interval is RECOMMENDED."
        timer.end_at = now + 1000 * seconds - min(32000, 1000 * seconds // 3)


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
