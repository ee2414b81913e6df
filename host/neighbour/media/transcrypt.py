"""SRTP and SRTCP with the keys of one direction: opening what a party sends, sealing what is sent to it.

pylibsrtp (libsrtp) knows AES-CM with 128 bits and AES-GCM. What it lacks is done here or by `sipwire`:

    MKI                         cut out before libsrtp opens a packet, put in after it has sealed one: it is not
                                authenticated (RFC 3711 section 3.1)
    AES-CM with 192, 256 bits,
    a key derivation rate       `sipwire.sessions`, several times slower

A packet that can't be opened or sealed raises one of `BAD`, `reason` says which kind of thing was wrong, and nothing
has changed then: no replay window, no rollover counter.
"""

from typing import TYPE_CHECKING, Any, Protocol

import pylibsrtp
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib  # type: ignore[import-not-found]  # compiled, without types

from sipwire import sessions
from sipwire.crypto import KeyParam
from sipwire.errors import SecurityError, SipError, StateError
from sipwire.replay import ReplayWindow
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SrtpReceiver, SrtpSender, Suite, nearest

from ..aes import new_aes
from . import gcm

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipwire.aes_cm import NewAes

    from .keys import Keys

__all__ = ["BAD", "MAX_BYTES", "Opener", "Sealer", "new_opener", "new_sealer", "reason"]

#: The largest packet that is opened or sealed: no link takes more.
MAX_BYTES = 1500
#: What a packet that can't be opened or sealed raises.
BAD = (pylibsrtp.Error, SipError, ValueError)

