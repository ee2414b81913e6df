import random
import unittest

from sipwire.errors import ParseError
from sipwire.red import red_generations
from sipwire.rtp import build_header, parse
from sipwire.text import MAX_BLOCK_BYTES, TextReceiver, TextSender, payload_bytes
from support import load, unhex

T140 = 98
RED = 100
SSRC = b"\x0b\xad\xca\xfe"
BOM = b"\xef\xbb\xbf"
ALPHABET = "abcdefgh \b\u2028\r\n\u00e5\u00df\u20ac\u05e9\U0001f600\u0301"


def receive(receiver, packet, now):
    _, _, _, start, end, _ = parse(packet, len(packet))
    return receiver.receive(packet, start, end, now)


def text_of(found):
    return "".join([text for _, text in found])


def rtp(seq, timestamp, payload, kind=RED, csrc=b"", ssrc=SSRC):
    packet = bytearray(12)
    build_header(packet, kind, seq & 0xFFFF, timestamp & 0xFFFFFFFF, int.from_bytes(ssrc, "big"))
    packet[0] |= len(csrc) // 4
    return bytes(packet) + csrc + payload


def red(blocks, kind=T140):
    """A payload of [(offset, text), ..., text], the oldest first: RFC 2198 section 3."""
    head = b""
    for offset, text in blocks[:-1]:
        word = (1 << 31) | kind << 24 | offset << 10 | len(text)
        head += bytes((word >> 24, word >> 16 & 0xFF, word >> 8 & 0xFF, word & 0xFF))
    return head + bytes((kind,)) + b"".join([text for _, text in blocks[:-1]]) + blocks[-1]


def unred(payload):
    """Blocks of a payload, the oldest first: [(offset, text)]. Another reading than the one that is tested."""
    heads = []
    while payload[0] & 0x80:
        word = int.from_bytes(payload[:4], "big")
        assert word >> 24 & 0x7F == T140
        heads.append((word >> 10 & 0x3FFF, word & 0x3FF))
        payload = payload[4:]
    assert payload[0] == T140
    payload = payload[1:]
    found = []
    for offset, size in heads:
        found.append((offset, payload[:size]))
        payload = payload[size:]
    return found + [(0, payload)]


class VectorTest(unittest.TestCase):
    def test_sequences(self):
        done = 0
        for case in load("t140/sequences.json")["sequences"]:
            receiver = TextReceiver(case["t140_pt"], case["red_pt"] or -1)
            packets = [unhex(packet["hex"]) for packet in case["packets"]]
            now = 0
            text = ""
            for index in case["reception_order"]:
                now += 300
                text += text_of(receive(receiver, packets[index], now))
            if receiver.timer_at is not None:
                self.assertTrue(now < receiver.timer_at <= now + 1000, case["name"])
                text += text_of(receiver.handle_timer(receiver.timer_at))
            self.assertIsNone(receiver.timer_at)
            self.assertEqual(text, case["expected_text"].replace("\ufeff", ""), case["name"])
            done += 1
        self.assertEqual(done, 12)

    def test_all_blocks_are_read_as_they_were_written(self):
        for case in load("t140/sequences.json")["sequences"]:
            if case["red_pt"]:
                for packet in case["packets"]:
                    data = unhex(packet["hex"])
                    self.assertEqual(unred(data[12:])[-1][1], packet["primary"].encode())


class FmtpTest(unittest.TestCase):
    def test_good(self):
        for fmtp, kind, generations in (
            (b"98/98", 98, 1),
            (b"98/98/98", 98, 2),
            (b" 98/98/98/98 ", 98, 3),
            (b"0/0/0", 0, 2),
            (b"127/127/127/127/127/127", 127, 5),
        ):
            self.assertEqual(red_generations(fmtp, kind), generations)

    def test_bad(self):
        for fmtp in (
            b"", b"98", b"/", b"98/", b"/98", b"98//98", b"98/97", b"97/98", b"98/98/97", b"98/98/98/98/98/98/98",
            b"98 98", b"98,98", b"98/98;x", b"+98/98", b"9_8/98", b"-98/98", b"98/ 98", b"0098/98", b"98/98\xb2",
            b"t140/t140", b"98/98/98 cps=30",
        ):  # fmt: skip
            self.assertRaises(ParseError, red_generations, fmtp, 98)


