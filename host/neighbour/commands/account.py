"""``wisp account``: the users of the domain."""

import secrets
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from sipwire.errors import ParseError
from sipwire.uri import Uri

from ..agent.credential import write_private
from ..config import LEVELS, RELAYS, SRTP, Config, domain_name
from ..device.configuration import of_account, written
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
    new_secret,
    remove_account,
    set_account,
)
from ..store.setup_keys import MAX_AOR, ContactsFullError, change_contacts, contacts_of
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
    print_table,
    read_secret,
    with_store,
)

if TYPE_CHECKING:
    from ..store.database import Store

__all__ = ["commands"]

commands = typer.Typer(help="The users of the domain.", no_args_is_help=True)


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
    check_user(settings, user, "USER")
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
    check_neighbour(neighbour)
    path = terminal or Path(f"{user}.json")
    if not phone and path.exists():
        # What it holds is kept nowhere else.
        raise fail(f"{path}: is there already; remove it, or name another file with --terminal")
    secret, shown = _secret(phone=phone, from_stdin=password_stdin)
    store = open_store(settings)
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
        added = with_store(work, store)
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
        write_private(path, written(of_account(settings, added, neighbour)))
    except OSError as error:
        # A secret that nobody has is of no use.
        with_store(remove_account(store := open_store(settings), user, settings.domain), store)
        raise fail(f"{path}: {error.strerror}") from None
    out.print(f"sip:{user}@{settings.domain}: a terminal, its configuration is {path}", markup=False)


def _secret(*, phone: bool, from_stdin: bool) -> tuple[str, bool]:
    """The secret, and whether to show it."""
    if not phone:
        return new_secret(), False
    if from_stdin:
        return read_secret("--password-stdin"), False
    if sys.stdin.isatty():
        return typer.prompt("password (not empty)", hide_input=True, confirmation_prompt=True), False
    return secrets.token_urlsafe(12), True


@commands.command("list")
def account_list(config: ConfigPath = HERE) -> None:
    """List the users."""
    settings = load_config(config)
    store = open_store(settings)
    table = Table("user", "kind", "digest", "mode", "level", "assist", "signer", "show", "relay", "srtp", box=None)
    for account in with_store(list_accounts(store), store):
        kind = "terminal" if account.is_terminal else "phone"
        of_agent = (account.mode, account.level, account.assist, account.signer, account.show)
        of_media = (account.relay, account.srtp)
        table.add_row(f"sip:{account.user}@{settings.domain}", kind, account.algorithm.decode(), *of_agent, *of_media)
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


class _Relay(StrEnum):
    """When an account's media are relayed."""

    NEVER = RELAYS[0]
    NAT = RELAYS[1]
    ALWAYS = RELAYS[2]
    DEFAULT = "default"


class _Srtp(StrEnum):
    """How an account's media have to be protected."""

    REQUIRED = SRTP[0]
    OPPORTUNISTIC = SRTP[1]
    OFF = SRTP[2]
    DEFAULT = "default"


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
    relay: Annotated[
        _Relay | None, typer.Option(help="When its media go through us, or as media.relay has it.")
    ] = None,
    srtp: Annotated[
        _Srtp | None,
        typer.Option(help="How its phone's media have to be protected, or as media.srtp has it; off: it gets RTP."),
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
    if relay is not None:
        changes["relay"] = None if relay is _Relay.DEFAULT else relay.value
    if srtp is not None:
        changes["srtp"] = None if srtp is _Srtp.DEFAULT else srtp.value
    given = {
        "mode": mode, "level": level, "assist": assist, "signer": signer, "show": show, "relay": relay, "srtp": srtp
    }  # fmt: skip
    if not changes:
        raise fail("one of " + ", ".join(f"--{name}" for name in given) + " is wanted")
    store = open_store(settings)
    try:
        found = with_store(set_account(store, user, **changes), store)
    except AccountModeError as error:
        raise fail(str(error)) from None
    if not found:
        raise fail(f"{user}: no such user", status=1)
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


@commands.command("contact")
def account_contact(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")],
    add: Annotated[
        list[str] | None, typer.Option(help="Who may be introduced, like sip:bob@b.example; as often as wanted.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="Who may not any more; keys under way between the two are forgotten.")
    ] = None,
    config: ConfigPath = HERE,
) -> None:
    """List and change whom a terminal lets be introduced to it: who may have setup keys made with it.

    Keys that the terminal has got already are its own: forget them there.
    """
    settings = load_config(config)
    added, removed = [_aor(text) for text in add or []], [_aor(text) for text in remove or []]
    for aor in added:
        if aor in removed:
            raise fail(f"{aor}: to be added, or to be removed")
        if aor == f"sip:{user}@{settings.domain}":
            raise fail(f"{aor}: is {user} itself")
    store = open_store(settings)
    try:
        found = with_store(_contact(store, settings.domain, user, added, removed), store)
    except ContactsFullError as error:
        raise fail(str(error), status=1) from None
    if found is None:
        raise fail(f"{user}: no such user", status=1)
    for aor in found:
        out.print(aor, markup=False)
    if not found:
        err.print(f"sip:{user}@{settings.domain}: no contacts", markup=False)


async def _contact(store: "Store", domain: str, user: str, add: list[str], remove: list[str]) -> list[str] | None:
    """Change contacts; returns those that there are then, None where there is no such user."""
    account = next((one for one in await list_accounts(store) if one.user == user), None)
    if account is None:
        return None
    if add and not account.is_terminal:
        raise fail(f"{user}: is a phone, and phones take no setup keys")
    if add or remove:
        await change_contacts(store, domain, user, add, remove)
    return await contacts_of(store, user)


def _aor(text: str) -> str:
    """An address-of-record as an argument, in the form that it has in the store.

    Raises:
        typer.Exit: it is none; it has been told why.
    """
    try:
        uri = Uri.parse((text if text[:4].lower() in ("sip:", "sips") else f"sip:{text}").encode("ascii"))
        if not uri.is_sip or uri.user is None or uri.port is not None or uri.params or uri.headers:
            raise ValueError("an address is wanted, like sip:bob@b.example")
        domain_name(uri.host.decode("ascii").lower())
    except (ParseError, UnicodeEncodeError):
        raise fail(f"{text}: an address is wanted, like sip:bob@b.example") from None
    except ValueError as error:
        raise fail(f"{text}: {error}") from None
    aor = uri.aor().decode("ascii")
    if len(aor) > MAX_AOR:
        raise fail(f"{text[:40]}...: longer than {MAX_AOR} characters")
    return aor


@commands.command("remove")
def account_remove(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")], config: ConfigPath = HERE
) -> None:
    """Remove a user, with its registrations, contacts and setup keys."""
    settings = load_config(config)
    store = open_store(settings)
    if not with_store(remove_account(store, user, settings.domain), store):
        raise fail(f"{user}: no such user", status=1)
    out.print(f"sip:{user}@{settings.domain}: removed", markup=False)
