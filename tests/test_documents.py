"""What the documents promise is there."""

import ast
import json
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT, micropython

from find_micropython import bits_of
from lab import sound
from lab.lab import Lab
from lab.processes import Process

README = (ROOT / "README.md").read_text()
DEVICE = (ROOT / "device" / "README.md").read_text()
TERMINAL = "\n".join(path.read_text() for path in (ROOT / "device" / "terminal").rglob("*.py"))


def rows(heading: str) -> list[str]:
    """The first column of the table below a heading."""
    part = DEVICE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0].partition("`media` of `ended` counts:")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([a-z_0-9]+)", cell)]


def keys_of(heading: str) -> dict[str, str]:
    """What the table of a part says is the default of each key; those that stand together have it together."""
    part = re.split(r"\n##+ ", DEVICE.partition(f"# {heading}\n")[2])[0]
    cells = [line.split("|") for line in part.splitlines() if line.startswith("| `")]
    return {key: default.strip() for _, keys, default, *_ in cells for key in re.findall(r"`(\w+)`", keys)}


def test_every_key_of_a_terminal_is_described() -> None:
    tree = ast.parse((ROOT / "device" / "terminal" / "config.py").read_text())
    tables = {ast.unparse(one.targets[0]): one.value for one in tree.body if isinstance(one, ast.Assign)}
    # Where the code's is empty, and what happens then is said; `test_config` shows that it does.
    stated = {"auth_user": "`user`", "address": "the board's", "keys": "`wisp.keys`"}
    for heading, name, count in (("wisp.json", "_KEYS", 22), ("Setup keys", "_SETUP", 4)):
        table = tables[name]
        assert isinstance(table, ast.Dict)
        wanted = {}
        for key, value in zip(table.keys, table.values, strict=True):
            assert isinstance(key, ast.Constant)
            assert isinstance(value, ast.Tuple)
            kind, default = ast.unparse(value.elts[0]), ast.literal_eval(value.elts[1])
            if default is None:
                wanted[key.value] = "needed"
            elif kind == "int":
                wanted[key.value] = str(default)
            elif default in ("", [], {}):
                wanted[key.value] = stated.pop(key.value, "")
            else:
                wanted[key.value] = f"`{default if kind == 'str' else json.dumps(default)}`"
        assert len(wanted) == count
        assert keys_of(heading) == wanted
    assert not stated


def test_the_media_of_a_call_are_described() -> None:
    count = (ROOT / "device" / "terminal" / "counting.py").read_text().partition("\ndef count(")[2]
    counted = set(re.findall(r'^ +"(\w+)":|found\["(\w+)"\] =', count, re.MULTILINE))
    names = {name for pair in counted for name in pair if name} | {"text"}
    assert len(names) == 14
    table = DEVICE.partition("`media` of `ended` counts:\n\n")[2].partition("\n\n")[0]
    described = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    assert sorted(re.findall(r"`(\w+)`", "".join(described))) == sorted(names)


def test_every_event_and_command_is_described() -> None:
    events = set(re.findall(r'emit\(\s*"(\w+)"', TERMINAL))
    commands = set(re.findall(r'command == "(\w+)"', TERMINAL)) - {"button"}
    assert events | commands == set(rows("Commands and events"))


def test_pins_are_those_of_the_board() -> None:
    source = (ROOT / "device" / "terminal" / "board" / "esp32.py").read_text()
    described = re.search(r'\{"mic_sck".*?\}', DEVICE, re.DOTALL)
    assert described is not None
    values = json.loads(described[0])
    found = re.search(r"_SETTINGS = \{(.*?)\}", source, re.DOTALL)
    assert found is not None
    assert values == {name: int(number) for name, number in re.findall(r'"(\w+)": \(int, (-?\d+)\)', found[1])}


@pytest.mark.parametrize("name", ["README.md", "device/README.md", "CHANGELOG.md", "tests/vectors/README.md"])
def test_links_and_paths(name: str) -> None:
    text = (ROOT / name).read_text()
    folder = (ROOT / name).parent
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (folder / target).exists(), target
    for target in re.findall(r"`((?:tools|device|host|shared|tests)/[\w./-]+)`", text):
        assert (ROOT / target).exists(), target


def test_the_changelog_knows_the_version() -> None:
    source = (ROOT / "shared" / "sipwire" / "__init__.py").read_text()
    version = re.search(r'__version__ = "(.+?)"', source)
    assert version is not None
    assert re.search(rf"^## {re.escape(version[1])}\b", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)


# The steps, as they stand there.


def steps(text: str, begin: str, end: str) -> list[str]:
    """The commands of a part of a document."""
    part = text.partition(begin)[2].partition(end)[0]
    return [line.strip() for line in part.splitlines() if line.startswith("    ") and '"board"' not in line]


