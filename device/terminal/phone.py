"""One call at a time: the states of a phone (RFC 3261 sections 13 to 15).

    IDLE --dial--> CALLING --200--> TALKING --hang up or BYE--> IDLE
           INVITE --> RINGING --answer--> ANSWERED --ACK--> TALKING
                                             |
    CALLING --cancel--> CANCELLING --487--> IDLE; a 200 that crosses the CANCEL is ACKed and followed by BYE

An INVITE may ring in several places: each that answers it provisionally with a tag is an early dialog, and who sends
speech already is heard. The first that answers it finally has the call.

A call that stands may be changed by either side: on hold and back, to another address, or not at all where only its
session timer is refreshed. We do that by re-INVITE, and take re-INVITE and UPDATE. One change at a time: 491 says so.

Media is SRTP or there is no call. While one call lives every other INVITE is answered 486.

Memory may run out anywhere. So a state begins when all that it needs is made, its timers run until the next one has
begun, and a call that ends is forgotten before anything is said about it.
"""

from os import urandom

from sipwire.compat import const
from sipwire.dialog import Dialog
from sipwire.errors import ParseError
from sipwire.transaction import PROCEEDING, T1_MS, T2_MS, TIMEOUT, cancel_for

from . import forks
from .addressing import outset, target_of
from .byes import Byes
from .change import Change
from .demand import call
from .events import emit
from .negotiation import SDP, Negotiation, content_type
from .sessiontimer import TIMER, SessionTimer, options
from .trust import Trust
from .useragent import ALLOW, UNKNOWN, Refusal, token

__all__ = ["IDLE", "RINGING", "Phone"]

IDLE = "idle"
_CALLING = "calling"
_CANCELLING = "cancelling"
RINGING = "ringing"
_ANSWERED = "answered"
_TALKING = "talking"

