"""``wisp account``: the users of the domain."""

import json
import secrets
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.table import Table

from ..agent.credential import write_private
from ..config import LEVELS, Config, parse_address, user_name
from ..store.accounts import (
    ASSISTS,
    DOMAIN,
    PROXY,
    REDIRECT,
    SHOWS,
    AccountExistsError,
    AccountModeError,
    Settings,
    add_account,
    list_accounts,
    remove_account,
    set_account,
)
from ..store.database import Store, StoreError, migrate
from ..transport.flow import Listener
from .console import HERE, ConfigPath, err, fail, load_config, out, print_table, read_secret, run

if TYPE_CHECKING:
    from ..store.accounts import Account

__all__ = ["commands"]

_Result = TypeVar("_Result")
_SECRET_BYTES = 24  # WIRE section 1.2 wants 128 bits at least

commands = typer.Typer(help="The users of the domain.", no_args_is_help=True)


def _store(config: Config) -> Store:
    """The store, made or migrated where that has to be."""
    try:
        migrate(config.store_url)
        return Store(config.store_url)
    except StoreError as error:
        raise fail(f"{config.where('store', 'url')}: {error}") from None


def _with_store(work: Coroutine[None, None, _Result], store: Store) -> _Result:
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


@commands.command("add")
def account_add(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")],
    config: ConfigPath = HERE,
    phone: Annotated[bool, typer.Option("--phone", help="An ordinary SIP phone, with a password.")] = False,
    md5: Annotated[bool, typer.Option("--md5", help="A phone that knows no digest better than MD5.")] = False,
    auth_user: Annotated[str, typer.Option(help="The digest user name, where it differs from the user.")] = "",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the phone's password from standard input.")
    ] = False,
    redirect: Annotated[
        bool, typer.Option("--redirect", help="Tell who calls where the phone is, in place of forwarding.")
    ] = False,
    terminal: Annotated[Path | None, typer.Option(help="Write the terminal's configuration to this file.")] = None,
    neighbour: Annotated[
        str, typer.Option(help="Where the terminal finds us, host:port; default: the first udp listener.")
    ] = "",
) -> None:
    """Add a user: a terminal with a random secret, or a phone with a password.

    A terminal's secret goes into its configuration, as a hash, and is never shown. Without --terminal or --phone a
    configuration is written to USER.json.
    """
    settings = load_config(config)
    try:
        user_name(user)
    except ValueError as error:
        raise fail(f"{user or 'USER'}: {error}") from None
    if settings.group_of(user) is not None:
        raise fail(f"{user}: is a group of the configuration; an account has another name")
    if not auth_user.isprintable() or any(char in auth_user for char in '":\\'):
        raise fail("--auth-user: no control characters, quotes, colons or backslashes")
    if md5 and not phone:
        raise fail("--md5 goes with --phone: terminals use SHA-256")
    if redirect and not phone:
        raise fail("--redirect goes with --phone: a terminal is reached through its neighbour only")
    if phone and terminal is not None:
        raise fail("--terminal and --phone exclude each other")
    if password_stdin and not phone:
        raise fail("--password-stdin goes with --phone: a terminal's secret is made up")
    if neighbour and phone:
        raise fail("--neighbour goes into a terminal's configuration; --phone writes none")
    if neighbour:
        try:
            parse_address(neighbour)
        except ValueError as error:
            raise fail(f"--neighbour {neighbour}: {error}") from None
    path = terminal or Path(f"{user}.json")
    if not phone and path.exists():
        # What it holds is kept nowhere else.
        raise fail(f"{path}: is there already; remove it, or name another file with --terminal")
    secret, shown = _secret(phone=phone, from_stdin=password_stdin)
    store = _store(settings)
    work = add_account(
        store,
        settings.domain,
        user,
        secret,
        is_terminal=not phone,
        md5=md5,
        auth_user=auth_user,
        mode=REDIRECT if redirect else None,
    )
    try:
        added = _with_store(work, store)
    except AccountExistsError as error:
        raise fail(str(error), status=1) from None
    if phone:
        out.print(f"sip:{user}@{settings.domain}: a phone", markup=False)
        if shown:
            out.print(f"password: {secret}", markup=False)
        if md5 and not settings.auth.md5:
            err.print("it can't register before auth.md5 = true in the configuration", markup=False)
        return
    try:
        write_private(path, _terminal_configuration(settings, added, neighbour).encode())
    except OSError as error:
        # A secret that nobody has is of no use.
        _with_store(remove_account(store := _store(settings), user), store)
        raise fail(f"{path}: {error.strerror}") from None
    out.print(f"sip:{user}@{settings.domain}: a terminal, its configuration is {path}", markup=False)


def _secret(*, phone: bool, from_stdin: bool) -> tuple[str, bool]:
    """The secret, and whether to show it."""
    if not phone:
        return secrets.token_urlsafe(_SECRET_BYTES), False
    if from_stdin:
        return read_secret("--password-stdin"), False
    if sys.stdin.isatty():
        return typer.prompt("password (not empty)", hide_input=True, confirmation_prompt=True), False
    return secrets.token_urlsafe(12), True


