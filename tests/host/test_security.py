"""Two security agents, with somebody between them: what one seals the other opens, or refuses and says why."""

import asyncio
import itertools
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from agents import Agent, Trunk, account, configured
from cryptography import x509
from pki import DNS, NOW, URI, authority, leaf, usage

from neighbour.agent.aib import format_date, identity_body
from neighbour.agent.cms import enveloped, signed
from neighbour.agent.cms.signed import read_certificates
from neighbour.agent.credential import Credential
from neighbour.agent.mime import Entity, multipart, of_message, to_message
from neighbour.agent.policy import HEAVY, MEDIUM, Status, Wish
from neighbour.agent.security import Received, Sent
from neighbour.refusal import RefusedError
from neighbour.store.accounts import DOMAIN, Account
from sipwire.errors import ParseError
from sipwire.message import Request, Response, parse

ROOT = authority("root")
MIDDLE = authority("middle", ROOT)
NOW_S = int(NOW.timestamp())
SDP = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\n"
ANSWER = b"v=0\r\no=- 2 2 IN IP4 192.0.2.2\r\ns=-\r\n"
LACKING = "heavy security is demanded, and the body is not signed and encrypted, with its headers"


def credential(*names: x509.GeneralName, **more: object) -> Credential:
    made = leaf(MIDDLE, names=names, **more)
    return Credential(made.certificate, made.key, (MIDDLE.certificate,))


def of_domain(name: str) -> Credential:
    return credential(URI(f"sip:{name}"), DNS(name))


def of_user(aor: str) -> Credential:
    return credential(URI(aor))


A, B, C = (of_domain(f"{one}.example") for one in "abc")
ALICE, BOB, MALLORY = of_user("sip:alice@a.example"), of_user("sip:bob@b.example"), of_user("sip:mallory@c.example")
SUPPORT = of_user("sip:support@b.example")


def chain(one: Credential) -> tuple[x509.Certificate, ...]:
    return one.certificate, *one.chain


#: A trunk's certificate is another than the one that signs for the domain.
TLS_A, TLS_B = of_domain("a.example"), of_domain("b.example")
TO_A, TO_B = Trunk("a.example", shown=chain(TLS_A)), Trunk("b.example", shown=chain(TLS_B))
GROUP = '[[group]]\nuri = "sip:support@b.example"\nmembers = ["bob"]\n'


@dataclass
class World:
    """The agents of a.example and b.example."""

    a: Agent
    b: Agent

    def seal(self, request: Request, by: Account | None = None, **more: object) -> tuple[Request, Sent]:
        by = by or account("alice")
        wish = self.a.asked(request, by)
        sealed, sent = asyncio.run(self.a.seal_request(request, wish, by, TO_B, "b.example", **more))
        return over_the_wire(sealed), sent

    def open(self, request: Request, to: Account | None = None, callee: str = "bob") -> Received:
        return self.b.open_request(request, to or account("bob"), callee, TO_A, "a.example")

    def answer(self, response: Response, received: Received, by: Account | None = None) -> Response:
        return over_the_wire(self.b.seal_response(response, received, by, TO_A))

    def take(self, response: Response, sent: Sent) -> Status:
        return self.a.open_response(response, sent, TO_B, "b.example")


def over_the_wire(message: Request | Response) -> Request | Response:
    return parse(message.serialize())


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., World]:
    def make(level: str = "heavy", *, own: bool = True, a: str = "", b: str = "", more: str = GROUP) -> World:
        security = f'level = "{level}"\n'
        of_a = configured(tmp_path, "a.example", security=security + a)
        of_b = configured(tmp_path, "b.example", security=security + b, more=more)
        mine = {"alice": ALICE} if own else {}
        theirs = {"bob": BOB, "support": SUPPORT} if own else {}
        roots = [ROOT.certificate]
        return World(
            Agent(of_a, roots, {"": A, "@tls": TLS_A, **mine}, NOW_S),
            Agent(of_b, roots, {"": B, "@tls": TLS_B, **theirs}, NOW_S),
        )

    return make


@pytest.fixture
def world(make: Callable[..., World]) -> World:
    return make()


