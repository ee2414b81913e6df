"""What peers and networks do that nobody planned: each once hung a call, leaked or ended the program."""

import unittest
from os import urandom

from far import (
    PEER_CONTACT,
    Call,
    accept,
    answer,
    invite,
    offer,
    options,
)
from scripted import WorldCase
from whole import WholeCase

from terminal import change

MOVED = b"sip:alice@192.0.2.99:5060"
HOUR_MS = 3600000


def _no_memory(count):
    raise MemoryError


def _of_calls(agent):
    """Requests of ours that are remembered, but for a refresh of the registration, which may be due at any time."""
    return [key for key in agent._clients if not key.endswith(b" REGISTER")]


class HeaderTest(WorldCase):
    def test_supported_that_is_no_list(self):
        """It shows when the INVITE comes, not when its user answers."""
        for value in (b'"', b"<"):
            self.world.deliver(invite(extra=[("Supported", value)], call_id=b"x" + value))
            self.assertEqual(self.world.take_status(), 400)
            self.assertEqual(self.phone.state, "idle")

    def test_an_offer_that_came_to_nothing(self):
        world = self.world
        call = world.talk_as_callee()
        world.deliver(call.request("INVITE", extra=[("Supported", b'"'), ("Contact", PEER_CONTACT)]))
        self.assertEqual(world.take_status(), 400)
        world.deliver(call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)]))
        self.assertEqual(world.take_status(), 200)
        world.deliver(call.ack())
        self.assertEqual(self.phone.state, "talking")


class ProgramTest(WholeCase):
    def test_supported_that_is_no_list(self):
        world = self.world
        bad = invite(extra=[("Supported", b'"')])
        events = world.run((2000, lambda: world.deliver(bad)), (3000, "answer"), (20000, "status"))
        self.assertEqual(events[-1]["event"], "status")


class MemoryTest(WorldCase):
    def test_none_for_the_answer_of_a_call_that_was_told(self):
        """It has ended then, and rings when it comes again."""
        world = self.world
        respond = world.agent.respond

        def fails(transaction, response, now):
            raise MemoryError

        world.agent.respond = fails
        with self.assertRaises(MemoryError):
            world.deliver(invite())
        world.agent.respond = respond
        told = [(one["event"], one.get("reason")) for one in world.printed.take()]
        self.assertEqual(told, [("incoming", None), ("ended", "no memory")])
        self.assertEqual((self.phone.state, world.take()), ("idle", []))
        world.deliver(invite())
        self.assertEqual((world.take_status(), self.phone.state), (180, "ringing"))
        self.assertEqual([one["event"] for one in world.printed.take()], ["incoming"])


class MoveTest(WorldCase):
    def test_while_it_rings(self):
        """The caller is told, and nothing stays."""
        world = self.world
        for i in range(9):
            world.ring(call_id=b"c%d" % i)
            self.phone.move(b"sip:alice@192.0.2.%d:5060" % (100 + i), b"192.0.2.99", world.now)
            world.advance(0)
            statuses = [sent.message.status for sent in world.take()]
            self.assertIn(480, statuses)
            self.assertEqual(self.phone.state, "idle")
            world.advance(40000)
            world.take()
            world.printed.take()
        world.advance(HOUR_MS)
        world.take()
        self.assertEqual(len(world.agent._servers), 0)
        world.deliver(options())
        self.assertEqual(world.take_status(), 200)

    def test_while_it_calls(self):
        world = self.world
        for i in range(20):
            sent = world.dial()
            world.deliver(answer(sent, 100))
            self.phone.move(b"sip:alice@192.0.2.%d:5060" % (100 + i), b"192.0.2.99", world.now)
            world.take()
            world.printed.take()
        world.advance(HOUR_MS)
        self.assertEqual(_of_calls(world.agent), [])

    def test_while_a_change_is_under_way(self):
        """The next one takes its place, from where we are now."""
        world = self.world
        world.talk()
        self.phone.hold(True, world.now)
        world.advance(0)
        world.take_one("INVITE")
        self.phone.move(MOVED, b"192.0.2.99", world.now)
        world.advance(10)
        self.assertIn(b"c=IN IP4 192.0.2.99", world.take_one("INVITE").body)
        self.assertEqual(self.phone.state, "talking")

    def test_is_told_though_the_peer_refreshes(self):
        world = self.world
        sent = world.dial()
        world.deliver(accept(sent))
        world.take()
        call = Call(sent.call_id, sent.get("to") + b";tag=t1", sent.get("from"), 100)
        self.phone.move(MOVED, b"192.0.2.99", world.now)
        world.advance(0)
        world.deliver(answer(world.take_one("INVITE"), 491, b"t1"))
        world.take()
        world.deliver(call.request("UPDATE", extra=[("Contact", PEER_CONTACT)]))
        self.assertEqual(world.take_status(), 200)
        world.advance(5000)
        again = next(s.message for s in world.take() if s.message.method == "INVITE")
        self.assertIn(b"c=IN IP4 192.0.2.99", again.body)


