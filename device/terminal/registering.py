"""The steps of a registration (WIRE sections 1.1 and 1.4): what is sent, and what becomes of the answers.

Loaded on demand: every few minutes. `registration.Registration` has what they work on.
"""

from os import urandom

from sipwire.compat import const
from sipwire.errors import SecurityError
from sipwire.message import Request

from .demand import call
from .events import emit
from .registration import ASKING, PROVING, REGISTERED, WAITING

__all__ = ["begin", "fail", "go_on", "take_back"]

_BACKOFF_MS = const(1000)  # after the first failure; doubled up to the limit, and spread by up to a half
_MAX_BACKOFF_MS = const(60000)
_MAX_EXPIRES_S = const(86400)
_MAX_RETRY_S = const(3600)


def begin(one, now):
    """Register, or refresh.

    Args:
        one: a `registration.Registration`.
        now: milliseconds.
    """
    if one.state == REGISTERED and not one.link.wants_rekey:
        one.send(_introduced(one, _request(one, one.expires_s), now), now, False)
    else:
        _ask(one, now)


def take_back(one, now):
    """Take the binding back."""
    one.send(_request(one, 0), now, False)


def _introduced(one, request, now):
    """The same REGISTER, with those whom we want keys with (WIRE section 4.3)."""
    if one.config.setup["peers"]:
        seconds = one.calendar.seconds(now)
        wanted = call("terminal.introductions", "wanted", one.config, seconds)
        if wanted:
            request.add("Setup-Peers", wanted)
    return request


def _request(one, expires_s):
    config = one.config
    one.cseq += 1
    request = Request("REGISTER", b"sip:" + config.domain)
    request.add("Max-Forwards", b"70")
    request.add("From", b"<%s>;tag=%s" % (config.aor, one.tag))
    request.add("To", b"<%s>" % config.aor)
    request.add("Call-ID", one.call_id)
    request.add("CSeq", b"%d REGISTER" % one.cseq)
    request.add("Contact", b"<%s>" % one.contact)
    request.add("Expires", b"%d" % expires_s)
    return request


def _ask(one, now):
    """Step 1; in a frame where an agreement is to be replaced."""
    one.is_framed = one.state == REGISTERED
    one.state = ASKING
    one.link.propose()
    one.send(_secured(one), now, not one.is_framed)


def _secured(one):
    request = _request(one, one.expires_s)
    request.add("Require", b"sec-agree")
    request.add("Proxy-Require", b"sec-agree")
    request.add("Security-Client", one.link.offer)
    return request


def _prove(one, response, now):
    """Step 3."""
    request = _secured(one)
    nonce, server, spi, authorization, one.memo = call("terminal.proof", "prove", one.config, response, request.uri)
    one.link.prepare(one.config, nonce, server, spi)
    request.add("Authorization", authorization)
    request.add("Security-Verify", server)
    one.state = PROVING
    one.send(request, now, not one.is_framed)


def go_on(one, response, how, now):
    """Take a final response.

    Raises:
        ParseError, SecurityError: it is none to go on with.
    """
    status = response.status
    if status == 200 and one.state != ASKING:
        _registered(one, response, how, now)
    elif status == 401 and one.state == ASKING:
        _prove(one, response, now)
    elif status == 401 and not one.is_stale and call("terminal.proof", "is_stale", one.config, response):
        one.is_stale = True  # once: a nonce that is too old again and again is somebody's game
        one.state = REGISTERED if one.is_framed else WAITING
        _ask(one, now)
    elif status == 423 and response.uint("min-expires", _MAX_EXPIRES_S):
        one.expires_s = max(one.expires_s, response.uint("min-expires", _MAX_EXPIRES_S))
        raise SecurityError("423")
    else:
        retry_s = response.get("retry-after") or b""
        retry_s = retry_s.split(b";")[0].split(b"(")[0].strip()
        if retry_s.isdigit() and len(retry_s) < 6:
            fail(one, str(status), now, min(int(retry_s), _MAX_RETRY_S))
        else:
            raise SecurityError(str(status))


def _registered(one, response, how, now):
    if one.state == PROVING:
        if how != "pending":
            raise SecurityError("200 without a frame")
        call("terminal.proof", "check", one.config, one.memo, response)
    granted = _granted(one, response)
    if granted != one.expires_s:
        # Somebody on the way changed what we asked for, or the neighbour grants less: ask for just that, in the
        # open.
        if granted is not None and 0 < granted < one.expires_s:
            one.expires_s = granted
        raise SecurityError("Contact or Expires differ")
    is_new = one.state == PROVING
    if is_new:
        one.link.accept(now)
        one.beat_at = now + 1000 * one.config.keepalive_s
    seconds = call("terminal.dating", "seconds", response.get("date") or b"")
    if seconds is not None:
        one.calendar.set(seconds, now)
    if response.body:
        call("terminal.introductions", "registered", one.config, response.body, seconds)
    one.state = REGISTERED
    one.failures = 0
    one.is_stale = False
    # Refresh in the second half of the life of the registration, at a time of our own.
    one.at = now + granted * 500 + int.from_bytes(urandom(2), "big") * granted * 300 // 65536
    if is_new:
        if one.config.setup["peers"]:
            one.at = now  # what began plain could not ask for keys
        emit("registered", aor=one.config.aor, expires_s=granted)


def _granted(one, response):
    """The seconds that our Contact is bound for, by the response; None where it is not bound."""
    for contact in response.addresses("contact"):
        if contact.uri == one.contact:
            expires = contact.param("expires") or response.get("expires") or b""
            return int(expires) if expires.isdigit() and len(expires) < 10 else None
    return None


def fail(one, reason, now, wait_s=0):
    """Not registered: try again later, and ever later."""
    wait_ms = min(_BACKOFF_MS << min(one.failures, 10), _MAX_BACKOFF_MS)
    wait_ms = max(wait_ms, 1000 * wait_s)
    wait_ms += int.from_bytes(urandom(2), "big") * (wait_ms >> 1) // 65536
    one.at = now + wait_ms
    one.stop()
    one.link.close()
    one.failures += 1
    one.is_stale = False
    emit("unregistered", reason=reason, retry_ms=wait_ms)
