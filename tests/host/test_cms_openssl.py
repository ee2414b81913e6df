"""Messages of CMS both ways with ``openssl cms``: what it makes we read, and what we make it reads."""

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from people import NOW, person

from neighbour.agent.cms import enveloped
from neighbour.agent.cms.enveloped import decrypt, encrypt, kind_of
from neighbour.agent.cms.errors import CmsError, DecryptError, MalformedError, SignatureError
from neighbour.agent.cms.signed import SignerId, certificates_only, read_certificates, sign, verify
from neighbour.agent.credential import Credential

OPENSSL = shutil.which("openssl")
pytestmark = pytest.mark.skipif(OPENSSL is None, reason="there is no openssl")

CONTENT = b"Content-Type: application/sdp\r\n\r\nv=0\r\n" + bytes(range(256)) * 5
KINDS = ["p256", "p384", "rsa", "rsa-pss"]
CIPHERS = [enveloped.AES_128_GCM, enveloped.AES_256_GCM, enveloped.AES_128_CBC, enveloped.AES_256_CBC]


def openssl(*arguments: str | Path, fails: bool = False) -> bytes:
    assert OPENSSL
    done = subprocess.run([OPENSSL, *map(str, arguments)], capture_output=True, check=False)
    assert (done.returncode != 0) is fails, done.stderr.decode(errors="replace")
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The people's certificates and keys as files, and the content."""
    found = tmp_path_factory.mktemp("people")
    for kind, name in itertools.product(("p256", "p384", "rsa"), ("alice", "bob")):
        one = person(kind, name)
        (found / f"{name}-{kind}.crt").write_bytes(one.certificate.public_bytes(Encoding.PEM))
        (found / f"{name}-{kind}.key").write_bytes(one.key_pem())
        (found / f"{name}-{kind}.root").write_bytes(one.chain[0].public_bytes(Encoding.PEM))
    (found / "content").write_bytes(CONTENT)
    return found


def find_signer(one: Credential):
    return lambda signer: one.certificate if signer.matches(one.certificate) else None


def find_recipient(*known: Credential):
    return lambda rid: next((one for one in known if rid.matches(one.certificate)), None)


# openssl signs.


def signed_by_openssl(folder: Path, kind: str, *options: str, name: str = "alice") -> bytes:
    key = kind.removesuffix("-pss")
    arguments = ["-signer", folder / f"{name}-{key}.crt", "-inkey", folder / f"{name}-{key}.key", *options]
    if kind == "rsa-pss":
        arguments[4:4] = ["-keyopt", "rsa_padding_mode:pss"]
    return openssl("cms", "-sign", "-binary", "-outform", "DER", "-in", folder / "content", *arguments)


# OpenSSL 3.0 puts the content inside whenever it streams, and can't stream with PSS.
FORMS = [
    (kind, form) for kind in KINDS for form in ("opaque", "detached", "stream") if (kind, form) != ("rsa-pss", "stream")
]


@pytest.mark.parametrize(("kind", "form"), FORMS)
@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("by_key_id", [False, True])
@pytest.mark.parametrize("certificates", [False, True])
def test_it_signs(folder: Path, kind: str, form: str, attributes: bool, by_key_id: bool, certificates: bool) -> None:
    detached, stream = form == "detached", form == "stream"
    options = [
        *([] if detached else ["-nodetach"]),
        *([] if attributes else ["-noattr"]),
        *(["-keyid"] if by_key_id else []),
        *([] if certificates else ["-nocerts"]),
        *(["-stream"] if stream else []),
        "-md", "sha256",
    ]  # fmt: skip
    data = signed_by_openssl(folder, kind, *options)
    assert (b"\x30\x80" in data[:2]) is stream
    assert kind_of(data) == "signed-data"
    alice = person(kind.removesuffix("-pss"))
    beside = CONTENT if detached else None
    (found,) = verify(data, beside, find_signer(alice))
    assert found.content == CONTENT
    assert found.certificate == alice.certificate
    assert found.certificates == ((alice.certificate,) if certificates else ())
    assert (found.signed_at is not None) is attributes
    if not certificates:
        with pytest.raises(SignatureError, match="missing"):
            verify(data, beside)
    if detached:
        with pytest.raises(SignatureError):
            verify(data, CONTENT + b"\r\n", find_signer(alice))
    else:
        at = data.index(CONTENT[-20:])
        with pytest.raises(SignatureError):
            verify(data[:at] + b"\xff" + data[at + 1 :], None, find_signer(alice))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("digest", ["sha384", "sha512"])
