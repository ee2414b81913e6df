import unittest

from sipwire.digest import MD5, SHA256, Challenge, Credentials, authenticate, choose, ha1
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.errors import ParseError, SecurityError
from support import load

SECRET = ha1(b"alice", b"a.example", b"secret")


class VectorTest(unittest.TestCase):
    def test_published(self):
        done = 0
        for case in load("digest/digest.json"):
            get = lambda name, case=case: (case.get(name) or "").encode()  # noqa: E731
            algorithm = get("alg") or MD5
            if algorithm == b"SHA-512-256":
                self.assertRaises(ParseError, ha1, get("user"), get("realm"), get("pw"), algorithm)
                continue
            secret = ha1(get("user"), get("realm"), get("pw"), algorithm)
            if not algorithm.endswith(b"-sess"):
                self.assertEqual(secret, get("HA1"), case["source"])
            credentials = Credentials(
                get("user"), get("realm"), get("nonce"), get("uri"), algorithm, get("qop"), get("nc"), get("cnonce")
            )
            self.assertEqual(credentials.compute(secret, case["method"], get("body")), get("response"), case["source"])
            if case.get("rspauth_empty_body"):
                self.assertEqual(credentials.compute(secret, ""), get("rspauth_empty_body"), case["source"])
            done += 1
        self.assertEqual(done, 11)


class ChallengeTest(unittest.TestCase):
    CASES = [
        (
            Challenge(b"a.example", b"n1", SHA256, (b"auth", b"auth-int"), None, False),
            b'Digest realm="a.example", nonce="n1", algorithm=SHA-256, qop="auth,auth-int"',
        ),
        (
            Challenge(b'a "b"', b"n1", MD5, (), b"op", True),
            b'Digest realm="a \\"b\\"", nonce="n1", opaque="op", stale=true, algorithm=MD5',
        ),
    ]

    def test_both_ways(self):
        for challenge, text in self.CASES:
            self.assertEqual(serialize_challenge(challenge), text)
            again = Challenge.parse(text)
            for name in ("realm", "nonce", "algorithm", "qop", "opaque", "stale"):
                self.assertEqual(getattr(again, name), getattr(challenge, name))

    def test_liberal(self):
        challenge = Challenge.parse(b'DIGEST  Realm="x" ,nonce="y",qop="AUTH , auth-int",stale=TRUE,x=y,')
        self.assertEqual((challenge.qop, challenge.stale, challenge.algorithm), ((b"auth", b"auth-int"), True, MD5))

    def test_invalid(self):
        for value in (
            b"",
            b"Digest",
            b'Digest\x0brealm="x", nonce="y"',
            b'Basic realm="x"',
            b'Digest realm="x"',
            b'Digest nonce="x"',
            b'Digest realm="x, nonce="y"',
            b"Digest a b",
            b'Digest realm="x", nonce="y", algorithm="MD5, x"',
            b'Digest realm="x", nonce="y", qop="auth, a b"',
        ):
            self.assertRaises(ParseError, Challenge.parse, value)


class ChooseTest(unittest.TestCase):
    SHA = b'Digest realm="a.example", nonce="1", algorithm=SHA-256, qop="auth"'
    OLD = b'Digest realm="a.example", nonce="2"'
    NEW = b'Digest realm="a.example", nonce="3", algorithm=SHA-512-256, qop="auth"'
    OTHER = b'Digest realm="evil.example", nonce="4", algorithm=SHA-256'

    def test_choose(self):
        for values, md5, nonce in (
            ([self.SHA], False, b"1"),
            ([self.NEW, self.SHA], False, b"1"),
            ([self.OLD, self.SHA], False, b"1"),
            ([self.OLD, self.SHA], True, b"2"),
            ([b"Negotiate x", self.SHA], False, b"1"),
            ([self.OLD], False, None),
            ([self.OTHER], True, None),
            ([self.OTHER, self.OLD], True, b"2"),
            ([], True, None),
        ):
            challenge = choose(values, b"a.example", md5)
            self.assertEqual(challenge and challenge.nonce, nonce)


