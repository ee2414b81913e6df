"""Offers in a session that once had several streams: what was refused stays so, in its place (RFC 3264 section 8).

Loaded on demand: hardly ever.
"""

from sipwire.sdp import Session

from .offers import offer

__all__ = ["make"]


def make(session, config, present):
    """See `offers.offer`."""
    return offer(session, config, present, _sections(session.answered))


def _sections(body):
    """The media sections of our last answer without what they say, or None where there was one alone."""
    if not body:
        return None
    sections = Session.parse(body).media
    for section in sections:
        section.lines = []
    return sections
