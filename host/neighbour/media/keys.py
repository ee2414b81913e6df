"""SRTP keys of one direction, as signalling has found them in an ``a=crypto`` line (RFC 4568)."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.crypto import size_of
from sipwire.srtp import SUITES

if TYPE_CHECKING:
    from sipwire.crypto import Crypto

__all__ = ["Keys", "KeysError"]

_GCM_SUITES = (b"AEAD_AES_128_GCM", b"AEAD_AES_256_GCM")
_MAX_KDR = 1 << 24  # RFC 4568 section 6.3.1
_MIN_WINDOW, _MAX_WINDOW = 64, 8192  # packets; RFC 3711 section 3.3.2 wants 64, above the other nobody is late


class KeysError(ValueError):
    """A crypto line whose packets the relay could not open or make; the text says why, and never a key."""


@dataclass(frozen=True)
class Keys:
    """A master key, and how packets are protected with it.

    Two of them are equal where packets protected by the one can be opened by the other.

    Attributes:
        suite: as in SDP, in upper case.
        key_salt: master key and salt.
        mki: the master key identifier in each packet, b"" for none.
        kdr: packets between two derivations of session keys, a power of 2; 0 for one derivation at the beginning.
        window: packets that a replay window spans, at least 64.

    Raises:
        KeysError: the relay does not know the suite or the rate, or key and salt have another size than it wants.
    """

    suite: bytes
    key_salt: bytes = field(repr=False)
    mki: bytes = b""
    kdr: int = 0
    window: int = field(default=128, compare=False)

    def __post_init__(self) -> None:
        if self.suite not in SUITES and self.suite not in _GCM_SUITES:
            name = self.suite.decode("latin-1")
            raise KeysError(f"crypto suite {name}: not where media are relayed; a line with another suite is wanted")
        if self.kdr & (self.kdr - 1) or not 0 <= self.kdr <= _MAX_KDR:
            raise KeysError(f"key derivation rate {self.kdr}: a power of 2 up to {_MAX_KDR} is wanted")
        size = size_of(self.suite)
        if len(self.key_salt) != size:
            raise KeysError(f"key and salt of {len(self.key_salt)} bytes where the suite wants {size}")

    @classmethod
    def of(cls, crypto: "Crypto") -> "Keys":
        """The keys of a crypto line.

        Raises:
            KeysError: it has several keys, or none yet, or asks for what the relay does not do: streams without
                encryption or authentication, and FEC. Another line, or media that are not relayed, are what is left.
        """
        if len(crypto.keys) != 1:
            raise KeysError("several keys in one crypto line: one is wanted where media are relayed")
        key = crypto.keys[0]
        if key.kid:
            raise KeysError("keys of a setup key are known to the terminals alone")
        kdr, window = 0, 128
        for param in crypto.params:
            name, _, value = param.upper().partition(b"=")
            if name[:1] == b"-":
                continue
            if name == b"KDR":
                # RFC 4568 section 6.3.1: "denotes a power of 2"; 0 is what several senders write for none.
                kdr = 1 << int(value) if int(value) else 0
            elif name == b"WSH":
                window = min(max(int(value), _MIN_WINDOW), _MAX_WINDOW)
            else:
                raise KeysError(f"session parameter {name.decode('latin-1')}: not where media are relayed")
        return cls(crypto.suite, key.key_salt, key.mki, kdr, window)
