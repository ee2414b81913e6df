"""The neighbour's configuration: one TOML file, validated as a whole.

Every key is described in `sample.toml` beside this file, which ``wisp init`` fills in. A mistake is told as
``file:line: key: what is wrong``, all of them at once.
"""

import base64
import binascii
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
    "AccountingConfig",
    "AuthConfig",
    "Config",
    "ConfigError",
    "GroupConfig",
    "LEVELS",
    "LimitsConfig",
    "ListenConfig",
    "LogConfig",
    "MediaConfig",
    "MetricsConfig",
    "PeerConfig",
    "ProxyConfig",
    "RELAYS",
    "RegistrarConfig",
    "ResolverConfig",
    "SRTP",
    "SecurityConfig",
    "SerialConfig",
    "StoreConfig",
    "TlsConfig",
    "domain_name",
    "load",
    "numeric_address",
    "parse_address",
    "user_name",
]

_MAX_ADDRESSES = 8  # of one peer: more than anybody waits for, as with DNS
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.-]+|\[[0-9A-Fa-f:.]+(%[A-Za-z0-9._-]+)?\]", re.ASCII)
_USER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,63}", re.ASCII)  # it is part of file names, too
_NO_NAME = re.compile(r"[^A-Za-z0-9._]+", re.ASCII)
_PIN_BYTES = 32  # of SHA-256
_MAX_PINS = 8  # of one peer: its present key, its next one, and a few of its users
_MAX_MEMBERS = 100  # of one group: as many phones may ring for one call
_NO_GROUP = ("user", "domain")  # what `wisp account set --signer` calls the user's own certificate and the domain's
_MAX_RATE = 1_000_000  # requests a second, more than anybody's computer answers: no limit at all


#: How safe a call is, the least first (WIRE section 2). With "none" nothing is asked for.
LEVELS = ("none", "medium", "heavy")

#: When a call's media goes through us, and how a party's media has to be protected (RFC 4568; RFC 8643).
RELAYS = ("never", "nat", "always")
SRTP = ("required", "opportunistic", "off")
_SUITES = (
    "AES_CM_128_HMAC_SHA1_80",
    "AES_CM_128_HMAC_SHA1_32",
    "AES_192_CM_HMAC_SHA1_80",
    "AES_192_CM_HMAC_SHA1_32",
    "AES_256_CM_HMAC_SHA1_80",
    "AES_256_CM_HMAC_SHA1_32",
    "AEAD_AES_128_GCM",
    "AEAD_AES_256_GCM",
)
_PORTS_OF_RELAY = 4  # RTP and RTCP on both sides, of one stream


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


def user_name(value: str) -> str:
    """A user part as accounts and groups have it: it is safe in URIs, header fields and file names.

    Raises:
        ValueError: it is none.
    """
    if not _USER.fullmatch(value):
        raise ValueError("1 to 64 letters, digits, and . _ + - are wanted, a letter or digit first")
    return value


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


def _pin(value: str) -> str:
    try:
        size = len(base64.b64decode(value, validate=True))
    except (ValueError, binascii.Error):
        size = 0
    if size != _PIN_BYTES:
        raise ValueError("the base64 of a SHA-256 is wanted, as `wisp cert show` tells it")
    return value


def _suite(value: str) -> str:
    if value not in _SUITES:
        raise ValueError(f"{value} is no suite that is relayed; there are {', '.join(_SUITES)}")
    return value


def _group_uri(value: str) -> str:
    scheme, colon, rest = value.partition(":")
    user, at, host = rest.partition("@")
    if scheme.lower() != "sip" or not colon or not at:
        raise ValueError("sip:user@domain is wanted")
    return f"sip:{user_name(user)}@{domain_name(host)}"


