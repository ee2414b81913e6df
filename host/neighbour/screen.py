"""Before anybody is known: whether a message is read at all, whether a new request is taken on, and who is answered.

    datagram --reads()--> parse --> its transaction, if it has one
                                --> refuses()? 503 --> the gate: who is it? --> nobody we know: may_answer()? --> once

Where nobody has shown who they are, no answer is more than twice as large as what it answers, and there is one at most:
whoever forges an address gains little by it. (QUIC allows three times as much, RFC 9000 section 8.1.) What phones send
is large enough for every answer.
"""

from typing import TYPE_CHECKING

from .refusal import RefusedError

if TYPE_CHECKING:
    from sipwire.message import Request

    from .limits import Limits
    from .metrics import Metrics
    from .overload import Overload
    from .transport.flow import Flow

__all__ = ["Screen"]

_MAX_GAIN = 2  # bytes for a byte, to an address that anybody may have forged
_ENDS = ("CANCEL", "BYE")  # work


class Screen:
    """See the module.

    Args:
        limits: what strangers may ask.
        overload: whether it is too much for us.
        metrics: counts.
    """

    def __init__(self, limits: "Limits", overload: "Overload", metrics: "Metrics") -> None:
        self._limits = limits
        self._overload = overload
        self._metrics = metrics

    def reads(self, flow: "Flow") -> bool:
        """Whether a message that came on a flow is read."""
        if _is_proven(flow):
            return True
        if self._overload.level and self._overload.skips() and not self._limits.known(flow.peer[0]):
            self._metrics.overload_refused.inc()
            return False
        return self._limits.reads(flow.peer[0])

    def may_answer(self, flow: "Flow") -> bool:
        """Charge whoever sent something on a flow without showing who they are; says whether it may be answered."""
        return _is_proven(flow) or self._limits.stranger(flow.peer[0])

    def is_small(self, answer: bytes, received: int, flow: "Flow") -> bool:
        """Whether an answer may go to somebody unknown by its size.

        Args:
            answer: the answer.
            received: the size of what it answers.
            flow: where to. Who has made a connection has not forged an address, and who seals frames is no stranger.
        """
        if flow.reliable or flow.protection == "frame" or len(answer) <= _MAX_GAIN * received:
            return True
        self._metrics.limited.labels("answer").inc()
        return False

    def overloaded(
        self, request: "Request", flow: "Flow", *, in_dialog: bool | None = None, is_full: bool = False
    ) -> RefusedError | None:
        """What a request that belongs to no transaction is refused with, because we are overloaded; or None.

        Args:
            request: the request.
            flow: how it came.
            in_dialog: whether it belongs to a dialog; None takes its tags' word for it.
            is_full: whether there is no room for another transaction.
        """
        if not (is_full or self._overload.level) or request.method in _ENDS:
            return None
        if not is_full:
            if in_dialog is None:
                in_dialog = bool(request.to.tag)
            credentials = any(key in ("authorization", "proxy-authorization") for key, _ in request.fields)
            known = credentials or _is_proven(flow) or bool(self._limits.known(flow.peer[0]))
            if in_dialog or not self._overload.refuses(stranger=not known):
                return None
        self._metrics.overload_refused.inc()
        retry_after = self._overload.retry_after(peer=bool(flow.identities))
        return RefusedError(503, "Service Unavailable", ("Retry-After", retry_after))


def _is_proven(flow: "Flow") -> bool:
    """Whether a flow proves who is at its other end: by frames, or as a connection of a peer.

    (A datagram of an address that is taken for a peer's proves nothing: anybody can have forged it.)
    """
    return flow.protection == "frame" or (flow.reliable and bool(flow.identities))
