"""SRTP required, opportunistic or off: what is offered, what is taken, and what an attacker on the way gains."""

import unittest

from ends import CM32, CM80, accept, answer_to, offer, speaks
from sipwire.errors import ParseError
from sipwire.sdp import Session
from sipwire.streams import OFF, OPPORTUNISTIC, REQUIRED

POLICIES = (REQUIRED, OPPORTUNISTIC, OFF)


def without_keys(body):
    return b"".join([line + b"\r\n" for line in body.split(b"\r\n") if line and not line.startswith(b"a=crypto")])


def by(policy, port=4000, **changes):
    changes.setdefault("first", 100 if port == 5000 else 0)
    return speaks(port, policy=policy, **changes)


class Case(unittest.TestCase):
    def refused(self, why, function, *arguments, **more):
        with self.assertRaises(ParseError) as caught:
            function(*arguments, **more)
        self.assertEqual(caught.exception.reason, why)

    def call(self, alice, bob, change=None, back=None):
        """What both ends agree on, by their policies, where what is said is changed on the way; None for nothing."""
        spoken = by(alice)
        mine = offer(spoken)
        body = mine.serialize()
        try:
            answer, theirs = answer_to(change(body) if change else body, by(bob, 5000, first=100))
            answer = answer.serialize()
            ours = accept(spoken, mine, back(answer) if back else answer)
        except ParseError:
            return None
        self.assertEqual((ours[0].suite, ours[0].local_key), (theirs[0].suite, theirs[0].remote_key))
        return ours[0].suite


