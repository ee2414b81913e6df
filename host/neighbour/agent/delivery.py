"""Setup keys for our own terminals: each is given, in a frame, what waits for it (WIRE section 4.3).

due --MESSAGE--> 200: delivered, and forgotten
           `---> anything else, or nothing: again a few times, and whenever the terminal registers
"""

from typing import TYPE_CHECKING

import structlog

from sipwire.introduction import MAX_PEERS, Introduction, write_keys
from sipwire.message import Response

from ..again import Schedule
from ..location import wall_ms
from ..logs import Seldom
from ..store.database import StoreError
from .handing import MOVED, Work, ask, keys_message, left_s, line_of

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from ..hop import Agreement, Hops
    from ..location import Location
    from ..metrics import Metrics
    from ..store.setup_keys import Held, HeldKeys
    from ..transactions import Transactions
    from ..transport.flow import Flow

__all__ = ["Deliveries"]

_log = structlog.get_logger("setup")
_MAX_BODY_BYTES = 800  # of a message: with headers and frame it fits a SLIP packet, and a datagram in one piece
_AT_ONCE = 50  # terminals at a time; the others wait for the next look
_AGAIN_S = (30, 120, 600)  # between attempts to reach a terminal; then its next REGISTER is waited for


class Deliveries:
    """See the module.

    Args:
        domain: ours.
        held: the keys.
        transactions: sends.
        location: where terminals are.
        hops: flows to them.
        metrics: counts.
        work: runs what nobody waits for.
    """

    def __init__(
        self,
        domain: str,
        held: "HeldKeys",
        transactions: "Transactions",
        location: "Location",
        hops: "Hops",
        metrics: "Metrics",
        work: Work,
    ) -> None:
        self._domain = domain
        self._held = held
        self._transactions = transactions
        self._location = location
        self._hops = hops
        self._count = metrics.setup_keys.labels("delivered")
        self._work = work
        self._may_tell = Seldom()
        self._again: Schedule[str] = Schedule(_AGAIN_S, is_endless=False)
        #: Users for whose terminals there may be something; those who are given it; of these, those with more to come.
        self._waiting: set[str] = set()
        self._under_way: set[str] = set()
        self._news: set[str] = set()
        self._asked: dict[str, tuple[Agreement, asyncio.Future[Response | str]]] = {}

    async def load(self) -> None:
        """Take up what was under way before a restart.

        Raises:
            StoreError: the store failed.
        """
        self._waiting = await self._held.waiting()
        now = wall_ms()
        for user in self._waiting:
            self._again.soon(user, now)

    def look(self) -> None:
        """Try again what is due."""
        for user in self._again.due(wall_ms(), _AT_ONCE - len(self._under_way)):
            self._work.run(self._deliver(user))

    def due(self, user: str) -> None:
        """There is something for a user's terminal."""
        self._waiting.add(user)
        if len(self._under_way) < _AT_ONCE or user in self._under_way:
            self._work.run(self._deliver(user))
        else:
            self._again.soon(user, wall_ms())

    def registered(self, user: str) -> None:
        """A terminal has registered: it is given what waits for it."""
        if user not in self._waiting:
            return
        asked = self._asked.get(user)
        if asked is not None and asked[0] is not self._hops.newest(user) and not asked[1].done():
            asked[1].set_result(MOVED)
        self._again.forget(user)
        self.due(user)

    def gone(self, users: "Collection[str]") -> None:
        """There are no such terminals any more."""
        for user in users:
            self._waiting.discard(user)
            self._again.forget(user)

    async def _deliver(self, user: str) -> None:
        """Give a terminal all that waits for it, if it is there."""
        self._news.add(user)
        if user in self._under_way:
            return
        self._under_way.add(user)
        try:
            while user in self._news:
                self._news.discard(user)
                await self._deliver_all(user)
        except StoreError:
            self._again.failed(user, wall_ms())
            raise
        finally:
            self._under_way.discard(user)

    async def _deliver_all(self, user: str) -> None:
        while True:
            keys = [one for one in await self._held.due(user, MAX_PEERS) if left_s(one.ends_at)]
            if not keys:
                self._waiting.discard(user)
                self._again.forget(user)
                return
            found = self._terminal_of(user)
            if found is None:
                return  # it will register
            agreement, flow, contact = found
            keys, lines = _fitting(keys)
            domain = self._domain.encode()
            own = b"sip:" + user.encode() + b"@" + domain
            answered = ask(self._transactions, keys_message(contact, b"sip:" + domain, own, lines), flow)
            self._asked[user] = agreement, answered
            try:
                answer = await answered
            finally:
                del self._asked[user]
            if isinstance(answer, Response) and answer.status == 200:
                await self._held.delivered(keys)
                for one in keys:
                    self._count.inc()
                    _log.info("setup key delivered", user=user, peer=one.peer)
            elif answer != MOVED:
                self._again.failed(user, wall_ms())
                if self._may_tell(user):
                    reason = answer if isinstance(answer, str) else f"answered {answer.status}"
                    _log.warning("setup keys not delivered", user=user, reason=reason)
                return

    def _terminal_of(self, user: str) -> "tuple[Agreement, Flow, bytes] | None":
        """The agreement with a user's terminal, the flow to it, and its Contact; None where it is not registered."""
        for binding in self._location.of(user):
            flow = self._hops.flow(binding.spi)
            if flow is not None:
                return flow.agreement, flow, binding.target
        return None


def _fitting(keys: "list[Held]") -> "tuple[list[Held], list[Introduction]]":
    """As many keys, from the first on, as fit one message, and their lines."""
    lines: list[Introduction] = []
    for one in keys:
        line = line_of(one, one.peer.encode("latin-1"))
        if lines and len(write_keys([*lines, line])) > _MAX_BODY_BYTES:
            break
        lines.append(line)
    return keys[: len(lines)], lines
