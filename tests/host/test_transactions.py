"""Transactions on an event loop, without a neighbour."""

import asyncio
import gc
import ssl
import weakref

import pytest
from sip import request, run

from neighbour.config import LimitsConfig, ListenConfig
from neighbour.limits import Limits
from neighbour.metrics import Metrics
from neighbour.overload import Overload
from neighbour.screen import Screen
from neighbour.transactions import Client, Server, Transactions
from neighbour.transport.flow import Flow, FlowClosedError, Listener
from neighbour.transport.stream import Connection
from sipwire.message import Request, Response, parse
from sipwire.transaction import TRANSPORT_ERROR


class Wire(Flow):
    """A connection that keeps what is sent."""

    transport = "TCP"
    reliable = True
    protection = "none"
    peer = ("192.0.2.7", 5060)
    listener = Listener(ListenConfig(transport="tcp", address="192.0.2.1", port=5060), "a.example")

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, data: bytes) -> None:
        self.sent.append(data)


class Waiting:
    """Who sends a request and knows its transaction, as a fork does."""

    client: Client

    def __init__(self) -> None:
        self.events: list[Response | str] = []

    def take(self, _client: Client, event: Response | str) -> None:
        self.events.append(event)


class Closed(Wire):
    """A connection that has ended."""

    tried = 0

    def send(self, data: bytes) -> None:
        del data
        self.tried += 1
        raise FlowClosedError("closed")


class Asked:
    """Who answers requests, later."""

    def __init__(self) -> None:
        self.servers: list[Server] = []

    def handle_request(self, server: Server) -> None:
        self.servers.append(server)

    def handle_ack(self, request: Request, flow: Flow) -> None:
        raise AssertionError

    def handle_cancel(self, invite: Server, cancel: Request) -> None:
        raise AssertionError


class Ending(asyncio.Transport):
    """A connection whose end has begun, and is not told yet."""

    def is_closing(self) -> bool:
        return True

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


class Nobody:
    """Who has connections, and takes no interest."""

    idle_s = 60.0

    def identities_of(self, address: str) -> frozenset[str]:
        del address
        return frozenset()

    def opened(self, connection: Connection) -> None:
        pass

    def closed(self, connection: Connection) -> None:
        pass


class Somebody(Nobody):
    """Who knows a domain by its address."""

    def identities_of(self, address: str) -> frozenset[str]:
        return frozenset({"b.example"}) if address == "192.0.2.7" else frozenset()


def transactions() -> Transactions:
    metrics, config = Metrics(), LimitsConfig()
    screen = Screen(Limits(config, metrics), Overload(config, metrics, {}), metrics)
    return Transactions(metrics, screen, config.max_transactions, trace=False)


def test_nothing_of_a_transaction_waits_for_the_collector() -> None:
    """At many calls a second a full collection takes as long as a retransmission waits."""

    async def work() -> None:
        layer = transactions()
        flow, waiting = Wire(), Waiting()
        waiting.client = layer.request(request("BYE", "sip:bob@a.example", to_tag="t"), flow, waiting.take)
        sent = parse(flow.sent[0])
        assert isinstance(sent, Request)
        layer.receive(sent.response(200, "OK").serialize(), flow)
        assert [event.status for event in waiting.events if isinstance(event, Response)] == [200]
        left = weakref.ref(waiting)
        gc.disable()
        try:
            del waiting
            assert left() is None
        finally:
            gc.enable()

    run(work)


def test_whose_connection_has_ended_is_answered_no_more() -> None:
    """What its first answer could not be sent to waits for no other, however its request ends."""

    async def work() -> None:
        layer = transactions()
        flow, asked = Closed(), Asked()
        layer.user = asked
        made = request("INVITE", "sip:bob@a.example")
        made.insert("Via", b"SIP/2.0/TCP 192.0.2.7;branch=z9hG4bKcarol")
        layer.receive(made.serialize(), flow)
        (server,) = asked.servers
        server.admitted = True
        server.respond(server.request.response(180, "Ringing", b"t"))
        await asyncio.sleep(0)
        assert not layer._servers
        server.reject(404, "Not Found")
        server.answer_once(407, "Proxy Authentication Required")
        assert flow.tried == 1

    run(work)


def test_an_answer_while_another_way_is_found() -> None:
    """A peer's connection is gone, and its second answer fails at the moment when there is one for the first."""

    async def work() -> None:
        layer, wire, asked = transactions(), Wire(), Asked()
        layer.user = asked
        found: asyncio.Future[Flow] = asyncio.get_running_loop().create_future()

        async def again(_connection: Connection, _port: int | None) -> Flow:
            return await found

        layer.again = again
        gone = Connection(Wire.listener, Somebody(), ours=False)  # type: ignore[arg-type]
        gone.connection_made(Ending({"peername": ("192.0.2.7", 40000)}))
        gone.connection_lost(None)
        assert gone.identities == {"b.example"}
        made = request("INVITE", "sip:bob@a.example", "carol", "b.example")
        made.insert("Via", b"SIP/2.0/TCP 192.0.2.7;branch=z9hG4bKcarol")
        layer.receive(made.serialize(), gone)
        (server,) = asked.servers
        server.admitted = True
        server.respond(server.request.response(180, "Ringing", b"t"))
        for _ in range(3):
            await asyncio.sleep(0)
        found.set_result(wire)
        server.respond(server.request.response(486, "Busy Here", b"t"))
        for _ in range(5):
            await asyncio.sleep(0)
        assert [data.split()[1] for data in wire.sent] == [b"180", b"486"]

    run(work)


@pytest.mark.parametrize("error", ["before", "after"])
def test_why_a_connection_ends(error: str) -> None:
    """TLS 1.3 has a client's certificate refused after the handshake: the first request meets an end under way."""

    async def work() -> None:
        layer, stream, waiting = transactions(), Ending(), Waiting()
        connection = Connection(Wire.listener, Nobody(), ours=True)  # type: ignore[arg-type]
        connection.connection_made(stream)
        refusal = ssl.SSLError(1, "[SSL: TLSV1_ALERT_UNKNOWN_CA] tlsv1 alert unknown ca")
        refusal.reason = "TLSV1_ALERT_UNKNOWN_CA"
        if error == "before":
            connection.connection_lost(refusal)
        waiting.client = layer.request(request("OPTIONS", "sip:b.example"), connection, waiting.take)
        for _ in range(5):
            await asyncio.sleep(0)
        if error == "after":
            assert waiting.events == []
            assert waiting.client.due is not None  # should nobody ever tell
            connection.connection_lost(refusal)
        assert waiting.events == [TRANSPORT_ERROR]
        assert waiting.client.failure == "peer refused us: certificate from an unknown CA"

    run(work)
