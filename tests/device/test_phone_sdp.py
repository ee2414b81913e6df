"""Offers and answers: media is SRTP as agreed, or there is no call."""

import unittest

from far import (
    CM32,
    CM80,
    KEYS,
    PEER_ADDRESS,
    PEER_CONTACT,
    accept,
    answer,
    answer_to,
    branch,
    invite,
    offer,
    speaks,
)
from scripted import WorldCase

from sipwire.answer import make_answer
from sipwire.offer import make_offer
from sipwire.sdp import Session

# (old, new) of a session description that is no answer to the terminal's offer, and what the terminal says of it.
BAD_ANSWERS = [
    ((b"RTP/SAVP", b"RTP/AVP"), "no SRTP"),
    ((b"RTP/SAVP", b"RTP/SAVPF"), "no SRTP"),
    ((b"RTP/SAVP", b"UDP/TLS/RTP/SAVP"), "no SRTP"),
    ((b"a=crypto:", b"a=nocrypto:"), "malformed crypto"),
    ((b"a=crypto:1 ", b"a=crypto:2 "), "unknown crypto"),
    ((b"_80 inline", b"_32 inline"), "unknown crypto"),
    ((b"AES_CM_128", b"F8_128"), "unknown crypto"),
    ((b"AES_CM_128_HMAC_SHA1_80", b"NULL_HMAC_SHA1_80"), "malformed crypto"),
    ((b"inline:", b"inline:AAAA"), "malformed crypto"),
    ((b"inline:", b"setup:"), "malformed crypto"),
    ((b"Gxwd", b"Gxwd UNENCRYPTED_SRTP"), "malformed crypto"),
    ((b"Gxwd", b"Gxwd UNAUTHENTICATED_SRTP"), "malformed crypto"),
    ((b"Gxwd", b"Gxwd KDR=1"), "malformed crypto"),
    ((b"a=crypto:", b"a=crypto:2 AES_CM_128_HMAC_SHA1_32 inline:" + b"A" * 40 + b"\r\na=crypto:"), "malformed crypto"),
    ((b"m=audio 30000", b"m=audio 0"), "no audio"),
    ((b"m=audio", b"m=video"), "no audio"),
    ((b"m=audio", b"m=audio 30002 RTP/SAVP 0\r\nm=audio"), "malformed answer"),
    ((b"RTP/SAVP 0", b"RTP/SAVP 8"), "no codec"),
    ((b"PCMU/8000", b"PCMA/8000"), "no codec"),
    ((b"c=IN IP4 198.51.100.9\r\n", b""), "no SDP"),
    ((b"IP4 198.51.100.9", b"IP4 media.b.example"), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP4 198.51.100.256"), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP4 198.51.100"), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP4 198.51..9"), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP4 +98.51.100.9"), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP4 224.2.1.1/127"), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP4 "), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP4 \xff\xfe\xfd"), "unusable address"),
    ((b"IP4 198.51.100.9", b"IP6 2001:db8::1"), "unusable address"),
    ((b"v=0", b"v=1"), "malformed SDP"),
    ((b"t=0 0", b"nonsense"), "malformed SDP"),
]

# (old, new) of an offer that can't be accepted, and why.
BAD_OFFERS = [
    (b"RTP/SAVP", b"RTP/AVP", b"no SRTP"),
    (b"RTP/SAVP", b"RTP/SAVPF", b"no feedback"),
    (b"RTP/SAVP", b"UDP/TLS/RTP/SAVPF", b"no DTLS"),
    (b"a=crypto", b"a=nocrypto", b"no suite"),
    (b"AES_CM_128", b"AES_256_CM", b"no suite"),
    (b"inline:", b"inline:AA", b"no suite"),
    (b"inline:", b"setup:", b"no suite"),
    (b"RTP/SAVP 0 8", b"RTP/SAVP 8 96", b"no codec"),
    (b"PCMU/8000", b"G722/8000", b"no codec"),
    (b"m=audio", b"m=video", b"no audio"),
    (b"m=audio 30000", b"m=audio 0", b"no audio"),
    (b"198.51.100.9", b"media.b.example", b"unusable address"),
    (b"198.51.100.9", b"198.51.100.999", b"unusable address"),
    (b"IN IP4 198.51.100.9", b"IN IP6 2001:db8::1", b"unusable address"),
]


