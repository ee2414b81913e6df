"""SIP and SIPS URIs (RFC 3261 section 19.1), and other URIs as far as a SIP element has to read them.

    SIP-URI  =  "sip:" [ userinfo ] hostport uri-parameters [ headers ]
    userinfo =  ( user / telephone-subscriber ) [ ":" password ] "@"

Parts stay as they were written, escapes included: what arrives escaped leaves escaped the same way, and nothing is ever
unescaped twice (RFC 4475 section 3.1.1.3).
"""

from .compat import cached
from .errors import ParseError
from .grammar import get_param, is_host, join_params, parse_params, parse_port

__all__ = ["Uri", "unescape", "uri_of"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .grammar import Params

_SCHEME = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-."
_PLAIN = _SCHEME + b"_!~*'()&=$,;?/"  # unreserved / user-unreserved: what needs no escape in a user
_USER = _PLAIN + b"%:"  # and escaped, and ":" before a password
_URI = _USER + b"#@[\\]^`{|}"  # nothing but visible ASCII, and no quote or bracket that would end the URI in a header
_MAX_KNOWN = 4096  # URIs remembered: those of the users of a small domain and of their calls
_LONGEST_KNOWN = 256  # bytes of one that is
_HEX = b"0123456789abcdefABCDEF"


def unescape(value: bytes) -> bytes:
    """Undo ``%HH`` once.

    Raises:
        ParseError: a "%" that two hex digits do not follow.
    """
    if b"%" not in value:
        return value
    parts = value.split(b"%")
    out = [parts[0]]
    for part in parts[1:]:
        if len(part) < 2 or part[:2].strip(_HEX):
            raise ParseError("URI")
        out.append(bytes([int(part[:2], 16)]) + part[2:])
    return b"".join(out)


class Uri:
    """A URI.

    Attributes:
        scheme: lower case, e.g. ``b"sip"``.
        user: with its escapes and password, or None.
        host: as written; brackets stay around an IPv6 address.
        port: 1 to 65535, or None.
        params: (name, value) pairs in wire order.
        headers: what follows "?", as written.
        opaque: everything after the colon where the scheme is not sip or sips; the parts above are empty then.
    """

    def __init__(
        self,
        host: bytes,
        user: "bytes | None" = None,
        port: "int | None" = None,
        params: "Params | None" = None,
        scheme: bytes = b"sip",
    ) -> None:
        self.scheme = scheme
        self.user = user
        self.host = host
        self.port = port
        self.params: "Params" = [] if params is None else params
        self.headers = b""
        self.opaque = b""

    @classmethod
    def parse(cls, value: bytes) -> "Uri":
        """Read one URI, without angle brackets.

        Raises:
            ParseError: not a URI; for sip and sips also a malformed user, host, port, parameter or escape.
        """
        scheme, colon, rest = value.partition(b":")
        if not colon or not rest or scheme.strip(_SCHEME) or not scheme[:1].isalpha():
            raise ParseError("URI")
        if rest.strip(_URI):
            raise ParseError("URI")
        uri = cls(b"", None, None, None, scheme.lower())
        if not uri.is_sip:
            uri.opaque = rest
            return uri
        user, at, tail = rest.partition(b"@")
        if at:
            if not user or user[:1] == b":" or user.strip(_USER) or b"@" in tail:
                raise ParseError("URI")
            uri.user = user
        else:
            tail = rest
        unescape(rest)
        tail, _, uri.headers = tail.partition(b"?")
        hostport, semicolon, params = tail.partition(b";")
        if semicolon:
            uri.params = parse_params(params.split(b";"))
        close = hostport.rfind(b"]")
        colon_at = hostport.find(b":", close + 1)
        if colon_at < 0:
            uri.host = hostport
        else:
            uri.host = hostport[:colon_at]
            uri.port = parse_port(hostport[colon_at + 1 :])
        if not is_host(uri.host):
            raise ParseError("URI")
        return uri

    def serialize(self) -> bytes:
        """The URI as it was parsed, or as it was made."""
        if self.opaque:
            return self.scheme + b":" + self.opaque
        parts = [self.scheme, b":"]
        if self.user is not None:
            parts.append(self.user + b"@")
        parts.append(self.host)
        if self.port is not None:
            parts.append(b":%d" % self.port)
        parts.append(join_params(self.params))
        if self.headers:
            parts.append(b"?" + self.headers)
        return b"".join(parts)

    @property
    def is_sip(self) -> bool:
        """Whether the scheme is sip or sips."""
        return self.scheme == b"sip" or self.scheme == b"sips"

    def param(self, name: str) -> "bytes | None":
        """A parameter's value by lower-case name; b"" where it has none, None where it is absent."""
        return get_param(self.params, name)

    def aor(self) -> bytes:
        """The canonical address-of-record of WIRE's notation: ``sip:user@host``, host in lower case, nothing else.

        A password is left out and the user unescaped (RFC 3261 section 10.3 step 5) but for what needs its escape:
        "a%40b" must not become somebody at b, and "a%2541" not "aA" when it is read once more.
        """
        if self.user is None:
            return b"sip:" + self.host.lower()
        user = self.user.partition(b":")[0]
        return b"sip:" + (_least_escaped(user) if b"%" in user else user) + b"@" + self.host.lower()


def _least_escaped(user: bytes) -> bytes:
    """A user with the escapes that it needs and no others, their digits in upper case."""
    unescape(user)
    parts = user.split(b"%")
    out = [parts[0]]
    for part in parts[1:]:
        character = bytes([int(part[:2], 16)])
        out.append((b"%" + part[:2].upper() if character.strip(_PLAIN) else character) + part[2:])
    return b"".join(out)


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def uri_of(value: bytes) -> Uri:
    """The URI that is written so. Others may have the same one: change nothing of it.

    Raises:
        ParseError: see `Uri.parse`.
    """
    return Uri.parse(value)
