"""SRTP against other projects' packets and keys, on both Pythons: run by tests/host/test_srtp_corpora.py.

Not named as a test, because what it reads lies beside this repository, and need not: ``WISP_CORPORA`` says where.
"""

import json
import os
import unittest

from sipwire.crypto import KeyParam
from sipwire.errors import ParseError, SecurityError
from sipwire.sessions import SessionReceiver, SessionSender, Terms
from sipwire.srtp import SUITES, SrtpReceiver, SrtpSender, session_keys
from support import AES_KEY_BYTES, new_aes, unhex

FOLDER = (os.getenv("WISP_CORPORA") or "") + "/srtp/"
NULL = b"NULL_HMAC_SHA1_80"  # what is AES-128-CM, unencrypted by agreement
NO_TAG = b"NULL_NULL_NOAUTH"


def load(name):
    with open(FOLDER + name) as file:
        return json.load(file)


def rated(salt, r):
    """The master salt that gives the keys of r, see `sipwire.sessions`."""
    end = (int.from_bytes(salt[8:], "big") ^ r).to_bytes(6, "big")
    return salt[:8] + end


class CorpusTest(unittest.TestCase):
    def test_key_derivation(self):
        """Rates 0, 1 and 16; SRTCP there has the label where nobody has it, so those keys are not to come out."""
        done = []
        for case in load("kdf_symcrypt.json")["tests"]:
            key, salt = unhex(case["master_key"]), unhex(case["master_salt"])
            if len(key) not in AES_KEY_BYTES:
                continue
            r = int(case["index"], 16) // case["kdr"] if case["kdr"] else 0
            first = case["label"] // 3 * 3
            keys = session_keys(key, rated(salt, r), new_aes, first)
            same = keys[(0, 1, 2)[case["label"] - first]] == unhex(case["output"])
            self.assertEqual(same, case["deployed_behaviour"])
            done.append(same)
        self.assertEqual((done.count(True), done.count(False)), (9 * len(AES_KEY_BYTES), 9 * len(AES_KEY_BYTES)))

    def session(self, case):
        """A sender and a receiver for a packet of libsrtp's."""
        name = case["suite"].encode()
        is_null = name == NULL
        suite = SUITES[b"AES_CM_128_HMAC_SHA1_80" if is_null else name]
        keys = [KeyParam(unhex(case["master_key"]) + unhex(case["master_salt"]), None, unhex(case["mki"]))]
        terms = Terms(0, 64, is_null, is_null)
        return SessionSender(suite, keys, new_aes, terms), SessionReceiver(suite, keys, new_aes, terms)

    def test_packets(self):
        done = 0
        for case in load("libsrtp_packets.json"):
            name = case["suite"].encode()
            if "cryptex" in case or "encrypted_ext_ids" in case or name == NO_TAG or name.startswith(b"AEAD_"):
                continue
            sender, receiver = self.session(case)
            plain, wire = unhex(case["plain"]), unhex(case["protected"])
            if case["kind"] == "srtp":
                packet = bytearray(plain + bytes(sender.overhead_bytes))
                size = sender.protect(packet, len(plain))
                self.assertEqual(bytes(packet[:size]), wire, case["name"])
                packet = bytearray(wire)
                self.assertEqual(bytes(packet[: receiver.unprotect(packet, len(wire))]), plain)
                self.assertRaises(SecurityError, receiver.unprotect, bytearray(wire), len(wire))
            else:
                self.assertEqual(sender.protect_rtcp(plain), wire, case["name"])
                self.assertEqual(receiver.unprotect_rtcp(wire), plain)
                self.assertRaises(SecurityError, receiver.unprotect_rtcp, wire)
            if name != NULL:
                self.single(case, plain, wire)
            done += 1
        self.assertEqual(done, 5)

    def single(self, case, plain, wire):
        """The same with one source and one key."""
        if case["kind"] == "srtp":
            suite = SUITES[case["suite"].encode()]
            key = unhex(case["master_key"]) + unhex(case["master_salt"])
            packet = bytearray(plain + bytes(10))
            self.assertEqual(SrtpSender(suite, key, new_aes).protect(packet, len(plain)), len(wire))
            self.assertEqual(bytes(packet), wire)
            size = SrtpReceiver(suite, key, new_aes).unprotect(packet, len(wire))
            self.assertEqual(bytes(packet[:size]), plain)

    def test_nothing_unauthenticated(self):
        """libsrtp's NULL authentication is no suite here, and no key of ours opens its packets."""
        done = 0
        for case in load("libsrtp_packets.json"):
            if case["suite"].encode() != NO_TAG:
                continue
            self.assertFalse(case["suite"].encode() in SUITES)
            wire = unhex(case["protected"])
            for clear in (False, True):
                keys = [KeyParam(unhex(case["master_key"]) + unhex(case["master_salt"]))]
                receiver = SessionReceiver(
                    SUITES[b"AES_CM_128_HMAC_SHA1_80"], keys, new_aes, Terms(0, 64, clear, clear)
                )
                with self.assertRaises((ParseError, SecurityError)):
                    receiver.unprotect(bytearray(wire), len(wire))
                self.assertRaises(SecurityError, receiver.unprotect_rtcp, wire)
            done += 1
        self.assertEqual(done, 2)

    def test_encrypted_header_extensions(self):
        """RFC 6904 and 9335 are not spoken, and never agreed on: what arrives so is not taken for the plain packet.

        With RFC 6904 the payload is plain SRTP, and the extension stays as it came; with RFC 9335 (cryptex) the tag fits,
        which is computed likewise, but the payload has another keystream.
        """
        done = 0
        for case in load("libsrtp_packets.json"):
            if case["suite"].startswith("AEAD_") or not ("cryptex" in case or "encrypted_ext_ids" in case):
                continue
            _, receiver = self.session(case)
            plain, wire = unhex(case["plain"]), unhex(case["protected"])
            packet = bytearray(wire)
            size = receiver.unprotect(packet, len(wire))
            self.assertEqual(size, len(plain))
            start = 12 + 4 * (wire[0] & 15)
            start += 4 + 4 * int.from_bytes(wire[start + 2 : start + 4], "big")
            self.assertEqual(bytes(packet[:start]), wire[:start])
            self.assertEqual(bytes(packet[start:size]) == plain[start:], "encrypted_ext_ids" in case)
            done += 1
        self.assertEqual(done, 3)
