import unittest

from ends import CM32, CM80, CM256, KEY_A, KEY_B, answer_to, offer, speaks
from sipwire.compat import b64encode
from sipwire.errors import ParseError
from sipwire.sdp import Session
from sipwire.setup_keys import MediaKeys
from sipwire.streams import OFF, OPPORTUNISTIC

LINE = b"1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
VIDEO = b"m=video 5000 RTP/SAVP 99\r\na=crypto:" + LINE + b"\r\n"
TEXT = b"m=text 4002 RTP/SAVP 98\r\na=rtpmap:98 t140/1000\r\na=crypto:" + LINE + b"\r\n"


def parts(text):
    """What comes before the media of a description, and its media."""
    head, _, media = text.partition(b"m=")
    return head, b"m=" + media


def audio(**changes):
    return offer(**changes).serialize()


class Case(unittest.TestCase):
    def refused(self, body, why, spoken=None, **changes):
        """Nothing is agreed on, and the reason says why."""
        with self.assertRaises(ParseError) as caught:
            answer_to(body, spoken, **changes)
        self.assertEqual((caught.exception.status, caught.exception.reason), (488, why))


class StreamsTest(Case):
    def test_one_of_audio_and_one_of_text(self):
        """In any order; every other line is refused in its place."""
        head, first = parts(audio())
        more = b"m=audio 6000 RTP/SAVP 0\r\na=crypto:" + LINE + b"\r\n"
        for body, ports, kinds in (
            (first + TEXT, [5000, 5002], [b"audio", b"text"]),
            (TEXT + first, [5002, 5000], [b"text", b"audio"]),
            (VIDEO + TEXT + more + first + TEXT, [0, 5002, 5000, 0, 0], [b"text", b"audio"]),
            (first + VIDEO, [5000, 0], [b"audio"]),
            (TEXT, [5002], [b"text"]),
            (TEXT.replace(b"4002", b"0") + first, [0, 5000], [b"audio"]),
            (first.replace(b"4000", b"0") + TEXT, [0, 5002], [b"text"]),
            (b"m=message 5 TCP/MSRP *\r\n" + first, [0, 5000], [b"audio"]),
        ):
            with self.subTest(ports):
                answer, agreed = answer_to(head + body, speaks(5000, first=100, text_port=5002))
                self.assertEqual([media.port for media in answer.media], ports)
                self.assertEqual([one.kind for one in agreed], kinds)
                theirs = Session.parse(head + body).media
                self.assertEqual([media.kind for media in answer.media], [media.kind for media in theirs])
                self.assertEqual([media.proto for media in answer.media], [media.proto for media in theirs])
                for one in agreed:
                    self.assertEqual((answer.media[one.index].kind, theirs[one.index].port), (one.kind, one.port))
                self.assertEqual(len({one.local_key for one in agreed}), len(agreed))

    def test_what_we_do_not_speak(self):
        head, first = parts(audio())
        answer, [agreed] = answer_to(head + first + TEXT)
        self.assertEqual(([media.port for media in answer.media], agreed.kind), ([5000, 0], b"audio"))
        mute = speaks(0, (), text_port=5002)
        answer, [agreed] = answer_to(head + first + TEXT, mute)
        self.assertEqual(([media.port for media in answer.media], agreed.kind), ([0, 5002], b"text"))
        self.refused(head + TEXT, "no audio")
        self.refused(head + first, "no text", mute)
        self.refused(head, "no audio")

    def test_refused_sections_keep_their_formats(self):
        text = audio() + b"m=video 9/2 RTP/AVP 31 32\r\na=rtpmap:31 H261/90000\r\n"
        self.assertIn(b"m=video 0 RTP/AVP 31 32\r\n", answer_to(text)[0].serialize())

    def test_direction(self):
        for theirs, mine in ((b"sendonly", b"recvonly"), (b"recvonly", b"sendonly"), (b"inactive", b"inactive")):
            answer, [agreed] = answer_to(audio() + b"a=" + theirs + b"\r\n")
            self.assertEqual(agreed.direction, mine)
            self.assertEqual(answer.direction(answer.media[0]), mine)

    def test_direction_of_each(self):
        head, first = parts(audio())
        both = speaks(5000, text_port=5002)
        for body, directions in (
            (head + first + b"a=sendonly\r\n" + TEXT, [b"recvonly", b"sendrecv"]),
            (head + first + TEXT + b"a=inactive\r\n", [b"sendrecv", b"inactive"]),
            (head + b"a=sendonly\r\n" + first + TEXT, [b"recvonly", b"recvonly"]),
            (head + b"a=sendonly\r\n" + first + TEXT + b"a=sendrecv\r\n", [b"recvonly", b"sendrecv"]),
            (head + first + TEXT + b"c=IN IP4 0.0.0.0\r\n", [b"sendrecv", b"recvonly"]),
        ):
            answer, agreed = answer_to(body, both)
            self.assertEqual([one.direction for one in agreed], directions)
            self.assertEqual([answer.direction(media) for media in answer.media], directions)
        _, agreed = answer_to(head + first + TEXT, both, is_held=True)
        self.assertEqual([one.direction for one in agreed], [b"sendonly"] * 2)

    def test_hold(self):
        """RFC 3264 section 8.4: whoever is on hold hears nothing, in an offer, in an answer, and by 0.0.0.0."""
        for theirs, held, mine in (
            (b"sendrecv", True, b"sendonly"),
            (b"sendonly", True, b"inactive"),
            (b"recvonly", True, b"sendonly"),
            (b"inactive", True, b"inactive"),
            (b"sendonly", False, b"recvonly"),
        ):
            answer, [agreed] = answer_to(audio() + b"a=" + theirs + b"\r\n", is_held=held)
            self.assertEqual((agreed.direction, answer.direction(answer.media[0])), (mine, mine))
        for theirs, mine in ((b"sendrecv", b"recvonly"), (b"recvonly", b"inactive"), (b"sendonly", b"recvonly")):
            body = audio().replace(b"IP4 192.0.2.1", b"IP4 0.0.0.0") + b"a=" + theirs + b"\r\n"
            answer, [agreed] = answer_to(body)
            self.assertEqual((agreed.direction, answer.direction(answer.media[0])), (mine, mine))

    def test_rtcp(self):
        """`a=rtcp-mux` (RFC 5761) where both say so, `a=rtcp` (RFC 3605), or the next port."""
        for lines, spoken, port in (
            (b"", False, 4001),
            (b"", True, 4001),
            (b"a=rtcp-mux\r\n", False, 4001),
            (b"a=rtcp-mux\r\n", True, 4000),
            (b"a=rtcp:4000\r\na=rtcp-mux\r\n", True, 4000),
            (b"a=rtcp:53020\r\n", False, 53020),
            (b"a=rtcp:53020\r\na=rtcp-mux\r\n", False, 53020),
            (b"a=rtcp:53020 IN IP4 192.0.2.1\r\n", True, 53020),
            (b"a=rtcp:53020 IN IP4 192.0.2.9\r\n", True, 0),
            (b"a=rtcp:0\r\n", True, 0),
            (b"a=rtcp:4000\r\n", True, 0),
            (b"a=rtcp-mux:x\r\n", True, 4001),
        ):
            with self.subTest(repr(lines)):
                answer, [agreed] = answer_to(audio() + lines, speaks(5000, mux=spoken))
                self.assertEqual(agreed.rtcp_port, port)
                self.assertEqual(b"a=rtcp-mux\r\n" in answer.serialize(), port == 4000)
        _, [agreed] = answer_to(audio().replace(b"4000", b"65535"))
        self.assertEqual(agreed.rtcp_port, 0)
        for line in (b"a=rtcp:x\r\n", b"a=rtcp:65536\r\n", b"a=rtcp\r\n"):
            self.assertRaises(ParseError, answer_to, audio() + line)

    def test_types_that_look_like_rtcp(self):
        """RFC 5761 section 4: not with 64 to 95, which RTCP packets seem to have."""
        for number in (64, 72, 95, 63, 96):
            text = TEXT.replace(b"98", b"%d" % number) + b"a=rtcp-mux\r\n"
            answer, [agreed] = answer_to(parts(audio())[0] + text, speaks(0, (), text_port=5002, mux=True))
            is_shared = agreed.rtcp_port == agreed.port
            self.assertEqual(is_shared, number in (63, 96))
            self.assertEqual(b"a=rtcp-mux\r\n" in answer.serialize(), is_shared)


