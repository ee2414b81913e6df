"""What alice and bob really send, and the examples that are made of it: ``python -m fuzzing.sending`` writes them.

Signatures differ each time, and the examples in the repository are from one such run. They hold for as long as the
keys (`people`) and the messages here stay as they are; where one changes, all of them have to be written again.
"""

import base64
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from fuzzing.people import DATE, KINDS, NOW, people
from neighbour.agent.aib import identity_body, read
from neighbour.agent.cms import enveloped
from neighbour.agent.cms.signed import certificates_only, sign
from neighbour.agent.credential import Credential
from neighbour.agent.mime import Entity, multipart, of_message, to_message
from neighbour.agent.smime import Seal
from sipwire.message import Request, Response, parse

__all__ = ["ANSWER", "CONTENT", "INVITE", "OTHER", "REQUESTS", "Known", "known", "write"]

#: Signed by alice with each of her keys, for messages by themselves; and by mallory.
CONTENT = b"Content-Type: text/plain\r\n\r\nIt is I.\r\n"
OTHER = b"Content-Type: text/plain\r\n\r\nIt is not alice.\r\n"
_SDP = (
    b"v=0\r\no=- 3921467810 1 IN IP4 192.0.2.10\r\ns=-\r\nc=IN IP4 192.0.2.10\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\n"
)


def _request(method: str, number: int, kind: bytes, body: bytes) -> bytes:
    made = Request(method, b"sip:bob@b.example")
    made.add("Via", b"SIP/2.0/TLS a.example;branch=z9hG4bKf%d" % number)
    made.add("Max-Forwards", b"70")
    made.add("From", b'"Alice" <sip:alice@a.example>;tag=f%d' % number)
    made.add("To", b"<sip:bob@b.example>")
    made.add("Call-ID", b"fuzz%d" % number)
    made.add("CSeq", b"%d %s" % (number, method.encode()))
    if method != "MESSAGE":
        made.add("Contact", b"<sip:alice@192.0.2.10:5060>")
    if kind:
        made.set_body(kind, body)
    return made.serialize()


INVITE = _request("INVITE", 1, b"application/sdp", _SDP)
REQUESTS = (INVITE, _request("MESSAGE", 2, b"text/plain", b"hello"), _request("INVITE", 3, b"", b""))


def _answer() -> bytes:
    made = Response(200, b"OK")
    asked = parse(INVITE)
    made.fields = [one for one in asked.fields if one[0] in {"via", "from", "call-id", "cseq"}]
    made.add("To", b"<sip:bob@b.example>;tag=t1")
    made.add("Contact", b"<sip:bob@192.0.2.20:5060>")
    made.set_body(b"application/sdp", _SDP.replace(b"192.0.2.10", b"192.0.2.20"))
    return made.serialize()


#: Bob's, to INVITE.
ANSWER = _answer()


# What alice has signed of bodies.


@dataclass(frozen=True)
class Known:
    """What is found in a body that alice has signed.

    Attributes:
        headers: the signed headers as `Message.fields` has them, None where there are none.
        body: the entity, None where nothing but headers is signed.
    """

    headers: tuple[tuple[str, bytes], ...] | None
    body: bytes | None


def _identity(message: bytes) -> bytes:
    return identity_body(parse(message), DATE)


def _entity(message: bytes) -> Entity | None:
    found = parse(message)
    return of_message(found) if found.body else None


def _tunnel() -> bytes:
    """All of INVITE as a signed body (RFC 3261 section 23.4)."""
    message = parse(INVITE)
    message.set("Date", DATE)
    return Entity.make([("Content-Type", b"message/sip")], message.serialize()).raw


def _known_of(identity: bytes, body: Entity | None) -> Known:
    headers, inside = read(Entity.parse(identity))
    body = inside or body
    return Known(tuple(headers.fields), None if body is None else body.raw)


