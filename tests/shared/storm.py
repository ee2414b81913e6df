"""A storm of packets on receivers of SRTP: flipped, cut, spliced, replayed, reordered, lost, and good ones among them.

    sender -> wires -> [held back, lost, sent on] -> receiver        what is good and fresh has to open, as it was
                   `-> [damaged, spliced, replayed] -^               what is not must not, whatever it is

Beside each receiver a model keeps what RFC 3711 section 3.3.2 says about each index, in whole numbers that never wrap,
so each packet has one right outcome. Runs on both Pythons; the same seed gives the same storm.
"""

from hashlib import sha256

from sipwire.crypto import KeyParam
from sipwire.errors import ParseError, SecurityError
from sipwire.rtp import build_header
from sipwire.sessions import CM, SessionReceiver, SessionSender, Terms

__all__ = ["WAYS", "Storm", "reports", "session", "single"]

WAYS = ("good", "late", "lost", "flipped", "cut", "longer", "spliced", "replayed", "old", "noise")
_WINDOW = 64
_HISTORY = 100  # of wires that attacks are made of
_HELD = 30


class _Dice:
    """Numbers from a seed."""

    def __init__(self, seed):
        self._seed = seed
        self._count = 0
        self._bytes = b""
        self._at = 0

    def bytes(self, size):
        out = b""
        while len(out) < size:
            self._count += 1
            out += sha256(b"%d %d" % (self._seed, self._count)).digest()
        return out[:size]

    def below(self, limit):
        """A number below ``limit``, which is at most 65536."""
        if self._at + 2 > len(self._bytes):
            self._bytes, self._at = self.bytes(32), 0
        number = self._bytes[self._at] << 8 | self._bytes[self._at + 1]
        self._at += 2
        return number % limit


class _Model:
    """What of a source was opened."""

    def __init__(self):
        self.highest = -1
        self.seen = []  # of the window

    def is_fresh(self, index):
        return index > self.highest or (index > self.highest - _WINDOW and index not in self.seen)

    def add(self, index):
        self.highest = max(self.highest, index)
        self.seen = [one for one in self.seen + [index] if one > self.highest - _WINDOW]


class Storm:
    """One sender, one receiver, and the network between them.

    Args:
        name: of the kind of receiver.
        protect: makes a wire of a packet.
        unprotect: makes a packet of a wire, given as a bytearray; leaves it alone where it raises.
        plain_of: makes a packet of (index, SSRC, payload).
        sources: the SSRCs.
        first: index of the first packet.
        seed: the number of the storm.
        jumps: whether indexes may be left out: those of SRTCP are the sender's own.

    Attributes:
        counts: how many packets came in each of `WAYS`.
        opened: how many of them opened.
    """

    def __init__(self, name, protect, unprotect, plain_of, sources=(1,), first=65000, seed=1, jumps=True):
        self.name = name
        self._protect, self._unprotect, self._plain_of = protect, unprotect, plain_of
        self._sources = sources
        self._jumps = jumps
        self._next = [first] * len(sources)
        self._models = [_Model() for _ in sources]
        self._dice = _Dice(seed)
        self._history = []  # (source, index, wire, plain)
        self._held = []
        self._old = []
        self.counts = {way: 0 for way in WAYS}
        self.opened = 0

    def run(self, count):
        """Deliver so many packets; raises AssertionError where one has the wrong outcome."""
        delivered = 0
        while delivered < count:
            delivered += self._step()
        while self._held:
            self._deliver("late", self._held.pop())

    def _send(self):
        dice = self._dice
        at = dice.below(len(self._sources))
        index = self._next[at]
        roll = dice.below(1000) or not self._jumps
        # Mostly the next one; sometimes some are lost that nobody ever sees, and now and then very many.
        self._next[at] += 1 if roll else 30000 if self.opened % 3 == 0 else 200
        plain = self._plain_of(index, self._sources[at], dice.bytes(dice.below(60)))
        packet = (at, index, self._protect(plain), plain)
        self._history.append(packet)
        if len(self._history) > _HISTORY:
            old = self._history.pop(0)
            if dice.below(20) == 0:
                self._old = self._old[-200:] + [old]
        return packet

    def _step(self):
        dice = self._dice
        if self._held and dice.below(4) == 0:
            self._deliver("late", self._held.pop(dice.below(len(self._held))))
            return 1
        roll = dice.below(100)
        if roll < 30 or not self._old:
            packet = self._send()
            chance = dice.below(10)
            if chance < 2 and len(self._held) < _HELD:
                self._held.append(packet)
                return 0
            if chance == 2:
                self.counts["lost"] += 1
                return 0
            self._deliver("good", packet)
            return 1
        recent = self._history[dice.below(len(self._history))]
        wire = bytearray(recent[2])
        if roll < 50:
            way = "flipped"
            for _ in range(1 + dice.below(3)):
                bit = dice.below(8 * len(wire))
                wire[bit >> 3] ^= 1 << (bit & 7)
        elif roll < 60:
            way = "cut"
            wire = wire[: dice.below(len(wire))]
        elif roll < 65:
            way = "longer"
            wire += dice.bytes(1 + dice.below(20))
        elif roll < 75:
            way = "spliced"
            other = self._history[dice.below(len(self._history))][2]
            cut = dice.below(min(len(wire), len(other)))
            wire = wire[:cut] + other[cut:]
        elif roll < 90:
            way = "replayed"
        elif roll < 97:
            way = "old"
            recent = self._old[dice.below(len(self._old))]
            wire = bytearray(recent[2])
        else:
            way = "noise"
            wire = bytearray(dice.bytes(dice.below(100)))
            if wire and dice.below(2):
                wire[0] = 0x80
        self._deliver(way, recent, wire)
        return 1

    def _deliver(self, way, packet, wire=None):
        at, index, sent, plain = packet
        self.counts[way] += 1
        wire = bytearray(sent) if wire is None else wire
        if bytes(wire) != sent:
            # Spliced of two, or flipped back: it may be one that was really sent.
            for one in self._history:
                if one[2] == bytes(wire):
                    at, index, sent, plain = one
        right = bytes(wire) == sent and self._models[at].is_fresh(index)
        before = bytes(wire)
        try:
            got = self._unprotect(wire)
        except (ParseError, SecurityError):
            assert not right, "%s: a good packet was refused" % self.name
            assert bytes(wire) == before, "%s: a refused packet was changed" % self.name
            return
        assert right, "%s: a packet was taken that was %s" % (self.name, way)
        assert got == plain, "%s: a packet was altered" % self.name
        self._models[at].add(index)
        self.opened += 1


