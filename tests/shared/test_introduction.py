import unittest

from sipwire.errors import ParseError
from sipwire.introduction import MAX_PEERS, Introduction, Wanted, read_keys, read_peers, write_keys, write_peers

KEY = bytes(range(32))
LINE = b"sip:bob@b.example AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8= 86400 20\r\n"


class PeersTest(unittest.TestCase):
    VALUE = b"<sip:bob@b.example>;life=86400;uses=20, <sip:carol@c.example>;life=1;uses=2"

    def test_there_and_back(self):
        wanted = read_peers([self.VALUE])
        self.assertEqual([(one.aor, one.life, one.uses) for one in wanted][1], (b"sip:carol@c.example", 1, 2))
        self.assertEqual(write_peers(wanted), self.VALUE)
        self.assertEqual(len(read_peers([self.VALUE, self.VALUE])), 4)

    def test_addresses_become_those_of_macs(self):
        self.assertEqual(read_peers([b"<sips:bob@B.Example:5061;x=y>;uses=1;life=2"])[0].aor, b"sip:bob@b.example")

    def test_malformed(self):
        for bad in (
            b"",
            b"sip:bob@b.example;life=1;uses=1",
            b"<sip:b.example>;life=1;uses=1",
            b"<tel:1>;life=1;uses=1",
            b"<sip:bob@b.example>",
            b"<sip:bob@b.example>;life=1",
            b"<sip:bob@b.example>;life=0;uses=1",
            b"<sip:bob@b.example>;life=1;uses=0",
            b"<sip:bob@b.example>;life=1;uses=2147483648",
            b"<sip:bob@b.example>;life=1;uses=1,",
            b"<sip:bob@b.example;life=1;uses=1",
            b"Bob <sip:bob@b.example>;life=1;uses=1",
        ):
            with self.assertRaises(ParseError):
                read_peers([bad])

    def test_as_many_as_there_may_be(self):
        many = [Wanted(b"sip:u%d@b.example" % i, 1, 1) for i in range(MAX_PEERS)]
        self.assertEqual(len(read_peers([write_peers(many)])), MAX_PEERS)
        with self.assertRaises(ParseError):
            read_peers([write_peers(many + [Wanted(b"sip:u@b.example", 1, 1)])])


class KeysTest(unittest.TestCase):
    def test_there_and_back(self):
        found = read_keys(LINE + LINE)
        self.assertEqual(
            [(one.aor, one.key, one.life, one.uses) for one in found], [(b"sip:bob@b.example", KEY, 86400, 20)] * 2
        )
        self.assertEqual(write_keys(found), LINE + LINE)
        self.assertEqual(write_keys([Introduction(b"sip:bob@b.example", KEY, 86400, 20)]), LINE)

    def test_malformed(self):
        for bad in (
            b"",
            b"\r\n",
            LINE[:-2],
            LINE[:-1],
            LINE + b"\r\n",
            LINE.replace(b" ", b"  ", 1),
            LINE.replace(b"sip:bob@b.example", b"bob"),
            LINE.replace(b"sip:bob@b.example", b"sip:b.example"),
            LINE.replace(b"AAEC", b""),
            LINE.replace(b"8=", b"9="),
            LINE.replace(b"86400", b"0"),
            LINE.replace(b"20", b"0"),
            LINE.replace(b"20", b"-1"),
            LINE.replace(b" 20", b""),
            LINE.replace(b"\r\n", b"\n"),
        ):
            with self.assertRaises(ParseError):
                read_keys(bad)

    def test_as_many_as_there_may_be(self):
        self.assertEqual(len(read_keys(LINE * MAX_PEERS)), MAX_PEERS)
        with self.assertRaises(ParseError):
            read_keys(LINE * (MAX_PEERS + 1))
