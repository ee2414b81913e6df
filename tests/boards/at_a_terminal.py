"""A command that a test runs as a person would: at a terminal of its own, whose screen can be looked at."""

import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Self

__all__ = ["Command"]

WISP = str(Path(sys.executable).with_name("wisp"))
_WAIT_S = 40.0


class Command:
    """``wisp`` with arguments, at a terminal.

    Args:
        arguments: of the command.
        columns, lines: the terminal's size.

    Attributes:
        shown: all that was written to the terminal.
    """

    def __init__(self, *arguments: str, columns: int = 100, lines: int = 40) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "LANG": "C.UTF-8"}
        for name in ("NO_COLOR", "COLUMNS", "LINES"):
            environment.pop(name, None)
        self._process = subprocess.Popen(
            [WISP, *arguments], stdin=slave, stdout=slave, stderr=slave, env=environment, start_new_session=True
        )
        self._slave = slave  # so that settings can be looked at afterwards
        self.shown = ""
        self._data = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        os.close(self._slave)
        self._reader.join(5)
        os.close(self._master)

    def _read(self) -> None:
        while True:
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return
            if not data:
                return
            self._data += data
            self.shown = self._data.decode(errors="replace")

    @property
    def screen(self) -> str:
        """What a live view has drawn last, without colours."""
        return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", self.shown.rpartition("\x1b[H")[2]).replace("\r", "")

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what is typed, as it does where no program wants it otherwise."""
        return bool(termios.tcgetattr(self._slave)[3] & termios.ECHO)

    def type(self, keys: str) -> None:
        """Press keys."""
        os.write(self._master, keys.encode())

    def interrupt(self, number: int = signal.SIGINT) -> None:
        """Send a signal, as Ctrl-C does."""
        self._process.send_signal(number)

    def wait_until(self, found: Callable[[str], bool], wanted: str) -> None:
        """Wait until something is shown."""
        end = time.monotonic() + _WAIT_S
        while not found(self.shown):
            assert time.monotonic() < end, f"not shown: {wanted}; {self.shown[-3000:]}"
            time.sleep(0.02)

    def wait_for(self, text: str) -> None:
        """Wait until a text is shown."""
        self.wait_until(lambda shown: text in shown, text)

    def end(self) -> int:
        """Wait for the end; returns the exit status."""
        try:
            return self._process.wait(_WAIT_S)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it does not end: {self.shown[-3000:]}") from None
