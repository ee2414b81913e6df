"""Digest nonces that say themselves what they are, so that a challenge costs no state.

    nonce = base64url( time in ms (6) || random (6) || HMAC(key, purpose || realm || time || random) (12) )

What is remembered, while a nonce lives, is only which nonces were used with valid credentials: for a phone the highest
``nc`` and the 64 before it, for a terminal that it made its agreement. Nobody can make that grow without an account.

The time is that of a clock which nobody sets: a computer without one of its own, as a Raspberry Pi, leaps by years when
it learns the date. It begins somewhere else with each start, so that a nonce does not tell how long we have been up.
"""

import base64
import binascii
import hmac
import os
import time
from collections import OrderedDict

from sipwire.replay import ReplayWindow

__all__ = ["FOREIGN", "FRESH", "STALE", "Nonces"]

FRESH = "fresh"
STALE = "stale"
FOREIGN = "foreign"  # not ours: made up, of another purpose, or of a server before a restart

_STAMP_BYTES = 12
_TAG_BYTES = 12
_MAX_USED = 100_000  # remembered uses; beyond that the oldest nonces count as stale


class Nonces:
    """Makes and checks nonces.

    Args:
        realm: the digest realm.
        life_s: how long a nonce lives.
    """

    def __init__(self, realm: str, life_s: int) -> None:
        self._key = os.urandom(32)
        self._realm = realm.encode()
        self._life_ms = life_s * 1000
        self._began = int.from_bytes(os.urandom(5), "big")
        # In the order of their first use, which is nearly that of their age.
        self._used: OrderedDict[bytes, tuple[int, ReplayWindow]] = OrderedDict()
        self._oldest = 0

    @staticmethod
    def _now() -> int:
        return time.monotonic_ns() // 1_000_000

    def _tag(self, purpose: bytes, stamp: bytes) -> bytes:
        return hmac.digest(self._key, b"\0".join((purpose, self._realm, stamp)), "sha256")[:_TAG_BYTES]

    def make(self, purpose: bytes) -> bytes:
        """A fresh nonce for one purpose: one for phones does not make an agreement, and the other way round."""
        stamp = (self._began + self._now()).to_bytes(6, "big") + os.urandom(6)
        return base64.urlsafe_b64encode(stamp + self._tag(purpose, stamp))

    def spi(self, nonce: bytes) -> int:
        """The SPI that belongs to a nonce: 32 bits, not 0 (WIRE section 1.1, step 2)."""
        return int.from_bytes(hmac.digest(self._key, b"spi\0" + nonce, "sha256")[:4], "big") or 1

    def check(self, purpose: bytes, nonce: bytes) -> str:
        """`FRESH`, `STALE` or `FOREIGN`."""
        try:
            raw = base64.b64decode(nonce, altchars=b"-_", validate=True)
        except (ValueError, binascii.Error):
            return FOREIGN
        stamp, tag = raw[:_STAMP_BYTES], raw[_STAMP_BYTES:]
        if len(raw) != _STAMP_BYTES + _TAG_BYTES or not hmac.compare_digest(tag, self._tag(purpose, stamp)):
            return FOREIGN
        made = int.from_bytes(stamp[:6], "big") - self._began
        now = self._now()
        if not now - self._life_ms <= made <= now + 1000 or made < self._oldest:
            return STALE
        return FRESH

    def use(self, nonce: bytes, count: int) -> bool:
        """Mark a nonce as used the ``count``th time; call it only after the credentials were found valid.

        Returns:
            False where that count was used before: a replay.
        """
        now = self._now()
        known = self._used.get(nonce)
        if known is None:
            self._forget(now)
            window = ReplayWindow(64, 0)
            self._used[nonce] = (now, window)
        else:
            window = known[1]
        if not window.is_fresh(count):
            return False
        window.add(count)
        return True

    def _forget(self, now: int) -> None:
        """Forget uses of nonces that are stale by now, from the oldest on."""
        while self._used:
            nonce = next(iter(self._used))
            since, _ = self._used[nonce]
            if since + self._life_ms + 1000 > now and len(self._used) < _MAX_USED:
                return
            del self._used[nonce]
            # Whatever the reason to forget it, it must not be taken again.
            made = int.from_bytes(base64.urlsafe_b64decode(nonce)[:6], "big") - self._began
            self._oldest = max(self._oldest, made + 1)
