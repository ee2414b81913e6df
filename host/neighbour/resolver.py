"""Where the servers of a URI are, in the order to try them (RFC 3263 section 4, for the transports that are allowed).

    [[peer]], by its domain or address ---------------------------------------------+
    an address or a port in the URI ------------------------------------+           |
    transport= ----------------------+                                  |           |
    NAPTR, else what SRV there is --> transport --> SRV --> hosts --> A, AAAA --> Targets

Transports are never mixed in one list: whoever can silence a domain's TLS servers must not move its calls to UDP.
"""

import asyncio
import ipaddress
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import dns.exception
import dns.name
import dns.rdatatype

from .config import parse_address
from .dnscache import DnsCache, DnsError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable
    from typing import Any

    from dns.rdtypes.IN.NAPTR import NAPTR
    from dns.rdtypes.IN.SRV import SRV

    from sipwire.uri import Uri

    from .config import PeerConfig, ResolverConfig

    Server = tuple[str | dns.name.Name, int]

__all__ = ["TCP", "TLS", "UDP", "ResolveError", "Resolver", "Target"]

_T = TypeVar("_T")
TLS, TCP, UDP = "TLS", "TCP", "UDP"
_SAFEST_FIRST = (TLS, TCP, UDP)
_PORTS = {TLS: 5061, TCP: 5060, UDP: 5060}
_SRV = {TLS: "_sips._tcp", TCP: "_sip._tcp", UDP: "_sip._udp"}
_NAPTR = {"sips+d2t": TLS, "sip+d2t": TCP, "sip+d2u": UDP}
_LOCATE_S = 5.0  # for all questions about one URI; who calls waits meanwhile, and gets 503 then
_MAX_TARGETS = 8  # of one URI: more than anybody would wait for; the least preferred are left out
_FAILED_S = 60.0  # a server that did not answer is tried last for so long: a restart takes as much
_MAX_LEFT_OUT_S = 300.0  # whatever its Retry-After says: one overload must not cost a domain a day
_MAX_FAILED = 1000  # remembered at a time; beyond, the oldest are forgotten and just tried again


class ResolveError(Exception):
    """A domain can't be found; the text says why, in words for a Warning header."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request may be sent.

    Attributes:
        transport: ``UDP``, ``TCP`` or ``TLS``.
        host: a numeric address.
        port: of it.
        domain: the domain asked for, whom a TLS certificate has to prove (RFC 5922); for logs otherwise.
    """

    transport: str
    host: str
    port: int
    domain: str


