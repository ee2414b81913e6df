"""Attacks on media relays, by name: each has to end with nothing sent to the attacker, and nothing of his forwarded."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator

import pytest
from parties import CM, CM_256, GCM, Party, World, keys, open_files, rtcp, rtp, run, srtp_pair, world

from neighbour.media.relay import Relay

FLOOD = 400


def sealed_call(at: World, suite: bytes = CM, mux: bool = True) -> tuple[Party, Party, Party, Relay]:
    """Two parties of a re-encrypted call, and a stranger."""
    made = srtp_pair(suite)
    a, b = at.party(made[0], made[1]), at.party(made[2], made[3])
    return a, b, at.party(), at.call(a, b, mux)


def plain_call(at: World, mux: bool = True) -> tuple[Party, Party, Party, Relay]:
    a, b = at.party(), at.party()
    return a, b, at.party(), at.call(a, b, mux)


def unread_call(at: World, mux: bool = True) -> tuple[Party, Party, Party, Relay]:
    """One whose keys only the parties know."""
    one, other = keys(), keys()
    a, b = at.party(one, other), at.party(other, one)
    relay = at.relays.open()
    for side, party in zip(relay.sides, (a, b), strict=True):
        side.expect(party.address, None if mux else party.rtcp_address, mux, None, None, True)
    return a, b, at.party(), relay


def forgeries() -> Iterator[bytes]:
    """What a stranger may send who has no key."""
    yield rtp(1)
    yield rtp(2, payload=os.urandom(170))
    yield rtcp()
    yield rtcp(kind=203)
    yield rtcp(body=os.urandom(60))
    yield b""
    yield b"\x80"
    yield b"\x80\xc8"
    yield b"\x00\x01\0\0\x21\x12\xa4\x42" + bytes(12)  # STUN
    yield b"\x16\xfe\xfd" + bytes(50)  # DTLS
    yield b"OPTIONS sip:a.example SIP/2.0\r\n\r\n"


async def bleeds(at: World, who: tuple[Party, Party, Party, Relay]) -> None:
    """A stranger floods both ports, before the parties speak, between, and afterwards."""
    a, b, stranger, relay = who

    async def flood() -> None:
        for packet in forgeries():
            for side in relay.sides:
                for at_port in (0, 1):
                    stranger.send(packet, side.port + at_port)
                    stranger.send(packet, side.port + at_port, 1)
        await at.settle()

    await flood()
    for number in range(3):
        first, second = a.sealed(rtp(number)), b.sealed(rtp(number, 9))
        a.send(first, relay.sides[0].port)
        await flood()
        b.send(second, relay.sides[1].port)
        await flood()
        got, back = b.heard(), a.heard()
        assert [b.opened(one) for one in got] == [rtp(number)]
        assert [a.opened(one) for one in back] == [rtp(number, 9)]
    assert a.heard(1) == b.heard(1) == []
    assert stranger.heard() == stranger.heard(1) == []
    told = relay.statistics
    assert [side.packets for side in told.sides] == [3, 3]
    assert [side.moves for side in told.sides] == [0, 0]
    assert sum(told.sides[0].dropped.values()) == 7 * 11 * 4


@pytest.mark.parametrize("mux", [False, True])
@pytest.mark.parametrize("kind", [sealed_call, plain_call, unread_call])
def test_rtp_bleed(kind: Callable[..., tuple[Party, Party, Party, Relay]], mux: bool) -> None:
    async def work() -> None:
        async with world() as at:
            await bleeds(at, kind(at, mux=mux))

    run(work)


@pytest.mark.parametrize("suite", [CM, GCM, CM_256], ids=bytes.decode)
def test_latching_by_a_replayed_packet(suite: bytes) -> None:
    """A packet that was recorded, sent from another address: before the next one, after it, and much later."""

    async def work() -> None:
        async with world() as at:
            a, b, stranger, relay = sealed_call(at, suite)
            recorded = []
            for number in range(200):
                recorded.append(a.sealed(rtp(number)))
                a.send(recorded[-1], relay.sides[0].port)
                await at.settle()
                if number % 20 == 0:
                    at.now_ms += 1000
                    for packet in recorded:
                        stranger.send(packet, relay.sides[0].port)
                    await at.settle()
            await at.say(b, relay, 1, rtp(1))
            assert stranger.heard() == []
            assert len(a.heard()) == 1
            assert len(b.heard()) == 200
            told = relay.statistics.sides[0]
            assert told.moves == 0
            assert set(told.dropped) <= {"replay", "late"}
            assert sum(told.dropped.values()) == sum(range(1, 200, 20))

    run(work)


def test_latching_by_a_packet_that_was_held_back() -> None:
    """It is authentic and nobody has seen it; but it is not the newest, so the address does not follow it."""

    async def work() -> None:
        async with world() as at:
            a, b, stranger, relay = sealed_call(at)
            held = a.sealed(rtp(1))
            held_rtcp = a.sealed(rtcp(), is_rtcp=True)
            await at.say(a, relay, 0, rtp(2))
            a.send(a.sealed(rtcp(), is_rtcp=True), relay.sides[0].port)
            at.now_ms += 1000
            stranger.send(held, relay.sides[0].port)
            stranger.send(held_rtcp, relay.sides[0].port)
            await at.settle()
            await at.say(b, relay, 1, rtp(1))
            assert stranger.heard() == []
            assert len(a.heard()) == 1
            assert relay.statistics.sides[0].moves == 0
            assert len(b.heard()) == 4  # what he delivers late is as good as from the network

    run(work)


def test_latching_by_racing_the_party() -> None:
    """Who copies each packet and is faster moves the address a few times a second at most, and the party takes it back."""

    async def work() -> None:
        async with world() as at:
            a, b, stranger, relay = sealed_call(at)
            for number in range(100):  # two seconds
                at.now_ms += 20
                packet = a.sealed(rtp(number))
                stranger.send(packet, relay.sides[0].port)
                a.send(packet, relay.sides[0].port)
                await at.settle()
            assert relay.statistics.sides[0].moves == 0  # the racer is always first: he was latched at the beginning
            for number in range(100, 200):
                at.now_ms += 20
                packet = a.sealed(rtp(number))
                (stranger if number % 2 else a).send(packet, relay.sides[0].port)
                await at.settle()
            assert 1 <= relay.statistics.sides[0].moves <= 8
            assert len(b.heard()) == 200
            at.now_ms += 1000
            await at.say(a, relay, 0, rtp(200))
            stranger.heard()
            await at.say(b, relay, 1, rtp(1))
            assert stranger.heard() == []
            assert len(a.heard()) == 1

    run(work)


def test_a_party_that_roams_is_followed() -> None:
    """The same rule lets who has the keys move: a NAT that has forgotten, another network."""

    async def work() -> None:
        async with world() as at:
            a, b, _, relay = sealed_call(at, mux=False)
            there = at.party()
            await at.say(a, relay, 0, rtp(1))
            there.sealer, there.opener = a.sealer, a.opener
            at.now_ms += 300
            await at.say(there, relay, 0, rtp(2))
            there.send(there.sealed(rtcp(), is_rtcp=True), relay.sides[0].port + 1, 1)
            await at.say(b, relay, 1, rtp(1))
            b.send(b.sealed(rtcp(), is_rtcp=True), relay.sides[1].port + 1, 1)
            await at.settle()
            assert [there.opened(one) for one in there.heard()] == [rtp(1)]
            assert [there.opened(one, is_rtcp=True) for one in there.heard(1)] == [rtcp()]
            assert a.heard() == a.heard(1) == []
            assert relay.statistics.sides[0].moves == 1

    run(work)


@pytest.mark.parametrize("suite", [CM, GCM, CM_256], ids=bytes.decode)
def test_latching_by_a_wrong_tag(suite: bytes) -> None:
    """Each bit of a valid packet turned over, also before the party has said anything."""

    async def work() -> None:
        async with world() as at:
            a, b, stranger, relay = sealed_call(at, suite)
            for number in (1, 2):
                packet = a.sealed(rtp(number))
                for bit in range(len(packet) * 8):
                    changed = bytearray(packet)
                    changed[bit // 8] ^= 1 << bit % 8
                    stranger.send(changed, relay.sides[0].port)
                    if not bit % 100:
                        await at.settle()
                await at.settle()
                assert b.heard() == []
                a.send(packet, relay.sides[0].port)
                await at.settle()
                assert [b.opened(one) for one in b.heard()] == [rtp(number)]
            assert stranger.heard() == []

    run(work)


def test_plain_rtp_into_an_srtp_leg() -> None:
    """From the party's own address: the other leg may be plain, this one is not."""

    async def work() -> None:
        async with world() as at:
            a, b = at.party(keys(), keys()), at.party()
            relay = at.call(a, b, mux=False)
            for packet in (rtp(1), rtp(1, payload=bytes(160)), rtp(1) + bytes(10)):
                a.send(packet, relay.sides[0].port)
            a.send(rtcp(kind=203), relay.sides[0].port + 1, 1)
            a.send(rtcp(body=bytes(40)), relay.sides[0].port + 1, 1)
            await at.settle()
            assert b.heard() == b.heard(1) == []
            assert relay.statistics.sides[0].packets == 0

    run(work)


