import unittest

from sipwire.slip import (
    FIRST_PORT,
    HOP_PORT,
    LAST_PORT,
    MAX_DATAGRAM_BYTES,
    TEXT,
    SlipDecoder,
    encode,
    is_port,
)

# Ports and datagrams, and how RFC 1055 has them on the line.
CASES = [
    (5060, b"REGISTER", b"\xc0\x13\xc4REGISTER\xc0"),
    (5060, b"", b"\xc0\x13\xc4\xc0"),
    (40000, b"\x80\x00", b"\xc0\x9c\x40\x80\x00\xc0"),
    (40255, b"\x81", b"\xc0\x9d\x3f\x81\xc0"),
    (5060, b"\xc0", b"\xc0\x13\xc4\xdb\xdc\xc0"),
    (5060, b"\xdb", b"\xc0\x13\xc4\xdb\xdd\xc0"),
    (5060, b"\xdb\xdc\xdb\xdd\xc0", b"\xc0\x13\xc4\xdb\xdd\xdc\xdb\xdd\xdd\xdb\xdc\xc0"),
    # A port that has to be escaped itself.
    (40128, b"a", b"\xc0\x9c\xdb\xdca\xc0"),
    (40155, b"a", b"\xc0\x9c\xdb\xdda\xc0"),
    (40000, b"\x00" * 1500, b"\xc0\x9c\x40" + b"\x00" * 1500 + b"\xc0"),
    (40000, b"\xc0" * 1500, b"\xc0\x9c\x40" + b"\xdb\xdc" * 1500 + b"\xc0"),
]
# What is dropped: it is counted once, and what comes after it is whole.
BAD = [
    b"\xc0\x13\xc4a\xdb\xc0",  # an escape of nothing
    b"\xc0\x13\xc4\xdba\xc0",
    b"\xc0\x13\xc4\xdb\xdb\xdc\xc0",
    b"\xc0\x9c\xc0",
    b"\xc0\x9c\x3f\x80\xc0",  # port 39999
    b"\xc0\x9d\x40\x80\xc0",  # port 40256
    b"\xc0\x9c\x40" + b"\x00" * 1501 + b"\xc0",
    b"\xc0\x9c\x40" + b"\x00" * 9000 + b"\xc0",
    b"\xc0\x9c\x40" + b"\xdb\xdc" * 1501 + b"\xc0",
]
# What is no packet, and so the console's.
TEXTS = [
    b"call bob\n",
    b"\x03",
    b'{"event": "registered"}\r\n',
    "Grüße, ☎\n".encode(),
    b"\x13",  # no more of a port than this
    b"\x13\x0a",
    b"\x01\x04\xff\x00",
]


def joined(found):
    """What was found, with parts of one text put together."""
    made = []
    is_open = False
    for port, data in found:
        if port == TEXT and is_open and data:
            made[-1] = (TEXT, made[-1][1] + data)
        elif port != TEXT or data:
            made.append((port, data))
        is_open = port == TEXT and bool(data)
    return made


def bytewise(decoder, data):
    found = []
    for i in range(len(data)):
        found += decoder.receive(data[i : i + 1])
    return found


