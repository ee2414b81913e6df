"""The terminal changes a call that stands, by re-INVITE (RFC 3261 section 14.1): hold, resume, another address."""

import unittest

from far import CM80, KEYS, PEER_CONTACT, accept, answer, offer, request
from scripted import ADDRESS, LIFE_MS, STATISTICS, WorldCase

from sipwire.sdp import Session

ELSEWHERE = b"192.0.2.99"


class Case(WorldCase):
    def held(self, is_held=True):
        """The command; returns the re-INVITE."""
        world = self.world
        self.phone.hold(is_held, world.now)
        world.advance(0)
        return world.take_one("INVITE")

    def wait(self, ms):
        """Wait until the next request, which has to come by then; returns it, and how long it took."""
        start = self.world.now
        while self.world.now - start <= ms:
            sent = self.world.take()
            if sent:
                [one] = sent
                return one.message, one.at - start
            self.world.advance(10)
        raise AssertionError("nothing came")

    def direction(self, message):
        session = Session.parse(message.body)
        return session.direction(session.media[0])

    def kinds(self):
        """A call that stands: first one of ours, then one of the far end's."""
        for talk in (lambda: self.world.talk()[1], self.world.talk_as_callee):
            call = talk()
            yield call
            if self.phone.state == "talking":
                self.world.deliver(call.request("BYE"))
            self.forget()
            self.assertUsable()
            self.world.media.log = []
            self.forget()


class HoldTest(Case):
    def test_hold_and_resume(self):
        world = self.world
        for call in self.kinds():
            before = world.media.agreed
            sent = self.held()
            self.assertEqual((sent.uri, sent.get("to")), (b"sip:bob@198.51.100.9:5062", call.local))
            self.assertEqual((sent.get("from"), sent.call_id), (call.remote, call.call_id))
            for name in ("contact", "allow", "supported"):
                self.assertIsNotNone(sent.get(name))
            [audio] = Session.parse(sent.body).media
            [crypto] = audio.cryptos()
            self.assertEqual((crypto.suite, crypto.keys[0].key_salt), (CM80, before.local_key))
            self.assertEqual((audio.proto, audio.formats, self.direction(sent)), (b"RTP/SAVP", [b"0"], b"sendonly"))
            self.assertFalse(world.media.talks)  # at once
            self.assertEvents(("hold", {"local": True, "remote": False}))
            world.deliver(accept(sent))
            ack = world.take_one("ACK")
            self.assertEqual(ack.cseq.number, sent.cseq.number)
            self.assertEqual((world.media.talks, world.media.agreed.direction), (False, b"sendonly"))

            again = self.held(False)
            self.assertEqual(self.direction(again), b"sendrecv")
            self.assertEqual(again.cseq.number, sent.cseq.number + 1)
            versions = [dict(Session.parse(one.body).lines)[b"o"].split(b" ") for one in (sent, again)]
            self.assertEqual(versions[0][1], versions[1][1])
            self.assertEqual(int(versions[0][2]) + 1, int(versions[1][2]))
            world.deliver(accept(again))
            self.assertSent("ACK")
            self.assertEvents(("hold", {"local": False, "remote": False}))
            agreed = world.media.agreed
            self.assertEqual((world.media.talks, agreed.direction), (True, b"sendrecv"))
            self.assertEqual((agreed.local_key, agreed.remote_key), (before.local_key, before.remote_key))
            self.assertNotIn("stop", world.media.log)

    def test_commands_that_do_not_fit(self):
        world = self.world
        for state in (None, "calling", "cancelling", "ringing", "answered"):
            end = state and self.reach(state)
            for is_held, command in ((True, "hold"), (False, "resume")):
                self.phone.hold(is_held, world.now)
                self.assertEvents(("refused", {"command": command, "reason": "not now"}))
            if end:
                world.deliver(end)
                self.forget()
        world.talk()
        self.phone.hold(False, world.now)
        self.assertEvents(("refused", {"command": "resume", "reason": "not now"}))
        sent = self.held()
        world.printed.take()
        for is_held in (True, False):
            self.phone.hold(is_held, world.now)
            self.assertEvents(("refused", {"reason": "busy"}))
        world.deliver(accept(sent))
        world.take()
        self.phone.hold(True, world.now)
        self.assertEvents(("refused", {"command": "hold", "reason": "not now"}))

    def test_both_hold(self):
        """Each side's hold is its own (RFC 6337 section 5.3): who resumes is still held by the other."""
        world = self.world
        call = world.talk_as_callee()
        world.deliver(call.request("UPDATE", body=offer() + b"a=sendonly\r\n"))
        self.assertSent((200, "UPDATE"))
        sent = self.held()
        world.deliver(accept(sent, change=(b"a=recvonly", b"a=inactive")))
        self.assertSent("ACK")
        self.assertEvents(("hold", {"local": False, "remote": True}), ("hold", {"local": True, "remote": True}))
        world.deliver(call.request("UPDATE", body=offer()))  # they take us back
        response = world.take_one()
        self.assertEqual(self.direction(response), b"sendonly")
        self.assertEvents(("hold", {"local": True, "remote": False}))
        self.assertFalse(world.media.talks)
        world.deliver(accept(self.held(False)))
        self.assertSent("ACK")
        self.assertTrue(world.media.talks)

    def test_answer_that_says_more_than_was_offered(self):
        """Who is on hold can't make us receive."""
        world = self.world
        world.talk()
        world.deliver(accept(self.held(), change=(b"a=recvonly", b"a=sendrecv")))
        self.assertEqual(world.media.agreed.direction, b"sendonly")


