"""The proxy's figures beside those of others: CPU time of calls and registrations, and the calls a second it bears.

sipp is at both ends, on the same machine: where there are two cores, all three share them. So its own share is told,
and CPU time is what is compared.
"""

import resource
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from benchmarks.proxies import CALLEE, DOMAIN, PASSWORD, Proxy, cpu_seconds, start_proxies
from benchmarks.report import Cell, at_most, median, show
from lab.lab import Lab
from lab.processes import LabError
from lab.sipp import SIP_PORT, Sipp

__all__ = ["highest_rate", "run"]

_XML = Path(__file__).parent / "sipp"
_USERS = 500
_RATES = (100, 500)
_OURS = "Wisp"
_PLAIN, _DIGEST = "trusted", "caller"
_NAMES = {_PLAIN: "plain", _DIGEST: "with digest"}
_GOALS = {("Kamailio", _PLAIN, 500): 4.0, ("sippy", _PLAIN, 100): 1 / 8}  # of what those use, at most
_MOST_PER_S = 6400  # sipp itself bears about so much
_SLACK = 1.1  # so much longer than wanted a run at the highest rate may take
_LATE_S = 1.0  # and a call takes its time, too
_END_S = 60.0  # for calls that are repeated, before they count as lost
_SETTLE_S = 40.0  # longer than any transaction
_IDLE = 0.03  # of a core


class _LostError(Exception):
    """A load was more than the proxy bears."""


@dataclass(frozen=True)
class _Measured:
    """What a load cost.

    Attributes:
        used_s: CPU seconds of the proxy.
        sipp_s: CPU seconds of sipp, at both ends.
        elapsed_s: how long it took.
    """

    used_s: float
    sipp_s: float
    elapsed_s: float


