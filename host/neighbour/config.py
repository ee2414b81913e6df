"""The neighbour's configuration: one TOML file, validated as a whole.

Every key is described in `sample.toml` beside this file, which ``wisp init`` fills in. A mistake is told as
``file:line: key: what is wrong``, all of them at once.
"""

import ipaddress
import re
import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    model_validator,
)

__all__ = [
    "AuthConfig",
    "Config",
    "ConfigError",
    "LimitsConfig",
    "ListenConfig",
    "LogConfig",
    "MetricsConfig",
    "PeerConfig",
    "ProxyConfig",
    "RegistrarConfig",
    "ResolverConfig",
    "StoreConfig",
    "TlsConfig",
    "domain_name",
    "load",
    "numeric_address",
    "parse_address",
]

_MAX_ADDRESSES = 8  # of one peer: more than anybody waits for, as with DNS
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]", re.ASCII)
_MAX_RATE = 1_000_000  # requests a second, more than anybody's computer answers: no limit at all


class ConfigError(Exception):
    """The configuration can't be used.

    Attributes:
        mistakes: one line each, ``file:line: key: what is wrong``.
    """

    def __init__(self, mistakes: list[str]) -> None:
        super().__init__("\n".join(mistakes))
        self.mistakes = mistakes


def domain_name(value: str) -> str:
    """A domain name in lower case.

    Raises:
        ValueError: it is none.
    """
    name = value.lower()
    if (
        name.rpartition(".")[2].isdigit()
        or len(name) > 253
        or not all(_LABEL.fullmatch(label) for label in name.split("."))
    ):
        raise ValueError("a domain name is wanted, like a.example")
    return name


def numeric_address(value: str) -> str:
    """An IP address in its usual form.

    Raises:
        ValueError: it is none.
    """
    try:
        return str(ipaddress.ip_address(value))
    except ValueError:
        raise ValueError("a numeric IPv4 or IPv6 address is wanted") from None


def parse_address(value: str) -> tuple[str, int]:
    """Split ``host:port`` or ``[v6]:port``.

    Raises:
        ValueError: another form.
    """
    host, colon, port = value.rpartition(":")
    # What is told to others goes into Via and Record-Route as it stands here: a host, and nothing that ends a line.
    if not colon or not _HOST.fullmatch(host) or not port.isascii() or not port.isdigit() or not 0 < int(port) < 65536:
        raise ValueError("host:port is wanted, like 192.0.2.1:5061")
    return host.strip("[]"), int(port)


def _address(value: str) -> str:
    parse_address(value)
    return value


def _addresses(value: Any) -> Any:
    """One address or several, as a list; anything else is left to the type's own check."""
    if isinstance(value, str):
        value = [value]
    if isinstance(value, list):
        if not 0 < len(value) <= _MAX_ADDRESSES:
            raise ValueError(f"1 to {_MAX_ADDRESSES} addresses are wanted")
        for one in value:
            if isinstance(one, str):
                parse_address(one)
    return value


