"""The registrar (RFC 3261 section 10.3), for terminals by the hop and for phones by digest.

REGISTER --> whose? may they? --> [the user's lock: what changes? --> COMMIT --> are they still who they were?] --> 200
"""

import time
from dataclasses import dataclass
from email.utils import formatdate
from typing import TYPE_CHECKING

import structlog

from sipwire.digest import Credentials
from sipwire.editing import tokens
from sipwire.errors import ParseError
from sipwire.headers import Address, address_of
from sipwire.uri import uri_of

from .gate import Gate, user_of
from .hop import Agreement, HopFlow, Proof
from .location import Binding, Location, wall_ms
from .refusal import RefusedError
from .transactions import new_token
from .transport.flow import Flow, format_address
from .transport.udp import UdpFlow

if TYPE_CHECKING:
    from sipwire.message import Request, Response

    from .config import RegistrarConfig
    from .hop import Hops
    from .store.accounts import Account, Accounts
    from .transactions import Server

__all__ = ["Registrar"]

_log = structlog.get_logger("registrar")
_MAX_EXPIRES_S = 0xFFFFFFFF  # RFC 3261 section 10.2.1.1: delta-seconds up to 2^32 - 1; more is malformed
_MAX_CONTACT_BYTES = 512  # a longer Contact URI is refused with 400


@dataclass(frozen=True)
class _Changes:
    """What a REGISTER does: bindings to put and to remove, and the seconds granted by contact."""

    put: list[Binding]
    remove: list[Binding]
    granted: dict[bytes, int]

    @property
    def longest_s(self) -> int:
        return max(self.granted.values(), default=0)


