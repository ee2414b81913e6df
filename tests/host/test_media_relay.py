"""Relays of media: what goes through, as what, and to where."""

import asyncio
import os
import socket
from typing import Any

import pytest
from parties import (
    CM,
    CM_192,
    CM_256,
    CM_SHORT,
    GCM,
    GCM_256,
    Party,
    World,
    keys,
    open_files,
    rtcp,
    rtp,
    run,
    srtp_pair,
    world,
)

from neighbour.media import reading
from neighbour.media.keys import Keys
from neighbour.media.ports import NoRoomError
from neighbour.media.relay import Relay, Relays, RelaySettings


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def passing(at: World) -> tuple[Party, Party, Relay]:
    """A call whose parties know each other's keys."""
    one, other = keys(), keys()
    first, second = at.party(one, other), at.party(other, one)
    return first, second, at.call(first, second)


def again(at: World, first: bytes = CM, second: bytes | None = None, mux: bool = True) -> tuple[Party, Party, Relay]:
    """A call that is re-encrypted."""
    made = srtp_pair(first, second)
    a, b = at.party(made[0], made[1]), at.party(made[2], made[3])
    return a, b, at.call(a, b, mux)


def test_what_both_know_passes_as_it_is() -> None:
    async def work() -> None:
        async with world() as at:
            first, second, relay = passing(at)
            for number in range(5):
                sealed = first.sealed(rtp(number))
                first.send(sealed, relay.sides[0].port)
                await at.settle()
                assert second.heard() == [sealed]
                back = second.sealed(rtp(number, 7))
                second.send(back, relay.sides[1].port)
                await at.settle()
                assert first.heard() == [back]

    run(work)


@pytest.mark.parametrize("second", [CM, CM_SHORT, GCM, GCM_256, CM_192, CM_256], ids=bytes.decode)
@pytest.mark.parametrize("first", [CM, CM_SHORT, GCM, GCM_256, CM_192, CM_256], ids=bytes.decode)
def test_between_all_suites(first: bytes, second: bytes) -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at, first, second, mux=False)
            for number in range(4):
                # With CSRC, extension and marker; and as large as pylibsrtp itself takes them.
                packets = [
                    rtp(number),
                    rtp(number, 2, bytes(8) + b"\xbe\xde\0\1wisp" + b"x" * 100, 0x92),
                    rtp(number, 3, os.urandom(1300)),
                ]
                await at.say(a, relay, 0, *packets)
                sealed = b.heard()
                assert [b.opened(one) for one in sealed] == packets
                assert not any(one[12:40] in packets[2] for one in sealed)
                a.send(a.sealed(rtcp(number), is_rtcp=True), relay.sides[0].port + 1, 1)
                b.send(b.sealed(rtcp(9, 201), is_rtcp=True), relay.sides[1].port + 1, 1)
                await at.say(b, relay, 1, packets[0])
                assert [a.opened(one) for one in a.heard()] == [packets[0]]
                assert [b.opened(one, is_rtcp=True) for one in b.heard(1)] == [rtcp(number)]
                assert [a.opened(one, is_rtcp=True) for one in a.heard(1)] == [rtcp(9, 201)]
            assert relay.close().sides[0].dropped == {}

    run(work)


@pytest.mark.parametrize("suite", [CM, CM_SHORT, GCM, CM_256], ids=bytes.decode)
def test_mki(suite: bytes) -> None:
    async def work() -> None:
        async with world() as at:
            a = at.party(keys(suite, b"\x01"), keys(suite, b"\0\0\0\x02"))
            b = at.party(keys(), keys())
            relay = at.call(a, b)
            sealed = a.sealed(rtp(1))
            a.send(sealed, relay.sides[0].port)
            a.send(a.sealed(rtcp(), is_rtcp=True), relay.sides[0].port)
            await at.settle()
            got = b.heard()
            assert [b.opened(got[0]), b.opened(got[1], is_rtcp=True)] == [rtp(1), rtcp()]
            b.send(b.sealed(rtp(2)), relay.sides[1].port)
            b.send(b.sealed(rtcp(8), is_rtcp=True), relay.sides[1].port)
            await at.settle()
            got = a.heard()
            assert b"\0\0\0\x02" in got[0][-14:]
            assert [a.opened(got[0]), a.opened(got[1], is_rtcp=True)] == [rtp(2), rtcp(8)]
            # The same without its identifier, or with another.
            packet = a.sealed(rtp(3))
            at_mki = packet.rindex(b"\x01", 32, len(packet) - {CM: 10, CM_SHORT: 4, GCM: 0, CM_256: 10}[suite])
            a.send(packet[:at_mki] + packet[at_mki + 1 :], relay.sides[0].port)
            a.send(packet[:at_mki] + b"\x03" + packet[at_mki + 1 :], relay.sides[0].port)
            await at.settle()
            assert b.heard() == []
            a.send(packet, relay.sides[0].port)
            await at.settle()
            assert [b.opened(one) for one in b.heard()] == [rtp(3)]

    run(work)


