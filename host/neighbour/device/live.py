"""What is known of a board by what its terminal tells: the model behind ``wisp device info``, ``monitor`` and ``call``.

    events and other lines of the console --> `Board`: registration, heap, its call, what happened last
                                          --> `Attempt`: a call that we make, until it is over
                                          --> `diagnosis`: why there is no answer

Nothing here reads or writes: `now` is in seconds since 1970, and a program that is older tells less.
"""

from collections import deque
from typing import NamedTuple

from .sentences import BAD, Event, Told, number, sentence, text, who

__all__ = ["Attempt", "Board", "Call", "Happening", "Writing", "diagnosis", "is_prompt"]

_MAX_HAPPENINGS = 200  # that a view may show; what is older is forgotten
_MAX_WRITTEN = 4000  # characters of what somebody writes in a call; what is older is forgotten
_MAX_WRITERS = 8  # of a conference; who has written nothing for longest is forgotten
_SILENT_S = 7.0  # without an answer to what was asked: longer than a board collects, or joins a network again
_PROMPT = ">>>"
_TRACEBACK = "Traceback (most recent call last)"
_GARBAGE = 0.2  # of the characters are none: it is another speed, or no console
#: The phone's states (terminal.phone) as a person calls them.
_STATES = {
    "idle": "no call",
    "calling": "calls",
    "cancelling": "gives up",
    "ringing": "it rings here",
    "answered": "answered",
    "talking": "talking",
}


class Happening(NamedTuple):
    """Something that a board has told, at a time in seconds since 1970."""

    at: float
    told: Told


class Writing:
    """What others write in a call, as it is seen: they may erase it. A conference has several writers."""

    def __init__(self) -> None:
        self._writers: dict[str, str] = {}

    def take(self, event: Event) -> None:
        """Take a ``text`` event."""
        source = text(event, "source")
        seen = self._writers.pop(source, "")
        erased = int(number(event, "erased") or 0)
        self._writers[source] = (seen[: max(0, len(seen) - erased)] + text(event, "text"))[-_MAX_WRITTEN:]
        if len(self._writers) > _MAX_WRITERS:
            del self._writers[next(iter(self._writers))]

    @property
    def texts(self) -> list[tuple[str, str]]:
        """(writer, what is seen of it) of each, who wrote last at the end; "" is who there is but one of."""
        return list(self._writers.items())

    def last(self, count: int) -> list[str]:
        """The last lines of who wrote last; one may still be being written."""
        return [line for line in (self.texts[-1][1] if self._writers else "").split("\n") if line][-count:]


class Call:
    """A call of the board's.

    Attributes:
        peer, name: who it is with, and what they call themselves.
        state: in words.
        who: who says who the other side is; "" where that is not known here.
        suite: what protects the media; "" for nothing, None where that is not known here.
        since: when it was connected, or None.
        talked_s: how long it was, once it is over.
        media: counters, as in ``ended``; of the call that stands where the terminal tells so.
        hold: (whether we have put the other side on hold, whether it has us).
        writing: what the other side writes.
    """

    def __init__(self, peer: str = "", state: str = "") -> None:
        self.peer = peer
        self.name = self.who = ""
        self.state = state
        self.suite: str | None = None
        self.since: float | None = None
        self.talked_s: float | None = None
        self.media: Event = {}
        self.hold = (False, False)
        self.writing = Writing()


