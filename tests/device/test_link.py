import random
import unittest

from scripted import DOMAIN, SECRET, keep_loaded, settings

from sipwire.agreement import hop_nonce, hop_spi, parse_mechanisms, server_offer
from sipwire.hop import MAX_SEQ, HopReceiver, HopSender, derive_keys, frame_seq, frame_spi
from support import new_aes
from terminal import proof as module
from terminal.config import make_config
from terminal.link import Link

NONCE = b"nonce"


class Far:
    """The neighbour's end of the agreement that a link is about to make."""

    def __init__(self, link, spi, nonce=NONCE):
        [offer] = parse_mechanisms([link.offer])
        self.terminal_spi = hop_spi(offer)
        server = server_offer(spi)
        out, back = derive_keys(SECRET, b"alice", DOMAIN, hop_nonce(offer), nonce, link.offer, server)
        self.sender = HopSender(self.terminal_spi, back, new_aes)
        self.receiver = HopReceiver(spi, out, new_aes)
        self.reflector = HopSender(self.terminal_spi, out, new_aes)
        link.prepare(make_config(settings()), nonce, server, spi)

    def seal(self, message=b""):
        return self.sender.seal(message)


class LinkTest(unittest.TestCase):
    def setUp(self):
        self.link = Link(new_aes)
        self.spi = 0

    def prepare(self):
        self.spi += 1
        self.link.propose()
        return Far(self.link, self.spi)

    def agree(self, now=0):
        far = self.prepare()
        self.link.accept(now)
        return far

    def assertDropped(self, datagram, now=0):
        before = self.link.dropped
        self.assertIsNone(self.link.open(datagram, now))
        self.assertEqual(self.link.dropped, before + 1)

    def test_nothing_agreed(self):
        self.assertFalse(self.link.is_open)
        self.assertFalse(self.link.wants_rekey)
        self.assertEqual(self.link.open(b"SIP/2.0 200 OK", 0), (b"SIP/2.0 200 OK", "plain"))
        self.assertEqual(self.link.open(b"", 0), (b"", "plain"))
        self.assertDropped(b"\xe1" + bytes(60))
        self.assertDropped(b"\xe1")

    def test_proposals_differ(self):
        offers = []
        for _ in range(50):
            self.link.propose()
            offers.append(self.link.offer)
        self.assertEqual(len(set(offers)), 50)
        self.assertEqual(parse_mechanisms(offers[:1])[0].name, b"wisp-hop")

    def test_spi_is_never_0(self):
        real, undo = module.urandom, keep_loaded([module])
        parts = [bytes(4), bytes(4), b"\0\0\0\5", bytes(range(16))]
        module.urandom = lambda size: parts.pop(0)
        try:
            self.link.propose()
        finally:
            module.urandom = real
            undo()
        [offer] = parse_mechanisms([self.link.offer])
        self.assertEqual((hop_spi(offer), hop_nonce(offer)), (5, bytes(range(16))))

    def test_highest_spi(self):
        """The largest SPI is no small integer on any machine of ours."""
        real, undo = module.urandom, keep_loaded([module])
        module.urandom = lambda size: b"\xff" * size
        try:
            self.link.propose()
        finally:
            module.urandom = real
            undo()
        far = Far(self.link, 0xFFFFFFFF)
        self.assertEqual(far.terminal_spi, 0xFFFFFFFF)
        self.link.accept(0)
        self.assertEqual(self.link.open(far.seal(b"x"), 0), (b"x", "frame"))
        self.assertEqual(far.receiver.open(self.link.seal(b"y")), b"y")

    def test_pending_then_accepted(self):
        far = self.prepare()
        self.assertFalse(self.link.is_open)
        self.assertEqual(self.link.open(far.seal(b"200"), 0), (b"200", "pending"))
        self.link.accept(0)
        self.assertTrue(self.link.is_open)
        self.assertEqual(self.link.open(far.seal(b"INVITE"), 0), (b"INVITE", "frame"))
        self.assertEqual(self.link.open(far.seal(), 0), (b"", "frame"))

    def test_what_is_sealed(self):
        far = self.agree()
        for i, message in enumerate((b"", b"a", b"REGISTER" * 300)):
            frame = self.link.seal(message)
            self.assertEqual((frame_spi(frame), frame_seq(frame)), (1, i + 1))
            self.assertEqual(far.receiver.open(frame), message)

    def test_a_proposal_replaces_the_one_before(self):
        first = self.prepare()
        frame = first.seal(b"late")
        second = self.prepare()
        self.assertDropped(frame)
        self.assertEqual(self.link.open(second.seal(b"x"), 0), (b"x", "pending"))
        self.link.propose()
        self.assertDropped(second.seal(b"x"))

    def test_a_challenge_answered_anew_replaces_the_keys(self):
        self.link.propose()
        first = Far(self.link, 1)
        second = Far(self.link, 2, b"another")
        self.assertDropped(first.seal(b"x"))
        self.assertEqual(self.link.open(second.seal(b"x"), 0)[1], "pending")
        self.link.accept(0)
        self.assertEqual(self.link.open(second.seal(b"x"), 0)[1], "frame")

    def test_old_agreement_for_30_s(self):
        old = self.agree(0)
        new = self.prepare()
        self.assertEqual(self.link.open(old.seal(b"x"), 99999), (b"x", "frame"))
        self.assertEqual(frame_spi(self.link.seal(b"")), 1)
        self.link.accept(100000)
        self.assertEqual(frame_spi(self.link.seal(b"")), 2)
        self.assertEqual(self.link.open(old.seal(b"y"), 130000), (b"y", "frame"))
        self.assertEqual(self.link.open(new.seal(b"z"), 130000), (b"z", "frame"))
        self.assertDropped(old.seal(b"y"), 130001)
        self.assertEqual(self.link.open(new.seal(b"z"), 130001), (b"z", "frame"))

    def test_old_agreement_ends_while_a_new_one_is_pending(self):
        old = self.agree(0)
        current = self.agree(1000)
        pending = self.prepare()
        self.assertEqual(self.link.open(old.seal(b"x"), 31000), (b"x", "frame"))
        self.assertDropped(old.seal(b"x"), 31001)
        self.assertEqual(self.link.open(current.seal(b"x"), 31001), (b"x", "frame"))
        self.assertEqual(self.link.open(pending.seal(b"x"), 31001), (b"x", "pending"))

    def test_two_at_most(self):
        first, second, third = self.agree(0), self.agree(1), self.agree(2)
        self.assertDropped(first.seal(b""), 3)
        self.assertEqual(self.link.open(second.seal(b"x"), 3), (b"x", "frame"))
        self.assertEqual(self.link.open(third.seal(b"x"), 3), (b"x", "frame"))

    def test_close_forgets_everything(self):
        old, current, pending = self.agree(), self.agree(), self.prepare()
        self.link.close()
        self.assertFalse(self.link.is_open)
        for far in (old, current, pending):
            self.assertDropped(far.seal(b""))
        again = self.agree()
        self.assertEqual(self.link.open(again.seal(b"x"), 0), (b"x", "frame"))

    def test_replay_reflection_and_other_keys(self):
        stranger = Link(new_aes)
        stranger.propose()
        far, other = self.agree(), Far(stranger, 9)
        frame = far.seal(b"x")
        self.link.open(frame, 0)
        self.assertDropped(frame)
        self.assertDropped(self.link.seal(b"x"))  # our own, sent back
        self.assertDropped(far.reflector.seal(b"x"))  # under our SPI with the keys of the other direction
        self.assertDropped(other.seal(b"x"))
        self.assertEqual(self.link.open(far.seal(b"y"), 0), (b"y", "frame"))

    def test_rekey_is_wanted_long_before_the_end(self):
        self.agree()
        sender = self.link._sender
        for seq, wanted in ((0, False), (MAX_SEQ - 0x100000, False), (MAX_SEQ - 0xFFFFF, True), (MAX_SEQ, True)):
            sender.seq = seq
            self.assertEqual(self.link.wants_rekey, wanted)

    def test_mutated_frames(self):
        """A thousand frames with a bit turned, cut or stretched: all dropped, and the next good one is opened."""
        random.seed(1)
        far = self.agree()
        for i in range(1000):
            frame = bytearray(far.seal(bytes(random.getrandbits(5))))
            kind = random.randrange(3)
            if kind == 0:
                frame[random.randrange(1, len(frame))] ^= 1 << random.randrange(8)
            elif kind == 1:
                frame = frame[: random.randrange(1, len(frame))]
            else:
                frame += bytes(random.randrange(1, 40))
            self.assertDropped(bytes(frame), i)
        self.assertEqual(self.link.dropped, 1000)
        self.assertEqual(self.link.open(far.seal(b"good"), 0), (b"good", "frame"))

    def test_a_wrong_tag_moves_no_window(self):
        """A forged high number must not make the numbers below it too old."""
        far = self.agree()
        frame = bytearray(far.seal(b"x"))
        frame[5:9] = MAX_SEQ.to_bytes(4, "big")
        self.assertDropped(bytes(frame))
        self.assertEqual(self.link.open(far.seal(b"x"), 0), (b"x", "frame"))


if __name__ == "__main__":
    unittest.main()