@pytest.mark.parametrize("attributes", [False, True])
def test_it_signs_with_other_hashes(folder: Path, kind: str, digest: str, attributes: bool) -> None:
    data = signed_by_openssl(folder, kind, "-md", digest, *([] if attributes else ["-noattr"]))
    assert verify(data, CONTENT)[0].content == CONTENT


@pytest.mark.parametrize("salt", ["digest", "max", "auto", "0", "20"])
def test_it_signs_with_salt(folder: Path, salt: str) -> None:
    data = signed_by_openssl(folder, "rsa-pss", "-md", "sha256", "-keyopt", f"rsa_pss_saltlen:{salt}")
    assert verify(data, CONTENT)[0].content == CONTENT


@pytest.mark.parametrize("kind", ["p256", "rsa"])
def test_it_signs_with_sha1(folder: Path, kind: str) -> None:
    data = signed_by_openssl(folder, kind, "-md", "sha1")
    assert verify(data, CONTENT, sha1=True)[0].content == CONTENT
    with pytest.raises(CmsError, match="digest algorithm"):
        verify(data, CONTENT)


@pytest.mark.parametrize("stream", [False, True])
def test_two_sign(folder: Path, tmp_path: Path, stream: bool) -> None:
    """Two signers, then a third on top; of which one is then altered."""
    first = tmp_path / "first"
    more = ["-signer", folder / "bob-rsa.crt", "-inkey", folder / "bob-rsa.key", "-nodetach"]
    first.write_bytes(signed_by_openssl(folder, "p256", *map(str, more), *(["-stream"] if stream else [])))
    found = verify(first.read_bytes(), None)
    assert {one.certificate for one in found} == {person("p256").certificate, person("rsa", "bob").certificate}
    third = openssl(
        "cms", "-resign", "-inform", "DER", "-outform", "DER", "-binary", "-in", first,
        "-signer", folder / "alice-p384.crt", "-inkey", folder / "alice-p384.key",
    )  # fmt: skip
    assert len(verify(third, None)) == 3
    with pytest.raises(SignatureError, match="signature"):
        verify(third[:-1] + bytes((third[-1] ^ 1,)), None)


def test_it_makes_certificates_only(folder: Path, tmp_path: Path) -> None:
    data = openssl(
        "crl2pkcs7", "-nocrl", "-outform", "DER",
        "-certfile", folder / "alice-p256.crt", "-certfile", folder / "bob-rsa.crt",
    )  # fmt: skip
    wanted = {person("p256").certificate, person("rsa", "bob").certificate}
    assert set(read_certificates(data)) == wanted
    ours = tmp_path / "ours"
    ours.write_bytes(certificates_only(list(wanted)))
    listed = openssl("pkcs7", "-inform", "DER", "-in", ours, "-print_certs")
    assert listed.count(b"BEGIN CERTIFICATE") == 2


# We sign.


@pytest.mark.parametrize("kind", ["p256", "p384", "rsa"])
@pytest.mark.parametrize("detached", [False, True])
@pytest.mark.parametrize("attributes", [False, True])
@pytest.mark.parametrize("by_key_id", [False, True])
@pytest.mark.parametrize("chain", [False, True])
def test_we_sign(
    folder: Path, tmp_path: Path, kind: str, detached: bool, attributes: bool, by_key_id: bool, chain: bool
) -> None:
    message = tmp_path / "message"
    message.write_bytes(
        sign(CONTENT, person(kind), detached=detached, at=NOW, chain=chain, attributes=attributes, by_key_id=by_key_id)
    )
    check = ["cms", "-verify", "-binary", "-inform", "DER", "-in", message, "-CAfile", folder / f"alice-{kind}.root"]
    check += ["-purpose", "any", "-attime", str(int(NOW.timestamp()))]
    if detached:
        check += ["-content", folder / "content"]
    assert openssl(*check) == CONTENT
    # It reads every field of it, and not only what it checks.
    printed = openssl("cms", "-cmsout", "-print", "-noout", "-inform", "DER", "-in", message)
    assert (b"subjectKeyIdentifier" in printed.split(b"signerInfos")[1]) is by_key_id
    if detached:
        other = tmp_path / "other"
        other.write_bytes(CONTENT + b"!")
        openssl(*check[:-1], other, fails=True)


