"""What the commands make of what a board tells: sentences, state, and why there is no answer."""

import io
import json
import math
import os
import pty
import re
import tty
from collections.abc import Iterator
from typing import Any

import pytest
from rich.console import Console

from neighbour.device.chatting import Chat
from neighbour.device.keyboard import letters
from neighbour.device.live import Attempt, Board, Writing, diagnosis
from neighbour.device.port import Line
from neighbour.device.sentences import BAD, GOOD, KNOWN, duration, kib, plain, sentence
from neighbour.device.view import details, screen

NOW = 1_790_000_000.0
HEAVY = {"by": "neighbour heavy", "verified": "sip:bob@b.example"}
BOB = "sip:bob@b.example"
MEDIA = {"sent": 512, "received": 508, "lost": 4, "rejected": 1, "jitter_ms": 3, "delay_ms": 60, "late": 1, "concealed": 2,
    "waited": 3, "skipped": 0, "far_lost": 2, "far_jitter_ms": 4, "round_trip_ms": 18}  # fmt: skip

SENTENCES: list[tuple[dict[str, Any], str, str]] = [
    ({"event": "started", "aor": "sip:a@b", "heap_used": 30720}, "the terminal of sip:a@b runs, with 30.0 KiB of the heap in use", ""),
    ({"event": "wifi", "ssid": "home", "address": "10.0.0.7"}, 'the Wi-Fi "home" is joined, our address is 10.0.0.7', GOOD),
    ({"event": "wifi", "ssid": "home", "error": "wrong password"}, 'the Wi-Fi "home" can\'t be joined: wrong password', BAD),
    ({"event": "wifi", "error": "lost"}, "the Wi-Fi is gone; the terminal tries to get it back", BAD),
    ({"event": "registered", "aor": "sip:a@b", "expires_s": 600}, "registered as sip:a@b for 10 min", GOOD),
    ({"event": "unregistered", "reason": "no answer", "retry_ms": 1500}, "not registered: no answer; tries again in 1.5 s", BAD),
    ({"event": "calling", "peer": BOB}, "calls sip:bob@b.example", ""),
    ({"event": "progress", "status": 180, "media": False}, "it rings there", ""),
    ({"event": "progress", "status": 183, "media": True}, "on its way (status 183), and what comes from there is heard", ""),
    ({"event": "incoming", "peer": BOB, "name": "Bob", **HEAVY}, 'sip:bob@b.example calls, as "Bob"; the neighbour vouches for sip:bob@b.example (heavy)', GOOD),
    ({"event": "incoming", "peer": BOB}, "sip:bob@b.example calls; nobody knows who that is", GOOD),
    ({"event": "connected", "peer": BOB, "setup_ms": 320, "suite": "AES_CM_128_HMAC_SHA1_80", "by": "setup-key", "verified": BOB},
     "connected with sip:bob@b.example after 320 ms; media is SRTP, AES_CM_128_HMAC_SHA1_80; it is sip:bob@b.example: their terminal has shown it by a setup key", GOOD),
    ({"event": "connected", "peer": BOB}, "connected with sip:bob@b.example; media is NOT protected; nobody knows who that is", GOOD),
    ({"event": "key", "peer": BOB, "life_s": 2592000, "uses": 10}, "there is a setup key with sip:bob@b.example for 10 calls, 30 d", GOOD),
    ({"event": "key", "peer": BOB, "life_s": 60, "uses": 1, "by": "neighbour"}, "our neighbour has introduced us: there is a setup key with sip:bob@b.example for 1 calls, 1 min", GOOD),
    ({"event": "forgotten", "peer": BOB, "by": "end"}, "there is no setup key with sip:bob@b.example any more; it has served its time", ""),
    ({"event": "hold", "local": True, "remote": False}, "the other side is on hold", ""),
    ({"event": "hold", "local": False, "remote": True}, "the other side has put us on hold", ""),
    ({"event": "hold", "local": False, "remote": False}, "nobody is on hold any more", ""),
    ({"event": "dtmf", "digit": "#", "duration_ms": 160}, "the other side has pressed #", ""),
    ({"event": "text", "text": "lo\n", "erased": 2}, 'the other side erases 2, writes "lo⏎"', ""),
    ({"event": "text", "text": "", "bells": 1, "source": "0a0b0c0d"}, "writer 0a0b0c0d rings", ""),
    ({"event": "message", "peer": BOB, "name": "Bob", "text": "Hi"}, 'a text of sip:bob@b.example, Bob: "Hi"', GOOD),
    ({"event": "sent", "peer": BOB}, "what was sent to sip:bob@b.example has arrived", GOOD),
    ({"event": "leaving", "reason": "hung up"}, "hangs up as soon as the caller has confirmed: hung up", ""),
    ({"event": "ended", "reason": "peer hung up", "talked_ms": 83000, "media": MEDIA},
     "the call is over after 1 min 23 s: peer hung up (512 packets sent, 508 received, 4 lost (0.8 %), 1 rejected, jitter 3 ms, delay 60 ms, round trip 18 ms)", ""),
    ({"event": "ended", "reason": "media: no microphone"}, "the call is over: media: no microphone", BAD),
    ({"event": "failed", "status": 486, "reason": "Busy Here"}, "no call: they are busy (486 Busy Here)", BAD),
    ({"event": "failed", "status": 499, "reason": "Odd", "warning": "305 no audio"}, "no call: 499 Odd (305 no audio)", BAD),
    ({"event": "failed", "command": "message", "peer": BOB, "status": 404, "reason": "Not Found"}, "the text to sip:bob@b.example did not arrive: nobody has that address (404 Not Found)", BAD),
    ({"event": "refused", "command": "hold", "reason": "not now"}, "`hold` is refused: not now", BAD),
    ({"event": "status", "registration": "registered", "phone": "idle", "heap_used": 30720, "heap_peak": 61440}, "registered; idle; heap 30.0 KiB, at most 60.0 KiB", ""),
    ({"event": "status", "registration": "asking", "phone": "talking", "peer": BOB, "heap_used": 30720, "heap_free": 81920, "heap_peak": 61440},
     "not registered (asking); talking with sip:bob@b.example; heap 30.0 KiB of 110.0 KiB, at most 60.0 KiB", ""),
    ({"event": "crashed", "count": 1, "reason": "OSError(5,)"}, "had ended by itself before this start: OSError(5,)", BAD),
    ({"event": "crashed", "count": 2, "reason": "x"}, "had ended by itself before this start, 2 times in a row: x", BAD),
    ({"event": "prompt", "reason": "Ctrl-C", "next": "do it"}, "stays at its prompt (Ctrl-C): do it", BAD),
    ({"event": "starved", "heap_used": 102400}, "out of memory: a message was given up, with 100.0 KiB in use", BAD),
    ({"event": "error", "reason": "wifi.pasword: unknown"}, "error: wifi.pasword: unknown", BAD),
    ({"event": "tomorrow", "what": "unknown", "count": 3, "parts": [1]}, "tomorrow: what unknown, count 3, parts [1]", ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("event", "words", "tone"), SENTENCES, ids=lambda one: one["event"] if isinstance(one, dict) else ""
)
def test_sentences(event: dict[str, Any], words: str, tone: str) -> None:
    assert sentence(event) == (words, tone)


def test_every_event_has_a_sentence() -> None:
    """Those that the table of device/README.md names, and no more."""
    from conftest import ROOT

    table = (ROOT / "device" / "README.md").read_text().partition("| event | fields | when |")[2].partition("\n\n")[0]
    named = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert named == KNOWN
    assert {event["event"] for event, _, _ in SENTENCES} == KNOWN | {"tomorrow"}


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_fields_may_be_missing_or_odd(name: str) -> None:
    for value in (None, True, -1, 1.5, math.inf, math.nan, 10**400, "x", [1], {"a": {}}):
        keys = ("aor", "by", "verified", "peer", "status", "media", "text", "erased", "bells", "heap_used", "heap_free", "retry_ms",
            "reason", "wifi", "ssid", "rssi", "phone", "registration", "talked_ms", "suite", "up_s", "version", "source", "command", "error")  # fmt: skip
        event = {"event": name} | ({} if value is None else dict.fromkeys(keys, value))
        assert sentence(event).text
        board = Board()
        board.take({"event": "connected", "peer": BOB}, NOW)
        board.take(event, NOW)
        board.take({"event": "status", "phone": "talking"} | {key: event[key] for key in keys if key in event}, NOW)
        Attempt().take(event)
        Console(quiet=True).print(screen(board, "/dev/x", NOW, 80, 24), details(board, "/dev/x", NOW))


@pytest.mark.parametrize(("seconds", "words"), [
    (0, "0 ms"), (0.32, "320 ms"), (1, "1 s"), (1.21, "1.2 s"), (42.4, "42 s"), (59.9, "1 min"), (83, "1 min 23 s"),
    (3600, "1 h"), (3605, "1 h 5 s"), (3780, "1 h 3 min"), (90_000, "1 d 1 h"), (-5, "0 ms"),
])  # fmt: skip
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


def test_sizes() -> None:
    assert [kib(0), kib(1536), kib(1 << 20)] == ["0.0 KiB", "1.5 KiB", "1.00 MiB"]


def test_nothing_commands_the_terminal() -> None:
    """Whatever a peer writes, the person's terminal gets no control character, and words stay words."""
    evil = "".join(map(chr, [*range(32), *range(0x7F, 0xA0), 0x202E, 0x2066, 0x2028, 0xFEFF, 0xE0041]))
    shown = plain(evil)
    assert all(char.isprintable() for char in shown)
    assert plain("Grüße, नमस्ते, 👩\u200d🚀, नि\u200dम") == "Grüße, नमस्ते, 👩\u200d🚀, नि\u200dम"
    board = Board()
    board.take({"event": "incoming", "peer": f"sip:{evil}@b", "name": evil, "by": evil, "verified": evil}, NOW)
    board.take({"event": "connected", "peer": f"sip:{evil}@b", "suite": evil, "by": evil, "verified": evil}, NOW)
    board.take({"event": "text", "text": evil + "\n[bold]x[/bold]"}, NOW)
    board.take({"event": "wifi", "ssid": evil, "error": evil}, NOW)
    board.take(
        {"event": "status", "phone": "talking", "version": evil, "firmware": evil, "board": evil, "rssi": -3}, NOW
    )
    board.take(evil, NOW)
    board.take({"event": evil, evil: evil}, NOW)
    board.trouble = evil
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(screen(board, evil, NOW, 100, 60))
    console.print(details(board, evil, NOW))
    drawn = console.export_text()
    assert "[bold]x[/bold]" in drawn
    assert all(char.isprintable() for char in drawn.replace("\n", ""))


# The model.


def told(*lines: dict[str, Any] | str, board: Board | None = None) -> Board:
    board = board or Board()
    for number, line in enumerate(lines):
        board.take(line, NOW + number)
    return board


def test_a_call_from_beginning_to_end() -> None:
    board = told({"event": "started", "aor": "sip:alice@a.example", "heap_used": 30000})
    assert (board.aor, board.is_registered, board.heap_used, board.call) == ("sip:alice@a.example", False, 30000, None)
    told({"event": "registered", "aor": "sip:alice@a.example", "expires_s": 600}, board=board)
    assert (board.is_registered, board.registration) == (True, "registered")
    told({"event": "calling", "peer": BOB}, board=board)
    assert board.call is not None
    call = board.call
    assert (call.peer, call.state) == (BOB, "calls")
    told({"event": "progress", "status": 180}, board=board)
    assert call.state == "it rings there"
    told({"event": "status", "phone": "calling", "peer": BOB}, board=board)
    assert call.state == "it rings there"  # which says more
    told({"event": "connected", "peer": BOB, "suite": "S", **HEAVY}, board=board)
    assert (call.state, call.suite, call.since) == ("talking", "S", NOW)
    told(
        {
            "event": "status",
            "phone": "talking",
            "peer": BOB,
            "talked_ms": 5000,
            "media": MEDIA,
            "heap_used": 54000,
            "heap_peak": 60000,
            "heap_free": 9000,
        },
        board=board,
    )
    assert (board.call, call.since, call.media) == (call, NOW - 5, MEDIA)
    assert (board.heap_used, board.heap_peak, board.heap_free) == (54000, 60000, 9000)
    told(
        {"event": "hold", "local": True, "remote": False},
        {"event": "text", "text": "Helo"},
        {"event": "text", "text": "lo", "erased": 1},
        board=board,
    )
    assert (call.hold, call.writing.last(3)) == ((True, False), ["Hello"])
    told({"event": "ended", "reason": "peer hung up", "talked_ms": 7000, "media": MEDIA | {"lost": 9}}, board=board)
    assert (board.call, board.last_call, call.media["lost"], call.talked_s) == (None, call, 9, 7.0)
    names = [one.told.text.split()[0] for one in board.happenings]
    assert names == ["the", "registered", "calls", "it", "connected", "the", "the"]  # not each letter


def test_a_monitor_that_comes_late() -> None:
    board = told(
        {
            "event": "status",
            "registration": "registered",
            "phone": "talking",
            "peer": BOB,
            "suite": "",
            "talked_ms": 60000,
            "wifi": {"ssid": "home", "rssi": -61},
        }
    )
    assert board.call is not None
    assert (board.call.peer, board.call.suite, board.call.since, board.wifi) == (
        BOB,
        "",
        NOW - 60,
        {"ssid": "home", "rssi": -61},
    )
    assert told({"event": "status", "registration": "registered", "phone": "idle"}, board=board).call is None
    # An older program, which tells less.
    board = told(
        {"event": "status", "registration": "waiting", "phone": "ringing", "peer": BOB, "heap_used": 3, "heap_peak": 4}
    )
    assert board.call is not None
    assert (board.call.state, board.call.suite, board.registration) == (
        "it rings here",
        None,
        "not registered (waiting)",
    )


def test_what_protects_a_call() -> None:
    """Media without a suite are plain; where neither is told, nobody knows."""
    for status, suite in (({"media": {}, "suite": "S"}, "S"), ({"media": {}}, ""), ({}, None)):
        board = told({"event": "status", "phone": "talking", "peer": BOB, **status})
        assert board.call is not None
        assert board.call.suite == suite


def test_another_start_and_unplugging_forget() -> None:
    for end in ("started", "gone"):
        board = told({"event": "registered", "aor": "sip:a@b"}, {"event": "connected", "peer": BOB})
        if end == "gone":
            assert "gone" in board.gone(NOW).text
        else:
            told({"event": "started", "aor": "sip:a@b"}, board=board)
        assert board.call is None
        assert not board.is_registered
        assert len(board.happenings) == 3


def test_silence() -> None:
    board = Board()
    board.asked(NOW)
    board.look(NOW + 3)
    assert board.trouble == ""
    board.asked(NOW + 4)  # again, without an answer
    board.look(NOW + 8)
    assert board.trouble.startswith("nothing answers")
    told({"event": "status", "phone": "idle"}, board=board)
    board.look(NOW + 20)
    assert board.trouble == ""
    told("Traceback (most recent call last):", '  File "main.py", line 3', "OSError: 5", board=board)
    board.asked(NOW + 30)
    board.look(NOW + 40)
    assert "OSError: 5" in board.trouble
    board.look(NOW + 40, ">>> ")
    assert "prompt" in board.trouble


def test_writers() -> None:
    writing = Writing()
    assert writing.last(3) == []
    writing.take({"text": "a\nb\nc"})
    writing.take({"text": "x", "source": "01"})
    assert (writing.last(3), len(writing.texts)) == (["x"], 2)
    writing.take({"text": "", "erased": 99})
    assert writing.texts[-1] == ("", "")
    for number in range(20):
        writing.take({"text": "y" * 5000, "source": f"{number:02}"})
    assert len(writing.texts) == 8
    assert max(len(text) for _, text in writing.texts) == 4000


CRASH = [
    "Traceback (most recent call last):",
    '  File "main.py", line 20, in <module>',
    "MemoryError: memory allocation failed",
]
DIAGNOSES = [
    ([], "", "nothing answers"),
    ([], ">>> ", "MicroPython's prompt answers: no terminal runs"),
    ([">>> status", *CRASH[:1], '  File "<stdin>", line 1', "NameError: name 'status' isn't defined"], ">>> ", "MicroPython's prompt answers: no terminal runs"),
    (CRASH, ">>> ", "MicroPython's prompt answers; its program ended by MemoryError: memory allocation failed"),
    (["raw REPL; CTRL-B to exit"], ">", "MicroPython's prompt answers"),
    (CRASH, "", "the program on the board has crashed: MemoryError: memory allocation failed"),
    (["\ufffd\ufffdx\ufffd", "\ufffd"], "", "what comes is no text: the speed is another one"),
    (["I (31) boot: ESP-IDF"], "", 'no terminal answers, but something else: "I (31) boot: ESP-IDF"'),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "rest", "said"), DIAGNOSES)
