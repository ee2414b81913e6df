import unittest

from sipwire.agreement import best, client_offer, hop_nonce, hop_spi, parse_mechanisms, server_offer
from sipwire.digest import ha1
from sipwire.errors import ParseError, SecurityError, StateError
from sipwire.hop import MAX_SEQ, OVERHEAD_BYTES, HopReceiver, HopSender, derive_keys, frame_seq, frame_spi
from support import load, new_aes, unhex

VECTOR = load("wire.json")["hop"]


def keys():
    return derive_keys(
        VECTOR["ha1"].encode(),
        VECTOR["user"].encode(),
        VECTOR["realm"].encode(),
        bytes(range(16)),
        VECTOR["neighbour_nonce"].encode(),
        VECTOR["security_client"].encode(),
        VECTOR["security_server"].encode(),
    )


class VectorTest(unittest.TestCase):
    def test_ha1(self):
        secret = ha1(VECTOR["user"].encode(), VECTOR["realm"].encode(), VECTOR["password"].encode())
        self.assertEqual(secret, VECTOR["ha1"].encode())

    def test_offers(self):
        self.assertEqual(client_offer(305419896, bytes(range(16))), VECTOR["security_client"].encode())
        self.assertEqual(server_offer(2596069104), VECTOR["security_server"].encode())

    def test_keys(self):
        outbound, inbound = keys()
        for name, direction in (("t2n", outbound), ("n2t", inbound)):
            for part in ("key", "auth", "salt"):
                self.assertEqual(getattr(direction, part), unhex(VECTOR["keys"][name + "_" + part]))

    def test_frames(self):
        outbound, inbound = keys()
        self.assertEqual(len(VECTOR["frames"]), 3)
        for case in VECTOR["frames"]:
            direction = outbound if case["direction"] == "t2n" else inbound
            frame = unhex(case["frame"])
            sender = HopSender(case["spi"], direction, new_aes, case["seq"] - 1)
            self.assertEqual(sender.seal(unhex(case["message"])), frame)
            receiver = HopReceiver(case["spi"], direction, new_aes)
            self.assertEqual(receiver.open(frame), unhex(case["message"]))
            self.assertEqual((frame_spi(frame), frame_seq(frame)), (case["spi"], case["seq"]))

    def test_any_change_of_an_offer_changes_every_key(self):
        good = keys()
        arguments = [
            VECTOR["ha1"].encode(),
            VECTOR["user"].encode(),
            VECTOR["realm"].encode(),
            bytes(range(16)),
            VECTOR["neighbour_nonce"].encode(),
            VECTOR["security_client"].encode(),
            VECTOR["security_server"].encode(),
        ]
        for i in range(1, 7):
            other = list(arguments)
            other[i] = other[i] + b" "
            for one, two in zip(good, derive_keys(*other)):
                self.assertNotEqual(one.key, two.key)
                self.assertNotEqual(one.auth, two.auth)
                self.assertNotEqual(one.salt, two.salt)


