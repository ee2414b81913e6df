"""Attacks on what goes between two neighbours at heavy, by somebody in the middle who has stolen both trunk keys.

Alice's terminal calls Bob's, and the attacker changes something on its way, or on the way of the answer. Each row of the
tables is refused with the reason that WIRE sections 2 and 3 name, Alice is told that, and Bob's terminal never rings
(for what is done to an answer: the call never comes about, and Bob's terminal is told that it is over).
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from calls.conftest import connect, make_terminal
from conftest import micropython
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from attacks.middle import BACK, FORTH, Message, Middle
from lab.lab import Lab
from lab.processes import LabError, Terminal
from neighbour.agent.aib import format_date, identity_body
from neighbour.agent.authority import Authority
from neighbour.agent.cms import enveloped, signed
from neighbour.agent.credential import Credential, read_credential
from neighbour.agent.mime import Entity, multipart, of_message, to_message
from neighbour.agent.smime import Seal
from sipwire.message import Request, Response, parse

_numbers = itertools.count()


@dataclass
class Scene:
    """Two domains at heavy, a terminal in each, and somebody between them."""

    lab: Lab
    middle: Middle
    alice: Terminal
    bob: Terminal
    authority: Authority
    stolen: dict[str, Credential]
    before: list[Request] = field(default_factory=list)
    answers: list[Message] = field(default_factory=list)

    def of(self, aor: str, **validity: datetime) -> Credential:
        """A certificate of the federation's authority."""
        if "@" in aor:
            return self.authority.issue_user(aor, **validity)
        return self.authority.issue_domain(aor.removeprefix("sip:"), **validity)

    def call(self, tamper: Callable[["Scene", Request], "list[Message]"]) -> dict:
        """Let Alice call while the attacker does something to her INVITE; returns what she is told."""
        written: dict[bytes, list[tuple[str, bytes]]] = {}

        def work(message: Message, direction: str) -> list[Message]:
            names = ("from", "to", "call-id", "cseq")
            if direction == FORTH and isinstance(message, Request) and message.method == "INVITE":
                written[message.via.branch] = [one for one in message.fields if one[0] in names]
                return tamper(self, message)
            if direction == BACK and isinstance(message, Response) and message.via.branch in written:
                # Whoever has changed these changes them back, so that the answer is taken for one.
                tag = message.to.tag
                kept = [one for one in message.fields if one[0] not in names]
                message.fields = kept + written[message.via.branch]
                if tag and not message.to.tag:
                    message.set("To", (message.get("to") or b"") + b";tag=" + tag)
                message.compact()
            return [message]

        self.middle.tamper = work
        marks = len(self.alice.lines), len(self.bob.lines)
        self.alice.send("call sip:bob@b.example")
        try:
            told = self.alice.wait_for("failed", 8, since=marks[0])
        except LabError:
            self.alice.send("hangup")  # the others are to be judged by themselves
            raise
        assert not [line for line in self.bob.lines[marks[1] :] if line.get("event") in ("incoming", "ringing")]
        self.middle.tamper = lambda message, direction: [message]
        return told


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, rom: Path) -> Iterator[Scene]:
    lab = Lab(tmp_path_factory.mktemp("trunk") / "lab", micropython(), str(rom))
    try:
        addresses = lab.make_domains("a.example", "b.example")
        between = lab.next_address()
        for name in addresses:
            lab.change(name, '# level = "medium"', 'level = "heavy"')
        lab.change("a.example", f'"{addresses["b.example"]}:5061"', f'"{between}:5061"')
        authority = Authority(lab.folder / "ca")
        alice_path = make_terminal(lab, "a.example", "alice", setup=_NO_KEYS)
        bob_path = make_terminal(lab, "b.example", "bob", setup=_NO_KEYS)
        keys = {name: (lab.folder / name / f"{name}.pem", lab.folder / name / f"{name}.key") for name in addresses}
        middle = Middle(
            between, addresses["b.example"], keys["b.example"], keys["a.example"], lab.folder / "ca" / "root.pem"
        )
        with middle:
            for name in addresses:
                lab.start_neighbour(name)
            alice, bob = lab.start_terminal(alice_path), lab.start_terminal(bob_path)
            for one in (alice, bob):
                one.wait_for("registered", 20)
            stolen = {name: read_credential(*paths) for name, paths in keys.items()}
            made = Scene(lab, middle, alice, bob, authority, stolen)
            connect(alice, bob)  # the way is good
            made.before = [one for _, one in middle.seen if isinstance(one, Request) and one.method == "INVITE"]
            mark = len(bob.lines)
            alice.send("hangup")
            bob.wait_for("ended", 10, since=mark)
            yield made
    finally:
        lab.stop()