def _terminal_configuration(config: Config, account: "Account", neighbour: str) -> str:
    where = neighbour
    if not where:
        where = next((Listener(one, config.domain).public for one in config.listen if one.transport == "udp"), "")
        if where == config.domain:
            where += ":5060"  # SIP leaves that out, a terminal wants it
    values = {
        "user": account.user,
        "domain": config.domain,
        "ha1": account.ha1_sha256,
        "neighbour": where,
        "expires_s": min(600, config.registrar.max_expires_s),
    }
    if account.auth_user != account.user:
        values["auth_user"] = account.auth_user
    return json.dumps(values, indent=2) + "\n"


@commands.command("list")
def account_list(config: ConfigPath = HERE) -> None:
    """List the users."""
    settings = load_config(config)
    store = _store(settings)
    table = Table("user", "kind", "digest", "mode", "level", "assist", "signer", "show", box=None)
    for account in _with_store(list_accounts(store), store):
        kind = "terminal" if account.is_terminal else "phone"
        settings_of = (account.mode, account.level, account.assist, account.signer, account.show)
        table.add_row(f"sip:{account.user}@{settings.domain}", kind, account.algorithm.decode(), *settings_of)
    print_table(table)


class _Mode(StrEnum):
    """The modes of an account as the command line has them."""

    PROXY = PROXY
    REDIRECT = REDIRECT
    DEFAULT = "default"


class _Level(StrEnum):
    """The levels of an account."""

    NONE = LEVELS[0]
    MEDIUM = LEVELS[1]
    HEAVY = LEVELS[2]
    DEFAULT = "default"


class _Assist(StrEnum):
    """What is done for a request that does not say."""

    NONE = "none"
    SIGN = ASSISTS[0]
    ENCRYPT = ASSISTS[1]
    BOTH = ",".join(ASSISTS)
    DEFAULT = "default"


class _Show(StrEnum):
    """How a phone is told whom we verified, beside Security-Status."""

    SUBJECT = SHOWS[0]
    ASSERTED = SHOWS[1]
    BOTH = "both"
    NOTHING = "nothing"


@commands.command("set")
def account_set(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")],
    mode: Annotated[
        _Mode | None,
        typer.Option(help="Forward to its phones, tell who calls where they are, or as proxy.mode has it."),
    ] = None,
    level: Annotated[
        _Level | None, typer.Option(help="The least its calls have to reach, or as the configuration has it.")
    ] = None,
    assist: Annotated[
        _Assist | None,
        typer.Option(help="What we do for its calls that do not say; none: it does it itself; default: by the level."),
    ] = None,
    signer: Annotated[
        str | None,
        typer.Option(help="Whose certificate signs for it: user (its own), domain, or a group that it is in."),
    ] = None,
    show: Annotated[
        _Show | None,
        typer.Option(help="Tell its phone whom we verified in Subject, in P-Asserted-Identity, in both, or not."),
    ] = None,
    config: ConfigPath = HERE,
) -> None:
    """Change what is done for a user; registrations stay, and a running neighbour sees it within a second."""
    settings = load_config(config)
    changes: Settings = {}
    if mode is not None:
        changes["mode"] = None if mode is _Mode.DEFAULT else mode.value
    if level is not None:
        changes["level"] = None if level is _Level.DEFAULT else level.value
    if assist is not None:
        changes["assist"] = None if assist is _Assist.DEFAULT else assist.value
    if signer is not None:
        changes["signer"] = _signer(settings, user, signer)
    if show is not None:
        changes["show"] = {_Show.NOTHING: None, _Show.BOTH: ",".join(SHOWS)}.get(show, show.value)
    if not changes:
        raise fail("one of --mode, --level, --assist, --signer and --show is wanted")
    store = _store(settings)
    try:
        found = _with_store(set_account(store, user, **changes), store)
    except AccountModeError as error:
        raise fail(str(error)) from None
    if not found:
        raise fail(f"{user}: no such user", status=1)
    given = {"mode": mode, "level": level, "assist": assist, "signer": signer, "show": show}
    said = ", ".join(f"{name} {value}" for name, value in given.items() if value is not None)
    out.print(f"sip:{user}@{settings.domain}: {said}", markup=False)


def _signer(config: Config, user: str, signer: str) -> str | None:
    """Whose certificate signs, as an account has it."""
    if signer == "user":
        return None
    if signer == DOMAIN:
        return signer
    group = config.group_of(signer)
    if group is None:
        known = ", ".join(one.user for one in config.group) or "there is none"
        raise fail(f"--signer {signer}: user, domain, or a group of the configuration is wanted ({known})")
    if user not in group.members:
        raise fail(f"--signer {signer}: {user} is not in that group; add it to {config.where('group')}")
    return signer


@commands.command("remove")
def account_remove(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")], config: ConfigPath = HERE
) -> None:
    """Remove a user, with its registrations."""
    settings = load_config(config)
    store = _store(settings)
    if not _with_store(remove_account(store, user), store):
        raise fail(f"{user}: no such user", status=1)
    out.print(f"sip:{user}@{settings.domain}: removed", markup=False)