class Registrar:
    """Registers users of the domain.

    Args:
        domain: our domain.
        config: limits.
        gate: knows phones.
        hops: knows terminals.
        location: where bindings are kept.
        accounts: who is who.
    """

    def __init__(
        self,
        domain: str,
        config: "RegistrarConfig",
        gate: Gate,
        hops: "Hops",
        location: Location,
        accounts: "Accounts",
    ) -> None:
        self._domain = domain
        self._config = config
        self._gate = gate
        self._hops = hops
        self._location = location
        self._accounts = accounts

    async def handle(self, server: "Server") -> None:
        """Answer a REGISTER; what was answered 200 is in the store.

        Raises:
            RefusedError: with what to answer otherwise.
            ParseError: malformed.
            StoreError: the store failed.
        """
        request, flow = server.request, server.flow
        to = request.to.parsed_uri()
        if not to.is_sip:
            raise ParseError("to")
        user = user_of(to)
        if to.host.lower().decode("latin-1") != self._domain or user is None:
            raise RefusedError(404, "Not Found")
        required = [name for name in tokens(request, "require") if name != b"sec-agree"]
        if required:
            raise RefusedError(420, "Bad Extension", ("Unsupported", b", ".join(required)))
        if isinstance(flow, HopFlow):
            await self._from_terminal(server, flow, user)
        elif request.get("security-client") is not None or b"sec-agree" in tokens(request, "require"):
            await self._agree(server, user)
        else:
            await self._from_phone(server, user)

    # Terminals.

    async def _agree(self, server: "Server", user: str) -> None:
        """Steps 1 and 3 of WIRE section 1.1, without a frame."""
        request, flow = server.request, server.flow
        if not isinstance(flow, UdpFlow):
            raise RefusedError(421, "Extension Required", ("Require", b"sec-agree"))  # frames are for UDP
        self._hops.check_offer(request)
        if request.get("authorization") is None:
            raise self._hops.challenge()
        await self._establish(server, flow, await self._hops.prove(request, user), None)

    async def _from_terminal(self, server: "Server", flow: HopFlow, user: str) -> None:
        """A REGISTER in a frame: a refresh, or the wish for new keys (WIRE section 1.4)."""
        request = server.request
        if user != flow.user or _user_of_from(request) != flow.user:
            raise RefusedError(403, "Forbidden")
        account = self._accounts.by_user(user)
        if account is None or not account.is_terminal:
            raise RefusedError(403, "Forbidden")  # removed while the agreement lived
        if request.get("security-client") is not None:
            self._hops.check_offer(request)
            if request.get("authorization") is None:
                raise self._hops.challenge()
            transport = flow.agreement.transport
            assert transport is not None
            way = UdpFlow(transport, flow.peer)
            await self._establish(server, way, await self._hops.prove(request, user), flow.agreement)
            return
        spi = flow.agreement.spi
        async with self._location.lock(user):
            if any(binding.spi not in (None, spi) for binding in self._location.of(user)):
                # WIRE section 1.4 wants "a frame of the present agreement". One that has been held back until another
                # agreement was made does not bring the old one back.
                raise RefusedError(403, "Forbidden")
            changes = self._changes(request, user, flow, spi)
            also = self._hops.heard(flow.agreement)
            if changes.put:
                also += self._hops.extension(flow.agreement, changes.longest_s)
            elif changes.remove and not self._left(user, changes.remove):
                also += self._hops.retire(spi)
            await self._location.change(changes.put, changes.remove, also)
            self._check_still(account)
            response = self._ok(request, user, changes)
        server.respond(response)
        self._log(changes, "refreshed", user, flow)

    async def _establish(self, server: "Server", way: UdpFlow, proof: Proof, old: Agreement | None) -> None:
        """The proof holds: store binding and agreement together, and answer in the agreement's first frame."""
        request, user = server.request, proof.account.user
        async with self._location.lock(user):
            changes = self._changes(request, user, way, proof.spi, replace=True)
            if not changes.put:
                raise RefusedError(400, "Nothing To Register")
            agreement, statements = self._hops.prepare(proof, changes.longest_s, way.peer, way.udp)
            replaced = {binding.spi for binding in self._location.of(user) if binding.spi is not None}
            if old is not None:
                replaced.add(old.spi)
                statements += self._hops.heard(old)
            for spi in replaced:
                statements += self._hops.retire(spi)
            await self._location.change(changes.put, changes.remove, statements)
            flow = self._hops.adopt(agreement)
            self._check_still(proof.account)
            for binding in changes.put:
                binding.flow = flow
            response = self._ok(request, user, changes)
        proof_text = proof.credentials.compute(proof.secret, "", response.body)
        response.add("Authentication-Info", _authentication_info(proof.credentials, proof_text))
        server.flow = flow
        server.respond(response)
        self._log(changes, "registered", user, flow)

    # Phones.

    async def _from_phone(self, server: "Server", user: str) -> None:
        request, flow = server.request, server.flow
        account = self._accounts.by_user(user)
        if account is not None and account.is_terminal:
            raise self._hops.wants_other()
        account, credentials = await self._gate.authenticate(request, user, "authorization")
        async with self._location.lock(user):
            changes = self._changes(request, user, flow, None)
            await self._location.change(changes.put, changes.remove)
            self._check_still(account)
            response = self._ok(request, user, changes)
        secret = account.secret(credentials.algorithm)
        if secret is not None:
            proof = credentials.compute(secret, "", response.body)
            response.add("Authentication-Info", _authentication_info(credentials, proof))
        server.respond(response)
        self._log(changes, "registered", user, flow, digest=credentials.algorithm.decode().upper())

    # Accounts that go.

    def revoke(self, users: set[str]) -> None:
        """The accounts of users are gone or others: what was registered with them holds no more."""
        for user in users:
            self._location.forget(user)
        self._hops.revoke(users)
        _log.info("revoked", users=sorted(users))

    def _check_still(self, account: "Account") -> None:
        """Take back what a REGISTER has changed where its account went while it was on its way to the store."""
        if self._accounts.by_user(account.user) != account:
            self.revoke({account.user})
            raise RefusedError(403, "Forbidden")

    # Bindings.

    def _changes(
        self, request: "Request", user: str, flow: Flow, spi: int | None, *, replace: bool = False
    ) -> "_Changes":
        """What a REGISTER adds and removes; nothing is changed here, and the user's lock is held.

        Args:
            request: the REGISTER.
            user: whose.
            flow: how it came.
            spi: of the hop agreement, None without one.
            replace: whether it removes what it does not name: a terminal account is one terminal, and whatever it
                registered over another agreement leads nowhere any more.

        Raises:
            ParseError: malformed.
            RefusedError: 423, 403 or 500.
        """
        header = request.uint("expires", _MAX_EXPIRES_S)
        values = request.values("contact")
        if b"*" in values:
            # "The * ... MUST NOT be used unless the Expires header field is present with a value of 0".
            if values != [b"*"] or header != 0:
                raise ParseError("contact")
            return _Changes([], [self._fresh(binding, request) for binding in self._location.of(user)], {})
        put: list[Binding] = []
        remove: list[Binding] = []
        granted: dict[bytes, int] = {}
        for contact in [address_of(value) for value in values]:
            uri = uri_of(contact.uri)
            if not uri.is_sip or len(contact.uri) > _MAX_CONTACT_BYTES:
                raise ParseError("contact")
            expires_s = self._expires(contact, header)
            known = self._location.find(user, uri)
            if known is not None:
                self._fresh(known, request)
                if expires_s == 0 or known.contact != contact.uri:
                    remove.append(known)
            if expires_s == 0:
                continue
            granted[contact.uri] = expires_s
            put.append(
                Binding(
                    user=user,
                    contact=contact.uri,
                    call_id=request.call_id,
                    cseq=request.cseq.number,
                    expires_at=wall_ms() + expires_s * 1000,
                    q=_q(contact),
                    kind="hop" if spi is not None else flow.transport.lower(),
                    source=format_address(flow.peer),
                    spi=spi,
                    user_agent=(request.get("user-agent") or b"").decode("utf-8", "replace")[:100],
                    flow=flow,
                )
            )
        if replace:
            named = {binding.contact for binding in put} | {binding.contact for binding in remove}
            remove += [binding for binding in self._location.of(user) if binding.contact not in named]
        there = {binding.contact for binding in self._location.of(user)} - {binding.contact for binding in remove}
        if len(there | {binding.contact for binding in put}) > self._config.max_contacts:
            raise RefusedError(403, "Too Many Contacts")
        return _Changes(put, remove, granted)

    def _expires(self, contact: Address, header: int | None) -> int:
        value = contact.param("expires")
        if value is not None and value.isdigit() and len(value) <= 10:
            expires_s = int(value)
        elif value is not None or header is None:
            # A malformed value counts as the longest; so does none at all.
            expires_s = self._config.max_expires_s
        else:
            expires_s = header
        if 0 < expires_s < self._config.min_expires_s:
            raise RefusedError(423, "Interval Too Brief", ("Min-Expires", str(self._config.min_expires_s).encode()))
        return min(expires_s, self._config.max_expires_s)

    @staticmethod
    def _fresh(binding: Binding, request: "Request") -> Binding:
        """Section 10.3 step 7: with the same Call-ID the CSeq has to rise, or "the update MUST be aborted"."""
        if binding.call_id == request.call_id and request.cseq.number <= binding.cseq:
            raise RefusedError(500, "CSeq Out Of Order")
        return binding

    def _left(self, user: str, removed: list[Binding]) -> bool:
        """Whether a user keeps a binding when some are removed."""
        return any(binding not in removed for binding in self._location.of(user))

    def _ok(self, request: "Request", user: str, changes: "_Changes") -> "Response":
        response = request.response(200, "OK", new_token(4))
        now = wall_ms()
        for binding in self._location.of(user):
            # What was just granted is told to the second: a terminal compares it with what it asked for.
            left_s = changes.granted.get(binding.contact) or max(1, (binding.expires_at - now) // 1000)
            q = "" if binding.q == 1000 else f";q={binding.q / 1000:g}"
            response.add("Contact", b"<%s>;expires=%d%s" % (binding.contact, left_s, q.encode()))
        if changes.granted:
            response.add("Expires", str(changes.longest_s).encode())
        response.add("Date", formatdate(time.time(), usegmt=True).encode())
        return response

    @staticmethod
    def _log(changes: "_Changes", what: str, user: str, flow: Flow, **fields: str) -> None:
        if changes.put:
            _log.info(what, user=user, flow=flow.key, expires_s=changes.longest_s, **fields)
        elif changes.remove:
            _log.info("unregistered", user=user, flow=flow.key)


def _user_of_from(request: "Request") -> str | None:
    uri = request.from_.parsed_uri()
    return user_of(uri) if uri.is_sip else None


def _q(contact: Address) -> int:
    """A contact's q in thousandths, 1000 where it has none.

    Raises:
        ParseError: malformed.
    """
    value = contact.param("q")
    if value is None:
        return 1000
    # RFC 3261 section 25.1: qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
    whole, _, part = value.partition(b".")
    if whole not in (b"0", b"1") or len(part) > 3 or (part and not part.isdigit()):
        raise ParseError("contact")
    q = int(whole) * 1000 + int(part.ljust(3, b"0"))
    if q > 1000:
        raise ParseError("contact")
    return q


def _authentication_info(credentials: Credentials, rspauth: bytes) -> bytes:
    return b'qop=%s, rspauth="%s", cnonce="%s", nc=%s' % (
        credentials.qop,
        rspauth,
        credentials.cnonce,
        credentials.nc,
    )
