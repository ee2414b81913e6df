import unittest

import storm
from sipwire import srtcp, srtp
from sipwire.replay import ReplayWindow
from sipwire.srtp import SUITES
from support import AES_KEY_BYTES, new_aes

PACKETS = 1500  # of each kind; tools/fuzz storm delivers a million
SUITES_HERE = [suite for suite in SUITES.values() if suite.key_bytes in AES_KEY_BYTES]
SUITE = SUITES[b"AES_CM_128_HMAC_SHA1_32"]


class StormTest(unittest.TestCase):
    def test_all(self):
        for suite in SUITES_HERE:
            for make in (storm.single, storm.reports, storm.session):
                one = make(suite, new_aes)
                one.run(PACKETS)
                self.assertTrue(one.opened > PACKETS // 5)
                self.assertTrue(min(one.counts.values()) > 0, "a way was never gone")

    def breaks(self, module, name, instead, make):
        """The storm sees a receiver that lacks a check."""
        there = getattr(module, name)
        setattr(module, name, instead)
        try:
            with self.assertRaises(AssertionError):
                make(SUITE, new_aes).run(PACKETS)
        finally:
            setattr(module, name, there)

    def test_it_would_be_seen(self):
        self.breaks(srtp, "differs", lambda *_: 0, storm.single)
        self.breaks(srtcp, "same", lambda *_: True, storm.reports)
        for make in (storm.single, storm.reports, storm.session):
            self.breaks(ReplayWindow, "is_fresh", lambda *_: True, make)
            self.breaks(ReplayWindow, "add", lambda *_: None, make)
            self.breaks(ReplayWindow, "is_fresh", lambda *_: False, make)
        self.breaks(srtp, "nearest", lambda seq, highest: seq, storm.single)


if __name__ == "__main__":
    unittest.main()
