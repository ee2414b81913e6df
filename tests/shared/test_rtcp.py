import random
import unittest

from sipwire.errors import ParseError
from sipwire.reception import Reception
from sipwire.rtcp import (
    BYE,
    RR,
    SDES,
    SR,
    block,
    blocks,
    build,
    cname,
    collides,
    interval_ms,
    note_report,
    parse,
    round_trip_ms,
    sender_info,
    sources,
)
from sipwire.rtp import build_header
from support import unhex as unhex_of


def unhex(text):
    return unhex_of(text.replace(" ", ""))


OURS = 0x12345678
THEIRS = 0xCAFEBABE

# Written by hand after RFC 3550 sections 6.4.1, 6.5 and 6.6.
REPORT = unhex(
    "81c8000c 12345678"  # SR, one block
    "0000007b 74bc6a7e"  # 123.456 s: .456 * 2^32 = 0x74bc6a7e
    "fffffff0 00000102 00005000"  # RTP timestamp, packets, octets
    "cafebabe 40 ffffff 0001fffe 00000026 00010000 00008000"
    "81ca0003 12345678 0104 61626364 0000"  # SDES: CNAME abcd, the end, padding
    "81cb0001 12345678"  # BYE
)  # fmt: skip
BLOCK = (THEIRS, 0x40, -1, 0x1FFFE, 0x26, 0x10000, 0x8000)


