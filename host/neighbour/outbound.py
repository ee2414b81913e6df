"""By which way a REGISTER came, and by which way requests go back: Path, outbound, Service-Route.

    phone ----------------------------------> registrar     its flow is the way back; outbound (RFC 5626) where it asks
    phone --> edge proxy --mutual TLS + Path--> registrar   the Path is the way back (RFC 3327)

A Path makes us send whatever is for its user to the URIs in it, with a call's contents and as often as somebody calls.
So it is nothing that a phone may say of itself: it could point anywhere, and our domain would speak there. It is taken
only

- over mutual TLS, from a peer whose certificate proves a domain that ``[registrar] edge_proxies`` names, and
- if its topmost URI, where we would send to, is of that very domain: an edge proxy speaks for itself. What it has heard
  from proxies before it stands below, and is its own affair: it sends there, not we.

A topmost URI that is ours would show nothing: we never write one, and everybody knows it. Everything else is refused
with 403, so that whoever has set up the edge proxy sees what is missing. Of a phone that does not say
``Supported: path`` a Path is refused with 420, as RFC 3327 section 5.3 recommends: it would not look who was added.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipwire.editing import tokens
from sipwire.errors import ParseError
from sipwire.headers import address_of

from .refusal import RefusedError

if TYPE_CHECKING:
    from sipwire.message import Request
    from sipwire.uri import Uri

    from .transport.flow import Flow

__all__ = ["Way", "read_way", "service_route"]

_MAX_PATH = 8  # URIs in a Path; more is 400
_MAX_PATH_BYTES = 2048  # all together, as they are kept and sent with every request to the phone; more is 400


@dataclass(frozen=True, slots=True)
class Way:
    """How a REGISTER came.

    Attributes:
        path: the values of Path, as written; empty for a phone's own flow.
        is_direct: whether the phone itself sent it to us.
        has_outbound: whether the first hop does what RFC 5626 asks of it, so that a reg-id counts.
        supports_outbound: whether the phone says that it does.
    """

    path: tuple[bytes, ...]
    is_direct: bool
    has_outbound: bool
    supports_outbound: bool


def read_way(request: "Request", flow: "Flow", domain: str, edge_proxies: frozenset[str]) -> Way:
    """The way of a REGISTER.

    Args:
        request: the REGISTER.
        flow: how it came to us.
        domain: ours, for the Warning.
        edge_proxies: whose Path we take.

    Raises:
        RefusedError: 420 or 403, for a Path that is not to be had.
        ParseError: a malformed one.
    """
    supported = tokens(request, "supported") + tokens(request, "require")  # what it requires it has
    path = tuple(request.values("path"))
    uris = [_loose(value) for value in path]
    if uris:
        if b"path" not in supported:
            raise RefusedError(420, "Bad Extension", ("Unsupported", b"path"))
        # A peer that is known by its address alone could be anybody who forges that.
        trusted = flow.identities & edge_proxies if flow.protection == "tls" else frozenset()
        if uris[0].host.lower().decode("latin-1") not in trusted:
            text = "a Path is taken from the edge proxies of the configuration, for themselves"
            raise RefusedError(403, "Forbidden", ("Warning", f'399 {domain} "{text}"'.encode()))
        if len(uris) > _MAX_PATH or sum(map(len, path)) > _MAX_PATH_BYTES:
            raise ParseError("path", 400, "too large")
    # RFC 5626 section 6: "MUST check from its Via header field if the registrar is the first hop or not".
    is_direct = len(request.values("via")) == 1 and not uris
    # "The first URI" of the Path is that of the first hop, which alone may write "ob": as each proxy puts its own
    # before the others (RFC 3327 section 5.2), it is the last one listed.
    has_outbound = is_direct or (bool(uris) and uris[-1].param("ob") is not None)
    return Way(path, is_direct, has_outbound, b"outbound" in supported)


def _loose(value: bytes) -> "Uri":
    """The URI of a Path value; RFC 3327 section 4: it "MUST include the loose-routing indicator parameter"."""
    uri = address_of(value).parsed_uri()
    if not uri.is_sip or uri.param("lr") is None:
        raise ParseError("path")
    return uri


def service_route(flow: "Flow", domain: str) -> bytes:
    """What Service-Route says (RFC 3608): our own URI, by which the phone may send all its requests.

    Args:
        flow: that of its REGISTER: where it has reached us, it will.
        domain: ours, by which a peer finds us.
    """
    if flow.identities and flow.protection == "tls":
        return b"<sip:%s;transport=tls;lr>" % domain.encode()
    transport = b"" if flow.transport == "UDP" else b";transport=" + flow.transport.lower().encode()
    return b"<sip:%s%s;lr>" % (flow.listener.public.encode(), transport)
