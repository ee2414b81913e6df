"""Datagrams in memory: links that lose, delay, double and reorder them."""

import random
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sipwire.hop import FRAME_MARK
from sipwire.message import Request, Response, parse

if TYPE_CHECKING:
    import asyncio

__all__ = ["Datagrams", "Link"]

_DELAY_S = 0.005


@dataclass
class Link:
    """Between a phone and the neighbour.

    Attributes:
        loss: the share of datagrams that is lost, each way.
        delay_s: how long each takes.
        jitter_s: up to how much longer: with it, they overtake each other.
        drop: says of a message, and whether it goes to the neighbour, that it is lost.
        down: nothing gets through.
        copies: how often each arrives.
        lost: how many were.
    """

    loss: float = 0.0
    delay_s: float = _DELAY_S
    jitter_s: float = 0.0
    drop: "Callable[[Request | Response, bool], bool] | None" = None
    down: bool = False
    copies: int = 1
    lost: int = 0
    _waiting: "deque[Callable[[], None]]" = field(default_factory=deque)
    _last_at: float = 0.0

    def carry(
        self,
        data: bytes,
        chance: random.Random,
        loop: "asyncio.AbstractEventLoop",
        deliver: Callable[[], None],
        *,
        to_neighbour: bool,
    ) -> None:
        """Take a datagram along, or not."""
        for _ in range(self.copies):
            if self.down or chance.random() < self.loss or self._drops(data, to_neighbour):
                self.lost += 1
            else:
                self._send(loop, loop.time() + self.delay_s + chance.random() * self.jitter_s, deliver)

    def _send(self, loop: "asyncio.AbstractEventLoop", at: float, deliver: Callable[[], None]) -> None:
        if at < self._last_at:
            loop.call_at(at, deliver)
        else:
            self._last_at = at
            self._waiting.append(deliver)  # timers of one moment would come in any order
            loop.call_at(at, self._next)

    def _next(self) -> None:
        self._waiting.popleft()()

    def _drops(self, data: bytes, to_neighbour: bool) -> bool:
        return self.drop is not None and data[0] != FRAME_MARK and self.drop(parse(data), to_neighbour)


class Datagrams:
    """What asyncio would give the neighbour for its UDP socket."""

    def __init__(self, send: Callable[[bytes, tuple[str, int]], None]) -> None:
        self._send = send

    def sendto(self, data: bytes, address: tuple[Any, ...]) -> None:
        self._send(data, (address[0], address[1]))

    def get_extra_info(self, name: str) -> None:
        """There is no socket behind it."""

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        pass
