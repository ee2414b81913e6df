"""How a message has to be protected, and what is kept of how it was until its responses have gone the same way."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sipwire.message import Request

from .keyed import kid_of_call
from .policy import Status, Wish

if TYPE_CHECKING:
    from sipwire.message import Message, Response

    from ..store.accounts import Account

__all__ = ["Received", "Sent", "is_protected", "kid_of"]

#: That are signed and encrypted whether they have a body or not: they begin or change something.
_METHODS = ("INVITE", "UPDATE", "MESSAGE")


def is_protected(message: "Message") -> bool:
    """Whether a message is one that is signed and encrypted where its level asks for that."""
    return bool(message.body) or (isinstance(message, Request) and message.method in _METHODS)


@dataclass(slots=True)
class Sent:
    """What was done for a request of ours that went over a trunk: its responses have to come as well protected.

    Attributes:
        least: the least level.
        wish: the sender's.
        recipient: the address-of-record it is for.
        is_sealed: whether we signed or encrypted it.
        is_own: whether its sender did, with a key of its own; an answer may be encrypted for that.
        plain: see `Status`.
        sides: the URIs of From and To, which no answer changes; none where nobody looks.
        kid: of the setup key that protects it, b"" for none; an answer has the same.
    """

    least: str
    wish: Wish
    recipient: bytes
    is_sealed: bool = False
    is_own: bool = False
    plain: str = ""
    sides: tuple[bytes, ...] = field(default=(), compare=False)
    kid: bytes = b""


@dataclass(slots=True)
class Received:
    """What a request was like that came over a trunk: its responses go back as well protected.

    Attributes:
        status: what is told of it.
        least: the least level.
        wish: the recipient's.
        sender: the address-of-record it is from.
        kid: see `Sent`.
    """

    status: Status
    least: str
    wish: Wish
    sender: bytes
    kid: bytes = b""


def kid_of(message: "Request | Response", account: "Account | None") -> bytes:
    """The name of the setup key that protects what is from or to somebody of ours, b"" where none does.

    A phone would not check the MAC, whatever the message looks like.
    """
    return kid_of_call(message) if account is not None and account.is_terminal else b""
