"""One call at a time: the states of a phone (RFC 3261 sections 13 to 15).

    IDLE --dial--> CALLING --200--> TALKING --hang up or BYE--> IDLE
           INVITE --> RINGING --answer--> ANSWERED --ACK--> TALKING
                                             |
    CALLING --cancel--> CANCELLING --487--> IDLE; a 200 that crosses the CANCEL is ACKed and followed by BYE

Media is SRTP or there is no call. While one call lives every other INVITE is answered 486.

Memory may run out anywhere. So a state begins when all that it needs is made, its timers run until the next one has
begun, and a call that ends is forgotten before anything is said about it.
"""

from os import urandom

from sipwire.compat import const
from sipwire.crypto import Crypto
from sipwire.dialog import Dialog
from sipwire.errors import ParseError
from sipwire.grammar import split_list
from sipwire.headers import Address
from sipwire.message import Request
from sipwire.sdp import Session, accept_answer, make_answer, make_offer
from sipwire.srtp import SUITES
from sipwire.transaction import T1_MS, T2_MS, TIMEOUT, cancel_for
from sipwire.uri import Uri

from .events import emit
from .useragent import ALLOW, token

__all__ = ["IDLE", "RINGING", "Phone"]

IDLE = "idle"
_CALLING = "calling"
_CANCELLING = "cancelling"
RINGING = "ringing"
_ANSWERED = "answered"
_TALKING = "talking"

_SDP = b"application/sdp"
_RING_MS = const(180000)  # nobody answers for so long: 480 to a caller, CANCEL to who is called
_SUITES = (b"AES_CM_128_HMAC_SHA1_80", b"AES_CM_128_HMAC_SHA1_32")  # preferred first
_OK = "OK"
_KNOWN = "UPDATE INFO MESSAGE REGISTER PRACK REFER NOTIFY SUBSCRIBE PUBLISH"  # known, not served: 405, else 501


