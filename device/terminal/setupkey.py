"""What is done with setup keys when a call begins, changes and ends alike: headers, sides, numbers."""

from sipwire.compat import const
from sipwire.setup import MAX_NUMBER, SetupKey
from sipwire.uri import Uri

from . import keystore
from .useragent import Refusal

__all__ = ["call_of", "find", "forbidden", "header_of", "is_live", "next_number", "own_aor", "reserve", "sides_of"]

_STRIDE = const(8)  # numbers that one writing to the flash takes: those of a call, mostly


def header_of(message):
    """The Setup-Key of a message, or None.

    Raises:
        ParseError: malformed.
    """
    value = message.get("setup-key")
    return None if value is None else SetupKey.parse(value)


def sides_of(request):
    """The addresses-of-record in From and To, as MACs have them."""
    return request.from_.parsed_uri().aor(), request.to.parsed_uri().aor()


def own_aor(config):
    """Ours, likewise."""
    return Uri.parse(config.aor).aor()


def call_of(request):
    """What of a request tells which one of which call it is."""
    return request.call_id, request.cseq.number


def find(keys, kid):
    """The key of that name, or None."""
    for key in keys:
        if key.kid == kid:
            return key
    return None


def is_live(key, now_s):
    """Whether a key may begin a call; none may where nobody knows what time it is."""
    return now_s is not None and key.uses > 0 and now_s < key.end and key.sent <= MAX_NUMBER - _STRIDE


def reserve(trust, keys, key, now):
    """Write down what has changed of the keys with a peer, and with it numbers for our next requests.

    Args:
        trust: of the call.
        keys: all there are.
        key: which of them the call has.
        now: milliseconds.

    Raises:
        OSError: the flash can't be written.
    """
    last = key.sent
    key.sent += _STRIDE
    keystore.save(trust.config.keys, trust.peer, keys, trust.calendar.seconds(now))
    trust.seq, trust.last = last, key.sent  # not before they are written: they would be used again


def next_number(trust, now):
    """A number for a request of ours that was never used; a power cut may leave some out.

    Returns:
        The number, or None where the key is gone or the flash can't be written: it could be used again then.
    """
    if trust.seq >= trust.last:
        keys = keystore.load(trust.config.keys, trust.peer)
        key = find(keys, trust.kid)
        if key is None:
            return None
        try:
            reserve(trust, keys, key, now)
        except OSError:
            return None
    trust.seq += 1
    return trust.seq


def forbidden(why):
    """The refusal of a request that does not show what it claims."""
    return Refusal(403, "Forbidden", "Warning", b'399 terminal "setup key: %s"' % why)
