"""The console of a terminal on a serial line: a pseudo-terminal where its text can be had while we have the port.

    line --text--> pseudo-terminal <-- whoever opens the symbolic link: a terminal program, ``wisp device monitor``
         <--keys--

Nobody needs to have it open: what is not read is given up, the oldest first, so that who comes later reads what is new.
"""

import asyncio
import contextlib
import errno
import os
import termios
import tty
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Console"]

_READ_BYTES = 1024
_WAITING_BYTES = 8192  # of text, until there is room
_AGAIN_S = 0.02  # until a line that had no room for keys is tried again


class Console:
    """See the module.

    Args:
        path: the symbolic link.
        typed: called with what somebody has typed; False where it has to be tried again later.
    """

    def __init__(self, path: Path, typed: "Callable[[bytes], bool]") -> None:
        self._path = path
        self._typed = typed
        self._ours = self._theirs = -1
        self._name = ""
        self._waiting = bytearray()
        self._timer: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Make it; a link that another neighbour has left behind is replaced.

        Raises:
            OSError: it can't be made, or there is something else by that name.
        """
        if self._path.exists() and not self._path.is_symlink():
            raise FileExistsError(errno.EEXIST, "is there already, and no symbolic link")
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # Ours stays open: else reading from the other end would fail whenever nobody has it open.
        self._ours, self._theirs = os.openpty()
        try:
            os.fchmod(self._theirs, 0o600)
            tty.setraw(self._theirs)
            os.set_blocking(self._ours, False)
            self._name = os.ttyname(self._theirs)
            if self._path.exists() and self._path.resolve().parent != Path(self._name).parent:
                raise FileExistsError(errno.EEXIST, "is there already, and leads to what is no console of ours")
            made = self._path.with_name(f".{self._path.name}.{os.getpid()}")
            made.unlink(missing_ok=True)
            made.symlink_to(self._name)
            try:
                made.replace(self._path)
            except OSError:
                made.unlink()
                raise
        except BaseException:
            os.close(self._ours)
            os.close(self._theirs)
            raise
        asyncio.get_running_loop().add_reader(self._ours, self._read)

    def close(self) -> None:
        """Remove it."""
        if self._timer is not None:
            self._timer.cancel()
        asyncio.get_running_loop().remove_reader(self._ours)
        asyncio.get_running_loop().remove_writer(self._ours)
        with contextlib.suppress(OSError):
            if str(self._path.readlink()) == self._name:
                self._path.unlink()
        os.close(self._ours)
        os.close(self._theirs)

    def show(self, text: bytes) -> None:
        """Text has come from the terminal."""
        if self._waiting:
            self._waiting += text
            del self._waiting[:-_WAITING_BYTES]
        else:
            self._waiting += text
            self._push()

    def _push(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            del self._waiting[: os.write(self._ours, self._waiting)]
        except BlockingIOError:
            pass
        except OSError:
            self._waiting.clear()
        if self._waiting:
            # Nobody reads, or not fast enough: what has been there for longest makes room.
            with contextlib.suppress(OSError, termios.error):
                termios.tcflush(self._theirs, termios.TCIFLUSH)
            loop.add_writer(self._ours, self._push)
        else:
            loop.remove_writer(self._ours)

    def _read(self) -> None:
        try:
            keys = os.read(self._ours, _READ_BYTES)
        except OSError:
            return
        if keys:
            self._pass_on(keys)

    def _pass_on(self, keys: bytes) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if self._typed(keys):
            loop.add_reader(self._ours, self._read)
        else:
            loop.remove_reader(self._ours)
            self._timer = loop.call_later(_AGAIN_S, self._pass_on, keys)
