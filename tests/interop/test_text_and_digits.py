"""Real-time text with Linphone, and digits with phones that have no other way to open a door."""

import time
from typing import Any

import pytest

from interop.baresip import Baresip
from interop.conftest import Kind, Town, Wisp
from interop.conversation import WAIT_S, call, hang_up, speak
from interop.linphone import Linphone
from interop.phones import Account, Phone
from lab.lab import Lab

_EVERYWHERE = "Grüße, Привет, שלום, 你好, 🚀"
_DIGITS = "159*0#"


def typed(one: Phone | Wisp, mark: int, event: str, key: str) -> str:
    """What has come of the other side since a mark, in one piece."""
    one.read()
    return "".join(line.get(key, "") for line in one.lines[mark:] if line["event"] == event)


def expect(one: Phone | Wisp, mark: int, event: str, key: str, wanted: str) -> None:
    one.wait_until(
        lambda: typed(one, mark, event, key) == wanted, f"{wanted!r}, not {typed(one, mark, event, key)!r}", 10
    )


def write_both_ways(phone: Linphone, terminal: Wisp) -> None:
    marks = {one: len(one.lines) for one in (phone, terminal)}
    terminal.write(_EVERYWHERE)
    phone.write("How are you?")
    expect(phone, marks[phone], "text", "text", _EVERYWHERE + "\n")
    expect(terminal, marks[terminal], "text", "text", "How are you?\n")
    phone.write(_EVERYWHERE)
    terminal.write("Fine.")
    expect(phone, marks[phone], "text", "text", _EVERYWHERE + "\nFine.\n")
    expect(terminal, marks[terminal], "text", "text", "How are you?\n" + _EVERYWHERE + "\n")


@pytest.mark.parametrize("transport", ["udp", "tls"])
@pytest.mark.parametrize("caller", ["linphone", "terminal"])
def test_text_beside_speech(lab: Lab, transport: str, caller: str) -> None:
    Linphone.skip_if_missing()
    account = Account("peter", "a.example", "correct-horse-battery")
    with Town(lab, ["a.example"], [account]) as town:
        terminal = town.add_terminal("a.example", "alice", text=True)
        phone = town.add_phone(Linphone, account, transport)
        assert isinstance(phone, Linphone)
        phone.have_text()
        phone.wait_for("registered", WAIT_S)
        ends: tuple[Phone | Wisp, Phone | Wisp] = (phone, terminal)
        first, second = ends if caller == "linphone" else ends[::-1]
        call(first, second)
        write_both_ways(phone, terminal)
        speak(phone, terminal)
        media: dict[str, Any] = hang_up(second, first)
        assert media["text"]["received"] >= 4
        assert (media["text"]["lost"], media["lost"]) == (0, 0)
        assert "starved" not in [line["event"] for line in terminal.lines]
        assert terminal.status()["malformed"] == 0


@pytest.mark.parametrize("kind", [Baresip, Linphone], ids=["baresip", "linphone"])
def test_digits_both_ways(lab: Lab, kind: Kind) -> None:
    kind.skip_if_missing()
    account = Account("peter", "a.example", "correct-horse-battery", md5=kind.digest == "MD5")
    with Town(lab, ["a.example"], [account]) as town:
        terminal = town.add_terminal("a.example", "alice")
        phone = town.add_phone(kind, account, "udp")
        phone.wait_for("registered", WAIT_S)
        for caller, callee in ((phone, terminal), (terminal, phone)):
            call(caller, callee)
            time.sleep(0.5)
            marks = {one: len(one.lines) for one in (phone, terminal)}
            terminal.press(_DIGITS)
            expect(phone, marks[phone], "dtmf", "digit", _DIGITS)
            phone.press(_DIGITS)
            expect(terminal, marks[terminal], "dtmf", "digit", _DIGITS)
            hang_up(callee, caller)
        assert "starved" not in [line["event"] for line in terminal.lines]
