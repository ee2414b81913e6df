"""What a running neighbour's memory holds for each idle TLS connection: the same for few as for many.

The connections come from a second process, and from several addresses, since one address may not have all there are.
On each, a phone has shown once who it is, with an OPTIONS and its password: strangers are not let stay. What the kernel
keeps for a connection, on either side, is not in these figures.
"""

import asyncio
import contextlib
import itertools
import os
import resource
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console

from benchmarks.proxies import lift_limits
from benchmarks.report import Cell, at_most, show
from lab.lab import Lab
from lab.processes import LabError
from neighbour.config import load
from neighbour.store.accounts import add_account
from neighbour.store.database import Store
from sipwire.digest import authenticate, choose, ha1
from sipwire.message import Request, Response, parse

__all__ = ["run"]

_DOMAIN, _USER, _PASSWORD = "a.example", "phone", "secret"
_TLS_PORT = 5061
_BEFORE = 300  # connections that are there already: memory that was free is theirs
_OF_ADDRESS = 1000  # connections from one; the neighbour lets it have twice as many
_AT_ONCE = 20  # that are being opened
_OTHER_FILES = 100
_SETTLE_S = 2.0
_PATIENCE_S = 300.0
_FLAT = 1.15  # how much more than the fewest the most may need each
_READY = "ready"


# The second process.


def _request(number: int, cseq: int) -> Request:
    made = Request("OPTIONS", f"sip:{_DOMAIN}".encode())
    made.add("Via", b"SIP/2.0/TLS phone.invalid;branch=z9hG4bK%d-%d;rport" % (number, cseq))
    made.add("Max-Forwards", b"70")
    made.add("From", f"<sip:{_USER}@{_DOMAIN}>;tag=t{number}".encode())
    made.add("To", f"<sip:{_DOMAIN}>".encode())
    made.add("Call-ID", b"idle%d" % number)
    made.add("CSeq", b"%d OPTIONS" % cseq)
    return made


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Request) -> Response:
    request.add("Content-Length", b"0")
    writer.write(request.serialize())
    answer = parse(await reader.readuntil(b"\r\n\r\n"))
    assert isinstance(answer, Response)
    return answer


async def _connect(
    address: str, source: str, context: ssl.SSLContext, number: int
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection on which it is known whose it is."""
    reader, writer = await asyncio.open_connection(address, _TLS_PORT, ssl=context, local_addr=(source, 0))
    answer = await _ask(reader, writer, _request(number, 1))
    challenge = choose(answer.get_all("proxy-authenticate"), _DOMAIN.encode())
    if challenge is None:
        raise LabError(f"no challenge but {answer.status}")
    secret = ha1(_USER.encode(), _DOMAIN.encode(), _PASSWORD.encode(), challenge.algorithm)
    again = _request(number, 2)
    credentials = authenticate(challenge, _USER.encode(), secret, "OPTIONS", again.uri, os.urandom(8).hex().encode())
    again.add("Proxy-Authorization", credentials.serialize())
    answer = await _ask(reader, writer, again)
    if answer.status != 200:
        raise LabError(f"{answer.status} with a password")
    return reader, writer


async def _hold(address: str, count: int, root: str, sources: list[str]) -> None:
    """Open so many connections, say so, and keep them until standard input ends."""
    context = ssl.create_default_context(cafile=root)
    context.check_hostname = False  # it is called by its address
    gate = asyncio.Semaphore(_AT_ONCE)

    async def one(number: int, source: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with gate:
            return await _connect(address, source, context, number)

    pairs = zip(range(count), itertools.cycle(sources), strict=False)
    held = await asyncio.gather(*(one(number, source) for number, source in pairs))
    print(_READY, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    ended = sum(reader.at_eof() for reader, _ in held)
    if ended:
        raise LabError(f"{ended} connections have ended")
    for _, writer in held:
        writer.transport.abort()


def _main() -> None:
    address, count, root, *sources = sys.argv[1:]
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    try:
        asyncio.run(_hold(address, int(count), root, sources))
    except (LabError, OSError) as error:
        raise SystemExit(str(error)) from None


# The measurement.


@contextlib.contextmanager
def _held(lab: Lab, address: str, count: int) -> Iterator[None]:
    """So many connections to a neighbour.

    Raises:
        LabError: they can't be had, or did not stay.
    """
    sources = [lab.next_address() for _ in range(-(-count // _OF_ADDRESS))]
    command = [sys.executable, "-m", "benchmarks.connections", address, str(count)]
    command += [str(lab.folder / "ca" / "root.pem"), *sources]
    tools = str(Path(__file__).resolve().parent.parent)
    paths = [tools, *filter(None, [os.environ.get("PYTHONPATH")])]
    errors = lab.folder / "connections.errors"
    with (
        errors.open("w") as told,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=told,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        ) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdin is not None
        try:
            if holder.stdout.readline().strip() == _READY:
                yield
        finally:
            holder.stdin.close()
            holder.wait(_PATIENCE_S)
    if holder.returncode:
        raise LabError(f"connections: {errors.read_text()[-2000:]}")


def _resident(pid: int) -> int:
    """Bytes of a process that are in memory."""
    pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


async def _add_account(lab: Lab) -> None:
    store = Store(load(lab.configuration(_DOMAIN)).store_url)
    await store.open()
    await add_account(store, _DOMAIN, _USER, _PASSWORD, is_terminal=False)
    await store.close()


def _measure(count: int) -> float:
    """Bytes for each of so many connections to a neighbour of their own."""
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name, Lab(Path(name)) as lab:
        address = lab.make_domains(_DOMAIN)[_DOMAIN]
        lab.change(_DOMAIN, 'level = "debug"', 'level = "info"')
        lift_limits(lab, _DOMAIN)
        asyncio.run(_add_account(lab))
        neighbour = lab.start_neighbour(_DOMAIN)
        with _held(lab, address, _BEFORE):
            time.sleep(_SETTLE_S)
            before = _resident(neighbour.pid)
            with _held(lab, address, count):
                time.sleep(_SETTLE_S)
                return (_resident(neighbour.pid) - before) / count


def run(console: Console, counts: list[int]) -> None:
    """Measure, from few to many.

    Raises:
        LabError: the system allows too few open files.
    """
    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if allowed != resource.RLIM_INFINITY and allowed < max(counts) + _OTHER_FILES:
        raise LabError(f"connections: {allowed} open files are allowed; `ulimit -n {max(counts) * 2}` as root helps")
    rows: list[list[Cell | str]] = []
    first = 0.0
    for count in counts:
        each = _measure(count)
        first = first or each
        rows.append([f"{count:,}", f"{each / 1024:.1f} KiB", at_most(each / first, _FLAT, "{:.2f}")])
    columns = ["connections", "process grew, each", "of that for few"]
    show(console, "Memory of the neighbour per idle TLS connection", columns, rows)


if __name__ == "__main__":
    _main()
