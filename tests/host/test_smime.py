"""Bodies sealed and opened, in every order, and what somebody on the way makes of them."""

import base64
import itertools
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from people import person

from neighbour.agent.aib import identity_body
from neighbour.agent.cms import enveloped, signed
from neighbour.agent.cms.errors import CmsError, DecryptError, MalformedError, SignatureError
from neighbour.agent.credential import Credential
from neighbour.agent.mime import Entity, MimeError, multipart
from neighbour.agent.smime import (
    ENVELOPED,
    SIGNED,
    Keys,
    Opened,
    Seal,
    certificates_entity,
    certificates_of,
    kind_of,
    open_sealed,
)
from sipwire.message import parse

AT = datetime(2030, 2, 21, 13, 2, 3, tzinfo=UTC)
DATE = b"Thu, 21 Feb 2030 13:02:03 GMT"
INVITE = (
    b"INVITE sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/TLS a.example;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
    b"From: <sip:alice@a.example>;tag=1\r\nTo: <sip:bob@b.example>\r\nContact: <sip:alice@192.0.2.1>\r\n"
    b"Call-ID: 1@a.example\r\nCSeq: 1 INVITE\r\nDate: " + DATE + b"\r\n"
)
AIB = identity_body(parse(INVITE + b"\r\n"), DATE)
SDP = Entity.make([("Content-Type", b"application/sdp")], b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n")
TEXT = Entity.make([("Content-Type", b"text/plain")], b"Hello!")
ALICE, BOB = person("p256"), person("p256", "bob")
RSA = person("rsa", "bob in RSA")
BODIES = {"sdp": SDP, "nothing": None, "odd": Entity.make([("Content-Type", b"x/y")], b"\x00\r\n--\r\n\xff\r\n\r\n")}


def keys(*ours: Credential, known: tuple[Credential, ...] = (), sha1: bool = False) -> Keys:
    mine = ours or (BOB, RSA)
    return Keys(
        lambda rid: next((one for one in mine if rid.matches(one.certificate)), None),
        lambda sid: next((one.certificate for one in known if sid.matches(one.certificate)), None),
        sha1,
    )


def seal(
    signer: Credential | None = ALICE,
    *recipients: Credential,
    cipher: str = enveloped.AES_128_GCM,
    body: Entity | None = SDP,
    identity: bytes = AIB,
) -> Entity:
    return Seal(signer, [one.certificate for one in recipients], cipher, AT).close(body, identity)


def sign(raw: bytes, signer: Credential = ALICE, **more: bool) -> Entity:
    """A multipart/signed around a part."""
    data = signed.sign(raw, signer, detached=True, at=AT, **more)
    p7s = Entity.make([("Content-Type", b"application/pkcs7-signature")], data)
    kind, body = multipart(b"multipart/signed", [raw, p7s.raw], b';protocol="application/pkcs7-signature"')
    return Entity.make([("Content-Type", kind)], body)


def opaque(raw: bytes, kind: bytes = b"signed-data") -> Entity:
    data = signed.sign(raw, ALICE, detached=False, at=AT)
    return Entity.make([("Content-Type", b"application/pkcs7-mime;smime-type=" + kind)], data)


def envelope(raw: bytes, *recipients: Credential, cipher: str = enveloped.AES_128_GCM) -> Entity:
    data = enveloped.encrypt(raw, [one.certificate for one in recipients or (BOB,)], cipher=cipher)
    return Entity.make([("Content-Type", b"application/pkcs7-mime")], data)


def mixed(*parts: bytes) -> Entity:
    kind, body = multipart(b"multipart/mixed", parts)
    return Entity.make([("Content-Type", kind)], body)


def tunnel(body: Entity = SDP) -> Entity:
    headers, _, _ = body.raw.partition(b"\r\n\r\n")
    inner = INVITE + headers + b"\r\n\r\n" + body.body
    return Entity.make([("Content-Type", b"message/sip")], inner)


BOTH = mixed(SDP.raw, AIB).raw  # what is signed


# What we send.


def test_what_is_sent() -> None:
    """As WIRE section 3 has it."""
    made = seal(ALICE, BOB)
    assert made.headers == (
        ("content-type", b"application/pkcs7-mime;smime-type=auth-enveloped-data;name=smime.p7m"),
        ("content-disposition", b"attachment;handling=required;filename=smime.p7m"),
        ("content-transfer-encoding", b"binary"),
    )
    assert kind_of(made) == ENVELOPED
    assert enveloped.kind_of(made.content()) == "auth-enveloped-data"
    inside = Entity.parse(enveloped.decrypt(made.content(), keys().find_credential))
    assert kind_of(inside) == SIGNED
    assert inside.param("protocol") == b"application/pkcs7-signature"
    assert inside.param("micalg") == b"sha-256"
    content, signature = inside.parts()
    assert signature.kind == b"application/pkcs7-signature"
    assert content.kind == b"multipart/mixed"
    body, identity = content.parts()
    assert body.raw == SDP.raw
    assert identity.raw == AIB
    assert identity.disposition == b"aib"
    (found,) = signed.verify(signature.content(), content.raw)
    assert found.certificate == ALICE.certificate
    assert found.certificates[0] in (ALICE.certificate, *ALICE.chain)
    assert len(found.certificates) == 2
    assert found.signed_at == AT
    assert SDP.body not in made.raw


def test_headers_alone() -> None:
    (content, _) = seal(body=None).parts()
    assert content.raw == AIB


def test_for_old_recipients() -> None:
    made = seal(ALICE, RSA, cipher=enveloped.AES_128_CBC)
    assert made.param("smime-type") == b"enveloped-data"
    assert enveloped.kind_of(made.content()) == "enveloped-data"


@pytest.mark.parametrize(
    ("kind", "name"), [("p256", b"sha-256"), ("rsa", b"sha-256"), ("p384", b"sha-384"), ("ed25519", b"sha-512")]
)
def test_micalg(kind: str, name: bytes) -> None:
    made = seal(person(kind, kind))
    assert made.param("micalg") == name
    assert signed.micalg(person(kind, kind).key).encode() == name


def test_useless_certificates() -> None:
    with pytest.raises(CmsError):
        seal(ALICE, person("ed25519", "signs only"))
    with pytest.raises(CmsError):
        seal(person("p521", "large"))


# What is opened is what was sealed.

SIGNERS = [None, "p256", "p384", "rsa", "ed25519"]
RECIPIENTS = [(), (BOB,), (RSA,), (person("p256", "carol"), BOB), (BOB, RSA)]
CIPHERS = [enveloped.AES_128_GCM, enveloped.AES_256_GCM, enveloped.AES_128_CBC, enveloped.AES_256_CBC]
COMBINATIONS = [
    (signer, recipients, cipher, body)
    for signer, recipients, cipher, body in itertools.product(SIGNERS, RECIPIENTS, CIPHERS, BODIES)
    if (signer or (recipients and body != "nothing")) and (recipients or cipher == CIPHERS[0])
]


def same(found: Opened, body: Entity | None, *, headers: bool = True) -> bool:
    is_same = (found.entity is None) is (body is None) and (body is None or found.entity == body)
    return is_same and (found.headers is not None) is headers


@pytest.mark.parametrize(("kind", "recipients", "cipher", "name"), COMBINATIONS)
def test_seal_and_open(kind: str | None, recipients: tuple[Credential, ...], cipher: str, name: str) -> None:
    signer = None if kind is None else person(kind, kind)
    body = BODIES[name]
    made = seal(signer, *recipients, cipher=cipher, body=body)
    found = open_sealed(Entity.parse(made.raw), keys())
    assert same(found, body, headers=signer is not None)
    assert found.signed is (signer is not None)
    assert found.encrypted is bool(recipients)
    assert [one.certificate for one in found.signatures] == ([signer.certificate] if signer else [])
    if found.headers is not None:
        assert found.headers.from_.uri == b"sip:alice@a.example"


FORMS: list[tuple[str, Callable[[], Entity], bool, bool, bool]] = [
    # What it is; whether the body is signed, encrypted, and has signed headers.
    ("bare", lambda: SDP, False, False, False),
    ("signed", lambda: sign(SDP.raw), True, False, False),
    ("opaque", lambda: opaque(SDP.raw), True, False, False),
    ("opaque without its name", lambda: opaque(SDP.raw, b"enveloped-data"), True, False, False),
    ("encrypted", lambda: envelope(SDP.raw), False, True, False),
    ("signed, encrypted", lambda: envelope(sign(BOTH).raw), True, True, True),
    ("opaque, encrypted", lambda: envelope(opaque(BOTH).raw), True, True, True),
    ("encrypted, signed", lambda: sign(envelope(BOTH).raw), True, True, True),
    ("encrypted, opaque", lambda: opaque(envelope(BOTH).raw), True, True, True),
    ("tunnelled, signed", lambda: sign(tunnel().raw), True, False, True),
    ("tunnelled, encrypted", lambda: envelope(tunnel().raw), False, True, True),
    ("tunnelled, signed, encrypted", lambda: envelope(sign(tunnel().raw).raw), True, True, True),
    ("tunnelled, encrypted, signed", lambda: sign(envelope(tunnel().raw).raw), True, True, True),
    ("headers first", lambda: sign(mixed(AIB, SDP.raw).raw), True, False, True),
    # RFC 3893 section 3: the headers alone.
    ("signed headers beside", lambda: mixed(SDP.raw, sign(AIB).raw), False, False, True),
    ("signed headers before", lambda: mixed(sign(AIB).raw, SDP.raw), False, False, True),
    ("signed headers beside, encrypted", lambda: envelope(mixed(SDP.raw, sign(AIB).raw).raw), False, True, True),
    ("a tunnel beside", lambda: mixed(SDP.raw, sign(tunnel(TEXT).raw).raw), False, False, True),
    ("certificates", lambda: certificates_entity([BOB.certificate]), False, False, False),
    ("headers that nobody signed", lambda: BOTH_ENTITY, False, False, True),
]
BOTH_ENTITY = Entity.parse(BOTH)


@pytest.mark.parametrize(("name", "make", "is_signed", "encrypted", "headers"), FORMS, ids=[row[0] for row in FORMS])
def test_forms(name: str, make: Callable[[], Entity], is_signed: bool, encrypted: bool, headers: bool) -> None:
    found = open_sealed(make(), keys())
    assert (found.signed, found.encrypted) == (is_signed, encrypted)
    assert same(found, certificates_entity([BOB.certificate]) if name == "certificates" else SDP, headers=headers)
    assert bool(found.signatures) is (is_signed or "signed headers" in name or name == "a tunnel beside")


def test_what_nobody_signed_is_not_signed() -> None:
    """A body that somebody puts beside signed headers is theirs; the one in the tunnel is gone."""
    found = open_sealed(mixed(TEXT.raw, sign(tunnel().raw).raw), keys())
    assert found.entity == TEXT
    assert not found.signed
    assert len(found.signatures) == 1


def test_what_is_left_of_several() -> None:
    odd = Entity.make([("Content-Type", b"application/x-odd")], b"\x00")
    found = open_sealed(sign(mixed(SDP.raw, AIB, odd.raw).raw), keys())
    assert found.entity is not None
    assert found.entity.kind == b"multipart/mixed"
    assert [one.raw for one in found.entity.parts()] == [SDP.raw, odd.raw]


def test_other_multiparts_stay_as_they_are() -> None:
    plain = mixed(SDP.raw, TEXT.raw)
    assert open_sealed(plain, keys()).entity is plain
    assert open_sealed(sign(plain.raw), keys()).entity == plain
    kind, body = multipart(b"multipart/alternative", [SDP.raw, AIB])
    other = Entity.make([("Content-Type", kind)], body)
    assert open_sealed(other, keys()) == Opened(other, False, False, (), None)


def test_the_progress_of_a_transfer_is_no_identity() -> None:
    progress = Entity.make([("Content-Type", b"message/sipfrag;version=2.0")], b"SIP/2.0 200 OK\r\n")
    assert same(open_sealed(sign(progress.raw), keys()), progress, headers=False)


# Layers.


def test_sealed_by_the_user_and_by_us() -> None:
    """What a user sealed for somebody else is a body like others."""
    theirs = envelope(SDP.raw, person("p256", "carol"))
    found = open_sealed(sign(mixed(theirs.raw, AIB).raw), keys())
    assert same(found, theirs)
    twice = envelope(theirs.raw)
    assert open_sealed(twice, keys()).entity == theirs


def test_signed_twice() -> None:
    """The outer signature counts; nobody looks at the one inside, which is no proof of who has sent this."""
    inner = sign(SDP.raw, person("p256", "mallory"))
    found = open_sealed(sign(inner.raw), keys())
    assert found.entity == inner
    assert [one.certificate for one in found.signatures] == [ALICE.certificate]
    wrapped = sign(envelope(sign(SDP.raw, person("p256", "mallory")).raw).raw)
    found = open_sealed(wrapped, keys())
    assert [one.certificate for one in found.signatures] == [ALICE.certificate]
    assert kind_of(found.entity) == SIGNED
    assert found.headers is None


@pytest.mark.parametrize("wrap", [sign, opaque, envelope])
def test_many_layers(wrap: Callable[[bytes], Entity]) -> None:
    """No matter how many: two are opened at most, and no time is spent on the others."""
    made = SDP
    for _ in range(12):
        made = wrap(made.raw)
    start = time.process_time()
    found = open_sealed(made, keys())
    assert time.process_time() - start < 0.05
    assert len(found.signatures) <= 1
    assert found.entity is not None
    assert kind_of(found.entity)


# Refused.


def changed(made: Entity, old: bytes, new: bytes) -> Entity:
    assert made.raw.count(old) >= 1
    return Entity.parse(made.raw.replace(old, new, 1))


def p7s(data: bytes, *more: tuple[str, bytes]) -> bytes:
    return Entity.make([("Content-Type", b"application/pkcs7-signature"), *more], data).raw


def as_signed(*parts: bytes, params: bytes = b"") -> Entity:
    kind, body = multipart(b"multipart/signed", parts, params)
    return Entity.make([("Content-Type", kind)], body)


def detached(raw: bytes, signer: Credential = ALICE, **more: bool) -> bytes:
    return signed.sign(raw, signer, detached=True, at=AT, **more)


REFUSED: list[tuple[str, Callable[[], Entity], type[Exception]]] = [
    ("a changed body", lambda: changed(sign(SDP.raw), b"192.0.2.1", b"192.0.2.2"), SignatureError),
    ("a longer body", lambda: changed(sign(SDP.raw), b"s=-\r\n", b"s=-\r\n\r\n"), SignatureError),
    ("another type", lambda: changed(sign(SDP.raw), b"application/sdp", b"application/sdq"), SignatureError),
    ("one more header", lambda: changed(sign(SDP.raw), b"application/sdp", b"application/sdp\r\nX: y"), SignatureError),
    ("a folded header", lambda: changed(sign(SDP.raw), b"application/sdp", b"\r\n application/sdp"), SignatureError),
    ("changed headers", lambda: changed(sign(BOTH), b"sip:alice@192", b"sip:mallory@192"), SignatureError),
    ("parts in another order", lambda: as_signed(p7s(detached(SDP.raw)), SDP.raw), MimeError),
    ("another's signature", lambda: as_signed(SDP.raw, p7s(detached(TEXT.raw))), SignatureError),
    ("one part", lambda: as_signed(SDP.raw), MimeError),
    ("three parts", lambda: as_signed(SDP.raw, p7s(detached(SDP.raw)), TEXT.raw), MimeError),
    ("two signatures", lambda: as_signed(SDP.raw, p7s(detached(SDP.raw)), p7s(detached(SDP.raw))), MimeError),
    ("no signature", lambda: as_signed(SDP.raw, TEXT.raw), MimeError),
    ("an empty signature", lambda: as_signed(SDP.raw, p7s(b"")), MalformedError),
    ("nonsense", lambda: as_signed(SDP.raw, p7s(os.urandom(100))), MalformedError),
    ("half a signature", lambda: as_signed(SDP.raw, p7s(detached(SDP.raw)[:200])), MalformedError),
    ("a longer signature", lambda: as_signed(SDP.raw, p7s(detached(SDP.raw) + b"x")), MalformedError),
    ("an envelope for a signature", lambda: as_signed(SDP.raw, p7s(envelope(SDP.raw).content())), CmsError),
    ("certificates for a signature", lambda: as_signed(SDP.raw, p7s(certificates_entity([ALICE.certificate]).body)), SignatureError),
    ("opaque for detached", lambda: as_signed(SDP.raw, p7s(signed.sign(SDP.raw, ALICE, detached=False, at=AT))), MalformedError),
    ("detached for opaque", lambda: Entity.make([("Content-Type", b"application/pkcs7-mime;smime-type=signed-data")], detached(SDP.raw)), MalformedError),
    ("PGP", lambda: as_signed(SDP.raw, p7s(detached(SDP.raw)), params=b';protocol="application/pgp-signature"'), MimeError),
    ("an encoding that nobody knows", lambda: as_signed(SDP.raw, p7s(detached(SDP.raw), ("Content-Transfer-Encoding", b"x-y"))), MimeError),
    ("bad base64", lambda: as_signed(SDP.raw, p7s(b"*", ("Content-Transfer-Encoding", b"base64"))), MimeError),
    ("two sets of headers", lambda: sign(mixed(AIB, AIB).raw), MimeError),
    ("two sets, signed apart", lambda: mixed(sign(AIB).raw, sign(AIB).raw, AIB), MimeError),
    ("headers and a tunnel", lambda: sign(mixed(AIB, tunnel().raw).raw), MimeError),
    ("a signature below, changed", lambda: mixed(SDP.raw, changed(sign(AIB), b"alice@192", b"mallory@192").raw), SignatureError),
    ("an envelope for others", lambda: envelope(SDP.raw, person("p256", "carol")), DecryptError),
    ("an empty envelope", lambda: Entity.make([("Content-Type", b"application/pkcs7-mime")], b""), MalformedError),
    ("an envelope of nonsense", lambda: Entity.make([("Content-Type", b"application/pkcs7-mime")], bytes(range(256))), MalformedError),
    ("an envelope that says it is signed", lambda: changed(envelope(SDP.raw), b"pkcs7-mime", b"pkcs7-mime;smime-type=signed-data"), CmsError),
    ("an envelope with no MIME", lambda: envelope(b"Hello!"), MimeError),
    ("an envelope with no MIME, CBC", lambda: envelope(b"Hello!", cipher=CIPHERS[2]), DecryptError),
    ("an envelope with half a multipart, CBC", lambda: envelope(sign(SDP.raw).raw[:-30], cipher=CIPHERS[2]), DecryptError),
    ("an envelope with a wrong signature, CBC", lambda: envelope(changed(sign(SDP.raw), b"192.0.2.1", b"192.0.2.2").raw, cipher=CIPHERS[2]), DecryptError),
    ("an envelope with a wrong signature", lambda: envelope(changed(sign(SDP.raw), b"192.0.2.1", b"192.0.2.2").raw), SignatureError),
    ("no multipart", lambda: Entity.make([("Content-Type", b"multipart/signed;boundary=b")], b"Hello!"), MimeError),
    ("no boundary", lambda: Entity.make([("Content-Type", b"multipart/signed")], sign(SDP.raw).body), MimeError),
    ("nothing", lambda: Entity.make([("Content-Type", b"multipart/signed;boundary=b")], b""), MimeError),
    ("a part in it that is malformed", lambda: mixed(b"Hello!"), MimeError),
    ("a malformed type", lambda: mixed(b'Content-Type: a/b;c="\r\n\r\n'), MimeError),
    ("a malformed tunnel", lambda: sign(b"Content-Type: message/sip\r\n\r\nINVITE\r\n\r\n"), MimeError),
    ("a malformed fragment", lambda: sign(AIB.replace(b"CSeq:", b"CSeq")), MimeError),
]  # fmt: skip


@pytest.mark.parametrize(("name", "make", "error"), REFUSED, ids=[row[0] for row in REFUSED])
def test_refused(name: str, make: Callable[[], Entity], error: type[Exception]) -> None:
    with pytest.raises(error):
        open_sealed(make(), keys())


def test_unknown_protocols_are_not_understood() -> None:
    with pytest.raises(MimeError) as caught:
        open_sealed(as_signed(SDP.raw, TEXT.raw, params=b";protocol=x/y"), keys())
    assert caught.value.status == 415


@pytest.mark.parametrize(
    ("kind", "smime", "wanted"),
    [
        (b"multipart/signed", b"", SIGNED),
        (b"Multipart/Signed;protocol=x", b"", SIGNED),
        (b"application/pkcs7-mime", b"", ENVELOPED),
        (b"application/x-pkcs7-mime", b"", ENVELOPED),
        (b"application/pkcs7-mime", b";smime-type=Signed-Data", SIGNED),
        (b"application/pkcs7-mime", b";smime-type=auth-enveloped-data", ENVELOPED),
        (b"application/pkcs7-mime", b";smime-type=certs-only", ""),
        (b"application/pkcs7-mime", b";smime-type", ENVELOPED),
        (b"application/pkcs7-signature", b"", ""),
        (b"multipart/mixed", b";smime-type=signed-data", ""),
        (b"application/sdp", b"", ""),
        (b"application/pkcs7-mimex", b"", ""),
    ],
)
def test_kinds(kind: bytes, smime: bytes, wanted: str) -> None:
    assert kind_of(Entity.make([("Content-Type", kind + smime)], b"")) == wanted


def test_the_certificate_of_the_signer() -> None:
    made = as_signed(SDP.raw, p7s(without_certificates(SDP.raw)))
    with pytest.raises(SignatureError, match="missing"):
        open_sealed(made, keys())
    found = open_sealed(made, keys(known=(BOB, ALICE)))
    assert found.signatures[0].certificate == ALICE.certificate
    with pytest.raises(SignatureError, match="missing"):
        open_sealed(made, keys(known=(BOB,)))


def without_certificates(raw: bytes) -> bytes:
    data = detached(raw, chain=False)
    encoded = ALICE.certificate.public_bytes(Encoding.DER)
    at = data.index(encoded)
    # [0] of certificates goes, and with it the length of the three SEQUENCEs around it.
    short = data[: at - 4] + data[at + len(encoded) :]
    return _shorter(short, len(data) - len(short))


def _shorter(data: bytes, by: int) -> bytes:
    """Write the lengths of ContentInfo, its [0], and SignedData anew, each by so much less."""
    changed_ = bytearray(data)
    at = 0
    for _ in range(3):
        assert changed_[at + 1] == 0x82
        length = int.from_bytes(changed_[at + 2 : at + 4], "big") - by
        changed_[at + 2 : at + 4] = length.to_bytes(2, "big")
        at += 4
        if changed_[at] == 0x06:
            at += 2 + changed_[at + 1]
    return bytes(changed_)


# What somebody on the way makes of it. Whatever they change, it is refused, or what comes out is what was sealed.

SEALED: list[tuple[str, Callable[[], Entity]]] = [
    ("signed", lambda: seal(ALICE)),
    ("signed, without attributes", lambda: as_signed(BOTH, p7s(detached(BOTH, attributes=False)))),
    ("opaque", lambda: opaque(BOTH)),
    ("as we send it", lambda: seal(ALICE, BOB)),
    ("for old recipients", lambda: seal(ALICE, RSA, cipher=enveloped.AES_128_CBC)),
    ("signed over an envelope", lambda: sign(envelope(BOTH).raw)),
    ("tunnelled", lambda: sign(tunnel().raw)),
    ("encrypted alone", lambda: envelope(BOTH)),
]


def outcome(raw: bytes) -> Opened | None:
    """What comes out, None for refused by an error that is for that."""
    try:
        return open_sealed(Entity.parse(raw), keys())
    except (MimeError, CmsError):
        return None


def is_honest(found: Opened, sealed: Opened) -> bool:
    """Whether what came out claims nothing that was not sealed."""
    if not found.signed and not (found.encrypted and sealed.encrypted and not sealed.signed):
        return True  # nothing is claimed of the body
    headers = None if found.headers is None else found.headers.fields
    wanted = None if sealed.headers is None else sealed.headers.fields
    # A certificate may have changed as well, but for its key: that is found out where its path is looked at.
    if [one.certificate.public_key() for one in found.signatures] != [
        one.certificate.public_key() for one in sealed.signatures
    ]:
        return False
    return headers == wanted and found.entity == sealed.entity


@pytest.mark.parametrize(("name", "make"), SEALED, ids=[row[0] for row in SEALED])
def test_each_byte_changed(name: str, make: Callable[[], Entity]) -> None:
    made = make()
    sealed = open_sealed(made, keys())
    accepted = 0
    for at, mask in itertools.product(range(len(made.raw)), (0x01, 0x80)):
        raw = bytearray(made.raw)
        raw[at] ^= mask
        found = outcome(bytes(raw))
        assert found is None or is_honest(found, sealed), (name, at, mask)
        accepted += found is not None and found.signed
    # Names of files, other certificates and the like are nobody's business.
    assert accepted < len(made.raw)


@pytest.mark.parametrize(("name", "make"), SEALED, ids=[row[0] for row in SEALED])
def test_each_byte_left_out_or_doubled(name: str, make: Callable[[], Entity]) -> None:
    made = make()
    sealed = open_sealed(made, keys())
    for at in range(len(made.raw)):
        for raw in (made.raw[:at] + made.raw[at + 1 :], made.raw[: at + 1] + made.raw[at:], made.raw[:at]):
            found = outcome(raw)
            assert found is None or is_honest(found, sealed), (name, at)


@pytest.mark.parametrize("signer", [ALICE, None])
def test_an_envelope_without_a_tag_tells_nothing(signer: Credential | None) -> None:
    """Whatever is changed in the ciphertext, and whatever comes out of it: the same error, or what was sealed.

    Without a signature it may be something else; it is not said to be signed.
    """
    made = seal(signer, BOB, cipher=enveloped.AES_128_CBC, body=mixed(SDP.raw, TEXT.raw))
    sealed = open_sealed(made, keys())
    data = bytearray(made.body)
    start = len(data) - 16 * ((len(data) // 16) - 22)
    for at in range(start, len(data)):
        for mask in (1, 0x10, 0x80):
            data[at] ^= mask
            entity = Entity.make([("Content-Type", b"application/pkcs7-mime")], bytes(data))
            try:
                found = open_sealed(entity, keys())
            except DecryptError as error:
                assert str(error) == "it cannot be decrypted"  # noqa: PT017  or it is opened
            else:
                assert is_honest(found, sealed) if signer else not found.signed
            data[at] ^= mask


# Certificates.


def test_certificates() -> None:
    made = certificates_entity([BOB.certificate, *BOB.chain])
    assert made.param("smime-type") == b"certs-only"
    assert {*certificates_of(made)} == {BOB.certificate, *BOB.chain}
    base64_ = Entity.make(
        [
            *(one for one in made.headers if one[0] != "content-transfer-encoding"),
            ("Content-Transfer-Encoding", b"base64"),
        ],
        base64.encodebytes(made.body),
    )
    assert {*certificates_of(base64_)} == {BOB.certificate, *BOB.chain}


@pytest.mark.parametrize(
    ("entity", "error"),
    [
        (SDP, None),
        (Entity.make([("Content-Type", b"application/pkcs7-mime")], certificates_entity([BOB.certificate]).body), None),
        (Entity.make([("Content-Type", b"application/pkcs7-mime;smime-type=certs-only")], b"\x30"), CmsError),
        (Entity.make([("Content-Type", b"application/pkcs7-mime;smime-type=certs-only")], b""), CmsError),
        (Entity.make([("Content-Type", b'application/pkcs7-mime;smime-type="')], b""), MimeError),
    ],
)
def test_no_certificates(entity: Entity, error: type[Exception] | None) -> None:
    if error is None:
        assert certificates_of(entity) == ()
        return
    with pytest.raises(error):
        certificates_of(entity)
