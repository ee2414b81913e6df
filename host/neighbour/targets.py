"""Where a request goes: its target set (RFC 3261 section 16.5), in groups that are tried one after the other.

a user of ours         the bindings, by q; several flows of one phone are one target (RFC 5626)
within a dialog        the flow that our Record-Route names, or the binding of the Contact; by TCP where that says so
a Route, or elsewhere  the servers of that domain (RFC 3263); we relay for nobody but our own users
"""

import ipaddress
from typing import TYPE_CHECKING

from sipwire.editing import remove_first
from sipwire.headers import Address, address_of
from sipwire.uri import Uri, uri_of

from .gate import DIALOG, Sender, user_of
from .refusal import RefusedError
from .resolver import TCP, Target
from .transport.flow import NOBODY, format_address
from .transport.stream import Connection
from .transport.udp import UdpFlow, flow_named
from .ways import Groups, Way

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from sipwire.message import Request

    from .agent.groups import Groups as GroupNames
    from .agent.groups import Member
    from .hop import Hops
    from .location import Binding, Location
    from .store.accounts import Accounts
    from .transport.flow import Flow
    from .transport.udp import UdpTransport

__all__ = ["Targets"]

# RFC 5630 section 6.3 has these for the Warning of a 480 where the scheme does not fit the contacts.
_SIPS_NOT_ALLOWED = 380
_SIPS_REQUIRED = 381


