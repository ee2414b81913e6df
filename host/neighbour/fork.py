"""One proxied request: its branches, and which response goes back (RFC 3261 sections 16.6 to 16.10).

    server transaction <--best response-- Fork --+-- Branch --> client transaction --> a binding, a trunk, a next hop
                                                 +-- Branch ...

Provisional responses and every 2xx go back at once. A 2xx or 6xx cancels the branches still open; when all have ended
without a 2xx, the best of their answers goes back.
"""

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.editing import remove, remove_first
from sipwire.message import Request, Response
from sipwire.transaction import T1_MS, TIMEOUT, cancel_for

from .transactions import new_token

if TYPE_CHECKING:
    from collections.abc import Callable

    from .transactions import Client, Server, Transactions
    from .transport.flow import Flow

__all__ = ["NEVER_FORWARDED", "Branch", "Fork"]

# Section 16.7 step 6: within a class, answers that tell the caller what to do differently are better.
_INFORMATIVE = (401, 407, 415, 420, 484)
#: Headers that are between a user and its neighbour, or that only a neighbour may write: nothing that arrives may speak
#: of verification, or of an identity that nobody has asserted here (RFC 3325 section 5).
NEVER_FORWARDED = (
    "security-assist",
    "security-status",
    "security-client",
    "security-verify",
    "p-asserted-identity",
    "p-preferred-identity",
    "remote-party-id",
)


@dataclass(eq=False)
class Branch:
    """One way a request was forwarded.

    Attributes:
        request: what was sent.
        domain: the other domain it went to, "" within our own.
        client: its transaction.
        ringing: whether a provisional response has come, so that it may be cancelled.
        final: its final response, None before.
        local: whether that answer is our own.
    """

    request: Request
    domain: str = ""
    client: "Client | None" = None
    ringing: bool = False
    cancel_sent: bool = False
    retried: bool = False
    final: Response | None = None
    local: bool = False
    again: "Callable[[], None] | None" = field(default=None)


