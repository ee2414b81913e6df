"""A neighbour in this process, and bare SIP clients to talk to it: what the tests of the host share."""

import asyncio
import contextlib
import itertools
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import uvloop

from lab.lab import Lab
from neighbour.aes import new_aes
from neighbour.config import load
from neighbour.server import Neighbour
from neighbour.store.accounts import add_account, remove_account
from neighbour.store.database import Store
from sipwire.agreement import client_offer, hop_spi, parse_mechanisms
from sipwire.digest import Challenge, authenticate, choose, ha1
from sipwire.hop import FRAME_MARK, HopReceiver, HopSender, derive_keys, frame_spi
from sipwire.message import Request, Response, parse
from sipwire.stream import StreamParser

__all__ = [
    "SDP",
    "TIMEOUT_S",
    "Domain",
    "Hopper",
    "StreamClient",
    "UdpClient",
    "answer",
    "call",
    "domain",
    "in_dialog",
    "open_files",
    "phones",
    "request",
    "run",
    "signed",
]

_numbers = itertools.count(1)
SDP = b"v=0\r\n"
TIMEOUT_S = 20.0  # of what is to come: a busy computer may stand still for seconds


def open_files() -> list[str]:
    """What this process has open: paths, and ``socket:[number]``."""
    found = []
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # of this very look, or closed meanwhile
            found.append(str(path.readlink()))
    return found


def run(work: Callable[[], Coroutine[Any, Any, None]], loop: str = "asyncio") -> None:
    """Run an asynchronous test, on the standard library's event loop or on "uvloop"."""
    factory = None if loop == "asyncio" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(asyncio.wait_for(work(), 3 * TIMEOUT_S))


class Domain:
    """A neighbour that runs in this process.

    Attributes:
        name: its domain.
        address: where it listens, on 5060 and 5061.
        folder: of its configuration.
    """

    def __init__(self, lab: Lab, name: str, address: str) -> None:
        self.lab = lab
        self.name = name
        self.address = address
        self.folder = lab.folder / name
        self.neighbour: Neighbour
        self.clients: list[UdpClient | StreamClient] = []

    async def start(self) -> None:
        self.neighbour = Neighbour(load(self.folder / "wisp.toml"))
        await self.neighbour.start()
        # It shares its event loop with the test, and the computer with other tests: that it is late is no overload.
        self.neighbour._overload._delay_limit_ms = 1_000_000

    async def stop(self) -> None:
        await self.neighbour.stop()

    def value(self, name: str, **labels: str) -> float:
        return self.neighbour.metrics.value(name, **labels)

    async def add(self, user: str, *, terminal: bool = False, md5: bool = False, password: str = "secret") -> None:
        store = Store(load(self.folder / "wisp.toml").store_url)
        await store.open()
        await add_account(store, self.name, user, password, is_terminal=terminal, md5=md5)
        await store.close()
        await self.neighbour._accounts.refresh()

    async def remove(self, user: str, *, look: bool = True) -> None:
        """Remove an account as `wisp account remove` does; by default wait until the neighbour has seen it."""
        store = Store(load(self.folder / "wisp.toml").store_url)
        await store.open()
        assert await remove_account(store, user)
        await store.close()
        if look:
            await self.neighbour._accounts.refresh()


@contextlib.asynccontextmanager
async def domain(folder: Path, name: str = "a.example", **changes: str) -> AsyncIterator[Domain]:
    """Make and start a domain's neighbour.

    Args:
        folder: for its files.
        name: of the domain.
        changes: lines of the configuration to change, e.g. ``md5="# md5 = false|md5 = true"``.
    """
    lab = Lab(folder)
    address = lab.make_domains(name)[name]
    lab.change(name, 'level = "debug"', 'level = "error"')
    for change in changes.values():
        old, _, new = change.partition("|")
        lab.change(name, old, new)
    one = Domain(lab, name, address)
    await one.start()
    try:
        yield one
    finally:
        for client in one.clients:
            client.close()
        await one.stop()


