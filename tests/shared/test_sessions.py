import unittest
from hashlib import sha1

from sipwire.aes_cm import CounterMode
from sipwire.crypto import Crypto, KeyParam
from sipwire.errors import ParseError, SecurityError, StateError
from sipwire.kdf import Hmac
from sipwire.rtp import build_header
from sipwire.sessions import CM, SessionReceiver, SessionSender, Terms
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from support import AES_KEY_BYTES, load, new_aes, unhex

SUITE = SUITES[b"AES_CM_128_HMAC_SHA1_80"]
KEY = bytes(range(30))
INLINE = b"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwd"
RTCP = b"\x80\xc9\x00\x01\x12\x34\x56\x78" + b"report block" * 2


def params(count=1, lifetime=None):
    return [KeyParam(bytes(range(i, i + 30)), lifetime, bytes([0, i]) if count > 1 else b"") for i in range(count)]


def pair(keys=None, terms=None, **more):
    keys = keys or params()
    return (
        SessionSender(SUITE, keys, new_aes, terms, **more),
        SessionReceiver(SUITE, keys, new_aes, terms, **more),
    )


def plain_of(seq, ssrc=1, payload=b"payload"):
    packet = bytearray(12 + len(payload) + 40)
    build_header(packet, 0, seq & 0xFFFF, seq * 160 & 0xFFFFFFFF, ssrc)
    packet[12 : 12 + len(payload)] = payload
    return packet, 12 + len(payload)


def send(sender, seq, ssrc=1, payload=b"payload"):
    packet, size = plain_of(seq, ssrc, payload)
    return bytes(packet[: sender.protect(packet, size)])


def receive(receiver, wire):
    packet = bytearray(wire)
    return bytes(packet[12 : receiver.unprotect(packet, len(packet))])


class Case(unittest.TestCase):
    def refuse(self, receiver, wire, check):
        packet = bytearray(wire)
        with self.assertRaises(SecurityError) as caught:
            receiver.unprotect(packet, len(packet))
        self.assertEqual(caught.exception.check, check)
        self.assertEqual(bytes(packet), bytes(wire), "a refused packet was touched")

    def refuse_rtcp(self, receiver, wire, check):
        with self.assertRaises(SecurityError) as caught:
            receiver.unprotect_rtcp(wire)
        self.assertEqual(caught.exception.check, check)


class VectorTest(Case):
    def test_from_a_crypto_line_to_packets(self):
        done = 0
        for case in load("sdes/sdes_to_srtp.json")["chain"]:
            crypto = Crypto.parse(case["line"].partition(":")[2].encode())
            suite = SUITES.get(crypto.suite)
            if suite is None or suite.key_bytes not in AES_KEY_BYTES:
                self.assertTrue(suite or crypto.suite.startswith(b"AEAD_"))
                continue
            sender = SessionSender(suite, crypto.keys, new_aes, Terms.of(crypto))
            receiver = SessionReceiver(suite, crypto.keys, new_aes, Terms.of(crypto))
            plain = unhex(case["rtp"])
            packet = bytearray(plain + bytes(sender.overhead_bytes))
            size = sender.protect(packet, len(plain))
            self.assertEqual(bytes(packet[:size]), unhex(case["srtp"]))
            self.assertEqual(bytes(packet[: receiver.unprotect(packet, size)]), plain)
            self.assertEqual(case["srtcp_index"], 1)
            self.assertEqual(sender.protect_rtcp(unhex(case["rtcp"])), unhex(case["srtcp"]))
            self.assertEqual(receiver.unprotect_rtcp(unhex(case["srtcp"])), unhex(case["rtcp"]))
            done += 1
        self.assertEqual(done, 8)

    def test_the_same_as_one_source(self):
        """Without any terms the packets are those of `srtp` and `srtcp`."""
        sender, receiver = pair()
        one, one_rtcp = SrtpSender(SUITE, KEY, new_aes), SrtcpSender(SUITE, KEY, new_aes)
        for n in (65534, 65535, 65536, 65540):
            wire = send(sender, n)
            self.assertEqual(wire, send(one, n))
            self.assertEqual(receive(receiver, wire), b"payload")
            wire = sender.protect_rtcp(RTCP)
            self.assertEqual(wire, one_rtcp.protect(RTCP))
            self.assertEqual(receiver.unprotect_rtcp(wire), RTCP)