def test_diagnoses(lines: list[str], rest: str, said: str) -> None:
    assert diagnosis(lines, rest).startswith(said)


CALLING = {"event": "calling", "peer": BOB}
CONNECTED = {"event": "connected", "peer": BOB}
ATTEMPTS: list[tuple[list[dict[str, Any]], bool, bool, str]] = [
    ([], False, False, ""),
    ([CALLING, {"event": "progress", "status": 180}], False, False, ""),
    ([CALLING, CONNECTED], True, False, ""),
    ([CALLING, CONNECTED, {"event": "ended", "reason": "peer hung up"}], True, True, ""),
    ([CALLING, {"event": "failed", "status": 486, "reason": "Busy Here"}], False, True, "no call: they are busy (486 Busy Here)"),
    ([CALLING, {"event": "failed", "command": "message", "status": 404}], False, False, ""),
    ([CALLING, {"event": "ended", "reason": "cancelled"}], False, True, "no call came about: cancelled"),
    ([{"event": "refused", "command": "call", "reason": "busy"}], False, True, "`call` is refused: busy"),
    ([{"event": "refused", "command": "hold", "reason": "busy"}], False, False, ""),
    ([CALLING, {"event": "started"}], False, True, "the board has started again"),
    ([CALLING, CONNECTED, {"event": "started"}], True, True, ""),
    ([{"event": "status", "phone": "idle"}, CALLING], False, False, ""),
    ([CALLING, {"event": "status", "phone": "idle"}], False, True, "the call is over, and nobody has told why"),
    ([CALLING, {"event": "failed", "status": 404, "reason": "Not Found"}, CONNECTED], False, True, "no call: nobody has that address (404 Not Found)"),
]  # fmt: skip


