"""A call that rings in several places, speech before anybody answers, and responses in any order."""

import unittest

from far import CM32, CM80, KEYS, Call, accept, answer, early, offer, request
from scripted import LIFE_MS, WorldCase

from sipwire.sdp import Session

OTHER_KEYS = {CM80: bytes(range(100, 130)), CM32: bytes(range(130, 160))}


class Case(WorldCase):
    def fork(self, sent, tag=b"t1"):
        """The `Call` as a fork of the terminal's INVITE sees it."""
        return Call(sent.call_id, sent.get("to") + b";tag=" + tag, sent.get("from"), 100)


class ForkTest(Case):
    def test_the_one_that_answers_has_the_call(self):
        """183 with speech from one fork, 200 from another: the call, and the media, are those of the second."""
        world = self.world
        sent = world.dial()
        world.deliver(early(sent))
        world.deliver(answer(sent, 180, b"t2"))
        self.assertEqual((world.media.log, world.media.agreed.remote_key), (["start"], KEYS[CM80]))
        body = early(sent, tag=b"t2", keys=OTHER_KEYS, address=b"198.51.100.10").body
        ok = answer(sent, 200, b"t2", [("Contact", b"<sip:bob@198.51.100.10>")])
        ok.set_body(b"application/sdp", body)
        world.deliver(ok)
        self.assertEqual(world.take_one("ACK").uri, b"sip:bob@198.51.100.10")
        agreed = world.media.agreed
        self.assertEqual((agreed.address, agreed.remote_key), (b"198.51.100.10", OTHER_KEYS[CM80]))
        self.assertEqual((world.media.log, world.media.talks), (["start", "change", "go"], True))
        self.phone.hang_up(world.now)
        self.assertEqual(world.take_one("BYE").to.tag, b"t2")

    def test_four_are_known(self):
        """What a fifth says before its final answer is of no dialog."""
        world = self.world
        sent = world.dial()
        for i in range(5):
            world.deliver(answer(sent, 180, b"t%d" % i, [("Contact", b"<sip:bob@198.51.100.9>")]))
        for i, status in ((4, 481), (3, 200), (0, 200)):
            world.deliver(self.fork(sent, b"t%d" % i).request("BYE"))
            self.assertEqual(world.take()[0].message.status, status)

    def test_the_last_one_to_speak_is_heard(self):
        world = self.world
        sent = world.dial()
        world.deliver(early(sent))
        world.deliver(early(sent, tag=b"t2", keys=OTHER_KEYS))
        self.assertEqual((world.media.log, world.media.agreed.remote_key), (["start", "change"], OTHER_KEYS[CM80]))
        world.deliver(accept(sent))  # the first answers nevertheless
        self.assertEqual((world.media.agreed.remote_key, self.phone.state), (KEYS[CM80], "talking"))

    def test_every_further_200_is_acked_and_hung_up(self):
        """Section 13.2.2.4; and each repetition, too."""
        world = self.world
        sent = world.dial()
        for i in range(6):  # more than are remembered as early dialogs
            world.deliver(answer(sent, 180, b"t%d" % i))
        world.deliver(accept(sent, b"t5"))
        world.take_one("ACK")
        for i in (0, 1, 4, 9, 0):
            world.deliver(accept(sent, b"t%d" % i))
            ack, bye = self.assertSent("ACK", "BYE")
            self.assertEqual((ack.to.tag, bye.to.tag), (b"t%d" % i, b"t%d" % i))
        self.assertEqual((self.phone.state, world.media.log), ("talking", ["start", "go"]))
        world.deliver(self.fork(sent, b"t5").request("BYE"))
        self.assertSent((200, "BYE"))
        self.assertIdle()

    def test_requests_in_early_dialogs(self):
        """RFC 3311 section 5.2: an UPDATE may refresh, and not offer anything before our own offer is answered."""
        world = self.world
        sent = world.dial()
        contact = [("Contact", b"<sip:bob@198.51.100.9>")]
        for tag in (b"t1", b"t2"):
            world.deliver(answer(sent, 180, tag, contact))
        for tag in (b"t1", b"t2"):
            call = self.fork(sent, tag)
            update = call.request("UPDATE", extra=contact)
            world.deliver(update)
            [response] = self.assertSent((200, "UPDATE"))
            self.assertEqual(response.get("contact"), sent.get("contact"))
            for method in ("UPDATE", "INVITE"):
                world.deliver(call.request(method, body=offer(), extra=contact))
                self.assertSent((491, method))
            world.deliver(call.request("OPTIONS"))
            self.assertSent((200, "OPTIONS"))
        world.deliver(self.fork(sent, b"t3").request("UPDATE"))
        self.assertSent((481, "UPDATE"))
        self.assertEqual((self.phone.state, world.media.log), ("calling", []))
        # The numbers of the early dialog go on in the confirmed one.
        world.deliver(accept(sent, b"t2"))
        world.take()
        world.deliver(request("BYE", sent.call_id, call.local, call.remote, call.cseq))
        self.assertSent((500, "BYE"))
        world.deliver(call.request("BYE"))
        self.assertSent((200, "BYE"))
        self.assertIdle()

    def test_bye_that_overtakes_its_200(self):
        """The callee has answered and hung up at once: 200, and its late 200 is ACKed without a call."""
        world = self.world
        for cancelled in (False, True):
            sent = world.dial()
            world.deliver(answer(sent, 180, b"t1", [("Contact", b"<sip:bob@198.51.100.9>")]))
            if cancelled:
                self.phone.hang_up(world.now)
            world.deliver(self.fork(sent).request("BYE"))
            self.assertSent(*(["CANCEL"] if cancelled else []), (200, "BYE"))
            world.deliver(accept(sent))
            self.assertSent("ACK")
            world.printed.take()
            self.assertIdle()
            self.assertEqual(world.media.log, [])
            self.forget()

    def test_bye_of_one_fork_is_not_that_of_another(self):
        world = self.world
        sent = world.dial()
        for tag in (b"t1", b"t2"):
            world.deliver(answer(sent, 180, tag, [("Contact", b"<sip:bob@198.51.100.9>")]))
        world.deliver(self.fork(sent, b"t1").request("BYE"))
        self.assertSent((200, "BYE"))
        self.assertEqual(self.phone.state, "calling")
        world.deliver(accept(sent, b"t2"))
        self.assertSent("ACK")
        self.assertEqual(self.phone.state, "talking")

    def test_provisional_responses_without_use(self):
        """Without tag, without Contact, with one that is none: they ring, and make no dialog."""
        world = self.world
        sent = world.dial()
        for response in (
            answer(sent, 180, b""),
            answer(sent, 180),
            answer(sent, 180, extra=[("Contact", b"<tel:1>")]),
            answer(sent, 180, extra=[("Contact", b"<sip:x")]),
        ):
            world.deliver(response)
            self.assertEvents(("progress", {"status": 180, "media": None}))
        world.deliver(self.fork(sent).request("UPDATE"))
        self.assertSent((481, "UPDATE"))
        world.deliver(accept(sent))
        world.take_one("ACK")
        self.assertEqual(self.phone.state, "talking")


