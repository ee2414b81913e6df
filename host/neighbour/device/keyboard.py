"""A person at a command that goes on: what they type, read without waiting, and their Ctrl-C."""

import codecs
import contextlib
import os
import select
import signal
import sys
import termios
import time
from types import FrameType
from typing import Any

__all__ = ["LEAVE", "Interrupts", "Keyboard", "letters"]

LEAVE = "\x1d"  # Ctrl-], as terminal programs have it
_BYTES = 4096
_PAUSE_S = 0.05
_END = "\x04"  # Ctrl-D, where no driver takes it
_SIGNALS = ("SIGINT", "SIGTERM", "SIGHUP")  # Windows has no SIGHUP


class Keyboard:
    """Standard input, a terminal or not, as text: whole lines, or letter by letter.

    In lines the terminal's own editing works, and Ctrl-] ends a line as Enter does. Letters are not shown by the
    terminal. Its settings are as they were at the end of the block.

    Args:
        letters: whether letters are wanted, where it is a terminal.

    Attributes:
        is_terminal: whether it is one.
        is_at_end: whether there will never be more: Ctrl-D, or the end of a file.
    """

    def __init__(self, *, letters: bool = False) -> None:
        self._letters = letters
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode
        self._part = ""
        self._before: list[Any] | None = None
        try:
            self._file = sys.stdin.fileno()
            self.is_at_end = False
        except (AttributeError, OSError, ValueError):  # there is none
            self._file = -1
            self.is_at_end = True
        self.is_terminal = not self.is_at_end and os.isatty(self._file)

    def __enter__(self) -> "Keyboard":
        if self.is_terminal:
            with contextlib.suppress(termios.error):
                self._before = termios.tcgetattr(self._file)
                self._set()
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            with contextlib.suppress(termios.error):
                termios.tcsetattr(self._file, termios.TCSADRAIN, self._before)

    def _set(self) -> None:
        settings = termios.tcgetattr(self._file)
        if self._letters:
            settings[3] &= ~(termios.ICANON | termios.ECHO)
            settings[6][termios.VMIN], settings[6][termios.VTIME] = 1, 0
        else:
            settings[6][termios.VEOL] = LEAVE.encode()
        termios.tcsetattr(self._file, termios.TCSADRAIN, settings)

    def read(self) -> str:
        """What was typed since the last time, whether it is a whole line or not."""
        if self.is_at_end or not select.select([self._file], [], [], 0)[0]:
            return ""
        try:
            data = os.read(self._file, _BYTES)
        except OSError:  # the terminal is gone
            data = b""
        self.is_at_end = not data
        text = self._decode(data, self.is_at_end)
        if self._letters and self.is_terminal and _END in text:
            text = text[: text.index(_END)]
            self.is_at_end = True
        return text

    def lines(self) -> list[str]:
        """The lines that were ended since the last time, and what there is at the end of all."""
        *lines, self._part = (self._part + self.read().replace(LEAVE, LEAVE + "\n")).split("\n")
        if self.is_at_end and self._part:
            lines.append(self._part)
            self._part = ""
        return lines


def letters(typed: str) -> str:
    """What of typed text is letters, ends of lines and erasing: keys like the arrows send sequences, and mean nothing.

    Args:
        typed: of a terminal; a sequence comes in one piece.
    """
    kept, at = [], 0
    while at < len(typed):
        char = typed[at]
        at += 1
        if char == "\x1b":
            if typed[at : at + 1] in {"[", "O"}:
                at += 1
                while at < len(typed) and not "@" <= typed[at] <= "~":
                    at += 1
            at += 1
        elif char == "\r":
            kept.append("\n")
        elif char == "\x7f":
            kept.append("\b")
        elif char in "\n\b" or (char >= " " and not "\x7f" <= char < "\xa0"):
            kept.append(char)
    return "".join(kept)


class Interrupts:
    """Counts Ctrl-C in a block, in place of ending there and then; so a call can be hung up before.

    Attributes:
        count: of Ctrl-C.
        must_leave: whether the program was told to end by another signal, or its terminal is gone.
    """

    def __init__(self) -> None:
        self.count = 0
        self.must_leave = False
        self._before: dict[int, Any] = {}

    def __bool__(self) -> bool:
        return bool(self.count) or self.must_leave

    def __enter__(self) -> "Interrupts":
        for name in _SIGNALS:
            if hasattr(signal, name):
                number = getattr(signal, name)
                if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
                    self._before[number] = signal.signal(number, self._take)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _take(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGINT:
            self.count += 1
        else:
            self.must_leave = True

    def pause(self, seconds: float) -> None:
        """Wait, but no longer than until an interruption."""
        until = time.monotonic() + seconds
        while not self and time.monotonic() < until:
            time.sleep(_PAUSE_S)
