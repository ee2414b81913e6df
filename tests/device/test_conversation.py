"""Real-time text in a call (T.140 by RFC 4103): what is sent and read, packet by packet, and who may have written it."""

import unittest

from far import FarMedia
from streamed import (
    BUFFER_MS,
    FAR,
    OUR_TEXT,
    OURS,
    RED,
    T140,
    TEXT_PORT,
    THEIR_TEXT,
    FarReports,
    FarText,
    TextCase,
    plain,
    speech,
    text,
)

from sipwire.errors import SecurityError
from sipwire.rtp import build_header
from sipwire.text import TextSender

BOM = b"\xef\xbb\xbf"
WAIT_MS = 1000  # for what is lost


class SentTest(TextCase):
    def test_red(self):
        """RFC 4103: a byte order mark first, what is typed every 300 ms, in three packets each; then silence."""
        self.start(text())
        start = self.now
        self.run_for(100)
        self.media.write("a", self.now)
        self.run_for(300)
        self.media.write("b\u20ac", self.now)
        self.run_for(5000)
        packets = self.opened()
        self.assertEqual([when - start for when, _, _, _, _, _ in packets], [0, 300, 600, 900, 1200])
        first = packets[0]
        blocks = [BOM, b"a", "b\u20ac".encode(), b"", b""]
        for i, (when, kind, marker, payload, timestamp, seq) in enumerate(packets):
            self.assertEqual((kind, marker, seq), (RED, i == 0, first[5] + i & 0xFFFF))
            self.assertEqual(timestamp, first[4] + when - first[0] & 0xFFFFFFFF)
            expected = b""
            for age in (2, 1):
                if i >= age:
                    offset, size = 300 * age, len(blocks[i - age])
                    header = (0x80 | T140) << 24 | offset << 10 | size
                    expected += header.to_bytes(4, "big")
            expected += bytes([T140]) + b"".join(blocks[max(0, i - 2) : i + 1])
            self.assertEqual(payload, expected)

    def test_as_much_redundancy_as_the_far_end_takes(self):
        for generations, lengths in ((1, [4, 9, 9, 8]), (2, [4, 9, 16, 13, 12]), (5, [4, 9, 16, 13, 12])):
            one = text()
            one.generations = generations
            self.start(one)
            self.run_for(100)
            self.media.write("a", self.now)
            self.run_for(300)
            self.media.write("bcd", self.now)
            self.run_for(5000)
            self.assertEqual([len(payload) for _, _, _, payload, _, _ in self.opened()], lengths)
            self.media.stop()
            self.setUp()

    def test_plain_t140(self):
        """Where the far end has no redundancy; an empty packet follows, by which a loss shows."""
        self.start(text(red=-1))
        self.other = FarText(-1)
        self.media.write("Hi", self.now)
        self.run_for(5000)
        packets = self.opened()
        self.assertEqual([(kind, payload) for _, kind, _, payload, _, _ in packets], [(T140, BOM + b"Hi"), (T140, b"")])

    def test_after_a_pause(self):
        """The marker bit, and at once."""
        self.begin()
        self.run_for(10000)
        start = self.now
        self.media.write("x", self.now)
        self.run_for(900)
        packets = self.opened()
        self.assertEqual(
            [(when - start, marker) for when, _, marker, _, _, _ in packets], [(0, True), (300, False), (600, False)]
        )

    def test_keys(self):
        """Enter, backspace, the bell and any script, as they are typed; other controls do nothing."""
        self.begin()
        for typed, expected in (
            ("ab\x7f", "ab\b"),
            ("\b\b", "\b\b"),
            ("one\ntwo\r\nthree\r", "one\u2028two\u2028three\u2028"),
            ("\a", "\a"),
            ("\x00\x1b\t\x9b\u0645\u0631\u062d\u0628\u0627 \U0001f600", "\u0645\u0631\u062d\u0628\u0627 \U0001f600"),
        ):
            self.media.write(typed, self.now)
            self.run_for(1000)
            self.assertEqual(self.got(), expected)

    def test_any_one_lost_packet(self):
        self.begin()
        for letter in "what is lost":
            self.media.write(letter, self.now)
            self.run_for(BUFFER_MS)
        self.run_for(1000)
        sent = self.sent(2)
        for lost in range(len(sent) - 1):
            reader = FarText()
            found = ""
            for i, (when, datagram, _) in enumerate(sent):
                if i != lost and i != lost + 1:  # two generations make up for two in a row
                    found += reader.read(datagram, when)
            self.assertEqual(found, "what is lost")

    def test_under_another_ssrc(self):
        """What was sent under the last one is not sent again: it would be shown twice."""
        self.start(text(rtcp_port=TEXT_PORT + 1))
        self.run_for(900)
        self.got()
        self.media.write("seen", self.now)
        self.run_for(BUFFER_MS)
        stream = self.stream(b"text")
        before = stream.ssrc
        self.receive(3, FarReports(OUR_TEXT, THEIR_TEXT, ssrc=before).packet())
        first = self.got()
        self.other.receiver.allow_source()
        self.media.report(self.now)
        self.assertNotEqual(stream.ssrc, before)
        self.media.write(" once", self.now)
        self.run_for(900)
        self.assertEqual(first + self.got(), "seen once")

    def test_pasted(self):
        """1000 characters at once arrive whole, at no more than the far end takes a second."""
        for words in ("0123456789" * 100, "\u4e2d\u6587" * 500):
            self.again()
            self.begin()
            start = self.now
            self.media.write(words, start)
            found = ""
            for second in range(1, 60):
                self.run_for(1000)
                found += self.got()
                self.assertLessEqual(len(found), 30 * (second + 1))
                if len(found) == 1000:
                    break
            self.assertEqual(found, words)
            self.assertLess(self.now - start, 45000)

    def test_too_much(self):
        """What somebody pastes again while a page still waits is refused, and nothing of it is sent."""
        self.begin()
        self.media.write("a" * 2000, self.now)
        self.assertRaises(ValueError, self.media.write, "b", self.now)
        found = ""
        for _ in range(80):
            self.run_for(1000)
            found += self.got()
        self.assertEqual(found, "a" * 2000)
        self.media.write("b", self.now)

    def test_cps(self):
        """The mean of any ten seconds is what the far end takes (RFC 4103 section 6)."""
        self.begin(cps=6)
        self.media.write("x" * 300, self.now)
        counts = []
        for _ in range(30):
            self.run_for(1000)
            counts.append(len(self.got()))
        for i in range(20):
            self.assertLessEqual(sum(counts[i : i + 10]), 60)
        self.assertGreater(sum(counts), 150)

    def test_directions(self):
        """On hold nothing is sent; what was typed goes out afterwards."""
        for direction, talks in ((b"recvonly", True), (b"inactive", True), (b"sendrecv", False), (b"sendonly", False)):
            self.again()
            self.begin()
            self.media.start([text(direction=direction)], self.now, talks)
            self.media.write("later", self.now)
            self.run_for(20000)
            self.assertEqual(self.sent(2), [])
            self.media.start([text()], self.now)
            self.run_for(1000)
            self.assertEqual(self.got(), "later")

    def test_on_hold_while_something_is_missing(self):
        """What is waited for is shown in its time, and nothing is sent by that."""
        self.begin()
        packets = self.packets("abcdefgh", 8)
        self.media.start([text(direction=b"recvonly")], self.now)
        self.media.write("later", self.now)
        self.comes(packets[0], packets[5])
        self.run_for(2 * WAIT_MS)
        self.assertEqual((self.read(), self.sent(2)), ("a\ufffd\ufffddef", []))

    def test_not_before_the_peer_has_our_keys(self):
        for how in ("go", "packet"):
            self.again()
            self.start(text(), go=False)
            self.media.write("secret", self.now)
            self.comes(bytes(80), b"\x80" + bytes([RED]) + bytes(100))
            self.run_for(5000)
            self.assertEqual(self.sent(2), [])
            if how == "go":
                self.media.go(self.now)
            else:
                self.comes(*self.other.due(self.now))
            self.run_for(1000)
            self.assertEqual(self.got(), "secret")

    def test_own_keys(self):
        """Neither stream opens with the other's, and nothing is in the clear."""
        self.start(speech(), text())
        self.media.write("in the clear", self.now)
        self.run_for(400)
        said, written = self.sent(0), self.sent(2)
        self.assertTrue(len(said) > 10 and len(written) > 1)
        for _, datagram, address in written:
            self.assertEqual(address, (FAR, TEXT_PORT))
            self.assertNotIn(b"clear", datagram)
            self.assertRaises(SecurityError, FarMedia(OURS).open, datagram)
        for _, datagram, _ in said:
            self.assertRaises(SecurityError, FarMedia(OUR_TEXT).open, datagram)
        self.assertEqual("".join([self.other.read(datagram, when) for when, datagram, _ in written]), "in the clear")

    def test_without_text(self):
        self.assertRaises(ValueError, self.media.write, "x", self.now)
        self.start(speech())
        self.assertRaises(ValueError, self.media.write, "x", self.now)
        self.media.stop()
        self.assertRaises(ValueError, self.media.write, "x", self.now)

    def test_without_srtp(self):
        """Where that was agreed on."""
        self.start(plain(text()))
        self.other = FarText(suite=b"")
        self.media.write("open", self.now)
        self.run_for(1000)
        self.assertEqual(self.got(), "open")


