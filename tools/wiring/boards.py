"""Boards, their headers, and what of Wisp's hardware goes where.

The headers are those of Espressif's user guides (ESP32-DevKitC V4, ESP32-S3-DevKitC-1, ESP32-C3-DevKitM-1), seen with
the antenna up and the USB port down. Why a pin is to be left alone is told there and in the chips' data sheets:

    strapping   what it carries at reset decides how the chip starts
    input       it can't drive a wire
    flash       the module's flash or PSRAM hangs on it
    USB, UART   the console's
"""

from dataclasses import dataclass, field

from neighbour.device.pins import C3_MICROPHONE, PINS

__all__ = ["AMPLIFIER", "BOARDS", "MICROPHONE", "Board", "Pin", "Wire"]


@dataclass(frozen=True)
class Pin:
    """A pin of a board.

    Args:
        name: as it is printed on the board.
        gpio: its number, or -1.
        why_not: why it is left alone, or "".
    """

    name: str
    gpio: int = -1
    why_not: str = ""


@dataclass(frozen=True)
class Wire:
    """What is connected with one another.

    Args:
        kind: what it carries; `picture` knows a colour for each.
        pin: index of the board's pin in its left header; from the end of the right header where ``is_right``.
        ends: (module, pin) of each other end.
        is_right: whether it begins at the right header.
    """

    kind: str
    pin: int
    ends: tuple[tuple[str, str], ...]
    is_right: bool = False


@dataclass(frozen=True)
class Board:
    """A board and its wiring.

    Args:
        file: name of its picture, without suffix.
        title: its name.
        left, right: its headers.
        wires: what goes where.
        settings: `board` of wisp.json that fits, and what it is for; several where one can't do it all.
        notes: what the picture tells besides.
        marks: what else is on the board, at its lower end.
    """

    file: str
    title: str
    left: tuple[Pin, ...]
    right: tuple[Pin, ...]
    wires: tuple[Wire, ...]
    settings: tuple[tuple[str, dict[str, int]], ...]
    notes: tuple[str, ...]
    marks: tuple[str, ...] = field(default=())


MICROPHONE = ("INMP441", ("L/R", "WS", "SCK", "SD", "VDD", "GND"))
AMPLIFIER = ("MAX98357A", ("LRC", "BCLK", "DIN", "GAIN", "SD", "GND", "VIN"))


def _pins(text: str, whys: dict[int, str]) -> tuple[Pin, ...]:
    """Pins by their names; a name of digits alone is its GPIO number, else that stands behind ``=``."""
    pins = []
    for word in text.split():
        name, _, number = word.partition("=")
        gpio = int(number or (name if name.isdigit() else -1))
        pins.append(Pin(name, gpio, whys.get(gpio, "") if gpio >= 0 else ""))
    return tuple(pins)


def _index(pins: tuple[Pin, ...], name: str, count: int = 0) -> int:
    """Where a pin is; the ``count``-th of that name."""
    return [index for index, pin in enumerate(pins) if pin.name == name][count]


def _wires(left: tuple[Pin, ...], names: dict[str, str], ground: int) -> list[Wire]:
    """The wires that start at the left header: power, ground, and signals by ``names``, kind to printed name."""
    ends: dict[str, tuple[tuple[str, str], ...]] = {
        "mic clock": (("mic", "SCK"),),
        "mic word": (("mic", "WS"),),
        "mic data": (("mic", "SD"),),
        "amp clock": (("amp", "BCLK"),),
        "amp word": (("amp", "LRC"),),
        "amp data": (("amp", "DIN"),),
        "clock": (("mic", "SCK"), ("amp", "BCLK")),
        "word": (("mic", "WS"), ("amp", "LRC")),
    }
    wires = [
        Wire("3V3", _index(left, "3V3"), (("mic", "VDD"),)),
        Wire("5V", _index(left, "5V"), (("amp", "VIN"),)),
        Wire("GND", _index(left, "GND", ground), (("mic", "GND"), ("mic", "L/R"), ("amp", "GND"))),
    ]
    return wires + [Wire(kind, _index(left, name), ends[kind]) for kind, name in names.items()]


_INPUT = "input only"
_STRAP = "strapping"
_FLASH = "flash"
_UART = "UART console"

