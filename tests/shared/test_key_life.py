import unittest

from sipwire.crypto import KeyParam
from sipwire.errors import SecurityError, StateError
from sipwire.key_life import KeyLife
from sipwire.sessions import SessionReceiver, SessionSender
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender
from support import new_aes

SUITE = SUITES[b"AES_CM_128_HMAC_SHA1_80"]
KEY = bytes(range(30))
REPORT = b"\x80\xc9\x00\x01\x12\x34\x56\x78"


def packet_of(seq):
    packet = bytearray(50)
    packet[0] = 0x80
    packet[3] = seq
    return packet


class KeyLifeTest(unittest.TestCase):
    def test_by_time(self):
        sender, receiver = SrtpSender(SUITE, KEY, new_aes), SrtpReceiver(SUITE, KEY, new_aes)
        rtcp_sender, rtcp_receiver = SrtcpSender(SUITE, KEY, new_aes), SrtcpReceiver(SUITE, KEY, new_aes)
        life = KeyLife([sender, receiver, rtcp_sender, rtcp_receiver], 1000, 100, 150)
        self.assertEqual(life.timer_at, 1100)
        life.handle_timer(1099)
        self.assertFalse(life.wants_another())
        life.handle_timer(1100)
        self.assertTrue(life.wants_another())
        self.assertEqual(life.timer_at, 1150)
        packet = packet_of(1)
        receiver.unprotect(packet, sender.protect(packet, 30))
        wires = [packet_of(2), packet_of(3)]
        sizes = [sender.protect(wire, 30) for wire in wires]
        report = rtcp_sender.protect(REPORT)
        life.handle_timer(1149)
        self.assertEqual(receiver.unprotect(wires[0], sizes[0]), 30)
        life.handle_timer(1150)
        self.assertIsNone(life.timer_at)
        self.assertRaises(StateError, sender.protect, packet_of(4), 30)
        self.assertRaises(SecurityError, receiver.unprotect, wires[1], sizes[1])
        self.assertRaises(StateError, rtcp_sender.protect, REPORT)
        self.assertRaises(SecurityError, rtcp_receiver.unprotect, report)
        life.handle_timer(5000)
        self.assertTrue(life.wants_another())

    def test_who_slept_through_both(self):
        sender = SrtpSender(SUITE, KEY, new_aes)
        life = KeyLife([sender], 0, 100, 150)
        life.handle_timer(9999)
        self.assertRaises(StateError, sender.protect, packet_of(1), 30)

    def test_by_packets(self):
        sender = SrtpSender(SUITE, KEY, new_aes, b"", 10)
        life = KeyLife([sender, SrtpReceiver(SUITE, KEY, new_aes)], 0, 100, 150, 7)
        for seq in range(10):
            self.assertEqual(life.wants_another(), seq > 3)
            sender.protect(packet_of(seq), 30)

    def test_sessions(self):
        keys = [KeyParam(KEY, 10)]
        sender, receiver = SessionSender(SUITE, keys, new_aes), SessionReceiver(SUITE, keys, new_aes)
        life = KeyLife([sender, receiver], 0, 100, 150, 7)
        self.assertFalse(life.wants_another())
        for seq in range(4):
            packet = packet_of(seq)
            receiver.unprotect(packet, sender.protect(packet, 30))
        self.assertTrue(life.wants_another())
        life.handle_timer(150)
        self.assertRaises(StateError, sender.protect, packet_of(9), 30)

    def test_times_that_cant_be(self):
        for renew, end in ((0, 10), (10, 10), (11, 10)):
            self.assertRaises(ValueError, KeyLife, [], 0, renew, end)


if __name__ == "__main__":
    unittest.main()
