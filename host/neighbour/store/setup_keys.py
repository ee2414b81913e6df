"""Setup keys on their way to terminals, and whom users take them from (WIRE section 4.3).

    offered     made here; whether the peer's neighbour has it is not known yet
    due         both ends are to have it; the user's own terminal does not yet
    delivered   the terminal has it, and we have forgotten it: the row says no more than that and when, until its life
                is over, so that nobody's repetition brings it a second time

A key is read only by who sends it. Everything else, `wisp keys` above all, never asks the database for it.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, delete, exists, func, insert, literal, null, or_, select, union_all, update

from .database import read_at_once
from .schema import account_contacts, accounts, setup_keys

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement, Row

    from .database import Statement, Store

__all__ = [
    "DELIVERED",
    "DUE",
    "MAX_AOR",
    "MAX_CONTACTS",
    "OFFERED",
    "ContactsFullError",
    "Held",
    "HeldKeys",
    "KeyState",
    "change_contacts",
    "contacts_of",
    "forget_account",
    "known_contacts",
    "list_keys",
]

OFFERED = "offered"
DUE = "due"
DELIVERED = "delivered"
MAX_AOR = 256  # characters of an address-of-record; nobody's is as long, and more is refused
MAX_CONTACTS = 256  # of a user: a terminal has keys of sixteen
_KEPT_OF_PAIR = 2  # rows of what was delivered for the same two users: a terminal keeps as many keys of a peer
_KEPT_OF_USER = 256  # ... and for a user; beyond both the oldest is forgotten
_COLUMNS = ("user", "peer", "kid", "key", "uses", "made_at", "ends_at", "state")
_IS_HELD = setup_keys.c.state != DELIVERED


class ContactsFullError(Exception):
    """A user has so many contacts already."""


@dataclass(frozen=True)
class KeyState:
    """What may be told of a setup key.

    Attributes:
        user: whose terminal is to have it, or has it.
        peer: with whom it shares it, an address-of-record.
        state: `OFFERED`, `DUE` or `DELIVERED`.
        made_at, ends_at: wall-clock milliseconds.
        uses: calls that it is good for.
    """

    user: str
    peer: str
    state: str
    made_at: int
    ends_at: int
    uses: int


class Held:
    """A setup key that is not delivered yet; what it is stands in no repr.

    Attributes:
        number: of its row.
        user, peer, uses, ends_at: see `KeyState`.
        key: the 32 bytes.
    """

    __slots__ = ("ends_at", "key", "number", "peer", "user", "uses")

    def __init__(self, row: "Row[Any]") -> None:
        self.number: int = row.id
        self.user: str = row.user
        self.peer: str = row.peer
        self.uses: int = row.uses
        self.ends_at: int = row.ends_at
        self.key: bytes = row.key


class HeldKeys:
    """The table of setup keys.

    Args:
        store: an open store.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store

    async def rid(self, domain: str, now: int) -> None:
        """Forget what is nobody's any more, and what is over.

        Args:
            domain: ours.
            now: wall-clock milliseconds.
        """
        users = select(accounts.c.user)
        addresses = select(literal("sip:") + accounts.c.user + f"@{domain}")
        here = setup_keys.c.peer.endswith(f"@{domain}", autoescape=True)
        gone = or_(setup_keys.c.user.not_in(users), and_(here, setup_keys.c.peer.not_in(addresses)))
        await self._store.write(
            (delete(setup_keys).where(or_(gone, setup_keys.c.ends_at <= now)), {}),
            (delete(account_contacts).where(account_contacts.c.user.not_in(users)), {}),
        )

    async def expire(self, now: int) -> None:
        """Forget what is over."""
        await self._store.write((delete(setup_keys).where(setup_keys.c.ends_at <= now), {}))

    async def first_end(self) -> int | None:
        """When the first of all is over, wall-clock milliseconds; None where there is none."""
        found: int | None = (await self._store.read(select(func.min(setup_keys.c.ends_at))))[0][0]
        return found

    async def offers(self) -> list[int]:
        """The numbers of those that are offered."""
        query = select(setup_keys.c.id).where(setup_keys.c.state == OFFERED).order_by(setup_keys.c.id)
        return [row.id for row in await self._store.read(query)]

    async def waiting(self) -> set[str]:
        """The users for whose terminals there are some."""
        query = select(setup_keys.c.user).distinct().where(setup_keys.c.state == DUE)
        return {row.user for row in await self._store.read(query)}

    async def of_pair(self, user: str, peer: str) -> list[tuple[int, str]]:
        """Number and state of what is held for two users, the oldest first."""
        query = select(setup_keys.c.id, setup_keys.c.state).where(_is_of(user, peer), _IS_HELD)
        return [(row.id, row.state) for row in await self._store.read(query.order_by(setup_keys.c.id))]

    async def knows(self, user: str, peer: str, kid: bytes) -> bool:
        """Whether a key is held, or was delivered."""
        query = select(setup_keys.c.id).where(_is_of(user, peer), setup_keys.c.kid == kid.decode())
        return bool(await self._store.read(query))

    async def count(self, user: str) -> tuple[int, int]:
        """How many are held for a user, and for everybody."""
        of_user = select(func.count()).select_from(setup_keys).where(_IS_HELD, setup_keys.c.user == user)
        of_all = select(func.count()).select_from(setup_keys).where(_IS_HELD)
        return (await self._store.read(of_user))[0][0], (await self._store.read(of_all))[0][0]

    async def consents(self, user: str, aor: str) -> bool:
        """Whether a user takes keys from somebody."""
        query = select(account_contacts.c.aor).where(_is_contact(user, aor))
        return bool(await self._store.read(query))

    async def add(
        self,
        kid: bytes,
        key: bytes,
        limits: tuple[int, int, int],
        state: str,
        *pairs: tuple[str, str],
        consent: tuple[str, str] | None = None,
        instead: "Sequence[int]" = (),
    ) -> bool:
        """Hold a key for one or both of its users: for all of them or none.

        Args:
            kid: its name.
            key: the 32 bytes.
            limits: uses; when it was made and when it ends, in wall-clock milliseconds.
            state: `OFFERED` or `DUE`.
            pairs: user and peer of each row.
            consent: a user and who has to be among their contacts at that very moment.
            instead: numbers of rows whose place it takes.

        Returns:
            Whether it is held now.

        Raises:
            StoreError: the store failed.
        """
        rows = [(user, peer, kid.decode(), key, *limits, state) for user, peer in pairs]
        selects = [
            select(*(literal(value, setup_keys.c[name].type) for name, value in zip(_COLUMNS, row, strict=True)))
            for row in rows
        ]
        if consent is not None:
            allowed = exists(select(account_contacts.c.aor).where(_is_contact(*consent)))
            selects = [one.where(allowed) for one in selects]
        # One statement: no other process comes between its rows.
        statements: list[Statement] = [(insert(setup_keys).from_select(_COLUMNS, union_all(*selects)), {})]
        if instead:
            statements.append((delete(setup_keys).where(setup_keys.c.id.in_(instead)), {}))
        await self._store.write(*statements)
        return await self.knows(*pairs[0], kid)

    async def offered(self, number: int) -> Held | None:
        """A key that is offered, None where it is not any more."""
        query = select(setup_keys).where(setup_keys.c.id == number, setup_keys.c.state == OFFERED)
        rows = await self._store.read(query)
        return Held(rows[0]) if rows else None

    async def due(self, user: str, most: int) -> list[Held]:
        """The oldest keys for a user's terminal."""
        query = select(setup_keys).where(setup_keys.c.user == user, setup_keys.c.state == DUE)
        return [Held(row) for row in await self._store.read(query.order_by(setup_keys.c.id).limit(most))]

    async def accepted(self, number: int) -> None:
        """The peer's neighbour has taken a key that was offered: it is due to our terminal."""
        change = update(setup_keys).where(setup_keys.c.id == number, setup_keys.c.state == OFFERED)
        await self._store.write((change.values(state=DUE), {}))

    async def delivered(self, keys: "Collection[Held]") -> None:
        """A terminal has its keys: they are forgotten."""
        numbers = [one.number for one in keys]
        change = update(setup_keys).where(setup_keys.c.id.in_(numbers))
        statements: list[Statement] = [(change.values(state=DELIVERED, key=null()), {})]
        pairs = sorted({(one.user, one.peer) for one in keys})
        statements += [_without_oldest(_is_of(user, peer), _KEPT_OF_PAIR) for user, peer in pairs]
        users = sorted({one.user for one in keys})
        statements += [_without_oldest(setup_keys.c.user == user, _KEPT_OF_USER) for user in users]
        await self._store.write(*statements)

    async def drop(self, number: int) -> None:
        """Forget a key that nobody takes."""
        await self._store.write((delete(setup_keys).where(setup_keys.c.id == number), {}))

    async def drop_pair(self, *pairs: tuple[str, str]) -> None:
        """Forget what is held for pairs of a user and a peer."""
        one_of = or_(*(_is_of(user, peer) for user, peer in pairs))
        await self._store.write((delete(setup_keys).where(one_of, _IS_HELD), {}))

    def drop_of(self, users: "Collection[str]", addresses: "Collection[str]") -> None:
        """Forget, with the next commit, what there is for users, and for others about them."""
        of = or_(setup_keys.c.user.in_(users), setup_keys.c.peer.in_(addresses))
        self._store.write_soon((delete(setup_keys).where(of), {}))


