"""Record-Route and Route: how requests within a dialog find us again, and how we know them.

Our Record-Route URIs carry ``;wisp=<cookie>``, a MAC over Call-ID, the caller's tag and the addresses-of-record of both
sides, under a key that outlives restarts. A request that brings one back belongs to a dialog of those two whose first
request was let through here; nothing has to be remembered.

The URI for a phone's side also names the flow to it, under the same MAC, as RFC 5626 section 5.3 does: the Contact that
a phone gives in a dialog need not be the one it registered, and perhaps nobody else can reach it.
"""

import hashlib
import hmac
import os
from typing import TYPE_CHECKING

from sqlalchemy import insert, select

from sipwire.compat import cached
from sipwire.editing import remove, remove_first
from sipwire.headers import address_of
from sipwire.uri import Uri, uri_of

from .store.schema import secrets
from .transport.flow import peer_token

if TYPE_CHECKING:
    from sipwire.message import Request

    from .store.database import Store
    from .transport.flow import Flow, Listener

__all__ = ["Routes", "load_key"]

_KEY_NAME = "route"
_COOKIE_PARAM = b"wisp"
_MAX_KNOWN = 4096  # sides of dialogs remembered
_LONGEST_KNOWN = 256  # bytes of one that is
_COOKIE_BYTES = 8  # a MAC that is checked on line only, by us
_DEFAULT_PORTS = {"udp": 5060, "tcp": 5060, "tls": 5061}  # where no port is said (RFC 3261 section 19.1.2)


async def load_key(store: "Store") -> bytes:
    """The key of route cookies: read from the store, or made and stored.

    Raises:
        StoreError: the store failed.
    """
    rows = await store.read(select(secrets.c.value).where(secrets.c.name == _KEY_NAME))
    if rows:
        return bytes(rows[0].value)
    key = os.urandom(32)
    await store.write((insert(secrets), {"name": _KEY_NAME, "value": key}))
    return key


class Routes:
    """Our place in route sets.

    Args:
        domain: our domain.
        listeners: all of ours.
        key: see `load_key`.
    """

    def __init__(self, domain: str, listeners: "list[Listener]", key: bytes) -> None:
        self._domain = domain.encode()
        self._key = key
        self._ours: set[tuple[bytes, int | None]] = {(self._domain, None)}
        self._sent_by: set[bytes] = set()
        for listener in listeners:
            public = listener.public.lower().encode()
            self._sent_by.add(public)
            host, _, port = public.rpartition(b":")
            named = (host, int(port)) if host and port.isdigit() else (public, None)
            self._ours.add(named)
            address = listener.config.address.encode()
            bracketed = b"[" + address + b"]" if b":" in address else address
            for name in (bracketed, self._domain):
                self._ours.add((name, listener.config.port))
            if listener.config.port == _DEFAULT_PORTS[listener.transport]:
                self._ours |= {(bracketed, None), (named[0], None)}

    def is_ours(self, uri: Uri) -> bool:
        """Whether a URI's host and port are ours."""
        return uri.is_sip and (uri.host.lower(), uri.port) in self._ours

    def is_our_via(self, sent_by: bytes) -> bool:
        """Whether a Via's sent-by is one that we write."""
        return sent_by.lower() in self._sent_by

    def _cookie(self, request: "Request", tag: bytes, token: bytes) -> bytes:
        # Both sides in an order of their own: either may be the sender later.
        sides = sorted((_party(request.from_.uri), _party(request.to.uri)))
        data = b"\0".join((request.call_id, tag, *sides, token))
        return hashlib.blake2s(data, digest_size=_COOKIE_BYTES, key=self._key).hexdigest().encode()

    def take(self, request: "Request") -> tuple[bool, bytes]:
        """Take our own entries off the Route, and undo a strict router's rewriting (RFC 3261 section 16.4).

        Returns:
            Whether one of them shows that the request belongs to a dialog of ours; and the token of the flow on the
            side it goes to, which the last of them names, or nothing.
        """
        known = False
        token = b""
        uri = uri_of(request.uri)
        if self.is_ours(uri) and uri.param(_COOKIE_PARAM.decode()) is not None:
            # "If the Request-URI contains a value this proxy previously placed into a Record-Route": the last Route is
            # the real one.
            known = self._is_known(uri, request)
            token = uri.user or b"" if known else b""
            routes = request.values("route") if known else []
            if routes:
                request.uri = address_of(routes[-1]).uri
                remove(request, "route")
                for route in routes[:-1]:
                    request.add("Route", route)
        routes = request.values("route")
        ours = 0
        for value in routes:
            route_uri = address_of(value).parsed_uri()
            if not self.is_ours(route_uri):
                break
            of_dialog = self._is_known(route_uri, request)
            known = of_dialog or known
            token = route_uri.user or b"" if of_dialog else b""
            ours += 1
        if ours and ours == len(routes):
            remove(request, "route")
        else:
            for _ in range(ours):
                remove_first(request, "route")
        return known, token

    def has_recorded(self, request: "Request") -> bool:
        """Whether a request that begins a dialog has been here before: our Record-Route is in it, and holds."""
        uris = (address_of(value).parsed_uri() for value in request.values("record-route"))
        return any(self.is_ours(uri) and self._is_known(uri, request) for uri in uris)

    def _is_known(self, uri: Uri, request: "Request") -> bool:
        cookie = uri.param(_COOKIE_PARAM.decode())
        if not cookie:
            return False
        # The caller's tag is in From or in To, by who sends.
        return any(
            hmac.compare_digest(cookie, self._cookie(request, tag, uri.user or b""))
            for tag in (request.from_.tag, request.to.tag)
            if tag
        )

    def record(self, request: "Request", came: "Flow", goes: "Flow") -> None:
        """Put ourselves into the route set: once, or once per side where the sides reach us differently (RFC 5658)."""
        # "If the Request-URI contains a SIPS URI, or the topmost Route header field value ... contains a SIPS URI, the
        # URI placed into the Record-Route header field MUST be a SIPS URI" (section 16.6 step 4).
        route = request.get("route")
        sips = request.uri[:5].lower() == b"sips:" or (
            route is not None and address_of(request.values("route")[0]).uri[:5].lower() == b"sips:"
        )
        near, far = self._uri(came, request, sips=sips), self._uri(goes, request, sips=sips)
        request.insert("Record-Route", near)
        if far != near:
            request.insert("Record-Route", far)

    def _uri(self, flow: "Flow", request: "Request", *, sips: bool) -> bytes:
        token = b""
        if flow.protection == "frame" or (flow.protection == "tls" and flow.identities):
            # A terminal sends everything to us whatever it says; a peer finds us by our domain, as it does for calls.
            host, transport = self._domain, b";transport=tls"
        else:
            host = flow.listener.public.encode()
            transport = b"" if flow.transport == "UDP" else b";transport=" + flow.transport.lower().encode()
            # A peer's connection may end any time, and is not the one for requests to it either.
            token = peer_token(min(flow.identities)) if flow.reliable and flow.identities else flow.token
        scheme = b"sip"
        if sips and flow.protection != "none":
            scheme, transport = b"sips", b""  # RFC 5630 section 3.1.3 deprecates transport=tls there
        cookie = self._cookie(request, request.from_.tag, token)
        return b"<%s:%s%s%s;lr;%s=%s>" % (scheme, token and token + b"@", host, transport, _COOKIE_PARAM, cookie)


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def _party(value: bytes) -> bytes:
    """One side of a dialog by its URI: its address-of-record, or the URI where that is of another kind."""
    uri = uri_of(value)
    return uri.aor() if uri.is_sip else value
