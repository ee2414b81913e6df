"""TCP and TLS connections, accepted from phones and peers or opened to peers."""

import asyncio
import contextlib
import os
import ssl
from typing import TYPE_CHECKING, Any, cast

import structlog

from sipwire.stream import PING, PONG, StreamParser

from .flow import Flow, FlowClosedError, Listener, format_address
from .identity import certificate_domains, describe_refusal, describe_verification

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipwire.errors import ParseError

__all__ = ["CLOSED_BY_PEER", "Connection", "TlsError", "client_context", "connect_tls", "open_stream", "server_context"]

_log = structlog.get_logger("stream")
_MAX_UNSENT_BYTES = 1 << 20  # a peer that does not read loses its connection, not our memory
_HANDSHAKE_S = 10.0
_STRANGER_S = 32.0  # as long as a transaction; who has not shown by then who they are is no phone of ours
_TOKEN_BYTES = 6  # random; enough that no two living connections have the same
CLOSED_BY_PEER = "closed by the peer"


class TlsError(Exception):
    """A TLS connection could not be made; the text says why, in words for a Warning header."""


class Connection(asyncio.Protocol, Flow):
    """One connection, as a flow.

    Args:
        listener: what stands for us: where it was accepted, or the trunk's own.
        receive: called with each message and this connection.
        idle_s: close it after so long without traffic.
        malformed: called with what ended the stream, and this connection.
        opened: called when it is up.
        closed: called when it is down.
    """

    reliable = True

    def __init__(
        self,
        listener: Listener,
        receive: "Callable[[bytes, Connection], None]",
        idle_s: float,
        malformed: "Callable[[ParseError, Connection], None] | None" = None,
        opened: "Callable[[Connection], None] | None" = None,
        closed: "Callable[[Connection], None] | None" = None,
    ) -> None:
        self.listener = listener
        self.transport = "TCP"
        self.protection = "none"
        self.peer = ("", 0)
        self.token = os.urandom(_TOKEN_BYTES).hex().encode()
        self.closed_because: str | None = None
        #: Whether anything has come on it.
        self.has_received = False
        #: Whether the other end has shown who it is.
        self.is_trusted = False
        #: Says more about the reason of its end, where somebody knows more.
        self.explain: Callable[[str], str] | None = None
        self._receive = receive
        self._idle_s = idle_s
        self._malformed = malformed
        self._opened = opened
        self._closed = closed
        self._parser = StreamParser()
        self._stream: asyncio.Transport | None = None
        self._identities: frozenset[str] = frozenset()
        self._watchers: dict[int, Callable[[str], None]] = {}
        self._next_watcher = 0
        self._idle: asyncio.TimerHandle | None = None
        self._last = self._since = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by asyncio, for TLS after the handshake."""
        self._stream = cast("asyncio.Transport", transport)  # uvloop's is no subclass
        self._stream.set_write_buffer_limits(high=_MAX_UNSENT_BYTES)
        address = transport.get_extra_info("peername") or ("", 0)
        self.peer = (address[0], address[1])
        tls = transport.get_extra_info("ssl_object")
        if tls is not None:
            self.transport = "TLS"
            self.protection = "tls"
            der = tls.getpeercert(binary_form=True)
            if der:
                self._identities = certificate_domains(der)
        self.is_trusted = bool(self._identities)
        loop = asyncio.get_running_loop()
        self._last = self._since = loop.time()
        self._idle = loop.call_later(min(self._idle_s, _STRANGER_S), self._check_idle)
        if self._opened is not None:
            self._opened(self)

    def data_received(self, data: bytes) -> None:
        """Called by asyncio."""
        self._last = asyncio.get_running_loop().time()
        self.has_received = True
        for item in self._parser.receive(data):
            if item == PING:
                with contextlib.suppress(FlowClosedError):
                    self._write(PONG)
            elif item != PONG:
                self._receive(item, self)
        if self._parser.fault is not None and self.is_open:
            # What follows can't be told from what was: nothing on this connection can be trusted to be a message.
            if self._malformed is not None:
                self._malformed(self._parser.fault, self)
            self.close(self._parser.fault.reason)

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by asyncio."""
        if self.closed_because is None:
            reason = None if exc is None else describe_refusal(exc) or str(exc)
            self.closed_because = reason or CLOSED_BY_PEER
        if self.explain is not None:
            self.closed_because = self.explain(self.closed_because)
        if self._idle is not None:
            self._idle.cancel()
        watchers, self._watchers = self._watchers, {}
        for callback in watchers.values():
            callback(self.closed_because)
        if self._closed is not None:
            self._closed(self)

    def _check_idle(self) -> None:
        loop = asyncio.get_running_loop()
        # Whatever a stranger sends does not make its connection live longer.
        end = self._last + self._idle_s if self.is_trusted else self._since + min(self._idle_s, _STRANGER_S)
        left = end - loop.time()
        if left <= 0:
            self.close("idle" if self.is_trusted else "nobody we know")
        else:
            self._idle = loop.call_later(left, self._check_idle)

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
        """This connection, or another of a peer with the same certificate."""
        return other is self or bool(self._identities & other.identities)

    def trust(self) -> None:
        """Keep it for as long as it is used."""
        self.is_trusted = True

    def close(self, reason: str) -> None:
        """Close the connection; ``reason`` is told to whoever waits for it."""
        if self.closed_because is None:
            self.closed_because = reason
        if self._stream is not None:
            self._stream.close()

    @property
    def is_open(self) -> bool:
        """Whether something can be sent."""
        return self._stream is not None and not self._stream.is_closing()

    @property
    def identities(self) -> frozenset[str]:
        """The domains that the other end's certificate proves."""
        return self._identities

    def on_close(self, callback: "Callable[[str], None]") -> "Callable[[], None]":
        """Call back with the reason when the connection ends."""
        number = self._next_watcher
        self._next_watcher += 1
        self._watchers[number] = callback
        return lambda: self._watchers.pop(number, None) and None


