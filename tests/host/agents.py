"""Security agents without a neighbour around them: what they ask is given, and their clock stands still."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509

from neighbour.agent.certificates import Recipient
from neighbour.agent.credential import Credential
from neighbour.agent.freshness import Freshness
from neighbour.agent.keyring import CertificateError
from neighbour.agent.path import Paths
from neighbour.agent.recipients import Recipients
from neighbour.agent.revocation import Crl, Revocation
from neighbour.agent.security import SecurityAgent
from neighbour.agent.trust import Trust
from neighbour.config import Config, load
from neighbour.metrics import Metrics
from neighbour.store.accounts import DOMAIN, Account

__all__ = ["Agent", "Trunk", "account", "configured"]


def account(user: str, **more: str) -> Account:
    return Account(user, user, False, None, None, 1, **more)


def configured(folder: Path, domain: str, *, security: str = "", more: str = "") -> Config:
    path = folder / f"{domain}.toml"
    path.write_text(
        f'domain = "{domain}"\n[tls]\ncertificate = "x"\nkey = "x"\nca = ["x"]\n'
        f'[[listen]]\ntransport = "tls"\naddress = "127.0.0.1"\nport = 5061\n[security]\n{security}\n{more}\n'
    )
    return load(path)


class Trunk:
    """Stands in for a `Flow`: mutual TLS with a domain, or something worse."""

    def __init__(self, *identities: str, protection: str = "tls", shown: Iterable[x509.Certificate] = ()) -> None:
        self.identities = frozenset(identities)
        self.protection = protection
        self.certificates = tuple(shown)


class Ours:
    """Stands in for `Certificates`.

    Attributes:
        own: credentials by user, that of the domain by "".
        others: certificates that were given by hand.
    """

    def __init__(
        self, own: dict[str, Credential], others: dict[bytes, x509.Certificate], groups: dict[str, list[str]]
    ) -> None:
        self.own = own
        self.others = others
        self.groups = groups

    @property
    def domain(self) -> Credential:
        return self.own[""]

    def for_signing(self, user: str, signer: str | None) -> Credential:
        if signer == DOMAIN:
            return self.domain
        if signer is not None:
            if user not in self.groups.get(signer, ()):
                raise CertificateError(f"{user} is not in the group {signer}")
            user = signer
        return self.own.get(user, self.domain)

    def find(self, recipient: Recipient) -> Credential | None:
        return next((one for one in self.own.values() if recipient.matches(one.certificate)), None)

    def published(self, user: str) -> tuple[x509.Certificate, ...]:
        found = self.own.get(user, self.domain)
        return found.certificate, *found.chain

    def directory(self, aor: bytes) -> x509.Certificate | None:
        return self.others.get(aor)

    def listed(self) -> Iterable[x509.Certificate]:
        return self.others.values()


class Agent(SecurityAgent):
    """A security agent with all that it needs.

    Attributes:
        now: seconds since 1970.
    """

    def __init__(
        self,
        config: Config,
        roots: Sequence[x509.Certificate],
        own: dict[str, Credential],
        now: int,
        *,
        others: dict[bytes, x509.Certificate] | None = None,
        sha1: bool = False,
    ) -> None:
        self.now = now
        self.metrics = Metrics()
        certificates = Ours(own, others or {}, {group.user: group.members for group in config.group})
        paths = Paths(roots, Revocation(), Crl(), sha1=sha1, now=lambda: datetime.fromtimestamp(self.now, UTC))
        trust = Trust(paths, {})
        self.recipients = Recipients(certificates, trust, self._fetch)
        clock = lambda: self.now  # noqa: E731
        super().__init__(config, certificates, trust, self.recipients, Freshness(clock), self.metrics, clock)

    async def _fetch(self, aor: bytes, flow: object) -> tuple[x509.Certificate, ...]:
        return ()
