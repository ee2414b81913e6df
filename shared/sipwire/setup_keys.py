"""What a setup key is made of, and what is made of it (WIRE section 4).

    K --> kid            the key's name, which tells nothing of it
      --> mac key        of the headers, see `setup`
      --> media keys     of a call, with the nonces of request and answer
      --> K'             the next key, with the nonces of BYE and its 200

In a first call there is no K, but a secret of what SDES has told both ends.
"""

from hashlib import sha256

from .compat import const, hex_of
from .kdf import hkdf_expand, hkdf_extract

__all__ = ["KEY_BYTES", "MediaKeys", "first_secret", "is_kid", "kid_of", "mac_key", "next_key"]

KEY_BYTES = 32
_KID_BYTES = const(8)
_HEX = b"0123456789abcdef"


def is_kid(value: bytes) -> bool:
    """Whether that can be the name of a key."""
    return len(value) == 2 * _KID_BYTES and not value.strip(_HEX)


def kid_of(key: bytes) -> bytes:
    """The name of a key: 16 hex digits."""
    return hex_of(sha256(b"wisp setup kid" + key).digest()[:_KID_BYTES])


def mac_key(secret: bytes) -> bytes:
    """The key of the MACs, of a setup key or of the secret of a first call."""
    return hkdf_expand(secret, b"wisp setup mac", KEY_BYTES)


class MediaKeys:
    """The SRTP keys of an offer and its answer.

    Args:
        kid: the setup key's name.
        key: the setup key.
        asked: the 16 bytes of the request's nonce.
        answered: those of the answer's.
    """

    def __init__(self, kid: bytes, key: bytes, asked: bytes, answered: bytes) -> None:
        self.kid = kid
        self._prk = hkdf_extract(asked + answered, key)

    def of(self, index: int, size: int) -> "tuple[bytes, bytes]":
        """Master key and salt of the offerer's packets and of the answerer's.

        Args:
            index: which media line, from 0.
            size: of master key and salt together, in bytes.
        """
        number = b"%d" % index
        offer = hkdf_expand(self._prk, b"wisp srtp offer " + number, size)
        return offer, hkdf_expand(self._prk, b"wisp srtp answer " + number, size)


def first_secret(offered: bytes, answered: bytes) -> bytes:
    """The secret of a first call: of the SDES key and salt of the dialog's first offer and of its answer."""
    return hkdf_extract(b"wisp setup first", offered + answered)


def next_key(secret: bytes, asked: bytes, answered: bytes, aor: bytes, other: bytes) -> bytes:
    """The key that a call leaves.

    Args:
        secret: the key that it had, or the secret of a first call.
        asked: the 16 bytes of the nonce of BYE.
        answered: those of its 200.
        aor: one of the addresses-of-record.
        other: the other.
    """
    info = b"wisp setup key " + min(aor, other) + b" " + max(aor, other)
    return hkdf_expand(hkdf_extract(asked + answered, secret), info, KEY_BYTES)