class FormatsTest(Case):
    def test_codecs(self):
        text = audio()
        for old, new, chosen in (
            (b" 0 8\r\n", b" 8 0\r\n", 8),
            (b"PCMU/8000", b"OPUS/48000", 8),
            (b"PCMU/8000", b"pcma/8000/1", 8),
            (b"PCMU/8000", b"pcmu/8000/1", 0),
            (b"PCMU/8000", b"pCmU/8000", 0),
            (b"a=rtpmap:0 PCMU/8000\r\n", b"", 0),
            (b"a=rtpmap:0 ", b"a=rtpmap:0 X/1\r\na=rtpmap:0 ", 8),
        ):
            body = text.replace(old, new)
            self.assertNotEqual(body, text)
            self.assertEqual(answer_to(body)[1][0].payload_type, chosen)
        for formats in (b" 3 18\r\n", b" 00 08\r\n", b" 256 8x\r\n"):
            self.refused(text.replace(b" 0 8\r\n", formats), "no codec")
        self.assertEqual(answer_to(text, speaks(5000, (8,)))[1][0].payload_type, 8)

    def test_formats_in_any_number(self):
        """The first that is ours is taken, however many stand before it, and one that means something else is not."""
        text = audio().replace(b" 0 8\r\n", b" 3" * 500 + b" 0" * 500 + b" 8\r\n")
        self.assertEqual(answer_to(text)[1][0].payload_type, 0)
        text = text.replace(b"a=rtpmap:0 PCMU/8000\r\n", b"a=rtpmap:1 X/1\r\n" * 90 + b"a=rtpmap:0 X/1\r\n")
        self.assertEqual(answer_to(text)[1][0].payload_type, 8)

    def test_events(self):
        """RFC 4733: with the payload type of the offerer's."""
        text = audio().replace(b" 0 8\r\n", b" 0 96\r\n")
        for line, chosen in (
            (b"a=rtpmap:96 telephone-event/8000\r\n", 96),
            (b"a=rtpmap:96 TELEPHONE-Event/8000\r\na=fmtp:96 0-16\r\n", 96),
            (b"a=rtpmap:96 telephone-event/16000\r\n", -1),
            (b"a=rtpmap:97 telephone-event/8000\r\n", -1),
            (b"", -1),
        ):
            answer, [agreed] = answer_to(text + line, speaks(5000, events=True))
            self.assertEqual((agreed.payload_type, agreed.event_type), (0, chosen))
            self.assertEqual(answer.media[0].formats, [b"0"] if chosen < 0 else [b"0", b"96"])
            self.assertEqual(answer.media[0].attributes(b"fmtp"), [] if chosen < 0 else [b"96 0-15"])
            _, [agreed] = answer_to(text + line)
            self.assertEqual(agreed.event_type, -1)
        alone = text.replace(b" 0 96", b" 96") + b"a=rtpmap:96 telephone-event/8000\r\n"
        self.refused(alone, "no codec", speaks(5000, events=True))

    def text(self, formats, *lines):
        """Bob's answer to an offer of text, and what he agreed to."""
        body = TEXT.replace(b" 98\r\na=rtpmap:98 t140/1000\r\n", b" " + formats + b"\r\n")
        body += b"".join([b"a=" + line + b"\r\n" for line in lines])
        answer, [agreed] = answer_to(parts(audio())[0] + body, speaks(0, (), text_port=5002))
        return answer.media[0], agreed

    def test_text(self):
        """RFC 4103 section 10: redundancy where its parameters validate, else T.140 alone; names in any case."""
        t140, red, both = b"rtpmap:98 t140/1000", b"rtpmap:100 red/1000", b"100 98"
        for formats, lines, plain, red_type, generations in (
            (both, (t140, red, b"fmtp:100 98/98/98"), 98, 100, 2),
            (b"98 100", (t140, red, b"fmtp:100 98/98/98"), 98, 100, 2),
            (both, (b"rtpmap:98 T140/1000", b"rtpmap:100 RED/1000", b"fmtp:100 98/98"), 98, 100, 1),
            (both, (t140, red, b"fmtp:100 98/98/98/98/98/98"), 98, 100, 5),
            (both, (t140, red, b"fmtp:100 98/98/98/98/98/98/98"), 98, -1, 0),
            (both, (t140, red, b"fmtp:100 98"), 98, -1, 0),
            (both, (t140, red), 98, -1, 0),
            (both, (t140, red, b"fmtp:100 98/98/97"), 98, -1, 0),
            (both, (t140, red, b"fmtp:100 97/97/97"), 98, -1, 0),
            (both, (t140, red, b"fmtp:100 100/100/100"), 98, -1, 0),
            (both, (t140, red, b"fmtp:100 98//98"), 98, -1, 0),
            (both, (t140, red, b"fmtp:100"), 98, -1, 0),
            (both, (t140, red, b"fmtp:98 98/98/98"), 98, -1, 0),
            (both, (t140, b"rtpmap:100 red/8000", b"fmtp:100 98/98/98"), 98, -1, 0),
            (b"98", (t140, red, b"fmtp:100 98/98/98"), 98, -1, 0),
            (b"97 100 98", (t140, b"rtpmap:97 t140/1000", red, b"fmtp:100 98/98/98"), 98, 100, 2),
        ):
            with self.subTest(repr(lines)):
                media, agreed = self.text(formats, *lines)
                self.assertEqual(
                    (agreed.payload_type, agreed.red_type, agreed.generations), (plain, red_type, generations)
                )
                if red_type < 0:
                    self.assertEqual((media.formats, media.attributes(b"fmtp")), ([b"98"], []))
                else:
                    self.assertEqual(media.formats, [b"100", b"98"])
                    self.assertEqual(media.attributes(b"fmtp"), [b"100 " + b"/".join([b"98"] * (generations + 1))])
        for formats, lines in (
            (b"100", (t140, red, b"fmtp:100 98/98/98")),
            (b"98", (b"rtpmap:98 t140/8000",)),
            (b"98", ()),
            (b"98", (t140, b"rtpmap:98 x/1000")),
            (b"098", (b"rtpmap:098 t140/1000",)),
            (b"128", (b"rtpmap:128 t140/1000",)),
            (b"0", (b"rtpmap:0 t140/1000",)),
        ):
            with self.subTest(repr(lines)):
                self.assertRaises(ParseError, self.text, formats, *lines)

    def test_parameters_of_text(self):
        t140 = b"rtpmap:98 t140/1000"
        for line, cps in (
            (b"x", 30),
            (b"fmtp:98 cps=90", 90),
            (b"fmtp:98 x=y; CPS=5 ;z", 5),
            (b"fmtp:98 cps=0", 1),
            (b"fmtp:98 cps=99999", 9999),
            (b"fmtp:98 cps=999999999999999", 30),
            (b"fmtp:98 cps=-1", 30),
            (b"fmtp:97 cps=90", 30),
        ):
            self.assertEqual(self.text(b"98", t140, line)[1].cps, cps)
        for line, mixer in ((b"rtt-mixer", True), (b"rtt-mixer:x", False), (b"x", False)):
            media, agreed = self.text(b"98", t140, line)
            self.assertEqual((agreed.mixer, b"" in media.attributes(b"rtt-mixer")), (mixer, mixer))


