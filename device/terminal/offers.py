"""Offers as we write them (RFC 4566, RFC 4568)."""

from os import urandom

from sipwire import srtp
from sipwire.crypto import Crypto
from sipwire.sdp import make_offer

__all__ = ["SUITES", "new_key", "offer"]

SUITES = (b"AES_CM_128_HMAC_SHA1_80", b"AES_CM_128_HMAC_SHA1_32")  # preferred first


def offer(session, config, present, before=None):
    """An offer, as bytes.

    Args:
        session: the `negotiation.Negotiation`.
        config: the terminal's.
        present: a `negotiation.Stream` to go on with, or None to offer fresh keys and all that we speak.
        before: the media sections of our last answer, see `sipwire.sdp.make_offer`.
    """
    kid = session.trust.kid
    types = [present.payload_type] if present else config.payload_types
    if kid:
        cryptos = [Crypto.make(1, SUITES[0], b"", kid)]
    elif present:
        cryptos = [Crypto.make(1, present.suite, present.local_key)]
    else:
        cryptos = [Crypto.make(i + 1, name, new_key(name)) for i, name in enumerate(SUITES)]
    made = make_offer(
        session.address,
        config.rtp_port,
        session.id,
        types,
        cryptos,
        session.version,
        b"sendonly" if session.is_held else b"sendrecv",
        before,
    )
    return made.serialize()


def new_key(suite):
    """A fresh master key and salt."""
    return urandom(srtp.SUITES[suite].key_salt_bytes)
