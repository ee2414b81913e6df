"""SIP-date (RFC 3261 section 25.1): ``Sat, 13 Nov 2010 23:29:00 GMT``, for machines without a clock of their own."""

from .compat import const
from .errors import ParseError
from .grammar import parse_uint

__all__ = ["parse_date"]

_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")
_LENGTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_FIRST_YEAR = const(1970)
_DAY_S = const(86400)
_WORDS = const(6)


def parse_date(value: bytes) -> int:
    """Seconds since 1970 that a date says.

    Raises:
        ParseError: malformed, no day of the calendar, or another day of the week than it says.
    """
    words = value.split(b" ")
    if len(words) != _WORDS or words[5] != b"GMT" or words[2] not in _MONTHS:
        raise ParseError("Date")
    month = _MONTHS.index(words[2])
    day = _digits(words[1], 2, 31)
    year = _digits(words[3], 4, 9999)
    if len(words[4]) != 8 or words[4][2:3] != b":" or words[4][5:6] != b":":
        raise ParseError("Date")
    hour, minute = _digits(words[4][:2], 2, 23), _digits(words[4][3:5], 2, 59)
    second = _digits(words[4][6:], 2, 60)  # a leap second
    if year < _FIRST_YEAR or not 0 < day <= _LENGTHS[month] + (month == 1 and _is_leap(year)):
        raise ParseError("Date")
    before = year - 1
    leaps = before // 4 - before // 100 + before // 400 - 477  # of the years since 1970
    days = 365 * (year - _FIRST_YEAR) + leaps + sum(_LENGTHS[:month]) + day - 1
    if month > 1 and _is_leap(year):
        days += 1
    if words[0] != _DAYS[(days + 3) % 7] + b",":  # the first was a Thursday
        raise ParseError("Date")
    seconds: int = days * _DAY_S + 3600 * hour + 60 * minute + second
    return seconds


def _digits(text: bytes, size: int, limit: int) -> int:
    if len(text) != size:
        raise ParseError("Date")
    return parse_uint(text, limit, "Date")


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
