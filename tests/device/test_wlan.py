import unittest

from scripted import Printed

from terminal import wlan as module
from terminal.wlan import Wlan


class FakeStation:
    """What ``network.WLAN(STA_IF)`` makes, as far as it is used.

    Attributes:
        joins_after_ms: how long after `connect` it is connected; None for never.
        state: what ``status()`` says.
        fails: names of methods that raise OSError.
    """

    def __init__(self, clock):
        self.clock = clock
        self.log = []
        self.joins_after_ms = 300
        self.state = 1001
        self.fails = ()
        self.connects_at = None

    def active(self, on):
        self.log.append(("active", on))

    def config(self, **settings):
        self.log.append(("config", settings))
        if "config" in self.fails:
            raise ValueError("unknown config param")

    def disconnect(self):
        self.log.append(("disconnect",))
        self.connects_at = None
        if "disconnect" in self.fails:
            raise OSError("Wifi Not Started")

    def connect(self, ssid, password):
        self.log.append(("connect", ssid, password))
        if "connect" in self.fails:
            raise OSError("Wifi Internal Error")
        if self.joins_after_ms is not None:
            self.connects_at = self.clock.ms + self.joins_after_ms

    def isconnected(self):
        return self.connects_at is not None and self.clock.ms >= self.connects_at

    def ifconfig(self):
        return ("192.0.2.33", "255.255.255.0", "192.0.2.1", "192.0.2.1")

    def status(self):
        return self.state


class FakeNetwork:
    """A stand-in for MicroPython's ``network`` of an ESP32, which the machine of the tests has not."""

    STA_IF = 0
    STAT_IDLE = 1000
    STAT_CONNECTING = 1001
    STAT_WRONG_PASSWORD = 202
    STAT_NO_AP_FOUND = 201
    STAT_BEACON_TIMEOUT = 200
    STAT_HANDSHAKE_TIMEOUT = 204

    def __init__(self, clock):
        self.stations = []

        class WLAN:
            PM_NONE, PM_PERFORMANCE, PM_POWERSAVE = 0, 1, 2

            def __new__(cls, interface):
                assert interface == FakeNetwork.STA_IF
                self.stations.append(FakeStation(clock))
                return self.stations[-1]

        self.WLAN = WLAN


class FakeTime:
    def __init__(self):
        self.ms = 0

    def sleep_ms(self, ms):
        self.ms += ms


