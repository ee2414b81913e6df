"""Two domains with somebody between them both ways, and bare phones that call each other there.

    carol -- a.example -- forth --> b.example -- dave
                     <-- back ----

Each of the two sees what the one domain's neighbour begins at the other's, and the answers to that.
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from attacks.middle import BACK, FORTH, Message, Middle
from sip import TIMEOUT_S, Domain, UdpClient, answer, request, signed

from lab.lab import Lab
from neighbour.agent.certificates import Certificates
from neighbour.config import load
from neighbour.store.accounts import Settings, set_account
from neighbour.store.database import Store
from sipwire.dialog import Dialog
from sipwire.message import Request, Response
from sipwire.transaction import ack_for

__all__ = [
    "ANSWER",
    "HEAVY",
    "NOT_SEALED",
    "OFFER",
    "TO_CAROL",
    "TO_DAVE",
    "Call",
    "Phone",
    "World",
    "between",
    "certificates_of",
    "eventually",
    "garbled",
    "invites",
    "people",
    "reason",
    "set_in",
    "silent_service",
    "told",
]

OFFER = b"v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
ANSWER = b"v=0\r\no=- 2 2 IN IP4 192.0.2.2\r\ns=-\r\nc=IN IP4 192.0.2.2\r\nt=0 0\r\nm=audio 4002 RTP/AVP 0\r\n"
HEAVY = 'level=heavy;verified="sip:%s";by="%s";signed;encrypted;tls'
#: What the two of `people` are told of each other at heavy.
TO_DAVE = HEAVY % ("carol@a.example", "a.example")
TO_CAROL = HEAVY % ("dave@b.example", "b.example")
NOT_SEALED = "heavy security is demanded, and the body is not signed and encrypted, with its headers"
_LOOK_S = 0.02
_numbers = itertools.count(1)
_T = TypeVar("_T")


def set_in(lab: Lab, domain: str, table: str, line: str) -> None:
    """Add a line to a table of a domain's configuration: ``[security]`` or ``[[peer]]``."""
    lab.change(domain, f"\n{table}\n", f"\n{table}\n{line}\n")


@dataclass
class World:
    """See the module."""

    lab: Lab
    left: Domain
    right: Domain
    forth: Middle
    back: Middle

    def count(self, way: Middle, method: str) -> int:
        """How many requests of a method have begun on a way."""
        return sum(isinstance(one, Request) and one.method == method and to == FORTH for to, one in way.seen)

    def wire(self) -> bytes:
        """Everything that has passed between the domains."""
        return b"".join(one.serialize() for way in (self.forth, self.back) for _, one in way.seen)

    def drop(self, way: Middle, method: str) -> None:
        """Let no request of a method pass."""
        way.tamper = lambda message, to: (
            [] if to == FORTH and isinstance(message, Request) and message.method == method else [message]
        )

    def tamper_answer(self, way: Middle, work: Callable[[Response], "list[Response]"], *statuses: int) -> None:
        """Change answers to an INVITE that have a body, and one of some statuses."""
        way.tamper = lambda message, to: (
            work(message)
            if to == BACK
            and isinstance(message, Response)
            and message.cseq.method == "INVITE"
            and message.status in (statuses or (200,))
            else [message]
        )


