"""Reading a JSON object of settings: the configuration, and what a board wants of it."""

__all__ = ["Config", "ConfigError", "check"]


class Config:
    """The configuration: every key of the file is an attribute, some in another form. `config` makes it.

    Attributes:
        aor: ``sip:user@domain`` as bytes.
        neighbour: (host, port).
        payload_types: RTP payload types of the codecs, preferred first; none where there is text alone.
        srtp: 2 where there is no media without it, 1 where RTP will do, 0 where it is always RTP.
        text: whether real-time text is offered, and taken.
        ring: whether the speaker tells that it rings.
        watchdog_s: after how many seconds in which it did nothing the board starts anew; 0 for never.
        ha1: SHA-256 HA1, 64 hex digits as bytes.
        serial: ``uart`` and ``baud`` of the line to the neighbour, {} where it is reached by IP.
        setup: of setup keys: the least ``level`` that a first one is made at, ``life_s`` and ``uses`` of each (0 for
            none), and the addresses-of-record of ``peers`` to be introduced to.
        keys: the folder that they are kept in.
    """


class ConfigError(Exception):
    """The configuration can't be used; the text names the key and what is wanted."""


def check(values, keys, where=""):
    """The values of a JSON object, with the defaults of those that are left out.

    Args:
        values: the object.
        keys: {key: (type, default)}; a default of None means that the key is needed.
        where: what to put before a key's name in an error.

    Raises:
        ConfigError: a key is missing or unknown, or its value is of a wrong type.
    """
    checked = {}
    for key, (kind, default) in keys.items():
        value = values.get(key, default)
        if value is None:
            raise ConfigError("%s%s: missing" % (where, key))
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError("%s%s: wrong type" % (where, key))
        checked[key] = value
    for key in values:
        if key not in keys:
            raise ConfigError("%s%s: unknown" % (where, key))
    return checked