def _rtp(index, ssrc, payload):
    packet = bytearray(12)
    build_header(packet, index & 0x7F, index & 0xFFFF, index * 160 & 0xFFFFFFFF, ssrc)
    return bytes(packet) + payload


def _rtcp(_, ssrc, payload):
    return b"\x80\xc9\0\1" + ssrc.to_bytes(4, "big") + payload


def _ends(sender, receiver):
    def protect(plain):
        packet = bytearray(plain + bytes(sender.overhead_bytes))
        return bytes(packet[: sender.protect(packet, len(plain))])

    def unprotect(wire):
        size = receiver.unprotect(wire, len(wire))
        return bytes(wire[:size])

    return protect, unprotect


def _key(suite):
    return bytes(range(7, 7 + suite.key_salt_bytes))


def single(suite, new_aes, kind=CM, seed=1):
    """One source, one key: what a terminal has."""
    sender, receiver = kind.sender(suite, _key(suite), new_aes), kind.receiver(suite, _key(suite), new_aes)
    protect, unprotect = _ends(sender, receiver)
    return Storm("srtp " + suite.name.decode(), protect, unprotect, _rtp, (0x81234567,), 65000, seed)


def reports(suite, new_aes, kind=CM, seed=1):
    """SRTCP of one source."""
    sender = kind.rtcp_sender(suite, _key(suite), new_aes)
    receiver = kind.rtcp_receiver(suite, _key(suite), new_aes)

    def unprotect(wire):
        return receiver.unprotect(bytes(wire))

    return Storm("srtcp " + suite.name.decode(), sender.protect, unprotect, _rtcp, (7,), 1, seed, False)


def session(suite, new_aes, kind=CM, seed=1):
    """Three sources, two keys in turn, keys derived anew every 16 packets."""
    keys = [KeyParam(_key(suite), None, b"\0\1"), KeyParam(bytes(reversed(_key(suite))), None, b"\0\2")]
    sender = SessionSender(suite, keys, new_aes, Terms(16), kind)
    receiver = SessionReceiver(suite, keys, new_aes, Terms(16), kind)
    protect, unprotect = _ends(sender, receiver)

    def protect_by_turns(plain):
        sender.take_key(keys[plain[3] >> 3 & 1].mki)
        return protect(plain)

    return Storm("session " + suite.name.decode(), protect_by_turns, unprotect, _rtp, (1, 2, 0xFFFFFFFF), 65000, seed)
