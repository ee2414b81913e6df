"""Byte loops as native code, by MicroPython's viper emitter. `plain` has the same functions and describes them.

Native code belongs to one architecture, so this file is installed as source and compiled on the board. Where there is
no emitter, importing it raises SyntaxError, on CPython ImportError; `compat` then takes `plain`.
"""
# mypy: ignore-errors

import micropython

__all__ = ["alaw_encode", "copy", "decode", "differs", "set_index", "ulaw_encode", "xor"]


@micropython.viper
def xor(target: ptr8, start: int, pad: ptr8, size: int):  # noqa: F821
    i = 0
    while i < size:
        target[start + i] = target[start + i] ^ pad[i]
        i += 1


@micropython.viper
def copy(target: ptr8, start: int, source: ptr8, at: int, size: int):  # noqa: F821
    i = 0
    while i < size:
        target[start + i] = source[at + i]
        i += 1


@micropython.viper
def differs(data: ptr8, start: int, other: ptr8, size: int) -> int:  # noqa: F821
    difference = 0
    i = 0
    while i < size:
        difference |= data[start + i] ^ other[i]
        i += 1
    return difference


@micropython.viper
def set_index(counters: ptr8, blocks: int, index: int):  # noqa: F821
    high = index >> 8
    at = 12
    end = 16 * blocks
    while at < end:
        counters[at] = high
        counters[at + 1] = index
        at += 16


@micropython.viper
def ulaw_encode(pcm: ptr8, out: ptr8, start: int, samples: int, exponents: ptr8):  # noqa: F821
    i = 0
    while i < samples:
        value = pcm[2 * i] | pcm[2 * i + 1] << 8
        mask = 0xFF
        if value & 0x8000:
            value = value ^ 0xFFFF
            mask = 0x7F
        value = (value >> 2) + 33
        if value > 8191:
            value = 8191
        exponent = int(exponents[value >> 6])
        out[start + i] = (exponent << 4 | value >> exponent + 1 & 15) ^ mask
        i += 1


@micropython.viper
def alaw_encode(pcm: ptr8, out: ptr8, start: int, samples: int, exponents: ptr8):  # noqa: F821
    i = 0
    while i < samples:
        value = pcm[2 * i] | pcm[2 * i + 1] << 8
        mask = 0xD5
        if value & 0x8000:
            value = value ^ 0xFFFF
            mask = 0x55
        value = value >> 4
        exponent = int(exponents[value >> 4])
        if exponent > 1:
            value = value >> exponent - 1
        out[start + i] = (exponent << 4 | value & 15) ^ mask
        i += 1


@micropython.viper
def decode(law: ptr8, start: int, pcm: ptr8, samples: int, table: ptr8):  # noqa: F821
    i = 0
    while i < samples:
        at = 2 * int(law[start + i])
        pcm[2 * i] = table[at]
        pcm[2 * i + 1] = table[at + 1]
        i += 1