# What an attacker can do to a request.


def header(name: str, value: str) -> Callable[[Scene, Request], list[Message]]:
    def work(scene: Scene, request: Request) -> list[Message]:
        request.set(name, value.replace("{tag}", request.from_.tag.decode()).encode())
        return [request]

    return work


def change(name: str, old: bytes, new: bytes) -> Callable[[Scene, Request], list[Message]]:
    def work(scene: Scene, request: Request) -> list[Message]:
        value = request.get(name) or b""
        assert old in value, (name, value)
        request.set(name, value.replace(old, new))
        return [request]

    return work


def body(edit: Callable[[bytes], bytes]) -> Callable[[Scene, Request], list[Message]]:
    def work(scene: Scene, request: Request) -> list[Message]:
        request.body = edit(request.body)
        request.set("Content-Length", b"%d" % len(request.body))
        return [request]

    return work


SDP = (
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 40000 RTP/SAVP 0\r\n"
    b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"
)


def plain(scene: Scene, request: Request) -> list[Message]:
    to_message(request, Entity.make([("Content-Type", b"application/sdp")], SDP))
    return [request]


def nothing(scene: Scene, request: Request) -> list[Message]:
    to_message(request, None)
    return [request]


def claims(scene: Scene, request: Request) -> list[Message]:
    request.add("Security-Status", b'level=heavy;verified="sip:alice@a.example";signed;encrypted;tls')
    return plain(scene, request)


def sealed(
    scene: Scene,
    request: Request,
    signer: Credential | None,
    *,
    sdp: bytes = SDP,
    date: datetime | None = None,
    identity: bytes = b"",
    recipient: str = "sip:bob@b.example",
) -> Request:
    """The request with a body of the attacker's, sealed as the neighbour of its user would."""
    when = format_date(int((date or datetime.now(UTC)).timestamp()))
    if date is not None:
        request.set("Date", when)
    request.set("Date", request.get("date") or when)
    aib = identity or identity_body(request, request.get("date") or when)
    certificate = scene.of(recipient).certificate if recipient != "sip:bob@b.example" else bobs(scene)
    seal = Seal(signer, (certificate,), enveloped.AES_128_GCM, datetime.now(UTC))
    to_message(request, seal.close(Entity.make([("Content-Type", b"application/sdp")], sdp), aib))
    return request


def bobs(scene: Scene) -> object:
    """What anybody can have: the certificate of Bob's neighbour."""
    return scene.stolen["b.example"].certificate


def by(aor: str, **validity: timedelta) -> Callable[[Scene, Request], list[Message]]:
    """Signed with somebody's certificate."""

    def work(scene: Scene, request: Request) -> list[Message]:
        at = {name: datetime.now(UTC) + delta for name, delta in validity.items()}
        return [sealed(scene, request, scene.of(aor, **at))]

    return work


def unsigned(scene: Scene, request: Request) -> list[Message]:
    return [sealed(scene, request, None)]


def for_another(scene: Scene, request: Request) -> list[Message]:
    return [sealed(scene, request, scene.of("sip:eve@a.example"), recipient="sip:mallory@c.example")]


def by_the_trunk_key(scene: Scene, request: Request) -> list[Message]:
    return [sealed(scene, request, scene.stolen["a.example"])]


def by_herself(scene: Scene, request: Request) -> list[Message]:
    other = Authority(scene.lab.folder / f"other{next(_numbers)}")
    other.create("Other")
    return [sealed(scene, request, other.issue_user("sip:alice@a.example"))]


def replayed(scene: Scene, request: Request) -> list[Message]:
    """The INVITE of an earlier call that was let through, whole, but for the branch that the answer is to find."""
    old = scene.before[0].copy()
    old.fields = [one for one in old.fields if one[0] != "via"]
    for value in reversed(request.values("via")):
        old.insert("Via", value)
    return [old]


def cut_and_pasted(scene: Scene, request: Request) -> list[Message]:
    """The sealed body of an earlier call."""
    to_message(request, of_message(scene.before[0]))
    return [request]


def dated(seconds: int) -> Callable[[Scene, Request], list[Message]]:
    """Signed by Alice's own key some time ago: whoever has a message of then that never arrived."""

    def work(scene: Scene, request: Request) -> list[Message]:
        folder = scene.lab.folder / "a.example" / "certificates"
        alice = read_credential(folder / "alice.pem", folder / "alice.key")
        return [sealed(scene, request, alice, date=datetime.now(UTC) + timedelta(seconds=seconds))]

    return work