Domain = Annotated[str, AfterValidator(domain_name)]
User = Annotated[str, AfterValidator(user_name)]
Pin = Annotated[str, AfterValidator(_pin)]
Level = Literal["none", "medium", "heavy"]
Verdict = Literal["accept", "warn", "refuse"]
RelayMode = Literal["never", "nat", "always"]
Srtp = Literal["required", "opportunistic", "off"]
IpAddress = Annotated[str, AfterValidator(numeric_address)]
Address = Annotated[str, AfterValidator(_address)]
Addresses = Annotated[list[str], BeforeValidator(_addresses)]
Transport = Literal["tls", "tcp", "udp"]
Port = Annotated[int, Field(ge=1, le=65535)]
Suites = Annotated[list[Annotated[str, AfterValidator(_suite)]], Field(min_length=1, max_length=len(_SUITES))]


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


class SerialConfig(_Table):
    """One serial line to a terminal; see `transport.serial`."""

    port: str = Field(min_length=1)
    baud: int = Field(default=921_600, ge=9600, le=5_000_000)
    console: str = ""

    @property
    def name(self) -> str:
        """What it is called where a path would not do, as in a terminal's address."""
        return _NO_NAME.sub("-", self.port).strip("-")

    @model_validator(mode="after")
    def _named(self) -> "SerialConfig":
        if not self.name:
            raise ValueError("port: the name of a serial port is wanted, like /dev/ttyUSB0")
        return self


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


class SecurityConfig(_Table):
    """What the security agent asks for, and with which certificates it works; see `agent`."""

    level: Level | None = None  # None: as `Config.least_level` finds
    on_failure: Literal["refuse", "plain"] = "refuse"
    folder: str = Field(default="certificates", min_length=1)
    authority: str = ""
    renew_days: int = Field(default=30, ge=1, le=180)  # our own certificates hold for 13 months
    rfc6216: bool = False
    crl: list[str] = []
    crl_fresh_s: int = Field(default=0, ge=0)
    crl_stale: Verdict = "refuse"
    crl_missing: Verdict = "accept"
    crl_forged: Verdict = "refuse"


class GroupConfig(_Table):
    """A name that several users answer to, and speak as."""

    uri: Annotated[str, AfterValidator(_group_uri)]
    members: list[User] = Field(min_length=1, max_length=_MAX_MEMBERS)
    mode: Literal["parallel", "hunt"] = "parallel"

    @property
    def user(self) -> str:
        """The user part of its URI."""
        return self.uri[len("sip:") :].partition("@")[0]

    @model_validator(mode="after")
    def _once(self) -> "GroupConfig":
        for member in self.members:
            if self.members.count(member) > 1:
                raise ValueError(f"members: {member} is there twice")
        return self


class PeerConfig(_Table):
    """A domain with fixed addresses.

    Over ``tcp`` and ``udp`` there is no certificate: whoever sends from one of the addresses counts as the domain.
    """

    domain: Domain
    address: Addresses
    transport: Transport = "tls"
    level: Level | None = None  # None: as `Config.least_level` finds
    pin: list[Pin] = Field(default=[], max_length=_MAX_PINS)
    profile: Literal["rfc8591", "rfc3261"] = "rfc8591"
    srtp: Srtp | None = None  # None: as `MediaConfig` has it

    @model_validator(mode="after")
    def _reachable(self) -> "PeerConfig":
        if self.transport != "tls" and self.level not in {None, "none"}:
            raise ValueError(f"level: {self.level} wants tls, and {self.domain} is reached over {self.transport}")
        return self

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


class MediaConfig(_Table):
    """When media of calls goes through us, and how; see `media`."""

    relay: RelayMode = "never"
    inside: IpAddress | None = None
    outside: IpAddress | None = None
    first_port: int = Field(default=40_000, ge=1024, le=65_534)
    last_port: int = Field(default=49_999, ge=1025, le=65_535)
    max_relays: int = Field(default=2000, ge=1, le=16_000)
    timeout_s: int = Field(default=60, ge=5, le=3600)
    srtp: Srtp | None = None  # None: required of what is relayed, and nobody's business elsewhere
    own_keys: bool = False
    inside_suites: Suites = ["AES_CM_128_HMAC_SHA1_80", "AES_CM_128_HMAC_SHA1_32"]
    outside_suites: Suites = [
        "AEAD_AES_256_GCM",
        "AEAD_AES_128_GCM",
        "AES_256_CM_HMAC_SHA1_80",
        "AES_CM_128_HMAC_SHA1_80",
        "AES_CM_128_HMAC_SHA1_32",
    ]

    @model_validator(mode="after")
    def _possible(self) -> "MediaConfig":
        if self.last_port - self.first_port < _PORTS_OF_RELAY:
            raise ValueError("last_port: leaves no room above first_port for a single relay, which takes four ports")
        for name in ("inside_suites", "outside_suites"):
            if len(set(getattr(self, name))) != len(getattr(self, name)):
                raise ValueError(f"{name}: one of them is there twice")
        for name in ("inside", "outside"):
            address = getattr(self, name)
            if address is not None and (
                ipaddress.ip_address(address).is_unspecified or ipaddress.ip_address(address).is_multicast
            ):
                raise ValueError(f"{name}: {address} is nobody's own: name the address that media is sent to")
        return self


