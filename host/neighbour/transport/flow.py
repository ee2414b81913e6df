"""A flow: the way a message came, and the way back.

    UDP datagrams of one source | one TCP or TLS connection | one hop agreement

Everything above the transports sees flows only: whether they retransmit by themselves, what protects them, who is at
the other end, and how to send.
"""

import ipaddress
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..config import ListenConfig

__all__ = ["Flow", "FlowClosedError", "Listener", "format_address"]


class FlowClosedError(Exception):
    """Nothing can be sent on this flow any more; the text says why."""


def format_address(address: tuple[str, int]) -> str:
    """``host:port``, with brackets around IPv6."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


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
            self.public = format_address((config.address, config.port))


class Flow(ABC):
    """See the module.

    Attributes:
        transport: for Via: ``UDP``, ``TCP`` or ``TLS``.
        reliable: whether it retransmits by itself.
        protection: ``frame``, ``tls`` or ``none``: what keeps others from reading and changing.
        peer: address and port of the other end.
        listener: the listener whose address stands for us on this flow.
        token: what Record-Route says to find this flow again; empty where addresses are enough.
    """

    transport: str
    reliable: bool
    protection: str
    peer: tuple[str, int]
    listener: Listener
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

    @property
    def identities(self) -> frozenset[str]:
        """The SIP domains that the other end's certificate proves, by RFC 5922; empty without one."""
        return frozenset()

    @property
    def key(self) -> str:
        """What tells this flow from others, for the log."""
        return f"{self.transport.lower()}:{format_address(self.peer)}"


def _nothing() -> None:
    """There is nothing to cancel."""