class Resolver:
    """Finds servers, and remembers which of them failed.

    Args:
        config: over what domains may be reached, and DNS settings.
        peers: the static table.
        clock: seconds that only grow.
    """

    def __init__(
        self, config: "ResolverConfig", peers: "list[PeerConfig]", clock: "Callable[[], float]" = time.monotonic
    ) -> None:
        self._peers = {peer.domain: peer for peer in peers}
        self._by_address: dict[str, list[tuple[PeerConfig, int]]] = {}
        #: Those whose addresses are all numeric.
        self._of_peer: dict[str, list[Target]] = {}
        for peer in peers:
            targets = []
            for host, port in map(parse_address, peer.address):
                address = _numeric(host)
                if address is not None:
                    self._by_address.setdefault(address, []).append((peer, port))
                    targets.append(Target(peer.transport.upper(), address, port, peer.domain))
            if len(targets) == len(peer.address):
                self._of_peer[peer.domain] = targets
        self._allowed = {one.upper() for one in config.transports}
        self._dns = DnsCache(list(config.nameservers), config.port, clock) if config.enabled else None
        self._clock = clock
        self._failed: dict[Target, tuple[float, bool]] = {}

    async def locate(self, uri: "Uri") -> list[Target]:
        """Where to send a request whose next hop is this URI, in the order to try it. At most eight.

        Servers that failed lately come last.

        Args:
            uri: sip or sips; the topmost Route, or the Request-URI.

        Raises:
            ResolveError: nowhere.
        """
        domain = uri.host.decode("latin-1").lower().rstrip(".")
        found = self._known(uri, domain)
        if found is None:
            found = await self._in_time(self._search(uri, domain), domain)
        return self._in_order(found[:_MAX_TARGETS], domain)

    async def _in_time(self, work: "Coroutine[Any, Any, list[Target]]", domain: str) -> list[Target]:
        """What a search finds. It has a task of its own, since who calls us need not have one."""
        task = asyncio.create_task(work, name=f"locate {domain}")
        try:
            done, _ = await asyncio.wait((task,), timeout=_LOCATE_S)
        finally:
            task.cancel()
        if not done:
            raise ResolveError(f"DNS takes too long for {domain}")
        try:
            return task.result()
        except (DnsError, dns.exception.DNSException) as error:
            reason = str(error) if isinstance(error, DnsError) else type(error).__name__
            raise ResolveError(f"DNS failed for {domain}: {reason}") from None

    # What has been learnt of servers (section 4.3).

    def failed(self, target: Target, for_s: float | None = None) -> None:
        """A server could not be reached, did not answer in time, or said 503: others are tried before it for a while.

        Args:
            target: the server.
            for_s: the Retry-After of its 503, in seconds, None where there was none. Until then, and 300 s at most,
                we "SHOULD NOT forward any other requests to that server" (RFC 3261 section 21.5.4).
        """
        self._failed.pop(target, None)
        if len(self._failed) >= _MAX_FAILED:
            del self._failed[next(iter(self._failed))]
        if for_s is None:
            self._failed[target] = self._clock() + _FAILED_S, False
        elif for_s > 0:
            self._failed[target] = self._clock() + min(for_s, _MAX_LEFT_OUT_S), True

    def works(self, target: Target) -> None:
        """A server answered something else than 503."""
        self._failed.pop(target, None)

    def close(self) -> None:
        """Ask name servers no more."""
        if self._dns is not None:
            self._dns.close()

    def _in_order(self, found: list[Target], domain: str) -> list[Target]:
        """Failing ones last, and none that asks to be left alone while there are others.

        Where there are no others it is asked all the same: a 503 may come from one user's phone, past a proxy that
        does not mind what it forwards, and must not keep everybody from everybody else there.
        """
        if not found:
            raise ResolveError(f"{domain} has no address that can be used")
        now = self._clock()
        fine, failing, left_alone = [], [], []
        for target in found:
            until, leave_alone = self._failed.get(target, (0.0, False))
            if until <= now:
                self._failed.pop(target, None)
                fine.append(target)
            elif leave_alone:
                left_alone.append(target)
            else:
                failing.append(target)
        return fine + failing or left_alone

    # Section 4.1: which transport.

    def _known(self, uri: "Uri", domain: str) -> list[Target] | None:
        """What needs no name server: peers, and addresses. None where names have to be looked up."""
        is_secure = uri.scheme == b"sips"
        peer = self._peers.get(domain)
        if peer is not None:
            self._check(peer, domain, is_secure=is_secure)
            return self._of_peer.get(domain)
        place = _place(uri, domain)
        address = _numeric(place)
        here = None if address is None else self._peer_at(address, uri.port)
        if address is not None and here is not None:
            peer, port = here
            self._check(peer, domain, is_secure=is_secure)
            return [Target(peer.transport.upper(), address, port, peer.domain)]
        if self._dns is None:
            raise ResolveError(f"{domain} is no peer of ours")
        if address is None:
            return None
        transport = self._asked(uri, domain) or self._default(domain, is_secure=is_secure)
        return _usable([Target(transport, address, uri.port or _PORTS[transport], domain)])

    def _peer_at(self, address: str, port: int | None) -> "tuple[PeerConfig, int] | None":
        """The peer at an address and port, and that port; over TCP and UDP all its ports are the peer's."""
        peers = self._by_address.get(address, ())
        for peer, its in peers:
            if port is None or port == its:
                return peer, its
        return next(((peer, port) for peer, _ in peers if port is not None and peer.transport != "tls"), None)

    async def _search(self, uri: "Uri", domain: str) -> list[Target]:
        servers: list[Server]
        peer = self._peers.get(domain)
        if peer is not None:
            servers = [parse_address(text) for text in peer.address]
            return await self._targets(peer.transport.upper(), servers, domain)
        is_secure = uri.scheme == b"sips"
        name = dns.name.from_text(_place(uri, domain))
        asked = self._asked(uri, domain)
        if uri.port is not None:
            transport, servers = asked or self._default(domain, is_secure=is_secure), [(name, uri.port)]
        elif asked is not None:
            found = await self._srv(dns.name.from_text(_SRV[asked], name))
            transport, servers = asked, [(name, _PORTS[asked])] if found is None else found
        else:
            transport, servers = await self._select(name, domain, is_secure=is_secure)
        if not servers:
            raise ResolveError(f"{domain} has no SIP server in DNS")
        return await self._targets(transport, servers, domain)

    def _check(self, peer: "PeerConfig", domain: str, *, is_secure: bool) -> None:
        if is_secure and peer.transport != "tls":
            raise ResolveError(f"{domain} is reached over {peer.transport}, and sips wants tls")

    def _asked(self, uri: "Uri", domain: str) -> str | None:
        """The transport that a URI asks for, None where it does not.

        One that is not allowed gives way to TLS, never to a worse one: many phones write ``transport=tcp`` into
        whatever they dial.
        """
        value = uri.param("transport")
        if value is None:
            return None
        asked = value.decode("latin-1").upper()
        if asked not in _PORTS:
            raise ResolveError(f"{domain}: there is no transport {value.decode('latin-1')[:20]} here")
        if uri.scheme == b"sips":
            # With a sips URI, transport=tcp is TLS on TCP (RFC 3261 section 26.2.2); over UDP there is none.
            if asked == UDP:
                raise ResolveError(f"{domain}: sips wants tls, and the address says transport=udp")
            asked = TLS
        if asked in self._allowed:
            return asked
        if TLS in self._allowed:
            return TLS
        raise self._not_allowed(domain, asked)

    def _not_allowed(self, domain: str, transport: str) -> ResolveError:
        return ResolveError(f"{domain} is reached over {transport.lower()}, which resolver.transports does not allow")

    def _default(self, domain: str, *, is_secure: bool) -> str:
        """Where neither URI nor DNS says: "the client SHOULD use UDP for a SIP URI", TLS for a SIPS URI."""
        order = (TLS,) if is_secure else (UDP, TCP, TLS)
        for transport in order:
            if transport in self._allowed:
                return transport
        raise self._not_allowed(domain, TLS)

    async def _select(self, name: dns.name.Name, domain: str, *, is_secure: bool) -> "tuple[str, list[Server]]":
        """The transport that a domain prefers of those allowed, and its servers for that."""
        usable = [one for one in _SAFEST_FIRST if one in self._allowed and (one == TLS or not is_secure)]
        if not usable:
            raise self._not_allowed(domain, TLS)
        records = await self._query(name, dns.rdatatype.NAPTR)
        ranked: list[NAPTR] = sorted(records or (), key=lambda record: (record.order, record.preference))
        offers = [(transport, record.replacement) for record in ranked if (transport := _offered(record)) in usable]
        if offers:
            transport = offers[0][0]
            servers: list[Server] = []
            is_known = False
            for _, replacement in (offer for offer in dict.fromkeys(offers) if offer[0] == transport):
                found = await self._srv(replacement)
                servers += found or ()
                is_known = is_known or found is not None
            return transport, servers if is_known else [(name, _PORTS[transport])]
        refused = False
        for transport in usable:
            found = await self._srv(dns.name.from_text(_SRV[transport], name))
            if found:
                return transport, found
            if found is not None:
                # "A Target of "." means that the service is decidedly not available at this domain." (RFC 2782)
                refused = True
        if refused:
            return TLS, []
        transport = self._default(domain, is_secure=is_secure)
        return transport, [(name, _PORTS[transport])]

    # Section 4.2: which port and address.

    async def _srv(self, service: dns.name.Name) -> "list[Server] | None":
        """Hosts and ports in the order of RFC 2782; None where there are no records, nothing where nobody serves."""
        records = await self._query(service, dns.rdatatype.SRV)
        if records is None:
            return None
        ordered: list[SRV] = list(records.processing_order())  # type: ignore[arg-type]
        return [(one.target, one.port) for one in ordered if one.target != dns.name.root and one.port]

    async def _targets(self, transport: str, servers: "list[Server]", domain: str) -> list[Target]:
        servers = servers[:_MAX_TARGETS]
        # All at once: one host whose name server is slow must not make the others wait.
        answers = await asyncio.gather(*(_outcome(self._addresses(host)) for host, _ in servers))
        targets = _usable(
            Target(transport, address, port, domain)
            for (_, port), found in zip(servers, answers, strict=True)
            if isinstance(found, list)
            for address in found
        )
        errors = [found for found in answers if isinstance(found, DnsError)]
        if not targets and errors:
            raise errors[0]
        return targets

    async def _addresses(self, host: "str | dns.name.Name") -> list[str]:
        """The addresses of a host, IPv6 first (RFC 6724 section 2.1); of a name in our own file as the system says."""
        if isinstance(host, str):
            address = _numeric(host)
            return [address] if address is not None else await _of_system(host)
        answers = await asyncio.gather(
            *(_outcome(self._query(host, kind)) for kind in (dns.rdatatype.AAAA, dns.rdatatype.A))
        )
        found = []
        for records in answers:
            if not isinstance(records, DnsError):
                found += [record.to_text() for record in records or ()]
        errors = [one for one in answers if isinstance(one, DnsError)]
        if not found and errors:
            raise errors[0]
        return found

    async def _query(self, name: dns.name.Name, kind: dns.rdatatype.RdataType) -> "dns.rrset.RRset | None":
        assert self._dns is not None
        return await self._dns.query(name, kind)


