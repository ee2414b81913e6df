"""Two domains in memory: what their neighbours do for a call, and what their users' terminals do, without sockets.

    terminal --frame--> neighbour A --trunk--> neighbour B --frame--> terminal

The neighbours' parts are those of `wisp serve`: hop, codec, security agent with its certificates. What has no share in
security stays out: transactions, routing, the store. CPU time is counted by the place where it is spent.
"""

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography import x509

from evaluation.endtoend import OPERATIONS, PATH, CountedPaths
from neighbour.aes import new_aes
from neighbour.agent.authority import Authority
from neighbour.agent.certificates import Recipient
from neighbour.agent.credential import Credential
from neighbour.agent.freshness import Freshness
from neighbour.agent.protection import Received, Sent
from neighbour.agent.recipients import Recipients
from neighbour.agent.security import SecurityAgent
from neighbour.agent.trust import Trust
from neighbour.config import load
from neighbour.metrics import Metrics
from neighbour.store.accounts import Account
from neighbour.transport.flow import Flow
from sipwire.hop import HopReceiver, HopSender, derive_keys
from sipwire.message import Request, Response, parse

__all__ = ["NEIGHBOURS", "TERMINALS", "Domain", "Hop", "Meter", "People"]

TERMINALS, NEIGHBOURS = "terminals", "neighbours"
_CONFIGURATION = """domain = "{domain}"
[tls]
certificate = "none"
key = "none"
ca = ["none"]
[[listen]]
transport = "tls"
address = "127.0.0.1"
port = 5061
[security]
level = "heavy"
"""


class Meter:
    """CPU time by place.

    Attributes:
        cpu_s: seconds so far.
    """

    def __init__(self) -> None:
        self.cpu_s: dict[str, float] = {TERMINALS: 0.0, NEIGHBOURS: 0.0}

    @contextmanager
    def at(self, place: str) -> Iterator[None]:
        """Count what the block takes."""
        before = time.thread_time_ns()
        yield
        self.cpu_s[place] += (time.thread_time_ns() - before) / 1e9


class People:
    """Those who have keys: domains and users, certified by one authority.

    Args:
        folder: for the authority.
    """

    def __init__(self, folder: Path) -> None:
        self._authority = Authority(folder)
        self._authority.create("Evaluation")
        self._users: dict[str, Credential] = {}
        self.root = x509.load_pem_x509_certificate(self._authority.root_path.read_bytes())

    def domain(self, name: str) -> tuple[Credential, Credential]:
        """The credentials of a domain: for its trunk, and for S/MIME."""
        return self._authority.issue_domain(name), self._authority.issue_agent(name)

    def user(self, aor: str) -> Credential:
        """The credential of a user; the same each time."""
        found = self._users.get(aor)
        if found is None:
            found = self._users[aor] = self._authority.issue_user(aor)
        return found

    def shown(self, aor: bytes) -> tuple[x509.Certificate, ...]:
        """A user's certificate and its chain, as a credential service gives them; none of somebody unknown."""
        found = self._users.get(aor.decode())
        return () if found is None else (found.certificate, *found.chain)


class _Held:
    """A neighbour's certificates, in memory; see `neighbour.agent.certificates.Certificates`."""

    def __init__(self, trunk: Credential, domain: Credential) -> None:
        self.trunk = trunk
        self.domain = domain
        self._users: dict[str, Credential] = {}
        self._by_serial = {one.certificate.serial_number: one for one in (trunk, domain)}

    def add(self, user: str, credential: Credential) -> None:
        self._users[user] = credential
        self._by_serial[credential.certificate.serial_number] = credential

    def for_signing(self, user: str, signer: str | None) -> Credential:
        del signer  # nobody speaks for a group here
        return self._users.get(user, self.domain)

    def find(self, recipient: Recipient) -> Credential | None:
        found = self._by_serial.get(recipient.serial or 0)
        return found if found is not None and recipient.matches(found.certificate) else None  # type: ignore[attr-defined]

    def published(self, user: str) -> tuple[x509.Certificate, ...]:
        found = self._users.get(user, self.domain)
        return found.certificate, *found.chain

    def directory(self, aor: bytes) -> x509.Certificate | None:
        del aor
        return None

    def listed(self) -> Iterable[x509.Certificate]:
        return ()


class _Trunk(Flow):
    """Mutual TLS with a domain, as far as the security agent looks at it."""

    __slots__ = ("_certificates", "_domain")
    protection = "tls"

    def __init__(self, domain: str, shown: Credential) -> None:
        self._domain = domain
        self._certificates = (shown.certificate, *shown.chain)

    def send(self, data: bytes) -> None:
        raise AssertionError("what goes over it is handed on")

    @property
    def identities(self) -> frozenset[str]:
        return frozenset({self._domain})

    @property
    def certificates(self) -> tuple[x509.Certificate, ...]:
        return self._certificates


