"""Who speaks as a group, and who is spoken to behind one: found out for each request, from what it says itself.

from a member    a new request: From says the group, or the member's account does
                 within a dialog: the route cookie holds for what others see of it, and not for what the member wrote
to a member      a new request: its Request-URI is the group's
                 within a dialog: its Request-URI is a Contact that `groups` has sealed
"""

from typing import TYPE_CHECKING

from sipwire.errors import ParseError
from sipwire.headers import Address
from sipwire.uri import uri_of

from ..gate import user_of
from .groups import Groups, Member

if TYPE_CHECKING:
    from sipwire.message import Request

    from ..location import Location
    from ..routes import Routes
    from ..store.accounts import Account
    from ..transport.flow import Flow

__all__ = ["Membership"]


class Membership:
    """See the module.

    Args:
        groups: the groups.
        routes: checks cookies.
        location: knows whose a Contact is.
        domain: ours.
    """

    def __init__(self, groups: Groups, routes: "Routes", location: "Location", domain: str) -> None:
        self.groups = groups
        self._routes = routes
        self._location = location
        self._domain = domain.encode()

    def take(self, request: "Request", flow: "Flow") -> "tuple[bool, bytes, Request]":
        """Take our own entries off the Route of a request, see `Routes.take`.

        Returns:
            What that returns; and the request, which is another where a member of a group has sent it within a dialog:
            one that says what the others in the dialog know it by.
        """
        is_possible = bool(request.to.tag) and not flow.identities and self.groups.exist
        written = request.copy() if is_possible else request
        known, token = self._routes.take(request)
        if known or not is_possible:
            return known, token, request
        for other in self._as_seen(written):
            known, token = self._routes.take(other)
            if known:
                return True, token, other
        return False, b"", request

    def _as_seen(self, request: "Request") -> "list[Request]":
        """What others may have seen of a request within a dialog, if it is from a member."""
        uri = request.from_.parsed_uri()
        if not uri.is_sip or uri.host.lower() != self._domain:
            return []
        user = user_of(uri) or ""
        found = []
        names = [user] if self.groups.of(user) is not None else self.groups.of_member(user)
        for name in names:
            for began in (True, False):
                other = request.copy()
                other.set("From", Address(self.groups.uri(name), request.from_.params).serialize())
                if began:
                    other.set("Call-ID", self.groups.call_id(request.call_id))
                found.append(other)
        return found

    def of_sender(self, request: "Request", account: "Account | None", *, known: bool) -> Member | None:
        """The member and group that a request of ours is from, None where nobody speaks as a group.

        Args:
            request: as others see it, where it is within a dialog; see `take`.
            account: of its sender, None where a dialog alone says who that is.
            known: whether it is within a dialog that was made through here. Of one that is not nobody can say what the
                others know its sender as: it gets what a new one would.
        """
        if not self.groups.exist:
            return None
        said = request.from_.parsed_uri()
        name = (user_of(said) or "") if said.is_sip and said.host.lower() == self._domain else ""
        if request.to.tag and known:
            group = self.groups.of(name)
            if group is None:
                return None
            user = account.user if account is not None else self._of_contact(request, group.members)
            return Member(user, name, began=False)
        if account is None:
            return None
        group_name = self.groups.spoken_for(account.user, account.signer, name)
        return Member(account.user, group_name, began=True) if group_name else None

    def _of_contact(self, request: "Request", members: "list[str]") -> str:
        """The member whose Contact a request has, "" where it was registered by none."""
        try:
            contacts = request.addresses("contact")
        except ParseError:
            return ""
        for contact in contacts:
            for user in members:
                binding = self._location.by_contact(contact.uri, user)
                if binding is not None and binding.user == user:
                    return user
        return ""

    def behind(self, request: "Request") -> Member | None:
        """Give a request within a dialog the member's own Contact and Call-ID, where it goes to one of a group's.

        Returns:
            Whom it goes to then.
        """
        if not request.to.tag or not self.groups.exist:
            return None
        uri = uri_of(request.uri)
        found = self.groups.reveal_target(uri) if uri.is_sip and uri.host.lower() == self._domain else None
        if found is None:
            return None
        request.uri, member = found
        self.groups.reveal_call_id(request)
        return member
