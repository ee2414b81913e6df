"""Offers of others (RFC 3264), read: `offering` writes their answers.

Loaded on demand: when a call comes, and when the peer changes one.
"""

from sipwire.answer import take_offer

from .descriptions import checked, given, places, read
from .spoken import speaks

__all__ = ["take"]


def take(session, config, body):
    """Choose among what is offered.

    Args:
        session: the `negotiation.Negotiation`.
        config: the terminal's.
        body: the offer.

    Returns:
        (its m= lines, each `Agreed`).

    Raises:
        ParseError: the offer is malformed (400), too large (413), or can't be accepted (488).
    """
    offer = read(body)
    agreed = take_offer(speaks(config), offer, session.had, session.is_held, given(session))
    return places(offer), checked(agreed)
