"""Draws a board's wiring as SVG.

    microphone |         | left          right |
               |  lanes  | header board header |   why a pin is left alone
    amplifier  |         |                     |
    and speaker

Each wire has a lane of its own, an upright line between the modules and the board; from there level lines lead to its
ends. Which lane it gets is what makes the fewest crossings. A wire of the right header goes over the board.
"""

from itertools import combinations
from xml.sax.saxutils import escape

from .boards import AMPLIFIER, MICROPHONE, Board, Pin, Wire

__all__ = ["draw"]

_WIDTH = 940
_PITCH = 24  # between two pins
_TOP = 92  # of the board
_HEAD, _FOOT = 56, 84  # of the board, above and below its pins
_BOARD_X, _BOARD_WIDTH = 560, 330
_MODULE_X, _MODULE_WIDTH = 90, 150
_LANES_FROM, _LANES_TO = 340, 530
_GAP = 38  # between two modules; with the head a multiple of the pitch
_MODULE_HEAD = 34
_NOTE = 20

#: Colour and word of what a wire carries.
_KINDS = {
    "3V3": ("#e65100", "3.3 V"),
    "5V": ("#c62828", "5 V"),
    "GND": ("#212121", "ground"),
    "mic clock": ("#1565c0", "microphone: clock"),
    "mic word": ("#2e7d32", "microphone: word select"),
    "mic data": ("#6a1b9a", "microphone: data"),
    "amp clock": ("#0097a7", "amplifier: clock"),
    "amp word": ("#7cb342", "amplifier: word select"),
    "amp data": ("#d81b60", "amplifier: data"),
    "clock": ("#1565c0", "clock of both"),
    "word": ("#2e7d32", "word select of both"),
}

_Point = tuple[float, float]


class _Canvas:
    """What has been drawn so far, in layers: the later ones cover the earlier ones."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def rect(
        self, x: float, y: float, width: float, height: float, fill: str, stroke: str = "none", radius: int = 0
    ) -> None:
        self._parts.append(
            f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{radius}" '
            f'fill="{fill}" stroke="{stroke}"/>'
        )

    def line(self, points: list[_Point], colour: str, width: float = 3) -> None:
        path = " ".join(f"{x:g},{y:g}" for x, y in points)
        self._parts.append(
            f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{width:g}" '
            'stroke-linejoin="round" stroke-linecap="round"/>'
        )

    def dot(self, x: float, y: float, radius: float, fill: str, stroke: str = "none") -> None:
        self._parts.append(f'<circle cx="{x:g}" cy="{y:g}" r="{radius:g}" fill="{fill}" stroke="{stroke}"/>')

    def text(
        self,
        x: float,
        y: float,
        words: str,
        size: int = 13,
        fill: str = "#212121",
        anchor: str = "start",
        weight: str = "normal",
    ) -> None:
        self._parts.append(
            f'<text x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{escape(words)}</text>'
        )

    def svg(self, height: float, title: str) -> str:
        """All of it."""
        return "\n".join(
            [
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:g}" width="{_WIDTH}" '
                f'height="{height:g}" font-family="DejaVu Sans, Verdana, Arial, sans-serif" role="img">',
                f"<title>{escape(title)}</title>",
                *self._parts,
                "</svg>",
                "",
            ]
        )


def _pin_y(index: int) -> float:
    return _TOP + _HEAD + _PITCH * index


def _module_ys(board: Board) -> dict[tuple[str, str], float]:
    """The heights of the modules' pins: both in the middle beside the board, and half-way between two of its pins."""
    sizes = [_MODULE_HEAD + _PITCH * len(pins) for _, pins in (MICROPHONE, AMPLIFIER)]
    middle = _TOP + (_HEAD + _FOOT + _PITCH * max(len(board.left), len(board.right))) / 2
    y = max(_TOP, middle - (sum(sizes) + _GAP) / 2)
    y -= (y + _MODULE_HEAD - _pin_y(0)) % _PITCH
    found = {}
    for name, (_, pins), size in zip(("mic", "amp"), (MICROPHONE, AMPLIFIER), sizes, strict=True):
        for index, pin in enumerate(pins):
            found[name, pin] = y + _MODULE_HEAD + _PITCH * index + _PITCH / 2
        y += size + _GAP
    return found


def _start(wire: Wire) -> float:
    """At which height a wire comes from the board."""
    return _TOP - 22 if wire.is_right else _pin_y(wire.pin)


