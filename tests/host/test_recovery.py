"""What goes wrong between two neighbours at heavy, and how a call goes on all the same, or ends as it should.

S/MIME that is impossible, and the fall-back to plain SIP where a configuration allows it; answers that fail a check.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attacks.middle import BACK, FORTH, Message
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pki import DNS, SIP_DOMAIN, URI, Made, leaf, usage
from sealed import (
    ANSWER,
    NOT_SEALED,
    OFFER,
    TO_CAROL,
    TO_DAVE,
    Call,
    between,
    eventually,
    garbled,
    invites,
    people,
    reason,
    silent_service,
    told,
)
from sip import Domain, answer, run

from lab.lab import Lab
from neighbour.agent.credential import Credential
from sipwire.message import Request, Response

PLAIN = 'level=medium;by="%s";tls;plain="%s"'
MAY_BE_PLAIN = ['on_failure = "plain"']


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
    Credential(made.certificate, made.key, (issuer.certificate,)).write(
        folder / "b.example.pem", folder / "b.example.key"
    )


def mislabelled(message: Message, to: str) -> list[Message]:
    """What is sealed is said to be of a kind that it is not: the other end does not understand it."""
    if to == FORTH and isinstance(message, Request) and message.method == "INVITE":
        kind = (message.get("content-type") or b"").replace(b"auth-enveloped-data", b"signed-data")
        message.set("Content-Type", kind)
    return [message]


def redirected(message: Message, to: str) -> list[Message]:
    """A check fails."""
    if to == FORTH and isinstance(message, Request) and message.method == "INVITE":
        message.set("Contact", b"<sip:me@192.0.2.66>")
    return [message]


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


def test_an_answer_to_a_change_of_a_call_that_fails_a_check(tmp_path: Path) -> None:
    """The caller hears why; who has answered is hung up on, as both have another idea of the call now."""

    async def work() -> None:
        async with between(tmp_path) as world:
            carol, dave = await people(world)
            call = await Call.try_(carol, dave)
            await call.acknowledge()

            def tamper(message: Message, to: str) -> list[Message]:
                if isinstance(message, Response) and message.cseq.method == "INVITE" and message.body:
                    contact(message)
                return [message]

            world.forth.tamper = world.back.tamper = tamper
            again = call.dialogs()[0].new_request("INVITE")
            again.add("Contact", f"<{carol.client.contact}>".encode())
            again.set_body(b"application/sdp", OFFER)
            carol.client.send(again)
            got = await dave.client.request("INVITE")
            dave.client.send(call.accept(got))
            refused = await carol.client.response()
            assert (refused.status, reason(refused)) == (403, "Contact is not what was signed")
            ack = await dave.client.request("ACK")
            assert ack.cseq.number == again.cseq.number
            assert ack.uri.decode() == dave.client.contact
            bye = await dave.client.request("BYE")
            assert bye.cseq.number == again.cseq.number + 1
            assert bye.to.tag == b"callee"
            dave.client.send(answer(bye, 200))

    run(work)
