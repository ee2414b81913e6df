"""Showing whom we call who we are, by a setup key, and seeing that the answer is theirs (WIRE section 4.1).

Loaded on demand: when a call of ours with such a key begins, and when we change one. `trust.Trust` has what it works
on.
"""

from os import urandom

from sipwire.errors import ParseError
from sipwire.kdf import same
from sipwire.setup import ANSWER, INVITE, NONCE_BYTES, SetupKey
from sipwire.setup_keys import mac_key

from . import keystore
from .setupkey import call_of, header_of, is_live, next_number, reserve, sides_of

__all__ = ["accept", "ask", "choose"]


def choose(trust, now):
    """Take the newest key there is with whom we call, and a use of it; see `Trust.choose`."""
    now_s = trust.calendar.seconds(now)
    keys = [key for key in keystore.load(trust.config.keys, trust.peer) if is_live(key, now_s)]
    if keys:
        key = keys[0]
        key.uses -= 1
        try:
            reserve(trust, keys, key, now)
        except OSError:
            return  # what is not counted is not used
        trust.kid, trust.key = key.kid, key.key


def ask(trust, request, now):
    """Add our Setup-Key to an INVITE, see `Trust.ask`."""
    number = next_number(trust, now)
    if number is None:
        return  # the other side refuses it, and the call goes on as it was
    header = SetupKey.make(trust.kid, number, urandom(NONCE_BYTES))
    trust.asked = header.seq, header.nonce, sides_of(request), call_of(request)
    header.mac = header.compute(mac_key(trust.key), INVITE, trust.asked[2], trust.asked[3], b"-", request.body)
    request.add("Setup-Key", header.serialize())


def accept(trust, response, now):
    """Check the answer to our offer, see `Trust.accept`."""
    header = header_of(response)
    if header is None:
        raise ParseError("Setup-Key", 403, "no")
    number, nonce, sides, called = trust.asked
    good = header.compute(mac_key(trust.key), ANSWER, sides, called, nonce, response.body)
    if header.kid != trust.kid or header.seq != number or not same(header.mac, good):
        raise ParseError("Setup-Key", 403, "wrong")
    trust.keys = trust.kid, trust.key, SetupKey(trust.kid, number, nonce).random, header.random
    trust.show_peer()
    keys = keystore.load(trust.config.keys, trust.peer)
    if len(keys) > 1 and keys[0].kid == trust.kid:
        try:
            # It is used: the one before it is over.
            keystore.save(trust.config.keys, trust.peer, keys[:1], trust.calendar.seconds(now))
        except OSError:
            pass  # it goes with the next
