"""Where a domain's SIP servers are: the static table of peers, else DNS (RFC 3263), for TLS.

NAPTR SIPS+D2T -> SRV _sips._tcp.domain -> A and AAAA        each step skipped where there is nothing
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import dns.asyncresolver
import dns.exception
import dns.name
import dns.rdatatype
import dns.resolver

from .config import parse_address

if TYPE_CHECKING:
    from dns.rdtypes.IN.NAPTR import NAPTR
    from dns.rdtypes.IN.SRV import SRV

    from sipwire.uri import Uri

    from .config import PeerConfig, ResolverConfig

__all__ = ["ResolveError", "Resolver", "Target"]

_QUERY_S = 0.5  # until the next server is asked; a dead one shows in no other way
_LIFETIME_S = 2.0  # for one lookup in all
_SIPS_PORT = 5061
_MAX_SERVERS = 8  # of one domain: more addresses than anybody would wait for
_SIPS_SERVICE = "sips+d2t"


@dataclass(frozen=True)
class Target:
    """A server of a domain."""

    transport: str
    host: str
    port: int
    domain: str


class ResolveError(Exception):
    """A domain can't be found; the text says why, in words for a Warning header."""


class Resolver:
    """Finds domains.

    Args:
        config: DNS settings.
        peers: the static table.
    """

    def __init__(self, config: "ResolverConfig", peers: "list[PeerConfig]") -> None:
        self._peers = {peer.domain: parse_address(peer.address) for peer in peers}
        self._dns: dns.asyncresolver.Resolver | None = None
        if config.enabled:
            try:
                self._dns = dns.asyncresolver.Resolver(configure=not config.nameservers)
            except dns.resolver.NoResolverConfiguration:
                return
            if config.nameservers:
                self._dns.nameservers = list(config.nameservers)
                self._dns.port = config.port
            self._dns.timeout = _QUERY_S
            self._dns.lifetime = _LIFETIME_S

    def failed(self, target: Target, for_s: float | None = None) -> None:
        """A server did not answer, or said 503."""

    def works(self, target: Target) -> None:
        """A server answered."""

    async def locate(self, uri: "Uri") -> "list[Target]":
        """The servers of a URI's domain, in the order to try them.

        Raises:
            ResolveError: there are none.
        """
        domain = uri.host.decode("latin-1").lower()
        return [Target("TLS", host, port, domain) for host, port in await self.locate_(domain)]

    async def locate_(self, domain: str) -> list[tuple[str, int]]:
        """See `locate`: the addresses and ports of a domain's SIP-over-TLS servers, in the order to try them.

        Raises:
            ResolveError: there are none.
        """
        fixed = self._peers.get(domain)
        if fixed is not None:
            return [fixed]
        if self._dns is None:
            raise ResolveError(f"{domain} is no peer of ours")
        try:
            servers = await self._servers(self._dns, domain)
            found = []
            for host, port in servers[:_MAX_SERVERS]:
                found += [(address, port) for address in await self._addresses(self._dns, host)]
        except (dns.exception.DNSException, OSError) as error:
            raise ResolveError(f"DNS failed for {domain}: {type(error).__name__}") from None
        if not found:
            raise ResolveError(f"{domain} has no SIP server in DNS")
        return found[:_MAX_SERVERS]

    async def _servers(self, resolver: dns.asyncresolver.Resolver, domain: str) -> list[tuple[str, int]]:
        """Host names and ports (RFC 3263 sections 4.1 and 4.2)."""
        service = f"_sips._tcp.{domain}"
        naptr = await _query(resolver, domain, dns.rdatatype.NAPTR)
        if naptr is not None:
            usable: list[NAPTR] = [
                record
                for record in naptr
                if record.service.decode().lower() == _SIPS_SERVICE and record.flags.decode().lower() == "s"
            ]
            if usable:
                first = min(usable, key=lambda record: (record.order, record.preference))
                service = first.replacement.to_text(omit_final_dot=True)
        srv = await _query(resolver, service, dns.rdatatype.SRV)
        if srv is None:
            return [(domain, _SIPS_PORT)]
        ordered: list[SRV] = list(srv.processing_order())  # type: ignore[arg-type]
        return [(one.target.to_text(omit_final_dot=True), one.port) for one in ordered if one.target != dns.name.root]

    async def _addresses(self, resolver: dns.asyncresolver.Resolver, host: str) -> list[str]:
        found = []
        for kind in (dns.rdatatype.AAAA, dns.rdatatype.A):
            records = await _query(resolver, host, kind)
            if records is not None:
                found += [record.to_text() for record in records]
        return found


async def _query(
    resolver: dns.asyncresolver.Resolver, name: str, kind: dns.rdatatype.RdataType
) -> "dns.rrset.RRset | None":
    """The records of a name, or None where there are none of the kind."""
    try:
        return (await resolver.resolve(name, kind, search=False)).rrset
    except (dns.resolver.NoAnswer, dns.resolver.NXDOMAIN):
        return None
