"""Puts a terminal on a board: finds out what has to be changed, and changes it so that it may be cut off anywhere.

    look -> plan -> boot.py first -> other files as NAME.new, each verified -> the journal -> the change -> verified

Until the journal (`inventory.JOURNAL`) is there, nothing has changed for the board; from then on the change is made,
whatever happens: boot.py finishes it at the next start, and so does whoever runs this again. A ROMFS is written where
it lies, so while that is done `inventory.HALT` keeps the program from being started.
"""

import hashlib
import json
import os
import re
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from sipwire import __version__

from .configuration import written
from .image import build, build_rom
from .inventory import (
    CONFIG,
    HALT,
    INSTALLED,
    JOURNAL,
    KEYS,
    NEW,
    Inventory,
    digests,
    keys_folder,
    prepare,
    read_config,
    setup_keys,
)
from .port import DeviceError, FullError, GoneError, Prompt, prompt
from .sources import ROOTS

__all__ = ["BEFORE", "Plan", "Tell", "install", "plan", "remove"]

#: Told how much of the work is done, from 0 to 1, and what is being done.
Tell = Callable[[float, str], None]

_PROGRAMS = ("boot.py", "main.py")
#: What is added to the name of somebody else's boot.py or main.py, which makes room for ours.
BEFORE = ".before"
_FOLDERS = ("terminal", "sipwire")
_LIBRARY = "lib/"  # where `mpremote mip install` puts things, where it is not told otherwise
_IN_THE_WAY = {name + ending for name in _FOLDERS for ending in ("", ".py", ".mpy")}
_RECORDS = (HALT, JOURNAL, "wisp.crash")
_SPARE_BLOCKS = 8  # that a file system wants for itself, and a terminal for its setup keys
_FILE_COST_BYTES = 3000  # what a file takes of the time, as if it were so many bytes more
_ROM = "program.romfs"
_OFFSET = re.compile(rb"Writing at offset (\d+)")
_HALTED = b"the program was not written to its end: run `wisp device provision` again\n"
_SAID_BYTES = 4096
_SILENT_S = 60  # mpremote may be, while a block of flash is erased
_TRIES = 3  # to write a file and find it as it should be
_VERIFYING = "verifying"

# Runs on the board, and may be cut off anywhere: a name is free before something gets it.
_ON_BOARD = """
def keep(path, as_):
    there = os.listdir("/")
    if path in there and as_ not in there:
        os.rename(path, as_)
def put(path):
    try:
        os.rename(path + ".new", path)
    except OSError:
        os.remove(path)
        os.rename(path + ".new", path)
def drop(path):
    try:
        os.remove(path)
    except OSError:
        pass
def folders(path):
    made = ""
    for one in path.split("/")[:-1]:
        made = made + "/" + one if made else one
        try:
            os.mkdir(made)
        except OSError:
            pass
def drop_all(folder):
    try:
        for one in os.ilistdir(folder):
            path = folder + "/" + one[0]
            if one[1] == 0x4000:
                drop_all(path)
            else:
                os.remove(path)
    except OSError:
        pass
    drop_empty(folder)
def drop_empty(folder):
    try:
        os.rmdir(folder)
    except OSError:
        pass
"""


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@dataclass
class Plan:
    """What is to be changed on a board.

    Attributes:
        put: files that are new or differ, by their path.
        ready: those of them that are there already as NAME.new, since it was cut off.
        remove: files of an earlier program.
        folders: those of it that are empty then.
        same: files that stay as they are.
        rom: an image for the board's ROMFS; None where there is none, or it is there already.
        others: programs of somebody else that make room for ours.
        is_unfinished: whether there is a change that was decided on and that the board could not finish.
    """

    put: dict[str, bytes] = field(default_factory=dict, repr=False)
    ready: set[str] = field(default_factory=set)
    remove: list[str] = field(default_factory=list)
    folders: list[str] = field(default_factory=list)
    same: list[str] = field(default_factory=list)
    rom: bytes | None = field(default=None, repr=False)
    others: list[str] = field(default_factory=list)
    is_unfinished: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.put or self.remove or self.rom is not None or self.is_unfinished)

    @property
    def bytes(self) -> int:
        """What has to be written."""
        return sum(map(len, self.put.values())) + len(self.rom or b"")


