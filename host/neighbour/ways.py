"""What a target is: the ways to it, and a request ready to be sent on each of them."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sipwire.message import Request
    from sipwire.uri import Uri

    from .resolver import Target
    from .transport.flow import Flow

__all__ = ["Groups", "Way", "size_bytes"]


def size_bytes(request: "Request") -> int:
    """About how many bytes it will have, our Via included."""
    return sum(len(line) + 2 for _, line in request.fields) + len(request.body) + len(request.uri) + 100


@dataclass(eq=False, slots=True)
class Way:
    """A way to a target: a flow that stands, or where to find a server.

    Attributes:
        request: complete but for what belongs to one hop. It is copied, never changed.
        flow: the flow, or None.
        uri: whose servers to find, where there is neither flow nor target.
        target: the server, where it is known.
        again: whether a connection to it has died under us already.
        is_phone: whether it leads to a phone of ours, and not to another domain.
        user: whose phone that is.
        group: as what that user answers, "" for itself.
    """

    request: "Request"
    flow: "Flow | None" = None
    uri: "Uri | None" = None
    target: "Target | None" = None
    again: bool = False
    is_phone: bool = True
    user: str = ""
    group: str = ""

    @property
    def domain(self) -> str:
        """The domain whose server it leads to, "" for a flow."""
        if self.target is not None:
            return self.target.domain
        return "" if self.uri is None else self.uri.host.decode("latin-1").lower()


#: What rings together, in order; of each group its targets, and of each of these its ways in order.
Groups = list[list[list[Way]]]
