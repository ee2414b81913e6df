"""Build the terminal's image: what a device without frozen code is given, small enough for its heap.

    python tools/image.py DIR              terminal/ and sipwire/ as .mpy files, ready for a device's file system
    python tools/image.py --rom FILE DIR   and all of it as one ROMFS image, for a device that keeps code in flash

`neighbour.device.image` tells what is in it. DIR.names says what is what, to read a traceback by.
"""

import argparse
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
sys.path[1:1] = [str(_ROOT / "shared"), str(_ROOT / "host")]

from neighbour.device.image import build, build_rom  # noqa: E402  found just now
from neighbour.device.linking.linker import link  # noqa: E402
from neighbour.device.sources import LinkError  # noqa: E402


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="where to put it; what is there is replaced")
    parser.add_argument("--rom", type=Path, metavar="FILE", help="also write it as a ROMFS image")
    parser.add_argument("--source", action="store_true", help="print the linked source instead")
    options = parser.parse_args()
    try:
        if options.source:
            print("".join(link().sources.values()), end="")
        else:
            build(options.folder)
            if options.rom:
                build_rom(options.folder, options.rom)
    except LinkError as error:
        print(f"image: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
