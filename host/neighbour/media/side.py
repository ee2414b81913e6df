"""One side of a relay: what its party sends is checked here and handed to the other side, which sends it on.

    what is known of the party      a packet of its               and goes on, to the other side
    SRTP, its keys                  is authentic, from wherever   as it is, where the other side expects those keys;
                                                                  else opened, and sealed with what it does expect, or
                                                                  not, to a plain side
    SRTP, keys unknown to us        is from the signalled address as it is, to a side that is the same
    plain RTP                       is from the signalled address sealed, or as it is to a plain side

All else is dropped and counted. Packets are authenticated also where they go on as they are: a weak terminal behind us
does not see the forged ones, and only valid ones keep a relay alive.
"""

from collections import Counter
from typing import TYPE_CHECKING, Any

from .statistics import SideStatistics
from .transcrypt import BAD, MAX_BYTES, new_opener, new_sealer, reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from .channel import Channel
    from .keys import Keys
    from .line import LineChannel, LinePair
    from .ports import Pair
    from .reading import Reader
    from .transcrypt import Opener, Sealer

__all__ = ["Moment", "Side"]

_MIN_RTP_BYTES = 12
_MIN_RTCP_BYTES = 8
_OLD_KEYS_MS = 3_000  # packets that were on the way when the keys changed
_MAX_SOURCES = 64  # SSRCs of a party under its present keys; beyond, others are dropped: each costs memory
# What is done with a valid packet.
_NOTHING, _AS_IT_IS, _SEAL, _OPENED = range(4)


class Moment:
    """The time in milliseconds, read once for each batch of packets."""

    __slots__ = ("ms",)

    def __init__(self, ms: int) -> None:
        self.ms = ms


