"""Setup keys: what a call by one costs both terminals and their neighbours, beside a call that is only passed on.

    caller ==hop==> a.example --TLS--> b.example ==hop==> callee

Three pairs of neighbours stand beside each other: where nothing is promised and the security agent has nothing to do,
at medium, and at heavy. The terminals are emulated ones with the linked image. Calls of all kinds take turns, so that
whatever else the machine does hits them alike.

Then each step of the terminals' part alone, timed in the interpreter (`steps_on_device`), and their heap.
"""

import ctypes
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.proxies import lift_limits
from benchmarks.report import Cell, at_most, interpreter, median, show
from lab.lab import Lab
from lab.processes import LabError, Neighbour, Terminal
from neighbour.device.image import build, build_rom

__all__ = ["run"]

_A, _B = "a.example", "b.example"
_PLAIN, _MEDIUM, _HEAVY = "plain", "medium", "heavy"
_LEVELS = {_PLAIN: "none", _MEDIUM: "medium", _HEAVY: "heavy"}
_VERY_FIRST, _FIRST, _SETUP, _SETUP_PLAIN = "very first", "first", "setup", "setup plain"
_TEXTS = {
    _PLAIN: "plain proxied call",
    _MEDIUM: "medium call",
    _VERY_FIRST: "first heavy call, at start",
    _FIRST: "first heavy call, warm",
    _HEAVY: "heavy call, no setup key",
    _SETUP: "setup-key call",
    _SETUP_PLAIN: "setup-key call, no level",
}
# Who tells a terminal who the other side is.
_BY = dict.fromkeys(_TEXTS, "neighbour heavy") | dict.fromkeys((_PLAIN, _MEDIUM), "neighbour medium")
_BY |= dict.fromkeys((_SETUP, _SETUP_PLAIN), "setup-key")
_RATIO = 1.10  # CPU of the neighbours, times that of a plain call
_ADDED_MS = 2.0  # of a terminal's interpreter, per call
_ADDED_BYTES = 2048
_WARM = 5  # calls of each kind before it counts
_POLL_S = 0.001
_PATIENCE_S = 30.0
_SETTLE_S = 0.1  # what follows a call: the last answers, and their writing down
_TALK_S = 0.3  # of a call whose heap is looked at
_USES = 60_000  # of a setup key: no chain of keys ends within a run
_HEAP_KIB, _PROBE_KIB = 112, 16  # what tells of the steps has some heap of its own
_NO_KEYS = {"life_s": 0}
_CALL = "terminal.demand.call"
_MILLION = 1e6


@dataclass(frozen=True)
class _Cost:
    """What one call took, in milliseconds.

    Attributes:
        ringing_ms: from dialling to 180.
        connected_ms: from dialling until the caller can talk; it is answered at the 180.
        caller_ms: CPU of the caller's terminal.
        callee_ms: likewise.
        neighbours_ms: CPU of both neighbours.
    """

    ringing_ms: float
    connected_ms: float
    caller_ms: float
    callee_ms: float
    neighbours_ms: float


@dataclass
class _Step:
    """Something that is loaded on demand, in microseconds of each time."""

    load: list[float] = field(default_factory=list)
    work: list[float] = field(default_factory=list)
    files: list[float] = field(default_factory=list)
    collect: list[float] = field(default_factory=list)


