"""The proxies that are measured side by side: Wisp, and where they are installed Kamailio and sippy's B2BUA.

One process each (Kamailio: one worker), on addresses of their own, all at the same time: those that do nothing cost
nothing. What comes from PEER_DOMAIN is let through by where it comes from, everybody else has to give a password.
"""

import asyncio
import contextlib
import os
import shutil
import sys
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from lab.lab import Lab
from lab.processes import LabError, Process
from lab.sipp import SIP_PORT, is_bound
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store

__all__ = ["CALLEE", "DOMAIN", "PASSWORD", "Proxy", "cpu_seconds", "lift_limits", "start_proxies"]

DOMAIN = "a.example"
#: Whose calls nobody challenges.
PEER_DOMAIN = "peer.example"
CALLEE, PASSWORD = "callee", "secret"
_CALLER = "caller"
_START_S = 10.0
# What may be asked of one user, one address or one domain, and from when on the neighbour spares itself.
_LIMITS = {
    "stranger_rate": 1_000_000,
    "stranger_burst": 1_000_000,
    "user_rate": 1_000_000,
    "user_burst": 1_000_000,
    "peer_rate": 1_000_000,
    "peer_burst": 1_000_000,
    "delay_ms": 10_000,
}
_KAMAILIO_CONFIG = Path(__file__).with_name("kamailio.cfg")


@dataclass
class Proxy:
    """A proxy that runs.

    Attributes:
        name: of the program.
        process: its first one; all of them are of its session.
        address: where it listens.
        callee: the address of the phone that it knows as CALLEE.
        has_registrar: whether phones register with it, and give passwords.
    """

    name: str
    process: Process
    address: str
    callee: str
    has_registrar: bool = True

    def cpu_seconds(self) -> float:
        """CPU time of it and its children."""
        return sum(
            cpu_seconds(path) for path in Path("/proc").glob("[0-9]*/stat") if _session(path) == self.process.pid
        )


def _fields(stat: Path) -> list[str]:
    """What /proc says of a process from its state on; nothing of one that has ended."""
    with contextlib.suppress(OSError):
        return stat.read_text().rpartition(")")[2].split()
    return []


def _session(stat: Path) -> int:
    fields = _fields(stat)
    return int(fields[3]) if fields else 0


def cpu_seconds(stat: Path) -> float:
    """CPU time of a process by its ``/proc/<pid>/stat``."""
    fields = _fields(stat)
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK") if fields else 0.0


def start_proxies(lab: Lab, peer: str, users: list[str]) -> list[Proxy]:
    """Start all that can be had, Wisp first.

    Args:
        lab: an empty lab.
        peer: the address that PEER_DOMAIN sends from.
        users: who registers, beside caller and callee.

    Raises:
        LabError: one does not start.
    """
    proxies = [_wisp(lab, peer, users)]
    if shutil.which("kamailio") is not None:
        proxies.append(_kamailio(lab, peer))
    if find_spec("sippy") is not None:
        proxies.append(_sippy(lab))
    return proxies


def lift_limits(lab: Lab, domain: str) -> None:
    """Let a neighbour that does not run yet take whatever comes: all of it is one user's, or one domain's."""
    for key, value in _LIMITS.items():
        lab.configure(domain, key, str(value))


def _wisp(lab: Lab, peer: str, users: list[str]) -> Proxy:
    address = lab.make_domains(DOMAIN)[DOMAIN]
    lab.configure(DOMAIN, "md5", "true")
    lab.change(DOMAIN, 'level = "debug"', 'level = "info"')
    lift_limits(lab, DOMAIN)
    with lab.configuration(DOMAIN).open("a") as file:
        file.write(f'[[peer]]\ndomain = "{PEER_DOMAIN}"\naddress = "{peer}:{SIP_PORT}"\ntransport = "udp"\n')
    asyncio.run(_add_accounts(lab, [_CALLER, CALLEE, *users]))
    return Proxy("Wisp", lab.start_neighbour(DOMAIN), address, lab.next_address())


async def _add_accounts(lab: Lab, users: list[str]) -> None:
    store = Store(load(lab.configuration(DOMAIN)).store_url)
    await store.open()
    for user in users:
        await add_account(store, DOMAIN, user, PASSWORD, is_terminal=False, md5=True)
    await store.close()


def _kamailio(lab: Lab, peer: str) -> Proxy:
    address = lab.next_address()
    # -x fm: the debugging allocator, which is the default, costs several times the rest.
    command = ["kamailio", "-DD", "-E", "-x", "fm", "-m", "512", "-M", "8", "-Y", str(lab.folder)]
    command += ["-A", f"ADDRESS=udp:{address}:{SIP_PORT}", "-A", f"PEER={peer}", "-f", str(_KAMAILIO_CONFIG)]
    return _started(lab, Proxy("Kamailio", _process(lab, "kamailio", command), address, lab.next_address()))


def _sippy(lab: Lab) -> Proxy:
    address, callee = lab.next_address(), lab.next_address()
    command = [sys.executable, "-m", "sippy.b2bua_simple", "-f", "-l", address, "-p", str(SIP_PORT)]
    command += ["-n", f"{callee}:{SIP_PORT}"]
    return _started(lab, Proxy("sippy", _process(lab, "sippy", command), address, callee, has_registrar=False))


def _process(lab: Lab, name: str, command: list[str]) -> Process:
    # sippy would log every message; neither of the others does.
    return lab.start(Process, name, command, lab.folder / f"{name}.log", lab.folder, {"SIPLOG_BEND": "none"})


def _started(lab: Lab, proxy: Proxy) -> Proxy:
    del lab
    end = time.monotonic() + _START_S
    while not is_bound(proxy.address):
        if not proxy.process.is_running or time.monotonic() > end:
            raise LabError(f"{proxy.name} does not start\n{proxy.process.last_words()}")
        time.sleep(0.05)
    return proxy
