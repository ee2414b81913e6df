"""The far end changes a call that stands, by re-INVITE (RFC 3261 section 14.2) and by UPDATE (RFC 3311)."""

import unittest

from far import CM32, CM80, CONTACT, KEYS, PEER_ADDRESS, PEER_CONTACT, accept, answer, answer_to, offer, request, speaks
from scripted import LIFE_MS, WorldCase

from sipwire.offer import make_offer
from sipwire.sdp import Session

METHODS = ("INVITE", "UPDATE")


class Case(WorldCase):
    def change(self, call, method, body, **changes):
        """The far end offers another session; returns the terminal's response. A 2xx to an INVITE is ACKed."""
        world = self.world
        changes.setdefault("extra", [("Contact", PEER_CONTACT)])
        asked = call.request(method, body=body, **changes)
        world.deliver(asked)
        response = world.take_one()
        self.assertEqual((response.cseq.method, response.get("to")), (method, call.remote))
        if method == "INVITE":
            names = (call.call_id, call.local, call.remote, call.cseq)
            world.deliver(request("ACK", *names, via=None if response.status < 300 else asked.via.branch))
        return response

    def accepted(self, call, method, body, **changes):
        """The same, and it is accepted; returns the session description that answers."""
        response = self.change(call, method, body, **changes)
        self.assertEqual(response.status, 200)
        self.assertEqual(response.get("contact"), b"<" + CONTACT + b">")
        return Session.parse(response.body)

    def both(self):
        """A call that stands, of either kind, and a method to change it with."""
        world = self.world
        for talk in (world.talk_as_callee, lambda: world.talk()[1]):
            for method in METHODS:
                call = talk()
                yield call, method
                world.deliver(call.request("BYE"))
                self.assertSent((200, "BYE"))
                self.assertIdle()
                world.media.log = []
                self.forget()


def version(session):
    """(session id, version, the rest) of an o= line."""
    words = dict(session.lines)[b"o"].split(b" ")
    return words[1], int(words[2]), words[3:]


class HoldTest(Case):
    def test_hold_and_resume(self):
        """The answer mirrors the direction, and the microphone follows (RFC 3264 section 8.4)."""
        for call, method in self.both():
            for line, ours, talks in (
                (b"a=sendonly", b"recvonly", False),
                (b"a=inactive", b"inactive", False),
                (b"a=sendrecv", b"sendrecv", True),
                (b"a=recvonly", b"sendonly", True),
                (b"", b"sendrecv", True),
            ):
                answered = self.accepted(call, method, offer() + line + b"\r\n")
                self.assertEqual(answered.direction(answered.media[0]), ours)
                self.assertEqual((self.world.media.agreed.direction, self.world.media.talks), (ours, talks))
            self.assertEvents(
                ("hold", {"local": False, "remote": True}),
                ("hold", {"local": False, "remote": False}),
            )
            self.assertEqual(self.phone.state, "talking")

    def test_old_style(self):
        """c=0.0.0.0: nothing is sent there, and it is no lack of an address."""
        old = offer().replace(b"198.51.100.9", b"0.0.0.0")
        for call, method in self.both():
            for body, ours in ((old, b"recvonly"), (old + b"a=recvonly\r\n", b"inactive")):
                answered = self.accepted(call, method, body)
                self.assertEqual(answered.direction(answered.media[0]), ours)
                self.assertFalse(self.world.media.talks)
            self.assertTrue(self.accepted(call, method, offer()).media)
            self.assertTrue(self.world.media.talks)
            self.assertEvents(("hold", {"remote": True}), ("hold", {"remote": False}))

    def test_from_the_first_offer_on(self):
        world = self.world
        call = world.ring(body=offer().replace(b"198.51.100.9", b"0.0.0.0"))
        self.phone.answer(world.now)
        answered = Session.parse(world.take_one().body)
        self.assertEqual(answered.direction(answered.media[0]), b"recvonly")
        world.deliver(call.ack())
        self.assertFalse(world.media.talks)


