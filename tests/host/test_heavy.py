"""Calls between two domains at heavy: sealed on the trunk, bare at the phones, and told what held."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from attacks.middle import BACK, FORTH, Middle
from sip import SDP, Domain, answer, call, in_dialog, run
from test_trunk import users

from lab.lab import Lab
from neighbour.agent.authority import Authority
from sipwire.message import Request, Response

OFFER = b"v=0\r\no=carol 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n"
HEAVY = b'level=heavy;verified="sip:%s";by="%s";signed;encrypted;tls'


def set_level(lab: Lab, domain: str, level: str) -> None:
    lab.change(domain, '# level = "medium"', f'level = "{level}"')


@contextlib.asynccontextmanager
async def between(
    folder: Path,
    *,
    level: str = "heavy",
    prepare: Callable[[Lab], None] | None = None,
    shows: str = "b.example",
    claims: str = "a.example",
) -> AsyncIterator[tuple[Domain, Domain, Middle]]:
    """Two domains at a level, with somebody between them who sees all that a.example sends to b.example.

    Args:
        folder: for their files.
        level: the least, of both.
        prepare: changes something before they start.
        shows: of whom it shows a certificate to a.example.
        claims: of whom it shows one to b.example.
    """
    lab = Lab(folder)
    addresses = lab.make_domains("a.example", "b.example")
    between_them = lab.next_address()
    for name in addresses:
        lab.change(name, 'level = "debug"', 'level = "error"')
        lab.configure(name, "relay", '"never"')  # the addresses in descriptions here are made up
        set_level(lab, name, level)
    lab.change("a.example", f'"{addresses["b.example"]}:5061"', f'"{between_them}:5061"')
    if prepare is not None:
        prepare(lab)
    domains = [Domain(lab, name, address) for name, address in addresses.items()]
    keys = {name: (lab.folder / name / f"{name}.pem", lab.folder / name / f"{name}.key") for name in addresses}
    for other in {shows, claims} - keys.keys():
        keys[other] = (lab.folder / f"{other}.pem", lab.folder / f"{other}.key")
        Authority(lab.folder / "ca").issue_domain(other).write(*keys[other])
    root = lab.folder / "ca" / "root.pem"
    with Middle(between_them, addresses["b.example"], keys[shows], keys[claims], root) as middle:
        for one in domains:
            await one.start()
        try:
            yield domains[0], domains[1], middle
        finally:
            for one in domains:
                for client in one.clients:
                    client.close()
                await one.stop()


def test_a_heavy_call(tmp_path: Path) -> None:
    async def work() -> None:
        async with between(tmp_path) as (left, right, middle):
            carol, dave = await users(left, right)
            sent = await call(carol, "carol", "sip:dave@b.example")
            got = await dave.request("INVITE")
            assert got.body == SDP
            assert got.get("security-status") == HEAVY % (b"carol@a.example", b"a.example")
            ok = answer(got, 200, dave.contact)
            ok.set_body(b"application/sdp", OFFER)
            dave.send(ok)
            answered = await carol.response()
            assert (answered.status, answered.body) == (200, OFFER)
            assert answered.get("security-status") == HEAVY % (b"dave@b.example", b"b.example")
            carol.send(in_dialog("ACK", answered, carol.contact, sent.cseq.number, sent))
            await dave.request("ACK")
            carol.send(in_dialog("BYE", answered, carol.contact, sent.cseq.number + 1, sent))
            dave.send(answer(await dave.request("BYE"), 200))
            assert (await carol.response()).status == 200
            wire = b"".join(message.serialize() for _, message in middle.seen)
            assert SDP not in wire
            assert b"192.0.2.1" not in wire
            invite = next(
                one for way, one in middle.seen if way == FORTH and isinstance(one, Request) and one.method == "INVITE"
            )
            assert (invite.get("content-type") or b"").startswith(
                b"application/pkcs7-mime;smime-type=auth-enveloped-data"
            )
            assert [one.get("content-type") for way, one in middle.seen if way == BACK and one.body]

    run(work)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("Contact", b"<sip:mallory@192.0.2.66>", b"Contact is not what was signed"),
        ("To", b"<sip:dave@b.example>;tag=other", b"To is not what was signed"),
    ],
)
def test_an_answer_whose_end_was_changed(tmp_path: Path, name: str, value: bytes, reason: bytes) -> None:
    """The caller is told; who answered can't be, since what would lead there is what was changed."""

    async def work() -> None:
        async with between(tmp_path) as (left, right, middle):
            carol, dave = await users(left, right)

            def tamper(message: Request | Response, direction: str) -> list[Request | Response]:
                if direction == BACK and isinstance(message, Response) and message.status == 200 and message.body:
                    message.set(name, value)
                return [message]

            middle.tamper = tamper
            await call(carol, "carol", "sip:dave@b.example")
            ok = answer(await dave.request("INVITE"), 200, dave.contact)
            ok.set_body(b"application/sdp", OFFER)
            dave.send(ok)
            refused = await carol.response()
            assert refused.status == 403
            assert reason in (refused.get("warning") or b"")

    run(work)


@pytest.mark.parametrize(
    ("shows", "claims", "status", "reason"),
    [
        ("c.example", "c.example", 503, b"certificate is of c.example, not of b.example"),
        ("b.example", "c.example", 403, b"From is not of the domain of the certificate"),
    ],
)
def test_somebody_with_a_certificate_of_a_third_domain(
    tmp_path: Path, shows: str, claims: str, status: int, reason: bytes
) -> None:
    """Without the trunk's key nothing gets as far as S/MIME, in either direction."""

    async def work() -> None:
        async with between(tmp_path, shows=shows, claims=claims) as (left, right, _):
            carol, dave = await users(left, right)
            await call(carol, "carol", "sip:dave@b.example")
            refused = await carol.response()
            assert refused.status == status
            assert reason in (refused.get("warning") or b"")
            await dave.silence(0.2)

    run(work)


def test_a_call_can_always_be_ended(tmp_path: Path) -> None:
    """What has no body has no answer to seal: nobody needs a certificate of its sender for it."""

    async def work() -> None:
        async with between(tmp_path) as (left, right, _):
            carol, dave = await users(left, right)
            sent = await call(carol, "carol", "sip:dave@b.example")
            ok = answer(await dave.request("INVITE"), 200, dave.contact)
            ok.set_body(b"application/sdp", OFFER)
            dave.send(ok)
            answered = await carol.response()
            assert answered.status == 200
            # As after a restart, with a peer to whose own certificate nothing can be encrypted.
            right.neighbour._proxy._agent._recipients.at_once = lambda aor, flow: None  # type: ignore[method-assign]
            late = in_dialog("ACK", answered, carol.contact, sent.cseq.number, sent)
            late.set_body(b"application/sdp", OFFER)
            carol.send(late)
            got = await dave.request("ACK")
            assert (got.body, got.get("security-status")) == (OFFER, HEAVY % (b"carol@a.example", b"a.example"))
            carol.send(in_dialog("BYE", answered, carol.contact, sent.cseq.number + 1, sent))
            dave.send(answer(await dave.request("BYE"), 200))
            assert (await carol.response()).status == 200
            await call(carol, "carol", "sip:dave@b.example")
            refused = await carol.response()
            assert refused.status == 488
            assert b"no certificate of the caller" in (refused.get("warning") or b"")

    run(work)