def request(
    method: str = "INVITE", body: bytes = SDP, *, to: bytes = b"Bob <sip:bob@b.example>", more: bytes = b""
) -> Request:
    kind = b"Content-Type: application/sdp\r\n" if body else b""
    found = parse(
        b"%b sip:bob@b.example SIP/2.0\r\nVia: SIP/2.0/TLS a.example;branch=z9hG4bK1\r\nMax-Forwards: 70\r\n"
        b'From: "Alice" <sip:alice@a.example>;tag=11\r\nTo: %b\r\nContact: <sip:alice@192.0.2.1>\r\n'
        b"Call-ID: 1@a.example\r\nCSeq: 4711 %b\r\n%b%bContent-Length: %d\r\n\r\n%b"
        % (method.encode(), to, method.encode(), more, kind, len(body), body)
    )
    assert isinstance(found, Request)
    return found


def response(of: Request, status: int = 200, body: bytes = ANSWER) -> Response:
    made = of.response(status, "OK", b"22")
    made.add("Contact", b"<sip:bob@192.0.2.2>")
    if body:
        made.set_body(b"application/sdp", body)
    return made


def refused(work: Callable[[], object], status: int, reason: str) -> RefusedError:
    with pytest.raises(RefusedError) as caught:
        work()
    told = dict(caught.value.headers)["Warning"].decode()
    assert (caught.value.status, reason) == (status, re.sub(r'^399 \S+ "(.*)"$', r"\1", told)[: len(reason)])
    return caught.value


# There and back.


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize(
    ("method", "body"),
    [
        ("INVITE", SDP),
        ("INVITE", b""),
        ("UPDATE", SDP),
        ("UPDATE", b""),
        ("MESSAGE", b"Hello!"),
        ("INFO", b"some body"),
        ("ACK", SDP),
    ],
)
def test_heavy(make: Callable[..., World], method: str, body: bytes, own: bool) -> None:
    world = make(own=own)
    asked = request(method, body)
    before = asked.serialize()
    sealed, sent = world.seal(asked)
    assert asked.serialize() == before
    assert sent == Sent(HEAVY, Wish(), b"sip:bob@b.example", is_sealed=True)
    assert (sealed.get("content-type") or b"").startswith(b"application/pkcs7-mime;smime-type=auth-enveloped-data")
    assert sealed.get("date") == format_date(NOW_S)
    assert not body or body not in sealed.serialize()
    received = world.open(sealed)
    told = b'level=heavy;verified="sip:alice@a.example";by="a.example";signed;encrypted;tls'
    assert received.status.serialize() == told
    assert sealed.body == body
    assert sealed.get("content-type") == (b"application/sdp" if body else None)
    world.b.check_answer(received, account("bob"), "bob", TO_A)
    if method == "ACK":
        return
    made = response(sealed)
    kept = made.serialize()
    answered = world.answer(made, received, account("bob"))
    assert made.serialize() == kept
    assert ANSWER not in answered.serialize()
    status = world.take(answered, sent)
    assert status.serialize() == b'level=heavy;verified="sip:bob@b.example";by="b.example";signed;encrypted;tls'
    assert answered.body == ANSWER
    assert answered.get("content-type") == b"application/sdp"
    signs = {
        name: one.metrics.asymmetric.labels(name).value
        for one in (world.a,)
        for name in ("sign", "verify", "encrypt", "decrypt")
    }
    assert signs == {"sign": 1, "verify": 1, "encrypt": 1, "decrypt": 1}


@pytest.mark.parametrize("method", ["OPTIONS", "BYE", "CANCEL", "PRACK", "ACK"])
def test_what_has_nothing_to_protect(world: World, method: str) -> None:
    asked = request(method, b"")
    sealed, sent = world.seal(asked)
    assert sealed.serialize() == asked.serialize()
    assert not sent.is_sealed
    assert world.open(sealed).status == Status(MEDIUM, by="a.example", tls=True)


ASSISTED: list[tuple[bytes, bool, bool, bytes]] = [
    # What the caller asks for at medium; signed, encrypted; what the callee is told.
    (b"", False, False, b'level=medium;by="a.example";tls'),
    (b"sign", True, False, b'level=medium;verified="sip:alice@a.example";by="a.example";signed;tls'),
    (b"encrypt", False, True, b'level=medium;by="a.example";encrypted;tls'),
    (b"sign,encrypt", True, True, b'level=heavy;verified="sip:alice@a.example";by="a.example";signed;encrypted;tls'),
    (
        b"sign;level=heavy",
        True,
        True,
        b'level=heavy;verified="sip:alice@a.example";by="a.example";signed;encrypted;tls',
    ),
    (b"none", False, False, b'level=medium;by="a.example";tls'),
]