def request(
    method: str,
    uri: str,
    user: str = "alice",
    host: str = "a.example",
    *,
    to: str = "",
    contact: str = "",
    body: bytes = b"",
    headers: "tuple[tuple[str, str], ...]" = (),
    cseq: int = 1,
    call_id: str = "",
    from_tag: str = "ft",
    to_tag: str = "",
    max_forwards: int = 70,
) -> Request:
    """A request, complete but for Via."""
    number = next(_numbers)
    made = Request(method, uri.encode())
    made.add("Max-Forwards", str(max_forwards).encode())
    made.add("From", f"<sip:{user}@{host}>;tag={from_tag}".encode())
    made.add("To", f"<{to or uri}>".encode() + (f";tag={to_tag}".encode() if to_tag else b""))
    made.add("Call-ID", (call_id or f"call{number}").encode())
    made.add("CSeq", f"{cseq} {method}".encode())
    if contact:
        made.add("Contact", f"<{contact}>".encode())
    for name, value in headers:
        made.add(name, value.encode())
    made.add("Content-Length", str(len(body)).encode())
    made.body = body
    return made


def signed(
    made: Request, response: Response, user: str, password: str, *, count: int = 1, md5: bool = False
) -> Request:
    """The request again, with credentials for the challenge in a 401 or 407, a new branch and the next CSeq."""
    proxy = response.status == 407
    values = response.get_all("proxy-authenticate" if proxy else "www-authenticate")
    realm = Challenge.parse(values[0]).realm
    challenge = choose(values, realm, md5)
    assert challenge is not None, repr(values)
    again = Request(made.method, made.uri)
    again.fields = [f for f in made.fields if f[0] not in ("via", "authorization", "proxy-authorization")]
    again.body = made.body
    again.set("CSeq", b"%d %s" % (made.cseq.number + 1, made.method.encode()))
    secret = ha1(user.encode(), realm, password.encode(), challenge.algorithm)
    credentials = authenticate(challenge, user.encode(), secret, made.method, made.uri, b"cnonce", count, made.body)
    again.insert("Proxy-Authorization" if proxy else "Authorization", credentials.serialize())
    return again


def answer(to: Request, status: int, contact: str = "", tag: bytes = b"callee") -> Response:
    response = to.response(status, "Reason", tag)
    for value in to.get_all("record-route"):
        response.add("Record-Route", value)
    if contact:
        response.add("Contact", f"<{contact}>".encode())
    return response


def in_dialog(method: str, response: Response, sender: str, cseq: int, invite: Request) -> Request:
    """A request of the caller's within the dialog of a 2xx."""
    made = Request(method, response.addresses("contact")[0].uri)
    for value in reversed(response.values("record-route")):
        made.add("Route", value)
    made.add("Max-Forwards", b"70")
    made.add("From", response.get("from") or b"")
    made.add("To", response.get("to") or b"")
    made.add("Call-ID", invite.call_id)
    made.add("CSeq", f"{cseq} {method}".encode())
    made.add("Contact", f"<{sender}>".encode())
    made.add("Content-Length", b"0")
    return made


