"""``wisp device``: boards on this computer's serial ports."""

import typer

from .device_calls import call
from .device_flash import flash, list_ports
from .device_live import console, info, monitor
from .device_provision import provision, remove
from .device_texts import text

__all__ = ["commands"]

commands = typer.Typer(help="Boards: flash, provision, watch, and call through them.", no_args_is_help=True)
commands.command("list")(list_ports)
for _command in (flash, provision, info, monitor, call, text, console, remove):
    commands.command()(_command)
