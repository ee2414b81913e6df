"""A neighbour's core in a world of its own: a clock that moves only when nothing is left to do, and links in memory.

Transactions, proxy, gate, registrar, location, resolver and store are the real ones, wired as `neighbour.server` does.
What is made here are the links, which lose and delay what a scenario says, and the phones at their ends.

    async with world() as here:
        carol, dave = await here.phones("carol", "dave")
        dave.answers(180, (2.0, 200))
        call = carol.call("dave")
        assert (await call.final()).status == 200
        assert call.statuses == [100, 180, 200]

A phone's transactions are the neighbour's own, so both ends of a link retransmit as the RFC wants it.
"""

import asyncio
import contextlib
import itertools
import random
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Executable, Row, StaticPool, create_engine

from neighbour.config import Config
from neighbour.gate import Gate
from neighbour.hop import Hops
from neighbour.location import Location
from neighbour.metrics import Metrics
from neighbour.nonces import Nonces
from neighbour.proxy import Proxy
from neighbour.registrar import Registrar
from neighbour.resolver import Resolver
from neighbour.routes import Routes, load_key
from neighbour.store.accounts import Accounts, add_account
from neighbour.store.database import Statement, Store, StoreError
from neighbour.store.schema import counters, metadata
from neighbour.transactions import Client, Server, Transactions
from neighbour.transport.flow import Flow, FlowClosedError, Listener
from neighbour.transport.trunk import Trunks
from neighbour.transport.udp import UdpFlow, UdpTransport
from sipwire.digest import Challenge, authenticate, choose, ha1
from sipwire.headers import Address
from sipwire.message import Request, Response, parse
from sipwire.transaction import cancel_for

__all__ = ["DOMAIN", "Call", "Link", "Phone", "World", "world"]

DOMAIN = "a.example"
HOST = "192.0.2.1"
PORT = 5060
_DELAY_S = 0.005
_numbers = itertools.count(1)


class _Store(Store):
    """The store without its writer task and threads: each write is committed at once, in memory."""

    def __init__(self) -> None:
        self.url = "sqlite+aiosqlite://"
        self.fails = False
        self._database = create_engine("sqlite://", poolclass=StaticPool)
        metadata.create_all(self._database)
        with self._database.begin() as connection:
            connection.execute(counters.insert(), {"name": "accounts", "value": 0})

    async def read(self, statement: Executable) -> list[Row[Any]]:
        with self._database.connect() as connection:
            return list(connection.execute(statement).fetchall())

    async def write(self, *statements: Statement) -> None:
        if self.fails:
            raise StoreError("disk full")
        with self._database.begin() as connection:
            for statement, parameters in statements:
                connection.execute(statement, parameters)

    def write_soon(self, *statements: Statement) -> None:
        with self._database.begin() as connection:
            for statement, parameters in statements:
                connection.execute(statement, parameters)

    async def close(self) -> None:
        self._database.dispose()


@dataclass
class Link:
    """Between a phone and the neighbour.

    Attributes:
        loss: the share of datagrams that is lost, each way.
        delay_s: how long each takes.
        jitter_s: up to how much longer: with more than others have, they overtake each other.
        drop: says of a message, and whether it goes to the neighbour, that it is lost.
        down: nothing gets through.
        copies: how often each arrives.
    """

    loss: float = 0.0
    delay_s: float = _DELAY_S
    jitter_s: float = 0.0
    drop: "Callable[[Request | Response, bool], bool] | None" = None
    down: bool = False
    copies: int = 1
    lost: int = 0


class _Socket(UdpTransport):
    """The neighbour's UDP socket."""

    def __init__(self, here: "World", listener: Listener) -> None:
        super().__init__(listener, lambda data, source, transport: None)
        self._here = here

    def send(self, data: bytes, peer: tuple[str, int]) -> None:
        self._here.to_phone(data, peer)


class _PhoneFlow(Flow):
    """From a phone to the neighbour."""

    transport = "UDP"
    reliable = False
    protection = "none"

    def __init__(self, phone: "Phone", listener: Listener) -> None:
        self._phone = phone
        self.listener = listener
        self.peer = (HOST, PORT)

    def send(self, data: bytes) -> None:
        self._phone.here.to_neighbour(data, self._phone)

    def has_same_end(self, other: Flow) -> bool:
        return isinstance(other, _PhoneFlow)


class _Local:
    """What a phone's own Via says."""

    def __init__(self, public: str) -> None:
        self.public = public


