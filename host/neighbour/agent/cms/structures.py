"""The ASN.1 of CMS: read with classes, written with ``der`` (RFC 5652 section 12, RFC 5083, RFC 5753, RFC 4055).

    ContentInfo { type, [0] SignedData | EnvelopedData | AuthEnvelopedData }

What is read as raw elements is what is compared byte by byte, looked up in a table, or ignored. A SET with an implicit
tag is read as a list: its order is then nobody's business, as RFC 5652 wants for what is received.
"""

from typing import Annotated, TypeVar

from cryptography import x509
from cryptography.hazmat import asn1

from .ber import MAX_SIZE_BYTES, to_der
from .errors import MalformedError, UnsupportedError

__all__ = [
    "AUTH_ENVELOPED_DATA",
    "DATA",
    "ENVELOPED_DATA",
    "INTEGER",
    "OCTETS",
    "OID_DATA",
    "SEQUENCE",
    "SET",
    "SIGNED_DATA",
    "Algorithm",
    "Attribute",
    "AttributeList",
    "AuthEnvelopedData",
    "EncryptedContent",
    "EnvelopedData",
    "GcmParameters",
    "HashAlgorithm",
    "IssuerAndSerial",
    "KeyAgreement",
    "KeyTransport",
    "MaskGeneration",
    "OaepParameters",
    "OriginatorKey",
    "PssParameters",
    "Recipient",
    "RecipientKeyId",
    "SignedData",
    "SignerInfo",
    "TbsCertificate",
    "TimeAttribute",
    "content_info",
    "der",
    "oid",
    "raw",
    "read",
    "read_content_info",
]

_T = TypeVar("_T")

INTEGER, OCTETS, SEQUENCE, SET = 0x02, 0x04, 0x30, 0x31

DATA = x509.ObjectIdentifier("1.2.840.113549.1.7.1")
SIGNED_DATA = x509.ObjectIdentifier("1.2.840.113549.1.7.2")
ENVELOPED_DATA = x509.ObjectIdentifier("1.2.840.113549.1.7.3")
AUTH_ENVELOPED_DATA = x509.ObjectIdentifier("1.2.840.113549.1.9.16.1.23")


# Writing.

_OCTETS = [bytes((octet,)) for octet in range(256)]


def der(tag: int, *parts: bytes) -> bytes:
    """One element of DER with these contents."""
    value = b"".join(parts)
    size = len(value)
    if size < 0x80:
        return _OCTETS[tag] + _OCTETS[size] + value
    octets = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return _OCTETS[tag] + _OCTETS[0x80 | len(octets)] + octets + value


def oid(dotted: str) -> bytes:
    """An object identifier's element."""
    first, second, *rest = (int(number) for number in dotted.split("."))
    octets = bytearray()
    for number in (first * 40 + second, *rest):
        groups = [number & 0x7F]
        while number := number >> 7:
            groups.append(0x80 | number & 0x7F)
        octets += bytes(reversed(groups))
    return der(0x06, bytes(octets))


OID_DATA = oid(DATA.dotted_string)


def raw(element: asn1.TLV) -> bytes:
    """An element as it came."""
    return asn1.encode_der(element)


# Reading.


@asn1.sequence
class ContentInfo:
    """The outermost layer."""

    type: x509.ObjectIdentifier
    content: Annotated[asn1.TLV, asn1.Explicit(0)]


@asn1.sequence
class Algorithm:
    """An AlgorithmIdentifier that has parameters. Those without are looked up as a whole."""

    oid: x509.ObjectIdentifier
    parameters: asn1.TLV


@asn1.sequence
class IssuerAndSerial:
    """A certificate named by its issuer and serial number (RFC 5652 section 10.2.4)."""

    issuer: asn1.TLV
    serial: int


@asn1.sequence
class Attribute:
    """An attribute (RFC 5652 section 5.3)."""

    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class AttributeList:
    """Attributes inside a SEQUENCE, to see whether something would pass for them."""

    attributes: list[Attribute]


@asn1.sequence
class TimeAttribute:
    """The signing time (RFC 5652 section 11.3)."""

    type: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.UTCTime | asn1.GeneralizedTime]


