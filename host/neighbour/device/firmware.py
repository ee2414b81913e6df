"""MicroPython's firmware for an ESP32 family board, as one file: what it is for, and whether it is whole.

The file is what micropython.org offers, and what its build makes: boot loader, partition table and application as they
lie in flash, from the boot loader on, the gaps filled up::

    offset ... 0x8000 ......... 0x10000
    boot       partition        application: header (24), segments, checksum, SHA-256
    loader     table

Sources: ESP-IDF, "Bootloader Image Format" (the header and what follows it) and "Partition Tables".
"""

import hashlib
import re
import struct
from dataclasses import dataclass
from pathlib import Path

from .port import DeviceError

__all__ = ["Firmware", "chip_of"]

_IMAGE_MAGIC = 0xE9
_TABLE = 0x8000  # where the partition table lies in flash
_ENTRY = struct.Struct("<HBBII16sI")  # magic, type, subtype, offset, size, label, flags
_ENTRY_MAGIC = 0x50AA
_TABLE_ENTRIES = 95
_APPLICATION = 0  # a type of partition
_HEADER = 24
_DIGEST = 32
_MAX_SEGMENTS = 16
_MAX_FILE = 64 << 20  # no chip has more flash
_NO_CHIP = 0xFFFF

# Chips by the number that images have for them (esp_chip_id_t of ESP-IDF), with esptool's name, and where their boot
# loader lies in flash.
_CHIPS = {
    0: ("ESP32", 0x1000),
    2: ("ESP32-S2", 0x1000),
    5: ("ESP32-C3", 0),
    9: ("ESP32-S3", 0),
    12: ("ESP32-C2", 0),
    13: ("ESP32-C6", 0),
    16: ("ESP32-H2", 0),
    18: ("ESP32-P4", 0x2000),
    20: ("ESP32-C61", 0),
    23: ("ESP32-C5", 0x2000),
}
_OTHERS = (
    (b"UF2\n", "is a UF2 file, for boards that show up as a disk"),
    (b"\x7fELF", "is an ELF file, of which the .bin is made"),
    (b"PK\x03\x04", "is a ZIP archive; unpack it"),
    (b"\x1f\x8b", "is compressed; unpack it"),
    (b":", "is an Intel HEX file"),
    (b"<", "is a web page: the download went wrong"),
)
_WANTED = "wanted is the .bin for your board from https://micropython.org/download/"
# What its prompt greets with, as it stands in the program.
_BANNER = re.compile(rb"MicroPython (v\d[\x20-\x7e]{0,120})")


def chip_of(name: str) -> int | None:
    """The number of a chip that esptool calls so, None where it is none of ours."""
    return next((number for number, (chip, _) in _CHIPS.items() if chip == name), None)


@dataclass(frozen=True, slots=True)
class Firmware:
    """See the module.

    Attributes:
        path: the file.
        chip: what it is for, as esptool calls it.
        offset: where in flash it is written to, in bytes.
        size: bytes.
        version: what MicroPython says of itself, like ``v1.26.1 on 2025-09-11; ...``; "" where it can't be told.
        extent: bytes of flash that its partitions lay out.
    """

    path: Path
    chip: str
    offset: int
    size: int
    version: str
    extent: int

    @classmethod
    def read(cls, path: Path) -> "Firmware":
        """Look at a file.

        Raises:
            DeviceError: it can't be read, or is no firmware of MicroPython for such a chip, or not whole.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_FILE + 1)
        except OSError as error:
            raise DeviceError(f"{path}: {error.strerror}") from None
        if len(data) > _MAX_FILE:
            raise DeviceError(f"{path}: is larger than any flash; {_WANTED}")
        if len(data) < _HEADER or data[0] != _IMAGE_MAGIC:
            what = next((words for start, words in _OTHERS if data.startswith(start)), "is no firmware of an ESP chip")
            raise DeviceError(f"{path}: {what}; {_WANTED}")
        number = int.from_bytes(data[12:14], "little")
        if number not in _CHIPS:
            what = "an ESP8266 or another chip" if number != _NO_CHIP else "no chip"
            raise DeviceError(f"{path}: is for {what} that a terminal does not run on; {_WANTED}")
        chip, offset = _CHIPS[number]
        partitions = _partitions(data, _TABLE - offset)
        if not partitions:
            raise DeviceError(
                f"{path}: is for {chip}, but has no partition table: an application alone (.app-bin), or cut off; "
                + _WANTED
            )
        begin = _application(partitions) - offset
        if begin < 0 or not _is_whole(data, begin, number):
            raise DeviceError(f"{path}: is for {chip}, but cut off or damaged: download it again")
        if b"MicroPython" not in data:
            raise DeviceError(f"{path}: is for {chip}, but no MicroPython; {_WANTED}")
        found = _BANNER.search(data)
        version = found[1].decode() if found else ""
        return cls(path, chip, offset, len(data), version, max(start + size for _, _, start, size in partitions))


def _partitions(data: bytes, begin: int) -> list[tuple[int, int, int, int]]:
    """The partition table at a place of a file: type, subtype, offset and size of each."""
    found = []
    for place in range(begin, begin + _TABLE_ENTRIES * _ENTRY.size, _ENTRY.size):
        if place + _ENTRY.size > len(data):
            return []
        magic, kind, subtype, offset, size, _label, _flags = _ENTRY.unpack_from(data, place)
        if magic != _ENTRY_MAGIC:
            break
        found.append((kind, subtype, offset, size))
    return found


def _application(partitions: list[tuple[int, int, int, int]]) -> int:
    """Where in flash the first application begins, that which a new board runs; below zero where there is none."""
    return min(((subtype, offset) for kind, subtype, offset, _ in partitions if kind == _APPLICATION), default=(0, -1))[
        1
    ]


def _is_whole(data: bytes, begin: int, chip: int) -> bool:
    """Whether the image that begins there is all there, is for a chip, and is what it was when it was made."""
    header = data[begin : begin + _HEADER]
    if len(header) < _HEADER or header[0] != _IMAGE_MAGIC or int.from_bytes(header[12:14], "little") != chip:
        return False
    if not 0 < header[1] <= _MAX_SEGMENTS:
        return False
    place = begin + _HEADER
    for _ in range(header[1]):
        if place + 8 > len(data):
            return False
        place += 8 + int.from_bytes(data[place + 4 : place + 8], "little")
    # The checksum is the last byte of 16 from the image's beginning on, and the digest is of everything before it.
    end = begin + (place - begin + 16) // 16 * 16
    if not header[23]:
        return end <= len(data)
    return data[end : end + _DIGEST] == hashlib.sha256(data[begin:end]).digest()