def alices(scene: Scene) -> Credential:
    folder = scene.lab.folder / "a.example" / "certificates"
    return read_credential(folder / "alice.pem", folder / "alice.key")


def inside(edit: Callable[[bytes], bytes]) -> Callable[[Scene, Request], list[Message]]:
    """Changed within what Alice has signed: a recording of it could be opened, with Bob's domain's key."""

    def work(scene: Scene, request: Request) -> list[Message]:
        request = sealed(scene, request, alices(scene), sdp=b"k=0000\r\nc=IN IP4 192.0.2.1\r\n")
        opened = enveloped.decrypt(request.body, lambda recipient: scene.stolen["b.example"])
        changed = edit(opened)
        assert changed != opened
        data = enveloped.encrypt(changed, [scene.stolen["b.example"].certificate])
        headers = [(name, value) for name, value in of_message(request).headers]
        to_message(request, Entity.make([(name.title(), value) for name, value in headers], data))
        return [request]

    return work


def parts_swapped(data: bytes) -> bytes:
    """The two parts under the signature change places."""
    outer = Entity.parse(data)
    content, _ = outer.parts()
    first, second = content.parts()
    start, middle, end = content.raw.partition(first.raw)[0], b"", b""
    between = content.raw.partition(first.raw)[2].partition(second.raw)
    middle, end = between[0], between[2]
    return data.replace(content.raw, start + second.raw + middle + first.raw + end)


def signature_removed(data: bytes) -> bytes:
    return Entity.parse(data).parts()[0].raw


def another_signature(scene_signer: str) -> Callable[[Scene, Request], list[Message]]:
    """The signature replaced by one of somebody else's, over a changed body."""

    def work(scene: Scene, request: Request) -> list[Message]:
        request = sealed(scene, request, alices(scene))
        opened = Entity.parse(enveloped.decrypt(request.body, lambda recipient: scene.stolen["b.example"]))
        content = opened.parts()[0].raw.replace(b"40000", b"40002")
        signature = Entity.make(
            [("Content-Type", b"application/pkcs7-signature")],
            signed.sign(content, scene.of(scene_signer), detached=True, at=datetime.now(UTC)),
        )
        kind, data = multipart(
            b"multipart/signed",
            (content, signature.raw),
            b';protocol="application/pkcs7-signature";micalg=sha-256',
        )
        raw = Entity.make([("Content-Type", kind)], data).raw
        whole = enveloped.encrypt(raw, [scene.stolen["b.example"].certificate])
        headers = [(name.title(), value) for name, value in of_message(request).headers]
        to_message(request, Entity.make(headers, whole))
        return [request]

    return work


