"""The header fields that every SIP element reads: names, addresses, Via and CSeq (RFC 3261 section 20).

Each class has ``parse(value)`` and ``serialize()``, inverse up to white space; ``value`` is unfolded. Parameters are
lists of (name, value) pairs in wire order, and unknown ones are kept.
"""

from .compat import cached, const
from .errors import ParseError
from .grammar import (
    WSP,
    first_word,
    get_param,
    is_host,
    is_token,
    join_params,
    parse_params,
    parse_port,
    parse_uint,
    split_list,
    unquote,
)
from .uri import Uri, uri_of

__all__ = ["Address", "CSeq", "Via", "address_of", "cseq_of", "header_key"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .grammar import Params

# RFC 3261 section 7.3.3 and, after the first ten, RFC 6665, 3515, 4028, 3892, 3841 and 4474.
_COMPACT = {
    "v": "via",
    "f": "from",
    "t": "to",
    "i": "call-id",
    "m": "contact",
    "l": "content-length",
    "c": "content-type",
    "e": "content-encoding",
    "k": "supported",
    "s": "subject",
    "o": "event",
    "r": "refer-to",
    "u": "allow-events",
    "x": "session-expires",
    "b": "referred-by",
    "a": "accept-contact",
    "d": "request-disposition",
    "j": "reject-contact",
    "y": "identity",
    "n": "identity-info",
}
_MAX_KNOWN = 4096  # addresses remembered: a call has three, each in a dozen of messages
_LONGEST_KNOWN = 256  # bytes of one that is
_MAX_CSEQ = const(0x7FFFFFFF)  # RFC 3261 section 8.1.1.5: "MUST be less than 2**31"; else 400


def header_key(name: str) -> str:
    """The key a header is looked up by: its long name in lower case."""
    name = name.lower()
    return _COMPACT.get(name, name)


class Address:
    """A name-addr or addr-spec with header parameters: From, To, Contact, Route and their like.

    Attributes:
        display: the display name as written (quotes included), b"" where there is none.
        uri: the URI as written.
        params: header parameters, (name, value) pairs.
    """

    def __init__(self, uri: bytes, params: "Params | None" = None, display: bytes = b"") -> None:
        self.display = display
        self.uri = uri
        self._tag: "bytes | None" = None
        self.params: "Params" = [] if params is None else params

    @classmethod
    def parse(cls, value: bytes) -> "Address":
        """Read one address; a comma-separated list must be split before.

        Raises:
            ParseError: malformed, or a bare URI with "?" or ",", which RFC 3261 section 20 wants in angle brackets.
        """
        parts = split_list(value, b";")
        first = parts[0]
        if first[-1:] == b">":
            if first[:1] == b'"':
                less = first.find(b"<", first.rfind(b'"'))
            else:
                less = first.find(b"<")
            if less < 0:
                raise ParseError("address")
            display = first[:less].strip(WSP)
            uri = first[less + 1 : -1]
            if display[:1] == b'"':
                unquote(display)
            elif b"," in display or b'"' in display or b"<" in display:
                raise ParseError("address")
        else:
            display = b""
            uri = first
            if b"?" in uri or b"," in uri:
                raise ParseError("address")
        if uri.find(b":") < 1 or b" " in uri or b"\t" in uri or b"<" in uri or b">" in uri or b'"' in uri:
            raise ParseError("address")
        return cls(uri, parse_params(parts[1:]) if len(parts) > 1 else [], display)

    def serialize(self) -> bytes:
        """The address with its URI in angle brackets."""
        display = self.display + b" " if self.display else b""
        return display + b"<" + self.uri + b">" + join_params(self.params)

    def param(self, name: str) -> "bytes | None":
        """A header parameter's value by lower-case name; b"" where it has none, None where it is absent."""
        return get_param(self.params, name)

    @property
    def tag(self) -> bytes:
        """The tag parameter, b"" where there is none."""
        tag = self._tag
        if tag is None:
            tag = self._tag = get_param(self.params, "tag") or b""
        return tag

    def parsed_uri(self) -> Uri:
        """The URI, read; see `uri_of`."""
        return uri_of(self.uri)


class Via:
    """One Via value: ``SIP/2.0/UDP host:port;branch=...``.

    Attributes:
        transport: upper case, e.g. ``b"UDP"``.
        host: sent-by host as written.
        port: sent-by port, or None.
        params: (name, value) pairs.
        version: ``b"2.0"``. Others are read too, so that 505 can be answered to them.
    """

    def __init__(
        self, transport: bytes, host: bytes, port: "int | None", params: "Params", version: bytes = b"2.0"
    ) -> None:
        self.transport = transport
        self.host = host
        self.port = port
        self.params = params
        self.version = version

    @classmethod
    def parse(cls, value: bytes) -> "Via":
        """Read one Via value; a comma-separated list must be split before.

        Raises:
            ParseError: malformed.
        """
        first, semicolon, rest = value.partition(b";")
        version, transport, host, port = _sender_of(first)
        params: "Params" = []
        if semicolon:
            params = parse_params(rest.split(b";") if b'"' not in rest else split_list(rest, b";"))
        return cls(transport, host, port, params, version)

    def serialize(self) -> bytes:
        """The value in its usual form."""
        return b"SIP/" + self.version + b"/" + self.transport + b" " + self.sent_by + join_params(self.params)

    @property
    def sent_by(self) -> bytes:
        """``host`` or ``host:port``."""
        return self.host if self.port is None else self.host + b":%d" % self.port

    @property
    def branch(self) -> bytes:
        """The branch parameter, b"" where there is none."""
        return get_param(self.params, "branch") or b""

    def param(self, name: str) -> "bytes | None":
        """A parameter's value by lower-case name; b"" where it has none, None where it is absent."""
        return get_param(self.params, name)


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def _sender_of(value: bytes) -> "tuple[bytes, bytes, bytes, int | None]":
    """Version, transport, host and port of a Via without its parameters, which is the same in all that somebody sends.

    Raises:
        ParseError: malformed.
    """
    pieces = value.split(b"/", 2)
    if len(pieces) != 3 or pieces[0].strip(WSP).upper() != b"SIP":
        raise ParseError("Via")
    version = pieces[1].strip(WSP)
    transport, host = first_word(pieces[2].strip(WSP))
    if not is_token(transport) or not is_token(version):
        raise ParseError("Via")
    port = None
    close = host.rfind(b"]")
    colon = host.find(b":", close + 1)
    if colon >= 0:
        port = parse_port(host[colon + 1 :].strip(WSP))
        host = host[:colon].strip(WSP)
    if not is_host(host):
        raise ParseError("Via")
    return version, transport.upper(), host, port


class CSeq:
    """A sequence number (0 to 2^31 - 1) and a method."""

    def __init__(self, number: int, method: str) -> None:
        self.number = number
        self.method = method

    @classmethod
    def parse(cls, value: bytes) -> "CSeq":
        """Read ``4711 INVITE``.

        Raises:
            ParseError: malformed or out of range.
        """
        number, method = first_word(value)
        if not is_token(method):
            raise ParseError("CSeq")
        return cls(parse_uint(number, _MAX_CSEQ, "CSeq"), method.decode())

    def serialize(self) -> bytes:
        """``4711 INVITE``."""
        return b"%d %s" % (self.number, self.method.encode())


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def address_of(value: bytes) -> Address:
    """The address that is written so. Others may have the same one: change nothing of it.

    Raises:
        ParseError: see `Address.parse`.
    """
    return Address.parse(value)


@cached(_MAX_KNOWN, _LONGEST_KNOWN)
def cseq_of(value: bytes) -> CSeq:
    """The CSeq that is written so; as `address_of`.

    Raises:
        ParseError: see `CSeq.parse`.
    """
    return CSeq.parse(value)
