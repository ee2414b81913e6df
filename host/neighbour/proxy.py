"""The proxy core (RFC 3261 section 16), and the one place that decides what becomes of a request.

handle_request -> ours to answer?  -> registrar, or OPTIONS
               -> valid? a loop?   -> gate: who sends it?
               -> where to?        -> Targets: bindings | the flow of a dialog | the servers of a domain
               -> Fork             -> client transactions

Everything is decided at once, but for what has to wait: the store, DNS, a connection to be made.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING

import structlog

from sipwire.editing import remove, tokens
from sipwire.errors import ParseError
from sipwire.headers import Address, Via
from sipwire.message import Request, Response
from sipwire.uri import Uri, uri_of

from .agent.assistance import Assistance
from .agent.keyed import brings_keys, revokes
from .agent.policy import Wish
from .agent.security import is_protected
from .claims import CLAIMS, strip_claims
from .eager import Eager
from .fork import MAX_BREADTH, Fork
from .gate import DIALOG, PHONE, Gate, Sender, user_of
from .redirect import Redirect
from .refusal import RefusedError, warning
from .resolver import ResolveError
from .store.database import StoreBusyError, StoreError
from .surroundings import Surroundings
from .targets import Targets
from .transactions import new_branch
from .transport.flow import FlowClosedError, peer_named
from .transport.trunk import TrunkError, Trunks
from .ways import Groups, Way

if TYPE_CHECKING:
    from collections.abc import Mapping

    from .agent.credentials import CredentialService
    from .agent.groups import Member
    from .agent.membership import Membership
    from .agent.security import SecurityAgent
    from .agent.setup import SetupExchange
    from .config import Config
    from .hop import Hops
    from .location import Location
    from .media.calls import Calls
    from .metrics import Metrics
    from .registrar import Registrar
    from .resolver import Resolver
    from .routes import Routes
    from .screen import Screen
    from .store.accounts import Account, Accounts
    from .transactions import Server, Transactions
    from .transport.flow import Flow
    from .transport.udp import UdpTransport

__all__ = ["Proxy"]

_log = structlog.get_logger("proxy")
_MAX_FORWARDS = 70
_CHALLENGES = (401, 407, 494)
_CANCEL_AFTER_S = 1.0  # how long after a 2xx a CANCEL still finds its INVITE, and does nothing
_MAX_UINT = 0xFFFFFFFF
_OPTIONS_SUPPORTED = {b"sec-agree"}
#: Headers that may be, in part or whole, between the sender and us.
_FOR_US = CLAIMS | {"authorization", "proxy-authorization", "require", "proxy-require", "subject"}
_ALLOW = b"INVITE, ACK, CANCEL, BYE, OPTIONS, REGISTER"
_METHODS = frozenset(
    (
        "ACK",
        "BYE",
        "CANCEL",
        "INFO",
        "INVITE",
        "MESSAGE",
        "NOTIFY",
        "OPTIONS",
        "PRACK",
        "PUBLISH",
        "REFER",
        "SUBSCRIBE",
        "UPDATE",
    )
)  # that are counted by name: peers may invent any number of others


class Proxy:
    """Answers, forwards and refuses requests.

    Args:
        config: the configuration.
        transactions: receives and sends.
        gate: says who sends.
        registrar: answers REGISTER.
        location: where users are.
        accounts: who is who.
        hops: flows to terminals.
        routes: our place in route sets.
        resolver: finds the servers of other domains.
        trunks: connections to them.
        connections: all that are open, by token.
        metrics: counts.
        screen: says whether strangers are answered.
        agent: signs, encrypts, verifies and decrypts.
        membership: knows who speaks as a group.
        credentials: tells and asks whose certificate is which.
        setup: introduces terminals.
        calls: relays media.
    """

    def __init__(
        self,
        config: "Config",
        transactions: "Transactions",
        gate: Gate,
        registrar: "Registrar",
        location: "Location",
        accounts: "Accounts",
        hops: "Hops",
        routes: "Routes",
        resolver: "Resolver",
        trunks: Trunks,
        connections: "Mapping[bytes, Flow]",
        metrics: "Metrics",
        screen: "Screen",
        agent: "SecurityAgent",
        membership: "Membership",
        credentials: "CredentialService",
        setup: "SetupExchange",
        calls: "Calls",
    ) -> None:
        self._config = config
        self._domain = config.domain
        self._transactions = transactions
        self._gate = gate
        self._registrar = registrar
        self._location = location
        self._redirect = Redirect(config.domain, config.proxy.mode, accounts)
        self._accounts = accounts
        self._routes = routes
        self._resolver = resolver
        self._trunks = trunks
        self._metrics = metrics
        self._screen = screen
        self._agent = agent
        self._credentials = credentials
        self._setup = setup
        self._calls = calls
        self._work = Eager()
        self._forks: dict[bytes, Fork] = {}
        self._groups = membership.groups
        self._membership = membership
        self._targets = Targets(
            config.domain, location, accounts, hops, self._groups, routes.is_ours, connections, self._warning
        )
        self._around = Surroundings(
            config.proxy,
            transactions,
            routes,
            resolver,
            trunks,
            self._warning,
            self._work.run,
            self._retarget,
            gate.strip_challenges,
        )

    def add_udp(self, transport: "UdpTransport") -> None:
        """A UDP socket, by which phones can be reached again after a restart."""
        self._targets.add_udp(transport)

    @property
    def working(self) -> int:
        """How many requests wait for something."""
        return len(self._work)

    async def close(self) -> None:
        """Stop working on requests."""
        await self._work.close()

    # What transactions call.

    def handle_request(self, server: "Server") -> None:
        """A new request."""
        if server.request.method != "REGISTER":
            self._forks[server.key] = Fork(server, self._around, self._finished)
        self._work.run(self._answer(server))

    def handle_cancel(self, invite: "Server", cancel: Request) -> None:
        """An INVITE was cancelled."""
        fork = self._forks.get(invite.key)
        if fork is not None:
            fork.cancel(cancel.get_all("reason"))

    def handle_ack(self, request: Request, flow: "Flow") -> None:
        """An ACK to a 2xx: it goes where its dialog goes, or nowhere."""
        if len(self._work) < self._config.limits.max_requests:
            self._work.run(self._forward_ack(request, flow))

    def _finished(self, fork: Fork, status: int) -> None:
        self._count(fork.method, status)
        if not fork.is_invite or status >= 300:
            self._forks.pop(fork.server.key, None)
        else:
            asyncio.get_running_loop().call_later(_CANCEL_AFTER_S, self._forks.pop, fork.server.key, None)

    def _count(self, method: str, status: int) -> None:
        self._metrics.requests.labels(method if method in _METHODS else "other", str(status or "none")).inc()

    def _warning(self, reason: str, code: int = 399) -> bytes:
        return warning(self._domain, reason, code)[1]

    async def _answer(self, server: "Server") -> None:
        """Answer a request, or see to it that somebody else does; nothing that goes wrong here reaches another."""
        request = server.request
        try:
            if request.method == "REGISTER":
                await self._register(server)
            else:
                await self._proxy(server, self._forks[server.key])
        except RefusedError as refusal:
            status = refusal.status
            self._refuse(server, refusal)
        except ParseError as error:
            status = error.status
            self._refuse(server, RefusedError(status, error.reason))
        except StoreBusyError as error:
            _log.error("store busy", reason=str(error))
            status = 503
            self._refuse(server, RefusedError(status, "Service Unavailable", ("Retry-After", b"5")))
        except StoreError as error:
            _log.error("store failed", reason=str(error))
            status = 500
            self._refuse(server, RefusedError(status, "Server Internal Error", ("Retry-After", b"5")))
        except Exception:
            _log.exception("request failed", method=request.method)
            status = 500
            self._refuse(server, RefusedError(status, "Server Internal Error"))
        else:
            return
        if request.method == "REGISTER":
            self._metrics.registrations.labels(str(status)).inc()
        else:
            self._count(request.method, status)
        self._forks.pop(server.key, None)

    def _refuse(self, server: "Server", refusal: RefusedError) -> None:
        """Say no: to whom we know for good, to others once, and to those who ask too often not at all."""
        if server.admitted and refusal.status not in _CHALLENGES:
            server.reject(refusal.status, refusal.reason, *refusal.headers, body=refusal.body)
        elif server.admitted or refusal.is_paid or self._screen.may_answer(server.flow):
            server.answer_once(refusal.status, refusal.reason, *refusal.headers)
        else:
            server.abandon()

    async def _register(self, server: "Server") -> None:
        uri = uri_of(server.request.uri)
        if not uri.is_sip:
            raise RefusedError(416, "Unsupported URI Scheme")
        if not self._routes.is_ours(uri):
            raise RefusedError(403, "Forbidden", ("Warning", self._warning("not the registrar of that domain")))
        await self._registrar.handle(server)
        server.flow.trust()
        self._metrics.registrations.labels("200").inc()

    # Security.

    def _wish_of(self, request: Request, sender: Sender) -> Wish:
        """What one of ours wants done for a request; nothing, for others."""
        account = self._account_of(sender)
        return Wish() if account is None else self._agent.asked(request, account)

    def _account_of(self, sender: Sender) -> "Account | None":
        """The account of a sender of ours; one that is known by its dialog alone is named by its address."""
        if sender.kind != DIALOG:
            return self._accounts.by_user(sender.user)
        uri = uri_of(sender.name.encode("latin-1"))
        ours = uri.is_sip and uri.host.lower() == self._domain.encode()
        return self._accounts.by_user(user_of(uri) or "") if ours else None

    def _wants_proof(self, request: Request, flow: "Flow", sender: Sender, wish: Wish) -> bool:
        """Whether more has to be shown than that a dialog is known, before something is signed in a user's name.

        Everybody on the way sees the cookie, and the other side as well. It will do where the request comes by the way
        that the user has registered by; else its sender has to prove who that is.
        """
        if sender.kind != DIALOG or not is_protected(request) or not self._agent.may_sign(wish):
            return False
        uri = uri_of(sender.name.encode("latin-1"))
        if not uri.is_sip or uri.host.lower() != self._domain.encode():
            return False
        user = user_of(uri) or ""
        group = self._groups.of(user)
        users = [user] if group is None else group.members
        return not any(self._targets.is_at(one, flow) for one in users)

    def _assist(
        self, request: Request, written: Request, flow: "Flow", sender: Sender, wish: Wish, *, known: bool
    ) -> Assistance:
        """What the security agent makes of a request.

        Args:
            request: is opened where it comes from elsewhere, and is the group's where a member speaks as one.
            written: as its sender wrote it.
            flow: how it came.
            sender: who that is.
            wish: what it wants.
            known: whether it brought a route cookie of ours.

        Raises:
            RefusedError: a check failed, or a level is not reached.
        """
        account = self._account_of(sender)
        assistance = Assistance(self._agent, self._accounts, self._groups, self._domain, flow, account, wish)
        if self._groups.exist:
            assistance.written = (written.get("from") or b"", written.call_id)
            if sender.is_local:
                assistance.member = self._membership.of_sender(request, account, known=known)
        if assistance.member is not None:
            self._groups.disguise(request, assistance.member)
        elif account is None:
            uri = uri_of(request.uri)
            here = request.get("route") is None and self._routes.is_ours(uri)  # whatever To says
            meant = uri if here else request.to.parsed_uri()
            callee = (user_of(meant) or "") if here or self._routes.is_ours(meant) else ""
            domain = request.from_.parsed_uri().host.decode("latin-1").lower()
            assistance.open(request, callee, domain)
        return assistance

    # Forwarding.

    async def _proxy(self, server: "Server", fork: Fork) -> None:
        request = server.request.copy()
        keys = {key for key, _ in request.fields}
        self._check(request, keys)
        loop_hash = _loop_hash(request)
        self._check_loop(request, loop_hash)
        known, token, request = self._membership.take(request, server.flow)
        self._check_sips(request, server.flow)
        in_dialog = known and bool(request.to.tag)
        sender = await self._gate.admit(server.request, server.flow, in_dialog=in_dialog)
        server.admitted = True
        if sender.kind == PHONE:
            server.flow.trust()
        uri = uri_of(request.uri)
        if not uri.is_sip:
            raise RefusedError(416, "Unsupported URI Scheme")
        here = request.get("route") is None and self._routes.is_ours(uri)
        if here and self._credentials.handle(server, request, sender):
            self._forks.pop(server.key, None)
            return
        if here and uri.user is None:
            self._answer_ourselves(server)
            self._forks.pop(server.key, None)
            return
        breadth = request.uint("max-breadth", _MAX_UINT) if "max-breadth" in keys else None
        wish = self._wish_of(request, sender)
        if self._wants_proof(request, server.flow, sender, wish):
            await self._gate.prove(server.request, server.flow)
        self._prepare(request)
        if fork.cancelled:
            raise RefusedError(487, "Request Terminated")
        fork.assistance = self._assist(request, server.request, server.flow, sender, wish, known=known)
        if brings_keys(request):
            await self._setup.take(server, request, sender, fork.assistance.received, here=here)
            self._forks.pop(server.key, None)
            self._count(request.method, 200)
            return
        if revokes(request):
            await self._setup.revoked(request, sender)
        fork.media = self._calls.exchange(request, server.request, server.flow, sender, fork.assistance)
        to_member = self._membership.behind(request)
        fork.opened = request
        groups = self._find(request, sender, token, to_member)
        fork.begin(groups, MAX_BREADTH if breadth is None else min(breadth, MAX_BREADTH), loop_hash)

    def _check(self, request: Request, keys: set[str]) -> None:
        """RFC 3261 section 16.3, before anybody is asked who they are."""
        if request.uri.partition(b":")[0].lower() not in (b"sip", b"sips"):
            raise RefusedError(416, "Unsupported URI Scheme")
        if request.uint("max-forwards", 255) == 0:
            raise RefusedError(483, "Too Many Hops")
        if "proxy-require" in keys:
            unknown = [name for name in tokens(request, "proxy-require") if name not in _OPTIONS_SUPPORTED]
            if unknown:
                raise RefusedError(420, "Bad Extension", ("Unsupported", b", ".join(unknown)))
        request.to.parsed_uri()  # where it goes may depend on it

    def _check_sips(self, request: Request, flow: "Flow") -> None:
        """The Request-URI, with what a strict router did to it undone, is not for a hop that is not protected."""
        if request.uri[:5].lower() == b"sips:" and flow.protection == "none":
            # RFC 5630 section 3.1: a SIPS URI is followed over TLS on every hop, ours included.
            text = f"a sips URI wants TLS on every hop, and this came by {flow.transport}"
            raise RefusedError(403, "Forbidden", ("Warning", self._warning(text)))

    def _check_loop(self, request: Request, loop_hash: bytes) -> None:
        """RFC 5393 section 4.2: the same branch hash in a Via of ours means that nothing has changed since."""
        if not any(loop_hash in line for key, line in request.fields if key == "via"):
            return
        for value in request.values("via"):
            via = Via.parse(value)
            if self._routes.is_our_via(via.sent_by) and via.branch.endswith(b"." + loop_hash):
                raise RefusedError(482, "Loop Detected")

    def _answer_ourselves(self, server: "Server") -> None:
        """A request to the domain itself."""
        if server.request.method != "OPTIONS":
            raise RefusedError(404, "Not Found")
        server.reject(200, "OK", ("Allow", _ALLOW), ("Accept", b"application/sdp"), ("Supported", b"sec-agree"))

    def _prepare(self, request: Request) -> None:
        """What changes whoever gets it."""
        limit = request.uint("max-forwards", 255)
        request.set("Max-Forwards", b"%d" % (_MAX_FORWARDS if limit is None else limit - 1))
        if _FOR_US.isdisjoint(key for key, _ in request.fields):
            return
        request.compact()
        strip_claims(request)
        self._gate.strip_credentials(request)
        for key in ("require", "proxy-require"):
            if b"sec-agree" in tokens(request, key):
                # It was for us (RFC 3329 section 2.3.1).
                rest = [name for name in tokens(request, key) if name != b"sec-agree"]
                remove(request, key)
                if rest:
                    request.add(key.title(), b", ".join(rest))

    def _find(self, request: Request, sender: Sender, token: bytes, member: "Member | None") -> Groups:
        """Find out where it goes (section 16.5).

        Raises:
            RefusedError: nowhere.
        """
        targets = self._targets
        user = targets.user_here(request, sender) if member is None else None
        if user is not None:
            moved = self._redirect.answer(request, sender, user, self._location.of(user))
            if moved is not None:
                raise moved
            return targets.of_user(request, user)
        peer = peer_named(token, request.uri)
        if peer is not None:
            return [[[Way(request, uri=peer, is_phone=targets.is_phone(request, [peer.host.decode()]))]]]
        ways = targets.in_dialog(request, token, member)
        if ways:
            return [[ways]]
        if token and request.get("route") is None:
            # As RFC 5626 section 5.3.1 has it: nobody but that flow leads to the phone.
            raise RefusedError(430, "Flow Failed", ("Warning", self._warning("its connection is gone")))
        return targets.elsewhere(request, sender)

    def _retarget(self, fork: Fork, response: Response) -> "tuple[Groups, bool]":
        """Follow a redirection to other users of ours (section 16.7 step 4); whoever is elsewhere is for the caller.

        Returns:
            The groups for them, and whether something is left for the caller.
        """
        groups: Groups = []
        left = []
        if fork.request.to.tag:
            return [], True
        first = uri_of(fork.request.uri)
        if self._routes.is_ours(first):
            fork.tried.add(user_of(first) or "")
        for contact, uri in _redirections(response):
            user = user_of(uri) if uri.scheme == first.scheme and self._routes.is_ours(uri) else None
            if user is None or (self._accounts.by_user(user) is None and self._groups.of(user) is None):
                left.append(contact)
            elif user not in fork.tried:
                # By user: URIs can be written in any number of ways, and each would be followed.
                fork.tried.add(user)
                request = fork.opened.copy()
                request.uri = contact.uri
                try:
                    groups += self._targets.of_user(request, user)
                except RefusedError:
                    left.append(contact)
        if groups and left:
            remove(response, "contact")
            for contact in left:
                response.add("Contact", contact.serialize())
        return groups, bool(left)

    async def _forward_ack(self, request: Request, flow: "Flow") -> None:
        try:
            ack = request.copy()
            if ack.uint("max-forwards", 255) == 0:
                return
            known, token, ack = self._membership.take(ack, flow)
            self._check_sips(ack, flow)
            if not known or not ack.to.tag:
                self._screen.may_answer(flow)
                return  # of no dialog that was made through here: to a challenge, mostly
            sender = await self._gate.admit(request, flow, in_dialog=True)
            wish = self._wish_of(ack, sender)
            if self._wants_proof(ack, flow, sender, wish):
                raise RefusedError(403, "Forbidden")
            self._prepare(ack)
            assistance = self._assist(ack, request, flow, sender, wish, known=known)
            if brings_keys(ack):
                raise RefusedError(403, "Forbidden")
            media = self._calls.exchange(ack, request, flow, sender, assistance)
            to_member = self._membership.behind(ack)
            peer = peer_named(token, ack.uri)
            ways = self._targets.in_dialog(ack, token, to_member) if peer is None else []
            elsewhere = not token and not self._routes.is_ours(uri_of(ack.uri))
            if not ways and (elsewhere or peer is not None or ack.get("route") is not None):
                targets = await self._resolver.locate(peer or self._targets.next_hop(ack, sender))
                is_phone = peer is not None and self._targets.is_phone(ack, [peer.host.decode()])
                ways = [Way(ack, target=targets[0], is_phone=is_phone)]
            goes = await self._open(ways)
            if goes is not None:
                ack = media.send(None, ways[0], goes)
                if ways[0].is_phone:
                    assistance.hand_on(ack, ways[0].user)
                elif ack.body:
                    ack, _ = await assistance.forward(ack, goes, min(goes.identities, default=""), "")
                self._transactions.send_ack(ack, goes, new_branch())
        except (RefusedError, ParseError, ResolveError, TrunkError, FlowClosedError, StoreError) as error:
            # An ACK is never answered; the callee repeats its 2xx and gives up in the end.
            if isinstance(error, RefusedError | ParseError):
                self._screen.may_answer(flow)  # strangers pay for it all the same
            _log.debug("ACK dropped", reason=str(error))

    async def _open(self, ways: list[Way]) -> "Flow | None":
        """The flow of the first way that has one, or is found to lead somewhere; None where there are no ways.

        Raises:
            TrunkError: nothing is at the end of the last of them either.
        """
        error = None
        for way in ways:
            try:
                return way.flow if way.target is None else await self._trunks.flow(way.target)
            except TrunkError as failure:
                error = failure
        if error is not None:
            raise error
        return None


def _redirections(response: Response) -> list[tuple[Address, Uri]]:
    """The contacts of a 3xx, the preferred first; none where they can't be read."""
    try:
        contacts = sorted(response.addresses("contact"), key=_preference, reverse=True)
        return [(contact, contact.parsed_uri()) for contact in contacts]
    except ParseError:
        return []


def _preference(contact: Address) -> float:
    """The q of a contact; who can't write it comes last."""
    value = contact.param("q") or b"1"
    return float(value) if len(value) <= 5 and value.replace(b".", b"", 1).isdigit() else 0.0


def _loop_hash(request: Request) -> bytes:
    """What decides where a request goes (section 16.6 step 8): the same again means that it runs in a circle."""
    parts = [request.uri, request.from_.tag, request.to.tag, request.call_id, b"%d" % request.cseq.number]
    parts += [line for key, line in request.fields if key in ("route", "proxy-require")]
    return hashlib.blake2s(b"\n".join(parts), digest_size=6).hexdigest().encode()
