"""What tests of the terminal's media stand it into: sockets, streams that were agreed on, a far end and a clock."""

import errno
import unittest

from far import CM80, KEYS, FarMedia
from scripted import FakeAudio, Printed

from sipwire import rtcp
from sipwire.agreed import Agreed
from sipwire.g711 import PCMU
from sipwire.rtp import build_header, parse
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES
from sipwire.text import TextReceiver, TextSender
from support import new_aes
from terminal.media import Media

OURS = bytes(range(200, 230))  # key and salt of the speech that the terminal sends
THEIRS = KEYS[CM80]
OUR_TEXT = bytes(range(120, 150))
THEIR_TEXT = bytes(range(160, 190))
FAR = b"198.51.100.9"
PORT = 30000
TEXT_PORT = 30002
EVENTS = 101
T140 = 98
RED = 100
FRAME_MS = 20
BUFFER_MS = 300  # of text
_ROOM = 800


_NAMES = (
    "kind",
    "index",
    "address",
    "port",
    "rtcp_port",
    "payload_type",
    "event_type",
    "red_type",
    "generations",
    "mixer",
)
_NAMES += ("cps", "suite", "local_key", "remote_key", "direction")


def _agreed(*values):
    one = Agreed(values[0], values[1])
    for name, value in zip(_NAMES, values):
        setattr(one, name, value)
    return one


def speech(port=PORT, suite=CM80, ours=OURS, theirs=THEIRS, direction=b"sendrecv", rtcp_port=0, event_type=EVENTS):
    """Speech that was agreed on."""
    numbers = (b"audio", 0, FAR, port, rtcp_port, PCMU, event_type, -1, 0, False, 30)
    return _agreed(*numbers + (suite, ours, theirs, direction))


def text(suite=CM80, ours=OUR_TEXT, theirs=THEIR_TEXT, direction=b"sendrecv", rtcp_port=0, red=RED, t140=T140, cps=30):
    """Real-time text that was agreed on: with two generations of redundancy, or none where ``red`` is -1."""
    kind = t140 if red < 0 else red
    numbers = (b"text", 1, FAR, TEXT_PORT, rtcp_port, t140, -1, red, 0 if kind == t140 else 2, True, cps)
    return _agreed(*numbers + (suite, ours, theirs, direction))


def plain(agreed):
    """The same without SRTP."""
    agreed.suite = agreed.local_key = agreed.remote_key = b""
    return agreed


class FakeSocket:
    """A non-blocking UDP socket.

    Attributes:
        inbox: (datagram, where it comes from) to receive.
        sent: (when, datagram, address).
    """

    def __init__(self, case):
        self.case = case
        self.inbox = []
        self.sent = []

    def recvfrom(self, size):
        if not self.inbox:
            raise OSError(errno.EAGAIN)
        datagram, source = self.inbox.pop(0)
        return datagram[:size], source  # what doesn't fit of a datagram is lost

    def recv(self, size):
        return self.recvfrom(size)[0]

    def sendto(self, data, address):
        self.sent.append((self.case.now, bytes(data), address))
        return len(data)


class Audio(FakeAudio):
    """A microphone and a speaker that keep but the last seconds, so that long calls fit into memory."""

    _KEPT = 200

    def read(self, pcm):
        super().read(pcm)
        self.spoken = self.spoken[-self._KEPT :]

    def write(self, pcm):
        super().write(pcm)
        self.heard = self.heard[-self._KEPT :]


