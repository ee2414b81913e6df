"""Overload: seen before memory or latency goes, and answered by taking on less.

What is looked at ten times a second:

    delay           what a message waits before it is read: in the kernel's queue, and for the event loop
    transactions    that live
    requests        that are being worked on: that wait for the database, DNS or a trunk
    writes          that wait for the database

While one of them is above its limit the level rises; while all are below half of it the level falls; in between it
stays. The level says what share of requests is refused. It is a share and not all of them: who refuses everything for
a while, and nothing for the next, is idle in the one and overloaded in the other (RFC 5390 section 5.3).

    level 0 ........................ 1000 ........................ 2000 ........................ 3000
            503 to strangers who          what strangers send is        503 to everybody else: in frames,
            begin with something          not even read                 over trunks, from where users are

A stranger is who comes from an address where nobody has lately shown who they are. One who answers a challenge is none
any more: refused then, they would begin again with the work that is done. To answer 503 costs half of what a challenge
costs, and not to read nothing ("Servers MAY ... drop the request instead", RFC 3261 section 21.5.4).

Only what begins something is refused. What belongs to a transaction or to a dialog passes, BYE above all: it ends work.
"""

import asyncio
import random
import socket
import struct
import sys
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from collections.abc import Callable

    from .config import LimitsConfig
    from .metrics import Metrics
    from .transport.udp import UdpTransport

__all__ = ["Overload"]

_log = structlog.get_logger("overload")
_LOOK_MS = 100
_BAND = 1000  # of the level
_BANDS = 3
_RISE = 100  # a look: a band in a second
_FALL = 50  # a look: what was too much a moment ago is tried again more slowly
_SMOOTH = 4  # a look counts a quarter: a single pause of less than a second is not overload
_MAX_LATE_MS = 2000  # a computer that slept for a night was not overloaded all the night
_RETRY_S = (5, 15)  # Retry-After, at random in between: those who were refused together shall not return together
_PEER_RETRY_S = 1  # to another domain, which may not send us anybody's request so long (RFC 3261 section 21.5.4)
_MEMINFO = 55  # SO_MEMINFO of Linux, what the kernel holds for a socket: `socket` has no name for it
_MEMINFO_WORDS = 9
_QUEUED_WORD = 0  # SK_MEMINFO_RMEM_ALLOC
_LOST_WORD = 8  # SK_MEMINFO_DROPS
_DATAGRAM_BYTES = 1280  # what the kernel counts for one of 500 bytes; larger ones look like two


class Overload:
    """Watches the load, and says who is refused.

    Args:
        config: the limits.
        metrics: shows the level.
        counts: the numbers of ``transactions``, ``requests`` and ``writes``, each as a function.

    Attributes:
        level: 0 to 3000, see the module.
    """

    def __init__(self, config: "LimitsConfig", metrics: "Metrics", counts: "dict[str, Callable[[], int]]") -> None:
        limits = {
            "transactions": config.max_transactions,
            "requests": config.max_requests,
            "writes": config.max_writes,
        }
        # The last fifth is for what belongs to calls.
        self._counts = [(name, count, limits[name] * 4 // 5) for name, count in counts.items()]
        self._delay_limit_ms = config.delay_ms
        self._delay_ms = 0
        self._queues: list[_Queue] = []
        self._causes: set[str] = set()
        self.level = 0
        self._metrics = metrics
        metrics.overload.set_function(lambda: self.level / (_BANDS * _BAND))
        metrics.delay.set_function(lambda: self._delay_ms / 1000)
        metrics.datagrams_lost.set_function(lambda: sum(queue.lost for queue in self._queues))

    def add_udp(self, transport: "UdpTransport") -> None:
        """Look at what waits in this socket, too."""
        self._queues.append(_Queue(transport))

    async def watch(self) -> None:
        """Look, for ever."""
        loop = asyncio.get_running_loop()
        last = loop.time()
        while True:
            await asyncio.sleep(_LOOK_MS / 1000)
            now = loop.time()
            self.look(int((now - last) * 1000))
            last = now

    def look(self, elapsed_ms: int) -> None:
        """Take a look, and raise or lower the level.

        Args:
            elapsed_ms: since the last look; what is above the time between two is what the event loop was late.
        """
        late_ms = min(max(0, elapsed_ms - _LOOK_MS), _MAX_LATE_MS)
        waits_ms = max([queue.look(elapsed_ms) for queue in self._queues], default=0)
        self._delay_ms += (late_ms + waits_ms - self._delay_ms) // _SMOOTH
        values = [("delay", self._delay_ms, self._delay_limit_ms)]
        values += [(name, count(), limit) for name, count, limit in self._counts]
        above = {name for name, value, limit in values if value > limit}
        if above:
            self._rise(above)
        elif self.level and all(value <= limit // 2 for _, value, limit in values):
            self.level = max(0, self.level - _FALL)
            if not self.level:
                _log.info("overload is over", causes=sorted(self._causes))
                self._causes.clear()

    def _rise(self, causes: set[str]) -> None:
        if not self.level:
            _log.warning("overloaded", causes=sorted(causes), delay_ms=self._delay_ms)
        self.level = min(_BANDS * _BAND, self.level + _RISE)
        for cause in causes - self._causes:
            self._metrics.overloads.labels(cause).inc()
        self._causes |= causes

    def refuses(self, *, stranger: bool) -> bool:
        """Whether a request that begins something is to be refused.

        Args:
            stranger: whether nobody knows who sent it.
        """
        return self._is_in(0 if stranger else 2)

    def skips(self) -> bool:
        """Whether what a stranger sends is not to be read."""
        return self._is_in(1)

    def _is_in(self, band: int) -> bool:
        share = self.level - band * _BAND
        return share > 0 and random.randrange(_BAND) < share

    @staticmethod
    def retry_after(*, peer: bool) -> bytes:
        """The value of Retry-After, in seconds.

        Args:
            peer: whether it is for another domain.
        """
        return b"%d" % (_PEER_RETRY_S if peer else random.randint(*_RETRY_S))


class _Queue:
    """What waits in the kernel for one UDP socket, as far as the system tells.

    Attributes:
        lost: how many datagrams had no place in it, since the socket was opened.
    """

    def __init__(self, transport: "UdpTransport") -> None:
        self._transport = transport
        self._read = transport.received
        self._waiting = 0
        self.lost = 0

    def look(self, elapsed_ms: int) -> int:
        """How many milliseconds the last one of those that waited at the last look has waited, about."""
        read, self._read = self._transport.received - self._read, self._transport.received
        waited, self._waiting = self._waiting, self._count()
        return min(waited * elapsed_ms // max(1, read), _MAX_LATE_MS)

    def _count(self) -> int:
        sock = self._transport.socket
        if sock is None or not sys.platform.startswith("linux"):
            return 0
        try:
            info = sock.getsockopt(socket.SOL_SOCKET, _MEMINFO, 4 * _MEMINFO_WORDS)
            words = struct.unpack(f"={_MEMINFO_WORDS}I", info)
        except (OSError, struct.error):
            return 0  # an older kernel: only the event loop's lateness is seen then
        self.lost = words[_LOST_WORD]
        return int(words[_QUEUED_WORD]) // _DATAGRAM_BYTES
