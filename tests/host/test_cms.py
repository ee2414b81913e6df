"""Messages of CMS, made and read by ourselves: what holds, and what is refused with which error."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from people import NOW, person

from neighbour.agent.cms import ber, certificates, enveloped, recipients, signatures, signed
from neighbour.agent.cms.enveloped import RecipientId, decrypt, encrypt, kind_of
from neighbour.agent.cms.errors import CmsError, DecryptError, MalformedError, SignatureError, UnsupportedError
from neighbour.agent.cms.signed import SignerId, certificates_only, micalg, read_certificates, sign, verify
from neighbour.agent.cms.structures import INTEGER, OCTETS, OID_DATA, SEQUENCE, SET, der, oid
from neighbour.agent.credential import Credential

CONTENT = b"Content-Type: text/plain\r\n\r\nHello!"
KINDS = ["p256", "p384", "rsa", "ed25519"]
CIPHERS = [enveloped.AES_128_GCM, enveloped.AES_256_GCM, enveloped.AES_128_CBC, enveloped.AES_256_CBC]


def finder(*known: Credential) -> Callable[[RecipientId], Credential | None]:
    return lambda rid: next((one for one in known if rid.matches(one.certificate)), None)


def signed_by(one: Credential) -> Callable[[SignerId], x509.Certificate | None]:
    return lambda signer: one.certificate if signer.matches(one.certificate) else None


# Signatures.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("by_key_id", [False, True])
@pytest.mark.parametrize("chain", [False, True])
def test_signed(kind: str, detached: bool, attributes: bool, by_key_id: bool, chain: bool) -> None:
    alice = person(kind)
    data = sign(CONTENT, alice, detached=detached, at=NOW, chain=chain, attributes=attributes, by_key_id=by_key_id)
    assert kind_of(data) == "signed-data"
    (found,) = verify(data, CONTENT if detached else None)
    assert found.content == CONTENT
    assert found.certificate == alice.certificate
    assert set(found.certificates) == {alice.certificate, *(alice.chain if chain else ())}
    assert found.signed_at == (NOW if attributes else None)
    assert read_certificates(data) == found.certificates
    assert (CONTENT in data) is not detached


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("attributes", [False, True])
def test_altered_content(kind: str, attributes: bool) -> None:
    data = sign(CONTENT, person(kind), detached=True, at=NOW, attributes=attributes)
    for other in (b"", CONTENT + b"\r\n", CONTENT[:-1], CONTENT.replace(b"H", b"h")):
        with pytest.raises(SignatureError, match=r"^message digest$" if attributes else r"^signature$"):
            verify(data, other)


def test_content_has_one_place() -> None:
    alice = person("p256")
    with pytest.raises(MalformedError, match="missing"):
        verify(sign(CONTENT, alice, detached=True, at=NOW), None)
    with pytest.raises(MalformedError, match="twice"):
        verify(sign(CONTENT, alice, detached=False, at=NOW), CONTENT)


def test_empty_content() -> None:
    alice = person("p256")
    assert verify(sign(b"", alice, detached=False, at=NOW), None)[0].content == b""
    assert verify(sign(b"", alice, detached=True, at=NOW), b"")[0].content == b""


def test_certificate_from_elsewhere() -> None:
    alice, bob = person("p256"), person("p256", "bob")
    for by_key_id in (False, True):
        data = without_certificates(sign(CONTENT, alice, detached=True, at=NOW, by_key_id=by_key_id))
        assert read_certificates(data) == ()
        with pytest.raises(SignatureError, match="signer's certificate is missing"):
            verify(data, CONTENT)
        with pytest.raises(SignatureError, match="signer's certificate is missing"):
            verify(data, CONTENT, signed_by(bob))
        (found,) = verify(data, CONTENT, signed_by(alice))
        assert found.certificate == alice.certificate
        assert found.certificates == ()
        with pytest.raises(SignatureError, match=r"^signature$"):
            verify(data, CONTENT, lambda _: bob.certificate)


def without_certificates(data: bytes) -> bytes:
    start = data.index(b"\xa0\x82", 30)
    size = 4 + int.from_bytes(data[start + 2 : start + 4], "big")
    inner = data[19 + 4 : start] + data[start + size :]  # behind the headers of three layers
    return der(SEQUENCE, signed._OID_SIGNED, der(0xA0, der(SEQUENCE, inner)))


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (NOW, NOW),
        (NOW.astimezone(timezone(timedelta(hours=-5))), NOW),
        (NOW + timedelta(microseconds=999_999), NOW),
        (datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC), datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)),
        (datetime(2050, 1, 1, tzinfo=UTC), datetime(2050, 1, 1, tzinfo=UTC)),
        (datetime(1950, 1, 1, tzinfo=UTC), datetime(1950, 1, 1, tzinfo=UTC)),
    ],
)
def test_signing_time(at: datetime, shown: datetime) -> None:
    assert verify(sign(CONTENT, person("p256"), detached=True, at=at), CONTENT)[0].signed_at == shown


@pytest.mark.parametrize(
    ("kind", "name"), [("p256", "sha-256"), ("rsa", "sha-256"), ("p384", "sha-384"), ("ed25519", "sha-512")]
)
def test_micalg(kind: str, name: str) -> None:
    assert micalg(person(kind).key) == name


def test_keys_that_do_not_sign() -> None:
    with pytest.raises(UnsupportedError, match="curve"):
        sign(CONTENT, person("p521"), detached=True, at=NOW)
    with pytest.raises(UnsupportedError, match="subject key identifier"):
        sign(CONTENT, person("p256", "nameless", key_id=False), detached=True, at=NOW, by_key_id=True)


# Messages built by hand, to be wrong in one way each.

EC256 = der(SEQUENCE, oid("1.2.840.10045.4.3.2"))
EC384 = der(SEQUENCE, oid("1.2.840.10045.4.3.3"))
EC512 = der(SEQUENCE, oid("1.2.840.10045.4.3.4"))
RSA = der(SEQUENCE, oid("1.2.840.113549.1.1.1"), b"\x05\x00")
ED = der(SEQUENCE, oid("1.3.101.112"))
TYPE = der(SEQUENCE, oid("1.2.840.113549.1.9.3"), der(SET, OID_DATA))
HASHES = {one.name: one for one in signatures.HASHES.values()}


def digest_attribute(content: bytes = CONTENT, name: str = "sha-256") -> bytes:
    value = der(SET, der(OCTETS, HASHES[name].digest(content)))
    return der(SEQUENCE, oid("1.2.840.113549.1.9.4"), value)


def time_attribute(*times: bytes) -> bytes:
    return der(SEQUENCE, oid("1.2.840.113549.1.9.5"), der(SET, *times))


UTC_TIME = der(0x17, b"261121120000Z")


def by_hand(
    *,
    kind: str = "p256",
    attributes: list[bytes] | None = None,
    digest: str = "sha-256",
    algorithm: bytes = EC256,
    way: object = None,
    content: bytes = CONTENT,
    content_type: bytes = OID_DATA,
    signers: int = 1,
    sort: bool = True,
    bag: bytes | None = None,
    ordered: bool = True,
) -> bytes:
    """A detached message with these parts; ``way`` is what the key signs with."""
    one = person(kind)
    values = [TYPE, digest_attribute(name=digest)] if attributes is None else attributes
    data = der(SET, *sorted(values)) if values else content
    hashed = HASHES[digest].algorithm
    if kind == "ed25519":
        signature = one.key.sign(data)
    elif kind.startswith("rsa"):
        signature = one.key.sign(data, way or padding.PKCS1v15(), hashed)
    else:
        signature = one.key.sign(data, way or ec.ECDSA(hashed))
    infos = [
        der(
            SEQUENCE,
            der(INTEGER, b"\x01"),
            certificates.facts(one.certificate).by_issuer,
            HASHES[digest].identifier,
            der(0xA0, *(sorted(values) if ordered else values)) if values else b"",
            algorithm,
            der(OCTETS, signature),
        )
        for _ in range(signers)
    ]
    body = der(
        SEQUENCE,
        der(INTEGER, b"\x01"),
        der(SET),
        der(SEQUENCE, content_type),
        der(0xA0, certificates.facts(one.certificate).encoded) if bag is None else bag,
        der(SET, *infos),
    )
    return der(SEQUENCE, signed._OID_SIGNED, der(0xA0, body))


def pss(name: str, salt: int, *, mask: str | None = None, trailer: int | None = None) -> bytes:
    """An RSASSA-PSS AlgorithmIdentifier."""
    mgf = der(SEQUENCE, oid("1.2.840.113549.1.1.8"), HASHES[mask or name].identifier)
    parts = [der(0xA0, HASHES[name].identifier), der(0xA1, mgf), der(0xA2, der(INTEGER, bytes((salt,))))]
    if trailer is not None:
        parts.append(der(0xA3, der(INTEGER, bytes((trailer,)))))
    return der(SEQUENCE, oid("1.2.840.113549.1.1.10"), der(SEQUENCE, *parts))


def pss_way(name: str, salt: int, mask: str | None = None) -> padding.PSS:
    return padding.PSS(padding.MGF1(HASHES[mask or name].algorithm), salt)


WELCOME = [
    {},
    {"digest": "sha-384", "algorithm": EC384},
    {"digest": "sha-512", "algorithm": EC512},
    {"kind": "p384", "digest": "sha-256", "algorithm": EC256},
    {"kind": "p384", "digest": "sha-512", "algorithm": EC512},
    {"kind": "rsa", "algorithm": RSA},
    {"kind": "rsa", "digest": "sha-384", "algorithm": RSA},
    {"kind": "rsa", "digest": "sha-512", "algorithm": der(SEQUENCE, oid("1.2.840.113549.1.1.13"), b"\x05\x00")},
    {"kind": "rsa", "digest": "sha-384", "algorithm": der(SEQUENCE, oid("1.2.840.113549.1.1.12"))},
    *(
        {"kind": "rsa", "digest": name, "algorithm": pss(name, salt), "way": pss_way(name, salt)}
        for name in ("sha-256", "sha-384", "sha-512")
        for salt in (0, 20, 32, 64)
    ),
    {"kind": "rsa", "algorithm": pss("sha-256", 32, trailer=1), "way": pss_way("sha-256", 32)},
    {"kind": "ed25519", "digest": "sha-512", "algorithm": ED},
    {"kind": "ed25519", "digest": "sha-512", "algorithm": ED, "attributes": []},
    {"attributes": []},
    {"signers": signed.MAX_SIGNERS},
    {"attributes": [TYPE, digest_attribute(), time_attribute(UTC_TIME)]},
    {"attributes": [digest_attribute(), TYPE], "ordered": False},
    {"attributes": [TYPE, digest_attribute(), der(SEQUENCE, oid("1.2.3"), der(SET, der(OCTETS, bytes(300))))]},
]


@pytest.mark.parametrize("case", WELCOME)
def test_welcome(case: dict) -> None:
    found = verify(by_hand(**case), CONTENT)
    assert len(found) == case.get("signers", 1)
    assert {one.content for one in found} == {CONTENT}


MALFORMED, UNSUPPORTED, BAD = MalformedError, UnsupportedError, SignatureError
REFUSED = [
    ("no signer", {"signers": 0}, BAD, "nobody"),
    ("too many signers", {"signers": signed.MAX_SIGNERS + 1}, MALFORMED, "signers"),
    ("no digest", {"attributes": [TYPE]}, BAD, "message digest"),
    ("no content type", {"attributes": [digest_attribute()]}, BAD, "content type"),
    ("two digests", {"attributes": [TYPE, digest_attribute(), digest_attribute(b"x")]}, MALFORMED, "attributes"),
    ("two content types", {"attributes": [TYPE, TYPE, digest_attribute()]}, MALFORMED, "attributes"),
    (
        "two times",
        {"attributes": [TYPE, digest_attribute(), time_attribute(UTC_TIME), time_attribute(UTC_TIME)]},
        MALFORMED,
        "attributes",
    ),
    ("a time twice", {"attributes": [TYPE, digest_attribute(), time_attribute(UTC_TIME, UTC_TIME)]}, MALFORMED, "time"),
    ("no time in it", {"attributes": [TYPE, digest_attribute(), time_attribute()]}, MALFORMED, "time"),
    (
        "no time at all",
        {"attributes": [TYPE, digest_attribute(), time_attribute(der(OCTETS, b"noon"))]},
        MALFORMED,
        "broken",
    ),
    (
        "a digest with two values",
        {
            "attributes": [
                TYPE,
                der(SEQUENCE, oid("1.2.840.113549.1.9.4"), der(SET, *[der(OCTETS, HASHES["sha-256"].digest(CONTENT))] * 2)),
            ]
        },
        BAD,
        "message digest",
    ),
    ("no attribute", {"attributes": [der(SEQUENCE)]}, MALFORMED, "attributes"),
    ("another thing", {"attributes": [der(OCTETS, b"x")]}, MALFORMED, "attributes"),
    ("too many", {"attributes": [TYPE, digest_attribute(), *[der(SEQUENCE, oid("1.2.3"))] * 31]}, MALFORMED, "attributes"),
    (
        "another content type",
        {"attributes": [der(SEQUENCE, oid("1.2.840.113549.1.9.3"), der(SET, oid("1.2.3"))), digest_attribute()]},
        BAD,
        "content type",
    ),
    ("content that is none", {"content_type": oid("1.2.840.113549.1.9.16.1.4")}, UNSUPPORTED, "content"),
    ("SHA-384 signature, SHA-256 digest", {"algorithm": EC384, "way": ec.ECDSA(hashes.SHA384())}, UNSUPPORTED, "hash"),
    ("ECDSA by an RSA key", {"kind": "rsa", "algorithm": EC256}, BAD, "signature"),
    ("RSA by an EC key", {"algorithm": RSA}, BAD, "signature"),
    ("Ed25519 by an EC key", {"algorithm": ED, "digest": "sha-512", "way": ec.ECDSA(hashes.SHA512())}, BAD, "signature"),
    ("Ed25519 over SHA-256", {"kind": "ed25519", "algorithm": ED}, UNSUPPORTED, "hash"),
    ("an unknown algorithm", {"algorithm": der(SEQUENCE, oid("1.2.3"), b"\x05\x00")}, UNSUPPORTED, "signature algorithm"),
    ("an algorithm alone", {"algorithm": der(SEQUENCE, oid("1.2.3"))}, MALFORMED, "broken"),
    ("P-521", {"kind": "p521"}, UNSUPPORTED, "key"),
    ("RSA of 1024 bits", {"kind": "rsa1024", "algorithm": RSA}, UNSUPPORTED, "key"),
    ("SHA-1 ECDSA", {"digest": "sha-1", "algorithm": der(SEQUENCE, oid("1.2.840.10045.4.1"))}, UNSUPPORTED, "digest"),
    ("SHA-1 RSA", {"kind": "rsa", "digest": "sha-1", "algorithm": RSA}, UNSUPPORTED, "digest"),
    (
        "PSS with another hash",
        {"kind": "rsa", "algorithm": pss("sha-512", 32), "way": pss_way("sha-256", 32)},
        UNSUPPORTED,
        "hash",
    ),
    (
        "PSS with another mask",
        {"kind": "rsa", "algorithm": pss("sha-256", 32, mask="sha-512"), "way": pss_way("sha-256", 32, "sha-512")},
        UNSUPPORTED,
        "hash",
    ),
    ("PSS with another salt", {"kind": "rsa", "algorithm": pss("sha-256", 20), "way": pss_way("sha-256", 32)}, BAD, "signature"),
    ("PSS with a negative salt", {"kind": "rsa", "algorithm": pss("sha-256", 0xFF), "way": pss_way("sha-256", 32)}, MALFORMED, "parameters"),
    ("PSS with a trailer", {"kind": "rsa", "algorithm": pss("sha-256", 32, trailer=2), "way": pss_way("sha-256", 32)}, MALFORMED, "parameters"),
    ("PSS by its defaults", {"kind": "rsa", "algorithm": der(SEQUENCE, oid("1.2.840.113549.1.1.10"), der(SEQUENCE))}, UNSUPPORTED, "algorithm"),
    ("PSS that was v1.5", {"kind": "rsa", "algorithm": pss("sha-256", 32)}, BAD, "signature"),
    ("PSS by an EC key", {"algorithm": pss("sha-256", 32)}, BAD, "signature"),
    ("a broken certificate", {"bag": der(0xA0, der(SEQUENCE, b"\x05\x00"))}, MALFORMED, "certificate"),
    ("no certificate", {"bag": der(0xA0)}, BAD, "missing"),
    ("another kind of certificate", {"bag": der(0xA0, der(0xA1, b""))}, BAD, "missing"),
]  # fmt: skip


@pytest.mark.parametrize(("case", "error", "text"), [one[1:] for one in REFUSED], ids=[one[0] for one in REFUSED])
def test_refused(case: dict, error: type[CmsError], text: str) -> None:
    with pytest.raises(error, match=text):
        verify(by_hand(**case), CONTENT)


@pytest.mark.parametrize(
    "case",
    [
        {"kind": "rsa", "algorithm": RSA},
        {"kind": "rsa", "algorithm": der(SEQUENCE, oid("1.2.840.113549.1.1.5"), b"\x05\x00")},
        {"algorithm": der(SEQUENCE, oid("1.2.840.10045.4.1"))},
        {"kind": "rsa", "algorithm": RSA, "attributes": []},
    ],
)
def test_sha1_where_asked_for(case: dict) -> None:
    if "attributes" not in case:
        case = case | {"attributes": [TYPE, digest_attribute(name="sha-1")]}
    data = by_hand(digest="sha-1", **case)
    assert verify(data, CONTENT, sha1=True)[0].content == CONTENT
    with pytest.raises(UnsupportedError, match="digest algorithm"):
        verify(data, CONTENT)


def test_sha1_of_the_signature_alone() -> None:
    data = by_hand(kind="rsa", algorithm=der(SEQUENCE, oid("1.2.840.113549.1.1.5"), b"\x05\x00"))
    with pytest.raises(UnsupportedError, match="hash"):
        verify(data, CONTENT, sha1=True)


def test_attributes_are_no_content() -> None:
    """Attributes taken off a message must not pass for what its signer signed."""
    stripped = der(SET, *sorted([TYPE, digest_attribute()]))
    with pytest.raises(SignatureError, match="signed attributes"):
        verify(by_hand(attributes=[], content=stripped), stripped)
    # What only begins like that is content.
    for harmless in (b"1 and 2", der(SET), der(SET, TYPE), b"\x31"):
        assert verify(by_hand(attributes=[], content=harmless), harmless)[0].content == harmless


def test_too_many_certificates() -> None:
    one = certificates.facts(person("p256").certificate).encoded
    full = by_hand(bag=der(0xA0, *[one] * certificates.MAX_CERTIFICATES))
    assert len(read_certificates(full)) == certificates.MAX_CERTIFICATES
    for read in (read_certificates, lambda data: verify(data, CONTENT)):
        with pytest.raises(MalformedError, match="certificates"):
            read(by_hand(bag=der(0xA0, *[one] * (certificates.MAX_CERTIFICATES + 1))))


def test_one_bad_signer_of_two_spoils_all() -> None:
    data = by_hand(signers=2)
    assert len(verify(data, CONTENT)) == 2
    for at in (len(data) - 1, len(data) - 250):  # in the second's signature, and in the first's
        with pytest.raises(CmsError):
            verify(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :], CONTENT)


def test_certificates_only() -> None:
    people = [person(kind) for kind in KINDS]
    data = certificates_only([one.certificate for one in people])
    assert kind_of(data) == "signed-data"
    assert set(read_certificates(data)) == {one.certificate for one in people}
    assert read_certificates(certificates_only([])) == ()
    with pytest.raises(SignatureError, match="nobody"):
        verify(data, b"")
    with pytest.raises(UnsupportedError):
        read_certificates(encrypt(CONTENT, [person("p256").certificate]))


def test_names_of_certificates() -> None:
    alice, bob = person("p256").certificate, person("p256", "bob").certificate
    about = certificates.facts(alice)
    assert about.issuer == alice.issuer.public_bytes()
    assert about.serial == alice.serial_number
    assert about.key_id == alice.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    for name in (SignerId(about.issuer, about.serial), RecipientId(key_id=about.key_id)):
        assert name.matches(alice)
        assert not name.matches(bob)
    assert not SignerId(about.issuer, about.serial + 1).matches(alice)
    assert not SignerId().matches(person("p256", "nameless", key_id=False).certificate)


# Encryption.


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("kind", ["p256", "rsa"])
@pytest.mark.parametrize("by_key_id", [False, True])
@pytest.mark.parametrize("oaep", [False, True])
def test_encrypted(cipher: str, kind: str, by_key_id: bool, oaep: bool) -> None:
    alice = person(kind)
    data = encrypt(CONTENT, [alice.certificate], cipher=cipher, oaep=oaep, by_key_id=by_key_id)
    assert kind_of(data) == ("auth-enveloped-data" if cipher.endswith("gcm") else "enveloped-data")
    assert CONTENT not in data
    assert decrypt(data, finder(alice)) == CONTENT
    assert encrypt(CONTENT, [alice.certificate], cipher=cipher) != data


@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("size", [0, 1, 15, 16, 17, 127, 128, 255, 256, 4096, 60_000])
def test_sizes(cipher: str, size: int) -> None:
    alice = person("p256")
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert decrypt(encrypt(content, [alice.certificate], cipher=cipher), finder(alice)) == content


@pytest.mark.parametrize("cipher", CIPHERS)
def test_several_recipients(cipher: str) -> None:
    people = [person("p256"), person("rsa"), person("p256", "bob"), person("rsa", "bob")]
    data = encrypt(CONTENT, [one.certificate for one in people], cipher=cipher)
    for one in people:
        assert decrypt(data, finder(one)) == CONTENT
    assert decrypt(data, finder(*people)) == CONTENT
    with pytest.raises(DecryptError):
        decrypt(data, finder(person("p256", "carol")))


def test_limits_of_recipients() -> None:
    alice, bob = person("p256").certificate, person("p256", "bob")
    for count in (0, recipients.MAX_RECIPIENTS + 1):
        with pytest.raises(UnsupportedError, match="recipients"):
            encrypt(CONTENT, [alice] * count)
    full = [alice] * (recipients.MAX_RECIPIENTS - 1) + [bob.certificate]
    data = encrypt(CONTENT, full)
    assert decrypt(data, finder(bob)) == CONTENT


def test_too_many_recipients(monkeypatch: pytest.MonkeyPatch) -> None:
    alice = person("p256")
    with monkeypatch.context() as patch:
        patch.setattr(recipients, "MAX_RECIPIENTS", 100)
        data = encrypt(CONTENT, [alice.certificate] * 65)
    with pytest.raises(MalformedError, match="recipients"):
        decrypt(data, finder(alice))


def test_one_attempt_for_all_its_names() -> None:
    """A credential that is named often is tried once: each attempt is a private key operation."""
    alice, bob = person("p256"), person("p256", "bob")
    asked = []

    def find(rid: RecipientId) -> Credential:
        asked.append(rid)
        return bob

    with pytest.raises(DecryptError):
        decrypt(encrypt(CONTENT, [alice.certificate] * 8), find)
    assert len(asked) == 1


def test_who_can_not_receive() -> None:
    for kind in ("ed25519", "p384"):
        with pytest.raises(UnsupportedError, match="key"):
            encrypt(CONTENT, [person(kind).certificate])
    for kind in ("rsa1024", "p521"):
        with pytest.raises(UnsupportedError, match="key"):
            encrypt(CONTENT, [person(kind).certificate])
    with pytest.raises(UnsupportedError, match="algorithm"):
        encrypt(CONTENT, [person("p256").certificate], cipher="des-ede3-cbc")
    for kind in ("p256", "rsa"):
        with pytest.raises(UnsupportedError, match="subject key identifier"):
            encrypt(CONTENT, [person(kind, "nameless", key_id=False).certificate], by_key_id=True)


def failures() -> list[tuple[str, bytes, Callable[[RecipientId], Credential | None]]]:
    """Messages that can't be decrypted, each for another reason."""
    alice, bob, rsa_alice, rsa_bob = person("p256"), person("p256", "bob"), person("rsa"), person("rsa", "bob")
    gcm = encrypt(CONTENT, [alice.certificate])
    by_rsa = {oaep: encrypt(CONTENT, [rsa_alice.certificate], oaep=oaep) for oaep in (False, True)}
    cbc = encrypt(CONTENT, [alice.certificate], cipher=enveloped.AES_128_CBC)
    return [
        ("nobody of ours", gcm, finder(bob)),
        ("wrong key", gcm, lambda _: bob),
        ("EC key for RSA", by_rsa[True], lambda _: alice),
        ("EC key for RSA v1.5", by_rsa[False], lambda _: alice),
        ("RSA key for EC", gcm, lambda _: rsa_alice),
        ("Ed25519 key for EC", gcm, lambda _: person("ed25519")),
        ("P-384 key for EC", gcm, lambda _: person("p384")),
        ("wrong key, OAEP", by_rsa[True], lambda _: rsa_bob),
        ("wrong key, v1.5", by_rsa[False], lambda _: rsa_bob),
        ("bad tag", gcm[:-1] + bytes((gcm[-1] ^ 1,)), finder(alice)),
        ("bad ciphertext", flipped(gcm, -20), finder(alice)),
        ("bad padding", flipped(cbc, -20), finder(alice)),
        ("ciphertext of half a block", shortened(cbc), finder(alice)),
        ("no ciphertext", emptied(cbc), finder(alice)),
        ("bad wrap", flipped(gcm, gcm.index(b"\x04\x18") + 5), finder(alice)),
        ("off the curve", flipped(gcm, gcm.index(b"\x03\x42\x00\x04") + 30), finder(alice)),
        ("no point", flipped(gcm, gcm.index(b"\x03\x42\x00\x04") + 3), finder(alice)),
    ]


