"""``wisp device``: boards on this computer's serial ports."""

import typer

from .device_flash import flash, list_ports
from .device_provision import provision, remove

__all__ = ["commands"]

commands = typer.Typer(help="Boards: flash, provision, watch, and call through them.", no_args_is_help=True)
commands.command("list")(list_ports)
commands.command("flash")(flash)
commands.command("provision")(provision)
commands.command("remove")(remove)
