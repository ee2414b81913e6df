"""Levels and wishes end to end: what a call between two domains reaches, or why it is refused, and what phones are told."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from attacks.middle import BACK
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from sealed import ANSWER, NOT_SEALED, OFFER, TO_CAROL, TO_DAVE, Call, Phone, World, between, people, told
from sip import UdpClient, answer, run

from lab.lab import Lab
from neighbour.agent.authority import Authority
from neighbour.agent.credential import Credential
from sipwire.dialog import Dialog
from sipwire.message import Request, Response
from sipwire.transaction import cancel_for

MEDIUM = 'level=medium;by="%s";tls'
SIGNED = 'level=medium;verified="sip:%s";by="%s";signed;tls'
SEALED_TYPE = b"application/pkcs7-mime;smime-type=auth-enveloped-data"


@dataclass
class Row:
    """One call.

    Attributes:
        name: of the row.
        assist: the caller's Security-Assist.
        carol, dave: settings of their accounts.
        status: that the caller gets.
        why: the Warning, where it is refused.
        dave_told, carol_told: their Security-Status.
    """

    name: str
    assist: str = ""
    carol: dict[str, str | None] | None = None
    dave: dict[str, str | None] | None = None
    status: int = 200
    why: str = ""
    dave_told: str = MEDIUM % "a.example"
    carol_told: str = MEDIUM % "b.example"


def heavy(name: str, assist: str = "", **more: "dict[str, str | None]") -> Row:
    return Row(name, assist, dave_told=TO_DAVE, carol_told=TO_CAROL, **more)


AT_MEDIUM = [
    Row("nothing asked"),
    Row("medium asked", "sign;level=medium", dave_told=SIGNED % ("carol@a.example", "a.example"), carol_told=SIGNED % ("dave@b.example", "b.example")),
    Row("none asked", "none"),
    Row("none at medium", "none;level=medium"),
    heavy("heavy by request", "sign;level=heavy"),
    heavy("heavy by request, nothing else", "encrypt;level=heavy"),
    heavy("heavy by account", carol={"level": "heavy"}),
    heavy("heavy by account, medium by request", "sign;level=medium", carol={"level": "heavy"}),
    Row("heavy by the callee's account", dave={"level": "heavy"}, status=488, why=NOT_SEALED),
    heavy("heavy by both accounts", carol={"level": "heavy"}, dave={"level": "heavy"}),
    heavy("heavy by request, heavy by the callee's account", "sign;level=heavy", dave={"level": "heavy"}),
    Row("none by account", carol={"level": "none"}),
    Row("heavy, alone, with nothing of one's own", "none;level=heavy", status=488, why="heavy security is demanded, and the body is not encrypted"),
    Row("sign", "sign", dave_told=SIGNED % ("carol@a.example", "a.example"), carol_told=SIGNED % ("dave@b.example", "b.example")),
    Row("encrypt", "encrypt", dave_told='level=medium;by="a.example";encrypted;tls', carol_told='level=medium;by="b.example";encrypted;tls'),
    heavy("sign and encrypt", "sign, encrypt"),
    heavy("in one field each", "encrypt, sign;level=medium"),
    Row("sign by account", carol={"assist": "sign"}, dave_told=SIGNED % ("carol@a.example", "a.example"), carol_told=SIGNED % ("dave@b.example", "b.example")),
    Row("sign by account, encrypt by request", "encrypt", carol={"assist": "sign"}, dave_told='level=medium;by="a.example";encrypted;tls', carol_told='level=medium;by="b.example";encrypted;tls'),
    heavy("both by account", carol={"assist": "sign,encrypt"}),
    Row("the callee signs", dave={"assist": "sign"}, carol_told=SIGNED % ("dave@b.example", "b.example")),
    Row("the callee encrypts", dave={"assist": "encrypt"}, carol_told='level=medium;by="b.example";encrypted;tls'),
    Row("unknown operation", "seal", status=400),
    Row("unknown beside known", "sign, seal", status=400),
    Row("none beside another", "none, sign", status=400),
    Row("unknown level", "sign;level=highest", status=400),
    Row("no level", "sign;level", status=400),
    Row("level none is no level to ask for", "sign;level=none", status=400),
    Row("empty", ";level=heavy", status=400),
    Row("the domain's certificate signs", "sign", carol={"signer": "domain"}, dave={"signer": "domain"}, dave_told=SIGNED % ("carol@a.example", "a.example"), carol_told=SIGNED % ("dave@b.example", "b.example")),
]  # fmt: skip

AT_HEAVY = [
    heavy("nothing asked"),
    heavy("less asked", "sign"),
    heavy("medium asked", "encrypt;level=medium"),
    heavy("none by accounts", carol={"level": "none"}, dave={"level": "none"}),
    heavy("medium by accounts", carol={"level": "medium"}, dave={"level": "medium"}),
    heavy("light", "sign;level=light"),
    Row("alone, with nothing of one's own", "none", status=488, why="heavy security is demanded, and the body is not encrypted"),
    heavy("the domain's certificates sign", carol={"signer": "domain"}, dave={"signer": "domain"}),
]  # fmt: skip


async def hold(world: World, rows: list[Row]) -> None:
    """Call as each row says."""
    carol, dave = await people(world)
    failed = []
    for row in rows:
        for phone, settings in ((carol, row.carol), (dave, row.dave)):
            await phone.set(**{"level": None, "assist": None, "signer": None, "show": None, **(settings or {})})
        before = world.count(world.forth, "INVITE")
        call = await Call.try_(carol, dave, *([("Security-Assist", row.assist)] if row.assist else []))
        found = [call.outcome, None, None]
        expected = [(row.status, row.why), None, None]
        if row.status == 200:
            expected = [(200, ""), row.dave_told, row.carol_told]
            if call.got is not None:
                found = [call.outcome, told(call.invite), told(call.response)]
                assert (call.invite.body, call.response.body) == (OFFER, ANSWER), row.name
                assert call.invite.get("content-type") == b"application/sdp"
                assert call.invite.get("security-assist") is None
        else:
            assert call.got is None, row.name
            assert world.count(world.forth, "INVITE") - before <= 1  # never once more at less
        if found != expected:
            failed.append((row.name, found, expected))
        await call.end()
    assert not failed, "\n".join(map(str, failed))
    assert b"security-assist" not in world.wire().lower()
    assert b"security-status" not in world.wire().lower()


@pytest.mark.parametrize(("level", "rows"), [("medium", AT_MEDIUM), ("heavy", AT_HEAVY), ("", AT_MEDIUM)])
def test_levels(tmp_path: Path, level: str, rows: list[Row]) -> None:
    async def work() -> None:
        async with between(tmp_path, level=level) as world:
            await hold(world, rows)

    run(work)


ONE_SIDED: list[tuple[str, list[str], list[str], int, str]] = [
    # What a.example and b.example have, and what a call from the first to the second comes to.
    ("the callee's domain alone", [], ['level = "heavy"'], 488, f'b.example "{NOT_SEALED}"'),
    ("the callee's domain for that peer", ['level = "none"'], ['peer:level = "heavy"'], 488, f'b.example "{NOT_SEALED}"'),
    ("the caller's domain alone", ['level = "heavy"'], ['level = "none"'], 200, "heavy"),
    ("the caller's domain for that peer", ['peer:level = "heavy"'], [], 200, "heavy"),
    ("a peer's own level counts", ['level = "heavy"', 'peer:level = "medium"'], [], 200, "medium"),
    ("none on both sides", ['level = "none"'], ['level = "none"'], 200, "medium"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "left", "right", "status", "what"), ONE_SIDED, ids=[row[0] for row in ONE_SIDED])
def test_domains_that_differ(
    tmp_path: Path, name: str, left: list[str], right: list[str], status: int, what: str
) -> None:
    async def work() -> None:
        async with between(tmp_path, level="", left=left, right=right) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            assert call.response.status == status
            if status == 200:
                assert told(call.response).startswith(f"level={what};")
                assert told(call.invite).startswith(f"level={what};")
            else:
                assert (call.response.get("warning") or b"").decode() == f"399 {what}"
                assert world.count(world.forth, "INVITE") == 1
            await call.end()

    run(work)


def by_udp(lab: Lab) -> None:
    """Both know each other by address alone, and nobody is between them."""
    addresses = [
        lab.configuration(one).read_text().split('address = "')[1].partition('"')[0]
        for one in ("a.example", "b.example")
    ]
    for name, other in (("a.example", addresses[1]), ("b.example", addresses[0])):
        path = lab.configuration(name)
        head, table, rest = path.read_text().partition("[[peer]]")
        lines = [f'address = "{other}:5060"' if line.startswith("address = ") else line for line in rest.splitlines()]
        path.write_text(head + table + '\ntransport = "udp"' + "\n".join(lines) + "\n")


NO_TLS = "%s security is demanded, and there is no mutual TLS with %s"
BY_UDP = [
    # A domain without TLS shows no certificate to encrypt to.
    Row("the callee would encrypt, to nobody known", dave={"assist": "encrypt"}, dave_told='level=none;by="a.example"', carol_told='level=none;by="b.example"'),
    Row("nothing asked", dave_told='level=none;by="a.example"', carol_told='level=none;by="b.example"'),
    Row("medium asked", "sign;level=medium", status=488, why=NO_TLS % ("medium", "b.example")),
    Row("heavy asked", "sign;level=heavy", status=488, why=NO_TLS % ("heavy", "b.example")),
    Row("heavy by account", carol={"level": "heavy"}, status=488, why=NO_TLS % ("heavy", "b.example")),
    Row("medium by the callee's account", dave={"level": "medium"}, status=488, why=NO_TLS % ("medium", "a.example")),
    Row("heavy by the callee's account", dave={"level": "heavy"}, status=488, why=NO_TLS % ("heavy", "a.example")),
    # The credential service has a certificate, and whoever encrypts wants no bare answer; but nobody knows for whom.
    Row("encrypt, by somebody unknown", "encrypt", status=488, why="no certificate of the caller"),
    Row("sign", "sign", dave_told='level=none;verified="sip:carol@a.example";by="a.example";signed', carol_told='level=none;verified="sip:dave@b.example";by="b.example";signed'),
    Row("encrypt, to somebody known", "encrypt", dave_told='level=none;by="a.example";encrypted', carol_told='level=none;by="b.example";encrypted'),
    Row("the callee encrypts, to somebody known", dave={"assist": "encrypt"}, dave_told='level=none;by="a.example"', carol_told='level=none;by="b.example";encrypted'),
]  # fmt: skip


def test_a_peer_over_udp(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path, level="", prepare=by_udp) as world:
            await hold(world, BY_UDP)

    run(work)


# All that belongs to a call.


async def exchange(
    sender: Phone, dialog: Dialog, receiver: Phone, method: str, body: bytes = b"", answer_body: bytes = b""
) -> tuple[Request, Response]:
    """A request within a dialog, and its answer; returns both as they came."""
    made = dialog.new_request(method)
    made.add("Contact", f"<{sender.client.contact}>".encode())
    if body:
        made.set_body(b"application/sdp", body)
    sender.client.send(made)
    got = await receiver.client.request(method)
    response = answer(got, 200, receiver.client.contact)
    if answer_body:
        response.set_body(b"application/sdp", answer_body)
    receiver.client.send(response)
    answered = await sender.client.response()
    assert answered.status == 200, (answered.start_line(), answered.get("warning"))
    assert (got.body, answered.body) == (body, answer_body)
    return got, answered


IN_DIALOG: list[tuple[str, bytes, bytes]] = [
    ("UPDATE", OFFER, ANSWER),
    ("UPDATE", b"", b""),
    ("INFO", b"signal=1", b""),
    ("INFO", b"", b""),
    ("MESSAGE", b"hello", b"hello yourself"),
    ("OPTIONS", b"", b""),
    ("REFER", b"", b""),
    ("NOTIFY", b"SIP/2.0 200 OK\r\n", b""),
    ("PRACK", OFFER, ANSWER),
    ("UNHEARD", b"of", b"of it"),
]


@pytest.mark.parametrize("late", [False, True], ids=["early offer", "late offer"])
def test_a_whole_call(tmp_path: Path, late: bool) -> None:
    """Everything with a body is sealed both ways, and what has none passes."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            sent = await carol.send("INVITE", dave.aor, b"" if late else OFFER)
            got = await dave.client.request("INVITE")
            assert told(got) == TO_DAVE
            assert got.body == (b"" if late else OFFER)
            early = answer(got, 183, dave.client.contact)
            early.set_body(b"application/sdp", ANSWER)
            dave.client.send(early)
            dave.client.send(answer(got, 180, dave.client.contact))
            by_status: dict[int, Response] = {}
            while not {180, 183} <= by_status.keys():
                one = await carol.client.response(provisional=True)
                by_status[one.status] = one
            assert by_status[183].body == ANSWER
            assert told(by_status[183]) == TO_CAROL
            assert told(by_status[180]) == MEDIUM % "b.example"  # nothing of it was signed
            call = Call(carol, dave, sent, got)
            ok = call.accept(got)
            for _ in range(3):  # as if the ACK were lost
                dave.client.send(ok)
            answers = [await carol.client.response() for _ in range(3)]
            assert {(one.status, one.body, told(one)) for one in answers} == {(200, ANSWER, TO_CAROL)}
            call.answered = answers[0]
            for _ in range(2):
                ack = await call.acknowledge(ANSWER if late else b"")
                assert ack.body == (ANSWER if late else b"")
            of_carol, of_dave = call.dialogs()
            for method, body, back in IN_DIALOG:
                for sender, dialog, receiver, there, here in (
                    (carol, of_carol, dave, TO_DAVE, TO_CAROL),
                    (dave, of_dave, carol, TO_CAROL, TO_DAVE),
                ):
                    request_, response = await exchange(sender, dialog, receiver, method, body, back)
                    if body or method in ("UPDATE", "MESSAGE"):
                        assert told(request_) == there, method
                    if back:
                        assert told(response) == here, method
            for sender, dialog, receiver in ((carol, of_carol, dave), (dave, of_dave, carol)):
                got_again, answered = await exchange(sender, dialog, receiver, "INVITE", OFFER, ANSWER)
                assert told(got_again).startswith("level=heavy;")
                assert told(answered).startswith("level=heavy;")
                sender.client.send(dialog.new_ack(dialog.local_cseq))
                await receiver.client.request("ACK")
            await exchange(carol, of_carol, dave, "BYE")
            for way in (world.forth, world.back):
                for _, message in way.seen:
                    is_event = isinstance(message, Request) and message.get("event") == b"certificate"
                    if message.body and not is_event:
                        assert (message.get("content-type") or b"").startswith(SEALED_TYPE), message.serialize()
            assert b"192.0.2." not in world.wire()
            assert world.left.neighbour._proxy.working == 0

    run(work)


