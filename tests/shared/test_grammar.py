import unittest

from sipwire.errors import ParseError
from sipwire.grammar import (
    first_word,
    get_param,
    is_host,
    is_token,
    join_params,
    parse_params,
    parse_port,
    parse_uint,
    quote,
    split_list,
    unfold,
    unquote,
)


class TokenTest(unittest.TestCase):
    def test_token(self):
        for value in (b"INVITE", b"!interesting-Method0123456789_*+`.%indeed'~", b"a"):
            self.assertTrue(is_token(value))
        for value in (b"", b" ", b"a b", b"a:b", b"a\0", b'"a"', b"\xc3\xa9", b"a/b", b"a@b"):
            self.assertFalse(is_token(value))

    def test_host(self):
        for value in (b"a", b"example.com", b"192.0.2.1", b"[2001:db8::1]", b"[2001:db8::192.0.2.1]", b"a-b.C9"):
            self.assertTrue(is_host(value))
        for value in (
            b"",
            b".",
            b"a..b",
            b"a b",
            b"[",
            b"[]",
            b"[1]",
            b"2001:db8::1",
            b"[2001:db8::1",
            b"[g::1]",
            b"a/b",
            b"-\0",
        ):
            self.assertFalse(is_host(value), value)

    # As RFC 4291 section 2.2 has them; RFC 5118 section 4.10 adds the third colon before an IPv4 address.
    IPV6 = [
        (b"::", True),
        (b"::1", True),
        (b"1::", True),
        (b"1:2:3:4:5:6:7:8", True),
        (b"1:2:3:4:5:6:7::", True),
        (b"2001:DB8::0008:800:200c:417A", True),
        (b"2001:db8::10:5070", True),
        (b"::ffff:192.0.2.128", True),
        (b"1:2:3:4:5:6:192.0.2.1", True),
        (b"2001:db8::192.0.2.1", True),
        (b"2001:db8:::192.0.2.1", True),
        (b":::192.0.2.1", True),
        (b"", False),
        (b":", False),
        (b":::", False),
        (b":1", False),
        (b"1:", False),
        (b"1:2", False),
        (b"1:2:3:4:5:6:7", False),
        (b"1:2:3:4:5:6:7:8:9", False),
        (b"1:2:3:4:5:6:7:8::", False),
        (b"1::2::3", False),
        (b"12345::", False),
        (b"g::", False),
        (b"+1::", False),
        (b"2001:db8:::1", False),
        (b"2001:db8::::192.0.2.1", False),
        (b"1:2:3:4:5:6:7:192.0.2.1", False),
        (b"::192.0.2", False),
        (b"::192.0.2.256", False),
        (b"::192.0.2.1.", False),
        (b"192.0.2.1", False),
        (b"::192.0.2.1:1", False),
        (b"fe80::1%eth0", False),
    ]

    def test_ipv6(self):
        for value, good in self.IPV6:
            self.assertEqual(is_host(b"[" + value + b"]"), good, value)
            self.assertFalse(is_host(value) and b":" in value, value)


class NumberTest(unittest.TestCase):
    def test_uint(self):
        self.assertEqual(parse_uint(b"0009", 10, "x"), 9)
        self.assertEqual(parse_uint(b"4294967295", 0xFFFFFFFF, "x"), 0xFFFFFFFF)
        # All of these int() would read, on one Python or the other.
        for value in (b"", b"+5", b" 5", b"5 ", b"1_0", b"-1", b"0x5", b"5.0", b"\xb2", b"11", b"0" * 21, b"9" * 30):
            self.assertRaises(ParseError, parse_uint, value, 10, "x")

    def test_port(self):
        self.assertEqual(parse_port(b"5060"), 5060)
        for value in (b"0", b"65536", b"", b"50 60"):
            self.assertRaises(ParseError, parse_port, value)


