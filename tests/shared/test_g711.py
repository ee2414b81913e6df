import unittest

from sipwire.g711 import PCMA, PCMU, Codec


def levels(codec):
    """What each code decodes to."""
    pcm = bytearray(512)
    codec.decode(bytearray(range(256)), 0, pcm, 256)
    out = []
    for i in range(256):
        value = pcm[2 * i] | pcm[2 * i + 1] << 8
        out.append(value - 0x10000 if value & 0x8000 else value)
    return out


def encode(codec, values):
    pcm = bytearray()
    for value in values:
        pcm += (value & 0xFFFF).to_bytes(2, "little")
    out = bytearray(len(values) + 2)
    codec.encode(pcm, out, 2, len(values))
    return out[2:]


class G711Test(unittest.TestCase):
    # G.711 tables 1 and 2: some levels, as 16-bit samples (their 13 and 14 bits times 8 and 4).
    PUBLISHED = {
        PCMU: ((0xFF, 0), (0xFE, 8), (0xF0, 120), (0xEF, 132), (0x80, 32124), (0x7F, 0), (0x7E, -8), (0x00, -32124)),
        PCMA: ((0xD5, 8), (0xD4, 24), (0x55, -8), (0xAA, 32256), (0x2A, -32256), (0xC5, 264), (0x80, 5504)),
    }

    def test_published_levels(self):
        for law, cases in self.PUBLISHED.items():
            table = levels(Codec(law))
            for code, level in cases:
                self.assertEqual(table[code], level)

    def test_each_level_encodes_to_itself(self):
        for law in (PCMU, PCMA):
            codec = Codec(law)
            table = levels(codec)
            codes = encode(codec, table)
            for code in range(256):
                # Mu-law has a negative zero, which no linear sample stands for.
                if law == PCMU and code == 0x7F:
                    continue
                self.assertEqual(codes[code], code)

    def test_error_is_within_half_a_step(self):
        """The laws see 14 and 13 bits of a sample; where two segments meet, the wider step counts."""
        for law, rounding in ((PCMU, 4), (PCMA, 8)):
            codec = Codec(law)
            table = levels(codec)
            ordered = sorted(set(table))
            values = list(range(-32768, 32768, 37)) + list(range(-300, 300))
            for value, code in zip(values, encode(codec, values)):
                at = ordered.index(table[code])
                below = ordered[at] - ordered[at - 1] if at else 2048
                above = ordered[at + 1] - ordered[at] if at + 1 < len(ordered) else 2048
                self.assertLessEqual(abs(table[code] - value), max(below, above) // 2 + rounding)

    def test_monotonic_and_odd(self):
        for law in (PCMU, PCMA):
            codec = Codec(law)
            table = levels(codec)
            values = list(range(-32768, 32768, 16))
            heard = [table[code] for code in encode(codec, values)]
            self.assertEqual(heard, sorted(heard))
            mirrored = [-table[code] for code in encode(codec, [-1 - value for value in values])]
            self.assertEqual(heard, mirrored)

    def test_silence(self):
        for law in (PCMU, PCMA):
            codec = Codec(law)
            self.assertEqual(encode(codec, [0])[0], codec.silence)


if __name__ == "__main__":
    unittest.main()
