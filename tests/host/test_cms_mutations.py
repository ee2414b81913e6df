"""Damaged messages of CMS: nothing that was altered is accepted, and only the layer's own error comes out."""

import random
import time
from collections.abc import Callable
from contextlib import suppress

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from people import NOW, person
from test_cms import CONTENT, KINDS, RSA, by_hand, finder, signed_by, streamed

from neighbour.agent.cms import enveloped
from neighbour.agent.cms.ber import MAX_SIZE_BYTES, to_der
from neighbour.agent.cms.enveloped import decrypt, encrypt, kind_of
from neighbour.agent.cms.errors import CmsError, DecryptError, MalformedError
from neighbour.agent.cms.signed import read_certificates, sign, verify
from neighbour.agent.cms.structures import INTEGER, OCTETS, OID_DATA, SEQUENCE, SET, der, oid

#: The longest that one damaged message may hold up the event loop, seconds of CPU.
LIMIT = 0.05
MUTATIONS = 20_000


def signed_messages() -> list[tuple[bytes, bytes | None]]:
    found: list[tuple[bytes, bytes | None]] = []
    for kind in KINDS:
        for detached in (False, True):
            for attributes in (False, True):
                data = sign(CONTENT, person(kind), detached=detached, at=NOW, attributes=attributes)
                found.append((data, CONTENT if detached else None))
    by_key_id = sign(CONTENT, person("p256"), detached=True, at=NOW, by_key_id=True)
    return [*found, (by_key_id, CONTENT), (streamed(found[0][0]), None)]


def encrypted_messages() -> list[bytes]:
    people = [person("p256").certificate, person("rsa").certificate]
    return [
        encrypt(CONTENT, people[:1]),
        encrypt(CONTENT, people[1:]),
        encrypt(CONTENT, people[1:], oaep=False),
        encrypt(CONTENT, people, by_key_id=True),
        encrypt(CONTENT, people[:1], cipher=enveloped.AES_128_CBC),
        encrypt(CONTENT, people[1:], cipher=enveloped.AES_256_CBC, oaep=False),
        streamed(encrypt(CONTENT, people)),
    ]


# Every byte in its turn.


@pytest.mark.parametrize("number", range(len(KINDS) * 4 + 2))
def test_each_byte_of_a_signed_message(number: int) -> None:
    """It is refused, or it is the same: what was changed was not what is signed."""
    data, content = signed_messages()[number]
    kind = KINDS[min(number // 4, 3)] if number < len(KINDS) * 4 else "p256"
    alice = person(kind)
    accepted = 0
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF):
            damaged = data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]
            try:
                found = verify(damaged, content)
            except CmsError:
                continue
            accepted += 1
            assert [one.content for one in found] == [CONTENT]
            # A damaged certificate still has the key; whether it is one is for the path to say.
            assert found[0].certificate.public_key() == alice.certificate.public_key()
    assert accepted < len(data) * 3 / 2  # the greater part of what is there is certificates


@pytest.mark.parametrize("attributes", [False, True])
def test_each_byte_around_a_known_signer(attributes: bool) -> None:
    """With the signer's certificate from elsewhere, few bytes are left that do not count."""
    alice = person("p256")
    data = sign(CONTENT, alice, detached=False, at=NOW, chain=False, attributes=attributes)
    known = data.index(b"\xa0\x82", 30)
    certificate = range(known, known + 4 + int.from_bytes(data[known + 2 : known + 4], "big"))
    loose = set()
    for at in range(len(data)):
        for mask in (1, 2, 4, 8, 16, 32, 64, 128, 255):
            damaged = data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]
            try:
                (found,) = verify(damaged, None, signed_by(alice))
            except CmsError:
                continue
            assert found.content == CONTENT
            if found.certificate == alice.certificate and at not in certificate:
                loose.add(at)
    # The versions, and the list of hashes that RFC 5652 section 5.1 has for who reads in one pass.
    assert len(loose) <= 20, sorted(loose)


@pytest.mark.parametrize("number", range(4))
def test_each_byte_of_a_sealed_message(number: int) -> None:
    data = encrypted_messages()[number]
    find = finder(person("p256"), person("rsa"))
    for at in range(len(data)):
        for mask in (0x01, 0x80, 0xFF) if number in {0, 3} else (0x01,):
            damaged = data[:at] + bytes((data[at] ^ mask,)) + data[at + 1 :]
            try:
                assert decrypt(damaged, find) == CONTENT
            except CmsError:
                continue


# At random.