_ESP32_WHY = {
    **dict.fromkeys((36, 39, 34, 35), _INPUT),
    **dict.fromkeys((5, 12, 15), _STRAP),
    **dict.fromkeys((6, 7, 8, 9, 10, 11), _FLASH),
    **dict.fromkeys((16, 17), "PSRAM of a WROVER"),
    **dict.fromkeys((1, 3), _UART),
    0: "BOOT: the button",
    2: "strapping: the lamp",
}
_ESP32_LEFT = _pins("3V3 EN VP=36 VN=39 34 35 32 33 25 26 27 14 12 GND 13 D2=9 D3=10 CMD=11 5V", _ESP32_WHY)
_ESP32_RIGHT = _pins("GND 23 22 TX=1 RX=3 21 GND 19 18 5 17 16 4 0 2 15 D1=8 D0=7 CLK=6", _ESP32_WHY)

_S3_WHY = {
    **dict.fromkeys((3, 45, 46), _STRAP),
    **dict.fromkeys((35, 36, 37), "octal PSRAM"),
    **dict.fromkeys((43, 44), _UART),
    **dict.fromkeys((19, 20), "USB"),
    0: "BOOT: the button",
    38: "RGB lamp (v1.1)",
    48: "RGB lamp (v1.0)",
}
_S3_LEFT = _pins("3V3 3V3 RST 4 5 6 7 15 16 17 18 8 3 46 9 10 11 12 13 14 5V GND", _S3_WHY)
_S3_RIGHT = _pins("GND TX=43 RX=44 1 2 42 41 40 39 38 37 36 35 0 45 48 47 21 20 19 GND GND", _S3_WHY)

_C3_WHY = {
    2: _STRAP,
    8: "strapping: RGB lamp",
    9: "BOOT: the button",
    **dict.fromkeys((20, 21), _UART),
    **dict.fromkeys((18, 19), "USB"),
}
_C3_LEFT = _pins("GND 3V3 3V3 2 3 GND RST GND 0 1 10 GND 5V 5V GND", _C3_WHY)
_C3_RIGHT = _pins("GND TX=21 RX=20 GND 9 8 GND 7 6 5 4 GND 18 19 GND", _C3_WHY)

BOARDS = (
    Board(
        "esp32",
        "ESP32-DevKitC V4",
        _ESP32_LEFT,
        _ESP32_RIGHT,
        (
            *_wires(
                _ESP32_LEFT,
                {"mic clock": "32", "mic word": "25", "mic data": "33", "amp clock": "26", "amp word": "27"},
                0,
            ),
            Wire("amp data", _index(_ESP32_RIGHT, "22"), (("amp", "DIN"),), is_right=True),
        ),
        (("microphone and speaker", PINS["ESP32"]),),
        (
            'These pins are the defaults: wisp.json needs no "board".',
            "Lamp: many copies of the board have one at GPIO 2, Espressif's has none: 330 \u03a9 and an LED to GND.",
        ),
        ("EN (reset)", "BOOT (button)"),
    ),
    Board(
        "esp32-s3",
        "ESP32-S3-DevKitC-1",
        _S3_LEFT,
        _S3_RIGHT,
        tuple(
            _wires(
                _S3_LEFT,
                {
                    "mic clock": "5",
                    "mic word": "4",
                    "mic data": "6",
                    "amp clock": "16",
                    "amp word": "15",
                    "amp data": "17",
                },
                0,
            )
        ),
        (("microphone and speaker", PINS["ESP32S3"]),),
        (
            "Lamp: the board's own is an RGB one, which Wisp does not drive. For one of yours: 330 \u03a9 and "
            'an LED from GPIO 21 to GND, "led": 21.',
        ),
        ("BOOT (button)", "RST"),
    ),
    Board(
        "esp32-c3",
        "ESP32-C3-DevKitM-1",
        _C3_LEFT,
        _C3_RIGHT,
        tuple(_wires(_C3_LEFT, {"mic data": "3", "clock": "0", "word": "1", "amp data": "10"}, 1)),
        (("speaker", PINS["ESP32C3"]), ("microphone", C3_MICROPHONE)),
        (
            "One I2S unit: microphone or speaker, as wisp.json says. Both may stay wired, with the same clocks.",
            'A SuperMini has the same GPIO numbers in another order, and an LED at GPIO 8, lit when low: "led": -1.',
        ),
        ("BOOT (button)", "RST"),
    ),
)
