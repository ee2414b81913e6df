"""A running neighbour: makes the parts, wires them, and owns their beginning and end."""

import asyncio
import contextlib
import errno
import functools
import importlib.util
import ipaddress
import resource
import ssl
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import structlog

from .accounting import Accounting
from .agent.certificates import Certificates
from .agent.credentials import CredentialService
from .agent.freshness import Freshness
from .agent.groups import Groups
from .agent.keyring import CertificateError
from .agent.membership import Membership
from .agent.path import Paths
from .agent.recipients import Recipients
from .agent.refresh import Refresh, crl_settings, pins_of, read_roots
from .agent.revocation import Revocation, RevocationError
from .agent.security import SecurityAgent
from .agent.setup import SetupExchange
from .agent.trust import Trust
from .check import FILES_OF_RELAY, certificate_trouble, check
from .config import ConfigError, parse_address
from .gate import Gate
from .hop import Hops, is_frame
from .limits import Limits
from .location import Location
from .media.calls import Calls
from .media.relay import Relays, RelaySettings
from .metrics import Metrics
from .nonces import Nonces
from .overload import Overload
from .proxy import Proxy
from .registrar import Registrar
from .resolver import Resolver
from .routes import Routes, load_key
from .screen import Screen
from .store.accounts import Accounts
from .store.database import Store, StoreError, migrate
from .transactions import Transactions
from .transport.connections import Acceptor, Connections, open_stream
from .transport.console import Console
from .transport.flow import FlowClosedError, Listener, numbered
from .transport.serial import SerialLine
from .transport.stun import answer_binding, is_stun
from .transport.tls import client_context, server_context
from .transport.trunk import Trunks
from .transport.udp import UdpTransport, open_udp

if TYPE_CHECKING:
    from .config import Config

__all__ = ["Neighbour", "StartError", "now"]

_log = structlog.get_logger("neighbour")
_TIDY_S = 1.0  # between two looks for expired bindings and changed accounts
_MAX_CONNECTIONS = 20_000  # at a time, where the system allows as many open files
_OTHER_FILES = 320  # sockets that listen, questions to name servers, the store, the log


class StartError(Exception):
    """The neighbour can't start, for no fault of its configuration's; the text says why and what helps."""


def now() -> datetime:
    """The time, with its zone."""
    return datetime.fromtimestamp(time.time(), UTC)