class Targets:
    """Finds targets.

    Args:
        domain: our domain.
        location: where users are.
        accounts: who is who.
        hops: flows to terminals.
        groups: that can be called.
        is_ours: whether a URI's host and port are ours.
        connections: all that are open, by token.
        warn: makes the Warning value of a reason, with a code where it is not 399.
    """

    def __init__(
        self,
        domain: str,
        location: "Location",
        accounts: "Accounts",
        hops: "Hops",
        groups: "GroupNames",
        is_ours: "Callable[[Uri], bool]",
        connections: "Mapping[bytes, Flow]",
        warn: "Callable[..., bytes]",
    ) -> None:
        self._domain = domain
        self._location = location
        self._accounts = accounts
        self._hops = hops
        self._groups = groups
        self._is_ours = is_ours
        self._connections = connections
        self._warn = warn
        self._udp: list[UdpTransport] = []

    def add_udp(self, transport: "UdpTransport") -> None:
        """A UDP socket, by which phones can be reached again after a restart."""
        self._udp.append(transport)

    def user_here(self, request: "Request", sender: Sender) -> "str | None":
        """The user of our domain that a request is for, None where it goes elsewhere.

        Raises:
            RefusedError: there is no such user, or it is not for the sender to ask.
        """
        uri = uri_of(request.uri)
        if request.get("route") is not None or not self._is_ours(uri):
            return None
        user = user_of(uri)
        if sender.kind == DIALOG and user != self._our_user(request.to):
            raise RefusedError(481, "Call/Transaction Does Not Exist")
        if user is None or not (self._accounts.by_user(user) or self._location.of(user) or self._groups.of(user)):
            raise RefusedError(404, "Not Found")
        return user

    def of_user(self, request: "Request", user: str) -> Groups:
        """Targets for a user of ours, or for the members of a group: all at once, or one after the other.

        Raises:
            RefusedError: nobody is there.
        """
        group = self._groups.of(user)
        if group is None:
            return self.of_bindings(request, self._location.of(user))
        found: list[Groups] = []
        refusal = RefusedError(480, "Temporarily Unavailable")
        for member in group.members:
            try:
                found.append(self.of_bindings(request, self._location.of(member)))
            except RefusedError as error:
                refusal = error
        if not found:
            raise refusal
        for way in (way for groups in found for one in groups for ways in one for way in ways):
            way.group = user
        if group.mode == "hunt":
            return [one for groups in found for one in groups]
        return [
            [ways for groups in found if number < len(groups) for ways in groups[number]]
            for number in range(max(map(len, found)))
        ]

    def of_bindings(self, request: "Request", bindings: "list[Binding]") -> Groups:
        """Targets for a user's bindings: those of equal q at once, the preferred first.

        Raises:
            RefusedError: there are none, or none that may be used.
        """
        if not bindings:
            raise RefusedError(480, "Temporarily Unavailable")
        ways = [(binding, way) for binding in bindings if (way := self._way(request, binding)) is not None]
        if not ways:
            raise RefusedError(480, "Temporarily Unavailable", ("Warning", self._warn("its connection is gone")))
        wants_sips = request.uri[:5].lower() == b"sips:"
        fit = [one for one in ways if (_takes_sips(*one) if wants_sips else one[0].uri.scheme != b"sips")]
        if not fit:
            code, text = (
                (_SIPS_NOT_ALLOWED, "SIPS Not Allowed: no protected way to the user")
                if wants_sips
                else (_SIPS_REQUIRED, "SIPS Required")
            )
            raise RefusedError(480, "Temporarily Unavailable", ("Warning", self._warn(text, code)))
        groups: Groups = []
        q = -1
        phones: dict[str, list[Way]] = {}
        for binding, way in fit:
            if binding.q != q:
                q = binding.q
                groups.append([])
            known = phones.get(binding.instance) if binding.instance else None
            if known is not None:
                # RFC 5626 section 5.3: of several flows to one phone "a proxy ... MUST NOT populate the target set with
                # more than one"; the others are for when it fails.
                known.append(way)
                continue
            target = [way]
            if binding.instance:
                phones[binding.instance] = target
            groups[-1].append(target)
        return [group for group in groups if group]

    def in_dialog(self, request: "Request", token: bytes, member: "Member | None" = None) -> list[Way]:
        """The ways to one side of a dialog: that which our Record-Route names, or that of its Contact.

        Args:
            request: the request, our entries taken off its Route.
            token: of the flow that the last of them named, or nothing.
            member: whom it goes to, where that is not the one whom To names.

        Returns:
            In order, none where nothing leads there.

        Raises:
            RefusedError: it has to be protected and is not.
        """
        flow = self._connections.get(token) or flow_named(token, self._udp) if token else None
        target = None
        if request.get("route") is None:
            # Where the Contact is registered the phone may have moved since.
            binding = self._binding_in_dialog(request, member)
            flow = (None if binding is None else self.flow_of(binding)) or flow
            if isinstance(flow, UdpFlow):
                target = _listens(uri_of(request.uri), flow.peer[0])
            elif flow is None and binding is not None:
                target = _listens_again(binding)
        elif flow is not None and not flow.identities:
            flow = None  # nobody but a peer has proxies behind it
        if flow is not None and request.uri[:5].lower() == b"sips:" and flow.protection == "none":
            # Whoever calls a SIPS URI wants every hop protected (RFC 3261 section 26.2.2).
            raise RefusedError(480, "Temporarily Unavailable", ("Warning", self._warn("no protected way to the user")))
        is_phone = self.is_phone(request, NOBODY if flow is None else flow.identities)
        if member is None:
            user, group = self._our_user(request.to) or "", ""
            if is_phone and isinstance(flow, UdpFlow | Connection) and not self.is_at(user, flow):
                user = self._user_at(request, flow) or user
        else:
            user, group = member.user, member.group
        ways = [] if target is None else [Way(request, target=target, is_phone=is_phone, user=user, group=group)]
        if flow is not None:
            ways.append(Way(request, flow, is_phone=is_phone, user=user, group=group))
        return ways

    def is_phone(self, request: "Request", domains: "Collection[str]") -> bool:
        """Whether a request within a dialog goes to a phone of ours, be it behind an edge proxy, and not to a peer.

        To does not say: a caller that was sent elsewhere goes on to write whom it has called first (RFC 3261 section
        8.1.3.4), and that may be one of ours.

        Args:
            request: the request.
            domains: what the next hop may speak for; none for a phone.
        """
        return not domains or any(self._is_behind(Uri(one.encode()), request.to) for one in domains)

    def is_at(self, user: str, flow: "Flow") -> bool:
        """Whether a flow is one that a user has registered by: of UDP the address."""
        source = format_address(flow.peer)
        kind = flow.transport.lower()
        return any(
            binding.source == source and (binding.flow is flow or binding.kind == kind == "udp")
            for binding in self._location.of(user)
        )

    def _user_at(self, request: "Request", flow: "Flow") -> str:
        """The user of ours whose phone is at the end of a flow, where To says somebody else; "" for nobody known.

        All bindings are looked at: that is for calls that have been sent on, and for phones that have moved meanwhile.
        """
        source = format_address(flow.peer)
        found = [user for user, of in self._location.sources() if of == source]
        named = (user for user in found if self._location.by_contact(request.uri, user) is not None)
        return next(named, found[0] if found else "")

    def elsewhere(self, request: "Request", sender: Sender) -> Groups:
        """The servers of another domain: that of the first Route, or of the Request-URI.

        Raises:
            RefusedError: it is not for the sender to ask.
        """
        return [[[Way(request, uri=self.next_hop(request, sender), is_phone=False)]]]

    def next_hop(self, request: "Request", sender: Sender) -> Uri:
        """Whose servers to find for a request. A strict router gets it as it wants it (section 16.6 step 6).

        Raises:
            RefusedError: it is not for the sender to ask.
        """
        route = request.values("route")
        if route:
            first = address_of(route[0])
            uri = first.parsed_uri()
        else:
            uri = uri_of(request.uri)
        if not uri.is_sip:
            raise RefusedError(416, "Unsupported URI Scheme")
        if not sender.is_local:
            raise RefusedError(404, "Not Found", ("Warning", self._warn("not a user of this domain")))
        if sender.kind == DIALOG and not _is_within(uri, request.to) and not self._is_behind(uri, request.to):
            # A cookie proves a dialog, not the right to send anything anywhere but to its other side.
            raise RefusedError(481, "Call/Transaction Does Not Exist")
        if request.uri[:5].lower() == b"sips:" and uri.scheme != b"sips":
            uri = Uri(uri.host, uri.user, uri.port, uri.params, b"sips")
        if route and uri.param("lr") is None:
            # "place the Request-URI into the Route header field as the last value ... [and] the first Route header
            # field value into the Request-URI and remove [it]"
            request.add("Route", b"<" + request.uri + b">")
            remove_first(request, "route")
            request.uri = first.uri
        return uri

    def _is_behind(self, uri: Uri, address: Address) -> bool:
        """Whether a host is the edge proxy that a user of ours has registered through."""
        user = self._our_user(address)
        if user is None:
            return False
        paths = [binding.path for binding in self._location.of(user) if binding.path]
        return any(address_of(path[0]).parsed_uri().host.lower() == uri.host.lower() for path in paths)

    def _our_user(self, address: Address) -> str | None:
        """The user of our domain that an address is of."""
        uri = address.parsed_uri()
        return user_of(uri) if uri.is_sip and uri.host.decode("latin-1").lower() == self._domain else None

    def _binding_in_dialog(self, request: "Request", member: "Member | None") -> "Binding | None":
        """The binding that the Contact of a dialog was registered with, if it was."""
        user = self._our_user(request.to) if member is None else member.user
        if not request.to.tag or user is None:
            return None
        binding = self._location.by_contact(request.uri, user)
        return binding if binding is not None and binding.user == user else None

    def _way(self, request: "Request", binding: "Binding") -> Way | None:
        """The way to a binding, None where there is none just now."""
        if binding.path:
            return self._way_by_path(request, binding)
        flow = self.flow_of(binding)
        target = None if flow is not None else _listens_again(binding)
        if flow is None and target is None:
            return None
        forwarded = request.copy()
        if not request.to.tag:
            forwarded.uri = binding.target
        return Way(forwarded, flow, target=target, user=binding.user)

    @staticmethod
    def _way_by_path(request: "Request", binding: "Binding") -> Way:
        """To a phone behind an edge proxy, which its registration came through (RFC 3327 section 5.1)."""
        forwarded = request.copy()
        forwarded.uri = binding.target
        for value in reversed(binding.path):
            forwarded.insert("Route", value)
        return Way(forwarded, uri=address_of(binding.path[0]).parsed_uri(), user=binding.user)

    def flow_of(self, binding: "Binding") -> "Flow | None":
        """The living flow of a binding."""
        if binding.kind == "hop":
            return self._hops.flow(binding.spi)
        flow = binding.flow
        if flow is None and binding.kind == "udp" and self._udp:
            # After a restart: the phone is still where it was.
            host, _, port = binding.source.rpartition(":")
            host = host.strip("[]")
            socket = next((one for one in self._udp if (":" in one.listener.config.address) == (":" in host)), None)
            if socket is not None:
                flow = binding.flow = UdpFlow(socket, (host, int(port)))
        if flow is not None and getattr(flow, "is_open", True):
            return flow
        return None


