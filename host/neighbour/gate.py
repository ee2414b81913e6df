"""The gate: who sends this request, and may they?

in a frame             the terminal of the agreement, as itself
over mutual TLS        a peer, for its own domain, to ours
within a dialog        whoever brings back the route cookie of that dialog, to the other side of it
everybody else         a phone of ours, by digest; strangers are refused

Digest is that of RFC 3261 section 22 with RFC 7616 and RFC 8760: one challenge, in the one algorithm of the account;
``qop`` is wanted, and with it ``nc``, so that nothing is taken twice; ``stale=true`` only tells those who have the
right secret that nothing but their nonce was too old. Credentials for our realm concern nobody but us, and a challenge
in our name can come from nobody else: neither passes through.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from sipwire.digest import MD5, SHA256, Challenge, Credentials, parse_scheme
from sipwire.digest_server import parse_credentials, serialize_challenge, verify
from sipwire.errors import ParseError, SecurityError
from sipwire.grammar import get_param, unfold
from sipwire.uri import Uri, uri_of

from .equivalence import equivalent
from .hop import HopFlow
from .limits import source_of
from .logs import Seldom
from .nonces import FRESH, Nonces
from .refusal import RefusedError, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from sipwire.message import Message, Request, Response

    from .hop import Hops
    from .limits import Limits
    from .metrics import Metrics
    from .screen import Screen
    from .store.accounts import Account, Accounts
    from .transport.flow import Flow

__all__ = ["DIALOG", "PEER", "PHONE", "TERMINAL", "Gate", "Sender", "user_of"]

_log = structlog.get_logger("gate")
_PURPOSE = b"phone"
_PROXY = "proxy-authorization"
_ENDS = ("ACK", "BYE")  # work
TERMINAL = "terminal"
PHONE = "phone"
PEER = "peer"
DIALOG = "dialog"  # known by the route cookie only


@dataclass(frozen=True)
class Sender:
    """Who sent a request: `TERMINAL`, `PHONE`, `PEER` or `DIALOG`.

    Attributes:
        kind: one of these.
        user: of ours, for a terminal or phone.
        name: of a peer its domain, of a side of a dialog its address-of-record.
    """

    kind: str
    user: str = ""
    name: str = ""

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
        limits: how much who may ask.
        screen: for what only now turns out to begin something.
        metrics: counts.
        groups: in whose name their members may speak.
        md5: whether accounts may use MD5.
    """

    def __init__(
        self,
        domain: str,
        accounts: "Accounts",
        hops: "Hops",
        nonces: Nonces,
        limits: "Limits",
        screen: "Screen",
        metrics: "Metrics",
        groups: "Mapping[str, list[str]]",
        *,
        md5: bool,
    ) -> None:
        self._domain = domain
        #: Our realm as nearly everybody writes it.
        self._realms = tuple(before + b'realm="%s"' % domain.encode() for before in (b" ", b","))
        self._accounts = accounts
        self._hops = hops
        self._nonces = nonces
        self._limits = limits
        self._screen = screen
        self._metrics = metrics
        self._groups = groups
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
        host = uri.host.lower().decode("latin-1") if uri.is_sip else ""
        sender = await self._sender(request, flow, uri, host, in_dialog=in_dialog)
        self.charge(sender, request, flow)
        if request.to.tag and not in_dialog:
            # A tag of somebody's making does not make a dialog.
            refusal = self._screen.overloaded(request, flow, in_dialog=False)
            if refusal is not None:
                raise refusal
        return sender

    async def _sender(self, request: "Request", flow: "Flow", uri: Uri, host: str, *, in_dialog: bool) -> Sender:
        ours = host == self._domain
        members = self._groups.get(user_of(uri) or "", ()) if ours else ()
        if isinstance(flow, HopFlow):
            if not ours or (user_of(uri) != flow.user and flow.user not in members):
                raise self._refuse("identity", f"From is not sip:{flow.user}@{self._domain}")
            return Sender(TERMINAL, flow.user)
        if flow.line is not None:
            raise self._hops.wants_other()  # nobody but a terminal is there
        if flow.identities:
            if host not in flow.identities:
                raise self._refuse("identity", "From is not of the domain of the certificate")
            return Sender(PEER, name=host)
        user = user_of(uri) if ours else None
        account = self._accounts.by_user(user or "")
        if account is not None and account.is_terminal:
            # "A request from a terminal account that is not in a frame ... gets 494", sent once.
            raise self._hops.wants_other()
        if in_dialog:
            if ours and account is None and not members:
                raise self._refuse("stranger", "no user of this domain any more")
            return Sender(DIALOG, name=(uri.aor() if uri.is_sip else request.from_.uri).decode("latin-1"))
        if not ours:
            raise self._refuse("stranger", "requests of other domains come over mutual TLS")
        if members:
            user = self._member(request, members)
        await self.authenticate(request, user, _PROXY, flow)
        return Sender(PHONE, user or "")

    async def prove(self, request: "Request", flow: "Flow") -> None:
        """Have who sends within a dialog in the name of one of ours, or of a group, prove to be that, or a member.

        Args:
            request: as it came.
            flow: how it came.

        Raises:
            RefusedError: a challenge.
            ParseError: malformed credentials.
        """
        user = user_of(request.from_.parsed_uri())
        members = self._groups.get(user or "", ())
        await self.authenticate(request, self._member(request, members) if members else user, _PROXY, flow)

    def _member(self, request: "Request", members: "Collection[str]") -> str | None:
        """The member of a group whose credentials a request has, None where it has none of one."""
        for value in request.get_all("proxy-authorization"):
            try:
                _, params = parse_scheme(value)
                name = get_param(params, "username") or b""
            except ParseError:
                continue
            account = self._accounts.by_auth_user(name.decode("utf-8", "replace"))
            if account is not None and account.user in members and not account.is_terminal:
                return account.user
        return None

    def charge(self, sender: Sender, request: "Request", flow: "Flow") -> None:
        """Charge who sent a request for it, and remember that they were at the address where it came from.

        Raises:
            RefusedError: they have asked too much.
        """
        ends = request.method in _ENDS
        if sender.kind == PEER:
            self._limits.shows(flow.peer[0], sender.name)
            wait_s = self._limits.peer(sender.name, ends=ends)
            # Not 503: their proxy would have to hold back what all its other users send (see `limits`).
            status, reason = 500, "Server Internal Error"
        else:
            if sender.kind != DIALOG:
                self._limits.shows(flow.peer[0], sender.user)
            wait_s = self._limits.user(sender.user or sender.name, ends=ends)
            status, reason = 503, "Service Unavailable"
        if wait_s:
            name = sender.user or sender.name
            if self._may_tell(f"limit {name}"):
                _log.warning("too many requests", sender=name, retry_after_s=wait_s, flow=flow.key)
            raise RefusedError(
                status,
                reason,
                ("Retry-After", b"%d" % wait_s),
                warning(self._domain, "too many requests"),
                is_paid=True,
            )

    def _refuse(self, reason: str, text: str) -> RefusedError:
        self._metrics.refused.labels(reason).inc()
        return RefusedError(403, "Forbidden", warning(self._domain, text))

    # Digest.

    async def authenticate(
        self, request: "Request", user: str | None, header: str, flow: "Flow"
    ) -> "tuple[Account, Credentials]":
        """Check the digest credentials of a phone.

        Args:
            request: the request.
            user: whose credentials they have to be. One that does not exist is challenged all the same.
            header: ``authorization`` (401) or ``proxy-authorization`` (407).
            flow: how it came.

        Returns:
            The account and the credentials.

        Raises:
            RefusedError: a challenge.
            ParseError: malformed credentials.
        """
        account = self._accounts.by_user(user or "")
        found = self._credentials(request, header, self._algorithm(account))
        if found is None:
            raise self._challenge(account, header, flow)
        is_fresh = self._nonces.check(_purpose(flow), found.nonce) == FRESH
        if account is None or not self._is_valid(found, request, account):
            if not is_fresh:
                raise self._challenge(account, header, flow)
            # The account may have been made or changed a moment ago.
            await self._accounts.refresh()
            account = self._accounts.by_user(user or "")
            if account is None or not self._is_valid(found, request, account):
                self._metrics.auth.labels("failed").inc()
                if self._may_tell(user if account is not None and user else source_of(flow.peer[0])):
                    _log.warning("credentials refused", user=user, known=account is not None, flow=flow.key)
                raise self._challenge(account, header, flow)
        if not is_fresh:
            raise self._stale(account, header, flow)
        if not self._nonces.use(found.nonce, int(found.nc, 16)):
            self._metrics.auth.labels("replayed").inc()
            raise self._stale(account, header, flow)
        self._metrics.auth.labels("ok").inc()
        return account, found

    def _credentials(self, request: "Request", header: str, algorithm: bytes) -> Credentials | None:
        """The credentials for our realm: of several, those in the algorithm that counts.

        A request through several proxies has some for each (RFC 3261 section 22.3); those of others are theirs to read.
        """
        found = []
        for value in request.get_all(header):
            if value[:7].lower() not in (b"digest ", b"digest\t"):
                continue
            if self._names_us(value) and b"*" not in value and b"\\" not in value:
                # Then it can't be meant otherwise, and is read once.
                one = parse_credentials(value)
                if one.realm == self._domain.encode():
                    found.append(one)
                continue
            _, params = parse_scheme(value)
            if get_param(params, "realm") != self._domain.encode():
                continue
            if get_param(params, "username*") is not None:
                # RFC 7616 section 3.4: for names that no quoted string can hold, and no user here has one; beside
                # `username`, "using both MUST be treated as an error".
                raise ParseError("username*", 400, "unknown")
            found.append(parse_credentials(value))
        return next((one for one in found if one.algorithm.upper() == algorithm), found[0] if found else None)

    def _names_us(self, value: bytes) -> bool:
        """Whether our realm stands there; other ways to write it are possible."""
        return self._realms[0] in value or self._realms[1] in value

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

    def _challenge(self, account: "Account | None", header: str, flow: "Flow") -> RefusedError:
        return self._ask(account, header, flow, stale=False)

    def _stale(self, account: "Account", header: str, flow: "Flow") -> RefusedError:
        """The challenge to who has the right secret, and a nonce that is too old or was used.

        It may still be somebody who repeats what they overheard. So it is not free: the user pays at that address, and
        not all who share the address.
        """
        refusal = self._ask(account, header, flow, stale=True)
        refusal.is_paid = self._limits.returns(flow.peer[0], account.user)
        return refusal

    def _ask(self, account: "Account | None", header: str, flow: "Flow", *, stale: bool) -> RefusedError:
        """A challenge in the one algorithm of the account: phones look at the first only (RFC 8760 section 2.4)."""
        challenge = Challenge(
            self._domain.encode(),
            self._nonces.make(_purpose(flow)),
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

    # What concerns nobody but us.

    def strip_credentials(self, request: "Request") -> None:
        """Take credentials for our realm out of a request that goes on: they prove a user to us alone.

        Whoever gets it could try passwords on them, or have let the phone make them for a request of their own.
        """
        self._strip(request, ("authorization", "proxy-authorization"))

    def strip_challenges(self, response: "Response") -> None:
        """Take challenges for our realm out of a response that comes from elsewhere.

        A phone would answer with credentials that are good for us (CVE-2009-5140 and its like): the nonce may be one of
        ours, asked for by whoever sends this. A 401 or 407 that has nothing else becomes a 403.
        """
        keys = ("www-authenticate", "proxy-authenticate")
        stripped = self._strip(response, keys)
        if stripped and response.status in (401, 407) and not any(key in keys for key, _ in response.fields):
            response.status, response.reason = 403, b"Forbidden"
            response.add(*warning(self._domain, "a challenge in our name"))

    def _strip(self, message: "Message", keys: tuple[str, str]) -> bool:
        """Remove lines of our realm; returns whether there were any."""
        kept = [field for field in message.fields if field[0] not in keys or not self._is_ours(field[1])]
        if len(kept) == len(message.fields):
            return False
        message.compact()
        message.fields = kept
        return True

    def _is_ours(self, line: bytes) -> bool:
        """Whether a challenge or credentials are of our realm, or might be read so by somebody."""
        if self._names_us(line):
            return True
        realm = self._domain.encode()
        try:
            _, params = parse_scheme(unfold(line.partition(b":")[2]))
            realms = [get_param([one], "realm") for one in params]
            return any(one is not None and one.lower() == realm for one in realms)
        except ParseError:
            return realm in line.replace(b"\\", b"").lower()


def _purpose(flow: "Flow") -> bytes:
    """What a nonce is good for: whoever got it at one address can't have shown to be at another."""
    return _PURPOSE + b" " + source_of(flow.peer[0]).encode()


def _same_uri(one: bytes, two: bytes) -> bool:
    """Whether the digest-uri means the Request-URI, which nobody between a phone and us has changed."""
    if one == two:
        return True
    try:
        return equivalent(uri_of(one), uri_of(two))
    except ParseError:
        return False
