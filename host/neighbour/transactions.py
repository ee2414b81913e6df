"""Transactions on an event loop: the machines of sipwire, with their timers, on flows.

    flow --receive--> parse --+-- request  --> Server --> the user's handle_request
                              +-- response --> Client --> the callback of who sent the request

"The user" is the transaction user of RFC 3261: the proxy core, see `TransactionUser`.
"""

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING, Protocol

import structlog

from sipwire.editing import set_via, set_via_param
from sipwire.errors import ParseError, StateError
from sipwire.message import Request, Response, parse
from sipwire.transaction import (
    ACCEPTED,
    COMPLETED,
    CONFIRMED,
    MAGIC_COOKIE,
    TERMINATED,
    ClientTransaction,
    InviteClient,
    InviteServer,
    NonInviteClient,
    NonInviteServer,
    ServerTransaction,
    client_key,
    server_key,
)

from .timers import Timers
from .transport.flow import Flow, FlowClosedError
from .transport.stream import Connection
from .transport.trunk import TrunkError
from .transport.udp import UdpFlow

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from .metrics import Metrics
    from .screen import Screen

    ClientCallback = Callable[["Client", Response | str], None]

__all__ = ["GONE", "Client", "Server", "TransactionUser", "Transactions", "new_branch", "new_token"]

_log = structlog.get_logger("sip")
_DEFAULT_PORT = 5060
_OVER = (COMPLETED, CONFIRMED, TERMINATED)  # nothing new comes of a transaction in these states
_SETTLED = (*_OVER, ACCEPTED)  # ... and in these its request is of no use


_POOL_BYTES = 4096  # of random asked for at a time: asking costs more than they do
_pool: list[bytes] = []


def new_token(size: int = 8) -> bytes:
    """A random token of 4 or 8 bytes for tags, branches and Call-IDs."""
    if not _pool:
        digits = os.urandom(_POOL_BYTES).hex().encode()
        _pool.extend(digits[at : at + 16] for at in range(0, len(digits), 16))
    return _pool.pop()[: 2 * size]


def new_branch() -> bytes:
    """A random branch parameter."""
    return MAGIC_COOKIE + new_token()


class TransactionUser(Protocol):
    """Who gets what opens a transaction, or belongs to none."""

    def handle_request(self, server: "Server") -> None:
        """A new request, not ACK and not CANCEL."""

    def handle_ack(self, request: Request, flow: Flow) -> None:
        """An ACK to a 2xx, which is forwarded end to end."""

    def handle_cancel(self, invite: "Server", cancel: Request) -> None:
        """An INVITE was cancelled; the CANCEL itself has been answered."""


#: Stands for a request that nobody needs any more: a transaction that only absorbs what is repeated lives for 32 s, and
#: whatever it holds on to, every garbage collection of these has to look at.
GONE = Request("", b"")


class _Shell:
    """What client and server transactions share: sending, and the timer."""

    __slots__ = ("_layer", "due", "flow", "key", "machine", "request")

    machine: ClientTransaction | ServerTransaction
    key: bytes
    request: Request

    def __init__(self, layer: "Transactions", flow: Flow) -> None:
        self._layer = layer
        self.flow = flow
        self.due: int | None = None

    def _pump(self) -> None:
        """Send what the machine wants sent, set its timer anew."""
        machine = self.machine
        for data in machine.take_outgoing():
            if self._is_muted:
                continue
            try:
                self._layer.send(data, self.flow)
            except FlowClosedError as error:
                # Later, so that whoever made the transaction knows it before its failure.
                self._layer.loop.call_soon(self._not_sent, data, self.flow, str(error))
                return
        if machine.state in _SETTLED:
            self.request = machine.request = GONE
            if machine.state == TERMINATED:
                self.due = None
                self._layer.forget(self)
                return
        at = machine.timer_at
        # One that comes too early does no harm, and setting it anew for each state would cost more.
        if at is not None and (self.due is None or at < self.due):
            self._layer.timers.set(at, self)

    @property
    def _is_muted(self) -> bool:
        """Whether what the machine wants to send is thrown away."""
        return False

    def fire(self, now: int) -> None:
        """The deadline has come."""
        at = self.machine.timer_at
        if at is None or at > now:
            self._pump()  # it was set for a state that is over
            return
        self.machine.handle_timer(now)
        self._after()

    def _not_sent(self, data: bytes, flow: Flow, reason: str) -> None:
        """This could not be sent, on that flow."""
        del data, flow
        self._failed(reason)

    def _failed(self, reason: str) -> None:
        """The flow is gone."""
        del reason
        self.machine.transport_failed()
        self._after()

    def _after(self) -> None:
        raise NotImplementedError


