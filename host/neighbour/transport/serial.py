"""The serial hop (WIRE section 5): a line to one terminal, over which SIP, media and its console go.

    gone --opened, tried each second--> there --vanished--> gone

A line may be there or not at any time; what is registered by it stays, and finds its way again when it is back. Nobody
but the terminal is at its other end, so that a line is the terminal's address: ``192.0.0.8%dev-ttyUSB0``, the IPv4
dummy address (RFC 7600) by which the terminal calls itself, and the line as its zone. Messages never say more of it
than the first half.

Nothing waits for a line: what does not fit into its queue is dropped and counted, media first. Whatever comes by it
costs counters, and at most its own place in the limits that hold for every address.
"""

import asyncio
import codecs
import contextlib
import errno
import os
import select
import termios
from typing import TYPE_CHECKING, Any

import structlog

from sipwire.slip import FIRST_PORT, HOP_PORT, LAST_PORT, MAX_DATAGRAM_BYTES, TEXT, SlipDecoder, encode, is_port

from .flow import NOBODY, FlowClosedError, Listener
from .udp import UdpFlow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..config import SerialConfig
    from ..metrics import Metrics

__all__ = ["LINE_HOST", "SerialFlow", "SerialLine", "is_on_line"]

_log = structlog.get_logger("serial")
#: What a terminal on a line calls itself, and us.
LINE_HOST = "192.0.0.8"
_AGAIN_S = 1.0  # between two attempts to open a line that is not there
_READ_BYTES = 4096  # at a time: what comes by other ways must not wait
# What may wait to go out. At 921600 baud that takes 180, 90 and 45 ms, beside as much as the system has of it.
_MAX_HOP_BYTES = 16384
_MAX_TEXT_BYTES = 8192
_MAX_MEDIA_BYTES = 4096
_NO_TEXT = b"\x13"  # how a packet of the hop begins; nobody types it
_MAX_CHARACTER_BYTES = 4


def is_on_line(host: str) -> bool:
    """Whether an address is that of a line, this neighbour's or one that it had."""
    return host.startswith(LINE_HOST + "%")


class SerialFlow(UdpFlow):
    """What comes plain by a line: the way of an agreement that is being made."""

    token = b""  # nobody comes back by it

    def __init__(self, line: "SerialLine") -> None:
        super().__init__(line, line.peer)
        self.line = line

    def to(self, peer: tuple[str, int]) -> "SerialFlow":
        """The same: there is nobody else."""
        del peer
        return self


