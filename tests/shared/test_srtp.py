import unittest

from sipwire.aes_cm import MAX_BYTES, CounterMode
from sipwire.errors import ParseError, SecurityError, StateError
from sipwire.rtp import build_header
from sipwire.srtcp import SrtcpReceiver, SrtcpSender
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender, session_keys
from support import AES_KEY_BYTES, load, new_aes, unhex

SUITE_80 = SUITES[b"AES_CM_128_HMAC_SHA1_80"]
KEY = bytes(range(30))


def make(seq, payload=b"payload", ssrc=0x12345678):
    """An RTP packet in a buffer with room for a tag: (buffer, size)."""
    packet = bytearray(12 + len(payload) + 20)
    build_header(packet, 0, seq & 0xFFFF, seq * 160 & 0xFFFFFFFF, ssrc)
    packet[12 : 12 + len(payload)] = payload
    return packet, 12 + len(payload)


def pair(suite=SUITE_80, key=KEY):
    return SrtpSender(suite, key, new_aes), SrtpReceiver(suite, key, new_aes)


def send(sender, seq, payload=b"payload", ssrc=0x12345678):
    packet, size = make(seq, payload, ssrc)
    return bytes(packet[: sender.protect(packet, size)])


def receive(receiver, wire):
    packet = bytearray(wire)
    size = receiver.unprotect(packet, len(packet))
    return bytes(packet[12:size])


