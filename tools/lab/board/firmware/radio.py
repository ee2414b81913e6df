"""The module ``network``: a Wi-Fi station whose access points are up to the test.

They are in radio.json, which is read again whenever the register RADIO has changed:

    {"address": "127.0.0.2", "join_ms": 200, "networks": {"home": {"password": "...", "rssi": -50, "reach": true}}}
"""

import json
import time

from micropython import const

from . import host

_RADIO = const(4)

folder = None  # set by `start`

STA_IF = 0
AP_IF = 1
STAT_IDLE = 1000
STAT_CONNECTING = 1001
STAT_GOT_IP = 1010
STAT_BEACON_TIMEOUT = 200
STAT_NO_AP_FOUND = 201
STAT_WRONG_PASSWORD = 202
STAT_ASSOC_FAIL = 203
STAT_HANDSHAKE_TIMEOUT = 204


def hostname(name=None):
    return "mpy-esp32" if name is None else None


def country(code=None):
    return "XX" if code is None else None


class _State:
    """What the one station does."""

    active = False
    generation = -1
    air = None
    wanted = None  # name and password
    password = ""
    since = 0
    joined = False
    status = STAT_IDLE
    power = 1


def _air():
    """What can be heard now."""
    if _State.generation != host.registers[_RADIO]:
        with folder.open("/radio.json", "r") as file:
            _State.air = json.load(file)
        _State.generation = host.registers[_RADIO]
    return _State.air


def _look():
    """The station's state, which changes by itself, as in a driver."""
    air = _air()
    if _State.wanted is None:
        return _State.status
    network = air["networks"].get(_State.wanted)
    if network is not None and not network["reach"]:
        network = None
    if _State.joined:
        if network is None:
            # The driver goes on trying by itself.
            _State.joined = False
            _State.status = STAT_BEACON_TIMEOUT
        return _State.status
    if time.ticks_diff(time.ticks_ms(), _State.since) < air["join_ms"]:
        return _State.status
    _State.since = time.ticks_ms()
    if network is None:
        if _State.status != STAT_BEACON_TIMEOUT:
            _State.status = STAT_NO_AP_FOUND
    elif network["password"] != _State.password:
        _State.status = STAT_WRONG_PASSWORD
    else:
        _State.joined = True
        _State.status = STAT_GOT_IP
    return _State.status


class WLAN:
    """The station; there is no access point of our own."""

    IF_STA = 0
    IF_AP = 1
    PM_NONE = 0
    PM_PERFORMANCE = 1
    PM_POWERSAVE = 2

    def __init__(self, interface=STA_IF):
        if interface != STA_IF:
            raise ValueError("this board has a station only")

    def active(self, on=None):
        if on is not None:
            _State.active = bool(on)
            if not on:
                self.disconnect()
        return _State.active

    def _check(self):
        if not _State.active:
            raise OSError("Wifi Not Started")

    def connect(self, name=None, password="", **_):
        self._check()
        if name is not None:
            _State.wanted, _State.password = name, password or ""
        _State.joined = False
        _State.since = time.ticks_ms()
        _State.status = STAT_CONNECTING

    def disconnect(self):
        _State.wanted = None
        _State.joined = False
        _State.status = STAT_IDLE

    def isconnected(self):
        return _look() == STAT_GOT_IP

    def status(self, what=None):
        if what == "rssi":
            network = _air()["networks"].get(_State.wanted)
            return network["rssi"] if network else 0
        return _look()

    def scan(self):
        self._check()
        found = []
        for name, network in _air()["networks"].items():
            if network["reach"]:
                security = 3 if network["password"] else 0
                found.append((name.encode(), b"\x02\0\0\0\0\1", 1, network["rssi"], security, False))
        return found

    def ifconfig(self, wanted=None):
        address = _air()["address"] if self.isconnected() else "0.0.0.0"
        return (address, "255.0.0.0", "127.0.0.1", "127.0.0.1")

    def config(self, *names, **values):
        if "pm" in values:
            _State.power = values["pm"]
        if not names:
            return None
        if names[0] == "pm":
            return _State.power
        if names[0] in ("ssid", "essid"):
            return _State.wanted or ""
        if names[0] == "mac":
            return bytes(host.registers[192:198])
        raise ValueError("unknown config param")
