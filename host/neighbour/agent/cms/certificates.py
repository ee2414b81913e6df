"""What a message says of a certificate: how it names one, and what of one it needs.

    a message names by    issuer and serial number    as the certificate writes them, byte by byte
                          subject key identifier      the certificate's extension of that name

What depends on a certificate alone is worked out once and kept in a bounded cache. It says nothing about trust: that is
the business of the path's validation.
"""

from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

from ..remembered import remembered
from .errors import MalformedError, UnsupportedError
from .structures import INTEGER, SEQUENCE, IssuerAndSerial, TbsCertificate, der, raw

__all__ = [
    "MAX_CERTIFICATES",
    "CertificateId",
    "Facts",
    "PublicKey",
    "facts",
    "load_certificate",
    "public_key",
    "read_id",
]

#: More certificates in one message are no chain but an attack on the time.
MAX_CERTIFICATES = 16
#: Certificates whose facts are kept, about 2 KiB each. Beyond it the longest unused is worked out again.
_CACHE = 1_024

_KEY_ID = x509.oid.ExtensionOID.SUBJECT_KEY_IDENTIFIER
#: RSA below is within reach of an attacker (NIST SP 800-131A), above takes too long.
_RSA_BITS = range(2_048, 4_096 + 1)

PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey | ed25519.Ed25519PublicKey


@dataclass(frozen=True)
class Facts:
    """What messages need of a certificate.

    Attributes:
        encoded: itself, DER.
        issuer: its issuer's Name, DER.
        serial: its serial number.
        key_id: its subject key identifier, or None where it has none.
        by_issuer: the IssuerAndSerialNumber that names it, DER.
    """

    encoded: bytes
    issuer: bytes
    serial: int
    key_id: bytes | None
    by_issuer: bytes


@remembered(_CACHE)
def facts(certificate: x509.Certificate) -> Facts:
    """The facts of a certificate.

    Raises:
        MalformedError: it is not as RFC 5280 wants it.
    """
    try:
        fields = asn1.decode_der(TbsCertificate, certificate.tbs_certificate_bytes)
        named = [one.value for one in fields.extensions or () if one.oid == _KEY_ID]
        # The extension's value is an OCTET STRING in an OCTET STRING.
        key_id = asn1.decode_der(bytes, named[0]) if named else None
    except ValueError:
        raise MalformedError("a certificate is broken") from None
    if len(named) > 1:
        raise MalformedError("a certificate is broken")
    issuer = raw(fields.issuer)
    serial = fields.serial
    octets = serial.to_bytes(serial.bit_length() // 8 + 1, "big", signed=True)
    return Facts(
        certificate.public_bytes(Encoding.DER), issuer, serial, key_id, der(SEQUENCE, issuer, der(INTEGER, octets))
    )


@lru_cache(_CACHE)
def load_certificate(encoded: bytes) -> tuple[x509.Certificate, Facts]:
    """A certificate and its facts from its DER.

    Raises:
        MalformedError: it is none.
    """
    try:
        certificate = x509.load_der_x509_certificate(encoded)
        return certificate, facts(certificate)
    except (ValueError, x509.InvalidVersion, CryptographyDeprecationWarning):
        raise MalformedError("a certificate is broken") from None


@remembered(_CACHE)
def public_key(certificate: x509.Certificate) -> PublicKey:
    """The key of a certificate: P-256, P-384, RSA of 2048 to 4096 bits, or Ed25519.

    Raises:
        UnsupportedError: it is another one.
        MalformedError: it is broken.
    """
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm, CryptographyDeprecationWarning):
        raise MalformedError("a certificate's key is broken") from None
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size in _RSA_BITS:
            return key
    elif isinstance(key, ed25519.Ed25519PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
    ):
        return key
    raise UnsupportedError("a certificate's key is of another kind")


@dataclass(frozen=True)
class CertificateId:
    """A certificate as a message names it: by issuer and serial number, or by key identifier.

    Attributes:
        issuer: the issuer's Name, DER; or None.
        serial: the serial number; or None.
        key_id: the subject key identifier; or None.
    """

    issuer: bytes | None = None
    serial: int | None = None
    key_id: bytes | None = None

    def matches(self, certificate: x509.Certificate) -> bool:
        """Whether it names this certificate.

        Raises:
            MalformedError: the certificate is not as RFC 5280 wants it.
        """
        return self.names(facts(certificate))

    def names(self, found: Facts) -> bool:
        """Whether it names the certificate of these facts."""
        if self.key_id is not None:
            return self.key_id == found.key_id
        return self.serial == found.serial and self.issuer == found.issuer


def read_id(named: IssuerAndSerial | bytes) -> CertificateId:
    """The name that a message gave a certificate."""
    if isinstance(named, bytes):
        return CertificateId(key_id=named)
    return CertificateId(raw(named.issuer), named.serial)
