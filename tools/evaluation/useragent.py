"""A user agent that does end-to-end security itself, as a process: commands on standard input, events as JSON lines.

    python -m evaluation.useragent FILE      FILE: what `Settings` has, as JSON

It is a bare SIP phone over UDP, which registers by digest: enough for calls on one machine, where no datagram is lost.

    call URI, answer, hangup, status, quit
    registered, incoming, connected, ended, failed, status
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from evaluation.endtoend import EndToEnd, NotSafeError
from neighbour.agent.aib import IntegrityError
from neighbour.agent.cms.errors import CmsError
from neighbour.agent.credential import read_credential
from neighbour.agent.freshness import StaleError
from neighbour.agent.mime import MimeError
from sipwire.compat import b64encode
from sipwire.dialog import Dialog
from sipwire.digest import Challenge, authenticate, choose, ha1
from sipwire.errors import ParseError
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for

__all__ = ["Settings", "UserAgent", "main"]

_SIP_PORT = 5060
_PATIENCE_S = 20.0
_FRESH_S = 20.0  # for so long a challenge is used: the neighbour's nonces live for a minute
_EXPIRES_S = 3600
_SDP = (
    b"v=0\r\no=- 3921467810 1 IN IP4 %b\r\ns=-\r\nc=IN IP4 %b\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n"
    b"a=rtpmap:0 PCMU/8000\r\na=ptime:20\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:%b\r\n"
)
_FAILURES = (NotSafeError, CmsError, MimeError, IntegrityError, StaleError, ParseError)


@dataclass(frozen=True)
class Settings:
    """Who it is.

    Attributes:
        user, domain, password: its account.
        address: its own, on this machine.
        neighbour: the address of its neighbour.
        certificate, key: its PEM files.
        root: the authority that it trusts.
        directory: a folder with the certificates of others, ``<user>@<domain>.pem``.
    """

    user: str
    domain: str
    password: str
    address: str
    neighbour: str
    certificate: str
    key: str
    root: str
    directory: str


class CallError(Exception):
    """A request that did not go well."""


class UserAgent(asyncio.DatagramProtocol):
    """See the module.

    Args:
        settings: see there.
        say: tells an event: its name and fields.
    """

    def __init__(self, settings: Settings, say: Callable[..., None]) -> None:
        self._settings = settings
        self._say = say
        self._user, self._domain = settings.user.encode(), settings.domain.encode()
        self.aor = b"sip:%b@%b" % (self._user, self._domain)
        self._contact = b"<sip:%b@%b:%d>" % (self._user, settings.address.encode(), _SIP_PORT)
        root = x509.load_pem_x509_certificate(Path(settings.root).read_bytes())
        credential = read_credential(Path(settings.certificate), Path(settings.key))
        self._security = EndToEnd(self.aor, credential, [root], self._find)
        self._found: dict[bytes, tuple[x509.Certificate, ...]] = {}
        self._transport: asyncio.DatagramTransport
        self._waiting: dict[bytes, asyncio.Future[Response]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._challenge: Challenge | None = None
        self._challenged_at = self._used = 0.0
        self._dialog: Dialog | None = None
        self._incoming: tuple[Request, bytes] | None = None
        self._sent: dict[bytes, bytes] = {}

    def _find(self, aor: bytes) -> tuple[x509.Certificate, ...]:
        """The certificate and chain of somebody, from the directory."""
        if aor not in self._found:
            path = Path(self._settings.directory) / f"{aor.decode().removeprefix('sip:')}.pem"
            if not path.exists():
                return ()
            self._found[aor] = tuple(x509.load_pem_x509_certificates(path.read_bytes()))
        return self._found[aor]

    async def open(self) -> None:
        """Begin to listen."""
        local, remote = (self._settings.address, _SIP_PORT), (self._settings.neighbour, _SIP_PORT)
        loop = asyncio.get_running_loop()
        self._transport, _ = await loop.create_datagram_endpoint(lambda: self, local, remote)

    def close(self) -> None:
        """End."""
        self._transport.close()

    # Messages.

    def _made(self, method: str, uri: bytes, to: bytes, cseq: int = 1) -> Request:
        made = Request(method, uri)
        made.add("Max-Forwards", b"70")
        made.add("From", b"<%b>;tag=%b" % (self.aor, os.urandom(6).hex().encode()))
        made.add("To", b"<%b>" % to)
        made.add("Call-ID", os.urandom(12).hex().encode())
        made.add("CSeq", b"%d %b" % (cseq, method.encode()))
        made.add("Contact", self._contact)
        return made

    def _describe(self, message: Request | Response) -> None:
        address = self._settings.address.encode()
        message.set_body(b"application/sdp", _SDP % (address, address, b64encode(os.urandom(30))))

    async def _ask(self, request: Request) -> Response:
        """Send a request; returns its final response."""
        branch = b"z9hG4bK" + os.urandom(8).hex().encode()
        request.insert(
            "Via", b"SIP/2.0/UDP %b:%d;rport;branch=%b" % (self._settings.address.encode(), _SIP_PORT, branch)
        )
        self._waiting[branch] = asyncio.get_running_loop().create_future()
        self._transport.sendto(request.serialize())
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await self._waiting[branch]
        except TimeoutError:
            raise CallError(f"no answer to {request.method}") from None
        finally:
            del self._waiting[branch]

    def _give_password(self, request: Request, challenge: Challenge, *, to_proxy: bool) -> None:
        self._used += 1
        secret = ha1(self._user, challenge.realm, self._settings.password.encode(), challenge.algorithm)
        count = int(self._used)
        made = authenticate(challenge, self._user, secret, request.method, request.uri, b"c%d" % count, count)
        request.set("Proxy-Authorization" if to_proxy else "Authorization", made.serialize())

    async def register(self) -> None:
        """Be there for calls.

        Raises:
            CallError: that is refused.
        """
        for cseq in (1, 2):
            request = self._made("REGISTER", b"sip:" + self._domain, self.aor, cseq)
            request.add("Expires", b"%d" % _EXPIRES_S)
            if self._challenge is not None:
                self._give_password(request, self._challenge, to_proxy=False)
            response = await self._ask(request)
            if response.status != 401:
                break
            self._challenge = choose(response.get_all("www-authenticate"), self._domain)
        if response.status != 200:
            raise CallError(f"{response.status} to REGISTER")
        self._challenge = None
        self._say("registered", aor=self.aor.decode())

    async def _ask_for_challenge(self, uri: bytes) -> None:
        """Learn what to answer before it counts: what is signed can't be sent again with another CSeq."""
        if self._challenge is not None and time.monotonic() < self._challenged_at + _FRESH_S:
            return
        response = await self._ask(self._made("OPTIONS", uri, uri))
        if response.status != 407:
            raise CallError(f"{response.status} to OPTIONS, and a challenge was wanted")
        self._challenge = choose(response.get_all("proxy-authenticate"), self._domain)
        self._challenged_at, self._used = time.monotonic(), 0

    # Calls.

    async def call(self, uri: bytes) -> None:
        """Call somebody; it is told how that went."""
        try:
            await self._ask_for_challenge(uri)
            began = time.monotonic()
            request = self._made("INVITE", uri, uri)
            self._describe(request)
            self._security.seal(request, uri)
            assert self._challenge is not None, "it was asked for"
            self._give_password(request, self._challenge, to_proxy=True)
            response = await self._ask(request)
            if response.status >= 300:
                self._transport.sendto(ack_for(request, response).serialize())
                raise CallError(f"{response.status} {(response.get('warning') or b'').decode()}")
            who = self._security.open(response)
            if who != uri:
                raise NotSafeError(f"{who.decode()} has answered")
            self._dialog = Dialog.as_caller(response)
            self._send_ack(self._dialog, request.cseq.number)
        except (CallError, *_FAILURES) as error:
            self._say("failed", reason=str(error))
            return
        self._say("connected", setup_ms=round((time.monotonic() - began) * 1000), by="itself")

    def _send_ack(self, dialog: Dialog, cseq: int) -> None:
        ack = dialog.new_ack(cseq)
        branch = os.urandom(8).hex().encode()
        ack.insert("Via", b"SIP/2.0/UDP %b:%d;branch=z9hG4bK%b" % (self._settings.address.encode(), _SIP_PORT, branch))
        self._transport.sendto(ack.serialize())

    async def hang_up(self) -> None:
        """End the call."""
        dialog, self._dialog = self._dialog, None
        if dialog is None:
            self._say("failed", reason="no call")
            return
        bye = dialog.new_request("BYE")
        if self._challenge is not None:
            self._give_password(bye, self._challenge, to_proxy=True)
        try:
            response = await self._ask(bye)
        except CallError as error:
            self._say("failed", reason=str(error))
            return
        self._say("ended", status=response.status)

    def datagram_received(self, data: bytes, addr: object) -> None:
        """Take a message."""
        del addr
        try:
            message = parse(data)
            if isinstance(message, Response):
                waiting = self._waiting.get(message.via.branch)
                if waiting is not None and message.status >= 200 and not waiting.done():
                    waiting.set_result(message)
            elif message.method == "ACK":
                if self._dialog is not None and self._dialog.matches(message) and not self._dialog.confirmed:
                    self._dialog.confirmed = True
                    self._say("connected", by="itself")
            else:
                self._take(message)
        except ParseError as error:
            self._say("failed", reason=str(error))

    def _take(self, request: Request) -> None:
        again = self._sent.get(request.via.branch)
        if again is not None:
            self._transport.sendto(again)
        elif request.method == "INVITE":
            self._ring(request)
        elif request.method == "BYE" and self._dialog is not None and self._dialog.matches(request):
            self._dialog = None
            self._respond(request, 200, "OK", b"")
            self._say("ended", status=200)
        else:
            self._respond(request, 200 if request.method == "OPTIONS" else 481, "As it is", b"")

    def _respond(self, request: Request, status: int, reason: str, tag: bytes) -> None:
        self._send(request, request.response(status, reason, tag))

    def _send(self, request: Request, response: Response) -> None:
        data = response.serialize()
        self._sent = {request.via.branch: data}  # what comes again belongs to the last one
        self._transport.sendto(data)

    def _ring(self, request: Request) -> None:
        """Open it before anybody hears of it."""
        tag = os.urandom(6).hex().encode()
        if self._dialog is not None or self._incoming is not None:
            self._respond(request, 486, "Busy Here", tag)
            return
        try:
            who = self._security.open(request)
        except _FAILURES as error:
            self._respond(request, 403, "Forbidden", tag)
            self._say("failed", reason=str(error))
            return
        self._incoming = request, tag
        self._respond(request, 180, "Ringing", tag)
        self._say("incoming", peer=who.decode())

    def answer(self) -> None:
        """Answer the call that rings."""
        if self._incoming is None:
            self._say("failed", reason="nobody calls")
            return
        (request, tag), self._incoming = self._incoming, None
        response = request.response(200, "OK", tag)
        for value in request.get_all("record-route"):
            response.add("Record-Route", value)
        response.add("Contact", self._contact)
        self._describe(response)
        self._security.seal(response, request.from_.parsed_uri().aor())
        self._dialog = Dialog.as_callee(request, tag)
        self._send(request, response)

    # Commands.

    def command(self, line: str) -> bool:
        """Do what a line says; returns whether to go on."""
        word, _, rest = line.strip().partition(" ")
        if word == "call":
            self._start(self.call(rest.encode()))
        elif word == "answer":
            self.answer()
        elif word == "hangup":
            self._start(self.hang_up())
        elif word == "status":
            self._say("status", operations=dict(self._security.operations))
        return word != "quit"

    def _start(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _say(event: str, **fields: object) -> None:
    print(json.dumps({"event": event, **fields}), flush=True)


async def _run(settings: Settings) -> int:
    agent = UserAgent(settings, _say)
    lines: asyncio.Queue[bytes] = asyncio.Queue()
    asyncio.get_running_loop().add_reader(0, lambda: lines.put_nowait(os.read(0, 65536)))
    await agent.open()
    try:
        await agent.register()
        left = b""
        while True:
            *whole, left = (left + await lines.get()).split(b"\n")
            for line in whole:
                if not agent.command(line.decode()):
                    return 0
    except CallError as error:
        _say("error", reason=str(error))
        return 1
    finally:
        agent.close()


def main(arguments: list[str]) -> int:
    """Run with the settings in a file."""
    return asyncio.run(_run(Settings(**json.loads(Path(arguments[0]).read_text()))))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
