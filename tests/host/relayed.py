"""Phones whose media really go through the relay: what the tests of relayed calls share."""

import asyncio
import contextlib
import os
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from sip import TIMEOUT_S, Domain, UdpClient, answer, domain, in_dialog, request, signed

from neighbour.aes import new_aes
from neighbour.store.accounts import set_account
from neighbour.store.calls import CallRecord, list_calls
from sipwire.crypto import Crypto, size_of
from sipwire.errors import SecurityError
from sipwire.message import Message, Request, Response
from sipwire.rtp import build_header
from sipwire.sdp import Media, Session
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from sipwire.transaction import ack_for

__all__ = ["ALWAYS", "CM", "Ear", "Party", "check_heard", "connect", "records", "relayed", "set_media", "stream_of"]

CM = b"AES_CM_128_HMAC_SHA1_80"
if TYPE_CHECKING:
    from neighbour.store.database import Store

_Message = TypeVar("_Message", bound=Message)
_SDP = ("Content-Type", "application/sdp")
_open: list[socket.socket] = []
ALWAYS = '# relay = "never"|relay = "always"'


class Ear:
    """One stream of a party: a socket, its keys, and what it has heard.

    Attributes:
        crypto: the line that it offers, or answers with.
        private: what it says as its address, where that is not the one it has.
    """

    def __init__(self, address: str, suite: bytes = CM, tag: int = 1) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((address, 0))
        self.socket.setblocking(False)
        self.address: tuple[str, int] = self.socket.getsockname()
        self.private = address
        self.crypto = Crypto.make(tag, suite, os.urandom(size_of(suite)))
        self._seq = 100
        _open.append(self.socket)
        self._sender: SrtpSender | None = None

    def line(self, *, proto: bytes = b"RTP/SAVP", port: int | None = None) -> bytes:
        """Its m= line, with what belongs to it."""
        text = b"m=audio %d %s 0\r\n" % (self.address[1] if port is None else port, proto)
        if proto.startswith(b"RTP/SAVP"):
            text += b"a=crypto:" + self.crypto.serialize() + b"\r\n"
        return text

    def body(self, *more: bytes, proto: bytes = b"RTP/SAVP", version: int = 1, port: int | None = None) -> bytes:
        """A description with this stream; ``more`` follows."""
        address = self.private.encode()
        head = b"v=0\r\no=- 7 %d IN IP4 %s\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\n" % (version, address, address)
        return head + self.line(proto=proto, port=port) + b"".join(more)

    def send(self, to: tuple[str, int], *, plain: bool = False, sound: bytes = b"\x55") -> bytes:
        """Send a packet; returns what it says."""
        packet = bytearray(12 + 160 + 14)
        build_header(packet, 0, self._seq, 8000 + 160 * self._seq, 0x1234)
        packet[12:172] = sound * 160
        size = 172
        if not plain:
            if self._sender is None:
                self._sender = SrtpSender(SUITES[self.crypto.suite], self.crypto.keys[0].key_salt, new_aes)
            size = self._sender.protect(packet, 172)
        self._seq += 1
        self.socket.sendto(packet[:size], to)
        return sound * 160

    async def hear(self, key: bytes | None, timeout_s: float = TIMEOUT_S) -> bytes:
        """What the next packet says.

        Args:
            key: it is protected with, None for RTP.
            timeout_s: until it has come.
        """
        loop = asyncio.get_running_loop()
        packet = bytearray(await asyncio.wait_for(loop.sock_recv(self.socket, 2000), timeout_s))
        if key is None:
            return bytes(packet[12:])
        receiver = SrtpReceiver(SUITES[self.crypto.suite], key, new_aes)
        size = receiver.unprotect(packet, len(packet))
        return bytes(packet[12:size])

    async def silence(self, seconds: float = 0.3) -> None:
        with contextlib.suppress(TimeoutError):
            data = await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.socket, 2000), seconds)
            raise AssertionError(f"{len(data)} bytes came")


