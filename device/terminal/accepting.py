"""Answers to our offers (RFC 3264).

Loaded on demand: when a call of ours is answered, and when we change one.
"""

from sipwire.sdp import Session, accept_answer

from .descriptions import given, plain, read

__all__ = ["accept"]


def accept(session, body):
    """What the answer to our open offer agrees on: the arguments of a `negotiation.Stream`.

    Raises:
        ParseError: it is no answer to it.
    """
    return plain(accept_answer(Session.parse(session.offered), read(body), given(session)))
