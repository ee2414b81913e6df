"""Certificates of others at heavy: whose is used, which are looked for anew, and what changes while neighbours run."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from attacks.middle import FORTH, Message
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from pki import EMAIL, URI, Made, authority, leaf
from pki import crl as make_crl
from sealed import (
    ANSWER,
    OFFER,
    TO_CAROL,
    TO_DAVE,
    Call,
    between,
    certificates_of,
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
from neighbour.agent.authority import Authority
from neighbour.agent.mime import to_message
from neighbour.agent.recipients import Recipients
from neighbour.agent.smime import certificates_entity
from neighbour.cli import run_command
from sipwire.message import Request, Response
from sipwire.transaction import cancel_for

DAVE = b"sip:dave@b.example"
WAITS_S = 2.0  # for a credential service


def recipients_of(at: Domain) -> Recipients:
    found = at.neighbour._proxy._agent._recipients
    assert isinstance(found, Recipients)
    return found


def is_for(invite: Message, certificate: x509.Certificate) -> bool:
    """Whether a body was encrypted for a certificate: that its serial number stands there."""
    number = certificate.serial_number
    return number.to_bytes(number.bit_length() // 8 + 1) in invite.body


def intermediate(lab: Lab) -> Made:
    folder = lab.folder / "ca"
    key = serialization.load_pem_private_key((folder / "intermediate.key").read_bytes(), None)
    return Made(x509.load_pem_x509_certificate((folder / "intermediate.pem").read_bytes()), key)


NOW = datetime.now(UTC).replace(microsecond=0)
VALIDITY = {"before": NOW - timedelta(days=1), "after": NOW + timedelta(days=30)}


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
                message.set("Accept", b"text/plain")
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
            if service == "silent":
                assert WAITS_S <= took_s < 5 * WAITS_S  # of a busy computer
            assert is_for(invites(world)[-1], certificates_of(world.right).domain.certificate)
            assert world.count(world.forth, "SUBSCRIBE") == 1
            call = await Call.try_(carol, dave)
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
    to_message(response, None)


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
            both = [one.neighbour._proxy._agent._trust.paths for one in (world.left, world.right)]
            before = [one._revocation for one in both]
            ca = Authority(world.lab.folder / "ca")
            ca.revoke(own.certificate)
            ca.crl()
            await eventually(lambda: all(one._revocation is not old for one, old in zip(both, before, strict=True)))
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
    made = make_crl(issuer, key=authority("somebody").key, since=NOW - timedelta(days=1), until=NOW + timedelta(days=9))
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
