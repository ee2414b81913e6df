"""Accounts: who may register, and by which secrets.

The secrets are HA1 values; a password is hashed at once and never kept (RFC 7616 section 5.13 tells why they are still
secrets). The server has all accounts in memory. Other processes change them (``wisp account``): it looks for changes
every second, and at once when somebody is not found or a secret does not fit. Who an account is never changes: one that
is to be another is removed and made again. What changes is how it is reached and what is done for it. Each change
raises a counter, and that is all it looks at until it has risen; then it reads what has changed since, and all of them
only where some are missing.
"""

import asyncio
import secrets
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from sqlalchemy import Row, delete, func, insert, or_, select, update

from sipwire.digest import MD5, SHA256, ha1

from ..config import LEVELS, RELAYS, SRTP, user_name
from .database import read_at_once
from .schema import accounts, agreements, bindings, counters
from .setup_keys import forget_account

if TYPE_CHECKING:
    from collections.abc import Callable

    from .database import Store

__all__ = [
    "ASSISTS",
    "DOMAIN",
    "PROXY",
    "REDIRECT",
    "SHOWS",
    "Account",
    "AccountModeError",
    "AccountExistsError",
    "Accounts",
    "Settings",
    "add_account",
    "known_users",
    "list_accounts",
    "new_secret",
    "remove_account",
    "set_account",
    "set_mode",
]

PROXY = "proxy"
REDIRECT = "redirect"
DOMAIN = "domain"  # as a signer
ASSISTS = ("sign", "encrypt")
SHOWS = ("subject", "asserted")

_SECRET_BYTES = 24  # of a terminal; WIRE section 1.2 wants 128 bits at least
_LOOK_S = 0.2  # between two looks for changes, however many strangers knock
_IS_COUNTER = counters.c.name == "accounts"
_COUNTER = select(counters.c.value).where(_IS_COUNTER)
_COUNT = update(counters).where(_IS_COUNTER).values(value=counters.c.value + 1)
_INSERT = insert(accounts).values(revision=_COUNTER.scalar_subquery(), changed=_COUNTER.scalar_subquery())


class AccountExistsError(Exception):
    """There is such a user or digest username already."""


class AccountModeError(Exception):
    """An account can't be reached so; the text says why."""


@dataclass(frozen=True)
class Account:
    """One user of the domain.

    Attributes:
        user: the user part of the AOR.
        auth_user: the digest username.
        is_terminal: whether it registers by the hop; a phone does by digest.
        ha1_sha256: HA1 in hex, or None for an MD5-only phone.
        ha1_md5: HA1 in hex, or None.
        revision: differs from that of every other account that the user had or will have.
        mode: how others reach it: `PROXY`, `REDIRECT`, or None: as the configuration says.
        level: the least that its calls with other domains have to reach, or None: as the configuration says.
        assist: what is done for its requests that do not say (WIRE section 2): "none", one of `ASSISTS`, or both with a
            comma between them; None: what the level wants.
        signer: whose certificate signs for it: None for its own, `DOMAIN`, or a group's user name.
        show: how its phone is told whom we verified, beside Security-Status: one of `SHOWS`, or both with a comma
            between them; None: in no other way.

        relay: when its media are relayed, of `RELAYS`, or None: as the configuration says.
        srtp: how its phone's media have to be protected, of `SRTP`, or None: as the configuration says.

    The last seven make no other account.
    """

    user: str
    auth_user: str
    is_terminal: bool
    ha1_sha256: str | None
    ha1_md5: str | None
    revision: int
    mode: str | None = field(default=None, compare=False)
    level: str | None = field(default=None, compare=False)
    assist: str | None = field(default=None, compare=False)
    signer: str | None = field(default=None, compare=False)
    show: str | None = field(default=None, compare=False)
    relay: str | None = field(default=None, compare=False)
    srtp: str | None = field(default=None, compare=False)

    @property
    def algorithm(self) -> bytes:
        """The one algorithm this account is challenged with: most phones look at the first challenge only."""
        return MD5 if self.ha1_md5 is not None else SHA256

    def secret(self, algorithm: bytes) -> bytes | None:
        """HA1 for an algorithm, or None where the account has none."""
        found = {SHA256: self.ha1_sha256, MD5: self.ha1_md5}.get(algorithm.upper())
        return None if found is None else found.encode()

    def __repr__(self) -> str:
        return f"Account({self.user!r})"  # without its secrets


