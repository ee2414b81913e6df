"""A board as ``wisp device monitor`` and ``wisp device info`` show it: a `live.Board` as rich draws it.

What others wrote goes through `plain`: nothing of it commands the person's terminal.
"""

import time

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from .live import Board, Call, Happening
from .sentences import BAD, GOOD, Event, Told, duration, kib, number, plain, speech, text

__all__ = ["at", "details", "screen", "words"]

_BAR = 24  # characters
_STYLES = {GOOD: "green", BAD: "red", "": ""}
_LABEL = 8  # characters; a time of day as well
_WORD = 10  # characters, that a line may be shorter by where it is broken
_SIDES = 4  # columns of a panel beside what is in it
_WRITTEN = 3  # lines of what the other side writes
_FRAME = 2  # lines of a panel beside what is in it
_MIN_HAPPENINGS = 3
#: Counters of ``status`` that are shown for what they are: 0 in good days.
_COUNTERS = (("dropped", "dropped"), ("malformed", "malformed"), ("unproven", "unproven setup keys"))


def words(told: Told) -> Text:
    """A sentence, by its tone."""
    return Text(plain(told.text), _STYLES[told.tone])


def at(now: float) -> str:
    """The time of day."""
    return time.strftime("%H:%M:%S", time.localtime(now))


def screen(board: Board, port: str, now: float, width: int, height: int) -> RenderableType:
    """All of it, for a terminal of so many columns and lines."""
    rows = _board(board, now)
    parts: list[RenderableType] = [_panel(_rows(rows), board.aor or "a board", port)]
    inside = width - _SIDES - _LABEL - 1
    used = _FRAME + sum(_lines(value.plain, inside) for _, value in rows)
    call = board.call or board.last_call
    if call is not None:
        title = "call" if board.call is not None else "the last call"
        rows = _call(call, now)
        parts.append(_panel(_rows(rows), f"{title}: {call.peer}"))
        used += _FRAME + sum(_lines(value.plain, inside) for _, value in rows)
    room = max(_MIN_HAPPENINGS, height - used - _FRAME - 1)
    shown: list[Happening] = []
    for one in reversed(board.happenings):
        room -= _lines(plain(one.told.text), inside)
        if room < 0:
            break
        shown.insert(0, one)
    parts.extend((_panel(_happenings(shown), "what happened"), Text(" Ctrl-C ends", "dim")))
    return Group(*parts)


def details(board: Board, port: str, now: float) -> Table:
    """All of it but what happened, as a table."""
    table = Table.grid(padding=(0, 2))
    rows = [("port", Text(plain(port)))]
    if board.aor:
        rows.append(("terminal", Text(plain(board.aor))))
    rows += _board(board, now)
    if board.call is not None:
        (_, state), *more = _call(board.call, now)
        rows += [("call", Text.assemble(plain(board.call.peer), ", ", state)), *more]
    for name, value in rows:
        table.add_row(Text(name, "bold"), value)
    return table


def _lines(shown: str, width: int) -> int:
    """How many lines a text takes, or one more."""
    return 1 + cell_len(shown) // max(1, width - _WORD) if cell_len(shown) > width else 1


def _panel(inside: RenderableType, title: str, subtitle: str = "") -> Panel:
    name = Text.assemble(" ", (plain(title), "bold"), " ", overflow="ellipsis", no_wrap=True)
    end = Text(f" {plain(subtitle)} ", "dim") if subtitle else None
    return Panel(inside, title=name, title_align="left", subtitle=end, subtitle_align="right", padding=(0, 1))


