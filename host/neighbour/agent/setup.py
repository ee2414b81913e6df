"""Setup keys at registration: the two neighbours introduce two terminals to each other (WIRE section 4.3).

    our terminal   REGISTER, Setup-Peers --> registered() --> K is made, and in the store: "offered"
    the peer's     <-- MESSAGE with K, signed and encrypted, over mutual TLS: `offers`
    neighbour      --> 200: both ends are to have it: "due" --> `delivery`

    the peer's     MESSAGE with K --> take() --> is it vouched for? does our user want it? --> "due" --> 200
    neighbour                                                                                    `--> `delivery`

What is in the store is sent again until there is an answer: the same K, since the peer may have it already. So both
ends get it or none, whatever breaks down in between; who gets it twice knows it by its name.

K is made by one of the two neighbours and known to both (WIRE section 6 says so), and to nobody else: it leaves in no
message that is not signed and encrypted, whatever the configuration allows for calls, nor is it encrypted for the key
of the trunk, which is the one most likely to be stolen. Nothing here logs more of it than whom it is for.
"""

import asyncio
import contextlib
import os
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog

from sipwire.introduction import MAX_PEERS, SETUP_KEYS, read_keys
from sipwire.setup_keys import KEY_BYTES, kid_of
from sipwire.uri import uri_of

from ..gate import PEER, PHONE, TERMINAL, user_of
from ..location import wall_ms
from ..logs import Seldom
from ..refusal import RefusedError, warning
from ..store.accounts import DOMAIN
from ..store.database import StoreError
from ..store.setup_keys import DUE, MAX_AOR, OFFERED, HeldKeys
from .delivery import Deliveries
from .handing import Work
from .offers import Offers
from .policy import HEAVY

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection

    from sipwire.introduction import Introduction, Wanted
    from sipwire.message import Request

    from ..gate import Sender
    from ..hop import Hops
    from ..location import Location
    from ..metrics import Metrics
    from ..resolver import Resolver
    from ..store.accounts import Account, Accounts
    from ..store.database import Store
    from ..transactions import Server, Transactions
    from ..transport.trunk import Trunks
    from .protection import Received
    from .security import SecurityAgent

__all__ = ["SetupExchange"]

_log = structlog.get_logger("setup")
_MAX_LIFE_S = 30 * 86_400  # of a key that we make or take: we keep it for as long where its terminal stays away
_MAX_OF_USER = 64  # keys held for a user; a terminal has room for sixteen. More are not made, and others get 480
_MAX_OF_PAIR = 2  # of these from the same peer: a terminal keeps as many, and the oldest gives way
_MAX_HELD = 20_000  # for everybody, 0.5 KB each; beyond it none is made, and others get 500 with Retry-After
_BUSY_S = 60  # of that Retry-After
_PAUSE_MS = (
    10_000  # in which a terminal's wish for the same peer counts once, and for others as often as fit a REGISTER
)
_MAX_PAUSES = 10_000  # terminals of which that is remembered; beyond, the oldest may ask sooner
_LOOK_AGAIN_MS = 60_000  # before what is over is looked for again, where the store failed


