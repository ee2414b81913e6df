"""Terminals that are introduced to each other: two domains with somebody between them, and what each terminal gets."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import Iterable
from typing import Any

import pytest
from attacks.middle import BACK, FORTH, Message
from sealed import World
from sip import TIMEOUT_S, Domain, Hopper, answer, request
from sqlalchemy import select

from neighbour.config import load
from neighbour.store.database import Store
from neighbour.store.schema import setup_keys
from neighbour.store.setup_keys import change_contacts
from sipwire.introduction import SETUP_KEYS, Introduction, Wanted, read_keys, write_peers
from sipwire.message import Request, Response

__all__ = [
    "ALICE",
    "DAVE",
    "LATER_S",
    "Terminal",
    "answered",
    "consent",
    "is_keys",
    "loses_answers",
    "loses_requests",
    "over",
    "quickly",
    "restart",
    "rows",
    "same",
    "states",
    "two",
]

LIFE, USES = 86_400, 20
ALICE, DAVE = "sip:alice@a.example", "sip:dave@b.example"
#: What is left in the two stores when both terminals have their key.
DELIVERED = [("alice", DAVE, "delivered", False)], [("dave", ALICE, "delivered", False)]
LATER_S = 20.0  # longer than the second in which something is tried again
_numbers = itertools.count(1)


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is tried again is so after a second, and whoever repeats a wish is heard."""
    monkeypatch.setattr("neighbour.agent.offers._AGAIN_S", (1,))
    monkeypatch.setattr("neighbour.agent.delivery._AGAIN_S", (1, 1, 1, 1))
    monkeypatch.setattr("neighbour.agent.setup._PAUSE_MS", 0)


class Terminal:
    """A terminal with an account.

    Attributes:
        got: the keys that it has been given, in order.
    """

    def __init__(self, at: Domain, user: str, hopper: Hopper) -> None:
        self.at, self.user, self.hopper = at, user, hopper
        self.aor = f"sip:{user}@{at.name}"
        self.got: list[Introduction] = []
        self._cseq = 2
        self._requests: list[Request] = []
        self._answers: dict[bytes, Response | None] = {}  # to requests, by branch

    @classmethod
    async def make(cls, at: Domain, user: str, *contacts: str, joins: bool = True) -> "Terminal":
        """Make the account, with contacts, and register."""
        await at.add(user, terminal=True)
        if contacts:
            await consent(at, user, *contacts)
        hopper = await Hopper.open(at)
        assert isinstance(hopper, Hopper)
        self = cls(at, user, hopper)
        if joins:
            await self.join()
        return self

    async def join(self) -> None:
        """Make an agreement; what is in frames of one before is lost."""
        self.hopper.prepare(self.user, self.at)
        challenged = await self.hopper.ask(self.hopper.register_request(1))
        assert challenged.status == 401, challenged.start_line()
        self.hopper.send(self.hopper.prove_request(challenged))
        assert (await self._final(anew=True)).status == 200
        self._cseq = 2

    async def register(self, *peers: str, value: bytes | None = None, life: int = LIFE, uses: int = USES) -> Response:
        """Refresh the registration in a frame, naming peers."""
        self._cseq += 1
        made = request(
            "REGISTER",
            f"sip:{self.at.name}",
            self.user,
            self.at.name,
            to=self.aor,
            contact=self.hopper.contact,
            cseq=self._cseq,
            call_id=f"hop{self.hopper.spi}",
            headers=(("Expires", "600"),),
        )
        if peers:
            made.add("Setup-Peers", write_peers([Wanted(peer.encode(), life, uses) for peer in peers]))
        if value is not None:
            made.add("Setup-Peers", value)
        self.hopper.send_frame(made)
        return await self._final()

    async def _final(self, *, anew: bool = False) -> Response:
        """The next final response; requests that come before it are kept."""
        while True:
            message = await self.hopper.framed(anew=anew)
            if isinstance(message, Request):
                self._take(message)
            elif message.status >= 200:
                return message

    def _take(self, message: Request) -> None:
        """Keep a request; one that is repeated has been answered, or will be."""
        branch = message.via.branch + message.method.encode()
        if branch not in self._answers:
            self._answers[branch] = None
            self._requests.append(message)
        elif (known := self._answers[branch]) is not None:
            self.hopper.send_frame(known)

    async def request(self, timeout_s: float = TIMEOUT_S) -> Request:
        """The next request."""
        async with asyncio.timeout(timeout_s):
            while not self._requests:
                message = await self.hopper.framed()
                if isinstance(message, Request):
                    self._take(message)
        return self._requests.pop(0)

    async def introduced(self, status: int = 200, *, timeout_s: float = TIMEOUT_S) -> list[Introduction]:
        """Wait for a message with keys, and answer it; 0: do not."""
        message = await self.request(timeout_s)
        assert message.method == "MESSAGE"
        assert message.get("content-type") == SETUP_KEYS
        assert message.from_.uri == b"sip:" + self.at.name.encode()
        assert message.to.uri == self.aor.encode()
        assert message.uri == self.hopper.contact.encode()
        found = read_keys(message.body)
        if status:
            self.send(answer(message, status, tag=b"t%d" % next(_numbers)))
        if status == 200:
            self.got += found
        return found

    async def nothing(self, seconds: float = 0.3) -> None:
        """Nothing comes."""
        with contextlib.suppress(TimeoutError):
            message = await self.request(seconds)
            raise AssertionError(f"unexpected: {message.serialize()!r}")

    def send(self, made: Request | Response) -> None:
        """Send a message in a frame."""
        if isinstance(made, Response):
            self._answers[made.via.branch + made.cseq.method.encode()] = made
        self.hopper.send_frame(made)

    async def ask(self, made: Request) -> Response:
        """Send a request in a frame; returns its final response."""
        self.send(made)
        return await self._final()


