import unittest

from sipwire import compat, plain
from sipwire.compat import a2b_hex, b64decode, b64encode, hex_of
from sipwire.errors import ParseError


class Base64Test(unittest.TestCase):
    CASES = [(b"", b""), (b"f", b"Zg=="), (b"fo", b"Zm8="), (b"foo", b"Zm9v"), (b"\xff\xfe\xfd\xfc", b"//79/A==")]
    INVALID = [
        b"Z",
        b"Zg=",
        b"Zg===",
        b"Zh==",
        b"Zm9",
        b"Zm9=",
        b"Zm 9v",
        b"Zm9v\n",
        b"Z-8=",
        b"=",
        b"====",
        b"Zg==Zg==",
    ]

    def test_both_ways(self):
        for data, text in self.CASES:
            self.assertEqual(b64encode(data), text)
            self.assertEqual(b64decode(text), data)
            self.assertEqual(b64decode(text.rstrip(b"=")), data)

    def test_invalid(self):
        for text in self.INVALID:
            with self.subTest(repr(text)):
                self.assertRaises(ParseError, b64decode, text)

    def test_hex(self):
        self.assertEqual(hex_of(b"\x00\xab"), b"00ab")
        self.assertEqual(a2b_hex(b"00ab"), b"\x00\xab")


class LoopTest(unittest.TestCase):
    """`plain` and whatever `compat` chose (native code, on MicroPython) do the same."""

    def test_xor(self):
        for module in (plain, compat):
            for start, size in ((0, 0), (0, 1), (3, 160), (12, 33)):
                data = bytearray(range(200))
                pad = bytearray([(7 * i + 1) & 0xFF for i in range(180)])
                module.xor(data, start, pad, size)
                wanted = [i ^ pad[i - start] if start <= i < start + size else i for i in range(200)]
                self.assertEqual(data, bytearray(wanted))

    def test_copy_and_differs(self):
        for module in (plain, compat):
            data = bytearray(10)
            module.copy(data, 3, b"-abcdef", 1, 4)
            self.assertEqual(data, bytearray(b"\0\0\0abcd\0\0\0"))
            self.assertEqual(module.differs(data, 3, b"abcdef", 4), 0)
            self.assertEqual(module.differs(data, 3, b"abcdef", 0), 0)
            for other in (b"Abcd", b"abcD", b"abXd"):
                self.assertNotEqual(module.differs(data, 3, other, 4), 0)

    def test_set_index(self):
        for module in (plain, compat):
            counters = bytearray(48)
            module.set_index(counters, 3, 0xABCD)
            self.assertEqual(counters, bytearray((bytes(12) + b"\xab\xcd" + bytes(2)) * 3))

    def test_encoders_agree(self):
        lengths = bytes([len(bin(i)) - 2 if i else 0 for i in range(128)])
        pcm = bytearray()
        for value in range(0, 0x10000, 7):
            pcm += value.to_bytes(2, "little")
        samples = len(pcm) // 2
        for name in ("ulaw_encode", "alaw_encode"):
            one, two = bytearray(samples + 1), bytearray(samples + 1)
            getattr(plain, name)(pcm, one, 1, samples, lengths)
            getattr(compat, name)(pcm, two, 1, samples, lengths)
            self.assertEqual(one, two)

    def test_decode(self):
        table = bytearray([i & 0xFF for i in range(512)])
        for module in (plain, compat):
            pcm = bytearray(6)
            module.decode(bytearray(b"\0\x05\xff\x80"), 1, pcm, 3, table)
            self.assertEqual(pcm, bytearray([10, 11, 254, 255, 0, 1]))


if __name__ == "__main__":
    unittest.main()