Domain = Annotated[str, AfterValidator(domain_name)]
IpAddress = Annotated[str, AfterValidator(numeric_address)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[list[str], BeforeValidator(_addresses)]
Transport = Literal["tls", "tcp", "udp"]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LogConfig(_Table):
    """What is logged, and how."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"


class ListenConfig(_Table):
    """One socket to listen on."""

    transport: Literal["udp", "tcp", "tls"]
    address: IpAddress
    port: Port
    advertise: Address | None = None


class TlsConfig(_Table):
    """Our certificate, and whom to trust."""

    certificate: str
    key: str
    ca: list[str] = Field(min_length=1)


class StoreConfig(_Table):
    """Where accounts, bindings and agreements are kept."""

    url: str = "sqlite+aiosqlite:///wisp.db"


class RegistrarConfig(_Table):
    """Limits of registrations."""

    min_expires_s: int = Field(default=60, ge=1, le=3600)  # no longer one may be refused (RFC 3261 section 10.3 step 7)
    max_expires_s: int = Field(default=3600, ge=1, le=86400)
    max_contacts: int = Field(default=8, ge=1, le=100)
    edge_proxies: list[Domain] = []
    service_route: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> "RegistrarConfig":
        if self.min_expires_s > self.max_expires_s:
            raise ValueError("min_expires_s is above max_expires_s")
        return self


class AuthConfig(_Table):
    """Digest authentication."""

    nonce_life_s: int = Field(default=60, ge=5, le=600)
    md5: bool = False


class ProxyConfig(_Table):
    """How requests are forwarded."""

    mode: Literal["proxy", "redirect"] = "proxy"
    timer_c_s: int = Field(default=200, ge=1, le=3600)
    ring_s: float = Field(default=20.0, ge=1, le=3600)
    next_server_s: float = Field(default=5.0, gt=0, le=32)
    trunk_timeout_s: float = Field(default=5.0, gt=0, le=30)
    idle_s: int = Field(default=900, ge=5)


class ResolverConfig(_Table):
    """How domains that are no ``[[peer]]`` are found, and over what they may be reached."""

    enabled: bool = True
    transports: list[Transport] = Field(default=["tls"], min_length=1)
    nameservers: list[IpAddress] = []
    port: Port = 53

    @model_validator(mode="after")
    def _once(self) -> "ResolverConfig":
        if len(set(self.transports)) != len(self.transports):
            raise ValueError("transports: one of them is there twice")
        return self


class PeerConfig(_Table):
    """A domain with fixed addresses.

    Over ``tcp`` and ``udp`` there is no certificate: whoever sends from one of the addresses counts as the domain.
    """

    domain: Domain
    address: Addresses
    transport: Transport = "tls"

    @model_validator(mode="after")
    def _certain(self) -> "PeerConfig":
        if self.transport == "tls":
            return self
        for text in self.address:
            try:
                address = ipaddress.ip_address(parse_address(text)[0])
            except ValueError:
                raise ValueError(
                    f"address: a numeric one is wanted for {self.transport}, like 192.0.2.1:5060"
                ) from None
            if address.is_unspecified or address.is_multicast or str(address) == "255.255.255.255":
                raise ValueError(f"address: {address} is nobody's own, so that anybody would count as {self.domain}")
        return self


class MetricsConfig(_Table):
    """Counters for Prometheus."""

    listen: Address | None = None


class LimitsConfig(_Table):
    """How much may be asked, and when we say that it is too much; see `limits` and `overload`."""

    stranger_rate: int = Field(default=20, ge=1, le=_MAX_RATE)
    stranger_burst: int = Field(default=400, ge=1, le=_MAX_RATE)
    user_rate: int = Field(default=20, ge=1, le=_MAX_RATE)
    user_burst: int = Field(default=200, ge=1, le=_MAX_RATE)
    peer_rate: int = Field(default=1000, ge=1, le=_MAX_RATE)
    peer_burst: int = Field(default=5000, ge=1, le=_MAX_RATE)
    delay_ms: int = Field(default=300, ge=10, le=10_000)
    max_transactions: int = Field(default=150_000, ge=100, le=1_000_000)
    max_requests: int = Field(default=5000, ge=50, le=100_000)
    max_writes: int = Field(default=5000, ge=50, le=100_000)


class Config(_Table):
    """The whole configuration. Paths are relative to the file; use `path` to open them."""

    domain: Domain
    log: LogConfig = LogConfig()
    listen: list[ListenConfig] = Field(min_length=1)
    tls: TlsConfig
    store: StoreConfig = StoreConfig()
    registrar: RegistrarConfig = RegistrarConfig()
    auth: AuthConfig = AuthConfig()
    proxy: ProxyConfig = ProxyConfig()
    resolver: ResolverConfig = ResolverConfig()
    peer: list[PeerConfig] = []
    metrics: MetricsConfig = MetricsConfig()
    limits: LimitsConfig = LimitsConfig()
    #: The folder of the file, set by `load`.
    base: Path = Field(Path(), exclude=True)
    _file: Path = PrivateAttr(Path())
    _text: str = PrivateAttr("")

    @model_validator(mode="after")
    def _consistent(self) -> "Config":
        domains = [peer.domain for peer in self.peer]
        for domain in domains:
            if domain == self.domain:
                raise ValueError(f"peer: {domain} is this domain itself")
            if domains.count(domain) > 1:
                raise ValueError(f"peer: {domain} is there twice")
        sockets = [(one.transport == "udp", one.address, one.port) for one in self.listen]
        if len(set(sockets)) != len(sockets):
            raise ValueError("listen: two entries want the same socket")
        if self.metrics.listen is not None and (False, *parse_address(self.metrics.listen)) in sockets:
            raise ValueError("metrics.listen: is the socket of an entry of listen")
        return self

    def path(self, name: str) -> Path:
        """A path of the configuration, relative to its file."""
        return self.base / name

    def where(self, *location: int | str) -> str:
        """``file:line: key`` of a key, or of the table that would have it, for telling what is wrong with it."""
        return f"{self._file}:{_line_of(self._text, location)}: {_name(location)}"

    @property
    def store_url(self) -> str:
        """The store's URL, with a relative SQLite path made absolute."""
        head, slashes, tail = self.store.url.partition(":///")
        if head.startswith("sqlite") and slashes and not tail.startswith("/"):
            return f"{head}:///{self.base.resolve() / tail}"
        return self.store.url


def load(path: Path) -> Config:
    """Read and validate a configuration file.

    Raises:
        ConfigError: it can't be read, is no TOML, or has mistakes.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    except UnicodeDecodeError:
        raise ConfigError([f"{path}: is not UTF-8"]) from None
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"\(at line (\d+), column \d+\)", str(error))
        line = found[1] if found else str(text.count("\n") + 1)
        message = str(error).split(" (at ")[0]
        raise ConfigError([f"{path}:{line}: {message[:1].lower()}{message[1:]}"]) from None
    values.pop("base", None)
    try:
        config = Config(**values, base=path.parent)
    except ValidationError as error:
        raise ConfigError([_explain(path, text, dict(mistake)) for mistake in error.errors()]) from None
    config._file, config._text = path, text
    return config


def _explain(path: Path, text: str, mistake: dict[str, Any]) -> str:
    """One mistake in words of ours, with the line of its key."""
    location: tuple[int | str, ...] = mistake["loc"]
    kind: str = mistake["type"]
    message: str = mistake["msg"]
    if kind == "missing":
        message = "is missing"
    elif kind == "extra_forbidden":
        message = "is not known"
    elif kind == "value_error":
        message = str(mistake["ctx"]["error"])
    else:
        message = message.removeprefix("Input ").removeprefix("Value error, ")
    if not location:
        # Of the whole, and says itself which key it is of.
        key, _, message = message.partition(": ")
        location = tuple(key.split("."))
    return f"{path}:{_line_of(text, location)}: {_name(location)}: {message}"


def _name(location: tuple[int | str, ...]) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in location).lstrip(".")


def _line_of(text: str, location: tuple[int | str, ...]) -> int:
    """The line of a key, or of the table that should have it; 1 where there is neither.

    A scan for ``[table]``, ``[[table]]`` and ``key =`` lines is enough: the text has been parsed as TOML before.
    """
    best = (0, 1)
    table: tuple[int | str, ...] = ()
    counts: dict[str, int] = {}
    here: tuple[int | str, ...]
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if line.startswith("[["):
            name = line.strip("[]").split("]")[0].strip()
            counts[name] = counts.get(name, -1) + 1
            table = (name, counts[name])
            here = table
        elif line.startswith("["):
            table = here = tuple(line.strip("[]").split("]")[0].strip().split("."))
        elif "=" in line and not line.startswith("#"):
            here = (*table, line.split("=", 1)[0].strip().strip('"'))
        else:
            continue
        found = here[:-1] if here[:-1] == location else here  # all of [[table]] is where its first one is
        if found == location[: len(found)] and len(found) > best[0]:
            best = (len(found), number)
    return best[1]