class AnsweredTest(WorldCase):
    """Answers to the terminal's offer."""

    def test_second_suite(self):
        world = self.world
        sent = world.dial()
        crypto = Session.parse(sent.body).media[0].cryptos()[1]
        sent.body = sent.body.replace(b"a=crypto:1", b"a=nocrypto:1")
        world.deliver(accept(sent))
        agreed = world.media.agreed
        self.assertEqual((agreed.suite, agreed.remote_key), (CM32, KEYS[CM32]))
        self.assertEqual(agreed.local_key, crypto.keys[0].key_salt)

    def test_other_codec(self):
        world = self.start_anew(codecs=["PCMU", "PCMA"])
        world.register()
        world.deliver(accept(world.dial(), change=(b"RTP/SAVP 0\r\na=rtpmap:0 PCMU", b"RTP/SAVP 8\r\na=rtpmap:8 PCMA")))
        self.assertEqual(world.media.agreed.payload_type, 8)

    def test_directions(self):
        world = self.world
        for line, ours in ((b"sendonly", b"recvonly"), (b"recvonly", b"sendonly"), (b"inactive", b"inactive")):
            world.deliver(accept(world.dial(), change=(b"a=ptime:20", b"a=" + line)))
            self.assertEqual(world.media.agreed.direction, ours)
            self.phone.hang_up(world.now)
            world.take()
            world.printed.take()

    def test_bad(self):
        """ACK, BYE, and not a sound."""
        world = self.world
        for change, reason in BAD_ANSWERS:
            with self.subTest(change):
                sent = world.dial()
                world.deliver(accept(sent, change=change))
                self.assertSent("ACK", "BYE")
                self.assertEvents(("ended", {"reason": reason, "media": None, "talked_ms": None}))
                self.assertIdle()
                world.deliver(accept(sent))  # now it's too late
                self.assertSent("ACK", "BYE")
                self.assertEqual(world.media.log, [])
                self.forget()
        self.assertUsable()

    def test_none(self):
        world = self.world
        for body in (b"", b"v=0\r\n", b"\r\n", bytes(100)):
            ok = accept(world.dial())
            ok.set_body(b"application/sdp", body)
            world.deliver(ok)
            self.assertSent("ACK", "BYE")
            self.assertEqual(world.media.log, [])
            self.assertEvents(("ended", {}))


class TextAloneTest(WorldCase):
    """A terminal without a microphone writes, and is read."""

    def setUp(self):
        super().setUp()
        self.world = self.start_anew(codecs=[], text=True)
        self.world.register()

    def peer(self, **changes):
        """What the far end speaks."""
        return speaks(text_port=30002, events=True, **changes)

    def test_it_offers_text(self):
        world = self.world
        sent = world.dial()
        [media] = Session.parse(sent.body).media
        self.assertEqual((media.kind, media.port, media.proto), (b"text", 40002, b"RTP/SAVP"))
        made, [agreed] = make_answer(self.peer(), Session.parse(sent.body), PEER_ADDRESS, 8)
        ok = answer(sent, 200, extra=(("Contact", PEER_CONTACT),))
        ok.set_body(b"application/sdp", made.serialize())
        world.deliver(ok)
        [stream] = world.media.streams
        self.assertEqual((stream.kind, stream.port, stream.red_type), (b"text", 30002, agreed.red_type))
        self.assertEqual(stream.local_key, agreed.remote_key)

    def test_it_takes_text_and_no_speech(self):
        world = self.world
        world.deliver(invite(body=make_offer(self.peer(), PEER_ADDRESS, 7).serialize()))
        world.take()
        self.phone.answer(world.now)
        audio, text = Session.parse(world.take_one().body).media
        self.assertEqual((audio.kind, audio.port), (b"audio", 0))
        self.assertEqual((text.kind, text.port), (b"text", 40002))
        self.assertEqual([stream.kind for stream in world.media.streams], [b"text"])

    def test_speech_alone_is_refused(self):
        world = self.world
        world.deliver(invite(body=offer()))
        response = world.take_one()
        self.assertEqual((response.status, response.get("warning")), (488, b'399 terminal "no text"'))


