"""Registration with the neighbour, and the security agreement made with it (WIRE sections 1.1 and 1.4).

    WAITING --time--> ASKING --401--> PROVING --200 in a frame of the new agreement--> REGISTERED
       ^                |               |                                                |  refresh: REGISTER in a frame
       +----- back-off, on anything else, or no answer ----------------------------------+  keep-alive: empty frames

The terminal believes nobody but who knows its secret: not a plain 200, not a wrong ``rspauth``, not a 200 with another
Contact or Expires than it asked for. It answers one challenge per REGISTER and never a second one with the same nonce.
"""

from os import urandom

from sipwire.compat import const
from sipwire.errors import ParseError, SecurityError
from sipwire.message import Request
from sipwire.transaction import TIMEOUT

from .demand import call
from .events import emit
from .useragent import token

__all__ = ["Registration"]

_WAITING = "waiting"
_ASKING = "asking"
_PROVING = "proving"
_REGISTERED = "registered"

_BACKOFF_MS = const(1000)  # after the first failure; doubled up to the limit, and spread by up to a half
_MAX_BACKOFF_MS = const(60000)
_MISSED_KEEPALIVES = const(3)  # unanswered ones in a row until the neighbour counts as lost
_MAX_EXPIRES_S = const(86400)
_MAX_RETRY_S = const(3600)
_AGAIN_MS = const(5000)  # until a step is tried again that failed for want of memory
_LOST_MS = const(40000)  # longer than a transaction lasts: its end was missed, for want of memory


