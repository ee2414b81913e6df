import errno
import random
import sys
import unittest

from far import CM32, CM80, KEYS, FarMedia
from scripted import FakeAudio

from sipwire.agreed import Agreed
from sipwire.errors import SecurityError
from sipwire.g711 import PCMA, PCMU, Codec
from sipwire.srtp import SUITES, SrtpReceiver
from support import new_aes
from terminal.media import Media

FRAME_MS = 20
DELAY_FRAMES = 3  # of the jitter buffer
OURS = bytes(range(200, 230))  # key and salt of what the terminal sends
THEIRS = KEYS[CM80]


class FakeSocket:
    """A non-blocking UDP socket.

    Attributes:
        inbox: datagrams to receive.
        sent: (datagram, address).
        fails: whether sending raises OSError.
    """

    def __init__(self):
        self.inbox = []
        self.sent = []
        self.fails = False

    def recv(self, size):
        if not self.inbox:
            raise OSError(errno.EAGAIN)
        return self.inbox.pop(0)[:size]  # what doesn't fit of a datagram is lost

    def sendto(self, data, address):
        if self.fails:
            raise OSError(errno.ENOBUFS if hasattr(errno, "ENOBUFS") else errno.EIO)
        self.sent.append((bytes(data), address))
        return len(data)


class Far(FarMedia):
    """The far end of the stream that `agreed` agrees on."""

    def __init__(self, **changes):
        super().__init__(OURS, **changes)


def agreed(
    suite=CM80,
    payload_type=PCMU,
    direction=b"sendrecv",
    mki=b"",
    ours=OURS,
    theirs=THEIRS,
    address=b"198.51.100.9",
    rtcp_port=0,
    event_type=-1,
):
    one = Agreed(b"audio", 0)
    one.address, one.port, one.payload_type, one.direction = address, 30000, payload_type, direction
    one.suite, one.local_key, one.remote_key, one.remote_mki = suite, ours, theirs, mki
    one.rtcp_port, one.event_type = rtcp_port, event_type
    return one


class Case(unittest.TestCase):
    def setUp(self):
        self.now = 1000
        self.socket = FakeSocket()
        self.audio = FakeAudio()
        self.rtcp = FakeSocket()
        self.media = Media((self.socket, self.rtcp), lambda host, port: (host, port), self.audio, new_aes)
        self.far = Far()

    def start(self, go=True, **changes):
        self.media.start([agreed(**changes)], self.now)
        if go:
            self.media.go(self.now)

    def stream(self):
        """The terminal's stream in the present call."""
        return self.media.parts[b"audio"].stream

    def run_for(self, ms):
        """Let time pass as the main loop does, without ever being late."""
        end = self.now + ms
        while self.media.timer_at is not None and self.media.timer_at <= end:
            self.now = self.media.timer_at
            self.media.handle_timer(self.now)
        self.now = end

    def receive(self, *datagrams):
        """Datagrams come, and the main loop takes them one by one."""
        self.socket.inbox += datagrams
        while self.socket.inbox:
            self.media.receive(self.socket, self.now)

    def opened(self):
        """All that was sent so far, opened by the far end: what is no SRTP under the agreed key fails here."""
        sent, self.socket.sent = self.socket.sent, []
        for _, address in sent:
            self.assertEqual(address, (b"198.51.100.9", 30000))
        return [self.far.open(datagram) for datagram, _ in sent]

    def assertStatistics(self, **expected):
        found = self.media.stop()
        self.assertEqual(len(found), 10)
        for name in ("sent", "received", "rejected", "lost", "late", "waited", "skipped"):
            if name in expected:
                self.assertEqual(found[name], expected[name], name + " %s" % found)


