"""An attacker between two neighbours: takes the place of one, and passes on what it likes, as it likes.

    a.example --TLS--> Middle --TLS--> b.example

What it shows on either side is a certificate and key of its own domain, or such as it has stolen. It runs in a thread
with an event loop of its own, so that tests of any kind can use it.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from neighbour.transport.tls import client_context, server_context
from sipwire.message import Request, Response, parse
from sipwire.stream import PING, PONG, StreamParser

__all__ = ["FORTH", "BACK", "Middle", "Tamper"]

FORTH = "forth"  # from who has connected
BACK = "back"

Message = Request | Response
#: What to pass on in place of a message, by its direction; nothing, it, or whatever else.
Tamper = Callable[[Message, str], "list[Message]"]


def honest(message: Message, direction: str) -> list[Message]:
    """Pass it on."""
    del direction
    return [message]


class Middle(threading.Thread):
    """See the module.

    Args:
        address: where to listen, on 5061.
        target: the address of whom it pretends to be; 5061 again.
        shows: certificate and key for who connects.
        claims: certificate and key for the target.
        root: what it believes.

    Attributes:
        tamper: what it does; an exception in it is kept in ``failure``.
        seen: everything that came, as it came, with its direction.
    """

    def __init__(
        self, address: str, target: str, shows: tuple[Path, Path], claims: tuple[Path, Path], root: Path
    ) -> None:
        super().__init__(daemon=True)
        self.address, self.target = address, target
        self.tamper: Tamper = honest
        self.seen: list[tuple[str, Message]] = []
        self.failure: BaseException | None = None
        roots = [str(root)]
        self._server_tls = server_context(str(shows[0]), str(shows[1]), roots)
        self._client_tls = client_context(str(claims[0]), str(claims[1]), roots)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._writers: list[asyncio.StreamWriter] = []

    def __enter__(self) -> Self:
        self.start()
        assert self._ready.wait(10), "does not listen"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self.join(10)
        if self.failure is not None and error is None:
            raise self.failure

    def run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._ended = asyncio.Event()
        server = await asyncio.start_server(self._accept, self.address, 5061, ssl=self._server_tls)
        self._ready.set()
        await self._ended.wait()
        server.close()
        for writer in self._writers:
            writer.transport.abort()
        # What reads from them ends by itself now; and their sockets are closed a little later.
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            _, left = await asyncio.wait(others, timeout=2)
            for task in left:
                task.cancel()
        await asyncio.sleep(0.05)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        try:
            to_reader, to_writer = await asyncio.open_connection(self.target, 5061, ssl=self._client_tls)
        except OSError:
            writer.close()
            return
        self._writers.append(to_writer)
        await asyncio.gather(self._pump(reader, to_writer, FORTH), self._pump(to_reader, writer, BACK))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, direction: str) -> None:
        parser = StreamParser()
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for item in parser.receive(data):
                    if item in (PING, PONG):
                        writer.write(item)
                        continue
                    try:
                        message = parse(item)
                        self.seen.append((direction, parse(item)))
                        for one in self.tamper(message, direction):
                            writer.write(one.serialize())
                    except Exception as error:
                        self.failure = error
        writer.close()

    def send(self, message: Message) -> None:
        """Send something of its own to the target."""
        data = message.serialize()
        self._loop.call_soon_threadsafe(lambda: self._writers[-1].write(data))
