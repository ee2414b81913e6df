"""Which calls are relayed: what becomes of the descriptions in requests and responses on their way through the proxy.

    proxy: a request is forwarded   -> Calls.exchange -> Exchange, or nothing to do
    fork: to one of its targets     -> Exchange.send      the description for that target, before it is sealed
    fork: a response of it          -> Exchange.answer    the description for who has asked, after it was opened
    fork: a target is over          -> Exchange.drop
    fork: the request is answered   -> Exchange.finish

Each target of an INVITE has relays of its own: each is a call until it is known who has answered. A call that was
answered is found again by Call-ID and tags. They live in memory: after a restart a call goes on without its relays, and
is relayed again from its next offer on.
"""

import asyncio
import hashlib
from typing import TYPE_CHECKING, TypeVar

import structlog

from sipwire.errors import ParseError
from sipwire.sdp import Session
from sipwire.uri import uri_of

from ..gate import PEER
from ..refusal import RefusedError, warning
from .bodies import DESCRIPTION, NOTHING, OPAQUE, SEALED, kind_of, replace
from .call import RelayedCall
from .descriptions import Stream, hosts_of
from .keying import MediaError
from .legs import Leg, needed
from .ports import NoRoomError
from .unrelayed import check

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipwire.message import Message, Request, Response

    from ..accounting import Accounting, Record
    from ..agent.assistance import Assistance
    from ..branch import Branch
    from ..config import Config
    from ..gate import Sender
    from ..metrics import Metrics
    from ..routes import Routes
    from ..store.accounts import Accounts
    from ..transport.flow import Flow
    from ..ways import Way
    from .call import Pending
    from .relay import Relays

    Key = tuple[bytes, frozenset[bytes]]

__all__ = ["NO_MEDIA", "Calls", "Exchange", "NoMedia"]

_Message = TypeVar("_Message", bound="Message")
_Result = TypeVar("_Result")

_log = structlog.get_logger("media")
_WITH_MEDIA = ("INVITE", "UPDATE", "PRACK", "ACK")
_OVER = (481, 408, 0)  # a BYE that is answered so has ended its dialog as well (RFC 3261 section 15)
_LATE_S = 40.0  # after an answer, until nobody else can have answered any more: longer than 64*T1
_STRIDE = 1000  # of versions that may have been used before a restart: more than a call has offers
_RETRY_AFTER_S = 5


class NoMedia:
    """What is done with the media of requests that have none: nothing."""

    __slots__ = ()

    def send(self, branch: "Branch | None", way: "Way", flow: "Flow") -> "Request":
        """The request for a target; see `Exchange.send`."""
        del branch, flow
        return way.request

    def answer(self, branch: "Branch", response: "Response") -> None:
        """A response has come; see `Exchange.answer`."""

    def drop(self, branch: "Branch", tag: bytes = b"") -> None:
        """A target is over."""

    def finish(self, status: int) -> None:
        """The request has been answered, or nobody waits any more (0)."""


NO_MEDIA = NoMedia()


class _Ending(NoMedia):
    """A BYE in a relayed call."""

    __slots__ = ("_call", "_calls")

    def __init__(self, calls: "Calls", call: RelayedCall) -> None:
        self._calls = calls
        self._call = call

    def finish(self, status: int) -> None:
        if 200 <= status < 300 or status in _OVER:
            self._calls.end(self._call)


class _Target:
    """One target of a request.

    Attributes:
        legs: who has sent the request, and who gets it.
        call: the relayed call, None where there is none.
        is_new: whether it has begun with this request.
        is_open: whether its request has an offer that nobody relays, so that its answer passes, too.
        pending: the offer in the request.
        tag: of who has accepted.
        done: descriptions that have been passed on, by the tag of who has sent them: they are repeated.
    """

    __slots__ = ("call", "done", "is_new", "is_open", "legs", "pending", "tag")

    def __init__(self, legs: tuple[Leg, Leg], call: RelayedCall | None) -> None:
        self.legs = legs
        self.call = call
        self.is_new = call is None
        self.is_open = False
        self.pending: Pending | None = None
        self.tag = b""
        self.done: dict[tuple[bytes, bytes], bytes] = {}


