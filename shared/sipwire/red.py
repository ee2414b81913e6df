"""What an offer or answer says of redundancy in text (RFC 2198 section 5, RFC 4103 section 10)."""

from .errors import ParseError

__all__ = ["MAX_GENERATIONS", "red_generations"]

MAX_GENERATIONS = 5  # redundant ones in a packet; RFC 4103 recommends two, and more than five help nobody


def red_generations(fmtp: bytes, t140_type: int) -> int:
    """How many redundant generations the fmtp of text/red agrees on, as ``98/98/98`` does on two.

    Args:
        fmtp: behind the payload type in ``a=fmtp``.
        t140_type: the payload type of text/t140 in the same media description.

    Raises:
        ParseError: not a list of two to six numbers that are all ``t140_type`` (RFC 4103 section 10.1, RFC 4102).
    """
    levels = fmtp.strip().split(b"/")
    # isdigit() and the length come first: int() takes more than digits.
    if not 2 <= len(levels) <= MAX_GENERATIONS + 1 or not all(
        [level.isdigit() and len(level) <= 3 and int(level) == t140_type for level in levels]
    ):
        raise ParseError("text/red fmtp")
    return len(levels) - 1
