"""The credential service (RFC 6072): whose certificate is which is asked and told by the event package ``certificate``.

    notifier      SUBSCRIBE to one of ours --> 200 --> NOTIFY with the certificate, and another whenever it changes
    subscriber    somebody elsewhere <-- SUBSCRIBE, Expires: 0 <-- fetch();  NOTIFY --> fetch() returns

Subscriptions are in memory: after a restart a refresh gets 481, and who wants to know subscribes anew. What is fetched
is worth nothing until its path and name have been checked, which is for the caller: that it arrived proves nothing.
"""

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING

import structlog
from cryptography.hazmat.primitives.serialization import Encoding

from sipwire.dialog import Dialog, contact_of
from sipwire.editing import tokens
from sipwire.errors import ParseError
from sipwire.grammar import get_param, is_token, parse_params, split_list
from sipwire.message import Request, Response
from sipwire.transaction import TRANSPORT_ERROR
from sipwire.uri import Uri, uri_of

from ..eager import Eager
from ..gate import DIALOG, PEER, Sender, user_of
from ..refusal import RefusedError
from ..resolver import ResolveError
from ..transactions import new_token
from ..transport.trunk import TrunkError
from ..transport.udp import UdpFlow
from ..ways import size_bytes
from .cms.certificates import load_certificate
from .cms.errors import CmsError
from .cms.signed import read_certificates
from .mime import MimeError, of_message
from .names import proves
from .smime import certificates_entity

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cryptography import x509

    from sipwire.message import Message

    from ..config import Config
    from ..resolver import Resolver
    from ..store.accounts import Accounts
    from ..transactions import Client, Server, Transactions
    from ..transport.flow import Flow
    from ..transport.trunk import Trunks
    from .certificates import Certificates

__all__ = ["FETCH_S", "CredentialService"]

_log = structlog.get_logger("credentials")
_PACKAGE = b"certificate"
_CERTIFICATE = b"application/pkix-cert"
_CHAIN = b"application/pkcs7-mime"
_ANY = (b"*/*", b"application/*")
_SUPPORTED = {b"sec-agree"}
_LONGEST_S = 86_400  # RFC 6072 section 6.3: "the default subscription duration for this event package is one day"
_MAX_EXPIRES = 0xFFFFFFFF
_MAX_SUBSCRIPTIONS = 10_000  # that last, 4 KB each; beyond, subscribers get the certificate and no news of it
_MAX_OF_SENDER = 1_000  # of these: a domain's proxy asks for all its users
_MAX_DIALOG_BYTES = 2048  # of a subscription that lasts: its addresses and route set; ten times what is usual
_LATER_S = 3600  # after which one that is not let last may ask again
_AT_ONCE, _PAUSE_S = 50, 0.05  # NOTIFYs that a change of the domain's certificate sends: a thousand a second
_MAX_DATAGRAM_BYTES = 1300  # RFC 3261 section 18.1.1
#: How long the answer of a credential service is waited for, in all: a call waits as long.
FETCH_S = 2.0
_MAX_FETCHES = 1000  # at a time; beyond, nothing is found
_NEAREST = ("user", "domain", "")  # what certificates may prove, the best first
_MAX_BODY_BYTES = 32_768  # of what is fetched: a chain of RSA certificates has a tenth of it


