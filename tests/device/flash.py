"""What the model of `model` has in place of chance and of flash: all that comes of a seed is the same on every Python.

`Random` is SHA-256 of a seed and a counter: its numbers are below 2^24, which every Python here has as small ones.

`Flash` stands for the files of both terminals. The power may fail at any byte that is written, before a file is
removed, and before what was written is there to stay. There are two kinds of file systems: one empties a file when it
is opened for writing and has each byte at once (FAT), the other has the old file until the new one is closed
(littlefs).
"""

from hashlib import sha256

__all__ = ["Flash", "PowerCut", "Random"]


class PowerCut(BaseException):
    """The power is gone: nothing that runs may catch it, and nothing that it does afterwards counts."""


class Random:
    """A stream of numbers and of bytes.

    Args:
        seed: any number from 0.
        name: of the stream; those of other names have nothing to do with it.
    """

    def __init__(self, seed, name):
        self._start = b"%s %d " % (name, seed)
        self._count = 0
        self._left = b""

    def bytes(self, size):
        """So many bytes."""
        while len(self._left) < size:
            self._left += sha256(self._start + b"%d" % self._count).digest()
            self._count += 1
        data, self._left = self._left[:size], self._left[size:]
        return data

    def below(self, end):
        """A number from 0 to below ``end``, which is at most 2^24."""
        return int.from_bytes(self.bytes(3), "big") % end

    def hits(self, percent):
        """Whether something comes to pass that does so often."""
        return percent > 0 and self.below(100) < percent

    def choice(self, items):
        """One of a list."""
        return items[self.below(len(items))]


class _File:
    """A file that is open."""

    def __init__(self, flash, path, data=None):
        self._flash = flash
        self._path = path
        self._data = data
        self._at = 0

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        if self._data is None and kind is None:
            self._flash.close(self._path)

    def read(self, size):
        data = self._data[self._at : self._at + size]
        self._at += len(data)
        return data

    def write(self, data):
        self._flash.write(self._path, data)
        return len(data)


class Flash:
    """Files in memory; it has what `terminal.keystore` and `terminal.trust` use of `os`, and `open`.

    Args:
        is_late: whether a file is the old one until the new one is closed.

    Attributes:
        files: {path: bytes}.
        left: {folder: bytes that may still be written in it, or other steps, until the power fails}.
        full: folders without room: each writing fails.
    """

    def __init__(self, is_late):
        self.files = {}
        self.left = {}
        self.full = []
        self._is_late = is_late
        self._pending = {}
        self._last = ""

    def _spend(self, path, count=1):
        """So many steps of a writing; returns how many of them the power lasts for."""
        self._last = path
        folder = path.rpartition("/")[0]
        left = self.left.get(folder)
        if left is None:
            return count
        done = min(count, left)
        self.left[folder] = left - done
        return done

    def _step(self, path):
        if not self._spend(path):
            raise PowerCut

    def open(self, path, mode):
        """As `open`, for ``rb`` and ``wb``."""
        if mode == "rb":
            if path not in self.files:
                raise OSError(2)
            return _File(self, path, self.files[path])
        if path.rpartition("/")[0] in self.full:
            raise OSError(28)
        self._step(path)
        self._pending[path] = b""
        self._show(path)
        return _File(self, path)

    def write(self, path, data):
        """Write to a file that is open."""
        done = self._spend(path, len(data))
        self._pending[path] += data[:done]
        self._show(path)
        if done < len(data):
            raise PowerCut

    def _show(self, path):
        if not self._is_late:
            self.files[path] = self._pending[path]

    def close(self, path):
        """Close a file that was written."""
        self._step(path)
        self.files[path] = self._pending.pop(path)

    def sync(self):
        """All is there to stay."""
        self._step(self._last)

    def stat(self, path):
        """Whether a file is there; what it is like is not told."""
        if path not in self.files:
            raise OSError(2)

    def listdir(self, folder):
        """The names of the files in a folder."""
        return sorted([path[len(folder) + 1 :] for path in self.files if path.startswith(folder + "/")])

    def mkdir(self, folder):
        """Folders are there."""

    def remove(self, path):
        """Remove a file."""
        self._step(path)
        if self.files.pop(path, None) is None:
            raise OSError(2)