@pytest.mark.parametrize(("line", "signs", "encrypts", "told"), ASSISTED)
def test_medium(make: Callable[..., World], line: bytes, signs: bool, encrypts: bool, told: bytes) -> None:
    world = make("medium")
    sealed, sent = world.seal(request(more=b"Security-Assist: " + line + b"\r\n" if line else b""))
    assert sent.is_sealed is (signs or encrypts)
    received = world.open(sealed)
    assert received.status.serialize() == told
    assert sealed.body == SDP
    answered = world.answer(response(sealed), received, account("bob"))
    status = world.take(answered, sent)
    assert (status.signed, status.encrypted) == (signs, encrypts)
    assert answered.body == ANSWER


SPEAKERS: list[tuple[str, Account | None, bytes]] = [
    ("its own", account("bob"), b"sip:bob@b.example"),
    ("its domain, by choice", account("bob", signer=DOMAIN), b"sip:bob@b.example"),
    ("its domain, as nobody's phone", None, b"sip:bob@b.example"),
    ("another user, diverted here", account("dave"), b"sip:bob@b.example"),
]


@pytest.mark.parametrize(("name", "who", "verified"), SPEAKERS, ids=[row[0] for row in SPEAKERS])
@pytest.mark.parametrize(
    "to",
    [b"Bob <sip:bob@b.example>", b"<sip:bob@b.example>", b'"Bob" <sip:bob@B.example>', b"<sips:bob@b.example:5061>"],
)
def test_who_answers(world: World, name: str, who: Account | None, verified: bytes, to: bytes) -> None:
    sealed, sent = world.seal(request(to=to))
    received = world.open(sealed)
    answered = world.answer(response(sealed), received, who)
    assert world.take(answered, sent).verified == verified


def test_a_group_answers(world: World) -> None:
    asked = request(to=b"<sip:support@b.example>")
    asked.uri = b"sip:support@b.example"
    sealed, sent = world.seal(asked)
    received = world.open(sealed, account("bob", signer="support"), "support")
    answered = world.answer(response(sealed), received, account("bob", signer="support"))
    assert world.take(answered, sent).verified == b"sip:support@b.example"


def test_a_group_that_one_is_not_in(world: World) -> None:
    sealed, _ = world.seal(request())
    received = world.open(sealed)
    refused(
        lambda: world.answer(response(sealed), received, account("bob", signer="sales")),
        488,
        "bob is not in the group sales",
    )


@pytest.mark.parametrize(("who", "verified"), [(account("bob"), b"sip:bob@b.example"), (None, None)])
def test_diverted(world: World, who: Account | None, verified: bytes | None) -> None:
    """The call was for somebody at c.example, who has sent it on to Bob."""
    sealed, sent = world.seal(request(to=b"Carol <sip:carol@c.example>"))
    assert sent.recipient == b"sip:bob@b.example"
    received = world.open(sealed)
    answered = world.answer(response(sealed), received, who)
    if verified is not None:
        assert world.take(answered, sent).verified == verified
        return
    refused(lambda: world.take(answered, sent), 403, "To is not what was signed")  # the domain itself was not called


# What somebody on the way makes of a request.


def change(old: bytes, new: bytes) -> Callable[[Request], bytes]:
    return lambda sealed: sealed.serialize().replace(old, new)


def seal_anew(
    sealed: Request, body: Entity | None, signer: Credential | None, *, recipient: Credential = BOB, **identity: bytes
) -> Request:
    """The same request with another body, by somebody who can sign and encrypt as everybody can."""
    date = identity.get("date", sealed.get("date") or b"")
    aib = identity.get("aib", identity_body(sealed, date))
    raw = aib if body is None else multipart_of(body.raw, aib).raw
    if signer is not None:
        data = signed.sign(raw, signer, detached=True, at=datetime.fromtimestamp(NOW_S, UTC))
        p7s = Entity.make([("Content-Type", b"application/pkcs7-signature")], data)
        kind, inside = multipart(b"multipart/signed", [raw, p7s.raw], b';protocol="application/pkcs7-signature"')
        raw = Entity.make([("Content-Type", kind)], inside).raw
    data = enveloped.encrypt(raw, [recipient.certificate])
    made = sealed.copy()
    to_message(made, Entity.make([("Content-Type", b"application/pkcs7-mime;smime-type=auth-enveloped-data")], data))
    return made


