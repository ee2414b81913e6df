import unittest

from far import answer, branch, invite, options, request
from scripted import SECRET, WorldCase

from sipwire.compat import b64encode, hex_of
from terminal.useragent import ALLOW


class BusyTest(WorldCase):
    def test_another_call(self):
        """486, and the first call goes on as if nothing had been."""
        world = self.world
        for state in ("ringing", "answered", "talking", "calling", "cancelling"):
            end = self.reach(state)
            log = list(world.media.log)
            for i in range(3):
                other = invite(call_id=b"other%d" % i)
                names = (other.call_id, other.get("from"), other.get("to"), 10)
                world.deliver(other)
                self.assertSent((486, "INVITE"))
                world.deliver(request("ACK", *names, via=other.via.branch))
                world.deliver(request("CANCEL", *names, via=other.via.branch))
                self.assertSent((200, "CANCEL"))
            self.assertEqual((self.phone.state, world.media.log), (state, log))
            self.assertEqual(world.printed.take(), [])
            world.deliver(end)
            self.assertIdle()
            self.assertEqual(len(world.printed.take()), 1)
            self.forget()

    def test_same_call_by_another_way(self):
        """Section 8.2.2.2: a forked request that arrives twice is a merged one."""
        world = self.world
        world.ring()
        world.deliver(invite())  # same Call-ID, From tag and CSeq, another branch
        self.assertSent((482, "INVITE"))
        self.assertEqual(self.phone.state, "ringing")
        self.assertEqual(world.printed.take(), [])

    def test_commands(self):
        """What fits no state is refused, and changes nothing."""
        world = self.world
        wrong = {
            "idle": ("answer", "reject", "hangup"),
            "calling": ("answer", "reject", "call"),
            "cancelling": ("answer", "reject", "call"),
            "ringing": ("call",),
            "answered": ("answer", "reject", "call"),
            "talking": ("answer", "reject", "call"),
        }
        phone = self.phone
        act = {
            "call": lambda: phone.dial("carol", world.now),
            "answer": lambda: phone.answer(world.now),
            "reject": lambda: phone.reject(world.now),
            "hangup": lambda: phone.hang_up(world.now),
        }
        for state, commands in wrong.items():
            end = None if state == "idle" else self.reach(state)
            log = list(world.media.log)
            for command in commands:
                act[command]()
                self.assertEvents(("refused", {"command": command}))
                self.assertEqual((phone.state, world.media.log, world.take()), (state, log, []))
            if end:
                world.deliver(end)
                self.forget()


class DialogTest(WorldCase):
    def test_unknown(self):
        world = self.world
        call = world.talk_as_callee()
        for call_id, local, remote in (
            (b"other", call.local, call.remote),
            (call.call_id, b"<sip:bob@b.example>;tag=other", call.remote),
            (call.call_id, b"<sip:bob@b.example>", call.remote),
            (call.call_id, call.local, b"<sip:alice@a.example>;tag=other"),
            (call.call_id, call.remote, call.local),
        ):
            for method in ("BYE", "INVITE", "OPTIONS", "INFO"):
                world.deliver(request(method, call_id, local, remote, 50))
                self.assertSent((481, method))
            self.forget()
        self.assertEqual(self.phone.state, "talking")
        world.deliver(call.request("BYE"))
        self.assertIdle()
        self.forget()
        world.deliver(call.request("OPTIONS"))
        self.assertSent((481, "OPTIONS"))

    def test_old_numbers(self):
        """Section 12.2.2: out of order, "MUST be rejected with a 500"."""
        world = self.world
        call = world.talk_as_callee()
        world.deliver(call.request("OPTIONS"))
        world.take()
        for number in (call.cseq, call.cseq - 1, 0):
            for method in ("BYE", "INVITE", "OPTIONS"):
                world.deliver(request(method, call.call_id, call.local, call.remote, number))
                self.assertSent((500, method))
            self.forget()
        self.assertEqual(self.phone.state, "talking")
        call.cseq = 0x7FFFFFFE
        world.deliver(call.request("BYE"))
        self.assertSent((200, "BYE"))
        self.assertIdle()


