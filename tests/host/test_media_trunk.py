"""Relayed calls with another domain: suites, a limit, who comes around again, and a silent stream beside one that is not."""

import asyncio
import contextlib
import os
import random
from pathlib import Path

import pytest
from peer import alone
from relayed import Ear, Party, check_heard, connect, records, relayed, stream_of
from sip import answer, request, run

from neighbour.media.call import RelayedCall
from neighbour.media.keying import MediaError
from neighbour.media.keys import Keys
from neighbour.media.legs import ALWAYS, NAT, NEVER, OUTSIDE, PHONE, REQUIRED, Leg, needed
from neighbour.media.relay import Relays, RelaySettings
from sipwire.crypto import Crypto, size_of
from sipwire.errors import ParseError
from sipwire.message import Response
from sipwire.sdp import Session

GCM, CM = b"AEAD_AES_256_GCM", b"AES_CM_128_HMAC_SHA1_80"
RELAYED = '# relay = "never"|relay = "always"'


def carol_of(at: object, client: object) -> Party:
    return Party(at, "carol", client)  # type: ignore[arg-type]


def test_gcm_alone_from_outside(tmp_path: Path) -> None:
    """The phone gets lines that it may speak, beside theirs; and takes ours: keys of both sides are others."""

    async def work() -> None:
        async with alone(tmp_path, relay=RELAYED) as (at, peer, client):
            carol = carol_of(at, client)
            theirs = Ear(peer.address, CM)
            theirs.crypto = Crypto.make(7, GCM, os.urandom(size_of(GCM)))
            caller = await peer.connect("b.example", "TLS b.example;branch=z9hG4bKfirst")
            await carol.rings()  # without an offer
            made = request(
                "INVITE", "sip:carol@a.example", "bob", "b.example", contact="sip:bob@b.example", body=theirs.body(),
                headers=(("Content-Type", "application/sdp"),),
            )  # fmt: skip
            caller.send(made)
            invite = await carol.rings()
            while not invite.body:
                invite = await carol.rings()
            lines = stream_of(invite)[2]
            assert [(one.tag, one.suite) for one in lines][:2] == [(7, GCM), (8, CM)]
            carol.ear.crypto = Crypto.make(8, CM, carol.ear.crypto.keys[0].key_salt)
            carol.answers(invite, 200, carol.ear.body())
            while True:
                response = await caller.response()
                if response.call_id == made.call_id:
                    break
            (line,) = stream_of(response)[2]
            assert (line.tag, line.suite) == (7, GCM)
            assert line.keys[0].key_salt != theirs.crypto.keys[0].key_salt
            call = next(iter(at.neighbour._proxy._calls._known.values()))
            assert call.kinds == ["anew"]
            sides = next(iter(call._streams.values())).sides
            assert sides[0]._receive == Keys.of(theirs.crypto)
            assert sides[1]._receive == Keys.of(carol.ear.crypto)

    run(work)


def test_no_room_for_a_peer(tmp_path: Path) -> None:
    """Who hears 503 would leave the whole domain alone: a peer hears 488."""

    async def work() -> None:
        changes = {"relay": RELAYED, "most": "# max_relays = 2000|max_relays = 1"}
        async with alone(tmp_path, **changes) as (at, peer, client):
            carol = carol_of(at, client)
            caller = await peer.connect("b.example", "TLS b.example;branch=z9hG4bKfirst")
            await carol.rings()
            for status in (0, 488):
                made = request(
                    "INVITE", "sip:carol@a.example", "bob", "b.example", contact="sip:bob@b.example",
                    body=Ear(peer.address).body(), headers=(("Content-Type", "application/sdp"),),
                )  # fmt: skip
                caller.send(made)
                while status:
                    response = await caller.response()
                    if response.call_id == made.call_id:
                        assert response.status == status
                        assert b"max_relays" in (response.get("warning") or b"")
                        break
                else:
                    await carol.rings()

    run(work)


