"""libsrtp as the other side: pylibsrtp, with the suites that it has no name for.

pylibsrtp names four of libsrtp's profiles. The rest is in the same policy, as six ints that its binding does not show:
they are written here, after what the four named ones hold has shown that they lie where they are thought to be.

libsrtp before 2.7.1 derives the keys of AES-192 as if it were AES-256 (its issue 763). `kind_of` makes ours do so too,
so that all the rest can be compared.
"""

import struct
from functools import cache
from hashlib import sha1
from typing import TYPE_CHECKING

import pylibsrtp
from pylibsrtp._binding import ffi

from neighbour.aes import new_aes
from neighbour.media import gcm
from sipwire.aes_cm import CounterMode
from sipwire.kdf import Hmac
from sipwire.sessions import Clear, Kind
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SrtpContext, SrtpReceiver, SrtpSender, Suite, session_keys

if TYPE_CHECKING:
    from sipwire.aes_cm import NewAes

__all__ = ["NULL", "derives_aes_192_right", "inbound", "kind_of", "outbound"]

NULL = b"NULL_HMAC_SHA1_80"  # of no use but in tests
_PROFILES = {
    b"AES_CM_128_HMAC_SHA1_80": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    b"AES_CM_128_HMAC_SHA1_32": pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    b"AEAD_AES_128_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    b"AEAD_AES_256_GCM": pylibsrtp.Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
_LAYOUT = "=6i"  # cipher, bytes of key and salt, authentication, its key and tag bytes, which of the two
_AUTHENTICATED, _BOTH = 2, 3
# libsrtp's srtp.h: SRTP_AES_ICM_128 1, _192 4, _256 5, SRTP_NULL_CIPHER 0; SRTP_HMAC_SHA1 3
_CIPHERS = {16: 1, 24: 4, 32: 5}


def _crypto(name: bytes, is_rtcp: bool) -> tuple[int, ...]:
    """What libsrtp's policy holds for a suite."""
    if name == NULL:
        return 0, 30, 3, 20, 10, _AUTHENTICATED
    if name.startswith(b"AEAD_"):
        return (6, 28, 0, 0, 16, _BOTH) if b"128" in name else (7, 44, 0, 0, 16, _BOTH)
    size = int(name.replace(b"CM_", b"").split(b"_")[1]) // 8
    return _CIPHERS[size], size + 14, 3, 20, 4 if name.endswith(b"32") and not is_rtcp else 10, _BOTH


def _session(name: bytes, key_salt: bytes, kind: int, window: int, clear: bool, rtcp_clear: bool) -> pylibsrtp.Session:
    profile = _PROFILES.get(name, pylibsrtp.Policy.SRTP_PROFILE_AES128_CM_SHA1_80)
    policy = pylibsrtp.Policy(key=key_salt, ssrc_type=kind, srtp_profile=profile)
    policy.window_size = window
    for is_rtcp, crypto, is_clear in (
        (False, policy._policy.rtp, clear),
        (True, policy._policy.rtcp, rtcp_clear),
    ):
        memory = ffi.buffer(ffi.addressof(crypto))
        wanted = _crypto(name, is_rtcp)
        if name in _PROFILES:
            assert struct.unpack(_LAYOUT, memory[:]) == wanted, "libsrtp's policy looks otherwise than thought"
        if is_clear:
            wanted = (*wanted[:5], _AUTHENTICATED)
        memory[:] = struct.pack(_LAYOUT, *wanted)
    return pylibsrtp.Session(policy)


def outbound(
    name: bytes, key_salt: bytes, clear: bool = False, rtcp_clear: bool = False, window: int = 128
) -> pylibsrtp.Session:
    """A session that protects packets of any SSRC."""
    return _session(name, key_salt, pylibsrtp.Policy.SSRC_ANY_OUTBOUND, window, clear, rtcp_clear)


def inbound(
    name: bytes, key_salt: bytes, clear: bool = False, rtcp_clear: bool = False, window: int = 128
) -> pylibsrtp.Session:
    """A session that opens packets of any SSRC."""
    return _session(name, key_salt, pylibsrtp.Policy.SSRC_ANY_INBOUND, window, clear, rtcp_clear)


def _derive(stream: SrtpContext, suite: Suite, key_salt: bytes, new_aes: "NewAes") -> tuple[CounterMode, Hmac]:
    """AES-192 with the derivation of AES-256: what should be salt is taken for the end of the key, and 0 for salt."""
    padded = key_salt + bytes(8)
    key, auth, salt = session_keys(padded[:32], padded[32:], new_aes, stream.label)
    return CounterMode(new_aes(key[: suite.key_bytes]), salt, stream.blocks), Hmac(auth, sha1)


class _Sender(SrtpSender):
    derive = _derive


class _Receiver(SrtpReceiver):
    derive = _derive


class _RtcpSender(SrtcpSender):
    derive = _derive


class _RtcpReceiver(SrtcpReceiver):
    derive = _derive


@cache
def derives_aes_192_right() -> bool:
    """Whether this libsrtp has the fix."""
    suite = gcm.SUITES[b"AES_192_CM_HMAC_SHA1_80"]
    plain = b"\x80" + bytes(30)
    packet = bytearray(plain + bytes(10))
    SrtpSender(suite, bytes(38), new_aes).protect(packet, len(plain))
    return outbound(suite.name, bytes(38)).protect(plain) == packet


def kind_of(suite: Suite) -> Kind:
    """`gcm.kind_of`, as this libsrtp has it."""
    if suite.key_bytes != 24 or derives_aes_192_right():
        return gcm.kind_of(suite)
    return Kind(_Sender, _Receiver, _RtcpSender, _RtcpReceiver, Clear, False)
