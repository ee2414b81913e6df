"""Attacks on setup keys, each by its name: by neighbours, by relays, by whoever has an old key."""

import gc
import os
import unittest

from pair import HEAVY, Pair, files

from sipwire.crypto import Crypto
from sipwire.message import Request, parse
from sipwire.sdp import Session
from sipwire.setup import ANSWER, SetupKey
from sipwire.setup_keys import mac_key
from terminal import keystore

SDP = b"application/sdp"
INLINE = b"a=crypto:1 " + Crypto.make(1, b"AES_CM_128_HMAC_SHA1_80", bytes(range(30))).serialize()[2:]


_BRANCHES = []


def copy(message):
    return parse(message.serialize())


def anew(message, cseq=None):
    """The same request once more, in a transaction of its own."""
    made = copy(message)
    _BRANCHES.append(None)
    at = [key for key, _ in made.fields].index("via")
    made.fields[at] = ("via", b"Via: SIP/2.0/TLS n;branch=z9hG4bKx%d" % len(_BRANCHES))
    if cseq:
        made.set("CSeq", b"%d %s" % (cseq, made.method.encode()))
    return made


class AttackCase(unittest.TestCase):
    """Alice and Bob have a key, and nothing else has happened."""

    def setUp(self):
        self.pair = pair = Pair(uses=1000)
        assert pair.call() == ("neighbour heavy", "neighbour heavy")
        pair.clear()
        [self.key] = pair.alice.keys(pair.bob)

    def tearDown(self):
        self.pair.close()

    def invite(self):
        """An INVITE of Alice's that has not arrived."""
        pair = self.pair
        pair.alice.do(pair.alice.phone.dial, "sip:bob@b.example", pair.now)
        [(_, message)] = pair.collect()
        return message

    def send(self, message):
        """Let a message reach Bob; returns the status that he answers with."""
        pair = self.pair
        pair.clear()
        pair.deliver(pair.alice, message)
        answers = [one.status for sender, one in pair.collect() if sender is pair.bob and not isinstance(one, Request)]
        return answers[-1] if answers else None

    def assertSilent(self):
        """Bob's phone has not rung, and nobody was told that it is Alice."""
        self.assertEqual(self.pair.bob.phone.state, "idle")
        self.assertEqual(self.pair.told(self.pair.bob, "incoming"), {})

    def assertWell(self):
        """The next call is good."""
        pair = self.pair
        pair.way = None
        pair.advance(200000)
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))


class ReplayTest(AttackCase):
    def test_replayed_invite_in_the_same_session(self):
        pair = self.pair
        invite = self.invite()
        self.assertEqual(self.send(invite), 180)
        self.assertEqual(self.send(anew(invite)), 482)  # while it rings: the same call by another way
        pair.bob.do(pair.bob.phone.reject, pair.now)
        pair.advance(70000)
        self.assertEqual(self.send(anew(invite)), 403)
        self.assertSilent()
        self.assertWell()

    def test_replayed_invite_in_the_next_session(self):
        """After a power cut, with the key still good and with the next one."""
        pair = self.pair
        invite = self.invite()
        self.assertEqual(self.send(invite), 180)
        pair.bob.start()
        self.assertEqual(self.send(anew(invite)), 403)
        self.assertSilent()
        self.assertWell()  # now there is another, and this one until that is used
        self.assertWell()
        pair.bob.start()
        self.assertEqual(self.send(anew(invite)), 428)
        self.assertSilent()
        self.assertWell()

    def test_replayed_change_of_a_call(self):
        """Neither in that call nor as the beginning of another."""
        pair = self.pair
        pair.dial()
        pair.answer()
        pair.alice.do(pair.alice.phone.hold, True, pair.now)
        pair.advance(1000)
        invite = pair.requests("INVITE")[-1]
        before = pair.bob.media.agreed
        self.assertEqual(self.send(anew(invite, invite.cseq.number + 1)), 403)  # the CSeq is in the MAC
        self.assertTrue(pair.bob.media.agreed is before)
        pair.bob.start()
        without = anew(invite)
        without.set("To", b"<sip:bob@b.example>")
        self.assertEqual(self.send(without), 403)
        self.assertSilent()

    def test_an_old_one_after_a_newer(self):
        pair = self.pair
        held = self.invite()
        pair.alice.start()
        pair.dial()
        pair.bob.do(pair.bob.phone.reject, pair.now)
        pair.advance(70000)
        self.assertEqual(self.send(held), 403)
        self.assertSilent()

    def test_replayed_answer(self):
        """The 200 of one call is none to another."""
        pair = self.pair
        pair.dial()
        pair.answer()
        old = [one for _, one in pair.passed if one.get("setup-key") and not isinstance(one, Request)][-1]
        pair.bob.start()
        pair.alice.start()
        pair.alice.told.clear()

        def way(sender, message):
            if sender is pair.bob and message.body:
                message.set("Setup-Key", old.get("setup-key"))
                message.set_body(SDP, old.body)
            return message

        pair.way = way
        pair.dial()
        pair.answer()
        self.assertEqual(pair.told(pair.alice, "connected"), {})
        self.assertEqual(pair.told(pair.alice, "ended")["reason"], "wrong Setup-Key")
        self.assertTrue(not pair.alice.media.is_on)
        self.assertWell()


