"""Where the terminal keeps its setup keys (WIRE section 4.2): a folder with two small files for each peer.

    <name>.0, <name>.1      name: 16 hex digits of the peer's address, hashed
    "W1" generation(4) used(4) size(1) address  count(1) [key(32) end(4) uses(2) sent(4) seen(4)]...
    [kid(16)]...  check(8)

Each change writes the whole of it over the older of the two files, with the next generation. So a power cut at any
byte leaves the old keys or the new ones: what is not whole fails its check. Nothing is renamed, which not every file
system of a board does in one step; and no more is written than the few hundred bytes that have changed.

Keys that are forgotten are first written as none, so that an older file can't bring them back. The names of keys that
neighbours have made outlast them: such a key may be handed on once more when it is gone, and would begin anew.

Loaded on demand: when a call begins and ends.
"""

import os
from hashlib import sha256

from sipwire.compat import const
from sipwire.kdf import same
from sipwire.setup_keys import KEY_BYTES, kid_of

from .trust import path_of

__all__ = ["MAX_KEYS", "Key", "forget", "load", "peers", "save", "was_taken"]

MAX_KEYS = 2  # of one peer, newest first
_MAX_PEERS = const(16)  # where one more comes, who has not been heard of for longest is forgotten
_MARK = b"W1"
_HEAD_BYTES = const(11)
_CHECK_BYTES = const(8)
_KEY_BYTES = const(46)  # a key with what is known of it
_KID_BYTES = const(16)
_MAX_TAKEN = const(4)  # names of one peer: neighbours hold two of its keys at a time
_MAX_AOR_BYTES = const(255)
_MAX_BYTES = const(512)  # of a file


class Key:
    """A setup key.

    Attributes:
        key: its 32 bytes.
        end: when its life is over, in seconds since 1970.
        uses: the calls it is still good for.
        sent: the highest number that may have been used for a request of ours.
        seen: the highest number of a request of the peer's.
    """

    def __init__(self, key, end, uses, sent=0, seen=0):
        self.key = key
        self.end = end
        self.uses = uses
        self.sent = sent
        self.seen = seen

    @property
    def kid(self):
        """Its name."""
        return kid_of(self.key)


def load(folder, peer):
    """The keys with a peer, newest first; an empty list where there are none.

    Args:
        folder: path.
        peer: address-of-record.
    """
    return _newest(folder, peer)[1]


def was_taken(folder, peer, kid):
    """Whether a key of that name was taken from the neighbours, whatever has become of it."""
    taken = _newest(folder, peer)[3]
    return kid in [taken[at : at + _KID_BYTES] for at in range(0, len(taken), _KID_BYTES)]


def save(folder, peer, keys, now_s, taken=b""):
    """Keep keys with a peer, newest first; those that there are too many of are gone.

    Args:
        folder: path; it is made where it is not there.
        peer: address-of-record.
        keys: at most `MAX_KEYS` count.
        now_s: seconds since 1970.
        taken: the name of one that the neighbours have made, see `was_taken`.

    Raises:
        OSError: they can't be written; the old ones are still there.
    """
    if len(peer) > _MAX_AOR_BYTES:
        raise OSError("address too long")
    generation, _, slot, known = _newest(folder, peer)
    if not generation:
        _make_room(folder)
    _write(folder, peer, slot, generation + 1, now_s, keys[:MAX_KEYS], (taken + known)[: _MAX_TAKEN * _KID_BYTES])


def forget(folder, peer):
    """Forget all keys with a peer.

    Raises:
        OSError: they can't be removed; some may still be there.
    """
    generation, _, slot, taken = _newest(folder, peer)
    if generation:
        _remove(folder, peer, slot, generation, taken)


def peers(folder):
    """The addresses-of-record that there are keys with."""
    return [peer for _, peer, keys in _all(folder) if keys]


def _read(path):
    """What is in a file: (generation, when used, peer, keys, names), or None where it is not whole."""
    try:
        with open(path, "rb") as file:
            data = file.read(_MAX_BYTES)
    except OSError:
        return None
    end = len(data) - _CHECK_BYTES
    if end < _HEAD_BYTES or data[:2] != _MARK or not same(sha256(data[:end]).digest()[:_CHECK_BYTES], data[end:]):
        return None
    at = _HEAD_BYTES + data[_HEAD_BYTES - 1]
    peer = data[_HEAD_BYTES:at]
    keys = []
    for _ in range(data[at]):
        fields = data[at + 1 + KEY_BYTES : at + 1 + _KEY_BYTES]
        key = Key(data[at + 1 : at + 1 + KEY_BYTES], _int(fields[:4]), _int(fields[4:6]))
        key.sent, key.seen = _int(fields[6:10]), _int(fields[10:])
        keys.append(key)
        at += _KEY_BYTES
    return _int(data[2:6]), _int(data[6:10]), peer, keys, data[at + 1 : end]


def _int(data):
    return int.from_bytes(data, "big")


def _newest(folder, peer):
    """(generation, keys, the slot to write next, names taken) of a peer; generation 0 where there is nothing."""
    generation, keys, slot, taken = 0, [], 0, b""
    for i in range(2):
        found = _read(path_of(folder, peer, i))
        if found and found[2] == peer and found[0] > generation:
            generation, keys, slot, taken = found[0], found[3], 1 - i, found[4]
    return generation, keys, slot, taken


def _write(folder, peer, slot, generation, now_s, keys, taken):
    parts = [_MARK, generation.to_bytes(4, "big"), now_s.to_bytes(4, "big"), bytes([len(peer)]), peer]
    parts.append(bytes([len(keys)]))
    for key in keys:
        parts.append(key.key)
        for value, size in ((key.end, 4), (key.uses, 2), (key.sent, 4), (key.seen, 4)):
            parts.append(value.to_bytes(size, "big"))
    data = b"".join(parts) + taken
    with open(path_of(folder, peer, slot), "wb") as file:
        file.write(data + sha256(data).digest()[:_CHECK_BYTES])
    if hasattr(os, "sync"):
        os.sync()


def _remove(folder, peer, slot, generation, taken=b""):
    """Keys that are gone stay gone, whenever the power fails: nothing newer than them is removed before them."""
    _write(folder, peer, slot, generation + 1, 0, [], taken)
    for path in [path_of(folder, peer, 1 - slot)] + ([] if taken else [path_of(folder, peer, slot)]):
        try:
            os.remove(path)
        except OSError:
            pass  # it was written once only


def _all(folder):
    """(when used, peer, keys) of every peer."""
    try:
        names = {entry[:-2] for entry in os.listdir(folder) if entry[-2:] in (".0", ".1")}
    except OSError:
        return []
    found = []
    for name in names:
        both = [one for one in (_read("%s/%s.%d" % (folder, name, slot)) for slot in range(2)) if one]
        if both:
            newest = max(both, key=_generation)
            found.append((newest[1], newest[2], newest[3]))
    return found


def _generation(read):
    return read[0]


def _make_room(folder):
    """Make the folder, and see that there are not more peers in it than there may be with one more."""
    try:
        os.mkdir(folder)
    except OSError:
        pass  # it is there; or if not, the writing tells
    known = _all(folder)
    if len(known) >= _MAX_PEERS:
        peer = min(known, key=_used)[1]
        generation, _, slot, _ = _newest(folder, peer)
        _remove(folder, peer, slot, generation)


def _used(one):
    return one[0]
