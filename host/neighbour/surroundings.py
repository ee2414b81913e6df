"""What all forks of a proxy share."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sipwire.message import Response

    from .config import ProxyConfig
    from .fork import Fork
    from .resolver import Resolver
    from .routes import Routes
    from .transactions import Transactions
    from .transport.trunk import Trunks
    from .ways import Groups

__all__ = ["Surroundings"]


@dataclass(slots=True)
class Surroundings:
    """See the module.

    Attributes:
        config: timers.
        transactions: sends.
        routes: our place in route sets.
        resolver: finds servers.
        trunks: connects to them.
        warn: makes the Warning value of a reason.
        spawn: runs what has to wait.
        retarget: the groups for a 3xx that is for us to follow, and what is left of it for the caller.
        strip_challenges: takes challenges in our name out of a response.
    """

    config: "ProxyConfig"
    transactions: "Transactions"
    routes: "Routes"
    resolver: "Resolver"
    trunks: "Trunks"
    warn: "Callable[[str], bytes]"
    spawn: "Callable[[Coroutine[None, None, None]], None]"
    retarget: "Callable[[Fork, Response], tuple[Groups, bool]]"
    strip_challenges: "Callable[[Response], None]"