class ChangeTest(WorldCase):
    def test_an_old_2xx_answers_no_new_change(self):
        world = self.world
        world.talk()
        self.phone.hold(True, world.now)
        world.advance(0)
        first = accept(world.take_one("INVITE"))
        world.deliver(first)
        world.take()
        self.phone.hold(False, world.now)
        world.advance(0)
        second = world.take_one("INVITE")
        world.deliver(first)  # its ACK was lost
        self.assertEqual([sent.message.method for sent in world.take()], ["ACK"])
        world.deliver(answer(second, 491, b"t1"))
        world.advance(5000)
        self.assertIn("INVITE", [sent.message.method for sent in world.take()])

    def test_an_update_does_not_make_it_endless(self):
        world = self.world
        sent = world.dial()
        world.deliver(accept(sent, extra=[("Session-Expires", b"1800;refresher=uas")]))
        world.take()
        call = Call(sent.call_id, sent.get("to") + b";tag=t1", sent.get("from"), 100)
        self.phone.move(MOVED, b"192.0.2.99", world.now)
        world.advance(0)
        world.deliver(answer(world.take_one("INVITE"), 100))
        timer = [("Supported", b"timer"), ("Session-Expires", b"1800;refresher=uac"), ("Contact", PEER_CONTACT)]
        world.deliver(call.request("UPDATE", extra=timer))
        self.assertEqual(world.take_status(), 200)
        world.advance(40000)
        self.assertEqual(self.phone.state, "idle")

    def test_memory_runs_out_at_its_answer(self):
        """It is asked for again: no command waits for ever."""
        world = self.world
        world.talk()
        self.phone.hold(True, world.now)
        world.advance(0)
        sent = world.take_one("INVITE")
        change.urandom = _no_memory
        try:
            with self.assertRaises(MemoryError):
                world.deliver(answer(sent, 491, b"t1"))
        finally:
            change.urandom = urandom
        world.take()
        world.advance(500)
        world.deliver(accept(world.take_one("INVITE")))
        world.printed.take()
        self.phone.hold(False, world.now)
        self.assertEqual([said["event"] for said in world.printed.take()], ["hold"])

    def test_one_command_at_a_time(self):
        """Busy is who waits for an answer, and who waits to ask again."""
        world = self.world
        world.talk()
        self.phone.move(MOVED, b"192.0.2.99", world.now)
        world.advance(0)
        moves = world.take_one("INVITE")
        self.assertBusy(True)
        world.deliver(accept(moves))
        world.take_one("ACK")
        self.phone.hold(True, world.now)
        world.advance(0)
        world.deliver(answer(world.take_one("INVITE"), 491, b"t1"))
        world.take()
        world.printed.take()
        self.assertBusy(False)

    def assertBusy(self, is_held):
        self.phone.hold(is_held, self.world.now)
        command = "hold" if is_held else "resume"
        self.assertEqual(self.world.printed.take(), [{"event": "refused", "command": command, "reason": "busy"}])

    def test_hung_up_while_it_is_under_way(self):
        world = self.world
        for _ in range(5):
            world.talk()
            self.phone.hold(True, world.now)
            world.advance(0)
            world.deliver(answer(world.take_one("INVITE"), 100))
            self.phone.hang_up(world.now)
            world.deliver(answer(world.take_one("BYE"), 200, b"t1"))
            world.printed.take()
        world.advance(HOUR_MS)
        world.take()
        self.assertEqual(_of_calls(world.agent), [])

    def test_a_refresh_that_is_too_short(self):
        """422: asked again with what is wanted; refused for ever, the session ends when its time is over."""
        world = self.world
        sent = world.dial()
        world.deliver(accept(sent, extra=[("Session-Expires", b"1800;refresher=uac")]))
        world.take()
        world.advance(900000)
        world.deliver(answer(world.take_one("INVITE"), 422, b"t1", extra=[("Min-SE", b"3600")]))
        world.advance(0)
        again = next(s.message for s in world.take() if s.message.method == "INVITE")
        self.assertEqual((again.get("session-expires"), again.get("min-se")), (b"3600;refresher=uac", b"3600"))
        for _ in range(40):
            world.deliver(answer(again, 500, b"t1"))
            world.advance(32000)
            found = [s.message for s in world.take() if s.message.method == "INVITE"]
            again = found[0] if found else again
        self.assertEqual(self.phone.state, "idle")