class MoveTest(Case):
    def test_media_address(self):
        """It is another address, or port; under the same keys what runs goes on."""
        for call, method in self.both():
            world = self.world
            before = world.media.agreed
            for address, port in ((b"198.51.100.77", 30000), (b"198.51.100.77", 41000), (b"203.0.113.5", 41002)):
                body = offer().replace(PEER_ADDRESS, address).replace(b"audio 30000", b"audio %d" % port)
                self.accepted(call, method, body)
                agreed = world.media.agreed
                self.assertEqual((agreed.address, agreed.port), (address, port))
                self.assertEqual((agreed.remote_key, agreed.local_key), (before.remote_key, before.local_key))
            self.assertNotIn("stop", world.media.log)

    def test_keys(self):
        """With another key of the far end's we have another one, too: it may be another device."""
        for call, method in self.both():
            world = self.world
            before = world.media.agreed
            body = offer().replace(b"inline:A", b"inline:Z")
            answered = self.accepted(call, method, body)
            agreed = world.media.agreed
            self.assertNotEqual(agreed.remote_key, before.remote_key)
            self.assertNotEqual(agreed.local_key, before.local_key)
            self.assertEqual(answered.media[0].cryptos()[0].keys[0].key_salt, agreed.local_key)
            self.accepted(call, method, body)
            self.assertEqual(world.media.agreed.local_key, agreed.local_key)

    def test_suite_and_codec(self):
        world = self.start_anew(codecs=["PCMU", "PCMA"])
        world.register()
        call = world.talk_as_callee()
        answered = self.accepted(call, "INVITE", offer((CM32,), (8,)))
        self.assertEqual(answered.media[0].formats, [b"8"])
        agreed = world.media.agreed
        self.assertEqual((agreed.suite, agreed.payload_type, agreed.remote_key), (CM32, 8, KEYS[CM32]))

    def test_contact(self):
        """Section 12.2.2: the remote target follows, by a re-INVITE, an UPDATE, and one that is refused."""
        for call, method in self.both():
            for body, status in ((offer(), 200), (offer().replace(b"SAVP", b"AVP"), 488)):
                where = b"<sip:bob@198.51.100.%d>" % call.cseq
                response = self.change(call, method, body, extra=[("Contact", where)])
                self.assertEqual((response.status, self.phone.dialog.target), (status, where[1:-1]))
            self.world.deliver(call.request("INFO", extra=[("Contact", b"<sip:evil@x>")]))
            self.world.take()
            self.assertEqual(self.phone.dialog.target, where[1:-1])

    def test_version(self):
        """RFC 3264 section 8: of our o= line nothing but the version changes, by one each time."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        first = version(Session.parse(world.take_one().body))
        world.deliver(call.ack())
        for i, method in enumerate(METHODS + METHODS):
            self.assertEqual(self.change(call, method, offer().replace(b"SAVP", b"AVP")).status, 488)
            session, number, rest = version(self.accepted(call, method, offer()))
            self.assertEqual((session, number, rest), (first[0], first[1] + i + 1, first[2]))


class AddedTest(Case):
    def test_text(self):
        """The far end has our key with the 200: no ACK says so to an UPDATE, and nobody has to write first."""
        world = self.start_anew(text=True)
        world.register()
        for method in METHODS:
            call = world.talk_as_callee(call_id=method.encode())
            world.media.log = []
            body = make_offer(speaks(text_port=30002), PEER_ADDRESS, 7).serialize()
            self.assertEqual([media.port for media in self.accepted(call, method, body).media], [40000, 40002])
            self.assertEqual(world.media.log, ["change", "go"])
            self.phone.hang_up(world.now)
            self.forget()


class RefusedTest(Case):
    def test_offers_that_cant_be_accepted(self):
        """488, and the session goes on as it was: no way into another session, or out of SRTP."""
        good = offer()
        for call, method in self.both():
            world = self.world
            log, agreed = list(world.media.log), world.media.agreed
            for old, new, why in (
                (b"RTP/SAVP", b"RTP/AVP", b"no SRTP"),
                (b"a=crypto", b"a=nocrypto", b"no suite"),
                (b"AES_CM_128", b"AES_256_CM", b"no suite"),
                (b"m=audio 30000", b"m=audio 0", b"no audio"),
                (b" 0 8\r\n", b" 3 18\r\n", b"no codec"),
                (b"198.51.100.9", b"media.example", b"unusable address"),
            ):
                response = self.change(call, method, good.replace(old, new))
                self.assertEqual(response.status, 488)
                self.assertEqual(response.get("warning"), b'399 terminal "%s"' % why)
            for body, status in ((b"v=1\r\n", 400), (good + b"a=x\r\n" * 90, 413)):
                self.assertEqual(self.change(call, method, body).status, status)
            asked = call.request(method, body=good, extra=[("Contact", PEER_CONTACT)])
            asked.set("Content-Type", b"text/plain")
            world.deliver(asked)
            [response] = self.assertSent((415, method))
            self.assertEqual(response.get("accept"), b"application/sdp")
            world.deliver(call.like_invite("ACK")) if call.invite else None
            self.assertEqual((world.media.log, world.media.agreed), (log, agreed))
            self.assertEqual((self.phone.state, world.printed.take()), ("talking", []))
            world.advance(LIFE_MS)
            world.take()
            self.assertEqual(self.change(call, method, good).status, 200)

    def test_what_it_requires(self):
        call = self.world.talk_as_callee()
        for method in METHODS:
            contact = ("Contact", PEER_CONTACT)
            response = self.change(call, method, offer(), extra=[contact, ("Require", b"timer, precondition")])
            self.assertEqual((response.status, response.get("unsupported")), (420, b"precondition"))

    def test_broken_speaker(self):
        """500, with what is broken; the call goes on by what was agreed before."""
        for call, method in self.both():
            world = self.world
            agreed = world.media.agreed
            for error in (OSError(5), ValueError("ibuf")):
                world.media.broken = error
                response = self.change(call, method, offer())
                self.assertEqual((response.status, response.reason[:6]), (500, b"media:"))
                self.assertEqual((world.media.agreed, self.phone.state), (agreed, "talking"))
            self.accepted(call, method, offer())

    def test_no_memory(self):
        """The request is as good as lost; its repetition fares better."""
        for call, method in self.both():
            world = self.world
            world.media.broken = MemoryError("told")
            asked = call.request(method, body=offer(), extra=[("Contact", PEER_CONTACT)])
            with self.assertRaises(MemoryError):
                world.deliver(asked)
            self.assertEqual(world.take(), [])
            world.deliver(asked)
            self.assertSent((200, method))
            if method == "INVITE":
                world.deliver(call.ack())


class OrderTest(Case):
    def test_200_is_repeated_until_its_ack(self):
        """Section 14.2 is like 13.3.1.4: a lost 200, a lost ACK, an ACK found again."""
        world = self.world
        call = world.talk_as_callee()
        world.deliver(call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)]))
        first = world.take_one()
        world.advance(3600)
        for one in world.take():
            self.assertEqual(one.message.serialize(), first.serialize())
        old = request("ACK", call.call_id, call.local, call.remote, call.cseq - 1)  # of the first INVITE, once more
        world.deliver(old)
        world.advance(4000)
        self.assertSent((200, "INVITE"))
        for _ in range(2):
            world.deliver(call.ack())
        world.advance(2 * LIFE_MS)
        self.assertEqual((world.take(), self.phone.state), ([], "talking"))

    def test_no_ack(self):
        world = self.world
        call = world.talk_as_callee()
        world.deliver(call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)]))
        world.take()
        world.advance(LIFE_MS)
        self.assertEqual(world.take()[-1].message.method, "BYE")
        self.assertEvents(("ended", {"reason": "no ACK"}))
        self.assertIdle()

    def test_before_the_first_ack(self):
        """RFC 5407 section 3.1.4: the ACK is lost or late; the far end has our 200 all the same."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        world.take()
        late = call.ack()
        body = offer().replace(b"audio 30000", b"audio 30008")
        world.deliver(call.request("INVITE", body=body, extra=[("Contact", PEER_CONTACT)]))
        self.assertSent((200, "INVITE"))
        world.deliver(late)
        self.assertEqual(self.phone.state, "answered")
        world.advance(500)
        self.assertSent((200, "INVITE"))
        world.deliver(call.ack())
        self.assertEvents(("connected", {}))
        self.assertEqual((self.phone.state, world.media.agreed.port), ("talking", 30008))

    def test_before_the_ack_that_answers_our_offer(self):
        """RFC 5407 section 3.1.5: one offer at a time."""
        world = self.world
        call = world.ring(body=b"")
        self.phone.answer(world.now)
        ok = world.take_one()
        for method in METHODS:
            self.assertEqual(self.change(call, method, offer()).status, 491)
        world.deliver(call.request("UPDATE"))
        self.assertSent((200, "UPDATE"))
        body = answer_to(ok.body, (0,))[0]
        world.deliver(request("ACK", call.call_id, call.local, call.remote, 10, body=body))
        self.assertEqual(self.phone.state, "talking")

    def test_while_it_rings(self):
        """Section 14.2, RFC 3311 section 5.2: 500 with a random Retry-After of up to 10 s; a mere refresh is accepted."""
        world = self.world
        for body in (offer(), b""):
            call = world.ring(body=body)
            seen = []
            for method in ("UPDATE", "INVITE") * 8:
                response = self.change(call, method, offer())
                self.assertEqual(response.status, 500)
                seen.append(int(response.get("retry-after")))
                world.advance(LIFE_MS // 4)
            self.assertTrue(0 <= min(seen) < max(seen) <= 10, seen)
            world.deliver(call.request("UPDATE", extra=[("Contact", b"<sip:bob@198.51.100.99>")]))
            self.assertSent((200, "UPDATE"))
            self.assertEqual(self.phone.dialog.target, b"sip:bob@198.51.100.99")
            self.assertEqual((self.phone.state, world.media.log), ("ringing", []))
            self.phone.reject(world.now)
            self.forget()

    def test_after_we_hung_up_before_the_ack(self):
        """The call is to end with its ACK; nothing begins anew."""
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        self.phone.hang_up(world.now)
        world.take()
        for method in METHODS:
            self.assertEqual(self.change(call, method, offer()).status, 491)
        self.assertEqual(world.media.log, ["start", "stop"])
        world.deliver(request("ACK", call.call_id, call.local, call.remote, 10))
        self.assertSent("BYE")

    def test_old_numbers(self):
        """Section 12.2.2, for changes as for all others."""
        world = self.world
        call = world.talk_as_callee()
        self.accepted(call, "UPDATE", offer())
        for number in (call.cseq, call.cseq - 1):
            for method in METHODS:
                world.deliver(request(method, call.call_id, call.local, call.remote, number, body=offer()))
                self.assertSent((500, method))
        self.assertEqual(self.phone.state, "talking")

    def test_cancel(self):
        """A re-INVITE is answered at once, so its CANCEL comes too late; the call goes on."""
        world = self.world
        call = world.talk_as_callee()
        again = call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)])
        world.deliver(again)
        self.assertSent((200, "INVITE"))
        world.deliver(request("CANCEL", call.call_id, call.local, call.remote, call.cseq, via=again.via.branch))
        self.assertSent((200, "CANCEL"))
        world.deliver(call.ack())
        world.advance(LIFE_MS)
        self.assertEqual((world.take(), self.phone.state), ([], "talking"))

    def test_bye_instead_of_the_ack(self):
        world = self.world
        call = world.talk_as_callee()
        world.deliver(call.request("INVITE", body=offer(), extra=[("Contact", PEER_CONTACT)]))
        world.take()
        world.deliver(call.request("BYE"))
        self.assertSent((200, "BYE"))
        world.advance(LIFE_MS)
        self.assertEqual(world.take(), [])
        self.assertIdle()


