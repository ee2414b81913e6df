"""The neighbour's figures: CPU time of proxied calls and of registrations, sipp at both ends, Kamailio beside it."""

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.report import Cell, median, ratio, show
from lab.lab import Lab
from lab.processes import LabError, Process
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store

__all__ = ["run"]

_HERE = Path(__file__).parent
_DOMAIN = "a.example"
_USERS = 500
_PORT = 5060
_TIMEOUT_S = 300


@dataclass
class _Proxy:
    """A proxy that runs."""

    name: str
    process: Process
    address: str

    def cpu_seconds(self) -> float:
        """CPU time of it and its children."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                if int(fields[3]) == self.process.pid:  # its session
                    ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def _wisp(lab: Lab) -> Iterator[_Proxy]:
    address = lab.make_domains(_DOMAIN)[_DOMAIN]
    lab.change(_DOMAIN, "# md5 = false", "md5 = true")
    lab.change(_DOMAIN, 'level = "debug"', 'level = "info"')
    lab.change(_DOMAIN, "# user_rate = 20", "user_rate = 1000000")  # all calls are one user's
    lab.change(_DOMAIN, "# user_burst = 200", "user_burst = 1000000")
    asyncio.run(_add_accounts(lab))
    yield _Proxy("wisp", lab.start_neighbour(_DOMAIN), address)


async def _add_accounts(lab: Lab) -> None:
    store = Store(load(lab.configuration(_DOMAIN)).store_url)
    await store.open()
    for user in ["caller", "callee", *_registering()]:
        await add_account(store, _DOMAIN, user, "secret", is_terminal=False, md5=True)
    await store.close()


@contextlib.contextmanager
def _kamailio(lab: Lab) -> Iterator[_Proxy | None]:
    program = shutil.which("kamailio")
    if program is None:
        yield None
        return
    address = lab.next_address()
    # -x fm: the debugging allocator, which is the default, costs several times the rest.
    command = [program, "-DD", "-E", "-x", "fm", "-m", "64", "-M", "8", "-Y", str(lab.folder)]
    command += ["-A", f"ADDRESS=udp:{address}:{_PORT}", "-f", str(_HERE / "kamailio.cfg")]
    process = lab.start(Process, "kamailio", command, lab.folder / "kamailio.log", lab.folder)
    time.sleep(1)
    yield _Proxy("Kamailio", process, address)


def _registering() -> list[str]:
    return [f"u{number}" for number in range(_USERS)]


class _Sipp:
    """Runs sipp scenarios from one address."""

    def __init__(self, folder: Path, address: str) -> None:
        self._folder = folder
        self._address = address

    def command(self, scenario: str, proxy: str, *more: str) -> list[str]:
        """The command line of a scenario."""
        sipp = shutil.which("sipp") or "sipp"
        # The digest-uri is the Request-URI; sipp's own idea is the proxy's address, which is refused.
        uri = _DOMAIN if scenario == "register" else f"callee@{_DOMAIN}"
        command = [sipp, proxy, "-sf", str(_HERE / "sipp" / f"{scenario}.xml"), "-i", self._address, "-p", str(_PORT)]
        return [
            *command,
            "-bind_local",
            "-auth_uri",
            uri,
            "-nostdin",
            "-skip_rlimit",
            "-timeout",
            str(_TIMEOUT_S),
            *more,
        ]

    def run(self, scenario: str, proxy: str, count: int, rate: int, *more: str) -> float:
        """Run a scenario so many times, at most ``rate`` a second; returns the seconds it took.

        Raises:
            LabError: a call failed.
        """
        errors = self._folder / f"{scenario}.errors"
        errors.unlink(missing_ok=True)
        trace = ("-trace_err", "-error_file", str(errors))
        command = self.command(scenario, proxy, "-m", str(count), "-r", str(rate), *trace, *more)
        started = time.monotonic()
        done = subprocess.run(command, cwd=self._folder, capture_output=True, text=True, errors="replace")
        if done.returncode:
            told = errors.read_text(errors="replace") if errors.exists() else done.stdout + done.stderr
            raise LabError(f"sipp {scenario}: exit status {done.returncode}\n{told[:3000]}")
        return time.monotonic() - started


def _users_file(folder: Path, name: str, users: list[str], address: str, port: int = _PORT) -> str:
    path = folder / name
    lines = [f"{user};{address}:{port};[authentication username={user} password=secret]\n" for user in users]
    path.write_text("SEQUENTIAL\n" + "".join(lines))
    return str(path)


def _measure(proxy: _Proxy, work: Callable[[], float]) -> tuple[float, float]:
    """CPU seconds and elapsed seconds of ``work``."""
    before = proxy.cpu_seconds()
    elapsed = work()
    return proxy.cpu_seconds() - before, elapsed


def _bench(lab: Lab, proxy: _Proxy, calls: int, rate: int, repeats: int) -> tuple[float, float, float]:
    """CPU seconds per 1,000 calls, CPU seconds per 1,000 registrations, and registrations a second."""
    where = f"{proxy.address}:{_PORT}"
    callee = lab.next_address()
    phone = _Sipp(lab.folder, lab.next_address())
    one = _users_file(lab.folder, "callee.csv", ["callee"], callee)
    # A phone is reached where its REGISTER came from.
    answerer = _Sipp(lab.folder, callee)
    answerer.run("register", where, 1, 10, "-inf", one)
    command = answerer.command("callee", where)
    answering = lab.start(Process, "callee", command, lab.folder / "callee.log", lab.folder)
    _wait_bound(callee)
    phone.run("caller", where, 100, 100)
    per_call = []
    for _ in range(repeats):
        used, _elapsed = _measure(proxy, lambda: phone.run("caller", where, calls, rate))
        per_call.append(used / calls * 1000)
    answering.stop()
    users = _users_file(lab.folder, "users.csv", _registering(), callee)
    # As fast as it answers, with at most 50 under way.
    pace = ("-l", "50", "-rp", "1000", "-inf", users)
    per_registration, rates = [], []
    for _ in range(repeats):
        used, elapsed = _measure(proxy, lambda: phone.run("register", where, calls, 20000, *pace))
        per_registration.append(used / calls * 1000)
        rates.append(calls / elapsed)
    return median(per_call), median(per_registration), median(rates)


def _wait_bound(address: str) -> None:
    """Wait until somebody listens there."""
    end = time.monotonic() + 10
    while time.monotonic() < end:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            try:
                sock.bind((address, _PORT))
            except OSError:
                return
        time.sleep(0.05)
    raise LabError("sipp did not start")


def run(console: Console, calls: int, rate: int, repeats: int) -> None:
    """Measure Wisp and, where it is installed, Kamailio."""
    if shutil.which("sipp") is None:
        console.print("  the neighbour's figures need sipp (Debian: sip-tester)", style="yellow", markup=False)
        return
    measured = {}
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name:
        for start in (_wisp, _kamailio):
            with Lab(Path(name) / start.__name__) as lab, start(lab) as proxy:
                if proxy is not None:
                    measured[proxy.name] = _bench(lab, proxy, calls, rate, repeats)
    mine = measured["wisp"]
    peer = measured.get("Kamailio")
    # Of one INVITE each, which is challenged, answered and hung up.
    names = (f"CPU s per 1,000 calls, {rate} a second", "CPU s per 1,000 registrations", "registrations per second")
    rows: list[list[Cell | str]] = []
    for i, what in enumerate(names):
        beside = f"{peer[i]:.3g}" if peer else "not installed"
        rows.append([what, f"{mine[i]:.3g}", beside, ratio(mine[i], peer[i]) if peer else ""])
    times = f"medians of {repeats}" if repeats > 1 else "one run"
    title = f"Neighbour (UDP, one process, all challenged by MD5; sipp at both ends; {times})"
    show(console, title, ["", "Wisp", "Kamailio", "ratio"], rows)
