import unittest

from far import CM80, CONTACT, KEYS, PEER_ADDRESS, accept, answer, invite, request
from scripted import ADDRESS, LIFE_MS, RING_MS, STATISTICS, WorldCase

from sipwire.dialog import Dialog
from sipwire.sdp import Session
from terminal.useragent import ALLOW


class InviteTest(WorldCase):
    def test_invite(self):
        sent = self.world.dial()
        self.assertEqual(sent.start_line(), b"INVITE sip:bob@b.example SIP/2.0")
        for name, value in (
            ("max-forwards", b"70"),
            ("to", b"<sip:bob@b.example>"),
            ("contact", b"<" + CONTACT + b">"),
            ("cseq", b"1 INVITE"),
            ("allow", ALLOW),
            ("content-type", b"application/sdp"),
        ):
            self.assertEqual(sent.get_all(name), [value])
        self.assertEqual(sent.from_.uri, b"sip:alice@a.example")
        self.assertEqual(len(sent.from_.tag), 8)
        self.assertEqual(self.phone.state, "calling")
        self.assertEqual(self.world.media.log, [])

    def test_offer(self):
        """SRTP with a fresh key in each of two suites, and not one stream without."""
        world = self.world
        keys = []
        for _ in range(3):
            sent = world.dial()
            described = Session.parse(sent.body)
            [audio] = described.media
            self.assertEqual((audio.kind, audio.port, audio.proto), (b"audio", 40000, b"RTP/SAVP"))
            self.assertEqual((audio.formats, described.address(audio)), ([b"0", b"101"], ADDRESS))
            self.assertEqual(
                [(crypto.tag, crypto.suite) for crypto in audio.cryptos()],
                [(1, b"AES_CM_128_HMAC_SHA1_80"), (2, b"AES_CM_128_HMAC_SHA1_32")],
            )
            keys += [crypto.keys[0].key_salt for crypto in audio.cryptos()]
            world.deliver(answer(sent, 486))
            world.take_one("ACK")
            world.printed.take()
        self.assertEqual(len(set(keys)), 6)

    def test_configuration(self):
        world = self.start_anew(display_name='Alice "A" \\ Älice', codecs=["PCMU", "PCMA"])
        world.register()
        sent = world.dial()
        self.assertEqual(sent.from_.display, '"Alice A  Älice"'.encode())
        self.assertEqual(Session.parse(sent.body).media[0].formats, [b"0", b"8", b"101"])

    def test_targets(self):
        world = self.world
        for target, uri in (
            ("bob", b"sip:bob@a.example"),
            ("bob@b.example", b"sip:bob@b.example"),
            ("bob@b.example:5070", b"sip:bob@b.example:5070"),
            ("sip:bob", b"sip:bob@a.example"),
            ("sip:bob@b.example;transport=tls", b"sip:bob@b.example;transport=tls"),
            ("sips:bob@b.example", b"sips:bob@b.example"),
            ("+4930123", b"sip:+4930123@a.example"),
        ):
            self.phone.dial(target, world.now)
            sent = world.take_one("INVITE")
            self.assertEqual((sent.uri, sent.to.uri), (uri, uri))
            world.deliver(answer(sent, 404))
            world.take_one("ACK")
            world.printed.take()

    def test_targets_that_are_none(self):
        world = self.world
        for target in (
            "sip:", "@", "a@", "@b", "bob@b example", "b<ob", "bob@b@c", "bob@b:99999", "böb", "bob%zz", "a\r\nb",
            "tel:+4930123", "sip:bob@b?Subject=x",
        ):  # fmt: skip
            self.phone.dial(target, world.now)
            self.assertEqual(world.printed.take(), [{"event": "refused", "command": "call", "reason": "malformed URI"}])
            self.assertEqual(world.take(), [])
            self.assertIdle()

    def test_while_not_registered(self):
        """The INVITE goes out as soon as there is an agreement to send it in."""
        world = self.start_anew()
        self.phone.dial("bob", world.now)
        self.assertEqual(world.take(), [])
        world.printed.take()
        world.register()
        world.advance(500)
        self.assertSent("INVITE")


