"""One proxied request: its targets, their order, and which response goes back (RFC 3261 sections 16.6 to 16.10).

    server transaction <--best response-- Fork -- group -- Branch --> client transaction --> a binding or a server
                                            |        `---- Branch      `- the next way, where the first one fails
                                            `---- group, when every branch of the one before has ended
                                            `---- ...

A group is what rings together; groups follow each other by q. A branch is one target; it may have several ways, tried
in turn: the flows of one phone (RFC 5626), or the servers of one domain (RFC 3263).

Provisional responses to an INVITE and every 2xx go back at once. A 2xx or 6xx cancels the branches still open and ends
the search; when all have ended without one, the best of their answers goes back. A request that is no INVITE is over
after 64*T1 whatever we do: so its groups follow each other quickly, none begins too late, and one that nobody answers
is not answered (RFC 4320).
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

from sipwire.editing import remove, remove_first
from sipwire.errors import ParseError
from sipwire.message import Request, Response
from sipwire.transaction import T1_MS, TIMEOUT, cancel_for

from .best import best_response
from .branch import MAX_BREADTH, Branch
from .claims import strip_claims
from .hangup import hang_up
from .media.calls import NO_MEDIA, NoMedia
from .refusal import RefusedError, of_answer, retry_after_s
from .resolver import ResolveError
from .transactions import GONE, new_branch, new_token
from .transport.flow import Flow
from .transport.trunk import TrunkError
from .transport.udp import UdpFlow
from .ways import Groups, Way, size_bytes

if TYPE_CHECKING:
    from collections.abc import Callable

    from .agent.assistance import Assistance
    from .agent.security import Sent
    from .surroundings import Surroundings
    from .transactions import Client, Server

__all__ = ["MAX_BREADTH", "Fork"]

_log = structlog.get_logger("fork")
_LIFE_S = 64 * T1_MS / 1000  # of a transaction that nobody answers
_ELSEWHERE = b'SIP;cause=200;text="Call completed elsewhere"'  # RFC 3326: a call that others took was not missed
_MAX_DATAGRAM_BYTES = 1300  # section 18.1.1: a larger request goes by a stream, where the other end takes one
_DIALOG_METHODS = ("INVITE", "SUBSCRIBE", "REFER")


class Fork:
    """The response context of a request.

    Args:
        server: its server transaction.
        surroundings: what it shares with others.
        done: called once, with the final status, 0 where nothing is answered.

    Attributes:
        request: what came, until it has been answered: the transaction may be over before, with its connection.
        assistance: what the security agent does for it; set before it begins.
        media: what is done with its media, before that.
        opened: the request as it goes on, with what was sealed opened.
        cancelled: whether the caller has cancelled.
        tried: users that have been tried, so that redirections can't run in circles.
    """

    __slots__ = (
        "_answered",
        "_around",
        "_began_at",
        "_branches",
        "_breadth",
        "_done",
        "_groups",
        "_loop_hash",
        "_ring_timer",
        "assistance",
        "cancelled",
        "is_invite",
        "media",
        "method",
        "opened",
        "request",
        "server",
        "tried",
    )

    def __init__(self, server: "Server", surroundings: "Surroundings", done: "Callable[[Fork, int], None]") -> None:
        self.server = server
        self.request = self.opened = server.request
        self.assistance: Assistance
        self.media: NoMedia = NO_MEDIA
        self.method = server.request.method
        self.is_invite = self.method == "INVITE"
        self.cancelled = False
        self.tried: set[str] = set()
        self._around = surroundings
        self._done = done
        self._branches: list[Branch] = []
        self._groups: Groups = []
        self._breadth = MAX_BREADTH
        self._loop_hash = b""
        self._ring_timer: asyncio.TimerHandle | None = None
        self._began_at = surroundings.transactions.loop.time()
        self._answered = False

    def begin(self, groups: Groups, breadth: int, loop_hash: bytes) -> None:
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
        left = self._breadth - sum(one.breadth for one in self._branches if one.is_pending)
        if left < 1:
            branch = Branch([], 0)
            self._branches.append(branch)
            self._give_up(branch, 440, "Max-Breadth Exceeded")
            return
        if left < len(group):
            # Who may not ring beside the others rings after them (RFC 5393 section 5.5).
            self._groups.insert(0, group[left:])
            group = group[:left]
        started = [Branch(ways, left // len(group)) for ways in group]
        self._branches += started  # all of them, before the first can fail
        if self._groups or (len(started) > 1 and not self.is_invite):
            config = self._around.config
            patience_s = config.ring_s if self.is_invite else config.next_server_s
            self._ring_timer = self._loop.call_later(patience_s, self._ring_over)
        for branch in started:
            self._next_way(branch)

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        return self._around.transactions.loop

    def _next_way(self, branch: Branch) -> None:
        """Try the next way of a branch that has one."""
        way = branch.way = branch.ways.pop(0)
        if way.flow is not None and way.is_phone:
            try:
                self._send(branch, way, way.flow, self.media.send(branch, way, way.flow))
            except RefusedError as refusal:
                self._give_up(branch, refusal.status, refusal.reason, *refusal.headers)
            except ParseError as error:
                self._give_up(branch, error.status, error.reason)
        else:
            self._around.spawn(self._reach(branch, way))

    async def _reach(self, branch: Branch, way: Way) -> None:
        """Find a server, connect to it, and send. Nobody sees what goes wrong here: it has to end the branch."""
        try:
            flow = way.flow or await self._find(branch, way)
            if flow is None or branch.ended:  # cancelled meanwhile
                return
            request = self.media.send(branch, way, flow)
            if not way.is_phone:
                domain = way.domain or min(flow.identities, default="")
                request, branch.sent = await self.assistance.forward(request, flow, domain, branch.plain)
            if not branch.ended:
                self._send(branch, way, flow, request)
        except RefusedError as refusal:
            self._give_up(branch, refusal.status, refusal.reason, *refusal.headers)
        except ParseError as error:
            self._give_up(branch, error.status, error.reason)
        except Exception:
            _log.exception("request not forwarded", method=way.request.method)
            self._give_up(branch, 500, "Server Internal Error")

    async def _find(self, branch: Branch, way: Way) -> Flow | None:
        """The flow to a server, None where there is none and the branch has been told."""
        around = self._around
        try:
            if way.target is None:
                assert way.uri is not None
                way.target, *others = await around.resolver.locate(way.uri)
                branch.ways[:0] = [replace(way, target=target, uri=None) for target in others]
            kept = around.trunks.kept(way.target) is not None
            flow = await around.trunks.flow(way.target)
        except (ResolveError, TrunkError) as error:
            if not branch.ended:
                if way.target is not None:
                    around.resolver.failed(way.target)
                self._fail(branch, f"trunk to {way.domain}: {error}" if way.domain else str(error))
            return None
        if kept and not way.again and not branch.ended:
            # It may have died without our knowing: once more then, on a new one.
            branch.ways.insert(0, replace(way, uri=None, again=True))
        return flow

    def _send(self, branch: Branch, way: Way, flow: Flow, request: Request) -> None:
        around = self._around
        request = request.copy()
        if way.is_phone:
            self.assistance.hand_on(request, way.user)
        to_tag = request.to.tag
        if (request.method in _DIALOG_METHODS and not to_tag) or (request.method == "NOTIFY" and to_tag):
            # A NOTIFY makes the dialog, where it comes before the 2xx to its SUBSCRIBE (RFC 6665 section 4.4.1).
            around.routes.record(request, self.server.flow, flow)
        remove(request, "max-breadth")
        request.add("Max-Breadth", b"%d" % branch.breadth)
        if isinstance(flow, UdpFlow) and size_bytes(request) > _MAX_DATAGRAM_BYTES:
            around.spawn(self._send_large(branch, request, flow))
        else:
            self._start(branch, request, flow)

    async def _send_large(self, branch: Branch, request: Request, flow: UdpFlow) -> None:
        """By TCP; where that can't be had, by UDP all the same (section 18.1.1)."""
        stream: Flow = flow
        try:
            stream = await self._around.trunks.stream_to(flow)
        except TrunkError:
            pass
        except Exception:
            _log.exception("no stream", flow=flow.key)
        if not branch.ended:
            self._start(branch, request, stream)

    def _start(self, branch: Branch, request: Request, flow: Flow) -> None:
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

    def _silent(self, branch: Branch) -> None:
        """Nobody has answered at one of several servers: another is asked as well."""
        if branch.ended or branch.ringing or not branch.ways or self._is_late:
            return
        other = Branch([way for way in branch.ways if not way.again], branch.breadth, before=branch)
        self._branches.append(other)
        branch.ways = []
        branch.ended = True
        if branch.way is not None and branch.way.target is not None:
            self._around.resolver.failed(branch.way.target)
        self._next_way(other)

    # What comes of it.

    def _event(self, branch: Branch, client: "Client", event: "Response | str") -> None:
        if client is not branch.client:
            return  # of the way before this one, which is over
        target = None if branch.way is None else branch.way.target
        if isinstance(event, Response):
            if target is not None and event.status != 503:
                self._around.resolver.works(target)
                self._around.trunks.works(target.domain)
            remove_first(event, "via")
            strip_claims(event)
            if event.status in (401, 407):
                self._around.strip_challenges(event)
            if branch.refused:
                self._hang_up(branch, client, event)
                return
            if not self._take(branch, client, event):
                return
            if event.status < 200:
                self._provisional(branch, event)
            elif event.get("via") is None:
                # "the response was meant for this element and MUST NOT be forwarded" (section 16.7 step 3)
                branch.final = event
                self._give_up(branch, 502, "Bad Gateway")
            else:
                self._final(branch, event)
            return
        again = bool(branch.ways) and branch.ways[0].again
        if target is not None and (event == TIMEOUT or not again):
            self._around.resolver.failed(target)
        branch.client = None
        if branch.ended:
            branch.stop()
        elif event == TIMEOUT:
            self._timed_out(branch)
        else:
            if branch.ringing:
                branch.ways = []  # it has reached somebody
            self._fail(branch, client.failure or "transport failed")

    def _timed_out(self, branch: Branch) -> None:
        branch.ways = [way for way in branch.ways if not way.again]
        if not self.is_invite:
            # RFC 4320 section 4.2: "MUST NOT send a response with Status-Code of 408 to a non-INVITE request." Nor is
            # another way of any use: who asked has given up.
            self._over(branch)
        elif branch.ways:
            self._renew(branch)
        else:
            self._no_answer(branch)

    def _fail(self, branch: Branch, reason: str) -> None:
        """A way could not be taken, or its transport failed."""
        if branch.ways:
            self._renew(branch)
            return
        if self._recall(branch):
            self._over(branch)
            return
        # Who hears 503 leaves us alone for a while (section 21.5.4): not for one phone that is gone.
        is_phone = branch.way is not None and branch.way.is_phone
        status, phrase = (480, "Temporarily Unavailable") if is_phone else (503, "Service Unavailable")
        self._give_up(branch, status, phrase, ("Warning", self._around.warn(reason)))

    def _renew(self, branch: Branch) -> None:
        """The next way, with nothing known of it yet."""
        branch.stop()
        branch.ringing = branch.cancel_sent = False
        branch.client = branch.final = None
        self._next_way(branch)

    def _provisional(self, branch: Branch, response: Response) -> None:
        branch.ringing = True
        if response.status > 100:
            # Section 16.7 step 2: "status codes 101 to 199 inclusive (i.e., anything but 100)" begin Timer C anew.
            branch.heard_at = self._loop.time()
        if not self._answered:
            branch.ended = False  # it may have been silent
        if branch.passed or self._answered:
            self._cancel(branch)
        elif response.status > 100 and self.is_invite and response.get("via") is not None:
            # RFC 4320 section 4.1 has no other than 100 for the rest, and that is for one hop.
            self._respond(branch, response)

    def _final(self, branch: Branch, response: Response) -> None:
        branch.final = response
        if response.status < 300:
            self._accept(branch, response)
        elif self._answered:
            branch.ended = True
            branch.stop()
        else:
            branch.ended = False  # it may have been silent
            if self._has_another_way(branch, response):
                self._renew(branch)
            elif response.status == 408 and not self.is_invite:
                self._over(branch)  # for the same reason as in `_timed_out`
            elif response.status == 482 and self._recall(branch):
                # It has arrived already, by a way that seemed silent: that one counts then. Section 8.2.2.2 has a phone
                # answer so when it gets a request once more by another way.
                self._over(branch)
            else:
                self._refused(branch, response)

    def _has_another_way(self, branch: Branch, response: Response) -> bool:
        """Whether an answer says of one way that it leads nowhere, and there is another."""
        target = None if branch.way is None else branch.way.target
        branch.ways = [way for way in branch.ways if not way.again]  # the connection was alive
        if response.status == 503 and target is not None:
            # RFC 3263 section 4.3: the next server of the same domain.
            self._around.resolver.failed(target, retry_after_s(response))
            following = branch.ways[0].target if branch.ways else None
            return following is not None and following.domain == target.domain
        if response.status == 430 or (response.status == 408 and not branch.ringing):
            # RFC 5626 section 7: "the proxy SHOULD replace the failed branch with another target (if one is available)
            # with the same AOR and instance-id, but a different reg-id". After any other answer it "MUST NOT".
            branch.ways = [way for way in branch.ways if way.target is None]
            return bool(branch.ways)
        return False

    @staticmethod
    def _recall(branch: Branch) -> bool:
        """Wait again for those that seemed silent, which a branch was made for; returns whether there are any."""
        found = False
        before = branch.before
        while before is not None:
            if before.client is not None and before.final is None:
                before.ended = False
                found = True
            before = before.before
        return found

    def _refused(self, branch: Branch, response: Response) -> None:
        groups: Groups = []
        left = True
        if response.status < 400 and not self._is_over:
            groups, left = self._around.retarget(self, response)
            self._groups[:0] = groups
        self._over(branch, response if left or not groups else None)
        if groups and self._groups and self._groups[0] is groups[0]:
            self._next_group()  # whom it leads to rings beside those who ring still

    def _accept(self, branch: Branch, response: Response) -> None:
        branch.ended = True
        branch.stop()
        self._groups.clear()
        self._stop_ringing()
        status = self._respond(branch, response)  # every 2xx to an INVITE, of every branch
        self._finish(status)
        self._cancel_others(branch, [_ELSEWHERE])

    def _give_up(self, branch: Branch, status: int, phrase: str, *headers: tuple[str, bytes]) -> None:
        """Answer for a branch ourselves."""
        if branch.ended:
            return
        if self._answered:
            self._over(branch)  # and who asked has been answered
            return
        response = self.request.response(status, phrase, new_token(4))
        for name, value in headers:
            response.add(name, value)
        branch.local = True
        self._over(branch, response)

    def _no_answer(self, branch: Branch) -> None:
        """Give up a branch of which nothing comes."""
        if self.cancelled:
            self._give_up(branch, 487, "Request Terminated")
        else:
            self._give_up(branch, 408, "Request Timeout")

    def _over(self, branch: Branch, response: Response | None = None) -> None:
        """A branch has ended without a 2xx, and perhaps without anything to say."""
        if branch.ended:
            return
        if response is not None and response.status == 487 and branch.passed and not self.cancelled:
            # It was we who did not wait any longer: the caller has not cancelled.
            response = self.request.response(408, "Request Timeout", new_token(4))
        branch.ended = True
        branch.verdict = response
        branch.stop()
        self.media.drop(branch)
        if response is not None and response.status >= 600:
            # "it SHOULD cancel all client pending transactions ..., and it MUST NOT create any new branches"
            self._groups.clear()
            if self.is_invite:
                self._cancel_others(branch, [])
        self._advance()

    def _advance(self) -> None:
        """Go on with the next group, or answer, where there is nobody to wait for any more."""
        if self._answered or any(one.is_pending for one in self._branches):
            return
        if self._is_late:
            self._groups.clear()
        if self._groups:
            self._next_group()
            return
        verdicts = [(one.verdict, one.local) for one in self._branches if one.verdict is not None]
        if not all(one.ended for one in self._branches) and (self.is_invite or not verdicts):
            # A 2xx that crosses our CANCEL must not come after another final response. What is no INVITE can't be
            # cancelled, and has no time to wait for phones that may not be there.
            return
        best = best_response(verdicts)
        if best is None:
            # Not earlier: what the caller repeats until then would be a new request to us.
            left = self._began_at + _LIFE_S - self._loop.time()
            self._stop_ringing()
            self._ring_timer = self._loop.call_later(max(left, 0.0), self._say_nothing)
        else:
            branch = next((one for one in self._branches if one.verdict is best), self._branches[0])
            self._finish(self._respond(branch, best))

    def _say_nothing(self) -> None:
        self.server.abandon()
        self._finish(0)

    @property
    def _is_late(self) -> bool:
        """Whether who asked has given up: an INVITE's caller waits."""
        return not self.is_invite and self._loop.time() >= self._began_at + _LIFE_S

    @property
    def _is_over(self) -> bool:
        """Whether no new branches may be made."""
        verdicts = (one.verdict for one in self._branches)
        return self.cancelled or self._answered or any(one is not None and one.status >= 600 for one in verdicts)

    def _finish(self, status: int) -> None:
        if not self._answered:
            self._answered = True
            self._stop_ringing()
            self.media.finish(status)
            self._done(self, status)
            self.request = self.opened = GONE

    # What the security agent has to do with it.

    def _take(self, branch: Branch, client: "Client", response: Response) -> bool:
        """Open what came over a trunk; returns whether there is anything left to do with it."""
        way = branch.way
        assert way is not None
        flow = client.flow
        domain = way.domain or min(flow.identities, default="")
        sent = branch.sent
        if sent is not None and response.status in (415, 493) and self._ask_again(branch, sent, response, flow):
            return False
        try:
            self.assistance.take(response, sent, flow, domain, way.user, way.group)
            self.media.answer(branch, response)
        except (RefusedError, ParseError) as error:
            self._refuse_answer(branch, client, response, error)
            return False
        return True

    def _ask_again(self, branch: Branch, sent: "Sent", response: Response, flow: Flow) -> bool:
        """Send a request again that nobody there can open: for another certificate once, and then plain if allowed."""
        agent = self.assistance.agent
        if branch.passed or self._answered or branch.way is None or not sent.is_sealed:
            return False
        if branch.asked_again or not (response.status == 493 and agent.learn(response, sent, flow)):
            if not agent.goes_plain(sent):
                return False
            branch.plain = f"answered {response.status}"
        branch.asked_again = True
        branch.ways.insert(0, replace(branch.way))
        self._renew(branch)
        return True

    def _respond(self, branch: Branch, response: Response) -> int:
        """Answer with what came of a branch; returns the status that was answered with."""
        way = branch.way
        try:
            response = self.assistance.give(response, "" if way is None else way.user, "" if way is None else way.group)
        except (RefusedError, ParseError) as error:
            if branch.client is not None and response.status < 200:
                self._refuse_answer(branch, branch.client, response, error)
                return response.status
            refusal = of_answer(error, self._around.warn)
            branch.refused = True
            if branch.client is not None and not branch.local:
                self._hang_up(branch, branch.client, response)
            response = self.request.response(refusal.status, refusal.reason, new_token(4))
            for name, value in refusal.headers:
                response.add(name, value)
        self.server.respond(response)
        return response.status

    def _refuse_answer(
        self, branch: Branch, client: "Client", response: Response, error: RefusedError | ParseError
    ) -> None:
        """An answer that has failed a check: the caller gets the reason instead, and who answered is hung up on."""
        _log.warning("answer refused", reason=str(error), method=self.method)
        branch.refused = True
        branch.ways = []
        self._hang_up(branch, client, response)
        refusal = of_answer(error, self._around.warn)
        self._give_up(branch, refusal.status, refusal.reason, *refusal.headers)

    def _hang_up(self, branch: Branch, client: "Client", response: Response) -> None:
        """End what a branch has begun, or go on to: CANCEL it while it rings, ACK and BYE once it is a call."""
        self.media.drop(branch, response.to.tag)
        if self.is_invite and response.status < 200:
            branch.ringing = True
            self._cancel(branch)
        elif self.is_invite and response.status < 300:
            hang_up(branch, client, response, self._around)

    # Time, and CANCEL.

    def cancel(self, reasons: list[bytes]) -> None:
        """The caller has cancelled: every branch is, now or as soon as it may be.

        Args:
            reasons: the values of Reason, which a proxy passes on (RFC 3326).
        """
        if self._answered:
            return
        self.cancelled = True
        self._groups.clear()
        self._stop_ringing()
        self._cancel_others(None, reasons)

    def _cancel_others(self, branch: Branch | None, reasons: list[bytes]) -> None:
        for other in list(self._branches):
            if other is not branch:
                other.reasons = other.reasons or reasons
                self._cancel(other)

    def _cancel(self, branch: Branch) -> None:
        """Nobody wants a branch any more: cancel it, now or as soon as it may be. What has not been sent is over."""
        branch.passed = True
        if not self.is_invite or branch.final is not None or branch.verdict is not None or branch.cancel_sent:
            return
        branch.ways = []
        client = branch.client
        if client is None:
            self._give_up(branch, 487, "Request Terminated")
        elif branch.ringing:  # section 9.1: before, it "MUST NOT be sent"
            branch.cancel_sent = True
            cancel = cancel_for(client.request)
            for reason in branch.reasons:
                cancel.add("Reason", reason)
            self._around.transactions.request_again(cancel, client.flow, _ignore)
            # Section 9.1: without a final response in 64*T1 the INVITE counts as cancelled.
            branch.timers.append(self._loop.call_later(_LIFE_S, self._lost, branch))

    def _lost(self, branch: Branch) -> None:
        """A branch neither answered its CANCEL's purpose nor anything else."""
        if branch.final is None and branch.client is not None:
            branch.client.abandon()
            self._no_answer(branch)

    def _ring_over(self) -> None:
        """Nobody of this group has answered in time: the next one's turn, or that of what others have answered."""
        self._ring_timer = None
        pending = [branch for branch in self._branches if not branch.ended]
        for branch in pending:
            branch.passed = True
        for branch in pending:
            self._cancel(branch)
        self._advance()

    def _stop_ringing(self) -> None:
        if self._ring_timer is not None:
            self._ring_timer.cancel()
            self._ring_timer = None

    def _timer_c(self, branch: Branch) -> None:
        """Section 16.6 step 11: an INVITE that is neither answered nor refused does not live for ever."""
        if branch.final is not None or branch.cancel_sent:
            return
        left = branch.heard_at + self._around.config.timer_c_s - self._loop.time()
        if left > 0:
            branch.timers.append(self._loop.call_later(left, self._timer_c, branch))
        elif branch.ringing:
            self._cancel(branch)
            self._advance()
        elif branch.client is not None:
            # Section 16.8: "the proxy MUST behave as if the transaction received a 408".
            branch.client.abandon()
            self._no_answer(branch)


def _ignore(client: "Client", event: "Response | str") -> None:
    """A CANCEL's own answer changes nothing."""