class OfferedTest(WorldCase):
    """Offers of the far end, and the terminal's answers."""

    def refuse(self, status, body=None, **changes):
        """The INVITE is answered so, and nothing rings; returns the response."""
        world = self.world
        world.deliver(invite(call_id=branch(), body=body, **changes))
        response = world.take_one()
        self.assertEqual(response.status, status)
        self.assertNotEqual(response.to.tag, b"")
        self.assertEqual((world.printed.take(), world.media.log), ([], []))
        self.assertIdle()
        self.forget()
        return response

    def test_bad(self):
        good = offer()
        for old, new, why in BAD_OFFERS:
            with self.subTest(new):
                self.assertIn(old, good)
                response = self.refuse(488, good.replace(old, new))
                self.assertEqual(response.get("warning"), b'399 terminal "%s"' % why)
        self.assertUsable()

    def test_session_parameters(self):
        """A line that weakens SRTP, or says what we don't understand, counts for nothing (RFC 4568 section 6.3)."""
        for param in (b"UNENCRYPTED_SRTP", b"UNAUTHENTICATED_SRTP", b"UNENCRYPTED_SRTCP", b"KDR=3", b"y=z"):
            lines = offer().split(b"\r\n")
            body = b"\r\n".join([line + b" " + param if line.startswith(b"a=crypto") else line for line in lines])
            self.assertEqual(self.refuse(488, body).get("warning"), b'399 terminal "no suite"')

    def test_malformed(self):
        good = offer()
        for body in (
            b"x",
            bytes(50),
            good.replace(b"v=0", b"v=9"),
            good.replace(b"m=audio 30000", b"m=audio 70000"),
            good.replace(b"m=audio 30000", b"m=audio -1"),
            good.replace(b"m=audio 30000", b"m=audio"),
            good.replace(b"c=IN", b"c=TN"),
            good.replace(b"c=IN IP4 198.51.100.9\r\n", b""),
        ):
            self.assertTrue(self.refuse(400, body).get("warning").startswith(b'399 terminal "'))

    def test_too_much_of_it(self):
        """Lines and streams cost heap while they are read."""
        good = offer()
        for extra in (b"a=x\r\n" * 80, b"m=video 0 RTP/AVP 31\r\n" * 9):
            self.assertEqual(self.refuse(413, good + extra).get("warning"), b'399 terminal "too large SDP"')
        self.world.ring(body=good + b"a=x\r\n" * 40 + b"m=video 0 RTP/AVP 31\r\n" * 7)

    def test_required_extensions(self):
        for extra, unsupported in (
            ([("Require", b"100rel")], b"100rel"),
            ([("Require", b"100rel, timer"), ("Require", b"x")], b"100rel, x"),
            ([("Require", b"sec-agree")], b"sec-agree"),
        ):
            self.assertEqual(self.refuse(420, extra=extra).get("unsupported"), unsupported)
        self.world.ring(
            extra=[("Require", b"timer"), ("Supported", b"100rel, timer, replaces"), ("Proxy-Require", b"x")]
        )

    def test_content_type(self):
        world = self.world
        for name, status in (
            (b"application/sdp;charset=UTF-8", 180),
            (b"Application/SDP ; x=y", 180),
            (b"text/plain", 415),
            (b"multipart/mixed;boundary=x", 415),
            (b"application/sdpx", 415),
            (b"", 415),
            (None, 415),
        ):
            asked = invite(call_id=branch())
            asked.fields = [field for field in asked.fields if field[0] != "content-type"]
            if name is not None:
                asked.add("Content-Type", name)
            world.deliver(asked)
            response = world.take_one()
            self.assertEqual(response.status, status)
            if status == 415:
                self.assertEqual(response.get("accept"), b"application/sdp")
                self.assertIdle()
            else:
                self.phone.reject(world.now)
                world.take()

    def answer_of(self, body):
        """The session description that answers this one."""
        world = self.world
        call = world.ring(body=body, call_id=branch())
        self.phone.answer(world.now)
        ok = world.take_one()
        world.deliver(call.ack())
        self.phone.hang_up(world.now)
        world.deliver(answer(world.take_one("BYE"), 200))
        world.printed.take()
        return Session.parse(ok.body)

    def test_only_the_first_audio_is_taken(self):
        """RFC 3264 section 6: every line is answered, those not taken by port 0."""
        video = b"m=video 40002 RTP/SAVP 31\r\na=crypto:1 AES_CM_128_HMAC_SHA1_80 inline:" + b"A" * 40 + b"\r\n"
        plain = b"m=audio 40004 RTP/AVP 0\r\n"
        second = offer().partition(b"t=0 0\r\n")[2]
        head, _, audio = offer().partition(b"m=audio")
        described = self.answer_of(head + video + plain + b"m=audio" + audio + second)
        self.assertEqual([media.port for media in described.media], [0, 0, 40000, 0])
        self.assertEqual([media.kind for media in described.media], [b"video", b"audio", b"audio", b"audio"])
        self.assertEqual(len(described.media[2].cryptos()), 1)

    def test_first_suite_that_is_known(self):
        """RFC 4568 section 5.1.2: the answer has the tag and suite of the line it takes."""
        for body, tag, suite in (
            (offer(), 1, CM80),
            (offer((CM32, CM80)), 1, CM32),
            (offer((CM32,)), 1, CM32),
            (offer().replace(b"a=crypto:1 AES_CM_128", b"a=crypto:1 AES_256_CM"), 2, CM32),
        ):
            [crypto] = self.answer_of(body).media[0].cryptos()
            self.assertEqual((crypto.tag, crypto.suite), (tag, suite))
            self.assertEqual(self.world.media.agreed.remote_key, KEYS[suite])

    def test_directions(self):
        for line, ours in ((b"sendonly", b"recvonly"), (b"recvonly", b"sendonly"), (b"inactive", b"inactive")):
            described = self.answer_of(offer().replace(b"a=ptime:20", b"a=" + line))
            self.assertEqual(described.direction(described.media[0]), ours)
            self.assertEqual(self.world.media.agreed.direction, ours)


