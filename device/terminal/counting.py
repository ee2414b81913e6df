"""What there was of a call's media so far.

Part of what is loaded on demand: when media ends, and when somebody asks.
"""

from .media import AUDIO

__all__ = ["count"]


def count(part, kind):
    """The statistics of one part of a call's media; nothing changes by that.

    Args:
        part: a `speech.Speech` or a `conversation.Conversation`.
        kind: of its stream.

    Returns:
        Packets ``sent``, ``received``, ``rejected`` (failed a check), ``lost`` (by sequence number) and ``jitter_ms``;
        where the other side has reported it ``far_lost``, ``far_jitter_ms`` and ``round_trip_ms``; of speech ``late``,
        ``waited`` and ``concealed`` (frames), ``skipped`` (samples) and ``delay_ms``.
    """
    stream = part.stream
    found = {
        "sent": stream.sent,
        "received": stream.received,
        "rejected": stream.rejected,
        "jitter_ms": (stream.reception.jitter >> 4) // stream.per_ms,
        "lost": stream.lost + max(0, stream.reception.lost()),
    }
    lost, jitter, trip = stream.reported[3:]
    if jitter >= 0:
        found["far_lost"] = lost
        found["far_jitter_ms"] = jitter // stream.per_ms
    if trip >= 0:
        found["round_trip_ms"] = trip
    if kind == AUDIO:
        buffer = part.jitter
        found["late"] = buffer.late
        found["waited"] = buffer.waited
        found["concealed"] = buffer.concealed
        found["skipped"] = buffer.skipped
        found["delay_ms"] = buffer.delay >> 3
    return found