@pytest.mark.parametrize(("events", "was_connected", "is_over", "failure"), ATTEMPTS)
def test_attempts(events: list[dict[str, Any]], was_connected: bool, is_over: bool, failure: str) -> None:
    attempt = Attempt()
    for event in events:
        attempt.take(event)
    assert (attempt.was_connected, attempt.is_over, attempt.failure) == (was_connected, is_over, failure)


def test_the_view_fits() -> None:
    """The newest thing that happened is on the screen, whatever its size; all of it is shown where there is room."""
    board = told(
        {"event": "registered", "aor": "sip:alice@a.example"},
        CALLING,
        CONNECTED | HEAVY | {"suite": "AES_CM_128_HMAC_SHA1_80"},
    )
    told(
        {
            "event": "status",
            "registration": "registered",
            "phone": "talking",
            "heap_used": 54000,
            "heap_peak": 61000,
            "heap_free": 58000,
            "media": MEDIA,
        },
        board=board,
    )
    for number in range(100):
        board.take({"event": "dtmf", "digit": f"{number}"}, NOW + number)
    for width, height in ((80, 24), (100, 40), (200, 60)):
        console = Console(width=width, height=height, file=io.StringIO(), record=True)
        console.print(screen(board, "/dev/ttyUSB0", NOW, width, height))
        drawn = console.export_text()
        assert "has pressed 99" in drawn
        assert len(drawn.splitlines()) <= height
        for words in ("sip:alice@a.example", "/dev/ttyUSB0",
            "52.7 KiB of 109.4 KiB, at most 59.6 KiB", "508 received, 4 lost (0.8 %), 1 rejected", "jitter 3 ms, delay 60 ms",
            "SRTP, AES_CM_128_HMAC_SHA1_80", "the neighbour vouches for sip:bob@b.example (heavy)"):  # fmt: skip
            assert words in re.sub(r"\s*│\n│\s*", " ", drawn), words


