"""Media: what the neighbour's relay costs, beside its cryptography alone and beside rtpengine.

    parties of all calls (a process) --50 packets/s, each--> relay (a process) --> parties

Every packet is counted at its end, and those of some calls are opened and compared. CPU is that of the relay's process,
system time included; ours and rtpengine take turns, so that whatever else the machine does hits both alike.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pylibsrtp import Policy, Session
from rich.console import Console

from benchmarks.media_load import PROFILES, rtp
from benchmarks.report import Cell, at_most, median, ratio, show
from benchmarks.rtpengine import Rtpengine, is_there
from lab.processes import LabError

__all__ = ["relay"]

_CM, _CM_SHORT, _GCM = "AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32", "AEAD_AES_128_GCM"
_KEY_BYTES = {_CM: 30, _CM_SHORT: 30, _GCM: 28}
_PATIENCE_S = 60.0
_PACKETS_PER_S = 100  # of a call: 50 each way
_WANTED_CALLS = 500
_PROBE_S = 0.005
_FLOOR_PACKETS = 20_000


@dataclass(frozen=True)
class _Kind:
    """What a relay does with media.

    Attributes:
        text: for the table.
        suites: of the offerer's party and the answerer's; None for plain RTP.
        same_keys: whether what one party sends is sent to the other as it is.
        unread: whether the relay does not know the keys.
    """

    text: str
    suites: "tuple[str | None, str | None]"
    same_keys: bool = False
    unread: bool = False


_UNREAD = _Kind("SRTP of unknown keys", (_CM, _CM), same_keys=True, unread=True)
_PASSED = _Kind("SRTP passed through", (_CM, _CM), same_keys=True)
_CM_CM = _Kind("AES-CM _80 to AES-CM _32", (_CM, _CM_SHORT))
_GCM_CM = _Kind("AES-GCM to AES-CM _80", (_GCM, _CM))
_PLAIN = _Kind("AES-CM _80 to plain RTP", (_CM, None))
_KINDS = (_UNREAD, _PASSED, _CM_CM, _GCM_CM, _PLAIN)


@dataclass(frozen=True)
class _Run:
    """One run.

    Attributes:
        packets: that came out of the relay.
        lost: that did not.
        cpu_s: of the relay's process.
        kept_off: for how much of the time it could have run, and others did.
        seconds: how long it was.
        waits_ms: how long datagrams took beside it through the same event loop, each.
        late_ms: how much too late the parties sent at worst.
    """

    packets: int
    lost: int
    cpu_s: float
    kept_off: float
    seconds: float
    waits_ms: list[float]
    late_ms: float

    @property
    def per_cpu_s(self) -> float:
        return self.packets / self.cpu_s

    def call_ms(self, calls: int) -> float:
        """CPU of one call in a second."""
        return self.cpu_s / self.seconds / calls * 1000


class _Child:
    """A process of ours that reads and says JSON lines."""

    def __init__(self, module: str, errors: Path) -> None:
        tools = Path(__file__).resolve().parent.parent
        paths = [str(tools), str(tools.parent / "host"), str(tools.parent / "shared")]
        self._errors = errors
        with errors.open("wb") as told:
            self._process = subprocess.Popen(
                [sys.executable, "-m", module],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=told,
                text=True,
                env={**os.environ, "PYTHONPATH": os.pathsep.join([*paths, os.environ.get("PYTHONPATH", "")])},
            )
        self.pid = self._process.pid

    def __enter__(self) -> "_Child":
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def tell(self, value: Any = "") -> None:
        """Write a line."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(value) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        """Read a line."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            self._process.wait(5)
            raise LabError(f"the media benchmark has ended: {self._errors.read_text()[-1500:]}")
        said = json.loads(line)
        assert isinstance(said, dict)
        return said


def _cpu_s(pid: int) -> tuple[float, float]:
    """Seconds that all threads of a process have used a CPU, and waited for one; ended threads left out."""
    tasks = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/schedstat")]
    return sum(int(task[0]) for task in tasks) / 1e9, sum(int(task[1]) for task in tasks) / 1e9


