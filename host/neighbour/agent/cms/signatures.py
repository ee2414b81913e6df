"""Signature algorithms: which there are, how a message names them, and how they are checked.

    ECDSA P-256, P-384     with SHA-256, SHA-384 or SHA-512        RFC 5754, RFC 5753
    RSA PKCS#1 v1.5        the same                                RFC 5754, RFC 3370
    RSASSA-PSS             the same, one hash for all of it        RFC 4056
    Ed25519                SHA-512 for the digest                  RFC 8419
    with SHA-1             the first two, where asked for          RFC 6216

The hash of the signature and that of the message's digest are the same one.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa

from .certificates import PublicKey
from .errors import MalformedError, SignatureError, UnsupportedError
from .structures import SEQUENCE, Algorithm, PssParameters, der, oid, raw, read

if TYPE_CHECKING:
    from neighbour.agent.credential import PrivateKey

__all__ = ["HASHES", "Hash", "Scheme", "check", "digest_of", "scheme_of"]

_NULL = b"\x05\x00"
_PSS = "1.2.840.113549.1.1.10"
_MGF1 = "1.2.840.113549.1.1.8"
_PKCS1 = padding.PKCS1v15()


@dataclass(frozen=True)
class Hash:
    """A hash.

    Attributes:
        name: as ``micalg`` of RFC 8551 section 3.5.3.2 has it.
        oid: its object identifier.
        algorithm: for signatures.
        digest: from content to its digest.
    """

    name: str
    oid: str
    algorithm: hashes.HashAlgorithm
    digest: Callable[[bytes], bytes]

    @property
    def identifier(self) -> bytes:
        """Its AlgorithmIdentifier, DER, without parameters (RFC 5754 section 2)."""
        return der(SEQUENCE, oid(self.oid))


def _hash(name: str, number: str, algorithm: hashes.HashAlgorithm) -> Hash:
    factory = getattr(hashlib, algorithm.name)
    return Hash(name, number, algorithm, lambda content: factory(content).digest())


_SHA1 = _hash("sha-1", "1.3.14.3.2.26", hashes.SHA1())  # noqa: S303  only where a caller asks for it
_SHA256 = _hash("sha-256", "2.16.840.1.101.3.4.2.1", hashes.SHA256())
_SHA384 = _hash("sha-384", "2.16.840.1.101.3.4.2.2", hashes.SHA384())
_SHA512 = _hash("sha-512", "2.16.840.1.101.3.4.2.3", hashes.SHA512())

#: By object identifier.
HASHES = {one.oid: one for one in (_SHA1, _SHA256, _SHA384, _SHA512)}


def _both(number: str) -> tuple[bytes, bytes]:
    """An AlgorithmIdentifier with NULL for parameters, and with none: senders do either (RFC 5754 section 2)."""
    return der(SEQUENCE, oid(number), _NULL), der(SEQUENCE, oid(number))


_DIGESTS = {encoded: one for one in HASHES.values() for encoded in _both(one.oid)}

# The signature's AlgorithmIdentifier to its kind and its hash, or None for that of the digest.
_EC, _RSA, _EDWARDS = ec.EllipticCurvePublicKey, rsa.RSAPublicKey, ed25519.Ed25519PublicKey
_SIGNATURES: dict[bytes, tuple[type[PublicKey], Hash | None]] = {
    der(SEQUENCE, oid("1.2.840.10045.4.1")): (_EC, _SHA1),
    der(SEQUENCE, oid("1.2.840.10045.4.3.2")): (_EC, _SHA256),
    der(SEQUENCE, oid("1.2.840.10045.4.3.3")): (_EC, _SHA384),
    der(SEQUENCE, oid("1.2.840.10045.4.3.4")): (_EC, _SHA512),
    der(SEQUENCE, oid("1.3.101.112")): (_EDWARDS, _SHA512),
    **dict.fromkeys(_both("1.2.840.113549.1.1.1"), (_RSA, None)),
    **dict.fromkeys(_both("1.2.840.113549.1.1.5"), (_RSA, _SHA1)),
    **dict.fromkeys(_both("1.2.840.113549.1.1.11"), (_RSA, _SHA256)),
    **dict.fromkeys(_both("1.2.840.113549.1.1.12"), (_RSA, _SHA384)),
    **dict.fromkeys(_both("1.2.840.113549.1.1.13"), (_RSA, _SHA512)),
}
_ECDSA = {one.oid: ec.ECDSA(one.algorithm) for one in HASHES.values()}


@dataclass(frozen=True)
class Scheme:
    """How we sign with a key.

    Attributes:
        hash: of content and signature.
        digest_identifier: the hash's AlgorithmIdentifier, DER.
        identifier: the signature's, DER.
    """

    hash: Hash
    digest_identifier: bytes
    identifier: bytes

    def sign(self, key: "PrivateKey", data: bytes) -> bytes:
        """Sign with a key of the scheme's kind."""
        if isinstance(key, ec.EllipticCurvePrivateKey):
            return key.sign(data, _ECDSA[self.hash.oid])
        if isinstance(key, rsa.RSAPrivateKey):
            return key.sign(data, _PKCS1, self.hash.algorithm)
        return key.sign(data)


