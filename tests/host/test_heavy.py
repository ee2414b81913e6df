"""Calls between two domains at heavy: sealed on the trunk, bare at the phones, and told what held."""

import contextlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from attacks.middle import BACK, FORTH, Middle
from sip import SDP, Domain, UdpClient, answer, call, in_dialog, run

from lab.lab import Lab
from sipwire.message import Request

OFFER = b"v=0\r\no=carol 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/SAVP 0\r\n"
HEAVY = b'level=heavy;verified="sip:%s";by="%s";signed;encrypted;tls'


def set_level(lab: Lab, domain: str, level: str) -> None:
    lab.change(domain, '# level = "medium"', f'level = "{level}"')


@contextlib.asynccontextmanager
async def between(
    folder: Path, *, level: str = "heavy", prepare: Callable[[Lab], None] | None = None
) -> AsyncIterator[tuple[Domain, Domain, Middle]]:
    """Two domains at a level, with somebody between them who sees all that a.example sends to b.example."""
    lab = Lab(folder)
    addresses = lab.make_domains("a.example", "b.example")
    between_them = lab.next_address()
    for name in addresses:
        lab.change(name, 'level = "debug"', 'level = "error"')
        set_level(lab, name, level)
    lab.change("a.example", f'"{addresses["b.example"]}:5061"', f'"{between_them}:5061"')
    if prepare is not None:
        prepare(lab)
    domains = [Domain(lab, name, address) for name, address in addresses.items()]
    keys = {name: (lab.folder / name / f"{name}.pem", lab.folder / name / f"{name}.key") for name in addresses}
    root = lab.folder / "ca" / "root.pem"
    with Middle(between_them, addresses["b.example"], keys["b.example"], keys["a.example"], root) as middle:
        for one in domains:
            await one.start()
        try:
            yield domains[0], domains[1], middle
        finally:
            for one in domains:
                for client in one.clients:
                    client.close()
                await one.stop()


async def users(left: Domain, right: Domain) -> tuple[UdpClient, UdpClient]:
    await left.add("carol")
    await right.add("dave")
    carol, dave = await UdpClient.open(left), await UdpClient.open(right)
    await carol.register(left, "carol")
    await dave.register(right, "dave")
    return carol, dave


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
