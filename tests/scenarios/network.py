"""TCP and TLS in memory: connections that take time, break, or lead to nobody.

What asyncio would do with sockets happens here between two `Pipe` ends. A TLS connection is one whose ends have a
certificate to show, or nothing; there is no handshake, as the real one has tests of its own.
"""

import asyncio
import datetime
import functools
from collections import deque
from typing import TYPE_CHECKING, Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

if TYPE_CHECKING:
    from collections.abc import Callable

    Factory = Callable[[], asyncio.Protocol]
    Acceptor = Callable[[tuple[str, int]], asyncio.Protocol]

__all__ = ["Network", "Pipe", "certificate"]

_DELAY_S = 0.005


@functools.cache
def certificate(domain: str) -> bytes:
    """A domain's certificate (RFC 5922), as DER."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([])
    begin = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + datetime.timedelta(days=36500))
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"sip:{domain}"), x509.DNSName(domain)])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    from cryptography.hazmat.primitives.serialization import Encoding

    return made.public_bytes(Encoding.DER)


class _Tls:
    """What a protocol may ask of its TLS."""

    def __init__(self, shown: bytes) -> None:
        self._shown = shown

    def getpeercert(self, binary_form: bool = False) -> bytes:
        assert binary_form
        return self._shown


class Pipe(asyncio.Transport):
    """One end of a connection.

    Attributes:
        other: the other end.
        dead: whatever is written is lost, and nobody notices: the other end has lost its power.
    """

    def __init__(self, network: "Network", name: str, peer: tuple[str, int], shown: bytes | None) -> None:
        super().__init__()
        self.other: Pipe
        self.dead = False
        self.name = name
        self._network = network
        self._peer = peer
        self._tls = None if shown is None else _Tls(shown)
        self._protocol: asyncio.Protocol
        self._closing = False
        self._coming: deque[bytes | None] = deque()

    def attach(self, protocol: asyncio.Protocol) -> None:
        self._protocol = protocol
        protocol.connection_made(self)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": self._peer, "ssl_object": self._tls}.get(name, default)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._closing

    def write(self, data: Any) -> None:
        if self._closing:
            return
        self._network.note(self.name, self.other.name, bytes(data))
        if not self.dead:
            self.other.expect(bytes(data))

    def expect(self, data: bytes | None) -> None:
        """Something is on its way: data, or the end."""
        self._coming.append(data)
        self._network.loop.call_later(_DELAY_S, self._arrive)

    def _arrive(self) -> None:
        data = self._coming.popleft()  # in order, whatever the order of timers
        if self._closing:
            return
        if data is None:
            self._closing = True
            self._protocol.connection_lost(None)
        else:
            self._protocol.data_received(data)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._network.loop.call_soon(self._protocol.connection_lost, None)
            if not self.dead:
                self.other.expect(None)

    abort = close


class Network:
    """Who listens where.

    Attributes:
        loop: the event loop.
        note: called with (source, destination, bytes) of everything written.
        dark: addresses that swallow connections without an answer.
        opened: how often a connection to an address was asked for.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.note: Callable[[str, str, bytes], None] = lambda source, to, data: None
        self.dark: set[tuple[str, int]] = set()
        self.opened: dict[tuple[str, int], int] = {}
        self._servers: dict[tuple[str, int], tuple[str, Acceptor, bytes | None]] = {}
        self._connecting: dict[object, tuple[str, int]] = {}

    def listen(self, address: tuple[str, int], name: str, accept: "Acceptor", shown: bytes | None = None) -> None:
        """Accept connections: over TLS where there is a certificate to show."""
        self._servers[address] = (name, accept, shown)

    def unlisten(self, address: tuple[str, int]) -> None:
        self._servers.pop(address, None)

    async def reach(self, sock: object, address: tuple[str, int]) -> None:
        """What asyncio's ``sock_connect`` does; `connect` is to follow."""
        self.opened[address] = self.opened.get(address, 0) + 1
        if address in self.dark:
            await self.loop.create_future()
        await asyncio.sleep(2 * _DELAY_S)
        if address not in self._servers:
            raise ConnectionRefusedError(111, "Connection refused")
        self._connecting[sock] = address

    async def connect(
        self,
        make: "Factory",
        sock: object,
        name: str = "neighbour",
        local: tuple[str, int] = ("127.0.0.1", 33333),
        shown: bytes | None = None,
    ) -> tuple[Pipe, asyncio.Protocol]:
        """Open a connection; by default it is the neighbour who does, and shows its domain's certificate."""
        address = self._connecting.pop(sock)
        far_name, accept, far_shown = self._servers[address]
        if far_shown is not None and shown is None:
            shown = certificate("a.example") if name == "neighbour" else b""
        near = Pipe(self, name, address, far_shown)
        far = Pipe(self, far_name, local, shown if far_shown is not None else None)
        near.other, far.other = far, near
        far.attach(accept(local))
        protocol = make()
        near.attach(protocol)
        return near, protocol
