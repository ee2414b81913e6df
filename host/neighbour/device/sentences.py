"""What a terminal's events mean, in sentences for people (device/README.md lists the events and their fields).

    {"event": "registered", "aor": "sip:alice@a.example", "expires_s": 600}
        -> good: registered as sip:alice@a.example for 10 min

Fields may be missing, and there may be events that nobody here knows: the program on a board may be older, or newer.
What is in an event was partly written by others. Who shows it to a person takes `plain` for that.
"""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = [
    "BAD",
    "GOOD",
    "KNOWN",
    "Event",
    "Told",
    "duration",
    "kib",
    "number",
    "plain",
    "sentence",
    "speech",
    "text",
    "who",
]

Event = dict[str, Any]
GOOD = "good"
BAD = "bad"
_JOINERS = "\u200c\u200d"  # words of some languages, and many emoji, are no words without them; they command nothing
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"))
_RINGS = 180
_MOST = 1e15  # of anything that is counted; JSON has infinities as well
#: What a final status means to a person, where its own words may not say it.
_MEANINGS = {
    403: "it is forbidden",
    404: "nobody has that address",
    408: "no answer came in time",
    415: "their phone does not take such a text",
    480: "they can't be reached now, or did not answer",
    486: "they are busy",
    488: "their phone and ours have nothing in common: neither speech nor text that both take",
    503: "somebody on the way is overloaded, or can't be reached",
    600: "they are busy",
    603: "they don't want to",
}


class Told(NamedTuple):
    """A sentence, and its tone: `GOOD`, `BAD` or ""."""

    text: str
    tone: str = ""


def plain(words: str, keep: str = "") -> str:
    """What others wrote, so that it commands no terminal that shows it.

    Args:
        words: anything.
        keep: control characters that may stay, as a line's end.
    """
    return "".join(
        char if char.isprintable() or char in _JOINERS or char in keep else char.encode("unicode_escape").decode()
        for char in words
    )


def duration(seconds: float) -> str:
    """A time in its two largest units."""
    if seconds < 1:
        return f"{max(0, round(seconds * 1000))} ms"
    if seconds < 10:
        return f"{seconds:.1f} s".replace(".0 s", " s")
    left = round(seconds)
    words: list[str] = []
    for size, unit in _UNITS:
        if left >= size or words:
            if left // size:
                words.append(f"{left // size} {unit}")
            left %= size
    if left or not words:
        words.append(f"{left} s")
    return " ".join(words[:2])


def kib(size: float) -> str:
    """Bytes in KiB, or MiB where it is many."""
    return f"{size / 1024:.1f} KiB" if size < 1 << 20 else f"{size / (1 << 20):.2f} MiB"


def text(event: Event, key: str) -> str:
    """A field as text, "" where there is none."""
    value = event.get(key)
    return value if isinstance(value, str) else "" if value is None or isinstance(value, bool) else str(value)


def number(event: Event, key: str) -> float | None:
    """A field as a number, None where there is none."""
    value = event.get(key)
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _MOST
    return value if is_number else None


def who(event: Event) -> str:
    """Who says who the other side is, by an event's ``by`` and ``verified``."""
    by, verified = text(event, "by"), text(event, "verified")
    if not by:
        return "nobody knows who that is"
    if by == "setup-key":
        return f"it is {verified}: their terminal has shown it by a setup key"
    level = by.removeprefix("neighbour ")
    return f"the neighbour vouches for {verified or 'somebody it did not name'} ({level})"


def sentence(event: Event) -> Told:
    """An event in a sentence, which has no full stop."""
    say = _SENTENCES.get(text(event, "event"))
    return say(event) if say else Told(_unknown(event))


def _unknown(event: Event) -> str:
    fields = ", ".join(
        f"{key} {value if isinstance(value, str) else json.dumps(value)}"
        for key, value in event.items()
        if key != "event"
    )
    return f"{text(event, 'event')}: {fields}" if fields else text(event, "event")


