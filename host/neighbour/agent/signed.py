"""What an authority has signed, a certificate or a CRL: whether the signature holds, and whether it is strong enough.

    Certificate / CertificateList  =  SEQUENCE { tbs, AlgorithmIdentifier, signature }
                           tbs     =  SEQUENCE { ..., AlgorithmIdentifier, ... }      the same one (RFC 5280 4.1.1.2)

The library refuses SHA-1 here whatever one wants, and the profile of RFC 6216 has nothing else; so the few algorithms
that count are named here, and SHA-1 is one of them only where its user says so.
"""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning

__all__ = ["BROKEN", "AlgorithmError", "SignatureError", "check_key", "check_signature"]

_HASHES = (hashes.SHA256, hashes.SHA384, hashes.SHA512)
_CURVES = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
_LEAST_RSA_BITS = 2048  # what is shorter can be broken (RFC 8551 section 4)
_MOST_RSA_BITS = 8192  # what is longer costs us more than it costs its maker
_MOST_RSA_EXPONENT_BITS = 33  # 65537 is 17; a long exponent makes each check slow
_SEQUENCE = 0x30
_LONG_LENGTH = 0x80

# What the library raises on a certificate or CRL that is malformed deeper than its first look goes.
BROKEN = (
    ValueError,
    TypeError,
    OverflowError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # where warnings are errors: a serial number that is not positive
)


class SignatureError(Exception):
    """The signature is not the signer's."""


class AlgorithmError(Exception):
    """An algorithm or a key that is too weak, too costly, or not known."""


def check_key(key: object) -> None:
    """Whether signatures of a key, and what is encrypted to it, are worth anything.

    Raises:
        AlgorithmError: they are not.
    """
    if isinstance(key, rsa.RSAPublicKey):
        if not _LEAST_RSA_BITS <= key.key_size <= _MOST_RSA_BITS:
            raise AlgorithmError(f"RSA key of {key.key_size} bits")
        if key.public_numbers().e.bit_length() > _MOST_RSA_EXPONENT_BITS:
            raise AlgorithmError("RSA exponent")
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if not isinstance(key.curve, _CURVES):
            raise AlgorithmError(f"curve {key.curve.name}")
    elif not isinstance(key, ed25519.Ed25519PublicKey):
        raise AlgorithmError("key of an unknown kind")


def check_signature(
    signed: x509.Certificate | x509.CertificateRevocationList, issuer: x509.Certificate, *, sha1: bool = False
) -> None:
    """Check the signature of a certificate or CRL with its issuer's key; names are not looked at.

    Args:
        signed: what was signed.
        issuer: who is said to have signed it.
        sha1: whether SHA-1 counts (RFC 6216).

    Raises:
        SignatureError: another key made it, or what was signed has been changed.
        AlgorithmError: key or algorithm do not count.
    """
    try:
        key = issuer.public_key()
        check_key(key)
        tbs = signed.tbs_certificate_bytes if isinstance(signed, x509.Certificate) else signed.tbs_certlist_bytes
        der = signed.public_bytes(Encoding.DER)
        if not _names_one_algorithm(der, tbs):
            raise SignatureError("two algorithms are named")
        if der[-1 - len(signed.signature)]:
            raise SignatureError("not a number of whole bytes")  # whose last bits the library would overlook
        used, params = signed.signature_hash_algorithm, signed.signature_algorithm_parameters
        if isinstance(key, ed25519.Ed25519PublicKey):
            if used is not None:
                raise SignatureError("another kind of key")
            key.verify(signed.signature, tbs)
            return
        if used is None or not isinstance(used, (*_HASHES, hashes.SHA1) if sha1 else _HASHES):
            raise AlgorithmError("hash")
        if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(params, ec.ECDSA):
            key.verify(signed.signature, tbs, params)
        elif isinstance(key, rsa.RSAPublicKey) and isinstance(params, padding.PKCS1v15 | padding.PSS):
            key.verify(signed.signature, tbs, params, used)
        else:
            raise SignatureError("another kind of key")
    except InvalidSignature:
        raise SignatureError("wrong") from None
    except BROKEN:
        raise AlgorithmError("can't be read") from None


def _names_one_algorithm(der: bytes, tbs: bytes) -> bool:
    """Whether the algorithm that was signed is the one that stands beside the signature."""
    at = _content(tbs, 0)
    while tbs[at] != _SEQUENCE:  # version and serial number come first; the reader has seen that they end
        at = _end(tbs, at)
    inner = tbs[at : _end(tbs, at)]
    return der.startswith(inner, _content(der, 0) + len(tbs))


def _content(der: bytes, at: int) -> int:
    """Where the content of the element at ``at`` begins."""
    first = der[at + 1]
    return at + 2 + (first & ~_LONG_LENGTH if first & _LONG_LENGTH else 0)


def _end(der: bytes, at: int) -> int:
    """Where the element at ``at`` ends."""
    begin = _content(der, at)
    first = der[at + 1]
    return begin + (int.from_bytes(der[at + 2 : begin], "big") if first & _LONG_LENGTH else first)
