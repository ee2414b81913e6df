import unittest

from sipwire.editing import set_via_param
from sipwire.errors import ParseError
from sipwire.headers import Address, CSeq, Via, header_key


class AddressTest(unittest.TestCase):
    # (text, display, uri, params, canonical text)
    CASES = [
        (b"<sip:a@b>", b"", b"sip:a@b", [], b"<sip:a@b>"),
        (b"sip:a@b", b"", b"sip:a@b", [], b"<sip:a@b>"),
        (b"sip:a@b;tag=1", b"", b"sip:a@b", [(b"tag", b"1")], b"<sip:a@b>;tag=1"),
        (b"<sip:a@b;lr>;tag=1", b"", b"sip:a@b;lr", [(b"tag", b"1")], b"<sip:a@b;lr>;tag=1"),
        (b"Bob <sip:a@b>", b"Bob", b"sip:a@b", [], b"Bob <sip:a@b>"),
        (b"Bob B. <sip:a@b> ; tag = 1", b"Bob B.", b"sip:a@b", [(b"tag", b"1")], b"Bob B. <sip:a@b>;tag=1"),
        (b"caller<sip:a@b>;tag=1", b"caller", b"sip:a@b", [(b"tag", b"1")], b"caller <sip:a@b>;tag=1"),
        (b'"a <b>;\\"" <sip:a@b>', b'"a <b>;\\""', b"sip:a@b", [], b'"a <b>;\\"" <sip:a@b>'),
        (b'"x"<sip:a@b>;q=0.5;y', b'"x"', b"sip:a@b", [(b"q", b"0.5"), (b"y", None)], b'"x" <sip:a@b>;q=0.5;y'),
        (b"<tel:+123>", b"", b"tel:+123", [], b"<tel:+123>"),
        (b"Zo\xc3\xab <sip:z@b>", b"Zo\xc3\xab", b"sip:z@b", [], b"Zo\xc3\xab <sip:z@b>"),
    ]

    def test_both_ways(self):
        for text, display, uri, params, canonical in self.CASES:
            address = Address.parse(text)
            self.assertEqual((address.display, address.uri, address.params), (display, uri, params))
            self.assertEqual(address.serialize(), canonical)
            self.assertEqual(Address.parse(canonical).serialize(), canonical)

    def test_tag(self):
        self.assertEqual(Address.parse(b"<sip:a@b>;Tag=x").tag, b"x")
        self.assertEqual(Address.parse(b"<sip:a@b>").tag, b"")
        self.assertEqual(Address.parse(b"<sip:a@b>").parsed_uri().user, b"a")

    INVALID = [
        b"",
        b"<",
        b"<>",
        b">",
        b"sip",
        b"<sip:a@b",
        b"sip:a@b>",
        b'"a <sip:a@b>',
        b"<sip:a@b>;",
        b"<sip:a@b>;;tag=1",
        b"<sip:a@b>;tag=",
        b"<sip:a@b> x",
        b"< sip:a@b>",
        b"<sip:a b>",
        b"sip:a@b?x=y",
        b"sip:a,b@c",
        b"Bell, A. <sip:a@b>",
        b'a "b" <sip:a@b>',
        b"<<sip:a@b>>",
        b"<sip:a@b>;tag=a b",
        b"<sip:a@b>;tag=a,b",
        b"<sip:a@b>;tag=a\0b",
        b"<sip:a@b>;tag=<a>",
    ]

    def test_invalid(self):
        for text in self.INVALID:
            with self.subTest(repr(text)):
                self.assertRaises(ParseError, Address.parse, text)


