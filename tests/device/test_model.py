"""Recorded runs of the model of setup keys, see `model`: those that once broke something, and the first few."""

import unittest

# First, and nothing of it is used: imports that are nested deeper are too much for MicroPython's stack.
from far import Call  # noqa: F401

# isort: split
from scripted import FakeMedia  # noqa: F401

# isort: split
from model import run
from pair import Pair

from sipwire.introduction import SETUP_KEYS, Introduction, write_keys
from sipwire.message import Request
from terminal import keystore, revoking
from terminal.addressing import told

STEPS = 40
FIRST = 6
#: {seed: what it has broken, as the terminal was then}.
FOUND = {
    64: "an introduction in a call drops the key of that call where its uses are over",
    66: "the 200 to a BYE makes a key of one that was revoked meanwhile",
    146: "a key that the neighbours hand over once more, their 200 was lost, begins anew when it is used up or revoked",
    8187: "numbers are used that could not be written, the flash was full, and used again in the next call",
}


class ModelTest(unittest.TestCase):
    def check(self, seed):
        result = run(seed, STEPS)
        self.assertEqual(result.broken, [], seed)
        return result

    def test_the_first(self):
        total = {}
        for seed in range(FIRST):
            for name, count in self.check(seed).counts.items():
                total[name] = total.get(name, 0) + count
        for name in ("connected by setup key", "connected by neighbours", "restarts", "lost", "repeated", "left alone"):
            self.assertTrue(total[name], name)

    def test_what_was_found(self):
        for seed in FOUND:
            self.check(seed)


class FoundTest(unittest.TestCase):
    """What the model has found, once more without chance."""

    def setUp(self):
        self.pair = None

    def tearDown(self):
        self.pair.close()

    def acquaint(self, **setup):
        self.pair = pair = Pair(**setup)
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        return pair

    def revoke(self, end):
        pair = self.pair
        end.do(revoking.revoke, end.config, end.agent, pair.other(end).aor, pair.now, True, told)

    def introduce(self, end, key):
        pair = self.pair
        request = Request("MESSAGE", b"sip:" + end.address)
        request.add("Via", b"SIP/2.0/UDP n;branch=z9hG4bK%d" % pair.now)
        request.add("From", b"<sip:%s>;tag=n" % end.domain.encode())
        request.add("To", b"<%s>" % end.aor)
        request.add("Call-ID", b"keys")
        request.add("CSeq", b"1 MESSAGE")
        request.set_body(SETUP_KEYS, write_keys([Introduction(pair.other(end).aor, key, 3600, 5)]))
        end.do(end.receive, request.serialize())
        self.assertIn(b"SIP/2.0 200", end.agent.outgoing.pop())
        pair.now += 1

    def test_trust_is_taken_back_while_a_bye_is_under_way(self):
        pair = self.acquaint()
        held = []

        def way(sender, one):
            if isinstance(one, Request) and one.method == "MESSAGE":
                return None
            if not isinstance(one, Request) and one.cseq.method == "BYE":
                held.append(one)
                return None
            return one

        pair.dial()
        pair.answer()
        pair.way = way
        pair.hang_up()
        self.revoke(pair.alice)
        pair.step()
        pair.deliver(pair.bob, held[0])
        self.assertEqual(pair.alice.keys(pair.bob), [])

    def test_a_key_that_is_handed_over_twice(self):
        self.pair = pair = Pair()
        first, second = bytes(range(32)), bytes(range(1, 33))
        self.introduce(pair.alice, first)
        self.revoke(pair.alice)
        pair.alice.agent.outgoing.clear()
        pair.alice.start()
        self.introduce(pair.alice, first)
        self.assertEqual(pair.alice.keys(pair.bob), [])
        self.introduce(pair.alice, second)
        self.introduce(pair.alice, first)
        self.assertEqual([one.key for one in pair.alice.keys(pair.bob)], [second])

    def test_an_introduction_in_a_call_that_uses_a_key_up(self):
        pair = self.acquaint(uses=1)
        [key] = pair.alice.keys(pair.bob)
        pair.dial()
        pair.answer()
        for end in pair.ends:
            self.introduce(end, bytes(32))
            kept = [(one.kid, one.uses) for one in end.keys(pair.other(end))]
            self.assertEqual(kept, [(key.kid, 0), (keystore.Key(bytes(32), 0, 0).kid, 5)])

    def test_numbers_that_could_not_be_written(self):
        pair = self.acquaint()
        real = keystore.save

        def fail(*arguments):
            raise OSError(28)

        pair.dial()
        pair.answer()
        reserved = pair.alice.phone.trust.last
        try:
            keystore.save = fail
            pair.bob.do(pair.bob.phone.hold, True, pair.now)
            pair.advance(1000)
        finally:
            keystore.save = real
        self.assertEqual(pair.told(pair.bob, "refused")["reason"], "500")
        self.assertEqual(pair.alice.phone.trust.last, reserved)
        self.assertEqual(pair.alice.keys(pair.bob)[0].sent, reserved)

    def test_names_that_are_kept(self):
        """Four for each peer; and a peer without keys is the first to go where there are too many."""
        self.pair = pair = Pair()
        folder = pair.alice.folder
        for i in range(6):
            keystore.save(folder, b"sip:bob@b.example", [keystore.Key(bytes([i]) * 32, 9, 9)], 5, b"%016d" % i)
        keystore.forget(folder, b"sip:bob@b.example")
        self.assertEqual(keystore.load(folder, b"sip:bob@b.example"), [])
        self.assertEqual(keystore.peers(folder), [])
        known = [keystore.was_taken(folder, b"sip:bob@b.example", b"%016d" % i) for i in range(6)]
        self.assertEqual(known, [False, False, True, True, True, True])
        for i in range(16):
            keystore.save(folder, b"sip:%d@b.example" % i, [keystore.Key(bytes(32), 9, 9)], 6)
        self.assertEqual(len(keystore.peers(folder)), 16)
        self.assertFalse(keystore.was_taken(folder, b"sip:bob@b.example", b"%016d" % 5))
