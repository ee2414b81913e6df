"""Trust is taken back: the keys with somebody are forgotten, by who has them and by the other side (WIRE section 4.4).

Loaded on demand.
"""

from os import urandom

from sipwire.kdf import same
from sipwire.setup import NONCE_BYTES, REVOKE, SetupKey
from sipwire.setup_keys import mac_key
from sipwire.uri import Uri

from . import keystore
from .addressing import outset
from .events import emit
from .setupkey import call_of, find, forbidden, header_of, own_aor, sides_of
from .useragent import Refusal

__all__ = ["revoke", "take_revocation"]


def revoke(config, agent, uri, now, is_open, told):
    """Take trust back: forget the keys with somebody, who hears of it where there is a way. An event tells.

    Args:
        config: the terminal's.
        agent: sends requests.
        uri: whom, as bytes.
        now: milliseconds.
        is_open: whether there is a neighbour to send by.
        told: makes a callback for what is sent, of the address-of-record.
    """
    peer = Uri.parse(uri).aor()
    keys = keystore.load(config.keys, peer)
    if not keys:
        emit("refused", command="forget", reason="no key")
        return
    try:
        keystore.forget(config.keys, peer)
    except OSError as error:
        emit("error", reason="keys: %s" % error)
        return
    emit("forgotten", peer=peer)
    for key in keys if is_open else []:
        request = outset(config, uri).new_request("MESSAGE")
        header = SetupKey.make(key.kid, key.sent + 1, urandom(NONCE_BYTES), 0, 0)
        header.mac = header.compute(mac_key(key.key), REVOKE, sides_of(request), call_of(request))
        request.add("Setup-Key", header.serialize())
        agent.request(request, now, told(peer))


def take_revocation(trust, agent, transaction, request, now):
    """The other side takes trust back.

    Raises:
        Refusal: 428, 403: it does not show that it may.
        ParseError: malformed.
    """
    config = trust.config
    header = header_of(request)
    sides = sides_of(request)
    key = find(keystore.load(config.keys, sides[0]), header.kid)
    if key is None:
        raise Refusal(428, "Use Identity Header")
    good = header.compute(mac_key(key.key), REVOKE, sides, call_of(request), b"-", request.body)
    if sides[1] != own_aor(config) or not same(header.mac, good):
        trust.unproven += 1
        raise forbidden(b"wrong MAC")
    if header.seq <= key.seen or header.life != 0 or header.uses != 0:
        raise forbidden(b"seen before")
    try:
        keystore.forget(config.keys, sides[0])
    except OSError:
        raise Refusal(500, "setup key: can't be forgotten")
    emit("forgotten", peer=sides[0], by="peer")
    agent.reject(transaction, 200, "OK", now)
