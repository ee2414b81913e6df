"""The first offer of a call, or the only stream's again.

Loaded on demand: reading what others say takes twice the room.
"""

from .offers import offer

__all__ = ["make"]


def make(session, config, present):
    """See `offers.offer`."""
    return offer(session, config, present)