class Registration:
    """Keeps the terminal registered.

    Args:
        config: the terminal's.
        agent: sends requests.
        link: the hop.
        contact: our Contact URI, as bytes.
        now: milliseconds; registration begins at once.

    Attributes:
        state: one of the names above.
        date: the neighbour's Date header as of the last registration, or None.
    """

    def __init__(self, config, agent, link, contact, now):
        self._config = config
        self._agent = agent
        self._link = link
        self.contact = contact
        self.state = _WAITING
        self.date = None
        self._call_id = token()
        self._tag = token(4)
        self._cseq = 0
        self._expires_s = config.expires_s
        self._memo = None  # of our proof, to check the neighbour's
        self._framed = False
        self._stale = False
        self._failures = 0
        self._at = now  # when to register or refresh
        self._beat_at = None
        self._missed = 0

    @property
    def timer_at(self):
        """The next deadline, or None after `unregister`."""
        if self._beat_at is None or self._at is None:
            return self._at if self._beat_at is None else self._beat_at
        return min(self._at, self._beat_at)

    def handle_timer(self, now):
        """Register, refresh or send a keep-alive when it is due."""
        if self._at is not None and now >= self._at:
            self._at = now + _AGAIN_MS  # whatever comes of it
            if self.state == _REGISTERED and not self._link.wants_rekey:
                self._send(self._request(self._expires_s), now, False)
            else:
                self._ask(now)
        if self._beat_at is not None and now >= self._beat_at:
            self._missed += 1
            if self._missed > _MISSED_KEEPALIVES:
                self._fail("neighbour lost", now)
            else:
                self._beat_at = now + 1000 * self._config.keepalive_s
                self._agent.outgoing.append(self._link.seal(b""))

    def heard(self):
        """A valid frame came: the neighbour lives."""
        self._missed = 0

    def unregister(self, now):
        """Take the binding back."""
        if self.state == _REGISTERED:
            self._stop()
            self._send(self._request(0), now, False)
            self._at = None

    def _stop(self):
        self.state = _WAITING
        self._beat_at = None
        self._missed = 0

    def _request(self, expires_s):
        config = self._config
        self._cseq += 1
        request = Request("REGISTER", b"sip:" + config.domain)
        request.add("Max-Forwards", b"70")
        request.add("From", b"<%s>;tag=%s" % (config.aor, self._tag))
        request.add("To", b"<%s>" % config.aor)
        request.add("Call-ID", self._call_id)
        request.add("CSeq", b"%d REGISTER" % self._cseq)
        request.add("Contact", b"<%s>" % self.contact)
        request.add("Expires", b"%d" % expires_s)
        return request

    def _send(self, request, now, plain):
        request.add("Content-Length", b"0")
        number = self._cseq

        def answered(event, how, now):
            # Else it belongs to an attempt that was given up, or to the taking back of the binding.
            if number == self._cseq and self.state != _WAITING:
                self._answered(event, how, now)

        self._agent.request(request, now, answered, plain)
        self._at = now + _LOST_MS

    def _ask(self, now):
        """Step 1; in a frame where an agreement is to be replaced."""
        self._framed = self.state == _REGISTERED
        self.state = _ASKING
        self._link.propose()
        self._send(self._secured(), now, not self._framed)

    def _secured(self):
        request = self._request(self._expires_s)
        request.add("Require", b"sec-agree")
        request.add("Proxy-Require", b"sec-agree")
        request.add("Security-Client", self._link.offer)
        return request

    def _prove(self, response, now):
        """Step 3."""
        request = self._secured()
        nonce, server, spi, authorization, self._memo = call(
            "terminal.proof", "prove", self._config, response, request.uri
        )
        self._link.prepare(self._config, nonce, server, spi)
        request.add("Authorization", authorization)
        request.add("Security-Verify", server)
        self.state = _PROVING
        self._send(request, now, not self._framed)

    def _answered(self, event, how, now):
        try:
            if event == TIMEOUT:
                raise SecurityError("no answer")
            if event.status >= 200:
                self._at = now + _AGAIN_MS
                self._final(event, how, now)
        except (ParseError, SecurityError) as error:
            self._fail(str(error), now)

    def _final(self, response, how, now):
        status = response.status
        if status == 200 and self.state != _ASKING:
            self._registered(response, how, now)
        elif status == 401 and self.state == _ASKING:
            self._prove(response, now)
        elif status == 401 and not self._stale and call("terminal.proof", "is_stale", self._config, response):
            self._stale = True  # once: a nonce that is too old again and again is somebody's game
            self.state = _REGISTERED if self._framed else _WAITING
            self._ask(now)
        elif status == 423 and response.uint("min-expires", _MAX_EXPIRES_S):
            self._expires_s = max(self._expires_s, response.uint("min-expires", _MAX_EXPIRES_S))
            raise SecurityError("423")
        else:
            retry_s = response.get("retry-after") or b""
            retry_s = retry_s.split(b";")[0].split(b"(")[0].strip()
            if retry_s.isdigit() and len(retry_s) < 6:
                self._fail(str(status), now, min(int(retry_s), _MAX_RETRY_S))
            else:
                raise SecurityError(str(status))

    def _registered(self, response, how, now):
        if self.state == _PROVING:
            if how != "pending":
                raise SecurityError("200 without a frame")
            call("terminal.proof", "check", self._config, self._memo, response)
        granted = self._granted(response)
        if granted != self._expires_s:
            # Somebody on the way changed what we asked for, or the neighbour grants less: ask for just that, in the
            # open.
            if granted is not None and 0 < granted < self._expires_s:
                self._expires_s = granted
            raise SecurityError("Contact or Expires differ")
        is_new = self.state == _PROVING
        if is_new:
            self._link.accept(now)
            self._beat_at = now + 1000 * self._config.keepalive_s
        self.date = response.get("date")
        self.state = _REGISTERED
        self._failures = 0
        self._stale = False
        # Refresh in the second half of the life of the registration, at a time of our own.
        self._at = now + granted * 500 + int.from_bytes(urandom(2), "big") * granted * 300 // 65536
        if is_new:
            emit("registered", aor=self._config.aor, expires_s=granted)

    def _granted(self, response):
        """The seconds that our Contact is bound for, by the response; None where it is not bound."""
        for contact in response.addresses("contact"):
            if contact.uri == self.contact:
                expires = contact.param("expires") or response.get("expires") or b""
                return int(expires) if expires.isdigit() and len(expires) < 10 else None
        return None

    def _fail(self, reason, now, wait_s=0):
        """Not registered: try again later, and ever later."""
        wait_ms = min(_BACKOFF_MS << min(self._failures, 10), _MAX_BACKOFF_MS)
        wait_ms = max(wait_ms, 1000 * wait_s)
        wait_ms += int.from_bytes(urandom(2), "big") * (wait_ms >> 1) // 65536
        self._at = now + wait_ms
        self._stop()
        self._link.close()
        self._failures += 1
        self._stale = False
        emit("unregistered", reason=reason, retry_ms=wait_ms)
