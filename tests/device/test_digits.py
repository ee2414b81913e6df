"""Digits in a call as telephone events (RFC 4733): a door opener has to work, whatever one packet does."""

import random
import sys
import unittest

from far import CM80, FarMedia
from streamed import EVENTS, FAR, FRAME_MS, OURS, PORT, Case, plain, speech, text

from sipwire.dtmf import DtmfReceiver
from sipwire.g711 import PCMU, Codec
from sipwire.rtp import build_header, parse
from sipwire.srtp import SUITES

CODES = "0123456789*#ABCD!"
END = 0x80
SOUND = b"\x42" * 160


class DigitCase(Case):
    def event(self, payload, timestamp, marker=False, far=None):
        """An event packet of the far end's."""
        far = far or self.far
        packet = bytearray(12 + len(payload) + 10)
        build_header(packet, EVENTS, far.seq, timestamp, far.ssrc, marker)
        packet[12 : 12 + len(payload)] = payload
        far.seq = far.seq + 1 & 0xFFFF
        return bytes(packet[: far.sender.protect(packet, 12 + len(payload))])

    def pressed(self, digit, frames=8, far=None):
        """The packets of a digit, one for each 20 ms: the last comes three times, with the E bit (section 2.5.1.4)."""
        far = far or self.far
        code = CODES.index(digit)
        found = []
        for i in range(1, frames + 3):
            duration = min(i, frames) * 160
            payload = bytes([code, 10 | (END if i >= frames else 0), duration >> 8, duration & 0xFF])
            found.append(self.event(payload, far.timestamp, i == 1, far))
        far.timestamp = far.timestamp + 160 * (frames + 2) & 0xFFFFFFFF
        return found

    def hear(self, *datagrams):
        """They come, 20 ms apart."""
        for datagram in datagrams:
            self.receive(0, datagram)
            self.run_for(FRAME_MS)

    def told(self):
        """The digits that events have told since the last look."""
        return [(event["digit"], event["duration_ms"]) for event in self.events("dtmf")]


