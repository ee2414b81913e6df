"""SRTP (RFC 3711) with AES-CM and HMAC-SHA1; AES-192 and -256 by RFC 6188.

    RTP header | payload, encrypted | [MKI] | tag over all of it but the MKI, and the ROC

Packets are protected in place, in a buffer with room for `SrtpSender.overhead_bytes` more. A receiver authenticates
before it decrypts or changes any state; what fails is dropped and counted by the caller and never ends a session.

Here is what a weak device needs: one key, one SSRC at a time. `sessions` adds what else a crypto line can ask for.
"""

from hashlib import sha1

from .aes_cm import CounterMode
from .compat import const, copy, differs
from .errors import SecurityError, StateError
from .kdf import Hmac
from .replay import WINDOW_SIZE, ReplayWindow
from .rtp import HEADER_BYTES, SEQ_MOD, header_size, seq_delta

__all__ = ["SUITES", "Receiver", "SrtpContext", "SrtpReceiver", "SrtpSender", "Suite", "nearest", "session_keys"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aes_cm import NewAes

_LABEL_RTP = const(0)  # section 4.3.2: the labels of encryption, authentication and salt
_AUTH_KEY_BYTES = const(20)
_SALT_BYTES = const(14)
_FRAME_BLOCKS = const(10)  # 160 bytes: 20 ms of G.711
_PLAIN_HEADER = const(0x80)  # version 2; no padding, extension or CSRC
_MAX_SOURCES = const(16)  # under one key: more is no change of address but a game
_MAX_INDEX = const(0xFFFFFFFFFFFF)  # section 9.2: 2^48 packets under one key
_NEVER = const(-2)  # no seq, and not just below one either


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


class SrtpContext:
    """What both directions of one master key have, in SRTP and SRTCP.

    Args:
        suite: one of `SUITES`.
        key_salt: master key and salt as in ``inline:``.
        new_aes: makes an AES block function of a key.
        mki: the master key identifier of each packet.
        lifetime: how many packets the key is good for; None for as many as there can be.
    """

    label = _LABEL_RTP
    blocks = _FRAME_BLOCKS
    tag_bytes: int = 0  # the suite's

    def __init__(
        self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes = b"", lifetime: "int | None" = None
    ) -> None:
        if len(key_salt) != suite.key_salt_bytes:
            raise ValueError("key and salt of a wrong size")
        self._tag_bytes: int = self.tag_bytes or suite.tag_bytes
        self.use(mki, *self.derive(suite, key_salt, new_aes))
        self._ssrc = -1
        self._ssrc_bytes = b""
        self._look = True  # at the end of the key with each packet: in its last 65536
        # The highest index that the key is good for, counted from -1, the one before all, until the first is known.
        self._end: int = _MAX_INDEX if lifetime is None else lifetime - 1

    def derive(self, suite: Suite, key_salt: bytes, new_aes: "NewAes") -> "tuple[CounterMode, Hmac]":
        """The session keys of a master key and salt, ready for `use`."""
        size = suite.key_bytes
        key, auth, salt = session_keys(key_salt[:size], key_salt[size:], new_aes, self.label)
        return CounterMode(new_aes(key), salt, self.blocks), Hmac(auth, sha1)

    def use(self, mki: bytes, cipher: CounterMode, mac: Hmac) -> None:
        """Go on with these keys; indexes go on as they are ("MUST NOT be reset", section 3.3.1)."""
        self._mki = mki
        self._cipher = cipher
        self._mac = mac
        self.overhead_bytes = len(mki) + self._tag_bytes

    def _count_from(self, index: int, highest: int) -> None:
        """Let what is left of the key after ``highest`` begin at ``index``."""
        self._end = min(self._end + index - highest - 1, _MAX_INDEX)
        self._look = True

    def expire(self) -> None:
        """Take the key as used up, as when its time is over: nothing passes any more."""
        self._end = -1
        self._look = True

    def _apply(self, packet: bytearray, end: int, index: int) -> None:
        """Encrypt or decrypt an RTCP packet behind its SSRC, in place."""
        ssrc = int.from_bytes(packet[4:8], "big")
        self._cipher.apply(packet, 8, end, ssrc, index >> 16, index & 0xFFFF)

    def _see_ssrc(self, ssrc: bytes) -> None:
        self._ssrc_bytes = ssrc
        self._ssrc = int.from_bytes(ssrc, "big")


class SrtpSender(SrtpContext):
    """Protects the packets of one SSRC that we send: that of the first packet; arguments as for `SrtpContext`."""

    def __init__(
        self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes = b"", lifetime: "int | None" = None
    ) -> None:
        super().__init__(suite, key_salt, new_aes, mki, lifetime)
        self.roc = 0
        self._roc_bytes = b""
        self._last_seq: int = _NEVER

    def left(self) -> int:
        """For how many packets the key is still good; time for another key before it is 0."""
        if self._last_seq < 0 or self._end < 0:
            return self._end + 1
        return self._end - (self.roc << 16 | self._last_seq)

    def protect(self, packet: bytearray, size: int) -> int:
        """Encrypt and authenticate ``packet[:size]`` in place.

        Sequence numbers have to rise, by less than 2^15 from packet to packet; the rollover counter follows their wrap.

        Args:
            packet: an RTP packet, with room for `overhead_bytes` after it.
            size: of the RTP packet.

        Returns:
            The size of the SRTP packet.

        Raises:
            ParseError: not RTP.
            StateError: the sequence number did not rise, another SSRC, or the key is used up (section 9.2): take
                another key. Nothing has changed then.
            ValueError: no room.
        """
        if len(packet) < size + self.overhead_bytes:
            raise ValueError("no room for the tag")
        start = HEADER_BYTES if size >= HEADER_BYTES and packet[0] == _PLAIN_HEADER else header_size(packet, size)
        seq = packet[2] << 8 | packet[3]
        if self._look or seq != self._last_seq + 1 or differs(packet, 8, self._ssrc_bytes, 4):
            self._follow(seq, packet)
        self._last_seq = seq
        self._cipher.apply(packet, start, size, self._ssrc, self.roc, seq)
        tag = self._mac.digest(memoryview(packet)[:size], self._roc_bytes)
        if self._mki:
            packet[size : size + len(self._mki)] = self._mki
            size += len(self._mki)
        tag_bytes = self._tag_bytes
        copy(packet, size, tag, 0, tag_bytes)
        return size + tag_bytes

    def index_of(self, seq: int) -> int:
        """The packet index that ``seq`` has next.

        Raises:
            StateError: it does not rise, so one keystream would be used twice.
        """
        last = self._last_seq
        if last < 0:
            return self.roc << 16 | seq
        ahead = seq_delta(seq, last)
        if ahead <= 0:
            raise StateError("RTP seq out of order")
        return (self.roc << 16 | last) + ahead

    def _follow(self, seq: int, packet: bytearray) -> None:
        """Take the first packet, or one that does not just follow the last, or one of the last 65536 of the key."""
        index = self.index_of(seq)
        if not self.left() or (self._ssrc_bytes and index > self._end):
            raise StateError("SRTP key used up")
        if not self._ssrc_bytes:
            self._see_ssrc(bytes(packet[8:12]))
            self._count_from(index, -1)
        elif differs(packet, 8, self._ssrc_bytes, 4):
            raise StateError("another SSRC")
        self.roc = index >> 16
        self._roc_bytes = self.roc.to_bytes(4, "big")
        self._look = self.roc >= self._end >> 16


class Receiver(SrtpContext):
    """What receivers of SRTP and SRTCP have: one source, and what it has sent.

    The first authentic packet decides which SSRC that is. Another one may follow after `allow_source`, and again the
    first authentic packet decides. None comes back: what was recorded of it could be played again.

    Args:
        suite: one of `SUITES`.
        key_salt: master key and salt as in ``inline:``.
        new_aes: makes an AES block function of a key.
        mki: the master key identifier that each packet has to carry.
        window: size of the replay window, see `ReplayWindow`.
        lifetime: how many packets the key is good for; None for as many as there can be.

    Attributes:
        sources: how many other SSRCs there were before the present one.
    """

    def __init__(
        self,
        suite: Suite,
        key_salt: bytes,
        new_aes: "NewAes",
        mki: bytes = b"",
        window: int = WINDOW_SIZE,
        lifetime: "int | None" = None,
    ) -> None:
        super().__init__(suite, key_salt, new_aes, mki, lifetime)
        self._window = ReplayWindow(window)
        self._window_size = window
        self.sources = 0
        self._past = b""  # those SSRCs
        self._may_change = False

    def allow_source(self) -> None:
        """Let the peer go on with another SSRC under the same key, as after a change of its address."""
        self._may_change = self.sources < _MAX_SOURCES

    def _may_begin(self, ssrc: bytes) -> None:
        """Raise unless a packet of another SSRC than the present one may be the next."""
        past = [self._past[at : at + 4] for at in range(0, len(self._past), 4)]
        if self._ssrc_bytes and (not self._may_change or ssrc in past):
            raise SecurityError("srtp ssrc")
        if self._window.highest >= self._end:
            raise SecurityError("srtp lifetime")

    def _begin(self, ssrc: bytes, index: int) -> None:
        """Take the first packet of a source, which is authentic."""
        if self._ssrc_bytes:
            self._past += self._ssrc_bytes
            self.sources += 1
            self._may_change = False
        self._count_from(index, self._window.highest)
        self._window = ReplayWindow(self._window_size)
        self._see_ssrc(ssrc)


class SrtpReceiver(Receiver):
    """Opens the packets of one SSRC that a peer sends; arguments and attributes as for `Receiver`."""

    _roc = -1  # of the last packet: the same for 65536 of them
    _roc_bytes = b""
    _before = 0xFFFF  # before the first packet: what was lost may have wrapped

    def follow(self, before: "SrtpReceiver") -> None:
        """Come after the receiver of another key of the peer's.

        Its rollover counter goes on ("MUST NOT be reset to zero", section 3.3.1), or begins anew, as many do it: the
        first authentic packet shows which.
        """
        self._before = max(0xFFFF, before._window.highest)

    def unprotect(self, packet: bytearray, size: int) -> int:
        """Verify and decrypt ``packet[:size]`` in place.

        Args:
            packet: an SRTP packet.
            size: of the SRTP packet.

        Returns:
            The size of the RTP packet.

        Raises:
            ParseError: not RTP.
            SecurityError: too short, another MKI or SSRC, a wrong tag, a packet seen before or too old, or the key is
                used up. Nothing has changed then.
        """
        mki_at = size - self.overhead_bytes
        plain = mki_at >= HEADER_BYTES and packet[0] == _PLAIN_HEADER
        start = HEADER_BYTES if plain else header_size(packet, mki_at)
        if self._mki and packet[mki_at : mki_at + len(self._mki)] != self._mki:
            raise SecurityError("srtp mki")
        is_new = not self._ssrc_bytes or differs(packet, 8, self._ssrc_bytes, 4)
        seq = packet[2] << 8 | packet[3]
        if is_new:
            self._may_begin(bytes(packet[8:12]))
            index = seq
        else:
            index = nearest(seq, self._window.highest)
            # Section 3.3 lists the replay check before the tag; both come before any state changes.
            if not self._window.is_fresh(index):
                raise SecurityError("srtp replay")
        roc = index >> 16
        if self._look and not is_new and index > self._end:
            raise SecurityError("srtp lifetime")
        roc_bytes = self._roc_bytes if roc == self._roc else roc.to_bytes(4, "big")
        tag = self._mac.digest(memoryview(packet)[:mki_at], roc_bytes)
        if differs(packet, size - self._tag_bytes, tag, self._tag_bytes):
            index = nearest(seq, self._before)
            if not is_new or index > _MAX_INDEX:
                raise SecurityError("srtp tag")
            roc = index >> 16
            roc_bytes = roc.to_bytes(4, "big")
            tag = self._mac.digest(memoryview(packet)[:mki_at], roc_bytes)
            if differs(packet, size - self._tag_bytes, tag, self._tag_bytes):
                raise SecurityError("srtp tag")
        if is_new:
            self._begin(bytes(packet[8:12]), index)
        self._window.add(index)
        if roc != self._roc:
            self._roc = roc
            self._roc_bytes = roc_bytes
            self._look = (self._window.highest >> 16) + 1 >= self._end >> 16
        self._cipher.apply(packet, start, mki_at, self._ssrc, roc, seq)
        return mki_at


def nearest(seq: int, highest: int) -> int:
    """The packet index of ``seq`` nearest to the highest one seen (section 3.3.1, appendix A); negative before all."""
    index = highest - (highest & 0xFFFF) + seq
    if index - highest > SEQ_MOD // 2:
        return index - SEQ_MOD
    if highest - index > SEQ_MOD // 2:
        return index + SEQ_MOD
    return index
