import unittest

from sipwire.message import MAX_HEAD_BYTES, MAX_MESSAGE_BYTES
from sipwire.stream import PING, PONG, StreamParser
from support import load, read

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

    def test_messages_of_rfc4475(self):
        """What says its length is cut out as it is, and what says more than there is waits for the rest."""
        cut = 0
        for case in load("rfc4475/index.json")["messages"]:
            data = read("rfc4475/" + case["file"])
            parser = StreamParser()
            found = parser.receive(data)
            if case["name"] in ("clerr", "baddn"):  # the file of the latter ends within its headers
                self.assertEqual((found, parser.pending_bytes, parser.fault), ([], len(data), None))
            elif parser.fault:
                self.assertEqual(case["name"], "inv2543")
                self.assertEqual((parser.fault.status, parser.fault.reason), (400, "no Content-Length"))
            else:
                self.assertEqual(b"".join(found), data, case["name"])
                cut += 1
        self.assertEqual(cut, 29)

    def test_pong_is_told_at_once(self):
        parser = StreamParser()
        self.assertEqual(parser.receive(PONG), [PONG])
        self.assertEqual(parser.receive(PONG), [PING])
        self.assertEqual(parser.receive(b"\r"), [])
        self.assertEqual(parser.receive(b"\n"), [PONG])

    def refuse(self, data, status):
        """A fault ends the stream, whatever follows; what came before it is told."""
        for step in (len(data), 1000):
            parser = StreamParser()
            found = parser.receive(ONE)
            for i in range(0, len(data), step):
                found += parser.receive(data[i : i + step])
            self.assertEqual(parser.fault.status, status)
            self.assertEqual(parser.receive(ONE), [])
            self.assertEqual(found, [ONE])
            self.assertEqual(parser.pending_bytes, 0)
        parser = StreamParser()
        self.assertEqual(parser.receive(ONE + TWO + data), [ONE, TWO])
        self.assertEqual(parser.fault.status, status)

    def test_no_length(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nCall-ID: 1\r\n\r\n", 400)

    def test_two_lengths(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: 0\r\nL: 0\r\n\r\n", 400)

    def test_bad_length(self):
        for value in (b"", b"-1", b"x", b"1 1", b"99999999999999999999999", b"1073741825"):
            self.refuse(b"OPTIONS sip:a SIP/2.0\r\nContent-Length: " + value + b"\r\n\r\n", 400)

    def test_endless_head(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * (2 * MAX_HEAD_BYTES + 10), 513)
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * 2 * MAX_HEAD_BYTES + b"\r\nl: 0\r\n\r\n", 513)

    def test_body_far_too_large(self):
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nl: %d\r\n\r\n" % (MAX_MESSAGE_BYTES + MAX_HEAD_BYTES), 513)

    def test_what_is_only_too_large_is_framed(self):
        """So that it is answered, and the connection goes on."""
        large = b"OPTIONS sip:a SIP/2.0\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\nl: 0\r\n\r\n"
        long = b"OPTIONS sip:a SIP/2.0\r\nl: %d\r\n\r\n" % MAX_MESSAGE_BYTES + bytes(MAX_MESSAGE_BYTES)
        parser = StreamParser()
        self.assertEqual(parser.receive(large + long + ONE), [large, long, ONE])
        self.assertEqual(parser.fault, None)

    def test_many_at_a_time(self):
        """A thousand messages and pings in one piece, cut out one by one."""
        parser = StreamParser()
        self.assertEqual(parser.receive((ONE + PING + TWO) * 1000 + ONE[:9]), [ONE, PING, TWO] * 1000)
        self.assertEqual(parser.pending_bytes, 9)
        self.assertEqual(parser.receive(ONE[9:] + PONG), [ONE, PONG])
        self.assertEqual(parser.receive(PONG * 1000), [PING] + [PING] * 499 + [PONG])

    def test_control_bytes_before_the_colon(self):
        """`message` refuses them, so they say nothing here either."""
        self.refuse(b"OPTIONS sip:a SIP/2.0\r\nContent-Length\x0b: 0\r\n\r\n", 400)
        self.assertEqual(StreamParser().receive(b"A\r\nContent-Length\x0b: 9\r\nl\t : 1\r\n\r\nx")[0][-1:], b"x")

    def test_noise(self):
        parser = StreamParser()
        for _ in range(100):
            self.assertEqual(parser.receive(b"\0\xff" * 500), [])
        self.assertEqual(parser.fault.status, 513)


if __name__ == "__main__":
    unittest.main()
