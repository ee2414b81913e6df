"""A terminal: a phone whose datagrams are frames of a hop agreement (WIRE section 1)."""

from neighbour.aes import new_aes
from neighbour.transport.flow import Flow
from sipwire.agreement import client_offer, hop_spi, parse_mechanisms
from sipwire.digest import authenticate, choose, ha1
from sipwire.hop import FRAME_MARK, HopReceiver, HopSender, derive_keys
from sipwire.message import Response

from .phones import DOMAIN, PASSWORD, Call, DatagramFlow, Phone, numbers

__all__ = ["Terminal"]


class _FrameFlow(DatagramFlow):
    """Seals what it sends."""

    protection = "frame"

    def __init__(self, phone: Phone, sender: HopSender) -> None:
        super().__init__(phone)
        self._sender = sender

    def send(self, data: bytes) -> None:
        super().send(self._sender.seal(data))


class Terminal(Phone):
    """See the module."""

    _receiver: HopReceiver | None = None

    def receive(self, data: bytes, flow: Flow | None = None) -> None:
        if data[0] == FRAME_MARK:
            assert self._receiver is not None
            data = self._receiver.open(data)
        super().receive(data, flow)

    def can_sign(self, call: Call, challenged: Response) -> bool:
        return False  # a terminal answers the challenge of step 2 below, and no other

    async def register(self, params: str = "", *, expires: int = 600) -> Response:
        """Make an agreement, in the steps of WIRE section 1.1."""
        spi, nonce = 0x1000 + next(numbers), bytes(range(16))
        offer = client_offer(spi, nonce)
        made = self.new(
            "REGISTER",
            f"sip:{self.user}@{DOMAIN}",
            ("Expires", b"%d" % expires),
            ("Require", b"sec-agree"),
            ("Proxy-Require", b"sec-agree"),
            ("Security-Client", offer),
            uri=f"sip:{DOMAIN}",
        )
        challenged = await self.ask(made).final()
        challenge = choose(challenged.get_all("www-authenticate"), DOMAIN.encode())
        assert challenge is not None
        server = challenged.get("security-server") or b""
        user, realm = self.user.encode(), DOMAIN.encode()
        secret = ha1(user, realm, PASSWORD.encode())
        credentials = authenticate(challenge, user, secret, "REGISTER", made.uri, b"cn", integrity=True)
        made.set("CSeq", b"%d REGISTER" % (made.cseq.number + 1))
        made.add("Authorization", credentials.serialize())
        made.add("Security-Verify", server)
        out, back = derive_keys(secret, user, realm, nonce, challenge.nonce, offer, server)
        self._receiver = HopReceiver(spi, back, new_aes)
        done = await self.ask(made).final()
        self.flow = _FrameFlow(self, HopSender(hop_spi(parse_mechanisms([server])[0]), out, new_aes))
        return done