def multipart_of(*parts: bytes) -> Entity:
    kind, body = multipart(b"multipart/mixed", parts)
    return Entity.make([("Content-Type", kind)], body)


def offer(text: bytes = SDP) -> Entity:
    return Entity.make([("Content-Type", b"application/sdp")], text)


def stripped(sealed: Request) -> Request:
    made = sealed.copy()
    to_message(made, offer())
    return made


def later(seconds: int) -> bytes:
    return format_date(NOW_S + seconds)


EVIL = offer(SDP.replace(b"192.0.2.1", b"192.0.2.66"))
OLD = credential(URI("sip:alice@a.example"), before=NOW.replace(year=2020), after=NOW.replace(year=2021))
OF_STRANGER = leaf(authority("other root"), names=(URI("sip:alice@a.example"),))
STRANGER = Credential(OF_STRANGER.certificate, OF_STRANGER.key, ())
NO_SIGNER = credential(URI("sip:alice@a.example"), usage=usage("key_agreement"))

ATTACKS: list[tuple[str, Callable[[Request], Request | bytes], int, str]] = [
    ("From", change(b'<sip:alice@a.example>', b"<sip:boss@a.example>"), 403, "From is not what was signed"),
    ("From's name", change(b'"Alice"', b'"Boss"'), 403, "From is not what was signed"),
    ("From's tag", change(b"tag=11", b"tag=12"), 403, "From is not what was signed"),
    ("anonymous", change(b'"Alice" <sip:alice@a.example>', b"<sip:anonymous@anonymous.invalid>"), 403, "From is not what was signed"),
    ("To", change(b"Bob <sip:bob@b.example>", b"Bob <sip:dave@b.example>"), 403, "To is not what was signed"),
    ("Call-ID", change(b"Call-ID: 1@", b"Call-ID: 2@"), 403, "Call-ID is not what was signed"),
    ("CSeq", change(b"CSeq: 4711 ", b"CSeq: 4712 "), 403, "CSeq is not what was signed"),
    ("Contact", change(b"<sip:alice@192.0.2.1>", b"<sip:alice@192.0.2.66>"), 403, "Contact is not what was signed"),
    ("Date", change(b"Date: " + later(0), b"Date: " + later(1)), 403, "Date is not what was signed"),
    ("Replaces", change(b"CSeq:", b"Replaces: 1;to-tag=2;from-tag=3\r\nCSeq:"), 403, "Replaces is not what was signed"),
    ("no S/MIME any more", stripped, 488, LACKING),
    ("a body of one's own", lambda sealed: seal_anew(sealed, EVIL, None), 488, LACKING),
    ("signed by another", lambda sealed: seal_anew(sealed, EVIL, MALLORY), 403, "certificate of another identity"),
    ("signed by another domain", lambda sealed: seal_anew(sealed, EVIL, C), 403, "certificate of another identity"),
    ("signed by the callee", lambda sealed: seal_anew(sealed, EVIL, BOB), 403, "certificate of another identity"),
    ("signed with an old certificate", lambda sealed: seal_anew(sealed, EVIL, OLD), 403, "certificate expired"),
    ("signed by a stranger", lambda sealed: seal_anew(sealed, EVIL, STRANGER), 403, "certificate from an unknown CA"),
    ("signed by who may not", lambda sealed: seal_anew(sealed, EVIL, NO_SIGNER), 403, "certificate not for this purpose"),
    ("signed for another time", lambda sealed: seal_anew(sealed, offer(), ALICE, date=later(601)), 403, "Date is not what was signed"),
    ("signed without headers", lambda sealed: seal_anew(sealed, offer(), ALICE, aib=offer().raw), 488, LACKING),
    ("encrypted to another", lambda sealed: seal_anew(sealed, offer(), ALICE, recipient=MALLORY), 493, "it cannot be decrypted"),
    ("no envelope", change(b"smime-type=auth-enveloped-data", b"smime-type=signed-data"), 415, "S/MIME: another kind of message"),
    ("nothing", change(b"application/pkcs7-mime;smime-type=auth-enveloped-data;name=smime.p7m", b"multipart/signed;boundary=x"), 400, "MIME: no first boundary"),
    ("two types", change(b"Content-Disposition: attachment", b"Content-Disposition: x\r\nContent-Disposition: attachment"), 400, "MIME: second content-disposition"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "attack", "status", "reason"), ATTACKS, ids=[row[0] for row in ATTACKS])
