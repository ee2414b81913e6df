import unittest

from ends import CM32, CM80, CM256, KEY_A, KEY_B, accept, answer_to, offer, speaks
from sipwire.crypto import Crypto
from sipwire.errors import ParseError
from sipwire.offer import make_offer
from sipwire.sdp import Session
from sipwire.setup_keys import MediaKeys
from sipwire.streams import OPPORTUNISTIC

TEXT = (
    b"m=text 5002 RTP/SAVP 98\r\na=rtpmap:98 t140/1000\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:"
    + b"A" * 40
    + b"\r\n"
)


def m_lines(session):
    return [media.serialize() for media in session.media]


class OfferTest(unittest.TestCase):
    def test_streams(self):
        for spoken, lines in (
            (speaks(), [b"audio 4000 RTP/SAVP 0 8"]),
            (speaks(events=True), [b"audio 4000 RTP/SAVP 0 8 101"]),
            (speaks(codecs=(8,), text_port=4002), [b"audio 4000 RTP/SAVP 8", b"text 4002 RTP/SAVP 100 98"]),
            (speaks(0, (), text_port=4002), [b"text 4002 RTP/SAVP 100 98"]),
        ):
            self.assertEqual(m_lines(offer(spoken)), lines)

    def test_whole(self):
        """Byte for byte."""
        spoken = speaks(codecs=(0,), suites=(CM80,), text_port=4002, events=True, mux=True)
        self.assertEqual(
            offer(spoken, is_held=True).serialize(),
            b"v=0\r\no=- 99 1 IN IP4 0.0.0.0\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
            b"m=audio 4000 RTP/SAVP 0 101\r\na=rtpmap:0 PCMU/8000\r\n"
            b"a=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\na=ptime:20\r\na=maxptime:60\r\na=rtcp-mux\r\n"
            b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd\r\na=sendonly\r\n"
            b"m=text 4002 RTP/SAVP 100 98\r\na=rtpmap:98 t140/1000\r\na=rtpmap:100 red/1000\r\na=fmtp:100 98/98/98\r\n"
            b"a=rtt-mixer\r\na=rtcp-mux\r\n"
            b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:AQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0e\r\na=sendonly\r\n",
        )

    def test_keys(self):
        """Suites in our order with tags of their own, and nowhere the same key."""
        mine = offer(speaks(suites=(CM256, CM80, CM32), text_port=4002))
        lines = [line for media in mine.media for line in media.cryptos()]
        self.assertEqual([(line.tag, line.suite) for line in lines], [(1, CM256), (2, CM80), (3, CM32)] * 2)
        self.assertEqual(len({line.keys[0].key_salt for line in lines}), 6)
        self.assertEqual([len(line.keys[0].key_salt) for line in lines], [46, 30, 30] * 2)
        self.assertTrue(all([line.is_plain for line in lines]))
        keyed = offer(speaks(policy=OPPORTUNISTIC), kid=b"0123456789abcdef")
        self.assertEqual((keyed.media[0].proto, len(keyed.media[0].cryptos())), (b"RTP/SAVP", 1))

    def test_origin(self):
        """RFC 3264 section 8: only the version of o= changes in a session, whatever our address is."""
        moved = Session.parse(make_offer(speaks(), b"192.0.2.55", 99, 2).serialize())
        answer, _ = answer_to(offer(), version=3)
        origins = [dict(one.lines)[b"o"].split(b" ") for one in (offer(), moved, answer)]
        self.assertEqual([words[3:] for words in origins], [origins[0][3:]] * 3)
        self.assertEqual([words[1:3] for words in origins], [[b"99", b"1"], [b"99", b"2"], [b"7", b"3"]])
        self.assertEqual(moved.address(moved.media[0]), b"192.0.2.55")

    def test_ipv6(self):
        mine = make_offer(speaks(), b"2001:db8::1", 1)
        self.assertIn(b"c=IN IP6 2001:db8::1\r\n", mine.serialize())


