import unittest

from far import accept, answer, branch, invite, offer, options, request
from scripted import ADDRESS, WorldCase

from sipwire.errors import ParseError
from sipwire.message import Request, Response, parse
from sipwire.transaction import MAGIC_COOKIE
from support import load, read
from terminal.useragent import token

# (old, new, status): what a request in a frame is changed in, and how that is answered; None for not at all, where the
# answer would have to be malformed too.
MALFORMED = [
    (b" SIP/2.0\r\n", b" SIP/3.0\r\n", 505),
    (b" SIP/2.0\r\n", b" SIP/2.00\r\n", 505),
    (b" SIP/2.0\r\n", b" x SIP/2.0\r\n", 400),
    (b" SIP/2.0\r\n", b" HTTP/1.1\r\n", None),
    (b" SIP/2.0\r\n", b"\r\n", None),
    (b"sip:alice@192.0.2.7:5060 ", b"<sip:alice@192.0.2.7:5060> ", 400),
    (b"sip:alice@192.0.2.7:5060 ", b"alice ", 400),
    (b"sip:alice@192.0.2.7:5060 ", b"sip:alice@192.0.2.7:70000 ", 400),
    (b"sip:alice@192.0.2.7:5060 ", b"sip:alice@192.0.2.7?Subject=x ", 400),
    (b"CSeq: 1 ", b"CSeq: 2147483648 ", None),
    (b"CSeq: 1 ", b"CSeq: -1 ", None),
    (b"CSeq: 1 ", b"CSeq: 1", None),
    (b"CSeq: 1 OPTIONS", b"CSeq: 1 INVITE", 400),
    (b"CSeq: 1 OPTIONS", b"CSeq: 1 options", 400),
    (b"CSeq: 1 OPTIONS\r\n", b"", None),
    (b"Call-ID: opt", b"Call-ID:", None),
    (b"Call-ID: opt", b"Call-ID: opt\r\nCall-ID: opt", 400),
    (b"Call-ID: opt", b"Call-ID: o p t", None),
    (b"From:", b"From: <sip:x@y>;tag=1\r\nFrom:", 400),
    (b"From:", b"X:", None),
    (b";tag=o", b";tag=", None),
    (b"To: ", b"To: <sip:x@y>;tag=2\r\nTo: ", 400),
    (b"To: ", b"X: ", None),
    (b"To: <sip:", b"To: <sip", None),
    (b"Max-Forwards: 69", b"Max-Forwards: 256", 400),
    (b"Max-Forwards: 69", b"Max-Forwards: -1", 400),
    (b"Max-Forwards: 69", b"Max-Forwards: 6\r\nMax-Forwards: 9", 400),
    (b"Content-Length: 0", b"Content-Length: 1", 400),
    (b"Content-Length: 0", b"Content-Length: x", 400),
    (b"Content-Length: 0", b"Content-Length: 0\r\nl: 0", 400),
    (b"SIP/2.0/UDP", b"SIP/3.0/UDP", 505),
    (b"SIP/2.0/UDP", b"UDP", None),
    (b"192.0.2.1:5060;", b"192.0.2.1:0;", None),
    (b"Content-Length: 0", b"Content Length: 0", 400),
    (b"Content-Length: 0", b"Content-Length\x00: 0", 400),
    (b"Max-Forwards: 69", b"Max-Forwards: 69\r X", None),
    (b"Max-Forwards: 69\r\n", b"Max-Forwards: 69\n", None),
    (b"Max-Forwards: 69\r\n", b"Max-Forwards: 69\r", None),
    (b"OPTIONS sip", b"OPT{IONS sip", None),
    (b"OPTIONS sip", b" sip", None),
    (b"\r\n\r\n", b"\r\n", None),
]

_KINDS = ("MESSAGE", "OPTIONS", "OPTIONS")


