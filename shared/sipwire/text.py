"""Real-time text in RTP: T.140 by RFC 4103, its redundancy by RFC 2198, several writers behind a mixer by RFC 9071.

    typed --write--> buffered 300 ms --build--> [ older block | old block | new block ] --> RTP, each packet one seq on
    RTP --receive--> blocks in order, from redundancy where a packet is lost, U+FFFD where it is lost for good

A block (T140block) is the text of one packet. Redundant blocks have the sequence numbers before their packet's, counted
backwards (RFC 4103 section 4.2), so it shows exactly which are missing. A mixer sends its writers' blocks in turn and
names the writer by CSRC; there the blocks of one writer are told apart by their timestamps.
"""

from .compat import const, differs
from .errors import ParseError
from .utf8 import decode

__all__ = ["MAX_BLOCK_BYTES", "TextReceiver", "TextSender", "payload_bytes"]

MAX_BLOCK_BYTES = 96  # of what is sent: 24 characters of any script; with two generations below 300 bytes
_BUFFERING_MS = const(300)  # RFC 4103 section 5.1
_CPS = const(30)  # RFC 4103 section 6: characters a second, over any ten seconds, where the peer says nothing
_MAX_CPS = const(1000)
_MAX_PENDING_BYTES = const(512)  # typed and not yet sent; beyond, `write` takes no more
_MAX_OFFSET = const(16383)  # RFC 2198 section 3: 14 bits
_MAX_RED = const(5)  # redundant generations that we take or make, as `red` has it
_CHARACTER = const(10000)  # units of credit for one character
_BOM = b"\xef\xbb\xbf"

_WAIT_MS = const(1000)  # RFC 4103 section 5.4: for a packet out of order; at most 1 s
_MAX_HELD = const(16)  # blocks kept meanwhile; beyond, the wait is over
_MAX_HELD_BYTES = const(1024)  # likewise: thirty seconds of typing
_MAX_MISSING = const(64)  # a gap that is longer gets so many markers
_MAX_DROPOUT = const(3000)  # RFC 3550 appendix A.1, as in `reception`
_MAX_MISORDER = const(100)
_MAX_STREAMS = const(4)  # SSRCs remembered; beyond, the one silent for longest is forgotten
_MIXER_LOSS = const(3)  # RFC 9071: packets missing within a second after which text may be
_MAX_SOURCES = const(8)  # writers behind a mixer that are remembered; RFC 9071 expects up to five at a time
_CLOCK_MASK = const(0xFFFFFFF)  # timestamps are compared by 28 bits, 74 hours: a small integer on 32 bits
_CLOCK_HALF = const(0x8000000)
_MARKER = "\ufffd"  # T.140 Addendum 1: text is missing here


def payload_bytes(generations: int) -> int:
    """The size of the largest payload that a `TextSender` makes."""
    return (generations + 1) * MAX_BLOCK_BYTES + 4 * generations + 1


