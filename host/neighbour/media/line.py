"""One side's ports where its party is at the other end of a serial line: what `ports` and `channel` are for others.

    party --packet for one of our ports--> SerialLine --> LineChannel --> Side
          <--packet for one of its--

A line has nobody else on it: what comes by it comes from the party, and no address is learnt.
"""

from typing import TYPE_CHECKING, Any

from .channel import hand_on
from .ports import NoRoomError

if TYPE_CHECKING:
    from ..transport.serial import SerialLine
    from .reading import Reader
    from .side import Side

__all__ = ["LineChannel", "LinePair"]


class LineChannel:
    """RTP, RTCP, or both (RFC 5761), of one party; see `channel.Channel`.

    Args:
        side: whose.
        line: where the party is.
        is_rtcp: whether it is the one for RTCP alone.
        reader: knows the time.
    """

    __slots__ = ("_line", "_reader", "address", "heard_from", "is_rtcp", "moves", "side", "signalled")

    def __init__(self, side: "Side", line: "SerialLine", is_rtcp: bool, reader: "Reader") -> None:
        self.side = side
        self.is_rtcp = is_rtcp
        self.address: tuple[Any, ...] | None = None
        self.signalled: tuple[Any, ...] | None = None
        self.heard_from: tuple[Any, ...] | None = None
        self.moves = 0
        self._line = line
        self._reader = reader

    def expect(self, address: "tuple[Any, ...] | None", is_learning: bool) -> None:
        """Take what signalling says."""
        del is_learning
        self.signalled = self.address = self.heard_from = address

    def heard(self, source: "tuple[Any, ...]", is_newest: bool, now_ms: int) -> None:
        """An authentic packet has come before signalling has said anything."""

    def send(self, packet: bytes) -> str:
        """Send to the party; returns why it could not, or nothing."""
        if self.address is None:
            return "nowhere"
        return self._line.send_media(self.address[1], packet)

    def receive(self, data: bytes) -> None:
        """Something has come for this port."""
        self._reader.begin()
        hand_on(self, data, self.signalled or (self._line.peer[0], 0))

    def close(self) -> None:
        """The pair gives both ports back."""


class LinePair:
    """Two ports of a line.

    Args:
        line: which.

    Attributes:
        address: that of the line.
        port: of RTP; that of RTCP is one more.
        sockets: the addresses of its sockets: it has none.
    """

    __slots__ = ("_channels", "_line", "address", "port")
    sockets: "tuple[tuple[Any, ...], ...]" = ()

    def __init__(self, line: "SerialLine") -> None:
        self._line = line
        self._channels: tuple[LineChannel, LineChannel] | None = None
        self.address = line.peer[0]
        self.port = line.listen(self._receive_rtp, self._receive_rtcp)
        if not self.port:
            raise NoRoomError(f"no port for media is free on the serial line {line.name}")

    def channels(self, side: "Side", reader: "Reader") -> "tuple[LineChannel, LineChannel]":
        """What its ports are to a side."""
        self._channels = (LineChannel(side, self._line, False, reader), LineChannel(side, self._line, True, reader))
        return self._channels

    def raw(self, address: tuple[str, int]) -> "tuple[Any, ...]":
        """An address of the party's, as channels have it.

        Raises:
            ValueError: a port that a line does not have.
        """
        if not self._line.has_port(address[1]):
            raise ValueError("media address: a serial line has no such port")
        return address

    def close(self) -> None:
        """Give both ports back."""
        self._line.forget(self.port)

    def _receive_rtp(self, data: bytes) -> None:
        if self._channels is not None:
            self._channels[0].receive(data)

    def _receive_rtcp(self, data: bytes) -> None:
        if self._channels is not None:
            self._channels[1].receive(data)