# Letters.


def test_a_chat() -> None:
    chat = Chat()
    chat.type("Helo\x7flo\r\x1b[A\x1bOB")
    assert (chat.shown, chat.take(0)) == ("Hello\n", b"Helo\blo\r")
    chat.type(".")
    assert (chat.take(0), chat.is_over, chat.is_waiting) == (b"", False, False)
    chat.type("x")
    assert chat.take(0) == b".x"
    assert chat.end() == b"\r.\r"  # in a line
    chat.type("\n.")
    assert (chat.take(0), chat.end()) == (b"\r", b".\r")
    chat = Chat()
    chat.type("ab\n.\nc")
    assert (chat.is_over, chat.take(0), chat.shown, chat.end()) == (True, b"ab\r", "ab\n", b".\r")
    chat = Chat()
    chat.type("x\x03\x04\x00\ny")  # what would command the board
    assert chat.take(0) == b"x\ry"


def test_a_chat_is_no_faster_than_the_board() -> None:
    """Of much text at once the board has what it sends in three seconds, and all of it in time."""
    chat = Chat()
    chat.type("a" * 1000)
    given, at, first = 0, 0.0, 0
    while chat.is_waiting:
        given += len(chat.take(at))
        first = first or given
        assert given <= 30 * at + 91  # rounded
        at += 0.05
    assert (first, given) == (90, 1000)
    assert 29 < at < 32
    assert not chat.is_told(at)
    assert chat.is_told(at + 5)
    # What waits is given up, and the board's line is known all the same.
    chat = Chat()
    chat.type("b" * 500 + "\n")
    assert len(chat.take(0)) == 90
    assert chat.end() == b"\r.\r"


