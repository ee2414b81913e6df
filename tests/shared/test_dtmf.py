import random
import unittest

from sipwire.dtmf import DIGITS, DtmfReceiver, DtmfSender
from sipwire.errors import ParseError
from sipwire.rtp import build_header, parse
from support import unhex

EVENT = 101


def packet_of(timestamp, event, duration, end=False, marker=False):
    packet = bytearray(16)
    build_header(packet, EVENT, 0, timestamp & 0xFFFFFFFF, 1, marker)
    packet[12:] = bytes((event, (0x80 if end else 0) | 10, duration >> 8, duration & 0xFF))
    return packet


def receive(receiver, packet, now):
    _, _, _, start, end, _ = parse(packet, len(packet))
    return receiver.receive(packet, start, end, now)


def send(sender, frames, timestamp=0, frame=160):
    """The packets of so many frames: [(frame, packet)]."""
    sent = []
    for i in range(frames):
        packet = bytearray(16)
        if sender.build(packet, 12, timestamp + frame * i & 0xFFFFFFFF, frame):
            build_header(packet, EVENT, i & 0xFFFF, sender.timestamp, 1, sender.marker)
            sent.append((i, packet))
    return sent


class SenderTest(unittest.TestCase):
    def test_begun_anew(self):
        """Under another SSRC with another clock: what had begun is over, what waits comes at once."""
        for timestamp in (0, 0x80000000, 0x100, 0xFFFFFF00):
            sender = DtmfSender()
            sender.press("12", 100)
            self.assertEqual(len(send(sender, 2, 0x1000)), 2)
            sender.begin_anew()
            sent = send(sender, 20, timestamp)
            self.assertEqual((sent[0][0], sent[0][1][12]), (0, 2))
            self.assertFalse(sender.is_busy())
            sender.press("3", 100)
            sender.begin_anew()
            self.assertEqual([packet[12] for _, packet in send(sender, 9, timestamp + 7)], [3] * 7)

    def test_one_digit(self):
        sender = DtmfSender()
        self.assertFalse(sender.is_busy())
        sender.press("5", 100)
        self.assertTrue(sender.is_busy())
        sent = send(sender, 20, 0x1000)
        self.assertFalse(sender.is_busy())
        self.assertEqual([i for i, _ in sent], list(range(7)))
        self.assertEqual([bytes(packet[4:8]) for _, packet in sent], [b"\0\0\x10\0"] * 7)
        self.assertEqual([packet[1] for _, packet in sent], [0x80 | EVENT] + [EVENT] * 6)
        self.assertEqual(
            [bytes(packet[12:]) for _, packet in sent],
            [unhex(text) for text in ("050a00a0", "050a0140", "050a01e0", "050a0280", "058a0320", "058a0320", "058a0320")],
        )  # fmt: skip

    def test_pause_between(self):
        sender = DtmfSender()
        sender.press("1", 40)
        sender.press("1", 40)
        # 40 ms are 2 frames, of which the last is the first of three with the end; then 5 of pause.
        self.assertEqual([i for i, _ in send(sender, 40)], [0, 1, 2, 3, 9, 10, 11, 12])
        sender.press("1", 40)
        self.assertEqual([i for i, _ in send(sender, 40, 40 * 160)], [0, 1, 2, 3])
        # The pause counts from the last digit, also when it was pressed long after.
        sender.press("2", 40)
        self.assertEqual([i for i, _ in send(sender, 9, 46 * 160)], [3, 4, 5, 6])

    def test_pause_across_the_wrap(self):
        sender = DtmfSender()
        sender.press("12", 40)
        self.assertEqual([i for i, _ in send(sender, 40, 0xFFFFFFFF - 900)], [0, 1, 2, 3, 9, 10, 11, 12])

    def test_long_press_has_segments(self):
        sender = DtmfSender()
        sender.press("#", 20000)
        sent = send(sender, 1100)
        self.assertEqual(len(sent), 1000 + 2)
        stamps = sorted(set([int.from_bytes(packet[4:8], "big") for _, packet in sent]))
        self.assertEqual(stamps, [0, 0xFFFF, 0x1FFFE])
        for stamp, final, end in ((0, 0xFFFF, 0), (0xFFFF, 0xFFFF, 0), (0x1FFFE, 160000 - 0x1FFFE, 0x80)):
            packets = [packet for _, packet in sent if int.from_bytes(packet[4:8], "big") == stamp]
            durations = [packet[14] << 8 | packet[15] for packet in packets]
            self.assertEqual(durations, sorted(durations))
            self.assertEqual((durations[-1], packets[-1][13] & 0x80), (final, end))
        self.assertEqual([packet[1] & 0x80 for _, packet in sent], [0x80] + [0] * 1001)
        for _, packet in sent[:-3]:
            self.assertEqual(packet[13], 10)

    def test_exact_segments(self):
        for units in (0xFFFF - 7, 0xFFFF // 8 * 8, 0x10000, 0x1FFFE, 0x20000):
            sender = DtmfSender(1)
            sender.press("0", min(60000, units))
            receiver = DtmfReceiver(1)
            found = []
            for i, packet in send(sender, 500):
                found += receive(receiver, packet, 20 * i)
            self.assertEqual(found, [("0", min(60000, units))])

    def test_all_digits_in_either_case(self):
        sender = DtmfSender()
        sender.press("0123456789*#abcd!", 40)
        sent = send(sender, 17 * 9)
        self.assertEqual([packet[12] for _, packet in sent[::4]], list(range(17)))

    def test_refused(self):
        sender = DtmfSender()
        for digits, tone_ms in (("1x", 100), (" ", 100), ("1", 0), ("1", 60001)):
            self.assertRaises(ValueError, sender.press, digits, tone_ms)
        sender.press("1" * 32)
        self.assertRaises(ValueError, sender.press, "1")
        self.assertEqual(len([1 for _, packet in send(sender, 32 * 20) if packet[1] & 0x80]), 32)
        sender.press("")
        self.assertEqual(sender.build(bytearray(16), 12, 0, 160), 0)


class ReceiverTest(unittest.TestCase):
    def setUp(self):
        self.receiver = DtmfReceiver()

    def take(self, now, *arguments):
        return receive(self.receiver, packet_of(*arguments), now)

    def test_once(self):
        self.assertEqual(self.take(0, 0, 5, 160, False, True), [])
        self.assertEqual(self.take(20, 0, 5, 320), [])
        self.assertEqual(self.receiver.timer_at, 320)
        self.assertEqual(self.take(40, 0, 5, 480, True), [("5", 60)])
        self.assertIsNone(self.receiver.timer_at)
        for now in (60, 80, 4000):
            self.assertEqual(self.take(now, 0, 5, 480, True), [])
        self.assertIsNone(self.receiver.timer_at)

    def test_the_end_is_enough(self):
        self.assertEqual(self.take(0, 0, 11, 800, True), [("#", 100)])

    def test_end_lost_then_next(self):
        self.take(0, 0, 5, 160, False, True)
        self.take(20, 0, 5, 320)
        self.assertEqual(self.take(200, 1600, 5, 160, False, True), [("5", 40)])
        self.assertEqual(self.take(220, 1600, 5, 320, True), [("5", 40)])

    def test_end_lost_then_the_end_of_the_next(self):
        self.take(0, 0, 5, 160)
        self.assertEqual(self.take(200, 1600, 6, 320, True), [("5", 20), ("6", 40)])

    def test_end_lost_and_nothing_more(self):
        self.take(0, 0, 5, 160)
        self.take(50, 0, 5, 560)
        self.assertEqual(self.receiver.handle_timer(349), [])
        self.assertEqual(self.receiver.handle_timer(350), [("5", 70)])
        self.assertEqual(self.receiver.handle_timer(400), [])
        # The same press, after a hole in the network: it was told.
        self.assertEqual(self.take(450, 0, 5, 3600), [])
        self.assertEqual(self.take(500, 0, 5, 4000, True), [])

    def test_held_on_after_a_hole(self):
        """A digit that was told stays told, for as long as it is pressed."""
        self.take(0, 0, 5, 160, False, True)
        self.receiver.handle_timer(300)
        now = 400
        while now < 20000:
            units = 8 * now
            self.assertEqual(self.take(now, units // 0xFFFF * 0xFFFF, 5, units % 0xFFFF), [])
            now += 50
        self.assertIsNone(self.receiver.timer_at)

    def test_out_of_order(self):
        self.take(0, 0, 5, 480)
        self.take(1, 0, 5, 160, False, True)
        self.assertEqual(self.take(100, 1600, 6, 160, False, True), [("5", 60)])
        self.assertEqual(self.take(101, 0, 5, 640, True), [])  # late
        self.assertEqual(self.take(120, 1600, 6, 320, True), [("6", 40)])

    def test_segments(self):
        self.take(0, 0, 5, 160, False, True)
        self.take(100, 0, 5, 0xFFFF)
        self.assertEqual(self.take(120, 0xFFFF, 5, 160), [])
        self.assertEqual(self.take(121, 0, 5, 0xFFFF), [])  # late
        # A segment that was lost whole.
        self.assertEqual(self.take(200, 3 * 0xFFFF, 5, 800, True), [("5", (3 * 0xFFFF + 800) // 8)])

    def test_segments_where_the_low_bytes_wrap(self):
        self.take(0, 0x00FF8000, 5, 160, False, True)
        self.assertEqual(self.take(20, 0x00FF8000 + 0xFFFF, 5, 801, True), [("5", (0xFFFF + 801) // 8)])

    def test_next_press_is_no_segment(self):
        self.take(0, 0, 5, 800, True)
        self.assertEqual(self.take(100, 0xFFFF, 5, 160, False, True), [])
        self.assertEqual(self.take(120, 0xFFFF, 5, 320, True), [("5", 40)])

    def test_another_beginning(self):
        """After a while any timestamp is a new press: the stream may count from elsewhere."""
        self.take(0, 5000, 5, 800, True)
        self.assertEqual(self.take(4999, 4000, 6, 800, True), [])
        self.assertEqual(self.take(5000, 4000, 6, 800, True), [("6", 100)])

    def test_timestamps_wrap(self):
        self.assertEqual(self.take(0, 0xFFFFFFF0, 1, 800, True), [("1", 100)])
        self.assertEqual(self.take(100, 0x10, 2, 800, True), [("2", 100)])
        self.assertEqual(self.take(110, 0xFFFFFFF0, 1, 800, True), [])

    def test_same_time_another_event(self):
        self.take(0, 0, 5, 160)
        self.assertEqual(self.take(20, 0, 6, 320, True), [])
        self.assertEqual(self.take(40, 0, 5, 480, True), [("5", 60)])

    def test_refused(self):
        self.take(0, 0, 5, 160)
        for payload in (b"", b"\5\x8a\0", b"\5\x8a\0\0\0", b"\x11\x8a\1\0", b"\xff\x8a\1\0", b"\5\x0a\1\0\5\x8a\1\0"):
            packet = packet_of(0, 5, 0)[:12] + payload
            self.assertRaises(ParseError, receive, self.receiver, packet, 20)
        self.assertEqual(self.take(40, 0, 5, 480, True), [("5", 60)])


class LossTest(unittest.TestCase):
    def test_door_opener(self):
        """Any one packet lost, of a code pressed three times over: each digit comes once, every time."""
        sender = DtmfSender()
        sent = []
        for i in range(3):
            sender.press("42*#9", 100)
            sent += [(4000 * i + 20 * frame, packet) for frame, packet in send(sender, 200, 32000 * i)]
        self.assertEqual(len(sent), 3 * 5 * 7)
        for lost in range(len(sent)):
            receiver = DtmfReceiver()
            found = []
            for i, (now, packet) in enumerate(sent):
                if i != lost:
                    self.assertTrue(receiver.timer_at is None or now < receiver.timer_at)
                    found += receive(receiver, packet, now)
            self.assertEqual(found, [(digit, 100) for digit in "42*#9" * 3], lost)

    def test_random(self):
        """Loss, doubles and reordering: a digit comes once if any of its packets came, in order, and else not at all."""
        random.seed(4733)
        for turn in range(60):
            digits = "".join([random.choice(DIGITS) for _ in range(20)])
            frame = (160, 240, 400)[turn % 3]
            sender, receiver = DtmfSender(), DtmfReceiver()
            sender.press(digits, 120)
            sent = send(sender, 20 * 20, random.getrandbits(30) << 2, frame)
            stamps = []
            for _, packet in sent:
                if bytes(packet[4:8]) not in stamps:
                    stamps.append(bytes(packet[4:8]))
            self.assertEqual(len(stamps), 20)
            arriving = []
            for i, packet in sent:
                if random.randrange(100) >= (10, 40, 80)[turn // 3 % 3]:
                    for _ in range(1 + (random.randrange(10) == 0)):
                        arriving.append((i * frame // 8 + random.randrange(60), len(arriving), packet))
            arriving.sort(key=lambda one: one[:2])
            found = []
            for now, _, packet in arriving:
                while receiver.timer_at is not None and receiver.timer_at <= now:
                    found += receiver.handle_timer(receiver.timer_at)
                found += receive(receiver, packet, now)
            found += receiver.handle_timer(1 << 29)
            came = set([bytes(packet[4:8]) for _, _, packet in arriving])
            expected = [digit for stamp, digit in zip(stamps, digits) if stamp in came]
            self.assertEqual([digit for digit, _ in found], expected, turn)
            for _, tone_ms in found:
                self.assertTrue(0 < tone_ms <= 120)

    def test_fuzz(self):
        random.seed(1)
        receiver = DtmfReceiver()
        now = taken = refused = 0
        for _ in range(4000):
            packet = packet_of(
                random.choice((0, 800, 0xFFFF, random.getrandbits(30))),
                random.randrange(24),
                random.getrandbits(16),
                random.randrange(4) == 0,
            )
            packet = packet[: 12 + random.choice((4, 4, 4, 4, 3, 0))]
            now += random.randrange(200)
            try:
                found = receive(receiver, packet, now)
                taken += 1
            except ParseError:
                refused += 1
                continue
            self.assertTrue(len(found) <= 2)
            for digit, tone_ms in found:
                self.assertTrue(digit in DIGITS and tone_ms >= 0)
        self.assertTrue(taken > 1000 and refused > 500)


if __name__ == "__main__":
    unittest.main()