class Hop:
    """Both ends of a protected hop (WIRE section 1), agreed already.

    Args:
        user: the terminal's.
        realm: its domain.
    """

    def __init__(self, user: bytes, realm: bytes) -> None:
        secret = os.urandom(32).hex().encode()
        out, back = derive_keys(secret, user, realm, os.urandom(16), os.urandom(16).hex().encode(), b"1", b"2")
        self._up = HopSender(1, out, new_aes), HopReceiver(1, out, new_aes)
        self._down = HopSender(2, back, new_aes), HopReceiver(2, back, new_aes)

    def up(self, message: bytes, meter: Meter) -> bytes:
        """From terminal to neighbour."""
        with meter.at(TERMINALS):
            frame = self._up[0].seal(message)
        with meter.at(NEIGHBOURS):
            return self._up[1].open(frame)

    def down(self, message: bytes, meter: Meter) -> bytes:
        """From neighbour to terminal."""
        with meter.at(NEIGHBOURS):
            frame = self._down[0].seal(message)
        with meter.at(TERMINALS):
            return self._down[1].open(frame)


class Domain:
    """A domain's neighbour.

    Args:
        name: of the domain.
        people: whose certificates there are.
        folder: for its configuration.

    Attributes:
        operations: signatures of certificates that were verified; see `count` for all.
    """

    def __init__(self, name: str, people: People, folder: Path) -> None:
        self.name = name
        self.operations: Counter[str] = Counter()
        self._people = people
        self._metrics = Metrics()
        self._held = _Held(*people.domain(name))
        path = folder / f"{name}.toml"
        path.write_text(_CONFIGURATION.format(domain=name))
        trust = Trust(CountedPaths([people.root], self.operations), {})
        self._agent = SecurityAgent(
            load(path),
            self._held,  # type: ignore[arg-type]
            trust,
            Recipients(self._held, trust, self._fetch),  # type: ignore[arg-type]
            Freshness(time.time),
            self._metrics,
            time.time,
        )

    async def _fetch(self, aor: bytes, flow: Flow) -> tuple[x509.Certificate, ...]:
        """What the credential service of the other domain gives (RFC 6072)."""
        del flow
        return self._people.shown(aor)

    def add(self, user: str, *, is_terminal: bool) -> Account:
        """Make an account: of a terminal that is helped, or of a user agent that helps itself."""
        self._held.add(user, self._people.user(f"sip:{user}@{self.name}"))
        return Account(user, user, is_terminal, None, None, 1, assist=None if is_terminal else "none")

    def count(self) -> Counter[str]:
        """Asymmetric operations so far."""
        found = Counter({PATH: self.operations[PATH]})
        for name in OPERATIONS:
            found[name] = int(self._metrics.value("wisp_asymmetric_total", operation=name))
        return found

    def trunk(self) -> Flow:
        """A trunk with this domain at its other end."""
        return _Trunk(self.name, self._held.trunk)

    def send(self, message: bytes, account: Account, to: "Domain") -> tuple[bytes, Sent]:
        """A request of one of our users on its way to another domain; returns what goes over the trunk."""
        request = parse(message)
        assert isinstance(request, Request), "it is none"
        sealing = self._agent.seal_request(request, self._agent.asked(request, account), account, to.trunk(), to.name)
        try:
            sealing.send(None)
        except StopIteration as done:
            sealed: Request
            sent: Sent
            sealed, sent = done.value
            return sealed.serialize(), sent
        raise AssertionError("nobody has to be waited for")

    def receive(self, message: bytes, account: Account, of: "Domain") -> tuple[bytes, Received]:
        """The same where it comes; returns what our user gets."""
        request = parse(message)
        assert isinstance(request, Request), "it is none"
        received = self._agent.open_request(request, account, account.user, of.trunk(), of.name)
        if not received.wish.is_own:
            received.status.tell(request, "")
        return request.serialize(), received

    def answer(self, message: bytes, received: Received, account: Account, of: "Domain") -> bytes:
        """A response of one of our users on its way back."""
        response = parse(message)
        assert isinstance(response, Response), "it is none"
        return self._agent.seal_response(response, received, account, of.trunk()).serialize()

    def take(self, message: bytes, sent: Sent, to: "Domain") -> bytes:
        """The same where it comes."""
        response = parse(message)
        assert isinstance(response, Response), "it is none"
        status = self._agent.open_response(response, sent, to.trunk(), to.name)
        if not sent.wish.is_own:
            status.tell(response, "")
        return response.serialize()
