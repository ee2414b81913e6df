"""The early dialogs of our call, where it rings in several places (RFC 3261 section 13.2.2.4): a list of them."""

from sipwire.compat import const
from sipwire.dialog import Dialog

__all__ = ["add", "go_on"]

_MAX_FORKS = const(4)  # of one call; what others say before their final answer is not heard


def add(forks, response):
    """Take the early dialog of a provisional response, where it has one that is not known yet.

    Raises:
        ParseError: it can't make one.
    """
    tag = response.to.tag
    if tag and len(forks) < _MAX_FORKS and not [1 for fork in forks if fork.remote_tag == tag]:
        forks.append(Dialog.as_caller(response))


def go_on(forks, dialog):
    """Let the dialog of a 2xx count on from what its early one has seen of the other side's requests."""
    for early in forks:
        if early.remote_tag == dialog.remote_tag:
            dialog.remote_cseq = early.remote_cseq
