"""Measure codec, terminal, media, neighbour, its agent and setup keys, each beside a floor or a peer."""

import argparse
import sys
from collections.abc import Callable

from rich.console import Console

from benchmarks import agent, codec, connections, contacts, media, media_terminal, proxy, setup, terminal
from benchmarks.report import machine, versions
from debian import UnavailableError
from lab.processes import LabError

# For each: the whole measurement, and a shorter one.
_BENCHMARKS: dict[str, tuple[Callable[[Console], None], Callable[[Console], None]]] = {
    "memory": (lambda console: terminal.memory(console, 3), lambda console: terminal.memory(console, 1)),
    "srtp": (lambda console: terminal.srtp(console, 2000, 5), lambda console: terminal.srtp(console, 500, 3)),
    "codec": (lambda console: codec.run(console, 7), lambda console: codec.run(console, 3)),
    "contacts": (
        lambda console: contacts.run(console, [1_000, 10_000, 100_000]),
        lambda console: contacts.run(console, [1_000, 10_000]),
    ),
    "connections": (
        lambda console: connections.run(console, [1_000, 10_000]),
        lambda console: connections.run(console, [500, 1_000]),
    ),
    "proxy": (
        lambda console: proxy.run(console, run_s=10, repeats=3, steps=4),
        lambda console: proxy.run(console, run_s=2, repeats=1, steps=0),
    ),
    "agent": (lambda console: agent.run(console, 500, 7, 500), lambda console: agent.run(console, 100, 1, 100)),
    "setup": (lambda console: setup.run(console, 200, 9, 50), lambda console: setup.run(console, 30, 3, 20)),
    "media": (
        lambda console: _media(console, 1000, 7, 400, 500, 10, 3),
        lambda console: _media(console, 200, 3, 120, 100, 2, 1),
    ),
}
_WIDTH = 100
_EPILOG = (
    "media counts instructions with valgrind: where there is none on PATH that runs the terminal's MicroPython, "
    "it is fetched from Debian (15 MB, once), into a cache folder."
)
# What takes part beside Python and its libraries.
_PARTS = {
    "memory": {"micropython"},
    "srtp": {"micropython"},
    "setup": {"micropython"},
    "proxy": {"sipp"},
    "media": {"micropython", "rtpengine"},
}


def _media(console: Console, packets: int, runs: int, seconds: int, calls: int, relayed_s: int, repeats: int) -> None:
    """The terminal's media, and then the neighbour's."""
    media_terminal.terminal(console, packets, runs, seconds)
    media.relay(console, calls, relayed_s, repeats)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/bench", description=__doc__, epilog=_EPILOG)
    parser.add_argument("what", nargs="*", metavar="WHAT", help=f"any of {', '.join(_BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="fewer and shorter runs, to see whether something moved")
    options = parser.parse_args()
    unknown = [name for name in options.what if name not in _BENCHMARKS]
    if unknown:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(_BENCHMARKS)}")
    console = Console(highlight=False, soft_wrap=True)
    # Where there is less room, or none is known of, long lines are better than figures cut short.
    console.width = max(console.width, _WIDTH)
    names = options.what or list(_BENCHMARKS)
    console.print(machine(), markup=False)
    console.print(versions(set().union(*(_PARTS.get(name, set()) for name in names))), markup=False)
    console.print()
    try:
        for name in names:
            _BENCHMARKS[name][options.quick](console)
    except (LabError, UnavailableError) as error:
        Console(stderr=True, highlight=False, soft_wrap=True).print(f"bench: {error}", style="red", markup=False)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
