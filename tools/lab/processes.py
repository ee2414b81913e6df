"""The processes of a lab: neighbours and emulated terminals, with their output in files.

A process is started in a session of its own and stopped by its own process id. What it says goes to a file, so that it
can outlive who started it; a terminal's commands come through a named pipe.
"""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["ROM", "LabError", "Neighbour", "Process", "Terminal", "text_shown", "uninterrupted", "within"]

#: Runs the terminal from a ROM image.
ROM = Path(__file__).with_name("rom.py")

_POLL_S = 0.01
_WAIT_S = 30.0  # a busy computer may stand still for seconds
_STOP_S = 5.0
_INTERRUPTIONS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def uninterrupted() -> "Iterator[None]":
    """Let Ctrl-C and SIGTERM wait until the end of the block.

    A program that is started, but not yet known to who will stop it, would be left behind. The signals are not blocked
    but put off: the program would inherit a mask. Only the main thread may use it.
    """
    caught: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: caught.append(number)) for number in _INTERRUPTIONS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in caught:
            signal.raise_signal(number)


def within(folder: Path, code: str) -> str:
    """Where a terminal's code is, seen from its working directory: by links there, which are made.

    A module keeps its path in the heap. On a board that is short; here it would be as long as a temporary folder's.

    Args:
        folder: the working directory.
        code: the folders of its code, joined by ":".
    """
    names = []
    for path in code.split(":"):
        for number in itertools.count():
            link = folder / f"code{number or ''}"
            with contextlib.suppress(FileExistsError):
                link.symlink_to(Path(path).resolve())
            if link.resolve() == Path(path).resolve():
                break
        names.append(link.name)
    return ":".join(names)


class LabError(Exception):
    """Something in the lab did not do what it should; the text says what, and what it said last."""


