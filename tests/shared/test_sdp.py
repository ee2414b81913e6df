import unittest

from sipwire.crypto import Crypto
from sipwire.errors import ParseError
from sipwire.sdp import MAX_LINES, Session
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from support import load, new_aes, unhex

KEY_A = bytes(range(30))
LINE = b"1 AES_CM_128_HMAC_SHA1_80 inline:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"


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
            LINE + b" FEC_ORDER",
            LINE + b" FEC_KEY=",
            LINE + b" KDR=x",
            LINE + b" KDR=-1",
            LINE + b"|2^49",
            LINE + b"|2^",
            LINE + b"|256:1",
            LINE + b"|1:129",
            LINE + b";" + LINE.split()[2],
            LINE[:-4],
            LINE[:-1] + b"!",
            LINE + b" " + b"x" * 2000,
            b"1234567890" + LINE[1:],
            LINE.replace(b"_80", b"_80=30"),
            LINE.replace(b"_80", b"_8"),
            LINE.replace(b"AES_CM_128_HMAC_SHA1_80", b"="),
            LINE.replace(b"AES_CM_128_HMAC_SHA1_80", b"30"),
        ):
            with self.subTest(repr(value[-30:])):
                self.assertRaises(ParseError, Crypto.parse, value)

    def test_session_parameters(self):
        """(what is added to a line, KDR, window, what weakens it, FEC, whether it is safe, and plain): section 6.3."""
        for extra, kdr, window, weak, fec, safe, plain in (
            (b"", 0, 64, [], [], True, True),
            (b" WSH=64", 0, 64, [], [], True, True),
            (b" wsh=128", 0, 128, [], [], True, True),
            (b" WSH=99999999", 0, 1024, [], [], True, True),
            (b" KDR=0", 0, 64, [], [], True, True),
            (b" -x=1 -KDR=99", 0, 64, [], [], True, True),
            (b" KDR=1", 1, 64, [], [], True, False),
            (b"\tkdr=24  WSH=100", 24, 100, [], [], True, False),
            (b" UNENCRYPTED_SRTP", 0, 64, [b"UNENCRYPTED_SRTP"], [], False, False),
            (b" UNENCRYPTED_SRTCP KDR=2", 2, 64, [b"UNENCRYPTED_SRTCP"], [], False, False),
            (b" unauthenticated_srtp", 0, 64, [b"UNAUTHENTICATED_SRTP"], [], False, False),
            (b" FEC_ORDER=SRTP_FEC", 0, 64, [], [b"FEC_ORDER=SRTP_FEC"], False, False),
            (b" FEC_KEY=inline:AAAA", 0, 64, [], [b"FEC_KEY=inline:AAAA"], False, False),
        ):
            with self.subTest(repr(extra)):
                line = Crypto.parse(LINE + extra)
                self.assertEqual((line.kdr, line.window, list(line.weak), list(line.fec)), (kdr, window, weak, fec))
                self.assertEqual((line.is_safe, line.is_plain), (safe, plain))
                self.assertEqual(Crypto.parse(line.serialize()).params, line.params)
        two = Crypto.parse(LINE + b"|2^20|1:1;" + LINE.split()[2] + b"|2:1")
        self.assertEqual((two.is_safe, two.is_plain), (True, False))
        self.assertEqual([(key.mki, key.lifetime) for key in two.keys], [(b"\x01", 1 << 20), (b"\x02", None)])

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


if __name__ == "__main__":
    unittest.main()
