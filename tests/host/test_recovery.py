"""What goes wrong between two neighbours at heavy, and how a call goes on all the same, or ends as it should.

Certificates that nobody has, that are others by now, or that were revoked; answers that fail a check; and the fall-back
to plain SIP, where a configuration allows it.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attacks.middle import BACK, FORTH, Message
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pki import DNS, EMAIL, SIP_DOMAIN, URI, Made, authority, leaf, usage
from pki import crl as make_crl
from sealed import ANSWER, OFFER, Call, Phone, World, between, eventually, reason, told
from sip import Domain, answer, run

from lab.lab import Lab
from neighbour.agent.authority import Authority
from neighbour.agent.certificates import Certificates
from neighbour.agent.credential import Credential
from neighbour.agent.recipients import Recipients
from neighbour.agent.smime import certificates_entity
from neighbour.cli import run_command
from sipwire.message import Request, Response
from sipwire.transaction import cancel_for

TO_DAVE = 'level=heavy;verified="sip:carol@a.example";by="a.example";signed;encrypted;tls'
TO_CAROL = 'level=heavy;verified="sip:dave@b.example";by="b.example";signed;encrypted;tls'
PLAIN = 'level=medium;by="%s";tls;plain="%s"'
NOT_SEALED = "heavy security is demanded, and the body is not signed and encrypted, with its headers"
DAVE = b"sip:dave@b.example"
MAY_BE_PLAIN = ['on_failure = "plain"']
WAITS_S = 2.0  # for a credential service


async def people(world: World) -> tuple[Phone, Phone]:
    return await Phone.open(world.left, "carol"), await Phone.open(world.right, "dave")


def certificates_of(at: Domain) -> Certificates:
    found = at.neighbour._proxy._agent._certificates
    assert isinstance(found, Certificates)
    return found


def recipients_of(at: Domain) -> Recipients:
    found = at.neighbour._proxy._agent._recipients
    assert isinstance(found, Recipients)
    return found


def is_for(invite: Message, certificate: x509.Certificate) -> bool:
    """Whether a body was encrypted for a certificate: that its serial number stands there."""
    number = certificate.serial_number
    return number.to_bytes(number.bit_length() // 8 + 1) in invite.body


def invites(world: World) -> list[Request]:
    """Those that have gone to b.example."""
    return [one for to, one in world.forth.seen if to == FORTH and isinstance(one, Request) and one.method == "INVITE"]


def intermediate(lab: Lab) -> Made:
    folder = lab.folder / "ca"
    key = serialization.load_pem_private_key((folder / "intermediate.key").read_bytes(), None)
    return Made(x509.load_pem_x509_certificate((folder / "intermediate.pem").read_bytes()), key)


NOW = datetime.now(UTC).replace(microsecond=0)
VALIDITY = {"before": NOW - timedelta(days=1), "after": NOW + timedelta(days=30)}


# No certificate, or one that is of no use.


def nobody_to_encrypt_to(lab: Lab) -> None:
    """b.example's certificate signs the handshakes of TLS, and nothing is encrypted to it."""
    issuer = intermediate(lab)
    made = leaf(
        issuer,
        "b.example",
        names=(URI("sip:b.example"), DNS("b.example")),
        extended=(SIP_DOMAIN, x509.OID_SERVER_AUTH, x509.OID_CLIENT_AUTH),
        usage=usage("digital_signature"),
        **VALIDITY,
    )
    folder = lab.folder / "b.example"
    Credential(made.certificate, made.key, (issuer.certificate,)).write(folder / "b.example.pem", folder / "b.example.key")


def mislabelled(message: Message, to: str) -> list[Message]:
    """What is sealed is said to be of a kind that it is not: the other end does not understand it."""
    if to == FORTH and isinstance(message, Request) and message.method == "INVITE":
        kind = (message.get("content-type") or b"").replace(b"auth-enveloped-data", b"signed-data")
        message.set("Content-Type", kind)
    return [message]


def garbled(message: Message, to: str) -> list[Message]:
    """What is sealed can't be opened."""
    if to == FORTH and isinstance(message, Request) and message.method == "INVITE" and len(message.body) > len(OFFER):
        message.body = message.body[:-1] + bytes([message.body[-1] ^ 1])
    return [message]


