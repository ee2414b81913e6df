"""The C library, and registers: a file that both sides of the emulated board have mapped into memory.

`lab.board.registers` is the other side, and says what each register holds.
"""

import ffi
import uctypes
from micropython import const

_O_RDWR = const(2)
_PROT_READ_WRITE = const(3)
_MAP_SHARED = const(1)
_BYTES = const(4096)
_PR_SET_PDEATHSIG = const(1)
_SIGKILL = const(9)

_libc = ffi.open(None)
open = _libc.func("i", "open", "si")
_close = _libc.func("i", "close", "i")
_mmap = _libc.func("p", "mmap", "pliiil")
read = _libc.func("i", "read", "ipi")
write = _libc.func("i", "write", "ipi")
pread = _libc.func("i", "pread", "ipll")
pwrite = _libc.func("i", "pwrite", "ipll")
ioctl = _libc.func("i", "ioctl", "ilp")
setitimer = _libc.func("i", "setitimer", "ipp")
leave = _libc.func("v", "_exit", "i")
_prctl = _libc.func("i", "prctl", "illll")
usleep = _libc.func("i", "usleep", "i")


def mapped(path, size):
    """A file of the computer's as a bytearray outside the heap; what is written there survives this process."""
    file = open(path, _O_RDWR)
    at = _mmap(None, size, _PROT_READ_WRITE, _MAP_SHARED, file, 0)
    _close(file)
    return uctypes.bytearray_at(at, size)


registers = None


def open_registers(path):
    """Map them; from now on this process ends with who started it."""
    global registers
    _prctl(_PR_SET_PDEATHSIG, _SIGKILL, 0, 0, 0)
    registers = mapped(path, _BYTES)


def word(at):
    """A register of four bytes."""
    r = registers
    return r[at] | r[at + 1] << 8 | r[at + 2] << 16 | r[at + 3] << 24


def set_word(at, value):
    for i in range(4):
        registers[at + i] = value >> (8 * i) & 255