class Settings(TypedDict, total=False):
    """What may be changed of an account, see `Account`."""

    mode: str | None
    level: str | None
    assist: str | None
    signer: str | None
    show: str | None
    relay: str | None
    srtp: str | None


class Accounts:
    """The accounts, as the server sees them.

    Args:
        store: an open store.

    Attributes:
        gone: called with users whose account has been removed or replaced, before anything else sees the change.
    """

    def __init__(self, store: "Store") -> None:
        self.gone: Callable[[set[str]], None] = _nobody
        self._store = store
        self._by_user: dict[str, Account] = {}
        self._by_auth_user: dict[str, Account] = {}
        self._revision = -1
        self._looked_at = 0.0
        self._next_look: asyncio.Task[None] | None = None

    async def refresh(self) -> None:
        """Look for changes, at most five times a second; everybody who asks meanwhile waits for the same look.

        Raises:
            StoreError: the database failed.
        """
        if self._next_look is None:
            self._next_look = asyncio.create_task(self._look(), name="accounts")
        await asyncio.shield(self._next_look)

    async def _look(self) -> None:
        try:
            await asyncio.sleep(max(0.0, self._looked_at + _LOOK_S - time.monotonic()))
        finally:
            self._next_look = None  # who asks from here on may know of something that this look does not see
        self._looked_at = time.monotonic()
        revision = (await self._store.read(_COUNTER))[0].value
        if revision != self._revision:
            gone = await self._read()
            self._revision = revision
            if gone:
                self.gone(gone)

    async def _read(self) -> set[str]:
        """Read what has changed since the last look; returns whose account is gone, or another."""
        query = select(accounts).where(accounts.c.changed > self._revision)
        changed = [_account(row) for row in await self._store.read(query)]
        total = (await self._store.read(select(func.count()).select_from(accounts)))[0][0]
        if len(self._by_user) + sum(account.user not in self._by_user for account in changed) == total:
            before = {account.user: self._by_user.get(account.user) for account in changed}
        else:
            changed = await list_accounts(self._store)
            before = dict(self._by_user)
            self._by_user.clear()
            self._by_auth_user.clear()
        for known in before.values():
            if known is not None:
                self._by_auth_user.pop(known.auth_user, None)
        self._by_user.update((account.user, account) for account in changed)
        self._by_auth_user.update((account.auth_user, account) for account in changed)
        return {user for user, known in before.items() if known is not None and self._by_user.get(user) != known}

    def by_user(self, user: str) -> Account | None:
        """The account of a user, or None."""
        return self._by_user.get(user)

    def by_auth_user(self, auth_user: str) -> Account | None:
        """The account of a digest username, or None."""
        return self._by_auth_user.get(auth_user)


def new_secret() -> str:
    """A terminal's secret, which nobody has to remember."""
    return secrets.token_urlsafe(_SECRET_BYTES)


async def add_account(
    store: "Store",
    domain: str,
    user: str,
    secret: str,
    *,
    is_terminal: bool,
    md5: bool = False,
    auth_user: str = "",
    mode: str | None = None,
) -> Account:
    """Make an account.

    Args:
        store: an open store.
        domain: the digest realm.
        user: the user part of the AOR.
        secret: the password, or a random secret.
        is_terminal: whether it is a terminal.
        md5: make it an MD5-only account, for an old phone.
        auth_user: the digest username, where it differs from the user.
        mode: see `Account`; a terminal has none.

    Raises:
        AccountExistsError: there is such a user or digest username already.
        AccountModeError: a terminal can't have that mode.
        StoreError: the store failed.
    """
    _check_mode(user, mode, is_terminal=is_terminal)
    name = auth_user or user
    taken = or_(accounts.c.user == user, accounts.c.auth_user == name)
    if await store.read(select(accounts.c.user).where(taken)):
        raise AccountExistsError(f"{user}: there is such a user, or digest user name, already")
    parts = (name.encode(), domain.encode(), secret.encode())
    values = {
        "user": user,
        "auth_user": name,
        "is_terminal": is_terminal,
        "ha1_sha256": None if md5 else ha1(*parts).decode(),
        "ha1_md5": ha1(*parts, MD5).decode() if md5 else None,
        "mode": mode,
    }
    await store.write((_COUNT, {}), (_INSERT, values))
    return _account((await store.read(select(accounts).where(accounts.c.user == user)))[0])