class Side:
    """See the module.

    Args:
        pair: its sockets, or what it has in place of them.
        moment: the time.
        reader: reads them.
        is_ours: whether an address, as sockets have it, is one of the relay's own sockets.

    Attributes:
        other: the side of the other party.
        address: the local address.
        port: where its party sends RTP to; RTCP to the next, or to the same where it is multiplexed.
        is_muxed: whether RTCP has the same port (RFC 5761), both ways.
        last_ms: when the last valid packet came, by the clock; None for never.
    """

    # There are thousands, and each packet meets another one: what is not touched need not be in the caches.
    __slots__ = (
        "_began_ms",
        "_bytes",
        "_dropped",
        "_first_ms",
        "_index",
        "_is_expected",
        "_is_ours",
        "_is_protected",
        "_moment",
        "_newest",
        "_old_opener",
        "_old_until_ms",
        "_opener",
        "_packets",
        "_receive",
        "_rtcp",
        "_sealer",
        "_send",
        "_sent",
        "_seq",
        "_ssrc",
        "_way",
        "address",
        "channels",
        "is_muxed",
        "last_ms",
        "other",
        "pair",
        "port",
    )

    def __init__(
        self, pair: "Pair | LinePair", moment: Moment, reader: "Reader", is_ours: "Callable[[tuple[Any, ...]], bool]"
    ) -> None:
        self.other = self  # until there are two
        self.pair = pair
        self.address = pair.address
        self.port = pair.port
        self.is_muxed = False
        self.channels = pair.channels(self, reader)
        self._moment = moment
        self._is_ours = is_ours
        self._began_ms = moment.ms
        self._is_expected = False
        self._is_protected = True
        self._receive: Keys | None = None
        self._send: Keys | None = None
        self._opener: Opener | None = None
        self._old_opener: Opener | None = None
        self._old_until_ms = 0
        self._sealer: Sealer | None = None
        self._way = _NOTHING
        # The highest seq of the present SSRC, and of those before; the highest SRTCP index of each.
        self._ssrc = b""
        self._seq = 0
        self._newest: dict[bytes, int] = {}
        self._index: dict[bytes, int] = {}
        self._packets = self._bytes = self._rtcp = self._sent = 0
        self._first_ms: int | None = None
        self.last_ms: int | None = None
        self._dropped: Counter[str] = Counter()

    # What signalling says.

    def expect(
        self,
        address: tuple[str, int] | None,
        rtcp: tuple[str, int] | None,
        mux: bool,
        receive: "Keys | None",
        send: "Keys | None",
        protected: bool,
    ) -> None:
        """Take what signalling says of this party; what has not changed goes on without a gap.

        Args:
            address: where it wants RTP, and sends it from; None while nobody knows.
            rtcp: the same of RTCP; None for the next port, or with ``mux`` the same.
            mux: whether RTCP has RTP's port.
            receive: the keys that it protects its packets with.
            send: the keys that packets for it are protected with.
            protected: False for plain RTP. True without any keys: SRTP with keys that we do not know.

        Raises:
            ValueError: an address that is none of a single host, or is the relay's own; keys with plain RTP; one key
                where there have to be several. Nothing has changed then.
        """
        opener, sealer = self._check_keys(receive, send, protected)
        raw = self.pair.raw
        rtp_address = raw(address) if address else None
        if rtcp is None and address is not None:
            # A port of 65535 has no next.
            rtcp = (address[0], address[1] + 1) if not mux and address[1] < 65535 else None
        rtcp_address = raw(rtcp) if rtcp and not mux else None
        for one in (rtp_address, rtcp_address):
            if one is not None and self._is_ours(one):
                raise ValueError("media address: one of the relay's own, which would send to itself")
        if opener is not self._opener:
            if self._opener is not None and opener is not None:
                self._old_opener, self._old_until_ms = self._opener, self._moment.ms + _OLD_KEYS_MS
            self._ssrc = b""
            self._newest.clear()
            self._index.clear()
        if receive is None:
            self._old_opener = None
        self._opener, self._sealer = opener, sealer
        self._receive, self._send = receive, send
        self._is_protected, self._is_expected = protected, True
        self.is_muxed = mux
        self.channels[0].expect(rtp_address, opener is not None)
        self.channels[1].expect(rtcp_address, opener is not None)
        self.find_way()
        self.other.find_way()

    def _check_keys(
        self, receive: "Keys | None", send: "Keys | None", protected: bool
    ) -> "tuple[Opener | None, Sealer | None]":
        if not protected and (receive or send):
            raise ValueError("plain RTP has no keys: a leg is either the one or the other")
        if receive and send and receive.key_salt == send.key_salt:
            raise ValueError("one key for both directions: each party has to have one of its own (RFC 4568)")
        other = self.other
        if other is not self:
            for mine, its in ((receive, other._receive), (send, other._send)):
                if mine and its and mine.key_salt == its.key_salt:
                    raise ValueError("one key on both sides: each party has to have one of its own (RFC 4568)")
            for mine, its in ((receive, other._send), (send, other._receive)):
                # Sealed again under its own key a stream could meet its own keystream at another place.
                if mine and its and mine.key_salt == its.key_salt and mine != its:
                    raise ValueError("a party's key, in another way: passed on as it is, or a key of ours is wanted")
        opener = self._opener if receive == self._receive else new_opener(receive) if receive else None
        sealer = self._sealer if send == self._send else new_sealer(send) if send else None
        return opener, sealer

    def find_way(self) -> None:
        """Decide what is done with its party's packets; nothing at all where it is not clear that they may go on."""
        other = self.other
        self._way = _NOTHING
        if not (self._is_expected and other._is_expected):
            return
        is_unread = self._is_protected and self._receive is None and self._send is None
        other_is_unread = other._is_protected and other._receive is None and other._send is None
        if is_unread or other_is_unread:
            if is_unread and other_is_unread:
                self._way = _AS_IT_IS
        elif self._is_protected and self._receive is None:
            pass  # its packets can't be told from anybody's yet
        elif not other._is_protected:
            self._way = _OPENED
        elif other._send is not None:
            self._way = _AS_IT_IS if self._receive == other._send else _SEAL

    # What its party says. These two are most of what a relay costs.

    def take_rtp(self, channel: "Channel | LineChannel", data: bytes, source: "tuple[Any, ...]") -> None:
        """A datagram that is not RTCP has come; it goes on, or is dropped and counted."""
        size = len(data)
        if size < _MIN_RTP_BYTES or size > MAX_BYTES:
            return self.drop("size")
        if data[0] & 0xC0 != 0x80:
            return self.drop("form")
        opener, is_old = self._opener, False
        if opener is None:
            if source != channel.signalled or not self._way:
                return self.drop("address" if self._way else "early")
            plain = data
        else:
            try:
                plain = opener.rtp(data)
            except BAD as error:
                opened = self._open_old(data, "rtp")
                if opened is None:
                    return self.drop(reason(error))
                plain, is_old = opened, True
        if not is_old:
            seq = data[2] << 8 | data[3]
            if data[8:12] != self._ssrc and not self._change_source(data[8:12], seq):
                return self.drop("sources")
            is_newest = 0 < (seq - self._seq) & 0xFFFF < 0x8000
            if is_newest:
                self._seq = seq
            if source != channel.heard_from:
                channel.heard(source, is_newest, self._moment.ms)
        self._packets += 1
        self._bytes += size
        self.last_ms = self._moment.ms
        way, other = self._way, self.other
        if way == _AS_IT_IS:
            packet = data
        elif way == _SEAL:
            assert other._sealer is not None
            try:
                packet = other._sealer.rtp(plain)
            except BAD as error:
                return self.drop(reason(error))
        elif way == _OPENED:
            packet = plain
        else:
            return self.drop("early")
        return self._send_on(other.channels[0], packet)

    def take_rtcp(self, channel: "Channel | LineChannel", data: bytes, source: "tuple[Any, ...]") -> None:
        """The same for RTCP."""
        size = len(data)
        if size < _MIN_RTCP_BYTES or size > MAX_BYTES:
            return self.drop("size")
        if data[0] & 0xC0 != 0x80:
            return self.drop("form")
        if channel.is_rtcp and self.is_muxed:
            return self.drop("port")
        opener, is_old = self._opener, False
        if opener is None:
            if source != channel.signalled or not self._way:
                return self.drop("address" if self._way else "early")
            plain = data
        else:
            try:
                plain = opener.rtcp(data)
            except BAD as error:
                opened = self._open_old(data, "rtcp")
                if opened is None:
                    return self.drop(reason(error))
                plain, is_old = opened, True
            if not is_old:
                is_newest = self._is_newest_rtcp(opener, data)
                if source != channel.heard_from:
                    channel.heard(source, is_newest, self._moment.ms)
        self._packets += 1
        self._bytes += size
        self._rtcp += 1
        self.last_ms = self._moment.ms
        if self._first_ms is None:
            self._first_ms = self.last_ms
        way, other = self._way, self.other
        if way == _AS_IT_IS:
            packet = data
        elif way == _SEAL:
            assert other._sealer is not None
            try:
                packet = other._sealer.rtcp(plain)
            except BAD as error:
                return self.drop(reason(error))
        elif way == _OPENED:
            packet = plain
        else:
            return self.drop("early")
        return self._send_on(other.channels[0 if other.is_muxed else 1], packet)

    def _send_on(self, channel: "Channel | LineChannel", packet: bytes) -> None:
        why = channel.send(packet)
        if why:
            return self.drop(why)
        channel.side._sent += 1
        return None

    def _change_source(self, ssrc: bytes, seq: int) -> bool:
        """A packet of another SSRC has come; returns whether there may be one more."""
        if self._ssrc:
            self._newest[self._ssrc] = self._seq
        elif self._first_ms is None:
            self._first_ms = self._moment.ms
        if ssrc not in self._newest and len(self._newest) >= _MAX_SOURCES:
            return False
        self._ssrc = ssrc
        self._seq = self._newest.get(ssrc, seq - 1)  # the first of a new one is newer than all before
        return True

    def _open_old(self, data: bytes, kind: str) -> bytes | None:
        """Open a packet with the keys before the present ones, for a short while after a change; None: it is not so."""
        if self._old_opener is None:
            return None
        if self._moment.ms >= self._old_until_ms:
            self._old_opener = None
            return None
        try:
            return self._old_opener.rtp(data) if kind == "rtp" else self._old_opener.rtcp(data)
        except BAD:
            return None

    def _is_newest_rtcp(self, opener: "Opener", data: bytes) -> bool:
        end = len(data) - opener.behind_index
        index = int.from_bytes(data[end - 4 : end], "big") & 0x7FFFFFFF
        ssrc = data[4:8]
        newest = self._index.get(ssrc, -1)
        if index <= newest or (newest < 0 and len(self._index) >= _MAX_SOURCES):
            return False
        self._index[ssrc] = index
        return True

    def close(self) -> None:
        """Read no more."""
        for channel in self.channels:
            channel.close()

    def drop(self, why: str) -> None:
        """Count a packet that does not go on."""
        self._dropped[why] += 1

    # What has been.

    @property
    def statistics(self) -> SideStatistics:
        """What there has been so far."""
        times = [None if at is None else at - self._began_ms for at in (self._first_ms, self.last_ms)]
        moves = sum(channel.moves for channel in self.channels)
        return SideStatistics(
            self._packets, self._bytes, self._rtcp, self._sent, times[0], times[1], moves, dict(self._dropped)
        )