def _is_of(user: str, peer: str) -> "ColumnElement[bool]":
    return and_(setup_keys.c.user == user, setup_keys.c.peer == peer)


def _is_contact(user: str, aor: str) -> "ColumnElement[bool]":
    return and_(account_contacts.c.user == user, account_contacts.c.aor == aor)


def _without_oldest(of: "ColumnElement[bool]", kept: int) -> "Statement":
    """Forget rows of what was delivered but for the newest."""
    such = and_(of, setup_keys.c.state == DELIVERED)
    newest = select(setup_keys.c.id).where(such).order_by(setup_keys.c.id.desc()).limit(1).offset(kept)
    return delete(setup_keys).where(such, setup_keys.c.id <= newest.scalar_subquery()), {}


# What the commands use.


async def list_keys(store: "Store", now: int, user: str = "") -> list[KeyState]:
    """What there is to tell of setup keys, the oldest first.

    Args:
        store: an open store.
        now: wall-clock milliseconds; what is over then is left out.
        user: whose, "" for everybody's.
    """
    table = setup_keys.c
    query = select(table.user, table.peer, table.state, table.made_at, table.ends_at, table.uses)
    query = query.where(table.ends_at > now).order_by(table.user, table.id)
    if user:
        query = query.where(table.user == user)
    return [KeyState(*row) for row in await store.read(query)]


