"""Write the pictures to device/wiring: ``python tools/wiring``, in the project's folder, with its Python."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from wiring.boards import BOARDS
from wiring.picture import draw

__all__ = ["FOLDER", "main"]

FOLDER = Path(__file__).resolve().parent.parent.parent / "device" / "wiring"


def main() -> int:
    """Draw them all."""
    FOLDER.mkdir(exist_ok=True)
    for board in BOARDS:
        (FOLDER / f"{board.file}.svg").write_text(draw(board), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
