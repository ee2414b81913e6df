"""What is on a board: its MicroPython, its flash, and the files of a terminal that it has already."""

import json
from dataclasses import dataclass, field
from typing import Any

from .port import DeviceError, Prompt

__all__ = [
    "CONFIG",
    "HALT",
    "INSTALLED",
    "JOURNAL",
    "KEYS",
    "NEW",
    "Inventory",
    "check",
    "digests",
    "keys_folder",
    "look",
    "prepare",
    "read_config",
    "setup_keys",
]

#: Files at the root of a board's file system.
CONFIG = "wisp.json"
INSTALLED = "wisp.installed"  # what was installed: {"version": text, "files": {path: SHA-256 in hex}}
JOURNAL = "wisp.commit"  # a change that is decided on, and is to be finished: {"put": [path], "remove": [path]}
HALT = "wisp.halt"  # why the program must not be started
#: What a file is called until the change that it belongs to is decided on.
NEW = ".new"
KEYS = "wisp.keys"  # the folder of setup keys, where the configuration names no other
# How mpy-cross names what ``sys.implementation._mpy`` has a number for; 0: no native code.
_ARCHITECTURES = (
    "", "x86", "x64", "armv6", "armv6m", "armv7m", "armv7em", "armv7emsp", "armv7emdp",
    "xtensa", "xtensawin", "rv32imc", "rv64imc",
)  # fmt: skip
_OLDEST = (1, 23)  # of MicroPython: what loads .mpy of version 6.3
_MPY = 6
_WANTED = ("machine", "network", "cryptolib", "hashlib", "select", "socket", "json")
# Those in lib are of `mpremote mip install`: they come before a ROMFS.
_FOLDERS = ("terminal", "sipwire", "lib/terminal", "lib/sipwire")
_AT_ONCE = 8  # files that are read without a word: none may seem to be stuck

# Runs on the board. The file system is read in small pieces: there may be little memory.
_LOOK = """
import sys, os, json, hashlib, binascii
def digest(path):
    try:
        f = open(path, "rb")
    except OSError:
        return None
    h = hashlib.sha256()
    b = bytearray(512)
    m = memoryview(b)
    while True:
        n = f.readinto(b)
        if not n:
            break
        h.update(m[:n])
    f.close()
    return binascii.hexlify(h.digest()).decode()
def walk(folder, deep):
    try:
        for one in os.ilistdir(folder or "/"):
            path = folder + "/" + one[0] if folder else one[0]
            if one[1] == 0x4000:
                if deep:
                    walk(path, True)
            else:
                found.append(path)
    except OSError:
        pass
"""
_FACTS = """
i = sys.implementation
v = os.statvfs("/")
have = []
for name in NAMES:
    try:
        __import__(name)
        have.append(name)
    except ImportError:
        pass
rom = 0
try:
    import vfs
    if vfs.rom_ioctl(1) > 0:
        rom = vfs.rom_ioctl(2, 0)
        rom = rom.ioctl(4, 0) * rom.ioctl(5, 0) if hasattr(rom, "ioctl") else 0 if isinstance(rom, int) else len(rom)
except (ImportError, AttributeError):
    pass
print(json.dumps([i.name, list(i.version)[:3], getattr(i, "_mpy", 0), getattr(i, "_machine", sys.platform), have,
    v[0] * v[3], v[0], rom]))
"""


