"""``a=crypto`` lines: SRTP keys in session descriptions (RFC 4568, with suites of RFC 6188 and 7714).

crypto:<tag> <crypto-suite> <key-params> [<session-params>]
key-params = "inline:" <key||salt> ["|" lifetime] ["|" MKI ":" length] *(";" ...)
           / "setup:" <kid>         keys that a setup key gives (WIRE section 4.1)

Session parameters (section 6.3) are either declared, which is about the packets of who says so: KDR, WSH, FEC_*; or
negotiated, and an answer would have to repeat them: UNENCRYPTED_*, UNAUTHENTICATED_SRTP.
"""

from .compat import b64decode, b64encode, const
from .errors import ParseError
from .grammar import parse_uint
from .setup_keys import is_kid

__all__ = ["Crypto", "KeyParam", "size_of"]

_MAX_LINE_BYTES = const(1024)  # of one attribute; far above any real one
_MAX_LIFETIME = const(1 << 48)  # packets, RFC 3711 section 9.2
_MAX_MKI_BYTES = const(128)
_MAX_KDR = const(24)
_MIN_WSH = const(64)
_WSH_CAP = const(
    1024
)  # packets; a hint that a receiver need not follow, and may not be made to give all its memory for

# Each with the bytes of its master key and salt: a table would take five times the room.
_SUITES = (
    b" AES_CM_128_HMAC_SHA1_80=30 AES_CM_128_HMAC_SHA1_32=30 F8_128_HMAC_SHA1_80=30 AES_192_CM_HMAC_SHA1_80=38"
    b" AES_192_CM_HMAC_SHA1_32=38 AES_256_CM_HMAC_SHA1_80=46 AES_256_CM_HMAC_SHA1_32=46 AEAD_AES_128_GCM=28"
    b" AEAD_AES_256_GCM=44"
)
_FLAGS = (b"UNENCRYPTED_SRTP", b"UNENCRYPTED_SRTCP", b"UNAUTHENTICATED_SRTP")
_FEC = (b"FEC_ORDER", b"FEC_KEY")


class KeyParam:
    """One key.

    Attributes:
        key_salt: master key and salt; b"" where a setup key gives them, and has not yet.
        kid: the name of that, b"" for an ``inline`` key.
        lifetime: packets, or None for the suite's default.
        mki: the identifier as it stands in packets, b"" for none.
    """

    def __init__(self, key_salt: bytes, lifetime: "int | None" = None, mki: bytes = b"", kid: bytes = b"") -> None:
        self.key_salt = key_salt
        self.kid = kid
        self.lifetime = lifetime
        self.mki = mki

    @classmethod
    def parse(cls, value: bytes, size: int) -> "KeyParam":
        """Read one key parameter whose key and salt have ``size`` bytes."""
        method, _, info = value.partition(b":")
        if method.lower() == b"setup":
            if not is_kid(info):
                raise ParseError("crypto")
            return cls(b"", None, b"", info)
        fields = info.split(b"|")
        param = cls(b64decode(fields.pop(0)))
        if method.lower() != b"inline" or len(param.key_salt) != size:
            raise ParseError("crypto")
        if fields and b":" not in fields[0]:
            param.lifetime = _number(fields.pop(0))
        if fields:
            number, _, length = fields.pop(0).partition(b":")
            count = _number(length)
            mki = _number(number)
            if count > _MAX_MKI_BYTES or b"2^" in number + length or mki >> 8 * count:
                raise ParseError("crypto")
            param.mki = mki.to_bytes(count, "big")
        if fields:
            raise ParseError("crypto")
        return param

    def serialize(self) -> bytes:
        """``inline:`` and its fields, or ``setup:`` and the key's name."""
        if self.kid:
            return b"setup:" + self.kid
        fields = [b"inline:" + b64encode(self.key_salt)]
        if self.lifetime is not None:
            fields.append(str(self.lifetime).encode())
        if self.mki:
            fields.append(b"%s:%d" % (str(int.from_bytes(self.mki, "big")).encode(), len(self.mki)))
        return b"|".join(fields)


