"""``wisp device info``, ``monitor`` and ``console``: watching a board whose terminal runs, without disturbing it."""

import codecs
import contextlib
import json
import sys
import time
from collections.abc import Iterator
from typing import Annotated, Protocol

import typer
from rich.console import Console
from rich.live import Live

from ..device.asking import ask
from ..device.keyboard import LEAVE, Interrupts, Keyboard
from ..device.live import Board, is_prompt
from ..device.port import BAUD, DeviceError, Line
from ..device.sentences import Event, Told, plain, sentence
from ..device.view import at, details, screen, words
from .console import err, fail, out, print_table, printable

__all__ = ["Baud", "Port", "console", "info", "monitor", "say", "telling"]

Port = Annotated[str, typer.Argument(help="The board's serial port, or the console that `wisp serve` makes of one.")]
Baud = Annotated[int, typer.Option("--baud", min=1, help="The console's speed; a serial hop's is 921600.")]
_Json = Annotated[bool, typer.Option("--json", help="JSON, as the board tells it.")]

_ASK_S = 2.0  # between two looks at the board's state
_STATISTICS_S = 10.0  # between two lines of them in a call, where it is no live view
_DRAW_S = 0.25
_AGAIN_S = 0.5  # between two looks whether a board is back
_QUIET_S = 1.0  # after the last command of a file: answers come meanwhile
_KEPT = "\n\t"


@contextlib.contextmanager
def telling() -> Iterator[None]:
    """Tell what is wrong with a board.

    Raises:
        typer.Exit: something was; it has been told.
    """
    try:
        yield
    except DeviceError as error:
        raise fail(printable(str(error)), status=1) from None


def say(told: Told, now: float | None = None) -> None:
    """Print a sentence, with the time of day where one is given."""
    out.print(*(() if now is None else (at(now),)), words(told))


def info(port: Port, as_json: _Json = False, baud: Baud = BAUD) -> None:
    """Ask a board how it is: memory, versions, registration, call and counters."""
    with telling():
        with Line(port, baud) as line:
            status = ask(line, port)
        if as_json:
            out.print(json.dumps(status), markup=False)
            return
        board = Board()
        board.take(status, time.time())
        print_table(details(board, port, time.time()))


# Monitor.


class _Shown(Protocol):
    """What a monitor shows, and how."""

    def take(self, line: Event | str, told: Told | None, now: float) -> None:
        """A line has come, and something happened."""

    def say(self, told: Told, now: float) -> None:
        """Something happened that the board has not told."""

    def draw(self, now: float) -> None:
        """Some time has passed."""


class _AsJson:
    """Events as they are; what is none goes to standard error."""

    def take(self, line: Event | str, _told: Told | None, _now: float) -> None:
        if isinstance(line, str):
            err.print(plain(line), markup=False)
        else:
            # Written anew: control characters that a peer wrote are escaped in it.
            print(json.dumps(line), flush=True)  # noqa: T201  rich would look for markup, and break it

    def say(self, told: Told, _now: float) -> None:
        err.print(printable(told.text), markup=False)

    def draw(self, now: float) -> None:
        pass