class _Pair:
    """Two terminals that are registered with neighbours that run.

    Args:
        lab: of the neighbours.
        neighbours: both of them.
        name: what the terminals' names begin with.
        code: their image, or a ROM image.
        is_keyed: whether they keep setup keys.
        more_kib: heap that they have beyond the usual.
    """

    def __init__(
        self, lab: Lab, neighbours: list[Neighbour], name: str, code: Path, *, is_keyed: bool, more_kib: int = 0
    ) -> None:
        self.is_keyed = is_keyed
        lab.code = str(code)
        heap_kib = lab.heap_kib + more_kib
        # A first key of neighbours that promise less is good enough here.
        settings = {"uses": _USES, "level": "medium"} if is_keyed else _NO_KEYS
        files = [lab.make_terminal(domain, f"{name}{domain[0]}", setup=settings) for domain in (_A, _B)]
        self.caller, self.callee = self.terminals = [lab.start_terminal(path, heap_kib) for path in files]
        for one in self.terminals:
            one.wait_for("registered")
        self._clocks = [_clock_of(one.pid) for one in (*self.terminals, *neighbours)]

    def call(self, by: str, during: Callable[[], None] | None = None) -> _Cost:
        """Call, be answered, and let the caller hang up.

        Args:
            by: who has to tell each who the other is, see `terminal.trust`.
            during: done while they talk.

        Raises:
            LabError: it was another call than it should have been.
        """
        caller, callee = self.terminals
        marks = self.marks()
        cpu = self._cpu_ms()
        begun = time.perf_counter()
        caller.send(f"call {callee.aor}")
        ringing = self._seen(caller, "progress", marks[0])
        callee.send("answer")
        connected = self._seen(caller, "connected", marks[0])
        self._seen(callee, "connected", marks[1])
        if during:
            during()
        caller.send("hangup")
        for one, mark in zip(self.terminals, marks, strict=True):
            self._seen(one, "key" if self.is_keyed else "ended", mark)
        self._seen(callee, "ended", marks[1])
        time.sleep(_SETTLE_S)
        used = [after - before for before, after in zip(cpu, self._cpu_ms(), strict=True)]
        self._check(by, marks)
        return _Cost((ringing - begun) * 1000, (connected - begun) * 1000, used[0], used[1], used[2] + used[3])

    def forget(self) -> None:
        """Let both forget their keys, and what the next call makes be as the first."""
        marks = self.marks()
        self.caller.send(f"forget {self.callee.aor}")
        for one, mark in zip(self.terminals, marks, strict=True):
            one.wait_for("forgotten", since=mark)
        self.caller.wait_for("sent", since=marks[0])
        time.sleep(_SETTLE_S)

    def _check(self, by: str, marks: list[int]) -> None:
        for one, mark in zip(self.terminals, marks, strict=True):
            said = one.lines[mark:]
            told = next(line.get("by") for line in said if line["event"] == "connected")
            if told != by:
                raise LabError(f"{one.name}: a call by {told}, not by {by}\n{one.last_words()}")
            if any(line["event"] == "starved" for line in said):
                raise LabError(f"{one.name}: ran out of memory for a message")

    def marks(self) -> list[int]:
        """How many lines each has said by now."""
        for one in self.terminals:
            one.read()
        return [len(one.lines) for one in self.terminals]

    def _cpu_ms(self) -> list[float]:
        return [time.clock_gettime_ns(clock) / _MILLION for clock in self._clocks]

    @staticmethod
    def _seen(one: Terminal, event: str, mark: int) -> float:
        """Wait until it says an event, with a better look at the clock than `wait_for` has; returns when."""
        end = time.perf_counter() + _PATIENCE_S
        while True:
            one.read()
            now = time.perf_counter()
            if any(line["event"] == event for line in one.lines[mark:]):
                return now
            if now > end or not one.is_running:
                raise LabError(f"{one.name}: not within {_PATIENCE_S:g} s: {event}\n{one.last_words()}")
            time.sleep(_POLL_S)


def _clock_of(pid: int) -> int:
    """The clock that counts the CPU time of a process, all its threads together and to the nanosecond."""
    clock = ctypes.c_int()
    failed = ctypes.CDLL(None).clock_getcpuclockid(pid, ctypes.byref(clock))
    if failed:
        raise LabError(f"process {pid}: its CPU time can't be read (error {failed})")
    return clock.value


def _start(lab: Lab, level: str) -> list[Neighbour]:
    """Start both neighbours, where every call has to reach that level."""
    for domain in lab.make_domains(_A, _B):
        lab.change(domain, 'level = "debug"', 'level = "info"')
        lab.change(domain, '# level = "medium"', f'level = "{level}"')
        lift_limits(lab, domain)
    return [lab.start_neighbour(domain) for domain in (_A, _B)]