class ReceivedTest(DigitCase):
    def test_events(self):
        """One line of JSON each, when the first end packet comes."""
        self.start(speech())
        for digit in CODES:
            packets = self.pressed(digit)
            self.hear(*packets[:7])
            self.assertEqual(self.printed.take(), [])
            self.hear(packets[7])
            self.assertEqual(self.printed.lines[-1][:17], '{"event": "dtmf",')
            self.assertEqual(self.printed.take(), [{"event": "dtmf", "digit": digit, "duration_ms": 160}])
            self.hear(*packets[8:])
            self.hear(*[self.far.packet(SOUND) for _ in range(3)])
        self.assertEqual(self.printed.take(), [])
        found = self.media.stop()
        self.assertEqual((found["received"], found["rejected"], found["lost"]), (13 * 17, 0, 0))

    def test_three_digits_over_any_one_lost_packet(self):
        """Each is told, once, in order; the duration is as far as is known."""
        for lost in range(36):
            self.start(speech())
            self.far = FarMedia(OURS)
            packets = []
            for digit in "1#1":  # the same one again, too
                packets += self.pressed(digit) + [self.far.packet(SOUND), self.far.packet(SOUND)]
            self.assertEqual(len(packets), 36)
            del packets[lost]
            self.hear(*packets)
            told = self.told()
            self.assertEqual([digit for digit, _ in told], ["1", "#", "1"])
            self.assertEqual(set([duration for _, duration in told]), set([160]))
            self.media.stop()

    def test_doubled_and_out_of_order(self):
        """As a network does it: within a digit and the packets behind it, but none comes too late to count."""
        random.seed(3)
        for _ in range(10):
            self.start(speech())
            self.far = FarMedia(OURS)
            for digit in "5A":
                packets = self.pressed(digit)
                for i in range(0, len(packets) - 1, 2):
                    if random.randrange(2):
                        packets[i], packets[i + 1] = packets[i + 1], packets[i]
                    if random.randrange(2):
                        self.receive(0, packets[i])
                        self.receive(0, packets[i])
                self.hear(*packets)
                self.hear(self.far.packet(SOUND))
            self.assertEqual([digit for digit, _ in self.told()], ["5", "A"])
            self.media.stop()

    def test_every_end_is_lost(self):
        """Told when nothing has come for 300 ms, or when the next begins."""
        self.start(speech())
        self.hear(*self.pressed("7")[:7])
        self.run_for(250)
        self.assertEqual(self.printed.take(), [])
        self.run_for(60)
        self.assertEqual(self.told(), [("7", 140)])
        self.hear(*self.pressed("8")[:5])
        self.assertEqual(self.printed.take(), [])
        self.hear(*self.pressed("8"))
        self.assertEqual(self.told(), [("8", 100), ("8", 160)])

    def test_long(self):
        """Beyond 65535 units in segments: one digit of twelve seconds."""
        self.start(speech())
        timestamp = self.far.timestamp
        for i in range(1, 601):
            segment, duration = divmod(160 * i, 0xFFFF)
            payload = bytes([9, 10 | (END if i == 600 else 0), duration >> 8, duration & 0xFF])
            self.hear(self.event(payload, timestamp + 0xFFFF * segment & 0xFFFFFFFF, i == 1))
            self.sent(0)
        self.assertEqual(self.told(), [("9", 12000)])

    def test_sound_goes_on(self):
        """What comes before and after a digit is played, and in its place what was, then nothing."""
        self.start(speech())
        self.hear(*[self.far.packet(SOUND) for _ in range(6)])
        for digit in "12":
            self.hear(*self.pressed(digit))
            self.hear(*[self.far.packet(SOUND) for _ in range(6)])
        self.run_for(80)
        pcm = bytearray(320)
        Codec(PCMU).decode(bytearray(SOUND), 0, pcm, 160)
        loud = [heard == bytes(pcm) for heard in self.audio.heard]
        self.assertTrue(18 <= loud.count(True) <= 18 + 3 * 3 + 2, loud.count(True))
        self.assertEqual([digit for digit, _ in self.told()], ["1", "2"])
        found = self.media.stop()
        self.assertEqual((found["late"], found["lost"]), (0, 0))

    def test_malformed(self):
        """Authentic, and no digit: counted, and the digit that is pressed meanwhile stands."""
        self.start(speech())
        packets = self.pressed("3")
        self.hear(*packets[:4])
        bad = (b"", b"\3", b"\3\x8a\5", b"\3\x8a\5\0\0", b"\x11\x8a\5\0", b"\x24\x8a\5\0", b"\xff\x8a\5\0", bytes(160))
        for payload in bad:
            self.hear(self.event(payload, self.far.timestamp))
        self.assertEqual(self.printed.take(), [])
        self.hear(*packets[4:])
        self.assertEqual(self.told(), [("3", 160)])
        self.assertEqual(self.media.stop()["rejected"], len(bad))

    def test_forged(self):
        """Nobody else opens the door: without our key, with packets that were recorded, or in the clear."""
        self.start(speech())
        self.hear(*self.pressed("3"))
        self.assertEqual(len(self.told()), 1)
        recorded = self.pressed("9")
        self.hear(*recorded)
        self.told()
        thief = FarMedia(OURS, key=bytes(30), seq=self.far.seq, timestamp=self.far.timestamp)
        forged = self.pressed("9", far=thief)
        clear = b"\x80\xe5" + forged[0][2:12] + bytes([9, END | 10, 5, 0])
        flipped = bytearray(self.pressed("9")[9])
        flipped[12] ^= 1
        self.hear(*recorded)
        self.hear(*forged)
        self.hear(clear, clear + bytes(10), bytes(flipped))
        self.run_for(1000)
        self.assertEqual(self.printed.take(), [])
        self.assertEqual(self.media.stop()["rejected"], 10 + 10 + 3)

    def test_recorded_before_a_change(self):
        """A key that comes back finds what was heard under it: no digit of then is told again."""
        self.start(speech())
        recorded = self.pressed("0")
        self.hear(*recorded)
        for key in (bytes(30), self.far_key()):
            self.media.start([speech(theirs=key)], self.now)
            self.hear(*recorded)
        self.assertEqual(self.told(), [("0", 160)])

    def far_key(self):
        return speech().remote_key

    def test_another_source(self):
        """Its timestamps are its own: the first digit of it counts, wherever they begin, and one under way is told."""
        for first in (SOUND, None):
            for key in (None, bytes(30)):
                self.start(speech())
                self.far = FarMedia(OURS)
                self.hear(*self.pressed("1"))
                self.hear(*self.pressed("2")[:4])
                self.media.start([speech(theirs=key)] if key else [speech()], self.now)
                other = FarMedia(OURS, ssrc=7, timestamp=self.far.timestamp - 100000, seq=5)
                if key:
                    other = FarMedia(OURS, key=key, ssrc=7, timestamp=self.far.timestamp - 100000, seq=5)
                if first:
                    self.hear(other.packet(first))
                self.hear(*self.pressed("3", far=other))
                self.assertEqual([digit for digit, _ in self.told()], ["1", "2", "3"], (first, key))
                self.media.stop()

    def test_hung_up_before_the_end_of_a_digit(self):
        self.start(speech())
        self.hear(*self.pressed("7")[:5])
        self.media.quiet()
        self.assertEqual(self.told(), [("7", 100)])

    def test_not_agreed_on(self):
        """Then its payload type means nothing, as it does where nobody is to be heard for other reasons."""
        self.start(speech(event_type=-1))
        self.hear(*self.pressed("3"))
        self.assertEqual(self.printed.take(), [])
        self.assertEqual(self.media.stop()["rejected"], 0)

    def test_without_srtp(self):
        """Where RTP was agreed on, from the signalled address alone."""
        self.start(plain(speech()))
        clear = b"\x80\xe5" + bytes(10) + bytes([9, END | 10, 5, 0])
        for source in ((b"203.0.113.66", PORT), (FAR, PORT + 2)):
            self.receive(0, clear, source=source)
        self.assertEqual(self.printed.take(), [])
        self.receive(0, clear)
        self.assertEqual(self.told(), [("9", 160)])
        self.assertEqual(self.media.stop()["rejected"], 2)

    def test_code_is_there_from_the_first_to_the_end_of_the_call(self):
        self.start(speech())
        self.hear(*[self.far.packet(SOUND) for _ in range(3)])
        self.assertFalse("terminal.digits" in sys.modules)
        self.hear(*self.pressed("3"))
        self.assertTrue("terminal.digits" in sys.modules)
        self.media.stop()
        self.assertFalse("terminal.digits" in sys.modules)
        self.assertEqual(len(self.told()), 1)


