"""When two SIP URIs, or two instances, are the same one: how a registrar finds a binding again.

URIs are compared as RFC 3261 section 19.1.4 says, the URNs of instances as RFC 2141 section 5 and RFC 4122 section 3.
"""

from typing import TYPE_CHECKING

from sipwire.uri import Uri, unescape

if TYPE_CHECKING:
    from sipwire.grammar import Params

__all__ = ["canonical_instance", "equivalent"]

# "A user, ttl, or method uri-parameter appearing in only one URI never matches"; so it is with maddr and transport.
_NEVER_LEFT_OUT = {b"user", b"ttl", b"method", b"maddr", b"transport"}


def equivalent(one: Uri, two: Uri) -> bool:
    """Whether two URIs are equivalent."""
    if one.scheme != two.scheme:
        return False
    if not one.is_sip:
        return one.opaque == two.opaque
    if (one.user is None) != (two.user is None):
        return False
    if one.user is not None and two.user is not None and unescape(one.user) != unescape(two.user):
        return False
    if one.host.lower() != two.host.lower() or one.port != two.port:
        return False
    if _headers(one.headers) != _headers(two.headers):
        return False
    mine, theirs = _params(one.params), _params(two.params)
    if any(mine[name] != theirs[name] for name in mine.keys() & theirs.keys()):
        return False
    return not (mine.keys() ^ theirs.keys()) & _NEVER_LEFT_OUT


def _params(params: "Params") -> dict[bytes, bytes]:
    """Parameters for comparison: names and values in lower case, escapes undone."""
    return {unescape(name).lower(): unescape(value or b"").lower() for name, value in params}


def _headers(headers: bytes) -> list[bytes]:
    return sorted(unescape(part) for part in headers.split(b"&")) if headers else []


def canonical_instance(urn: bytes) -> bytes:
    """The URN of an instance in the one form that all equal ones have."""
    scheme, _, rest = urn.partition(b":")
    kind, _, name = rest.partition(b":")
    scheme, kind = scheme.lower(), kind.lower()
    if scheme != b"urn":
        return urn
    if kind == b"uuid":
        return b"urn:uuid:" + name.lower()  # "are case insensitive on input"
    return b"urn:" + kind + b":" + name
