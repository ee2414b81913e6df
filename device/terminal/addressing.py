"""Who is called or written to, and in whose name: the beginning of a request outside of a dialog (RFC 3261 8.1.1).

What came of a text is told here, too: that is known only after `texting` has been unloaded.
"""

from sipwire.dialog import Dialog
from sipwire.errors import ParseError
from sipwire.headers import Address
from sipwire.transaction import TIMEOUT
from sipwire.uri import Uri

from .events import emit
from .useragent import token

__all__ = ["outset", "target_of", "told"]


def target_of(text, domain):
    """The URI that somebody has typed: ``sip:bob@b.example``, ``bob@b.example``, or ``bob`` of our own domain.

    Args:
        text: as typed.
        domain: ours, as bytes.

    Returns:
        The URI as bytes, or None where it is none that can be called.
    """
    uri = text.encode()
    if b":" not in uri.partition(b"@")[0]:  # else that of a port
        uri = b"sip:" + uri
    if b"@" not in uri:
        uri += b"@" + domain
    try:
        parsed = Uri.parse(uri)
    except ParseError:
        return None
    return uri if parsed.is_sip and not parsed.headers else None


def outset(config, uri):
    """A dialog that does not exist yet, for what it makes: requests in our name to that URI."""
    name = config.display_name.replace("\\", "").replace('"', "")
    sender = Address(config.aor, [(b"tag", token(4))], b'"%s"' % name.encode() if name else b"")
    return Dialog(token(), sender.serialize(), b"<%s>" % uri, 0, -1, uri, [], False)


def told(uri):
    """A callback for the MESSAGE to that URI: an event tells what came of it."""

    def answered(event, how, now):
        status = 408 if event == TIMEOUT else event.status
        if status >= 300:
            reason = "no answer" if event == TIMEOUT else event.reason
            emit("failed", command="message", peer=uri, status=status, reason=reason)
        elif status >= 200:
            emit("sent", peer=uri)

    return answered