def _listens(contact: Uri, address: str) -> Target | None:
    """Where a phone takes TCP connections, if its Contact says so (RFC 3263 section 4.1), at an address it has proved.

    Anybody can write any address into a Contact; and to one behind a NAT no connection leads.
    """
    if contact.scheme != b"sip" or (contact.param("transport") or b"").lower() != b"tcp":
        return None
    try:
        host = ipaddress.ip_address(contact.host.decode("latin-1").strip("[]"))
        if host != ipaddress.ip_address(address.partition("%")[0]):
            return None
    except ValueError:
        return None
    return Target(TCP, address, contact.port or 5060, "")


def _listens_again(binding: "Binding") -> Target | None:
    """Where to open a connection to a phone whose own has ended.

    Not where it supports RFC 5626: then no other way leads to it than the flow, which it opens again itself.
    """
    if binding.kind != "tcp" or binding.reg_id is not None:
        return None
    return _listens(binding.uri, binding.source.rpartition(":")[0].strip("[]"))


def _takes_sips(binding: "Binding", way: Way) -> bool:
    """Whether a request to a SIPS URI may go to a binding: it is one itself, or behind a protected hop of ours.

    RFC 5630 section 5.3 forbids to go on with a SIP URI; a terminal knows no other, and its frames protect it.
    """
    if binding.kind == "hop":
        return True
    return binding.uri.scheme == b"sips" and (way.flow is None or way.flow.protection != "none")


def _is_within(uri: Uri, address: Address) -> bool:
    """Whether a host is that of an address, or one of its domain."""
    of = address.parsed_uri()
    if not of.is_sip:
        return False
    host, domain = uri.host.lower(), of.host.lower()
    return host == domain or host.endswith(b"." + domain)