class Exchange(NoMedia):
    """The media of one request that may have a description; `Calls.exchange` makes it.

    Args:
        calls: all of them.
        request: as others see it.
        near: who has sent it.
        call: that it belongs to, None where it is not known.
        hidden: whether one of the parties wants its address hidden.
    """

    __slots__ = ("_call", "_caller", "_calls", "_hidden", "_key", "_me", "_method", "_near", "_record", "_targets")

    def __init__(
        self, calls: "Calls", request: "Request", near: Leg, call: RelayedCall | None, *, hidden: bool
    ) -> None:
        self._calls = calls
        self._near = near
        self._call = call
        self._hidden = hidden
        self._method = request.method
        self._key = (request.call_id, request.from_.tag, request.to.tag)
        self._caller = (request.from_.uri, request.to.uri)
        self._me = 0 if call is None or call.caller_tag == request.from_.tag else 1
        self._targets: dict[Branch | None, _Target] = {}
        self._record: Record | None = None

    # Requests.

    def send(self, branch: "Branch | None", way: "Way", flow: "Flow") -> "Request":
        """The request for one of its targets, before anything is sealed.

        Args:
            branch: the target.
            way: to it.
            flow: that it takes.

        Returns:
            The request as it stands in ``way``, or a copy with another description.

        Raises:
            RefusedError: its media can't go the way they have to.
            ParseError: its description is malformed.
        """
        before = self._targets.get(branch)
        if before is not None and before.is_new:
            self._give_back(before)  # another way, with relays of its own
        far = self._calls.far(way, flow)
        if self._call is None:
            target = _Target((self._near, far), None)
        else:
            legs = self._call.legs
            legs[self._me].move(self._near)
            legs[1 - self._me].move(far)
            target = _Target((legs[self._me], legs[1 - self._me]), self._call)
            target.pending = None if before is None else before.pending
        self._targets[branch] = target
        return self._guard(self._write, way.request, target)

    def _write(self, request: "Request", target: _Target) -> "Request":
        kind = kind_of(request)
        if kind == NOTHING:
            return request
        if target.call is None and not self._begins(request, kind, target, self._near):
            target.is_open = True
            return request
        if kind != DESCRIPTION:
            raise MediaError("a body that is signed, encrypted or of several parts can't be relayed")
        text = self._text_of(request.body, target)
        request = request.copy()
        replace(request, text)
        return request

    def _text_of(self, body: bytes, target: _Target) -> bytes:
        call = target.call
        assert call is not None
        waiting = call.unanswered
        if waiting is not None and waiting.by != self._me and self._method in ("ACK", "PRACK"):
            text = call.answer(waiting, body)
            call.settle(waiting)
            call.answered = (body, text)
            self._calls.count(call)
            return text
        if self._method == "ACK":
            # It is repeated with each 2xx. Any other description in it means nothing, and is nobody's to see.
            return call.answered[1] if call.answered[0] == body else b""
        if target.pending is None:
            target.pending = call.offer(self._me, body)
        return target.pending.text

    def _begins(self, message: "Message", kind: str, target: _Target, author: Leg) -> bool:
        """Begin to relay a call, if its parties need that; what is not relayed is checked all the same."""
        legs = target.legs
        said = hosts_of(message.body) if kind == DESCRIPTION else []
        hosts = (said, []) if author is legs[0] else ([], said)
        if self._method not in ("INVITE", "UPDATE") or not needed(legs, hosts, hidden=self._hidden):
            check(message, kind, legs)
            return False
        if kind == SEALED:
            return False  # of who does its own end-to-end security: nobody else can read it, or change it
        if kind == OPAQUE:
            raise MediaError("a body that is signed or of several parts can't be relayed")
        call_id, tag, to_tag = self._key
        if self._record is None:
            self._record = self._calls.begin(self._caller, call_id)
        target.call = self._calls.open(legs, self._key)
        if to_tag:
            self._calls.know(target.call, (call_id, frozenset((tag, to_tag))))
        return True

    # Responses.

    def answer(self, branch: "Branch", response: "Response") -> None:
        """A response of a target, after it was opened; it is changed.

        Raises:
            RefusedError: its media can't go the way they have to.
            ParseError: its description is malformed.
        """
        target = self._targets.get(branch)
        if target is None or response.status <= 100:
            return
        if response.status >= 300:
            if target.call is not None and kind_of(response) in (DESCRIPTION, OPAQUE):
                replace(response, b"")  # what would have been possible, and where: nobody's to see
            self._give_back(target)
            return
        self._guard(self._read, response, target)

    def _read(self, response: "Response", target: _Target) -> None:
        kind, tag = kind_of(response), response.to.tag
        is_accepted = response.status >= 200 and self._method == "INVITE"
        if is_accepted and target.call is not None and target.is_new and target.tag not in (b"", tag):
            raise MediaError("somebody else has answered there already")
        if kind != NOTHING:
            self._pass_back(response, kind, target, tag)
        call = target.call
        if call is None:
            return
        if target.is_new and tag:
            call_id, from_tag, _ = self._key
            self._calls.know(call, (call_id, frozenset((from_tag, tag))))
        if response.status >= 200:
            if target.pending is not None and not target.tag:
                call.settle(target.pending)
                self._calls.count(call)
            target.tag = tag
            if target.is_new and call.record is None and self._record is not None:
                call.record = self._record.connect()

    def _pass_back(self, response: "Response", kind: str, target: _Target, tag: bytes) -> None:
        me = self._me
        body = response.body
        if target.is_open:
            check(response, kind, target.legs)  # it is too late for a relay: the other side has its offer
            return
        if target.call is None and (
            self._calls.was_here(response, self._key, None) or not self._begins(response, kind, target, target.legs[1])
        ):
            return
        assert target.call is not None
        if kind != DESCRIPTION:
            raise MediaError("a body that is signed, encrypted or of several parts can't be relayed")
        text = target.done.get((tag, body))
        if text is None:
            if target.pending is not None:
                text = target.call.answer(target.pending, body)
            else:
                # There was no offer in the request: this is one, and the ACK or a PRACK brings the answer.
                offered = target.call.unanswered = target.call.offer(1 - me, body)
                text = offered.text
            target.done[tag, body] = text
        replace(response, text)

    def drop(self, branch: "Branch", tag: bytes = b"") -> None:
        """A target is over without a 2xx, or its 2xx goes to nobody.

        Args:
            branch: the target.
            tag: of the 2xx, where there is one.
        """
        target = self._targets.get(branch)
        if target is not None and target.tag in (b"", tag):
            target.tag = b""
            self._give_back(target)

    def finish(self, status: int) -> None:
        """The request has been answered, or nobody waits any more (0)."""
        if not self._targets:
            return
        if 200 <= status < 300:
            if any(target.call is not None and not target.tag for target in self._targets.values()):
                asyncio.get_running_loop().call_later(_LATE_S, self._give_back_all)
            return
        self._give_back_all()
        if self._record is not None and not self._key[2]:
            self._record.write(status)

    def _give_back_all(self) -> None:
        for target in self._targets.values():
            if not target.tag:
                self._give_back(target)

    def _give_back(self, target: _Target) -> None:
        """Nothing comes of an offer: its relays are closed, and those that were there before stay."""
        call, target.call = target.call, None
        if call is None:
            return
        if target.is_new:
            self._calls.end(call)
        elif target.pending is not None:
            call.abandon(target.pending)

    # How it is refused.

    def _guard(self, work: "Callable[[_Message, _Target], _Result]", message: _Message, target: _Target) -> _Result:
        """Do something, and put what fails into an answer."""
        calls = self._calls
        try:
            return work(message, target)
        except MediaError as error:
            self._fail(target)
            calls.refused.labels("media").inc()
            _log.info("media refused", reason=str(error), parties=[leg.name for leg in target.legs])
            raise RefusedError(488, "Not Acceptable Here", warning(calls.domain, str(error))) from None
        except NoRoomError as error:
            self._fail(target)
            calls.refused.labels("room").inc()
            _log.warning("no relay", reason=str(error))
            raise self._no_room(str(error)) from None
        except ParseError:
            self._fail(target)
            calls.refused.labels("malformed").inc()
            raise

    def _fail(self, target: _Target) -> None:
        if not target.tag:  # else somebody has it, whatever came later
            self._give_back(target)

    def _no_room(self, reason: str) -> RefusedError:
        text = warning(self._calls.domain, f"no media relay: {reason}")
        if self._key[2] or self._near.kind not in ("terminal", "phone"):
            # The call goes on as it was; and a peer that hears 503 leaves us alone with all its calls.
            return RefusedError(488, "Not Acceptable Here", text)
        return RefusedError(503, "Service Unavailable", ("Retry-After", b"%d" % _RETRY_AFTER_S), text)


