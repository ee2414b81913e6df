import sys
import unittest

from terminal import demand

NAME = "terminal.accepting"


class DemandTest(unittest.TestCase):
    """Loading, where there is too little memory for it."""

    def setUp(self):
        self.failures = 0
        self.relieved = []
        self.before = demand.relief[:]
        demand.relief[:] = [lambda: self.relieved.append(None)]
        demand.__import__ = self._load

    def tearDown(self):
        demand.relief[:] = self.before
        del demand.__import__

    def _load(self, name):
        __import__(name)
        if self.failures:
            self.failures -= 1
            raise MemoryError("as told")

    def call(self, function="Nothing"):
        """Call what no module has: AttributeError says that it was loaded."""
        return demand.call(NAME, function)

    def test_enough(self):
        with self.assertRaises(AttributeError):
            self.call()
        self.assertEqual((self.relieved, NAME in sys.modules), ([], False))

    def test_relief(self):
        self.failures = 1
        with self.assertRaises(AttributeError):
            self.call()
        self.assertEqual((len(self.relieved), NAME in sys.modules), (1, False))

    def test_not_even_with_relief(self):
        self.failures = 2
        with self.assertRaises(MemoryError):
            self.call()
        self.assertEqual((len(self.relieved), NAME in sys.modules), (1, False))

    def test_what_is_called_has_no_memory(self):
        """It may have begun, so it is not called again."""
        calls = []

        def starve():
            calls.append(None)
            raise MemoryError("as told")

        demand.__import__ = lambda name: sys.modules.__setitem__(NAME, Fake(starve))
        with self.assertRaises(MemoryError):
            self.call("starve")
        self.assertEqual((len(calls), self.relieved), (1, []))


class Fake:
    def __init__(self, starve):
        self.starve = starve


if __name__ == "__main__":
    unittest.main()