class TextSender:
    """What one side writes, as payloads of RTP packets. It begins with a byte order mark, as T.140 wants.

    Args:
        t140_type: payload type of text/t140.
        now: milliseconds.
        red_type: payload type of text/red; -1 for none.
        generations: redundant ones in each packet, where there is a ``red_type``.
        cps: the most characters a second that the peer takes, as the mean of any ten seconds.
        offset: what the timestamps begin with; random, 32 bits.
        buffering_ms: between two packets; T.140 allows up to 500.

    Attributes:
        payload_type: of the packets.
        timestamp: of the last packet, at 1000 Hz, 32 bits.
        marker: whether the last packet was the first one after a pause.
        timer_at: when `build` is due; None while nothing is to be sent.
    """

    def __init__(
        self,
        t140_type: int,
        now: int,
        red_type: int = -1,
        generations: int = 2,
        cps: int = _CPS,
        offset: int = 0,
        buffering_ms: int = _BUFFERING_MS,
    ) -> None:
        if not 0 <= generations <= _MAX_RED or not cps > 0:
            raise ValueError("redundancy or cps out of range")
        self.payload_type = t140_type if red_type < 0 else red_type
        self._t140_type = t140_type
        self._generations = 0 if red_type < 0 else generations
        self._is_red = red_type >= 0
        self._cps = min(cps, _MAX_CPS)
        self._credit = self._cps * _CHARACTER
        self._credit_at = now
        self._offset = offset
        self._buffering_ms = buffering_ms
        self._pending = _BOM
        self._history: list[tuple[int, bytes]] = []  # blocks sent, and when; the oldest first
        self._flush = 0  # packets still to come before a pause
        self.timestamp = 0
        self.marker = False
        self.timer_at: int | None = now

    def write(self, text: str, now: int) -> int:
        """Send text: the first of it at once, what follows every 300 ms.

        Returns:
            How many characters were taken: fewer than there are where too much waits. Offer the rest again later.
        """
        data = decode(text.encode()).encode()  # MicroPython's text may hold half of a surrogate pair
        taken = len(text)
        if len(self._pending) + len(data) > _MAX_PENDING_BYTES:
            end, taken = _cut(data, max(0, _MAX_PENDING_BYTES - len(self._pending)), taken)
            data = data[:end]
        self._pending += data
        if data and self.timer_at is None:
            self.timer_at = now
        return taken

    def build(self, packet: bytearray, start: int, now: int) -> int:
        """Write the payload that is due to ``packet[start:]``; its seq is to be the one after that of the last.

        Args:
            packet: with room for `payload_bytes` behind ``start``.
            start: where the payload begins.
            now: milliseconds.

        Returns:
            Its size, 0 of an empty block without redundancy; or -1 where nothing is due.

        Raises:
            ValueError: no room in the buffer.
        """
        if self.timer_at is None or now < self.timer_at:
            return -1
        if len(packet) - start < payload_bytes(self._generations):
            raise ValueError("no room for text")
        block = self._take(now)
        if not block and not self._flush:
            self.timer_at = now + self._buffering_ms if self._pending else None
            return -1  # cps forbids more for now
        self.marker = not self._flush
        # RFC 4103 section 5.2: empty blocks follow until the last text was in every generation; without redundancy
        # one, by which its loss shows.
        self._flush = max(1, self._generations) if block else self._flush - 1
        self.timer_at = now + self._buffering_ms if self._flush or self._pending else None
        self.timestamp = now + self._offset & 0xFFFFFFFF
        at = start
        if self._is_red:
            for sent_at, old in self._history:
                # More than 16 s ago only empty ones were sent, of which nothing but their number matters.
                packet[at] = 0x80 | self._t140_type
                offset = min(_MAX_OFFSET, now - sent_at)
                packet[at + 1] = offset >> 6
                packet[at + 2] = (offset & 0x3F) << 2 | len(old) >> 8
                packet[at + 3] = len(old) & 0xFF
                at += 4
            packet[at] = self._t140_type
            at += 1
            for _, old in self._history:
                packet[at : at + len(old)] = old
                at += len(old)
            self._history.append((now, block))
            if len(self._history) > self._generations:
                self._history.pop(0)
        packet[at : at + len(block)] = block
        return at + len(block) - start

    def begin_anew(self) -> None:
        """Go on under another SSRC: who has read what was sent under the last would take it for new."""
        self._history = []

    def _take(self, now: int) -> bytes:
        """The next block, as long as cps allows: a burst of one second's, then nine tenths of it.

        So no ten seconds see more than ten times cps (RFC 4103 section 6).
        """
        passed = min(2000, max(0, now - self._credit_at))
        self._credit = min(self._cps * _CHARACTER, self._credit + passed * self._cps * 9)
        self._credit_at = now
        end, count = _cut(self._pending, MAX_BLOCK_BYTES, self._credit // _CHARACTER)
        self._credit -= count * _CHARACTER
        block = self._pending[:end]
        self._pending = self._pending[end:]
        return block


def _cut(data: bytes, room: int, most: int) -> "tuple[int, int]":
    """The whole characters of ``data`` that fit into ``room`` bytes, at most ``most``: (bytes, characters)."""
    end = count = 0
    while end < len(data) and count < most:
        following = end + 1
        while following < len(data) and data[following] & 0xC0 == 0x80:
            following += 1
        if following > room:
            break
        end = following
        count += 1
    return end, count


class _Stream:
    """What is known of one SSRC."""

    def __init__(self, ssrc: bytes) -> None:
        self.ssrc = ssrc
        self.next_seq = -1  # of the block to be given next; -1 before the first
        self.bad_seq = -1
        self.held: list[tuple[int, int, bytes]] = []  # blocks after a gap: (seq, when they came, text), in order
        self.sources: list[tuple[bytes, int]] = []  # behind a mixer: who, timestamp of the last text; the latest last
        self.lost = 0  # packets of a mixer missing in the present second
        self.lost_since = 0


class TextReceiver:
    """What the other side has written, in order and once.

    Text comes in pieces ``(source, text)``: the source is the CSRC of a mixer's packet, else the SSRC, in 4 bytes. A
    byte order mark is left out, U+FFFD stands for each block that is missing, and for bytes that are not UTF-8.

    Args:
        t140_type: payload type of text/t140.
        red_type: payload type of text/red; -1 for none.

    Attributes:
        timer_at: when `handle_timer` is due; None while nothing is missing.
    """

    def __init__(self, t140_type: int, red_type: int = -1) -> None:
        self._t140_type = t140_type
        self._red_type = red_type
        self._streams: list[_Stream] = []  # the one that spoke last is the last
        self._found: list[tuple[bytes, str]] = []
        self.timer_at: int | None = None

    def receive(self, packet: "bytes | bytearray", start: int, end: int, now: int) -> "list[tuple[bytes, str]]":
        """Take an RTP packet that `rtp.parse` has read: its payload is ``packet[start:end]``.

        Returns:
            The text that can be given now.

        Raises:
            ParseError: another payload type, or redundancy that is malformed or not of text. Nothing has changed.
        """
        blocks = self._blocks(packet, start, end)
        stream = self._stream(packet)
        self._found = []
        seq = packet[2] << 8 | packet[3]
        if stream.next_seq >= 0:
            ahead = (seq - stream.next_seq + 0x8000 & 0xFFFF) - 0x8000
            if not -_MAX_MISORDER <= ahead < _MAX_DROPOUT:
                # Appendix A.1 of RFC 3550: two in a row from elsewhere are a new beginning, one is nothing.
                if seq != stream.bad_seq:
                    stream.bad_seq = seq + 1 & 0xFFFF
                    return self._found
                self._release(stream, now, True)
                stream.next_seq = -1
        if packet[0] & 0x0F or stream.sources:
            self._take_mixed(stream, packet, blocks, seq, now)
        else:
            self._take(stream, packet, blocks, seq, now)
        self._set_timer()
        return self._found

    def handle_timer(self, now: int) -> "list[tuple[bytes, str]]":
        """Give what has waited long enough for a packet that did not come."""
        self._found = []
        for stream in self._streams:
            self._release(stream, now)
        self._set_timer()
        return self._found

    def _set_timer(self) -> None:
        waiting = [stream.held[0][1] + _WAIT_MS for stream in self._streams if stream.held]
        self.timer_at = min(waiting) if waiting else None

    def _stream(self, packet: "bytes | bytearray") -> _Stream:
        streams = self._streams
        for i in range(len(streams)):
            if not differs(packet, 8, streams[i].ssrc, 4):
                if i + 1 < len(streams):
                    streams.append(streams.pop(i))
                return streams[-1]
        if len(streams) == _MAX_STREAMS:
            streams.pop(0)
        streams.append(_Stream(bytes(packet[8:12])))
        return streams[-1]

    def _blocks(self, packet: "bytes | bytearray", start: int, end: int) -> "list[tuple[int, int, int]]":
        """Where the blocks in a payload are, and how old: [(offset in ms, start, end)], the oldest first."""
        kind = packet[1] & 0x7F
        if kind == self._t140_type:
            return [(0, start, end)]
        if kind != self._red_type:
            raise ParseError("text payload type")
        sizes: list[tuple[int, int]] = []
        at = start
        while at < end and packet[at] == 0x80 | self._t140_type and at + 4 < end and len(sizes) < _MAX_RED:
            sizes.append((packet[at + 1] << 6 | packet[at + 2] >> 2, (packet[at + 2] & 3) << 8 | packet[at + 3]))
            at += 4
        if at >= end or packet[at] != self._t140_type:
            raise ParseError("text/red")
        at += 1
        found = []
        for offset, size in sizes:
            found.append((offset, at, at + size))
            at += size
        if at > end:
            raise ParseError("text/red")
        found.append((0, at, end))
        return found

    # One writer: blocks have sequence numbers.

    def _take(
        self,
        stream: _Stream,
        packet: "bytes | bytearray",
        blocks: "list[tuple[int, int, int]]",
        seq: int,
        now: int,
    ) -> None:
        first = seq - len(blocks) + 1 & 0xFFFF
        if stream.next_seq < 0:
            stream.next_seq = first  # what was lost before the first packet is in it
        for _, start, end in blocks:
            ahead = (first - stream.next_seq + 0x8000 & 0xFFFF) - 0x8000
            if ahead == 0 and not stream.held:
                self._give(stream.ssrc, packet[start:end])
                stream.next_seq = first + 1 & 0xFFFF
            elif ahead >= 0:
                _hold(stream, first, now, bytes(packet[start:end]))
            first = first + 1 & 0xFFFF
        self._release(stream, now)

    def _release(self, stream: _Stream, now: int, all_of_it: bool = False) -> None:
        """Give the blocks whose turn it is, and those behind a gap that nothing will fill any more."""
        held = stream.held
        while held:
            seq, came_at, data = held[0]
            missing = seq - stream.next_seq & 0xFFFF
            if missing:
                size = sum([len(one[2]) for one in held])
                is_full = len(held) > _MAX_HELD or size > _MAX_HELD_BYTES
                if now - came_at < _WAIT_MS and not is_full and not all_of_it:
                    return
                self._give(stream.ssrc, b"", min(missing, _MAX_MISSING))
            held.pop(0)
            self._give(stream.ssrc, data)
            stream.next_seq = seq + 1 & 0xFFFF

    # Several, behind a mixer.

    def _take_mixed(
        self,
        stream: _Stream,
        packet: "bytes | bytearray",
        blocks: "list[tuple[int, int, int]]",
        seq: int,
        now: int,
    ) -> None:
        self._release(stream, now, True)
        source = bytes(packet[12:16]) if packet[0] & 0x0F else stream.ssrc
        # RFC 9071: where several write, it does not show whose text was in the packets of a gap, nor whether another
        # packet repeated it. Where more are missing within a second than redundancy makes up for, it is said once that
        # text may be missing: of the mixer itself, or of the only writer.
        if stream.next_seq >= 0:
            missing = (seq - stream.next_seq + 0x8000 & 0xFFFF) - 0x8000
            if now - stream.lost_since > _WAIT_MS:
                stream.lost = 0
            if missing > 0:
                if not stream.lost:
                    stream.lost_since = now
                stream.lost += missing
                if stream.lost >= (_MIXER_LOSS if self._red_type >= 0 else 1):
                    alone = len(stream.sources) == 1 and stream.sources[0][0] == source
                    self._give(source if alone else stream.ssrc, b"", 1)
                    stream.lost = 0
            if missing >= 0:
                stream.next_seq = seq + 1 & 0xFFFF
        else:
            stream.next_seq = seq + 1 & 0xFFFF
        timestamp = (packet[4] & 0x0F) << 24 | packet[5] << 16 | packet[6] << 8 | packet[7]
        before = -1
        for i in range(len(stream.sources)):
            if stream.sources[i][0] == source:
                before = stream.sources.pop(i)[1]
                break
        latest = before
        for offset, start, end in blocks:
            of_block = timestamp - offset & _CLOCK_MASK
            if latest < 0 or 0 < (of_block - latest & _CLOCK_MASK) < _CLOCK_HALF:
                self._give(source, packet[start:end])
                latest = of_block
        if len(stream.sources) == _MAX_SOURCES:
            stream.sources.pop(0)
        stream.sources.append((source, latest))

    def _give(self, source: bytes, data: "bytes | bytearray", missing: int = 0) -> None:
        text = _MARKER * missing + decode(data).replace("\ufeff", "")
        found = self._found
        if text and found and found[-1][0] == source:
            found[-1] = (source, found[-1][1] + text)
        elif text:
            found.append((source, text))


def _hold(stream: _Stream, seq: int, now: int, data: bytes) -> None:
    """Keep a block in its place among those that are held."""
    for i, (other, came_at, _) in enumerate(stream.held):
        ahead = (seq - other + 0x8000 & 0xFFFF) - 0x8000
        if ahead == 0:
            return
        if ahead < 0:
            # The gap before it has been waited for since what is behind it came.
            stream.held.insert(i, (seq, came_at, data))
            return
    stream.held.append((seq, now, data))
