"""Answers to offers (RFC 3264).

Loaded on demand: when a call comes, and when the peer changes one.
"""

from sipwire.sdp import Session, make_answer

from .descriptions import given, plain, read
from .offers import SUITES, new_key, offer

__all__ = ["answer", "offer_again"]


def answer(session, config, body):
    """Answer an offer.

    Args:
        session: the `negotiation.Negotiation`.
        config: the terminal's.
        body: the offer.

    Returns:
        (our answer as bytes, how many streams it has, what it agrees on: the arguments of a `negotiation.Stream`).

    Raises:
        ParseError: the offer is malformed (400), too large (413), or can't be accepted (488).
    """
    made, agreed = make_answer(
        read(body),
        session.address,
        config.rtp_port,
        session.id,
        config.payload_types,
        {name: new_key(name) for name in SUITES},
        session.version,
        session.agreed,
        session.is_held,
        given(session),
    )
    return made.serialize(), len(made.media), plain(agreed)


def offer_again(session, config, present):
    """As `offers.offer`, in a session whose streams are not one alone."""
    return offer(session, config, present, _sections(session.answered))


def _sections(body):
    """The media sections of our last answer without what they say, or None where there was one alone."""
    if not body:
        return None
    sections = Session.parse(body).media
    for section in sections:
        section.lines = []
    return sections