def _very_first(folder: Path, micropython: str, code: Path) -> _Cost:
    """The first call of all: no trunk is open, no certificate made, nobody's known."""
    try:
        with Lab(folder, micropython) as lab:
            return _Pair(lab, _start(lab, _LEVELS[_HEAVY]), "first", code, is_keyed=True).call(_BY[_VERY_FIRST])
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _Bench:
    """Three pairs of neighbours, with terminals.

    Args:
        folder: for all of it.
        micropython: the interpreter.
        stack: ends what is started.
    """

    def __init__(self, folder: Path, micropython: str, stack: ExitStack) -> None:
        self._folder, self._micropython = folder, micropython
        self._image = folder / "image"
        self._rom = folder / "image.romfs"
        build(self._image)
        build_rom(self._image, self._rom)
        self._labs = {name: stack.enter_context(Lab(folder / name, micropython)) for name in _LEVELS}
        self.heap_kib = self._labs[_HEAVY].heap_kib
        self._neighbours = {name: _start(lab, _LEVELS[name]) for name, lab in self._labs.items()}
        self._pairs = {name: self._pair(name, "bare", is_keyed=False) for name in _LEVELS}
        self._pairs[_SETUP] = self._pairs[_FIRST] = self._pair(_HEAVY, "keyed", is_keyed=True)
        self._pairs[_SETUP_PLAIN] = self._pair(_PLAIN, "keyed", is_keyed=True)

    def _pair(self, where: str, name: str, *, is_keyed: bool) -> _Pair:
        return _Pair(self._labs[where], self._neighbours[where], name, self._rom, is_keyed=is_keyed)

    def _watched(self, name: str, code: Path, *, is_keyed: bool) -> _Pair:
        """A pair at heavy that tells of its steps."""
        more_kib = _PROBE_KIB * self.heap_kib // _HEAP_KIB
        lab, neighbours = self._labs[_HEAVY], self._neighbours[_HEAVY]
        return _Pair(lab, neighbours, f"{name}{is_keyed:d}", code, is_keyed=is_keyed, more_kib=more_kib)

    def costs(self, count: int, firsts: int) -> dict[str, list[_Cost]]:
        """Calls of all kinds in turn.

        Args:
            count: of each kind.
            firsts: of those after a start of the neighbours.
        """
        found: dict[str, list[_Cost]] = {kind: [] for kind in _TEXTS}
        kinds = list(self._pairs)
        for kind, first in ((_SETUP, _FIRST), (_SETUP_PLAIN, _PLAIN)):
            self._pairs[kind].call(_BY[first])
        for i in range(-_WARM, count):
            # Another one begins each time: no kind always follows the same.
            turn = i % len(kinds)
            for kind in kinds[turn:] + kinds[:turn]:
                if kind == _FIRST:
                    self._pairs[kind].forget()
                cost = self._pairs[kind].call(_BY[kind])
                if i >= 0:
                    found[kind].append(cost)
            if i >= 0 and i * firsts // count < (i + 1) * firsts // count:
                found[_VERY_FIRST].append(_very_first(self._folder / "fresh", self._micropython, self._rom))
        return found

    def steps(self, count: int) -> tuple[list[dict[str, _Step]], list[Counter[str]]]:
        """What each side of a setup-key call loads on demand, which no other call does.

        Returns:
            For caller and callee, by names; and how often that was in all calls together.
        """
        code = self._probed("timed", is_of_heap=False)
        pairs = [self._watched("timed", code, is_keyed=is_keyed) for is_keyed in (False, True)]
        pairs[1].call(_BY[_FIRST])
        found: list[dict[str, _Step]] = [{}, {}]
        others: set[str] = set()
        counts: list[Counter[str]] = [Counter(), Counter()]
        for i in range(-_WARM, count):
            for pair in pairs:
                marks = pair.marks()
                pair.call(_BY[_SETUP if pair.is_keyed else _HEAVY])
                for side, (one, mark) in enumerate(zip(pair.terminals, marks, strict=True)):
                    for line in _told(one, mark):
                        if not pair.is_keyed:
                            others.add(line["name"])
                        elif i >= 0:
                            step = found[side].setdefault(line["name"], _Step())
                            counts[side][line["name"]] += 1
                            for what in vars(step):
                                getattr(step, what).append(float(line[what]))
        own = [{name: one for name, one in side.items() if name not in others} for side in found]
        if not all(any(median(one.load) for one in side.values()) for side in own):
            raise LabError("no step of a setup-key call was seen to be loaded on demand; see steps_on_device.py")
        return own, counts

    def heaps(self, count: int) -> list[dict[str, list[float]]]:
        """Bytes of the terminals' heap, the medians of the calls.

        Returns:
            For calls without setup keys and with: of caller and callee what lived ``after`` a call, ``in`` it, and most
            of all where something was loaded, ``peak``.
        """
        code = self._probed("heap", is_of_heap=True)
        found = []
        for is_keyed in (False, True):
            pair = self._watched("heap", code, is_keyed=is_keyed)
            if is_keyed:
                pair.call(_BY[_FIRST])
            found.append(_heap_of(pair, _BY[_SETUP if is_keyed else _HEAVY], count))
        return found

    def _probed(self, name: str, *, is_of_heap: bool) -> Path:
        """An image that tells of its steps."""
        folder = self._folder / name
        shutil.copytree(self._image, folder)
        legend = self._image.with_name(f"{self._image.name}.names").read_text(encoding="utf-8").splitlines()
        known = next((new for new, old in (line.split(" ") for line in legend) if old == _CALL), None)
        if known is None:
            raise LabError(f"the image has no {_CALL}: its steps can't be told apart; see steps_on_device.py")
        part, _, short = known.rpartition(".")
        main = folder / "terminal" / "__main__.mpy"
        main.unlink()
        main.with_suffix(".py").write_text(f"from steps import run\nrun({part!r}, {short!r}, {is_of_heap})\n")
        shutil.copy(Path(__file__).with_name("steps_on_device.py"), folder / "steps.py")
        return folder


