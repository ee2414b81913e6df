"""Byte loops in plain Python: what `viper` does where there is no native code emitter.

The two modules have the same functions; `compat` picks one. CPython's whole-number arithmetic beats a loop by far
there; on MicroPython the loop is the one that costs no heap.
"""

__all__ = ["alaw_encode", "decode", "set_index", "ulaw_encode", "xor"]

_WIDE_INTEGERS_ARE_FAST = hasattr(int, "bit_length")  # CPython


def xor(target: bytearray, start: int, pad: bytearray, size: int) -> None:
    """XOR the first ``size`` bytes of ``pad`` into ``target`` from ``start`` on."""
    if _WIDE_INTEGERS_ARE_FAST:
        end = start + size
        mixed = int.from_bytes(target[start:end], "little") ^ int.from_bytes(pad[:size], "little")
        target[start:end] = mixed.to_bytes(size, "little")
        return
    for i in range(size):
        target[start + i] ^= pad[i]


def set_index(counters: bytearray, blocks: int, high: int, low: int) -> None:
    """Write bytes 12 and 13, which change from packet to packet, into each 16-byte counter block."""
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
