"""The CMS layer of the published S/MIME messages. What SIP makes of them is tested elsewhere."""

import base64
import json
from pathlib import Path

import pytest
from people import read_person

from neighbour.agent.cms.enveloped import RecipientId, decrypt, kind_of
from neighbour.agent.cms.errors import CmsError, DecryptError, SignatureError, UnsupportedError
from neighbour.agent.cms.signed import SignerId, verify
from neighbour.agent.credential import Credential

VECTORS = Path(__file__).resolve().parent.parent / "vectors"
RFC6216, GENERATED = VECTORS / "rfc6216", VECTORS / "smime_generated"


def index(folder: Path) -> dict[str, dict]:
    found = json.loads((folder / "index.json").read_text(encoding="utf-8"))
    return {Path(one["file"]).name: one for one in found["messages"]}


def split(message: bytes) -> list[bytes]:
    """The body of a message, or its parts with their headers; of a mixed one, those of its last part."""
    head, _, body = message.partition(b"\r\n\r\n")
    content_type = next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-type:"))
    if b"multipart/" not in content_type:
        return [body]
    boundary = content_type.partition(b"boundary=")[2].split(b";")[0].strip(b'"')
    _, *parts = (b"\r\n" + body).split(b"\r\n--" + boundary)
    parts = [part.removeprefix(b"\r\n") for part in parts if not part.startswith(b"--")]
    return split(parts[-1]) if b"multipart/mixed" in content_type else parts


def cms(part: bytes) -> bytes:
    """What is in a part of a body."""
    head, _, body = part.partition(b"\r\n\r\n")
    return base64.b64decode(body) if b"base64" in head.lower() else body


def finder(folder: Path, *names: str):
    people = [read_person(folder / "certs", name) for name in names]

    def find(rid: RecipientId) -> Credential | None:
        return next((one for one in people if rid.matches(one.certificate)), None)

    return find


def signer(folder: Path, *names: str):
    people = [read_person(folder / "certs", name).certificate for name in names]

    def find(sid: SignerId):
        return next((one for one in people if sid.matches(one)), None)

    return find


# RFC 6216.


@pytest.mark.parametrize("name", ["smime-msg.dat", "cms-smime-msg.dat"])
def test_rfc6216_signed(name: str) -> None:
    content, signature = split((RFC6216 / "msgs" / name).read_bytes())
    assert content == (RFC6216 / "msgs" / "smime-msg-what-got-signed.dat").read_bytes()
    assert content.decode() == index(RFC6216)[name]["plaintext"]
    find = signer(RFC6216, "fluffy_eku")
    (found,) = verify(cms(signature), content, find, sha1=True)
    assert found.certificate == read_person(RFC6216 / "certs", "fluffy_eku").certificate
    assert found.certificates == ()
    assert found.signed_at is None
    with pytest.raises(UnsupportedError, match="digest algorithm"):
        verify(cms(signature), content, find)
    with pytest.raises(SignatureError, match="missing"):
        verify(cms(signature), content, signer(RFC6216, "kumiko_eku"), sha1=True)
    with pytest.raises(SignatureError, match="signature"):
        verify(cms(signature), content.replace(b"Hello", b"hello"), find, sha1=True)
    damaged = cms(signature)[:-1] + b"\x00"
    with pytest.raises(SignatureError, match="signature"):
        verify(damaged, content, find, sha1=True)


def test_rfc6216_encrypted() -> None:
    (body,) = split((RFC6216 / "msgs" / "smime-encrypted.dat").read_bytes())
    assert kind_of(body) == "enveloped-data"
    wanted = index(RFC6216)["smime-encrypted.dat"]["plaintext"].encode()
    assert decrypt(body, finder(RFC6216, "fluffy_eku", "kumiko_eku")) == wanted
    with pytest.raises(DecryptError):
        decrypt(body, finder(RFC6216, "fluffy_eku"))


# Those made with OpenSSL.

