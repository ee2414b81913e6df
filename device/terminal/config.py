"""The terminal's configuration: one JSON file on its file system, made by ``wisp account add --terminal FILE``.

    {"user": "alice", "domain": "a.example", "ha1": "<64 hex digits>", "neighbour": "192.0.2.1:5060", ...}

README.md in this folder describes every key.
"""

import json

from sipwire.errors import ParseError
from sipwire.uri import Uri

from .settings import Config, ConfigError, check

__all__ = ["load", "make_config"]

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


def make_config(values):
    """Check a configuration.

    Args:
        values: the JSON object.

    Raises:
        ConfigError: something in it is wrong.
    """
    config = Config()
    for key, value in check(values, _KEYS).items():
        setattr(config, key, value)
    if config.wifi:
        config.wifi = check(config.wifi, _WIFI, "wifi.")
    if len(config.ha1) != 64 or config.ha1.strip(_HEX):
        raise ConfigError("ha1: 64 lower-case hex digits wanted")
    host, _, port = config.neighbour.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError("neighbour: host:port wanted")
    config.neighbour = (host, int(port))
    for key, low, high in (
        ("sip_port", 1, 65535),
        ("rtp_port", 2, 65534),
        ("expires_s", 30, 86400),
        ("keepalive_s", 1, 3600),
    ):
        if not low <= getattr(config, key) <= high:
            raise ConfigError("%s: %d to %d wanted" % (key, low, high))
    config.payload_types = [_CODECS.get(name) for name in config.codecs]
    if not config.payload_types or None in config.payload_types:
        raise ConfigError("codecs: PCMU and PCMA are known")
    for key in ("auth_user", "display_name"):
        if min(getattr(config, key) + " ") < " ":
            raise ConfigError(key + ": control characters")  # a line end would begin a header
    config.ha1 = config.ha1.encode()
    config.user = config.user.encode()
    config.domain = config.domain.encode()
    config.auth_user = config.auth_user.encode() or config.user
    config.aor = b"sip:%s@%s" % (config.user, config.domain)
    try:
        host = Uri.parse(config.aor).host
    except ParseError:
        host = b""
    if host != config.domain or not host:
        raise ConfigError("user, domain: no SIP address")
    return config


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
    return make_config(values)
