"""Byte loops in plain Python: what `viper` does where there is no native code emitter.

The two modules have the same functions; `compat` picks one. Wide integers beat a loop here on both Pythons by far, and
cost the heap that a loop would not.
"""

__all__ = ["alaw_encode", "copy", "decode", "differs", "set_index", "ulaw_encode", "xor"]


def xor(target: bytearray, start: int, pad: bytearray, size: int) -> None:
    """XOR the first ``size`` bytes of ``pad`` into ``target`` from ``start`` on."""
    end = start + size
    left = int.from_bytes(memoryview(target)[start:end], "little")
    right = int.from_bytes(pad if size == len(pad) else pad[:size], "little")
    target[start:end] = (left ^ right).to_bytes(size, "little")


def copy(target: bytearray, start: int, source: "bytes | bytearray", at: int, size: int) -> None:
    """Copy ``size`` bytes of ``source`` from ``at`` on to ``target`` from ``start`` on."""
    target[start : start + size] = source[at : at + size]


def differs(data: "bytes | bytearray", start: int, other: bytes, size: int) -> int:
    """Whether ``size`` bytes of ``data`` from ``start`` on differ from ``other``, in a time that tells nothing."""
    difference = 0
    for i in range(size):
        difference |= data[start + i] ^ other[i]
    return difference


def set_index(counters: bytearray, blocks: int, index: int) -> None:
    """Write ``index``, which changes from packet to packet, into bytes 12 and 13 of each 16-byte counter block."""
    high = index >> 8
    low = index & 0xFF
    for at in range(12, 16 * blocks, 16):
        counters[at] = high
        counters[at + 1] = low


def ulaw_encode(pcm: bytearray, out: bytearray, start: int, samples: int, exponents: bytes) -> None:
    """Encode 16-bit little-endian samples as mu-law at ``out[start:]``; ``exponents[n]`` is the bit length of n."""
    for i in range(samples):
        value = pcm[2 * i] | pcm[2 * i + 1] << 8
        mask = 0xFF
        if value & 0x8000:
            value ^= 0xFFFF
            mask = 0x7F
        value = (value >> 2) + 33
        if value > 8191:
            value = 8191
        exponent = exponents[value >> 6]
        out[start + i] = (exponent << 4 | value >> exponent + 1 & 15) ^ mask


def alaw_encode(pcm: bytearray, out: bytearray, start: int, samples: int, exponents: bytes) -> None:
    """Encode 16-bit little-endian samples as A-law at ``out[start:]``; ``exponents[n]`` is the bit length of n."""
    for i in range(samples):
        value = pcm[2 * i] | pcm[2 * i + 1] << 8
        mask = 0xD5
        if value & 0x8000:
            value ^= 0xFFFF
            mask = 0x55
        value >>= 4
        exponent = exponents[value >> 4]
        if exponent > 1:
            value >>= exponent - 1
        out[start + i] = (exponent << 4 | value & 15) ^ mask


def decode(law: bytearray, start: int, pcm: bytearray, samples: int, table: bytes) -> None:
    """Decode bytes at ``law[start:]`` to 16-bit little-endian samples, by a table of 256 samples."""
    for i in range(samples):
        at = 2 * law[start + i]
        pcm[2 * i] = table[at]
        pcm[2 * i + 1] = table[at + 1]