class WlanTest(unittest.TestCase):
    def setUp(self):
        self.printed = Printed()
        self.time = FakeTime()
        self.real = module.time
        module.time = self.time
        self.network = FakeNetwork(self.time)
        self.wlan = Wlan(self.network, {"ssid": "home", "password": "s3cret"})
        [self.station] = self.network.stations

    def tearDown(self):
        module.time = self.real
        self.printed.close()

    def test_power_save(self):
        """On but in calls, where the access point's bunches of datagrams would be heard."""
        self.assertEqual(self.station.log, [("active", True), ("config", {"pm": 1})])
        for saves in (True, False, False, True, True):
            self.wlan.save_power(saves)
        self.assertEqual([one[1] for one in self.station.log[2:]], [{"pm": 0}, {"pm": 1}])

    def test_firmware_without_power_save(self):
        del self.network.WLAN.PM_PERFORMANCE
        wlan = Wlan(self.network, {"ssid": "home", "password": ""})
        for saves in (False, True, False):
            wlan.save_power(saves)
        self.assertEqual(self.network.stations[1].log[1:], [("config", {"pm": 0})] * 2)
        del self.network.WLAN.PM_NONE
        wlan.save_power(True)
        wlan.save_power(False)
        self.station.fails = ("config",)
        self.wlan.save_power(False)
        self.assertEqual(self.wlan.join(), "192.0.2.33")

    def test_join(self):
        self.assertEqual(self.wlan.join(), "192.0.2.33")
        tries = [("config", {"reconnects": 2}), ("config", {"reconnects": -1})]
        self.assertEqual(self.station.log[2:], tries[:1] + [("disconnect",), ("connect", "home", "s3cret")] + tries[1:])
        self.assertEqual(self.printed.take(), [{"event": "wifi", "ssid": "home", "address": "192.0.2.33"}])
        self.assertEqual(self.time.ms, 300)

    def test_open_network(self):
        wlan = Wlan(self.network, {"ssid": "open", "password": ""})
        wlan.join()
        self.assertEqual(self.network.stations[1].log[-2], ("connect", "open", ""))

    def test_slow_network(self):
        self.station.joins_after_ms = 19900
        self.assertEqual(self.wlan.join(), "192.0.2.33")

    def test_reasons(self):
        """With 15 the driver passes IEEE 802.11's own on, for which MicroPython has no name."""
        self.station.joins_after_ms = None
        for state, reason in (
            (202, "wrong password"),
            (201, "no such network"),
            (200, "network out of reach"),
            (204, "handshake timed out (wrong password?)"),
            (1001, "no link (status 1001)"),
            (-3, "no link (status -3)"),
            (15, "handshake timed out (wrong password?)"),
        ):
            self.station.state = state
            start = self.time.ms
            self.assertIsNone(self.wlan.join())
            self.assertEqual(self.printed.take(), [{"event": "wifi", "ssid": "home", "error": reason}])
            self.assertEqual(self.time.ms - start, 20000 if reason[:2] == "no" and "(" in reason else 8000)

    def test_each_reason_is_told_once(self):
        """Until there is another, or the network has been there meanwhile."""
        self.station.joins_after_ms = None
        told = []
        for state in (201, 201, 201, 202, 202, 201, None, None, 201, 201):
            self.station.state = state
            self.station.joins_after_ms = 10 if state is None else None
            self.wlan.join()
            if state is None:
                self.station.disconnect()
            told.append([event.get("error", "joined") for event in self.printed.take()])
        no, wrong, joined, nothing = ["no such network"], ["wrong password"], ["joined"], []
        self.assertEqual(told, [no, nothing, nothing, wrong, nothing, no, joined, joined, no, nothing])

    def test_found_by_the_driver(self):
        """It goes on trying by itself; then it is told, and not left for another attempt."""
        self.station.joins_after_ms = None
        self.wlan.join()
        self.station.connects_at = self.time.ms
        del self.station.log[:]
        self.assertEqual(self.wlan.join(), "192.0.2.33")
        self.assertEqual(self.station.log, [("config", {"reconnects": -1})])
        self.assertEqual(self.printed.take()[1], {"event": "wifi", "ssid": "home", "address": "192.0.2.33"})

    def test_watchdog_is_fed(self):
        self.station.joins_after_ms = None
        fed = []
        self.wlan.join(lambda: fed.append(self.time.ms))
        self.assertEqual(fed, list(range(0, 20000, 100)))

    def test_tries_again(self):
        self.station.joins_after_ms = None
        self.assertIsNone(self.wlan.join())
        self.station.joins_after_ms = 100
        self.assertEqual(self.wlan.join(), "192.0.2.33")
        self.assertEqual([one[0] for one in self.station.log[2:]], ["config", "disconnect", "connect"] * 2 + ["config"])
        self.assertEqual([one[1]["reconnects"] for one in self.station.log[2:] if one[0] == "config"], [2, 2, -1])

    def test_driver_that_was_not_connected(self):
        self.station.fails = ("disconnect",)
        self.assertEqual(self.wlan.join(), "192.0.2.33")

    def test_driver_that_refuses(self):
        """ESP-IDF refuses a connect while it is still busy with the one before ("Wifi Internal Error"): tried again."""
        self.station.fails = ("connect",)
        self.assertIsNone(self.wlan.join())
        self.assertEqual(self.printed.take()[0]["error"], "no link (status 1001)")
        self.assertEqual(self.time.ms, 20000)  # and not at once: that would be an endless busy loop
        self.station.fails = ()
        self.assertEqual(self.wlan.join(), "192.0.2.33")

    def test_lost(self):
        self.wlan.join()
        self.assertFalse(self.wlan.is_lost(10000))
        self.station.connects_at = None
        self.assertFalse(self.wlan.is_lost(10001))  # asked every two seconds at most
        self.assertFalse(self.wlan.is_lost(11999))
        self.assertTrue(self.wlan.is_lost(12000))
        self.wlan.join()
        self.assertFalse(self.wlan.is_lost(14000))

    def test_password_is_not_printed(self):
        self.wlan.join()
        self.station.joins_after_ms = None
        self.wlan.join()
        self.assertEqual(len(self.printed.lines), 2)
        self.assertNotIn("s3cret", "".join(self.printed.lines))


if __name__ == "__main__":
    unittest.main()