class DescriptionTest(AttackCase):
    """Whoever is on the way changes what the ends have described."""

    def change(self, old, new, of=b""):
        """Make a call in which this is changed in every description; returns its first final status."""
        pair = self.pair
        changed = []

        def way(sender, message):
            if message.body and old in message.body and (not of or sender.user.encode() == of):
                changed.append(message)
                message.set_body(SDP, message.body.replace(old, new))
            return message

        pair.way = way
        pair.clear()
        pair.dial()
        if pair.bob.phone.state == "ringing":
            pair.answer()
        self.assertTrue(changed)
        return changed

    def test_sdp_key_changed_by_a_neighbour(self):
        """Its own key in the offer: Bob does not take it."""
        pair = self.pair
        old = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 setup:" + self.key.kid
        self.change(old, INLINE, b"alice")
        self.assertEqual(pair.told(pair.bob, "connected"), {})
        self.assertSilent()
        self.assertEqual(pair.told(pair.alice, "failed")["status"], 403)
        self.assertWell()

    def test_sdp_key_changed_in_the_answer(self):
        pair = self.pair
        old = b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 setup:" + self.key.kid
        self.change(old, INLINE, b"bob")
        self.assertEqual(pair.told(pair.alice, "connected"), {})
        self.assertTrue(not pair.alice.media.is_on)
        self.assertEqual(pair.told(pair.alice, "ended")["reason"], "wrong Setup-Key")
        self.assertWell()

    def test_sdp_profile_changed_by_a_neighbour(self):
        pair = self.pair
        for of in (b"alice", b"bob"):
            for old, new in (
                (b"RTP/SAVP 0", b"RTP/AVP 0"),
                (b"RTP/SAVP 0", b"RTP/SAVP 8"),
                (b"HMAC_SHA1_80", b"HMAC_SHA1_32"),
                (b"a=ptime:20\r\n", b"a=ptime:20\r\na=sendonly\r\n"),
                (b"m=audio ", b"m=audio 1 RTP/AVP 0\r\nm=audio "),
            ):
                self.change(old, new, of)
                self.assertEqual(pair.told(pair.alice, "connected"), {}, (of, new))
                self.assertEqual(pair.alice.phone.state, "idle")
                self.assertTrue(not pair.alice.media.is_on)
                pair.advance(70000)
                self.assertEqual(pair.bob.phone.state, "idle")
        self.assertWell()

    def test_address_changed_by_a_relay(self):
        """It must work: a relay is where the media goes, and can't read it."""
        pair = self.pair

        def way(sender, message):
            if message.body:
                body = message.body.replace(b"IN IP4 192.0.2", b"IN IP4 203.0.113").replace(
                    b"audio 40000", b"audio 5004"
                )
                message.set_body(SDP, body.replace(b"t=0 0\r\n", b"t=0 0\r\n") + b"a=rtcp:5005\r\n")
            return message

        pair.way = way
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        self.assertEqual(pair.alice.media.agreed.port, 5004)
        self.assertEqual(pair.alice.media.agreed.address[:8], b"203.0.11")
        self.assertEqual(pair.alice.keys(pair.bob)[0].key, pair.bob.keys(pair.alice)[0].key)

    def test_downgrade_by_stripping_the_header(self):
        """What is left offers no key that Bob could take; with one, Alice does not take the answer."""
        pair = self.pair
        offers = []

        def way(sender, message):
            message.fields = [field for field in message.fields if field[0] != "setup-key"]
            if message.body and sender is pair.alice:
                offers.append(message.body)
                sdp = Session.parse(message.body)
                sdp.media[0].lines[-1] = (b"a", INLINE[2:])
                message.set_body(SDP, sdp.serialize())
                if message.get("security-status"):
                    message.set("Security-Status", HEAVY % (b"sip:alice@a.example", b"a.example"))
            return message

        pair.way = way
        pair.dial()
        self.assertEqual(pair.told(pair.bob, "incoming")["by"], "neighbour heavy")  # as somebody who knows no keys
        pair.answer()
        self.assertEqual(pair.told(pair.alice, "connected"), {})
        self.assertEqual(pair.told(pair.alice, "ended")["reason"], "no Setup-Key")
        self.assertTrue(not pair.alice.media.is_on)
        pair.advance(70000)
        self.assertEqual(pair.bob.phone.state, "idle")
        self.assertEqual([one.kid for one in pair.alice.keys(pair.bob)], [self.key.kid])
        self.assertWell()

    def test_downgrade_within_a_call(self):
        """A call that has a key is not changed without."""
        pair = self.pair
        pair.dial()
        pair.answer()
        before = pair.bob.media.agreed

        def way(sender, message):
            message.fields = [field for field in message.fields if field[0] != "setup-key"]
            return message

        pair.way = way
        pair.alice.do(pair.alice.phone.hold, True, pair.now)
        pair.advance(1000)
        self.assertEqual(pair.told(pair.alice, "refused")["reason"], "403")
        self.assertTrue(pair.bob.media.agreed is before)
        pair.way = None
        pair.hang_up()
        self.assertWell()

    def test_another_key_within_a_call(self):
        """Nor is it changed under the name of another one, nor by who asks what we would offer."""
        pair = self.pair
        pair.dial()
        pair.answer()
        before = pair.bob.media.agreed

        def way(sender, message):
            if message.get("setup-key") is not None:
                message.set("Setup-Key", message.get("setup-key").replace(self.key.kid, b"0011223344556677"))
            return message

        pair.way = way
        pair.alice.do(pair.alice.phone.hold, True, pair.now)
        pair.advance(1000)
        self.assertEqual(pair.told(pair.alice, "refused")["reason"], "403")
        invite = anew(pair.requests("INVITE")[-1], 1000)
        header = SetupKey.parse(invite.get("setup-key"))
        header.kid, header.seq = self.key.kid, header.seq + 1
        sides = (pair.alice.aor, pair.bob.aor)
        header.mac = header.compute(mac_key(self.key.key), b"invite", sides, (invite.call_id, 1000))
        invite.set("Setup-Key", header.serialize())
        invite.set_body(b"", b"")
        self.assertEqual(self.send(invite), 488)
        self.assertTrue(pair.bob.media.agreed is before)

    def test_a_header_that_belongs_elsewhere(self):
        """Into a call that has no key one can't be brought."""
        pair = self.pair
        spare = self.invite()
        pair.alice.start()
        keystore.forget(pair.alice.folder, pair.bob.aor)
        pair.dial()
        pair.answer()

        def way(sender, message):
            if isinstance(message, Request) and message.method == "INVITE":
                message.set("Setup-Key", spare.get("setup-key"))
            return message

        pair.way = way
        pair.alice.do(pair.alice.phone.hold, True, pair.now)
        pair.advance(1000)
        self.assertEqual(pair.told(pair.alice, "refused")["reason"], "403")


