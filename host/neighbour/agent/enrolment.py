"""Keys and certificates on their way out and back in: to an authority that is not ours, and as PKCS#12.

    our key, or a new one --> request (PKCS #10, RFC 2986) --> outside authority --> answer: certificate and chain
    credential --> PKCS#12 (RFC 7292), under a pass phrase --> credential

What comes in is taken only where it is of the right user or domain, holds now, and belongs to a key that we have.
"""

from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .credential import Credential, PrivateKey
from .keyring import CertificateError, Place, is_for_smime, names_it, read_certificates
from .path import SIP_DOMAIN
from .signed import BROKEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

__all__ = [
    "MAX_FILE_BYTES",
    "check_fits",
    "open_pkcs12",
    "read_answer",
    "seal_pkcs12",
    "sign_request",
    "take_answer",
]

MAX_FILE_BYTES = 1 << 20  # of what is imported: a chain is a few KB
_MAX_CERTIFICATES = 16  # in one file: the certificate, its chain, and what some authorities add
_MAX_COMMON_NAME = 64  # ub-common-name of RFC 5280


def sign_request(place: Place, key: PrivateKey) -> bytes:
    """A request for a certificate of a place, PEM: its names, and what it is to be used for.

    Args:
        place: whose it is to be.
        key: the key to be certified.
    """
    name = place.aor.removeprefix("sip:")
    names_of: list[x509.GeneralName] = [x509.UniformResourceIdentifier(place.aor)]
    purposes = [ExtendedKeyUsageOID.EMAIL_PROTECTION, SIP_DOMAIN]
    if place.is_domain:
        names_of.append(x509.DNSName(name))
        purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH, SIP_DOMAIN]
    # The names are in subjectAltName; for those that are too long here the first part will do.
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:_MAX_COMMON_NAME])])
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(subject)
        .add_extension(x509.SubjectAlternativeName(names_of), critical=False)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .sign(key, None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256())
    )
    return request.public_bytes(serialization.Encoding.PEM)


def check_fits(certificate: x509.Certificate, aor: str, now: "datetime") -> None:
    """See that a certificate is of somebody, and holds now.

    Raises:
        CertificateError: it is of somebody else, or does not hold.
    """
    if not names_it(certificate, aor):
        raise CertificateError(f"is not of {aor}: no such URI is in its subjectAltName")
    if certificate.not_valid_after_utc <= now:
        raise CertificateError(f"expired on {certificate.not_valid_after_utc:%Y-%m-%d}")
    if certificate.not_valid_before_utc > now:
        raise CertificateError(f"holds only from {certificate.not_valid_before_utc:%Y-%m-%d} on")


def read_answer(data: bytes) -> list[x509.Certificate]:
    """The certificates that an authority, or somebody else, sent us.

    Raises:
        CertificateError: there are none, or too many.
    """
    if len(data) > MAX_FILE_BYTES:
        raise CertificateError("is too big for certificates")
    try:
        found = read_certificates(data)
    except ValueError:
        raise CertificateError("no certificate, PEM or DER; with its key as PKCS#12: --p12") from None
    if len(found) > _MAX_CERTIFICATES:
        raise CertificateError(f"holds more than {_MAX_CERTIFICATES} certificates")
    return found


def take_answer(
    place: Place, certificates: "Sequence[x509.Certificate]", keys: "Iterable[PrivateKey]", now: "datetime"
) -> Credential:
    """The credential that an authority's answer makes of a key of ours.

    Args:
        place: whose it is.
        certificates: in any order; ours, and those that lead from it to the root.
        keys: of ours, that it may be for.
        now: the time.

    Raises:
        CertificateError: it is for none of these keys, is of somebody else, does not hold now, or can't sign messages
            where that is all that it is for.
    """
    known = list(keys)
    if not known:
        raise CertificateError("there is no key of ours for it; make one with `wisp cert export --csr`")
    for key in known:
        ours = key.public_key()
        for certificate in certificates:
            if certificate.public_key() == ours:
                check_fits(certificate, place.aor, now)
                if place.is_agent:
                    _check_signs(certificate)
                return Credential(certificate, key, _chain(certificate, certificates))
    raise CertificateError("is not for our key, nor for that of a request of ours")


def _check_signs(certificate: x509.Certificate) -> None:
    """See that others will accept what a certificate signs in the name of a domain's users.

    Raises:
        CertificateError: they will not.
    """
    if not is_for_smime(certificate):
        raise CertificateError("is not for S/MIME: its extended key usage has to have emailProtection")
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return
    except BROKEN:
        raise CertificateError("can't be read") from None
    if not usage.digital_signature and not usage.content_commitment:
        raise CertificateError("is not for signatures: its key usage has to have digitalSignature")


def _chain(leaf: x509.Certificate, others: "Sequence[x509.Certificate]") -> tuple[x509.Certificate, ...]:
    """What leads from a certificate towards the root, which is left out."""
    chain: list[x509.Certificate] = []
    last = leaf
    while True:
        issuer = next((one for one in others if one.subject == last.issuer and one not in chain and one != leaf), None)
        if issuer is None or issuer.issuer == issuer.subject:
            return tuple(chain)
        chain.append(issuer)
        last = issuer


def seal_pkcs12(credential: Credential, name: str, phrase: str) -> bytes:
    """A credential as PKCS#12, under a pass phrase (AES-256 and PBKDF2 with SHA-256).

    Args:
        credential: what goes in.
        name: what programs call it.
        phrase: not empty.
    """
    return pkcs12.serialize_key_and_certificates(
        name.encode(),
        credential.key,
        credential.certificate,
        credential.chain,
        serialization.BestAvailableEncryption(phrase.encode()),
    )


def open_pkcs12(place: Place, data: bytes, phrase: str, now: "datetime") -> Credential:
    """The credential of a PKCS#12 file.

    Args:
        place: whose it has to be.
        data: the file.
        phrase: what opens it.
        now: the time.

    Raises:
        CertificateError: the pass phrase is wrong, or what is in it can't be used.
    """
    if len(data) > MAX_FILE_BYTES:
        raise CertificateError("is too big for certificates")
    try:
        key, certificate, others = pkcs12.load_key_and_certificates(data, phrase.encode())
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise CertificateError("is no PKCS#12, or its pass phrase is another") from None
    if key is None or certificate is None:
        raise CertificateError("holds no key with its certificate")
    if not isinstance(key, PrivateKey):
        raise CertificateError("its key is no EC, RSA or Ed25519 key")
    return take_answer(place, [certificate, *others], [key], now)
