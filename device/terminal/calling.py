"""The caller's side of a call, until it stands or is over; and what becomes of calls that nobody answers.

Loaded on demand: for the command, for each response that tells something, and when its time is over.
"""

from sipwire.dialog import Dialog
from sipwire.errors import ParseError
from sipwire.transaction import TIMEOUT

from . import forks
from .addressing import outset, target_of
from .events import emit
from .negotiation import SDP, content_type
from .phone import CALLING, CANCELLING, IDLE, RING_MS, RINGING

__all__ = ["dial", "expire", "take"]


def dial(phone, target, now):
    """Call a URI, or a user of our own domain.

    Args:
        phone: the `phone.Phone`.
        target: see `addressing.target_of`.
        now: milliseconds.
    """
    uri = target_of(target, phone.config.domain)
    if phone.state != IDLE or uri is None:
        emit("refused", command="call", reason="malformed URI" if uri is None else "busy")
        return
    phone.reset()  # there may be something of an attempt that there was no memory for
    phone.agent.forget_served()
    phone.outset = outset(phone.config, uri)
    phone.trust.choose(uri, now)
    phone.session.offer()
    _send_invite(phone, now)
    phone.state = CALLING
    phone.peer = uri
    phone.since = now
    phone.end_at = now + RING_MS
    emit("calling", peer=uri)


def _send_invite(phone, now):
    request = phone.outset.new_request("INVITE")
    phone.finish(request)
    phone.timer.ask(request)
    request.set_body(SDP, phone.session.offered)
    phone.trust.ask(request, now)
    phone.can_cancel = False
    phone.invite = phone.agent.request(request, now, phone.watch())


def take(phone, current, event, now):
    """Take a response to an INVITE that begins a call, or `TIMEOUT`.

    Args:
        phone: the `phone.Phone`.
        current: False when its call is over.
        event: the response.
        now: milliseconds.

    Returns:
        Whether it is a 2xx that has the call: then what it answers our offer with is to be looked at.
    """
    status = 408 if event == TIMEOUT else event.status
    if 200 <= status < 300:
        return _accepted(phone, current, event, now)
    if not current:
        pass
    elif status < 200:
        due = phone.state == CANCELLING and not phone.can_cancel
        phone.can_cancel = True
        if due:
            phone.cancel(now)
        elif status > 100 and phone.state == CALLING:
            is_heard = _hear(phone, event, now)
            if status >= 180:
                if status == 180 and phone.heard is None and phone.config.ring:
                    phone.media.ring(now)
                emit("progress", status=status, media=is_heard)
    elif status == 422 and phone.state == CALLING and phone.timer.lengthen(event):
        _send_invite(phone, now)
    elif status in (428, 488) and phone.state == CALLING and phone.trust.kid:
        # It does not know our key, or of such keys at all (WIRE section 4.1).
        phone.forks = []
        phone.trust.refuse()
        phone.session.offer()
        _send_invite(phone, now)
    elif event == TIMEOUT:
        _failed(phone, 408, "no answer", None)
    else:
        _failed(phone, status, event.reason, event.get("warning"))
    return False


def _hear(phone, response, now):
    """Take an early dialog, and the speech that comes before anybody has answered.

    Returns:
        True where there is some, else None. The microphone stays off.
    """
    try:
        forks.add(phone.forks, response)
        if content_type(response) == SDP and response.body:
            session = phone.session
            phone.trust.accept(response, now)
            session.apply(session.accept(response.body), now, False)
            phone.heard = response.to.tag
            return True
    except (OSError, ParseError, ValueError):
        pass  # what can't be used now may be said again in the 2xx, which counts
    return None


def _accepted(phone, current, response, now):
    """A 2xx: the first, the same again, that of another fork, or one that crosses our CANCEL or BYE."""
    dialog = phone.dialog if current else None
    tag = response.to.tag
    number = response.cseq.number
    if dialog is not None and tag == dialog.remote_tag:
        phone.agent.send(dialog.new_ack(number))
        return False
    if (dialog is not None or not current) and phone.agent.is_full:
        return False  # without an ACK it ends by itself
    try:
        fork = Dialog.as_caller(response)
        phone.agent.send(fork.new_ack(number))
    except ParseError:
        if dialog is None and current:
            _failed(phone, 502, "unusable answer", None)
        return False
    if dialog is None and current and phone.byes.is_over(fork):
        phone.ended("peer hung up", now)  # its BYE was quicker
    elif dialog is not None or phone.state != CALLING or not current:
        phone.byes.send(fork, now)
        if current and dialog is None:
            phone.ended("cancelled", now)
    else:
        forks.go_on(phone.forks, fork)
        phone.dialog = fork
        phone.forks = []
        return True
    return False


def _failed(phone, status, reason, warning):
    cancelled = phone.state == CANCELLING
    try:
        phone.media.stop()
    finally:
        phone.reset()
    if cancelled:
        emit("ended", reason="cancelled")
    else:
        emit("failed", status=status, reason=reason, warning=warning)


def expire(phone, now):
    """A state of a call has lasted too long: nobody answers, or nobody acknowledges. ``now`` is in milliseconds."""
    if phone.state == RINGING and phone.end_at - phone.since < RING_MS:
        phone.decline(487, "Request Terminated", "nobody answered", now)  # its Expires: section 13.3.1
    elif phone.state == RINGING:
        phone.decline(480, "Temporarily Unavailable", "nobody answered", now)
    elif phone.state == CALLING:
        phone.hang_up(now)
    elif phone.state == CANCELLING:
        # "If there is no final response ... in 64*T1 seconds, the client SHOULD consider the original
        # transaction cancelled and SHOULD destroy the client transaction" (section 9.1).
        phone.agent.abandon(phone.invite)
        phone.ended("cancelled", now)
    else:
        # "If the server retransmits the 2xx response for 64*T1 seconds without receiving an ACK, the dialog is
        # confirmed, but the session SHOULD be terminated. This is accomplished with a BYE." (section 13.3.1.4)
        phone.bye("no ACK", now)
