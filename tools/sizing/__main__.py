"""What is installed on a board, and what it takes there; see ``tools/sizes``."""

import argparse
import sys
import tempfile
from pathlib import Path

from debian import UnavailableError
from find_micropython import find
from lab.processes import LabError
from neighbour.device.image import LinkError

from .measure import measure
from .record import RECORD, differences, read, write

__all__ = ["main"]


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="tools/sizes", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; fail where the record is wrong")
    options = parser.parse_args()
    try:
        with tempfile.TemporaryDirectory(prefix="wisp-sizes-") as folder:
            sizes = measure(Path(folder), find(32))
    except (LabError, LinkError, UnavailableError) as error:
        print(f"sizes: {error}", file=sys.stderr)
        return 1
    wrong, named = differences(read(), sizes) if RECORD.exists() else (["there is no record yet"], [])
    for line in wrong + named:
        print(f"sizes: {line}")
    if options.check:
        return int(bool(wrong))
    write(sizes)
    return 0


if __name__ == "__main__":
    sys.exit(main())
