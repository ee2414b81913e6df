"""The harness for session descriptions: any bytes as an offer, and as the answer to one of ours, under every policy.

Whatever comes, SRTP is what is agreed on where it is required, both ends understand the answer in the same way, and a
stream that was SRTP stays so.
"""

from fuzzing.texts import check_refusal
from sipwire.agreed import Agreed
from sipwire.answer import make_answer
from sipwire.crypto import Crypto
from sipwire.errors import ParseError
from sipwire.offer import accept_answer, make_offer
from sipwire.sdp import DIRECTIONS, Session
from sipwire.streams import OFF, OPPORTUNISTIC, REQUIRED, Speaks

__all__ = ["check_sdp"]

# Ours: what has them on the other side is refused, so no seed has.
_KEYS = {
    b"AES_CM_128_HMAC_SHA1_80": bytes(range(150, 180)),
    b"AES_CM_128_HMAC_SHA1_32": bytes(range(170, 200)),
    b"AES_256_CM_HMAC_SHA1_80": bytes(range(200, 246)),
}
_POLICIES = (REQUIRED, OPPORTUNISTIC, OFF)
_STATIC = {0: b"PCMU/8000", 8: b"PCMA/8000"}
# What both ends agree on in the same words.
_SAME = ("kind", "index", "payload_type", "event_type", "red_type", "generations", "mixer", "suite")


def _speaks(policy: int) -> Speaks:
    return Speaks(4000, [0, 8], list(_KEYS), _KEYS.__getitem__, 4002, policy, events=True, mux=True)


def check_sdp(data: bytes) -> None:
    """`sipwire.sdp`, `crypto`, `streams`, `offer` and `answer`."""
    try:
        session = Session.parse(data)
    except ParseError as error:
        check_refusal(error)
        return
    text = session.serialize()
    again = Session.parse(text)
    assert again.serialize() == text
    assert again.lines == session.lines
    for one, two in zip(session.media, again.media, strict=True):
        assert (one.kind, one.port, one.proto, one.formats, one.lines) == (
            two.kind,
            two.port,
            two.proto,
            two.formats,
            two.lines,
        )
        for crypto in one.cryptos():
            line = crypto.serialize()
            assert Crypto.parse(line).serialize() == line
    for policy in _POLICIES:
        found = _check_as_offer(data, policy, [])
        if found and policy == OPPORTUNISTIC:
            secured = Agreed(found[0].kind, 0)
            secured.suite = b"AES_CM_128_HMAC_SHA1_80"
            for stream in _check_as_offer(data, policy, [secured]):
                assert stream.suite or stream.kind != secured.kind
        _check_as_answer(session, policy)


def _check_as_offer(data: bytes, policy: int, before: list[Agreed]) -> list[Agreed]:
    """Answer it; returns what is agreed on."""
    session, speaks = Session.parse(data), _speaks(policy)
    try:
        answer, agreed = make_answer(speaks, session, b"192.0.2.1", 1, before=before)
    except ParseError as error:
        check_refusal(error)
        return []
    text = answer.serialize()
    assert Session.parse(text).serialize() == text
    assert [(one.kind, one.proto) for one in answer.media] == [(one.kind, one.proto) for one in session.media]
    assert [i for i, media in enumerate(answer.media) if media.port] == [one.index for one in agreed]
    assert len({one.kind for one in agreed}) == len(agreed) > 0
    for one in agreed:
        _check_agreed(one, policy)
        offered, media = session.media[one.index], answer.media[one.index]
        assert offered.port == one.port
        assert len(media.cryptos()) == (one.suite != b"")
        if one.suite:
            taken = next(crypto for crypto in offered.cryptos() if crypto.tag == media.cryptos()[0].tag)
            assert (taken.suite, taken.keys[0].key_salt) == (one.suite, one.remote_key)
            assert not [param for param in taken.params if param.upper().startswith((b"UN", b"FEC_"))]
        else:
            assert offered.proto == b"RTP/AVP"
            assert not media.attributes(b"crypto")
        if policy == REQUIRED:
            assert offered.proto == b"RTP/SAVP"
        assert set(media.formats) <= set(offered.formats)
        for number in (one.payload_type, one.event_type, one.red_type):
            assert number < 0 or b"%d" % number in media.formats
        for rtpmap in offered.attributes(b"rtpmap"):
            number, _, encoding = rtpmap.partition(b" ")
            if number == b"%d" % one.payload_type:
                name = _STATIC[int(number)] if one.kind == b"audio" else b"T140/1000"
                assert encoding.strip().upper() in (name, name + b"/1")
    # Who had made that offer would take the answer for the same.
    for one, other in zip(accept_answer(speaks, session, Session.parse(text), before), agreed, strict=True):
        assert [getattr(one, name) for name in _SAME] == [getattr(other, name) for name in _SAME]
        assert (one.local_key, one.remote_key) == (other.remote_key, other.local_key)
        assert (one.rtcp_port == one.port) == (other.rtcp_port == other.port)
    return agreed


def _check_as_answer(session: Session, policy: int) -> None:
    speaks = _speaks(policy)
    offer = make_offer(speaks, b"192.0.2.1", 1)
    try:
        agreed = accept_answer(speaks, offer, session)
    except ParseError as error:
        check_refusal(error)
        return
    assert [i for i, media in enumerate(offer.media) if media.port] == [one.index for one in agreed]
    for one in agreed:
        _check_agreed(one, policy)
        assert session.media[one.index].port == one.port
        assert session.media[one.index].kind == one.kind
        if not one.suite:
            assert not session.media[one.index].attributes(b"crypto")


def _check_agreed(one: Agreed, policy: int) -> None:
    """It is whole, and as safe as the policy says."""
    if policy == REQUIRED:
        assert one.suite
    if policy == OFF:
        assert not one.suite
    assert len(one.remote_key) == len(one.local_key) == (len(_KEYS[one.suite]) if one.suite else 0)
    assert one.local_key == (_KEYS[one.suite] if one.suite else b"")
    assert 0 < one.port < 1 << 16
    assert 0 <= one.rtcp_port < 1 << 16
    assert one.direction in DIRECTIONS
    if one.kind == b"audio":
        assert one.payload_type in _STATIC
        assert (one.red_type, one.generations, one.mixer) == (-1, 0, False)
    else:
        assert one.kind == b"text"
        assert 0 <= one.payload_type < 128
        assert one.event_type == -1
        assert (one.red_type >= 0) == (one.generations > 0)
        assert 1 <= one.cps < 10000