def flipped(data: bytes, at: int) -> bytes:
    at %= len(data)
    return data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :]


def retailed(data: bytes, ciphertext: bytes) -> bytes:
    """An EnvelopedData of ours with another ciphertext."""
    outer = der(0x80, ciphertext)
    start = data.rindex(b"\x80\x30")  # 48 octets of ciphertext
    inner = data[data.rindex(OID_DATA) : start] + outer
    body = data[23 if data[1] == 0x82 else 20 : data.rindex(OID_DATA) - 2]
    return der(SEQUENCE, enveloped._OID_ENVELOPED, der(0xA0, der(SEQUENCE, body, der(SEQUENCE, inner))))


def shortened(data: bytes) -> bytes:
    return retailed(data, data[-48:-8])


def emptied(data: bytes) -> bytes:
    return retailed(data, b"")


def test_retailed() -> None:
    alice = person("p256")
    data = encrypt(CONTENT, [alice.certificate], cipher=enveloped.AES_128_CBC)
    assert retailed(data, data[-48:]) == data


@pytest.mark.parametrize("number", range(17))
def test_one_error_for_all(number: int) -> None:
    name, data, find = failures()[number]
    with pytest.raises(CmsError) as caught:
        decrypt(data, find)
    assert type(caught.value) is DecryptError, name
    assert str(caught.value) == "it cannot be decrypted"
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_padding_tells_nothing() -> None:
    """RSA v1.5 without a right padding goes on with a key that is always the same, as any wrong key would be."""
    alice = person("rsa")
    modulus = alice.key.public_key().public_numbers().n
    for number in range(20):
        encrypted = pow(3, 65537 + number, modulus).to_bytes(256, "big")
        found = recipients._by_pkcs1(alice, 16, encrypted)
        assert len(found) == 16
        assert recipients._by_pkcs1(alice, 16, encrypted) == found
    # The padding is right and the length is not.
    encrypted = alice.key.public_key().encrypt(bytes(24), padding.PKCS1v15())
    found = recipients._by_pkcs1(alice, 16, encrypted)
    assert len(found) == 16
    assert found != bytes(16)
    assert recipients._by_pkcs1(alice, 16, encrypted) == found
    assert recipients._by_pkcs1(alice, 16, b"short") == recipients._by_pkcs1(alice, 16, b"short")