class SlipTest(unittest.TestCase):
    def test_both_ways(self):
        for port, datagram, raw in CASES:
            self.assertEqual(encode(port, datagram), raw)
            self.assertEqual(encode(port, bytearray(datagram)), raw)
            self.assertEqual(encode(port, memoryview(datagram)), raw)
            for follower, there in ((b"", []), (b"hello", [(TEXT, b"hello")])):
                self.assertEqual(SlipDecoder().receive(raw + follower), [(port, datagram)] + there)
            # The first C0 may be that which ended what was before.
            self.assertEqual(SlipDecoder().receive(raw[1:]), [(port, datagram)])

    def test_byte_by_byte(self):
        decoder = SlipDecoder()
        for port, datagram, raw in CASES:
            self.assertEqual(
                joined(bytewise(decoder, b"ab" + raw + b"c")), [(TEXT, b"ab"), (port, datagram), (TEXT, b"c")]
            )
        self.assertEqual(decoder.bad, 0)

    def test_all_at_once(self):
        raw = b"".join([case[2] for case in CASES])
        wanted = [case[:2] for case in CASES]
        for size in (1, 2, 3, 7, 64, 1000, len(raw)):
            decoder = SlipDecoder()
            found = []
            for i in range(0, len(raw), size):
                found += decoder.receive(raw[i : i + size])
            self.assertEqual(found, wanted)

    def test_bad(self):
        for raw in BAD:
            for take in (lambda decoder, data: decoder.receive(data), bytewise):
                decoder = SlipDecoder()
                found = take(decoder, raw + encode(5060, b"whole") + b"text")
                self.assertEqual(joined(found), [(5060, b"whole"), (TEXT, b"text")])
                self.assertEqual(decoder.bad, 1)

    def test_text(self):
        for text in TEXTS:
            for take in (lambda decoder, data: decoder.receive(data), bytewise):
                decoder = SlipDecoder()
                found = take(decoder, text + encode(5060, b"a") + text + encode(40000, b"b"))
                self.assertEqual(joined(found), [(TEXT, text), (5060, b"a"), (TEXT, text), (40000, b"b")])
                self.assertEqual(decoder.bad, 0)

    def test_text_is_not_kept_waiting(self):
        decoder = SlipDecoder()
        self.assertEqual(decoder.receive(b"c"), [(TEXT, b"c")])
        self.assertEqual(decoder.receive(b"\x9c\x40"), [(TEXT, b"\x9c\x40")])  # within a text it is no port
        self.assertEqual(decoder.receive(b"\xc0"), [(TEXT, b"")])
        self.assertEqual(decoder.receive(b"\x13"), [])  # it may become a packet
        self.assertEqual(decoder.receive(b"\x03"), [(TEXT, b"\x13\x03")])

    def test_c0_lost(self):
        """One packet is lost with it, and text beside it is hurt; nothing else."""
        first, second, third = encode(5060, b"first"), encode(40000, b"second"), encode(40001, b"third")
        # Its first: the packet is taken for text.
        found = SlipDecoder().receive(first + b"X" + second[1:] + third)
        self.assertEqual(joined(found), [(5060, b"first"), (TEXT, b"X\x9c\x40second"), (40001, b"third")])
        # Its last.
        found = SlipDecoder().receive(first + second[:-1] + b"X" + third)
        self.assertEqual(found, [(5060, b"first"), (40000, b"secondX"), (40001, b"third")])

    def test_c0_made_up(self):
        raw = encode(40000, b"second")
        found = SlipDecoder().receive(encode(5060, b"first") + raw[:5] + b"\xc0" + raw[6:] + encode(40001, b"third"))
        self.assertEqual(joined(found), [(5060, b"first"), (40000, b"se"), (TEXT, b"ond"), (40001, b"third")])

    def test_ports(self):
        for port in (HOP_PORT, FIRST_PORT, LAST_PORT):
            self.assertTrue(is_port(port))
        for port in (0, 5059, 5061, FIRST_PORT - 1, LAST_PORT + 1, 65535):
            self.assertFalse(is_port(port))

    def test_memory_is_bounded(self):
        decoder = SlipDecoder()
        decoder.receive(b"\xc0\x9c\x40")
        for _ in range(200):
            self.assertEqual(decoder.receive(b"\x00" * 100), [])
            self.assertTrue(len(decoder._held) <= 2 * (MAX_DATAGRAM_BYTES + 2))
        self.assertEqual(decoder.bad, 1)
        self.assertEqual(decoder.receive(b"\xc0"), [])
        self.assertEqual(decoder.receive(encode(5060, b"a")), [(5060, b"a")])

    def test_storm(self):
        """Whatever comes, a packet after two C0 is read; and how the bytes are cut into pieces changes nothing."""
        state = 20261122
        likely = b"\xc0\xdb\xdc\xdd\x13\xc4\x9c\x40\x9d\x3f\x03a"
        for _ in range(300):
            data = bytearray()
            cuts = []
            state = (state * 1103515245 + 12345) & 0x3FFFFFFF
            for _ in range(state >> 8 & 63):
                state = (state * 1103515245 + 12345) & 0x3FFFFFFF
                kind = state >> 8
                data.append(likely[kind % len(likely)] if kind & 0x8000 else kind & 0xFF)
                if kind & 0x10000:
                    cuts.append(len(data))
            whole, cut = SlipDecoder(), SlipDecoder()
            data = bytes(data) + b"\xc0" + encode(5060, b"after")
            found = whole.receive(data)
            self.assertEqual(found[-1], (5060, b"after"))
            parts = []
            at = 0
            for end in cuts + [len(data)]:
                parts += cut.receive(data[at:end])
                at = end
            self.assertEqual(joined(parts), joined(found))
            self.assertEqual(cut.bad, whole.bad)


if __name__ == "__main__":
    unittest.main()