def redirected(message: Message, to: str) -> list[Message]:
    """A check fails."""
    if to == FORTH and isinstance(message, Request) and message.method == "INVITE":
        message.set("Contact", b"<sip:me@192.0.2.66>")
    return [message]


def silent_service(message: Message, to: str) -> list[Message]:
    is_question = to == FORTH and isinstance(message, Request) and message.method == "SUBSCRIBE"
    return [] if is_question else [message]


Tamper = Callable[[Message, str], list[Message]]
IMPOSSIBLE: list[tuple[str, Tamper, int, str, int]] = [
    # What is done, what the caller gets where nothing else is allowed, why it goes plain, and the INVITEs until then.
    ("no certificate", silent_service, 488, "no certificate of sip:dave@b.example", 1),
    ("415", mislabelled, 415, "answered 415", 2),
    ("493 twice", garbled, 493, "answered 493", 3),
]


@pytest.mark.parametrize(("name", "tamper", "status", "why", "count"), IMPOSSIBLE, ids=[row[0] for row in IMPOSSIBLE])
@pytest.mark.parametrize("plain", ["neither", "caller", "callee", "both"])
def test_where_it_is_impossible(
    tmp_path: Path, plain: str, name: str, tamper: Tamper, status: int, why: str, count: int
) -> None:
    left = MAY_BE_PLAIN if plain in ("caller", "both") else []
    right = MAY_BE_PLAIN if plain in ("callee", "both") else []
    prepare = nobody_to_encrypt_to if name == "no certificate" else None

    async def work() -> None:
        async with between(tmp_path, left=left, right=right, prepare=prepare) as world:
            carol, dave = await people(world)
            world.forth.tamper = tamper
            call = await Call.try_(carol, dave)
            if plain == "both":
                assert call.outcome == (200, "")
                assert told(call.invite) == PLAIN % ("a.example", "not signed and encrypted")
                assert told(call.response) == PLAIN % ("b.example", why)
                assert (call.invite.body, call.response.body) == (OFFER, ANSWER)
                assert len(invites(world)) == count
                await call.end()
                return
            assert call.got is None
            if plain == "caller":
                assert call.outcome == (488, NOT_SEALED)  # it went plain, and the other end refuses that
            else:
                assert call.response.status == status
                assert OFFER not in world.wire()

    run(work)


@pytest.mark.parametrize("way", ["request", "answer"])
def test_plain_is_no_way_around_a_check(tmp_path: Path, way: str) -> None:
    async def work() -> None:
        async with between(tmp_path, left=MAY_BE_PLAIN, right=MAY_BE_PLAIN) as world:
            carol, dave = await people(world)
            if way == "request":
                world.forth.tamper = redirected
                call = await Call.try_(carol, dave)
                assert call.got is None
            else:

                def work(response: Response) -> list[Response]:
                    response.set("Contact", b"<sip:me@192.0.2.66>")
                    return [response]

                world.tamper_answer(world.forth, work)
                call = await Call.try_(carol, dave)
            assert call.outcome == (403, "Contact is not what was signed")
            assert len(invites(world)) == 1
            assert OFFER not in world.wire()

    run(work)


def test_sealed_where_it_is_possible(tmp_path: Path) -> None:
    """That it may be plain makes nothing plain."""

    async def work() -> None:
        async with between(tmp_path, left=MAY_BE_PLAIN, right=MAY_BE_PLAIN) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
            await call.end()

    run(work)


# Finding a certificate.


