"""The serial line of an emulated board: two pseudo-terminals, and what happens to bytes between them.

    mpremote ... <-> /dev/pts/N <-> [pace, damage, count] <-> the interpreter's standard input and output

`Line` is driven by the board's one thread (`board`): ``poll``, then ``pump``.
"""

import contextlib
import errno
import os
import random
import select
import termios
import time
import tty
from dataclasses import dataclass, field
from pathlib import Path

__all__ = ["TO_BOARD", "TO_HOST", "Faults", "Line"]

TO_BOARD, TO_HOST = "to_board", "to_host"

PROMPT_BAUD = 115200
_BITS_PER_BYTE = 10  # with start and stop bit
_CHUNK = 1024
_HELD_BYTES = 4096  # in each direction, before who sends has to wait
_BURST_S = 0.005  # what may be late is sent in bursts of this length
_STUCK_S = 2.0  # a reader that takes nothing for so long loses what comes, as with a USB adapter
_CTRL_C = 3
_SPEEDS = {
    getattr(termios, name): int(name[1:]) for name in dir(termios) if name.startswith("B") and name[1:].isdigit()
}


@dataclass
class Faults:
    """What is wrong with the line.

    Attributes:
        damage: the fraction of bytes that are changed, lost, or followed by one that nobody sent.
        damaged: the directions in which they are.
        seed: what decides which.
        unplug_after: bytes until the line is unplugged, by direction.
    """

    damage: float = 0.0
    damaged: tuple[str, ...] = (TO_BOARD, TO_HOST)
    seed: int = 0
    unplug_after: dict[str, int] = field(default_factory=dict)


class _Way:
    """One direction: bytes that wait, and the time they take."""

    def __init__(self) -> None:
        self.held = bytearray()
        self.passed = 0
        self._at = time.monotonic()
        self._credit = 0.0

    def allowed(self, baud: int | None) -> int:
        """How many bytes may go now."""
        if not baud:
            return len(self.held)
        now = time.monotonic()
        rate = baud / _BITS_PER_BYTE
        self._credit = min(self._credit + (now - self._at) * rate, max(1.0, rate * _BURST_S * 4))
        self._at = now
        return min(len(self.held), int(self._credit))

    def take(self, size: int, baud: int | None) -> None:
        """So many have gone."""
        del self.held[:size]
        self.passed += size
        if baud:
            self._credit -= size


def speed_of(terminal: int) -> int:
    """The speed that who has the other end open has set, in baud; 0 where the system has no name for it."""
    speed = termios.tcgetattr(terminal)[5]
    return _SPEEDS.get(speed, 0)


