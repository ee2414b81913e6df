import random
import unittest

from sipwire.utf8 import decode


class DecodeTest(unittest.TestCase):
    def test_good(self):
        for text in (
            "",
            "abc",
            "\0\x7f",
            "\x80\u07ff",
            "\u0800\ud7ff\ue000\uffff",
            "\U00010000\U0010ffff",
            "\ufeffa\ufffd",
        ):
            self.assertEqual(decode(text.encode()), text)
            self.assertEqual(decode(bytearray(text.encode())), text)

    def test_bad(self):
        """One mark for each stretch."""
        for data, text in (
            (b"\x80", "\ufffd"),
            (b"a\xbf\x80b", "a\ufffdb"),
            (b"\xc0\xaf", "\ufffd"),  # overlong
            (b"\xc1\xbf", "\ufffd"),
            (b"\xe0\x9f\xbf", "\ufffd"),
            (b"\xf0\x8f\xbf\xbf", "\ufffd"),
            (b"\xed\xa0\x80", "\ufffd"),  # a surrogate
            (b"\xed\xbf\xbf", "\ufffd"),
            (b"\xed\x9f\xbf", "\ud7ff"),
            (b"\xf4\x90\x80\x80", "\ufffd"),  # above U+10FFFF
            (b"\xf5\x80\x80\x80", "\ufffd"),
            (b"\xf8\x88\x80\x80\x80", "\ufffd"),
            (b"\xff\xfe", "\ufffd"),
            (b"x\xe2\x82", "x\ufffd"),  # cut off
            (b"\xe2\x82y", "\ufffdy"),
            (b"\xe2\x28\xa1", "\ufffd(\ufffd"),
            (b"\xf0\x9f\x98", "\ufffd"),
            (b"\xc3", "\ufffd"),
            (b"\xc3\xa4\xc3", "\u00e4\ufffd"),
        ):
            self.assertEqual(decode(data), text, data)

    def test_random(self):
        """What comes out is UTF-8 again, and what was good in it is there."""
        random.seed(3629)
        for _ in range(2000):
            data = bytes(
                [
                    random.choice((0x41, 0x80, 0xBF, 0xC3, 0xE2, 0x82, 0xED, 0xA0, 0xF0, 0x9F, 0xF4, 0x90, 0xFF))
                    for _ in range(random.randrange(12))
                ]
            )
            text = decode(data)
            self.assertEqual(decode(text.encode()), text)
            self.assertEqual(text.count("A"), data.count(b"A"))
            self.assertFalse("\ufffd\ufffd" in text)


if __name__ == "__main__":
    unittest.main()
