"""Asking a board's terminal how it is, or finding out what else answers there."""

import time

from .live import diagnosis, is_prompt
from .port import DeviceError, Line
from .sentences import Event, plain

__all__ = ["ask"]

_WAIT_S = 3.0  # for an answer: a terminal that joins a network or collects garbage needs a while
_TRIES = 2
_MAX_LINES = 20
# Leaves the raw prompt, where a program that talked to the board was killed; for a terminal it is no command.
_NORMAL_PROMPT = b"\r\x02\r"


def ask(line: Line, port: str, wait_s: float = _WAIT_S) -> Event:
    """The answer of a terminal to ``status``.

    Args:
        line: a board's console.
        port: its name, for errors.
        wait_s: for an answer, each of two times.

    Raises:
        DeviceError: there is none; it says what answers instead, and what helps.
    """
    lines: list[str] = []
    for attempt in range(_TRIES):
        if attempt and not lines and not line.rest:
            line.write(_NORMAL_PROMPT)
        line.send("status")
        until = time.monotonic() + wait_s
        while time.monotonic() < until:
            for one in line.lines():
                if isinstance(one, str):
                    lines = [*lines, one][-_MAX_LINES:]
                elif one.get("event") == "status":
                    return one
                elif one.get("event") == "wifi" and "error" in one:
                    raise DeviceError(
                        f"{port}: the terminal has no network: Wi-Fi {plain(str(one.get('ssid')))}: "
                        f"{plain(str(one['error']))}. It goes on trying; `wisp device provision` changes what it tries"
                    )
                elif one.get("event") == "error":
                    lines.append(f"error: {one.get('reason')}")
            if is_prompt(line.rest) and lines:
                break
    raise DeviceError(f"{port}: {diagnosis(lines, line.rest)}")
