"""Transactions on an event loop, without a neighbour."""

import gc
import weakref

from sip import request, run

from neighbour.config import LimitsConfig, ListenConfig
from neighbour.limits import Limits
from neighbour.metrics import Metrics
from neighbour.overload import Overload
from neighbour.screen import Screen
from neighbour.transactions import Client, Transactions
from neighbour.transport.flow import Flow, Listener
from sipwire.message import Request, Response, parse


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


def test_nothing_of_a_transaction_waits_for_the_collector() -> None:
    """At many calls a second a full collection takes as long as a retransmission waits."""

    async def work() -> None:
        metrics, config = Metrics(), LimitsConfig()
        screen = Screen(Limits(config, metrics), Overload(config, metrics, {}), metrics)
        layer = Transactions(metrics, screen, config.max_transactions, trace=False)
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