def _place(uri: "Uri", domain: str) -> str:
    """Section 4's TARGET: "the value of the maddr parameter of the URI, if present, otherwise, the host value".

    It only says where; whom to find there is the host all the same.
    """
    maddr = uri.param("maddr")
    return maddr.decode("latin-1").lower() if maddr else domain


def _numeric(host: str) -> str | None:
    """An address in its usual form, without brackets; None where it is a name."""
    try:
        return str(ipaddress.ip_address(host.removeprefix("[").removesuffix("]")))
    except ValueError:
        return None


def _usable(targets: "Iterable[Target]") -> list[Target]:
    """Without those that nobody has for themselves: a request must not go to everybody, whatever DNS says."""
    found = []
    for target in targets:
        address = ipaddress.ip_address(target.host)
        if not (address.is_unspecified or address.is_multicast or target.host == "255.255.255.255"):
            found.append(target)
    return list(dict.fromkeys(found))


def _offered(record: "NAPTR") -> str:
    """The transport that a NAPTR record leads to, "" where it leads elsewhere."""
    if record.flags.lower() != b"s" or record.regexp:
        return ""
    return _NAPTR.get(record.service.decode("latin-1").lower(), "")


async def _outcome(work: "Coroutine[Any, Any, _T]") -> "_T | DnsError":
    """What it returns, or its error: of several, one that fails spoils nothing."""
    try:
        return await work
    except DnsError as error:
        return error


async def _of_system(host: str) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=1)
    except OSError:
        return []
    return [str(entry[4][0]) for entry in found]