class SerialLine:
    """One line.

    Args:
        config: which port, and how fast.
        listener: what stands for us in messages that go there.
        receive: called with each datagram of the hop, its source and this.
        metrics: counts.

    Attributes:
        name: what the log, counters and the store call it.
        peer: the terminal's address.
        identities: nobody's.
        heard_text: called with each piece of the console's text.
    """

    def __init__(
        self,
        config: "SerialConfig",
        listener: Listener,
        receive: "Callable[[bytes, tuple[str, int], SerialLine], None]",
        metrics: "Metrics",
    ) -> None:
        self.listener = listener
        self.name = config.name
        self.peer = (f"{LINE_HOST}%{self.name}", HOP_PORT)
        self.identities: Mapping[str, frozenset[str]] = dict.fromkeys((), NOBODY)
        self.heard_text: Callable[[bytes], None] = _nobody
        self._config = config
        self._receive = receive
        self._count = metrics.serial
        self._lines = metrics.serial_lines
        self._media: dict[int, Callable[[bytes], None]] = {}
        self._next_port: int = FIRST_PORT
        self._port: Any = None
        self._fd = -1
        self._decoder = SlipDecoder()
        self._waiting = bytearray()
        # Of what is typed only whole characters go out: the second half of one, behind a packet, would look like one.
        self._typing = codecs.getincrementaldecoder("utf-8")("ignore")
        self._lost: asyncio.Future[str] | None = None

    @property
    def is_there(self) -> bool:
        """Whether it is open."""
        return self._fd >= 0

    def flow(self, peer: tuple[str, int]) -> SerialFlow:
        """The flow of what comes plain."""
        del peer
        return SerialFlow(self)

    # Its life.

    async def run(self) -> None:
        """Open it whenever it is there, for ever."""
        is_told = False
        while True:
            try:
                port = await asyncio.to_thread(self._open)
            except (OSError, ValueError, termios.error) as error:
                if not is_told:
                    is_told = True
                    _log.warning("serial line not there", port=self._config.port, reason=_told(error))
            else:
                is_told = False
                reason = await self._use(port)
                _log.warning("serial line lost", port=self._config.port, reason=reason)
            await asyncio.sleep(_AGAIN_S)

    def _open(self) -> Any:
        """The port, exclusively ours; on a thread of its own, for a driver may take its time."""
        import serial  # of pyserial: whoever has no line need not load it

        return serial.Serial(self._config.port, self._config.baud, timeout=0, write_timeout=0, exclusive=True)

    async def _use(self, port: Any) -> str:
        """Read and write until it is gone; returns why."""
        loop = asyncio.get_running_loop()
        self._lost = loop.create_future()
        self._port, self._fd = port, port.fileno()
        os.set_blocking(self._fd, False)
        self._decoder = SlipDecoder()
        self._lines.inc()
        _log.info("serial line there", port=self._config.port, baud=self._config.baud)
        try:
            loop.add_reader(self._fd, self._read)
            return await self._lost
        finally:
            fd, self._fd = self._fd, -1
            self._lines.dec()
            loop.remove_reader(fd)
            loop.remove_writer(fd)
            self._waiting.clear()
            with contextlib.suppress(OSError, termios.error):
                termios.tcflush(fd, termios.TCOFLUSH)  # to close would wait until it has gone out
            with contextlib.suppress(OSError):
                port.close()

    def _end(self, reason: str) -> None:
        if self._lost is not None and not self._lost.done():
            self._lost.set_result(reason)

    # What comes.

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(_told(error))
            return
        if not data:
            if _is_hung_up(self._fd):
                self._end("unplugged")
            return
        bad = self._decoder.bad
        for port, part in self._decoder.receive(data):
            if port == TEXT:
                if part:
                    self.heard_text(part)
            elif port == HOP_PORT:
                self.count("received")
                self._receive(part, self.peer, self)
            else:
                receive = self._media.get(port)
                self.count("received" if receive else "stray")
                if receive:
                    receive(part)
        for _ in range(self._decoder.bad - bad):
            self.count("bad")

    def count(self, what: str) -> None:
        """Count something of this line."""
        self._count.labels(self.name, what).inc()

    # What goes.

    def send(self, data: bytes | bytearray, peer: tuple[str, int]) -> None:
        """Send a datagram of the hop; whether it arrives is another matter.

        Raises:
            FlowClosedError: the line is not there, or the datagram is too large for it.
        """
        del peer
        if len(data) > MAX_DATAGRAM_BYTES:
            self.count("too large")
            raise FlowClosedError(f"{len(data)} bytes are too many for a serial line, {MAX_DATAGRAM_BYTES} at most")
        if not self.is_there:
            raise FlowClosedError("serial line is not there")
        self._write(encode(HOP_PORT, data), _MAX_HOP_BYTES)

    def send_media(self, port: int, data: bytes) -> str:
        """Send a datagram of media.

        Args:
            port: of the terminal.
            data: the datagram.

        Returns:
            Why it could not be sent, or nothing.
        """
        if not self.is_there:
            return "unreachable"
        if len(data) > MAX_DATAGRAM_BYTES:
            return "size"
        return "" if self._write(encode(port, data), _MAX_MEDIA_BYTES) else "full"

    def type(self, text: bytes) -> bool:
        """Send what somebody has typed on the console, without what is no UTF-8; False: there is no room just now."""
        if not self.is_there:
            self._typing.reset()
            return True  # nobody hears it
        if len(self._waiting) + len(text) + _MAX_CHARACTER_BYTES > _MAX_TEXT_BYTES:
            return False
        typed = self._typing.decode(text.translate(None, _NO_TEXT)).encode()
        if typed:
            self._write(typed, _MAX_TEXT_BYTES)
        return True

    def _write(self, data: bytes, limit: int) -> bool:
        """Send something whole, or not at all; returns which."""
        if self._waiting:
            if len(self._waiting) + len(data) > limit:
                self.count("dropped")
                return False
            self._waiting += data
            self.count("sent")
            return True
        try:
            size = os.write(self._fd, data)
        except BlockingIOError:
            size = 0
        except OSError as error:
            self._end(_told(error))
            return False
        self.count("sent")
        if size < len(data):
            self._waiting += data[size:]
            asyncio.get_running_loop().add_writer(self._fd, self._write_on)
        return True

    def _write_on(self) -> None:
        try:
            size = os.write(self._fd, self._waiting)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(_told(error))
            return
        del self._waiting[:size]
        if not self._waiting:
            asyncio.get_running_loop().remove_writer(self._fd)

    # Ports of ours, for media that comes by it.

    def listen(self, rtp: "Callable[[bytes], None]", rtcp: "Callable[[bytes], None]") -> int:
        """Take a pair of ports, the one that was free for longest.

        Args:
            rtp: called with what comes to the even one.
            rtcp: likewise of the next.

        Returns:
            The even one; 0 where none is free.
        """
        for _ in range(FIRST_PORT, LAST_PORT, 2):
            port = self._next_port
            self._next_port = port + 2 if port + 2 < LAST_PORT else FIRST_PORT
            if port not in self._media:
                self._media[port], self._media[port + 1] = rtp, rtcp
                return port
        return 0

    def forget(self, port: int) -> None:
        """Give a pair of ports back."""
        self._media.pop(port, None)
        self._media.pop(port + 1, None)

    @staticmethod
    def has_port(port: int) -> bool:
        """Whether media can be sent to a port of the terminal's."""
        return port != HOP_PORT and is_port(port)


def _is_hung_up(fd: int) -> bool:
    """Whether a line that is readable and has nothing to read is gone."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return any(events & (select.POLLHUP | select.POLLERR | select.POLLNVAL) for _, events in poll.poll(0))


def _told(error: Exception) -> str:
    """Why a line is not to be had, and what helps."""
    number = getattr(error, "errno", None)
    if number in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return "not plugged in"
    if number == errno.EACCES:
        return "permission denied: is the user that we run as in the group of the port, often dialout?"
    if number in {errno.EAGAIN, errno.EBUSY}:
        return "another program has it"
    if number == errno.EIO:
        return "unplugged"
    return (getattr(error, "strerror", None) or str(error)).lower()


def _nobody(_text: bytes) -> None:
    """Nobody reads the console."""
