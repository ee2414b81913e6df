"""A line between two terminals that loses packets: somebody on the trunk, who leads their media through here.

    a.example --offer--> Middle: `tamper` puts our address into it --> b.example
    Alice <--SRTP--> BadLine, one port for each of them and each stream <--SRTP--> Bob

It knows no keys: what it does with a packet is to pass it on, or not.
"""

import random
import select
import socket
import threading
from types import TracebackType
from typing import Self

from attacks.middle import FORTH

from sipwire.message import Request, Response
from sipwire.sdp import Session

__all__ = ["BadLine"]

_SEED = 4103  # the same losses each time, as far as the same packets come


class _Way:
    """One stream: the port that each side sends to, by the direction of the description that names it."""

    def __init__(self, address: str) -> None:
        self.targets: dict[str, tuple[str, int]] = {}
        self.sockets = {}
        for direction in ("forth", "back"):
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            made.bind((address, 0))
            self.sockets[direction] = made


class BadLine(threading.Thread):
    """See the module. Both sides have RTCP on the port of RTP (RFC 5761), or it does not come through.

    Args:
        address: its own.

    Attributes:
        lost_percent: how many packets in a hundred it loses.
        lost, passed: how many so far.
    """

    def __init__(self, address: str) -> None:
        super().__init__(daemon=True)
        self._address = address
        self._chance = random.Random(_SEED)
        self._ways: list[_Way] = []
        self._stopped = threading.Event()
        self.lost_percent = 0
        self.lost = self.passed = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.join()
        for way in self._ways:
            for one in way.sockets.values():
                one.close()

    def tamper(self, message: Request | Response, direction: str) -> list[Request | Response]:
        """For `Middle.tamper`: a description that passes names us in place of who made it."""
        if message.body and (message.get("content-type") or b"") == b"application/sdp":
            description = Session.parse(message.body)
            for index, media in enumerate(description.media):
                if index == len(self._ways):
                    self._ways.append(_Way(self._address))
                if media.port:
                    way = self._ways[index]
                    way.targets[direction] = (description.address(media).decode(), media.port)
                    media.port = way.sockets[direction].getsockname()[1]
            description.lines = [
                (kind, b"IN IP4 " + self._address.encode() if kind == b"c" else value)
                for kind, value in description.lines
            ]
            message.set_body(b"application/sdp", description.serialize())
        return [message]

    def run(self) -> None:
        while not self._stopped.is_set():
            named = {one: (way, direction) for way in self._ways for direction, one in way.sockets.items()}
            for ready in select.select(list(named), [], [], 0.05)[0]:
                data = ready.recv(2000)
                way, direction = named[ready]
                # Whoever was named by this description gets it, from the port that names the other.
                target = way.targets.get(direction)
                if target is None or self._chance.random() * 100 < self.lost_percent:
                    self.lost += 1
                    continue
                self.passed += 1
                way.sockets["back" if direction == FORTH else FORTH].sendto(data, target)
