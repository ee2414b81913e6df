import unittest

from sipwire.crypto import Crypto
from sipwire.errors import ParseError
from sipwire.sdp import MAX_LINES, Session, accept_answer, make_answer, make_offer
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from support import load, new_aes, unhex

CM80 = b"AES_CM_128_HMAC_SHA1_80"
CM32 = b"AES_CM_128_HMAC_SHA1_32"
KEY_A = bytes(range(30))
KEY_B = bytes(range(100, 130))
LINE = b"1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"


def offer(*cryptos):
    return make_offer(b"192.0.2.1", 4000, 99, [0, 8], list(cryptos) or [Crypto.make(1, CM80, KEY_A)])


def answer_to(description, **keys):
    return make_answer(description, b"192.0.2.2", 5000, 7, [0, 8], {CM80: KEY_B, CM32: KEY_B})


class CryptoTest(unittest.TestCase):
    def test_good_lines(self):
        vectors = load("sdes/sdes.json")
        for case in vectors["positive"]:
            with self.subTest(case["line"]):
                crypto = Crypto.parse(case["line"].encode()[len("a=crypto:") :])
                self.assertEqual((crypto.tag, crypto.suite), (case["tag"], case["suite"].upper().encode()))
                self.assertEqual(crypto.params, [param.encode() for param in case["session_params"]])
                self.assertEqual(len(crypto.keys), len(case["keys"]))
                for key, wanted in zip(crypto.keys, case["keys"]):
                    self.assertEqual(key.key_salt, unhex(wanted["key_salt"]))
                    self.assertEqual(key.lifetime, wanted["lifetime"])
                    mki = b"" if wanted["mki"] is None else wanted["mki"].to_bytes(wanted["mki_len"], "big")
                    self.assertEqual(key.mki, mki)
                again = Crypto.parse(crypto.serialize())
                self.assertEqual(again.serialize(), crypto.serialize())
        for case in vectors["accepted_with_extension"]:
            self.assertTrue(Crypto.parse(case["line"].encode()[len("a=crypto:") :]).is_plain)

    def test_bad_lines(self):
        for case in load("sdes/sdes.json")["negative"]:
            with self.subTest(case["why"]):
                self.assertRaises(ParseError, Crypto.parse, case["line"].encode()[len("a=crypto:") :])

    def test_more_bad_lines(self):
        for value in (
            b"",
            b"1",
            LINE + b" KDR=25",
            LINE + b" KDR=",
            LINE + b" WSH=63",
            LINE + b" UNENCRYPTED_SRTP=1",
            LINE + b"|2^49",
            LINE + b"|2^",
            LINE + b"|256:1",
            LINE + b"|1:129",
            LINE + b";" + LINE.split()[2],
            LINE[:-4],
            LINE[:-1] + b"!",
            LINE + b" " + b"x" * 2000,
            b"1234567890" + LINE[1:],
        ):
            with self.subTest(repr(value[-30:])):
                self.assertRaises(ParseError, Crypto.parse, value)

    def test_plain(self):
        for extra, plain in (
            (b"", True),
            (b" WSH=64", True),
            (b" KDR=0", True),
            (b" -x=1", True),
            (b" KDR=1", False),
            (b" UNENCRYPTED_SRTP", False),
            (b" unauthenticated_srtp", False),
            (b" FEC_ORDER=SRTP_FEC", False),
        ):
            self.assertEqual(Crypto.parse(LINE + extra).is_plain, plain)
        two = LINE + b"|1:1;" + LINE.split()[2] + b"|2:1"
        self.assertFalse(Crypto.parse(two).is_plain)

    def test_from_line_to_packet(self):
        done = 0
        for case in load("sdes/sdes_to_srtp.json")["chain"]:
            crypto = Crypto.parse(case["line"].encode()[len("a=crypto:") :])
            if crypto.suite not in SUITES:
                self.assertTrue(crypto.suite.startswith(b"AEAD_"))
                continue
            suite, key = SUITES[crypto.suite], crypto.keys[0]
            packet = bytearray(unhex(case["rtp"]) + bytes(160))
            plain = len(case["rtp"]) // 2
            size = SrtpSender(suite, key.key_salt, new_aes, key.mki).protect(packet, plain)
            self.assertEqual(bytes(packet[:size]), unhex(case["srtp"]))
            size = SrtpReceiver(suite, key.key_salt, new_aes, key.mki).unprotect(packet, size)
            self.assertEqual(bytes(packet[:size]), unhex(case["rtp"]))
            sender = SrtcpSender(suite, key.key_salt, new_aes, key.mki)
            sender.index = case["srtcp_index"] - 1
            self.assertEqual(sender.protect(unhex(case["rtcp"])), unhex(case["srtcp"]))
            receiver = SrtcpReceiver(suite, key.key_salt, new_aes, key.mki)
            self.assertEqual(receiver.unprotect(unhex(case["srtcp"])), unhex(case["rtcp"]))
            done += 1
        self.assertEqual(done, 8)