# Encrypted messages built by hand.

GCM128, CBC128 = "2.16.840.1.101.3.4.1.6", "2.16.840.1.101.3.4.1.2"
OAEP = oid("1.2.840.113549.1.1.7")
SHA1, SHA256 = oid("1.3.14.3.2.26"), oid("2.16.840.1.101.3.4.2.1")
MGF1 = oid("1.2.840.113549.1.1.8")
KEY, NONCE = bytes(16), bytes(12)


def to_rsa(algorithm: bytes, way: object, key: bytes = KEY) -> bytes:
    alice = person("rsa")
    encrypted = alice.key.public_key().encrypt(key, way)
    return der(
        SEQUENCE,
        der(INTEGER, b"\x00"),
        certificates.facts(alice.certificate).by_issuer,
        algorithm,
        der(OCTETS, encrypted),
    )


def oaep_parts(hashed: bytes | None, masked: bytes | None, label: bytes | None = None, mgf: bytes = MGF1) -> bytes:
    parts = b""
    if hashed:
        parts += der(0xA0, der(SEQUENCE, hashed))
    if masked:
        parts += der(0xA1, der(SEQUENCE, mgf, der(SEQUENCE, masked)))
    if label is not None:
        parts += der(0xA2, der(SEQUENCE, oid("1.2.840.113549.1.1.9"), der(OCTETS, label)))
    return der(SEQUENCE, OAEP, der(SEQUENCE, parts))