class _Bench:
    """Puts loads on proxies.

    Args:
        lab: a lab.
        run_s: how long a load at a fixed rate lasts.
        repeats: how often each is repeated.
    """

    def __init__(self, lab: Lab, run_s: float, repeats: int) -> None:
        self._lab = lab
        self._run_s = run_s
        self._repeats = repeats
        # Who calls without a password calls from an address of its own.
        self._addresses = {_PLAIN: lab.next_address(), _DIGEST: lab.next_address(), "register": lab.next_address()}
        self._users = [f"u{number}" for number in range(_USERS)]
        self.proxies = start_proxies(lab, self._addresses[_PLAIN], self._users)
        self._answering = {proxy.name: self._answer(proxy) for proxy in self.proxies}
        self._runs = 0

    def _sipp(self, scenario: str, address: str, proxy: Proxy, *more: str) -> Sipp:
        # The digest-uri is the Request-URI; sipp's own idea is the proxy's address, which is refused.
        uri = DOMAIN if scenario == "register" else f"{CALLEE}@{DOMAIN}"
        arguments = [f"{proxy.address}:{SIP_PORT}", "-auth_uri", uri, *more]
        output = self._lab.folder / f"{scenario}-{address}.log"
        output.unlink(missing_ok=True)
        return self._lab.start(Sipp, _XML / f"{scenario}.xml", output, address, arguments)

    def _answer(self, proxy: Proxy) -> Sipp:
        """Have the callee there, for as long as it takes."""
        if proxy.has_registrar:
            path = self._users_file(f"{proxy.name}-callee", [CALLEE], proxy.callee)
            self._sipp("register", proxy.callee, proxy, "-m", "1", "-inf", path).finish(_END_S)
        answering = self._sipp("callee", proxy.callee, proxy)
        answering.wait_bound()
        return answering

    def _users_file(self, name: str, users: list[str], address: str) -> str:
        path = self._lab.folder / f"{name}.csv"
        lines = [f"{one};{address}:{SIP_PORT};[authentication username={one} password={PASSWORD}]\n" for one in users]
        path.write_text("SEQUENTIAL\n" + "".join(lines))
        return str(path)

    def _measure(self, proxy: Proxy, load: Callable[[], float]) -> _Measured:
        callee = Path(f"/proc/{self._answering[proxy.name].pid}/stat")
        before, answered, called = proxy.cpu_seconds(), cpu_seconds(callee), _of_children()
        try:
            elapsed = load()
        except LabError as error:
            raise _LostError(str(error)) from None
        used = proxy.cpu_seconds() - before
        return _Measured(used, cpu_seconds(callee) - answered + _of_children() - called, elapsed)

    def calls(self, proxy: Proxy, scenario: str, rate: int) -> _Measured:
        """Calls at a fixed rate.

        Raises:
            _LostError: not all of them went well.
        """
        count = round(rate * self._run_s)

        def load() -> float:
            command = ("-m", str(count), "-r", str(rate), "-l", str(count))
            return self._sipp(scenario, self._addresses[scenario], proxy, *command).finish(self._run_s + _END_S)

        return self._measure(proxy, load)

    def per_call(self, proxy: Proxy, scenario: str, rate: int) -> tuple[float, float] | None:
        """CPU seconds of proxy and sipp per 1,000 calls; None where calls were lost."""
        try:
            measured = self.calls(proxy, scenario, rate)
        except _LostError:
            _settle(proxy)
            return None
        calls = round(rate * self._run_s)
        return measured.used_s / calls * 1000, measured.sipp_s / calls * 1000

    def per_registration(self, proxy: Proxy) -> tuple[float, float]:
        """CPU seconds per 1,000 registrations, and registrations a second, with at most 50 under way."""
        address = self._addresses["register"]
        path = self._users_file("users", self._users, address)
        count = round(300 * self._run_s)
        pace = ("-m", str(count), "-r", "20000", "-rp", "1000", "-l", "50", "-inf", path)
        measured = self._measure(proxy, lambda: self._sipp("register", address, proxy, *pace).finish(_END_S))
        return measured.used_s / count * 1000, count / measured.elapsed_s

    def highest(self, proxy: Proxy, scenario: str, steps: int) -> tuple[int, _Measured | None]:
        """The highest rate at which no call is lost, and what that costs; see `highest_rate` for the steps."""
        costs: dict[int, _Measured] = {}

        def holds(rate: int) -> bool:
            try:
                cost = self.calls(proxy, scenario, rate)
            except _LostError:
                cost = None
            # Where answers wait, sipp does.
            if cost is None or cost.elapsed_s > self._run_s * _SLACK + _LATE_S:
                _settle(proxy)
                return False
            costs[rate] = cost
            return True

        rate = highest_rate(holds, _RATES[0], _MOST_PER_S, steps)
        return rate, costs.get(rate)


def highest_rate(holds: Callable[[int], bool], start: int, most: int, steps: int) -> int:
    """The highest rate that holds: doubled until one does not, and then what is between is halved; 0 for none.

    Args:
        holds: whether a rate does.
        start: the first to try.
        most: where to stop doubling.
        steps: how often to halve.
    """
    best, rate = 0, start
    while holds(rate):
        best = rate
        if rate >= most:
            return best
        rate *= 2
    worst = rate
    for _ in range(steps):
        rate = (best + worst) // 2
        if holds(rate):
            best = rate
        else:
            worst = rate
    return best


def _settle(proxy: Proxy) -> None:
    """Wait until nothing of a load is left to be done."""
    end = time.monotonic() + _SETTLE_S
    while time.monotonic() < end:
        before = proxy.cpu_seconds()
        time.sleep(1)
        if proxy.cpu_seconds() - before < _IDLE:
            return


def _of_children() -> float:
    """CPU seconds of processes of ours that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _medians(name: str, values: list[tuple[float, float] | None]) -> tuple[float, float] | None:
    """The median of each of the two; None where a run of ours was lost, or all of somebody else's."""
    good = [value for value in values if value is not None]
    if not good or (name == _OURS and len(good) < len(values)):
        return None
    return median([value[0] for value in good]), median([value[1] for value in good])