def _heap_of(pair: _Pair, by: str, count: int) -> dict[str, list[float]]:
    """What lives in the heaps of two terminals, see `_Bench.heaps`."""
    seen: dict[str, list[list[float]]] = {what: [[], []] for what in ("after", "in", "peak")}

    def look(what: str, wait_s: float = 0.0) -> None:
        time.sleep(wait_s)
        for values, one in zip(seen[what], pair.terminals, strict=True):
            values.append(one.status()["heap_used"])

    for _ in range(count):
        marks = pair.marks()
        pair.call(by, lambda: look("in", _TALK_S))
        for values, one, mark in zip(seen["peak"], pair.terminals, marks, strict=True):
            values.append(max(line["live"] for line in _told(one, mark)))
        look("after")
    return {what: [median(values) for values in sides] for what, sides in seen.items()}


def _told(one: Terminal, mark: int) -> list[dict[str, Any]]:
    """What it has told of its steps since."""
    one.read()
    return [line for line in one.lines[mark:] if line["event"] == "step"]


def _medians(costs: list[_Cost]) -> _Cost:
    return _Cost(*(median([getattr(one, name) for one in costs]) for name in vars(costs[0])))


def _show_calls(console: Console, costs: dict[str, list[_Cost]]) -> None:
    plain = _medians(costs[_PLAIN]).neighbours_ms
    rows: list[list[Cell | str]] = []
    for kind, text in _TEXTS.items():
        one = _medians(costs[kind])
        times = one.neighbours_ms / plain
        is_goal = kind in {_SETUP, _SETUP_PLAIN}
        rows.append(
            [
                text,
                f"{one.ringing_ms:.0f} ms",
                f"{one.connected_ms:.0f} ms",
                f"{one.caller_ms:.1f} ms",
                f"{one.callee_ms:.1f} ms",
                f"{one.neighbours_ms:.2f} ms",
                at_most(times, _RATIO, "{:.2f}") if is_goal else f"{times:.2f}",
                f"{_RATIO:.2f}" if is_goal else "",
            ]
        )
    count, firsts = len(costs[_PLAIN]), len(costs[_VERY_FIRST])
    show(
        console,
        f"Calls between two domains: from dialling on, and CPU (medians of {count} in turn; of {firsts} after a start)",
        ["", "to 180", "to talk", "caller", "callee", "neighbours", "ratio", "at most"],
        rows,
    )
    spread = sorted(one.neighbours_ms for one in costs[_PLAIN])
    quarters = statistics.quantiles(spread, n=4) if len(spread) > 1 else [spread[0]] * 3
    for line in (
        "plain: no level is asked for, so nothing is signed, encrypted or promised; the trunk is mutual TLS all the",
        "same. Medium signs nothing either: it has the same work, and a look at what protects each way.",
        f"Half of the plain calls took the neighbours {quarters[0]:.2f} to {quarters[2]:.2f} ms: no ratio is sharper.",
        "The last row: by the neighbours of the plain calls, so that its ratio is of the same two processes.",
        "A first heavy call is signed, encrypted, decrypted and verified like each without setup keys, and makes a key",
        "at its end. The callee answers at the 180; what a terminal says is looked at every millisecond.",
    ):
        console.print(f"  {line}", markup=False)
    console.print()