class OfferlessTest(WorldCase):
    """Section 13.2.1: an INVITE without an offer; the 200 offers, the ACK answers."""

    def answered(self):
        """Answer such an INVITE; returns its call, the terminal's offer, and a good answer to it."""
        world = self.world
        call = world.ring(body=b"", call_id=branch())
        self.phone.answer(world.now)
        ok = world.take_one()
        self.assertEqual((ok.get("content-type"), world.media.log), (b"application/sdp", []))
        offered = Session.parse(ok.body)
        description, agreed = answer_to(ok.body, (0,))
        return call, offered.media, description, agreed

    def test_good(self):
        world = self.world
        call, [audio], body, agreed = self.answered()
        self.assertEqual((audio.proto, [crypto.suite for crypto in audio.cryptos()]), (b"RTP/SAVP", [CM80, CM32]))
        world.deliver(call.ack(body=body))
        self.assertEqual(world.media.log, ["start", "go"])
        self.assertEqual((world.media.agreed.local_key, world.media.agreed.remote_key), (agreed.remote_key, KEYS[CM80]))
        self.assertEvents(("connected", {"suite": CM80.decode()}))

    def test_bad(self):
        world = self.world
        for change, reason in BAD_ANSWERS + [((None, None), "malformed SDP")]:
            with self.subTest(change):
                call, _, body, _ = self.answered()
                world.deliver(call.ack(body=body.replace(*change) if change[0] else b""))
                world.deliver(answer(world.take_one("BYE"), 200))
                self.assertEvents(("ended", {"reason": reason}))
                self.assertEqual(world.media.log, [])
                self.assertIdle()
                self.forget()
        self.assertUsable()

    def test_hung_up_before_the_ack(self):
        call, _, body, _ = self.answered()
        self.phone.hang_up(self.world.now)
        self.world.deliver(call.ack(body=body))
        self.assertSent("BYE")
        self.assertEqual(self.world.media.log, [])
        self.assertEvents(("leaving", {"reason": "hung up"}), ("ended", {"reason": "hung up"}))


if __name__ == "__main__":
    unittest.main()
