"""One socket of a relay: RTP, RTCP, or both (RFC 5761), of one party; and where that party is.

    unknown --signalled--> told --authentic packet--> latched --newer authentic packet from elsewhere--> latched there
                            |
                            +-- without keys of ours: stays where signalling says

An address is learnt from an authentic packet only, one that nobody has seen before; afterwards from one that is newer
than all others too: who plays a packet of the party again, or holds one back, is not taken for it.
"""

import ipaddress
import socket
from typing import TYPE_CHECKING, Any

from ..transport.flow import numbered, socket_address

if TYPE_CHECKING:
    from .side import Side

__all__ = ["Channel", "raw_address"]

_MOVE_MS = 250  # between two changes of an address: who races a party for each packet does not drive us
_READ_BYTES = 1501  # one more than can be relayed, to know what is too large


def raw_address(address: tuple[str, int], family: int) -> "tuple[Any, ...]":
    """An address as the kernel writes it, to compare with what `recvfrom` says.

    Args:
        address: numeric, and a port.
        family: of the socket that is to reach it.

    Raises:
        ValueError: it is no address of one host, or of another family.
    """
    host, port = address
    parsed = ipaddress.ip_address(host)
    if parsed.is_unspecified or parsed.is_multicast or str(parsed) == "255.255.255.255" or not 0 < port <= 65535:
        raise ValueError("media address: that of a single host is wanted, and a port")
    wanted = socket.AF_INET if parsed.version == 4 else socket.AF_INET6
    if wanted != family:
        raise ValueError(f"media address: IPv{parsed.version} where the relay has the other family on that side")
    raw = socket_address((numbered(host), port))
    host = socket.inet_ntop(wanted, socket.inet_pton(wanted, raw[0]))
    if wanted == socket.AF_INET:
        return host, port
    return host, port, 0, raw[3] if len(raw) == 4 else 0


class Channel:
    """One socket.

    Args:
        side: whose.
        sock: bound and non-blocking.
        is_rtcp: whether it is the one for RTCP alone.

    Attributes:
        address: where packets go to, as sockets have it; None while nobody knows.
        signalled: what signalling said.
        is_latched: whether `address` comes from an authentic packet.
        moves: how often it has changed since it first did.
    """

    __slots__ = ("_moved_ms", "address", "is_latched", "is_rtcp", "moves", "side", "signalled", "sock")

    def __init__(self, side: "Side", sock: socket.socket, is_rtcp: bool) -> None:
        self.side = side
        self.sock = sock
        self.is_rtcp = is_rtcp
        self.address: tuple[Any, ...] | None = None
        self.signalled: tuple[Any, ...] | None = None
        self.is_latched = False
        self.moves = 0
        self._moved_ms = 0

    def expect(self, address: "tuple[Any, ...] | None", is_learning: bool) -> None:
        """Take what signalling says.

        Args:
            address: as of `raw_address`; None where it says nothing.
            is_learning: whether authentic packets may tell something else.
        """
        if address != self.signalled or (self.is_latched and not is_learning):
            self.signalled = self.address = address
            self.is_latched = False

    def receive(self) -> None:
        """Read one datagram, and let its side have it."""
        try:
            data, source = self.sock.recvfrom(_READ_BYTES)
        except BlockingIOError:
            return  # its checksum was wrong
        except OSError:
            self.side.drop("unreachable")  # an ICMP error, which anybody can send: nothing ends because of it
            return
        if self.is_rtcp or (self.side.is_muxed and len(data) > 1 and 192 <= data[1] <= 223):
            # RFC 5761 section 4: RTCP has packet types of 192 to 223, and RTP then no payload types of 64 to 95.
            self.side.take_rtcp(self, data, source)
        else:
            self.side.take_rtp(self, data, source)

    def heard(self, source: "tuple[Any, ...]", is_newest: bool, now_ms: int) -> None:
        """An authentic packet has come from another address than `address`.

        Args:
            source: where it came from.
            is_newest: whether it is newer than all before.
            now_ms: the time.
        """
        if self.is_latched:
            if not is_newest or now_ms - self._moved_ms < _MOVE_MS:
                return
            self.moves += 1
        self.address = source
        self.is_latched = True
        self._moved_ms = now_ms