class FloodTest(WorldCase):
    def test_forks(self):
        world = self.world
        sent = world.dial()
        for i in range(60):
            world.deliver(accept(sent, b"t%d" % i))
            world.take()
        self.assertTrue(len(world.agent._clients) < 20)
        self.assertEqual(self.phone.state, "talking")

    def test_call_after_call(self):
        """What is remembered of calls that are over is bounded; a 2xx that comes again finds the last of them all the same."""
        world = self.world
        for _ in range(60):
            sent = world.dial()
            ok = accept(sent)
            world.deliver(ok)
            world.take_one("ACK")
            self.phone.hang_up(world.now)
            bye = world.take_one("BYE")
            world.deliver(ok)
            again = {one.message.method: one.message for one in world.take()}
            self.assertEqual(sorted(again), ["ACK", "BYE"])
            for one in (bye, again["BYE"]):
                world.deliver(answer(one, 200, b"t1"))
            world.advance(300)
            world.take()
            world.printed.take()
        self.assertTrue(len(world.agent._clients) <= 6)

    def test_a_2xx_that_comes_late_finds_one_of_the_last_calls(self):
        world = self.world
        answers = []
        for _ in range(2):
            ok = accept(world.dial())
            answers.append(ok)
            world.deliver(ok)
            world.take_one("ACK")
            self.phone.hang_up(world.now)
            world.deliver(answer(world.take_one("BYE"), 200, b"t1"))
            world.printed.take()
        for ok in answers:
            world.deliver(ok)
            self.assertIn("ACK", [one.message.method for one in world.take()])

    def test_what_waits_for_its_answer_is_not_forgotten(self):
        world = self.world
        for _ in range(8):
            world.talk()
            self.phone.hang_up(world.now)
            world.take()
            world.printed.take()
        byes = [key for key in world.agent._clients if key.endswith(b" BYE")]
        self.assertEqual(len(byes), 8)

    def test_intervals_that_are_always_too_short(self):
        world = self.world
        sent = world.dial()
        for i in range(60):
            world.deliver(answer(sent, 422, extra=[("Min-SE", b"%d" % (1801 + i))]))
            invites = [s.message for s in world.take() if s.message.method == "INVITE"]
            if not invites:
                break
            sent = invites[-1]
        self.assertEqual((i, self.phone.state), (4, "idle"))


if __name__ == "__main__":
    unittest.main()
