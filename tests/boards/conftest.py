"""Emulated boards, a neighbour that they register with, and the programs that people use on them."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from conftest import micropython

from lab.board import EmulatedBoard
from lab.lab import Lab

MakeBoard = Callable[..., EmulatedBoard]

#: A board whose firmware has a partition for the program, as large as it is on 4 MB of flash.
ROMFS_BYTES = 256 << 10
DOMAIN = "a.example"
SSID, PASSWORD = "home", "correct horse"


@pytest.fixture
def make_board(tmp_path: Path) -> Iterator[MakeBoard]:
    """Starts boards, and stops them in the end."""
    with ExitStack() as stack:

        def make(name: str = "board", **settings: Any) -> EmulatedBoard:
            return stack.enter_context(EmulatedBoard(tmp_path / name, micropython(), **settings))

        yield make


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """A domain, whose neighbour does not run yet."""
    with Lab(tmp_path / "lab", micropython()) as made:
        made.make_domains(DOMAIN)
        yield made


@pytest.fixture
def make_reachable(lab: Lab, make_board: MakeBoard) -> MakeBoard:
    """Starts boards within reach of a Wi-Fi network from which there is a way to the neighbour."""

    def make(name: str = "board", **settings: Any) -> EmulatedBoard:
        settings = {"access_points": {SSID: PASSWORD}, "address": lab.next_address(), **settings}
        return make_board(name, **settings)

    return make


def mpremote(board: EmulatedBoard, *arguments: str, status: int = 0, timeout_s: float = 60) -> str:
    """Run mpremote on a board; returns what it said."""
    command = [sys.executable, "-m", "mpremote", "connect", str(board.port), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, stdin=subprocess.DEVNULL)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout if not status else done.stdout + done.stderr


def run(board: EmulatedBoard, code: str, status: int = 0) -> str:
    """Let a board run a piece of code; returns what that printed."""
    return mpremote(board, "exec", code, status=status).strip()


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
