"""Harnesses for the security agent: whatever comes, nothing is taken for signed that was not, and errors are its own.

    cms      signed and encrypted messages by themselves
    mime     bodies: cut into parts, opened, their signed headers read and compared
    x509     certificates, chains and lists of revoked ones, each after its size
    sealed   whole SIP messages, as they come over a trunk; or, after a byte that says so, what is inside of one:

        01      the plaintext, encrypted for bob as anybody can
        02 WHO  the signed content, signed by somebody who is not alice and then encrypted
        03      the plaintext of an answer, encrypted for alice

Alice has signed what `sending` says and nothing else.
"""

from contextlib import suppress
from datetime import datetime
from functools import cache
from typing import Any, cast

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fuzzing.packets import pieces
from fuzzing.people import DATE, NOW, people
from fuzzing.sending import ANSWER, CONTENT, INVITE, OTHER, REQUESTS, Known, known
from neighbour.agent import names
from neighbour.agent.aib import IntegrityError, compare, is_identity, read
from neighbour.agent.certificates import can_encrypt
from neighbour.agent.cms.certificates import MAX_CERTIFICATES, load_certificate, public_key
from neighbour.agent.cms.enveloped import RecipientId, decrypt, encrypt, kind_of
from neighbour.agent.cms.errors import CmsError
from neighbour.agent.cms.signed import SignerId, read_certificates, sign, verify
from neighbour.agent.credential import Credential
from neighbour.agent.freshness import Freshness
from neighbour.agent.mime import Entity, MimeError, multipart, of_message, to_message
from neighbour.agent.path import ENCRYPT, SIGN, PathError, Paths
from neighbour.agent.policy import HEAVY, MEDIUM, Wish
from neighbour.agent.recipients import Recipients
from neighbour.agent.revocation import Crl, Revocation, RevocationError, State
from neighbour.agent.security import SecurityAgent, Sent
from neighbour.agent.smime import Keys, open_sealed
from neighbour.agent.trust import Trust
from neighbour.config import Config
from neighbour.metrics import Metrics
from neighbour.refusal import RefusedError
from neighbour.transport.flow import Flow
from sipwire.errors import ParseError
from sipwire.message import Message, Request, Response, parse

__all__ = ["check_cms", "check_mime", "check_sealed", "check_x509"]

_ALICE, _BOB = b"sip:alice@a.example", b"sip:bob@b.example"
_MAX_CERTIFICATES = 6  # of an input: each is looked at as the leaf
_TO_BOB, _BY_ANOTHER, _TO_ALICE = 1, 2, 3
_TAGGED = "auth-enveloped-data"


def _der(one: x509.Certificate | x509.CertificateRevocationList) -> bytes:
    return one.public_bytes(Encoding.DER)


def _spki(certificate: x509.Certificate) -> bytes:
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


# Keys.


@cache
def _signed_by() -> dict[bytes, frozenset[bytes]]:
    """What each key has really signed, for `check_cms`."""
    found = {_spki(one.certificate): frozenset({CONTENT}) for one in people().alice.values()}
    return {**found, _spki(people().mallory.certificate): frozenset({OTHER})}


@cache
def _ours() -> tuple[Credential, ...]:
    everybody = people()
    return (everybody.bob, everybody.bob_rsa, everybody.alice["p256"])


def _find_credential(recipient: RecipientId) -> Credential | None:
    return next((one for one in _ours() if recipient.matches(one.certificate)), None)


def _find_certificate(signer: SignerId) -> x509.Certificate | None:
    return next((one.certificate for one in people().alice.values() if signer.matches(one.certificate)), None)


# Messages of CMS.


def check_cms(data: bytes) -> None:
    """`agent.cms`: what verifies was signed, by that key; what opens with a tag was sent; all else is a CmsError."""
    kind = ""
    try:
        kind = kind_of(data)
        assert kind in {"signed-data", "enveloped-data", _TAGGED}
        assert len(read_certificates(data)) <= MAX_CERTIFICATES
    except CmsError:
        pass
    for content in (None, CONTENT, OTHER):
        try:
            found = verify(data, content, _find_certificate)
        except CmsError:
            continue
        assert kind == "signed-data"
        assert found, "nobody has signed it"
        for one in found:
            assert content in {None, one.content}
            assert one.content in _signed_by().get(_spki(one.certificate), ()), "a forged signature was taken"
    try:
        plain = decrypt(data, _find_credential)
    except CmsError:
        return
    assert kind in {"enveloped-data", _TAGGED}
    # Without a tag, who can change it can change what comes out.
    assert kind != _TAGGED or plain in {CONTENT, OTHER}, "a forged message was opened"


