"""The end of a call, which makes the next key (WIRE section 4.2).

Loaded on demand: when somebody hangs up.
"""

from os import urandom

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.kdf import same
from sipwire.setup import BYE, BYE_ANSWER, NO_KEY, NONCE_BYTES, SetupKey
from sipwire.setup_keys import first_secret, mac_key, next_key
from sipwire.transaction import TIMEOUT

from . import keystore
from .events import emit
from .setupkey import call_of, find, header_of, next_number, own_aor, sides_of

__all__ = ["part", "settle", "take_bye"]

_MAX_USES = const(65535)  # as many as the store has room for


def _secret(trust):
    """(kid, secret) of a call."""
    return (trust.kid, trust.key) if trust.kid else (NO_KEY, first_secret(trust.first[0], trust.first[1]))


def part(trust, request, now):
    """Offer the next key in a BYE, see `Trust.part`."""
    now_s = trust.calendar.seconds(now)
    if not trust.config.setup["life_s"] or now_s is None:
        return None
    key = None
    if trust.kid:
        key = find(keystore.load(trust.config.keys, trust.peer), trust.kid)
        if key is None:
            return None  # trust was taken back in this call
        number = next_number(trust, now)
        if number is None:
            return None
    else:
        number = 1
    kid, secret = _secret(trust)
    life, uses = _left(trust.config, key, now_s)
    header = SetupKey.make(kid, number, urandom(NONCE_BYTES), life, uses)
    sides, called = sides_of(request), call_of(request)
    header.mac = header.compute(mac_key(secret), BYE, sides, called)
    request.add("Setup-Key", header.serialize())
    # Nothing but data: an object would keep its code.
    return trust.peer, secret, header.serialize(), sides, called


def _left(config, key, now_s):
    """(life, uses) that we offer for the next key: what is left of the one that the call has.

    Else who has stolen a key would renew it with each call in our name, and no neighbour would ever be asked again.
    """
    life, uses = config.setup["life_s"], config.setup["uses"]
    if key:
        life, uses = max(min(life, key.end - now_s), 0), min(uses, key.uses)
    return life, uses


def settle(config, now_s, memo, event):
    """The 200 to our BYE: replace the key. Anything else leaves it as it was; see `Trust.settled`."""
    peer, secret, value, sides, called = memo
    asked = SetupKey.parse(value)
    try:
        header = None if event == TIMEOUT or not 200 <= event.status < 300 else header_of(event)
    except ParseError:
        return
    if header is None or header.life is None or (header.kid, header.seq) != (asked.kid, asked.seq):
        return
    if asked.kid != NO_KEY and find(keystore.load(config.keys, peer), asked.kid) is None:
        return  # trust was taken back since
    if same(header.mac, header.compute(mac_key(secret), BYE_ANSWER, sides, called, asked.nonce)):
        key = next_key(secret, asked.random, header.random, sides[0], sides[1])
        _keep(config, peer, key, asked, header, [], now_s)


def take_bye(trust, request, now):
    """Take the next key that the peer's BYE offers, see `Trust.take_bye`."""
    config = trust.config
    now_s = trust.calendar.seconds(now)
    kid, secret = _secret(trust)
    sides, called = sides_of(request), call_of(request)
    try:
        header = header_of(request)
    except ParseError:
        return None
    if header is None or header.kid != kid or header.life is None or header.seq <= trust.seen:
        return None
    good = header.compute(mac_key(secret), BYE, sides, called)
    if sides != (trust.peer, own_aor(config)) or not same(header.mac, good):
        trust.unproven += 1
        return None
    old, others = None, []
    if trust.kid:
        old = find(keystore.load(config.keys, trust.peer), kid)
        if old is None:
            return None  # trust was taken back in this call
        old.seen = header.seq
        others = [old]  # both until the new one is used: our answer may be lost
    if now_s is None:
        return None
    life, uses = _left(config, old, now_s)
    made = SetupKey.make(kid, header.seq, urandom(NONCE_BYTES), life, uses)
    key = next_key(secret, header.random, made.random, sides[0], sides[1])
    if not _keep(config, trust.peer, key, header, made, others, now_s):
        return None
    made.mac = made.compute(mac_key(secret), BYE_ANSWER, sides, called, header.nonce)
    return made.serialize()


def _keep(config, peer, key, asked, answered, others, now_s):
    """Keep a key as both sides want it; returns whether that is done."""
    life, uses = min(asked.life, answered.life), min(asked.uses, answered.uses, _MAX_USES)
    if now_s is None:
        return False
    try:
        if life and uses:
            keystore.save(config.keys, peer, [keystore.Key(key, now_s + life, uses)] + others, now_s)
            emit("key", peer=peer, life_s=life, uses=uses)
        else:
            keystore.forget(config.keys, peer)
            emit("forgotten", peer=peer, by="end")
    except OSError as error:
        emit("error", reason="keys: %s" % error)
        return False
    return True
