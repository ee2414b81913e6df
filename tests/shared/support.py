"""What the tests of sipwire share on both Pythons: the vectors, and an AES block function."""

import json

try:
    from cryptolib import aes

    def new_aes(key):
        return aes(key, 1).encrypt

    AES_KEY_BYTES = (16, 32)  # cryptolib knows no AES-192
except ImportError:
    from neighbour.aes import new_aes

    AES_KEY_BYTES = (16, 24, 32)

__all__ = ["AES_KEY_BYTES", "VECTORS", "load", "new_aes", "read", "unhex"]

VECTORS = __file__.rsplit("/", 1)[0] + "/../vectors/"


def read(name):
    """The bytes of a file below tests/vectors."""
    with open(VECTORS + name, "rb") as file:
        return file.read()


def load(name):
    """A JSON file below tests/vectors."""
    with open(VECTORS + name) as file:
        return json.load(file)


def unhex(text):
    return bytes(int(text[i : i + 2], 16) for i in range(0, len(text), 2))
