"""Scripted user agents: what they send, what they answer, and what came of it.

Their transactions are the neighbour's own, so that both ends of a link retransmit as the RFC wants it; what the user
agent core has to do beside them, such as repeating a 2xx until its ACK, is here.
"""

import asyncio
import contextlib
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from neighbour.config import LimitsConfig
from neighbour.limits import Limits
from neighbour.metrics import Metrics
from neighbour.overload import Overload
from neighbour.screen import Screen
from neighbour.transactions import Client, Server, Transactions
from neighbour.transport.flow import Flow, FlowClosedError
from sipwire.digest import Challenge, authenticate, choose, ha1
from sipwire.message import Request, Response
from sipwire.stream import PING, PONG, StreamParser
from sipwire.transaction import T1_MS, T2_MS, cancel_for

from .network import Pipe

if TYPE_CHECKING:
    from .links import Link
    from .world import World

__all__ = ["DOMAIN", "HOST", "PASSWORD", "PORT", "TLS_PORT", "Call", "Phone", "numbers"]

DOMAIN = "a.example"
HOST = "127.0.0.1"
PORT = 5060
TLS_PORT = 5061
PASSWORD = "secret"
numbers = itertools.count(1)
_METRICS = Metrics()  # of all phones: nobody looks at them
# A phone reads and answers whatever comes.
_LIMITS = LimitsConfig(stranger_rate=10_000, stranger_burst=100_000)
_SCREEN = Screen(Limits(_LIMITS, _METRICS), Overload(_LIMITS, _METRICS, {}), _METRICS)


class _Local:
    """What a phone's own Via says."""

    def __init__(self, public: str) -> None:
        self.public = public


class DatagramFlow(Flow):
    """From a phone to the neighbour, over its link."""

    transport = "UDP"
    reliable = False
    protection = "none"

    def __init__(self, phone: "Phone") -> None:
        self._phone = phone
        self.listener = _Local(f"{phone.address[0]}:{phone.address[1]}")  # type: ignore[assignment]
        self.peer = (HOST, PORT)

    def send(self, data: bytes) -> None:
        self._phone.here.to_neighbour(data, self._phone)

    def has_same_end(self, other: Flow) -> bool:
        return isinstance(other, DatagramFlow)


class StreamFlow(asyncio.Protocol, Flow):
    """A connection of a phone's or server's, whoever opened it."""

    reliable = True

    def __init__(self, address: tuple[str, int], receive: Callable[[bytes, Flow], None]) -> None:
        self.transport = "TCP"
        self.protection = "none"
        self.listener = _Local(f"{address[0]}:{address[1]}")  # type: ignore[assignment]
        self.pipe: Pipe
        self._receive = receive
        self._parser = StreamParser()
        self._watchers: list[Callable[[str], None]] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, Pipe)
        self.pipe = transport
        self.peer = transport.get_extra_info("peername")
        if transport.get_extra_info("ssl_object") is not None:
            self.transport, self.protection = "TLS", "tls"

    def data_received(self, data: bytes) -> None:
        for item in self._parser.receive(data):
            if item not in (PING, PONG):
                self._receive(item, self)
        assert self._parser.fault is None, self._parser.fault

    def connection_lost(self, exc: Exception | None) -> None:
        watchers, self._watchers = self._watchers, []
        for callback in watchers:
            callback("closed")

    def send(self, data: bytes) -> None:
        if self.pipe.is_closing():
            raise FlowClosedError("closed")
        self.pipe.write(data)

    def on_close(self, callback: Callable[[str], None]) -> Callable[[], None]:
        self._watchers.append(callback)
        return lambda: self._watchers.remove(callback) if callback in self._watchers else None

    def close(self) -> None:
        self.pipe.close()