class Typist:
    """Writes to a sender and takes its packets, as a call does."""

    def __init__(self, seq=65530, **options):
        self.now = 5000
        self.sender = TextSender(T140, self.now, **options)
        self.seq = seq
        self.sent = []  # (when, packet, marker)

    def run(self, until):
        while self.sender.timer_at is not None and self.sender.timer_at <= until:
            self.now = max(self.now, self.sender.timer_at)
            packet = bytearray(12 + payload_bytes(5))
            size = self.sender.build(packet, 12, self.now)
            if size >= 0:
                sender = self.sender
                build_header(
                    packet, sender.payload_type, self.seq, sender.timestamp, int.from_bytes(SSRC, "big"), sender.marker
                )
                self.seq = (self.seq + 1) & 0xFFFF
                self.sent.append((self.now, bytes(packet[: 12 + size]), sender.marker))
        self.now = max(self.now, until)

    def write(self, text):
        return self.sender.write(text, self.now)

    def primaries(self):
        plain = self.sender.payload_type == T140
        return [packet[12:] if plain else unred(packet[12:])[-1][1] for _, packet, _ in self.sent]


class SenderTest(unittest.TestCase):
    def test_redundancy(self):
        typist = Typist(red_type=RED, offset=0xFFFFF000)
        typist.run(5100)
        self.assertEqual(typist.write("H"), 1)
        typist.run(5350)
        typist.write("el")
        typist.write("lo")
        typist.run(20000)
        typist.write("!")
        typist.run(40000)
        self.assertEqual(
            [(now, unred(packet[12:]), marker) for now, packet, marker in typist.sent],
            [
                (5000, [(0, BOM)], True),
                (5300, [(300, BOM), (0, b"H")], False),
                (5600, [(600, BOM), (300, b"H"), (0, b"ello")], False),
                (5900, [(600, b"H"), (300, b"ello"), (0, b"")], False),
                (6200, [(600, b"ello"), (300, b""), (0, b"")], False),
                # After a pause at once, and it shows that what was sent before it was empty.
                (20000, [(14100, b""), (13800, b""), (0, b"!")], True),
                (20300, [(14100, b""), (300, b"!"), (0, b"")], False),
                (20600, [(600, b"!"), (300, b""), (0, b"")], False),
            ],
        )
        self.assertEqual([packet[1] for _, packet, _ in typist.sent[:2]], [0x80 | RED, RED])
        stamps = [int.from_bytes(packet[4:8], "big") for _, packet, _ in typist.sent]
        self.assertEqual(stamps[:2], [(5000 + 0xFFFFF000) & 0xFFFFFFFF, (5300 + 0xFFFFF000) & 0xFFFFFFFF])
        self.assertIsNone(typist.sender.timer_at)

    def test_other_generations(self):
        for generations in (0, 1, 3, 5):
            typist = Typist(red_type=RED, generations=generations)
            typist.run(9000)
            self.assertEqual(len(typist.sent), 1 + max(1, generations))
            last = unred(typist.sent[-1][1][12:])
            self.assertEqual(last[0][1] if generations else last, BOM if generations else [(0, b"")])

    def test_without_redundancy(self):
        """An empty block ends a stretch of text, by which its loss shows (RFC 4103 section 5.2)."""
        typist = Typist()
        typist.run(5100)
        typist.write("a\u20ac")
        typist.run(9000)
        self.assertEqual([packet[12:] for _, packet, _ in typist.sent], [BOM, "a\u20ac".encode(), b""])
        self.assertEqual(typist.sent[0][1][1], 0x80 | T140)

    def test_very_old_blocks(self):
        """An offset has 14 bits: what is older than it can tell was empty."""
        typist = Typist(red_type=RED)
        typist.run(30000)
        typist.write("x")
        typist.run(31000)
        self.assertEqual(unred(typist.sent[3][1][12:]), [(16383, b""), (16383, b""), (0, b"x")])

    def test_nothing_is_due(self):
        typist = Typist(red_type=RED)
        packet = bytearray(600)
        self.assertEqual(typist.sender.build(packet, 12, 4999), -1)
        typist.run(5000)
        self.assertEqual(typist.sender.build(packet, 12, 5299), -1)
        self.assertEqual(typist.sender.build(packet, 12, 5300), 8 + 1 - 4 + len(BOM))
        typist.run(9000)
        self.assertEqual(typist.sender.build(packet, 12, 99999), -1)
        typist.write("")
        self.assertIsNone(typist.sender.timer_at)
        self.assertEqual(packet[:12], bytes(12))

    def test_no_room(self):
        self.assertEqual([payload_bytes(generations) for generations in range(4)], [97, 197, 297, 397])
        sender = TextSender(T140, 0, RED)
        self.assertRaises(ValueError, sender.build, bytearray(12 + payload_bytes(2) - 1), 12, 0)
        self.assertEqual(sender.build(bytearray(12 + payload_bytes(2)), 12, 0), 4)

    def test_wrong_arguments(self):
        for generations, cps in ((6, 30), (-1, 30), (2, 0)):
            self.assertRaises(ValueError, TextSender, T140, 0, RED, generations, cps)

    def test_characters_stay_whole(self):
        text = "\U0001f600\u20acx\u00e5" * 40
        typist = Typist(red_type=RED, cps=1000)
        typist.run(5000)
        self.assertEqual(typist.write(text[:120]), 120)
        typist.run(20000)
        for data in typist.primaries():
            self.assertTrue(len(data) <= MAX_BLOCK_BYTES)
            data.decode()
            self.assertFalse(data and data[0] & 0xC0 == 0x80)
        self.assertEqual(b"".join(typist.primaries()), BOM + text[:120].encode())

    def test_full(self):
        """What does not fit is not taken, and no half of a character is."""
        typist = Typist()
        self.assertEqual(typist.write("\u20ac" * 400), 169)  # 509 bytes beside the mark
        self.assertEqual(typist.write("abc"), 2)
        self.assertEqual(typist.write("abc"), 0)
        typist.run(40000)
        self.assertEqual(b"".join(typist.primaries()), BOM + ("\u20ac" * 169 + "ab").encode())
        self.assertEqual(typist.write("abc"), 3)

    def test_cps(self):
        """No ten seconds see more than ten times cps characters, and nothing is lost."""
        for cps in (1, 5, 30, 1000):
            typist = Typist(red_type=RED) if cps == 30 else Typist(red_type=RED, cps=cps)
            text = "abcdefghi\u20ac" * 20
            taken = 0
            for _ in range(600):
                taken += typist.write(text[taken:])
                typist.run(typist.now + 1000)
                if taken == len(text) and typist.sender.timer_at is None:
                    break
            self.assertEqual(b"".join(typist.primaries()), BOM + text.encode())
            counts = [(when, len(data.decode())) for (when, _, _), data in zip(typist.sent, typist.primaries())]
            for start, _ in counts:
                inside = sum([count for when, count in counts if start <= when < start + 10000])
                self.assertTrue(inside <= 10 * cps, (cps, start, inside))
            for i in range(1, len(counts)):
                self.assertTrue(counts[i][0] - counts[i - 1][0] >= 300)
            if cps == 30:
                self.assertTrue(counts[-1][0] < 14000, counts[-1])

    def test_slow_peer(self):
        """While cps forbids text there is no endless stream of empty packets."""
        typist = Typist(red_type=RED, cps=1)
        typist.write("abcdef")
        typist.run(60000)
        self.assertEqual(b"".join(typist.primaries()), BOM + b"abcdef")
        self.assertTrue(len(typist.sent) <= 7 * 3 + 3, len(typist.sent))


