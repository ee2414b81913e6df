"""How much who may ask: strangers by their address, everybody whom we know by who they are.

    what came            who pays                        beyond it
    ------------------   -----------------------------   ---------------------------------------------
    nobody shows who     the address it came from        dropped without an answer: nothing to amplify
    a stale nonce, and   the user, at that address       the address pays
      right otherwise
    one of our users     the user, from anywhere         503 with Retry-After
    another domain       the domain                      500 with Retry-After

An address may be that of an office with hundreds of phones behind it. So what a phone proves to be its own is never
charged to its address, and each user that has shown itself at an address lately makes what strangers may ask there
larger by as much again: they are probably its phones too, and after a power cut they all come at once.

An address from which nobody has shown who they are is not even read once its bucket is empty. One that is known is:
there is no other way to tell a phone from the one beside it that has run wild.

503 tells a client to send us nothing at all for a while (RFC 3261 section 21.5.4). That is right for a user's own phone
and wrong for another domain's proxy, which has calls of others to send: for those it is 500, which speaks of that one
request, and Retry-After says when to try it again (section 21.5.1).
"""

import socket
import time
from collections import OrderedDict
from typing import TYPE_CHECKING

from .buckets import Buckets

if TYPE_CHECKING:
    from .config import LimitsConfig
    from .metrics import Metrics

__all__ = ["Limits", "source_of"]

_MAX_SOURCES = 65_536  # addresses whose buckets are remembered, some 15 MB; beyond it the longest silent begin anew
_MAX_IDENTITIES = 65_536  # users and domains, likewise
_MAX_SEEN = 131_072  # pairs of an address and who has shown themselves there; beyond it the oldest are forgotten
_SEEN_MS = 24 * 3600 * 1000  # how long they count: longer than a night without power
_RETURN_RATE = 1  # challenges a second for a user at an address who has the secret and a nonce that is too old
_RETURN_BURST = 20
_MAPPED = bytes(10) + b"\xff\xff"  # IPv4 on an IPv6 socket: ::ffff:192.0.2.1


def source_of(host: str) -> str:
    """What of an address pays: all of an IPv4 one, the /64 of an IPv6 one, which is one customer's."""
    if ":" not in host:
        return host
    try:
        packed = socket.inet_pton(socket.AF_INET6, host.partition("%")[0])
    except OSError:
        return host
    if packed.startswith(_MAPPED):
        return socket.inet_ntoa(packed[12:])
    return packed[:8].hex()


class Limits:
    """Keeps count.

    Args:
        config: the rates.
        metrics: counts.
    """

    def __init__(self, config: "LimitsConfig", metrics: "Metrics") -> None:
        self._metrics = metrics
        self._strangers: Buckets[str] = Buckets(config.stranger_rate, config.stranger_burst, _MAX_SOURCES)
        self._returning: Buckets[tuple[str, str]] = Buckets(_RETURN_RATE, _RETURN_BURST, _MAX_SOURCES)
        self._users: Buckets[tuple[str, bool]] = Buckets(config.user_rate, config.user_burst, _MAX_IDENTITIES)
        self._peers: Buckets[tuple[str, bool]] = Buckets(config.peer_rate, config.peer_burst, _MAX_IDENTITIES)
        # Who has shown themselves where, and when; the last at the end. And how many of them by address.
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()
        self._known: dict[str, int] = {}

    @staticmethod
    def _now() -> int:
        return time.monotonic_ns() // 1_000_000

    # Addresses.

    def shows(self, host: str, who: str) -> None:
        """Somebody has shown at an address who they are.

        Args:
            host: the address.
            who: a user of ours, or another domain.
        """
        source, now = source_of(host), self._now()
        pair = (source, who)
        if pair not in self._seen:
            self._known[source] = self._known.get(source, 0) + 1
        self._seen[pair] = now
        self._seen.move_to_end(pair)
        # Two at a time: the table shrinks when it has to, and nothing takes long.
        for _ in range(2):
            oldest = next(iter(self._seen))
            if len(self._seen) <= _MAX_SEEN and self._seen[oldest] + _SEEN_MS > now:
                break
            self._forget(oldest)

    def _forget(self, pair: tuple[str, str]) -> None:
        del self._seen[pair]
        left = self._known[pair[0]] - 1
        if left:
            self._known[pair[0]] = left
        else:
            del self._known[pair[0]]

    def known(self, host: str) -> int:
        """How many have shown at an address lately who they are."""
        return self._known.get(source_of(host), 0)

    def reads(self, host: str) -> bool:
        """Whether to read what came from an address at all."""
        source = source_of(host)
        if source in self._known or self._strangers.has(source, self._now()):
            return True
        self._metrics.limited.labels("unread").inc()
        return False

    def stranger(self, host: str) -> bool:
        """Charge an address for what came without showing who sent it.

        Returns:
            Whether it may be answered; False is counted.
        """
        source = source_of(host)
        if self._strangers.take(source, self._now(), 1 + self._known.get(source, 0)):
            return True
        self._metrics.limited.labels("stranger").inc()
        return False

    def returns(self, host: str, user: str) -> bool:
        """Charge a user at an address for what is right but for its nonce; False where the address has to pay."""
        return self._returning.take((source_of(host), user), self._now())

    # Who is known.

    def user(self, user: str, *, ends: bool = False) -> int:
        """Charge a user for a request.

        Args:
            user: who, or the address-of-record of one side of a dialog.
            ends: whether it is a BYE or an ACK, which ends work. So many of those may come besides.

        Returns:
            0 where it may go on, else the seconds until it may.
        """
        return self._charge(self._users, (user, ends), "user")

    def peer(self, domain: str, *, ends: bool = False) -> int:
        """Charge another domain; see `user`."""
        return self._charge(self._peers, (domain, ends), "peer")

    def _charge(self, buckets: "Buckets[tuple[str, bool]]", key: tuple[str, bool], kind: str) -> int:
        now = self._now()
        if buckets.take(key, now):
            return 0
        self._metrics.limited.labels(kind).inc()
        return 1 + buckets.wait_ms(key, now) // 1000
