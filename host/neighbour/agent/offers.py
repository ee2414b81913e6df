"""Setup keys for terminals elsewhere: each is sent to the neighbour of its peer until that has answered (WIRE 4.3).

offered --MESSAGE, signed and encrypted--> 200: due, at both ends
                                     `---> no for good: dropped, at both ends
                                     `---> not now, or nothing: the same key again, later

The peer's neighbour may have taken a key of which we have no answer; it knows it by its name when it comes again.
"""

from typing import TYPE_CHECKING

import structlog

from sipwire.errors import ParseError
from sipwire.message import Response
from sipwire.transaction import TRANSPORT_ERROR
from sipwire.uri import Uri, uri_of

from ..again import Schedule
from ..location import wall_ms
from ..logs import Seldom
from ..refusal import RefusedError
from ..resolver import ResolveError
from ..store.database import StoreError
from ..transport.flow import FlowClosedError
from ..transport.trunk import TrunkError
from .handing import Work, ask, keys_message, left_s, line_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from ..metrics import Metrics
    from ..resolver import Resolver
    from ..store.accounts import Account, Accounts
    from ..store.setup_keys import Held, HeldKeys
    from ..transactions import Transactions
    from ..transport.flow import Flow
    from ..transport.trunk import Trunks
    from .security import SecurityAgent

__all__ = ["Offers"]

_log = structlog.get_logger("setup")
_AT_ONCE = 50  # at a time; the others wait for the next look
#: Seconds between attempts to reach the peer's neighbour; the last one again and again, until the key's life is over.
_AGAIN_S = (30, 60, 120, 300, 900, 3600)
_NOT_NOW = (408, 480)  # and all of 5xx but those that say "never"
_NEVER = (501, 505, 513)


class Offers:
    """See the module.

    Args:
        domain: ours.
        held: the keys.
        accounts: who is who.
        agent: signs and encrypts.
        transactions: sends.
        resolver: finds the servers of other domains.
        trunks: connects to them.
        metrics: counts.
        work: runs what nobody waits for.
        due: called with a user for whose terminal there is a key.
    """

    def __init__(
        self,
        domain: str,
        held: "HeldKeys",
        accounts: "Accounts",
        agent: "SecurityAgent",
        transactions: "Transactions",
        resolver: "Resolver",
        trunks: "Trunks",
        metrics: "Metrics",
        work: Work,
        due: "Callable[[str], None]",
    ) -> None:
        self._domain = domain
        self._held = held
        self._accounts = accounts
        self._agent = agent
        self._transactions = transactions
        self._resolver = resolver
        self._trunks = trunks
        self._accepted, self._refused = (metrics.setup_keys.labels(one) for one in ("accepted", "refused"))
        self._work = work
        self._due = due
        self._may_tell = Seldom()
        #: By the numbers of the keys.
        self._again: Schedule[int] = Schedule(_AGAIN_S, is_endless=True)
        self._under_way: set[int] = set()

    async def load(self) -> None:
        """Take up what was under way before a restart.

        Raises:
            StoreError: the store failed.
        """
        now = wall_ms()
        for number in await self._held.offers():
            self._again.soon(number, now)

    def look(self) -> None:
        """Try again what is due."""
        for number in self._again.due(wall_ms(), _AT_ONCE - len(self._under_way)):
            self._work.run(self._offer(number))

    def begin(self, number: int) -> None:
        """Send a key, now or when others that are under way have been answered."""
        self._again.soon(number, wall_ms())
        if len(self._under_way) < _AT_ONCE:
            self._work.run(self._offer(number))

    async def _offer(self, number: int) -> None:
        if number in self._under_way:
            return
        self._under_way.add(number)
        try:
            held = await self._held.offered(number)
            account = None if held is None else self._accounts.by_user(held.user)
            if held is None or account is None or not left_s(held.ends_at):
                self._again.forget(number)
            else:
                await self._settle(held, await self._send(held, account))
        except StoreError:
            self._again.failed(number, wall_ms())
            raise
        finally:
            self._under_way.discard(number)

    async def _send(self, held: "Held", account: "Account") -> Response | str:
        """Ask the peer's neighbour to take a key; returns its answer, or why there is none."""
        to, sender = held.peer.encode("latin-1"), f"sip:{held.user}@{self._domain}".encode()
        domain = uri_of(to).host.decode("latin-1").lower()
        has_learnt = has_reconnected = False
        try:
            while True:
                flow = await self._reach(domain)
                # Anew each time: what was there before, by its Call-ID, is not taken again.
                request = keys_message(to, sender, to, [line_of(held, sender)])
                request, sent = await self._agent.envelop(request, account, flow, domain)
                answer = await ask(self._transactions, request, flow)
                if isinstance(answer, str):
                    if answer != TRANSPORT_ERROR or has_reconnected:
                        return f"no answer from {domain}"
                    has_reconnected = True  # its connection may have died without our knowing
                elif answer.status == 493 and not has_learnt and self._agent.learn(answer, sent, flow):
                    has_learnt = True
                else:
                    return answer
        except RefusedError as refusal:
            return next((_text(value) for name, value in refusal.headers if name == "Warning"), refusal.reason)
        except (ParseError, ResolveError, TrunkError, FlowClosedError) as error:
            return str(error)

    async def _reach(self, domain: str) -> "Flow":
        """A trunk to a domain, over TLS: as if for a sips URI, whatever else the configuration allows."""
        return await self._trunks.reach(Uri(domain.encode("latin-1"), scheme=b"sips"), self._resolver)

    async def _settle(self, held: "Held", answer: Response | str) -> None:
        """Go on by what the peer's neighbour has answered."""
        user, peer = held.user, held.peer
        if isinstance(answer, Response) and answer.status == 200:
            await self._held.accepted(held.number)
            self._again.forget(held.number)
            self._accepted.inc()
            _log.info("setup key accepted", user=user, peer=peer)
            self._due(user)
            return
        reason = answer
        if isinstance(answer, Response):
            reason = f"answered {answer.status} {_text(answer.get('warning') or b'')}".rstrip()
        if isinstance(answer, str) or _is_passing(answer.status):
            self._again.failed(held.number, wall_ms())
            if self._may_tell(f"later {user} {peer}"):
                _log.warning("setup key not yet sent", user=user, peer=peer, reason=reason)
            return
        await self._held.drop(held.number)
        self._again.forget(held.number)
        self._refused.inc()
        if self._may_tell(f"refused {user} {peer}"):
            _log.warning("setup key refused", user=user, peer=peer, reason=reason)


def _is_passing(status: int) -> bool:
    """Whether it may be otherwise later: a server that is busy or broken, a user who has too many keys."""
    return status in _NOT_NOW or (500 <= status < 600 and status not in _NEVER)


def _text(value: bytes) -> str:
    """The text of a Warning, for the log."""
    return value.partition(b' "')[2].removesuffix(b'"').decode("utf-8", "replace")
