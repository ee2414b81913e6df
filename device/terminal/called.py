"""The callee's side of a call, until it is answered.

Loaded on demand: when it begins to ring, and when it is answered.
"""

from sipwire.compat import const
from sipwire.dialog import Dialog

from .events import emit
from .negotiation import SDP
from .phone import ANSWERED, OK, RING_MS, RINGING
from .useragent import token

__all__ = ["answer", "ring"]

_MAX_EXPIRES_S = const(0xFFFFFFFF)  # RFC 3261 section 20.19
# What the answer to an INVITE is made of.
_KEPT = ("via", "from", "to", "call-id", "cseq", "record-route", "session-expires", "supported", "require")


def ring(phone, transaction, request, now):
    """Take a new call: check it, make ready to answer, and ring.

    Args:
        phone: the `phone.Phone`.
        transaction: the INVITE's.
        request: the INVITE.
        now: milliseconds.

    Raises:
        ParseError, Refusal: as it is to be answered.
    """
    phone.reset()
    phone.agent.forget_served()  # what is left of the call before would lie between the parts of this one
    tag = token(4)
    lasts_s = request.uint("expires", _MAX_EXPIRES_S)
    trust = phone.trust
    body, agreed, proof = phone.read_offer(request, now)
    dialog = Dialog.as_callee(request, tag)
    dialog.new_ack(0)  # a route set of no use shows now, not when a BYE is to be sent
    peer = request.from_
    response = request.response(180, "Ringing", tag)
    for value in request.get_all("record-route"):
        response.add("Record-Route", value)
    phone.finish(response)
    # The request has been read, and lives as long as its transaction.
    request.body = b""
    request.fields = [field for field in request.fields if field[0] in _KEPT]
    # Its user hears of it before its caller does: what is told may be larger than the answer. Where there is no
    # memory for that the call has not come, and may when it is repeated.
    emit("incoming", peer=peer.uri, name=peer.display or None, by=trust.by, verified=trust.verified)
    try:
        phone.agent.respond(transaction, response, now)
    except MemoryError:
        emit("ended", reason="no memory")
        raise
    phone.state = RINGING
    trust.unheard = b""
    phone.peer = peer.uri
    phone.dialog = dialog
    phone.invite = transaction
    phone.body = body
    phone.agreed = agreed
    phone.proof = proof
    phone.local_tag = tag
    phone.since = now
    if phone.config.ring:
        phone.media.ring(now)
    phone.end_at = now + (RING_MS if lasts_s is None else min(1000 * lasts_s, RING_MS))


def answer(phone, now):
    """Take the call that rings; ``phone`` is the `phone.Phone`, ``now`` in milliseconds."""
    request = phone.invite.request
    response = request.response(200, OK, phone.local_tag)
    for value in request.get_all("record-route"):
        response.add("Record-Route", value)
    phone.finish(response)
    response.set_body(SDP, phone.body)
    phone.timer.answer(request, response, now)
    if phone.proof:
        response.add("Setup-Key", phone.proof)
    phone.dialog.confirmed = True
    phone.state = ANSWERED
    phone.change.refresh(phone.timer.refresh_at)
    phone.answer_with(phone.invite, response, now)
