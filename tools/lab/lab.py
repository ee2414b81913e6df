"""A lab: a folder with domains in it, each with a configuration, certificates and terminals, on loopback addresses.

lab/ca/                     the authority both domains trust
lab/a.example/wisp.toml     a neighbour
lab/a.example/alice.json    a terminal, with alice.events and alice.commands beside it when it runs
"""

import contextlib
import io
import json
import os
import random
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from find_micropython import bits_of
from neighbour.cli import run_command

from .processes import ROM, LabError, Neighbour, Process, Terminal, uninterrupted, within

__all__ = ["Lab"]

_P = ParamSpec("_P")
_Process = TypeVar("_Process", bound=Process)

_HEAP_KIB = 112  # what MicroPython leaves to a program on an ESP32 without PSRAM, with words of 32 bits
_HEAP_LIMIT_KIB = 28
_IMPORT = "import gc, terminal.app; gc.collect(); print(gc.mem_alloc())"
_TRIES = 50
_PORTS = (5060, 5061)

_STOP = """#!/bin/sh
kill {pids} 2>/dev/null
sleep 1
rm -rf {folder}
"""
_SAY = """#!/bin/sh
usage() {{
    echo "usage: $0 {names} COMMAND" >&2
    exit 2
}}
[ $# -ge 2 ] || usage
who=$1
shift
case $who in
{cases}*) usage ;;
esac
# To open a pipe that nobody reads any more would wait for ever; dd does not wait.
if ! printf '%s\\n' "$*" | dd of="$pipe" oflag=nonblock conv=nocreat,notrunc status=none 2>/dev/null; then
    echo "say: the terminal of $who has ended" >&2
    exit 1
fi
"""


def _is_free(address: str) -> bool:
    """Whether nobody uses the SIP ports of a loopback address."""
    for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
        for port in _PORTS:
            with socket.socket(socket.AF_INET, kind) as sock:
                try:
                    sock.bind((address, port))
                except OSError:
                    return False
    return True


def _quietly(*arguments: str) -> None:
    """A ``wisp`` command, without its good news."""
    with contextlib.redirect_stdout(io.StringIO()):
        run_command(*arguments)


