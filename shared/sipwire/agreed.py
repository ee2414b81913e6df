"""What offer and answer have agreed on for one stream: `offer` and `answer` make it, and media runs by it.

It is all of an offer and its answer that a call keeps, so it stands apart from what reads and writes them.
"""

__all__ = ["Agreed"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence


class Agreed:
    """One stream.

    Attributes:
        kind: ``b"audio"`` or ``b"text"``.
        index: of its m= line, from 0.
        address, port: where to send.
        rtcp_port: where to send RTCP: ``port`` where the two share it (RFC 5761), 0 where there is none to send to.
        payload_type: of the codec: 0 (PCMU) or 8 (PCMA), or that of T.140.
        event_type: of telephone-event, or -1.
        red_type: of text with redundancy (RFC 4103), or -1; then it is what is sent.
        generations: of redundancy, 0 where there is none.
        mixer: whether text of several sources may come in one stream (RFC 9071).
        cps: how many characters a second the peer takes.
        tag: of the crypto line.
        suite: name of the SRTP suite, b"" for RTP.
        local_key, remote_key: master key and salt of what we send and of what the peer sends.
        local_mki, remote_mki: the master key identifiers in packets, b"" for none.
        lifetime: packets that the peer's key may protect, None for all that its suite allows.
        more_keys: (key and salt, MKI, lifetime) of other keys that the peer may send with.
        kdr: n of the peer's key derivation rate of 2^n packets, 0 for none; ours has none.
        window: packets of the replay window that the peer wishes for, 64 to 1024.
        direction: from our side, e.g. ``b"sendrecv"``.
    """

    # What few streams have takes no room in the others.
    rtcp_port = 0
    payload_type = 0
    event_type = -1
    red_type = -1
    generations = 0
    mixer = False
    cps = 30
    tag = 0
    suite = b""
    local_key = b""
    remote_key = b""
    local_mki = b""
    remote_mki = b""
    lifetime: "int | None" = None
    more_keys: "Sequence[tuple[bytes, bytes, int | None]]" = ()
    kdr = 0
    window = 64
    direction = b"sendrecv"

    def __init__(self, kind: bytes, index: int) -> None:
        self.kind = kind
        self.index = index
        self.address = b""
        self.port = 0

    @property
    def talks(self) -> bool:
        """Whether its direction lets us send."""
        return self.direction in (b"sendrecv", b"sendonly")

    @property
    def hears(self) -> bool:
        """Whether its direction lets us receive."""
        return self.direction in (b"sendrecv", b"recvonly")