class PolicyTest(Case):
    def test_what_is_offered(self):
        for policy, proto, keys in ((REQUIRED, b"RTP/SAVP", 2), (OPPORTUNISTIC, b"RTP/AVP", 2), (OFF, b"RTP/AVP", 0)):
            [media] = offer(by(policy)).media
            self.assertEqual((media.proto, len(media.cryptos())), (proto, keys))

    def test_each_with_each(self):
        """(what Alice wants, what Bob wants): the suite, b"" for RTP, None for no call."""
        for alice, bob, agreed in (
            (REQUIRED, REQUIRED, CM80),
            (REQUIRED, OPPORTUNISTIC, CM80),
            (REQUIRED, OFF, None),
            (OPPORTUNISTIC, REQUIRED, None),  # RTP/AVP does not ask for SRTP, whatever keys it has
            (OPPORTUNISTIC, OPPORTUNISTIC, CM80),
            (OPPORTUNISTIC, OFF, b""),
            (OFF, REQUIRED, None),
            (OFF, OPPORTUNISTIC, b""),
            (OFF, OFF, b""),
        ):
            self.assertEqual(self.call(alice, bob), agreed)

    def test_what_is_taken(self):
        """(profile, whether there are keys, policy): the suite and the answer's profile, or why it is refused."""
        for proto, has_keys, policy, found in (
            (b"RTP/SAVP", True, REQUIRED, CM80),
            (b"RTP/SAVP", True, OPPORTUNISTIC, CM80),
            (b"RTP/SAVP", True, OFF, "no RTP"),
            (b"RTP/SAVP", False, REQUIRED, "no suite"),
            (b"RTP/SAVP", False, OPPORTUNISTIC, "no suite"),
            (b"RTP/SAVP", False, OFF, "no RTP"),
            (b"RTP/AVP", True, REQUIRED, "no SRTP"),
            (b"RTP/AVP", True, OPPORTUNISTIC, CM80),
            (b"RTP/AVP", True, OFF, b""),
            (b"RTP/AVP", False, REQUIRED, "no SRTP"),
            (b"RTP/AVP", False, OPPORTUNISTIC, b""),
            (b"RTP/AVP", False, OFF, b""),
        ):
            with self.subTest(repr((proto, has_keys, policy))):
                body = offer().serialize().replace(b"RTP/SAVP", proto)
                body = body if has_keys else without_keys(body)
                if isinstance(found, str):
                    self.refused(found, answer_to, body, by(policy))
                    continue
                answer, [agreed] = answer_to(body, by(policy))
                self.assertEqual((answer.media[0].proto, agreed.suite), (proto, found))
                self.assertEqual([line.suite for line in answer.media[0].cryptos()], [found] if found else [])
                if not found:
                    nothing = (agreed.local_key, agreed.remote_key, agreed.local_mki, agreed.remote_mki)
                    self.assertEqual(nothing, (b"", b"", b"", b""))

    def test_profiles(self):
        """With feedback, or by DTLS: refused whatever the policy is, and the reason says why."""
        for proto, why in (
            (b"RTP/SAVPF", "no feedback"),
            (b"RTP/AVPF", "no feedback"),
            (b"UDP/TLS/RTP/SAVP", "no DTLS"),
            (b"UDP/TLS/RTP/SAVPF", "no DTLS"),
            (b"TCP/RTP/SAVP", "no profile"),
            (b"rtp/savp", "no profile"),
            (b"udp", "no profile"),
            (b"RTP/SAVPX", "no profile"),
        ):
            body = offer().serialize().replace(b"RTP/SAVP", proto)
            for policy in POLICIES:
                self.refused(why, answer_to, body, by(policy))
                self.refused(why, answer_to, without_keys(body), by(policy))

    def test_answers_to_required(self):
        mine = offer()
        good = answer_to(mine)[0].serialize()
        for change, why in (
            (lambda body: body.replace(b"RTP/SAVP", b"RTP/AVP"), "no SRTP"),
            (lambda body: without_keys(body.replace(b"RTP/SAVP", b"RTP/AVP")), "no SRTP"),
            (lambda body: body.replace(b"RTP/SAVP", b"RTP/SAVPF"), "no SRTP"),
            (lambda body: body.replace(b"RTP/SAVP", b"UDP/TLS/RTP/SAVP"), "no SRTP"),
            (without_keys, "malformed crypto"),
            (lambda body: body.replace(b"crypto:1", b"crypto:2"), "unknown crypto"),
            (lambda body: body.replace(b"crypto:1", b"crypto:3"), "unknown crypto"),
            (lambda body: body.replace(CM80, CM32), "unknown crypto"),
            (lambda body: body.replace(CM80, b"F8_128_HMAC_SHA1_80"), "unknown crypto"),
            (lambda body: body.replace(CM80, b"NULL_HMAC_SHA1_80"), "malformed crypto"),
            (lambda body: body.replace(b"inline:", b"inline:AAAA"), "malformed crypto"),
        ):
            body = change(good)
            self.assertNotEqual(body, good)
            self.refused(why, accept, speaks(), offer(), body)

    def test_answers_to_opportunistic(self):
        """RFC 8643 section 3.3: without keys it is RTP; with one it is SRTP, or no answer at all."""
        lax = by(OPPORTUNISTIC)
        good = answer_to(offer(lax), by(OPPORTUNISTIC, 5000))[0].serialize()
        self.assertIn(b"RTP/AVP", good)
        for change, found in (
            (lambda body: body, CM80),
            (without_keys, b""),
            (lambda body: body.replace(b"RTP/AVP", b"RTP/SAVP"), CM80),
            (lambda body: without_keys(body.replace(b"RTP/AVP", b"RTP/SAVP")), "malformed crypto"),
            (lambda body: body.replace(b"crypto:1", b"crypto:2"), "unknown crypto"),
            (lambda body: body.replace(CM80, CM32), "unknown crypto"),
            (lambda body: body.replace(CM80, b"X"), "malformed crypto"),
            (lambda body: body.replace(b"a=crypto", b"a=crypto:9 X\r\na=crypto"), CM80),
            (lambda body: body.replace(b"RTP/AVP", b"RTP/AVPF"), "no SRTP"),
            (lambda body: body.replace(b"RTP/AVP", b"RTP/SAVPF"), "no SRTP"),
        ):
            if isinstance(found, str):
                self.refused(found, accept, lax, offer(lax), change(good))
            else:
                [agreed] = accept(lax, offer(lax), change(good))
                self.assertEqual(agreed.suite, found)

    def test_required_whatever_was_offered(self):
        """Also where an offer in the clear had been ours: what is not SRTP is not agreed on."""
        plain = offer(by(OFF))
        good = answer_to(plain, by(OFF, 5000))[0]
        self.assertEqual(accept(by(OPPORTUNISTIC), plain, good)[0].suite, b"")
        self.refused("malformed crypto", accept, by(REQUIRED), plain, good)

    def test_answers_to_off(self):
        plain = by(OFF)
        good = answer_to(offer(plain), by(OFF, 5000))[0].serialize()
        line = offer().serialize()
        line = line[line.find(b"a=crypto") :].partition(b"\r\n")[0] + b"\r\n"
        self.assertEqual(accept(plain, offer(plain), good)[0].suite, b"")
        self.refused("unknown crypto", accept, plain, offer(plain), good + line)
        self.refused("no SRTP", accept, plain, offer(plain), good.replace(b"RTP/AVP", b"RTP/SAVP"))
        self.refused("no SRTP", accept, plain, offer(plain), good.replace(b"RTP/AVP", b"RTP/SAVP") + line)


