"""What a board runs after its start: the terminal, by wisp.json.

It ends by ``quit``, by a mistake in wisp.json and by Ctrl-C. Whatever else ends it, the board is started again.
"""

import sys
import time

import machine

from terminal.app import run
from terminal.events import emit

_PAUSE_MS = 5000  # for somebody at the console to read it, or to stop it by Ctrl-C

try:
    run()
except Exception as error:
    try:
        emit("error", reason=repr(error))
        sys.print_exception(error)
    finally:  # though there is no memory for that either
        time.sleep_ms(_PAUSE_MS)
        machine.reset()
