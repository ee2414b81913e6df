"""A credential: a certificate, its private key, and what leads from it to a root (RFC 6072 section 2 has the word)."""

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Credential", "PrivateKey", "read_credential", "write_private"]

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def write_private(path: "Path", data: bytes) -> None:
    """Write a file that only we may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


@dataclass(frozen=True)
class Credential:
    """A certificate with its key.

    Attributes:
        certificate: itself.
        key: its private key.
        chain: the certificates between it and the root, which is not among them.
    """

    certificate: x509.Certificate
    key: PrivateKey
    chain: tuple[x509.Certificate, ...] = ()

    def __repr__(self) -> str:
        return f"Credential({self.certificate.subject.rfc4514_string()!r})"  # without its key

    def chain_pem(self) -> bytes:
        """The certificate and its chain, as TLS servers want them."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in (self.certificate, *self.chain))

    def key_pem(self) -> bytes:
        """The private key, without a pass phrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, certificate: "Path", key: "Path") -> None:
        """Write both files, the key for us alone."""
        certificate.parent.mkdir(parents=True, exist_ok=True)
        certificate.write_bytes(self.chain_pem())
        write_private(key, self.key_pem())


def read_credential(certificate: "Path", key: "Path") -> Credential:
    """Read a credential from its two PEM files: the certificate with its chain, and the key.

    Raises:
        OSError: one of them can't be read.
        ValueError: one of them is something else, or they do not belong together.
    """
    try:
        leaf, *chain = x509.load_pem_x509_certificates(certificate.read_bytes())
    except ValueError:
        raise ValueError(f"{certificate}: no PEM certificate") from None
    try:
        found = serialization.load_pem_private_key(key.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ValueError(f"{key}: no PEM private key without a pass phrase") from None
    if not isinstance(found, PrivateKey):
        raise ValueError(f"{key}: not an EC, RSA or Ed25519 key")  # noqa: TRY004  the file is at fault
    if found.public_key() != leaf.public_key():
        raise ValueError(f"{key}: is not the key of {certificate}")
    return Credential(leaf, found, tuple(chain))