def test_attacks(
    world: World, name: str, attack: Callable[[Request], Request | bytes], status: int, reason: str
) -> None:
    sealed, _ = world.seal(request())
    tampered = attack(sealed)
    found = tampered if isinstance(tampered, Request) else parse(tampered)
    before = found.serialize()
    error = refused(lambda: world.open(found), status, reason)
    assert status == 488 or found.serialize() == before
    assert bool(error.body) is (status == 493)
    if error.body:
        assert {*read_certificates(error.body)} == {*chain(BOB)}
    # What was refused does not keep the right one from being taken.
    assert world.open(sealed).status.level == HEAVY


def test_replayed(world: World) -> None:
    sealed, _ = world.seal(request())
    again = sealed.copy()
    world.open(sealed)
    refused(lambda: world.open(again.copy()), 403, "replayed: this message was here before")
    world.b.now += 601
    refused(lambda: world.open(again.copy()), 403, "Date is more than 10 minutes off")


def test_an_ack_may_come_again(world: World) -> None:
    sealed, _ = world.seal(request("ACK"))
    for _ in range(2):
        assert world.open(sealed.copy()).status.level == HEAVY


def test_without_mutual_tls(world: World) -> None:
    sealed, _ = world.seal(request())
    for trunk in (Trunk("a.example", protection="none"), Trunk()):
        refused(
            lambda trunk=trunk: world.b.open_request(sealed.copy(), account("bob"), "bob", trunk, "a.example"),
            488,
            "heavy security is demanded, and there is no mutual TLS with a.example",
        )
        refused(
            lambda trunk=trunk: asyncio.run(
                world.a.seal_request(request(), Wish(), account("alice"), trunk, "b.example")
            ),
            488,
            "heavy security is demanded, and there is no mutual TLS with b.example",
        )


SMUGGLED = [
    b"Content-Type: text/plain;\r\n x=\nP-Asserted-Identity: <sip:boss@b.example>\r\n\r\nHello!",
    b"Content-Type: text/plain\rSecurity-Status: level=heavy\r\n\r\nHello!",
    b"Content-Type: text/plain\r\nContent-Language:\r\n x\ny: z\r\n\r\nHello!",
]


@pytest.mark.parametrize("raw", SMUGGLED)
def test_headers_in_a_body_stay_there(world: World, raw: bytes) -> None:
    """Whoever may sign may not write headers that the callee's phone takes for ours."""
    sealed, _ = world.seal(request())
    body = Entity((), b"", raw)
    refused(lambda: world.open(seal_anew(sealed, body, ALICE)), 400, "MIME: malformed part header")


@pytest.mark.parametrize(
    ("encoding", "status", "reason"),
    [(b"quoted-printable", 415, "MIME: unknown content-transfer-encoding"), (b"base64", 400, "MIME: malformed base64")],
)
def test_a_body_that_nobody_can_read(world: World, encoding: bytes, status: int, reason: str) -> None:
    sealed, _ = world.seal(request())
    body = Entity.make([("Content-Type", b"text/plain"), ("Content-Transfer-Encoding", encoding)], b"Hello=21")
    refused(lambda: world.open(seal_anew(sealed, body, ALICE)), status, reason)


def test_each_byte_changed(world: World) -> None:
    """Refused with an answer of ours, never another error; or what the callee gets is what the caller has sent."""
    sealed, _ = world.seal(request())
    data = sealed.serialize()
    taken = 0
    for at, mask in itertools.product(range(data.index(b"From:"), len(data)), (0x01, 0x20, 0x80)):
        changed = bytearray(data)
        changed[at] ^= mask
        try:
            found = parse(bytes(changed))
        except ParseError:
            continue  # the neighbour refuses it before
        world.b._freshness._seen.clear()
        try:
            assert isinstance(found, Request)
            received = world.open(found)
        except (RefusedError, ParseError) as error:
            assert error.status in (400, 403, 415, 488, 493)  # noqa: PT017  or it is taken
        else:
            taken += 1
            assert found.body == SDP
            assert found.get("content-type") == b"application/sdp"
            assert received.status.verified == b"sip:alice@a.example"
            assert received.status.level == HEAVY
    assert taken < 1000


