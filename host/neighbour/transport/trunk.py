"""Ways to other servers: the sockets for UDP, and connections that are opened once, kept and used again.

    flow(target) --+-- UDP ---> a flow from our socket of that address family
                   +-- kept? -> the connection there, ours or one of theirs that may be used back (RFC 5923)
                   +-- else --> a new one, which everybody who asks meanwhile shares

A connection is reused for its address, and over TLS only for domains that its certificate proves. One that others
opened is reused only over TLS, and only where they said so: with ``alias`` in a Via, whose port it then stands for.
"""

import asyncio
import os
import socket
import ssl
from typing import TYPE_CHECKING

import structlog

from ..resolver import TCP, TLS, UDP, Target
from .flow import can_reach, format_address, socket_address
from .identity import describe_refusal, describe_verification
from .stream import CLOSED_BY_PEER, Connection, set_options
from .udp import UdpFlow, UdpTransport, socket_to

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipwire.uri import Uri

    from ..metrics import Metrics
    from ..resolver import Resolver
    from .flow import Flow, Listener
    from .stream import ConnectionUser

__all__ = ["TrunkError", "Trunks"]

_log = structlog.get_logger("trunk")
_MAX_KEPT = 1000  # addresses at a time; users may dial any number. Beyond, the one not used for longest is closed
_MAX_OF_ADDRESS = 8  # connections kept for one address, of different domains; beyond, the oldest is not used any more
_MAX_TROUBLES = 1000  # domains whose last trouble is remembered: users may dial any number
_MAX_COUNTED = 100  # domains that are counted by name, the first that fail; the others as "other"
_TRY_STREAM_S = 1.0  # for a phone that need not take TCP at all: who calls it waits meanwhile
_NO_STREAM_S = 600.0  # before one that did not is tried again
_MAX_NO_STREAM = 10_000  # phones of which that is remembered; beyond, the oldest are just tried again
_SHUTTING_DOWN = "shutting down"


class TrunkError(Exception):
    """Another server can't be reached; the text says why, in words for a Warning header."""