def test_cancelled(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            sent = await carol.send("INVITE", dave.aor, OFFER)
            got = await dave.client.request("INVITE")
            dave.client.send(answer(got, 180, dave.client.contact))
            while (await carol.client.response(provisional=True)).status != 180:
                pass
            carol.client.send(cancel_for(sent))
            cancel = await dave.client.request("CANCEL")
            dave.client.send(answer(cancel, 200))
            dave.client.send(answer(got, 487))
            statuses = {(await carol.client.response()).status, (await carol.client.response()).status}
            assert statuses == {200, 487}

    run(work)


@pytest.mark.parametrize("level", ["medium", "heavy"])
def test_out_of_a_dialog(tmp_path: Path, level: str) -> None:
    async def work() -> None:
        async with between(tmp_path, level=level) as world:
            carol, dave = await people(world)
            for method, body in (("MESSAGE", b"hello"), ("OPTIONS", b""), ("PUBLISH", b"state")):
                await carol.send(method, dave.aor, body, "text/plain")
                got = await dave.client.request(method)
                assert got.body == body
                if body:
                    assert told(got) == (TO_DAVE if level == "heavy" else MEDIUM % "a.example")
                back = answer(got, 200)
                if body:
                    back.set_body(b"text/plain", b"thanks")
                dave.client.send(back)
                answered = await carol.client.response()
                assert (answered.status, answered.body) == (200, b"thanks" if body else b"")
                if body:
                    assert told(answered) == (TO_CAROL if level == "heavy" else MEDIUM % "b.example")
            assert (b"thanks" in world.wire()) is (level == "medium")

    run(work)


@pytest.mark.parametrize("level", ["", "medium", "heavy"])
def test_within_the_domain(tmp_path: Path, level: str) -> None:
    """Nothing passes between neighbours: whatever is demanded is reached, and nothing is sealed."""

    async def work() -> None:
        async with between(tmp_path, level=level) as world:
            carol, erin = (
                await Phone.open(world.left, "carol", level="heavy"),
                await Phone.open(world.left, "erin", level="heavy"),
            )
            for assist in ("", "sign", "encrypt;level=heavy", "none"):
                call = await Call.try_(carol, erin, *([("Security-Assist", assist)] if assist else []))
                assert call.outcome == (200, "")
                assert (call.invite.body, call.response.body) == (OFFER, ANSWER)
                assert told(call.invite) == told(call.response) == 'level=heavy;by="a.example"'
                assert call.invite.get("security-assist") is None
                await call.end()
            call = await Call.try_(carol, erin, ("Security-Assist", "whatever"))
            assert (call.response.status, call.got) == (400, None)
            assert not world.forth.seen

    run(work)


def of_two_domains(lab: Lab) -> None:
    """b.example's certificate names another domain as well, which comes before it."""
    folder = lab.folder / "b.example"
    names = [text for one in ("aa.example", "b.example") for text in (f"URI:sip:{one}", f"DNS:{one}")]
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = [x509.UniformResourceIdentifier(one[4:]) if one[0] == "U" else x509.DNSName(one[4:]) for one in names]
    request_ = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([]))
        .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
        .sign(key, hashes.SHA256())
    )
    own, *chain = Authority(lab.folder / "ca").sign_request(request_)
    Credential(own, key, tuple(chain)).write(folder / "b.example.pem", folder / "b.example.key")


