"""Ordinary phones behind the relay: they send media from where they like, and the relay finds out by what is authentic."""

import json
import time

import pytest
from calls.test_setup_calls import wisp

from interop.baresip import Baresip
from interop.conftest import Kind, Town
from interop.conversation import WAIT_S, talk
from interop.linphone import Linphone
from interop.test_phones import account_for
from lab.lab import Lab

kinds = pytest.mark.parametrize("kind", [Baresip, Linphone], ids=["baresip", "linphone"])
_RECORD_S = 10.0


def check_records(lab: Lab, domain: str, count: int, protections: set[str]) -> None:
    """So many calls went through the relay, both ways."""
    end = time.monotonic() + _RECORD_S
    while True:
        said = wisp("calls", "--json", "--config", str(lab.configuration(domain)))
        found = [json.loads(line) for line in said.splitlines()]
        if len(found) >= count:
            break
        assert time.monotonic() < end, found
        time.sleep(0.1)
    assert len(found) == count
    for record in found:
        assert record["status"] == 200
        audio = [one for one in record["media"] if one["kind"] == "audio"]
        assert len(audio) == 1
        assert audio[0]["protection"] in protections
        assert all(side["packets"] > 50 for side in audio[0]["sides"]), record


@kinds
@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_calls_both_ways(lab: Lab, kind: Kind, transport: str) -> None:
    account = account_for(kind)
    with Town(lab, ["a.example"], [account], relay="always") as town:
        terminal = town.add_terminal("a.example", "alice")
        phone = town.add_phone(kind, account, transport)
        phone.wait_for("registered", WAIT_S)
        talk(phone, terminal, leaver=terminal)
        talk(terminal, phone, leaver=phone)
        check_records(lab, "a.example", 2, {"passed"})


@kinds
def test_calls_to_another_domain_with_keys_of_the_neighbour(lab: Lab, kind: Kind) -> None:
    account = account_for(kind)
    with Town(lab, ["a.example", "b.example"], [account], relay="always", own_keys=True) as town:
        terminal = town.add_terminal("b.example", "bob")
        phone = town.add_phone(kind, account, "udp")
        phone.wait_for("registered", WAIT_S)
        talk(phone, terminal, leaver=terminal)
        talk(terminal, phone, leaver=phone)
        for domain in ("a.example", "b.example"):
            check_records(lab, domain, 2, {"anew"})