def self_signed(scene: Scene, request: Request) -> list[Message]:
    """A certificate that says it is Alice's, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "alice")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - DAY, now + DAY)
    names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier("sip:alice@a.example")])
    made = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    return [sealed(scene, request, Credential(made, key))]


#: What goes over the trunk is sealed in every call: else the second one would have a setup key.
_NO_KEYS = {"life_s": 0}
_SIGNED = "is not what was signed"
_DEMANDED = "heavy security is demanded"
_IDENTITY = "certificate of another identity"
DAY = timedelta(days=1)
REQUESTS = [
    ("From: another user", change("from", b"alice@", b"mallory@"), 403, f"From {_SIGNED}"),
    ("From: another domain", change("from", b"@a.example", b"@c.example"), 403, "From is not of the domain"),
    ("From: a name that people see", header("From", '"Your bank" <sip:alice@a.example>;tag={tag}'), 403, f"From {_SIGNED}"),
    ("From: another tag", header("From", "<sip:alice@a.example>;tag=other"), 403, f"From {_SIGNED}"),
    ("From: nobody", header("From", "<sip:anonymous@a.example>;tag={tag}"), 403, ""),
    ("To: another user", header("To", "<sip:dave@b.example>"), 403, f"To {_SIGNED}"),
    ("To: a name", header("To", '"Bob" <sip:bob@b.example>'), 403, f"To {_SIGNED}"),
    ("To: a parameter", header("To", "<sip:bob@b.example;user=phone>"), 403, f"To {_SIGNED}"),
    ("Call-ID", header("Call-ID", "of-another-call"), 403, f"Call-ID {_SIGNED}"),
    ("CSeq", header("CSeq", "4711 INVITE"), 403, f"CSeq {_SIGNED}"),
    ("Contact: another address", header("Contact", "<sip:mallory@192.0.2.66>"), 403, f"Contact {_SIGNED}"),
    ("Contact: one more", header("Contact", "<sip:a@192.0.2.1>, <sip:b@192.0.2.2>"), 403, f"Contact {_SIGNED}"),
    ("Date: a minute later", header("Date", format_date(int(datetime.now(UTC).timestamp()) + 60).decode()), 403, f"Date {_SIGNED}"),
    ("Date: malformed", header("Date", "tomorrow"), 403, "Date is malformed"),
    ("Replaces: added", header("Refer-To", "<sip:mallory@c.example>"), 403, "Refer-To"),
    ("signature and encryption stripped", plain, 488, _DEMANDED),
    ("body stripped", nothing, 488, _DEMANDED),
    ("stripped, with a claim", claims, 488, _DEMANDED),
    ("encrypted by the attacker, not signed", unsigned, 488, _DEMANDED),
    ("a bit of the ciphertext", body(lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]), 493, "decrypted"),
    ("the last byte of the tag", body(lambda data: data[:-1] + bytes([data[-1] ^ 1])), 493, "decrypted"),
    ("half of the body", body(lambda data: data[: len(data) // 2]), 400, "S/MIME"),
    ("noise", body(lambda data: b"\x30\x82\x10\x00" + data[4:]), 400, "S/MIME"),
    ("one more layer of nothing", body(lambda data: b""), 488, _DEMANDED),
    ("said to be text", header("Content-Type", "text/plain"), 488, _DEMANDED),
    ("said to be signed only", header("Content-Type", "application/pkcs7-mime;smime-type=signed-data"), 415, "S/MIME: another kind"),
    ("said to be a multipart", header("Content-Type", "multipart/signed;boundary=x"), 400, "MIME"),
    ("encrypted for somebody else", for_another, 493, "decrypted"),
    ("own signature: a third domain's user", by("sip:mallory@c.example"), 403, _IDENTITY),
    ("own signature: a third domain", by("sip:c.example"), 403, ""),
    ("own signature: another user of a.example", by("sip:eve@a.example"), 403, _IDENTITY),
    ("own signature: the stolen trunk key", by_the_trunk_key, 403, "signed with the key of the trunk"),
    ("own signature: an authority that nobody knows", by_herself, 403, "certificate from an unknown CA"),
    ("own signature: by itself", self_signed, 403, "certificate"),
    ("own signature: expired", by("sip:alice@a.example", not_before=-2 * DAY, not_after=-DAY), 403, "certificate expired"),
    ("own signature: not yet valid", by("sip:alice@a.example", not_before=DAY, not_after=2 * DAY), 403, "certificate not yet valid"),
    ("replayed whole", replayed, 403, "replayed"),
    ("cut and pasted from another call", cut_and_pasted, 403, _SIGNED),
    ("eleven minutes old", dated(-660), 403, "Date is more than 10 minutes off"),
    ("eleven minutes ahead", dated(660), 403, "Date is more than 10 minutes off"),
    ("from before the neighbour's start", dated(-500), 403, "Date is before our start"),
    ("inside: SDP key", inside(lambda data: data.replace(b"k=0000", b"k=6666")), 403, "S/MIME: message digest"),
    ("inside: SDP address", inside(lambda data: data.replace(b"192.0.2.1", b"192.0.2.6")), 403, "S/MIME: message digest"),
    ("inside: order of the parts", inside(parts_swapped), 403, "S/MIME: message digest"),
    ("inside: Date", inside(lambda data: data.replace(b" GMT", b" UTC")), 403, "S/MIME: message digest"),
    ("inside: From", inside(lambda data: data.replace(b"From: <sip:alice@", b"From: <sip:bobby@")), 403, "S/MIME: message digest"),
    ("inside: signature removed", inside(signature_removed), 488, _DEMANDED),
    ("inside: signature replaced by a third domain's", another_signature("sip:mallory@c.example"), 403, _IDENTITY),
    ("inside: signature replaced by a colleague's", another_signature("sip:eve@a.example"), 403, _IDENTITY),
]  # fmt: skip


@pytest.mark.parametrize(
    ("attack", "status", "reason"), [row[1:] for row in REQUESTS], ids=[row[0] for row in REQUESTS]
)
def test_a_request_that_was_changed(
    scene: Scene, attack: Callable[[Scene, Request], list[Message]], status: int, reason: str
) -> None:
    told = scene.call(attack)
    assert (told["status"], reason in (told.get("warning") or "")) == (status, True), told


# What an attacker can do to an answer.


def answer_body(edit: Callable[[bytes], bytes]) -> Callable[[Scene, Response], None]:
    def work(scene: Scene, response: Response) -> None:
        response.body = edit(response.body)
        response.set("Content-Length", b"%d" % len(response.body))

    return work


def answer_header(name: str, value: bytes) -> Callable[[Scene, Response], None]:
    return lambda scene, response: response.set(name, value)


def answer_from(scene: Scene, response: Response) -> None:
    response.set("From", b"<sip:mallory@a.example>;tag=" + response.from_.tag)


def answer_plain(scene: Scene, response: Response) -> None:
    to_message(response, Entity.make([("Content-Type", b"application/sdp")], SDP))


def answer_by(aor: str) -> Callable[[Scene, Response], None]:
    """Sealed again, for Alice, by somebody else."""

    def work(scene: Scene, response: Response) -> None:
        signer = scene.stolen["b.example"] if aor == "sip:b.example" else scene.of(aor)
        date = response.get("date") or b""
        seal = Seal(signer, (alices(scene).certificate,), enveloped.AES_128_GCM, datetime.now(UTC))
        sdp = Entity.make([("Content-Type", b"application/sdp")], SDP)
        to_message(response, seal.close(sdp, identity_body(response, date)))

    return work


def answer_unsigned(scene: Scene, response: Response) -> None:
    seal = Seal(None, (alices(scene).certificate,), enveloped.AES_128_GCM, datetime.now(UTC))
    to_message(response, seal.close(Entity.make([("Content-Type", b"application/sdp")], SDP), b""))


def answer_of_another_call(scene: Scene, response: Response) -> None:
    to_message(response, of_message(scene.answers[0]))


ANSWERS = [
    ("signature and encryption stripped", answer_plain, 488, _DEMANDED),
    ("a bit of the ciphertext", answer_body(lambda data: data[:-40] + bytes([data[-40] ^ 1]) + data[-39:]), 493, "decrypted"),
    ("half of the body", answer_body(lambda data: data[: len(data) // 2]), 400, "S/MIME"),
    ("said to be SDP", answer_header("Content-Type", b"application/sdp"), 488, _DEMANDED),
    ("From: whom the answer is for", answer_from, 403, "From or To"),
    ("Date", answer_header("Date", format_date(0)), 403, f"Date {_SIGNED}"),
    ("of another call", answer_of_another_call, 403, _SIGNED),
    ("signed by nobody", answer_unsigned, 488, _DEMANDED),
    ("signed by a third domain's user", answer_by("sip:mallory@c.example"), 403, _IDENTITY),
    ("signed by another user of b.example", answer_by("sip:eve@b.example"), 403, _IDENTITY),
    ("signed by the stolen trunk key", answer_by("sip:b.example"), 403, "signed with the key of the trunk"),
]  # fmt: skip


@pytest.mark.parametrize(("attack", "status", "reason"), [row[1:] for row in ANSWERS], ids=[row[0] for row in ANSWERS])
def test_an_answer_that_was_changed(
    scene: Scene, attack: Callable[[Scene, Response], None], status: int, reason: str
) -> None:
    """Alice is told, and never connected; Bob's terminal, which has answered, is hung up on."""

    def work(message: Message, direction: str) -> list[Message]:
        if direction == BACK and isinstance(message, Response) and message.status == 200 and message.body:
            scene.answers.append(parse(message.serialize()))
            attack(scene, message)
        return [message]

    scene.middle.tamper = work
    marks = len(scene.alice.lines), len(scene.bob.lines)
    scene.alice.send("call sip:bob@b.example")
    scene.bob.wait_for("incoming", 10, since=marks[1])
    scene.bob.send("answer")
    told = scene.alice.wait_for("failed", 10, since=marks[0])
    assert (told["status"], reason in (told.get("warning") or "")) == (status, True), told
    assert scene.bob.wait_for("ended", 10, since=marks[1])["reason"] == "peer hung up"
    assert not [line for line in scene.alice.lines[marks[0] :] if line.get("event") == "connected"]


def test_the_tables_are_long_enough() -> None:
    assert len(REQUESTS) + len(ANSWERS) >= 40
    assert len(dict.fromkeys(row[0] for row in REQUESTS)) == len(REQUESTS)