class AccountingConfig(_Table):
    """What is kept of calls; see `accounting`."""

    keep_days: int = Field(default=30, ge=0, le=3650)


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
    serial: list[SerialConfig] = []
    tls: TlsConfig
    store: StoreConfig = StoreConfig()
    registrar: RegistrarConfig = RegistrarConfig()
    auth: AuthConfig = AuthConfig()
    proxy: ProxyConfig = ProxyConfig()
    resolver: ResolverConfig = ResolverConfig()
    security: SecurityConfig = SecurityConfig()
    group: list[GroupConfig] = []
    peer: list[PeerConfig] = []
    media: MediaConfig = MediaConfig()
    accounting: AccountingConfig = AccountingConfig()
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
        self._check_groups()
        sockets = [(one.transport == "udp", one.address, one.port) for one in self.listen]
        if len(set(sockets)) != len(sockets):
            raise ValueError("listen: two entries want the same socket")
        for key, found in (
            ("port", [one.name for one in self.serial]),
            ("console", [one.console for one in self.serial if one.console]),
        ):
            if len(set(found)) != len(found):
                raise ValueError(f"serial: two entries want the same {key}")
        if self.metrics.listen is not None and (False, *parse_address(self.metrics.listen)) in sockets:
            raise ValueError("metrics.listen: is the socket of an entry of listen")
        return self

    def _check_groups(self) -> None:
        users = [group.user for group in self.group]
        for group in self.group:
            if group.uri.partition("@")[2] != self.domain:
                raise ValueError(f"group: {group.uri} is not of {self.domain}")
            if users.count(group.user) > 1:
                raise ValueError(f"group: {group.uri} is there twice")
            if group.user in _NO_GROUP:
                raise ValueError(f"group: {group.uri}: `wisp account set --signer` means something else by that name")
            for member in group.members:
                if member in users:
                    raise ValueError(f"group: {group.uri}: {member} is a group itself, and members are users")

    def least_level(self, domain: str) -> str:
        """What a call with users of a domain has to reach at least, of `LEVELS`.

        It is the domain's own where it is a peer that has one, and "none" for a peer without TLS, which can reach no
        other; else what `security` says; else "medium" where other domains are reached over TLS only.

        Args:
            domain: in lower case.
        """
        for peer in self.peer:
            if peer.domain == domain:
                if peer.level is not None:
                    return peer.level
                if peer.transport != "tls":
                    return "none"
        if self.security.level is not None:
            return self.security.level
        is_tls_only = not self.resolver.enabled or self.resolver.transports == ["tls"]
        return "medium" if is_tls_only else "none"

    def profile(self, domain: str) -> str:
        """What a domain can read: ``rfc8591``, or ``rfc3261`` for RSA and AES-CBC only."""
        return next((peer.profile for peer in self.peer if peer.domain == domain), "rfc8591")

    def srtp_with(self, domain: str) -> str | None:
        """How media with users of another domain has to be protected, of `SRTP`; None where nobody has said."""
        of_peer = next((peer.srtp for peer in self.peer if peer.domain == domain), None)
        return of_peer or self.media.srtp

    def group_of(self, user: str) -> GroupConfig | None:
        """The group that has this user part, or None."""
        return next((group for group in self.group if group.user == user), None)

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
