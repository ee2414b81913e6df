"""The people of the fuzzed messages: keys and certificates that are the same each time, for the seeds' sake.

    root -> intermediate -> domain a.example, alice@a.example (a key of each kind), carol@a.example (revoked)
                         -> bob@b.example (P-256, RSA), mallory@c.example
    stranger (signed by itself)

Authorities sign with Ed25519, which leaves nothing to chance: who has the keys has the certificates. All of them are
in this file or in the test vectors, and are worth nothing anywhere else.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from neighbour.agent.credential import Credential, PrivateKey
from neighbour.agent.path import SIP_DOMAIN

__all__ = ["DATE", "KINDS", "NOW", "People", "people"]

#: When everything happens.
NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DATE = b"Mon, 01 Jun 2026 12:00:00 GMT"
#: The keys that alice has.
KINDS = ("p256", "p384", "ed25519", "rsa")
_RSA = Path(__file__).resolve().parent.parent.parent / "tests/vectors/smime_generated/certs/alice.private"
_YEARS = timedelta(days=3650)
_CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1()}
_USAGES = ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement")
_AUTHORITY = ("key_cert_sign", "crl_sign")


@dataclass(frozen=True)
class People:
    """Everybody.

    Attributes:
        root, intermediate: the authorities.
        alice: by the kind of the key.
        domain: a.example itself.
        carol: of a.example, whose certificate is revoked.
        bob: whom messages are for.
        bob_rsa: the same with another key.
        mallory: somebody else, with a certificate that holds.
        stranger: says to be alice, and nobody has signed it.
        crl: the intermediate's list of revoked certificates.
    """

    root: Credential
    intermediate: Credential
    alice: dict[str, Credential]
    domain: Credential
    carol: Credential
    bob: Credential
    bob_rsa: Credential
    mallory: Credential
    stranger: Credential
    crl: x509.CertificateRevocationList

    def credentials(self) -> tuple[Credential, ...]:
        """Everybody with a certificate that was issued, the revoked one and the authorities included."""
        leaves = (*self.alice.values(), self.domain, self.carol, self.bob, self.bob_rsa, self.mallory)
        return (*leaves, self.intermediate, self.root)


def _number(name: str) -> bytes:
    return hashlib.sha256(b"wisp fuzz " + name.encode()).digest()


def _key(kind: str, name: str) -> PrivateKey:
    if kind == "rsa":
        found = serialization.load_pem_private_key(_RSA.read_bytes(), None)
        assert isinstance(found, rsa.RSAPrivateKey)
        return found
    if kind == "ed25519":
        return ed25519.Ed25519PrivateKey.from_private_bytes(_number(name))
    return ec.derive_private_key(int.from_bytes(_number(name), "big") >> 8, _CURVES[kind])


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _made(name: str, kind: str, issuer: Credential | None, *names: x509.GeneralName, ca: bool = False) -> Credential:
    """A certificate with its key."""
    key = _key(kind, name)
    public = key.public_key()
    signer = key if issuer is None else issuer.key
    purposes = _AUTHORITY if ca else ("digital_signature", "key_encipherment" if kind == "rsa" else "key_agreement")
    usage = {one: one in purposes for one in (*_USAGES, *_AUTHORITY)}
    builder = (
        x509.CertificateBuilder()
        .subject_name(_named(name))
        .issuer_name(_named(name) if issuer is None else issuer.certificate.subject)
        .public_key(public)
        .serial_number(int.from_bytes(_number(name)[:8], "big") >> 1)
        .not_valid_before(NOW - timedelta(days=1))
        .not_valid_after(NOW + _YEARS)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(**usage, encipher_only=False, decipher_only=False), critical=True)
    )
    if names:
        usages = [SIP_DOMAIN, ExtendedKeyUsageOID.EMAIL_PROTECTION]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    assert isinstance(signer, ed25519.Ed25519PrivateKey), "another signature would differ each time"
    above = () if issuer is None or issuer.certificate.issuer == issuer.certificate.subject else (issuer.certificate,)
    return Credential(builder.sign(signer, None), key, above)


def _revoked(issuer: Credential, *certificates: x509.Certificate) -> x509.CertificateRevocationList:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(NOW - timedelta(hours=1))
        .next_update(NOW + timedelta(days=7))
        .add_extension(x509.CRLNumber(1), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key()), critical=False)
    )
    for one in certificates:
        entry = x509.RevokedCertificateBuilder().serial_number(one.serial_number).revocation_date(NOW)
        builder = builder.add_revoked_certificate(entry.build())
    assert isinstance(issuer.key, ed25519.Ed25519PrivateKey)
    return builder.sign(issuer.key, None)


@cache
def people() -> People:
    """Everybody, the same each time."""
    root = _made("root", "ed25519", None, ca=True)
    intermediate = _made("intermediate", "ed25519", root, ca=True)

    def user(name: str, aor: str, kind: str = "p256") -> Credential:
        return _made(name, kind, intermediate, x509.UniformResourceIdentifier(f"sip:{aor}"))

    carol = user("carol", "carol@a.example")
    return People(
        root,
        intermediate,
        {kind: user(f"alice {kind}", "alice@a.example", kind) for kind in KINDS},
        user("a.example", "a.example"),
        carol,
        user("bob", "bob@b.example"),
        user("bob rsa", "bob@b.example", "rsa"),
        user("mallory", "mallory@c.example"),
        _made("stranger", "ed25519", None, x509.UniformResourceIdentifier("sip:alice@a.example")),
        _revoked(intermediate, carol.certificate),
    )
