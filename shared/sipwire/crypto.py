"""``a=crypto`` lines: SRTP keys in session descriptions (RFC 4568, with suites of RFC 6188 and 7714).

crypto:<tag> <crypto-suite> <key-params> [<session-params>]
key-params = "inline:" <key||salt> ["|" lifetime] ["|" MKI ":" length] *(";" ...)
           / "setup:" <kid>         keys that a setup key gives (WIRE section 4.1)
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

# Bytes of master key and salt.
_SUITES = {
    b"AES_CM_128_HMAC_SHA1_80": 30,
    b"AES_CM_128_HMAC_SHA1_32": 30,
    b"F8_128_HMAC_SHA1_80": 30,
    b"AES_192_CM_HMAC_SHA1_80": 38,
    b"AES_192_CM_HMAC_SHA1_32": 38,
    b"AES_256_CM_HMAC_SHA1_80": 46,
    b"AES_256_CM_HMAC_SHA1_32": 46,
    b"AEAD_AES_128_GCM": 28,
    b"AEAD_AES_256_GCM": 44,
}
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
    """

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
        if suite not in _SUITES:
            raise ParseError("suite", 400, "unknown")
        keys = [KeyParam.parse(param, _SUITES[suite]) for param in words[2].split(b";")]
        seen = []
        for key in keys:
            # Section 6.1: with several keys all have an MKI, of the same length and different values.
            if len(keys) > 1 and (not key.mki or key.mki in seen or len(key.mki) != len(keys[0].mki)):
                raise ParseError("crypto")
            seen.append(key.mki)
        for param in words[3:]:
            _is_plain(param)
        return cls(tag, suite, keys, words[3:])

    def serialize(self) -> bytes:
        """What follows ``a=crypto:``."""
        keys = b";".join([key.serialize() for key in self.keys])
        return b" ".join([b"%d" % self.tag, self.suite, keys] + self.params)

    @property
    def is_plain(self) -> bool:
        """Whether it asks for its suite with one key and nothing else: no unencrypted streams, no FEC, no KDR."""
        return len(self.keys) == 1 and False not in [_is_plain(param) for param in self.params]


def size_of(suite: bytes) -> int:
    """Bytes of master key and salt of a suite."""
    return _SUITES[suite]


def _number(value: bytes) -> int:
    """``2^n`` or a decimal number without leading zeros, from 1 to 2^48."""
    if value[:2] == b"2^":
        power: int = 1 << parse_uint(value[2:], 48, "crypto")
        return power
    if value[:1] == b"0":
        raise ParseError("crypto")
    return parse_uint(value, _MAX_LIFETIME, "crypto")


def _is_plain(param: bytes) -> bool:
    """Whether a session parameter leaves everything as it is; raises where it is unknown or malformed."""
    name, equal, value = param.upper().partition(b"=")
    if param[:1] == b"-":
        return True
    if name == b"KDR":
        return parse_uint(value, _MAX_KDR, "crypto") == 0
    if name == b"WSH" and parse_uint(value, 0x7FFFFFFF, "crypto") >= _MIN_WSH:
        return True
    if (name in _FLAGS and not equal) or (name in _FEC and value):
        return False
    raise ParseError("crypto", 400, "unknown")
