"""Digest access authentication (RFC 7616, RFC 8760): the arithmetic and the client's side, see `digest_server`.

    response = KD(H(A1), nonce ":" nc ":" cnonce ":" qop ":" H(A2))
    A1 = username ":" realm ":" password          A2 = method ":" uri [ ":" H(body) ]

SHA-256, and MD5 only to talk to old servers (RFC 2617, 2069). Secrets are handled as HA1, the hash of A1 in lower-case
hex: a password is never kept.
"""

from hashlib import md5, sha256

from .compat import hex_of
from .errors import ParseError, SecurityError
from .grammar import first_word, get_param, is_token, parse_params, quote, split_list

__all__ = ["MD5", "SHA256", "Challenge", "Credentials", "authenticate", "choose", "ha1", "parse_scheme"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .grammar import Params

SHA256 = b"SHA-256"
MD5 = b"MD5"


def _hash(algorithm: bytes, data: bytes) -> bytes:
    name = algorithm.upper()
    if name.endswith(b"-SESS"):
        name = name[:-5]
    if name == SHA256:
        return hex_of(sha256(data).digest())
    if name != MD5:
        raise ParseError("algorithm")
    return hex_of(md5(data).digest())


def ha1(username: bytes, realm: bytes, password: bytes, algorithm: bytes = SHA256) -> bytes:
    """H(A1) in lower-case hex: all that has to be kept of a password.

    Raises:
        ParseError: an algorithm other than SHA-256 and MD5.
    """
    return _hash(algorithm, username + b":" + realm + b":" + password)


class Challenge:
    """A Digest challenge.

    Attributes:
        realm, nonce, opaque: the values without quotes; opaque is None where absent.
        algorithm: as written; ``MD5`` where absent (RFC 2617).
        qop: the offered values in lower case; empty for RFC 2069.
        stale: whether only the nonce was too old.
    """

    def __init__(
        self,
        realm: bytes,
        nonce: bytes,
        algorithm: bytes = SHA256,
        qop: "tuple[bytes, ...]" = (b"auth",),
        opaque: "bytes | None" = None,
        stale: bool = False,
    ) -> None:
        self.realm = realm
        self.nonce = nonce
        self.algorithm = algorithm
        self.qop = qop
        self.opaque = opaque
        self.stale = stale

    @classmethod
    def parse(cls, value: bytes) -> "Challenge":
        """Read a WWW-Authenticate or Proxy-Authenticate value.

        Raises:
            ParseError: malformed, another scheme, without realm or nonce, or with an algorithm or qop that is no token:
                they are sent back without quotes.
        """
        scheme, params = parse_scheme(value)
        realm = get_param(params, "realm")
        nonce = get_param(params, "nonce")
        if scheme != b"digest" or realm is None or not nonce:
            raise ParseError("challenge")
        algorithm = get_param(params, "algorithm") or MD5
        qop = [word.lower() for word in split_list(get_param(params, "qop") or b"", b",") if word]
        if [word for word in [algorithm] + qop if not is_token(word)]:
            raise ParseError("challenge")
        return cls(
            realm,
            nonce,
            algorithm,
            tuple(qop),
            get_param(params, "opaque"),
            (get_param(params, "stale") or b"").lower() == b"true",
        )


class Credentials:
    """Digest credentials: an Authorization or Proxy-Authorization value.

    Attributes are the parameters of RFC 7616 section 3.4, without quotes; qop, nc and cnonce are b"" where absent,
    opaque is None.
    """

    def __init__(
        self,
        username: bytes,
        realm: bytes,
        nonce: bytes,
        uri: bytes,
        algorithm: bytes,
        qop: bytes = b"",
        nc: bytes = b"",
        cnonce: bytes = b"",
        opaque: "bytes | None" = None,
        response: bytes = b"",
    ) -> None:
        self.username = username
        self.realm = realm
        self.nonce = nonce
        self.uri = uri
        self.algorithm = algorithm
        self.qop = qop
        self.nc = nc
        self.cnonce = cnonce
        self.opaque = opaque
        self.response = response

    def compute(self, secret: bytes, method: str, body: bytes = b"") -> bytes:
        """What the ``response`` has to be, lower-case hex (RFC 7616 section 3.4.1); without qop, that of RFC 2069.

        Args:
            secret: HA1 in hex, see `ha1`. For a ``-sess`` algorithm it is hashed once more with both nonces here.
            method: the request's method. "" computes ``rspauth``, the server's proof in Authentication-Info: an answer
                without a method (section 3.5).
            body: the entity body, used by auth-int.

        Raises:
            ParseError: unknown algorithm or qop.
        """
        algorithm = self.algorithm
        if algorithm.upper().endswith(b"-SESS"):
            secret = _hash(algorithm, b":".join((secret, self.nonce, self.cnonce)))
        a2 = method.encode() + b":" + self.uri
        if self.qop == b"auth-int":
            a2 += b":" + _hash(algorithm, body)
        elif self.qop not in (b"auth", b""):
            raise ParseError("qop")
        parts = [secret, self.nonce, _hash(algorithm, a2)]
        if self.qop:
            parts[2:2] = [self.nc, self.cnonce, self.qop]
        return _hash(algorithm, b":".join(parts))

    def serialize(self) -> bytes:
        """The header value; algorithm, qop and nc stand without quotes."""
        parts = [b"algorithm=" + self.algorithm]
        for name in ("username", "realm", "nonce", "uri", "response", "opaque", "cnonce"):
            value = getattr(self, name)
            if value or (value is not None and name != "cnonce"):
                parts.append(name.encode() + b"=" + quote(value))
        if self.qop:
            parts.append(b"qop=" + self.qop)
            parts.append(b"nc=" + self.nc)
        return b"Digest " + b", ".join(parts)


def parse_scheme(value: bytes) -> "tuple[bytes, Params]":
    """Split ``Digest a=b, c="d"`` into the scheme in lower case and its parameters.

    Raises:
        ParseError: malformed.
    """
    scheme, rest = first_word(value)
    if not rest or not is_token(scheme):
        raise ParseError("credentials")
    # Some phones end the list with a comma; an empty element means nothing (RFC 7616 uses RFC 7230's lists).
    return scheme.lower(), parse_params([part for part in split_list(rest, b",") if part])


def choose(values: "list[bytes]", realm: bytes, md5_allowed: bool = False) -> "Challenge | None":
    """The first challenge of a realm that can be answered (RFC 8760 section 2.4), or None.

    Args:
        values: WWW-Authenticate or Proxy-Authenticate values, one challenge each, in wire order.
        realm: answer no other realm's.
        md5_allowed: whether MD5 will do where nothing better is offered before it.
    """
    for value in values:
        try:
            challenge = Challenge.parse(value)
        except ParseError:
            continue
        algorithm = challenge.algorithm.upper()
        if challenge.realm == realm and (algorithm == SHA256 or (md5_allowed and algorithm == MD5)):
            return challenge
    return None


def authenticate(
    challenge: Challenge,
    username: bytes,
    secret: bytes,
    method: str,
    uri: bytes,
    cnonce: bytes,
    count: int = 1,
    body: bytes = b"",
    integrity: bool = False,
) -> Credentials:
    """Credentials that answer a challenge.

    Args:
        challenge: the challenge.
        username: the auth user, which may differ from the SIP user.
        secret: HA1 in hex, of the challenge's algorithm.
        method: of the request.
        uri: its Request-URI.
        cnonce: fresh random characters.
        count: how often this nonce has been used, this time included.
        body: of the request.
        integrity: demand auth-int.

    Raises:
        SecurityError: auth-int is demanded and not offered.
    """
    qop = b"auth-int" if integrity else b"auth"
    if qop not in challenge.qop:
        if integrity:
            raise SecurityError("digest")
        qop = challenge.qop[0] if challenge.qop else b""
    credentials = Credentials(
        username,
        challenge.realm,
        challenge.nonce,
        uri,
        challenge.algorithm,
        qop,
        b"%08x" % count if qop else b"",
        cnonce if qop or challenge.algorithm.upper().endswith(b"-SESS") else b"",
        challenge.opaque,
    )
    credentials.response = credentials.compute(secret, method, body)
    return credentials
