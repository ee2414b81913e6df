"""The ``wisp`` command."""

import asyncio
import contextlib
import gc
import json
import re
import secrets
import signal
import sys
from collections.abc import Coroutine
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.console import Console
from rich.table import Table

from sipwire import __version__

from . import logs
from .agent.authority import Authority, AuthorityError, write_private
from .check import check as check_config
from .config import Config, ConfigError, domain_name, load, numeric_address, parse_address
from .store.accounts import (
    PROXY,
    REDIRECT,
    AccountExistsError,
    AccountModeError,
    add_account,
    list_accounts,
    remove_account,
    set_mode,
)
from .store.database import Store, StoreError, migrate
from .transport.flow import Listener

if TYPE_CHECKING:
    from .store.accounts import Account

__all__ = ["main", "run_command"]

_Result = TypeVar("_Result")
_CONFIG_NAME = "wisp.toml"
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)
_SECRET_BYTES = 24  # WIRE section 1.2 wants 128 bits at least
_MISTAKE = 2  # exit status for what the person can mend; 1 is for what went wrong

_app = typer.Typer(
    help="Wisp: the neighbour that makes SIP calls safe for weak terminals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_ca = typer.Typer(help="A certificate authority for a federation of domains.", no_args_is_help=True)
_account = typer.Typer(help="The users of the domain.", no_args_is_help=True)
_app.add_typer(_ca, name="ca")
_app.add_typer(_account, name="account")
_out = Console(highlight=False, soft_wrap=True, emoji=False)
_err = Console(highlight=False, soft_wrap=True, emoji=False, stderr=True)

ConfigPath = Annotated[
    Path, typer.Option("--config", "-c", help="The configuration, or the folder it is in.", show_default=True)
]
_HERE = Path(_CONFIG_NAME)
_COLLECT_AFTER = (5_000, 5, 500)  # objects, collections of the young, collections of the older ones


def _fail(*lines: str, status: int = _MISTAKE) -> typer.Exit:
    """Print lines to standard error; raise what comes back."""
    for line in lines:
        _err.print(line, markup=False)
    return typer.Exit(status)


def _load(path: Path) -> Config:
    if path.is_dir():
        path /= _CONFIG_NAME
    if path == _HERE and not path.exists():
        raise _fail(f"{path}: is not here; name a configuration or its folder, or make one with `wisp init`")
    try:
        return load(path)
    except ConfigError as error:
        raise _fail(*error.mistakes) from None


def _run(work: Coroutine[None, None, _Result]) -> _Result:
    """Run a coroutine, on uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run(work)
    return uvloop.run(work)


def _domain(value: str) -> str:
    """A domain name as an argument."""
    try:
        return domain_name(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value}: {error}") from None


def _address(value: str) -> str:
    """A numeric address as an option."""
    try:
        return numeric_address(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value}: {error}") from None


def _version(*, wanted: bool) -> None:
    if wanted:
        _out.print(f"wisp {__version__}")
        raise typer.Exit


@_app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Wisp: the neighbour that makes SIP calls safe for weak terminals."""


# Setting up.


@_app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    domain: Annotated[str, typer.Option(help="The SIP domain, like a.example.", callback=_domain)],
    address: Annotated[str, typer.Option(help="The address to listen on.", callback=_address)] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="The port for UDP and TCP.")] = 5060,
    tls_port: Annotated[int, typer.Option(min=1, max=65535, help="The port for TLS.")] = 5061,
    ca: Annotated[
        Path | None, typer.Option(help="The folder of an authority (wisp ca init); without it one is made.")
    ] = None,
    peer: Annotated[
        list[str] | None,
        typer.Option(help="A domain with a fixed address, like b.example=192.0.2.2:5061; as often as wanted."),
    ] = None,
) -> None:
    """Make a working configuration, keys and certificates for a domain."""
    target = folder / _CONFIG_NAME
    if target.exists():
        raise _fail(f"{target}: is there already; edit it, or name another folder")
    peers = [_peer(text) for text in peer or []]
    authority = Authority(ca if ca is not None else folder / "ca")
    text = _configuration(domain, address, port, tls_port, peers)
    made = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        config = load(target)
        if ca is None and not authority.root_path.exists():
            authority.create(config.domain)
        authority.issue_domain(config.domain).write(folder / config.tls.certificate, folder / config.tls.key)
        root = folder / config.tls.ca[0]
        if not root.exists():
            root.parent.mkdir(parents=True, exist_ok=True)
            root.write_bytes(authority.root_path.read_bytes())
        migrate(config.store_url)
    except (ConfigError, AuthorityError, StoreError, OSError) as error:
        if not isinstance(error, OSError):
            target.unlink()
            if made and not any(folder.iterdir()):
                folder.rmdir()
        # The lines of a file that is gone help nobody; its keys are our options.
        place = re.compile(re.escape(str(target)) + r":\d+: ")
        lines = [place.sub("", line) for line in error.mistakes] if isinstance(error, ConfigError) else []
        raise _fail(*(lines or [_told(error)])) from None
    listens = f"on {address}, udp and tcp {port}, tls {tls_port}"
    _out.print(f"{target}: a neighbour for {config.domain} {listens}", markup=False)
    _out.print(f"next: wisp account add USER --config {target}, then wisp serve {target}", markup=False)