class FrameTest(WorldCase):
    def test_plain_requests(self):
        """Who has no key is not served, not answered and not listened to, whatever they say."""
        world = self.world
        good = world.ring()
        invited = invite(call_id=b"in-2")
        for message in (
            invited,
            options(),
            good.like_invite("CANCEL"),
            good.request("BYE"),
            good.ack(),
            options(method="MESSAGE"),
            b"INVITE",
            b"",
            b"\r\n\r\n",
            bytes(100),
        ):
            before = world.agent.malformed
            self.assertFalse(world.deliver_plain(message))
            self.assertEqual(world.agent.malformed, before + (message != b""))
        self.assertEqual(world.take(), [])
        self.assertEqual(world.printed.take(), [])
        self.assertEqual(self.phone.state, "ringing")

    def test_plain_responses_to_framed_requests(self):
        world = self.world
        sent = world.dial()
        for status in (100, 180, 200, 302, 401, 486, 603):
            world.deliver_plain(answer(sent, status))
        world.deliver_plain(accept(sent))
        self.assertEqual(world.agent.malformed, 8)
        self.assertEqual((self.phone.state, world.printed.take(), world.take()), ("calling", [], []))
        world.deliver(accept(sent))
        world.take_one("ACK")
        self.assertEqual(self.phone.state, "talking")

    def test_request_in_a_frame_that_nobody_has_proven(self):
        """An agreement serves for nothing but the 200 that confirms it."""
        world = self.start_anew()
        _, agreement = world.prove()
        self.assertFalse(world.deliver(invite(), agreement))
        self.assertFalse(world.deliver(options(), agreement))
        self.assertEqual((world.take(), world.agent.malformed), ([], 2))
        self.assertIdle()

    def test_nothing_leaves_while_there_is_no_agreement(self):
        world = self.world
        world.ring()
        world.tends = False
        world.advance(100000)
        self.assertFalse(world.link.is_open)
        world.take()
        world.printed.take()
        self.phone.reject(world.now)
        self.phone.dial("bob", world.now)
        world.agent.send(options())
        self.assertEqual(world.take(), [])  # which would fail on anything plain

    def test_what_is_sent_while_there_is_none_goes_out_when_there_is(self):
        """Transactions repeat: a call survives the loss of an agreement."""
        world = self.world
        call = world.talk_as_callee()
        world.tends = False
        world.advance(100000)
        self.assertEqual(world.printed.take()[-1]["reason"], "neighbour lost")
        world.take()
        self.phone.hang_up(world.now)
        self.assertEqual(world.take(), [])
        request, agreement = world.prove()
        world.deliver(world.welcome(request, agreement), agreement)
        world.advance(5000)
        bye = world.take()[0]
        self.assertEqual((bye.message.method, bye.message.call_id), ("BYE", call.call_id))
        self.assertIs(bye.agreement, agreement)

    def test_a_sign_of_life_is_a_valid_frame_and_nothing_else(self):
        world = self.world
        frame = world.agreement.sender.seal(options().serialize())
        self.assertTrue(world.receive(frame))
        self.assertEqual(world.take_status(), 200)
        self.assertFalse(world.receive(frame))
        self.assertFalse(world.receive(frame[:-1]))
        self.assertEqual((world.take(), world.link.dropped), ([], 2))


