"""One call at a time: the states of a phone (RFC 3261 sections 13 to 15).

    IDLE --dial--> CALLING --200--> TALKING --hang up or BYE--> IDLE
           INVITE --> RINGING --answer--> ANSWERED --ACK--> TALKING
                                             |
    CALLING --cancel--> CANCELLING --487--> IDLE; a 200 that crosses the CANCEL is ACKed and followed by BYE

An INVITE may ring in several places: each that answers it provisionally with a tag is an early dialog, and who sends
speech already is heard. The first that answers it finally has the call.

A call that stands may be changed by either side: on hold and back, to another address, or not at all where only its
session timer is refreshed. We do that by re-INVITE, and take re-INVITE and UPDATE. One change at a time: 491 says so.

Whether media has to be SRTP is the configuration's ``srtp`` to say, and `negotiation`'s to see to. While one call lives
every other INVITE is answered 486.

What begins a call is in `calling` and `called`, what changes one in `changing`: they are loaded for it, and the heap
has the room again while people talk. They know this class from inside.

Memory may run out anywhere. So a state begins when all that it needs is made, its timers run until the next one has
begun, and a call that ends is forgotten before anything is said about it.
"""

from os import urandom

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.transaction import PROCEEDING, T1_MS, T2_MS, TIMEOUT, cancel_for

from .byes import Byes
from .change import Change
from .demand import call
from .events import emit
from .negotiation import SDP, Negotiation
from .sessiontimer import TIMER, SessionTimer, options
from .trust import Trust
from .useragent import ALLOW, UNKNOWN, Refusal

__all__ = ["ANSWERED", "CALLING", "CANCELLING", "IDLE", "OK", "RINGING", "RING_MS", "TALKING", "Phone"]

IDLE = "idle"
CALLING = "calling"
CANCELLING = "cancelling"
RINGING = "ringing"
ANSWERED = "answered"
TALKING = "talking"

_RENEW_MS = const(4000)
_MAX_RENEW_MS = const(600000)
RING_MS = const(180000)  # nobody answers for so long: 480 to a caller, CANCEL to who is called
OK = "OK"