@asn1.sequence
class SignerInfo:
    """One signer (RFC 5652 section 5.3)."""

    version: int
    sid: IssuerAndSerial | Annotated[bytes, asn1.Implicit(0)]
    digest: asn1.TLV
    signed: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    algorithm: asn1.TLV
    signature: bytes
    unsigned: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class EncapsulatedContent:
    """What is signed, or only its type (RFC 5652 section 5.2)."""

    type: x509.ObjectIdentifier
    content: Annotated[bytes | None, asn1.Explicit(0)]


@asn1.sequence
class SignedData:
    """A signed message (RFC 5652 section 5.1). Its revocation lists are not read: ours come from elsewhere."""

    version: int
    digests: asn1.SetOf[asn1.TLV]
    encapsulated: EncapsulatedContent
    certificates: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    crls: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    signers: asn1.SetOf[SignerInfo]


@asn1.sequence
class EncryptedContent:
    """The ciphertext (RFC 5652 section 6.1), in one piece or, from those who stream, in several."""

    type: x509.ObjectIdentifier
    algorithm: Algorithm
    whole: Annotated[bytes | None, asn1.Implicit(0)]
    pieces: Annotated[list[bytes] | None, asn1.Implicit(0)]


@asn1.sequence
class KeyTransport:
    """A recipient by RSA (RFC 5652 section 6.2.1)."""

    version: int
    rid: IssuerAndSerial | Annotated[bytes, asn1.Implicit(0)]
    algorithm: asn1.TLV
    key: bytes


@asn1.sequence
class OriginatorKey:
    """The sender's ephemeral key (RFC 5753 section 3.1.1)."""

    algorithm: asn1.TLV
    point: asn1.BitString


@asn1.sequence
class RecipientKeyId:
    """A recipient of an agreed key by its subject key identifier (RFC 5652 section 6.2.2)."""

    key_id: bytes
    date: asn1.GeneralizedTime | None
    other: list[asn1.TLV] | None


@asn1.sequence
class RecipientKey:
    """The wrapped key of one recipient."""

    rid: IssuerAndSerial | Annotated[RecipientKeyId, asn1.Implicit(0)]
    key: bytes


@asn1.sequence
class KeyAgreement:
    """Recipients by ECDH (RFC 5753 section 3.1.1). Ephemeral-static only, so the sender is named by a key."""

    version: int
    originator: Annotated[
        IssuerAndSerial | Annotated[bytes, asn1.Implicit(0)] | Annotated[OriginatorKey, asn1.Implicit(1)],
        asn1.Explicit(0),
    ]
    material: Annotated[bytes | None, asn1.Explicit(1)]
    algorithm: Algorithm
    keys: list[RecipientKey]


@asn1.sequence
class EarlierKey:
    """A recipient by a key that both have (RFC 5652 section 6.2.3). Not for us."""

    version: int
    name: asn1.TLV
    algorithm: asn1.TLV
    key: bytes


@asn1.sequence
class Password:
    """A recipient by a password (RFC 5652 section 6.2.4). Not for us."""

    version: int
    derivation: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    algorithm: asn1.TLV
    key: bytes


@asn1.sequence
class OtherRecipient:
    """A recipient of a kind that came later (RFC 5652 section 6.2.5)."""

    type: x509.ObjectIdentifier
    value: asn1.TLV


#: A RecipientInfo (RFC 5652 section 6.2).
Recipient = (
    KeyTransport
    | Annotated[KeyAgreement, asn1.Implicit(1)]
    | Annotated[EarlierKey, asn1.Implicit(2)]
    | Annotated[Password, asn1.Implicit(3)]
    | Annotated[OtherRecipient, asn1.Implicit(4)]
)


@asn1.sequence
class EnvelopedData:
    """An encrypted message without a tag (RFC 5652 section 6.1)."""

    version: int
    originator: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    recipients: asn1.SetOf[Recipient]
    encrypted: EncryptedContent
    unprotected: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]