class FarText(FarMedia):
    """The far end of text: what it writes, and what it reads.

    Args:
        generations: of redundancy, -1 for text without.
    """

    def __init__(self, generations=2, their_key=OUR_TEXT, key=THEIR_TEXT, ssrc=0xABCD1234, seq=700, suite=CM80):
        self._is_plain = not suite
        super().__init__(their_key, key, suite or CM80, RED, ssrc, seq)
        red = -1 if generations < 0 else RED
        self.writer = TextSender(T140, 0, red, max(0, generations), 1000)
        self.reader = TextReceiver(T140, red)

    def write(self, words, now):
        """Type; `due` gives the packets."""
        assert self.writer.write(words, now) == len(words)

    def due(self, now):
        """The packet that is due, as a list of one or none."""
        packet = bytearray(_ROOM)
        size = self.writer.build(packet, 12, now)
        if size < 0:
            return []
        build_header(packet, self.writer.payload_type, self.seq, self.writer.timestamp, self.ssrc, self.writer.marker)
        self.seq = self.seq + 1 & 0xFFFF
        size += 12
        return [bytes(packet[: size if self._is_plain else self.sender.protect(packet, size)])]

    def read(self, datagram, now):
        """What a packet of the terminal's tells."""
        packet = bytearray(datagram)
        size = len(packet) if self._is_plain else self.receiver.unprotect(packet, len(packet))
        start, end = parse(packet, size)[3:5]
        return "".join([words for _, words in self.reader.receive(packet, start, end, now)])


class FarReports:
    """The far end's RTCP of one stream.

    Args:
        ours: key and salt of what the terminal sends.
        theirs: of what the far end sends.
        suite: b"" for RTCP without SRTP.
        ssrc: the far end's.
    """

    def __init__(self, ours=OURS, theirs=THEIRS, suite=CM80, ssrc=0xFEDCBA98):
        self.ssrc = ssrc
        self.sender = self.receiver = None
        if suite:
            self.sender = SrtcpSender(SUITES[suite], theirs, new_aes)
            self.receiver = SrtcpReceiver(SUITES[suite], ours, new_aes)
            self.receiver.allow_source()

    def packet(self, *blocks, sent=None, bye=False, now=0):
        """A report, as a datagram; ``sent`` makes it an SR."""
        packet = bytearray(_ROOM)
        size = rtcp.build(packet, self.ssrc, b"far@example", now, sent, blocks, bye)
        return self.protected(bytes(packet[:size]))

    def protected(self, packet):
        """Any RTCP as a datagram."""
        return self.sender.protect(packet) if self.sender else packet

    def open(self, datagram):
        """A report of the terminal's, as `Report`: what is no SRTCP under the agreed key fails here."""
        return Report(self.receiver.unprotect(datagram) if self.receiver else datagram)


class Report:
    """A compound packet of the terminal's, read.

    Attributes:
        ssrc, kinds, blocks, cname: of all of it; the packets by their types.
        info: of an SR, see `rtcp.sender_info`; else None.
        ntp: its NTP time in milliseconds.
        left: the SSRCs that say BYE.
    """

    def __init__(self, packet):
        parts = rtcp.parse(packet, len(packet))
        self.kinds = [part[0] for part in parts]
        self.ssrc = int.from_bytes(packet[4:8], "big")
        self.blocks = rtcp.blocks(packet, parts[0])
        self.info = rtcp.sender_info(packet, parts[0]) if parts[0][0] == rtcp.SR else None
        self.ntp = int.from_bytes(packet[8:12], "big") * 1000 + (int.from_bytes(packet[12:16], "big") * 1000 >> 32)
        self.cname = b"".join([rtcp.cname(packet, part) for part in parts if part[0] == rtcp.SDES])
        self.left = []
        for part in parts[1:]:
            assert rtcp.sources(packet, part) == [self.ssrc]
            if part[0] == rtcp.BYE:
                self.left += rtcp.sources(packet, part)