def test_nothing_leaves_an_srtp_leg_in_the_clear() -> None:
    """While the keys of one side are missing nothing goes there, whatever comes from the other."""

    async def work() -> None:
        async with world() as at:
            a, b, _, relay = plain_call(at)
            for receive, send in ((None, None), (keys(), None)):
                relay.sides[0].expect(a.address, None, True, receive, send, True)
                await at.say(b, relay, 1, rtp(1), rtcp())
                assert a.heard() == []

    run(work)


def test_from_srtp_back_to_plain_is_from_the_signalled_address_only() -> None:
    """Signalling may say so, where policy allows it; where SRTP was heard from does not count then."""

    async def work() -> None:
        async with world() as at:
            a, b, stranger, relay = sealed_call(at)
            stranger.sealer = a.sealer
            await at.say(stranger, relay, 0, rtp(1))
            relay.sides[0].expect(a.address, None, True, None, None, False)
            stranger.send(rtp(2), relay.sides[0].port)
            await at.say(b, relay, 1, rtp(1))
            assert stranger.heard() == []
            assert a.heard() == [rtp(1)]
            assert len(b.heard()) == 1

    run(work)


@pytest.mark.parametrize("suite", [CM, GCM, CM_256], ids=bytes.decode)
def test_srtp_into_the_wrong_side(suite: bytes) -> None:
    """Valid packets of a party, played to the port of the other one: by a third party, and by the party itself."""

    async def work() -> None:
        async with world() as at:
            a, b, stranger, relay = sealed_call(at, suite)
            packets = [a.sealed(rtp(1)), a.sealed(rtcp(), is_rtcp=True)]
            for packet in packets:
                for who in (stranger, a, b):
                    who.send(packet, relay.sides[1].port)
            await at.settle()
            assert a.heard() == b.heard() == stranger.heard() == []
            # What the relay sends to a party is not taken back from it either.
            await at.say(a, relay, 0, rtp(2))
            (out,) = b.heard()
            for who in (stranger, b):
                who.send(out, relay.sides[1].port)
                who.send(out, relay.sides[0].port)
            await at.settle()
            assert a.heard() == b.heard() == stranger.heard() == []

    run(work)