# openssl encrypts.

RECIPIENTS = {
    "v1.5": ["rsa"],
    "oaep": ["rsa", "-keyopt", "rsa_padding_mode:oaep"],
    "oaep-sha256": ["rsa", "-keyopt", "rsa_padding_mode:oaep", "-keyopt", "rsa_oaep_md:sha256"],
    "ecdh": ["p256"],
    "ecdh-sha256": ["p256", "-keyopt", "ecdh_kdf_md:sha256"],
    "ecdh-sha384": ["p256", "-keyopt", "ecdh_kdf_md:sha384"],
}


@pytest.mark.parametrize("to", RECIPIENTS)
@pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-192-cbc", "aes-256-cbc", "aes-128-gcm", "aes-256-gcm"])
@pytest.mark.parametrize("by_key_id", [False, True])
@pytest.mark.parametrize("stream", [False, True])
def test_it_encrypts(folder: Path, to: str, cipher: str, by_key_id: bool, stream: bool) -> None:
    kind, *options = RECIPIENTS[to]
    data = openssl(
        "cms", "-encrypt", "-binary", "-outform", "DER", f"-{cipher}", "-in", folder / "content",
        *(["-keyid"] if by_key_id else []), *(["-stream"] if stream else []),
        "-recip", folder / f"alice-{kind}.crt", *options,
    )  # fmt: skip
    assert (data[1] == 0x80) is stream
    assert kind_of(data) == ("auth-enveloped-data" if cipher.endswith("gcm") else "enveloped-data")
    alice, bob = person(kind), person(kind, "bob")
    assert decrypt(data, find_recipient(alice)) == CONTENT
    with pytest.raises(DecryptError):
        decrypt(data, find_recipient(bob))
    if cipher.endswith("gcm"):
        with pytest.raises(DecryptError):
            decrypt(data, lambda _: bob)
        with pytest.raises(CmsError):
            decrypt(data[:-6] + bytes((data[-6] ^ 1,)) + data[-5:], find_recipient(alice))


@pytest.mark.parametrize("cipher", ["aes-128-cbc", "aes-256-gcm"])
@pytest.mark.parametrize("stream", [False, True])
def test_it_encrypts_to_several(folder: Path, cipher: str, stream: bool) -> None:
    people = ["alice-p256", "bob-rsa", "bob-p256", "alice-rsa"]
    recipients = itertools.chain.from_iterable(("-recip", folder / f"{one}.crt") for one in people)
    data = openssl(
        "cms", "-encrypt", "-binary", "-outform", "DER", f"-{cipher}", "-in", folder / "content",
        *(["-stream"] if stream else []), *recipients,
        *([] if cipher.endswith("gcm") else ["-pwri_password", "secret"]),  # it can't do both
        "-secretkey", "000102030405060708090a0b0c0d0e0f", "-secretkeyid", "00",
    )  # fmt: skip
    for name in people:
        who, kind = name.split("-")
        assert decrypt(data, find_recipient(person(kind, who))) == CONTENT
    with pytest.raises(DecryptError):
        decrypt(data, find_recipient(person("p256", "carol")))


# We encrypt.