class Phone:
    """The call states.

    Args:
        config: the terminal's.
        agent: sends requests and responses.
        contact: our Contact URI, as bytes.
        address: our numeric address for media, as bytes.
        media: ``start(agreed, now)``, ``go(now)`` when the peer is ready to hear us, ``stop()`` which returns
            statistics.

    Attributes:
        state: one of the names above.
        peer: the other party's URI, b"" where there is none.
    """

    def __init__(self, config, agent, contact, address, media):
        self._config = config
        self._agent = agent
        self._contact = contact
        self._address = address
        self._media = media
        self._serial = 0  # of the calls we make
        self._reset()

    def _reset(self):
        self.state = IDLE
        self.peer = b""
        self._dialog = None
        self._invite = None  # the INVITE's transaction
        self._offer = None
        self._agreed = None
        self._local_tag = b""
        self._ok = None  # our 2xx, until its ACK
        self._repeat_at = self._end_at = None
        self._repeat_ms = 0
        self._since = 0
        self._can_cancel = False
        self._leaving = None  # why, where it ends with the ACK

    @property
    def timer_at(self):
        """The next deadline, or None."""
        if self._repeat_at is None:
            return self._end_at
        return self._repeat_at if self._end_at is None else min(self._repeat_at, self._end_at)

    def handle_timer(self, now):
        """Repeat a 2xx that no ACK has come for, or give up ringing."""
        if self._end_at is not None and now >= self._end_at:
            if self.state == RINGING:
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

    # Commands.

    def dial(self, target, now):
        """Call a URI, or a user of our own domain.

        Args:
            target: ``sip:bob@b.example``, ``bob@b.example`` or ``bob``, as text.
            now: milliseconds.
        """
        if self.state != IDLE:
            emit("refused", command="call", reason="busy")
            return
        uri = target.encode()
        if b":" not in uri.partition(b"@")[0]:  # else that of a port
            uri = b"sip:" + uri
        if b"@" not in uri:
            uri += b"@" + self._config.domain
        try:
            parsed = Uri.parse(uri)
            if not parsed.is_sip or parsed.headers:
                raise ParseError("URI")
        except ParseError:
            emit("refused", command="call", reason="malformed URI")
            return
        keys = [Crypto.make(i + 1, name, _new_key(name)) for i, name in enumerate(_SUITES)]
        offer = make_offer(self._address, self._config.rtp_port, _session_id(), self._config.payload_types, keys)
        name = self._config.display_name
        request = Request("INVITE", uri)
        request.add("Max-Forwards", b"70")
        request.add("From", Address(self._config.aor, [(b"tag", token(4))], _quoted(name)).serialize())
        request.add("To", b"<%s>" % uri)
        request.add("Call-ID", token())
        request.add("CSeq", b"1 INVITE")
        self._finish(request)
        request.set_body(_SDP, offer.serialize())

        self._serial += 1
        serial = self._serial

        def invited(event, _, now):
            self._invited(serial == self._serial and self.state != IDLE, event, now)

        self._invite = self._agent.request(request, now, invited)
        self.state = _CALLING
        self.peer = uri
        self._offer = offer
        self._since = now
        self._end_at = now + _RING_MS
        emit("calling", peer=uri)

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
        response.set_body(_SDP, self._offer.serialize())
        if self._agreed:
            try:
                self._media.start(self._agreed, now)
            except (MemoryError, OSError, ValueError) as error:
                self._decline(500, "Server Internal Error", "media: %s" % error, now)
                return
        self._ok = response
        self._dialog.confirmed = True
        self.state = _ANSWERED
        self._repeat_ms = T1_MS
        self._repeat_at = now + T1_MS
        self._end_at = now + 64 * T1_MS
        self._agent.respond(self._invite, response, now)

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
        elif self.state == _TALKING:
            self._bye(reason, now)
        elif self.state == _CALLING:
            self.state = _CANCELLING
            self._end_at = now + 64 * T1_MS
            self._cancel(now)
        elif self.state == IDLE:
            emit("refused", command="hangup", reason="no call")

    def lose(self, now):
        """The network is gone, and with it the call if there is one."""
        if self.state != IDLE:
            self._ended("network lost", now)

    # The caller's side.

    def _invited(self, current, event, now):
        """A response to an INVITE of ours, or `TIMEOUT`; ``current`` is False when its call is over."""
        if event == TIMEOUT:
            if current:
                self._failed(408, "no answer", None)
            return
        status = event.status
        if 200 <= status < 300:
            self._accepted(current, event, now)
        elif not current:
            return
        elif status < 200:
            due = self.state == _CANCELLING and not self._can_cancel
            self._can_cancel = True
            if due:
                self._cancel(now)
            elif status >= 180 and self.state == _CALLING:
                emit("progress", status=status)
        else:
            self._failed(status, event.reason, event.get("warning"))

    def _cancel(self, now):
        # "If no provisional response has been received, the CANCEL request MUST NOT be sent" (section 9.1).
        if self._can_cancel and self._invite.request:
            self._agent.request(cancel_for(self._invite.request), now, _ignore)

    def _accepted(self, current, response, now):
        """A 2xx: the first, the same again, that of another fork, or one that crosses our CANCEL or BYE."""
        dialog = self._dialog if current else None
        if dialog is not None and response.to.tag == dialog.remote_tag:
            self._agent.send(dialog.new_ack(1))
            return
        try:
            fork = Dialog.as_caller(response)
            self._agent.send(fork.new_ack(1))
        except ParseError:
            if dialog is None and current:
                self._failed(502, "unusable answer", None)
            return
        if dialog is not None or self.state != _CALLING or not current:
            self._agent.request(fork.new_request("BYE"), now, _ignore)
            if current and dialog is None:
                self._ended("cancelled", now)
            return
        self._dialog = fork
        self._answered(response, now)

    def _failed(self, status, reason, warning):
        cancelled = self.state == _CANCELLING
        self._reset()
        if cancelled:
            emit("ended", reason="cancelled")
        else:
            emit("failed", status=status, reason=reason, warning=warning)

    # The callee's side.

    def handle_request(self, transaction, request, now):
        """Take a request that is no ACK and no CANCEL."""
        agent = self._agent
        method = request.method
        dialog = self._dialog
        if request.to.tag:
            if dialog is None or not dialog.matches(request):
                agent.reject(transaction, 481, "Call/Transaction Does Not Exist", now)
            elif not dialog.receive(request):
                agent.reject(transaction, 500, "CSeq Out Of Order", now)
            elif method == "BYE":
                try:
                    agent.reject(transaction, 200, _OK, now)
                finally:  # its repetition would be out of order
                    self._peer_hung_up(now)
            elif method == "INVITE":
                # The session stays as it was (section 14.2).
                agent.reject(transaction, 488, "Not Acceptable Here", now)
            else:
                self._other(transaction, request, now)
        elif method != "INVITE":
            self._other(transaction, request, now)
        elif self.state != IDLE:
            if dialog is not None and dialog.call_id == request.call_id:
                agent.reject(transaction, 482, "Loop Detected", now)  # merged, section 8.2.2.2
            else:
                agent.reject(transaction, 486, "Busy Here", now)
        else:
            self._ring(transaction, request, now)

    def _other(self, transaction, request, now):
        method = request.method
        if method == "OPTIONS":
            response = request.response(200, _OK, token(4))
            response.add("Allow", ALLOW)
            response.add("Accept", _SDP)
            self._agent.respond(transaction, response, now)
        elif method == "BYE":
            self._agent.reject(transaction, 481, "Call/Transaction Does Not Exist", now)
        elif method in _KNOWN.split():
            self._agent.reject(transaction, 405, "Method Not Allowed", now, "Allow", ALLOW)
        else:
            self._agent.reject(transaction, 501, "Not Implemented", now, "Allow", ALLOW)

    def _ring(self, transaction, request, now):
        """A new call: check it, make ready to answer, and ring."""
        agent = self._agent
        required = [option for value in request.get_all("require") for option in split_list(value, b",") if option]
        if required:
            agent.reject(transaction, 420, "Bad Extension", now, "Unsupported", b", ".join(required))
            return
        if request.body and (request.get("content-type") or b"").split(b";")[0].strip().lower() != _SDP:
            agent.reject(transaction, 415, "Unsupported Media Type", now, "Accept", _SDP)
            return
        config = self._config
        tag = token(4)
        agreed = None
        try:
            if request.body:
                keys = {name: _new_key(name) for name in _SUITES}
                offer, agreed = make_answer(
                    Session.parse(request.body),
                    self._address,
                    config.rtp_port,
                    _session_id(),
                    config.payload_types,
                    keys,
                )
                _numeric(agreed)
            else:
                keys = [Crypto.make(i + 1, name, _new_key(name)) for i, name in enumerate(_SUITES)]
                offer = make_offer(self._address, config.rtp_port, _session_id(), config.payload_types, keys)
            dialog = Dialog.as_callee(request, tag)
            dialog.new_ack(0)  # a route set of no use shows now, not when a BYE is to be sent
        except ParseError as error:
            agent.reject(
                transaction,
                error.status,
                "Not Acceptable Here" if error.status == 488 else "Bad Request",
                now,
                "Warning",
                b'399 terminal "%s"' % error.reason.encode(),
            )
            return
        request.body = b""  # it has been read, and the request lives as long as its transaction
        peer = request.from_
        response = request.response(180, "Ringing", tag)
        for value in request.get_all("record-route"):
            response.add("Record-Route", value)
        self._finish(response)
        agent.respond(transaction, response, now)
        self.state = RINGING
        self.peer = peer.uri
        self._dialog = dialog
        self._invite = transaction
        self._offer = offer
        self._agreed = agreed
        self._local_tag = tag
        self._since = now
        self._end_at = now + _RING_MS
        emit("incoming", peer=peer.uri, name=peer.display or None)

    def handle_ack(self, request, now):
        """The ACK to our 2xx: the call stands, and the peer has what it needs to hear us."""
        if self.state != _ANSWERED or not self._dialog.matches(request):
            return
        if self._leaving:
            self._bye(self._leaving, now)
        elif self._agreed is None:
            self._answered(request, now)
        else:
            self._connected(now)

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

    def _answered(self, message, now):
        """The answer to our offer, in a 2xx or an ACK: talk, or hang up where it can't be used."""
        try:
            self._agreed = _numeric(accept_answer(self._offer, Session.parse(message.body)))
            self._media.start(self._agreed, now)
        except ParseError as error:
            self._bye(error.reason, now)
        except (MemoryError, OSError, ValueError) as error:
            self._bye("media: %s" % error, now)
        else:
            self._connected(now)

    def _connected(self, now):
        self._media.go(now)
        self.state = _TALKING
        self._ok = self._repeat_at = self._end_at = None
        setup_ms = now - self._since
        self._since = now
        suite = self._agreed.suite
        self._offer = self._agreed = None
        emit("connected", peer=self.peer, setup_ms=setup_ms, suite=suite)

    def _bye(self, reason, now):
        dialog = self._dialog
        try:
            self._ended(reason, now)
        finally:
            self._agent.request(dialog.new_request("BYE"), now, _ignore)

    def _peer_hung_up(self, now):
        if self.state == RINGING:
            self._decline(487, "Request Terminated", "peer hung up", now)
        else:
            self._ended("peer hung up", now)

    def _ended(self, reason, now):
        talked_ms = now - self._since if self.state == _TALKING else None
        try:
            statistics = self._media.stop()
        finally:
            self._reset()
        emit("ended", reason=reason, talked_ms=talked_ms, media=statistics)

    def _finish(self, message):
        """The headers that our INVITE and its answers share."""
        message.add("Contact", b"<%s>" % self._contact)
        message.add("Allow", ALLOW)


def _ignore(event, how, now):
    """Whatever answers a BYE or a CANCEL, the call is over."""


def _new_key(suite):
    return urandom(SUITES[suite].key_salt_bytes)


def _numeric(agreed):
    """What was agreed, where its address is an IPv4 one: to look up a peer's name would stop everything for seconds."""
    numbers = agreed.address.split(b".")
    if len(numbers) != 4 or [n for n in numbers if not n.isdigit() or len(n) > 3 or int(n) > 255]:
        raise ParseError("address", 488, "unusable")
    return agreed


def _session_id():
    return int.from_bytes(urandom(4), "big")


def _quoted(name):
    return b'"' + name.encode().replace(b"\\", b"").replace(b'"', b"") + b'"' if name else b""
