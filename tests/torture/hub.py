"""A neighbour's end of the hop that sends whatever a test wants, and does for its terminal what a neighbour has to."""

import itertools
import time
from pathlib import Path

from attacks.attack import Rogue

from sipwire.hop import FRAME_MARK
from sipwire.message import Request, Response, parse
from sipwire.transaction import ack_for, client_key

__all__ = ["Hub"]

_WAIT_S = 30.0
_AGAIN_S = 1.0


class Hub(Rogue):
    """The neighbour of one terminal.

    Args:
        configuration: of the terminal; it is changed to have us as its neighbour.
        address: where we are.
    """

    def __init__(self, configuration: Path, address: str) -> None:
        super().__init__(configuration, address)
        self.address = address
        self._numbers = itertools.count(1)
        self._invites: dict[bytes, Request] = {}
        #: In whose name its own requests are, which are no case's.
        self.caller = "sip:bob@b.example"
        #: Answers that were not waited for, oldest first.
        self.taken: list[Response] = []

    def _grant(self, asked: Request) -> None:
        """The terminal refreshes its registration."""
        granted = asked.response(200, "OK", b"hub")
        granted.add("Contact", (asked.get("contact") or b"") + b";expires=" + (asked.get("expires") or b""))
        self.send(granted.serialize())

    def _next(self) -> "Request | Response | None":
        """The next message that comes; None for a keep-alive, which is answered."""
        self._socket.settimeout(_AGAIN_S)
        data = self._socket.recv(65536)
        assert data[0] == FRAME_MARK, data[:100]
        assert self.receiver is not None
        message = self.receiver.open(data)
        if not message:
            self.send(b"")
            return None
        return parse(message)

    def probe(self) -> None:
        """A good request: the terminal answers it as it should, and before that whatever it was asked before.

        Its final answers to INVITEs are acknowledged; all of them are in ``taken`` then.
        """
        made = self.request("OPTIONS", b"probe%d" % next(self._numbers))
        end = time.monotonic() + _WAIT_S
        again_at = 0.0
        while (now := time.monotonic()) < end:
            if now >= again_at:
                # Again, as UDP wants it: what is large may have filled the socket.
                self.send(made.serialize())
                again_at = now + _AGAIN_S
            try:
                message = self._next()
            except TimeoutError:
                continue
            if isinstance(message, Response):
                if message.call_id == made.call_id:
                    assert message.status == 200
                    return
                self.taken.append(message)
                self._acknowledge(message)
            elif message is not None and message.method == "REGISTER":
                self._grant(message)
        raise AssertionError("no answer")

    def sent(self, data: bytes) -> None:
        """Remember an INVITE, so that its final answer is acknowledged."""
        request = parse(data)
        if isinstance(request, Request) and request.method == "INVITE":
            self._invites[client_key(request)] = request

    def _acknowledge(self, answer: Response) -> None:
        invite = self._invites.get(client_key(answer))
        if invite is not None and answer.status >= 300:
            self.send(ack_for(invite, answer).serialize())

    def request(self, method: str, call_id: bytes, body: bytes = b"", to_tag: bytes = b"", cseq: int = 1) -> Request:
        """A request of somebody's to the terminal."""
        made = Request(method, b"sip:%s@%s:%d" % (self.user, self.terminal[0].encode(), self.terminal[1]))
        made.add("Via", b"SIP/2.0/UDP %s;branch=z9hG4bKhub%d" % (self.address.encode(), next(self._numbers)))
        made.add("Max-Forwards", b"70")
        made.add("From", b"<%s>;tag=bob" % self.caller.encode())
        tag = b";tag=" + to_tag if to_tag else b""
        made.add("To", b"<sip:%s@%s>" % (self.user, self.realm) + tag)
        made.add("Call-ID", call_id)
        made.add("CSeq", b"%d %s" % (cseq, method.encode()))
        made.add("Contact", b"<sip:bob@%s:5062>" % self.address.encode())
        if body:
            made.set_body(b"application/sdp", body)
        else:
            made.add("Content-Length", b"0")
        return made

    def answer_to(self, made: Request) -> Response:
        """The final answer to a request that `probe` has taken."""
        return next(one for one in self.taken if client_key(one) == client_key(made) and one.status >= 200)
