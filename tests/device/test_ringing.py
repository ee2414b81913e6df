"""The tone of a call that nobody has answered yet: of the media, of the phone, and of the whole terminal."""

import errno
import struct
import sys
import unittest

from far import accept, answer, branch, early, invite
from scripted import WorldCase
from streamed import FRAME_MS, Case, speech
from whole import WholeCase

NOTHING = bytes(320)


def tones(pcm):
    """The frequency in Hz of 20 ms of sound, by how often it rises through zero, and its highest sample."""
    samples = struct.unpack("<160h", pcm)
    rises = len([1 for i in range(160) if samples[i - 1] < 0 <= samples[i]])
    return rises * 50, max(samples)


class ToneTest(Case):
    def ring(self, ms):
        self.media.ring(self.now)
        self.run_for(ms)

    def assertSilent(self):
        """It rings no more, and nothing of it is left."""
        before = len(self.audio.heard)
        self.run_for(10000)
        self.assertEqual((len(self.audio.heard), self.audio.log[-1:]), (before, ["stop"]))
        self.assertIsNone(self.media.timer_at)
        self.assertFalse("terminal.ringing" in sys.modules)

    def test_cadence(self):
        """A second of 400 Hz in five, 20 ms at a time."""
        played = []
        self.audio.write = lambda pcm: played.append((self.now, bytes(pcm)))
        start = self.now
        self.ring(12000)
        self.assertEqual([when for when, _ in played], [start + FRAME_MS * i for i in range(601)])
        for i, (_, pcm) in enumerate(played):
            if i % 250 < 50:
                self.assertEqual(tones(pcm)[0], 400)
                self.assertTrue(4000 < tones(pcm)[1] < 16000)
            else:
                self.assertEqual(pcm, NOTHING)
        self.assertEqual(self.audio.log, ["start"])

    def test_ends(self):
        for end in (self.media.quiet, self.media.stop, lambda: self.media.quiet(self.now)):
            self.ring(300)
            end()
            self.assertSilent()
        self.assertEqual(self.audio.log, ["start", "stop"] * 3)
        self.assertIsNone(self.media.stop())

    def test_ends_where_media_begins(self):
        """Its speaker is free then."""
        self.ring(300)
        self.start(speech())
        self.assertEqual(self.audio.log, ["start", "stop", "start"])
        self.run_for(1000)
        self.assertEqual(self.audio.heard[-1][:2], self.audio.heard[-40][:2])  # what sounds like nothing
        self.assertEqual(len(self.sent(0)), 50)

    def test_not_beside_media(self):
        self.start(speech())
        self.ring(1000)
        self.assertEqual(self.audio.log, ["start"])
        self.assertEqual(len(self.sent(0)), 50)
        self.media.stop()
        self.assertSilent()

    def test_again(self):
        """Told twice it rings once, and each call begins with a tone."""
        self.ring(3000)
        self.ring(300)
        self.assertEqual(self.audio.heard[-1], NOTHING)
        self.media.quiet()
        self.ring(20)
        self.assertEqual(tones(self.audio.heard[-1])[0], 400)
        self.assertEqual(self.audio.log, ["start", "stop", "start"])

    def test_ended_before_it_began(self):
        self.media.ring(self.now)
        self.media.quiet()
        self.run_for(1000)
        self.assertEqual((self.audio.log, self.audio.heard), ([], []))

    def test_busy_loop(self):
        """What could not be played in time is left out, and not played in a burst."""
        self.ring(100)
        before = len(self.audio.heard)
        self.now += 3000
        self.media.handle_timer(self.now)
        self.assertEqual(len(self.audio.heard), before + 1)
        self.run_for(100)
        self.assertEqual(len(self.audio.heard), before + 6)

    def test_no_speaker(self):
        """It is no harm: nothing raises, and a call can follow."""
        for name in ("start", "write"):
            for error in (OSError(errno.ENODEV), ValueError("pins"), MemoryError("told")):
                self.again()
                self.audio.broken = {name: error}
                self.ring(1000)
                self.assertSilent_after_failure()
                self.audio.broken = {}
                self.start(speech())
                self.run_for(100)
                self.assertEqual(len(self.sent(0)), 5)

    def assertSilent_after_failure(self):
        self.assertEqual((self.audio.log, self.media.timer_at), (["start", "stop"], None))
        self.assertIsNone(self.media.stop())
        self.assertFalse("terminal.ringing" in sys.modules)

    def test_speaker_that_does_not_stop(self):
        self.audio.broken = {"stop": OSError(errno.EIO)}
        self.ring(100)
        self.media.quiet()
        self.assertSilent()


