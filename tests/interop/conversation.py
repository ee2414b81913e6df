"""A call between a phone and a terminal, with a tone each way that the other has to hear."""

import pytest

from interop.conftest import TERMINAL_HZ, TONE_LEVEL, Wisp
from interop.phones import TONE_HZ, Phone
from interop.tone import RATE_HZ, find_tone, rate_hz

__all__ = ["SUITE", "WAIT_S", "call", "hang_up", "talk"]

SUITE = "AES_CM_128_HMAC_SHA1_80"
WAIT_S = 30.0  # other tests may want the processor
SPEECH_S = 1.5  # of a tone that has to be heard


def call(caller: Phone | Wisp, callee: Phone | Wisp, dial: str = "") -> None:
    """Let one call the other, and that one answer: each says that its media is SRTP.

    Args:
        caller: who calls.
        callee: who is called.
        dial: by which address, where it is not the callee's own.
    """
    marks = {}
    for one in (caller, callee):
        one.forget_recordings()
        one.read()
        marks[one] = len(one.lines)
    caller.dial(dial or callee.aor)
    callee.wait_for("incoming", WAIT_S, since=marks[callee])
    callee.answer()
    for one, mark in marks.items():
        event = "secured" if isinstance(one, Phone) else "connected"
        assert one.wait_for(event, WAIT_S, since=mark).get("suite", SUITE) == SUITE
        one.wait_for("connected", WAIT_S, since=mark)


def speak(phone: Phone, terminal: Wisp) -> None:
    """Let both hear enough of the other's tone."""
    for one, hertz in ((phone, TERMINAL_HZ), (terminal, TONE_HZ)):

        def heard(one: Phone | Wisp = one, hertz: int = hertz) -> bool:
            path = one.recording()
            if path is None or path.stat().st_size < SPEECH_S * RATE_HZ * 2:
                return False
            return find_tone(path, hertz).seconds >= SPEECH_S

        one.wait_until(heard, f"{SPEECH_S} s of {hertz} Hz", WAIT_S)


def hang_up(first: Phone | Wisp, second: Phone | Wisp) -> dict[str, int]:
    """Let the first hang up, until both know that the call is over; returns what the terminal says of its media."""
    marks = {}
    for one in (first, second):
        one.read()
        marks[one] = len(one.lines)
    first.hang_up()
    ended = {one: one.wait_for("ended", WAIT_S, since=mark) for one, mark in marks.items()}
    terminal = first if isinstance(first, Wisp) else second
    assert ended[terminal]["reason"] == ("hung up" if terminal is first else "peer hung up")
    media: dict[str, int] = ended[terminal]["media"]
    return media


def check_sound(phone: Phone, terminal: Wisp) -> None:
    """Each heard the other's tone as loud as it was sent, and next to nothing else."""
    for one, hertz in ((phone, TERMINAL_HZ), (terminal, TONE_HZ)):
        path = one.recording()
        assert path is not None
        assert rate_hz(path) == RATE_HZ
        tone = find_tone(path, hertz)
        assert tone.seconds >= SPEECH_S, tone
        assert tone.other_s <= tone.seconds / 5, tone
        assert tone.level == pytest.approx(TONE_LEVEL, rel=0.1), tone


def talk(caller: Phone | Wisp, callee: Phone | Wisp, leaver: Phone | Wisp, dial: str = "") -> None:
    """A whole call with speech, which one of the two ends."""
    phone, terminal = (caller, callee) if isinstance(caller, Phone) else (callee, caller)
    assert isinstance(phone, Phone)
    assert isinstance(terminal, Wisp)
    call(caller, callee, dial)
    speak(phone, terminal)
    media = hang_up(leaver, terminal if leaver is phone else phone)
    assert media["received"] > SPEECH_S * 50
    # The phone's STUN requests, two a second to the port of RTCP until it hears a report.
    assert media["rejected"] < media["received"] / 10
    check_sound(phone, terminal)
