"""One proxied request: its targets, their order, and which response goes back (RFC 3261 sections 16.6 to 16.10).

    server transaction <--best response-- Fork -- group -- Branch --> client transaction --> a binding or a server
                                            |        `---- Branch      `- the next way, where the first one fails
                                            `---- group, when every branch of the one before has ended
                                            `---- ...

A group is what rings together; groups follow each other by q. A branch is one target; it may have several ways, tried
in turn: the flows of one phone (RFC 5626), or the servers of one domain (RFC 3263).

Provisional responses to an INVITE and every 2xx go back at once. A 2xx or 6xx cancels the branches still open and ends
the search; when all have ended without one, the best of their answers goes back. A request that is no INVITE and that
nobody answers is not answered (RFC 4320).
"""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.editing import remove, remove_first
from sipwire.message import Request, Response
from sipwire.transaction import T1_MS, TIMEOUT, cancel_for

from .resolver import ResolveError
from .transactions import new_branch, new_token
from .transport.flow import Flow
from .transport.trunk import TrunkError
from .transport.udp import UdpFlow

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from sipwire.uri import Uri

    from .config import ProxyConfig
    from .resolver import Resolver, Target
    from .routes import Routes
    from .transactions import Client, Server, Transactions
    from .transport.trunk import Trunks

__all__ = ["MAX_BREADTH", "NEVER_FORWARDED", "Fork", "Surroundings", "Way"]

MAX_BREADTH = 60  # RFC 5393 section 5.3.3: branches of a request that pend at a time, here and behind us; more is 440
# Section 16.7 step 6: within a class, answers that tell the caller what to do differently are better.
_INFORMATIVE = (401, 407, 415, 420, 484)
# ... and these say least: somebody else may have said no for a reason.
_LEAST = (408, 430, 487)
#: Statuses after which another way to the same target is worth a try (RFC 3263 section 4.3, RFC 5626 section 5.3).
_NEXT_WAY = (430, 503)
_MAX_DATAGRAM_BYTES = 1300  # section 18.1.1: a larger request goes by a stream, where the other end takes one
_MAX_RETRY_AFTER_S = 600  # of a 503: nobody keeps a server out of use for longer
_DIALOG_METHODS = ("INVITE", "SUBSCRIBE", "REFER")
#: Headers that are between a user and its neighbour, or that only a neighbour may write: nothing that arrives may speak
#: of verification, or of an identity that nobody has asserted here (RFC 3325 section 5).
NEVER_FORWARDED = frozenset(
    (
        "security-assist",
        "security-status",
        "security-client",
        "security-verify",
        "p-asserted-identity",
        "p-preferred-identity",
        "remote-party-id",
    )
)


@dataclass(slots=True)
class Surroundings:
    """What all forks of a proxy share.

    Attributes:
        config: timers.
        transactions: sends.
        routes: our place in route sets.
        resolver: finds servers.
        trunks: connects to them.
        warn: makes the Warning value of a reason.
        spawn: runs what has to wait.
        retarget: the groups for a 3xx that is for us to follow, and what is left of it for the caller.
    """

    config: "ProxyConfig"
    transactions: "Transactions"
    routes: "Routes"
    resolver: "Resolver"
    trunks: "Trunks"
    warn: "Callable[[str], bytes]"
    spawn: "Callable[[Coroutine[None, None, None]], None]"
    retarget: "Callable[[Fork, Response], tuple[list[list[list[Way]]], bool]]"


@dataclass(eq=False, slots=True)
class Way:
    """A way to a target: a flow that stands, or where to find a server.

    Attributes:
        request: complete but for what belongs to one hop. It is copied, never changed.
        flow: the flow, or None.
        uri: whose servers to find, where there is neither flow nor target.
        target: the server, where it is known.
        again: whether a connection to it has died under us already.
    """

    request: Request
    flow: "Flow | None" = None
    uri: "Uri | None" = None
    target: "Target | None" = None
    again: bool = False

    @property
    def domain(self) -> str:
        """The domain whose server it leads to, "" for a flow."""
        if self.target is not None:
            return self.target.domain
        return "" if self.uri is None else self.uri.host.decode("latin-1").lower()


