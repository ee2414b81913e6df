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

    def test_another_ssrc_that_counts_on(self):
        sender, receiver = pair()
        self.assertEqual(receive(receiver, send(sender, 5)), b"payload")
        self.assertEqual(receive(receiver, send(sender, 6)), b"payload")
        packet, size = make(7, ssrc=9)
        self.assertRaises(StateError, sender.protect, packet, size)
        self.assertEqual(receive(receiver, send(sender, 7)), b"payload")

    def test_the_end_of_a_lifetime_is_not_leapt_over(self):
        sender = SrtpSender(SUITE_80, KEY, new_aes, b"", 10)
        send(sender, 1)
        packet, size = make(11)
        self.assertRaises(StateError, sender.protect, packet, size)
        send(sender, 10)

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

    def test_lifetime(self):
        for start in (0, 1, 65530, 65535):
            sender = SrtpSender(SUITE_80, KEY, new_aes, b"", 10)
            self.assertEqual(sender.left(), 10)
            for i in range(10):
                send(sender, start + i & 0xFFFF)
                self.assertEqual(sender.left(), 9 - i)
            for i in (10, 11, 500):
                packet, size = make(start + i & 0xFFFF)
                before = bytes(packet)
                self.assertRaises(StateError, sender.protect, packet, size)
                self.assertEqual(bytes(packet), before)

    def test_lifetime_of_more_than_one_rollover(self):
        sender = SrtpSender(SUITE_80, KEY, new_aes, b"", 2 * 65536 + 3)
        for n in range(65530, 65530 + 2 * 65536, 16384):
            send(sender, n & 0xFFFF)
        self.assertEqual(sender.left(), 16384 + 2)
        for n in (0, 1, 2):
            send(sender, 65530 + n)  # 65530 + 2 * 65536 + n
        self.assertEqual(sender.left(), 0)
        packet, size = make(65533)
        self.assertRaises(StateError, sender.protect, packet, size)

    def test_lifetime_of_a_suite(self):
        sender, _ = pair()
        self.assertEqual(sender.left(), 1 << 48)
        send(sender, 100)
        self.assertEqual(sender.left(), (1 << 48) - 101)

    def test_expired(self):
        for sent in (0, 1):
            sender, _ = pair()
            for seq in range(65535, 65535 + sent):
                send(sender, seq)
            sender.expire()
            self.assertEqual(sender.left(), 0)
            for seq in (0, 1):
                packet, size = make(seq)
                self.assertRaises(StateError, sender.protect, packet, size)


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

    def test_one_more_each_time_it_is_allowed(self):
        sender, receiver = pair()
        receive(receiver, send(sender, 1))
        receiver.allow_source()
        receive(receiver, send(SrtpSender(SUITE_80, KEY, new_aes), 1, ssrc=9))
        self.refuse(receiver, send(SrtpSender(SUITE_80, KEY, new_aes), 1, ssrc=10), "srtp ssrc")

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

    def test_lifetime(self):
        for start in (0, 65530):
            sender = SrtpSender(SUITE_80, KEY, new_aes)
            receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"", 64, 10)
            wires = [send(sender, start + i & 0xFFFF) for i in range(12)]
            receive(receiver, wires[0])
            receive(receiver, wires[9])
            self.refuse(receiver, wires[10], "srtp lifetime")
            self.refuse(receiver, wires[11], "srtp lifetime")
            receive(receiver, wires[8])

    def test_lifetime_of_more_than_one_rollover(self):
        sender = SrtpSender(SUITE_80, KEY, new_aes)
        receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"", 64, 65536 + 50)
        for n in (65500, 80000, 100000, 120000, 131070):
            receive(receiver, send(sender, n & 0xFFFF))
        wires = [send(sender, n & 0xFFFF) for n in range(131071, 131087)]
        for i in (1, 0, 14):
            receive(receiver, wires[i])  # the last one is the 65586th
        self.refuse(receiver, wires[15], "srtp lifetime")
        receive(receiver, wires[13])

    def test_the_end_of_a_lifetime_is_not_leapt_over(self):
        sender = SrtpSender(SUITE_80, KEY, new_aes)
        receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"", 64, 65536 + 50)  # up to 131085
        for n in (65500, 80000, 100000, 120000):
            receive(receiver, send(sender, n & 0xFFFF))
        self.refuse(receiver, send(sender, 131086 & 0xFFFF), "srtp lifetime")

    def test_another_source_brings_the_end_nearer(self):
        """Though the rollover counter is that of the packet before."""
        receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"", 64, 65536 + 70000)
        sender = SrtpSender(SUITE_80, KEY, new_aes)
        for n in (0, 32000, 64000):  # 64001 of them
            receive(receiver, send(sender, n))
        receiver.allow_source()
        sender = SrtpSender(SUITE_80, KEY, new_aes)
        for n in (0, 31000, 62000):
            receive(receiver, send(sender, n, ssrc=9))
        self.refuse(receiver, send(sender, 72000 & 0xFFFF, ssrc=9), "srtp lifetime")

    def test_replay_of_what_was_long_ago(self):
        """The rollover counter is guessed a second time for the first packet only."""
        sender, receiver = pair()
        old = send(sender, 60000)
        receive(receiver, old)
        newer = send(sender, 65536 + 20000 & 0xFFFF)
        receive(receiver, newer)
        for n in (110000, 140000, 170000, 180000, 190000):
            receive(receiver, send(sender, n & 0xFFFF))
        self.refuse(receiver, old, "srtp tag")
        receive(receiver, send(sender, 205000 & 0xFFFF))
        self.refuse(receiver, newer, "srtp tag")

    def test_nothing_is_before_the_first_index(self):
        sender, receiver = pair()
        for seq in (5, 20):
            receive(receiver, send(sender, seq))
            for forged in (65535, 65500, 65480, 40000):
                self.refuse(receiver, send(pair()[0], forged), "srtp replay")

    def test_after_a_key_with_few_packets_or_none(self):
        for received in (0, 1):
            _, before = pair()
            if received:
                receive(before, send(pair()[0], 5))
            sender, receiver = pair(SUITE_80, bytes(range(1, 31)))
            receiver.follow(before)
            for seq in (3, 60000, 65535):
                self.refuse(receiver, send(pair()[0], seq), "srtp tag")
            self.assertEqual(receive(receiver, send(sender, 60000)), b"payload")

    def test_lifetime_counts_all_sources(self):
        _, receiver = pair()
        receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"", 64, 10)
        wires = [send(SrtpSender(SUITE_80, KEY, new_aes), seq, ssrc=7) for seq in range(70000 - 65536, 70012 - 65536)]
        for i in range(6):
            receive(receiver, wires[i])
        receiver.allow_source()
        wires = [send(SrtpSender(SUITE_80, KEY, new_aes), seq, ssrc=8) for seq in range(20)]
        for i in range(4):
            receive(receiver, wires[i])
        self.refuse(receiver, wires[4], "srtp lifetime")
        receiver.allow_source()
        self.refuse(receiver, send(SrtpSender(SUITE_80, KEY, new_aes), 1, ssrc=9), "srtp lifetime")

    def test_key_used_up(self):
        """Nothing is of index 2^48, and a packet that says so is no reason for another error."""
        sender, receiver = pair()
        sender.roc = 0xFFFFFFFF
        before = SrtpReceiver(SUITE_80, KEY, new_aes)
        before._window.highest = 0xFFFFFFFFF000
        receiver.follow(before)
        receive(receiver, send(sender, 65534))
        self.refuse(receiver, send(pair()[0], 3), "srtp lifetime")
        receive(receiver, send(sender, 65535))
        before._window.highest = 0xFFFFFFFFFFFF
        _, receiver = pair()
        receiver.follow(before)
        self.refuse(receiver, send(pair(SUITE_80, bytes(30))[0], 3), "srtp tag")

    def test_expired(self):
        sender, receiver = pair()
        receive(receiver, send(sender, 1))
        receiver.expire()
        self.refuse(receiver, send(sender, 2), "srtp lifetime")
        _, receiver = pair()
        receiver.expire()
        self.refuse(receiver, send(sender, 3), "srtp lifetime")

    def test_the_packets_before_a_wrap_may_all_be_lost(self):
        sender, receiver = pair()
        wires = [send(sender, seq & 0xFFFF) for seq in range(65533, 65541)]
        for i in (3, 5, 4):
            self.assertEqual(receive(receiver, wires[i]), b"payload")
        self.refuse(receiver, send(pair()[0], 3), "srtp tag")  # of the time before the wrap, as it were
        self.assertEqual(receive(receiver, wires[6]), b"payload")

    def test_another_key_and_the_rollover_counter_goes_on_or_begins_anew(self):
        old, before = pair()
        for n in range(65535, 65535 + 4 * 65536, 16384):
            receive(before, send(old, n & 0xFFFF))
        self.assertEqual(old.roc, 4)
        for roc, first in ((0, 50000), (4, 50000), (5, 2)):  # the last one has just wrapped
            sender, receiver = pair(SUITE_80, bytes(range(1, 31)))
            sender.roc = roc
            receiver.follow(before)
            wires = [send(sender, first + i) for i in range(3)]
            for i in (0, 2, 1):
                self.assertEqual(receive(receiver, wires[i]), b"payload")
            self.refuse(receiver, wires[1], "srtp replay")
            receive(receiver, send(sender, first + 9))

    def test_wider_window(self):
        sender, _ = pair()
        receiver = SrtpReceiver(SUITE_80, KEY, new_aes, b"", 128)
        wires = [send(sender, seq) for seq in range(130)]
        receive(receiver, wires[127])
        receive(receiver, wires[0])
        receive(receiver, wires[129])
        self.refuse(receiver, wires[1], "srtp replay")
        for size in (0, 32, 63, 65, 100, 32776):
            self.assertRaises(ValueError, SrtpReceiver, SUITE_80, KEY, new_aes, b"", size)


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

    def test_too_short_though_authentic(self):
        for size in range(8):
            body = self.PACKET[:size] + b"\x80\0\0\1"
            self.refuse(body + self.sender._mac.digest(body)[:10], "srtcp size")

    def test_used_up(self):
        self.sender.index = 0x7FFFFFFF
        self.assertRaises(StateError, self.sender.protect, self.PACKET)

    def test_expired(self):
        wire = self.sender.protect(self.PACKET)
        self.sender.expire()
        self.receiver.expire()
        self.assertRaises(StateError, self.sender.protect, self.PACKET)
        self.refuse(wire, "srtp lifetime")

    def refuse(self, wire, check):
        with self.assertRaises(SecurityError) as caught:
            self.receiver.unprotect(wire)
        self.assertEqual(caught.exception.check, check)

    def test_lifetime(self):
        sender = SrtcpSender(SUITE_80, KEY, new_aes, b"", 5)
        self.receiver = SrtcpReceiver(SUITE_80, KEY, new_aes, b"", 64, 3)
        wires = []
        for left in (5, 4, 3, 2, 1):
            self.assertEqual(sender.left(), left)
            wires.append(sender.protect(self.PACKET))
        self.assertRaises(StateError, sender.protect, self.PACKET)
        for i in (0, 2, 1):
            self.receiver.unprotect(wires[i])
        self.refuse(wires[3], "srtcp lifetime")

    def test_another_ssrc(self):
        """Each source counts for itself; one at a time, and only by agreement, as with SRTP."""
        other = SrtcpSender(SUITE_80, KEY, new_aes)
        packet = self.PACKET[:7] + b"9" + self.PACKET[8:]
        wires = [self.sender.protect(self.PACKET) for _ in range(4)]
        self.receiver.unprotect(wires[2])
        theirs = [other.protect(packet) for _ in range(3)]
        self.refuse(theirs[0], "srtp ssrc")
        self.receiver.allow_source()
        self.refuse(theirs[0][:-1] + bytes([theirs[0][-1] ^ 1]), "srtcp tag")
        self.receiver.unprotect(wires[3])
        self.assertEqual(self.receiver.unprotect(theirs[0]), packet)
        self.assertEqual(self.receiver.sources, 1)
        self.refuse(wires[1], "srtp ssrc")
        self.receiver.allow_source()
        self.refuse(wires[1], "srtp ssrc")
        self.receiver.unprotect(theirs[1])
        self.refuse(theirs[0], "srtcp replay")

    def test_unencrypted(self):
        """An authentic packet that is not encrypted is refused: nobody has agreed to that."""
        self.sender.flag = 0
        self.refuse(self.sender.protect(self.PACKET), "srtcp encryption")
        self.sender.flag = 0x80
        self.assertEqual(self.receiver.unprotect(self.sender.protect(self.PACKET)), self.PACKET)

    def test_mki(self):
        sender = SrtcpSender(SUITE_80, KEY, new_aes, b"\0\1")
        wire = sender.protect(self.PACKET)
        self.receiver = SrtcpReceiver(SUITE_80, KEY, new_aes, b"\0\2")
        self.refuse(wire, "srtcp mki")
        self.receiver = SrtcpReceiver(SUITE_80, KEY, new_aes, b"\0\1")
        self.assertEqual(self.receiver.unprotect(wire), self.PACKET)


if __name__ == "__main__":
    unittest.main()