def _told(error: Exception) -> str:
    """An error in words; that of a file names the file."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)


def _peer(text: str) -> tuple[str, str]:
    domain, equal, address = text.partition("=")
    try:
        if not equal:
            raise ValueError("DOMAIN=ADDRESS:PORT is wanted")
        parse_address(address)
    except ValueError as error:
        raise _fail(f"--peer {text}: {error}") from None
    return domain, address


def _configuration(domain: str, address: str, port: int, tls_port: int, peers: list[tuple[str, str]]) -> str:
    """The sample configuration with our values in it."""
    text = (Path(__file__).parent / "sample.toml").read_text(encoding="utf-8")
    head, peer, rest = text.partition("[[peer]]")
    sample, metrics, tail = rest.partition("\n[metrics]")
    tables = [f'[[peer]]\ndomain = "{name}"\naddress = "{where}"\n' for name, where in peers]
    if peers:
        # The first has the comments, too.
        name, where = peers[0]
        tables[0] = peer + sample.replace('"b.example"', f'"{name}"').replace('"127.0.0.2:5061"', f'"{where}"')
    else:
        lines = (peer + sample).splitlines()
        tables = ["".join(f"{line if line.startswith('#') else '# ' + line}\n" for line in lines)]
    for old, new in (
        ('domain = "a.example"', f'domain = "{domain}"'),
        ("a.example.pem", f"{domain}.pem"),
        ("a.example.key", f"{domain}.key"),
        ('address = "127.0.0.1"', f'address = "{address}"'),
        ("port = 5061\n", f"port = {tls_port}\n"),
        ("port = 5060\n", f"port = {port}\n"),
    ):
        head = head.replace(old, new)
    return head + "\n".join(tables) + metrics + tail


@_ca.command("init")
def ca_init(
    folder: Annotated[Path, typer.Argument(help="The folder to make.")],
    name: Annotated[str, typer.Option(help="What the certificates call it.")] = "Wisp",
) -> None:
    """Make a root and an intermediate authority."""
    try:
        Authority(folder).create(name)
    except (AuthorityError, OSError) as error:
        raise _fail(_told(error)) from None
    _out.print(f"{folder}: keep root.key offline, give root.pem to every peer", markup=False)


@_ca.command("issue")
def ca_issue(
    folder: Annotated[Path, typer.Argument(help="The authority's folder.")],
    domain: Annotated[str, typer.Argument(help="The SIP domain to certify.", callback=_domain)],
    out: Annotated[Path, typer.Option(help="Where to put DOMAIN.pem and DOMAIN.key.")] = Path(),
) -> None:
    """Issue a certificate for a domain, good for both ends of TLS."""
    certificate, key = out / f"{domain}.pem", out / f"{domain}.key"
    try:
        Authority(folder).issue_domain(domain).write(certificate, key)
    except (AuthorityError, OSError) as error:
        raise _fail(_told(error)) from None
    _out.print(f"{certificate}, {key}", markup=False)


# Accounts.


def _store(config: Config) -> Store:
    """The store, made or migrated where that has to be."""
    try:
        migrate(config.store_url)
        return Store(config.store_url)
    except StoreError as error:
        raise _fail(f"{config.where('store', 'url')}: {error}") from None


def _with_store(work: Coroutine[None, None, _Result], store: Store) -> _Result:
    async def run() -> _Result:
        await store.open()
        try:
            return await work
        finally:
            await store.close()

    try:
        return _run(run())
    except StoreError as error:
        work.close()
        raise _fail(f"store: {error}", status=1) from None


@_account.command("add")
def account_add(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")],
    config: ConfigPath = _HERE,
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
    settings = _load(config)
    if not _USER.fullmatch(user):
        raise _fail(f"{user or 'USER'}: 1 to 64 letters, digits, and . _ + - are wanted, a letter or digit first")
    if not auth_user.isprintable() or any(char in auth_user for char in '":\\'):
        raise _fail("--auth-user: no control characters, quotes, colons or backslashes")
    if md5 and not phone:
        raise _fail("--md5 goes with --phone: terminals use SHA-256")
    if redirect and not phone:
        raise _fail("--redirect goes with --phone: a terminal is reached through its neighbour only")
    if phone and terminal is not None:
        raise _fail("--terminal and --phone exclude each other")
    if password_stdin and not phone:
        raise _fail("--password-stdin goes with --phone: a terminal's secret is made up")
    if neighbour and phone:
        raise _fail("--neighbour goes into a terminal's configuration; --phone writes none")
    if neighbour:
        try:
            parse_address(neighbour)
        except ValueError as error:
            raise _fail(f"--neighbour {neighbour}: {error}") from None
    path = terminal or Path(f"{user}.json")
    if not phone and path.exists():
        # What it holds is kept nowhere else.
        raise _fail(f"{path}: is there already; remove it, or name another file with --terminal")
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
        raise _fail(str(error), status=1) from None
    if phone:
        _out.print(f"sip:{user}@{settings.domain}: a phone", markup=False)
        if shown:
            _out.print(f"password: {secret}", markup=False)
        if md5 and not settings.auth.md5:
            _err.print("it can't register before auth.md5 = true in the configuration", markup=False)
        return
    try:
        write_private(path, _terminal_configuration(settings, added, neighbour).encode())
    except OSError as error:
        # A secret that nobody has is of no use.
        _with_store(remove_account(store := _store(settings), user), store)
        raise _fail(f"{path}: {error.strerror}") from None
    _out.print(f"sip:{user}@{settings.domain}: a terminal, its configuration is {path}", markup=False)


def _secret(*, phone: bool, from_stdin: bool) -> tuple[str, bool]:
    """The secret, and whether to show it."""
    if not phone:
        return secrets.token_urlsafe(_SECRET_BYTES), False
    if from_stdin:
        try:
            secret = sys.stdin.readline().rstrip("\n")
            secret.encode()  # some locales let what is no text pass, in a disguise
        except UnicodeError:
            raise _fail("--password-stdin: is not UTF-8") from None
        if not secret:
            raise _fail("--password-stdin: there is none on standard input")
        return secret, False
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


@_account.command("list")
def account_list(config: ConfigPath = _HERE) -> None:
    """List the users."""
    settings = _load(config)
    store = _store(settings)
    table = Table("user", "kind", "digest", "mode", box=None)
    for account in _with_store(list_accounts(store), store):
        kind = "terminal" if account.is_terminal else "phone"
        table.add_row(f"sip:{account.user}@{settings.domain}", kind, account.algorithm.decode(), account.mode)
    # Who reads it from a pipe wants whole names.
    _out.print(table, width=None if _out.is_terminal else 500)


class _Mode(StrEnum):
    """The modes of an account as the command line has them."""

    PROXY = PROXY
    REDIRECT = REDIRECT
    DEFAULT = "default"


@_account.command("set")
def account_set(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")],
    mode: Annotated[
        _Mode,
        typer.Option(help="Forward to its phones, tell who calls where they are, or as proxy.mode has it."),
    ],
    config: ConfigPath = _HERE,
) -> None:
    """Change how a user is reached; registrations stay, and a running neighbour sees it within a second."""
    settings = _load(config)
    store = _store(settings)
    try:
        found = _with_store(set_mode(store, user, None if mode is _Mode.DEFAULT else mode.value), store)
    except AccountModeError as error:
        raise _fail(str(error)) from None
    if not found:
        raise _fail(f"{user}: no such user", status=1)
    _out.print(f"sip:{user}@{settings.domain}: mode {mode.value}", markup=False)


@_account.command("remove")
def account_remove(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain.")], config: ConfigPath = _HERE
) -> None:
    """Remove a user, with its registrations."""
    settings = _load(config)
    store = _store(settings)
    if not _with_store(remove_account(store, user), store):
        raise _fail(f"{user}: no such user", status=1)
    _out.print(f"sip:{user}@{settings.domain}: removed", markup=False)


# Running.


@_app.command()
def check(config: Annotated[Path, typer.Argument(help="The configuration, or its folder.")] = _HERE) -> None:
    """Say what is wrong with a configuration, with file and line."""
    settings = _load(config)
    found = check_config(settings)
    for line in found.warnings:
        _err.print(f"warning: {line}", markup=False)
    if found.mistakes or found.lapsed:
        raise _fail(*found.mistakes, *found.lapsed)
    _out.print(f"{settings.domain}: the configuration is good", markup=False)


@_app.command()
def serve(config: Annotated[Path, typer.Argument(help="The configuration, or its folder.")] = _HERE) -> None:
    """Run the neighbour, until SIGTERM, Ctrl-C, or the end of its terminal."""
    settings = _load(config)
    mistakes = check_config(settings).mistakes
    if mistakes:
        raise _fail(*mistakes)
    logs.configure(settings.log)
    if not _run(_serve(settings)):
        raise typer.Exit(1)


async def _serve(config: Config) -> bool:
    from .server import Neighbour, StartError

    neighbour = Neighbour(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in ("SIGTERM", "SIGINT", "SIGHUP"):
        number = getattr(signal, name, signal.SIGTERM)  # Windows has no SIGHUP
        with contextlib.suppress(NotImplementedError):
            loop.add_signal_handler(number, stopping.set)
    try:
        await neighbour.start()
    except ConfigError as error:
        raise _fail(*error.mistakes) from None
    except StartError as error:
        _err.print(str(error), markup=False)
        return False
    # What was made until now stays: the collector need not look at it again and again. And a full collection goes over
    # every transaction, all of which references alone take care of: it is for what nobody thought of, and seldom.
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
    await stopping.wait()
    await neighbour.stop()
    return True


def run_command(*arguments: str) -> None:
    """Run a command in this process.

    Raises:
        SystemExit: it failed, with its exit status; what it had to say is on standard error.
    """
    status = _app(arguments, standalone_mode=False)
    if status:
        raise SystemExit(status)


def main() -> None:
    """Entry point."""
    _app()
