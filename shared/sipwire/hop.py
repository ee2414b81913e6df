"""The protected hop between a terminal and its neighbour (WIRE sections 1.2 and 1.3).

    0      1         5         9                      n-16        n
    | 0xE1 | SPI (4) | seq (4) | ciphertext (any size) | tag (16) |

AES-128-CTR by the IV of RFC 3711, HMAC-SHA-256 cut to 16 bytes over everything before the tag. Authentication comes
first; a frame that fails it changes nothing.
"""

from hashlib import sha256

from .aes_cm import CounterMode
from .compat import a2b_hex, const
from .errors import SecurityError, StateError
from .kdf import Hmac, hkdf_expand, hkdf_extract, same
from .replay import ReplayWindow

__all__ = [
    "FRAME_MARK",
    "MAX_SEQ",
    "OVERHEAD_BYTES",
    "HopKeys",
    "HopReceiver",
    "HopSender",
    "derive_keys",
    "frame_seq",
    "frame_spi",
]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .aes_cm import NewAes

FRAME_MARK = 0xE1  # can start neither a SIP message, nor RTP/RTCP, STUN or DTLS
MAX_SEQ = 0x7FFFFFFF  # the terminal re-registers before
_HEADER_BYTES = const(9)
_TAG_BYTES = const(16)
OVERHEAD_BYTES = _HEADER_BYTES + _TAG_BYTES
_CALL_BLOCKS = const(8)  # encrypted per call: a terminal has several of these ciphers, each with buffers of that size


class HopKeys:
    """The keys of one direction: ``key`` (16 bytes), ``auth`` (32), ``salt`` (14)."""

    def __init__(self, key: bytes, auth: bytes, salt: bytes) -> None:
        self.key = key
        self.auth = auth
        self.salt = salt


def derive_keys(
    ha1_hex: bytes,
    username: bytes,
    realm: bytes,
    terminal_nonce: bytes,
    neighbour_nonce: bytes,
    security_client: bytes,
    security_server: bytes,
) -> "tuple[HopKeys, HopKeys]":
    """The keys of a hop agreement: terminal to neighbour, neighbour to terminal (WIRE section 1.2).

    Args:
        ha1_hex: SHA-256 HA1 in hex.
        username: the digest user.
        realm: the digest realm.
        terminal_nonce: the 16 bytes in Security-Client.
        neighbour_nonce: the nonce of WWW-Authenticate, its characters.
        security_client: the header's value as sent.
        security_server: the header's value as sent. A change of either on the way changes every key.
    """
    prk = hkdf_extract(terminal_nonce + neighbour_nonce, a2b_hex(ha1_hex))
    context = b"\0".join((b"wisp hop 1", username + b"@" + realm, security_client, security_server))
    okm = hkdf_expand(prk, sha256(context).digest(), 124)
    return HopKeys(okm[:16], okm[16:48], okm[48:62]), HopKeys(okm[62:78], okm[78:110], okm[110:])


def frame_spi(frame: bytes) -> int:
    """The SPI of a frame.

    Raises:
        SecurityError: too short or no frame.
    """
    if len(frame) < OVERHEAD_BYTES or frame[0] != FRAME_MARK:
        raise SecurityError("hop frame")
    return int.from_bytes(frame[1:5], "big")


def frame_seq(frame: bytes) -> int:
    """The sequence number of a frame that `frame_spi` accepted."""
    return int.from_bytes(frame[5:9], "big")


class HopSender:
    """Seals messages into frames.

    Args:
        spi: the receiver's SPI.
        keys: of this direction.
        new_aes: makes an AES block function of a key.
        seq: the number used last; 0 at the start of an agreement.
    """

    def __init__(self, spi: int, keys: HopKeys, new_aes: "NewAes", seq: int = 0) -> None:
        self.spi = spi
        self.seq = seq
        self._cipher = CounterMode(new_aes(keys.key), keys.salt, _CALL_BLOCKS)
        self._mac = Hmac(keys.auth)

    def seal(self, message: bytes) -> bytearray:
        """The next frame; an empty message is a keep-alive.

        Raises:
            StateError: the agreement is used up.
        """
        if self.seq >= MAX_SEQ:
            raise StateError("hop agreement used up")
        self.seq += 1
        end = _HEADER_BYTES + len(message)
        frame = bytearray(end + _TAG_BYTES)
        frame[0] = FRAME_MARK
        frame[1:5] = self.spi.to_bytes(4, "big")
        frame[5:9] = self.seq.to_bytes(4, "big")
        frame[_HEADER_BYTES:end] = message
        self._cipher.apply(frame, _HEADER_BYTES, end, self.spi, self.seq >> 16, self.seq & 0xFFFF)
        frame[end:] = self._mac.digest(memoryview(frame)[:end])[:_TAG_BYTES]
        return frame  # without a copy: it is large, for a weak device


class HopReceiver:
    """Opens frames, each once.

    Args:
        spi: our SPI.
        keys: of this direction.
        new_aes: makes an AES block function of a key.
        highest: the highest seq taken as seen; 0 at the start of an agreement, since numbers start at 1.
    """

    def __init__(self, spi: int, keys: HopKeys, new_aes: "NewAes", highest: int = 0) -> None:
        self.spi = spi
        self.window = ReplayWindow(64, highest)
        self._cipher = CounterMode(new_aes(keys.key), keys.salt, _CALL_BLOCKS)
        self._mac = Hmac(keys.auth)

    def open(self, frame: bytes, most: int = MAX_SEQ) -> bytes:
        """The message in a frame; b"" is a keep-alive. For arguments and errors see `decipher`."""
        return bytes(self.decipher(frame, most))

    def decipher(self, frame: bytes, most: int = MAX_SEQ) -> bytearray:
        """The same without a copy: a weak device makes bytes of it when it has let go of the frame.

        Args:
            frame: the frame.
            most: how many bytes of the message are wanted: its beginning, where there are more.

        Raises:
            SecurityError: malformed, another SPI, a wrong tag, or a seq that was seen or is too old. Drop and count it.
        """
        if frame_spi(frame) != self.spi:
            raise SecurityError("hop spi")
        end = len(frame) - _TAG_BYTES
        if not same(self._mac.digest(memoryview(frame)[:end])[:_TAG_BYTES], frame[end:]):
            raise SecurityError("hop tag")
        seq = frame_seq(frame)
        if not 0 < seq <= MAX_SEQ or not self.window.is_fresh(seq):
            raise SecurityError("hop replay")
        self.window.add(seq)
        message = bytearray(memoryview(frame)[_HEADER_BYTES : min(end, _HEADER_BYTES + most)])
        self._cipher.apply(message, 0, len(message), self.spi, seq >> 16, seq & 0xFFFF)
        return message
