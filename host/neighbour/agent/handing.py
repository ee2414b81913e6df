"""How setup keys are handed on: the MESSAGE that has them, what comes of it, and work that nobody waits for."""

from typing import TYPE_CHECKING

import structlog

from sipwire.introduction import SETUP_KEYS, Introduction, write_keys
from sipwire.message import Request, Response

from ..eager import Eager
from ..location import wall_ms
from ..store.database import StoreError
from ..transactions import new_token

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine

    from ..store.setup_keys import Held
    from ..transactions import Client, Transactions
    from ..transport.flow import Flow

__all__ = ["MOVED", "Work", "ask", "keys_message", "left_s", "line_of"]

_log = structlog.get_logger("setup")
#: Given to what `ask` returns, it ends the waiting: the other end is somewhere else by now, and will not answer.
MOVED = "moved"


def left_s(ends_at: int) -> int:
    """The seconds until a time in wall-clock milliseconds, one that has begun counted in full; 0 where it is over."""
    return max(0, -((wall_ms() - ends_at) // 1000))


def line_of(held: "Held", aor: bytes) -> Introduction:
    """A key as it is handed on: with what is left of its life.

    Args:
        held: the key.
        aor: with whom who gets it shares it.
    """
    return Introduction(aor, held.key, max(1, left_s(held.ends_at)), held.uses)  # a life of 0 would be no key


def keys_message(uri: bytes, sender: bytes, to: bytes, keys: list[Introduction]) -> Request:
    """A MESSAGE with keys, complete but for Via.

    Args:
        uri: the Request-URI.
        sender: the URI of From.
        to: that of To.
        keys: the lines of its body.
    """
    request = Request("MESSAGE", uri)
    request.add("Max-Forwards", b"70")
    request.add("From", b"<" + sender + b">;tag=" + new_token(4))
    request.add("To", b"<" + to + b">")
    request.add("Call-ID", new_token())
    request.add("CSeq", b"1 MESSAGE")
    request.set_body(SETUP_KEYS, write_keys(keys))
    return request


def ask(transactions: "Transactions", request: Request, flow: "Flow") -> "asyncio.Future[Response | str]":
    """Send a request.

    Args:
        transactions: sends.
        request: complete but for Via.
        flow: where to.

    Returns:
        What becomes its final response, or why there is none; see `MOVED`.
    """
    found: asyncio.Future[Response | str] = transactions.loop.create_future()

    def event(_client: "Client", answer: "Response | str") -> None:
        if not found.done() and (isinstance(answer, str) or answer.status >= 200):
            found.set_result(answer)

    def over(_: "asyncio.Future[Response | str]") -> None:
        if found.cancelled() or found.result() == MOVED:
            client.abandon()

    client = transactions.request(request, flow, event)
    found.add_done_callback(over)
    return found


class Work:
    """Runs what nobody waits for; what goes wrong with it is logged, in words that have no key in them."""

    def __init__(self) -> None:
        self._eager = Eager()

    def run(self, work: "Coroutine[None, None, None]") -> None:
        """Run a coroutine, up to where it waits at once."""
        self._eager.run(self._safely(work))

    async def close(self) -> None:
        """Cancel what waits."""
        await self._eager.close()

    @staticmethod
    async def _safely(work: "Coroutine[None, None, None]") -> None:
        try:
            await work
        except StoreError as error:
            _log.error("store failed", reason=str(error))
        except Exception:
            _log.exception("setup keys")