class Process:
    """A program that says JSON lines.

    Args:
        name: for messages.
        command: the program.
        output: the file its output goes to.
        folder: its working directory.
        environment: added to ours.
        pipe: a named pipe for its standard input, made here; None for none.
    """

    def __init__(
        self,
        name: str,
        command: list[str],
        output: Path,
        folder: Path,
        environment: dict[str, str] | None = None,
        pipe: Path | None = None,
    ) -> None:
        self.name = name
        self.output = output
        #: Where it takes commands, if it does.
        self.pipe = pipe
        self._offset = output.stat().st_size if output.exists() else 0
        self._tail = b""
        #: Every JSON line said since this start.
        self.lines: list[dict[str, Any]] = []
        if pipe is not None:
            with contextlib.suppress(FileExistsError):
                os.mkfifo(pipe, 0o600)
            # Opened for both, so that it never ends when a writer goes.
            stdin = os.open(pipe, os.O_RDWR)
        else:
            stdin = os.open(os.devnull, os.O_RDONLY)
        try:
            with output.open("ab") as log:
                self._process = subprocess.Popen(
                    command,
                    cwd=folder,
                    stdin=stdin,
                    stdout=log,
                    stderr=log,
                    env={**os.environ, **(environment or {})},
                    start_new_session=True,
                )
        finally:
            os.close(stdin)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def read(self) -> None:
        """Take in what it has said meanwhile."""
        with self.output.open("rb") as file:
            file.seek(self._offset)
            data = file.read()
        self._offset += len(data)
        *whole, self._tail = (self._tail + data).split(b"\n")
        for line in whole:
            if line.startswith(b"{"):
                with contextlib.suppress(ValueError):
                    self.lines.append(json.loads(line))

    def send(self, command: str) -> None:
        """Write a line to its standard input.

        Raises:
            LabError: it has ended.
        """
        assert self.pipe is not None
        try:
            # To open a pipe that nobody reads any more would wait for ever.
            pipe = os.open(self.pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            raise LabError(f"{self.name} has ended, before: {command}\n{self.last_words()}") from error
        with os.fdopen(pipe, "w") as file:
            file.write(command + "\n")

    def wait_for(self, event: str, timeout_s: float = _WAIT_S, *, since: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait until it says an event.

        Args:
            event: its name.
            timeout_s: how long to wait.
            since: index into ``lines`` to look from.
            fields: values that the event must have.

        Raises:
            LabError: it does not say it in time, or ends before.
        """

        def matches(line: dict[str, Any]) -> bool:
            return line.get("event") == event and all(line.get(key) == value for key, value in fields.items())

        wanted = ", ".join([event, *(f"{key}={value}" for key, value in fields.items())])
        return self.wait_until(
            lambda: next((line for line in self.lines[since:] if matches(line)), None), wanted, timeout_s
        )

    def wait_until(self, find: "Callable[[], Any]", wanted: str, timeout_s: float = _WAIT_S) -> Any:
        """Wait until ``find()`` finds something in ``lines``; returns that."""
        end = time.monotonic() + timeout_s
        while True:
            running = self.is_running
            self.read()
            found = find()
            if found:
                return found
            if not running:
                raise LabError(
                    f"{self.name} ended with status {self.exit_status}, before: {wanted}\n{self.last_words()}"
                )
            if time.monotonic() > end:
                raise LabError(f"{self.name}: not within {timeout_s:g} s: {wanted}\n{self.last_words()}")
            time.sleep(_POLL_S)

    def last_words(self, count: int = 12) -> str:
        """The end of its output."""
        text = self.output.read_text(errors="replace").splitlines()
        return "\n".join(f"    {line[:300]}" for line in text[-count:])

    def kill(self) -> None:
        """End it at once, as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        """Ask it to end; insist after a while."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()


class Neighbour(Process):
    """A neighbour process.

    Args:
        folder: of its configuration.
        domain: its domain.
    """

    def __init__(self, folder: Path, domain: str) -> None:
        command = [str(Path(sys.executable).with_name("wisp")), "serve", str(folder)]
        super().__init__(domain, command, folder / "neighbour.log", folder)
        self.domain = domain
        self.folder = folder

    def wait_ready(self, timeout_s: float = _WAIT_S) -> None:
        """Wait until it serves."""
        self.wait_for("ready", timeout_s)


class Terminal(Process):
    """An emulated terminal: MicroPython running the terminal's code.

    Args:
        configuration: its JSON file; output and pipe are made beside it.
        micropython: the interpreter.
        code: the folder of its code: an image, or folders of sources joined by ":"; or the file of a ROM image.
        heap: the size of its heap, as MicroPython's ``-X heapsize`` takes it.
    """

    def __init__(self, configuration: Path, micropython: str, code: str, heap: str) -> None:
        name = configuration.stem
        is_rom = Path(code).is_file()
        run = [str(ROM), code] if is_rom else ["-m", "terminal"]
        super().__init__(
            name,
            [micropython, "-X", f"heapsize={heap}", *run, configuration.name],
            configuration.with_suffix(".events"),
            configuration.parent,
            {} if is_rom else {"MICROPYPATH": within(configuration.parent, code)},
            configuration.with_suffix(".commands"),
        )
        self.configuration = configuration
        settings = json.loads(configuration.read_text())
        self.aor = f"sip:{settings['user']}@{settings['domain']}"
        self.microphone = Path(settings["board"].get("microphone", ""))
        self.speaker = Path(settings["board"].get("speaker", ""))

    def status(self) -> dict[str, Any]:
        """What the ``status`` command tells."""
        self.read()
        since = len(self.lines)
        self.send("status")
        return self.wait_for("status", since=since)


def text_shown(lines: "list[dict[str, Any]]") -> str:
    """The other side's text, as events of a terminal have shown it on a screen."""
    seen = ""
    for line in lines:
        if line["event"] == "text":
            if line.get("erased", 0) > len(seen):
                raise LabError(f"{line} erases more than {seen!r}")
            seen = seen[: len(seen) - line.get("erased", 0)] + line.get("text", "")
    return seen
