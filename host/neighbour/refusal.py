"""How a step on a request's way says no."""

__all__ = ["RefusedError", "warning"]

_MAX_TEXT = 200  # characters of a Warning, more than any reason of ours has; what others wrote may be longer


class RefusedError(Exception):
    """A request goes no further: it is answered with this.

    Attributes:
        status, reason: of the answer.
        headers: to add to it.
        is_paid: whether somebody has been charged for the answer; else the address pays that the request came from.
    """

    def __init__(self, status: int, reason: str, *headers: tuple[str, bytes], is_paid: bool = False) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers
        self.is_paid = is_paid


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