def test_the_nearest_certificate(tmp_path: Path) -> None:
    """What was given by hand, or was learnt, asks nobody; learnt counts for more."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            assert world.count(world.forth, "SUBSCRIBE") == 1
            agent = certificates_of(world.right).agent
            own = certificates_of(world.right).of_user("dave")
            assert agent is not None
            assert own is not None
            assert is_for(invites(world)[-1], agent.certificate)  # he had none of his own until he answered
            await call.end()
            call = await Call.try_(carol, dave)
            assert is_for(invites(world)[-1], own.certificate)
            await call.end()
            # One that was given by hand.
            other = Authority(world.lab.folder / "ca").issue_user("sip:dave@b.example")
            peers = world.left.folder / "certificates" / "peers"
            peers.mkdir(exist_ok=True)
            (peers / "dave@b.example.pem").write_bytes(other.chain_pem())
            await eventually(lambda: certificates_of(world.left).directory(DAVE))
            call = await Call.try_(carol, dave)
            assert is_for(invites(world)[-1], own.certificate)
            await call.end()
            recipients_of(world.left).forget(DAVE)
            call = await Call.try_(carol, dave)
            assert is_for(invites(world)[-2], other.certificate)  # Dave's neighbour has no such key, and says so
            assert is_for(invites(world)[-1], own.certificate)
            assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
            await call.end()
            assert world.count(world.forth, "SUBSCRIBE") == 1

    run(work)


@pytest.mark.parametrize("service", ["silent", "refuses", "of nobody", "of another"])
def test_a_credential_service_that_does_not_help(tmp_path: Path, service: str) -> None:
    """The domain's certificate does; and who had nothing is not asked again for each call."""

    def tamper(message: Message, to: str) -> list[Message]:
        if to == FORTH and isinstance(message, Request) and message.method == "SUBSCRIBE":
            if service == "silent":
                return []
            if service == "refuses":
                message.set("Event", b"whatever")
            else:
                message.uri = b"sip:nobody@b.example" if service == "of nobody" else b"sip:erin@b.example"
        return [message]

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            await world.right.add("erin")
            assert certificates_of(world.right).of_user("erin") is not None
            world.forth.tamper = tamper
            began = time.monotonic()
            call = await Call.try_(carol, dave, respond=lambda invite: answer(invite, 486))
            took_s = time.monotonic() - began
            assert call.response.status == 486
            assert told(call.invite) == TO_DAVE
            assert (took_s >= WAITS_S) is (service == "silent"), took_s
            assert took_s < 2 * WAITS_S
            assert is_for(invites(world)[-1], certificates_of(world.right).domain.certificate)
            assert world.count(world.forth, "SUBSCRIBE") == 1
            began = time.monotonic()
            call = await Call.try_(carol, dave)
            assert time.monotonic() - began < WAITS_S
            assert told(call.invite) == TO_DAVE
            assert world.count(world.forth, "SUBSCRIBE") == 1
            await call.end()

    run(work)


