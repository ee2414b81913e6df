"""Labs with phones of other makers in them."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Self

import pytest
from calls.conftest import make_terminal
from conftest import micropython

from interop.baresip import Baresip
from interop.linphone import Linphone
from interop.nameserver import NameServer
from interop.phones import TONE_HZ, Account, Phone, Place, add_account
from lab import sound
from lab.lab import Lab
from lab.processes import Terminal

__all__ = ["TERMINAL_HZ", "TONE_LEVEL", "Kind", "Town", "Wisp"]

Kind = type[Baresip] | type[Linphone]
#: What terminals send.
TERMINAL_HZ = 440
#: The root mean square of what everybody sends: that of a sine of 0.3.
TONE_LEVEL = 0.3 / 2**0.5
_TONE_S = 60.0  # more than the slowest call lasts
_START_S = 30.0


class Wisp(Terminal):
    """A terminal, with the verbs of a phone."""

    def dial(self, uri: str) -> None:
        self.send(f"call {uri}")

    def answer(self) -> None:
        self.send("answer")

    def hang_up(self) -> None:
        self.send("hangup")

    def press(self, digits: str) -> None:
        self.send(f"press {digits}")

    def write(self, text: str) -> None:
        self.send(f"write {text}")

    def forget_recordings(self) -> None:
        self.speaker.unlink(missing_ok=True)

    def recording(self) -> Path | None:
        return self.speaker if self.speaker.exists() else None


class Town:
    """Neighbours, and terminals and phones that find them.

    Args:
        lab: an empty lab.
        domains: whose neighbours to make and start.
        accounts: of phones; there before the neighbours start, as they look for new ones once a second only.
        md5: whether the neighbours let accounts allow MD5.
        others: domains that somebody else serves, with their addresses.
        transport: how they are reached.
        level: what the neighbours ask for among each other; "" for what they do by themselves.
        relay: when they relay media; "" likewise.
        own_keys: whether they always encrypt it anew.
    """

    def __init__(
        self,
        lab: Lab,
        domains: Sequence[str],
        accounts: Sequence[Account],
        *,
        md5: bool = True,
        others: Mapping[str, str] | None = None,
        transport: str = "tls",
        level: str = "",
        relay: str = "",
        own_keys: bool = False,
    ) -> None:
        self._lab = lab
        self._addresses = {**lab.make_domains(*domains), **(others or {})}
        self._tone = lab.folder / "tone.wav"
        sound.make_tone(self._tone, TONE_HZ, _TONE_S)
        for domain in domains:
            if md5:
                lab.change(domain, "# md5 = false", "md5 = true")
            if level:
                lab.change(domain, '# level = "medium"', f'level = "{level}"')
            if relay:
                lab.configure(domain, "relay", f'"{relay}"')
            if own_keys:
                lab.configure(domain, "own_keys", "true")
            with lab.configuration(domain).open("a") as file:
                for name, address in (others or {}).items():
                    port = 5061 if transport == "tls" else 5060
                    file.write(f'[[peer]]\ndomain = "{name}"\naddress = "{address}:{port}"\n')
                    if transport != "tls":
                        file.write(f'transport = "{transport}"\n')
        for account in accounts:
            add_account(lab, account)
        self.neighbours = {domain: lab.start_neighbour(domain) for domain in domains}
        self._nameserver = NameServer(lab.next_address(), self._addresses)

    def __enter__(self) -> Self:
        self._nameserver.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        # Phones say goodbye, and look up to whom.
        self._lab.stop()
        self._nameserver.__exit__(None, None, None)

    def address(self, domain: str) -> str:
        """Where a domain is served."""
        return self._addresses[domain]

    def add_terminal(self, domain: str, user: str, **settings: object) -> Wisp:
        """A terminal, registered; ``settings`` are more keys of its configuration."""
        path = make_terminal(self._lab, domain, user, TERMINAL_HZ, _TONE_S, **settings)
        terminal = self._lab.start(Wisp, path, self._lab.micropython, self._lab.code, f"{self._lab.heap_kib}K")
        terminal.wait_for("registered", _START_S)
        return terminal

    def place(self, account: Account) -> Place:
        """Where somebody with an account may be."""
        return Place(
            self._lab.folder / account.domain / account.user,
            self._lab.next_address(),
            self._addresses,
            self._nameserver.address,
            self._lab.folder / "ca" / "root.pem",
            self._tone,
        )

    def add_phone(self, kind: Kind, account: Account, transport: str) -> Phone:
        """A phone, that begins to register."""
        return self._lab.start(kind, self.place(account), account, transport)


@pytest.fixture
def lab(tmp_path: Path, rom: Path) -> Iterator[Lab]:
    """An empty lab."""
    with Lab(tmp_path / "lab", micropython(), str(rom)) as made:
        yield made