def test_a_spiral_is_relayed_once(tmp_path: Path) -> None:
    """A proxy of another domain sends a call back to us: it has our relay in it already."""

    async def work() -> None:
        async with alone(tmp_path, relay=RELAYED) as (at, peer, client):
            carol = carol_of(at, client)
            erin = await Party.make(at, "erin")
            server = await peer.listen("b.example")
            made = request(
                "INVITE", "sip:bob@b.example", "erin", contact=erin.client.contact, body=erin.ear.body(),
                headers=(("Content-Type", "application/sdp"),),
            )  # fmt: skip
            response = await erin.client.ask(made)
            from sip import signed

            from sipwire.transaction import ack_for

            erin.client.send(ack_for(made, response))
            erin.invite = signed(made, response, "erin", "secret")
            erin.client.send(erin.invite)
            number, came = await peer.request()
            assert at.value("wisp_relays") == 1
            assert stream_of(came)[0][0] == at.address
            # It speaks for a.example no more than anybody else: Erin's From has to be of its own domain to get in.
            back = came.copy()
            back.uri = b"sip:carol@a.example"
            back.insert("Via", b"SIP/2.0/TLS b.example;branch=z9hG4bKspiral")
            peer.writers[number].write(back.serialize())
            refused = await _answer_to(peer, b"z9hG4bKspiral")
            assert refused.status == 403
            # By its own means: what the neighbour would do, asked of it.
            calls = at.neighbour._proxy._calls
            key = (came.call_id, came.from_.tag, b"")
            assert calls.was_here(came, key, None)
            assert calls._routes.has_recorded(came)
            other = came.copy()
            other.body = carol.ear.body()
            assert not calls.was_here(other, key, None)
            assert not calls.was_here(came, (b"other", came.from_.tag, b""), None)
            forged = came.copy()
            forged.set("Call-ID", b"other")
            assert not calls._routes.has_recorded(forged)
            server.close()

    run(work)


async def _answer_to(peer: object, branch: bytes) -> Response:
    from sipwire.message import parse

    while True:
        _, data = await asyncio.wait_for(peer.came.get(), 20)  # type: ignore[attr-defined]
        message = parse(data)
        if isinstance(message, Response) and message.via.branch == branch and message.status >= 200:
            return message


# One call, without SIP.


def leg(**settings: object) -> Leg:
    values: dict[str, object] = {"kind": PHONE, "name": "carol", "relay": ALWAYS, "srtp": REQUIRED}
    values |= {"suites": (CM,), "bind": "127.0.0.1", "told": "127.0.0.1", **settings}
    return Leg(**values)  # type: ignore[arg-type]


def description(*ports: int, host: bytes = b"127.0.0.1") -> bytes:
    text = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 %s\r\nt=0 0\r\n" % host
    for port in ports:
        crypto = Crypto.make(1, CM, os.urandom(size_of(CM))).serialize()
        text += b"m=audio %d RTP/SAVP 0\r\na=crypto:%s\r\n" % (port, crypto)
    return text


def test_the_call_is_silent_when_all_of_its_streams_are() -> None:
    async def work() -> None:
        now = [0]
        relays = Relays(RelaySettings(("127.0.0.1",), 45_000, 45_999, 10, 60), lambda: now[0])
        call = RelayedCall(relays, (leg(), leg()), 60, always_own=False)
        silent = []
        call.silent = silent.append
        pending = call.offer(0, description(4000, 4002))
        now[0] += 300_000  # it rings
        _look(relays, now[0])
        call.answer(pending, description(4004, 4006))
        call.settle(pending)
        for _ in range(5):
            now[0] += 30_000
            call._streams[0].sides[0].last_ms = now[0]  # as with a packet that was valid
            _look(relays, now[0])
        assert silent == []
        held = call.offer(0, description(4000, 4002, host=b"0.0.0.0"))
        call.answer(held, description(4004, 4006))
        call.settle(held)
        now[0] += 3_600_000
        _look(relays, now[0])
        resumed = call.offer(0, description(4000, 4002))
        call.answer(resumed, description(4004, 4006))
        call.settle(resumed)
        now[0] += 59_000
        _look(relays, now[0])
        assert silent == []
        now[0] += 1_000
        _look(relays, now[0])
        assert silent[:1] == [call]
        call.close()
        assert len(relays) == 0
        relays.close_all()

    run(work)


def _look(relays: Relays, now_ms: int) -> None:
    for relay in list(relays._open):
        relay.look(now_ms)


def test_an_ipv6_party_and_an_ipv4_one() -> None:
    async def work() -> None:
        relays = Relays(RelaySettings(("127.0.0.1", "::1"), 45_000, 45_999, 10, 60))
        call = RelayedCall(relays, (leg(), leg(bind="::1", told="::1")), 60, always_own=False)
        pending = call.offer(0, description(4000))
        assert b"c=IN IP6 ::1\r\n" in pending.text
        text = call.answer(pending, description(4002).replace(b"IP4 127.0.0.1\r\nt", b"IP6 ::1\r\nt"))
        assert b"c=IN IP4 127.0.0.1\r\n" in text
        call.close()
        relays.close_all()

    run(work)


