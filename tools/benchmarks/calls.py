"""Calls between two neighbours, by a bare caller and a bare callee: what they cost each neighbour.

    caller --UDP--> a.example --TLS--> b.example --UDP--> callee

The caller gives a password with its first call, and the answer to the same challenge with each one after that.
"""

import asyncio
import re
import tempfile
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxies import cpu_seconds, lift_limits
from lab.lab import Lab
from lab.processes import LabError, Neighbour
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store
from sipwire.digest import Challenge, authenticate, choose, ha1
from sipwire.editing import remove
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for

__all__ = ["SDP", "Cost", "calls"]

_A, _B = "a.example", "b.example"
_CALLER, _CALLEE, _PASSWORD = "caller", "callee", "secret"
_SIP_PORT, _METRICS_PORT = 5060, 9464
_PATIENCE_S = 20.0
_AT_ONCE = 8  # calls
_WARM = 30  # calls before it counts
_CALLS_OF_A_NONCE = 400  # before a new challenge is asked for; it lives for a minute
_ASYMMETRIC = re.compile(rb'^wisp_asymmetric_total\{operation="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)
SDP = (
    b"v=0\r\no=- 3921467810 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n"
    b"a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n"
)


@dataclass(frozen=True)
class Cost:
    """What calls cost a neighbour.

    Attributes:
        domain: whose it is.
        cpu_s: CPU seconds of a call.
        operations: asymmetric operations of a call, by their names.
    """

    domain: str
    cpu_s: float
    operations: dict[str, float]


class _Phone(asyncio.DatagramProtocol):
    """A client on a UDP socket.

    Args:
        domain: where its user is known.
        user: its user.
        server: its neighbour.
    """

    def __init__(self, domain: str, user: str, server: str) -> None:
        self._domain, self._user, self._server = domain, user, server
        self._transport: asyncio.DatagramTransport
        self._waiting: dict[bytes, asyncio.Future[Response]] = {}
        self._challenge: Challenge | None = None
        self._used = 0
        self._number = 0

    async def open(self, address: str) -> None:
        """Begin to listen at an address."""
        loop = asyncio.get_running_loop()
        local = (address, _SIP_PORT)
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local, (self._server, _SIP_PORT))
        self._contact = f"<sip:{self._user}@{address}:{_SIP_PORT}>".encode()
        self._via = f"SIP/2.0/UDP {address}:{_SIP_PORT};rport;branch=z9hG4bK".encode()

    def close(self) -> None:
        """Listen no more."""
        self._transport.close()

    # As the callee.

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take a message."""
        del addr
        message = parse(data)
        if isinstance(message, Response):
            waiting = self._waiting.get(message.via.branch)
            if waiting is not None and message.status >= 200 and not waiting.done():
                waiting.set_result(message)
        elif message.method != "ACK":
            if message.method == "INVITE":
                self._answer(message, 180, b"Ringing")
            self._answer(message, 200, b"OK")

    def _answer(self, request: Request, status: int, reason: bytes) -> None:
        answer = request.response(status, reason.decode(), b"callee")
        if request.method == "INVITE":
            for value in request.get_all("record-route"):
                answer.add("Record-Route", value)
            answer.add("Contact", self._contact)
            if status == 200:
                answer.set_body(b"application/sdp", SDP)
        self._transport.sendto(answer.serialize())

    # As the caller.

    def _made(self, method: str, uri: bytes, call_id: bytes, to: bytes, cseq: int) -> Request:
        made = Request(method, uri)
        self._number += 1
        made.add("Via", self._via + b"%d" % self._number)
        made.add("Max-Forwards", b"70")
        made.add("From", f"<sip:{self._user}@{self._domain}>;tag=".encode() + call_id)
        made.add("To", to)
        made.add("Call-ID", call_id)
        made.add("CSeq", b"%d %s" % (cseq, method.encode()))
        made.add("Contact", self._contact)
        return made

    async def _ask(self, request: Request) -> Response:
        branch = request.via.branch
        self._waiting[branch] = asyncio.get_running_loop().create_future()
        self._transport.sendto(request.serialize())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._waiting[branch]
        except TimeoutError:
            raise LabError(f"no answer to {request.method} within {_PATIENCE_S:g} s") from None
        finally:
            del self._waiting[branch]

    def _sign(self, request: Request) -> None:
        """Answer the last challenge once more."""
        challenge = self._challenge
        if challenge is None:
            return
        self._used += 1
        user = self._user.encode()
        secret = ha1(user, challenge.realm, _PASSWORD.encode(), challenge.algorithm)
        found = authenticate(challenge, user, secret, request.method, request.uri, b"cnonce", self._used)
        name = "Authorization" if request.method == "REGISTER" else "Proxy-Authorization"
        request.add(name, found.serialize())

    async def _try(self, method: str, uri: bytes, to: bytes, *, with_body: bool) -> tuple[Request, Response]:
        """A request, and once more where it is challenged."""
        self._number += 1
        call_id = b"%s%d" % (self._user.encode(), self._number)
        for cseq in (1, 2):
            request = self._made(method, uri, call_id, to, cseq)
            self._sign(request)
            if with_body:
                request.set_body(b"application/sdp", SDP)
            answer = await self._ask(request)
            if method == "INVITE" and answer.status >= 300:
                self._transport.sendto(ack_for(request, answer).serialize())
            if answer.status not in {401, 407}:
                break
            found = answer.get_all("www-authenticate") + answer.get_all("proxy-authenticate")
            self._challenge, self._used = choose(found, self._domain.encode()), 0
        if answer.status != 200:
            raise LabError(f"{answer.status} to {method}: {answer.get('warning') or b''!r}")
        return request, answer

    async def register(self) -> None:
        """Be there for calls."""
        uri = f"sip:{self._domain}".encode()
        await self._try("REGISTER", uri, f"<sip:{self._user}@{self._domain}>".encode(), with_body=False)
        self._challenge = None

    async def call(self, uri: bytes) -> None:
        """Call, be answered, and hang up.

        Raises:
            LabError: something of it did not go well.
        """
        if self._used >= _CALLS_OF_A_NONCE:
            self._challenge = None
        request, answer = await self._try("INVITE", uri, b"<" + uri + b">", with_body=True)
        target, route = answer.addresses("contact")[0].uri, list(reversed(answer.values("record-route")))
        for method, cseq in (("ACK", request.cseq.number), ("BYE", request.cseq.number + 1)):
            made = self._made(method, target, request.call_id, answer.get("to") or b"", cseq)
            for value in route:
                made.add("Route", value)
            made.add("Content-Length", b"0")
            if method == "ACK":
                remove(made, "contact")
                self._transport.sendto(made.serialize())
            elif (answered := await self._ask(made)).status != 200:
                raise LabError(f"{answered.status} to BYE")


async def _add_account(lab: Lab, domain: str, user: str) -> None:
    store = Store(load(lab.configuration(domain)).store_url)
    await store.open()
    await add_account(store, domain, user, _PASSWORD, is_terminal=False)
    await store.close()


async def _run(caller: _Phone, count: int) -> None:
    """So many calls, some at a time."""
    left = iter(range(count))

    async def one_by_one() -> None:
        for _ in left:
            await caller.call(f"sip:{_CALLEE}@{_B}".encode())

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(_AT_ONCE):
                group.create_task(one_by_one())
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


def _operations(address: str) -> dict[str, float]:
    """The counters of a neighbour."""
    with urllib.request.urlopen(f"http://{address}:{_METRICS_PORT}/metrics", timeout=_PATIENCE_S) as answer:
        text: bytes = answer.read()
    return {name.decode(): float(value) for name, value in _ASYMMETRIC.findall(text)}


async def _measure(lab: Lab, addresses: dict[str, str], neighbours: dict[str, Neighbour], count: int) -> list[Cost]:
    caller, callee = _Phone(_A, _CALLER, addresses[_A]), _Phone(_B, _CALLEE, addresses[_B])
    await caller.open(lab.next_address())
    await callee.open(lab.next_address())
    try:
        await callee.register()
        await _run(caller, _WARM)
        stats = {domain: Path(f"/proc/{one.pid}/stat") for domain, one in neighbours.items()}
        before = {domain: (cpu_seconds(stats[domain]), _operations(addresses[domain])) for domain in neighbours}
        await _run(caller, count)
        found = []
        for domain, (cpu_s, operations) in before.items():
            used = cpu_seconds(stats[domain]) - cpu_s
            now = _operations(addresses[domain])
            each = {name: (value - operations.get(name, 0.0)) / count for name, value in now.items()}
            found.append(Cost(domain, used / count, each))
        return found
    finally:
        caller.close()
        callee.close()


def calls(level: str, count: int) -> list[Cost]:
    """What calls at a level cost.

    Args:
        level: the least of both domains.
        count: how many calls.

    Returns:
        For the caller's neighbour and for the callee's.

    Raises:
        LabError: one of them did not go well.
    """
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name, Lab(Path(name)) as lab:
        addresses = lab.make_domains(_A, _B)
        for domain, address in addresses.items():
            lab.change(domain, 'level = "debug"', 'level = "info"')
            lab.change(domain, '# level = "medium"', f'level = "{level}"')
            lab.change(domain, '# listen = "127.0.0.1:9464"', f'listen = "{address}:{_METRICS_PORT}"')
            lift_limits(lab, domain)
        asyncio.run(_add_account(lab, _A, _CALLER))
        asyncio.run(_add_account(lab, _B, _CALLEE))
        neighbours = {domain: lab.start_neighbour(domain) for domain in addresses}
        return asyncio.run(_measure(lab, addresses, neighbours, count))