class SessionTest(unittest.TestCase):
    TEXT = (
        b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\na=tool:x\r\n"
        b"m=audio 4000/2 RTP/SAVP 0 101\r\ni=title\r\na=rtpmap:0 PCMU/8000\r\na=crypto:" + LINE + b"\r\na=sendonly\r\n"
        b"m=text 0 RTP/SAVP 98\r\nc=IN IP6 2001:db8::1\r\nx=unknown kept\r\n"
    )

    def test_both_ways(self):
        session = Session.parse(self.TEXT)
        self.assertEqual(session.serialize(), self.TEXT)
        audio, text = session.media
        self.assertEqual(
            (audio.kind, audio.port, audio.proto, audio.formats), (b"audio", 4000, b"RTP/SAVP", [b"0", b"101"])
        )
        self.assertEqual((text.kind, text.port), (b"text", 0))
        self.assertEqual((session.address(audio), session.address(text)), (b"192.0.2.1", b"2001:db8::1"))
        self.assertEqual((session.direction(audio), session.direction(text)), (b"sendonly", b"sendrecv"))
        self.assertEqual(audio.attributes(b"rtpmap"), [b"0 PCMU/8000"])
        self.assertEqual(audio.cryptos()[0].keys[0].key_salt, KEY_A)

    def test_line_feed_alone(self):
        self.assertEqual(Session.parse(self.TEXT.replace(b"\r\n", b"\n")).serialize(), self.TEXT)

    def test_bad_crypto_lines_count_as_absent(self):
        session = Session.parse(self.TEXT.replace(b"a=crypto:1", b"a=crypto:01"))
        self.assertEqual(session.media[0].cryptos(), [])

    def test_invalid(self):
        for body in (
            b"",
            b"v=1\r\n",
            b"o=x\r\nv=0\r\n",
            b"v=0\r\nnonsense\r\n",
            b"v=0\r\n=x\r\n",
            b"v=0\r\nm=audio\r\n",
            b"v=0\r\nm=audio 4000 RTP/AVP\r\n",
            b"v=0\r\nm=audio x RTP/AVP 0\r\n",
            b"v=0\r\nm=audio 65536 RTP/AVP 0\r\n",
            b"v=0\r\nm=audio -1 RTP/AVP 0\r\n",
            b"v=0\r\na=a\rb\r\n",
            b"v=0\r\n" + b"a=x\r\n" * (MAX_LINES + 1),
            b"\0\0",
        ):
            with self.subTest(repr(body[:40])):
                self.assertRaises(ParseError, Session.parse, body)

    def test_no_address(self):
        for extra in (b"", b"c=IN IP4\r\n", b"c=XX IP4 1.2.3.4\r\n"):
            session = Session.parse(b"v=0\r\n" + extra + b"m=audio 4000 RTP/AVP 0\r\n")
            self.assertRaises(ParseError, session.address, session.media[0])