class Neighbour:
    """The neighbour of one domain.

    Args:
        config: its configuration.
    """

    def __init__(self, config: "Config") -> None:
        self._config = config
        self.metrics = Metrics()
        self.connections = Connections(
            _connection_limit(FILES_OF_RELAY * config.media.max_relays),
            config.proxy.idle_s,
            self.metrics,
            _taken_for(config, ("tcp", "udp")),
        )
        self._acceptors: list[Acceptor] = []
        self._refresh: Refresh | None = None
        # What to do at the end, in reverse order of its beginning.
        self._closing = contextlib.AsyncExitStack()

    async def start(self) -> None:
        """Open the store and the sockets; what was opened is closed again where something fails.

        Raises:
            ConfigError: the configuration names a store or certificates that can't be used.
            StartError: something else is not to be had.
        """
        try:
            await self._start()
        except BaseException:
            await self._closing.aclose()
            raise

    async def stop(self) -> None:
        """Close everything; what was answered is in the store."""
        await self._closing.aclose()
        _log.info("stopped", domain=self._config.domain)

    async def _start(self) -> None:
        config = self._config
        try:
            certificates = Certificates(config, now)
            server_tls, client_tls = _contexts(config)
            await asyncio.to_thread(migrate, config.store_url)
            store = Store(config.store_url, config.limits.max_writes)
            self._closing.push_async_callback(store.close)
            await store.open()
            await self._wire(store, client_tls, certificates)
            self._relays.start()
            await self._listen(server_tls)
            self._open_lines()
        except StoreError as error:
            raise ConfigError([f"{config.where('store', 'url')}: {error}"]) from error
        except CertificateError as error:
            raise ConfigError([f"{config.where('tls', 'certificate')}: {error}"]) from error
        if config.metrics.listen is not None:
            try:
                self._closing.callback(self.metrics.serve(config.metrics.listen))
            except OSError as error:
                place = config.where("metrics", "listen")
                raise StartError(f"{place}: {config.metrics.listen}: {_told(error)}") from error
        for work, name in (
            (self._hops.keep(), "hops"),
            (self._tidy(), "tidy"),
            (self._overload.watch(), "overload"),
        ):
            self._closing.push_async_callback(_cancel, asyncio.create_task(work, name=name))
        found = check(config)
        for line in found.mistakes + found.lapsed:
            _log.error("configuration", mistake=line)
        for line in found.warnings:
            _log.warning("configuration", warning=line)
        _log.info("ready", domain=config.domain, bindings=len(self._location), agreements=len(self._hops))

    async def _wire(self, store: Store, client_tls: ssl.SSLContext, certificates: Certificates) -> None:
        config, metrics = self._config, self.metrics
        self._accounts = Accounts(store)
        await self._accounts.refresh()
        nonces = Nonces(config.domain, config.auth.nonce_life_s)
        self._hops = Hops(store, config.domain, nonces, self._accounts, metrics)
        await self._hops.load()
        self._location = Location(store)
        await self._location.load()
        self._limits = Limits(config.limits, metrics)
        for user, source in self._location.sources():
            # After a power cut phones and neighbour come back together: those of an office shall find it as it was.
            self._limits.shows(source.rpartition(":")[0].strip("[]"), user)
        self.connections.limit(self._limits.reads, self._limits.stranger)
        self._overload = Overload(
            config.limits,
            metrics,
            {
                "transactions": lambda: len(self._transactions),
                "requests": lambda: self._proxy.working,
                "writes": lambda: store.queued,
            },
        )
        screen = Screen(self._limits, self._overload, metrics)
        metrics.bindings.set_function(lambda: len(self._location))
        self._listeners = [Listener(one, config.domain) for one in config.listen]
        resolver = Resolver(config.resolver, config.peer)
        self._trunks = Trunks(
            self._listeners,
            self.connections,
            client_tls,
            config.proxy.trunk_timeout_s,
            metrics,
            functools.partial(certificate_trouble, config),
        )
        key = await load_key(store)
        routes = Routes(config.domain, self._listeners, key)
        gate = Gate(
            config.domain,
            self._accounts,
            self._hops,
            nonces,
            self._limits,
            screen,
            metrics,
            {group.user: group.members for group in config.group},
            md5=config.auth.md5,
        )
        registrar = Registrar(
            config.domain,
            config.registrar,
            gate,
            self._hops,
            self._location,
            self._accounts,
        )
        self._transactions = Transactions(
            metrics, screen, config.limits.max_transactions, trace=config.log.level == "debug"
        )
        self._credentials = CredentialService(
            config, certificates, self._accounts, self._transactions, resolver, self._trunks
        )
        agent = self._secure(certificates)
        self._setup = SetupExchange(
            config.domain,
            store,
            self._accounts,
            agent,
            self._transactions,
            resolver,
            self._trunks,
            self._location,
            self._hops,
            metrics,
        )
        await self._setup.load()
        self._relays, self._accounting = _relays(config), Accounting(store, config.accounting.keep_days)
        self._closing.callback(self._relays.close_all)
        metrics.relays.set_function(lambda: len(self._relays))
        calls = Calls(config, self._accounts, routes, self._relays, self._accounting, metrics)
        self._proxy = Proxy(
            config,
            self._transactions,
            gate,
            registrar,
            self._location,
            self._accounts,
            self._hops,
            routes,
            resolver,
            self._trunks,
            self.connections.by_token,
            metrics,
            screen,
            agent,
            Membership(Groups(config, key), routes, self._location, config.domain),
            self._credentials,
            self._setup,
            calls,
        )
        self._accounts.gone = functools.partial(self._gone, registrar)
        registrar.introduce = self._setup.registered
        self._transactions.user = self._proxy
        self._transactions.again = self._trunks.again
        self.connections.receive = self._transactions.receive
        self.connections.malformed = self._transactions.malformed
        self.connections.aliased = self._trunks.alias
        self._closing.callback(self._hops.note)
        self._closing.push_async_callback(self._credentials.close)
        self._closing.callback(calls.close)
        self._closing.push_async_callback(self._proxy.close)
        self._closing.callback(self.connections.close)
        self._closing.callback(self._trunks.close)
        self._closing.callback(resolver.close)
        self._closing.push_async_callback(self._setup.close)

    def _gone(self, registrar: Registrar, users: set[str]) -> None:
        """Accounts are gone or others: so is what was registered with them, and what waits for them."""
        registrar.revoke(users)
        self._setup.gone(users)

    def _secure(self, certificates: Certificates) -> SecurityAgent:
        """Make the security agent, and what keeps its certificates up to date.

        Raises:
            ConfigError: the configuration names roots or revocation lists that can't be read.
        """
        config = self._config
        try:
            roots = read_roots(config)
            revocation = Revocation.read(map(config.path, config.security.crl))
        except (OSError, ValueError, RevocationError) as error:
            raise ConfigError([f"{config.where('tls', 'ca')}: {error}"]) from error
        of_domain, pins = pins_of(config)
        paths = Paths(roots, revocation, crl_settings(config), pins, sha1=config.security.rfc6216, now=now)
        trust = Trust(paths, of_domain)
        recipients = Recipients(certificates, trust, self._credentials.fetch)
        self._refresh = Refresh(config, certificates, paths, self._use_tls, self._credentials.changed)
        return SecurityAgent(config, certificates, trust, recipients, Freshness(time.time), self.metrics, time.time)

    def _use_tls(self) -> None:
        """Take up another certificate, or other roots, for connections from now on."""
        server_tls, client_tls = _contexts(self._config)
        for acceptor in self._acceptors:
            acceptor.use(server_tls)
        self._trunks.use(client_tls)

    def reload(self) -> None:
        """Read certificates, roots and revocation lists again; while it starts they are about to be read anyway."""
        if self._refresh is not None:
            self._refresh.everything()

    async def _listen(self, server_tls: ssl.SSLContext) -> None:
        for number, listener in enumerate(self._listeners):
            where = f"{listener.transport} {listener.config.address}:{listener.config.port}"
            try:
                if listener.transport == "udp":
                    transport = await open_udp(listener, self._datagram, _taken_for(self._config, ("udp",)))
                    self._closing.callback(transport.close)
                    self._hops.use(transport)
                    self._proxy.add_udp(transport)
                    self._overload.add_udp(transport)
                    self._trunks.add_udp(transport)
                else:
                    context = server_tls if listener.transport == "tls" else None
                    acceptor = open_stream(listener, self.connections, context)
                    self._acceptors.append(acceptor)
                    self._closing.callback(acceptor.close)
            except OSError as error:
                place = self._config.where("listen", number)
                raise StartError(f"{place}: {where}: {_told(error)}") from error
            _log.info("listening", on=where)

    def _open_lines(self) -> None:
        """Have serial lines opened whenever they are there."""
        if self._config.serial and importlib.util.find_spec("serial") is None:
            raise StartError(
                f"{self._config.where('serial', 0)}: pyserial is not installed: `pip install pyserial` helps"
            )
        listeners = self._listeners
        listener = next((one for one in listeners if one.transport == "udp"), listeners[0])
        for number, config in enumerate(self._config.serial):
            line = SerialLine(config, listener, self._datagram, self.metrics)
            self._hops.add_line(line)
            if config.console:
                console = Console(self._config.path(config.console), line.type)
                try:
                    console.open()
                except OSError as error:
                    place = self._config.where("serial", number, "console")
                    raise StartError(f"{place}: {config.console}: {_told(error)}") from error
                self._closing.callback(console.close)
                line.heard_text = console.show
            self._closing.push_async_callback(_cancel, asyncio.create_task(line.run(), name=line.name))

    def _datagram(self, data: bytes, source: tuple[str, int], transport: UdpTransport | SerialLine) -> None:
        """A datagram: a frame, a message, or a phone's keep-alive of one kind or the other."""
        if is_frame(data):
            opened = self._hops.open(data, source, transport)
            if opened is None:
                self._limits.stranger(source[0])  # nobody is ever told
                return
            self._limits.shows(source[0], opened[0].user)
            if opened[1]:
                self._transactions.receive(opened[1], opened[0])
        elif is_stun(data):
            answer = answer_binding(data, source)
            # A phone without this answer would take its flow for lost: none of an office is to pay for another.
            if answer is not None and (self._limits.known(source[0]) or self._limits.stranger(source[0])):
                with contextlib.suppress(FlowClosedError):
                    transport.send(answer, source)
        elif data.strip(b"\r\n\0"):
            self._transactions.receive(data, transport.flow(source))

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(_TIDY_S)
            for binding in self._location.expire():
                _log.info("expired", user=binding.user)
            try:
                self._setup.look()
                self._look_at_media()
                if self._refresh is not None:
                    self._refresh.look()
                await self._accounts.refresh()
            except StoreError as error:
                _log.error("accounts not read", reason=str(error))
            except Exception:
                _log.exception("not tidied")  # bindings have to end all the same

    def _look_at_media(self) -> None:
        self._accounting.look()
        self.metrics.media = self._relays.counters()


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _told(error: OSError) -> str:
    """Why a socket is not to be had."""
    reason = (error.strerror or str(error)).lower()
    return f"{reason}: is a neighbour running here already?" if error.errno == errno.EADDRINUSE else reason


