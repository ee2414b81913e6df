"""Kamailio is the other domain: calls over mutual TLS, both ways, with a phone of its own."""

from pathlib import Path

import pytest

from interop.baresip import Baresip
from interop.conftest import Kind, Town
from interop.conversation import WAIT_S, talk
from interop.kamailio import Kamailio
from interop.linphone import Linphone
from interop.phones import Account
from lab.lab import Lab
from neighbour.cli import run_command

OURS, THEIRS = "a.example", "k.example"
PETER = Account("peter", THEIRS, "correct-horse-battery", md5=True)


@pytest.fixture(autouse=True)
def _installed() -> None:
    Kamailio.skip_if_missing()
    Baresip.skip_if_missing()


def certify(lab: Lab, domain: str, authority: Path, as_domain: str = "") -> Path:
    """A folder with a certificate and key of a domain; with another's if ``as_domain`` is given."""
    folder = lab.folder / domain
    run_command("ca", "issue", str(authority), as_domain or domain, "--out", str(folder))
    if as_domain:
        for end in ("pem", "key"):
            (folder / f"{as_domain}.{end}").rename(folder / f"{domain}.{end}")
    return folder


def start(lab: Lab, address: str, folder: Path, authority: Path, neighbour: str) -> Kamailio:
    kamailio = lab.start(
        Kamailio, folder, THEIRS, address, authority / "root.pem", OURS, f"{neighbour}:5061", PETER.password
    )
    kamailio.wait_ready()
    return kamailio


@pytest.mark.parametrize("kind", [Baresip, Linphone], ids=["baresip", "linphone"])
def test_calls_both_ways(lab: Lab, kind: Kind) -> None:
    kind.skip_if_missing()
    address = lab.next_address()
    with Town(lab, [OURS], [], others={THEIRS: address}) as town:
        ca = lab.make_authority()
        start(lab, address, certify(lab, THEIRS, ca), ca, town.address(OURS))
        terminal = town.add_terminal(OURS, "alice")
        phone = town.add_phone(kind, PETER, "udp")
        phone.wait_for("registered", WAIT_S)
        talk(phone, terminal, leaver=terminal)
        talk(terminal, phone, leaver=phone)
        talk(phone, terminal, leaver=phone)
        talk(terminal, phone, leaver=terminal)
        neighbour = town.neighbours[OURS]
        neighbour.read()
        trunk = [line for line in neighbour.lines if line.get("protection") == "tls"]
        for event in ("< INVITE", "> INVITE", "< BYE", "> BYE", "< ACK", "> ACK"):
            assert any(line["event"].startswith(event) for line in trunk), event


@pytest.mark.parametrize(
    ("issuer", "name", "root", "trouble"),
    [
        ("ca", "other.example", "ca", "certificate is of other.example, not of k.example"),
        ("another", "", "ca", "certificate from an unknown CA"),
        ("ca", "", "another", "peer refused us: certificate from an unknown CA"),
    ],
    ids=["of-another-domain", "of-another-authority", "ours-refused"],
)
def test_certificates_are_checked(lab: Lab, issuer: str, name: str, root: str, trouble: str) -> None:
    """A certificate that does not prove the domain carries no call, in neither direction.

    Args:
        lab: an empty lab.
        issuer: the authority of Kamailio's certificate.
        name: whose domain it is for, where that is another one.
        root: the authority that Kamailio knows.
        trouble: what the caller is told.
    """
    address = lab.next_address()
    with Town(lab, [OURS], [], others={THEIRS: address}) as town:
        authorities = {"ca": lab.make_authority(), "another": lab.folder / "another"}
        run_command("ca", "init", str(authorities["another"]), "--name", "Somebody Else")
        folder = certify(lab, THEIRS, authorities[issuer], name)
        start(lab, address, folder, authorities[root], town.address(OURS))
        terminal = town.add_terminal(OURS, "alice")
        phone = town.add_phone(Baresip, PETER, "udp")
        phone.wait_for("registered", WAIT_S)
        terminal.dial(PETER.aor)
        told = terminal.wait_for("failed", WAIT_S)
        assert told["status"] == 503
        assert trouble in told["warning"]
        phone.dial(terminal.aor)
        phone.wait_for("ended", WAIT_S)
        for one, event in ((terminal, "incoming"), (phone, "incoming"), (phone, "connected")):
            one.read()
            assert not [line for line in one.lines if line["event"] == event]
