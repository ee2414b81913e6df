"""Relays of media: each carries one media line of one call, and all of them are read by one object.

    party 0 <--> side 0 | Relay | side 1 <--> party 1

A relay knows no SIP and no SDP: signalling opens it, tells each `Side` what its party said, and closes it. It lives in
the neighbour's own event loop: nothing waits, and what is read at once is little, so that messages do not wait either.
Beside 500 calls one has to wait 0.1 ms, and some milliseconds once in a hundred times (`tools/bench media`); a process
of its own would have to be told of every call, and of every change, before an answer could go out.
"""

import asyncio
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .line import LinePair
from .ports import NoRoomError, Ports
from .reading import Reader
from .side import Moment, Side
from .statistics import Statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..transport.serial import SerialLine
    from .ports import Pair

__all__ = ["Relay", "RelaySettings", "Relays"]

_LOOK_S = 1.0  # between two looks for relays that nobody uses
_TIMEOUT = "timeout"


def _monotonic_ms() -> int:
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True)
class RelaySettings:
    """Limits of relays.

    Attributes:
        addresses: local addresses to bind to, the default one first.
        first_port: of the range for media.
        last_port: likewise; it belongs to it.
        max_relays: at a time, each with four ports.
        timeout_s: without a valid packet from either side, after which a relay has ended; 0 for never.
    """

    addresses: tuple[str, ...]
    first_port: int = 40_000
    last_port: int = 49_999
    max_relays: int = 2000
    timeout_s: int = 60


class Relay:
    """One media line of one call; `Relays.open` makes it.

    Attributes:
        sides: of the offerer's party and of the answerer's.
        ended: called once with this and the reason when nothing valid has come for too long; without it the relay
            closes itself.
        timeout_s: after how long; 0 for never. Signalling may change it, as for a call on hold; see `wait`.
    """

    def __init__(self, relays: "Relays", sides: tuple[Side, Side], timeout_s: int, now_ms: int) -> None:
        self.sides = sides
        self.ended: Callable[[Relay, str], None] | None = None
        self.timeout_s = timeout_s
        self._relays = relays
        self._began_ms = self._since_ms = now_ms
        self._final: Statistics | None = None
        self._told_ms = -1  # the last packet whose long absence has been told of

    @property
    def is_open(self) -> bool:
        """Whether it has not been closed."""
        return self._final is None

    @property
    def statistics(self) -> Statistics:
        """What there has been so far, or altogether once it is closed."""
        if self._final is not None:
            return self._final
        duration_ms = self._relays.now_ms - self._began_ms
        return Statistics(duration_ms, (self.sides[0].statistics, self.sides[1].statistics))

    def close(self) -> Statistics:
        """Close its sockets; once more does nothing. Returns what there has been."""
        if self._final is None:
            self._final = self.statistics
            self._relays.forget(self)
        return self._final

    def wait(self, timeout_s: int) -> None:
        """Count silence anew, from now: a call that has rung or was on hold for long has not been silent."""
        self.timeout_s = timeout_s
        self._since_ms = self._relays.now_ms

    def is_silent(self, now_ms: int) -> bool:
        """Whether nothing valid has come for too long."""
        return bool(self.timeout_s) and now_ms - self._last_ms >= self.timeout_s * 1000

    @property
    def _last_ms(self) -> int:
        return max(self._since_ms, *(side.last_ms or 0 for side in self.sides))

    def look(self, now_ms: int) -> None:
        """End it if nothing valid has come for too long."""
        last_ms = self._last_ms
        if not self.is_silent(now_ms) or last_ms == self._told_ms:
            return
        self._told_ms = last_ms
        if self.ended is None:
            self.close()
        else:
            self.ended(self, _TIMEOUT)