class AnswerTest(Case):
    def test_refused(self):
        """Section 14.1: "the session parameters MUST remain unchanged, as if no re-INVITE had been issued"."""
        world = self.world
        for call in self.kinds():
            agreed = world.media.agreed
            for status in (488, 403, 500, 603):
                sent = self.held()
                world.printed.take()
                world.deliver(answer(sent, status))
                self.assertEqual(world.take_one("ACK").via.branch, sent.via.branch)
                self.assertEvents(
                    ("refused", {"command": "hold", "reason": str(status)}), ("hold", {"local": False, "remote": False})
                )
                self.assertEqual((world.media.talks, world.media.agreed), (True, agreed))
                self.assertEqual(self.phone.state, "talking")
            world.deliver(accept(self.held()))
            self.assertSent("ACK")
            world.deliver(answer(self.held(False), 488))
            self.assertSent("ACK")
            self.assertFalse(world.media.talks)
            world.deliver(call.request("UPDATE", body=offer()))
            self.assertEqual(self.direction(world.take_one()), b"sendonly")

    def test_the_dialog_is_gone(self):
        """Section 12.2.1.2: 481, 408 and no answer end the call."""
        world = self.world
        for status, reason in ((481, "peer is gone"), (408, "no answer"), (None, "no answer")):
            world.talk()
            sent = self.held()
            if status:
                world.deliver(answer(sent, status))
                self.assertSent("ACK", "BYE")
            else:
                world.advance(LIFE_MS)
                self.assertEqual(world.take()[-1].message.method, "BYE")
            shown = world.printed.take()[-1]
            self.assertEqual((shown["event"], shown["reason"], shown["media"]), ("ended", reason, STATISTICS))
            self.assertUsable()
            self.forget()

    def test_no_final_answer(self):
        """A provisional one, and then nothing: 64*T1 later it is over."""
        world = self.world
        world.talk()
        sent = self.held()
        world.deliver(answer(sent, 100))
        world.advance(LIFE_MS - 1)
        self.assertEqual((world.take(), self.phone.state), ([], "talking"))
        world.advance(1)
        self.assertSent("BYE")
        world.deliver(answer(sent, 487))
        self.assertEqual(world.printed.take()[-1]["reason"], "no answer")
        self.assertUsable()

    def test_answer_of_no_use(self):
        world = self.world
        for change in ((b"RTP/SAVP", b"RTP/AVP"), (b"m=audio 30000", b"m=audio 0"), (b"a=crypto:1", b"a=crypto:9")):
            world.talk()
            world.deliver(accept(self.held(), change=change))
            self.assertSent("ACK", "BYE")
            self.assertIdle()
            self.forget()

    def test_repeated_200(self):
        """Each is ACKed, with the number of its INVITE, and changes nothing; also when the call is over."""
        world = self.world
        world.talk()
        sent = self.held()
        ok = accept(sent)
        for _ in range(3):
            world.deliver(ok)
            self.assertEqual(world.take_one("ACK").cseq.number, sent.cseq.number)
        log = list(world.media.log)
        self.phone.hang_up(world.now)
        self.assertSent("BYE")
        world.deliver(ok)
        self.assertSent("ACK")
        self.assertEqual(world.media.log, log + ["stop"])

    def test_target(self):
        """Section 12.2.1.2: the Contact of the 2xx is the new target, for the ACK already."""
        world = self.world
        world.talk()
        for contact, target in (
            (b"<sip:bob@203.0.113.1>", b"sip:bob@203.0.113.1"),
            (b"", b"sip:bob@203.0.113.1"),
            (b"<tel:1>", b"sip:bob@203.0.113.1"),
        ):
            sent = self.held(not self.phone.session.is_held)
            world.deliver(accept(sent, contact=contact))
            self.assertEqual(world.take_one("ACK").uri, target)
        self.phone.hang_up(world.now)
        self.assertEqual(world.take_one("BYE").uri, target)

    def test_hung_up_meanwhile(self):
        """By us or by them, while our re-INVITE is under way."""
        world = self.world
        for by_us in (True, False):
            call = world.talk()[1]
            sent = self.held()
            if by_us:
                self.phone.hang_up(world.now)
                self.assertSent("BYE")
            else:
                world.deliver(call.request("BYE"))
                self.assertSent((200, "BYE"))
            self.assertIdle()
            world.deliver(answer(sent, 487))
            self.assertSent("ACK")
            self.assertEqual(world.printed.take()[-1]["event"], "ended")
            self.assertUsable()
            self.forget()

    def test_new_keys_in_the_answer(self):
        world = self.world
        world.talk()
        world.deliver(accept(self.held(), change=(b"inline:A", b"inline:Z")))
        self.assertNotEqual(world.media.agreed.remote_key, KEYS[CM80])
        self.assertEqual(self.phone.state, "talking")


