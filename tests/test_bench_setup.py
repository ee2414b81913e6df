"""tools/bench setup: its tables, with few calls."""

import io
import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import micropython
from rich.console import Console

from benchmarks import setup
from lab.processes import LabError

_MARK = r"( over)?"


def said_by(show: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=160, highlight=False, soft_wrap=True)
    show(console)
    return console.file.getvalue()


def test_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    micropython()
    monkeypatch.setattr(setup, "_WARM", 1)
    said = said_by(lambda console: setup.run(console, 2, 1, 2))
    for kind, text in setup._TEXTS.items():
        ending = rf"{_MARK} +1\.10" if kind.startswith("setup") else ""
        times = r" +(\d+) ms +(\d+) ms" + r" +([\d.]+) ms" * 3 + r" +[\d.]+"
        found = re.search(rf"^{re.escape(text)}{times}{ending} *$", said, re.MULTILINE)
        assert found, said
        # Who answers does so after it has rung; and nothing is for free.
        assert 0 < int(found[1]) <= int(found[2]), said
        assert all(float(found[i]) > 0 for i in (3, 4, 5)), said
    for side in ("caller", "callee"):
        cpu = rf"^CPU of the {side} +[\d.]+ ms +[\d.]+ ms +-?[\d.]+ ms{_MARK} +2 ms *$"
        assert re.search(cpu, said, re.MULTILINE), said
        for what in ("heap after a call", "heap in a call", "heap, code for it loaded"):
            found = re.search(rf"^{what}, {side} +(\d+) B +(\d+) B +(-?\d+) B{_MARK} +2048 B *$", said, re.MULTILINE)
            assert found, said
            assert int(found[3]) == pytest.approx(int(found[2]) - int(found[1]), abs=1)
    steps = re.findall(
        r"^(caller|callee): (\w+\.\w+) +([\d.]+) +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) *$", said, re.MULTILINE
    )
    names = {(side, name) for side, name, *_ in steps}
    # At least these; what every call has is not among them.
    assert {side for side, _ in names} == {"caller", "callee"}
    assert ("caller", "parting.part") in names
    assert ("callee", "parting.take_bye") in names
    assert not [name for _, name in names if name.startswith(("commands.", "offering.", "answering."))]
    for *_, load, work, files, collect, everything in steps:
        assert int(load) + int(work) + int(collect) == pytest.approx(int(everything), abs=2)
        assert int(files) <= int(work)
    for side in ("caller", "callee"):
        sums = re.search(rf"^{side}: all of it +(\d+) +(\d+) +(\d+) +(\d+) +(\d+) *$", said, re.MULTILINE)
        assert sums, said
        assert int(sums[5]) > 0


def test_what_is_over_its_limit_is_marked() -> None:
    def costs(neighbours_ms: float) -> dict[str, list[setup._Cost]]:
        found = {kind: [setup._Cost(20, 30, 9, 9, 10)] * 3 for kind in setup._TEXTS}
        # Of three calls the one in the middle counts.
        found["setup"] = [setup._Cost(20, 30, 10.9, 11.1, one) for one in (1, neighbours_ms, 99)]
        return found

    for neighbours_ms, ending in ((11.0, "1.10"), (11.2, "1.12 over")):
        said = said_by(lambda console, ms=neighbours_ms: setup._show_calls(console, costs(ms)))
        assert re.search(rf"^setup-key call .* {re.escape(ending)} +1\.10 *$", said, re.MULTILINE), said
        assert said.count(" over") == ending.count(" over")
    without = {what: [80_000.0, 80_000.0] for what in ("after", "in", "peak")}
    heaps = [without, without | {"in": [82_048.0, 82_049.0]}]
    said = said_by(lambda console: setup._show_terminals(console, costs(10), heaps, "an emulated one"))
    marked = [line.split("  ")[0] for line in said.splitlines() if " over" in line]
    assert marked == ["CPU of the callee", "heap in a call, callee"], said


def test_another_call_than_it_should_be_is_told(tmp_path: Path) -> None:
    interpreter = micropython()
    code = tmp_path / "image"
    setup.build(code)
    with setup.Lab(tmp_path / "lab", interpreter) as lab:
        pair = setup._Pair(lab, setup._start(lab, "medium"), "bare", code, is_keyed=False)
        pair.call("neighbour medium")
        with pytest.raises(LabError, match="a call by neighbour medium, not by setup-key"):
            pair.call("setup-key")


def test_cpu_time_of_a_process() -> None:
    clock = setup._clock_of(os.getpid())
    before = setup.time.clock_gettime_ns(clock)
    end = setup.time.process_time_ns() + 20_000_000
    while setup.time.process_time_ns() < end:
        pass
    assert setup.time.clock_gettime_ns(clock) - before >= 19_000_000
    with pytest.raises(LabError, match="process 4194305: its CPU time"):
        setup._clock_of(4_194_305)  # more than Linux gives out