class MalformedTest(WorldCase):
    def test_status(self):
        world = self.world
        for old, new, status in MALFORMED:
            with self.subTest(new):
                data = options().serialize()
                self.assertIn(old, data)
                before = world.agent.malformed
                self.assertTrue(world.deliver(data.replace(old, new, 1)))
                self.assertEqual(world.agent.malformed, before + 1)
                self.assertEqual([sent.message.status for sent in world.take()], [] if status is None else [status])
        self.assertEqual(world.printed.take(), [])
        world.advance(40000)
        self.assertEqual(world.take(), [])

    def test_invite(self):
        """A malformed one rings nothing, is answered, and is remembered no longer than any other."""
        world = self.world
        good = invite().serialize()
        for old, new, status in (
            (b"CSeq: 10 INVITE", b"CSeq: 10 BYE", 400),
            (b"SIP/2.0\r\n", b"SIP/7.0\r\n", 505),
            (b"Content-Length: ", b"Content-Length: 9", 400),
            # What only the phone reads:
            (b"Max-Forwards:", b'Require: "\r\nMax-Forwards:', 400),
            (b"Max-Forwards:", b"Require: a, <b\r\nMax-Forwards:", 400),
            (b"Max-Forwards:", b"Record-Route: <sip:r;lr>,,<sip:r;lr>\r\nMax-Forwards:", 400),
            (b"Max-Forwards:", b'Record-Route: "<sip:r;lr>\r\nMax-Forwards:', 400),
            (b"Max-Forwards:", b"Record-Route: <sip:>\r\nMax-Forwards:", 400),
            (b"Max-Forwards:", b"Record-Route: r\r\nMax-Forwards:", 400),
            (b"Contact: ", b"X: ", 400),
            (b"Contact: ", b"Contact: <sip:b@c>, ", 400),
            (b"Contact: <sip:", b"Contact: *;<sip:", 400),
            (b"Contact: <sip:", b"Contact: <tel:", 400),
            (b":5062>\r\n", b":5062\r\n", 400),
            (b"v=0\r\n", b"v=1\r\n", 400),
            (b"v=0\r\n", b"v 0\r\n", 400),
        ):
            with self.subTest(new):
                self.assertIn(old, good)
                for _ in range(3):
                    data = good.replace(b"branch=z9hG4bK", b"branch=" + branch(), 1).replace(old, new, 1)
                    world.deliver(data)
                    self.assertEqual(world.take_status(), status)
                    self.assertIdle()
            world.advance(40000)
            world.take()
        self.assertEqual(world.printed.take(), [])
        world.ring()

    def test_malformed_contact_within_a_call(self):
        world = self.world
        call = world.talk_as_callee()
        for contact in (b"<sip:x", b"<sip:a@b>, <sip:c@d>", b"tel:1"):
            for _ in range(5):
                world.deliver(call.request("INVITE", extra=[("Contact", contact)], body=offer()))
                self.assertEqual(world.take_status(), 400)
            world.advance(40000)
            world.take()
        self.assertEqual(self.phone.state, "talking")
        world.deliver(call.request("BYE"))
        self.assertEqual(world.take_status(), 200)

    def test_ack_is_never_answered(self):
        world = self.world
        call = world.talk_as_callee()
        good = call.ack().serialize()
        for data in (
            good,
            call.ack(via=b"z9hG4bKother").serialize(),
            good.replace(b"SIP/2.0\r\n", b"SIP/3.0\r\n", 1),
            good.replace(b" ACK\r\n", b" INVITE\r\n"),
            good.replace(b"Call-ID: ", b"X: "),
            good.replace(b"Content-Length: 0", b"Content-Length: 9"),
            request("ACK", b"unknown", b"<sip:a@b>;tag=1", b"<sip:c@d>;tag=2", 1).serialize(),
            request("ACK", b"unknown", b"<sip:a@b>;tag=1", b"<sip:c@d>", 1, extra=[("Require", b"x")]).serialize(),
        ):
            world.deliver(data)
        world.advance(40000)
        self.assertEqual(world.take(), [])
        self.assertEqual(self.phone.state, "talking")

    def test_responses_that_nobody_waits_for(self):
        world = self.world
        sent = world.dial()
        good = answer(sent, 486).serialize()
        for data in (
            good.replace(sent.via.branch, sent.via.branch + b"0"),
            good.replace(sent.via.branch, b"z9hG4bK"),
            good.replace(b"1 INVITE", b"1 CANCEL"),
            good.replace(b"1 INVITE", b"1 ACK"),
            good.replace(b"SIP/2.0 486", b"SIP/2.0 99"),
            good.replace(b"SIP/2.0 486", b"SIP/2.0 700"),
            good.replace(b"SIP/2.0 486", b"SIP/2.0 +86"),
            good.replace(b"SIP/2.0 486 Reason", b"SIP/2.0 486"),
            good.replace(b"SIP/2.0 486", b"SIP/3.0 486"),
            good.replace(b"Call-ID:", b"X:"),
            good.replace(b"Via:", b"X:"),
            answer(options(), 200).serialize(),
        ):
            before = world.agent.malformed
            world.deliver(data)
            self.assertEqual(world.agent.malformed, before + 1)
        self.assertEqual((world.take(), world.printed.take()), ([], []))
        self.assertEqual(self.phone.state, "calling")
        world.deliver(good)
        world.take_one("ACK")
        self.assertIdle()

    def test_torture_messages(self):
        """RFC 4475 and RFC 5118, in frames: each is answered or dropped, and the terminal goes on."""
        world = self.world
        names = ["rfc4475/" + case["file"] for case in load("rfc4475/index.json")["messages"]]
        names += ["rfc5118/" + case["fixed_file"] for case in load("rfc5118/index.json")["messages"]]
        answered = 0
        for name in names:
            data = read(name)
            world.deliver(data)
            sent = world.take()
            self.assertLess(len(sent), 2)
            for one in sent:
                self.assertIsInstance(one.message, Response)
                self.assertEqual(one.message.call_id, one.message.call_id.strip())
            try:
                message = parse(data)
            except ParseError as error:
                if sent:
                    answered += 1
                    self.assertEqual(sent[0].message.status, error.status)
                continue
            if isinstance(message, Request):
                self.assertEqual(len(sent), 0 if message.method == "ACK" else 1)
                answered += len(sent)
            if self.phone.state == "ringing":
                self.phone.reject(world.now)
                world.take()
            world.advance(40000)
            world.take()
        self.assertGreater(len(names), 35)
        self.assertGreater(answered, 25)
        world.printed.take()
        self.assertUsable()