class Party:
    """A phone of a user's, on a UDP socket, with its media.

    Attributes:
        client: its SIP.
        ear: its first stream.
        invite: the INVITE that it has sent or got.
        response: the 2xx that it has sent or got.
    """

    def __init__(self, at: Domain, user: str, client: UdpClient) -> None:
        self.at = at
        self.user = user
        self.client = client
        self.ear = Ear(client.address[0])
        self.invite: Request
        self.response: Response

    @classmethod
    async def make(cls, at: Domain, user: str, contact: str = "") -> "Party":
        client = await UdpClient.open(at)
        if at.neighbour._accounts.by_user(user) is None:
            await at.add(user)
        made = request(
            "REGISTER", f"sip:{at.name}", user, to=f"sip:{user}@{at.name}", contact=contact or client.contact
        )
        assert (await client.ask_signed(made, user)).status == 200
        return cls(at, user, client)

    # As a caller.

    async def call(self, user: str, body: bytes | None = None, headers: "tuple[tuple[str, str], ...]" = ()) -> None:
        """Send an INVITE with credentials; ``body`` is its own description where nothing else is given."""
        text = self.ear.body() if body is None else body
        kind = (_SDP,) if text and not any(name == "Content-Type" for name, _ in headers) else ()
        target = f"sip:{user}@{self.at.name}"
        made = request("INVITE", target, self.user, contact=self.client.contact, body=text, headers=(*kind, *headers))
        self.client.send(made)
        challenged = await self.client.response()
        assert challenged.status == 407, repr(challenged.start_line())
        self.client.send(ack_for(made, challenged))
        self.invite = signed(made, challenged, self.user, "secret")
        self.client.send(self.invite)

    async def answered(self, body: bytes = b"") -> Response:
        """Wait for the 2xx, and acknowledge it."""
        self.response = await self.client.response()
        assert self.response.status == 200, self.response.serialize()
        self.ack(body)
        return self.response

    def ack(self, body: bytes = b"") -> None:
        self.client.send(self._within("ACK", self.invite.cseq.number, body))

    async def refused(self) -> Response:
        """Wait for a final response that is no 2xx, and acknowledge it."""
        response = await self.client.response()
        assert response.status >= 300, response.serialize()
        self.client.send(ack_for(self.invite, response))
        return response

    def _within(self, method: str, cseq: int, body: bytes) -> Request:
        made = in_dialog(method, self.response, self.client.contact, cseq, self.invite)
        return _with(made, body)

    async def again(self, method: str, body: bytes = b"", early: Response | None = None) -> Response:
        """A request within the dialog; a 2xx to an INVITE is acknowledged."""
        if early is not None:
            self.response = early
        self.invite.set("CSeq", b"%d INVITE" % (self.invite.cseq.number + 1))
        made = self._within(method, self.invite.cseq.number, body)
        if method == "INVITE":
            self.last = made
        self.client.send(made)
        response = await self.client.response()
        if method == "INVITE" and response.status == 200:
            self.ack()
        elif method == "INVITE":
            self.client.send(ack_for(made, response))
        return response

    async def hang_up(self, other: "Party") -> None:
        self.invite.set("CSeq", b"%d INVITE" % (self.invite.cseq.number + 1))
        self.client.send(self._within("BYE", self.invite.cseq.number, b""))
        other.client.send(answer(await other.client.request("BYE"), 200))
        assert (await self.client.response()).status == 200

    # As a callee.

    async def rings(self, method: str = "INVITE") -> Request:
        """Wait for a request."""
        made = await self.client.request(method)
        if method == "INVITE" and not made.to.tag:
            self.invite = made
        return made

    def answers(
        self, to: Request, status: int = 200, body: bytes = b"", *headers: tuple[str, bytes], tag: bytes = b"callee"
    ) -> Response:
        made = answer(to, status, self.client.contact, tag)
        for name, value in headers:
            made.add(name, value)
        self.response = _with(made, body)
        self.client.send(made)
        return made

    def asks(self, method: str, body: bytes, cseq: int = 500) -> Request:
        """A request of the callee's within the dialog, sent."""
        made = Request(method, self.invite.addresses("contact")[0].uri)
        for value in self.invite.values("record-route"):
            made.add("Route", value)
        made.add("Max-Forwards", b"70")
        made.add("From", self.response.get("to") or b"")
        made.add("To", self.response.get("from") or b"")
        made.add("Call-ID", self.invite.call_id)
        made.add("CSeq", f"{cseq} {method}".encode())
        made.add("Contact", f"<{self.client.contact}>".encode())
        _with(made, body)
        self.client.send(made)
        return made


def _with(made: _Message, body: bytes) -> _Message:
    if body:
        made.set_body(b"application/sdp", body)
    else:
        made.set("Content-Length", b"0")
    return made


def stream_of(message: Message, at: int = 0) -> tuple[tuple[str, int], Media, list[Crypto]]:
    """Where a description wants a stream, its m= line, and its crypto lines."""
    session = Session.parse(message.body)
    media = session.media[at]
    address = session.address(media).decode() if media.port else ""
    return (address, media.port), media, media.cryptos()


async def connect(caller: Party, callee: Party) -> None:
    """A whole call, with media both ways."""
    await caller.call(callee.user)
    invite = await callee.rings()
    callee.answers(invite, 200, callee.ear.body())
    await caller.answered()
    await callee.rings("ACK")


async def check_heard(caller: Party, callee: Party, offered: Message, answered: Message) -> None:
    """Each hears the other through the relay: by what each was told."""
    to_relay, _, from_relay = stream_of(offered)
    for sender, listener, target, keys in (
        (callee, caller, to_relay, stream_of(answered)[2]),
        (caller, callee, stream_of(answered)[0], from_relay),
    ):
        said = sender.ear.send(target, sound=os.urandom(1))
        key = keys[0].keys[0].key_salt if keys else None
        try:
            assert await listener.ear.hear(key) == said
        except SecurityError as error:
            raise AssertionError(f"{listener.user}: {error}") from error


async def records(at: Domain, count: int = 1) -> list[CallRecord]:
    """The records of calls, as soon as there are so many."""
    store: Store = at.neighbour._proxy._calls._accounting._store
    end = asyncio.get_running_loop().time() + TIMEOUT_S
    while True:
        found = await list_calls(store, 100)
        if len(found) >= count or asyncio.get_running_loop().time() > end:
            assert len(found) == count, found
            return found
        await asyncio.sleep(0.02)


async def set_media(at: Domain, user: str, **settings: str | None) -> None:
    """What an account wants of its media, seen at once."""
    store: Store = at.neighbour._proxy._calls._accounting._store
    assert await set_account(store, user, **settings)  # type: ignore[arg-type]
    at.neighbour._accounts._looked_at = -1e9
    await at.neighbour._accounts.refresh()


@contextlib.asynccontextmanager
async def relayed(folder: Path, mode: str = ALWAYS, **changes: str) -> AsyncIterator[tuple[Domain, Party, Party]]:
    """A neighbour that relays, and Carol and Dave, who are registered."""
    async with domain(folder, mode=mode, **changes) as at:
        parties = [await Party.make(at, user) for user in ("carol", "dave")]
        try:
            yield at, parties[0], parties[1]
        finally:
            while _open:
                _open.pop().close()
