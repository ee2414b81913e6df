import unittest

from sipwire.replay import ReplayWindow


class ReplayWindowTest(unittest.TestCase):
    def test_against_a_set(self):
        """Any order of indexes gives what a plain set of everything seen would give."""
        state = 12345
        for size in (64, 128, 256):
            window = ReplayWindow(size)
            seen = set()
            highest = -1
            base = 0
            for _ in range(20000):
                state = (state * 1103515245 + 12345) & 0x7FFFFFFF
                base += state % 3
                index = base + (state >> 8) % (size + 20) - size // 2
                if state % 997 == 0:
                    index = base = base + size * 3
                if index < 0:
                    continue
                wanted = index not in seen and index > highest - size
                self.assertEqual(window.is_fresh(index), wanted)
                if wanted:
                    window.add(index)
                    seen.add(index)
                    highest = max(highest, index)
                self.assertEqual(window.highest, highest)

    def test_start(self):
        window = ReplayWindow(64, 100)
        for index in (0, 36, 37, 99, 100):
            self.assertFalse(window.is_fresh(index))
        self.assertTrue(window.is_fresh(101))
        window.add(110)
        self.assertTrue(window.is_fresh(101))
        self.assertFalse(window.is_fresh(100))

    def test_asking_changes_nothing(self):
        window = ReplayWindow()
        for _ in range(3):
            self.assertTrue(window.is_fresh(5))
        window.add(5)
        self.assertFalse(window.is_fresh(5))
        self.assertTrue(window.is_fresh(4))


if __name__ == "__main__":
    unittest.main()
