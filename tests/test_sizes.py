"""What is installed on a board is as large as the record says; what has grown or shrunk is named at the end of the run.

Growth is no failure: see ``tools/sizes``. A record of other files is.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import micropython

from sizing import record
from sizing.measure import measure
from sizing.record import Sizes

OLD = Sizes(
    compiler="1.29.0, mpy 6.3",
    interpreter="1.25.0",
    files={"terminal/part1.mpy": 10_000, "terminal/speech.mpy": 1000, "image.romfs": 11_000},
    heap={"code in flash, after import": 30_000, "code in the heap, in a call": 90_000},
)


def test_this_tree(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    sizes = measure(tmp_path, micropython(32))
    wrong, named = record.differences(record.read(), sizes)
    for line in named:
        record_property("named", f"sizes: {line}")
    assert not wrong
    for place in ("code in flash", "code in the heap"):
        stages = [sizes.heap[f"{place}, {stage}"] for stage in ("after import", "registered", "in a call")]
        assert 10_000 < stages[0] < stages[1] < stages[2] < 112 * 1024
    assert sum(sizes.files.values()) < 2 * sizes.files["image.romfs"] + 4096


def test_page_has_the_table_of_the_record() -> None:
    assert record.page_with(record.read()) == (record.RECORD.parent / "README.md").read_text(encoding="utf-8")


def test_same() -> None:
    assert record.differences(OLD, OLD) == ([], [])
    almost = replace(OLD, files={**OLD.files, "terminal/speech.mpy": 1020}, heap={**OLD.heap})
    assert record.differences(OLD, almost) == ([], [])


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (1021, "terminal/speech.mpy: grew by 2.1%, from 1,000 to 1,021 bytes; run tools/sizes"),
        (979, "terminal/speech.mpy: shrank by 2.1%, from 1,000 to 979 bytes; run tools/sizes"),
    ],
)
def test_file_of_another_size(size: int, words: str) -> None:
    new = replace(OLD, files={**OLD.files, "terminal/speech.mpy": size})
    assert record.differences(OLD, new) == ([], [words])


def test_more_heap() -> None:
    new = replace(OLD, heap={**OLD.heap, "code in the heap, in a call": 93_000})
    words = "heap, code in the heap, in a call: grew by 3.3%, from 90,000 to 93,000 bytes; run tools/sizes"
    assert record.differences(OLD, new) == ([], [words])


def test_other_files() -> None:
    new = replace(OLD, files={"terminal/part1.mpy": 10_000, "terminal/new.mpy": 5, "image.romfs": 11_000})
    assert record.differences(OLD, new)[0] == [
        "terminal/new.mpy: is installed, and not in the record; run tools/sizes",
        "terminal/speech.mpy: is in the record, and not installed; run tools/sizes",
    ]
    less = replace(OLD, heap={"code in flash, after import": 30_000})
    assert record.differences(OLD, less)[0] == [
        "code in the heap, in a call: is in the record, and not measured; run tools/sizes"
    ]


def test_versions_that_are_not_compared() -> None:
    """Another mpy-cross makes other files, and another MicroPython needs another heap for them."""
    larger = {name: 2 * size for name, size in OLD.files.items()}
    wrong, named = record.differences(OLD, replace(OLD, compiler="1.30.0, mpy 6.3", files=larger))
    assert not wrong
    assert [line.partition(":")[0] for line in named] == [
        "files are of mpy-cross 1.30.0, mpy 6.3, the record is of 1.29.0, mpy 6.3",
        "heap is of MicroPython 1.25.0 and mpy-cross 1.30.0, mpy 6.3, the record is of 1.25.0 and 1.29.0, mpy 6.3",
    ]
    wrong, named = record.differences(OLD, replace(OLD, interpreter="1.26.1", files=larger))
    assert (wrong, len(named)) == ([], 4)
    assert "not compared" in named[-1]


def test_record_and_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is read again, and the page keeps what is around its table."""
    monkeypatch.setattr(record, "RECORD", tmp_path / "sizes.json")
    monkeypatch.setattr(record, "_PAGE", tmp_path / "README.md")
    (tmp_path / "README.md").write_text(f"before\n{record._BEGIN}old\n{record._END}after\n")
    record.write(OLD)
    assert record.read() == OLD
    text = (tmp_path / "README.md").read_text()
    assert text == f"before\n{record._BEGIN}{record.table(OLD)}{record._END}after\n"
    assert "| `terminal/part1.mpy` | 10,000 |" in text
    assert "11,000 bytes as a ROMFS" in text
    assert record.page_with(OLD) == text
    (tmp_path / "README.md").write_text("no table\n")
    with pytest.raises(ValueError, match="lacks the lines"):
        record.page_with(OLD)