@pytest.mark.parametrize("suite", [CM, GCM, CM_256], ids=bytes.decode)
def test_between_plain_and_srtp(suite: bytes) -> None:
    async def work() -> None:
        async with world() as at:
            a, b = at.party(keys(suite), keys(suite)), at.party()
            relay = at.call(a, b, mux=False)
            await at.say(a, relay, 0, rtp(1), rtp(2))
            assert b.heard() == [rtp(1), rtp(2)]
            await at.say(b, relay, 1, rtp(5))
            assert [a.opened(one) for one in a.heard()] == [rtp(5)]
            a.send(a.sealed(rtcp(), is_rtcp=True), relay.sides[0].port + 1, 1)
            b.send(rtcp(4), relay.sides[1].port + 1, 1)
            await at.settle()
            assert b.heard(1) == [rtcp()]
            assert [a.opened(one, is_rtcp=True) for one in a.heard(1)] == [rtcp(4)]

    run(work)


def test_between_two_plain_ones() -> None:
    async def work() -> None:
        async with world() as at:
            a, b = at.party(), at.party()
            relay = at.call(a, b)
            await at.say(a, relay, 0, rtp(1), rtcp())
            await at.say(b, relay, 1, rtp(2))
            assert (a.heard(), b.heard()) == ([rtp(2)], [rtp(1), rtcp()])

    run(work)


def test_keys_of_the_terminals_alone() -> None:
    """Setup keys, powerful user agents: what is signalled is all there is to go by."""

    async def work() -> None:
        async with world() as at:
            one, other = keys(), keys()
            a, b, stranger = at.party(one, other), at.party(other, one), at.party(one, other)
            relay = at.relays.open()
            relay.sides[0].expect(a.address, a.rtcp_address, False, None, None, True)
            relay.sides[1].expect(b.address, b.rtcp_address, False, None, None, True)
            sealed = a.sealed(rtp(1))
            a.send(sealed, relay.sides[0].port)
            stranger.send(a.sealed(rtp(2)), relay.sides[0].port)  # authentic, which nobody here can tell
            a.send(a.sealed(rtcp(), is_rtcp=True), relay.sides[0].port + 1, 1)
            stranger.send(a.sealed(rtcp(), is_rtcp=True), relay.sides[0].port + 1, 1)
            await at.settle()
            assert b.heard() == [sealed]
            assert len(b.heard(1)) == 1
            await at.say(b, relay, 1, rtp(1))
            assert len(a.heard()) == 1
            assert stranger.heard() == []
            assert relay.statistics.sides[0].dropped == {"address": 2}

    run(work)


@pytest.mark.parametrize("keep", ["first", "second"])
def test_known_and_unknown_keys_do_not_meet(keep: str) -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            unread = 1 if keep == "first" else 0
            relay.sides[unread].expect((b, a)[1 - unread].address, None, True, None, None, True)
            await at.say(a, relay, 0, rtp(1))
            await at.say(b, relay, 1, rtp(1))
            assert a.heard() + b.heard() == []

    run(work)