@dataclass
class Call:
    """A request that a phone sent, and what came back.

    Attributes:
        request: as it was sent last.
        responses: every response in order, a challenge that was answered left out.
        arrivals: when each of them came.
        timed_out: whether the client transaction gave up.
    """

    phone: "Phone"
    request: Request
    responses: list[Response] = field(default_factory=list)
    arrivals: list[float] = field(default_factory=list)
    timed_out: bool = False
    client: Client | None = None
    sent: Request = field(init=False)

    def __post_init__(self) -> None:
        self._news = asyncio.Event()

    @property
    def statuses(self) -> list[int]:
        return [response.status for response in self.responses]

    @property
    def tags(self) -> list[bytes]:
        """The To tags of the 2xx, in order."""
        return [response.to.tag for response in self.responses if 200 <= response.status < 300]

    @property
    def is_over(self) -> bool:
        return self.timed_out or any(status >= 200 for status in self.statuses)

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

    async def heard(self) -> None:
        """Wait for anything."""
        while not self.responses:
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
        elif event.status in (401, 407) and self.phone.can_sign(self, event):
            self.phone.sign(self, event)
            return
        else:
            self.responses.append(event)
            self.arrivals.append(self.phone.here.loop.time())
            if self.request.method == "INVITE" and 200 <= event.status < 300 and self.phone.acks:
                self.ack(event)
        self._news.set()

    def ack(self, response: Response) -> None:
        """Acknowledge a 2xx."""
        self.phone.send(self.within("ACK", response, self.request.cseq.number))

    def within(self, method: str, response: Response, cseq: int, *headers: tuple[str, bytes]) -> Request:
        """A request in the dialog that a response makes."""
        made = Request(method, response.addresses("contact")[0].uri)
        # The route set is made with the dialog, and stays (section 12.2.1.1).
        known = self.request.values("route") if self.request.to.tag else reversed(response.values("record-route"))
        for value in known:
            made.add("Route", value)
        made.add("Max-Forwards", b"70")
        made.add("From", response.get("from") or b"")
        made.add("To", response.get("to") or b"")
        made.add("Call-ID", response.call_id)
        made.add("CSeq", f"{cseq} {method}".encode())
        if method != "ACK":
            made.add("Contact", b"<%s>" % self.phone.contact)
        for name, value in headers:
            made.add(name, value)
        return made

    def again(self, method: str, response: Response | None = None, *headers: tuple[str, bytes]) -> "Call":
        """Send another request in the dialog of a response, by default the first 2xx."""
        if response is None:
            response = next(one for one in self.responses if 200 <= one.status < 300)
        self.phone.cseq += 1
        return self.phone.ask(self.within(method, response, self.phone.cseq, *headers))

    def bye(self) -> "Call":
        """Hang up; returns the BYE."""
        return self.again("BYE")

    def cancel(self, *headers: tuple[str, bytes]) -> "Call":
        """Send a CANCEL; returns it."""
        assert self.client is not None
        call = Call(self.phone, cancel_for(self.sent))
        for name, value in headers:
            call.request.add(name, value)
        call.client = self.phone.layer.request_again(call.request, self.client.flow, call.event)
        return call


