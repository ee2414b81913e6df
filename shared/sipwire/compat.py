"""What differs between CPython and MicroPython, found by feature: the only ``try: import`` of sipwire."""

from binascii import a2b_base64, b2a_base64, hexlify, unhexlify

from .errors import ParseError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeVar

    T = TypeVar("T")

try:
    from micropython import const  # type: ignore[import-not-found, unused-ignore]
except ImportError:

    def const(value: int) -> int:
        """Mark a number that MicroPython folds into the code that uses it."""
        return value


try:
    from functools import lru_cache, wraps

    def cached(maxsize: int, longest: int = 0) -> "Callable[[Callable[[bytes], T]], Callable[[bytes], T]]":
        """Remember what a function made of its arguments.

        Args:
            maxsize: of so many.
            longest: of none that is longer, so that nobody fills our memory; 0 for any length.
        """

        def remembering(function: "Callable[[bytes], T]") -> "Callable[[bytes], T]":
            known = lru_cache(maxsize)(function)
            if not longest:
                return known

            @wraps(function)
            def called(value: bytes) -> "T":
                return known(value) if len(value) <= longest else function(value)

            called.cache_clear = known.cache_clear  # type: ignore[attr-defined]
            called.cache_info = known.cache_info  # type: ignore[attr-defined]
            return called

        return remembering

except ImportError:

    def cached(maxsize: int, longest: int = 0) -> "Callable[[Callable[[bytes], T]], Callable[[bytes], T]]":
        """Remember nothing, where memory is scarce."""

        def unchanged(function: "Callable[[bytes], T]") -> "Callable[[bytes], T]":
            return function

        return unchanged


try:
    from .viper import alaw_encode, copy, decode, differs, set_index, ulaw_encode, xor
except (ImportError, SyntaxError):
    from .plain import alaw_encode, copy, decode, differs, set_index, ulaw_encode, xor

__all__ = [
    "a2b_hex",
    "alaw_encode",
    "b64decode",
    "b64encode",
    "cached",
    "const",
    "copy",
    "decode",
    "differs",
    "hex_of",
    "set_index",
    "ulaw_encode",
    "xor",
]

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def hex_of(data: bytes) -> bytes:
    """Lower-case hex digits of ``data``: no hash has ``hexdigest`` on MicroPython."""
    return hexlify(data)


def a2b_hex(text: bytes) -> bytes:
    """The bytes that hex digits stand for."""
    return unhexlify(text)


def b64encode(data: bytes) -> bytes:
    """RFC 4648 base64 with padding and without a line end."""
    return b2a_base64(data)[:-1]


def b64decode(text: bytes) -> bytes:
    """Strict RFC 4648 base64; padding may be left out.

    Both Pythons' own decoders skip characters they do not know, which would let one key be written in many ways.

    Raises:
        ParseError: a character outside of the alphabet, a wrong length, or bits that encode nothing.
    """
    bare = text.rstrip(b"=")
    if bare.strip(_BASE64) or len(text) - len(bare) > 2 or len(bare) % 4 == 1:
        raise ParseError("base64")
    padded = bare + b"=" * (-len(bare) % 4)
    data = a2b_base64(padded)
    if (len(text) != len(bare) and len(text) != len(padded)) or b64encode(data) != padded:
        raise ParseError("base64")
    return data