def mutated(data: bytes, chance: random.Random, others: list[bytes]) -> bytes:
    found = bytearray(data)
    for _ in range(chance.choice((1, 1, 1, 2, 3, 8))):
        at = chance.randrange(len(found) + 1)
        way = chance.randrange(8)
        if way == 0 and at < len(found):
            found[at] ^= 1 << chance.randrange(8)
        elif way == 1 and at < len(found):
            found[at] = chance.choice((0, 1, 0x7F, 0x80, 0x81, 0x82, 0x84, 0xFF, 0x24, 0x30, 0x31, 0xA0))
        elif way == 2:
            del found[at : at + chance.randrange(1, 40)]
        elif way == 3:
            found[at:at] = chance.randbytes(chance.randrange(1, 40))
        elif way == 4:
            found[at:at] = found[at : at + chance.randrange(1, 200)] * chance.randrange(1, 4)
        elif way == 5:
            del found[at:]
        elif way == 6:
            other = chance.choice(others)
            start = chance.randrange(len(other))
            found[at : at + chance.randrange(200)] = other[start : start + chance.randrange(200)]
        elif at < len(found):
            found[at] = (found[at] + chance.choice((-1, 1))) % 256
    return bytes(found)


def test_mutations() -> None:
    """Only CmsError comes out, nothing altered is taken for signed or sealed, and none takes long."""
    chance = random.Random(20261121)
    signed, encrypted = signed_messages(), encrypted_messages()
    tagged = {0, 1, 2, 3, 6}
    everything = [one for one, _ in signed] + encrypted
    find = finder(person("p256"), person("rsa"))
    keys = [person(kind).certificate.public_key() for kind in KINDS]
    counts = {"refused": 0, "same": 0, "malleable": 0}
    slowest = 0.0
    for _ in range(MUTATIONS):
        number = chance.randrange(len(everything))
        data = mutated(everything[number], chance, everything)
        started = time.process_time()
        for peek in (kind_of, read_certificates, to_der):
            with suppress(CmsError):
                peek(data)
        try:
            if number < len(signed):
                found = verify(data, signed[number][1])
                assert {one.content for one in found} == {CONTENT}
                assert all(one.certificate.public_key() in keys for one in found)
                counts["same"] += 1
            else:
                content = decrypt(data, find)
                # What has no tag can be changed; that is why it counts for nothing alone.
                if number - len(signed) in tagged:
                    assert content == CONTENT
                    counts["same"] += 1
                else:
                    counts["malleable"] += 1
        except CmsError:
            counts["refused"] += 1
        slowest = max(slowest, time.process_time() - started)
    assert slowest < LIMIT * 3, slowest  # three peeks and one reading
    assert counts["refused"] > MUTATIONS * 0.8, counts
    assert counts["same"] > 100, counts


@given(st.binary(max_size=300))
@settings(max_examples=500, deadline=None)
def test_any_bytes(data: bytes) -> None:
    for read in READERS:
        with pytest.raises(CmsError):
            read(data)
    try:
        again = to_der(data)
    except CmsError:
        return
    assert to_der(again) == again


READERS: list[Callable[[bytes], object]] = [
    kind_of,
    read_certificates,
    lambda data: verify(data, None),
    lambda data: verify(data, CONTENT, lambda _: person("p256").certificate),
    lambda data: decrypt(data, lambda _: person("rsa")),
]


ELEMENTS = st.recursive(
    st.tuples(st.sampled_from([0x02, 0x03, 0x04, 0x05, 0x06, 0x17, 0x18, 0x80, 0x81]), st.binary(max_size=12)).map(
        lambda one: der(one[0], one[1])
    ),
    lambda inner: st.tuples(
        st.sampled_from([0x30, 0x31, 0xA0, 0xA1, 0xA2, 0x24]), st.lists(inner, max_size=6), st.booleans()
    ).map(lambda one: bytes((one[0], 0x80)) + b"".join(one[1]) + b"\0\0" if one[2] else der(one[0], *one[1])),
    max_leaves=30,
)


@given(
    st.sampled_from(["1.2.840.113549.1.7.2", "1.2.840.113549.1.7.3", "1.2.840.113549.1.9.16.1.23"]),
    st.lists(ELEMENTS, max_size=6),
)
@settings(max_examples=500, deadline=None)
def test_any_elements(kind: str, parts: list[bytes]) -> None:
    data = der(SEQUENCE, oid(kind), der(0xA0, der(SEQUENCE, *parts)))
    for read in READERS[2:]:
        with pytest.raises(CmsError):
            read(data)
    try:
        again = to_der(data)
    except CmsError:
        return
    assert to_der(again) == again


# Made to take long.