class Board:
    """What a board has told until now.

    Attributes:
        aor: whose terminal it is, "" until it is known.
        is_registered: likewise None.
        registration: the state in words.
        wifi: of the Wi-Fi ``ssid``, ``address``, ``rssi`` and ``error``, as far as they are known.
        status: the last answer to ``status``, {} for none.
        call: a `Call`, or None.
        last_call: the one before, with its counters.
        happenings: what happened, the newest at the end.
        heap_used, heap_peak, heap_free: bytes, or None.
        trouble: why it does not answer, "" where it does.
    """

    def __init__(self) -> None:
        self.happenings: deque[Happening] = deque(maxlen=_MAX_HAPPENINGS)
        self._begin()

    def _begin(self) -> None:
        """Know nothing but what has happened."""
        self.aor = ""
        self.is_registered: bool | None = None
        self.registration = "not known yet"
        self.wifi: Event = {}
        self.status: Event = {}
        self.call: Call | None = None
        self.last_call: Call | None = None
        self.heap_used = self.heap_peak = self.heap_free = None  # type: float | None
        self.trouble = ""
        self._lines: deque[str] = deque(maxlen=20)
        self._asked_at: float | None = None

    def asked(self, now: float) -> None:
        """It is asked for its status."""
        if self._asked_at is None:
            self._asked_at = now

    def look(self, now: float, rest: str = "") -> None:
        """See whether it answers; ``rest`` is what has come of a line."""
        if is_prompt(rest) or (self._asked_at is not None and now - self._asked_at >= _SILENT_S):
            self.trouble = diagnosis([*self._lines], rest)

    def gone(self, now: float) -> Told:
        """The board was unplugged: nothing is known any more."""
        told = Told("the board is gone: it waits until it is back", BAD)
        self._begin()
        self.trouble = told.text
        return self.happened(told, now)

    def happened(self, told: Told, now: float) -> Told:
        """Note something that is not an event of its own."""
        self.happenings.append(Happening(now, told))
        return told

    def take(self, line: Event | str, now: float) -> Told | None:
        """Take a line of the console.

        Returns:
            What happened, None where nothing did: it was asked for.
        """
        if isinstance(line, str):
            return self._take_text(line, now)
        self._lines.clear()
        self._asked_at = None
        self.trouble = ""
        name = text(line, "event")
        if name == "status":
            self._take_status(line, now)
            return None
        self._take_event(name, line, now)
        told = sentence(line)
        # What is written letter by letter would fill it all; the call has it.
        return told if name == "text" else self.happened(told, now)

    def _take_text(self, line: str, now: float) -> Told | None:
        if not line.strip():
            return None
        self._lines.append(line)
        return self.happened(Told(line, BAD), now)

    def _take_event(self, name: str, event: Event, now: float) -> None:
        if name == "started":
            self._begin()
            self.registration = "not yet"
            self.is_registered = False
        self.aor = text(event, "aor") or self.aor
        self._take_heap(event)
        if name == "registered":
            self.is_registered, self.registration = True, "registered"
        elif name == "unregistered":
            self.is_registered, self.registration = False, text(event, "reason")
        elif name == "wifi":
            self.wifi = {key: value for key, value in event.items() if key != "event"}
        elif name in {"calling", "incoming"}:
            self.call = Call(text(event, "peer"), "calls" if name == "calling" else "it rings here")
            self.call.name = text(event, "name")
            self.call.who = who(event) if name == "incoming" else ""
        elif name == "failed" and event.get("command") is None:
            self.call = None
        elif name == "ended":
            self._end(event)
        elif self.call is not None or name in {"connected", "hold", "text"}:
            self._take_in_call(name, event, now)

    def _take_in_call(self, name: str, event: Event, now: float) -> None:
        call = self.call = self.call or Call(text(event, "peer"), "talking")
        if name == "connected":
            call.peer, call.state, call.since = text(event, "peer") or call.peer, "talking", now
            call.suite, call.who = text(event, "suite"), who(event)
        elif name == "progress":
            call.state = "it rings there" if number(event, "status") == 180 else "on its way"
        elif name == "hold":
            call.hold = (event.get("local") is True, event.get("remote") is True)
        elif name == "text":
            call.writing.take(event)
        elif name == "leaving":
            call.state = "hangs up"

    def _end(self, event: Event) -> None:
        call, self.call = self.call or Call(), None
        media = event.get("media")
        if isinstance(media, dict):
            call.media = media
        call.state, call.since = text(event, "reason"), None
        talked = number(event, "talked_ms")
        call.talked_s = None if talked is None else talked / 1000
        self.last_call = call

    def _take_heap(self, event: Event) -> None:
        used = number(event, "heap_used")
        if used is not None:
            self.heap_used = used
            self.heap_peak = max(used, self.heap_peak or 0, number(event, "heap_peak") or 0)
            # Together they are the heap: a newer figure of the one makes the older one of the other wrong.
            self.heap_free = number(event, "heap_free")

    def _take_status(self, status: Event, now: float) -> None:
        self.status = status
        self._take_heap(status)
        self.aor = text(status, "aor") or self.aor
        state = text(status, "registration")
        if state == "registered":
            self.is_registered, self.registration = True, state
        elif state:
            if self.is_registered is not False:
                self.registration = f"not registered ({state})"
            self.is_registered = False
        wifi = status.get("wifi")
        self.wifi |= wifi if isinstance(wifi, dict) else {}
        self.wifi |= {key: status[key] for key in ("ssid", "rssi") if status.get(key) is not None}
        phone = text(status, "phone")
        if phone == "idle":
            self.call = None
        elif phone:
            self._take_call(phone, status, now)

    def _take_call(self, phone: str, status: Event, now: float) -> None:
        state = _STATES.get(phone, phone)
        peer = text(status, "peer")
        if self.call is None or (peer and self.call.peer and peer != self.call.peer):
            self.call = Call(peer, state)
        call = self.call
        call.peer = call.peer or peer
        if phone != "calling":  # an event has said more of it
            call.state = state
        media = status.get("media")
        if "suite" in status or (call.suite is None and isinstance(media, dict)):  # an older program tells neither
            call.suite = text(status, "suite")
        if status.get("by") is not None:
            call.who = who(status)
        talked = number(status, "talked_ms")
        if talked is not None:
            call.since = now - talked / 1000
        if isinstance(media, dict):
            call.media = media