def test_cancelled_while_a_certificate_is_looked_for(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            world.forth.tamper = silent_service
            sent = await carol.send("INVITE", dave.aor, OFFER)
            await eventually(lambda: world.count(world.forth, "SUBSCRIBE"))
            carol.client.send(cancel_for(sent))
            statuses = {(await carol.client.response()).status, (await carol.client.response()).status}
            assert statuses == {200, 487}
            await dave.client.silence(WAITS_S + 0.5)
            assert not invites(world)

    run(work)


def forget_key(at: Domain, user: str) -> None:
    """As if ten minutes had passed since a key was replaced."""
    certificates = certificates_of(at)
    certificates.reload()
    certificates._retired = [(datetime(2020, 1, 1, tzinfo=UTC), one) for _, one in certificates._retired]
    certificates.reload()


@pytest.mark.parametrize("renewed", [False, True], ids=["lost", "renewed"])
def test_the_certificate_of_a_493(tmp_path: Path, renewed: bool) -> None:
    """Once more with what Dave has now, and only once; from then on without."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            await call.end()
            folder = world.right.folder / "certificates"
            if renewed:
                issued = Authority(world.lab.folder / "ca").issue_user("sip:dave@b.example")
                issued.write(folder / "dave.pem", folder / "dave.key")
            else:
                (folder / "dave.pem").unlink()
                (folder / "dave.key").unlink()
            forget_key(world.right, "dave")
            for count in (3, 4):
                call = await Call.try_(carol, dave)
                assert call.outcome == (200, "")
                assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
                assert (call.invite.body, call.response.body) == (OFFER, ANSWER)
                assert len(invites(world)) == count
                await call.end()
            made = await carol.send("MESSAGE", dave.aor, b"hello", "text/plain")
            got = await dave.client.request("MESSAGE")
            assert got.body == b"hello"
            dave.client.send(answer(got, 200))
            assert (await carol.client.response()).cseq.number == made.cseq.number

    run(work)


def shown_by(*certificates: x509.Certificate) -> Callable[[Response], None]:
    def work(response: Response) -> None:
        body = certificates_entity(certificates)
        response.set_body(b"application/pkcs7-mime;smime-type=certs-only", body.content())

    return work


def nothing(response: Response) -> None:
    response.body = b""
    response.set("Content-Length", b"0")


def of_stranger(_: Lab) -> Callable[[Response], None]:
    issuer = authority("another root", **VALIDITY)
    return shown_by(leaf(issuer, "dave", names=(URI("sip:dave@b.example"),), extended=(EMAIL,), **VALIDITY).certificate)


BAD_493: list[tuple[str, Callable[[Lab], Callable[[Response], None]]]] = [
    ("none", lambda _: nothing),
    ("of another", lambda lab: shown_by(Authority(lab.folder / "ca").issue_user("sip:erin@b.example").certificate)),
    ("of another domain", lambda lab: shown_by(Authority(lab.folder / "ca").issue_agent("a.example").certificate)),
    ("of an unknown authority", of_stranger),
    (
        "expired",
        lambda lab: shown_by(
            Authority(lab.folder / "ca")
            .issue_user("sip:dave@b.example", NOW - timedelta(days=9), NOW - timedelta(days=2))
            .certificate
        ),
    ),
    ("broken", lambda _: lambda response: response.set_body(b"application/pkcs7-mime;smime-type=certs-only", b"0\x82")),
]


@pytest.mark.parametrize(("name", "make"), BAD_493, ids=[row[0] for row in BAD_493])
def test_a_493_that_does_not_help(tmp_path: Path, name: str, make: Callable[[Lab], Callable[[Response], None]]) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            change = make(world.lab)

            def tamper(message: Message, to: str) -> list[Message]:
                if isinstance(message, Response) and message.status == 493:
                    change(message)
                return garbled(message, to)

            world.forth.tamper = tamper
            call = await Call.try_(carol, dave)
            assert call.outcome == (493, "it cannot be decrypted")
            assert call.got is None
            assert not call.response.body
            assert call.response.get("content-type") is None
            assert len(invites(world)) == 1
            # It has done no harm.
            world.forth.tamper = lambda message, _: [message]
            call = await Call.try_(carol, dave)
            assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
            await call.end()

    run(work)


# Certificates that change while calls go on.


@pytest.mark.parametrize("who", ["sip:carol@a.example", "@agent", "sip:a.example"])
def test_renewed_without_a_restart(tmp_path: Path, who: str) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            if who == "@agent":
                await carol.set(signer="domain")
            call = await Call.try_(carol, dave)
            await call.acknowledge()
            certificates = certificates_of(world.left)

            def now() -> x509.Certificate:
                found = {"@agent": certificates.agent, "sip:a.example": certificates.domain}
                one = found[who] if who in found else certificates.of_user("carol")
                assert one is not None
                return one.certificate

            before = now()
            config = str(world.left.folder / "wisp.toml")
            await asyncio.to_thread(run_command, "cert", "renew", who, "--config", config)
            await eventually(lambda: now() != before)
            # The call that was there, and the next one.
            dialog = call.dialogs()[0]
            info = dialog.new_request("INFO")
            info.set_body(b"text/plain", b"hello")
            carol.client.send(info)
            got = await dave.client.request("INFO")
            assert (got.body, told(got)) == (b"hello", TO_DAVE)
            dave.client.send(answer(got, 200))
            assert (await carol.client.response()).status == 200
            call = await Call.try_(carol, dave)
            assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
            if who != "sip:a.example":
                assert recipients_of(world.right)._learnt[b"sip:carol@a.example"].certificate == now()
            await call.end()

    run(work)


def with_lists(lab: Lab) -> None:
    Authority(lab.folder / "ca").crl()


@pytest.mark.parametrize("whose", ["the caller's", "the callee's"])
def test_revoked_while_running(tmp_path: Path, whose: str) -> None:
    """A list that is replaced counts from the next call on."""
    lists = ['crl = ["../ca/crl.pem"]']

    async def work() -> None:
        async with between(tmp_path, left=lists, right=lists, prepare=with_lists) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
            await call.end()
            own = certificates_of(world.left).of_user("carol")
            if whose == "the callee's":
                own = certificates_of(world.right).of_user("dave")
            assert own is not None
            ca = Authority(world.lab.folder / "ca")
            generations = [one.neighbour._refresh._paths.revocation for one in (world.left, world.right)]  # type: ignore[union-attr]
            ca.revoke(own.certificate)
            ca.crl()
            await eventually(
                lambda: all(
                    one.neighbour._refresh._paths.revocation is not before  # type: ignore[union-attr]
                    for one, before in zip((world.left, world.right), generations, strict=True)
                )
            )
            call = await Call.try_(carol, dave)
            assert call.outcome == (403, "certificate revoked")
            if whose == "the caller's":
                assert call.got is None
            else:
                await dave.client.request("ACK")
                await dave.client.request("BYE")

    run(work)


def stale(lab: Lab) -> None:
    long_ago = NOW - timedelta(days=40)
    Authority(lab.folder / "ca", lambda: long_ago).crl(3)


def forged(lab: Lab) -> None:
    """Said to be of the authority, and signed by somebody else."""
    issuer = intermediate(lab)
    made = make_crl(
        issuer, key=authority("somebody").key, since=NOW - timedelta(days=1), until=NOW + timedelta(days=9)
    )
    (lab.folder / "ca" / "crl.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))


LISTS: list[tuple[str, Callable[[Lab], None] | None, str]] = [
    ("missing", None, "no CRL of the issuer"),
    ("stale", stale, "CRL is stale"),
    ("forged", forged, "CRL's signature is wrong"),
]


@pytest.mark.parametrize("verdict", ["accept", "warn", "refuse"])
@pytest.mark.parametrize(("state", "prepare", "text"), LISTS, ids=[row[0] for row in LISTS])
def test_lists_that_are_not_as_they_should_be(
    tmp_path: Path, state: str, prepare: Callable[[Lab], None] | None, text: str, verdict: str
) -> None:
    right = [f'crl_{state} = "{verdict}"'] + (['crl = ["../ca/crl.pem"]'] if prepare else [])

    async def work() -> None:
        async with between(tmp_path, right=right, prepare=prepare) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            if verdict == "refuse":
                assert call.outcome == (403, text)
                assert call.got is None
                return
            assert call.outcome == (200, "")
            assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
            assert reason(call.invite) == (text if verdict == "warn" else "")
            assert len(call.invite.get_all("warning")) == (verdict == "warn")
            await call.end()

    run(work)


@pytest.mark.parametrize(("state", "prepare", "text"), LISTS, ids=[row[0] for row in LISTS])
def test_lists_on_the_caller_s_side(
    tmp_path: Path, state: str, prepare: Callable[[Lab], None] | None, text: str
) -> None:
    """The caller is told of the certificate of who has answered."""
    left = [f'crl_{state} = "warn"'] + (['crl = ["../ca/crl.pem"]'] if prepare else [])

    async def work() -> None:
        async with between(tmp_path, left=left, prepare=prepare) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            assert call.response.status == 200
            assert told(call.response) == TO_CAROL
            assert reason(call.response) == text
            assert len(call.response.get_all("warning")) == 1
            await call.end()

    run(work)


# Answers that fail a check.


def contact(response: Response) -> None:
    response.set("Contact", b"<sip:me@192.0.2.66>")


def bare(response: Response) -> None:
    response.set_body(b"application/sdp", ANSWER)


def broken(response: Response) -> None:
    response.set_body(response.get("content-type") or b"", response.body[:-1] + bytes([response.body[-1] ^ 1]))


def cut(response: Response) -> None:
    response.set_body(response.get("content-type") or b"", response.body[:40])


def other_kind(response: Response) -> None:
    response.set_body((response.get("content-type") or b"").replace(b"auth-enveloped", b"signed"), response.body)


def dated(response: Response) -> None:
    response.set("Date", b"Thu, 21 Feb 2030 13:02:03 GMT")


BAD_ANSWERS: list[tuple[str, Callable[[Response], None], int, str]] = [
    ("Contact", contact, 403, "Contact is not what was signed"),
    ("Date", dated, 403, "Date is not what was signed"),
    ("not sealed", bare, 488, NOT_SEALED),
    ("changed", broken, 493, "it cannot be decrypted"),
    ("cut", cut, 400, "S/MIME: "),
    ("another kind", other_kind, 415, "S/MIME: "),
]


def is_idle(at: Domain) -> bool:
    return at.neighbour._proxy.working == 0 and not at.neighbour._proxy._forks


@pytest.mark.parametrize(("name", "change", "status", "why"), BAD_ANSWERS, ids=[row[0] for row in BAD_ANSWERS])
def test_an_answer_that_fails_a_check(
    tmp_path: Path, name: str, change: Callable[[Response], None], status: int, why: str
) -> None:
    """The caller hears why, and the callee that it is over: once, however often it repeats its answer."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)

            def work(response: Response) -> list[Response]:
                change(response)
                return [response]

            world.tamper_answer(world.forth, work)
            call = await Call.try_(carol, dave)
            assert call.response.status == status
            assert reason(call.response).startswith(why)
            assert call.response.body == b""
            assert call.response.get("content-type") is None
            assert call.response.get("security-status") is None
            ack = await dave.client.request("ACK")
            assert (ack.cseq.number, ack.to.tag) == (call.invite.cseq.number, b"callee")
            bye = await dave.client.request("BYE")
            assert (bye.cseq.number, bye.to.tag) == (call.invite.cseq.number + 1, b"callee")
            assert bye.call_id == call.invite.call_id
            dave.client.send(call.accept(call.invite))  # as if the ACK were lost
            ack = await dave.client.request("ACK")
            assert ack.cseq.number == call.invite.cseq.number
            dave.client.send(answer(bye, 200))
            await dave.client.silence(1.0)
            await carol.client.silence(0.1)
            await eventually(lambda: is_idle(world.left) and is_idle(world.right))
            # Nothing of it is left for the next.
            world.forth.tamper = lambda message, _: [message]
            call = await Call.try_(carol, dave)
            assert (told(call.invite), told(call.response)) == (TO_DAVE, TO_CAROL)
            await call.end()

    run(work)


@pytest.mark.parametrize("then", ["487", "200"])
def test_a_provisional_answer_that_fails_a_check(tmp_path: Path, then: str) -> None:
    """It is cancelled; and where the callee has answered at that moment, hung up."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)

            def work(response: Response) -> list[Response]:
                bare(response)
                return [response]

            world.tamper_answer(world.forth, work, 183)

            def ring(invite: Request) -> Response:
                made = answer(invite, 183, dave.client.contact)
                made.set_body(b"application/sdp", ANSWER)
                return made

            call = await Call.try_(carol, dave, respond=ring)
            assert call.outcome == (488, NOT_SEALED)
            cancel = await dave.client.request("CANCEL")
            dave.client.send(answer(cancel, 200))
            if then == "487":
                dave.client.send(answer(call.invite, 487))
                assert (await dave.client.request("ACK")).via.branch == call.invite.via.branch
            else:
                dave.client.send(call.accept(call.invite))
                await dave.client.request("ACK")
                bye = await dave.client.request("BYE")
                dave.client.send(answer(bye, 200))
            await dave.client.silence(0.7)
            await carol.client.silence(0.1)
            await eventually(lambda: is_idle(world.left) and is_idle(world.right))

    run(work)


@pytest.mark.parametrize("method", ["MESSAGE", "UPDATE"])
def test_an_answer_to_something_else_that_fails_a_check(tmp_path: Path, method: str) -> None:
    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)

            def tamper(message: Message, to: str) -> list[Message]:
                if to == BACK and isinstance(message, Response) and message.body:
                    bare(message)
                return [message]

            world.forth.tamper = tamper
            await carol.send(method, dave.aor, OFFER)
            got = await dave.client.request(method)
            back = answer(got, 200, dave.client.contact)
            back.set_body(b"application/sdp", ANSWER)
            dave.client.send(back)
            answered = await carol.client.response()
            assert (answered.status, reason(answered)) == (488, NOT_SEALED)
            await dave.client.silence(0.3)  # there is nothing to end
            await eventually(lambda: is_idle(world.left) and is_idle(world.right))

    run(work)
