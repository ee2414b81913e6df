"""A serial line between a neighbour and an emulated terminal, as slow as one, and with noise on it.

    neighbour <--pseudo-terminal--> SerialCable <--connection--> terminal's UART (uart/machine.py)

The pace is that of its speed, 10 bits for each byte. Noise changes bytes, of those in a hundred that are to be changed:
one by one, or in bursts as they are on real lines.
"""

import contextlib
import json
import os
import random
import select
import socket
import threading
import time
import tty
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lab.lab import Lab
from lab.processes import ROM, LabError, Process

__all__ = ["SerialCable", "SerialTerminal"]

_ROUND_S = 0.001
_SEED = 1055
_UART = Path(__file__).parent / "uart" / "run.py"


class _Way:
    """One direction."""

    def __init__(self, seed: int) -> None:
        self.waiting = bytearray()
        self.passed = self.damaged = 0
        self._chance = random.Random(seed)
        self._left = 0  # bytes of the present burst

    def take(self, size: int, damage: float, burst: int) -> bytes:
        """The next bytes, with noise.

        Args:
            size: how many at most.
            damage: which part of them is to be changed.
            burst: how many in a row, on the average.
        """
        data = self.waiting[:size]
        del self.waiting[:size]
        self.passed += len(data)
        for at in range(len(data)):
            if not self._left and self._chance.random() < damage / burst:
                self._left = burst if burst == 1 else self._chance.randrange(1, 2 * burst)
            if self._left and damage:
                self._left -= 1
                data[at] ^= self._chance.randrange(1, 256)
                self.damaged += 1
        return bytes(data)


class SerialCable(threading.Thread):
    """See the module.

    Args:
        link: where the neighbour finds its end.
        baud: the pace.

    Attributes:
        damage: which part of the bytes is changed, to the neighbour and to the terminal.
        burst: how many in a row, on the average.
        port: where the terminal's UART connects to.
        ways: to the neighbour and to the terminal, with how many bytes ``passed`` and how many of them ``damaged``.
    """

    def __init__(self, link: Path, baud: int = 921_600) -> None:
        super().__init__(daemon=True)
        self.damage = (0.0, 0.0)
        self.burst = 1
        self.ways = (_Way(_SEED), _Way(_SEED + 1))
        self._bytes_a_s = baud / 10
        self._ours, self._theirs = os.openpty()
        tty.setraw(self._theirs)
        os.set_blocking(self._ours, False)
        self._link = link
        link.symlink_to(os.ttyname(self._theirs))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._stopped = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self.join()
        # Before its number is somebody else's: who tries to open the port again and again would take that one.
        self._link.unlink()
        os.close(self._ours)
        os.close(self._theirs)
        self._listener.close()

    def run(self) -> None:
        board: socket.socket | None = None
        last = time.monotonic()
        while not self._stopped.is_set():
            readable, _, _ = select.select([self._ours, board or self._listener], [], [], _ROUND_S)
            to_neighbour, to_board = self.ways
            if self._listener in readable:
                board = self._listener.accept()[0]
                board.setblocking(False)
            if self._ours in readable:
                to_board.waiting += os.read(self._ours, 4096)
            if board in readable and board is not None:
                data = b""
                with contextlib.suppress(OSError):
                    data = board.recv(4096)
                to_neighbour.waiting += data
                if not data:
                    board.close()
                    board = None
            now = time.monotonic()
            size = max(1, int((now - last) * self._bytes_a_s))
            last = now
            with contextlib.suppress(BlockingIOError):
                os.write(self._ours, to_neighbour.take(size, self.damage[0], self.burst))
            data = to_board.take(size, self.damage[1], self.burst)
            if board is not None and data:
                with contextlib.suppress(OSError):
                    board.sendall(data)
        if board is not None:
            board.close()

    @property
    def damaged(self) -> float:
        """Which part of what has passed was changed."""
        return sum(way.damaged for way in self.ways) / max(1, sum(way.passed for way in self.ways))


class SerialTerminal(Process):
    """An emulated terminal on a line. Its events and commands go over that, by the console that the neighbour has.

    Args:
        lab: it ends with that; `start` with ``Lab.start``.
        configuration: its JSON file.
        cable: its line.
        console: the neighbour's link to its console.
    """

    def __init__(self, lab: Lab, configuration: Path, cable: SerialCable, console: Path) -> None:
        super().__init__(
            configuration.stem,
            [lab.micropython, "-X", f"heapsize={lab.heap_kib}K", str(_UART), str(ROM), lab.code, str(configuration)],
            configuration.with_suffix(".output"),
            configuration.parent,
            {"CABLE": str(cable.port)},
        )
        settings = json.loads(configuration.read_text())
        self.aor = f"sip:{settings['user']}@{settings['domain']}"
        self.microphone = Path(settings["board"].get("microphone", ""))
        self.speaker = Path(settings["board"].get("speaker", ""))
        self._console = os.open(console, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY)
        self._line = b""

    def read(self) -> None:
        """Take in what has come by the console; what noise has made of events is left out."""
        super().read()  # what is no event: its prompt's line, and how it ended
        with contextlib.suppress(BlockingIOError):
            while True:
                self._line += os.read(self._console, 4096)
        *whole, self._line = self._line.split(b"\n")
        for line in whole:
            with contextlib.suppress(ValueError):
                event: Any = json.loads(line[line.find(b'{"event"') :])
                if isinstance(event, dict):
                    self.lines.append(event)

    def send(self, command: str) -> None:
        """Type a command."""
        if not self.is_running:
            raise LabError(f"{self.name} has ended, before: {command}\n{self.last_words()}")
        os.write(self._console, command.encode() + b"\n")

    def send_until(self, command: str, event: str, timeout_s: float = 20.0, **fields: Any) -> dict[str, Any]:
        """Type a command until there is an event: noise may be on either."""
        self.read()
        mark = len(self.lines)
        end = time.monotonic() + timeout_s
        while True:
            self.send(command)
            try:
                return self.wait_for(event, 1.0, since=mark, **fields)
            except LabError:
                if time.monotonic() > end:
                    raise

    def press_ctrl_c(self) -> None:
        """Ctrl-C, as somebody at the console presses it."""
        os.write(self._console, b"\x03")

    def stop(self) -> None:
        super().stop()
        with contextlib.suppress(OSError):
            os.close(self._console)
