import json
import unittest

from scripted import Printed

from terminal.events import emit, text


class EventsTest(unittest.TestCase):
    def setUp(self):
        self.printed = Printed()

    def tearDown(self):
        self.printed.close()

    def test_one_line_of_json(self):
        emit("status", phone="idle", heap_used=12345, is_on=True, media={"sent": 3})
        self.assertEqual(len(self.printed.lines), 1)
        self.assertEqual(
            json.loads(self.printed.lines[0]),
            {"event": "status", "phone": "idle", "heap_used": 12345, "is_on": True, "media": {"sent": 3}},
        )

    def test_none_is_left_out(self):
        emit("ended", reason=None, talked_ms=0, peer=b"")
        self.assertEqual(self.printed.take(), [{"event": "ended", "talked_ms": 0, "peer": ""}])

    def test_bytes_become_text(self):
        for data, shown in (
            (b"sip:bob@b.example", "sip:bob@b.example"),
            ("Jürgen €".encode(), "Jürgen €"),
            (b"J\xfcrgen", "J?rgen"),
            (b"\xff\xfe\x00\x7f\x80", "?????"),
            (b"\xed\xa0\x80x", None),  # a surrogate: as text or as "?", but a line of JSON
            (b"", ""),
        ):
            emit("incoming", peer=data)
            [event] = self.printed.take()
            if shown is not None:
                self.assertEqual(event["peer"], shown)
                self.assertEqual(text(data), shown)

    def test_what_a_peer_sends_stays_on_its_line(self):
        """A peer's display name must not be able to print events of its own."""
        for data in (b'x"}\n{"event": "registered"}', b"a\r\nb", b"\\", b'"', bytes(range(128))):
            emit("incoming", name=data)
            self.assertNotIn("\n", self.printed.lines[-1])
            self.assertNotIn("\r", self.printed.lines[-1])
            self.assertEqual(self.printed.take(), [{"event": "incoming", "name": str(data, "utf-8")}])


if __name__ == "__main__":
    unittest.main()
