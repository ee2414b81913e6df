"""Answers to our offers (RFC 3264).

Loaded on demand: when a call of ours is answered, and when we change one.
"""

from sipwire.offer import accept_answer
from sipwire.sdp import Session

from .descriptions import checked, given, places, read
from .spoken import speaks

__all__ = ["accept"]


def accept(session, config, body):
    """What the answer to our open offer agrees on.

    Returns:
        (the m= lines of our offer, refused where the answer refuses them, each `Agreed`).

    Raises:
        ParseError: it is no answer to it.
    """
    offer = Session.parse(session.offered)
    agreed = accept_answer(speaks(config), offer, read(body), session.had, given(session))
    return places(offer), checked(agreed)
