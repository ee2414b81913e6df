"""A neighbour in a world of its own: a clock that moves only when nothing is left to do, and links in memory.

The neighbour is the real one, wired by `neighbour.server`: transactions, proxy, gate, registrar, location, resolver and
trunks. What is made here are the database, the sockets, DNS, and who is at the other ends.

    @scenario()
    async def test_a_call(here: World) -> None:
        carol, dave = await here.phones("carol", "dave")
        dave.gets("INVITE ACK").answers(180, (2.0, 200))
        call = carol.call("dave")
        assert (await call.final()).status == 200
        assert call.statuses == [180, 200]

At its end the world waits until nothing moves any more, and fails the scenario where the neighbour still has a
transaction, a timer or a task, where an error was logged or something sent was no SIP, and where a phone has got
anything but what the scenario said.
"""

import asyncio
import atexit
import contextlib
import functools
import inspect
import itertools
import random
import shutil
import sqlite3
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Executable, Row, StaticPool, create_engine
from structlog.testing import capture_logs

from neighbour.agent.authority import Authority
from neighbour.agent.certificates import Certificates
from neighbour.config import Config
from neighbour.server import Neighbour, now
from neighbour.store.accounts import add_account, remove_account
from neighbour.store.database import Statement, Store, StoreError
from neighbour.store.schema import counters, metadata
from neighbour.transport import stream
from neighbour.transport.flow import Listener
from neighbour.transport.udp import UdpTransport
from sipwire.errors import ParseError
from sipwire.hop import FRAME_MARK
from sipwire.message import Request, parse

from .clock import live_timers, run
from .links import Datagrams, Link
from .network import Network, certificate
from .phones import DOMAIN, HOST, PASSWORD, PORT, TLS_PORT, Call, Phone
from .servers import Server, Zone
from .terminals import Terminal

__all__ = ["DOMAIN", "HOST", "PORT", "Call", "Link", "Phone", "Server", "Terminal", "World", "scenario", "world"]

INSTANCE = "urn:uuid:00000000-0000-1000-8000-000a95a0e128"
_QUIET_S = 900.0  # after the last thing a scenario does; Timer C and all others are over by then


@functools.cache
def _database() -> tuple[Connection, sqlite3.Connection]:
    """A database in memory, and what it is like when it is new: SQLAlchemy compiles each statement once for all worlds."""
    engine = create_engine("sqlite://", poolclass=StaticPool)
    metadata.create_all(engine)
    connection = engine.connect()
    connection.execute(counters.insert(), {"name": "accounts", "value": 0})
    connection.commit()
    new = sqlite3.connect(":memory:")
    _driver(connection).backup(new)
    return connection, new


def _driver(connection: Connection) -> sqlite3.Connection:
    found = connection.connection.driver_connection
    assert isinstance(found, sqlite3.Connection)
    return found


