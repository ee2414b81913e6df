"""Where users are: the bindings of the registrar (RFC 3261 section 10), in memory, written through to the store.

    address-of-record --1:n--> Binding --> flow: a hop agreement, a UDP source, or a connection

Every change is in the store before the REGISTER is answered; reads never wait. Whoever works out a change from what is
there holds the user's lock until it is committed, so that memory and store see the same changes in the same order.
"""

import asyncio
import heapq
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from sqlalchemy import bindparam, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from sipwire.uri import Uri, uri_of

from .equivalence import equivalent
from .store.schema import accounts, bindings

if TYPE_CHECKING:
    from .store.database import Statement, Store
    from .transport.flow import Flow

__all__ = ["Binding", "Location", "wall_ms"]

_UPDATED = ("call_id", "cseq", "q", "expires_at", "flow", "source", "spi", "user_agent")


def wall_ms() -> int:
    """The time as the store keeps it: milliseconds since 1970."""
    return int(time.time() * 1000)


@dataclass(eq=False)
class Binding:
    """One contact of a user.

    Attributes:
        user: the user part of the AOR.
        contact: the Contact URI as written.
        call_id: of the REGISTER that made it.
        cseq: of that REGISTER.
        expires_at: wall-clock milliseconds.
        q: preference, 0 to 1000.
        kind: over what it was registered: ``hop``, ``udp``, ``tcp`` or ``tls``.
        source: ``address:port`` it was registered from.
        spi: of the hop agreement, for ``hop``.
        user_agent: what the phone says it is.
        instance: what tells the phone from others (RFC 5626), "" where it says nothing.
        path: the edge proxies before it (RFC 3327), nearest to us first.
        flow: the living way back to it, None after a restart until it is found again.
    """

    user: str
    contact: bytes
    call_id: bytes
    cseq: int
    expires_at: int
    q: int = 1000
    kind: str = "udp"
    source: str = ""
    spi: int | None = None
    user_agent: str = ""
    flow: "Flow | None" = None
    instance: str = ""
    path: tuple[bytes, ...] = ()
    uri: Uri = field(init=False)

    def __post_init__(self) -> None:
        self.uri = uri_of(self.contact)

    def row(self) -> dict[str, object]:
        """The binding as the store keeps it."""
        return {
            "user": self.user,
            "contact": self.contact.decode("latin-1"),
            "call_id": self.call_id.decode("latin-1"),
            "cseq": self.cseq,
            "q": self.q,
            "expires_at": self.expires_at,
            "flow": self.kind,
            "source": self.source,
            "spi": self.spi,
            "user_agent": self.user_agent,
        }


