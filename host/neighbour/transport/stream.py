"""TCP and TLS connections, accepted from phones and peers or opened to peers.

    strange --trust()--> trusted          a stranger has 32 s to show who they are, whatever they send
       |                    |
       +------ closed ------+             idle | silent (Flow-Timer) | a message not complete in time | does not read

A peer that is gone without a word is found by the kernel: what is sent and not acknowledged within 32 s ends the
connection, and where nothing is sent, keep-alive probes are.
"""

import asyncio
import contextlib
import os
import socket
from typing import TYPE_CHECKING, Protocol, cast

from sipwire.stream import PING, PONG, StreamParser

from .flow import NOBODY, Flow, FlowClosedError, Listener, peer_address
from .identity import describe_refusal, permitted_domains, read_certificate, shown_chain

if TYPE_CHECKING:
    from collections.abc import Callable

    from cryptography import x509

    from sipwire.errors import ParseError
    from sipwire.headers import Via

__all__ = ["CLOSED_BY_PEER", "Connection", "ConnectionUser", "set_options"]

_MAX_UNSENT_BYTES = 1 << 20  # a peer that does not read loses its connection, not our memory
_STRANGER_S = 32.0  # as long as a transaction; who has not shown by then who they are is no phone of ours
_MESSAGE_S = 32.0  # from a message's first byte to its last: its transaction is over by then, and it takes memory
_LINGER_S = 2.0  # for what is unsent and TLS's goodbye, once closed: a peer that is not there any more says none
_FLOW_TIMER_S = 120  # what phones do without being told, so that nobody has to do more (RFC 5626 section 4.4.1)
_GRACE_S = 30.0  # a keep-alive may be late: a lost segment is repeated for about as long
_UNACKNOWLEDGED_MS = 32_000  # as long as a transaction waits for its answer
_PROBE_AFTER_S = 120  # of silence. Phones' own keep-alives come before, so that none is woken for it
_PROBE_OURS_AFTER_S = 30  # a trunk that is dead is to be found before the next call finds it
_PROBE_EVERY_S = 10
_MAX_PROBES = 3
_TOKEN_BYTES = 6  # random; enough that no two living connections have the same
CLOSED_BY_PEER = "closed by the peer"


def set_options(sock: socket.socket, *, ours: bool) -> None:
    """Have the kernel find out that the other end is gone.

    Args:
        sock: a TCP socket.
        ours: whether we open the connection.
    """
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # asyncio does so only for sockets that were made with a protocol number: a message waits 40 ms for another else.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for name, value in (
        ("TCP_KEEPIDLE", _PROBE_OURS_AFTER_S if ours else _PROBE_AFTER_S),
        ("TCP_KEEPINTVL", _PROBE_EVERY_S),
        ("TCP_KEEPCNT", _MAX_PROBES),
        ("TCP_USER_TIMEOUT", _UNACKNOWLEDGED_MS),
    ):
        option = getattr(socket, name, None)  # systems other than Linux have some of them
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)


class ConnectionUser(Protocol):
    """Whom connections tell what happens, and who knows what holds for all of them."""

    #: Without traffic, a connection is closed after so long.
    idle_s: float

    def identities_of(self, address: str) -> frozenset[str]:
        """The domains that are taken for those at an address without a certificate."""

    def receive(self, data: bytes, connection: "Connection") -> None:
        """A message."""

    def malformed(self, error: "ParseError", connection: "Connection") -> None:
        """What ended the stream."""

    def opened(self, connection: "Connection") -> None:
        """It is up."""

    def closed(self, connection: "Connection") -> None:
        """It is down."""

    def aliased(self, connection: "Connection", port: int) -> None:
        """Its other end takes requests on it too, as if it had been opened to that port of theirs (RFC 5923)."""


