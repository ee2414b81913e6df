import io
import json
import unittest

from scripted import SECRET, Printed, settings

from terminal import app
from terminal import config as module
from terminal.config import load, make_config
from terminal.settings import ConfigError

# Key: (values that will do, values that won't).
VALUES = {
    "user": (["alice", "a", "alice.b+c", "al%20ice"], [7, None, [], {}, True, "", "al ice", "a@b", "a\r\nX: y", "a<b"]),
    "domain": (
        ["a.example", "192.0.2.1", "localhost"],
        [7, None, [], "", "a b", "a.example\r\nX: y", "a/b", "a@b", "a.example;x", "a.example:5060"],
    ),
    "ha1": (
        ["0" * 64, SECRET.decode()],
        [7, None, "", "0" * 63, "0" * 65, "F" * 64, "g" + "0" * 63, "0" * 63 + "\n", "0" * 31 + "  " + "0" * 31],
    ),
    "neighbour": (
        ["192.0.2.1:5060", "pi.local:1", "x:65535"],
        [7, None, "", "192.0.2.1", "192.0.2.1:", ":5060", "x:0", "x:65536", "x:-1", "x:+5", "x:50 60", "x:0x10"],
    ),
    "auth_user": (["", "alice@a.example", 'a"b'], [7, None, [], "a\r\nX: y"]),
    "display_name": (["", "Alice Q.", 'A "Q" \\ B', "Älice"], [7, None, {}, "A\r\nX: y", "A\nB", "A\0B"]),
    "address": (["", "192.0.2.7"], [7, None]),
    "sip_port": ([1, 5060, 65535], [0, 65536, -1, "5060", 5060.5, None, True]),
    "rtp_port": ([2, 40000, 65532], [0, 1, 65533, "40000", None, False]),
    "expires_s": ([30, 86400], [29, 86401, "600", None]),
    "keepalive_s": ([1, 3600], [0, 3601, "25", None]),
    "watchdog_s": ([0, 5, 60, 3600], [-1, 1, 4, 3601, "60", True, None]),
    "codecs": (
        [["PCMU"], ["PCMA", "PCMU"]],
        [[], ["pcmu"], ["PCMU", "G729"], "PCMU", None, [0], [["PCMU"]], [None], [{}]],
    ),
    "srtp": (["required", "opportunistic", "off"], ["", "Required", "none", 1, None, True]),
    "text": ([True, False], [1, 0, "true", None]),
    "ring": ([True, False], [1, 0, "yes", None]),
    "speed_dial": (["", "bob"], [7, None]),
    "wifi": ([{}, {"ssid": "x"}, {"ssid": "x", "password": "y"}], ["x", None, [], {"password": "y"}, {"ssid": 7}]),
    "serial": (
        [{}, {"uart": -1}, {"uart": 9, "baud": 9600}, {"baud": 5000000}],
        [0, None, [], {"uart": -2}, {"uart": 10}, {"uart": "0"}, {"baud": 300}, {"baud": 5000001}, {"port": 0}],
    ),
    "board": ([{}, {"led": 2}], ["x", None, []]),
    "setup": (
        [{}, {"level": "medium", "life_s": 0, "uses": 0}, {"peers": ["bob", "sips:bob@b.example;x=y"], "uses": 65535}],
        [
            None,
            [],
            {"level": "low"},
            {"level": 1},
            {"life_s": -1},
            {"life_s": 31536001},
            {"uses": 65536},
            {"uses": "1"},
            {"peers": "bob"},
            {"peers": [7]},
            {"peers": ["tel:1"]},
            {"peers": ["bob"] * 17},
            {"live": 1},
        ],
    ),
    "keys": (["", "flash/keys"], [7, None]),
}


