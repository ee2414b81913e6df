"""Ordinary phones call terminals and are called by them, through neighbours."""

import pytest

from interop.baresip import Baresip
from interop.conftest import TERMINAL_HZ, TONE_LEVEL, Kind, Town, Wisp
from interop.linphone import Linphone
from interop.phones import TONE_HZ, Account, Phone
from interop.tone import RATE_HZ, find_tone, rate_hz
from lab.lab import Lab

SUITE = "AES_CM_128_HMAC_SHA1_80"
WAIT_S = 30.0  # other tests may want the processor
SPEECH_S = 1.5  # of a tone that has to be heard

kinds = pytest.mark.parametrize("kind", [Baresip, Linphone], ids=["baresip", "linphone"])


def account_for(kind: Kind) -> Account:
    """An account that asks for the best digest that the phone knows."""
    kind.skip_if_missing()
    return Account("peter", "a.example", "correct-horse-battery", md5=kind.digest == "MD5")


def call(caller: Phone | Wisp, callee: Phone | Wisp) -> None:
    """Let one call the other, and that one answer: each says that its media is SRTP."""
    marks = {}
    for one in (caller, callee):
        one.forget_recordings()
        one.read()
        marks[one] = len(one.lines)
    caller.dial(callee.aor)
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


def talk(caller: Phone | Wisp, callee: Phone | Wisp, leaver: Phone | Wisp) -> None:
    """A whole call with speech, which one of the two ends."""
    phone, terminal = (caller, callee) if isinstance(caller, Phone) else (callee, caller)
    assert isinstance(phone, Phone)
    assert isinstance(terminal, Wisp)
    call(caller, callee)
    speak(phone, terminal)
    media = hang_up(leaver, terminal if leaver is phone else phone)
    assert media["received"] > SPEECH_S * 50
    assert media["rejected"] < media["received"] / 20  # the phone's STUN requests
    check_sound(phone, terminal)


@kinds
@pytest.mark.parametrize("transport", ["udp", "tcp", "tls"])
def test_calls_both_ways(lab: Lab, kind: Kind, transport: str) -> None:
    account = account_for(kind)
    with Town(lab, ["a.example"], [account]) as town:
        terminal = town.add_terminal("a.example", "alice")
        phone = town.add_phone(kind, account, transport)
        phone.wait_for("registered", WAIT_S)
        registered = town.neighbours["a.example"].wait_for("registered", user="peter")
        assert registered["digest"] == kind.digest
        assert registered["flow"].startswith(f"{transport}:")
        talk(phone, terminal, leaver=terminal)
        talk(terminal, phone, leaver=phone)
        call(phone, terminal)
        hang_up(phone, terminal)
        call(terminal, phone)
        hang_up(terminal, phone)
        assert terminal.status()["malformed"] == 0


@kinds
def test_calls_to_another_domain(lab: Lab, kind: Kind) -> None:
    """Over the trunk between two neighbours: the phone is on TLS at one, the terminal on frames at the other."""
    account = account_for(kind)
    with Town(lab, ["a.example", "b.example"], [account]) as town:
        terminal = town.add_terminal("b.example", "bob")
        phone = town.add_phone(kind, account, "tls")
        phone.wait_for("registered", WAIT_S)
        talk(phone, terminal, leaver=terminal)
        talk(terminal, phone, leaver=phone)


@pytest.mark.parametrize(("of_account", "of_domain"), [(False, True), (True, False)])
def test_md5_only_where_account_and_domain_allow_it(lab: Lab, of_account: bool, of_domain: bool) -> None:
    """A phone that knows nothing better does not get in otherwise, though its password is right."""
    Baresip.skip_if_missing()
    if not Baresip.knows_md5_only():
        pytest.skip("this baresip knows more than MD5")
    account = Account("peter", "a.example", "correct-horse-battery", of_account)
    with Town(lab, ["a.example"], [account], md5=of_domain) as town:
        phone = town.add_phone(Baresip, account, "udp")
        phone.wait_for("refused", WAIT_S)
        neighbour = town.neighbours["a.example"]
        neighbour.wait_for("> SIP/2.0 401 Unauthorized")
        assert not [line for line in neighbour.lines if line["event"] == "registered"]
