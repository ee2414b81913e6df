"""The terminal has run for five minutes: crashes before are over.

Loaded on demand: once.
"""

import os

__all__ = ["settle"]


def settle():
    """Forget what `terminal.board.starting` keeps of crashes: the next one is the first in a row."""
    try:
        os.remove("wisp.crash")
    except OSError:
        pass  # there was none, and nothing is written