class _Subscription:
    """Somebody who wants to know a certificate.

    Attributes:
        user: whose certificate, "" for the domain's.
        aor: the same, as ``sip:user@domain`` or ``sip:domain``.
        sender: who subscribed, and nobody else may change it.
        domain: of a peer, whose servers get the NOTIFY; "" for ours, who get it by ``flow``.
        flow: the way that the last SUBSCRIBE came.
        dialog: see there.
        event: our Event value: with the ``id`` of the subscriber's, if there is one.
        contact: ours.
        with_chain: whether the subscriber takes more than the certificate.
        ends_at: in seconds of the loop's clock.
        reason: why it has ended, b"" while it lasts.
        is_telling: whether a NOTIFY is under way.
        has_more: whether another is to follow it.
        told: the certificates of the last one.
        timer: of its end.
    """

    __slots__ = (
        "aor",
        "contact",
        "dialog",
        "domain",
        "ends_at",
        "event",
        "flow",
        "has_more",
        "is_telling",
        "reason",
        "sender",
        "timer",
        "told",
        "user",
        "with_chain",
    )

    def __init__(self, user: str, aor: str, sender: Sender, dialog: Dialog, flow: "Flow", contact: bytes) -> None:
        self.user = user
        self.aor = aor
        self.sender = sender
        self.domain = sender.name if sender.kind == PEER else ""
        self.dialog = dialog
        self.flow = flow
        self.contact = contact
        self.event = _PACKAGE
        self.with_chain = False
        self.ends_at = 0.0
        self.reason = b"timeout"
        self.is_telling = False
        self.has_more = False
        self.told: Sequence[x509.Certificate] = ()
        self.timer: asyncio.TimerHandle | None = None

    def size_bytes(self) -> int:
        """About how many bytes it keeps that others chose."""
        dialog = self.dialog
        parts = [dialog.call_id, dialog.local, dialog.remote, dialog.target, self.event, *dialog.route_set]
        return sum(map(len, parts))


class _Fetch:
    """A question to somebody's credential service.

    Attributes:
        aor: whose certificate is wanted.
        domain: who alone may tell.
        call_id: of the dialog.
        tag: ours.
        other_tag: theirs, None until it is known.
        found: what becomes of it.
        client: the SUBSCRIBE, None when it has its answer.
        timer: when it is given up.
    """

    __slots__ = ("aor", "call_id", "client", "domain", "found", "other_tag", "tag", "timer")

    def __init__(self, aor: bytes, domain: str, loop: asyncio.AbstractEventLoop) -> None:
        self.aor = aor
        self.domain = domain
        self.call_id = new_token()
        self.tag = new_token()
        self.other_tag: bytes | None = None
        self.found: asyncio.Future[tuple[x509.Certificate, ...]] = loop.create_future()
        self.client: Client | None = None
        self.timer: asyncio.TimerHandle | None = None


