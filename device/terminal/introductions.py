"""Setup keys that the neighbours make, for who wants to be introduced to each other (WIRE section 4.3).

Loaded on demand: at each refresh where somebody is wanted, and when the neighbour has a key.
"""

from sipwire.errors import ParseError
from sipwire.introduction import Wanted, read_keys, write_peers

from . import keystore
from .events import emit
from .setupkey import find, is_live, own_aor
from .useragent import Refusal

__all__ = ["registered", "take", "wanted"]

_MAX_USES = 65535  # as many as the store has room for


def registered(config, body, now_s):
    """Take the keys that came with a 200 to a REGISTER."""
    try:
        _keep(config, read_keys(body), now_s, b"")
    except (OSError, ParseError) as error:
        emit("error", reason="keys: %s" % error)


def wanted(config, now_s):
    """The Setup-Peers of our next REGISTER, b"" where nobody is wanting."""
    setup = config.setup
    found = []
    for aor in setup["peers"]:
        if now_s is not None and not [1 for key in keystore.load(config.keys, aor) if is_live(key, now_s)]:
            found.append(Wanted(aor, setup["life_s"], setup["uses"]))
    return write_peers(found) if found and setup["life_s"] else b""


def take(trust, agent, transaction, request, now):
    """Take keys from the neighbour.

    Raises:
        Refusal: they are not from our neighbour, or can't be kept.
        ParseError: malformed.
    """
    config, now_s = trust.config, trust.calendar.seconds(now)
    sender = request.from_.parsed_uri()
    if sender.user is not None or sender.host.lower() != config.domain.lower():
        raise Refusal(403, "Forbidden", "Warning", b'399 terminal "setup keys come from the domain"')
    if request.to.parsed_uri().aor() != own_aor(config):
        raise Refusal(404, "Not Found")
    if now_s is None:
        raise Refusal(480, "Temporarily Unavailable")
    try:
        _keep(config, read_keys(request.body), now_s, trust.kid)
    except OSError:
        raise Refusal(500, "setup keys: can't be kept")
    agent.reject(transaction, 200, "OK", now)


def _keep(config, found, now_s, kid):
    """Keep keys: behind the one that is in use, for who has it may not have lost it.

    Args:
        config: the terminal's.
        found: the keys.
        now_s: seconds since 1970, or None.
        kid: of the key of a call that stands, b"" for none: it may be used up, and its BYE makes the next one.
    """
    if now_s is None:
        return
    for one in found:
        keys = keystore.load(config.keys, one.aor)
        key = keystore.Key(one.key, now_s + one.life, min(one.uses, _MAX_USES))
        if find(keys, key.kid) is None and not keystore.was_taken(config.keys, one.aor, key.kid):
            used = find(keys, kid)
            kept = [used] if used else [old for old in keys if is_live(old, now_s)] or keys
            keystore.save(config.keys, one.aor, kept[:1] + [key], now_s, key.kid)
            emit("key", peer=one.aor, life_s=one.life, uses=key.uses, by="neighbour")