@pytest.mark.parametrize("muxed", [0, 1])
def test_rtcp_multiplexed_on_one_side_only(muxed: int) -> None:
    async def work() -> None:
        async with world() as at:
            made = srtp_pair()
            parties = at.party(made[0], made[1]), at.party(made[2], made[3])
            relay = at.relays.open()
            for side in (0, 1):
                party = parties[side]
                rtcp_at = None if side == muxed else party.rtcp_address
                relay.sides[side].expect(party.address, rtcp_at, side == muxed, party.sends, party.gets, True)
            on, apart = parties[muxed], parties[1 - muxed]
            on.send(on.sealed(rtcp(5, 202), is_rtcp=True), relay.sides[muxed].port)
            apart.send(apart.sealed(rtcp(6), is_rtcp=True), relay.sides[1 - muxed].port + 1, 1)
            on.send(on.sealed(rtp(1)), relay.sides[muxed].port)
            await at.settle()
            assert [apart.opened(one, is_rtcp=True) for one in apart.heard(1)] == [rtcp(5, 202)]
            assert [apart.opened(one) for one in apart.heard()] == [rtp(1)]
            assert [on.opened(one, is_rtcp=True) for one in on.heard()] == [rtcp(6)]
            # What is multiplexed has no port of its own.
            on.send(on.sealed(rtcp(5), is_rtcp=True), relay.sides[muxed].port + 1, 1)
            await at.settle()
            assert apart.heard(1) == []
            assert relay.statistics.sides[muxed].dropped == {"port": 1}
            assert [side.rtcp for side in relay.statistics.sides] == [1, 1]

    run(work)


def test_rtcp_without_an_address_of_its_own_goes_to_the_next_port() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            relay.sides[1].expect(b.address, None, False, b.sends, b.gets, True)
            channel = relay.sides[1].channels[1]
            assert channel.address == (b.address[0], b.address[1] + 1)
            relay.sides[1].expect((b.address[0], 65535), None, False, b.sends, b.gets, True)
            assert channel.address is None
            a.send(a.sealed(rtcp(), is_rtcp=True), relay.sides[0].port)
            await at.settle()
            assert relay.statistics.sides[0].dropped == {"nowhere": 1}

    run(work)


@pytest.mark.parametrize("suite", [CM, GCM, CM_256], ids=bytes.decode)
def test_the_counter_wraps(suite: bytes) -> None:
    """The rollover counter, on both sides, also where packets around the wrap are lost (RFC 3711 section 3.3.1)."""

    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at, suite, CM)
            numbers = [65530, 65534, 65535 + 4, 65535 + 5, 90_000, 2 * 65536 - 20_000, 2 * 65536 + 3]
            for number in numbers:
                await at.say(a, relay, 0, rtp(number))
            assert [b.opened(one) for one in b.heard()] == [rtp(number) for number in numbers]

    run(work)


def test_out_of_order_and_twice() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            sealed = [a.sealed(rtp(number)) for number in range(10)]
            for number in (0, 3, 1, 2, 3, 9, 5, 1):
                a.send(sealed[number], relay.sides[0].port)
            await at.settle()
            assert [b.opened(one) for one in b.heard()] == [rtp(number) for number in (0, 3, 1, 2, 9, 5)]
            assert relay.statistics.sides[0].dropped == {"replay": 2}

    run(work)


def test_a_party_has_so_many_sources() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            for ssrc in range(1, 100):
                await at.say(a, relay, 0, rtp(1, ssrc))
            got = [b.opened(one) for one in b.heard()]
            assert 60 <= len(got) < 70
            assert relay.statistics.sides[0].dropped == {"sources": 99 - len(got)}
            await at.say(a, relay, 0, rtp(2, 1))  # those there were go on
            assert [b.opened(one) for one in b.heard()] == [rtp(2, 1)]

    run(work)


def test_what_has_not_changed_goes_on() -> None:
    """A re-INVITE with the same keys: counters and windows stay, and so does where the party was found."""

    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            moved = at.party()
            moved.sealer = a.sealer
            await at.say(moved, relay, 0, rtp(65535))
            old = a.sealed(rtp(65536))
            moved.send(old, relay.sides[0].port)
            await at.settle()
            at.call(a, b, relay=relay)
            await at.say(moved, relay, 0, rtp(65537))
            moved.send(old, relay.sides[0].port)
            await at.say(b, relay, 1, rtp(1))
            assert [b.opened(one) for one in b.heard()] == [rtp(65535), rtp(65536), rtp(65537)]
            assert len(moved.heard()) == 1
            assert a.heard() == []
            assert relay.statistics.sides[0].dropped == {"replay": 1}

    run(work)