class GlareTest(Case):
    def test_491(self):
        """Section 14.1: once more after 2.1 to 4 s where the Call-ID is ours, after 0 to 2 s where it is theirs."""
        world = self.world
        for _, low, high in zip(self.kinds(), (2100, 0), (4000, 2000)):
            waited = []
            for _ in range(12):
                sent = self.held(not self.phone.session.is_held)
                world.deliver(answer(sent, 491))
                self.assertSent("ACK")
                self.assertEqual(self.phone.state, "talking")
                again, ms = self.wait(high)
                waited.append(ms)
                self.assertEqual((again.method, self.direction(again)), ("INVITE", self.direction(sent)))
                world.deliver(accept(again))
                self.assertSent("ACK")
            self.assertTrue(low <= min(waited) and max(waited) <= high, waited)
            self.assertGreater(len(set(waited)), 6)
            self.assertEqual([one % 10 for one in waited], [0] * 12)

    def test_theirs_comes_first(self):
        """Glare: both get 491, theirs is repeated before ours, and both are done in the end."""
        world = self.world
        call = world.talk()[1]
        sent = self.held()
        crossing = call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)])
        world.deliver(crossing)
        self.assertSent((491, "INVITE"))
        world.deliver(request("ACK", call.call_id, call.local, call.remote, call.cseq, via=crossing.via.branch))
        world.deliver(answer(sent, 491))
        self.assertSent("ACK")
        world.advance(1000)
        world.deliver(call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)]))
        self.assertEqual(self.direction(world.take_one()), b"sendonly")
        world.deliver(call.ack())
        again, _ = self.wait(3000)
        world.deliver(accept(again))
        self.assertSent("ACK")
        self.assertEqual((self.phone.state, world.media.agreed.direction), ("talking", b"sendonly"))

    def test_not_before_the_ack(self):
        """Section 14.1: no INVITE while a transaction of theirs is not confirmed."""
        world = self.world
        call = world.talk_as_callee()
        world.deliver(call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)]))
        world.take()
        self.phone.hold(True, world.now)
        self.assertFalse(world.media.talks)
        world.advance(1200)
        self.assertSent((200, "INVITE"))
        world.deliver(call.ack())
        world.advance(500)
        self.assertSent("INVITE")


class MoveTest(Case):
    def test_another_address(self):
        """The far end learns it by Contact and c=; the o= line stays the same but for its version."""
        world = self.world
        for call in self.kinds():
            self.phone.move(b"sip:alice@192.0.2.99:5060", ELSEWHERE, world.now)
            world.advance(0)
            sent = world.take_one("INVITE")
            self.assertEqual(sent.get("contact"), b"<sip:alice@192.0.2.99:5060>")
            session = Session.parse(sent.body)
            self.assertEqual(session.address(session.media[0]), ELSEWHERE)
            self.assertNotIn(ADDRESS, dict(session.lines)[b"o"])
            world.deliver(accept(sent))
            self.assertSent("ACK")
            world.deliver(call.request("UPDATE", body=offer()))
            self.assertIn(b"c=IN IP4 192.0.2.99\r\n", world.take_one().body)
            self.phone.move(b"sip:alice@192.0.2.99:5060", ELSEWHERE, world.now)
            world.advance(60000)
            self.assertEqual((world.take(), self.phone.state), ([], "talking"))
            self.phone.move(b"sip:alice@192.0.2.7:5060", ADDRESS, world.now)
            world.advance(0)
            world.deliver(accept(world.take_one("INVITE")))
            world.take()

    def test_refused(self):
        """The far end can't: the call stays, and there is no command to tell of."""
        world = self.world
        world.talk()
        self.phone.move(b"sip:alice@192.0.2.99:5060", ELSEWHERE, world.now)
        world.advance(0)
        world.deliver(answer(world.take_one("INVITE"), 488))
        self.assertSent("ACK")
        self.assertEqual((world.printed.take(), self.phone.state), ([], "talking"))


if __name__ == "__main__":
    unittest.main()
