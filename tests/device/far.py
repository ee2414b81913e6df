"""The far end of calls: the messages and the media that reach the terminal through its neighbour."""

from binascii import hexlify
from os import urandom

from sipwire.answer import make_answer
from sipwire.g711 import PCMU
from sipwire.message import Request
from sipwire.offer import make_offer
from sipwire.rtp import build_header, parse
from sipwire.sdp import Session
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from sipwire.streams import Speaks
from support import new_aes

CONTACT = b"sip:alice@192.0.2.7:5060"  # the terminal's
PEER = b"sip:bob@b.example"
PEER_CONTACT = b"<sip:bob@198.51.100.9:5062>"
PEER_ADDRESS = b"198.51.100.9"
CM80 = b"AES_CM_128_HMAC_SHA1_80"
CM32 = b"AES_CM_128_HMAC_SHA1_32"
KEYS = {CM80: bytes(range(30)), CM32: bytes(range(50, 80))}


class FarMedia:
    """The far end of an audio stream: it sends SRTP, and opens what the terminal sends.

    Args:
        their_key: key and salt of what the terminal sends.
        key: of what the far end sends.
    """

    def __init__(
        self,
        their_key,
        key=KEYS[CM80],
        suite=CM80,
        payload_type=PCMU,
        ssrc=0xFEDCBA98,
        seq=100,
        timestamp=0x89ABCDEF,
        mki=b"",
    ):
        self.sender = SrtpSender(SUITES[suite], key, new_aes, mki)
        self.receiver = SrtpReceiver(SUITES[suite], their_key, new_aes)
        self.payload_type = payload_type
        self.ssrc = ssrc
        self.seq = seq
        self.timestamp = timestamp

    def rtp(self, payload, payload_type=None):
        """The next RTP packet, with room for SRTP."""
        packet = bytearray(12 + len(payload) + self.sender.overhead_bytes)
        kind = self.payload_type if payload_type is None else payload_type
        build_header(packet, kind, self.seq, self.timestamp, self.ssrc)
        packet[12 : 12 + len(payload)] = payload
        self.seq = (self.seq + 1) & 0xFFFF
        self.timestamp = (self.timestamp + len(payload)) & 0xFFFFFFFF
        return packet

    def packet(self, payload=None, payload_type=None):
        """The next SRTP packet."""
        payload = bytes(160) if payload is None else payload
        packet = self.rtp(payload, payload_type)
        size = self.sender.protect(packet, 12 + len(payload))
        return bytes(packet[:size])

    def protected(self, rtp):
        """Any RTP packet as SRTP."""
        packet = bytearray(rtp + bytes(self.sender.overhead_bytes))
        self.seq = (self.seq + 1) & 0xFFFF
        return bytes(packet[: self.sender.protect(packet, len(rtp))])

    def open(self, datagram):
        """Open a packet of the terminal; returns (payload type, seq, timestamp, SSRC, payload, marker)."""
        packet = bytearray(datagram)
        size = self.receiver.unprotect(packet, len(packet))
        payload_type, seq, timestamp, start, end, marker = parse(packet, size)
        return payload_type, seq, timestamp, int.from_bytes(packet[8:12], "big"), bytes(packet[start:end]), marker


def branch():
    """A fresh Via branch of the far side."""
    return b"z9hG4bK" + hexlify(urandom(8))


def options(call_id=b"opt", method="OPTIONS", cseq=1, **changes):
    """A request of the far end outside of any call."""
    return request(method, call_id, b"<sip:bob@b.example>;tag=o", b"<sip:alice@a.example>", cseq, **changes)


def request(method, call_id, sender, to, cseq, uri=CONTACT, via=None, extra=(), body=b""):
    """A request of the far side, as it comes out of the neighbour."""
    made = Request(method, uri)
    made.add("Via", b"SIP/2.0/UDP 192.0.2.1:5060;branch=" + (via or branch()))
    made.add("Via", b"SIP/2.0/TLS 198.51.100.9:5062;branch=z9hG4bKfar")
    made.add("Max-Forwards", b"69")
    made.add("From", sender)
    made.add("To", to)
    made.add("Call-ID", call_id)
    made.add("CSeq", b"%d %s" % (cseq, method.encode()))
    for name, value in extra:
        made.add(name, value)
    if body:
        made.set_body(b"application/sdp", body)
    else:
        made.add("Content-Length", b"0")
    return made