class SplitTest(unittest.TestCase):
    CASES = [
        (b"", [b""]),
        (b"a", [b"a"]),
        (b"a,b", [b"a", b"b"]),
        (b" a , b ", [b"a", b"b"]),
        (b",", [b"", b""]),
        (b'"a,b",c', [b'"a,b"', b"c"]),
        (b'"a\\",b",c', [b'"a\\",b"', b"c"]),
        (b'"a\\\\",b', [b'"a\\\\"', b"b"]),
        (b"<sip:a,b@c>,d", [b"<sip:a,b@c>", b"d"]),
        (b'"<" <sip:a>;x=">",y', [b'"<" <sip:a>;x=">"', b"y"]),
        (b'<a"b,c">,"d"', [b'<a"b,c">', b'"d"']),
        (b'a"b,c"d,e', [b'a"b,c"d', b"e"]),
        (b'"a",', [b'"a"', b""]),
        (b'""', [b'""']),
        (b"<>,<>", [b"<>", b"<>"]),
        (b'"\\\\\\"",a', [b'"\\\\\\""', b"a"]),
        (b"a>,b", [b"a>", b"b"]),
    ]

    def test_split(self):
        for value, parts in self.CASES:
            self.assertEqual(split_list(value, b","), parts)

    def test_unbalanced(self):
        for value in (b'"a', b'a,"', b'"a\\"', b"<a", b"a,<b,c", b'""",', b'<a>"', b'"<"<'):
            self.assertRaises(ParseError, split_list, value + b"", b",")


class WordTest(unittest.TestCase):
    def test_first_word(self):
        for value, word, rest in (
            (b"", b"", b""),
            (b"a", b"a", b""),
            (b"a b c ", b"a", b"b c"),
            (b"a\t b", b"a", b"b"),
            (b"a \tb", b"a", b"b"),
            (b" a", b"", b"a"),
            (b"a\x0bb\x0cc\nd e", b"a\x0bb\x0cc\nd", b"e"),
        ):
            self.assertEqual(first_word(value), (word, rest))


class QuoteTest(unittest.TestCase):
    def test_both_ways(self):
        for text in (b"", b"a", b'a"b', b"a\\b", b'\\"', b"\xc3\xa9 \0"):
            self.assertEqual(unquote(quote(text)), text)
        self.assertEqual(unquote(b"bare"), b"bare")
        self.assertEqual(unquote(b'"\\a\\b"'), b"ab")

    def test_malformed(self):
        for value in (b'"', b'"a', b'"a"b', b'"a\\"'):
            self.assertRaises(ParseError, unquote, value)

    def test_unfold(self):
        self.assertEqual(unfold(b" a\r\n b\r\n\t c "), b"a b c")


class ParamTest(unittest.TestCase):
    def test_pairs_keep_order_and_form(self):
        params = parse_params([b"b=1", b"A", b'c = "x;\\"y"', b"B=2"])
        self.assertEqual(params, [(b"b", b"1"), (b"A", None), (b"c", b'"x;\\"y"'), (b"B", b"2")])
        self.assertEqual(join_params(params), b';b=1;A;c="x;\\"y";B=2')
        self.assertEqual(get_param(params, "b"), b"1")
        self.assertEqual(get_param(params, "a"), b"")
        self.assertEqual(get_param(params, "c"), b'x;"y')
        self.assertIsNone(get_param(params, "d"))

    def test_malformed(self):
        for part in (b"", b"=", b"=a", b"a=", b"a b=c", b'a="b', b'a="b"c', b"a\0=b"):
            self.assertRaises(ParseError, parse_params, [part])

    def test_values(self):
        """What ends a value for others needs quotes; addresses and base64 do not (RFC 5118 section 4.5)."""
        for value in (b"2001:db8::9:255", b"[::1]:5060", b"YQ==", b"a/b", b"%41", b"!$&'()*+-._~?@#^`{|}"):
            self.assertEqual(parse_params([b"a=" + value]), [(b"a", value)])
        for byte in b' \t\0\x0b\x7f\xc3,;<>\\"':
            self.assertRaises(ParseError, parse_params, [b"a=b" + bytes([byte]) + b"c"])
            if byte not in b'"\\':
                quoted = b'"b' + bytes([byte]) + b'c"'
                self.assertEqual(parse_params([b"a=" + quoted]), [(b"a", quoted)])


if __name__ == "__main__":
    unittest.main()
