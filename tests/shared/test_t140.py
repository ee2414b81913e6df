import random
import unittest

from sipwire.t140 import Screen, typed


def seen(text):
    """What a screen shows of a text, however it was cut."""
    screen = Screen()
    screen.apply(text)
    return screen.text


class TypedTest(unittest.TestCase):
    def test_keys(self):
        for keys, text in (
            ("abc \u00e4\u20ac\U0001f600", "abc \u00e4\u20ac\U0001f600"),
            ("a\r\nb\nc\rd", "a\u2028b\u2028c\u2028d"),
            ("a\x7fb\b", "a\bb\b"),
            ("\a", "\a"),
            ("\x00\x03\x1b[A\t\x85\x9b", "[A"),
            ("\xa0", "\xa0"),
            ("", ""),
        ):
            self.assertEqual(typed(keys), text)


class ScreenTest(unittest.TestCase):
    CASES = (
        ("abc", "abc"),
        ("a b\xa0c", "a b\xa0c"),
        ("abc\bd", "abd"),
        ("a\b\b\bb", "b"),
        ("a\r\nb", "a\nb"),
        ("a\u2028b\u2029c\x85d", "a\nb\nc\nd"),
        ("a\nb\rc", "a\nb\nc"),
        ("a\rb\nc", "a\nb\nc"),
        ("a\r\r\n\nb", "a\n\n\nb"),
        ("ab\u2028\bc", "abc"),  # a line's end is erased as any character
        ("ab\r\n\bc", "abc"),
        ("a\ufeffb", "ab"),
        ("a\tb", "a b"),
        ("a\x00\x01\x7f\x80\x84\x9cb", "ab"),
        ("\u00e5\U0001f600\b\u05e9\u0301", "\u00e5\u05e9\u0301"),
        ("e\u0301\b", "e"),  # code points, not graphemes
        ("a\x1b[1;31mb\x1b[0mc", "abc"),
        ("a\x9b31mb", "ab"),
        ("a\x1b[?25hb", "ab"),
        ("a\x1bab", "ab"),  # ESC a: INT
        ("a\x1b(Bb\x1b Fc\x1b/Ad\x1b0e", "abcde"),
        ("a\x1b[1 qb\x1b[?c", "ab"),
        ("a\x98secret\x9cb", "ab"),
        ("a\x1bXsecret\x1b\\b", "ab"),
        ("a\x1b]0;title\x1b\x1b\\b", "ab"),
        ("a\x90x\x9cb\x9dx\x9cc\x9ex\x9cd\x9fx\x9ce\x1bPx\x9cf\x1b^x\x9cg\x1b_x\x9ch", "abcdefgh"),
        ("a\x98x\x1bx\\y\x9cb", "ab"),
        ("a\x1b[\x1bb", "ab"),
        ("\ufffda", "\ufffda"),
    )

    def test_whole_and_piece_by_piece(self):
        for text, shown in self.CASES:
            self.assertEqual(seen(text), shown, text)
            screen = Screen()
            for one in text:
                screen.apply(one)
            self.assertEqual(screen.text, shown, text)

    def test_bell(self):
        screen = Screen()
        self.assertEqual(screen.apply("a\ab\a"), (0, "ab"))
        self.assertEqual(screen.bells, 2)

    def test_string_without_an_end(self):
        """It hides a bounded stretch, and not the rest of the call."""
        self.assertEqual(seen("a\x98" + "x" * 257 + "bc"), "abc")
        self.assertEqual(seen("a\x98" + "x" * 256 + "\x9cbc"), "abc")
        self.assertEqual(seen("\x98" + "x" * 200 + "\x9c\x98" + "x" * 200 + "\x9cb"), "b")
        self.assertEqual(seen(("\x1bX" + "x" * 200 + "\x1b\\") * 3 + "b"), "b")

    def test_line(self):
        screen = Screen()
        for text, line in (("abc", "abc"), ("\u2028", ""), ("de\u2028fg", "fg"), ("\b\b\b", "de"), ("\b", "d")):
            screen.apply(text)
            self.assertEqual(screen.line(), line)

    def test_what_to_do(self):
        screen = Screen()
        for text, done in (
            ("abc", (0, "abc")),
            ("\b\bxy", (2, "xy")),
            ("z\b", (0, "")),
            ("\b\b\b\b\b", (3, "")),
            ("\b", (0, "")),
            ("a\r", (0, "a\n")),
            ("\nb", (0, "b")),
            ("\x1b", (0, "")),
            ("[31", (0, "")),
            ("mc", (0, "c")),
        ):
            self.assertEqual(screen.apply(text), done, text)

    def test_what_is_kept(self):
        screen = Screen()
        screen.apply("x" * 1000)
        self.assertEqual(len(screen.text), 400)
        self.assertEqual(screen.apply("\b" * 1000), (400, ""))
        self.assertEqual(screen.apply("y" * 500 + "\b" * 600), (0, ""))

    def test_random(self):
        """Erasing and showing as told gives the same as is kept, and no control character is shown."""
        random.seed(140)
        for _ in range(200):
            screen = Screen()
            shown = ""
            for _ in range(30):
                text = "".join(
                    [
                        random.choice("abc\u00e4 \b\b\r\n\u2028\x1b[m\x98\x9c\x9b1\a\t\ufeff\x7f")
                        for _ in range(random.randrange(8))
                    ]
                )
                erase, added = screen.apply(text)
                self.assertTrue(0 <= erase <= len(shown))
                shown = shown[: len(shown) - erase] + added
                self.assertFalse([one for one in added if (one < " " and one != "\n") or "\x7f" <= one < "\xa0"])
            self.assertEqual(shown, screen.text)


if __name__ == "__main__":
    unittest.main()
