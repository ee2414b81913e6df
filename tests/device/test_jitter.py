import random
import unittest

from terminal.jitter import FRAME, JitterBuffer

SILENCE = 0xFF
QUIET = bytes([SILENCE]) * FRAME
DELAY_FRAMES = 3  # 60 ms
MOST_FRAMES = 11  # 220 ms


def sound(number, size=FRAME):
    """Payload that tells where it belongs: never silence, and different for packets near each other."""
    return bytes([(number * 7 + i // 80) % 250 + 1 for i in range(size)])


class Case(unittest.TestCase):
    start = 1000
    repeats = 0  # so that what is missing shows
    adapts = False  # so that nothing is skipped but for that it is too much

    def setUp(self):
        self.buffer = JitterBuffer(bytearray(2048), self.repeats)
        if not self.adapts:
            self.buffer._look = lambda early: None
        self.buffer.begin(SILENCE)
        self.frame = bytearray(FRAME)

    def put(self, number, size=FRAME, timestamp=None):
        """The packet of that number, 20 ms each, in a datagram with something around it."""
        if timestamp is None:
            timestamp = (self.start + number * FRAME) & 0xFFFFFFFF
        payload = sound(number, size)
        self.buffer.put(bytearray(b"header" + payload + b"tag"), 6, 6 + size, timestamp)

    def take(self):
        self.buffer.take(self.frame)
        return bytes(self.frame)

    def assertPlays(self, *numbers):
        """What is played next: packets by number, None for silence."""
        for number in numbers:
            self.assertTrue(self.take() == (QUIET if number is None else sound(number)), number)

    def assertHears(self, *numbers):
        """What is the last to be heard in 600 ms: packets by number."""
        heard = [frame for frame in [self.take() for _ in range(30)] if frame != QUIET]
        self.assertTrue(heard[-len(numbers) :] == [sound(number) for number in numbers], numbers)

    def fill(self, count=DELAY_FRAMES):
        """Put that many packets, and let the delay pass."""
        for i in range(count):
            self.put(i)
        self.assertPlays(*[None] * DELAY_FRAMES)

    def assertCounts(self, late=0, waited=0, skipped=0):
        buffer = self.buffer
        self.assertEqual((buffer.late, buffer.waited, buffer.skipped), (late, waited, skipped))


class OrderTest(Case):
    def test_in_order(self):
        self.fill()
        for i in range(3, 200):
            self.assertPlays(i - 3)
            self.put(i)
        self.assertPlays(197, 198, 199)
        self.assertCounts()

    def test_out_of_order(self):
        for i in (0, 2, 1, 5, 3, 4):
            self.put(i)
        self.assertPlays(None, None, None, 0, 1, 2, 3, 4, 5)
        self.assertCounts()

    def test_loss_is_silence(self):
        for i in (0, 1, 4, 5, 7):
            self.put(i)
        self.assertPlays(None, None, None, 0, 1, None, None, 4, 5, None, 7)
        self.assertCounts()

    def test_duplicates(self):
        for i in (0, 1, 0, 2, 1, 1):
            self.put(i)
        self.assertPlays(None, None, None, 0, 1, 2, None)
        self.assertCounts(waited=1)

    def test_late(self):
        self.fill()
        self.put(3)
        self.assertPlays(0, 1)
        for i in (0, 1):
            self.put(i)
        self.assertPlays(2, 3)
        self.assertCounts(late=2)

    def test_what_was_played_is_not_heard_again(self):
        """A whole turn of the ring later, there is silence where nothing came."""
        self.fill()
        for i in range(3, 40):
            self.put(i)
            self.assertPlays(i - 3)
        self.assertPlays(37, 38, 39)
        self.put(50)
        self.assertPlays(*[None] * 10)
        self.assertPlays(50)

    def test_silence_of_each_law(self):
        for silence in (0xFF, 0xD5):
            self.buffer.begin(silence)
            self.assertEqual(self.take(), bytes([silence]) * FRAME)
            self.put(0)
            self.put(2)
            for _ in range(DELAY_FRAMES + 1):
                self.take()
            self.assertEqual(self.take(), bytes([silence]) * FRAME)

    def test_begin_forgets(self):
        self.fill()
        self.put(3)
        self.put(50)
        self.take()
        self.buffer.begin(SILENCE)
        self.assertCounts()
        self.assertPlays(None, None, None)
        self.start = 7777777
        self.put(0)
        self.assertPlays(None, None, None, 0, None)


class WaitTest(Case):
    def test_late_audio_is_heard_later(self):
        """When everything is late, playing waits for it, and nothing is lost."""
        self.fill()
        self.assertPlays(0, 1, 2, None, None, None, None)
        for i in range(3, 9):
            self.put(i)
        self.assertPlays(3, 4, 5, 6, 7, 8, None)
        self.assertCounts(waited=5)

    def test_one_packet_at_a_time(self):
        self.fill()
        self.assertPlays(0, 1, 2)
        for i in range(3, 20):
            self.assertPlays(None)
            self.put(i)
            self.assertPlays(i)
        self.assertCounts(waited=17)

    def test_lost_while_waiting(self):
        self.fill()
        self.assertPlays(0, 1, 2, None)
        self.put(4)
        self.assertPlays(None, 4)
        self.assertCounts(waited=1)

    def test_burst_after_a_stall(self):
        """A Wi-Fi that hands over 200 ms at once, again and again: what was waited for stays the delay."""
        self.fill(10)
        played = 0
        for burst in range(1, 20):
            for i in range(10):
                self.put(burst * 10 + i)
            for _ in range(10):
                if self.take() != QUIET:
                    played += 1
        self.assertGreater(played, 180)
        self.assertEqual(self.buffer.late, 0)


class SkipTest(Case):
    def test_most(self):
        """220 ms wait to be played at most; more, and playing jumps so that 60 ms are left."""
        for i in range(MOST_FRAMES):
            self.put(i)
        self.assertCounts()
        self.put(MOST_FRAMES)
        self.assertCounts(skipped=9 * FRAME)
        self.assertPlays(None, None, None, 9, 10, 11, None)

    def test_fast_sender(self):
        """A sender whose clock is fast by a tenth never piles up more than 220 ms."""
        self.fill()
        number = 3
        heard = []
        for tick in range(1000):
            self.put(number)
            number += 1
            if tick % 10 == 0:
                self.put(number)
                number += 1
            self.take()
            heard.append(self.frame[0])
            self.assertLess(self.buffer._ahead, 1760 + 1)
        self.assertEqual(self.buffer.late, 0)
        self.assertGreater(self.buffer.skipped, 0)
        self.assertEqual(self.buffer.waited, 0)

    def test_skipped_silence_does_not_count(self):
        self.put(0)
        self.put(11)  # 220 ms of which 200 never came
        self.assertEqual(self.buffer.late, 0)
        self.assertPlays(None, None, None, None, None, 11)

    def test_pause(self):
        """A sender that falls silent, as phones with silence suppression do, is heard 60 ms after it begins again."""
        self.fill()
        self.assertPlays(0, 1, 2)
        for far in (100, 5000, 10000000):
            self.assertPlays(*[None] * 20)
            for i in range(3):
                self.put(far + i)
            self.assertPlays(None, None, None, far, far + 1, far + 2, None)
        self.assertEqual(self.buffer.late, 0)

    def test_short_pause(self):
        for gap in range(1, 14):
            self.setUp()
            self.fill()
            self.assertPlays(0, 1, 2, None)
            for i in range(3):
                self.put(3 + gap + i)
            self.assertHears(3 + gap, 4 + gap, 5 + gap)
            self.assertEqual(self.buffer.late, 0)

    def test_new_beginning(self):
        """A gateway that begins its timestamps anew, wherever they were before, is heard again at once."""
        self.fill()
        number = 3
        for jump in (0x10000000, 0x7FFFFFFF, 0x80000000, 0x80000001, 0xF0000000, 0xFFFFFFFF - 65536):
            self.start = (self.start + jump) & 0xFFFFFFFF
            for i in range(number, number + 3):
                self.put(i)
            number += 3
            self.assertHears(number - 3, number - 2, number - 1)
        self.assertLess(self.buffer.late, 1)

    def test_old_packets_are_late_and_no_new_beginning(self):
        """What the replay window lets through is at most 64 packets old."""
        self.fill(11)
        for i in range(11, 200):
            self.take()
            self.put(i)
        for size, old in ((FRAME, 64), (2 * FRAME, 128)):
            before = self.buffer.late
            self.put(189 - old, size)
            self.assertEqual(self.buffer.late, before + 1)
        self.take()
        self.assertNotEqual(self.take(), QUIET)


class WrapTest(Case):
    def test_timestamps_wrap(self):
        """RFC 3550 section 5.1: they begin anywhere and wrap at 2^32."""
        for start in (0xFFFFFFFF, 0xFFFFFFFF - 5 * FRAME, 0xFFFFFF00, 0x7FFFFFF0, 0x80000000, 0):
            self.setUp()
            self.start = start
            self.fill()
            for i in range(3, 40):
                self.assertPlays(i - 3)
                self.put(i)
            self.assertCounts()

    def test_loss_and_disorder_across_the_wrap(self):
        self.start = 0xFFFFFFFF - 2 * FRAME
        for i in (0, 3, 1, 5, 4):
            self.put(i)
        self.assertPlays(None, None, None, 0, 1, None, 3, 4, 5, None)
        self.put(2)
        self.assertCounts(late=1, waited=1)


class ConcealTest(Case):
    """What is missing is made up for by what was played last, three times at most."""

    repeats = 3

    def test_lost(self):
        for i in (0, 1, 3, 8, 9):
            self.put(i)
        self.assertPlays(None, None, None, 0, 1, 1, 3, 3, 3, 3, None, 8, 9)
        self.assertCounts()
        self.assertEqual(self.buffer.concealed, 5)

    def test_three_times_where_nothing_is_said(self):
        self.buffer = JitterBuffer(bytearray(2048))
        self.buffer.begin(SILENCE)
        self.fill(1)
        self.assertPlays(0, 0, 0, 0, None, None)

    def test_waited_for(self):
        self.fill()
        self.assertPlays(0, 1, 2, 2, 2, 2, None, None)
        self.put(3)
        self.assertPlays(3, 3)
        self.assertCounts(waited=6)
        self.assertEqual(self.buffer.concealed, 0)

    def test_nothing_of_another_stream(self):
        self.fill()
        self.assertPlays(0)
        self.buffer.change(SILENCE)
        self.assertPlays(None, None)
        self.start = 99000
        self.fill()
        self.assertPlays(0, 1, 2, 2)

    def test_one_in_a_hundred(self):
        """Each loss is one repetition, and moves nothing."""
        self.fill()
        for i in range(3, 600):
            if i % 100:
                self.put(i)
            expected = i - 3
            self.assertPlays(expected if expected % 100 or not expected else expected - 1)
        self.assertCounts()
        self.assertEqual(self.buffer.concealed, 5)


class AdaptTest(Case):
    repeats = 3
    adapts = True

    def run_for(self, ms, late=None, ppm=0):
        """A sender whose clock is that much fast, and packets that are late by ``late(number)`` ms.

        Returns:
            The longest time without a new sound, in ms.
        """
        waiting = []  # (when, number) of those that are under way
        sent = gap = longest = 0
        for tick in range(ms // 20):
            while sent * (20000 - ppm // 50) <= 20000 * tick:
                waiting.append((sent * (20000 - ppm // 50) + (1000 * late(sent) if late else 0), sent))
                sent += 1
            for at, number in sorted(waiting):
                if at <= 20000 * tick:
                    self.put(number)
            waiting = [one for one in waiting if one[0] > 20000 * tick]
            before = self.buffer.waited + self.buffer.concealed
            self.take()
            gap = gap + 20 if self.buffer.waited + self.buffer.concealed != before else 0
            longest = max(longest, gap)
        return longest

    def test_no_jitter(self):
        """60 ms are good, and stay."""
        self.assertEqual(self.run_for(20000), 0)
        self.assertEqual(self.buffer.delay, 480)
        self.assertCounts()

    def test_much_jitter(self):
        """Packets up to 150 ms late: the buffer grows until none is lost, and shrinks again when they come in time."""
        random.seed(5)
        self.run_for(20000, lambda i: random.randrange(150))
        grown = self.buffer.delay
        late = self.buffer.late
        self.assertTrue(560 <= grown <= 1600, grown)
        self.assertTrue(late < 20, late)
        self.start += 1000 * FRAME
        self.run_for(30000)  # what is under way from before goes on
        self.assertTrue(320 <= self.buffer.delay < 520, self.buffer.delay)
        self.assertEqual(self.buffer.late, late)

    def test_never_more_than_200_ms(self):
        random.seed(6)
        self.run_for(20000, lambda i: random.randrange(400))
        self.assertTrue(self.buffer.delay <= 1600, self.buffer.delay)

    def test_nothing_is_waited_for_beyond_200_ms(self):
        """A packet that is too late makes it wait, where 180 ms are still to be played, and no more where it is 200."""
        for frames, waits in ((9, 1), (10, 0)):
            self.setUp()
            self.put(0)
            for _ in range(DELAY_FRAMES + 1):
                self.take()
            for number in range(1, frames + 1):
                self.put(number)
            self.put(0)
            self.assertCounts(late=1, waited=waits)

    def test_clocks_that_differ(self):
        """100 ppm either way, for ten minutes: three frames too many or too few, one at a time."""
        for ppm in (100, -100):
            self.setUp()
            buffer = self.buffer
            longest = self.run_for(600000, ppm=ppm)
            self.assertTrue(longest <= 20, longest)
            self.assertEqual(buffer.late, 0)
            self.assertTrue(buffer.waited <= 6 and buffer.skipped <= 6 * FRAME, (ppm, buffer.waited, buffer.skipped))
            self.assertTrue(312 <= buffer.delay < 520, buffer.delay)
            self.assertTrue(buffer.skipped if ppm > 0 else buffer.delay < 480)


class SizeTest(Case):
    def play(self, size, count=120, jitter=0):
        """Packets of ``size`` bytes as they come by the clock, all but the first up to ``jitter`` bytes of time late.

        Returns:
            What was heard, without silence before the first and after the last sound.
        """
        random.seed(size)
        arrivals = sorted([(i * size + (random.randrange(jitter) if jitter and i else 0), i) for i in range(count)])
        heard = b""
        for tick in range(count * size // FRAME + 40):
            while arrivals and arrivals[0][0] <= tick * FRAME:
                _, i = arrivals.pop(0)
                payload = bytes([(i * size + n) // 40 % 250 + 1 for n in range(size)])
                self.buffer.put(bytearray(payload), 0, size, (self.start + i * size) & 0xFFFFFFFF)
            heard += self.take()
        return heard.strip(bytes([SILENCE]))

    def sent(self, size, count=120):
        return bytes([n // 40 % 250 + 1 for n in range(size * count)])

    def test_other_packet_times(self):
        """10, 20, 30, 40 and 60 ms, and sizes that fit no frame: every byte is heard, in order."""
        for size in (80, 160, 240, 320, 480, 40, 100, 200, 333):
            for start in (0, 0xFFFFFFFF - 5000):
                self.setUp()
                self.start = start
                count = 120 * FRAME // size * size // size
                heard = self.play(size, count)
                wanted = self.sent(size, count)
                # The last piece that fills no frame is not worth waiting for.
                self.assertGreater(len(heard), len(wanted) - FRAME)
                self.assertTrue(wanted.startswith(heard), size)
                self.assertCounts(late=0, waited=self.buffer.waited, skipped=0)

    def test_other_packet_times_with_jitter(self):
        """Jitter of 40 ms, less than the delay, loses nothing, whatever the packet time is."""
        for size in (80, 160, 240, 320):
            self.setUp()
            heard = self.play(size, 120, jitter=320)
            self.assertTrue(self.sent(size).startswith(heard.replace(bytes([SILENCE]), b"")), size)
            self.assertCounts(late=0, waited=self.buffer.waited, skipped=0)

    def test_starved_in_the_middle_of_a_packet(self):
        """30 ms packets that come too late: half a frame waits for its other half, and no packet is thrown away."""
        for size in (80, 240):
            self.setUp()
            sent = self.sent(size, 30)
            self.buffer.put(bytearray(sent[:size]), 0, size, self.start)
            for _ in range(DELAY_FRAMES + size // FRAME):
                self.take()
            heard = sent[: size // FRAME * FRAME]
            for i in range(1, 30):
                self.assertEqual(self.take(), QUIET)
                self.buffer.put(bytearray(sent[i * size : (i + 1) * size]), 0, size, self.start + i * size)
                while self.buffer._ahead >= FRAME:
                    heard += self.take()
            self.assertTrue(sent.startswith(heard))
            self.assertGreater(len(heard), len(sent) - FRAME)
            self.assertEqual(self.buffer.late, 0)

    def test_largest(self):
        """120 ms in one packet are the most; more is ignored, and so is nothing at all."""
        self.buffer.put(bytearray(2000), 0, 961, self.start)
        self.buffer.put(bytearray(2000), 0, 2000, self.start)
        self.buffer.put(bytearray(2000), 7, 7, self.start)
        self.assertPlays(*[None] * 10)
        self.assertCounts()
        payload = bytes([n // 40 % 250 + 1 for n in range(960)])
        self.buffer.put(bytearray(payload), 0, 960, self.start)
        self.assertPlays(None, None, None)
        self.assertEqual(b"".join([self.take() for _ in range(6)]), payload)
        self.buffer.put(bytearray(2000), 0, 961, self.start + 960)
        self.assertPlays(None)

    def test_large_packets_that_pile_up(self):
        """80 ms packets of a sender that is far too fast: some are left out, the others are heard."""
        for size in (480, 640, 960):
            self.setUp()
            heard = 0
            for i in range(60):
                payload = bytes([i % 250 + 1]) * size
                self.buffer.put(bytearray(payload), 0, size, self.start + i * size)
                if i % 2:
                    heard += self.take() != QUIET
            self.assertGreater(heard, 20, size)


class FuzzTest(Case):
    def test_anything(self):
        """Random timestamps and sizes: never an exception, no frame of another size, and sound again afterwards."""
        random.seed(3)
        packet = bytearray(1000)
        now = 0
        for _ in range(2000):
            kind = random.randrange(4)
            if kind == 0:
                timestamp = random.getrandbits(30) * 4 + random.getrandbits(2)
            elif kind == 1:
                timestamp = (now + random.randrange(-3000, 3000)) & 0xFFFFFFFF
            else:
                timestamp = now
                now = (now + random.choice((40, 80, 160, 240))) & 0xFFFFFFFF
            start = random.randrange(20)
            self.buffer.put(packet, start, start + random.randrange(980), timestamp)
            if random.getrandbits(1):
                self.assertEqual(len(self.take()), FRAME)
            self.assertTrue(-1 <= self.buffer._ahead <= 2048)
            self.assertEqual(len(self.buffer._ring), 2048)
        self.start = (now + 1000000) & 0xFFFFFFFF
        for i in range(3):
            self.put(i)
        self.assertHears(0, 1, 2)


if __name__ == "__main__":
    unittest.main()
