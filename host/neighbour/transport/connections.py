"""All TCP and TLS connections of a neighbour: who may have another one, and where they are accepted.

    accept --admit()--> TLS handshake --> Connection --closed()-->
             refused       10 s              each counted for its source all the time

A source is an IPv4 address, or 64 bits of an IPv6 one: what a network, or whoever rents a machine, has at least.
"""

import asyncio
import ipaddress
import socket
import ssl
import struct
from collections import Counter
from typing import TYPE_CHECKING

import structlog

from ..logs import Seldom
from .flow import NOBODY, Listener, socket_address
from .stream import Connection, set_options

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sipwire.errors import ParseError

    from ..metrics import Metrics

__all__ = ["Acceptor", "Connections", "open_stream"]

_log = structlog.get_logger("stream")
# Of one source at a time: an office of a thousand phones behind one address fits, also while all of them come back at
# once and their old connections have not been missed yet; nobody alone takes more than a tenth of what there is. One
# more is refused before TLS begins.
_MAX_OF_SOURCE = 2000
_PART_OF_SOURCE = 4  # where there are fewer in all: not more than this part of them
_HANDSHAKE_S = 10.0  # for TLS; who needs longer is taken for somebody who does not want to finish
_BACKLOG = 1024  # connections that the kernel keeps for us: all phones come back at once after a power cut
_ACCEPT_AGAIN_S = 0.2  # after the system had no file for another one
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset, which leaves nothing behind


