"""Seeing that who calls is who they say, by a setup key, and answering so (WIRE section 4.1).

Loaded on demand: when a call with such a key comes, and when the peer changes one. `trust.Trust` has what it works on.

Whoever shows a wrong MAC costs two small files read and a few hashes, and changes nothing; the phone does not ring.
"""

from os import urandom

from sipwire.kdf import same
from sipwire.setup import ANSWER, INVITE, NONCE_BYTES, SetupKey
from sipwire.setup_keys import mac_key

from . import keystore
from .setupkey import call_of, find, forbidden, header_of, is_live, own_aor, reserve, sides_of
from .useragent import Refusal

__all__ = ["answer", "take"]


def take(trust, request, now):
    """Check an INVITE or UPDATE of the peer's, see `Trust.take`."""
    header = header_of(request)
    if request.to.tag:
        _take_within(trust, request, header, now)
        return
    now_s = trust.calendar.seconds(now)
    keys = keystore.load(trust.config.keys, trust.peer)
    key = find(keys, header.kid)
    if key is None or not is_live(key, now_s):
        raise Refusal(428, "Use Identity Header")
    if sides_of(request)[1] != own_aor(trust.config):
        trust.unproven += 1
        raise forbidden(b"of somebody else")
    # Once more where there was no memory to ring: its caller repeats it.
    is_again = header.mac == trust.unheard and header.seq == key.seen
    _check(trust, request, header, key.key, key.seen - is_again)
    key.uses -= 1 - is_again
    if key is keys[0]:
        keys = [key]  # it is used: the one before it is over
    _note(trust, request, keys, key, header, now)
    trust.kid, trust.key, trust.unheard = header.kid, key.key, header.mac
    _ready(trust, header)


def _take_within(trust, request, header, now):
    """A request that changes a call, which stays as it is protected."""
    if not trust.kid:
        if header:
            raise forbidden(b"of another call")
        return
    if header is None:
        if request.body or request.method == "INVITE":
            raise forbidden(b"missing")
        return  # it changes nothing
    if header.kid != trust.kid:
        raise forbidden(b"of another call")
    if not request.body:
        raise Refusal(488, "Not Acceptable Here", "Warning", b'399 terminal "setup key: no offer"')
    _check(trust, request, header, trust.key, trust.seen)
    keys = keystore.load(trust.config.keys, trust.peer)
    key = find(keys, trust.kid)
    if key:
        _note(trust, request, keys, key, header, now)
    _ready(trust, header)


def _check(trust, request, header, key, seen):
    good = header.compute(mac_key(key), INVITE, sides_of(request), call_of(request), b"-", request.body)
    if not same(header.mac, good):
        trust.unproven += 1
        raise forbidden(b"wrong MAC")
    if header.seq <= seen:
        trust.unproven += 1
        raise forbidden(b"seen before")


def _note(trust, request, keys, key, header, now):
    """Into the flash before anything is answered, so that a power cut does not let the same request in again."""
    key.seen = header.seq
    try:
        reserve(trust, keys, key, now)
    except OSError:
        # Such a key is of no use: once more without it, where the call has yet to begin.
        raise Refusal(500 if request.to.tag else 428, "Setup Key Not Kept")


def _ready(trust, header):
    """Make ready to answer."""
    trust.seen = header.seq
    made = SetupKey.make(trust.kid, header.seq, urandom(NONCE_BYTES))
    trust.header = made.seq, made.nonce, header.nonce
    trust.keys = trust.kid, trust.key, header.random, made.random
    trust.show_peer()


def answer(trust, request, body):
    """The Setup-Key that goes into an answer, see `Trust.answer`."""
    number, nonce, asked = trust.header
    trust.header = None
    header = SetupKey(trust.kid, number, nonce)
    header.mac = header.compute(mac_key(trust.key), ANSWER, sides_of(request), call_of(request), asked, body)
    return header.serialize()
