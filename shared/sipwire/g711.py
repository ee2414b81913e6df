"""G.711 (ITU-T): PCMU (mu-law) and PCMA (A-law), 8000 samples a second, one byte each.

Linear samples are 16 bits, signed, little-endian, as WAV files and I2S have them.
"""

from .compat import alaw_encode, decode, ulaw_encode

__all__ = ["PCMA", "PCMU", "Codec"]

PCMU = 0  # the static payload types of RFC 3551
PCMA = 8


def _expand_ulaw(code: int) -> int:
    code = ~code & 0xFF
    size = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return -size if code & 0x80 else size


def _expand_alaw(code: int) -> int:
    code ^= 0x55
    exponent = (code & 0x70) >> 4
    size = (code & 0x0F) << 4 | 8
    if exponent:
        size = size + 0x100 << exponent - 1
    return size if code & 0x80 else -size


class Codec:
    """One of the two laws, with its table of 512 bytes.

    Args:
        payload_type: `PCMU` or `PCMA`.
    """

    def __init__(self, payload_type: int) -> None:
        expand = _expand_alaw if payload_type == PCMA else _expand_ulaw
        self._encode = alaw_encode if payload_type == PCMA else ulaw_encode
        self.payload_type = payload_type
        self.silence = 0xD5 if payload_type == PCMA else 0xFF
        self._table = bytearray(512)
        for code in range(256):
            sample = expand(code) & 0xFFFF
            self._table[2 * code] = sample & 0xFF
            self._table[2 * code + 1] = sample >> 8

    def encode(self, pcm: bytearray, out: bytearray, start: int, samples: int) -> None:
        """Encode ``samples`` samples of ``pcm`` into ``out[start:]``."""
        self._encode(pcm, out, start, samples, _EXPONENTS)

    def decode(self, data: bytearray, start: int, pcm: bytearray, samples: int) -> None:
        """Decode ``samples`` bytes of ``data[start:]`` into ``pcm``."""
        decode(data, start, pcm, samples, self._table)


def _bit_lengths() -> bytes:
    """The bit length of 0 to 127: the exponent of a sample's top seven bits, in both laws."""
    lengths = bytearray(128)
    for i in range(1, 128):
        lengths[i] = lengths[i >> 1] + 1
    return bytes(lengths)


_EXPONENTS = _bit_lengths()