@cache
def known() -> frozenset[Known]:
    """All that alice and bob have signed."""
    found = {_known_of(_identity(one), _entity(one)) for one in (*REQUESTS, ANSWER)}
    found.add(_known_of(_identity(INVITE), None))  # the headers alone
    return frozenset(found | {Known(None, CONTENT), _known_of(_tunnel(), None)})


# The examples.

_SIZE_BYTES = 2


def _der(one: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return one.public_bytes(Encoding.DER)


def _open_ended(data: bytes) -> bytes:
    """The same message as one would write it who does not know its size before."""
    at = 2 + (data[1] & 0x7F if data[1] & 0x80 else 0)
    return b"\x30\x80" + data[at:] + b"\0\0"


def _cms() -> dict[str, bytes]:
    everybody = people()
    bob, bob_rsa = everybody.bob.certificate, everybody.bob_rsa.certificate
    found = {}
    for kind in KINDS:
        alice = everybody.alice[kind]
        found[f"signed-{kind}"] = sign(CONTENT, alice, detached=False, at=NOW)
        found[f"detached-{kind}"] = sign(CONTENT, alice, detached=True, at=NOW, chain=False)
        found[f"bare-{kind}"] = sign(CONTENT, alice, detached=kind == "rsa", at=NOW, chain=False, attributes=False)
    alice = everybody.alice["p256"]
    found["by-key-id"] = sign(CONTENT, alice, detached=True, at=NOW, by_key_id=True)
    found["open-ended"] = _open_ended(found["signed-p256"])
    found["another"] = sign(OTHER, everybody.mallory, detached=False, at=NOW)
    found["certificates"] = certificates_only([bob, everybody.intermediate.certificate])
    for cipher in (enveloped.AES_128_GCM, enveloped.AES_256_GCM, enveloped.AES_128_CBC):
        found[f"{cipher}-p256"] = enveloped.encrypt(CONTENT, [bob], cipher=cipher)
        found[f"{cipher}-rsa"] = enveloped.encrypt(CONTENT, [bob_rsa], cipher=cipher, oaep="gcm" in cipher)
    found["two"] = enveloped.encrypt(CONTENT, [bob, bob_rsa], by_key_id=True)
    return found


def _seal(message: bytes, signer: Credential | None, *recipients: Credential) -> Entity:
    to = [one.certificate for one in recipients]
    seal = Seal(signer, to, enveloped.AES_128_GCM, NOW)
    return seal.close(_entity(message), _identity(message))


def _opaque(content: bytes, signer: Credential) -> Entity:
    headers = [("Content-Type", b"application/pkcs7-mime;smime-type=signed-data")]
    return Entity.make(headers, sign(content, signer, detached=False, at=NOW))


def _signed(content: bytes, signer: Credential) -> bytes:
    signature = Entity.make(
        [("Content-Type", b"application/pkcs7-signature")], sign(content, signer, detached=True, at=NOW)
    )
    kind, body = multipart(
        b"multipart/signed", (content, signature.raw), b';protocol="application/pkcs7-signature";micalg=sha-256'
    )
    return Entity.make([("Content-Type", kind)], body).raw


def _mime() -> dict[str, bytes]:
    alice, bob = people().alice["p256"], people().bob
    body = _entity(INVITE)
    assert body is not None
    opaque = _opaque(CONTENT, alice)
    coded = opaque.headers[0][1] + b"\r\nContent-Transfer-Encoding: base64"
    beside, mixed = multipart(b"multipart/mixed", (body.raw, _signed(_identity(INVITE), alice)))
    plain, pair = multipart(b"multipart/mixed", (body.raw, _identity(INVITE)))
    return {
        "signed": _seal(INVITE, alice).raw,
        "sealed": _seal(INVITE, alice, bob).raw,
        "encrypted": _seal(REQUESTS[1], None, bob).raw,
        "no-body": _seal(REQUESTS[2], alice).raw,
        "opaque": opaque.raw,
        "base64": b"Content-Type: " + coded + b"\r\n\r\n" + _folded(opaque.body),
        "tunnel": _signed(_tunnel(), alice),
        "beside": b"Content-Type: " + beside + b"\r\n\r\n" + mixed,
        "unsigned": b"Content-Type: " + plain + b"\r\n\r\n" + pair,
        "forged": _signed(CONTENT, alice).replace(b"It is I.", b"It is X."),
        "identity": _identity(INVITE),
        "other-cseq": _identity(INVITE).replace(b"CSeq: 1 ", b"CSeq: 7 "),
        "whole": _tunnel(),
        "text": CONTENT,
        "empty-part": b'Content-Type: multipart/mixed; boundary="a"\r\n\r\nx\r\n--a\r\n--a \r\n\r\n--a--b\r\n--a--\r\n',
    }


def _folded(data: bytes) -> bytes:
    return base64.encodebytes(data).replace(b"\n", b"\r\n")


def _x509() -> dict[str, bytes]:
    everybody = people()
    above, crl = _der(everybody.intermediate.certificate), _der(everybody.crl)
    leaves = {
        "alice": everybody.alice["p256"],
        "rsa": everybody.bob_rsa,
        "domain": everybody.domain,
        "carol": everybody.carol,
        "stranger": everybody.stranger,
    }
    found: dict[str, tuple[bytes, ...]]
    found = {name: (_der(one.certificate), above, crl) for name, one in leaves.items()}
    found["authorities"] = (_der(everybody.root.certificate), above)
    found["list"] = (crl,)
    found["p384"] = (_der(everybody.alice["p384"].certificate),)
    found["forged"] = (found["alice"][0].replace(b"sip:alice", b"sip:peter"), above, crl)
    found["forged-list"] = (_der(everybody.carol.certificate), above, crl.replace(b"260601120000Z", b"260601120001Z"))
    return {
        name: b"".join(len(part).to_bytes(_SIZE_BYTES, "big") + part for part in parts) for name, parts in found.items()
    }


def _whole(message: bytes, entity: Entity) -> bytes:
    found = parse(message)
    found.set("Date", DATE)
    to_message(found, entity)
    return found.serialize()


def _sealed() -> dict[str, bytes]:
    alice, bob = people().alice["p256"], people().bob
    content = _content(INVITE)
    return {
        "invite": _whole(INVITE, _seal(INVITE, alice, bob)),
        "message": _whole(REQUESTS[1], _seal(REQUESTS[1], alice, people().bob_rsa)),
        "no-body": _whole(REQUESTS[2], _seal(REQUESTS[2], alice, bob)),
        "signed": _whole(INVITE, _seal(INVITE, alice)),
        "answer": _whole(ANSWER, _seal(ANSWER, bob, alice)),
        "moved": _whole(REQUESTS[2], _seal(INVITE, alice, bob)),
        "plain": INVITE,
        "plaintext": b"\1" + _seal(INVITE, alice).raw,
        "opaque": b"\1" + _opaque(content, alice).raw,
        "tunnel": b"\1" + _signed(_tunnel(), alice),
        "beside": b"\1" + _mime()["beside"],
        "by-mallory": b"\2\0" + content,
        "by-carol": b"\2\1" + content,
        "by-stranger": b"\2\2" + _tunnel(),
        "by-bob": b"\2\3" + content,
        "answered": b"\3" + _seal(ANSWER, bob).raw,
    }


def _content(message: bytes) -> bytes:
    """Body and AIB together, as they are signed."""
    entity = _entity(message)
    assert entity is not None
    kind, body = multipart(b"multipart/mixed", (entity.raw, _identity(message)))
    return Entity.make([("Content-Type", kind)], body).raw


def write(folder: Path) -> None:
    """Write all examples."""
    for name, examples in (("cms", _cms()), ("mime", _mime()), ("x509", _x509()), ("sealed", _sealed())):
        (folder / name).mkdir(exist_ok=True)
        for example, data in examples.items():
            (folder / name / example).write_bytes(data)


if __name__ == "__main__":
    write(Path(__file__).resolve().parent / "seeds")
