"""What a relay has seen of a call, as plain data for call record and metrics."""

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["SideStatistics", "Statistics"]


@dataclass(frozen=True)
class SideStatistics:
    """What came from one party, and what went to it.

    Attributes:
        packets: RTP and RTCP that was valid: authentic, or without SRTP from the signalled address.
        bytes: of those, as they came.
        rtcp: how many of them were RTCP.
        sent: packets that went to this party.
        first_ms: when the first valid one came, in milliseconds after the relay began; None for never.
        last_ms: likewise, the last.
        moves: how often its address changed after the first.
        dropped: packets that did not go on, by reason.
    """

    packets: int
    bytes: int
    rtcp: int
    sent: int
    first_ms: int | None
    last_ms: int | None
    moves: int
    dropped: dict[str, int]


@dataclass(frozen=True)
class Statistics:
    """Of one relay.

    Attributes:
        duration_ms: from its beginning to its end, or until now.
        sides: the offerer's and the answerer's.
    """

    duration_ms: int
    sides: tuple[SideStatistics, SideStatistics]

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)
