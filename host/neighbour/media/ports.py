"""UDP ports for media: pairs of an even one for RTP and the next for RTCP (RFC 3550 section 11), from a range.

A pair is chosen at random, so that a stranger can't know which comes next, and bound when it is taken. Given back, it
rests for a while: what is still on the way to the call before must not meet the next one.
"""

import errno
import random
import socket
from collections import deque
from typing import TYPE_CHECKING

from ..transport.flow import numbered, socket_address
from .channel import Channel, raw_address

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from .reading import Reader
    from .side import Side

__all__ = ["NoRoomError", "Pair", "Ports"]

_REST_MS = 5_000  # after a call, before the next has its ports
_MAX_PORT = 65535
_CHOICE = random.SystemRandom()


class NoRoomError(Exception):
    """There is no relay to be had; the text says what has run out, and what helps."""


class Pair:
    """Two sockets, bound and non-blocking.

    Attributes:
        address: what they are bound to.
        port: of RTP; that of RTCP is one more.
        rtp: a socket.
        rtcp: a socket.
    """

    __slots__ = ("address", "port", "rtcp", "rtp")

    def __init__(self, address: str, port: int) -> None:
        self.address = address
        self.port = port
        self.rtp = _bound(address, port)
        try:
            self.rtcp = _bound(address, port + 1)
        except OSError:
            self.rtp.close()
            raise

    @property
    def sockets(self) -> "tuple[tuple[Any, ...], ...]":
        """The addresses of both."""
        return (self.rtp.getsockname()[:2], self.rtcp.getsockname()[:2])

    def channels(self, side: "Side", reader: "Reader") -> "tuple[Channel, Channel]":
        """What its sockets are to a side."""
        return Channel(side, self.rtp, False, reader), Channel(side, self.rtcp, True, reader)

    def raw(self, address: tuple[str, int]) -> "tuple[Any, ...]":
        """An address of the party's, as channels have it.

        Raises:
            ValueError: see `raw_address`.
        """
        return raw_address(address, self.rtp.family)

    def close(self) -> None:
        """Close both."""
        self.rtp.close()
        self.rtcp.close()


class Ports:
    """All pairs of a range.

    Args:
        first: the lowest port; the first pair begins at the first even one.
        last: the highest, which belongs to the range.
        clock: milliseconds.

    Raises:
        ValueError: the range has no pair.
    """

    def __init__(self, first: int, last: int, clock: "Callable[[], int]") -> None:
        self._free = list(range(first + first % 2, min(last, _MAX_PORT), 2))
        if not self._free or first < 1:
            raise ValueError(f"ports {first} to {last}: no pair of an even port and the next is among them")
        self._clock = clock
        self._resting: deque[tuple[int, int]] = deque()  # since when, and which
        #: How many pairs there are altogether.
        self.count = len(self._free)

    @property
    def free(self) -> int:
        """How many pairs nobody has, those that rest included."""
        return len(self._free) + len(self._resting)

    def take(self, address: str) -> Pair:
        """Bind a pair.

        Args:
            address: a numeric one of this machine, IPv4 or IPv6.

        Raises:
            NoRoomError: no pair is free, or the system gives no more sockets.
        """
        self._rest_over()
        occupied = []  # by other programs
        try:
            while self._free:
                at = _CHOICE.randrange(len(self._free))
                self._free[at], self._free[-1] = self._free[-1], self._free[at]
                port = self._free.pop()
                try:
                    return Pair(address, port)
                except OSError as error:
                    occupied.append(port)
                    if error.errno != errno.EADDRINUSE:
                        raise NoRoomError(f"{address}: {error.strerror}") from None
        finally:
            self._free += occupied
        raise NoRoomError("no port for media is free: a wider range of ports, or fewer relays, would help")

    def give(self, pair: Pair) -> None:
        """Close a pair and let it rest."""
        pair.close()
        self._resting.append((self._clock(), pair.port))

    def _rest_over(self) -> None:
        until = self._clock() - _REST_MS
        while self._resting and self._resting[0][0] <= until:
            self._free.append(self._resting.popleft()[1])


def _bound(address: str, port: int) -> socket.socket:
    """A socket that nobody shares.

    Raises:
        OSError: the port is taken, or there are no more sockets.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
    try:
        sock.setblocking(False)
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(socket_address((numbered(address), port)))
    except BaseException:
        sock.close()
        raise
    return sock