def sealed(
    infos: list[bytes],
    *,
    cipher: str = GCM128,
    tag_length: int | None = 16,
    told: bytes | None = None,
    nonce: bytes = NONCE,
    content_type: bytes = OID_DATA,
    extra: list[bytes] | None = None,
    signed_extra: bytes | None = None,
    pieces: bool = False,
    originator: bytes = b"",
) -> bytes:
    """An AuthEnvelopedData under ``KEY`` with these parts."""
    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

    encryptor = Cipher(algorithms.AES(KEY), modes.GCM(nonce)).encryptor()
    aad = signed_extra if signed_extra is not None else (der(SET, *sorted(extra)) if extra else b"")
    encryptor.authenticate_additional_data(aad)
    ciphertext = encryptor.update(CONTENT) + encryptor.finalize()
    length = 12 if tag_length is None else tag_length
    parameters = der(
        SEQUENCE,
        der(OCTETS, nonce),
        told if told is not None else b"" if tag_length is None else der(INTEGER, bytes((tag_length,))),
    )
    text = der(0xA0, der(OCTETS, ciphertext[:5]), der(OCTETS, ciphertext[5:])) if pieces else der(0x80, ciphertext)
    body = der(
        SEQUENCE,
        der(INTEGER, b"\x00"),
        originator,
        der(SET, *sorted(infos)),
        der(SEQUENCE, content_type, der(SEQUENCE, oid(cipher), parameters), text),
        der(0xA1, *extra) if extra else b"",
        der(OCTETS, encryptor.tag[:length]),
    )
    return der(SEQUENCE, enveloped._OID_AUTH_ENVELOPED, der(0xA0, body))


