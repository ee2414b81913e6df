"""Certificates and CRLs for tests, any mistake included. Time is `NOW`, never the clock's."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import count
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
SIP_DOMAIN = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.20")
EMAIL = x509.OID_EMAIL_PROTECTION
URI, DNS = x509.UniformResourceIdentifier, x509.DNSName
_serials = count(1000)


@cache
def rsa_key(bits: int, which: int = 0) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, bits)


def ec_key(curve: Any = ec.SECP256R1) -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(curve())


def usage(*names: str) -> x509.KeyUsage:
    every = (
        "digital_signature content_commitment key_encipherment data_encipherment key_agreement key_cert_sign crl_sign"
    )
    return x509.KeyUsage(**{name: name in names for name in every.split()}, encipher_only=False, decipher_only=False)


CA_USAGE = usage("key_cert_sign", "crl_sign")
LEAF_USAGE = usage("digital_signature", "key_agreement")


def named(name: str) -> x509.Name:
    return x509.Name(
        [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "Test"), x509.NameAttribute(NameOID.COMMON_NAME, name)]
    )


@dataclass(frozen=True)
class Made:
    """A certificate with its key."""

    certificate: x509.Certificate
    key: Any


@dataclass(frozen=True)
class Wanted:
    """What a certificate is to be; the parts that are None are left out of it."""

    name: str
    key: Any = field(default_factory=ec_key)
    before: datetime = NOW - 10 * DAY
    after: datetime = NOW + 100 * DAY
    basic: x509.BasicConstraints | None = None
    usage: x509.KeyUsage | None = None
    extended: tuple[x509.ObjectIdentifier, ...] | None = None
    names: tuple[x509.GeneralName, ...] = ()
    bounds: x509.NameConstraints | None = None
    extra: tuple[tuple[x509.ExtensionType, bool], ...] = ()
    identifiers: bool = True
    hash: Any = hashes.SHA256
    padding: Any = None
    subject: x509.Name | None = None

    def made(self, issuer: Made | None = None) -> Made:
        signer = self.key if issuer is None else issuer.key
        subject = self.subject or named(self.name)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject if issuer is None else issuer.certificate.subject)
            .public_key(self.key.public_key())
            .serial_number(next(_serials))
            .not_valid_before(self.before)
            .not_valid_after(self.after)
        )
        found: list[tuple[x509.ExtensionType | None, bool]] = [
            (self.basic, True),
            (self.usage, True),
            (x509.ExtendedKeyUsage(self.extended) if self.extended else None, False),
            (x509.SubjectAlternativeName(self.names) if self.names else None, False),
            (self.bounds, True),
            *self.extra,
        ]
        if self.identifiers:
            found += [
                (x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), False),
                (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
            ]
        for extension, critical in found:
            if extension is not None:
                builder = builder.add_extension(extension, critical)
        algorithm = None if isinstance(signer, ed25519.Ed25519PrivateKey) else self.hash()
        return Made(builder.sign(signer, algorithm, rsa_padding=self.padding), self.key)


def authority(name: str, issuer: Made | None = None, *, length: int | None = None, **wanted: Any) -> Made:
    basic = x509.BasicConstraints(ca=True, path_length=length)
    return Wanted(name, **{"basic": basic, "usage": CA_USAGE, **wanted}).made(issuer)


def leaf(issuer: Made | None, name: str = "alice", **wanted: Any) -> Made:
    usual = {
        "basic": x509.BasicConstraints(ca=False, path_length=None),
        "usage": LEAF_USAGE,
        "extended": (SIP_DOMAIN, EMAIL),
        "names": (URI("sip:alice@a.example"),),
    }
    return Wanted(name, **{**usual, **wanted}).made(issuer)


def crl(
    issuer: Made,
    revoked: Iterable[Made] = (),
    *,
    key: Any = None,
    since: datetime = NOW - DAY,
    until: datetime | None = NOW + 7 * DAY,
    extra: Iterable[tuple[x509.ExtensionType, bool]] = (),
    entry: Iterable[tuple[x509.ExtensionType, bool]] = (),
    identifier: bool = True,
    number: int = 1,
    digest: Any = hashes.SHA256,
) -> x509.CertificateRevocationList:
    signer = key or issuer.key
    builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.certificate.subject).last_update(since)
    builder = builder.next_update(until or since + DAY).add_extension(x509.CRLNumber(number), critical=False)
    if identifier:
        public = issuer.key.public_key()
        builder = builder.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(public), critical=False)
    for extension, critical in extra:
        builder = builder.add_extension(extension, critical)
    for one in revoked:
        made = x509.RevokedCertificateBuilder().serial_number(one.certificate.serial_number).revocation_date(since)
        for extension, critical in entry:
            made = made.add_extension(extension, critical)
        builder = builder.add_revoked_certificate(made.build())
    return builder.sign(signer, digest())


def der(one: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return one.public_bytes(Encoding.DER)


def spki(one: x509.Certificate) -> bytes:
    return one.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