class ReceiverTest(unittest.TestCase):
    def setUp(self):
        self.receiver = TextReceiver(T140, RED)

    def take(self, packet, now=0):
        return receive(self.receiver, packet, now)

    def test_source_and_mark(self):
        self.assertEqual(self.take(rtp(1, 0, red([BOM + b"a"]))), [(SSRC, "a")])
        self.assertEqual(self.take(rtp(2, 300, red([(300, BOM + b"a"), b""]))), [])
        self.assertEqual(self.take(rtp(3, 600, b"b", T140)), [(SSRC, "b")])

    def test_waits_no_longer_than_a_second(self):
        self.take(rtp(1, 0, b"a", T140))
        self.assertEqual(self.take(rtp(4, 900, b"d", T140), 1000), [])
        self.assertEqual(self.receiver.timer_at, 2000)
        self.assertEqual(self.take(rtp(3, 600, b"c", T140), 1900), [])
        self.assertEqual(self.receiver.timer_at, 2000)
        self.assertEqual(self.receiver.handle_timer(1999), [])
        self.assertEqual(self.receiver.handle_timer(2000), [(SSRC, "\ufffdcd")])
        self.assertIsNone(self.receiver.timer_at)
        self.assertEqual(self.take(rtp(2, 300, b"b", T140), 2001), [])  # too late

    def test_two_gaps_wait_each(self):
        self.take(rtp(1, 0, b"a", T140))
        self.take(rtp(3, 0, b"c", T140), 1000)
        self.take(rtp(5, 0, b"e", T140), 1500)
        self.assertEqual(self.receiver.handle_timer(2000), [(SSRC, "\ufffdc")])
        self.assertEqual(self.receiver.timer_at, 2500)
        self.assertEqual(self.take(rtp(4, 0, b"d", T140), 2400), [(SSRC, "de")])
        self.assertIsNone(self.receiver.timer_at)

    def test_time_passes_by_packets_too(self):
        self.take(rtp(1, 0, b"a", T140))
        self.take(rtp(3, 0, b"c", T140), 1000)
        self.assertEqual(self.take(rtp(4, 0, b"d", T140), 2000), [(SSRC, "\ufffdcd")])

    def test_gap_at_the_wrap(self):
        self.take(rtp(65535, 0, b"a", T140))
        self.take(rtp(1, 600, b"c", T140))
        self.assertEqual(self.receiver.handle_timer(1000), [(SSRC, "\ufffdc")])

    def test_holds_no_more_than_it_may(self):
        self.take(rtp(1, 0, b"a", T140))
        found = []
        for i in range(16):
            found += self.take(rtp(3 + 2 * i, 0, b"x", T140))
        self.assertEqual(found, [])
        # Then the wait for the first gap is over, and only for that.
        self.assertEqual(self.take(rtp(35, 0, b"x", T140)), [(SSRC, "\ufffdx")])

    def test_holds_no_more_bytes_than_it_may(self):
        self.take(rtp(1, 0, b"a", T140))
        self.assertEqual(self.take(rtp(3, 0, b"x" * 700, T140)), [])
        self.assertEqual(self.take(rtp(4, 0, b"y" * 324, T140)), [])
        self.assertEqual(self.take(rtp(5, 0, b"z", T140)), [(SSRC, "\ufffd" + "x" * 700 + "y" * 324 + "z")])

    def test_long_gap(self):
        self.take(rtp(1, 0, b"a", T140))
        self.take(rtp(2002, 0, b"b", T140))
        self.assertEqual(self.receiver.handle_timer(1000), [(SSRC, "\ufffd" * 64 + "b")])

    def test_new_beginning(self):
        """Two packets in a row from far away; what was kept is given first."""
        self.take(rtp(1, 0, b"a", T140))
        self.take(rtp(4, 0, b"d", T140))
        self.assertEqual(self.take(rtp(9000, 0, b"x", T140)), [])
        self.assertEqual(self.take(rtp(20000, 0, b"x", T140)), [])
        self.assertEqual(self.take(rtp(20001, 0, red([(300, b"x"), b"y"]))), [(SSRC, "\ufffd\ufffddxy")])
        self.assertIsNone(self.receiver.timer_at)

    def test_bounds_of_a_beginning(self):
        for ahead, text in (
            (2999, "a" + "\ufffd" * 64 + "b"),
            (3000, "ac"),  # the first of the two is nothing
            (-100, "a"),  # late
            (-102, "ac"),
        ):
            receiver = TextReceiver(T140, RED)
            found = receive(receiver, rtp(20001, 0, b"a", T140), 0)
            for i in range(2):
                found += receive(receiver, rtp(20002 + ahead + i, 0, b"bc"[i : i + 1], T140), 0)
            self.assertEqual(text_of(found + receiver.handle_timer(5000)), text, ahead)

    def test_doubled_in_a_gap(self):
        self.take(rtp(1, 0, b"a", T140))
        self.take(rtp(3, 0, b"c", T140))
        self.take(rtp(3, 0, b"c", T140))
        self.take(rtp(4, 0, red([(300, b"c"), b"d"])))
        self.assertEqual(self.take(rtp(2, 0, b"b", T140)), [(SSRC, "bcd")])

    def test_not_utf8(self):
        self.assertEqual(self.take(rtp(1, 0, b"a\xc0\xafb\xff", T140)), [(SSRC, "a\ufffdb\ufffd")])

    def test_streams_are_apart(self):
        """Each SSRC has its own numbers; the one silent for longest is forgotten for a fifth."""
        others = [bytes((i, 0, 0, 0)) for i in range(5)]
        for i in range(4):
            self.assertEqual(self.take(rtp(1000 * i, 0, b"a", T140, b"", others[i])), [(others[i], "a")])
        self.assertEqual(self.take(rtp(2, 0, b"c", T140, b"", others[0]), 10), [])
        self.assertEqual(self.take(rtp(1002, 0, b"c", T140, b"", others[1]), 20), [])
        self.assertEqual(self.receiver.timer_at, 1010)
        self.assertEqual(self.receiver.handle_timer(1010), [(others[0], "\ufffdc")])
        self.assertEqual(self.receiver.timer_at, 1020)
        self.take(rtp(7, 0, b"a", T140, b"", others[4]), 30)
        # The third was forgotten: it begins anew, and so its old text is taken again.
        self.assertEqual(self.take(rtp(2000, 0, b"a", T140, b"", others[2]), 40), [(others[2], "a")])
        self.assertEqual(self.take(rtp(1001, 0, b"b", T140, b"", others[1]), 50), [(others[1], "bc")])

    def test_refused(self):
        self.take(rtp(1, 0, b"a", T140))
        good = red([(300, b"b"), b"c"])
        cases = [good[:size] for size in range(5)]
        cases += [
            red([(300, b"b"), b"c"], 96),  # of another type
            red([(300, b"b"), b""])[:-1],
            red([(300, b"")] * 6 + [b"x"]),
            b"\xe2\x04\xb0\x00" * 3,
            b"\x63abc",
        ]
        for payload in cases:
            self.assertRaises(ParseError, self.take, rtp(2, 300, payload))
        self.assertRaises(ParseError, self.take, rtp(2, 300, b"a", 0))
        self.assertRaises(ParseError, receive, TextReceiver(T140), rtp(2, 300, good), 0)
        self.assertEqual(self.take(rtp(3, 300, good)), [(SSRC, "bc")])  # nothing has changed


