"""What a board runs after its start, device/main.py: whatever ends the terminal, the board can be reached."""

import json
import os
import sys
import unittest

from scripted import Printed

from terminal import app, board, settling

MAIN = __file__.rsplit("/", 1)[0] + "/../../device/main.py"
with open(MAIN) as source:
    SOURCE = source.read()

PWRON_RESET, HARD_RESET, WDT_RESET = 1, 2, 3


class ResetError(BaseException):
    """The board starts anew: nothing that runs goes on."""


class FakePin:
    IN, PULL_UP = "in", "up"


class FakeMachine:
    """Stands in for ``machine`` and ``time``.

    Attributes:
        log: what was done.
        cause: of the reset.
        ms: time that has passed.
        interrupts: when somebody presses Ctrl-C.
        held: (pin, from, to): when the button is held.
    """

    WDT_RESET = WDT_RESET

    def __init__(self):
        self.log = []
        self.cause = PWRON_RESET
        self.ms = 0
        self.interrupts = []
        self.held = (0, 0, 0)
        self.pins = []
        machine = self

        class Pin(FakePin):
            def __init__(self, number, mode, pull):
                if number > 48:
                    raise ValueError("invalid pin")
                assert (mode, pull) == ("in", "up")
                self.number = number
                machine.pins.append(number)

            def value(self):
                number, begin, end = machine.held
                return 0 if number == self.number and begin <= machine.ms < end else 1

        self.Pin = Pin

    def sleep_ms(self, ms):
        self.ms += ms
        if self.interrupts and self.ms >= self.interrupts[0]:
            self.interrupts.pop(0)
            raise KeyboardInterrupt

    def reset(self):
        self.log.append("reset at %d" % self.ms)
        raise ResetError

    def reset_cause(self):
        return self.cause


class Case(unittest.TestCase):
    def setUp(self):
        self.printed = Printed()
        self.real = app.run, {name: sys.modules.get(name) for name in ("machine", "time")}
        self.home, self.path = os.getcwd(), board.__path__
        if self.path[0] != "/":
            board.__path__ = self.home + "/" + self.path
        self.folder = "/tmp/wisp-main-%d" % id(self)
        os.mkdir(self.folder)
        os.chdir(self.folder)
        self.runs = 0

    def tearDown(self):
        self.printed.close()
        app.run, modules = self.real
        for name, module in modules.items():
            sys.modules.pop(name, None)
            if module:
                sys.modules[name] = module
        os.chdir(self.home)
        board.__path__ = self.path
        for entry in os.ilistdir(self.folder):
            os.remove(self.folder + "/" + entry[0])
        os.rmdir(self.folder)

    def write(self, path, text):
        with open(path, "w") as file:
            file.write(text if isinstance(text, str) else json.dumps(text))

    def crash(self):
        """What the board keeps of crashes."""
        try:
            with open("wisp.crash") as file:
                return json.load(file)
        except OSError:
            return None

    def start(self, error=None, good=True, settles=False, **machine):
        """Start a board whose terminal ends by that.

        Returns:
            Its events; whether it is at the prompt is `at_prompt` then.
        """

        def run():
            self.runs += 1
            self.loaded = list(sys.modules)
            if settles:
                settling.settle()
            if error:
                raise error
            return good

        app.run = run
        self.machine = FakeMachine()
        for name, value in machine.items():
            setattr(self.machine, name, value)
        for name in ("machine", "time"):
            sys.modules[name] = self.machine
        self.runs = 0
        try:
            exec(SOURCE, {"__name__": "__main__"})
            self.at_prompt = True
        except ResetError:
            self.at_prompt = False
        if sys.modules.pop("terminal.board.starting", None):
            del board.starting
        return self.printed.take()

    def assertPrompt(self, events, reason, what_next):
        """The board is at the prompt, and the last thing told is why."""
        self.assertTrue(self.at_prompt)
        self.assertEqual(self.machine.log, [])
        self.assertEqual((events[-1]["event"], events[-1]["reason"]), ("prompt", reason))
        self.assertIn(what_next, events[-1]["next"])


