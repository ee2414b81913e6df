"""Descriptions that others have written (RFC 4566, RFC 4568), read within our limits and with the keys of the call."""

from sipwire.compat import const
from sipwire.errors import ParseError
from sipwire.sdp import Session
from sipwire.setup_keys import MediaKeys

__all__ = ["checked", "given", "places", "read"]

# Of a description; each costs a hundred bytes or two of heap while it is read. More is 413.
_MAX_LINES = const(80)
_MAX_STREAMS = const(8)


def given(session):
    """The keys that a setup key gives, None in a call without one."""
    keys = session.trust.keys
    if session.trust.kid and not keys:
        raise ParseError("Setup-Key", 403, "no")
    return keys and MediaKeys(keys[0], keys[1], keys[2], keys[3])


def read(body):
    """Read a description.

    Raises:
        ParseError: malformed (400), or too large (413).
    """
    if body.count(b"\n") > _MAX_LINES or body.count(b"\nm=") > _MAX_STREAMS:
        raise ParseError("SDP", 413, "too large")
    return Session.parse(body)


def places(description):
    """What follows ``m=`` in each line of a description that has it."""
    return [b" ".join([one.kind, b"%d" % one.port, one.proto] + one.formats) for one in description.media]


def checked(agreed):
    """The same, where its addresses are IPv4 ones: to look up a peer's name would stop everything for seconds."""
    for one in agreed:
        numbers = one.address.split(b".")
        if len(numbers) != 4 or [n for n in numbers if not n.isdigit() or len(n) > 3 or int(n) > 255]:
            raise ParseError("address", 488, "unusable")
    return agreed
