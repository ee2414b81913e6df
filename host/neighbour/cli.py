"""The ``wisp`` command."""

import asyncio
import contextlib
import gc
import json
import os
import re
import signal
from pathlib import Path
from typing import Annotated

import typer

from sipwire import __version__

from . import logs
from .agent.authority import Authority, AuthorityError
from .agent.certificates import make_domain
from .agent.keyring import CertificateError
from .check import check as check_config
from .commands import account, ca, calls, cert, device, keys
from .commands.console import CONFIG_NAME, HERE, domain_argument, err, fail, load_config, out, run, told
from .config import Config, ConfigError, load, numeric_address, parse_address
from .store.database import StoreError, migrate

__all__ = ["main", "run_command"]

_app = typer.Typer(
    help="Wisp: the neighbour that makes SIP calls safe for weak terminals.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
_app.add_typer(ca.commands, name="ca")
_app.add_typer(account.commands, name="account")
_app.add_typer(cert.commands, name="cert")
_app.add_typer(device.commands, name="device")
_app.command("keys")(keys.keys)
_app.command("calls")(calls.calls)
_COLLECT_AFTER = (5_000, 5, 500)  # objects, collections of the young, collections of the older ones


def _address(value: str) -> str:
    """A numeric address as an option."""
    try:
        return numeric_address(value)
    except ValueError as error:
        raise typer.BadParameter(f"{value}: {error}") from None


def _version(*, wanted: bool) -> None:
    if wanted:
        out.print(f"wisp {__version__}")
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
    domain: Annotated[str, typer.Option(help="The SIP domain, like a.example.", callback=domain_argument)],
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
    target = folder / CONFIG_NAME
    if target.exists():
        raise fail(f"{target}: is there already; edit it, or name another folder")
    peers = [_peer(text) for text in peer or []]
    authority = Authority(ca if ca is not None else folder / "ca")
    text = _configuration(domain, address, port, tls_port, peers, _beside(ca, folder))
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
    except (ConfigError, AuthorityError, StoreError, OSError, UnicodeError) as error:
        if not isinstance(error, OSError):
            target.unlink()
            if made and not any(folder.iterdir()):
                folder.rmdir()
        # The lines of a file that is gone help nobody; its keys are our options.
        place = re.compile(re.escape(str(target)) + r":\d+: ")
        lines = [place.sub("", line) for line in error.mistakes] if isinstance(error, ConfigError) else []
        raise fail(*(lines or [told(error)])) from None
    listens = f"on {address}, udp and tcp {port}, tls {tls_port}"
    out.print(f"{target}: a neighbour for {config.domain} {listens}", markup=False)
    out.print(f"next: wisp account add USER --config {target}, then wisp serve {target}", markup=False)


def _peer(text: str) -> tuple[str, str]:
    domain, equal, address = text.partition("=")
    try:
        if not equal:
            raise ValueError("DOMAIN=ADDRESS:PORT is wanted")
        parse_address(address)
    except ValueError as error:
        raise fail(f"--peer {text}: {error}") from None
    return domain, address


def _beside(ca: Path | None, folder: Path) -> str:
    """The authority's folder as a configuration in another folder names it."""
    return "ca" if ca is None else os.path.relpath(ca.resolve(), folder.resolve())


def _configuration(
    domain: str, address: str, port: int, tls_port: int, peers: list[tuple[str, str]], authority: str
) -> str:
    """The sample configuration with our values in it."""
    text = (Path(__file__).parent / "sample.toml").read_text(encoding="utf-8")
    head, peer, rest = text.partition("[[peer]]")
    sample, metrics, tail = rest.partition("\n[metrics]")
    # A group of users that nobody has yet stays an example.
    head, group, after = head.partition("[[group]]")
    example, blank, after = after.partition("\n\n")
    head += "\n".join(map(_commented, (group + example).splitlines())) + blank + after
    tables = [f'[[peer]]\ndomain = "{name}"\naddress = "{where}"\n' for name, where in peers]
    if peers:
        # The first has the comments, too.
        name, where = peers[0]
        tables[0] = peer + sample.replace('"b.example"', f'"{name}"').replace('"127.0.0.2:5061"', f'"{where}"')
    else:
        lines = (peer + sample).splitlines()
        tables = ["".join(f"{_commented(line)}\n" for line in lines)]
    for old, new in (
        ('domain = "a.example"', f'domain = "{domain}"'),
        ("a.example.pem", f"{domain}.pem"),
        ("a.example.key", f"{domain}.key"),
        ('address = "127.0.0.1"', f'address = "{address}"'),
        ("sip:support@a.example", f"sip:support@{domain}"),
        ('# authority = ""  ', f"authority = {json.dumps(authority, ensure_ascii=False)}"),
        ("port = 5061\n", f"port = {tls_port}\n"),
        ("port = 5060\n", f"port = {port}\n"),
    ):
        head = head.replace(old, new)
    return head + "\n".join(tables) + metrics + tail


def _commented(line: str) -> str:
    return line if line.startswith("#") else f"# {line}"


# Running.


@_app.command()
def check(config: Annotated[Path, typer.Argument(help="The configuration, or its folder.")] = HERE) -> None:
    """Say what is wrong with a configuration, with file and line."""
    settings = load_config(config)
    found = check_config(settings)
    for line in found.warnings:
        err.print(f"warning: {line}", markup=False)
    if found.mistakes or found.lapsed:
        raise fail(*found.mistakes, *found.lapsed)
    out.print(f"{settings.domain}: the configuration is good", markup=False)


@_app.command()
def serve(config: Annotated[Path, typer.Argument(help="The configuration, or its folder.")] = HERE) -> None:
    """Run the neighbour, until SIGTERM, Ctrl-C, or the end of its terminal; SIGHUP reloads certificates and CRLs."""
    settings = load_config(config)
    try:
        made = make_domain(settings)
    except CertificateError as error:
        raise fail(f"{settings.where('tls', 'certificate')}: {error}") from None
    if made:
        err.print(made, markup=False)
    mistakes = check_config(settings).mistakes
    if mistakes:
        raise fail(*mistakes)
    logs.configure(settings.log)
    if not run(_serve(settings)):
        raise typer.Exit(1)


def _has_terminal() -> bool:
    """Whether standard input is a terminal that is still there."""
    try:
        os.tcgetpgrp(0)
    except OSError:
        return False
    return True


async def _serve(config: Config) -> bool:
    from .server import Neighbour, StartError

    neighbour = Neighbour(config)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    had_terminal = _has_terminal()

    def hung_up() -> None:
        # The same signal says that our terminal is gone, and that somebody wants the files read again.
        if had_terminal and not _has_terminal():
            stopping.set()
        else:
            neighbour.reload()

    handlers = {"SIGTERM": stopping.set, "SIGINT": stopping.set, "SIGHUP": hung_up}
    for name, handler in handlers.items():
        if hasattr(signal, name):  # Windows has no SIGHUP
            with contextlib.suppress(NotImplementedError):
                loop.add_signal_handler(getattr(signal, name), handler)
    try:
        await neighbour.start()
    except ConfigError as error:
        raise fail(*error.mistakes) from None
    except StartError as error:
        err.print(str(error), markup=False)
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
