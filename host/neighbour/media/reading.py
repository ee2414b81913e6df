"""Reading from thousands of sockets: one epoll of our own, which the event loop sees as a single file.

asyncio and uvloop make a callback for each socket that has something, which costs as much as reading it. Where there is
no epoll (it is Linux's) they do it all the same.
"""

import functools
import select
import sys
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

__all__ = ["Reader"]

_AT_ONCE = 128  # sockets between two turns of the event loop: less than 2 ms of work
_Channel = TypeVar("_Channel")


class Reader(Generic[_Channel]):
    """Tells which of many channels have something to read.

    Args:
        ready: called with them; each has something, or has had.
    """

    def __init__(self, ready: "Callable[[list[_Channel]], None]") -> None:
        self._ready = ready
        self._channels: dict[int, _Channel] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._epoll = select.epoll() if sys.platform == "linux" else None

    def start(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Begin; what was added before is read too."""
        self._loop = loop
        if self._epoll is not None:
            loop.add_reader(self._epoll.fileno(), self._poll)
        else:
            for number, channel in self._channels.items():
                loop.add_reader(number, self._ready, [channel])

    def add(self, sock: "socket.socket", channel: _Channel) -> None:
        """Read a socket from now on."""
        number = sock.fileno()
        self._channels[number] = channel
        if self._epoll is not None:
            self._epoll.register(number, select.EPOLLIN)
        elif self._loop is not None:
            self._loop.add_reader(number, functools.partial(self._ready, [channel]))

    def remove(self, sock: "socket.socket") -> None:
        """Read it no more; before it is closed."""
        number = sock.fileno()
        if self._channels.pop(number, None) is None:
            return
        if self._epoll is not None:
            self._epoll.unregister(number)
        elif self._loop is not None:
            self._loop.remove_reader(number)

    def close(self) -> None:
        """Read nothing any more."""
        if self._epoll is not None:
            if self._loop is not None:
                self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._epoll = None
        elif self._loop is not None:
            for number in self._channels:
                self._loop.remove_reader(number)
        self._channels.clear()
        self._loop = None

    def _poll(self) -> None:
        if self._epoll is None:
            return
        found = [self._channels[number] for number, _ in self._epoll.poll(0, _AT_ONCE) if number in self._channels]
        self._ready(found)