V15 = der(SEQUENCE, oid("1.2.840.113549.1.1.1"), b"\x05\x00")
SIMPLE = (V15, padding.PKCS1v15())


def oaep_way(hashed: hashes.HashAlgorithm, masked: hashes.HashAlgorithm, label: bytes | None = None) -> padding.OAEP:
    return padding.OAEP(padding.MGF1(masked), hashed, label)


OTHERS = [
    der(0xA2, der(INTEGER, b"\x04"), der(SEQUENCE, der(OCTETS, b"k")), der(SEQUENCE, oid("1.2.3")), der(OCTETS, b"x")),
    der(0xA3, der(INTEGER, b"\x00"), der(SEQUENCE, oid("1.2.3")), der(OCTETS, b"x")),
    der(0xA4, oid("1.2.3"), der(SEQUENCE)),
]
ATTRIBUTES = [
    der(SEQUENCE, oid("1.2.3"), der(SET, der(OCTETS, b"b"))),
    der(SEQUENCE, oid("1.2.3"), der(SET, der(OCTETS, b"a"))),
]

OPENED: list[tuple[str, tuple, dict]] = [
    ("plain", SIMPLE, {}),
    ("v1.5 without parameters", (der(SEQUENCE, oid("1.2.840.113549.1.1.1")), padding.PKCS1v15()), {}),
    ("OAEP by its defaults", (der(SEQUENCE, OAEP, der(SEQUENCE)), oaep_way(hashes.SHA1(), hashes.SHA1())), {}),
    ("OAEP with SHA-256", (oaep_parts(SHA256, SHA256), oaep_way(hashes.SHA256(), hashes.SHA256())), {}),
    ("OAEP with SHA-256 and the default mask", (oaep_parts(SHA256, None), oaep_way(hashes.SHA256(), hashes.SHA1())), {}),
    ("OAEP with an empty label", (oaep_parts(SHA256, SHA256, b""), oaep_way(hashes.SHA256(), hashes.SHA256())), {}),
    *((f"a tag of {length}", SIMPLE, {"tag_length": length}) for length in range(12, 17)),
    ("a tag of the default length", SIMPLE, {"tag_length": None}),
    ("ciphertext in pieces", SIMPLE, {"pieces": True}),
    ("authenticated attributes", SIMPLE, {"extra": ATTRIBUTES}),
    ("the sender's certificates", SIMPLE, {"originator": der(0xA0, der(0xA0))}),
]  # fmt: skip