class Crypto:
    """One crypto attribute.

    Attributes:
        tag: 0 to 999999999.
        suite: name in upper case.
        keys: one or more keys.
        params: session parameters as written.
        kdr: n of a key derivation rate of 2^n packets, 0 where session keys are derived once alone.
        window: packets of the replay window that is wished for, 64 to 1024.
        weak: which of UNENCRYPTED_SRTP, UNENCRYPTED_SRTCP and UNAUTHENTICATED_SRTP it asks for.
        fec: its FEC_ORDER and FEC_KEY, as written.
    """

    kdr = 0
    window = _MIN_WSH
    weak: "tuple[bytes, ...]" = ()
    fec: "tuple[bytes, ...]" = ()

    def __init__(self, tag: int, suite: bytes, keys: "list[KeyParam]", params: "list[bytes]") -> None:
        self.tag = tag
        self.suite = suite
        self.keys = keys
        self.params = params

    @classmethod
    def make(cls, tag: int, suite: bytes, key_salt: bytes, kid: bytes = b"") -> "Crypto":
        """A line with one key and nothing else, see `KeyParam`."""
        return cls(tag, suite, [KeyParam(key_salt, None, b"", kid)], [])

    @classmethod
    def parse(cls, value: bytes) -> "Crypto":
        """Read what follows ``a=crypto:``.

        Raises:
            ParseError: anything RFC 4568 calls invalid, an unknown suite or key method, or an unknown session parameter
                without the "-" that makes it optional. The line then counts as absent.
        """
        if len(value) > _MAX_LINE_BYTES:
            raise ParseError("crypto")
        words = [word for word in value.replace(b"\t", b" ").split(b" ") if word]
        if len(words) < 3 or not value[:1].isdigit():
            raise ParseError("crypto")
        if len(words[0]) > 9 or (words[0][:1] == b"0" and words[0] != b"0"):
            raise ParseError("crypto")
        tag = parse_uint(words[0], 999999999, "crypto")
        suite = words[1].upper()
        size = size_of(suite)
        keys = [KeyParam.parse(param, size) for param in words[2].split(b";")]
        seen = []
        for key in keys:
            # Section 6.1: with several keys all have an MKI, of the same length and different values.
            if len(keys) > 1 and (not key.mki or key.mki in seen or len(key.mki) != len(keys[0].mki)):
                raise ParseError("crypto")
            seen.append(key.mki)
        crypto = cls(tag, suite, keys, words[3:])
        for param in words[3:]:
            crypto._take(param)
        return crypto

    def _take(self, param: bytes) -> None:
        """Read a session parameter; raises where it is malformed, or unknown without being optional."""
        if param[:1] == b"-":
            return
        name, equal, value = param.upper().partition(b"=")
        if name == b"KDR":
            self.kdr = parse_uint(value, _MAX_KDR, "crypto")
        elif name == b"WSH":
            window = parse_uint(value, 0x7FFFFFFF, "crypto")
            if window < _MIN_WSH:
                raise ParseError("crypto")
            self.window = min(window, _WSH_CAP)
        elif name in _FLAGS and not equal:
            self.weak += (name,)
        elif name in _FEC and value:
            self.fec += (param,)
        else:
            raise ParseError("crypto", 400, "unknown")

    def serialize(self) -> bytes:
        """What follows ``a=crypto:``."""
        keys = b";".join([key.serialize() for key in self.keys])
        return b" ".join([b"%d" % self.tag, self.suite, keys] + self.params)

    @property
    def is_safe(self) -> bool:
        """Whether all of its stream is encrypted and authenticated, and nothing but a stream is asked for."""
        return not self.weak and not self.fec

    @property
    def is_plain(self) -> bool:
        """Whether it asks for its suite with one key that lasts: no unencrypted streams, no FEC, no KDR."""
        return self.is_safe and not self.kdr and len(self.keys) == 1


def size_of(suite: bytes) -> int:
    """Bytes of master key and salt of a suite.

    Raises:
        ParseError: there is none of that name.
    """
    name = b" " + suite + b"="
    at = _SUITES.find(name) + len(name)
    if at < len(name):
        raise ParseError("suite", 400, "unknown")
    return int(_SUITES[at : at + 2])


def _number(value: bytes) -> int:
    """``2^n`` or a decimal number without leading zeros, from 1 to 2^48."""
    if value[:2] == b"2^":
        power: int = 1 << parse_uint(value[2:], 48, "crypto")
        return power
    if value[:1] == b"0":
        raise ParseError("crypto")
    return parse_uint(value, _MAX_LIFETIME, "crypto")
