"""What the commands share: how they read the configuration, speak, and fail."""

import asyncio
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from ..config import Config, ConfigError, domain_name, load, parse_address, user_name
from ..store.database import Store, StoreError, migrate

__all__ = [
    "CONFIG_NAME",
    "HERE",
    "ConfigPath",
    "check_neighbour",
    "check_user",
    "err",
    "domain_argument",
    "fail",
    "load_config",
    "open_store",
    "out",
    "print_table",
    "printable",
    "read_secret",
    "run",
    "told",
    "with_store",
]

_Result = TypeVar("_Result")
_MISTAKE = 2  # exit status for what the person can mend; 1 is for what went wrong
_PIPE_WIDTH = 500  # who reads a table from a pipe wants whole names

CONFIG_NAME = "wisp.toml"
HERE = Path(CONFIG_NAME)
ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", help="The configuration, or the folder it is in.", show_default=True)
]
out = Console(highlight=False, soft_wrap=True, emoji=False)
err = Console(highlight=False, soft_wrap=True, emoji=False, stderr=True)


def fail(*lines: str, status: int = _MISTAKE) -> typer.Exit:
    """Print lines to standard error; raise what comes back."""
    for line in lines:
        err.print(line, markup=False)
    return typer.Exit(status)


def load_config(path: Path) -> Config:
    """Read the configuration of a file, or of the folder it is in.

    Raises:
        typer.Exit: it can't be used; the mistakes have been told.
    """
    if path.is_dir():
        path /= CONFIG_NAME
    if path == HERE and not path.exists():
        raise fail(f"{path}: is not here; name a configuration or its folder, or make one with `wisp init`")
    try:
        return load(path)
    except ConfigError as error:
        raise fail(*error.mistakes) from None


def check_user(config: Config, user: str, missing: str) -> None:
    """See that a user's account may have this name.

    Args:
        config: the neighbour's.
        user: the name.
        missing: what to call it where it is empty.

    Raises:
        typer.Exit: it may not; it has been told why.
    """
    try:
        user_name(user)
    except ValueError as error:
        raise fail(f"{user or missing}: {error}") from None
    if config.group_of(user) is not None:
        raise fail(f"{user}: is a group of the configuration; an account has another name")


def check_neighbour(address: str) -> None:
    """See that ``--neighbour`` is an address; "" where it was not given.

    Raises:
        typer.Exit: it is none; it has been told why.
    """
    try:
        if address:
            parse_address(address)
    except ValueError as error:
        raise fail(f"--neighbour {address}: {error}") from None


def run(work: Coroutine[None, None, _Result]) -> _Result:
    """Run a coroutine, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def open_store(config: Config) -> Store:
    """The store, made or migrated where that has to be; `with_store` opens it.

    Raises:
        typer.Exit: it can't be used; it has been told why.
    """
    try:
        migrate(config.store_url)
        return Store(config.store_url)
    except StoreError as error:
        raise fail(f"{config.where('store', 'url')}: {error}") from None


def with_store(work: Coroutine[None, None, _Result], store: Store) -> _Result:
    """Run a coroutine while a store is open.

    Raises:
        typer.Exit: the store failed; it has been told why.
    """

    async def opened() -> _Result:
        await store.open()
        try:
            return await work
        finally:
            await store.close()

    try:
        return run(opened())
    except StoreError as error:
        work.close()
        raise fail(f"store: {error}", status=1) from None


def told(error: Exception) -> str:
    """An error in words; that of a file names the file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def domain_argument(value: str) -> str:
    """A domain name as an argument.

    Raises:
        typer.BadParameter: it is none.
    """
    try:
        return domain_name(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value}: {error}") from None


def printable(text: str) -> str:
    """What others wrote, so that it ends no line and commands no terminal that shows it."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def print_table(table: Table) -> None:
    """Print a table, as wide as it has to be where nobody looks at it."""
    (out if out.is_terminal else Console(highlight=False, emoji=False, width=_PIPE_WIDTH)).print(table)


def read_secret(option: str) -> str:
    """A line of standard input that is a password or pass phrase.

    Args:
        option: what asked for it, to be named where there is none.

    Raises:
        typer.Exit: there is none, or it is no text.
    """
    try:
        secret = sys.stdin.readline().rstrip("\n")
        secret.encode()  # some locales let what is no text pass, in a disguise
    except UnicodeError:
        raise fail(f"{option}: is not UTF-8") from None
    if not secret:
        raise fail(f"{option}: there is none on standard input")
    return secret