class OfferAnswerTest(unittest.TestCase):
    def test_agreement(self):
        mine = offer(Crypto.make(1, CM80, KEY_A), Crypto.make(2, CM32, KEY_A))
        answer, theirs = answer_to(Session.parse(mine.serialize()))
        agreed = accept_answer(mine, Session.parse(answer.serialize()))
        self.assertEqual((agreed.address, agreed.port), (b"192.0.2.2", 5000))
        self.assertEqual((theirs.address, theirs.port), (b"192.0.2.1", 4000))
        self.assertEqual((agreed.suite, theirs.suite), (CM80, CM80))
        self.assertEqual((agreed.local_key, agreed.remote_key), (KEY_A, KEY_B))
        self.assertEqual((theirs.local_key, theirs.remote_key), (KEY_B, KEY_A))
        self.assertEqual((agreed.payload_type, theirs.payload_type), (0, 0))
        self.assertEqual((agreed.direction, theirs.direction), (b"sendrecv", b"sendrecv"))

    def test_second_choices(self):
        mine = Session.parse(offer(Crypto.make(1, CM80, KEY_A), Crypto.make(2, CM32, KEY_A)).serialize())
        answer, theirs = make_answer(mine, b"192.0.2.2", 5000, 7, [8], {CM32: KEY_B})
        self.assertEqual((theirs.suite, theirs.payload_type), (CM32, 8))
        agreed = accept_answer(mine, answer)
        self.assertEqual((agreed.suite, agreed.payload_type), (CM32, 8))
        self.assertEqual(answer.media[0].cryptos()[0].tag, 2)

    def test_same_number_of_media_lines(self):
        text = offer().serialize()
        extra = b"m=video 5000 RTP/SAVP 99\r\nm=audio 6000 RTP/AVP 0\r\n"
        for body in (text + extra, text[: text.find(b"m=")] + extra + text[text.find(b"m=") :]):
            answer, agreed = answer_to(Session.parse(body))
            ports = [media.port for media in answer.media]
            self.assertEqual(sorted(ports), [0, 0, 5000])
            self.assertEqual(agreed.port, 4000)

    def test_direction(self):
        for theirs, mine in ((b"sendonly", b"recvonly"), (b"recvonly", b"sendonly"), (b"inactive", b"inactive")):
            answer, agreed = answer_to(Session.parse(offer().serialize() + b"a=" + theirs + b"\r\n"))
            self.assertEqual(agreed.direction, mine)
            self.assertEqual(answer.direction(answer.media[0]), mine)

    def test_hold(self):
        """RFC 3264 section 8.4: whoever is on hold hears nothing, in an offer, in an answer, and by 0.0.0.0."""
        for theirs, held, mine in (
            (b"sendrecv", True, b"sendonly"),
            (b"sendonly", True, b"inactive"),
            (b"recvonly", True, b"sendonly"),
            (b"inactive", True, b"inactive"),
            (b"sendonly", False, b"recvonly"),
        ):
            body = offer().serialize() + b"a=" + theirs + b"\r\n"
            answer, agreed = make_answer(Session.parse(body), b"192.0.2.2", 5000, 7, [0], {CM80: KEY_B}, 1, None, held)
            self.assertEqual((agreed.direction, answer.direction(answer.media[0])), (mine, mine))
        for theirs, mine in ((b"sendrecv", b"recvonly"), (b"recvonly", b"inactive"), (b"sendonly", b"recvonly")):
            body = offer().serialize().replace(b"IP4 192.0.2.1", b"IP4 0.0.0.0") + b"a=" + theirs + b"\r\n"
            answer, agreed = answer_to(Session.parse(body))
            self.assertEqual((agreed.direction, answer.direction(answer.media[0])), (mine, mine))

    def test_answers_to_a_hold(self):
        """Whatever the answer says: no more than was offered."""
        held = make_offer(b"192.0.2.1", 4000, 99, [0], [Crypto.make(1, CM80, KEY_A)], 2, b"sendonly")
        self.assertEqual(held.direction(held.media[0]), b"sendonly")
        good = answer_to(Session.parse(held.serialize()))[0].serialize()
        self.assertIn(b"a=recvonly\r\n", good)
        for theirs, mine in (
            (b"recvonly", b"sendonly"),
            (b"sendrecv", b"sendonly"),
            (b"sendonly", b"inactive"),
            (b"inactive", b"inactive"),
        ):
            answer = Session.parse(good.replace(b"a=recvonly", b"a=" + theirs))
            self.assertEqual(accept_answer(held, answer).direction, mine)
        answer = Session.parse(good.replace(b"c=IN IP4 192.0.2.2", b"c=IN IP4 0.0.0.0"))
        self.assertEqual(accept_answer(held, answer).direction, b"inactive")

    def test_origin(self):
        """RFC 3264 section 8: only the version of o= changes in a session, whatever our address is."""
        keys = [Crypto.make(1, CM80, KEY_A)]
        first = make_offer(b"192.0.2.1", 4000, 99, [0], keys)
        moved = make_offer(b"192.0.2.55", 4000, 99, [0], keys, 2)
        answer, _ = make_answer(Session.parse(first.serialize()), b"192.0.2.66", 1, 99, [0], {CM80: KEY_B}, 3)
        origins = [dict(one.lines)[b"o"].split(b" ") for one in (first, moved, answer)]
        self.assertEqual([words[:2] + words[3:] for words in origins], [origins[0][:2] + origins[0][3:]] * 3)
        self.assertEqual([words[2] for words in origins], [b"1", b"2", b"3"])
        self.assertEqual(moved.address(moved.media[0]), b"192.0.2.55")

    def test_streams_stay_in_their_places(self):
        """An offer after an answer: as many media lines, what was refused refused, the answer read at its place."""
        text = offer().serialize()
        body = text[: text.find(b"m=")] + b"m=video 5000 RTP/SAVP 99\r\n" + text[text.find(b"m=") :] + b"m=x 9 y z\r\n"
        before, _ = answer_to(Session.parse(body))
        keys = [Crypto.make(1, CM80, KEY_A)]
        again = make_offer(b"192.0.2.2", 5002, 7, [8], keys, 2, b"sendrecv", before.media)
        shown = [(media.kind, media.port, media.formats) for media in Session.parse(again.serialize()).media]
        self.assertEqual(shown, [(b"video", 0, [b"99"]), (b"audio", 5002, [b"8"]), (b"x", 0, [b"z"])])
        answer, theirs = answer_to(Session.parse(again.serialize()))
        agreed = accept_answer(again, Session.parse(answer.serialize()))
        self.assertEqual((agreed.port, agreed.remote_key, theirs.port), (5000, KEY_B, 5002))
        self.assertRaises(ParseError, accept_answer, again, Session(answer.lines, answer.media[1:]))
        shuffled = Session(answer.lines, [answer.media[1], answer.media[0], answer.media[2]])
        self.assertRaises(ParseError, accept_answer, again, shuffled)

    def test_keys_while_the_peer_keeps_its_own(self):
        mine = offer(Crypto.make(1, CM80, KEY_A), Crypto.make(2, CM32, KEY_A))
        _, before = answer_to(Session.parse(mine.serialize()))
        fresh = {CM80: bytes(30), CM32: bytes(30)}
        for change, kept in (
            ((b"4000", b"4002"), True),
            ((b"crypto:1 ", b"crypto:7 "), True),
            ((b"inline:AAEC", b"inline:ZZZZ"), False),
            ((b"_80 inline", b"_32 inline"), False),
        ):
            body = mine.serialize().replace(change[0], change[1], 1)
            self.assertNotEqual(body, mine.serialize())
            answer, agreed = make_answer(Session.parse(body), b"192.0.2.2", 5000, 7, [0], fresh, 2, before)
            self.assertEqual(agreed.local_key, KEY_B if kept else bytes(30))
            self.assertEqual(answer.media[0].cryptos()[0].keys[0].key_salt, agreed.local_key)

    def test_never_rtp(self):
        text = offer().serialize()
        for old, new, why in (
            (b"RTP/SAVP", b"RTP/AVP", "no SRTP"),
            (b"RTP/SAVP", b"RTP/SAVPF", "no SRTP"),
            (b"a=crypto", b"a=cryptic", "no suite"),
            (CM80, b"AEAD_AES_128_GCM", "no suite"),
            (b"inline:", b"uri:", "no suite"),
            (
                b"a=crypto:1 " + CM80 + b" inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd",
                b"a=crypto:" + LINE + b" UNENCRYPTED_SRTP",
                "no suite",
            ),
            (b" 0 8\r\n", b" 3 18\r\n", "no codec"),
            (b" 0 8\r\n", b" 00 08\r\n", "no codec"),
            (b"PCMU/8000", b"OPUS/48000", None),
            (b"PCMU/8000", b"pcma/8000/1", None),
            (b"m=audio 4000", b"m=audio 0", "no audio"),
            (b"m=audio", b"m=video", "no audio"),
        ):
            body = text.replace(old, new)
            self.assertNotEqual(body, text)
            if why is None:
                self.assertEqual(answer_to(Session.parse(body))[1].payload_type, 8)
                continue
            with self.assertRaises(ParseError) as caught:
                answer_to(Session.parse(body))
            self.assertEqual((caught.exception.status, caught.exception.reason), (488, why))

    def test_formats_in_any_number(self):
        """The first that is ours is taken, however many stand before it, and one that means something else is not."""
        text = offer().serialize().replace(b" 0 8\r\n", b" 3" * 500 + b" 0" * 500 + b" 8\r\n")
        self.assertEqual(answer_to(Session.parse(text))[1].payload_type, 0)
        text = text.replace(b"a=rtpmap:0 PCMU/8000\r\n", b"a=rtpmap:1 X/1\r\n" * 90 + b"a=rtpmap:0 X/1\r\n")
        self.assertEqual(answer_to(Session.parse(text))[1].payload_type, 8)

    def test_bad_answers(self):
        mine = offer()
        good = answer_to(Session.parse(mine.serialize()))[0].serialize()
        for old, new in (
            (b"RTP/SAVP", b"RTP/AVP"),
            (b"m=audio 5000", b"m=audio 0"),
            (b"m=audio", b"m=video"),
            (b"crypto:1", b"crypto:2"),
            (CM80, CM32),
            (b"a=crypto", b"a=none"),
            (b" 0\r\n", b" 3\r\n"),
            (b"c=IN IP4 192.0.2.2\r\n", b""),
            (b"a=ptime:20\r\n", b"a=crypto:1 " + CM80 + b" inline:ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CB\r\n"),
            (b"a=ptime:20\r\n", b"m=audio 1 RTP/SAVP 0\r\n"),
        ):
            body = good.replace(old, new)
            self.assertNotEqual(body, good)
            with self.subTest(repr(new)):
                self.assertRaises(ParseError, accept_answer, mine, Session.parse(body))
        accept_answer(mine, Session.parse(good))

    def test_ipv6(self):
        mine = make_offer(b"2001:db8::1", 4000, 1, [0], [Crypto.make(1, CM80, KEY_A)])
        self.assertIn(b"c=IN IP6 2001:db8::1\r\n", mine.serialize())


if __name__ == "__main__":
    unittest.main()