# Bodies.


def _parts_again(body: bytes, boundary: bytes) -> list[bytes]:
    """The parts of a multipart read a second time, line by line."""
    parts: list[list[bytes]] = []
    lines = body.split(b"\r\n")
    for i, line in enumerate(lines):
        rest = line.removeprefix(b"--" + boundary) if line.startswith(b"--" + boundary) else b"x"
        if not rest.removeprefix(b"--").strip(b" \t") and rest[:2] == b"--":
            return [b"\r\n".join(part) for part in parts]
        if not rest.strip(b" \t") and i < len(lines) - 1:
            parts.append([])
        elif parts:
            parts[-1].append(line)
    raise AssertionError("it does not end")


def _check_entity(entity: Entity) -> None:
    """Cut a body into its parts, and put them together again."""
    try:
        parts = entity.parts()
    except MimeError:
        return
    raws = [part.raw for part in parts]
    assert raws == _parts_again(entity.body, entity.param("boundary") or b"")
    kind, body = multipart(b"multipart/mixed", raws)
    again = Entity.parse(Entity.make([("Content-Type", kind)], body).raw)
    assert [part.raw for part in again.parts()] == raws


def _check_tunnel(entity: Entity) -> None:
    """Compare signed headers with those of a message of alice's."""
    outer = parse(INVITE)
    try:
        if not is_identity(entity):
            return
        inner, body = read(entity)
        assert compare(inner, outer, hidden=False) == _ALICE
    except (MimeError, IntegrityError):
        return
    assert inner.call_id == outer.call_id
    assert (inner.cseq.number, inner.cseq.method) == (outer.cseq.number, outer.cseq.method)
    assert inner.to.uri == outer.to.uri
    assert body is None or entity.kind == b"message/sip"


def check_mime(data: bytes) -> None:
    """`agent.mime`, `smime`, `aib`: parts are where they are, and what counts as signed is what alice has signed."""
    try:
        entity = Entity.parse(data)
        assert entity.raw == data
        entity.content()
        assert entity.kind == entity.kind.lower()
        assert entity.disposition is not None
    except MimeError:
        pass
    else:
        _check_entity(entity)
        _check_tunnel(entity)
        message = Message()
        to_message(message, entity)
        assert message.body == entity.content()
        _check_opened(entity)


def _check_opened(entity: Entity) -> None:
    try:
        opened = open_sealed(entity, Keys(_find_credential, _find_certificate))
    except (MimeError, CmsError):
        return
    assert opened.signed <= bool(opened.signatures)
    if opened.signatures:
        headers = None if opened.headers is None else tuple(opened.headers.fields)
        if opened.signed:
            body = None if opened.entity is None else opened.entity.raw
            assert Known(headers, body) in known(), "a forged body was taken"
        elif headers is not None:
            assert headers in {one.headers for one in known()}, "forged headers were taken"


# Certificates.


@cache
def _issued() -> frozenset[bytes]:
    """What authorities have signed of the certificates that hold."""
    revoked = people().carol.certificate
    return frozenset(
        one.certificate.tbs_certificate_bytes for one in people().credentials() if one.certificate != revoked
    )


def _now() -> datetime:
    return NOW


def _check_lists(parts: list[bytes]) -> Revocation:
    """Read lists; returns them with the one that is right."""
    both, alone = Revocation(), Revocation()
    both.add(_der(people().crl))
    for part in parts:
        try:
            both.add(part)
            alone.add(part)
        except RevocationError:
            continue
    issuer = people().intermediate.certificate
    carol, bob = people().carol.certificate, people().bob.certificate
    assert both.status(carol, issuer, NOW).state is State.REVOKED
    assert both.status(bob, issuer, NOW).state is State.GOOD
    if alone.status(bob, issuer, NOW).state in {State.GOOD, State.REVOKED}:
        signed = people().crl.tbs_certlist_bytes
        assert any(signed in part for part in parts), "a forged list was taken"
    return both


