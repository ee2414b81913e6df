"""What day it is, as the neighbour's Date has it.

Loaded on demand: at each refresh of the registration.
"""

from sipwire.date import parse_date
from sipwire.errors import ParseError

__all__ = ["seconds"]


def seconds(date):
    """Seconds since 1970 of a Date header; None where it is malformed: without the time no setup key is good."""
    try:
        return parse_date(date)
    except ParseError:
        return None
