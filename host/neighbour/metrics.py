"""Counters, for Prometheus and for tests: what was dropped, refused and done. Names begin with ``wisp_``."""

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Gauge, start_http_server
from prometheus_client.core import CounterMetricFamily

from .config import parse_address

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Count", "Counts", "Metrics", "Snapshot"]


class Count:
    """A number that rises."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self) -> None:
        """One more."""
        self.value += 1


class Counts:
    """A counter and its children by label. The library's own take a lock for each step: too much for each message.

    Args:
        name: without ``_total``.
        text: what it counts.
        labels: names of the labels.
    """

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name = name
        self._text = text
        self._labels = labels
        self._children: dict[tuple[str, ...], Count] = {}
        if not labels:
            self.labels()

    def labels(self, *values: str) -> Count:
        """The count of these label values."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = Count()
        return child

    def inc(self) -> None:
        """One more, of a counter without labels."""
        self._children[()].value += 1

    def collect(self) -> "Iterator[CounterMetricFamily]":
        """Called by the registry, on a thread of its own."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, child in list(self._children.items()):
            family.add_metric(values, child.value)
        yield family


class Snapshot:
    """Counters that others keep, as they were when somebody last looked.

    Args:
        name: without ``_total``.
        text: what they count.
        label: what tells them apart.
        found: what there was.
    """

    def __init__(self, name: str, text: str, label: str, found: "Callable[[], dict[str, int]]") -> None:
        self._name = name
        self._text = text
        self._label = label
        self._found = found

    def collect(self) -> "Iterator[CounterMetricFamily]":
        """Called by the registry, on a thread of its own."""
        family = CounterMetricFamily(self._name, self._text, labels=(self._label,))
        for what, value in self._found().items():
            family.add_metric((what,), value)
        yield family


class Metrics:
    """The counters of one neighbour, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()

        def counter(name: str, text: str, *labels: str) -> Counts:
            counts = Counts(name, text, labels)
            self.registry.register(counts)
            return counts

        self.messages = counter("wisp_messages", "SIP messages", "direction", "protection")
        self.malformed = counter("wisp_malformed", "Messages that were no SIP, or malformed", "transport")
        self.frames_dropped = counter("wisp_frames_dropped", "Hop frames dropped", "check")
        self.stray_responses = counter("wisp_stray_responses", "Responses that nobody waits for")
        self.stray_requests = counter("wisp_stray_requests", "Requests with the branch of somebody else's")
        self.auth = counter("wisp_auth", "Digest authentication", "result")
        self.agreements = counter("wisp_agreements", "Hop agreements asked for", "result")
        self.registrations = counter("wisp_registrations", "REGISTER requests answered", "status")
        self.requests = counter(
            "wisp_requests", "Requests but REGISTER, by final status, challenges included", "method", "status"
        )
        self.refused = counter("wisp_refused", "Requests forbidden, by reason", "reason")
        self.limited = counter("wisp_limited", "Requests, datagrams and answers beyond a limit", "limit")
        self.overloads = counter("wisp_overloads", "Overloads that began or got another cause", "cause")
        self.overload_refused = counter("wisp_overload_refused", "Requests refused because of overload")
        self.trunk_failures = counter("wisp_trunk_failures", "Trunk connections that failed", "domain")
        self.connections_refused = counter("wisp_connections_refused", "TCP and TLS connections refused", "reason")
        self.asymmetric = counter("wisp_asymmetric", "Asymmetric operations of the security agent", "operation")
        self.security_refused = counter("wisp_security_refused", "Messages the security agent refused", "reason")
        self.setup_calls = counter(
            "wisp_setup_calls", "INVITE requests over a trunk that a setup key protects, and not S/MIME", "direction"
        )
        self.setup_keys = counter("wisp_setup_keys", "Setup keys at registration, by what became of them", "result")
        self.media_streams = counter("wisp_media_streams", "Streams relayed, by how packets go through", "way")
        self.media_refused = counter(
            "wisp_media_refused", "Calls and changes of calls refused for their media", "reason"
        )
        self.serial = counter("wisp_serial", "Packets and pieces of text on serial lines", "line", "what")
        self.media: dict[str, int] = {}  # what relays have counted: looked up now and then, on their own thread
        self.registry.register(Snapshot("wisp_media", "What media relays have seen", "what", lambda: self.media))
        self.overload = Gauge(
            "wisp_overload", "Overload, from 0 to 1: 3x strangers are refused, 3x-2 others", registry=self.registry
        )
        self.delay = Gauge(
            "wisp_delay_seconds", "What a message waits before it is read, about", registry=self.registry
        )
        self.datagrams_lost = Gauge(
            "wisp_datagrams_lost", "Datagrams that found no place in the kernel's queues", registry=self.registry
        )
        self.bindings = Gauge("wisp_bindings", "Bindings that live", registry=self.registry)
        self.relays = Gauge("wisp_relays", "Media relays that are open", registry=self.registry)
        self.serial_lines = Gauge("wisp_serial_lines", "Serial lines that are plugged in", registry=self.registry)
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
