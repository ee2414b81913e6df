"""The end of a call that nobody has: its caller was refused the answer, and who answered has to be told.

A proxy that passes no 2xx on has to end what the 2xx has made: with an ACK, else the 2xx is repeated for 32 seconds,
and a BYE, both as the caller would send them (RFC 3261 sections 13.2.2.4 and 15.1.1).
"""

from typing import TYPE_CHECKING

from sipwire.dialog import Dialog
from sipwire.headers import address_of
from sipwire.message import Request, Response

if TYPE_CHECKING:
    from .routes import Routes

__all__ = ["ends_of"]


def ends_of(response: Response, routes: "Routes") -> tuple[Request, Request]:
    """The ACK and the BYE for a 2xx to an INVITE.

    Args:
        response: as it came, our Via taken off.
        routes: knows our own entries in its Record-Route: what lies on the caller's side of them is not for us.

    Raises:
        ParseError: it has no usable Contact or Record-Route.
    """
    dialog = Dialog.as_caller(response)
    ours = [at for at, value in enumerate(dialog.route_set) if routes.is_ours(address_of(value).parsed_uri())]
    if ours:
        dialog.route_set = dialog.route_set[ours[-1] + 1 :]
    return dialog.new_ack(response.cseq.number), dialog.new_request("BYE")
