"""UTF-8 that may be broken (RFC 3629), for text that is shown whatever has come.

MicroPython decodes without error modes, and takes overlong forms and surrogates; here both Pythons read the same.
"""

__all__ = ["decode"]


def decode(data: "bytes | bytearray") -> str:
    """The text in ``data``, with one U+FFFD for each stretch of bytes that are no UTF-8."""
    if not data or max(data) < 0x80:
        return str(data, "utf-8")
    good = bytearray()
    at = 0
    is_good = True
    while at < len(data):
        size = _size(data, at)
        if size:
            good += data[at : at + size]
        elif is_good:
            good += b"\xef\xbf\xbd"
        is_good = size > 0
        at += size or 1
    return str(good, "utf-8")


def _size(data: "bytes | bytearray", at: int) -> int:
    """The size of the character at ``at``; 0 where there is none (RFC 3629 section 4)."""
    first = data[at]
    if first < 0x80:
        return 1
    size = 4 if first >= 0xF0 else 3 if first >= 0xE0 else 2
    if not 0xC2 <= first <= 0xF4 or at + size > len(data):
        return 0
    for i in range(at + 1, at + size):
        if data[i] & 0xC0 != 0x80:
            return 0
    # Overlong forms, surrogates, and what is above U+10FFFF show in the first two bytes.
    two = first << 8 | data[at + 1]
    if 0xE000 <= two < 0xE0A0 or 0xEDA0 <= two < 0xEE00 or 0xF000 <= two < 0xF090 or two >= 0xF490:
        return 0
    return size