class MixerTest(unittest.TestCase):
    """RFC 9071: the writer is the CSRC."""

    A, B = b"AAAA", b"BBBB"

    def setUp(self):
        self.receiver = TextReceiver(T140, RED)

    def take(self, seq, timestamp, blocks, csrc, now=None):
        return receive(self.receiver, rtp(seq, timestamp, red(blocks), RED, csrc), timestamp if now is None else now)

    def test_two_writers_in_turn(self):
        self.assertEqual(self.take(1, 0, [b"a1"], self.A), [(self.A, "a1")])
        self.assertEqual(self.take(2, 100, [b"b1"], self.B), [(self.B, "b1")])
        self.assertEqual(self.take(3, 200, [(200, b"a1"), b"a2"], self.A), [(self.A, "a2")])
        self.assertEqual(self.take(4, 300, [(200, b"b1"), b"b2"], self.B), [(self.B, "b2")])
        self.assertEqual(self.take(5, 400, [(400, b"a1"), (200, b"a2"), b""], self.A), [])

    def test_recovery_by_timestamp(self):
        self.take(1, 0, [b"a1"], self.A)
        self.take(2, 100, [b"b1"], self.B)
        # 3 is lost, in which A wrote; between there is one of B.
        self.assertEqual(self.take(4, 300, [(200, b"b1"), b"b2"], self.B), [(self.B, "b2")])
        found = self.take(5, 400, [(400, b"a1"), (200, b"a2"), b"a3"], self.A)
        self.assertEqual(found, [(self.A, "a2a3")])

    def test_first_packet_of_a_writer_lost(self):
        self.take(1, 0, [b"a1"], self.A)
        self.assertEqual(self.take(3, 300, [(200, b"b1"), b"b2"], self.B), [(self.B, "b1b2")])

    def test_late_packet(self):
        self.take(1, 0, [b"a1"], self.A)
        self.take(3, 200, [(200, b"a1"), b"a2"], self.A)
        self.assertEqual(self.take(2, 100, [b"b1"], self.B), [(self.B, "b1")])
        self.assertEqual(self.take(3, 200, [(200, b"a1"), b"a2"], self.A), [])

    def test_marker_of_the_mixer(self):
        """Three packets lost in a second, and nobody knows of whom."""
        self.take(1, 0, [b"a1"], self.A)
        self.take(2, 100, [b"b1"], self.B)
        self.assertEqual(self.take(5, 400, [b"a2"], self.A), [(self.A, "a2")])
        found = self.take(7, 600, [b"b2"], self.B)
        self.assertEqual(found, [(SSRC, "\ufffd"), (self.B, "b2")])
        # Not those of different seconds.
        self.take(10, 900, [b"a3"], self.A)
        self.assertEqual(self.take(12, 2000, [b"b3"], self.B), [(self.B, "b3")])

    def test_marker_of_the_only_writer(self):
        self.take(1, 0, [b"a1"], self.A)
        self.assertEqual(self.take(5, 400, [(200, b"a3"), (100, b"a4"), b"a5"], self.A), [(self.A, "\ufffda3a4a5")])

    def test_gap_at_the_wrap(self):
        self.take(65535, 0, [b"a1"], self.A)
        self.assertEqual(self.take(3, 400, [b"a5"], self.A), [(self.A, "\ufffda5")])

    def test_plain(self):
        receiver = TextReceiver(T140)
        receive(receiver, rtp(1, 0, b"a", T140, self.A), 0)
        found = receive(receiver, rtp(3, 300, b"c", T140, self.A), 0)
        self.assertEqual(found, [(self.A, "\ufffdc")])

    def test_mixer_itself(self):
        self.take(1, 0, [b"a1"], self.A)
        self.assertEqual(self.take(2, 100, [b"mixer"], b""), [(SSRC, "mixer")])
        self.assertEqual(self.take(3, 200, [(200, b"a1"), b"a2"], self.A), [(self.A, "a2")])
        self.assertEqual(self.take(4, 300, [(200, b"mixer"), b"!"], b""), [(SSRC, "!")])

    def test_from_one_writer_to_a_conference(self):
        self.take(1, 0, [b"x"], b"")
        self.assertEqual(self.take(3, 600, [b"z"], b""), [])
        self.assertEqual(self.take(4, 700, [b"a1"], self.A), [(SSRC, "\ufffdz"), (self.A, "a1")])
        self.assertIsNone(self.receiver.timer_at)

    def test_wrap_of_time(self):
        self.take(1, 0xFFFFFFF0, [b"a1"], self.A, 0)
        self.assertEqual(self.take(2, 0x40, [(80, b"a1"), b"a2"], self.A, 0), [(self.A, "a2")])
        self.take(3, 0xFFFFF0, [b"b1"], self.B, 0)
        self.assertEqual(self.take(4, 0x1000040, [(80, b"b1"), b"b2"], self.B, 0), [(self.B, "b2")])

    def test_many_writers(self):
        for i in range(9):
            self.take(i, 100 * i, [b"x"], bytes((i, 0, 0, 0)))
        # The first was forgotten, the second not.
        for i, text in ((1, "y"), (0, "xy")):
            found = self.take(10 + i, 1000 + i, [(1000 - 100 * i + i, b"x"), b"y"], bytes((i, 0, 0, 0)))
            self.assertEqual(found, [(bytes((i, 0, 0, 0)), text)])