def offer(suites=(CM80, CM32), payload_types=(0, 8), **changes):
    """The far end's session description; for ``changes`` see `speaks`."""
    return make_offer(speaks(payload_types, suites, **changes), PEER_ADDRESS, 7).serialize()


def speaks(payload_types=(0, 8), suites=(CM80, CM32), keys=KEYS, **changes):
    """What the far end speaks, with keys by suite."""
    return Speaks(30000, payload_types, suites, keys.__getitem__, **changes)


def answer_to(body, payload_types=(0, 8), suites=(CM80, CM32), keys=KEYS, address=PEER_ADDRESS):
    """The far end's answer to an offer, and the stream that it agrees on."""
    made, [agreed] = make_answer(speaks(payload_types, suites, keys), Session.parse(body), address, 8)
    return made.serialize(), agreed


def invite(call_id=b"in-1", cseq=10, contact=PEER_CONTACT, body=None, from_tag=b"peer", **changes):
    """An INVITE of the far end."""
    made = request(
        "INVITE",
        call_id,
        b'"Bob" <sip:bob@b.example>;tag=' + from_tag,
        b"<sip:alice@a.example>",
        cseq,
        body=offer() if body is None else body,
        **changes,
    )
    if contact:
        made.add("Contact", contact)
    return made


def answer(to, status, tag=b"t1", extra=(), reason="Reason"):
    """A response of the far end without a body."""
    response = to.response(status, reason, tag)
    for name, value in extra:
        response.add(name, value)
    return response


def accept(to, tag=b"t1", contact=PEER_CONTACT, change=None, extra=()):
    """A 200 of the far end to an INVITE of the terminal.

    Args:
        to: the INVITE.
        tag: the far end's.
        contact: b"" for none.
        change: (old, new): a change to the session description.
        extra: more headers.
    """
    response = answer(to, 200, tag, extra, "OK")
    if contact:
        response.add("Contact", contact)
    description, _ = answer_to(to.body)
    if change:
        assert change[0] in description, description
        description = description.replace(change[0], change[1])
    response.set_body(b"application/sdp", description)
    return response


def early(to, status=183, tag=b"t1", contact=PEER_CONTACT, change=None, keys=KEYS, address=PEER_ADDRESS):
    """A provisional response of the far end with a session description, whose speech may come before anybody answers.

    Args:
        to: the INVITE.
        status: 101 to 199.
        tag: the fork's.
        contact: b"" for none.
        change: (old, new): a change to the session description.
        keys: the fork's, by suite.
        address: where it wants its speech.
    """
    response = answer(to, status, tag)
    if contact:
        response.add("Contact", contact)
    description, _ = answer_to(to.body, keys=keys, address=address)
    response.set_body(b"application/sdp", description.replace(*change) if change else description)
    return response


class Call:
    """A call as the far end sees it: the names that its requests carry.

    Attributes:
        invite: where it called, its INVITE.
    """

    def __init__(self, call_id, local, remote, cseq, invite=None):
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.cseq = cseq
        self.invite = invite

    def request(self, method, **changes):
        """The next request of the far end within the call."""
        self.cseq += 1
        return request(method, self.call_id, self.local, self.remote, self.cseq, **changes)

    def ack(self, **changes):
        """The ACK to a 2xx."""
        return request("ACK", self.call_id, self.local, self.remote, self.cseq, **changes)

    def like_invite(self, method, remote=None):
        """An ACK to a final response other than 2xx, or a CANCEL: in the INVITE's transaction."""
        return request(
            method,
            self.call_id,
            self.local,
            remote or self.invite.get("to"),
            self.invite.cseq.number,
            via=self.invite.via.branch,
        )