class EarlyMediaTest(Case):
    def test_nobody_is_on_hold_yet(self):
        """Whatever way early media goes, a call that has not begun is not on hold; that it begins so is told."""
        world = self.world
        change = (b"t=0 0\r\n", b"t=0 0\r\na=inactive\r\n")
        sent = world.dial()
        world.deliver(early(sent, change=change))
        self.assertEvents(("progress", {"status": 183, "media": True}))
        self.assertEqual(world.media.agreed.direction, b"inactive")
        world.deliver(accept(sent, change=change))
        world.take_one("ACK")
        self.assertEvents(("hold", {"local": False, "remote": True}), ("connected", {}))

    def test_heard_before_the_answer(self):
        """The microphone is off until somebody answers; the same description in the 200 changes nothing."""
        world = self.world
        sent = world.dial()
        world.deliver(early(sent))
        self.assertEvents(("progress", {"status": 183, "media": True}))
        self.assertEqual((world.media.log, world.media.talks), (["start"], False))
        agreed = world.media.agreed
        self.assertEqual((agreed.remote_key, agreed.direction), (KEYS[CM80], b"sendrecv"))
        world.advance(2000)
        world.deliver(accept(sent))
        world.take_one("ACK")
        self.assertEqual((world.media.log, world.media.talks), (["start", "change", "go"], True))
        again = world.media.agreed
        for name in ("address", "port", "payload_type", "suite", "local_key", "remote_key"):
            self.assertEqual(getattr(agreed, name), getattr(again, name))
        self.assertEvents(("connected", {"setup_ms": 2000}))

    def test_in_a_180(self):
        world = self.world
        world.deliver(early(world.dial(), 180))
        self.assertEvents(("progress", {"status": 180, "media": True}))
        self.assertEqual(world.media.log, ["start"])

    def test_the_200_may_change_it(self):
        world = self.world
        sent = world.dial()
        world.deliver(early(sent))
        world.deliver(accept(sent, change=(b"30000", b"30002")))
        self.assertEqual((world.media.agreed.port, world.media.log), (30002, ["start", "change", "go"]))

    def test_a_200_without_description(self):
        """Section 13.2.1: "MUST treat the first session description it receives as the answer"; only its own fork's."""
        world = self.world
        for tag, kept in ((b"t1", True), (b"t2", False)):
            sent = world.dial()
            world.deliver(early(sent))
            world.deliver(answer(sent, 200, tag, [("Contact", b"<sip:bob@198.51.100.9>")]))
            if kept:
                self.assertSent("ACK")
                self.assertEqual(self.phone.state, "talking")
                self.phone.hang_up(world.now)
                self.assertSent("BYE")
            else:
                self.assertSent("ACK", "BYE")
            self.assertIdle()
            self.forget()

    def test_of_no_use(self):
        """What is no answer to our offer is not heard; the call goes on ringing, and never is there plain RTP."""
        world = self.world
        for change in (
            (b"RTP/SAVP", b"RTP/AVP"),
            (b"a=crypto:1", b"a=crypto:7"),
            (b"m=audio 30000", b"m=audio 0"),
            (b"198.51.100.9", b"media.example"),
            (b"v=0", b"v=5"),
        ):
            sent = world.dial()
            world.deliver(early(sent, change=change))
            self.assertEvents(("progress", {"media": None}))
            self.assertEqual((self.phone.state, world.media.log), ("calling", []))
            world.deliver(accept(sent))
            self.assertEqual(self.phone.state, "talking")
            self.phone.hang_up(world.now)
            world.take()
            world.printed.take()
            world.media.log = []

    def test_broken_speaker(self):
        """It is told when it matters."""
        world = self.world
        sent = world.dial()
        world.media.broken = OSError(5)
        world.deliver(early(sent))
        self.assertEqual((self.phone.state, world.media.log), ("calling", []))
        world.deliver(accept(sent))
        self.assertEqual(self.phone.state, "talking")

    def test_over_with_the_call(self):
        """A refusal, a CANCEL, or nobody answering ends what is heard."""
        world = self.world
        sent = world.dial()
        world.deliver(early(sent))
        world.deliver(answer(sent, 486))
        self.assertSent("ACK")
        self.assertEqual(world.media.log, ["start", "stop"])
        self.assertEvents(("progress", {}), ("failed", {"status": 486}))
        sent = world.dial()
        world.deliver(early(sent))
        self.phone.hang_up(world.now)
        self.assertEqual(world.media.log, ["start", "stop"] * 2)  # at once, not with the 487
        world.deliver(early(sent))
        self.assertEqual(world.media.log, ["start", "stop"] * 2)
        world.deliver(answer(sent, 487))
        world.take()
        world.printed.take()
        self.assertUsable()

    def test_late(self):
        """A 183 behind the 200 is heard no more."""
        world = self.world
        sent = world.dial()
        world.deliver(accept(sent))
        world.take()
        for response in (early(sent, tag=b"t2", keys=OTHER_KEYS), early(sent, change=(b"30000", b"30008"))):
            world.deliver(response)
        self.assertEqual((world.media.log, world.media.agreed.port), (["start", "go"], 30000))


