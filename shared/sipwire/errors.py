"""The errors of sipwire.

SipError
├── ParseError      the peer sent something malformed; carries the status a request of that kind is answered with
├── StateError      our own caller asked for something the state forbids
└── SecurityError   a check failed; names the check
"""

__all__ = ["ParseError", "SecurityError", "SipError", "StateError"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .message import Request


class SipError(Exception):
    """Base of every error that sipwire raises on purpose."""


class ParseError(SipError):
    """A peer's bytes break the grammar or a limit.

    Args:
        what: the field that is wrong, e.g. ``"Via"``; never holds the peer's bytes.
        status: the SIP status a request of this kind is answered with (RFC 3261 section 21.4).
        why: how it is wrong.

    ``reason`` puts both in words. ``request`` is the request as far as it could be read, when it could be read far
    enough to be answered.
    """

    def __init__(self, what: str, status: int = 400, why: str = "malformed") -> None:
        self.reason = why + " " + what
        super().__init__(self.reason)
        self.status = status
        self.request: "Request | None" = None


class StateError(SipError):
    """A call that the present state of an object does not allow: a mistake on our side, not the peer's."""


class SecurityError(SipError):
    """A security check failed; what was checked must not be used.

    Args:
        check: the name of the check, e.g. ``"hop tag"`` or ``"srtp replay"``.
    """

    def __init__(self, check: str) -> None:
        super().__init__(check)
        self.check = check