@pytest.mark.parametrize(("to", "case"), [one[1:] for one in OPENED], ids=[one[0] for one in OPENED])
def test_opened(to: tuple, case: dict) -> None:
    assert decrypt(sealed([to_rsa(*to)], **case), finder(person("rsa"))) == CONTENT


def test_other_recipients_are_passed_over() -> None:
    assert decrypt(sealed([*OTHERS, to_rsa(*SIMPLE)]), finder(person("rsa"))) == CONTENT
    with pytest.raises(DecryptError):
        decrypt(sealed(OTHERS), finder(person("rsa")))


UNOPENED: list[tuple[str, tuple, dict, type[CmsError]]] = [
    ("OAEP with a label", (oaep_parts(SHA256, SHA256, b"x"), oaep_way(hashes.SHA256(), hashes.SHA256(), b"x")), {}, UNSUPPORTED),
    ("OAEP with SHA-512", (oaep_parts(oid("2.16.840.1.101.3.4.2.3"), SHA256), oaep_way(hashes.SHA512(), hashes.SHA256())), {}, UNSUPPORTED),
    ("OAEP with another mask", (oaep_parts(SHA256, SHA256, None, oid("1.2.3")), oaep_way(hashes.SHA256(), hashes.SHA256())), {}, UNSUPPORTED),
    ("OAEP without parameters", (der(SEQUENCE, OAEP), oaep_way(hashes.SHA1(), hashes.SHA1())), {}, MALFORMED),
    ("RSA-KEM", (der(SEQUENCE, oid("1.2.840.113549.1.9.16.3.14"), der(SEQUENCE)), padding.PKCS1v15()), {}, UNSUPPORTED),
    ("a key of another size", (oaep_parts(SHA256, SHA256), oaep_way(hashes.SHA256(), hashes.SHA256()), bytes(32)), {}, DecryptError),
    ("a key of another size, v1.5", (*SIMPLE, bytes(32)), {}, DecryptError),
    ("a tag of 11", SIMPLE, {"tag_length": 11}, MALFORMED),
    ("a tag of 17", SIMPLE, {"told": der(INTEGER, b"\x11")}, MALFORMED),
    ("a tag that is shorter than told", SIMPLE, {"tag_length": 12, "told": der(INTEGER, b"\x10")}, MALFORMED),
    ("a nonce of 8", SIMPLE, {"nonce": bytes(8)}, MALFORMED),
    ("CBC with a tag", SIMPLE, {"cipher": CBC128}, UNSUPPORTED),
    ("3DES", SIMPLE, {"cipher": "1.2.840.113549.3.7"}, UNSUPPORTED),
    ("content that is none", SIMPLE, {"content_type": oid("1.2.840.113549.1.7.2")}, UNSUPPORTED),
    ("attributes that were not authenticated", SIMPLE, {"extra": ATTRIBUTES, "signed_extra": b""}, DecryptError),
    ("attributes that were taken off", SIMPLE, {"signed_extra": der(SET, *ATTRIBUTES)}, DecryptError),
    ("parameters of something else", SIMPLE, {"told": der(OCTETS, b"x")}, MALFORMED),
]  # fmt: skip


@pytest.mark.parametrize(("to", "case", "error"), [one[1:] for one in UNOPENED], ids=[one[0] for one in UNOPENED])
def test_unopened(to: tuple, case: dict, error: type[CmsError]) -> None:
    with pytest.raises(CmsError) as caught:
        decrypt(sealed([to_rsa(*to)], **case), finder(person("rsa")))
    assert type(caught.value) is error


