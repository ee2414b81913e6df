"""Setup keys: two terminals that know each other show in a header who they are (WIRE section 4).

    Setup-Key: kid=<kid>;seq=<n>;nonce="<b64 of 16 random bytes>"[;life=<s>;uses=<n>];mac="<b64>"

The MAC covers who sends this, to whom, in which call, and with which session description; its key is that of
`setup_keys`.
"""

from hashlib import sha256

from .compat import b64decode, b64encode, const, hex_of
from .errors import ParseError
from .grammar import get_param, parse_params, parse_uint, split_list
from .kdf import Hmac
from .setup_keys import is_kid

__all__ = [
    "ANSWER",
    "BYE",
    "BYE_ANSWER",
    "INVITE",
    "MAX_NUMBER",
    "NONCE_BYTES",
    "NO_KEY",
    "REVOKE",
    "SetupKey",
    "canonical_sdp",
]

# What a MAC is for: an offer and its answer, a BYE and its answer, or to take trust back.
INVITE = b"invite"
ANSWER = b"answer"
BYE = b"bye"
BYE_ANSWER = b"bye-answer"
REVOKE = b"revoke"

NO_KEY = b"-"  # as a kid: the secret is that of a first call
_MAC_BYTES = const(32)
NONCE_BYTES = 16
MAX_NUMBER = 0x7FFFFFFF  # of seq, life and uses: 68 years, or as many calls
_LEFT_OUT = (b"o=", b"c=", b"a=rtcp:", b"a=candidate:")


class SetupKey:
    """A Setup-Key header.

    Attributes:
        kid: which key, 16 hex digits, or `NO_KEY`.
        seq: the sender's number for this request; an answer repeats it. 1 to `MAX_NUMBER`.
        nonce: base64 of 16 bytes, as sent.
        life, uses: seconds and calls that the next key is to have at most; None where that is not spoken of.
        mac: base64 of 32 bytes, as sent.
    """

    def __init__(
        self, kid: bytes, seq: int, nonce: bytes, life: "int | None" = None, uses: "int | None" = None
    ) -> None:
        self.kid = kid
        self.seq = seq
        self.nonce = nonce
        self.life = life
        self.uses = uses
        self.mac = b""

    @classmethod
    def make(
        cls, kid: bytes, seq: int, random: bytes, life: "int | None" = None, uses: "int | None" = None
    ) -> "SetupKey":
        """A header without its MAC.

        Args:
            kid: see above.
            seq: likewise.
            random: 16 fresh bytes.
            life: see above.
            uses: likewise.
        """
        return cls(kid, seq, b64encode(random), life, uses)

    @classmethod
    def parse(cls, value: bytes) -> "SetupKey":
        """Read the header's value.

        Raises:
            ParseError: malformed, or more than one.
        """
        params = parse_params(split_list(value, b";"))
        kid = get_param(params, "kid") or b""
        nonce = get_param(params, "nonce") or b""
        header = cls(kid, _number(get_param(params, "seq")) or 0, nonce)
        header.mac = get_param(params, "mac") or b""
        header.life = _number(get_param(params, "life"))
        header.uses = _number(get_param(params, "uses"))
        if not header.seq or (kid != NO_KEY and not is_kid(kid)) or len(b64decode(header.mac)) != _MAC_BYTES:
            raise ParseError("Setup-Key")
        if (header.life is None) != (header.uses is None) or len(header.random) != NONCE_BYTES:
            raise ParseError("Setup-Key")
        return header

    def serialize(self) -> bytes:
        """The header's value."""
        limits = b"" if self.life is None else b";life=%d;uses=%d" % (self.life, self.uses or 0)
        return b'kid=%s;seq=%d;nonce="%s"%s;mac="%s"' % (self.kid, self.seq, self.nonce, limits, self.mac)

    @property
    def random(self) -> bytes:
        """The 16 bytes of the nonce.

        Raises:
            ParseError: it is no base64.
        """
        return b64decode(self.nonce)

    def compute(
        self,
        key: bytes,
        kind: bytes,
        sides: "tuple[bytes, bytes]",
        call: "tuple[bytes, int]",
        asked: bytes = NO_KEY,
        sdp: bytes = b"",
    ) -> bytes:
        """The MAC that the header has to have.

        Args:
            key: see `setup_keys.mac_key`.
            kind: `INVITE`, `ANSWER`, `BYE`, `BYE_ANSWER` or `REVOKE`.
            sides: the addresses-of-record in From and To of the request, also for its answer.
            call: Call-ID and CSeq number of the request.
            asked: in an answer the request's nonce, as sent.
            sdp: the body, b"" where there is none.
        """
        fields = (
            b"wisp setup 1",
            kind,
            sides[0],
            sides[1],
            call[0],
            b"%d" % call[1],
            b"%d" % self.seq,
            self.nonce,
            asked,
            b"-" if self.life is None else b"%d" % self.life,
            b"-" if self.uses is None else b"%d" % self.uses,
            hex_of(sha256(canonical_sdp(sdp)).digest()) if sdp else b"-",
        )
        return b64encode(Hmac(key).digest(b"\n".join(fields)))


def _number(value: "bytes | None") -> "int | None":
    """A number as the MAC has it: written in one way alone."""
    if value is None:
        return None
    if value[:1] == b"0" and value != b"0":
        raise ParseError("Setup-Key")
    return parse_uint(value, MAX_NUMBER, "Setup-Key")


def canonical_sdp(body: bytes) -> bytes:
    """What of a description a relay on the way has no business to change: not addresses, not ports."""
    lines = []
    for ended in body.split(b"\n"):
        line = ended.rstrip(b"\r")
        if not line or [1 for start in _LEFT_OUT if line.startswith(start)]:
            continue
        if line.startswith(b"m="):
            kind, _, rest = line.partition(b" ")
            port, space, rest = rest.partition(b" ")
            number, slash, count = port.partition(b"/")
            line = kind + b" " + (b"1" if number.strip(b"0") else number) + slash + count + space + rest
        lines.append(line)
    return b"\n".join(lines)