def _show_terminals(
    console: Console, costs: dict[str, list[_Cost]], heaps: list[dict[str, list[float]]], about: str
) -> None:
    plain, setup = _medians(costs[_PLAIN]), _medians(costs[_SETUP])
    pairs = [(plain.caller_ms, setup.caller_ms), (plain.callee_ms, setup.callee_ms)]
    rows: list[list[Cell | str]] = [
        [
            f"CPU of the {side}",
            f"{bare:.1f} ms",
            f"{keyed:.1f} ms",
            at_most(keyed - bare, _ADDED_MS, "{:.1f} ms"),
            f"{_ADDED_MS:g} ms",
        ]
        for side, (bare, keyed) in zip(("caller", "callee"), pairs, strict=True)
    ]
    for what, text in (("after", "heap after a call"), ("in", "heap in a call"), ("peak", "heap, code for it loaded")):
        for i, side in enumerate(("caller", "callee")):
            bare, keyed = heaps[0][what][i], heaps[1][what][i]
            rows.append(
                [
                    f"{text}, {side}",
                    f"{bare:.0f} B",
                    f"{keyed:.0f} B",
                    at_most(keyed - bare, _ADDED_BYTES, "{:.0f} B"),
                    f"{_ADDED_BYTES} B",
                ]
            )
    show(console, f"A terminal's part in a setup-key call ({about})", ["", "without", "with", "more", "at most"], rows)
    for line in (
        "CPU beside a plain call, heap beside a heavy one: what lives when its garbage is collected. The last two are",
        "the most of a call: when one of the modules of the moment is loaded, which all calls have, each of its own.",
    ):
        console.print(f"  {line}", markup=False)
    console.print()


def _show_steps(
    console: Console, steps: list[dict[str, _Step]], counts: list[Counter[str]], calls: int, about: str
) -> None:
    rows: list[list[Cell | str]] = []
    for side, found, often in zip(("caller", "callee"), steps, counts, strict=True):
        sums = dict.fromkeys(("load", "work", "files", "collect"), 0.0)
        for name, step in found.items():
            times = often[name] / calls
            each = {what: median(getattr(step, what)) for what in sums}
            for what, value in each.items():
                sums[what] += value * times
            rows.append(_step_row(f"{side}: {name}", f"{times:g}", each))
        rows.append(_step_row(f"{side}: all of it", "", sums))
    show(
        console,
        f"Its steps, in microseconds that pass ({about}; medians of {calls} calls)",
        ["", "a call", "load", "work", "of it files", "collect", "all"],
        rows,
    )
    for line in (
        "load: the module's code into the heap, where it is not frozen. collect: its garbage afterwards; it costs as",
        "much within load and work, whenever some KB have been allocated, and that is most of both. Of files: to open",
        "them, which waits for the disk where one is written over, and takes little CPU.",
    ):
        console.print(f"  {line}", markup=False)
    console.print()


def _step_row(name: str, times: str, each: dict[str, float]) -> list[Cell | str]:
    everything = each["load"] + each["work"] + each["collect"]
    figures = (each["load"], each["work"], each["files"], each["collect"], everything)
    return [name, times, *(f"{one:.0f}" for one in figures)]


def run(console: Console, count: int, firsts: int, looks: int) -> None:
    """Print what calls of all kinds cost, and what a setup-key call asks of a terminal.

    Args:
        console: where to print.
        count: calls of each kind.
        firsts: of those after a start of both neighbours.
        looks: calls for the steps, and for the heap.

    Raises:
        LabError: a call did not go as it should.
    """
    micropython, bits = interpreter(console)
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name, ExitStack() as stack:
        bench = _Bench(Path(name), micropython, stack)
        costs = bench.costs(count, firsts)
        steps, counts = bench.steps(looks)
        heaps = bench.heaps(looks)
        about = f"{bits}-bit MicroPython, {bench.heap_kib} KiB of heap with the code in flash"
        more = f"{bits}-bit MicroPython, {_PROBE_KIB * bench.heap_kib // _HEAP_KIB} KiB more of heap to tell of them"
    _show_calls(console, costs)
    _show_terminals(console, costs, heaps, about)
    _show_steps(console, steps, counts, looks, more)