class AttackTest(Case):
    """Somebody on the way changes what is said, so that media should be in the clear."""

    CHANGES = (
        without_keys,
        lambda body: body.replace(b"RTP/SAVP", b"RTP/AVP"),
        lambda body: without_keys(body.replace(b"RTP/SAVP", b"RTP/AVP")),
        lambda body: body.replace(b"a=crypto", b"a=x-crypto"),
        lambda body: body.replace(b"\r\na=crypto", b" UNENCRYPTED_SRTP\r\na=crypto"),
        lambda body: body.replace(b"a=crypto", b"b=crypto"),
    )

    def test_downgrade_where_srtp_is_required(self):
        """Of the offer, the answer, or both, whatever the other end's policy is: SRTP, or no call."""
        seen = set()
        for change in self.CHANGES + (None,):
            for back in self.CHANGES + (None,):
                for policy in POLICIES:
                    for alice, bob in ((REQUIRED, policy), (policy, REQUIRED)):
                        agreed = self.call(alice, bob, change, back)
                        self.assertNotEqual(agreed, b"")
                        seen.add(agreed)
        self.assertTrue(seen >= {None, CM80}, seen)

    def test_downgrade_of_one_stream(self):
        """The other one is taken, this one refused."""
        body = offer(speaks(text_port=4002)).serialize()
        at = body.find(b"m=text")
        for change in (without_keys, lambda part: without_keys(part.replace(b"SAVP", b"AVP"))):
            answer, [agreed] = answer_to(body[:at] + change(body[at:]), speaks(5000, text_port=5002))
            self.assertEqual((agreed.kind, agreed.suite), (b"audio", CM80))
            self.assertEqual([media.port for media in answer.media], [5000, 0])
            answer, [agreed] = answer_to(change(body[:at]) + body[at:], speaks(5000, text_port=5002))
            self.assertEqual((agreed.kind, agreed.suite), (b"text", CM80))

    def test_downgrade_in_a_call(self):
        """A stream that has been SRTP is never RTP, not even where RTP would have been fine at first."""
        lax = by(OPPORTUNISTIC)
        mine = offer(lax)
        answer, theirs = answer_to(mine, by(OPPORTUNISTIC, 5000))
        ours = accept(lax, mine, answer)
        self.assertEqual((ours[0].suite, theirs[0].suite), (CM80, CM80))
        plain = without_keys(mine.serialize())
        self.refused("no SRTP", answer_to, plain, by(OPPORTUNISTIC, 5000), before=theirs)
        self.assertEqual(answer_to(plain, by(OPPORTUNISTIC, 5000))[1][0].suite, b"")
        again = offer(lax, version=2, before=mine.media, present=ours)
        self.assertEqual([line.keys[0].key_salt for line in again.media[0].cryptos()], [ours[0].local_key])
        good = answer_to(again, by(OPPORTUNISTIC, 5000), before=theirs)[0].serialize()
        self.assertEqual(accept(lax, again, good, before=ours)[0].suite, CM80)
        self.refused("malformed crypto", accept, lax, again, without_keys(good), before=ours)

    def test_upgrade_in_a_call(self):
        """RTP may become SRTP."""
        lax = by(OPPORTUNISTIC)
        mine = offer(lax)
        answer, theirs = answer_to(mine, by(OFF, 5000))
        ours = accept(lax, mine, answer)
        self.assertEqual((ours[0].suite, theirs[0].suite), (b"", b""))
        again = offer(lax, version=2, before=mine.media, present=ours)
        self.assertEqual((again.media[0].proto, len(again.media[0].cryptos())), (b"RTP/AVP", 2))
        answer, theirs = answer_to(again, by(OPPORTUNISTIC, 5000), before=theirs)
        self.assertEqual((accept(lax, again, answer, before=ours)[0].suite, theirs[0].suite), (CM80, CM80))
        _, [still] = answer_to(without_keys(again.serialize()), by(OPPORTUNISTIC, 5000), before=ours)
        self.assertEqual(still.suite, b"")

    def test_a_profile_that_stays(self):
        """A stream that was agreed on as RTP/SAVP goes on as that, though we would have offered RTP/AVP."""
        bob = by(OPPORTUNISTIC, 5000)
        answer, theirs = answer_to(offer(), bob)
        again = offer(bob, version=2, before=answer.media, present=theirs)
        self.assertEqual(again.media[0].proto, b"RTP/SAVP")
        strict = by(REQUIRED, 5000)
        for media in answer.media:
            media.proto = b"RTP/AVP"
        again = offer(strict, version=2, before=answer.media, present=theirs)
        self.assertEqual(again.media[0].proto, b"RTP/SAVP")

    def test_nothing_in_the_clear_beside_srtp(self):
        """Another stream of the kind, with less protection, before the one that we take."""
        body = offer().serialize()
        head, _, rest = body.partition(b"m=audio")
        plain = without_keys(b"m=audio" + rest.replace(b"SAVP", b"AVP").replace(b"4000", b"6000"))
        answer, [agreed] = answer_to(head + plain + b"m=audio" + rest)
        self.assertEqual(([media.port for media in answer.media], agreed.port), ([0, 5000], 4000))
        self.assertEqual(Session.parse(answer.serialize()).media[0].lines, [])


if __name__ == "__main__":
    unittest.main()