def _calls(kind: _Kind, addresses: list[list[list[Any]]], count: int) -> list[dict[str, Any]]:
    """So many calls: where their parties are, what these send with, and what they get."""
    calls = []
    for at in range(count):
        sends = [[suite, os.urandom(_KEY_BYTES[suite]).hex()] if suite else None for suite in kind.suites]
        gets = sends[::-1]
        if not kind.same_keys:
            gets = [[suite, os.urandom(_KEY_BYTES[suite]).hex()] if suite else None for suite in kind.suites]
        where = [of_side[at % len(of_side)] for of_side in addresses]
        calls.append({"addresses": where, "sends": sends, "gets": gets, "unread": kind.unread})
    return calls


class _Probe(threading.Thread):
    """Asks the relay's event loop something now and then, as SIP messages would."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self._is_over = threading.Event()
        self.waits_ms: list[float] = []

    def run(self) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", self._port))
            sock.settimeout(2)
            while not self._is_over.wait(_PROBE_S):
                begin = time.perf_counter()
                sock.send(b"?")
                sock.recv(16)
                self.waits_ms.append((time.perf_counter() - begin) * 1000)

    def stop(self) -> list[float]:
        self._is_over.set()
        self.join(5)
        return sorted(self.waits_ms)


def _exchange(load: _Child, pid: int, calls: list[dict[str, Any]], seconds: float, echo: int) -> _Run:
    """Let the parties of calls talk by way of a relay that knows them.

    Raises:
        LabError: what came out was not what went in.
    """
    load.tell({"calls": calls, "seconds": seconds})
    load.hear()
    probe = _Probe(echo) if echo else None
    if probe is not None:
        probe.start()
    before = _cpu_s(pid)
    load.tell()
    said = load.hear()
    used, waited = (now - then for now, then in zip(_cpu_s(pid), before, strict=True))
    waits_ms = probe.stop() if probe is not None else []
    if said["wrong"] or said["strange"] or said["twice"] or not said["compared"]:
        raise LabError(f"media came out otherwise than it went in: {said}")
    return _Run(
        said["sent"] - said["lost"], said["lost"], used, waited / said["took_s"], seconds, waits_ms, said["late_ms"]
    )


def _ours(kind: _Kind, count: int, seconds: float, folder: Path) -> _Run:
    """One run of our relay.

    Raises:
        LabError: see `_exchange`; also where the relay has dropped what it should not.
    """
    with _Child("benchmarks.media_load", folder / "load") as load, _Child("benchmarks.media_relay", folder / "r") as at:
        calls = _calls(kind, load.hear()["addresses"], count)
        echo = at.hear()["echo"]
        at.tell(calls)
        for call, ports in zip(calls, at.hear()["ports"], strict=True):
            call["ports"] = ports
        run = _exchange(load, at.pid, calls, seconds, echo)
        at.tell()
        counters = at.hear()
    refused = {name: times for name, times in counters.items() if name.startswith("dropped")}
    if refused:
        raise LabError(f"the relay has dropped packets: {refused}")
    return run


def _its(kind: _Kind, count: int, seconds: float, folder: Path) -> _Run:
    """One run of rtpengine."""
    with _Child("benchmarks.media_load", folder / "load") as load, Rtpengine(folder) as engine:
        calls = _calls(kind, load.hear()["addresses"], count)
        for at, call in enumerate(calls):
            lines = [(one[0], bytes.fromhex(one[1])) if one else None for one in call["sends"]]
            call["ports"], gets = engine.call(f"call-{at}", call["addresses"], lines)
            call["gets"] = [[one[0], one[1].hex()] if one else None for one in gets]
        return _exchange(load, engine.pid, calls, seconds, 0)


def _floor(kind: _Kind) -> float:
    """Packets per CPU second that pylibsrtp alone opens and seals, with one SSRC and nothing around it."""
    suites = kind.suites
    keys = [os.urandom(_KEY_BYTES[suite]) if suite else b"" for suite in suites]
    sealed = rtp_of = [rtp(number, 1) for number in range(_FLOOR_PACKETS)]
    party = _libsrtp(suites[0], keys[0], Policy.SSRC_ANY_OUTBOUND)
    opener = _libsrtp(suites[0], keys[0], Policy.SSRC_ANY_INBOUND)
    sealer = _libsrtp(suites[1], keys[1], Policy.SSRC_ANY_OUTBOUND) if suites[1] and not kind.same_keys else None
    sealed = [party.protect(one) for one in rtp_of]
    used = time.process_time()
    for one in sealed:
        plain = opener.unprotect(one)
        if sealer is not None:
            sealer.protect(plain)
    return _FLOOR_PACKETS / (time.process_time() - used)


def _libsrtp(suite: "str | None", key: bytes, ssrc_type: int) -> Session:
    assert suite is not None
    return Session(Policy(key, ssrc_type, srtp_profile=PROFILES[suite]))


def relay(console: Console, count: int, seconds: float, repeats: int) -> None:
    """Print what the host's relay costs.

    Args:
        console: where to print.
        count: calls at a time.
        seconds: of each run.
        repeats: runs of each kind.

    Raises:
        LabError: packets came out otherwise than they went in.
    """
    kinds = {kind: ([], [], []) for kind in _KINDS}  # type: dict[_Kind, tuple[list[_Run], list[_Run], list[float]]]
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name, ExitStack():
        folder = Path(name)
        for _ in range(repeats):
            for kind, (ours, its, floors) in kinds.items():
                ours.append(_ours(kind, count, seconds, folder))
                if not kind.unread:
                    floors.append(_floor(kind))
                    if is_there():
                        its.append(_its(kind, count, seconds, folder))
    _show(console, kinds, count, seconds, repeats)


def _show(
    console: Console,
    kinds: "dict[_Kind, tuple[list[_Run], list[_Run], list[float]]]",
    count: int,
    seconds: float,
    repeats: int,
) -> None:
    rows: list[list[Cell | str]] = []
    beside: list[list[Cell | str]] = []
    for kind, (ours, its, floors) in kinds.items():
        rate = median([run.per_cpu_s for run in ours])
        waits = sorted(wait for run in ours for wait in run.waits_ms)
        rows.append(
            [
                kind.text,
                f"{rate:,.0f}",
                f"{1e6 / rate:.1f} us",
                f"{median([run.call_ms(count) for run in ours]):.2f} ms",
                f"{median([run.cpu_s / run.seconds for run in ours]):.0%}",
                f"{median([run.kept_off for run in ours]):.0%}",
                f"{max(run.late_ms for run in ours):.0f} ms",
                at_most(sum(run.lost for run in ours), 0, "{:,.0f}"),
                f"{sum(run.packets + run.lost for run in ours):,}",
                f"{median(waits):.1f}/{waits[len(waits) * 99 // 100]:.1f}/{waits[-1]:.1f} ms",
            ]
        )
        if floors:
            floor = median(floors)
            row: list[Cell | str] = [kind.text, f"{rate:,.0f}", f"{floor:,.0f}", ratio(floor, rate)]
            if its:
                peer = median([run.per_cpu_s for run in its])
                row += [f"{peer:,.0f}", ratio(peer, rate), f"{sum(run.lost for run in its):,}"]
            beside.append(row)
    columns = ["", "packets/CPU s", "each", "a call's s", "of a core", "kept off", "late", "lost", "of", "others wait"]
    show(
        console,
        f"Relay of {count} calls, 50 packets a second each way ({repeats} runs of {seconds:g} s)",
        columns,
        rows,
    )
    for line in (
        "packets/CPU s: relayed by a second of the relay's CPU. a call's s: CPU of one call in a second, both ways.",
        "kept off: how long other processes had the core that it wanted. late: how much too late the parties sent at",
        "worst; where either is much, the machine had other things to do, and losses are its own.",
        "others wait: median, 99 % and the longest that a datagram needs through the same event loop, and back.",
    ):
        console.print(f"  {line}", markup=False)
    console.print()
    columns = ["packets/CPU s", "relay", "pylibsrtp alone", "of ours"]
    columns += ["rtpengine", "of ours", "lost"] if any(its for _, its, _ in kinds.values()) else []
    show(console, "Beside its cryptography alone, and beside rtpengine in userspace", columns, beside)
    if not is_there():
        console.print("  without rtpengine: its figures are skipped (tools/peers.py installs it)\n", markup=False)
