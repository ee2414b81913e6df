"""AES block functions for sipwire, by `cryptography`."""

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import ECB

if TYPE_CHECKING:
    from sipwire.aes_cm import BlockFunction

__all__ = ["new_aes"]


def new_aes(key: bytes) -> "BlockFunction":
    """The AES-ECB encryption of one key (16, 24 or 32 bytes), as `sipwire.aes_cm` wants it."""
    encryptor = Cipher(AES(key), ECB()).encryptor()  # noqa: S305  counter mode is built on single blocks

    def encrypt(source: bytearray, target: bytearray) -> None:
        target[:] = encryptor.update(source)

    return encrypt
