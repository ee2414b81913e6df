"""Flash: a file, in blocks of 4096 bytes that are erased to 0xFF before they are written."""

import vfs
from micropython import const

from . import host

_BLOCK = const(4096)
_O_RDWR = const(2)
_BUSY = const(1)
_OPERATIONS = const(6)
_POWER = const(12)
_DELAY = const(16)
_POWER_CUT = const(12)  # exit status


class Flash:
    """What littlefs lies on: MicroPython's extended block device.

    Nothing in here allocates, as in a driver in C: what a program finds of heap in one piece depends on what is left
    behind between the pieces of code that are loaded. Nor is it interrupted by Ctrl-C: who sends the signal waits while
    the register BUSY is set.
    """

    def __init__(self, path, size):
        self._file = host.open(path, _O_RDWR)
        self._blocks = size // _BLOCK

    def readblocks(self, block, buffer, offset=0):
        _begin()
        host.pread(self._file, buffer, len(buffer), block * _BLOCK + offset)
        host.registers[_BUSY] = 0

    def writeblocks(self, block, buffer, offset=0):
        _begin()
        size = _strain(len(buffer))
        host.pwrite(self._file, buffer, size, block * _BLOCK + offset)
        if size < len(buffer):
            host.leave(_POWER_CUT)
        host.registers[_BUSY] = 0

    def ioctl(self, request, argument):
        if request == 4:
            return self._blocks
        if request == 5:
            return _BLOCK
        if request == 6:
            _begin()
            size = _strain(_BLOCK)
            for at in range(argument * _BLOCK, argument * _BLOCK + size, 64):
                host.pwrite(self._file, _ERASED, 64, at)
            if size < _BLOCK:
                host.leave(_POWER_CUT)
            host.registers[_BUSY] = 0
        return 0


def _begin():
    r = host.registers
    r[_BUSY] = 1
    r[_OPERATIONS] = r[_OPERATIONS] + 1 & 255


_ERASED = b"\xff" * 64


def _strain(size):
    """Take the time that flash takes; returns how many bytes are reached before power fails, mostly all."""
    delay = host.word(_DELAY)
    if delay:
        host.usleep(delay)
    left = host.word(_POWER)
    if left:
        host.set_word(_POWER, left - 1)
        if left == 1:
            return size // 2
    return size


def mount(path, size):
    """Mount the file system at the root; a flash that holds none gets one, as at a real board's first start."""
    flash = Flash(path, size)
    vfs.umount("/")
    try:
        vfs.mount(vfs.VfsLfs2(flash, progsize=32, readsize=32, lookahead=32), "/")
    except OSError:
        vfs.VfsLfs2.mkfs(flash, progsize=32, readsize=32, lookahead=32)
        vfs.mount(vfs.VfsLfs2(flash, progsize=32, readsize=32, lookahead=32), "/")
        with open("/boot.py", "w") as file:
            file.write("# Runs at every start, before main.py.\n")


class Rom:
    """The ROMFS partition, by ``vfs.rom_ioctl``."""

    def __init__(self, path, size):
        self._data = host.mapped(path, size)

    def ioctl(self, request, number=0, *arguments):
        if request == 1:
            return 1
        if number != 0:
            return -22  # EINVAL
        if request == 2:
            return self._data
        if request == 3:
            at, size = arguments if len(arguments) == 2 else (0, arguments[0])
            if at + size > len(self._data):
                return -22
            data = memoryview(self._data)
            while size > 0:
                data[at : at + 64] = _ERASED
                at += 64
                size -= 64
            return 4
        if request == 4:
            at, buffer = arguments
            size = _strain(len(buffer))
            self._data[at : at + size] = buffer[:size]
            if size < len(buffer):
                host.leave(_POWER_CUT)
            return 0
        if request == 5:
            return 0
        if request == 6:
            return _BLOCK
        return -22

    def mount(self, path):
        """Mount what it holds; False where that is nothing."""
        try:
            vfs.mount(vfs.VfsRom(self._data), "/rom")
        except OSError:
            return False
        path.append("/rom")
        path.append("/rom/lib")
        return True