def _some(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _lasts(event: Event, key: str, unit_s: float = 1.0) -> str:
    value = number(event, key)
    return "" if value is None else duration(value * unit_s)


def _started(event: Event) -> Told:
    used = number(event, "heap_used")
    heap = f"with {kib(used)} of the heap in use" if used is not None else ""
    version = text(event, "version")
    return Told(_some(f"the terminal of {text(event, 'aor')} runs", version and f"version {version}", heap))


def _wifi(event: Event) -> Told:
    ssid, error = text(event, "ssid"), text(event, "error")
    if error == "lost":
        return Told("the Wi-Fi is gone; the terminal tries to get it back", BAD)
    if error:
        return Told(f'the Wi-Fi "{ssid}" can\'t be joined: {error}', BAD)
    return Told(_some(f'the Wi-Fi "{ssid}" is joined', f"our address is {text(event, 'address')}"), GOOD)


def _registered(event: Event) -> Told:
    lasts = _lasts(event, "expires_s")
    return Told(f"registered as {text(event, 'aor')}" + (f" for {lasts}" if lasts else ""), GOOD)


def _unregistered(event: Event) -> Told:
    again = _lasts(event, "retry_ms", 0.001)
    return Told(f"not registered: {text(event, 'reason')}" + (f"; tries again in {again}" if again else ""), BAD)


def _progress(event: Event) -> Told:
    status = number(event, "status")
    state = "it rings there" if status == _RINGS else f"on its way (status {text(event, 'status')})"
    return Told(_some(state, "and what comes from there is heard" if event.get("media") is True else ""))


def _incoming(event: Event) -> Told:
    name = text(event, "name")
    return Told(f"{text(event, 'peer')} calls" + (f', as "{name}"' if name else "") + f"; {who(event)}", GOOD)


def _connected(event: Event) -> Told:
    took = _lasts(event, "setup_ms", 0.001)
    suite = text(event, "suite")
    safe = f"media is SRTP, {suite}" if suite else "media is NOT protected"
    words = f"connected with {text(event, 'peer')}" + (f" after {took}" if took else "")
    return Told(f"{words}; {safe}; {who(event)}", GOOD)


def _key(event: Event) -> Told:
    by = "our neighbour has introduced us: " if event.get("by") == "neighbour" else ""
    life = _some(f"{text(event, 'uses')} calls" if "uses" in event else "", _lasts(event, "life_s"))
    return Told(f"{by}there is a setup key with {text(event, 'peer')}" + (f" for {life}" if life else ""), GOOD)


def _forgotten(event: Event) -> Told:
    why = {"peer": "; the other side wants it so", "end": "; it has served its time"}.get(text(event, "by"), "")
    return Told(f"there is no setup key with {text(event, 'peer')} any more{why}")


def _hold(event: Event) -> Told:
    local, remote = event.get("local") is True, event.get("remote") is True
    if local and remote:
        return Told("each side has put the other on hold")
    if local:
        return Told("the other side is on hold")
    return Told("the other side has put us on hold" if remote else "nobody is on hold any more")


def _text(event: Event) -> Told:
    erased, bells = number(event, "erased"), number(event, "bells")
    source = text(event, "source")
    written = text(event, "text").replace("\n", "⏎")
    did = _some(
        f"erases {erased:.0f}" if erased else "", f'writes "{written}"' if written else "", "rings" if bells else ""
    )
    return Told((f"writer {source} " if source else "the other side ") + (did or "writes nothing"))


def _message(event: Event) -> Told:
    name = text(event, "name")
    return Told(f'a text of {text(event, "peer")}{f", {name}" if name else ""}: "{text(event, "text")}"', GOOD)


def speech(media: Event) -> str:
    """The counters of a stream, as far as there are any, in one line."""
    sent, received, lost = (number(media, key) for key in ("sent", "received", "lost"))
    parts = [f"{sent:.0f} packets sent"] if sent is not None else []
    if received is not None:
        parts.append(f"{received:.0f} received")
    if lost is not None:
        share = f" ({100 * lost / (lost + received):.1f} %)" if received is not None and lost else ""
        parts.append(f"{lost:.0f} lost{share}")
    if rejected := number(media, "rejected"):
        parts.append(f"{rejected:.0f} rejected")
    for key, name in (("jitter_ms", "jitter"), ("delay_ms", "delay"), ("round_trip_ms", "round trip")):
        value = number(media, key)
        if value is not None:
            parts.append(f"{name} {value:.0f} ms")
    return ", ".join(parts)


def _media(event: Event) -> str:
    media = event.get("media")
    if not isinstance(media, dict):
        return ""
    written = media.get("text")
    lines = [speech(media), f"text: {speech(written)}" if isinstance(written, dict) else ""]
    return "; ".join(line for line in lines if line)


def _ended(event: Event) -> Told:
    reason, talked, media = text(event, "reason"), _lasts(event, "talked_ms", 0.001), _media(event)
    words = "the call is over" + (f" after {talked}" if talked else "") + (f": {reason}" if reason else "")
    return Told(words + (f" ({media})" if media else ""), BAD if reason.startswith(("media:", "no memory")) else "")


def _failed(event: Event) -> Told:
    status, warning = number(event, "status"), text(event, "warning")
    meaning = _MEANINGS.get(int(status), "") if status is not None else ""
    answer = " ".join(part for part in (text(event, "status"), text(event, "reason")) if part)
    what = f"the text to {text(event, 'peer')} did not arrive" if event.get("command") == "message" else "no call"
    return Told(f"{what}: {meaning or answer}" + _in_brackets(answer if meaning else "", warning), BAD)


def _in_brackets(*parts: str) -> str:
    found = _some(*parts)
    return f" ({found})" if found else ""


def _refused(event: Event) -> Told:
    return Told(f"`{text(event, 'command')}` is refused: {text(event, 'reason')}", BAD)


def _status(event: Event) -> Told:
    used, free, peak = (number(event, key) for key in ("heap_used", "heap_free", "heap_peak"))
    heap = ""
    if used is not None:
        of = f" of {kib(used + free)}" if free is not None else ""
        heap = f"heap {kib(used)}{of}" + (f", at most {kib(peak)}" if peak is not None else "")
    state = text(event, "registration")
    peer = text(event, "peer")
    phone = text(event, "phone") + (f" with {peer}" if peer else "")
    media = _media(event)
    registered = state if state in {"registered", ""} else f"not registered ({state})"
    return Told("; ".join(part for part in (registered, phone, heap, media) if part) or "it answers")


def _crashed(event: Event) -> Told:
    count = number(event, "count") or 1
    often = f", {count} times in a row" if count > 1 else ""
    return Told(f"had ended by itself before this start{often}: {text(event, 'reason')}", BAD)


def _starved(event: Event) -> Told:
    used = number(event, "heap_used")
    return Told(
        "out of memory: a message was given up" + (f", with {kib(used)} in use" if used is not None else ""), BAD
    )


def _said(words: Callable[[Event], str], tone: str = "") -> Callable[[Event], Told]:
    return lambda event: Told(words(event), tone)


_SENTENCES: dict[str, Callable[[Event], Told]] = {
    "started": _started,
    "wifi": _wifi,
    "registered": _registered,
    "unregistered": _unregistered,
    "calling": _said(lambda event: f"calls {text(event, 'peer')}"),
    "progress": _progress,
    "incoming": _incoming,
    "connected": _connected,
    "key": _key,
    "forgotten": _forgotten,
    "hold": _hold,
    "dtmf": _said(lambda event: f"the other side has pressed {text(event, 'digit')}"),
    "text": _text,
    "message": _message,
    "sent": _said(lambda event: f"what was sent to {text(event, 'peer')} has arrived", GOOD),
    "leaving": _said(lambda event: f"hangs up as soon as the caller has confirmed: {text(event, 'reason')}"),
    "ended": _ended,
    "failed": _failed,
    "refused": _refused,
    "status": _status,
    "starved": _starved,
    "error": _said(lambda event: f"error: {text(event, 'reason')}", BAD),
    "crashed": _crashed,
    "prompt": _said(lambda event: f"stays at its prompt ({text(event, 'reason')}): {text(event, 'next')}", BAD),
}
#: The events that have a sentence of their own.
KNOWN = frozenset(_SENTENCES)
