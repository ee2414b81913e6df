"""What is to change about a call, without a call: when a re-INVITE is due, and whose answer counts."""

import unittest

from terminal import change
from terminal.change import Change


class FakeAgent:
    """Keeps what it is given."""

    def __init__(self):
        self.callbacks = []
        self.acks = []
        self.abandoned = []

    def request(self, request, now, callback):
        self.callbacks.append(callback)
        return request

    def send(self, ack):
        self.acks.append(ack)

    def abandon(self, transaction):
        self.abandoned.append(transaction)


class FakeDialog:
    """A dialog whose ACKs say whose they are."""

    local_cseq = 2
    target = b"sip:old@192.0.2.1"

    def new_ack(self, number):
        return self, number


class FakeResponse:
    """A response; its Contact names where the other side is."""

    def __init__(self, status):
        self.status = status

    def addresses(self, key):
        return [self]

    uri = b"sip:new@192.0.2.2"


class ChangeTest(unittest.TestCase):
    def setUp(self):
        self.agent = FakeAgent()
        self.change = Change(self.agent)
        self.done = []
        self._urandom = change.urandom
        self._contact_of = change.contact_of
        change.contact_of = lambda response: response.uri

    def tearDown(self):
        change.urandom = self._urandom
        change.contact_of = self._contact_of

    def send(self, dialog, name="invite"):
        self.change.send(name, dialog, lambda *told: self.done.append(told), 1000)

    def test_a_refresh_waits_for_all_else(self):
        asks, moves, sends = Change(self.agent), Change(self.agent), self.change
        asks.ask("hold", 10)
        moves.move(20)
        self.send(FakeDialog())
        before = [one.at for one in (asks, moves, sends)]
        for one in (asks, moves, sends):
            one.refresh(5)
            one.refresh(None)
        self.assertEqual([one.at for one in (asks, moves, sends)], before)
        asks.settle()
        moves.settle()
        for one in (asks, moves):
            one.refresh(5)
            self.assertEqual(one.at, 5)

    def test_another_call(self):
        """Nothing is left of the one before."""
        self.change.ask("hold", 10)
        self.change.move(20)
        self.send(FakeDialog())
        self.change.begin()
        self.assertEqual((self.change.at, self.change.asked, self.change.transaction), (None, "", None))
        self.change.refresh(5)
        self.assertEqual(self.change.at, 5)

    def test_whose_answer_counts(self):
        """Every 2xx is acknowledged in its own dialog; all else is for the change that is under way."""
        first, second = FakeDialog(), FakeDialog()
        self.send(first, "one")
        self.change.begin()
        self.send(second, "two")
        old, new = self.agent.callbacks
        for status in (100, 200, 491):
            old(FakeResponse(status), "frame", 2000)
        self.assertEqual((self.agent.acks, self.done), ([(first, 2)], []))
        self.assertEqual((first.target, self.change.transaction), (FakeDialog.target, "two"))
        for _ in range(2):
            new(FakeResponse(200), "frame", 2000)
        self.assertEqual(self.agent.acks, [(first, 2), (second, 2), (second, 2)])
        self.assertEqual([told[0] for told in self.done], [200])
        self.assertEqual((second.target, self.change.transaction), (FakeResponse.uri, None))

    def test_when_to_yield(self):
        """Section 14.1: from 2.1 to 4 s, from 0 to 2 s, in steps of 10 ms."""
        for drawn, ours, theirs in ((0, 2100, 0), (1, 2110, 10), (190, 4000, 1900), (191, 2100, 1910)):
            for is_caller, ms in ((True, ours), (False, theirs)):
                change.urandom = lambda count, drawn=drawn: drawn.to_bytes(count, "big")
                self.change.yield_to(is_caller, 7000)
                self.assertEqual(self.change.at, 7000 + ms)
        for drawn, ms in ((200, 2000), (201, 0)):
            change.urandom = lambda count, drawn=drawn: drawn.to_bytes(count, "big")
            self.change.yield_to(False, 7000)
            self.assertEqual(self.change.at, 7000 + ms)


if __name__ == "__main__":
    unittest.main()
