"""sipp, which plays SIP scenarios and makes load (Debian: sip-tester)."""

import os
import shutil
import signal
import socket
import time
from collections.abc import Sequence
from pathlib import Path

from .processes import LabError, Process

__all__ = ["SIP_PORT", "Sipp", "is_bound"]

#: Where every sipp here is.
SIP_PORT = 5060
_POLL_S = 0.02
_TOLD_CHARACTERS = 4000  # of what went wrong
_BUFFER_BYTES = 1 << 20  # of its sockets, as far as the system allows; its own 64 KiB overflow where it has to wait


def is_bound(address: str, port: int = SIP_PORT) -> bool:
    """Whether somebody has a UDP socket at an address, or listens there; finding out does not disturb them."""
    wanted = f"{int.from_bytes(socket.inet_aton(address), 'little'):08X}:{port:04X}"
    for table, states in (("udp", {"07"}), ("tcp", {"0A"})):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[1] == wanted and fields[3] in states:
                return True
    return False


class Sipp(Process):
    """A sipp that plays one scenario, from one address.

    Args:
        scenario: its XML.
        output: the file its screen goes to; what went wrong goes beside it, as ``.errors``.
        address: its own.
        arguments: more of its command line.
    """

    def __init__(self, scenario: Path, output: Path, address: str, arguments: Sequence[str]) -> None:
        self.errors = output.with_suffix(".errors")
        self.address = address
        self.errors.unlink(missing_ok=True)
        command = [shutil.which("sipp") or "sipp", *arguments, "-sf", str(scenario), "-i", address]
        command += ["-p", str(SIP_PORT), "-bind_local", "-mi", address, "-ci", address, "-nostdin", "-skip_rlimit"]
        command += ["-buff_size", str(_BUFFER_BYTES)]
        command += ["-trace_err", "-error_file", str(self.errors)]
        super().__init__(f"sipp {output.stem}", command, output, output.parent)
        self._started = time.monotonic()

    def wait_bound(self) -> None:
        """Wait until it listens."""
        self.wait_until(lambda: is_bound(self.address), f"to listen on {self.address}")

    def take_no_more(self) -> None:
        """End when the calls that it has are over."""
        os.kill(self.pid, signal.SIGUSR1)

    def finish(self, timeout_s: float) -> float:
        """Wait until it has played its scenario; returns the seconds since it was started.

        Raises:
            LabError: a call failed, or it is not done in time.
        """
        end = time.monotonic() + timeout_s
        while self.is_running:
            if time.monotonic() > end:
                raise LabError(f"{self.name}: not done within {timeout_s:g} s\n{self.told()}")
            time.sleep(_POLL_S)
        elapsed = time.monotonic() - self._started
        if self.exit_status:
            raise LabError(f"{self.name}: exit status {self.exit_status}\n{self.told()}")
        return elapsed

    def told(self) -> str:
        """What it says went wrong; its screen where it says nothing."""
        errors = self.errors.read_text(errors="replace") if self.errors.exists() else ""
        return (errors or self.output.read_text(errors="replace"))[-_TOLD_CHARACTERS:]