@pytest.mark.parametrize("is_plain", [False, True])
def test_packets_that_wait_while_signalling_speaks(is_plain: bool) -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            if is_plain:
                a, b = at.party(), at.party()
                at.call(a, b, relay=relay)
            await at.say(a, relay, 0, rtp(1))
            for number in (2, 3):
                a.send(a.sealed(rtp(number)), relay.sides[0].port)
            at.call(a, b, relay=relay)
            await at.settle()
            assert [b.opened(one) for one in b.heard()] == [rtp(1), rtp(2), rtp(3)]

    run(work)


def test_new_keys_and_those_before() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            await at.say(a, relay, 0, rtp(1))
            late = [a.sealed(rtp(number)) for number in (20, 30)]
            a.use(keys(GCM), keys(GCM))
            at.call(a, b, relay=relay)
            stranger = at.party()
            await at.say(a, relay, 0, rtp(4))
            at.now_ms += 1_000
            stranger.send(late[0], relay.sides[0].port)  # on the way when the keys changed; the address is not learnt
            await at.say(b, relay, 1, rtp(1))
            assert [b.opened(one) for one in b.heard()] == [rtp(1), rtp(4), rtp(20)]
            assert [a.opened(one) for one in a.heard()] == [rtp(1)]
            at.now_ms += 2_000
            a.send(late[1], relay.sides[0].port)
            await at.say(a, relay, 0, rtp(5))
            assert [b.opened(one) for one in b.heard()] == [rtp(5)]
            assert stranger.heard() == []
            assert relay.statistics.sides[0].dropped == {"tag": 1}

    run(work)


def test_signalling_says_another_address() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            await at.say(a, relay, 0, rtp(1))
            there = at.party()
            relay.sides[0].expect(there.address, None, True, a.sends, a.gets, True)
            await at.say(b, relay, 1, rtp(1))
            assert (len(there.heard()), a.heard()) == (1, [])

    run(work)


def test_nobody_is_sent_to_before_he_is_known() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            relay.sides[0].expect(None, None, True, a.sends, a.gets, True)
            await at.say(b, relay, 1, rtp(1))
            assert relay.statistics.sides[1].dropped == {"nowhere": 1}
            await at.say(a, relay, 0, rtp(1))
            await at.say(b, relay, 1, rtp(2))
            assert [a.opened(one) for one in a.heard()] == [rtp(2)]

    run(work)


def test_nothing_goes_through_before_both_have_answered() -> None:
    async def work() -> None:
        async with world() as at:
            made = srtp_pair()
            a, b = at.party(made[0], made[1]), at.party(made[2], made[3])
            relay = at.relays.open()
            await at.say(a, relay, 0, rtp(1))
            relay.sides[0].expect(a.address, None, True, a.sends, None, True)
            await at.say(a, relay, 0, rtp(2))
            await at.say(b, relay, 1, rtp(2))
            relay.sides[1].expect(b.address, None, True, None, b.gets, True)
            await at.say(b, relay, 1, rtp(3))
            assert (a.heard(), b.heard()) == ([], [])
            assert [side.dropped for side in relay.statistics.sides] == [{"early": 2}, {"early": 2}]
            await at.say(a, relay, 0, rtp(4))
            assert [b.opened(one) for one in b.heard()] == [rtp(4)]
            relay.sides[1].expect(b.address, None, True, b.sends, b.gets, True)
            await at.say(b, relay, 1, rtp(4))
            assert a.heard() == []  # it has said nothing of its keys
            relay.sides[0].expect(a.address, None, True, a.sends, a.gets, True)
            await at.say(b, relay, 1, rtp(5))
            assert [a.opened(one) for one in a.heard()] == [rtp(5)]

    run(work)


