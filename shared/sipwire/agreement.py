"""Security agreement (RFC 3329): Security-Client, Security-Server and Security-Verify.

    sec-mechanism  =  mechanism-name *( SEMI mech-parameters )

The one mechanism of ours is ``wisp-hop`` (WIRE section 1.1). Values are compared byte for byte, so they are kept as
sent.
"""

from .compat import b64decode, b64encode, const
from .errors import ParseError
from .grammar import get_param, is_token, parse_params, parse_uint, split_list

__all__ = [
    "HOP_NONCE_BYTES",
    "Mechanism",
    "best",
    "client_offer",
    "hop_nonce",
    "hop_spi",
    "parse_mechanisms",
    "server_offer",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .grammar import Params

HOP_NONCE_BYTES = 16
_NAME = b"wisp-hop"
_ALG = b"hmac-sha-256-128"
_EALG = b"aes-ctr-128"
_MAX_SPI = const(0xFFFFFFFF)


class Mechanism:
    """One mechanism of a Security header: lower-case name and (name, value) parameters."""

    def __init__(self, name: bytes, params: "Params") -> None:
        self.name = name
        self.params = params

    def param(self, name: str) -> "bytes | None":
        """A parameter's value by lower-case name, unquoted."""
        return get_param(self.params, name)

    @property
    def q(self) -> int:
        """The preference in thousandths, 0 to 1000 (RFC 3261's qvalue; absent is 1)."""
        value = self.param("q")
        if value is None:
            return 1000
        whole, _, part = value.partition(b".")
        if whole not in (b"0", b"1") or len(part) > 3 or (part and not part.isdigit()):
            raise ParseError("q")
        thousandths = int(whole) * 1000 + int((part + b"000")[:3])
        if thousandths > 1000:
            raise ParseError("q")
        return thousandths


def parse_mechanisms(values: "list[bytes]") -> "list[Mechanism]":
    """The mechanisms of one header, in wire order.

    Args:
        values: its elements, as ``message.values(key)`` gives them.

    Raises:
        ParseError: malformed.
    """
    found = []
    for value in values:
        parts = split_list(value, b";")
        if not is_token(parts[0]):
            raise ParseError("mechanism")
        found.append(Mechanism(parts[0].lower(), parse_params(parts[1:])))
    return found


def best(theirs: "list[Mechanism]", supported: "tuple[bytes, ...]") -> "Mechanism | None":
    """The mechanism to use, or None.

    "It MUST choose the security mechanism in the server's list with the highest "q" value among all the mechanisms that
    are known to the client." (section 2.3.1)
    """
    chosen = None
    for mechanism in theirs:
        if mechanism.name in supported and (chosen is None or mechanism.q > chosen.q):
            chosen = mechanism
    return chosen


def client_offer(spi: int, nonce: bytes) -> bytes:
    """The Security-Client value of a terminal (WIRE section 1.1, step 1).

    Args:
        spi: the SPI in frames that the terminal receives, not 0.
        nonce: `HOP_NONCE_BYTES` random bytes.
    """
    return server_offer(spi) + b';nonce="' + b64encode(nonce) + b'"'


def server_offer(spi: int) -> bytes:
    """The Security-Server value of a neighbour (WIRE section 1.1, step 2), for frames it receives under ``spi``."""
    return b"%s;q=0.9;alg=%s;ealg=%s;spi=%s" % (_NAME, _ALG, _EALG, str(spi).encode())


def hop_spi(mechanism: Mechanism) -> int:
    """The SPI of a ``wisp-hop`` mechanism, 1 to 2^32 - 1.

    Raises:
        ParseError: another mechanism or algorithm, or a malformed or zero SPI.
    """
    if (mechanism.name, mechanism.param("alg"), mechanism.param("ealg")) != (_NAME, _ALG, _EALG):
        raise ParseError("wisp-hop")
    spi = parse_uint(mechanism.param("spi") or b"", _MAX_SPI, "spi")
    if spi == 0:
        raise ParseError("spi")
    return spi


def hop_nonce(mechanism: Mechanism) -> bytes:
    """The nonce of a ``wisp-hop`` client offer, `HOP_NONCE_BYTES` bytes.

    Raises:
        ParseError: missing or of another size.
    """
    nonce = b64decode(mechanism.param("nonce") or b"")
    if len(nonce) != HOP_NONCE_BYTES:
        raise ParseError("nonce")
    return nonce