class SendTest(Case):
    def test_one_packet_each_20_ms(self):
        self.start()
        start = self.now
        for i in range(1, 51):
            self.run_for(FRAME_MS - 1)
            self.assertEqual(len(self.socket.sent), i - 1)
            self.run_for(1)
            self.assertEqual(len(self.socket.sent), i)
            self.assertEqual(self.media.timer_at, start + (i + 1) * FRAME_MS)
        self.assertStatistics(sent=50, received=0, rejected=0, lost=0)

    def test_packets(self):
        """RFC 3550 section 5.1, and what the microphone heard."""
        self.start()
        self.run_for(100 * FRAME_MS)
        packets = self.opened()
        self.assertEqual(len(packets), 100)
        first = packets[0]
        codec, expected = Codec(PCMU), bytearray(160)
        for i, (payload_type, seq, timestamp, ssrc, payload, marker) in enumerate(packets):
            self.assertEqual(payload_type, 0)
            self.assertEqual(seq, (first[1] + i) & 0xFFFF)
            self.assertEqual(timestamp, (first[2] + 160 * i) & 0xFFFFFFFF)
            self.assertEqual(ssrc, first[3])
            self.assertEqual(marker, i == 0)
            codec.encode(bytearray(self.audio.spoken[i]), expected, 0, 160)
            self.assertTrue(payload == bytes(expected), i)

    def test_nothing_is_in_clear(self):
        self.start()
        self.run_for(50 * FRAME_MS)
        clear = [datagram for datagram, _ in self.socket.sent]
        for datagram, opened in zip(clear, self.opened()):
            self.assertEqual(len(datagram), 12 + 160 + 10)
            self.assertTrue(opened[4] not in datagram)
            self.assertNotEqual(datagram[12:28], opened[4][:16])
        other = SrtpReceiver(SUITES[CM80], THEIRS, new_aes)
        self.assertRaises(SecurityError, other.unprotect, bytearray(clear[0]), len(clear[0]))

    def test_suites_and_laws(self):
        for suite, tag_bytes in ((CM80, 10), (CM32, 4)):
            for payload_type in (PCMU, PCMA):
                self.far = Far(suite=suite, payload_type=payload_type)
                self.start(suite=suite, payload_type=payload_type)
                self.run_for(5 * FRAME_MS)
                self.assertEqual([len(one) for one, _ in self.socket.sent], [172 + tag_bytes] * 5)
                expected = bytearray(160)
                Codec(payload_type).encode(bytearray(self.audio.spoken[-1]), expected, 0, 160)
                last = self.opened()[-1]
                self.assertEqual((last[0], last[4]), (payload_type, bytes(expected)))
                self.media.stop()

    def test_beginnings_are_random(self):
        """SSRC, timestamp and seq; seq below 2^15, so that no receiver can guess the first ROC wrong."""
        seen = []
        for _ in range(20):
            self.far = Far()
            self.start()
            self.run_for(FRAME_MS)
            [(_, seq, timestamp, ssrc, _, marker)] = self.opened()
            self.assertLess(seq, 0x8000)
            self.assertTrue(marker)
            seen += [seq, timestamp, ssrc]
            self.media.stop()
        self.assertGreater(len(set(seen)), 55)

    def test_seq_and_timestamp_wrap(self):
        self.start()
        self.stream().seq = 0xFFF0
        self.stream().timestamp = 0xFFFFFF00
        self.run_for(40 * FRAME_MS)
        packets = self.opened()
        self.assertEqual([packet[1] for packet in packets], [(0xFFF0 + i) & 0xFFFF for i in range(40)])
        self.assertEqual(packets[-1][2], (0xFFFFFF00 + 39 * 160) & 0xFFFFFFFF)

    def test_not_before_go(self):
        self.start(go=False)
        self.run_for(500)
        self.assertEqual(self.socket.sent, [])
        self.assertEqual(self.audio.spoken, [])  # nor does the microphone listen
        self.assertEqual(len(self.audio.heard), 25)
        self.media.go(self.now)
        self.run_for(100)
        self.assertEqual(len(self.opened()), 5)

    def test_first_authentic_packet_lets_go(self):
        """A far end that sends has our keys, though its ACK is still under way."""
        self.start(go=False)
        bad = bytearray(self.far.packet())
        bad[-1] ^= 1
        self.receive(bytes(bad), bytes(200), self.far.rtp(bytes(160)))
        self.run_for(200)
        self.assertEqual(self.socket.sent, [])
        self.receive(self.far.packet())
        self.run_for(200)
        self.assertEqual(len(self.opened()), 10)

    def test_go_without_a_call(self):
        self.media.go(self.now)
        self.run_for(1000)
        self.assertEqual(self.socket.sent, [])
        self.start(go=False)
        self.media.stop()
        self.media.go(self.now)
        self.start(go=False)
        self.run_for(1000)
        self.assertEqual(self.socket.sent, [])

    def test_directions(self):
        for direction, sends in ((b"sendrecv", 10), (b"sendonly", 10), (b"recvonly", 0), (b"inactive", 0)):
            self.far = Far()
            self.start(direction=direction)
            self.receive(self.far.packet())
            self.run_for(200)
            self.assertEqual(len(self.opened()), sends)
            self.assertStatistics(sent=sends, received=1)

    def test_sending_fails(self):
        """No buffer, no route, nobody there: speech goes on when it works again."""
        self.start()
        self.run_for(100)
        self.opened()
        self.socket.fails = True
        self.run_for(100)
        self.socket.fails = False
        self.run_for(100)
        self.assertEqual(len(self.opened()), 5)
        self.assertEqual(len(self.audio.heard), 15)
        self.assertStatistics(sent=10)