class ModelTest(unittest.TestCase):
    """Text typed at random, over a path that loses, doubles and reorders; beside what must come of it."""

    ROUNDS = 60

    def test_random(self):
        random.seed(4103)
        losses = marks = 0
        for turn in range(self.ROUNDS):
            generations = turn % 4
            options = {"red_type": RED, "generations": generations} if generations else {}
            typist = Typist(random.getrandbits(16), **options)
            for _ in range(25):
                typist.write("".join([random.choice(ALPHABET) for _ in range(random.randrange(1, 20))]))
                typist.run(typist.now + random.choice((50, 250, 700, 1500, 20000)))
            typist.run(typist.now + 10000)
            self.check_sender(typist, generations)
            missing, marked = self.check_receiver(typist, generations, (0, 5, 30, 70)[turn // 4 % 4], turn)
            losses += missing
            marks += marked
        self.assertTrue(losses > 400 and marks > 100, (losses, marks))

    def check_sender(self, typist, generations):
        """Every packet repeats those right before it."""
        blocks = typist.primaries()
        for i, (when, packet, _) in enumerate(typist.sent):
            if generations:
                expected = []
                for j in range(max(0, i - generations), i + 1):
                    expected.append((min(16383, when - typist.sent[j][0]), blocks[j]))
                self.assertEqual(unred(packet[12:]), expected)

    def check_receiver(self, typist, generations, percent, seed):
        sent = typist.sent
        arriving = []
        for i, (when, _, _) in enumerate(sent):
            if random.randrange(100) >= percent:
                late = random.randrange(900) if random.randrange(3) == 0 else random.randrange(20)
                arriving.append((when + late, i))
                if random.randrange(10) == 0:
                    arriving.append((when + random.randrange(900), i))
        arriving.sort()
        if not arriving:
            return 0, 0
        receiver = TextReceiver(T140, RED)
        text = ""
        for now, i in arriving:
            while receiver.timer_at is not None and receiver.timer_at <= now:
                text += text_of(receiver.handle_timer(receiver.timer_at))
            text += text_of(receive(receiver, sent[i][1], now))
        text += text_of(receiver.handle_timer(1 << 29))
        # What is there, by itself or repeated by one of the next; it begins with what the first to come repeats.
        there = set([i for _, i in arriving])
        first = max(0, arriving[0][1] - generations)
        blocks = typist.primaries()
        expected = ""
        marks = run = 0
        for i in range(first, max(there) + 1):
            if [j for j in range(i, i + generations + 1) if j in there]:
                expected += "\ufffd" * min(run, 64)
                run = 0
                expected += blocks[i].decode().replace("\ufeff", "")
            else:
                run += 1
                marks += 1
        self.assertEqual(text, expected, (generations, percent, seed))
        return len(sent) - len(there), marks


class FuzzTest(unittest.TestCase):
    def test_damaged(self):
        """Nothing but ParseError, whatever comes; what is kept stays small, and afterwards good text is taken."""
        random.seed(7)
        seeds = [
            unhex(packet["hex"]) for case in load("t140/sequences.json")["sequences"][:-1] for packet in case["packets"]
        ]
        receiver = TextReceiver(T140, RED)
        now = taken = 0
        for _ in range(4000):
            packet = bytearray(random.choice(seeds))
            for _ in range(random.randrange(4)):
                packet[random.randrange(len(packet))] = random.getrandbits(8)
            if random.randrange(5) == 0:
                packet = packet[: random.randrange(len(packet) + 1)]
            now += random.randrange(400)
            try:
                found = receive(receiver, packet, now)
                taken += 1
            except ParseError:
                continue
            for source, text in found:
                self.assertEqual(len(source), 4)
                self.assertTrue(0 < len(text) < 3000)
            if receiver.timer_at is not None and random.randrange(3):
                receiver.handle_timer(now)
            self.assertTrue(len(receiver._streams) <= 4)
            for stream in receiver._streams:
                self.assertTrue(len(stream.held) <= 16 and len(stream.sources) <= 8)
        self.assertTrue(taken > 1000, taken)
        self.assertEqual(receive(receiver, rtp(5, 0, b"ok", T140, b"", b"new!"), now), [(b"new!", "ok")])


if __name__ == "__main__":
    unittest.main()
