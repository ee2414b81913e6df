"""Write device/package.json and shared/package.json, by which `mpremote mip install` puts the terminal onto a board.

    python tools/package.py            writes them
    python tools/package.py --check    says by its exit status whether they are what the sources want

They name the sources one by one, relative to themselves, and `mip` takes them from where it has taken the package: a
checkout, or a forge. They are two since `mip` makes an address of the two by putting a slash between, and what a server
makes of one with ``..`` in it is its own affair.

`mip` can't link, as `tools/image.py` does, and sources take far more heap: this is for boards with PSRAM.
"""

import argparse
import ast
import json
import sys
from pathlib import Path

__all__ = ["PACKAGES", "package"]

_ROOT = Path(__file__).resolve().parent.parent

#: What is in a package, by the folder that its package.json is in: files, and packages of Python.
PACKAGES = {"device": ("boot.py", "main.py", "terminal"), "shared": ("sipwire",)}


def _version() -> str:
    tree = ast.parse((_ROOT / "shared" / "sipwire" / "__init__.py").read_text(encoding="utf-8"))
    [version] = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__version__"
    ]
    return str(version)


def package(folder: str) -> str:
    """The text of a folder's package.json: where each file goes, and where it is, which is the same."""
    base = _ROOT / folder
    paths = []
    for name in PACKAGES[folder]:
        found = sorted((base / name).rglob("*.py")) if (base / name).is_dir() else [base / name]
        paths += [path.relative_to(base).as_posix() for path in found]
    lines = ",\n".join(f"    {json.dumps([path, path])}" for path in paths)
    return f'{{\n  "urls": [\n{lines}\n  ],\n  "version": {json.dumps(_version())}\n}}\n'


def main() -> int:
    """Write them, or look."""
    parser = argparse.ArgumentParser(description="Write device/package.json and shared/package.json.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit status 1 where one is not up to date")
    checks = parser.parse_args().check
    stale = False
    for folder in PACKAGES:
        path = _ROOT / folder / "package.json"
        if path.exists() and path.read_text(encoding="utf-8") == package(folder):
            continue
        if checks:
            print(f"{folder}/package.json is not what the sources want: run tools/package.py", file=sys.stderr)
            stale = True
        else:
            path.write_text(package(folder), encoding="utf-8")
    return int(stale)


if __name__ == "__main__":
    sys.exit(main())
