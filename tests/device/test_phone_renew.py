"""Another key before ours is used up: a re-INVITE that changes nothing else (RFC 3711 section 9.2, RFC 4568 section 7.1)."""

import unittest

from far import CM80, KEYS, PEER_ADDRESS, PEER_CONTACT, accept, answer, offer, request, speaks
from scripted import LIFE_MS, WorldCase

from sipwire.answer import make_answer
from sipwire.sdp import Session


class RenewTest(WorldCase):
    def renew(self):
        """It is time; returns the re-INVITE."""
        self.phone.renew(self.world.now)
        self.world.advance()
        return self.world.take_one("INVITE")

    def key_of(self, sent):
        """The one key that it offers, which has the suite of the call."""
        [crypto] = Session.parse(sent.body).media[0].cryptos()
        self.assertEqual((crypto.suite, len(crypto.keys)), (CM80, 1))
        return crypto.keys[0].key_salt

    def agreed(self):
        agreed = self.world.media.agreed
        return agreed.local_key, agreed.remote_key

    def test_renewed(self):
        """Ours is fresh, the peer's stays; each time another, until it is time again the same."""
        world = self.world
        for talk in (world.talk, world.talk_as_callee):
            talk()
            seen = [self.agreed()[0]]
            for _ in range(3):
                sent = self.renew()
                key = self.key_of(sent)
                self.assertNotIn(key, seen)
                seen.append(key)
                self.assertEqual(self.agreed()[0], seen[-2])  # until it is answered
                world.deliver(accept(sent))
                world.take_one("ACK")
                self.assertEqual(self.agreed(), (key, KEYS[CM80]))
                self.assertEqual(world.media.agreed.direction, b"sendrecv")
                for is_held in (True, False):
                    self.phone.hold(is_held, world.now)
                    world.advance()
                    sent = world.take_one("INVITE")
                    self.assertEqual(self.key_of(sent), key)
                    world.deliver(accept(sent))
                    world.take_one("ACK")
                self.assertEqual(len(world.printed.take()), 2)
            self.assertNotIn("stop", world.media.log)
            self.phone.hang_up(world.now)
            self.forget()
            world.media.log = []

    def test_nothing_is_told(self):
        """Nobody has asked for it, and nothing changes for who talks."""
        world = self.world
        world.talk()
        world.deliver(accept(self.renew()))
        self.assertEqual((world.printed.take(), self.phone.state), ([], "talking"))

    def test_refused(self):
        """The call goes on under the key that there is, and it is tried again when media says so."""
        world = self.world
        world.talk()
        before, log = self.agreed(), list(world.media.log)
        for status in (488, 500, 603, 403):
            world.deliver(answer(self.renew(), status))
            self.assertSent("ACK")
            self.assertEqual((self.phone.state, self.agreed(), world.media.log), ("talking", before, log))
            self.assertEqual(world.printed.take(), [])
            world.advance(3000)
            self.phone.renew(world.now)
            world.advance()
            self.assertEqual(world.take(), [])
            world.advance(72000)
        sent = self.renew()
        world.deliver(accept(sent))
        self.assertEqual(self.agreed(), (self.key_of(sent), KEYS[CM80]))

    def test_refused_for_ever(self):
        """Media says so with every report: that must not become a request every five seconds."""
        world = self.world
        world.talk()
        times = []
        for _ in range(720):
            self.phone.renew(world.now)
            world.advance(5000)
            sent = [one.message for one in world.take() if one.message.method == "INVITE"]
            if sent:
                times.append(world.now)
                world.deliver(answer(sent[0], 488))
        waits = [times[i + 1] - times[i] for i in range(len(times) - 1)]
        self.assertEqual(waits[:10], [1000 * wait for wait in (5, 10, 20, 35, 65, 130, 260, 515, 600, 600)])

    def test_both_at_once(self):
        """491: again a little later."""
        world = self.world
        world.talk()
        first = self.renew()
        world.deliver(answer(first, 491))
        world.take_one("ACK")
        world.advance(2000)
        self.assertEqual(world.take(), [])  # it is our call: 2.1 s at least (RFC 3261 section 14.1)
        world.advance(2000)
        again = world.take()[0].message  # and perhaps once more
        self.assertNotEqual(self.key_of(again), self.agreed()[0])
        world.deliver(accept(again))
        self.assertEqual(self.agreed()[0], self.key_of(again))

    def test_no_answer(self):
        world = self.world
        world.talk()
        self.renew()
        world.advance(LIFE_MS + 1000)
        self.assertEqual([event["reason"] for event in world.printed.take()], ["no answer"])

    def test_not_meanwhile(self):
        """While something else is being changed, or there is no call, it waits until media says so again."""
        world = self.world
        self.phone.renew(world.now)
        world.advance(1000)
        self.assertEqual(world.take(), [])
        for state in ("ringing", "calling"):
            end = self.reach(state)
            self.phone.renew(world.now)
            world.advance(100)
            self.assertEqual(world.take(), [])
            world.deliver(end)
            self.forget()
        world.talk()
        self.phone.hold(True, world.now)
        self.phone.renew(world.now)
        world.advance()
        sent = world.take_one("INVITE")
        self.assertEqual(self.key_of(sent), self.agreed()[0])
        self.phone.renew(world.now)
        world.deliver(accept(sent))
        self.assertSent("ACK")
        world.advance(3000)
        self.assertEqual(world.take(), [])

    def test_next_call(self):
        """What was wanted for one that is over is not for the next."""
        world = self.world
        _, call = world.talk()
        self.phone.renew(world.now)
        world.deliver(call.request("BYE"))
        world.take()
        world.printed.take()
        world.talk()
        world.advance(3000)
        self.assertEqual(world.take(), [])

    def test_the_far_ends(self):
        """The far end renews its key: ours is another one as well, as it may be another device; and back is no way."""
        world = self.world
        call = world.talk_as_callee()
        before = self.agreed()
        body = offer().replace(b"inline:A", b"inline:Z")
        world.deliver(call.request("INVITE", body=body, extra=[("Contact", PEER_CONTACT)]))
        world.take_one()
        world.deliver(request("ACK", call.call_id, call.local, call.remote, call.cseq))
        after = self.agreed()
        self.assertTrue(after[0] != before[0] and after[1] != before[1])

    def test_on_hold(self):
        """It stays on hold."""
        world = self.world
        world.talk()
        self.phone.hold(True, world.now)
        world.advance()
        world.deliver(accept(world.take_one("INVITE"), change=(b"a=ptime:20", b"a=ptime:20\r\na=recvonly")))
        world.take()
        world.printed.take()
        sent = self.renew()
        session = Session.parse(sent.body)
        self.assertEqual(session.direction(session.media[0]), b"sendonly")
        world.deliver(accept(sent, change=(b"a=ptime:20", b"a=ptime:20\r\na=recvonly")))
        self.assertEqual(self.agreed()[0], self.key_of(sent))
        self.assertEqual((world.media.talks, world.printed.take()), (False, []))

    def test_of_text_too(self):
        """Each stream has its own."""
        world = self.start_anew(text=True)
        world.register()
        sent = world.dial()

        def accepted(asked):
            made, _ = make_answer(speaks(text_port=30002), Session.parse(asked.body), PEER_ADDRESS, 8)
            ok = answer(asked, 200, extra=[("Contact", PEER_CONTACT)])
            ok.set_body(b"application/sdp", made.serialize())
            return ok

        world.deliver(accepted(sent))
        world.take_one("ACK")
        before = [agreed.local_key for agreed in world.media.streams]
        world.printed.take()
        sent = self.renew()
        offered = [media.cryptos()[0].keys[0].key_salt for media in Session.parse(sent.body).media]
        world.deliver(accepted(sent))
        after = [agreed.local_key for agreed in world.media.streams]
        self.assertEqual((after, len(set(before + after))), (offered, 4))


if __name__ == "__main__":
    unittest.main()
