"""Powerful users: phones that sign and encrypt themselves, with `openssl cms`, through both neighbours.

What such a user sends arrives byte for byte at another one. An ordinary user's neighbour verifies it, and hands on the
bare body, as it does with what neighbours sign.
"""

import itertools
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from sealed import ANSWER, OFFER, Call, Phone, World, between, told
from sip import answer, request, run

from lab.lab import Lab
from neighbour.agent.aib import format_date
from neighbour.agent.authority import Authority
from sipwire.message import Message, Request, Response

pytestmark = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")

MEDIUM = 'level=medium;by="%s";tls'
SIGNED = 'level=medium;verified="sip:%s";by="%s";signed;tls'
HEAVY = 'level=heavy;verified="sip:%s";by="%s";signed;encrypted;tls'
NOT_ENCRYPTED = "heavy security is demanded, and the body is not encrypted"
_numbers = itertools.count(1)
SDP_TYPE = b"Content-Type: application/sdp\r\n\r\n"


def openssl(*arguments: str | Path, data: bytes) -> bytes:
    done = subprocess.run(["openssl", "cms", *map(str, arguments)], input=data, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@dataclass
class Person:
    """Somebody with a certificate and key in files, and the federation's root."""

    aor: str
    certificate: Path
    key: Path
    chain: Path
    root: Path

    @classmethod
    def make(cls, lab: Lab, aor: str) -> "Person":
        folder = lab.folder / "people"
        folder.mkdir(exist_ok=True)
        made = Authority(lab.folder / "ca").issue_user(aor)
        name = f"{next(_numbers)}-{aor.removeprefix('sip:')}"
        paths = [folder / (name + ending) for ending in (".pem", ".key", ".chain")]
        paths[0].write_bytes(made.chain_pem())
        paths[1].write_bytes(made.key_pem())
        paths[2].write_bytes(b"-----BEGIN" + made.chain_pem().split(b"-----BEGIN")[-1])
        return cls(aor, *paths, lab.folder / "ca" / "root.pem")

    def sign(self, content: bytes) -> tuple[str, bytes]:
        """A multipart/signed around an entity; returns its type and itself."""
        signature = openssl(
            "-sign", "-binary", "-outform", "DER", "-md", "sha256",
            "-signer", self.certificate, "-inkey", self.key, "-certfile", self.chain, data=content,
        )  # fmt: skip
        head = b"Content-Type: application/pkcs7-signature; name=smime.p7s\r\nContent-Transfer-Encoding: binary\r\n\r\n"
        body = b"--of1\r\n%b\r\n--of1\r\n%b%b\r\n--of1--\r\n" % (content, head, signature)
        return 'multipart/signed; protocol="application/pkcs7-signature"; micalg=sha-256; boundary=of1', body

    def sign_opaquely(self, content: bytes) -> tuple[str, bytes]:
        """The same as one signed-data."""
        body = openssl(
            "-sign", "-binary", "-nodetach", "-outform", "DER", "-md", "sha256",
            "-signer", self.certificate, "-inkey", self.key, "-certfile", self.chain, data=content,
        )  # fmt: skip
        return "application/pkcs7-mime; smime-type=signed-data; name=smime.p7m", body

    def encrypt(self, content: bytes, *, gcm: bool = True) -> tuple[str, bytes]:
        """Encrypt an entity to this one."""
        cipher = "-aes-128-gcm" if gcm else "-aes-128-cbc"
        body = openssl("-encrypt", "-binary", "-outform", "DER", cipher, self.certificate, data=content)
        kind = "auth-enveloped-data" if gcm else "enveloped-data"
        return f"application/pkcs7-mime; smime-type={kind}; name=smime.p7m", body

    def decrypt(self, body: bytes) -> bytes:
        """What was encrypted to this one."""
        return openssl(
            "-decrypt", "-binary", "-inform", "DER", "-recip", self.certificate, "-inkey", self.key, data=body
        )

    def verify(self, kind: bytes, body: bytes, signer: str) -> bytes:
        """Verify a multipart/signed; returns what was signed.

        Args:
            kind: its Content-Type.
            body: itself.
            signer: the subject that has to have signed it.
        """
        boundary = b"--" + kind.partition(b"boundary=")[2].partition(b";")[0].strip(b'" ')
        _, content, signature, _ = (b"\r\n" + body).split(b"\r\n" + boundary)
        content = content.removeprefix(b"\r\n")
        der = signature.partition(b"\r\n\r\n")[2]
        file, who = self.key.with_suffix(".content"), self.key.with_suffix(".signer")
        file.write_bytes(content)
        openssl(
            "-verify", "-binary", "-inform", "DER", "-content", file, "-CAfile", self.root, "-purpose", "any",
            "-signer", who, data=der,
        )  # fmt: skip
        done = subprocess.run(
            ["openssl", "x509", "-noout", "-ext", "subjectAltName", "-in", who], capture_output=True, check=True
        )
        assert f"URI:{signer}\n".encode() in done.stdout
        return content


def headers(of: Message, *, date: int, sender: bytes = b"") -> bytes:
    """An AIB as a user agent writes it: of a request; of a response with its To as From."""
    if isinstance(of, Response):
        lines = [b"From: " + (of.get("to") or b"")]
    else:
        lines = [b"From: " + (sender or of.get("from") or b""), b"To: " + (of.get("to") or b"")]
    lines += [b"Contact: " + (of.get("contact") or b""), b"Call-ID: " + of.call_id, b"CSeq: " + (of.get("cseq") or b"")]
    lines.append(b"Date: " + format_date(date))
    head = b"Content-Type: message/sipfrag\r\nContent-Disposition: aib; handling=optional\r\n\r\n"
    return head + b"\r\n".join(lines) + b"\r\n"


def together(body: bytes, aib: bytes) -> bytes:
    """Both as a multipart/mixed."""
    return b"Content-Type: multipart/mixed; boundary=in1\r\n\r\n--in1\r\n%b%b\r\n--in1\r\n%b\r\n--in1--\r\n" % (
        SDP_TYPE,
        body,
        aib,
    )


def entity(kind: str, body: bytes) -> bytes:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: binary\r\n\r\n".encode() + body


def invite(caller: Phone, callee: Phone, *more: tuple[str, str], tag: str = "ft") -> Request:
    """An INVITE without a body yet."""
    made = request(
        "INVITE", callee.aor, caller.user, caller.at.name, contact=caller.client.contact, headers=more, from_tag=tag
    )
    made.set("Content-Disposition", b"attachment; handling=required; filename=smime.p7m")
    return made


def give(message: Message, sealed: tuple[str, bytes]) -> None:
    message.set_body(sealed[0].encode(), sealed[1])


def same(one: Message, other: Message) -> None:
    """The same body, and the same headers that tell what it is."""
    assert one.body == other.body
    for name in ("content-type", "content-disposition", "content-length"):
        assert one.get(name) == other.get(name)


@dataclass
class Cast:
    """Carol, Dave, and their own certificates, of which their neighbours know nothing."""

    world: World
    carol: Phone
    dave: Phone
    own: Person
    other: Person

    def signed_by_carol(self, *more: tuple[str, str], date: int | None = None, body: bytes = OFFER) -> Request:
        made = invite(self.carol, self.dave, *more)
        date = int(time.time()) if date is None else date
        give(made, self.own.sign(together(body, headers(made, date=date))))
        return made


async def cast(world: World, carol: "dict[str, str] | None" = None, dave: "dict[str, str] | None" = None) -> Cast:
    for one in (world.left, world.right):
        one.neighbour._proxy._agent._freshness._began_at -= 600  # what is dated before is not taken
    return Cast(
        world,
        await Phone.open(world.left, "carol", **(carol or {})),
        await Phone.open(world.right, "dave", **(dave or {})),
        Person.make(world.lab, "sip:carol@a.example"),
        Person.make(world.lab, "sip:dave@b.example"),
    )


ALONE = ("Security-Assist", "none")
WAYS: dict[str, Callable[[Cast, bytes], tuple[str, bytes]]] = {
    "signed": lambda cast, content: cast.own.sign(content),
    "signed in one": lambda cast, content: cast.own.sign_opaquely(content),
    "encrypted": lambda cast, content: cast.other.encrypt(content),
    "encrypted with CBC": lambda cast, content: cast.other.encrypt(content, gcm=False),
    "signed and encrypted": lambda cast, content: cast.other.encrypt(entity(*cast.own.sign(content))),
    "encrypted and signed": lambda cast, content: cast.own.sign(entity(*cast.other.encrypt(content))),
}


@pytest.mark.parametrize("by", ["account", "Security-Assist"])
@pytest.mark.parametrize("level", ["medium", "heavy"])
def test_between_powerful_users(tmp_path: Path, level: str, by: str) -> None:
    """Byte for byte, there and back; at heavy only what is encrypted."""

    async def work() -> None:
        async with between(tmp_path, level=level) as world:
            found = await cast(world, {"assist": "none"} if by == "account" else {}, {"assist": "none"})
            more = () if by == "account" else (ALONE,)
            for name, seal in WAYS.items():
                made = invite(found.carol, found.dave, *more)
                give(made, seal(found, together(OFFER, headers(made, date=int(time.time())))))

                def respond(got: Request, seal: Callable[[Cast, bytes], tuple[str, bytes]] = seal) -> Response:
                    back = answer(got, 200, found.dave.client.contact)
                    turned = Cast(world, found.dave, found.carol, found.other, found.own)
                    give(back, seal(turned, together(ANSWER, headers(back, date=int(time.time())))))
                    respond.sent = back  # type: ignore[attr-defined]
                    return back

                call = await Call.try_(found.carol, found.dave, made=made, respond=respond)
                if level == "heavy" and "encrypted" not in name:
                    assert call.outcome == (488, NOT_ENCRYPTED), name
                    assert call.got is None
                    continue
                assert call.outcome == (200, ""), name
                same(call.invite, made)
                same(call.response, respond.sent)  # type: ignore[attr-defined]
                assert told(call.invite) == MEDIUM % "a.example"  # nobody on the way has looked
                assert told(call.response) == MEDIUM % "b.example"
                if name == "signed":
                    kind, body = call.invite.get("content-type") or b"", call.invite.body
                    assert OFFER in found.other.verify(kind, body, "sip:carol@a.example")
                elif name == "signed and encrypted":
                    assert OFFER in found.other.decrypt(call.invite.body)
                await call.end()

    run(work)


def test_nothing_of_ones_own_at_heavy(tmp_path: Path) -> None:
    """Who does it alone and does nothing is refused: as a caller, and as one who answers."""

    async def work() -> None:
        async with between(tmp_path) as world:
            found = await cast(world, {"assist": "none"})
            call = await Call.try_(found.carol, found.dave)
            assert call.outcome == (488, NOT_ENCRYPTED)
            assert call.got is None
            await found.carol.set(assist=None)
            await found.dave.set(assist="none")
            call = await Call.try_(found.carol, found.dave)
            # Carol's neighbour has sealed it for Dave, and what he answers has nothing.
            assert call.outcome == (
                488,
                "heavy security is demanded, and the body is not signed and encrypted, with its headers",
            )
            await found.dave.client.request("ACK")
            await found.dave.client.request("BYE")

    run(work)


@pytest.mark.parametrize("opaque", [False, True])
@pytest.mark.parametrize("assist", ["none", ""])
def test_an_ordinary_callee(tmp_path: Path, assist: str, opaque: bool) -> None:
    """The callee's neighbour verifies, hands on the bare body, and signs the answer, which the caller verifies."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            found = await cast(world, {"assist": assist} if assist else {}, {"show": "subject,asserted"})
            for age in (0, 120, -120):
                made = invite(found.carol, found.dave)
                content = together(OFFER, headers(made, date=int(time.time()) - age))
                give(made, found.own.sign_opaquely(content) if opaque else found.own.sign(content))
                call = await Call.try_(found.carol, found.dave, made=made)
                assert call.outcome == (200, "")
                assert told(call.invite) == SIGNED % ("carol@a.example", "a.example")
                assert call.invite.body == OFFER
                assert call.invite.get_all("content-type") == [b"application/sdp"]
                assert call.invite.get("content-disposition") is None
                assert call.invite.get_all("subject") == [b"validated <sip:carol@a.example>"]
                assert call.invite.get_all("p-asserted-identity") == [b"<sip:carol@a.example>"]
                if assist:
                    kind = call.response.get("content-type") or b""
                    assert ANSWER in found.own.verify(kind, call.response.body, "sip:dave@b.example")
                    assert told(call.response) == MEDIUM % "b.example"
                else:
                    assert call.response.body == ANSWER
                    assert told(call.response) == SIGNED % ("dave@b.example", "b.example")
                await call.end()

    run(work)


@pytest.mark.parametrize("dated", [False, True], ids=["no Date outside", "Date outside"])
def test_signed_alone_and_encrypted_by_the_neighbour(tmp_path: Path, dated: bool) -> None:
    """At heavy the neighbour adds what is missing, and what was signed stays as it was: also the time of it."""

    async def work() -> None:
        async with between(tmp_path) as world:
            found = await cast(world)
            for age in (0, 90, -90):
                date = int(time.time()) - age
                made = found.signed_by_carol(*([("Date", format_date(date).decode())] if dated else []), date=date)
                call = await Call.try_(found.carol, found.dave, made=made)
                assert call.outcome == (200, "")
                assert told(call.invite) == HEAVY % ("carol@a.example", "a.example")
                assert call.invite.body == OFFER
                # The answer is encrypted for the one who has signed, and her neighbour has no such key.
                inside = found.own.decrypt(call.response.body)
                kind = inside.partition(b"\r\n")[0]
                assert ANSWER in found.own.verify(kind, inside.partition(b"\r\n\r\n")[2], "sip:dave@b.example")
                assert told(call.response) == MEDIUM % "b.example"
                await call.end()
            assert b"192.0.2." not in world.wire()

    run(work)


def test_encrypted_by_the_neighbour_for_a_powerful_callee(tmp_path: Path) -> None:
    """Dave has given his certificate to his neighbour, as others are to encrypt to it; the envelope is his to open."""

    def prepare(lab: Lab) -> None:
        mine = Person.make(lab, "sip:dave@b.example")
        folder = lab.folder / "b.example" / "certificates"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "dave.pem").write_bytes(mine.certificate.read_bytes())
        key = folder / "dave.key"
        key.write_bytes(mine.key.read_bytes())
        key.chmod(0o600)
        people.append(mine)

    people: list[Person] = []

    async def work() -> None:
        async with between(tmp_path, prepare=prepare) as world:
            found = await cast(world, {}, {"assist": "none"})
            made = found.signed_by_carol()

            def respond(got: Request) -> Response:
                back = answer(got, 200, found.dave.client.contact)
                signed = people[0].sign(together(ANSWER, headers(back, date=int(time.time()))))
                give(back, found.own.encrypt(entity(*signed)))
                return back

            call = await Call.try_(found.carol, found.dave, made=made, respond=respond)
            inside = people[0].decrypt(call.invite.body)
            assert made.body in inside
            assert (made.get("content-type") or b"") in inside
            assert OFFER in people[0].verify(made.get("content-type") or b"", made.body, "sip:carol@a.example")
            assert call.outcome == (200, "")
            assert ANSWER in found.own.decrypt(call.response.body)
            assert told(call.response) == MEDIUM % "b.example"
            await call.end()

    run(work)


def test_what_a_powerful_callee_does_with_it_is_his_affair(tmp_path: Path) -> None:
    """A signature that is wrong reaches him as well; his neighbour has promised nothing."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            found = await cast(world, {"assist": "none"}, {"assist": "none"})
            made = found.signed_by_carol()
            made.set_body(made.get("content-type") or b"", made.body.replace(b"192.0.2.1", b"192.0.2.9"))
            call = await Call.try_(found.carol, found.dave, made=made)
            same(call.invite, made)
            assert told(call.invite) == MEDIUM % "a.example"
            await call.end()

    run(work)


def of_another(found: Cast) -> Request:
    made = invite(found.carol, found.dave)
    erin = Person.make(found.world.lab, "sip:erin@a.example")
    give(made, erin.sign(together(OFFER, headers(made, date=int(time.time())))))
    return made


def in_anothers_name(found: Cast) -> Request:
    made = invite(found.carol, found.dave)
    erin = Person.make(found.world.lab, "sip:erin@a.example")
    aib = headers(made, date=int(time.time()), sender=b"<sip:erin@a.example>;tag=ft")
    give(made, erin.sign(together(OFFER, aib)))
    return made


def of_another_call(found: Cast) -> Request:
    made = found.signed_by_carol()
    again = invite(found.carol, found.dave)
    again.set_body(made.get("content-type") or b"", made.body)
    return again


def changed(found: Cast) -> Request:
    made = found.signed_by_carol()
    made.set_body(made.get("content-type") or b"", made.body.replace(b"192.0.2.1", b"192.0.2.9"))
    return made


def to_another(found: Cast) -> Request:
    made = invite(found.carol, found.dave)
    erin = Person.make(found.world.lab, "sip:erin@a.example")
    give(made, erin.encrypt(entity(*found.own.sign(together(OFFER, headers(made, date=int(time.time())))))))
    return made


WRONG: list[tuple[str, Callable[[Cast], Request], int, str]] = [
    ("another's certificate", of_another, 403, "certificate of another identity"),
    ("another's name", in_anothers_name, 403, "From is not what was signed"),
    ("another call's", of_another_call, 403, "Call-ID is not what was signed"),
    ("changed", changed, 403, "S/MIME: "),
    ("too old", lambda found: found.signed_by_carol(date=int(time.time()) - 700), 403, "Date is more than 10 minutes off"),
    ("too new", lambda found: found.signed_by_carol(date=int(time.time()) + 700), 403, "Date is more than 10 minutes off"),
    ("to another", to_another, 493, "it cannot be decrypted"),
]  # fmt: skip


def test_what_an_ordinary_callee_never_sees(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(
            tmp_path, level="medium", right=['on_failure = "plain"'], left=['on_failure = "plain"']
        ) as world:
            found = await cast(world, {"assist": "none"})
            for name, make, status, why in WRONG:
                call = await Call.try_(found.carol, found.dave, made=make(found))
                assert call.got is None, name
                assert call.outcome[0] == status, (name, call.outcome)
                assert call.outcome[1].startswith(why), (name, call.outcome)
                assert call.response.get("content-type") in (
                    None,
                    b"application/pkcs7-mime;smime-type=certs-only;name=smime.p7c",
                )

    run(work)


def test_within_the_domain(tmp_path: Path) -> None:
    """Byte for byte, whatever it is: between two of one neighbour nothing is opened."""

    async def work() -> None:
        async with between(tmp_path) as world:
            found = await cast(world, {"assist": "none"})
            erin = await Phone.open(world.left, "erin")
            for seal in WAYS.values():
                made = invite(found.carol, erin)
                give(made, seal(found, together(OFFER, headers(made, date=int(time.time())))))
                call = await Call.try_(found.carol, erin, made=made)
                same(call.invite, made)
                await call.end()

    run(work)
