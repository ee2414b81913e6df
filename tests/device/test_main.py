"""What a board runs after its start, device/main.py: whatever ends the terminal, the board comes back."""

import sys
import unittest

from scripted import Printed

from terminal import app


class FakeMachine:
    """Stands in for ``machine`` and ``time``.

    Attributes:
        log: what was done.
        interrupted: whether somebody presses Ctrl-C during the pause.
    """

    def __init__(self):
        self.log = []
        self.interrupted = False

    def sleep_ms(self, ms):
        self.log.append(ms)
        if self.interrupted:
            raise KeyboardInterrupt

    def reset(self):
        self.log.append("reset")


class MainTest(unittest.TestCase):
    def setUp(self):
        self.printed = Printed()
        self.machine = FakeMachine()
        self.real = app.run, {name: sys.modules.get(name) for name in ("machine", "time")}
        for name in self.real[1]:
            sys.modules[name] = self.machine

    def tearDown(self):
        self.printed.close()
        app.run, modules = self.real
        for name, module in modules.items():
            del sys.modules[name]
            if module:
                sys.modules[name] = module

    def start(self, error=None):
        """Start a board whose terminal ends by that."""

        def run():
            if error:
                raise error

        app.run = run
        sys.modules.pop("main", None)
        __import__("main")

    def test_ends(self):
        """After ``quit``, or a mistake in wisp.json, it stays at the prompt."""
        self.start()
        self.assertEqual((self.machine.log, self.printed.lines), ([], []))

    def test_errors(self):
        for error in (OSError(5), MemoryError("told"), ValueError("ibuf"), AttributeError("x"), ZeroDivisionError()):
            self.machine.log = []
            self.start(error)
            self.assertEqual(self.printed.take(), [{"event": "error", "reason": repr(error)}])
            self.assertEqual(self.machine.log, [5000, "reset"])

    def test_nothing_can_be_told(self):
        from terminal import events

        def full(line):
            raise MemoryError("told")

        events.print = full
        # A real reset does not come back; this one does, to the error.
        with self.assertRaises(MemoryError):
            self.start(OSError(5))
        self.assertEqual(self.machine.log, [5000, "reset"])

    def test_ctrl_c(self):
        """It leads to the prompt, from the terminal and from the pause."""
        with self.assertRaises(KeyboardInterrupt):
            self.start(KeyboardInterrupt())
        self.assertEqual(self.machine.log, [])
        self.machine.interrupted = True
        with self.assertRaises(KeyboardInterrupt):
            self.start(OSError(5))
        self.assertEqual(self.machine.log, [5000])


if __name__ == "__main__":
    unittest.main()
