"""A small certificate authority: root, intermediate, and certificates of SIP domains (RFC 5922, RFC 5924).

    root (10 years) -> intermediate (5 years) -> a.example (13 months)

Public authorities no longer issue certificates for TLS clients, which mutual TLS needs, so a federation has one of its
own. P-256 and SHA-256 throughout; keys are files that nobody else may read.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

__all__ = ["Authority", "AuthorityError", "Issued", "write_private"]

_ROOT_DAYS = 3653
_INTERMEDIATE_DAYS = 1826
_DOMAIN_DAYS = 397
_BACKDATE = timedelta(minutes=5)  # for clocks that are a little late
_SIP_DOMAIN = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.20")  # id-kp-sipDomain, RFC 5924


class AuthorityError(Exception):
    """The authority can't do that; the text says why."""


def write_private(path: Path, data: bytes) -> None:
    """Write a file that only we may read, from its first byte on."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(data)


@dataclass
class Issued:
    """A certificate with its key.

    Attributes:
        certificate: itself.
        key: its private key.
        chain: the certificates between it and the root.
    """

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: list[x509.Certificate]

    def chain_pem(self) -> bytes:
        """The certificate and its chain, as TLS servers want them."""
        return b"".join(one.public_bytes(serialization.Encoding.PEM) for one in [self.certificate, *self.chain])

    def key_pem(self) -> bytes:
        """The private key, without a pass phrase."""
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )

    def write(self, certificate: Path, key: Path) -> None:
        """Write both files, the key for us alone."""
        certificate.parent.mkdir(parents=True, exist_ok=True)
        certificate.write_bytes(self.chain_pem())
        write_private(key, self.key_pem())


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


def _build(
    subject: str,
    issuer: "Issued | None",
    not_before: datetime,
    not_after: datetime,
    extensions: "list[tuple[x509.ExtensionType, bool]]",
) -> Issued:
    """Make a key and have it certified by ``issuer``, or by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
    signer = key if issuer is None else issuer.key
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name if issuer is None else issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return Issued(builder.sign(signer, hashes.SHA256()), key, [])


class Authority:
    """An authority in a folder: ``root.pem``, ``root.key``, ``intermediate.pem``, ``intermediate.key``.

    Args:
        folder: where it is.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def root_path(self) -> Path:
        """The root certificate, for those who trust this authority."""
        return self.folder / "root.pem"

    def create(self, name: str) -> None:
        """Make root and intermediate.

        Raises:
            AuthorityError: there is one already.
        """
        if self.root_path.exists():
            raise AuthorityError(f"{self.folder}: there is an authority already")
        now = datetime.now(UTC)
        root = _build(
            f"{name} root",
            None,
            now - _BACKDATE,
            now + timedelta(days=_ROOT_DAYS),
            [(x509.BasicConstraints(ca=True, path_length=1), True), (_usage(ca=True), True)],
        )
        intermediate = _build(
            f"{name} intermediate",
            root,
            now - _BACKDATE,
            now + timedelta(days=_INTERMEDIATE_DAYS),
            [(x509.BasicConstraints(ca=True, path_length=0), True), (_usage(ca=True), True)],
        )
        root.write(self.root_path, self.folder / "root.key")
        intermediate.write(self.folder / "intermediate.pem", self.folder / "intermediate.key")

    def _intermediate(self) -> Issued:
        try:
            certificate = x509.load_pem_x509_certificate((self.folder / "intermediate.pem").read_bytes())
            key = serialization.load_pem_private_key((self.folder / "intermediate.key").read_bytes(), None)
        except OSError as error:
            raise AuthorityError(f"{error.filename}: {error.strerror}; make an authority with `wisp ca init`") from None
        except ValueError as error:
            raise AuthorityError(f"{self.folder}: not an authority's files: {error}") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey):
            raise AuthorityError(f"{self.folder}: the key is no EC key")
        return Issued(certificate, key, [])

    def issue_domain(
        self, domain: str, not_before: datetime | None = None, not_after: datetime | None = None
    ) -> Issued:
        """A certificate of a SIP domain, for both ends of TLS.

        Args:
            domain: what it proves, as ``sip:`` URI and DNS name.
            not_before: when it begins to hold; default a little ago.
            not_after: when it ends; default in 13 months.

        Raises:
            AuthorityError: the authority's files are missing or broken.
        """
        intermediate = self._intermediate()
        now = datetime.now(UTC)
        issued = _build(
            domain,
            intermediate,
            not_before or now - _BACKDATE,
            not_after or now + timedelta(days=_DOMAIN_DAYS),
            [
                (x509.BasicConstraints(ca=False, path_length=None), True),
                (_usage(ca=False), True),
                # OpenSSL refuses a TLS client with serverAuth or sipDomain alone, so all three are there.
                (
                    x509.ExtendedKeyUsage(
                        [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, _SIP_DOMAIN]
                    ),
                    False,
                ),
                (
                    x509.SubjectAlternativeName(
                        [x509.UniformResourceIdentifier(f"sip:{domain}"), x509.DNSName(domain)]
                    ),
                    False,
                ),
            ],
        )
        issued.chain = [intermediate.certificate]
        return issued