class Location:
    """All bindings of the domain.

    Args:
        store: an open store.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._by_user: dict[str, list[Binding]] = {}
        # Several users may have one contact: phones behind NATs all live at 192.168.1.2.
        self._by_contact: dict[bytes, list[Binding]] = {}
        self._expiry: list[tuple[int, int, Binding]] = []
        self._count = 0
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        insert = postgresql.insert if store.url.startswith("postgresql") else sqlite.insert
        statement = insert(bindings)
        self._upsert = statement.on_conflict_do_update(
            index_elements=["user", "contact"], set_={name: statement.excluded[name] for name in _UPDATED}
        )
        self._delete = delete(bindings).where(
            bindings.c.user == bindparam("gone_user"), bindings.c.contact == bindparam("gone_contact")
        )
        # A refresh may be on its way to the store when a binding ends: what that writes stays.
        self._delete_over = self._delete.where(bindings.c.expires_at <= bindparam("over_at"))

    async def load(self) -> int:
        """Read what the store has, and rid it of what ended while nobody looked; returns how many bindings live."""
        nobodys = bindings.c.user.not_in(select(accounts.c.user))
        await self._store.write((delete(bindings).where(or_(bindings.c.expires_at <= wall_ms(), nobodys)), {}))
        for row in await self._store.read(select(bindings)):
            self._put(
                Binding(
                    row.user,
                    row.contact.encode("latin-1"),
                    row.call_id.encode("latin-1"),
                    row.cseq,
                    row.expires_at,
                    row.q,
                    row.flow,
                    row.source,
                    row.spi,
                    row.user_agent,
                )
            )
        return len(self)

    def __len__(self) -> int:
        return sum(len(found) for found in self._by_user.values())

    def of(self, user: str) -> list[Binding]:
        """The living bindings of a user, the preferred first."""
        now = wall_ms()
        found = [binding for binding in self._by_user.get(user, ()) if binding.expires_at > now]
        found.sort(key=lambda binding: -binding.q)
        return found

    def find(self, user: str, uri: Uri) -> Binding | None:
        """A user's binding whose contact is equivalent to a URI, or None."""
        for binding in self._by_user.get(user, ()):
            if equivalent(binding.uri, uri):
                return binding
        return None

    def by_contact(self, uri: bytes, user: str | None) -> Binding | None:
        """The living binding of a contact URI as it was registered: how in-dialog requests find their way.

        Args:
            uri: the Request-URI.
            user: whom the dialog says it is with, for contacts that several users have.
        """
        now = wall_ms()
        found = [binding for binding in self._by_contact.get(uri, ()) if binding.expires_at > now]
        return next((binding for binding in found if binding.user == user), found[0] if found else None)

    def lock(self, user: str) -> asyncio.Lock:
        """The lock of a user's bindings; it is there as long as somebody holds or wants it."""
        lock = self._locks.get(user)
        if lock is None:
            lock = self._locks[user] = asyncio.Lock()
        return lock

    async def change(self, put: list[Binding], remove: list[Binding], also: "tuple[Statement, ...]" = ()) -> None:
        """Add or replace and remove bindings; returns when that is committed. Hold the user's lock.

        Args:
            put: bindings to add, or to replace where user and contact are the same.
            remove: bindings to remove first, by user and contact.
            also: statements of the caller's for the same transaction.

        Raises:
            StoreError: the store failed; nothing has changed.
        """
        statements: list[Statement] = [(self._delete, _key(binding)) for binding in remove]
        statements += [(self._upsert, binding.row()) for binding in put]
        await self._store.write(*statements, *also)
        for binding in remove:
            self._drop_contact(binding)
        for binding in put:
            self._put(binding)

    def forget(self, user: str) -> None:
        """Remove all bindings of a user; the store forgets them with its next commit."""
        gone = list(self._by_user.get(user, ()))
        for binding in gone:
            self._drop(binding)
        if gone:
            self._store.write_soon(*((self._delete, _key(binding)) for binding in gone))

    def expire(self) -> list[Binding]:
        """Remove what is over; touches nothing else. The store forgets it with its next commit."""
        now = wall_ms()
        gone = []
        while self._expiry and self._expiry[0][0] <= now:
            binding = heapq.heappop(self._expiry)[2]
            if binding in self._by_user.get(binding.user, ()):
                self._drop(binding)
                gone.append(binding)
        if gone:
            self._store.write_soon(*((self._delete_over, {**_key(binding), "over_at": now}) for binding in gone))
        return gone

    def _put(self, binding: Binding) -> None:
        self._drop_contact(binding)
        self._by_user.setdefault(binding.user, []).append(binding)
        self._by_contact.setdefault(binding.contact, []).append(binding)
        self._count += 1
        heapq.heappush(self._expiry, (binding.expires_at, self._count, binding))

    def _drop_contact(self, binding: Binding) -> None:
        """Drop what is bound by the user and contact of a binding: it, or what has replaced it."""
        for old in self._by_user.get(binding.user, ()):
            if old.contact == binding.contact:
                self._drop(old)
                break

    def _drop(self, binding: Binding) -> None:
        _take_out(self._by_user, binding.user, binding)
        _take_out(self._by_contact, binding.contact, binding)


def _take_out(index: "dict[Any, list[Binding]]", key: object, binding: Binding) -> None:
    found = index.get(key)
    if found is not None and binding in found:
        found.remove(binding)
        if not found:
            del index[key]


def _key(binding: Binding) -> dict[str, object]:
    return {"gone_user": binding.user, "gone_contact": binding.contact.decode("latin-1")}
