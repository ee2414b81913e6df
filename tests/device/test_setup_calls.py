"""Setup keys between two terminals (WIRE sections 4.1, 4.2 and 4.4)."""

import unittest

from pair import MEDIUM, Pair, files, remove

from sipwire.message import Request, parse
from sipwire.sdp import Session
from sipwire.setup import SetupKey
from sipwire.setup_keys import mac_key
from terminal import keystore, revoking
from terminal.addressing import told
from terminal.clock import Calendar
from terminal.negotiation import Negotiation

LIFE_S = 2592000


class PairCase(unittest.TestCase):
    def setUp(self):
        self.pairs = []
        self.pair = self.make()

    def make(self, *arguments, **changes):
        pair = Pair(*arguments, **changes)
        self.pairs.append(pair)
        return pair

    def tearDown(self):
        for pair in self.pairs:
            pair.close()

    def acquaint(self, pair=None):
        """A first call, which leaves a key; returns it."""
        pair = pair or self.pair
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        key = self.assertShared(pair)
        pair.clear()
        return key

    def assertShared(self, pair=None):
        """The newest key is the same at both ends; returns it."""
        pair = pair or self.pair
        mine, theirs = pair.alice.keys(pair.bob), pair.bob.keys(pair.alice)
        self.assertTrue(mine and theirs, (mine, theirs))
        self.assertEqual(mine[0].key, theirs[0].key)
        return mine[0]

    def assertNoKeys(self, *ends):
        for end in ends or self.pair.ends:
            self.assertEqual(end.keys(self.pair.other(end)), [])


