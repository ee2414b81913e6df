"""SRTCP (RFC 3711 section 3.4) with the suites of `srtp`.

RTCP header and SSRC (8) | rest, encrypted | E, index (4) | [MKI] | tag (10) over all of it but the MKI
"""

from hashlib import sha1

from .aes_cm import CounterMode
from .errors import SecurityError, StateError
from .kdf import Hmac, same
from .replay import ReplayWindow
from .srtp import Suite, session_keys

__all__ = ["SrtcpReceiver", "SrtcpSender"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aes_cm import NewAes

_LABEL_RTCP = 3
_CLEAR_BYTES = 8
_INDEX_BYTES = 4
_TAG_BYTES = 10  # RFC 4568 section 6.2: of 80 bits also where SRTP's tag has 32
_ENCRYPTED = 0x80
_MAX_INDEX = 0x7FFFFFFF


class _Context:
    def __init__(self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes = b"") -> None:
        if len(key_salt) != suite.key_salt_bytes:
            raise ValueError("key and salt of a wrong size")
        size = suite.key_bytes
        key, auth, salt = session_keys(key_salt[:size], key_salt[size:], new_aes, _LABEL_RTCP)
        self._cipher = CounterMode(new_aes(key), salt, 8)
        self._mac = Hmac(auth, sha1)
        self._mki = mki

    def _tag(self, packet: "bytes | bytearray") -> bytes:
        return self._mac.digest(packet)[:_TAG_BYTES]


class SrtcpSender(_Context):
    """Protects the compound packets of one sender; arguments as for `srtp.SrtpSender`."""

    #: The index of the last packet; the first one has 1, as libsrtp counts.
    index = 0

    def protect(self, packet: bytes) -> bytes:
        """The SRTCP packet of a compound RTCP packet of at least 8 bytes.

        Raises:
            StateError: the key is used up after 2^31 packets.
        """
        if self.index >= _MAX_INDEX:
            raise StateError("SRTCP key used up")
        self.index += 1
        data = bytearray(packet)
        self._cipher.apply(
            data, _CLEAR_BYTES, len(data), int.from_bytes(packet[4:8], "big"), self.index >> 16, self.index & 0xFFFF
        )
        data += self.index.to_bytes(4, "big")
        data[-4] |= _ENCRYPTED
        return bytes(data) + self._mki + self._tag(data)


class SrtcpReceiver(_Context):
    """Opens the packets of one sender; arguments as for `srtp.SrtpReceiver`."""

    def __init__(self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes = b"") -> None:
        super().__init__(suite, key_salt, new_aes, mki)
        self._window = ReplayWindow()

    def unprotect(self, packet: bytes) -> bytes:
        """The RTCP packet in an SRTCP packet.

        Raises:
            SecurityError: too short, another MKI, a wrong tag, not encrypted, or a packet seen before or too old.
        """
        tag_at = len(packet) - _TAG_BYTES
        mki_at = tag_at - len(self._mki)
        end = mki_at - _INDEX_BYTES
        if end < _CLEAR_BYTES:
            raise SecurityError("srtcp size")
        if packet[mki_at:tag_at] != self._mki:
            raise SecurityError("srtcp mki")
        if not same(self._tag(packet[:mki_at]), packet[tag_at:]):
            raise SecurityError("srtcp tag")
        if not packet[end] & _ENCRYPTED:
            raise SecurityError("srtcp encryption")
        index = int.from_bytes(packet[end:mki_at], "big") & _MAX_INDEX
        if not self._window.is_fresh(index):
            raise SecurityError("srtcp replay")
        self._window.add(index)
        data = bytearray(packet[:end])
        self._cipher.apply(data, _CLEAR_BYTES, end, int.from_bytes(packet[4:8], "big"), index >> 16, index & 0xFFFF)
        return bytes(data)
