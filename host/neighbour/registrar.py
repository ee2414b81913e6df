"""The registrar (RFC 3261 section 10.3), for terminals by the hop and for phones by digest.

REGISTER --> whose? may they? --> [the user's lock: what changes? --> COMMIT --> are they still who they were?] --> 200

Nobody registers for somebody else: whoever has shown who they are, and asks for another address-of-record than their
own, gets 403, or 404 where there is no such user. Strangers are challenged whomever they name, and learn nothing.

What takes the place of what: a contact, that of an equivalent URI; with a reg-id (RFC 5626), whatever the instance
registered with that reg-id; without one, what the instance had registered and does not name again, so that a phone that
has started anew at another port leaves no dead binding behind. Bindings whose connection has ended hold no place: they
go when a user has too many.
"""

import time
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import TYPE_CHECKING

import structlog

from sipwire.digest import Credentials
from sipwire.editing import tokens
from sipwire.errors import ParseError
from sipwire.grammar import quote
from sipwire.headers import address_of
from sipwire.introduction import read_peers

from .contacts import Contact, read_contacts
from .gate import PHONE, TERMINAL, Gate, Sender, user_of
from .hop import Agreement, HopFlow, Proof
from .location import ALIEN, PATH, Binding, Location, wall_ms
from .outbound import Way, read_way, service_route
from .refusal import RefusedError
from .transactions import new_token
from .transport.flow import Flow, format_address
from .transport.udp import UdpFlow

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipwire.headers import Address
    from sipwire.introduction import Wanted
    from sipwire.message import Request, Response

    from .config import RegistrarConfig
    from .hop import Hops
    from .store.accounts import Account, Accounts
    from .transactions import Server

__all__ = ["Registrar", "new_binding"]

_log = structlog.get_logger("registrar")
_EXTENSIONS = (b"sec-agree", b"path", b"outbound")
_MAX_USER_AGENT = 100  # characters of it that are kept


