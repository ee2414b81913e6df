"""``wisp device provision`` and ``remove``: makes a board somebody's phone, and a bare board again."""

import contextlib
import copy
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, Progress, TextColumn

from ..device.configuration import SettingError, change, merged, of_account
from ..device.image import LinkError
from ..device.inventory import Inventory, check, look
from ..device.pins import of_machine
from ..device.port import DeviceError, GoneError, Prompt, prompt
from ..device.provisioning import BEFORE, Plan, install, plan
from ..device.provisioning import remove as remove_terminal
from ..device.starting import start
from ..store.accounts import Account, add_account, list_accounts, new_secret
from ..store.database import Store
from .console import (
    HERE,
    ConfigPath,
    check_neighbour,
    check_user,
    err,
    fail,
    load_config,
    open_store,
    out,
    printable,
    with_store,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..config import Config, SerialConfig

__all__ = ["provision", "remove"]

_PASSWORD = "WISP_WIFI_PASSWORD"  # noqa: S105  the name of an environment variable

PortArgument = Annotated[str, typer.Argument(help="The board's serial port, like /dev/ttyUSB0.")]


def provision(
    port: PortArgument,
    account: Annotated[str, typer.Option(help="Whose phone it is; a terminal's account, made where there is none.")],
    wifi: Annotated[
        str, typer.Option(help=f"The Wi-Fi network. Its password is asked for, or taken from ${_PASSWORD}.")
    ] = "",
    serial: Annotated[
        bool, typer.Option("--serial", help="No Wi-Fi: it calls over its USB cable; wisp.toml names the port, too.")
    ] = False,
    uart: Annotated[
        int,
        typer.Option(help="With --serial: the UART of the cable; -1: the chip's own USB.", min=-1, max=2),
    ] = 0,
    neighbour: Annotated[
        str, typer.Option(help="Where the board finds the neighbour, host:port; default: the first udp listener.")
    ] = "",
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="NAME=VALUE", help="A setting of wisp.json, like text=true; NAME= takes one away; often."
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    config: ConfigPath = HERE,
) -> None:
    """Make a board the phone of an account: program, configuration, secret; start it, and see it register.

    Run again, it changes what is to be changed and nothing else; settings of the board that are not named stay. It may
    be cut off anywhere and run again: the board has the old program until it has all of the new one.
    """
    own = load_config(config)
    _check_options(own, port, account, wifi, serial, neighbour)
    store = open_store(own)
    present = with_store(_account(store, account), store)
    if present is not None and not present.is_terminal:
        raise fail(f"{account}: is a phone's account; a board wants one of its own")
    try:
        columns = TextColumn("{task.description}"), BarColumn(), TextColumn("{task.percentage:>3.0f} %")
        with Progress(*columns, console=err, disable=not err.is_terminal) as bar:
            task = bar.add_task("looking at the board", total=1.0)

            def tell(done: float, what: str) -> None:
                bar.update(task, completed=0.05 + 0.75 * done, description=what)

            with _looking(port) as session:
                found = look(session)
                check(found, port)
                bar.update(task, completed=0.05, description="making the program")
                way = _way(bar, found, wifi, _serial_of(own, port) if serial else None, uart)
                known = present or Account(account, account, True, "0" * 64, None, 0)
                values = copy.deepcopy(merged(found.config, of_account(own, known, neighbour), way))
                if "board" not in values and (wired := of_machine(found.machine)):
                    values["board"] = wired
                for setting in settings or []:
                    change(values, setting)
                if not (values.get("wifi") or values.get("serial")):
                    raise fail("--wifi SSID, or --serial, is wanted: the board has neither yet")
                if dry_run:
                    made = plan(session, found, values)
                    bar.stop()
                    _tell_plan(port, found, made, present, own.domain, account)
                    session.restart()
                    return
                if present is None:
                    store = open_store(own)
                    present = with_store(add_account(store, own.domain, account, new_secret(), is_terminal=True), store)
                    values["ha1"] = present.ha1_sha256
                made = plan(session, found, values)
            if not made.is_empty:
                install(port, made, tell)
            bar.update(task, completed=0.8, description="starting it")
            if values.get("serial"):
                err.print("now start `wisp serve`, where it does not run: the port is the neighbour's", markup=False)
            store = open_store(own)
            seconds = with_store(start(store, port, account, values), store)
            bar.update(task, completed=1.0, description="registered")
    except (SettingError, LinkError) as error:
        raise fail(str(error)) from None
    except DeviceError as error:
        raise fail(printable(str(error)), status=1) from None
    parts = ["the program"] * (made.rom is not None) + [f"{len(made.put)} files"] * bool(made.put)
    changed = f"{' and '.join(parts)} written" if parts else "nothing to write"
    out.print(f"sip:{account}@{own.domain}: {found.firmware}; {changed}; registered in {seconds:.1f} s", markup=False)


@contextlib.contextmanager
def _looking(port: str) -> "Iterator[Prompt]":
    """A board's prompt; where nothing comes of it, what ran there is started again."""
    with prompt(port) as session:
        try:
            yield session
        except GoneError:
            raise
        except Exception:
            session.restart()
            raise


def _check_options(own: "Config", port: str, account: str, wifi: str, serial: bool, neighbour: str) -> None:
    """Refuse what can't be meant."""
    check_user(own, account, "--account")
    _refuse_console(own, port)
    if wifi and serial:
        raise fail("--wifi and --serial exclude each other")
    check_neighbour(neighbour)
    if serial and _serial_of(own, port) is None:
        raise fail(
            f"--serial: the neighbour does not listen on {port}. Add to its configuration, and start it again:",
            f'[[serial]]\nport = "{port}"\nconsole = "{account}"',
        )


def _refuse_console(own: "Config", port: str) -> None:
    """Refuse what is no port, but a console that the neighbour makes of one: the prompt is not to be had there."""
    for one in own.serial:
        if one.console and (own.base / one.console).absolute() == Path(port).absolute():
            raise fail(
                f"{port}: is the console of a port that the neighbour has: end `wisp serve`, and name {one.port}"
            )


def _serial_of(own: "Config", port: str) -> "SerialConfig | None":
    """What the neighbour's configuration says of a port."""
    return next((one for one in own.serial if Path(one.port).resolve() == Path(port).resolve()), None)


def _way(bar: Progress, found: Inventory, wifi: str, serial: "SerialConfig | None", uart: int) -> dict[str, Any]:
    """How the board reaches the neighbour: a part of its configuration, empty where that stays."""
    if serial is not None:
        return {"serial": {"uart": uart, "baud": serial.baud}}
    if not wifi:
        return {}
    known = found.config.get("wifi")
    known = known.get("password") if isinstance(known, dict) and known.get("ssid") == wifi else None
    password = os.environ.get(_PASSWORD)
    if password is None and sys.stdin.isatty():
        bar.stop()
        note = " (nothing: as the board has it)" if known is not None else " (nothing: an open network)"
        password = typer.prompt(f"password of {wifi}{note}", hide_input=True, default="", show_default=False)
        bar.start()
        if not password and known is not None:
            password = known
    if password is None:
        password = known
    if password is None:
        raise fail(f"--wifi {wifi}: its password is wanted in ${_PASSWORD}, which may be empty for an open network")
    return {"wifi": {"ssid": wifi, "password": password}}


async def _account(store: Store, user: str) -> Account | None:
    return next((one for one in await list_accounts(store) if one.user == user), None)


def _tell_plan(port: str, found: Inventory, made: Plan, present: Account | None, domain: str, user: str) -> None:
    out.print(f"{port}: {printable(found.firmware)}, {found.free_bytes // 1024} KiB of flash free", markup=False)
    aor = f"sip:{user}@{domain}"
    out.print(f"  {aor}: {'is there' if present else 'would be added, with a new secret'}", markup=False)
    if made.rom is not None:
        out.print(f"  would write the program into the ROMFS: {len(made.rom)} bytes", markup=False)
    for path, data in sorted(made.put.items()):
        would = "would be changed" if path in found.hashes else "would be written"
        out.print(f"  {path}: {would}, {len(data)} bytes", markup=False)
    for path in made.remove:
        out.print(f"  {printable(path)}: would be removed", markup=False)
    for path in made.others:
        out.print(f"  {path}: would be kept as {path}{BEFORE}", markup=False)
    out.print(f"  {len(made.same)} files would stay; {made.bytes} bytes to write", markup=False)


def remove(
    port: PortArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    config: ConfigPath = HERE,
) -> None:
    """Remove the terminal from a board, with its secrets. The account stays: `wisp account remove` takes it away.

    Flash memory keeps deleted files until they are written over: before you give a board away, `wisp device flash`.
    """
    if config.exists():
        _refuse_console(load_config(config), port)
    if not yes:
        if not sys.stdin.isatty():
            raise fail("--yes is wanted where nobody can be asked")
        typer.confirm(f"Remove the terminal on {port}, with its configuration and its keys?", abort=True)
    try:
        left = remove_terminal(port)
    except DeviceError as error:
        raise fail(printable(str(error)), status=1) from None
    out.print(f"{port}: the terminal is removed", markup=False)
    if left:
        out.print("its program is left in the ROMFS, without any secret: another image replaces it", markup=False)