@contextlib.asynccontextmanager
async def between(
    folder: Path,
    *,
    left: Iterable[str] = (),
    right: Iterable[str] = (),
    level: str = "heavy",
    prepare: Callable[[Lab], None] | None = None,
) -> AsyncIterator[World]:
    """Two domains.

    Args:
        folder: for their files.
        left, right: lines of each one's ``[security]``; those that begin with ``peer:`` are of its ``[[peer]]``.
        level: of ``[security]`` on both sides, "" for none.
        prepare: changes what else is to be changed before they start.
    """
    lab = Lab(folder)
    addresses = lab.make_domains("a.example", "b.example")
    forth_address, back_address = lab.next_address(), lab.next_address()
    for name, lines in (("a.example", left), ("b.example", right)):
        lab.change(name, 'level = "debug"', 'level = "error"')
        lab.configure(name, "relay", '"never"')  # the addresses in descriptions here are made up
        for line in (*([f'level = "{level}"'] if level else []), *lines):
            is_of_peer = line.startswith("peer:")
            set_in(lab, name, "[[peer]]" if is_of_peer else "[security]", line.removeprefix("peer:"))
    lab.change("a.example", f'"{addresses["b.example"]}:5061"', f'"{forth_address}:5061"')
    lab.change("b.example", f'"{addresses["a.example"]}:5061"', f'"{back_address}:5061"')
    if prepare is not None:
        prepare(lab)
    domains = [Domain(lab, name, address) for name, address in addresses.items()]
    of_a, of_b = ((lab.folder / name / f"{name}.pem", lab.folder / name / f"{name}.key") for name in addresses)
    root = lab.folder / "ca" / "root.pem"
    with (
        Middle(forth_address, addresses["b.example"], of_b, of_a, root) as forth,
        Middle(back_address, addresses["a.example"], of_a, of_b, root) as back,
    ):
        try:
            for one in domains:
                await one.start()
            yield World(lab, domains[0], domains[1], forth, back)
        finally:
            for one in domains:
                for client in one.clients:
                    client.close()
                await one.stop()


def reason(message: Request | Response) -> str:
    """The text of its Warning, "" where there is none."""
    value = (message.get("warning") or b"").decode()
    return value.partition(' "')[2].removesuffix('"')


def told(message: Request | Response) -> str:
    """Its Security-Status."""
    found = message.get_all("security-status")
    assert len(found) == 1, found
    return found[0].decode()


async def eventually(look: Callable[[], _T]) -> _T:
    """Wait until something is so; returns what was found."""
    async with asyncio.timeout(TIMEOUT_S):
        while True:
            found = look()
            if found:
                return found
            await asyncio.sleep(_LOOK_S)


class Phone:
    """A bare phone with an account."""

    def __init__(self, at: Domain, user: str, client: UdpClient) -> None:
        self.at, self.user, self.client = at, user, client
        self.aor = f"sip:{user}@{at.name}"

    @classmethod
    async def open(cls, at: Domain, user: str, **settings: str) -> "Phone":
        """Make the account, and register.

        Args:
            at: where.
            user: who.
            settings: of the account.
        """
        await at.add(user)
        self = cls(at, user, await UdpClient.open(at))
        if settings:
            await self.set(**settings)  # type: ignore[arg-type]
        await self.client.register(at, user)
        return self

    async def set(self, **settings: "str | None") -> None:
        """Change the account."""
        store = Store(load(self.at.folder / "wisp.toml").store_url)
        await store.open()
        changes: Settings = settings  # type: ignore[assignment]
        assert await set_account(store, self.user, **changes)
        await store.close()
        await self.at.neighbour._accounts.refresh()

    async def _flush(self) -> None:
        """What is left of calls before is of no interest."""
        with contextlib.suppress(TimeoutError):
            while True:
                await self.client.raw(0.0)

    async def send(
        self, method: str, to: str, body: bytes = b"", kind: str = "application/sdp", *headers: tuple[str, str]
    ) -> Request:
        """Send a request out of a dialog; returns it as it went, with credentials."""
        await self._flush()
        more = (("Content-Type", kind), *headers) if body else headers
        made = request(
            method,
            to,
            self.user,
            self.at.name,
            contact=self.client.contact,
            body=body,
            headers=more,
            from_tag=f"f{next(_numbers)}",
        )
        return await self.send_made(made)

    async def send_made(self, made: Request) -> Request:
        """Send a request that is complete but for Via; returns it as it went, with credentials."""
        challenged = await self.client.ask(made)
        if challenged.status != 407:
            self.client._queue.put_nowait(challenged.serialize())
            return made
        if made.method == "INVITE":
            self.client.send(ack_for(made, challenged))
        again = signed(made, challenged, self.user, "secret")
        again.set("CSeq", made.get("cseq") or b"")  # what it has signed itself has to stay as it is
        self.client.send(again)
        return again


