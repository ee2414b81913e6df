"""Calls with text beside speech, and what becomes of a policy other than SRTP in all calls."""

import unittest

from far import CM80, KEYS, PEER_ADDRESS, PEER_CONTACT, answer, branch, invite, offer, speaks
from scripted import WorldCase

from sipwire.answer import make_answer
from sipwire.sdp import Session
from sipwire.streams import OFF, OPPORTUNISTIC

AUDIO = b"audio 40000 RTP/SAVP 0 101"
AGREED = b"audio 40000 RTP/SAVP 0"  # with a far end that has no telephone-event


def m_lines(message):
    return [media.serialize() for media in Session.parse(message.body).media]


class Case(WorldCase):
    def begin(self, **config):
        """Another terminal, registered."""
        self.world = self.start_anew(**config)
        self.world.register()
        return self.world

    def accepted(self, sent, change=None, **spoken):
        """Answer the terminal's offer; for ``spoken`` see `far.speaks`. Returns what the far end has agreed to."""
        description, agreed = make_answer(speaks(**spoken), Session.parse(sent.body), PEER_ADDRESS, 8)
        body = description.serialize()
        response = answer(sent, 200, b"t1", [("Contact", PEER_CONTACT)], "OK")
        response.set_body(b"application/sdp", body.replace(*change) if change else body)
        self.world.deliver(response)
        return agreed

    def agreed(self):
        return self.phone.session.agreed

    def held(self, is_held):
        self.phone.hold(is_held, self.world.now)
        self.world.advance(0)
        return self.world.take_one("INVITE")


class TextTest(Case):
    def test_offered_and_taken(self):
        """With a key and a port of its own; a change of the call keeps both streams in their places."""
        world = self.begin(text=True)
        sent = world.dial()
        self.assertEqual(m_lines(sent), [AUDIO, b"text 40002 RTP/SAVP 100 98"])
        theirs = self.accepted(sent, text_port=30002)
        world.take_one("ACK")
        audio, text = self.agreed()
        self.assertEqual(
            [(one.kind, one.index, one.port) for one in self.agreed()], [(b"audio", 0, 30000), (b"text", 1, 30002)]
        )
        self.assertEqual((text.payload_type, text.red_type, text.generations, text.mixer), (98, 100, 2, True))
        self.assertNotEqual(audio.local_key, text.local_key)
        self.assertEqual([one.remote_key for one in theirs], [audio.local_key, text.local_key])
        self.assertEqual(world.media.agreed, audio)
        again = self.held(True)
        self.assertEqual(m_lines(again), [AGREED, b"text 40002 RTP/SAVP 100 98"])
        keys = [media.cryptos()[0].keys[0].key_salt for media in Session.parse(again.body).media]
        self.assertEqual(keys, [audio.local_key, text.local_key])
        self.accepted(again, text_port=30002)
        self.assertEqual([one.direction for one in self.agreed()], [b"sendonly"] * 2)

    def test_refused(self):
        """The far end has none: the call goes on without, and the line stays."""
        world = self.begin(text=True)
        self.accepted(world.dial())
        world.take_one("ACK")
        self.assertEqual([one.kind for one in self.agreed()], [b"audio"])
        for is_held in (True, False):
            again = self.held(is_held)
            self.assertEqual(m_lines(again), [AGREED, b"text 0 RTP/SAVP 100 98"])
            self.accepted(again, text_port=30002)
            world.take_one("ACK")
            self.assertEqual([one.kind for one in self.agreed()], [b"audio"])

    def test_answered(self):
        world = self.begin(text=True)
        call = world.talk_as_callee(body=offer(text_port=30002))
        self.assertEqual([one.kind for one in self.agreed()], [b"audio", b"text"])
        keys = [one.local_key for one in self.agreed()]
        self.assertNotEqual(keys[0], keys[1])
        plain = offer()
        for body, ports, kinds in (
            (offer(text_port=30004), [40000, 40002], [b"audio", b"text"]),
            (plain + b"m=text 0 RTP/SAVP 98\r\n", [40000, 0], [b"audio"]),
            (offer(text_port=30002), [40000, 40002], [b"audio", b"text"]),
        ):
            world.deliver(call.request("UPDATE", body=body))
            response = world.take_one()
            self.assertEqual(response.status, 200)
            self.assertEqual([media.port for media in Session.parse(response.body).media], ports)
            self.assertEqual([one.kind for one in self.agreed()], kinds)
            self.assertEqual(self.agreed()[0].local_key, keys[0])

    def test_not_configured(self):
        """It is neither offered nor taken."""
        world = self.world
        self.assertEqual(m_lines(world.dial()), [AUDIO])
        self.phone.hang_up(world.now)
        self.begin()
        call = self.world.ring(body=offer(text_port=30002))
        self.phone.answer(self.world.now)
        self.assertEqual([media.port for media in Session.parse(self.world.take_one().body).media], [40000, 0])
        self.assertEqual(call.call_id, b"in-1")

    def test_one_stream_without_srtp(self):
        """In an answer that spoils the call; in an offer that stream is refused."""
        world = self.begin(text=True)
        self.accepted(world.dial(), (b"m=text 30002 RTP/SAVP", b"m=text 30002 RTP/AVP"), text_port=30002)
        self.assertSent("ACK", "BYE")
        self.assertEqual(world.media.log, [])
        self.begin(text=True)
        body = offer(text_port=30002).replace(b"m=text 30002 RTP/SAVP", b"m=text 30002 RTP/AVP")
        self.world.talk_as_callee(body=body)
        self.assertEqual([one.kind for one in self.agreed()], [b"audio"])


class PolicyTest(Case):
    def test_what_is_offered(self):
        for policy, proto, keys in (
            ("required", b"RTP/SAVP", 2),
            ("opportunistic", b"RTP/AVP", 2),
            ("off", b"RTP/AVP", 0),
        ):
            sent = self.begin(srtp=policy).dial()
            [media] = Session.parse(sent.body).media
            self.assertEqual((media.proto, len(media.cryptos())), (proto, keys))

    def test_opportunistic(self):
        """SRTP with who has it, and then for good."""
        world = self.begin(srtp="opportunistic")
        self.accepted(world.dial(), policy=OPPORTUNISTIC)
        world.take_one("ACK")
        self.assertEqual((world.media.agreed.suite, world.media.agreed.remote_key), (CM80, KEYS[CM80]))
        again = self.held(True)
        [media] = Session.parse(again.body).media
        self.assertEqual(media.cryptos()[0].keys[0].key_salt, world.media.agreed.local_key)
        self.accepted(again, policy=OFF)
        self.assertSent("ACK", "BYE")
        self.assertIdle()

    def test_required(self):
        """Whatever the far end does instead, there is no call, and no media."""
        world = self.world
        for body in (offer(policy=OPPORTUNISTIC), offer(policy=OFF)):
            world.deliver(invite(call_id=branch(), body=body))
            self.assertEqual(world.take_one().status, 488)
        for old, new in ((b"RTP/SAVP", b"RTP/AVP"), (b"a=crypto", b"a=x")):
            self.accepted(world.dial(), (old, new))
            self.assertSent("ACK", "BYE")
            self.forget()
        self.assertEqual(world.media.log, [])


if __name__ == "__main__":
    unittest.main()