class TermsTest(Case):
    def line(self, *words):
        return Crypto.parse(b" ".join([b"1 AES_CM_128_HMAC_SHA1_80 inline:" + INLINE] + list(words)))

    def test_of(self):
        terms = Terms.of(self.line(b"KDR=3", b"WSH=100", b"-X=1"))
        self.assertEqual((terms.rate, terms.window, terms.is_clear, terms.is_rtcp_clear), (8, 104, False, False))
        self.assertEqual(Terms.of(self.line(b"WSH=2000000000")).window, 32768)
        self.assertEqual(Terms.of(self.line(b"kdr=24")).rate, 1 << 24)
        self.assertEqual(Terms.of(self.line()).rate, 0)

    def test_clear_is_refused_unless_allowed(self):
        for word in (b"UNENCRYPTED_SRTP", b"UNENCRYPTED_SRTCP", b"UNAUTHENTICATED_SRTP"):
            self.assertRaises(SecurityError, Terms.of, self.line(word))
        self.assertRaises(SecurityError, Terms.of, self.line(b"UNAUTHENTICATED_SRTP"), True)
        terms = Terms.of(self.line(b"UNENCRYPTED_SRTP"), True)
        self.assertEqual((terms.is_clear, terms.is_rtcp_clear), (True, False))
        terms = Terms.of(self.line(b"unencrypted_srtcp"), True)
        self.assertEqual((terms.is_clear, terms.is_rtcp_clear), (False, True))

    def test_unknown(self):
        self.assertRaises(ParseError, Terms.of, self.line(b"FEC_ORDER=FEC_SRTP"))

    def test_no_rate(self):
        for rate in (-1, 3, 6, 1 << 25):
            self.assertRaises(ValueError, Terms, rate)

    def test_no_null_cipher_in_sdp(self):
        for name in (b"NULL_HMAC_SHA1_80", b"NULL_CIPHER", b"NULL"):
            self.assertRaises(ParseError, Crypto.parse, b"1 " + name + b" inline:" + INLINE)
            self.assertFalse(name in SUITES)


