import unittest

from sipwire.errors import ParseError
from sipwire.uri import Uri, unescape


class UriTest(unittest.TestCase):
    # (text, scheme, user, host, port, params)
    CASES = [
        (b"sip:example.com", b"sip", None, b"example.com", None, []),
        (b"sip:bob@b.example", b"sip", b"bob", b"b.example", None, []),
        (b"sips:bob@b.example:5061", b"sips", b"bob", b"b.example", 5061, []),
        (
            b"sip:bob:pw@b.example;transport=tcp;lr",
            b"sip",
            b"bob:pw",
            b"b.example",
            None,
            [(b"transport", b"tcp"), (b"lr", None)],
        ),
        (b"sip:[2001:db8::10]", b"sip", None, b"[2001:db8::10]", None, []),
        (b"sip:u@[2001:db8::10]:5070;x=y", b"sip", b"u", b"[2001:db8::10]", 5070, [(b"x", b"y")]),
        (b"sip:[2001:db8::10:5070]", b"sip", None, b"[2001:db8::10:5070]", None, []),
        (b"sip:user;par=u%40example.net@example.com", b"sip", b"user;par=u%40example.net", b"example.com", None, []),
        (
            b"sip:+1-212-555-1212:1234@gw.com;user=phone",
            b"sip",
            b"+1-212-555-1212:1234",
            b"gw.com",
            None,
            [(b"user", b"phone")],
        ),
        (b"sip:a?b@c.d", b"sip", b"a?b", b"c.d", None, []),
    ]

    def test_both_ways(self):
        for text, scheme, user, host, port, params in self.CASES:
            uri = Uri.parse(text)
            self.assertEqual((uri.scheme, uri.user, uri.host, uri.port, uri.params), (scheme, user, host, port, params))
            self.assertEqual(uri.serialize(), text)
            self.assertTrue(uri.is_sip)

    def test_scheme_is_case_insensitive(self):
        self.assertEqual(Uri.parse(b"SIP:a@b").scheme, b"sip")

    def test_headers(self):
        uri = Uri.parse(b"sip:a@b.c;x?Subject=hi&Route=%3Csip:d%3E")
        self.assertEqual(uri.headers, b"Subject=hi&Route=%3Csip:d%3E")
        self.assertEqual(uri.serialize(), b"sip:a@b.c;x?Subject=hi&Route=%3Csip:d%3E")

    def test_other_schemes(self):
        for text in (
            b"tel:+358-555-1234567;postd=pp22",
            b"soap.beep://192.0.2.103:3002",
            b"nobodyKnowsThisScheme:totallyopaquecontent",
        ):
            uri = Uri.parse(text)
            self.assertFalse(uri.is_sip)
            self.assertEqual(uri.serialize().lower(), text.lower())

    def test_made(self):
        uri = Uri(b"b.example", b"bob", 5061, [(b"lr", None)], b"sips")
        self.assertEqual(uri.serialize(), b"sips:bob@b.example:5061;lr")
        self.assertEqual(uri.param("lr"), b"")
        self.assertIsNone(uri.param("transport"))

    INVALID = [
        b"",
        b"sip",
        b"sip:",
        b":a",
        b"1sip:a",
        b"<sip:a@b>",
        b"sip:a b@c",
        b"sip:@b.example",
        b"sip:a@",
        b"sip:a@b@c",
        b"sip:a@b:port",
        b"sip:a@b:0",
        b"sip:a@b:65536",
        b"sip:a@b:",
        b"sip:2001:db8::10",
        b"sip:[2001:db8::10",
        b"sip:a@b..c",
        b"sip:a%4@b",
        b"sip:a%zz@b",
        b"sip:a\0@b",
        b"sip:a@b;=x",
        b"sip:a@b;x=",
        b"sip:a@b;;",
        b'sip:"a"@b',
        b"sip:a@b\r\nVia: x",
        b"sip::pw@b",
        b"sip:a@b;x=%zz",
        b"sip:a@b;x=%4",
        b"sip:a@b?x=%",
        b"sip:a@b;x=\0",
        b"sip:a@b;x=\x7f",
        b"sip:a@b?x=\x0b",
        b"sip:a@b;x=\xc3\xa9",
        b"sip:a@b;x=c,d",
        b"sip:a@[1:2]",
        b"tel:+1 2",
        b"tel:+1\x0b2",
        b"tel:\xc3\xa9",
        b"urn:<a>",
    ]

    def test_invalid(self):
        for text in self.INVALID:
            with self.subTest(repr(text)):
                self.assertRaises(ParseError, Uri.parse, text)

    def test_unescape_once(self):
        self.assertEqual(unescape(b"a%2541%42"), b"a%41B")
        self.assertEqual(unescape(b"abc"), b"abc")
        for text in (b"%", b"%4", b"%g0", b"a%4"):
            self.assertRaises(ParseError, unescape, text)

    def test_aor(self):
        for text, aor in (
            (b"sip:Bob@B.Example", b"sip:Bob@b.example"),
            (b"sips:bob@b.example:5061;transport=tls", b"sip:bob@b.example"),
            (b"sip:bob:secret@b.example", b"sip:bob@b.example"),
            (b"sip:%62ob@b.example", b"sip:bob@b.example"),
            (b"sip:b.example:5060", b"sip:b.example"),
            # What can't stand in a user stays escaped: nobody gets to be "b" at "evil", or to bring a line end.
            (b"sip:a%40b.example@evil.example", b"sip:a%40b.example@evil.example"),
            (b"sip:a%0Asip:b@c", b"sip:a%0Asip@c"),
            (b"sip:a%2541@c", b"sip:a%2541@c"),
            (b"sip:a%3ab@c", b"sip:a%3Ab@c"),
            (b"sip:%c3%ab%2b%5f@c", b"sip:%C3%AB+_@c"),
        ):
            self.assertEqual(Uri.parse(text).aor(), aor)
            self.assertEqual(Uri.parse(aor).aor(), aor, "said again it is the same")


if __name__ == "__main__":
    unittest.main()