class _Inbox:
    """Messages that came, waited for by kind."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[bytes] = asyncio.Queue()

    async def raw(self, timeout_s: float = TIMEOUT_S) -> bytes:
        return await asyncio.wait_for(self._queue.get(), timeout_s)

    async def get(self, timeout_s: float = TIMEOUT_S) -> "Request | Response":
        return parse(await self.raw(timeout_s))

    async def response(self, timeout_s: float = TIMEOUT_S, *, provisional: bool = False) -> Response:
        while True:
            message = await self.get(timeout_s)
            if isinstance(message, Response) and (provisional or message.status >= 200):
                return message

    async def request(self, method: str = "", timeout_s: float = TIMEOUT_S) -> Request:
        while True:
            message = await self.get(timeout_s)
            if isinstance(message, Request) and method in ("", message.method):
                return message

    async def silence(self, seconds: float = 0.3) -> None:
        with contextlib.suppress(TimeoutError):
            data = await asyncio.wait_for(self._queue.get(), seconds)
            raise AssertionError(f"unexpected: {data[:200]!r}")


class UdpClient(_Inbox, asyncio.DatagramProtocol):
    """A client on a UDP socket of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.transport: asyncio.DatagramTransport
        self.address = ("", 0)

    @classmethod
    async def open(cls, to: Domain, local: tuple[str, int] | None = None) -> "UdpClient":
        loop = asyncio.get_running_loop()
        local = local or (to.lab.next_address(), 0)
        transport, client = await loop.create_datagram_endpoint(cls, local, (to.address, 5060))
        client.transport = transport
        client.address = transport.get_extra_info("sockname")
        to.clients.append(client)
        return client

    @property
    def contact(self) -> str:
        return f"sip:me@{self.address[0]}:{self.address[1]}"

    def datagram_received(self, data: bytes, addr: object) -> None:
        self._queue.put_nowait(data)

    def error_received(self, exc: Exception) -> None:
        """Nobody listens: tests see that by silence."""

    def send_raw(self, data: bytes) -> None:
        self.transport.sendto(data)

    def send(self, message: "Request | Response") -> None:
        if isinstance(message, Request) and message.get("via") is None:
            branch = f"z9hG4bKt{next(_numbers)}"
            host, port = self.address
            message.insert("Via", f"SIP/2.0/UDP {host}:{port};branch={branch};rport".encode())
        self.send_raw(message.serialize())

    async def ask(self, made: Request) -> Response:
        """Send a request and wait for its final response."""
        self.send(made)
        return await self.response()

    async def ask_signed(self, made: Request, user: str, password: str = "secret", *, md5: bool = False) -> Response:
        """Send a request, answer the challenge, and wait for the final response."""
        response = await self.ask(made)
        assert response.status in (401, 407), repr(response.start_line())
        if made.method == "INVITE":
            self.send(_ack(made, response))
        return await self.ask(signed(made, response, user, password, md5=md5))

    async def register(self, at: Domain, user: str, password: str = "secret", *, md5: bool = False) -> Response:
        made = request("REGISTER", f"sip:{at.name}", user, at.name, to=f"sip:{user}@{at.name}", contact=self.contact)
        response = await self.ask_signed(made, user, password, md5=md5)
        assert response.status == 200, repr(response.start_line())
        return response

    def close(self) -> None:
        self.transport.close()


async def phones(at: Domain, *users: str) -> list[UdpClient]:
    found = []
    for user in users:
        await at.add(user)
        client = await UdpClient.open(at)
        await client.register(at, user)
        found.append(client)
    return found


async def call(caller: UdpClient, user: str, target: str, **options: object) -> Request:
    """Send an INVITE with credentials; returns it as it was sent the second time."""
    made = request("INVITE", target, user, contact=caller.contact, body=SDP, **options)  # type: ignore[arg-type]
    caller.send(made)
    challenged = await caller.response()
    assert challenged.status == 407, repr(challenged.start_line())
    caller.send(_ack(made, challenged))
    again = signed(made, challenged, user, "secret")
    caller.send(again)
    return again


def _ack(made: Request, response: Response) -> Request:
    from sipwire.transaction import ack_for

    return ack_for(made, response)


