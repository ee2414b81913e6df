"""Means of attack: messages with any bytes in them, and proof that the next good call works."""

import asyncio
import itertools
import json
import os
import socket
from binascii import hexlify
from pathlib import Path

from calls.conftest import make_terminal
from sip import SDP, StreamClient, UdpClient, answer, in_dialog, request, signed

from lab.lab import Lab
from lab.processes import Terminal
from neighbour.aes import new_aes
from sipwire.agreement import hop_nonce, hop_spi, parse_mechanisms, server_offer
from sipwire.digest import SHA256, Challenge
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.hop import FRAME_MARK, HopReceiver, HopSender, derive_keys, frame_spi
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for

__all__ = ["OFFER", "Rogue", "betrayed", "dialog", "drain", "forged", "good_call", "good_call_on_stream", "text"]

_numbers = itertools.count(1)
OFFER = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"
)


def text(
    method: str = "MESSAGE",
    uri: str = "sip:dave@a.example",
    *,
    via: str = "SIP/2.0/UDP 192.0.2.9;branch={branch};rport",
    from_: str = "<sip:carol@a.example>;tag=f",
    to: str = "<sip:dave@a.example>",
    more: str = "",
    length: str = "Content-Length: 0\r\n",
    body: str = "",
) -> bytes:
    """A request as text: every part may be anything, line ends included."""
    number = next(_numbers)
    via = via.replace("{branch}", f"z9hG4bKattack{number}")
    return (
        f"{method} {uri} SIP/2.0\r\nVia: {via}\r\nMax-Forwards: 70\r\nFrom: {from_}\r\nTo: {to}\r\n"
        f"Call-ID: attack{number}\r\nCSeq: 1 {method}\r\n{more}{length}\r\n{body}"
    ).encode("latin-1")


def forged(made: Request, old: bytes, new: bytes) -> bytes:
    """A good request with some of its bytes changed."""
    data = made.serialize()
    assert data.count(old) >= 1, (old, data)
    return data.replace(old, new, 1)


async def drain(*clients: UdpClient | StreamClient, seconds: float = 0.05) -> list[bytes]:
    """Everything that has come, and comes within a moment."""
    await asyncio.sleep(seconds)
    found = []
    for client in clients:
        while not client._queue.empty():
            found.append(client._queue.get_nowait())
    return found


async def _authorized(caller: UdpClient | StreamClient, made: Request, user: str) -> Request:
    caller.send(made)
    challenged = await caller.response()
    assert challenged.status == 407, challenged.start_line()
    if made.method == "INVITE":
        caller.send(ack_for(made, challenged))
    return signed(made, challenged, user, "secret")


async def good_call(
    caller: UdpClient, callee: UdpClient, user: str = "carol", target: str = "sip:dave@a.example"
) -> None:
    """A call, from ringing to hanging up: what has to work after everything that was tried."""
    await drain(caller, callee)
    invite = await _authorized(caller, request("INVITE", target, user, contact=caller.contact, body=SDP), user)
    caller.send(invite)
    got = await callee.request("INVITE")
    assert got.body == SDP
    callee.send(answer(got, 180))
    callee.send(answer(got, 200, callee.contact))
    ok = await caller.response()
    assert ok.status == 200
    caller.send(in_dialog("ACK", ok, caller.contact, 2, invite))
    await callee.request("ACK")
    caller.send(in_dialog("BYE", ok, caller.contact, 3, invite))
    callee.send((await callee.request("BYE")).response(200, "OK"))
    ended = await caller.response()
    assert (ended.status, ended.cseq.method) == (200, "BYE")


async def good_call_on_stream(caller: StreamClient, callee: UdpClient, user: str) -> None:
    """As `good_call`, short, from a phone on a connection."""
    await drain(callee)
    made = await _authorized(caller, request("MESSAGE", "sip:dave@a.example", user, body=b"hello"), user)
    caller.send(made)
    got = await callee.request("MESSAGE")
    assert got.body == b"hello"
    callee.send(got.response(200, "OK"))
    assert (await caller.response()).status == 200


async def dialog(caller: UdpClient, callee: UdpClient) -> tuple[Request, Request, Response]:
    """A call that stands: the INVITE as sent, as it came, and its 200 as it came back."""
    invite = await _authorized(
        caller, request("INVITE", "sip:dave@a.example", "carol", contact=caller.contact, body=SDP), "carol"
    )
    caller.send(invite)
    got = await callee.request("INVITE")
    callee.send(answer(got, 200, callee.contact))
    ok = await caller.response()
    caller.send(in_dialog("ACK", ok, caller.contact, 2, invite))
    await callee.request("ACK")
    return invite, got, ok