class PressedTest(DigitCase):
    def packets(self):
        """What was sent since the last look, opened: (payload type, seq, timestamp, SSRC, payload, marker)."""
        return [self.far.open(datagram) for _, datagram, _ in self.sent(0)]

    def test_packets(self):
        """Section 2.5.1: one timestamp, a duration that grows, an end that comes three times; speech before and after."""
        self.start(speech())
        self.run_for(100)
        self.media.press("4d")
        self.run_for(800)
        packets = self.packets()
        first = packets[0]
        self.assertEqual(len(packets), 45)
        for i, packet in enumerate(packets):
            self.assertEqual((packet[1], packet[3]), (first[1] + i & 0xFFFF, first[3]))
        kinds = "".join(["e" if packet[0] == EVENTS else "s" for packet in packets])
        self.assertEqual(kinds, "s" * 5 + "e" * 10 + "s" * 5 + "e" * 10 + "s" * 15)
        for at, code in ((5, 4), (20, 15)):
            for i in range(10):
                _, _, timestamp, _, payload, marker = packets[at + i]
                self.assertEqual(timestamp, first[2] + 160 * at & 0xFFFFFFFF)
                self.assertEqual(marker, i == 0)
                duration = 160 * min(i + 1, 8)
                self.assertEqual(payload, bytes([code, 10 | (END if i > 6 else 0), duration >> 8, duration & 0xFF]))
        for i, packet in enumerate(packets):
            if packet[0] == PCMU:
                self.assertEqual(packet[2], first[2] + 160 * i & 0xFFFFFFFF)
                self.assertEqual((len(packet[4]), packet[5]), (160, i == 0))

    def test_three_digits_over_any_one_lost_packet(self):
        """Each arrives, once, in order."""
        self.start(speech())
        self.run_for(60)
        self.media.press("1#1")
        self.run_for(1200)
        packets = []
        for _, datagram, _ in self.sent(0):
            packet = bytearray(datagram)
            packets.append((packet, self.far.receiver.unprotect(packet, len(packet))))
        for lost in range(len(packets)):
            reader = DtmfReceiver()
            found = []
            for i, (packet, size) in enumerate(packets):
                kind, _, _, start, end, _ = parse(packet, size)
                if kind == EVENTS and i != lost:
                    found += reader.receive(packet, start, end, 20 * i)
                found += reader.handle_timer(20 * i)
            self.assertEqual(found, [("1", 160), ("#", 160), ("1", 160)])

    def test_one_after_the_other(self):
        """What is pressed later follows what was pressed before."""
        self.start(speech())
        for digits in ("1", "23", "4"):
            self.media.press(digits)
            self.run_for(100)
        self.run_for(1500)
        codes = [packet[4][0] for packet in self.packets() if packet[0] == EVENTS]
        self.assertEqual(codes, [1] * 10 + [2] * 10 + [3] * 10 + [4] * 10)

    def test_microphone_and_speaker_go_on(self):
        self.start(speech())
        self.media.press("123")
        for _ in range(40):
            self.receive(0, self.far.packet(SOUND))
            self.run_for(FRAME_MS)
        self.assertEqual((len(self.audio.spoken), len(self.audio.heard)), (40, 40))
        found = self.media.stop()
        self.assertEqual((found["sent"], found["waited"], found["late"]), (40, 0, 0))

    def test_refused(self):
        """Not agreed on, nothing that is to be sent, no digits, too many; then none is sent."""
        self.assertRaises(ValueError, self.media.press, "1")  # no call
        self.start(text())
        self.assertRaises(ValueError, self.media.press, "1")  # no speech
        self.media.stop()
        for direction in (b"recvonly", b"inactive"):
            self.start(speech(direction=direction))
            self.assertRaises(ValueError, self.media.press, "1")
            self.media.stop()
        self.start(speech(event_type=-1))
        self.assertRaises(ValueError, self.media.press, "1")
        self.media.stop()
        self.far = FarMedia(OURS)
        self.start(speech())
        for digits in ("1x", "E", "1 2", "!", "1!", "\u0661", "1" * 33):
            self.assertRaises(ValueError, self.media.press, digits)
        self.run_for(1000)
        self.assertEqual(set([packet[0] for packet in self.packets()]), set([PCMU]))

    def test_peer_is_on_hold(self):
        """By us: nothing goes out, and no digit is kept for later."""
        self.start(speech())
        self.media.start([speech()], self.now, False)
        self.assertRaises(ValueError, self.media.press, "1")
        self.media.start([speech(direction=b"sendonly")], self.now, False)
        self.assertRaises(ValueError, self.media.press, "1")

    def test_too_many(self):
        """32 wait at most, until some were sent."""
        self.start(speech())
        self.media.press("1" * 32)
        self.assertRaises(ValueError, self.media.press, "2")
        self.run_for(400)
        self.media.press("2")
        self.sent(0)

    def test_not_before_the_peer_has_our_keys(self):
        self.start(speech(), go=False)
        self.media.press("5")
        self.run_for(500)
        self.assertEqual(self.sent(0), [])
        self.media.go(self.now)
        self.run_for(200)
        self.assertEqual([packet[4][0] for packet in self.packets() if packet[0] == EVENTS], [5] * 10)

    def test_after_another_key(self):
        """A press is told once, whatever was going on when the key changed, and the next one at once."""
        for i in range(20):
            self.again()
            self.start(speech())
            self.media.press("12")
            self.run_for(60)
            ours = bytes([i]) * 30
            self.start(speech(ours=ours))
            self.sent(0)
            self.run_for(1000)
            far = FarMedia(ours)
            events = [far.open(datagram) for _, datagram, _ in self.sent(0)]
            self.assertEqual(set([one[4][0] for one in events if one[0] == EVENTS]), set([2]))
            self.media.stop()

    def test_put_on_hold_meanwhile(self):
        """Not a packet while it lasts; what was pressed before goes on afterwards, each digit once."""
        self.start(speech())
        self.media.press("56")
        self.run_for(60)
        self.media.start([speech(direction=b"recvonly")], self.now)
        before = self.packets()
        self.run_for(2000)
        self.assertEqual(self.sent(0), [])
        self.media.start([speech()], self.now)
        self.run_for(600)
        reader = DtmfReceiver()
        found = []
        for i, packet in enumerate(before + self.packets()):
            if packet[0] == EVENTS:
                rtp = bytearray(16)
                build_header(rtp, EVENTS, packet[1], packet[2], packet[3], packet[5])
                rtp[12:] = packet[4]
                found += reader.receive(rtp, 12, 16, 20 * i)
        self.assertEqual([digit for digit, _ in found], ["5", "6"])

    def test_under_srtp_alone(self):
        """No digit is in the clear."""
        self.start(speech())
        self.media.press("5")
        self.run_for(200)
        events = [datagram for _, datagram, _ in self.sent(0) if datagram[1] & 0x7F == EVENTS]
        self.assertEqual([len(datagram) for datagram in events], [12 + 4 + SUITES[CM80].tag_bytes] * 10)
        self.assertLess([datagram[12:14] for datagram in events].count(b"\5\x0a"), 3)


if __name__ == "__main__":
    unittest.main()