class Lab:
    """Makes, starts and stops everything in a folder.

    Args:
        folder: the lab's; made if it is not there.
        micropython: the interpreter of terminals, or "" where there will be none.
        code: the terminal's code, see `processes.Terminal`.
    """

    def __init__(self, folder: Path, micropython: str = "", code: str = "") -> None:
        self.folder = folder
        self.micropython = micropython
        self.code = code
        self.processes: list[Process] = []
        self._addresses = self._address_block()
        self._used = 0
        folder.mkdir(parents=True, exist_ok=True)

    @staticmethod
    def _address_block() -> str:
        """Three bytes of a loopback network that nobody uses, so that labs can run beside each other."""
        for _ in range(_TRIES):
            block = f"127.{random.randint(16, 254)}.{random.randint(0, 255)}"
            if _is_free(f"{block}.1"):
                return block
        raise LabError("no free loopback address found")

    def next_address(self) -> str:
        """An address that nobody in this lab has yet."""
        self._used += 1
        return f"{self._addresses}.{self._used}"

    def make_authority(self) -> Path:
        """The authority that all domains of the lab trust."""
        ca = self.folder / "ca"
        if not ca.exists():
            _quietly("ca", "init", str(ca), "--name", "Lab")
        return ca

    def make_domains(self, *domains: str) -> dict[str, str]:
        """Make domains that know each other's addresses.

        Args:
            domains: their names.

        Returns:
            The address of each.
        """
        ca = self.make_authority()
        addresses = {domain: self.next_address() for domain in domains}
        for domain in domains:
            peers = [f"--peer={other}={addresses[other]}:5061" for other in domains if other != domain]
            _quietly(
                "init",
                str(self.folder / domain),
                "--domain",
                domain,
                "--address",
                addresses[domain],
                "--ca",
                str(ca),
                *peers,
            )
            self.change(domain, '# level = "info"', 'level = "debug"')
            self.change(domain, '# format = "auto"', 'format = "json"')
            self.change(domain, "# enabled = true ", "enabled = false ")
        return addresses

    def configuration(self, domain: str) -> Path:
        """The configuration of a domain."""
        return self.folder / domain / "wisp.toml"

    def change(self, domain: str, old: str, new: str) -> None:
        """Change a line of a domain's configuration."""
        path = self.configuration(domain)
        text = path.read_text()
        if old not in text:
            raise LabError(f"{path}: has no {old!r}")
        path.write_text(text.replace(old, new))

    def configure(self, domain: str, key: str, value: str) -> None:
        """Give a key of a domain's configuration another value than its default, whatever that is.

        Args:
            domain: whose.
            key: its name; where several tables have one of that name, it is that of the first.
            value: as TOML has it.
        """
        path = self.configuration(domain)
        text, count = re.subn(
            rf"^# {key} = [^#\n]*", f"{key} = {value} ", path.read_text(), count=1, flags=re.MULTILINE
        )
        if count != 1:
            raise LabError(f"{path}: has {count or 'no'} {key!r} at its default")
        path.write_text(text)

    def make_terminal(self, domain: str, user: str, **settings: Any) -> Path:
        """Make a terminal account with its configuration; returns that file.

        Args:
            domain: where.
            user: who.
            settings: more keys of its configuration; "microphone" and "speaker" go to its board.
        """
        path = self.folder / domain / f"{user}.json"
        _quietly("account", "add", user, "--config", str(self.configuration(domain)), "--terminal", str(path))
        values = json.loads(path.read_text())
        board = {"address": self.next_address()}
        for key in ("microphone", "speaker"):
            if key in settings:
                board[key] = str(settings.pop(key))
        values.update(board=board, **settings)
        path.write_text(json.dumps(values, indent=2))
        return path

    def start(self, kind: Callable[_P, _Process], *arguments: _P.args, **settings: _P.kwargs) -> _Process:
        """Start a process that ends with the lab, whatever interrupts."""
        with uninterrupted():
            process = kind(*arguments, **settings)
            self.processes.append(process)
        return process

    def start_neighbour(self, domain: str) -> Neighbour:
        """Start a domain's neighbour and wait until it serves."""
        neighbour = self.start(Neighbour, self.folder / domain, domain)
        neighbour.wait_ready()
        return neighbour

    @cached_property
    def heap_kib(self) -> int:
        """The heap of a terminal: that of a plain ESP32, or what is the same with longer words."""
        return _HEAP_KIB * bits_of(self.micropython) // 32

    @property
    def heap_limit_kib(self) -> float:
        """What of the heap may live in a call, beside the code."""
        return _HEAP_LIMIT_KIB * self.heap_kib / _HEAP_KIB

    def code_bytes(self) -> int:
        """What of a terminal's heap its code takes, before it does anything."""
        is_rom = Path(self.code).is_file()
        run = [str(ROM), self.code] if is_rom else ["-c", _IMPORT]
        more = {} if is_rom else {"MICROPYPATH": within(self.folder, self.code)}
        command = [self.micropython, "-X", f"heapsize={self.heap_kib}K", *run]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, env={**os.environ, **more})
        if done.returncode:
            raise LabError(f"the terminal's code can't be imported: {done.stdout}{done.stderr}")
        return int(done.stdout)

    def start_terminal(self, configuration: Path, heap_kib: int | None = None) -> Terminal:
        """Start a terminal; its heap is `heap_kib` where nothing else is given."""
        return self.start(Terminal, configuration, self.micropython, self.code, f"{heap_kib or self.heap_kib}K")

    def stop(self) -> None:
        """Stop everything that was started, whatever interrupts."""
        with uninterrupted():
            for process in reversed(self.processes):
                process.stop()
            self.processes.clear()

    def __enter__(self) -> "Lab":
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self.stop()

    def write_scripts(self) -> tuple[Path, Path]:
        """For people: a script that stops what runs and deletes the lab, and one that gives a terminal a command."""
        stop, say = self.folder / "stop", self.folder / "say"
        pids = " ".join(str(process.pid) for process in self.processes)
        stop.write_text(_STOP.format(pids=pids, folder=shlex.quote(str(self.folder))))
        pipes = {one.name: one.pipe for one in self.processes if one.pipe is not None}
        cases = "".join(f"{who}) pipe={shlex.quote(str(pipe))} ;;\n" for who, pipe in pipes.items())
        say.write_text(_SAY.format(names="|".join(pipes), cases=cases))
        for script in (stop, say):
            script.chmod(0o755)
        return stop, say
