"""Wi-Fi: join the network that the configuration names, notice when it is gone, and save power while nobody talks."""

import time

from .events import emit

__all__ = ["Wlan"]

_JOIN_MS = 20000  # until an attempt counts as failed
_SURE_MS = 8000  # since when a refusal is one: the driver has tried three times by then
_TRIES = 2  # more that the driver makes by itself in an attempt: as long as it tries, it keeps most reasons to itself
_FOR_EVER = -1
_FOUR_WAY_TIMEOUT = 15  # of IEEE 802.11, table 9-49: that is how most access points take a wrong password
_CHECK_MS = 2000  # between two looks at the state of the link
_POLL_MS = 100

# Names of the states in network.STAT_*, for an event that tells a person what to mend.
_REASONS = {
    "STAT_WRONG_PASSWORD": "wrong password",
    "STAT_NO_AP_FOUND": "no such network",
    "STAT_ASSOC_FAIL": "association failed",
    "STAT_HANDSHAKE_TIMEOUT": "handshake timed out (wrong password?)",
    "STAT_BEACON_TIMEOUT": "network out of reach",
}


class Wlan:
    """The Wi-Fi station.

    Args:
        network: MicroPython's ``network`` module.
        settings: ``{"ssid": ..., "password": ...}``.

    Attributes:
        station: the ``network.WLAN``.
        settings: likewise.
    """

    def __init__(self, network, settings):
        self._network = network
        self.settings = settings
        self.station = network.WLAN(network.STA_IF)
        self.station.active(True)
        self._check_at = 0
        self._saves = self._told = None
        self.save_power(True)

    def save_power(self, saves):
        """Sleep between two beacons of the access point, or don't.

        With power save on, it hands datagrams over in bunches (100 ms and more): good enough for a call that comes, not
        for speech.
        """
        if saves != self._saves:
            self._saves = saves
            kind = self._network.WLAN
            try:
                self.station.config(pm=kind.PM_PERFORMANCE if saves else kind.PM_NONE)
            except (AttributeError, ValueError, OSError):
                pass  # a firmware that can't choose: whatever it does is good enough, or nothing can be done

    def _let_try(self, times):
        try:
            self.station.config(reconnects=times)
        except (ValueError, OSError):
            pass  # likewise

    def join(self, feed=None):
        """Try to join once, where the driver has not; returns our address as text, or None. An event tells what is new.

        Args:
            feed: what to call meanwhile, or None: see `terminal.board`.
        """
        station = self.station
        ssid = self.settings["ssid"]
        if not station.isconnected():
            self._connect()
        waited = 0
        while not station.isconnected() and waited < _JOIN_MS and not (waited >= _SURE_MS and self._reason()):
            if feed:
                feed()
            time.sleep_ms(_POLL_MS)
            waited += _POLL_MS
        if station.isconnected():
            self._told = None
            self._let_try(_FOR_EVER)  # the password is right; it is back as soon as the network is
            address = station.ifconfig()[0]
            emit("wifi", ssid=ssid, address=address)
            return address
        reason = self._reason() or "no link (status %s)" % station.status()
        if reason != self._told:
            self._told = reason
            self.tell()
        return None

    def tell(self):
        """Tell why there is no network, as far as that is known."""
        emit("wifi", ssid=self.settings["ssid"], error=self._told or "not joined yet")

    def _connect(self):
        self._let_try(_TRIES)
        try:
            self.station.disconnect()
        except OSError:
            pass
        try:
            self.station.connect(self.settings["ssid"], self.settings["password"])
        except OSError:
            pass  # "Wifi Internal Error": still busy with the attempt before

    def _reason(self):
        status = self.station.status()
        for name, reason in _REASONS.items():
            if getattr(self._network, name, None) == status:
                return reason
        return _REASONS["STAT_HANDSHAKE_TIMEOUT"] if status == _FOUR_WAY_TIMEOUT else None

    def is_lost(self, now):
        """Whether the link is gone; asks the driver every two seconds at most."""
        if now < self._check_at:
            return False
        self._check_at = now + _CHECK_MS
        return not self.station.isconnected()
