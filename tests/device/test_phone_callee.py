import unittest

from far import CM80, CONTACT, KEYS, PEER, PEER_ADDRESS, invite, offer, request, speaks
from scripted import ADDRESS, LIFE_MS, RING_MS, STATISTICS, WorldCase

from sipwire.offer import accept_answer
from sipwire.sdp import Session
from terminal.useragent import ALLOW

REPEATS_MS = [500, 1500, 3500, 7500, 11500, 15500, 19500, 23500, 27500, 31500]  # T1 doubling to T2
ROUTES = [("Record-Route", b"<sip:p1.example;lr>"), ("Record-Route", b"<sip:p2.example;lr>")]


class RingingTest(WorldCase):
    def test_rings(self):
        world = self.world
        asked = invite(extra=ROUTES)
        world.deliver(asked)
        ringing = world.take_one()
        self.assertEqual(ringing.start_line(), b"SIP/2.0 180 Ringing")
        self.assertEqual(ringing.values("via"), asked.values("via"))
        self.assertEqual(ringing.get_all("record-route"), asked.get_all("record-route"))
        self.assertEqual(ringing.get("contact"), b"<" + CONTACT + b">")
        self.assertEqual((ringing.get("from"), ringing.get("cseq")), (asked.get("from"), asked.get("cseq")))
        self.assertEqual((ringing.to.uri, len(ringing.to.tag)), (b"sip:alice@a.example", 8))
        self.assertEvents(("incoming", {"peer": PEER.decode(), "name": '"Bob"'}))
        self.assertEqual((self.phone.state, world.media.log), ("ringing", []))

    def test_rings_out(self):
        world = self.world
        call = world.ring()
        world.advance(RING_MS - 1)
        self.assertEqual(self.phone.state, "ringing")
        world.advance(1)
        response = world.take_one()
        self.assertEqual((response.status, response.get("to")), (480, call.remote))
        self.assertEvents(("ended", {"reason": "nobody answered"}))
        self.assertIdle()

    def test_expires(self):
        """Section 13.3.1: an INVITE is good for no longer than it says; longer than we ring it is not good either."""
        world = self.world
        for value, ms, status in ((b"20", 20000, 487), (b"0", 0, 487), (b"4294967295", RING_MS, 480)):
            call = world.ring(extra=[("Expires", value)], call_id=b"expires-" + value)
            world.advance(max(ms - 1, 0))
            self.assertEqual(self.phone.state, "idle" if ms == 0 else "ringing")
            world.advance(1)
            response = world.take_one()
            self.assertEqual((response.status, response.get("to")), (status, call.remote))
            self.assertEvents(("ended", {"reason": "nobody answered"}))
            self.forget()
        world.deliver(invite(extra=[("Expires", b"soon")]))
        self.assertSent((400, "INVITE"))
        self.assertIdle()

    def test_reject(self):
        """By the command, or by hanging up."""
        world = self.world
        for command in (self.phone.reject, self.phone.hang_up):
            call = world.ring()
            command(world.now)
            response = world.take_one()
            self.assertEqual(response.start_line(), b"SIP/2.0 603 Decline")
            self.assertEqual(response.get("to"), call.remote)
            self.assertEvents(("ended", {"reason": "rejected", "media": None, "talked_ms": None}))
            world.deliver(call.invite)  # the answer was lost
            self.assertSent((603, "INVITE"))
            world.deliver(call.like_invite("ACK", call.remote))
            self.assertUsable()

    def test_cancelled(self):
        world = self.world
        call = world.ring()
        world.deliver(call.like_invite("CANCEL"))
        ok, terminated = self.assertSent((200, "CANCEL"), (487, "INVITE"))
        self.assertEqual((ok.get("to"), terminated.get("to")), (call.remote, call.remote))
        self.assertEvents(("ended", {"reason": "cancelled by the caller"}))
        self.assertIdle()
        world.deliver(call.like_invite("CANCEL"))
        self.assertSent((200, "CANCEL"))
        world.deliver(call.like_invite("ACK", call.remote))
        world.advance(LIFE_MS)
        self.assertEqual(world.take(), [])
        self.assertUsable()

    def test_cancel_of_something_else(self):
        """Section 9.2: it belongs to the INVITE that has its branch."""
        world = self.world
        call = world.ring()
        for branch in (None, call.invite.via.branch + b"0"):
            world.deliver(request("CANCEL", b"in-1", call.local, b"<sip:alice@a.example>", 10, via=branch))
            self.assertSent((481, "CANCEL"))
        self.assertEqual(self.phone.state, "ringing")

    def test_bye_while_it_rings(self):
        """Section 15: a caller may end an early dialog by BYE."""
        world = self.world
        call = world.ring()
        world.deliver(call.request("BYE"))
        self.assertSent((200, "BYE"), (487, "INVITE"))
        self.assertEvents(("ended", {"reason": "peer hung up"}))
        self.assertUsable()

    def test_network_lost(self):
        """A call that is not set up yet is over when the network was gone; whoever still waits for an answer gets one."""
        world = self.world
        for state in ("calling", "cancelling", "ringing", "answered"):
            self.reach(state)
            self.phone.move(CONTACT, ADDRESS, world.now)
            self.assertEvents(("ended", {"reason": "network lost"}))
            self.assertIdle()
            said = [sent.message.status for sent in world.take()]
            self.assertEqual(said, [480] if state == "ringing" else [])
            self.forget()
        self.phone.move(CONTACT, ADDRESS, world.now)
        self.assertEqual(world.printed.take(), [])
        self.assertUsable()


