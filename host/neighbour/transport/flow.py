"""A flow: the way a message came, and the way back.

    UDP datagrams of one source | one TCP or TLS connection | one hop agreement

Everything above the transports sees flows only: whether they retransmit by themselves, what protects them, who is at
the other end, and how to send.

A link-local IPv6 address means something only with its zone, the interface, which sockets have beside it. Here it is a
part of the address, as a number: ``fe80::1%2`` (RFC 4007 section 11).
"""

import ipaddress
import socket
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from sipwire.uri import Uri

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from cryptography import x509

    from sipwire.headers import Via

    from ..config import ListenConfig
    from .serial import SerialLine

__all__ = [
    "NOBODY",
    "Flow",
    "FlowClosedError",
    "Listener",
    "can_reach",
    "format_address",
    "numbered",
    "peer_address",
    "peer_named",
    "peer_token",
    "socket_address",
]

_PEER_KIND = b"p-"  # no token of a connection, which is hexadecimal, or of a UDP flow begins so
#: Identities of a flow whose other end proves nothing.
NOBODY: frozenset[str] = frozenset()


class FlowClosedError(Exception):
    """Nothing can be sent on this flow any more; the text says why."""


def format_address(address: tuple[str, int]) -> str:
    """``host:port``, with brackets around IPv6."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def numbered(address: str) -> str:
    """An address whose zone, if it has one, is a number: names of interfaces may have any characters."""
    host, zone, interface = address.partition("%")
    if not zone or interface.isdecimal():
        return address
    try:
        return f"{host}%{socket.if_nametoindex(interface)}"
    except OSError:
        return host  # there is no such interface; what is done with the address fails and says so


def socket_address(address: tuple[str, int]) -> tuple[str, int] | tuple[str, int, int, int]:
    """An address as sockets take it: with the zone of a link-local one beside it."""
    if "%" not in address[0]:
        return address
    host, zone, number = numbered(address[0]).partition("%")
    return (host, address[1], 0, int(number)) if zone else (host, address[1])


def peer_address(address: "tuple[Any, ...]") -> tuple[str, int]:
    """An address as sockets give it, the inverse of `socket_address`."""
    if len(address) == 2:
        return address
    host, port, _, zone = address
    return (f"{host.partition('%')[0]}%{zone}", port) if zone else (host, port)


def peer_token(domain: str) -> bytes:
    """What Record-Route says instead of a flow, where any connection to a domain's server will do."""
    return _PEER_KIND + domain.encode()


def peer_named(token: bytes, uri: bytes) -> Uri | None:
    """Whose server to find for a request to ``uri`` with a `peer_token`; None where the token is of another kind."""
    if not token.startswith(_PEER_KIND):
        return None
    return Uri(token.removeprefix(_PEER_KIND), scheme=b"sips" if uri[:5].lower() == b"sips:" else b"sip")


def can_reach(local: str, remote: str) -> bool:
    """Whether packets from a local address, which may be that of all interfaces, can go to a remote one."""
    here, there = ipaddress.ip_address(local), ipaddress.ip_address(remote)
    if here.version != there.version:
        return False
    return here.is_unspecified or (
        here.is_loopback == there.is_loopback and (there.is_link_local or not here.is_link_local)
    )


class Listener:
    """One configured socket, and how others are told of it.

    Args:
        config: its configuration.
        domain: our domain.
    """

    def __init__(self, config: "ListenConfig", domain: str) -> None:
        self.config = config
        self.transport = config.transport
        if config.advertise is not None:
            self.public = config.advertise
        elif config.transport == "tls":
            # A name, not an address: it is what the certificate says.
            self.public = domain if config.port == 5061 else f"{domain}:{config.port}"
        elif ipaddress.ip_address(config.address).is_unspecified:
            self.public = domain if config.port == 5060 else f"{domain}:{config.port}"
        else:
            # A zone means something on this machine only.
            self.public = format_address((config.address.partition("%")[0], config.port))


class Flow(ABC):
    """See the module.

    Attributes:
        transport: for Via: ``UDP``, ``TCP`` or ``TLS``.
        reliable: whether it retransmits by itself.
        protection: ``frame``, ``tls`` or ``none``: what keeps others from reading and changing.
        peer: address and port of the other end; a link-local address with its zone, as in ``fe80::1%2``.
        listener: the listener whose address stands for us on this flow.
        line: the serial line that leads there, None where none does.
        token: what Record-Route says to find this flow again; empty where addresses are enough.
    """

    __slots__ = ()  # there are thousands of connections
    transport: str
    reliable: bool
    protection: str
    peer: tuple[str, int]
    listener: Listener
    line: "SerialLine | None" = None
    token = b""

    @abstractmethod
    def send(self, data: bytes) -> None:
        """Send one message.

        Raises:
            FlowClosedError: it can't be sent.
        """

    def on_close(self, callback: "Callable[[str], None]") -> "Callable[[], None]":
        """Call back with the reason when the flow ends; returns how to cancel that. Datagrams have no end."""
        del callback
        return _nothing

    def has_same_end(self, other: "Flow") -> bool:
        """Whether the other end of another flow is, for all we know, that of this one.

        A response, a CANCEL or an ACK is somebody else's otherwise, whatever branch it knows.
        """
        return other is self

    def trust(self) -> None:  # noqa: B027  datagrams need no keeping
        """Whoever is at the other end has shown who they are: keep the flow for them."""

    def heard(self, via: "Via") -> None:  # noqa: B027  datagrams have nothing to reuse
        """A request has come whose topmost Via is this."""

    def expect_keep_alives(self) -> int:
        """Somebody has registered by this flow who knows RFC 5626: after how many seconds they have to be heard again.

        It is for Flow-Timer (section 5.4): a phone that is silent for longer, with some grace, is taken for gone, and
        its connection is closed. Its keep-alives may be of any kind. 0 where nobody looks: datagrams have no end.
        """
        return 0

    @property
    def identities(self) -> frozenset[str]:
        """The SIP domains that the other end may speak for.

        Over TLS those that its certificate proves (RFC 5922). Over TCP and UDP those that our configuration says are
        at its address: ``protection`` is "none" then, and means it.
        """
        return NOBODY

    @property
    def certificates(self) -> "tuple[x509.Certificate, ...]":
        """The certificate that the other end has shown, and its chain as far as it came; over TLS, of a peer."""
        return ()

    @property
    def host(self) -> str:
        """The address of the other end as a message may say it: without a zone."""
        return self.peer[0].partition("%")[0]

    @property
    def via_params(self) -> bytes:
        """What our Via says of the way back, each with its semicolon."""
        return b";rport" if self.transport == "UDP" else b""

    @property
    def key(self) -> str:
        """What tells this flow from others, for the log."""
        return f"{self.transport.lower()}:{format_address(self.peer)}"


def _nothing() -> None:
    """There is nothing to cancel."""