class ConfigTest(unittest.TestCase):
    def assertRefused(self, values, *words):
        with self.assertRaises(ConfigError) as caught:
            make_config(values)
        for word in words:
            self.assertIn(word, str(caught.exception))

    def test_least(self):
        config = make_config(settings())
        self.assertEqual((config.user, config.auth_user, config.domain), (b"alice", b"alice", b"a.example"))
        self.assertEqual(config.aor, b"sip:alice@a.example")
        self.assertEqual(config.neighbour, ("192.0.2.1", 5060))
        self.assertEqual(config.ha1, SECRET)
        self.assertEqual((config.sip_port, config.rtp_port), (5060, 40000))
        self.assertEqual((config.expires_s, config.keepalive_s), (600, 25))
        self.assertEqual(config.payload_types, [0])
        self.assertEqual((config.display_name, config.address, config.speed_dial), ("", "", ""))
        self.assertEqual((config.wifi, config.board), ({}, {}))

    def test_everything(self):
        config = make_config(settings(auth_user="al", codecs=["PCMA", "PCMU"], wifi={"ssid": "x"}, sip_port=5070))
        self.assertEqual(config.auth_user, b"al")
        self.assertEqual(config.payload_types, [8, 0])
        self.assertEqual(config.wifi, {"ssid": "x", "password": ""})
        self.assertEqual(config.sip_port, 5070)

    def test_values(self):
        for key, (good, bad) in VALUES.items():
            for value in good:
                with self.subTest(key, value):
                    make_config(settings(**{key: value}))
            for value in bad:
                with self.subTest(key, value):
                    self.assertRefused(settings(**{key: value}), key)

    def test_text_alone(self):
        self.assertEqual(make_config(settings(codecs=[], text=True)).payload_types, [])
        self.assertRefused(settings(codecs=[], text=False), "codecs: one wanted, where there is no text")
        self.assertRefused(settings(codecs=["G729"], text=True), "codecs: PCMU and PCMA are known")

    def test_inside(self):
        """A mistake in an object is told with the name of that."""
        for wifi, words in (
            ({"ssid": "x", "pasword": "y"}, "wifi.pasword: unknown"),
            ({"password": "y"}, "wifi.ssid: missing"),
            ({"ssid": "x", "password": 12345678}, "wifi.password: wrong type"),
        ):
            self.assertRefused(settings(wifi=wifi), words)

    def test_all_keys_are_tried(self):
        self.assertEqual(sorted(VALUES), sorted(module._KEYS))

    def test_missing(self):
        for key in ("user", "domain", "ha1", "neighbour"):
            values = settings()
            del values[key]
            self.assertRefused(values, key, "missing")
        self.assertRefused({}, "missing")

    def test_unknown(self):
        self.assertRefused(settings(pasword="x"), "pasword", "unknown")

    def test_the_text_of_an_error_has_no_secret(self):
        for values in (settings(ha1=SECRET.decode() + "0"), settings(ha1=SECRET.decode().upper()), settings(user=7)):
            with self.assertRaises(ConfigError) as caught:
                make_config(values)
            self.assertNotIn(SECRET.decode()[:16], str(caught.exception).lower())


class LoadTest(unittest.TestCase):
    def load(self, data):
        module.open = lambda path: io.BytesIO(data)
        try:
            return load("wisp.json")
        finally:
            del module.open

    def test_file(self):
        config = self.load(json.dumps(settings(display_name="Älice")).encode())
        self.assertEqual(config.display_name, "Älice")

    def test_what_is_no_configuration(self):
        for data, word in (
            (b"", "no JSON"),
            (b"{", "missing"),  # MicroPython's reader takes what has no end
            (b'{"user": "alice",', "missing"),
            (b"\x89PNG\r\n\x1a\n", "no JSON"),
            (b'{"user": "\xff\xfe"}', "no JSON"),
            (b"[]", "no JSON object"),
            (b'"alice"', "no JSON object"),
            (b"null", "no JSON object"),
            (b"{}", "missing"),
        ):
            with self.subTest(data):
                with self.assertRaises(ConfigError) as caught:
                    self.load(data)
                self.assertIn(word, str(caught.exception))

    def test_no_file(self):
        for path in ("no-such-file.json", "tests"):
            with self.assertRaises(ConfigError) as caught:
                load(path)
            self.assertEqual(str(caught.exception), path + ": can't be read")

    def test_a_mistake_is_an_event(self):
        printed = Printed()
        try:
            app.run("no-such-file.json")
            self.assertEqual(printed.take(), [{"event": "error", "reason": "no-such-file.json: can't be read"}])
        finally:
            printed.close()


if __name__ == "__main__":
    unittest.main()
