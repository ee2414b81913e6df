"""Trunks: mutual-TLS connections to other domains, one each, kept and used again."""

import asyncio
from typing import TYPE_CHECKING

import structlog

from ..resolver import ResolveError
from .stream import CLOSED_BY_PEER, Connection, TlsError, connect_tls

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from ..metrics import Metrics
    from ..resolver import Resolver, Target
    from .udp import UdpFlow

__all__ = ["TrunkError", "Trunks"]

_log = structlog.get_logger("trunk")
_MAX_TROUBLES = 1000  # domains whose last trouble is remembered: users may dial any number
_MAX_COUNTED = 100  # domains that are counted by name, the first that fail; the others as "other"
_SHUTTING_DOWN = "shutting down"


class TrunkError(Exception):
    """Another domain can't be reached; the text says why, in words for a Warning header."""


class Trunks:
    """The connections to other domains.

    Args:
        resolver: finds them.
        context: TLS for connections we open.
        make: makes the protocol of a connection.
        timeout_s: to connect, for each address.
        metrics: counts.
        own_trouble: says what is wrong with our own certificate, or nothing.
    """

    def __init__(
        self,
        resolver: "Resolver",
        context: "ssl.SSLContext",
        make: "Callable[[], Connection]",
        timeout_s: float,
        metrics: "Metrics",
        own_trouble: "Callable[[], str]",
    ) -> None:
        self._resolver = resolver
        self._context = context
        self._make = make
        self._timeout_s = timeout_s
        self._metrics = metrics
        self._own_trouble = own_trouble
        self._open: dict[str, Connection] = {}
        self._opening: dict[str, asyncio.Task[Connection]] = {}
        self._troubles: dict[str, str] = {}
        self._counted: set[str] = set()

    async def stream_to(self, flow: "UdpFlow") -> Connection:
        """A TCP connection to where datagrams go."""
        raise TrunkError(f"no stream to {flow.key}")

    def kept(self, target: "Target") -> Connection | None:
        """The open connection to a server, if there is one."""
        return self.kept_(target.domain)

    async def flow(self, target: "Target") -> Connection:
        """A connection to a server."""
        return await self.flow_(target.domain)

    def kept_(self, domain: str) -> Connection | None:
        """The open connection to a domain, if there is one."""
        connection = self._open.get(domain)
        return connection if connection is not None and connection.is_open else None

    async def flow_(self, domain: str) -> Connection:
        """A connection to a domain: the kept one, or a new one that everybody who asks meanwhile shares.

        Raises:
            TrunkError: it can't be reached.
        """
        connection = self.kept_(domain)
        if connection is not None:
            return connection
        task = self._opening.get(domain)
        if task is None:
            task = asyncio.create_task(self._connect(domain), name=f"trunk to {domain}")
            self._opening[domain] = task
            task.add_done_callback(lambda done: self._opened(domain, done))
        # Shielded: one caller that gives up must not take the connection from the others.
        return await asyncio.shield(task)

    async def _connect(self, domain: str) -> Connection:
        try:
            addresses = await self._resolver.locate_(domain)
        except ResolveError as error:
            raise TrunkError(str(error)) from None
        trouble = ""
        for address in addresses:
            try:
                return await connect_tls(address, domain, self._context, self._make, self._timeout_s)
            except TlsError as error:
                trouble = str(error)
        raise TrunkError(trouble)

    def _opened(self, domain: str, task: "asyncio.Task[Connection]") -> None:
        self._opening.pop(domain, None)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            self.trouble(domain, str(error))
            return
        connection = task.result()
        connection.trust()
        self._open[domain] = connection
        connection.explain = lambda reason: self._explain(domain, connection, reason)
        connection.on_close(lambda reason: self._closed(domain, connection, reason))
        _log.info("trunk open", domain=domain, flow=connection.key)

    def _explain(self, domain: str, connection: Connection, reason: str) -> str:
        """Why a trunk ended.

        In TLS 1.3 a client learns only after its handshake that the server does not like its certificate, and some
        servers (those on Python's asyncio) close without saying so.
        """
        if reason == CLOSED_BY_PEER and not connection.has_received:
            ours = self._own_trouble()
            reason = f"peer refused us: {ours}" if ours else "closed without an answer; does it accept our certificate?"
        return f"trunk to {domain}: {reason}"

    def _closed(self, domain: str, connection: Connection, reason: str) -> None:
        if self._open.get(domain) is connection:
            del self._open[domain]
        reason = reason.removeprefix(f"trunk to {domain}: ")
        if not connection.has_received and reason not in ("idle", _SHUTTING_DOWN):
            self.trouble(domain, reason)
        else:
            _log.info("trunk closed", domain=domain, reason=reason)

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
        for connection in list(self._open.values()):
            connection.close(_SHUTTING_DOWN)
