"""How the key of a message reaches a recipient.

    EC P-256   ephemeral key ──ECDH──> secret ──X9.63 KDF──> wrapping key ──AES wrap──> key     RFC 5753, RFC 3565
    RSA        OAEP, or PKCS#1 v1.5 for old recipients                                          RFC 3560, RFC 3370

One ephemeral key serves all EC recipients of a message: each has a secret of its own with it.
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from .certificates import CertificateId, Facts, facts, public_key, read_id
from .errors import DecryptError, MalformedError, UnsupportedError
from .structures import (
    INTEGER,
    OCTETS,
    SEQUENCE,
    SET,
    Algorithm,
    HashAlgorithm,
    KeyAgreement,
    KeyTransport,
    OaepParameters,
    OriginatorKey,
    Recipient,
    RecipientKeyId,
    der,
    oid,
    raw,
    read,
)

if TYPE_CHECKING:
    from neighbour.agent.credential import Credential

__all__ = ["MAX_RECIPIENTS", "Offer", "RecipientId", "offers", "write_recipients"]

#: A conference's worth. Beyond it a message is refused unread.
MAX_RECIPIENTS = 64

RecipientId = CertificateId

_NULL = b"\x05\x00"
_CURVE = ec.SECP256R1()
_ECDH = ec.ECDH()
_PKCS1 = padding.PKCS1v15()
_MGF1 = "1.2.840.113549.1.1.8"
_SPECIFIED = "1.2.840.113549.1.1.9"

_HASHES: dict[str, type[hashes.HashAlgorithm]] = {
    "1.3.14.3.2.26": hashes.SHA1,
    "2.16.840.1.101.3.4.2.1": hashes.SHA256,
}
#: dhSinglePass-stdDH-*kdf-scheme: SHA-1 is OpenSSL's default, and no weakness in a KDF.
_KDFS = {
    "1.3.133.16.840.63.0.2": "sha1",
    "1.3.132.1.11.1": "sha256",
    "1.3.132.1.11.2": "sha384",
    "1.3.132.1.11.3": "sha512",
}
_WRAPS = {16: "2.16.840.1.101.3.4.1.5", 24: "2.16.840.1.101.3.4.1.25", 32: "2.16.840.1.101.3.4.1.45"}
#: The AlgorithmIdentifier of AES wrap to its key's size in octets. RFC 3565 has no parameters; some write NULL.
_WRAP_SIZES = {
    der(SEQUENCE, oid(number), parameters): size for size, number in _WRAPS.items() for parameters in (b"", _NULL)
}
_EC_KEY = oid("1.2.840.10045.2.1")
#: The ephemeral key's AlgorithmIdentifier: without parameters (RFC 5753 section 3.1.1), with NULL, with the curve.
_EC_KEYS = frozenset(der(SEQUENCE, _EC_KEY, parameters) for parameters in (b"", _NULL, oid("1.2.840.10045.3.1.7")))
_RSA_PKCS1 = frozenset(der(SEQUENCE, oid("1.2.840.113549.1.1.1"), parameters) for parameters in (b"", _NULL))
_RSA_OAEP = "1.2.840.113549.1.1.7"

# What we write.
_ZERO, _TWO, _THREE = der(INTEGER, b"\x00"), der(INTEGER, b"\x02"), der(INTEGER, b"\x03")
_OUR_KDF = "1.3.132.1.11.1"
_OUR_EC_KEY = der(SEQUENCE, _EC_KEY)
_OUR_PKCS1 = der(SEQUENCE, oid("1.2.840.113549.1.1.1"), _NULL)
_SHA256 = der(SEQUENCE, oid("2.16.840.1.101.3.4.2.1"), _NULL)
_OUR_OAEP = der(
    SEQUENCE,
    oid(_RSA_OAEP),
    der(SEQUENCE, der(0xA0, _SHA256), der(0xA1, der(SEQUENCE, oid(_MGF1), _SHA256))),
)
_OAEP = padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None)

#: Makes the substitute of a key that RSA could not bring; see ``_by_pkcs1``.
_SUBSTITUTE_SECRET = os.urandom(32)


def _derive(name: str, secret: bytes, size: int, info: bytes) -> bytes:
    """The KDF of ANSI X9.63 (SEC 1 section 3.6.1), ``size`` octets."""
    found = b""
    counter = 0
    while len(found) < size:
        counter += 1
        found += hashlib.new(name, secret + counter.to_bytes(4, "big") + info).digest()
    return found[:size]


def _shared_info(wrap: bytes, size: int, material: bytes | None) -> bytes:
    """The ECC-CMS-SharedInfo of RFC 5753 section 7.2."""
    return der(
        SEQUENCE,
        wrap,
        b"" if material is None else der(0xA0, der(OCTETS, material)),
        der(0xA2, der(OCTETS, (size * 8).to_bytes(4, "big"))),
    )


# Sending.

_OUR_WRAPS = {size: der(SEQUENCE, oid(number)) for size, number in _WRAPS.items()}
_OUR_INFOS = {size: _shared_info(wrap, size, None) for size, wrap in _OUR_WRAPS.items()}
_OUR_AGREEMENTS = {size: der(SEQUENCE, oid(_OUR_KDF), wrap) for size, wrap in _OUR_WRAPS.items()}


def _key_id(found: Facts) -> bytes:
    if found.key_id is None:
        raise UnsupportedError("a certificate has no subject key identifier")
    return found.key_id


def _agreement(key: bytes, certified: list[tuple[Facts, ec.EllipticCurvePublicKey]], *, by_key_id: bool) -> bytes:
    size = len(key)
    ephemeral = ec.generate_private_key(_CURVE)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    keys = []
    for found, public in certified:
        wrapping = _derive("sha256", ephemeral.exchange(_ECDH, public), size, _OUR_INFOS[size])
        rid = der(0xA0, der(OCTETS, _key_id(found))) if by_key_id else found.by_issuer
        keys.append(der(SEQUENCE, rid, der(OCTETS, aes_key_wrap(wrapping, key))))
    return der(
        0xA1,
        _THREE,
        der(0xA0, der(0xA1, _OUR_EC_KEY, der(0x03, b"\x00", point))),
        _OUR_AGREEMENTS[size],
        der(SEQUENCE, *keys),
    )


def _transport(key: bytes, found: Facts, public: rsa.RSAPublicKey, *, oaep: bool, by_key_id: bool) -> bytes:
    return der(
        SEQUENCE,
        _TWO if by_key_id else _ZERO,
        der(0x80, _key_id(found)) if by_key_id else found.by_issuer,
        _OUR_OAEP if oaep else _OUR_PKCS1,
        der(OCTETS, public.encrypt(key, _OAEP if oaep else _PKCS1)),
    )


def write_recipients(
    key: bytes, recipients: Sequence[x509.Certificate], *, oaep: bool, by_key_id: bool
) -> tuple[bytes, bool]:
    """Encrypt a message's key to recipients.

    Args:
        key: the key, 16, 24 or 32 octets.
        recipients: their certificates; P-256 or RSA.
        oaep: whether RSA uses OAEP with SHA-256, or PKCS#1 v1.5.
        by_key_id: whether they are named by their subject key identifiers.

    Returns:
        The RecipientInfos, DER, and whether they are of version 0 all of them.

    Raises:
        UnsupportedError: none, more than ``MAX_RECIPIENTS``, a key of another kind, or no subject key identifier.
        MalformedError: a certificate is broken.
    """
    if not 0 < len(recipients) <= MAX_RECIPIENTS:
        raise UnsupportedError("no recipients, or too many")
    agreed: list[tuple[Facts, ec.EllipticCurvePublicKey]] = []
    infos = []
    for one in recipients:
        public = public_key(one)
        if isinstance(public, rsa.RSAPublicKey):
            infos.append(_transport(key, facts(one), public, oaep=oaep, by_key_id=by_key_id))
        elif isinstance(public, ec.EllipticCurvePublicKey) and isinstance(public.curve, ec.SECP256R1):
            agreed.append((facts(one), public))
        else:
            raise UnsupportedError("nobody can encrypt to a recipient's key")
    if agreed:
        infos.append(_agreement(key, agreed, by_key_id=by_key_id))
    return der(SET, *sorted(infos)), not agreed and not by_key_id


# Receiving.


@dataclass(slots=True)
class Offer:
    """A key for one recipient, still encrypted.

    Attributes:
        rid: the recipient.
        unwrap: from the recipient's credential and the key's size in octets to the key; DecryptError where it fails.
            None where its algorithm is not known to us.
    """

    rid: RecipientId
    unwrap: "Callable[[Credential, int], bytes] | None"


def _by_pkcs1(credential: "Credential", size: int, encrypted: bytes) -> bytes:
    """The key by RSA PKCS#1 v1.5: whatever is wrong with it, there is a key.

    RFC 3218 section 2.3.2: with a wrong padding one goes on with another key, so that it looks like any wrong key. Ours
    depends on the ciphertext, or sending it twice would tell. OpenSSL does the same for the padding; here it is for the
    length as well, and for older ones.
    """
    key = credential.key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise DecryptError
    substitute = hmac.digest(_SUBSTITUTE_SECRET, encrypted, "sha256")[:size]
    try:
        found = key.decrypt(encrypted, _PKCS1)
    except ValueError:
        return substitute
    return found if len(found) == size else substitute


def _oaep_hash(found: HashAlgorithm | None) -> hashes.HashAlgorithm | None:
    kind = hashes.SHA1 if found is None else _HASHES.get(found.oid.dotted_string)
    return kind() if kind else None


def _oaep(parameters: asn1.TLV) -> padding.OAEP | None:
    """The padding that parameters describe (RFC 4055 section 4.1), or None for one that we do not know.

    Hash and mask may differ: some write SHA-256 and leave the mask at its default.
    """
    found = read(OaepParameters, parameters)
    hashed = _oaep_hash(found.hash)
    masked = _oaep_hash(found.mask.hash if found.mask else None)
    if hashed is None or masked is None or (found.mask and found.mask.oid.dotted_string != _MGF1):
        return None
    source = found.source
    # A label is known to nobody unless agreed; it is empty everywhere.
    if source and (source.oid.dotted_string != _SPECIFIED or raw(source.parameters) != b"\x04\x00"):
        return None
    return padding.OAEP(padding.MGF1(masked), hashed, None)


def _by_oaep(credential: "Credential", size: int, encrypted: bytes, way: padding.OAEP) -> bytes:
    key = credential.key
    if not isinstance(key, rsa.RSAPrivateKey):
        raise DecryptError
    try:
        found = key.decrypt(encrypted, way)
    except (ValueError, UnsupportedAlgorithm):
        raise DecryptError from None
    if len(found) != size:
        raise DecryptError
    return found


def _transported(info: KeyTransport) -> Offer:
    rid = read_id(info.rid)
    encrypted = info.key
    identifier = raw(info.algorithm)
    if identifier in _RSA_PKCS1:
        return Offer(rid, lambda credential, size: _by_pkcs1(credential, size, encrypted))
    # OAEP's parameters are a SEQUENCE that may be empty, so they are always there (RFC 4055 section 4.1).
    found = read(Algorithm, info.algorithm)
    way = _oaep(found.parameters) if found.oid.dotted_string == _RSA_OAEP else None
    if way is None:
        return Offer(rid, None)
    known = way
    return Offer(rid, lambda credential, size: _by_oaep(credential, size, encrypted, known))


@dataclass(slots=True)
class _Agreement:
    point: bytes
    kdf: str
    wrap: bytes
    wrap_size: int
    material: bytes | None

    def unwrap(self, credential: "Credential", size: int, wrapped: bytes) -> bytes:
        key = credential.key
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise DecryptError
        info = _shared_info(self.wrap, self.wrap_size, self.material)
        try:
            public = ec.EllipticCurvePublicKey.from_encoded_point(_CURVE, self.point)  # refuses what is off the curve
            wrapping = _derive(self.kdf, key.exchange(_ECDH, public), self.wrap_size, info)
            found = aes_key_unwrap(wrapping, wrapped)
        except (ValueError, InvalidUnwrap):
            raise DecryptError from None
        if len(found) != size:
            raise DecryptError
        return found


def _agreement_of(info: KeyAgreement) -> _Agreement | None:
    """How the keys are wrapped, or None for a way that we do not know."""
    kdf = _KDFS.get(info.algorithm.oid.dotted_string)
    wrap = raw(info.algorithm.parameters)
    size = _WRAP_SIZES.get(wrap)
    key = info.originator
    # A sender named by its certificate would be static-static ECDH, which S/MIME does not use.
    if kdf is None or size is None or not isinstance(key, OriginatorKey) or raw(key.algorithm) not in _EC_KEYS:
        return None
    if key.point.padding_bits():
        raise MalformedError("recipients")
    return _Agreement(key.point.as_bytes(), kdf, wrap, size, info.material)


def _agreed(info: KeyAgreement) -> Iterator[Offer]:
    way = _agreement_of(info)
    for one in info.keys:
        rid = RecipientId(key_id=one.rid.key_id) if isinstance(one.rid, RecipientKeyId) else read_id(one.rid)
        yield Offer(rid, None if way is None else _unwrapping(way, one.key))


def _unwrapping(way: _Agreement, wrapped: bytes) -> "Callable[[Credential, int], bytes]":
    return lambda credential, size: way.unwrap(credential, size, wrapped)


def offers(recipients: Sequence[Recipient]) -> Iterator[Offer]:
    """The keys that a message offers, in its order. Those by password or earlier key are passed over.

    Raises:
        MalformedError: something is broken, or there are more than ``MAX_RECIPIENTS``.
    """
    if sum(len(one.keys) if isinstance(one, KeyAgreement) else 1 for one in recipients) > MAX_RECIPIENTS:
        raise MalformedError("there are too many recipients")
    for one in recipients:
        if isinstance(one, KeyAgreement):
            yield from _agreed(one)
        elif isinstance(one, KeyTransport):
            yield _transported(one)