class EndTest(Case):
    def test_ends(self):
        """After ``quit``, or a mistake in wisp.json, it stays at the prompt."""
        self.assertPrompt(self.start(), "quit", "machine.reset() starts")
        self.assertPrompt(self.start(good=False), "configuration", "mend wisp.json")
        self.assertEqual((self.runs, self.crash()), (1, None))

    def test_ctrl_c(self):
        """It leads to the prompt: at once, within the first second, from the terminal, and from the pause."""
        for machine, error in (
            ({"interrupts": [50]}, None),
            ({"interrupts": [1000]}, None),
            ({}, KeyboardInterrupt()),
            ({"interrupts": [2000]}, OSError(5)),
        ):
            self.assertPrompt(self.start(error, **machine), "Ctrl-C", "machine.reset() starts")

    def test_a_second_to_prevent_it(self):
        self.start()
        self.assertEqual((self.machine.ms, self.runs), (1000, 1))
        self.start(interrupts=[1000])
        self.assertEqual(self.runs, 0)

    def test_crashes(self):
        """It is told, and the board starts again five seconds later."""
        for error in (OSError(5), MemoryError("told"), ValueError("ibuf"), AttributeError("x"), ZeroDivisionError()):
            events = self.start(error)
            self.assertEqual(events, [{"event": "error", "reason": repr(error)}])
            self.assertEqual(self.machine.log, ["reset at 6000"])
            self.assertEqual(self.crash(), {"count": 1, "reason": repr(error)})
            os.remove("wisp.crash")

    def test_nothing_can_be_told(self):
        from terminal import events

        def full(line):
            raise MemoryError("told")

        events.print = full
        self.start(OSError(5))
        self.assertEqual(self.machine.log, ["reset at 6000"])

    def test_it_can_not_be_kept(self):
        """A full flash: the board starts again, for there is nothing better."""
        os.mkdir("wisp.crash")
        try:
            events = self.start(OSError(5))
        finally:
            os.rmdir("wisp.crash")
        self.assertEqual([event["event"] for event in events], ["error", "error"])
        self.assertIn("wisp.crash can't be kept", events[1]["reason"])
        self.assertEqual(self.machine.log, ["reset at 6000"])

    def test_no_program(self):
        """A board with nothing but main.py says so, at the prompt."""
        real = __import__

        def missing(name, *args):
            if name[:8] == "terminal":
                raise ImportError("no module named '%s'" % name)
            return real(name, *args)

        import builtins

        builtins.__import__ = missing
        try:
            with self.assertRaises(ImportError):
                self.start()
        finally:
            builtins.__import__ = real
        self.assertEqual((self.machine.log, self.runs), ([], 0))

    def test_nothing_stays_in_memory(self):
        """While the terminal runs there is of main.py what it needs to end, and of the start nothing."""
        before = list(sys.modules)
        self.start()
        self.assertEqual(sorted(self.loaded), sorted(before + ["machine", "time"]))


