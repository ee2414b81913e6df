"""SRTP (RFC 3711) with AES-CM and HMAC-SHA1; AES-192 and -256 by RFC 6188.

    RTP header | payload, encrypted | [MKI] | tag over all of it but the MKI, and the ROC

Packets are protected in place, in a buffer with room for `SrtpSender.overhead_bytes` more. A receiver authenticates
before it decrypts or changes any state; what fails is dropped and counted by the caller and never ends a session.
"""

from hashlib import sha1

from .aes_cm import CounterMode
from .compat import const, copy, differs
from .errors import SecurityError, StateError
from .kdf import Hmac
from .replay import WINDOW_SIZE, ReplayWindow
from .rtp import HEADER_BYTES, SEQ_MOD, header_size, seq_delta

__all__ = ["SUITES", "SrtpReceiver", "SrtpSender", "Suite", "session_keys"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aes_cm import NewAes

_LABEL_RTP = const(0)  # section 4.3.2: the labels of encryption, authentication and salt
_AUTH_KEY_BYTES = const(20)
_SALT_BYTES = const(14)
_FRAME_BLOCKS = const(10)  # 160 bytes: 20 ms of G.711
_PLAIN_HEADER = const(0x80)  # version 2; no padding, extension or CSRC
_MAX_SOURCES = const(16)  # under one key: more is no change of address but a game
_MAX_ROC = const(0xFFFFFFFF)  # section 9.2: 2^48 packets under one key


class Suite:
    """A crypto suite of RFC 4568 section 6.2 or RFC 6188.

    Attributes:
        name: as in SDP.
        key_bytes: of the master and session key; 14 bytes of salt follow it in ``inline:``.
        tag_bytes: of an SRTP packet; SRTCP always has 10.
    """

    def __init__(self, name: bytes, key_bytes: int, tag_bytes: int) -> None:
        self.name = name
        self.key_bytes = key_bytes
        self.tag_bytes = tag_bytes
        self.key_salt_bytes = key_bytes + _SALT_BYTES


#: The suites that `SrtpSender` and `SrtpReceiver` know, best first for a weak device.
SUITES = {
    suite.name: suite
    for suite in (
        Suite(b"AES_CM_128_HMAC_SHA1_80", 16, 10),
        Suite(b"AES_CM_128_HMAC_SHA1_32", 16, 4),
        Suite(b"AES_192_CM_HMAC_SHA1_80", 24, 10),
        Suite(b"AES_192_CM_HMAC_SHA1_32", 24, 4),
        Suite(b"AES_256_CM_HMAC_SHA1_80", 32, 10),
        Suite(b"AES_256_CM_HMAC_SHA1_32", 32, 4),
    )
}


def session_keys(
    master_key: bytes, master_salt: bytes, new_aes: "NewAes", label: int = _LABEL_RTP, auth_bytes: int = _AUTH_KEY_BYTES
) -> "tuple[bytes, bytes, bytes]":
    """Derive a session's encryption key, authentication key and salt, with a key derivation rate of 0 (section 4.3.1).

    Args:
        master_key: 16, 24 or 32 bytes.
        master_salt: 14 bytes.
        new_aes: makes an AES block function of a key.
        label: 0 for SRTP, 3 for SRTCP.
        auth_bytes: size of the authentication key.
    """
    encrypt = new_aes(master_key)
    keys = []
    for offset, size in ((0, len(master_key)), (1, auth_bytes), (2, _SALT_BYTES)):
        # x = (label << 48) XOR salt: the label meets byte 7 of the salt.
        salt = bytearray(master_salt)
        salt[7] ^= label + offset
        key = bytearray(size)
        CounterMode(encrypt, bytes(salt), (size + 15) // 16).apply(key, 0, size, 0, 0, 0)
        keys.append(bytes(key))
    return keys[0], keys[1], keys[2]


class _Context:
    """What both directions of one master key have."""

    def __init__(self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes) -> None:
        if len(key_salt) != suite.key_salt_bytes:
            raise ValueError("key and salt of a wrong size")
        size = suite.key_bytes
        key, auth, salt = session_keys(key_salt[:size], key_salt[size:], new_aes)
        self._cipher = CounterMode(new_aes(key), salt, _FRAME_BLOCKS)
        self._mac = Hmac(auth, sha1)
        self._mki = mki
        self._tag_bytes = suite.tag_bytes
        self.overhead_bytes = len(mki) + suite.tag_bytes
        self._ssrc = -1
        self._ssrc_bytes = b""
        self._roc_bytes = bytes(4)  # of the last packet: the same for 65536 of them

    def _see_ssrc(self, packet: bytearray) -> None:
        self._ssrc_bytes = bytes(packet[8:12])
        self._ssrc = int.from_bytes(self._ssrc_bytes, "big")


class SrtpSender(_Context):
    """Protects the packets of one SSRC that we send: that of the first packet.

    Args:
        suite: one of `SUITES`.
        key_salt: master key and salt as in ``inline:``.
        new_aes: makes an AES block function of a key.
        mki: the master key identifier to put into each packet.
    """

    def __init__(self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes = b"") -> None:
        super().__init__(suite, key_salt, new_aes, mki)
        self.roc = 0
        self._last_seq = -1

    def protect(self, packet: bytearray, size: int) -> int:
        """Encrypt and authenticate ``packet[:size]`` in place.

        Sequence numbers have to rise, by less than 2^15 from packet to packet; the rollover counter follows their wrap.

        Args:
            packet: an RTP packet with `overhead_bytes` of room behind ``size``.
            size: of the RTP packet.

        Returns:
            The size of the SRTP packet.

        Raises:
            ValueError: no room in the buffer.
            StateError: the seq is not above the last one (a keystream would be used twice), another SSRC, or the key is
                used up.
        """
        if len(packet) < size + self.overhead_bytes:
            raise ValueError("no room for the tag")
        start = HEADER_BYTES if size >= HEADER_BYTES and packet[0] == _PLAIN_HEADER else header_size(packet, size)
        if self._ssrc_bytes and differs(packet, 8, self._ssrc_bytes, 4):
            raise StateError("another SSRC")
        seq = packet[2] << 8 | packet[3]
        if seq != self._last_seq + 1 or not seq:
            self._follow(seq, packet)
        self._last_seq = seq
        self._cipher.apply(packet, start, size, self._ssrc, self.roc, seq)
        tag = self._mac.digest(memoryview(packet)[:size], self._roc_bytes)
        if self._mki:
            packet[size : size + len(self._mki)] = self._mki
            size += len(self._mki)
        copy(packet, size, tag, self._tag_bytes)
        return size + self._tag_bytes

    def _follow(self, seq: int, packet: bytearray) -> None:
        """Take the first seq, or one that is not just one above the last."""
        last = self._last_seq
        if last < 0:
            self._see_ssrc(packet)
            return
        if seq_delta(seq, last) <= 0:
            raise StateError("RTP seq out of order")
        if seq < last:
            if self.roc == _MAX_ROC:
                raise StateError("SRTP key used up")
            self.roc += 1
            self._roc_bytes = self.roc.to_bytes(4, "big")


class SrtpReceiver(_Context):
    """Opens the packets of one SSRC that a peer sends; the first authentic packet decides which SSRC that is.

    Another one may follow after `allow_source`, and again the first authentic packet decides. None comes back: what was
    recorded of it could be played again.

    Args:
        suite: one of `SUITES`.
        key_salt: master key and salt as in ``inline:``.
        new_aes: makes an AES block function of a key.
        mki: the master key identifier that each packet has to carry.
        window: size of the replay window, a multiple of 8 and at least 64.

    Attributes:
        sources: how many other SSRCs there were before the present one.
    """

    def __init__(
        self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes = b"", window: int = WINDOW_SIZE
    ) -> None:
        super().__init__(suite, key_salt, new_aes, mki)
        self._window = ReplayWindow(window)
        self._window_size = window
        self._roc = 0
        self.sources = 0
        self._past = b""  # those SSRCs
        self._may_change = False

    def allow_source(self) -> None:
        """Let the peer go on with another SSRC under the same key, as after a change of its address."""
        self._may_change = self.sources < _MAX_SOURCES

    def unprotect(self, packet: bytearray, size: int) -> int:
        """Verify and decrypt ``packet[:size]`` in place.

        Args:
            packet: an SRTP packet.
            size: of the SRTP packet.

        Returns:
            The size of the RTP packet.

        Raises:
            ParseError: not RTP.
            SecurityError: too short, another MKI or SSRC, a wrong tag, or a packet seen before or too old. Nothing has
                changed then.
        """
        mki_at = size - self.overhead_bytes
        plain = mki_at >= HEADER_BYTES and packet[0] == _PLAIN_HEADER
        start = HEADER_BYTES if plain else header_size(packet, mki_at)
        if self._mki and packet[mki_at : mki_at + len(self._mki)] != self._mki:
            raise SecurityError("srtp mki")
        is_other = self._ssrc_bytes and differs(packet, 8, self._ssrc_bytes, 4)
        if is_other and not self._may_be(bytes(packet[8:12])):
            raise SecurityError("srtp ssrc")
        seq = packet[2] << 8 | packet[3]
        index = seq if is_other else self._index(seq)
        # Section 3.3 lists the replay check before the tag; both come before any state changes.
        if index < 0 or not (is_other or self._window.is_fresh(index)):
            raise SecurityError("srtp replay")
        roc = index >> 16
        roc_bytes = self._roc_bytes if roc == self._roc else roc.to_bytes(4, "big")
        tag = self._mac.digest(memoryview(packet)[:mki_at], roc_bytes)
        if differs(packet, size - self._tag_bytes, tag, self._tag_bytes):
            raise SecurityError("srtp tag")
        if is_other:
            self._past += self._ssrc_bytes
            self.sources += 1
            self._may_change = False
            self._window = ReplayWindow(self._window_size)
        self._window.add(index)
        if is_other or not self._ssrc_bytes:
            self._see_ssrc(packet)
        self._roc = roc
        self._roc_bytes = roc_bytes
        self._cipher.apply(packet, start, mki_at, self._ssrc, roc, seq)
        return mki_at

    def _may_be(self, ssrc: bytes) -> bool:
        """Whether an SSRC other than the present one may be that of the next packet."""
        past = [self._past[at : at + 4] for at in range(0, len(self._past), 4)]
        return self._may_change and ssrc not in past

    def _index(self, seq: int) -> int:
        """The packet index nearest to the highest one seen (section 3.3.1, appendix A); negative before the first."""
        highest = self._window.highest
        if highest < 0:
            return seq
        index = highest - (highest & 0xFFFF) + seq
        if index - highest > SEQ_MOD // 2:
            return index - SEQ_MOD
        if highest - index > SEQ_MOD // 2:
            return index + SEQ_MOD
        return index
