"""Without SRTP by agreement or not at all: the policies ``required``, ``opportunistic`` (RFC 8643) and ``off``.

`scripted.FakeMedia` sees to it, in every test of the phone, that nothing starts that the policy forbids.
"""

import unittest

from far import CM32, CM80, KEYS, PEER_ADDRESS, PEER_CONTACT, answer, branch, early, invite, request, speaks
from scripted import WorldCase

from sipwire.answer import make_answer
from sipwire.offer import make_offer
from sipwire.sdp import Session
from sipwire.streams import OFF, OPPORTUNISTIC, REQUIRED

SAVP = b"RTP/SAVP"
AVP = b"RTP/AVP"
METHODS = ("INVITE", "UPDATE")


def offer(policy, suites=(CM80, CM32)):
    """An offer of the far end's, by its policy."""
    return make_offer(speaks(suites=suites, policy=policy), PEER_ADDRESS, 7).serialize()


def without_keys(body):
    return b"".join([line + b"\r\n" for line in body.split(b"\r\n") if line and line[:9] != b"a=crypto:"])


def clear_ones(body):
    """What somebody on the way may make of a description with SRTP: ever less of it."""
    yield without_keys(body)
    yield body.replace(SAVP, AVP)
    yield without_keys(body).replace(SAVP, AVP)
    yield without_keys(body).replace(SAVP, AVP + b"F")
    yield body.replace(b"AES_CM_128_HMAC_SHA1_", b"NULL_")
    for weak in (b"UNENCRYPTED_SRTP", b"UNAUTHENTICATED_SRTP", b"UNENCRYPTED_SRTCP"):
        lines = body.split(b"\r\n")
        yield b"\r\n".join([line + b" " + weak if line[:9] == b"a=crypto:" else line for line in lines])


def answered(sent, policy, change=None, suites=(CM80, CM32)):
    """A 200 of a far end with that policy to an INVITE."""
    made, _ = make_answer(speaks(suites=suites, policy=policy), Session.parse(sent.body), PEER_ADDRESS, 8)
    response = answer(sent, 200, reason="OK", extra=[("Contact", PEER_CONTACT)])
    body = made.serialize()
    response.set_body(b"application/sdp", change(body) if change else body)
    return response


class Case(WorldCase):
    policy = "required"

    def setUp(self):
        super().setUp()
        self.start_anew(srtp=self.policy).register()

    def take_call(self, body):
        """A call to the terminal with that offer, which it takes; returns its `Call` and the answer's media line."""
        world = self.world
        call = world.ring(body=body, call_id=branch())
        self.phone.answer(world.now)
        ok = world.take_one()
        world.deliver(call.ack())
        [event] = world.printed.take()
        self.assertEqual((event["event"], event["suite"]), ("connected", world.media.agreed.suite.decode()))
        return call, Session.parse(ok.body).media[0]

    def refuse_call(self, body, why=None):
        world = self.world
        world.deliver(invite(call_id=branch(), body=body))
        response = world.take_one()
        self.assertEqual((response.status, world.media.log, world.printed.take()), (488, [], []))
        if why:
            self.assertEqual(response.get("warning"), b'399 terminal "%s"' % why)
        self.assertIdle()
        self.forget()

    def change(self, call, method, body):
        """The far end offers a change; returns the status."""
        world = self.world
        asked = call.request(method, body=body, extra=[("Contact", PEER_CONTACT)])
        world.deliver(asked)
        response = world.take_one()
        if method == "INVITE":
            names = (call.call_id, call.local, call.remote, call.cseq)
            world.deliver(request("ACK", *names, via=None if response.status < 300 else asked.via.branch))
        return response.status

    def hang_up(self):
        world = self.world
        self.phone.hang_up(world.now)
        world.deliver(answer(world.take_one("BYE"), 200))
        world.printed.take()
        world.media.log = []
        self.forget()

    def assertGoesOn(self, agreed, log):
        """By what was agreed on before."""
        media = self.world.media
        self.assertEqual((self.phone.state, media.is_on), ("talking", True))
        self.assertIs(self.phone.session.agreed[0], agreed)
        self.assertEqual(media.log, log)


