import gc
import random
import unittest

from sipwire.reception import Reception, is_rtcp
from sipwire.rtcp import block
from sipwire.rtp import build_header


def rtp(seq, timestamp=0):
    packet = bytearray(12)
    build_header(packet, 0, seq & 0xFFFF, timestamp & 0xFFFFFFFF, 0xF0E0D0C0)
    return packet


class MuxTest(unittest.TestCase):
    def test_payload_types(self):
        """RFC 5761 section 4: 192 to 223, which are 64 to 95 with the marker bit."""
        for second in range(256):
            self.assertEqual(is_rtcp(bytes((0x80, second)) + bytes(6)), 192 <= second <= 223, second)
        self.assertTrue(is_rtcp(b"\x80\xc8"))
        self.assertFalse(is_rtcp(b""))
        self.assertFalse(is_rtcp(b"\x80"))


class SequenceTest(unittest.TestCase):
    def test_before_the_first(self):
        reception = Reception(8)
        self.assertEqual((reception.expected(), reception.lost(), reception.highest), (0, 0, -1))
        self.assertEqual(block(reception, 7, 99), (7, 0, 0, 0, 0, 0, 0))

    def test_first_is_zero(self):
        reception = Reception(8)
        reception.receive(rtp(0), 0)
        self.assertEqual((reception.expected(), reception.lost()), (1, 0))

    def test_wrap(self):
        reception = Reception(8)
        for seq in (65533, 65534, 65535, 0, 1, 65535, 3):
            self.assertTrue(reception.receive(rtp(seq), 0))
        self.assertEqual(reception.highest, 0x10003)
        self.assertEqual((reception.expected(), reception.received, reception.lost()), (7, 7, 0))

    def test_wraps_are_counted(self):
        reception = Reception(8)
        for seq in range(0, 0x10000 * 5, 1000):
            reception.receive(rtp(seq), 0)
        self.assertEqual(reception.highest, 327000)
        self.assertEqual(reception.expected(), 327001)

    def test_probation(self):
        """Appendix A.1: two packets in a row, and what came before them does not count."""
        reception = Reception(8, 2)
        for seq, valid in ((10, False), (12, False), (14, False), (15, True), (17, True)):
            self.assertEqual(reception.receive(rtp(seq), 0), valid, seq)
        self.assertEqual((reception.expected(), reception.received), (3, 2))
        reception = Reception(8, 3)
        for seq, valid in ((65534, False), (65535, False), (0, True)):
            self.assertEqual(reception.receive(rtp(seq), 0), valid, seq)
        self.assertEqual((reception.highest, reception.received), (0, 1))
        reception = Reception(8, 2)
        self.assertFalse(reception.receive(rtp(0), 0))
        self.assertTrue(reception.receive(rtp(1), 0))
        self.assertTrue(Reception(8, 1).receive(rtp(5), 0))
        self.assertTrue(Reception(8).receive(rtp(5), 0))

    def test_leap(self):
        """One leap is nothing, two packets after it are a new beginning."""
        reception = Reception(8)
        for seq in (100, 101, 102):
            reception.receive(rtp(seq, 160 * seq), 20 * seq)
        self.assertFalse(reception.receive(rtp(102 + 3000), 0))
        self.assertEqual((reception.highest, reception.received), (102, 3))
        self.assertFalse(reception.receive(rtp(9000), 0))
        self.assertTrue(reception.receive(rtp(103), 0))
        self.assertTrue(reception.receive(rtp(9001), 0))
        self.assertEqual((reception.highest, reception.expected(), reception.received), (9001, 1, 1))
        self.assertEqual((reception.jitter, reception.lost()), (0, 0))

    def test_bounds_of_a_leap(self):
        for ahead, counted in ((2999, True), (3000, False), (65436, False), (65437, True), (65535, True), (0, True)):
            reception = Reception(8)
            reception.receive(rtp(500), 0)
            self.assertEqual(reception.receive(rtp(500 + ahead), 0), counted, ahead)
            self.assertEqual(reception.highest, 3499 if ahead == 2999 else 500)

    def test_a_new_beginning_counts_anew(self):
        reception = Reception(8)
        for seq in (1, 2, 3, 9):
            reception.receive(rtp(seq), 0)
        self.assertEqual(block(reception, 1, 0)[1:3], (5 * 256 // 9, 5))
        for seq in (20000, 20001, 20003):
            reception.receive(rtp(seq), 0)
        self.assertEqual(block(reception, 1, 0)[1:4], (256 // 3, 1, 20003))


class LossTest(unittest.TestCase):
    def test_by_hand(self):
        """Appendix A.3, worked out on paper: 10 expected and 7 there; then 4 expected and 5 there; then 2 and 1."""
        reception = Reception(8)
        for seq in (0, 1, 2, 4, 5, 7, 9):
            reception.receive(rtp(seq), 0)
        self.assertEqual(block(reception, 5, 0)[:4], (5, 3 * 256 // 10, 3, 9))
        for seq in (8, 10, 11, 12, 13):
            reception.receive(rtp(seq), 0)
        self.assertEqual(block(reception, 5, 0)[:4], (5, 0, 2, 13))
        reception.receive(rtp(15), 0)
        self.assertEqual(block(reception, 5, 0)[:4], (5, 128, 3, 15))
        self.assertEqual(block(reception, 5, 0)[:4], (5, 0, 3, 15))

    def test_more_came_than_were_sent(self):
        reception = Reception(8)
        for seq in (1, 1, 1, 2):
            reception.receive(rtp(seq), 0)
        self.assertEqual(block(reception, 5, 0)[:3], (5, 0, -2))

    def test_bounds(self):
        """Section 6.4.1: 24 bits with a sign."""
        reception = Reception(8)
        reception.receive(rtp(0), 0)
        reception.received = 0x1000000
        self.assertEqual(block(reception, 5, 0)[2], -0x800000)
        reception.highest = 0xFFFFFFFF
        self.assertEqual(block(reception, 5, 0)[2], 0x7FFFFF)

    def test_random_streams(self):
        """Beside a count with sets."""
        random.seed(3550)
        for _ in range(60):
            reception = Reception(8)
            first = random.randrange(0x10000)
            sent = list(range(first, first + 400))
            arriving = []
            for i, seq in enumerate(sent):
                if i == 0 or random.randrange(100) >= 10:
                    arriving.append((0 if i == 0 else i + random.randrange(8), seq))
                    if i and random.randrange(100) < 3:
                        arriving.append((i + random.randrange(8), seq))
            arriving.sort()
            highest, count, before = first, 0, (0, 0)
            for i, (_, seq) in enumerate(arriving):
                reception.receive(rtp(seq), 0)
                highest, count = max(highest, seq), count + 1
                if i % 50 == 49:
                    expected = highest - first + 1
                    due, there = expected - before[0], count - before[1]
                    before = (expected, count)
                    fraction = int((due - there) / due * 256 + 1e-4) if due > there else 0
                    self.assertEqual(block(reception, 1, 0)[1:4], (fraction, expected - count, highest))


class JitterTest(unittest.TestCase):
    def test_by_hand(self):
        """Appendix A.8, worked out on paper: |D| of 160, 0, 80 and 40 units."""
        reception = Reception(8)
        seen = []
        for seq, timestamp, at in ((0, 0, 1000), (1, 160, 1040), (2, 320, 1060), (3, 480, 1070), (4, 640, 1095)):
            reception.receive(rtp(seq, timestamp), at)
            seen.append(reception.jitter)
        # 160 - (0 + 8 >> 4); - (160 + 8 >> 4); 80 - (150 + 8 >> 4); 40 - (221 + 8 >> 4).
        self.assertEqual(seen, [0, 160, 150, 221, 247])
        self.assertEqual(block(reception, 0, 0)[4], 15)

    def test_from_zero(self):
        """A transit time of nothing is one, too."""
        reception = Reception(8)
        reception.receive(rtp(0, 0), 0)
        reception.receive(rtp(1, 160), 40)
        self.assertEqual(reception.jitter, 160)

    def test_beside_floats(self):
        """Beside the formula of section 6.4.1, and the one of appendix A.8, for all clocks, across both wraps."""
        random.seed(8)
        for per_ms in (1, 8, 48):
            reception = Reception(per_ms)
            timestamp, now = 0xFFFFFFFF - 9000 * per_ms, (1 << 24) - 3000
            jitter = 0.0
            scaled = 0
            before = None
            for seq in range(1000):
                arrival = now + 20 * seq + random.randrange(60)
                reception.receive(rtp(seq, timestamp + 20 * per_ms * seq), arrival)
                transit = (arrival - now - 20 * seq) * per_ms
                if before is not None:
                    jitter += (abs(transit - before) - jitter) / 16
                    scaled += abs(transit - before) - (scaled + 8) // 16
                before = transit
                self.assertEqual(reception.jitter, scaled)
                self.assertTrue(abs((reception.jitter >> 4) - jitter) < 1.6, (seq, reception.jitter >> 4, jitter))
            self.assertTrue(jitter > 10 * per_ms)

    def test_allocates_nothing(self):
        """On MicroPython, which can tell: a packet costs no memory."""
        if not hasattr(gc, "mem_alloc"):
            return
        reception = Reception(8)
        packet = rtp(0)
        reception.receive(packet, 0)
        reception.receive(packet, 0)
        gc.collect()
        before = gc.mem_alloc()
        for i in range(100):
            packet[3] = i
            packet[4] = packet[5] = 0xFF
            reception.receive(packet, 536870911 + i)
        self.assertEqual(gc.mem_alloc() - before, 0)

    def test_stays_small(self):
        """No number outgrows 31 bits, however wild the timestamps are."""
        random.seed(31)
        reception = Reception(63)
        for seq in range(2000):
            reception.receive(rtp(seq, random.getrandbits(30) << 2), random.getrandbits(30))
            self.assertTrue(0 <= reception.jitter < 1 << 29)


if __name__ == "__main__":
    unittest.main()
