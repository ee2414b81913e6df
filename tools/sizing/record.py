"""The record of sizes, device/sizes.json; the table of it on the hardware page; and what differs from it.

A difference of more than 2 % is told by name, and no failure: a program may grow, but nobody shall overlook it. A
record of other files than are installed, or a table that is not of that record, is one.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

__all__ = ["RECORD", "Sizes", "differences", "page_with", "read", "table", "write"]

_DEVICE = Path(__file__).resolve().parent.parent.parent / "device"
RECORD = _DEVICE / "sizes.json"
_PAGE = _DEVICE / "README.md"
_PERCENT = 2
_BEGIN = "<!-- begin of what tools/sizes writes -->\n"
_END = "<!-- end of what tools/sizes writes -->\n"
_RUN = "run tools/sizes"
_STAGES = ("after import", "registered", "in a call", "in a call of speech and text")
_PLACES = ("code in flash", "code in the heap")


@dataclass(frozen=True)
class Sizes:
    """What was measured.

    Args:
        compiler: version of mpy-cross and of its files.
        interpreter: version of the MicroPython that ran it.
        files: bytes of each file of the image, and of the ROMFS that has them all.
        heap: bytes by place of the code and stage.
    """

    compiler: str
    interpreter: str
    files: dict[str, int]
    heap: dict[str, int]


def read() -> Sizes:
    """The record."""
    return Sizes(**json.loads(RECORD.read_text(encoding="utf-8")))


def write(sizes: Sizes) -> None:
    """Write the record, and the table on the page."""
    RECORD.write_text(json.dumps(asdict(sizes), indent=2) + "\n", encoding="utf-8")
    _PAGE.write_text(page_with(sizes), encoding="utf-8")


def page_with(sizes: Sizes) -> str:
    """The page, with the table of these sizes."""
    before, begin, rest = _PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not (begin and end):
        raise ValueError(f"{_PAGE}: lacks the lines {_BEGIN.strip()} and {_END.strip()}")
    return before + begin + table(sizes) + end + after


def table(sizes: Sizes) -> str:
    """Both tables of the sizes, in Markdown."""
    lines = [
        f"Measured on the emulated terminal (MicroPython {sizes.interpreter}, 32 bits, 112 KiB of heap); files of "
        f"mpy-cross {sizes.compiler}.",
        "",
        "| heap, bytes | " + " | ".join(_PLACES) + " |",
        "| --- | ---: | ---: |",
    ]
    for stage in _STAGES:
        figures = [sizes.heap.get(f"{place}, {stage}") for place in _PLACES]
        lines.append(f"| {stage} | " + " | ".join("" if one is None else f"{one:,}" for one in figures) + " |")
    rom = sizes.files["image.romfs"]
    modules = {name: size for name, size in sizes.files.items() if name != "image.romfs"}
    lines += [
        "",
        f"In flash it takes {rom:,} bytes as a ROMFS, or {sum(modules.values()):,} bytes in {len(modules)} files "
        "(and what the file system adds).",
        "",
        "<details><summary>By file</summary>",
        "",
        "| file | bytes |",
        "| --- | ---: |",
        *(f"| `{name}` | {size:,} |" for name, size in sorted(modules.items(), key=lambda item: (-item[1], item[0]))),
        "",
        "</details>",
    ]
    return "\n".join(lines) + "\n"


def differences(old: Sizes, new: Sizes) -> tuple[list[str], list[str]]:
    """What has changed.

    Args:
        old: the record.
        new: measured now.

    Returns:
        Lines that say what makes the record wrong, and lines that name what has become larger or smaller by more than
        2 %, or why that can't be told.
    """
    wrong = [
        f"{name}: {what}; {_RUN}"
        for ours, theirs, what in (
            (new.files, old.files, "is installed, and not in the record"),
            (old.files, new.files, "is in the record, and not installed"),
            (new.heap, old.heap, "is measured, and not in the record"),
            (old.heap, new.heap, "is in the record, and not measured"),
        )
        for name in ours
        if name not in theirs
    ]
    named = []
    if old.compiler == new.compiler:
        named += _changed(old.files, new.files, "")
    else:
        named.append(f"files are of mpy-cross {new.compiler}, the record is of {old.compiler}: not compared; {_RUN}")
    if (old.compiler, old.interpreter) == (new.compiler, new.interpreter):
        named += _changed(old.heap, new.heap, "heap, ")
    else:
        named.append(
            f"heap is of MicroPython {new.interpreter} and mpy-cross {new.compiler}, the record is of "
            f"{old.interpreter} and {old.compiler}: not compared; {_RUN}"
        )
    return wrong, named


def _changed(old: dict[str, int], new: dict[str, int], what: str) -> list[str]:
    found = []
    for name, size in new.items():
        before = old.get(name)
        if before is not None and abs(size - before) * 100 > _PERCENT * before:
            verb = "grew" if size > before else "shrank"
            found.append(
                f"{what}{name}: {verb} by {abs(size - before) / before:.1%}, from {before:,} to {size:,} bytes; {_RUN}"
            )
    return found