class PhoneTest(WorldCase):
    """When it rings: as the phone says."""

    def setUp(self):
        super().setUp()
        self.start_anew(ring=True).register()

    def assertRings(self, rings=True):
        self.assertEqual(self.world.media.rings, rings)

    def call(self):
        """A call of ours that rings at the other side."""
        world = self.world
        sent = world.dial()
        self.assertRings(False)
        world.deliver(answer(sent, 100))
        self.assertRings(False)
        world.deliver(answer(sent, 180))
        self.assertRings()
        return sent

    def test_called(self):
        """Until it is answered, rejected, cancelled, given up, or nobody is there any more."""
        world = self.world
        for end in (
            lambda call: self.phone.answer(world.now),
            lambda call: self.phone.reject(world.now),
            lambda call: self.phone.hang_up(world.now),
            lambda call: world.deliver(call.like_invite("CANCEL", remote=b"<sip:alice@a.example>")),
            lambda call: world.deliver(call.request("BYE")),
            lambda call: world.advance(180000),
            lambda call: self.phone.move(b"sip:alice@192.0.2.8:5060", b"192.0.2.8", world.now),
        ):
            self.assertRings(False)
            call = world.ring(call_id=branch())
            self.assertRings()
            end(call)
            self.assertRings(False)
            if self.phone.state != "idle":
                world.deliver(call.ack())
                self.phone.hang_up(world.now)
            self.forget()
            self.assertIdle()

    def test_called_without_an_offer(self):
        """There is no media yet when it is answered, and no tone either."""
        world = self.world
        call = world.ring(body=b"")
        self.assertRings()
        self.phone.answer(world.now)
        self.assertRings(False)
        self.assertEqual((world.take_status(), world.media.log), (200, []))
        world.deliver(call.request("BYE"))

    def test_calling(self):
        """After 180, until somebody answers, refuses, or we give up."""
        world = self.world
        for end in (
            lambda sent: world.deliver(accept(sent)),
            lambda sent: world.deliver(accept(sent, change=(b"RTP/SAVP", b"RTP/AVP"))),
            lambda sent: world.deliver(answer(sent, 486)),
            lambda sent: self.phone.hang_up(world.now),
            lambda sent: world.advance(180000),
        ):
            sent = self.call()
            world.deliver(answer(sent, 180))
            self.assertRings()
            end(sent)
            self.assertRings(False)
            if self.phone.state == "talking":
                self.phone.hang_up(world.now)
            world.deliver(answer(sent, 487))
            self.forget()

    def test_early_media(self):
        """What the other side lets us hear is heard, and a 180 that follows does not drown it."""
        world = self.world
        sent = self.call()
        world.deliver(early(sent))
        self.assertRings(False)
        self.assertEqual(world.media.log, ["start"])
        world.deliver(answer(sent, 180))
        self.assertRings(False)
        self.assertEqual([event.get("media") for event in world.printed.take()], [None, True, None])

    def test_early_media_that_cant_be_heard(self):
        """It goes on ringing."""
        world = self.world
        sent = self.call()
        world.deliver(early(sent, change=(b"RTP/SAVP", b"RTP/AVP")))
        self.assertRings()
        self.assertEqual(world.media.log, [])

    def test_other_provisional_responses(self):
        """181 to 183 say that something is under way, not that it rings."""
        sent = self.world.dial()
        for status in (181, 182, 183):
            self.world.deliver(answer(sent, status))
        self.assertRings(False)

    def test_not_where_it_is_not_wanted(self):
        world = self.start_anew(ring=False)
        world.register()
        world.ring()
        self.assertRings(False)
        self.phone.reject(world.now)
        world.take()
        world.printed.take()
        world.deliver(answer(world.dial(), 180))
        self.assertRings(False)

    def test_a_call_that_does_not_ring(self):
        """Refused before, or while another one is on."""
        world = self.world
        world.deliver(invite(body=b"nonsense"))
        self.assertRings(False)
        world.take()
        self.forget()
        world.talk()
        world.deliver(invite(call_id=b"second"))
        self.assertEqual(world.take_status(), 486)
        self.assertRings(False)


class WholeTest(WholeCase):
    """The whole terminal."""

    changes = {"ring": True}

    def run_call(self, *script):
        """Run it; returns the frames in which it rang, out of those that were played."""
        self.world.run(*script)
        heard = self.world.board.audio.heard
        return len([pcm for pcm in heard if tones(pcm)[0] == 400]), len(heard)

    def test_called(self):
        """A second in five, on time though the loop sleeps, and gone with the call."""
        world = self.world
        rang, played = self.run_call((500, lambda: world.deliver(invite())), (6500, "reject"), (9000, "status"))
        self.assertTrue(98 <= rang <= 101, rang)
        self.assertTrue(298 <= played <= 302, played)
        self.assertEqual(world.board.audio.log, ["start", "stop"])
        self.assertFalse("terminal.ringing" in sys.modules)

    def test_calling(self):
        world = self.world
        rang, played = self.run_call(
            (500, "call bob"),
            (1000, lambda: world.deliver(answer(world.last("INVITE"), 180))),
            (2500, lambda: world.deliver(accept(world.last("INVITE")))),
            (3500, "hangup"),
        )
        self.assertTrue(49 <= rang <= 51, rang)
        self.assertTrue(122 <= played <= 128, played)
        self.assertEqual(world.board.audio.log, ["start", "stop"] * 2)
        self.assertTrue(48 <= len(world.rtp.sent) <= 52)

    def test_no_speaker(self):
        """The call rings by its event, and can be answered where that works then."""
        world = self.world
        world.board.audio.broken = {"start": OSError(errno.ENODEV)}
        events = []

        def repaired():
            world.board.audio.broken = {}

        events = world.run((500, lambda: world.deliver(invite())), (1500, repaired), (1600, "answer"), (1700, "hangup"))
        self.assertEqual([event["event"] for event in events][2:4], ["incoming", "leaving"])
        self.assertEqual(world.board.audio.log, ["start", "stop"] * 2)

    def test_speaker_breaks_while_it_rings(self):
        world = self.world
        events = world.run(
            (500, lambda: world.deliver(invite())),
            (700, lambda: setattr(world.board.audio, "broken", {"write": OSError(errno.EIO)})),
            (1500, "reject"),
        )
        self.assertEqual([event.get("reason") for event in events][2:], [None, "rejected"])
        self.assertEqual(world.last(603).call_id, b"in-1")


if __name__ == "__main__":
    unittest.main()