class Phone:
    """A user agent of a user's, on a link of its own.

    Attributes:
        got: methods of the requests that came, without retransmissions, ACKs and CANCELs included.
        requests: those requests, without CANCELs.
        arrivals: when each of these came.
        reasons: what the CANCELs that came gave (RFC 3326).
        link: to the neighbour, for datagrams.
        flow: to the neighbour.
        acks: whether it acknowledges each 2xx by itself.
        obeys_cancel: whether a cancelled INVITE is answered 487.
        unacknowledged: 2xx whose ACK has not come within 64*T1.
        hook: gets each request before the script; True means that it has seen to it.
    """

    def __init__(self, here: "World", user: str, address: tuple[str, int], link: "Link", name: str) -> None:
        self.here = here
        self.user = user
        self.address = address
        self.name = name
        self.domain = DOMAIN
        self.scheme = "sip"
        self.contact = f"sip:{user}@{address[0]}:{address[1]}".encode()
        self.link = link
        self.got: list[str] = []
        self.requests: list[Request] = []
        self.arrivals: list[float] = []
        self.reasons: list[list[bytes]] = []
        self.acks = True
        self.obeys_cancel = True
        self.unacknowledged = 0
        self.hook: Callable[[Server], bool] = lambda server: False
        self.cseq = 100
        self._expected: str | None = ""
        self._scripts: dict[str, tuple[list[tuple[float, int]], tuple[tuple[str, bytes], ...], bytes]] = {}
        self._repeating: dict[tuple[bytes, int], asyncio.TimerHandle] = {}
        self._sides: dict[bytes, Response] = {}
        self.flow: Flow = DatagramFlow(self)
        self.layer = Transactions(_METRICS, _SCREEN, _LIMITS.max_transactions, trace=False)
        self.layer.user = self

    def __repr__(self) -> str:
        return self.name

    def receive(self, data: bytes, flow: Flow | None = None) -> None:
        self.layer.receive(data, flow or self.flow)

    def send(self, message: Request) -> None:
        """Send a request that has no transaction: an ACK."""
        with contextlib.suppress(FlowClosedError):
            self.layer.send_ack(message, self.flow, f"z9hG4bKa{next(numbers)}".encode())

    def gets(self, methods: str | None) -> "Phone":
        """What it is to get in all, in order; the world looks at its end. None: that depends on chance."""
        self._expected = methods
        return self

    def check(self) -> None:
        """Called when all is over."""
        if self._expected is not None:
            assert " ".join(self.got) == self._expected, f"{self.name}: {self.got}"
        assert not self.layer._clients, f"{self.name} still waits"

    # As a caller.

    def new(self, method: str, to: str, *headers: tuple[str, bytes], body: bytes = b"", uri: str = "") -> Request:
        """A request out of a dialog; ``to`` is a user of our domain or a URI."""
        target = to if ":" in to else f"{self.scheme}:{to}@{DOMAIN}"
        made = Request(method, (uri or target).encode())
        made.add("Max-Forwards", b"70")
        made.add("From", f"<{self.scheme}:{self.user}@{self.domain}>;tag=f{next(numbers)}".encode())
        made.add("To", f"<{target}>".encode())
        made.add("Call-ID", f"call{next(numbers)}".encode())
        made.add("CSeq", f"1 {method}".encode())
        made.add("Contact", b"<%s>" % self.contact)
        for name, value in headers:
            made.set(name, value)
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
        call.sent = copy

    def call(self, to: str, *headers: tuple[str, bytes], body: bytes = b"v=0\r\n", uri: str = "") -> Call:
        """Send an INVITE."""
        return self.ask(self.new("INVITE", to, *headers, body=body, uri=uri))

    def can_sign(self, call: Call, challenged: Response) -> bool:
        """Whether a challenge is the neighbour's, and the first."""
        key = "proxy-authorization" if challenged.status == 407 else "authorization"
        name = "proxy-authenticate" if challenged.status == 407 else "www-authenticate"
        ours = choose(challenged.get_all(name), DOMAIN.encode())
        return ours is not None and not call.responses and call.request.get(key) is None

    def sign(self, call: Call, challenged: Response) -> None:
        """Send a request again with credentials."""
        name = "proxy-authenticate" if challenged.status == 407 else "www-authenticate"
        challenge = choose(challenged.get_all(name), DOMAIN.encode())
        assert isinstance(challenge, Challenge)
        made = call.request
        secret = ha1(self.user.encode(), DOMAIN.encode(), PASSWORD.encode())
        credentials = authenticate(challenge, self.user.encode(), secret, made.method, made.uri, b"cn", 1, made.body)
        made.add("Proxy-Authorization" if challenged.status == 407 else "Authorization", credentials.serialize())
        made.set("CSeq", b"%d %s" % (made.cseq.number + 1, made.method.encode()))
        self._start(call)

    async def register(self, params: str = "", *, expires: int = 3600) -> Response:
        """Register; ``params`` go behind the Contact, as ``;q=0.5``."""
        self.cseq += 1
        scheme = self.contact.partition(b":")[
            0
        ].decode()  # a SIPS contact wants a SIPS registrar (RFC 5630 section 5.2)
        made = self.new("REGISTER", f"sip:{self.user}@{DOMAIN}", ("Expires", b"%d" % expires), uri=f"{scheme}:{DOMAIN}")
        made.add("Supported", b"outbound")
        made.set("From", f"<sip:{self.user}@{DOMAIN}>;tag=r".encode())
        made.set("Contact", b"<%s>%s" % (self.contact, params.encode()))
        return await self.ask(made).final()

    # As a callee.

    def answers(
        self,
        *steps: "int | tuple[float, int]",
        to: str = "INVITE",
        headers: tuple[tuple[str, bytes], ...] = (),
        tag: bytes = b"",
    ) -> "Phone":
        """What to answer: statuses, or (seconds since the request, status); nothing at all is silence.

        Requests that nothing is said about are answered 200.
        """
        script = [(0.0, step) if isinstance(step, int) else step for step in steps]
        self._scripts[to] = (script, headers, tag)
        return self

    def handle_request(self, server: Server) -> None:
        server.admitted = True
        method = server.request.method
        self.note(server.request)
        if self.hook(server):
            return
        script, headers, tag = self._scripts.get(method, ([(0.0, 200)], (), b""))
        tag = tag or f"{self.user}{next(numbers)}".encode()
        for after_s, status in script:
            if after_s:
                self.here.loop.call_later(after_s, self.respond, server, status, tag, headers)
            else:
                self.respond(server, status, tag, headers)

    def respond(
        self, server: Server, status: int, tag: bytes = b"", headers: tuple[tuple[str, bytes], ...] = ()
    ) -> None:
        """Answer a request."""
        method = server.request.method
        if server.answered and not (method == "INVITE" and 200 <= status < 300):
            return
        response = server.request.response(status, "Reason", tag or f"{self.user}{next(numbers)}".encode())
        for value in server.request.get_all("record-route"):
            response.add("Record-Route", value)
        if status < 300 or status == 485:
            response.add("Contact", b"<%s>" % self.contact)
        for name, value in headers:
            response.add(name, value)
        self._sides[response.call_id] = response
        server.respond(response)
        if method == "INVITE" and 200 <= status < 300:
            self._repeat(server, response, T1_MS / 1000, self.here.loop.time() + 64 * T1_MS / 1000)

    def _repeat(self, server: Server, response: Response, interval_s: float, end: float) -> None:
        """Send a 2xx until its ACK comes: "an interval that starts at T1 seconds and doubles ... until it reaches T2"."""
        key = (response.call_id, response.cseq.number)
        now = self.here.loop.time()

        def due() -> None:
            server.respond(response)
            self._repeat(server, response, min(interval_s * 2, T2_MS / 1000), end)

        def give_up() -> None:
            del self._repeating[key]
            self.unacknowledged += 1

        old = self._repeating.get(key)
        if old is not None:
            old.cancel()
        is_last = now + interval_s > end
        self._repeating[key] = self.here.loop.call_at(*((end, give_up) if is_last else (now + interval_s, due)))

    def handle_ack(self, request: Request, flow: Flow) -> None:
        timer = self._repeating.pop((request.call_id, request.cseq.number), None)
        if timer is not None:
            timer.cancel()
        self.note(request)

    def handle_cancel(self, invite: Server, cancel: Request) -> None:
        self.got.append("CANCEL")
        self.reasons.append(cancel.get_all("reason"))
        if self.obeys_cancel:
            self.respond(invite, 487, b"cancelled")

    def note(self, request: Request) -> None:
        self.got.append(request.method)
        self.requests.append(request)
        self.arrivals.append(self.here.loop.time())

    def last(self, method: str) -> Request:
        """The last request of a method that came."""
        return next(one for one in reversed(self.requests) if one.method == method)

    def within(self, method: str, of: str = "INVITE", *headers: tuple[str, bytes]) -> Request:
        """A request to whom the last request that began a dialog came from, in that dialog."""
        came = next(one for one in reversed(self.requests) if one.method == of and not one.to.tag)
        own = self._sides[came.call_id]
        self.cseq += 1
        made = Request(method, came.addresses("contact")[0].uri)
        for value in came.values("record-route"):
            made.add("Route", value)
        made.add("Max-Forwards", b"70")
        made.add("From", own.get("to") or b"")
        made.add("To", own.get("from") or b"")
        made.add("Call-ID", came.call_id)
        made.add("CSeq", f"{self.cseq} {method}".encode())
        made.add("Contact", b"<%s>" % self.contact)
        for name, value in headers:
            made.add(name, value)
        return made

    def bye(self) -> Call:
        """Hang up a call that came."""
        return self.ask(self.within("BYE"))

    # Over a connection.

    async def connect_for_sips(self) -> None:
        """Open a TLS connection, register by it with a SIPS contact, and call SIPS URIs."""
        await self.connect(tls=True)
        self.contact = self.contact.replace(b"sip:", b"sips:").replace(b";transport=tls", b"")
        self.scheme = "sips"
        assert (await self.register()).status == 200

    async def connect(self, *, tls: bool = False, shown: bytes | None = None) -> StreamFlow:
        """Open a connection to the neighbour, which everything goes by from then on."""
        port = TLS_PORT if tls else PORT
        self.address = (self.address[0], self.address[1] + 1)
        flow = StreamFlow(self.address, self.layer.receive)
        await self.here.network.reach(flow, (HOST, port))
        await self.here.network.connect(lambda: flow, flow, self.name, self.address, shown)
        self.flow = flow
        kind = "tls" if tls else "tcp"
        self.contact = f"sip:{self.user}@{self.address[0]}:{self.address[1]};transport={kind}".encode()
        return flow
