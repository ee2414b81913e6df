"""The ways to a board but provisioning: `mpremote mip install`, and frozen into a firmware."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, micropython
from mpremote import mip

from package import PACKAGES, package


def wanted() -> dict[str, bytes]:
    """What a board has afterwards: the contents of files by path."""
    found = {name: (ROOT / "device" / name).read_bytes() for name in ("boot.py", "main.py")}
    for folder, name in (("device", "terminal"), ("shared", "sipwire")):
        for path in (ROOT / folder / name).rglob("*.py"):
            found[path.relative_to(ROOT / folder).as_posix()] = path.read_bytes()
    return found


def test_they_are_what_the_sources_want() -> None:
    for folder in PACKAGES:
        assert (ROOT / folder / "package.json").read_text() == package(folder), "run tools/package.py"
    command = [sys.executable, "tools/package.py", "--check"]
    assert subprocess.run(command, cwd=ROOT, timeout=60).returncode == 0


class Board:
    """A board's file system in a folder, as far as `mpremote.mip` asks for it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _path(self, path: str) -> Path:
        assert path.startswith("/")
        assert ".." not in path
        return self.folder / path.lstrip("/")

    def fs_exists(self, path: str) -> bool:
        return self._path(path).exists()

    def fs_mkdir(self, path: str) -> None:
        self._path(path).mkdir()

    def fs_writefile(self, path: str, data: bytes, progress_callback: object) -> None:
        self._path(path).write_bytes(data)

    def files(self) -> dict[str, bytes]:
        """Contents by path."""
        files = [path for path in self.folder.rglob("*") if path.is_file()]
        return {path.relative_to(self.folder).as_posix(): path.read_bytes() for path in files}


@pytest.fixture
def board(tmp_path: Path) -> Board:
    folder = tmp_path / "board"
    folder.mkdir()
    return Board(folder)


def install(board: Board, *packages: str) -> None:
    for one in packages:
        mip._install_package(board, one, "https://index.invalid", "/", None, True)


class Handler(SimpleHTTPRequestHandler):
    """A forge that gives files by their plain path, and nothing by a path with dots."""

    def do_GET(self) -> None:
        if ".." in self.path:
            self.send_error(400)
        else:
            super().do_GET()

    def log_message(self, *words: Any) -> None:
        pass


@pytest.fixture
def forge() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(ROOT))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def test_from_a_checkout(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    install(board, "device/package.json", "shared/package.json")
    assert board.files() == wanted()


def test_from_a_forge(board: Board, forge: str) -> None:
    install(board, f"{forge}/device", f"{forge}/shared")
    assert board.files() == wanted()


def test_names_of_forges() -> None:
    """Those that `mpremote` knows come to plain addresses too."""
    for path, _ in json.loads(package("shared"))["urls"]:
        made = mip._rewrite_url(f"github:someone/wisp/shared/{path}", "v1")
        assert made == f"https://raw.githubusercontent.com/someone/wisp/v1/shared/{path}"


def test_what_is_installed_runs(board: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    install(board, "device/package.json", "shared/package.json")
    code = "import terminal.app; print(terminal.app.run('no.json'))"
    done = subprocess.run(
        [micropython(), "-X", "heapsize=2M", "-c", code],
        cwd=board.folder,
        env={"MICROPYPATH": "."},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "no.json: can't be read" in done.stdout


def frozen(port: Path) -> set[str]:
    """What device/manifest.py freezes, by MicroPython's manifest language as far as it is spoken there."""
    found: set[str] = set()
    included = []

    def take(name: str, files: None = None, base_path: str = ".", opt: int | None = None) -> None:
        base = ROOT / "device" / base_path
        found.update(path.relative_to(base).as_posix() for path in (base / name).rglob("*.py"))

    def include(path: str) -> None:
        included.append(path.replace("$(PORT_DIR)", str(port)))

    manifest = ROOT / "device" / "manifest.py"
    exec(compile(manifest.read_text(), str(manifest), "exec"), {"include": include, "package": take})
    assert included == [f"{port}/boards/manifest.py"]
    return found


def test_frozen(tmp_path: Path) -> None:
    """The same files, but for those that a person may want to take away."""
    assert frozen(tmp_path) == set(wanted()) - {"boot.py", "main.py"}