@pytest.mark.parametrize("way", ["there", "back"])
def test_a_connection_of_two_domains(tmp_path: Path, way: str) -> None:
    """The level is that of the domain that a request is for, whatever else the connection may be for."""

    async def work() -> None:
        async with between(
            tmp_path,
            level="",
            left=['level = "none"', 'peer:level = "heavy"'],
            right=['level = "heavy"'],
            prepare=of_two_domains,
        ) as world:
            carol, dave = await people(world)
            caller, callee = (carol, dave) if way == "there" else (dave, carol)
            call = await Call.try_(caller, callee)
            assert told(call.invite).startswith("level=heavy;")
            assert told(call.response).startswith("level=heavy;")
            await call.acknowledge()
            of_caller, of_callee = call.dialogs()
            for sender, dialog, receiver in ((caller, of_caller, callee), (callee, of_callee, caller)):
                got, answered = await exchange(sender, dialog, receiver, "UPDATE", OFFER, ANSWER)
                assert told(got).startswith("level=heavy;")
                assert told(answered).startswith("level=heavy;")
            assert OFFER not in world.wire()
            assert ANSWER not in world.wire()

    run(work)


@pytest.mark.parametrize("method", ["INFO", "UPDATE", "INVITE"])
def test_nobody_else_has_something_signed(tmp_path: Path, method: str) -> None:
    """Whoever sees the trunk sees the route set too; with that alone nothing is signed in the name of a user."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            await call.acknowledge()
            mallory = await UdpClient.open(world.left)
            seen = next(
                one
                for to, one in world.forth.seen
                if to == BACK and isinstance(one, Response) and one.status == 200 and one.body
            )
            made = Request(method, dave.client.contact.encode())
            for route in reversed(seen.values("record-route")):
                made.add("Route", route)
            made.add("Max-Forwards", b"70")
            for name in ("From", "To", "Call-ID"):
                made.add(name, seen.get(name.lower()) or b"")
            made.add("CSeq", f"4711 {method}".encode())
            made.add("Contact", f"<{mallory.contact}>".encode())
            made.set_body(b"application/sdp", OFFER.replace(b"192.0.2.1", b"192.0.2.66"))
            mallory.send(made)
            await dave.client.silence(1.0)

    run(work)


# What phones are shown, and what nobody may write.

LIES = (
    ("Security-Status", 'level=heavy;verified="sip:boss@a.example";by="a.example";signed;encrypted;tls'),
    ("Subject", "Validated  <sip:boss@a.example>"),
    ("P-Asserted-Identity", "<sip:boss@a.example>"),
    ("P-Preferred-Identity", "<sip:boss@a.example>"),
    ("Remote-Party-ID", "<sip:boss@a.example>"),
)
SHOWS: list[tuple[str | None, str, str | None, str | None]] = [
    # Dave's setting, the level, and the Subject and P-Asserted-Identity that he sees of Carol.
    (None, "heavy", None, None),
    ("subject", "heavy", "validated <sip:carol@a.example>", None),
    ("asserted", "heavy", None, "<sip:carol@a.example>"),
    ("subject,asserted", "heavy", "validated <sip:carol@a.example>", "<sip:carol@a.example>"),
    ("subject,asserted", "medium", None, None),
    ("subject,asserted", "sign", "validated <sip:carol@a.example>", "<sip:carol@a.example>"),
]


def shown(message: Request | Response) -> tuple[list[bytes], list[bytes]]:
    return message.get_all("subject"), message.get_all("p-asserted-identity")


def lines(text: str | None) -> list[bytes]:
    return [] if text is None else [text.encode()]


@pytest.mark.parametrize("liar", ["nobody", "users", "the middle"])
def test_what_is_shown(tmp_path: Path, liar: str) -> None:
    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            carol, dave = await people(world)
            by_users = LIES if liar == "users" else ()

            def lie(message: Request | Response, _: str) -> "list[Request | Response]":
                for name, value in LIES:
                    message.add(name, value.encode())
                return [message]

            if liar == "the middle":
                world.forth.tamper = world.back.tamper = lie

            def respond(invite: Request) -> Response:
                made = answer(invite, 200, dave.client.contact)
                for name, value in by_users:
                    made.add(name, value.encode())
                made.set_body(b"application/sdp", ANSWER)
                return made

            for show, level, subject, asserted in SHOWS:
                await dave.set(show=show)
                await carol.set(show=show)
                assist = {"heavy": "sign;level=heavy", "sign": "sign", "medium": ""}[level]
                headers = (*by_users, *([("Security-Assist", assist)] if assist else []))
                call = await Call.try_(carol, dave, *headers, respond=respond)
                assert call.outcome == (200, "")
                assert shown(call.invite) == (lines(subject), lines(asserted))
                back = [None if text is None else text.replace("carol@a", "dave@b") for text in (subject, asserted)]
                assert shown(call.response) == (lines(back[0]), lines(back[1]))
                for message in (call.invite, call.response):
                    assert "boss" not in told(message)
                    assert b"boss" not in message.serialize().split(b"\r\n\r\n")[0]
                await call.end()

    run(work)


def test_an_honest_subject_stays(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave, ("Subject", "lunch"))
            assert call.invite.get_all("subject") == [b"lunch"]
            await call.end()
            await dave.set(show="subject")
            call = await Call.try_(carol, dave, ("Subject", "lunch"))
            assert call.invite.get_all("subject") == [b"validated <sip:carol@a.example>"]
            await call.end()

    run(work)


SUBJECTS = [
    (("Subject", "lunch"), ("Subject", "validated <sip:boss@a.example>")),
    (("s", "validated <sip:boss@a.example>"),),
    (("s", "lunch"), ("SUBJECT", "VALIDATED <sip:boss@a.example>")),
    (("Subject", "\r\n validated <sip:boss@a.example>"),),
    (("Subject", '"validated <sip:boss@a.example>"'),),
    (("Subject", "\tvalidated\t<sip:boss@a.example>"),),
]


@pytest.mark.parametrize("subjects", SUBJECTS)
def test_subjects_that_lie(tmp_path: Path, subjects: tuple[tuple[str, str], ...]) -> None:
    """However it is written; the one of these that is not first as well."""

    async def work() -> None:
        async with between(tmp_path, level="medium") as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave, *subjects)
            assert call.outcome == (200, "")
            assert b"boss" not in call.invite.serialize()
            await call.end()

    run(work)


def test_asserted_within_the_domain(tmp_path: Path) -> None:
    """Who has shown who it is by its password is asserted; but no signature was checked."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, erin = [await Phone.open(world.left, one, show="subject,asserted") for one in ("carol", "erin")]
            call = await Call.try_(carol, erin, *LIES)
            assert shown(call.invite) == ([], [b"<sip:carol@a.example>"])
            assert shown(call.response) == ([], [b"<sip:erin@a.example>"])
            await call.end()

    run(work)
