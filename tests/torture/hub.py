"""A neighbour's end of the hop, made of sipwire alone: it registers a terminal and then says whatever a test wants."""

import itertools
import json
import socket
import time
from pathlib import Path

from lab.lab import Lab
from lab.processes import Terminal
from neighbour.aes import new_aes
from sipwire.agreement import hop_nonce, hop_spi, parse_mechanisms, server_offer
from sipwire.digest import SHA256, Challenge, ha1
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.hop import FRAME_MARK, HopReceiver, HopSender, derive_keys
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for, client_key

__all__ = ["DOMAIN", "USER", "Hub"]

USER, DOMAIN = "alice", "a.example"
_SECRET = ha1(USER.encode(), DOMAIN.encode(), b"secret")
_SPI = 0x01020304
_NONCE = b"nonce"
_WAIT_S = 30.0
_AGAIN_S = 1.0


class Hub:
    """The neighbour of one terminal.

    Args:
        lab: where the terminal runs.
    """

    def __init__(self, lab: Lab) -> None:
        self.address = (lab.next_address(), 5060)
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.bind(self.address)
        self._numbers = itertools.count(1)
        self._invites: dict[bytes, Request] = {}
        self._peer = ("", 0)
        self.terminal_uri = b""
        #: In whose name its own requests are, which are no case's.
        self.caller = "sip:bob@b.example"
        self._sender: HopSender
        self._receiver: HopReceiver
        #: Answers that were not waited for, oldest first.
        self.answers: list[Response] = []

    def configuration(self, folder: Path, board: str) -> Path:
        """The configuration of a terminal of ours."""
        path = folder / f"{USER}.json"
        values = {"user": USER, "domain": DOMAIN, "ha1": _SECRET.decode(), "neighbour": f"{self.address[0]}:5060",
                  "codecs": ["PCMU", "PCMA"], "board": {"address": board}}  # fmt: skip
        path.write_text(json.dumps(values))
        return path

    def register(self, terminal: Terminal) -> None:
        """Take the terminal's registration (WIRE section 1.1)."""
        self._sock.settimeout(_WAIT_S)
        asked = self._plain_request()
        offer = server_offer(_SPI)
        challenge = Challenge(DOMAIN.encode(), _NONCE, SHA256, (b"auth", b"auth-int"))
        answer = asked.response(401, "Unauthorized", b"hub")
        answer.add("WWW-Authenticate", serialize_challenge(challenge))
        answer.add("Security-Server", offer)
        self._sock.sendto(answer.serialize(), self._peer)
        proven = self._plain_request()
        while proven.get("authorization") is None:
            proven = self._plain_request()
        credentials = parse_credentials(proven.get("authorization") or b"")
        verify(credentials, _SECRET, "REGISTER")
        self._sock.settimeout(_AGAIN_S)
        client = (proven.get_all("security-client") or [b""])[0]
        mechanism = parse_mechanisms([client])[0]
        back, out = derive_keys(_SECRET, USER.encode(), DOMAIN.encode(), hop_nonce(mechanism), _NONCE, client, offer)
        self._receiver = HopReceiver(_SPI, back, new_aes)
        self._sender = HopSender(hop_spi(mechanism), out, new_aes)
        self.terminal_uri = proven.addresses("contact")[0].uri
        self._grant(proven, b'rspauth="%s"' % credentials.compute(_SECRET, "", b""))
        terminal.wait_for("registered", _WAIT_S)

    def _grant(self, asked: Request, proof: bytes = b"") -> None:
        granted = asked.response(200, "OK", b"hub")
        granted.add("Contact", b"<%s>;expires=%s" % (self.terminal_uri, asked.get("expires") or b""))
        if proof:
            granted.add("Authentication-Info", proof)
        self.frame(granted.serialize())

    def _plain_request(self) -> Request:
        data, self._peer = self._sock.recvfrom(65536)
        request = parse(data)
        assert isinstance(request, Request)
        return request

    def plain(self, data: bytes) -> None:
        """Send a datagram as it is."""
        self._sock.sendto(data, self._peer)

    def frame(self, data: bytes) -> None:
        """Send a message in a frame, whatever it is."""
        self.plain(self._sender.seal(data))

    def _next(self) -> "Request | Response | None":
        """The next message that comes; None for a keep-alive, which is answered."""
        data = self._sock.recv(65536)
        assert data[0] == FRAME_MARK, data[:100]
        message = self._receiver.open(data)
        if not message:
            self.frame(b"")
            return None
        return parse(message)

    def probe(self) -> None:
        """A good request: the terminal answers it as it should, and before that whatever it was asked before.

        Its final answers to INVITEs are acknowledged; all of them are in ``answers`` then.
        """
        made = self.request("OPTIONS", b"probe%d" % next(self._numbers))
        end = time.monotonic() + _WAIT_S
        again_at = 0.0
        while (now := time.monotonic()) < end:
            if now >= again_at:
                # Again, as UDP wants it: what is large may have filled the socket.
                self.frame(made.serialize())
                again_at = now + _AGAIN_S
            try:
                message = self._next()
            except TimeoutError:
                continue
            if isinstance(message, Response):
                if message.call_id == made.call_id:
                    assert message.status == 200
                    return
                self.answers.append(message)
                self._acknowledge(message)
            elif message is not None and message.method == "REGISTER":
                self._grant(message)  # it refreshes its registration
        raise AssertionError("no answer")

    def sent(self, data: bytes) -> None:
        """Remember an INVITE, so that its final answer is acknowledged."""
        request = parse(data)
        if isinstance(request, Request) and request.method == "INVITE":
            self._invites[client_key(request)] = request

    def _acknowledge(self, answer: Response) -> None:
        invite = self._invites.get(client_key(answer))
        if invite is not None and answer.status >= 300:
            self.frame(ack_for(invite, answer).serialize())

    def request(self, method: str, call_id: bytes, body: bytes = b"", to_tag: bytes = b"", cseq: int = 1) -> Request:
        """A request of somebody's to the terminal."""
        made = Request(method, self.terminal_uri)
        made.add("Via", b"SIP/2.0/UDP %s;branch=z9hG4bKhub%d" % (self.address[0].encode(), next(self._numbers)))
        made.add("Max-Forwards", b"70")
        made.add("From", b"<%s>;tag=bob" % self.caller.encode())
        tag = b";tag=" + to_tag if to_tag else b""
        made.add("To", f"<sip:{USER}@{DOMAIN}>".encode() + tag)
        made.add("Call-ID", call_id)
        made.add("CSeq", b"%d %s" % (cseq, method.encode()))
        made.add("Contact", b"<sip:bob@%s:5062>" % self.address[0].encode())
        if body:
            made.set_body(b"application/sdp", body)
        else:
            made.add("Content-Length", b"0")
        return made

    def answer_to(self, made: Request) -> Response:
        """The final answer to a request that `probe` has taken."""
        return next(one for one in self.answers if client_key(one) == client_key(made) and one.status >= 200)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()
