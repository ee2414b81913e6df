"""How the terminal stays registered: refreshes, keep-alives, new keys, and what it does when something fails."""

import unittest
from os import urandom

from far import CONTACT, request
from scripted import EXPIRES_MS, KEEPALIVE_MS, LIFE_MS, SECRET, UnregisteredCase, WorldCase, keep_loaded

from sipwire.hop import MAX_SEQ
from terminal import registering as module


class FailureTest(UnregisteredCase):
    def setUp(self):
        super().setUp()
        self._undo = keep_loaded([module])

    def tearDown(self):
        self._undo()
        module.urandom = urandom
        super().tearDown()

    def spread(self, value):
        """Let the terminal draw this instead of random numbers when it spreads its attempts."""
        module.urandom = lambda size: value.to_bytes(size, "big")

    def test_no_answer(self):
        """Timer F, then all over again with nothing used twice; REGISTER is repeated meanwhile."""
        world = self.world
        for step in (world.ask, lambda: world.prove()[0]):
            first = step()
            world.advance(LIFE_MS)
            repeated = world.take()
            self.assertEqual(len(repeated), 10)  # T1 doubling to T2: section 17.1.2.2
            for sent in repeated:
                self.assertEqual(sent.message.serialize(), first.serialize())
            self.assertRefused("no answer")
            again = world.ask()
            self.assertNotEqual(again.get("security-client"), first.get("security-client"))
            self.assertIsNone(again.get("authorization"))
            world.deliver_plain(again.response(500, "No", b"nt"))
            self.assertRefused("500")
        world.register()

    def test_back_off_grows_is_capped_and_spread(self):
        for spread in (0, 0x8000, 0xFFFF):
            world = self.start_anew()
            self.spread(spread)
            for i in list(range(12)) + [0, 1, 2]:
                if i == 0:  # a success makes it small again
                    world.register()
                    world.tends = False
                    world.advance(4 * KEEPALIVE_MS)
                    world.take()
                    wait = self.assertRefused("neighbour lost")
                else:
                    world.deliver_plain(world.ask().response(500, "No", b"nt"))
                    wait = self.assertRefused("500")
                base = min(1000 << i, 60000)
                self.assertEqual(wait, base + base // 2 * spread // 65536)

    def test_spread_is_random(self):
        world = self.world
        waits = []
        for _ in range(20):
            world.deliver_plain(world.ask().response(500, "No", b"nt"))
            waits.append(self.assertRefused("500"))
        self.assertGreater(len(set(waits[8:])), 8)

    def test_other_final_answers(self):
        """To either step, plain or in the new frame: tried again later, from the beginning."""
        world = self.world
        for status in (202, 300, 403, 404, 420, 421, 488, 494, 501, 603, 699):
            world.deliver_plain(world.ask().response(status, "No", b"nt"))
            self.assertRefused(str(status))
            world.deliver_plain(world.prove()[0].response(status, "No", b"nt"))
            self.assertRefused(str(status))
            request, agreement = world.prove()
            world.deliver(request.response(status, "No", b"nt"), agreement)
            self.assertRefused(str(status))
        world.register()

    def test_423(self):
        world = self.world
        for value, asked in (
            (None, b"600"),
            (b"0", b"600"),
            (b"60", b"600"),
            (b"86401", b"600"),
            (b"-1", b"600"),
            (b"x", b"600"),
            (b"99999999999999999999999", b"600"),
            (b"3600", b"3600"),
        ):
            response = world.ask().response(423, "Interval Too Brief", b"nt")
            if value is not None:
                response.add("Min-Expires", value)
            world.deliver_plain(response)
            self.assertRefused()
            request, agreement = world.prove()
            self.assertEqual(request.get("expires"), asked)
            if asked == b"600":
                world.deliver_plain(request.response(500, "No", b"nt"))
                self.assertRefused()
        world.deliver(world.welcome(request, agreement), agreement)
        self.assertEqual(self.registration.state, "registered")

    def test_retry_after(self):
        for value, least_ms, most_ms in (
            (b"120", 120000, 180000),
            (b"120;duration=60", 120000, 180000),
            (b"120 (maintenance)", 120000, 180000),
            (b"99999", 3600000, 5400000),
            (b"0", 1000, 1500),
            (b"-5", 1000, 1500),
            (b"999999", 1000, 1500),
            (b"soon", 1000, 1500),
            (b"", 1000, 1500),
        ):
            world = self.start_anew()
            response = world.ask().response(503, "Service Unavailable", b"nt")
            response.add("Retry-After", value)
            world.deliver_plain(response)
            wait = self.assertRefused("503")
            self.assertTrue(least_ms <= wait <= most_ms, (value, wait))
            world.advance(wait - 1)
            self.assertEqual(world.take(), [])
            world.advance(1)
            world.take_one("REGISTER")

    def test_late_answers_of_a_given_up_attempt(self):
        """They neither register nor cost anything."""
        world = self.world
        first = world.ask()
        world.deliver_plain(first.response(500, "No", b"nt"))
        self.assertRefused("500")
        late = world.challenge(first)
        world.deliver_plain(late)
        self.assertEqual((self.registration.state, world.take(), world.printed.take()), ("waiting", [], []))
        second = world.ask()
        world.deliver_plain(late)
        self.assertEqual((self.registration.state, world.take()), ("asking", []))
        world.deliver_plain(world.challenge(second))
        proof = world.take_one("REGISTER")
        agreement = world.agree(proof)
        for late in (first, second):
            world.deliver_plain(late.response(500, "No", b"nt"))
            world.deliver_plain(world.granted(late))
        self.assertEqual(self.registration.state, "proving")
        world.deliver(world.welcome(proof, agreement), agreement)
        self.assertEqual(self.registration.state, "registered")
        self.assertEqual([event["event"] for event in world.printed.take()], ["registered"])

    def test_timeout_of_a_given_up_attempt(self):
        """A refresh that was under way when the neighbour was lost does not count as a second failure."""
        self.spread(0)
        world = self.start_anew(expires_s=137)  # refresh after 68.5 s, its Timer F after 100.5 s
        world.register()
        world.tends = False
        world.advance(4 * KEEPALIVE_MS)
        self.assertIn("REGISTER", [sent.message.method for sent in world.take() if sent.message])
        self.assertEqual(self.assertRefused("neighbour lost"), 1000)
        world.advance(999)
        self.assertEqual((world.take(), world.printed.take()), ([], []))
        world.advance(1)
        self.assertIsNotNone(world.take_one("REGISTER").get("security-client"))


class LostTest(UnregisteredCase):
    """An answer, or that there is none, is forgotten for want of memory: nothing is waited for without an end."""

    def forget(self):
        self.world.agent._clients.clear()
        self.world.advance(39999)
        self.assertEqual(self.world.take(), [])
        self.world.advance(1)
        return self.world.take_one("REGISTER")

    def test_asking_and_proving(self):
        first = self.world.ask()
        again = self.forget()
        self.assertNotEqual(again.get("security-client"), first.get("security-client"))
        self.world.deliver_plain(self.world.challenge(again))
        self.assertIsNotNone(self.world.take_one("REGISTER").get("authorization"))
        self.assertIsNone(self.forget().get("authorization"))

    def test_refreshing(self):
        world = self.world
        world.register()
        world.tends = False
        while world.registration.at - world.now > 1000:
            world.advance(1000)
            world.deliver(b"")
        world.advance(1000)
        world.take()
        world.agent._clients.clear()
        for _ in range(4):
            world.advance(10000)
            world.deliver(b"")
        request = [one.message for one in world.take() if one.message][-1]
        self.assertIsNone(request.get("security-client"))
        world.deliver(world.granted(request))
        self.assertEqual((self.registration.state, world.printed.take()), ("registered", []))


class LifeCase(WorldCase):
    """A test that plays the neighbour by itself once the terminal is registered."""

    def setUp(self):
        super().setUp()
        self.world.tends = False

    def wait_for_register(self):
        """Let time pass with keep-alives answered, until the terminal sends a REGISTER; returns it as `Sent`."""
        world = self.world
        end = world.now + EXPIRES_MS
        while world.now < end:
            world.advance(100)
            for sent in world.take():
                if sent.message is not None:
                    return sent
                world.deliver(b"")
        raise AssertionError("nothing sent")


class RefreshTest(LifeCase):
    def test_in_the_second_half(self):
        world = self.world
        times = []
        for _ in range(6):
            start = world.now
            sent = self.wait_for_register()
            request = sent.message
            self.assertIs(sent.agreement, world.agreement)
            self.assertTrue(EXPIRES_MS // 2 <= sent.at - start <= EXPIRES_MS * 8 // 10 + 100)
            times.append(sent.at - start)
            self.assertEqual((request.method, request.get("expires")), ("REGISTER", b"600"))
            self.assertEqual(request.get("contact"), b"<" + CONTACT + b">")
            for name in ("require", "proxy-require", "security-client", "security-verify", "authorization"):
                self.assertIsNone(request.get(name))
            world.deliver(world.granted(request))
            self.assertEqual(self.registration.state, "registered")
        self.assertGreater(len(set(times)), 1)
        self.assertEqual(world.printed.take(), [])

    def test_answered_plain(self):
        """Whoever answers without a frame is not the neighbour."""
        world = self.world
        request = self.wait_for_register().message
        world.deliver_plain(world.granted(request))
        world.deliver_plain(request.response(403, "Forbidden", b"nt"))
        world.deliver_plain(world.challenge(request))
        self.assertEqual((world.agent.malformed, world.take()), (3, []))
        self.assertEqual(self.registration.state, "registered")
        world.deliver(world.granted(request))
        self.assertEqual(self.wait_for_register().message.get("expires"), b"600")

    def test_refused(self):
        """Credentials are for step 3 alone: challenged or changed, the terminal starts again at step 1."""
        world = self.world
        for reason, answer in (
            ("401", world.challenge),
            ("403", lambda request: request.response(403, "Forbidden", b"nt")),
            ("Contact or Expires differ", lambda request: world.granted(request, contact=b"<sip:mallory@192.0.2.66>")),
            ("Contact or Expires differ", lambda request: world.granted(request, expires=b"1200")),
        ):
            world.deliver(answer(self.wait_for_register().message))
            self.assertRefused(reason)
            world.register()
            world.tends = False

    def test_no_answer(self):
        world = self.world
        sent = self.wait_for_register()
        for _ in range(LIFE_MS // 1000 - 1):
            world.advance(1000)
            world.deliver(b"")  # the neighbour lives, and answers no REGISTER
        self.assertTrue(world.link.is_open)
        world.advance(sent.at + LIFE_MS - world.now)
        world.take()
        self.assertRefused("no answer")
        self.assertIsNone(world.ask().get("authorization"))

    def test_unregister(self):
        world = self.world
        self.registration.unregister(world.now)
        [sent] = world.take()
        self.assertIs(sent.agreement, world.agreement)
        self.assertEqual((sent.message.method, sent.message.get("expires")), ("REGISTER", b"0"))
        self.assertEqual(sent.message.get("contact"), b"<" + CONTACT + b">")
        world.deliver(sent.message.response(200, "OK", b"nt"))
        world.advance(EXPIRES_MS)
        self.assertEqual((world.take(), world.printed.take()), ([], []))
        self.assertEqual(self.registration.state, "waiting")
        self.start_anew().registration.unregister(0)  # where there is nothing to take back
        self.assertEqual(self.world.take(), [])


class KeepAliveTest(LifeCase):
    def test_interval(self):
        for seconds in (25, 7):
            world = self.start_anew(keepalive_s=seconds)
            world.register()
            world.tends = False
            for _ in range(8):
                world.advance(1000 * seconds - 1)
                self.assertEqual(world.take(), [])
                world.advance(1)
                [sent] = world.take()
                self.assertIsNone(sent.message)
                self.assertTrue(world.deliver(b""))
                self.assertEqual(world.take(), [])  # were an answer answered, it would never end
            self.assertEqual(self.registration.state, "registered")

    def test_three_unanswered(self):
        world = self.world
        world.advance(3 * KEEPALIVE_MS)
        self.assertEqual(len(world.take()), 3)
        world.advance(KEEPALIVE_MS - 1)
        self.assertEqual(self.registration.state, "registered")
        world.advance(1)
        self.assertRefused("neighbour lost")
        world.register()

    def test_any_valid_frame_is_a_sign_of_life(self):
        world = self.world
        for _ in range(3):
            world.advance(3 * KEEPALIVE_MS)
            self.assertEqual(len(world.take()), 3)
            world.deliver(b"nothing that SIP knows\r\n\r\n")
        self.assertEqual(self.registration.state, "registered")

    def test_nothing_else_is(self):
        world = self.world
        stray = request("REGISTER", b"x", b"<sip:a@a>;tag=1", b"<sip:a@a>", 1).serialize()
        frame = bytearray(world.agreement.sender.seal(b""))
        frame[-1] ^= 1
        seen = world.agreement.sender.seal(b"")
        self.assertTrue(world.receive(seen))
        for _ in range(8):
            world.advance(KEEPALIVE_MS // 2)
            for data in (bytes(frame), seen, b"", b"\r\n\r\n", stray):
                self.assertFalse(world.receive(data))
        self.assertEqual([event["reason"] for event in world.printed.take()], ["neighbour lost"])


class NewKeysTest(LifeCase):
    """WIRE section 1.3: before seq ends, an agreement is made anew, in frames of the old one."""

    def setUp(self):
        super().setUp()
        self.old = self.world.agreement
        self.world.link._sender.seq = MAX_SEQ - 1000
        sent = self.wait_for_register()
        self.assertIs(sent.agreement, self.old)
        self.request = sent.message
        self.assertIsNotNone(self.request.get("security-client"))
        self.assertIsNone(self.request.get("authorization"))

    def prove(self, challenged):
        """Steps 2 and 3; returns the latter and the agreement made by it."""
        self.world.deliver(self.world.challenge(challenged))
        [sent] = self.world.take()
        self.assertIs(sent.agreement, self.old)
        return sent.message, self.world.agree(sent.message)

    def test_good(self):
        world = self.world
        proof, new = self.prove(self.request)
        self.assertTrue(world.deliver(b"", self.old))  # serves until the neighbour has proven itself
        world.deliver(world.welcome(proof, new), new)
        self.assertEqual(self.registration.state, "registered")
        world.agreement = new
        world.advance(KEEPALIVE_MS)
        self.assertIs(world.take()[0].agreement, new)
        # Frames of the old agreement that were under way are taken for 30 s.
        self.assertTrue(world.deliver(b"", self.old))
        world.advance(30000)
        self.assertFalse(world.deliver(b"", self.old))
        self.assertTrue(world.deliver(b"", new))

    def test_confirmed_in_the_old_frame(self):
        """The 200 must come in the new agreement: only that shows that both have the same keys."""
        world = self.world
        proof, new = self.prove(self.request)
        world.deliver(world.welcome(proof, new), self.old)
        self.assertRefused("200 without a frame")
        world.register()

    def test_plain_answers(self):
        world = self.world
        world.deliver_plain(world.challenge(self.request))
        world.deliver_plain(self.request.response(403, "Forbidden", b"nt"))
        self.assertEqual((world.take(), world.agent.malformed), ([], 2))
        self.assertEqual(self.registration.state, "asking")

    def test_stale(self):
        world = self.world
        proof, _ = self.prove(self.request)
        world.deliver(world.challenge(proof, stale=True))
        [sent] = world.take()
        self.assertIs(sent.agreement, self.old)
        self.assertIsNone(sent.message.get("authorization"))
        proof, new = self.prove(sent.message)
        world.deliver(world.welcome(proof, new), new)
        self.assertEqual(self.registration.state, "registered")


class SecretTest(LifeCase):
    def test_is_not_printed(self):
        world = self.world
        world.deliver(world.challenge(self.wait_for_register().message))
        text = "\n".join(world.printed.lines)
        self.assertIn("unregistered", text)
        self.assertNotIn(SECRET[:16].decode(), text)


if __name__ == "__main__":
    unittest.main()
