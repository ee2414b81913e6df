import unittest
from time import ticks_add

from terminal import clock as module
from terminal.clock import Clock

PERIOD = ticks_add(0, -1) + 1  # after which ticks_ms starts again: 2^30 on 32 bits, 2^62 on 64


class ClockTest(unittest.TestCase):
    def setUp(self):
        self.real = module.ticks_ms
        self.ticks = 0
        module.ticks_ms = lambda: self.ticks % PERIOD

    def tearDown(self):
        module.ticks_ms = self.real

    def test_rises(self):
        clock = Clock()
        for ms in (0, 1, 1, 20, 5000):
            self.ticks = ms
            self.assertEqual(clock.now(), ms)

    def test_across_the_wrap(self):
        self.ticks = PERIOD - 10
        clock = Clock()
        self.ticks += 25
        self.assertEqual(clock.now(), 25)
        self.ticks += 1
        self.assertEqual(clock.now(), 26)

    def test_for_months(self):
        """Beyond 2^30 and 2^31 ms, where small integers end; with a wrap right at the beginning."""
        self.ticks = PERIOD - 777
        clock = Clock()
        day = 86400000
        for i in range(1, 101):
            self.ticks += day
            self.assertEqual(clock.now(), i * day)
        self.assertGreater(clock.now(), 1 << 32)

    def test_asked_once_in_6_days(self):
        self.ticks = PERIOD // 3
        clock = Clock()
        for i in range(1, 9):
            self.ticks += 6 * 86400000
            self.assertEqual(clock.now(), i * 6 * 86400000)

    def test_real_ticks(self):
        module.ticks_ms = self.real
        clock = Clock()
        last = clock.now()
        for _ in range(1000):
            now = clock.now()
            self.assertTrue(0 <= now - last < 10000)
            last = now


if __name__ == "__main__":
    unittest.main()
