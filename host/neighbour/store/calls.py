"""Records of calls, as `wisp calls` reads them; `accounting` writes them."""

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import or_, select

from .schema import calls

if TYPE_CHECKING:
    from .database import Store

__all__ = ["CallRecord", "list_calls"]


@dataclass(frozen=True)
class CallRecord:
    """One call.

    Attributes:
        caller: address-of-record of who has called.
        callee: of who was called.
        call_id: SHA-256 of its Call-ID, in hex.
        began_at: milliseconds since 1970.
        connected_at: likewise; None where nobody has answered.
        ended_at: likewise.
        status: the final status of its INVITE, 0 for none.
        reason: "" where its parties have ended it, "silent" where their media have stopped, "stopped" with us.
        media: of each stream what its relay has seen, see `media.statistics`.
    """

    caller: str
    callee: str
    call_id: str
    began_at: int
    connected_at: int | None
    ended_at: int
    status: int
    reason: str
    media: list[dict[str, Any]]


async def list_calls(store: "Store", limit: int, aor: str = "") -> list[CallRecord]:
    """The last calls, the newest first.

    Args:
        store: an open store.
        limit: how many at most.
        aor: of whom; "" for all.

    Raises:
        StoreError: the store failed.
    """
    query = select(calls).order_by(calls.c.ended_at.desc(), calls.c.id.desc()).limit(limit)
    if aor:
        query = query.where(or_(calls.c.caller == aor, calls.c.callee == aor))
    return [
        CallRecord(
            row.caller,
            row.callee,
            row.call_id,
            row.began_at,
            row.connected_at,
            row.ended_at,
            row.status,
            row.reason,
            json.loads(row.media),
        )
        for row in await store.read(query)
    ]
