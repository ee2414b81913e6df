"""Emulated boards, and a neighbour that they register with."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from conftest import micropython

from lab.board import EmulatedBoard
from lab.lab import Lab

#: A board whose firmware has a partition for the program, as large as it is on 4 MB of flash.
ROMFS_BYTES = 256 << 10
DOMAIN = "a.example"
SSID, PASSWORD = "home", "correct horse"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A domain, whose neighbour does not run yet."""
    with Lab(tmp_path / "lab", micropython()) as made:
        made.make_domains(DOMAIN)
        yield made


@pytest.fixture
def make_board(tmp_path: Path, lab: Lab) -> Iterator[Callable[..., EmulatedBoard]]:
    """Makes boards within reach of a Wi-Fi network; they run until the test ends."""
    with ExitStack() as stack:

        def make(name: str = "board", **settings: object) -> EmulatedBoard:
            settings = {"access_points": {SSID: PASSWORD}, "address": lab.next_address(), **settings}
            return stack.enter_context(EmulatedBoard(tmp_path / name, micropython(), **settings))

        yield make


def wisp(
    lab: Lab, *arguments: object, password: str | None = PASSWORD, timeout_s: float = 120.0
) -> "subprocess.CompletedProcess[str]":
    """Run a ``wisp device`` command as a person would, of whom nothing is asked."""
    environment = {name: value for name, value in os.environ.items() if name != "WISP_WIFI_PASSWORD"}
    if password is not None:
        environment["WISP_WIFI_PASSWORD"] = password
    command = [str(Path(sys.executable).with_name("wisp")), "device", *map(str, arguments)]
    return subprocess.run(
        command,
        cwd=lab.folder / DOMAIN,
        capture_output=True,
        text=True,
        env=environment,
        stdin=subprocess.DEVNULL,
        timeout=timeout_s,
    )
