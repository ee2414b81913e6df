"""Real-time text typed at a laptop: letters go to the board as fast as it sends them on, and the chat's end is sure.

keys --`type`--> waiting --`take`--> the board's ``chat``      `end`: the board takes commands again
"""

from sipwire.t140 import Screen, typed

from .keyboard import letters

__all__ = ["BEGIN", "Chat"]

#: Nothing but CR: LF would be the first letter.
BEGIN = b"chat\r"
_END_OF_CHAT = "."
_PER_S = 30.0  # characters that the board's terminal sends on (RFC 4103 section 6); it keeps a thousand
_AHEAD_S = 3.0  # that the board may be behind: a hundred characters are no more than a serial port's buffer holds
_LAST_S = 1.5  # until redundancy has told the last letters, too


class Chat:
    """What a person types in a call.

    Attributes:
        is_over: whether they have typed a line with a full stop alone.
    """

    def __init__(self) -> None:
        self.is_over = False
        self._screen = Screen()
        self._waiting = ""
        self._line = ""  # what was typed of one, and what was erased is in it: so the board sees it
        self._given = ""  # what the board has of one
        self._busy_until = 0.0

    @property
    def shown(self) -> str:
        """What was typed, as the other side sees it."""
        return self._screen.text

    @property
    def is_waiting(self) -> bool:
        """Whether something was typed that the board is to be given, but for a full stop that may be the end."""
        return self._waiting not in ({"", _END_OF_CHAT} if self._line == _END_OF_CHAT else {""})

    def type(self, text: str) -> None:
        """Take what came from a keyboard."""
        for char in letters(text):
            if self.is_over:
                return
            if char == "\n" and self._line == _END_OF_CHAT:
                self.is_over = True
                self._waiting = self._waiting[: -len(_END_OF_CHAT)]
                self._screen.apply("\b")
                return
            self._line = "" if char == "\n" else self._line + char
            self._waiting += char
            self._screen.apply(typed(char))

    def take(self, now: float) -> bytes:
        """What the board may be given now, in seconds of any clock.

        A full stop that begins a line waits for what follows: alone it may be the end.
        """
        ready = self._waiting
        if self._line == _END_OF_CHAT and ready.endswith(_END_OF_CHAT):
            ready = ready[: -len(_END_OF_CHAT)]
        begins = max(self._busy_until, now)
        ready = ready[: max(0, int((now + _AHEAD_S - begins) * _PER_S))]
        self._waiting = self._waiting[len(ready) :]
        if ready:
            self._busy_until = begins + len(ready) / _PER_S
            self._given = (self._given + ready).rpartition("\n")[2]
        return ready.replace("\n", "\r").encode()

    def end(self) -> bytes:
        """What ends the chat on the board, wherever in a line it is; what waits is not sent any more."""
        self._waiting = self._line = ""
        given, self._given = self._given, ""
        return b"\r.\r" if given else b".\r"

    def is_told(self, now: float) -> bool:
        """Whether the other side has all that the board was given."""
        return now >= self._busy_until + _LAST_S