async def consent(at: Domain, user: str, *contacts: str, remove: Iterable[str] = ()) -> None:
    """Let a user be introduced to others, or not any more, as ``wisp account contact`` does."""
    store = Store(load(at.folder / "wisp.toml").store_url)
    await store.open()
    await change_contacts(store, at.name, user, contacts, list(remove))
    await store.close()


async def rows(at: Domain) -> list[Any]:
    """The table of setup keys of a neighbour that runs or not."""
    store = Store(load(at.folder / "wisp.toml").store_url)
    await store.open()
    try:
        return await store.read(select(setup_keys).order_by(setup_keys.c.id))
    finally:
        await store.close()


async def states(at: Domain) -> list[tuple[str, str, str, bool]]:
    """Of each key: user, peer, state, and whether it is there."""
    return [(row.user, row.peer, row.state, row.key is not None) for row in await rows(at)]


async def restart(at: Domain) -> None:
    """Stop a neighbour and start it again; what it had not written down is lost."""
    await at.stop()
    await at.start()


async def over(world: World, left: object = DELIVERED[0], right: object = DELIVERED[1]) -> None:
    """Wait until the two stores are as they are to be."""
    end = time.monotonic() + LATER_S
    while (found := (await states(world.left), await states(world.right))) != (left, right):
        assert time.monotonic() < end, found


async def two(world: World, *, dave_joins: bool = True) -> tuple[Terminal, Terminal]:
    """Alice, and Dave, whom she may be introduced to."""
    dave = await Terminal.make(world.right, "dave", ALICE, joins=dave_joins)
    return await Terminal.make(world.left, "alice"), dave


def same(one: Terminal, other: Terminal) -> Introduction:
    """Both have one key, which is the same; returns it."""
    (ours,), (theirs,) = one.got, other.got
    assert (ours.aor, theirs.aor) == (other.aor.encode(), one.aor.encode())
    assert (ours.key, ours.uses) == (theirs.key, theirs.uses)
    assert abs(ours.life - theirs.life) <= 5
    return ours


# What somebody between the two does.


def is_keys(message: Message, *, answers: bool = False) -> bool:
    """Whether a message on the trunk is one with keys, or the answer to one: there is no other MESSAGE."""
    if answers:
        return isinstance(message, Response) and message.cseq.method == "MESSAGE"
    return isinstance(message, Request) and message.method == "MESSAGE"


def loses_requests(message: Message, to: str) -> list[Message]:
    return [] if to == FORTH and is_keys(message) else [message]


def loses_answers(message: Message, to: str) -> list[Message]:
    return [] if to == BACK and is_keys(message, answers=True) else [message]


def answered(message: Message, to: str, status: int) -> list[Message]:
    """Let the other end refuse what it can't read any more, and say that it has answered something else."""
    if to == FORTH and is_keys(message):
        message.body = b""
        message.set("Content-Length", b"0")
    if is_keys(message, answers=True):
        assert isinstance(message, Response)
        message.status, message.reason = status, b"No"
    return [message]