def seal(key_salt, r, plain, index, label=0):
    """The RFC 3711 section 4.3.1 way to a packet, spelled out again: x = (label || r) XOR salt, as one number."""

    def derive(label, size):
        salt = int.from_bytes(key_salt[16:], "big") ^ (label << 48 | r)
        data = bytearray((size + 15) // 16 * 16)
        new_aes(key_salt[:16])(
            bytearray(b"".join([(salt << 16 | i).to_bytes(16, "big") for i in range(len(data) // 16)])), data
        )
        return bytes(data[:size])

    packet = bytearray(plain)
    cipher = CounterMode(new_aes(derive(label, 16)), derive(label + 2, 14), 2)
    start = 8 if label else 12
    ssrc = int.from_bytes(plain[start - 4 : start], "big")
    cipher.apply(packet, start, len(packet), ssrc, index >> 16, index & 0xFFFF)
    mac = Hmac(derive(label + 1, 20), sha1)
    if label:
        packet += (index | 1 << 31).to_bytes(4, "big")
        return bytes(packet) + mac.digest(packet)[:10]
    return bytes(packet) + mac.digest(packet, (index >> 16).to_bytes(4, "big"))[:10]


class RateTest(Case):
    def test_keys_follow_the_index(self):
        for rate in (1, 2, 16, 4096, 1 << 16, 1 << 24):
            sender, receiver = pair(None, Terms(rate))
            for index in (65530, 65531, 65535, 65536, 65537, 65600, 98000, 130000, 131073):
                packet, size = plain_of(index)
                wire = send(sender, index)
                self.assertEqual(wire, seal(KEY, index // rate, bytes(packet[:size]), index))
                self.assertEqual(receive(receiver, wire), b"payload")
                self.refuse(receiver, wire, "srtp replay")

    def test_late_packets(self):
        for rate in (1, 4):
            sender, receiver = pair(None, Terms(rate))
            wires = [send(sender, 65530 + i) for i in range(20)]
            for i in (3, 2, 0, 1, 7, 12, 4, 19, 5, 18, 8):
                self.assertEqual(receive(receiver, wires[i]), b"payload")
            for i in (3, 2, 19, 5):
                self.refuse(receiver, wires[i], "srtp replay")

    def test_rtcp(self):
        for rate in (1, 4):
            sender, receiver = pair(None, Terms(rate))
            wires = [sender.protect_rtcp(RTCP) for _ in range(12)]
            for i in range(12):
                self.assertEqual(wires[i], seal(KEY, (i + 1) // rate, RTCP, i + 1, 3))
            for i in (0, 5, 4, 11, 1):
                self.assertEqual(receiver.unprotect_rtcp(wires[i]), RTCP)
                self.refuse_rtcp(receiver, wires[i], "srtcp replay")

    def test_forged_packets_move_nothing(self):
        sender, receiver = pair(None, Terms(1))
        self.assertEqual(receive(receiver, send(sender, 1)), b"payload")
        for seq in (2, 3, 40000, 65535, 1):
            forged = bytearray(send(pair(None, Terms(1))[0], seq))
            forged[-1] ^= 1
            self.refuse(receiver, forged, "srtp replay" if seq in (1, 65535, 40000) else "srtp tag")
        wire = send(sender, 2)
        self.assertEqual(receive(receiver, wire), b"payload")

    def test_no_rate_is_one_derivation(self):
        """A rate of 2^24 makes the first keys too, whose r is 0."""
        self.assertEqual(send(pair(None, Terms(1 << 24))[0], 5), send(pair()[0], 5))
        self.assertNotEqual(send(pair(None, Terms(1))[0], 5), send(pair()[0], 5))


class KeysTest(Case):
    def test_each_key_by_its_mki(self):
        sender, receiver = pair(params(3))
        for i in (0, 2, 1, 0):
            sender.take_key(bytes([0, i]))
            for seq in range(10):
                wire = send(sender, 65530 + seq + 10 * i, 100 + i)
                one = SrtpReceiver(SUITE, bytes(range(i, i + 30)), new_aes, bytes([0, i]))
                if seq < 6 and not i:
                    self.assertEqual(receive(one, wire), b"payload")
                self.assertEqual(wire[-12:-10], bytes([0, i]))
                self.assertEqual(receive(receiver, wire), b"payload")
            wire = sender.protect_rtcp(RTCP)
            self.assertEqual(wire[-12:-10], bytes([0, i]))
            self.assertEqual(receiver.unprotect_rtcp(wire), RTCP)
            if i == 1:
                break

    def test_the_index_of_a_source_goes_on_under_another_key(self):
        sender, receiver = pair(params(2))
        wires = []
        for n in range(65500, 65500 + 3 * 65536, 16384):
            sender.take_key(bytes([0, n // 16384 % 2]))
            wires.append(send(sender, n))
            self.assertEqual(receive(receiver, wires[-1]), b"payload")
        for wire in wires[-2:]:
            self.refuse(receiver, wire, "srtp replay")

    def test_unknown_mki(self):
        sender, receiver = pair(params(2))
        other = SessionSender(SUITE, params(3), new_aes)
        other.take_key(b"\0\2")
        self.refuse(receiver, send(other, 1), "srtp mki")
        self.refuse_rtcp(receiver, other.protect_rtcp(RTCP), "srtp mki")
        self.assertRaises(ValueError, sender.take_key, b"\0\2")
        self.assertEqual(receive(receiver, send(sender, 1)), b"payload")

    def test_a_key_does_not_open_what_another_sealed(self):
        sender, receiver = pair(params(2))
        wire = bytearray(send(sender, 1))
        wire[-11] ^= 1
        self.refuse(receiver, wire, "srtp tag")

    def test_keys_that_cant_be(self):
        self.assertRaises(ValueError, SessionSender, SUITE, [], new_aes)
        self.assertRaises(ValueError, SessionSender, SUITE, [KeyParam(KEY[1:])], new_aes)
        self.assertRaises(ValueError, SessionSender, SUITE, [KeyParam(KEY), KeyParam(KEY)], new_aes)
        keys = [KeyParam(KEY, None, b"1"), KeyParam(KEY + b"x", None, b"2")]
        self.assertRaises(ValueError, SessionSender, SUITE, keys, new_aes)
        keys = [KeyParam(KEY, None, b"1"), KeyParam(KEY, None, b"22")]
        self.assertRaises(ValueError, SessionReceiver, SUITE, keys, new_aes)

    def test_lifetime_of_each(self):
        """SRTP and SRTCP have it each, all sources together (RFC 4568 section 6.1)."""
        sender, _ = pair(params(2, 6))
        receiver = SessionReceiver(SUITE, params(2, 3), new_aes)
        self.assertEqual(sender.left(), 6)
        wires = [send(sender, i, i % 2 + 1) for i in range(6)]
        self.assertEqual((sender.left(b"\0\0"), sender.left(b"\0\1"), sender.left()), (0, 6, 6))
        packet, size = plain_of(9)
        self.assertRaises(StateError, sender.protect, packet, size)
        for wire in wires[:3]:
            receive(receiver, wire)
        self.refuse(receiver, wires[3], "srtp lifetime")
        rtcp = [sender.protect_rtcp(RTCP) for _ in range(6)]
        self.assertRaises(StateError, sender.protect_rtcp, RTCP)
        for wire in rtcp[:3]:
            receiver.unprotect_rtcp(wire)
        self.refuse_rtcp(receiver, rtcp[3], "srtp lifetime")
        sender.take_key(b"\0\1")
        self.assertEqual(receive(receiver, send(sender, 9)), b"payload")
        self.assertEqual(sender.left(b"\0\1"), 5)

    def test_forged_packets_use_up_nothing(self):
        sender, _ = pair()
        receiver = SessionReceiver(SUITE, params(1, 1), new_aes)
        wire = send(sender, 1)
        for _ in range(5):
            self.refuse(receiver, wire[:-1] + b"x", "srtp tag")
        self.assertEqual(receive(receiver, wire), b"payload")
        self.assertEqual(receiver._rtp.keys[0].left, 0)

    def test_refused_packets_of_ours_use_up_nothing(self):
        sender, _ = pair(params(1, 3))
        send(sender, 5)
        packet, size = plain_of(5)
        self.assertRaises(StateError, sender.protect, packet, size)
        self.assertEqual(sender.left(), 2)

    def test_expired(self):
        sender, receiver = pair(params(2))
        wires = [send(sender, i) for i in range(3)]
        receive(receiver, wires[0])
        receiver.expire(b"\0\1")
        receive(receiver, wires[1])
        receiver.expire()
        self.refuse(receiver, wires[2], "srtp lifetime")
        sender.expire(b"\0\0")
        packet, size = plain_of(9)
        self.assertRaises(StateError, sender.protect, packet, size)
        sender.take_key(b"\0\1")
        sender.protect(packet, size)


class SourcesTest(Case):
    def test_several_at_once(self):
        sender, receiver = pair()
        wires = []
        for i in range(8):
            for ssrc in (1, 2, 3):
                wires.append(send(sender, 65532 + i * ssrc, ssrc))
        for wire in wires:
            self.assertEqual(receive(receiver, wire), b"payload")
        for wire in wires:
            self.refuse(receiver, wire, "srtp replay")

    def test_not_more_than_there_is_room_for(self):
        sender, _ = pair()
        _, receiver = pair(max_sources=2)
        small = SessionSender(SUITE, params(), new_aes, None, CM, 1)
        wires = [send(sender, 1, ssrc) for ssrc in (1, 2, 3)]
        receive(receiver, wires[0])
        forged = bytearray(wires[1])
        forged[-1] ^= 1
        for _ in range(3):
            self.refuse(receiver, forged, "srtp tag")
        receive(receiver, wires[1])
        self.refuse(receiver, wires[2], "srtp ssrc")
        self.assertEqual(receive(receiver, send(sender, 2, 1)), b"payload")
        send(small, 1, 1)
        packet, size = plain_of(1, 2)
        self.assertRaises(StateError, small.protect, packet, size)

    def test_rtcp_of_several(self):
        sender, receiver = pair()
        wires = []
        for ssrc in (b"aaaa", b"bbbb", b"aaaa"):
            plain = RTCP[:4] + ssrc + RTCP[8:]
            wires.append(sender.protect_rtcp(plain))
            self.assertEqual(receiver.unprotect_rtcp(wires[-1]), plain)
        self.assertEqual([wire[-11] for wire in wires], [1, 1, 2])
        for wire in wires:
            self.refuse_rtcp(receiver, wire, "srtcp replay")

    def test_short(self):
        sender, receiver = pair(params(2))
        wire, rtcp = send(sender, 1), sender.protect_rtcp(RTCP)
        for size in range(len(wire)):
            with self.assertRaises((SecurityError, ParseError)):
                receiver.unprotect(bytearray(wire), size)
        for size in range(len(rtcp)):
            self.assertRaises(SecurityError, receiver.unprotect_rtcp, rtcp[:size])
            if size < 24:
                self.refuse_rtcp(receiver, rtcp[:size], "srtcp size")
        self.assertEqual(receive(receiver, wire), b"payload")
        self.assertEqual(receiver.unprotect_rtcp(rtcp), RTCP)
        self.assertRaises(ParseError, sender.protect, bytearray(40), 11)
        self.assertRaises(ParseError, sender.protect_rtcp, bytes(7))
        for size in range(12):
            self.assertRaises(ParseError, sender.protect, bytearray(size), size)

    def test_short_without_mki(self):
        sender, receiver = pair()
        wire, rtcp = send(sender, 1), sender.protect_rtcp(RTCP)
        for size in range(22):
            self.assertRaises(ParseError, receiver.unprotect, bytearray(wire[:size]), size)
            self.refuse_rtcp(receiver, rtcp[:size], "srtcp size")
        self.assertEqual(receive(receiver, wire), b"payload")

    def test_every_bit_matters(self):
        sender, receiver = pair(params(2), Terms(2))
        receive(receiver, send(sender, 1))
        wire, rtcp = send(sender, 2), sender.protect_rtcp(RTCP)
        for bit in range(8 * len(wire)):
            bad = bytearray(wire)
            bad[bit >> 3] ^= 1 << (bit & 7)
            with self.assertRaises((SecurityError, ParseError)):
                receiver.unprotect(bad, len(bad))
        for bit in range(8 * len(rtcp)):
            bad = bytearray(rtcp)
            bad[bit >> 3] ^= 1 << (bit & 7)
            self.assertRaises(SecurityError, receiver.unprotect_rtcp, bytes(bad))
        self.assertEqual(receive(receiver, wire), b"payload")
        self.assertEqual(receiver.unprotect_rtcp(rtcp), RTCP)

    def test_window(self):
        sender, _ = pair()
        _, receiver = pair(None, Terms(0, 128))
        wires = [send(sender, i) for i in range(130)]
        receive(receiver, wires[127])
        receive(receiver, wires[0])
        receive(receiver, wires[129])
        self.refuse(receiver, wires[1], "srtp replay")
        rtcp = [sender.protect_rtcp(RTCP) for i in range(130)]
        for i in (127, 0, 129):
            receiver.unprotect_rtcp(rtcp[i])
        self.refuse_rtcp(receiver, rtcp[1], "srtcp replay")


class ClearTest(Case):
    def test_srtp(self):
        sender, receiver = pair(None, Terms(0, 64, True, False))
        packet, size = plain_of(1)
        wire = send(sender, 1)
        self.assertEqual(wire[:size], bytes(packet[:size]))
        self.assertEqual(len(wire), size + 10)
        self.refuse(receiver, wire[:-1] + bytes([wire[-1] ^ 1]), "srtp tag")
        self.assertEqual(receive(receiver, wire), b"payload")
        self.refuse(receiver, wire, "srtp replay")
        self.assertEqual(sender.protect_rtcp(RTCP), pair()[0].protect_rtcp(RTCP))

    def test_srtcp(self):
        sender, receiver = pair(None, Terms(0, 64, False, True))
        wire = sender.protect_rtcp(RTCP)
        self.assertEqual(wire[:-10], RTCP + b"\0\0\0\1")
        self.refuse_rtcp(receiver, pair()[0].protect_rtcp(RTCP), "srtcp encryption")
        self.refuse_rtcp(pair()[1], wire, "srtcp encryption")
        self.assertRaises(SecurityError, SrtcpReceiver(SUITE, KEY, new_aes).unprotect, wire)
        self.assertEqual(receiver.unprotect_rtcp(wire), RTCP)
        self.refuse_rtcp(receiver, wire, "srtcp replay")
        self.assertEqual(send(sender, 1), send(pair()[0], 1))


if __name__ == "__main__":
    unittest.main()
