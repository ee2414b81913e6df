"""SRTP and SRTCP with AES-GCM (RFC 7714), for peers that speak nothing else; a terminal's cryptography has no GCM.

    RTP header | payload, encrypted, and its tag (16) | [MKI]
    RTCP header and SSRC (8) | rest, encrypted, and its tag (16) | E, index (4) | [MKI]

Indexes, windows, lifetimes and sources are those of `sipwire.srtp` and `srtcp`; what is done to a packet is here. `GCM`
makes sessions of `sipwire.sessions` do it, which know several keys and sources:

    SessionSender(SUITES[name], crypto.keys, new_aes, Terms.of(crypto), GCM)

`SUITES` has the suites of both modules, and `kind_of` tells which is whose.
"""

from typing import TYPE_CHECKING, Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from sipwire import sessions, srtp
from sipwire.errors import SecurityError, StateError
from sipwire.rtp import header_size
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SrtpContext, SrtpReceiver, SrtpSender, Suite, nearest, session_keys

if TYPE_CHECKING:
    from sipwire.aes_cm import NewAes

__all__ = ["GCM", "SUITES", "GcmCipher", "GcmReceiver", "GcmRtcpReceiver", "GcmRtcpSender", "GcmSender", "kind_of"]

_TAG_BYTES = 16
_SALT_BYTES = 12
_PADDED_SALT_BYTES = 14  # section 11: the derivation is that of RFC 3711, whose salt is longer
_CLEAR_BYTES = 8
_INDEX_BYTES = 4
_ENCRYPTED = 0x80000000
_MAX_INDEX = 0x7FFFFFFF


class _GcmSuite(Suite):
    """A suite of RFC 7714 section 14.2; the salt has 12 bytes."""

    def __init__(self, name: bytes, key_bytes: int) -> None:
        super().__init__(name, key_bytes, _TAG_BYTES)
        self.key_salt_bytes = key_bytes + _SALT_BYTES


_GCM_SUITES = {suite.name: suite for suite in (_GcmSuite(b"AEAD_AES_128_GCM", 16), _GcmSuite(b"AEAD_AES_256_GCM", 32))}

#: All suites of the host, by name.
SUITES: dict[bytes, Suite] = {**srtp.SUITES, **_GCM_SUITES}


class GcmCipher:
    """AES-GCM with a session key and salt, and the nonces of RFC 7714 sections 8.1 and 9.1.

    Args:
        key: 16 or 32 bytes.
        salt: 12 bytes.
        is_clear: whether everything is authenticated and nothing encrypted.
    """

    def __init__(self, key: bytes, salt: bytes, is_clear: bool = False) -> None:
        self._key = key
        self._aead = AESGCM(key)
        self._salt = int.from_bytes(salt, "big")
        self.is_clear = is_clear

    def cleared(self) -> "GcmCipher":
        """The same, without encryption."""
        return GcmCipher(self._key, self._salt.to_bytes(_SALT_BYTES, "big"), True)

    def _nonce(self, ssrc: bytes, index: int) -> bytes:
        """For SRTP 0 (16 bits), SSRC (32), ROC and seq (48); for SRTCP 0, SSRC, 0 (16), index (32): the same."""
        return (self._salt ^ (int.from_bytes(ssrc, "big") << 48 | index)).to_bytes(_SALT_BYTES, "big")

    def seal(self, ssrc: bytes, index: int, head: bytes, data: bytes, tail: bytes = b"") -> bytes:
        """What follows ``head`` in a packet, tag included, without ``tail``, which is authenticated too."""
        nonce = self._nonce(ssrc, index)
        if self.is_clear:
            return data + self._aead.encrypt(nonce, b"", head + data + tail)
        return self._aead.encrypt(nonce, data, head + tail)

    def open(self, ssrc: bytes, index: int, head: bytes, data: bytes, tail: bytes = b"") -> bytes:
        """What was sealed; ``data`` has the tag.

        Raises:
            InvalidTag: it was not.
        """
        nonce = self._nonce(ssrc, index)
        if self.is_clear:
            plain = data[:-_TAG_BYTES]
            self._aead.decrypt(nonce, data[-_TAG_BYTES:], head + plain + tail)
            return plain
        return self._aead.decrypt(nonce, data, head + tail)


def _derive(stream: SrtpContext, suite: Suite, key_salt: bytes, new_aes: "NewAes") -> tuple[Any, Any]:
    """The session cipher; there is no MAC besides it."""
    size = suite.key_bytes
    salt = key_salt[size:].ljust(_PADDED_SALT_BYTES, b"\0")
    key, _, session_salt = session_keys(key_salt[:size], salt, new_aes, stream.label)
    return GcmCipher(key, session_salt[:_SALT_BYTES]), None