def check_x509(data: bytes) -> None:
    """`agent.names`, `path`, `revocation`: no certificate counts, and no list, that an authority has not signed."""
    parts = pieces(data) or [data]
    certificates = []
    for part in parts[:_MAX_CERTIFICATES]:
        try:
            certificates.append(load_certificate(part)[0])
        except CmsError:
            continue
    paths = Paths([people().root.certificate], _check_lists(parts), Crl(), now=_now)
    others = [*certificates, people().intermediate.certificate]
    for certificate in certificates:
        assert all(user.startswith(b"sip:") and b"@" in user for user in names.users(certificate))
        assert all(domain == domain.lower() for domain in names.domains(certificate))
        assert names.proves(certificate, _ALICE) in {"", "user", "domain"}
        can_encrypt(certificate)
        with suppress(CmsError):
            public_key(certificate)
        for purpose in (SIGN, ENCRYPT):
            try:
                path = paths.validate(certificate, others, purpose)
            except PathError:
                continue
            assert certificate.tbs_certificate_bytes in _issued(), "a forged certificate was taken"
            assert path.chain[-1] == people().root.certificate
            assert all(one.tbs_certificate_bytes in _issued() for one in path.chain)


# Whole messages.


class _Certificates:
    """What `Certificates` does for the agent, out of memory."""

    def __init__(self, domain: str) -> None:
        self.domain = people().bob if domain == "b.example" else people().alice["p256"]

    def find(self, recipient: RecipientId) -> Credential | None:
        return _find_credential(recipient)

    def published(self, user: str) -> tuple[x509.Certificate, ...]:
        del user
        return (self.domain.certificate, *self.domain.chain)

    def directory(self, aor: bytes) -> None:
        del aor

    def listed(self) -> tuple[x509.Certificate, ...]:
        return ()


class _Trunk(Flow):
    """A trunk whose other end has shown who it is."""

    __slots__ = ("_domain",)
    protection = "tls"

    def __init__(self, domain: str) -> None:
        self._domain = domain

    def send(self, data: bytes) -> None:
        raise AssertionError("nothing is sent")

    @property
    def identities(self) -> frozenset[str]:
        return frozenset({self._domain})


async def _nothing(aor: bytes, flow: Flow) -> tuple[x509.Certificate, ...]:
    del aor, flow
    return ()


@cache
def _config(domain: str, level: str) -> Config:
    listen = [{"transport": "udp", "address": "127.0.0.1", "port": 5060}]
    tls = {"certificate": "c", "key": "k", "ca": ["r"]}
    return Config.model_validate({"domain": domain, "listen": listen, "tls": tls, "security": {"level": level}})


@cache
def _paths() -> Paths:
    revocation = Revocation()
    revocation.add(_der(people().crl))
    return Paths([people().root.certificate], revocation, Crl(), now=_now)


@cache
def _metrics() -> Metrics:
    return Metrics()


def _agent(domain: str, level: str) -> SecurityAgent:
    """One that has seen nothing yet."""
    certificates = cast("Any", _Certificates(domain))
    trust = Trust(_paths(), {})
    recipients = Recipients(certificates, trust, _nothing)
    return SecurityAgent(
        _config(domain, level), certificates, trust, recipients, Freshness(NOW.timestamp), _metrics(), NOW.timestamp
    )


def _sealed(head: bytes, content: bytes, recipient: Credential) -> bytes:
    """A message of alice's or bob's with another body: encrypted, as anybody can."""
    message = parse(head)
    kind = b"application/pkcs7-mime;smime-type=auth-enveloped-data"
    to_message(message, Entity.make([("Content-Type", kind)], encrypt(content, [recipient.certificate])))
    message.set("Date", DATE)
    return message.serialize()