class Trunks:
    """The ways to other servers.

    Args:
        listeners: ours; one of them stands for us on each connection.
        user: what connections tell what happens.
        context: TLS for connections we open.
        timeout_s: to connect, for each address.
        metrics: counts.
        own_trouble: says what is wrong with our own certificate, or nothing.
    """

    def __init__(
        self,
        listeners: "list[Listener]",
        user: "ConnectionUser",
        context: ssl.SSLContext,
        timeout_s: float,
        metrics: "Metrics",
        own_trouble: "Callable[[], str]",
    ) -> None:
        self._listeners = listeners
        self._user = user
        self._context = context
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._own_trouble = own_trouble
        self._udp: list[UdpTransport] = []
        # By transport, address and port: RFC 5923's alias table. The newest last.
        self._kept: dict[tuple[str, str, int], list[Connection]] = {}
        self._opening: dict[Target, asyncio.Task[Connection]] = {}
        self._no_stream: dict[tuple[str, int], float] = {}
        self._troubles: dict[str, str] = {}
        self._counted: set[str] = set()

    def use(self, context: ssl.SSLContext) -> None:
        """Take another context for connections from now on."""
        self._context = context

    def add_udp(self, transport: UdpTransport) -> None:
        """A UDP socket to send from."""
        self._udp.append(transport)

    def kept(self, target: Target) -> Connection | None:
        """The open connection to a server, if there is one that may be used for it."""
        for connection in reversed(self._kept.get((target.transport, target.host, target.port), ())):
            # "The URI used for RFC3263 server resolution matches one of the identities stored in the alias table row
            # corresponding to that resolved address." (RFC 5923 section 8.1 and 8.2)
            if connection.is_open and (target.transport != TLS or target.domain in connection.identities):
                return connection
        return None

    async def flow(self, target: Target) -> "Flow":
        """The way to a server.

        Raises:
            TrunkError: it can't be reached.
        """
        if target.transport == UDP:
            transport = socket_to(target.host, self._udp)
            if transport is None:
                raise TrunkError(f"no udp listener from which {target.host} can be reached")
            return UdpFlow(transport, (target.host, target.port))
        return await self._connection(target, self._timeout_s)

    async def reach(self, uri: "Uri", resolver: "Resolver") -> "Flow":
        """The way to the first server of a domain that can be reached, for what has no other branch to go on with.

        Args:
            uri: where to.
            resolver: finds its servers, and hears of those that can't be reached.

        Raises:
            ResolveError: there are none.
            TrunkError: none can be reached.
        """
        error: TrunkError | None = None
        for target in await resolver.locate(uri):
            try:
                return await self.flow(target)
            except TrunkError as failure:
                resolver.failed(target)
                error = failure
        raise error or TrunkError("nowhere to go")

    async def stream_to(self, flow: UdpFlow) -> Connection:
        """A TCP connection to where a UDP flow leads, for a request too large for a datagram.

        "If a request is within 200 bytes of the path MTU, or if it is larger than 1300 bytes and the path MTU is
        unknown, the request MUST be sent using an RFC 2914 congestion controlled transport protocol, such as TCP", and
        its topmost Via says so (RFC 3261 section 18.1.1): write it for the connection that this returns, not for
        ``flow``. Where it raises, send the request on ``flow`` after all: "the element SHOULD retry the request, using
        UDP". That one takes no TCP is remembered for ten minutes, so that only one of its callers waits, for a second.

        Only for addresses that are known to be somebody's: where a phone registered from, or a peer is.

        Raises:
            TrunkError: there is no connection to be had.
        """
        if self._no_stream.get(flow.peer, 0.0) > asyncio.get_running_loop().time():
            raise TrunkError(f"{format_address(flow.peer)} takes no tcp")
        try:
            return await self._connection(Target(TCP, *flow.peer, ""), min(_TRY_STREAM_S, self._timeout_s))
        except TrunkError:
            self._no_stream.pop(flow.peer, None)
            if len(self._no_stream) >= _MAX_NO_STREAM:
                del self._no_stream[next(iter(self._no_stream))]
            self._no_stream[flow.peer] = asyncio.get_running_loop().time() + _NO_STREAM_S
            raise

    async def again(self, connection: Connection, port: int | None) -> Connection:
        """A connection for a response whose own has died (RFC 3261 section 18.2.2, RFC 3263 section 5).

        "If that connection is no longer open, the server SHOULD open a connection to the IP address in the "received"
        parameter, if present, using the port in the "sent-by" value". So it is for peers: over TLS only where the
        certificate there proves what the one that is gone did. It is not for phones, whose way is the connection that
        they registered by, and not for strangers: anybody can write any port into a Via and have us connect to it.

        Args:
            connection: the one that has died.
            port: of the Via's sent-by, None where it has none.

        Raises:
            TrunkError: there is none to be had, or it was no peer's.
        """
        domain = min(connection.identities, default="")
        if not domain:
            raise TrunkError("its connection is gone")
        kind = connection.transport
        return await self._connection(
            Target(kind, connection.peer[0], port or (5061 if kind == TLS else 5060), domain), self._timeout_s
        )

    def alias(self, connection: Connection, port: int) -> None:
        """A connection of a peer's that may be used for requests to them (RFC 5923 section 8.2)."""
        self._keep((connection.transport, connection.peer[0], port), connection)
        _log.debug("trunk aliased", flow=connection.key, port=port)

    # Opening and keeping.

    async def _connection(self, target: Target, timeout_s: float) -> Connection:
        connection = self.kept(target)
        if connection is not None:
            return connection
        task = self._opening.get(target)
        if task is None:
            task = asyncio.create_task(self._open(target, timeout_s), name=f"trunk to {target.host}")
            self._opening[target] = task
            task.add_done_callback(lambda done: self._opened(target, done))
        # Shielded: one caller that gives up must not take the connection from the others.
        return await asyncio.shield(task)

    async def _open(self, target: Target, timeout_s: float) -> Connection:
        """Open a connection; over TLS check that it is that domain's (RFC 5922 section 7.3)."""
        where = format_address((target.host, target.port))
        try:
            async with asyncio.timeout(timeout_s):
                connection = await self._connect(target)
        except TimeoutError:
            raise TrunkError(f"no answer from {where} within {timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise TrunkError(describe_verification(error)) from None
        except ssl.SSLError as error:
            raise TrunkError(describe_refusal(error) or "TLS failed") from None
        except OSError as error:
            # asyncio says the address once more in place of the cause.
            raise TrunkError(f"{where}: {(os.strerror(error.errno) if error.errno else str(error)).lower()}") from None
        if target.transport == TLS and target.domain not in connection.identities:
            shown = ", ".join(sorted(connection.identities)) or "no domain"
            connection.close("certificate of another domain")
            raise TrunkError(f"certificate is of {shown}, not of {target.domain}")
        return connection

    async def _connect(self, target: Target) -> Connection:
        loop = asyncio.get_running_loop()
        listener = self._listener(target)
        # Before there is a socket: nobody would close it.
        name = _server_name(target.domain) if target.transport == TLS else None
        sock = socket.socket(socket.AF_INET6 if ":" in target.host else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            set_options(sock, ours=True)
            if can_reach(listener.config.address, target.host):
                # From the address that others know: what they see is what they compare (RFC 5923), or let in.
                sock.bind(socket_address((listener.config.address, 0)))
            await loop.sock_connect(sock, socket_address((target.host, target.port)))
        except BaseException:
            sock.close()
            raise
        _, connection = await loop.create_connection(
            lambda: Connection(listener, self._user, ours=True),
            sock=sock,
            ssl=None if name is None else self._context,
            server_hostname=name,
        )
        return connection

    def _listener(self, target: Target) -> "Listener":
        """The listener that stands for us: where a server finds us when the connection is gone."""
        of_kind = [one for one in self._listeners if one.transport == target.transport.lower()]
        for one in of_kind:
            if can_reach(one.config.address, target.host):
                return one
        if of_kind:
            return of_kind[0]
        if target.transport == TLS:
            return self._listeners[0]
        raise TrunkError(f"no {target.transport.lower()} listener, so that {target.host} could not find us")

    def _opened(self, target: Target, task: "asyncio.Task[Connection]") -> None:
        self._opening.pop(target, None)
        if task.cancelled():
            return
        error = task.exception()
        domain = target.domain
        if error is not None:
            if domain:
                self.trouble(domain, str(error))
            return
        connection = task.result()
        connection.trust()
        self._keep((target.transport, target.host, target.port), connection)
        if domain:
            connection.explain = lambda reason: self._explain(domain, connection, reason)
            connection.on_close(lambda reason: self._closed(domain, connection, reason))
            _log.info("trunk open", domain=domain, flow=connection.key)

    def _keep(self, key: tuple[str, str, int], connection: Connection) -> None:
        kept = self._kept.pop(key, [])
        if len(self._kept) >= _MAX_KEPT:
            idle = min(self._kept, key=lambda one: max(each.last_used for each in self._kept[one]))
            for one in self._kept.pop(idle):
                one.close("too many trunks")
        kept.append(connection)
        self._kept[key] = kept[-_MAX_OF_ADDRESS:]
        connection.on_close(lambda _: self._forget(key, connection))

    def _forget(self, key: tuple[str, str, int], connection: Connection) -> None:
        kept = self._kept.get(key, [])
        if connection in kept:
            kept.remove(connection)
        if not kept:
            self._kept.pop(key, None)

    def _explain(self, domain: str, connection: Connection, reason: str) -> str:
        """Why a trunk ended.

        In TLS 1.3 a client learns only after its handshake that the server does not like its certificate, and some
        servers (those on Python's asyncio) close without saying so.
        """
        if reason == CLOSED_BY_PEER and not connection.has_received and connection.transport == TLS:
            ours = self._own_trouble()
            reason = f"peer refused us: {ours}" if ours else "closed without an answer; does it accept our certificate?"
        return f"trunk to {domain}: {reason}"

    def _closed(self, domain: str, connection: Connection, reason: str) -> None:
        reason = reason.removeprefix(f"trunk to {domain}: ")
        if not connection.has_received and reason not in ("idle", _SHUTTING_DOWN):
            self.trouble(domain, reason)
        else:
            _log.info("trunk closed", domain=domain, reason=reason)

    # What goes wrong.

    def trouble(self, domain: str, reason: str) -> None:
        """Count a failure, and log it once for as long as it stays the same."""
        if domain in self._counted or len(self._counted) < _MAX_COUNTED:
            self._counted.add(domain)
        self._metrics.trunk_failures.labels(domain if domain in self._counted else "other").inc()
        if self._troubles.get(domain) != reason:
            if len(self._troubles) >= _MAX_TROUBLES:
                del self._troubles[next(iter(self._troubles))]
            self._troubles[domain] = reason
            _log.warning("trunk failed", domain=domain, reason=reason)

    def works(self, domain: str) -> None:
        """An answer came over the trunk: its next trouble is news again."""
        if self._troubles.pop(domain, None) is not None:
            _log.info("trunk works again", domain=domain)

    def close(self) -> None:
        """Close every connection."""
        for task in list(self._opening.values()):
            task.cancel()
        for kept in list(self._kept.values()):
            for connection in list(kept):
                connection.close(_SHUTTING_DOWN)


def _server_name(domain: str) -> str:
    """Whom TLS is to expect, as it is told.

    Raises:
        TrunkError: nobody can have that name.
    """
    try:
        name = domain.strip("[]").encode("idna").decode()
    except UnicodeError:
        name = ""
    if not name:
        raise TrunkError(f"{domain[:80]!r} is no name")
    return name
