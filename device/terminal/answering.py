"""Answers to offers (RFC 3264).

Loaded on demand: when a call comes, and when the peer changes one.
"""

from sipwire.sdp import make_answer

from .descriptions import given, plain, read
from .offers import SUITES, new_key

__all__ = ["answer"]


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