class Line:
    """Both pseudo-terminals.

    Args:
        link: the path that is made a symbolic link to the outer one while it is plugged in.
        usb: whether the board's own USB is the line: then speeds do not matter.
    """

    def __init__(self, link: Path, usb: bool) -> None:
        self.link = link
        self.faults = Faults()
        self.baud: int | None = None
        self.ways = {TO_BOARD: _Way(), TO_HOST: _Way()}
        self._usb = usb
        self._random = random.Random(0)
        self._outer: int | None = None
        self._is_open = False
        self._moved_at = time.monotonic()
        self.inner, self.slave = os.openpty()
        tty.setraw(self.slave)
        mode = termios.tcgetattr(self.slave)
        mode[1] |= termios.OPOST | termios.ONLCR
        termios.tcsetattr(self.slave, termios.TCSANOW, mode)
        os.set_blocking(self.inner, False)

    # Plugging.

    @property
    def is_plugged(self) -> bool:
        """Whether the outer end is there."""
        return self._outer is not None

    def plug(self) -> None:
        """Make the outer end, if it is not there."""
        if self._outer is not None:
            return
        outer, slave = os.openpty()
        tty.setraw(slave)
        mode = termios.tcgetattr(slave)
        mode[4] = mode[5] = termios.B115200
        termios.tcsetattr(slave, termios.TCSANOW, mode)
        name = os.ttyname(slave)
        os.close(slave)  # from now on the kernel says whether anybody has it open
        os.set_blocking(outer, False)
        self._outer, self._is_open = outer, False
        new = self.link.with_name(self.link.name + ".new")
        new.unlink(missing_ok=True)
        new.symlink_to(name)
        new.replace(self.link)

    def unplug(self) -> None:
        """Take the outer end away: who has it open reads its end."""
        if self._outer is None:
            return
        self.link.unlink(missing_ok=True)
        os.close(self._outer)
        self._outer = None
        for way in self.ways.values():
            way.held.clear()

    def close(self) -> None:
        """Close both."""
        self.unplug()
        os.close(self.inner)
        os.close(self.slave)

    def forget_input(self) -> None:
        """What was sent to the board and not read is gone, as with a reset."""
        self.ways[TO_BOARD].held.clear()
        termios.tcflush(self.slave, termios.TCIFLUSH)

    def set_faults(self, faults: Faults) -> None:
        """What is wrong from now on."""
        self.faults = faults
        self._random = random.Random(faults.seed)
        for way in self.ways.values():
            way.passed = 0

    # Bytes.

    def say(self, data: bytes) -> None:
        """Send something that does not come from the interpreter: the chip's own messages."""
        self.ways[TO_HOST].held += data

    def register(self, poll: "select.poll") -> None:
        """What to wait for."""
        if len(self.ways[TO_HOST].held) < _HELD_BYTES:
            poll.register(self.inner, select.POLLIN)
        if self._outer is not None and self._is_open and len(self.ways[TO_BOARD].held) < _HELD_BYTES:
            poll.register(self._outer, select.POLLIN)

    def is_waiting(self) -> bool:
        """Whether bytes are on their way, or somebody may open the line."""
        return any(way.held for way in self.ways.values())

    def take_in(self, rate: int) -> None:
        """Read what both ends have sent.

        Args:
            rate: the speed of the board's UART, in baud.
        """
        self._look_at_outer()
        for way, terminal in ((TO_HOST, self.inner), (TO_BOARD, self._outer if self._is_open else None)):
            if terminal is None or len(self.ways[way].held) >= _HELD_BYTES:
                continue
            with contextlib.suppress(BlockingIOError):
                try:
                    data = os.read(terminal, _CHUNK)
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
                    continue
                if way == TO_HOST and not self._is_open:
                    continue  # said to nobody
                self.ways[way].held += self._damage(data, way, rate)

    def is_drained(self) -> bool:
        """Whether there is nothing that the interpreter has sent and we have not read."""
        poll = select.poll()
        poll.register(self.inner, select.POLLIN)
        return not poll.poll(0)

    def _look_at_outer(self) -> None:
        if self._outer is None:
            self._is_open = False
            return
        poll = select.poll()
        poll.register(self._outer, select.POLLIN)
        events = poll.poll(0)
        hung_up = bool(events) and bool(events[0][1] & select.POLLHUP)
        readable = bool(events) and bool(events[0][1] & select.POLLIN)
        was_open, self._is_open = self._is_open, not hung_up or readable
        if was_open and not self._is_open:
            self.ways[TO_HOST].held.clear()

    def _damage(self, data: bytes, way: str, rate: int) -> bytes:
        if not self._usb and self._outer is not None and speed_of(self._outer) != rate:
            return bytes(self._random.randrange(128, 256) for _ in data)
        if not self.faults.damage or way not in self.faults.damaged:
            return data
        made = bytearray()
        for byte in data:
            if self._random.random() >= self.faults.damage:
                made.append(byte)
                continue
            kind = self._random.randrange(4)
            if kind == 0:
                continue  # lost
            made.append(byte ^ 1 << self._random.randrange(8) if kind < 3 else byte)
            if kind == 3:
                made.append(self._random.randrange(256))
        return bytes(made)

    def deliver(self, way: str, rate: int, stop_at: int | None = None) -> bool:
        """Pass on what has waited long enough.

        Args:
            way: the direction.
            rate: the speed of the board's UART, in baud.
            stop_at: do not go further than before this byte, None for all; the caller deals with it.

        Returns:
            Whether the fault that unplugs the line is due.
        """
        one = self.ways[way]
        baud = None if not self.baud else self.baud if rate == PROMPT_BAUD else rate
        size = min(one.allowed(baud), _CHUNK)
        if stop_at is not None:
            size = min(size, stop_at)
        limit = self.faults.unplug_after.get(way)
        if limit is not None:
            size = min(size, limit - one.passed)
        if size > 0:
            terminal = self.inner if way == TO_BOARD else self._outer
            sent = size
            if terminal is not None and (way == TO_BOARD or self._is_open):
                try:
                    sent = os.write(terminal, bytes(one.held[:size]))
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    if error.errno != errno.EIO:
                        raise
            if sent:
                self._moved_at = time.monotonic()
            elif way == TO_HOST and time.monotonic() - self._moved_at > _STUCK_S:
                sent = size
            one.take(sent, baud)
        elif not one.held:
            self._moved_at = time.monotonic()
        return limit is not None and one.passed >= limit

    def drop(self, size: int) -> None:
        """Take bytes to the board off the line: they have been dealt with."""
        self.ways[TO_BOARD].take(size, None)

    def next_interrupt(self) -> int | None:
        """How many bytes to the board come before a Ctrl-C, None where there is none."""
        at = self.ways[TO_BOARD].held.find(_CTRL_C)
        return None if at < 0 else at
