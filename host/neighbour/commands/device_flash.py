"""``wisp device flash`` and ``list``: MicroPython on a board, and what is on which port."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from ..device import flashing, ports
from ..device.firmware import Firmware
from ..device.port import DeviceError
from .console import CONFIG_NAME, err, fail, out, print_table, printable

if TYPE_CHECKING:
    from rich.progress import TaskID

__all__ = ["flash", "list_ports"]

_MIN_BAUD = 9600
_MAX_BAUD = 3_000_000  # no adapter does more


def flash(
    port: Annotated[str, typer.Argument(help="The board's serial port, as `wisp device list` names it.")],
    firmware: Annotated[
        Path, typer.Option(help="The .bin for this board, from https://micropython.org/download/.", show_default=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Erase without asking.")] = False,
    baud: Annotated[
        int, typer.Option(min=_MIN_BAUD, max=_MAX_BAUD, help="How fast to write; less for a poor cable.")
    ] = flashing.FLASH_BAUD,
) -> None:
    """Erase a board, and write MicroPython's firmware on it.

    Everything on the board is lost: its firmware and its files, a terminal's account and keys among them. Before that,
    the file is looked at, the chip is recognised, and you are asked. Afterwards what was written is verified, and the
    board started. If no chip answers, hold the board's BOOT button while you plug it in.
    """
    if not yes and not sys.stdin.isatty():
        raise fail("nothing has been erased: --yes is wanted where nobody can be asked")
    try:
        image = Firmware.read(firmware)
        with err.status(f"looking at {port}", spinner="line"), flashing.identified(port) as chip:
            flashing.check(image, chip)
        _flash(port, image, chip, baud, is_sure=yes)
    except DeviceError as error:
        raise fail(printable(str(error)), status=1) from None


def _flash(port: str, image: Firmware, chip: flashing.Chip, baud: int, *, is_sure: bool) -> None:
    size = f", {chip.flash / (1 << 20):g} MB of flash" if chip.flash is not None else ""
    out.print(f"{port}: {chip.model}{size}{f', {chip.mac}' if chip.mac else ''}", markup=False)
    version = printable(image.version) if image.version else "MicroPython"
    out.print(f"{image.path}: {version}, for {image.chip}, {image.size / (1 << 20):.1f} MB", markup=False)
    if not is_sure:
        question = "Everything on the board will be erased: firmware, files, a terminal's account and keys. Go on?"
        try:
            is_sure = typer.confirm(question)
        except typer.Abort:
            out.print()
        if not is_sure:
            flashing.let_go(port)
            raise fail("nothing has been erased", status=1)
    columns = TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), TimeElapsedColumn()
    with Progress(*columns, console=err, transient=True) as progress:
        shown = progress.add_task("connecting", total=None)
        flashing.write(port, image, chip, baud, _teller(progress, shown))
        progress.update(shown, description="starting")
        started = flashing.greet(
            port,
            lambda: progress.console.print(
                f"{port}: written and verified; if the board does not start by itself, press its reset button (EN)",
                markup=False,
            ),
        )
    version, machine = map(printable, started)
    out.print(f"{port}: MicroPython {version} on {machine} is ready", markup=False)
    out.print(f"next: wisp device provision {port} --account USER --wifi NETWORK --config FOLDER", markup=False)


def _teller(progress: Progress, shown: "TaskID") -> flashing.Progress:
    """What shows how writing goes."""
    steps: list[str] = []

    def tell(step: str, share: float | None) -> None:
        if steps[-1:] != [step]:
            steps.append(step)
            if not progress.console.is_terminal:
                progress.console.print(step, markup=False)
        if share is None:
            progress.update(shown, description=step)
        else:
            progress.update(shown, description=step, total=1.0, completed=share)

    return tell


def list_ports(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[PORT]...", help="Look at these ports; default: all on USB.")
    ] = None,
    ask: Annotated[
        bool,
        typer.Option(
            "--ask",
            help="Type `status` on each port, and tell what answers; calls go on. With some adapters "
            "opening the port restarts the board.",
        ),
    ] = False,
    every: Annotated[bool, typer.Option("--all", help="Ports that are not on USB, too.")] = False,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="A neighbour's configuration (or its folder): its ports, too.")
    ] = None,
) -> None:
    """Tell which serial ports there are, and what is on them.

    Without --ask no port is opened, so nothing on a board is disturbed.
    """
    if config is not None and config.is_dir():
        config /= CONFIG_NAME
    try:
        found = ports.find(names or (), config, every=every)
    except DeviceError as error:
        raise fail(printable(str(error))) from None
    if not found:
        raise fail(
            "no serial ports" if every else "no serial ports on USB (--all shows others)",
            "is a board plugged in, with a cable that carries data and not only power?",
            "on Linux, `dmesg | tail` tells what the kernel made of it; in a container, the port has to be passed on",
            status=1,
        )
    columns = ["port", "what", *(["answers"] if ask else []), *(["wisp serve"] if config is not None else [])]
    table = Table(*columns, box=None)
    for one in found:
        row = [printable(one.name), printable(one.what)]
        if ask:
            row.append(printable(ports.ask(one)) if one.what != ports.ABSENT else "")
        if config is not None:
            row.append(printable(one.console))
        table.add_row(*row)
    print_table(table)
