"""The import rule: who may import what (the table in ``ALLOWED``), and sipwire's one ``try: import``."""

import ast
import subprocess
from pathlib import Path

import pytest
from conftest import ROOT

STANDARD_ON_BOTH = {"binascii", "collections", "errno", "hashlib", "os", "re", "struct"}
MICROPYTHON = STANDARD_ON_BOTH | {
    "cryptolib", "gc", "json", "machine", "micropython", "network", "select", "socket", "sys", "time",
}  # fmt: skip
FOLDERS = {"shared": "sipwire", "device": "terminal", "host": "neighbour"}


def modules(folder: str) -> list[Path]:
    return sorted((ROOT / folder / FOLDERS[folder]).rglob("*.py"))


def imports(path: Path) -> list[tuple[str, ast.AST]]:
    """The top-level packages that a file imports, those for the type checker alone left out."""
    tree = ast.parse(path.read_text())
    unread = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
        for part in block.body
        for node in ast.walk(part)
    }
    found = []
    for node in ast.walk(tree):
        if id(node) in unread:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name.split(".")[0], node) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.append(((node.module or "").split(".")[0], node))
    return found


def test_all_modules_are_seen() -> None:
    assert {path.stem for path in modules("shared")} >= {"compat", "message", "transaction", "srtp"}
    assert {path.stem for path in modules("device")} >= {"app", "phone", "esp32"}


@pytest.mark.parametrize("path", modules("shared"), ids=lambda path: path.name)
def test_sipwire(path: Path) -> None:
    allowed = STANDARD_ON_BOTH | {"sipwire"}
    if path.stem in {"compat", "viper"}:
        allowed = allowed | {"micropython", "functools"}
    assert {name for name, _ in imports(path)} <= allowed


@pytest.mark.parametrize("path", modules("device"), ids=lambda path: path.name)
def test_terminal(path: Path) -> None:
    allowed = MICROPYTHON | {"sipwire", "terminal"}
    if path.parent.name != "board":
        allowed -= {"machine", "network"}  # the board module is the only one that knows hardware
    assert {name for name, _ in imports(path)} <= allowed


@pytest.mark.parametrize("path", modules("host"), ids=lambda path: path.name)
def test_neighbour(path: Path) -> None:
    assert not {name for name, _ in imports(path)} & {"terminal", "micropython", "machine", "tests", "tools"}


@pytest.mark.parametrize("path", modules("shared"), ids=lambda path: path.name)
def test_one_place_tries_imports(path: Path) -> None:
    tries = [
        node
        for block in ast.walk(ast.parse(path.read_text()))
        if isinstance(block, ast.Try)
        for node in ast.walk(block)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert path.stem == "compat" or not tries


@pytest.mark.parametrize("path", modules("shared"), ids=lambda path: path.name)
def test_no_regular_expressions(path: Path) -> None:
    assert "re" not in {name for name, _ in imports(path)}


def test_top_level() -> None:
    """The top level of the repository holds what was agreed and nothing else."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    if not listed:
        pytest.skip("no git checkout")
    top = {name.split("/")[0] for name in listed}
    agreed = {"README.md", "device", "host", "shared", "tests", "tools", "pyproject.toml", "LICENSE", "CHANGELOG.md"}
    assert {name for name in top if not name.startswith(".")} <= agreed