class Server(_Shell):
    """A server transaction: answer it with `respond`.

    Attributes:
        request: what came; nothing any more when it has been answered for good.
        origin: the way it came; answers may take another.
        admitted: whether it is known who sent it; until then nothing is answered twice.
    """

    __slots__ = ("_port", "_size", "admitted", "origin")

    machine: ServerTransaction

    def __init__(self, layer: "Transactions", request: Request, flow: Flow, key: bytes) -> None:
        super().__init__(layer, flow)
        kind = InviteServer if request.method == "INVITE" else NonInviteServer
        self.machine = kind(request, flow.reliable, layer.now(), key)
        self.key = key
        self.request = request
        self.origin = flow
        self.admitted = False
        self._port = request.via.port
        self._size = layer.size
        self._pump()

    def receive(self, request: Request) -> None:
        """Take a retransmission or the ACK."""
        self.machine.receive(request, self._layer.now())
        for event in self.machine.take_events():
            if isinstance(event, Request):
                self._layer.user.handle_ack(event, self.flow)
        self._pump()

    def respond(self, response: Response) -> None:
        """Send a response; one that comes too late is dropped."""
        _set_length(response)
        try:
            self.machine.respond(response, self._layer.now())
        except StateError:
            return
        self._pump()

    def reject(self, status: int, reason: str, *headers: tuple[str, bytes], body: bytes = b"") -> None:
        """Answer with a final response of our own; the type of its body is among the headers."""
        if self.request is GONE:
            return  # its connection was quicker, and nobody waits
        response = self.request.response(status, reason, new_token(4))
        for name, value in headers:
            response.add(name, value)
        if body:
            response.body = body
            response.set("Content-Length", b"%d" % len(body))
        self.respond(response)

    def answer_once(self, status: int, reason: str, *headers: tuple[str, bytes]) -> None:
        """Answer once, from no state: strangers cost nothing but the answer, and get no more than they sent.

        Its ACK finds no transaction and is dropped; a client that missed it repeats its request.
        """
        if self.request is GONE:
            return
        response = self.request.response(status, reason, new_token(4))
        for name, value in headers:
            response.add(name, value)
        self._layer.answer_stranger(response, self._size, self.flow)
        self.abandon()

    def abandon(self) -> None:
        """Forget the transaction, without an answer if there was none (RFC 4320 section 4.2)."""
        self.machine.transport_failed()
        self._after()

    def _not_sent(self, data: bytes, flow: Flow, reason: str) -> None:
        """A response's connection is gone: a peer gets it by another (RFC 3261 section 18.2.2)."""
        # The other may have been found meanwhile, for the response before.
        if flow is self.origin and isinstance(flow, Connection) and flow.identities:
            self._layer.spawn(self._send_again(data, flow))
        else:
            super()._not_sent(data, flow, reason)

    async def _send_again(self, data: bytes, gone: Connection) -> None:
        try:
            self.flow = await self._layer.again(gone, self._port)
            self._layer.send(data, self.flow)
        except (TrunkError, FlowClosedError) as error:
            self._failed(str(error))
        else:
            self._pump()

    @property
    def _is_muted(self) -> bool:
        # A 100 and then the answer would be two datagrams for one. A stranger has to wait, or to ask again.
        return not self.admitted and self.machine.status < 200

    @property
    def answered(self) -> bool:
        """Whether a final response has been sent."""
        return self.machine.status >= 200

    def _after(self) -> None:
        self.machine.take_events()  # no ACK, or no way back: there is nothing left to do about either
        self._pump()


