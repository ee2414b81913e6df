"""Requests that are of no call, or ask nothing of it: what we can do, texts, keys, and all that we do not do.

Loaded on demand: for each of them.
"""

from sipwire.introduction import SETUP_KEYS

from .demand import call
from .negotiation import SDP, content_type
from .sessiontimer import TIMER
from .useragent import ALLOW, UNKNOWN, Refusal, token

__all__ = ["take"]


def take(agent, trust, transaction, request, now):
    """Take a request that is no INVITE, and no UPDATE, INFO or BYE within a call.

    Args:
        agent: sends responses.
        trust: a `trust.Trust`.
        transaction: of the request.
        request: the request.
        now: milliseconds.

    Raises:
        ParseError, Refusal: as it is to be answered.
    """
    method = request.method
    if method == "OPTIONS":
        response = request.response(200, "OK", token(4))
        response.add("Allow", ALLOW)
        response.add("Accept", SDP)
        response.add("Supported", TIMER)
        agent.respond(transaction, response, now)
    elif method == "MESSAGE":
        if request.get("setup-key") is not None:
            call("terminal.revoking", "take_revocation", trust, agent, transaction, request, now)
        elif content_type(request) == SETUP_KEYS:
            call("terminal.introductions", "take", trust, agent, transaction, request, now)
        else:
            call("terminal.texting", "take_text", agent, transaction, request, now)
    elif method in ("BYE", "UPDATE", "INFO", "NOTIFY", "PRACK"):
        raise Refusal(481, UNKNOWN)  # it is of something that is not there
    elif method in ("REGISTER", "REFER", "SUBSCRIBE", "PUBLISH"):
        raise Refusal(405, "Method Not Allowed", "Allow", ALLOW)
    else:
        raise Refusal(501, "Not Implemented", "Allow", ALLOW)