class AgreementTest(unittest.TestCase):
    def test_both_ends_agree(self):
        spoken = speaks(text_port=4002, events=True, mux=True)
        mine = offer(spoken)
        answer, theirs = answer_to(mine, speaks(5000, first=100, text_port=5002, events=True, mux=True))
        ours = accept(spoken, mine, answer)
        self.assertEqual([(one.kind, one.index) for one in ours], [(b"audio", 0), (b"text", 1)])
        for one, other in zip(ours, theirs):
            for name in ("kind", "index", "payload_type", "event_type", "red_type", "generations", "mixer", "cps"):
                self.assertEqual(getattr(one, name), getattr(other, name))
            self.assertEqual((one.suite, other.suite), (CM80, CM80))
            self.assertEqual((one.local_key, one.remote_key), (other.remote_key, other.local_key))
            self.assertEqual((one.direction, other.direction), (b"sendrecv", b"sendrecv"))
            self.assertEqual((one.rtcp_port, other.rtcp_port), (one.port, other.port))
        self.assertEqual([(one.address, one.port) for one in ours], [(b"192.0.2.2", 5000), (b"192.0.2.2", 5002)])
        self.assertEqual([(one.address, one.port) for one in theirs], [(b"192.0.2.1", 4000), (b"192.0.2.1", 4002)])
        self.assertEqual((ours[0].payload_type, ours[0].event_type, ours[0].red_type), (0, 101, -1))
        self.assertEqual((ours[1].payload_type, ours[1].event_type, ours[1].red_type), (98, -1, 100))
        self.assertEqual((ours[1].generations, ours[1].mixer), (2, True))
        self.assertEqual((ours[0].local_key, ours[0].remote_key), (KEY_A, KEY_B))

    def test_second_choices(self):
        mine = offer()
        answer, [theirs] = answer_to(mine, speaks(5000, (8,), (CM32,)))
        self.assertEqual((theirs.suite, theirs.payload_type), (CM32, 8))
        [agreed] = accept(speaks(), mine, answer)
        self.assertEqual((agreed.suite, agreed.payload_type), (CM32, 8))
        self.assertEqual(agreed.local_key, mine.media[0].cryptos()[1].keys[0].key_salt)
        self.assertEqual(answer.media[0].cryptos()[0].tag, 2)

    def test_less_than_offered(self):
        """Streams and formats that the answer leaves out; and RTCP has a port of its own then."""
        both = speaks(text_port=4002, events=True, mux=True)
        mine = offer(both)
        [agreed] = accept(both, mine, answer_to(mine)[0])
        self.assertEqual((agreed.kind, agreed.event_type, agreed.rtcp_port), (b"audio", -1, 5001))
        self.assertEqual([media.port for media in mine.media], [4000, 0])
        mine = offer(both)
        [agreed] = accept(both, mine, answer_to(mine, speaks(0, (), text_port=5002))[0])
        self.assertEqual((agreed.kind, agreed.index, agreed.local_key[0]), (b"text", 1, 6))
        self.assertEqual([media.port for media in mine.media], [0, 4002])
        answer = answer_to(offer(both), speaks(5000, text_port=5002))[0].serialize()
        for old, new, red_type, mixer in (
            (b"a=fmtp:100 98/98/98\r\n", b"", -1, True),
            (b"a=fmtp:100 98/98/98\r\n", b"a=fmtp:100 98/98/8\r\n", -1, True),
            (b"a=rtpmap:100 red/1000\r\n", b"", -1, True),
            (b" 100 98\r\n", b" 98\r\n", -1, True),
            (b"red/1000", b"RED/1000", 100, True),
            (b"a=rtt-mixer\r\n", b"", 100, False),
        ):
            [_, agreed] = accept(both, offer(both), answer.replace(old, new))
            self.assertEqual((agreed.payload_type, agreed.red_type, agreed.mixer), (98, red_type, mixer))

    def test_nothing_more_than_offered(self):
        """What the answer says beyond the offer counts for nothing."""
        mine = offer(speaks(codecs=(8,)))
        answer = answer_to(mine)[0].serialize()
        for old, new in (
            (b" 8\r\n", b" 0 8\r\na=rtpmap:0 PCMU/8000\r\n"),
            (b" 8\r\n", b" 101 8\r\na=rtpmap:101 telephone-event/8000\r\n"),
            (b"a=ptime:20\r\n", b"a=rtcp-mux\r\n"),
        ):
            spoken = speaks(events=True, mux=True)
            [agreed] = accept(spoken, offer(speaks(codecs=(8,))), answer.replace(old, new))
            self.assertEqual((agreed.payload_type, agreed.event_type, agreed.rtcp_port), (8, -1, 5001))

    def test_answers_to_a_hold(self):
        """Whatever the answer says: no more than was offered."""
        held = offer(is_held=True)
        self.assertEqual(held.direction(held.media[0]), b"sendonly")
        good = answer_to(held)[0].serialize()
        self.assertIn(b"a=recvonly\r\n", good)
        for theirs, mine in (
            (b"recvonly", b"sendonly"),
            (b"sendrecv", b"sendonly"),
            (b"sendonly", b"inactive"),
            (b"inactive", b"inactive"),
        ):
            [agreed] = accept(speaks(), held, good.replace(b"a=recvonly", b"a=" + theirs))
            self.assertEqual(agreed.direction, mine)
        [agreed] = accept(speaks(), held, good.replace(b"c=IN IP4 192.0.2.2", b"c=IN IP4 0.0.0.0"))
        self.assertEqual(agreed.direction, b"inactive")

    def test_declared_parameters(self):
        mine = offer()
        good = answer_to(mine)[0].serialize()
        line = good[good.find(b"a=crypto") :].partition(b"\r\n")[0]
        [agreed] = accept(speaks(), mine, good.replace(line, line + b"|2^31 KDR=3 WSH=256 -x"))
        self.assertEqual((agreed.kdr, agreed.window, agreed.lifetime), (3, 256, 1 << 31))
        self.assertRaises(ParseError, accept, speaks(plain=True), mine, good.replace(line, line + b" KDR=3"))
        several = line + b"|1:1;inline:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA|2:1"
        [agreed] = accept(speaks(), mine, good.replace(line, several))
        self.assertEqual((agreed.remote_mki, agreed.more_keys), (b"\x01", [(bytes(30), b"\x02", None)]))
        for extra in (b"UNENCRYPTED_SRTP", b"UNENCRYPTED_SRTCP", b"UNAUTHENTICATED_SRTP", b"FEC_ORDER=FEC_SRTP", b"X"):
            self.assertRaises(ParseError, accept, speaks(), mine, good.replace(line, line + b" " + extra))

    def test_bad_answers(self):
        mine = offer()
        good = answer_to(mine)[0].serialize()
        for old, new in (
            (b"RTP/SAVP", b"RTP/AVP"),
            (b"m=audio 5000", b"m=audio 0"),
            (b"m=audio", b"m=video"),
            (b"m=audio", b"m=text"),
            (b"crypto:1", b"crypto:2"),
            (CM80, CM32),
            (b"a=crypto", b"a=none"),
            (b" 0\r\n", b" 3\r\n"),
            (b"c=IN IP4 192.0.2.2\r\n", b""),
            (b"a=ptime:20\r\n", b"a=crypto:1 " + CM80 + b" inline:ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CB\r\n"),
            (b"a=ptime:20\r\n", b"m=audio 1 RTP/SAVP 0\r\n"),
            (b"a=ptime:20\r\n", b"a=rtcp:x\r\n"),
        ):
            body = good.replace(old, new)
            self.assertNotEqual(body, good)
            with self.subTest(repr(new)):
                self.assertRaises(ParseError, accept, speaks(), offer(), body)
        self.assertRaises(ParseError, accept, speaks(), offer(), good + b"m=video 0 RTP/AVP 31\r\n")
        accept(speaks(), mine, good)

    def test_our_own_key(self):
        """Whoever sends our packets back would be heard, and the keystreams would meet (RFC 3711 section 9.1)."""
        spoken = speaks()
        mine = offer(spoken)
        theirs, _ = answer_to(mine)
        for at in range(2):
            line = mine.media[0].cryptos()[at].serialize()
            theirs.media[0].lines = [
                (letter, b"crypto:" + line if value[:7] == b"crypto:" else value)
                for letter, value in theirs.media[0].lines
            ]
            self.assertIn(line, theirs.serialize())
            with self.assertRaises(ParseError) as caught:
                accept(spoken, mine, theirs)
            self.assertEqual(caught.exception.reason, "unknown crypto")

    def test_one_bad_stream_spoils_all(self):
        """An answer that gives up the protection of one stream is no answer."""
        both = speaks(text_port=4002)
        good = answer_to(offer(both), speaks(5000, text_port=5002))[0].serialize()
        self.assertEqual(len(accept(both, offer(both), good)), 2)
        at = good.find(b"m=text")
        for old, new in (
            (b"RTP/SAVP", b"RTP/AVP"),
            (b"a=crypto", b"a=none"),
            (b"crypto:1", b"crypto:2"),
            (b"100 98", b"97"),
            (b"m=text", b"m=video"),
        ):
            for body in (good[:at] + good[at:].replace(old, new), good[:at].replace(old, new) + good[at:]):
                if body != good:
                    self.assertRaises(ParseError, accept, both, offer(both), body)

    def test_setup_keys(self):
        kid = b"0123456789abcdef"
        setup = MediaKeys(kid, bytes(32), bytes(16), bytes(16))
        both = speaks(text_port=4002)
        mine = offer(both, kid=kid)
        answer, theirs = answer_to(mine, speaks(5000, text_port=5002), setup=setup)
        mine, good = offer(both, kid=kid), answer.serialize()
        ours = accept(both, mine, good, setup=setup)
        for one, other in zip(ours, theirs):
            self.assertEqual((one.local_key, one.remote_key), setup.of(one.index, 30))
            self.assertEqual((one.local_key, one.remote_key), (other.remote_key, other.local_key))
        inline = good.replace(b"setup:" + kid, Crypto.make(1, CM80, KEY_B).serialize().split(b" ")[2])
        for body, how in ((good, None), (inline, setup), (inline, None), (good.replace(kid, b"f" * 16), setup)):
            self.assertRaises(ParseError, accept, both, offer(both, kid=kid), body, (), how)
        self.assertRaises(ParseError, accept, both, offer(both), good, (), setup)