class IdentityTest(AttackCase):
    def test_reflected_mac(self):
        """What Alice has sent comes back to her as if Bob called."""
        pair = self.pair
        invite = self.invite()
        pair.alice.start()
        for sender, to in (
            (b"<sip:alice@a.example>;tag=x", b"<sip:bob@b.example>"),
            (b"<sip:bob@b.example>;tag=x", b"<sip:alice@a.example>"),
        ):
            reflected = anew(invite)
            reflected.set("From", sender)
            reflected.set("To", to)
            pair.clear()
            pair.deliver(pair.bob, reflected)
            self.assertIn([one.status for _, one in pair.collect()], ([403], [428]))
            self.assertEqual(pair.told(pair.alice, "incoming"), {})

    def test_reflected_answer(self):
        """Alice's own MAC is no answer to her, nor is one that was made for another kind of message."""
        pair = self.pair
        for kind in (None, b"invite", b"bye-answer"):

            def way(sender, message, kind=kind):
                if sender is pair.bob and message.body:
                    asked = SetupKey.parse(pair.requests("INVITE")[-1].get("setup-key"))
                    if kind:
                        header = SetupKey(asked.kid, asked.seq, asked.nonce)
                        sides = (pair.alice.aor, pair.bob.aor)
                        call = (message.call_id, message.cseq.number)
                        header.mac = header.compute(mac_key(self.key.key), kind, sides, call, asked.nonce, message.body)
                        asked = header
                    message.set("Setup-Key", asked.serialize())
                return message

            pair.clear()
            pair.way = way
            pair.dial()
            pair.answer()
            self.assertEqual(pair.told(pair.alice, "connected"), {})
            self.assertEqual(pair.told(pair.alice, "ended")["reason"], "wrong Setup-Key")
            pair.way = None
            pair.advance(70000)
        self.assertWell()

    def test_an_answer_to_another_question(self):
        """By who has the key, but with another number, or under the name of another key."""
        pair = self.pair
        for name, value in (("seq", 1000), ("kid", b"0011223344556677")):

            def way(sender, message, name=name, value=value):
                if sender is pair.bob and message.body:
                    header = SetupKey.parse(message.get("setup-key"))
                    asked = SetupKey.parse(pair.requests("INVITE")[-1].get("setup-key"))
                    setattr(header, name, value)
                    sides = (pair.alice.aor, pair.bob.aor)
                    call = (message.call_id, message.cseq.number)
                    header.mac = header.compute(mac_key(self.key.key), ANSWER, sides, call, asked.nonce, message.body)
                    message.set("Setup-Key", header.serialize())
                return message

            pair.clear()
            pair.way = way
            pair.dial()
            pair.answer()
            self.assertEqual(pair.told(pair.alice, "connected"), {}, name)
            self.assertEqual(pair.told(pair.alice, "ended")["reason"], "wrong Setup-Key")
            pair.way = None
            pair.advance(70000)
        self.assertWell()

    def test_a_call_for_somebody_else(self):
        """Alice herself shows who she is to Carol, whose calls go to Bob: it is not him whom she means."""
        pair = self.pair
        invite = self.invite()
        header = SetupKey.parse(invite.get("setup-key"))
        invite.set("To", b"<sip:carol@b.example>")
        call = (invite.call_id, invite.cseq.number)
        sides = (pair.alice.aor, b"sip:carol@b.example")
        header.mac = header.compute(mac_key(self.key.key), b"invite", sides, call, b"-", invite.body)
        invite.set("Setup-Key", header.serialize())
        self.assertEqual(self.send(invite), 403)
        self.assertSilent()

    def test_swapped_identities(self):
        """The right MAC under another name."""
        pair = self.pair
        for name, value, statuses in (
            ("From", b"<sip:carol@a.example>;tag=x", (428,)),
            ("From", b"<sip:alice@b.example>;tag=x", (428,)),
            ("To", b"<sip:carol@b.example>", (403,)),
            ("To", b"<sip:alice@a.example>", (403,)),
            ("Call-ID", b"another", (403,)),
        ):
            pair.alice.start()
            invite = self.invite()
            invite.set(name, value)
            self.assertIn(self.send(anew(invite)), statuses)
            self.assertSilent()
        self.assertWell()

    def test_somebody_who_shares_a_key_is_not_somebody_else(self):
        """Carol has a key with Bob, too; with that she is Carol and nobody else."""
        pair = self.pair
        other = keystore.Key(bytes(32), self.key.end, 5)
        keystore.save(pair.bob.folder, b"sip:carol@c.example", [other], 0)
        invite = self.invite()
        header = SetupKey.parse(invite.get("setup-key"))
        header.kid = other.kid
        sides = (pair.alice.aor, pair.bob.aor)
        call = (invite.call_id, invite.cseq.number)
        body = invite.body.replace(self.key.kid, other.kid)
        invite.set_body(SDP, body)
        header.mac = header.compute(mac_key(other.key), b"invite", sides, call, b"-", body)
        invite.set("Setup-Key", header.serialize())
        self.assertEqual(self.send(invite), 428)
        self.assertSilent()

    def test_stolen_old_key_after_a_roll(self):
        """Whoever has the key of yesterday can't call, and can't answer."""
        pair = self.pair
        stolen = files(pair.alice.folder)
        pair.call()
        pair.call(pair.bob)
        pair.clear()
        keystore_of_thief = pair.alice.folder
        good = files(keystore_of_thief)
        for name, data in stolen.items():
            with open(keystore_of_thief + "/" + name, "wb") as file:
                file.write(data)
        for name in good:
            if name not in stolen:
                os.remove(keystore_of_thief + "/" + name)
        invite = self.invite()
        self.assertIn(self.key.kid, invite.body)
        self.assertEqual(self.send(invite), 428)
        self.assertSilent()

    def test_a_neighbour_that_lies_in_security_status(self):
        """It may say what it wants of a call that has a key, and has not made one so."""
        pair = self.pair

        def way(sender, message):
            lie = HEAVY % (b"sip:mallory@m.example", b"m.example")
            message.set("Security-Status", lie)
            return message

        pair.way = way
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        self.assertEqual(pair.told(pair.bob, "connected")["verified"], "sip:alice@a.example")
        self.assertEqual(pair.told(pair.alice, "connected")["verified"], "sip:bob@b.example")
        # Of a call that has none it can say anything; it is told as what it is, and whom it names gets no key.
        keystore.forget(pair.alice.folder, pair.bob.aor)
        keystore.forget(pair.bob.folder, pair.alice.aor)
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual(pair.told(pair.bob, "connected")["verified"], "sip:mallory@m.example")
        self.assertEqual((pair.alice.keys(pair.bob), pair.bob.keys(pair.alice)), ([], []))

    def test_a_neighbour_that_says_setup_key(self):
        pair = self.pair
        keystore.forget(pair.alice.folder, pair.bob.aor)
        pair.says = b'level=setup-key;verified="%s";by="%s"'
        real = pair._route

        def route(end, message):
            made = real(end, message)
            if made.get("security-status") is not None:
                made.set("Security-Status", b'level=setup-key;verified="%s"' % end.aor)
            return made

        pair.says = HEAVY
        pair._route = route
        self.assertEqual(pair.call(), (None, None))


