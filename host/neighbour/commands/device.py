"""``wisp device``: boards on this computer's serial ports."""

import typer

from . import device_provision

__all__ = ["commands"]

commands = typer.Typer(help="Boards: flash, provision, watch, and call through them.", no_args_is_help=True)
commands.command("provision")(device_provision.provision)
commands.command("remove")(device_provision.remove)
