"""``wisp calls``: the calls whose media were relayed, with what the relays have seen of them."""

import json
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ..store.calls import list_calls
from .console import HERE, ConfigPath, fail, load_config, open_store, out, print_table, printable, with_store

if TYPE_CHECKING:
    from ..store.calls import CallRecord

__all__ = ["calls"]

_LIMIT = 50
_REASONS = {"silent": "media stopped", "stopped": "neighbour stopped"}


def calls(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain; default: everybody.")] = "",
    last: Annotated[int, typer.Option(min=1, max=100_000, help="How many, the newest first.")] = _LIMIT,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object per line, with all that is known.")] = False,
    config: ConfigPath = HERE,
) -> None:
    """List the calls whose media were relayed: who called whom, when, how long, and what came of the media."""
    settings = load_config(config)
    if user and not user.isprintable():
        raise fail("USER: a user name is wanted")
    store = open_store(settings)
    found = with_store(list_calls(store, last, f"sip:{user}@{settings.domain}" if user else ""), store)
    if as_json:
        for one in found:
            out.print(json.dumps(asdict(one)), markup=False)
        return
    if found:
        table = Table("begun", "caller", "callee", "lasted", "end", "media", "packets", "dropped", box=None)
        for one in found:
            table.add_row(*_row(one))
        print_table(table)
    out.print(f"{len(found)} {'call' if len(found) == 1 else 'calls'}", markup=False)


def _row(call: "CallRecord") -> tuple[str, ...]:
    begun = datetime.fromtimestamp(call.began_at / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
    lasted = "" if call.connected_at is None else f"{(call.ended_at - call.connected_at) / 1000:.0f} s"
    end = _REASONS.get(call.reason, "hung up") if call.connected_at is not None else str(call.status or "no answer")
    media = ", ".join(f"{one['kind']} {one['protection']}" for one in call.media)
    sides = [one["sides"] for one in call.media]
    packets = ", ".join("/".join(str(side["packets"]) for side in pair) for pair in sides)
    dropped = ", ".join("/".join(str(_dropped(side)) for side in pair) for pair in sides)
    return begun, printable(call.caller), printable(call.callee), lasted, end, printable(media), packets, dropped


def _dropped(side: dict[str, Any]) -> int:
    return sum(side["dropped"].values())
