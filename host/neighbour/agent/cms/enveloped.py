"""Encrypted messages: EnvelopedData of RFC 5652 section 6, AuthEnvelopedData of RFC 5083.

    content ──AES under a fresh key──> ciphertext
              that key ──to each recipient──> RecipientInfo

AES-GCM goes into AuthEnvelopedData, whose tag is checked before a byte of content is seen. AES-CBC in EnvelopedData is
for old recipients: it has no tag, and who can change it on the way can change what comes out, so it counts for nothing
unless a signature inside holds.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.padding import PKCS7

from .errors import DecryptError, MalformedError, UnsupportedError
from .recipients import RecipientId, offers, write_recipients
from .structures import (
    AUTH_ENVELOPED_DATA,
    DATA,
    ENVELOPED_DATA,
    INTEGER,
    OCTETS,
    OID_DATA,
    SEQUENCE,
    SET,
    SIGNED_DATA,
    Algorithm,
    AuthEnvelopedData,
    EncryptedContent,
    EnvelopedData,
    GcmParameters,
    Recipient,
    content_info,
    der,
    oid,
    raw,
    read,
    read_content_info,
)

if TYPE_CHECKING:
    from neighbour.agent.credential import Credential

__all__ = [
    "AES_128_CBC",
    "AES_128_GCM",
    "AES_256_CBC",
    "AES_256_GCM",
    "RecipientId",
    "decrypt",
    "encrypt",
    "kind_of",
]

AES_128_GCM = "aes-128-gcm"
AES_256_GCM = "aes-256-gcm"
AES_128_CBC = "aes-128-cbc"
AES_256_CBC = "aes-256-cbc"

_BLOCK = 16
_NONCE = 12
_TAG = 16
#: RFC 5084 section 3.2: 12 is the default and the least.
_TAG_DEFAULT, _TAG_LENGTHS = 12, range(12, 17)


@dataclass(frozen=True)
class _Cipher:
    """A cipher.

    Attributes:
        oid: its object identifier.
        size: of its key, octets.
        tagged: GCM, or else CBC.
    """

    oid: str
    size: int
    tagged: bool


_CIPHERS = {
    AES_128_GCM: _Cipher("2.16.840.1.101.3.4.1.6", 16, tagged=True),
    AES_256_GCM: _Cipher("2.16.840.1.101.3.4.1.46", 32, tagged=True),
    AES_128_CBC: _Cipher("2.16.840.1.101.3.4.1.2", 16, tagged=False),
    "aes-192-cbc": _Cipher("2.16.840.1.101.3.4.1.22", 24, tagged=False),
    AES_256_CBC: _Cipher("2.16.840.1.101.3.4.1.42", 32, tagged=False),
}
_BY_OID = {one.oid: one for one in _CIPHERS.values()}
_OIDS = {name: oid(one.oid) for name, one in _CIPHERS.items()}

_KINDS = {
    SIGNED_DATA: "signed-data",
    ENVELOPED_DATA: "enveloped-data",
    AUTH_ENVELOPED_DATA: "auth-enveloped-data",
}
_ENCRYPTED: dict[x509.ObjectIdentifier, type[EnvelopedData | AuthEnvelopedData]] = {
    ENVELOPED_DATA: EnvelopedData,
    AUTH_ENVELOPED_DATA: AuthEnvelopedData,
}
_OID_ENVELOPED = oid(ENVELOPED_DATA.dotted_string)
_OID_AUTH_ENVELOPED = oid(AUTH_ENVELOPED_DATA.dotted_string)
_ZERO, _TWO = der(INTEGER, b"\x00"), der(INTEGER, b"\x02")
_TAG_LENGTH = der(INTEGER, bytes((_TAG,)))


def kind_of(data: bytes) -> str:
    """The kind of a message, as the ``smime-type`` parameter has it; certs-only messages are ``signed-data``.

    Returns:
        ``signed-data``, ``enveloped-data`` or ``auth-enveloped-data``.

    Raises:
        MalformedError: it is no message.
        UnsupportedError: it is another kind.
    """
    kind = _KINDS.get(read_content_info(data))
    if kind is None:
        raise UnsupportedError("another kind of message")
    return kind


# Sending.


def encrypt(
    content: bytes,
    recipients: Sequence[x509.Certificate],
    *,
    cipher: str = AES_128_GCM,
    oaep: bool = True,
    by_key_id: bool = False,
) -> bytes:
    """Encrypt to recipients.

    Args:
        content: what is encrypted.
        recipients: their certificates; P-256 or RSA, 1 to ``recipients.MAX_RECIPIENTS``.
        cipher: one of this module's constants. GCM makes AuthEnvelopedData, CBC makes EnvelopedData.
        oaep: whether RSA uses OAEP with SHA-256, or PKCS#1 v1.5 for recipients that know nothing newer.
        by_key_id: whether recipients are named by their subject key identifiers.

    Returns:
        The DER of a ContentInfo.

    Raises:
        UnsupportedError: none or too many recipients, one whose key is of another kind, or another cipher.
        MalformedError: a certificate is broken.
    """
    way = _CIPHERS.get(cipher)
    if way is None:
        raise UnsupportedError("content encryption algorithm")
    key = os.urandom(way.size)
    infos, simple = write_recipients(key, recipients, oaep=oaep, by_key_id=by_key_id)
    if way.tagged:
        nonce = os.urandom(_NONCE)
        sealed = AESGCM(key).encrypt(nonce, content, None)
        algorithm = der(SEQUENCE, _OIDS[cipher], der(SEQUENCE, der(OCTETS, nonce), _TAG_LENGTH))
        body = der(
            SEQUENCE,
            _ZERO,
            infos,
            der(SEQUENCE, OID_DATA, algorithm, der(0x80, sealed[:-_TAG])),
            der(OCTETS, sealed[-_TAG:]),
        )
        return der(SEQUENCE, _OID_AUTH_ENVELOPED, der(0xA0, body))
    first = os.urandom(_BLOCK)
    padder = PKCS7(_BLOCK * 8).padder()
    encryptor = Cipher(algorithms.AES(key), modes.CBC(first)).encryptor()
    ciphertext = encryptor.update(padder.update(content) + padder.finalize()) + encryptor.finalize()
    algorithm = der(SEQUENCE, _OIDS[cipher], der(OCTETS, first))
    body = der(SEQUENCE, _ZERO if simple else _TWO, infos, der(SEQUENCE, OID_DATA, algorithm, der(0x80, ciphertext)))
    return der(SEQUENCE, _OID_ENVELOPED, der(0xA0, body))


# Receiving.


def _ciphertext(encrypted: EncryptedContent) -> bytes:
    if encrypted.type != DATA:
        raise UnsupportedError("another kind of content")
    if encrypted.whole is not None and encrypted.pieces is None:
        return encrypted.whole
    if encrypted.pieces is not None and encrypted.whole is None:
        return b"".join(encrypted.pieces)
    raise MalformedError("the encrypted content is missing")


def _cipher(algorithm: Algorithm, *, tagged: bool) -> _Cipher:
    found = _BY_OID.get(algorithm.oid.dotted_string)
    # GCM without its tag checked would be worse than CBC, and CBC has none.
    if found is None or found.tagged is not tagged:
        raise UnsupportedError("content encryption algorithm")
    return found


def _key(recipients: Sequence[Recipient], size: int, find: "Callable[[RecipientId], Credential | None]") -> bytes:
    """The key, by the first recipient of ours whose algorithm we know: one attempt, however often it is named."""
    unknown = False
    for offer in offers(recipients):
        credential = find(offer.rid)
        if credential is None:
            continue
        if offer.unwrap is not None:
            return offer.unwrap(credential, size)
        unknown = True
    if unknown:
        raise UnsupportedError("key encryption algorithm")
    raise DecryptError


def _open_gcm(message: AuthEnvelopedData, find: "Callable[[RecipientId], Credential | None]") -> bytes:
    encrypted = message.encrypted
    ciphertext = _ciphertext(encrypted)
    way = _cipher(encrypted.algorithm, tagged=True)
    parameters = read(GcmParameters, encrypted.algorithm.parameters)
    length = _TAG_DEFAULT if parameters.tag_length is None else parameters.tag_length
    if len(parameters.nonce) != _NONCE or length not in _TAG_LENGTHS or len(message.tag) != length:
        raise MalformedError("encryption parameters")
    # RFC 5083 section 2.2: authAttrs are authenticated with the tag of a SET, in the order of DER.
    extra = der(SET, *sorted(map(raw, message.authenticated))) if message.authenticated else b""
    key = _key(message.recipients.as_list(), way.size, find)
    try:
        if length == _TAG:
            return AESGCM(key).decrypt(parameters.nonce, ciphertext + message.tag, extra)
        decryptor = Cipher(algorithms.AES(key), modes.GCM(parameters.nonce, message.tag, _TAG_DEFAULT)).decryptor()
        decryptor.authenticate_additional_data(extra)
        return decryptor.update(ciphertext) + decryptor.finalize()  # the latter checks the tag
    except (InvalidTag, ValueError):
        raise DecryptError from None


def _open_cbc(message: EnvelopedData, find: "Callable[[RecipientId], Credential | None]") -> bytes:
    encrypted = message.encrypted
    ciphertext = _ciphertext(encrypted)
    way = _cipher(encrypted.algorithm, tagged=False)
    parameter = encrypted.algorithm.parameters
    first = bytes(parameter.data)
    if parameter.tag_bytes != b"\x04" or len(first) != _BLOCK:
        raise MalformedError("encryption parameters")
    key = _key(message.recipients.as_list(), way.size, find)
    decryptor = Cipher(algorithms.AES(key), modes.CBC(first)).decryptor()
    unpadder = PKCS7(_BLOCK * 8).unpadder()
    try:
        padded = decryptor.update(ciphertext) + decryptor.finalize()
        return unpadder.update(padded) + unpadder.finalize()
    except ValueError:
        raise DecryptError from None


def decrypt(data: bytes, find: "Callable[[RecipientId], Credential | None]") -> bytes:
    """Decrypt.

    A wrong key by RSA PKCS#1 v1.5 with CBC gives nonsense in one case of 256, as with every receiver that tells nobody
    about the padding; a caller answers nonsense as it answers DecryptError.

    Args:
        data: the ContentInfo, DER or BER.
        find: looks up the credential of a recipient, None for strangers. It is asked for each until there is one.

    Returns:
        The content.

    Raises:
        DecryptError: whatever went wrong with keys and ciphertext.
        MalformedError: it is no encrypted message, or beyond a limit.
        UnsupportedError: an algorithm that we do not take.
    """
    message = content_info(data, _ENCRYPTED)
    return _open_gcm(message, find) if isinstance(message, AuthEnvelopedData) else _open_cbc(message, find)
