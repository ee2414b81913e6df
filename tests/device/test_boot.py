"""What a board does first, device/boot.py: a change of its files is made whole, or not at all, wherever it is cut off."""

import builtins
import errno
import json
import os
import sys
import unittest

import vfs

BOOT = __file__.rsplit("/", 1)[0] + "/../../device/boot.py"
with open(BOOT) as source:
    SOURCE = source.read()


class CutError(Exception):
    """The power is gone."""


class File:
    """A file that is being read."""

    def __init__(self, data):
        self.data = data

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def read(self, size=-1):
        got = self.data if size < 0 else self.data[:size]
        self.data = self.data[len(got) :]
        return got

    def readinto(self, buffer):
        got = self.read(len(buffer)).encode()
        buffer[: len(got)] = got
        return len(got)


class Flash:
    """A file system: stands in for ``os``, ``json`` and ``open``.

    Args:
        files: text by path.
        replaces: whether a rename takes the place of another file, as littlefs has it, or is refused, as by FAT.

    Attributes:
        left: operations until the power is gone, or None.
        broken: (operation, path) that fail as flash does that is worn out.
        changes: how many operations have changed something.
        gone: folders that were removed.
    """

    def __init__(self, files, replaces):
        self.files = dict(files)
        self.replaces = replaces
        self.left = None
        self.broken = ()
        self.changes = 0
        self.gone = []

    def _step(self, operation, path, must_be=True):
        if self.left is not None:
            if not self.left:
                raise CutError
            self.left -= 1
        if (operation, path) in self.broken:
            raise OSError(errno.EIO)
        if must_be and path not in self.files:
            raise OSError(errno.ENOENT)

    def open(self, path):
        self._step("open", path)
        return File(self.files[path])

    def load(self, file):
        return json.loads(file.read())

    def stat(self, path):
        self._step("stat", path)
        return (0x8000, 0, 0, 0, 0, 0, len(self.files[path]), 0, 0, 0)

    def remove(self, path):
        self._step("remove", path)
        del self.files[path]
        self.changes += 1

    def rmdir(self, path):
        self._step("rmdir", path, False)
        if [one for one in self.files if one.startswith(path + "/")]:
            raise OSError(errno.EEXIST)
        self.gone.append(path)

    def rename(self, old, new):
        self._step("rename", old)
        if new in self.files and not self.replaces:
            raise OSError(errno.EEXIST)
        self.files[new] = self.files.pop(old)
        self.changes += 1

    def boot(self, left=None):
        """Run boot.py; returns whether it came to its end."""
        self.left = left
        before = {name: sys.modules.get(name) for name in ("json", "os")}
        sys.modules["json"] = sys.modules["os"] = self
        builtins.open = self.open
        try:
            exec(SOURCE, {"__name__": "boot"})
        except CutError:
            return False
        finally:
            del builtins.open
            for name, module in before.items():
                del sys.modules[name]
                if module:
                    sys.modules[name] = module
        return True


OLD = {"main.py": "old main", "terminal/app.mpy": "old app", "terminal/gone.mpy": "old gone", "wisp.json": "{}"}
WRITTEN = {"main.py.new": "new main", "terminal/app.mpy.new": "new app", "terminal/more.mpy.new": "new more"}
CHANGE = {
    "put": ["main.py", "terminal/app.mpy", "terminal/more.mpy"],
    "remove": ["terminal/gone.mpy", "terminal/never.mpy"],
}
NEW = {"main.py": "new main", "terminal/app.mpy": "new app", "terminal/more.mpy": "new more", "wisp.json": "{}"}


def flash(replaces, is_made=True):
    """A board on which all is written, and the change said to be made."""
    files = dict(OLD)
    files.update(WRITTEN)
    if is_made:
        files["wisp.commit"] = json.dumps(CHANGE)
    return Flash(files, replaces)