def test_srtp_of_another_call() -> None:
    async def work() -> None:
        async with world() as at:
            a, _, _, relay = sealed_call(at)
            c, d, _, other = sealed_call(at)
            await at.say(a, other, 0, rtp(1))
            await at.say(a, other, 1, rtp(2))
            assert c.heard() == d.heard() == []
            assert [side.packets for side in other.statistics.sides] == [0, 0]
            assert relay.statistics.sides[0].packets == 0

    run(work)


def test_port_scan() -> None:
    """Who sends to every port of the range learns nothing, and changes nothing."""

    async def work() -> None:
        async with world() as at:
            calls = [sealed_call(at, mux=False) for _ in range(3)] + [plain_call(at, mux=False)]
            stranger = at.party()
            for port in range(20_000, 24_000):
                stranger.send(rtp(1, payload=bytes(60)), port)
                if port % 64 == 0:
                    await at.settle()
            await at.settle()
            for a, b, _, relay in calls:
                await at.say(a, relay, 0, rtp(1))
                await at.say(b, relay, 1, rtp(2))
                assert [b.opened(one) for one in b.heard()] == [rtp(1)]
                assert [a.opened(one) for one in a.heard()] == [rtp(2)]
                assert [sum(side.dropped.values()) for side in relay.statistics.sides] == [2, 2]
            assert stranger.heard() == []

    run(work)


