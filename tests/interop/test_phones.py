"""Ordinary phones call terminals and are called by them, through neighbours."""

import pytest

from interop.baresip import Baresip
from interop.conftest import Kind, Town
from interop.conversation import WAIT_S, call, hang_up, talk
from interop.linphone import Linphone
from interop.phones import Account
from lab.lab import Lab

kinds = pytest.mark.parametrize("kind", [Baresip, Linphone], ids=["baresip", "linphone"])


def account_for(kind: Kind) -> Account:
    """An account that asks for the best digest that the phone knows."""
    kind.skip_if_missing()
    return Account("peter", "a.example", "correct-horse-battery", md5=kind.digest == "MD5")


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