class Relays:
    """All relays of a neighbour.

    Args:
        settings: limits.
        clock: milliseconds, which never go back.

    Raises:
        ValueError: the range of ports has no pair.
    """

    def __init__(self, settings: RelaySettings, clock: "Callable[[], int]" = _monotonic_ms) -> None:
        self._settings = settings
        self._clock = clock
        self._moment = Moment(clock())
        self._ports = Ports(settings.first_port, settings.last_port, clock)
        self._open: set[Relay] = set()
        self._ours: Counter[tuple[str, int]] = Counter()
        self._closed: Counter[str] = Counter()  # counters of relays that are closed
        self._reader = Reader(self._tick)
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._open)

    @property
    def now_ms(self) -> int:
        """The time by the clock."""
        self._moment.ms = self._clock()
        return self._moment.ms

    def start(self) -> None:
        """Begin to read; within a running event loop."""
        loop = asyncio.get_running_loop()
        self._reader.start(loop)
        self._timer = loop.call_later(_LOOK_S, self._look, loop)

    def open(self, first: "str | SerialLine | None" = None, second: "str | SerialLine | None" = None) -> Relay:
        """Make a relay; nothing goes through before both sides have been told what to expect.

        Args:
            first: the local address of side 0, or the line that its party is at; None for the default address. It may
                be of another family than the other.
            second: likewise of side 1.

        Raises:
            NoRoomError: there are as many as may be, no ports are free, or the system has no sockets.
        """
        if len(self._open) >= self._settings.max_relays:
            self._closed["refused"] += 1
            raise NoRoomError(f"{len(self._open)} media relays are open, which is the limit (max_relays)")
        default = self._settings.addresses[0]
        now_ms = self.now_ms
        sides: list[Side] = []
        try:
            for address in (first or default, second or default):
                sides.append(Side(self._take(address), self._moment, self._reader, self._is_ours))  # noqa: PERF401  half made
        except NoRoomError:
            self._closed["refused"] += 1
            for side in sides:
                side.close()
                self._give(side.pair)
            raise
        sides[0].other, sides[1].other = sides[1], sides[0]
        relay = Relay(self, (sides[0], sides[1]), self._settings.timeout_s, now_ms)
        for side in sides:
            self._ours.update(side.pair.sockets)
        self._open.add(relay)
        self._closed["opened"] += 1
        return relay

    def forget(self, relay: Relay) -> None:
        """A relay is being closed: its sockets go, its counters stay."""
        self._open.discard(relay)
        for side in relay.sides:
            self._ours -= Counter(side.pair.sockets)
            side.close()
            self._give(side.pair)
        self._closed += _counters(relay)

    def _take(self, where: "str | SerialLine") -> "Pair | LinePair":
        return self._ports.take(where) if isinstance(where, str) else LinePair(where)

    def _give(self, pair: "Pair | LinePair") -> None:
        if isinstance(pair, LinePair):
            pair.close()
        else:
            self._ports.give(pair)

    def close_all(self) -> None:
        """Close every relay, and stop reading."""
        for relay in list(self._open):
            relay.close()
        if self._timer is not None:
            self._timer.cancel()
        self._reader.close()

    def counters(self) -> dict[str, int]:
        """How much there has been since the start.

        ``opened`` and ``refused`` relays, ``packets`` and ``bytes`` that were valid, ``sent`` packets, ``moves`` of
        addresses, and ``dropped: <reason>``.
        """
        total = Counter(self._closed)
        for relay in self._open:
            total += _counters(relay)
        return dict(total)

    def _is_ours(self, address: "tuple[Any, ...]") -> bool:
        """Whether a socket of a relay has that address."""
        if address[:2] in self._ours:
            return True
        # A relay at all addresses has each of them.
        return ("0.0.0.0", address[1]) in self._ours or ("::", address[1]) in self._ours  # noqa: S104

    def _tick(self) -> None:
        self._moment.ms = self._clock()

    def _look(self, loop: asyncio.AbstractEventLoop) -> None:
        now_ms = self.now_ms
        for relay in list(self._open):
            relay.look(now_ms)
        self._timer = loop.call_later(_LOOK_S, self._look, loop)


def _counters(relay: Relay) -> Counter[str]:
    total: Counter[str] = Counter()
    for side in relay.statistics.sides:
        total.update(packets=side.packets, bytes=side.bytes, sent=side.sent, moves=side.moves)
        total.update({f"dropped: {why}": count for why, count in side.dropped.items()})
    return total
