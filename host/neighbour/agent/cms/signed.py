"""Signed messages: SignedData of RFC 5652 section 5, as RFC 8551 uses it.

    content ──digest──> messageDigest ┐
                        contentType   ├ signed attributes ──signature──> SignerInfo
                        signingTime   ┘

The content is inside (opaque) or travels beside it (detached). Without signed attributes the signature is over the
content itself. Whose certificate it is and whether it may sign is for the path's validation; here a signature holds
against the key of the certificate that the message names, or it does not.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat import asn1

from .certificates import MAX_CERTIFICATES, CertificateId, Facts, facts, load_certificate, public_key, read_id
from .errors import MalformedError, SignatureError, UnsupportedError
from .signatures import check, digest_of, scheme_of
from .structures import (
    DATA,
    INTEGER,
    OCTETS,
    OID_DATA,
    SEQUENCE,
    SET,
    SIGNED_DATA,
    AttributeList,
    SignedData,
    SignerInfo,
    TimeAttribute,
    content_info,
    der,
    oid,
    raw,
    read,
)

if TYPE_CHECKING:
    from neighbour.agent.credential import Credential, PrivateKey

__all__ = [
    "MAX_SIGNERS",
    "SignerId",
    "Verified",
    "certificates_only",
    "micalg",
    "nobody",
    "read_certificates",
    "sign",
    "verify",
]

#: A user and perhaps a domain sign; each more is a public key operation for an attacker's sake.
MAX_SIGNERS = 4
#: Many messages are signed in the same second.
_KNOWN_TIMES = 16
#: Clients sign three to six attributes.
_MAX_ATTRIBUTES = 32

SignerId = CertificateId

_OID_SIGNED = oid(SIGNED_DATA.dotted_string)
_CONTENT_TYPE = oid("1.2.840.113549.1.9.3")
_MESSAGE_DIGEST = oid("1.2.840.113549.1.9.4")
_SIGNING_TIME = oid("1.2.840.113549.1.9.5")
_DIGEST_ATTRIBUTE = x509.ObjectIdentifier("1.2.840.113549.1.9.4")
_ONCE = frozenset({_CONTENT_TYPE, _MESSAGE_DIGEST, _SIGNING_TIME})
# What is the same in each message.
_TYPE_ATTRIBUTE = der(SEQUENCE, _CONTENT_TYPE, der(SET, OID_DATA))
_ONE, _THREE = der(INTEGER, b"\x01"), der(INTEGER, b"\x03")
_DETACHED = der(SEQUENCE, OID_DATA)
_NO_SIGNER = der(SET)


@dataclass(frozen=True)
class Verified:
    """A signature that holds.

    Attributes:
        content: what is signed.
        certificate: the signer's.
        certificates: all that the message brought.
        signed_at: when, as the signer says; None where it does not say.
    """

    content: bytes
    certificate: x509.Certificate
    certificates: tuple[x509.Certificate, ...]
    signed_at: datetime | None


def nobody(signer: SignerId) -> None:
    """Know no certificate but those in the message."""


def micalg(key: "PrivateKey") -> str:
    """The ``micalg`` parameter of a multipart/signed made with this key (RFC 8551 section 3.5.3.2).

    Raises:
        UnsupportedError: we do not sign with such a key.
    """
    return scheme_of(key).hash.name


def _digest_attribute(digest: bytes) -> bytes:
    return der(SEQUENCE, _MESSAGE_DIGEST, der(SET, der(OCTETS, digest)))


# Sending.


@lru_cache(_KNOWN_TIMES)
def _time_attribute(at: datetime) -> bytes:
    """The signing time: UTCTime until 2049, then GeneralizedTime (RFC 5652 section 11.3)."""
    at = at.astimezone(UTC)
    if 1950 <= at.year < 2050:
        time = der(0x17, at.strftime("%y%m%d%H%M%SZ").encode())
    else:
        time = der(0x18, at.strftime("%Y%m%d%H%M%SZ").encode())
    return der(SEQUENCE, _SIGNING_TIME, der(SET, time))


def _bag(encoded: Iterable[bytes]) -> bytes:
    """Certificates, in the order that DER gives a SET."""
    return der(0xA0, *sorted(set(encoded)))


def sign(
    content: bytes,
    credential: "Credential",
    *,
    detached: bool,
    at: datetime,
    chain: bool = True,
    attributes: bool = True,
    by_key_id: bool = False,
) -> bytes:
    """Sign.

    Args:
        content: what is signed, byte by byte.
        credential: whose signature it is. P-256 and RSA sign with SHA-256, P-384 with SHA-384, Ed25519 with SHA-512.
        detached: whether the content stays outside.
        at: the signing time; with a time zone.
        chain: whether the certificates between the signer's and the root go along.
        attributes: whether there are signed attributes; without them no time is told.
        by_key_id: whether the signer is named by its subject key identifier instead of issuer and serial number.

    Returns:
        The DER of a ContentInfo.

    Raises:
        UnsupportedError: a key on another curve, or no subject key identifier to name.
        MalformedError: a certificate is broken.
    """
    scheme = scheme_of(credential.key)
    signer = facts(credential.certificate)
    if by_key_id and signer.key_id is None:
        raise UnsupportedError("the certificate has no subject key identifier")
    signed = b""
    data = content
    if attributes:
        values = sorted(
            (
                _TYPE_ATTRIBUTE,
                _time_attribute(at),
                _digest_attribute(scheme.hash.digest(content)),
            )
        )
        # RFC 5652 section 5.4: "a separate encoding of the signedAttrs field is performed for message digest
        # calculation": with the tag of a SET, not [0].
        data = der(SET, *values)
        signed = b"\xa0" + data[1:]
    version = _THREE if by_key_id else _ONE
    info = der(
        SEQUENCE,
        version,
        der(0x80, signer.key_id) if by_key_id and signer.key_id else signer.by_issuer,
        scheme.digest_identifier,
        signed,
        scheme.identifier,
        der(OCTETS, scheme.sign(credential.key, data)),
    )
    body = der(
        SEQUENCE,
        version,
        der(SET, scheme.digest_identifier),
        _DETACHED if detached else der(SEQUENCE, OID_DATA, der(0xA0, der(OCTETS, content))),
        _bag((signer.encoded, *(facts(one).encoded for one in credential.chain if chain))),
        der(SET, info),
    )
    return der(SEQUENCE, _OID_SIGNED, der(0xA0, body))


def certificates_only(certificates: Sequence[x509.Certificate]) -> bytes:
    """A message of nothing but certificates (``smime-type=certs-only``, RFC 8551 section 3.8)."""
    body = der(SEQUENCE, _ONE, _NO_SIGNER, _DETACHED, _bag(facts(one).encoded for one in certificates), _NO_SIGNER)
    return der(SEQUENCE, _OID_SIGNED, der(0xA0, body))


# Receiving.


def _read(data: bytes) -> tuple[SignedData, list[tuple[x509.Certificate, Facts]]]:
    message = content_info(data, {SIGNED_DATA: SignedData})
    # A signature may be meant for something else than mail and calls, such as a time stamp.
    if message.encapsulated.type != DATA:
        raise UnsupportedError("another kind of content")
    # Attribute certificates and other kinds have another tag and are ignored.
    found = [one for one in message.certificates or () if one.tag_bytes == b"\x30"]
    if len(found) > MAX_CERTIFICATES:
        raise MalformedError("there are too many certificates")
    return message, [load_certificate(raw(one)) for one in found]


def read_certificates(data: bytes) -> tuple[x509.Certificate, ...]:
    """The certificates of a message, its signatures unseen.

    Raises:
        MalformedError: it is no signed message, or has more than ``MAX_CERTIFICATES``.
        UnsupportedError: it is another kind of message.
    """
    return tuple(certificate for certificate, _ in _read(data)[1])


def _pass_for_attributes(content: bytes) -> bool:
    """Whether content would pass for signed attributes.

    A signature over attributes is as well one over content that has the attributes' bytes. Who strips them from a
    message would have a signed one that its signer never made, so such content is refused where there are none.
    """
    if content[:1] != b"\x31":
        return False
    try:
        found = asn1.decode_der(AttributeList, der(SEQUENCE, b"\x30" + content[1:]))
    except ValueError:
        return False
    return any(one.type == _DIGEST_ATTRIBUTE for one in found.attributes)


def _check_attributes(
    attributes: Sequence[asn1.TLV], digest: Callable[[bytes], bytes], content: bytes
) -> tuple[bytes, datetime | None]:
    """Check the signed attributes; return their DER, which is signed, and the signing time."""
    if not 0 < len(attributes) <= _MAX_ATTRIBUTES:
        raise MalformedError("signed attributes")
    found: dict[bytes, bytes] = {}
    signed_at = None
    encoded = []
    for one in attributes:
        value = raw(one)
        start = 2 if value[1] < 0x80 else value[1] - 0x7E
        if value[0] != SEQUENCE or len(value) < start + 2 or value[start] != 0x06:
            raise MalformedError("signed attributes")
        encoded.append(value)
        kind = value[start : start + 2 + value[start + 1]]
        # RFC 5652 section 11: signedAttrs "MUST NOT include multiple instances" of these.
        if kind in found and kind in _ONCE:
            raise MalformedError("signed attributes")
        found[kind] = value
        if kind == _SIGNING_TIME:
            times = read(TimeAttribute, one).values.as_list()
            if len(times) != 1:
                raise MalformedError("signing time")
            signed_at = times[0].as_datetime()
    # RFC 5652 section 5.3: "MUST contain, at a minimum" both; each has one value.
    if found.get(_CONTENT_TYPE) != _TYPE_ATTRIBUTE:
        raise SignatureError("content type")
    if found.get(_MESSAGE_DIGEST) != _digest_attribute(digest(content)):
        raise SignatureError("message digest")
    encoded.sort()
    return der(SET, *encoded), signed_at


def _verify(
    info: SignerInfo,
    content: bytes,
    certificates: list[tuple[x509.Certificate, Facts]],
    find: Callable[[SignerId], x509.Certificate | None],
    *,
    sha1: bool,
) -> Verified:
    digest = digest_of(raw(info.digest), sha1=sha1)
    signer = read_id(info.sid)
    certificate = next((one for one, found in certificates if signer.names(found)), None) or find(signer)
    if certificate is None:
        raise SignatureError("signer's certificate is missing")
    signed_at = None
    if info.signed is None:
        if _pass_for_attributes(content):
            raise SignatureError("signed attributes")
        data = content
    else:
        data, signed_at = _check_attributes(info.signed, digest.digest, content)
    check(public_key(certificate), info.algorithm, digest, info.signature, data)
    return Verified(content, certificate, tuple(one for one, _ in certificates), signed_at)


def verify(
    data: bytes,
    content: bytes | None,
    find: Callable[[SignerId], x509.Certificate | None] = nobody,
    *,
    sha1: bool = False,
) -> tuple[Verified, ...]:
    """Verify each signature of a message. Paths and key usage are not looked at.

    Args:
        data: the ContentInfo, DER or BER.
        content: what travelled beside it, or None where it is inside.
        find: looks up a certificate that the message names and does not bring.
        sha1: whether SHA-1 is welcome, as RFC 6216's messages need.

    Returns:
        One for each signer, in their order; at least one.

    Raises:
        SignatureError: nobody signed, or one of the signatures does not hold; the text names the check.
        MalformedError: it is no signed message, its content is missing or there twice, or it is beyond a limit.
        UnsupportedError: an algorithm or a key that we do not take.
    """
    message, certificates = _read(data)
    inside = message.encapsulated.content
    if (content is None) == (inside is None):
        raise MalformedError(
            "the signed content is missing" if content is None else "the signed content is there twice"
        )
    if content is None:
        content = inside
    assert content is not None
    signers = message.signers.as_list()
    if not signers:
        raise SignatureError("nobody signed it")
    if len(signers) > MAX_SIGNERS:
        raise MalformedError("there are too many signers")
    return tuple(_verify(one, content, certificates, find, sha1=sha1) for one in signers)