@dataclass(eq=False, slots=True)
class _Branch:
    """One target, and what has become of it.

    Attributes:
        ways: still to be tried.
        breadth: its share of Max-Breadth.
        way: the one that is tried.
        client: its transaction.
        ringing: whether a provisional response has come, so that it may be cancelled.
        cancel_sent: whether it has been.
        ended: whether nobody waits for it any more. It may still be under way then, and a 2xx of it counts.
        final: its own final response, None before.
        verdict: what counts when the best response is chosen, None where nothing does.
        local: whether that answer is ours.
        heard_at: loop time of its last news, for Timer C.
    """

    ways: list[Way]
    breadth: int = MAX_BREADTH
    way: Way | None = None
    client: "Client | None" = None
    ringing: bool = False
    cancel_sent: bool = False
    ended: bool = False
    final: Response | None = None
    verdict: Response | None = None
    local: bool = False
    heard_at: float = 0.0
    timers: "list[asyncio.TimerHandle]" = field(default_factory=list)


class Fork:
    """The response context of a request.

    Args:
        server: its server transaction.
        surroundings: what it shares with others.
        done: called once, with the final status, 0 where nothing is answered.

    Attributes:
        cancelled: whether the caller has cancelled.
        tried: Request-URIs that have been tried, so that redirections can't run in circles.
    """

    __slots__ = (
        "_accepted",
        "_answered",
        "_around",
        "_branches",
        "_breadth",
        "_done",
        "_groups",
        "_loop_hash",
        "_ring_timer",
        "cancelled",
        "is_invite",
        "method",
        "server",
        "tried",
    )

    def __init__(self, server: "Server", surroundings: Surroundings, done: "Callable[[Fork, int], None]") -> None:
        self.server = server
        self.method = server.request.method
        self.is_invite = self.method == "INVITE"
        self.cancelled = False
        self.tried: set[bytes] = set()
        self._around = surroundings
        self._done = done
        self._branches: list[_Branch] = []
        self._groups: list[list[list[Way]]] = []
        self._breadth = MAX_BREADTH
        self._loop_hash = b""
        self._ring_timer: asyncio.TimerHandle | None = None
        self._accepted = False
        self._answered = False

    def begin(self, groups: "list[list[list[Way]]]", breadth: int, loop_hash: bytes) -> None:
        """Send the request to the targets of the first group, and to the others when those have said no.

        Args:
            groups: the groups in order; of each its targets, and of each of these its ways in order.
            breadth: how many branches may pend at a time (RFC 5393 section 5.3.3).
            loop_hash: ends our branch parameters, so that the request is known again where it comes back.
        """
        self._loop_hash = loop_hash
        self._groups = groups
        self._breadth = breadth
        self._next_group()

    # Targets and their ways.

    def _next_group(self) -> None:
        self._stop_ringing()
        group = self._groups.pop(0)
        share = (self._breadth - sum(one.breadth for one in self._branches if not one.ended)) // len(group)
        if share < 1:
            # "If there is insufficient Max-Breadth ... the proxy MUST NOT forward": it is refused, or what has been
            # tried is all.
            branch = _Branch([], 0)
            self._branches.append(branch)
            self._give_up(branch, 440, "Max-Breadth Exceeded")
            return
        started = [_Branch(ways, share) for ways in group]
        self._branches += started  # all of them, before the first can fail
        if self.is_invite and self._groups:
            self._ring_timer = self._loop.call_later(self._around.config.ring_s, self._ring_over)
        for branch in started:
            self._next_way(branch)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._around.transactions.loop

    def _next_way(self, branch: _Branch) -> None:
        """Try the next way of a branch that has one."""
        way = branch.way = branch.ways.pop(0)
        if way.flow is not None:
            self._send(branch, way, way.flow)
        else:
            self._around.spawn(self._reach(branch, way))

    async def _reach(self, branch: _Branch, way: Way) -> None:
        """Find a server, connect to it, and send."""
        around = self._around
        try:
            if way.target is None:
                assert way.uri is not None
                targets = await around.resolver.locate(way.uri)
                way.target = targets[0]
                branch.ways[:0] = [Way(way.request, target=target) for target in targets[1:]]
            kept = around.trunks.kept(way.target) is not None
            flow = await around.trunks.flow(way.target)
        except (ResolveError, TrunkError) as error:
            if branch.ended:
                return
            if way.target is not None:
                around.resolver.failed(way.target)
            self._fail(branch, f"trunk to {way.domain}: {error}")
            return
        if branch.ended:
            return  # cancelled meanwhile
        if kept and not way.again:
            # It may have died without our knowing: once more then, on a new one.
            branch.ways.insert(0, Way(way.request, target=way.target, again=True))
        self._send(branch, way, flow)

    def _send(self, branch: _Branch, way: Way, flow: Flow) -> None:
        around = self._around
        request = way.request.copy()
        to_tag = request.to.tag
        if (request.method in _DIALOG_METHODS and not to_tag) or (request.method == "NOTIFY" and to_tag):
            # A NOTIFY makes the dialog, where it comes before the 2xx to its SUBSCRIBE (RFC 6665 section 4.4.1).
            around.routes.record(request, self.server.flow, flow)
        remove(request, "max-breadth")
        request.add("Max-Breadth", b"%d" % branch.breadth)
        if isinstance(flow, UdpFlow) and _size(request) > _MAX_DATAGRAM_BYTES:
            around.spawn(self._send_large(branch, request, flow))
        else:
            self._start(branch, request, flow)

    async def _send_large(self, branch: _Branch, request: Request, flow: UdpFlow) -> None:
        """By TCP; where that can't be had, by UDP all the same (section 18.1.1)."""
        try:
            stream: Flow = await self._around.trunks.stream_to(flow)
        except TrunkError:
            stream = flow
        if not branch.ended:
            self._start(branch, request, stream)

    def _start(self, branch: _Branch, request: Request, flow: Flow) -> None:
        def event(client: "Client", response: "Response | str") -> None:
            self._event(branch, client, response)

        around = self._around
        branch.client = around.transactions.request(request, flow, event, new_branch() + b"." + self._loop_hash)
        if self.is_invite:
            branch.heard_at = self._loop.time()
            branch.timers.append(self._loop.call_later(around.config.timer_c_s, self._timer_c, branch))
        if branch.ways and not branch.ways[-1].again:
            # Timer B and F are for who has nobody else to ask.
            branch.timers.append(self._loop.call_later(around.config.next_server_s, self._silent, branch))

    def _silent(self, branch: _Branch) -> None:
        """Nobody has answered at one of several servers. If it does later, that is handled as from any branch."""
        if branch.ended or branch.ringing or not branch.ways:
            return
        other = _Branch([way for way in branch.ways if not way.again], branch.breadth)
        self._branches.append(other)
        branch.ways = []
        branch.ended = True
        if branch.way is not None and branch.way.target is not None:
            self._around.resolver.failed(branch.way.target)
        self._next_way(other)

    # What comes of it.

    def _event(self, branch: _Branch, client: "Client", event: "Response | str") -> None:
        target = None if branch.way is None else branch.way.target
        if isinstance(event, Response):
            if target is not None and event.status != 503:
                self._around.resolver.works(target)
                self._around.trunks.works(target.domain)
            remove_first(event, "via")
            _strip(event)
            if event.get("via") is not None:
                self._response(branch, event)
        elif event == TIMEOUT:
            if target is not None:
                self._around.resolver.failed(target)
            if branch.ended:
                _stop(branch)
                return
            if branch.ways and not branch.ringing:
                branch.ways = [way for way in branch.ways if not way.again]
            if branch.ways:
                self._renew(branch)
            elif self.is_invite:
                self._give_up(branch, 408, "Request Timeout")
            else:
                # RFC 4320 section 4.2: "MUST NOT send a response with Status-Code of 408 to a non-INVITE request."
                self._over(branch)
        elif not branch.ended:
            again = bool(branch.ways) and branch.ways[0].again
            if target is not None and not again:
                self._around.resolver.failed(target)
            if branch.ringing:
                branch.ways = []  # it has reached somebody
            self._fail(branch, client.failure or "transport failed")

    def _fail(self, branch: _Branch, reason: str) -> None:
        """A way could not be taken, or its transport failed."""
        if branch.ways:
            self._renew(branch)
            return
        self._give_up(branch, 503, "Service Unavailable", ("Warning", self._around.warn(reason)))

    def _renew(self, branch: _Branch) -> None:
        """The next way, with nothing known of it yet."""
        _stop(branch)
        branch.ringing = branch.cancel_sent = False
        branch.client = None
        self._next_way(branch)

    def _response(self, branch: _Branch, response: Response) -> None:
        status = response.status
        if status < 200:
            branch.ringing = True
            branch.heard_at = self._loop.time()
            if self.cancelled or self._accepted or branch.ended:
                self._cancel(branch)
            elif status != 100 and self.is_invite and not self._answered:
                # RFC 4320 section 4.1 has no other than 100 for the rest, and that is for one hop.
                self.server.respond(response)
            return
        branch.final = response
        if status < 300:
            self._accept(branch, response)
            return
        if branch.ended:
            _stop(branch)
            return
        branch.ways = [way for way in branch.ways if not way.again]  # the connection was alive
        if status in _NEXT_WAY:
            if branch.way is not None and branch.way.target is not None:
                self._around.resolver.failed(branch.way.target, _retry_after(response))
            if branch.ways:
                branch.final = None
                self._renew(branch)
                return
        groups: list[list[list[Way]]] = []
        if status < 400 and not self._is_over:
            groups, left = self._around.retarget(self, response)
            self._groups[:0] = groups
        if groups and not left:
            self._over(branch)
        else:
            self._over(branch, response)

    def _accept(self, branch: _Branch, response: Response) -> None:
        self._accepted = True
        branch.ended = True
        _stop(branch)
        self._groups.clear()
        self._stop_ringing()
        self.server.respond(response)  # every 2xx to an INVITE, of every branch
        self._finish(response.status)
        self._cancel_others(branch)

    def _give_up(self, branch: _Branch, status: int, phrase: str, *headers: tuple[str, bytes]) -> None:
        """Answer for a branch ourselves."""
        if self._answered:
            self._over(branch)  # and who asked has been answered
            return
        response = self.server.request.response(status, phrase, new_token(4))
        for name, value in headers:
            response.add(name, value)
        branch.local = True
        self._over(branch, response)

    def _over(self, branch: _Branch, response: Response | None = None) -> None:
        """A branch has ended without a 2xx, and perhaps without anything to say."""
        if branch.ended:
            return
        branch.ended = True
        branch.verdict = response
        _stop(branch)
        if response is not None and response.status >= 600:
            # "it SHOULD cancel all client pending transactions ..., and it MUST NOT create any new branches"
            self._groups.clear()
            self._cancel_others(branch)
        if self._answered or not all(one.ended for one in self._branches):
            return
        if self._groups and not self.cancelled:
            self._next_group()
            return
        best = self._best()
        if best is None:
            self.server.abandon()
            self._finish(0)
        else:
            self.server.respond(best)
            self._finish(best.status)

    @property
    def _is_over(self) -> bool:
        """Whether no new branches may be made."""
        verdicts = (one.verdict for one in self._branches)
        return self.cancelled or self._answered or any(one is not None and one.status >= 600 for one in verdicts)

    def _finish(self, status: int) -> None:
        if not self._answered:
            self._answered = True
            self._stop_ringing()
            self._done(self, status)

    def _best(self) -> Response | None:
        """Section 16.7 step 6: a 6xx, else the lowest class; 503 becomes 500, challenges are gathered into one."""
        ends = [(one.verdict, one.local) for one in self._branches if one.verdict is not None]
        if not ends:
            return None
        best, local = min(ends, key=_rank)
        if best.status in (401, 407):
            for other, _ in ends:
                if other is not best and other.status in (401, 407):
                    best.fields += [f for f in other.fields if f[0] in ("www-authenticate", "proxy-authenticate")]
        if best.status == 503 and not local:
            # "A proxy which receives a 503 ... SHOULD NOT forward" it: it is the next hop that is out of service, not
            # we.
            best.status, best.reason = 500, b"Server Internal Error"
        return best

    # Time, and CANCEL.

    def cancel(self) -> None:
        """The caller has cancelled: every branch is, now or as soon as it may be."""
        if self._answered:
            return
        self.cancelled = True
        self._groups.clear()
        self._stop_ringing()
        self._cancel_others(None)

    def _cancel_others(self, branch: _Branch | None) -> None:
        for other in list(self._branches):
            if other is not branch:
                self._cancel(other)

    def _cancel(self, branch: _Branch) -> None:
        """Cancel a branch. What has not been sent yet is over at once."""
        if not self.is_invite or branch.final is not None or branch.cancel_sent:
            return
        branch.ways = []
        client = branch.client
        if client is None:
            self._give_up(branch, 487, "Request Terminated")  # does nothing where it has ended
        elif branch.ringing:  # section 9.1: before, it "MUST NOT be sent"
            branch.cancel_sent = True
            self._around.transactions.request_again(cancel_for(client.request), client.flow, _ignore)
            # Section 9.1: without a final response in 64*T1 the INVITE counts as cancelled.
            branch.timers.append(self._loop.call_later(64 * T1_MS / 1000, self._lost, branch))

    def _lost(self, branch: _Branch) -> None:
        """A branch neither answered its CANCEL's purpose nor anything else."""
        if branch.final is None:
            assert branch.client is not None
            branch.client.abandon()
            self._give_up(branch, 487, "Request Terminated")

    def _ring_over(self) -> None:
        """Nobody of this group has answered in time: the next one's turn. A 2xx that crosses the CANCEL counts."""
        self._ring_timer = None
        pending = [branch for branch in self._branches if not branch.ended]
        unsent = [branch for branch in pending if branch.client is None]
        for branch in pending:
            if branch not in unsent:
                self._cancel(branch)
                branch.ended = True
                branch.local = True
                branch.verdict = self.server.request.response(408, "Request Timeout", new_token(4))
        for branch in unsent:
            self._cancel(branch)  # the last of them ends the group
        if not unsent:
            self._next_group()

    def _stop_ringing(self) -> None:
        if self._ring_timer is not None:
            self._ring_timer.cancel()
            self._ring_timer = None

    def _timer_c(self, branch: _Branch) -> None:
        """Section 16.6 step 11: an INVITE that is neither answered nor refused does not live for ever."""
        if branch.final is not None or branch.cancel_sent:
            return
        left = branch.heard_at + self._around.config.timer_c_s - self._loop.time()
        if left > 0:
            branch.timers.append(self._loop.call_later(left, self._timer_c, branch))
        elif branch.ringing:
            self._cancel(branch)
        elif branch.client is not None:
            # Section 16.8: "the proxy MUST behave as if the transaction received a 408".
            branch.client.abandon()
            self._give_up(branch, 408, "Request Timeout")