class CallerTest(WorldCase):
    def test_call(self):
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 100))
        self.assertEqual(world.printed.take(), [])
        world.advance(1000)
        world.deliver(answer(sent, 180))
        world.deliver(answer(sent, 183))
        self.assertEvents(("progress", {"status": 180}), ("progress", {"status": 183}))
        world.advance(2500)
        world.deliver(accept(sent))
        ack = world.take_one("ACK")
        self.assertEqual(ack.start_line(), b"ACK sip:bob@198.51.100.9:5062 SIP/2.0")
        self.assertEqual((ack.call_id, ack.get("from"), ack.get("cseq")), (sent.call_id, sent.get("from"), b"1 ACK"))
        self.assertEqual(ack.get("to"), b"<sip:bob@b.example>;tag=t1")
        self.assertNotEqual(ack.via.branch, sent.via.branch)
        self.assertEvents(("connected", {"peer": "sip:bob@b.example", "setup_ms": 3500, "suite": CM80.decode()}))
        self.assertEqual((self.phone.state, world.media.log), ("talking", ["start", "go"]))
        agreed = world.media.agreed
        self.assertEqual((agreed.address, agreed.port, agreed.payload_type), (PEER_ADDRESS, 30000, 0))
        self.assertEqual((agreed.suite, agreed.remote_key, agreed.direction), (CM80, KEYS[CM80], b"sendrecv"))
        self.assertEqual(agreed.local_key, Session.parse(sent.body).media[0].cryptos()[0].keys[0].key_salt)
        world.advance(RING_MS)
        self.assertEqual((self.phone.state, world.take()), ("talking", []))

    def test_repeated_200(self):
        """The far end has not got our ACK: it is sent again, and nothing else happens (section 13.2.2.4)."""
        world = self.world
        sent = world.dial()
        ok = accept(sent)
        for _ in range(3):
            world.deliver(ok)
            ack = world.take_one("ACK")
            self.assertEqual((ack.uri, ack.cseq.number), (b"sip:bob@198.51.100.9:5062", 1))
            world.advance(4000)
        self.assertEvents(("connected", {}))
        world.deliver(accept(sent, change=(b"RTP/SAVP", b"RTP/AVP")))  # the first answer holds
        world.take_one("ACK")
        self.assertEqual((self.phone.state, world.media.log), ("talking", ["start", "go"]))

    def test_another_fork_answers_too(self):
        """Section 13.2.2.4: it is ACKed and hung up, and the call with the first goes on."""
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 180, b"t1"))
        world.deliver(answer(sent, 180, b"t2"))
        world.deliver(accept(sent, b"t1"))
        world.take_one("ACK")
        world.deliver(accept(sent, b"t2", contact=b"<sip:bob@198.51.100.10>"))
        ack, bye = self.assertSent("ACK", "BYE")
        for message, number in ((ack, 1), (bye, 2)):
            self.assertEqual(message.uri, b"sip:bob@198.51.100.10")
            self.assertEqual((message.to.tag, message.cseq.number), (b"t2", number))
        self.assertEqual((self.phone.state, world.media.log), ("talking", ["start", "go"]))
        self.phone.hang_up(world.now)
        self.assertEqual(world.take_one("BYE").to.tag, b"t1")

    def test_200_after_the_call_is_over(self):
        """A 200 whose ACK was lost comes again when we have hung up already: it is ACKed, and hung up too."""
        world = self.world
        sent = world.talk()[0]
        self.phone.hang_up(world.now)
        world.take_one("BYE")
        for tag in (b"t1", b"t2"):
            world.deliver(accept(sent, tag))
            self.assertSent("ACK", "BYE")
        self.assertIdle()
        self.forget()
        world.deliver(accept(sent))
        self.assertEqual(world.take(), [])

    def test_200_after_the_call_is_over_and_memory_was_short(self):
        """What is kept for that alone is given up first: it is then a 200 of no call, for which nothing is done."""
        world = self.world
        sent = world.talk()[0]
        self.phone.hang_up(world.now)
        world.take_one("BYE")
        world.agent.make_room()
        world.deliver(accept(sent))
        self.assertEqual(world.take(), [])
        self.assertIdle()

    def test_200_of_an_old_call_while_another_is_on(self):
        """It ends the old one once more, and the new one does not notice."""
        world = self.world
        for state in ("calling", "cancelling", "ringing", "answered", "talking"):
            with self.subTest(state):
                old = world.talk()[0]
                self.phone.hang_up(world.now)
                world.take_one("BYE")
                world.printed.take()
                end = self.reach(state)
                log = list(world.media.log)
                for late in (accept(old), accept(old, b"t2"), accept(old, contact=b"")):
                    world.deliver(late)
                    for sent in world.take():
                        self.assertEqual(sent.message.call_id, old.call_id)
                world.deliver(answer(old, 486))
                world.deliver(answer(old, 180))
                self.assertEqual((world.take(), world.printed.take()), ([], []))
                self.assertEqual((self.phone.state, world.media.log), (state, log))
                world.deliver(end)
                self.assertIdle()
                self.forget()

    def test_answers_that_make_no_dialog(self):
        world = self.world
        for changes in (
            {"contact": b""},
            {"contact": b"<tel:+1>"},
            {"contact": b"*"},
            {"contact": b"<sip:a@b>, <sip:c@d>"},
            {"extra": [("Contact", b"<sip:second@b>")]},
            {"extra": [("Record-Route", b"<sip:p;lr>,")]},
            {"extra": [("Record-Route", b"<sip:>")]},
            {"extra": [("Record-Route", b"<sip:p;lr>, p")]},
        ):
            with self.subTest(changes):
                sent = world.dial()
                world.deliver(accept(sent, **changes))
                world.deliver(accept(sent, **changes))
                self.assertEqual(world.take(), [])
                self.assertEvents(("failed", {"status": 502, "reason": "unusable answer"}))
                self.assertEqual(world.media.log, [])
                self.assertIdle()

    def test_rejected(self):
        """Told with the reason, ACKed, and not tried again by itself, wherever a redirection leads."""
        world = self.world
        extra = [("Contact", b"<sip:else@b>"), ("Retry-After", b"1")]
        warning = [("Warning", b'399 b.example "no certificate"')]
        for status in (302, 404, 408, 480, 486, 488, 494, 503, 603, 699):
            sent = world.dial()
            world.deliver(answer(sent, status, extra=extra + warning if status == 488 else extra, reason="So"))
            ack = world.take_one("ACK")
            self.assertEqual((ack.via.branch, ack.uri), (sent.via.branch, sent.uri))
            shown = '399 b.example "no certificate"' if status == 488 else None
            self.assertEvents(("failed", {"status": status, "reason": "So", "warning": shown}))
            world.advance(2000)
            self.assertEqual(world.take(), [])
            self.assertIdle()
        self.assertEqual(world.media.log, [])
        self.assertUsable()

    def test_status_codes_that_nobody_knows(self):
        """Each is as good as the x00 of its class (section 8.1.3.2)."""
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 199))
        self.assertEqual(self.phone.state, "calling")
        ok = accept(sent)
        ok.status = 299
        world.deliver(ok)
        world.take_one("ACK")
        self.assertEqual(self.phone.state, "talking")

    def test_no_answer_at_all(self):
        self.world.dial()
        self.world.advance(LIFE_MS)
        self.assertEvents(("failed", {"status": 408, "reason": "no answer"}))
        self.world.take()
        self.assertUsable()

    def test_nobody_picks_up(self):
        world = self.world
        start = world.now
        world.deliver(answer(world.dial(), 180))
        world.printed.take()
        world.advance(RING_MS + LIFE_MS)
        [cancel] = [one for one in world.take() if one.at == start + RING_MS]
        self.assertEqual(cancel.message.method, "CANCEL")
        self.assertEvents(("ended", {"reason": "cancelled"}))
        self.assertIdle()

    def test_hang_up(self):
        world = self.world
        sent, call = world.talk()
        world.advance(5000)
        self.phone.hang_up(world.now)
        bye = world.take_one("BYE")
        self.assertEqual(bye.start_line(), b"BYE sip:bob@198.51.100.9:5062 SIP/2.0")
        self.assertEqual((bye.get("from"), bye.get("to")), (call.remote, call.local))
        self.assertEqual((bye.call_id, bye.get("cseq"), bye.get("max-forwards")), (sent.call_id, b"2 BYE", b"70"))
        self.assertEvents(("ended", {"reason": "hung up", "talked_ms": 5000, "media": STATISTICS}))
        self.assertEqual(world.media.log, ["start", "go", "stop"])
        world.deliver(answer(bye, 200))
        world.advance(LIFE_MS)
        self.assertEqual(world.take(), [])
        self.assertUsable()

    def test_bye_that_nobody_answers_or_somebody_refuses(self):
        """The call is over all the same."""
        world = self.world
        for status in (None, 403, 481, 500):
            world.talk()
            self.phone.hang_up(world.now)
            bye = world.take_one("BYE")
            self.assertEvents(("ended", {"reason": "hung up"}))
            self.assertIdle()
            if status:
                world.deliver(answer(bye, status))
            world.advance(LIFE_MS)
            self.assertSent(*["BYE"] * (0 if status else 10))
            self.assertEqual(world.printed.take(), [])

    def test_far_end_hangs_up(self):
        world = self.world
        _, call = world.talk()
        world.advance(3000)
        world.deliver(call.request("BYE"))
        self.assertSent((200, "BYE"))
        self.assertEvents(("ended", {"reason": "peer hung up", "talked_ms": 3000, "media": STATISTICS}))
        world.advance(LIFE_MS)
        self.assertEqual(world.take(), [])
        self.assertUsable()

    def test_both_hang_up_at_once(self):
        """RFC 5407 section 3.2.1: each answers the other's BYE by 200, and each call ends once."""
        world = self.world
        for talk in (lambda: world.talk()[1], world.talk_as_callee):
            crossing = talk().request("BYE")
            self.phone.hang_up(world.now)
            bye = world.take_one("BYE")
            for _ in range(2):  # the first 200 is lost
                world.deliver(crossing)
                self.assertSent((200, "BYE"))
            world.deliver(answer(bye, 200))
            self.assertEvents(("ended", {"reason": "hung up"}))
            self.assertIdle()
            self.forget()

    def test_bye_before_the_200(self):
        """Of a dialog that we don't know yet: 481, and the call is still being set up."""
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 180))
        world.deliver(request("BYE", sent.call_id, sent.get("to") + b";tag=t1", sent.get("from"), 7))
        self.assertSent((481, "BYE"))
        self.assertEqual(self.phone.state, "calling")

    def test_own_call_comes_back(self):
        """Who calls an address that leads to the same terminal hears that it is busy."""
        world = self.world
        sent = world.dial("sip:alice@a.example")
        world.deliver(invite(call_id=sent.call_id, from_tag=sent.from_.tag, body=sent.body))
        self.assertSent((486, "INVITE"))
        self.assertEqual(self.phone.state, "calling")