_REASONS = {
    "authentication failure": "tag",
    "replay check failed (bad index)": "replay",
    "replay check failed (index too old)": "late",
    "unable to perform desired validation": "encryption",
    "can't use key any more": "key used up",
    "error parsing data": "form",
    "srtp tag": "tag",
    "srtcp tag": "tag",
    "srtp replay": "replay",
    "srtcp replay": "replay",
    "srtp mki": "mki",
    "srtcp mki": "mki",
    "srtcp encryption": "encryption",
    "RTP seq out of order": "late",
    "srtp ssrc": "sources",
    "another SSRC than there is room for": "sources",
}
_PROFILES = {
    b"AES_CM_128_HMAC_SHA1_80": Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    b"AES_CM_128_HMAC_SHA1_32": Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    b"AEAD_AES_128_GCM": Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    b"AEAD_AES_256_GCM": Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
# What follows the MKI of an SRTP packet, by suite; nothing in GCM, whose tag is part of the ciphertext (RFC 7714
# section 8.3). Of SRTCP it is 80 bits (RFC 4568 section 6.2), and nothing in GCM.
_BEHIND_MKI = {b"AES_CM_128_HMAC_SHA1_80": 10, b"AES_CM_128_HMAC_SHA1_32": 4}
_RTCP_TAG_BYTES = 10
_INDEX_BYTES = 4
# libsrtp works in place: all packets, one after the other, in this buffer. A tag and an MKI need 144 bytes more.
_BUFFER = ffi.new("char[]", MAX_BYTES + 512)
_VIEW = ffi.buffer(_BUFFER)
_SIZE = ffi.new("int *")
_NO_TAG = (b"AEAD_AES_128_GCM", b"AEAD_AES_256_GCM")  # theirs stands before the index
_LATE = 128  # packets that one may come after those it was sent before; libsrtp has as many


class Opener(Protocol):
    """Opens packets of one party.

    Attributes:
        behind_index: how many bytes of an SRTCP packet follow its index.
    """

    behind_index: int

    def rtp(self, packet: bytes, /) -> bytes:
        """The RTP packet in an SRTP packet."""

    def rtcp(self, packet: bytes, /) -> bytes:
        """The RTCP packet in an SRTCP packet."""


class Sealer(Protocol):
    """Seals packets for one party."""

    def rtp(self, packet: bytes, /) -> bytes:
        """The SRTP packet of an RTP packet."""

    def rtcp(self, packet: bytes, /) -> bytes:
        """The SRTCP packet of an RTCP packet."""


def new_opener(keys: "Keys") -> Opener:
    """What opens packets that were protected with these keys."""
    return _LibraryOpener(keys) if keys.suite in _PROFILES and not keys.kdr else _SipwireOpener(keys)


def new_sealer(keys: "Keys") -> Sealer:
    """What protects packets with these keys."""
    return _LibrarySealer(keys) if keys.suite in _PROFILES and not keys.kdr else _SipwireSealer(keys)


def reason(error: Exception) -> str:
    """What was wrong with a packet, in a word or two for statistics."""
    return _REASONS.get(str(error), "size" if isinstance(error, ValueError) else "form")


class _Library:
    """A libsrtp session.

    `Session` itself is not asked: it copies each packet into a buffer of its own, and with a thousand of those the
    processor's caches hold none. One buffer for all halves what a packet costs.
    """

    __slots__ = ("_mki", "_owner", "_rtcp_tail", "_rtp_tail", "_session", "behind_index")

    def __init__(self, keys: "Keys", ssrc_type: int) -> None:
        policy = Policy(keys.key_salt, ssrc_type, srtp_profile=_PROFILES[keys.suite])
        policy.window_size = keys.window
        self._owner = Session(policy)
        self._session = self._owner._srtp[0]
        self._mki = keys.mki
        self._rtp_tail = _BEHIND_MKI.get(keys.suite, 0)
        self._rtcp_tail = _RTCP_TAG_BYTES if self._rtp_tail else 0
        self.behind_index = self._rtcp_tail + len(keys.mki)

    def _work(self, what: "Callable[[Any, Any, Any], int]", packet: bytes) -> bytes:
        """Let libsrtp do something with a packet of at most `MAX_BYTES`."""
        size = len(packet)
        if size > MAX_BYTES:
            raise ValueError("packet is too long")
        _VIEW[:size] = packet
        _SIZE[0] = size
        error = what(self._session, _BUFFER, _SIZE)
        if error:
            raise pylibsrtp.Error(pylibsrtp.ERRORS[error])
        worked: bytes = _VIEW[: _SIZE[0]]
        return worked


class _LibraryOpener(_Library):
    __slots__ = ()

    def __init__(self, keys: "Keys") -> None:
        super().__init__(keys, Policy.SSRC_ANY_INBOUND)

    def rtp(self, packet: bytes, /) -> bytes:
        if self._mki:
            packet = self._without_mki(packet, self._rtp_tail)
        return self._work(lib.srtp_unprotect, packet)

    def rtcp(self, packet: bytes, /) -> bytes:
        if self._mki:
            packet = self._without_mki(packet, self._rtcp_tail)
        return self._work(lib.srtp_unprotect_rtcp, packet)

    def _without_mki(self, packet: bytes, tail: int) -> bytes:
        end = len(packet) - tail
        start = end - len(self._mki)
        if start < 0 or packet[start:end] != self._mki:
            raise SecurityError("srtp mki")
        return packet[:start] + packet[end:]


class _LibrarySealer(_Library):
    __slots__ = ()

    def __init__(self, keys: "Keys") -> None:
        super().__init__(keys, Policy.SSRC_ANY_OUTBOUND)

    def rtp(self, packet: bytes, /) -> bytes:
        sealed = self._work(lib.srtp_protect, packet)
        return self._with_mki(sealed, self._rtp_tail) if self._mki else sealed

    def rtcp(self, packet: bytes, /) -> bytes:
        sealed = self._work(lib.srtp_protect_rtcp, packet)
        return self._with_mki(sealed, self._rtcp_tail) if self._mki else sealed

    def _with_mki(self, packet: bytes, tail: int) -> bytes:
        at = len(packet) - tail
        return packet[:at] + self._mki + packet[at:]


class _Forwarder(SrtpSender):
    """Seals also what comes out of order, each index once: a party that sends what it made itself has no need of it."""

    def __init__(
        self, suite: Suite, key_salt: bytes, new_aes: "NewAes", mki: bytes = b"", lifetime: int | None = None
    ) -> None:
        super().__init__(suite, key_salt, new_aes, mki, lifetime)
        self._sealed = ReplayWindow(_LATE)

    def protect(self, packet: bytearray, size: int) -> int:
        index = self.index_of(packet[2] << 8 | packet[3])
        self._look = True  # at the index, of each packet
        size = super().protect(packet, size)
        self._sealed.add(index)
        return size

    def index_of(self, seq: int) -> int:
        highest = self._sealed.highest
        index = seq if highest < 0 else nearest(seq, highest)
        if not self._sealed.is_fresh(index):
            raise StateError("RTP seq out of order")
        return index


_RELAYED = sessions.Kind(_Forwarder, SrtpReceiver, SrtcpSender, SrtcpReceiver, sessions.Clear, False)


def _terms(keys: "Keys") -> "tuple[Suite, list[KeyParam], NewAes, sessions.Terms, sessions.Kind]":
    """What a session of `sipwire.sessions` is made of."""
    suite = gcm.SUITES[keys.suite]
    kind = gcm.kind_of(suite)
    terms = sessions.Terms(keys.kdr, keys.window - keys.window % 8)
    return suite, [KeyParam(keys.key_salt, None, keys.mki)], new_aes, terms, _RELAYED if kind is sessions.CM else kind


class _SipwireOpener:
    def __init__(self, keys: "Keys") -> None:
        self._session = sessions.SessionReceiver(*_terms(keys))
        self.rtcp = self._session.unprotect_rtcp
        self.behind_index = len(keys.mki) + (0 if keys.suite in _NO_TAG else _RTCP_TAG_BYTES)

    def rtp(self, packet: bytes, /) -> bytes:
        buffer = bytearray(packet)
        return bytes(buffer[: self._session.unprotect(buffer, len(buffer))])


class _SipwireSealer:
    def __init__(self, keys: "Keys") -> None:
        self._session = sessions.SessionSender(*_terms(keys))
        self.rtcp = self._session.protect_rtcp

    def rtp(self, packet: bytes, /) -> bytes:
        buffer = bytearray(len(packet) + self._session.overhead_bytes)
        buffer[: len(packet)] = packet
        self._session.protect(buffer, len(packet))
        return bytes(buffer)