# What somebody on the way makes of an answer.

ANSWER_ATTACKS: list[tuple[str, bytes, bytes, int, str]] = [
    ("To", b"Bob <sip:bob@b.example>", b"Bob <sip:dave@b.example>", 403, "To is not what was signed"),
    ("To's tag", b"tag=22", b"tag=23", 403, "To is not what was signed"),
    ("Contact", b"<sip:bob@192.0.2.2>", b"<sip:bob@192.0.2.66>", 403, "Contact is not what was signed"),
    ("Call-ID", b"Call-ID: 1@", b"Call-ID: 2@", 403, "Call-ID is not what was signed"),
    ("CSeq", b"CSeq: 4711 ", b"CSeq: 4712 ", 403, "CSeq is not what was signed"),
    ("no envelope", b"smime-type=auth-enveloped-data", b"smime-type=signed-data", 415, "S/MIME: another kind of message"),
    ("another type", b"application/pkcs7-mime;smime-type=auth-enveloped-data", b"application/x-other", 488, LACKING),
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "old", "new", "status", "reason"), ANSWER_ATTACKS, ids=[row[0] for row in ANSWER_ATTACKS]
)
def test_attacks_on_answers(world: World, name: str, old: bytes, new: bytes, status: int, reason: str) -> None:
    sealed, sent = world.seal(request())
    received = world.open(sealed)
    answered = world.answer(response(sealed), received, account("bob"))
    tampered = parse(answered.serialize().replace(old, new))
    assert isinstance(tampered, Response)
    refused(lambda: world.take(tampered, sent), status, reason)


def test_a_request_for_an_answer(world: World) -> None:
    """What Bob has sealed for Alice as a request of his, with the same Call-ID, CSeq and tags."""
    sealed, sent = world.seal(request())
    received = world.open(sealed)
    answered = world.answer(response(sealed), received, account("bob"))
    his = parse(
        b"INVITE sip:alice@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/TLS b.example;branch=z9hG4bK2\r\nMax-Forwards: 70\r\n"
        b'From: Bob <sip:bob@b.example>;tag=22\r\nTo: "Alice" <sip:alice@a.example>;tag=11\r\n'
        b"Contact: <sip:bob@192.0.2.2>\r\nCall-ID: 1@a.example\r\nCSeq: 4711 INVITE\r\nContent-Type: application/sdp\r\n\r\n"
        + SDP
    )
    assert isinstance(his, Request)
    forged, _ = asyncio.run(world.b.seal_request(his, Wish(), account("bob"), TO_A, "a.example"))
    to_message(answered, of_message(forged))
    refused(lambda: world.take(answered, sent), 403, "To is signed, and this is an answer")


def test_an_answer_that_is_not_sealed(world: World) -> None:
    sealed, sent = world.seal(request())
    refused(lambda: world.take(response(sealed), sent), 488, LACKING)
    busy = response(sealed, 486, b"")
    assert world.take(busy, sent).level == MEDIUM


# Certificates that are missing, or others.


def test_the_certificate_of_a_493(world: World) -> None:
    lost = of_user("sip:bob@b.example")
    assert world.a.recipients.learn(b"sip:bob@b.example", lost.certificate, lost.chain)
    sealed, sent = world.seal(request())
    error = refused(lambda: world.open(sealed.copy()), 493, "it cannot be decrypted")
    answered = sealed.response(493, "Undecipherable", b"22")
    for name, value in error.headers:
        answered.add(name, value)
    answered.body = error.body
    answered.set("Content-Length", b"%d" % len(error.body))
    answered = over_the_wire(answered)
    assert isinstance(answered, Response)
    assert world.a.learn(answered, sent, TO_B)
    sealed, _ = world.seal(request())
    assert world.open(sealed).status.level == HEAVY
    assert not world.a.learn(response(sealed, 493, b""), sent, TO_B)
    assert not world.a.learn(response(sealed, 493, b"no certificate"), sent, TO_B)


