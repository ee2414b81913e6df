"""Keys at registration (WIRE section 4.3), and what day it is."""

import os
import unittest
from binascii import hexlify

from far import request
from pair import FOLDER, remove
from scripted import DATE_S, WorldCase

from sipwire.introduction import SETUP_KEYS, Introduction, write_keys
from terminal import keystore
from terminal.keystore import Key

BOB, CAROL = b"sip:bob@b.example", b"sip:carol@c.example"
KEY = bytes(range(32))


class IntroductionsCase(WorldCase):
    def setUp(self):
        self.folder = FOLDER + hexlify(os.urandom(6)).decode()
        super().setUp()

    @staticmethod
    def begin(world):
        """Register, and leave the refresh that may follow at once to the test."""
        request, agreement = world.prove()
        world.deliver(world.welcome(request, agreement), agreement)
        world.agreement = agreement

    def make(self, **setup):
        world = self.start_anew(setup=setup)
        world.config.keys = self.folder
        return world

    def tearDown(self):
        remove(self.folder)
        super().tearDown()

    def message(self, body, sender=b"<sip:a.example>;tag=n", to=b"<sip:alice@a.example>", number=1):
        made = request("MESSAGE", b"keys-%d" % number, sender, to, 1)
        made.set_body(SETUP_KEYS, body)
        return made

    def keys(self, aor=BOB):
        return [one.key for one in keystore.load(self.folder, aor)]

    def registers(self):
        return [one.message for one in self.world.take() if one.message]

    def refresh(self, **changes):
        """The next REGISTER, answered."""
        world = self.world
        world.tends = False
        world.advance(max(0, world.registration.timer_at - world.now))
        while True:
            for one in world.take():
                if one.message is None:
                    world.deliver(b"")
                else:
                    response = world.granted(one.message)
                    if changes:
                        response.set_body(SETUP_KEYS, changes["body"])
                    world.deliver(response)
                    return one.message
            world.advance(max(1, world.registration.timer_at - world.now))


class WantedTest(IntroductionsCase):
    def test_nobody(self):
        world = self.make()
        world.register()
        self.assertEqual(self.refresh().get("setup-peers"), None)

    def test_at_once_after_the_first_200(self):
        world = self.make(peers=["sip:bob@B.example", "sips:carol@c.example:5061"], life_s=600, uses=3)
        request, agreement = world.prove()
        world.deliver(world.welcome(request, agreement), agreement)
        world.agreement = agreement
        self.assertEqual(request.get("setup-peers"), None)  # it goes plain
        world.advance(0)
        [again] = self.registers()
        wanted = b"<sip:bob@b.example>;life=600;uses=3, <sip:carol@c.example>;life=600;uses=3"
        self.assertEqual(again.get("setup-peers"), wanted)
        world.deliver(world.granted(again))
        self.assertEqual(self.refresh().get("setup-peers"), wanted)  # as long as there is none

    def test_who_is_known_is_not_wanted(self):
        world = self.make(peers=["sip:bob@b.example", "sip:carol@c.example"])
        keystore.save(self.folder, BOB, [Key(KEY, DATE_S + 86400, 1)], DATE_S)
        keystore.save(self.folder, CAROL, [Key(KEY, DATE_S - 1, 1)], DATE_S)
        self.begin(world)
        self.assertEqual(self.refresh().get("setup-peers"), b"<sip:carol@c.example>;life=2592000;uses=10")

    def test_none_are_kept(self):
        world = self.make(peers=["bob"], life_s=0)
        self.begin(world)
        self.assertEqual(self.refresh().get("setup-peers"), None)


class TakenTest(IntroductionsCase):
    def setUp(self):
        super().setUp()
        self.make().register()

    def send(self, message):
        world = self.world
        world.deliver(message)
        return world.take_status()

    def test_in_a_message(self):
        body = write_keys([Introduction(BOB, KEY, 600, 3), Introduction(CAROL, KEY, 60, 99999)])
        self.assertEqual(self.send(self.message(body)), 200)
        [key] = keystore.load(self.folder, BOB)
        self.assertEqual((key.key, key.end - DATE_S, key.uses, key.seen), (KEY, 600, 3, 0))
        self.assertEqual(keystore.load(self.folder, CAROL)[0].uses, 65535)
        told = self.world.printed.take()
        self.assertEqual(
            told[0], {"event": "key", "peer": "sip:bob@b.example", "life_s": 600, "uses": 3, "by": "neighbour"}
        )
        self.assertEqual(self.send(self.message(body, number=2)), 200)  # once more: nothing new
        self.assertEqual((self.keys(), self.world.printed.take()), ([KEY], []))

    def test_in_the_answer_to_a_register(self):
        self.refresh(body=write_keys([Introduction(BOB, KEY, 600, 3)]))
        self.assertEqual(self.keys(), [KEY])

    def test_malformed_in_the_answer_to_a_register(self):
        self.refresh(body=b"x")
        self.assertEqual(self.keys(), [])
        self.assertEqual(self.world.registration.state, "registered")
        self.assertEqual(self.world.printed.take()[-1]["event"], "error")

    def test_behind_the_one_that_is_in_use(self):
        keystore.save(
            self.folder, BOB, [Key(bytes(32), DATE_S + 600, 1), Key(bytes([1]) * 32, DATE_S + 600, 1)], DATE_S
        )
        self.send(self.message(write_keys([Introduction(BOB, KEY, 600, 3)])))
        self.assertEqual(self.keys(), [bytes(32), KEY])

    def test_from_somebody_else(self):
        body = write_keys([Introduction(BOB, KEY, 600, 3)])
        for sender in (b"<sip:bob@b.example>;tag=n", b"<sip:b.example>;tag=n", b"<sip:x@a.example>;tag=n"):
            self.assertEqual(self.send(self.message(body, sender, number=len(sender))), 403)
        self.assertEqual(self.send(self.message(body, to=b"<sip:carol@a.example>", number=9)), 404)
        self.assertEqual(self.keys(), [])

    def test_malformed(self):
        for i, body in enumerate((b"x", write_keys([Introduction(BOB, KEY, 600, 3)])[:-2], b"\r\n")):
            self.assertEqual(self.send(self.message(body, number=20 + i)), 400)
        self.assertEqual(self.keys(), [])

    def test_no_room(self):
        real = keystore.save

        def fail(*arguments):
            raise OSError(28)

        keystore.save = fail
        try:
            self.assertEqual(self.send(self.message(write_keys([Introduction(BOB, KEY, 600, 3)]))), 500)
        finally:
            keystore.save = real
        self.assertEqual(self.keys(), [])


class DateTest(IntroductionsCase):
    def test_the_neighbours_clock(self):
        world = self.world
        self.assertEqual(world.calendar.seconds(world.now), DATE_S)
        self.assertEqual(world.calendar.seconds(world.now + 999), DATE_S)
        self.assertEqual(world.calendar.seconds(world.now + 86400000), DATE_S + 86400)

    def test_none_and_malformed(self):
        for date in (None, b"x", b"Sat, 22 Nov 2026 12:00:00 GMT"):
            world = self.make()
            request, agreement = world.prove()
            response = world.welcome(request, agreement)
            response.fields = [field for field in response.fields if field[0] != "date"]
            if date:
                response.add("Date", date)
            world.deliver(response, agreement)
            self.assertEqual(world.registration.state, "registered")
            self.assertEqual(world.calendar.seconds(world.now), None)


if __name__ == "__main__":
    unittest.main()
