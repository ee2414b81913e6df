"""Where the terminal's modules lie, and which of them a device is given as what."""

from pathlib import Path

import sipwire

__all__ = [
    "APART",
    "ENTRY",
    "FILES",
    "KEPT",
    "LinkError",
    "NATIVE",
    "ON_DEMAND",
    "PART",
    "PARTS",
    "ROOTS",
    "WITHIN",
    "exists",
    "is_apart",
    "module_path",
]


def _roots() -> tuple[Path, Path]:
    """The folders that have `sipwire` and `terminal`: those of a clone, or those that an installation brings along."""
    package = Path(__file__).resolve().parent
    clone = package.parents[2] / "device"
    return Path(sipwire.__file__).resolve().parent.parent, clone if clone.is_dir() else package / "board"


#: In which modules are looked for; the last has what a board runs at its start, too.
ROOTS: tuple[Path, ...] = _roots()
#: The module that everything is linked from.
ENTRY = "terminal.app"
KEPT = ("run", "main", "Terminal")  # what others import from the entry
# The linked program is loaded in parts. What loading leaves behind is garbage in small pieces between the functions,
# where small things of the next part find room; else that takes 9 KB out of the largest free piece of heap.
PART = "terminal.part"
PARTS = 2
# Loaded for a moment now and then (`terminal.demand`), so not linked with the rest.
ON_DEMAND = (
    "terminal.accepting",
    "terminal.answering",
    "terminal.asides",
    "terminal.asking",
    "terminal.called",
    "terminal.calling",
    "terminal.changing",
    "terminal.commands",
    "terminal.config",
    "terminal.connecting",
    "terminal.conversation",
    "terminal.dating",
    "terminal.digits",
    "terminal.hearsay",
    "terminal.introductions",
    "terminal.offering",
    "terminal.parting",
    "terminal.proof",
    "terminal.registering",
    "terminal.revoking",
    "terminal.ringing",
    "terminal.serial",
    "terminal.settling",
    "terminal.speech",
    "terminal.status",
    "terminal.stream",
    "terminal.arranging",
    "terminal.reports",
    "terminal.texting",
    "terminal.timing",
    "terminal.unprotected",
    "terminal.vouching",
)
# What is only loaded while another one is that it needs, and which comes before it above.
WITHIN = {"terminal.arranging": "terminal.stream", "terminal.reports": "terminal.stream"}
# Never linked: picked at run time, or native code for one architecture.
APART = ("sipwire.viper", "sipwire.plain", "terminal.board", "terminal.settings", "terminal.wlan")
# What stays apart, and what that imports.
FILES = (
    "sipwire",
    "sipwire.plain",
    "terminal",
    "terminal.__main__",
    "terminal.board",
    "terminal.board.console",
    "terminal.board.emulator",
    "terminal.board.esp32",
    "terminal.board.starting",
    "terminal.board.uart",
    "terminal.wlan",
    "terminal.events",
    "terminal.settings",
)
NATIVE = "sipwire.viper"


class LinkError(Exception):
    """The image can't be built: mostly something in the sources that the linker does not understand."""


def module_path(module: str) -> Path:
    """Where a module's source is.

    Raises:
        LinkError: there is no such module.
    """
    for source in ROOTS:
        base = source / module.replace(".", "/")
        for path in (base.with_suffix(".py"), base / "__init__.py"):
            if path.exists():
                return path
    raise LinkError(f"{module}: not found")


def exists(module: str) -> bool:
    """Whether there is such a module of ours."""
    try:
        module_path(module)
    except LinkError:
        return False
    return True


def is_apart(module: str) -> bool:
    """Whether a module stays a file of its own."""
    return any(module == name or module.startswith(name + ".") for name in APART)
