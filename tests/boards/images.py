"""Firmware files as MicroPython's build makes them, but for the program in them."""

import hashlib
import random
import struct

__all__ = ["BANNER", "application", "firmware"]

BANNER = b"MicroPython v1.26.1 on 2025-09-11; Generic ESP32 module with ESP32"
_CHIPS = {"esp32": (0, 0x1000), "esp32s3": (9, 0), "esp32c3": (5, 0), "esp32p4": (18, 0x2000)}


def application(chip_id: int, size: int = 200_000, banner: bytes = BANNER, *, has_digest: bool = True) -> bytes:
    """An image of two segments, with its checksum and digest."""
    body = random.Random(size).randbytes(size // 2 & ~3)
    parts = [body, (banner + b"\0" * 4)[: (len(banner) + 4) & ~3] + bytes(size // 2 & ~3)]
    image = struct.pack("<BBBBI", 0xE9, len(parts), 2, 0x2F, 0x40080000)
    image += struct.pack("<B3sHBHH4sB", 0xEE, bytes(3), chip_id, 0, 0, 399, bytes(4), has_digest)
    checksum = 0xEF
    for number, part in enumerate(parts):
        image += struct.pack("<II", 0x3F400020 + number * 0x100000, len(part)) + part
        for byte in part:
            checksum ^= byte
    image += bytes(15 - len(image) % 16) + bytes([checksum])
    return image + hashlib.sha256(image).digest() if has_digest else image


def _partition(kind: int, subtype: int, offset: int, size: int, label: bytes) -> bytes:
    return struct.pack("<HBBII16sI", 0x50AA, kind, subtype, offset, size, label, 0)


def firmware(chip: str = "esp32", *, flash: int = 4 << 20, banner: bytes = BANNER, has_digest: bool = True) -> bytes:
    """A whole firmware for a chip, laid out for an amount of flash."""
    chip_id, offset = _CHIPS[chip]
    table = _partition(1, 2, 0x9000, 0x6000, b"nvs") + _partition(1, 1, 0xF000, 0x1000, b"phy_init")
    table += _partition(0, 0, 0x10000, 0x1F0000, b"factory") + _partition(1, 0x81, 0x200000, flash - 0x200000, b"vfs")
    data = application(chip_id, 20_000, b"boot loader").ljust(0x8000 - offset, b"\xff")
    data += table.ljust(0x1000, b"\xff")
    return data.ljust(0x10000 - offset, b"\xff") + application(chip_id, banner=banner, has_digest=has_digest)