def _connection_limit(relayed: int) -> int:
    """How many connections we may have; the limit of open files is raised as far as is wanted and allowed.

    Args:
        relayed: sockets that relays may have; where there are not enough of all they get half.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MAX_CONNECTIONS + _OTHER_FILES + relayed
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return wanted - _OTHER_FILES - min(relayed, (wanted - _OTHER_FILES) // 2)


def _taken_for(config: "Config", transports: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """The domains that are taken for those at an address, of peers that are reached over these transports."""
    found: dict[str, set[str]] = {}
    for peer in config.peer:
        if peer.transport in transports:
            for text in peer.address:
                address = numbered(str(ipaddress.ip_address(parse_address(text)[0])))
                found.setdefault(address, set()).add(peer.domain)
    return {address: frozenset(domains) for address, domains in found.items()}


def _relays(config: "Config") -> Relays:
    """What relays media, at the addresses that we listen on."""
    media = config.media
    addresses = tuple(dict.fromkeys(numbered(one.address) for one in config.listen))
    settings = RelaySettings(addresses, media.first_port, media.last_port, media.max_relays, media.timeout_s)
    return Relays(settings)


def _contexts(config: "Config") -> tuple[ssl.SSLContext, ssl.SSLContext]:
    tls = config.tls
    certificate, key = str(config.path(tls.certificate)), str(config.path(tls.key))
    roots = [str(config.path(name)) for name in tls.ca]
    try:
        return server_context(certificate, key, roots), client_context(certificate, key, roots)
    except (OSError, ValueError) as error:
        # `check` has words for nearly everything; this is what OpenSSL alone does not like.
        reason = getattr(error, "reason", None) or error
        raise ConfigError([f"{config.where('tls')}: certificate, key and roots can't be used: {reason}"]) from error