@dataclass
class Call:
    """What has come of a call.

    Attributes:
        caller, callee: who.
        sent: the INVITE as the caller sent it.
        got: the same as the callee got it, None where it has not.
        answered: the final response that the caller got.
        early: the provisional ones before it.
    """

    caller: Phone
    callee: Phone
    sent: Request
    got: Request | None = None
    answered: Response | None = None
    early: list[Response] = field(default_factory=list)

    @classmethod
    async def try_(
        cls,
        caller: Phone,
        callee: Phone,
        *headers: tuple[str, str],
        body: bytes = OFFER,
        kind: str = "application/sdp",
        respond: "Callable[[Request], Response] | None" = None,
        made: Request | None = None,
    ) -> "Call":
        """Call somebody, who answers at once.

        Args:
            caller, callee: who.
            headers: of the INVITE.
            body: of the INVITE.
            kind: of the body.
            respond: makes the answer, where it is another than 200 with `ANSWER`.
            made: the INVITE, where it is a special one.
        """
        await callee._flush()
        if made is None:
            sent = await caller.send("INVITE", callee.aor, body, kind, *headers)
        else:
            sent = await caller.send_made(made)
        self = cls(caller, callee, sent)
        first, other = await _first(caller.client.response(), callee.client.request("INVITE"))
        if other is not None:
            self.got = other
            callee.client.send((respond or self.accept)(other))
            if first is None:
                first = await caller.client.response()
        assert first is not None
        self.answered = first
        if first.status >= 300:
            caller.client.send(ack_for(sent, first))
        return self

    def accept(self, invite: Request, body: bytes = ANSWER) -> Response:
        """A 200 of the callee's."""
        made = answer(invite, 200, self.callee.client.contact)
        made.set_body(b"application/sdp", body)
        return made

    @property
    def invite(self) -> Request:
        """The INVITE that the callee got."""
        assert self.got is not None, self.answered and (self.answered.start_line(), reason(self.answered))
        return self.got

    @property
    def response(self) -> Response:
        """What the caller got."""
        assert self.answered is not None
        return self.answered

    @property
    def outcome(self) -> tuple[int, str]:
        """Status, and the reason in the Warning."""
        return self.response.status, reason(self.response)

    def dialogs(self) -> tuple[Dialog, Dialog]:
        """Of the caller and of the callee, once it is answered."""
        return Dialog.as_caller(self.response), Dialog.as_callee(self.invite, b"callee")

    async def acknowledge(self, body: bytes = b"") -> Request:
        """Send the ACK; returns it as it came."""
        ack = Dialog.as_caller(self.response).new_ack(self.sent.cseq.number)
        if body:
            ack.set_body(b"application/sdp", body)
        self.caller.client.send(ack)
        return await self.callee.client.request("ACK")

    async def end(self) -> None:
        """Acknowledge, and hang up, where it was answered."""
        if self.response.status >= 300:
            return
        await self.acknowledge()
        self.caller.client.send(self.dialogs()[0].new_request("BYE"))
        self.callee.client.send(answer(await self.callee.client.request("BYE"), 200))
        assert (await self.caller.client.response()).status == 200


async def _first(
    response: "Awaitable[Response]", invite: "Awaitable[Request]"
) -> tuple[Response | None, Request | None]:
    """Wait for one of both."""
    tasks = asyncio.ensure_future(response), asyncio.ensure_future(invite)
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            if not task.done():
                task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    found = [None if task.cancelled() else task.result() for task in tasks]
    return found[0], found[1]  # type: ignore[return-value]


async def people(world: World) -> tuple[Phone, Phone]:
    return await Phone.open(world.left, "carol"), await Phone.open(world.right, "dave")


def certificates_of(at: Domain) -> Certificates:
    found = at.neighbour._proxy._agent._certificates
    assert isinstance(found, Certificates)
    return found


def invites(world: World) -> list[Request]:
    """Those that have gone to b.example."""
    return [one for to, one in world.forth.seen if to == FORTH and isinstance(one, Request) and one.method == "INVITE"]


# What somebody between them does.


def garbled(message: Message, to: str) -> list[Message]:
    """What is sealed can't be opened."""
    if to == FORTH and isinstance(message, Request) and message.method == "INVITE" and len(message.body) > len(OFFER):
        message.body = message.body[:-1] + bytes([message.body[-1] ^ 1])
    return [message]


def silent_service(message: Message, to: str) -> list[Message]:
    is_question = to == FORTH and isinstance(message, Request) and message.method == "SUBSCRIBE"
    return [] if is_question else [message]