def test_a_part_of_the_relays_is_not_enough() -> None:
    """An offer that needs more relays than there are leaves none open."""

    async def work() -> None:
        from neighbour.media.ports import NoRoomError

        relays = Relays(RelaySettings(("127.0.0.1",), 45_000, 45_999, 1, 60))
        call = RelayedCall(relays, (leg(), leg()), 60, always_own=False)
        with pytest.raises(NoRoomError):
            call.offer(0, description(4000, 4002))
        assert len(relays) == 0
        relays.close_all()

    run(work)


@pytest.mark.parametrize("relay", [NEVER, NAT, ALWAYS])
@pytest.mark.parametrize("source", ["192.0.2.1", "198.51.100.1"])
def test_when_a_relay_is_needed(relay: str, source: str) -> None:
    caller, peer = leg(relay=relay, source=source), Leg(OUTSIDE, "b.example", NEVER, REQUIRED)
    hosts: tuple[list[bytes], list[bytes]] = ([b"192.0.2.1"], [])
    assert needed((caller, peer), hosts) == (relay == ALWAYS or (relay == NAT and source != "192.0.2.1"))
    assert needed((caller, peer), hosts, hidden=True)
    assert not needed((peer, peer), ([b"10.0.0.1"], []))


def test_a_party_behind_a_nat_is_sent_nothing_where_it_is_not() -> None:
    one = leg(source="198.51.100.1")
    assert one.reaches(("10.0.0.5", 4000)) == ("198.51.100.1", 4000)
    assert one.reaches(None) is None
    assert leg().reaches(("10.0.0.5", 4000)) == ("10.0.0.5", 4000)


def test_whatever_they_write_is_refused_or_relayed() -> None:
    """Changed at random, offers and answers end in an error of ours, or in nothing that leads past us."""

    async def work() -> None:
        relays = Relays(RelaySettings(("127.0.0.1",), 45_000, 45_999, 50, 60))
        chance = random.Random(1)
        told = leg(told="203.0.113.1")
        passed = 0
        for _ in range(3000):
            call = RelayedCall(relays, (leg(told="203.0.113.1"), told), 60, always_own=bool(chance.getrandbits(1)))
            with contextlib.suppress(MediaError, ParseError):
                pending = call.offer(0, _changed(description(4000, 4002, host=b"10.0.0.5"), chance))
                _check_ours(pending.text)
                _check_ours(call.answer(pending, _changed(description(4004, 4006, host=b"10.0.0.6"), chance)))
                call.settle(pending)
                passed += 1
            call.close()
            assert len(relays) == 0
            relays._ports._rest_over()
            relays._ports._free += [port for _, port in relays._ports._resting]
            relays._ports._resting.clear()
        assert 200 < passed < 2900
        relays.close_all()

    run(work)


_PIECES = (
    b"RTP/AVP",
    b"a=crypto:",
    b"c=IN IP4 10.0.0.9\r\n",
    b"0.0.0.0",
    b"setup:0123456789abcdef",
    b"/2",
    b"\xff",
    b" ",
)


def _changed(body: bytes, chance: random.Random) -> bytes:
    for _ in range(chance.randrange(4)):
        at, size = chance.randrange(len(body)), chance.choice((0, 0, 1, 5))
        body = body[:at] + chance.choice((*_PIECES, bytes([chance.randrange(256)]))) + body[at + size :]
    return body


def _check_ours(text: bytes) -> None:
    """Each stream that is not refused leads to us, or nowhere."""
    session = Session.parse(text)
    for media in session.media:
        if media.port:
            assert session.address(media) in (b"203.0.113.1", b"0.0.0.0")
            assert 45_000 <= media.port <= 45_999
            assert media.proto.upper() == b"RTP/SAVP"
            assert media.cryptos()


def test_counters(tmp_path: Path) -> None:
    async def work() -> None:
        async with relayed(tmp_path) as (at, carol, dave):
            await connect(carol, dave)
            await check_heard(carol, dave, dave.invite, carol.response)
            at.neighbour._look_at_media()
            assert at.value("wisp_media_streams_total", way="passed") == 1
            assert at.value("wisp_media_total", what="opened") == 1
            assert at.value("wisp_media_total", what="packets") == 2
            dave.asks("BYE", b"")
            carol.client.send(answer(await carol.client.request("BYE"), 200))
            await records(at, 1)

    run(work)
