"""The end of a call that nobody has: its caller was refused the answer, and who answered has to be told.

A proxy that passes no 2xx on has to end what the 2xx has made: with an ACK, else the 2xx is repeated for 32 seconds,
and a BYE, both as the caller would send them (RFC 3261 sections 13.2.2.4 and 15.1.1).
"""

from typing import TYPE_CHECKING

from sipwire.dialog import Dialog
from sipwire.errors import ParseError
from sipwire.headers import address_of
from sipwire.message import Request, Response

from .transactions import new_branch

if TYPE_CHECKING:
    from .branch import Branch
    from .routes import Routes
    from .surroundings import Surroundings
    from .transactions import Client
    from .ways import Way

__all__ = ["ends_of", "hang_up"]

_MAX_FORWARDS = b"70"


def hang_up(branch: "Branch", client: "Client", response: Response, around: "Surroundings") -> None:
    """Acknowledge a 2xx to an INVITE, each time it comes, and end its call, once.

    Args:
        branch: whose answer it is.
        client: its transaction.
        response: the answer as it came, our Via taken off.
        around: sends.
    """
    assert branch.way is not None
    try:
        ack, bye = ends_of(response, branch.way, around.routes)
    except ParseError:
        return  # nobody can be told
    around.transactions.send_ack(ack, client.flow, new_branch())
    if not branch.hung_up:
        branch.hung_up = True
        around.transactions.request(bye, client.flow, _ignore)


def ends_of(response: Response, way: "Way", routes: "Routes") -> tuple[Request, Request]:
    """The ACK and the BYE for a 2xx to an INVITE.

    Args:
        response: as it came, our Via taken off.
        way: that the INVITE took. Within a dialog they take the same: there no answer says which it is.
        routes: knows our own entries in its Record-Route: what lies on the caller's side of them is not for us.

    Raises:
        ParseError: it has no usable Contact or Record-Route.
    """
    if way.request.to.tag:
        return _like(way.request, "ACK", 0), _like(way.request, "BYE", 1)
    dialog = Dialog.as_caller(response)
    ours = [at for at, value in enumerate(dialog.route_set) if routes.is_ours(address_of(value).parsed_uri())]
    if ours:
        dialog.route_set = dialog.route_set[ours[-1] + 1 :]
    if way.group:
        dialog.target = way.request.uri  # the Contact is the group's by now, which its member's phone does not know
    return dialog.new_ack(response.cseq.number), dialog.new_request("BYE")


def _like(request: Request, method: str, later: int) -> Request:
    """Another request of the same dialog that goes the same way."""
    made = Request(method, request.uri)
    for value in request.get_all("route"):
        made.add("Route", value)
    made.add("Max-Forwards", _MAX_FORWARDS)
    made.add("From", request.get("from") or b"")
    made.add("To", request.get("to") or b"")
    made.add("Call-ID", request.call_id)
    made.add("CSeq", b"%d %s" % (request.cseq.number + later, method.encode()))
    return made


def _ignore(client: "Client", event: "Response | str") -> None:
    """Nobody waits for the answer."""
