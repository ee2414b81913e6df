"""UDP: one socket per listener, a flow per source address."""

import asyncio
import functools
import ipaddress
import socket
from typing import TYPE_CHECKING, Any, cast

from .flow import NOBODY, Flow, FlowClosedError, Listener, can_reach, numbered, peer_address, socket_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from .serial import SerialLine

__all__ = ["UdpFlow", "UdpTransport", "flow_named", "open_udp", "socket_to"]

_RECEIVE_BYTES = 65536  # stock asyncio allocates 256 KiB for each datagram otherwise
_UDP_KIND = "u"  # no token of a connection, which is hexadecimal, begins so
_SOCKET_BUFFER_BYTES = 4 << 20  # bursts must not be lost before we come to read them


class UdpFlow(Flow):
    """Datagrams to and from one address."""

    transport = "UDP"
    reliable = False
    protection = "none"

    def __init__(self, transport: "UdpTransport | SerialLine", peer: tuple[str, int]) -> None:
        #: The socket, or serial line.
        self.udp = transport
        self.listener = transport.listener
        self.peer = peer

    def send(self, data: bytes) -> None:
        """Send a datagram; whether it arrives is another matter."""
        self.udp.send(data, self.peer)

    def has_same_end(self, other: Flow) -> bool:
        """By the host: a client may listen at another port than it sends from."""
        return isinstance(other, UdpFlow) and other.peer[0] == self.peer[0]

    @property
    def identities(self) -> frozenset[str]:
        """The domains that our configuration says are at that address."""
        return self.udp.identities.get(self.peer[0], NOBODY)

    @property
    def token(self) -> bytes:  # type: ignore[override]
        """The address, and the socket that it knows."""
        text = f"{_UDP_KIND}-{self.udp.name}-{self.peer[0]}-{self.peer[1]}"
        return text.replace(":", "_").replace("%", "~").encode()

    def to(self, peer: tuple[str, int]) -> "UdpFlow":
        """The flow from the same socket to another address."""
        return UdpFlow(self.udp, peer)


class UdpTransport(asyncio.DatagramProtocol):
    """One socket.

    Args:
        listener: what it stands for.
        receive: called with each datagram, its source and this transport.
        identities: the domains that are taken for those at an address.

    Attributes:
        received: how many datagrams have been read.
        socket: the socket itself, None while it is not open.
    """

    def __init__(
        self,
        listener: Listener,
        receive: "Callable[[bytes, tuple[str, int], UdpTransport], None]",
        identities: "Mapping[str, frozenset[str]] | None" = None,
    ) -> None:
        self.listener = listener
        self.identities = identities or {}
        #: What tokens call it.
        self.name = f"{numbered(listener.config.address)}-{listener.config.port}"
        self._receive = receive
        self._transport: asyncio.DatagramTransport | None = None
        self.received = 0
        self.socket: socket.socket | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio."""
        self._transport = cast("asyncio.DatagramTransport", transport)  # uvloop's is no subclass
        self.socket = transport.get_extra_info("socket")

    def datagram_received(self, data: bytes, addr: "tuple[Any, ...]") -> None:
        """Called by asyncio."""
        self.received += 1
        self._receive(data, peer_address(addr), self)

    def error_received(self, exc: Exception) -> None:
        """An ICMP error: somebody does not listen any more. Transactions find that out by their timers."""

    def flow(self, peer: tuple[str, int]) -> UdpFlow:
        """The flow to and from an address."""
        return UdpFlow(self, peer)

    def send(self, data: bytes | bytearray, peer: tuple[str, int]) -> None:
        """Send a datagram.

        Raises:
            FlowClosedError: the socket is closed, or the kernel refuses.
        """
        if self._transport is None or self._transport.is_closing():
            raise FlowClosedError("socket closed")
        try:
            self._transport.sendto(data, socket_address(peer))
        except OSError as error:
            raise FlowClosedError(error.strerror or "send failed") from None

    def close(self) -> None:
        """Close the socket."""
        self.socket = None
        if self._transport is not None:
            self._transport.close()


def socket_to(host: str, sockets: "Iterable[UdpTransport]") -> UdpTransport | None:
    """The first socket from which an address can be reached, None where there is none of its family."""
    return next((one for one in sockets if can_reach(one.listener.config.address, host)), None)


def flow_named(token: bytes, sockets: "Iterable[UdpTransport]") -> UdpFlow | None:
    """The flow with a token that we have written; None where it is of another kind, or its socket is not there."""
    name, peer = _read_token(token)
    return next((UdpFlow(one, peer) for one in sockets if one.name == name), None)


@functools.lru_cache(4096)
def _read_token(token: bytes) -> tuple[str, tuple[str, int]]:
    """The name of a socket and an address; of no socket where the token is of another kind."""
    parts = token.decode("latin-1").replace("_", ":").replace("~", "%").split("-")
    if len(parts) != 5 or parts[0] != _UDP_KIND or not parts[4].isdecimal():
        return "", ("", 0)
    try:
        ipaddress.ip_address(parts[3])
    except ValueError:
        return "", ("", 0)
    return "-".join(parts[1:3]), (parts[3], int(parts[4]))


async def open_udp(
    listener: Listener,
    receive: "Callable[[bytes, tuple[str, int], UdpTransport], None]",
    identities: "Mapping[str, frozenset[str]] | None" = None,
) -> UdpTransport:
    """Open a listener's socket; for IPv6 one that does IPv6 alone, so that no address has two forms.

    Args:
        listener: where.
        receive: see `UdpTransport`.
        identities: see `UdpTransport`.

    Raises:
        OSError: it can't be bound, or there is no IPv6 here.
    """
    family = socket.AF_INET6 if ":" in listener.config.address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            sock.setsockopt(socket.SOL_SOCKET, option, _SOCKET_BUFFER_BYTES)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(socket_address((listener.config.address, listener.config.port)))
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            lambda: UdpTransport(listener, receive, identities), sock=sock
        )
    except BaseException:
        sock.close()
        raise
    if hasattr(transport, "max_size"):
        transport.max_size = _RECEIVE_BYTES
    return protocol
