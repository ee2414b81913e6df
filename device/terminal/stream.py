"""One media line of a call: RTP in SRTP both ways, with its RTCP; without SRTP only where that was agreed.

    payload --send--> RTP -> SRTP -> socket        datagram --open--> SRTP -> RTP -> payload
                                                   RTCP --> kept until `reports` reads it, every five seconds

Loaded for a call that has media. `arranging` sets it up, by what was agreed, and knows this class from inside. A packet
that fails a check is dropped and counted and changes nothing.
"""

from sipwire.compat import const, differs
from sipwire.errors import ParseError, SecurityError, StateError
from sipwire.reception import Reception, is_rtcp
from sipwire.rtp import HEADER_BYTES, build_header, parse
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender

from .demand import load

__all__ = ["Stream", "new_receiver", "new_sender"]

_MAX_OVERHEAD_BYTES = const(26)  # of SRTP: a tag, and an MKI of up to 16 bytes
_MAX_HEARD = const(3)  # reports kept until they are read; one or two are usual


def new_sender(agreed, new_aes, lifetime=None):
    """What protects the packets that we send.

    Args:
        agreed: a `sipwire.agreed.Agreed`.
        new_aes: makes an AES block function of a key.
        lifetime: packets that the key is good for, None for all that its suite allows.
    """
    if not agreed.suite:
        return load("terminal.unprotected").Unprotected()
    return SrtpSender(SUITES[agreed.suite], agreed.local_key, new_aes, agreed.local_mki, lifetime)


def new_receiver(agreed, new_aes):
    """What opens the packets that the peer sends; arguments as for `new_sender`."""
    if not agreed.suite:
        return load("terminal.unprotected").Unprotected()
    key, mki = agreed.remote_key, agreed.remote_mki
    return SrtpReceiver(SUITES[agreed.suite], key, new_aes, mki, agreed.window, agreed.lifetime)


class Stream:
    """A stream.

    Args:
        media: the `media.Media`: whose sockets it uses.
        at: which of them: RTP's; RTCP's is the next.
        per_ms: units of its clock in a millisecond.
        room: bytes of the largest payload that we send.
        most: bytes of the largest packet that we take.

    Attributes:
        at, per_ms: likewise.
        sender, receiver: of SRTP, or what takes their place.
        past: keys of the peer's before the present one, their receivers, and what was seen of their reports.
        lost: packets lost of sources that are over.
        sources: how many other sources the receiver had before the present one.
        agreed: what it runs by, a `sipwire.agreed.Agreed`.
        seq, timestamp, ssrc: of the next packet that we send.
        sent, octets: packets sent, and the bytes of their payloads.
        received, rejected: packets.
        is_sending: whether the peer has our keys.
        target, rtcp_target: where to send RTP, and RTCP.
        packet: the last one that was opened.
        out: the next one to send: the payload goes behind its 12 bytes of header.
        is_new: whether what was opened last is the first of another source.
        source: the SSRC of the last packet that was opened, 4 bytes.
        reception: of the present source.
        heard: reports that have come and have not been read: (when, datagram).
        keyed_at: since when we send under this key.
        offset: what a clock that counts milliseconds is ahead of ours, for a stream whose clock does not stand still
            between two packets; None for others.
        begun: packets sent, and their bytes, before those of the present SSRC.
        reported: what `reports` keeps: the SRTCP index, what was seen of the peer's, packets sent until the last
            report, and by that of the peer (packets lost, jitter in units of the clock, round trip in ms; -1: unknown).
    """

    def __init__(self, media, at, per_ms, room, most):
        self._media = media
        self.at = at
        self.per_ms = per_ms
        self.agreed = self.sender = self.receiver = self.target = self.rtcp_target = None
        self.past = []
        self.sources = self.seq = self.timestamp = self.ssrc = self.keyed_at = 0
        self.packet = bytearray(most)
        self.out = bytearray(HEADER_BYTES + room + _MAX_OVERHEAD_BYTES)
        self.sent = self.octets = self.received = self.rejected = self.lost = 0
        self.is_sending = self.is_new = False
        self.heard = []
        self.offset = None
        self.begun = (0, 0)
        self.source = bytes(4)
        self.reported = [0, None, 0, -1, -1, -1]
        self.reception = Reception(per_ms)

    def open(self, datagram, now):
        """Open what has come, into ``packet``.

        Returns:
            (payload type, seq, timestamp, start of the payload, end, marker), see `sipwire.rtp.parse`; None where a
            check failed, and for a report.
        """
        if self.rtcp_target is self.target and is_rtcp(datagram):
            self.hear(datagram, now)
            return None
        size = len(datagram)
        packet = self.packet
        packet[:size] = datagram
        try:
            parsed = parse(packet, self.receiver.unprotect(packet, size))
        except (ParseError, SecurityError):
            self.rejected += 1
            return None
        self.is_sending = True  # who sends us authentic packets has our keys
        self.is_new = self.receiver.sources != self.sources
        if self.is_new:
            self.count_lost()
        self.received += 1
        if differs(packet, 8, self.source, 4):
            self.source = bytes(packet[8:12])
        self.reception.receive(packet, now)
        return parsed

    def hear(self, datagram, now):
        """Keep a report, of which nobody knows yet what is in it.

        What is none takes no report's place, as STUN; nor does one of somebody whom we don't hear, if there are many.
        """
        is_full = len(self.heard) == _MAX_HEARD
        if not is_rtcp(datagram) or (is_full and datagram[4:8] != self.source):
            self.rejected += 1
            return
        if is_full:
            self.rejected += 1
            self.heard.pop(0)
        self.heard.append((now, bytes(datagram)))

    def count_lost(self):
        """Count what was lost of a source that is over; returns the sum of all."""
        self.lost += max(0, self.reception.lost())
        self.reception = Reception(self.per_ms)
        self.sources = self.receiver.sources
        return self.lost

    def send(self, payload_type, size, marker):
        """Send what is in ``out``, ``size`` bytes behind its header.

        Raises:
            ValueError: our key is used up.
        """
        packet = self.out
        build_header(packet, payload_type, self.seq, self.timestamp, self.ssrc, marker)
        try:
            end = self.sender.protect(packet, HEADER_BYTES + size)
        except StateError as error:
            raise ValueError(str(error))
        self.seq = (self.seq + 1) & 0xFFFF
        if self.put(self.at, memoryview(packet)[:end], self.target):
            self.sent += 1
            self.octets += size

    def put(self, at, data, target):
        """Send a datagram by the socket of a number; returns whether it could be sent."""
        try:
            self._media.sockets[at].sendto(data, target)
        except OSError:
            return False  # no buffer, no route, nobody there: the call goes on
        return True