class Connection(asyncio.Protocol, Flow):
    """One connection, as a flow.

    Args:
        listener: what stands for us: where it was accepted, or the trunk's own.
        user: see `ConnectionUser`.
        ours: whether we open it.
    """

    __slots__ = (
        "_flow_timer_s",
        "_heard",
        "_identities",
        "_incomplete_since",
        "_last",
        "_next_watcher",
        "_parser",
        "_shown",
        "_since",
        "_stream",
        "_timer",
        "_user",
        "_watchers",
        "closed_because",
        "explain",
        "has_received",
        "is_aliased",
        "is_ours",
        "is_trusted",
        "listener",
        "peer",
        "protection",
        "token",
        "transport",
    )
    reliable = True

    def __init__(self, listener: Listener, user: ConnectionUser, *, ours: bool = False) -> None:
        self.listener = listener
        self.transport = "TCP"
        self.protection = "none"
        self.peer = ("", 0)
        self.token = os.urandom(_TOKEN_BYTES).hex().encode()
        self.closed_because: str | None = None
        #: Whether we opened it.
        self.is_ours = ours
        #: Whether anything has come on it.
        self.has_received = False
        #: Whether the other end has shown who it is.
        self.is_trusted = False
        #: Whether the other end has said that it takes requests on it.
        self.is_aliased = False
        #: Says more about the reason of its end, where somebody knows more.
        self.explain: Callable[[str], str] | None = None
        self._user = user
        self._parser = StreamParser()
        self._stream: asyncio.Transport | None = None
        self._identities = NOBODY
        self._shown: tuple[bytes, ...] = ()
        self._watchers: dict[int, Callable[[str], None]] | None = None
        self._next_watcher = 0
        self._timer: asyncio.TimerHandle | None = None
        self._last = self._since = self._heard = 0.0
        self._incomplete_since: float | None = None
        self._flow_timer_s = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, for TLS after the handshake."""
        self._stream = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._stream.set_write_buffer_limits(high=_MAX_UNSENT_BYTES)
        peer = transport.get_extra_info("peername")  # none where it is gone again already
        if peer:
            self.peer = peer_address(peer)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.transport = "TLS"
            self.protection = "tls"
            der = tls.getpeercert(binary_form=True)
            if der:
                chain = shown_chain(tls)
                self._identities = permitted_domains(der, chain)
                if self._identities:
                    self._shown = (der, *chain)
        else:
            self._identities = self._user.identities_of(self.peer[0])
        self.is_trusted = bool(self._identities)
        self._last = self._since = self._heard = asyncio.get_running_loop().time()
        self._check_time()
        self._user.opened(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._last = self._heard = asyncio.get_running_loop().time()
        self.has_received = True
        items = self._parser.receive(data)
        for item in items:
            if item == PING:
                with contextlib.suppress(FlowClosedError):
                    self._write(PONG)
            elif item != PONG:
                self._user.receive(item, self)
        if self._parser.fault is not None and self.is_open:
            # What follows can't be told from what was: nothing on this connection can be trusted to be a message.
            self._user.malformed(self._parser.fault, self)
            self.close(self._parser.fault.reason)
        elif not self._parser.pending_bytes:
            self._incomplete_since = None
        elif items or self._incomplete_since is None:
            self._incomplete_since = self._last
            if self._timer is not None and self._timer.when() > self._last + _MESSAGE_S and self.is_open:
                self._timer.cancel()
                self._check_time()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self.closed_because is None:
            reason = None if exc is None else describe_refusal(exc) or str(exc)
            self.closed_because = reason or CLOSED_BY_PEER
        if self.explain is not None:
            self.closed_because = self.explain(self.closed_because)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        watchers, self._watchers = self._watchers, None
        for callback in (watchers or {}).values():
            callback(self.closed_because)
        self._user.closed(self)

    def _check_time(self) -> None:
        """Close it if it is time to, else look again when it may be."""
        loop = asyncio.get_running_loop()
        if self.is_trusted:
            end, reason = self._last + self._user.idle_s, "idle"
            if self._flow_timer_s and self._heard + self._flow_timer_s + _GRACE_S < end:
                end, reason = self._heard + self._flow_timer_s + _GRACE_S, "no keep-alive"
        else:
            # Whatever a stranger sends does not make its connection live longer.
            end, reason = self._since + min(self._user.idle_s, _STRANGER_S), "nobody we know"
        if self._incomplete_since is not None and self._incomplete_since + _MESSAGE_S < end:
            end, reason = self._incomplete_since + _MESSAGE_S, "message not complete in time"
        if end <= loop.time():
            self.close(reason)
        else:
            self._timer = loop.call_at(end, self._check_time)

    def send(self, data: bytes) -> None:
        """Send a message."""
        self._last = asyncio.get_running_loop().time()
        self._write(data)

    def _write(self, data: bytes) -> None:
        if self._stream is None or self._stream.is_closing():
            raise FlowClosedError(self.closed_because or "connection closed")
        if self._stream.get_write_buffer_size() > _MAX_UNSENT_BYTES:
            self.close("peer does not read")
            raise FlowClosedError("peer does not read")
        self._stream.write(data)

    def has_same_end(self, other: Flow) -> bool:
        """This connection, or another of the same kind of a peer with the same identity."""
        return other is self or (
            other.transport == self.transport
            and other.protection == self.protection
            and bool(self._identities & other.identities)
        )

    def heard(self, via: "Via") -> None:
        """Take note of what a request's Via allows.

        "If the client does not present a certificate, the server MUST proceed as if the "alias" header field parameter
        was not present", and so over TCP, where nobody has one (RFC 5923 sections 9.2 and 9.3).
        """
        if self.is_ours or self.is_aliased or self.protection != "tls" or not self._identities:
            return
        if via.param("alias") is not None:
            self.is_aliased = True
            # "If the port number is omitted, a default port number of 5061 is to be used" (section 8.2).
            self._user.aliased(self, via.port or 5061)

    def expect_keep_alives(self) -> int:
        """A phone that knows RFC 5626 has registered by it; returns the Flow-Timer, in seconds."""
        timer_s = int(min(_FLOW_TIMER_S, max(1.0, self._user.idle_s - _GRACE_S)))
        if not self._flow_timer_s:
            self._flow_timer_s = timer_s
            if self._timer is not None and self.is_open:
                self._timer.cancel()
                self._check_time()
        return timer_s

    def trust(self) -> None:
        """Keep it for as long as it is used."""
        self.is_trusted = True

    def close(self, reason: str) -> None:
        """Close the connection; ``reason`` is told to whoever waits for it."""
        if self.closed_because is None:
            self.closed_because = reason
        if self._stream is None or self._stream.is_closing():
            return
        self._stream.close()
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(_LINGER_S, self._stream.abort)

    def abort(self, reason: str) -> None:
        """Close it without a word more, and at once."""
        if self._stream is not None:
            if self.closed_because is None:
                self.closed_because = reason
            self._stream.abort()

    @property
    def was_opened(self) -> bool:
        """Whether it has ever been up."""
        return self._stream is not None

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._stream is not None and not self._stream.is_closing()

    @property
    def identities(self) -> frozenset[str]:
        """The domains that the other end's certificate proves, or that are taken for those at its address."""
        return self._identities

    @property
    def certificates(self) -> "tuple[x509.Certificate, ...]":
        """The certificate that a peer has shown, and its chain as far as it came."""
        return tuple(one for one in map(read_certificate, self._shown) if one is not None)

    @property
    def last_used(self) -> float:
        """When something came or went, in seconds of the event loop's clock."""
        return self._last

    @property
    def via_params(self) -> bytes:
        """Over TLS, our requests say that the other end may send its own on the same connection (RFC 5923)."""
        return b";alias" if self.is_ours and self.protection == "tls" else b""

    def on_close(self, callback: "Callable[[str], None]") -> "Callable[[], None]":
        """Call back with the reason when the connection ends."""
        if self._watchers is None:
            self._watchers = {}
        number = self._next_watcher
        self._next_watcher += 1
        self._watchers[number] = callback
        return lambda: (self._watchers or {}).pop(number, None) and None