class ClockTest(Case):
    def at(self, ms):
        """The main loop comes back that many ms after the start."""
        self.now = 1000 + ms
        self.media.handle_timer(self.now)
        return len(self.opened())

    def test_early(self):
        self.start()
        self.assertEqual([self.at(ms) for ms in (0, 5, 19)], [0, 0, 0])
        self.assertEqual([self.at(ms) for ms in (20, 21, 39, 40)], [1, 0, 0, 1])

    def test_catches_up(self):
        """A loop that was busy for a while sends what is due, and keeps to the clock from there on."""
        self.start()
        self.assertEqual([self.at(ms) for ms in (20, 55, 61, 79, 80)], [1, 1, 1, 0, 1])
        self.assertEqual([self.at(ms) for ms in (180, 199, 200)], [5, 0, 1])
        self.assertEqual(len(self.audio.heard), 10)

    def test_sleeps_of_up_to_200_ms_are_made_up(self):
        self.start()
        self.assertEqual(self.at(220), 11)
        self.assertEqual(self.media.timer_at, 1240)

    def test_no_burst_after_a_long_sleep(self):
        """What could not be sent in time is left out; timestamps tell for how long."""
        self.start()
        self.run_for(60)
        before = self.opened()[-1]
        for slept in (221, 1000, 5000, 3600000):
            self.now += slept
            self.media.handle_timer(self.now)
            [after] = self.opened()
            self.assertEqual(after[1], (before[1] + 1) & 0xFFFF)
            gap = (after[2] - before[2]) & 0xFFFFFFFF
            self.assertEqual(gap % 160, 0)
            self.assertTrue(abs(gap - slept * 8) <= 320, (slept, gap))
            before = after
            self.assertEqual(self.media.timer_at, self.now + FRAME_MS)

    def test_stopped_while_behind(self):
        """The far end hangs up in the middle of catching up."""
        self.start()
        real = self.audio.write

        def write(pcm):
            real(pcm)
            if len(self.audio.heard) == 3:
                self.media.stop()

        self.audio.write = write
        self.media.handle_timer(self.now + 200)
        self.assertEqual(len(self.audio.heard), 3)
        self.assertIsNone(self.media.timer_at)


