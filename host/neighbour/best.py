"""Which of several answers goes back (RFC 3261 section 16.7 steps 6 and 7).

    6xx  >  3xx  >  4xx  >  5xx          a 2xx never comes here
            |        |       `- 503 last: somebody else may have failed for a reason
            |        `- first what tells the caller what to do differently, last who was only not there
            `- the contacts of all of them together

Of equals the first one wins, in the order in which branches were made.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipwire.message import Response

__all__ = ["best_response"]

# "SHOULD give preference to responses that provide information affecting resubmission of this request"
_INFORMATIVE = (401, 407, 415, 420, 484)
# ... and these say least. A caller who has cancelled wants to hear of that, so 487 is the first of them.
_LEAST = (487, 408, 430, 503)
_CHALLENGES = (401, 407)
_CHALLENGE_KEYS = ("www-authenticate", "proxy-authenticate")
_GATHERED = (300, 301, 302)  # 305 and 380 mean something else by their contacts


def best_response(ends: "list[tuple[Response, bool]]") -> "Response | None":
    """The answer to forward, made complete by what others said; None where nobody said anything.

    Args:
        ends: final responses other than 2xx, each with whether it is our own.
    """
    if not ends:
        return None
    best, is_ours = min(ends, key=_rank)
    others = [response for response, _ in ends if response is not best]
    if best.status in _CHALLENGES:
        # "the proxy MUST collect any WWW-Authenticate and Proxy-Authenticate header field values from all other 401
        # (Unauthorized) and 407 (Proxy Authentication Required) responses received so far"
        for other in others:
            if other.status in _CHALLENGES:
                best.fields += [field for field in other.fields if field[0] in _CHALLENGE_KEYS]
    elif best.status in _GATHERED:
        _gather(best, [other for other in others if other.status in _GATHERED])
    elif best.status == 503 and not is_ours:
        # "A proxy which receives a 503 ... SHOULD NOT forward" it: it is the next hop that is out of service, not we.
        best.status, best.reason = 500, b"Server Internal Error"
    elif best.status == 430:
        # RFC 5626 section 11.5: "Endpoints should never receive a 430". Every flow to the phone has failed.
        best.status, best.reason = 480, b"Temporarily Unavailable"
    return best


def _rank(end: "tuple[Response, bool]") -> tuple[int, int]:
    """The lower the better."""
    status = end[0].status
    family = status // 100
    if status in _LEAST:
        order = len(_INFORMATIVE) + 1 + _LEAST.index(status)
    else:
        order = _INFORMATIVE.index(status) if status in _INFORMATIVE else len(_INFORMATIVE)
    return (0 if family == 6 else family, order)


def _gather(best: "Response", others: "list[Response]") -> None:
    """Give a redirection the contacts of others: each of them is where somebody wants to be called."""
    known = {line for key, line in best.fields if key == "contact"}
    for other in others:
        for key, line in other.fields:
            if key == "contact" and line not in known:
                known.add(line)
                best.fields.append((key, line))
        if other.status != best.status:
            # What one of them calls permanent must not become of all.
            best.status, best.reason = 300, b"Multiple Choices"
