"""What the security agent does for one request and its responses, where the proxy sends each of them on.

    from       to        the request           its responses
    ours       a trunk   sealed                opened, and told what held
    a trunk    ours      opened, and told      sealed
    ours       ours      told                  told

"Told" is the Security-Status header, and what phones are shown that do not know it. Who speaks as a group is hidden
behind it before anything is sealed, and found again after it was opened.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sipwire.editing import remove
from sipwire.message import Request, Response

from ..refusal import RefusedError, warning
from .groups import Member
from .keyed import brings_keys
from .policy import HEAVY, Status, Wish
from .security import is_protected

if TYPE_CHECKING:
    from ..store.accounts import Account, Accounts
    from ..transport.flow import Flow
    from .groups import Groups
    from .security import Received, SecurityAgent, Sent

__all__ = ["Assistance"]

_TOLD = ("INVITE", "UPDATE", "MESSAGE")  # whose responses say what held, with a body or without


@dataclass(slots=True, eq=False)
class Assistance:
    """See the module.

    Attributes:
        agent: does it.
        accounts: who wants to be told what.
        groups: who speaks as what.
        domain: ours.
        flow: of the request.
        account: of its sender, where that is one of ours.
        wish: its sender's, where that is one of ours.
        received: what it was like, where it came from elsewhere.
        member: of which group its sender is one, where it speaks as that.
        written: From and Call-ID as its sender wrote them, who is to find them in the responses.
    """

    agent: "SecurityAgent"
    accounts: "Accounts"
    groups: "Groups"
    domain: str
    flow: "Flow"
    account: "Account | None"
    wish: Wish
    received: "Received | None" = None
    member: Member | None = None
    written: "tuple[bytes, bytes] | None" = None

    # Requests.

    def open(self, request: Request, callee: str, domain: str) -> None:
        """Open a request that does not come from one of ours; it is changed. See `SecurityAgent.open_request`.

        Args:
            request: a copy of what came.
            callee: the user that it is for, "" for nobody.
            domain: of its sender.

        Raises:
            RefusedError: a check failed, or the least level is not reached; also where its answer could not be sealed,
                so that nobody's phone rings in vain.
        """
        account = self.accounts.by_user(callee)
        received = self.agent.open_request(request, account, callee, self.flow, domain)
        if is_protected(request) and request.method != "ACK":  # others have no answer that is sealed
            self.agent.check_answer(received, account, callee, self.flow)
        self.received = received

    async def forward(self, request: Request, flow: "Flow", domain: str, plain: str) -> "tuple[Request, Sent | None]":
        """Make a request ready for a trunk; see `SecurityAgent.seal_request`."""
        if self.received is not None:
            return request, None  # between two others: it is not ours to sign
        return await self.agent.seal_request(request, self.wish, self.account, flow, domain, plain=plain)

    def hand_on(self, request: Request, user: str) -> None:
        """Tell one of ours, whoever it was for, what held for a request, which is changed.

        Raises:
            RefusedError: it does not reach what this user wants at least.
        """
        if not is_protected(request):
            return
        if self.received is not None:
            self.agent.check_level(request, self.received, self.accounts.by_user(user), self.flow)
            self._tell(request, self.received.status, user, b"")
        else:
            self._tell(request, self._within(), user, self._asserted(self.account, self.member))

    # Responses.

    def take(self, response: Response, sent: "Sent | None", flow: "Flow", domain: str, user: str, group: str) -> None:
        """Open a response that came over a trunk, and tell the caller what held, where that is one of ours.

        Args:
            response: is changed.
            sent: what was done for the request there, None where it went to one of ours.
            flow: how it came.
            domain: of the trunk.
            user: who answers, where that is one of ours.
            group: as what, "" as itself.

        Raises:
            RefusedError: a check failed, or the least level is not reached.
        """
        status = self._within() if sent is None else self.agent.open_response(response, sent, flow, domain)
        if brings_keys(response):
            raise RefusedError(403, "Forbidden", warning(self.domain, "setup keys come in no answer"))
        answers = Member(user, group, began=False) if group else None
        if answers is not None:
            self.groups.disguise(response, answers)
        if self.written is not None:
            response.set("From", self.written[0])
            response.set("Call-ID", self.written[1])
        if self.received is None and (response.body or (100 < response.status < 300 and response.cseq.method in _TOLD)):
            asserted = self._asserted(self.accounts.by_user(user), answers) if sent is None else b""
            self._tell(response, status, "" if self.account is None else self.account.user, asserted)

    def give(self, response: Response, user: str, group: str) -> Response:
        """Make a response ready for who has asked; see `SecurityAgent.seal_response`.

        Args:
            response: as it came; it may be returned as it is.
            user: who answers, "" where that is not one of ours.
            group: as what, "" as itself.

        Raises:
            RefusedError: the least level can't be reached.
        """
        if self.received is None or not response.body:
            return response
        return self.agent.seal_response(response, self.received, self.accounts.by_user(user), self.flow, group)

    # What is told.

    def _within(self) -> Status:
        """What holds within the domain: nothing passes between neighbours, and no signature is checked."""
        return Status(HEAVY, by=self.domain)

    def _asserted(self, account: "Account | None", member: Member | None) -> bytes:
        """The address of one of ours who has shown who it is."""
        if member is not None:
            return f"sip:{member.group}@{self.domain}".encode()
        return b"" if account is None else f"sip:{account.user}@{self.domain}".encode()

    def _tell(self, message: Request | Response, status: Status, user: str, asserted: bytes) -> None:
        account = self.accounts.by_user(user)
        if status.verified and account is not None and account.is_terminal:
            # That its sender's neighbour signed at that time has been checked: a terminal is spared the bytes.
            remove(message, "date")
        status.tell(message, (account.show if account is not None else None) or "", asserted)
        for note in status.notes:
            message.add(*warning(self.domain, note))