class ViaTest(unittest.TestCase):
    # (text, transport, host, port, canonical text)
    CASES = [
        (b"SIP/2.0/UDP a.example", b"UDP", b"a.example", None, b"SIP/2.0/UDP a.example"),
        (b"SIP/2.0/tcp a:5070;branch=z9hG4bK1;rport", b"TCP", b"a", 5070, b"SIP/2.0/TCP a:5070;branch=z9hG4bK1;rport"),
        (b"SIP / 2.0 / UDP   a : 5070 ; branch = x", b"UDP", b"a", 5070, b"SIP/2.0/UDP a:5070;branch=x"),
        (
            b"SIP/2.0/UDP [2001:db8::9:1]:6050;x",
            b"UDP",
            b"[2001:db8::9:1]",
            6050,
            b"SIP/2.0/UDP [2001:db8::9:1]:6050;x",
        ),
        (b"SIP/2.0/TLS a;received=2001:db8::9:255", b"TLS", b"a", None, b"SIP/2.0/TLS a;received=2001:db8::9:255"),
        (b"SIP/2.0/UNKNOWN a;branch=y", b"UNKNOWN", b"a", None, b"SIP/2.0/UNKNOWN a;branch=y"),
        (b'SIP/2.0/UDP a;x="1;2"', b"UDP", b"a", None, b'SIP/2.0/UDP a;x="1;2"'),
    ]

    def test_both_ways(self):
        for text, transport, host, port, canonical in self.CASES:
            via = Via.parse(text)
            self.assertEqual((via.transport, via.host, via.port), (transport, host, port))
            self.assertEqual(via.serialize(), canonical)

    def test_other_versions(self):
        """They are read, to be answered 505: see `message`."""
        via = Via.parse(b"SIP / 7.0/UDP a;branch=x")
        self.assertEqual((via.version, via.host), (b"7.0", b"a"))
        self.assertEqual(via.serialize(), b"SIP/7.0/UDP a;branch=x")
        self.assertEqual(Via.parse(b"SIP/2.0/UDP a").version, b"2.0")

    def test_params(self):
        via = Via.parse(b"SIP/2.0/UDP a;RPort;branch=b")
        self.assertEqual(via.param("rport"), b"")
        set_via_param(via, b"rport", b"5060")
        set_via_param(via, b"received", b"192.0.2.1")
        self.assertEqual(via.serialize(), b"SIP/2.0/UDP a;RPort=5060;branch=b;received=192.0.2.1")
        self.assertEqual(via.branch, b"b")
        self.assertEqual(via.sent_by, b"a")

    def test_invalid(self):
        for text, status in (
            (b"", 400),
            (b"SIP/2.0/UDP", 400),
            (b"SIP/2.0 a", 400),
            (b"HTTP/2.0/UDP a", 400),
            (b"SIP//UDP a", 400),
            (b"SIP/2.0/UDP\x0ba", 400),
            (b"SIP/2.0/UDP a;x=b c", 400),
            (b"SIP/2.0/UDP a;x=b\x0bc", 400),
            (b"SIP/2.0/UDP a:x", 400),
            (b"SIP/2.0/UDP a:", 400),
            (b"SIP/2.0/UDP a:0", 400),
            (b"SIP/2.0/UDP a b", 400),
            (b"SIP/2.0/UDP 192.0.2.15;;", 400),
            (b"SIP/2.0/UDP ;branch=x", 400),
            (b"SIP/2.0/U,P a", 400),
        ):
            with self.subTest(repr(text)):
                with self.assertRaises(ParseError) as caught:
                    Via.parse(text)
                self.assertEqual(caught.exception.status, status)


class CSeqTest(unittest.TestCase):
    def test_both_ways(self):
        cseq = CSeq.parse(b"0009 \t INVITE")
        self.assertEqual((cseq.number, cseq.method), (9, "INVITE"))
        self.assertEqual(cseq.serialize(), b"9 INVITE")
        self.assertEqual(CSeq.parse(b"2147483647 X").number, 2147483647)

    def test_invalid(self):
        for text in (
            b"",
            b"1",
            b"INVITE",
            b"-1 INVITE",
            b"2147483648 INVITE",
            b"1 IN VITE",
            b"1 INV/ITE",
            b"+1 INVITE",
            b"1\x0bINVITE",
            b"1 \x0bINVITE",
            b"1\0INVITE",
        ):
            with self.subTest(repr(text)):
                self.assertRaises(ParseError, CSeq.parse, text)


class KeyTest(unittest.TestCase):
    def test_keys(self):
        for name, key in (
            ("Via", "via"),
            ("v", "via"),
            ("CALL-ID", "call-id"),
            ("I", "call-id"),
            ("X-New", "x-new"),
            ("x", "session-expires"),
            ("", ""),
        ):
            self.assertEqual(header_key(name), key)

    def test_every_compact_form(self):
        """Those that are registered (RFC 3261, 3515, 3841, 3892, 4028, 4474, 6665), and no other letter."""
        for letter, name in (
            ("a", "accept-contact"),
            ("b", "referred-by"),
            ("c", "content-type"),
            ("d", "request-disposition"),
            ("e", "content-encoding"),
            ("f", "from"),
            ("i", "call-id"),
            ("j", "reject-contact"),
            ("k", "supported"),
            ("l", "content-length"),
            ("m", "contact"),
            ("n", "identity-info"),
            ("o", "event"),
            ("r", "refer-to"),
            ("s", "subject"),
            ("t", "to"),
            ("u", "allow-events"),
            ("v", "via"),
            ("x", "session-expires"),
            ("y", "identity"),
        ):
            self.assertEqual(header_key(letter), name)
        for letter in "ghpqwz":
            self.assertEqual(header_key(letter.upper()), letter)


if __name__ == "__main__":
    unittest.main()
