"""HMAC (RFC 2104), HKDF (RFC 5869) with SHA-256, and comparison in constant time."""

from hashlib import sha256

from .compat import const

__all__ = ["Hmac", "hkdf_expand", "hkdf_extract", "same"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_BLOCK_BYTES = const(64)  # of MD5, SHA-1 and SHA-256 alike


class Hmac:
    """A keyed HMAC whose padded keys are kept, so that each use costs two hashes and nothing else.

    MicroPython's hashes can't be copied, so the padded key is hashed anew each time on both Pythons.

    Args:
        key: of any size.
        new_hash: ``hashlib.sha256``, ``sha1`` or ``md5``.
    """

    def __init__(self, key: bytes, new_hash: "Callable[..., Any]" = sha256) -> None:
        if len(key) > _BLOCK_BYTES:
            key = new_hash(key).digest()
        key = key + bytes(_BLOCK_BYTES - len(key))
        self._new_hash = new_hash
        self._inner_key = bytes([b ^ 0x36 for b in key])
        self._outer_key = bytes([b ^ 0x5C for b in key])

    def digest(self, *parts: "bytes | bytearray | memoryview") -> bytes:
        """The MAC over ``parts`` as if they were joined."""
        inner = self._new_hash(self._inner_key)
        for part in parts:
            inner.update(part)
        outer = self._new_hash(self._outer_key)
        outer.update(inner.digest())
        mac: bytes = outer.digest()
        return mac


def hkdf_extract(salt: bytes, ikm: bytes) -> bytes:
    """RFC 5869 section 2.2: the pseudorandom key, 32 bytes."""
    return Hmac(salt).digest(ikm)


def hkdf_expand(prk: bytes, info: bytes, size: int) -> bytes:
    """RFC 5869 section 2.3: ``size`` bytes (at most 8160) of output keying material."""
    mac = Hmac(prk)
    block = b""
    okm = b""
    counter = 1
    while len(okm) < size:
        block = mac.digest(block, info, bytes([counter]))
        okm += block
        counter += 1
    return okm[:size]


def same(a: "bytes | bytearray | memoryview", b: "bytes | bytearray | memoryview") -> bool:
    """Whether two byte strings are equal, in a time that does not tell where they differ."""
    if len(a) != len(b):
        return False
    difference = 0
    for i in range(len(a)):
        difference |= a[i] ^ b[i]
    return difference == 0
