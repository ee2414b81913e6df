"""The terminal's configuration: one JSON file on its file system, made by ``wisp account add --terminal FILE``.

    {"user": "alice", "domain": "a.example", "ha1": "<64 hex digits>", "neighbour": "192.0.2.1:5060", ...}

README.md in this folder describes every key.
"""

import json

from sipwire.errors import ParseError
from sipwire.uri import Uri

from .settings import ConfigError, check

__all__ = ["Config", "ConfigError", "load"]

_HEX = "0123456789abcdef"


_KEYS = {
    "user": (str, None),
    "domain": (str, None),
    "ha1": (str, None),
    "neighbour": (str, None),
    "auth_user": (str, ""),
    "display_name": (str, ""),
    "address": (str, ""),
    "sip_port": (int, 5060),
    "rtp_port": (int, 40000),
    "expires_s": (int, 600),
    "keepalive_s": (int, 25),
    "codecs": (list, ["PCMU"]),
    "speed_dial": (str, ""),
    "wifi": (dict, {}),
    "board": (dict, {}),
}
_WIFI = {"ssid": (str, None), "password": (str, "")}
_CODECS = {"PCMU": 0, "PCMA": 8}


class Config:
    """The configuration: every key of the file is an attribute, some in another form.

    Attributes:
        aor: ``sip:user@domain`` as bytes.
        neighbour: (host, port).
        payload_types: RTP payload types of the codecs, preferred first.
        ha1: SHA-256 HA1, 64 hex digits as bytes.
    """

    def __init__(self, values):
        for key, value in check(values, _KEYS).items():
            setattr(self, key, value)
        if self.wifi:
            self.wifi = check(self.wifi, _WIFI, "wifi.")
        if len(self.ha1) != 64 or self.ha1.strip(_HEX):
            raise ConfigError("ha1: 64 lower-case hex digits wanted")
        host, _, port = self.neighbour.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ConfigError("neighbour: host:port wanted")
        self.neighbour = (host, int(port))
        for key, low, high in (
            ("sip_port", 1, 65535),
            ("rtp_port", 2, 65534),
            ("expires_s", 30, 86400),
            ("keepalive_s", 1, 3600),
        ):
            if not low <= getattr(self, key) <= high:
                raise ConfigError("%s: %d to %d wanted" % (key, low, high))
        self.payload_types = [_CODECS.get(name) for name in self.codecs]
        if not self.payload_types or None in self.payload_types:
            raise ConfigError("codecs: PCMU and PCMA are known")
        for key in ("auth_user", "display_name"):
            if min(getattr(self, key) + " ") < " ":
                raise ConfigError(key + ": control characters")  # a line end would begin a header
        self.ha1 = self.ha1.encode()
        self.user = self.user.encode()
        self.domain = self.domain.encode()
        self.auth_user = self.auth_user.encode() or self.user
        self.aor = b"sip:%s@%s" % (self.user, self.domain)
        try:
            host = Uri.parse(self.aor).host
        except ParseError:
            host = b""
        if host != self.domain or not host:
            raise ConfigError("user, domain: no SIP address")


def load(path):
    """Read and check a configuration file.

    Raises:
        ConfigError: it can't be read, or something in it is wrong.
    """
    try:
        with open(path) as file:
            values = json.load(file)
    except OSError:
        raise ConfigError(path + ": can't be read")
    except ValueError:
        raise ConfigError(path + ": no JSON")
    if not isinstance(values, dict):
        raise ConfigError(path + ": no JSON object")
    return Config(values)
