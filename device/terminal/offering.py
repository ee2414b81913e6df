"""What we say in offers and answers (RFC 4566, RFC 4568).

Loaded on demand, and apart from what reads: both at once take twice the room. So it is given the m= lines of a
description, and no more of it.
"""

from sipwire.answer import write_answer
from sipwire.offer import make_offer
from sipwire.sdp import Media
from sipwire.streams import AUDIO, TEXT

from .descriptions import places
from .spoken import speaks

__all__ = ["answer", "offer"]


def offer(session, config, present):
    """An offer, as bytes.

    Args:
        session: the `negotiation.Negotiation`.
        config: the terminal's.
        present: the streams to go on with, and nothing else; none to offer fresh keys and all that we speak.
    """
    spoken = speaks(config)
    if present:
        kinds = [stream.kind for stream in present]
        if AUDIO not in kinds:
            spoken.audio_port = 0
        if TEXT not in kinds:
            spoken.text_port = 0
    made = make_offer(
        spoken,
        session.address,
        session.id,
        session.version,
        _media(session.places),
        present,
        session.is_held,
        session.trust.kid,
        session.renews,
    )
    return made.serialize()


def answer(session, config, lines, agreed):
    """An answer as bytes, and its m= lines.

    Args:
        session: the `negotiation.Negotiation`.
        config: the terminal's.
        lines: the m= lines of the offer.
        agreed: what it agrees on.
    """
    kid = session.trust.kid
    made = write_answer(speaks(config), _media(lines), agreed, session.address, session.id, session.version, kid)
    return made.serialize(), places(made)


def _media(lines):
    found = []
    for line in lines:
        words = line.split(b" ")
        found.append(Media(words[0], int(words[1]), words[2], words[3:]))
    return found