class CancelTest(WorldCase):
    def ringing(self):
        """A call that rings at the far end and is cancelled; returns INVITE and CANCEL."""
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 180))
        world.printed.take()
        self.phone.hang_up(world.now)
        return sent, world.take_one("CANCEL")

    def test_before_any_answer(self):
        """Section 9.1: "If no provisional response has been received, the CANCEL request MUST NOT be sent"."""
        world = self.world
        sent = world.dial()
        self.phone.hang_up(world.now)
        self.assertEqual(self.phone.state, "cancelling")
        world.advance(400)
        self.assertEqual(world.take(), [])
        world.deliver(answer(sent, 100))
        cancel = world.take_one("CANCEL")
        self.assertEqual((cancel.uri, cancel.via.serialize()), (sent.uri, sent.via.serialize()))
        self.assertEqual((cancel.get("from"), cancel.get("to")), (sent.get("from"), sent.get("to")))
        self.assertEqual((cancel.call_id, cancel.get("cseq")), (sent.call_id, b"1 CANCEL"))
        for name in ("require", "proxy-require", "contact", "content-type"):
            self.assertIsNone(cancel.get(name))
        world.deliver(answer(cancel, 200))
        for status in (180, 183, 180):  # make no further CANCEL
            world.deliver(answer(sent, status))
        self.assertEqual((world.take(), world.printed.take()), ([], []))
        world.deliver(answer(sent, 487))
        world.take_one("ACK")
        self.assertEvents(("ended", {"reason": "cancelled"}))
        self.assertUsable()

    def test_while_it_rings(self):
        """The INVITE's final answer ends it, whichever that is."""
        world = self.world
        for status in (487, 486, 603):
            sent, cancel = self.ringing()
            self.phone.hang_up(world.now)  # once more changes nothing
            self.assertEqual(world.take(), [])
            world.deliver(answer(cancel, 200))
            self.assertEqual(self.phone.state, "cancelling")
            world.deliver(answer(sent, status))
            world.take_one("ACK")
            self.assertEvents(("ended", {"reason": "cancelled"}))
            self.assertIdle()

    def test_crossing_a_200(self):
        """Answered before the CANCEL came: ACK, and BYE."""
        world = self.world
        sent, cancel = self.ringing()
        for _ in range(3):
            world.deliver(accept(sent))
            _, bye = self.assertSent("ACK", "BYE")
            self.assertEqual(bye.to.tag, b"t1")
        world.deliver(answer(cancel, 200))
        world.deliver(answer(bye, 200))
        self.assertEvents(("ended", {"reason": "cancelled"}))
        self.assertEqual(world.media.log, [])
        self.assertUsable()

    def test_200_before_the_cancel_was_sent(self):
        world = self.world
        sent = world.dial()
        self.phone.hang_up(world.now)
        world.deliver(accept(sent))
        self.assertSent("ACK", "BYE")
        self.assertEvents(("ended", {"reason": "cancelled"}))
        self.assertEqual(world.media.log, [])

    def test_no_final_answer(self):
        """Section 9.1: 64*T1 after the CANCEL the call counts as cancelled."""
        world = self.world
        sent, cancel = self.ringing()
        world.deliver(answer(cancel, 200))
        world.advance(LIFE_MS - 1)
        self.assertEqual((world.printed.take(), world.take()), ([], []))
        world.advance(1)
        self.assertEvents(("ended", {"reason": "cancelled"}))
        world.deliver(answer(sent, 487))
        self.assertEqual(world.take(), [])
        self.assertUsable()

    def test_no_answer_at_all(self):
        world = self.world
        world.dial()
        self.phone.hang_up(world.now)
        world.advance(LIFE_MS)
        self.assertEvents(("ended", {"reason": "cancelled"}))
        self.assertSent(*["INVITE"] * 6)
        self.assertIdle()