class SetupExchange:
    """See the module.

    Args:
        domain: ours.
        store: an open store.
        accounts: who is who.
        agent: signs and encrypts.
        transactions: sends.
        resolver: finds the servers of other domains.
        trunks: connects to them.
        location: where terminals are.
        hops: flows to them.
        metrics: counts.
    """

    def __init__(
        self,
        domain: str,
        store: "Store",
        accounts: "Accounts",
        agent: "SecurityAgent",
        transactions: "Transactions",
        resolver: "Resolver",
        trunks: "Trunks",
        location: "Location",
        hops: "Hops",
        metrics: "Metrics",
    ) -> None:
        self._domain = domain
        self._accounts = accounts
        self._count = metrics.setup_keys
        self._held = HeldKeys(store)
        self._work = Work()
        self._may_tell = Seldom()
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._deliveries = Deliveries(domain, self._held, transactions, location, hops, metrics, self._work)
        self._offers = Offers(
            domain,
            self._held,
            accounts,
            agent,
            transactions,
            resolver,
            trunks,
            metrics,
            self._work,
            self._deliveries.due,
        )
        self._pauses: dict[str, tuple[int, set[str]]] = {}  # whom a terminal has asked for, and until when that counts
        self._first_end: int | None = None

    async def load(self) -> None:
        """Take up what was under way before a restart.

        Raises:
            StoreError: the store failed.
        """
        await self._held.rid(self._domain, wall_ms())
        self._first_end = await self._held.first_end()
        await self._offers.load()
        await self._deliveries.load()

    async def close(self) -> None:
        """Stop; the store knows how far everything is."""
        await self._work.close()

    def look(self) -> None:
        """Try again what is due, and forget what is over; to be called every second or so."""
        self._offers.look()
        self._deliveries.look()
        now = wall_ms()
        if self._first_end is not None and self._first_end <= now:
            self._first_end = None
            self._work.run(self._expire(now))

    def gone(self, users: "Collection[str]") -> None:
        """The accounts of users are gone or others: what was for them, or for others with them, is for nobody."""
        self._held.drop_of(users, [self._aor(user) for user in users])
        self._deliveries.gone(users)

    async def _expire(self, now: int) -> None:
        try:
            await self._held.expire(now)
            self._ends(await self._held.first_end())
        except StoreError:
            self._ends(now + _LOOK_AGAIN_MS)
            raise

    def _ends(self, at: int | None) -> None:
        """Something is over at that time."""
        if at is not None and (self._first_end is None or at < self._first_end):
            self._first_end = at

    # Our terminals' wishes.

    def registered(self, user: str, wanted: "list[Wanted]") -> None:
        """A terminal has registered: give it what waits for it, and see to what it wants.

        Args:
            user: whose.
            wanted: the peers that its REGISTER names, which came in a frame.
        """
        self._deliveries.registered(user)
        if wanted:
            self._work.run(self._introduce(user, wanted))

    async def _introduce(self, user: str, wanted: "list[Wanted]") -> None:
        account = self._accounts.by_user(user)
        if account is None:
            return
        if not _can_have(account):
            self._tell(f"no {user}", "no setup keys", user=user, reason=f"it speaks as {account.signer}")
            return
        for one in {one.aor: one for one in wanted}.values():
            await self._want(account, one)

    async def _want(self, account: "Account", wanted: "Wanted") -> None:
        """Make a key for a terminal and a peer, unless there is one under way."""
        user, peer = account.user, wanted.aor.decode("latin-1")
        if peer == self._aor(user) or len(peer) > MAX_AOR or not self._may_ask(user, peer):
            return
        other = self._user_here(peer)
        async with self._locked(user, other):
            held = await self._held.of_pair(user, peer)
            for number, state in held:
                if state == OFFERED:
                    self._offers.begin(number)
            if held:
                return
            refusal = await self._room(user) or (await self._room(other) if other is not None else "")
            if refusal:
                self._tell(f"full {user}", "no setup key", user=user, peer=peer, reason=refusal)
            elif other is None:
                await self._make(account, wanted, peer)
            else:
                await self._make_here(account, wanted, peer, other)

    async def _make(self, account: "Account", wanted: "Wanted", peer: str) -> None:
        """Make a key for a peer elsewhere, whose neighbour is asked next."""
        kid, key, limits = self._new(wanted)
        user = account.user
        await self._held.add(kid, key, limits, OFFERED, (user, peer))
        if self._accounts.by_user(user) != account:
            await self._held.drop_pair((user, peer))
            return
        self._count.labels("offered").inc()
        for number, _ in await self._held.of_pair(user, peer):
            self._offers.begin(number)

    async def _make_here(self, account: "Account", wanted: "Wanted", peer: str, other: str) -> None:
        """Make a key for two of our own users: there is no neighbour to ask, but a user."""
        kid, key, limits = self._new(wanted)
        user, own, known = account.user, self._aor(account.user), self._accounts.by_user(other)
        pairs = (user, peer), (other, own)
        reason = ""
        if known is None or not _can_have(known):
            reason = "no such user" if known is None else f"{other} takes no setup keys"
        elif not await self._held.add(kid, key, limits, DUE, *pairs, consent=(other, own)):
            reason = _remedy(other, own)
        if reason:
            self._count.labels("refused").inc()
            self._tell(f"refused {user} {peer}", "setup key refused", user=user, peer=peer, reason=reason)
        elif self._accounts.by_user(user) != account or self._accounts.by_user(other) != known:
            await self._held.drop_pair(*pairs)
        else:
            self._count.labels("taken").inc()
            self._deliveries.due(user)
            self._deliveries.due(other)

    def _new(self, wanted: "Wanted") -> tuple[bytes, bytes, tuple[int, int, int]]:
        """A key: its name, itself, and its limits as the store has them."""
        key, now = os.urandom(KEY_BYTES), wall_ms()
        end = now + min(wanted.life, _MAX_LIFE_S) * 1000
        self._ends(end)
        return kid_of(key), key, (wanted.uses, now, end)

    def _may_ask(self, user: str, peer: str) -> bool:
        """Whether a wish is heard: each costs us a signature, and others as much, whatever comes of it."""
        now = wall_ms()
        until, asked = self._pauses.get(user, (0, set()))
        if until <= now:
            self._pauses.pop(user, None)
            if len(self._pauses) >= _MAX_PAUSES:
                del self._pauses[next(iter(self._pauses))]
            asked = set()
            self._pauses[user] = now + _PAUSE_MS, asked
        if peer in asked or len(asked) >= MAX_PEERS:
            return False
        asked.add(peer)
        return True

    # From the peer's neighbour.

    async def take(
        self, server: "Server", request: "Request", sender: "Sender", received: "Received | None", *, here: bool
    ) -> None:
        """Take a key for one of ours, and answer; whatever else has a body of that type is refused.

        Args:
            server: its transaction.
            request: it, opened.
            sender: who sent it.
            received: what it was like.
            here: whether it is for our domain, and for nobody on the way there.

        Raises:
            RefusedError: it is not to be taken.
            ParseError: malformed.
            StoreError: the store failed; the other neighbour tries again.
        """
        peer = self._vouched(request, sender, received, here=here)
        account, line = self._read(request, peer)
        user, aor = account.user, peer.decode("latin-1")
        async with self._locked(user):
            # What was taken before is not asked about again: the other end may have it by now.
            if not await self._held.knows(user, aor, kid_of(line.key)):
                await self._put(user, aor, line)
            if self._accounts.by_user(user) != account:
                await self._held.drop_pair((user, aor))
                raise RefusedError(404, "Not Found")
        server.reject(200, "OK")
        self._deliveries.due(user)

    def _vouched(self, request: "Request", sender: "Sender", received: "Received | None", *, here: bool) -> bytes:
        """Whom a key is from: the neighbour of that user has signed and encrypted it, for the one whom it names.

        Raises:
            RefusedError: that is not so.
        """
        if sender.kind != PEER or sender.name == self._domain or received is None:
            raise self._no("setup keys come from another domain's neighbour alone")
        if request.method != "MESSAGE" or request.to.tag or not here:
            raise self._no("setup keys come in a MESSAGE of its own, to who is to have them")
        said, status = request.from_.parsed_uri().aor(), received.status
        is_sealed = status.level == HEAVY and status.signed and status.encrypted and status.tls
        if not is_sealed or not said == status.verified == received.sender:
            raise self._no("setup keys have to be encrypted, and signed by the neighbour of who sends them")
        if request.to.parsed_uri().aor() != uri_of(request.uri).aor():
            # To is signed, and the Request-URI is not: it would be somebody else's key.
            raise self._no("setup keys are for who is named in To")
        return said

    def _read(self, request: "Request", peer: bytes) -> "tuple[Account, Introduction]":
        """For whom a key is, and which.

        Raises:
            RefusedError: there is no such user, or one who takes no keys.
            ParseError: malformed.
        """
        user = user_of(uri_of(request.uri)) or ""
        account = self._accounts.by_user(user)
        if account is None:
            raise RefusedError(404, "Not Found")
        kinds = [one.partition(b";")[0].strip(b" \t").lower() for one in request.get_all("content-type")]
        if not _can_have(account) or kinds != [SETUP_KEYS] or request.get("content-encoding") is not None:
            raise RefusedError(415, "Unsupported Media Type", warning(self._domain, f"{user} takes no setup keys so"))
        lines = read_keys(request.body)
        if len(lines) != 1 or lines[0].aor != peer or len(peer) > MAX_AOR:
            raise self._no("a setup key is that of who sends it, and one at a time")
        return account, lines[0]

    async def _put(self, user: str, peer: str, line: "Introduction") -> None:
        """Hold a key for one of ours.

        Raises:
            RefusedError: it is not wanted, or there is no room.
        """
        if not await self._held.consents(user, peer):
            raise self._unwanted(user, peer)
        held = [number for number, state in await self._held.of_pair(user, peer) if state == DUE]
        instead = held[: max(0, len(held) + 1 - _MAX_OF_PAIR)]
        if not instead and await self._room(user):
            # With 480 they keep it for later; 503 would have them hold back everything else, too (see `limits`).
            self._count.labels("full").inc()
            reason = warning(self._domain, "too many setup keys wait")
            raise RefusedError(480, "Temporarily Unavailable", reason, ("Retry-After", b"%d" % _BUSY_S))
        now = wall_ms()
        end = now + min(line.life, _MAX_LIFE_S) * 1000
        limits = line.uses, now, end
        pair = user, peer
        if not await self._held.add(kid_of(line.key), line.key, limits, DUE, pair, consent=pair, instead=instead):
            raise self._unwanted(user, peer)  # since a moment ago
        self._ends(end)
        self._count.labels("taken").inc()
        _log.info("setup key taken", user=user, peer=peer)

    def _unwanted(self, user: str, peer: str) -> RefusedError:
        reason = _remedy(user, peer)
        self._count.labels("unwanted").inc()
        self._tell(f"unwanted {user} {peer}", "setup key not wanted", user=user, peer=peer, reason=reason)
        return self._no(reason)

    def _no(self, reason: str) -> RefusedError:
        return RefusedError(403, "Forbidden", warning(self._domain, reason))

    async def _room(self, user: str) -> str:
        """Why there is no room for another key of a user's, "" where there is."""
        of_user, of_all = await self._held.count(user)
        if of_user >= _MAX_OF_USER:
            return f"{_MAX_OF_USER} setup keys wait for {user}"
        return "too many setup keys wait" if of_all >= _MAX_HELD else ""

    # Trust that is taken back (WIRE section 4.4).

    async def revoked(self, request: "Request", sender: "Sender") -> None:
        """A user takes trust back from another: forget what is held for the two, on its way in either direction.

        Args:
            request: a MESSAGE that says so; it goes on to the other.
            sender: who that is.

        Raises:
            ParseError: its From or To can't be read.
            StoreError: the store failed.
        """
        if sender.kind not in (TERMINAL, PHONE, PEER):
            return
        sides = [address.parsed_uri() for address in (request.from_, request.to)]
        if not all(uri.is_sip and uri.user is not None for uri in sides):
            return
        one, other = (uri.aor().decode("latin-1") for uri in sides)
        found = [(self._user_here(first), second) for first, second in ((one, other), (other, one))]
        pairs = [(user, peer) for user, peer in found if user is not None]
        if pairs:
            await self._held.drop_pair(*pairs)

    # What all have in common.

    def _aor(self, user: str) -> str:
        return f"sip:{user}@{self._domain}"

    def _user_here(self, aor: str) -> str | None:
        """The user of ours whose address-of-record that is, be there such a user or not."""
        uri = uri_of(aor.encode("latin-1"))
        return user_of(uri) if uri.host.decode("latin-1").lower() == self._domain else None

    @contextlib.asynccontextmanager
    async def _locked(self, *users: str | None) -> "AsyncIterator[None]":
        """Let nobody else decide anything about the keys of some users."""
        async with contextlib.AsyncExitStack() as stack:
            for user in sorted({user for user in users if user is not None}):
                lock = self._locks.get(user)
                if lock is None:
                    lock = self._locks[user] = asyncio.Lock()
                await stack.enter_async_context(lock)
            yield

    def _tell(self, key: str, event: str, **fields: str) -> None:
        """Log something that may come again and again, once a minute."""
        if self._may_tell(key):
            _log.warning(event, **fields)


def _can_have(account: "Account") -> bool:
    """Whether an account may have setup keys: a terminal that speaks as itself.

    Who speaks as a group is hidden behind it, and with that From no MAC of its own is right.
    """
    return account.is_terminal and account.signer in (None, DOMAIN)


def _remedy(user: str, peer: str) -> str:
    return f"{user} has no contact {peer}; `wisp account contact {user} --add {peer}` makes it one"