class TransactionTest(WorldCase):
    def test_repeated_request(self):
        """Section 17.2.2: the same answer again, for as long as the transaction lasts."""
        world = self.world
        asked = options()
        world.deliver(asked)
        [first] = world.take()
        for _ in range(3):
            world.advance(1000)
            world.deliver(asked)
            [again] = world.take()
            self.assertEqual(again.message.serialize(), first.message.serialize())
            self.assertNotEqual(again.datagram, first.datagram)
        world.advance(32000)
        world.deliver(asked)
        self.assertNotEqual(world.take_one().to.tag, first.message.to.tag)

    def test_repeated_invite(self):
        world = self.world
        call = world.ring()
        tags = []
        for _ in range(3):
            world.deliver(call.invite)
            ringing = world.take_one()
            self.assertEqual(ringing.status, 180)
            tags.append(ringing.to.tag)
        self.assertEqual(len(set(tags)), 1)
        self.assertEqual(world.printed.take(), [])
        self.phone.reject(world.now)
        self.assertEqual(world.take_status(), 603)
        world.deliver(call.invite)
        self.assertEqual(world.take_status(), 603)
        world.deliver(call.like_invite("ACK"))
        world.deliver(call.invite)
        self.assertEqual(world.take(), [])

    def test_rejection_is_repeated_until_its_ack(self):
        world = self.world
        call = world.ring()
        self.phone.reject(world.now)
        start = world.now
        world.advance(8000)
        sent = world.take()
        self.assertEqual([one.message.status for one in sent], [603] * 5)
        self.assertEqual([one.at - start for one in sent], [0, 500, 1500, 3500, 7500])
        world.deliver(call.like_invite("ACK"))
        world.advance(60000)
        self.assertEqual(world.take(), [])
        self.assertIsNone(world.agent.timer_at)

    def test_own_requests(self):
        sent = self.world.dial()
        via = sent.via
        self.assertEqual((via.transport, via.sent_by, via.param("rport")), (b"UDP", ADDRESS + b":5060", b""))
        self.assertTrue(via.branch.startswith(MAGIC_COOKIE))
        self.assertEqual((len(via.branch), len(sent.values("via"))), (7 + 16, 1))

    def test_tokens(self):
        self.assertEqual(len(set([token() for _ in range(100)])), 100)
        self.assertEqual((len(token()), len(token(4))), (16, 8))

    def test_unanswered_invite_is_repeated(self):
        """Timer A doubles without end, Timer B ends it (section 17.1.1.2)."""
        world = self.world
        start = world.now
        sent = world.dial()
        world.advance(31999)
        repeated = world.take()
        self.assertEqual([one.at - start for one in repeated], [500, 1500, 3500, 7500, 15500, 31500])
        for one in repeated:
            self.assertEqual(one.message.serialize(), sent.serialize())
        self.assertEqual(world.printed.take(), [])
        world.advance(1)
        self.assertEqual(world.printed.take()[0]["status"], 408)
        self.assertIsNone(world.agent.timer_at)

    def test_provisional_answer_stops_repeating(self):
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 100))
        world.advance(100000)
        self.assertEqual(world.take(), [])

    def test_rejection_of_ours_is_acked_each_time(self):
        world = self.world
        sent = world.dial()
        for _ in range(3):
            world.deliver(answer(sent, 486))
            ack = world.take_one("ACK")
            self.assertEqual((ack.via.branch, ack.uri, ack.to.tag), (sent.via.branch, sent.uri, b"t1"))
            self.assertEqual(ack.cseq.number, sent.cseq.number)
        self.assertEqual([event["event"] for event in world.printed.take()], ["failed"])
        world.advance(32000)
        world.deliver(answer(sent, 486))
        self.assertEqual((world.take(), world.agent.malformed), ([], 1))

    def test_many_at_once(self):
        """Beyond eight the next is sent away, to come back later; nothing is remembered of it."""
        world = self.world
        invites = [invite(call_id=b"c%d" % i) for i in range(8)]
        for i, one in enumerate(invites):
            world.deliver(one)
            self.assertEqual(world.take_status(), 180 if i == 0 else 486)
        for kind in (options(call_id=b"x"), invite(call_id=b"y")):
            for _ in range(3):
                world.deliver(kind)
                response = world.take_one()
                self.assertEqual((response.status, response.get("retry-after")), (503, b"10"))
        world.deliver(request("ACK", b"y", b"<sip:bob@b.example>;tag=peer", b"<sip:alice@a.example>;tag=1", 10))
        self.assertEqual(world.take(), [])
        for one in invites[1:]:
            world.deliver(request("ACK", one.call_id, one.get("from"), one.get("to"), 10, via=one.via.branch))
        world.advance(5000)
        world.take()
        world.deliver(options(call_id=b"x"))
        self.assertEqual(world.take_status(), 200)
        self.assertEqual(self.phone.state, "ringing")

    def test_answered_requests_make_room(self):
        """Somebody's hundred OPTIONS keep no call from coming, and no BYE from ending one."""
        world = self.world
        for i in range(100):
            world.deliver(options(call_id=b"o%d" % i))
            self.assertEqual(world.take_status(), 200)
        call = world.talk_as_callee()
        for i in range(100):
            world.deliver(options(call_id=b"p%d" % i, method="REFER"))
            self.assertEqual(world.take_status(), 405)
        world.deliver(call.request("BYE"))
        self.assertEqual(world.take_status(), 200)
        self.assertIdle()

    def test_the_newest_answers_are_remembered(self):
        world = self.world
        asked = [options(call_id=b"o%d" % i) for i in range(12)]
        tags = []
        for one in asked:
            world.advance(10)
            world.deliver(one)
            tags.append(world.take_one().to.tag)
        for one, tag in zip(asked[-6:], tags[-6:]):
            world.deliver(one)
            self.assertEqual(world.take_one().to.tag, tag)

    def test_no_memory_for_an_answer(self):
        """What is remembered for repetitions alone goes first; where that is not enough the answer is lost."""
        world = self.world
        seal = world.link.seal
        scarce = [0]

        def sealing(message):
            if scarce[0]:
                scarce[0] -= 1
                raise MemoryError("as told")
            return seal(message)

        world.link.seal = sealing
        asked = [options(call_id=b"o%d" % i) for i in range(4)]
        tags = []
        for one in asked:
            world.deliver(one)
            tags.append(world.take_one().to.tag)
        world.deliver(asked[1])
        self.assertEqual(world.take_one().to.tag, tags[1])
        newest = options(call_id=b"newest")
        scarce[0] = 1
        world.deliver(newest)
        answered = world.take_one()
        self.assertEqual(answered.status, 200)
        world.deliver(newest)
        self.assertEqual(world.take_one().to.tag, answered.to.tag)
        world.deliver(asked[1])
        self.assertNotEqual(world.take_one().to.tag, tags[1])
        self.assertEqual(world.printed.take(), [])
        scarce[0] = 2
        world.deliver(options(call_id=b"last"))
        self.assertEqual(world.take(), [])
        self.assertEqual([event["event"] for event in world.printed.take()], ["starved"])
        world.deliver(options(call_id=b"last"))
        self.assertEqual(world.take_status(), 200)

    def test_a_new_call_has_the_room_of_the_one_before(self):
        """What was answered is forgotten when another begins, but no text: it would be shown twice."""
        world = self.world
        begins = (
            (world.ring, (True, False, False)),
            (lambda: self.phone.dial("bob", world.now), (True, False, True)),  # that was the newest
        )
        for number, (begin, kept) in enumerate(begins):
            asked = [options(call_id=b"%d-%d" % (number, i), method=method) for i, method in enumerate(_KINDS)]
            asked[0].set_body(b"text/plain", b"hello")
            answered = []
            for one in asked:
                world.deliver(one)
                answered.append(world.take_one())
            self.assertEqual([one.status for one in answered], [200, 200, 200])
            begin()
            world.take()
            world.printed.take()
            for one, before, is_kept in zip(asked, answered, kept):
                world.deliver(one)
                self.assertEqual(world.take_one().to.tag == before.to.tag, is_kept, one.call_id)
            self.assertEqual(world.printed.take(), [])
            if not number:
                self.phone.reject(world.now)
                world.take()

    def test_no_memory_while_a_call_is_answered(self):
        """A call that waits for its ACK is not forgotten: its INVITE may come again, and so may that of a change."""
        world = self.world
        call = world.ring()
        world.phone.answer(world.now)
        again = call.invite
        for _ in range(2):
            world.deliver(options(call_id=b"newer"))
            world.take()
            world.agent.make_room()
            world.deliver(again)
            self.assertEqual(world.take(), [])  # the 200 comes when it is due
            world.deliver(call.ack())
            again = call.request("INVITE", body=offer())
            world.deliver(again)
            self.assertEqual(world.take_status(), 200)
        self.assertEqual(self.phone.state, "talking")


if __name__ == "__main__":
    unittest.main()