class World:
    """See the module.

    Attributes:
        trace: (seconds, from, to, first line) of everything that was sent, lost or not.
        proxy, transactions, location, store, metrics, routes, resolver: the neighbour's.
    """

    def __init__(self, config: Config, seed: int) -> None:
        self.config = config
        self.random = random.Random(seed)
        self.loop = asyncio.get_running_loop()
        self.trace: list[tuple[float, str, str, str]] = []
        self._phones: dict[tuple[str, int], Phone] = {}
        self._addresses = itertools.count(2)
        self.store = _Store()
        self.metrics = Metrics()

    async def start(self) -> None:
        config, metrics, store = self.config, self.metrics, self.store
        self.accounts = Accounts(store)
        await self.accounts.refresh()
        nonces = Nonces(config.domain, config.auth.nonce_life_s)
        hops = Hops(store, config.domain, nonces, self.accounts, metrics)
        self.location = Location(store)
        self.listener = Listener(config.listen[0], config.domain)
        self.routes = Routes(config.domain, [self.listener], await load_key(store))
        gate = Gate(config.domain, self.accounts, hops, nonces, metrics, md5=config.auth.md5)
        registrar = Registrar(
            config.domain, config.registrar, config.proxy.idle_s, gate, hops, self.location, self.accounts
        )
        self.accounts.gone = registrar.revoke
        self.transactions = Transactions(metrics, trace=False)
        self.resolver = Resolver(config.resolver, config.peer)
        trunks = Trunks([self.listener], None, None, 5.0, metrics, lambda: "")  # type: ignore[arg-type]
        self.socket = _Socket(self, self.listener)
        self.proxy = Proxy(
            config,
            self.transactions,
            gate,
            registrar,
            self.location,
            self.accounts,
            hops,
            self.routes,
            self.resolver,
            trunks,
            {},
            metrics,
        )
        self.proxy.add_udp(self.socket)  # type: ignore[arg-type]
        self.transactions.user = self.proxy

    async def stop(self) -> None:
        await self.proxy.close()
        await self.store.close()

    async def phone(self, user: str) -> "Phone":
        """A phone that is not registered yet; the account is made for the first of a user."""
        if self.accounts.by_user(user) is None:
            await add_account(self.store, DOMAIN, user, "secret", is_terminal=False)
            self.accounts._looked_at = -1e9
            await self.accounts.refresh()
        made = Phone(self, user, (f"192.0.2.{next(self._addresses)}", PORT))
        self._phones[made.address] = made
        return made

    async def phones(self, *users: str) -> "list[Phone]":
        """Phones, each registered."""
        made = [await self.phone(user) for user in users]
        for one in made:
            assert (await one.register()).status == 200
        return made

    # The links.

    def to_phone(self, data: bytes, address: tuple[str, int]) -> None:
        phone = self._phones.get(address)
        if phone is None:
            self._note("neighbour", f"{address[0]}:{address[1]}", data)
            return
        self._note("neighbour", phone.name, data)
        self._carry(data, phone.link, False, lambda: phone.receive(data))

    def to_neighbour(self, data: bytes, phone: "Phone") -> None:
        self._note(phone.name, "neighbour", data)
        flow = UdpFlow(self.socket, phone.address)  # type: ignore[arg-type]
        self._carry(data, phone.link, True, lambda: self.transactions.receive(data, flow))

    def _carry(self, data: bytes, link: Link, to_neighbour: bool, deliver: Callable[[], None]) -> None:
        for _ in range(link.copies):
            if (
                link.down
                or self.random.random() < link.loss
                or (link.drop is not None and link.drop(parse(data), to_neighbour))
            ):
                link.lost += 1
                continue
            self.loop.call_later(link.delay_s + self.random.random() * link.jitter_s, deliver)

    def _note(self, source: str, to: str, data: bytes) -> None:
        message = parse(data)
        line = message.method if isinstance(message, Request) else f"{message.status} {message.cseq.method}"
        self.trace.append((self.loop.time(), source, to, line))

    def count(self, source: str, to: str, line: str) -> int:
        """How often something was sent."""
        return sum(one[1:] == (source, to, line) for one in self.trace)

    @property
    def pending(self) -> int:
        """Transactions and response contexts that the neighbour keeps: 0 when all is over."""
        return int(self.metrics.value("wisp_transactions")) + len(self.proxy._forks)


