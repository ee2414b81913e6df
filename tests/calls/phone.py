"""An ordinary SIP phone that does as a test tells it: over UDP, with digest, and with SRTP."""

import socket
import threading
import time
from binascii import hexlify
from os import urandom
from types import TracebackType
from typing import Self

from neighbour.aes import new_aes
from sipwire.answer import make_answer
from sipwire.dialog import Dialog
from sipwire.digest import authenticate, choose, ha1
from sipwire.errors import SecurityError
from sipwire.message import Request, Response, parse
from sipwire.offer import accept_answer, make_offer
from sipwire.rtp import build_header
from sipwire.sdp import Session
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from sipwire.streams import Speaks

__all__ = ["Phone", "Speech"]

_TIMEOUT_S = 10.0
_SUITE = b"AES_CM_128_HMAC_SHA1_80"
_REGISTER_TO = b"sip:"


class Speech(threading.Thread):
    """One stream of SRTP both ways, a packet each 20 ms.

    Attributes:
        received: authentic packets so far, ``refused`` others.
    """

    def __init__(self, address: str, their_key: bytes, our_key: bytes, target: tuple[str, int], sound: int) -> None:
        super().__init__(daemon=True)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.settimeout(0.005)
        self.port: int = self._socket.getsockname()[1]
        self._target = target
        self._sound = bytes([sound]) * 160
        self._sender = SrtpSender(SUITES[_SUITE], our_key, new_aes)
        self._receiver = SrtpReceiver(SUITES[_SUITE], their_key, new_aes)
        self._ended = threading.Event()
        self.received = self.refused = 0

    def run(self) -> None:
        seq, timestamp = 1000, 8000
        ssrc = int.from_bytes(urandom(4), "big")
        due = time.monotonic()
        while not self._ended.is_set():
            if time.monotonic() >= due:
                due += 0.02
                packet = bytearray(172 + self._sender.overhead_bytes)
                build_header(packet, 0, seq, timestamp, ssrc)
                packet[12:172] = self._sound
                self._sender.protect(packet, 172)
                self._socket.sendto(packet, self._target)
                seq, timestamp = (seq + 1) & 0xFFFF, timestamp + 160
            try:
                data = bytearray(self._socket.recv(2000))
                self._receiver.unprotect(data, len(data))
                self.received += 1
            except SecurityError:
                self.refused += 1
            except OSError:
                pass

    def stop(self) -> None:
        self._ended.set()
        self.join()
        self._socket.close()


