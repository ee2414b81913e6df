"""Reading from thousands of sockets: one epoll of our own, which the event loop sees as a single file.

asyncio and uvloop make a callback for each socket that has something, which costs as much as reading it. Where there is
no epoll (it is Linux's) they do it all the same.
"""

import select
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    import socket
    from collections.abc import Callable

__all__ = ["Reader"]

_AT_ONCE = 128  # sockets between two turns of the event loop: less than 2 ms of work


class Reader:
    """Reads sockets when they have something: one datagram of each, so that none comes twice before others.

    Args:
        begin: called before some of them are read.

    Attributes:
        begin: likewise, for what is read elsewhere.
    """

    def __init__(self, begin: "Callable[[], None]") -> None:
        self.begin = begin
        self._receive: dict[int, Callable[[], None]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._epoll = select.epoll() if sys.platform == "linux" else None

    def start(self, loop: "asyncio.AbstractEventLoop") -> None:
        """Begin; what was added before is read too."""
        self._loop = loop
        if self._epoll is not None:
            loop.add_reader(self._epoll.fileno(), self._poll)
        else:
            for number in self._receive:
                loop.add_reader(number, self._read, number)

    def add(self, sock: "socket.socket", receive: "Callable[[], None]") -> None:
        """Read a socket from now on.

        Args:
            sock: non-blocking.
            receive: reads a datagram, if there is one.
        """
        number = sock.fileno()
        self._receive[number] = receive
        if self._epoll is not None:
            self._epoll.register(number, select.EPOLLIN)
        elif self._loop is not None:
            self._loop.add_reader(number, self._read, number)

    def remove(self, sock: "socket.socket") -> None:
        """Read it no more; before it is closed."""
        number = sock.fileno()
        if self._receive.pop(number, None) is None:
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
            for number in self._receive:
                self._loop.remove_reader(number)
        self._receive.clear()
        self._loop = None

    def _poll(self) -> None:
        if self._epoll is None:
            return
        self.begin()
        receive = self._receive
        for number, _ in self._epoll.poll(0, _AT_ONCE):
            if number in receive:  # else it was closed because of one before
                receive[number]()

    def _read(self, number: int) -> None:
        self.begin()
        self._receive[number]()
