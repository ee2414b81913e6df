"""Other domains: their servers, reached over TLS in memory, and DNS that leads there."""

import asyncio
import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from unittest import mock

import dns.flags
import dns.message
import dns.nameserver
import dns.rdatatype
import dns.rrset

from neighbour.transport.flow import Flow

from .links import Link
from .network import certificate
from .phones import HOST, TLS_PORT, Phone, StreamFlow

if TYPE_CHECKING:
    from .world import World

__all__ = ["Server", "Zone"]


class Zone:
    """What DNS says.

    Attributes:
        asked: (name, type) of every question.
        silent: nobody answers.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.silent = False
        self._records: dict[tuple[str, int], list[str]] = {}

    def add(self, name: str, kind: str, value: str) -> None:
        self._records.setdefault((name + ".", dns.rdatatype.from_text(kind)), []).append(value)

    def serve(self, domain: str, *servers: tuple[str, int]) -> None:
        """SRV records for the TLS servers of a domain, the preferred first, and their addresses."""
        for number, (host, port) in enumerate(servers):
            self.add(f"_sips._tcp.{domain}", "SRV", f"{number} 0 {port} s{number}.{domain}.")
            self.add(f"s{number}.{domain}", "A", host)

    async def answer(self, request: dns.message.QueryMessage) -> dns.message.Message:
        question = request.question[0]
        name = question.name.to_text().lower()
        self.asked.append((name, dns.rdatatype.to_text(question.rdtype)))
        if self.silent:
            await asyncio.get_running_loop().create_future()
        response = dns.message.make_response(request)
        response.flags |= dns.flags.RA
        found = self._records.get((name, question.rdtype))
        if found is not None:
            response.answer.append(dns.rrset.from_text(name, 60, "IN", dns.rdatatype.to_text(question.rdtype), *found))
        return dns.message.from_wire(response.to_wire())

    @contextlib.contextmanager
    def in_place(self) -> Iterator[None]:
        """Answer whatever name server is asked."""

        async def query(_: Any, request: dns.message.QueryMessage, *args: Any, **options: Any) -> Any:
            wait_s = options["timeout"] if "timeout" in options else args[0]
            try:
                async with asyncio.timeout(wait_s):
                    return await self.answer(request)
            except TimeoutError:
                raise dns.exception.Timeout(timeout=wait_s) from None

        with mock.patch.object(dns.nameserver.Do53Nameserver, "async_query", query):
            yield


class Server(Phone):
    """A server of another domain, which answers for its users as a phone does.

    Attributes:
        flows: connections that the neighbour has opened, the newest last.
    """

    def __init__(self, here: "World", domain: str, address: tuple[str, int], name: str, proves: str) -> None:
        super().__init__(here, "bob", address, Link(), name)
        self.domain = domain
        self.contact = f"sip:bob@{domain}".encode()
        self.flows: list[StreamFlow] = []
        self._proves = certificate(proves or domain)
        self.begin()

    def begin(self) -> None:
        """Listen."""
        self.here.network.listen(self.address, self.name, self._accept, self._proves)

    def end(self) -> None:
        """Close everything, as one that is stopped does."""
        self.here.network.unlisten(self.address)
        for flow in self.flows:
            flow.close()

    def _accept(self, source: tuple[str, int]) -> StreamFlow:
        del source
        flow = StreamFlow(self.address, self._heard)
        self.flows.append(flow)
        if not isinstance(self.flow, StreamFlow):
            self.flow = flow
        return flow

    def _heard(self, data: bytes, flow: Flow) -> None:
        self.flow = flow
        self.receive(data, flow)

    async def dial(self) -> None:
        """Open a connection of its own to the neighbour."""
        flow = StreamFlow(self.address, self._heard)
        local = (self.address[0], 40000)
        await self.here.network.reach(flow, (HOST, TLS_PORT))
        await self.here.network.connect(lambda: flow, flow, self.name, local, self._proves)
        self.flow = flow