class RequiredTest(Case):
    """Neither an offer nor an answer without SRTP ever leads to a media packet, whatever comes."""

    def test_our_offer(self):
        sent = self.world.dial()
        media = Session.parse(sent.body).media[0]
        self.assertEqual((media.proto, [crypto.suite for crypto in media.cryptos()]), (SAVP, [CM80, CM32]))

    def test_offers(self):
        for body in clear_ones(offer(REQUIRED)):
            self.refuse_call(body)
        for policy in (OFF, OPPORTUNISTIC):
            self.refuse_call(offer(policy), b"no SRTP")
        self.assertUsable()

    def test_answers(self):
        world = self.world
        for i in range(len(list(clear_ones(b"")))):
            sent = world.dial()
            ok = answered(sent, REQUIRED)
            ok.set_body(b"application/sdp", list(clear_ones(ok.body))[i])
            world.deliver(ok)
            self.assertSent("ACK", "BYE")
            self.assertEvents(("ended", {"media": None}))
            self.assertEqual(world.media.log, [])
            self.assertIdle()
            self.forget()
        self.assertUsable()

    def test_early_answers(self):
        """Nobody is heard, and the call goes on: the 2xx counts."""
        world = self.world
        sent = world.dial()
        body = early(sent).body
        for i, clear in enumerate(clear_ones(body)):
            response = early(sent, tag=b"fork%d" % (i % 3))
            response.set_body(b"application/sdp", clear)
            world.deliver(response)
            self.assertEqual(world.media.log, [])
        self.assertEqual([event.get("media") for event in world.printed.take()], [None] * 8)
        world.deliver(answered(sent, REQUIRED))
        self.assertEqual(world.media.log, ["start", "go"])

    def test_answers_in_an_ack(self):
        world = self.world
        for i in range(len(list(clear_ones(b"")))):
            call = world.ring(body=b"", call_id=branch())
            self.phone.answer(world.now)
            ok = world.take_one()
            made, _ = make_answer(speaks(), Session.parse(ok.body), PEER_ADDRESS, 8)
            world.deliver(call.ack(body=list(clear_ones(made.serialize()))[i]))
            world.deliver(answer(world.take_one("BYE"), 200))
            self.assertEqual(world.media.log, [])
            self.assertIdle()
            self.forget()

    def test_changes(self):
        """Of a call that stands: refused, and it goes on under its keys."""
        for method in METHODS:
            call, _ = self.take_call(offer(REQUIRED))
            agreed, log = self.phone.session.agreed[0], list(self.world.media.log)
            for body in list(clear_ones(offer(REQUIRED))) + [offer(OFF), offer(OPPORTUNISTIC)]:
                self.assertEqual(self.change(call, method, body), 488)
                self.assertGoesOn(agreed, log)
            self.hang_up()

    def test_answers_to_changes(self):
        """The call ends: it could not go on as it is without the risk that the far end speaks in the clear."""
        world = self.world
        for i in range(len(list(clear_ones(b"")))):
            world.talk()
            log = list(world.media.log)
            self.phone.hold(True, world.now)
            world.advance()
            sent = world.take_one("INVITE")
            ok = answered(sent, REQUIRED)
            ok.set_body(b"application/sdp", list(clear_ones(ok.body))[i])
            log.append("change")  # the microphone was off at once
            world.deliver(ok)
            self.assertSent("ACK", "BYE")
            self.assertEqual(world.media.log, log + ["stop"])
            world.printed.take()
            world.media.log = []
            self.forget()