@dataclass(frozen=True)
class _Changes:
    """What a REGISTER does: bindings to put and to remove, and the seconds granted by slot."""

    put: list[Binding] = field(default_factory=list)
    remove: list[Binding] = field(default_factory=list)
    granted: dict[bytes, int] = field(default_factory=dict)

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

    Attributes:
        introduce: called when a terminal has registered, with its user and the peers that it wants setup keys with.
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
        self.introduce: Callable[[str, list[Wanted]], None] = _nobody
        self._domain = domain
        self._config = config
        self._edge_proxies = frozenset(config.edge_proxies)
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
        unknown = [name for name in tokens(request, "require") if name not in _EXTENSIONS]
        if unknown:
            raise RefusedError(420, "Bad Extension", ("Unsupported", b", ".join(unknown)))
        if not request.to.parsed_uri().is_sip:
            raise ParseError("to")
        user, sender = self._user_at_home(request.to), self._user_at_home(request.from_)
        if user is None:
            raise RefusedError(404, "Not Found")
        if sender is None:
            raise self._not_for_others()
        if isinstance(flow, HopFlow):
            if not user == sender == flow.user:
                raise self._not_for_others()
            await self._from_terminal(server, flow)
        elif request.get("security-client") is not None or b"sec-agree" in tokens(request, "require"):
            if user != sender:
                raise self._not_for_others()
            await self._agree(server, user)
        elif flow.line is not None:
            raise self._hops.wants_other()  # nobody but a terminal is on a serial line
        else:
            await self._from_phone(server, user, sender)

    def _user_at_home(self, address: "Address") -> str | None:
        """The user of our domain that an address is of, as section 10.3 step 5 wants it: without what is around it."""
        uri = address.parsed_uri()
        at_home = uri.is_sip and uri.host.lower().decode("latin-1") == self._domain
        return user_of(uri) if at_home else None

    def _not_for_others(self) -> RefusedError:
        text = f'399 {self._domain} "everybody registers for themselves: From and To differ"'
        return RefusedError(403, "Forbidden", ("Warning", text.encode()))

    # Terminals.

    async def _agree(self, server: "Server", user: str) -> None:
        """Steps 1 and 3 of WIRE section 1.1, without a frame."""
        request, flow = server.request, server.flow
        if not isinstance(flow, UdpFlow):
            raise RefusedError(421, "Extension Required", ("Require", b"sec-agree"))  # frames are for UDP
        self._hops.check_offer(request)
        if request.get("authorization") is None:
            raise self._hops.challenge()
        proof = await self._hops.prove(request, user, flow)
        self._admit(server, Sender(TERMINAL, user))
        await self._establish(server, flow, proof, None, [])

    async def _from_terminal(self, server: "Server", flow: HopFlow) -> None:
        """A REGISTER in a frame: a refresh, or the wish for new keys (WIRE section 1.4)."""
        request, user = server.request, flow.user
        account = self._accounts.by_user(user)
        if account is None or not account.is_terminal:
            raise RefusedError(403, "Forbidden")  # removed while the agreement lived
        self._admit(server, Sender(TERMINAL, user))
        wanted = read_peers(request.get_all("setup-peers"))
        if request.get("security-client") is not None:
            self._hops.check_offer(request)
            if request.get("authorization") is None:
                raise self._hops.challenge()
            transport = self._hops.transport_of(flow.agreement)
            if (
                transport is None
            ):  # it was on a line that is gone, and this may be a repeated frame: the next one moves it
                raise RefusedError(503, "Service Unavailable")
            way = transport.flow(flow.peer)
            await self._establish(server, way, await self._hops.prove(request, user, flow), flow.agreement, wanted)
            return
        spi = flow.agreement.spi
        async with self._location.lock(user):
            if any(binding.spi not in (None, spi) for binding in self._location.of(user)):
                # WIRE section 1.4 wants "a frame of the present agreement". One that has been held back until another
                # agreement was made does not bring the old one back.
                raise RefusedError(403, "Forbidden")
            changes = self._changes(request, user, flow, self._own_way(request, flow), spi)
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
        if changes.put:
            self.introduce(user, wanted)

    async def _establish(
        self, server: "Server", way: UdpFlow, proof: Proof, old: Agreement | None, wanted: "list[Wanted]"
    ) -> None:
        """The proof holds: store binding and agreement together, and answer in the agreement's first frame.

        Args:
            server: the REGISTER's transaction.
            way: how the terminal is reached.
            proof: see there.
            old: the agreement in whose frame it came, None where it came without.
            wanted: the peers that the terminal wants setup keys with, none where it came without a frame: somebody on
                the way could have written them.
        """
        request, user = server.request, proof.account.user
        async with self._location.lock(user):
            changes = self._changes(request, user, way, self._own_way(request, way), proof.spi)
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
            response = self._ok(request, user, changes)
        proof_text = proof.credentials.compute(proof.secret, "", response.body)
        response.add("Authentication-Info", _authentication_info(proof.credentials, proof_text))
        server.flow = flow
        server.respond(response)
        self._log(changes, "registered", user, flow)
        self.introduce(user, wanted)

    def _own_way(self, request: "Request", flow: Flow) -> Way:
        """A terminal's way is its hop: no flow but that counts, whatever it says."""
        read_way(request, flow, self._domain, frozenset())
        return Way((), is_direct=True, has_outbound=False, supports_outbound=False)

    # Phones.

    async def _from_phone(self, server: "Server", user: str, sender: str) -> None:
        request, flow = server.request, server.flow
        for name in (user, sender):
            account = self._accounts.by_user(name)
            if account is not None and account.is_terminal:
                raise self._hops.wants_other()
        account, credentials = await self._gate.authenticate(request, sender, "authorization", flow)
        self._admit(server, Sender(PHONE, sender))
        if user != sender:
            # Section 10.3 step 4: "If the authenticated user is not authorized to modify bindings, the registrar MUST
            # return a 403".
            raise RefusedError(404, "Not Found") if self._accounts.by_user(user) is None else self._not_for_others()
        way = read_way(request, flow, self._domain, self._edge_proxies)
        async with self._location.lock(user):
            changes = self._changes(request, user, flow, way, None)
            await self._location.change(changes.put, changes.remove)
            self._check_still(account)
            response = self._ok(request, user, changes)
        self._tell_phone(response, flow, way, changes)
        secret = account.secret(credentials.algorithm)
        if secret is not None:
            proof = credentials.compute(secret, "", response.body)
            response.add("Authentication-Info", _authentication_info(credentials, proof))
        server.respond(response)
        self._log(changes, "registered", user, flow, digest=credentials.algorithm.decode().upper())

    def _tell_phone(self, response: "Response", flow: Flow, way: Way, changes: _Changes) -> None:
        """What a phone is told in its 200 beside its bindings."""
        for value in way.path:
            response.add("Path", value)  # RFC 3327 section 5.3
        response.add("Supported", b"path, outbound")
        if way.supports_outbound and any(binding.reg_id is not None for binding in changes.put):
            # RFC 5626 section 6: never where there was no reg-id, or none that counts.
            response.add("Require", b"outbound")
            if way.is_direct and (timer_s := flow.expect_keep_alives()):
                response.add("Flow-Timer", b"%d" % timer_s)
        if self._config.service_route:
            response.add("Service-Route", service_route(flow, self._domain))

    def _admit(self, server: "Server", sender: Sender) -> None:
        """It is known who sent a REGISTER: from here on it is refused for good.

        Raises:
            RefusedError: they have asked too much.
        """
        self._gate.charge(sender, server.request, server.flow)
        server.admitted = True

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

    def _changes(self, request: "Request", user: str, flow: Flow, way: Way, spi: int | None) -> _Changes:
        """What a REGISTER adds and removes; nothing is changed here, and the user's lock is held.

        Args:
            request: the REGISTER.
            user: whose.
            flow: how it came.
            way: the same in more detail.
            spi: of the hop agreement, None without one. What is not named then is removed: a terminal account is one
                terminal, and whatever it registered over another agreement leads nowhere any more.

        Raises:
            ParseError: malformed.
            RefusedError: 423, 403, 439 or 500.
        """
        contacts = read_contacts(request, self._config)
        if contacts is None:
            return _Changes(remove=[self._fresh(binding, request) for binding in self._location.of(user)])
        if way.supports_outbound and not way.has_outbound and any(one.reg_id is not None for one in contacts):
            raise RefusedError(439, "First Hop Lacks Outbound Support")
        put: dict[bytes, Binding] = {}
        gone: dict[bytes, Binding] = {}
        granted: dict[bytes, int] = {}
        for contact in contacts:
            new = new_binding(request, user, contact, flow, way, spi)
            replaced = [self._location.find(user, contact.parsed, contact.uri)]
            if new.reg_id is not None:
                replaced.append(self._location.find_slot(user, new.slot))
            elif new.instance and contact.expires_s:
                # What the request names as well is put again.
                replaced += [old for old in self._location.of(user) if _is_of_same(old, new)]
            gone |= {old.slot: self._fresh(old, request) for old in replaced if old is not None}
            if contact.expires_s:
                put[new.slot] = new
                granted[new.slot] = contact.expires_s
        if spi is not None and put:
            gone |= {old.slot: old for old in self._location.of(user) if old.spi != spi}
        gone = {slot: old for slot, old in gone.items() if slot not in put}
        self._make_room(user, put, gone)
        return _Changes(list(put.values()), list(gone.values()), granted)

    def _make_room(self, user: str, put: dict[bytes, Binding], gone: dict[bytes, Binding]) -> None:
        """See to it that a user does not get more bindings than are allowed: those whose connection has ended go first.

        Args:
            user: whose.
            put: bindings to put, by slot.
            gone: bindings to remove, by slot; whatever has to make room comes to them.
        """
        there = self._location.of(user)
        staying = [old for old in there if old.slot not in put and old.slot not in gone]
        excess = len(staying) + len(put) - self._config.max_contacts
        for old in reversed(staying):
            if excess > 0 and old.is_lost:
                gone[old.slot] = old
                excess -= 1
        if excess > 0 and len(staying) + len(put) > len(there):
            raise RefusedError(403, "Too Many Contacts")

    @staticmethod
    def _fresh(binding: Binding, request: "Request") -> Binding:
        """Section 10.3 step 7: with the same Call-ID the CSeq has to rise, or "the update MUST be aborted"."""
        if binding.call_id == request.call_id and request.cseq.number <= binding.cseq:
            raise RefusedError(500, "CSeq Out Of Order")
        return binding

    def _left(self, user: str, removed: list[Binding]) -> bool:
        """Whether a user keeps a binding when some are removed."""
        return any(binding not in removed for binding in self._location.of(user))

    def _ok(self, request: "Request", user: str, changes: _Changes) -> "Response":
        response = request.response(200, "OK", new_token(4))
        now = wall_ms()
        for binding in self._location.of(user):
            # What was just granted is told to the second: a terminal compares it with what it asked for.
            left_s = changes.granted.get(binding.slot) or max(1, (binding.expires_at - now) // 1000)
            response.add("Contact", b"<%s>;expires=%d%s" % (binding.contact, left_s, _params(binding)))
        if changes.granted:
            response.add("Expires", str(changes.longest_s).encode())
        response.add("Date", formatdate(time.time(), usegmt=True).encode())
        return response

    @staticmethod
    def _log(changes: _Changes, what: str, user: str, flow: Flow, **fields: str) -> None:
        if changes.put:
            _log.info(what, user=user, flow=flow.key, expires_s=changes.longest_s, **fields)
        elif changes.remove:
            _log.info("unregistered", user=user, flow=flow.key)


def new_binding(
    request: "Request", user: str, contact: Contact, flow: Flow, way: Way, spi: int | None = None
) -> Binding:
    """The binding that a contact asks for; see `Registrar`.

    Args:
        request: the REGISTER.
        user: whose.
        contact: one of its contacts.
        flow: how it came.
        way: the same in more detail.
        spi: of the hop agreement, None without one.

    Raises:
        ParseError: it can't be had by that way.
    """
    if not contact.parsed.is_sip:
        if spi is not None:
            raise ParseError("contact")  # a terminal has no other
        kind = ALIEN
    else:
        kind = "hop" if spi is not None else PATH if way.path else flow.transport.lower()
    if contact.parsed.scheme == b"sips" and not _is_protected(request, flow, way):
        raise ParseError("way to a SIPS contact", 400, "unprotected")
    binding = Binding(
        user=user,
        contact=contact.uri,
        call_id=request.call_id,
        cseq=request.cseq.number,
        expires_at=wall_ms() + contact.expires_s * 1000,
        q=contact.q,
        kind=kind,
        source=format_address(flow.peer),
        spi=spi,
        user_agent=(request.get("user-agent") or b"").decode("utf-8", "replace")[:_MAX_USER_AGENT],
        instance=contact.instance,
        reg_id=contact.reg_id if way.has_outbound else None,
        params=contact.params,
        path=way.path,
    )
    binding.flow = flow
    return binding


def _nobody(_user: str, _wanted: "list[Wanted]") -> None:
    """Nobody introduces anybody."""


def _is_of_same(old: Binding, new: Binding) -> bool:
    """Whether an old binding is that of the instance of a new one, which has no reg-id; nor must the old one have."""
    return old.reg_id is None and old.instance == new.instance


def _is_protected(request: "Request", flow: Flow, way: Way) -> bool:
    """Whether a SIPS contact may be bound (RFC 5630 section 5.2): "only if all the appropriate URIs are" SIPS, too."""
    schemes = [request.uri, *(address_of(value).uri for value in way.path)]
    return flow.protection != "none" and all(uri[:5].lower() == b"sips:" for uri in schemes)


def _params(binding: Binding) -> bytes:
    """The parameters of a binding's Contact in a 200, but for "expires"."""
    params = [] if binding.q == 1000 else [b";q=%s" % f"{binding.q / 1000:g}".encode()]
    if binding.reg_id is not None:
        params.append(b";reg-id=%d" % binding.reg_id)
    params.append(binding.params)
    return b"".join(params)


def _authentication_info(credentials: Credentials, rspauth: bytes) -> bytes:
    return b'qop=%s, rspauth="%s", cnonce=%s, nc=%s' % (
        credentials.qop,
        rspauth,
        quote(credentials.cnonce),
        credentials.nc,
    )
