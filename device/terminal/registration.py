"""Registration with the neighbour, and the security agreement made with it (WIRE sections 1.1 and 1.4).

    WAITING --time--> ASKING --401--> PROVING --200 in a frame of the new agreement--> REGISTERED
       ^                |               |                                                |  refresh: REGISTER in a frame
       +----- back-off, on anything else, or no answer ----------------------------------+  keep-alive: empty frames

The terminal believes nobody but who knows its secret: not a plain 200, not a wrong ``rspauth``, not a 200 with another
Contact or Expires than it asked for. It answers one challenge per REGISTER and never a second one with the same nonce.
"""

from sipwire.compat import const
from sipwire.errors import ParseError, SecurityError
from sipwire.transaction import TIMEOUT

from .demand import call
from .useragent import token

__all__ = ["ASKING", "PROVING", "REGISTERED", "WAITING", "Registration"]

WAITING = "waiting"
ASKING = "asking"
PROVING = "proving"
REGISTERED = "registered"

_MISSED_KEEPALIVES = const(3)  # unanswered ones in a row until the neighbour counts as lost
_AGAIN_MS = const(5000)  # until a step is tried again that failed for want of memory
_LOST_MS = const(40000)  # longer than a transaction lasts: its end was missed, for want of memory
_REGISTERING = "terminal.registering"


class Registration:
    """Keeps the terminal registered. Here is what it remembers; its steps are in `registering`.

    Args:
        config: the terminal's.
        agent: sends requests.
        link: the hop.
        contact: our Contact URI, as bytes.
        now: milliseconds; registration begins at once.
        calendar: a `clock.Calendar`, which learns from the neighbour what time it is.

    Attributes:
        config, agent, link, contact, calendar: likewise.
        state: one of the names above.
        call_id, tag, cseq: of the last REGISTER.
        expires_s: what we ask for.
        memo: of our proof, to check the neighbour's; None before.
        is_framed: whether this step goes in a frame.
        is_stale: whether a nonce was too old already.
        failures: in a row.
        at: when to register or refresh, None for never.
        beat_at: when to send a keep-alive, None for never.
    """

    def __init__(self, config, agent, link, contact, now, calendar):
        self.config = config
        self.agent = agent
        self.link = link
        self.contact = contact
        self.calendar = calendar
        self.state = WAITING
        self.call_id = token()
        self.tag = token(4)
        self.cseq = self.failures = 0
        self.expires_s = config.expires_s
        self.memo = None
        self.is_framed = self.is_stale = False
        self.at = now
        self.beat_at = None
        self._missed = 0

    @property
    def timer_at(self):
        """The next deadline, or None after `unregister`."""
        if self.beat_at is None or self.at is None:
            return self.at if self.beat_at is None else self.beat_at
        return min(self.at, self.beat_at)

    def handle_timer(self, now):
        """Register, refresh or send a keep-alive when it is due."""
        if self.at is not None and now >= self.at:
            self.at = now + _AGAIN_MS  # whatever comes of it
            call(_REGISTERING, "begin", self, now)
        if self.beat_at is not None and now >= self.beat_at:
            self._missed += 1
            if self._missed > _MISSED_KEEPALIVES:
                call(_REGISTERING, "fail", self, "neighbour lost", now)
            else:
                self.beat_at = now + 1000 * self.config.keepalive_s
                self.agent.outgoing.append(self.link.seal(b""))

    def heard(self):
        """A valid frame came: the neighbour lives."""
        self._missed = 0

    def unregister(self, now):
        """Take the binding back."""
        if self.state == REGISTERED:
            self.stop()
            call(_REGISTERING, "take_back", self, now)
            self.at = None

    def stop(self):
        """We are not registered any more."""
        self.state = WAITING
        self.beat_at = None
        self._missed = 0

    def send(self, request, now, plain):
        """Send a REGISTER; what comes of it is the next step."""
        request.add("Content-Length", b"0")
        number = self.cseq

        def answered(event, how, now):
            # Else it belongs to an attempt that was given up, or to the taking back of the binding.
            if number == self.cseq and self.state != WAITING:
                self._answered(event, how, now)

        self.agent.request(request, now, answered, plain)
        self.at = now + _LOST_MS

    def _answered(self, event, how, now):
        try:
            if event == TIMEOUT:
                raise SecurityError("no answer")
            if event.status >= 200:
                self.at = now + _AGAIN_MS
                call(_REGISTERING, "go_on", self, event, how, now)
        except (ParseError, SecurityError) as error:
            call(_REGISTERING, "fail", self, str(error), now)