class GcmSender(SrtpSender):
    """`SrtpSender` with AES-GCM."""

    derive = _derive
    _cipher: Any

    def protect(self, packet: bytearray, size: int) -> int:
        """Encrypt and authenticate ``packet[:size]`` in place, see `SrtpSender.protect`."""
        if len(packet) < size + self.overhead_bytes:
            raise ValueError("no room for the tag")
        start = header_size(packet, size)
        seq = packet[2] << 8 | packet[3]
        self._follow(seq, packet)
        self._last_seq = seq
        head, data = bytes(packet[:start]), bytes(packet[start:size])
        sealed = self._cipher.seal(self._ssrc_bytes, self.roc << 16 | seq, head, data) + self._mki
        packet[start : start + len(sealed)] = sealed
        return start + len(sealed)


class GcmReceiver(SrtpReceiver):
    """`SrtpReceiver` with AES-GCM."""

    derive = _derive
    _cipher: Any

    def unprotect(self, packet: bytearray, size: int) -> int:
        """Verify and decrypt ``packet[:size]`` in place, see `SrtpReceiver.unprotect`."""
        mki_at = size - len(self._mki)
        start = header_size(packet, mki_at - _TAG_BYTES)
        if packet[mki_at:size] != self._mki:
            raise SecurityError("srtp mki")
        ssrc = bytes(packet[8:12])
        is_new = ssrc != self._ssrc_bytes
        seq = packet[2] << 8 | packet[3]
        if is_new:
            self._may_begin(ssrc)
            indexes = {seq, nearest(seq, self._before)}  # see `SrtpReceiver.follow`
        else:
            index = nearest(seq, self._window.highest)
            if not self._window.is_fresh(index):
                raise SecurityError("srtp replay")
            if index > self._end:
                raise SecurityError("srtp lifetime")
            indexes = {index}
        head, data = bytes(packet[:start]), bytes(packet[start:mki_at])
        for index in sorted(indexes):
            try:
                plain = self._cipher.open(ssrc, index, head, data)
            except InvalidTag:
                continue
            if is_new:
                self._begin(ssrc, index)
            self._window.add(index)
            packet[start : start + len(plain)] = plain
            return start + len(plain)
        raise SecurityError("srtp tag")


class GcmRtcpSender(SrtcpSender):
    """`SrtcpSender` with AES-GCM."""

    derive = _derive
    _cipher: Any
    tag_bytes = _TAG_BYTES

    def protect(self, packet: bytes) -> bytes:
        """The SRTCP packet of a compound RTCP packet of at least 8 bytes, see `SrtcpSender.protect`."""
        if not self.left():
            raise StateError("SRTCP key used up")
        self.index += 1
        word = self.index if self._cipher.is_clear else self.index | _ENCRYPTED
        tail = word.to_bytes(_INDEX_BYTES, "big")
        head = packet[:_CLEAR_BYTES]
        sealed: bytes = self._cipher.seal(packet[4:8], self.index, head, packet[_CLEAR_BYTES:], tail)
        return head + sealed + tail + self._mki


class GcmRtcpReceiver(SrtcpReceiver):
    """`SrtcpReceiver` with AES-GCM."""

    derive = _derive
    _cipher: Any
    tag_bytes = _TAG_BYTES

    def unprotect(self, packet: bytes) -> bytes:
        """The RTCP packet in an SRTCP packet, see `SrtcpReceiver.unprotect`."""
        mki_at = len(packet) - len(self._mki)
        end = mki_at - _INDEX_BYTES
        if end < _CLEAR_BYTES + _TAG_BYTES:
            raise SecurityError("srtcp size")
        if packet[mki_at:] != self._mki:
            raise SecurityError("srtcp mki")
        ssrc = packet[4:8]
        is_new = ssrc != self._ssrc_bytes
        if is_new:
            self._may_begin(ssrc)
        tail = packet[end:mki_at]
        word = int.from_bytes(tail, "big")
        index = word & _MAX_INDEX
        # The flag is authenticated, but not by a tag that were the same with and without encryption: so first the flag.
        if bool(word & _ENCRYPTED) == self._cipher.is_clear:
            raise SecurityError("srtcp encryption")
        head = packet[:_CLEAR_BYTES]
        try:
            plain: bytes = self._cipher.open(ssrc, index, head, packet[_CLEAR_BYTES:end], tail)
        except InvalidTag:
            raise SecurityError("srtcp tag") from None
        if is_new:
            self._begin(ssrc, index)
        elif not self._window.is_fresh(index):
            raise SecurityError("srtcp replay")
        elif index > self._end:
            raise SecurityError("srtcp lifetime")
        self._window.add(index)
        return head + plain


#: For sessions of `sipwire.sessions`.
GCM = sessions.Kind(GcmSender, GcmReceiver, GcmRtcpSender, GcmRtcpReceiver, GcmCipher.cleared, True)


def kind_of(suite: Suite) -> sessions.Kind:
    """How the packets of a suite are protected."""
    return GCM if suite.name in _GCM_SUITES else sessions.CM
