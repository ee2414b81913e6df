"""The wiring pictures are those that the tool draws, and what they show can work."""

import json
import re
import xml.etree.ElementTree

import pytest
from conftest import ROOT

from wiring.boards import AMPLIFIER, BOARDS, MICROPHONE, Board
from wiring.picture import draw

_PAGE = (ROOT / "device" / "README.md").read_text(encoding="utf-8")
#: Which of the modules' pins a setting of wisp.json is about.
_SETTINGS = {
    "mic_sck": ("mic", "SCK"),
    "mic_ws": ("mic", "WS"),
    "mic_sd": ("mic", "SD"),
    "speaker_sck": ("amp", "BCLK"),
    "speaker_ws": ("amp", "LRC"),
    "speaker_sd": ("amp", "DIN"),
}
_OF_THE_BOARD = {"button", "led"}

every_board = pytest.mark.parametrize("board", BOARDS, ids=lambda board: board.file)


def _wired(board: Board) -> dict[tuple[str, str], str]:
    """What each pin of a module is connected with: a GPIO number, or the name of a power pin."""
    found = {}
    for wire in board.wires:
        pin = (board.right if wire.is_right else board.left)[wire.pin]
        for end in wire.ends:
            assert end not in found, f"{end}: two wires"
            found[end] = str(pin.gpio) if pin.gpio >= 0 else pin.name
    return found


@every_board
def test_picture_is_drawn_anew(board: Board) -> None:
    file = ROOT / "device" / "wiring" / f"{board.file}.svg"
    assert file.read_text(encoding="utf-8") == draw(board), "run: .venv/bin/python tools/wiring"
    assert f"wiring/{board.file}.svg" in _PAGE


def test_there_is_no_other_picture() -> None:
    files = {path.name for path in (ROOT / "device" / "wiring").iterdir()}
    assert files == {f"{board.file}.svg" for board in BOARDS}


@every_board
def test_picture_is_read_by_a_browser(board: Board) -> None:
    """It is XML, everything lies within it, and every pin is named."""
    svg = xml.etree.ElementTree.fromstring(draw(board))
    width, height = (float(svg.attrib[name]) for name in ("width", "height"))
    for node in svg.iter():
        if "x" in node.attrib and "y" in node.attrib:
            assert 0 <= float(node.attrib["x"]) <= width
            assert 0 <= float(node.attrib["y"]) <= height
    texts = [node.text or "" for node in svg.iter() if node.tag.endswith("text")]
    for pin in board.left + board.right:
        assert any(text.split("  ")[0].split(" = ")[0] == pin.name for text in texts), pin
    for _, pins in (MICROPHONE, AMPLIFIER):
        assert set(pins) <= set(texts)


@every_board
def test_power_and_ground(board: Board) -> None:
    wired = _wired(board)
    assert wired["mic", "VDD"] == "3V3"  # 3.6 V at most (INMP441)
    assert wired["amp", "VIN"] == "5V"  # 2.5 to 5.5 V (MAX98357A); from 3.3 V the board's regulator would feed it
    # MicroPython reads the left channel, which an INMP441 fills where its L/R is low.
    assert wired["mic", "GND"] == wired["mic", "L/R"] == wired["amp", "GND"] == "GND"


@every_board
def test_settings_are_what_is_wired(board: Board) -> None:
    """Each signal goes to the pin that wisp.json names, and none to a pin that has to be left alone."""
    wired = _wired(board)
    by_number = {pin.gpio: pin for pin in board.left + board.right if pin.gpio >= 0}
    for _, settings in board.settings:
        assert set(settings) == set(_SETTINGS) | _OF_THE_BOARD
        for name, end in _SETTINGS.items():
            assert settings[name] == -1 or str(settings[name]) == wired[end], name
        used = [number for name, number in settings.items() if number >= 0 and name not in _OF_THE_BOARD]
        assert len(used) in (3, 6)
        assert len(set(used)) == len(used)
        for number in used:
            assert not by_number[number].why_not, number
        assert "BOOT" in by_number[settings["button"]].why_not
    signals = {end for end in wired if end in _SETTINGS.values()}
    assert signals == {_SETTINGS[name] for _, settings in board.settings for name in _SETTINGS if settings[name] >= 0}


@every_board
def test_page_has_the_settings(board: Board) -> None:
    words = " ".join(_PAGE.split())
    for _, settings in board.settings:
        assert f'"board": {json.dumps(settings)}' in words


def test_defaults_are_those_of_a_plain_esp32() -> None:
    text = (ROOT / "device" / "terminal" / "board" / "esp32.py").read_text(encoding="utf-8")
    defaults = {
        name: int(number) for name, number in re.findall(r'^    "(\w+)": \(int, (-?\d+)\),$', text, re.MULTILINE)
    }
    assert defaults.pop("mic_shift") == 0
    (esp32,) = [board for board in BOARDS if board.file == "esp32"]
    assert defaults == esp32.settings[0][1]
