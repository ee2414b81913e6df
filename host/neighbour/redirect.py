"""The redirect server (RFC 3261 section 8.3): tells who asks for a user where that is, and has no part in what follows.

request --> is it the first of its dialog, and may its sender go elsewhere? --> are all contacts where anybody can go?
        --> 302 Moved Temporarily, Contact: <sip:carol@192.0.2.7>;q=1;expires=3540, ...

That is for networks where everybody reaches everybody: contacts are given away as they were registered, addresses and
all. Whatever only we can reach is proxied, whatever the mode:

- terminals, which nobody but we can speak to: their accounts have no other mode;
- users who have registered, from anywhere, by a flow (reg-id, RFC 5626) or through an edge proxy (RFC 3327): their
  phones say themselves that they are not reached by their contacts, as behind a NAT. All of such a user's contacts are
  proxied then: a caller who was sent to some would never reach the others;
- requests that a terminal sends: it speaks to nobody but us, and can't follow.
"""

from typing import TYPE_CHECKING

from sipwire.uri import uri_of

from .equivalence import equivalent
from .gate import TERMINAL
from .location import PATH, wall_ms
from .refusal import RefusedError
from .store.accounts import REDIRECT

if TYPE_CHECKING:
    from sipwire.message import Request

    from .gate import Sender
    from .location import Binding
    from .store.accounts import Accounts

__all__ = ["Redirect"]


class Redirect:
    """Answers for users who are to be redirected to.

    Args:
        domain: our domain.
        mode: that of accounts that have none of their own: ``proxy`` or ``redirect``.
        accounts: who is who.
    """

    def __init__(self, domain: str, mode: str, accounts: "Accounts") -> None:
        self._domain = domain
        self._mode = mode
        self._accounts = accounts

    def answer(
        self, request: "Request", sender: "Sender", user: str, bindings: "list[Binding]"
    ) -> "RefusedError | None":
        """What a request for a user is answered with, where it is not to be proxied.

        Args:
            request: the request.
            sender: who has been admitted with it.
            user: whom it asks for.
            bindings: where the user is, the preferred first.

        Returns:
            The 302, or what says that there is nowhere to go; None where it is to be proxied.
        """
        account = self._accounts.by_user(user)
        if account is None or (account.mode or self._mode) != REDIRECT:
            return None
        if not bindings or request.to.tag or sender.kind == TERMINAL or any(map(_needs_us, bindings)):
            return None
        target = uri_of(request.uri)
        if target.scheme == b"sips":
            bindings = [binding for binding in bindings if binding.uri.scheme == b"sips"]
            if not bindings:
                # RFC 5630 section 5.4. Whoever wants every hop protected is not sent on without.
                warning = f'380 {self._domain} "SIPS Not Allowed"'.encode()
                return RefusedError(480, "Temporarily Unavailable", ("Warning", warning))
        # "However, redirect servers MUST NOT redirect a request to a URI equal to the one in the Request-URI".
        bindings = [binding for binding in bindings if not equivalent(binding.uri, target)]
        if not bindings:
            return RefusedError(404, "Not Found")
        now = wall_ms()
        contacts = []
        for binding in bindings:
            left_s = max(1, (binding.expires_at - now) // 1000)
            q = f"{binding.q / 1000:g}".encode()
            contacts.append(("Contact", b"<%s>;q=%s;expires=%d" % (binding.contact, q, left_s)))
        return RefusedError(302, "Moved Temporarily", *contacts)


def _needs_us(binding: "Binding") -> bool:
    """Whether nobody else can reach a binding: a terminal's, or one that says so."""
    return binding.spi is not None or binding.reg_id is not None or binding.kind == PATH
