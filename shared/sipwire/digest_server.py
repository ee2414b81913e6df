"""The server's side of Digest authentication: challenges to write, credentials to read and check (RFC 7616)."""

from .digest import MD5, Challenge, Credentials, parse_scheme
from .errors import ParseError, SecurityError
from .grammar import get_param, is_token, quote
from .kdf import same

__all__ = ["parse_credentials", "serialize_challenge", "verify"]

_HEX = b"0123456789abcdefABCDEF"
_MAX_NONCE_BYTES = 256  # far above any real one; else 400


def serialize_challenge(challenge: Challenge) -> bytes:
    """The value of WWW-Authenticate or Proxy-Authenticate; qop is quoted here and nowhere else (section 3.3)."""
    parts = [b"Digest realm=" + quote(challenge.realm), b"nonce=" + quote(challenge.nonce)]
    if challenge.opaque is not None:
        parts.append(b"opaque=" + quote(challenge.opaque))
    if challenge.stale:
        parts.append(b"stale=true")
    parts.append(b"algorithm=" + challenge.algorithm)
    if challenge.qop:
        parts.append(b'qop="' + b",".join(challenge.qop) + b'"')
    return b", ".join(parts)


def parse_credentials(value: bytes) -> Credentials:
    """Read an Authorization or Proxy-Authorization value.

    Raises:
        ParseError: malformed, another scheme, a required parameter missing, one given twice, or a malformed nc,
            algorithm or qop.
    """
    scheme, params = parse_scheme(value)
    if scheme != b"digest":
        raise ParseError("scheme", 400, "unknown")
    names = [name.lower() for name, _ in params]
    if len(set(names)) != len(names):
        raise ParseError("credentials")
    needed = []
    for name in ("username", "realm", "nonce", "uri", "response"):
        found = get_param(params, name)
        if found is None:
            raise ParseError("credentials", 400, "incomplete")
        needed.append(found)
    username, realm, nonce, uri, response = needed
    qop = (get_param(params, "qop") or b"").lower()
    nc = get_param(params, "nc") or b""
    cnonce = get_param(params, "cnonce") or b""
    algorithm = get_param(params, "algorithm") or MD5
    if not is_token(algorithm) or (qop and not is_token(qop)):
        raise ParseError("credentials")
    if qop and (len(nc) != 8 or nc.strip(_HEX) or not cnonce):
        raise ParseError("nc")
    if len(nonce) > _MAX_NONCE_BYTES or len(cnonce) > _MAX_NONCE_BYTES:
        raise ParseError("nonce")
    return Credentials(
        username, realm, nonce, uri, algorithm, qop, nc, cnonce, get_param(params, "opaque"), response.lower()
    )


def verify(credentials: Credentials, secret: bytes, method: str, body: bytes = b"") -> None:
    """Check the ``response`` of a request, and nothing else: nonce, realm, uri and nc are the caller's.

    Args:
        credentials: of the request.
        secret: HA1 in hex, of their algorithm.
        method: of the request.
        body: of the request.

    Raises:
        SecurityError: it is wrong.
    """
    if not same(credentials.compute(secret, method, body), credentials.response):
        raise SecurityError("digest")