@asn1.sequence
class AuthEnvelopedData:
    """An encrypted message with a tag (RFC 5083 section 2.1)."""

    version: int
    originator: Annotated[list[asn1.TLV] | None, asn1.Implicit(0)]
    recipients: asn1.SetOf[Recipient]
    encrypted: EncryptedContent
    authenticated: Annotated[list[asn1.TLV] | None, asn1.Implicit(1)]
    tag: bytes
    unauthenticated: Annotated[list[asn1.TLV] | None, asn1.Implicit(2)]


@asn1.sequence
class GcmParameters:
    """Nonce and length of the tag (RFC 5084 section 3.2); 12 octets unless told."""

    nonce: bytes
    tag_length: int | None


@asn1.sequence
class HashAlgorithm:
    """A hash inside of other parameters."""

    oid: x509.ObjectIdentifier
    null: asn1.Null | None


@asn1.sequence
class MaskGeneration:
    """MGF1 with its hash (RFC 4055 section 2.2)."""

    oid: x509.ObjectIdentifier
    hash: HashAlgorithm


@asn1.sequence
class PssParameters:
    """RSASSA-PSS (RFC 4055 section 3.1)."""

    hash: Annotated[HashAlgorithm | None, asn1.Explicit(0)]
    mask: Annotated[MaskGeneration | None, asn1.Explicit(1)]
    salt_length: Annotated[int | None, asn1.Explicit(2)]
    trailer: Annotated[int | None, asn1.Explicit(3)]


@asn1.sequence
class OaepParameters:
    """RSAES-OAEP (RFC 4055 section 4.1)."""

    hash: Annotated[HashAlgorithm | None, asn1.Explicit(0)]
    mask: Annotated[MaskGeneration | None, asn1.Explicit(1)]
    source: Annotated[Algorithm | None, asn1.Explicit(2)]


@asn1.sequence
class Extension:
    """An extension of a certificate (RFC 5280 section 4.1)."""

    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(value=False)]
    value: bytes


@asn1.sequence
class TbsCertificate:
    """A certificate's fields (RFC 5280 section 4.1), for its issuer and serial number as they were written."""

    version: Annotated[int | None, asn1.Explicit(0)]
    serial: int
    signature: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    key: asn1.TLV
    issuer_id: Annotated[asn1.BitString | None, asn1.Implicit(1)]
    subject_id: Annotated[asn1.BitString | None, asn1.Implicit(2)]
    extensions: Annotated[list[Extension] | None, asn1.Explicit(3)]


def read(kind: type[_T], element: asn1.TLV) -> _T:
    """Read an element as a class of this module.

    Raises:
        MalformedError: it is not that.
    """
    try:
        return element.parse(kind)  # type: ignore[no-any-return]
    except ValueError:
        raise MalformedError("its structure is broken") from None


def _parse(data: bytes, kinds: dict[x509.ObjectIdentifier, type[_T]]) -> tuple[x509.ObjectIdentifier, _T]:
    outer = asn1.decode_der(ContentInfo, data)
    kind = kinds.get(outer.type)
    if kind is None:
        raise UnsupportedError("another kind of message")
    return outer.type, outer.content.parse(kind)


def content_info(data: bytes, kinds: dict[x509.ObjectIdentifier, type[_T]]) -> _T:
    """Read a message, DER or else BER.

    Args:
        data: the ContentInfo.
        kinds: which contents are welcome, and their classes.

    Raises:
        MalformedError: it is none, or above ``ber.MAX_SIZE_BYTES``.
        UnsupportedError: its content is of another type.
    """
    if len(data) > MAX_SIZE_BYTES:
        raise MalformedError("it is too long")
    try:
        return _parse(data, kinds)[1]
    except ValueError:
        data = to_der(data)
    try:
        return _parse(data, kinds)[1]
    except ValueError:
        raise MalformedError("its structure is broken") from None


def read_content_info(data: bytes) -> x509.ObjectIdentifier:
    """The type of a message's content, which itself is not looked at.

    Raises:
        MalformedError: it is no message.
    """
    if len(data) > MAX_SIZE_BYTES:
        raise MalformedError("it is too long")
    try:
        return asn1.decode_der(ContentInfo, data).type
    except ValueError:
        data = to_der(data)
    try:
        return asn1.decode_der(ContentInfo, data).type
    except ValueError:
        raise MalformedError("its structure is broken") from None
