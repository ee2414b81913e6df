"""``wisp device call``: a call that is placed through a board, and followed until it ends.

The board has the call; the command types what a person would type at its console. The call ends with the command: by
Ctrl-C, and when its terminal is closed.
"""

import time
from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from ..device.keyboard import Interrupts, Keyboard
from ..device.placing import MAX_LINE_BYTES, Placed
from ..device.port import BAUD, Line
from ..device.sentences import Event, plain, sentence, text
from .console import err, fail, out, printable
from .device_live import Baud, Port, say, telling

__all__ = ["Reading", "Uri", "call", "come_of", "fit", "happens", "whom"]

Uri = Annotated[str, typer.Argument(metavar="URI", help="Whom: sip:bob@b.example, or bob where he is of our domain.")]

_KEYS = ("press", "hold", "resume", "hangup")
_QUIET = {"status", "text"}  # events that are shown elsewhere, or come because we ask for them


def whom(uri: str) -> str:
    """Who is to be called.

    Raises:
        typer.Exit: nobody is called that; it has been told.
    """
    if not uri or not uri.isprintable() or uri != "".join(uri.split()):
        raise fail("URI: an address like sip:bob@b.example is wanted")
    fit(f"call {uri}", "URI")
    return uri


def fit(command: str, what: str) -> None:
    """Check that a board takes a command as a whole.

    Raises:
        typer.Exit: it is too long; it has been told.
    """
    if len(command.encode()) > MAX_LINE_BYTES:
        raise fail(f"{what}: too long: a line of {MAX_LINE_BYTES} bytes is all that a board takes")


def happens(event: Event) -> bool:
    """Whether an event is to be told as a sentence; why there is no call is an error of the command."""
    name = event.get("event")
    return name not in _QUIET and name != "failed" and (name, event.get("command")) != ("refused", "call")


def come_of(placed: Placed) -> None:
    """Tell what came of a call.

    Raises:
        typer.Exit: none came about.
    """
    if not placed.attempt.was_connected:
        raise fail(printable(placed.attempt.failure or "left before anybody answered"), status=1)


def call(
    port: Port,
    uri: Uri,
    for_s: Annotated[
        float | None, typer.Option("--for", min=0, help="Hang up so many seconds after it is answered.")
    ] = None,
    baud: Baud = BAUD,
) -> None:
    """Place a call through a board, and follow it until it ends; Ctrl-C hangs up, once more leaves.

    A line that is typed is sent as text, where the call has text; `/press 123#` sends digits, and `/hold`, `/resume`
    and `/hangup` do what they say. The exit status is 0 where somebody answered, and 1 where not: the reason is told.
    """
    uri = whom(uri)
    reading = Reading()

    def show(event: Event) -> None:
        if event.get("event") == "text":
            reading.take(event)
        elif happens(event):
            say(sentence(event), time.time())

    with (
        telling(),
        Interrupts() as stop,
        Line(port, baud) as line,
        Placed(line, port, stop, show) as placed,
        Keyboard() as keyboard,
    ):
        placed.dial(placed.ask(), uri)
        while placed.follow():
            if placed.attempt.was_connected and for_s is not None:
                placed.end_in(for_s)
            for typed in keyboard.lines():
                _type(line, typed.strip())
        reading.end()
        come_of(placed)


def _type(line: Line, typed: str) -> None:
    """A line of a person in a call."""
    if not typed:
        return
    command = typed.split(maxsplit=1)[0]
    if not command.startswith("/"):
        for piece in _pieces(plain(typed), MAX_LINE_BYTES - len("write ")):
            line.send(f"write {piece}")
    elif command[1:] in _KEYS:
        line.send(plain(typed[1:]))
    else:
        err.print(f"{plain(command)}: is none of {', '.join(f'/{key}' for key in _KEYS)}", markup=False)


def _pieces(words: str, size: int) -> Iterator[str]:
    """A text in pieces of so many bytes of UTF-8 at most, and no character in two."""
    piece, left = "", size
    for char in words:
        length = len(char.encode())
        if length > left:
            yield piece
            piece, left = "", size
        piece += char
        left -= length
    yield piece


class Reading:
    """What the other side writes, printed line by line: what it erases in a line is not seen."""

    def __init__(self) -> None:
        self._lines: dict[str, str] = {}

    def take(self, event: Event) -> None:
        """Take a ``text`` event."""
        source = text(event, "source")
        line = self._lines.pop(source, "")
        erased = event.get("erased")
        if isinstance(erased, int) and erased > 0:
            line = line[: max(0, len(line) - erased)]
        *whole, self._lines[source] = (line + text(event, "text")).split("\n")
        for one in whole:
            _print(source, one)

    def end(self) -> None:
        """Print what no line's end has followed."""
        for source, line in self._lines.items():
            if line:
                _print(source, line)
        self._lines.clear()


def _print(source: str, line: str) -> None:
    out.print(Text(f"{plain(source) or 'they'}: {plain(line)}", "bold"))