class VectorTest(unittest.TestCase):
    def test_sp800_38a_counter(self):
        """SP 800-38A has a free counter; its first block is our IV with block number 0xfeff, so only AES itself is
        checked.
        """
        for case in load("kat/aes_ctr_sp800_38a.json"):
            if len(case["key"]) // 2 not in AES_KEY_BYTES:
                continue
            encrypt = new_aes(unhex(case["key"]))
            counter = int(case["counter"], 16)
            plain = unhex(case["plaintext"])
            out = bytearray()
            for i in range(0, len(plain), 16):
                pad = bytearray(16)
                encrypt(bytearray(((counter + i // 16) % (1 << 128)).to_bytes(16, "big")), pad)
                out += bytes([a ^ b for a, b in zip(plain[i : i + 16], pad)])
            self.assertEqual(bytes(out), unhex(case["ciphertext"]))

    def test_keystream_and_key_derivation(self):
        kinds = []
        for case in load("srtp/rfc3711_rfc6188_kat.json"):
            if len(case.get("session_key") or case["master_key"]) // 2 not in AES_KEY_BYTES:
                continue
            kinds.append(case["kind"])
            if case["kind"] == "aes-cm-keystream":
                cipher = CounterMode(new_aes(unhex(case["session_key"])), unhex(case["session_salt"]), 3)
                size = 16 * 0xFF02
                data = bytearray(size)
                cipher.apply(data, 0, size, case["ssrc"], case["roc"], case["seq"])
                for first, blocks in case["keystream_blocks"].items():
                    at = 16 * int(first, 16)
                    self.assertEqual(bytes(data[at : at + 16 * len(blocks)]), unhex("".join(blocks)), case["source"])
            else:
                auth_size = len(case["auth_key"]) // 2
                keys = session_keys(unhex(case["master_key"]), unhex(case["master_salt"]), new_aes, 0, auth_size)
                self.assertEqual(keys, (unhex(case["cipher_key"]), unhex(case["auth_key"]), unhex(case["cipher_salt"])))
        self.assertEqual(kinds.count("aes-cm-keystream"), len(AES_KEY_BYTES))
        self.assertEqual(kinds.count("srtp-kdf"), len(AES_KEY_BYTES))

    def test_generated_sessions(self):
        done = 0
        for session in load("srtp/generated_sessions.json")["sessions"]:
            name = session["suite"].encode()
            if name not in SUITES:
                self.assertTrue(name.startswith(b"AEAD_"))
                continue
            key = unhex(session["master_key"]) + unhex(session["master_salt"])
            sender, receiver = pair(SUITES[name], key)
            for case in session["rtp"]:
                plain = unhex(case["plain"])
                packet = bytearray(plain + bytes(20))
                size = sender.protect(packet, len(plain))
                self.assertEqual(bytes(packet[:size]), unhex(case["protected"]))
                size = receiver.unprotect(packet, size)
                self.assertEqual(bytes(packet[:size]), plain)
                done += 1
            rtcp_out, rtcp_in = SrtcpSender(SUITES[name], key, new_aes), SrtcpReceiver(SUITES[name], key, new_aes)
            for case in session["rtcp"]:
                rtcp_out.index = case["index"] - 1
                self.assertEqual(rtcp_out.protect(unhex(case["plain"])), unhex(case["protected"]))
                self.assertEqual(rtcp_in.unprotect(unhex(case["protected"])), unhex(case["plain"]))
                done += 1
        self.assertEqual(done, 30)


class CounterModeTest(unittest.TestCase):
    def test_any_number_of_blocks_a_call_gives_one_keystream(self):
        wanted = bytearray(1000)
        CounterMode(new_aes(KEY[:16]), KEY[16:], 70).apply(wanted, 0, 1000, 7, 0x12345678, 0x9ABC)
        for blocks in (1, 2, 10, 62, 63):
            cipher = CounterMode(new_aes(KEY[:16]), KEY[16:], blocks)
            for size in (0, 1, 15, 16, 17, 160, 999, 1000):
                data = bytearray(size + 3)
                cipher.apply(data, 3, size + 3, 7, 0x12345678, 0x9ABC)
                self.assertEqual(data[3:], wanted[:size])
                self.assertEqual(data[:3], bytes(3))

    def test_ssrc_and_index_change_the_keystream(self):
        cipher = CounterMode(new_aes(KEY[:16]), KEY[16:], 2)
        seen = []
        for ssrc, high, low in ((1, 0, 0), (2, 0, 0), (1, 0, 1), (1, 0, 256), (1, 1, 0), (1, 1 << 24, 0), (1, 0, 0)):
            data = bytearray(20)
            cipher.apply(data, 0, 20, ssrc, high, low)
            seen.append(bytes(data))
        self.assertEqual(seen[0], seen[-1])
        self.assertEqual(len(set(seen)), 6)

    def test_limit(self):
        cipher = CounterMode(new_aes(KEY[:16]), KEY[16:], 1)
        self.assertRaises(ValueError, cipher.apply, bytearray(0), 0, MAX_BYTES + 1, 1, 0, 1)


class SenderTest(unittest.TestCase):
    def test_round_trip(self):
        for suite in SUITES.values():
            if suite.key_bytes not in AES_KEY_BYTES:
                continue
            key = bytes(range(suite.key_salt_bytes))
            sender, receiver = pair(suite, key)
            for seq in range(5):
                for_wire = send(sender, seq, b"x" * seq * 40)
                self.assertEqual(len(for_wire), 12 + seq * 40 + suite.tag_bytes)
                self.assertEqual(receive(receiver, for_wire), b"x" * seq * 40)

    def test_a_sequence_number_is_never_used_twice(self):
        sender, _ = pair()
        send(sender, 10)
        for seq in (10, 9, 10 - 0x8000 & 0xFFFF):
            packet, size = make(seq)
            self.assertRaises(StateError, sender.protect, packet, size)
        send(sender, 12)

    def test_one_ssrc_a_key(self):
        sender, receiver = pair()
        self.assertEqual(receive(receiver, send(sender, 0xFFFF, b"one")), b"one")
        packet, size = make(0, ssrc=9)
        self.assertRaises(StateError, sender.protect, packet, size)
        # The refused packet has not counted a rollover.
        self.assertEqual(receive(receiver, send(sender, 0xFFFF + 1 & 0xFFFF, b"two")), b"two")

    def test_the_buffer_has_to_have_room(self):
        sender, _ = pair()
        packet, size = make(1)
        self.assertRaises(ValueError, sender.protect, packet[: size + sender.overhead_bytes - 1], size)

    def test_rollover(self):
        sender, receiver = pair()
        for seq in (65534, 65535, 0, 1):
            self.assertEqual(receive(receiver, send(sender, seq)), b"payload")
        self.assertEqual(sender.roc, 1)

    def test_rollover_while_packets_are_lost(self):
        sender, receiver = pair()
        for n in range(65000, 65000 + 3 * 65536, 1000):
            self.assertEqual(receive(receiver, send(sender, n & 0xFFFF)), b"payload")
        self.assertEqual(sender.roc, 3)

    def test_key_used_up(self):
        sender, _ = pair()
        sender.roc = 0xFFFFFFFF
        send(sender, 65535)
        packet, size = make(0)
        self.assertRaises(StateError, sender.protect, packet, size)

    def test_wrong_key_size(self):
        self.assertRaises(ValueError, SrtpSender, SUITE_80, KEY[:-1], new_aes)


class ReceiverTest(unittest.TestCase):
    def refuse(self, receiver, wire, check):
        packet = bytearray(wire)
        with self.assertRaises(SecurityError) as caught:
            receiver.unprotect(packet, len(packet))
        self.assertEqual(caught.exception.check, check)
        self.assertEqual(bytes(packet), bytes(wire), "a refused packet was touched")

    def test_every_bit_matters(self):
        sender, receiver = pair()
        receive(receiver, send(sender, 1))
        wire = send(sender, 2, b"some speech")
        for bit in range(8 * len(wire)):
            bad = bytearray(wire)
            bad[bit >> 3] ^= 1 << (bit & 7)
            with self.assertRaises((SecurityError, ParseError)):
                receiver.unprotect(bad, len(bad))
        self.assertEqual(receive(receiver, wire), b"some speech")

    def test_truncated(self):
        sender, receiver = pair()
        wire = send(sender, 1)
        for size in range(len(wire)):
            with self.assertRaises((SecurityError, ParseError)):
                receiver.unprotect(bytearray(wire), size)
        self.assertEqual(receive(receiver, wire), b"payload")

    def test_replay(self):
        sender, receiver = pair()
        wires = [send(sender, seq) for seq in range(200)]
        receive(receiver, wires[10])
        self.refuse(receiver, wires[10], "srtp replay")
        receive(receiver, wires[9])
        receive(receiver, wires[73])
        receive(receiver, wires[11])
        self.refuse(receiver, wires[8], "srtp replay")  # 65 behind: too old to tell
        for wire in (wires[9], wires[10], wires[11], wires[73]):
            self.refuse(receiver, wire, "srtp replay")
        for seq in range(74, 200):
            receive(receiver, wires[seq])
        for seq in range(200):
            self.refuse(receiver, wires[seq], "srtp replay")

    def test_reordering_across_the_wrap(self):
        sender, receiver = pair()
        wires = [send(sender, (65530 + i) & 0xFFFF) for i in range(12)]
        for i in (1, 0, 3, 8, 5, 4, 11, 6, 7, 2, 10, 9):
            self.assertEqual(receive(receiver, wires[i]), b"payload")
        self.refuse(receiver, wires[7], "srtp replay")

    def test_forged_packets_move_nothing(self):
        sender, receiver = pair()
        receive(receiver, send(sender, 100))
        forged = bytearray(send(pair(SUITE_80, bytes(30))[0], 30000))
        for _ in range(1000):
            self.refuse(receiver, forged, "srtp tag")
        self.assertEqual(receive(receiver, send(sender, 101)), b"payload")

    def test_another_ssrc(self):
        sender, receiver = pair()
        receive(receiver, send(sender, 1))
        other = SrtpSender(SUITE_80, KEY, new_aes)
        self.refuse(receiver, send(other, 2, ssrc=9), "srtp ssrc")

    def test_another_ssrc_by_agreement(self):
        """One at a time, by its first authentic packet; none of the past ever comes back."""
        sender, receiver = pair()
        old = [send(sender, seq) for seq in range(4)]
        receive(receiver, old[0])
        receiver.allow_source()
        receive(receiver, old[1])  # the present one may go on
        other = SrtpSender(SUITE_80, KEY, new_aes)
        wires = [send(other, seq, ssrc=9) for seq in (60000, 60001, 60002, 60070)]
        bad = bytearray(wires[0])
        bad[-1] ^= 1
        self.refuse(receiver, bad, "srtp tag")
        receive(receiver, old[2])  # nothing has changed by that
        for i in (0, 1, 3):
            self.assertEqual(receive(receiver, wires[i]), b"payload")
        self.refuse(receiver, wires[0], "srtp replay")
        self.refuse(receiver, wires[2], "srtp replay")
        self.refuse(receiver, old[3], "srtp ssrc")
        receiver.allow_source()
        self.refuse(receiver, old[3], "srtp ssrc")
        self.assertEqual(receiver.sources, 1)

    def test_not_so_many_ssrcs(self):
        _, receiver = pair()
        for i in range(17):
            receiver.allow_source()
            receive(receiver, send(SrtpSender(SUITE_80, KEY, new_aes), 1, ssrc=i + 1))
        receiver.allow_source()
        self.refuse(receiver, send(SrtpSender(SUITE_80, KEY, new_aes), 1, ssrc=99), "srtp ssrc")

    def test_another_ssrc_has_its_own_rollover_counter(self):
        sender, receiver = pair()
        for seq in (65535, 0):
            receive(receiver, send(sender, seq))
        receiver.allow_source()
        other = SrtpSender(SUITE_80, KEY, new_aes)
        for seq in (65534, 65535, 0, 1):
            self.assertEqual(receive(receiver, send(other, seq, ssrc=9)), b"payload")

    def test_not_rtp(self):
        _, receiver = pair()
        for junk in (
            b"",
            b"\x80",
            bytes(40),
            b"\xff" * 12,
            b"\x9f" + bytes(40),
            b"\x90" + bytes(11) + b"\0\0\xff\xff" + bytes(30),
        ):
            with self.assertRaises((SecurityError, ParseError)):
                receiver.unprotect(bytearray(junk), len(junk))

    def test_mki(self):
        sender = SrtpSender(SUITE_80, KEY, new_aes, b"\0\1")
        receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"\0\1")
        wire = send(sender, 1)
        self.assertEqual(wire[-12:-10], b"\0\1")
        self.refuse(SrtpReceiver(SUITE_80, KEY, new_aes, b"\0\2"), wire, "srtp mki")
        self.assertEqual(receive(receiver, wire), b"payload")

    def test_wider_window(self):
        sender, _ = pair()
        receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"", 128)
        wires = [send(sender, seq) for seq in range(130)]
        receive(receiver, wires[127])
        receive(receiver, wires[0])
        receive(receiver, wires[129])
        self.refuse(receiver, wires[1], "srtp replay")


class SrtcpTest(unittest.TestCase):
    PACKET = b"\x80\xc9\x00\x01\x12\x34\x56\x78" + b"report block" * 2

    def setUp(self):
        self.sender = SrtcpSender(SUITE_80, KEY, new_aes)
        self.receiver = SrtcpReceiver(SUITE_80, KEY, new_aes)

    def test_round_trip_and_replay(self):
        wire = self.sender.protect(self.PACKET)
        self.assertEqual(len(wire), len(self.PACKET) + 14)
        self.assertEqual(self.receiver.unprotect(wire), self.PACKET)
        self.assertRaises(SecurityError, self.receiver.unprotect, wire)

    def test_every_bit_matters(self):
        wire = self.sender.protect(self.PACKET)
        for bit in range(8 * len(wire)):
            bad = bytearray(wire)
            bad[bit >> 3] ^= 1 << (bit & 7)
            self.assertRaises(SecurityError, self.receiver.unprotect, bytes(bad))
        for size in range(len(wire)):
            self.assertRaises(SecurityError, self.receiver.unprotect, wire[:size])
        self.assertEqual(self.receiver.unprotect(wire), self.PACKET)

    def test_used_up(self):
        self.sender.index = 0x7FFFFFFF
        self.assertRaises(StateError, self.sender.protect, self.PACKET)


if __name__ == "__main__":
    unittest.main()
