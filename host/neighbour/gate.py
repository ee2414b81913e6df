"""The gate: who sends this request, and may they?

in a frame             the terminal of the agreement, as itself
over mutual TLS        a peer, for its own domain, to ours
within a dialog        whoever brings back the route cookie of that dialog, to the other side of it
everybody else         a phone of ours, by digest; strangers are refused
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from sipwire.digest import MD5, SHA256, Challenge, Credentials
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.errors import ParseError, SecurityError
from sipwire.uri import Uri, uri_of

from .equivalence import equivalent
from .hop import HopFlow
from .logs import Seldom
from .nonces import FRESH, Nonces
from .refusal import RefusedError

if TYPE_CHECKING:
    from sipwire.message import Request

    from .hop import Hops
    from .metrics import Metrics
    from .store.accounts import Account, Accounts
    from .transport.flow import Flow

__all__ = ["DIALOG", "PEER", "PHONE", "TERMINAL", "Gate", "Sender", "user_of"]

_log = structlog.get_logger("gate")
_PURPOSE = b"phone"
TERMINAL = "terminal"
PHONE = "phone"
PEER = "peer"
DIALOG = "dialog"  # known by the route cookie only


@dataclass(frozen=True)
class Sender:
    """Who sent a request: `TERMINAL`, `PHONE`, `PEER` or `DIALOG`, and the user where it is one of ours."""

    kind: str
    user: str = ""

    @property
    def is_local(self) -> bool:
        """Whether it may call other domains through us."""
        return self.kind != PEER


def user_of(uri: Uri) -> str | None:
    """The user of an address-of-record as accounts have it, or None where there is none."""
    if uri.user is None:
        return None
    try:
        return uri.aor().partition(b":")[2].rpartition(b"@")[0].decode()
    except UnicodeDecodeError:
        return None


class Gate:
    """Lets requests through, or refuses them.

    Args:
        domain: our domain, which is the digest realm.
        accounts: who is who.
        hops: for the 494 to terminals that speak without a frame.
        nonces: makes and checks nonces.
        metrics: counts.
        md5: whether accounts may use MD5.
    """

    def __init__(
        self, domain: str, accounts: "Accounts", hops: "Hops", nonces: Nonces, metrics: "Metrics", *, md5: bool
    ) -> None:
        self._domain = domain
        self._accounts = accounts
        self._hops = hops
        self._nonces = nonces
        self._metrics = metrics
        self._md5 = md5
        self._may_tell = Seldom()

    async def admit(self, request: "Request", flow: "Flow", *, in_dialog: bool) -> Sender:
        """Find out who sent a request that is no REGISTER.

        Args:
            request: the request.
            flow: how it came.
            in_dialog: whether it brought a route cookie of ours.

        Raises:
            RefusedError: with what to answer.
            ParseError: malformed.
        """
        uri = request.from_.parsed_uri()
        ours = uri.is_sip and uri.host.lower().decode("latin-1") == self._domain
        if isinstance(flow, HopFlow):
            if not ours or user_of(uri) != flow.user:
                raise self._refuse("identity", f"From is not sip:{flow.user}@{self._domain}")
            return Sender(TERMINAL, flow.user)
        if flow.identities:
            if not uri.is_sip or uri.host.lower().decode("latin-1") not in flow.identities:
                raise self._refuse("identity", "From is not of the domain of the certificate")
            return Sender(PEER)
        user = user_of(uri) if ours else None
        account = self._accounts.by_user(user or "")
        if account is not None and account.is_terminal:
            # "A request from a terminal account that is not in a frame ... gets 494", sent once.
            raise self._hops.wants_other()
        if in_dialog:
            if ours and account is None:
                raise self._refuse("stranger", "no user of this domain any more")
            return Sender(DIALOG)
        if not ours:
            raise self._refuse("stranger", "requests of other domains come over mutual TLS")
        await self.authenticate(request, user, "proxy-authorization")
        return Sender(PHONE, user or "")

    def _refuse(self, reason: str, text: str) -> RefusedError:
        self._metrics.refused.labels(reason).inc()
        return RefusedError(403, "Forbidden", ("Warning", f'399 {self._domain} "{text}"'.encode()))

    async def authenticate(self, request: "Request", user: str | None, header: str) -> "tuple[Account, Credentials]":
        """Check the digest credentials of a phone.

        Args:
            request: the request.
            user: whose credentials they have to be. One that does not exist is challenged all the same.
            header: ``authorization`` (401) or ``proxy-authorization`` (407).

        Returns:
            The account and the credentials.

        Raises:
            RefusedError: a challenge.
            ParseError: malformed credentials.
        """
        account = self._accounts.by_user(user or "")
        found = None
        for value in request.get_all(header):
            if value[:6].lower() != b"digest":
                continue
            credentials = parse_credentials(value)
            if credentials.realm == self._domain.encode():
                found = credentials
        if found is None:
            raise self._challenge(account, header)
        if self._nonces.check(_PURPOSE, found.nonce) != FRESH:
            raise self._challenge(account, header, stale=True)
        if account is None or not self._is_valid(found, request, account):
            # The account may have been made or changed a moment ago.
            await self._accounts.refresh()
            account = self._accounts.by_user(user or "")
            if account is None or not self._is_valid(found, request, account):
                self._metrics.auth.labels("failed").inc()
                if account is not None and self._may_tell(account.user):
                    _log.warning("credentials refused", user=account.user)
                raise self._challenge(account, header)
        if not self._nonces.use(found.nonce, int(found.nc, 16)):
            self._metrics.auth.labels("replayed").inc()
            raise self._challenge(account, header, stale=True)
        self._metrics.auth.labels("ok").inc()
        return account, found

    def _algorithm(self, account: "Account | None") -> bytes:
        if account is not None and account.algorithm == MD5 and self._md5:
            return MD5
        return SHA256

    def _is_valid(self, credentials: Credentials, request: "Request", account: "Account") -> bool:
        if account.is_terminal:
            return False
        algorithm = self._algorithm(account)
        secret = account.secret(algorithm)
        if (
            secret is None
            or credentials.algorithm.upper() != algorithm
            or credentials.username != account.auth_user.encode()
            or credentials.qop not in (b"auth", b"auth-int")
            or not _same_uri(credentials.uri, request.uri)
        ):
            return False
        try:
            verify(credentials, secret, request.method, request.body)
        except SecurityError:
            return False
        return True

    def _challenge(self, account: "Account | None", header: str, *, stale: bool = False) -> RefusedError:
        """A challenge in the one algorithm of the account: phones look at the first only (RFC 8760 section 2.4)."""
        challenge = Challenge(
            self._domain.encode(),
            self._nonces.make(_PURPOSE),
            self._algorithm(account),
            (b"auth", b"auth-int") if self._algorithm(account) == SHA256 else (b"auth",),
            None,
            stale,
        )
        value = serialize_challenge(challenge)
        self._metrics.auth.labels("challenged").inc()
        if header == "authorization":
            return RefusedError(401, "Unauthorized", ("WWW-Authenticate", value))
        return RefusedError(407, "Proxy Authentication Required", ("Proxy-Authenticate", value))


def _same_uri(one: bytes, two: bytes) -> bool:
    """Whether the digest-uri means the Request-URI, which nobody between a phone and us has changed."""
    if one == two:
        return True
    try:
        return equivalent(uri_of(one), uri_of(two))
    except ParseError:
        return False