class _AsLines:
    """A line for each thing that happens, and now and then one of statistics."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._state: tuple[object, ...] = ()
        self._told_at = 0.0
        self._trouble = ""

    def take(self, line: Event | str, told: Told | None, now: float) -> None:
        if told is not None:
            say(told, now)
        elif isinstance(line, dict) and line.get("event") == "status":
            state = (line.get("registration"), line.get("phone"))
            in_call = line.get("phone") != "idle"
            if state != self._state or (in_call and now - self._told_at >= _STATISTICS_S):
                self._state, self._told_at = state, now
                say(sentence(line), now)

    def say(self, told: Told, now: float) -> None:
        say(told, now)

    def draw(self, now: float) -> None:
        trouble = self._board.trouble
        if trouble != self._trouble:
            self._trouble = trouble
            if trouble and not (self._board.happenings and self._board.happenings[-1].told.text == trouble):
                say(Told(trouble, "bad"), now)


class _AsView:
    """The live view."""

    def __init__(self, board: Board, port: str, live: Live) -> None:
        self._board, self._port, self._live = board, port, live
        self._drawn_at = 0.0

    def take(self, _line: Event | str, _told: Told | None, _now: float) -> None:
        self._drawn_at = 0.0

    def say(self, _told: Told, _now: float) -> None:
        self._drawn_at = 0.0

    def draw(self, now: float) -> None:
        if not 0 <= now - self._drawn_at < _DRAW_S:
            self._drawn_at = now
            size = self._live.console.size
            self._live.update(screen(self._board, self._port, now, size.width, size.height), refresh=True)


def monitor(
    port: Port,
    as_lines: Annotated[bool, typer.Option("--plain", help="A line for each thing that happens.")] = False,
    as_json: _Json = False,
    baud: Baud = BAUD,
) -> None:
    """Watch a board: its call, memory, counters and what happens, until Ctrl-C; the board notices nothing.

    Where nobody looks at a terminal it is a line for each thing that happens. A board that is unplugged is waited for.
    """
    board = Board()
    with telling(), Interrupts() as stop:
        line = Line(port, baud)
        if as_json:
            _watch(line, port, baud, board, _AsJson(), stop)
        elif as_lines or not out.is_terminal:
            _watch(line, port, baud, board, _AsLines(board), stop)
        else:
            with Live(console=Console(highlight=False, emoji=False), screen=True, auto_refresh=False) as live:
                _watch(line, port, baud, board, _AsView(board, port, live), stop)
            # What was on the screen last is all that is left of it.
            print_table(details(board, port, time.time()))


def _watch(line: Line, port: str, baud: int, board: Board, shown: _Shown, stop: Interrupts) -> None:
    """Show what a board tells, until somebody has enough; closes the line."""
    ask_at = 0.0
    try:
        while not stop:
            now = time.time()
            try:
                # At a prompt it would be typed into somebody's program.
                if time.monotonic() >= ask_at and not is_prompt(line.rest):
                    ask_at = time.monotonic() + _ASK_S
                    line.send("status")
                    board.asked(now)
                for one in line.lines():
                    shown.take(one, board.take(one, now), now)
                board.look(now, line.rest)
            except DeviceError:
                line.close()
                shown.say(board.gone(now), now)
                back = _wait(port, baud, stop, board, shown)
                if back is None:
                    return
                line, ask_at = back, 0.0
            shown.draw(time.time())
    finally:
        line.close()


def _wait(port: str, baud: int, stop: Interrupts, board: Board, shown: _Shown) -> Line | None:
    """The line of a board that is back; None where nobody wants to wait any longer."""
    while not stop:
        try:
            line = Line(port, baud)
        except DeviceError:
            shown.draw(time.time())
            stop.pause(_AGAIN_S)
            continue
        now = time.time()
        board.trouble = ""
        shown.say(board.happened(Told("the board is back"), now), now)
        return line
    return None


# Console.


class _Raw:
    """The console's text as it comes; a line of it may be unfinished, as a prompt is."""

    def __init__(self) -> None:
        self._decode = codecs.getincrementaldecoder("utf-8")(errors="replace").decode

    def take(self, data: bytes) -> None:
        text = self._decode(data).replace("\r", "")
        sys.stdout.write(plain(text, _KEPT))
        sys.stdout.flush()


def console(
    port: Port,
    as_sentences: Annotated[bool, typer.Option("--events", help="Events as sentences.")] = False,
    baud: Baud = BAUD,
) -> None:
    """Type commands to a board, and read what it tells; Ctrl-D or Ctrl-] leaves, and so does Ctrl-C.

    The commands are in device/README.md. Lines are edited here and sent as a whole.
    """
    with telling(), Interrupts() as stop, Keyboard() as keyboard, Line(port, baud) as line:
        if keyboard.is_terminal:
            err.print(f"{port}: its console; `status` asks how it is, Ctrl-D leaves", markup=False)
        raw = _Raw()
        is_chatting = False
        leave_at: float | None = None
        while not stop and (leave_at is None or time.monotonic() < leave_at):
            for typed in keyboard.lines():
                command, leaves, _ = typed.partition(LEAVE)
                if command or not leaves:
                    # LF alone: while somebody chats, CR and LF would be two lines.
                    line.write(command.encode(errors="replace") + b"\n")
                    is_chatting = command != "." and (is_chatting or command.strip() == "chat")
                if leaves:
                    leave_at = 0.0
            if keyboard.is_at_end and leave_at is None:
                leave_at = 0.0 if keyboard.is_terminal else time.monotonic() + _QUIET_S
            if _show(line, None if as_sentences else raw) and leave_at:
                leave_at = time.monotonic() + _QUIET_S
        if is_chatting:
            line.write(b".\n")  # else the next one's commands would be letters


def _show(line: Line, raw: _Raw | None) -> bool:
    """Show what has come; returns whether something has."""
    if raw is not None:
        data = line.read(0.05)
        raw.take(data)
        return bool(data)
    lines = line.lines(0.05)
    for one in lines:
        say(sentence(one) if isinstance(one, dict) else Told(one), time.time())
    return bool(lines)