@dataclass
class Call:
    """A request that a phone sent, and what came back.

    Attributes:
        request: as it was sent last.
        responses: every response in order, challenges left out.
        timed_out: whether the client transaction gave up.
    """

    phone: "Phone"
    request: Request
    responses: list[Response] = field(default_factory=list)
    timed_out: bool = False
    client: Client | None = None

    def __post_init__(self) -> None:
        self._news = asyncio.Event()

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]

    @property
    def tags(self) -> list[bytes]:
        """The To tags of the 2xx, in order."""
        return [response.to.tag for response in self.responses if 200 <= response.status < 300]

    async def final(self) -> Response:
        """The first final response.

        Raises:
            TimeoutError: the client transaction gave up.
        """
        while True:
            for response in self.responses:
                if response.status >= 200:
                    return response
            if self.timed_out:
                raise TimeoutError
            await self._next()

    async def until(self, status: int) -> Response:
        """The first response of a status."""
        while True:
            for response in self.responses:
                if response.status == status:
                    return response
            assert not self.timed_out, self.statuses
            await self._next()

    async def _next(self) -> None:
        self._news.clear()
        await self._news.wait()

    def event(self, client: Client, event: "Response | str") -> None:
        if isinstance(event, str):
            self.timed_out = True
        elif event.status in (401, 407) and not self.responses and self.request.get("proxy-authorization") is None:
            self.phone.sign(self, event)
            return
        else:
            self.responses.append(event)
            if self.request.method == "INVITE" and 200 <= event.status < 300 and self.phone.acks:
                self.ack(event)
        self._news.set()

    def ack(self, response: Response) -> None:
        """Acknowledge a 2xx."""
        self.phone.send(self.within("ACK", response, self.request.cseq.number))

    def within(self, method: str, response: Response, cseq: int) -> Request:
        """A request in the dialog of a 2xx."""
        made = Request(method, response.addresses("contact")[0].uri)
        for value in reversed(response.values("record-route")):
            made.add("Route", value)
        made.add("Max-Forwards", b"70")
        made.add("From", response.get("from") or b"")
        made.add("To", response.get("to") or b"")
        made.add("Call-ID", response.call_id)
        made.add("CSeq", f"{cseq} {method}".encode())
        if method != "ACK":
            made.add("Contact", b"<%s>" % self.phone.contact)
        return made

    def cancel(self) -> "Call":
        """Send a CANCEL; returns it."""
        assert self.client is not None
        call = Call(self.phone, cancel_for(self.client.request))
        call.client = self.phone.layer.request_again(call.request, self.phone.flow, call.event)
        return call

    def bye(self) -> "Call":
        """Hang up; returns the BYE."""
        response = next(one for one in self.responses if 200 <= one.status < 300)
        return self.phone.ask(self.within("BYE", response, self.request.cseq.number + 1))


