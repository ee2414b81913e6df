"""A call that is placed through a board, and followed: what a person would type at its console, and what it tells."""

import contextlib
import time
from collections.abc import Callable

from .asking import ask
from .chatting import BEGIN, Chat
from .keyboard import Interrupts
from .live import Attempt, Board, diagnosis
from .port import DeviceError, Line
from .sentences import Event, text

__all__ = ["MAX_LINE_BYTES", "Placed", "check_registered"]

MAX_LINE_BYTES = 512  # of a command (terminal.board.console): what is beyond is cut off
_TAKEN_S = 5.0  # until the board has taken a command
_OVER_S = 40.0  # until a call is over that was hung up: longer than a transaction lasts (32 s)
_LOOK_S = 5.0  # between two looks whether the board still has the call
_READ_S = 0.05


class Placed:
    """A board, and the call on it. At the end of the block a call that was placed here is hung up.

    Args:
        line: the board's console.
        port: its name, for errors.
        stop: the person's interruptions: the first hangs up, the second leaves.
        show: is given each event.

    Attributes:
        board: what is known of it.
        attempt: what has come of the call.
        refused: why the board takes no letters, "" where it does.
    """

    def __init__(self, line: Line, port: str, stop: Interrupts, show: Callable[[Event], None]) -> None:
        self._line, self._port, self._stop, self._show = line, port, stop, show
        self.board = Board()
        self.attempt = Attempt()
        self.refused = ""
        self._is_ours = False
        self._chat: Chat | None = None  # while the board takes letters, and no commands
        self._has_hung_up = False
        self._look_at = 0.0
        self._give_up_at: float | None = None  # the board has to do something until then
        self._ends_at: float | None = None

    def __enter__(self) -> "Placed":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(DeviceError):
            self.end_chat()
            if self._is_ours and not self.attempt.is_over and not self._has_hung_up:
                self.hang_up()

    def ask(self) -> Event:
        """How the board is.

        Raises:
            DeviceError: it does not tell.
        """
        status = ask(self._line, self._port)
        self.board.take(status, time.time())
        return status

    def dial(self, status: Event, uri: str) -> None:
        """Begin the call.

        Args:
            status: how the board is.
            uri: whom to call.

        Raises:
            DeviceError: the board can't call; it says why.
        """
        if text(status, "phone") not in {"idle", ""}:
            peer = text(status, "peer")
            raise DeviceError(f"{self._port}: there is a call already{f', with {peer}' if peer else ''}: hang up first")
        check_registered(status, self._port)
        self._line.send(f"call {uri}")
        self._is_ours = True
        self._look_at = time.monotonic() + _LOOK_S
        self._give_up_at = time.monotonic() + _TAKEN_S

    def join(self) -> None:
        """Have a part in the call that stands; it goes on afterwards."""
        self.attempt.take({"event": "connected"})

    def look(self) -> None:
        """Ask the board how the call is; `follow` takes what it tells."""
        if self._chat is None:
            self._look_at = time.monotonic() + _LOOK_S
            self._line.send("status")
            self.board.asked(time.time())

    def end_in(self, seconds: float) -> None:
        """Hang up after a while."""
        if self._ends_at is None:
            self._ends_at = time.monotonic() + seconds

    def hang_up(self) -> None:
        """End the call; the board tells when it is over."""
        self.end_chat()
        self._has_hung_up = True
        self._line.send("hangup")
        self._give_up_at = time.monotonic() + _OVER_S

    def begin_chat(self, chat: Chat) -> None:
        """Let the board take letters."""
        self._chat = chat
        self._line.write(BEGIN)

    def end_chat(self) -> None:
        """Let the board take commands again."""
        chat, self._chat = self._chat, None
        if chat is not None:
            self._line.write(chat.end())

    def follow(self) -> bool:
        """Take what the board tells, and do what is due; returns whether there is more to come.

        Raises:
            DeviceError: the board is gone, or does not answer.
        """
        for one in self._line.lines(_READ_S):
            self.board.take(one, time.time())
            if isinstance(one, dict):
                self._take(one)
        if self.attempt.is_over:
            return False
        now = time.monotonic()
        if self._stop and not self._is_ours:
            return False
        if (self._stop or (self._ends_at is not None and now >= self._ends_at)) and not self._has_hung_up:
            self.hang_up()
        if self._stop.must_leave or self._stop.count > 1:
            return False
        self._check(now)
        if now >= self._look_at:
            self.look()
        return True

    def _take(self, event: Event) -> None:
        self.attempt.take(event)
        if event.get("event") == "refused" and event.get("command") == "chat":
            self.refused = text(event, "reason") or "no reason told"
            if self._chat is not None:
                self._chat = None
                self._line.write(b"\r")  # what it had of a line by then is no letters any more
        self._show(event)

    def _check(self, now: float) -> None:
        if self.attempt.has_begun and not self._has_hung_up:
            self._give_up_at = None
        rest = self._line.rest
        if self._give_up_at is not None and now >= self._give_up_at:
            raise DeviceError(f"{self._port}: the board does not do what it was told: {diagnosis([], rest)}")
        self.board.look(time.time(), rest)
        if self.board.trouble:
            raise DeviceError(f"{self._port}: {self.board.trouble}")


def check_registered(status: Event, port: str) -> None:
    """Check that a board is reached by its neighbour.

    Raises:
        DeviceError: it is not.
    """
    state = text(status, "registration")
    if state != "registered":
        raise DeviceError(f"{port}: the board is not registered ({state}): `wisp device monitor {port}` shows why")
