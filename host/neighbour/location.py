"""Where users are: the bindings of the registrar (RFC 3261 section 10), in memory, written through to the store.

    address-of-record --1:n--> Binding --> flow: a hop agreement, a UDP source, or a connection
                                       --> path: through an edge proxy (RFC 3327)

Every change is in the store before the REGISTER is answered; reads never wait. Whoever works out a change from what is
there holds the user's lock until it is committed, so that memory and store see the same changes in the same order.

A user is looked at in the second in which the first of its bindings ends, and not before: what does not end costs
nothing, however much of it there is. Nor does a binding that is refreshed: its user is looked at when it would have
ended, and put off.
"""

import asyncio
import functools
import heapq
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from sqlalchemy import bindparam, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from sipwire.uri import Uri, uri_of

from .config import parse_address
from .equivalence import equivalent
from .store.schema import accounts, bindings
from .transport.flow import Flow
from .transport.udp import UdpFlow

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .store.database import Statement, Store
    from .transport.serial import SerialLine
    from .transport.udp import UdpTransport

__all__ = ["ALIEN", "PATH", "Binding", "Location", "wall_ms"]

PATH = "path"  # the kind of a binding that was registered through an edge proxy
ALIEN = "alien"  # the kind of a binding whose contact is no SIP URI: nothing leads there but a redirection
_CONNECTED = ("tcp", "tls")
_PATH_SEPARATOR = "\n"  # no header value has one
_UPDATED = (
    "contact",
    "call_id",
    "cseq",
    "q",
    "expires_at",
    "flow",
    "source",
    "spi",
    "user_agent",
    "instance",
    "reg_id",
    "params",
    "path",
    "registered_at",
)


_endpoint = functools.lru_cache(4096)(parse_address)


def wall_ms() -> int:
    """The time as the store keeps it: milliseconds since 1970."""
    return int(time.time() * 1000)


@dataclass(eq=False, slots=True)
class Binding:
    """One contact of a user.

    Attributes:
        user: the user part of the AOR.
        contact: the Contact URI as written.
        call_id: of the REGISTER that made it.
        cseq: of that REGISTER.
        expires_at: wall-clock milliseconds.
        q: preference, 0 to 1000.
        kind: over what it was registered: ``hop``, ``udp``, ``tcp`` or ``tls``; `PATH` or `ALIEN`.
        source: ``address:port`` it was registered from.
        spi: of the hop agreement, for ``hop``.
        user_agent: what the phone says it is.
        instance: which phone it is: the URN of ``+sip.instance``, in the one form that all equal ones have, or nothing.
        reg_id: which of the instance's flows it is (RFC 5626), None where the binding is that of the contact.
        params: all other parameters of the Contact as written, each with its semicolon.
        path: the Path (RFC 3327), as Route values: whoever sends to the contact puts them before it.
        way: see `flow`.
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
    instance: str = ""
    reg_id: int | None = None
    params: bytes = b""
    path: tuple[bytes, ...] = ()
    way: "UdpTransport | SerialLine | Flow | None" = None

    @property
    def uri(self) -> Uri:
        """The contact, read; see `uri_of`."""
        return uri_of(self.contact)

    @property
    def target(self) -> bytes:
        """The Request-URI of what goes there.

        RFC 3261 section 16.6 step 2: "If the URI contains any parameters not allowed in a Request-URI, they MUST be
        removed"; table 1 of section 19.1.1 has ``method`` and headers for such.
        """
        uri = self.uri
        if not uri.headers and uri.param("method") is None:
            return self.contact
        params = [(name, value) for name, value in uri.params if name.lower() != b"method"]
        return Uri(uri.host, uri.user, uri.port, params, uri.scheme).serialize()

    @property
    def slot(self) -> bytes:
        """What another binding of the user has to have in common with this one to take its place.

        RFC 5626 section 6: with a reg-id "the corresponding binding is between an AOR and the combination of the
        instance-id ... and the value of reg-id", whatever the contact; no URI begins with "<".
        """
        if self.reg_id is None:
            return self.contact
        return b"<%s>;reg-id=%d" % (self.instance.encode("latin-1"), self.reg_id)

    @property
    def flow(self) -> Flow | None:
        """The living way back to it; None after a restart until it is found again, and for what has none.

        Of a UDP source the address is known anyway, so that only the socket is kept, and of a hop the agreement's SPI.
        """
        if isinstance(self.way, Flow):
            return self.way
        return None if self.way is None else UdpFlow(self.way, _endpoint(self.source))

    @flow.setter
    def flow(self, flow: Flow | None) -> None:
        if isinstance(flow, UdpFlow):
            self.way = flow.udp if self.kind == "udp" else None
        else:
            self.way = flow if self.kind in _CONNECTED else None

    @property
    def is_lost(self) -> bool:
        """Whether the connection that it was registered over has ended, so that nothing leads to it any more."""
        return self.kind in _CONNECTED and not (self.way is not None and getattr(self.way, "is_open", True))

    def row(self) -> dict[str, object]:
        """The binding as the store keeps it, registered just now."""
        return {
            "user": self.user,
            "slot": self.slot.decode("latin-1"),
            "contact": self.contact.decode("latin-1"),
            "call_id": self.call_id.decode("latin-1"),
            "cseq": self.cseq,
            "q": self.q,
            "expires_at": self.expires_at,
            "flow": self.kind,
            "source": self.source,
            "spi": self.spi,
            "user_agent": self.user_agent,
            "instance": self.instance,
            "reg_id": self.reg_id,
            "params": self.params.decode("latin-1"),
            "path": _PATH_SEPARATOR.join(one.decode("latin-1") for one in self.path),
            "registered_at": wall_ms(),
        }


class _User:
    """The bindings of one user, the last registered last, and the second in which they are looked at next."""

    __slots__ = ("bindings", "due", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        self.bindings: tuple[Binding, ...] = ()
        self.due: int | None = None


@functools.lru_cache(1024)
def _shared(text: str) -> str:
    """The same text, there once where many say it; Python's own way to do that may never forget one."""
    return text


