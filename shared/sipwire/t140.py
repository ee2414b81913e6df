"""T.140 as a person types and sees it: what keys mean, and what text does to a screen.

    keys -> `typed` -> T.140 text -> `text.TextSender`         `text.TextReceiver` -> T.140 text -> `Screen` -> shown

T.140 erases the last character with U+0008, begins a new line with U+2028 or CR LF, rings with U+0007; escape sequences
and strings between SOS and ST are for machines and not shown. A character is a code point here: what is put together
of several, as a letter with its accents or a flag, is erased piece by piece. Grapheme clusters take tables that a
weak device has no room for.
"""

from .compat import const

__all__ = ["Screen", "typed"]

_LINE = "\u2028"
_MAX_KEPT = const(400)  # characters that may still be erased; what is older stays
_MAX_STRING = const(256)  # of what SOS begins: T.140 allows 255 bytes; then text is text again

_PLAIN = const(0)
_AFTER_CR = const(1)  # a LF belongs to it
_ESCAPE = const(2)  # ESC, and what comes between it and a final character
_CONTROL = const(3)  # CSI: parameters until a letter, as in SGR, which sets colours
_STRING = const(4)  # until ST
_STRING_ESCAPE = const(5)  # in it after ESC: a backslash makes both ST


def typed(text: str) -> str:
    """What is sent for keys: Enter ends a line, DEL erases as backspace does, other controls do nothing.

    Args:
        text: from a console; BEL rings at the other side.
    """
    text = text.replace("\r\n", _LINE).replace("\r", _LINE).replace("\n", _LINE).replace("\x7f", "\b")
    return "".join([one for one in text if (one >= " " and not "\x7f" <= one < "\xa0") or one in "\b\a"])


class Screen:
    """The text of one writer as it is seen.

    Attributes:
        text: what may still be erased, lines ended by LF.
        bells: how often it rang.
    """

    def __init__(self) -> None:
        self.text = ""
        self.bells = 0
        self._state = _PLAIN
        self._hidden = 0  # characters of the present string

    def line(self) -> str:
        """The line that is being written."""
        return self.text[self.text.rfind("\n") + 1 :]

    def apply(self, text: str) -> "tuple[int, str]":
        """Take what was received.

        Returns:
            (characters to erase from the end of what is shown, what to show then). A line ends with LF; there are no
            other control characters in it.
        """
        # Erasing within the piece that has just come does not reach what is shown.
        kept = shown = len(self.text)
        for one in text:
            state = self._state
            if state >= _ESCAPE:
                self._skip(state, one)
                continue
            self._state = _PLAIN
            if one == "\b":
                self.text = self.text[:-1]
                kept = min(kept, len(self.text))
            elif one in "\r\n\x85\u2028\u2029":
                if one != "\n" or state != _AFTER_CR:
                    self.text += "\n"
                self._state = _AFTER_CR if one == "\r" else _PLAIN
            elif one == "\a":
                self.bells += 1
            elif one == "\x1b":
                self._state = _ESCAPE
            elif one == "\x9b":
                self._state = _CONTROL
            elif one in "\x90\x98\x9d\x9e\x9f":
                self._state = _STRING
                self._hidden = 0
            elif one == "\t":
                self.text += " "
            elif one >= " " and not "\x7f" <= one < "\xa0" and one != "\ufeff":
                self.text += one
        added = self.text[kept:]
        self.text = self.text[-_MAX_KEPT:]
        return shown - kept, added

    def _skip(self, state: int, one: str) -> None:
        """Take a character of a sequence that is not shown."""
        if state == _ESCAPE:
            if one == "[":
                self._state = _CONTROL
            elif one in "PX]^_":
                self._state = _STRING
                self._hidden = 0
            elif one < " " or one > "/":
                self._state = _PLAIN
        elif state == _CONTROL:
            if not " " <= one <= "?":
                self._state = _PLAIN
        else:
            self._hidden += 1
            if one == "\x9c" or self._hidden > _MAX_STRING or (state == _STRING_ESCAPE and one == "\\"):
                self._state = _PLAIN
            else:
                self._state = _STRING_ESCAPE if one == "\x1b" else _STRING