class Calls:
    """All relayed calls; see the module.

    Args:
        config: the configuration.
        accounts: who is who.
        routes: knows requests that have been here before.
        relays: makes relays.
        accounting: keeps what has been of a call.
        metrics: counts.
    """

    def __init__(
        self,
        config: "Config",
        accounts: "Accounts",
        routes: "Routes",
        relays: "Relays",
        accounting: "Accounting",
        metrics: "Metrics",
    ) -> None:
        self.domain = config.domain
        self.refused = metrics.media_refused
        self._config = config
        self._accounts = accounts
        self._routes = routes
        self._relays = relays
        self._accounting = accounting
        self._streams = metrics.media_streams
        self._known: dict[Key, RelayedCall] = {}
        self._begun: dict[tuple[bytes, bytes], list[RelayedCall]] = {}

    def __len__(self) -> int:
        return sum(len(calls) for calls in self._begun.values())

    def exchange(
        self,
        request: "Request",
        written: "Request",
        flow: "Flow",
        sender: "Sender",
        assistance: "Assistance",
        *,
        hidden: bool = False,
    ) -> NoMedia:
        """What is to be done with the media of a request.

        Args:
            request: opened, and as others see it.
            written: as its sender wrote it.
            flow: how it came.
            sender: who that is.
            assistance: knows more of that.
            hidden: whether a party wants its address hidden from the other, which needs a relay whatever else holds.
        """
        if request.method not in _WITH_MEDIA and request.method != "BYE":
            return NO_MEDIA
        tags = frozenset((request.from_.tag, request.to.tag))
        call = self._known.get((request.call_id, tags)) if request.to.tag else None
        if request.method == "BYE":
            return NO_MEDIA if call is None else _Ending(self, call)
        key = (request.call_id, request.from_.tag, request.to.tag)
        if self.was_here(request, key, call) and (call is not None or self._routes.has_recorded(request)):
            return NO_MEDIA  # who could make that up would learn where the other party is
        return Exchange(self, request, self._near(written, flow, sender, assistance), call, hidden=hidden)

    def was_here(self, message: "Message", key: tuple[bytes, bytes, bytes], call: RelayedCall | None) -> bool:
        """Whether a description has been relayed already, on its way around: media lead to us, and for the same call.

        Args:
            message: has it.
            key: Call-ID and tags of the request.
            call: that it belongs to; None for one that is about to begin.
        """
        begun = [call] if call is not None else self._begun.get(key[:2], [])
        if not begun or kind_of(message) != DESCRIPTION:
            return False
        ours = set().union(*(one.addresses for one in begun))
        try:
            session = Session.parse(message.body)
            streams = [Stream.read(session, media) for media in session.media]
        except ParseError:
            return False
        wanted = [stream.address for stream in streams if stream.port]
        return bool(wanted) and all(address in ours for address in wanted)

    # Legs.

    def _near(self, written: "Request", flow: "Flow", sender: "Sender", assistance: "Assistance") -> Leg:
        if sender.kind == PEER:
            return Leg.of_domain(self._config, sender.name, flow)
        account, member = assistance.account, assistance.member
        user = account.user if account is not None else member.user if member is not None else ""
        account = account or self._accounts.by_user(user)
        try:
            contacts = written.addresses("contact")
        except ParseError:
            contacts = []
        return Leg.of_user(self._config, account, user, flow, contacts[0].uri if contacts else b"")

    def far(self, way: "Way", flow: "Flow") -> Leg:
        """The leg to a target."""
        if way.is_phone:
            return Leg.of_user(self._config, self._accounts.by_user(way.user), way.user, flow, way.request.uri)
        return Leg.of_domain(self._config, way.domain or min(flow.identities, default=""), flow)

    # Their life.

    def open(self, legs: tuple[Leg, Leg], key: tuple[bytes, bytes, bytes]) -> RelayedCall:
        """Begin a call.

        Args:
            legs: who has sent the request that begins it, and who gets it.
            key: Call-ID and tags of that; with a To tag it is within a dialog that nobody here remembers.
        """
        call_id, tag, to_tag = key
        for leg in legs:
            leg.place()
        media = self._config.media
        stride = _STRIDE if to_tag else 0
        call = RelayedCall(self._relays, legs, media.timeout_s, always_own=media.own_keys, stride=stride)
        call.caller_tag = tag
        call.call_id = call_id
        call.silent = self._silent
        self._begun.setdefault((call_id, tag), []).append(call)
        return call

    def know(self, call: RelayedCall, key: "Key") -> None:
        """Find a call by Call-ID and tags from now on."""
        if not call.is_closed:
            self._known[key] = call
            call.keys.add(key)

    def begin(self, sides: tuple[bytes, bytes], call_id: bytes) -> "Record":
        """A call is going to be relayed."""
        names = [_shown(side) for side in sides]
        return self._accounting.begin(names[0], names[1], hashlib.sha256(call_id).hexdigest())

    def count(self, call: RelayedCall) -> None:
        """Count the streams of a call, by how packets go through."""
        for kind in call.kinds:
            self._streams.labels(kind).inc()

    def end(self, call: RelayedCall, why: str = "") -> None:
        """Close the relays of a call, and write down what has been.

        Args:
            call: which.
            why: "" where its parties have ended it.
        """
        if call.is_closed:
            return
        media = call.close()
        for key in call.keys:
            if self._known.get(key) is call:
                del self._known[key]
        begun = self._begun.get((call.call_id, call.caller_tag), [])
        if call in begun:
            begun.remove(call)
        if not begun:
            self._begun.pop((call.call_id, call.caller_tag), None)
        if call.record is not None:
            call.record.end(media, why)

    def _silent(self, call: RelayedCall) -> None:
        _log.info("relay silent", parties=[leg.name for leg in call.legs])
        self.end(call, "silent")

    def close(self) -> None:
        """End all: the neighbour stops."""
        for calls in list(self._begun.values()):
            for call in list(calls):
                self.end(call, "stopped")


def _shown(uri: bytes) -> str:
    """An address-of-record, as it is written down."""
    try:
        parsed = uri_of(uri)
        text = parsed.aor() if parsed.is_sip else uri
    except ParseError:
        text = uri
    return text.decode("utf-8", "replace")
