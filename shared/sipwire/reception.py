"""What is counted for every RTP packet of one source (RFC 3550 appendices A.1, A.3 and A.8), for `rtcp` to report.

    RTP packet --receive--> is its sequence number plausible? --> highest, received, jitter --every 5 s--> rtcp.block

It stays in memory for the whole call, so it is a handful of small integers, and a packet allocates nothing: timestamps
are compared by their low 24 bits, which is over 17 minutes at 8000 Hz.
"""

from .compat import const

__all__ = ["Reception", "is_rtcp"]

_SEQ_MOD = const(0x10000)
_MAX_DROPOUT = const(3000)  # appendix A.1: packets missing before it is another beginning, and not a loss
_MAX_MISORDER = const(100)  # appendix A.1: as late as that is late, and not another beginning
_CLOCK_MASK = const(0xFFFFFF)
_CLOCK_HALF = const(0x800000)


def is_rtcp(packet: "bytes | bytearray") -> bool:
    """Whether a packet on a port with ``a=rtcp-mux`` is RTCP (RFC 5761 section 4): its second byte is 192 to 223.

    RTP must not use the payload types 64 to 95 there, so that the two never look alike.
    """
    return len(packet) > 1 and packet[1] & 0xE0 == 0xC0


class Reception:
    """The statistics of one source.

    Args:
        per_ms: units of its clock in a millisecond: 8 of G.711, 1 of text.
        probation: packets that have to come one right after the other before the source counts (section 6.2.1 and
            appendix A.1 say 2). 0 where each packet is authenticated, which says more.

    Attributes:
        highest: the highest sequence number, with the count of its wraps above 16 bits; -1 before the first packet.
        received: packets counted since the source began, late and doubled ones among them.
        jitter: of arrival, 16 times as many units of the clock as are reported.
        sr: the middle 32 bits of the NTP time in the last sender report; 0 where there was none.
        sr_at_ms: when that came.
        expected_prior: packets expected up to the last report block.
        received_prior: packets received up to the last report block.
    """

    def __init__(self, per_ms: int, probation: int = 0) -> None:
        self._per_ms = per_ms
        self._sequential = max(0, probation - 1)
        self._probation = probation
        self.sr = self.sr_at_ms = 0
        self._begin(-1)

    def _begin(self, seq: int) -> None:
        self.highest = self._first = seq
        self._bad_seq = -1
        self.received = 0
        self.jitter = self.expected_prior = self.received_prior = 0
        self._transit = -1

    def receive(self, packet: "bytes | bytearray", now: int) -> bool:
        """Count an RTP packet.

        Args:
            packet: with at least the 12 bytes of its header.
            now: milliseconds, the time of its arrival.

        Returns:
            Whether the source is to be believed: False while it is on probation, and when its sequence numbers leap
            once. When they go on from where they leapt to, it is a new beginning, and everything is counted anew.
        """
        seq = packet[2] << 8 | packet[3]
        highest = self.highest
        if highest < 0 or self._probation:
            if self._probation:
                # Appendix A.1: a source is valid after so many packets one right after the other.
                in_order = highest >= 0 and seq == highest + 1 & 0xFFFF
                self._probation = self._probation - 1 if in_order else self._sequential
                self.highest = seq
                if self._probation:
                    return False
            self._begin(seq)
        else:
            ahead = seq - highest & 0xFFFF
            if ahead < _MAX_DROPOUT:
                self.highest = highest + ahead  # `rtcp` cuts it off at 32 bits, after years
            elif ahead <= _SEQ_MOD - _MAX_MISORDER:
                if seq != self._bad_seq:
                    self._bad_seq = seq + 1 & 0xFFFF
                    return False
                self._begin(seq)
        self.received += 1
        # Both are below 2^24, and per_ms is below 64, so that all of this is small integers on 32 bits.
        timestamp = packet[5] << 16 | packet[6] << 8 | packet[7]
        transit = (now & _CLOCK_MASK) * self._per_ms - timestamp & _CLOCK_MASK
        if self._transit >= 0:
            change = abs((transit - self._transit + _CLOCK_HALF & _CLOCK_MASK) - _CLOCK_HALF)
            self.jitter += change - (self.jitter + 8 >> 4)
        self._transit = transit
        return True

    def expected(self) -> int:
        """How many packets there should be by now: from the first one's sequence number to the highest."""
        return self.highest - self._first + 1 if self.highest >= 0 else 0

    def lost(self) -> int:
        """How many have never come; negative where more came twice than were lost (section 6.4.1)."""
        return self.expected() - self.received