class Connections:
    """The table of connections. See `stream.ConnectionUser` for what they tell it.

    Args:
        most: how many there may be in all; of one source 2,000, or a quarter of these.
        idle_s: without traffic, one is closed after so long.
        metrics: counts.
        identities: the domains that are taken for those at an address over TCP.
    """

    def __init__(
        self, most: int, idle_s: float, metrics: "Metrics", identities: "Mapping[str, frozenset[str]] | None" = None
    ) -> None:
        self.most = most
        self.most_of_source = min(_MAX_OF_SOURCE, most // _PART_OF_SOURCE)
        self.idle_s = idle_s
        self.by_token: dict[bytes, Connection] = {}
        #: Gets messages, and what is none; set before anything is opened.
        self.receive: Callable[[bytes, Connection], None]
        self.malformed: Callable[[ParseError, Connection], None]
        #: Gets connections that may be used in both directions, with the port they stand for.
        self.aliased: Callable[[Connection, int], None]
        self._identities = identities or {}
        self._may_come: Callable[[str], bool] = _always
        self._was_stranger: Callable[[str], bool] = _always
        self._metrics = metrics
        self._of_source: Counter[str] = Counter()
        self._count = 0
        self._may_tell = Seldom()
        # In the order they came. Who has shown who they are since is found when it would be its turn to go.
        self._strangers: dict[bytes, Connection] = {}
        metrics.connections.set_function(lambda: len(self.by_token))

    def identities_of(self, address: str) -> frozenset[str]:
        """The domains that are taken for those at an address without a certificate."""
        return self._identities.get(address, NOBODY)

    def limit(self, may_come: "Callable[[str], bool]", was_stranger: "Callable[[str], bool]") -> None:
        """Keep strangers within limits.

        Args:
            may_come: whether somebody at an address may have another connection.
            was_stranger: told of an address where a connection ended, or never came up, without showing who it was of.
        """
        self._may_come = may_come
        self._was_stranger = was_stranger

    def admit(self, address: str) -> bool:
        """Whether somebody at an address may have another connection; it is counted for them then, until `leave`."""
        source = _source(address)
        if not self._may_come(address):
            return self._refuse("limit")
        if self._of_source[source] >= self.most_of_source:
            if self._may_tell(source):
                _log.warning("too many connections", source=address)
            return self._refuse("source")
        if self._count >= self.most and not self._make_room():
            return self._refuse("full")
        self._of_source[source] += 1
        self._count += 1
        return True

    def _refuse(self, reason: str) -> bool:
        self._metrics.connections_refused.labels(reason).inc()
        return False

    def leave(self, address: str) -> None:
        """An admitted connection of somebody at an address is over."""
        source = _source(address)
        self._count -= 1
        self._of_source[source] -= 1
        if not self._of_source[source]:
            del self._of_source[source]

    def handshake_failed(self, address: str) -> None:
        """An admitted connection of somebody at an address never came up."""
        self._refuse("handshake")
        self._was_stranger(address)
        self.leave(address)

    def _make_room(self) -> bool:
        """Whoever came first and has not said who they are has had time to, and goes; False where there is nobody."""
        while self._strangers:
            stranger = self._strangers.pop(next(iter(self._strangers)))
            if not stranger.is_trusted and stranger.is_open:
                stranger.abort("too many connections")
                return True
        return False

    def opened(self, connection: Connection) -> None:
        """A connection is up."""
        self.by_token[connection.token] = connection
        self._count += connection.is_ours
        if not connection.is_trusted:
            self._strangers[connection.token] = connection

    def closed(self, connection: Connection) -> None:
        """A connection is down."""
        self.by_token.pop(connection.token, None)
        self._strangers.pop(connection.token, None)
        if connection.is_ours:
            self._count -= 1
        else:
            if not connection.is_trusted:
                self._was_stranger(connection.peer[0])
            self.leave(connection.peer[0])

    def close(self) -> None:
        """Close all of them."""
        for connection in list(self.by_token.values()):
            connection.close("shutting down")


def _always(_address: str) -> bool:
    return True


def _source(address: str) -> str:
    if ":" not in address:
        return address
    return ipaddress.ip_address(address.partition("%")[0]).packed[:8].hex()


class Acceptor:
    """A listener's socket, and the handshakes that are going on.

    Args:
        listener: what connections accepted here are of.
        sock: it, listening.
        connections: admits them.
        context: for TLS.
    """

    def __init__(
        self, listener: Listener, sock: socket.socket, connections: Connections, context: ssl.SSLContext | None
    ) -> None:
        self._listener = listener
        self._socket = sock
        self._connections = connections
        self._context = context
        self._may_tell = Seldom()
        self._beginning: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(), name=f"accept {listener.public}")

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, address = await loop.sock_accept(self._socket)
            except ConnectionError:
                continue  # gone again before we came to it
            except OSError as error:
                if self._may_tell("accept"):
                    _log.error("connection not accepted", on=self._listener.public, reason=error.strerror)
                await asyncio.sleep(_ACCEPT_AGAIN_S)
                continue
            if self._connections.admit(address[0]):
                task = loop.create_task(self._begin(sock, address[0]))
                self._beginning.add(task)
                task.add_done_callback(self._beginning.discard)
            else:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.close()
            await asyncio.sleep(0)  # many that come at once must not keep others waiting

    async def _begin(self, sock: socket.socket, address: str) -> None:
        """Make a connection of an accepted socket."""
        connection = Connection(self._listener, self._connections)
        connection.peer = (address, 0)
        options = {"ssl_handshake_timeout": _HANDSHAKE_S} if self._context is not None else {}
        try:
            set_options(sock, ours=False)
            await asyncio.get_running_loop().connect_accepted_socket(
                lambda: connection, sock, ssl=self._context, **options
            )
        except (OSError, ssl.SSLError):
            pass  # no TLS, or a certificate that nobody here knows; the other end has been told
        finally:
            if not connection.was_opened:
                self._connections.handshake_failed(address)

    def use(self, context: ssl.SSLContext) -> None:
        """Take another context for connections from now on, where this is a listener for TLS."""
        if self._context is not None:
            self._context = context

    def close(self) -> None:
        """Accept no more."""
        for task in (self._accepting, *self._beginning):
            task.cancel()
        self._socket.close()


def open_stream(listener: Listener, connections: Connections, context: ssl.SSLContext | None) -> Acceptor:
    """Listen for connections.

    Args:
        listener: where; at an IPv6 address for IPv6 alone, so that no address has two forms.
        connections: the table they go to.
        context: for TLS.

    Raises:
        OSError: the socket can't be bound, or there is no IPv6 here.
    """
    address = listener.config.address, listener.config.port
    sock = socket.socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(socket_address(address))
        sock.listen(_BACKLOG)
    except BaseException:
        sock.close()
        raise
    return Acceptor(listener, sock, connections, context)