class StarvingTest(WorldCase):
    """Memory runs out at the worst moment; `test_starving` has all the others."""

    def starve(self, owner, name):
        """Let a function fail once."""
        real = getattr(owner, name)

        def failing(*arguments):
            setattr(owner, name, real)
            raise MemoryError("told")

        setattr(owner, name, failing)

    def test_hang_up_when_the_answer_was_lost(self):
        """There is no request any more to make a CANCEL of."""
        world = self.world
        sent = world.dial()
        world.deliver(answer(sent, 180))
        self.starve(Dialog, "new_ack")
        with self.assertRaises(MemoryError):
            world.deliver(accept(sent))
        self.phone.hang_up(world.now)
        self.assertEqual((self.phone.state, world.take()), ("cancelling", []))
        world.deliver(accept(sent))  # repeated, as nobody has ACKed it
        self.assertSent("ACK", "BYE")
        self.assertEvents(("progress", {}), ("ended", {"reason": "cancelled"}))
        self.assertUsable()

    def test_no_memory_for_the_bye(self):
        """The call is over nevertheless, and one without a setup key is sent where there is memory for that."""
        world = self.world
        world.talk()
        self.starve(Dialog, "new_request")
        with self.assertRaises(MemoryError):
            self.phone.hang_up(world.now)
        self.assertEvents(("ended", {"reason": "hung up", "media": STATISTICS}))
        self.assertEqual(world.take_one("BYE").get("setup-key"), None)
        self.assertUsable()

    def test_no_memory_for_the_statistics(self):
        world = self.world
        world.talk()
        real = world.media.stop

        def stop():
            real()
            world.media.stop = real
            raise MemoryError("told")

        world.media.stop = stop
        with self.assertRaises(MemoryError):
            self.phone.hang_up(world.now)
        world.take_one("BYE")
        self.assertUsable()


if __name__ == "__main__":
    unittest.main()