@pytest.mark.parametrize("send", [True, False])
def test_a_side_that_has_not_said_all(send: bool) -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            relay.sides[1].expect(b.address, None, True, None, b.gets if send else None, True)
            b.send(rtp(1), relay.sides[1].port)
            await at.say(b, relay, 1, rtp(2))
            assert a.heard() == []
            await at.say(a, relay, 0, rtp(1))
            assert [b.opened(one) for one in b.heard()] == ([rtp(1)] if send else [])
            only = at.relays.open()
            only.sides[0].expect(a.address, None, True, None, None, True)
            await at.say(a, only, 0, rtp(2))
            assert only.statistics.sides[0].dropped == {"early": 1}

    run(work)


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"address": ("0.0.0.0", 5000)}, "single host"),
    ({"address": ("239.1.1.1", 5000)}, "single host"),
    ({"address": ("255.255.255.255", 5000)}, "single host"),
    ({"address": ("127.0.0.1", 0)}, "a port"),
    ({"address": ("127.0.0.1", 65536)}, "a port"),
    ({"address": ("::1", 5000)}, "other family"),
    ({"address": ("example.com", 5000)}, "IPv4 or IPv6"),
    ({"rtcp": ("0.0.0.0", 5000), "mux": False}, "single host"),
    ({"protected": False}, "no keys"),
    ({"receive": "send"}, "both directions"),
    ({"receive": "receive of the other"}, "both sides"),
    ({"send": "send of the other"}, "both sides"),
    ({"send": "receive of the other, shorter"}, "another way"),
]


@pytest.mark.parametrize(("change", "why"), WRONG)
def test_what_signalling_must_not_say(change: dict[str, Any], why: str) -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            assert a.sends
            assert b.sends
            named = {
                "send": a.gets,
                "receive of the other": b.sends,
                "send of the other": b.gets,
                "receive of the other, shorter": Keys(CM_SHORT, b.sends.key_salt),
            }
            said = {
                "address": a.address,
                "rtcp": None,
                "mux": True,
                "receive": a.sends,
                "send": a.gets,
                "protected": True,
            }
            said |= {
                name: named.get(value, value) if isinstance(value, str) else value for name, value in change.items()
            }
            with pytest.raises(ValueError, match=why) as error:
                relay.sides[0].expect(**said)
            assert a.sends.key_salt.hex() not in repr(error.value)
            await at.say(a, relay, 0, rtp(1))  # all is as it was
            assert [b.opened(one) for one in b.heard()] == [rtp(1)]

    run(work)


@pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6 on loopback")
def test_between_ipv4_and_ipv6() -> None:
    async def work() -> None:
        async with world() as at:
            made = srtp_pair()
            a, b, stranger = at.party(made[0], made[1]), at.party(made[2], made[3], "::1"), at.party(host="::1")
            relay = at.relays.open(None, "::1")
            assert [side.address for side in relay.sides] == ["127.0.0.1", "::1"]
            at.call(a, b, relay=relay)
            await at.say(a, relay, 0, rtp(1))
            assert [b.opened(one) for one in b.heard()] == [rtp(1)]
            stranger.send(rtp(1), relay.sides[1].port, host="::1")
            b.send(b.sealed(rtp(2)), relay.sides[1].port, host="::1")
            await at.settle()
            assert [a.opened(one) for one in a.heard()] == [rtp(2)]
            assert stranger.heard() == []
            # Without keys the address is all there is, in whatever way it is written.
            relay.sides[1].expect(("0:0:0:0:0:0:0:1", b.address[1]), None, True, None, None, False)
            b.send(rtp(3), relay.sides[1].port, host="::1")
            stranger.send(rtp(4), relay.sides[1].port, host="::1")
            await at.settle()
            assert [a.opened(one) for one in a.heard()] == [rtp(3)]

    run(work)


def test_nothing_comes_for_too_long() -> None:
    async def work() -> None:
        async with world(timeout_s=10) as at:
            a, b, relay = again(at)
            told: list[tuple[Relay, str]] = []
            relay.ended = lambda *what: told.append(what)
            held = at.relays.open()
            held.timeout_s = 0
            alone = at.relays.open()
            loop = asyncio.get_running_loop()
            at.now_ms += 6_000
            await at.say(a, relay, 0, rtp(1))
            at.now_ms += 9_000
            b.send(b"\x80" * 40, relay.sides[1].port)  # not authentic: it keeps nothing alive
            await at.settle()
            at.relays._look(loop)
            assert told == []
            assert (alone.is_open, held.is_open) == (False, True)
            at.now_ms += 1_000
            at.relays._look(loop)
            at.relays._look(loop)
            assert told == [(relay, "timeout")]
            assert relay.is_open
            await at.say(a, relay, 0, rtp(2))
            at.now_ms += 10_000
            at.relays._look(loop)
            assert len(told) == 2
            relay.close()
            assert len(at.relays) == 1

    run(work)


