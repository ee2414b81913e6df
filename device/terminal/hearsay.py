"""Who the other side of a call is, as the neighbours have it (WIRE section 2).

Loaded on demand: when a call begins.
"""

from sipwire.errors import ParseError
from sipwire.grammar import get_param, parse_params, split_list
from sipwire.uri import Uri

__all__ = ["listen"]

_LEVELS = (b"light", b"medium", b"heavy")


def listen(trust, status):
    """Take what the neighbour says of a message, and whether that will do for a first key.

    Args:
        trust: a `trust.Trust`.
        status: the Security-Status.
    """
    trust.by = trust.verified = None
    trust.is_vouched = False
    try:
        params = parse_params(split_list(status, b";"))
        level, domain, who = [get_param(params, name) for name in ("level", "by", "verified")]
        aor = who and Uri.parse(who).aor()
    except ParseError:
        return
    if level in _LEVELS:
        trust.by = "neighbour " + str(level, "ascii")
        trust.verified = aor or domain
        setup = trust.config.setup
        if setup["life_s"] and _LEVELS.index(level) >= _LEVELS.index(setup["level"].encode()):
            # Who was verified has to be whom we called, and not where that one has sent us on to.
            trust.is_vouched = (aor or domain) == (trust.peer if aor else trust.peer.partition(b"@")[2])