class StreamClient(_Inbox):
    """A client on a TCP or TLS connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> None:
        super().__init__()
        self.reader, self.writer, self.kind = reader, writer, kind
        self._parser = StreamParser()
        self.closed = asyncio.Event()
        self._task = asyncio.create_task(self._read())

    @classmethod
    async def open(
        cls, to: Domain, *, tls: ssl.SSLContext | None = None, name: str = "", local: str = ""
    ) -> "StreamClient":
        port = 5061 if tls else 5060
        options: dict[str, Any] = {"ssl": tls, "server_hostname": name or to.name} if tls else {}
        if local:
            options["local_addr"] = (local, 0)
        reader, writer = await asyncio.open_connection(to.address, port, **options)
        client = cls(reader, writer, "TLS" if tls else "TCP")
        to.clients.append(client)
        return client

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            while data := await self.reader.read(65536):
                for item in self._parser.receive(data):
                    self._queue.put_nowait(item)
        self.closed.set()

    def send_raw(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, message: "Request | Response") -> None:
        if isinstance(message, Request) and message.get("via") is None:
            message.insert("Via", f"SIP/2.0/{self.kind} me.invalid;branch=z9hG4bKs{next(_numbers)}".encode())
        self.send_raw(message.serialize())

    async def ask(self, made: Request) -> Response:
        self.send(made)
        return await self.response()

    def close(self) -> None:
        self._task.cancel()
        self.writer.close()


class Hopper(UdpClient):
    """A terminal's end of the hop, on CPython: step by step, so that a test can do each of them wrongly."""

    user = "alice"
    password = "secret"
    realm = "a.example"

    def prepare(self, user: str, at: Domain) -> None:
        self.user, self.realm = user, at.name
        self.spi = 0x1000 + next(_numbers)
        self.nonce = bytes(range(16))
        self.offer = client_offer(self.spi, self.nonce)
        self.sender: HopSender | None = None
        self.receiver: HopReceiver | None = None

    def register_request(self, cseq: int, expires: int = 600) -> Request:
        return request(
            "REGISTER",
            f"sip:{self.realm}",
            self.user,
            self.realm,
            to=f"sip:{self.user}@{self.realm}",
            contact=self.contact,
            cseq=cseq,
            call_id=f"hop{self.spi}",
            headers=(
                ("Expires", str(expires)),
                ("Require", "sec-agree"),
                ("Proxy-Require", "sec-agree"),
                ("Security-Client", self.offer.decode()),
            ),
        )

    def prove_request(self, challenged: Response, cseq: int = 2, expires: int = 600) -> Request:
        """Step 3, and the keys that come of it."""
        challenge = choose(challenged.get_all("www-authenticate"), self.realm.encode())
        assert challenge is not None
        server = challenged.get("security-server") or b""
        made = self.register_request(cseq, expires)
        secret = ha1(self.user.encode(), self.realm.encode(), self.password.encode())
        self.credentials = authenticate(
            challenge, self.user.encode(), secret, "REGISTER", made.uri, b"cn", integrity=True
        )
        made.add("Authorization", self.credentials.serialize())
        made.add("Security-Verify", server)
        self.secret = secret
        out, back = derive_keys(
            secret, self.user.encode(), self.realm.encode(), self.nonce, challenge.nonce, self.offer, server
        )
        spi = hop_spi(parse_mechanisms([server])[0])
        self.sender = HopSender(spi, out, new_aes)
        self.receiver = HopReceiver(self.spi, back, new_aes)
        return made

    async def frame(self, timeout_s: float = TIMEOUT_S, *, anew: bool = False) -> bytes:
        """The message in the next frame; anything else that comes fails the test.

        ``anew``: but for frames of another agreement, the one before, in which something may be repeated.
        """
        while True:
            data = await self.raw(timeout_s)
            assert data[0] == FRAME_MARK, repr(data[:200])
            if not anew or frame_spi(data) == self.spi:
                break
        assert self.receiver is not None
        return self.receiver.open(data)

    async def framed(self, timeout_s: float = TIMEOUT_S, *, anew: bool = False) -> "Request | Response":
        return parse(await self.frame(timeout_s, anew=anew))

    async def framed_final(self) -> Response:
        while True:
            message = await self.framed()
            if isinstance(message, Response) and message.status >= 200:
                return message

    def send_frame(self, message: "Request | Response") -> bytes:
        """Send a message in a frame; returns the frame."""
        if isinstance(message, Request) and message.get("via") is None:
            message.insert("Via", f"SIP/2.0/UDP hop;branch=z9hG4bKh{next(_numbers)};rport".encode())
        assert self.sender is not None
        frame = self.sender.seal(message.serialize())
        self.send_raw(frame)
        return frame

    async def join(self, at: Domain, user: str = "alice") -> Response:
        """Register as WIRE section 1.1 says."""
        self.prepare(user, at)
        challenged = await self.ask(self.register_request(1))
        assert challenged.status == 401, repr(challenged.start_line())
        self.send(self.prove_request(challenged))
        answer = await self.framed()
        assert isinstance(answer, Response)
        assert answer.status == 200, repr(answer.start_line())
        return answer