@functools.cache
def _files() -> Path:
    """A folder with what the neighbour's configuration names: certificate, key and root."""
    folder = Path(tempfile.mkdtemp(prefix="wisp-world-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    authority = Authority(folder / "ca")
    authority.create("Test")
    authority.issue_domain(DOMAIN).write(folder / f"{DOMAIN}.pem", folder / f"{DOMAIN}.key")
    return folder


class _Store(Store):
    """The store without its writer task and threads: each write is committed at once, in memory."""

    def __init__(self) -> None:
        self.url = "sqlite+aiosqlite://"
        self.fails = False
        self._connection, new = _database()
        new.backup(_driver(self._connection))

    async def read(self, statement: Executable) -> list[Row[Any]]:
        return list(self._connection.execute(statement).fetchall())

    async def write(self, *statements: Statement) -> None:
        await asyncio.sleep(0)
        if self.fails:
            raise StoreError("disk full")
        self.write_soon(*statements)

    def write_soon(self, *statements: Statement) -> None:
        for statement, parameters in statements:
            self._connection.execute(statement, parameters)
        self._connection.commit()

    async def close(self) -> None:
        pass


class World:
    """See the module.

    Attributes:
        trace: (seconds, from, to, first line) of everything that was sent, lost or not.
        network: connections.
        zone: DNS.
        errors: how many errors the neighbour is to log.
        malformed: how many messages to it are to be none.
    """

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.trace: list[tuple[float, str, str, str]] = []
        self.network: Network = self.loop.network  # type: ignore[attr-defined]
        self.network.note = self._note
        self.zone = Zone()
        self.errors = 0
        self.malformed = 0
        self.store = _Store()
        self.certificates = Certificates(config, now)
        self.everybody: list[Phone] = []
        self._by_address: dict[tuple[str, int], Phone] = {}
        self._addresses = itertools.count(2)

    async def start(self) -> None:
        self.neighbour = neighbour = Neighbour(self.config)
        await neighbour._wire(self.store, None, self.certificates)  # type: ignore[arg-type]
        self.accounts, self.hops, self.location = neighbour._accounts, neighbour._hops, neighbour._location
        self.transactions, self.proxy, self.trunks = neighbour._transactions, neighbour._proxy, neighbour._trunks
        self.routes, self.resolver = self.proxy._routes, self.proxy._resolver
        # Their default was looked up before the world had a clock of its own.
        self.resolver._clock = self.loop.time
        if self.resolver._dns is not None:
            self.resolver._dns._clock = self.loop.time
        for listener in neighbour._listeners:
            if listener.transport == "udp":
                self.udp = UdpTransport(listener, neighbour._datagram)
                self.udp.connection_made(Datagrams(self.to_phone))  # type: ignore[arg-type]
                for one in (self.proxy, self.trunks):
                    one.add_udp(self.udp)
                self.hops.use(self.udp)
            else:
                self._listen(listener)

    def _listen(self, listener: Listener) -> None:
        shown = certificate(DOMAIN) if listener.transport == "tls" else None
        address = (listener.config.address, listener.config.port)

        def accept(source: tuple[str, int]) -> stream.Connection:
            connections = self.neighbour.connections
            assert connections.admit(source[0])
            return stream.Connection(listener, connections)

        self.network.listen(address, "neighbour", accept, shown)

    async def stop(self) -> None:
        await self.neighbour._closing.aclose()
        await self.store.close()

    # Who is there.

    async def phone(self, user: str, kind: type[Phone] = Phone) -> Any:
        """A phone that is not registered yet; the account is made for the first of a user."""
        if self.accounts.by_user(user) is None:
            await add_account(self.store, DOMAIN, user, PASSWORD, is_terminal=kind is Terminal)
            self.accounts._looked_at = -1e9
            await self.accounts.refresh()
        address = (f"127.0.1.{next(self._addresses)}", PORT)
        alone = all(one.user != user for one in self.everybody)
        made = kind(self, user, address, Link(), user if alone else f"{user} at {address[0]}")
        self._by_address[address] = made
        self.everybody.append(made)
        return made

    async def phones(self, *users: str) -> "list[Phone]":
        """Phones, each registered."""
        made = [await self.phone(user) for user in users]
        for one in made:
            assert (await one.register()).status == 200
        return made

    async def ring_group(self, user: str, *qs: str) -> "list[Phone]":
        """Phones of one user, each with its q; of equals the first is the one that the neighbour likes best."""
        made = [await self.phone(user) for _ in qs]
        for one, q in reversed(list(zip(made, qs, strict=True))):
            assert (await one.register(f";q={q}")).status == 200
        return made

    def server(self, domain: str, host: str = "127.0.2.1", *, port: int = TLS_PORT, proves: str = "") -> Server:
        """A server of another domain, which listens."""
        made = Server(self, domain, (host, port), f"{domain} at {host}", proves)
        self.everybody.append(made)
        return made

    async def remove(self, user: str) -> None:
        """Remove an account, as ``wisp account remove`` does."""
        assert await remove_account(self.store, user)
        self.accounts._looked_at = -1e9
        await self.accounts.refresh()

    async def flows(self, user: str, *qs: str) -> "list[Phone]":
        """Several flows of one phone (RFC 5626), each with its q; the first is the one that the neighbour likes best."""
        made = [await self.phone(user) for _ in qs]
        for number, (one, q) in reversed(list(enumerate(zip(made, qs, strict=True), 1))):
            assert (await one.register(f';q={q};reg-id={number};+sip.instance="<{INSTANCE}>"')).status == 200
        return made

    # The links.

    def to_phone(self, data: bytes, address: tuple[str, int]) -> None:
        phone = self._by_address.get(address)
        if phone is None:
            self._note("neighbour", f"{address[0]}:{address[1]}", data)
            return
        self._note("neighbour", phone.name, data)
        phone.link.carry(data, self.random, self.loop, lambda: phone.receive(data), to_neighbour=False)

    def to_neighbour(self, data: bytes, phone: Phone) -> None:
        self._note(phone.name, "neighbour", data)

        def deliver() -> None:
            self.neighbour._datagram(data, phone.address, self.udp)

        phone.link.carry(data, self.random, self.loop, deliver, to_neighbour=True)

    def _note(self, source: str, to: str, data: bytes) -> None:
        if not data.strip(b"\r\n"):
            return
        line = "frame"
        if data[0] != FRAME_MARK:
            try:
                message = parse(data)
            except ParseError:
                assert source != "neighbour", data  # whatever that sends has to be SIP
                line = "malformed"
            else:
                line = message.method if isinstance(message, Request) else f"{message.status} {message.cseq.method}"
        self.trace.append((self.loop.time(), source, to, line))

    def times(self, source: str, to: str, line: str) -> list[float]:
        """When something was sent, lost or not."""
        return [at for at, *what in self.trace if what == [source, to, line]]

    def count(self, source: str, to: str, line: str) -> int:
        """How often something was sent."""
        return len(self.times(source, to, line))

    # The end.

    @property
    def pending(self) -> int:
        """Transactions and response contexts that the neighbour keeps: 0 when all is over."""
        return len(self.transactions._clients) + len(self.transactions._servers) + len(self.proxy._forks)

    async def idle_at(self) -> float:
        """Wait until the neighbour keeps nothing; the second when that was so, to 10 ms."""
        while self.pending:
            assert self.loop.time() < 3600, "never idle"
            await asyncio.sleep(0.01)
        return self.loop.time()

    async def over(self) -> None:
        """Wait until nothing moves any more, and look at what is left."""
        end = self.loop.time() + _QUIET_S
        while self.pending or self._moving():
            assert self.loop.time() < end, f"{self.pending} pending, {self._moving()}"
            await asyncio.sleep(1)
        self.trunks.close()
        self.neighbour.connections.close()
        await asyncio.sleep(1)
        assert not live_timers(), live_timers()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        assert not left, left
        assert not self.proxy._work, "work of the proxy's"
        metrics = self.neighbour.metrics
        found = sum(metrics.value("wisp_malformed_total", transport=kind) for kind in ("UDP", "TCP", "TLS"))
        assert found == self.malformed, f"{found} malformed messages"
        for phone in self.everybody:
            phone.check()

    def _moving(self) -> list[str]:
        """Timers of anything but connections that stand."""
        names = [getattr(handle._callback, "__qualname__", str(handle._callback)) for handle in live_timers()]
        return [name for name in names if not name.startswith("Connection.")]


@contextlib.asynccontextmanager
async def world(*, seed: int = 1, **tables: Any) -> AsyncIterator[World]:
    """A world with a neighbour in it; ``tables`` are those of its configuration, as ``proxy={"ring_s": 5.0}``."""
    listen = [
        {"transport": kind, "address": HOST, "port": port}
        for kind, port in (("udp", PORT), ("tcp", PORT), ("tls", TLS_PORT))
    ]
    config = Config(
        domain=DOMAIN,
        listen=listen,
        tls={"certificate": f"{DOMAIN}.pem", "key": f"{DOMAIN}.key", "ca": ["ca/root.pem"]},
        resolver=tables.pop("resolver", {"nameservers": ["127.0.0.53"]}),
        base=tables.pop("base", None) or _files(),
        **tables,
    )
    here = World(config, seed)
    with capture_logs() as logs, here.zone.in_place():
        await here.start()
        try:
            yield here
            await here.over()
            errors = [entry for entry in logs if entry["log_level"] in ("error", "critical")]
            assert len(errors) == here.errors, errors
        finally:
            await here.stop()


def scenario(**tables: Any) -> "Callable[[Callable[..., Awaitable[None]]], Callable[..., None]]":
    """Make a test of a coroutine that gets a world; its other arguments are pytest's, and ``seed`` the world's too."""

    def decorate(work: Callable[..., Awaitable[None]]) -> Callable[..., None]:
        signature = inspect.signature(work)

        def test(**given: Any) -> None:
            async def inside() -> None:
                async with world(seed=given.get("seed", 1), **tables) as here:
                    await work(here, **given)

            run(inside)

        parameters = [one for one in signature.parameters.values() if one.name != "here"]
        test.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        test.__name__, test.__module__, test.__doc__ = work.__name__, work.__module__, work.__doc__
        return test

    return decorate