def plan(session: Prompt, found: Inventory, values: dict[str, Any]) -> Plan:
    """Find out what has to be changed.

    Args:
        session: the board's prompt.
        found: what is on it.
        values: its configuration as it shall be.

    Raises:
        LinkError: the image can't be built.
        DeviceError: the board does not answer, or has no room.
    """
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image"
        build(image, arch=found.architecture)
        files = {path.relative_to(image).as_posix(): path.read_bytes() for path in image.rglob("*") if path.is_file()}
        build_rom(image, Path(folder) / _ROM)
        rom = (Path(folder) / _ROM).read_bytes()
    made = Plan(is_unfinished=JOURNAL in found.hashes)
    wanted = {name: (ROOTS[-1] / name).read_bytes() for name in _PROGRAMS}
    wanted[CONFIG] = written(values)
    if found.rom_bytes >= len(rom):
        if _rom_digest(session, len(rom)) != _sha256(rom):
            made.rom = rom
    else:
        wanted |= files
    record = {"version": __version__, "files": {path: _sha256(data) for path, data in sorted(wanted.items())}}
    wanted[INSTALLED] = (json.dumps(record) + "\n").encode()
    for path, data in wanted.items():
        if found.hashes.get(path) == _sha256(data):
            made.same.append(path)
        else:
            made.put[path] = data
    made.ready = {path for path, data in made.put.items() if found.hashes.get(path + NEW) == _sha256(data)}
    # What somebody has put beside our program is nobody's, and would be in its way.
    made.remove = sorted(
        path
        for path in found.hashes
        if path.removeprefix(_LIBRARY).split("/")[0] in _IN_THE_WAY and path.removesuffix(NEW) not in wanted
    )
    made.folders = _folders(made.remove, wanted)
    made.remove += [path for path in _RECORDS if path in found.hashes and path != JOURNAL]
    known = _known(session) if INSTALLED in found.hashes else {}
    there = [one for one in _PROGRAMS if one in made.put and one in found.hashes]
    made.others = [one for one in there if found.hashes[one] != known.get(one)]
    if any(found.config.get(name, values[name]) != values[name] for name in ("user", "domain")):
        made.remove += found.keys  # they are another account's
    _check_room(found, made)
    return made


def _folders(removed: Iterable[str], wanted: Iterable[str]) -> list[str]:
    """Those that are left empty, the inner ones first."""
    left = {folder for path in removed for folder in PurePosixPath(path).parents}
    left -= {folder for path in wanted for folder in PurePosixPath(path).parents}
    return sorted(map(str, left), reverse=True)


def _known(session: Prompt) -> dict[str, str]:
    """What was installed there before, by us."""
    try:
        files = json.loads(session.run(f"print(open({INSTALLED!r}).read())"))["files"]
    except (DeviceError, ValueError, KeyError, TypeError):
        return {}
    return files if isinstance(files, dict) else {}