class CredentialService:
    """See the module.

    Args:
        config: our domain and groups.
        certificates: ours.
        accounts: who is who.
        transactions: sends.
        resolver: finds the servers of other domains.
        trunks: connects to them.
    """

    def __init__(
        self,
        config: "Config",
        certificates: "Certificates",
        accounts: "Accounts",
        transactions: "Transactions",
        resolver: "Resolver",
        trunks: "Trunks",
    ) -> None:
        self._config = config
        self._domain = config.domain.encode()
        self._certificates = certificates
        self._accounts = accounts
        self._transactions = transactions
        self._resolver = resolver
        self._trunks = trunks
        self._loop = transactions.loop
        self._work = Eager()
        self._subscriptions: dict[bytes, _Subscription] = {}  # by our tag
        self._of_sender: Counter[Sender] = Counter()
        self._fetches: dict[bytes, _Fetch] = {}  # by address-of-record
        self._by_tag: dict[bytes, _Fetch] = {}

    def __len__(self) -> int:
        """How many subscriptions last."""
        return len(self._subscriptions)

    async def close(self) -> None:
        """Forget subscriptions, and wait for nothing any more."""
        for one in list(self._subscriptions.values()):
            self._drop(one)
        for fetch in list(self._fetches.values()):
            self._found(fetch, ())
        await self._work.close()

    def handle(self, server: "Server", request: Request, sender: Sender) -> bool:
        """Answer a request to one of ours or to the domain, if it is of this event package.

        Args:
            server: its transaction.
            request: it, our own entries taken off its Route; its Request-URI is of our domain.
            sender: who sent it.

        Returns:
            False where it is not for us. Else it has been answered.

        Raises:
            RefusedError: with what to answer.
            ParseError: malformed.
        """
        if request.method not in ("SUBSCRIBE", "NOTIFY") or _package(request) != _PACKAGE:
            return False
        if request.method == "NOTIFY":
            if uri_of(request.uri).user is not None:
                return False  # for a phone that has subscribed itself
        elif sender.kind == DIALOG:
            return False  # a cookie proves a dialog, and this begins another
        unknown = [name for name in tokens(request, "require") if name not in _SUPPORTED]
        if unknown:
            raise RefusedError(420, "Bad Extension", ("Unsupported", b", ".join(unknown)))
        if request.method == "NOTIFY":
            self._take(server, request, sender)
        else:
            self._subscribe(server, request, sender)
        return True

    # The notifier.

    def changed(self, names: "Collection[str]") -> None:
        """Tell subscribers of certificates that are others now.

        Args:
            names: whose, as ``sip:user@domain`` and ``sip:domain``, see `Certificates.reload`.
        """
        # Whoever has no certificate of its own is spoken for by the domain's.
        everybody = f"sip:{self._config.domain}" in names
        concerned = [one for one in self._subscriptions.values() if everybody or one.aor in names]
        if concerned:
            self._work.run(self._tell_all(concerned))

    async def _tell_all(self, concerned: list[_Subscription]) -> None:
        for number, one in enumerate(concerned, 1):
            if not one.reason and one.told != self._certificates.published(one.user):
                self._tell(one)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(_PAUSE_S)

    def _subscribe(self, server: "Server", request: Request, sender: Sender) -> None:
        """Take a SUBSCRIBE (RFC 6665 section 4.2.1)."""
        expires = request.uint("expires", _MAX_EXPIRES)
        expires = _LONGEST_S if expires is None else min(expires, _LONGEST_S)
        with_chain = _takes_chain(request)
        tag = request.to.tag
        one = self._known(request, sender) if tag else self._begin(request, sender, server.flow)
        one.flow = server.flow
        if not tag or request.get("accept") is not None:
            one.with_chain = with_chain
        is_refused = expires > 0 and not self._may_last(one)
        self._last(one, 0 if is_refused else expires)
        if is_refused:
            one.reason = b"probation;retry-after=%d" % _LATER_S
            _log.warning("subscription does not last", of=one.aor, sender=sender.name or sender.user)
        response = request.response(200, "OK", one.dialog.local_tag)
        for value in request.get_all("record-route"):
            response.add("Record-Route", value)
        response.add("Contact", one.contact)
        response.add("Expires", b"%d" % (0 if is_refused else expires))
        server.respond(response)
        # At once, whatever has changed since: so a subscriber learns how things are (RFC 6665 section 4.2.1).
        self._tell(one)

    def _begin(self, request: Request, sender: Sender, flow: "Flow") -> _Subscription:
        """A subscription that does not last yet.

        Raises:
            RefusedError: there is no such user.
            ParseError: it can't be followed back.
        """
        uri = uri_of(request.uri)
        user = user_of(uri)
        if uri.user is not None and not self._exists(user):
            raise RefusedError(404, "Not Found")
        dialog = Dialog.as_callee(request, new_token())
        dialog.confirmed = True
        dialog.new_request("NOTIFY")  # a route set that can't be followed is refused now; numbers may have gaps
        aor = f"sip:{user}@{self._config.domain}" if user is not None else f"sip:{self._config.domain}"
        one = _Subscription(user or "", aor, sender, dialog, flow, _contact(flow, sips=uri.scheme == b"sips"))
        identifier = _identifier(request)
        if identifier is not None:
            one.event = _PACKAGE + b";id=" + identifier
        return one

    def _known(self, request: Request, sender: Sender) -> _Subscription:
        """The subscription that a request belongs to.

        Raises:
            RefusedError: none of this sender's, or it comes out of order.
            ParseError: it can't be followed back.
        """
        one = self._subscriptions.get(request.to.tag)
        if one is None or one.sender != sender or not one.dialog.matches(request):
            raise RefusedError(481, "Call/Transaction Does Not Exist")
        identifier = _identifier(request)
        if one.event != _PACKAGE + (b"" if identifier is None else b";id=" + identifier):
            raise RefusedError(403, "Forbidden")  # a dialog has one subscription here
        if not one.dialog.receive(request):
            raise RefusedError(500, "Server Internal Error")
        if one.user and not self._exists(one.user):
            self._drop(one)
            raise RefusedError(404, "Not Found")
        if request.get("contact") is not None:
            one.dialog.target = contact_of(request)  # SUBSCRIBE refreshes it (RFC 6665 section 4.4.1)
        return one

    def _exists(self, user: str | None) -> bool:
        return bool(user) and (
            self._accounts.by_user(user or "") is not None or self._config.group_of(user or "") is not None
        )

    def _may_last(self, one: _Subscription) -> bool:
        """Whether there is room for a subscription, or it has its room already."""
        if one.size_bytes() > _MAX_DIALOG_BYTES:
            return False
        if one.dialog.local_tag in self._subscriptions:
            return True
        return len(self._subscriptions) < _MAX_SUBSCRIPTIONS and self._of_sender[one.sender] < _MAX_OF_SENDER

    def _last(self, one: _Subscription, expires_s: int) -> None:
        """Let a subscription last from now on; 0 ends it."""
        if not expires_s:
            self._drop(one)
            return
        if one.dialog.local_tag not in self._subscriptions:
            self._subscriptions[one.dialog.local_tag] = one
            self._of_sender[one.sender] += 1
        one.reason = b""
        one.ends_at = self._loop.time() + expires_s
        if one.timer is not None:
            one.timer.cancel()
        one.timer = self._loop.call_at(one.ends_at, self._expire, one)

    def _expire(self, one: _Subscription) -> None:
        self._drop(one)
        self._tell(one)

    def _drop(self, one: _Subscription) -> None:
        """A subscription has ended; whoever is to be told is told by the caller."""
        one.reason = b"timeout"
        if one.timer is not None:
            one.timer.cancel()
            one.timer = None
        if self._subscriptions.pop(one.dialog.local_tag, None) is not None:
            self._of_sender[one.sender] -= 1
            if not self._of_sender[one.sender]:
                del self._of_sender[one.sender]

    # NOTIFY requests on their way out.

    def _tell(self, one: _Subscription) -> None:
        """Send a NOTIFY, after that which is under way."""
        if one.is_telling:
            one.has_more = True
            return
        one.is_telling = True
        one.has_more = False
        self._work.run(self._send(one))

    async def _send(self, one: _Subscription, *, again: bool = False) -> None:
        """Send a NOTIFY; nobody sees what goes wrong here."""

        def event(client: "Client", answer: "Response | str") -> None:
            if isinstance(answer, Response):
                self._answered(one, answer)
            elif answer == TRANSPORT_ERROR and one.domain and not again:
                # Its connection may have died without our knowing: once more, on another.
                self._work.run(self._send(one, again=True))
            else:
                self._failed(one, client.failure or answer)

        try:
            flow = await self._reach(one) if one.domain else one.flow
            request = self._notification(one)
            if isinstance(flow, UdpFlow) and size_bytes(request) > _MAX_DATAGRAM_BYTES:
                flow = await self._stream(flow)
            self._transactions.request(request, flow, event)
        except (ParseError, ResolveError, TrunkError) as error:
            self._failed(one, str(error))
        except Exception:
            _log.exception("NOTIFY not sent", of=one.aor)
            self._failed(one, "internal error")

    async def _reach(self, one: _Subscription) -> "Flow":
        """A trunk to the domain that subscribed, whatever its Contact and Record-Route say."""
        scheme = b"sips" if one.dialog.target[:5].lower() == b"sips:" else b"sip"
        return await self._trunks.reach(Uri(one.domain.encode(), scheme=scheme), self._resolver)

    async def _stream(self, flow: UdpFlow) -> "Flow":
        """By TCP what is too large for a datagram; where that can't be had, by UDP all the same."""
        try:
            return await self._trunks.stream_to(flow)
        except TrunkError:
            return flow

    def _notification(self, one: _Subscription) -> Request:
        """The NOTIFY that tells how things are now (RFC 6072 section 6.4).

        Raises:
            ParseError: the route set can't be followed.
        """
        request = one.dialog.new_request("NOTIFY")
        request.add("Contact", one.contact)
        request.add("Event", one.event)
        if one.reason:
            state = b"terminated;reason=" + one.reason
        else:
            state = b"active;expires=%d" % max(1, math.ceil(one.ends_at - self._loop.time()))
        request.add("Subscription-State", state)
        one.told = self._certificates.published(one.user)
        request.add("Content-Disposition", b"signal")
        if one.with_chain:
            entity = certificates_entity(one.told)
            request.set_body(entity.get("content-type") or _CHAIN, entity.content())
        else:
            request.set_body(_CERTIFICATE, one.told[0].public_bytes(Encoding.DER))
        return request

    def _answered(self, one: _Subscription, answer: Response) -> None:
        if answer.status < 200:
            return
        if answer.status >= 300:
            if answer.get("retry-after") is None or answer.status in (408, 481):
                self._failed(one, f"{answer.status} to the NOTIFY")
                return
            one.told = ()  # busy just now, and so nothing has been told: the next refresh or change does it
            one.has_more = False
        one.is_telling = False
        if one.has_more:
            self._tell(one)

    def _failed(self, one: _Subscription, reason: str) -> None:
        """Nobody is there any more who wants to know (RFC 6665 section 4.2.2)."""
        one.is_telling = one.has_more = False
        _log.debug("subscription dropped", of=one.aor, sender=one.sender.name or one.sender.user, reason=reason)
        self._drop(one)

    # The subscriber.

    async def fetch(self, aor: bytes, flow: "Flow") -> "tuple[x509.Certificate, ...]":
        """Ask somebody's credential service for a certificate, for two seconds at most.

        Args:
            aor: of another domain, as ``sip:user@host`` or ``sip:host``.
            flow: the trunk that leads there.

        Returns:
            The certificate, which names the address or its domain, and what else came with it; nothing where there is
            none, for whatever reason. Nothing else has been checked but that the domain itself has sent it.
        """
        fetch = self._fetches.get(aor)
        if fetch is None:
            if len(self._fetches) >= _MAX_FETCHES:
                return ()
            try:
                fetch = self._ask(aor, uri_of(aor).host.decode("latin-1").lower(), flow)
            except ParseError:
                return ()
        # Shielded: one caller that gives up must not take the answer from the others.
        return await asyncio.shield(fetch.found)

    def _ask(self, aor: bytes, domain: str, flow: "Flow") -> _Fetch:
        """Send a SUBSCRIBE that lasts for one NOTIFY (RFC 6665 section 4.4.3)."""
        fetch = _Fetch(aor, domain, self._loop)
        request = Request("SUBSCRIBE", aor)
        request.add("Max-Forwards", b"70")
        request.add("From", b"<sip:%s>;tag=%s" % (self._domain, fetch.tag))
        request.add("To", b"<" + aor + b">")
        request.add("Call-ID", fetch.call_id)
        request.add("CSeq", b"1 SUBSCRIBE")
        request.add("Contact", _contact(flow, sips=False))
        request.add("Event", _PACKAGE)
        request.add("Expires", b"0")
        request.add("Accept", _CERTIFICATE + b", " + _CHAIN)
        self._fetches[aor] = self._by_tag[fetch.tag] = fetch

        def event(_client: "Client", answer: "Response | str") -> None:
            self._heard(fetch, answer)

        fetch.timer = self._loop.call_later(FETCH_S, self._found, fetch, ())
        fetch.client = self._transactions.request(request, flow, event)
        return fetch

    def _heard(self, fetch: _Fetch, answer: "Response | str") -> None:
        """The SUBSCRIBE has been answered, or will never be."""
        if isinstance(answer, Response):
            if answer.status < 200:
                return
            if answer.status < 300:
                fetch.client = None
                if fetch.other_tag is None:
                    fetch.other_tag = answer.to.tag  # a NOTIFY of any other is of a fork of theirs
                return
        fetch.client = None
        self._found(fetch, ())

    def _take(self, server: "Server", request: Request, sender: Sender) -> None:
        """Take a NOTIFY, which is for a question of ours or for nobody.

        Raises:
            RefusedError: for nobody.
        """
        fetch = self._by_tag.get(request.to.tag)
        if (
            fetch is None
            or request.call_id != fetch.call_id
            or sender.kind != PEER
            or sender.name != fetch.domain
            or fetch.other_tag not in (None, request.from_.tag)
        ):
            raise RefusedError(481, "Call/Transaction Does Not Exist")
        fetch.other_tag = request.from_.tag
        server.reject(200, "OK")
        found = _read(request, fetch.aor)
        state = (request.get("subscription-state") or b"").partition(b";")[0].strip(b" \t").lower()
        # "pending" is followed by another that says more; whatever has a body is all there is.
        if found or request.body or state == b"terminated":
            self._found(fetch, found)

    def _found(self, fetch: _Fetch, found: "tuple[x509.Certificate, ...]") -> None:
        """A question is over; what arrives later gets 481, which ends it at the other end too."""
        if self._by_tag.pop(fetch.tag, None) is None:
            return
        del self._fetches[fetch.aor]
        if fetch.timer is not None:
            fetch.timer.cancel()
        if fetch.client is not None and not found:
            fetch.client.abandon()
        fetch.client = None
        if not fetch.found.done():
            fetch.found.set_result(found)


