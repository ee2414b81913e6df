"""Offers and answers as they are written (RFC 4566, RFC 4568): made, read, and answered.

Loaded on demand: a call needs it when it begins and when it changes, not while people talk.
"""

from os import urandom

from sipwire.compat import const
from sipwire.crypto import Crypto
from sipwire.errors import ParseError
from sipwire.sdp import Session, accept_answer, make_answer, make_offer
from sipwire.srtp import SUITES

__all__ = ["accept", "answer", "offer"]

_SUITES = (b"AES_CM_128_HMAC_SHA1_80", b"AES_CM_128_HMAC_SHA1_32")  # preferred first
# Of a description; each costs a hundred bytes or two of heap while it is read. More is 413.
_MAX_LINES = const(80)
_MAX_STREAMS = const(8)


def offer(session, config, present):
    """An offer, as bytes.

    Args:
        session: the `negotiation.Negotiation`.
        config: the terminal's.
        present: a `negotiation.Stream` to go on with, or None to offer fresh keys and all that we speak.
    """
    if present:
        types = [present.payload_type]
        cryptos = [Crypto.make(1, present.suite, present.local_key)]
    else:
        types = config.payload_types
        cryptos = [Crypto.make(i + 1, name, _new_key(name)) for i, name in enumerate(_SUITES)]
    made = make_offer(
        session.address,
        config.rtp_port,
        session.id,
        types,
        cryptos,
        session.version,
        b"sendonly" if session.is_held else b"sendrecv",
        _sections(session.answered),
    )
    return made.serialize()


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
        _read(body),
        session.address,
        config.rtp_port,
        session.id,
        config.payload_types,
        {name: _new_key(name) for name in _SUITES},
        session.version,
        session.agreed,
        session.is_held,
    )
    return made.serialize(), len(made.media), _plain(agreed)


def accept(offered, body):
    """What the answer to an offer of ours agrees on: the arguments of a `negotiation.Stream`.

    Raises:
        ParseError: it is no answer to it.
    """
    return _plain(accept_answer(Session.parse(offered), _read(body)))


def _read(body):
    if body.count(b"\n") > _MAX_LINES or body.count(b"\nm=") > _MAX_STREAMS:
        raise ParseError("SDP", 413, "too large")
    return Session.parse(body)


def _sections(body):
    """The media sections of our last answer without what they say, or None where there was one alone."""
    if not body:
        return None
    sections = Session.parse(body).media
    for section in sections:
        section.lines = []
    return sections


def _plain(agreed):
    """What was agreed, where its address is an IPv4 one: to look up a peer's name would stop everything for seconds.

    Nothing of it is of a class that is unloaded with this module: it would keep all of the module alive.
    """
    numbers = agreed.address.split(b".")
    if len(numbers) != 4 or [n for n in numbers if not n.isdigit() or len(n) > 3 or int(n) > 255]:
        raise ParseError("address", 488, "unusable")
    return (
        agreed.address,
        agreed.port,
        agreed.payload_type,
        agreed.suite,
        agreed.local_key,
        agreed.remote_key,
        agreed.local_mki,
        agreed.remote_mki,
        agreed.direction,
    )


def _new_key(suite):
    return urandom(SUITES[suite].key_salt_bytes)