class ReceiveTest(Case):
    def decoded(self, payload, payload_type=PCMU):
        pcm = bytearray(2 * len(payload))
        Codec(payload_type).decode(bytearray(payload), 0, pcm, len(payload))
        return bytes(pcm)

    def quiet(self, payload_type=PCMU):
        return self.decoded(bytes([Codec(payload_type).silence]) * 160, payload_type)

    def test_heard(self):
        for payload_type in (PCMU, PCMA):
            self.setUp()
            self.far = Far(payload_type=payload_type)
            self.start(payload_type=payload_type)
            payloads = [bytes([(i * 5 + n) & 0xFF for n in range(160)]) for i in range(20)]
            for payload in payloads:
                self.receive(self.far.packet(payload))
                self.run_for(FRAME_MS)
            self.run_for(DELAY_FRAMES * FRAME_MS)
            self.assertEqual(len(self.audio.heard), 23)
            self.assertEqual(self.audio.heard[:3], [self.quiet(payload_type)] * 3)
            for payload, heard in zip(payloads, self.audio.heard[3:]):
                self.assertTrue(heard == self.decoded(payload, payload_type))
            self.assertStatistics(received=20, rejected=0, lost=0, late=0, waited=0, skipped=0)

    def test_packet_times(self):
        """10 to 60 ms; more than that is more than a datagram may have, and harmless."""
        for size, fits in ((80, True), (240, True), (320, True), (480, True), (640, False), (960, False)):
            self.setUp()
            self.start()
            sound = bytes([n // 80 % 250 for n in range(48 * 80)])
            for at in range(0, len(sound), size):
                self.receive(self.far.packet(sound[at : at + size]))
                self.run_for(size // 8)
            self.run_for(200)
            heard = b"".join(self.audio.heard)
            self.assertEqual(self.decoded(sound) in heard, fits)
            count = len(sound) // size
            self.assertStatistics(received=count if fits else 0, rejected=0 if fits else count)

    def test_bad_packets(self):
        """Counted, and nothing else: no sound, no state, no call ends."""
        self.start()
        self.receive(self.far.packet())
        good = self.far.packet()
        bad = [
            b"",
            b"\x80",
            good[:11],
            good[:12],
            good[:22],
            good[:-1],
            good + b"\0",
            good[:12] + good[22:],
            bytes(182),
            bytes([0xFF]) * 182,
            bytes(self.far.rtp(bytes(160))),  # RTP without SRTP
            bytes(self.far.rtp(bytes(160)))[:172],
            b"\x80\xc8" + bytes(26),  # RTCP
            b"\0\1\0\0\x21\x12\xa4\x42" + bytes(12),  # STUN
            b"\x16\xfe\xfd" + bytes(60),  # DTLS
            b"\xe1" + bytes(60),  # the hop's
            b"INVITE sip:a@b SIP/2.0\r\n\r\n",
            b"\x9f" + good[1:],  # a header that says it is longer than the packet
            b"\x90" + good[1:],
            Far(key=OURS).packet(),
            Far(suite=CM32).packet(),
            Far(key=KEYS[CM32]).packet(),
            Far(ssrc=0x11111111, seq=200).packet(),  # right key, another source
        ]
        bad += [good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :] for i in range(len(good))]
        for datagram in bad:
            self.receive(datagram)
        self.receive(good)
        self.receive(good)  # a replay
        self.receive(self.far.packet())
        self.run_for(200)
        self.assertStatistics(received=3, rejected=len(bad) + 1, lost=2)  # the seqs of the two without SRTP

    def test_replays(self):
        self.start()
        packets = [self.far.packet() for _ in range(100)]
        for i in (0, 5, 3, 99):
            self.receive(packets[i])
        for i in (0, 5, 3, 99, 10, 20):  # the last two are older than the window
            self.receive(packets[i])
        self.receive(packets[50])
        self.assertStatistics(received=5, rejected=6)

    def test_own_packets_come_back(self):
        """A reflection is no speech of the far end."""
        self.start()
        self.run_for(200)
        sent = [datagram for datagram, _ in self.socket.sent]
        self.receive(*sent)
        self.assertStatistics(received=0, rejected=10)

    def test_a_hundred_bad_packets_end_no_call(self):
        self.start()
        for i in range(200):
            self.receive(bytes([0x80, 0, 0, i]) + bytes(178))
            self.receive(self.far.packet())
            self.run_for(FRAME_MS)
        self.assertEqual(len(self.opened()), 200)
        self.assertStatistics(received=200, rejected=200, lost=0, late=0, waited=0, sent=200)

    def test_other_payload_types(self):
        """Comfort noise, DTMF or a codec that was not agreed: authentic, and not played."""
        self.start()
        for payload_type in (13, 101, 8, 96, 127):
            self.receive(self.far.packet(b"\x55" * 160, payload_type))
        self.run_for(400)
        self.assertEqual(set(self.audio.heard), set([self.quiet()]))
        self.assertStatistics(received=5, rejected=0)

    def test_csrc_extension_and_padding(self):
        payload = bytes([n & 0x7F for n in range(160)])
        head = bytes(self.far.rtp(b""))[:12]
        for rtp in (
            b"\x82" + head[1:] + b"csrccsrc" + payload,
            b"\x90" + head[1:] + b"\xbe\xde\0\1abcd" + payload,
            b"\xb1" + head[1:] + b"csrc\0\0\0\0" + payload + b"\0\0\3",
        ):
            self.setUp()
            self.start()
            self.receive(self.far.protected(rtp))
            self.run_for(80)
            self.assertTrue(self.audio.heard[3] == self.decoded(payload))
            self.assertStatistics(received=1, rejected=0)

    def test_bad_padding_of_an_authentic_packet(self):
        self.start()
        head = bytes(self.far.rtp(b""))[:12]
        for last in (0, 200, 255):
            self.receive(self.far.protected(b"\xa0\0" + bytes([0, last]) + head[4:] + bytes(10) + bytes([last])))
        self.assertStatistics(received=0, rejected=3)

    def test_lost(self):
        """By seq, across its wrap; what only came late or in another order is not lost."""
        for first, lost_ones in ((100, (3, 4, 30)), (0xFFFE, (1, 2, 3)), (0xFFF0, ()), (5, (0, 49))):
            self.setUp()
            self.far = Far(seq=first)
            self.start()
            packets = [self.far.packet() for _ in range(50)]
            order = list(range(50))
            order[10], order[12] = 12, 10
            for i in order:
                if i not in lost_ones:
                    self.receive(packets[i])
            inner = [i for i in lost_ones if 0 < i < 49]
            self.assertStatistics(received=50 - len(lost_ones), lost=len(inner))

    def test_lost_over_many_wraps(self):
        """A long call: more than 65536 packets, of which every thousandth is lost."""
        self.start()
        far = self.far
        step = 97  # seq jumps: as many packets were lost
        far.seq = 0
        for _ in range(2000):
            self.receive(far.packet(b""))
            far.seq = (far.seq + step - 1) & 0xFFFF
        self.assertStatistics(received=2000, rejected=0, lost=1999 * (step - 1))

    def test_mki(self):
        self.far = Far(mki=b"\1\2\3\4")
        self.start(mki=b"\1\2\3\4")
        self.receive(self.far.packet())
        self.assertEqual(self.stream().received, 1)
        self.receive(Far(mki=b"\1\2\3\5", seq=500).packet(), Far(seq=501).packet())
        self.run_for(100)
        for datagram, _ in self.socket.sent:
            self.assertEqual(len(datagram), 182)  # ours have none
        self.assertStatistics(received=1, rejected=2)

    def test_lifetime_of_their_key(self):
        """So many packets as its line says are taken under it, and no more (RFC 4568 section 6.1)."""
        one = agreed()
        one.lifetime = 3
        self.media.start([one], self.now)
        self.receive(*[self.far.packet() for _ in range(5)])
        self.assertStatistics(received=3, rejected=2)

    def test_mutated_packets(self):
        random.seed(5)
        self.start()
        self.receive(self.far.packet())
        rejected = 0
        for i in range(500):
            good = self.far.packet(bytes(random.choice((0, 80, 160, 320))))
            bad = bytearray(good)
            kind = random.randrange(3)
            if kind == 0:
                bad[random.randrange(len(bad))] ^= 1 << random.randrange(8)
            elif kind == 1:
                bad = bad[: random.randrange(len(bad))]
            else:
                bad = bytearray([random.getrandbits(8) for _ in range(random.randrange(1, 450))])
            self.receive(bytes(bad))
            rejected += 1
            if i % 100 == 0:
                self.receive(good)
        self.run_for(200)
        self.assertEqual(len(self.opened()), 10)
        self.assertStatistics(received=6, rejected=rejected)


class CallTest(Case):
    def test_start_and_stop(self):
        self.assertIsNone(self.media.timer_at)
        self.assertIsNone(self.media.stop())
        self.start()
        self.assertEqual(self.audio.log, ["start"])
        self.run_for(60)
        self.assertEqual(
            self.media.stop(),
            {
                "sent": 3,
                "received": 0,
                "rejected": 0,
                "lost": 0,
                "jitter_ms": 0,
                "late": 0,
                "waited": 0,
                "concealed": 0,
                "skipped": 0,
                "delay_ms": 60,
            },
        )
        self.assertEqual(self.audio.log, ["start", "stop"])
        self.assertIsNone(self.media.timer_at)
        self.assertIsNone(self.media.stop())
        self.assertEqual(self.audio.log, ["start", "stop"])

    def test_what_comes_between_calls_is_thrown_away(self):
        self.receive(self.far.packet(), b"x", b"")
        self.start()
        self.media.stop()
        self.receive(self.far.packet(), b"x")
        self.assertEqual(self.socket.inbox, [])
        self.socket.inbox = [self.far.packet() for _ in range(30)]  # queued when the next call begins
        self.start()
        self.assertEqual(self.socket.inbox, [])
        self.run_for(100)
        self.assertEqual(set(self.audio.heard), set([self.audio.heard[0]]))
        self.assertStatistics(received=0, rejected=0)

    def test_second_call(self):
        """Keys, counters, SSRC and what was heard are the second call's own."""
        self.start()
        self.receive(self.far.packet(b"\x11" * 160), b"bad")
        self.run_for(200)
        first = self.opened()
        self.media.stop()
        old = self.far
        self.far = Far()
        self.far.receiver = SrtpReceiver(SUITES[CM80], KEYS[CM32], new_aes)
        second = agreed()
        second.local_key, second.remote_key = KEYS[CM32], OURS
        self.media.start([second], self.now)
        self.media.go(self.now)
        self.receive(old.packet())
        fresh = Far(key=OURS, ssrc=7, seq=3)
        self.receive(fresh.packet())
        heard = len(self.audio.heard)
        self.run_for(200)
        packets = self.opened()
        self.assertEqual(len(packets), 10)
        self.assertNotEqual(packets[0][3], first[0][3])
        self.assertEqual(len(self.audio.heard), heard + 10)
        self.assertStatistics(sent=10, received=1, rejected=1)

    def test_what_a_call_takes_is_gone_after_it(self):
        """Code and all; the one large buffer is there from the beginning, and stays."""
        ring = self.media.buffer
        loaded = ("terminal.speech", "terminal.stream")
        for _ in range(5):
            self.far = Far()
            self.start()
            self.assertEqual([name in sys.modules for name in loaded], [True, True])
            for _ in range(20):
                self.receive(self.far.packet(), b"x", bytes(1000))
                self.run_for(FRAME_MS)
            self.socket.sent = []
            self.media.stop()
            self.assertEqual([name in sys.modules for name in loaded], [False, False])
        self.assertIs(self.media.buffer, ring)
        self.assertEqual(len(ring), 2048)

    def test_quiet(self):
        """Media is over before the call is, and what there was can still be told."""
        self.start()
        self.run_for(60)
        self.media.quiet()
        self.assertIsNone(self.media.timer_at)
        self.receive(self.far.packet())
        self.media.quiet()
        self.assertStatistics(sent=3, received=0)
        self.assertIsNone(self.media.stop())


class ChangeTest(Case):
    """What is agreed on anew in a call."""

    def change(self, talks=True, **changes):
        self.media.start([agreed(**changes)], self.now, talks)

    def test_nothing_changes(self):
        """Same keys, same address: not a packet is lost, doubled or numbered anew."""
        self.start()
        for i in range(30):
            if i % 3 == 2:
                self.change()
            self.receive(self.far.packet())
            self.run_for(FRAME_MS)
        packets = self.opened()
        first = packets[0]
        for i, packet in enumerate(packets):
            self.assertEqual(packet[1:4], ((first[1] + i) & 0xFFFF, (first[2] + 160 * i) & 0xFFFFFFFF, first[3]))
        self.assertEqual(len(packets), 30)
        self.assertEqual(self.audio.log, ["start"])
        self.assertStatistics(sent=30, received=30, rejected=0, lost=0, late=0)

    def test_rollover_counter_is_kept(self):
        """Both ways: who changes its address after 22 minutes still knows the packet index."""
        self.far = Far(seq=0xFFFE)
        self.start()
        self.stream().seq = 0xFFFE
        for _ in range(4):
            self.receive(self.far.packet())
            self.run_for(FRAME_MS)
        self.assertEqual((self.stream().sender.roc, self.far.sender.roc), (1, 1))
        self.change(address=b"203.0.113.9")
        self.receive(self.far.packet())
        self.run_for(FRAME_MS)
        self.assertEqual(self.socket.sent[-1][1], (b"203.0.113.9", 30000))
        self.socket.sent = [(one, (b"198.51.100.9", 30000)) for one, _ in self.socket.sent]
        self.assertEqual([packet[1] for packet in self.opened()], [0xFFFE, 0xFFFF, 0, 1, 2])
        self.assertStatistics(received=5, rejected=0, lost=0)

    def test_new_keys(self):
        """Either stream begins anew under its new key, and the other goes on."""
        self.start()
        self.receive(self.far.packet())
        self.run_for(FRAME_MS)
        before = self.opened()[-1]
        old = self.far
        self.far = Far(key=KEYS[CM32], seq=9000, ssrc=1)
        self.change(theirs=KEYS[CM32])
        self.receive(old.packet())
        self.receive(self.far.packet())
        self.run_for(FRAME_MS)
        packet = old.open(self.socket.sent.pop()[0])
        self.assertEqual(packet[1], (before[1] + 1) & 0xFFFF)
        self.change(theirs=KEYS[CM32], ours=bytes(30))
        self.receive(self.far.packet())
        self.far.receiver = SrtpReceiver(SUITES[CM80], bytes(30), new_aes)
        self.run_for(FRAME_MS)
        again = self.opened()[-1]
        self.assertNotEqual(again[3], before[3])
        self.assertLess(again[1], 0x8000)
        self.assertEqual(self.audio.log, ["start"])
        self.assertStatistics(sent=3, received=3, rejected=1, lost=0)

    def test_new_keys_after_a_rollover(self):
        """The peer's counter goes on, as RFC 3711 section 3.3.1 has it, or begins anew, as many do: both are heard."""
        for roc in (0, 2):
            self.setUp()
            self.start()
            for seq in (65534, 30000, 60000, 25000):
                self.far.seq = seq
                self.receive(self.far.packet())
            self.assertEqual(self.far.sender.roc, 2)
            self.far = Far(key=KEYS[CM32], seq=25100)
            self.far.sender.roc = roc
            self.change(theirs=KEYS[CM32])
            self.receive(*[self.far.packet() for _ in range(3)])
            self.assertStatistics(received=7, rejected=0)

    def test_srtp_comes_later(self):
        """RTP was agreed on first, and SRTP is now (RFC 8643): from here on nothing else is taken or sent."""
        plain = {"suite": b"", "ours": b"", "theirs": b""}
        self.start(**plain)
        self.socket.recvfrom = lambda size: (self.socket.recv(size), (b"198.51.100.9", 30000))
        self.receive(bytes(self.far.rtp(bytes(160)))[:172])
        self.run_for(100)
        self.assertEqual(set([len(datagram) for datagram, _ in self.socket.sent]), {172})
        self.socket.sent = []
        self.change()
        self.receive(bytes(self.far.rtp(bytes(160)))[:172], self.far.packet())
        self.run_for(100)
        self.assertEqual(len(self.opened()), 5)
        self.assertStatistics(received=2, rejected=1)

    def test_another_source(self):
        """Under the same key, after a change and once for each: and none of the past comes back."""
        self.start()
        first = self.far
        recorded = [first.packet() for _ in range(3)]
        second, third = Far(ssrc=2, seq=40000), Far(ssrc=3, seq=7)
        self.receive(recorded[0], second.packet())
        self.change(address=b"203.0.113.9")
        self.receive(second.packet(), recorded[1], recorded[2], first.packet(), third.packet(), second.packet())
        self.change()
        bad = bytearray(third.packet())
        bad[-1] ^= 1
        self.receive(bytes(bad), recorded[1], third.packet(), second.packet(), third.packet())
        # of the first: one, of the second: two, of the third: two
        self.assertStatistics(received=5, rejected=8, lost=0)

    def test_keys_that_come_back(self):
        """What was recorded under one of them is played once. Meanwhile no session key of it is kept."""
        for mki in (b"", b"\1\2"):
            self.setUp()
            self.far = Far(mki=mki)
            self.start(mki=mki)
            recorded = [self.far.packet() for _ in range(3)]
            self.receive(*recorded)
            for first in range(1, 4):
                self.change(theirs=bytes([first]) * 30)
                kept = [past[3] for past in self.stream().past]
                self.assertEqual([(one._cipher, one._mac) for one in kept], [(None, None)] * first)
            self.change(mki=mki)
            self.receive(*recorded)
            self.receive(self.far.packet(), self.far.packet())
            self.assertStatistics(received=5, rejected=3)

    def test_another_source_is_heard_at_once(self):
        """Its timestamps are of its own, though they may be near those before."""
        for change in ({}, {"theirs": KEYS[CM32]}):
            self.setUp()
            self.start()
            first = Far(timestamp=8000)
            for _ in range(5):
                self.receive(first.packet(b"\x10" * 160))
                self.run_for(FRAME_MS)
            self.change(**change)
            second = Far(ssrc=2, key=change.get("theirs", KEYS[CM80]), timestamp=8000)
            for _ in range(6):
                self.receive(second.packet(b"\x20" * 160))
                self.run_for(FRAME_MS)
            pcm = bytearray(320)
            Codec(PCMU).decode(bytearray(b"\x20" * 160), 0, pcm, 160)
            self.assertEqual(bytes(self.audio.heard[-1]), bytes(pcm))
            self.assertStatistics(received=11, late=0)

    def test_lost_packets_of_every_stream(self):
        self.start()
        for start in (100, 50000):
            self.far = Far(seq=start, ssrc=start)
            self.change()
            self.receive(self.far.packet())
            self.far.packet()
            self.far.packet()
            self.receive(self.far.packet())
        self.change(theirs=KEYS[CM32])
        self.far = Far(key=KEYS[CM32], seq=3)
        self.receive(self.far.packet())
        self.far.packet()
        self.receive(self.far.packet())
        self.assertStatistics(received=6, lost=5, rejected=0)

    def test_silence_by_agreement(self):
        """On hold nothing is sent, played or listened to; time goes on in the timestamps."""
        for direction, talks in ((b"sendrecv", False), (b"recvonly", True), (b"inactive", True), (b"sendonly", False)):
            self.setUp()
            self.start()
            self.run_for(5 * FRAME_MS)
            before = self.opened()[-1]
            listened = len(self.audio.spoken)
            self.change(talks, direction=direction)
            for _ in range(10):
                self.receive(self.far.packet(b"\x42" * 160))
                self.run_for(FRAME_MS)
            self.assertEqual((self.socket.sent, len(self.audio.spoken)), ([], listened))
            loud = [pcm for pcm in self.audio.heard if pcm[:2] != self.audio.heard[0][:2]]
            self.assertEqual(len(loud) > 0, direction in (b"sendrecv", b"recvonly"))
            self.change()
            self.run_for(FRAME_MS)
            after = self.opened()[-1]
            self.assertEqual(after[1], (before[1] + 1) & 0xFFFF)
            self.assertEqual((after[2] - before[2]) & 0xFFFFFFFF, 11 * 160)
            self.assertStatistics(received=10, rejected=0, sent=6)

    def test_codec(self):
        self.start()
        self.run_for(FRAME_MS)
        self.change(payload_type=PCMA)
        self.receive(self.far.packet(payload_type=PCMA))
        self.run_for(FRAME_MS)
        self.assertEqual([packet[0] for packet in self.opened()], [PCMU, PCMA])

    def test_that_fails(self):
        """What ran before goes on."""
        self.start()
        self.receive(self.far.packet())
        self.run_for(FRAME_MS)

        def resolve(host, port):
            raise OSError(errno.EIO)

        self.media.resolve = resolve
        with self.assertRaises(OSError):
            self.change(address=b"203.0.113.9", theirs=KEYS[CM32], direction=b"inactive")
        self.change()  # nothing has to be looked up
        self.receive(self.far.packet())
        self.run_for(FRAME_MS)
        self.assertEqual(len(self.opened()), 2)
        self.assertStatistics(received=2, rejected=0, sent=2)

    def test_start_that_fails(self):
        """Nothing is left on, and the next one is as good as the first."""
        for error in (OSError(errno.EIO), ValueError("ibuf"), MemoryError("told")):
            self.setUp()
            self.audio.broken = {"start": error}
            self.assertRaises(type(error), self.start)
            self.assertEqual(self.audio.log, ["start", "stop"])
            self.assertIsNone(self.media.timer_at)
            self.assertIsNone(self.media.stop())
            self.audio.broken = {}
            self.start()
            self.run_for(FRAME_MS)
            self.assertEqual(len(self.opened()), 1)

    def test_early(self):
        """Heard before the far end answers, with the microphone off; then it goes on with the microphone on."""
        self.media.start([agreed()], self.now, False)
        for _ in range(10):
            self.receive(self.far.packet(b"\x42" * 160))
            self.run_for(FRAME_MS)
        self.assertEqual((self.socket.sent, self.audio.spoken), ([], []))
        self.change()
        self.media.go(self.now)
        for _ in range(10):
            self.receive(self.far.packet(b"\x42" * 160))
            self.run_for(FRAME_MS)
        self.assertEqual(len(self.opened()), 10)
        self.assertStatistics(received=20, rejected=0, lost=0, late=0, waited=0, skipped=0)


if __name__ == "__main__":
    unittest.main()
