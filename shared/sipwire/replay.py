"""The sliding replay window of RFC 3711 section 3.3.2 and WIRE section 1.3."""

from .compat import const

__all__ = ["WINDOW_SIZE", "ReplayWindow"]

WINDOW_SIZE = 64  # RFC 3711: "MUST be at least 64"; older indexes are refused
_MAX_SIZE = const(0x8000)  # what is further back counts as of the next 65536 RTP packets


class ReplayWindow:
    """Remembers which of the last ``size`` indexes have been seen, in one bit each and without any allocation.

    Args:
        size: a multiple of 8, from 64 to 32768.
        highest: the highest index taken as seen; -1 for none. Everything up to it is refused, so what is negative is.

    Raises:
        ValueError: another size.
    """

    def __init__(self, size: int = WINDOW_SIZE, highest: int = -1) -> None:
        if size & 7 or not WINDOW_SIZE <= size <= _MAX_SIZE:
            raise ValueError("replay window")
        self.highest = highest
        self._size = size
        self._bits = bytearray(b"\xff" * (size // 8))

    def is_fresh(self, index: int) -> bool:
        """Whether ``index`` is neither seen before nor too old to tell. Changes nothing: authenticate, then `add`."""
        if index > self.highest:
            return True
        if index <= self.highest - self._size:
            return False
        at = index % self._size
        return not self._bits[at >> 3] & 1 << (at & 7)

    def add(self, index: int) -> None:
        """Mark a fresh, authenticated ``index`` as seen."""
        size = self._size
        if index > self.highest:
            skipped = index - self.highest - 1
            skipped = min(size, skipped)
            at = (index - skipped) % size
            for _ in range(skipped):
                self._bits[at >> 3] &= ~(1 << (at & 7)) & 0xFF
                at += 1
                if at == size:
                    at = 0
            self.highest = index
        at = index % size
        self._bits[at >> 3] |= 1 << (at & 7)