class KeysTest(Case):
    def test_first_line_that_we_speak(self):
        """RFC 4568 section 5.1.2: in the offerer's order; the answer has tag and suite of the line that it takes."""
        mine = offer(speaks(suites=(CM256, CM80, CM32)))
        for suites, tag in (((CM32, CM80), 2), ((CM256, CM80), 1), ((CM32,), 3), ((CM32, CM80, CM256), 1)):
            answer, [agreed] = answer_to(mine, speaks(5000, suites=suites))
            [line] = answer.media[0].cryptos()
            self.assertEqual((line.tag, line.suite), (tag, mine.media[0].cryptos()[tag - 1].suite))
            self.assertEqual((agreed.suite, agreed.local_key), (line.suite, line.keys[0].key_salt))
            self.assertEqual(agreed.remote_key, mine.media[0].cryptos()[tag - 1].keys[0].key_salt)

    def test_tags_that_stand_twice(self):
        """RFC 4568 section 5.1: they are unique; the answer would not say which of the lines it takes."""
        text = audio(spoken=speaks(suites=(CM80,))).replace(b"Gxwd", b"Gxwd UNENCRYPTED_SRTP")
        self.refused(text + b"a=crypto:" + LINE + b"\r\n", "no suite")
        self.assertEqual(answer_to(text + b"a=crypto:2" + LINE[1:] + b"\r\n")[1][0].tag, 2)

    def test_lines_that_weaken(self):
        """No policy takes them; with a better line after them that one is taken."""
        for extra in (b"UNENCRYPTED_SRTP", b"UNENCRYPTED_SRTCP", b"UNAUTHENTICATED_SRTP", b"FEC_ORDER=FEC_SRTP", b"X"):
            body = audio(spoken=speaks(suites=(CM80,))).replace(b"Gxwd", b"Gxwd " + extra)
            self.assertIn(extra, body)
            self.refused(body, "no suite")
            self.refused(body, "no suite", speaks(policy=OPPORTUNISTIC))
            _, [agreed] = answer_to(body + b"a=crypto:7 " + LINE[2:] + b"\r\n")
            self.assertEqual((agreed.suite, agreed.local_key), (CM80, KEY_B))

    def test_declared_parameters(self):
        """Section 6.3: they are about the offerer's packets; ours have none, so the answer has none."""
        text = audio(spoken=speaks(suites=(CM80,)))
        for extra, kdr, window, lifetime in (
            (b"", 0, 64, None),
            (b"|2^20", 0, 64, 1 << 20),
            (b" KDR=5", 5, 64, None),
            (b"|1000 WSH=128 KDR=1", 1, 128, 1000),
        ):
            answer, [agreed] = answer_to(text.replace(b"Gxwd", b"Gxwd" + extra))
            self.assertEqual((agreed.kdr, agreed.window, agreed.lifetime), (kdr, window, lifetime))
            [line] = answer.media[0].cryptos()
            self.assertEqual((line.params, line.keys[0].lifetime, line.keys[0].mki), ([], None, b""))
        self.refused(text.replace(b"Gxwd", b"Gxwd KDR=5"), "no suite", speaks(5000, plain=True))
        self.assertEqual(answer_to(text.replace(b"Gxwd", b"Gxwd KDR=0 WSH=90"), speaks(plain=True))[1][0].window, 90)

    def test_several_keys(self):
        text = audio(spoken=speaks(suites=(CM80,)))
        other = b";inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|2^20|2:4"
        body = text.replace(b"Gxwd", b"Gxwd|1:4" + other)
        _, [agreed] = answer_to(body)
        self.assertEqual((agreed.remote_key, agreed.remote_mki, agreed.lifetime), (KEY_A, b"\0\0\0\x01", None))
        self.assertEqual(agreed.more_keys, [(bytes(30), b"\0\0\0\x02", 1 << 20)])
        self.assertEqual((agreed.local_key, agreed.local_mki), (KEY_B, b""))
        self.refused(body, "no suite", speaks(5000, plain=True))

    def test_while_the_peer_keeps_its_own(self):
        mine = offer()
        _, before = answer_to(mine)
        for change, kept in (
            ((b"4000", b"4002"), True),
            ((b"crypto:1 ", b"crypto:7 "), True),
            ((b"m=audio", b"m=video 0 RTP/AVP 31\r\nm=audio"), True),
            ((b"inline:AAEC", b"inline:ZZZZ"), False),
            ((b"_80 inline", b"_32 inline"), False),
        ):
            body = mine.serialize().replace(change[0], change[1], 1)
            self.assertNotEqual(body, mine.serialize())
            answer, [agreed] = answer_to(body, speaks(5000, first=7), version=2, before=before)
            self.assertEqual(agreed.local_key, KEY_B if kept else bytes(range(7, 37)))
            self.assertEqual(answer.media[agreed.index].cryptos()[0].keys[0].key_salt, agreed.local_key)

    def test_ours_is_not_the_peers(self):
        """An offer with the key that we send under: the next line that has another, or nothing."""
        mine = offer(speaks(suites=(CM80, CM32)))
        _, before = answer_to(mine)
        first, second = [line.serialize() for line in mine.media[0].cryptos()]
        ours = first.replace(b64encode(KEY_A), b64encode(before[0].local_key))
        self.assertNotEqual(ours, first)
        body = mine.serialize().replace(first, ours)
        _, [agreed] = answer_to(body, before=before)
        self.assertEqual((agreed.tag, agreed.suite), (2, CM32))
        self.refused(body.replace(b"a=crypto:" + second + b"\r\n", b""), "no suite", before=before)

    def test_each_stream_keeps_its_own(self):
        """Also where the peer has one key for both: ours are never one."""
        body = audio() + TEXT
        both = speaks(5000, first=100, text_port=5002)
        _, before = answer_to(body, both)
        self.assertEqual(before[0].remote_key, before[1].remote_key)
        self.assertNotEqual(before[0].local_key, before[1].local_key)
        _, again = answer_to(body, both, version=2, before=before)
        self.assertEqual([one.local_key for one in again], [one.local_key for one in before])

    def test_setup_keys(self):
        """Each stream has its own by the index of its line (WIRE section 4.1), and no other line is taken."""
        kid = b"0123456789abcdef"
        setup = MediaKeys(kid, bytes(32), bytes(16), bytes(16))
        mine = offer(speaks(text_port=4002), kid=kid)
        self.assertNotIn(b"inline", mine.serialize())
        both = speaks(5000, text_port=5002)
        answer, agreed = answer_to(mine, both, setup=setup)
        self.assertNotIn(b"inline", answer.serialize())
        for one in agreed:
            self.assertEqual((one.remote_key, one.local_key), setup.of(one.index, 30))
        self.assertEqual([one.index for one in agreed], [0, 1])
        self.refused(audio(), "no suite", both, setup=setup)
        self.refused(mine, "no suite", both)
        self.refused(offer(kid=b"f" * 16), "no suite", both, setup=setup)
        for policy in (OPPORTUNISTIC, OFF):
            lax = speaks(5000, text_port=5002, policy=policy)
            self.refused(mine.serialize().replace(b"SAVP", b"AVP"), "no SRTP", lax, setup=setup)
            self.assertEqual(len(answer_to(mine, lax, setup=setup)[1]), 2)


if __name__ == "__main__":
    unittest.main()
