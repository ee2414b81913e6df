"""What the neighbour's memory holds for each registered contact: the same for few as for many.

Each number of registrations is simulated in a process of its own: a REGISTER is parsed for each, its binding is made as
the registrar makes it, and is in a SQLite store before it counts. What Python has allocated is told by tracemalloc; how
much the process has grown, which is what the system gives and what fragments, by /proc in a second process.
"""

import asyncio
import gc
import itertools
import os
import subprocess
import sys
import tempfile
import tracemalloc
from pathlib import Path
from typing import cast

from rich.console import Console

from benchmarks.report import Cell, at_most, show
from lab.processes import LabError
from neighbour.config import ListenConfig, RegistrarConfig
from neighbour.contacts import read_contacts
from neighbour.location import Location
from neighbour.outbound import Way
from neighbour.registrar import new_binding
from neighbour.store.database import Store, migrate
from neighbour.transport.flow import Listener
from neighbour.transport.udp import UdpFlow, UdpTransport
from sipwire.message import Request, parse

__all__ = ["measure", "run"]

_WARM_UP = 6000  # registrations beside those that are counted: what is remembered of messages is full then
_AT_ONCE = 500
_FLAT = 1.15  # how much more than the fewest the most may need each
_REGISTER = (
    "REGISTER sip:a.example SIP/2.0\r\n"
    "Via: SIP/2.0/UDP {address}:5060;branch=z9hG4bK{number:016x};rport\r\n"
    "Max-Forwards: 70\r\n"
    "From: <sip:user{number}@a.example>;tag={number:08x}\r\n"
    "To: <sip:user{number}@a.example>\r\n"
    "Call-ID: {call_id}\r\n"
    "CSeq: {cseq} REGISTER\r\n"
    "Contact: <sip:user{number}@{address}:5060>;q=0.8\r\n"
    "Expires: 3600\r\n"
    "User-Agent: Example Phone 1.2.3\r\n"
    "Content-Length: 0\r\n\r\n"
)


async def _register(location: Location, transport: UdpTransport, number: int) -> None:
    address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
    text = _REGISTER.format(number=number, address=address, call_id=os.urandom(16).hex(), cseq=1000 + number)
    request = parse(text.encode())
    assert isinstance(request, Request)
    contacts = read_contacts(request, RegistrarConfig())
    assert contacts is not None
    way = Way((), is_direct=True, has_outbound=True, supports_outbound=False)
    user = (request.to.parsed_uri().user or b"").decode()
    made = [new_binding(request, user, one, UdpFlow(transport, (address, 5060)), way) for one in contacts]
    await location.change(made, [])


def _resident() -> int:
    """Bytes of this process that are in memory."""
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def _grow(folder: str, count: int, *, traced: bool) -> int:
    """Register so many; returns by how many bytes memory has grown."""
    url = f"sqlite+aiosqlite:///{folder}/wisp.db"
    migrate(url)
    store = Store(url)
    await store.open()
    listener = Listener(ListenConfig(transport="udp", address="10.0.0.1", port=5060), "a.example")
    transport = UdpTransport(listener, lambda data, source, transport: None)

    async def register(location: Location, numbers: range) -> None:
        for start in itertools.islice(numbers, 0, None, _AT_ONCE):
            some = range(start, min(start + _AT_ONCE, numbers.stop))
            await asyncio.gather(*(_register(location, transport, number) for number in some))

    def used() -> int:
        gc.collect()
        return tracemalloc.get_traced_memory()[0] if traced else _resident()

    if traced:
        tracemalloc.start()
    before_those, location = Location(store), Location(store)
    await register(before_those, range(_WARM_UP))
    await asyncio.sleep(0)  # the last tasks are held until the loop has gone on
    before = used()
    await register(location, range(_WARM_UP, _WARM_UP + count))
    await asyncio.sleep(0)
    grown = used() - before
    assert (len(before_those), len(location)) == (_WARM_UP, count)
    await store.close()
    return grown


def measure(count: int, *, traced: bool) -> float:
    """Bytes for each of so many contacts, measured in a process of its own.

    Args:
        count: how many.
        traced: whether what Python has allocated counts, or the memory of the process.

    Raises:
        LabError: that process failed.
    """
    command = [sys.executable, "-m", "benchmarks.contacts", str(count), "traced" if traced else "resident"]
    paths = [str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in paths if path)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        raise LabError(f"contacts: exit status {done.returncode}\n{done.stderr[-3000:]}")
    return int(done.stdout) / count


def run(console: Console, counts: list[int]) -> None:
    """Measure, from few to many."""
    rows: list[list[Cell | str]] = []
    first = 0.0
    for count in counts:
        allocated, resident = measure(count, traced=True), measure(count, traced=False)
        first = first or allocated
        beside = at_most(allocated / first, _FLAT, "{:.2f}")
        rows.append([f"{count:,}", f"{allocated:.0f} B", beside, f"{resident:.0f} B"])
    show(
        console,
        "Memory of the neighbour per registered contact (simulated, UDP)",
        ["contacts", "allocated", "of that for few", "process grew"],
        rows,
    )


def _main() -> None:
    count, what = int(sys.argv[1]), cast("str", sys.argv[2])
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as folder:
        print(asyncio.run(_grow(folder, count, traced=what == "traced")))


if __name__ == "__main__":
    _main()
