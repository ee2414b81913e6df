"""S/MIME in SIP (RFC 3261 section 23, RFC 8551, RFC 8591): bodies sealed, and opened again.

    seal   body + AIB -> multipart/mixed -> multipart/signed -> application/pkcs7-mime (auth-enveloped-data)
    open   the same backwards, in any order and with either form of signature; then the signed headers

Nothing here knows of calls, users or levels: keys and certificates are given, and what was found is returned. Whose
certificate signed, and whether it may, is for the caller to say; until then nothing of what was opened may be used.
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from .aib import is_identity, read
from .cms import enveloped, signed
from .cms.errors import CmsError, DecryptError
from .mime import Entity, MimeError, multipart

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from cryptography import x509

    from sipwire.message import Message

    from .cms.enveloped import RecipientId
    from .cms.signed import SignerId, Verified
    from .credential import Credential

__all__ = [
    "ENVELOPED",
    "PKCS7",
    "SIGNED",
    "Keys",
    "Opened",
    "Seal",
    "certificates_entity",
    "certificates_of",
    "is_encrypted",
    "kind_of",
    "open_sealed",
]

SIGNED = "signed"
ENVELOPED = "enveloped"
_MAX_LAYERS = 4  # of signing and encrypting around one body; two are usual
#: The types of what is not multipart/signed.
PKCS7 = (b"application/pkcs7-mime", b"application/x-pkcs7-mime")
_SIGNATURE = (b"application/pkcs7-signature", b"application/x-pkcs7-signature")
_HANDLING = b"attachment;handling=required;filename="
_SIGNATURE_HEAD = Entity.make(
    [
        ("Content-Type", b"application/pkcs7-signature;name=smime.p7s"),
        ("Content-Disposition", _HANDLING + b"smime.p7s"),
        ("Content-Transfer-Encoding", b"binary"),
    ],
    b"",
).raw


def is_encrypted(entity: Entity | None) -> bool:
    """Whether a body is encrypted by its type, or what is signed within it is.

    Raises:
        MimeError: malformed.
    """
    if entity is None:
        return False
    if entity.kind == b"multipart/signed":
        parts = entity.parts()
        return bool(parts) and kind_of(parts[0]) == ENVELOPED
    return kind_of(entity) == ENVELOPED


def kind_of(entity: Entity) -> str:
    """`SIGNED` or `ENVELOPED` where a body is S/MIME, by its type alone; "" where it is not.

    Raises:
        MimeError: its type can't be read.
    """
    if entity.kind == b"multipart/signed":
        return SIGNED
    if entity.kind not in PKCS7:
        return ""
    smime_type = (entity.param("smime-type") or b"").lower()
    if smime_type == b"certs-only":
        return ""  # it is neither
    return SIGNED if smime_type == b"signed-data" else ENVELOPED


@dataclass(frozen=True, slots=True)
class Seal:
    """What to do with a body on its way out.

    Attributes:
        signer: whose signature, None for none.
        recipients: certificates of whom it is encrypted for, none where it is not.
        cipher: see `cms.enveloped.encrypt`.
        at: when it is signed.
    """

    signer: "Credential | None"
    recipients: "Sequence[x509.Certificate]"
    cipher: str
    at: "datetime"

    def close(self, entity: Entity | None, identity: bytes) -> Entity:
        """Seal a body.

        Args:
            entity: the body, None where there is none.
            identity: its AIB, see `aib.identity_body`; goes along where it is signed.

        Returns:
            The new body.

        Raises:
            CmsError: a certificate or key is of no use for that.
        """
        made = entity
        if self.signer is not None:
            raw = identity
            if entity is not None:
                kind, body = multipart(b"multipart/mixed", (entity.raw, identity))
                raw = b"Content-Type: %b\r\n\r\n%b" % (kind, body)
            signature = _SIGNATURE_HEAD + signed.sign(raw, self.signer, detached=True, at=self.at)
            params = b';protocol="application/pkcs7-signature";micalg=' + signed.micalg(self.signer.key).encode()
            kind, body = multipart(b"multipart/signed", (raw, signature), params)
            made = Entity.make([("Content-Type", kind)], body)
        if self.recipients:
            assert made is not None, "nothing to encrypt"
            kind = b"auth-enveloped-data" if self.cipher == enveloped.AES_128_GCM else b"enveloped-data"
            made = Entity.make(
                [
                    ("Content-Type", b"application/pkcs7-mime;smime-type=" + kind + b";name=smime.p7m"),
                    ("Content-Disposition", _HANDLING + b"smime.p7m"),
                    ("Content-Transfer-Encoding", b"binary"),
                ],
                enveloped.encrypt(made.raw, self.recipients, cipher=self.cipher),
            )
        assert made is not None, "nothing to do"
        return made


@dataclass(frozen=True, slots=True)
class Keys:
    """What is needed to open.

    Attributes:
        find_credential: ours, by what an envelope says of its recipient.
        find_certificate: of a signer, where it is not in the message.
        sha1: whether SHA-1 is taken, as RFC 6216 has it.
    """

    find_credential: "Callable[[RecipientId], Credential | None]"
    find_certificate: "Callable[[SignerId], x509.Certificate | None]"
    sha1: bool = False


@dataclass(frozen=True, slots=True)
class Opened:
    """What was in a body.

    Attributes:
        entity: the body itself, None where nothing but headers was signed.
        signed: whether it was signed. `signatures` may be over nothing but headers.
        encrypted: whether it was encrypted.
        signatures: the valid ones, with their certificates, of which nothing has been checked yet.
        headers: that were signed or encrypted with it, or None.
        malleable: whether it was encrypted in a way that lets others change it unseen, and not signed at all.
    """

    entity: Entity | None
    signed: bool
    encrypted: bool
    signatures: "tuple[Verified, ...]"
    headers: "Message | None"
    malleable: bool = False


def open_sealed(entity: Entity, keys: Keys) -> Opened:
    """Open a body.

    Args:
        entity: as it came.
        keys: see there.

    Raises:
        MimeError: malformed, or of a kind that we do not read.
        CmsError: it could not be decrypted, or a signature is wrong.
    """
    return _open(entity, keys, (), encrypted=False)


def _open(entity: Entity, keys: Keys, signatures: "tuple[Verified, ...]", *, encrypted: bool) -> Opened:
    """Open what is left, after these signatures and perhaps an envelope."""
    for _ in range(_MAX_LAYERS):
        kind = kind_of(entity)
        if kind == ENVELOPED:
            if encrypted:
                break
            data = entity.content()
            form = enveloped.kind_of(data)
            if form == "signed-data":
                if signatures:
                    break
                signatures = signed.verify(data, None, keys.find_certificate, sha1=keys.sha1)
                entity = Entity.parse(signatures[0].content)
                continue
            content = enveloped.decrypt(data, keys.find_credential)
            try:
                opened = _open(Entity.parse(content), keys, signatures, encrypted=True)
            except (MimeError, CmsError):
                if form == "enveloped-data":
                    # It has no tag, and a wrong key gives nonsense now and then. Whoever changes it on the way must not
                    # learn from our answer whether nonsense or nothing came out, or could try until the plaintext is
                    # known (see `cms.errors.DecryptError`).
                    raise DecryptError from None
                raise
            return replace(opened, malleable=form == "enveloped-data" and not opened.signed)
        if kind == SIGNED:
            if signatures:
                break
            entity, signatures = _verify(entity, keys)
        else:
            break
    is_signed = bool(signatures)
    headers: Message | None = None
    if is_identity(entity):
        headers, body = read(entity)
        return Opened(body, is_signed, encrypted, signatures, headers)
    if entity.kind != b"multipart/mixed":
        return Opened(entity, is_signed, encrypted, signatures, None)
    rest = []
    for part in entity.parts():
        found: Message | None = None
        if is_identity(part):
            found = read(part)[0]
        elif not signatures and part.kind == b"multipart/signed":
            # As RFC 3893 shows it: the headers alone are signed, beside a body that is not.
            inner = part.parts()
            if inner and is_identity(inner[0]):
                inside, signatures = _verify(part, keys)
                found = read(inside)[0]
        if found is None:
            rest.append(part)
        elif headers is not None:
            raise MimeError("two sets of signed headers")
        else:
            headers = found
    if headers is None:
        return Opened(entity, is_signed, encrypted, signatures, None)
    return Opened(_together(rest), is_signed, encrypted, signatures, headers)


def _verify(entity: Entity, keys: Keys) -> "tuple[Entity, tuple[Verified, ...]]":
    """Verify a signature; returns what is signed, and by whom."""
    if entity.kind in PKCS7:
        found = signed.verify(entity.content(), None, keys.find_certificate, sha1=keys.sha1)
        return Entity.parse(found[0].content), found
    if (entity.param("protocol") or _SIGNATURE[0]).lower() not in _SIGNATURE:
        raise MimeError("multipart/signed of an unknown protocol", 415)
    parts = entity.parts()
    if len(parts) != 2 or parts[1].kind not in _SIGNATURE:
        raise MimeError("multipart/signed without a signature")
    content, signature = parts
    found = signed.verify(signature.content(), content.raw, keys.find_certificate, sha1=keys.sha1)
    return content, found


def _together(parts: "Sequence[Entity]") -> Entity | None:
    """What is left of a multipart."""
    if len(parts) < 2:
        return parts[0] if parts else None
    kind, body = multipart(b"multipart/mixed", [part.raw for part in parts])
    return Entity.make([("Content-Type", kind)], body)


def certificates_entity(certificates: "Sequence[x509.Certificate]") -> Entity:
    """Certificates as a body: what a 493 gives to who has encrypted for somebody else (RFC 3261 section 23.2)."""
    return Entity.make(
        [
            ("Content-Type", b"application/pkcs7-mime;smime-type=certs-only;name=smime.p7c"),
            ("Content-Disposition", _HANDLING + b"smime.p7c"),
            ("Content-Transfer-Encoding", b"binary"),
        ],
        signed.certificates_only(certificates),
    )


def certificates_of(entity: Entity) -> "tuple[x509.Certificate, ...]":
    """The inverse of `certificates_entity`; none where a body is something else.

    Raises:
        MimeError, CmsError: malformed.
    """
    if entity.kind not in PKCS7 or (entity.param("smime-type") or b"").lower() != b"certs-only":
        return ()
    return signed.read_certificates(entity.content())