@pytest.mark.parametrize(("typed", "kept"), [
    ("\x1b[1;5Cx", "x"), ("\x1b[", ""), ("\x1b", ""), ("\x1bOPy", "y"), ("\x9b31m", "31m"), ("é\t", "é"),
])  # fmt: skip
def test_letters(typed: str, kept: str) -> None:
    assert letters(typed) == kept


# The line.


@pytest.fixture
def wire() -> Iterator[tuple[int, Line]]:
    """A pseudo-terminal, and a line at its end."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    with Line(os.ttyname(slave)) as line:
        yield master, line
    os.close(slave)
    os.close(master)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_packets_are_cut_out(wire: tuple[int, Line], size: int) -> None:
    """Text between packets of a serial hop comes whole, in whatever pieces it is read."""
    master, line = wire
    packet = b"\xc0\x13\xc4SIP/2.0\xdb\xdc\xc0"
    media = b"\xc0\x9d\x3f\x00\xff\xc0"
    stream = b'{"event": "sta' + packet + b'rted"}\n' + media + packet + b"\xc3\xa9\n\xc0" + b"text\n>>> "
    found = []
    for at in range(0, len(stream), size):
        os.write(master, stream[at : at + size])
        found += line.lines()
    assert (found, line.rest) == ([{"event": "started"}, "é", "text"], ">>> ")


def test_lines_that_are_no_events(wire: tuple[int, Line]) -> None:
    master, line = wire
    odd = ["", ">>> ", '{"event": broken', "[1]", '{"peer": "x"}', "\ufffd"]
    event = {"event": "text", "text": "\x1b[2J"}
    os.write(master, "".join(f"{one}\r\n" for one in [*odd, json.dumps(event)]).encode())
    assert line.lines() == [*odd, event]