def test_oversized_and_tiny_datagrams() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, _, relay = sealed_call(at)
            c, d, _, plain = plain_call(at)
            sizes = [0, 1, 2, 7, 8, 11, 12, 13, 21, 22, 23, 1499, 1500, 1501, 1502, 9000, 65507]
            for kind in (b"\x80\0", b"\x80\xc8", b"\xff\xff", b"\x9f\0"):
                for size in sizes:
                    packet = (kind + os.urandom(size))[:size]
                    a.send(packet, relay.sides[0].port)
                    c.send(packet, plain.sides[0].port)
                    await at.settle()
            assert b.heard() == []
            assert max(map(len, d.heard())) == 1500
            # The largest that there can be, and one more.
            for size in (1500, 1501):
                packet = rtp(size, payload=bytes(size - 12))
                c.send(packet, plain.sides[0].port)
                await at.settle()
                assert d.heard() == ([packet] if size == 1500 else [])
            await at.say(a, relay, 0, rtp(1))
            assert [b.opened(one) for one in b.heard()] == [rtp(1)]

    run(work)


@pytest.mark.parametrize("mux", [False, True])
def test_forged_rtcp_bye(mux: bool) -> None:
    """Nobody but the party itself says BYE in its name (RFC 3550 section 6.6)."""

    async def work() -> None:
        async with world() as at:
            a, b, stranger, relay = sealed_call(at, mux=mux)
            c, d, _, plain = plain_call(at, mux=mux)
            add = 0 if mux else 1
            bye = rtcp(kind=203, body=b"")
            await at.say(a, relay, 0, rtp(1))
            await at.say(c, plain, 0, rtp(1))
            for packet in (bye, rtcp(kind=203, body=bytes(40)), a.sealed(rtcp(), is_rtcp=True)[:-1] + b"?"):
                stranger.send(packet, relay.sides[0].port + add)
                stranger.send(packet, plain.sides[0].port + add)
                a.send(packet, relay.sides[0].port + add, add)
            await at.settle()
            assert len(b.heard()) == len(d.heard()) == 1
            assert b.heard(1) == d.heard(1) == []
            a.send(a.sealed(bye, is_rtcp=True), relay.sides[0].port + add, add)
            c.send(bye, plain.sides[0].port + add, add)
            await at.settle()
            assert [b.opened(one, is_rtcp=True) for one in b.heard(add)] == [bye]
            assert d.heard(add) == [bye]

    run(work)


def test_icmp_unreachable() -> None:
    """A party whose port is closed for a while: packets to it are lost, and nothing else."""

    async def work() -> None:
        async with world() as at:
            a, b, _, relay = sealed_call(at)
            await at.say(b, relay, 1, rtp(1))
            where = b.address
            b.socks[0].close()
            for number in range(20):
                await at.say(a, relay, 0, rtp(number))
            b.socks[0] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            b.socks[0].setblocking(False)
            b.socks[0].bind(where)
            for number in range(20, 25):
                await at.say(a, relay, 0, rtp(number))
            assert len(b.heard()) == 5
            await at.say(b, relay, 1, rtp(2))
            assert len(a.heard()) == 2
            assert relay.is_open

    run(work)