class ReceivedTest(TextCase):
    def test_as_it_is_typed(self):
        """One event for each packet that has something new."""
        self.begin()
        for word in ("Hel", "lo ", "\u20ac"):
            self.types(word, 0)
        self.run_for(1000)
        self.assertEqual(self.printed.lines[-3][:17], '{"event": "text",')
        self.assertEqual(self.shown(), [{"text": "Hel"}, {"text": "lo "}, {"text": "\u20ac"}])

    def test_plain_t140(self):
        self.start(text(red=-1))
        self.other = FarText(-1)
        self.types("Hello")
        self.assertEqual(self.read(), "Hello")

    def test_t140_beside_red(self):
        """RFC 4103 section 4.2: who has agreed on both may send either."""
        self.start(text())
        self.other = FarText(-1)
        self.types("Hello")
        self.assertEqual(self.read(), "Hello")

    def test_screen(self):
        """Backspace, new line, bell; and what is for machines is not shown."""
        self.begin()
        for words, event in (
            ("helo", {"text": "helo"}),
            ("\blo", {"text": "lo", "erased": 1}),
            ("\b\b\b\b\b\b\b", {"text": "", "erased": 5}),
            ("one\u2028two\r\nthree\n", {"text": "one\ntwo\nthree\n"}),
            ("\b", {"text": "", "erased": 1}),
            ("x\b", None),
            ("\a\a", {"text": "", "bells": 2}),
            ("a\ab", {"text": "ab", "bells": 1}),
            ("\x1b[31mred\x1b[0m", {"text": "red"}),
            ("\u0645\u0631\U0001f600", {"text": "\u0645\u0631\U0001f600"}),
        ):
            self.types(words)
            shown = [one for one in self.shown() if one != {"text": ""}]
            self.assertEqual(shown, [event] if event else [])

    def test_lost_and_recovered(self):
        """Two in a row are in the redundancy of the third: nothing is missing, nothing comes twice."""
        words = "redundancy"
        for lost in range(10):
            self.again()
            self.begin()
            packets = self.packets(words, 12)
            del packets[lost : lost + 2]
            for packet in packets:
                self.comes(packet)
                self.run_for(BUFFER_MS)
            self.run_for(2000)
            self.assertEqual(self.read(), words)

    def test_lost_for_good(self):
        """U+FFFD for each packet of which nothing is left (T.140 Addendum 1), after a second."""
        self.begin()
        packets = self.packets("abcdefgh", 10)
        self.comes(packets[0])
        self.comes(packets[5])  # b is gone for good, and so is c; d to f stand here
        self.assertEqual(self.read(), "a")
        self.run_for(WAIT_MS - 1)
        self.assertEqual(self.shown(), [])
        self.run_for(1)
        self.assertEqual(self.read(), "\ufffd\ufffddef")
        for packet in packets[6:]:
            self.comes(packet)
        self.assertEqual(self.read(), "gh")

    def test_a_forged_packet_makes_no_other_writer(self):
        """What waited for a loss is of who wrote it, whatever has come and failed meanwhile."""
        self.begin()
        packets = self.packets("abcdefgh", 10)
        self.comes(packets[0], packets[5])
        self.comes(b"\x80" + bytes([RED]) + bytes(100))
        self.run_for(WAIT_MS)
        self.assertEqual(self.read(), "a\ufffd\ufffddef")

    def test_out_of_order_and_doubled(self):
        self.begin()
        packets = self.packets("abcdef", 8)
        for i in (0, 2, 1, 2, 5, 3, 4, 4, 7, 6):
            self.comes(packets[i])
        self.assertEqual(self.read(), "abcdef")
        self.assertEqual(self.media.stop()["text"]["rejected"], 2)  # replays

    def test_bad_packets(self):
        """Counted, and nothing else; text goes on."""
        self.begin()
        self.types("a")
        good = self.packets("b", 1)[0]
        thief = FarText(key=bytes(30), seq=self.other.seq)
        thief.write("lies", self.now)
        bad = [
            b"",
            b"\x80",
            good[:-1],
            good[:30],
            good + b"\0",
            bytes(len(good)),
            FarMedia(OURS, ssrc=self.other.ssrc, seq=self.other.seq).packet(b"\x62lies", RED),  # the speech's key
            bytes(800),
        ]
        bad += thief.due(self.now)
        bad += [good[:i] + bytes([good[i] ^ 1 << i % 8]) + good[i + 1 :] for i in range(len(good))]
        self.comes(*bad)
        self.assertEqual(self.read(), "a")
        self.comes(good, good)
        self.assertEqual(self.read(), "b")
        self.assertEqual(self.media.stop()["text"]["rejected"], len(bad) + 1)

    def test_malformed_payloads(self):
        """Authentic, and no text: another payload type, redundancy of something else or longer than it is."""
        self.begin()
        far = FarMedia(OUR_TEXT, THEIR_TEXT, ssrc=self.other.ssrc, seq=self.other.seq, payload_type=RED)
        far.sender = self.other.sender
        payloads = (
            (b"x", 0),
            (b"x", 96),
            (b"", RED),
            (b"\xe2\0\4\xff", RED),
            (b"\xe1\0\4\1\x62ab", RED),
            (b"\x61a", RED),
        )
        self.comes(*[far.packet(payload, kind) for payload, kind in payloads])
        self.assertEqual(self.shown(), [])
        self.assertEqual(self.media.stop()["text"]["rejected"], len(payloads))

    def test_no_utf8(self):
        self.begin()
        far = FarMedia(OUR_TEXT, THEIR_TEXT, ssrc=self.other.ssrc, seq=self.other.seq, payload_type=T140)
        far.sender = self.other.sender
        self.comes(far.packet(b"a\xff\xc3b"))
        [event] = self.shown()
        self.assertEqual(event["text"].replace("\ufffd", ""), "ab")
        self.assertIn("\ufffd", event["text"])

    def test_on_hold(self):
        """Who has been put on hold is not shown."""
        for direction in (b"sendonly", b"inactive"):
            self.again()
            self.begin()
            self.media.start([text(direction=direction)], self.now, False)
            self.types("unseen")
            self.run_for(2000)
            self.assertEqual(self.shown(), [])

    def test_mixer(self):
        """RFC 9071: several write in one stream, each with a source of its own, by CSRC; redundancy works for each."""
        self.begin()
        writers = {}
        for source in (0x0A0B0C0D, 0x01020304):
            writers[source] = TextSender(T140, self.now, RED, 2, 1000, 5)
        script = [(0x0A0B0C0D, "Hi all"), (0x01020304, "Hello"), (0x0A0B0C0D, "!"), (0x01020304, "\b\bp")]
        packets = []
        for source, words in script:
            writers[source].write(words, self.now)
            packet = bytearray(800)
            size = writers[source].build(packet, 16, self.now)
            build_header(packet, RED, self.other.seq, writers[source].timestamp, self.other.ssrc)
            packet[0] |= 1
            packet[12:16] = source.to_bytes(4, "big")
            self.other.seq = self.other.seq + 1 & 0xFFFF
            packets.append(bytes(packet[: self.other.sender.protect(packet, 16 + size)]))
            self.now += BUFFER_MS
        del packets[0]  # its text is in the third, too
        self.comes(*packets)
        self.assertEqual(
            self.shown(),
            [
                {"text": "Hello", "source": "01020304"},
                {"text": "Hi all!", "source": "0a0b0c0d"},
                {"text": "p", "erased": 2, "source": "01020304"},
            ],
        )

    def test_many_writers(self):
        """A flood of sources takes no more memory than a few have."""
        self.begin()
        for i in range(40):
            packet = bytearray(60)
            build_header(packet, T140, self.other.seq, 1000 + i, self.other.ssrc)
            packet[0] |= 1
            packet[12:16] = bytes([9, 9, 9, i])
            packet[16] = 0x61
            self.other.seq = self.other.seq + 1 & 0xFFFF
            self.comes(bytes(packet[: self.other.sender.protect(packet, 17)]))
        self.assertEqual(len(self.shown()), 40)
        self.assertLessEqual(len(self.part(b"text")._screens), 4)

    def test_without_srtp(self):
        """From the signalled address alone."""
        self.start(plain(text()))
        self.other = FarText(suite=b"")
        self.other.write("open", self.now)
        [packet] = self.other.due(self.now)
        for source in ((b"203.0.113.66", TEXT_PORT), (FAR, TEXT_PORT + 1), (FAR, 30000)):
            self.comes(packet, source=source)
        self.assertEqual(self.shown(), [])
        self.comes(packet)
        self.assertEqual(self.read(), "open")
        self.assertEqual(self.media.stop()["text"]["rejected"], 3)


if __name__ == "__main__":
    unittest.main()
