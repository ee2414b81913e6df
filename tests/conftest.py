"""What all tests share."""

import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TypeVar

import pytest

_Found = TypeVar("_Found")

#: The terminal runs on MicroPython only; test_micropython.py runs its tests there.
collect_ignore = ["device"]

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

# Both Pythons complain about comparing bytes with text where `-bb` is given; processes that tests start inherit it.
os.environ.setdefault("PYTHONWARNINGS", "error::BytesWarning")


@cache
def micropython(bits: int | None = None, *, newest: bool = False) -> str:
    """The command of a MicroPython; skips the test where there is none."""
    from find_micropython import find

    return _found(lambda: find(bits, newest=newest))


@cache
def webassembly() -> list[str]:
    """The command of MicroPython's port to WebAssembly; skips the test where there is none."""
    from find_webassembly import find

    return _found(find)


def _found(find: Callable[[], _Found]) -> _Found:
    from debian import UnavailableError

    try:
        return find()
    except UnavailableError as error:
        if os.environ.get("WISP_TEST_ALL"):
            raise
        pytest.skip(str(error))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests want named, though it is no failure: their property ``named``."""
    lines = [
        str(value)
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport) and report.when == "call"
        for name, value in report.user_properties
        if name == "named"
    ]
    if lines:
        terminalreporter.section("named")
    for line in lines:
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The terminal's code as a device gets it."""
    from neighbour.device.image import build

    folder = tmp_path_factory.mktemp("code") / "image"
    build(folder)
    return folder


@pytest.fixture(scope="session")
def rom(image: Path) -> Path:
    """The same, for a device that keeps it in flash."""
    from neighbour.device.image import build_rom

    file = image.with_suffix(".romfs")
    build_rom(image, file)
    return file