def _cells(measured: dict[str, tuple[float, float] | None], goals: dict[str, float]) -> list[Cell | str]:
    """Wisp's figure, and each other's with how many times that Wisp needs."""
    mine = measured[_OURS]
    cells: list[Cell | str] = [f"{mine[0]:.3g}" if mine else Cell("calls lost", is_over=True)]
    for name in ("Kamailio", "sippy"):
        other = measured.get(name)
        if name not in measured:
            cells += ["", ""]
        elif other is None:
            cells += ["calls lost", ""]
        elif mine is None or not other[0]:
            cells += [f"{other[0]:.3g}", ""]
        else:
            times = mine[0] / other[0]
            cells += [f"{other[0]:.3g}", at_most(times, goals[name], "{:.2g}") if name in goals else f"{times:.2g}"]
    return cells


def _show_costs(console: Console, bench: _Bench, repeats: int) -> None:
    """CPU seconds of calls and registrations."""
    rows: list[list[Cell | str]] = []
    for scenario in (_PLAIN, _DIGEST):
        for rate in _RATES:
            # sippy is full long before 500; and it gives no challenges.
            some = [one for one in bench.proxies if one.has_registrar or (scenario, rate) == (_PLAIN, _RATES[0])]
            values: dict[str, list[tuple[float, float] | None]] = {one.name: [] for one in some}
            for _ in range(repeats):
                for one in some:
                    values[one.name].append(bench.per_call(one, scenario, rate))
            found = {name: _medians(name, value) for name, value in values.items()}
            goals = {name: goal for (name, *what), goal in _GOALS.items() if what == [scenario, rate]}
            mine = found[_OURS]
            cells = [*_cells(found, goals), f"{mine[1]:.2g}" if mine else ""]
            rows.append([f"1,000 calls {_NAMES[scenario]}, {rate} a second", *cells])
    registrars = [one for one in bench.proxies if one.has_registrar]
    registered: dict[str, list[tuple[float, float] | None]] = {one.name: [] for one in registrars}
    for _ in range(repeats):
        for one in registrars:
            registered[one.name].append(bench.per_registration(one))
    medians = {name: _medians(name, value) for name, value in registered.items()}
    rows.append(["1,000 registrations with digest", *_cells(medians, {}), ""])
    per_second = {name: (value[1], 0.0) if value else None for name, value in medians.items()}
    rows.append(["registrations a second", *_cells(per_second, {}), ""])
    columns = ["CPU seconds for", "Wisp", "Kamailio", "Wisp/it", "sippy", "Wisp/it", "sipp"]
    times = f"medians of {repeats}" if repeats > 1 else "one run"
    show(console, f"Proxy (UDP, one process; MD5; sipp at both ends, on the same cores; {times})", columns, rows)


def _show_highest(console: Console, bench: _Bench, steps: int) -> None:
    """What each bears."""
    rows: list[list[Cell | str]] = []
    for scenario in (_PLAIN, _DIGEST):
        for one in bench.proxies:
            if scenario == _DIGEST and not one.has_registrar:
                continue
            rate, cost = bench.highest(one, scenario, steps)
            row: list[Cell | str] = [f"{one.name}, {_NAMES[scenario]}", f"{rate} a second"]
            if cost is not None:
                row += [f"{cost.used_s / cost.elapsed_s:.0%}", f"{cost.sipp_s / cost.elapsed_s:.0%}"]
            rows.append(row)
    # Where the two shares come near to all cores, it is the machine that is full.
    show(console, "The highest rate without a lost call", ["", "rate", "of a core", "sipp, of a core"], rows)


def run(console: Console, run_s: float, repeats: int, steps: int) -> None:
    """Measure Wisp and, where they are installed, Kamailio and sippy.

    Args:
        console: where to.
        run_s: how long a load lasts.
        repeats: how often each is repeated.
        steps: see `highest_rate`; without any, that is not looked for.
    """
    if shutil.which("sipp") is None:
        console.print("  the proxy's figures need sipp (Debian: sip-tester)", style="yellow", markup=False)
        return
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name, Lab(Path(name)) as lab:
        bench = _Bench(lab, run_s, repeats)
        for one in bench.proxies:
            bench.per_call(one, _PLAIN, 50)  # what is done once is done
        _show_costs(console, bench, repeats)
        if steps:
            _show_highest(console, bench, steps)