_RING_MS = const(180000)  # nobody answers for so long: 480 to a caller, CANCEL to who is called
_MAX_EXPIRES_S = const(0xFFFFFFFF)  # section 20.19
_OK = "OK"
# What the answer to an INVITE is made of.
_KEPT = ("via", "from", "to", "call-id", "cseq", "record-route", "session-expires", "supported", "require")


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
        trust: see `trust.Trust`.
        state: one of the names above.
        peer: the other party's URI, b"" where there is none.
    """

    def __init__(self, config, agent, contact, address, media, calendar):
        self._config = config
        self._agent = agent
        self._contact = contact
        self._media = media
        self.trust = Trust(config, calendar)
        self._session = Negotiation(config, address, self.trust, media)
        self._timer = SessionTimer()
        self._change = Change(agent)
        self._serial = 0  # of the calls, and of the INVITEs that begin one
        self._byes = Byes(agent, self.trust)
        self._reset()

    def _reset(self):
        self._serial += 1
        self.state = IDLE
        self.peer = b""
        self._dialog = None
        self._forks = []  # early dialogs of our call
        self._heard = None  # tag of the fork whose early media is heard
        self._outset = None  # of our call
        self._invite = None  # the INVITE's transaction
        self._body = b""  # what to answer the INVITE with
        self._agreed = self._proof = None  # what that agrees on, and what shows that it is ours
        self._local_tag = b""
        self._ok = self._repeat_at = self._end_at = None  # our 2xx, until its ACK
        self._repeat_ms = self._since = 0
        self._can_cancel = False
        self._leaving = None  # why, where it ends with the ACK
        self.trust.begin()
        self._session.begin()
        self._timer.begin()
        self._change.begin()

    @property
    def timer_at(self):
        """The next deadline, or None."""
        at = None
        for one in (self._end_at, self._repeat_at, self._change.at, self._timer.end_at):
            if one is not None and (at is None or one < at):
                at = one
        return at

    def handle_timer(self, now):
        """Do what is due: repeat a 2xx that no ACK has come for, refresh, or give up."""
        if self._end_at is not None and now >= self._end_at:
            if self.state == RINGING and self._end_at - self._since < _RING_MS:
                self._decline(487, "Request Terminated", "nobody answered", now)  # its Expires: section 13.3.1
            elif self.state == RINGING:
                self._decline(480, "Temporarily Unavailable", "nobody answered", now)
            elif self.state == _CALLING:
                self.hang_up(now)
            elif self.state == _CANCELLING:
                # "If there is no final response ... in 64*T1 seconds, the client SHOULD consider the original
                # transaction cancelled and SHOULD destroy the client transaction" (section 9.1).
                self._agent.abandon(self._invite)
                self._ended("cancelled", now)
            else:
                # "If the server retransmits the 2xx response for 64*T1 seconds without receiving an ACK, the dialog is
                # confirmed, but the session SHOULD be terminated. This is accomplished with a BYE." (section 13.3.1.4)
                self._bye("no ACK", now)
        elif self._repeat_at is not None and now >= self._repeat_at:
            self._repeat_ms = min(2 * self._repeat_ms, T2_MS)
            self._repeat_at = now + self._repeat_ms
            self._agent.respond(self._invite, self._ok, now)
        elif self._timer.end_at is not None and now >= self._timer.end_at:
            self._bye("session expired", now)
        elif self._change.at is not None and now >= self._change.at:
            self._reinvite(now)

    # Commands.

    def dial(self, target, now):
        """Call a URI, or a user of our own domain.

        Args:
            target: see `addressing.target_of`.
            now: milliseconds.
        """
        uri = target_of(target, self._config.domain)
        if self.state != IDLE or uri is None:
            emit("refused", command="call", reason="malformed URI" if uri is None else "busy")
            return
        self._reset()  # there may be something of an attempt that there was no memory for
        self._agent.forget_served()
        self._outset = outset(self._config, uri)
        self.trust.choose(uri, now)
        self._session.offer()
        self._send_invite(now)
        self.state = _CALLING
        self.peer = uri
        self._since = now
        self._end_at = now + _RING_MS
        emit("calling", peer=uri)

    def _send_invite(self, now):
        request = self._outset.new_request("INVITE")
        self._finish(request)
        self._timer.ask(request)
        request.set_body(SDP, self._session.offered)
        self.trust.ask(request, now)
        self._can_cancel = False
        self._serial += 1
        serial = self._serial

        def invited(event, _, now):
            self._invited(serial == self._serial, event, now)

        self._invite = self._agent.request(request, now, invited)

    def answer(self, now):
        """Take the call that rings."""
        if self.state != RINGING:
            emit("refused", command="answer", reason="nobody calls")
            return
        request = self._invite.request
        response = request.response(200, _OK, self._local_tag)
        for value in request.get_all("record-route"):
            response.add("Record-Route", value)
        self._finish(response)
        response.set_body(SDP, self._body)
        self._timer.answer(request, response, now)
        if self._proof:
            response.add("Setup-Key", self._proof)
        if self._agreed:
            try:
                self._session.apply(self._agreed, now)
                self.trust.remember(self._agreed.remote_key, self._agreed.local_key)
            except (MemoryError, OSError, ValueError) as error:
                self._decline(500, "Server Internal Error", "media: %s" % error, now)
                return
        self._dialog.confirmed = True
        self.state = _ANSWERED
        self._change.refresh(self._timer.refresh_at)
        self._answer_with(self._invite, response, now)

    def _answer_with(self, transaction, response, now):
        """Send a 2xx to an INVITE, until its ACK comes."""
        self._ok = response
        self._invite = transaction
        self._repeat_ms = T1_MS
        self._repeat_at = now + T1_MS
        self._end_at = now + 64 * T1_MS
        self._agent.respond(transaction, response, now)

    def reject(self, now):
        """Decline the call that rings."""
        if self.state == RINGING:
            self._decline(603, "Decline", "rejected", now)
        else:
            emit("refused", command="reject", reason="nobody calls")

    def hang_up(self, now, reason="hung up"):
        """End the call, whatever state it is in; ``reason`` is told of one that stands."""
        if self.state == RINGING:
            self.reject(now)
        elif self.state == _ANSWERED:
            # "The callee's UA MUST NOT send a BYE on a confirmed dialog until it has received an ACK" (section 15).
            self._leaving = reason
            self._media.stop()
            emit("leaving", reason=reason)
        elif self.state == _TALKING:
            self._bye(reason, now)
        elif self.state == _CALLING:
            self.state = _CANCELLING
            self._end_at = now + 64 * T1_MS
            self._media.stop()
            self._cancel(now)
        elif self.state == IDLE:
            emit("refused", command="hangup", reason="no call")

    def hold(self, is_held, now):
        """Put the peer on hold, or take it back. What fails is told; until then the microphone is off as asked."""
        command = "hold" if is_held else "resume"
        session, change = self._session, self._change
        is_busy = change.asked or change.transaction
        if self.state != _TALKING or is_busy or session.is_held == is_held:
            emit("refused", command=command, reason="busy" if is_busy else "not now")
            return
        session.is_held = is_held
        change.ask(command, now)
        session.apply(session.agreed, now)

    def move(self, contact, address, now):
        """The network was gone, and is there again: a call that stands goes on, from another address if need be."""
        is_same, self._contact = contact == self._contact, contact
        self._session.address = address
        if self.state == _TALKING:
            if not is_same:
                self._change.move(now)
        elif self.state == RINGING:
            self._decline(480, "Temporarily Unavailable", "network lost", now)
        elif self.state != IDLE:
            self._ended("network lost", now)

    # The caller's side.

    def _invited(self, current, event, now):
        """A response to an INVITE that begins a call, or `TIMEOUT`; ``current`` is False when its call is over."""
        status = 408 if event == TIMEOUT else event.status
        if 200 <= status < 300:
            self._accepted(current, event, now)
        elif not current:
            pass
        elif status < 200:
            due = self.state == _CANCELLING and not self._can_cancel
            self._can_cancel = True
            if due:
                self._cancel(now)
            elif status > 100 and self.state == _CALLING:
                is_heard = self._hear(event, now)
                if status >= 180:
                    emit("progress", status=status, media=is_heard)
        elif status == 422 and self.state == _CALLING and self._timer.lengthen(event):
            self._send_invite(now)
        elif status in (428, 488) and self.state == _CALLING and self.trust.kid:
            # It does not know our key, or of such keys at all (WIRE section 4.1).
            self._forks = []
            self.trust.refuse()
            self._session.offer()
            self._send_invite(now)
        elif event == TIMEOUT:
            self._failed(408, "no answer", None)
        else:
            self._failed(status, event.reason, event.get("warning"))

    def _cancel(self, now):
        # "If no provisional response has been received, the CANCEL request MUST NOT be sent" (section 9.1).
        if self._can_cancel and self._invite.request:
            self._agent.request(cancel_for(self._invite.request), now, _ignore)

    def _hear(self, response, now):
        """Take an early dialog, and the speech that comes before anybody has answered.

        Returns:
            True where there is some, else None. The microphone stays off.
        """
        try:
            forks.add(self._forks, response)
            if content_type(response) == SDP and response.body:
                session = self._session
                self.trust.accept(response, now)
                session.apply(session.accept(response.body), now, False)
                self._heard = response.to.tag
                return True
        except (OSError, ParseError, ValueError):
            pass  # what can't be used now may be said again in the 2xx, which counts
        return None

    def _accepted(self, current, response, now):
        """A 2xx: the first, the same again, that of another fork, or one that crosses our CANCEL or BYE."""
        dialog = self._dialog if current else None
        tag = response.to.tag
        number = response.cseq.number
        if dialog is not None and tag == dialog.remote_tag:
            self._agent.send(dialog.new_ack(number))
            return
        if (dialog is not None or not current) and self._agent.is_full:
            return  # without an ACK it ends by itself
        try:
            fork = Dialog.as_caller(response)
            self._agent.send(fork.new_ack(number))
        except ParseError:
            if dialog is None and current:
                self._failed(502, "unusable answer", None)
            return
        if dialog is None and current and self._byes.is_over(fork):
            self._ended("peer hung up", now)  # its BYE was quicker
        elif dialog is not None or self.state != _CALLING or not current:
            self._byes.send(fork, now)
            if current and dialog is None:
                self._ended("cancelled", now)
        else:
            forks.go_on(self._forks, fork)
            self._dialog = fork
            self._forks = []
            self._answered(response, now)

    def _failed(self, status, reason, warning):
        cancelled = self.state == _CANCELLING
        try:
            self._media.stop()
        finally:
            self._reset()
        if cancelled:
            emit("ended", reason="cancelled")
        else:
            emit("failed", status=status, reason=reason, warning=warning)

    # The callee's side.

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
            call("terminal.asides", "take", self._agent, self.trust, transaction, request, now)
        elif self.state == IDLE:
            self._ring(transaction, request, now)
        elif self._dialog is not None and self._dialog.call_id == request.call_id:
            raise Refusal(482, "Loop Detected")  # merged, section 8.2.2.2
        else:
            raise Refusal(486, "Busy Here")

    def _handle_within(self, transaction, request, now):
        """Take a request within a dialog."""
        agent = self._agent
        method = request.method
        for dialog in [self._dialog] if self._dialog else self._forks:
            if dialog.matches(request):
                break
        else:
            # Both have hung up at the same time: RFC 5407 section 3.2.1.
            if method != "BYE" or not self._byes.is_of(request):
                raise Refusal(481, UNKNOWN)
            agent.reject(transaction, 200, _OK, now)
            return
        before = dialog.remote_cseq
        if not dialog.receive(request):
            raise Refusal(500, "CSeq Out Of Order")
        if method == "BYE":
            try:
                key = None
                if dialog is self._dialog and self.state == _TALKING:
                    key = self.trust.take_bye(request, now)
                agent.reject(transaction, 200, _OK, now, key and "Setup-Key", key)
            finally:  # its repetition would be out of order
                if dialog is self._dialog:
                    self._peer_hung_up(now)
                else:
                    # It has answered our call, and hung up; its 200 is late.
                    self._byes.remember(dialog)
                    self._forks.remove(dialog)
            return
        try:
            if method == "INVITE" or method == "UPDATE":
                self._modify(transaction, request, dialog, now)
            elif method == "INFO":
                call("terminal.texting", "take_digit", agent, transaction, request, now)
            else:
                call("terminal.asides", "take", self._agent, self.trust, transaction, request, now)
        except MemoryError:
            dialog.remote_cseq = before  # its repetition may fare better
            raise

    def _ring(self, transaction, request, now):
        """A new call: check it, make ready to answer, and ring."""
        self._reset()
        self._agent.forget_served()  # what is left of the call before would lie between the parts of this one
        tag = token(4)
        lasts_s = request.uint("expires", _MAX_EXPIRES_S)
        trust = self.trust
        body, agreed, proof = self._read_offer(request, now)
        dialog = Dialog.as_callee(request, tag)
        dialog.new_ack(0)  # a route set of no use shows now, not when a BYE is to be sent
        peer = request.from_
        response = request.response(180, "Ringing", tag)
        for value in request.get_all("record-route"):
            response.add("Record-Route", value)
        self._finish(response)
        # The request has been read, and lives as long as its transaction.
        request.body = b""
        request.fields = [field for field in request.fields if field[0] in _KEPT]
        # Its user hears of it before its caller does: what is told may be larger than the answer. Where there is no
        # memory for that the call has not come, and may when it is repeated.
        emit("incoming", peer=peer.uri, name=peer.display or None, by=trust.by, verified=trust.verified)
        try:
            self._agent.respond(transaction, response, now)
        except MemoryError:
            emit("ended", reason="no memory")
            raise
        self.state = RINGING
        trust.unheard = b""
        self.peer = peer.uri
        self._dialog = dialog
        self._invite = transaction
        self._body = body
        self._agreed = agreed
        self._proof = proof
        self._local_tag = tag
        self._since = now
        self._end_at = now + (_RING_MS if lasts_s is None else min(1000 * lasts_s, _RING_MS))

    def _read_offer(self, request, now):
        """What to answer an INVITE or UPDATE with, see `Negotiation.read`, and our Setup-Key or None."""
        self._timer.check(request)
        self.trust.take(request, now)
        body, agreed = self._session.read(request)
        return body, agreed, self.trust.answer(request, body)

    def _modify(self, transaction, request, dialog, now):
        """Take a re-INVITE (section 14.2), or an UPDATE (RFC 3311 section 5.2): change the session, or refresh it."""
        agent, session = self._agent, self._session
        is_invite = request.method == "INVITE"
        body = b""
        response = request.response(200, _OK)
        self._finish(response)
        if is_invite or request.body:
            if self.state == RINGING:
                # "... MUST return a 500 ... and MUST include a Retry-After header field with a randomly chosen value of
                # between 0 and 10 seconds."
                raise Refusal(500, "Not Now", "Retry-After", b"%d" % (urandom(1)[0] % 11))
            is_pending = self._change.transaction or (self._ok and session.offered)
            if dialog is not self._dialog or is_pending or self._leaving:
                # "A UAS that receives an INVITE on a dialog while an INVITE it had sent on that dialog is in progress
                # MUST return a 491"; so it is for offers.
                raise Refusal(491, "Request Pending")
            answered = session.answered
            body, agreed, proof = self._read_offer(request, now)
            if proof:
                response.add("Setup-Key", proof)
            if agreed:
                try:
                    session.apply(agreed, now)
                except (OSError, ValueError) as error:
                    session.answered = answered
                    raise Refusal(500, "media: %s" % error)
            response.set_body(SDP, body)
        else:
            self._timer.check(request)
        if dialog is self._dialog and self.state != RINGING:
            self._timer.answer(request, response, now)
            self._change.refresh(self._timer.refresh_at)
        if is_invite:
            self._answer_with(transaction, response, now)
        else:
            agent.respond(transaction, response, now)

    def handle_ack(self, request, now):
        """The ACK to our 2xx: the peer has what it needs to hear us."""
        ok = self._ok
        if ok is None or request.cseq.number != ok.cseq.number or not self._dialog.matches(request):
            return
        if self._leaving:
            self._bye(self._leaving, now)
        elif self._session.offered:
            self._answered(request, now)
        else:
            self._connected(now)

    def tag_of(self, transaction):
        """Our To tag in the answers to an INVITE, None where it has none yet, or is over."""
        return self._local_tag if transaction is self._invite else None

    def handle_cancel(self, transaction, now):
        """The CANCEL of an INVITE that has no final response yet."""
        if self.state == RINGING and transaction is self._invite:
            self._decline(487, "Request Terminated", "cancelled by the caller", now)

    def _decline(self, status, phrase, reason, now):
        invite, tag = self._invite, self._local_tag
        try:
            self._ended(reason, now)
        finally:
            self._agent.reject(invite, status, phrase, now, tag=tag)

    # Both sides.

    def _reinvite(self, now):
        """Offer the session as it should be now: on hold or not, from where we are; that refreshes it, too."""
        change, dialog = self._change, self._dialog
        if change.transaction:
            change.abandon()
            self._bye("no answer", now)
            return
        change.put_off(now)
        if self._ok:
            return  # section 14.1: not before its ACK
        request = dialog.new_request("INVITE")
        self._finish(request)
        self._timer.ask(request)
        request.set_body(SDP, self._session.offer(False))
        self.trust.ask(request, now)
        change.send(request, dialog, self._changed, now)

    def _changed(self, status, event, now):
        """The final response to our re-INVITE, or `TIMEOUT`."""
        session, timer, change = self._session, self._timer, self._change
        if status < 300:
            change.settle()
            timer.accept(event, now)
            change.refresh(timer.refresh_at)
            self._answered(event, now)
            return
        session.offered = None
        if status == 422 and timer.lengthen(event):
            change.at = now
        elif status == 491:
            change.yield_to(self._outset is not None, now)
        elif status in (408, 481):
            self._bye("no answer" if status == 408 else "peer is gone", now)  # section 12.2.1.2
        else:
            asked = change.settle()
            at = timer.refresh_at
            change.refresh(None if at is None else max(at, now + 64 * T1_MS))
            if asked:
                session.is_held = not session.is_held
                emit("refused", command=asked, reason="%d" % status)
                session.apply(session.agreed, now)

    def _answered(self, message, now):
        """The answer to our offer, in a 2xx or an ACK: talk, or hang up where it can't be used."""
        session = self._session
        try:
            agreed = session.agreed
            if message.body or not agreed or self._heard != message.to.tag:
                self.trust.accept(message, now)
                agreed = session.accept(message.body)
            session.apply(agreed, now)
            if self.state != _TALKING:
                self.trust.remember(agreed.local_key, agreed.remote_key)
        except ParseError as error:
            self._bye(error.reason, now)
        except (MemoryError, OSError, ValueError) as error:
            self._bye("media: %s" % error, now)
        else:
            session.offered = None
            if self.state == _CALLING:
                self._timer.accept(message, now)
                self._change.refresh(self._timer.refresh_at)
            self._connected(now)

    def _connected(self, now):
        self._media.go(now)
        self._ok = self._repeat_at = self._end_at = None
        if self.state != _TALKING:
            self.state = _TALKING
            setup_ms = now - self._since
            self._since = now
            self._body = b""
            self._agreed = self._heard = None
            trust, suite = self.trust, self._session.agreed.suite
            emit("connected", peer=self.peer, setup_ms=setup_ms, suite=suite, by=trust.by, verified=trust.verified)

    def _bye(self, reason, now):
        dialog, made = self._dialog, None
        try:
            if self.state == _TALKING:
                made = self._byes.make(dialog, now)
        finally:
            try:
                self._ended(reason, now)
            finally:
                self._byes.send(dialog, now, made)

    def _peer_hung_up(self, now):
        if self.state == RINGING:
            self._decline(487, "Request Terminated", "peer hung up", now)
        else:
            self._ended("peer hung up", now)

    def _ended(self, reason, now):
        talked_ms = now - self._since if self.state == _TALKING else None
        for left in (self._invite, self._change.transaction):
            if left and left.state == PROCEEDING and left.end_at is None:
                left.end_at = now + 64 * T1_MS  # nobody else would forget it
        try:
            statistics = self._media.stop()
        finally:
            self._reset()
        emit("ended", reason=reason, talked_ms=talked_ms, media=statistics)

    def _finish(self, message):
        """The headers that an INVITE, an UPDATE and their answers share."""
        message.add("Contact", b"<%s>" % self._contact)
        message.add("Allow", ALLOW)
        message.add("Supported", TIMER)


def _ignore(event, how, now):
    """Whatever answers a CANCEL, the call is over."""
