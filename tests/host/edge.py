"""An edge proxy (RFC 5626 section 5): another domain's, that brings REGISTER requests of our phones over mutual TLS."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

from sip import Domain, StreamClient, signed

from lab.lab import Lab
from neighbour.transport.tls import client_context, server_context
from sipwire.message import Request, Response

__all__ = ["Edge", "edged", "roots"]


class Edge(StreamClient):
    """An edge proxy: b.example's end of a connection by mutual TLS, made or accepted."""

    @classmethod
    async def connect(cls, at: Domain) -> "Edge":
        folder = at.lab.folder / "b.example"
        context = client_context(str(folder / "b.example.pem"), str(folder / "b.example.key"), [str(roots(at))])
        client = await cls.open(at, tls=context, name="a.example")
        assert isinstance(client, Edge)
        return client

    async def register(self, made: Request, *path: str) -> Response:
        """Hand a phone's REGISTER on, with the Path given, and its credentials as soon as they are wanted."""
        for value in path:
            made.add("Path", value.encode())
        made.insert("Via", b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKphone%d" % id(made))
        self._on_top(made)
        answer = await self.ask(made)
        if answer.status == 401:
            again = signed(made, answer, "carol", "secret")
            again.insert("Via", b"SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKphone%da" % id(made))
            self._on_top(again)
            answer = await self.ask(again)
        return answer

    @staticmethod
    def _on_top(made: Request) -> None:
        made.insert("Via", b"SIP/2.0/TLS b.example;branch=z9hG4bKedge%d" % id(made))


def roots(at: Domain) -> Path:
    return at.lab.folder / "ca" / "root.pem"


@contextlib.asynccontextmanager
async def edged(folder: Path, trusted: str = '["b.example"]') -> AsyncIterator[tuple[Domain, "asyncio.Queue[Edge]"]]:
    """a.example, which b.example is an edge proxy of; and the connections that it makes to b.example."""
    lab = Lab(folder)
    addresses = lab.make_domains("a.example", "b.example")
    lab.change("a.example", 'level = "debug"', 'level = "error"')
    lab.change("a.example", "# edge_proxies = []", f"edge_proxies = {trusted}")
    at = Domain(lab, "a.example", addresses["a.example"])
    came: asyncio.Queue[Edge] = asyncio.Queue()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.put_nowait(Edge(reader, writer, "TLS"))

    mine = lab.folder / "b.example"
    context = server_context(str(mine / "b.example.pem"), str(mine / "b.example.key"), [str(roots(at))])
    server = await asyncio.start_server(accept, addresses["b.example"], 5061, ssl=context)
    await at.start()
    try:
        yield at, came
    finally:
        for client in at.clients:
            client.close()
        await at.stop()
        while not came.empty():
            came.get_nowait().close()
        server.close()
