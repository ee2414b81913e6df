"""The same calls between real processes: two `wisp serve`, and users in both domains that call each other.

    end-to-end   `evaluation.useragent` on CPython: certificates and S/MIME of its own
    hybrid       the terminal on MicroPython, as in the demo

One call at a time, which the callee answers and the caller ends at once; then a moment of rest. Operations are counted
by who does them: the neighbours in `wisp_asymmetric`, the user agents in their status. CPU time is that of
/proc/<pid>/stat, less what a process uses in that time when nothing happens.
"""

import asyncio
import json
import re
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.proxies import cpu_seconds, lift_limits
from evaluation.domains import NEIGHBOURS, TERMINALS
from evaluation.endtoend import OPERATIONS
from evaluation.figures import END_TO_END, HYBRID, Round
from find_micropython import find
from lab.lab import Lab
from lab.processes import LabError, Neighbour, Process, Terminal
from neighbour.agent.authority import Authority
from neighbour.config import load
from neighbour.device.image import build, build_rom
from neighbour.store.accounts import add_account, set_account
from neighbour.store.database import Store

__all__ = ["measure"]

_A, _B = "a.example", "b.example"
_METRICS_PORT = 9464
_IDLE_S = 2.0  # in which it is seen what is used when nothing happens
_PAUSE_S = 0.3  # after a call: a weak terminal remembers what it has sent for 32 s, and has no room for many calls
_WAIT_S = 20.0
_ASYMMETRIC = re.compile(r'^wisp_asymmetric_total\{operation="(\w+)"\} ([0-9.e+]+)$', re.MULTILINE)
_TOOLS = Path(__file__).resolve().parent.parent


class UserAgentProcess(Process):
    """`evaluation.useragent`, running.

    Args:
        configuration: its JSON file.
    """

    def __init__(self, configuration: Path) -> None:
        super().__init__(
            configuration.stem,
            [sys.executable, "-m", "evaluation.useragent", str(configuration)],
            configuration.with_suffix(".events"),
            configuration.parent,
            {"PYTHONPATH": str(_TOOLS)},
            configuration.with_suffix(".commands"),
        )
        settings = json.loads(configuration.read_text())
        self.aor = f"sip:{settings['user']}@{settings['domain']}"

    def operations(self) -> Counter[str]:
        """Its asymmetric operations so far."""
        self.read()
        since = len(self.lines)
        self.send("status")
        return Counter(self.wait_for("status", since=since)["operations"])


_User = UserAgentProcess | Terminal