@pytest.mark.parametrize("plain", [False, True])
def test_no_certificate(make: Callable[..., World], plain: bool) -> None:
    world = make(a='on_failure = "plain"' if plain else "", b='on_failure = "plain"' if plain else "")

    def work() -> tuple[Request, Sent]:
        trunk = Trunk("b.example")  # which shows no certificate
        return asyncio.run(world.a.seal_request(request(), Wish(), account("alice"), trunk, "b.example"))

    if not plain:
        refused(work, 488, "no certificate of sip:bob@b.example")
        return
    sent_on, sent = work()
    assert sent_on.body == SDP
    assert sent.plain == "no certificate of sip:bob@b.example"
    received = world.open(sent_on)
    assert received.status.serialize() == b'level=medium;by="a.example";tls;plain="not signed and encrypted"'
    status = world.take(world.answer(response(sent_on), received, account("bob")), sent)
    assert status.serialize() == b'level=medium;by="b.example";tls;plain="no certificate of sip:bob@b.example"'


def test_plain_is_no_way_around_a_check(make: Callable[..., World]) -> None:
    world = make(a='on_failure = "plain"', b='on_failure = "plain"')
    sealed, _ = world.seal(request())
    for name, attack, status, reason in ATTACKS:
        if reason != LACKING:
            tampered = attack(sealed)
            found = tampered if isinstance(tampered, Request) else parse(tampered)
            refused(lambda found=found: world.open(found), status, reason)
            assert name


def test_old_recipients(make: Callable[..., World]) -> None:
    world = make()
    world.a._config.peer.extend(
        configured(
            world.a._config.base,
            "x.example",
            more='[[peer]]\ndomain = "b.example"\naddress = "127.0.0.2:5061"\nprofile = "rfc3261"\nlevel = "heavy"',
        ).peer
    )
    sealed, _ = world.seal(request())
    assert enveloped.kind_of(sealed.body) == "enveloped-data"
    assert world.open(sealed).status.level == HEAVY


# Who hides, and who does all of it alone.


def test_anonymous(world: World) -> None:
    """A foreign user agent's: everything in a tunnel, and nobody outside."""
    inner = request(more=b"Date: " + later(0) + b"\r\n")
    data = signed.sign(
        raw := Entity.make([("Content-Type", b"message/sip")], inner.serialize()).raw, ALICE, detached=True, at=NOW
    )
    p7s = Entity.make([("Content-Type", b"application/pkcs7-signature")], data)
    kind, body = multipart(b"multipart/signed", [raw, p7s.raw], b';protocol="application/pkcs7-signature"')
    sealed = enveloped.encrypt(Entity.make([("Content-Type", kind)], body).raw, [BOB.certificate])
    outer = request(body=b"")
    outer.set("From", b"<sip:anonymous@anonymous.invalid>;tag=11")
    to_message(outer, Entity.make([("Content-Type", b"application/pkcs7-mime;smime-type=auth-enveloped-data")], sealed))
    again = outer.copy()
    received = world.open(outer)
    assert received.status.verified == received.sender == b"sip:alice@a.example"
    assert received.status.level == HEAVY
    assert outer.body == SDP
    world.b.check_answer(received, account("bob"), "bob", Trunk("a.example"))  # its certificate came along
    again.set("From", b"<sip:anonymous@anonymous.invalid>;tag=12")
    refused(lambda: world.open(again), 403, "From is not what was signed")


def test_alone(world: World) -> None:
    """Who does its own end-to-end security is sent, and gets, its bodies as they are."""
    mine, theirs = account("alice", assist="none"), account("bob", assist="none")
    body = enveloped.encrypt(offer().raw, [BOB.certificate])
    asked = request(body=b"")
    to_message(asked, Entity.make([("Content-Type", b"application/pkcs7-mime")], body))
    sealed, sent = world.seal(asked, mine)
    assert not sent.is_sealed
    assert sealed.serialize() == asked.serialize()
    received = world.open(sealed, theirs)
    assert sealed.serialize() == asked.serialize()
    assert received.status == Status(MEDIUM, by="a.example", tls=True)
    refused(lambda: world.seal(request(), mine), 488, "heavy security is demanded, and the body is not encrypted")
    refused(lambda: world.open(request(), theirs), 488, "heavy security is demanded, and the body is not encrypted")
