"""Records of calls: who called whom, when, and how well it was heard; of calls whose media were relayed.

    begin --> connect --> end       a call, and what its relays have seen
         `--> write                 nobody has answered, or it was refused

A record is written when the call has ended. One that goes on when the neighbour is stopped ends then; of one that goes
on when it is killed nothing is left.
"""

import json
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, insert

from .store.schema import calls

if TYPE_CHECKING:
    from collections.abc import Callable

    from .store.database import Store

__all__ = ["Accounting", "Record"]

_DAY_MS = 86_400_000
_TIDY_MS = 3_600_000  # between two looks for records that are too old
_OK = 200
_MAX_NAME = 256  # characters of an address, as the table has it

_INSERT = insert(calls)


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Record:
    """What is known of a call so far; `Accounting.begin` makes it."""

    __slots__ = ("_accounting", "_began_at", "_call_id", "_connected_at", "_sides")

    def __init__(self, accounting: "Accounting", sides: tuple[str, str], call_id: str, began_at: int) -> None:
        self._accounting = accounting
        self._sides = sides
        self._call_id = call_id
        self._began_at = began_at
        self._connected_at: int | None = None

    def connect(self) -> "Record":
        """Somebody has answered; returns the record of that call: several may answer one, and each is a call."""
        made = Record(self._accounting, self._sides, self._call_id, self._began_at)
        made._connected_at = self._accounting.clock()
        return made

    def end(self, media: list[dict[str, Any]], why: str) -> None:
        """A call that was answered has ended.

        Args:
            media: of each stream what its relay has seen.
            why: "" where one of its parties has ended it.
        """
        self._write(_OK, media, why)

    def write(self, status: int) -> None:
        """Nobody has answered: with which final status, 0 where there was none."""
        self._write(status, [], "")

    def _write(self, status: int, media: list[dict[str, Any]], why: str) -> None:
        self._accounting.write(
            {
                "caller": self._sides[0][:_MAX_NAME],
                "callee": self._sides[1][:_MAX_NAME],
                "call_id": self._call_id,
                "began_at": self._began_at,
                "connected_at": self._connected_at,
                "status": status,
                "reason": why,
                "media": json.dumps(media, separators=(",", ":")),
            }
        )


class Accounting:
    """Keeps records.

    Args:
        store: an open store.
        keep_days: how long; 0 for not at all.
        clock: milliseconds since 1970.
    """

    def __init__(self, store: "Store", keep_days: int, clock: "Callable[[], int]" = _wall_ms) -> None:
        self.clock = clock
        self._store = store
        self._keep_days = keep_days
        self._tidied_at: int | None = None

    def begin(self, caller: str, callee: str, call_id: str) -> Record:
        """A call has begun.

        Args:
            caller: address-of-record.
            callee: likewise.
            call_id: a hash of its Call-ID, in hex: that itself may hold an address.
        """
        return Record(self, (caller, callee), call_id, self.clock())

    def write(self, values: dict[str, Any]) -> None:
        """Keep a record; it is committed soon."""
        if self._keep_days:
            self._store.write_soon((_INSERT, {**values, "ended_at": self.clock()}))

    def look(self) -> None:
        """Forget what is too old, now and then."""
        now = self.clock()
        if self._tidied_at is not None and now - self._tidied_at < _TIDY_MS:
            return
        self._tidied_at = now
        self._store.write_soon((delete(calls).where(calls.c.ended_at < now - self._keep_days * _DAY_MS), {}))
