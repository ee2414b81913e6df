"""Media: what the terminal's part costs, packet by packet, beside its cryptography alone; and what it has of the heap.

    the linked image in ROM, on MicroPython <--- packets that were prepared, sockets and audio that cost little

Times are this machine's; kinds of packets take turns, so that whatever else it does hits them alike. Instructions are
counted by valgrind, of the whole process: the difference of two runs with unlike numbers of steps, so that what a start
takes is not in it. What was sent and played last is opened and compared.
"""

import json
import math
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.media_peer import AGREED, TYPED, Peer
from benchmarks.report import Cell, interpreter, median, ratio, show
from debian import UnavailableError
from find_valgrind import count as count_instructions
from find_valgrind import find as find_valgrind
from lab.processes import ROM, LabError
from neighbour.device.image import build, build_rom

__all__ = ["terminal"]

_NAMES = ("terminal.demand.load", "terminal.demand.unload", "terminal.media.Media", "sipwire.agreed.Agreed")
_NAMES += ("start", "receive", "handle_timer", "report", "write", "stop")  # of the terminal's media
_NAMES += tuple({name for agreed in AGREED.values() for name in agreed})
# What is taken off: the benchmark's own part.
_BARE = {kind: f"bare {kind}" for kind in ("heard", "both ways", "text sent", "text received", "reports")}
_SLOW = ("report", "reports", "collection")  # and so fewer of them
_COLLECTING = ("heard", "both ways", "text sent", "text received", "report", "reports")
_KINDS = (*_COLLECTING, "collection", *_BARE.values())
_CALLS = ("speech", "text", "speech text")
# A weak device's has 112; what this benchmark takes of it stands for the rest of a terminal, which takes about as much.
# What is not collected for a while comes on top: what it costs to allocate and to collect goes by what the heap has.
_HEAP_KIB, _MORE_KIB = 112, 64
_SPARE = 20  # packets, more than steps: what comes before they are counted
_LEAST = 20  # steps that are timed
_PATIENCE_S = 600
_FRAME_MS = 20
_COLLECT_MS = 1000  # as `terminal.app`, which collects garbage so often even where there is little
# MicroPython's pystone takes 49,500 instructions of its 32-bit build on x86, counted likewise and with its garbage
# collected. An ESP32 at 240 MHz makes 1014 to 1661 of them in a second, by the version of its firmware (MicroPython's
# issues 5673 and 6565): 2.9 to 4.8 cycles for each of those instructions.
_CYCLES = (3, 5)
_MHZ = (160, 240)


@dataclass(frozen=True)
class _Cost:
    """What a step costs.

    Attributes:
        us: microseconds.
        left: bytes of heap that it leaves behind.
        counted: instructions; not a number where they were not counted.
        collected: likewise, with what it takes to collect garbage whenever a terminal would.
    """

    us: float
    left: float
    counted: float
    collected: float

    def __add__(self, other: "_Cost") -> "_Cost":
        return _Cost(*(mine + its for mine, its in zip(self._all(), other._all(), strict=True)))

    def __sub__(self, other: "_Cost") -> "_Cost":
        return _Cost(*(mine - its for mine, its in zip(self._all(), other._all(), strict=True)))

    def without(self, bare: "_Cost") -> "_Cost":
        """Without the benchmark's part; but a datagram that comes is on the heap of a device too."""
        return _Cost(self.us - bare.us, self.left, self.counted - bare.counted, self.collected - bare.counted)

    def _all(self) -> tuple[float, float, float, float]:
        return self.us, self.left, self.counted, self.collected


