"""``wisp keys``: setup keys between terminals, as far as the neighbour knows of them; never the keys themselves."""

from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ..location import wall_ms
from ..store.accounts import list_accounts
from ..store.setup_keys import DELIVERED, DUE, OFFERED, list_keys
from .console import HERE, ConfigPath, fail, load_config, open_store, out, print_table, printable, with_store

if TYPE_CHECKING:
    from ..store.database import Store
    from ..store.setup_keys import KeyState

__all__ = ["keys"]

_STATES = {
    OFFERED: "waits for the peer's neighbour",
    DUE: "waits for the terminal",
    DELIVERED: "delivered, and forgotten here",
}
_WORDS = {OFFERED: "with their peer's neighbour", DUE: "for their terminal", DELIVERED: "delivered"}
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))


def keys(
    user: Annotated[str, typer.Argument(help="The user part of sip:USER@domain; default: everybody.")] = "",
    config: ConfigPath = HERE,
) -> None:
    """Tell which setup keys are on their way to terminals or were delivered, with whom, and since when.

    The keys themselves are never shown. What terminals make of a key later, in their calls, nobody knows here.
    """
    settings = load_config(config)
    store = open_store(settings)
    now = wall_ms()
    found = with_store(_read(store, now, user), store)
    if found is None:
        raise fail(f"{user}: no such user", status=1)
    if found:
        table = Table("user", "peer", "state", "age", "life left", "uses", box=None)
        for one in found:
            ages = _lasts(now - one.made_at), _lasts(one.ends_at - now)
            table.add_row(
                f"sip:{one.user}@{settings.domain}", printable(one.peer), _STATES[one.state], *ages, str(one.uses)
            )
        print_table(table)
    counts = Counter(one.state for one in found)
    waiting = ", ".join(f"{counts[state]} {words}" for state, words in _WORDS.items())
    out.print(f"{len(found)} setup {'key' if len(found) == 1 else 'keys'}: {waiting}", markup=False)


async def _read(store: "Store", now: int, user: str) -> "list[KeyState] | None":
    """What there is of a user, "" for everybody; None where there is no such user."""
    if user and all(one.user != user for one in await list_accounts(store)):
        return None
    return await list_keys(store, now, user)


def _lasts(ms: int) -> str:
    """A time in its largest unit."""
    seconds = max(0, ms // 1000)
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"
