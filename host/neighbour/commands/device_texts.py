"""``wisp device text``: a text through a board, or a conversation in which each letter is seen as it is typed."""

import time
from typing import Annotated

import typer
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.text import Text

from ..device.asking import ask
from ..device.chatting import Chat
from ..device.keyboard import Interrupts, Keyboard
from ..device.placing import Placed, check_registered
from ..device.port import BAUD, Line
from ..device.sentences import Event, Told, plain, sentence
from ..device.sentences import text as field
from .console import fail, out, printable
from .device_calls import Reading, Uri, come_of, fit, happens, whom
from .device_live import Baud, Port, say, telling

__all__ = ["text"]

_ARRIVED_S = 45.0  # until a text has arrived, or has not: longer than a transaction lasts (32 s)
_ASK_S = 3.0  # for the call's kinds of media, which older programs don't tell
_DRAW_S = 0.1
_AROUND = 4  # lines of a view that are not what somebody writes
_NO_TEXT = (
    'the call has no text: both terminals need `"text": true` in wisp.json; '
    "`wisp device text PORT URI WORDS` sends a text without a call"
)


def text(
    port: Port,
    uri: Uri,
    words: Annotated[list[str] | None, typer.Argument(help="What; without it a conversation begins.")] = None,
    baud: Baud = BAUD,
) -> None:
    """Send a text through a board; without words call somebody, and write letter by letter.

    Each letter is seen on the other side as it is typed, and theirs as they come. Ctrl-D, or a line with a full stop
    alone, ends it. A call that was there before goes on, one that was placed for it ends. The exit status is 0 where
    the text arrived, or somebody answered.
    """
    uri = whom(uri)
    if words:
        _send(port, uri, " ".join(words), baud)
    else:
        _converse(port, uri, baud)


def _send(port: str, uri: str, words: str, baud: int) -> None:
    """Send a text (SIP MESSAGE), and wait for what comes of it."""
    if not words.strip() or plain(words) != words:
        raise fail("WORDS: one line of text is wanted")
    command = f"message {uri} {words}"
    fit(command, "WORDS")
    with telling(), Interrupts() as stop, Line(port, baud) as line:
        check_registered(ask(line, port), port)
        line.send(command)
        until = time.monotonic() + _ARRIVED_S
        while not stop and time.monotonic() < until:
            for event in line.lines():
                if not isinstance(event, dict):
                    continue
                if event.get("event") == "sent":
                    say(sentence(event))
                    return
                if event.get("event") in {"failed", "refused"} and event.get("command") == "message":
                    raise fail(printable(sentence(event).text), status=1)
        raise fail("nobody knows whether the text has arrived", status=1)


def _converse(port: str, uri: str, baud: int) -> None:
    """Write to somebody letter by letter, in the call that stands or in one that is placed."""
    chat = Chat()
    with (
        telling(),
        Interrupts() as stop,
        Line(port, baud) as line,
        Keyboard(letters=True) as keyboard,
        _Said(uri, chat, is_live=keyboard.is_terminal and out.is_terminal) as said,
        Placed(line, port, stop, said.take) as placed,
    ):
        status = placed.ask()
        stands = field(status, "phone") == "talking" and _is_with(field(status, "peer"), uri)
        if stands:
            placed.join()
        else:
            placed.dial(status, uri)
        goes_on = _connect(placed, said) and (bool(placed.refused) or _write(placed, line, chat, keyboard, said))
        placed.end_chat()
        if goes_on and not stands:
            placed.hang_up()
            while placed.follow():
                said.draw(time.time())
    if placed.refused:
        reason = printable(placed.refused)
        raise fail(_NO_TEXT if reason.startswith("no text") else f"the board takes no letters: {reason}", status=1)
    come_of(placed)


def _connect(placed: Placed, said: "_Said") -> bool:
    """Wait for the call, and for what it has; returns whether it stands."""
    while not placed.attempt.was_connected:
        if not placed.follow():
            return False
        said.draw(time.time())
    before, until = placed.board.status, time.monotonic() + _ASK_S
    placed.look()
    while placed.board.status is before and time.monotonic() < until:
        if not placed.follow():
            return False
    call = placed.board.call
    if call is not None and call.media and "text" not in call.media:
        placed.refused = "no text"
    return True


def _write(placed: Placed, line: Line, chat: Chat, keyboard: Keyboard, said: "_Said") -> bool:
    """Send what is typed until that ends; returns whether the call goes on."""
    placed.begin_chat(chat)
    while placed.follow():
        if placed.refused:
            return True
        chat.type(keyboard.read())
        now = time.monotonic()
        letters = chat.take(now)
        if letters:
            line.write(letters)
            said.is_new = True
        said.draw(time.time())
        if (chat.is_over or keyboard.is_at_end) and not chat.is_waiting and chat.is_told(now):
            return True
    return False


def _is_with(peer: str, uri: str) -> bool:
    """Whether a call's peer is who is meant by a URI, or by the user part of one."""
    address = peer.partition(":")[2]
    return uri in {peer, address, address.partition("@")[0]}


class _Said:
    """A conversation as a person sees it: both sides as they write, or the other side's lines where it is no terminal.

    Args:
        peer: who the other side is.
        chat: what is typed here.
        is_live: whether both sides are to be seen as they write.

    Attributes:
        is_new: whether there is something that has not been drawn.
    """

    def __init__(self, peer: str, chat: Chat, *, is_live: bool) -> None:
        self._peer, self._chat = peer, chat
        self.is_new = True
        self._reading = Reading()
        self._written = ""
        self._state = Told("")
        self._drawn_at = 0.0
        console = Console(highlight=False, emoji=False)
        self._live = Live(console=console, auto_refresh=False, screen=True) if is_live else None

    def __enter__(self) -> "_Said":
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._reading.end()
        if self._live is not None:
            self._live.stop()
            # The screen is gone with all that was on it.
            for name, written in ((self._peer, self._written), ("you", self._chat.shown)):
                for line in written.splitlines():
                    out.print(Text(f"{plain(name)}: {plain(line)}"))
            if self._state.text:
                say(self._state)

    def take(self, event: Event) -> None:
        """Take an event."""
        self.is_new = True
        if event.get("event") != "text":
            if happens(event):
                self._state = sentence(event)
                if self._live is None:
                    say(self._state, time.time())
        elif self._live is None:
            self._reading.take(event)
        else:
            erased = event.get("erased")
            if isinstance(erased, int) and erased > 0:
                self._written = self._written[: max(0, len(self._written) - erased)]
            self._written += field(event, "text")

    def draw(self, now: float) -> None:
        """Show it, where something may have changed."""
        if self._live is not None and self.is_new and not 0 <= now - self._drawn_at < _DRAW_S:
            self.is_new, self._drawn_at = False, now
            self._live.update(self._view(self._live.console.size.width, self._live.console.size.height), refresh=True)

    def _view(self, width: int, height: int) -> Group:
        parts: list[Panel | Text] = []
        for name, written in ((self._peer, self._written), ("you", self._chat.shown + "▏")):
            shown = Text("\n".join(plain(line) for line in written.split("\n")))
            lines = shown.wrap(Console(width=width), max(1, width - _AROUND))[-max(1, height // 2 - _AROUND) :]
            title = Text.assemble(" ", (plain(name), "bold"), " ")
            parts.append(Panel(Text("\n").join(lines), title=title, title_align="left", padding=(0, 1)))
        state = Text(f" {plain(self._state.text)}", "dim", overflow="ellipsis", no_wrap=True)
        return Group(*parts, state, Text(" Ctrl-D ends", "dim"))