class Client(_Shell):
    """A client transaction.

    Attributes:
        request: what was sent, Via included; nothing any more when it has its final answer.
        failure: why the flow failed, where it did.
    """

    __slots__ = ("_callback", "_unwatch", "failure")

    machine: ClientTransaction

    def __init__(
        self, layer: "Transactions", request: Request, flow: Flow, callback: "ClientCallback", key: bytes
    ) -> None:
        super().__init__(layer, flow)
        kind = InviteClient if request.method == "INVITE" else NonInviteClient
        self.request = request
        self.failure = ""
        self._callback = callback
        self.machine = kind(request, flow.reliable, layer.now(), key)
        self.key = key
        self._unwatch = flow.on_close(self._failed)

    def start(self) -> None:
        """Send the request."""
        self._pump()

    def receive(self, response: Response) -> None:
        """Take a response."""
        self.machine.receive(response, self._layer.now())
        self._after()

    def abandon(self) -> None:
        """Forget the transaction; nobody is told."""
        self._callback = _ignore
        self.machine.transport_failed()
        self._after()

    def _not_sent(self, data: bytes, flow: Flow, reason: str) -> None:
        """A connection that is about to end can't say why before it has: we are told then."""
        if isinstance(flow, Connection) and flow.closed_because is None:
            self._pump()  # the timers run, whatever becomes of it
        else:
            super()._not_sent(data, flow, reason)

    def _failed(self, reason: str) -> None:
        self.failure = reason
        super()._failed(reason)

    def _after(self) -> None:
        self._pump()
        # A 2xx to an INVITE may be followed by others; after all else nobody is told anything more.
        is_over = self.machine.state in _OVER
        if is_over:
            self._unwatch()
        for event in self.machine.take_events():
            if isinstance(event, Response | str):
                self._callback(self, event)
        if is_over:
            # Who waited knows us: without this, only a full garbage collection would find what is left of a call.
            self._callback = _ignore
            self._unwatch = _nothing


def _ignore(client: Client, event: "Response | str") -> None:
    """Nobody waits any more."""


def _nothing() -> None:
    """Nobody watches any more."""


