"""The registers that both parts of an emulated board share: a file mapped into memory.

    0      INTERRUPT   3 where Ctrl-C on the line interrupts the program, else 0
    1      BUSY        not 0 while flash is read or written
    2      CAUSE       why the board was started, as machine.reset_cause() says it
    3      MODE        1 where the raw REPL goes on over a soft reset
    4      RADIO       changes when radio.json has
    5      STARTED     1 when boot.py begins
    6      OPERATIONS  counts those of flash
    7      DRAIN       1 while the firmware waits until what it sent has left the interpreter's end of the line
    8      BAUD        of the line's UART, 4 bytes
    12     POWER       how many writes to flash until power fails in the middle of one, 0 for never; 4 bytes
    16     DELAY       microseconds that a write to flash takes longer; 4 bytes
    20     WATCHDOG    its timeout in milliseconds, 0 for none; 4 bytes
    64     PINS        40 pins as driven from outside: 0 not at all, 1 low, 2 high
    128    OUTPUTS     40 pins as the program drives them
    192    UNIQUE_ID   6 bytes
    256    RTC         2 bytes of length, and 2048 that survive a reset

All numbers are little-endian.
"""

import mmap
from pathlib import Path

__all__ = [
    "BAUD",
    "BUSY",
    "CAUSE",
    "DELAY",
    "DRAIN",
    "INTERRUPT",
    "MODE",
    "OPERATIONS",
    "OUTPUTS",
    "PINS",
    "POWER",
    "RADIO",
    "RTC",
    "STARTED",
    "UNIQUE_ID",
    "WATCHDOG",
    "Registers",
]

INTERRUPT, BUSY, CAUSE, MODE, RADIO, STARTED, OPERATIONS, DRAIN = range(8)
BAUD, POWER, DELAY, WATCHDOG = 8, 12, 16, 20
PINS, OUTPUTS, UNIQUE_ID, RTC = 64, 128, 192, 256

_BYTES = 4096


class Registers:
    """The file, mapped.

    Args:
        path: where to make it.
    """

    def __init__(self, path: Path) -> None:
        path.write_bytes(bytes(_BYTES))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), _BYTES)

    def __getitem__(self, at: int) -> int:
        return self._map[at]

    def __setitem__(self, at: int, value: int) -> None:
        self._map[at] = value

    def word(self, at: int) -> int:
        """A register of four bytes."""
        return int.from_bytes(self._map[at : at + 4], "little")

    def set_word(self, at: int, value: int) -> None:
        """Write a register of four bytes."""
        self._map[at : at + 4] = value.to_bytes(4, "little")

    def fill(self, at: int, data: bytes) -> None:
        """Write some bytes."""
        self._map[at : at + len(data)] = data

    def clear(self) -> None:
        """Loss of power: all but who we are, and what the world does to pins and flash, is forgotten."""
        kept = self._map[PINS:OUTPUTS], self._map[UNIQUE_ID:RTC], self.word(DELAY), self[RADIO]
        self._map[:] = bytes(_BYTES)
        self.fill(PINS, kept[0])
        self.fill(UNIQUE_ID, kept[1])
        self.set_word(DELAY, kept[2])
        self[RADIO] = kept[3]

    def close(self) -> None:
        """Let go of the file."""
        self._map.close()
