"""The pieces of RFC 3261 section 25.1 that every header shares: tokens, quoted strings, lists, parameters, numbers.

token          =  1*(alphanum / "-" / "." / "!" / "%" / "*" / "_" / "+" / "`" / "'" / "~" )
quoted-string  =  SWS DQUOTE *(qdtext / quoted-pair ) DQUOTE
generic-param  =  token [ EQUAL gen-value ]
gen-value      =  token / host / quoted-string
"""

from .compat import const
from .errors import ParseError

__all__ = [
    "WSP",
    "first_word",
    "get_param",
    "is_host",
    "is_token",
    "join_params",
    "parse_params",
    "parse_port",
    "parse_uint",
    "quote",
    "split_list",
    "unfold",
    "unquote",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    Params = list[tuple[bytes, "bytes | None"]]

WSP = b" \t"
_ALPHANUM = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
_TOKEN = _ALPHANUM + b"-.!%*_+`'~"
_HOST = _ALPHANUM + b"-."
_HEX = b"0123456789abcdefABCDEF"
# What a parameter's value may hold outside of quotes: more than the token or host of gen-value, since addresses come
# without brackets (RFC 5118 section 4.5), but nothing that ends a value for somebody else.
_VALUE = _TOKEN + b"#$&()/:=?@[]^{|}"
_BACKSLASH = const(0x5C)
_MAX_DIGITS = const(
    20
)  # leading zeros are allowed ("Max-Forwards: 0068", RFC 4475 section 3.1.1.1), endless ones are not


def is_token(value: bytes) -> bool:
    """Whether ``value`` is a ``token``: one or more of its characters and nothing else."""
    return len(value) > 0 and not value.strip(_TOKEN)


def is_host(value: bytes) -> bool:
    """Whether ``value`` is shaped like a host name, an IPv4 address or a bracketed IPv6 reference."""
    if value[:1] == b"[":
        return value[-1:] == b"]" and _is_ipv6(value[1:-1])
    return len(value) > 0 and not value.strip(_HOST) and b".." not in value and value[:1] != b"."


def _is_ipv6(value: bytes) -> bool:
    """Whether ``value`` is an IPv6 address (RFC 4291 section 2.2).

    RFC 3261's grammar has a colon too many before an IPv4 address: "an implementation must tolerate both" (RFC 5118
    section 4.10).
    """
    head, _, last = value.rpartition(b":")
    if b"." in last:
        numbers = last.split(b".")
        if len(numbers) != 4 or [n for n in numbers if not n.isdigit() or len(n) > 3 or int(n) > 255]:
            return False
        value = (head[:-1] if head[-2:] == b"::" else head) + b":0:0"
    left, gap, right = value.partition(b"::")
    groups = (left.split(b":") if left else []) + (right.split(b":") if right else [])
    if len(groups) > 7 if gap else len(groups) != 8:
        return False
    return not [group for group in groups if not group or len(group) > 4 or group.strip(_HEX)]


def parse_uint(value: bytes, limit: int, what: str) -> int:
    """A decimal number of digits alone, at most ``limit``.

    ``int()`` would also read "+5", " 12 " and "1_0".

    Raises:
        ParseError: anything else; ``what`` names the field.
    """
    if not value.isdigit() or len(value) > _MAX_DIGITS:
        raise ParseError(what)
    number = int(value)
    if number > limit:
        raise ParseError(what)
    return number


def parse_port(value: bytes) -> int:
    """A port from 1 to 65535."""
    port = parse_uint(value, 65535, "port")
    if port == 0:
        raise ParseError("port")
    return port


def first_word(value: bytes) -> "tuple[bytes, bytes]":
    """What stands before the first white space, and what after it; ``split()`` takes control bytes for white space."""
    at = value.find(b" ")
    tab = value.find(b"\t")
    if tab >= 0 and (tab < at or at < 0):
        at = tab
    return (value, b"") if at < 0 else (value[:at], value[at:].strip(WSP))


def unfold(value: bytes) -> bytes:
    """Undo line folding (RFC 3261 section 7.3.1): each fold becomes one space."""
    return b" ".join([line.strip(WSP) for line in value.split(b"\r\n")]).strip(WSP)


def _end_of_quoted(value: bytes, start: int) -> int:
    """Index of the quote that closes the one at ``start``."""
    at = start
    while True:
        at = value.find(b'"', at + 1)
        if at < 0:
            raise ParseError("quotes")
        slashes = at
        while slashes > start and value[slashes - 1] == _BACKSLASH:
            slashes -= 1
        if (at - slashes) % 2 == 0:
            return at


def split_list(value: bytes, separator: bytes) -> "list[bytes]":
    """Split at ``separator`` outside of quoted strings and angle brackets; parts are stripped of white space."""
    if b'"' not in value and b"<" not in value:
        return [part.strip(WSP) for part in value.split(separator)]
    parts = []
    end = len(value)
    start = at = 0
    # Where the next of each stands, and at the end where there is none: found once, so that long values take no longer.
    mark = quote = less = -1
    while True:
        if mark < at:
            mark = value.find(separator, at)
            if mark < 0:
                mark = end
        if quote < at:
            quote = value.find(b'"', at)
            if quote < 0:
                quote = end
        if less < at:
            less = value.find(b"<", at)
            if less < 0:
                less = end
        if mark < quote and mark < less:
            parts.append(value[start:mark].strip(WSP))
            start = at = mark + 1
        elif quote < less:
            at = _end_of_quoted(value, quote) + 1
        elif less < end:
            at = value.find(b">", less) + 1
            if not at:
                raise ParseError("brackets")
        else:
            parts.append(value[start:].strip(WSP))
            return parts


def quote(text: bytes) -> bytes:
    """``text`` as a quoted-string."""
    return b'"' + text.replace(b"\\", b"\\\\").replace(b'"', b'\\"') + b'"'


def unquote(value: bytes) -> bytes:
    """The text of a quoted-string, or ``value`` itself where it is not quoted.

    Raises:
        ParseError: a quoted string that does not end where the value ends.
    """
    if value[:1] != b'"':
        return value
    if _end_of_quoted(value, 0) != len(value) - 1:
        raise ParseError("quotes")
    value = value[1:-1]
    if b"\\" not in value:
        return value
    text = bytearray()
    at = 0
    while at < len(value):
        if value[at] == _BACKSLASH:
            at += 1
        text.append(value[at])
        at += 1
    return bytes(text)


def parse_params(parts: "list[bytes]") -> "Params":
    """Parameters, already split at their separator, as (name, value) pairs in wire order.

    Names and values stay as written (a quoted value keeps its quotes); the value is None where there is no "=".

    Raises:
        ParseError: an empty parameter, a name that is no token, a value that is empty, malformed, or has a byte which
            only quotes may hold.
    """
    params: "Params" = []
    for part in parts:
        name, equal, value = part.partition(b"=")
        if name.strip(_TOKEN) or value.strip(_VALUE):
            # White space, or quotes; else it is malformed.
            name = name.strip(WSP)
            value = value.strip(WSP)
            if name.strip(_TOKEN):
                raise ParseError("parameter")
            if value[:1] == b'"':
                if _end_of_quoted(value, 0) != len(value) - 1:
                    raise ParseError("quotes")
            elif value.strip(_VALUE):
                raise ParseError("parameter")
        if not name or (equal and not value):
            raise ParseError("parameter")
        params.append((name, value if equal else None))
    return params


def get_param(params: "Params", name: str) -> "bytes | None":
    """The unquoted value of the first parameter of that lower-case name, b"" for one without; None where absent."""
    wanted = name.encode()
    size = len(wanted)
    for key, value in params:
        if len(key) == size and key.lower() == wanted:
            if value is None:
                return b""
            return unquote(value) if value[:1] == b'"' else value
    return None


def join_params(params: "Params") -> bytes:
    """Parameters as ``;name=value`` text, the inverse of `parse_params`."""
    return b"".join([b";" + name if value is None else b";" + name + b"=" + value for name, value in params])
