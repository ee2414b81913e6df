"""Setup keys at registration: who wants one with whom, and how neighbours hand them on (WIRE section 4.3).

Setup-Peers: <sip:bob@b.example>;life=86400;uses=20, ...        in a framed REGISTER
Content-Type: application/wisp-setup-keys                       to the peer's neighbour, and to each terminal
<aor> SP <b64 key> SP <life> SP <uses> CRLF                     a line for each key
"""

from .compat import b64decode, b64encode, const
from .errors import ParseError
from .grammar import get_param, parse_params, parse_uint, split_list
from .setup import MAX_NUMBER
from .setup_keys import KEY_BYTES
from .uri import uri_of

__all__ = ["MAX_PEERS", "SETUP_KEYS", "Introduction", "Wanted", "read_keys", "read_peers", "write_keys", "write_peers"]

SETUP_KEYS = b"application/wisp-setup-keys"
MAX_PEERS = 16  # in one message: as many as a terminal keeps keys for
_FIELDS = const(4)
_LIMITS = ("life", "uses")


class Wanted:
    """Somebody whom a terminal wants a key with.

    Attributes:
        aor: the address-of-record.
        life, uses: seconds and calls that the key is to have at most.
    """

    def __init__(self, aor: bytes, life: int, uses: int) -> None:
        self.aor = aor
        self.life = life
        self.uses = uses


class Introduction(Wanted):
    """A key on its way.

    Attributes:
        key: the 32 bytes.
    """

    def __init__(self, aor: bytes, key: bytes, life: int, uses: int) -> None:
        super().__init__(aor, life, uses)
        self.key = key


def write_peers(wanted: "list[Wanted]") -> bytes:
    """The value of Setup-Peers."""
    return b", ".join([b"<%s>;life=%d;uses=%d" % (one.aor, one.life, one.uses) for one in wanted])


def read_peers(values: "list[bytes]") -> "list[Wanted]":
    """Read Setup-Peers.

    Args:
        values: of every such header.

    Raises:
        ParseError: malformed, or more than `MAX_PEERS`.
    """
    found: "list[Wanted]" = []
    for value in values:
        for item in split_list(value, b","):
            uri, closed, rest = item.partition(b">")
            if len(found) == MAX_PEERS or uri[:1] != b"<" or not closed or rest[:1] != b";":
                raise ParseError("Setup-Peers")
            params = parse_params(split_list(rest[1:], b";"))
            numbers = [parse_uint(get_param(params, name) or b"", MAX_NUMBER, "Setup-Peers") for name in _LIMITS]
            if 0 in numbers:
                raise ParseError("Setup-Peers")
            found.append(Wanted(_aor(uri[1:], "Setup-Peers"), numbers[0], numbers[1]))
    return found


def write_keys(keys: "list[Introduction]") -> bytes:
    """The body that hands keys on."""
    lines = [b"%s %s %d %d\r\n" % (one.aor, b64encode(one.key), one.life, one.uses) for one in keys]
    return b"".join(lines)


def read_keys(body: bytes) -> "list[Introduction]":
    """Read a body that hands keys on.

    Raises:
        ParseError: malformed, none, or more than `MAX_PEERS`.
    """
    lines = body.split(b"\r\n", MAX_PEERS + 1)
    if lines.pop() or not 0 < len(lines) <= MAX_PEERS:
        raise ParseError("setup keys")
    found = []
    for line in lines:
        fields = line.split(b" ")
        if len(fields) != _FIELDS:
            raise ParseError("setup keys")
        key = b64decode(fields[1])
        numbers = [parse_uint(field, MAX_NUMBER, "setup keys") for field in fields[2:]]
        if len(key) != KEY_BYTES or 0 in numbers:
            raise ParseError("setup keys")
        found.append(Introduction(_aor(fields[0], "setup keys"), key, numbers[0], numbers[1]))
    return found


def _aor(value: bytes, what: str) -> bytes:
    """An address-of-record, as MACs have it.

    Raises:
        ParseError: a URI that is none.
    """
    uri = uri_of(value)
    if not uri.is_sip or uri.user is None:
        raise ParseError(what)
    return uri.aor()