def _rows(rows: list[tuple[str, Text]]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=_LABEL, style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def _happenings(happenings: list[Happening]) -> Table:
    table = Table.grid(padding=(0, 1))
    table.add_column(min_width=_LABEL, style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for one in happenings:
        table.add_row(at(one.at), words(one.told))
    if not happenings:
        table.add_row("", Text("nothing yet", "dim"))
    return table


def _joined(*parts: str) -> Text:
    return Text(plain(", ".join(part for part in parts if part)))


def _board(board: Board, now: float) -> list[tuple[str, Text]]:
    """(label, value) of what is so whether there is a call or not."""
    rows = []
    if board.trouble:
        rows.append(("trouble", Text(plain(board.trouble), _STYLES[BAD])))
    tone = {True: GOOD, False: BAD, None: ""}[board.is_registered]
    state = Text(plain(board.registration), _STYLES[tone])
    status = board.status
    up = number(status, "up_s")
    if up is not None:
        state.append(f", runs for {duration(up)}")
    if board.call is None and text(status, "phone") == "idle":
        state.append(", no call")
    rows.append(("state", state))
    firmware = text(status, "firmware")
    program = _joined(
        f"wisp {text(status, 'version')}" if "version" in status else "",
        f"MicroPython {firmware}" if firmware[:1].isdigit() else firmware,
        text(status, "board"),
    )
    if program:
        rows.append(("program", program))
    if board.wifi:
        rows.append(("Wi-Fi", _wifi(board.wifi)))
    if board.heap_used is not None:
        rows.append(("heap", _heap(board)))
    counters = [f"{value:.0f} {name}" for key, name in _COUNTERS if (value := number(status, key)) is not None]
    if counters:
        rows.append(("frames", _joined(*counters)))
    return rows


def _wifi(wifi: Event) -> Text:
    rssi = number(wifi, "rssi")
    shown = _joined(
        text(wifi, "ssid"), text(wifi, "address"), f"{rssi:.0f} dBm" if rssi is not None else "", text(wifi, "error")
    )
    if wifi.get("error"):
        shown.stylize(_STYLES[BAD])
    return shown


def _heap(board: Board) -> Text:
    """The heap as a bar: what is used, the most that ever was, and all of it where that is known."""
    used, peak, free = board.heap_used or 0, board.heap_peak or 0, board.heap_free
    total = used + free if free is not None else peak
    shown = Text()
    if total and free is not None:
        filled, most = (min(_BAR, round(_BAR * size / total)) for size in (used, peak))
        color = "green" if used < 0.7 * total else "yellow" if used < 0.9 * total else "red"
        shown.append("█" * filled, color)
        shown.append("▒" * (most - filled), "dim")
        shown.append("░" * (_BAR - max(most, filled)), "dim")
        shown.append(" ")
    shown.append(f"{kib(used)}" + (f" of {kib(total)}" if free is not None else ""))
    if peak:
        shown.append(f", at most {kib(peak)}")
    return shown


def _call(call: Call, now: float) -> list[tuple[str, Text]]:
    """(label, value) of a call."""
    lasted = call.talked_s if call.since is None else now - call.since
    lasts = (
        "" if lasted is None else f"for {duration(lasted)}" if call.since is not None else f"after {duration(lasted)}"
    )
    local, remote = call.hold
    held = "on hold by us" if local else ""
    held += (" and " if held and remote else "") + ("on hold by them" if remote else "")
    rows = [("state", _joined(f"{call.state} {lasts}".strip(), held, call.name and f'"{call.name}"'))]
    if call.who:
        rows.append(("who", Text(plain(call.who), "" if call.who.startswith(("it is", "the neighbour")) else "yellow")))
    if call.suite is not None:
        safe = Text(f"SRTP, {plain(call.suite)}", "green") if call.suite else Text("RTP, not protected", "red")
        rows.append(("media", safe))
    rows += _media(call)
    rows += [("writes", Text(plain(line))) for line in call.writing.last(_WRITTEN)]
    return rows


def _media(call: Call) -> list[tuple[str, Text]]:
    media = call.media
    if not media:
        return [("", Text("its counters are told at its end", "dim"))] if call.since is not None else []
    rows = [("SRTP" if call.suite else "packets", line) for line in [_joined(_packets(media))] if line]
    played = _joined(
        *(f"{name} {value:.0f} ms" for key, name in _TIMES if (value := number(media, key)) is not None),
        *(f"{value:.0f} {key}" for key in _PLAYED if (value := number(media, key)) is not None),
    )
    if played:
        rows.append(("speech", played))
    lost, jitter = number(media, "far_lost"), number(media, "far_jitter_ms")
    if lost is not None or jitter is not None:
        far = (
            f"{lost:.0f} lost on the way there" if lost is not None else "",
            f"jitter there {jitter:.0f} ms" if jitter is not None else "",
        )
        rows.append(("far end", _joined(*far)))
    written = media.get("text")
    if isinstance(written, dict):
        rows.append(("text", _joined(speech(written))))
    return rows


_TIMES = (("jitter_ms", "jitter"), ("delay_ms", "delay"), ("round_trip_ms", "round trip"))
_PLAYED = ("late", "concealed", "waited", "skipped")


def _packets(media: Event) -> str:
    """Packets, and always how many failed a check: that is what the protection is for."""
    shown = speech({key: value for key, value in media.items() if key in {"sent", "received", "lost"}})
    rejected = number(media, "rejected")
    return shown + (f", {rejected:.0f} rejected" if rejected is not None and shown else "")
