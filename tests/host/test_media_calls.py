"""Relayed calls through a whole neighbour: each rule of offer and answer, with packets that really go through."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from relayed import ALWAYS, Ear, Party, check_heard, connect, records, relayed, set_media, stream_of
from sip import Domain, answer, run

from sipwire.message import Response
from sipwire.sdp import Session

Work = Callable[[Domain, Party, Party], Awaitable[None]]


def with_relay(folder: Path, work: Work, mode: str = ALWAYS, **changes: str) -> None:
    async def inside() -> None:
        async with relayed(folder, mode, **changes) as (at, carol, dave):
            await work(at, carol, dave)

    run(inside)


def count(at: Domain) -> int:
    return int(at.value("wisp_relays"))


async def gone(at: Domain) -> None:
    """Until no relay is open."""
    for _ in range(500):
        if not count(at):
            return
        await asyncio.sleep(0.02)
    raise AssertionError(f"{count(at)} relays are open")


def warning(response: Response) -> str:
    return (response.get("warning") or b"").decode()


# Whole calls.


def test_a_call_and_its_record(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        assert count(at) == 1
        offered, answered = dave.invite, carol.response
        # Neither learns the address of the other, and keys and tags are as their authors wrote them.
        assert carol.ear.address[0].encode() not in offered.body.replace(
            b"o=- 7 1 IN IP4 " + carol.ear.address[0].encode(), b""
        )
        assert stream_of(offered)[0][0] == stream_of(answered)[0][0] == at.address
        assert stream_of(offered)[0][1] != stream_of(answered)[0][1]
        assert [one.serialize() for one in stream_of(offered)[2]] == [carol.ear.crypto.serialize()]
        assert [one.serialize() for one in stream_of(answered)[2]] == [dave.ear.crypto.serialize()]
        for _ in range(3):
            await check_heard(carol, dave, offered, answered)
        assert await records(at, 0) == []
        await carol.hang_up(dave)
        await gone(at)
        (record,) = await records(at)
        assert (record.caller, record.callee) == ("sip:carol@a.example", "sip:dave@a.example")
        assert (record.status, record.reason) == (200, "")
        assert record.connected_at is not None
        assert record.began_at <= record.connected_at <= record.ended_at
        assert len(record.call_id) == 64
        assert carol.invite.call_id.decode() not in str(record)
        (media,) = record.media
        assert (media["kind"], media["protection"]) == ("audio", "passed")
        assert [side["packets"] for side in media["sides"]] == [3, 3]
        assert len(at.neighbour._proxy._calls) == 0
        assert not at.neighbour._proxy._calls._known

    with_relay(tmp_path, work)


def test_the_callee_hangs_up(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        dave.asks("BYE", b"")
        carol.client.send(answer(await carol.client.request("BYE"), 200))
        await gone(at)
        assert (await records(at))[0].status == 200

    with_relay(tmp_path, work)


def test_a_bye_that_is_challenged_ends_nothing(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        dave.asks("BYE", b"")
        carol.client.send(answer(await carol.client.request("BYE"), 491))
        await dave.client.response()
        assert count(at) == 1
        await check_heard(carol, dave, dave.invite, carol.response)

    with_relay(tmp_path, work)


def test_an_offer_in_the_2xx(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave", b"")
        invite = await dave.rings()
        assert not invite.body
        assert count(at) == 0
        dave.answers(invite, 200, dave.ear.body())
        offer = await carol.client.response()
        assert count(at) == 1
        assert stream_of(offer)[0][0] == at.address
        carol.response = offer
        for _ in range(2):  # an ACK is repeated with each 2xx
            carol.ack(carol.ear.body())
            ack = await dave.rings("ACK")
        assert stream_of(ack)[0][0] == at.address
        await check_heard(dave, carol, offer, ack)
        carol.ack(Ear(carol.ear.private).body())
        assert not (await dave.rings("ACK")).body  # it means nothing any more, and shows an address
        assert count(at) == 1

    with_relay(tmp_path, work)


def test_early_media_and_repetitions(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave")
        invite = await dave.rings()
        carol.client.send(carol.invite)  # again, with the same branch
        body = dave.ear.body()
        dave.answers(invite, 183, body)
        early = await carol.client.response(provisional=True)
        while early.status == 100:
            early = await carol.client.response(provisional=True)
        await check_heard(carol, dave, invite, early)
        dave.answers(invite, 200, body)
        first = await carol.client.response()
        dave.client.send(dave.response)
        second = await carol.client.response()
        assert early.body == first.body == second.body
        assert count(at) == 1
        carol.response = second
        carol.ack()
        await check_heard(carol, dave, invite, second)

    with_relay(tmp_path, work)


@pytest.mark.parametrize("status", [302, 404, 486, 603])
def test_who_is_not_answered(tmp_path: Path, status: int) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave")
        invite = await dave.rings()
        assert count(at) == 1
        dave.answers(invite, status, dave.ear.body())  # what it could have done
        refused = await carol.refused()
        assert (refused.status, refused.body, refused.get("content-type")) == (status, b"", None)
        await gone(at)
        (record,) = await records(at)
        assert (record.status, record.connected_at, record.media) == (status, None, [])

    with_relay(tmp_path, work)


def test_cancel(tmp_path: Path) -> None:
    from sipwire.transaction import cancel_for

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave")
        invite = await dave.rings()
        dave.answers(invite, 183, dave.ear.body())
        carol.client.send(cancel_for(carol.invite))
        cancel = await dave.client.request("CANCEL")
        dave.client.send(answer(cancel, 200))
        dave.answers(invite, 487)
        await gone(at)
        assert (await records(at))[0].status == 487

    with_relay(tmp_path, work)


# Forks.


def test_each_fork_has_relays_of_its_own(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        other = await Party.make(at, "dave")
        await carol.call("dave")
        invites = [await dave.rings(), await other.rings()]
        assert count(at) == 2
        assert stream_of(invites[0])[0] != stream_of(invites[1])[0]
        dave.answers(invites[0], 183, dave.ear.body(), tag=b"one")
        other.answers(invites[1], 183, other.ear.body(), tag=b"two")
        early = []
        while len(early) < 2:
            response = await carol.client.response(provisional=True)
            early += [response] if response.status == 183 else []
        ports = {response.to.tag: stream_of(response)[0] for response in early}
        assert len(set(ports.values())) == 2
        other.answers(invites[1], 200, other.ear.body(), tag=b"two")  # the one that has answered later
        response = await carol.answered()
        assert stream_of(response)[0] == ports[b"two"]
        await dave.client.request("CANCEL")
        dave.answers(invites[0], 487, tag=b"one")
        for _ in range(100):
            if count(at) == 1:
                break
            await asyncio.sleep(0.02)
        assert count(at) == 1
        await check_heard(carol, other, invites[1], response)

    with_relay(tmp_path, work)


def test_both_have_answered(tmp_path: Path) -> None:
    """A 2xx crosses the CANCEL: the caller gets both, and each has its relay until it is hung up."""

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        other = await Party.make(at, "dave")
        await carol.call("dave")
        invites = [await dave.rings(), await other.rings()]
        for party, invite, tag in ((dave, invites[0], b"one"), (other, invites[1], b"two")):
            party.answers(invite, 200, party.ear.body(), tag=tag)
        for _ in range(2):
            response = await carol.answered()
            party, invite = (dave, invites[0]) if response.to.tag == b"one" else (other, invites[1])
            await check_heard(carol, party, invite, response)
        assert count(at) == 2
        await carol.hang_up(party)
        assert count(at) == 1
        await records(at, 1)

    with_relay(tmp_path, work)


def test_forked_again_behind_a_target(tmp_path: Path) -> None:
    """The answer of the second replaces that of the first, until one of them has accepted: then it is that one's."""

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        other = Ear(dave.ear.private)
        await carol.call("dave")
        invite = await dave.rings()
        dave.answers(invite, 183, other.body(), tag=b"one")
        dave.answers(invite, 200, dave.ear.body(), tag=b"two")
        response = await carol.answered()
        await check_heard(carol, dave, invite, response)
        dave.answers(invite, 200, other.body(), tag=b"one")
        assert (await dave.client.request("BYE")).to.tag == b"one"
        assert count(at) == 1
        await check_heard(carol, dave, invite, response)

    with_relay(tmp_path, work)


