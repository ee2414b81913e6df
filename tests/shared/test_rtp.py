import unittest

from sipwire.errors import ParseError
from sipwire.rtp import build_header, header_size, parse, seq_delta


class HeaderTest(unittest.TestCase):
    def test_both_ways(self):
        packet = bytearray(172)
        build_header(packet, 8, 0xFEDC, 0x89ABCDEF, 0xF1234567, True)
        self.assertEqual(bytes(packet[:12]), b"\x80\x88\xfe\xdc\x89\xab\xcd\xef\xf1\x23\x45\x67")
        self.assertEqual(parse(packet, 172), (8, 0xFEDC, 0x89ABCDEF, 12, 172, True))
        build_header(packet, 0, 1, 2, 3)
        self.assertEqual(parse(packet, 20), (0, 1, 2, 12, 20, False))

    def test_csrc_extension_padding(self):
        packet = b"\xb2\x00\0\1\0\0\0\2\0\0\0\3" + b"CSR1CSR2" + b"\xbe\xde\0\1ext1" + b"payload" + b"\0\0\3"
        self.assertEqual(header_size(packet, len(packet)), 28)
        self.assertEqual(parse(packet, len(packet)), (0, 1, 2, 28, 35, False))

    def test_invalid(self):
        good = b"\xb2\x00\0\1\0\0\0\2\0\0\0\3" + b"CSR1CSR2" + b"\xbe\xde\0\1ext1"
        for size in range(len(good)):
            self.assertRaises(ParseError, parse, good[:size], size)
        for packet in (b"\0" * 20, b"\x40" + bytes(20), b"\xa0" + bytes(20), b"\xa0" + bytes(19) + b"\xff"):
            self.assertRaises(ParseError, parse, packet, len(packet))

    def test_seq_delta(self):
        for seq, reference, delta in (
            (1, 0, 1),
            (0, 1, -1),
            (0, 65535, 1),
            (65535, 0, -1),
            (32767, 0, 32767),
            (32768, 0, -32768),
            (5, 5, 0),
        ):
            self.assertEqual(seq_delta(seq, reference), delta)


if __name__ == "__main__":
    unittest.main()