class BootTest(unittest.TestCase):
    def test_nothing_to_do(self):
        """As long as nobody says that it is made, nothing of a change is; and nothing is written."""
        for replaces in (True, False):
            made = flash(replaces, is_made=False)
            before = dict(made.files)
            self.assertTrue(made.boot())
            self.assertEqual((made.files, made.changes), (before, 0))

    def test_a_change(self):
        for replaces in (True, False):
            made = flash(replaces)
            self.assertTrue(made.boot())
            self.assertEqual(made.files, NEW)
            self.assertTrue(made.boot())
            self.assertEqual(made.files, NEW)

    def test_folders_that_are_empty(self):
        """MicroPython takes an empty one for a package of its name, and looks no further."""
        made = flash(True)
        change = {"put": [], "remove": ["terminal/board/gone.mpy"], "folders": ["terminal/board", "terminal"]}
        made.files.update({"wisp.commit": json.dumps(change), "terminal/board/gone.mpy": "gone"})
        self.assertTrue(made.boot())
        self.assertEqual(made.gone, ["terminal/board"])

    def test_cut_off_anywhere(self):
        """After each operation, and again after each of the next start, and of the third."""
        for replaces in (True, False):
            cuts = 0
            for first in range(100):
                for second in range(100):
                    made = flash(replaces)
                    if made.boot(first):
                        break
                    self.assertIn("wisp.commit", made.files)
                    cuts += 1
                    if made.boot(second):
                        break
                    made.boot(first)
                    self.assertTrue(made.boot())
                    self.assertEqual(made.files, NEW)
                self.assertEqual(made.files, NEW)
                if made.left:
                    break
            self.assertGreater(cuts, 50)

    def test_no_file_is_ever_lost(self):
        """Wherever it is cut off, each file is there as it was or as it is to be."""
        for replaces in (True, False):
            for first in range(100):
                made = flash(replaces)
                is_done = made.boot(first)
                for path in CHANGE["put"]:
                    there = (made.files.get(path), made.files.get(path + ".new"))
                    self.assertTrue(NEW[path] in there)
                if is_done:
                    break

    def test_flash_that_fails(self):
        """What can't be read is not taken for what is not there: the change stays to be made."""
        for operation, path in (
            ("open", "wisp.commit"),
            ("stat", "terminal/app.mpy.new"),
            ("rename", "terminal/app.mpy.new"),
            ("remove", "terminal/gone.mpy"),
        ):
            for replaces in (True, False):
                made = flash(replaces)
                made.broken = ((operation, path),)
                with self.assertRaises(OSError):
                    made.boot()
                self.assertIn("wisp.commit", made.files)
                made.broken = ()
                self.assertTrue(made.boot())
                self.assertEqual(made.files, NEW)

    def test_a_journal_of_something_else(self):
        """Nothing is done by it, and it is told: an exception here leads on to main.py, which tells it too."""
        for text in ("", "{", "[]", "{}"):
            made = flash(True)
            made.files["wisp.commit"] = text
            before = dict(made.files)
            with self.assertRaises((ValueError, KeyError, TypeError)):
                made.boot()
            self.assertEqual(made.files, before)

    def test_leaves_nothing_behind(self):
        """What boot.py defines would lie in the heap beside the terminal."""
        names = {"__name__": "boot"}
        exec(SOURCE, names)
        self.assertEqual(sorted([name for name in names if name[:2] != "__"]), ["errno", "json", "os"])


class Blocks:
    """Flash in memory, by blocks, as a driver has it.

    Attributes:
        left: writes and erasures until the power is gone, or None.
    """

    SIZE = 512

    def __init__(self, count, data=None):
        self.data = data or bytearray(count * self.SIZE)
        self.count = count
        self.left = None

    def readblocks(self, block, buffer, offset=0):
        at = block * self.SIZE + offset
        buffer[:] = self.data[at : at + len(buffer)]

    def _spend(self):
        if self.left is not None:
            if not self.left:
                raise CutError
            self.left -= 1

    def writeblocks(self, block, buffer, offset=0):
        self._spend()
        at = block * self.SIZE + offset
        self.data[at : at + len(buffer)] = buffer

    def ioctl(self, operation, block):
        if operation == 4:
            return self.count
        if operation == 5:
            return self.SIZE
        if operation == 6:
            self._spend()
            self.data[block * self.SIZE : (block + 1) * self.SIZE] = b"\xff" * self.SIZE
        return 0


def walk(folder):
    """The files of a folder: text by path."""
    found = {}
    for entry in os.ilistdir("/flash/" + folder[:-1]):
        path = folder + entry[0]
        if entry[1] == 0x4000:
            found.update(walk(path + "/"))
        else:
            with open(path) as file:
                found[path] = file.read()
    return found


class RealTest(unittest.TestCase):
    """MicroPython's own file systems."""

    def setUp(self):
        self.folder = os.getcwd()

    def mount(self, kind, blocks):
        vfs.mount(kind(blocks), "/flash")
        os.chdir("/flash")

    def umount(self):
        os.chdir(self.folder)
        vfs.umount("/flash")

    def tearDown(self):
        if os.getcwd() != self.folder:
            self.umount()

    def write(self, kind):
        """Blocks with the files of `flash`."""
        blocks = Blocks(120)
        kind.mkfs(blocks)
        self.mount(kind, blocks)
        os.mkdir("terminal")
        for path, text in flash(True).files.items():
            with open(path, "w") as file:
                file.write(text)
        self.umount()
        return bytes(blocks.data)

    def test_a_change(self):
        for kind in (vfs.VfsLfs2, vfs.VfsLfs1, vfs.VfsFat):
            self.mount(kind, Blocks(120, bytearray(self.write(kind))))
            exec(SOURCE, {})
            self.assertEqual(walk(""), NEW)
            self.umount()

    def test_littlefs_cut_off_at_each_block(self):
        before = self.write(vfs.VfsLfs2)
        for count in range(1000):
            blocks = Blocks(120, bytearray(before))
            self.mount(vfs.VfsLfs2, blocks)
            blocks.left = count
            try:
                exec(SOURCE, {})
                is_done = True
            except (CutError, OSError):
                is_done = False
            blocks.left = None
            self.umount()
            self.mount(vfs.VfsLfs2, Blocks(120, bytearray(blocks.data)))
            exec(SOURCE, {})
            self.assertEqual(walk(""), NEW)
            self.umount()
            if is_done:
                break
        self.assertTrue(5 < count < 1000)


if __name__ == "__main__":
    unittest.main()