def test_as_many_as_may_be() -> None:
    async def work() -> None:
        async with world(max_relays=3) as at:
            opened = [at.relays.open() for _ in range(3)]
            ports = {side.port for relay in opened for side in relay.sides}
            assert len(ports) == 6
            assert not any(port % 2 for port in ports)
            with pytest.raises(NoRoomError, match="max_relays"):
                at.relays.open()
            opened[0].close()
            opened[0].close()
            at.relays.open()
            assert at.relays.counters() == {"opened": 4, "refused": 1}

    run(work)


def test_as_many_as_there_are_ports() -> None:
    async def work() -> None:
        # Seven ports: 20001 belongs to no pair, and of the three pairs somebody else has one half.
        async with world(first_port=20_001, last_port=20_007, max_relays=9) as at:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                other.bind(("127.0.0.1", 20_005))
                relay = at.relays.open()
                assert {side.port for side in relay.sides} == {20_002, 20_006}
                with pytest.raises(NoRoomError, match="range of ports"):
                    at.relays.open()
            with pytest.raises(NoRoomError, match="range of ports"):
                at.relays.open()
            relay.close()
            with pytest.raises(NoRoomError):
                at.relays.open()  # they rest: what was on the way to the old call must not meet a new one
            at.now_ms += 5_000
            at.relays.open()
            at.relays._ports.take("127.0.0.1").close()  # also the one that somebody else had

    run(work)


@pytest.mark.parametrize(("first", "last"), [(1, 1), (5, 5), (4, 4), (5, 6), (0, 9), (70_000, 80_000)])
def test_a_range_without_a_pair(first: int, last: int) -> None:
    with pytest.raises(ValueError, match="no pair"):
        Relays(RelaySettings(("127.0.0.1",), first, last))


def test_no_such_address() -> None:
    async def work() -> None:
        async with world() as at:
            before = open_files()
            for pair in (("192.0.2.1", None), (None, "192.0.2.1")):
                with pytest.raises(NoRoomError, match=r"192\.0\.2\.1: Cannot assign"):
                    at.relays.open(*pair)
            assert open_files() == before
            assert len(at.relays) == 0

    run(work)


def test_statistics() -> None:
    async def work() -> None:
        async with world() as at:
            a, b, relay = again(at)
            at.now_ms += 100
            await at.say(a, relay, 0, rtp(1))
            at.now_ms += 20
            await at.say(a, relay, 0, rtp(2))
            a.send(a.sealed(rtcp(), is_rtcp=True), relay.sides[0].port)
            a.send(b"no", relay.sides[0].port)
            await at.settle()
            at.now_ms += 80
            got = b.heard()
            assert len(got) == 3
            told = relay.close().as_dict()
            size = 2 * (32 + 10) + 28 + 14
            nobody = {"first_ms": None, "last_ms": None, "moves": 0, "dropped": {}, "rtcp": 0, "packets": 0, "bytes": 0}
            heard = {"first_ms": 100, "last_ms": 120, "moves": 0, "dropped": {"size": 1}, "rtcp": 1, "sent": 0}
            assert told == {
                "duration_ms": 200,
                "sides": ({"packets": 3, "bytes": size, **heard}, {"sent": 3, **nobody}),
            }
            totals = {"opened": 1, "packets": 3, "bytes": size, "sent": 3, "dropped: size": 1}
            assert at.relays.counters() == totals
            assert relay.statistics.as_dict() == told

    run(work)


def test_without_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none the event loop looks at each socket."""

    class Elsewhere:
        platform = "darwin"

    async def work() -> None:
        made = World()
        try:
            early = made.relays.open()  # opened before it starts
            made.relays.start()
            for relay in (early, made.relays.open()):
                pair = srtp_pair()
                a, b = made.party(pair[0], pair[1]), made.party(pair[2], pair[3])
                made.call(a, b, relay=relay)
                await made.say(a, relay, 0, rtp(1))
                assert [b.opened(one) for one in b.heard()] == [rtp(1)]
            early.close()
        finally:
            made.close()

    monkeypatch.setattr(reading, "sys", Elsewhere)
    run(work)
