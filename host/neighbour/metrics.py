"""Counters, for Prometheus and for tests: what was dropped, refused and done. Names begin with ``wisp_``."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, start_http_server

from .config import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Metrics"]


class Metrics:
    """The counters of one neighbour, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(name, text, labels, registry=self.registry)

        self.messages = counter("wisp_messages", "SIP messages", "direction", "protection")
        self.malformed = counter("wisp_malformed", "Messages that were no SIP, or malformed", "transport")
        self.frames_dropped = counter("wisp_frames_dropped", "Hop frames dropped", "check")
        self.stray_responses = counter("wisp_stray_responses", "Responses that nobody waits for")
        self.stray_requests = counter("wisp_stray_requests", "Requests with the branch of somebody else's")
        self.auth = counter("wisp_auth", "Digest authentication", "result")
        self.agreements = counter("wisp_agreements", "Hop agreements asked for", "result")
        self.registrations = counter("wisp_registrations", "REGISTER requests answered", "status")
        self.requests = counter("wisp_requests", "Requests proxied, by final status", "method", "status")
        self.refused = counter("wisp_refused", "Requests refused before they were proxied", "reason")
        self.trunk_failures = counter("wisp_trunk_failures", "Trunk connections that failed", "domain")
        self.bindings = Gauge("wisp_bindings", "Bindings that live", registry=self.registry)
        self.transactions = Gauge("wisp_transactions", "Transactions that live", registry=self.registry)
        self.connections = Gauge("wisp_connections", "TCP and TLS connections that live", registry=self.registry)

    def value(self, name: str, **labels: str) -> float:
        """A counter's or gauge's value, 0 where it was never counted."""
        return self.registry.get_sample_value(name, labels or None) or 0.0

    def serve(self, listen: str) -> "Callable[[], None]":
        """Answer HTTP requests for the counters, on a thread of their own; returns how to end that.

        Raises:
            OSError: the socket can't be bound.
        """
        host, port = parse_address(listen)
        server, thread = start_http_server(port, host, registry=self.registry)

        def close() -> None:
            server.shutdown()
            server.server_close()
            thread.join()

        return close
