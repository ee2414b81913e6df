"""The offerer's side of offer/answer (RFC 3264) for our media: write an offer, and read its answer.

    policy          we offer              and take as its answer
    REQUIRED        RTP/SAVP, keys        RTP/SAVP with one of these keys answered
    OPPORTUNISTIC   RTP/AVP, keys         the same; RTP/AVP with one of these answered; RTP/AVP without any key: RTP
    OFF             RTP/AVP               RTP/AVP without keys: RTP

A setup key is as good as REQUIRED, and so is it for a stream to have been SRTP. Whatever else comes is no answer, and
the call fails.
"""

from .agreed import Agreed
from .crypto import Crypto, size_of
from .errors import ParseError
from .sdp import DIRECTIONS, Media, Session
from .streams import (
    AUDIO,
    AVP,
    OFF,
    REQUIRED,
    SAVP,
    TEXT,
    Speaks,
    choose,
    describe,
    description,
    formats,
    place,
    protect,
    wish,
)

__all__ = ["accept_answer", "make_offer"]

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from .setup_keys import MediaKeys


def make_offer(
    speaks: Speaks,
    address: bytes,
    session_id: int,
    version: int = 1,
    before: "Sequence[Media]" = (),
    present: "Sequence[Agreed]" = (),
    is_held: bool = False,
    kid: bytes = b"",
    renews: bool = False,
) -> Session:
    """An offer of what we speak.

    Args:
        speaks: what we want now: a stream that it lacks ends, one that it has more is new.
        address: our numeric address.
        session_id: a number for o=, fresh for each session.
        version: of the description: one more for each that we make in a session (RFC 3264 section 8).
        before: the media sections of our description before, in a session that has one; nothing but their m= lines
            counts. Each keeps its place ("the number of "m=" lines ... MUST NOT" shrink, section 8).
        present: the streams that go on as they are, under their keys. Others are offered with fresh ones.
        is_held: whether we put the peer on hold: then we receive nothing (RFC 3264 section 8.4).
        kid: the name of the setup key that gives the keys, b"" for SDES.
        renews: whether the streams that go on get a fresh key each, of their suite: the one before is used up.
    """
    offer = description(address, session_id, version)
    offer.media = [Media(media.kind, 0, media.proto, media.formats) for media in before]
    for kind in (AUDIO, TEXT):
        port = speaks.port(kind)
        if not port:
            continue
        at = _place(kind, before, len(offer.media))
        one = Agreed(kind, at)
        wish(one, speaks)
        types: "Sequence[int]" = speaks.codecs if kind == AUDIO else [one.payload_type]
        is_going_on = False
        for stream in present:
            if stream.kind == kind:
                one = stream
                types = [stream.payload_type]
                is_going_on = stream.suite != b""
        proto = SAVP if speaks.policy == REQUIRED or kid else AVP
        if is_going_on and speaks.policy != REQUIRED and at < len(before):
            proto = before[at].proto
        if kid:
            cryptos = [Crypto.make(1, speaks.suites[0], b"", kid)]
        elif is_going_on:
            cryptos = [Crypto.make(1, one.suite, speaks.new_key(one.suite) if renews else one.local_key)]
        elif speaks.policy == OFF:
            cryptos = []
        else:
            cryptos = [Crypto.make(i + 1, name, speaks.new_key(name)) for i, name in enumerate(speaks.suites)]
        media = describe(one, port, proto, types, speaks.mux, cryptos, b"sendonly" if is_held else b"sendrecv")
        offer.media[at : at + 1] = [media]
    return offer


def _place(kind: bytes, before: "Sequence[Media]", free: int) -> int:
    """Which media section is for a stream: its own, or one of its kind that is refused so far, or a new one."""
    for i, media in enumerate(before):
        if media.kind == kind:
            if media.port:
                return i
            free = min(free, i)
    return free


def accept_answer(
    speaks: Speaks,
    offer: Session,
    answer: Session,
    before: "Sequence[Agreed]" = (),
    setup: "MediaKeys | None" = None,
) -> "list[Agreed]":
    """Check an answer against the offer of ours (made by `make_offer`) and take what was agreed.

    The crypto line has to carry a tag we offered with the suite we offered under it: peers exist that answer a line of
    their own (RFC 4568 section 5.1.2). A stream that is refused is so from then on in ``offer``, too.

    Args:
        speaks: as for the offer.
        offer: ours.
        answer: the peer's.
        before: what was agreed before, in a session that exists.
        setup: the keys, where a setup key gives them: then they come from nowhere else.

    Returns:
        One for each stream that is taken, in the order of their media lines.

    Raises:
        ParseError: the answer is no answer to the offer, or it refuses every stream; the call can't go on.
    """
    if len(answer.media) != len(offer.media):
        raise ParseError("answer")
    found: "list[Agreed]" = []
    why = b"media"
    for i, mine in enumerate(offer.media):
        media = answer.media[i]
        if not mine.port:
            continue
        if not found:
            why = mine.kind
        if media.kind != mine.kind:
            raise ParseError(mine.kind.decode(), 488, "no")
        if not media.port:
            mine.port = 0
            continue
        one = Agreed(mine.kind, i)
        is_srtp = speaks.policy == REQUIRED or setup or SAVP in (mine.proto, media.proto) or media.attributes(b"crypto")
        for stream in before:
            if stream.kind == one.kind and stream.suite:
                is_srtp = True
        # RFC 8643 answers with the profile of the offer; that of SRTP instead says no less.
        if media.proto != mine.proto and (media.proto != SAVP or not mine.attributes(b"crypto")):
            raise ParseError("SRTP", 488, "no")
        known = formats(mine)
        if not choose(one, media, [name for name in formats(media) if name in known], speaks):
            raise ParseError("codec", 488, "no")
        if is_srtp:
            _protect(one, speaks, mine, media, setup)
        if one.kind == TEXT:
            one.mixer = b"" in mine.attributes(b"rtt-mixer") and b"" in media.attributes(b"rtt-mixer")
        place(one, answer, media, DIRECTIONS.index(offer.direction(mine)), b"" in mine.attributes(b"rtcp-mux"))
        found.append(one)
    if not found:
        raise ParseError(why.decode(), 488, "no")
    return found


def _protect(one: Agreed, speaks: Speaks, mine: Media, media: Media, setup: "MediaKeys | None") -> None:
    """Take the keys of one stream, ours and those of its answer; raises where the answer has none to ours."""
    cryptos = media.cryptos()
    kid = setup.kid if setup else b""
    if len(cryptos) != 1 or not speaks.takes(cryptos[0]):
        raise ParseError("crypto")
    remote = cryptos[0]
    for local in mine.cryptos():
        if local.tag == remote.tag and local.suite == remote.suite:
            if not kid == local.keys[0].kid == remote.keys[0].kid:
                break
            # RFC 3711 section 9.1: "the keystreams must be different"; and our own packets, sent back, would be heard.
            if not setup and local.keys[0].key_salt == remote.keys[0].key_salt:
                break
            if setup:
                local.keys[0].key_salt, remote.keys[0].key_salt = setup.of(one.index, size_of(local.suite))
            protect(one, local.keys[0].key_salt, remote)
            return
    raise ParseError("crypto", 400, "unknown")