def wide(element: bytes, size: int) -> bytes:
    return element * ((size - 100) // len(element))


def heavy_messages() -> list[tuple[str, bytes]]:
    signed_oid, enveloped_oid = oid("1.2.840.113549.1.7.2"), oid("1.2.840.113549.1.7.3")
    one = der(INTEGER, b"\x01")
    certificate = person("rsa").certificate
    issuer = der(SEQUENCE, der(SEQUENCE), one)
    agreed = der(SEQUENCE, issuer, der(OCTETS, bytes(24)))
    point = der(0xA0, der(0xA1, der(SEQUENCE, oid("1.2.840.10045.2.1")), der(0x03, bytes(66))))
    way = der(SEQUENCE, oid("1.3.132.1.11.1"), der(SEQUENCE, oid("2.16.840.1.101.3.4.1.5")))
    content = der(
        SEQUENCE, OID_DATA, der(SEQUENCE, oid("2.16.840.1.101.3.4.1.2"), der(OCTETS, bytes(16))), der(0x80, bytes(16))
    )
    transported = der(SEQUENCE, one, issuer, der(SEQUENCE, oid("1.2.840.113549.1.1.1"), b"\5\0"), der(OCTETS, bytes(8)))
    room = MAX_SIZE_BYTES - 300
    return [
        ("empty elements", der(SEQUENCE, wide(b"\5\0", MAX_SIZE_BYTES))),
        ("indefinite ones", b"\x30\x80" * 30_000),
        ("strings in strings", b"\x24\x80" * 30_000),
        ("pieces", b"\x30\x80" + b"\x24\x80" + wide(b"\4\0", MAX_SIZE_BYTES) + b"\0\0\0\0"),
        ("hashes", der(SEQUENCE, signed_oid, der(0xA0, der(SEQUENCE, one, der(SET, wide(b"\x30\0", room)))))),
        (
            "certificates",
            der(
                SEQUENCE,
                signed_oid,
                der(0xA0, der(SEQUENCE, one, der(SET), der(SEQUENCE, OID_DATA), der(0xA0, wide(b"\x30\0", room)), der(SET))),
            ),
        ),
        (
            "agreed keys",
            der(SEQUENCE, enveloped_oid, der(0xA0, der(SEQUENCE, one, der(SET, der(0xA1, one, point, way, der(SEQUENCE, wide(agreed, room)))), content))),
        ),
        (
            "transported keys",
            der(SEQUENCE, enveloped_oid, der(0xA0, der(SEQUENCE, one, der(SET, wide(transported, room)), content))),
        ),
        ("64 recipients", encrypt(CONTENT, [certificate] * 64)),
        ("nothing but length", b"\x30\x84\xff\xff\xff\xff" + bytes(60_000)),
    ]  # fmt: skip


@pytest.mark.parametrize("number", range(10))
def test_heavy_messages(number: int) -> None:
    name, data = heavy_messages()[number]
    assert len(data) <= MAX_SIZE_BYTES, name
    for read in READERS:
        started = time.process_time()
        if read is kind_of or name == "64 recipients":
            with suppress(CmsError):
                read(data)
        else:
            with pytest.raises(CmsError):
                read(data)
        assert time.process_time() - started < LIMIT, name


def test_rsa_of_many_bits() -> None:
    """A key that takes long is refused before it is used."""
    modulus = (1 << 16_383) + 1
    public = rsa.RSAPublicNumbers(65_537, modulus).public_key()
    name = x509.Name([])
    big = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(public)
        .serial_number(1)
        .not_valid_before(NOW)
        .not_valid_after(NOW)
        .sign(person("p256").key, hashes.SHA256())
    )
    data = by_hand(kind="rsa", algorithm=RSA, bag=der(0xA0))
    started = time.process_time()
    with pytest.raises(CmsError, match="another kind"):
        verify(data, CONTENT, lambda _: big)
    with pytest.raises(CmsError, match="another kind"):
        encrypt(CONTENT, [big])
    assert time.process_time() - started < LIMIT


def test_decryption_has_one_error() -> None:
    """Whatever byte of the keys and the ciphertext is damaged: one class and one text, unless the form is broken."""
    find = finder(person("p256"), person("rsa"))
    for number in (0, 1):
        data = encrypted_messages()[number]
        texts = set()
        for at in range(len(data)):
            try:
                decrypt(data[:at] + bytes((data[at] ^ 1,)) + data[at + 1 :], find)
            except DecryptError as error:
                texts.add(str(error))
            except CmsError:
                pass
        assert texts == {"it cannot be decrypted"}
    with pytest.raises(MalformedError):
        decrypt(b"", find)