def _crossings(wires: tuple[Wire, ...], order: list[int], ys: dict[tuple[str, str], float]) -> int:
    """How often wires cross; those that leave the board at one height too near another count as well."""
    count = 0
    for one, other in combinations(range(len(order)), 2):
        left, right = wires[order[one]], wires[order[other]]
        # The left one's way to the board crosses the right one's upright line, whose ends cross that of the left one.
        heights = [ys[end] for end in right.ends]
        low, high = min([*heights, _start(right)]), max([*heights, _start(right)])
        count += low < _start(left) < high
        heights_left = [ys[end] for end in left.ends]
        low, high = min([*heights_left, _start(left)]), max([*heights_left, _start(left)])
        count += sum(low < height < high for height in heights)
    return count


def _lanes(wires: tuple[Wire, ...], ys: dict[tuple[str, str], float]) -> list[int]:
    """The wires from the left lane to the right one; what two wires gain by changing places is taken until none do."""
    order = sorted(range(len(wires)), key=lambda index: _start(wires[index]))
    best = _crossings(wires, order, ys)
    is_better = True
    while is_better:
        is_better = False
        for one, other in combinations(range(len(order)), 2):
            tried = list(order)
            tried[one], tried[other] = tried[other], tried[one]
            count = _crossings(wires, tried, ys)
            if count < best:
                order, best, is_better = tried, count, True
    return order


def _draw_wires(canvas: _Canvas, board: Board, ys: dict[tuple[str, str], float]) -> None:
    order = _lanes(board.wires, ys)
    step = (_LANES_TO - _LANES_FROM) / (len(order) - 1)
    module_edge = _MODULE_X + _MODULE_WIDTH
    right_edge = _BOARD_X + _BOARD_WIDTH
    for position, index in enumerate(order):
        wire = board.wires[index]
        colour = _KINDS[wire.kind][0]
        x = _LANES_FROM + step * position
        start = _start(wire)
        to_board: list[_Point] = [(x, start), (_BOARD_X, start)]
        if wire.is_right:
            to_board = [(x, start), (right_edge + 14, start), (right_edge + 14, _pin_y(wire.pin))]
            to_board.append((right_edge, _pin_y(wire.pin)))
        heights = sorted([start, *(ys[end] for end in wire.ends)])
        lines = [to_board, [(x, heights[0]), (x, heights[-1])]]
        lines += [[(module_edge, ys[end]), (x, ys[end])] for end in wire.ends]
        for width, paint in ((7.0, "#ffffff"), (3.0, colour)):
            for line in lines:
                canvas.line(line, paint, width)
        for height in heights[1:-1]:
            canvas.dot(x, height, 5, colour)
        pin = (board.right if wire.is_right else board.left)[wire.pin]
        for end in wire.ends:
            where = f"GPIO {pin.gpio}" if pin.gpio >= 0 else pin.name
            canvas.rect(module_edge + 11, ys[end] - 9, 12 + 7.4 * len(where), 18, "#ffffff", colour, 9)
            canvas.text(module_edge + 17 + 3.7 * len(where), ys[end] + 4, where, 11, colour, "middle", "bold")


def _draw_header(canvas: _Canvas, board: Board, *, is_right: bool) -> None:
    used = {wire.pin for wire in board.wires if wire.is_right == is_right}
    edge = _BOARD_X + (_BOARD_WIDTH if is_right else 0)
    inwards = -1 if is_right else 1
    for index, pin in enumerate(board.right if is_right else board.left):
        y = _pin_y(index)
        _draw_pin(canvas, edge, y, "#ffd54f")
        is_bold = index in used
        colour = "#ffffff" if is_bold else "#ffcc80" if pin.why_not else "#b0bec5"
        canvas.text(
            edge + inwards * 14,
            y + 4,
            _words(pin),
            12,
            colour,
            "end" if is_right else "start",
            "bold" if is_bold else "normal",
        )


def _words(pin: Pin) -> str:
    words = pin.name if pin.gpio < 0 or pin.name == str(pin.gpio) else f"{pin.name} = {pin.gpio}"
    return f"{words}  ({pin.why_not})" if pin.why_not else words


def _draw_pin(canvas: _Canvas, x: float, y: float, colour: str) -> None:
    canvas.rect(x - 6, y - 6, 12, 12, colour, "#8d6e63", 2)
    canvas.dot(x, y, 3, "#5d4037")


def _draw_board(canvas: _Canvas, board: Board) -> float:
    """Returns its lower end."""
    count = max(len(board.left), len(board.right))
    height = _HEAD + _FOOT + _PITCH * (count - 1)
    middle = _BOARD_X + _BOARD_WIDTH / 2
    canvas.rect(_BOARD_X, _TOP, _BOARD_WIDTH, height, "#263238", "#102027", 10)
    canvas.rect(middle - 62, _TOP + 8, 124, 26, "#eceff1", "#90a4ae", 3)
    canvas.text(middle, _TOP + 25, "antenna", 11, "#546e7a", "middle")
    canvas.rect(middle - 30, _TOP + height - 26, 60, 34, "#cfd8dc", "#78909c", 4)
    canvas.text(middle, _TOP + height - 5, "USB", 11, "#37474f", "middle", "bold")
    for x, mark in zip((_BOARD_X + 62, _BOARD_X + _BOARD_WIDTH - 62), board.marks, strict=True):
        canvas.dot(x, _TOP + height - 34, 9, "#eceff1", "#78909c")
        canvas.text(x, _TOP + height - 11, mark, 11, "#eceff1", "middle")
    _draw_header(canvas, board, is_right=False)
    _draw_header(canvas, board, is_right=True)
    return _TOP + height + 12