class _World:
    """Two domains that serve, and their users."""

    def __init__(self, lab: Lab, model: str, m: int, n: int) -> None:
        self._lab = lab
        self._addresses = lab.make_domains(_A, _B)
        for domain, address in self._addresses.items():
            lab.change(domain, 'level = "debug"', 'level = "info"')
            lab.change(domain, '# level = "medium"', 'level = "heavy"')
            lab.change(domain, '# listen = "127.0.0.1:9464"', f'listen = "{address}:{_METRICS_PORT}"')
            lift_limits(lab, domain)
        names = [(_A, f"caller{i}") for i in range(m)], [(_B, f"callee{i}") for i in range(n)]
        make = self._make_agents if model == END_TO_END else self._make_terminals
        files = make([*names[0], *names[1]])
        self._neighbours: list[Neighbour] = [lab.start_neighbour(domain) for domain in self._addresses]
        start = UserAgentProcess if model == END_TO_END else None
        users: list[_User] = [lab.start(start, path) if start else lab.start_terminal(path) for path in files]
        for one in users:
            one.wait_for("registered", _WAIT_S)
        self.callers, self.callees = users[:m], users[m:]

    def _make_terminals(self, names: list[tuple[str, str]]) -> list[Path]:
        return [self._lab.make_terminal(domain, user) for domain, user in names]

    def _make_agents(self, names: list[tuple[str, str]]) -> list[Path]:
        """Accounts, certificates and settings of user agents."""
        authority = Authority(self._lab.make_authority())
        directory = self._lab.folder / "directory"
        directory.mkdir()
        files = []
        for domain, user in names:
            credential = authority.issue_user(f"sip:{user}@{domain}")
            folder = self._lab.folder / domain
            paths = folder / f"{user}.crt", folder / f"{user}.secret"
            credential.write(*paths)
            (directory / f"{user}@{domain}.pem").write_bytes(credential.chain_pem())
            settings = {
                "user": user,
                "domain": domain,
                "password": "secret",
                "address": self._lab.next_address(),
                "neighbour": self._addresses[domain],
                "certificate": str(paths[0]),
                "key": str(paths[1]),
                "root": str(authority.root_path),
                "directory": str(directory),
            }
            files.append(folder / f"{user}.json")
            files[-1].write_text(json.dumps(settings))
        for domain in self._addresses:
            asyncio.run(self._add_accounts(domain, [user for at, user in names if at == domain]))
        return files

    async def _add_accounts(self, domain: str, users: list[str]) -> None:
        store = Store(load(self._lab.configuration(domain)).store_url)
        await store.open()
        for user in users:
            await add_account(store, domain, user, "secret", is_terminal=False)
            await set_account(store, user, assist="none")
        await store.close()

    # What is counted.

    def operations(self) -> dict[str, Counter[str]]:
        """Asymmetric operations so far, by place."""
        found = {TERMINALS: Counter[str](), NEIGHBOURS: Counter[str]()}
        for one in (*self.callers, *self.callees):
            if isinstance(one, UserAgentProcess):
                found[TERMINALS] += one.operations()
        for address in self._addresses.values():
            with urllib.request.urlopen(f"http://{address}:{_METRICS_PORT}/metrics", timeout=_WAIT_S) as answer:
                text = answer.read().decode()
            for name, value in _ASYMMETRIC.findall(text):
                if name in OPERATIONS:
                    found[NEIGHBOURS][name] += int(float(value))
        return found

    def cpu_s(self) -> dict[str, float]:
        """CPU seconds so far, by place."""
        places: dict[str, list[Process]] = {
            TERMINALS: [*self.callers, *self.callees],
            NEIGHBOURS: [*self._neighbours],
        }
        return {
            place: sum(cpu_seconds(Path(f"/proc/{one.pid}/stat")) for one in processes)
            for place, processes in places.items()
        }

    def idle(self) -> dict[str, float]:
        """CPU seconds in a second in which nothing happens, by place."""
        before = self.cpu_s()
        began = time.monotonic()
        time.sleep(_IDLE_S)
        after = self.cpu_s()
        return {place: (after[place] - before[place]) / (time.monotonic() - began) for place in after}

    def call_all(self) -> list[tuple[float, str]]:
        """All call all; nobody has two calls in a row, where there are others."""
        found = []
        for k in range(len(self.callees)):
            for i, caller in enumerate(self.callers):
                found.append(self.call(caller, self.callees[(i + k) % len(self.callees)]))
                time.sleep(_PAUSE_S)
        return found

    def call(self, caller: _User, callee: _User) -> tuple[float, str]:
        """One call; returns the caller's set-up delay in seconds, and who vouched for the callee."""
        for one in (caller, callee):
            one.read()
        marks = len(caller.lines), len(callee.lines)
        caller.send(f"call {callee.aor}")
        callee.wait_until(lambda: _rings(caller, callee, marks), f"a call of {caller.name}", _WAIT_S)
        callee.send("answer")
        connected = caller.wait_for("connected", _WAIT_S, since=marks[0])
        callee.wait_for("connected", _WAIT_S, since=marks[1])
        caller.send("hangup")
        for one, mark in ((caller, marks[0]), (callee, marks[1])):
            one.wait_for("ended", _WAIT_S, since=mark)
        return connected["setup_ms"] / 1000, connected.get("by") or ""


def _rings(caller: _User, callee: _User, marks: tuple[int, int]) -> bool:
    """Whether a call has come.

    Raises:
        LabError: it has failed.
    """
    caller.read()
    for line in caller.lines[marks[0] :]:
        if line["event"] in {"failed", "refused", "error"}:
            raise LabError(f"{caller.name} can't call {callee.name}: {json.dumps(line)}")
    return any(line["event"] == "incoming" for line in callee.lines[marks[1] :])


@contextmanager
def _lab(model: str) -> Iterator[Lab]:
    """An empty lab."""
    with tempfile.TemporaryDirectory(prefix="wisp-evaluate-") as name:
        folder = Path(name)
        if model == END_TO_END:
            with Lab(folder / "lab") as lab:
                yield lab
            return
        image, rom = folder / "image", folder / "image.romfs"
        build(image)
        build_rom(image, rom)
        with Lab(folder / "lab", find(), str(rom)) as lab:
            yield lab


def measure(model: str, m: int, n: int, rounds: int = 2) -> list[Round]:
    """Let m users in one domain call n in the other, each each, and all of it again.

    Args:
        model: `END_TO_END` or `HYBRID`.
        m: how many call.
        n: how many are called.
        rounds: how often.

    Raises:
        LabError: a call did not go well.
        UnavailableError: there is no MicroPython.
    """
    if model not in {END_TO_END, HYBRID}:
        raise ValueError(model)
    found = []
    with _lab(model) as lab:
        world = _World(lab, model, m, n)
        idle = world.idle()
        for _ in range(rounds):
            operations, cpu_s, began = world.operations(), world.cpu_s(), time.monotonic()
            calls = world.call_all()
            took_s, after = time.monotonic() - began, world.cpu_s()
            counted = world.operations()
            found.append(
                Round(
                    pairs=len(calls),
                    operations={place: counted[place] - operations[place] for place in counted},
                    cpu_s={place: max(0.0, after[place] - cpu_s[place] - idle[place] * took_s) for place in after},
                    setups_s=[setup_s for setup_s, _ in calls],
                    by=Counter(by for _, by in calls),
                )
            )
    return found