MESSAGES = index(GENERATED)
#: Names of the index to those of its files.
PEOPLE = ("alice", "alice_ec", "alice_noeku", "alice_untrusted", "alice_expired", "mallory")


def read(name: str) -> list[bytes]:
    return split((GENERATED / "msgs" / name).read_bytes())


SIGNED = sorted(name for name, one in MESSAGES.items() if "signer_cert" in one and name != "bad_body_tampered.sip")
OPAQUE = {"signed_opaque.sip"}


def signed_of(name: str) -> tuple[bytes, bytes | None]:
    """A message's CMS and the content beside it."""
    parts = read(name)
    if name in OPAQUE:
        return parts[0], None
    content, signature = parts
    return cms(signature), content


@pytest.mark.parametrize("name", SIGNED)
def test_generated_signed(name: str) -> None:
    data, content = signed_of(name)
    expected = MESSAGES[name]["signer_cert"]
    found = verify(data, content, signer(GENERATED, expected))[0]
    assert found.certificate == read_person(GENERATED / "certs", expected).certificate
    plain = MESSAGES[name]["expect"].get("plaintext")
    if plain and "recipient" not in MESSAGES[name]:
        assert found.content.endswith(plain.encode())
    if content is not None:
        with pytest.raises(SignatureError, match="message digest"):
            verify(data, content + b" ", signer(GENERATED, expected))


def test_generated_signed_are_all_there() -> None:
    assert len(SIGNED) == 21
    assert {MESSAGES[name]["signer_cert"] for name in SIGNED} <= set(PEOPLE)


def test_generated_without_certificates() -> None:
    data, content = signed_of("signed_nocerts.sip")
    with pytest.raises(SignatureError, match="missing"):
        verify(data, content)


@pytest.mark.parametrize("name", sorted(one for one in MESSAGES if one.startswith("enc_")))
def test_generated_encrypted(name: str) -> None:
    (body,) = read(name)
    wanted = MESSAGES[name]["expect"]["plaintext"].encode()
    for recipient in MESSAGES[name]["recipient"].split(" or "):
        content = decrypt(body, finder(GENERATED, recipient))
        assert content.endswith(b"\r\n\r\n" + wanted)
        assert len(content) == 69
    with pytest.raises(DecryptError):
        decrypt(body, finder(GENERATED, "alice", "mallory"))


def test_generated_encrypted_then_signed() -> None:
    content, signature = read("encrypt_then_sign.sip")
    assert verify(cms(signature), content)[0].content == content
    assert decrypt(cms(content), finder(GENERATED, "bob")).endswith(b"Hello!")


def test_generated_sdp() -> None:
    (body,) = read("sdp_encrypted.sip")
    content = decrypt(body, finder(GENERATED, "bob"))
    assert len(content) == 269
    assert b"\r\nm=audio " in content


def test_generated_anonymous() -> None:
    name = "tunnel_encrypted_anonymous.sip"
    content, signature = read(name)
    assert verify(cms(signature), content)[0].content == content
    inner = decrypt(cms(content), finder(GENERATED, "bob"))
    assert len(inner) == 652
    assert b"sip:alice@example.com" in inner


def test_generated_not_for_bob() -> None:
    (body,) = read("bad_not_recipient.sip")
    with pytest.raises(DecryptError):
        decrypt(body, finder(GENERATED, "bob"))
    assert len(decrypt(body, finder(GENERATED, "bob", "carol"))) == 69


def test_generated_broken() -> None:
    content, signature = read("bad_body_tampered.sip")
    with pytest.raises(SignatureError, match="message digest"):
        verify(cms(signature), content)
    content, signature = read("bad_truncated_p7s.sip")
    with pytest.raises(CmsError):
        verify(cms(signature), content)
    (body,) = read("bad_garbage_der.sip")
    for one in (kind_of, lambda data: decrypt(data, finder(GENERATED, "bob"))):
        with pytest.raises(CmsError):
            one(body)