def _check_room(found: Inventory, made: Plan) -> None:
    """See to it that there is room for the new files beside the old ones.

    Raises:
        FullError: there is none.
    """
    block = found.block_bytes or 4096
    left = [data for path, data in made.put.items() if path not in made.ready]
    needed = sum(-(-len(data) // block) * block for data in left) + _SPARE_BLOCKS * block
    if needed > found.free_bytes:
        raise FullError(
            f"the board's flash is full: {needed // 1024} KiB are wanted beside what is there, "
            f"{found.free_bytes // 1024} KiB are free. Remove what is not needed (`mpremote ls`, `mpremote rm`), or "
            "the old program (`wisp device remove`). Nothing has been changed"
        )


def _rom_digest(session: Prompt, size: int) -> str:
    """SHA-256 of as much of the board's ROMFS, in hex."""
    found: str = session.value(
        "import vfs\n_d = vfs.rom_ioctl(2, 0)\n"
        "def _rom(size):\n"
        " h = hashlib.sha256()\n"
        " b = bytearray(512)\n"
        " for i in range(0, size, 512):\n"
        "  n = min(512, size - i)\n"
        "  if hasattr(_d, 'readblocks'):\n"
        "   _d.readblocks(i // _d.ioctl(5, 0), b, i % _d.ioctl(5, 0))\n"
        "   h.update(memoryview(b)[:n])\n"
        "  else:\n"
        "   h.update(memoryview(_d)[i:i + n])\n"
        " return binascii.hexlify(h.digest()).decode()\n"
        f"print(json.dumps(_rom({size})))"
    )
    return found


def install(port: str, made: Plan, tell: Tell) -> None:
    """Make a change.

    Args:
        port: the board's.
        made: by `plan`.
        tell: told how far it is.

    Raises:
        DeviceError: it could not be made. The board is as it was, or it is to be run again.
    """
    total = made.bytes + _FILE_COST_BYTES * (len(made.put) + 2)
    done = 0
    with prompt(port) as session:
        prepare(session)
        session.run(_ON_BOARD)
        for path in made.others:
            session.run(f"keep({path!r}, {path + BEFORE!r})")
        if made.is_unfinished:
            # Its journal would take what is written now, half of it perhaps, for its own; without it the program is
            # neither the old nor the new one, until all of this one is there.
            session.write_file(HALT, _HALTED)
            session.run(f"drop({JOURNAL!r})")
        # boot.py first: whatever happens then, it is there to finish the change.
        for path in sorted(made.put, key=lambda path: (path != "boot.py", path)):
            data = made.put[path]
            if path not in made.ready:
                _put_beside(session, port, path, data, lambda size, path=path, at=done: tell((at + size) / total, path))  # type: ignore[misc]
            if path == "boot.py":
                session.run(f"put({path!r})")
            done += len(data) + _FILE_COST_BYTES
        if made.rom is None:
            tell(done / total, _VERIFYING)
            _commit(session, port, made)
            return
        session.write_file(HALT, _HALTED)
    _write_rom(port, made.rom, lambda size: tell((done + size) / total, "program"))
    tell(1 - _FILE_COST_BYTES / total, _VERIFYING)
    with prompt(port) as session:
        prepare(session)
        session.run(_ON_BOARD)
        if _rom_digest(session, len(made.rom)) != _sha256(made.rom):
            raise DeviceError(f"{port}: what the board has of the program is not what was written: run it again")
        _commit(session, port, made)


def _put_beside(session: Prompt, port: str, path: str, data: bytes, tell: Callable[[int], None]) -> None:
    """Write a file beside the one that it replaces, and verify it.

    Raises:
        DeviceError: it can't be written. Nothing that is in use has changed.
    """
    name = path + NEW
    session.run(f"folders({path!r})")
    for _ in range(_TRIES):
        try:
            session.write_file(name, data, tell)
        except FullError:
            session.run(f"_w.close()\ndrop({name!r})")
            raise
        if digests(session, [name]) == [_sha256(data)]:
            return
    raise DeviceError(f"{port}: {path}: is not what was written: is the cable good, or the board's flash worn out?")


def _commit(session: Prompt, port: str, made: Plan) -> None:
    """Decide on the change, make it, and see that it is made.

    Raises:
        DeviceError: it is not; it is to be run again.
    """
    put = [path for path in made.put if path != "boot.py"]
    journal = json.dumps({"put": put, "remove": [*made.remove, HALT], "folders": made.folders}).encode()
    _put_beside(session, port, JOURNAL, journal, lambda _: None)
    session.run(f"put({JOURNAL!r})")
    # What the board would do at its next start.
    session.run(made.put.get("boot.py", (ROOTS[-1] / "boot.py").read_bytes()).decode())
    for path, digest in zip(made.put, digests(session, list(made.put)), strict=True):
        if digest != _sha256(made.put[path]):
            raise DeviceError(f"{port}: {path}: is not what was written: is the board's flash worn out? Run it again")


def _write_rom(port: str, rom: bytes, tell: Callable[[int], None]) -> None:
    """Write the ROMFS, by mpremote.

    Raises:
        DeviceError: it can't be written. It is to be run again: the program that was there is gone.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / _ROM
        file.write_bytes(rom)
        command = [sys.executable, "-m", "mpremote", "connect", port, "romfs", "deploy", str(file)]
        pipe, quiet = subprocess.PIPE, subprocess.DEVNULL
        with subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, stdin=quiet) as one:
            assert one.stdout is not None
            said = b""
            while select.select([one.stdout], [], [], _SILENT_S)[0]:
                part = os.read(one.stdout.fileno(), 1024)
                if not part:
                    break
                said = (said + part)[-_SAID_BYTES:]
                if found := _OFFSET.findall(said):
                    tell(int(found[-1]))
            else:
                one.kill()
    if one.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise GoneError(f"{port}: the program could not be written ({' '.join(last)}): run it again")


def remove(port: str) -> list[str]:
    """Remove a terminal from a board, with its secrets; what was there before it comes back.

    Args:
        port: the board's.

    Returns:
        What is left of it: a ROMFS, which only another one replaces.

    Raises:
        DeviceError: it can't be; it is to be run again.
    """
    with prompt(port) as session:
        prepare(session)
        session.run(_ON_BOARD)
        # Its secrets first, and what starts it last: cut off, it says that there is no configuration.
        keys = keys_folder(read_config(session))
        for path in setup_keys(session, keys):
            session.run(f"drop({path!r})")
        session.run(f"drop_empty({keys!r})")
        for path in (CONFIG, CONFIG + NEW, JOURNAL + NEW, JOURNAL):
            session.run(f"drop({path!r})")
        for folder in (KEYS, *_FOLDERS, *(_LIBRARY + one for one in _FOLDERS)):
            session.run(f"drop_all({folder!r})")
        known = _known(session)
        for path in _PROGRAMS:
            # Ours, by what is written of it or by what it is; or gone, where this was cut off here.
            if digests(session, [path])[0] in ("", known.get(path), _sha256((ROOTS[-1] / path).read_bytes())):
                session.run(f"drop({path!r})")
                session.run(f"keep({path + BEFORE!r}, {path!r})")
        for path in (*_RECORDS, INSTALLED, *(one + NEW for one in (*_PROGRAMS, INSTALLED))):
            session.run(f"drop({path!r})")
        prepare(session)
        left = [
            path for path, digest in zip((CONFIG, JOURNAL), digests(session, [CONFIG, JOURNAL]), strict=True) if digest
        ]
        left += setup_keys(session, keys)
        if left:
            raise DeviceError(f"{port}: {', '.join(left)}: can't be removed: is the board's flash worn out? Erase it")
        return session.value("import sys\nprint(json.dumps([one for one in sys.path if one[:4] == '/rom']))")  # type: ignore[no-any-return]
