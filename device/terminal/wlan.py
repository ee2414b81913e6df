"""Wi-Fi: join the network that the configuration names, and notice when it is gone."""

import time

from .events import emit

__all__ = ["Wlan"]

_JOIN_MS = 20000  # until an attempt counts as failed
_CHECK_MS = 2000  # between two looks at the state of the link
_POLL_MS = 100

# Names of the states in network.STAT_*, for an event that tells a person what to mend.
_REASONS = {
    "STAT_WRONG_PASSWORD": "wrong password",
    "STAT_NO_AP_FOUND": "no such network",
    "STAT_ASSOC_FAIL": "association failed",
    "STAT_HANDSHAKE_TIMEOUT": "handshake timed out",
    "STAT_BEACON_TIMEOUT": "network out of reach",
}


class Wlan:
    """The Wi-Fi station.

    Args:
        network: MicroPython's ``network`` module.
        settings: ``{"ssid": ..., "password": ...}``.
    """

    def __init__(self, network, settings):
        self._network = network
        self._settings = settings
        self._station = network.WLAN(network.STA_IF)
        self._station.active(True)
        # With power save on, the access point hands datagrams over in bunches (100 ms and more).
        self._station.config(pm=network.WLAN.PM_NONE)
        self._check_at = 0

    def join(self):
        """Try to join once; returns our address as text, or None. An event tells what happened."""
        station = self._station
        ssid = self._settings["ssid"]
        try:
            station.disconnect()
        except OSError:
            pass
        try:
            station.connect(ssid, self._settings["password"])
        except OSError:
            pass  # "Wifi Internal Error": still busy with the attempt before; the next one is 20 s away
        waited = 0
        while not station.isconnected() and waited < _JOIN_MS:
            time.sleep_ms(_POLL_MS)
            waited += _POLL_MS
        if station.isconnected():
            address = station.ifconfig()[0]
            emit("wifi", ssid=ssid, address=address)
            return address
        emit("wifi", ssid=ssid, error=self._reason())
        return None

    def _reason(self):
        status = self._station.status()
        for name, reason in _REASONS.items():
            if getattr(self._network, name, None) == status:
                return reason
        return "no link (status %s)" % status

    def is_lost(self, now):
        """Whether the link is gone; asks the driver every two seconds at most."""
        if now < self._check_at:
            return False
        self._check_at = now + _CHECK_MS
        return not self._station.isconnected()