def _signed(content: bytes, signer: Credential) -> bytes:
    """Content with somebody's signature, as multipart/signed."""
    signature = Entity.make(
        [("Content-Type", b"application/pkcs7-signature")], sign(content, signer, detached=True, at=NOW)
    )
    protocol = b';protocol="application/pkcs7-signature"'
    kind, body = multipart(b"multipart/signed", (content, signature.raw), protocol)
    return Entity.make([("Content-Type", kind)], body).raw


def _check_request(data: bytes, *, forged: bool) -> None:
    """A request at each level: it is refused, or it is as safe as that."""
    for level in (HEAVY, MEDIUM):
        agent = _agent("b.example", level)
        request = parse(data)
        assert isinstance(request, Request)
        is_protected = bool(request.body) or request.method in {"INVITE", "UPDATE", "MESSAGE"}
        try:
            received = agent.open_request(request, None, "bob", _Trunk("a.example"), "a.example")
        except (RefusedError, ParseError):
            continue
        with suppress(RefusedError):
            agent.check_answer(received, None, "", _Trunk("a.example"))
        status = received.status
        assert not is_protected or level == MEDIUM or status.verified, "heavy, and nobody has signed it"
        assert (status.level == HEAVY) <= bool(status.verified and status.signed and status.encrypted)
        if not status.verified:
            continue
        assert not forged, "another's signature was taken"
        assert status.verified == _ALICE, "another identity"
        _check_genuine(request, REQUESTS, is_body_signed=status.signed)
        if request.method != "ACK":
            try:
                agent.open_request(cast("Request", parse(data)), None, "bob", _Trunk("a.example"), "a.example")
            except RefusedError:
                continue
            raise AssertionError("it was taken twice")


def _check_response(data: bytes) -> None:
    for level in (HEAVY, MEDIUM):
        response = parse(data)
        assert isinstance(response, Response)
        sent = Sent(level, Wish(), _BOB)
        agent = _agent("a.example", level)
        assert agent.learn(response, sent, _Trunk("b.example")) in {False, True}
        try:
            status = agent.open_response(response, sent, _Trunk("b.example"), "b.example")
        except (RefusedError, ParseError):
            continue
        if response.body and response.status < 300:
            assert level == MEDIUM or status.verified, "heavy, and nobody has signed it"
        if status.verified:
            assert status.verified == _BOB, "another identity"
            _check_genuine(response, (ANSWER,), is_body_signed=status.signed)


def _check_genuine(message: Request | Response, sent: tuple[bytes, ...], *, is_body_signed: bool) -> None:
    """What is told to be somebody's is what they have sent; RFC 3893 allows to sign the headers alone."""
    for one in map(parse, sent):
        if one.call_id == message.call_id and one.cseq.method == message.cseq.method:
            assert one.cseq.number == message.cseq.number
            # RFC 3893 section 7: an answer's AIB says who answers, which need not be whom To names, and not whom: its
            # receiver knows by its transaction what it is an answer to.
            is_answer = isinstance(message, Response)
            assert is_answer or (one.from_.uri, one.to.uri) == (message.from_.uri, message.to.uri)
            # What else a Contact says is not compared, and where none is signed there may be one.
            assert _contacts(one) in ([], _contacts(message))
            is_same = of_message(one).raw == of_message(message).raw
            assert is_same or not is_body_signed, "a forged body was taken"
            return
    raise AssertionError("it was never sent")


def _contacts(message: Message) -> list[bytes]:
    return [one.uri for one in message.addresses("contact")]


def check_sealed(data: bytes) -> None:
    """`agent.security`: what is handed on as somebody's is what they have sent, once; else it is refused."""
    kind, forged = data[0] if data else 0, False
    if kind == _TO_BOB:
        data = _sealed(INVITE, data[1:], people().bob)
    elif kind == _BY_ANOTHER and len(data) > 1:
        others = (people().mallory, people().carol, people().stranger, people().bob)
        data = _sealed(INVITE, _signed(data[2:], others[data[1] % len(others)]), people().bob)
        forged = True
    elif kind == _TO_ALICE:
        data = _sealed(ANSWER, data[1:], people().alice["p256"])
    try:
        message = parse(data)
    except ParseError:
        return
    if isinstance(message, Request):
        _check_request(data, forged=forged)
    else:
        _check_response(data)
