"""Text messages (RFC 3428), and keys that somebody presses (INFO)."""

import json
import unittest

from far import answer, branch, options, request
from scripted import LIFE_MS, WorldCase

TEXT = b"text/plain;charset=utf-8"
PEER = "sip:bob@b.example"


class Case(WorldCase):
    def message(self, body, kind=TEXT, extra=()):
        """A MESSAGE of the far end outside of any call; returns the response."""
        asked = options(method="MESSAGE", call_id=branch(), extra=extra)
        if body or kind:
            asked.set_body(kind or b"x/y", body)
        if not kind:
            asked.fields = [field for field in asked.fields if field[0] != "content-type"]
        self.world.deliver(asked)
        response = self.world.take_one()
        self.assertEqual((response.body, response.get("contact")), (b"", None))
        return response


class TakeTest(Case):
    def test_shown(self):
        for body, kind in (
            (b"Hello", TEXT),
            ("Grüße, 你好 \U0001f600".encode(), b'Text/Plain ; Charset="UTF-8"'),
            (b"plain", b"text/plain"),
            (b"ascii", b"text/plain;charset=us-ascii;format=flowed"),
            (b"", TEXT),
            (b"x" * 1024, TEXT),
        ):
            response = self.message(body, kind)
            self.assertEqual((response.status, response.to.tag != b""), (200, True))
            self.assertEvents(("message", {"peer": PEER, "text": str(body, "utf-8"), "name": None}))
        self.assertIdle()

    def test_one_line_of_json_whatever_it_says(self):
        """Line ends, quotes and control characters make neither another event nor another command."""
        for body in (b'a\r\n{"event": "registered"}\n', b"\x00\x01\x1b[2J\x07\x08", b'"\\', b"\x7f\t"):
            self.assertEqual(self.message(body).status, 200)
            line = self.world.printed.lines[-1]
            self.assertTrue(line.startswith('{"event": "message", '))
            self.assertEqual([one for one in line if one < " "], [])
            self.assertEqual(json.loads(line)["text"], str(body, "utf-8"))
            self.world.printed.take()

    def test_within_a_call(self):
        """And the call goes on; its numbers are kept in order."""
        world = self.world
        call = world.talk_as_callee()
        asked = call.request("MESSAGE")
        asked.set_body(TEXT, b"by the way")
        for _ in range(2):  # the 200 is lost
            world.deliver(asked)
            self.assertSent((200, "MESSAGE"))
        self.assertEvents(("message", {"text": "by the way"}))
        world.deliver(request("MESSAGE", call.call_id, call.local, call.remote, call.cseq, body=b"x"))
        self.assertSent((500, "MESSAGE"))
        self.assertEqual((self.phone.state, world.media.log), ("talking", ["start", "go"]))

    def test_while_it_rings(self):
        world = self.world
        world.ring()
        self.assertEqual(self.message(b"pick up").status, 200)
        self.assertEqual(self.phone.state, "ringing")

    def test_repeated(self):
        """The same transaction is shown once."""
        world = self.world
        asked = options(method="MESSAGE")
        asked.set_body(TEXT, b"once")
        for _ in range(4):
            world.deliver(asked)
            self.assertSent((200, "MESSAGE"))
            world.advance(1000)
        self.assertEvents(("message", {}))

    def test_too_large(self):
        self.assertEqual(self.message(b"x" * 1025).status, 413)
        self.assertEqual(self.world.printed.take(), [])

    def test_not_text(self):
        for kind in (
            b"text/html",
            b"application/sdp",
            b"multipart/mixed;boundary=x",
            b"text/plain;charset=utf-16",
            None,
        ):
            response = self.message(b"Hello", kind)
            self.assertEqual((response.status, response.get("accept")), (415, b"text/plain"))
        self.assertEqual(self.world.printed.take(), [])

    def test_not_utf8(self):
        """What RFC 3629 forbids, though MicroPython's own decoder lets some of it pass."""
        for body in (
            b"\xff", b"a\x80", b"\xc3", b"\xc3(", b"\xe2\x82", b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xed\xa0\x80",
            b"\xed\xbf\xbf", b"\xf0\x8f\xbf\xbf", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"Gr\xfc\xdfe",
        ):  # fmt: skip
            response = self.message(body)
            self.assertEqual(response.status, 400, body)
        self.assertEqual(self.world.printed.take(), [])
        for body in (b"\xc2\x80", b"\xe0\xa0\x80", b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xf4\x8f\xbf\xbf"):
            self.assertEqual(self.message(body).status, 200, body)

    def test_malformed(self):
        for kind in (b"text/plain;", b"text/plain;charset", b'text/plain;charset="', b"text/plain;charset="):
            self.assertIn(self.message(b"x", kind).status, (400, 415))
        self.assertEqual(self.world.printed.take(), [])

    def test_only_from_the_neighbour(self):
        world = self.world
        asked = options(method="MESSAGE")
        asked.set_body(TEXT, b"trust me")
        self.assertFalse(world.deliver_plain(asked))
        self.assertEqual((world.take(), world.printed.take()), ([], []))


class SendTest(Case):
    def send(self, text="Hello Bob", uri=PEER):
        self.world.write(text, uri.encode())
        return self.world.take_one("MESSAGE")

    def test_sent(self):
        world = self.world
        for status in (200, 202):
            text = "Grüße \U0001f600"
            sent = self.send(text)
            self.assertEqual((sent.uri, sent.to.uri, sent.to.tag), (PEER.encode(), PEER.encode(), b""))
            self.assertEqual((sent.from_.uri, sent.get("contact")), (b"sip:alice@a.example", None))
            self.assertEqual((sent.get("content-type"), sent.body), (TEXT, text.encode()))
            self.assertEqual(sent.get("content-length"), b"%d" % len(text.encode()))
            world.deliver(answer(sent, 100))
            self.assertEqual(world.printed.take(), [])
            world.deliver(answer(sent, status))
            self.assertEqual(world.printed.take(), [{"event": "sent", "peer": PEER}])
            world.deliver(answer(sent, status))
            self.assertEqual(world.printed.take(), [])
        self.assertIdle()

    def test_refused(self):
        for status in (404, 415, 480, 513, 603):
            self.world.deliver(answer(self.send(), status, reason="So"))
            self.assertEvents(("failed", {"command": "message", "peer": PEER, "status": status, "reason": "So"}))

    def test_no_answer(self):
        world = self.world
        self.send()
        world.advance(LIFE_MS)
        self.assertEvents(("failed", {"command": "message", "status": 408, "reason": "no answer"}))
        world.take()
        self.send()

    def test_one_at_a_time(self):
        """RFC 3428 section 8: no other one before the last is answered."""
        world = self.world
        sent = self.send()
        world.write("me, too", b"sip:carol@a.example")
        self.assertEvents(("refused", {"command": "message", "reason": "busy"}))
        self.assertEqual(world.take(), [])
        world.deliver(answer(sent, 200))
        self.send()

    def test_too_long(self):
        world = self.world
        world.write("ü" * 513)
        self.assertEvents(("refused", {"command": "message", "reason": "too long"}))
        self.assertEqual(world.take(), [])
        self.assertEqual(len(self.send("ü" * 512).body), 1024)

    def test_in_a_call(self):
        world = self.world
        call = world.talk()[1]
        sent = self.send()
        self.assertNotEqual(sent.call_id, call.call_id)
        world.deliver(answer(sent, 481))
        self.assertEqual(self.phone.state, "talking")

    def test_no_secret_for_a_challenge(self):
        digest = b'Digest realm="a.example", nonce="0011", algorithm=SHA-256, qop="auth,auth-int"'
        for status, name in ((401, "WWW-Authenticate"), (407, "Proxy-Authenticate")):
            self.world.deliver(answer(self.send(), status, extra=[(name, digest)]))
            self.assertEqual(self.world.take(), [])
            self.assertEvents(("failed", {"status": status}))


class KeyTest(Case):
    def press(self, call, body, kind=b"application/dtmf-relay", extra=()):
        asked = call.request("INFO", extra=extra)
        if body:
            asked.set_body(kind, body)
        self.world.deliver(asked)
        return self.world.take_one()

    def test_keys(self):
        """As different phones write them."""
        call = self.world.talk_as_callee()
        for kind, body, digit, duration in (
            (b"application/dtmf-relay", b"Signal=5\r\nDuration=160\r\n", "5", 160),
            (b"application/dtmf-relay", b"Signal= 5\r\nDuration= 160\r\n", "5", 160),
            (b"application/dtmf-relay;x=y", b"signal=*\nduration=100", "*", 100),
            (b"Application/DTMF-Relay", b"Duration=250\r\nSignal=#\r\n\r\n", "#", 250),
            (b"application/dtmf-relay", b"Signal=d", "D", None),
            (b"application/dtmf-relay", b"Signal=10", "*", None),
            (b"application/dtmf-relay", b"Signal=11\r\nDuration=x", "#", None),
            (b"application/dtmf-relay", b"Signal=0\r\nDuration=99999\r\nVolume=10\r\n", "0", 99999),
            (b"application/dtmf-relay", b"Signal=1\r\nDuration=1234567", "1", None),
            (b"application/dtmf", b"7", "7", None),
            (b"application/dtmf", b" 9\r\n", "9", None),
            (b"application/dtmf", b"15", "D", None),
            (b"application/dtmf", b"Signal=3\r\nDuration=80", "3", 80),
        ):
            self.assertEqual(self.press(call, body, kind).status, 200)
            self.assertEvents(("dtmf", {"digit": digit, "duration_ms": duration}))
        self.assertEqual(self.phone.state, "talking")

    def test_in_a_call_of_ours(self):
        call = self.world.talk()[1]
        self.assertEqual(self.press(call, b"Signal=5\r\n").status, 200)
        self.assertEvents(("dtmf", {"digit": "5"}))

    def test_no_key(self):
        call = self.world.talk_as_callee()
        for body in (
            b"Signal=",
            b"Signal=E",
            b"Signal=55",
            b"Signal=16",
            b"Signal=99",
            b"Duration=5",
            b"x",
            b"\0\xff",
            b"5",
        ):
            self.assertEqual(self.press(call, body).status, 400, body)
            self.world.advance(LIFE_MS)
        self.assertEqual(self.press(call, b"", b"application/dtmf").status, 200)  # asks whether we are here
        self.assertEqual(self.world.printed.take(), [])

    def test_other_types(self):
        call = self.world.talk_as_callee()
        for kind in (b"text/plain", b"application/media_control+xml", b"application/dtmf-relayed"):
            response = self.press(call, b"Signal=5", kind)
            self.assertEqual(response.status, 415)
            self.assertEqual(response.get("accept"), b"application/dtmf-relay, application/dtmf")
        self.assertEqual(self.press(call, b"Signal=5\r\n" + b"x" * 247).status, 413)
        self.assertEqual(self.world.printed.take(), [])

    def test_info_packages(self):
        """RFC 6086 section 4.2.2: 469 with those that are taken, which are none."""
        call = self.world.talk_as_callee()
        for body in (b"", b"Signal=5"):
            response = self.press(call, body, extra=[("Info-Package", b"infoDtmf")])
            self.assertEqual((response.status, response.get("recv-info")), (469, b""))
        self.assertEqual(self.world.printed.take(), [])

    def test_outside_of_a_call(self):
        world = self.world
        asked = options(method="INFO")
        asked.set_body(b"application/dtmf-relay", b"Signal=5")
        world.deliver(asked)
        self.assertSent((481, "INFO"))
        self.assertEqual(world.printed.take(), [])


if __name__ == "__main__":
    unittest.main()