class OfferlessTest(Case):
    """A re-INVITE without an offer: our 200 offers, and the ACK answers."""

    def test_good(self):
        """All that we speak, with fresh keys: it may be somebody else who answers."""
        world = self.start_anew(codecs=["PCMU", "PCMA"])
        world.register()
        call = world.talk_as_callee()
        before = world.media.agreed
        world.deliver(call.request("INVITE", extra=[("Contact", PEER_CONTACT)]))
        offered = Session.parse(world.take_one().body)
        [audio] = offered.media
        self.assertEqual((audio.formats, [one.suite for one in audio.cryptos()]), ([b"0", b"8", b"101"], [CM80, CM32]))
        self.assertNotIn(before.local_key, [one.keys[0].key_salt for one in audio.cryptos()])
        self.assertEqual(version(offered)[1], 2)
        self.assertEqual(world.media.agreed, before)  # until somebody has answered
        for method in METHODS:
            self.assertEqual(self.change(call, method, offer()).status, 491)
        answered, theirs = answer_to(offered.serialize(), (8,), (CM32,), address=b"203.0.113.9")
        call.cseq = 11
        world.deliver(call.ack(body=answered))
        agreed = world.media.agreed
        self.assertEqual((agreed.address, agreed.payload_type, agreed.suite), (b"203.0.113.9", 8, CM32))
        self.assertEqual(agreed.local_key, theirs.remote_key)
        world.advance(LIFE_MS)
        self.assertEqual((world.take(), self.phone.state), ([], "talking"))
        call.cseq = 20
        self.accepted(call, "UPDATE", offer())

    def test_bad(self):
        """An answer of no use ends the call: there is no other offer to go back to."""
        world = self.world
        for body in (b"", b"v=7\r\n", offer().replace(b"SAVP", b"AVP")):
            call = world.talk_as_callee()
            world.deliver(call.request("INVITE", extra=[("Contact", PEER_CONTACT)]))
            world.take()
            world.deliver(call.ack(body=body))
            self.assertSent("BYE")
            self.assertIdle()
            self.forget()


