"""The console: command lines, or, while somebody chats, text as it is typed."""

import select
import sys

from ..events import text

__all__ = ["TYPED", "Console"]

TYPED = "\0"  # begins what is no command but text
_MAX_LINE = 512
_CHAT = "chat"
_END_OF_CHAT = b"."


class Console:
    """Standard input, or a board's serial port.

    Attributes:
        source: what has ``take()`` for the next byte that was typed, or None; None for standard input.
        is_chatting: whether what is typed is text. A line that holds nothing but a full stop ends it.
        is_at_end: whether there will never be more.
    """

    def __init__(self):
        self.is_chatting = self.is_at_end = False
        self.source = None
        self._poll = select.poll()
        self._poll.register(sys.stdin, select.POLLIN)
        self._line = b""
        self._typed = b""  # and not yet told

    def read(self):
        """What came since the last time: command lines, and behind `TYPED` pieces of text."""
        found = []
        while not self.is_at_end:
            byte = self._take()
            if byte is None:
                break
            if not byte:
                self.is_at_end = True
            elif byte != b"\n" and byte != b"\r":
                if len(self._line) < _MAX_LINE:
                    self._line += byte
                if self.is_chatting and self._line != _END_OF_CHAT:
                    # A full stop that begins a line was kept until now.
                    self._typed += self._line if self._line[:-1] == _END_OF_CHAT else byte
            else:
                line, self._line = self._line, b""
                if not self.is_chatting:
                    if line:
                        found.append(text(line).strip())
                        if found[-1] == _CHAT:
                            break  # what follows is text, as soon as that has been done
                elif line == _END_OF_CHAT:
                    self.is_chatting = False
                    self._tell(found)
                else:
                    self._typed += b"\n"
        self._tell(found)
        return found

    def _take(self):
        if self.source:
            return self.source.take()
        # Not as text: noise on the line would raise, or wait for the rest of a character.
        return sys.stdin.buffer.read(1) if self._poll.poll(0) else None

    def _tell(self, found):
        size = _whole(self._typed)
        if size:
            found.append(TYPED + text(self._typed[:size]))
            self._typed = self._typed[size:]


def _whole(data):
    """How many bytes of ``data`` are whole characters, or none."""
    for back in range(1, min(4, len(data)) + 1):
        first = data[-back]
        if first >= 0xC0:
            return len(data) - (back if back < (2 if first < 0xE0 else 3 if first < 0xF0 else 4) else 0)
        if first < 0x80:
            break
    return len(data)
