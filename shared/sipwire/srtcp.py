"""SRTCP (RFC 3711 section 3.4) with the suites of `srtp`.

RTCP header and SSRC (8) | rest, encrypted | E, index (4) | [MKI] | tag (10) over all of it but the MKI
"""

from .compat import const
from .errors import SecurityError, StateError
from .kdf import same
from .srtp import Receiver, SrtpContext

__all__ = ["SrtcpReceiver", "SrtcpSender"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .replay import ReplayWindow

_LABEL_RTCP = const(3)
_CLEAR_BYTES = const(8)
_INDEX_BYTES = const(4)
_TAG_BYTES = const(10)  # RFC 4568 section 6.2: of 80 bits also where SRTP's tag has 32
_BLOCKS = const(2)  # a packet every few seconds need not be fast
_ENCRYPTED = const(0x80)
_MAX_INDEX = const(0x7FFFFFFF)  # RFC 3711 section 9.2: 2^31 packets under one key


class SrtcpSender(SrtpContext):
    """Protects the compound packets of one sender; arguments as for `srtp.SrtpSender`."""

    label = _LABEL_RTCP
    blocks = _BLOCKS
    tag_bytes = _TAG_BYTES
    flag = _ENCRYPTED

    #: The index of the last packet; the first one has 1, as libsrtp counts.
    index = 0

    def left(self) -> int:
        """For how many packets the key is still good."""
        left: int = max(0, min(self._end + 1, _MAX_INDEX) - self.index)
        return left

    def protect(self, packet: bytes) -> bytes:
        """The SRTCP packet of a compound RTCP packet of at least 8 bytes.

        Raises:
            StateError: the key is used up: take another key.
        """
        if not self.left():
            raise StateError("SRTCP key used up")
        self.index += 1
        data = bytearray(packet)
        self._apply(data, len(data), self.index)
        data += self.index.to_bytes(4, "big")
        data[-4] |= self.flag
        return bytes(data) + self._mki + self._mac.digest(data)[:_TAG_BYTES]


class SrtcpReceiver(Receiver):
    """Opens the packets of one sender; arguments and attributes as for `srtp.Receiver`."""

    label = _LABEL_RTCP
    blocks = _BLOCKS
    tag_bytes = _TAG_BYTES
    flag = _ENCRYPTED

    def pause(self) -> "tuple[ReplayWindow, bytes, bytes, int, int]":
        """What it has seen, as data for `resume`: a receiver is needed every few seconds, and need not live between."""
        return self._window, self._ssrc_bytes, self._past, self.sources, self._end

    def resume(self, seen: "tuple[ReplayWindow, bytes, bytes, int, int]") -> None:
        """Go on where another receiver of the same key has paused."""
        self._window, self._ssrc_bytes, self._past, self.sources, self._end = seen

    def unprotect(self, packet: bytes) -> bytes:
        """The RTCP packet in an SRTCP packet.

        Raises:
            SecurityError: too short, another MKI or SSRC, a wrong tag, not encrypted, a packet seen before or too old,
                or the key is used up. Nothing has changed then.
        """
        tag_at = len(packet) - _TAG_BYTES
        mki_at = tag_at - len(self._mki)
        end = mki_at - _INDEX_BYTES
        if end < _CLEAR_BYTES:
            raise SecurityError("srtcp size")
        if packet[mki_at:tag_at] != self._mki:
            raise SecurityError("srtcp mki")
        ssrc = packet[4:_CLEAR_BYTES]
        is_new = ssrc != self._ssrc_bytes
        if is_new:
            self._may_begin(ssrc)
        if not same(self._mac.digest(packet[:mki_at])[:_TAG_BYTES], packet[tag_at:]):
            raise SecurityError("srtcp tag")
        if packet[end] & _ENCRYPTED != self.flag:
            raise SecurityError("srtcp encryption")
        index = int.from_bytes(packet[end:mki_at], "big") & _MAX_INDEX
        if is_new:
            self._begin(ssrc, index)
        elif not self._window.is_fresh(index):
            raise SecurityError("srtcp replay")
        elif index > self._end:
            raise SecurityError("srtcp lifetime")
        self._window.add(index)
        data = bytearray(packet[:end])
        self._apply(data, end, index)
        return bytes(data)
