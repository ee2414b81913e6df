"""Calls through a back-to-back user agent of another maker."""

from dataclasses import replace
from importlib.util import find_spec

import pytest

from interop.b2bua import B2bua
from interop.baresip import Baresip
from interop.conftest import Town
from interop.conversation import WAIT_S, talk
from interop.phones import Account, skip_without
from lab.lab import Lab

PETER = Account("peter", "a.example", "correct-horse-battery", md5=True)
GATE = Account("gate", "a.example", "another-correct-horse")


@pytest.fixture(autouse=True)
def _installed() -> None:
    if find_spec("sippy") is None:
        skip_without("sippy", "none; pip install 'wisp-sip[peers]'")
    Baresip.skip_if_missing()


@pytest.mark.parametrize("calls", ["phone", "terminal"])
def test_calls_through_a_phone_that_calls_on(lab: Lab, calls: str) -> None:
    """It has an account, with SHA-256: two calls over UDP that are one, with the others' SRTP keys in them."""
    with Town(lab, ["a.example"], [PETER, GATE]) as town:
        terminal = town.add_terminal("a.example", "alice")
        phone = town.add_phone(Baresip, PETER, "udp")
        phone.wait_for("registered", WAIT_S)
        caller, callee = (phone, terminal) if calls == "phone" else (terminal, phone)
        gate = lab.start(B2bua, town.place(GATE), "a.example", callee.aor, GATE)
        gate.wait_for("registered", WAIT_S)
        assert town.neighbours["a.example"].wait_for("registered", user="gate")["digest"] == "SHA-256"
        talk(caller, callee, leaver=terminal, dial=GATE.aor)
        talk(caller, callee, leaver=phone, dial=GATE.aor)
        gate.read()
        assert [line["event"] for line in gate.lines].count("call") == 2


@pytest.mark.parametrize("calls", ["phone", "terminal"])
def test_calls_through_another_domain(lab: Lab, calls: str) -> None:
    """It is a domain of its own, known by its address: calls go out to it and come in from it."""
    address = lab.next_address()
    with Town(lab, ["a.example"], [PETER], others={"s.example": address}, transport="udp") as town:
        terminal = town.add_terminal("a.example", "alice")
        phone = town.add_phone(Baresip, PETER, "udp")
        phone.wait_for("registered", WAIT_S)
        caller, callee = (phone, terminal) if calls == "phone" else (terminal, phone)
        place = replace(town.place(Account("anybody", "s.example", "")), address=address)
        b2bua = lab.start(B2bua, place, "a.example", callee.aor, None, "s.example")
        b2bua.wait_for("ready", WAIT_S)
        talk(caller, callee, leaver=callee, dial="sip:anybody@s.example")
        talk(caller, callee, leaver=caller, dial="sip:anybody@s.example")
        b2bua.read()
        assert [line["event"] for line in b2bua.lines].count("call") == 2