@pytest.mark.parametrize(
    ("kinds", "oaep"),
    [
        (["p256"], True),
        (["rsa"], True),
        (["rsa"], False),
        (["p256", "p256"], True),
        (["p256", "rsa", "rsa"], True),
        (["rsa", "p256"], False),
    ],
)
@pytest.mark.parametrize("cipher", CIPHERS)
@pytest.mark.parametrize("by_key_id", [False, True])
def test_we_encrypt(folder: Path, tmp_path: Path, kinds: list[str], oaep: bool, cipher: str, by_key_id: bool) -> None:
    names = [f"{name}-{kind}" for kind, name in zip(kinds, ("alice", "bob", "alice"), strict=False)]
    people = [person(name.split("-")[1], name.split("-")[0]) for name in names]
    message = tmp_path / "message"
    message.write_bytes(
        encrypt(CONTENT, [one.certificate for one in people], cipher=cipher, oaep=oaep, by_key_id=by_key_id)
    )
    read = ["cms", "-decrypt", "-binary", "-inform", "DER", "-in", message]
    for name in names:
        who = ["-recip", folder / f"{name}.crt", "-inkey", folder / f"{name}.key"]
        assert openssl(*read, *who) == CONTENT
    if cipher.endswith("gcm"):
        message.write_bytes(message.read_bytes()[:-1] + bytes((message.read_bytes()[-1] ^ 1,)))
        openssl(*read, *who, fails=True)


def test_signed_and_encrypted(folder: Path, tmp_path: Path) -> None:
    """One inside of the other, made by it and read by us, and the other way round."""
    inner = tmp_path / "inner"
    inner.write_bytes(signed_by_openssl(folder, "p256", "-nodetach"))
    outer = openssl(
        "cms", "-encrypt", "-binary", "-outform", "DER", "-aes-128-gcm", "-in", inner, "-recip", folder / "bob-p256.crt"
    )
    opened = decrypt(outer, find_recipient(person("p256", "bob")))
    assert verify(opened, None)[0].content == CONTENT

    ours = sign(CONTENT, person("p256"), detached=False, at=NOW)
    outer_path = tmp_path / "outer"
    outer_path.write_bytes(encrypt(ours, [person("p256", "bob").certificate]))
    who = ["-recip", folder / "bob-p256.crt", "-inkey", folder / "bob-p256.key"]
    inner.write_bytes(openssl("cms", "-decrypt", "-binary", "-inform", "DER", "-in", outer_path, *who))
    assert inner.read_bytes() == ours
    check = ["cms", "-verify", "-binary", "-inform", "DER", "-in", inner, "-CAfile", folder / "alice-p256.root"]
    assert openssl(*check, "-purpose", "any", "-attime", str(int(NOW.timestamp()))) == CONTENT


def test_other_kinds_of_message(folder: Path) -> None:
    """What CMS has besides is not for us."""
    for options in (["-data_create"], ["-digest_create", "-md", "sha256"]):
        data = openssl("cms", *options, "-binary", "-outform", "DER", "-in", folder / "content")
        for read in (kind_of, read_certificates, lambda one: decrypt(one, lambda _: None)):
            with pytest.raises(CmsError, match="another kind of message"):
                read(data)


def test_old_ciphers(folder: Path) -> None:
    data = openssl(
        "cms",
        "-encrypt",
        "-binary",
        "-outform",
        "DER",
        "-des3",
        "-in",
        folder / "content",
        "-recip",
        folder / "alice-rsa.crt",
    )
    with pytest.raises(CmsError, match="content encryption algorithm"):
        decrypt(data, find_recipient(person("rsa")))


def test_text_is_no_message(folder: Path) -> None:
    pem = openssl("cms", "-sign", "-outform", "PEM", "-in", folder / "content", "-signer", folder / "alice-p256.crt", "-inkey", folder / "alice-p256.key")  # fmt: skip
    with pytest.raises(MalformedError):
        verify(pem, CONTENT)


def test_names(folder: Path) -> None:
    """It names a signer as we do."""
    seen: list[SignerId] = []
    for options in ([], ["-keyid"]):
        with pytest.raises(SignatureError):
            verify(signed_by_openssl(folder, "p256", "-nocerts", *options), CONTENT, seen.append)
    by_issuer, by_key_id = seen
    assert by_issuer.serial == person("p256").certificate.serial_number
    assert by_issuer.key_id is None
    assert by_key_id.issuer is None
    assert by_key_id.matches(person("p256").certificate)