class CredentialsTest(unittest.TestCase):
    def answer(self, **changes):
        challenge = Challenge(b"a.example", b"n", SHA256, (b"auth", b"auth-int"), b"op")
        for name, value in changes.items():
            setattr(challenge, name, value)
        return authenticate(
            challenge, b"alice", SECRET, "REGISTER", b"sip:a.example", b"cn", 1, b"body", changes.get("qop") is None
        )

    def test_both_ways(self):
        credentials = self.answer()
        self.assertEqual(credentials.qop, b"auth-int")
        again = parse_credentials(credentials.serialize())
        for name in ("username", "realm", "nonce", "uri", "response", "algorithm", "qop", "nc", "cnonce", "opaque"):
            self.assertEqual(getattr(again, name), getattr(credentials, name), name)
        verify(again, SECRET, "REGISTER", b"body")

    def test_form(self):
        """qop, nc and algorithm without quotes, opaque echoed: what servers stumble over."""
        text = self.answer().serialize()
        for part in (
            b"qop=auth-int",
            b"nc=00000001",
            b"algorithm=SHA-256",
            b'opaque="op"',
            b'cnonce="cn"',
            b'uri="sip:a.example"',
        ):
            self.assertIn(part, text.split(b" ", 1)[1].split(b", "))

    def test_rfc2069(self):
        credentials = self.answer(qop=())
        self.assertEqual((credentials.qop, credentials.nc, credentials.cnonce), (b"", b"", b""))
        self.assertNotIn(b"qop", credentials.serialize())
        self.assertNotIn(b"cnonce", credentials.serialize())
        verify(parse_credentials(credentials.serialize()), SECRET, "REGISTER")

    def test_empty_opaque_is_echoed(self):
        self.assertIn(b'opaque=""', self.answer(opaque=b"").serialize())
        self.assertNotIn(b"opaque", self.answer(opaque=None).serialize())

    def test_what_is_signed(self):
        credentials = self.answer()
        for method, body in (("INVITE", b"body"), ("REGISTER", b"Body"), ("REGISTER", b"")):
            self.assertRaises(SecurityError, verify, credentials, SECRET, method, body)
        self.assertRaises(
            SecurityError, verify, credentials, ha1(b"alice", b"a.example", b"Secret"), "REGISTER", b"body"
        )
        for name in ("nonce", "uri", "nc", "cnonce"):
            credentials = self.answer()
            setattr(credentials, name, getattr(credentials, name) + b"0")
            self.assertRaises(SecurityError, verify, credentials, SECRET, "REGISTER", b"body")

    def test_integrity_is_not_given_up(self):
        challenge = Challenge(b"a.example", b"n", SHA256, (b"auth",))
        with self.assertRaises(SecurityError):
            authenticate(challenge, b"alice", SECRET, "REGISTER", b"sip:a", b"cn", 1, b"", True)

    def test_invalid(self):
        good = self.answer().serialize()
        for value in (
            good.replace(b"Digest", b"Basic"),
            good.replace(b'username="alice", ', b""),
            good.replace(b'nonce="n", ', b""),
            good.replace(b"nc=00000001", b"nc=1"),
            good.replace(b"nc=00000001", b"nc=0000000g"),
            good.replace(b'cnonce="cn", ', b""),
            good + b', nonce="other"',
            good + b', NONCE="other"',
            good.replace(b'nonce="n"', b'nonce="' + b"n" * 300 + b'"'),
            good.replace(b'realm="', b"realm="),
            good.replace(b"algorithm=SHA-256", b'algorithm="SHA-256, x=y"'),
            good.replace(b"qop=auth-int", b'qop="auth-int, x=y"'),
        ):
            self.assertNotEqual(value, good)
            self.assertRaises(ParseError, parse_credentials, value)
        credentials = self.answer()
        credentials.qop = b"auth-conf"
        self.assertRaises(ParseError, credentials.compute, SECRET, "REGISTER")


if __name__ == "__main__":
    unittest.main()