def _rank(end: tuple[Response, bool]) -> tuple[int, int]:
    """The lower the better."""
    status = end[0].status
    family = status // 100
    order = _INFORMATIVE.index(status) if status in _INFORMATIVE else len(_INFORMATIVE) + (status in _LEAST)
    return (0 if family == 6 else family, order)


def _stop(branch: _Branch) -> None:
    for timer in branch.timers:
        timer.cancel()
    branch.timers.clear()


def _strip(response: Response) -> None:
    """Take out what only a neighbour may write."""
    if not NEVER_FORWARDED.isdisjoint(key for key, _ in response.fields):
        for key in NEVER_FORWARDED:
            remove(response, key)


def _size(request: Request) -> int:
    """About how many bytes it will have, our Via included."""
    return sum(len(line) + 2 for _, line in request.fields) + len(request.body) + len(request.uri) + 100


def _retry_after(response: Response) -> float | None:
    """The seconds of a Retry-After, None where there is none that can be read."""
    value = (response.get("retry-after") or b"").split(b";")[0].split(b"(")[0].strip()
    if not value.isdigit() or len(value) > 9:
        return None
    return min(float(value), _MAX_RETRY_AFTER_S)


def _ignore(client: "Client", event: "Response | str") -> None:
    """A CANCEL's own answer changes nothing."""
