"""Dialogs (RFC 3261 section 12): what two user agents must agree on to send requests to each other.

INVITE --1xx with tag--> early --2xx--> confirmed --BYE--> gone
"""

from .errors import ParseError
from .headers import Address
from .message import Request, Response
from .uri import Uri

__all__ = ["Dialog", "contact_of"]


class Dialog:
    """One side of a dialog.

    Attributes:
        call_id: as bytes.
        local, remote: From or To values as they go on the wire, tags included.
        local_tag, remote_tag: the tags alone; remote_tag is b"" for an RFC 2543 peer.
        local_cseq: number of the last request sent.
        remote_cseq: number of the last request received, -1 before the first.
        target: the remote target, a URI as bytes.
        route_set: Route values in the order they are sent.
        confirmed: whether a 2xx made it more than early.
    """

    def __init__(
        self,
        call_id: bytes,
        local: bytes,
        remote: bytes,
        local_cseq: int,
        remote_cseq: int,
        target: bytes,
        route_set: "list[bytes]",
        confirmed: bool,
    ) -> None:
        self.call_id = call_id
        self.local = local
        self.remote = remote
        self.local_tag = Address.parse(local).tag
        self.remote_tag = Address.parse(remote).tag
        self.local_cseq = local_cseq
        self.remote_cseq = remote_cseq
        self.target = target
        self.route_set = route_set
        self.confirmed = confirmed

    @classmethod
    def as_caller(cls, response: Response) -> "Dialog":
        """The dialog that a response of 101 to 299 makes at the sender of its request (section 12.1.2).

        Call-ID, From and CSeq are taken from the response too, where each "MUST equal" the request's (8.2.6.2).

        "The route set MUST be set to the list of URIs in the Record-Route header field from the response, taken in
        reverse order and preserving all URI parameters."

        Raises:
            ParseError: the response has no usable Contact or Record-Route.
        """
        routes = response.values("record-route")
        routes.reverse()
        return cls(
            response.call_id,
            response.get("from") or b"",
            response.get("to") or b"",
            response.cseq.number,
            -1,
            contact_of(response),
            routes,
            response.status >= 200,
        )

    @classmethod
    def as_callee(cls, request: Request, local_tag: bytes, local_cseq: int = 0) -> "Dialog":
        """The dialog that our response makes at the receiver of the request (section 12.1.1).

        Args:
            request: an INVITE without To tag.
            local_tag: the tag that our responses carry.
            local_cseq: from where our own requests count.

        Raises:
            ParseError: the request has no usable Contact or Record-Route.
        """
        return cls(
            request.call_id,
            (request.get("to") or b"") + b";tag=" + local_tag,
            request.get("from") or b"",
            local_cseq,
            request.cseq.number,
            contact_of(request),
            request.values("record-route"),
            False,
        )

    def matches(self, request: Request) -> bool:
        """Whether a request from the peer belongs here: Call-ID, To tag and From tag (section 12)."""
        return (
            request.call_id == self.call_id
            and request.to.tag == self.local_tag
            and request.from_.tag == self.remote_tag
        )

    def new_request(self, method: str) -> Request:
        """A request within the dialog, without Via, Contact and body (section 12.2.1.1). For ACK see `new_ack`."""
        self.local_cseq += 1
        return self._request(method, self.local_cseq)

    def new_ack(self, cseq: int) -> Request:
        """The ACK to a 2xx of our INVITE with that CSeq number (section 13.2.2.4)."""
        return self._request("ACK", cseq)

    def _request(self, method: str, cseq: int) -> Request:
        target = self.target
        routes = self.route_set
        if routes:
            first = Address.parse(routes[0])
            uri = first.parsed_uri()
            if uri.headers:
                raise ParseError("Route")
            if uri.param("lr") is None:
                # A strict router: "the UAC MUST place the first URI from the route set into the Request-URI ... [and]
                # the remote target URI into the Route header field as the last value."
                target = first.uri
                routes = routes[1:] + [b"<" + self.target + b">"]
        request = Request(method, target)
        for route in routes:
            request.add("Route", route)
        request.add("Max-Forwards", b"70")
        request.add("From", self.local)
        request.add("To", self.remote)
        request.add("Call-ID", self.call_id)
        request.add("CSeq", b"%d %s" % (cseq, method.encode()))
        request.add("Content-Length", b"0")
        return request

    def receive(self, request: Request) -> bool:
        """Take a request of the peer's; its target is refreshed where the method does that (section 12.2.2).

        Returns:
            False for one whose CSeq is not higher than the last one's: it is out of order, "MUST be rejected with a
            500".
        """
        if request.method in ("ACK", "CANCEL"):
            return True
        if request.cseq.number <= self.remote_cseq:
            return False
        self.remote_cseq = request.cseq.number
        if request.method in ("INVITE", "UPDATE") and request.get("contact") is not None:
            self.target = contact_of(request)
        return True


def contact_of(message: "Request | Response") -> bytes:
    """The URI of a message's one Contact, which has to be a SIP or SIPS URI (section 8.1.1.8).

    It becomes a Request-URI, so it has no headers component (section 19.1.1, table 1).

    Raises:
        ParseError: none, several, another scheme, or with headers.
    """
    contacts = message.addresses("contact")
    uri = Uri.parse(contacts[0].uri) if len(contacts) == 1 else None
    if uri is None or not uri.is_sip or uri.headers:
        raise ParseError("Contact")
    return contacts[0].uri