class FirstCallTest(PairCase):
    def test_a_key_is_made(self):
        pair = self.pair
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        key = self.assertShared()
        self.assertEqual((key.uses, key.sent, key.seen), (10, 0, 0))
        self.assertEqual(pair.told(pair.bob, "connected")["verified"], "sip:alice@a.example")
        self.assertEqual(pair.told(pair.bob, "incoming")["by"], "neighbour heavy")
        for end in pair.ends:
            self.assertEqual(
                pair.told(end, "key"),
                {"event": "key", "peer": pair.other(end).aor.decode(), "life_s": LIFE_S, "uses": 10},
            )
        bye = pair.requests("BYE")[0]
        header = SetupKey.parse(bye.get("setup-key"))
        self.assertEqual((header.kid, header.seq, header.life, header.uses), (b"-", 1, LIFE_S, 10))
        self.assertEqual([one for one in pair.alice.told + pair.bob.told if "kid" in one or len(str(one)) > 400], [])

    def test_whoever_hangs_up(self):
        self.assertEqual(self.pair.call(leaver=self.pair.bob), ("neighbour heavy", "neighbour heavy"))
        self.assertShared()

    def test_whoever_calls(self):
        self.assertEqual(self.pair.call(self.pair.bob), ("neighbour heavy", "neighbour heavy"))
        self.assertShared()

    def test_less_than_is_demanded(self):
        for level, by in ((MEDIUM, "neighbour medium"), (b"", None)):
            pair = self.make(level)
            self.assertEqual(pair.call(), (by, by))
            self.assertEqual(pair.alice.keys(pair.bob) + pair.bob.keys(pair.alice), [])
            self.assertEqual([one for _, one in pair.passed if one.get("setup-key")], [])

    def test_one_side_demands_more(self):
        pair = self.make(MEDIUM, level="medium")
        pair.bob.config.setup["level"] = "heavy"
        self.assertEqual(pair.call(), ("neighbour medium", "neighbour medium"))
        self.assertEqual(pair.alice.keys(pair.bob) + pair.bob.keys(pair.alice), [])

    def test_medium_will_do_where_it_is_said_so(self):
        pair = self.make(MEDIUM, level="medium")
        self.assertEqual(pair.call(), ("neighbour medium", "neighbour medium"))
        self.assertShared(pair)
        self.assertEqual(pair.told(pair.bob, "connected")["verified"], "a.example")

    def test_somebody_else_has_answered(self):
        """Who was verified has to be whom we called."""
        for status in (
            b'level=heavy;verified="sip:carol@b.example";by="b.example";signed;encrypted;tls',
            b'level=heavy;verified="sip:bob@c.example";by="c.example";tls',
            b'level=heavy;by="c.example";tls',
            b'level=heavy;verified="bob";by="b.example";tls',
            b'level=heavy;verified="sip:bob@b.example',
            b"level=none",
            b"level=Heavy",
            b"",
        ):
            pair = self.make()

            def way(sender, message, pair=pair, status=status):
                if sender is pair.bob and message.get("security-status"):
                    message.set("Security-Status", status)
                return message

            pair.way = way
            pair.call()
            self.assertEqual(pair.alice.keys(pair.bob) + pair.bob.keys(pair.alice), [], status)

    def test_who_was_heard_first_is_vouched_for_and_who_answers_is_not(self):
        """What counts is said of the answer."""
        for status in (b"level=none", b'level=heavy;verified="sip:bob@b.example'):
            pair = self.make()

            def way(sender, message, pair=pair, status=status):
                if sender is pair.alice or not message.body:
                    return message
                early = parse(message.serialize())
                early.status, early.reason = 183, "Session Progress"
                message.set("Security-Status", status)
                return [early, message]

            pair.way = way
            pair.call()
            self.assertEqual(pair.told(pair.alice, "progress").get("media"), True)
            self.assertEqual(pair.alice.keys(pair.bob), [], status)

    def test_a_relay_that_has_its_own_keys(self):
        """Both ends agree with it, not with each other: the MAC fails, and no key is kept."""
        pair = self.pair

        def way(sender, message):
            if message.body and sender is pair.bob:
                sdp = Session.parse(message.body)
                line = sdp.media[0].cryptos()[0]
                line.keys[0].key_salt = bytes(30)
                sdp.media[0].lines = [one for one in sdp.media[0].lines if one[1][:6] != b"crypto"]
                sdp.media[0].lines.append((b"a", b"crypto:" + line.serialize()))
                message.set_body(b"application/sdp", sdp.serialize())
            return message

        pair.way = way
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        self.assertNoKeys()

    def test_none_is_wanted(self):
        for changes in ({"life_s": 0}, {"uses": 0}):
            pair = self.make(**changes)
            pair.call()
            self.assertEqual([one for _, one in pair.passed if one.get("setup-key")], [])
            self.assertEqual(pair.alice.keys(pair.bob), [])

    def test_the_smaller_of_two(self):
        pair = self.make()
        for mine, theirs in (((3600, 50), (7200, 3)), ((7200, 3), (3600, 50))):
            for end, (life_s, uses) in ((pair.alice, mine), (pair.bob, theirs)):
                end.config.setup["life_s"], end.config.setup["uses"] = life_s, uses
                keystore.forget(end.folder, pair.other(end).aor)
            pair.call()
            self.assertEqual(self.assertShared(pair).uses, 3)
            for end in pair.ends:
                peer = pair.other(end).aor.decode()
                self.assertEqual(pair.told(end, "key"), {"event": "key", "peer": peer, "life_s": 3600, "uses": 3})

    def test_nobody_knows_what_time_it_is(self):
        pair = self.pair
        pair.alice.calendar = pair.alice.phone.trust.calendar = Calendar()
        pair.call()
        self.assertNoKeys(pair.alice)

    def test_changes_of_a_first_call(self):
        """Its first keys make the setup key, however many others it has had since."""
        pair = self.pair
        pair.dial()
        pair.answer()
        for end, is_held in ((pair.alice, True), (pair.alice, False), (pair.bob, True)):
            end.do(end.phone.hold, is_held, pair.now)
            pair.advance(1000)
            self.assertEqual(pair.told(end, "hold")["local"], is_held)
        pair.hang_up()
        pair.advance(70000)
        self.assertShared()