class ShapeTest(Case):
    def test_refused_streams_stay(self):
        """RFC 3264 section 8: each media line of the session is in each later description, at its place."""
        world = self.world
        head, _, audio = offer().partition(b"m=audio")
        video = b"m=video 40002 RTP/SAVP 31\r\na=rtpmap:31 H261/90000\r\n"
        text = b"m=text 40004 RTP/SAVP 98\r\n"
        call = world.ring(body=head + video + b"m=audio" + audio + text)
        self.phone.answer(world.now)
        world.take()
        world.deliver(call.ack())
        self.phone.hold(True, world.now)
        world.advance(0)
        sent = world.take_one("INVITE")
        offered = Session.parse(sent.body)
        self.assertEqual([one.kind for one in offered.media], [b"video", b"audio", b"text"])
        self.assertEqual([one.port for one in offered.media], [0, 40000, 0])
        self.assertEqual(offered.media[0].formats, [b"31"])
        ok = sent.response(200, "OK")
        ok.add("Contact", PEER_CONTACT)
        section = b"m=audio 30000 RTP/SAVP 0\r\na=crypto:1 %s\r\na=recvonly\r\n"
        crypto = offer().partition(b"a=crypto:1 ")[2].partition(b"\r\n")[0]
        body = head + b"m=video 0 RTP/SAVP 31\r\n" + section % crypto + b"m=text 0 RTP/SAVP 98\r\n"
        ok.set_body(b"application/sdp", body)
        world.deliver(ok)
        self.assertSent("ACK")
        self.assertEqual((self.phone.state, world.media.agreed.direction), ("talking", b"sendonly"))


class GlareTest(Case):
    def test_while_ours_is_under_way(self):
        """Section 14.2: 491; the far end's turn comes when ours is answered."""
        for call, method in self.both():
            world = self.world
            self.phone.hold(True, world.now)
            world.advance(0)
            ours = world.take_one("INVITE")
            self.assertEqual(self.change(call, method, offer()).status, 491)
            world.deliver(call.request("UPDATE", extra=[("Contact", PEER_CONTACT)]))
            self.assertSent((200, "UPDATE"))  # it offers nothing
            world.deliver(accept(ours))
            self.assertSent("ACK")
            self.accepted(call, method, offer())
            self.assertEqual(self.phone.state, "talking")
            world.deliver(answer(ours, 200))  # once more
            world.take()


if __name__ == "__main__":
    unittest.main()
