"""Real-time text in the course of a call: alone and beside speech, added and removed, and in the next call."""

import sys
import unittest

from streamed import (
    BUFFER_MS,
    FRAME_MS,
    OUR_TEXT,
    TEXT_PORT,
    THEIR_TEXT,
    Audio,
    FarReports,
    FarText,
    TextCase,
    speech,
    text,
)


class CallTest(TextCase):
    def test_alone(self):
        """No microphone, no speaker, nor the code for it."""
        self.audio.broken = {"start": OSError(19)}
        self.begin()
        self.media.write("x", self.now)
        self.types("y")
        self.assertEqual((self.got(), self.read(), self.audio.log), ("x", "y", []))
        loaded = [name in sys.modules for name in ("terminal.speech", "terminal.conversation", "terminal.stream")]
        self.assertEqual(loaded, [False, True, True])
        self.assertEqual([self.sent(at) for at in (0, 1)], [[], []])
        self.receive(0, self.far.packet())
        self.run_for(1000)
        found = self.media.stop()
        self.assertEqual(sorted(found), ["text"])
        self.assertFalse("terminal.conversation" in sys.modules)
        self.assertIsNone(self.media.timer_at)

    def test_statistics(self):
        """Those of the text stand apart from those of speech."""
        self.start(speech(), text())
        for _ in range(10):
            self.receive(0, self.far.packet())
            self.run_for(FRAME_MS)
        self.comes(*self.packets("abc", 3))
        self.comes(b"bad", b"worse")
        self.run_for(1000)
        found = self.media.stop()
        written = found.pop("text")
        self.assertEqual((found["received"], found["rejected"]), (10, 0))
        self.assertEqual((written["received"], written["rejected"], written["lost"]), (3, 2, 0))
        self.assertGreater(written["sent"], 2)
        self.assertEqual(sorted(written), ["jitter_ms", "lost", "received", "rejected", "sent"])

    def test_beside_speech(self):
        """Neither waits for the other."""
        self.start(speech(), text())
        self.media.write("while we speak", self.now)
        self.other.write("so do we", self.now)
        for i in range(50):
            self.receive(0, self.far.packet(b"\x42" * 160))
            if i % 15 == 0:
                self.comes(*self.other.due(self.now))
            self.run_for(FRAME_MS)
        self.assertEqual((self.got(), self.read()), ("while we speak", "so do we"))
        self.assertEqual(len(self.sent(0)), 50)
        found = self.media.stop()
        self.assertEqual((found["late"], found["waited"], found["lost"]), (0, 0, 0))

    def test_added(self):
        """Speech goes on as if nothing had been."""
        self.start(speech())
        self.comes(*self.packets("before", 1))
        self.run_for(200)
        self.media.start([speech(), text()], self.now)
        self.media.go(self.now)
        self.media.write("now", self.now)
        self.types("too")
        self.run_for(200)
        self.assertEqual((self.got(), self.read()), ("now", "btoo"))  # the redundancy still has what came before
        self.assertEqual(self.audio.log, ["start"])
        numbers = [self.far.open(datagram)[1] for _, datagram, _ in self.sent(0)]
        self.assertEqual(numbers, [numbers[0] + i & 0xFFFF for i in range(len(numbers))])

    def test_removed(self):
        """Nothing of it is sent or shown any more, and speech goes on."""
        self.start(speech(), text())
        self.types("one")
        self.assertEqual(self.read(), "one")
        self.media.write("lost", self.now)
        self.media.start([speech()], self.now)
        self.sent(2)
        self.types("two")
        self.run_for(20000)
        self.assertEqual((self.shown(), self.sent(2), self.sent(3)), ([], [], []))
        self.assertRaises(ValueError, self.media.write, "x", self.now)
        found = self.media.stop()
        self.assertGreater(found["sent"], 900)
        self.assertGreater(found["text"]["received"], 0)

    def test_removed_and_added_again(self):
        """Under the peer's key of before: what was recorded is not shown again, and all of it is counted."""
        self.start(speech(), text())
        self.other.write("secret", self.now)
        recorded = self.other.due(self.now)
        self.comes(*recorded)
        for _ in range(4):
            self.run_for(BUFFER_MS)
            self.comes(*self.other.due(self.now))
        self.media.start([speech()], self.now)
        self.media.start([speech(), text(ours=bytes(30))], self.now)
        self.comes(*recorded)
        self.assertEqual(self.read(), "secret")
        self.types("x")
        self.assertEqual(self.read(), "x")
        found = self.media.stop()["text"]
        self.assertEqual((found["received"], found["rejected"]), (3 + 3, 1))

    def test_speech_removed(self):
        """Microphone and speaker are off then, and on again when there is speech again."""
        self.start(speech(), text())
        self.run_for(100)
        self.media.start([text()], self.now)
        self.assertEqual(self.audio.log, ["start", "stop"])
        self.sent(0)
        self.media.write("x", self.now)
        self.types("y")
        self.assertEqual((self.sent(0), self.got(), self.read()), ([], "x", "y"))
        self.media.start([speech(ours=bytes(30)), text()], self.now)
        self.media.go(self.now)
        self.run_for(100)
        self.assertEqual((len(self.sent(0)), self.audio.log), (5, ["start", "stop", "start"]))
        self.media.stop()
        self.assertEqual(self.audio.log, ["start", "stop"] * 2)

    def test_adding_fails(self):
        """What ran before goes on."""
        self.start(speech())
        self.run_for(100)

        def resolve(host, port):
            raise OSError(5)

        self.media.resolve = resolve
        self.assertRaises(OSError, self.media.start, [speech(), text()], self.now)
        self.assertRaises(ValueError, self.media.write, "x", self.now)
        self.run_for(100)
        self.assertEqual(len(self.sent(0)), 10)
        self.assertEqual(self.media.stop()["sent"], 10)

    def test_speech_fails_that_was_there_before(self):
        """What was heard then is not heard again when there is speech at last."""
        self.start(speech(), text())
        recorded = [self.far.packet() for _ in range(3)]
        self.receive(0, *recorded)
        self.media.start([text()], self.now)
        self.audio.broken = {"start": OSError(5)}
        self.assertRaises(OSError, self.media.start, [speech(), text()], self.now)
        self.audio.broken = {}
        self.media.start([speech(), text()], self.now)
        self.receive(0, *recorded)
        found = self.media.stop()
        self.assertEqual((found["received"], found["rejected"]), (3, 3))

    def test_speech_fails(self):
        """A call with both begins with both, or not at all."""
        self.audio.broken = {"start": OSError(5)}
        self.assertRaises(OSError, self.start, text(), speech())
        self.assertIsNone(self.media.timer_at)
        self.assertIsNone(self.media.stop())
        self.assertFalse("terminal.conversation" in sys.modules)
        self.audio = self.media.audio = Audio()
        self.start(text(), speech())
        self.run_for(100)
        self.assertEqual(len(self.sent(0)), 5)

    def test_new_keys(self):
        """Text goes on in order across a change of both keys; what is under the old one is not shown."""
        self.begin()
        self.types("one")
        old = self.other
        self.other = FarText(key=bytes(30), ssrc=3, seq=9, their_key=bytes(range(30)))
        self.media.start([text(ours=bytes(range(30)), theirs=bytes(30))], self.now)
        old.write("lies", self.now)
        self.comes(*old.due(self.now))
        self.types("two")
        self.media.write("three", self.now)
        self.run_for(1000)
        self.assertEqual((self.read(), self.got()), ("onetwo", "three"))

    def test_goodbye_lets_another_source_write(self):
        self.begin(rtcp_port=TEXT_PORT + 1)
        self.types("one")
        other = FarText(ssrc=77, seq=5)
        other.write("two", self.now)
        packets = other.due(self.now)
        self.comes(*packets)
        reports = FarReports(OUR_TEXT, THEIR_TEXT, ssrc=self.other.ssrc)
        self.receive(3, reports.packet(bye=True))
        self.next_report()
        self.comes(*packets)
        self.assertEqual(self.read(), "onetwo")

    def test_next_call(self):
        """What was typed or seen in one is not in the next."""
        self.begin()
        self.types("secret")
        self.media.write("also secret", self.now)
        self.media.stop()
        self.shown()
        self.sent(2)
        self.other = FarText(ssrc=4)
        self.start(text())
        self.types("\b\b\bx")
        self.run_for(1000)
        self.assertEqual((self.shown(), self.got()), ([{"text": "x"}], ""))


if __name__ == "__main__":
    unittest.main()
