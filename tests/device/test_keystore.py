"""The terminal's key store: old or new after a power cut at any byte, and no more than there is room for."""

import os
import unittest
from binascii import hexlify

from pair import FOLDER, files, remove

from terminal import keystore
from terminal.keystore import MAX_KEYS, Key, forget, load, peers, save
from terminal.trust import path_of

BOB = b"sip:bob@b.example"
NOW_S = 1795262400


def key(number, **changes):
    made = Key(bytes([number]) * 32, NOW_S + 86400, 20)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def told(keys):
    return [(one.key, one.end, one.uses, one.sent, one.seen) for one in keys]


class StoreCase(unittest.TestCase):
    def setUp(self):
        self.folder = FOLDER + hexlify(os.urandom(6)).decode()

    def tearDown(self):
        remove(self.folder)

    def write(self, content):
        """Let the folder have just this in it."""
        remove(self.folder)
        os.mkdir(self.folder)
        for name, data in content.items():
            with open(self.folder + "/" + name, "wb") as file:
                file.write(data)

    def loaded(self, peer=BOB):
        return told(load(self.folder, peer))


class StoreTest(StoreCase):
    def test_nothing(self):
        self.assertEqual(self.loaded(), [])
        self.assertEqual(peers(self.folder), [])
        forget(self.folder, BOB)

    def test_there_and_back(self):
        keys = [key(1, sent=7, seen=0x7FFFFFFF, uses=65535), key(2, end=0xFFFFFFFF, uses=0)]
        save(self.folder, BOB, keys, NOW_S)
        self.assertEqual(self.loaded(), told(keys))
        self.assertEqual(load(self.folder, BOB)[0].kid, keys[0].kid)
        self.assertEqual(self.loaded(b"sip:bob@c.example"), [])
        self.assertEqual(peers(self.folder), [BOB])

    def test_at_most_two(self):
        save(self.folder, BOB, [key(i) for i in range(5)], NOW_S)
        self.assertEqual(self.loaded(), told([key(0), key(1)]))
        self.assertEqual(MAX_KEYS, 2)

    def test_what_is_written(self):
        """Two small files a peer, whatever happens, and a third of them never."""
        for i in range(20):
            save(self.folder, BOB, [key(i), key(i + 1)], NOW_S + i)
            self.assertEqual(self.loaded(), told([key(i), key(i + 1)]))
        found = files(self.folder)
        self.assertEqual(len(found), 2)
        self.assertTrue(max([len(data) for data in found.values()]) < 150)

    def test_forgotten(self):
        save(self.folder, BOB, [key(1)], NOW_S)
        save(self.folder, BOB, [key(2)], NOW_S)
        forget(self.folder, BOB)
        self.assertEqual(files(self.folder), {})
        self.assertEqual(self.loaded(), [])

    def test_too_long(self):
        with self.assertRaises(OSError):
            save(self.folder, b"sip:" + b"x" * 300 + b"@b.example", [key(1)], NOW_S)
        longest = b"sip:" + b"x" * 241 + b"@b.example"
        save(self.folder, longest, [key(1), key(2)], NOW_S)
        self.assertEqual(self.loaded(longest), told([key(1), key(2)]))

    def test_limit_on_peers(self):
        """The one that has not been heard of for longest goes."""
        names = [b"sip:u%d@b.example" % i for i in range(16)]
        for i, name in enumerate(names):
            save(self.folder, name, [key(i)], NOW_S + i)
        save(self.folder, names[0], [key(0)], NOW_S + 100)
        self.assertEqual(len(peers(self.folder)), 16)
        save(self.folder, BOB, [key(99)], NOW_S + 101)
        self.assertEqual(sorted(peers(self.folder)), sorted(names[:1] + names[2:] + [BOB]))
        self.assertEqual(len(files(self.folder)), 17)  # of which one has been written twice

    def test_somebody_with_the_same_name(self):
        """The file is found by a hash; whose it is stands in it."""
        save(self.folder, BOB, [key(1)], NOW_S)
        for data in files(self.folder).values():
            other = path_of(self.folder, b"sip:eve@e.example", 0)
            with open(other, "wb") as file:
                file.write(data)
        self.assertEqual(self.loaded(b"sip:eve@e.example"), [])