class AnswerTest(WorldCase):
    def test_call(self):
        world = self.world
        call = world.ring(extra=ROUTES)
        world.advance(2000)
        self.phone.answer(world.now)
        ok = world.take_one()
        self.assertEqual(ok.start_line(), b"SIP/2.0 200 OK")
        for name, value in (("to", call.remote), ("contact", b"<" + CONTACT + b">"), ("allow", ALLOW)):
            self.assertEqual(ok.get_all(name), [value])
        self.assertEqual(ok.get_all("record-route"), [value for _, value in ROUTES])
        self.assertEqual(ok.get("content-type"), b"application/sdp")
        [theirs] = accept_answer(speaks(), Session.parse(offer()), Session.parse(ok.body))
        self.assertEqual((theirs.address, theirs.port, theirs.suite), (ADDRESS, 40000, CM80))
        self.assertEqual(self.phone.state, "answered")
        self.assertEqual(world.media.log, ["start"])  # and no go: the far end has not our keys yet
        ours = world.media.agreed
        self.assertEqual((ours.local_key, ours.remote_key), (theirs.remote_key, KEYS[CM80]))
        self.assertEqual((ours.address, ours.port), (PEER_ADDRESS, 30000))
        self.assertEqual(world.printed.take(), [])
        world.advance(300)
        world.deliver(call.ack())
        self.assertEqual(world.media.log, ["start", "go"])
        self.assertEvents(("connected", {"peer": PEER.decode(), "setup_ms": 2300, "suite": CM80.decode()}))
        self.assertEqual(self.phone.state, "talking")
        world.advance(LIFE_MS + 1000)
        self.assertEqual(world.take(), [])
        self.phone.hang_up(world.now)
        bye = world.take_one("BYE")
        self.assertEqual(bye.uri, b"sip:bob@198.51.100.9:5062")
        self.assertEqual(bye.values("route"), [value for _, value in ROUTES])
        self.assertEqual((bye.get("from"), bye.get("to")), (call.remote, call.local))
        self.assertEvents(("ended", {"reason": "hung up", "media": STATISTICS}))
        self.assertIdle()

    def test_keys_are_fresh(self):
        world = self.world
        keys = []
        for i in range(5):
            call = world.ring(call_id=b"k%d" % i)
            self.phone.answer(world.now)
            keys.append(world.media.agreed.local_key)
            world.deliver(call.ack())
            world.deliver(call.request("BYE"))
            world.take()
            world.printed.take()
        self.assertEqual(len(set(keys)), 5)
        self.assertNotIn(KEYS[CM80], keys)

    def test_200_is_repeated_until_the_ack(self):
        """Section 13.3.1.4: by the user agent core, at T1 doubling to T2; a repeated ACK changes nothing."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        first = world.take_one()
        start = world.now
        world.deliver(call.invite)  # no reason to send it once more
        world.advance(9000)
        again = world.take()
        self.assertEqual([one.at - start for one in again], REPEATS_MS[:4])
        for one in again:
            self.assertEqual(one.message.serialize(), first.serialize())
        for _ in range(3):
            world.deliver(call.ack())
        self.assertEvents(("connected", {}))
        world.advance(LIFE_MS)
        self.assertEqual((world.take(), world.media.log), ([], ["start", "go"]))
        self.assertEqual(self.phone.state, "talking")

    def test_no_ack(self):
        """Section 13.3.1.4: after 64*T1 a BYE ends it."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        world.take()
        start = world.now
        world.advance(LIFE_MS)
        sent = world.take()
        self.assertEqual([one.at - start for one in sent], REPEATS_MS + [LIFE_MS])
        self.assertEqual([one.message.status for one in sent[:-1]], [200] * 10)
        self.assertEqual(sent[-1].message.method, "BYE")
        self.assertEvents(("ended", {"reason": "no ACK", "media": STATISTICS}))
        self.assertEqual(world.media.log, ["start", "stop"])
        world.deliver(call.ack())
        self.assertIdle()

    def test_ack_of_something_else(self):
        world = self.world
        call = world.ring()
        world.deliver(call.ack())
        self.assertEqual(self.phone.state, "ringing")
        self.phone.answer(world.now)
        world.take()
        for ack in (
            request("ACK", b"other", call.local, call.remote, 10),
            request("ACK", b"in-1", b"<sip:bob@b.example>;tag=other", call.remote, 10),
            request("ACK", b"in-1", call.local, b"<sip:alice@a.example>;tag=other", 10),
            request("ACK", b"in-1", call.local, b"<sip:alice@a.example>", 10),
        ):
            world.deliver(ack)
            self.assertEqual(self.phone.state, "answered")
        self.assertEqual(world.media.log, ["start"])
        world.deliver(call.ack())
        self.assertEqual(self.phone.state, "talking")

    def test_cancel_after_the_answer(self):
        """Section 9.2: a CANCEL has no effect once a final response went out, and is answered 200."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        world.take()
        world.deliver(call.like_invite("CANCEL"))
        self.assertSent((200, "CANCEL"))
        world.deliver(call.ack())
        self.assertEqual(self.phone.state, "talking")

    def test_hang_up_before_the_ack(self):
        """Section 15: no BYE before the ACK; but the microphone is off at once."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        self.phone.hang_up(world.now)
        self.assertSent((200, "INVITE"))
        self.assertEvents(("leaving", {"reason": "hung up"}))
        self.assertEqual(world.media.log, ["start", "stop"])
        world.advance(1000)
        self.assertSent((200, "INVITE"))
        world.deliver(call.ack())
        self.assertSent("BYE")
        self.assertEvents(("ended", {"reason": "hung up"}))
        self.assertEqual(world.media.log, ["start", "stop"])
        self.assertUsable()

    def test_hang_up_and_no_ack(self):
        world = self.world
        world.ring()
        self.phone.answer(world.now)
        self.phone.hang_up(world.now)
        world.advance(LIFE_MS)
        self.assertEqual(world.take()[-1].message.method, "BYE")
        self.assertEvents(("leaving", {"reason": "hung up"}), ("ended", {"reason": "no ACK"}))
        self.assertIdle()

    def test_bye_before_the_ack(self):
        world = self.world
        world.deliver(self.reach("answered"))
        self.assertSent((200, "BYE"))
        self.assertEvents(("ended", {"reason": "peer hung up", "media": STATISTICS}))
        world.advance(LIFE_MS)
        self.assertEqual(world.take(), [])
        self.assertIdle()

    def test_far_end_hangs_up(self):
        world = self.world
        call = world.talk_as_callee()
        bye = call.request("BYE")
        for _ in range(3):  # the 200 is lost twice
            world.deliver(bye)
            self.assertSent((200, "BYE"))
            world.advance(4000)
        self.assertEvents(("ended", {"reason": "peer hung up", "media": STATISTICS}))
        world.deliver(call.request("BYE"))
        self.assertSent((481, "BYE"))
        self.assertUsable()

    def test_hang_ups_that_cross(self):
        """RFC 5407 section 3.2.1: those of the last two calls."""
        world = self.world
        calls = []
        for i in range(3):
            calls.append(world.talk_as_callee(call_id=b"in-%d" % i))
            self.phone.hang_up(world.now)
            world.take()
        for call, status in zip(calls, (481, 200, 200)):
            world.deliver(call.request("BYE"))
            self.assertSent((status, "BYE"))


if __name__ == "__main__":
    unittest.main()
