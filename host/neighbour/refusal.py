"""How a step on a request's way says no."""

__all__ = ["RefusedError"]


class RefusedError(Exception):
    """A request goes no further: it is answered with this.

    Attributes:
        status, reason: of the answer.
        headers: to add to it.
    """

    def __init__(self, status: int, reason: str, *headers: tuple[str, bytes]) -> None:
        super().__init__(f"{status} {reason}")
        self.status = status
        self.reason = reason
        self.headers = headers
