"""A server of another domain that does what a test wants, and the neighbour that knows it."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

from sip import TIMEOUT_S, Domain, StreamClient, UdpClient, request

from lab.lab import Lab
from neighbour.agent.authority import Authority
from sipwire.message import Request, Response, parse
from sipwire.stream import StreamParser

__all__ = ["Peer", "alone"]


class Peer:
    """A server of other domains: it listens, and opens connections, as a test wants it.

    Attributes:
        came: what came to where it listens, with the number of the connection.
    """

    def __init__(self, at: Domain, address: str) -> None:
        self.at = at
        self.address = address
        self.came: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()
        self.writers: list[asyncio.StreamWriter] = []
        self.authority = Authority(at.lab.folder / "ca")

    def certificate(self, domain: str) -> tuple[Path, Path]:
        paths = self.at.lab.folder / f"{domain}.pem", self.at.lab.folder / f"{domain}.key"
        self.authority.issue_domain(domain).write(*paths)
        return paths

    async def listen(self, domain: str = "", port: int = 5061) -> asyncio.Server:
        context = None
        if domain:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*self.certificate(domain))
            context.load_verify_locations(self.at.folder / "ca" / "root.pem")
            context.verify_mode = ssl.CERT_REQUIRED
        return await asyncio.start_server(self._accept, self.address, port, ssl=context)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.writers)
        self.writers.append(writer)
        parser = StreamParser()
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                for item in parser.receive(data):
                    self.came.put_nowait((number, item))
        writer.close()

    async def request(self, method: str = "INVITE") -> tuple[int, Request]:
        while True:
            number, data = await asyncio.wait_for(self.came.get(), TIMEOUT_S)
            message = parse(data)
            if isinstance(message, Request) and message.method == method:
                return number, message

    def answer(self, number: int, response: Response) -> None:
        self.writers[number].write(response.serialize())

    async def connect(self, domain: str, via: str, local: str = "") -> StreamClient:
        """Open a connection with a domain's certificate ("" for TCP), and send an INVITE with that Via."""
        context = None
        if domain:
            context = ssl.create_default_context(cafile=str(self.at.folder / "ca" / "root.pem"))
            context.load_cert_chain(*self.certificate(domain))
        client = await StreamClient.open(self.at, tls=context, local=local or self.address)
        self.invite(client, domain or "b.example", via)
        return client

    @staticmethod
    def invite(client: StreamClient, domain: str, via: str) -> None:
        """Have Bob of a domain call Carol."""
        made = request("INVITE", "sip:carol@a.example", "bob", domain, contact=f"sip:bob@{domain}")
        made.insert("Via", f"SIP/2.0/{via}".encode())
        client.send(made)

    async def by_udp(self, port: int = 5060) -> UdpClient:
        """A socket of the peer's."""
        return await UdpClient.open(self.at, (self.address, port))


@contextlib.asynccontextmanager
async def alone(
    folder: Path, transport: str = "tls", *ports: int, **changes: str
) -> AsyncIterator[tuple[Domain, Peer, UdpClient]]:
    """a.example, whose peer b.example is a test's, and Carol, who is registered.

    Args:
        folder: for its files.
        transport: of the peer.
        ports: of its addresses.
        changes: lines of the configuration to change, see `sip.domain`.
    """
    lab = Lab(folder)
    address = lab.make_domains("a.example")["a.example"]
    theirs = lab.next_address()
    lab.change("a.example", 'level = "debug"', 'level = "error"')
    addresses = ", ".join(f'"{theirs}:{port}"' for port in ports or (5061,))
    table = f'[[peer]]\ndomain = "b.example"\naddress = [{addresses}]\ntransport = "{transport}"\n'
    table += f'[[peer]]\ndomain = "c.example"\naddress = "{theirs}:5071"\n'
    lab.change("a.example", '# [[peer]]\n# domain = "b.example"\n', f"{table}#")
    for change in changes.values():
        old, _, new = change.partition("|")
        lab.change("a.example", old, new)
    at = Domain(lab, "a.example", address)
    await at.start()
    peer = Peer(at, theirs)
    try:
        await at.add("carol")
        carol = await UdpClient.open(at)
        await carol.register(at, "carol")
        yield at, peer, carol
    finally:
        for client in at.clients:
            client.close()
        await at.stop()
        for writer in peer.writers:
            writer.transport.abort()
        await asyncio.sleep(0.05)
