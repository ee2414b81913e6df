"""The four transaction machines of RFC 3261 section 17, with the Accepted states of RFC 6026.

A machine is fed messages and the time, and asked for what to send (`take_outgoing`), what to tell its user
(`take_events`) and when to call `handle_timer` next (`timer_at`). It owns no socket: send what it hands out, and tell
it of a failure (`transport_failed`).

    INVITE client                                      INVITE server
    CALLING     request every A=T1*2^n, until B        PROCEEDING  100 after 200 ms; last provisional on retransmission
      1xx  -> PROCEEDING                                 2xx  -> ACCEPTED
      2xx  -> ACCEPTED                                   3-6xx -> COMPLETED
      3-6xx -> COMPLETED, ACK                          ACCEPTED    ACK to the user, INVITE absorbed, until L
    PROCEEDING  as CALLING, without timers             COMPLETED   response every G=min(T1*2^n, T2), until H (TIMEOUT)
    ACCEPTED    each 2xx to the user, until M            ACK  -> CONFIRMED
    COMPLETED   ACK to each 3-6xx, until D             CONFIRMED   absorbs, until I

    non-INVITE client                                  non-INVITE server
    TRYING      request every E=min(T1*2^n, T2), to F  TRYING      absorbs retransmissions; 100 after 3.5 s
      1xx  -> PROCEEDING                                 1xx  -> PROCEEDING   last response on retransmission
      2-6xx -> COMPLETED                                 2-6xx -> COMPLETED
    PROCEEDING  request every T2, until F              COMPLETED   last response on retransmission, until J
    COMPLETED   absorbs, until K

On a reliable transport A, E and G never run, and D, I, J and K are zero. Every machine thus has two timers at most: one
that repeats and one that ends the state.
"""

from .compat import const
from .errors import StateError
from .message import Request, Response