async def remove_account(store: "Store", user: str, domain: str = "") -> bool:
    """Remove an account with its bindings, agreements, contacts and setup keys; returns whether there was one.

    Args:
        store: an open store.
        user: the user part of the AOR.
        domain: of the account, so that others of it forget their keys with the user, and their consent.
    """
    found = await store.read(select(accounts.c.user).where(accounts.c.user == user))
    await store.write(
        (_COUNT, {}),
        (delete(accounts).where(accounts.c.user == user), {}),
        (delete(bindings).where(bindings.c.user == user), {}),
        (delete(agreements).where(agreements.c.user == user), {}),
        *forget_account(user, domain),
    )
    return bool(found)


async def set_account(store: "Store", user: str, **changes: Unpack[Settings]) -> bool:
    """Change what is said of a user from now on, see `Account`; returns whether there is one. Registrations stay.

    Args:
        store: an open store.
        user: the user part of the AOR.
        changes: what changes, one at least; None for what the configuration says, or nothing.

    Raises:
        AccountModeError: a terminal can't have that mode, or do without SRTP.
        ValueError: there is no such setting, or no such value of it.
        StoreError: the store failed.
    """
    _check_settings(changes)
    found = await store.read(select(accounts.c.is_terminal).where(accounts.c.user == user))
    if not found:
        return False
    is_terminal = found[0].is_terminal
    _check_mode(user, changes.get("mode"), is_terminal=is_terminal)
    if is_terminal and changes.get("srtp") not in (None, SRTP[0]):
        raise AccountModeError(f"{user}: a terminal has nothing but SRTP")
    values = {**changes, "changed": _COUNTER.scalar_subquery()}
    await store.write((_COUNT, {}), (update(accounts).where(accounts.c.user == user).values(values), {}))
    return True


async def set_mode(store: "Store", user: str, mode: str | None) -> bool:
    """Say how others reach a user from now on; see `set_account`."""
    return await set_account(store, user, mode=mode)


def _check_settings(changes: Settings) -> None:
    """That no setting has a value which the server would not understand.

    Raises:
        ValueError: one has.
    """
    if not changes or not changes.keys() <= Settings.__annotations__.keys():
        raise ValueError("some of the settings of an account are wanted")
    for name, known in (("mode", (PROXY, REDIRECT)), ("level", LEVELS), ("relay", RELAYS), ("srtp", SRTP)):
        value = changes.get(name)
        if value is not None and value not in known:
            raise ValueError(f"{name}: {value} is none of {', '.join(known)}")
    signer, assist = changes.get("signer"), changes.get("assist")
    if signer is not None:
        user_name(signer)
    if assist is not None and assist != "none":
        _check_several("assist", assist, ASSISTS)
    _check_several("show", changes.get("show"), SHOWS)


def _check_several(name: str, value: str | None, known: tuple[str, ...]) -> None:
    if value is None:
        return
    words = value.split(",")
    if words != [word for word in known if word in words]:
        raise ValueError(f"{name}: {value} is not {known[0]}, {known[1]}, or {','.join(known)}")


def _check_mode(user: str, mode: str | None, *, is_terminal: bool) -> None:
    if is_terminal and mode == REDIRECT:
        raise AccountModeError(f"{user}: a terminal is reached through its neighbour only, it can't be redirected to")


async def list_accounts(store: "Store") -> list[Account]:
    """Every account, by name."""
    rows = await store.read(select(accounts).order_by(accounts.c.user))
    return [_account(row) for row in rows]


def known_users(url: str) -> frozenset[str] | None:
    """The users there are, read at once and without a store; None where the database is not there, or not yet made.

    Args:
        url: of the database, as the configuration has it.
    """
    rows = read_at_once(url, select(accounts.c.user))
    return None if rows is None else frozenset(row.user for row in rows)


def _account(row: Row[Any]) -> Account:
    return Account(
        row.user,
        row.auth_user,
        row.is_terminal,
        row.ha1_sha256,
        row.ha1_md5,
        row.revision,
        row.mode,
        row.level,
        row.assist,
        row.signer,
        row.show,
        row.relay,
        row.srtp,
    )


def _nobody(gone: set[str]) -> None:
    """Nobody wants to know."""