class Phone:
    """A user agent that a scenario scripts.

    Attributes:
        got: methods of the requests that came, without retransmissions, ACKs included.
        requests: those requests.
        link: to the neighbour.
        acks: whether it acknowledges each 2xx by itself.
        obeys_cancel: whether a cancelled INVITE is answered 487.
    """

    def __init__(self, here: World, user: str, address: tuple[str, int]) -> None:
        self.here = here
        self.user = user
        self.address = address
        self.name = user if all(one.user != user for one in here._phones.values()) else f"{user} at {address[0]}"
        self.contact = f"sip:{user}@{address[0]}:{address[1]}".encode()
        self.link = Link()
        self.got: list[str] = []
        self.requests: list[Request] = []
        self.acks = True
        self.obeys_cancel = True
        self._script: list[tuple[float, int]] = [(0.0, 200)]
        self._headers: tuple[tuple[str, bytes], ...] = ()
        self.flow = _PhoneFlow(self, _Local(f"{address[0]}:{address[1]}"))  # type: ignore[arg-type]
        self.layer = Transactions(Metrics(), trace=False)
        self.layer.user = self

    def __repr__(self) -> str:
        return self.name

    def receive(self, data: bytes) -> None:
        self.layer.receive(data, self.flow)

    def send(self, message: Request) -> None:
        """Send a request that has no transaction: an ACK."""
        with contextlib.suppress(FlowClosedError):
            self.layer.send_ack(message, self.flow, f"z9hG4bKa{next(_numbers)}".encode())

    # As a caller.

    def new(self, method: str, to: str, *headers: tuple[str, bytes], body: bytes = b"", uri: str = "") -> Request:
        """A request out of a dialog; ``to`` is a user of the domain or a URI."""
        target = to if ":" in to else f"sip:{to}@{DOMAIN}"
        made = Request(method, (uri or target).encode())
        made.add("Max-Forwards", b"70")
        made.add("From", f"<sip:{self.user}@{DOMAIN}>;tag={next(_numbers)}".encode())
        made.add("To", f"<{target}>".encode())
        made.add("Call-ID", f"call{next(_numbers)}".encode())
        made.add("CSeq", f"1 {method}".encode())
        made.add("Contact", b"<%s>" % self.contact)
        for name, value in headers:
            made.add(name, value)
        made.body = body
        return made

    def ask(self, made: Request) -> Call:
        """Send a request in a transaction; a challenge to it is answered."""
        call = Call(self, made)
        self._start(call)
        return call

    def _start(self, call: Call) -> None:
        copy = Request(call.request.method, call.request.uri)
        copy.fields, copy.body = list(call.request.fields), call.request.body
        call.client = self.layer.request(copy, self.flow, call.event)

    def call(self, to: str, *headers: tuple[str, bytes], body: bytes = b"v=0\r\n") -> Call:
        """Send an INVITE."""
        return self.ask(self.new("INVITE", to, *headers, body=body))

    def sign(self, call: Call, challenged: Response) -> None:
        """Send a request again with credentials."""
        name = "proxy-authenticate" if challenged.status == 407 else "www-authenticate"
        challenge = choose(challenged.get_all(name), DOMAIN.encode())
        assert isinstance(challenge, Challenge)
        made = call.request
        secret = ha1(self.user.encode(), DOMAIN.encode(), b"secret")
        credentials = authenticate(challenge, self.user.encode(), secret, made.method, made.uri, b"cn", 1, made.body)
        made.add("Proxy-Authorization" if challenged.status == 407 else "Authorization", credentials.serialize())
        made.set("CSeq", b"%d %s" % (made.cseq.number + 1, made.method.encode()))
        self._start(call)

    async def register(self, params: str = "", *, expires: int = 3600) -> Response:
        """Register; ``params`` go behind the Contact, as ``;q=0.5``."""
        made = self.new("REGISTER", self.user, ("Expires", b"%d" % expires), uri=f"sip:{DOMAIN}")
        made.set("From", f"<sip:{self.user}@{DOMAIN}>;tag=r".encode())
        made.set("Contact", b"<%s>%s" % (self.contact, params.encode()))
        return await self.ask(made).final()

    # As a callee.

    def answers(self, *steps: "int | tuple[float, int]", headers: tuple[tuple[str, bytes], ...] = ()) -> None:
        """What to answer to requests: statuses, or (seconds since the request, status); nothing at all is silence."""
        self._script = [(0.0, step) if isinstance(step, int) else step for step in steps]
        self._headers = headers

    def handle_request(self, server: Server) -> None:
        self._note(server.request)
        tag = f"{self.user}{next(_numbers)}".encode()
        for after_s, status in self._script:
            if after_s:
                self.here.loop.call_later(after_s, self.respond, server, status, tag)
            else:
                self.respond(server, status, tag)

    def respond(self, server: Server, status: int, tag: bytes) -> None:
        """Answer a request."""
        if server.answered and not (server.request.method == "INVITE" and 200 <= status < 300):
            return
        response = server.request.response(status, "Reason", tag)
        for value in server.request.get_all("record-route"):
            response.add("Record-Route", value)
        response.add("Contact", b"<%s>" % self.contact)
        for name, value in self._headers:
            response.set(name, value)
        server.respond(response)

    def handle_ack(self, request: Request, flow: Flow) -> None:
        self._note(request)

    def handle_cancel(self, invite: Server) -> None:
        self.got.append("CANCEL")
        if self.obeys_cancel:
            self.respond(invite, 487, b"cancelled")

    def _note(self, request: Request) -> None:
        self.got.append(request.method)
        self.requests.append(request)

    def bye(self, peer: Address | None = None) -> Call:
        """Hang up a call that came."""
        del peer
        invite = next(one for one in reversed(self.requests) if one.method == "INVITE")
        ack = next(one for one in reversed(self.requests) if one.method == "ACK")
        made = Request("BYE", invite.addresses("contact")[0].uri)
        for value in invite.get_all("record-route"):
            made.add("Route", value)
        made.add("Max-Forwards", b"70")
        made.add("From", ack.get("to") or b"")
        made.add("To", ack.get("from") or b"")
        made.add("Call-ID", invite.call_id)
        made.add("CSeq", b"1 BYE")
        return self.ask(made)


@contextlib.asynccontextmanager
async def world(*, seed: int = 1, **tables: Any) -> AsyncIterator[World]:
    """A world with a neighbour in it; ``tables`` are those of its configuration, as ``proxy={"ring_s": 5.0}``."""
    config = Config(
        domain=DOMAIN,
        listen=[{"transport": "udp", "address": HOST, "port": PORT}],
        tls={"certificate": "none", "key": "none", "ca": ["none"]},
        resolver={"enabled": False},
        base=Path(),
        **tables,
    )
    here = World(config, seed)
    await here.start()
    try:
        yield here
    finally:
        await here.stop()