class Phone:
    """A phone.

    Args:
        address: its own.
        neighbour: where its neighbour listens for UDP.
        user, domain, password: its account.
    """

    def __init__(self, address: str, neighbour: str, user: str, domain: str, password: str) -> None:
        self.address = address
        self.aor = f"sip:{user}@{domain}"
        self._user, self._domain = user.encode(), domain.encode()
        self._secret = ha1(self._user, self._domain, password.encode())
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((address, 0))
        self._socket.settimeout(0.1)
        self._socket.connect((neighbour, 5060))
        self.port: int = self._socket.getsockname()[1]
        self.contact = b"<sip:%s@%s:%d>" % (self._user, address.encode(), self.port)
        self._inbox: list[Request | Response] = []
        self._seen: list[bytes] = []
        self._speeches: list[Speech] = []
        self.our_key = urandom(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for speech in self._speeches:
            speech.stop()
        self._socket.close()

    # Messages.

    def send(self, message: Request | Response) -> None:
        self._socket.send(message.serialize())

    def wait(self, kind: str | int, cseq: str = "") -> Request | Response:
        """The next request with a method, or response with a status; repetitions count once."""
        end = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < end:
            for message in self._inbox:
                found = message.method if isinstance(message, Request) else message.status
                if found == kind and (not cseq or message.cseq.method == cseq):
                    self._inbox.remove(message)
                    return message
            try:
                data = self._socket.recv(65536)
            except TimeoutError:
                continue
            if data.strip() and data not in self._seen:
                self._seen.append(data)
                self._inbox.append(parse(data))
        came = [message.start_line() for message in self._inbox]
        raise AssertionError(f"no {kind} {cseq}; came: {came}")

    def request(self, request: Request) -> Response:
        """Send a request, with credentials where it is asked for them; returns its final response."""
        for _ in range(2):
            branch = b"z9hG4bK" + hexlify(urandom(8))
            own = b"SIP/2.0/UDP %s:%d;branch=%s;rport" % (self.address.encode(), self.port, branch)
            request.set("Via", own)
            self.send(request)
            while True:
                response = self._response_to(branch)
                if response.status >= 200:
                    break
            if response.status not in (401, 407):
                break
            name = "www-authenticate" if response.status == 401 else "proxy-authenticate"
            challenge = choose(response.get_all(name), self._domain)
            assert challenge is not None
            made = authenticate(
                challenge, self._user, self._secret, request.method, request.uri, b"0123", 1, request.body, False
            )
            if request.method == "INVITE":
                self._ack(request, response)
            request.set("Authorization" if response.status == 401 else "Proxy-Authorization", made.serialize())
            request.set("CSeq", b"%d %s" % (request.cseq.number + 1, request.method.encode()))
        return response

    def _ack(self, request: Request, response: Response) -> None:
        """The ACK to a final response other than 2xx."""
        ack = Request("ACK", request.uri)
        for name in ("Via", "Route", "From", "Call-ID"):
            for value in request.get_all(name.lower()):
                ack.add(name, value)
        ack.add("To", response.get("to") or b"")
        ack.add("CSeq", b"%d ACK" % request.cseq.number)
        ack.add("Max-Forwards", b"70")
        ack.add("Content-Length", b"0")
        self.send(ack)

    def _response_to(self, branch: bytes) -> Response:
        end = time.monotonic() + _TIMEOUT_S
        while time.monotonic() < end:
            for message in self._inbox:
                if isinstance(message, Response) and message.via.branch == branch:
                    self._inbox.remove(message)
                    return message
            try:
                self._inbox.append(parse(self._socket.recv(65536)))
            except TimeoutError:
                continue
        raise AssertionError("no answer")

    def register(self) -> None:
        request = Request("REGISTER", _REGISTER_TO + self._domain)
        request.add("Max-Forwards", b"70")
        request.add("From", b"<%s>;tag=r" % self.aor.encode())
        request.add("To", b"<%s>" % self.aor.encode())
        request.add("Call-ID", hexlify(urandom(8)))
        request.add("CSeq", b"1 REGISTER")
        request.add("Contact", self.contact)
        request.add("Expires", b"600")
        request.add("Content-Length", b"0")
        response = self.request(request)
        assert response.status == 200, response.start_line()

    # Calls.

    def speak_to(self, offer: bytes, sound: int) -> tuple[Speech, bytes]:
        """Take an offer of SRTP: the stream that it makes, and the answer."""
        parsed = Session.parse(offer)
        _, [agreed] = make_answer(self.speaks(9), parsed, self.address.encode(), 1)
        target = agreed.address.decode(), agreed.port
        speech = Speech(self.address, agreed.remote_key, self.our_key, target, sound)
        self._speeches.append(speech)
        speech.start()
        answer, _ = make_answer(self.speaks(speech.port), parsed, self.address.encode(), 1)
        return speech, answer.serialize()

    def respond(self, request: Request, status: int, body: bytes = b"", tag: bytes = b"phone") -> Response:
        response = request.response(status, "As told", tag)
        for value in request.get_all("record-route"):
            response.add("Record-Route", value)
        response.add("Contact", self.contact)
        if body:
            response.set_body(b"application/sdp", body)
        self.send(response)
        return response

    def dialog(self, request: Request) -> Dialog:
        """The dialog that our 2xx to an INVITE makes."""
        dialog = Dialog.as_callee(request, b"phone", 100)
        dialog.confirmed = True
        return dialog

    def within(
        self, dialog: Dialog, method: str, body: bytes = b"", kind: bytes = b"application/sdp", **headers: bytes
    ) -> Response:
        """Send a request within a call; returns its final response. A 2xx to an INVITE is ACKed."""
        request = dialog.new_request(method)
        for name, value in headers.items():
            request.add(name.replace("_", "-"), value)
        request.add("Contact", self.contact)
        if body:
            request.set_body(kind, body)
        response = self.request(request)
        dialog.local_cseq = request.cseq.number
        if method == "INVITE" and 200 <= response.status < 300:
            ack = dialog.new_ack(request.cseq.number)
            ack.insert("Via", b"SIP/2.0/UDP %s:%d;branch=z9hG4bKack" % (self.address.encode(), self.port))
            self.send(ack)
        return response

    def offer(self, port: int, version: int = 2, direction: bytes = b"sendrecv") -> Session:
        """An offer of ours, with the key that we have."""
        offer = make_offer(self.speaks(port), self.address.encode(), 1, version)
        if direction != b"sendrecv":
            offer.media[0].lines.append((b"a", direction))
        return offer

    def speaks(self, port: int) -> Speaks:
        """What the phone speaks on a port, always with the key that it has."""
        return Speaks(port, [0], [_SUITE], lambda _: self.our_key)

    def speak_as_agreed(self, offer: Session, answer: bytes, sound: int) -> Speech:
        """The stream that an answer to our offer makes; its port is not that of the offer."""
        [agreed] = accept_answer(self.speaks(9), offer, Session.parse(answer))
        speech = Speech(self.address, agreed.remote_key, self.our_key, (agreed.address.decode(), agreed.port), sound)
        self._speeches.append(speech)
        return speech