__all__ = [
    "ACCEPTED",
    "CALLING",
    "COMPLETED",
    "CONFIRMED",
    "MAGIC_COOKIE",
    "PROCEEDING",
    "T1_MS",
    "T2_MS",
    "TERMINATED",
    "TIMEOUT",
    "TRANSPORT_ERROR",
    "TRYING",
    "ClientTransaction",
    "InviteClient",
    "InviteServer",
    "NonInviteClient",
    "NonInviteServer",
    "ServerTransaction",
    "Transaction",
    "ack_for",
    "cancel_for",
    "client_key",
    "server_key",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    Event: TypeAlias = Request | Response | str

MAGIC_COOKIE = b"z9hG4bK"
T1_MS = const(500)  # RFC 3261 section 17.1.1.1: estimate of the round-trip time
T2_MS = const(4000)  # largest interval of non-INVITE requests and INVITE responses
_T4_MS = const(5000)  # longest time a message stays in the network
_TRYING_AFTER_MS = const(200)  # section 17.2.1: 100 unless the user answers before
_LATE_MS = const(3500)  # RFC 4320 section 4.1: when a client's Timer E is reset to T2, "it MUST respond" with a 100

CALLING = "calling"
TRYING = "trying"
PROCEEDING = "proceeding"
ACCEPTED = "accepted"
COMPLETED = "completed"
CONFIRMED = "confirmed"
TERMINATED = "terminated"

# Events beside messages.
TIMEOUT = "timeout"  # Timer B, F or H: a client's user treats it as 408 (section 8.1.3.1)
TRANSPORT_ERROR = "transport error"  # a client's user treats it as 503


def client_key(message: "Request | Response") -> bytes:
    """What a response and the request it answers have in common (section 17.1.3): branch and CSeq method."""
    return message.via.branch + b" " + message.cseq.method.encode()


def server_key(request: Request, method: str = "") -> bytes:
    """What all requests of one server transaction have in common (section 17.2.3).

    Branch, sent-by and method, where ACK counts as INVITE. A branch without the magic cookie comes from an RFC 2543
    element and says nothing: then Request-URI, From tag, Call-ID, CSeq number and the whole Via stand in.

    Args:
        request: the request.
        method: look for another method than the request's: INVITE, for a CANCEL.
    """
    method = method or request.method
    if method == "ACK":
        method = "INVITE"
    via = request.via
    if via.branch[:7] == MAGIC_COOKIE:
        return via.branch + b" " + via.sent_by.lower() + b" " + method.encode()
    parts = [
        request.uri,
        request.from_.tag,
        request.call_id,
        b"%d" % request.cseq.number,
        via.serialize(),
        method.encode(),
    ]
    return b"\n".join(parts)


def _like(request: Request, method: str) -> Request:
    """ACK or CANCEL for an INVITE: its top Via and no other, its Request-URI, Route, From, To, Call-ID, CSeq number."""
    other = Request(method, request.uri)
    other.add("Via", request.via.serialize())
    other.add("Max-Forwards", b"70")
    for key, line in request.fields:
        if key in ("route", "from", "to", "call-id"):
            other.fields.append((key, line))
    other.add("CSeq", b"%d %s" % (request.cseq.number, method.encode()))
    other.add("Content-Length", b"0")
    return other


def ack_for(request: Request, response: Response) -> Request:
    """The ACK to a non-2xx final response (section 17.1.1.3): To, with its tag, is the response's."""
    ack = _like(request, "ACK")
    ack.set("To", response.get("to") or b"")
    return ack


def cancel_for(request: Request) -> Request:
    """The CANCEL of a pending INVITE (section 9.1). Send it only after a provisional response."""
    return _like(request, "CANCEL")


class Transaction:
    """What the four machines share.

    Args:
        request: the request that makes the transaction.
        reliable: whether the transport retransmits by itself (TCP, TLS).
        now: milliseconds.
        key: see below, where it is known already.

    Attributes:
        request: that request.
        key: what its messages have in common, see `client_key` and `server_key`.
        state: one of the state names above.
        end_at: when the present state ends by itself, or None.
    """

    _key_of: "Callable[[Request], bytes]"

    def __init__(self, request: Request, reliable: bool, now: int, key: bytes = b"") -> None:
        self.request = request
        self.key = key or self._key_of(request)
        self.state = TRYING
        self._reliable = reliable
        self._outgoing: "list[bytes] | tuple[()]" = ()
        self._events: "list[Event] | tuple[()]" = ()
        self._repeat_at: "int | None" = None
        self._repeat_ms = 0
        self.end_at: "int | None" = None
        self._wire = b""  # what is sent again

    @property
    def timer_at(self) -> "int | None":
        """When `handle_timer` wants to be called, or None."""
        if self._repeat_at is None:
            return self.end_at
        if self.end_at is None:
            return self._repeat_at
        return min(self._repeat_at, self.end_at)

    def take_outgoing(self) -> "list[bytes] | tuple[()]":
        """Messages to send now, in order."""
        outgoing = self._outgoing
        self._outgoing = ()
        return outgoing

    def take_events(self) -> "list[Event] | tuple[()]":
        """Messages for the transaction's user, `TIMEOUT` or `TRANSPORT_ERROR`, in order."""
        events = self._events
        self._events = ()
        return events

    def _put(self, data: bytes) -> None:
        # There is one at a time, nearly always, and there are none for most of its life.
        self._outgoing = [data] if not self._outgoing else self._outgoing + [data]

    def _tell(self, event: "Event") -> None:
        self._events = [event] if not self._events else self._events + [event]

    def transport_failed(self) -> None:
        """Tell that the transport could not send (section 17.1.4, 17.2.4)."""
        if self.state != TERMINATED:
            self._fail(TRANSPORT_ERROR)

    def handle_timer(self, now: int) -> None:
        """Do what is due at ``now``; does nothing when called early."""
        if self.end_at is not None and now >= self.end_at:
            self._ended()
        elif self._repeat_at is not None and now >= self._repeat_at:
            self._repeated(now)

    def _enter(self, state: str, now: int, end_ms: "int | None") -> None:
        """Go to ``state``, for ``end_ms`` at the most; 0 passes through it at once, None stays.

        What a state repeats is set after entering it: nothing is kept that will not be sent again.
        """
        self._wire = b""
        self.state = TERMINATED if end_ms == 0 else state
        self._repeat_at = None
        self.end_at = now + end_ms if end_ms else None

    def _fail(self, event: str) -> None:
        self._enter(TERMINATED, 0, None)
        self._tell(event)

    def _repeat(self, now: int, interval_ms: int) -> None:
        self._repeat_ms = interval_ms
        self._repeat_at = now + interval_ms

    def _ended(self) -> None:
        self._enter(TERMINATED, 0, None)

    def _repeated(self, now: int) -> None:
        raise NotImplementedError


class ClientTransaction(Transaction):
    """A client machine: made with its request, which is the first thing to send."""

    _key_of = staticmethod(client_key)

    def __init__(self, request: Request, reliable: bool, now: int, key: bytes = b"") -> None:
        super().__init__(request, reliable, now, key)
        self._wire = request.serialize()
        self._put(self._wire)
        self.end_at = now + 64 * T1_MS  # Timer B or F
        if not reliable:
            self._repeat(now, T1_MS)  # Timer A or E

    def receive(self, response: Response, now: int) -> None:
        """Take a response whose `client_key` is this transaction's."""
        raise NotImplementedError

    def _ended(self) -> None:
        if self.state in (CALLING, TRYING, PROCEEDING):
            self._fail(TIMEOUT)
        else:
            super()._ended()


class InviteClient(ClientTransaction):
    """INVITE client transaction (section 17.1.1, RFC 6026 section 8.4)."""

    def __init__(self, request: Request, reliable: bool, now: int, key: bytes = b"") -> None:
        super().__init__(request, reliable, now, key)
        self.state = CALLING

    def receive(self, response: Response, now: int) -> None:
        """Take a response: 1xx and 2xx go to the user, the first final one of 3xx to 6xx too; those are ACKed here."""
        status = response.status
        if self.state in (CALLING, PROCEEDING):
            if status < 200:
                self._enter(PROCEEDING, now, None)
            elif status < 300:
                self._enter(ACCEPTED, now, 64 * T1_MS)  # Timer M
            else:
                self._enter(COMPLETED, now, 0 if self._reliable else 64 * T1_MS)  # Timer D
                self._wire = ack_for(self.request, response).serialize()
                self._put(self._wire)
            self._tell(response)
        elif self.state == ACCEPTED and 200 <= status < 300:
            self._tell(response)
        elif self.state == COMPLETED and status >= 300:
            self._put(self._wire)

    def _repeated(self, now: int) -> None:
        self._put(self._wire)
        self._repeat(now, self._repeat_ms * 2)


class NonInviteClient(ClientTransaction):
    """Non-INVITE client transaction (section 17.1.2)."""

    def receive(self, response: Response, now: int) -> None:
        """Take a response: provisional ones and the first final one go to the user."""
        if self.state not in (TRYING, PROCEEDING):
            return
        if response.status < 200:
            self.state = PROCEEDING
            if not self._reliable:
                self._repeat(now, T2_MS)
        else:
            self._enter(COMPLETED, now, 0 if self._reliable else _T4_MS)  # Timer K
        self._tell(response)

    def _repeated(self, now: int) -> None:
        self._put(self._wire)
        self._repeat(now, T2_MS if self.state == PROCEEDING else min(self._repeat_ms * 2, T2_MS))


class ServerTransaction(Transaction):
    """A server machine: made with the request it received, which its user has already got."""

    _key_of = staticmethod(server_key)

    def __init__(self, request: Request, reliable: bool, now: int, key: bytes = b"") -> None:
        super().__init__(request, reliable, now, key)
        #: Status of the last response sent, 0 before the first.
        self.status = 0

    def receive(self, request: Request, now: int) -> None:
        """Take a retransmission, or the ACK, whose `server_key` is this transaction's."""
        raise NotImplementedError

    def respond(self, response: Response, now: int) -> None:
        """Send a response.

        Raises:
            StateError: a final response was sent before.
        """
        raise NotImplementedError

    def _send(self, response: Response) -> None:
        self._wire = response.serialize()
        self.status = response.status
        self._put(self._wire)

    def _answer_again(self) -> None:
        if self._wire:
            self._put(self._wire)


class InviteServer(ServerTransaction):
    """INVITE server transaction (section 17.2.1, RFC 6026 section 8.5)."""

    def __init__(self, request: Request, reliable: bool, now: int, key: bytes = b"") -> None:
        super().__init__(request, reliable, now, key)
        self.state = PROCEEDING
        self._repeat(now, _TRYING_AFTER_MS)

    def receive(self, request: Request, now: int) -> None:
        """Take a retransmitted INVITE, or the ACK: one to a 2xx goes to the user."""
        if request.method == "ACK":
            if self.state == COMPLETED:
                self._enter(CONFIRMED, now, 0 if self._reliable else _T4_MS)  # Timer I
            elif self.state == ACCEPTED:
                self._tell(request)
        elif self.state in (PROCEEDING, COMPLETED):
            self._answer_again()

    def respond(self, response: Response, now: int) -> None:
        """Send a response; in ACCEPTED only a 2xx again, whose retransmission is the user's (section 13.3.1.4)."""
        status = response.status
        if self.state == PROCEEDING:
            if status < 200:
                self._repeat_at = None
            elif status < 300:
                self._enter(ACCEPTED, now, 64 * T1_MS)  # Timer L
            else:
                self._enter(COMPLETED, now, 64 * T1_MS)  # Timer H
                if not self._reliable:
                    self._repeat(now, T1_MS)  # Timer G
        elif self.state != ACCEPTED or not 200 <= status < 300:
            raise StateError(self.state)
        self._send(response)
        if self.state == ACCEPTED:
            self._wire = b""

    def _repeated(self, now: int) -> None:
        if self.state == PROCEEDING:
            self._repeat_at = None
            if not self._wire:
                self._send(self.request.response(100, "Trying"))
        else:
            self._answer_again()
            self._repeat(now, min(self._repeat_ms * 2, T2_MS))

    def _ended(self) -> None:
        if self.state == COMPLETED:
            self._fail(TIMEOUT)
        else:
            super()._ended()


class NonInviteServer(ServerTransaction):
    """Non-INVITE server transaction (section 17.2.2, RFC 4320)."""

    def __init__(self, request: Request, reliable: bool, now: int, key: bytes = b"") -> None:
        super().__init__(request, reliable, now, key)
        self._repeat(now, _LATE_MS)

    def receive(self, request: Request, now: int) -> None:
        """Take a retransmission."""
        self._answer_again()

    def respond(self, response: Response, now: int) -> None:
        """Send a response."""
        if self.state not in (TRYING, PROCEEDING):
            raise StateError(self.state)
        if response.status < 200:
            self.state = PROCEEDING
            self._repeat_at = None
        else:
            self._enter(COMPLETED, now, 0 if self._reliable else 64 * T1_MS)  # Timer J
        self._send(response)

    def _repeated(self, now: int) -> None:
        self.respond(self.request.response(100, "Trying"), now)