def _scheme(one: Hash, number: str, parameters: bytes = b"") -> Scheme:
    return Scheme(one, one.identifier, der(SEQUENCE, oid(number), parameters))


_P256 = _scheme(_SHA256, "1.2.840.10045.4.3.2")
_P384 = _scheme(_SHA384, "1.2.840.10045.4.3.3")
_ED25519 = _scheme(_SHA512, "1.3.101.112")
_RSA2048 = _scheme(_SHA256, "1.2.840.113549.1.1.11", _NULL)


def scheme_of(key: "PrivateKey") -> Scheme:
    """How we sign with this key.

    Raises:
        UnsupportedError: it is on another curve.
    """
    if isinstance(key, ec.EllipticCurvePrivateKey):
        if isinstance(key.curve, ec.SECP256R1):
            return _P256
        if isinstance(key.curve, ec.SECP384R1):
            return _P384
        raise UnsupportedError("a key is on another curve")
    return _RSA2048 if isinstance(key, rsa.RSAPrivateKey) else _ED25519


def digest_of(identifier: bytes, *, sha1: bool) -> Hash:
    """The hash that an AlgorithmIdentifier names.

    Raises:
        UnsupportedError: another one, or SHA-1 and nobody asked for it.
    """
    found = _DIGESTS.get(identifier)
    if found is None or (found is _SHA1 and not sha1):
        raise UnsupportedError("digest algorithm")
    return found


def _pss(parameters: asn1.TLV, digest: Hash) -> padding.PSS:
    """The padding that parameters describe (RFC 4055 section 3.1)."""
    found = read(PssParameters, parameters)
    # Where they are left out, SHA-1 is meant, which PSS was never used with by anybody we know.
    if found.hash is None or found.mask is None or found.mask.oid.dotted_string != _MGF1:
        raise UnsupportedError("signature algorithm")
    if found.hash.oid.dotted_string != digest.oid or found.mask.hash.oid.dotted_string != digest.oid:
        raise UnsupportedError("the signature's hash is not the digest's")
    salt = 20 if found.salt_length is None else found.salt_length
    if found.trailer not in {None, 1} or not 0 <= salt <= 512:  # 512 octets are the longest key
        raise MalformedError("signature parameters")
    return padding.PSS(padding.MGF1(digest.algorithm), salt)


def check(key: PublicKey, algorithm: asn1.TLV, digest: Hash, signature: bytes, data: bytes) -> None:
    """Check a signature.

    Args:
        key: the signer's.
        algorithm: the signature's AlgorithmIdentifier.
        digest: the message's hash, already found to be welcome.
        signature: what is checked.
        data: what is signed.

    Raises:
        SignatureError: it does not hold, or is not of this key's kind.
        UnsupportedError: we do not know the algorithm, or its hash is not the digest's.
        MalformedError: its parameters are broken.
    """
    identifier = raw(algorithm)
    known = _SIGNATURES.get(identifier)
    pss = None
    if known is None:
        found = read(Algorithm, algorithm)
        if found.oid.dotted_string != _PSS:
            raise UnsupportedError("signature algorithm")
        pss = _pss(found.parameters, digest)
        known = _RSA, digest
    kind, hashed = known
    if hashed is not None and hashed is not digest:
        raise UnsupportedError("the signature's hash is not the digest's")
    if not isinstance(key, kind):
        raise SignatureError("signature")
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, data, _ECDSA[digest.oid])
        elif isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, data, pss or _PKCS1, digest.algorithm)
        else:
            key.verify(signature, data)
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        raise SignatureError("signature") from None
