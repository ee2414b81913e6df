"""Certificates with keys of every kind, for the tests of signed and encrypted messages."""

from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import NameOID

from neighbour.agent.credential import Credential, PrivateKey

__all__ = ["NOW", "read_person", "person"]

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def _key(kind: str) -> PrivateKey:
    if kind == "rsa":
        return rsa.generate_private_key(65537, 2048)
    if kind == "rsa1024":
        return rsa.generate_private_key(65537, 1024)
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    curves = {"p256": ec.SECP256R1, "p384": ec.SECP384R1, "p521": ec.SECP521R1}
    return ec.generate_private_key(curves[kind]())


def person(kind: str, name: str = "alice", *, key_id: bool = True) -> Credential:
    """Somebody with a certificate of an authority that is in the chain: the same each time."""
    return _person(kind, name, key_id)


@cache
def _person(kind: str, name: str, key_id: bool) -> Credential:
    authority = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority of {name}")])
    key = _key(kind)

    def certificate(subject: x509.Name, public: object, *, ca: bool) -> x509.Certificate:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(NOW - timedelta(days=1))
            .not_valid_after(NOW + timedelta(days=3650))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if key_id:
            builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        return builder.sign(authority, hashes.SHA256())

    own = certificate(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key.public_key(), ca=False)
    return Credential(own, key, (certificate(issuer, authority.public_key(), ca=True),))


@cache
def read_person(folder: Path, name: str) -> Credential:
    """Somebody of the vectors."""
    certificate = x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes())
    key = serialization.load_pem_private_key((folder / f"{name}.private").read_bytes(), None)
    return Credential(certificate, key)
