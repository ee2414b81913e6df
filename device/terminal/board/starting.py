"""A board's start, and its end: whether the terminal may run, and what becomes of the board when it does not any more.

device/main.py loads this before and after. Of crashes the board keeps ``wisp.crash``,

    {"count": 2, "reason": "OSError(5,)"}

until the terminal has run for five minutes (`terminal.settling`), somebody removes it, or the board is provisioned
again.
"""

import gc
import json
import sys
import time

import machine
from micropython import const

from ..events import emit

__all__ = ["finish", "prepare"]

_CRASH = "wisp.crash"
_MAX_CRASHES = const(3)  # in a row
_WINDOW_MS = const(1000)  # for somebody to press Ctrl-C, or to hold the button
_LOOK_MS = const(50)  # between two looks at the button; what is seen once may be noise
_PAUSE_MS = const(5000)  # for somebody at the console to read what it was, or to stop it by Ctrl-C
_AGAIN = "machine.reset() starts the terminal"
_NEXT = {
    "configuration": "mend wisp.json; then " + _AGAIN,
    "halted": "`wisp device provision` goes on with it; or remove wisp.halt, then " + _AGAIN,
    "unfinished": "`wisp device provision` finishes it",
    "crashes": "`wisp device provision` installs the program again; or remove wisp.crash, then " + _AGAIN,
}


def prepare():
    """See whether the terminal may start, and give somebody a second to prevent it.

    Returns:
        None, or why not, for `finish`.
    """
    try:
        return _obstacle()
    finally:
        # The terminal wants all the memory there is.
        del sys.modules[__name__]
        del sys.modules["terminal.board"].starting


def _obstacle():
    halt = _read("wisp.halt")
    if halt is not None:
        emit("error", reason="halted: " + halt.strip())
        return "halted"
    if _read("wisp.commit") is not None:
        emit("error", reason="a change of the board's files could not be finished")
        return "unfinished"
    count, reason = _crashes()
    if machine.reset_cause() == machine.WDT_RESET:
        count, reason = _note("watchdog: the program stood still")
    if count:
        emit("crashed", count=count, reason=reason)
    if count >= _MAX_CRASHES:
        emit("error", reason="crashed %d times in a row, the last time by %s" % (count, reason))
        return "crashes"
    return "button" if _is_held() else None


def finish(end):
    """Tell why the board stays at the prompt, and what leads on from there; or start it again.

    Args:
        end: how it came to that: what `prepare` has returned; or whether the configuration was good, where the terminal
            has been told to quit; or what ended it.
    """
    try:
        if isinstance(end, Exception):
            _crashed(end)
    except KeyboardInterrupt as error:  # in the pause
        end = error
    if isinstance(end, BaseException):
        end = "Ctrl-C"
    elif not isinstance(end, str):
        end = "quit" if end else "configuration"
    emit("prompt", reason=end, next=_NEXT.get(end, _AGAIN))


def _crashed(error):
    try:
        emit("error", reason=repr(error))
        sys.print_exception(error)
        _note(repr(error))
    except Exception:
        gc.collect()  # there is no memory for that either
    time.sleep_ms(_PAUSE_MS)
    machine.reset()


def _read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return None
    except UnicodeError:
        return "no text"  # it is there, and what it says is lost


def _crashes():
    """How many crashes there were in a row, and by what the last one was."""
    text = _read(_CRASH)
    if text is None:
        return 0, None
    try:
        kept = json.loads(text)
        return int(kept["count"]), str(kept["reason"])
    except (ValueError, KeyError, TypeError):
        return 1, "unknown"  # the power failed while it was written


def _note(reason):
    count = _crashes()[0] + 1
    try:
        with open(_CRASH, "w") as file:
            file.write(json.dumps({"count": count, "reason": reason}))
    except OSError as error:
        emit("error", reason="%s can't be kept: %s" % (_CRASH, error))
    return count, reason


def _is_held():
    """Whether somebody holds the button within a second from now."""
    try:
        number = json.loads(_read("wisp.json"))["board"]["button"]
    except (ValueError, KeyError, TypeError):
        number = 0
    pin = None
    try:
        if number >= 0:
            pin = machine.Pin(number, machine.Pin.IN, machine.Pin.PULL_UP)
    except (ValueError, TypeError):
        pass  # a mistake in the configuration, which is told when it is read
    seen = 0
    for _ in range(_WINDOW_MS // _LOOK_MS):
        seen = seen + 1 if pin and not pin.value() else 0
        if seen == 2:
            return True
        time.sleep_ms(_LOOK_MS)
    return False