class Case(unittest.TestCase):
    """A terminal's media with four sockets: RTP and RTCP of speech, and of text."""

    def setUp(self):
        self.now = 1000
        self.printed = Printed()
        self.sockets = tuple([FakeSocket(self) for _ in range(4)])
        self.audio = Audio()
        self.media = Media(self.sockets, self.resolve, self.audio, new_aes)
        self.far = FarMedia(OURS)
        self.renewals = 0  # how often it was time for another key

    def tearDown(self):
        self.printed.close()

    def again(self):
        """Begin anew, with nothing left of what was."""
        self.tearDown()
        self.setUp()

    def resolve(self, host, port):
        return host, port

    def start(self, *streams, **options):
        self.media.start(list(streams), self.now, options.get("talks", True))
        if options.get("go", True):
            self.media.go(self.now)

    def part(self, kind=b"audio"):
        return self.media.parts[kind]

    def stream(self, kind=b"audio"):
        return self.part(kind).stream

    def run_for(self, ms):
        """Let time pass as the main loop does, without ever being late."""
        end = self.now + ms
        while True:
            due = [at for at in (self.media.timer_at, self.media.report_at) if at is not None and at <= end]
            if not due:
                break
            self.now = max(self.now, min(due))
            if self.media.timer_at is not None and self.media.timer_at <= self.now:
                self.media.handle_timer(self.now)
            if self.media.report_at is not None and self.media.report_at <= self.now:
                self.renewals += self.media.report(self.now)
        self.now = end

    def next_report(self):
        """Until just after the media has read and sent reports."""
        self.run_for(self.media.report_at - self.now)

    def receive(self, at, *datagrams, source=None):
        """Datagrams come to one of the sockets, from the far end's port where no other is given."""
        socket = self.sockets[at]
        for datagram in datagrams:
            socket.inbox.append((datagram, source or (FAR, PORT + at)))
            self.media.receive(socket, self.now)

    def sent(self, at):
        """(when, datagram, address) of all that one of the sockets has sent since the last look."""
        sent, self.sockets[at].sent = self.sockets[at].sent, []
        return sent

    def events(self, name):
        """The events since the last look, without their name: there are no others."""
        found = []
        for event in self.printed.take():
            self.assertEqual(event.pop("event"), name)
            found.append(event)
        return found


class TextCase(Case):
    """Tests of text.

    Attributes:
        other: who writes at the far end.
    """

    def setUp(self):
        super().setUp()
        self.other = FarText()

    def begin(self, **changes):
        """A call with text alone; the far end's byte order mark has come, and so has ours."""
        self.start(text(**changes))
        self.run_for(1500)
        for _ in range(6):
            self.comes(*self.other.due(self.now))
            self.run_for(BUFFER_MS)
        self.assertEqual(self.shown(), [])
        self.assertEqual(self.got(), "")

    def comes(self, *datagrams, source=(FAR, TEXT_PORT)):
        self.receive(2, *datagrams, source=source)

    def types(self, words, ms=900):
        """The far end writes, and its packets come; returns none of them."""
        self.other.write(words, self.now)
        for _ in range(ms // BUFFER_MS + 1):
            self.comes(*self.other.due(self.now))
            self.run_for(BUFFER_MS)

    def packets(self, words, count):
        """The far end writes so much, and this many packets of its are made, 300 ms apart, and not sent."""
        found = []
        for i in range(count):
            if words[i : i + 1]:
                self.other.write(words[i], self.now)
            found += self.other.due(self.now)
            self.now += BUFFER_MS
        return found

    def shown(self):
        """The events of text since the last look."""
        return self.events("text")

    def read(self):
        """What they show of one writer, who erases nothing."""
        found = ""
        for event in self.shown():
            self.assertEqual(sorted(event), ["text"])
            found += event["text"]
        return found

    def got(self):
        """What the far end reads of what was sent since the last look."""
        return "".join([self.other.read(datagram, when) for when, datagram, _ in self.sent(2)])

    def opened(self):
        """(when, payload type, marker, payload, timestamp, seq) of what was sent since the last look."""
        found = []
        for when, datagram, address in self.sent(2):
            self.assertEqual(address, (FAR, TEXT_PORT))
            packet = bytearray(datagram)
            size = self.other.receiver.unprotect(packet, len(packet))
            kind, seq, timestamp, start, end, marker = parse(packet, size)
            found.append((when, kind, marker, bytes(packet[start:end]), timestamp, seq))
        return found