def _package(message: "Message") -> bytes:
    """The event package that a message is of, compared byte by byte (RFC 6665 section 8.2.1); b"" where it has none."""
    return (message.get("event") or b"").partition(b";")[0].strip(b" \t")


def _identifier(request: Request) -> bytes | None:
    """The ``id`` of an Event, None where it has none.

    Raises:
        ParseError: malformed.
    """
    found = get_param(parse_params(split_list(request.get("event") or b"", b";")[1:]), "id")
    if found is not None and not is_token(found):
        raise ParseError("Event")
    return found


def _takes_chain(request: Request) -> bool:
    """Whether a subscriber takes the chain, as the only one or beside the bare certificate.

    Raises:
        RefusedError: it takes neither.
    """
    kinds = {token.partition(b";")[0].strip(b" \t") for token in tokens(request, "accept")}
    if _CHAIN in kinds:
        return True
    # "If no "Accept" header field is present in the SUBSCRIBE, the body type defined in this document MUST be assumed."
    if request.get("accept") is not None and kinds.isdisjoint((_CERTIFICATE, *_ANY)):
        raise RefusedError(406, "Not Acceptable")
    return False


def _contact(flow: "Flow", *, sips: bool) -> bytes:
    """Our Contact on a flow: the domain, or where our listener can be reached."""
    public = flow.listener.public.encode()
    if sips:
        return b"<sips:%s>" % public
    transport = b"" if flow.transport == "UDP" else b";transport=" + flow.transport.lower().encode()
    return b"<sip:%s%s>" % (public, transport)


def _read(request: Request, aor: bytes) -> "tuple[x509.Certificate, ...]":
    """The certificates in a NOTIFY, that of an address-of-record first; nothing where it has none that can be read."""
    if not 0 < len(request.body) <= _MAX_BODY_BYTES:
        return ()
    try:
        entity = of_message(request)
        if entity.kind == _CERTIFICATE:
            found = [load_certificate(entity.content())[0]]
        elif entity.kind == _CHAIN:
            found = list(read_certificates(entity.content()))
        else:
            return ()
    except (MimeError, CmsError):
        return ()
    # In a chain they are a set, which has no order but that of its bytes.
    found.sort(key=lambda one: _NEAREST.index(proves(one, aor)))
    return tuple(found) if found and proves(found[0], aor) else ()