# Changes.


def test_hold_and_resume(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        ports = stream_of(dave.invite)[0], stream_of(carol.response)[0]
        for version, line in ((2, b"a=inactive\r\n"), (3, b"c=IN IP4 0.0.0.0\r\n"), (4, b"")):
            task = asyncio.create_task(carol.again("INVITE", carol.ear.body(line, version=version)))
            again = await dave.rings()
            assert Session.parse(again.body).media[0].lines.count((b"a", b"inactive")) == (version == 2)
            if version == 3:
                assert b"c=IN IP4 0.0.0.0\r\n" in again.body
            else:
                assert stream_of(again)[0] == ports[0]
            dave.answers(again, 200, dave.ear.body(version=version))
            assert stream_of(await task)[0] == ports[1]
            await dave.rings("ACK")
        assert count(at) == 1
        await check_heard(carol, dave, again, carol.response)

    with_relay(tmp_path, work)


def test_the_callee_makes_an_offer(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        before = stream_of(carol.response)[0]
        dave.asks("INVITE", dave.ear.body(version=2))
        again = await carol.client.request("INVITE")
        assert stream_of(again)[0] == before
        made = answer(again, 200, carol.client.contact)
        made.set_body(b"application/sdp", carol.ear.body(version=2))
        carol.client.send(made)
        response = await dave.client.response()
        assert stream_of(response)[0] == stream_of(dave.invite)[0]
        await check_heard(dave, carol, again, response)

    with_relay(tmp_path, work)


def test_a_refused_change_changes_nothing(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        new, text = Ear(carol.ear.private), Ear(carol.ear.private)
        task = asyncio.create_task(carol.again("INVITE", new.body(text.line())))
        again = await dave.rings()
        assert count(at) == 2
        dave.answers(again, 488)
        assert (await task).status == 488
        assert count(at) == 1
        await check_heard(carol, dave, dave.invite, carol.response)

    with_relay(tmp_path, work)


def test_a_stream_is_added_and_given_up(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        mine, theirs = Ear(carol.ear.private), Ear(dave.ear.private)
        task = asyncio.create_task(carol.again("INVITE", carol.ear.body(mine.line(), version=2)))
        again = await dave.rings()
        dave.answers(again, 200, dave.ear.body(theirs.line(), version=2))
        response = await task
        await dave.rings("ACK")
        assert count(at) == 2
        assert len({stream_of(one, number)[0] for one in (again, response) for number in (0, 1)}) == 4
        mine.send(stream_of(response, 1)[0], sound=b"\x33")
        assert await theirs.hear(mine.crypto.keys[0].key_salt) == b"\x33" * 160
        task = asyncio.create_task(carol.again("INVITE", carol.ear.body(mine.line(port=0), version=3)))
        again = await dave.rings()
        assert stream_of(again, 1)[1].port == 0
        dave.answers(again, 200, dave.ear.body(theirs.line(port=0), version=3))
        response = await task
        assert stream_of(response, 1)[1].port == 0
        assert count(at) == 1
        await check_heard(carol, dave, again, response)
        await dave.rings("ACK")
        await carol.hang_up(dave)
        assert [one["protection"] for one in (await records(at))[0].media] == ["passed", "passed"]

    with_relay(tmp_path, work)


def test_a_stream_that_the_answer_refuses_has_no_relay(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        text, video = Ear(carol.ear.private), b"m=video 5000 UDP/TLS/RTP/SAVPF 96\r\na=fingerprint:sha-1 AA\r\n"
        await carol.call("dave", carol.ear.body(text.line(), video))
        invite = await dave.rings()
        assert count(at) == 2
        assert [media.port > 0 for media in Session.parse(invite.body).media] == [True, True, False]
        assert b"fingerprint" not in invite.body
        refused = dave.ear.body(b"m=audio 0 RTP/SAVP 0\r\n", b"m=video 5002 UDP/TLS/RTP/SAVPF 96\r\n")
        dave.answers(invite, 200, refused)
        response = await carol.answered()
        assert [media.port > 0 for media in Session.parse(response.body).media] == [True, False, False]
        assert count(at) == 1
        await check_heard(carol, dave, invite, response)

    with_relay(tmp_path, work)


def test_update_and_prack(tmp_path: Path) -> None:
    """A reliable answer, an offer in PRACK, and one in UPDATE before anybody has accepted."""

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave", headers=(("Require", "100rel"),))
        invite = await dave.rings()
        dave.answers(invite, 183, dave.ear.body(), ("RSeq", b"1"), ("Require", b"100rel"))
        early = await carol.client.response(provisional=True)
        while early.status != 183:
            early = await carol.client.response(provisional=True)
        for version, method in ((2, "PRACK"), (3, "UPDATE")):
            task = asyncio.create_task(carol.again(method, carol.ear.body(version=version), early=early))
            asked = await dave.client.request(method)
            assert stream_of(asked)[0] == stream_of(invite)[0]
            dave.answers(asked, 200, dave.ear.body(version=version))
            answered = await task
            assert stream_of(answered)[0] == stream_of(early)[0]
            await check_heard(carol, dave, asked, answered)
        made = dave.answers(invite, 200)
        assert not made.body
        assert (await carol.client.response()).status == 200
        assert count(at) == 1
        await check_heard(carol, dave, asked, answered)

    with_relay(tmp_path, work)


def test_an_answer_in_prack(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave", b"", headers=(("Require", "100rel"),))
        invite = await dave.rings()
        dave.answers(invite, 183, dave.ear.body(), ("RSeq", b"1"), ("Require", b"100rel"))
        early = await carol.client.response(provisional=True)
        while early.status != 183:
            early = await carol.client.response(provisional=True)
        task = asyncio.create_task(carol.again("PRACK", carol.ear.body(), early=early))
        prack = await dave.client.request("PRACK")
        dave.answers(prack, 200)
        await task
        await check_heard(dave, carol, early, prack)
        dave.answers(invite, 200)
        assert not (await carol.answered()).body
        await check_heard(dave, carol, early, prack)
        assert count(at) == 1

    with_relay(tmp_path, work)


# When.

NAT = '# relay = "never"|relay = "nat"'
NEVER = '# relay = "never"|# relay = "never"'


@pytest.mark.parametrize(
    ("mode", "behind", "of_account", "is_relayed"),
    [
        (NAT, "", None, False),
        (NAT, "caller", None, True),
        (NAT, "callee", None, True),
        (NAT, "caller", "never", False),
        (NAT, "", "always", True),
        (NEVER, "caller", None, False),
        (NEVER, "caller", "nat", True),
        (NEVER, "", "always", True),
        (ALWAYS, "", None, True),
    ],
)
def test_when(tmp_path: Path, mode: str, behind: str, of_account: str | None, is_relayed: bool) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await set_media(at, "carol", relay=of_account)
        if behind == "caller":
            carol.ear.private = "10.0.0.5"
        if behind == "callee":
            # It has registered a Contact with an address that its messages do not come from.
            dave = await Party.make(at, "erin", contact="sip:erin@10.0.0.6:5060")
            dave.ear.private = "10.0.0.6"
        await carol.call(dave.user)
        invite = await dave.rings()
        assert count(at) == is_relayed
        dave.answers(invite, 200, dave.ear.body())
        response = await carol.answered()
        if is_relayed:
            await check_heard(carol, dave, invite, response)
            assert stream_of(invite)[0][0] == stream_of(response)[0][0] == at.address
        else:
            assert invite.body == carol.ear.body()
            assert response.body == dave.ear.body()

    with_relay(tmp_path, work, mode)


def test_a_nat_that_shows_only_in_the_answer(tmp_path: Path) -> None:
    """The caller's own address has been passed on by then: an answer is never taken for an offer."""

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        dave.ear.private = "10.0.0.6"
        await carol.call("dave")
        invite = await dave.rings()
        for status in (183, 200):
            dave.answers(invite, status, dave.ear.body())
        assert (await carol.answered()).body == dave.ear.body()
        assert count(at) == 0
        task = asyncio.create_task(carol.again("INVITE", carol.ear.body(version=2)))
        again = await dave.rings()
        dave.answers(again, 200, dave.ear.body(version=2))
        assert (await task).body == dave.ear.body(version=2)

    with_relay(tmp_path, work, NAT)


def test_an_account_that_wants_none_where_all_are_relayed(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await set_media(at, "carol", relay="never")
        await set_media(at, "dave", relay="never")
        await carol.call("dave")
        assert (await dave.rings()).body == carol.ear.body()

    with_relay(tmp_path, work)


def test_nat_without_an_offer_in_the_invite(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        dave.ear.private = "10.0.0.6"
        await carol.call("dave", b"")
        dave.answers(await dave.rings(), 200, dave.ear.body())
        carol.response = offer = await carol.client.response()
        carol.ack(carol.ear.body())
        await check_heard(dave, carol, offer, await dave.rings("ACK"))

    with_relay(tmp_path, work, NAT)


def test_what_a_nat_is_told_apart_by_is_kept_private(tmp_path: Path) -> None:
    """The announced addresses are those of the configuration."""

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave")
        assert stream_of(await dave.rings())[0][0] == "198.51.100.7"

    with_relay(tmp_path, work, inside='# inside = "192.0.2.1"|inside = "198.51.100.7"')


# Failing closed.


def test_no_room(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        other = await Party.make(at, "erin")
        await other.call("dave")
        response = await other.refused()
        assert response.status == 503
        assert response.get("retry-after")
        assert "no media relay" in warning(response)
        assert "max_relays" in warning(response)
        await dave.client.silence()
        text = Ear(carol.ear.private)
        response = await carol.again("INVITE", carol.ear.body(text.line(), version=2))
        assert response.status == 488
        assert "no media relay" in warning(response)
        await check_heard(carol, dave, dave.invite, carol.response)
        assert at.value("wisp_media_refused_total", reason="room") == 2
        found = [record.status for record in await records(at, 1)]
        assert found == [503]

    with_relay(tmp_path, work, most="# max_relays = 2000|max_relays = 1")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda body: body.replace(b"RTP/SAVP", b"RTP/AVP"), "SRTP is required of carol"),
        (lambda body: body.partition(b"a=crypto")[0], "without a crypto line"),
        (lambda body: body.replace(b"RTP/SAVP", b"RTP/AVP").partition(b"a=crypto")[0], "SRTP is required of carol"),
        (lambda body: body.replace(b"RTP/SAVP", b"UDP/TLS/RTP/SAVP"), "no RTP or SRTP"),
        (lambda body: body + b"m=audio 4000 RTP/SAVP 0\r\n" * 8, "9 streams"),
    ],
)
def test_offers_that_can_not_be_relayed(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave", change(carol.ear.body()))
        response = await carol.refused()
        assert response.status == 488
        assert reason in warning(response)
        await dave.client.silence()
        await gone(at)

    with_relay(tmp_path, work)


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.replace(b"RTP/SAVP", b"RTP/AVP"),
        lambda body: body.partition(b"a=crypto")[0],
        lambda body: body.replace(b"a=crypto:1 ", b"a=crypto:2 "),
        lambda body: body.replace(b"HMAC_SHA1_80", b"HMAC_SHA1_32"),
        lambda body: body + b"m=audio 4000 RTP/AVP 0\r\n",
    ],
)
@pytest.mark.parametrize("status", [183, 200])
def test_answers_that_can_not_be_relayed(tmp_path: Path, change: Callable[[bytes], bytes], status: int) -> None:
    """The caller hears why, and who answered is hung up on; nothing of theirs went through."""

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave")
        invite = await dave.rings()
        dave.answers(invite, status, change(dave.ear.body()))
        dave.ear.send(stream_of(invite)[0])
        await dave.client.request("CANCEL" if status == 183 else "BYE")
        response = await carol.refused()
        assert response.status == 488
        assert warning(response)
        await gone(at)
        await carol.ear.silence()
        assert (await records(at))[0].status == 488

    with_relay(tmp_path, work)


@pytest.mark.parametrize("kind", ["multipart/mixed;boundary=b", "multipart/signed;boundary=b"])
def test_a_body_that_can_not_be_read(tmp_path: Path, kind: str) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        part = b"--b\r\nContent-Type: application/sdp\r\n\r\n" + carol.ear.body() + b"\r\n--b--\r\n"
        await carol.call("dave", part, (("Content-Type", kind),))
        assert (await carol.refused()).status == 488
        await dave.client.silence()

    with_relay(tmp_path, work)


def test_who_encrypts_from_end_to_end_is_not_relayed(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        body = b"\x30\x80\x00\x00"
        await carol.call("dave", body, (("Content-Type", "application/pkcs7-mime"), ("Security-Assist", "none")))
        assert (await dave.rings()).body == body
        assert count(at) == 0

    with_relay(tmp_path, work)


@pytest.mark.parametrize("named", [True, False])
def test_a_description_without_its_type_is_one_all_the_same(tmp_path: Path, named: bool) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await carol.call("dave")
        invite = await dave.rings()
        made = dave.answers(invite, 183, dave.ear.body())
        if not named:
            made = answer(invite, 200, dave.client.contact)
            made.body = dave.ear.body()
            made.set("Content-Length", b"%d" % len(made.body))
            dave.client.send(made)
            assert stream_of(await carol.answered())[0][0] == at.address

    with_relay(tmp_path, work)


# Policies of accounts.


def test_rtp_for_a_phone_whose_policy_is_off(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await set_media(at, "dave", srtp="off")
        await carol.call("dave")
        invite = await dave.rings()
        assert stream_of(invite)[1].proto == b"RTP/AVP"
        assert b"crypto" not in invite.body
        dave.answers(invite, 200, dave.ear.body(proto=b"RTP/AVP"))
        response = await carol.answered()
        _, media, cryptos = stream_of(response)
        assert media.proto == b"RTP/SAVP"
        assert [one.tag for one in cryptos] == [1]
        said = dave.ear.send(stream_of(invite)[0], plain=True)
        assert await carol.ear.hear(cryptos[0].keys[0].key_salt) == said
        said = carol.ear.send(stream_of(response)[0])
        assert await dave.ear.hear(None) == said
        carol.ear.send(stream_of(response)[0], plain=True)  # RTP from who has SRTP
        await dave.ear.silence()
        await carol.hang_up(dave)
        assert (await records(at))[0].media[0]["protection"] == "anew"

    with_relay(tmp_path, work)


def test_what_was_demanded_holds_without_a_relay(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        plain = carol.ear.body(proto=b"RTP/AVP")
        await carol.call("dave", plain)  # nobody has said anything
        invite = await dave.rings()
        assert invite.body == plain
        dave.answers(invite, 486)
        await carol.refused()
        await set_media(at, "dave", srtp="required")
        await carol.call("dave", plain)
        response = await carol.refused()
        assert response.status == 488
        assert "SRTP is required of dave" in warning(response)
        await carol.call("dave")
        invite = await dave.rings()
        dave.answers(invite, 200, dave.ear.body(proto=b"RTP/AVP"))
        assert (await carol.refused()).status == 488
        await dave.client.request("BYE")
        assert count(at) == 0

    with_relay(tmp_path, work, NAT)


# Ends nobody has told of.


def test_silence_ends_the_relay(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        await check_heard(carol, dave, dave.invite, carol.response)
        await gone(at)
        (record,) = await records(at)
        assert record.reason == "silent"
        # The dialog is there still: the next offer begins anew.
        task = asyncio.create_task(carol.again("INVITE", carol.ear.body(version=2)))
        again = await dave.rings()
        dave.answers(again, 200, dave.ear.body(version=2))
        await check_heard(carol, dave, again, await task)

    with_relay(tmp_path, work, wait="# timeout_s = 60|timeout_s = 5")


def test_a_restart_during_a_call(tmp_path: Path) -> None:
    """The relays are lost with the process; the next offer, of whoever, begins anew, and versions go on rising."""

    async def work(at: Domain, carol: Party, dave: Party) -> None:
        await connect(carol, dave)
        old = stream_of(carol.response)[0]
        await at.stop()
        assert (await asyncio.to_thread(_last_reason, at)) == "stopped"
        await at.start()
        carol.ear.send(old)
        await dave.ear.silence()
        task = asyncio.create_task(carol.again("INVITE", carol.ear.body(version=2)))
        again = await dave.rings()
        assert stream_of(again)[0][0] == at.address
        assert int(again.body.split(b" ")[2]) > 1000
        dave.answers(again, 200, dave.ear.body(version=2))
        response = await task
        await dave.rings("ACK")
        await check_heard(carol, dave, again, response)
        assert count(at) == 1
        await carol.hang_up(dave)
        await gone(at)

    with_relay(tmp_path, work)


def _last_reason(at: Domain) -> str:
    import sqlite3

    with sqlite3.connect(at.folder / "wisp.db") as connection:
        return str(connection.execute("SELECT reason FROM calls").fetchone()[0])


def test_nothing_is_left_after_many_calls(tmp_path: Path) -> None:
    async def work(at: Domain, carol: Party, dave: Party) -> None:
        for _ in range(10):
            await connect(carol, dave)
            await carol.hang_up(dave)
        await gone(at)
        calls = at.neighbour._proxy._calls
        assert (len(calls), calls._known, calls._begun) == (0, {}, {})
        assert len(await records(at, 10)) == 10

    with_relay(tmp_path, work)