class CrashTest(Case):
    def test_three_in_a_row(self):
        for count in (1, 2, 3):
            events = self.start(OSError(count))
            self.assertEqual(self.crash(), {"count": count, "reason": "OSError(%d,)" % count})
            told = [event for event in events if event["event"] == "crashed"]
            before = [{"event": "crashed", "count": count - 1, "reason": "OSError(%d,)" % (count - 1)}]
            self.assertEqual(told, before if count > 1 else [])
            self.assertEqual(self.runs, 1)
        for _ in range(3):  # and so each time, until somebody does something
            events = self.start()
            self.assertPrompt(events, "crashes", "remove wisp.crash")
            self.assertEqual(self.runs, 0)
            self.assertEqual(events[0], {"event": "crashed", "count": 3, "reason": "OSError(3,)"})
            self.assertEqual(events[1]["reason"], "crashed 3 times in a row, the last time by OSError(3,)")
        os.remove("wisp.crash")
        self.assertPrompt(self.start(), "quit", "")
        self.assertEqual(self.runs, 1)

    def test_not_in_a_row(self):
        """Who has run for five minutes begins to count anew."""
        for _ in range(4):
            for _ in range(2):
                self.start(OSError(5))
            self.start(settles=True)
            self.assertEqual((self.runs, self.crash()), (1, None))
        self.start(settles=True)
        self.assertEqual(list(os.ilistdir(".")), [])  # nor is anything written where there is nothing to clear
        for _ in range(5):
            self.start(OSError(5), settles=True)
            self.assertEqual(self.crash()["count"], 1)

    def test_quit_is_no_end_of_a_row(self):
        self.start(OSError(5))
        self.start()
        self.assertEqual(self.crash()["count"], 1)

    def test_watchdog(self):
        """A reset by it is a crash, and one of another kind none."""
        for count in (1, 2):
            events = self.start(cause=WDT_RESET)
            self.assertEqual(events[0]["event"], "crashed")
            self.assertEqual((events[0]["count"], events[0]["reason"][:8]), (count, "watchdog"))
            self.assertEqual(self.runs, 1)
        self.start(cause=HARD_RESET)
        self.assertEqual((self.runs, self.crash()["count"]), (1, 2))
        events = self.start(cause=WDT_RESET)
        self.assertPrompt(events, "crashes", "wisp device provision")
        self.assertEqual((self.runs, self.crash()["count"]), (0, 3))

    def test_memory_at_import(self):
        """As little memory as that is a crash like any other."""
        self.start(MemoryError("at import"))
        self.assertEqual(self.crash(), {"count": 1, "reason": repr(MemoryError("at import"))})

    def test_what_is_kept_is_damaged(self):
        """The power failed while it was written: there was a crash."""
        for text in (b"", b"{", b"[]", b'{"count": 2}', b'{"count": "x", "reason": "y"}', b"\xff\xfe\x80"):
            with open("wisp.crash", "wb") as file:
                file.write(text)
            events = self.start()
            self.assertEqual(events[0], {"event": "crashed", "count": 1, "reason": "unknown"})
            self.assertEqual(self.runs, 1)


class PreventTest(Case):
    def test_button(self):
        """Held for 100 ms, at any time of the first second."""
        for begin in (0, 200, 840):
            self.assertPrompt(self.start(held=(0, begin, begin + 101)), "button", "machine.reset() starts")
            self.assertEqual(self.runs, 0)
        self.start(held=(0, 300, 345))
        self.assertEqual(self.runs, 1)  # noise
        self.start(held=(0, 1000, 9999))
        self.assertEqual(self.runs, 1)

    def test_another_button(self):
        self.write("wisp.json", {"board": {"button": 9}})
        self.start(held=(0, 0, 9999))
        self.assertEqual((self.runs, self.machine.pins), (1, [9]))
        self.assertPrompt(self.start(held=(9, 0, 9999)), "button", "")

    def test_no_button(self):
        """None is none; and where the configuration is wrong there is the usual one, or none, and no crash."""
        for values, pins in (
            ({"board": {"button": -1}}, []),
            ({"board": {"button": 99}}, []),
            ({"board": {"button": "x"}}, []),
            ({"board": {}}, [0]),
            ({}, [0]),
            ("{", [0]),
            ("[]", [0]),
        ):
            self.write("wisp.json", values)
            self.start(held=(0, 9000, 9999))
            self.assertEqual((self.runs, self.machine.pins), (1, pins))

    def test_what_is_no_text(self):
        """Worn out flash leads to the prompt, or is the configuration's matter; the count goes on meanwhile."""
        for path, reason in (("wisp.halt", "halted"), ("wisp.commit", "unfinished"), ("wisp.json", "quit")):
            with open(path, "wb") as file:
                file.write(b"\xff\xfe\x80")
            self.assertPrompt(self.start(), reason, "")
            os.remove(path)
        self.assertEqual(self.crash(), None)

    def test_halt(self):
        self.write("wisp.halt", "a ROM image is being written\n")
        events = self.start()
        self.assertPrompt(events, "halted", "remove wisp.halt")
        self.assertEqual(events[0], {"event": "error", "reason": "halted: a ROM image is being written"})
        self.assertEqual((self.runs, self.machine.ms), (0, 0))

    def test_unfinished_change(self):
        """boot.py could not finish it: half a program is none."""
        self.write("wisp.commit", {"put": []})
        events = self.start()
        self.assertPrompt(events, "unfinished", "wisp device provision")
        self.assertEqual(self.runs, 0)


if __name__ == "__main__":
    unittest.main()