def test_gcm_is_not_read_as_cbc() -> None:
    """An attacker who moves GCM's ciphertext to EnvelopedData must not be told about paddings of AES."""
    alice = person("rsa")
    body = der(
        SEQUENCE,
        der(INTEGER, b"\x00"),
        der(SET, to_rsa(*SIMPLE)),
        der(SEQUENCE, OID_DATA, der(SEQUENCE, oid(GCM128), der(SEQUENCE, der(OCTETS, NONCE))), der(0x80, bytes(32))),
    )
    with pytest.raises(UnsupportedError, match="content encryption"):
        decrypt(der(SEQUENCE, enveloped._OID_ENVELOPED, der(0xA0, body)), finder(alice))


def to_ec(
    *,
    kdf: str = "1.3.132.1.11.1",
    hashed: str = "sha256",
    wrap: int = 16,
    null: bool = False,
    material: bytes | None = None,
    ec_key: bytes = b"",
    by_certificate: bool = False,
    unused_bits: bytes = b"\x00",
    dated: bool = False,
) -> bytes:
    """A recipient by ECDH, made apart from the code under test: another KDF implementation."""
    from cryptography.hazmat.primitives.kdf.x963kdf import X963KDF
    from cryptography.hazmat.primitives.keywrap import aes_key_wrap
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    alice = person("p256")
    about = certificates.facts(alice.certificate)
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    numbers = {16: "2.16.840.1.101.3.4.1.5", 24: "2.16.840.1.101.3.4.1.25", 32: "2.16.840.1.101.3.4.1.45"}
    identifier = der(SEQUENCE, oid(numbers[wrap]), b"\x05\x00" if null else b"")
    info = der(
        SEQUENCE,
        identifier,
        der(0xA0, der(OCTETS, material)) if material is not None else b"",
        der(0xA2, der(OCTETS, (wrap * 8).to_bytes(4, "big"))),
    )
    algorithm = getattr(hashes, hashed.upper())()
    secret = ephemeral.exchange(ec.ECDH(), alice.certificate.public_key())
    wrapped = aes_key_wrap(X963KDF(algorithm, wrap, info).derive(secret), KEY)
    point = ephemeral.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    own = der(0xA1, der(SEQUENCE, oid("1.2.840.10045.2.1"), ec_key), der(0x03, unused_bits, point))
    rid = der(0xA0, der(OCTETS, about.key_id), der(0x18, b"20261121120000Z")) if dated else about.by_issuer
    return der(
        0xA1,
        der(INTEGER, b"\x03"),
        der(0xA0, about.by_issuer if by_certificate else own),
        der(0xA1, der(OCTETS, material)) if material is not None else b"",
        der(SEQUENCE, oid(kdf), identifier),
        der(SEQUENCE, der(SEQUENCE, rid, der(OCTETS, wrapped))),
    )


@pytest.mark.parametrize(
    "case",
    [
        {},
        *({"kdf": number, "hashed": hashed, "wrap": wrap}
          for number, hashed in [("1.3.133.16.840.63.0.2", "sha1"), ("1.3.132.1.11.1", "sha256"),
                                 ("1.3.132.1.11.2", "sha384"), ("1.3.132.1.11.3", "sha512")]
          for wrap in (16, 24, 32)),
        {"null": True},
        {"material": b"by both parties"},
        {"material": b""},
        {"ec_key": b"\x05\x00"},
        {"ec_key": oid("1.2.840.10045.3.1.7")},
        {"dated": True},
    ],
)  # fmt: skip
def test_agreed_keys(case: dict) -> None:
    assert decrypt(sealed([to_ec(**case)]), finder(person("p256"))) == CONTENT


@pytest.mark.parametrize(
    ("case", "error"),
    [
        ({"kdf": "1.3.132.1.11.0"}, UnsupportedError),
        ({"ec_key": oid("1.3.132.0.34")}, UnsupportedError),
        ({"by_certificate": True}, UnsupportedError),
        ({"unused_bits": b"\x01"}, MalformedError),
        ({"hashed": "sha1"}, DecryptError),
    ],
)
def test_unknown_agreements(case: dict, error: type[CmsError]) -> None:
    with pytest.raises(CmsError) as caught:
        decrypt(sealed([to_ec(**case)]), finder(person("p256")))
    assert type(caught.value) is error


def test_an_unknown_way_does_not_hide_a_known_one() -> None:
    data = sealed([to_ec(kdf="1.3.132.1.11.0"), to_ec()])
    assert decrypt(data, finder(person("p256"))) == CONTENT


# Kinds, limits, BER.


def test_kinds() -> None:
    alice = person("p256").certificate
    assert kind_of(encrypt(CONTENT, [alice])) == "auth-enveloped-data"
    with pytest.raises(UnsupportedError, match="kind of message"):
        kind_of(der(SEQUENCE, OID_DATA, der(0xA0, der(OCTETS, CONTENT))))
    with pytest.raises(UnsupportedError, match="kind of message"):
        verify(encrypt(CONTENT, [alice]), CONTENT)
    with pytest.raises(UnsupportedError, match="kind of message"):
        decrypt(certificates_only([alice]), finder())


@pytest.mark.parametrize("data", [b"", b"0", b"\x30\x00", b"Hello!", b"\x30\x80", b"\x30\x80\x00\x00", bytes(100)])
def test_no_message(data: bytes) -> None:
    for read in (kind_of, read_certificates, lambda one: verify(one, None), lambda one: decrypt(one, finder())):
        with pytest.raises(MalformedError):
            read(data)


def test_too_long() -> None:
    data = sign(bytes(ber.MAX_SIZE_BYTES), person("p256"), detached=False, at=NOW)
    for read in (
        kind_of,
        read_certificates,
        ber.to_der,
        lambda one: verify(one, None),
        lambda one: decrypt(one, finder()),
    ):
        with pytest.raises(MalformedError, match="too long"):
            read(data)


def test_nothing_may_follow() -> None:
    data = sign(CONTENT, person("p256"), detached=True, at=NOW)
    for more in (b"\x00", b"\n", b"\x00\x00", data):
        with pytest.raises(MalformedError):
            verify(data + more, CONTENT)


