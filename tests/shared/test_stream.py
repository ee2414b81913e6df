import unittest

from sipwire.errors import ParseError
from sipwire.message import MAX_MESSAGE_BYTES
from sipwire.stream import MAX_HEAD_BYTES, PING, PONG, StreamParser

ONE = b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\nContent-Length: 5\r\n\r\nbody\n"
TWO = b"SIP/2.0 200 OK\r\nl : 0\r\n\r\n"
FOLDED = b"OPTIONS sip:a SIP/2.0\r\nSubject: x\r\n Content-Length: 9\r\nContent-Length:\r\n 2\r\nX: y\r\n\r\n\r\n"


class StreamTest(unittest.TestCase):
    CASES = [
        (ONE, [ONE]),
        (TWO, [TWO]),
        (FOLDED, [FOLDED]),
        (ONE + TWO + ONE, [ONE, TWO, ONE]),
        (PING + ONE, [PING, ONE]),
        (ONE + PING, [ONE, PING]),
        (ONE + PONG + TWO, [ONE, PONG, TWO]),
    ]

    def test_whole(self):
        for data, wanted in self.CASES:
            self.assertEqual(StreamParser().receive(data), wanted)

    def test_byte_by_byte(self):
        for data, wanted in self.CASES:
            parser = StreamParser()
            found = []
            for i in range(len(data)):
                found += parser.receive(data[i : i + 1])
            # Half of a ping looks like a pong until the other half is there.
            self.assertEqual([item for item in found if item != PONG], [item for item in wanted if item != PONG])
            self.assertEqual(parser.pending_bytes, 0)

    def test_any_cut(self):
        data = ONE + TWO + FOLDED
        for cut in range(len(data)):
            parser = StreamParser()
            self.assertEqual(parser.receive(data[:cut]) + parser.receive(data[cut:]), [ONE, TWO, FOLDED])

    def test_pong_is_told_at_once(self):
        parser = StreamParser()
        self.assertEqual(parser.receive(PONG), [PONG])
        self.assertEqual(parser.receive(PONG), [PING])
        self.assertEqual(parser.receive(b"\r"), [])
        self.assertEqual(parser.receive(b"\n"), [PONG])

    def refuse(self, data, status):
        for step in (len(data), 1000):
            parser = StreamParser()
            with self.assertRaises(ParseError) as caught:
                for i in range(0, len(data), step):
                    parser.receive(data[i : i + step])
            self.assertEqual(caught.exception.status, status)

    def test_no_length(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n", 400)

    def test_two_lengths(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\nL: 0\r\n\r\n", 400)

    def test_bad_length(self):
        for value in (b"", b"-1", b"x", b"1 1", b"99999999999999999999999"):
            self.refuse(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: " + value + b"\r\n\r\n", 400)

    def test_endless_head(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * (MAX_HEAD_BYTES + 10), 513)
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\nl: 0\r\n\r\n", 513)

    def test_body_too_large(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nl: %d\r\n\r\n" % MAX_MESSAGE_BYTES, 513)

    def test_noise(self):
        parser = StreamParser()
        with self.assertRaises(ParseError):
            for _ in range(100):
                parser.receive(b"\0\xff" * 500)


if __name__ == "__main__":
    unittest.main()
