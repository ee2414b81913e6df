"""A leg: one party of a relayed call, as signalling knows it; and when two of them need a relay between them.

never    not for this party's sake
nat      where its messages come from another address than its description or its Contact has
always   in every call
"""

import ipaddress
import socket
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.errors import ParseError
from sipwire.uri import uri_of

from ..hop import HopFlow
from ..transport.flow import numbered, socket_address
from ..transport.serial import LINE_HOST
from .descriptions import is_numeric

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ..config import Config
    from ..store.accounts import Account
    from ..transport.flow import Flow
    from ..transport.serial import SerialLine

__all__ = [
    "ALWAYS",
    "NAT",
    "NEVER",
    "OFF",
    "OPPORTUNISTIC",
    "OUTSIDE",
    "PHONE",
    "REQUIRED",
    "TERMINAL",
    "Leg",
    "needed",
]

NEVER, NAT, ALWAYS = "never", "nat", "always"
REQUIRED, OPPORTUNISTIC, OFF = "required", "opportunistic", "off"
TERMINAL, PHONE, OUTSIDE = "terminal", "phone", "outside"
_INVALID = b".invalid"  # RFC 2606: what phones without an address of their own write into Contact (RFC 7118)


@dataclass(slots=True)
class Leg:
    """See the module.

    Attributes:
        kind: `TERMINAL`, `PHONE` or `OUTSIDE`.
        name: who that is, for reasons: a user of ours, or a domain.
        relay: `NEVER`, `NAT` or `ALWAYS`; of a party outside `NEVER` or `ALWAYS`.
        srtp: `REQUIRED`, `OPPORTUNISTIC` or `OFF`.
        is_demanded: whether somebody has said so: then it holds without a relay, too.
        suites: what we offer it with keys of our own.
        bind: our address that its media comes to.
        told: as it is told.
        source: where its messages come from, "" where that says nothing about its media.
        is_behind: whether its Contact says another address.
        flow: to it, when the call began.
        line: the serial line that it is at, and its media; None where it is reached by IP.
    """

    kind: str
    name: str
    relay: str
    srtp: str
    is_demanded: bool = False
    suites: tuple[bytes, ...] = field(default=())
    bind: str = ""
    told: str = ""
    source: str = ""
    is_behind: bool = False
    flow: "Flow | None" = None
    line: "SerialLine | None" = None

    @classmethod
    def of_user(cls, config: "Config", account: "Account | None", user: str, flow: "Flow", contact: bytes) -> "Leg":
        """A terminal or phone of ours.

        Args:
            config: the configuration.
            account: of the user, None where it is not known which that is.
            user: its name.
            flow: to it.
            contact: the URI of its Contact, b"" where there is none.
        """
        media = config.media
        is_terminal = isinstance(flow, HopFlow) or (account is not None and account.is_terminal)
        said = media.srtp if account is None or account.srtp is None else account.srtp
        if is_terminal:
            said = REQUIRED  # it knows nothing else
        source = "" if flow.identities else flow.host
        return cls(
            TERMINAL if is_terminal else PHONE,
            user or "a phone",
            # Nobody but we can send to it.
            ALWAYS if flow.line else (account.relay if account is not None else None) or media.relay,
            said or REQUIRED,
            said is not None and not is_terminal,
            tuple(suite.encode() for suite in media.inside_suites),
            told=LINE_HOST if flow.line else media.inside or "",
            source=source,
            is_behind=bool(source) and _is_elsewhere(contact, source),
            flow=flow,
            line=flow.line,
        )

    @classmethod
    def of_domain(cls, config: "Config", domain: str, flow: "Flow") -> "Leg":
        """Somebody of another domain."""
        media = config.media
        said = config.srtp_with(domain)
        return cls(
            OUTSIDE,
            domain or "another domain",
            ALWAYS if media.relay == ALWAYS else NEVER,
            said or REQUIRED,
            said is not None,
            tuple(suite.encode() for suite in media.outside_suites),
            told=media.outside or "",
            flow=flow,
        )

    def place(self) -> None:
        """Choose our addresses for its media, now that some will come."""
        if self.flow is not None:
            self.bind = self.bind or _bind_of(self.flow)
            self.told = self.told or _told_of(self.flow)
            self.flow = None

    def move(self, other: "Leg") -> None:
        """The party sends from elsewhere now; what it was told of us stays."""
        self.source, self.is_behind = other.source, other.is_behind

    def is_behind_nat(self, hosts: "Iterable[bytes]") -> bool:
        """Whether it says other addresses than it sends from.

        Args:
            hosts: in its description; none where there is none yet, and its Contact decides.
        """
        if not self.source:
            return False
        numbers = [host for host in hosts if is_numeric(host)]
        if numbers:
            return any(not _is_same(host, self.source) for host in numbers)
        return self.is_behind

    def reaches(self, address: "tuple[str, int] | None") -> "tuple[str, int] | None":
        """Where its packets go, and come from at first: what it says, or where its messages come from.

        An address that its messages do not come from is behind a NAT, or somebody else's, who is not to get packets
        that they never asked for.
        """
        if address is None or not self.source or address[0] == self.source:
            return address
        return (self.source, address[1])


def needed(legs: "tuple[Leg, Leg]", hosts: "tuple[list[bytes], list[bytes]]", *, hidden: bool = False) -> bool:
    """Whether a call of two parties goes through a relay.

    Args:
        legs: the parties.
        hosts: the addresses in the description of each, as far as it is known.
        hidden: whether one of them wants its address hidden from the other (RFC 3323).
    """
    if hidden:
        return True
    inside = [leg for leg in legs if leg.kind != OUTSIDE]
    if any(leg.relay == ALWAYS for leg in inside or legs):
        return True
    return any(leg.relay == NAT and leg.is_behind_nat(said) for leg, said in zip(legs, hosts, strict=True))


def _bind_of(flow: "Flow") -> str:
    """The address of ours that media of a flow's other end comes to: its listener's, which may be all there are."""
    return numbered(flow.listener.config.address)


def _told_of(flow: "Flow") -> str:
    """The address of ours that the other end of a flow is told: its listener's, or whichever leads there."""
    address = flow.listener.config.address.partition("%")[0]
    if not ipaddress.ip_address(address).is_unspecified:
        return address
    family = socket.AF_INET6 if ":" in flow.peer[0] else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(socket_address(flow.peer))  # sends nothing
        except OSError:
            return address
        return str(probe.getsockname()[0]).partition("%")[0]


def _is_same(host: bytes, source: str) -> bool:
    return str(ipaddress.ip_address(host.decode("ascii"))) == source


def _is_elsewhere(contact: bytes, source: str) -> bool:
    """Whether a Contact has an address that is not the one which messages come from. A name says nothing."""
    try:
        host = uri_of(contact).host.strip(b"[]").lower() if contact else b""
    except ParseError:
        return False
    if host.endswith(_INVALID):
        return True
    return is_numeric(host) and not _is_same(host, source)