async def contacts_of(store: "Store", user: str) -> list[str]:
    """Whom a user takes setup keys from, by name."""
    query = select(account_contacts.c.aor).where(account_contacts.c.user == user).order_by(account_contacts.c.aor)
    return [row.aor for row in await store.read(query)]


def known_contacts(url: str) -> list[tuple[str, str]]:
    """Every user's contacts, as user and address-of-record, read at once; see `read_at_once`."""
    query = select(account_contacts).order_by(account_contacts.c.user, account_contacts.c.aor)
    return [(row.user, row.aor) for row in read_at_once(url, query) or ()]


async def change_contacts(
    store: "Store", domain: str, user: str, add: "Collection[str]", remove: "Collection[str]"
) -> None:
    """Change whom a user takes setup keys from; what is held for a pair that is parted is forgotten on both sides.

    Args:
        store: an open store.
        domain: ours.
        user: whose contacts, an account's.
        add: addresses-of-record; some may be there already.
        remove: likewise.

    Raises:
        ContactsFullError: there would be more than `MAX_CONTACTS`.
        StoreError: the store failed.
    """
    known = set(await contacts_of(store, user))
    new = set(add) - known
    if len((known | new) - set(remove)) > MAX_CONTACTS:
        raise ContactsFullError(f"{user}: {MAX_CONTACTS} contacts are as many as there may be")
    statements: list[Statement] = [(insert(account_contacts), {"user": user, "aor": aor}) for aor in sorted(new)]
    own = f"sip:{user}@{domain}"
    for aor in remove:
        statements.append((delete(account_contacts).where(_is_contact(user, aor)), {}))
        parted = [_is_of(user, aor)]
        if aor.endswith(f"@{domain}"):
            parted.append(_is_of(aor.removeprefix("sip:").removesuffix(f"@{domain}"), own))
        statements.append((delete(setup_keys).where(or_(*parted), _IS_HELD), {}))
    await store.write(*statements)


def forget_account(user: str, domain: str) -> "list[Statement]":
    """The statements that take an account out of both tables, and out of what others of its domain have of it."""
    aor = f"sip:{user}@{domain}"
    return [
        (delete(setup_keys).where(or_(setup_keys.c.user == user, setup_keys.c.peer == aor)), {}),
        (delete(account_contacts).where(or_(account_contacts.c.user == user, account_contacts.c.aor == aor)), {}),
    ]
