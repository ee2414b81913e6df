"""Ordinary phones call terminals of another domain at heavy: neither knows that all is signed and encrypted between."""

import pytest

from interop.baresip import Baresip
from interop.conftest import Kind, Town
from interop.conversation import WAIT_S, talk
from interop.linphone import Linphone
from interop.phones import Account
from lab.lab import Lab

SEALED = "application/pkcs7-mime;smime-type=auth-enveloped-data"
#: What the neighbours' credential services tell each other.
CERTIFICATE = "application/pkcs7-mime;smime-type=certs-only"


@pytest.mark.parametrize("kind", [Baresip, Linphone], ids=["baresip", "linphone"])
@pytest.mark.parametrize("transport", ["udp", "tls"])
def test_calls_to_another_domain_at_heavy(lab: Lab, kind: Kind, transport: str) -> None:
    kind.skip_if_missing()
    account = Account("peter", "a.example", "correct-horse-battery", md5=kind.digest == "MD5")
    with Town(lab, ["a.example", "b.example"], [account], level="heavy") as town:
        terminal = town.add_terminal("b.example", "bob")
        phone = town.add_phone(kind, account, transport)
        phone.wait_for("registered", WAIT_S)
        talk(phone, terminal, leaver=terminal)
        talk(terminal, phone, leaver=phone)
        assert terminal.status()["malformed"] == 0
        for neighbour in town.neighbours.values():
            neighbour.read()
        # The terminal's neighbour has TLS with nobody but the other: offers and answers, two calls at least.
        lines = [line for line in town.neighbours["b.example"].lines if line["event"][:2] in ("< ", "> ")]
        on_trunk = [line["body"] for line in lines if line["protection"] == "tls" and line.get("body")]
        assert set(on_trunk) <= {SEALED, CERTIFICATE}
        assert on_trunk.count(SEALED) >= 4
        on_hop = {line["body"] for line in lines if line["protection"] == "frame" and line.get("body")}
        assert on_hop == {"application/sdp"}
        # The phone's has it with the phone too, perhaps; what passes there is bare.
        lines = [line for line in town.neighbours["a.example"].lines if line["event"][:2] in ("< ", "> ")]
        bodies = [line["body"] for line in lines if line.get("body")]
        assert bodies.count("application/sdp") >= 4
        assert set(bodies) <= {SEALED, CERTIFICATE, "application/sdp"}
        # Whose certificates were made, for their users who know nothing of it.
        for domain, user in (("a.example", "peter"), ("b.example", "bob")):
            folder = lab.folder / domain / "certificates"
            assert {one.stem for one in folder.glob("*.key")} == {user, "@agent"}
