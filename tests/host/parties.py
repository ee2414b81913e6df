"""Two parties, a stranger and a relay between them: real sockets on loopback, a clock that the test moves.

A datagram sent on loopback lies in the receiver's socket when `sendto` returns. So a test sends, lets the event loop
turn until the relay has nothing left to read, and then looks at what has come: nothing has to be waited for.
"""

import asyncio
import contextlib
import os
import select
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from pylibsrtp import Policy, Session

from neighbour.media.keys import Keys
from neighbour.media.relay import Relay, Relays, RelaySettings
from neighbour.media.transcrypt import new_opener, new_sealer

CM, CM_SHORT = b"AES_CM_128_HMAC_SHA1_80", b"AES_CM_128_HMAC_SHA1_32"
GCM, GCM_256 = b"AEAD_AES_128_GCM", b"AEAD_AES_256_GCM"
CM_192, CM_256 = b"AES_192_CM_HMAC_SHA1_80", b"AES_256_CM_HMAC_SHA1_80"
SIZES = {CM: 30, CM_SHORT: 30, GCM: 28, GCM_256: 44, CM_192: 38, CM_256: 46, b"AES_256_CM_HMAC_SHA1_32": 46}
PROFILES = {
    CM: Policy.SRTP_PROFILE_AES128_CM_SHA1_80,
    CM_SHORT: Policy.SRTP_PROFILE_AES128_CM_SHA1_32,
    GCM: Policy.SRTP_PROFILE_AEAD_AES_128_GCM,
    GCM_256: Policy.SRTP_PROFILE_AEAD_AES_256_GCM,
}
FIRST_PORT, LAST_PORT = 20_000, 23_999  # where no ports are given to who does not ask for one


def keys(suite: bytes = CM, mki: bytes = b"") -> Keys:
    return Keys(suite, os.urandom(SIZES[suite]), mki)


def rtp(seq: int, ssrc: int = 0x1234, payload: bytes = b"media" * 4, head: int = 0x80) -> bytes:
    return (
        bytes([head, 0])
        + (seq & 0xFFFF).to_bytes(2)
        + (160 * seq & 0xFFFFFFFF).to_bytes(4)
        + ssrc.to_bytes(4)
        + payload
    )


def rtcp(ssrc: int = 0x1234, kind: int = 200, body: bytes = bytes(20)) -> bytes:
    return bytes([0x80, kind]) + ((len(body) + 4) // 4).to_bytes(2) + ssrc.to_bytes(4) + body


def library(one: Keys, ssrc_type: int) -> Session | None:
    """pylibsrtp as its makers mean it to be used; None for what it does not know."""
    if one.suite not in PROFILES or one.mki:
        return None
    return Session(Policy(one.key_salt, ssrc_type, srtp_profile=PROFILES[one.suite]))


def open_files() -> int:
    """How many this process has."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208


class Party:
    """One end of a call.

    Attributes:
        sends: the keys of what it says; None for plain RTP.
        gets: the keys of what it hears.
    """

    def __init__(self, sends: Keys | None = None, gets: Keys | None = None, host: str = "127.0.0.1") -> None:
        self.sends = sends
        self.gets = gets
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.socks = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for sock in self.socks:
            sock.setblocking(False)
            sock.bind((host, 0))
        self.use(sends, gets)

    def use(self, sends: Keys | None, gets: Keys | None) -> None:
        self.sends, self.gets = sends, gets
        self.sealer: Any = sends and (library(sends, Policy.SSRC_ANY_OUTBOUND) or new_sealer(sends))
        self.opener: Any = gets and (library(gets, Policy.SSRC_ANY_INBOUND) or new_opener(gets))

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.socks[0].getsockname()[:2]
        return host, port

    @property
    def rtcp_address(self) -> tuple[str, int]:
        host, port = self.socks[1].getsockname()[:2]
        return host, port

    def sealed(self, packet: bytes, is_rtcp: bool = False) -> bytes:
        """A packet as it sends it."""
        if self.sealer is None:
            return packet
        if isinstance(self.sealer, Session):
            return self.sealer.protect_rtcp(packet) if is_rtcp else self.sealer.protect(packet)
        made = self.sealer.rtcp(packet) if is_rtcp else self.sealer.rtp(packet)
        assert isinstance(made, bytes)
        return made

    def opened(self, packet: bytes, is_rtcp: bool = False) -> bytes:
        """A packet that it got, for all its checks."""
        if self.opener is None:
            return packet
        if isinstance(self.opener, Session):
            return self.opener.unprotect_rtcp(packet) if is_rtcp else self.opener.unprotect(packet)
        plain = self.opener.rtcp(packet) if is_rtcp else self.opener.rtp(packet)
        assert isinstance(plain, bytes)
        return plain

    def send(self, packet: bytes, port: int, at: int = 0, host: str = "127.0.0.1") -> None:
        """Send a datagram as it is, from its socket for RTP or for RTCP."""
        self.socks[at].sendto(packet, (host, port))

    def heard(self, at: int = 0) -> list[bytes]:
        """What has come, as it is."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(self.socks[at].recv(4096))
        return found

    def close(self) -> None:
        for sock in self.socks:
            sock.close()


class World:
    """Relays, whoever talks by way of them, and the time."""

    def __init__(self, **settings: Any) -> None:
        self.now_ms = 1_000_000
        values = {"addresses": ("127.0.0.1",), "first_port": FIRST_PORT, "last_port": LAST_PORT} | settings
        self.relays = Relays(RelaySettings(**values), lambda: self.now_ms)
        self.parties: list[Party] = []

    def party(self, sends: Keys | None = None, gets: Keys | None = None, host: str = "127.0.0.1") -> Party:
        made = Party(sends, gets, host)
        self.parties.append(made)
        return made

    def call(self, first: Party, second: Party, mux: bool = True, relay: Relay | None = None) -> Relay:
        """A relay between two parties that says what they do."""
        relay = relay or self.relays.open()
        for side, party in zip(relay.sides, (first, second), strict=True):
            is_protected = party.sends is not None
            rtcp_at = None if mux else party.rtcp_address
            side.expect(party.address, rtcp_at, mux, party.sends, party.gets, is_protected)
        return relay

    async def settle(self) -> None:
        """Let the relays read all that has come."""
        for _ in range(10_000):
            await asyncio.sleep(0)
            poll = select.poll()
            for number in self.relays._reader._receive:
                poll.register(number, select.POLLIN)
            if not poll.poll(0):
                return
        raise AssertionError("the relays do not read")

    async def say(self, who: Party, relay: Relay, side: int, *packets: bytes) -> None:
        """Have a party send RTP, protected as it does, and the relay take it."""
        for packet in packets:
            who.send(who.sealed(packet), relay.sides[side].port)
        await self.settle()

    def close(self) -> None:
        self.relays.close_all()
        for party in self.parties:
            party.close()


@contextlib.asynccontextmanager
async def world(**settings: Any) -> AsyncIterator[World]:
    made = World(**settings)
    made.relays.start()
    try:
        yield made
    finally:
        made.close()


def run(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(work())


def srtp_pair(first: bytes = CM, second: bytes | None = None) -> tuple[Keys, Keys, Keys, Keys]:
    """Keys of a re-encrypted call: what the first party sends and gets, what the second one sends and gets."""
    second = second or first
    return keys(first), keys(first), keys(second), keys(second)
