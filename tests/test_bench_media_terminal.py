"""tools/bench media, the terminal's part: its tables, with few packets."""

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import micropython
from rich.console import Console

import find_valgrind
from benchmarks import media_terminal
from benchmarks.media_peer import AGREED, Peer
from debian import UnavailableError
from lab.processes import LabError
from sipwire.agreed import Agreed

_ROWS = ("speech sent", "speech received", "text sent", "text received", "report sent", "report received")


def said_by(show: Callable[[Console], None]) -> str:
    console = Console(file=io.StringIO(), width=160, highlight=False, soft_wrap=True)
    show(console)
    return console.file.getvalue()


def numbers(row: str, said: str) -> list[float]:
    """The figures of the first row of a table whose name begins so."""
    found = re.search(rf"^{re.escape(row)}.*?  +(.*)$", said, re.MULTILINE)
    assert found, said
    return [float(one) for one in re.findall(r"-?\d+(?:\.\d+)?", found[1].replace(",", ""))]


def test_tables() -> None:
    interpreter = micropython()
    try:
        find_valgrind.find(interpreter)
        is_counted = True
    except UnavailableError:
        is_counted = False
    said = said_by(lambda console: media_terminal.terminal(console, 20, 1, 40))
    for row in _ROWS:
        figures = numbers(row, said)
        # Time, its floor; and with valgrind instructions, their floor, the ratio, and with collecting.
        assert len(figures) == 2 + 4 * is_counted + ("report" not in row), said
        assert figures[1] > 0, said
        if is_counted:
            # All the cryptography is in it, and nothing is for free.
            assert figures[2] > figures[3] > 10_000, said
            assert figures[-1] > figures[2], said
    if is_counted:
        found = re.search(r"whenever there were ([\d,]+) to ([\d,]+) bytes more", said)
        assert found, said
        least, most = (int(one.replace(",", "")) for one in found.groups())
        assert 8_192 < least <= most < 28_672, said  # of half the heap, or a little more
        at = said.index("An estimate for an ESP32")
        one, other = numbers("speech sent", said), numbers("speech received", said)
        both = numbers("both, each 20 ms", said[at:])
        assert both[0] == pytest.approx(one[2] + other[2], abs=2)
        collecting, collection = numbers("and collecting", said[at:]), numbers("a collection", said[at:])
        assert collecting[0] == pytest.approx(one[-1] + other[-1] + collection[0] / 50, abs=3)
        assert both[1] == pytest.approx(both[0] * 3 / 160_000, abs=0.1)
        assert both[-3] == pytest.approx(both[0] * 5 / 240_000, abs=0.1)
        assert both[-1] == pytest.approx(both[-3] / 20 * 100, abs=1)
    else:
        assert "instructions are not counted" in said
        assert "An estimate" not in said
    stream, speech, text = (numbers(f"code: {name}", said) for name in ("stream", "speech", "conversation"))
    objects, everything = numbers("objects", said), numbers("all of it, beyond an idle terminal", said)
    assert min(stream + speech + text + objects) > 500, said
    assert everything[0] == pytest.approx(stream[0] + speech[-2] + objects[0], rel=0.05)
    assert everything[2] < everything[0] + everything[1]  # they share a stream's code


def test_without_a_counter(monkeypatch: pytest.MonkeyPatch) -> None:
    interpreter = micropython()

    def nothing(_: str) -> list[str]:
        raise UnavailableError("there is none")

    monkeypatch.setattr(media_terminal, "find_valgrind", nothing)
    said = said_by(lambda console: media_terminal.terminal(console, 20, 1, 40))
    assert "instructions are not counted, and nothing is estimated: there is none" in said
    assert "An estimate" not in said
    assert len(numbers("speech sent", said)) == 3
    assert interpreter


def test_what_went_otherwise_is_told(tmp_path: Path) -> None:
    bench = media_terminal._Bench(tmp_path, micropython(), 32, [], 40)
    assert bench.run("both ways", 20, "count")["media"]["sent"] > 20
    packets = bytearray((tmp_path / "speech").read_bytes())
    packets[184 * 5 - 1] ^= 1  # the tag of the fifth
    (tmp_path / "speech").write_bytes(packets)
    with pytest.raises(LabError, match="heard: the media was not as it should be"):
        bench.run("heard", 10, "count")
    with pytest.raises(LabError, match=r"heard: [^@]*KeyError"):
        bench.run("heard", 10, "nothing of these ways")


def test_what_the_terminal_sends_is_opened() -> None:
    peer = Peer()
    (speech,) = peer.speech(1)
    said = {"last": [speech.hex(), "", "", ""], "played": ""}
    with pytest.raises(Exception, match="srtp tag"):  # that is the peer's own, under another key
        peer.check("both ways", said)
    with pytest.raises(LabError, match="has played other speech"):
        peer.check("heard", said)
    for values in AGREED.values():
        assert all(hasattr(Agreed(b"", 0), name) for name in values)


def test_counted_instructions() -> None:
    interpreter = micropython()
    try:
        valgrind = find_valgrind.find(interpreter)
    except UnavailableError as error:
        pytest.skip(str(error))
    loop = "for i in range({}):\n    pass\nprint(i)"
    few, many = (find_valgrind.count(valgrind, [interpreter, "-c", loop.format(n)]) for n in (1000, 11_000))
    assert (few[1].strip(), many[1].strip()) == ("999", "10999")
    assert 10 < (many[0] - few[0]) / 10_000 < 1000
    with pytest.raises(UnavailableError):
        find_valgrind.count(valgrind, [interpreter, "-c", "raise SystemExit(3)"])
    with pytest.raises(UnavailableError):
        find_valgrind.count([sys.executable, "-c", ""], [])
