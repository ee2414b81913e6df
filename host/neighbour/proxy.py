"""The proxy core (RFC 3261 section 16), and the one place that decides what becomes of a request.

handle_request -> ours to answer?  -> registrar, or OPTIONS
               -> valid? a loop?   -> gate: who sends it?
               -> where to?        -> bindings | the flow of a dialog | a trunk
               -> Fork             -> client transactions
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING

import structlog

from sipwire.editing import remove, tokens
from sipwire.errors import ParseError
from sipwire.headers import Address, Via
from sipwire.message import Request
from sipwire.uri import Uri

from .fork import NEVER_FORWARDED, Branch, Fork
from .gate import DIALOG, PHONE, Gate, Sender, user_of
from .refusal import RefusedError
from .store.database import StoreError
from .transactions import new_branch
from .transport.flow import Flow, FlowClosedError
from .transport.trunk import TrunkError, Trunks
from .transport.udp import UdpFlow, flow_named

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from .config import Config
    from .hop import Hops
    from .location import Binding, Location
    from .metrics import Metrics
    from .registrar import Registrar
    from .routes import Routes
    from .store.accounts import Accounts
    from .transactions import Server, Transactions
    from .transport.udp import UdpTransport

__all__ = ["Proxy"]

_log = structlog.get_logger("proxy")
_MAX_FORWARDS = 70
_CHALLENGES = (401, 407, 494)
_DIALOG_METHODS = {"INVITE", "SUBSCRIBE", "REFER"}
_OPTIONS_SUPPORTED = {b"sec-agree"}
_ALLOW = b"INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER"
_METHODS = frozenset(
    (
        "ACK",
        "BYE",
        "CANCEL",
        "INFO",
        "INVITE",
        "MESSAGE",
        "NOTIFY",
        "OPTIONS",
        "PRACK",
        "PUBLISH",
        "REFER",
        "SUBSCRIBE",
        "UPDATE",
    )
)  # that are counted by name: peers may invent any number of others


class Proxy:
    """Answers, forwards and refuses requests.

    Args:
        config: the configuration.
        transactions: receives and sends.
        gate: says who sends.
        registrar: answers REGISTER.
        location: where users are.
        accounts: who is who.
        hops: flows to terminals.
        routes: our place in route sets.
        trunks: connections to other domains.
        connections: all that are open, by token.
        metrics: counts.
    """

    def __init__(
        self,
        config: "Config",
        transactions: "Transactions",
        gate: Gate,
        registrar: "Registrar",
        location: "Location",
        accounts: "Accounts",
        hops: "Hops",
        routes: "Routes",
        trunks: Trunks,
        connections: "Mapping[bytes, Flow]",
        metrics: "Metrics",
    ) -> None:
        self._config = config
        self._domain = config.domain
        self._transactions = transactions
        self._gate = gate
        self._registrar = registrar
        self._location = location
        self._accounts = accounts
        self._hops = hops
        self._routes = routes
        self._trunks = trunks
        self._connections = connections
        self._metrics = metrics
        self._forks: dict[bytes, Fork] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._udp: list[UdpTransport] = []

    def add_udp(self, transport: "UdpTransport") -> None:
        """A UDP socket, by which phones can be reached again after a restart."""
        self._udp.append(transport)

    async def close(self) -> None:
        """Stop working on requests."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # What transactions call.

    def handle_request(self, server: "Server") -> None:
        """A new request."""
        if server.request.method != "REGISTER":
            fork = Fork(
                server,
                self._transactions,
                self._warning,
                self._config.proxy.timer_c_s,
                self._finished,
                self._trunks.works,
            )
            self._forks[server.key] = fork
        self._spawn(self._answer(server))

    def handle_cancel(self, invite: "Server") -> None:
        """An INVITE was cancelled."""
        fork = self._forks.get(invite.key)
        if fork is not None:
            fork.cancel()

    def handle_ack(self, request: Request, flow: Flow) -> None:
        """An ACK to a 2xx: it goes where its dialog goes, or nowhere."""
        self._spawn(self._forward_ack(request, flow))

    def _spawn(self, work: "Coroutine[None, None, None]") -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _finished(self, fork: Fork, status: int) -> None:
        method = fork.server.request.method
        self._metrics.requests.labels(method if method in _METHODS else "other", str(status)).inc()
        if not fork.is_invite or status >= 300:
            self._forks.pop(fork.server.key, None)
        else:
            # A CANCEL that comes after the 2xx finds it and does nothing.
            asyncio.get_running_loop().call_later(1, self._forks.pop, fork.server.key, None)

    def _warning(self, reason: str) -> bytes:
        text = reason.replace("\\", "").replace('"', "'")
        return f'399 {self._domain} "{text}"'.encode()

    async def _answer(self, server: "Server") -> None:
        """Answer a request, or see to it that somebody else does; nothing that goes wrong here reaches another."""
        request = server.request
        try:
            if request.method == "REGISTER":
                await self._register(server)
            else:
                await self._proxy(server, self._forks[server.key])
        except RefusedError as refusal:
            once = refusal.status in _CHALLENGES or not server.admitted
            answer = server.answer_once if once else server.reject
            answer(refusal.status, refusal.reason, *refusal.headers)
            status = refusal.status
        except ParseError as error:
            answer = server.reject if server.admitted else server.answer_once
            answer(error.status, error.reason)
            status = error.status
        except StoreError as error:
            _log.error("store failed", reason=str(error))
            server.reject(500, "Server Internal Error", ("Retry-After", b"5"))
            status = 500
        except Exception:
            _log.exception("request failed", method=request.method)
            server.reject(500, "Server Internal Error")
            status = 500
        else:
            return
        if request.method == "REGISTER":
            self._metrics.registrations.labels(str(status)).inc()
        self._forks.pop(server.key, None)

    async def _register(self, server: "Server") -> None:
        uri = Uri.parse(server.request.uri)
        if not uri.is_sip:
            raise RefusedError(416, "Unsupported URI Scheme")
        if not self._routes.is_ours(uri):
            raise RefusedError(403, "Forbidden", ("Warning", self._warning("not the registrar of that domain")))
        server.admitted = True  # the registrar challenges strangers, and what it refuses others it refuses for good
        await self._registrar.handle(server)
        server.flow.trust()
        self._metrics.registrations.labels("200").inc()

    # Forwarding.

    async def _proxy(self, server: "Server", fork: Fork) -> None:
        request = _copy(server.request)
        self._check(request)
        loop_hash = self._loop_hash(request)
        self._check_loop(request, loop_hash)
        known, token = self._routes.take(request)
        in_dialog = known and bool(request.to.tag)
        sender = await self._gate.admit(server.request, server.flow, in_dialog=in_dialog)
        server.admitted = True
        if sender.kind == PHONE:
            server.flow.trust()
        uri = Uri.parse(request.uri)
        if not uri.is_sip:
            raise RefusedError(416, "Unsupported URI Scheme")
        if request.get("route") is None and uri.user is None and self._routes.is_ours(uri):
            self._answer_ourselves(server)
            self._forks.pop(server.key, None)
            return
        self._prepare(request)
        await self._send(fork, request, uri, sender, token, loop_hash)

    def _check(self, request: Request) -> None:
        """RFC 3261 section 16.3."""
        if request.uint("max-forwards", 255) == 0:
            raise RefusedError(483, "Too Many Hops")
        unknown = [name for name in tokens(request, "proxy-require") if name not in _OPTIONS_SUPPORTED]
        if unknown:
            raise RefusedError(420, "Bad Extension", ("Unsupported", b", ".join(unknown)))

    @staticmethod
    def _loop_hash(request: Request) -> bytes:
        """What decides where a request goes (section 16.6 step 8): the same again means that it runs in a circle."""
        parts = [
            request.uri,
            request.from_.tag,
            request.to.tag,
            request.call_id,
            b"%d" % request.cseq.number,
            *request.get_all("route"),
            *request.get_all("proxy-require"),
        ]
        return hashlib.sha256(b"\n".join(parts)).hexdigest()[:12].encode()

    def _check_loop(self, request: Request, loop_hash: bytes) -> None:
        for value in request.values("via"):
            via = Via.parse(value)
            if self._routes.is_our_via(via.sent_by) and via.branch.endswith(b"." + loop_hash):
                raise RefusedError(482, "Loop Detected")

    def _answer_ourselves(self, server: "Server") -> None:
        """A request to the domain itself."""
        if server.request.method != "OPTIONS":
            raise RefusedError(404, "Not Found")
        server.reject(200, "OK", ("Allow", _ALLOW), ("Accept", b"application/sdp"), ("Supported", b"sec-agree"))

    def _prepare(self, request: Request) -> None:
        """What changes whoever gets it."""
        limit = request.uint("max-forwards", 255)
        request.set("Max-Forwards", b"%d" % (_MAX_FORWARDS if limit is None else limit - 1))
        for key in NEVER_FORWARDED:
            remove(request, key)
        for key in ("require", "proxy-require"):
            if b"sec-agree" in tokens(request, key):
                # It was for us (RFC 3329 section 2.3.1).
                rest = [name for name in tokens(request, key) if name != b"sec-agree"]
                remove(request, key)
                if rest:
                    request.add(key.title(), b", ".join(rest))
        mine = b'realm="' + self._domain.encode() + b'"'
        request.fields = [f for f in request.fields if f[0] != "proxy-authorization" or mine not in f[1]]

    async def _send(
        self, fork: Fork, request: Request, uri: Uri, sender: Sender, token: bytes, loop_hash: bytes
    ) -> None:
        """Find out where it goes (section 16.5), and send it there."""
        if fork.cancelled:
            raise RefusedError(487, "Request Terminated")
        route = request.get("route")
        if route is not None:
            next_hop = Address.parse(request.values("route")[0]).parsed_uri()
            await self._to_domain(fork, request, next_hop, sender, loop_hash)
        elif self._routes.is_ours(uri):
            if sender.kind == DIALOG and user_of(uri) != self._our_user(request.to):
                raise RefusedError(481, "Call/Transaction Does Not Exist")
            self._to_user(fork, request, uri, loop_hash)
        elif (flow := self._flow_in_dialog(request, token)) is not None:
            if uri.scheme == b"sips" and flow.protection == "none":
                raise self._no_protected_way()
            branch = Branch(request)
            fork.branches.append(branch)
            self._start(fork, branch, flow, loop_hash)
        elif token:
            # As RFC 5626 section 5.3.1 has it: nobody but that flow leads to the phone.
            raise RefusedError(430, "Flow Failed", ("Warning", self._warning("its connection is gone")))
        else:
            await self._to_domain(fork, request, uri, sender, loop_hash)

    def _our_user(self, address: Address) -> str | None:
        """The user of our domain that an address is of."""
        return user_of(address.parsed_uri()) if _is_of(address, self._domain) else None

    def _no_protected_way(self) -> RefusedError:
        # Whoever calls a SIPS URI wants every hop protected (RFC 3261 section 26.2.2).
        return RefusedError(480, "Temporarily Unavailable", ("Warning", self._warning("no protected way to the user")))

    def _flow_in_dialog(self, request: Request, token: bytes) -> Flow | None:
        """The way to one side of a dialog: that of its Contact where it is registered, else the one it came by."""
        binding = self._binding_in_dialog(request)
        flow = None if binding is None else self._flow_of(binding)
        return flow or self._connections.get(token) or flow_named(token, self._udp)

    def _binding_in_dialog(self, request: Request) -> "Binding | None":
        """The binding that the Contact of a dialog was registered with, if it was."""
        user = self._our_user(request.to)
        if not request.to.tag or user is None:
            return None
        binding = self._location.by_contact(request.uri, user)
        return binding if binding is not None and binding.user == user else None

    def _to_user(self, fork: Fork, request: Request, uri: Uri, loop_hash: bytes) -> None:
        user = user_of(uri)
        bindings = [] if user is None else self._location.of(user)
        if not bindings:
            if user is None or self._accounts.by_user(user) is None:
                raise RefusedError(404, "Not Found")
            raise RefusedError(480, "Temporarily Unavailable")
        self._to_bindings(fork, request, bindings, loop_hash)

    def _to_bindings(self, fork: Fork, request: Request, bindings: "list[Binding]", loop_hash: bytes) -> None:
        """To every contact of a user at once."""
        ways = [(binding, flow) for binding in bindings if (flow := self._flow_of(binding)) is not None]
        if not ways:
            raise RefusedError(480, "Temporarily Unavailable", ("Warning", self._warning("its connection is gone")))
        if request.uri[:5].lower() == b"sips:":
            ways = [(binding, flow) for binding, flow in ways if flow.protection != "none"]
            if not ways:
                raise self._no_protected_way()
        started = []
        for binding, flow in ways:
            forwarded = _copy(request)
            if not request.to.tag:
                forwarded.uri = binding.contact
            branch = Branch(forwarded)
            fork.branches.append(branch)
            started.append((branch, flow))
        for branch, flow in started:
            self._start(fork, branch, flow, loop_hash)

    def _flow_of(self, binding: "Binding") -> Flow | None:
        """The living way to a binding."""
        if binding.kind == "hop":
            return self._hops.flow(binding.spi)
        flow = binding.flow
        if flow is None and binding.kind == "udp" and self._udp:
            # After a restart: the phone is still where it was.
            host, _, port = binding.source.rpartition(":")
            flow = binding.flow = UdpFlow(self._udp[0], (host.strip("[]"), int(port)))
        if flow is not None and getattr(flow, "is_open", True):
            return flow
        return None

    async def _to_domain(self, fork: Fork, request: Request, uri: Uri, sender: Sender, loop_hash: bytes) -> None:
        """To another domain, over its trunk. We relay for nobody but our own users."""
        if not uri.is_sip:
            raise RefusedError(416, "Unsupported URI Scheme")
        if not sender.is_local:
            raise RefusedError(404, "Not Found", ("Warning", self._warning("not a user of this domain")))
        domain = uri.host.decode("latin-1").lower()
        if sender.kind == DIALOG and (request.get("route") is None or not _is_of(request.to, domain)):
            # A cookie proves a dialog, not the right to send anything anywhere but to its other side.
            raise RefusedError(481, "Call/Transaction Does Not Exist")
        branch = Branch(request, domain)
        fork.branches.append(branch)
        await self._over_trunk(fork, branch, domain, loop_hash, first=True)

    async def _over_trunk(self, fork: Fork, branch: Branch, domain: str, loop_hash: bytes, *, first: bool) -> None:
        kept = self._trunks.kept(domain) is not None
        try:
            flow = await self._trunks.flow(domain)
        except TrunkError as error:
            fork.fail(branch, 503, "Service Unavailable", f"trunk to {domain}: {error}")
            return
        if fork.cancelled:
            fork.fail(branch, 487, "Request Terminated", "cancelled")
            return
        if kept and first:
            fresh = _copy(branch.request)

            def again() -> None:
                branch.request = fresh
                self._spawn(self._over_trunk(fork, branch, domain, loop_hash, first=False))

            branch.again = again
        self._start(fork, branch, flow, loop_hash)

    def _start(self, fork: Fork, branch: Branch, flow: Flow, loop_hash: bytes) -> None:
        request = branch.request
        if request.method in _DIALOG_METHODS and not request.to.tag:
            self._routes.record(request, fork.server.flow, flow)
        fork.start(branch, flow, new_branch() + b"." + loop_hash)

    async def _forward_ack(self, request: Request, flow: Flow) -> None:
        try:
            ack = _copy(request)
            if ack.uint("max-forwards", 255) == 0:
                return
            known, token = self._routes.take(ack)
            in_dialog = known and bool(ack.to.tag)
            sender = await self._gate.admit(request, flow, in_dialog=in_dialog)
            self._prepare(ack)
            uri = Uri.parse(ack.uri)
            goes = await self._way_of_ack(ack, uri, sender, token)
            if goes is not None:
                self._transactions.send_ack(ack, goes, new_branch())
        except (RefusedError, ParseError, TrunkError, FlowClosedError, StoreError) as error:
            # An ACK is never answered; the callee repeats its 2xx and gives up in the end.
            _log.debug("ACK dropped", reason=str(error))

    async def _way_of_ack(self, ack: Request, uri: Uri, sender: Sender, token: bytes) -> Flow | None:
        if ack.get("route") is not None:
            uri = Address.parse(ack.values("route")[0]).parsed_uri()
        elif not self._routes.is_ours(uri):
            flow = self._flow_in_dialog(ack, token)
            if flow is not None or token:
                return flow
        if not uri.is_sip or self._routes.is_ours(uri) or not sender.is_local:
            return None
        domain = uri.host.decode("latin-1").lower()
        if sender.kind == DIALOG and not _is_of(ack.to, domain):
            return None
        return await self._trunks.flow(domain)


def _is_of(address: Address, domain: str) -> bool:
    uri = address.parsed_uri()
    return uri.is_sip and uri.host.decode("latin-1").lower() == domain


def _copy(request: Request) -> Request:
    """A request with header lines of its own to change."""
    other = Request(request.method, request.uri)
    other.fields = list(request.fields)
    other.body = request.body
    return other