class RefusalTest(AttackCase):
    def test_forged_428(self):
        """It costs the key nothing, and what is asked for instead is as much as the key stood for."""
        pair = self.pair
        forged = []

        def way(sender, message):
            if isinstance(message, Request) and message.method == "INVITE" and message.get("setup-key"):
                response = message.response(428, "Use Identity Header", b"forged")
                del response.fields[[key for key, _ in response.fields].index("via")]
                forged.append(response)
                pair.deliver(pair.bob, response)
                return None
            return message

        asked = []
        real = pair._route

        def route(end, message):
            if isinstance(message, Request) and message.method == "INVITE":
                asked.append(message.get("security-assist"))
            return real(end, message)

        pair._route = route
        pair.way = way
        pair.dial()
        pair.answer()
        self.assertEqual(len(forged), 1)
        self.assertEqual(asked, [None, b"sign, encrypt;level=heavy"])
        self.assertEqual(pair.told(pair.alice, "connected")["by"], "neighbour heavy")
        self.assertEqual([one.kid for one in pair.alice.keys(pair.bob)], [self.key.kid])
        pair.hang_up()
        self.assertWell()

    def test_428_without_end(self):
        pair = self.pair

        def way(sender, message):
            if isinstance(message, Request) and message.method == "INVITE":
                response = message.response(428, "Use Identity Header", b"forged")
                del response.fields[[key for key, _ in response.fields].index("via")]
                pair.deliver(pair.bob, response)
                return None
            return message

        pair.way = way
        pair.dial()
        self.assertEqual(len(pair.requests("INVITE")), 2)
        self.assertEqual(pair.told(pair.alice, "failed")["status"], 428)
        self.assertWell()

    def test_forged_200_to_bye(self):
        """It makes no key that the other side does not have."""
        pair = self.pair

        def way(sender, message):
            if not isinstance(message, Request) and message.cseq.method == "BYE":
                value = message.get("setup-key")
                header = SetupKey.parse(value)
                header.nonce = b"EBESExQVFhcYGRobHB0eHw=="
                message.set("Setup-Key", header.serialize())
            return message

        pair.way = way
        pair.call()
        self.assertEqual([one.kid for one in pair.alice.keys(pair.bob)], [self.key.kid])
        self.assertWell()

    def test_changed_bye(self):
        """It ends the call, as a neighbour always can, and leaves the key as it was."""
        pair = self.pair
        for old, new in ((b";life=", b";life=1"), (b";uses=", b";uses=1"), (b"mac=", b"mac=x")):

            def way(sender, message, old=old, new=new):
                if isinstance(message, Request) and message.method == "BYE":
                    message.set("Setup-Key", message.get("setup-key").replace(old, new))
                return message

            pair.way = way
            self.assertEqual(pair.call(), ("setup-key", "setup-key"))
            for end in pair.ends:
                self.assertEqual([one.kid for one in end.keys(pair.other(end))], [self.key.kid])
        self.assertWell()

    def resealed(self, message, kind, **changes):
        """Change a Setup-Key as only who has the key can."""
        header = SetupKey.parse(message.get("setup-key"))
        asked = (
            header if isinstance(message, Request) else SetupKey.parse(self.pair.requests("BYE")[-1].get("setup-key"))
        )
        for name, value in changes.items():
            setattr(header, name, value)
        sides = (message.from_.parsed_uri().aor(), message.to.parsed_uri().aor())
        nonce = b"-" if asked is header else asked.nonce
        header.mac = header.compute(mac_key(self.key.key), kind, sides, (message.call_id, message.cseq.number), nonce)
        message.set("Setup-Key", header.serialize())

    def test_a_number_that_was_used(self):
        """By who has the key: a BYE counts on, as every request does; and what it counted to is kept with the key."""
        pair = self.pair

        def way(sender, message):
            if isinstance(message, Request) and message.method == "BYE":
                self.resealed(message, b"bye", seq=pair.bob.phone.trust.seen)
            return message

        pair.way = way
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        self.assertEqual([one.kid for one in pair.bob.keys(pair.alice)], [self.key.kid])
        pair.way = None
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        bye = SetupKey.parse(pair.requests("BYE")[-1].get("setup-key"))
        self.assertEqual([(one.kid, one.seen) for one in pair.bob.keys(pair.alice)[1:]], [(self.key.kid, bye.seq)])
        self.assertWell()

    def test_a_bye_under_another_name(self):
        """The dialog is found by its tags, but the next key is Alice's alone, and Bob's."""
        pair = self.pair
        for name, value in (("From", b"<sip:carol@a.example>;tag="), ("To", b"<sip:carol@b.example>;tag=")):

            def way(sender, message, name=name, value=value):
                if isinstance(message, Request) and message.method == "BYE":
                    tag = message.get(name.lower()).rpartition(b"tag=")[2]
                    message.set(name, value + tag)
                    message = copy(message)
                    self.resealed(message, b"bye")
                return message

            pair.way = way
            pair.clear()
            self.assertEqual(pair.call(), ("setup-key", "setup-key"))
            self.assertEqual([one.kid for one in pair.bob.keys(pair.alice)], [self.key.kid])
        self.assertWell()

    def test_a_200_to_another_bye(self):
        """By who has the key, but with another number, or under the name of another key."""
        pair = self.pair
        for name, value in (("seq", 1000), ("kid", b"0011223344556677"), ("life", None)):

            def way(sender, message, name=name, value=value):
                if not isinstance(message, Request) and message.cseq.method == "BYE":
                    self.resealed(message, b"bye-answer", **{name: value})
                return message

            pair.way = way
            self.assertEqual(pair.call(), ("setup-key", "setup-key"))
            self.assertEqual([one.kid for one in pair.alice.keys(pair.bob)], [self.key.kid], name)
            pair.way = None
        self.assertWell()

    def test_without_an_ack(self):
        """A call that has not begun leaves no key, whoever hangs up."""
        pair = self.pair
        pair.way = lambda sender, one: None if isinstance(one, Request) and one.method == "ACK" else one
        for leaver in (pair.alice, None):
            pair.clear()
            pair.dial()
            pair.answer()
            self.assertEqual(pair.told(pair.bob, "connected"), {})
            if leaver:
                pair.hang_up(leaver)
            pair.advance(70000)
            [bye] = [one for one in pair.requests("BYE")]
            self.assertEqual(bye.get("setup-key") is None, not leaver)
            for end in pair.ends:
                self.assertEqual([one.kid for one in end.keys(pair.other(end))], [self.key.kid])
        self.assertWell()

    def test_a_key_that_is_not_that_of_the_call(self):
        """A BYE of a first call in a call with a key, and the other way round."""
        pair = self.pair

        def way(sender, message):
            if isinstance(message, Request) and message.method == "BYE":
                message.set("Setup-Key", message.get("setup-key").replace(self.key.kid, b"-"))
            return message

        pair.way = way
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        self.assertEqual([one.kid for one in pair.bob.keys(pair.alice)], [self.key.kid])
        self.assertWell()