class FrameTest(unittest.TestCase):
    def setUp(self):
        outbound, _ = keys()
        self.sender = HopSender(7, outbound, new_aes)
        self.receiver = HopReceiver(7, outbound, new_aes)

    def test_sizes(self):
        for size in (0, 1, 16, 255, 256, 257, 1000, 5000):
            message = bytes([i & 0xFF for i in range(size)])
            frame = self.sender.seal(message)
            self.assertEqual(len(frame), size + OVERHEAD_BYTES)
            self.assertEqual(self.receiver.open(frame), message)

    def test_the_beginning_of_a_message(self):
        """Authenticated as a whole, deciphered in part."""
        message = bytes([i & 0xFF for i in range(1000)])
        for most in (0, 1, 100, 128, 129, 999, 1000, 5000):
            self.assertEqual(self.receiver.open(self.sender.seal(message), most), message[:most])
        frame = self.sender.seal(message)
        for bad in (frame[:-1] + bytes([frame[-1] ^ 1]), frame[:900] + bytes([frame[900] ^ 1]) + frame[901:]):
            self.assertRaises(SecurityError, self.receiver.open, bad, 10)
        self.assertEqual(self.receiver.open(frame, 10), message[:10])
        self.assertRaises(SecurityError, self.receiver.open, frame, 10)

    def test_numbers_rise(self):
        self.assertEqual([frame_seq(self.sender.seal(b"")) for _ in range(3)], [1, 2, 3])

    def test_every_bit_matters(self):
        frame = self.sender.seal(b"REGISTER")
        for bit in range(8 * len(frame)):
            bad = bytearray(frame)
            bad[bit >> 3] ^= 1 << (bit & 7)
            self.assertRaises(SecurityError, self.receiver.open, bytes(bad))
        for size in range(len(frame)):
            self.assertRaises(SecurityError, self.receiver.open, frame[:size])
        self.assertRaises(SecurityError, self.receiver.open, frame + b"\0")
        self.assertEqual(self.receiver.open(frame), b"REGISTER")

    def test_replay_and_window(self):
        frames = [self.sender.seal(b"%d" % i) for i in range(100)]
        for i in (0, 2, 1, 70, 7):
            self.assertEqual(self.receiver.open(frames[i]), b"%d" % i)
        for i in (0, 1, 2, 7, 70, 5, 6):  # 5 and 6 are older than the window of 64
            with self.assertRaises(SecurityError) as caught:
                self.receiver.open(frames[i])
            self.assertEqual(caught.exception.check, "hop replay")
        self.assertEqual(self.receiver.open(frames[8]), b"8")

    def test_after_a_restart(self):
        """What was seen before a restart stays seen: the highest number is all that has to be kept."""
        frames = [self.sender.seal(b"") for _ in range(10)]
        again = HopReceiver(7, keys()[0], new_aes, 5)
        for frame in frames[:5]:
            self.assertRaises(SecurityError, again.open, frame)
        for frame in frames[5:]:
            again.open(frame)

    def test_used_up(self):
        sender = HopSender(7, keys()[0], new_aes, MAX_SEQ - 1)
        self.assertEqual(frame_seq(sender.seal(b"")), MAX_SEQ)
        self.assertRaises(StateError, sender.seal, b"")

    def test_directions_differ(self):
        frame = HopSender(7, keys()[1], new_aes).seal(b"reflected")
        self.assertRaises(SecurityError, self.receiver.open, frame)

    def test_no_frame(self):
        for data in (b"", b"\xe1", b"INVITE sip:a SIP/2.0\r\n" * 3, b"\x80" + bytes(60)):
            self.assertRaises(SecurityError, frame_spi, data)


class AgreementTest(unittest.TestCase):
    def test_parse(self):
        offers = parse_mechanisms([VECTOR["security_client"].encode(), b"tls;q=0.2", b"Digest;d-qop=auth"])
        self.assertEqual([offer.name for offer in offers], [b"wisp-hop", b"tls", b"digest"])
        self.assertEqual([offer.q for offer in offers], [900, 200, 1000])
        self.assertEqual(hop_spi(offers[0]), 305419896)
        self.assertEqual(hop_nonce(offers[0]), bytes(range(16)))

    def test_best(self):
        offers = parse_mechanisms([b"tls;q=0.2", b"wisp-hop;q=0.9", b"ipsec-3gpp;q=0.95", b"wisp-hop;q=0.9;x"])
        self.assertIs(best(offers, (b"wisp-hop", b"tls")), offers[1])
        self.assertIs(best(offers, (b"tls",)), offers[0])
        self.assertIsNone(best(offers, (b"digest",)))

    def test_invalid(self):
        for value in (b"", b";q=1", b"a b", b"tls;;", b"tls;q="):
            self.assertRaises(ParseError, parse_mechanisms, [value])
        for q in (b"2", b"1.001", b"0.1234", b"x", b"0.x", b"-1"):
            offer = parse_mechanisms([b"tls;q=" + q])[0]
            self.assertRaises(ParseError, lambda offer=offer: offer.q)

    def test_bad_hop_offers(self):
        good = VECTOR["security_client"].encode()
        for old, new in (
            (b"spi=305419896", b"spi=0"),
            (b"spi=305419896", b"spi=4294967296"),
            (b"spi=305419896", b"spi=x"),
            (b";spi=305419896", b""),
            (b"hmac-sha-256-128", b"hmac-md5-96"),
            (b"aes-ctr-128", b"null"),
            (b"wisp-hop", b"wisp-hop2"),
        ):
            offer = parse_mechanisms([good.replace(old, new)])[0]
            self.assertRaises(ParseError, hop_spi, offer)
        for new in (b"", b';nonce="AAEC"', b";nonce=x", b';nonce="!"'):
            offer = parse_mechanisms([good[: good.find(b";nonce")] + new])[0]
            self.assertRaises(ParseError, hop_nonce, offer)


if __name__ == "__main__":
    unittest.main()
