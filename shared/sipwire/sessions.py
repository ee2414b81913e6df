"""SRTP with all that a crypto line can ask for: several keys and sources, derivation rates, windows, clear streams.

RFC 4568 section 6. Clear streams are authenticated, but not encrypted.

    packet -> MKI: which master key -> SSRC: which source, and its index -> index / rate: which session keys
           -> the source's own sender or receiver, of `srtp` or `srtcp`

A weak device needs nothing of this, and need not load it. A key counts the packets of all its sources. What a receiver
keeps of a source is made by its first authentic packet, and kept for good: a source that were forgotten could be played
again. Several keys of one line share the index of a source: "the rollover counter ... MUST NOT be reset" (RFC 3711
section 3.3.1).
"""

from .compat import const
from .errors import ParseError, SecurityError, StateError
from .replay import WINDOW_SIZE
from .rtp import HEADER_BYTES
from .srtcp import SrtcpReceiver, SrtcpSender
from .srtp import SrtpReceiver, SrtpSender, nearest

__all__ = ["CM", "Clear", "Kind", "SessionReceiver", "SessionSender", "Terms"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .aes_cm import NewAes
    from .crypto import Crypto, KeyParam
    from .srtp import SrtpContext, Suite

_MAX_SOURCES = const(16)  # of one session, by default: more is refused
_MAX_PACKETS = const(1 << 48)  # RFC 3711 section 9.2, under one key
_MAX_RTCP_PACKETS = const(0x7FFFFFFF)
_MAX_WINDOW = const(0x8000)  # see `ReplayWindow`
_MAX_RATE = const(1 << 24)
_SALT_BYTES = const(14)
_RATE_AT = const(8)  # section 4.3.1: r stands in the last 48 bits of what meets the salt, also for SRTCP in practice
_RTCP_BYTES = const(8)
_INDEX_BYTES = const(4)
_KEPT = const(2)  # session keys of the present index, and of the one before or after, for what comes late


class Terms:
    """What the session parameters of a crypto line change (RFC 4568 section 6.3).

    Attributes:
        rate: of key derivation, in packets: 0 for once and for all, or a power of 2 up to 2^24.
        window: size of the replay window.
        is_clear: whether SRTP is not encrypted.
        is_rtcp_clear: whether SRTCP is not encrypted.
    """

    def __init__(
        self, rate: int = 0, window: int = WINDOW_SIZE, is_clear: bool = False, is_rtcp_clear: bool = False
    ) -> None:
        if rate & (rate - 1) or not 0 <= rate <= _MAX_RATE:
            raise ValueError("key derivation rate")
        self.rate = rate
        self.window = window
        self.is_clear = is_clear
        self.is_rtcp_clear = is_rtcp_clear

    @classmethod
    def of(cls, crypto: "Crypto", allow_clear: bool = False) -> "Terms":
        """The terms of a line.

        Args:
            crypto: the line.
            allow_clear: whether streams may go unencrypted. Unauthenticated ones never may.

        Raises:
            SecurityError: they would go unencrypted or unauthenticated.
            ParseError: it asks for what is not known here (FEC).
        """
        terms = cls()
        for param in crypto.params:
            name, _, value = param.upper().partition(b"=")
            if name == b"KDR":
                terms.rate = 1 << int(value) if int(value) else 0
            elif name == b"WSH":
                # A hint: what is more than we have room for, or no multiple of 8, is brought near it.
                terms.window = min(_MAX_WINDOW, max(WINDOW_SIZE, int(value)) + 7 & ~7)
            elif name == b"UNENCRYPTED_SRTP" and allow_clear:
                terms.is_clear = True
            elif name == b"UNENCRYPTED_SRTCP" and allow_clear:
                terms.is_rtcp_clear = True
            elif name[:2] == b"UN":
                raise SecurityError("srtp encryption")
            elif param[:1] != b"-":
                raise ParseError("crypto", 400, "unknown")
        return terms


class Clear:
    """The cipher of what is not encrypted."""

    def __init__(self, cipher: "Any") -> None:
        pass

    def apply(self, data: bytearray, start: int, end: int, ssrc: int, high: int, low: int) -> None:
        """Leave ``data`` as it is."""


class Kind:
    """How packets are protected.

    Attributes:
        sender, receiver, rtcp_sender, rtcp_receiver: classes like those of `srtp` and `srtcp`.
        clear: makes of a cipher of theirs one that does not encrypt.
        mki_at_end: whether the MKI comes after the tag.
    """

    def __init__(
        self,
        sender: "type[SrtpSender]",
        receiver: "type[SrtpReceiver]",
        rtcp_sender: "type[SrtcpSender]",
        rtcp_receiver: "type[SrtcpReceiver]",
        clear: "Any",
        mki_at_end: bool,
    ) -> None:
        self.sender = sender
        self.receiver = receiver
        self.rtcp_sender = rtcp_sender
        self.rtcp_receiver = rtcp_receiver
        self.clear = clear
        self.mki_at_end = mki_at_end


#: AES in counter mode, HMAC-SHA1: the suites of `srtp.SUITES`.
CM = Kind(SrtpSender, SrtpReceiver, SrtcpSender, SrtcpReceiver, Clear, False)


class _Key:
    """One master key in one direction of SRTP or SRTCP: its session keys, and how many packets are left."""

    def __init__(self, param: "KeyParam", most: int) -> None:
        self.mki = param.mki
        self.left = most if param.lifetime is None else min(most, param.lifetime)
        self.key_salt = param.key_salt
        self.made: "list[tuple[int, Any, Any]]" = []


class _Side:
    """One direction of SRTP, or of SRTCP: its keys and its sources."""

    def __init__(
        self,
        session: "_Session",
        new: "type[SrtpContext]",
        most: int,
        is_clear: bool,
        window: int = 0,
    ) -> None:
        self._session = session
        self._window = window
        self._new = new
        self._is_clear = is_clear
        self.keys = [_Key(param, most) for param in session.keys]
        self._sources: "dict[bytes, Any]" = {}
        self._spare = self._make()

    def _make(self) -> "Any":
        session = self._session
        more = (self._window,) if self._window else ()
        stream: "Any" = self._new(session.suite, session.keys[0].key_salt, session.new_aes, session.keys[0].mki, *more)
        return stream

    def key(self, mki: bytes) -> "_Key | None":
        """The master key of that name."""
        for key in self.keys:
            if key.mki == mki:
                return key
        return None

    def stream(self, ssrc: bytes) -> "Any":
        """The source of that SSRC; the spare one where there is none yet; None where there may be no more."""
        if ssrc in self._sources:
            return self._sources[ssrc]
        return self._spare if len(self._sources) < self._session.max_sources else None

    def use(self, stream: "Any", key: _Key, index: int) -> None:
        """Give a source the session keys that the packet of that index has. A forged one changes nothing by that."""
        session = self._session
        r = index // session.terms.rate if session.terms.rate else 0
        for made in key.made:
            if made[0] == r:
                break
        else:
            size = session.suite.key_bytes
            salt = bytearray(_SALT_BYTES)
            salt[: len(key.key_salt) - size] = key.key_salt[size:]
            for i in range(_SALT_BYTES - _RATE_AT):
                salt[_RATE_AT + i] ^= r >> 40 - 8 * i & 0xFF
            cipher, mac = stream.derive(session.suite, key.key_salt[:size] + bytes(salt), session.new_aes)
            made = (r, session.kind.clear(cipher) if self._is_clear else cipher, mac)
            key.made = [made] + key.made[: _KEPT - 1]
        stream.use(key.mki, made[1], made[2])

    def took(self, stream: "Any", ssrc: bytes, key: _Key) -> None:
        """Count a packet that was sent, or that is authentic."""
        key.left -= 1
        if stream is self._spare:
            self._sources[ssrc] = stream
            self._spare = self._make()


class _Session:
    """The keys of one crypto line.

    Args:
        suite: one of `srtp.SUITES`, or of those that go with another kind.
        keys: of the line, one or more.
        new_aes: makes an AES block function of a key.
        terms: the session parameters of the line.
        kind: how packets are protected.
        max_sources: how many SSRCs there may be.

    Raises:
        ValueError: a key of a wrong size, no key, or several that can't be told apart.
    """

    def __init__(
        self,
        suite: "Suite",
        keys: "list[KeyParam]",
        new_aes: "NewAes",
        terms: "Terms | None" = None,
        kind: Kind = CM,
        max_sources: int = _MAX_SOURCES,
    ) -> None:
        if not keys or [key for key in keys if len(key.key_salt) != suite.key_salt_bytes]:
            raise ValueError("key and salt of a wrong size")
        names = [key.mki for key in keys]
        if [mki for mki in names if names.count(mki) > 1 or len(mki) != len(names[0])]:
            raise ValueError("MKIs that can't be told apart")
        self.suite = suite
        self.keys = keys
        self.new_aes = new_aes
        self.terms = terms or Terms()
        self.kind = kind
        self.max_sources = max_sources
        self._rtp, self._rtcp = self._sides()

    def _sides(self) -> "tuple[_Side, _Side]":
        raise NotImplementedError

    def expire(self, mki: "bytes | None" = None) -> None:
        """Take a key, or all, as used up, as when its time is over."""
        for key in self._rtp.keys + self._rtcp.keys:
            if mki is None or key.mki == mki:
                key.left = 0

    def left(self, mki: "bytes | None" = None) -> int:
        """For how many packets a key is still good, or that which is good for most: of SRTP or SRTCP, what ends first.

        RFC 4568 section 6.1: each of the two has to keep to the lifetime by itself.
        """
        most = 0
        for rtp, rtcp in zip(self._rtp.keys, self._rtcp.keys):
            if mki is None or rtp.mki == mki:
                most = max(most, min(rtp.left, rtcp.left))
        return most


class SessionSender(_Session):
    """Protects packets of several SSRCs; the first key of the line is the one in use until `take_key`."""

    def _sides(self) -> "tuple[_Side, _Side]":
        kind, terms = self.kind, self.terms
        self._mki = self.keys[0].mki
        #: How much longer packets get.
        self.overhead_bytes = len(self._mki) + self.suite.tag_bytes
        return (
            _Side(self, kind.sender, _MAX_PACKETS, terms.is_clear),
            _Side(self, kind.rtcp_sender, _MAX_RTCP_PACKETS, terms.is_rtcp_clear),
        )

    def take_key(self, mki: bytes) -> None:
        """Go on with another key of the line.

        Raises:
            ValueError: there is none of that name.
        """
        if self._rtp.key(mki) is None:
            raise ValueError("no key of that MKI")
        self._mki = mki

    def _ready(self, side: _Side, ssrc: bytes) -> "tuple[Any, _Key]":
        key = side.key(self._mki)
        stream = side.stream(ssrc)
        if stream is None:
            raise StateError("another SSRC than there is room for")
        if key is None or key.left <= 0:
            raise StateError("SRTP key used up")
        return stream, key

    def protect(self, packet: bytearray, size: int) -> int:
        """Encrypt and authenticate ``packet[:size]`` in place, see `SrtpSender.protect`."""
        if size < HEADER_BYTES:
            raise ParseError("RTP")
        ssrc = bytes(packet[8:12])
        stream, key = self._ready(self._rtp, ssrc)
        self._rtp.use(stream, key, stream.index_of(packet[2] << 8 | packet[3]))
        size = stream.protect(packet, size)
        self._rtp.took(stream, ssrc, key)
        return size

    def protect_rtcp(self, packet: bytes) -> bytes:
        """The SRTCP packet of a compound RTCP packet, see `SrtcpSender.protect`."""
        if len(packet) < _RTCP_BYTES:
            raise ParseError("RTCP")
        ssrc = packet[4:8]
        stream, key = self._ready(self._rtcp, ssrc)
        self._rtcp.use(stream, key, stream.index + 1)
        if self.terms.is_rtcp_clear:
            stream.flag = 0
        packet = stream.protect(packet)
        self._rtcp.took(stream, ssrc, key)
        return packet


class SessionReceiver(_Session):
    """Opens packets of several SSRCs, under any key of the line."""

    def _sides(self) -> "tuple[_Side, _Side]":
        kind, terms = self.kind, self.terms
        return (
            _Side(self, kind.receiver, _MAX_PACKETS, terms.is_clear, terms.window),
            _Side(self, kind.rtcp_receiver, _MAX_RTCP_PACKETS, terms.is_rtcp_clear, terms.window),
        )

    def _ready(
        self, side: _Side, packet: "bytes | bytearray", size: int, tag_bytes: int, ssrc: bytes
    ) -> "tuple[Any, _Key, int]":
        """The source and the key of a packet, and where its MKI is."""
        mki_size = len(self.keys[0].mki)
        at = size - mki_size
        if not self.kind.mki_at_end:
            at -= tag_bytes
        key = side.key(bytes(packet[at : at + mki_size]))
        if key is None:
            raise SecurityError("srtp mki")
        stream = side.stream(ssrc)
        if stream is None:
            raise SecurityError("srtp ssrc")
        if key.left <= 0:
            raise SecurityError("srtp lifetime")
        return stream, key, at

    def unprotect(self, packet: bytearray, size: int) -> int:
        """Verify and decrypt ``packet[:size]`` in place, see `SrtpReceiver.unprotect`."""
        if size < HEADER_BYTES + len(self.keys[0].mki) + self.suite.tag_bytes:
            raise ParseError("RTP")
        ssrc = bytes(packet[8:12])
        stream, key, _ = self._ready(self._rtp, packet, size, self.suite.tag_bytes, ssrc)
        seq = packet[2] << 8 | packet[3]
        highest = stream._window.highest
        # A first packet whose rollover counter is not 0 is found by its tag, but only where the rate is 0.
        self._rtp.use(stream, key, seq if highest < 0 else max(0, nearest(seq, highest)))
        size = stream.unprotect(packet, size)
        self._rtp.took(stream, ssrc, key)
        return size

    def unprotect_rtcp(self, packet: bytes) -> bytes:
        """The RTCP packet in an SRTCP packet, see `SrtcpReceiver.unprotect`."""
        tag_bytes = self.kind.rtcp_receiver.tag_bytes
        if len(packet) < _RTCP_BYTES + _INDEX_BYTES + len(self.keys[0].mki) + tag_bytes:
            raise SecurityError("srtcp size")
        ssrc = packet[4:8]
        stream, key, mki_at = self._ready(self._rtcp, packet, len(packet), tag_bytes, ssrc)
        index = int.from_bytes(packet[mki_at - _INDEX_BYTES : mki_at], "big") & _MAX_RTCP_PACKETS
        self._rtcp.use(stream, key, index)
        if self.terms.is_rtcp_clear:
            stream.flag = 0
        packet = stream.unprotect(packet)
        self._rtcp.took(stream, ssrc, key)
        return packet
