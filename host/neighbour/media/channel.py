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
    from .line import LineChannel
    from .reading import Reader
    from .side import Side

__all__ = ["Channel", "hand_on", "raw_address"]

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
    """One port, with a socket for everybody, and one for its party alone.

    The second is connected to where the party is, at the same port: the kernel gives it what comes from there, and a
    flood from elsewhere fills the other one's queue. RTCP's port has none: there is little to lose.

    Args:
        side: whose.
        sock: bound and non-blocking.
        is_rtcp: whether it is the one for RTCP alone.
        reader: reads sockets.

    Attributes:
        address: where packets go to, as sockets have it; None while nobody knows.
        signalled: what signalling said.
        heard_from: where authentic packets come from; None before the first.
        moves: how often that has changed since.
    """

    __slots__ = (
        "_moved_ms",
        "_near",
        "_reader",
        "address",
        "heard_from",
        "is_rtcp",
        "moves",
        "side",
        "signalled",
        "sock",
    )

    def __init__(self, side: "Side", sock: socket.socket, is_rtcp: bool, reader: "Reader") -> None:
        self.side = side
        self.sock = sock
        self.is_rtcp = is_rtcp
        self.address: tuple[Any, ...] | None = None
        self.signalled: tuple[Any, ...] | None = None
        self.heard_from: tuple[Any, ...] | None = None
        self.moves = 0
        self._moved_ms = 0
        self._near: socket.socket | None = None
        self._reader = reader
        reader.add(sock, self._receive)

    def expect(self, address: "tuple[Any, ...] | None", is_learning: bool) -> None:
        """Take what signalling says.

        Args:
            address: as of `raw_address`; None where it says nothing.
            is_learning: whether authentic packets may tell something else.
        """
        if address != self.signalled or (not is_learning and self.heard_from not in {None, address}):
            self.signalled = self.address = address
            self.heard_from = None
            self._part()
        if not is_learning and address is not None and self._near is None:
            self._approach(address)

    def heard(self, source: "tuple[Any, ...]", is_newest: bool, now_ms: int) -> None:
        """An authentic packet has come, from another address than `heard_from`.

        Args:
            source: where it came from.
            is_newest: whether it is newer than all before.
            now_ms: the time.
        """
        if self.heard_from is not None:
            if not is_newest or now_ms - self._moved_ms < _MOVE_MS:
                return
            self.moves += 1
        self.address = self.heard_from = source
        self._moved_ms = now_ms
        self._approach(source)

    def send(self, packet: bytes) -> str:
        """Send to the party; returns why it could not, or nothing."""
        if self.address is None:
            return "nowhere"
        try:
            if self._near is None:
                self.sock.sendto(packet, self.address)
            else:
                try:
                    self._near.send(packet)
                except ConnectionRefusedError:
                    self._near.send(packet)  # that was the ICMP error of one before, which anybody can send
        except BlockingIOError:
            return "full"
        except OSError:
            return "unreachable"
        return ""

    def close(self) -> None:
        """Read no more."""
        self._part()
        self._reader.remove(self.sock)

    def _approach(self, address: "tuple[Any, ...]") -> None:
        """Have the second socket be for an address. Without it, which is the case when it can't be, all is the same."""
        if self.is_rtcp:
            return
        try:
            if self._near is None:
                self._near = _beside(self.sock)
                self._near.connect(address)
                self._reader.add(self._near, self._receive_near)
            else:
                self._near.connect(address)
        except OSError:
            self._part()

    def _part(self) -> None:
        if self._near is not None:
            self._reader.remove(self._near)
            self._near.close()
            self._near = None

    def _receive(self) -> None:
        self._read(self.sock)

    def _receive_near(self) -> None:
        if self._near is not None:
            self._read(self._near)

    def _read(self, sock: socket.socket) -> None:
        """Read one datagram, and let the side have it."""
        try:
            # From the second socket, too, others' may come: what had arrived before it was connected.
            data, source = sock.recvfrom(_READ_BYTES)
        except OSError:
            return  # a wrong checksum, or an ICMP error, which anybody can send: nothing ends because of it
        hand_on(self, data, source)


def hand_on(channel: "Channel | LineChannel", data: bytes, source: "tuple[Any, ...]") -> None:
    """Let the side of a channel have a datagram."""
    side = channel.side
    if channel.is_rtcp or (side.is_muxed and len(data) > 1 and 192 <= data[1] <= 223):
        # RFC 5761 section 4: RTCP has packet types of 192 to 223, and RTP then no payload types of 64 to 95.
        side.take_rtcp(channel, data, source)
    else:
        side.take_rtp(channel, data, source)


def _beside(sock: socket.socket) -> socket.socket:
    """Another socket at the same address and port, which nobody else may share before or afterwards.

    Raises:
        OSError: there are no more sockets.
    """
    made = socket.socket(sock.family, socket.SOCK_DGRAM)
    try:
        made.setblocking(False)
        if sock.family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        for one in (sock, made):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(sock.getsockname())
        for one in (sock, made):
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except BaseException:
        made.close()
        raise
    return made