class Clone:
    """A folder where the steps can be taken as in a clone, but with addresses that nobody else uses."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.address = Lab(folder / "lab").next_address().rpartition(".")[0]
        (folder / "lab").rmdir()
        for name in ("tools", "device"):
            (folder / name).symlink_to(ROOT / name)
        (folder / ".venv").symlink_to(Path(sys.executable).parent.parent)
        shutil.copy(ROOT / ".gitignore", folder)
        self.running: list[Process] = []

    def command(self, line: str) -> str:
        return re.sub(r"\b(192\.0\.2|127\.0\.0)\.(?=\d)", f"{self.address}.", line)

    def run(self, line: str) -> str:
        done = subprocess.run(
            self.command(line),
            shell=True,
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, line: str) -> Process:
        output = self.folder / ".cache" / name
        output.parent.mkdir(exist_ok=True)
        # `env`, for what the line may begin with.
        command = ["sh", "-c", f"exec env {self.command(line)}"]
        process = Process(name, command, output, self.folder, pipe=output.with_suffix(".pipe"))
        self.running.append(process)
        return process

    def steps(self, lines: list[str]) -> list[Process]:
        """Take them all; returns what runs then. The environment is there already."""
        started = []
        for line in lines:
            if " serve " in line:
                started.append(self.start(line.split()[-1], line))
                started[-1].wait_for("ready", 30)
            elif "-m venv" not in line:
                self.run(line)
        return started

    def changes(self) -> str:
        """What git would commit."""
        if shutil.which("git") is None:
            pytest.skip("git is not installed")
        subprocess.run(["git", "init", "-q", str(self.folder)], check=True)
        return self.run("git -c core.excludesFile=/dev/null status --porcelain --untracked-files=all")


@pytest.fixture
def clone(tmp_path: Path) -> Iterator[Clone]:
    made = Clone(tmp_path)
    try:
        yield made
    finally:
        for process in made.running:
            process.stop()


# What the folder has from the beginning.
OF_A_CLONE = [".gitignore", ".venv", "device", "tools"]
PARTS = {
    "one": ("## A domain of your own", "**Instead, for two domains**"),
    "two": ("**Instead, for two domains**", "**Certificates**"),
}


@pytest.mark.parametrize(("which", "domains"), [("one", ["a.example"]), ("two", ["a.example", "b.example"])])
def test_the_steps_of_readme(clone: Clone, which: str, domains: list[str]) -> None:
    lines = steps(README, *PARTS[which])
    assert len(lines) == {"one": 6, "two": 8}[which]
    started = clone.steps(lines)
    assert [one.name for one in started] == domains
    for one in started:
        one.stop()
        assert one.exit_status == 0
    if which == "one":
        assert set(re.findall(r"sip:\w+", clone.run(".venv/bin/wisp account list --config a.example"))) == {
            "sip:alice",
            "sip:carol",
        }
        clone.run(".venv/bin/wisp account remove carol --config a.example")
        # A key for each row that the table begins with.
        written = list(json.loads((clone.folder / "alice.json").read_text()))
        assert written == rows("wisp.json")[: len(written)]
        assert f"writes the first {['four', 'five', 'six'][len(written) - 4]}" in DEVICE
    # The certificate is renewed as it says, with the authority as it says.
    renew = re.search(r"`(wisp ca issue \S+ \S+ --out \S+)` renews", README)
    assert renew is not None
    line = renew[1].replace(" authority ", " a.example/ca ") if which == "one" else renew[1]
    before = (clone.folder / "a.example" / "a.example.pem").read_bytes()
    clone.run(f".venv/bin/{line}")
    assert (clone.folder / "a.example" / "a.example.pem").read_bytes() != before
    for domain in domains:
        assert "is good" in clone.run(f".venv/bin/wisp check {domain}")
    assert sorted(line.split()[-1] for line in clone.changes().splitlines()) == OF_A_CLONE


def test_the_steps_of_device_readme(clone: Clone) -> None:
    """Two emulated terminals, and the call between them."""
    micropython()
    lines = steps(DEVICE, "## On a laptop", "## wisp.json")
    assert len(lines) == 7
    clone.steps([line for line in lines if "rom.py" not in line])
    assert {path.name for path in (clone.folder / "image").iterdir()} == {"terminal", "sipwire"}
    found = re.findall(r"to `([\w/]+\.json)`\n\n +(\"board\": .+)", DEVICE)
    assert [name for name, _ in found] == ["laptop/alice.json", "laptop/bob.json"]
    sound.make_tone(clone.folder / "in.wav", 440, 1)
    for name, board in found:
        path = clone.folder / name
        values = json.loads(path.read_text())
        values.update(json.loads(clone.command(f"{{{board}}}")))
        path.write_text(json.dumps(values))
    commands = [line for line in lines if "rom.py" in line]
    if bits_of(micropython()) == 64:
        commands = [line.replace("112K", "224K") for line in commands]
    alice, bob = (clone.start(who, line) for who, line in zip(("alice", "bob"), commands, strict=True))
    for one in (alice, bob):
        one.wait_for("registered", 20)
    call = re.search(r"`(call \S+)` in the first, `(answer)` in the second", DEVICE)
    assert call is not None
    alice.send(call[1])
    bob.wait_for("incoming", 20)
    bob.send(call[2])
    for one in (alice, bob):
        one.wait_for("connected", 20)
    time.sleep(1)
    alice.send("hangup")
    for one in (alice, bob):
        assert one.wait_for("ended", 20)["media"]["received"] > 20
    for name in ("alice-heard.wav", "bob-heard.wav"):
        assert (clone.folder / "laptop" / name).stat().st_size > 5000
    assert sorted(line.split()[-1] for line in clone.changes().splitlines()) == OF_A_CLONE


def test_the_sample_of_readme_is_what_the_demo_prints() -> None:
    names = re.findall(r"^(\S.+?) {2,}.+ {2,}.+ good$", README, re.MULTILINE)
    source = (ROOT / "tools" / "lab" / "demo.py").read_text()
    assert names == re.findall(r'^ +Row\(\s*"([^"]+)"', source, re.MULTILINE)