def _draw_modules(canvas: _Canvas, ys: dict[tuple[str, str], float]) -> float:
    """Returns their lower end."""
    bottom = 0.0
    unused = {("amp", "GAIN"): "free: 9 dB", ("amp", "SD"): "free: on"}
    for name, (title, pins), colour, what in (
        ("mic", MICROPHONE, "#4527a0", "microphone"),
        ("amp", AMPLIFIER, "#00695c", "amplifier"),
    ):
        top = ys[name, pins[0]] - _PITCH / 2 - _MODULE_HEAD
        bottom = ys[name, pins[-1]] + _PITCH / 2 + 4
        canvas.rect(_MODULE_X, top, _MODULE_WIDTH, bottom - top, colour, "#212121", 10)
        canvas.text(_MODULE_X + 12, top + 22, title, 14, "#ffffff", "start", "bold")
        canvas.text(_MODULE_X + 12, top + 44, what, 11, "#e0e0e0")
        for pin in pins:
            y = ys[name, pin]
            _draw_pin(canvas, _MODULE_X + _MODULE_WIDTH, y, "#ffd54f")
            canvas.text(_MODULE_X + _MODULE_WIDTH - 14, y + 4, pin, 12, "#ffffff", "end", "bold")
            if (name, pin) in unused:
                canvas.text(_MODULE_X + _MODULE_WIDTH + 14, y + 4, unused[name, pin], 11, "#757575")
    _draw_sound(canvas, ys)
    return bottom


def _draw_sound(canvas: _Canvas, ys: dict[tuple[str, str], float]) -> None:
    """The hole of the microphone, and the speaker beside the amplifier."""
    canvas.dot(_MODULE_X + 34, ys["mic", "SD"], 12, "#ffd54f", "#212121")
    canvas.dot(_MODULE_X + 34, ys["mic", "SD"], 3, "#212121")
    for sign, pin in (("+", "GAIN"), ("\u2212", "SD")):
        y = ys["amp", pin]
        canvas.line([(_MODULE_X, y), (52, y)], "#616161")
        canvas.rect(_MODULE_X - 6, y - 7, 12, 14, "#66bb6a", "#1b5e20", 2)
        canvas.text(_MODULE_X + 14, y + 5, sign, 15, "#ffffff", "start", "bold")
    y = (ys["amp", "GAIN"] + ys["amp", "SD"]) / 2
    canvas.rect(38, y - 18, 16, 36, "#bdbdbd", "#424242", 2)
    canvas.line([(38, y - 18), (14, y - 38), (14, y + 38), (38, y + 18)], "#424242", 2)
    canvas.text(14, y + 56, "speaker", 11, "#424242")
    canvas.text(14, y + 70, "4 to 8 \u03a9", 11, "#424242")


def _draw_legend(canvas: _Canvas, board: Board, y: float) -> float:
    """Returns its lower end."""
    kinds = [kind for kind in _KINDS if any(wire.kind == kind for wire in board.wires)]
    column = 226
    for index, kind in enumerate(kinds):
        colour, words = _KINDS[kind]
        x, line = 24 + column * (index % 4), y + 22 * (index // 4)
        canvas.line([(x, line), (x + 30, line)], colour, 4)
        canvas.text(x + 40, line + 4, words, 12)
    y += 22 * ((len(kinds) + 3) // 4) + 8
    for note in board.notes:
        canvas.text(24, y + 8, note, 12, "#424242")
        y += _NOTE
    return y + 8


def draw(board: Board) -> str:
    """The picture of a board's wiring, as SVG."""
    canvas = _Canvas()
    ys = _module_ys(board)
    title = f"{board.title} with an INMP441 microphone and a MAX98357A amplifier"
    layers = _Canvas()
    _draw_wires(layers, board, ys)
    lower = max(_draw_board(layers, board), _draw_modules(layers, ys))
    height = _draw_legend(layers, board, lower + 30)
    canvas.rect(0, 0, _WIDTH, height, "#ffffff", "#cfd8dc", 8)
    canvas.text(24, 36, title, 18, weight="bold")
    return canvas.svg(height, title).replace("</svg>\n", layers.svg(height, title).split("</title>\n", 1)[1])