class OpportunisticTest(Case):
    policy = "opportunistic"

    def test_our_offer(self):
        """RFC 8643 section 3.1: RTP/AVP, with keys."""
        media = Session.parse(self.world.dial().body).media[0]
        self.assertEqual((media.proto, [crypto.suite for crypto in media.cryptos()]), (AVP, [CM80, CM32]))

    def test_answers(self):
        """SRTP where the far end has it, whatever it calls it."""
        world = self.world
        for policy, change, suite in (
            (OPPORTUNISTIC, None, CM80),
            (OPPORTUNISTIC, lambda body: body.replace(AVP, SAVP), CM80),
            (OFF, None, b""),
        ):
            world.deliver(answered(world.dial(), policy, change))
            world.take_one("ACK")
            agreed = world.media.agreed
            self.assertEqual((agreed.suite, agreed.remote_key), (suite, KEYS[suite] if suite else b""))
            self.assertEvents(("connected", {"suite": suite.decode()}))
            self.hang_up()

    def test_answers_that_are_none(self):
        """Keys that were not asked for, or too weak, or none where it is called SRTP: no call, and no RTP instead."""
        world = self.world
        for change in (
            lambda body: without_keys(body).replace(AVP, SAVP),
            lambda body: body.replace(b"a=crypto:1", b"a=crypto:9"),
            lambda body: body.replace(b"a=crypto:1 AES_CM_128_HMAC_SHA1_80", b"a=crypto:1 AES_CM_128_HMAC_SHA1_32"),
            lambda body: body.replace(b"a=crypto:1 AES_CM_128", b"a=crypto:1 F8_128"),
            lambda body: body.replace(AVP, AVP + b"F"),
            lambda body: b"\r\n".join(
                [line + b" UNENCRYPTED_SRTP" if line[:9] == b"a=crypto:" else line for line in body.split(b"\r\n")]
            ),
        ):
            world.deliver(answered(world.dial(), OPPORTUNISTIC, change))
            self.assertSent("ACK", "BYE")
            self.assertEqual(world.media.log, [])
            world.printed.take()
            self.assertIdle()
            self.forget()

    def test_offers(self):
        """The answer has the profile of the offer, and a key where the offer has one (RFC 8643 section 3.2)."""
        for body, proto, suite in (
            (offer(REQUIRED), SAVP, CM80),
            (offer(OPPORTUNISTIC), AVP, CM80),
            (offer(OPPORTUNISTIC, (CM32,)), AVP, CM32),
            (offer(OFF), AVP, b""),
            (offer(OPPORTUNISTIC).replace(b"AES_CM_128", b"AES_256_CM"), AVP, b""),
        ):
            _, media = self.take_call(body)
            cryptos = [crypto.suite for crypto in media.cryptos()]
            self.assertEqual((media.proto, cryptos), (proto, [suite] if suite else []))
            self.assertEqual(self.world.media.agreed.suite, suite)
            self.hang_up()

    def test_offers_that_are_refused(self):
        """Called SRTP, and none that we speak: it is not sent in the clear."""
        for body in (
            without_keys(offer(REQUIRED)),
            offer(REQUIRED).replace(b"AES_CM_128", b"AES_256_CM"),
            offer(OFF).replace(AVP, AVP + b"F"),
        ):
            self.refuse_call(body)

    def test_never_back(self):
        """What was SRTP stays SRTP, in either direction, and whoever has taken the keys out."""
        for first in (offer(REQUIRED), offer(OPPORTUNISTIC)):
            for method in METHODS:
                call, _ = self.take_call(first)
                agreed, log = self.phone.session.agreed[0], list(self.world.media.log)
                for body in (offer(OFF), without_keys(first), offer(OPPORTUNISTIC, ())):
                    self.assertEqual(self.change(call, method, body), 488)
                    self.assertGoesOn(agreed, log)
                self.hang_up()

    def test_never_back_by_an_answer(self):
        world = self.world
        self.take_call(offer(OPPORTUNISTIC))
        self.phone.hold(True, world.now)
        world.advance()
        sent = world.take_one("INVITE")
        self.assertEqual(len(Session.parse(sent.body).media[0].cryptos()), 1)
        world.deliver(answered(sent, OFF))
        self.assertSent("ACK", "BYE")
        self.assertIdle()

    def test_never_back_by_a_detour(self):
        """Refused for a while, and then offered again: it has been SRTP all the same."""
        self.start_anew(srtp=self.policy, text=True).register()
        far = speaks(policy=OPPORTUNISTIC, text_port=5002)
        both = make_offer(far, PEER_ADDRESS, 7)
        world = self.world
        call = world.ring(body=both.serialize(), call_id=branch())
        self.phone.answer(world.now)
        world.take_one()
        world.deliver(call.ack())
        less = Session.parse(both.serialize())
        less.media[0].port = 0
        clear = Session.parse(without_keys(both.serialize()))
        clear.media[1] = both.media[1]
        for method in METHODS:
            self.assertEqual(self.suites(), [(b"audio", CM80), (b"text", CM80)])
            self.assertEqual(self.change(call, method, less.serialize()), 200)
            self.assertEqual(self.suites(), [(b"text", CM80)])
            self.assertEqual(self.change(call, method, clear.serialize()), 200)
            self.assertEqual(self.suites(), [(b"text", CM80)])
            self.assertEqual(self.change(call, method, both.serialize()), 200)

    def suites(self):
        return [(one.kind, one.suite) for one in self.phone.session.agreed]

    def test_srtp_later(self):
        """RTP becomes SRTP where the far end offers that."""
        for method in METHODS:
            call, _ = self.take_call(offer(OFF))
            self.assertEqual(self.change(call, method, offer(REQUIRED)), 200)
            self.assertEqual(self.world.media.agreed.suite, CM80)
            self.assertEqual(self.change(call, method, offer(OFF)), 488)
            self.assertEqual(self.world.media.agreed.suite, CM80)
            self.hang_up()

    def test_without_answer_at_all(self):
        """200 without SDP: no call."""
        world = self.world
        ok = answered(world.dial(), OFF)
        ok.set_body(b"application/sdp", b"")
        world.deliver(ok)
        self.assertSent("ACK", "BYE")
        self.assertEqual(world.media.log, [])


class OffTest(Case):
    policy = "off"

    def test_our_offer(self):
        media = Session.parse(self.world.dial().body).media[0]
        self.assertEqual((media.proto, media.cryptos()), (AVP, []))

    def test_answers(self):
        world = self.world
        world.deliver(answered(world.dial(), OFF))
        world.take_one("ACK")
        self.assertEqual((world.media.agreed.suite, world.media.log), (b"", ["start", "go"]))
        self.hang_up()
        key = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"
        for change in (lambda body: body.replace(AVP, SAVP), lambda body: body + key):
            world.deliver(answered(world.dial(), OFF, change))
            self.assertSent("ACK", "BYE")
            self.assertEqual(world.media.log, [])
            world.printed.take()
            self.forget()

    def test_offers(self):
        for body in (offer(OFF), offer(OPPORTUNISTIC)):
            _, media = self.take_call(body)
            self.assertEqual((media.proto, media.cryptos(), self.world.media.agreed.suite), (AVP, [], b""))
            self.hang_up()
        self.refuse_call(offer(REQUIRED), b"no RTP")


if __name__ == "__main__":
    unittest.main()