class BuildTest(unittest.TestCase):
    def test_report(self):
        packet = bytearray(b"\xaa" * 100)
        size = build(packet, OURS, b"abcd", 123456, (0x102, 0x5000, 0xFFFFFFF0), (BLOCK,), True)
        self.assertEqual(bytes(packet[:size]), REPORT)
        self.assertEqual(bytes(packet[size:]), b"\xaa" * (100 - size))
        exact = bytearray(size)
        self.assertEqual(build(exact, OURS, b"abcd", 123456, (0x102, 0x5000, 0xFFFFFFF0), (BLOCK,), True), size)

    def test_nothing_sent_is_a_receiver_report(self):
        packet = bytearray(24)
        self.assertEqual(build(packet, OURS, b"abc", 5), 24)
        self.assertEqual(bytes(packet), unhex("80c900011234567881ca0003123456780103616263000000"))

    def test_every_cname(self):
        for length in range(1, 256):
            packet = bytearray(300)
            name = bytes([65 + length % 26]) * length
            size = build(packet, OURS, name, 0)
            # Section 6.5: the SSRC, the item, a zero at least, and on to the next word.
            self.assertEqual(size, 8 + 4 + (4 + 2 + length + 1 + 3) // 4 * 4)
            self.assertEqual(packet[size - 1], 0)
            parts = parse(packet, size)
            self.assertEqual([part[0] for part in parts], [RR, SDES])
            self.assertEqual(cname(packet, parts[1]), name)

    def test_what_does_not_fit(self):
        for arguments in (
            (bytearray(23), OURS, b"abc", 0),
            (bytearray(100), OURS, b"", 0),
            (bytearray(400), OURS, b"x" * 256, 0),
            (bytearray(2000), OURS, b"abc", 0, None, (BLOCK,) * 32),
        ):
            self.assertRaises(ValueError, build, *arguments)
        packet = bytearray(2000)
        size = build(packet, OURS, b"abc", 0, None, (BLOCK,) * 31)
        self.assertEqual(blocks(packet, parse(packet, size)[0]), [BLOCK] * 31)


class ParseTest(unittest.TestCase):
    def test_report(self):
        parts = parse(REPORT, len(REPORT))
        self.assertEqual(parts, [(SR, 1, 0, 52), (SDES, 1, 52, 68), (BYE, 1, 68, 76)])
        self.assertEqual(sender_info(REPORT, parts[0]), (OURS, 0x007B74BC, 0xFFFFFFF0, 0x102, 0x5000))
        self.assertEqual(blocks(REPORT, parts[0]), [BLOCK])
        self.assertEqual([sources(REPORT, part) for part in parts], [[OURS]] * 3)
        self.assertEqual(cname(REPORT, parts[1]), b"abcd")

    def test_others(self):
        """Unknown types are passed over; profile extensions of a report, reasons of a BYE and empty lists are fine."""
        empty = unhex("80c9000100000001")
        for text, kinds in (
            ("80cc0002000000016e616d65", [RR, 204]),  # APP
            ("81cd00020000000100000002", [RR, 205]),  # feedback
            ("80ca0000", [RR, SDES]),
            ("80cb0000", [RR, BYE]),
            ("82cb000400000001000000020462796521000000", [RR, BYE]),
            ("80c900020000000112345678", [RR, RR]),
            ("a0c900020000000100000004", [RR, RR]),  # padding
            ("81ca00040000000102016201027a7a0000000000", [RR, SDES]),  # NAME, then CNAME
            ("82ca00050000000101016100000000020101620000000000", None),  # a word too many
        ):
            packet = empty + unhex(text)
            if kinds is None:
                # What is behind the chunks that are counted is nobody's business.
                self.assertEqual([part[0] for part in parse(packet, len(packet))], [RR, SDES])
            else:
                self.assertEqual([part[0] for part in parse(packet, len(packet))], kinds, text)
        packet = empty + unhex("81ca00040000000102016201027a7a0000000000")
        self.assertEqual(cname(packet, parse(packet, len(packet))[1]), b"zz")
        packet = empty + unhex("82ca000400000001010161000000000201016200")
        self.assertEqual(sources(packet, parse(packet, len(packet))[1]), [1, 2])
        self.assertEqual(cname(packet, parse(packet, len(packet))[1]), b"a")
        packet = empty + unhex("81ca0002 00000001 02016200")
        self.assertEqual(cname(packet, parse(packet, len(packet))[1]), b"")
        packet = empty + unhex("82cb00020000000500000006")
        self.assertEqual(sources(packet, parse(packet, len(packet))[1]), [5, 6])
        packet = empty + unhex("80ca0000") + unhex("80cc0000")
        parts = parse(packet, len(packet))
        self.assertEqual((cname(packet, parts[1]), sources(packet, parts[1]), sources(packet, parts[2])), (b"", [], []))

    def test_padding_is_left_out(self):
        packet = unhex("80c9000100000001a0cb00021234567800000004")
        packet = packet.replace(b"\xa0\xcb", b"\xa1\xcb")
        self.assertEqual(parse(packet, len(packet)), [(RR, 0, 0, 8), (BYE, 1, 8, 16)])

    def test_invalid(self):
        empty = "80c9000100000001"
        for text in (
            "",
            "80",
            "80c900",
            "80c90000",  # no SSRC
            "00c9000100000001",  # version 0
            "40c9000100000001",
            "80c9000200000001",  # longer than it is
            "81c9000100000001",  # a block that is not there
            "81c9000600000001" + "00" * 20,
            "80c8000100000001",  # no sender info
            "80c8000500000001" + "00" * 16,
            "80ca0000",  # begins with something else
            "80cb0000",
            "80cc0002000000016e616d65",
            empty + "80",
            empty + "80c9",
            empty + "00000000",
            empty + "80cc0001",
            "a0c900020000000100000004" + empty,  # padding before the end
            "a0c900020000000100000000",
            "a0c900020000000100000003",
            "a0c90002000000010000000c",
            "a0c900020000000100000008",  # the padding holds the SSRC
            empty + "81cb0000",  # BYE of nobody
            empty + "80cb000104616263",  # a reason that runs over
            empty + "81ca0000",  # SDES without a chunk
            empty + "81ca000100000001",  # without an end
            empty + "81ca00020000000101026162",
            empty + "81ca0002000000010103616200"[:-2],
            empty + "81ca00020000000101016101",  # an item without a length
            empty + "82ca00020000000101016100",  # a second chunk that is not there
            empty * 17,
        ):
            packet = unhex(text)
            self.assertRaises(ParseError, parse, packet, len(packet))
        self.assertEqual(len(parse(unhex(empty * 16), 128)), 16)
        for size in range(len(REPORT)):
            if size not in (52, 68):
                self.assertRaises(ParseError, parse, REPORT[:size], size)

    def test_collision(self):
        parts = parse(REPORT, len(REPORT))
        self.assertTrue(collides(REPORT, parts, OURS))
        self.assertFalse(collides(REPORT, parts, THEIRS))  # it is reported on, and does not speak
        for text in ("81cb0001cafebabe", "81ca0002cafebabe01016100", "80c90001cafebabe"):
            packet = unhex("80c9000100000001" + text)
            self.assertTrue(collides(packet, parse(packet, len(packet)), THEIRS), text)


class TimeTest(unittest.TestCase):
    def test_round_trip_of_the_rfc(self):
        """Figure 2 of section 6.4.1: A is 0xb710:8000, LSR 0xb705:2000, DLSR 5.25 s: there and back in 6.125 s."""
        now = 0xB710 * 1000 + 500
        self.assertEqual(round_trip_ms(0xB7052000, 0x00054000, now), 6125)
        self.assertEqual(round_trip_ms(0, 0x00054000, now), -1)
        self.assertEqual(round_trip_ms(0xB7108001, 0, now), -1)  # from the future
        self.assertEqual(round_trip_ms(0xB7108000, 0, now), 0)

    def test_two_parties(self):
        """Reports between two clocks that know nothing of each other."""
        random.seed(641)
        for _ in range(200):
            far, near = random.getrandbits(29), random.getrandbits(29)
            there, held, back = random.randrange(400), random.randrange(20000), random.randrange(400)
            packet = bytearray(100)
            size = build(packet, OURS, b"a", near, (1, 2, 3))
            reception = Reception(8)
            info = sender_info(packet, parse(packet, size)[0])
            note_report(reception, info[1], far + there)
            size = build(packet, THEIRS, b"b", far, None, (block(reception, OURS, far + there + held),))
            report = blocks(packet, parse(packet, size)[0])[0]
            self.assertEqual(report[5], info[1])
            trip = round_trip_ms(report[5], report[6], near + there + held + back)
            self.assertTrue(abs(trip - there - back) <= 1, (trip, there, back))

    def test_interval(self):
        self.assertEqual(interval_ms(0), 2052)  # 5 s * 0.5 / 1.21828
        self.assertEqual(interval_ms(0xFFFF), 6156)
        self.assertEqual(interval_ms(0, True), 1026)
        self.assertEqual(interval_ms(0x8000), 4104)
        # Two reports of 148 bytes at 20 bytes a second take 14.8 s.
        self.assertEqual(interval_ms(0x8000, False, 148, 20), 12148)
        self.assertEqual(interval_ms(0x8000, False, 148, 400), 4104)

    def test_interval_with_reconsideration(self):
        """Section 6.3.6: drawn again when it is over, so that in the mean it is 5 s after all."""
        random.seed(5)
        total = 0
        for _ in range(4000):
            waited = interval_ms(random.getrandbits(16))
            while True:
                again = interval_ms(random.getrandbits(16))
                if again <= waited:
                    break
                waited = again
            total += waited
        self.assertTrue(4850 < total / 4000 < 5150, total / 4000)


class FuzzTest(unittest.TestCase):
    def test_damaged_and_random(self):
        random.seed(12)
        taken = 0
        for i in range(4000):
            packet = bytearray(REPORT if i % 4 else [random.getrandbits(8) for _ in range(random.randrange(80))])
            for _ in range(random.randrange(4)):
                if packet:
                    packet[random.randrange(len(packet))] = random.getrandbits(8)
            size = random.randrange(len(packet) + 1) if i % 3 == 0 else len(packet)
            packet = packet[:size]
            try:
                parts = parse(packet, size)
            except ParseError:
                continue
            taken += 1
            self.assertEqual(parts[0][2], 0)
            for part in parts:
                sources(packet, part)
                if part[0] in (SR, RR):
                    blocks(packet, part)
                if part[0] == SR:
                    sender_info(packet, part)
                if part[0] == SDES:
                    cname(packet, part)
            collides(packet, parts, 1)
        self.assertTrue(taken > 500, taken)


class LossyCallTest(unittest.TestCase):
    def test_what_is_reported_is_what_was_lost(self):
        """A minute of audio with a tenth of it lost: the fractions of all reports make up the count of the last."""
        random.seed(77)
        reception = Reception(8)
        packet = bytearray(172)
        there = lost = 0
        weighed = 0.0
        for seq in range(65000, 65000 + 3000):
            now = 20 * (seq - 65000)
            if seq == 65000 or random.randrange(10):
                build_header(packet, 0, seq & 0xFFFF, 160 * seq & 0xFFFFFFFF, THEIRS)
                reception.receive(packet, now)
                there += 1
            if seq % 250 == 249:
                before = reception.expected_prior
                report = block(reception, THEIRS, now)
                weighed += report[1] / 256 * (reception.expected_prior - before)
                lost = report[2]
        self.assertEqual(lost, reception.expected_prior - reception.received_prior)
        self.assertTrue(abs(weighed - lost) < 14, (weighed, lost))
        self.assertTrue(200 < lost < 400)


if __name__ == "__main__":
    unittest.main()
