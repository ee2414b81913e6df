"""Hanging up: the BYE that ends a call and offers the next setup key, and what is remembered of calls that are over."""

__all__ = ["Byes"]


class Byes:
    """Our BYEs.

    Args:
        agent: sends requests.
        trust: a `trust.Trust`.
    """

    def __init__(self, agent, trust):
        self._agent = agent
        self._trust = trust
        self._left = []  # names of the dialogs that ended last: a BYE for them may be under way

    def make(self, dialog, now):
        """What `send` wants of a call that stands, while its trust is known: (the BYE, what it offers)."""
        request = dialog.new_request("BYE")
        return request, self._trust.part(request, now)

    def send(self, dialog, now, made=None):
        """End a dialog; without ``made`` there was no call in it, and no trust."""
        self.remember(dialog)
        request, offered = made or (dialog.new_request("BYE"), None)
        self._agent.request(request, now, self._trust.settled(offered) if offered else _ignore)

    def remember(self, dialog):
        """That dialog is over."""
        self._left = self._left[-1:] + [_name(dialog.call_id, dialog.remote_tag)]

    def is_over(self, dialog):
        """Whether that dialog ended just now."""
        return _name(dialog.call_id, dialog.remote_tag) in self._left

    def is_of(self, request):
        """Whether a request is of a dialog that ended just now."""
        return _name(request.call_id, request.from_.tag) in self._left


def _ignore(event, how, now):
    """Whatever answers a BYE, the call is over."""


def _name(call_id, tag):
    """What tells a dialog that is over from others."""
    return call_id + tag
