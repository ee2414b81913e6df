"""An emulated terminal at the other end of a serial port: its console is a pseudo-terminal, which can be unplugged."""

import contextlib
import fcntl
import json
import os
import pty
import select
import signal
import subprocess
import termios
import threading
import time
import tty
from pathlib import Path
from typing import Any, Self

__all__ = ["Wired"]

_WAIT_S = 30.0
_BYTES = 4096


class Wired:
    """A program whose standard input and output are a serial port.

    Args:
        port: the port's name, a symbolic link made here.
        command: the program.
        folder: where it runs.
        environment: added to ours.

    Attributes:
        port: likewise.
        heard: all that it was told through the port.
    """

    def __init__(self, port: Path, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.port = port
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **environment},
            start_new_session=True,
        )
        self.said = b""
        self.heard = b""
        self._master = self._slave = -1
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._pump = threading.Thread(target=self._run, daemon=True)
        self.plug()
        self._pump.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)  # its own group, and all that it has started
        self._process.wait()
        self._ended.set()
        self._pump.join()
        self.unplug()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with contextlib.suppress(OSError):
                pipe.close()

    def plug(self) -> None:
        """Put the cable in; the port is there."""
        with self._lock:
            self._master, self._slave = pty.openpty()
            tty.setraw(self._slave)
            fcntl.fcntl(self._master, fcntl.F_SETFL, os.O_NONBLOCK)
            self.port.symlink_to(os.ttyname(self._slave))

    def unplug(self) -> None:
        """Pull the cable; the program goes on."""
        with self._lock:
            if self._master >= 0:
                self.port.unlink()
                os.close(self._slave)
                os.close(self._master)
                self._master = self._slave = -1

    @property
    def lines(self) -> list[dict[str, Any]]:
        """The events that it has told."""
        found = []
        for line in self.said.split(b"\n")[:-1]:
            with contextlib.suppress(ValueError):
                found.append(json.loads(line))
        return found

    def send(self, command: str) -> None:
        """Tell it something, without the port."""
        self._type(command.encode() + b"\n")

    def wait_for(self, event: str, *, since: int = 0, **fields: Any) -> dict[str, Any]:
        """Wait until it tells an event, whoever reads its port."""
        end = time.monotonic() + _WAIT_S
        while time.monotonic() < end:
            for line in self.lines[since:]:
                if line["event"] == event and all(line.get(key) == value for key, value in fields.items()):
                    return line
            time.sleep(0.02)
        raise AssertionError(f"no {event} {fields}; {self.said[-2000:]!r}")

    def _type(self, data: bytes) -> None:
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):
            os.write(self._process.stdin.fileno(), data)

    def _run(self) -> None:
        assert self._process.stdout is not None
        out = self._process.stdout.fileno()
        while not self._ended.is_set():
            with self._lock:
                master = self._master
                watched = [one for one in (out, master) if one >= 0]
                ready = select.select(watched, [], [], 0.01)[0]
                if master in ready:
                    with contextlib.suppress(OSError):
                        data = os.read(master, _BYTES)
                        self.heard += data
                        self._type(data)
                if out in ready:
                    data = os.read(out, _BYTES)
                    if not data:
                        return
                    self.said += data
                    if master >= 0:
                        with contextlib.suppress(OSError, termios.error):  # nobody reads: it is lost, as on a real line
                            os.write(master, data)
            time.sleep(0.001)
