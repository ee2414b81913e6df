"""What the documents promise is there."""

import json
import re
import subprocess
import sys

import pytest
from conftest import ROOT

DEVICE = (ROOT / "device" / "README.md").read_text()
TERMINAL = "\n".join(path.read_text() for path in (ROOT / "device" / "terminal").rglob("*.py"))


def rows(heading: str) -> list[str]:
    """The first column of the table below a heading."""
    part = DEVICE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    return [name for cell in cells for name in re.findall(r"`([a-z_0-9]+)", cell)]


def test_every_key_of_a_terminal_is_described() -> None:
    keys = re.findall(r'^    "(\w+)": \(', (ROOT / "device" / "terminal" / "config.py").read_text(), re.MULTILINE)
    assert sorted(keys) == sorted(rows("wisp.json"))


def test_every_event_and_command_is_described() -> None:
    events = set(re.findall(r'emit\(\s*"(\w+)"', TERMINAL))
    commands = set(re.findall(r'command == "(\w+)"', TERMINAL)) - {"button"}
    assert events | commands == set(rows("Commands and events"))


def test_pins_are_those_of_the_board() -> None:
    source = (ROOT / "device" / "terminal" / "board" / "esp32.py").read_text()
    described = re.search(r'\{"mic_sck".*?\}', DEVICE, re.DOTALL)
    assert described is not None
    values = json.loads(described[0])
    assert values.pop("mic_shift") == 0
    found = re.search(r"_PINS = (\{.*?\})", source, re.DOTALL)
    assert found is not None
    assert values == json.loads(found[1].replace(",\n}", "\n}"))


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


def test_the_image_as_device_readme_builds_it(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("image") / "image"
    subprocess.run([sys.executable, str(ROOT / "tools" / "image.py"), str(folder)], check=True)
    assert {path.name for path in folder.iterdir()} == {"terminal", "sipwire"}
