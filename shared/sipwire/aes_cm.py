"""AES in counter mode with the IV of RFC 3711 section 4.1.1, as SRTP and the hop use it.

    IV = (salt * 2^16) XOR (SSRC * 2^64) XOR (index * 2^16)

MicroPython's ``cryptolib`` has ECB only, so AES comes in as a block function: whole counter blocks are laid out,
encrypted in one call, and XORed over the data.
"""

from .compat import set_index, xor

__all__ = ["MAX_BYTES", "CounterMode"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    #: Encrypts the first buffer, a multiple of 16 bytes, by AES-ECB into the second, which has its size.
    BlockFunction = Callable[[bytearray, bytearray], None]
    #: Makes the block function of a key of 16, 24 or 32 bytes.
    NewAes = Callable[[bytes], BlockFunction]

MAX_BYTES = 0x100000  # section 4.1.1: the counter has 16 bits, so one IV gives 2^16 blocks


class CounterMode:
    """A keystream generator for one key and salt.

    Args:
        encrypt: the block function of the session key.
        salt: 14 bytes.
        blocks: how many blocks to encrypt in one call. Longer data takes several calls; shorter data wastes the rest.
    """

    def __init__(self, encrypt: "BlockFunction", salt: bytes, blocks: int = 16) -> None:
        self._encrypt = encrypt
        self._salt = salt
        self._salt_end = salt[12] << 8 | salt[13]
        self._blocks = blocks
        self._counters = bytearray(16 * blocks)
        self._pad = bytearray(16 * blocks)
        # What the counter blocks hold now, beside the low 16 bits of the index: laid out anew only when it changes.
        self._ssrc = -1
        self._high = -1  # bits 16 to 47 of the index, which stay for 65536 packets
        self._first = 0  # number of the first block

    def _lay_out(self, ssrc: int, high: int) -> None:
        iv = bytearray(self._salt + b"\0\0")
        for i in range(4):
            iv[4 + i] ^= (ssrc >> (24 - 8 * i)) & 0xFF
            iv[8 + i] ^= (high >> (24 - 8 * i)) & 0xFF
        for at in range(0, 16 * self._blocks, 16):
            self._counters[at : at + 16] = iv
        self._ssrc = ssrc
        self._high = high
        self._count_from(0)

    def _count_from(self, first: int) -> None:
        at = 14
        for number in range(first, first + self._blocks):
            self._counters[at] = (number >> 8) & 0xFF
            self._counters[at + 1] = number & 0xFF
            at += 16
        self._first = first

    def apply(self, data: bytearray, start: int, end: int, ssrc: int, high: int, low: int) -> None:
        """Encrypt or decrypt ``data[start:end]`` in place.

        Args:
            data: the buffer.
            start: where to begin in it.
            end: where to end; at most `MAX_BYTES` further.
            ssrc: 32 bits (the SPI, for a hop frame).
            high: the upper 32 bits of the packet index: SRTP's rollover counter.
            low: its lower 16 bits: the RTP sequence number.

        Raises:
            ValueError: more than `MAX_BYTES`, whose keystream would repeat.
        """
        if high != self._high or ssrc != self._ssrc:
            self._lay_out(ssrc, high)
        elif self._first:
            self._count_from(0)
        blocks = self._blocks
        counters = self._counters
        pad = self._pad
        set_index(counters, blocks, low ^ self._salt_end)
        self._encrypt(counters, pad)
        size = end - start
        whole = 16 * blocks
        if size > whole:
            if size > MAX_BYTES:
                raise ValueError("more data than one counter can encrypt")
            while size > whole:
                xor(data, start, pad, whole)
                start += whole
                size -= whole
                self._count_from(self._first + blocks)
                self._encrypt(counters, pad)
        xor(data, start, pad, size)
