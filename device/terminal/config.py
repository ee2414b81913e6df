"""The terminal's configuration: one JSON file on its file system, made by ``wisp account add --terminal FILE``.

    {"user": "alice", "domain": "a.example", "ha1": "<64 hex digits>", "neighbour": "192.0.2.1:5060", ...}

README.md in this folder describes every key.
"""

import json

from sipwire.errors import ParseError
from sipwire.uri import Uri

from .addressing import target_of
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
    "watchdog_s": (int, 60),
    "codecs": (list, ["PCMU"]),
    "srtp": (str, "required"),
    "text": (bool, False),
    "ring": (bool, True),
    "speed_dial": (str, ""),
    "wifi": (dict, {}),
    "serial": (dict, {}),
    "board": (dict, {}),
    "setup": (dict, {}),
    "keys": (str, ""),
}
_SETUP = {
    "level": (str, "heavy"),
    "life_s": (int, 2592000),
    "uses": (int, 10),
    "peers": (list, []),
}
_WIFI = {"ssid": (str, None), "password": (str, "")}
_SERIAL = {"uart": (int, 0), "baud": (int, 921600)}
_CODECS = {"PCMU": 0, "PCMA": 8}
_POLICIES = ("off", "opportunistic", "required")  # as sipwire.streams numbers them
_LEVELS = ("light", "medium", "heavy")
_MIN_WATCHDOG_S = 5  # enough where the neighbour has a number; a name server may take 30 s to be silent
_MAX_WATCHDOG_S = 3600
_MAX_LIFE_S = 31536000  # a year
_MAX_USES = 65535
_MAX_PEERS = 16


def make_config(values):
    """Check a configuration.

    Args:
        values: the JSON object.

    Raises:
        ConfigError: something in it is wrong.
    """
    config = Config()
    if values.get("serial") and "neighbour" not in values:
        values = dict(values, neighbour="192.0.0.8:5060")  # it is at the other end of the line
    for key, value in check(values, _KEYS).items():
        setattr(config, key, value)
    if config.wifi:
        config.wifi = check(config.wifi, _WIFI, "wifi.")
    if config.serial:
        config.serial = check(config.serial, _SERIAL, "serial.")
        _check_serial(config)
    config.keys = config.keys or "wisp.keys"
    config.setup = check(config.setup, _SETUP, "setup.")
    _check_setup(config.setup, config.domain)
    if len(config.ha1) != 64 or config.ha1.strip(_HEX):
        raise ConfigError("ha1: 64 lower-case hex digits wanted")
    host, _, port = config.neighbour.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise ConfigError("neighbour: host:port wanted")
    config.neighbour = (host, int(port))
    for key, low, high in (
        ("sip_port", 1, 65535),
        ("rtp_port", 2, 65532),
        ("expires_s", 30, 86400),
        ("keepalive_s", 1, 3600),
    ):
        if not low <= getattr(config, key) <= high:
            raise ConfigError("%s: %d to %d wanted" % (key, low, high))
    if config.watchdog_s and not _MIN_WATCHDOG_S <= config.watchdog_s <= _MAX_WATCHDOG_S:
        raise ConfigError("watchdog_s: 0, or %d to %d wanted" % (_MIN_WATCHDOG_S, _MAX_WATCHDOG_S))
    config.payload_types = [_CODECS.get(name) for name in config.codecs]
    if None in config.payload_types:
        raise ConfigError("codecs: PCMU and PCMA are known")
    if not config.payload_types and not config.text:
        raise ConfigError("codecs: one wanted, where there is no text")
    if config.srtp not in _POLICIES:
        raise ConfigError("srtp: required, opportunistic or off wanted")
    config.srtp = _POLICIES.index(config.srtp)
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


def _check_serial(config):
    if config.wifi:
        raise ConfigError("serial: no wifi beside it")
    if config.address or (config.sip_port, config.rtp_port) != (5060, 40000):
        raise ConfigError("serial: no address, sip_port or rtp_port beside it")
    for key, low, high in (("uart", -1, 9), ("baud", 9600, 5000000)):
        if not low <= config.serial[key] <= high:
            raise ConfigError("serial.%s: %d to %d wanted" % (key, low, high))


def _check_setup(setup, domain):
    if setup["level"] not in _LEVELS:
        raise ConfigError("setup.level: light, medium or heavy wanted")
    for key, high in (("life_s", _MAX_LIFE_S), ("uses", _MAX_USES)):
        if not 0 <= setup[key] <= high:
            raise ConfigError("setup.%s: 0 to %d wanted" % (key, high))
    if len(setup["peers"]) > _MAX_PEERS:
        raise ConfigError("setup.peers: at most %d" % _MAX_PEERS)
    peers = []
    for peer in setup["peers"]:
        uri = target_of(peer, domain.encode()) if isinstance(peer, str) else None
        if uri is None:
            raise ConfigError("setup.peers: SIP addresses wanted")
        peers.append(Uri.parse(uri).aor())
    setup["peers"] = peers
    if not setup["uses"]:
        setup["life_s"] = 0  # both say: none


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
    config = make_config(values)
    if not values.get("keys"):
        # A folder of its own for each terminal: several may run on one machine.
        config.keys = (path[:-5] if path[-5:] == ".json" else path) + ".keys"
    return config
