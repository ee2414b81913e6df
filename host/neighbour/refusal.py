"""How a step on a request's way says no, and how others do."""

from typing import TYPE_CHECKING

from sipwire.errors import ParseError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sipwire.message import Response

__all__ = ["RefusedError", "of_answer", "retry_after_s", "warning"]

_MAX_TEXT = 200  # characters of a Warning, more than any reason of ours has; what others wrote may be longer
_MAX_RETRY_AFTER_S = 600  # of a 503: nobody keeps a server out of use for longer


class RefusedError(Exception):
    """A request goes no further: it is answered with this.

    Attributes:
        status, reason: of the answer.
        headers: to add to it.
        body: of it; its type is among the headers.
        is_paid: whether somebody has been charged for the answer; else the address pays that the request came from.
    """

    def __init__(
        self, status: int, reason: str, *headers: tuple[str, bytes], is_paid: bool = False, body: bytes = b""
    ) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers
        self.is_paid = is_paid
        self.body = body


def of_answer(error: RefusedError | ParseError, warn: "Callable[[str], bytes]") -> RefusedError:
    """What who has asked is told where an answer has failed a check, or can't be sent on.

    Our certificate, which a 493 shows, is not for them: without its body go no headers of it either.
    """
    if isinstance(error, ParseError):
        return RefusedError(502, "Bad Gateway", ("Warning", warn(error.reason)))
    return RefusedError(error.status, error.reason, *(one for one in error.headers if one[0] == "Warning"))


def warning(domain: str, text: str, code: int = 399) -> tuple[str, bytes]:
    """A Warning header of ours (RFC 3261 section 20.43).

    The text may hold what others wrote: names out of a certificate, errors of the network. Whatever could end the
    quoted string or the line becomes a "?".

    Args:
        domain: ours.
        text: what to say.
        code: what of.
    """
    shown = "".join(char if char.isprintable() and char not in '"\\' else "?" for char in text.replace('"', "'"))
    return "Warning", f'{code} {domain} "{shown[:_MAX_TEXT]}"'.encode("utf-8", "replace")


def retry_after_s(response: "Response") -> float | None:
    """The seconds of a Retry-After, None where there is none that can be read."""
    value = (response.get("retry-after") or b"").split(b";")[0].split(b"(")[0].strip()
    if not value.isdigit() or len(value) > 9:
        return None
    return min(float(value), _MAX_RETRY_AFTER_S)