class Location:
    """All bindings of the domain.

    Args:
        store: an open store.
    """

    def __init__(self, store: "Store") -> None:
        self._store = store
        self._users: dict[str, _User] = {}
        self._count = 0
        # Whom to look at in which second, and these seconds as a heap.
        self._due: dict[int, list[_User]] = {}
        self._seconds: list[int] = []
        self._over: dict[Flow, list[Binding]] = {}
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        insert = postgresql.insert if store.url.startswith("postgresql") else sqlite.insert
        statement = insert(bindings)
        self._upsert = statement.on_conflict_do_update(
            index_elements=["user", "slot"], set_={name: statement.excluded[name] for name in _UPDATED}
        )
        self._delete = delete(bindings).where(
            bindings.c.user == bindparam("gone_user"), bindings.c.slot == bindparam("gone_slot")
        )
        # A refresh may be on its way to the store when a binding ends: what that writes stays.
        self._delete_over = self._delete.where(bindings.c.expires_at <= bindparam("over_at"))

    async def load(self) -> int:
        """Read what the store has, and rid it of what ended while nobody looked; returns how many bindings live."""
        nobodys = bindings.c.user.not_in(select(accounts.c.user))
        await self._store.write((delete(bindings).where(or_(bindings.c.expires_at <= wall_ms(), nobodys)), {}))
        for row in await self._store.read(select(bindings).order_by(bindings.c.registered_at, bindings.c.id)):
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
                    row.instance,
                    row.reg_id,
                    row.params.encode("latin-1"),
                    tuple(one.encode("latin-1") for one in row.path.split(_PATH_SEPARATOR) if one),
                )
            )
        return len(self)

    def __len__(self) -> int:
        return self._count

    def of(self, user: str) -> list[Binding]:
        """The living bindings of a user, the preferred first, and of equals the one registered last."""
        now = wall_ms()
        found = [binding for binding in self._of(user) if binding.expires_at > now]
        found.reverse()
        found.sort(key=lambda binding: -binding.q)
        return found

    def sources(self) -> "Iterator[tuple[str, str]]":
        """Each binding's user and ``address:port`` that it was registered from."""
        for name, user in self._users.items():
            for binding in user.bindings:
                yield name, binding.source

    def find(self, user: str, uri: Uri, contact: bytes) -> Binding | None:
        """A user's binding whose contact is equivalent to a URI, or None; of several the one that is written so.

        Args:
            user: whose.
            uri: the URI.
            contact: the URI as written.
        """
        found = None
        for binding in self._of(user):
            if binding.reg_id is None:
                if binding.contact == contact:
                    return binding
                if found is None and equivalent(binding.uri, uri):
                    found = binding
        return found

    def find_slot(self, user: str, slot: bytes) -> Binding | None:
        """A user's binding in a `Binding.slot`, or None."""
        return next((binding for binding in self._of(user) if binding.slot == slot), None)

    def by_contact(self, uri: bytes, user: str) -> Binding | None:
        """The living binding of a contact URI as it was registered: how in-dialog requests find their way.

        Args:
            uri: the Request-URI.
            user: whom the dialog says it is with: phones behind NATs all live at 192.168.1.2.
        """
        found = [binding for binding in self.of(user) if binding.contact == uri]
        return next((binding for binding in found if not binding.is_lost), found[0] if found else None)

    def lock(self, user: str) -> asyncio.Lock:
        """The lock of a user's bindings; it is there as long as somebody holds or wants it."""
        lock = self._locks.get(user)
        if lock is None:
            lock = self._locks[user] = asyncio.Lock()
        return lock

    async def change(self, put: list[Binding], remove: list[Binding], also: "tuple[Statement, ...]" = ()) -> None:
        """Add or replace and remove bindings; returns when that is committed. Hold the user's lock.

        Args:
            put: bindings to add, or to replace where user and slot are the same.
            remove: bindings to remove first, by user and slot.
            also: statements of the caller's for the same transaction.

        Raises:
            StoreError: the store failed; nothing has changed.
        """
        statements: list[Statement] = [(self._delete, _key(binding)) for binding in remove]
        statements += [(self._upsert, binding.row()) for binding in put]
        await self._store.write(*statements, *also)
        for binding in remove:
            self._drop_slot(binding.user, binding.slot)
        for binding in put:
            self._put(binding)

    def forget(self, user: str) -> None:
        """Remove all bindings of a user; the store forgets them with its next commit."""
        gone = self._of(user)
        for binding in gone:
            self._drop(binding)
        if gone:
            self._store.write_soon(*((self._delete, _key(binding)) for binding in gone))

    def expire(self) -> list[Binding]:
        """Remove what is over; touches no user before its time. The store forgets it with its next commit."""
        now = wall_ms()
        gone = []
        while self._seconds and self._seconds[0] * 1000 <= now:
            second = heapq.heappop(self._seconds)
            for user in self._due.pop(second):
                if user.due != second:
                    continue  # it has been looked at earlier
                user.due = None
                over = [binding for binding in user.bindings if binding.expires_at <= now]
                for binding in over:
                    self._drop(binding)
                gone += over
                self._look_again(user)
        if gone:
            self._store.write_soon(*((self._delete_over, {**_key(binding), "over_at": now}) for binding in gone))
        return gone

    def _of(self, user: str) -> tuple[Binding, ...]:
        found = self._users.get(user)
        return () if found is None else found.bindings

    def _look_again(self, user: _User) -> None:
        """See to it that a user is looked at when the first of its bindings ends; forget who has none.

        A user who has none any more stays until that second: whoever comes and goes all the time is listed once.
        """
        if not user.bindings:
            del self._users[user.name]
            return
        second = -(-min(binding.expires_at for binding in user.bindings) // 1000)
        if user.due is None or second < user.due:
            user.due = second
            if second not in self._due:
                self._due[second] = []
                heapq.heappush(self._seconds, second)
            self._due[second].append(user)

    def _put(self, binding: Binding) -> None:
        self._drop_slot(binding.user, binding.slot)
        user = self._users.get(binding.user)
        if user is None:
            user = self._users[binding.user] = _User(binding.user)
        # What is the same for many is there once.
        binding.user = user.name
        binding.kind, binding.user_agent = sys.intern(binding.kind), _shared(binding.user_agent)
        user.bindings += (binding,)
        self._count += 1
        self._look_again(user)
        if isinstance(binding.way, Flow):
            self._watch(binding, binding.way)

    def _watch(self, binding: Binding, connection: Flow) -> None:
        """A connection that ends takes its bindings' way with it, at once and for good (RFC 5626 section 7)."""
        if binding.is_lost:
            binding.way = None  # it has ended while the binding was on its way to the store
            return
        if connection not in self._over:
            self._over[connection] = []
            connection.on_close(functools.partial(self._ended, connection))
        self._over[connection].append(binding)

    def _ended(self, connection: Flow, _reason: str) -> None:
        for binding in self._over.pop(connection, ()):
            binding.way = None

    def _drop_slot(self, user: str, slot: bytes) -> None:
        """Drop what is in a slot: a binding, or what has replaced it."""
        old = self.find_slot(user, slot)
        if old is not None:
            self._drop(old)

    def _drop(self, binding: Binding) -> None:
        user = self._users[binding.user]
        user.bindings = tuple(one for one in user.bindings if one is not binding)
        self._count -= 1
        if isinstance(binding.way, Flow):
            self._over[binding.way].remove(binding)


def _key(binding: Binding) -> dict[str, object]:
    return {"gone_user": binding.user, "gone_slot": binding.slot.decode("latin-1")}