class LaterCallTest(PairCase):
    def test_each_has_another_key(self):
        pair = self.pair
        kids = [self.acquaint().kid]
        for i in range(6):
            caller = pair.ends[i % 2]
            leaver = pair.ends[i // 2 % 2]
            self.assertEqual(pair.call(caller, leaver), ("setup-key", "setup-key"))
            self.assertEqual(pair.told(pair.bob, "connected")["verified"], "sip:alice@a.example")
            kids.append(self.assertShared().kid)
            self.assertEqual(len(leaver.keys(pair.other(leaver))), 1)
        self.assertEqual(len(set(kids)), 7)

    def test_nothing_but_the_name_is_told(self):
        pair = self.pair
        key = self.acquaint()
        pair.dial()
        invite = pair.passed[0][1]
        self.assertIn(b"a=crypto:1 AES_CM_128_HMAC_SHA1_80 setup:" + key.kid, invite.body)
        self.assertNotIn(b"inline", invite.body)
        pair.answer()
        _, ok = pair.passed[-2]
        self.assertIn(b"setup:" + key.kid, ok.body)
        self.assertNotIn(b"inline", ok.body)
        alice, bob = pair.alice.media.agreed, pair.bob.media.agreed
        self.assertEqual((alice.local_key, alice.remote_key), (bob.remote_key, bob.local_key))
        self.assertNotEqual(alice.local_key, alice.remote_key)
        self.assertEqual(len(alice.local_key), 30)

    def test_early_media(self):
        """It is heard where it shows the key, and not else; the answer counts either way."""
        pair = self.pair
        self.acquaint()
        for is_shown in (True, None):

            def way(sender, message, is_shown=is_shown):
                if sender is pair.alice or not message.body:
                    return message
                early = parse(message.serialize())
                early.status, early.reason = 183, "Session Progress"
                if not is_shown:
                    early.set("Setup-Key", early.get("setup-key").replace(b"seq=", b"seq=1"))
                return [early, message]

            pair.clear()
            pair.way = way
            self.assertEqual(pair.call(), ("setup-key", "setup-key"))
            heard = [one.get("media") for one in pair.alice.told if one["event"] == "progress" and one["status"] == 183]
            self.assertEqual(heard, [is_shown])
            self.assertShared()

    def test_hold_and_resume(self):
        pair = self.pair
        self.acquaint()
        pair.dial()
        pair.answer()
        seen = [pair.alice.media.agreed.local_key]
        for end, is_held in ((pair.alice, True), (pair.alice, False), (pair.bob, True), (pair.bob, False)):
            end.do(end.phone.hold, is_held, pair.now)
            pair.advance(1000)
            alice, bob = pair.alice.media.agreed, pair.bob.media.agreed
            self.assertEqual((alice.local_key, alice.remote_key), (bob.remote_key, bob.local_key))
            seen.append(alice.local_key)
            self.assertEqual(pair.told(end, "refused"), {})
        self.assertEqual(len(set(seen)), 5)
        pair.hang_up(pair.bob)
        pair.advance(70000)
        self.assertShared()

    def test_more_changes_than_numbers_are_taken_at_a_time(self):
        pair = self.pair
        self.acquaint()
        pair.dial()
        pair.answer()
        for i in range(20):
            pair.alice.do(pair.alice.phone.hold, i % 2 == 0, pair.now)
            pair.advance(500)
        self.assertEqual(pair.told(pair.alice, "refused"), {})
        self.assertTrue(pair.alice.keys(pair.bob)[0].sent >= 21)
        pair.hang_up()
        pair.advance(70000)
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))

    def test_writings(self):
        """Of the flash: two at each end in a call."""
        pair = self.pair
        self.acquaint()
        for caller in pair.ends:
            for leaver in pair.ends:
                before = [generation(end) for end in pair.ends]
                # One more where the caller has an old key to forget: the other side has hung up the last time.
                expected = [2 + (end is caller and len(end.keys(pair.other(end))) - 1) for end in pair.ends]
                pair.call(caller, leaver)
                self.assertEqual([generation(end) - old for end, old in zip(pair.ends, before)], expected)

    def test_both_keys_until_the_new_one_is_used(self):
        """The 200 to BYE is lost: one side has the old key alone, the other both, and every call goes through."""
        pair = self.pair
        old = self.acquaint()
        self.lose_the_answer_to_bye()
        self.assertEqual([key.kid for key in pair.alice.keys(pair.bob)], [old.kid])
        self.assertEqual([key.kid for key in pair.bob.keys(pair.alice)][1:], [old.kid])
        self.assertEqual(pair.call(pair.alice), ("setup-key", "setup-key"))
        self.assertShared()

    def test_the_old_key_goes_when_the_new_one_is_used(self):
        """At once, and not with the end of the call."""
        pair = self.pair
        for caller in pair.ends:
            if not pair.alice.keys(pair.bob):
                self.acquaint()
            pair.call(pair.bob, pair.alice)
            self.assertEqual([len(end.keys(pair.other(end))) for end in pair.ends], [1, 2])
            pair.dial(caller)
            pair.answer(pair.other(caller))
            self.assertEqual([len(end.keys(pair.other(end))) for end in pair.ends], [1, 1])
            pair.hang_up()
            pair.advance(70000)

    def test_the_new_key_that_the_other_side_never_got(self):
        pair = self.pair
        self.acquaint()
        self.lose_the_answer_to_bye()
        pair.clear()
        self.assertEqual(pair.call(pair.bob), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual(pair.statuses()[0], 428)
        self.assertShared()
        self.assertEqual(pair.call(pair.bob), ("setup-key", "setup-key"))

    def lose_the_answer_to_bye(self):
        pair = self.pair
        pair.way = lambda sender, one: None if not isinstance(one, Request) and one.cseq.method == "BYE" else one
        self.assertEqual(pair.call(pair.alice, pair.alice), ("setup-key", "setup-key"))
        pair.way = None

    def test_lost_bye(self):
        pair = self.pair
        old = self.acquaint()
        pair.way = lambda sender, one: None if isinstance(one, Request) and one.method == "BYE" else one
        pair.dial()
        pair.answer()
        pair.hang_up()
        pair.advance(70000)
        pair.way = None
        pair.hang_up(pair.bob)
        pair.advance(70000)
        for end in pair.ends:
            self.assertEqual([key.kid for key in end.keys(pair.other(end))], [old.kid])
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        self.assertShared()

    def test_both_hang_up_at_once(self):
        for acquainted in (False, True):
            pair = self.make()
            old = self.acquaint(pair) if acquainted else None
            pair.dial()
            pair.answer()
            pair.alice.do(pair.alice.phone.hang_up, pair.now)
            pair.bob.do(pair.bob.phone.hang_up, pair.now)
            pair.advance(70000)
            for end in pair.ends:
                self.assertEqual([key.kid for key in end.keys(pair.other(end))], [old.kid] if old else [])
            by = "setup-key" if old else "neighbour heavy"
            self.assertEqual(pair.call(), (by, by))
            self.assertShared(pair)

    def test_crossing_calls(self):
        """Both call at once: both are busy, and nothing is spoiled."""
        pair = self.pair
        self.acquaint()
        pair.alice.do(pair.alice.phone.dial, "sip:bob@b.example", pair.now)
        pair.bob.do(pair.bob.phone.dial, "sip:alice@a.example", pair.now)
        pair.advance(1000)
        for end in pair.ends:
            self.assertEqual(pair.told(end, "failed")["status"], 486)
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        self.assertEqual(pair.call(pair.bob), ("setup-key", "setup-key"))

    def test_a_crossing_bye_and_call(self):
        """A call begins with the old key while the new one is being agreed on."""
        pair = self.pair
        self.acquaint()
        pair.dial()
        pair.answer()
        held = []

        def way(sender, one):
            if not isinstance(one, Request) and one.cseq.method == "BYE":
                held.append(one)
                return None
            return one

        pair.way = way
        pair.hang_up()
        pair.dial()
        pair.way = None
        pair.deliver(pair.bob, held[0])
        pair.answer()
        self.assertEqual([pair.told(end, "connected")["by"] for end in pair.ends], ["setup-key", "setup-key"])
        pair.advance(1000)
        pair.hang_up(pair.bob)
        pair.advance(70000)
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        self.assertShared()


class EndTest(PairCase):
    def test_what_is_left(self):
        """Each key has what is left of the one before: the neighbours are asked again in the end."""
        pair = self.make(life_s=100000, uses=3)
        self.acquaint(pair)
        by = []
        for i in range(8):
            pair.clear()
            by.append(pair.call(pair.ends[i % 2], pair.ends[i // 2 % 2])[0])
            keys = pair.alice.keys(pair.bob)
            self.assertEqual(keys[0].uses if keys else 0, (2, 1, 0, 3)[i % 4])
            if not keys:
                self.assertEqual(pair.bob.keys(pair.alice), [])
                for end in pair.ends:
                    self.assertEqual(pair.told(end, "forgotten")["by"], "end")
        self.assertEqual(by, (["setup-key"] * 3 + ["neighbour heavy"]) * 2)

    def test_life_is_over(self):
        pair = self.make(life_s=600)
        self.acquaint(pair)
        pair.advance(300000)
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))
        end = pair.alice.keys(pair.bob)[0].end
        self.assertTrue(end <= pair.alice.calendar.seconds(pair.now) + 300)
        pair.advance(301000)
        pair.clear()
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual([one for _, one in pair.passed if one.get("setup-key") and one.body], [])

    def test_clocks_that_differ(self):
        """At one end the life of the key is over already: 428, and the call goes through with help."""
        pair = self.make(life_s=600)
        self.acquaint(pair)
        pair.bob.skew_s = 900
        pair.bob.start()
        pair.clear()
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual(pair.statuses()[0], 428)
        self.assertShared(pair)
        self.assertEqual(pair.call(), ("setup-key", "setup-key"))

    def test_used_up(self):
        """Calls that fail use a key up: nobody has ended them with a new one."""
        pair = self.make(uses=3)
        self.acquaint(pair)
        for _ in range(3):
            pair.dial()
            pair.bob.do(pair.bob.phone.reject, pair.now)
            pair.advance(70000)
        pair.clear()
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual([one for _, one in pair.passed if one.get("setup-key") and one.body], [])

    def test_used_up_at_the_other_end(self):
        pair = self.make(uses=2)
        self.acquaint(pair)
        for _ in range(2):
            pair.dial(pair.bob)
            pair.alice.do(pair.alice.phone.reject, pair.now)
            pair.advance(70000)
        keys = pair.bob.keys(pair.alice)
        keys[0].uses = 1
        keystore.save(pair.bob.folder, pair.alice.aor, keys, 0)
        pair.clear()
        self.assertEqual(pair.call(pair.bob), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual(pair.statuses()[0], 428)

    def test_one_end_has_lost_its_keys(self):
        pair = self.pair
        for forgetful in pair.ends:
            for caller in pair.ends:
                self.acquaint() if not pair.alice.keys(pair.bob) else None
                remove(forgetful.folder)
                pair.clear()
                self.assertEqual(pair.call(caller), ("neighbour heavy", "neighbour heavy"))
                self.assertShared()
                self.assertEqual(pair.call(caller), ("setup-key", "setup-key"))

    def test_somebody_who_knows_no_such_keys(self):
        """The peer has a phone now: it finds no key in our offer that it could use."""
        pair = self.pair
        self.acquaint()
        remove(pair.bob.folder)

        def way(sender, one):
            if sender is pair.alice:
                one.fields = [field for field in one.fields if field[0] != "setup-key"]
            return one

        pair.way = way
        self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual(pair.statuses()[0], 488)

    def test_it_asks_for_as_much_as_the_key_stood_for(self):
        pair = self.pair
        self.acquaint()
        remove(pair.bob.folder)
        asked = []
        real = pair._route

        def route(end, message):
            asked.extend(message.get_all("security-assist"))
            return real(end, message)

        pair._route = route
        pair.call()
        self.assertEqual(asked, [b"sign, encrypt;level=heavy"])

    def test_a_restart_in_a_call(self):
        pair = self.pair
        for end in pair.ends:
            for caller in pair.ends:
                if not pair.alice.keys(pair.bob):
                    self.acquaint()
                pair.dial(caller)
                pair.answer(pair.other(caller))
                end.start()
                pair.hang_up(pair.other(end))
                pair.advance(70000)
                self.assertEqual(pair.call(caller), ("setup-key", "setup-key"))
                self.assertShared()

    def test_no_memory_to_ring(self):
        """The INVITE has been taken, and the phone can't ring: its caller repeats it, and that is no replay."""
        pair = self.pair
        self.acquaint()
        real = Negotiation.read

        def read(session, request):
            Negotiation.read = real
            raise MemoryError("told")

        Negotiation.read = read
        try:
            with self.assertRaises(MemoryError):
                pair.dial()
        finally:
            Negotiation.read = real
        uses = pair.bob.keys(pair.alice)[0].uses
        pair.advance(1000)
        self.assertEqual(pair.bob.phone.state, "ringing")
        self.assertEqual(pair.bob.keys(pair.alice)[0].uses, uses)
        pair.answer()
        self.assertEqual([pair.told(end, "connected")["by"] for end in pair.ends], ["setup-key", "setup-key"])

    def test_no_room_in_the_flash(self):
        """What can't be written down is not used: the call goes through with the neighbours' help."""
        pair = self.pair
        real = keystore.save
        for full in pair.ends:
            for caller in pair.ends:
                remove(pair.alice.folder)
                remove(pair.bob.folder)
                key = self.acquaint()

                def fail(folder, *arguments, full=full):
                    if folder == full.folder:
                        raise OSError(28)
                    real(folder, *arguments)

                try:
                    keystore.save = fail
                    self.assertEqual(pair.call(caller), ("neighbour heavy", "neighbour heavy"))
                finally:
                    keystore.save = real
                self.assertEqual([one.kid for one in full.keys(pair.other(full))], [key.kid])
                self.assertEqual(pair.told(full, "error")["reason"][:5], "keys:")
                pair.clear()


class RevocationTest(PairCase):
    def revoke(self, end=None, is_open=True):
        end = end or self.pair.alice
        other = self.pair.other(end)
        end.do(revoking.revoke, end.config, end.agent, other.aor, self.pair.now, is_open, told)

    def test_both_sides_forget(self):
        pair = self.pair
        for end in pair.ends:
            if not pair.alice.keys(pair.bob):
                self.acquaint()
            pair.clear()
            self.revoke(end)
            pair.step()
            self.assertNoKeys()
            message = pair.passed[0][1]
            self.assertEqual((message.method, message.body, message.get("content-type")), ("MESSAGE", b"", None))
            header = SetupKey.parse(message.get("setup-key"))
            self.assertEqual((header.life, header.uses), (0, 0))
            self.assertEqual(pair.told(end, "forgotten"), {"event": "forgotten", "peer": pair.other(end).aor.decode()})
            self.assertEqual(pair.told(pair.other(end), "forgotten")["by"], "peer")
            self.assertEqual(pair.told(end, "sent")["peer"], pair.other(end).aor.decode())
            self.assertEqual([files(one.folder) for one in pair.ends], [{}, {}])
            pair.advance(70000)
            self.assertEqual(pair.call(), ("neighbour heavy", "neighbour heavy"))

    def test_a_message_that_is_lost(self):
        """Who has taken trust back takes no call with that key, whoever has heard of it."""
        pair = self.pair
        key = self.acquaint()
        pair.way = lambda sender, one: None
        self.revoke()
        pair.advance(70000)
        pair.way = None
        pair.clear()
        self.assertEqual([one.kid for one in pair.bob.keys(pair.alice)], [key.kid])
        self.assertEqual(pair.call(pair.bob), ("neighbour heavy", "neighbour heavy"))
        self.assertEqual(pair.statuses()[0], 428)

    def test_without_a_neighbour(self):
        self.acquaint()
        self.revoke(is_open=False)
        self.pair.step()
        self.assertNoKeys(self.pair.alice)
        self.assertEqual(self.pair.passed, [])

    def test_nobody_to_forget(self):
        self.revoke()
        self.assertEqual(
            self.pair.told(self.pair.alice, "refused"), {"event": "refused", "command": "forget", "reason": "no key"}
        )

    def test_in_a_call(self):
        """It goes on, and leaves no key."""
        pair = self.pair
        for end in pair.ends:
            for leaver in pair.ends:
                if not pair.alice.keys(pair.bob):
                    self.acquaint()
                pair.dial()
                pair.answer()
                self.revoke(end)
                pair.step()
                pair.alice.do(pair.alice.phone.hold, True, pair.now)
                pair.advance(1000)
                self.assertEqual(pair.told(pair.alice, "hold")["local"], True)
                pair.hang_up(leaver)
                pair.advance(70000)
                self.assertNoKeys()

    def test_forged(self):
        pair = self.pair
        key = self.acquaint()
        self.revoke()
        [(_, message)] = pair.collect()
        keystore.save(pair.alice.folder, pair.bob.aor, [key], 0)
        good = message.get("setup-key")
        header = SetupKey.parse(good)
        for bad, status in (
            (good.replace(b"life=0;uses=0", b"life=1;uses=0"), 403),
            (good.replace(b"seq=1", b"seq=2"), 403),
            (good.replace(header.mac, b"A" + header.mac[1:] if header.mac[:1] != b"A" else b"B" + header.mac[1:]), 403),
            (good.replace(key.kid, b"0011223344556677"), 428),
            (good.replace(b"seq=1", b"seq=0"), 400),
            (b"x", 400),
        ):
            message.set("Setup-Key", bad)
            message.set("CSeq", b"%d MESSAGE" % message.cseq.number)
            message.fields[[name for name, _ in message.fields].index("via")] = (
                "via",
                b"Via: SIP/2.0/TLS n;branch=z9hG4bK%d" % (pair.now + len(pair.passed)),
            )
            pair.clear()
            pair.deliver(pair.alice, message)
            pair.now += 1
            pair.step()
            self.assertEqual(pair.statuses(), [status], bad)
            self.assertShared()
        self.assertEqual(pair.bob.phone.trust.unproven, 3)

    def test_by_who_has_the_key(self):
        """A number that was used, what takes nothing back, and what is said to somebody else."""
        pair = self.pair
        key = self.acquaint()
        key.seen = 5
        keystore.save(pair.bob.folder, pair.alice.aor, [key], 0)
        self.revoke()
        [(_, message)] = pair.collect()
        keystore.save(pair.alice.folder, pair.bob.aor, [key], 0)
        for number, (seq, life, uses, user, status) in enumerate(
            (
                (5, 0, 0, b"bob", 403),
                (6, 1, 0, b"bob", 403),
                (6, 0, 1, b"bob", 403),
                (6, 0, 0, b"carol", 403),
                (6, 0, 0, b"bob", 200),
            )
        ):
            one = parse(message.serialize())
            one.set("To", b"<sip:%s@b.example>" % user)
            via = b"Via: SIP/2.0/TLS n;branch=z9hG4bKn%d" % number
            one.fields[[name for name, _ in one.fields].index("via")] = ("via", via)
            header = SetupKey.make(key.kid, seq, bytes(16), life, uses)
            call = (one.call_id, one.cseq.number)
            header.mac = header.compute(mac_key(key.key), b"revoke", (pair.alice.aor, b"sip:%s@b.example" % user), call)
            one.set("Setup-Key", header.serialize())
            pair.clear()
            pair.deliver(pair.alice, one)
            pair.step()
            self.assertEqual(pair.statuses(), [status], number)
        self.assertNoKeys(pair.bob)


def generation(end):
    """How often the keys of an end have been written."""
    return max([int.from_bytes(data[2:6], "big") for data in files(end.folder).values()])
