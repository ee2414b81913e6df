"""An emulated board: MicroPython in a process, behind a pseudo-terminal, with flash, sound, Wi-Fi and faults.

board         the board as tests see it: power, plug, faults
line          bytes between the two pseudo-terminals
interpreter   the process and its heap
registers     what both sides share
firmware/     the other side, on MicroPython
__main__      for people
"""

from .board import BoardError, EmulatedBoard
from .line import TO_BOARD, TO_HOST

__all__ = ["TO_BOARD", "TO_HOST", "BoardError", "EmulatedBoard"]
