import unittest

from sipwire.date import parse_date
from sipwire.errors import ParseError


class DateTest(unittest.TestCase):
    # By GNU date -u -d @SECONDS.
    DATES = [
        (0, b"Thu, 01 Jan 1970 00:00:00 GMT"),
        (951782400, b"Tue, 29 Feb 2000 00:00:00 GMT"),
        (951868799, b"Tue, 29 Feb 2000 23:59:59 GMT"),
        (951868800, b"Wed, 01 Mar 2000 00:00:00 GMT"),
        (1289690940, b"Sat, 13 Nov 2010 23:29:00 GMT"),
        (1709251199, b"Thu, 29 Feb 2024 23:59:59 GMT"),
        (1795262400, b"Sat, 21 Nov 2026 12:00:00 GMT"),
        (4107542399, b"Sun, 28 Feb 2100 23:59:59 GMT"),
        (4107542400, b"Mon, 01 Mar 2100 00:00:00 GMT"),
    ]

    def test_dates(self):
        for seconds, date in self.DATES:
            self.assertEqual(parse_date(date), seconds, date)

    def test_leap_second(self):
        self.assertEqual(parse_date(b"Sat, 31 Dec 2016 23:59:60 GMT"), 1483228800)

    def test_malformed(self):
        good = b"Sat, 21 Nov 2026 12:00:00 GMT"
        changes = [
            (b"Sat", b"Sun"),
            (b"Sat,", b"Sat"),
            (b"21 ", b"1 "),
            (b"21 ", b"00 "),
            (b"21 ", b"31 "),
            (b"21 ", b"+1 "),
            (b"Nov", b"nov"),
            (b"2026", b"26"),
            (b"2026", b"1969"),
            (b"12:", b"24:"),
            (b"12:", b"1:"),
            (b":00:", b":60:"),
            (b":00 ", b":61 "),
            (b"GMT", b"UTC"),
            (b" GMT", b""),
            (b" GMT", b" GMT "),
            (b"Sat, ", b"Sat,  "),
        ]
        for old, new in changes:
            with self.assertRaises(ParseError):
                parse_date(good.replace(old, new, 1))
        for bad in (b"", b"Thu, 29 Feb 2100 00:00:00 GMT", b"Mon, 29 Feb 2100 00:00:00 GMT", good[:-1]):
            with self.assertRaises(ParseError):
                parse_date(bad)