@dataclass
class Inventory:
    """What has been found on a board.

    Attributes:
        name: the implementation of Python.
        version: of it.
        mpy: ``sys.implementation._mpy``: version, sub-version and architecture of the .mpy files that it loads.
        machine: what it says that it is.
        modules: those that it has, of those that a terminal needs.
        free_bytes, block_bytes: of the file system.
        rom_bytes: of the partition for a ROMFS, 0 where there is none.
        hashes: SHA-256 in hex of each file of the root and of the program's folders.
        keys: the files of setup keys.
        config: the present configuration, where there is one that can be read. It has secrets.
    """

    name: str
    version: tuple[int, ...]
    mpy: int
    machine: str
    modules: list[str]
    free_bytes: int
    block_bytes: int
    rom_bytes: int
    hashes: dict[str, str]
    keys: list[str]
    config: dict[str, Any] = field(repr=False)

    @property
    def architecture(self) -> str:
        """What its native code is for, as mpy-cross names it; "" where it has none, or that of another version."""
        number = self.mpy >> 10 & 0x3F
        return _ARCHITECTURES[number] if self.mpy >> 8 & 3 == 3 and number < len(_ARCHITECTURES) else ""

    @property
    def firmware(self) -> str:
        """Its firmware in words."""
        return f"MicroPython {'.'.join(map(str, self.version))} on {self.machine}"


def look(prompt: Prompt) -> Inventory:
    """Look at a board.

    Raises:
        DeviceError: it does not answer, or has something else than MicroPython.
    """
    prepare(prompt)
    facts = prompt.value(_FACTS.replace("NAMES", repr(_WANTED)))
    paths = prompt.value(
        f"found = []\nwalk('', False)\nfor one in {_FOLDERS!r}:\n walk(one, True)\nprint(json.dumps(found))"
    )
    hashes = dict(zip(paths, digests(prompt, paths), strict=True))
    config = read_config(prompt)
    return Inventory(
        facts[0],
        tuple(facts[1]),
        facts[2],
        facts[3],
        facts[4],
        facts[5],
        facts[6],
        facts[7],
        hashes,
        setup_keys(prompt, keys_folder(config)),
        config,
    )


def prepare(prompt: Prompt) -> None:
    """Define functions on the board that look at it: ``digest(path)``, and what they import.

    Raises:
        DeviceError: the board does not answer.
    """
    prompt.run(_LOOK)


def digests(prompt: Prompt, paths: list[str]) -> list[str]:
    """SHA-256 of files, in hex; "" where there is none. `prepare` comes before it.

    Raises:
        DeviceError: the board does not answer.
    """
    found: list[str] = []
    for i in range(0, len(paths), _AT_ONCE):
        found += prompt.value(f"print(json.dumps([digest(one) or '' for one in {paths[i : i + _AT_ONCE]!r}]))")
    return found


def keys_folder(config: dict[str, Any]) -> str:
    """Where a terminal of this configuration has its setup keys."""
    folder = config.get("keys")
    return folder.rstrip("/") if isinstance(folder, str) and folder else KEYS


def setup_keys(prompt: Prompt, folder: str) -> list[str]:
    """The files of setup keys in a folder, which may have others, too. `prepare` comes before it.

    Raises:
        DeviceError: the board does not answer.
    """
    found = prompt.value(f"found = []\nwalk({folder!r}, False)\nprint(json.dumps(found))")
    return [path for path in found if path.endswith((".0", ".1"))]


def read_config(prompt: Prompt) -> dict[str, Any]:
    """The configuration; {} where there is none that can be read.

    Raises:
        DeviceError: the board does not answer.
    """
    text = prompt.run(f"try:\n print(open({CONFIG!r}).read())\nexcept (OSError, UnicodeError, MemoryError):\n pass")
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def check(found: Inventory, port: str) -> None:
    """Check that a terminal can run there.

    Raises:
        DeviceError: it can't; the text says why.
    """
    if found.name != "micropython":
        raise DeviceError(f"{port}: {found.name} is on this board, and MicroPython is wanted: `wisp device flash`")
    if found.version < _OLDEST or found.mpy & 0xFF != _MPY:
        raise DeviceError(
            f"{port}: {found.firmware} is too old: 1.23 or newer is wanted; write one with `wisp device flash`"
        )
    missing = [name for name in _WANTED if name not in found.modules]
    if missing:
        raise DeviceError(
            f"{port}: {found.firmware} has no {', '.join(missing)}: a board with Wi-Fi and a full firmware is wanted"
        )