class LaterOfferTest(unittest.TestCase):
    """RFC 3264 section 8: offers in a session that stands."""

    def test_streams_stay_in_their_places(self):
        """As many media lines, what was refused refused, the answer read at its place."""
        text = offer().serialize()
        body = text[: text.find(b"m=")] + b"m=video 5000 RTP/SAVP 99\r\n" + text[text.find(b"m=") :] + b"m=x 9 y z\r\n"
        before, _ = answer_to(body)
        spoken = speaks(5002, (8,))
        again = offer(spoken, version=2, before=before.media)
        self.assertEqual(m_lines(again), [b"video 0 RTP/SAVP 99", b"audio 5002 RTP/SAVP 8", b"x 0 y z"])
        answer, [theirs] = answer_to(again)
        [agreed] = accept(spoken, again, answer)
        self.assertEqual((agreed.port, agreed.index, agreed.remote_key, theirs.port), (5000, 1, KEY_B, 5002))
        self.assertRaises(ParseError, accept, spoken, again, Session(answer.lines, answer.media[1:]))
        shuffled = Session(answer.lines, [answer.media[1], answer.media[0], answer.media[2]])
        self.assertRaises(ParseError, accept, spoken, again, shuffled)

    def test_what_goes_on(self):
        """Under its key, with its formats, and their numbers, which were the other end's."""
        theirs = offer(speaks(suites=(CM32,), text_port=4002, events=True)).serialize()
        for old, new in ((b"98", b"111"), (b"100 ", b"112 "), (b"101", b"96"), (b"a=rtt-mixer\r\n", b"")):
            theirs = theirs.replace(old, new)
        bob = speaks(5000, first=100, text_port=5002, events=True)
        before, present = answer_to(theirs, bob)
        again = offer(bob, version=2, before=before.media, present=present, is_held=True)
        self.assertEqual(m_lines(again), [b"audio 5000 RTP/SAVP 0 96", b"text 5002 RTP/SAVP 112 111"])
        for media, one in zip(again.media, present):
            [line] = media.cryptos()
            self.assertEqual((line.suite, line.keys[0].key_salt), (CM32, one.local_key))
            self.assertEqual(again.direction(media), b"sendonly")
        self.assertEqual(again.media[1].attributes(b"fmtp"), [b"112 111/111/111"])
        self.assertEqual(again.media[1].attributes(b"rtt-mixer"), [])
        held, _ = answer_to(again, speaks(text_port=4002, events=True))
        body = held.serialize() + b"a=rtt-mixer\r\n"
        self.assertEqual([one.mixer for one in accept(bob, again, body, present)], [False, False])
        _, after = answer_to(again, speaks(text_port=4002, events=True))
        self.assertEqual([one.remote_key for one in after], [one.local_key for one in present])

    def test_a_stream_comes_and_goes(self):
        """Text is added to audio, then audio leaves, and comes again; each keeps its line."""
        alice, bob = speaks(text_port=4002), speaks(5000, first=100, text_port=5002)
        only = speaks()
        first = offer(only)
        answer, theirs = answer_to(first, bob)
        present = accept(only, first, answer)
        steps = (
            (alice, [b"audio 4000 RTP/SAVP 0", b"text 4002 RTP/SAVP 100 98"], [b"audio", b"text"]),
            (speaks(0, (), text_port=4002), [b"audio 0 RTP/SAVP 0", b"text 4002 RTP/SAVP 100 98"], [b"text"]),
            (alice, [b"audio 4000 RTP/SAVP 0 8", b"text 4002 RTP/SAVP 100 98"], [b"audio", b"text"]),
        )
        for version, (spoken, lines, kinds) in enumerate(steps):
            kept = {one.kind: (one.local_key, one.remote_key) for one in present}
            again = offer(spoken, version=version + 2, before=first.media, present=present)
            self.assertEqual(m_lines(again), lines)
            answer, theirs = answer_to(again, bob, version=version + 2, before=theirs)
            present = accept(spoken, again, answer, before=present)
            self.assertEqual([one.kind for one in present], kinds)
            self.assertEqual([one.kind for one in theirs], kinds)
            for one in present:
                self.assertEqual((one.local_key, one.remote_key), kept.get(one.kind, (one.local_key, one.remote_key)))
            self.assertTrue(set(kept) & {one.kind for one in present})
            first = again

    def test_what_was_refused_stays_so(self):
        """Unless we want it again: then in its place."""
        both = speaks(text_port=4002)
        mine = offer(both)
        present = accept(both, mine, answer_to(mine)[0])
        again = offer(speaks(), version=2, before=mine.media, present=present)
        self.assertEqual(m_lines(again), [b"audio 4000 RTP/SAVP 0", b"text 0 RTP/SAVP 100 98"])
        answer, _ = answer_to(again, speaks(5000, text_port=5002, first=100))
        self.assertEqual([one.kind for one in accept(speaks(), again, answer)], [b"audio"])
        revived = answer.serialize().replace(b"m=text 0 RTP/SAVP 100 98\r\n", TEXT)
        self.assertIn(TEXT, revived)
        self.assertEqual([one.kind for one in accept(both, again, revived)], [b"audio"])
        again = offer(both, version=2, before=mine.media, present=present)
        self.assertEqual(m_lines(again), [b"audio 4000 RTP/SAVP 0", b"text 4002 RTP/SAVP 100 98"])

    def test_fresh_keys(self):
        mine = offer()
        accept(speaks(), mine, answer_to(mine)[0])
        again = offer(speaks(first=50), version=2, before=mine.media)
        self.assertEqual([line.keys[0].key_salt[0] for line in again.media[0].cryptos()], [50, 51])

    def test_keys_that_are_used_up(self):
        """A stream goes on with its suite, under another key."""
        mine = offer(speaks(suites=(CM32, CM80)))
        present = accept(speaks(), mine, answer_to(mine)[0])
        again = offer(speaks(first=50), version=2, before=mine.media, present=present, renews=True)
        [line] = again.media[0].cryptos()
        self.assertEqual((line.suite, line.keys[0].key_salt[0]), (CM32, 50))


if __name__ == "__main__":
    unittest.main()