def _base_context(purpose: ssl.Purpose, certificate: str, key: str, roots: list[str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if purpose is ssl.Purpose.CLIENT_AUTH else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Certificates of domains name them by sip: URIs, which the library's check does not look at; `identity` does.
    context.check_hostname = False
    context.load_cert_chain(certificate, key)
    for root in roots:
        context.load_verify_locations(cafile=root)
    return context


def server_context(certificate: str, key: str, roots: list[str]) -> ssl.SSLContext:
    """TLS for connections we accept: a peer shows a certificate, a phone need not."""
    context = _base_context(ssl.Purpose.CLIENT_AUTH, certificate, key, roots)
    context.verify_mode = ssl.CERT_OPTIONAL
    return context


def client_context(certificate: str, key: str, roots: list[str]) -> ssl.SSLContext:
    """TLS for connections we open: both ends show a certificate."""
    context = _base_context(ssl.Purpose.SERVER_AUTH, certificate, key, roots)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def open_stream(
    listener: Listener, make: "Callable[[], Connection]", context: ssl.SSLContext | None
) -> asyncio.Server:
    """Listen for connections.

    Args:
        listener: where.
        make: makes the protocol of each.
        context: for TLS.

    Raises:
        OSError: the socket can't be bound.
    """
    options: dict[str, Any] = {"ssl_handshake_timeout": _HANDSHAKE_S} if context else {}
    return await asyncio.get_running_loop().create_server(
        make, listener.config.address, listener.config.port, ssl=context, reuse_address=True, **options
    )


async def connect_tls(
    address: tuple[str, int], domain: str, context: ssl.SSLContext, make: "Callable[[], Connection]", timeout_s: float
) -> Connection:
    """Open a connection to a domain and check that it is that domain's (RFC 5922 section 7.3).

    Args:
        address: where to connect.
        domain: whom to reach.
        context: of `client_context`.
        make: makes the protocol.
        timeout_s: for connection and handshake together.

    Raises:
        TlsError: it failed, with the reason.
    """
    where = format_address(address)
    try:
        async with asyncio.timeout(timeout_s):
            _, connection = await asyncio.get_running_loop().create_connection(
                make, address[0], address[1], ssl=context, server_hostname=domain
            )
    except TimeoutError:
        raise TlsError(f"no answer from {where} within {timeout_s:g} s") from None
    except ssl.SSLCertVerificationError as error:
        raise TlsError(describe_verification(error)) from None
    except ssl.SSLError as error:
        raise TlsError(describe_refusal(error) or "TLS failed") from None
    except OSError as error:
        raise TlsError(f"{where}: {(error.strerror or str(error)).lower()}") from None
    if domain not in connection.identities:
        shown = ", ".join(sorted(connection.identities)) or "no domain"
        connection.close("certificate of another domain")
        raise TlsError(f"certificate is of {shown}, not of {domain}")
    return connection