class Fork:
    """The response context of a request.

    Args:
        server: its server transaction.
        transactions: sends.
        warn: makes the Warning value of a reason.
        timer_c_s: an INVITE branch that has nothing new for so long is cancelled.
        done: called once, with the final status.
        heard: called with the other domain's name when a response came over a trunk.
    """

    def __init__(
        self,
        server: "Server",
        transactions: "Transactions",
        warn: "Callable[[str], bytes]",
        timer_c_s: float,
        done: "Callable[[Fork, int], None]",
        heard: "Callable[[str], None]",
    ) -> None:
        self.server = server
        self.cancelled = False
        self.branches: list[Branch] = []
        self._transactions = transactions
        self._warn = warn
        self._timer_c_s = timer_c_s
        self._done = done
        self._heard = heard
        self._timer_c: asyncio.TimerHandle | None = None
        self._accepted = False
        self._answered = False

    @property
    def is_invite(self) -> bool:
        """Whether it is an INVITE's."""
        return self.server.request.method == "INVITE"

    def start(self, branch: Branch, flow: "Flow", loop_branch: bytes) -> None:
        """Send a branch's request on a flow. Add every branch to ``branches`` before starting the first."""

        def event(client: "Client", response: "Response | str") -> None:
            self._event(branch, client, response)

        branch.client = self._transactions.request(branch.request, flow, event, loop_branch)
        if self.is_invite and self._timer_c is None:
            self._restart_timer_c()

    def fail(self, branch: Branch, status: int, phrase: str, reason: str) -> None:
        """A branch could not be sent, or its transport failed."""
        self._give_up(branch, status, phrase, ("Warning", self._warn(reason)))

    def _give_up(self, branch: Branch, status: int, phrase: str, *headers: tuple[str, bytes]) -> None:
        """Answer for a branch ourselves."""
        response = self.server.request.response(status, phrase, new_token(4))
        for name, value in headers:
            response.add(name, value)
        branch.local = branch.final is None
        self._ended(branch, response)

    def _event(self, branch: Branch, client: "Client", event: "Response | str") -> None:
        if isinstance(event, Response):
            if branch.domain:
                self._heard(branch.domain)
            remove_first(event, "via")
            for key in NEVER_FORWARDED:
                remove(event, key)
            if event.get("via") is not None:
                self._response(branch, event)
        elif event == TIMEOUT:
            self._give_up(branch, 408, "Request Timeout")
        elif branch.again is not None and not branch.retried and not branch.ringing:
            # A kept connection had died under us: once more, on a new one.
            branch.retried = True
            branch.again()
        else:
            self.fail(branch, 503, "Service Unavailable", client.failure or "transport failed")

    def _response(self, branch: Branch, response: Response) -> None:
        status = response.status
        if status < 200:
            branch.ringing = True
            if self.is_invite:
                self._restart_timer_c()
            if self.cancelled or self._accepted:
                self._cancel(branch)
            elif status != 100 and not self._answered:
                self.server.respond(response)
            return
        if status < 300:
            self._accepted = True
            branch.final = response
            self.server.respond(response)  # every 2xx to an INVITE, of every branch
            self._finish(status)
            self._cancel_others(branch)
            return
        self._ended(branch, response)

    def _ended(self, branch: Branch, response: Response) -> None:
        """A branch has its final answer, which is no 2xx."""
        if branch.final is not None:
            return
        branch.final = response
        if response.status >= 600:
            self._cancel_others(branch)
        if not self._answered and all(one.final is not None for one in self.branches):
            best = self._best()
            self.server.respond(best)
            self._finish(best.status)

    def _finish(self, status: int) -> None:
        if not self._answered:
            self._answered = True
            self._done(self, status)
        if self._timer_c is not None and all(one.final is not None for one in self.branches):
            self._timer_c.cancel()
            self._timer_c = None

    def _best(self) -> Response:
        """Section 16.7 step 6: a 6xx, else the lowest class; 503 becomes 500, challenges are gathered into one."""
        finals = [branch.final for branch in self.branches if branch.final is not None]

        def rank(response: Response) -> tuple[int, int]:
            family = response.status // 100
            order = _INFORMATIVE.index(response.status) if response.status in _INFORMATIVE else len(_INFORMATIVE)
            # 408 says least: somebody else may have said no for a reason.
            return (0 if family == 6 else family, order + (response.status == 408))

        best = min(finals, key=rank)
        if best.status in (401, 407):
            for other in finals:
                if other is not best and other.status in (401, 407):
                    best.fields += [f for f in other.fields if f[0] in ("www-authenticate", "proxy-authenticate")]
        if best.status == 503 and not any(one.local for one in self.branches if one.final is best):
            # "A proxy which receives a 503 ... SHOULD NOT forward" it: it is the next hop that is out of service, not
            # we.
            best.status, best.reason = 500, b"Server Internal Error"
        return best

    # CANCEL and Timer C.

    def cancel(self) -> None:
        """The caller has cancelled: every branch is, now or as soon as it may be."""
        self.cancelled = True
        for branch in self.branches:
            self._cancel(branch)

    def _cancel_others(self, branch: Branch) -> None:
        for other in self.branches:
            if other is not branch:
                self._cancel(other)

    def _cancel(self, branch: Branch) -> None:
        if not self.is_invite or branch.final is not None or branch.cancel_sent or not branch.ringing:
            return
        branch.cancel_sent = True
        client = branch.client
        assert client is not None
        self._transactions.request_again(cancel_for(client.request), client.flow, _ignore)
        # Section 9.1: without a final response in 64*T1 the INVITE counts as cancelled.
        asyncio.get_running_loop().call_later(64 * T1_MS / 1000, self._lost, branch)

    def _lost(self, branch: Branch) -> None:
        """A branch neither answered its CANCEL's purpose nor anything else."""
        if branch.final is None:
            assert branch.client is not None
            branch.client.abandon()
            self._give_up(branch, 487, "Request Terminated")

    def _restart_timer_c(self) -> None:
        """Section 16.6 step 11: an INVITE that is neither answered nor refused does not live for ever."""
        if self._timer_c is not None:
            self._timer_c.cancel()
        self._timer_c = asyncio.get_running_loop().call_later(self._timer_c_s, self._timer_c_fired)

    def _timer_c_fired(self) -> None:
        self._timer_c = None
        for branch in self.branches:
            if branch.final is not None:
                continue
            if branch.ringing:
                self._cancel(branch)
            elif branch.client is not None:
                # Section 16.8: "the proxy MUST behave as if the transaction received a 408".
                branch.client.abandon()
                self._give_up(branch, 408, "Request Timeout")


def _ignore(client: "Client", event: "Response | str") -> None:
    """A CANCEL's own answer changes nothing."""