class Transactions:
    """The table of all transactions.

    Args:
        user: gets requests; set before anything is received.
        metrics: counts.
        screen: says what is read, taken on and answered.
        max_servers: server transactions at a time; more requests get 503.
        trace: log a line per message.
    """

    def __init__(self, metrics: "Metrics", screen: "Screen", max_servers: int, *, trace: bool) -> None:
        self.user: TransactionUser
        #: The size of the message that is being received, in bytes.
        self.size = 0
        #: Finds another connection for a response whose own has died, see `Trunks.again`; set with ``user``.
        self.again: Callable[[Connection, int | None], Awaitable[Flow]]
        self._tasks: set[asyncio.Task[None]] = set()
        self.loop = asyncio.get_running_loop()
        self.timers = Timers(self.loop)
        self._metrics = metrics
        self._screen = screen
        self._max_servers = max_servers
        self._trace = trace
        self._clients: dict[bytes, Client] = {}
        self._servers: dict[bytes, Server] = {}
        self._received = {kind: metrics.messages.labels("in", kind) for kind in ("frame", "tls", "none")}
        self._sent = {kind: metrics.messages.labels("out", kind) for kind in ("frame", "tls", "none")}
        metrics.transactions.set_function(lambda: len(self))

    def __len__(self) -> int:
        return len(self._clients) + len(self._servers)

    def spawn(self, work: "Coroutine[None, None, None]") -> None:
        """Do something that has to wait."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def now(self) -> int:
        """Milliseconds of the event loop's clock."""
        return self.timers.now()

    def receive(self, data: bytes, flow: Flow) -> None:
        """Take one message; whatever is wrong with it harms nothing else."""
        self._received[flow.protection].inc()
        if not self._screen.reads(flow):
            return
        self.size = len(data)
        try:
            message = parse(data)
            if self._trace:
                self._log_line("<", message, flow)
            if isinstance(message, Request):
                _note_source(message, flow)
                self._receive_request(message, flow)
            else:
                self._receive_response(message, flow)
        except ParseError as error:
            self.malformed(error, flow)

    def malformed(self, error: ParseError, flow: Flow) -> None:
        """Count what is no message, and answer it where that is possible."""
        self._metrics.malformed.labels(flow.transport).inc()
        if self._trace:
            _log.debug("malformed", reason=error.reason, flow=flow.key)
        request = error.request
        if not self._screen.may_answer(flow) or request is None or request.method == "ACK":
            return
        way = flow  # where its Via says nothing: back to where it came from
        with contextlib.suppress(ParseError):
            _note_source(request, flow)
            way = _way_back(request, flow)
        response = request.refusal(error, new_token(4))
        if response is not None:
            self.answer_stranger(response, self.size, way)

    def _receive_request(self, request: Request, flow: Flow) -> None:
        key = server_key(request)
        server = self._servers.get(key)
        if server is not None:
            if server.origin.has_same_end(flow):
                server.receive(request)
            else:
                self._metrics.stray_requests.inc()
                self._screen.may_answer(flow)  # it is charged, and not answered
            return
        if request.method == "ACK":
            self.user.handle_ack(request, flow)
            return
        is_full = len(self._servers) >= self._max_servers
        refusal = self._screen.overloaded(request, flow, is_full=is_full)
        if refusal is not None:
            if self._screen.may_answer(flow):
                response = request.response(refusal.status, refusal.reason, new_token(4))
                for name, value in refusal.headers:
                    response.add(name, value)
                self.answer_stranger(response, self.size, _way_back(request, flow))
            return
        server = Server(self, request, _way_back(request, flow), key)
        self._servers[key] = server
        if request.method == "CANCEL":
            invite = self._servers.get(server_key(request, "INVITE"))
            if invite is None or not invite.origin.has_same_end(flow):
                if self._screen.may_answer(flow):
                    server.answer_once(481, "Call/Transaction Does Not Exist")
                else:
                    server.abandon()
            else:
                server.reject(200, "OK")
                self.user.handle_cancel(invite, request)
            return
        self.user.handle_request(server)

    def _receive_response(self, response: Response, flow: Flow) -> None:
        client = self._clients.get(client_key(response))
        if client is None or not client.flow.has_same_end(flow):
            self._metrics.stray_responses.inc()
            self._screen.may_answer(flow)  # it is charged, and not answered
        else:
            client.receive(response)

    def request(self, request: Request, flow: Flow, callback: "ClientCallback", branch: bytes = b"") -> Client:
        """Send a request in a transaction of its own.

        Args:
            request: complete but for our Via.
            flow: where to.
            callback: called for each response, and with `TIMEOUT` or `TRANSPORT_ERROR`.
            branch: for Via, where it has to say something.
        """
        branch = branch or new_branch()
        request.insert("Via", self._via(flow, branch))
        _set_length(request)
        return self._request(request, flow, callback, branch + b" " + request.method.encode())

    def request_again(self, request: Request, flow: Flow, callback: "ClientCallback") -> Client:
        """Send a request that has its Via already: a CANCEL."""
        return self._request(request, flow, callback, client_key(request))

    def _request(self, request: Request, flow: Flow, callback: "ClientCallback", key: bytes) -> Client:
        client = Client(self, request, flow, callback, key)
        self._clients[key] = client
        client.start()
        return client

    def send_ack(self, request: Request, flow: Flow, branch: bytes) -> None:
        """Forward an ACK to a 2xx, which has no transaction."""
        request.insert("Via", self._via(flow, branch))
        _set_length(request)
        try:
            self.send(request.serialize(), flow)
        except FlowClosedError as error:
            _log.info("ACK not forwarded", reason=str(error), call_id=request.call_id.decode("latin-1"))

    @staticmethod
    def _via(flow: Flow, branch: bytes) -> bytes:
        sent_by = flow.listener.public.encode()
        return b"SIP/2.0/%s %s;branch=%s%s" % (flow.transport.encode(), sent_by, branch, flow.via_params)

    def send(self, data: bytes, flow: Flow) -> None:
        """Send bytes on a flow, counted and traced."""
        if self._trace:
            try:
                self._log_line(">", parse(data), flow)
            except ParseError as error:  # an answer to what was malformed repeats it
                _log.debug("> malformed", reason=error.reason, flow=flow.key, protection=flow.protection)
        flow.send(data)
        self._sent[flow.protection].inc()

    def answer_stranger(self, response: Response, received: int, flow: Flow) -> None:
        """Send an answer once, where it is not too large for what it answers.

        Args:
            response: complete.
            received: the size of the request, in bytes.
            flow: where to.
        """
        data = response.serialize()
        if self._screen.is_small(data, received, flow):
            with contextlib.suppress(FlowClosedError):
                self.send(data, flow)

    def forget(self, shell: _Shell) -> None:
        """A transaction is over."""
        if isinstance(shell, Client):
            if self._clients.get(shell.key) is shell:
                del self._clients[shell.key]
        elif isinstance(shell, Server) and self._servers.get(shell.key) is shell:
            del self._servers[shell.key]

    @staticmethod
    def _log_line(arrow: str, message: "Request | Response", flow: Flow) -> None:
        start = message.start_line().decode("utf-8", "replace")
        if isinstance(message, Request):
            start = start.rpartition(" ")[0]
        key = message.get("setup-key")
        _log.debug(
            f"{arrow} {start}",
            flow=flow.key,
            protection=flow.protection,
            call_id=message.call_id.decode("latin-1"),
            cseq=message.cseq.serialize().decode("latin-1"),
            body=(message.get("content-type") or b"").partition(b";name")[0].decode("latin-1") if message.body else "",
            **({} if key is None else {"setup_key": "first" if b"kid=-" in key else "used"}),
        )


def _set_length(message: "Request | Response") -> None:
    """Say how long the body is, which a datagram may leave open and a stream may not (RFC 3261 section 18.3)."""
    if message.get("content-length") is None:
        message.add("Content-Length", b"%d" % len(message.body))


def _note_source(request: Request, flow: Flow) -> None:
    """Write down where a request came from (RFC 3261 section 18.2.1, RFC 3581 section 4)."""
    via = request.via
    flow.heard(via)
    host, port = flow.host, flow.peer[1]
    wants_port = via.param("rport") is not None
    if via.host.decode("latin-1").strip("[]").lower() != host or wants_port:
        set_via_param(via, b"received", host.encode())
        if wants_port:
            set_via_param(via, b"rport", b"%d" % port)
        set_via(request, via)


def _way_back(request: Request, flow: Flow) -> Flow:
    """The flow that responses take (RFC 3261 section 18.2.2, RFC 3581 section 4).

    Over UDP a client that does not ask for ``rport`` wants them at the port of its Via.
    """
    if not isinstance(flow, UdpFlow) or request.via.param("rport") is not None:
        return flow
    port = request.via.port or _DEFAULT_PORT
    return flow if port == flow.peer[1] else flow.to((flow.peer[0], port))
