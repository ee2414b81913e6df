"""Run by MicroPython's unix port: the terminal's program from a ROM image, as on a board whose code lies in flash.

    micropython tools/lab/rom.py image.romfs wisp.json     runs it
    micropython tools/lab/rom.py image.romfs               prints what of the heap it takes before it does anything

The image is mapped into memory beside the heap, as flash is on a board: code and constants are used where they lie.
"""

import gc
import os
import sys

import ffi
import uctypes
import vfs

__all__ = ["mount"]

_PROT_READ = 1
_MAP_PRIVATE = 2


def mount(path):
    """Map an image into memory, and import from it and from nowhere else from now on."""
    size = os.stat(path)[6]
    libc = ffi.open(None)
    file = libc.func("i", "open", "si")(path, 0)
    at = libc.func("p", "mmap", "piiiii")(None, size, _PROT_READ, _MAP_PRIVATE, file, 0)
    vfs.mount(vfs.VfsRom(uctypes.bytearray_at(at, size)), "/rom")
    sys.path[:] = ["/rom"]


if __name__ == "__main__":
    mount(sys.argv.pop(1))
    if len(sys.argv) > 1:
        __import__("terminal.__main__")
    else:
        __import__("terminal.app")
        gc.collect()
        print(gc.mem_alloc())