BER = [
    ("04 03 61 62 63", "04 03 61 62 63"),
    ("04 81 03 61 62 63", "04 03 61 62 63"),
    ("04 84 00 00 00 03 61 62 63", "04 03 61 62 63"),
    ("30 80 00 00", "30 00"),
    ("30 80 02 01 05 05 00 00 00", "30 05 02 01 05 05 00"),
    ("30 80 30 80 30 80 00 00 00 00 00 00", "30 04 30 02 30 00"),
    ("24 80 04 01 61 04 02 62 63 00 00", "04 03 61 62 63"),
    ("24 06 04 01 61 04 01 62", "04 02 61 62"),
    ("24 80 24 80 04 01 61 00 00 04 01 62 00 00", "04 02 61 62"),
    ("24 00", "04 00"),
    ("24 80 00 00", "04 00"),
    ("a0 80 24 80 04 01 61 00 00 00 00", "a0 03 04 01 61"),
    ("a0 80 04 01 61 04 01 62 00 00", "a0 06 04 01 61 04 01 62"),
    ("23 80 03 02 00 ff 03 02 04 f0 00 00", "03 03 04 ff f0"),
    ("2c 06 0c 01 61 0c 01 62", "0c 02 61 62"),
    ("37 06 17 01 61 17 01 62", "17 02 61 62"),
    ("31 06 02 01 05 02 01 04", "31 06 02 01 04 02 01 05"),
    ("31 80 05 00 02 01 04 00 00", "31 05 02 01 04 05 00"),
    ("a0 06 02 01 05 02 01 04", "a0 06 02 01 05 02 01 04"),
    ("bf 81 00 80 05 00 00 00", "bf 81 00 02 05 00"),
    ("01 01 01", "01 01 01"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "wanted"), BER)
def test_ber(given: str, wanted: str) -> None:
    assert ber.to_der(bytes.fromhex(given)).hex(" ") == wanted
    assert ber.to_der(bytes.fromhex(wanted)).hex(" ") == wanted


NO_BER = [
    "", "04", "04 01", "04 82 01", "04 80 61 00 00", "30 80", "30 80 05 00", "30 80 05 00 00", "30 80 00 01",
    "30 02 00 00", "00 00", "00 01 61", "05 00 05 00", "24 80 02 01 05 00 00", "24 80 03 02 00 ff 00 00", "23 00",
    "23 80 03 02 04 f0 03 02 00 ff 00 00", "23 80 03 00 00 00", "04 85 00 00 00 00 01 61", "04 ff 61",
    "30 03 04 02 61", "1f", "1f 81", "1f 81 81 81 81 81 01 00", "30 04 30 03 05 00", "00",
]  # fmt: skip


@pytest.mark.parametrize("given", NO_BER)
def test_no_ber(given: str) -> None:
    with pytest.raises(MalformedError):
        ber.to_der(bytes.fromhex(given))


def test_limits_of_ber() -> None:
    depth = 32
    assert ber.to_der(b"\x30\x80" * depth + b"\x00\x00" * depth)
    for deep in (b"\x30\x80" * 40 + b"\x00\x00" * 40, b"\x30\x80" * 30_000, b"\x24\x80" * 30_000):
        with pytest.raises(MalformedError, match="nested"):
            ber.to_der(deep)
    with pytest.raises(MalformedError, match="elements"):
        ber.to_der(der(SEQUENCE, b"\x05\x00" * 9_000))


def streamed(data: bytes, at: int = 0) -> bytes:
    """The same element as who streams writes it: no lengths, octet strings in pieces of 7."""
    found = b""
    while at < len(data):
        tag, size, start = data[at], data[at + 1], at + 2
        if size > 0x80:
            start += size & 0x7F
            size = int.from_bytes(data[at + 2 : start], "big")
        value = data[start : start + size]
        if tag & 0x20:
            found += bytes((tag, 0x80)) + streamed(value) + b"\x00\x00"
        elif tag in {0x04, 0x80} and len(value) > 20:
            pieces = b"".join(der(OCTETS, value[i : i + 7]) for i in range(0, len(value), 7))
            found += bytes((tag | 0x20, 0x80)) + pieces + b"\x00\x00"
        else:
            found += data[at : start + size]
        at = start + size
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("attributes", [False, True])
def test_streamed_signatures(kind: str, detached: bool, attributes: bool) -> None:
    data = sign(CONTENT, person(kind), detached=detached, at=NOW, attributes=attributes)
    other = streamed(data)
    assert len(other) > len(data)
    assert ber.to_der(other) == data
    assert kind_of(other) == "signed-data"
    assert verify(other, CONTENT if detached else None) == verify(data, CONTENT if detached else None)
    with pytest.raises(SignatureError):
        verify(streamed(sign(CONTENT, person(kind), detached=True, at=NOW)), CONTENT + b"!")


@pytest.mark.parametrize("cipher", CIPHERS)
def test_streamed_encryption(cipher: str) -> None:
    people = [person("p256"), person("rsa")]
    data = encrypt(CONTENT * 5, [one.certificate for one in people], cipher=cipher)
    for one in people:
        assert decrypt(streamed(data), finder(one)) == CONTENT * 5


def test_two_ciphertexts() -> None:
    data = encrypt(CONTENT, [person("p256").certificate], cipher=enveloped.AES_128_CBC)
    whole = der(0x80, data[-48:])
    twice = whole + der(0xA0, der(OCTETS, data[-48:]))
    body = data[data.rindex(OID_DATA) : -len(whole)]
    start = 23 if data[1] == 0x82 else 20
    for parts in (twice, b""):
        inner = der(SEQUENCE, data[start : data.rindex(OID_DATA) - 2], der(SEQUENCE, body, parts))
        with pytest.raises(MalformedError, match="encrypted content"):
            decrypt(der(SEQUENCE, enveloped._OID_ENVELOPED, der(0xA0, inner)), finder(person("p256")))


def test_errors_show_nothing_of_the_peer() -> None:
    assert not DecryptError().args[0].count("\n")
    for error in (MalformedError, UnsupportedError, SignatureError, DecryptError):
        assert issubclass(error, CmsError)
    assert asn1.decode_der(bytes, b"\x04\x01a") == b"a"


def test_certificates_that_are_no_use() -> None:
    with pytest.raises(MalformedError, match="certificate"):
        certificates.load_certificate(b"\x30\x00")
    with pytest.raises(UnsupportedError):
        certificates.public_key(person("p521").certificate)
    small = rsa.generate_private_key(65537, 1024).public_key()
    assert small.key_size not in certificates._RSA_BITS