class OrderTest(Case):
    def test_ringing_behind_the_answer(self):
        world = self.world
        sent = world.dial()
        world.deliver(accept(sent))
        self.assertSent("ACK")
        world.printed.take()
        for status in (100, 180, 183, 180):
            world.deliver(answer(sent, status))
        world.deliver(answer(sent, 486))
        self.assertEqual((world.take(), world.printed.take(), self.phone.state), ([], [], "talking"))

    def test_a_200_again_and_again(self):
        """Each is ACKed, with the number of its INVITE, as long as its transaction lives."""
        world = self.world
        sent = world.dial()
        ok = accept(sent)
        for _ in range(8):
            world.deliver(ok)
            self.assertEqual(world.take_one("ACK").cseq.number, 1)
            world.advance(3900)
        self.assertEqual(world.media.log, ["start", "go"])
        world.advance(LIFE_MS)
        world.deliver(ok)
        self.assertEqual(world.take(), [])

    def test_strangers(self):
        """A response to no branch of ours, or of another method, changes nothing, and is counted."""
        world = self.world
        sent = world.dial()
        good = accept(sent).serialize()
        for old, new in (
            (sent.via.branch, b"z9hG4bKother"),
            (b"CSeq: 1 INVITE", b"CSeq: 1 BYE"),
            (b"CSeq: 1 INVITE", b"CSeq: 1 CANCEL"),
        ):
            before = world.agent.malformed
            world.deliver(good.replace(old, new))
            self.assertEqual((world.take(), self.phone.state), ([], "calling"))
            self.assertEqual(world.agent.malformed, before + 1)
        world.deliver(good)
        self.assertSent("ACK")

    def test_trying_and_nothing_more(self):
        """Somebody is on the way to the callee, and gets nowhere: we give up as if it had rung."""
        world = self.world
        world.deliver(answer(world.dial(), 100))
        world.advance(180000)
        self.assertSent("CANCEL")
        world.advance(LIFE_MS)
        self.assertEvents(("ended", {"reason": "cancelled"}))
        self.assertIdle()

    def test_keys_of_the_second_suite(self):
        """The fork that answers may choose another suite than the one that was heard."""
        world = self.world
        sent = world.dial()
        world.deliver(early(sent))
        ours = [crypto.keys[0].key_salt for crypto in Session.parse(sent.body).media[0].cryptos()]
        self.assertEqual(world.media.agreed.local_key, ours[0])
        sent.body = sent.body.replace(b"a=crypto:1 ", b"a=nocrypto:1 ")
        world.deliver(accept(sent, b"t2"))
        agreed = world.media.agreed
        self.assertEqual((agreed.suite, agreed.local_key, agreed.remote_key), (CM32, ours[1], KEYS[CM32]))


if __name__ == "__main__":
    unittest.main()