class Phone:
    """The call states.

    Args:
        config: the terminal's.
        agent: sends requests and responses.
        contact: our Contact URI, as bytes.
        address: our numeric address for media, as bytes.
        media: see `negotiation.Negotiation`.
        calendar: a `clock.Calendar`.

    Attributes:
        config, agent, contact, media: likewise.
        trust: see `trust.Trust`.
        session, timer, change, byes: the parts of a call.
        state: one of the names above.
        peer: the other party's URI, b"" where there is none.
        since: when the state began, or the call.
        end_at, repeat_at: when it is to end, when our 2xx is to be repeated, or None.

    What `reset` names is the present call's.
    """

    def __init__(self, config, agent, contact, address, media, calendar):
        self.config = config
        self.agent = agent
        self.contact = contact
        self.media = media
        self.trust = Trust(config, calendar)
        self.session = Negotiation(config, address, self.trust, media)
        self.timer = SessionTimer()
        self.change = Change(agent)
        self.serial = 0  # of the calls, and of the INVITEs that begin one
        self.byes = Byes(agent, self.trust)
        self.reset()

    def reset(self):
        """Forget the call."""
        self.serial += 1
        self.state = IDLE
        self.peer = b""
        self.dialog = None
        self.forks = []  # early dialogs of our call
        self.heard = None  # tag of the fork whose early media is heard
        self.outset = None  # of our call
        self.invite = None  # the INVITE's transaction
        self.body = b""  # what to answer the INVITE with
        self.agreed = self.proof = None  # what that agrees on, and what shows that it is ours
        self.local_tag = b""
        self.ok = self.repeat_at = self.end_at = None  # our 2xx, until its ACK
        self.repeat_ms = self.since = self.renew_ms = self.renew_at = 0
        self.can_cancel = False
        self.leaving = None  # why, where it ends with the ACK
        self.trust.begin()
        self.session.begin()
        self.timer.begin()
        self.change.begin()

    @property
    def timer_at(self):
        """The next deadline, or None."""
        at = None
        for one in (self.end_at, self.repeat_at, self.change.at, self.timer.end_at):
            if one is not None and (at is None or one < at):
                at = one
        return at

    def handle_timer(self, now):
        """Do what is due: repeat a 2xx that no ACK has come for, refresh, or give up."""
        if self.end_at is not None and now >= self.end_at:
            call("terminal.calling", "expire", self, now)
        elif self.repeat_at is not None and now >= self.repeat_at:
            self.repeat_ms = min(2 * self.repeat_ms, T2_MS)
            self.repeat_at = now + self.repeat_ms
            self.agent.respond(self.invite, self.ok, now)
        elif self.timer.end_at is not None and now >= self.timer.end_at:
            self.bye("session expired", now)
        elif self.change.at is not None and now >= self.change.at:
            call("terminal.changing", "reinvite", self, now)

    # Commands.

    def dial(self, target, now):
        """Call a URI, or a user of our own domain: see `calling.dial`."""
        call("terminal.calling", "dial", self, target, now)

    def answer(self, now):
        """Take the call that rings."""
        if self.state != RINGING:
            emit("refused", command="answer", reason="nobody calls")
            return
        self.media.quiet()  # it rings no more
        try:
            # Before anything else is made: it takes the most room.
            if self.agreed:
                self.session.apply(self.agreed, now)
                self.trust.remember(self.agreed[0].remote_key, self.agreed[0].local_key)
        except (MemoryError, OSError, ValueError) as error:
            self.decline(500, "Server Internal Error", "media: %s" % error, now)
        else:
            call("terminal.called", "answer", self, now)

    def answer_with(self, transaction, response, now):
        """Send a 2xx to an INVITE, until its ACK comes."""
        self.ok = response
        self.invite = transaction
        self.repeat_ms = T1_MS
        self.repeat_at = now + T1_MS
        self.end_at = now + 64 * T1_MS
        self.agent.respond(transaction, response, now)

    def reject(self, now):
        """Decline the call that rings."""
        if self.state == RINGING:
            self.decline(603, "Decline", "rejected", now)
        else:
            emit("refused", command="reject", reason="nobody calls")

    def hang_up(self, now, reason="hung up"):
        """End the call, whatever state it is in; ``reason`` is told of one that stands."""
        if self.state == RINGING:
            self.reject(now)
        elif self.state == ANSWERED:
            # "The callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an ACK" (section 15).
            self.leaving = reason
            self.media.stop()
            emit("leaving", reason=reason)
        elif self.state == TALKING:
            self.bye(reason, now)
        elif self.state == CALLING:
            self.state = CANCELLING
            self.end_at = now + 64 * T1_MS
            self.media.stop()
            self.cancel(now)
        elif self.state == IDLE:
            emit("refused", command="hangup", reason="no call")

    def hold(self, is_held, now):
        """Put the peer on hold, or take it back."""
        call("terminal.changing", "hold", self, is_held, now)

    def move(self, contact, address, now):
        """The network was gone, and is there again."""
        call("terminal.changing", "move", self, contact, address, now)

    def watch(self):
        """Who takes the responses to the INVITE that is sent now; those to others are of calls that are over."""
        self.serial += 1
        serial = self.serial

        def invited(event, _, now):
            self._invited(serial == self.serial, event, now)

        return invited

    def _invited(self, current, event, now):
        if current and event != TIMEOUT and event.status == 100 and self.state == CALLING:
            self.can_cancel = True
        elif call("terminal.calling", "take", self, current, event, now):
            self.answered(event, now)

    def cancel(self, now):
        """Send the CANCEL of our INVITE, as soon as that may be."""
        # "If no provisional response has been received, the CANCEL request MUST NOT be sent" (section 9.1).
        if self.can_cancel and self.invite.request:
            self.agent.request(cancel_for(self.invite.request), now, _ignore)

    def changed(self, status, event, now):
        """The final response to our re-INVITE, or `TIMEOUT`."""
        if call("terminal.changing", "changed", self, status, event, now):
            self.answered(event, now)

    def renew(self, now):
        """Offer another key for what we send, before ours is used up; who has refused is asked more and more seldom."""
        session = self.session
        if self.state == TALKING and not (self.change.asked or self.change.transaction):
            if not session.renews:
                self.renew_ms = _RENEW_MS
            elif now < self.renew_at:
                return
            session.renews = True
            self.renew_at = now + self.renew_ms
            self.renew_ms = min(2 * self.renew_ms, _MAX_RENEW_MS)
            self.change.at = now

    # Requests.

    def handle_request(self, transaction, request, now):
        """Take a request that is no ACK and no CANCEL.

        Raises:
            ParseError, Refusal: as it is to be answered.
        """
        unknown = [option for option in options(request, "require") if option != TIMER]
        if unknown:
            raise Refusal(420, "Bad Extension", "Unsupported", b", ".join(unknown))
        if request.to.tag:
            self._handle_within(transaction, request, now)
        elif request.method != "INVITE":
            call("terminal.asides", "take", self.agent, self.trust, transaction, request, now)
        elif self.state == IDLE:
            call("terminal.called", "ring", self, transaction, request, now)
        elif self.dialog is not None and self.dialog.call_id == request.call_id:
            raise Refusal(482, "Loop Detected")  # merged, section 8.2.2.2
        else:
            raise Refusal(486, "Busy Here")

    def _handle_within(self, transaction, request, now):
        """Take a request within a dialog."""
        agent = self.agent
        method = request.method
        for dialog in [self.dialog] if self.dialog else self.forks:
            if dialog.matches(request):
                break
        else:
            # Both have hung up at the same time: RFC 5407 section 3.2.1.
            if method != "BYE" or not self.byes.is_of(request):
                raise Refusal(481, UNKNOWN)
            agent.reject(transaction, 200, OK, now)
            return
        before = dialog.remote_cseq
        if not dialog.receive(request):
            raise Refusal(500, "CSeq Out Of Order")
        if method == "BYE":
            try:
                key = None
                if dialog is self.dialog and self.state == TALKING:
                    self.media.quiet()
                    key = self.trust.take_bye(request, now)
                agent.reject(transaction, 200, OK, now, key and "Setup-Key", key)
            finally:  # its repetition would be out of order
                if dialog is self.dialog:
                    self._peer_hung_up(now)
                else:
                    # It has answered our call, and hung up; its 200 is late.
                    self.byes.remember(dialog)
                    self.forks.remove(dialog)
            return
        try:
            if method == "INVITE" or method == "UPDATE":
                self._modify(transaction, request, dialog, now)
            elif method == "INFO":
                call("terminal.texting", "take_digit", agent, transaction, request, now)
            else:
                call("terminal.asides", "take", self.agent, self.trust, transaction, request, now)
        except MemoryError:
            dialog.remote_cseq = before  # its repetition may fare better
            raise

    def read_offer(self, request, now):
        """What to answer an INVITE or UPDATE with, see `Negotiation.read`, and our Setup-Key or None."""
        self.timer.check(request)
        self.trust.take(request, now)
        body, agreed = self.session.read(request)
        return body, agreed, self.trust.answer(request, body)

    def _modify(self, transaction, request, dialog, now):
        """Take a re-INVITE (section 14.2), or an UPDATE (RFC 3311 section 5.2): change the session, or refresh it."""
        agent, session = self.agent, self.session
        is_invite = request.method == "INVITE"
        body = b""
        response = request.response(200, OK)
        self.finish(response)
        if is_invite or request.body:
            if self.state == RINGING:
                # "... MUST return a 500 ... and MUST include a Retry-After header field with a randomly chosen value of
                # between 0 and 10 seconds."
                raise Refusal(500, "Not Now", "Retry-After", b"%d" % (urandom(1)[0] % 11))
            is_pending = self.change.transaction or (self.ok and session.offered)
            if dialog is not self.dialog or is_pending or self.leaving:
                # "A UAS that receives an INVITE on a dialog while an INVITE it had sent on that dialog is in progress
                # MUST return a 491"; so it is for offers.
                raise Refusal(491, "Request Pending")
            places = session.places
            body, agreed, proof = self.read_offer(request, now)
            if proof:
                response.add("Setup-Key", proof)
            if agreed:
                try:
                    session.apply(agreed, now)
                except MemoryError:
                    session.places = places
                    raise
                except (OSError, ValueError) as error:
                    session.places = places
                    raise Refusal(500, "media: %s" % error)
            response.set_body(SDP, body)
        else:
            self.timer.check(request)
        if dialog is self.dialog and self.state != RINGING:
            self.timer.answer(request, response, now)
            self.change.refresh(self.timer.refresh_at)
        if is_invite:
            self.answer_with(transaction, response, now)
        else:
            agent.respond(transaction, response, now)
            if body:
                self.media.go(now)  # no ACK will tell that the peer has our keys

    def handle_ack(self, request, now):
        """The ACK to our 2xx: the peer has what it needs to hear us."""
        ok = self.ok
        if ok is None or request.cseq.number != ok.cseq.number or not self.dialog.matches(request):
            return
        if self.leaving:
            self.bye(self.leaving, now)
        elif self.session.offered:
            self.answered(request, now)
        else:
            self._connected(now)

    def tag_of(self, transaction):
        """Our To tag in the answers to an INVITE, None where it has none yet, or is over."""
        return self.local_tag if transaction is self.invite else None

    def handle_cancel(self, transaction, now):
        """The CANCEL of an INVITE that has no final response yet."""
        if self.state == RINGING and transaction is self.invite:
            self.decline(487, "Request Terminated", "cancelled by the caller", now)

    def decline(self, status, phrase, reason, now):
        """Refuse the call that rings: with a status and its phrase to the caller, and a reason to its user."""
        invite, tag = self.invite, self.local_tag
        try:
            self.ended(reason, now)
        finally:
            self.agent.reject(invite, status, phrase, now, tag=tag)

    # Both sides.

    def answered(self, message, now):
        """The answer to our offer, in a 2xx or an ACK: talk, or hang up where it can't be used."""
        session = self.session
        try:
            agreed = session.agreed
            if message.body or not agreed or self.heard != message.to.tag:
                self.trust.accept(message, now)
                agreed = session.accept(message.body)
            session.apply(agreed, now)
            if self.state != TALKING:
                self.trust.remember(agreed[0].local_key, agreed[0].remote_key)
        except ParseError as error:
            self.bye(error.reason, now)
        except (MemoryError, OSError, ValueError) as error:
            self.bye("media: %s" % error, now)
        else:
            session.offered = None
            if self.state == CALLING:
                self.timer.accept(message, now)
                self.change.refresh(self.timer.refresh_at)
            self._connected(now)

    def _connected(self, now):
        self.media.go(now)
        self.ok = self.repeat_at = self.end_at = None
        if self.state != TALKING:
            self.state = TALKING
            setup_ms = now - self.since
            self.since = now
            self.body = b""
            self.agreed = self.heard = None
            trust, suite = self.trust, self.session.agreed[0].suite
            emit("connected", peer=self.peer, setup_ms=setup_ms, suite=suite, by=trust.by, verified=trust.verified)

    def bye(self, reason, now):
        """End the call, and tell the other side."""
        dialog, made = self.dialog, None
        self.media.quiet(now)
        try:
            if self.state == TALKING:
                made = self.byes.make(dialog, now)
        finally:
            try:
                self.ended(reason, now)
            finally:
                self.byes.send(dialog, now, made)

    def _peer_hung_up(self, now):
        if self.state == RINGING:
            self.decline(487, "Request Terminated", "peer hung up", now)
        else:
            self.ended("peer hung up", now)

    def ended(self, reason, now):
        """The call is over; say why."""
        talked_ms = now - self.since if self.state == TALKING else None
        for left in (self.invite, self.change.transaction):
            if left and left.state == PROCEEDING and left.end_at is None:
                left.end_at = now + 64 * T1_MS  # nobody else would forget it
        try:
            statistics = self.media.stop()
        finally:
            self.reset()
        emit("ended", reason=reason, talked_ms=talked_ms, media=statistics)

    def finish(self, message):
        """The headers that an INVITE, an UPDATE and their answers share."""
        message.add("Contact", b"<%s>" % self.contact)
        message.add("Allow", ALLOW)
        message.add("Supported", TIMER)


def _ignore(event, how, now):
    """Whatever answers a CANCEL, the call is over."""