class Rogue:
    """A neighbour that a real terminal trusts, and that may send it anything: what the terminal's own care is worth.

    Args:
        configuration: of the terminal; it is changed to have us as its neighbour.
        address: where we are.
    """

    def __init__(self, configuration: Path, address: str) -> None:
        values = json.loads(configuration.read_text())
        self.user, self.realm = values["user"].encode(), values["domain"].encode()
        self.secret = values["ha1"].encode()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.settimeout(10)
        host, port = self._socket.getsockname()
        values["neighbour"] = f"{host}:{port}"
        configuration.write_text(json.dumps(values))
        self.terminal = (values["board"]["address"], 5060)
        self.sender: HopSender | None = None
        self.receiver: HopReceiver | None = None

    def close(self) -> None:
        self._socket.close()

    def plain(self) -> Request:
        """The next message that comes without a frame."""
        while True:
            data, self.terminal = self._socket.recvfrom(65536)
            if data[0] != FRAME_MARK:
                message = parse(data)
                assert isinstance(message, Request)
                return message

    def send_plain(self, data: bytes) -> None:
        self._socket.sendto(data, self.terminal)

    def challenge(self, to: Request, realm: bytes = b"", nonce: bytes = b"") -> Response:
        """Step 2 of WIRE section 1.1."""
        self.nonce = nonce or hexlify(os.urandom(12))
        self.offer = server_offer(0x1000 + next(_numbers))
        response = to.response(401, "Unauthorized", b"nt")
        made = Challenge(realm or self.realm, self.nonce, SHA256, (b"auth", b"auth-int"))
        response.add("WWW-Authenticate", serialize_challenge(made))
        response.add("Security-Server", self.offer)
        return response

    def join(self) -> None:
        """Let the terminal register."""
        asked = self.plain()
        while asked.get("authorization") is not None:
            asked = self.plain()
        self.send_plain(self.challenge(asked).serialize())
        proof = self.plain()
        while proof.get("authorization") is None:
            proof = self.plain()
        credentials = parse_credentials(proof.get("authorization") or b"")
        verify(credentials, self.secret, "REGISTER", proof.body)
        offered = proof.get("security-client") or b""
        mechanism = parse_mechanisms([offered])[0]
        nonce = hop_nonce(mechanism)
        keys = derive_keys(self.secret, credentials.username, self.realm, nonce, self.nonce, offered, self.offer)
        self.receiver = HopReceiver(hop_spi(parse_mechanisms([self.offer])[0]), keys[0], new_aes)
        self.sender = HopSender(hop_spi(mechanism), keys[1], new_aes)
        ok = proof.response(200, "OK", b"nt")
        expires = proof.get("expires") or b""
        ok.add("Contact", (proof.get("contact") or b"") + b";expires=" + expires)
        ok.add("Expires", expires)
        ok.add("Authentication-Info", b'qop=auth-int, rspauth="%s"' % credentials.compute(self.secret, "", b""))
        self.send(ok.serialize())

    def send(self, data: bytes) -> None:
        """Send anything in a frame."""
        assert self.sender is not None
        self._socket.sendto(self.sender.seal(data), self.terminal)

    def answers(self, seconds: float) -> list[Request | Response]:
        """What comes within a time, opened; keep-alives are answered, and everything has to be a good message."""
        assert self.receiver is not None
        found = []
        self._socket.settimeout(seconds)
        try:
            while True:
                data = self._socket.recv(65536)
                assert data[0] == FRAME_MARK, data
                if frame_spi(data) != self.receiver.spi:
                    continue
                message = self.receiver.open(data)
                if message:
                    found.append(parse(message))
                else:
                    self.send(b"")
        except TimeoutError:
            return found
        finally:
            self._socket.settimeout(10)

    def status_of(self, data: bytes, seconds: float = 0.4) -> list[int]:
        """The statuses of what is answered to something sent in a frame, without repetitions; a refusal is ACKed."""
        self.send(data)
        found = []
        for one in self.answers(seconds):
            if isinstance(one, Response) and one.status not in found:
                found.append(one.status)
                if one.cseq.method == "INVITE" and one.status >= 300:
                    self._ack(one)
        return found

    def _ack(self, response: Response) -> None:
        ack = Request("ACK", b"sip:%s@%s" % (self.user, self.realm))
        ack.fields = [field for field in response.fields if field[0] in ("via", "from", "to", "call-id")]
        ack.add("CSeq", b"%d ACK" % response.cseq.number)
        ack.add("Content-Length", b"0")
        self.send(ack.serialize())

    def talk(self, terminal: Terminal) -> tuple[Request, Response]:
        """Call the terminal, let it answer; returns the INVITE and its 200."""
        rings = parse(self.invite())
        assert isinstance(rings, Request)
        self.send(rings.serialize())
        since = len(terminal.lines)
        terminal.wait_for("incoming", 5, since=since)
        terminal.send("answer")
        ok = next(one for one in self.answers(0.5) if isinstance(one, Response) and one.status == 200)
        ack = in_dialog("ACK", ok, "sip:bob@127.0.0.1", 1, rings)
        ack.insert("Via", b"SIP/2.0/UDP 127.0.0.1;branch=z9hG4bKackack")
        self.send(ack.serialize())
        terminal.wait_for("connected", 5, since=since)
        return rings, ok

    def invite(self, **parts: str) -> bytes:
        """An INVITE to the terminal; for the parts see `text`."""
        aor = f"sip:{self.user.decode()}@{self.realm.decode()}"
        defaults = {
            "via": "SIP/2.0/UDP 127.0.0.1;branch={branch}",
            "from_": '"Bob" <sip:bob@b.example>;tag=b',
            "to": f"<{aor}>",
            "more": "Contact: <sip:bob@127.0.0.1>\r\nContent-Type: application/sdp\r\n",
            "length": f"Content-Length: {len(OFFER)}\r\n",
            "body": OFFER.decode(),
        }
        return text("INVITE", aor, **{**defaults, **parts})


def betrayed(lab: Lab) -> tuple[Rogue, Terminal]:
    """A rogue, and Alice's terminal, which has registered with it."""
    lab.make_domains("a.example")
    path = make_terminal(lab, "a.example", "alice")
    rogue = Rogue(path, lab.next_address())
    alice = lab.start_terminal(path)
    rogue.join()
    alice.wait_for("registered", 10)
    return rogue, alice