class PowerCutTest(StoreCase):
    def cut(self, change, wanted):
        """Cut the power at every byte that a change writes, and at each of its steps.

        Args:
            change: what is done.
            wanted: what may be there afterwards.
        """
        before = files(self.folder)
        steps = []
        real_open, real_remove = keystore.__dict__.get("open", open), os.remove

        class Recording:
            def __init__(self, path, mode):
                self.path = path
                self.mode = mode
                self.file = real_open(path, mode)

            def __enter__(self):
                return self

            def __exit__(self, *_):
                self.file.close()

            def read(self, size):
                return self.file.read(size)

            def write(self, data):
                steps.append((self.path.split("/")[-1], data))
                self.file.write(data)

        class Os:
            listdir, mkdir = os.listdir, os.mkdir

            @staticmethod
            def remove(path):
                real_remove(path)
                steps.append((path.split("/")[-1], None))

        keystore.open, keystore.os = Recording, Os
        try:
            change()
        finally:
            del keystore.open
            keystore.os = os
        seen = []
        state = dict(before)
        for name, data in steps:
            cuts = [dict(state)]
            if data is None:
                state.pop(name, None)
            else:
                for size in range(len(data)):
                    cut = dict(state)
                    cut[name] = data[:size]
                    cuts.append(cut)
                    # Some flash keeps the rest of what was there.
                    old = dict(state)
                    old[name] = data[:size] + state.get(name, b"")[size:]
                    cuts.append(old)
                state[name] = data
            for content in cuts:
                self.write(content)
                self.assertIn(self.loaded(), wanted)
                seen.append(self.loaded())
                # And it goes on from there as from any other.
                if len(seen) % 50 == 0:
                    save(self.folder, BOB, [key(77)], NOW_S)
                    self.assertEqual(self.loaded(), told([key(77)]))
        self.write(state)
        seen.append(self.loaded())
        for one in wanted:
            self.assertIn(one, seen)
        self.assertTrue(len(seen) > 10)

    def test_the_first(self):
        self.cut(lambda: save(self.folder, BOB, [key(1)], NOW_S), [[], told([key(1)])])

    def test_another(self):
        for i in range(3):
            save(self.folder, BOB, [key(i)], NOW_S)
        self.cut(lambda: save(self.folder, BOB, [key(4), key(2)], NOW_S), [told([key(2)]), told([key(4), key(2)])])

    def test_to_forget(self):
        """What is forgotten never comes back, whenever the power fails."""
        for times in (1, 2, 3):
            remove(self.folder)
            for i in range(times):
                save(self.folder, BOB, [key(i)], NOW_S)
            self.cut(lambda: forget(self.folder, BOB), [told([key(times - 1)]), []])

    def test_forgotten_once_it_is_gone(self):
        """From the first state in which nothing is found on, nothing is."""
        save(self.folder, BOB, [key(1)], NOW_S)
        save(self.folder, BOB, [key(2)], NOW_S)
        states = []
        real = os.remove

        class Os:
            listdir, mkdir = os.listdir, os.mkdir

            @staticmethod
            def remove(path):
                states.append(files(self.folder))
                real(path)

        keystore.os = Os
        try:
            forget(self.folder, BOB)
        finally:
            keystore.os = os
        self.assertEqual(len(states), 2)
        for state in states:
            self.write(state)
            self.assertEqual(self.loaded(), [])

    def test_every_bit(self):
        """A file that has been damaged is none."""
        save(self.folder, BOB, [key(1)], NOW_S)
        [(name, data)] = files(self.folder).items()
        for i in range(len(data)):
            for bit in range(8):
                self.write({name: data[:i] + bytes([data[i] ^ 1 << bit]) + data[i + 1 :]})
                self.assertEqual(self.loaded(), [])


if __name__ == "__main__":
    unittest.main()