class Attempt:
    """A call that we make through a board, by what the board tells since.

    Attributes:
        was_connected, is_over: likewise.
        failure: why no call came about, "" where one did.
    """

    def __init__(self) -> None:
        self.was_connected = self.is_over = self._has_begun = False
        self.failure = ""

    @property
    def has_begun(self) -> bool:
        """Whether the board has taken the command."""
        return self._has_begun or self.is_over

    def take(self, event: Event) -> None:
        """Take an event that has come since the board was told to call."""
        name, command = text(event, "event"), text(event, "command")
        if self.is_over:
            return
        if name == "calling":
            self._has_begun = True
        elif name == "connected":
            self._has_begun = self.was_connected = True
        elif (name == "refused" and command == "call") or (name == "failed" and not command):
            self._end(sentence(event).text)
        elif name == "ended":
            self._end(f"no call came about: {text(event, 'reason')}")
        elif name == "started":
            self._end("the board has started again")
        elif name == "status" and text(event, "phone") == "idle" and self._has_begun:
            # What ended it was lost on the line.
            self._end("the call is over, and nobody has told why")

    def _end(self, why: str) -> None:
        self.is_over = True
        self.failure = "" if self.was_connected else why


def is_prompt(rest: str) -> bool:
    """Whether a line that has not ended is MicroPython's prompt."""
    return rest.strip().startswith(_PROMPT) or rest.strip() == ">"


def diagnosis(lines: list[str], rest: str = "") -> str:
    """Why no terminal answers.

    Args:
        lines: what came that is no event, the newest at the end.
        rest: what has come of a line that has not ended.

    Returns:
        A sentence with what is so, and what helps.
    """
    shown = [line for line in lines if line.strip()]
    written = "\n".join([*shown, rest])
    starts = [at for at, line in enumerate(shown) if line.startswith(_TRACEBACK)]
    crash = ""
    if starts:
        # The error's own line is the first one that is not indented.
        crash = next((line for line in shown[starts[-1] + 1 :] if not line.startswith(" ")), "")
    if is_prompt(rest) or any(line.startswith(_PROMPT) for line in shown):
        # What we typed is an error of its own there.
        crashed = "" if "'status'" in crash or "syntax" in crash else crash
        why = f"; its program ended by {crashed}" if crashed else ""
        return (
            f"MicroPython's prompt answers{why}: no terminal runs. Start it again by the board's reset button or "
            "`mpremote reset`; where none is installed, by `wisp device provision`"
        )
    if crash:
        return (
            f"the program on the board has crashed: {crash}. It starts again by itself after a few seconds, "
            "unless it has crashed too often: then `wisp device provision` puts a whole one there"
        )
    if written and sum(char == "\ufffd" for char in written) > _GARBAGE * len(written):
        return (
            "what comes is no text: the speed is another one (--baud; a terminal on a serial hop talks 921600), "
            "or the cable is bad"
        )
    if written.strip():
        return f'no terminal answers, but something else: "{written.strip().splitlines()[-1][:120]}"'
    return (
        "nothing answers: no terminal runs there yet (`wisp device provision`), it has ended (the board's reset button "
        "starts it again), another program keeps the board busy, or the speed is another one (--baud)"
    )