@pytest.mark.parametrize("kind", [sealed_call, plain_call, unread_call])
def test_flood(kind: Callable[[World], tuple[Party, Party, Party, Relay]]) -> None:
    """A thousand forged packets at once to a call's port: others' calls go on, and so does that one."""

    async def work() -> None:
        async with world() as at:
            others = [sealed_call(at) for _ in range(20)]
            a, b, stranger, relay = kind(at)
            if kind is sealed_call:  # of the others it is known before they speak where they do
                await at.say(a, relay, 0, rtp(0))
                await at.say(b, relay, 1, rtp(0, 9))
                b.heard()
            for number in range(1, 6):
                for _ in range(1000):
                    stranger.send(rtp(1, payload=bytes(160)), relay.sides[0].port)
                a.send(a.sealed(rtp(number)), relay.sides[0].port)
                for first, _, _, other in others:
                    first.send(first.sealed(rtp(number)), other.sides[0].port)
                turns = 0
                heard = [0] * len(others)
                while min(heard) < 1:
                    await asyncio.sleep(0)
                    turns += 1
                    heard = [count + len(one[1].heard()) for count, one in zip(heard, others, strict=True)]
                    assert turns < 10  # nobody waits until the flood is over
                await at.settle()
            assert len(b.heard()) == 5
            assert stranger.heard() == []

    run(work)


@pytest.mark.parametrize("kind", [plain_call, unread_call])
def test_what_is_no_rtp(kind: Callable[[World], tuple[Party, Party, Party, Relay]]) -> None:
    """STUN, DTLS, SIP and the like, from the very address of a party whose packets can't be authenticated."""

    async def work() -> None:
        async with world() as at:
            a, b, _, relay = kind(at)
            for first in (0x00, 0x16, 0x40, 0x4F, 0xC0, 0xFF):
                a.send(bytes([first]) + bytes(60), relay.sides[0].port)
                a.send(bytes([first, 200]) + bytes(60), relay.sides[0].port)
            await at.settle()
            assert b.heard() == []
            assert relay.statistics.sides[0].dropped == {"form": 12}

    run(work)


def test_icmp_just_before_a_packet() -> None:
    """The kernel tells of it when the next packet is sent, which then has to be sent again."""

    async def work() -> None:
        async with world() as at:
            a, b, _, relay = sealed_call(at)
            await at.say(b, relay, 1, rtp(1))
            where = b.address
            b.socks[0].close()
            channel = relay.sides[1].channels[0]
            assert channel.send(b"lost") == ""
            b.socks[0] = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            b.socks[0].setblocking(False)
            b.socks[0].bind(where)
            assert channel.send(b"not lost") == ""
            assert b.heard() == [b"not lost"]
            assert a.heard() != []

    run(work)


def test_nobody_shares_a_port() -> None:
    """A second socket of ours may have it; another program on the machine can't join, before that or afterwards."""

    async def work() -> None:
        async with world() as at:
            a, _, _, relay = sealed_call(at)
            for number in (1, 2):
                for side in relay.sides:
                    for option in (None, socket.SO_REUSEADDR, socket.SO_REUSEPORT):
                        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                            if option is not None:
                                other.setsockopt(socket.SOL_SOCKET, option, 1)
                            with pytest.raises(OSError, match="in use"):
                                other.bind(("127.0.0.1", side.port))
                await at.say(a, relay, 0, rtp(number))
            assert relay.sides[0].channels[0]._near is not None

    run(work)


def test_a_relay_that_is_told_to_send_to_itself() -> None:
    """Two descriptions that name the relay's own ports would send one packet round for ever."""

    async def work() -> None:
        async with world() as at:
            a, _, _, relay = plain_call(at)
            _, _, _, other = plain_call(at)
            for target in (relay, other):
                for side in target.sides:
                    for add in (0, 1):
                        with pytest.raises(ValueError, match="own"):
                            relay.sides[0].expect((side.address, side.port + add), None, True, None, None, False)
                    with pytest.raises(ValueError, match="own"):
                        relay.sides[0].expect(a.address, (side.address, side.port), False, None, None, False)
            port = other.sides[0].port
            other.close()
            relay.sides[0].expect(("127.0.0.1", port), None, True, None, None, False)  # it is somebody else's now

    run(work)


def test_files_are_not_left_open() -> None:
    async def work() -> None:
        async with world() as at:
            for turn in range(3):
                relays = [at.relays.open() for _ in range(4)]
                if not turn:
                    before = open_files()
                for relay in relays:
                    relay.close()
            for _ in range(250):
                for relay in [at.relays.open() for _ in range(4)]:
                    relay.close()
                at.now_ms += 5000
            relays = [at.relays.open() for _ in range(4)]
            assert open_files() == before
            assert at.relays._ours.total() == 16

    run(work)