class MethodTest(WorldCase):
    def test_options(self):
        world = self.world
        call = world.talk_as_callee()
        for message in (options(), call.request("OPTIONS"), call.request("OPTIONS")):
            world.deliver(message)
            response = world.take_one()
            self.assertEqual(response.status, 200)
            self.assertEqual(response.get_all("allow"), [ALLOW])
            self.assertEqual(response.get_all("accept"), [b"application/sdp"])
            self.assertNotEqual(response.to.tag, b"")
        self.assertEqual(response.to.serialize(), call.remote)
        self.assertEqual(self.phone.state, "talking")

    def test_not_served(self):
        world = self.world
        call = world.talk_as_callee()
        for status, methods in (
            (405, "REGISTER REFER SUBSCRIBE PUBLISH"),
            (501, "FOO invite PRACKX INFO. !%*_+`'~ ACKX REFER-NOTIFY"),
        ):
            for method in methods.split():
                for message in (options(method=method, call_id=branch()), call.request(method)):
                    world.deliver(message)
                    response = world.take_one()
                    self.assertEqual((response.status, response.get("allow")), (status, ALLOW))
        self.assertEqual(self.phone.state, "talking")

    def test_outside_of_a_call(self):
        """Of a call, a subscription or a reliable response that does not exist."""
        for method in ("BYE", "CANCEL", "UPDATE", "INFO", "NOTIFY", "PRACK"):
            self.world.deliver(options(method=method))
            self.assertSent((481, method))


class SecretTest(WorldCase):
    def test_challenges_of_strangers(self):
        """CVE-2009-5140: whoever can make the terminal send a request could have its secret's answer to a challenge
        of theirs. No request but its own REGISTER is ever sent again with credentials.
        """
        world = self.world
        digest = b'Digest realm="a.example", nonce="0011", algorithm=SHA-256, qop="auth,auth-int"'
        for status, name in ((401, "WWW-Authenticate"), (407, "Proxy-Authenticate")):
            extra = [(name, digest), ("Security-Server", b"wisp-hop;q=0.9;alg=hmac-sha-256-128;ealg=aes-ctr-128;spi=7")]
            sent = world.dial()
            world.deliver(answer(sent, status, extra=extra))
            world.take_one("ACK")
            self.assertEvents(("failed", {"status": status}))
            call = world.talk_as_callee()
            self.phone.hang_up(world.now)
            world.deliver(answer(world.take_one("BYE"), status, extra=extra))
            world.printed.take()
            sent = world.dial()
            world.deliver(answer(sent, 180))
            self.phone.hang_up(world.now)
            world.deliver(answer(world.take_one("CANCEL"), status, extra=extra))
            world.deliver(answer(sent, 487))
            world.take_one("ACK")
            world.deliver(answer(call.request("BYE"), status, extra=extra))  # to nothing we sent
            world.advance(100000)
            self.assertEqual(world.take(), [])
            self.assertIdle()
            world.printed.take()

    def test_nothing_secret_is_printed(self):
        world = self.world
        call = world.ring()
        self.phone.answer(world.now)
        agreed = world.media.agreed
        world.deliver(call.ack())
        world.deliver(call.request("BYE"))
        world.take()
        world.printed.take()
        world.talk()
        text = "\n".join(world.printed.lines)
        self.assertIn("connected", text)
        for key in (agreed.local_key, agreed.remote_key, world.media.agreed.local_key):
            self.assertNotIn(str(b64encode(key), "ascii")[:20], text)
            self.assertNotIn(str(hex_of(key), "ascii")[:20], text)
        self.assertNotIn("inline", text)
        self.assertNotIn(SECRET.decode()[:16], text)


if __name__ == "__main__":
    unittest.main()