class FloodTest(AttackCase):
    def test_flood_of_wrong_macs(self):
        """A fixed cost each: nothing written, nothing kept, nobody told; and the next call is good."""
        pair = self.pair
        invite = self.invite()
        pair.alice.start()
        header = SetupKey.parse(invite.get("setup-key"))
        before = files(pair.bob.folder)
        heap = []
        for i in range(200):
            wrong = anew(invite)
            wrong.set("Call-ID", b"flood-%d" % i)
            header.seq = 100 + i
            header.mac = SetupKey.compute(header, bytes(32), ANSWER, (b"", b""), (b"", i))
            wrong.set("Setup-Key", header.serialize())
            self.assertEqual(self.send(wrong), 403)
            pair.deliver(pair.alice, self.ack_of(wrong))
            if i % 50 == 49:
                gc.collect()
                heap.append(gc.mem_alloc())
        self.assertEqual(pair.bob.told, [])
        self.assertEqual(files(pair.bob.folder), before)
        self.assertEqual(pair.bob.phone.trust.unproven, 200)
        self.assertTrue(heap[-1] - heap[0] < 2000, heap)
        self.assertWell()

    @staticmethod
    def ack_of(invite):
        """As the neighbour's transaction sends it."""
        ack = copy(invite)
        ack.method = "ACK"
        ack.set("CSeq", b"%d ACK" % invite.cseq.number)
        ack.set("To", b"<sip:bob@b.example>;tag=any")
        ack.set_body(b"", b"")
        return ack

    def test_flood_in_a_call(self):
        """The call goes on as it is."""
        pair = self.pair
        pair.dial()
        pair.answer()
        before = pair.bob.media.agreed
        pair.alice.do(pair.alice.phone.hold, True, pair.now)
        pair.alice.do(pair.alice.handle_timer)
        [(_, invite)] = pair.collect()
        for i in range(1, 20):
            wrong = anew(invite, invite.cseq.number + i)
            self.assertEqual(self.send(wrong), 403)
            pair.deliver(pair.alice, self.ack_of(wrong))
        self.assertTrue(pair.bob.media.agreed is before)
        self.assertEqual(pair.bob.phone.state, "talking")


class HeaderTest(AttackCase):
    def test_malformed_headers(self):
        pair = self.pair
        good = self.invite()
        pair.alice.start()
        value = good.get("setup-key")
        for bad in (
            b"",
            b";",
            b"kid=x",
            value + b";;",
            value[:-9],
            value.replace(b"seq=1", b"seq=0"),
            value + b", " + value,
        ):
            invite = anew(good)
            invite.set("Setup-Key", bad)
            self.assertEqual(self.send(invite), 400, bad)
            self.assertSilent()
        twice = anew(good)
        twice.add("Setup-Key", value)
        self.assertEqual(self.send(twice), 400)
        self.assertSilent()
        self.assertWell()