class _Bench:
    """Runs `media_on_device`.

    Args:
        folder: for the image and what the peer sends.
        micropython: the command.
        bits: of its words.
        valgrind: see `find_valgrind`; empty where nothing is counted.
        most: packets that are prepared.

    Attributes:
        sizes: bytes of payload and packet, of speech, a report and text.
        thresholds: bytes of garbage that were let come together, by what was counted so.
    """

    def __init__(self, folder: Path, micropython: str, bits: int, valgrind: list[str], most: int) -> None:
        self._micropython = micropython
        self._factor = bits // 32
        self._valgrind = valgrind
        self._peer = Peer()
        image, rom = folder / "image", folder / "image.romfs"
        build(image)
        build_rom(image, rom)
        # Elsewhere than beside this: there is another ``terminal``.
        self._script = Path(shutil.copy(Path(__file__).with_name("media_on_device.py"), folder))
        shutil.copy(ROM, folder)
        packets = {}
        for name in ("speech", "text", "reports"):
            packets[name] = str(folder / name)
            framed = b"".join(len(one).to_bytes(2, "big") + one for one in getattr(self._peer, name)(most))
            (folder / name).write_bytes(framed)
        names: dict[str, str] = {}
        for line in (folder / "image.names").read_text(encoding="utf-8").splitlines():
            new, old = line.split(" ")
            # Those of attributes, which have no module, are several for a new one.
            names |= dict.fromkeys(old[1:].split(",") if old.startswith(".") else [old], new.lstrip("."))
        names = {name: names[name] for name in _NAMES if name in names}
        task = {"rom": str(rom), "names": names, "agreed": AGREED, "packets": packets}
        task |= {"sound": self._peer.sound, "typed": TYPED}
        self._task = folder / "task"
        self._task.write_text(repr(task), encoding="utf-8")
        self.sizes: dict[str, tuple[int, int]] = {}
        self.thresholds: dict[str, int] = {}

    def _command(self, kind: str, count: int, way: str) -> list[str]:
        heap_kib = (_HEAP_KIB if way in ("run", "heap") else _HEAP_KIB + _MORE_KIB) * self._factor
        what = [str(self._script), str(self._task), kind, str(count), way]
        return [self._micropython, "-X", f"heapsize={heap_kib}K", *what]

    def _read(self, kind: str, printed: str) -> dict[str, Any]:
        """What it said, which has to be what it should."""
        said: dict[str, Any] = json.loads(printed.splitlines()[-1])
        if "media" in said:
            media = said["media"]
            streams = [media] if "sent" in media else [media["text"]]
            if any(one["rejected"] or one["lost"] or one.get("concealed") for one in streams):
                raise LabError(f"{kind}: the media was not as it should be: {media}")
            self.sizes |= self._peer.check(kind, said)
        if "threshold" in said:
            self.thresholds[kind] = said["threshold"]
        return said

    def run(self, kind: str, count: int, way: str) -> dict[str, Any]:
        """Let it do something, see `media_on_device`.

        Raises:
            LabError: it failed, or was not what it should be.
        """
        command = self._command(kind, count, way)
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PATIENCE_S)
        if done.returncode:
            raise LabError(f"{kind}: {done.stdout[-500:]}{done.stderr[-500:]}")
        return self._read(kind, done.stdout)

    def count(self, kind: str, counts: tuple[int, int], way: str) -> float:
        """Instructions of a step; not a number where they can't be counted."""
        if not self._valgrind:
            return math.nan
        found = []
        for count in counts:
            total, printed = count_instructions(self._valgrind, self._command(kind, count, way))
            self._read(kind, printed)
            found.append(total)
        return (found[1] - found[0]) / (counts[1] - counts[0])

    def costs(self, kinds: list[str], steps: int, repeats: int, counted: int) -> dict[str, _Cost]:
        """What a step of each kind costs; see `terminal` for the arguments."""
        looks: dict[str, list[dict[str, Any]]] = {kind: [] for kind in kinds}
        for _ in range(repeats):
            for kind, found in looks.items():
                found.append(self.run(kind, max(_LEAST, steps // 10) if kind in _SLOW else steps, "look"))
        costs = {}
        for kind, found in looks.items():
            # What nothing is collected in has to be short, and where it is, long enough for that to be even.
            few, many = (2, 7), (counted // 4, counted) if kind not in _SLOW else (2, 7)
            us, left = median([one["us"] for one in found]), found[0]["bytes"]
            # What is only taken off or put beside is not asked for with its garbage.
            collected = self.count(kind, many, "run") if kind in _COLLECTING else math.nan
            costs[kind] = _Cost(us, left, self.count(kind, few, "count"), collected)
        return costs


def _counter(console: Console, micropython: str) -> list[str]:
    """The command that counts its instructions, or none."""
    try:
        return find_valgrind(micropython)
    except UnavailableError as error:
        console.print(
            f"  instructions are not counted, and nothing is estimated: {error}", style="yellow", markup=False
        )
        return []


def terminal(console: Console, steps: int, repeats: int, counted: int) -> None:
    """Print what the terminal's media costs.

    Args:
        console: where to print.
        steps: of each run that is timed.
        repeats: of those.
        counted: steps of the longest run whose instructions are counted.

    Raises:
        LabError: the media was not as it should be.
    """
    micropython, bits = interpreter(console)
    valgrind = _counter(console, micropython)
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name:
        bench = _Bench(Path(name), micropython, bits, valgrind, max(steps, counted) + _SPARE)
        costs = bench.costs(list(_KINDS), steps, repeats, counted)
        kinds = {kind: f"floor {payload} {packet}" for kind, (payload, packet) in bench.sizes.items()}
        found = bench.costs(list(kinds.values()), steps, repeats, counted)
        heaps = {kinds: bench.run(f"heap {kinds}", 0, "heap") for kinds in _CALLS}
    floors = {kind: found[floor] for kind, floor in kinds.items()}
    costs |= {kind: costs[kind].without(costs[bare]) for kind, bare in _BARE.items()}
    # A report comes beside the speech that goes on.
    reported = costs["report"].without(costs["bare both ways"])
    packets = {
        "speech sent": costs["both ways"] - costs["heard"],
        "speech received": costs["heard"],
        "text sent": costs["text sent"],
        "text received": costs["text received"],
        "report sent": reported - costs["both ways"],
        "report received": costs["reports"] - costs["report"],
    }
    about = f"{bits}-bit MicroPython"
    _show_packets(console, packets, floors, costs["collection"], f"{about}, code in flash; medians of {repeats}")
    if valgrind:
        least, most = (f"{one(bench.thresholds.values()):,}" for one in (min, max))
        console.print(f"  Garbage was collected whenever there were {least} to {most} bytes more.\n", markup=False)
        _show_estimate(console, packets, floors, costs["collection"], about)
    _show_heap(console, heaps, about)


def _instructions(count: float) -> str:
    return "" if math.isnan(count) else f"{count:,.0f}"


def _show_packets(
    console: Console, packets: dict[str, _Cost], floors: dict[str, _Cost], collection: _Cost, about: str
) -> None:
    rows: list[list[Cell | str]] = []
    for kind, cost in packets.items():
        floor = floors[kind.partition(" ")[0]]
        row: list[Cell | str] = [kind, f"{cost.us:.1f} us", f"{floor.us:.1f} us", _instructions(cost.counted)]
        row += [_instructions(floor.counted), "" if math.isnan(cost.counted) else ratio(cost.counted, floor.counted)]
        # A report's garbage is collected at once.
        row += ["" if "report" in kind else f"{cost.left:,.0f} B", _instructions(cost.collected)]
        rows.append(row)
    rows.append(["collection", f"{collection.us:.1f} us", "", _instructions(collection.counted), "", "", "", ""])
    columns = ["", "time", "floor", "instructions", "floor", "ratio", "heap", "and collecting"]
    show(console, f"The terminal's media, by packet ({about})", columns, rows)
    for line in (
        "Speech: 20 ms of PCMU, from the microphone to the socket, or from there by way of the jitter buffer to",
        "the speaker. Text: two characters, and two generations that went before. Reports: one each way every",
        "five seconds, for which code is loaded, and garbage collected at once; received: also that it is kept",
        "until then. floor: AES over the payload and the two hashes of an HMAC over the packet, called from Python.",
        "heap: what a packet leaves behind, with the datagram that came. and collecting: instructions, where",
        "garbage is collected as by a terminal, whenever half of what was free beyond 32 KiB is used up; then it also",
        "takes longer to find room among what lives. collection: one, in a call.",
    ):
        console.print(f"  {line}", markup=False)
    console.print()


def _show_estimate(
    console: Console, packets: dict[str, _Cost], floors: dict[str, _Cost], collection: _Cost, about: str
) -> None:
    """Milliseconds of an ESP32, and what part of 20 ms they are."""
    speech = packets["speech sent"] + packets["speech received"]
    rows: list[list[Cell | str]] = []
    for text, count in (
        ("speech sent", packets["speech sent"].counted),
        ("speech received", packets["speech received"].counted),
        ("both, each 20 ms", speech.counted),
        ("and collecting", speech.collected + collection.counted * _FRAME_MS / _COLLECT_MS),
        ("AES and SHA-1 of it", 2 * floors["speech"].counted),
        ("a collection", collection.counted),
        ("text both ways", (packets["text sent"] + packets["text received"]).collected),
        ("report both ways", (packets["report sent"] + packets["report received"]).collected),
    ):
        row: list[Cell | str] = [text, _instructions(count)]
        for mhz in _MHZ:
            least, most = (count * cycles / mhz / 1000 for cycles in _CYCLES)
            row += [f"{least:.1f} to {most:.1f}", f"{least / _FRAME_MS:.0%} to {most / _FRAME_MS:.0%}"]
        rows.append(row)
    columns = ["", "instructions", *(text for mhz in _MHZ for text in (f"ms at {mhz} MHz", "of 20 ms"))]
    cycles = f"{_CYCLES[0]} to {_CYCLES[1]} cycles"
    show(console, f"An estimate for an ESP32, of which none was measured ({cycles} an instruction)", columns, rows)
    for line in (
        f"Assumed: it takes {cycles} for one instruction of the {about} here, with code in flash",
        "behind its cache, and everything in software. Pystone takes 49,500 such instructions, and ESP32s at",
        "240 MHz make 1014 to 1661 of them a second, by the firmware's version (MicroPython's issues 5673 and",
        "6565). Tight loops, as AES, SHA-1 and collecting are, should do better, and hardware for AES and SHA-1",
        "takes most of theirs off. Sockets, I2S and the program's loop are not in it. and collecting: also once a",
        "second, whatever happens. Text and reports: with collecting.",
    ):
        console.print(f"  {line}", markup=False)
    console.print()


def _show_heap(console: Console, heaps: dict[str, dict[str, Any]], about: str) -> None:
    names = {
        "stream": "code: stream, with SRTP",
        "speech": "code: speech, with G.711 and the jitter buffer",
        "conversation": "code: conversation, with T.140 and RED",
        "objects": "objects",
        "all": "all of it, beyond an idle terminal",
        "digits": "for digits, from the first one on",
        "reports": "while reports are read and made",
        "ringing": "while it rings, before the call",
    }
    rows: list[list[Cell | str]] = [
        [text, *(f"{found[name]:,} B" if name in found else "" for found in heaps.values())]
        for name, text in names.items()
    ]
    title = f"What the media of a call has of the heap ({about}, code in flash: what is loaded of it)"
    show(console, title, ["", "speech", "text", "both"], rows)
