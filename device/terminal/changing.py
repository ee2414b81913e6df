"""What we want changed about a call that stands: on hold, elsewhere; the re-INVITE, and what comes of it.

RFC 3261 section 14.1.

Loaded on demand: for each of them.
"""

from sipwire.transaction import T1_MS

from .events import emit
from .negotiation import SDP
from .phone import IDLE, RINGING, TALKING

__all__ = ["changed", "hold", "move", "reinvite"]


def reinvite(phone, now):
    """Offer the session as it should be now: on hold or not, from where we are; that refreshes it, too.

    Args:
        phone: the `phone.Phone`.
        now: milliseconds.
    """
    change, dialog = phone.change, phone.dialog
    if change.transaction:
        change.abandon()
        phone.bye("no answer", now)
        return
    change.put_off(now)
    if phone.ok:
        return  # section 14.1: not before its ACK
    request = dialog.new_request("INVITE")
    phone.finish(request)
    phone.timer.ask(request)
    request.set_body(SDP, phone.session.offer(False))
    phone.trust.ask(request, now)
    change.send(request, dialog, phone.changed, now)


def changed(phone, status, event, now):
    """Take the final response to our re-INVITE, or `TIMEOUT`.

    Returns:
        Whether it is a 2xx: then what it answers our offer with is to be looked at.
    """
    session, timer, change = phone.session, phone.timer, phone.change
    if status < 300:
        change.settle()
        timer.accept(event, now)
        change.refresh(timer.refresh_at)
        return True
    session.offered = None
    if status == 422 and timer.lengthen(event):
        change.at = now
    elif status == 491:
        change.yield_to(phone.outset is not None, now)
    elif status in (408, 481):
        phone.bye("no answer" if status == 408 else "peer is gone", now)  # section 12.2.1.2
    else:
        asked = change.settle()
        at = timer.refresh_at
        change.refresh(None if at is None else max(at, now + 64 * T1_MS))
        if asked:
            session.is_held = not session.is_held
            emit("refused", command=asked, reason="%d" % status)
            session.apply(session.agreed, now)
    return False


def hold(phone, is_held, now):
    """Put the peer on hold, or take it back. What fails is told; until then the microphone is off as asked.

    Args:
        phone: the `phone.Phone`.
        is_held: which of the two.
        now: milliseconds.
    """
    command = "hold" if is_held else "resume"
    session, change = phone.session, phone.change
    is_busy = change.asked or change.transaction
    if phone.state != TALKING or is_busy or session.is_held == is_held:
        emit("refused", command=command, reason="busy" if is_busy else "not now")
        return
    session.is_held = is_held
    change.ask(command, now)
    session.apply(session.agreed, now)


def move(phone, contact, address, now):
    """The network was gone, and is there again: a call that stands goes on, from another address if need be.

    Args:
        phone: the `phone.Phone`.
        contact: our Contact URI, as bytes.
        address: our numeric address for media, as bytes.
        now: milliseconds.
    """
    is_same, phone.contact = contact == phone.contact, contact
    phone.session.address = address
    if phone.state == TALKING:
        if not is_same:
            phone.change.move(now)
    elif phone.state == RINGING:
        phone.decline(480, "Temporarily Unavailable", "network lost", now)
    elif phone.state != IDLE:
        phone.ended("network lost", now)
